"""Analysis of the rows of a sweep: change of ID against correctness, with intervals and controls.

Effects are given in percentage points where possible, before any p-value. Bootstrap samples draw questions, not rows,
because the answers to one question under several conditions are not independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from geolib.checks import integer, one_line
from geolib.dimension import rules
from geolib.estimates import Estimate
from geolib.reasoning import columns, resampling

# Columns that distinguish conditions, and columns with a value for every layer.
_LABELS = ("condition", "example_set", "temperature", "seed", "layers", "sharpness")
_FACTS = ("prompt_tokens", "numbers", "place")  # of a prompt or a question
_PER_LAYER = ("sink_share", "gates_changed")


def id_change(
    rows: pd.DataFrame, *, rule: str = "absolute", eps: float = 0.1, layer: int = -1, verdict: str = "correct"
) -> pd.DataFrame:
    """Change of a layer's ID from the same question's prompt without examples (arXiv 2407.02678, figure 6).

    Parameters
    ----------
    rows : pandas.DataFrame
        As :meth:`Sweep.run` or :func:`load_run` returns them. The change is the difference from the question's 0-shot
        row: no examples, nothing added to the question, greedy decoding, unmodified attention. Questions without a
        0-shot row are left out.
    rule : str
        A name in :data:`geolib.dimension.RULES`.
    eps : float
        Threshold of ID_eps.
    layer : int
        -1 is the last layer, -2 the second to last.
    verdict : {"correct", "frozen", "strict"}
        Which verdict of the judge is used.

    Returns
    -------
    pandas.DataFrame
        One row for each row that is not a 0-shot row: ``question``, ``shots``, ``change`` (in tokens, summed over
        heads), ``correct``. If they were recorded, also ``condition``, ``example_set``, ``temperature``, ``seed``,
        ``layers``, ``sharpness``; ``prompt_tokens`` and, at the same layer, ``sink_share``, with their changes
        (``prompt_tokens_change``, ``sink_share_change``); ``gates_changed`` at the same layer; ``numbers`` and
        ``place`` of :func:`add_facts`.

    Raises
    ------
    ValueError
        The ID or verdict was not recorded, no question has a 0-shot row, or a question has two 0-shot rows that differ.
    """
    (eps,) = rules.check_eps("id_change", [eps])
    column = rules.column(rule, eps)
    if column not in rows:
        recorded = ", ".join(name for name in rows if name.startswith("id_")) or "none"
        raise ValueError(f"id_change: rows have no column {column!r}, but {recorded} were recorded")
    columns.check("id_change", rows, verdict=verdict)
    layers = len(rows[column].iloc[0])
    layer = integer("id_change: layer", layer, -layers, layers - 1)
    more = {name: rows[name] for name in (*_LABELS, *_FACTS) if name in rows}
    whole = [name for name in _PER_LAYER if name in rows and len(rows[name].iloc[0]) == layers]
    more |= {name: _at(rows[name], layer) for name in whole}
    table = rows[["question", "shots"]].assign(change=_at(rows[column], layer), correct=rows[verdict], **more)
    is_bare = rows.shots == 0
    for name, plain in (("condition", "examples"), ("temperature", 0), ("sharpness", 1)):
        if name in rows:
            is_bare &= rows[name] == plain
    bare = table[is_bare].drop_duplicates(["question", "change"])
    twice = bare.question[bare.question.duplicated()]
    if len(twice):
        raise ValueError(f"id_change: question {twice.min()} has two 0-shot rows of different ID, but one was expected")
    bare, table = bare.set_index("question"), table[~is_bare].reset_index(drop=True)
    known = table.question.isin(bare.index)
    if len(table) and not known.any():
        raise ValueError("id_change: rows has no question with 0 shots, but at least one was expected")
    table = table[known].reset_index(drop=True)
    table["change"] -= table.question.map(bare.change)
    for name in {"prompt_tokens", "sink_share"} & set(table):
        table[f"{name}_change"] = table[name] - table.question.map(bare[name])
    return table


def _at(column: pd.Series, layer: int) -> np.ndarray:
    # As floats: published rows hold small integers, and their differences must not wrap around.
    return np.array([row[layer] for row in column], dtype=float)


def binned_share(table: pd.DataFrame, *, bins: int = 6, level: float = 0.95) -> pd.DataFrame:
    """Share of correct answers in bins of about equal size of the change of ID, with Wilson (1927) intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`id_change` returns it.
    bins : int
        Number of quantile bins; there are fewer if values repeat.
    level : float
        Confidence level. Rows are treated as independent here, as in the paper's figure; :func:`association` accounts
        for their dependence.

    Returns
    -------
    pandas.DataFrame
        One row for each bin: ``change`` (mean in the bin), ``n``, ``estimate`` (the share), ``low``, ``high``.
    """
    groups = table.groupby(pd.qcut(table.change, bins, duplicates="drop"), observed=True)
    found = groups.agg(change=("change", "mean"), n=("correct", "size"), hits=("correct", "sum"))
    low, high = proportion_confint(found.hits, found.n, alpha=1 - level, method="wilson")
    found = found.assign(estimate=found.hits / found.n, low=low, high=high)
    return found.drop(columns="hits").reset_index(drop=True)


def association(
    table: pd.DataFrame,
    *,
    x: str = "change",
    y: str = "correct",
    controls: Sequence[str] = (),
    within: str | Sequence[str] = "shots",
    unit: str = "question",
    n_boot: int = resampling.N_BOOT,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Spearman's rank correlation of change of ID and correctness at fixed shots, averaged over shots.

    Shots are held fixed because their number affects both variables. Each number of shots is weighted by its number of
    rows. The interval is a percentile bootstrap over *questions*: all rows of a question are drawn together.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`id_change` returns it, or with columns named below.
    x, y : str
        Columns that are correlated.
    controls : sequence of str
        Columns that are held fixed: the result is then the partial rank correlation, linear in ranks. Ranks are those
        of the whole table in every bootstrap sample.
    within : str or sequence of str
        Columns that define strata: ``("example_set", "shots")`` compares only rows that share both values; ``()``
        compares all rows.
    unit : str
        Column of the units that the bootstrap draws.
    n_boot : int
        Number of bootstrap samples.
    level : float
        Confidence level.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Estimate
        ``n`` is the number of units. NaN if x or y does not vary, or the controls determine one of them.

    Raises
    ------
    ValueError, TypeError
        The table is empty, lacks a column, or has missing values.
    """
    held = columns.controls("association", table, controls)
    xs, ys = columns.numbers("association", table, x=x, y=y)
    strata, units = columns.groups("association", table, within=within, unit=unit)
    if held:
        statistic = resampling.partial_rhos(xs, ys, held, strata, units)
    else:
        statistic = resampling.mean_rhos([xs], ys, strata, units)
    return resampling.bootstrap("association", statistic, units, n_boot, level, seed)[0]


