"""Regressions of correctness on the change of ID: with controls, within questions, at every layer, and mediation.

Effects are given in percentage points where possible, before any p-value.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy.optimize import linprog
from scipy.special import expit
from statsmodels.tools.sm_exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from geolib.checks import integer
from geolib.dimension import rules
from geolib.estimates import Estimate
from geolib.reasoning import columns, resampling
from geolib.reasoning.analysis import holm, id_change


@dataclass(frozen=True)
class Effect:
    """Effect of one standard deviation more of x on whether the answer is correct.

    Attributes
    ----------
    points : Estimate
        Percentage points of correct answers.
    odds_ratio : Estimate
        1 means no effect.
    p : float
        Two-sided p-value of the hypothesis that the odds ratio is 1.
    reason : str
        Why there is no estimate, if all of the above are NaN; else "".
    """

    points: Estimate
    odds_ratio: Estimate
    p: float
    reason: str = ""

    def __str__(self) -> str:
        if self.reason:
            return f"none: {self.reason}"
        return f"points {self.points}; odds ratio {self.odds_ratio}; p = {self.p:.2g}"


class _NoEstimateError(Exception):
    """There is no finite estimate; the message says why."""


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

    The standard deviation is that among rows with the same shots. Numbers of shots at which all answers are correct, or
    all wrong, have no information and are left out. ``points`` is the average marginal effect.

    Parameters
    ----------
    table, x, unit, level
        As for :func:`association`.
    y : str
        Column of booleans.
    controls : sequence of str
        Columns that enter linearly, such as ``("prompt_tokens", "sink_share")``.
    within : str or sequence of str
        Columns each of whose combinations of values gets an intercept.

    Returns
    -------
    Effect
        With NaN and a reason if there is no finite estimate: nothing varies, x is determined by the controls, or the
        columns separate correct from wrong answers perfectly (Albert and Anderson 1984).

    Raises
    ------
    ValueError, TypeError
        As for :func:`association`, or y is not a column of booleans.
    """
    # A design of a few thousand rows is too small for several threads, which then wait for each other (3x slower
    # with two processes at the same time).
    one_thread = threadpool_limits(1, user_api="blas")
    try:
        with one_thread, np.errstate(over="raise", invalid="raise"), warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            return _effect(_regression("logistic", table, x, y, controls, within, unit, level), x, level)
    except _NoEstimateError as found:
        reason = str(found)
    except (FloatingPointError, ConvergenceWarning):
        reason = "the coefficients grow out of range"
    nothing = Estimate(np.nan, np.nan, np.nan, 0)
    return Effect(nothing, nothing, np.nan, reason)


def _effect(data, x, level):
    used = data[data.y.groupby(data.strata).transform("nunique") == 2]
    if used.empty:
        raise _NoEstimateError("the answers do not vary")
    design = _design(used, x)
    _estimable(used, design)
    # The pooled model with a sandwich estimator: for covariates that change within a question, working correlations
    # other than independence need not be consistent (Pepe and Anderson 1994).
    fit = sm.Logit(used.y.to_numpy(), design).fit(disp=0, cov_type="cluster", cov_kwds={"groups": used.units})
    rise, alpha = fit.get_margeff(), 1 - level
    points = 100 * np.array([rise.margeff[-1], *rise.conf_int(alpha)[-1]])
    ratio = np.exp([fit.params[-1], *fit.conf_int(alpha)[-1]])
    n = used.units.nunique()
    return Effect(Estimate(*points.tolist(), n), Estimate(*ratio.tolist(), n, 1.0), float(fit.pvalues[-1]))


def same_question(
    table: pd.DataFrame,
    *,
    x: str = "change",
    y: str = "correct",
    controls: Sequence[str] = (),
    within: str | Sequence[str] = "shots",
    unit: str = "question",
    level: float = 0.95,
) -> Estimate:
    """Whether the *same* question is answered correctly more often when its ID rises more.

    This is the linear probability model with fixed effects for every question and every number of shots, with errors
    clustered by question: everything that is constant for a question cancels.

    Parameters
    ----------
    table, x, y, controls, within, unit, level
        As for :func:`logistic`. At fixed shots and examples, the length of the prompt is fixed with the question.

    Returns
    -------
    Estimate
        Percentage points of correct answers per standard deviation of x. NaN if x or the answers do not vary within
        questions.

    Raises
    ------
    ValueError, TypeError
        As for :func:`logistic`.
    """
    data = _regression("same_question", table, x, y, controls, within, unit, level)
    return _least_points(data, data.y - data.y.groupby(data.units).transform("mean"), x, level, by_unit=True)


def _least_points(data, y, x, level, *, by_unit=False):
    """Points per standard deviation of x by least squares, with errors clustered by unit; NaN if none is found."""
    n = data.units.nunique()
    try:
        if y.nunique() < 2:
            raise _NoEstimateError("the answers do not vary")
        design = _design(data, x, by_unit)
    except _NoEstimateError:
        return Estimate(np.nan, np.nan, np.nan, n)
    with threadpool_limits(1, user_api="blas"):
        fit = sm.OLS(y.to_numpy(), design).fit(cov_type="cluster", cov_kwds={"groups": data.units})
    return Estimate(*(100 * np.array([fit.params[-1], *fit.conf_int(1 - level)[-1]])).tolist(), n)


