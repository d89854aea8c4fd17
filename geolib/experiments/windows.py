"""The window experiment of book/plan-video.md: a video model trained with five windows, and whether error goes with ID.

`grid` trains and measures the models, whole seeds first; `by_window` and `by_clip` are the analysis fixed by the plan.
"""

import datetime
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from geolib.checks import expect, integer
from geolib.dimension import attention_dimension, attention_heads, token_dimension
from geolib.dimension.rules import column
from geolib.estimates import Estimate
from geolib.experiments.fresh import slope
from geolib.experiments.gate import corrected
from geolib.experiments.runs import commit, versions, write
from geolib.physics import GRAVITY, errors, worlds
from geolib.reasoning.resampling import mean_of, partial_rhos
from geolib.store import read_parquet, write_parquet
from geolib.video import SENTENCES, Settings, roll, save, settings_of, train

WINDOWS, SEEDS, N_STEPS, N_CLIPS = (2, 4, 8, 16, 24), (1, 2, 3, 4, 5, 6), 2000, 500
BANDS = {"in": (0.012, 0.022), "out": (0.028, 0.038)}  # speeds, as in training and beyond it
SHOWN, EPS, RULES, N_FREE = (4, 8), (0.1, 0.01), ("absolute", "relative"), 8
SMALLEST_SLOPE = float(np.log(1.1) / np.log2(24 / 2))  # a factor of 1.1 between the shortest and the longest window
SMALLEST_RHO = 0.1
PRIMARY = column("absolute", 0.1) + "_3"  # ID of the last layer


def grid(
    folder: str | Path, *, share: Sequence[int] = (1, 1), n: int = N_CLIPS, progress: bool = False, **settings: Any
) -> Iterator[str]:
    """Train and measure the models that the folder lacks, one after the other; once all are there, write the run.

    It can be stopped at any point: training goes on from its last checkpoint, and weights and rows are written whole.

    Parameters
    ----------
    folder : path
        Made if it is missing: NAME and NAME.parquet for each model, then video.parquet and video.json.
    share : two int
        Which of how many processes this is: each takes its share of the models. The process that finishes last writes
        the run.
    n : int
        Test clips of each law and band.
    progress : bool
    **settings
        Of :class:`geolib.video.Settings`, in place of those of the plan, for tests.

    Yields
    ------
    str
        The name of each model when it is done, and of the run.

    Raises
    ------
    ValueError
        A share is not as described, or a file of the folder is of other settings.
    """
    folder, (number, of) = Path(folder), (integer("grid: share", one, 1) for one in share)
    expect(number <= of, f"grid: share is {number} of {of}", "a number and how many there are, such as 1 2,")
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(seed, window) for seed in SEEDS for window in WINDOWS]
    models = {f"seed{s}-w{w}": Settings(**({"n_steps": N_STEPS} | settings | _of(s, w))) for s, w in pairs}
    for name in list(models)[number - 1 :: of]:
        if not (folder / f"{name}.parquet").exists():
            _one(folder / name, models[name], n, progress)
            yield name
    tables = [
        _read(folder / f"{name}.parquet", s, n) for name, s in models.items() if (folder / f"{name}.parquet").exists()
    ]
    if len(tables) == len(models):
        rows, manifest = _run(tables, n)
        write(rows, manifest, folder)
        yield "video"


def _of(seed, window):
    """All frames are no window, so that the words are seen too; in the rows it is 24."""
    return {"seed": seed, "window": None if window == max(WINDOWS) else window}


def _one(path, settings, n, progress):
    kept, start = path.with_name(f"{path.name}.training"), time.perf_counter()
    model, losses = train(settings, checkpoint=kept, progress=progress)
    if not path.exists():
        save(model, path)
    rows = measure(model, n=n).assign(seed=np.uint8(settings.seed), window=np.uint8(settings.window or max(WINDOWS)))
    rows.attrs = {
        "settings": json.dumps(asdict(settings)),
        "n": n,
        "loss": float(losses[-100:].mean()),
        "commit": commit(),
    }
    rows.attrs["seconds"] = round(time.perf_counter() - start, 1)  # since the last start
    write_parquet(rows, path.with_name(f"{path.name}.parquet"))
    kept.unlink()


