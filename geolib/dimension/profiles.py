"""Intrinsic dimension of a model's hidden states: one forward pass, and one layer in memory at a time."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from geolib.checks import flag, integer, one_line
from geolib.dimension.architectures import check_model, find_blocks, find_mlps, not_finite, unfit
from geolib.dimension.estimators import check_estimators, check_seed, estimate_dimension
from geolib.dimension.lm import device_of, evaluating, hearing, prompts_of, read
from geolib.dimension.rules import several
from geolib.typing import Model


def dimension_profile(
    model: Model,
    prompts: Sequence,
    estimator: str | Sequence[str] = "TwoNN",
    *,
    site: str | Sequence[str] = "mlp",
    per_prompt: bool = False,
    n_points: int | None = None,
    n_neighbors: int | None = None,
    n_boot: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Estimate the intrinsic dimension of the inputs of a model's MLPs, at every layer.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model. It is not modified.
    prompts : sequence of array-like, shape=[tokens], int
        Token ids without padding, such as :func:`~geolib.dimension.encode_prompts` gives.
    estimator, n_neighbors, n_boot
        As for :func:`~geolib.dimension.estimate_dimension`.
    site : {"mlp", "residual"} or sequence of them
        The states to measure: the MLP's input, after the norm; or the layer's input, the residual stream. Both together
        take one forward pass too.
    per_prompt : bool
        Whether the tokens of each prompt are a cloud of their own (as in arXiv 2501.10573). By default the tokens of
        all prompts are one cloud.
    n_points : int, optional
        Number of tokens to draw from each cloud, the same ones in all layers. By default all tokens are taken.
    seed : int
        Seed of the draw and of the estimators.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    pandas.DataFrame
        One row per site, layer and estimator (and prompt: ``prompt``, its place from 0, or the index of a Series):
        ``site``; ``layer``, from 0; ``estimator``; ``value``, ``low``, ``high`` (NaN without half-samples); ``n_used``,
        ``n_duplicates``, ``n_outliers``; ``n_first``, the number of first tokens of prompts, which are set aside;
        ``first_norm``, their mean norm divided by the median norm of the tokens in the cloud.

    Raises
    ------
    TypeError, ValueError
        As :func:`~geolib.dimension.estimate_dimension` (the error names the layer); and if prompts are not token ids or
        have no tokens after the first, the model's MLPs are not found, or its states are not finite.

    Notes
    -----
    The first token of a prompt attends to itself only, and often has a norm of another order of magnitude. So it is not
    a sample of the cloud.

    Tokens that follow the same text have the same state, up to the rounding of a batch. So a token counts once for all
    prompts that begin with the same tokens. The others are added to ``n_duplicates`` in every layer, beside the rows
    that are equal in that layer only.

    Prompts run one by one. States are written to a temporary file in float32, 4 * layers * points * width bytes, and
    read layer by layer.

    Examples
    --------
    >>> from geolib.dimension import encode_prompts
    >>> from geolib.models import load
    >>> model, tokenizer = load()
    >>> prompts = encode_prompts(tokenizer, ["A cloud of tokens is a set of points. " * 4])
    >>> profile = dimension_profile(model, prompts, ["TwoNN", "MLE"])
    >>> len(profile) == 2 * 30, profile.n_first.unique().tolist()
    (True, [1])
    """
    names = [*check_estimators("dimension_profile", estimator, n_neighbors, n_boot)[0]]
    n_points = None if n_points is None else integer("dimension_profile: n_points", n_points, 2)
    seed, per_prompt = check_seed("dimension_profile", seed, names), flag("dimension_profile: per_prompt", per_prompt)
    entrances = _entrances(model, site)
    labels, ids = prompts_of("dimension_profile", prompts, model)
    clouds = [(label, [one]) for label, one in zip(labels, ids, strict=True)] if per_prompt else [(None, ids)]
    rows = []
    with tqdm(total=len(ids), desc="prompts", unit="", disable=not progress) as bar:
        for label, cloud in clouds:
            places, n_repeated = _draw(cloud, n_points, np.random.default_rng(seed))
            with tempfile.TemporaryDirectory() as folder:
                first = _spill(model, entrances, cloud, places, Path(folder), bar)
                for (where, layer), norms in first.items():
                    points = np.fromfile(Path(folder) / f"{where}-{layer}", np.float32)
                    points = points.reshape(sum(map(len, places)), -1)
                    row = ({} if label is None else {"prompt": label}) | {"site": where, "layer": layer}
                    first_norm = np.mean(norms) / np.median(np.linalg.norm(points, axis=1))
                    for name, one in _estimates(row, points, names, n_neighbors, n_boot, seed):
                        low, high = one.interval or (np.nan, np.nan)
                        found = {"estimator": name, "value": one.value, "low": low, "high": high}
                        found |= {"n_used": one.n_used, "n_duplicates": one.n_duplicates + n_repeated}
                        found |= {"n_outliers": one.n_outliers, "n_first": len(cloud), "first_norm": first_norm}
                        rows.append(row | found)
    return pd.DataFrame(rows)