def top_less_bottom(
    table: pd.DataFrame,
    *,
    x: str = "change",
    y: str = "correct",
    bins: int = 6,
    controls: Sequence[str] = (),
    within: str | Sequence[str] = "shots",
    unit: str = "question",
    level: float = 0.95,
) -> Estimate:
    """Share of correct answers in the highest bin of x minus that in the lowest, with other columns held fixed.

    The bins are those of :func:`binned_share`, over all rows. The model is a linear probability model with an intercept
    for every bin and every value of ``within``, linear in the controls, with errors clustered by unit.

    Parameters
    ----------
    table, x, y, controls, within, unit, level
        As for :func:`logistic`; ``within=()`` holds nothing fixed.
    bins : int
        Number of quantile bins, at least 2; there are fewer if values repeat.

    Returns
    -------
    Estimate
        Percentage points. NaN if there is only one bin, the answers do not vary, or the columns that are held fixed
        determine x.

    Raises
    ------
    ValueError, TypeError
        As for :func:`logistic`, or ``bins`` is wrong.
    """
    data = _regression("top_less_bottom", table, x, y, controls, within, unit, level)
    places = pd.qcut(data.x, integer("top_less_bottom: bins", bins, 2), labels=False, duplicates="drop")
    inner = pd.get_dummies(places[(places > 0) & (places < places.max())], dtype=float).reindex(data.index).fillna(0.0)
    data = data.assign(x=(places == places.max()).astype(float)).join(inner.add_prefix("bin"))
    each = _least_points(data, data.y, x, level)
    sd = float((data.x - data.x.groupby(data.strata).transform("mean")).std(ddof=0)) or 1.0
    return Estimate(each.value / sd, each.low / sd, each.high / sd, each.n)


