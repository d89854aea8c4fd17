"""Classical estimators of intrinsic dimension: scikit-dimension's (Bac et al. 2021), behind one careful call.

These estimators look at distances between points. They are misled if points coincide, exactly or up to rounding, and if
a point lies far from all others. Here duplicates are removed and far points set aside, both are counted in the result,
and clouds that an estimator cannot handle are refused.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from geolib.checks import finite_array, fraction, integer, one_line
from geolib.dimension.points import distinct_rows

# Number of neighbours that each estimator looks at by default, as in scikit-dimension (0: it has no such number).
_NEIGHBOURS = {
    "TwoNN": 2, "MLE": 20, "GRIDE": 2, "MOM": 100, "TLE": 20, "MADA": 20, "CorrInt": 20, "MiND_ML": 21, "ESS": 100,
    "DANCo": 11, "lPCA": 0, "FisherS": 0, "PH": 0,
}  # fmt: skip
_FIXED = ("TwoNN", "CorrInt", "DANCo")  # the number of neighbours cannot be chosen
_SHARING = ("TwoNN", "MLE", "MOM", "TLE", "ESS")  # accept neighbours that are known; the others search themselves
_HALVING = ("GRIDE", "MADA", "CorrInt")  # compare neighbour k with neighbour k / 2; the others, with the first
_SEARCHING = ("GRIDE", "CorrInt", "MiND_ML", "DANCo")  # search by scikit-learn's default, which loses digits: _COARSE
_SEEDED = {"DANCo", "PH"}  # pass the seed to scikit-learn, which takes 32 bits
_NO_RATIOS = ("lPCA", "FisherS", "ESS", "PH")  # do not compare distances of neighbours
_FEWEST = 5  # points that any estimator needs
_DANCO = 20, 5000  # fewest and most points that its table covers
_BITS = 8, 11, 24  # significant bits of bfloat16, float16, float32
# Units in the last place of a row's norm that count as rounding. In float32, states of one text differ by up to about
# 40 from batch to batch. In 16 bits a unit is so large that few can be allowed: the number with the clearest gap.
_UNITS, _UNITS_16 = (64,), (1, 1.5, 2, 3, 4)
# Rows nearer than this fraction of the usual distance of neighbours, with a gap beyond, are copies, whatever the type.
_COPY = 1e-4
# In more than 15 dimensions scikit-learn computes squared distances from products. Distances below this fraction of the
# largest coordinate then lose their digits.
_COARSE = 1e-5
_GRAPH = 10  # neighbours in the graph that shows groups: without groups, clouds of any size are connected by so many


@dataclass(frozen=True)
class DimensionEstimate:
    """The intrinsic dimension of a cloud of points, made by `estimate_dimension`.

    Attributes
    ----------
    value : float
        The estimate.
    interval : tuple of float, or None
        Interval for the sampling noise of ``value``, not for its bias; None without half-samples.
    n_used : int
        Number of points from which ``value`` was computed.
    n_duplicates : int
        Number of rows removed because they equal another row, up to rounding.
    n_outliers : int
        Number of rows set aside because their norm is extreme.
    """

    value: float
    interval: tuple[float, float] | None
    n_used: int
    n_duplicates: int
    n_outliers: int


def estimate_dimension(
    points: ArrayLike,
    estimator: str | Sequence[str] = "TwoNN",
    *,
    n_neighbors: int | None = None,
    n_boot: int = 0,
    level: float = 0.95,
    seed: int = 0,
) -> DimensionEstimate | dict[str, DimensionEstimate]:
    """Estimate the intrinsic dimension of a cloud of points.

    Parameters
    ----------
    points : array-like, shape=[n, dim]
        All computations are in float64; the type of the points tells how large their rounding is.
    estimator : str or sequence of str
        ``"TwoNN"`` (Facco et al. 2017), ``"MLE"`` (Levina and Bickel 2004), ``"GRIDE"`` (Denti et al. 2022),
        ``"MOM"``, ``"TLE"``, ``"MADA"``, ``"CorrInt"``, ``"MiND_ML"``, ``"DANCo"``, ``"lPCA"``, ``"FisherS"``; and
        ``"ESS"`` and ``"PH"``, which are slow from a few hundred points on.
    n_neighbors : int, optional
        Number of neighbours of a point to look at, which sets the scale of the answer. By default scikit-dimension's
        number for each estimator. GRIDE compares two neighbours: this one, an even number, and the one of half of it.
    n_boot : int
        Number of half-samples for the interval, at least 2; 0 for no interval.
    level : float
        Level of the interval, between 0 and 1.
    seed : int
        Seed of the half-samples, and of the estimators that draw at random.

    Returns
    -------
    DimensionEstimate, or dict of str to DimensionEstimate
        A dict when ``estimator`` is a sequence, in its order.

    Raises
    ------
    TypeError, ValueError
        If points are not finite numbers of shape [n, dim], too few are distinct for the neighbours needed, an estimator
        is unknown or finds no dimension, or a number is out of range.

    Notes
    -----
    *Duplicates.* Rows that are equal up to rounding count once: a neighbour at distance 0 makes MLE 0, and one that
    only rounding has moved makes it nearly 0. Two rows are equal up to rounding if their distance is at most 64 units
    in the last place of their norm (of the median norm, for a shorter row), in the points' own type; in 16-bit types,
    at most 1 to 4 units, the number with the clearest gap beyond it. If the cloud is itself so dense that no gap
    separates such pairs, only rows that are exactly equal count once. Columns of one number are left out of this
    comparison. In every type, rows nearer than 1e-4 of the distance to their tenth neighbour are equal too, if more
    than 1 % of the rows have such a neighbour and a gap separates them.

    *Types.* Points that need no more digits than a narrower type has are taken to be of that type, such as the points
    of ``hidden_states.float()`` in bfloat16, with 8 binary digits. Exceptions are integers, and numbers that all have
    their last digit in one place, such as multiples of 1/8. Numbers of 16 bits that all lie between 1 and 2 cannot be
    distinguished from such a grid, nor from float64 after arithmetic such as centring: then give the original points.

    *Span.* Points that span r dimensions have at most dimension r. The span is the number of singular values of the
    centred points that exceed their rounding: the norm of all points times the unit of their type (for 16-bit types,
    with each column on the scale of its own rounding, so that a large column hides no others). As n points never span
    more than n - 1 dimensions, points that span n - 1 are only compared with the number of their coordinates. A value
    that sampling noise may have put above r, by at most a fraction of 1/5 + 5 / sqrt(n), is returned; a larger one is
    refused.

    *Equal distances.* All estimators but lPCA, FisherS, ESS and PH use the ratio of a point's distances to two of its
    neighbours, i and k. In d dimensions its logarithm is about log(k / i) / d. If it is less than a tenth of that for
    d = r, in 9 of 10 points, the points are a grid or a simplex and not a random sample, and these estimators refuse
    them. A few ties, as between whole numbers, do no harm. If the two nearest neighbours tie in this way in half of the
    points, as on a line of even steps, any value above r is refused.

    *Extreme rows.* The rule uses distances from the coordinatewise median. A row is set aside if the logarithm of its
    distance lies more than 5 robust standard deviations (1.4826 times the median absolute deviation) above the median,
    and the distance is more than twice the median distance. Rows near the centre do no harm, and are kept. The rule
    keeps all of Gaussian clouds and balls of every dimension; of two groups of points far apart it may set aside the
    smaller, which shows in ``n_outliers``.

    *Interval.* A bootstrap of rows with replacement would make duplicates, and a bootstrap of local estimates would
    treat overlapping neighbourhoods as independent. So the estimate is repeated on random halves of the points, with
    the neighbours that each half has. For statistics that are nearly means, estimates on halves vary about their mean
    as the whole does about its own (Shao and Wu 1989: half is left out, so no factor is needed). Ratios of neighbours'
    distances vary a little more, so that the interval is wider than necessary. It is value * exp(+-z s), with s the
    standard deviation of the logarithm. Halves see farther neighbours, so only their spread is used, not their mean.
    Resampling does not show bias, which grows with the dimension. An estimate that is the same whole number on all
    halves has an interval of width 0. Estimates on halves are kept even if they exceed the span, and the interval may
    exceed it too: without such halves it would be too narrow.

    *Groups.* The interval assumes that points are drawn independently. For 1,000 Gaussian points in R^10 the intervals
    included the mean over draws in 97 % of 120 draws. For 20 tight groups of 100 points they did so in 96 % if all
    groups had one dimension; if each group had its own dimension from 2 to 10, in 42 % (TwoNN) and 3 % (MLE) of 60
    draws, since it matters more which groups are drawn than which points. So a warning is given if points fall into
    groups: if the graph of 10 neighbours falls apart, or if most points have a few neighbours, up to 10, and a gap
    before the next. The gap is measured as a share of all spacings of a point's 11 neighbours, on a scale on which
    spacings are equally distributed in every dimension. It counts if it is over two fifths, in more than 1/2 +
    1 / sqrt(n) of n points. Of 21,600 uniform and Gaussian clouds, balls, spheres, circles and rolls of 10 to 100
    points, 9 give a warning; pairs in a plane may give none.

    *Sharing.* Neighbours are found once, for all half-samples and for TwoNN, MLE, MOM, TLE and ESS together. The other
    estimators search for their own, in the whole cloud and in every half.

    *Settings.* lPCA is the linear dimension (Fukunaga and Olsen's rule: eigenvalues above 5 % of the largest). DANCo is
    calibrated by scikit-dimension's table for 20 to 5,000 points and dimensions up to 100. scikit-dimension's KNN is
    left out, because it draws with replacement and so makes duplicates of its own.

    Examples
    --------
    A plane in 30 dimensions, with a quarter of its points repeated, and one point far away:

    >>> rng = np.random.default_rng(0)
    >>> plane = rng.random((800, 2)) @ rng.standard_normal((2, 30))
    >>> points = np.vstack([plane, plane[:200], np.full((1, 30), 1e4)])
    >>> found = estimate_dimension(points, n_boot=20)
    >>> round(found.value), found.n_used, found.n_duplicates, found.n_outliers
    (2, 800, 200, 1)
    >>> found.interval[0] < found.value < found.interval[1]
    True
    """
    sizes, n_boot = check_estimators("estimate_dimension", estimator, n_neighbors, n_boot)
    # The largest levels would round to 1, which has no quantile.
    quantile = NormalDist().inv_cdf(min((1 + fraction("estimate_dimension: level", level)) / 2, 1 - 2**-53))
    seed = check_seed("estimate_dimension", seed, sizes)
    array = finite_array("estimate_dimension: points", points)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"estimate_dimension: points has shape {array.shape}, but [n, dim] was expected")
    cloud, n_duplicates, n_outliers, rounding = _clean(array, _unit(np.asarray(points).dtype, array))
    for name, size in sizes.items():
        _require(name, size, len(cloud), f"{n_duplicates} duplicates and {n_outliers} extreme ones", bool(n_boot))

    k = max(sizes.values())
    # So many neighbours that a half of the points includes k of them, except for one point in a million.
    known = 2 * k + 10 * math.isqrt(k) + 20 if n_boot else k
    near = _nearest(cloud, min(known, len(cloud) - 1)) if known else None
    if n_boot:
        _warn_of_groups(near)
    rank = _rank(cloud, rounding)
    values = {name: _checked(name, size, cloud, near, seed, rank) for name, size in sizes.items()}
    logs = {name: [] for name in sizes}
    rng = np.random.default_rng(seed)
    for _ in range(n_boot):
        half = np.sort(rng.permutation(len(cloud))[: len(cloud) // 2])
        near_half = _nearest_within(cloud, half, near, k) if k else None
        for name, size in sizes.items():
            logs[name].append(math.log(_fit(name, size, cloud[half], near_half, seed)))
    estimates = {}
    for name, value in values.items():
        factor = math.exp(quantile * np.std(logs[name], ddof=1)) if n_boot else None
        interval = (value / factor, value * factor) if n_boot else None
        estimates[name] = DimensionEstimate(value, interval, len(cloud), n_duplicates, n_outliers)
    return estimates[estimator] if isinstance(estimator, str) else estimates


def _clean(points, unit):
    """Centre and scale the cloud after removing duplicates and outliers.

    Also returns how many of each there were, and the norms of the columns' rounding, shape=[dim].
    """
    # A column of one number changes no distance. A large one would only hide other columns by its rounding.
    varied = (points != points[0]).any(axis=0)
    points = points[:, varied] if varied.any() else points
    # The first of equal rows is kept. Rows are compared as bytes; adding 0 turns -0, which has other bytes, into 0.
    rows = np.ascontiguousarray(points + 0.0).view(np.dtype((np.void, points.shape[1] * points.itemsize))).ravel()
    distinct = points[np.sort(np.unique(rows, return_index=True)[1])]
    with np.errstate(all="ignore"):  # a row too large to be squared equals no other row
        scaled = distinct / np.median(np.abs(distinct).max(axis=1))
        distinct = distinct[distinct_rows(scaled, _reach(scaled, unit))]
    n_duplicates = len(points) - len(distinct)
    if len(distinct) < 3:
        return distinct, n_duplicates, 0, np.zeros(1)
    with np.errstate(over="ignore", divide="ignore"):  # a row too large to be squared is extreme
        centred = distinct - np.median(distinct, axis=0)
        scale = np.median(np.abs(centred).max(axis=1))
        centred /= scale
        logs = np.log(np.linalg.norm(centred, axis=1))
    middle = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - middle))
    ordinary = logs <= middle + max(5 * spread, math.log(2))
    rounding = np.linalg.norm(distinct[ordinary] / scale, axis=0)
    # In wide types the rounding of sums is that of their largest terms, and alike in all columns. Numbers of 16 bits
    # were rounded last, each column on its own scale.
    rounding = np.full_like(rounding, np.linalg.norm(rounding) / rounding.size**0.5) if unit < 1e-4 else rounding
    rounding *= unit / math.exp(middle)
    return centred[ordinary] / math.exp(middle), n_duplicates, int((~ordinary).sum()), rounding


def _unit(own, points):
    """Return the spacing of numbers at 1 in the type `own`, or in a narrower type that can hold all points."""
    unit = np.finfo(own if own.kind == "f" else float).eps
    fraction, exponent = np.frexp(points[points != 0])
    for bits in () if own.kind in "biu" else _BITS:
        digits = fraction * 2.0**bits
        if exponent.size and not (digits % 1).any():
            # Numbers on a grid, such as integers, have their last digits in one place; rounded numbers do not.
            digits = digits.astype(np.int64)
            last = exponent - bits + np.log2(digits & -digits)
            return max(unit, 2.0 ** (1 - bits)) if exponent.max() - last.min() > bits else unit
    return unit


def _reach(rows, unit):
    """Return the distance up to which other rows are copies of each row, shape=[n], judged by at most 1,000 rows."""
    norms, n = np.linalg.norm(rows, axis=1), len(rows)
    some = np.random.default_rng(0).permutation(n)[: max(2, min(1000, 10**7 // n))]
    distances = cdist(rows[some], rows)
    distances[np.arange(len(some)), some] = np.inf
    nearest = distances.min(axis=1)
    reach = np.nan_to_num(unit * np.fmax(norms, np.median(norms)), posinf=0)

    def beyond(units):
        """Count the rows of the sample with others from once to twice the reach, and those with copies within it."""
        own = units * reach[some, None]
        return ((distances > own) & (distances <= 2 * own)).any(axis=1).sum(), (nearest <= own[:, 0]).sum()

    # Copies are recognised by the gap beyond them. A cloud that is itself so dense has no gap.
    by_units = {units: beyond(units) for units in (_UNITS if unit < 1e-4 else _UNITS_16)}
    units = min(by_units, key=lambda units: (by_units[units][0] + 0.1) / (by_units[units][1] + 0.1))
    (loose, copied), reach = by_units[units], units * reach
    dense = 4 * loose > copied
    if dense and copied > 0.1 * len(some):
        message = "points are as close together as rounding may move them, so only exactly equal rows count once"
        warnings.warn(f"estimate_dimension: {message}", stacklevel=5)
    # If the sample has none, there are few at most, and a search among many close rows would take long.
    reach *= not (dense or (not copied and np.median(nearest) < 100 * np.median(reach[some])))
    # Arithmetic in a wider type hides in which type rounding was done, but keeps the gap between copies and neighbours.
    scale = _COPY * np.partition(distances, k := min(_GRAPH, n - 1) - 1, axis=1)[:, [k]]
    copied, loose = nearest <= scale[:, 0], nearest <= 10 * scale[:, 0]
    if copied.mean() > 0.01 and 10 * (loose & ~copied).sum() <= copied.sum():
        widest = 2 * distances[distances <= scale].max()
        reach = np.fmax(reach, widest if (copied | (nearest > widest)).all() else 0)
    return reach


def _warn_of_groups(near):
    """Warn if the graph of neighbours falls apart, or most points are in small groups far from all others."""
    distances, neighbours = near[0][:, : _GRAPH + 1], near[1][:, :_GRAPH]
    edges = np.repeat(np.arange(len(near[1])), neighbours.shape[1]), neighbours.ravel()
    graph = coo_array((np.ones(neighbours.size), edges), shape=[len(near[1])] * 2)
    sizes = np.bincount(connected_components(graph, directed=False)[1])
    # For neighbours j and j + 1, j times the logarithm of the ratio of their distances. If points are spread evenly,
    # these gaps are independent and have one exponential distribution, whatever the dimension.
    with np.errstate(all="ignore"):
        gaps = np.arange(1, distances.shape[1]) * np.diff(np.log(distances))
        # A gap after more than half of all points shows that one point is far away, and not a group.
        apart = np.mean(gaps[:, : len(near[1]) // 2].max(axis=1) > 0.4 * gaps.sum(axis=1))
    large, small = sizes.max() < 0.9 * len(near[1]), apart > 0.5 + 1 / math.sqrt(len(near[1]))
    if large or small:
        found = f"points fall into {len(sizes)} groups without near neighbours in common"
        found = found if large else f"most points are in groups of {_GRAPH + 1} at most, far from all others"
        warnings.warn(
            f"estimate_dimension: {found}; the interval assumes independent points and does not cover other groups",
            stacklevel=3,
        )


def _nearest(cloud, k):
    """Return distances and indices of each point's k nearest neighbours, shape=[n, k] both."""
    near = NearestNeighbors(n_neighbors=k).fit(cloud).kneighbors()
    fine = near[0].min() > _COARSE * np.abs(cloud).max()
    return near if fine else NearestNeighbors(n_neighbors=k, algorithm="ball_tree").fit(cloud).kneighbors()


def _nearest_within(cloud, half, near, k):
    """Find the neighbours of the points `half` among themselves: the first k of the known ones that are in it."""
    place = np.full(len(cloud), -1)
    place[half] = np.arange(len(half))
    distances, neighbours = near[0][half], place[near[1][half]]
    if ((neighbours >= 0).sum(axis=1) < k).any():
        return _nearest(cloud[half], k)
    first = np.argsort(neighbours < 0, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, first, axis=1), np.take_along_axis(neighbours, first, axis=1)


def _fit(name, size, cloud, near, seed):
    """Return one estimate by scikit-dimension; its warnings about the data become errors."""
    # Importing skdim.id silences all warnings of the process, so the filters are restored afterwards.
    with warnings.catch_warnings():
        from skdim import id as estimators

    if cloud.shape[1] == 1:
        cloud = np.hstack([cloud, np.zeros_like(cloud)])  # it needs two coordinates; this is the same cloud
    settings = {
        "TwoNN": {"dist": True},
        "GRIDE": {"n1": size // 2, "n2": size},
        "MLE": {"K": 2},  # for a model of noise that is not used; its default would fail on few points
        "TLE": {"epsilon": 1e-4 * near[0].min() if near else 1e-4},  # it ignores distances below this
        "MiND_ML": {"k": size - 1, "D": cloud.shape[1]},
        "DANCo": {"ver": "DANCoFit", "D": min(cloud.shape[1], 100), "random_state": seed},
        "ESS": {"random_state": seed},
        "PH": {"random_state": seed},
    }.get(name, {})
    fitted = getattr(estimators, name)(**settings)
    fitted._warned, fitted._loc_angles = True, _angles  # it prints nothing; only DANCo computes angles
    given = {}
    if name in _SHARING and name != "TwoNN":
        given = {"n_neighbors": size, "precomputed_knn_arrays": tuple(part[:, :size] for part in near)}
    elif name == "MADA":
        given = {"n_neighbors": size}
    elif name == "GRIDE" and (near[0][:, size // 2 - 1] > (1 - 1e-9) * near[0][:, size - 1]).any():
        # GRIDE ignores ties, which give the highest values. Tiny random shifts part them: the value is then the limit.
        cloud = cloud + 1e-6 * near[0].min() * np.random.default_rng(seed).standard_normal(cloud.shape)
    try:
        # Some estimators divide 0 by 0 and correct the result afterwards.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", UserWarning)
            value = float(fitted.fit(near[0][:, :2] if name == "TwoNN" else cloud, **given).dimension_)
    except (UserWarning, ValueError, ArithmeticError) as error:
        raise ValueError(f"estimate_dimension: {name} fails on points: {' '.join(str(error).split())}") from None
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"estimate_dimension: {name} gives {value} for points, but a positive number was expected")
    return value


def _angles(point, neighbours):
    """Return the angles between neighbours that DANCo uses, without NaN for cosines that rounding puts beyond -1."""
    directions = neighbours - point
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    return np.arccos(np.clip(directions @ directions.T, -1, 1)[np.triu_indices(len(directions), 1)])


def _checked(name, size, cloud, near, seed, rank):
    """Return one estimate for the whole cloud, unless neighbours tie or the value exceeds the points' span."""
    n, dim = cloud.shape
    # n points never span more than n - 1 dimensions, so then the rank says nothing about the cloud.
    most = dim if rank == n - 1 else rank
    inner = size // 2 if name in _HALVING else 1
    if inner < size and name not in _NO_RATIOS and _tie(near, inner, size, most, 0.9):
        raise ValueError(
            f"estimate_dimension: {name} fails on points: most have their neighbours {inner} and {size} at one "
            "distance, as on a grid or a simplex, but distances that differ were expected"
        )
    if name in _SEARCHING and dim > 15 and np.quantile(near[0][:, 0], 0.1) < 0.1 * _COARSE * np.abs(cloud).max():
        raise ValueError(
            f"estimate_dimension: {name} fails on points: a tenth have neighbours nearer than 1e-6 of the largest "
            f"coordinate, but fewer were expected; {', '.join(_SHARING)} can tell these apart"
        )
    value = _fit(name, size, cloud, near, seed)
    even = value > 1.001 * rank and _tie(near or _nearest(cloud, 2), 1, 2, most, 0.5)
    if value > (1.001 * rank if even else most * (1.2 + 5 / math.sqrt(n))):
        raise ValueError(
            f"estimate_dimension: {name} gives {value:.4g} for points with {dim} coordinate{'s' * (dim > 1)}, of rank "
            f"{rank}, but no more than that was expected; if neighbours are at equal distances, as on a grid, no "
            "dimension can be estimated"
        )
    return value


def _tie(near, inner, outer, most, share):
    """Whether, in a share of the points, two neighbours' distances are closer to equal than in a sample in R^most.

    In such a sample the logarithm of the ratio of these distances has the mean log(outer / inner) / most, or about it.
    """
    with np.errstate(all="ignore"):
        ratios = np.log(near[0][:, outer - 1] / near[0][:, inner - 1])
        return bool(np.quantile(ratios, share) <= math.log(outer / inner) / (10 * most))


def _rank(cloud, rounding):
    """Count the dimensions that the points span by more than their rounding, given the norms of its columns."""
    cloud = (cloud - cloud.mean(axis=0)) / np.maximum(rounding, np.finfo(float).tiny)
    return max(1, int((np.linalg.svd(cloud, compute_uv=False) > math.sqrt(rounding.size)).sum()))


def check_estimators(function: str, estimator: Any, n_neighbors: Any, n_boot: Any) -> tuple[dict[str, int], int]:
    """Return how many neighbours each estimator looks at, by name; and the number of half-samples.

    `function` prefixes the messages.
    """
    if not isinstance(estimator, str | Sequence) or not len(estimator):
        raise TypeError(f"{function}: estimator is {one_line(estimator)}, but a name or names were expected")
    n_boot = integer(f"{function}: n_boot", n_boot, 0)
    if n_boot == 1:
        raise ValueError(f"{function}: n_boot is 1, but 0 or at least 2 was expected")
    names = [estimator] if isinstance(estimator, str) else estimator
    return {name: _size(function, name, n_neighbors) for name in names}, n_boot


def check_seed(function: str, seed: Any, names: Iterable[str]) -> int:
    """Return the seed of these estimators, some of which take 32 bits; `function` prefixes the message."""
    return integer(f"{function}: seed", seed, 0, None if _SEEDED.isdisjoint(names) else 2**32 - 1)


def _size(function, name, given):
    if not isinstance(name, str) or name not in _NEIGHBOURS:
        expected = f"one of {', '.join(_NEIGHBOURS)} was expected"
        raise ValueError(f"{function}: estimator is {one_line(name)}, but {expected}")
    if given is None:
        return _NEIGHBOURS[name]
    if name in _FIXED or not _NEIGHBOURS[name]:
        raise ValueError(f"{function}: n_neighbors is {one_line(given)}, but None was expected for {name}")
    size = integer(f"{function}: n_neighbors", given, 2 if name == "GRIDE" else 3)
    if name == "GRIDE" and size % 2:
        raise ValueError(f"{function}: n_neighbors is {one_line(size)}, but an even number was expected for GRIDE")
    return size


def _require(name, size, n, left_out, halves):
    """Refuse points that are too few, or for DANCo too many."""
    low, high = _DANCO if name == "DANCo" else (max(size + 1, _FEWEST), math.inf)
    low *= 2 if halves else 1
    if not low <= n <= high:
        expected = f"at most {high}" if n > high else f"at least {one_line(low)}{' for half-samples' * halves}"
        raise ValueError(
            f"estimate_dimension: points has {n} rows without {left_out}, but {expected} were expected for {name}"
        )