def _read(path, settings, n):
    rows = read_parquet(path)
    same = (rows.attrs.get("settings"), rows.attrs.get("n")) == (json.dumps(asdict(settings)), n)
    expect(same, f"grid: {path} has rows of other settings", "rows of the same ones, or a new folder,")
    return rows


def _run(tables, n):
    kept = {key: [rows.attrs[key] for rows in tables] for key in ("loss", "seconds", "commit")}
    rows = pd.concat([rows.assign() for rows in tables], ignore_index=True)
    rows.attrs = {}
    common = json.loads(tables[0].attrs["settings"]) | {"seed": list(SEEDS), "window": list(WINDOWS), "n_clips": n}
    about = {"run": "video", "rows": len(rows), "settings": common, "losses": np.round(kept["loss"], 4).tolist()}
    about |= {"seconds": sum(kept["seconds"]), "commits": sorted({*map(str, kept["commit"])}), "commit": commit()}
    about |= {"command": "geolib video --grid FOLDER", "threads": torch.get_num_threads()}
    about |= {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "versions": versions()}
    return rows, about


# --- what is measured of a model


def measure(model: Any, *, n: int = N_CLIPS) -> pd.DataFrame:
    """Roll the test clips of all laws and bands, and count their attention edges.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        From :func:`geolib.video.train`.
    n : int
        Clips of each law and band; the first ones are the same for every n.

    Returns
    -------
    pandas.DataFrame
        A row for each clip: ``band``, ``law``, ``world``; ``log_error`` (of the mean position error over the frames
        after the four shown), ``log_error_neutral`` (with a sentence that names no law), ``log_error_8`` (eight frames
        shown); ``speed``, ``events`` (see :func:`facts`); ``id_<rule>_<eps>_<layer>`` at the last token of the fourth
        frame, ``id_sum`` (last layer, absolute, 0.1, summed over the frame's tokens), ``id_8`` (the same layer and rule
        at the last token of the eighth); ``free_<layer>``, the threshold-free dimension, or 0 where it is not measured.
    """
    settings, parts = settings_of(model), []
    for b, (band, speed) in enumerate(BANDS.items()):
        for k, law in enumerate(settings.laws):
            true = np.concatenate(
                [worlds(1, law=law, frames=settings.frames, speed=speed, seed=[1_000_000, b, k, i]) for i in range(n)]
            )
            own, neutral = SENTENCES[law]["trained"][0], SENTENCES[law]["neutral"][0]
            four, eight = (settings.encode(own, true[:, :shown]) for shown in SHOWN)
            columns = {"log_error": _log_error(model, own, true, 4, law)}
            columns["log_error_neutral"] = _log_error(model, neutral, true, 4, law)
            columns["log_error_8"] = _log_error(model, own, true, 8, law)
            columns |= facts(true, law=law) | {"id_8": _counts(model, eight)[column("absolute", 0.1)][:, -1, -1]}
            for name, counts in _counts(model, four).items():  # shape=[n, layers, tokens]
                columns |= {f"{name}_{i + 1}": counts[:, i, -1] for i in range(settings.n_layers)}
                if name == column("absolute", 0.1):
                    columns["id_sum"] = counts[:, -1, -2 * settings.balls :].sum(1)
            columns |= _free(model, four, N_FREE if band == "in" else 0)
            parts.append(pd.DataFrame(columns).assign(band=band, law=law, world=np.arange(n, dtype=np.uint16)))
    rows = pd.concat(parts, ignore_index=True)
    small = {
        name: np.float32 if name.startswith(("log", "speed")) else np.uint8 for name in rows if name not in _LABELS
    }
    return rows.astype(small).astype({"band": "category", "law": "category"})


_LABELS = ("band", "law", "world")


def _log_error(model, prompt, true, shown, law):
    predicted = roll(model, prompt, true[:, :shown], true.shape[1])
    return np.log(errors(predicted[:, shown:], true[:, shown:], law=law).position.mean(1)).round(3)


def _counts(model, ids):
    found = {rule: attention_dimension(model, ids, eps=EPS, rule=rule, tokens="all").per_layer for rule in RULES}
    return {column(rule, eps): found[rule][i] for rule in RULES for i, eps in enumerate(EPS)}


def _free(model, ids, n):
    free = np.zeros((model.config.num_hidden_layers, len(ids)))
    for layer in range(len(free)):
        for i in range(min(n, len(ids))):
            free[layer, i] = token_dimension(attention_heads(model, ids[i], layer=layer)).rank
    return {f"free_{layer + 1}": row for layer, row in enumerate(free)}


