"""The paper's claims C5 to C10 against published runs: every reading that a claim admits, and what its interval says.

One home for the verdicts, so that a chapter and the page of all claims cannot differ. A reading is a choice of rule,
layer, set of examples and of what is held fixed; all are listed, and none is picked by its result.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from geolib.dimension.rules import column
from geolib.estimates import Estimate, finding
from geolib.reasoning.analysis import association, id_change, mean_change, paired_share
from geolib.reasoning.published import (
    CONTROLS,
    GROUPS,
    add_facts,
    all_sets,
    as_planned,
    choice_of,
    load_run,
    results_folder,
    right_without_examples,
)
from geolib.reasoning.regressions import same_question
from geolib.reasoning.resampling import N_BOOT

RULES = ("absolute", "relative")  # by which the published runs were counted: readings do not grow with the table
LAST = {"second to last layer": -2, "last layer": -1}
FIRST = {"first layer": 0}
MILD = 1.25

# The smallest effects that matter, stated on 2026-11-28, after the data; the first is the plan's own.
SMALLEST = {
    "rank correlation": (0.10, "the plan's: a third of what the probe saw"),
    "points per sd": (
        2.0,
        "6 points between the lowest and the highest sixth (3 sd apart): a third of what the figure shows",
    ),
    "points": (3.0, "a third of the ten points by which four sets of five examples differ"),
    "edges": (1.0, "one entry of one head: the unit in which ID counts"),
}


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and how published runs are read for it.

    Attributes
    ----------
    name, text, reported : str
        "C7", in words, and where the paper says so.
    claimed : {1, 0, -1}
        The sign that is claimed.
    unit : str
        A key of :data:`SMALLEST`.
    readings : callable
        Of a function that loads a run: pairs of a reading's name and a function of ``n_boot`` and ``seed`` that
        returns its :class:`Estimate`.
    """

    name: str
    text: str
    reported: str
    claimed: int
    unit: str
    readings: Callable[[Callable], Iterator[tuple[str, Callable[..., Estimate]]]]


def findings(
    names: str | tuple[str, ...] = (), *, folder: str | os.PathLike | None = None, seed: int = 0
) -> pd.DataFrame:
    """Judge claims by the runs of a folder.

    Parameters
    ----------
    names : str or tuple of str
        Such as "C7"; by default all.
    folder : path, optional
        By default :func:`results_folder`.
    seed : int
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        A row per reading: ``claim``, ``line`` (its number in :data:`CLAIMS`), ``text``, ``reported``, ``reading``,
        ``estimate``, ``low``, ``high`` (95 %), ``n`` (questions), ``unit``, ``claimed`` (the sign), ``smallest``,
        ``verdict``. The verdict is that of :func:`geolib.reasoning.finding`, or "no estimate" where the runs give none
        (an ID that hardly moved, answers that do not vary). Where the folder lacks a run, one row whose verdict is
        "untested" and whose reading says what is missing.
    """
    wanted = (names,) if isinstance(names, str) else names
    if unknown := set(wanted) - {claim.name for claim in CLAIMS}:
        raise ValueError(f"findings: names has {min(unknown)!r}, but C5 to C10 were expected")
    load, rows = cache(lambda name: _load(name, folder)), []
    for line, claim in enumerate(CLAIMS, 1):
        if wanted and claim.name not in wanted:
            continue
        smallest, _ = SMALLEST[claim.unit]
        said = {"claim": claim.name, "line": line, "text": claim.text, "reported": claim.reported}
        units = {"unit": claim.unit, "claimed": claim.claimed, "smallest": smallest}
        found, missing = [], "the runs do not hold what this takes"
        try:
            for reading, estimate in claim.readings(load):
                found.append((reading, *_judged(estimate, claim.claimed, smallest, seed)))
        except FileNotFoundError as error:
            missing = str(error).partition(": ")[2].partition(" in ")[0]
        except (ValueError, LookupError) as error:  # a run that is there, and incomplete
            missing = f"{missing} ({error})"
        for reading, e, verdict in found or [(missing, Estimate(np.nan, np.nan, np.nan, 0), "untested")]:
            numbers = {"estimate": e.value, "low": e.low, "high": e.high, "n": e.n}
            rows.append(said | {"reading": reading} | numbers | units | {"verdict": verdict})
    return pd.DataFrame(rows)


def _judged(estimate, claimed, smallest, seed) -> tuple[Estimate, str]:
    """Return an estimate and its verdict, from five times the draws where an end is too close to call.

    The 2.5 % quantile of n normal draws of spread s has a standard error of 2.67 s / sqrt(n), and s is about a
    quarter of the interval. What lies within three of them of a threshold then is taken to lie on it.
    """
    for n_boot in (N_BOOT, 5 * N_BOOT):
        e = estimate(n_boot=n_boot, seed=seed)
        if np.isnan(e.value):
            return e, "no estimate"
        slack = np.nan_to_num(3 * 2.67 * (e.high - e.low) / 3.92 / np.sqrt(n_boot))
        verdict = finding(e, claimed, smallest)
        if verdict == finding(e, claimed, smallest, slack=slack) == finding(e, claimed, smallest, slack=-slack):
            return e, verdict
    return e, finding(e, claimed, smallest, slack=slack)