def mean_change(
    table: pd.DataFrame,
    *,
    x: str = "change",
    unit: str = "question",
    n_boot: int = resampling.N_BOOT,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Mean change of ID, with a bootstrap over questions.

    Parameters
    ----------
    table, x, unit, n_boot, level, seed
        As for :func:`association`.

    Returns
    -------
    Estimate
        ``n`` is the number of units.

    Raises
    ------
    ValueError, TypeError
        As for :func:`association`.
    """
    (xs,) = columns.numbers("mean_change", table, x=x)
    (units,) = columns.groups("mean_change", table, unit=unit)
    return resampling.bootstrap("mean_change", resampling.mean_of(xs, units), units, n_boot, level, seed)[0]


def permutation_test(
    table: pd.DataFrame,
    *,
    x: str = "change",
    y: str = "correct",
    within: str | Sequence[str] = "shots",
    unit: str = "question",
    alternative: str = "two-sided",
    n_perm: int = resampling.N_PERM,
    seed: int = 0,
) -> float:
    """p-value of :func:`association` by permuting verdicts among questions; a question's verdicts stay together.

    The verdicts of a question under all numbers of shots move together to another question, which preserves their
    dependence. Only questions that were asked under the same conditions exchange verdicts.

    Parameters
    ----------
    table, x, y, within, unit
        As for :func:`association`.
    alternative : {"two-sided", "greater", "less"}
    n_perm : int
        Number of permutations; p is (r + 1) / (n_perm + 1) if r of them are at least as extreme (Davison and Hinkley
        1997).
    seed : int
        Seed of the permutations.

    Returns
    -------
    float
        NaN if x or y does not vary.

    Raises
    ------
    ValueError, TypeError
        As for :func:`association`, or ``alternative`` is something else.
    """
    xs, ys = columns.numbers("permutation_test", table, x=x, y=y)
    strata, units = columns.groups("permutation_test", table, within=within, unit=unit)
    return float(resampling.permute("permutation_test", [xs], ys, strata, units, alternative, n_perm, seed)[0])


def holm(p_values: ArrayLike) -> np.ndarray:
    """Correct p-values for multiple testing (Holm 1979).

    Parameters
    ----------
    p_values : array-like, shape=[tests]
        NaN where nothing was tested; these stay NaN and do not count as tests.

    Returns
    -------
    array, shape=[tests]

    Raises
    ------
    ValueError
        A number is outside [0, 1], or the shape is wrong.

    Examples
    --------
    >>> holm([0.01, 0.04, float("nan")])
    array([0.02, 0.04,  nan])
    """
    corrected = np.array(p_values, dtype=float)
    tested = ~np.isnan(corrected)
    if corrected.ndim != 1 or not ((corrected >= 0) & (corrected <= 1))[tested].all():
        raise ValueError(f"holm: p_values is {one_line(p_values)}, but a list of numbers from 0 to 1 was expected")
    if tested.any():
        corrected[tested] = multipletests(corrected[tested], method="holm")[1]
    return corrected


@dataclass(frozen=True)
class Paired:
    """Shares of correct answers under two conditions, and their difference.

    Attributes
    ----------
    first, second : float
        Per cent.
    difference : Estimate
        ``first`` minus ``second``, in percentage points.
    p : float
        Exact two-sided p-value of McNemar's test; NaN if a question has several answers under a condition.
    """

    first: float
    second: float
    difference: Estimate
    p: float


def paired_share(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    y: str = "correct",
    unit: str = "question",
    n_boot: int = resampling.N_BOOT,
    level: float = 0.95,
    seed: int = 0,
) -> Paired:
    """Compare the share of correct answers of the same questions under two conditions.

    For questions selected because they were answered wrong at 0 shots, a ``second`` condition that only rewords the
    prompt, or draws another answer, shows how many become correct by regression to the mean alone; the difference is
    what examples add to that.

    Parameters
    ----------
    first, second : pandas.DataFrame
        Rows under each condition. Several answers to a question (drawn at random, for instance) are averaged.
    y : str
        Column of booleans.
    unit, n_boot, level, seed
        As for :func:`association`.

    Returns
    -------
    Paired
        Over the questions that are in both tables; ``difference.n`` is their number.

    Raises
    ------
    ValueError, TypeError
        The tables share no question, a table is empty or lacks a column, or y is not a column of booleans.
    """
    shares, sizes = [], []
    for name, rows in (("first", first), ("second", second)):
        (answers,) = columns.numbers(f"paired_share: {name}", rows, y=y)
        columns.groups(f"paired_share: {name}", rows, unit=unit)
        columns.true_or_false(f"paired_share: {name}", y, answers)
        by_question = pd.Series(answers).groupby(rows[unit].to_numpy())
        shares.append(by_question.mean())
        sizes.append(by_question.size().max())
    one, other = shares
    shared = one.index.intersection(other.index)
    if len(shared) == 0:
        raise ValueError(f"paired_share: first and second share no {unit}, but at least one was expected")
    one, other = one[shared], other[shared]
    apart = 100 * (one - other).to_numpy()
    each = np.arange(len(apart))
    (difference,) = resampling.bootstrap("paired_share", resampling.mean_of(apart, each), each, n_boot, level, seed)
    both = pd.crosstab(one, other).reindex(index=[0, 1], columns=[0, 1], fill_value=0)
    p = mcnemar(both).pvalue if max(sizes) == 1 else np.nan
    return Paired(100 * float(one.mean()), 100 * float(other.mean()), difference, float(p))


def mean_over_prompts(
    table: pd.DataFrame,
    y: str,
    *,
    prompt: str = "example_set",
    n_boot: int = resampling.N_BOOT,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Mean of a column, with an interval that holds for other prompts too, and not only for other questions.

    The bootstrap draws prompts, and within each of them its rows: questions, each of which is asked behind one prompt.

    Parameters
    ----------
    table : pandas.DataFrame
    y, prompt : str
        Columns: what is averaged, and which prompt it comes from.
    n_boot, level, seed
        As for :func:`association`.

    Returns
    -------
    Estimate
        ``n`` is the number of rows.

    Raises
    ------
    ValueError, TypeError
        The table is empty, lacks a column, or has missing values.
    """
    (values,) = columns.numbers("mean_over_prompts", table, y=y)
    (prompts,) = columns.groups("mean_over_prompts", table, prompt=prompt)
    integer("mean_over_prompts: n_boot", n_boot, 1)
    resampling.check_level("mean_over_prompts", level)
    rng, sizes = np.random.default_rng(seed), np.bincount(prompts)
    values, starts = values[np.argsort(prompts, kind="stable")], np.cumsum(sizes) - sizes
    sums, counts = np.zeros((2, n_boot))
    for drawn in rng.integers(len(sizes), size=(len(sizes), n_boot)):
        places = starts[drawn] + rng.integers(sizes[drawn], size=(sizes.max(), n_boot))
        used = np.arange(sizes.max())[:, None] < sizes[drawn]
        sums += np.where(used, values[places], 0).sum(axis=0)
        counts += sizes[drawn]
    low, high = np.quantile(sums / counts, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def mean_rises(rows: pd.DataFrame, *, layer: int = -2, eps: float = 0.1, rule: str = "relative") -> np.ndarray:
    """Mean rise of ID that each candidate causes as the only example, computed from existing rows.

    Parameters
    ----------
    rows : pandas.DataFrame
        With 0 and 1 shots; each candidate is an example set.
    layer, eps, rule
        As for :func:`geolib.experiments.rises`.

    Returns
    -------
    array, shape=[candidates]
        In tokens, summed over heads; the mean over questions.
    """
    change = id_change(rows, layer=layer, eps=eps, rule=rule)
    return change[change.shots == 1].groupby("example_set").change.mean().to_numpy()
