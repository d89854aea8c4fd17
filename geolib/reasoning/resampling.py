"""Estimates with intervals by bootstrap and permutation over questions, and checks of the tables they come from."""

from collections.abc import Callable, Iterator
from numbers import Integral, Real

import numpy as np
import pandas as pd

from geolib.estimates import Estimate

# How many samples an interval and a p-value stand on: enough that another seed changes no verdict (a test).
N_BOOT, N_PERM = 20_000, 50_000


# Bootstrap and permutation. A sample of units is a column of weights: how often each was drawn. So all samples go
# through NumPy together, and ranks need no sorting anew.


def bootstrap(caller, statistic: Callable, units, n_boot, level, seed) -> list[Estimate]:
    """Estimates of a statistic that maps weights, shape=[units, samples], to shape=[numbers, samples]."""
    _count(caller, "n_boot", n_boot)
    check_level(caller, level)
    n = int(units.max()) + 1
    value = statistic(np.ones((n, 1)))[:, 0]
    draws = np.concatenate([statistic(weights) for weights in _samples(n, n_boot, seed)], axis=1)
    tails = [(1 - level) / 2, (1 + level) / 2]
    known = np.isfinite(value) & np.isfinite(draws).any(axis=1)
    ends = [np.nanquantile(row, tails) if k else (np.nan, np.nan) for k, row in zip(known, draws, strict=True)]
    return [Estimate(float(v), float(a), float(b), n) for v, (a, b) in zip(value, ends, strict=True)]


def _samples(n, n_boot, seed) -> Iterator[np.ndarray]:
    """Weights of n units in samples with replacement, shape=[units, samples], some samples at a time."""
    rng = np.random.default_rng(seed)
    size = max(1, 2**18 // n)
    for start in range(0, n_boot, size):
        some = min(size, n_boot - start)
        drawn = rng.integers(n, size=(some, n)) + n * np.arange(some)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=some * n).reshape(some, n)
        yield np.ascontiguousarray(counts.T, dtype=float)


def permute(caller, xs, y, strata, units, alternative, n_perm, seed) -> np.ndarray:
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


def mean_rhos(xs, y, strata, units, weights) -> np.ndarray:
    """Spearman's rho of y with every x within each stratum, averaged with the rows as weights.

    Shape=[xs, samples], from weights, shape=[units, samples]; NaN where nothing varies.
    """
    total, size = np.zeros((2, len(xs), weights.shape[1]))
    for stratum in range(strata.max() + 1):
        rows = np.flatnonzero(strata == stratum)
        w = weights[units[rows]]
        n = w.sum(axis=0)
        order, starts = _ties(y[rows])
        tied, ranks = _ranks(w, n, order, starts)
        spread = np.einsum("ij,ij,ij->j", tied, ranks, ranks)
        of_y = np.empty_like(w)
        of_y[order] = np.repeat(ranks, np.diff(starts, append=len(rows)), axis=0)
        of_y *= w
        for i, x in enumerate(xs):
            order, starts = _ties(x[rows])
            tied, ranks = _ranks(w, n, order, starts)
            scale = np.sqrt(spread * np.einsum("ij,ij,ij->j", tied, ranks, ranks))
            varies = scale > 0
            shared = np.einsum("ij,ij->j", np.add.reduceat(of_y[order], starts, axis=0), ranks)
            total[i] += np.where(varies, n * shared, 0) / np.where(varies, scale, 1)
            size[i] += np.where(varies, n, 0)
    return np.divide(total, size, out=np.full_like(total, np.nan), where=size > 0)