def written(e: Estimate, verdict: str, claimed: int, smallest: float, digits: int = 2) -> str:
    """Write an estimate with as many digits as its verdict needs, so that it follows from what is printed.

    >>> written(Estimate(0.05, 0.01, 0.098, 90), "absent", 1, 0.1)
    '+0.050 [+0.010, +0.098]'
    """
    enough = (n for n in range(digits, digits + 4) if finding(_rounded(e, n), claimed, smallest) == verdict)
    return f"{e:.{next(enough, digits)}f}".replace("nan", "unknown")


def _rounded(e, digits):
    return replace(e, low=round(e.low, digits), high=round(e.high, digits))


def said_of(
    estimates: Mapping[str, Estimate], claimed: int, smallest: float, measured: str, of: str, *, together: bool = False
) -> list[str]:
    """Say what estimates come to, and write them out: what a chapter hands to the page of all claims.

    >>> slopes = {"wide": Estimate(0.3, 0.1, 0.5, 9), "deep": Estimate(0.2, -0.1, 0.5, 9)}
    >>> print(*said_of(slopes, 1, 0.1, "slope", "toy networks"), sep=chr(10))
    agrees (wide); undecided (deep)
    slope +0.30 [+0.10, +0.50], +0.20 [-0.10, +0.50] (smallest effect 0.1); toy networks

    Parameters
    ----------
    estimates : mapping of str to Estimate
        By name.
    claimed, smallest
        As for :func:`geolib.reasoning.finding`.
    measured, of : str
        What the estimates are, before them, and what was measured, after them.
    together : bool
        Whether the names of one verdict stand together: "each" where there is only one verdict.

    Returns
    -------
    list of str
        The status, and the evidence.
    """
    said = [(finding(e, claimed, smallest), name) for name, e in estimates.items()]
    if together:
        words = dict.fromkeys(word for word, _ in said)
        named = {word: "; ".join(name for one, name in said if one == word) for word in words}
        said = [(word, names if len(words) > 1 else "each") for word, names in named.items()]
    evidence = ", ".join(written(e, finding(e, claimed, smallest), claimed, smallest) for e in estimates.values())
    status = "; ".join(f"{word} ({names})" for word, names in said)
    return [status, f"{measured} {evidence} (smallest effect {smallest:g}); {of}"]


def _load(name, folder):
    """Load a run with what is known of its questions, if that is known; "fresh" are rows of "sharper" that H2 asks.

    "as planned" are rows of "shots", by the plan's judge.
    """
    folder = Path(folder or results_folder())
    if name == "second model":
        return load_run("shots", folder / "gemma3-270m")[0]
    if name == "as planned":
        return as_planned("shots", folder)[0]
    rows, manifest = load_run({"all sets": "shots", "fresh": "sharper"}.get(name, name), folder)
    if name == "all sets":
        rows = all_sets(folder)
    if name == "fresh":
        rows = rows[rows["sharpness"].eq(1) & ~rows["question"].map(right_without_examples(folder))]
    with suppress(FileNotFoundError):
        rows = add_facts(rows, manifest, folder)
    return rows


def _points(first, second, **draws) -> Estimate:
    return paired_share(first, second, **draws).difference


def _where_moved(rise, sharp, flat, **draws) -> Estimate:
    """Points gained where attention raised the ID; NaN unless the ID's change excludes 0 and may be an edge."""
    edge, _ = SMALLEST["edges"]
    if finding(rise, 1, edge) == "agrees":
        return _points(sharp, flat, **draws)
    if finding(rise, -1, edge) == "agrees":
        return _points(flat, sharp, **draws)
    return Estimate(np.nan, np.nan, np.nan, rise.n)


# What is held fixed, beside the set and the number of examples.
SETS = ("example_set", "shots")
LENGTH = ("prompt_tokens",)
TEXT = (*LENGTH, "numbers", "place")
SINK = (*TEXT, "sink_share")


def _places(places):
    """Name, rule and layer, for every rule and every layer."""
    return [(f"{rule}, {place}", rule, layer) for rule in RULES for place, layer in places.items()]


def _held(places, what, run, load):
    """Rank correlations with what is named held fixed, for every rule and layer."""
    for name, rule, layer in _places(places):
        yield name, partial(association, id_change(load(run), rule=rule, layer=layer), controls=what, within=SETS)


