"""What the rows of a sweep say: change of ID against correctness, with intervals and controls.

Effects are given in percentage points where they can be, before any p-value. Intervals come from questions, not rows: a
question's answers under several conditions are not independent.
"""

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy.optimize import linprog
from scipy.special import expit
from scipy.stats import norm
from statsmodels.discrete.conditional_models import ConditionalLogit
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.tools.sm_exceptions import ConvergenceWarning

# What tells conditions apart, and what is measured at every layer.
_LABELS = ("condition", "example_set", "temperature", "seed", "layers", "sharpness")
_PER_LAYER = ("sink_share", "gates_changed")


def id_change(
    rows: pd.DataFrame, *, rule: str = "absolute", eps: float = 0.1, layer: int = -1, verdict: str = "correct"
) -> pd.DataFrame:
    """Change of a layer's ID against the same question's prompt without examples (arXiv 2407.02678, figure 6).

    Parameters
    ----------
    rows : pandas.DataFrame
        As :meth:`Sweep.run` or :func:`load_run` returns them. Every question needs its 0-shot row: no examples, nothing
        added to the question, greedy, attention as it is.
    rule : {"absolute", "relative"}
    eps : float
    layer : int
        -1 is the last layer, -2 the last but one.
    verdict : {"correct", "strict"}
        Which reading of the judge counts.

    Returns
    -------
    pandas.DataFrame
        ``question``, ``shots``, ``change``, ``correct``; one row per row that is not the 0-shot one. Of what else was
        recorded: ``condition``, ``example_set``, ``temperature``, ``seed``, ``layers``, ``sharpness``;
        ``prompt_tokens`` and, at the same layer, ``sink_share``, both with their changes (``prompt_tokens_change``,
        ``sink_share_change``); ``gates_changed`` at the same layer.

    Raises
    ------
    ValueError
        Such an ID or verdict was not recorded, or a question has no 0-shot row, or two that differ.
    """
    column = f"id_{rule}_{eps:g}"
    if column not in rows:
        raise ValueError(f"id_change: rows have no column {column!r}, but {_listed(rows)} were recorded")
    _there("id_change", rows, verdict=verdict)
    layers = len(rows[column].iloc[0])
    if not -layers <= layer < layers:
        raise ValueError(f"id_change: layer is {layer}, but the rows hold {layers} layers")
    table = rows[["question", "shots"]].assign(change=_at(rows[column], layer), correct=rows[verdict])
    for name in (*_LABELS, "prompt_tokens"):
        if name in rows:
            table[name] = rows[name]
    for name in _PER_LAYER:
        if name in rows and len(rows[name].iloc[0]) == layers:
            table[name] = _at(rows[name], layer)
    is_bare = rows.shots == 0
    for name, plain in (("condition", "examples"), ("temperature", 0), ("sharpness", 1)):
        if name in rows:
            is_bare &= rows[name] == plain
    bare = table[is_bare].drop_duplicates(["question", "change"])
    twice = bare.question[bare.question.duplicated()]
    if len(twice):
        raise ValueError(f"id_change: question {twice.min()} has two 0-shot rows of different ID, but one was expected")
    bare, table = bare.set_index("question"), table[~is_bare].reset_index(drop=True)
    missing = set(table.question) - set(bare.index)
    if missing:
        raise ValueError(f"id_change: question {min(missing)} has no row with 0 shots, but one was expected")
    table["change"] -= table.question.map(bare.change)
    for name in {"prompt_tokens", "sink_share"} & set(table):
        table[f"{name}_change"] = table[name] - table.question.map(bare[name])
    return table


def _at(column: pd.Series, layer: int) -> np.ndarray:
    # As floats: published rows hold small integers, and their differences must not wrap around.
    return np.array([row[layer] for row in column], dtype=float)


def binned_share(table: pd.DataFrame, *, bins: int = 6, level: float = 0.95) -> pd.DataFrame:
    """Share of correct answers in bins of like size of the change of ID, with Wilson (1927) intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`id_change` returns it.
    bins : int
        Number of quantile bins; fewer result where values repeat.
    level : float
        Confidence level. Rows count as independent here, as in the paper's figure; :func:`association` knows better.

    Returns
    -------
    pandas.DataFrame
        ``change`` (mean in the bin), ``n``, ``share``, ``low``, ``high``.
    """
    groups = table.groupby(pd.qcut(table.change, bins, duplicates="drop"), observed=True)
    return _shares(groups, level).reset_index(drop=True)


def _shares(groups, level) -> pd.DataFrame:
    found = groups.agg(change=("change", "mean"), n=("correct", "size"), hits=("correct", "sum"))
    low, high = proportion_confint(found.hits, found.n, alpha=1 - level, method="wilson")
    return found.assign(share=found.hits / found.n, low=low, high=high).drop(columns="hits")