def layer_profile(
    rows: pd.DataFrame,
    *,
    rule: str = "absolute",
    eps: float = 0.1,
    verdict: str = "correct",
    x: str = "change",
    controls: Sequence[str] = ("prompt_tokens",),
    within: str | Sequence[str] = "shots",
    n_boot: int = resampling.N_BOOT,
    n_perm: int = resampling.N_PERM,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """:func:`association` and :func:`logistic` at every layer; p-values are corrected over the layers (figure 8).

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
        One row per layer: ``layer`` (from 0), ``n``; ``estimate`` (the rank correlation), ``low``, ``high``, ``p``,
        ``p_holm``, ``survives`` (the corrected p is below 1 - level); ``points``, ``points_low``, ``points_high``,
        ``odds_ratio``, ``logistic_p``, ``logistic_p_holm``.

    Raises
    ------
    ValueError, TypeError
        As for :func:`id_change` and :func:`logistic`.
    """
    settings: dict[str, Any] = {"rule": rule, "eps": eps, "verdict": verdict}
    first = id_change(rows, layer=0, **settings)  # raises if something is wrong with the rows
    layers = range(len(rows[rules.column(rule, eps)].iloc[0]))
    tables = [first, *(id_change(rows, layer=layer, **settings) for layer in layers[1:])]
    xs = [columns.numbers("layer_profile", table, x=x)[0] for table in tables]
    (ys,) = columns.numbers("layer_profile", first, y="correct")
    strata, units = columns.groups("layer_profile", first, within=within, unit="question")
    statistic = resampling.mean_rhos(xs, ys, strata, units)
    estimates = resampling.bootstrap("layer_profile", statistic, units, n_boot, level, seed)
    found = pd.DataFrame(estimates).drop(columns="null")
    found = found.rename(columns={"value": "estimate"}).rename_axis("layer").reset_index()
    found["p"] = resampling.permute("layer_profile", xs, ys, strata, units, "two-sided", n_perm, seed)
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
    """Result of :func:`mediation`: effects in percentage points, and the share of the total effect that is indirect."""

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
    """Estimate how much of the effect of shots on correctness goes through ID, under the assumptions below.

    The effects are natural effects (Pearl 2001) by g-computation: a linear model of the mediator and a logistic model
    of the answer (with exposure, mediator and their product), averaged over the rows with each row's own residual. For
    the indirect effect, the exposure stays at the second value of the contrast, and the mediator changes as it would
    between the two values. For the direct effect, the exposure changes, and the mediator stays as at the first value.
    The two add up to the total effect.

    **Assumptions.** (1) Both models hold. (2) No variable except ``controls``, all of which are fixed before the
    exposure, affects two of exposure, mediator and answer (no confounding). Shots are assigned, so this concerns
    mediator and answer: a hard question may have another ID *and* a wrong answer. (3) No variable that the exposure
    affects acts on both mediator and answer. The length of the prompt does, and the sink may: with shots as the
    exposure, (3) is false by construction, and length as a control would be a consequence of the exposure. An exposure
    that keeps the length constant (examples against random tokens, at equal shots) avoids this problem. So the result
    is a description; the intervention on attention is a test.

    Questions that were selected because they are wrong at 0 shots have no correct answers there, and their 0-shot
    prompts are not among the rows: contrast few shots with many.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`id_change` returns it.
    exposure, mediator : str
        Columns of numbers.
    contrast : tuple of float, optional
        Two values of the exposure, from and to; by default the smallest and the largest.
    y : str
        Column of booleans.
    controls : sequence of str
        Columns that enter both models linearly.
    unit, n_boot, level, seed
        As for :func:`association`.

    Returns
    -------
    Mediation
        ``share`` is NaN if the interval of the total effect includes 0, or if the intervals of the direct and the
        indirect effect are on opposite sides of 0 (inconsistent mediation): a share has no meaning then. All results
        are NaN if the logistic model has no finite estimate; such bootstrap samples are left out of the intervals.

    Raises
    ------
    ValueError, TypeError
        As for :func:`logistic`, or the exposure does not vary.
    """
    a, m, answers = columns.numbers("mediation", table, exposure=exposure, mediator=mediator, y=y)
    columns.true_or_false("mediation", y, answers)
    given = [columns.standard(column) for column in columns.controls("mediation", table, controls)]
    (units,) = columns.groups("mediation", table, unit=unit)
    low, high = contrast or (a.min(), a.max())
    if a.min() == a.max() or low == high:
        raise ValueError(f"mediation: exposure is {exposure!r} from {low:g} to {high:g}, but two values were expected")
    a = (a - (low + high) / 2) / (high - low)  # now from -0.5 to 0.5
    m, ones = columns.standard(m), np.ones(len(a))

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

    found = resampling.bootstrap("mediation", lambda w: effects(w[units]), units, n_boot, level, seed)
    total, direct, indirect, part = found
    signs = [int(part.low > 0) - int(part.high < 0) for part in (total, direct, indirect)]
    if signs[0] == 0 or signs[1] * signs[2] < 0:
        part = Estimate(np.nan, np.nan, np.nan, part.n)
    return Mediation(total, direct, indirect, part)


def _regression(caller, table, x, y, controls, within, unit, level):
    """Check arguments; return a table with columns x, y, strata, units, and a numbered column for each control."""
    resampling.check_level(caller, level)
    xs, ys = columns.numbers(caller, table, x=x, y=y)
    columns.true_or_false(caller, y, ys)
    strata, units = columns.groups(caller, table, within=within, unit=unit)
    given = {i: columns.standard(one) for i, one in enumerate(columns.controls(caller, table, controls))}
    return pd.DataFrame({"x": xs, "y": ys, "strata": strata, "units": units} | given)


def _design(data, x, by_unit=False):
    """Columns that span strata and controls, then x in standard deviations; with `by_unit`, minus the unit's mean."""
    within = data.x - data.x.groupby(data.strata).transform("mean")
    if within.std(ddof=0) <= 1e-9 * data.x.abs().max():
        raise _NoEstimateError(f"{x} does not vary")
    dummies, controls = pd.get_dummies(data.strata, dtype=float), data.drop(columns=["x", "y", "strata", "units"])
    spanning = pd.concat([dummies, controls, within / within.std(ddof=0)], axis=1, ignore_index=True)
    if by_unit:
        spanning = spanning - spanning.groupby(data.units).transform("mean")
    spanning = spanning.to_numpy()
    # An orthonormal basis spans the same space, and collinear controls do no harm.
    basis, sizes, _ = np.linalg.svd(spanning[:, :-1], full_matrices=False)
    basis = basis[:, sizes > 1e-9 * np.sqrt(len(data))]
    rest = spanning[:, -1] - basis @ (basis.T @ spanning[:, -1])
    if rest.std() <= 1e-9:
        raise _NoEstimateError(f"{x} is determined by what is held fixed")
    return np.column_stack([np.sqrt(len(data)) * basis, rest])


def _estimable(data, design):
    """Raise unless a finite estimate exists: no direction separates right from wrong (Albert and Anderson 1984)."""
    if data.units.nunique() <= design.shape[1]:
        raise _NoEstimateError(f"{data.units.nunique()} questions are too few for {design.shape[1]} coefficients")
    # The linear program of Konis (2007): its optimum is 0 unless there is such a direction.
    signed = design * (2 * data.y.to_numpy() - 1)[:, None]
    if linprog(-signed.mean(axis=0), A_ub=-signed, b_ub=np.zeros(len(signed)), bounds=(-1, 1)).fun < -1e-7:
        raise _NoEstimateError("right and wrong answers are separated")


def _least_squares(design, y, weights):
    """Coefficients, shape=[columns, samples], for weights, shape=[rows, samples]."""
    products = np.einsum("ni,nj->nij", design, design).reshape(len(design), -1)
    grams = (products.T @ weights).T.reshape(-1, design.shape[1], design.shape[1])
    return np.einsum("bij,jb->ib", np.linalg.pinv(grams, hermitian=True), design.T @ (y[:, None] * weights))


def _logits(design, y, weights):
    """Coefficients of the logistic model, shape=[columns, samples], by Newton's method; NaN if it diverges."""
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