def _same_question(places, run, load):
    for name, rule, layer in _places(places):
        table = id_change(load(run), rule=rule, layer=layer)
        yield name, partial(lambda exact, **_: exact, same_question(table, within=SETS))


def _of_gsm8k(load):
    for name, rule, layer in _places(LAST):
        table = id_change(load("chain"), rule=rule, layer=layer)
        for kind, steps in (("examples", "without steps"), ("worked", "with steps")):
            yield f"{name}, {steps}", partial(association, table[table["condition"] == kind])


def _over_layers(load):
    rows = load("shots")
    for rule in RULES:
        depth = len(rows[column(rule, 0.1)].iloc[0])
        tables = [id_change(rows, rule=rule, layer=layer) for layer in range(depth)]
        mean = np.mean([table["change"] for table in tables], axis=0)
        yield f"{rule}, mean of all layers", partial(mean_change, tables[0].assign(change=mean))


def _first_layer_rise(load):
    for rule in RULES:
        yield rule, partial(mean_change, id_change(load("shots"), rule=rule, layer=0))


def _fillings(load):
    few, other = load("shots"), load("ablations")
    few = few[few["shots"].isin({0, *other["shots"]})]
    return pd.concat([few, other[other["shots"] > 0]], ignore_index=True)


def _of_fillings(estimate, load, **held):
    for rule in RULES:
        table = id_change(_fillings(load), rule=rule, layer=0)
        for kind in CONTROLS:
            yield f"{rule}, {kind}", partial(estimate, table[table["condition"] == kind], **held)


def _more_raised(load):
    for name, rule, layer in _places(LAST):
        table = id_change(_fillings(load), rule=rule, layer=layer)
        wide = table.pivot(index=["question", "shots"], columns="condition", values="change")
        for kind in CONTROLS:
            change = (wide["examples"] - wide[kind]).dropna().reset_index(name="change")
            for k, cell in change.groupby("shots"):
                yield f"k = {k}, {name}, {kind}", partial(mean_change, cell)


def _more_right(load):
    rows = _fillings(load)
    for k in sorted(set(rows["shots"]) - {0}):
        for kind in CONTROLS:
            yield f"k = {k}, {kind}", partial(_points, _cell(rows, "examples", k), _cell(rows, kind, k))


def _gates(what, load):
    for place, layer in (FIRST | LAST).items():
        yield place, partial(association, id_change(load("shots"), layer=layer), x="gates_changed", controls=what)


def _scaled(load):
    rows = load("intervention")
    doses = rows[rows["shots"] > 0]
    for name, rule, layer in _places(LAST):
        for group in GROUPS:
            sharp, flat = (doses[doses["layers"].eq(group) & doses["sharpness"].eq(f)] for f in (MILD, 1 / MILD))
            rise = mean_change(_apart(sharp, flat, column(rule, 0.1), layer))
            yield f"{name}, {group}", partial(_where_moved, rise, sharp, flat)


def _apart(first, second, column, layer):
    """Difference of a layer's count between two conditions, by question."""
    one, other = (
        pd.Series([float(row[layer]) for row in rows[column]], index=rows["question"]) for rows in (first, second)
    )
    return (one - other).dropna().rename("change").rename_axis("question").reset_index()


def _cell(rows, condition, k):
    return rows[rows["condition"].eq(condition) & rows["shots"].eq(k)]


def _steps(load):
    rows = load("chain")
    return {k: (_cell(rows, "worked", k), _cell(rows, "examples", k)) for k in sorted(set(rows["shots"]) - {0})}


def _many(load):
    rows = pd.concat([load("many"), load("shots")], ignore_index=True)
    if not (counts := [k for k in sorted(set(rows["shots"])) if k > 10]):
        raise ValueError("no prompt has more than ten examples")
    return {k: (_cell(rows, "examples", k), _cell(rows, "examples", 10)) for k in counts}


def _more_id(pairs, load):
    for k, pair in pairs(load).items():
        for name, rule, layer in _places(LAST):
            yield f"k = {k}, {name}", partial(mean_change, _apart(*pair, column(rule, 0.1), layer))


def _more_answers(pairs, load):
    for k, pair in pairs(load).items():
        yield f"k = {k}", partial(_points, *pair)


def _chosen(load):
    """Choices against random sets; sets differ by luck, so a verdict must hold against the best, or worst, set too."""
    rows = load("choosing")
    rows = rows.assign(choice=rows["example_set"].map(choice_of))[rows["shots"] == 3]
    randoms = rows[rows["choice"].str.startswith("random")]
    shares = randoms.groupby("choice")["correct"].mean()
    for rule in RULES:
        own = rows[rows["choice"] == f"highest rise, {rule}"]
        for name, others in (
            ("three random sets", randoms),
            ("the best random set", randoms[randoms["choice"] == shares.idxmax()]),
            ("the worst random set", randoms[randoms["choice"] == shares.idxmin()]),
        ):
            yield f"{rule}, against {name}", partial(_points, own, others)