@dataclass(frozen=True)
class Estimate:
    """A number, its interval, and how many rows are behind it; ``null`` is its value where nothing is there."""

    value: float
    low: float
    high: float
    n: int
    null: float = 0.0

    def __str__(self):
        sign = "" if self.null else "+"
        return f"{self.value:{sign}.2f} [{self.low:{sign}.2f}, {self.high:{sign}.2f}], n = {self.n}"

    def verdict(self, claimed: int) -> str:
        """Say what the interval says of a claimed sign.

        Parameters
        ----------
        claimed : {1, -1, 0}
            The claim: positive, negative, or nothing there.

        Returns
        -------
        str
            ``"agrees"`` where the whole interval lies on the claimed side, ``"disagrees"`` where it lies on the other
            (or, with nothing claimed, on either), else ``"undecided"``: no interval can show that nothing is there.

        >>> Estimate(0.3, 0.1, 0.5, 90).verdict(1), Estimate(0.3, -0.1, 0.5, 90).verdict(1)
        ('agrees', 'undecided')
        """
        sign = int(self.low > self.null) - int(self.high < self.null)
        if sign == 0:
            return "undecided"
        return "agrees" if sign == claimed else "disagrees"


def association(
    table: pd.DataFrame,
    *,
    x: str = "change",
    y: str = "correct",
    within: str | Sequence[str] = "shots",
    unit: str = "question",
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Spearman's rank correlation of change of ID and correctness at fixed shots, averaged over shots.

    At fixed shots, because the number of shots moves both. The average gives each number of shots the weight of its
    rows. The interval is a percentile bootstrap over *questions*: a question's rows are drawn together.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`id_change` returns it, or with columns named below.
    x, y : str
        Columns that are correlated.
    within : str or sequence of str
        What is held fixed: ``("example_set", "shots")`` compares only rows that share both; ``()`` holds nothing.
    unit : str
        Column of what is drawn anew in the bootstrap.
    n_boot : int
        Bootstrap samples.
    level : float
        Confidence level.
    seed : int

    Returns
    -------
    Estimate
        NaN where x or y does not vary.

    Raises
    ------
    ValueError, TypeError
        The table is empty, lacks a column, or has values missing.
    """
    xs, ys = _numbers("association", table, x=x, y=y)
    strata, units = _groups("association", table, within=within, unit=unit)
    return _bootstrap("association", lambda w: _mean_rhos([xs], ys, strata, w), units, n_boot, level, seed)[0]


def mean_change(
    table: pd.DataFrame,
    *,
    x: str = "change",
    unit: str = "question",
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Mean change of ID, with a bootstrap over questions; parameters as for :func:`association`."""
    (xs,) = _numbers("mean_change", table, x=x)
    (units,) = _groups("mean_change", table, unit=unit)
    return _bootstrap("mean_change", _mean_of(xs), units, n_boot, level, seed)[0]


def permutation_test(
    table: pd.DataFrame,
    *,
    x: str = "change",
    y: str = "correct",
    within: str | Sequence[str] = "shots",
    unit: str = "question",
    alternative: str = "two-sided",
    n_perm: int = 10_000,
    seed: int = 0,
) -> float:
    """p-value of :func:`association`: verdicts permuted among questions, each question's verdicts kept together.

    A question's verdicts under all numbers of shots move as one vector to another question, so that what makes them
    alike stays. Only questions that were asked under the same conditions exchange theirs.

    Parameters
    ----------
    table, x, y, within, unit
        As for :func:`association`.
    alternative : {"two-sided", "greater", "less"}
    n_perm : int
        Permutations; p is (r + 1) / (n_perm + 1), with r of them at least as extreme (Davison and Hinkley 1997).
    seed : int

    Returns
    -------
    float
        NaN where x or y does not vary.

    Raises
    ------
    ValueError, TypeError
        As for :func:`association`, or ``alternative`` is another one.
    """
    xs, ys = _numbers("permutation_test", table, x=x, y=y)
    strata, units = _groups("permutation_test", table, within=within, unit=unit)
    return float(_permute("permutation_test", [xs], ys, strata, units, alternative, n_perm, seed)[0])


def holm(p_values) -> np.ndarray:
    """p-values corrected for being several (Holm 1979); NaN, where nothing was tested, stays and does not count.

    >>> holm([0.01, 0.04, float("nan")])
    array([0.02, 0.04,  nan])
    """
    corrected = np.array(p_values, dtype=float)
    tested = ~np.isnan(corrected)
    if corrected.ndim != 1 or not ((corrected >= 0) & (corrected <= 1))[tested].all():
        raise ValueError("holm: p_values are not a list of numbers from 0 to 1")
    if tested.any():
        corrected[tested] = multipletests(corrected[tested], method="holm")[1]
    return corrected


@dataclass(frozen=True)
class Effect:
    """Effect of a rise by one standard deviation on a correct answer.

    Attributes
    ----------
    points : Estimate
        Percentage points of correct answers.
    odds_ratio : Estimate
        1 is no effect.
    p : float
        That the odds ratio is 1, two-sided.
    reason : str
        Why there is no estimate, where all of these are NaN.
    """

    points: Estimate
    odds_ratio: Estimate
    p: float
    reason: str = ""

    def __str__(self):
        if self.reason:
            return f"none: {self.reason}"
        return f"points {self.points}; odds ratio {self.odds_ratio}; p = {self.p:.2g}"


class _NoEstimateError(Exception):
    """Why there is no finite estimate."""


def _or_reason(fit):
    """Where there is no finite estimate, return NaN with the reason: neither an error nor a number from nowhere."""

    @functools.wraps(fit)
    def tried(*args, **kwargs) -> Effect:
        with np.errstate(over="raise", invalid="raise"), warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                return fit(*args, **kwargs)
            except _NoEstimateError as found:
                reason = str(found)
            except (FloatingPointError, ConvergenceWarning):
                reason = "the coefficients grow out of range"
        nothing = Estimate(np.nan, np.nan, np.nan, 0)
        return Effect(nothing, nothing, np.nan, reason)

    return tried


@_or_reason
def logistic(
    table: pd.DataFrame,
    *,
    x: str = "change",
    y: str = "correct",
    controls: Sequence[str] = ("prompt_tokens",),
    within: str | Sequence[str] = "shots",
    unit: str = "question",
    level: float = 0.95,
) -> Effect:
    """Logistic regression of correctness on the change of ID, with controls and errors clustered by question.

    One standard deviation is that among rows of the same shots. Numbers of shots at which all answers are right, or
    all wrong, say nothing and are left out. ``points`` is the average marginal effect.

    Parameters
    ----------
    table, x, unit, level
        As for :func:`association`.
    y : str
        Column of true and false.
    controls : sequence of str
        Columns that enter linearly, such as ``("prompt_tokens", "sink_share")``.
    within : str or sequence of str
        What has an intercept for every value.

    Returns
    -------
    Effect
        With NaN and a reason where there is no finite estimate: nothing varies, x is determined by the controls, or
        right and wrong answers can be told apart without an error (Albert and Anderson 1984).

    Raises
    ------
    ValueError, TypeError
        As for :func:`association`, or y is not true and false.
    """
    data = _regression("logistic", table, x, y, controls, within, unit, level)
    used = data[_informative(data, ["strata"])]
    design = _design(used, x)
    _estimable(used, design)
    # The pooled model with a sandwich: with covariates that change within a question, other working correlations than
    # independence need not be consistent (Pepe and Anderson 1994).
    fit = sm.Logit(used.y.to_numpy(), design).fit(disp=0, cov_type="cluster", cov_kwds={"groups": used.units})
    rise, alpha, n = fit.get_margeff(), 1 - level, len(used)
    points = 100 * np.array([rise.margeff[-1], *rise.conf_int(alpha)[-1]])
    ratio = np.exp([fit.params[-1], *fit.conf_int(alpha)[-1]])
    return Effect(Estimate(*points.tolist(), n), Estimate(*ratio.tolist(), n, null=1.0), float(fit.pvalues[-1]))


@_or_reason
def fixed_effects(
    table: pd.DataFrame,
    *,
    x: str = "change",
    y: str = "correct",
    controls: Sequence[str] = (),
    within: str | Sequence[str] = "shots",
    unit: str = "question",
    level: float = 0.95,
) -> Effect:
    """Whether the *same* question is answered right more often where its ID rose more; what it is like drops out.

    The odds ratio is that of the conditional logit (Chamberlain 1980), from questions answered both right and wrong;
    ``points`` is that of the linear probability model with a mean for every question, from all of them. Both with an
    intercept for every number of shots and errors clustered by question. Takes a second for 3,000 rows, 15 for 12,000.

    Parameters
    ----------
    table, x, y, controls, within, unit, level
        As for :func:`logistic`. At fixed shots and examples, the length of the prompt is fixed with the question.

    Returns
    -------
    Effect
        With NaN and a reason, as for :func:`logistic`.

    Raises
    ------
    ValueError, TypeError
        As for :func:`logistic`.
    """
    data = _regression("fixed_effects", table, x, y, controls, within, unit, level)
    used = data[_informative(data, ["strata", "units"])]
    design = _design(used, x, by_unit=True)
    _estimable(used, design, by_unit=True)
    centred = (data.y - data.y.groupby(data.units).transform("mean")).to_numpy()
    linear = sm.OLS(centred, _design(data, x, by_unit=True)).fit(cov_type="cluster", cov_kwds={"groups": data.units})
    points = 100 * np.array([linear.params[-1], *linear.conf_int(1 - level)[-1]])
    model = ConditionalLogit(used.y.to_numpy(), design, groups=used.units.to_numpy())
    fit = model.fit(disp=0, maxiter=500)
    # Its own errors take a question's answers for independent; the sandwich does not.
    groups = used.units.nunique()
    scores = np.array([model.score_grp(group, fit.params) for group in range(groups)])
    spread = scores @ fit.cov_params()[-1]
    error = np.sqrt(spread @ spread * groups / (groups - 1))
    ratio = np.exp(fit.params[-1] + error * norm.ppf([0.5, (1 - level) / 2, (1 + level) / 2]))
    p = float(2 * norm.sf(abs(fit.params[-1]) / error))
    return Effect(Estimate(*points.tolist(), len(data)), Estimate(*ratio.tolist(), len(used), null=1.0), p)


def layer_profile(
    rows: pd.DataFrame,
    *,
    rule: str = "absolute",
    eps: float = 0.1,
    verdict: str = "correct",
    x: str = "change",
    controls: Sequence[str] = ("prompt_tokens",),
    within: str | Sequence[str] = "shots",
    n_boot: int = 2000,
    n_perm: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """:func:`association` and :func:`logistic` at every layer, p-values corrected over the layers (figure 8).

    Parameters
    ----------
    rows, rule, eps, verdict
        As for :func:`id_change`.
    x : str
        ``"change"``, or another column of :func:`id_change` that differs from layer to layer.
    controls, within, n_boot, n_perm, level, seed
        As for :func:`association`, :func:`permutation_test` (two-sided) and :func:`logistic`.

    Returns
    -------
    pandas.DataFrame
        A row per layer: ``layer`` (from 0), ``n``; ``rho``, ``low``, ``high``, ``p``, ``p_holm``, ``survives`` (the
        corrected p is below 1 - level); ``points``, ``points_low``, ``points_high``, ``odds_ratio``, ``logistic_p``,
        ``logistic_p_holm``.

    Raises
    ------
    ValueError, TypeError
        As for :func:`id_change` and :func:`logistic`.
    """
    settings = {"rule": rule, "eps": eps, "verdict": verdict}
    first = id_change(rows, layer=0, **settings)  # says what is wrong with the rows, if anything is
    layers = range(len(rows[f"id_{rule}_{eps:g}"].iloc[0]))
    tables = [first, *(id_change(rows, layer=layer, **settings) for layer in layers[1:])]
    xs = [_numbers("layer_profile", table, x=x)[0] for table in tables]
    (ys,) = _numbers("layer_profile", first, y="correct")
    strata, units = _groups("layer_profile", first, within=within, unit="question")
    estimates = _bootstrap("layer_profile", lambda w: _mean_rhos(xs, ys, strata, w), units, n_boot, level, seed)
    found = pd.DataFrame(estimates).drop(columns="null")
    found = found.rename(columns={"value": "rho"}).rename_axis("layer").reset_index()
    found["p"] = _permute("layer_profile", xs, ys, strata, units, "two-sided", n_perm, seed)
    effects = [logistic(table, x=x, controls=controls, within=within, level=level) for table in tables]
    for column, end in (("points", "value"), ("points_low", "low"), ("points_high", "high")):
        found[column] = [getattr(effect.points, end) for effect in effects]
    found["odds_ratio"] = [effect.odds_ratio.value for effect in effects]
    found["logistic_p"] = [effect.p for effect in effects]
    found["p_holm"], found["logistic_p_holm"] = holm(found.p), holm(found.logistic_p)
    found["survives"] = found.p_holm < 1 - level
    return found


@dataclass(frozen=True)
class Mediation:
    """What :func:`mediation` finds: effects in percentage points, and the share of the total that is indirect."""

    total: Estimate
    direct: Estimate
    indirect: Estimate
    share: Estimate


def mediation(
    table: pd.DataFrame,
    *,
    exposure: str = "shots",
    contrast: tuple[float, float] | None = None,
    mediator: str = "change",
    y: str = "correct",
    controls: Sequence[str] = (),
    unit: str = "question",
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Mediation:
    """How much of what shots do to correctness passes through the ID, if the assumptions below hold.

    Natural effects (Pearl 2001) by g-computation: a linear model of the mediator, a logistic one of the answer with
    exposure, mediator and their product, averaged over the rows with each row's own residual. Indirect: the exposure
    stays at the contrast's second value, the mediator moves as it would. Direct: the exposure moves, the mediator stays
    as at the first. They add up to the total.

    **Assumptions.** (1) Both models hold. (2) Nothing but ``controls``, all fixed before the exposure, moves two of
    exposure, mediator and answer. Shots are assigned, so this is about mediator and answer: a hard question may have
    another ID *and* a wrong answer. (3) Nothing that the exposure moves acts on both mediator and answer. The length
    of the prompt does just that, and so may the sink: with shots as the exposure, (3) is false by construction, and as
    a control, length would be one that follows the exposure. An exposure of constant length (examples against random
    tokens, at equal shots) is free of that one. So the number describes; the intervention on attention tests.

    The 0-shot prompts of questions selected for being wrong there have no share of correct answers to speak of, and
    are not among the rows: contrast few shots with many.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`id_change` returns it.
    exposure, mediator : str
        Columns of numbers.
    contrast : tuple of float, optional
        From which exposure to which; by default from the least to the greatest.
    y : str
        Column of true and false.
    controls : sequence of str
        Columns that enter both models linearly.
    unit, n_boot, level, seed
        As for :func:`association`.

    Returns
    -------
    Mediation
        ``share`` is NaN where the interval of the total effect holds 0: a share of nothing means nothing. All are NaN
        where the logistic model has no finite estimate; such bootstrap samples are left out of the intervals.

    Raises
    ------
    ValueError, TypeError
        As for :func:`logistic`, or the exposure does not vary.
    """
    a, m, answers = _numbers("mediation", table, exposure=exposure, mediator=mediator, y=y)
    _true_or_false("mediation", y, answers)
    given = [_standard(c) for column in controls for c in _numbers("mediation", table, controls=column)]
    (units,) = _groups("mediation", table, unit=unit)
    low, high = contrast or (a.min(), a.max())
    if a.min() == a.max() or low == high:
        raise ValueError(f"mediation: exposure is {exposure!r} from {low:g} to {high:g}, but two values were expected")
    a = (a - (low + high) / 2) / (high - low)  # now from -0.5 to 0.5
    m, ones = _standard(m), np.ones(len(a))

    def effects(weights):
        slope = _least_squares(np.column_stack([ones, a, *given]), m, weights)[1]
        model = _logits(np.column_stack([ones, a, m, a * m, *given]), answers, weights)

        def share(own, through):
            moved = m[:, None] + slope * (through - a[:, None])
            others = sum(c[:, None] * b for c, b in zip(given, model[4:], strict=True))
            chance = expit(model[0] + model[1] * own + (model[2] + model[3] * own) * moved + others)
            return 100 * np.average(chance, axis=0, weights=weights)

        start, between, end = share(-0.5, -0.5), share(0.5, -0.5), share(0.5, 0.5)
        part = np.divide(end - between, end - start, out=np.full_like(end, np.nan), where=end != start)
        return np.stack([end - start, between - start, end - between, part])

    total, direct, indirect, part = _bootstrap("mediation", effects, units, n_boot, level, seed)
    if total.verdict(0) == "undecided":
        part = Estimate(np.nan, np.nan, np.nan, part.n)
    return Mediation(total, direct, indirect, part)


@dataclass(frozen=True)
class Paired:
    """Share of correct answers under two conditions, in per cent, and their difference (first minus second).

    ``p`` is McNemar's exact one, two-sided; NaN where a question has several answers under a condition.
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
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Paired:
    """Compare the share of correct answers of the same questions under two conditions.

    With questions that were wrong at 0 shots, a ``second`` that only rewords the prompt, or draws another answer, shows
    what turns right by selection alone (regression to the mean); the difference is what examples add to it.

    Parameters
    ----------
    first, second : pandas.DataFrame
        Rows under either condition. Several answers to a question (drawn at random, say) are averaged.
    y : str
        Column of true and false.
    unit, n_boot, level, seed
        As for :func:`association`; the questions are counted as n.

    Returns
    -------
    Paired

    Raises
    ------
    ValueError, TypeError
        The questions differ, a table is empty or lacks a column, or y is not true and false.
    """
    shares, sizes = [], []
    for name, rows in (("first", first), ("second", second)):
        (answers,) = _numbers(f"paired_share: {name}", rows, y=y)
        _groups(f"paired_share: {name}", rows, unit=unit)
        _true_or_false(f"paired_share: {name}", y, answers)
        by_question = pd.Series(answers).groupby(rows[unit].to_numpy())
        shares.append(by_question.mean())
        sizes.append(by_question.size().max())
    one, other = shares
    alone = one.index.symmetric_difference(other.index)
    if len(alone):
        raise ValueError(f"paired_share: question {alone[0]} and {len(alone) - 1} more are in one table only")
    apart = 100 * (one - other).to_numpy()
    (difference,) = _bootstrap("paired_share", _mean_of(apart), np.arange(len(apart)), n_boot, level, seed)
    both = pd.crosstab(one, other).reindex(index=[0, 1], columns=[0, 1], fill_value=0)
    p = mcnemar(both).pvalue if max(sizes) == 1 else np.nan
    return Paired(100 * float(one.mean()), 100 * float(other.mean()), difference, float(p))


def dose_response(
    table: pd.DataFrame,
    *,
    by: str | Sequence[str] = ("layers", "sharpness"),
    unit: str = "question",
    level: float = 0.95,
) -> pd.DataFrame:
    """Share of correct answers against the ID that was imposed, prompts held fixed, with Wilson (1927) intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`id_change` returns it.
    by : str or sequence of str
        Columns that make a dose; at each, a question has one row.
    unit : str
    level : float
        Confidence level.

    Returns
    -------
    pandas.DataFrame
        A row per dose: the columns of ``by``, ``change`` (mean), ``n``, ``share``, ``low``, ``high``.

    Raises
    ------
    ValueError, TypeError
        A column is missing, ``correct`` is not true and false, or a question has two rows at a dose.
    """
    _, answers = _numbers("dose_response", table, x="change", y="correct")
    _true_or_false("dose_response", "correct", answers)
    _groups("dose_response", table, by=by, unit=unit)
    columns = [by] if isinstance(by, str) else list(by)
    if table.duplicated([*columns, unit]).any():
        raise ValueError(f"dose_response: by is {by!r}, but some {unit} has two rows at one dose; name what differs")
    return _shares(table.groupby(columns, observed=True), level).reset_index()


# Bootstrap and permutation. A sample of questions is a column of weights: how often each row was drawn. So all samples
# go through NumPy together, and ranks need no sorting anew.


def _mean_rhos(xs, y, strata, weights) -> np.ndarray:
    """Spearman's rho of y with every x within each stratum, averaged with the rows as weights.

    Shape=[xs, samples], from weights, shape=[rows, samples]; NaN where nothing varies.
    """
    total, size = np.zeros((2, len(xs), weights.shape[1]))
    for stratum in range(strata.max() + 1):
        rows = np.flatnonzero(strata == stratum)
        w = weights[rows]
        ranks_of_y = _ranks(y[rows], w)
        weighted = w * ranks_of_y
        spread = np.einsum("ij,ij->j", weighted, ranks_of_y)
        for i, x in enumerate(xs):
            ranks = _ranks(x[rows], w)
            scale = np.sqrt(spread * np.einsum("ij,ij,ij->j", w, ranks, ranks))
            varies = scale > 0
            n = np.where(varies, w.sum(axis=0), 0)
            total[i] += n * np.einsum("ij,ij->j", weighted, ranks) / np.where(varies, scale, 1)
            size[i] += n
    return np.divide(total, size, out=np.full_like(total, np.nan), where=size > 0)


def _mean_of(values) -> Callable:
    return lambda weights: (values @ weights / weights.sum(axis=0))[None]


def _ranks(values, weights) -> np.ndarray:
    """Ranks less their mean, ties sharing theirs, when each value is there as often as its weight says."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)
    tied = np.add.reduceat(weights[order], starts, axis=0)
    ranks = np.cumsum(tied, axis=0) - tied / 2 - tied.sum(axis=0) / 2
    place = np.empty(len(values), dtype=int)
    place[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(values)))
    return ranks[place]


def _bootstrap(caller, statistic: Callable, units, n_boot, level, seed) -> list[Estimate]:
    """Estimates of a statistic that maps weights, shape=[rows, samples], to shape=[numbers, samples]."""
    _count(caller, "n_boot", n_boot)
    _level(caller, level)
    value = statistic(np.ones((len(units), 1)))[:, 0]
    draws = np.concatenate([statistic(weights) for weights in _samples(units, n_boot, seed)], axis=1)
    tails = [(1 - level) / 2, (1 + level) / 2]
    known = np.isfinite(value) & np.isfinite(draws).any(axis=1)
    ends = [np.nanquantile(row, tails) if k else (np.nan, np.nan) for k, row in zip(known, draws, strict=True)]
    return [Estimate(float(v), float(a), float(b), len(units)) for v, (a, b) in zip(value, ends, strict=True)]


def _samples(units, n_boot, seed) -> Iterator[np.ndarray]:
    """Weights of the rows in samples of units with replacement, shape=[rows, samples], some samples at a time."""
    rng, n = np.random.default_rng(seed), units.max() + 1
    size = max(1, 2**20 // len(units))
    for start in range(0, n_boot, size):
        some = min(size, n_boot - start)
        drawn = rng.integers(n, size=(some, n)) + n * np.arange(some)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=some * n).reshape(some, n)
        yield np.ascontiguousarray(counts.T, dtype=float)[units]


def _permute(caller, xs, y, strata, units, alternative, n_perm, seed) -> np.ndarray:
    """p-value of every x, shape=[xs]."""
    if alternative not in ("two-sided", "greater", "less"):
        raise ValueError(f"{caller}: alternative is {alternative!r}, but two-sided, greater or less was expected")
    _count(caller, "n_perm", n_perm)
    # Moving verdicts within a stratum leaves ranks and their spread alone: the statistic is a product of two vectors.
    left, x_varies = _unit_ranks(xs, strata)
    (right,), y_varies = _unit_ranks([y], strata)
    used = (x_varies & y_varies).sum(axis=1, keepdims=True)
    left = left * np.bincount(strata)[strata] / np.where(used > 0, used, np.nan)
    order = np.lexsort((strata, units))
    alike = {}  # units with the same strata
    for rows in np.split(order, np.flatnonzero(np.diff(units[order])) + 1):
        alike.setdefault(tuple(strata[rows]), []).append(rows)
    rng = np.random.default_rng(seed)
    found, drawn = 0, np.zeros((len(left), n_perm))
    for group in map(np.array, alike.values()):  # shape=[units, strata]
        what, verdicts = left[:, group.ravel()], right[group]
        found = found + what @ verdicts.ravel()
        size = max(1, 2**20 // group.size)
        for start in range(0, n_perm, size):
            shuffled = rng.permuted(np.tile(np.arange(len(group)), (min(size, n_perm - start), 1)), axis=1)
            drawn[:, start : start + size] += what @ verdicts[shuffled].reshape(len(shuffled), -1).T
    side = {"two-sided": np.abs, "greater": np.positive, "less": np.negative}[alternative]
    extreme = side(drawn) >= side(found)[:, None] - 1e-9  # equal sums may differ in their last digits
    return np.where(np.isnan(found), np.nan, (extreme.sum(axis=1) + 1) / (n_perm + 1))


def _unit_ranks(columns, strata) -> tuple[np.ndarray, np.ndarray]:
    """Ranks within each stratum, centred and of norm 1 there, and where they vary; both shape=[columns, rows]."""
    ranks = pd.DataFrame(np.transpose(columns)).groupby(strata).rank()
    ranks -= ranks.groupby(strata).transform("mean")
    norms = np.sqrt((ranks**2).groupby(strata).transform("sum"))
    return (ranks / norms.where(norms > 0, 1)).to_numpy().T, (norms > 0).to_numpy().T


# Regressions


def _regression(caller, table, x, y, controls, within, unit, level) -> pd.DataFrame:
    """Columns x, y, strata, units, and a number for each control."""
    _level(caller, level)
    if isinstance(controls, str):
        raise TypeError(f"{caller}: controls is {controls!r}, but a sequence of columns was expected")
    xs, ys = _numbers(caller, table, x=x, y=y)
    _true_or_false(caller, y, ys)
    strata, units = _groups(caller, table, within=within, unit=unit)
    given = {i: _standard(*_numbers(caller, table, controls=column)) for i, column in enumerate(controls)}
    return pd.DataFrame({"x": xs, "y": ys, "strata": strata, "units": units} | given)


def _informative(data, columns) -> pd.Series:
    """Rows whose stratum (and unit) holds right and wrong answers, once those of no use are left out."""
    kept = pd.Series(True, index=data.index)
    while True:
        before = kept.sum()
        for column in columns:
            kept &= data.y.where(kept).groupby(data[column]).transform("nunique") == 2
        if kept.sum() == before:
            break
    if not kept.any():
        raise _NoEstimateError("the answers do not vary")
    return kept


def _design(data, x, by_unit=False) -> np.ndarray:
    """Columns that span strata and controls, then x in standard deviations; all less the unit's mean, if so asked."""
    within = data.x - data.x.groupby(data.strata).transform("mean")
    if within.std(ddof=0) <= 1e-9 * data.x.abs().max():
        raise _NoEstimateError(f"{x} does not vary")
    dummies, controls = pd.get_dummies(data.strata, dtype=float), data.drop(columns=["x", "y", "strata", "units"])
    columns = pd.concat([dummies, controls, within / within.std(ddof=0)], axis=1, ignore_index=True)
    if by_unit:
        columns = columns - columns.groupby(data.units).transform("mean")
    columns = columns.to_numpy()
    # An orthonormal basis takes the same room, whatever the controls have in common.
    basis, sizes, _ = np.linalg.svd(columns[:, :-1], full_matrices=False)
    basis = basis[:, sizes > 1e-9 * np.sqrt(len(data))]
    rest = columns[:, -1] - basis @ (basis.T @ columns[:, -1])
    if rest.std() <= 1e-9:
        raise _NoEstimateError(f"{x} is determined by what is held fixed")
    return np.column_stack([np.sqrt(len(data)) * basis, rest])


def _estimable(data, design, by_unit=False):
    """Whether a finite estimate exists: no direction separates right from wrong (Albert and Anderson 1984)."""
    if data.units.nunique() <= design.shape[1]:
        raise _NoEstimateError(f"{data.units.nunique()} questions are too few for {design.shape[1]} coefficients")
    if by_unit:
        design = np.column_stack([design, pd.get_dummies(data.units, dtype=float)])
    # The linear program of Konis (2007): zero is its best, unless such a direction is there.
    signed = design * (2 * data.y.to_numpy() - 1)[:, None]
    if linprog(-signed.mean(axis=0), A_ub=-signed, b_ub=np.zeros(len(signed)), bounds=(-1, 1)).fun < -1e-7:
        raise _NoEstimateError("right and wrong answers are separated")


def _least_squares(design, y, weights) -> np.ndarray:
    """Coefficients, shape=[columns, samples], for weights, shape=[rows, samples]."""
    products = np.einsum("ni,nj->nij", design, design).reshape(len(design), -1)
    grams = (products.T @ weights).T.reshape(-1, design.shape[1], design.shape[1])
    return np.einsum("bij,jb->ib", np.linalg.pinv(grams, hermitian=True), design.T @ (y[:, None] * weights))


def _logits(design, y, weights) -> np.ndarray:
    """Coefficients of the logistic model, shape=[columns, samples], by Newton's method; NaN where there are none."""
    products = np.einsum("ni,nj->nij", design, design).reshape(len(design), -1)
    found = np.zeros((design.shape[1], weights.shape[1]))
    for _ in range(25):
        chance = expit(design @ found)
        curvature = (products.T @ (weights * chance * (1 - chance))).T.reshape(-1, *2 * design.shape[1:])
        slope = design.T @ (weights * (y[:, None] - chance))
        step = np.einsum("bij,jb->ib", np.linalg.pinv(curvature, hermitian=True), slope)
        found += step
        if np.abs(step).max() < 1e-9:
            break
    return np.where(np.abs(step).max(axis=0) < 1e-6, found, np.nan)


# What is given


def _there(caller, table, **columns):
    if len(table) == 0:
        raise ValueError(f"{caller}: the table has no rows")
    for name, column in columns.items():
        if column not in table:
            raise ValueError(f"{caller}: {name} is {column!r}, but the table's columns are {', '.join(table)}")


def _numbers(caller, table, **columns) -> list[np.ndarray]:
    _there(caller, table, **columns)
    found = []
    for name, column in columns.items():
        try:
            values = table[column].to_numpy(dtype=float)
        except (TypeError, ValueError):
            raise TypeError(f"{caller}: {name} is {column!r}, which holds no numbers") from None
        missing = np.count_nonzero(~np.isfinite(values))
        if missing:
            raise ValueError(f"{caller}: {name} is {column!r}, which is not finite in {missing} of {len(values)} rows")
        found.append(values)
    return found


def _groups(caller, table, **columns) -> list[np.ndarray]:
    """Rows with the same values share a number, from 0 on, in the order of the values."""
    found = []
    for name, given in columns.items():
        keys = [given] if isinstance(given, str) else list(given)
        for key in keys:
            _there(caller, table, **{name: key})
            if table[key].isna().any():
                raise ValueError(f"{caller}: {name} is {key!r}, which is missing in {table[key].isna().sum()} rows")
        groups = table.groupby(keys, observed=True).ngroup() if keys else np.zeros(len(table), dtype=int)
        found.append(np.asarray(groups))
    return found


def _true_or_false(caller, name, values):
    other = values[~np.isin(values, (0, 1))]
    if len(other):
        raise ValueError(f"{caller}: y is {name!r}, which holds {other[0]:g}, but true and false were expected")


def _count(caller, name, value):
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{caller}: {name} is {value!r}, but a whole number from 1 on was expected")


def _level(caller, level):
    if not isinstance(level, Real) or not 0 < level < 1:
        raise ValueError(f"{caller}: level is {level!r}, but a number between 0 and 1 was expected")


def _standard(values) -> np.ndarray:
    """In standard deviations from the mean; zeros where nothing varies."""
    return (values - values.mean()) / (values.std() or 1)


def _listed(rows: pd.DataFrame) -> str:
    return ", ".join(column for column in rows if column.startswith("id_")) or "none"