def facts(true: np.ndarray, *, law: str) -> dict[str, np.ndarray]:
    """Speed and number of events of clips, from the exact positions.

    Parameters
    ----------
    true : array, shape=[n, frames, balls, 2]
    law : str

    Returns
    -------
    dict
        ``speed``: the longest way from frame to frame among the first four, mean over balls. ``events``: how often a
        motion that is free (uniform but for gravity) is interrupted after the fourth frame, summed over balls and
        coordinates; events of one coordinate in frames next to each other are one.

    Examples
    --------
    >>> facts(worlds(3, law="drifts", seed=0), law="drifts")["events"].tolist()
    [0, 0, 0]
    """
    way = np.linalg.norm(np.diff(true[:, :4], axis=1), axis=-1).max(1).mean(1)
    fall = np.array([0, GRAVITY * (law == "falls")])
    bent = np.abs(np.diff(true[:, 3:], n=2, axis=1) + fall) > 1e-9  # in both frames around an event
    return {"speed": way, "events": bent.sum((1, 2, 3)) - (bent[:, :-1] & bent[:, 1:]).sum((1, 2, 3))}


# --- the analysis


def by_window(rows: pd.DataFrame, y: str = "log_error", *, n_boot: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Test question 3: the slope of the log error on the base-2 logarithm of the window, out of distribution and in it.

    Parameters
    ----------
    rows : pandas.DataFrame
        The run "video": the same clips at every window and seed.
    y : str
        Column of numbers.
    n_boot, seed : int
        Of the second interval.

    Returns
    -------
    pandas.DataFrame
        A row for each band: ``estimate``, ``low``, ``high`` (95 %, t over seeds), ``low_90``, ``high_90``; ``p``, by
        Holm over the two; ``low_worlds``, ``high_worlds``, where worlds are drawn as well; ``n`` seeds; ``slopes``, of
        each; and ``said``.
    """
    weights, found = slope(sorted(np.log2(rows.window.astype(float).unique()))), {}
    for band, part in rows.groupby("band", observed=True):
        x = np.log2(part.window.astype(float)).map(weights)
        table = part.assign(slope=x * part[y].astype(float)).groupby(["seed", "law", "world"], observed=True)["slope"]
        table = table.agg(["sum", "size"]).reset_index()
        lacking = f"by_window: rows have {table['size'].min()} windows of some clip"
        expect((table["size"] == len(weights)).all(), lacking, f"{len(weights)} of each")
        each = table.groupby(["seed", "law"], observed=True)["sum"].mean().groupby("seed").mean()
        test, narrow = stats.ttest_1samp(each, 0), stats.t.interval(0.9, len(each) - 1, each.mean(), stats.sem(each))
        low, high = test.confidence_interval(0.95)
        two = two_way(table, mean_of(table["sum"].to_numpy(), np.arange(len(table))), n_boot=n_boot, seed=seed)[0]
        found[band] = {"estimate": each.mean(), "low": low, "high": high, "low_90": narrow[0], "high_90": narrow[1]}
        found[band] |= {"p": test.pvalue, "low_worlds": two.low, "high_worlds": two.high, "n": len(each)}
        found[band]["slopes"] = each.to_numpy()
    table = pd.DataFrame(found.values(), index=pd.Index(found, name="band")).reset_index()
    table["p"] = [*corrected(dict(zip(table.band, table.p, strict=True)), len(table)).values()]
    table["said"] = [said_of_window(row) for row in table.to_dict("records")]
    return table


def said_of_window(row: Mapping[str, Any]) -> str:
    """Say of a row of :func:`by_window` what the plan fixed before the run.

    >>> said_of_window({"low": 0.03, "high": 0.08, "low_90": 0.04, "high_90": 0.07, "p": 0.001})
    'the error rises with the window, at a size that matters'
    """
    if row["p"] < 0.05 and row["low"] * row["high"] > 0:
        return f"the error {'rises' if row['low'] > 0 else 'falls'} with the window" + _size(row, SMALLEST_SLOPE)
    return "the window makes no difference that matters" if _small(row, SMALLEST_SLOPE) else "undecided"


def _small(row, least):
    """Equivalence by two one-sided tests at 5 %: the interval of 90 % is within the smallest size that matters."""
    return bool(max(-row["low_90"], row["high_90"]) < least)


def _size(row, least):
    if min(abs(row["low"]), abs(row["high"])) > least:
        return ", at a size that matters"
    return ", by less than what matters" if _small(row, least) else ""


def by_clip(
    rows: pd.DataFrame, x: str = PRIMARY, y: str = "log_error", *, controls: bool = True, **draws: Any
) -> dict[str, Any]:
    """Test question 2: Spearman's correlation of a clip's ID with its error, within models and laws.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of one window and one band.
    x, y : str
        Columns.
    controls : bool
        Whether the correlation is partial on ``speed`` and ``events``.
    **draws
        ``n_boot`` and ``seed``.

    Returns
    -------
    dict
        ``estimate``, ``low``, ``high`` (95 %), ``low_90``, ``high_90``, ``p``, ``n`` seeds, and ``said``.
    """
    rows = rows.reset_index(drop=True)
    strata = rows.groupby(["seed", "law"], observed=True).ngroup().to_numpy()
    held = [rows[name].to_numpy(float) for name in ("speed", "events")] if controls else []
    ids, off = (rows[name].to_numpy(float) for name in (x, y))
    wide, narrow, p = two_way(rows, partial_rhos(ids, off, held, strata, np.arange(len(rows))), **draws)
    row = {"estimate": wide.value, "low": wide.low, "high": wide.high, "low_90": narrow.low, "high_90": narrow.high}
    return row | {"p": p, "n": wide.n, "said": said_of_clips(row)}


def said_of_clips(row: Mapping[str, float]) -> str:
    """Say of an estimate of :func:`by_clip` what the plan fixed before the run.

    >>> said_of_clips({"low": -0.3, "high": -0.12, "low_90": -0.28, "high_90": -0.14})
    'clips with higher ID are continued better, at a size that matters'
    """
    if row["low"] * row["high"] > 0:
        said = f"clips with higher ID are continued {'worse' if row['low'] > 0 else 'better'}"
        return said + _size(row, SMALLEST_RHO)
    return "no association that matters" if _small(row, SMALLEST_RHO) else "undecided"


def two_way(
    rows: pd.DataFrame, statistic: Any, *, n_boot: int = 10_000, seed: int = 0
) -> tuple[Estimate, Estimate, float]:
    """Intervals of a statistic of row weights, from samples that draw seeds and, within laws, worlds.

    A bootstrap of six seeds is too narrow. So its standard error is multiplied by sqrt(n / (n - 1)), for n seeds, and
    the interval is that of a t distribution with n - 1 degrees of freedom.

    Parameters
    ----------
    rows : pandas.DataFrame
        With ``seed``, ``law`` and ``world``.
    statistic : callable
        Of weights, shape=[rows, samples], to shape=[1, samples].
    n_boot, seed : int

    Returns
    -------
    wide, narrow : Estimate
        With 95 % and 90 %.
    p : float
        Two-sided, against 0.
    """
    rng, (models, seeds) = np.random.default_rng(seed), pd.factorize(rows.seed)
    n, draws = len(seeds), []
    expect(n > 1, f"two_way: rows have {n} seed", "at least 2")
    codes = rows.groupby("law", observed=True).world.transform(lambda worlds: pd.factorize(worlds)[0]).to_numpy()
    laws = [np.flatnonzero(rows.law == law) for law in rows.law.unique()]
    for start in range(0, n_boot, 200):
        some = min(200, n_boot - start)
        weights = rng.multinomial(n, np.full(n, 1 / n), some).T[models].astype(float)
        for at in laws:
            size = codes[at].max() + 1
            weights[at] *= rng.multinomial(size, np.full(size, 1 / size), some).T[codes[at]]
        draws.append(statistic(weights)[0])
    value = float(statistic(np.ones((len(rows), 1)))[0, 0])
    error = float(np.std(np.concatenate(draws), ddof=1) * np.sqrt(n / (n - 1)))
    ends = [error * stats.t.ppf((1 + level) / 2, n - 1) for level in (0.95, 0.9)]
    wide, narrow = (Estimate(value, float(value - end), float(value + end), n) for end in ends)
    return wide, narrow, float(2 * stats.t.sf(abs(value) / error, n - 1))