C7 = "a rise of final-layer ID goes with correct answers"
LENGTH_TOO, TEXT_TOO = "and question length held fixed", "and the numbers in the text and the answer's place"
FRESH, TEXT_ALONE = "fresh questions, their set of examples held fixed", "length, numbers and the answer's place too"
SAME, ALL_TOO = "within the same question", "length, numbers, the answer's place and the sink held fixed"
RHO, POINTS, PER_SD, EDGES = "rank correlation", "points", "points per sd", "edges"
SAYS_NOTHING = "that rise says nothing about correctness: all sets of examples, set and number held fixed"
PREREGISTERED = f"{C7}: one set of examples, their number held fixed (preregistered: absolute, second to last)"
SO_DOES_TEXT = "text without meaning, of equal length, raises it too"
CLAIMS = (
    Claim("C5", "a longer context raises ID", "figures 4, 5", 1, EDGES, _over_layers),
    Claim("C6", "examples raise first-layer ID", "figure 8", 1, EDGES, _first_layer_rise),
    Claim("C6", SAYS_NOTHING, "figure 8", 0, RHO, partial(_held, FIRST, (), "all sets")),
    Claim("C6", f"... {LENGTH_TOO}", "figure 8", 0, RHO, partial(_held, FIRST, LENGTH, "all sets")),
    Claim("C6", f"... {TEXT_TOO}", "figure 8", 0, RHO, partial(_held, FIRST, TEXT, "all sets")),
    Claim("C6", f"... {SAME}", "figure 8", 0, PER_SD, partial(_same_question, FIRST, "all sets")),
    Claim("C6", SO_DOES_TEXT, "figure 8", 1, EDGES, partial(_of_fillings, mean_change)),
    Claim("C6", "that rise says nothing either", "figure 8", 0, RHO, partial(_of_fillings, association)),
    Claim("C6", f"... {LENGTH_TOO}", "figure 8", 0, RHO, partial(_of_fillings, association, controls=LENGTH)),
    Claim("C7", PREREGISTERED, "figure 6", 1, RHO, partial(_held, LAST, (), "as planned")),
    Claim("C7", "... answered again, by the judge of round two", "figure 6", 1, RHO, partial(_held, LAST, (), "shots")),
    Claim("C7", "... over all sets of examples", "figure 6", 1, RHO, partial(_held, LAST, (), "all sets")),
    Claim("C7", f"... {LENGTH_TOO}", "not reported", 1, RHO, partial(_held, LAST, LENGTH, "all sets")),
    Claim("C7", f"... {TEXT_TOO}", "not reported", 1, RHO, partial(_held, LAST, TEXT, "all sets")),
    Claim("C7", "... and the sink's share", "not reported", 1, RHO, partial(_held, LAST, SINK, "all sets")),
    Claim("C7", f"... {SAME}", "not reported", 1, PER_SD, partial(_same_question, LAST, "all sets")),
    Claim("C7", f"... {SAME}, one set of examples", "not reported", 1, PER_SD, partial(_same_question, LAST, "shots")),
    Claim("C7", "examples of GSM8K, their number held fixed", "not tried", 1, RHO, _of_gsm8k),
    Claim("C7", "a second model, one set of examples", "figure 6", 1, RHO, partial(_held, LAST, (), "second model")),
    Claim("C7", FRESH, "figure 6", 1, RHO, partial(_held, LAST, (), "fresh")),
    Claim("C7", f"... {TEXT_ALONE}", "not reported", 1, RHO, partial(_held, LAST, TEXT, "fresh")),
    Claim("C7", "answers follow the final ID under scaled attention (1.25 to 0.8)", "not tried", 1, POINTS, _scaled),
    Claim("C7", "gates that change sign tell it too", "argued", 1, RHO, partial(_gates, ())),
    Claim("C7", f"... {ALL_TOO}", "argued", 1, RHO, partial(_gates, SINK)),
    Claim("C8", "examples raise final-layer ID more than text of equal length", "figure 7", 1, EDGES, _more_raised),
    Claim("C8", "examples answer more questions than text of equal length", "figure 7", 1, POINTS, _more_right),
    Claim("C9", "steps in the examples raise final-layer ID", "argued", 1, EDGES, partial(_more_id, _steps)),
    Claim("C9", "steps in the examples answer more questions", "argued", 1, POINTS, partial(_more_answers, _steps)),
    Claim("C9", "many examples raise final-layer ID beyond ten", "argued", 1, EDGES, partial(_more_id, _many)),
    Claim("C9", "many examples answer more questions than ten", "argued", 1, POINTS, partial(_more_answers, _many)),
    Claim("C10", "one set of examples, chosen by the ID it causes, answers more questions", "open", 1, POINTS, _chosen),
)  # fmt: skip
