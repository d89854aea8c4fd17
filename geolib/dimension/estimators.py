"""Classical estimators of intrinsic dimension: scikit-dimension's (Bac et al. 2021), behind one careful call.

They look at distances between points, and are misled where points coincide, if only up to rounding, or one lies far
from all others. Here the first are removed and the second set aside, both are reported, and what an estimator cannot
answer is refused.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from geolib.checks import finite_array, integer, one_line
from geolib.dimension.points import distinct_rows

# Neighbours that each estimator looks at by default, which is scikit-dimension's (0: it has no such number).
_NEIGHBOURS = {
    "TwoNN": 2, "MLE": 20, "GRIDE": 2, "MOM": 100, "TLE": 20, "MADA": 20, "CorrInt": 20, "MiND_ML": 21, "ESS": 100,
    "DANCo": 11, "lPCA": 0, "FisherS": 0, "PH": 0,
}  # fmt: skip
_FIXED = ("TwoNN", "CorrInt", "DANCo")
_SHARING = ("TwoNN", "MLE", "MOM", "TLE", "ESS")  # take neighbours that are known; the others look on their own
_HALVING = ("GRIDE", "MADA", "CorrInt")  # compare a neighbour with that of half its number; the others, with the first
_SEARCHING = ("GRIDE", "CorrInt", "MiND_ML", "DANCo")  # let scikit-learn search, with digits lost as told at _COARSE
_NO_RATIOS = ("lPCA", "FisherS", "ESS", "PH")  # compare none
_FEWEST = 5  # points, whatever the estimator
_DANCO = 20, 5000  # points that its table covers
_BITS = 8, 11, 24  # significant ones of bfloat16, float16, float32
# Units in the last place of a row's norm that are rounding. In float32 states of one text differ by up to some 40, with
# the batch that they were computed in; of 16 bits a cloud can spare few: those with the clearest gap.
_UNITS, _UNITS_16 = (64,), (1, 1.5, 2, 3, 4)
_COPY = 1e-4  # of the usual distance of neighbours: nearer, with nothing between, are copies, whatever the type
# Of the largest coordinate: with more than 15, scikit-learn squares distances as products, and loses digits below.
_COARSE = 1e-5
_GRAPH = 10  # neighbours by which points are told to be in one group: a cloud of any size hangs together by these


@dataclass(frozen=True)
class DimensionEstimate:
    """Intrinsic dimension of a cloud of points, made by `estimate_dimension`.

    Attributes
    ----------
    value : float
        The estimate.
    interval : tuple of float, or None
        For the sampling noise of ``value``, not for its bias; None unless asked for.
    n_used : int
        Points behind it.
    n_duplicates : int
        Rows removed because they equal another, up to rounding.
    n_outliers : int
        Rows set aside for their extreme norm.
    """

    value: float
    interval: tuple[float, float] | None
    n_used: int
    n_duplicates: int
    n_outliers: int


def estimate_dimension(points, estimator="TwoNN", *, n_neighbors=None, n_boot=0, level=0.95, seed=0):
    """Estimate the intrinsic dimension of a cloud of points.

    Parameters
    ----------
    points : array-like, shape=[n, dim]
        Computed with in float64; the type that they come in says what rounding they hold.
    estimator : str or sequence of str
        ``"TwoNN"`` (Facco et al. 2017), ``"MLE"`` (Levina and Bickel 2004), ``"GRIDE"`` (Denti et al. 2022),
        ``"MOM"``, ``"TLE"``, ``"MADA"``, ``"CorrInt"``, ``"MiND_ML"``, ``"DANCo"``, ``"lPCA"``, ``"FisherS"``; slow
        from a few hundred points on: ``"ESS"``, ``"PH"``.
    n_neighbors : int, optional
        How many neighbours of a point to look at: the scale of the answer. By default scikit-dimension's number for
        each estimator. For GRIDE, the outer one of its two neighbours, even; the inner one is half of it.
    n_boot : int
        Half-samples for the interval, at least 2; 0 for none.
    level : float
        Of the interval.
    seed : int
        For the half-samples, and for the estimators that draw at random.

    Returns
    -------
    DimensionEstimate, or dict of str to DimensionEstimate
        A dict when ``estimator`` is a sequence, in its order.

    Raises
    ------
    TypeError, ValueError
        If points are no finite numbers of shape [n, dim], too few are distinct for the neighbours needed, an estimator
        is unknown or finds no dimension, or a number is out of range.

    Notes
    -----
    *Duplicates.* Rows that are equal up to rounding count once: a neighbour at distance 0 makes MLE 0, and one that
    rounding alone has moved makes it nearly 0. Equal up to rounding are two rows whose distance is at most 64 units in
    the last place of their norm (of the median norm, for a shorter row), in the points' own type; in 16-bit types, at
    most 1 to 4 units, whichever has the clearest gap beyond it. Where a cloud is itself so dense that no gap sets such
    pairs apart, only rows that are exactly equal count once. Columns of one number are left out of all this. Whatever
    the type, rows nearer than 1e-4 of the distance to their tenth neighbour are equal too, if more than 1 % of the rows
    have such and a gap sets them apart.

    *Types.* Points that hold no more digits than a narrower type are taken to have come in it, as the points of
    ``hidden_states.float()`` in bfloat16, with 8 binary digits; but not integers, nor numbers that all have their last
    digit in one place, as multiples of 1/8 have. Numbers of 16 bits that all lie between 1 and 2 cannot be told from
    such a grid, nor from float64 after arithmetic such as centring: then give the points as they came.

    *More than all.* Points that span r dimensions have no more than these. The span is the number of singular values of
    the centred points that exceed their rounding: the norm of all points times the unit of their type (of 16-bit types,
    with each column on the scale of its own rounding, so that a large one hides no others). As n points span
    no more than n - 1 dimensions wherever they were drawn, those that span so many are only held to their coordinates.
    A value that sampling noise may have put above r, by no more than a fifth and 5 / sqrt(n) of it, is returned as it
    is; one that is farther above is refused.

    *Equal distances.* All but lPCA, FisherS, ESS and PH learn from the ratio of a point's distances to two of its
    neighbours, i and k: in d dimensions its logarithm is about log(k / i) / d. Where it is less than a tenth of that
    for d = r, in 9 of 10 points, the points are no sample, but a grid or a simplex, and those estimators are refused.
    Some ties, as whole numbers have, do no harm. Where the two nearest neighbours tie so in half of the points, as on a
    line of even steps, a value above r is refused though it be near.

    *Extreme rows.* Distances from the coordinatewise median are taken. A row is set aside if the logarithm of its own
    lies more than 5 robust standard deviations (1.4826 times the median absolute deviation) above the median, and it is
    more than twice the median distance. Rows near the centre harm nobody, and stay. The rule leaves Gaussian clouds
    and balls of every dimension whole; of two groups of points far apart it may set aside the smaller, which shows in
    ``n_outliers``.

    *Interval.* Drawing rows with replacement makes duplicates, and drawing the local estimates of fixed neighbours
    takes overlapping neighbourhoods for independent. So the estimate is repeated on random halves of the points, with
    the neighbours that each half has. For statistics that are nearly means, estimates on halves vary about their mean
    as the whole does about its own (Shao and Wu 1989: half is left out, so no factor is needed); ratios of neighbours'
    distances vary a little more, and the interval is wider than it need be. It is value * exp(+-z s), with s the
    standard deviation of the logarithm. Halves see farther neighbours, so their mean is of no use; only their spread
    is taken. No resampling shows bias, which grows with the dimension. An estimate that is the same whole number on
    all halves has an interval of width 0. What a half gives is kept even where it is more than the points span, and the
    interval may reach beyond that: without such halves it would be too narrow.

    *Groups.* All this is for points that are drawn one by one. Of 1,000 Gaussian points in R^10 the intervals held the
    mean over draws in 97 % of 120 draws. Of 20 tight groups of 100 points they did so in 96 % if the groups were alike,
    but, where each had a dimension of its own from 2 to 10, in 42 % (TwoNN) and 3 % (MLE) of 60 draws: which groups are
    drawn matters more than which points. So a warning says where points fall into groups: where the graph of 10
    neighbours falls apart, and where most points have a few neighbours, up to 10, and a gap before the next. The gap
    is told by what it is of all spacings of a point's 11 neighbours, on the scale on which these are alike in every
    dimension: over two fifths, in more than half of n points and 1 / sqrt(n) of them. Of 21,600 uniform and Gaussian
    clouds, balls, spheres, circles and rolls of 10 to 100 points, 9 are warned of; pairs in a plane may not be.

    *Sharing.* Neighbours are found once, for all half-samples and all of TwoNN, MLE, MOM, TLE and ESS. The others find
    their own, in the whole and in every half.

    *Settings.* lPCA is the linear dimension (Fukunaga and Olsen's rule: eigenvalues above 5 % of the largest). DANCo is
    calibrated by scikit-dimension's table: 20 to 5,000 points and dimension 100 at most. scikit-dimension's KNN is
    left out: it draws with replacement, and so makes duplicates of its own.

    Examples
    --------
    A plane in 30 dimensions, a quarter of its points twice, and one point far away:

    >>> rng = np.random.default_rng(0)
    >>> plane = rng.random((800, 2)) @ rng.standard_normal((2, 30))
    >>> points = np.vstack([plane, plane[:200], np.full((1, 30), 1e4)])
    >>> found = estimate_dimension(points, n_boot=20)
    >>> round(found.value), found.n_used, found.n_duplicates, found.n_outliers
    (2, 800, 200, 1)
    >>> found.interval[0] < found.value < found.interval[1]
    True
    """
    sizes = _sizes(estimator, n_neighbors)
    n_boot = _n_boot(n_boot)
    quantile, seed = NormalDist().inv_cdf((1 + _level(level)) / 2), integer("estimate_dimension: seed", seed, 0)
    cloud, n_duplicates, n_outliers, rounding = _clean(*_points(points))
    for name, size in sizes.items():
        _require(name, size, len(cloud), f"{n_duplicates} duplicates and {n_outliers} extreme ones", bool(n_boot))

    k = max(sizes.values())
    # Enough that a half of the points holds k of a point's neighbours, but for one point in a million.
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
    """Distinct rows of ordinary norm, about their median, on the scale of 1; number of duplicates, of extreme rows."""
    # A column of one number changes no distance, and its rounding none: beside a large one nothing else is lost.
    varied = (points != points[0]).any(axis=0)
    points = points[:, varied] if varied.any() else points
    # Of equal rows the first stays. Adding 0 makes a zero of -0, which has other bits.
    rows = np.ascontiguousarray(points + 0.0).view(np.dtype((np.void, points.shape[1] * points.itemsize))).ravel()
    distinct = points[np.sort(np.unique(rows, return_index=True)[1])]
    with np.errstate(all="ignore"):  # a row too large to be squared is equal to no other
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
    # Sums are off by what their largest terms are, in every column alike. What 16 bits hold was rounded at the end.
    rounding = np.full_like(rounding, np.linalg.norm(rounding) / rounding.size**0.5) if unit < 1e-4 else rounding
    rounding *= unit / math.exp(middle)
    return centred[ordinary] / math.exp(middle), n_duplicates, int((~ordinary).sum()), rounding


def _unit(own, points):
    """Spacing of the numbers at 1 in the type ``own``, or in a narrower one that holds all of the points."""
    unit = np.finfo(own if own.kind == "f" else float).eps
    fraction, exponent = np.frexp(points[points != 0])
    for bits in () if own.kind in "biu" else _BITS:
        digits = fraction * 2.0**bits
        if exponent.size and not (digits % 1).any():
            # Numbers on a grid, such as whole ones, have their last digit in one place; rounded ones, their first.
            digits = digits.astype(np.int64)
            last = exponent - bits + np.log2(digits & -digits)
            return max(unit, 2.0 ** (1 - bits)) if exponent.max() - last.min() > bits else unit
    return unit


def _reach(rows, unit):
    """Distance up to which each row takes others for copies of itself, shape=[n]; from up to 1,000 of the rows."""
    norms, n = np.linalg.norm(rows, axis=1), len(rows)
    some = np.random.default_rng(0).permutation(n)[: max(2, min(1000, 10**7 // n))]
    distances = cdist(rows[some], rows)
    distances[np.arange(len(some)), some] = np.inf
    nearest = distances.min(axis=1)
    reach = np.nan_to_num(unit * np.fmax(norms, np.median(norms)), posinf=0)

    def beyond(units):
        """How many of a sample have others up to twice the reach, how many have copies within it."""
        own = units * reach[some, None]
        return ((distances > own) & (distances <= 2 * own)).any(axis=1).sum(), (nearest <= own[:, 0]).sum()

    # Copies are told by what is missing beyond them. A cloud that is itself so dense has more there.
    by_units = {units: beyond(units) for units in (_UNITS if unit < 1e-4 else _UNITS_16)}
    units = min(by_units, key=lambda units: (by_units[units][0] + 0.1) / (by_units[units][1] + 0.1))
    (loose, copied), reach = by_units[units], units * reach
    dense = 4 * loose > copied
    if dense and copied > 0.1 * len(some):
        message = "points lie as near to each other as rounding may move them; only exactly equal rows count once"
        warnings.warn(f"estimate_dimension: {message}", stacklevel=5)
    # Where none was found there are few at most, and a search among all that are near along a line takes long.
    reach *= not (dense or (not copied and np.median(nearest) < 100 * np.median(reach[some])))
    # Arithmetic in a wider type hides where rounding was done, and leaves the gap between copies and neighbours.
    scale = _COPY * np.partition(distances, k := min(_GRAPH, n - 1) - 1, axis=1)[:, [k]]
    copied, loose = nearest <= scale[:, 0], nearest <= 10 * scale[:, 0]
    if copied.mean() > 0.01 and 10 * (loose & ~copied).sum() <= copied.sum():
        widest = 2 * distances[distances <= scale].max()
        reach = np.fmax(reach, widest if (copied | (nearest > widest)).all() else 0)
    return reach


def _warn_of_groups(near):
    """Warn where the graph of neighbours falls apart, or most points have a few neighbours far from all others."""
    distances, neighbours = near[0][:, : _GRAPH + 1], near[1][:, :_GRAPH]
    edges = np.repeat(np.arange(len(near[1])), neighbours.shape[1]), neighbours.ravel()
    graph = coo_array((np.ones(neighbours.size), edges), shape=[len(near[1])] * 2)
    sizes = np.bincount(connected_components(graph, directed=False)[1])
    # Between neighbours j and j + 1, j times the logarithm of the ratio of their distances: where points are spread
    # evenly these are independent and of one exponential distribution, whatever the dimension.
    with np.errstate(all="ignore"):
        gaps = np.arange(1, distances.shape[1]) * np.diff(np.log(distances))
        # A gap beyond half of all points sets one point apart, and is no group's.
        apart = np.mean(gaps[:, : len(near[1]) // 2].max(axis=1) > 0.4 * gaps.sum(axis=1))
    large, small = sizes.max() < 0.9 * len(near[1]), apart > 0.5 + 1 / math.sqrt(len(near[1]))
    if large or small:
        found = f"points fall into {len(sizes)} groups without near neighbours in common"
        found = found if large else f"most points are in groups of {_GRAPH + 1} at most, far from all others"
        warnings.warn(
            f"estimate_dimension: {found}; intervals take points as drawn one by one, and do not hold for other groups",
            stacklevel=3,
        )


def _nearest(cloud, k):
    """Distances and indices of each point's k nearest neighbours, shape=[n, k] both."""
    near = NearestNeighbors(n_neighbors=k).fit(cloud).kneighbors()
    fine = near[0].min() > _COARSE * np.abs(cloud).max()
    return near if fine else NearestNeighbors(n_neighbors=k, algorithm="ball_tree").fit(cloud).kneighbors()


def _nearest_within(cloud, half, near, k):
    """Neighbours of the points `half` among themselves: the first k of those known that are in it."""
    place = np.full(len(cloud), -1)
    place[half] = np.arange(len(half))
    distances, neighbours = near[0][half], place[near[1][half]]
    if ((neighbours >= 0).sum(axis=1) < k).any():
        return _nearest(cloud[half], k)
    first = np.argsort(neighbours < 0, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, first, axis=1), np.take_along_axis(neighbours, first, axis=1)


def _fit(name, size, cloud, near, seed):
    """One estimate by scikit-dimension; its warnings about the data are errors."""
    # Importing skdim.id silences every warning of the process: the filters are put back.
    with warnings.catch_warnings():
        from skdim import id as estimators

    if cloud.shape[1] == 1:
        cloud = np.hstack([cloud, np.zeros_like(cloud)])  # it wants two coordinates; this is the same cloud
    settings = {
        "TwoNN": {"dist": True},
        "GRIDE": {"n1": size // 2, "n2": size},
        "MLE": {"K": 2},  # for a model of noise that is not used; more than few points have is an error
        "TLE": {"epsilon": 1e-4 * near[0].min() if near else 1e-4},  # it leaves out what is nearer
        "MiND_ML": {"k": size - 1, "D": cloud.shape[1]},
        "DANCo": {"ver": "DANCoFit", "D": min(cloud.shape[1], 100), "random_state": seed},
        "ESS": {"random_state": seed},
        "PH": {"random_state": seed},
    }.get(name, {})
    fitted = getattr(estimators, name)(**settings)
    fitted._warned, fitted._loc_angles = True, _angles  # nothing is printed; of these only DANCo takes angles
    given = {}
    if name in ("MLE", "MOM", "TLE", "ESS"):
        given = {"n_neighbors": size, "precomputed_knn_arrays": tuple(part[:, :size] for part in near)}
    elif name == "MADA":
        given = {"n_neighbors": size}
    elif name == "GRIDE" and (near[0][:, size // 2 - 1] > (1 - 1e-9) * near[0][:, size - 1]).any():
        # It would leave ties out, and with them what is highest: parted by next to nothing, they have their limit.
        cloud = cloud + 1e-6 * near[0].min() * np.random.default_rng(seed).standard_normal(cloud.shape)
    try:
        # 0 / 0 is a matter of course to some of them, which put it right afterwards.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", UserWarning)
            value = float(fitted.fit(near[0][:, :2] if name == "TwoNN" else cloud, **given).dimension_)
    except (UserWarning, ValueError, ArithmeticError) as error:
        raise ValueError(f"estimate_dimension: {name} fails on points: {' '.join(str(error).split())}") from None
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"estimate_dimension: {name} gives {value} for points, expected a positive number")
    return value


def _angles(point, neighbours):
    """Angles between neighbours as DANCo sees them: cosines that rounding puts beyond -1 are no NaN."""
    directions = neighbours - point
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    return np.arccos(np.clip(directions @ directions.T, -1, 1)[np.triu_indices(len(directions), 1)])


def _checked(name, size, cloud, near, seed, rank):
    """One estimate for the whole cloud; refused where its neighbours tie, or above what the points span."""
    n, dim = cloud.shape
    # As many points as dimensions span no more, wherever they were drawn.
    most = dim if rank == n - 1 else rank
    inner = size // 2 if name in _HALVING else 1
    if inner < size and name not in _NO_RATIOS and _tie(near, inner, size, most, 0.9):
        raise ValueError(
            f"estimate_dimension: {name} fails on points: most have their neighbours {inner} and {size} at one "
            "distance, as on a grid or a simplex, expected distances that differ"
        )
    if name in _SEARCHING and dim > 15 and np.quantile(near[0][:, 0], 0.1) < 0.1 * _COARSE * np.abs(cloud).max():
        raise ValueError(
            f"estimate_dimension: {name} fails on points: a tenth have neighbours nearer than 1e-6 of the largest "
            f"coordinate, expected fewer; {', '.join(_SHARING)} can tell these apart"
        )
    value = _fit(name, size, cloud, near, seed)
    even = value > 1.001 * rank and _tie(near or _nearest(cloud, 2), 1, 2, most, 0.5)
    if value > (1.001 * rank if even else most * (1.2 + 5 / math.sqrt(n))):
        raise ValueError(
            f"estimate_dimension: {name} gives {value:.4g} for points with {dim} coordinate{'s' * (dim > 1)}, of rank "
            f"{rank}, expected no more than that; where neighbours are at equal distances, as on a grid, no dimension "
            "can be estimated"
        )
    return value


def _tie(near, inner, outer, most, share):
    """Whether a share of the points has two neighbours nearer to one distance than a sample in R^most would.

    There the logarithm of the ratio of these two distances has about the mean log(outer / inner) / most.
    """
    with np.errstate(all="ignore"):
        ratios = np.log(near[0][:, outer - 1] / near[0][:, inner - 1])
        return bool(np.quantile(ratios, share) <= math.log(outer / inner) / (10 * most))


def _rank(cloud, rounding):
    """How many dimensions the points span by more than the matrix of all errors, given the norms of its columns."""
    cloud = (cloud - cloud.mean(axis=0)) / np.maximum(rounding, np.finfo(float).tiny)
    return max(1, int((np.linalg.svd(cloud, compute_uv=False) > math.sqrt(rounding.size)).sum()))


def _points(points):
    """Points in float64, and the unit in the last place that they came with."""
    array = finite_array("estimate_dimension: points", points)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"estimate_dimension: points has shape {array.shape}, expected [n, dim]")
    return array, _unit(np.asarray(points).dtype, array)


def _sizes(estimator, n_neighbors):
    """How many neighbours each estimator looks at, by name."""
    if not isinstance(estimator, str | Sequence) or not len(estimator):
        raise TypeError(f"estimate_dimension: estimator is {one_line(estimator)}, expected a name or names")
    return {name: _size(name, n_neighbors) for name in ([estimator] if isinstance(estimator, str) else estimator)}


def _size(name, n_neighbors):
    if not isinstance(name, str) or name not in _NEIGHBOURS:
        raise ValueError(f"estimate_dimension: estimator is {one_line(name)}, expected one of {', '.join(_NEIGHBOURS)}")
    if n_neighbors is None:
        return _NEIGHBOURS[name]
    if name in _FIXED or not _NEIGHBOURS[name]:
        raise ValueError(f"estimate_dimension: n_neighbors is {one_line(n_neighbors)}, but {name} takes none")
    size = integer("estimate_dimension: n_neighbors", n_neighbors, 2 if name == "GRIDE" else 3)
    if name == "GRIDE" and size % 2:
        raise ValueError(f"estimate_dimension: n_neighbors is {size}, but GRIDE takes an even number")
    return size


def _n_boot(n_boot):
    n_boot = integer("estimate_dimension: n_boot", n_boot, 0)
    if n_boot == 1:
        raise ValueError("estimate_dimension: n_boot is 1, expected 0 or at least 2")
    return n_boot


def _level(level):
    number = finite_array("estimate_dimension: level", level)
    if number.shape != () or not 0 < number < 1:
        raise ValueError(f"estimate_dimension: level is {one_line(level)}, expected a number between 0 and 1")
    return float(number)


def _require(name, size, n, left_out, halves):
    """Refuse points that are too few, or for DANCo too many."""
    low, high = _DANCO if name == "DANCo" else (max(size + 1, _FEWEST), math.inf)
    low *= 2 if halves else 1
    if not low <= n <= high:
        expected = f"at least {low}" if n < low else f"at most {high}"
        raise ValueError(
            f"estimate_dimension: points has {n} rows without {left_out}, but {name} needs {expected}"
            + (" for half-samples" if halves and n < low else "")
        )