def _estimates(row, points, names, n_neighbors, n_boot, seed):
    """Return pairs of a name and its estimate; errors name the layer and prompt."""
    try:
        return estimate_dimension(points, names, n_neighbors=n_neighbors, n_boot=n_boot, seed=seed).items()
    except ValueError as error:
        where = ", ".join(f"{kind} {which}" for kind, which in row.items() if kind != "site")
        reason = str(error).removeprefix("estimate_dimension: ")
        raise ValueError(f"dimension_profile: {where}: {reason}") from None


def _draw(cloud, n_points, rng):
    """Choose the tokens of each prompt that are points; count those left out as repeated beginnings.

    >>> [place.tolist() for place in _draw([(5, 6, 7), (5, 6, 8)], None, None)[0]]
    [[1, 2], [2]]
    """
    known, places = {}, []
    for ids in cloud:
        text, fresh = 0, []  # a number for each text that some prompt begins with
        for place, token in enumerate(ids):
            n_known = len(known)
            text = known.setdefault((text, token), n_known + 1)
            if place and len(known) > n_known:
                fresh.append(place)
        places.append(np.array(fresh, dtype=int))
    ends = np.cumsum([len(place) for place in places])
    n_repeated = sum(len(ids) - 1 for ids in cloud) - int(ends[-1])
    if not ends[-1]:
        raise ValueError("dimension_profile: prompts have no token after the first, but at least one was expected")
    if n_points is not None and n_points < ends[-1]:
        drawn = np.isin(np.arange(ends[-1]), rng.choice(ends[-1], n_points, replace=False))
        places = [place[chosen] for place, chosen in zip(places, np.split(drawn, ends[:-1]), strict=True)]
    return places, n_repeated


def _spill(model, entrances, cloud, places, folder, bar):
    """Run the prompts, and write the states at `places` to a file for each entrance.

    Returns the norms of the first tokens, by entrance.
    """
    first = {entrance: [] for entrance in entrances}
    running = 0  # the prompt

    def enter(entrance, given):
        states = given.reshape(-1, given.shape[-1]).float().cpu().numpy()
        if not np.isfinite(states).all():
            raise not_finite("dimension_profile", f"NaN or infinite states in layer {entrance[1]}")
        if len(states) == len(cloud[running]):
            first[entrance].append(np.linalg.norm(states[0]))
        files[entrance].write(states[places[running]].tobytes())

    with contextlib.ExitStack() as stack:
        files = {(site, n): stack.enter_context((folder / f"{site}-{n}").open("wb")) for site, n in entrances}
        stack.enter_context(hearing(entrances, enter))
        stack.enter_context(evaluating(model))
        for running, ids in enumerate(cloud):  # noqa: B007 -- the hooks read it
            read(model, input_ids=torch.tensor([ids], device=device_of(model)))
            bar.update()
    for (_, layer), norms in first.items():
        if len(norms) != len(cloud):
            raise unfit("dimension_profile", model, f", which enters layer {layer} in another way", "one pass a prompt")
    return first


def _entrances(model, sites):
    """Return the modules whose inputs are measured, by site and layer."""
    check_model("dimension_profile", model)
    if not several(sites) or not all(isinstance(one, str) and one in ("mlp", "residual") for one in several(sites)):
        raise ValueError(f"dimension_profile: site is {one_line(sites)}, but 'mlp', 'residual' or both was expected")
    blocks = find_blocks(model)
    found = {"residual": blocks, "mlp": find_mlps(blocks)}
    entrances = {(site, layer): module for site in several(sites) for layer, module in enumerate(found[site])}
    if not entrances or None in entrances.values():
        what = f"{len(blocks)} MLPs" if blocks else "layers"
        raise unfit("dimension_profile", model, f", whose {what} were not found", "a known architecture")
    return entrances
