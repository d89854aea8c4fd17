"""Estimates with intervals by bootstrap and permutation over questions."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from numbers import Real

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from geolib.checks import choice, integer, one_line
from geolib.estimates import Estimate

# How many samples an interval and a p-value stand on: enough that another seed changes no verdict (a test).
N_BOOT, N_PERM = 20_000, 50_000
Array = np.ndarray
Arrays = Sequence[np.ndarray]
Statistic = Callable[[Array], Array]  # of weights, shape=[units, samples], to shape=[numbers, samples]


# Bootstrap and permutation. A sample of units is a column of weights: how often each was drawn. So all samples go
# through NumPy together, and ranks need no sorting anew.


def bootstrap(caller: str, statistic: Statistic, units: Array, n_boot: int, level: float, seed: int) -> list[Estimate]:
    """Estimates of a statistic that maps weights, shape=[units, samples], to shape=[numbers, samples]."""
    integer(f"{caller}: n_boot", n_boot, 1)
    check_level(caller, level)
    n = int(units.max()) + 1
    value = statistic(np.ones((n, 1)))[:, 0]
    draws = np.concatenate([statistic(weights) for weights in _samples(n, n_boot, seed)], axis=1)
    tails = [(1 - level) / 2, (1 + level) / 2]
    known = np.isfinite(value) & np.isfinite(draws).any(axis=1)
    ends = [np.nanquantile(row, tails) if k else (np.nan, np.nan) for k, row in zip(known, draws, strict=True)]
    return [Estimate(float(v), float(a), float(b), n) for v, (a, b) in zip(value, ends, strict=True)]


def _samples(n: int, n_boot: int, seed: int) -> Iterator[Array]:
    """Weights of n units in samples with replacement, shape=[units, samples], some samples at a time."""
    keep = isinstance(seed, int) and n * n_boot <= 2**25
    for counts in (_kept if keep else _drawn)(n, n_boot, seed):
        yield counts.astype(float)


@lru_cache(maxsize=2)  # many statistics of one table are asked of the same samples
def _kept(n: int, n_boot: int, seed: int) -> list[Array]:
    return list(_drawn(n, n_boot, seed))


def _drawn(n: int, n_boot: int, seed: int) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    size = max(1, 2**18 // n)
    for start in range(0, n_boot, size):
        some = min(size, n_boot - start)
        drawn = rng.integers(n, size=(some, n)) + n * np.arange(some)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=some * n).reshape(some, n)
        yield np.ascontiguousarray(counts.T, dtype=np.min_scalar_type(counts.max()))


def permute(
    caller: str, xs: Arrays, y: Array, strata: Array, units: Array, alternative: str, n_perm: int, seed: int
) -> Array:
    """p-value of every x, shape=[xs]."""
    side = {"two-sided": np.abs, "greater": np.positive, "less": np.negative}
    choice(f"{caller}: alternative", alternative, *side)
    integer(f"{caller}: n_perm", n_perm, 1)
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
    drawn, least = side[alternative](drawn), side[alternative](found)[:, None]
    extreme = drawn >= least - 1e-9  # equal sums may differ in their last digits
    return np.where(np.isnan(found), np.nan, (extreme.sum(axis=1) + 1) / (n_perm + 1))


def mean_rhos(xs: Arrays, y: Array, strata: Array, units: Array) -> Statistic:
    """Spearman's rho of y with every x within each stratum, averaged with the rows as weights.

    A statistic of weights, shape=[xs, samples]; NaN where nothing varies. Weights are whole and ranks halves, so that
    no sum is rounded, in whatever order it is taken.
    """
    parts, n_units = [], int(units.max()) + 1
    for rows in (np.flatnonzero(strata == stratum) for stratum in range(strata.max() + 1)):
        _, of_y = np.unique(y[rows], return_inverse=True)
        for i, x in enumerate(xs):
            _, of_x = np.unique(x[rows], return_inverse=True)
            cells, cell = np.unique(of_x * len(rows) + of_y, return_inverse=True)
            at_x, at_y = np.divmod(cells, len(rows))
            parts.append((i, at_x, at_y, _sums_to(cell, units[rows], n_units), _sums_to(at_x), _sums_to(at_y)))

    def statistic(weights):
        total, size = np.zeros((2, len(xs), weights.shape[1]))
        for i, at_x, at_y, to_cells, to_x, to_y in parts:
            cells = to_cells @ weights
            n = cells.sum(axis=0)
            (of_x, spread_x), (of_y, spread_y) = _ranks(to_x @ cells, n), _ranks(to_y @ cells, n)
            scale = np.sqrt(spread_y * spread_x)
            varies = scale > 0
            cells *= of_x[at_x]
            cells *= of_y[at_y]
            total[i] += np.where(varies, n * cells.sum(axis=0), 0) / np.where(varies, scale, 1)
            size[i] += np.where(varies, n, 0)
        return np.divide(total, size, out=np.full_like(total, np.nan), where=size > 0)

    return statistic


def _sums_to(into: Array, of: Array | None = None, n: int | None = None) -> csr_array:
    """Return the matrix that adds row ``of[i]`` to row ``into[i]``; by default every row."""
    of = np.arange(len(into)) if of is None else of
    return csr_array((np.ones(len(into)), (into, of)), shape=(into.max() + 1, n or len(into)))


def partial_rhos(x: Array, y: Array, controls: Arrays, strata: Array, units: Array) -> Statistic:
    """Partial rank correlation within each stratum, averaged with the rows as weights, as a statistic of weights."""
    parts, n_units, k = [], int(units.max()) + 1, 2 + len(controls)
    for rows in (np.flatnonzero(strata == stratum) for stratum in range(strata.max() + 1)):
        ranks = pd.DataFrame(np.array([*controls, x, y])[:, rows]).rank(axis=1).to_numpy()
        ranks = (ranks - ranks.mean(axis=1, keepdims=True)) / len(rows) ** 1.5  # spreads of about 1/12, of any size
        moments = np.vstack([np.einsum("ar,br->abr", ranks, ranks).reshape(k * k, -1), ranks, np.ones(len(rows))])
        parts.append(moments @ _sums_to(np.arange(len(rows)), units[rows], n_units))

    def statistic(weights):
        total, size = np.zeros((2, weights.shape[1]))
        for moments in parts:
            products, mean, (n,) = np.split(moments @ weights, [k * k, k * k + k])
            spread = products.reshape(k, k, -1) - mean[:, None] * mean / np.maximum(n, 1)
            for _ in controls:  # swept out one by one, as in Gaussian elimination
                along = spread[0, 1:] / np.sqrt(np.where(spread[0, 0] > 1e-9, spread[0, 0], np.inf))
                spread = spread[1:, 1:] - along[:, None] * along
            scale = spread[0, 0] * spread[1, 1]
            varies = np.minimum(spread[0, 0], spread[1, 1]) > 1e-9
            total += np.where(varies, n * spread[0, 1], 0) / np.sqrt(np.where(varies, scale, 1))
            size += np.where(varies, n, 0)
        return np.divide(total, size, out=np.full_like(total, np.nan), where=size > 0)[None]

    return statistic


def mean_of(values: Array, units: Array) -> Statistic:
    """Mean of some values, as a statistic of weights."""
    sums, sizes = np.bincount(units, values), np.bincount(units)
    return lambda weights: (sums @ weights / (sizes @ weights))[None]


def _ranks(tied: Array, n: Array) -> tuple[Array, Array]:
    """Rank of each distinct value less the mean rank, from its weight, and the spread of the ranks."""
    ranks = np.cumsum(tied, axis=0)
    ranks -= tied / 2
    ranks -= n / 2
    tied *= ranks
    tied *= ranks
    return ranks, tied.sum(axis=0)


def _unit_ranks(columns: Arrays, strata: Array) -> tuple[Array, Array]:
    """Ranks within each stratum, centred and of norm 1 there, and where they vary; both shape=[columns, rows]."""
    ranks = pd.DataFrame(np.transpose(columns)).groupby(strata).rank()
    ranks -= ranks.groupby(strata).transform("mean")
    norms = np.sqrt((ranks**2).groupby(strata).transform("sum"))
    return (ranks / norms.where(norms > 0, 1)).to_numpy().T, (norms > 0).to_numpy().T


def check_level(caller: str, level: float) -> None:
    """Check a level of confidence."""
    if not isinstance(level, Real) or not 0 < level < 1:
        raise ValueError(f"{caller}: level is {one_line(level)}, but a number between 0 and 1 was expected")