def partial_rhos(x, y, controls, strata, units) -> Callable:
    """Partial rank correlation within each stratum, averaged with the rows as weights, as a statistic of weights."""
    parts = []
    for stratum in range(strata.max() + 1):
        rows = np.flatnonzero(strata == stratum)
        ranks = pd.DataFrame([values[rows] for values in (x, y, *controls)]).rank(axis=1).to_numpy()
        ranks = (ranks - ranks.mean(axis=1, keepdims=True)) / len(rows) ** 1.5  # spreads of about 1/12, of any size
        parts.append((rows, ranks, np.einsum("ar,br->abr", ranks, ranks)))

    def statistic(weights):
        total, size = np.zeros((2, weights.shape[1]))
        for rows, ranks, products in parts:
            w = weights[units[rows]]
            n = w.sum(axis=0)
            mean = ranks @ w
            spread = products.reshape(-1, len(rows)) @ w
            spread = spread.reshape(len(ranks), len(ranks), -1) - mean[:, None] * mean / np.maximum(n, 1)
            for control in range(2, len(ranks)):  # swept out one by one, as in Gaussian elimination
                pivot = spread[control, control]
                along = spread[control] * (np.sqrt(1 / np.where(pivot > 1e-9, pivot, np.inf)))
                spread = spread - along[:, None] * along
            scale = spread[0, 0] * spread[1, 1]
            varies = np.minimum(spread[0, 0], spread[1, 1]) > 1e-9
            total += np.where(varies, n * spread[0, 1], 0) / np.sqrt(np.where(varies, scale, 1))
            size += np.where(varies, n, 0)
        return np.divide(total, size, out=np.full_like(total, np.nan), where=size > 0)[None]

    return statistic


def mean_of(values, units) -> Callable:
    """Mean of some values, as a statistic of weights."""
    sums, sizes = np.bincount(units, values), np.bincount(units)
    return lambda weights: (sums @ weights / (sizes @ weights))[None]


def _ties(values) -> tuple[np.ndarray, np.ndarray]:
    """Order of the values, and where in it each distinct value begins."""
    order = np.argsort(values, kind="stable")
    return order, np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)


def _ranks(weights, n, order, starts) -> tuple[np.ndarray, np.ndarray]:
    """Weight of each distinct value, and its rank less the mean rank; both shape=[distinct values, samples]."""
    tied = np.add.reduceat(weights[order], starts, axis=0)
    return tied, np.cumsum(tied, axis=0) - tied / 2 - n / 2


def _unit_ranks(columns, strata) -> tuple[np.ndarray, np.ndarray]:
    """Ranks within each stratum, centred and of norm 1 there, and where they vary; both shape=[columns, rows]."""
    ranks = pd.DataFrame(np.transpose(columns)).groupby(strata).rank()
    ranks -= ranks.groupby(strata).transform("mean")
    norms = np.sqrt((ranks**2).groupby(strata).transform("sum"))
    return (ranks / norms.where(norms > 0, 1)).to_numpy().T, (norms > 0).to_numpy().T


# What is given


def numbers_in(caller, table, **columns) -> list[np.ndarray]:
    """Columns of finite numbers, each named by its argument."""
    there(caller, table, **columns)
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


def groups_in(caller, table, **columns) -> list[np.ndarray]:
    """Rows with the same values share a number, from 0 on, in the order of the values."""
    found = []
    for name, given in columns.items():
        keys = [given] if isinstance(given, str) else list(given)
        for key in keys:
            there(caller, table, **{name: key})
            if table[key].isna().any():
                raise ValueError(f"{caller}: {name} is {key!r}, which is missing in {table[key].isna().sum()} rows")
        groups = table.groupby(keys, observed=True).ngroup() if keys else np.zeros(len(table), dtype=int)
        found.append(np.asarray(groups))
    return found


def there(caller, table, **columns):
    """Check that the table has rows and the columns."""
    if len(table) == 0:
        raise ValueError(f"{caller}: the table has no rows")
    for name, column in columns.items():
        if column not in table:
            raise ValueError(f"{caller}: {name} is {column!r}, but the table's columns are {', '.join(table)}")


def true_or_false(caller, name, values):
    """Check that y holds nothing but 0 and 1."""
    other = values[~np.isin(values, (0, 1))]
    if len(other):
        raise ValueError(f"{caller}: y is {name!r}, which holds {other[0]:g}, but true and false were expected")


def _count(caller, name, value):
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{caller}: {name} is {value!r}, but a whole number from 1 on was expected")


def check_level(caller, level):
    """Check a level of confidence."""
    if not isinstance(level, Real) or not 0 < level < 1:
        raise ValueError(f"{caller}: level is {level!r}, but a number between 0 and 1 was expected")


def standard(values) -> np.ndarray:
    """In standard deviations from the mean; zeros where nothing varies."""
    return (values - values.mean()) / (values.std() or 1)
