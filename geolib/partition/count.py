"""Regions that hyperplanes, or the layers of a network, cut a space into: exact counts, bounds and an estimate."""

from collections import Counter
from collections.abc import Iterable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, repeat
from math import gcd, lcm, log2
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from geolib.checks import above_zero, finite_array, flag, integer, masked, no_array, one_line
from geolib.partition.rounding import refuse_more

# Rounding errors that `count_in_ball` allows for, relative to the radius: 64 times the unit of float64, before it
# grows with the condition of the hyperplanes that meet.
ROUNDING = 64 * np.finfo(np.float64).eps
NEARLY_PARALLEL = 1e-5  # sine of an angle between hyperplanes; below it float64 would lose too many digits
LARGEST = 2 * 10**10  # bits of all terms of a bound: takes seconds, and less than a gigabyte
MOST_DIMS = 1_000_000  # of a ball with an expected number of regions: takes seconds
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


def max_regions(n_hyperplanes: int, dim: int, *, central: bool = False) -> int:
    """Largest number of regions that hyperplanes can cut R^dim into.

    Attained in general position (Schlaefli 1901, Buck 1943): the sum over k <= dim of C(n, k); for hyperplanes through
    the origin, twice the same sum for n - 1 and dim - 1. Without hyperplanes, or in R^0 (a point), there is one region.

    Parameters
    ----------
    n_hyperplanes : int
        Number of hyperplanes n, for instance the neurons of one hidden layer; at least 0.
    dim : int
        Dimension of the space, at least 0.
    central : bool
        Whether all hyperplanes pass through the origin, as they do for a layer without biases.

    Returns
    -------
    int
        The maximum, exact.

    Raises
    ------
    TypeError
        If a count is not an integer (booleans are rejected), or `central` is not True or False.
    ValueError
        If a count is negative, or the terms of the sum have more than 2e10 bits in total (dim = 20,000 and n = 1e12
        have half of that).

    References
    ----------
    L. Schlaefli, Theorie der vielfachen Kontinuitaet, Zurich 1901.
    R. C. Buck, Partition of space, American Mathematical Monthly 50 (1943), 541-544.

    Examples
    --------
    >>> max_regions(50, 2)
    1276
    >>> max_regions(50, 2, central=True)
    100
    """
    n, dim = integer("max_regions: n_hyperplanes", n_hyperplanes, 0), integer("max_regions: dim", dim, 0)
    _refuse_large("max_regions: n_hyperplanes and dim", 1 if n <= dim else dim, [n], dim)
    if flag("max_regions: central", central) and n and dim:
        # One hyperplane cuts space into halves. A parallel of it inside a half meets every region of the half, and the
        # other hyperplanes cut this parallel, which has one dimension less.
        return 2 * max_regions(n - 1, dim - 1)
    return 2**n if n <= dim else sum(_binomials(n, dim))  # with enough dimensions, every pattern occurs


def count_arrangement(normals: ArrayLike, offsets: ArrayLike, *, limit: int = 500_000) -> int:
    """Exact number of regions that hyperplanes in any position cut all of R^dim into.

    A hyperplane is {x : normals[i] @ x + offsets[i] = 0}. Parallel, concurrent and repeated ones are counted as they
    are: proportional rows are one hyperplane, and a zero normal with an offset is the empty set, which cuts nothing.

    Parameters
    ----------
    normals : array-like, shape=[n, dim]
        Integers of any size, fractions, or floats: a float is taken as the rational number it is.
    offsets : array-like, shape=[n]
        Numbers of the same kinds.
    limit : int
        Largest number of flats of one dimension that may be visited.

    Returns
    -------
    int
        The number of regions, (-1)^dim chi(-1) for the characteristic polynomial chi (Zaslavsky 1975).

    Raises
    ------
    TypeError
        If `normals` or `offsets` is not an array of real numbers, or `limit` not an integer.
    ValueError
        If a shape is wrong, a number is NaN or infinite, a normal and its offset are both zero, or there are more
        flats than `limit`.

    Notes
    -----
    Deletion and restriction: adding the i-th hyperplane adds as many regions as the hyperplanes before it cut the i-th
    one into. Equal restrictions are counted once, with a multiplicity. In the worst case the work grows with the number
    of flats (distinct intersections) times the number of hyperplanes that cut each of them; in structured arrangements
    it is far less: a few hundred restrictions give the 12! regions of the braid arrangement in R^12. With 40
    hyperplanes or fewer a flat takes about 50 microseconds and some kilobytes: at the limit, half a minute and a
    gigabyte. With more it takes longer: in the plane each of n lines is cut in up to n points, and takes 0.65 ms for
    n = 300 and 1.7 ms for n = 1,200. Forty hyperplanes in general position in R^7 exceed the limit, with C(40, 5) flats
    in one dimension; in general position `max_regions` gives the count.

    References
    ----------
    T. Zaslavsky, Facing up to arrangements, Memoirs of the American Mathematical Society 154, 1975.

    Examples
    --------
    Three lines in general position, three through a point, and two of three parallel:

    >>> normals = [[1, 0], [0, 1], [1, 1]]
    >>> count_arrangement(normals, [0, 0, 1]), count_arrangement(normals, [0, 0, 0])
    (7, 6)
    >>> count_arrangement([[1, 0], [0, 1], [2, 0]], [0, 0, 1])
    6
    """
    limit = integer("count_arrangement: limit", limit, 1)
    total, level = 0, Counter([_hyperplanes(normals, offsets)])
    while level:  # the arrangements of one dimension, and the multiplicity of each
        below: Counter[tuple] = Counter()
        for rows, times in level.items():
            total += times
            if rows and len(rows[0]) == 2:  # on a line, each point adds one region
                total += times * len(rows)
                continue
            for i, row in enumerate(rows):
                below[_restrict(rows[:i], row)] += times
            refuse_more("count_arrangement", limit, len(below), "flats")
        level = below
    return total


def count_in_ball(normals: ArrayLike, offsets: ArrayLike, radius: float, *, limit: int = 5_000_000) -> int:
    """Count the regions that hyperplanes in general position cut an open ball around the origin into.

    A region counts if it meets the ball. For a ball around c, pass offsets + normals @ c.

    Parameters
    ----------
    normals : array-like, shape=[n, dim]
        Row i stands for the hyperplane {x : normals[i] @ x + offsets[i] = 0}, as in `count_arrangement`.
    offsets : array-like, shape=[n]
    radius : float
        Radius of the ball, above 0.
    limit : int
        Largest number of regions that may be counted.

    Returns
    -------
    int
        The number of flats (intersections of up to dim hyperplanes, the whole space included) that meet the ball.

    Raises
    ------
    TypeError
        If an argument is not an array of real numbers, or `limit` not an integer.
    ValueError
        If hyperplanes that meet in the ball are not in general position, or a flat touches the sphere (both decided
        up to rounding); if there are more than `limit` regions, a shape or a number is wrong, or a normal and its
        offset are both zero.

    Notes
    -----
    In general position, k hyperplanes meet in a flat of dimension dim - k or not at all. Then an open convex set has as
    many regions as flats that meet it (Zaslavsky 1977; each flat has a Moebius number of +-1). Flats are built up
    hyperplane by hyperplane, each with its point nearest to the origin, and are dropped once that point is outside;
    time grows with the count times n. The intersections of nearly parallel hyperplanes are computed in rational
    arithmetic, which takes about 0.1 ms for each such flat.

    References
    ----------
    T. Zaslavsky, A combinatorial analysis of topological dissections, Advances in Mathematics 25 (1977), 267-285.

    Examples
    --------
    Two lines that cross at (2, 0), seen from near and from far:

    >>> normals, offsets = [[1, 1], [1, -1]], [-2, -2]
    >>> [count_in_ball(normals, offsets, radius) for radius in (1, 1.5, 2.5)]
    [1, 3, 4]
    """
    exact, limit = _ExactFlats(normals, offsets, radius), integer("count_in_ball: limit", limit, 1)
    normals, offsets = _unit_rows(normals, offsets, radius)
    n, dim = normals.shape
    whole = np.zeros((1, 0), dtype=np.intp), np.zeros((1, 0, dim)), np.zeros((1, dim)), np.full(1, ROUNDING)
    total, waiting = 1, [whole]
    while waiting:
        deeper = _deeper(*waiting.pop(), normals, offsets, exact)
        total += len(deeper[0])
        refuse_more("count_in_ball", limit, total)
        chunk = 1 + 2**17 // n if n else 1  # bounds the memory
        waiting += [tuple(a[k : k + chunk] for a in deeper) for k in range(0, len(deeper[0]), chunk)]
    return total


def expected_regions(n_neurons: int, dim: int, *, radius: float = np.inf, bias_scale: float = 1.0) -> float:
    """Compute the expected number of regions that a random layer cuts an open ball around the origin into.

    All weights are independent and N(0, w^2), all biases N(0, b^2); only s = b / w matters, the `bias_scale`.

    Parameters
    ----------
    n_neurons : int
        Number of neurons n, at least 0.
    dim : int
        Dimension d of the ball, at least 0; at most 1,000,000 if its radius is finite.
    radius : float
        Radius R of the ball, above 0. By default it is infinite: all of R^d.
    bias_scale : float
        Standard deviation of the biases divided by that of the weights, s, at least 0.

    Returns
    -------
    float
        The expectation, rounded correctly to float64 (the terms are summed with 60 digits); infinity if it is above
        the largest float.

    Raises
    ------
    TypeError
        If a count is not an integer, or another argument is not a number (booleans are rejected).
    ValueError
        If a number is NaN or out of its range.

    Notes
    -----
    An open ball has as many regions as flats that meet it (see `count_in_ball`). The k hyperplanes W x = -b meet in a
    flat whose nearest point to the origin has the squared length b' (W W')^-1 b, and this is s^2 times a chi-square
    variable with k degrees of freedom over an independent one with d - k + 1 (Bartlett's decomposition of W W'). So a
    flat meets the ball with probability I_x(k/2, (d - k + 1)/2), where x = R^2 / (R^2 + s^2) and I is the regularised
    incomplete beta function, and

        E = sum over k = 0, ..., min(n, d) of C(n, k) I_x(k/2, (d - k + 1)/2), where the term k = 0 is 1.

    As R grows, E approaches `max_regions`; as n grows, E / n^d approaches I_x(d/2, 1/2) / d!.

    Without biases (s = 0) all hyperplanes meet in the origin and are not in general position: every ball contains all
    ``max_regions(n, d, central=True)`` regions. That is the value at s = 0. If n > d it is less than the limit of s to
    0, which is ``max_regions(n, d)`` for every radius: even the smallest biases make new regions around the origin.

    A layer without biases (such as the gates of Llama) in a ball of radius R around a point p depends on ``R / |p|``
    alone. In a slice p + V with a subspace V orthogonal to p, the values W p are biases independent of W on V, of the
    scale ``|p|``: ``expected_regions(n, d, radius=R, bias_scale=|p|)`` with d = dim V. In all of R^d (or a subspace
    with p in it) W p is not independent of W. Regions are cones there, so a ball that misses the origin meets as many
    as its shadow on the slice through p does, which has dimension d - 1 and radius ``R |p| / sqrt(|p|^2 - R^2)``. A
    ball with the origin in it has all.

    Examples
    --------
    Thirty neurons in the plane, in three balls and in all of it:

    >>> [round(expected_regions(30, 2, radius=radius), 1) for radius in (0.1, 1, 10, np.inf)]
    [6.1, 149.6, 422.6, 466.0]
    """
    n, dim = integer("expected_regions: n_neurons", n_neurons, 0), integer("expected_regions: dim", dim, 0)
    bias = above_zero("expected_regions: bias_scale", bias_scale, zero=True)
    infinite = isinstance(radius, Real) and radius == np.inf
    if not infinite:
        radius = above_zero("expected_regions: radius", radius)
        if dim > MOST_DIMS:
            raise ValueError(
                f"expected_regions: dim is {one_line(dim)}, but at most {MOST_DIMS} was expected in a ball"
            )
    if not bias:
        return 2 * expected_regions(n - 1, dim - 1) if n and dim else 1.0  # as `max_regions` with `central`
    with localcontext(Context(prec=60, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])):
        total, sets = Decimal(0), Decimal(1)  # sets of k hyperplanes
        shares = repeat(1) if infinite else _shares_met(dim, radius, bias)
        for k, share in zip(range(min(n, dim) + 1), shares, strict=False):
            total += sets * share
            if total.adjusted() > 310:  # infinite as a float
                break
            sets = sets * (n - k) / (k + 1)
        return float(total)


def region_bound(widths: Iterable[int], dim: int) -> int:
    """Upper bound on the number of regions of a deep ReLU network, in all of its input space or any part of it.

    Theorem 1 of Serra, Tjandraatmadja and Ramalingam (2018): the sum of the products C(n_1, j_1) ... C(n_L, j_L) over
    all j with j_l <= min(dim, n_1 - j_1, ..., n_(l-1) - j_(l-1), n_l). With one layer it is `max_regions`. It is proved
    for ReLU, and does not apply to leaky ReLU: its proof counts on the dimensions that inactive neurons take away.

    Parameters
    ----------
    widths : sequence of int
        Neurons n_1, ..., n_L of each hidden layer, at least 0.
    dim : int
        Dimension of the input, or of an affine slice of the input space; at least 0.

    Returns
    -------
    int
        The bound, exact.

    Raises
    ------
    TypeError
        If `widths` is not a sequence, or a number is not an integer (booleans are rejected).
    ValueError
        If `widths` is empty, a number is negative, or the terms of the sum have more than 2e10 bits in total.

    References
    ----------
    T. Serra, C. Tjandraatmadja, S. Ramalingam, arXiv 1711.02114.

    Examples
    --------
    >>> region_bound([50], 2), region_bound([25, 25], 2)
    (1276, 106276)
    """
    dim = integer("region_bound: dim", dim, 0)
    try:
        widths = list(widths)
    except TypeError:
        raise TypeError(f"region_bound: widths is {one_line(widths)}, but a sequence was expected") from None
    if not widths:
        raise ValueError("region_bound: widths is empty, but at least one hidden layer was expected")
    widths = [integer(f"region_bound: widths[{layer}]", width, 0) for layer, width in enumerate(widths)]
    _refuse_large("region_bound: widths and dim", 16 * min(dim, widths[0]), widths, dim)
    # Invariant: by_rank[t] is the sum of the products over the layers so far whose running minimum is t. The running
    # minimum bounds the rank of the affine map of a region.
    by_rank = [0] * min(dim, widths[0]) + [1]
    for n in widths:
        rank = len(by_rank) - 1
        choices = list(_binomials(n, rank))
        up_to = list(accumulate(choices))
        at_least = [*reversed(list(accumulate(reversed(by_rank)))), 0]
        # The minimum is t after this layer if it was t and j <= n - t, or if it was larger and j = n - t.
        by_rank = [
            by_rank[t] * up_to[min(t, n - t)] + (choices[n - t] * at_least[max(t + 1, n - t)] if n - t <= rank else 0)
            for t in range(min(n, rank) + 1)
        ]
    return sum(by_rank)


def effective_regions(values: ArrayLike) -> float:
    """Estimate the inverse of the probability that two random points of a set lie in the same region.

    The inverse is at most the number of regions, with equality if all are equally likely (Simpson 1949; Hill 1973, with
    order 2).

    Parameters
    ----------
    values : array-like, shape=[n, n_hyperplanes]
        Values of the hyperplanes' affine functions at n independent points of the set, n >= 2. A region is a pattern
        of values > 0.

    Returns
    -------
    float
        Number of pairs of points divided by the number of pairs with equal patterns; the inverse ratio is an unbiased
        estimate of the probability. Infinity if no two points share a pattern: then n points are too few.

    Raises
    ------
    TypeError, ValueError
        If `values` holds something else than finite numbers, or has another shape.

    Examples
    --------
    One line through a square cuts off a quarter of its area: 1 / (0.75^2 + 0.25^2) = 1.6.

    >>> points = np.random.default_rng(0).random((20_000, 2))
    >>> round(effective_regions(points[:, :1] - 0.25), 1)
    1.6
    """
    values = finite_array("effective_regions: values", values)
    if values.ndim != 2 or len(values) < 2:
        raise ValueError(f"effective_regions: values has shape {values.shape}, but [n > 1, hyperplanes] was expected")
    sizes = Counter(pattern.tobytes() for pattern in np.packbits(values > 0, axis=1)).values()
    together = sum(size * (size - 1) for size in sizes)
    return len(values) * (len(values) - 1) / together if together else np.inf


def _binomials(n, dim):
    """Binomial coefficients C(n, k) for all k <= min(n, dim), each computed from the one before."""
    return accumulate(range(1, min(n, dim) + 1), lambda c, k: c * (n - k + 1) // k, initial=1)


def _shares_met(dim, radius, bias):
    """Share of the flats of k random hyperplanes that meet a ball, I_x(k/2, (dim - k + 1)/2), for k = 0, ..., dim."""
    near, far = (Decimal(float(length)) ** 2 for length in (radius, bias))
    near, far = near / (near + far), far / (near + far)  # x and 1 - x
    # With Gamma((dim + 1)/2) / (Gamma(dim/2 + 1) Gamma(1/2)), the two shares of largest k.
    factor = 2 / PI if dim % 2 else Decimal(1)
    for k in range(2 + dim % 2, dim + 1, 2):
        factor = factor * (k - 1) / k
    last = factor * near.sqrt() ** dim * far.sqrt()
    if 2 * far > 1 or dim * far > 60:
        share = last * _series(dim + 1, dim + 2, near)
    else:  # 1 - I_(1-x)(1/2, dim/2) converges faster, and at most 14 of the 60 digits cancel
        share = 1 - dim * last * _series(dim + 1, 3, far)
    # I_x(a, b) = I_x(a + 1, b - 1) + x^a (1 - x)^(b - 1) / (a B(a, b)): a sum of positive terms, in which none cancel.
    shares, term, before = [Decimal(0), share], near.sqrt() ** (dim - 1), last / far
    for k in reversed(range(dim)):
        shares.append(shares[-2] + term)
        term, before = before * (k + 1) / (dim - k) * far / near, term
    return shares[:0:-1]


def _series(above, below, x):
    """Sum over j >= 0 of the products over i < j of x (above + 2 i) / (below + 2 i)."""
    total = term = Decimal(1)
    while term > total * (1 - x) / 10**60:
        term = term * x * above / below
        above, below, total = above + 2, below + 2, total + term
    return total


def _refuse_large(given, n_numbers, widths, dim):
    """Raise if `n_numbers` numbers of the size that `max_regions` gives for these widths would fill the memory."""
    ranks = [min(n, dim, 10**12) for n in widths]
    bits = sum(min(n, k * (log2(n) - log2(k) + 1.5)) for n, k in zip(widths, ranks, strict=True) if k)
    if min(n_numbers, LARGEST) * bits > LARGEST:
        size = log2(n_numbers) + log2(bits)
        raise ValueError(f"{given} need numbers of 2^{size:.0f} bits in total, but at most {LARGEST:.0e} was expected")


def _hyperplanes(normals, offsets):
    """Distinct hyperplanes as primitive integer rows (normal, offset), in coordinates that suit the count."""
    normals = exact_array("count_arrangement: normals", normals)
    offsets = exact_array("count_arrangement: offsets", offsets)
    empty = _empty_sets("count_arrangement", normals, offsets)
    # Rows with few coordinates come first: the other hyperplanes have few different restrictions to them.
    rows = sorted(_essential(np.column_stack([normals, offsets])[~empty].tolist()), key=lambda row: sum(map(bool, row)))
    return tuple(dict.fromkeys(_primitive(_whole(row)) for row in rows))


def _essential(rows):
    """Change coordinates so that the first independent rows become unit vectors with offset 0.

    This is Gauss-Jordan elimination on the columns of rows of fractions. Coordinates that no hyperplane depends on are
    dropped.
    """
    *columns, offset = map(list, zip(*rows, strict=True)) if rows else [[]]
    done = []
    for i in range(len(rows)):
        pivot = next((column for column in columns if column[i]), None)
        if pivot is None:  # depends on the rows before
            continue
        columns.remove(pivot)
        pivot = [entry / pivot[i] for entry in pivot]
        for column in (*columns, *done, offset):
            if factor := column[i]:
                column[:] = [a - factor * b for a, b in zip(column, pivot, strict=True)]
        done.append(pivot)
    return zip(*done, offset, strict=True)


def _restrict(rows, onto):
    """Restrict the hyperplanes `rows` to the hyperplane `onto`, which has one coordinate fewer."""
    # Always eliminate the last possible coordinate: then a flat has the same coordinates however it is reached, and
    # equal restrictions are recognised as equal.
    last = max(k for k, slope in enumerate(onto[:-1]) if slope)
    pivot, rest = onto[last], onto[:last] + onto[last + 1 :]
    cut = {}
    for row in rows:
        slope, row = row[last], row[:last] + row[last + 1 :]
        if slope:
            row = tuple([pivot * a - slope * b for a, b in zip(row, rest, strict=True)])
        if any(row[:-1]):  # else parallel to it
            cut[_primitive(row) if slope else row] = None
    return tuple(cut)


def _whole(row):
    """Multiply a row of fractions by their common denominator."""
    scale = lcm(*(entry.denominator for entry in row))
    return tuple(int(entry * scale) for entry in row)


def _primitive(row):
    """Divide a row of integers by their greatest common divisor, signed so that proportional rows become equal."""
    divisor = gcd(*row)
    if next(entry for entry in row if entry) < 0:
        divisor = -divisor
    return row if divisor == 1 else tuple([entry // divisor for entry in row])


def _unit_rows(normals, offsets, radius):
    """Check the arguments of `count_in_ball`, and scale them to unit normals and the unit ball."""
    normals = finite_array("count_in_ball: normals", normals)
    offsets = finite_array("count_in_ball: offsets", offsets)
    empty = _empty_sets("count_in_ball", normals, offsets)
    radius = above_zero("count_in_ball: radius", radius)
    # Powers of 2 bring the radius and each normal near 1, because float64 loses digits below 1e-307.
    size, length = np.frexp(np.abs(normals).max(axis=1, initial=0))[1], np.frexp(radius)[1]
    with np.errstate(over="ignore"):
        normals, offsets = np.ldexp(normals, -size[:, None]), np.ldexp(offsets, -size - length)
        radius, length = np.ldexp(radius, -length), np.where(empty, 1, np.hypot.reduce(normals, axis=1))
        distance = offsets / length / radius
    # A hyperplane that misses the ball is put at distance 2: also the empty set, and distances that would overflow.
    return normals / length[:, None], np.where(empty, 2, np.clip(distance, -2, 2))


class _ExactFlats:
    """Intersections of hyperplanes in rational arithmetic, for nearly parallel ones, where float64 is too coarse."""

    def __init__(self, normals, offsets, radius):
        self._given = normals, offsets, radius

    @cached_property
    def _hyperplanes(self):
        normals, offsets, radius = (exact_array("count_in_ball", given) for given in self._given)
        return normals, offsets / radius.item()

    @cached_property
    def _directions(self):
        """A number for each hyperplane; parallel hyperplanes have the same number."""
        known = {}
        rows = self._hyperplanes[0].tolist()
        return np.array([known.setdefault(_primitive(_whole(row)) if any(row) else (), len(known)) for row in rows])

    def meet(self, names, members):
        """For each set of hyperplanes whose last one cuts the intersection of the others, return where it does.

        Returns
        -------
        dict
            By name: the unit normal of the last hyperplane within that intersection, and the point of the new
            intersection that is nearest to the origin, in units of the radius and clipped to 2.
        """
        if not len(names):
            return {}
        direction = self._directions[members]
        apart = (direction[:, :-1] != direction[:, -1:]).all(axis=1)
        found = {name: self._meet(some) for name, some in zip(names[apart], members[apart], strict=True)}
        return {name: flat for name, flat in found.items() if flat}

    def _meet(self, members):
        """Gram-Schmidt without square roots: `rest` is the part of a normal that is orthogonal to those before."""
        normals, offsets = self._hyperplanes
        basis, point = [], 0 * normals[0]
        for i in members:
            rest, value = normals[i], normals[i] @ point + offsets[i]
            for other in basis:
                rest = rest - (rest @ other) / (other @ other) * other
            if not rest.any():
                return None
            basis.append(rest)
            point = point - value / (rest @ rest) * rest
        normal = (rest / abs(rest).max()).astype(float)
        return normal / np.linalg.norm(normal), point.clip(-2, 2).astype(float)


def _deeper(members, frame, point, noise, normals, offsets, exact):
    """Flats inside the unit ball in which one more hyperplane, of a higher index, meets each of the given flats.

    Parameters
    ----------
    members : int array, shape=[n_flats, k]
        The hyperplanes that meet in each flat, ascending.
    frame : array, shape=[n_flats, k, dim]
        Orthonormal basis of their normals.
    point : array, shape=[n_flats, dim]
        The flat's point nearest to the origin.
    noise : array, shape=[n_flats]
        Bound on the rounding errors of frame and point, relative to their length.
    normals, offsets : array, shape=[n, dim] and shape=[n]
        All hyperplanes, with unit normals.
    exact : _ExactFlats
        The same hyperplanes.

    Returns
    -------
    members, frame, point, noise
        The same of the new flats, with k + 1 in place of k.
    """
    last = members[:, -1:] if members.shape[1] else np.full((1, 1), -1)
    flat, new = np.nonzero(np.arange(len(normals)) > last)
    members = np.column_stack([members[flat], new])
    frame, noise, normal = frame[flat], noise[flat], normals[new]
    for _ in range(2):  # Gram-Schmidt, twice: the second pass removes what rounding left
        along = np.einsum("fkd,fd->fk", frame, normal)
        normal = normal - np.einsum("fk,fkd->fd", along, frame)
    length = np.linalg.norm(normal, axis=1)
    value = np.einsum("fd,fd->f", normals[new], point[flat]) + offsets[new]
    size = np.linalg.norm(point, axis=1)[flat] + np.abs(offsets[new])
    cuts = length > noise
    met = {}
    if frame.shape[1] < frame.shape[2]:
        nearly = np.flatnonzero(length <= np.maximum(noise, NEARLY_PARALLEL))
        met = exact.meet(nearly, members[nearly])
        cuts[nearly], length[list(met)] = np.isin(nearly, list(met)), 1
    _refuse_any(~cuts & (np.abs(value) <= noise * size), members, "are not in general position", "a simple arrangement")
    flat, members, frame, noise = flat[cuts], members[cuts], frame[cuts], noise[cuts]
    length, normal = length[cuts], normal[cuts] / length[cuts, None]
    point = point[flat] - (value[cuts] / length)[:, None] * normal
    noise = (noise + ROUNDING) / length
    for i, flats in met.items():
        at = np.count_nonzero(cuts[:i])
        (normal[at], point[at]), noise[at] = flats, ROUNDING
    distance = np.linalg.norm(point, axis=1)
    _refuse_any(np.abs(distance - 1) <= noise, members, "meet on the sphere up to rounding", "another radius")
    inside = distance < 1
    frame = np.concatenate([frame, normal[:, None]], axis=1)
    return members[inside], frame[inside], point[inside], noise[inside]


def _refuse_any(wrong, members, problem, expected):
    if wrong.any():
        which = ", ".join(map(str, members[np.argmax(wrong)]))
        raise ValueError(f"count_in_ball: hyperplanes {which} {problem}, but {expected} was expected")


def exact_array(name, value):
    """Object array of fractions that equal the given numbers; `name` prefixes the message."""
    try:
        if masked(value) or np.asarray(value).dtype.kind in "mM":
            raise TypeError
        array = np.array(value, dtype=object)  # keeps integers of any size as they are
        for at, number in np.ndenumerate(array):
            if isinstance(number, np.timedelta64):
                raise TypeError
            if number != number:  # NaN
                raise OverflowError
            number = number.item() if isinstance(number, np.generic) else number
            array[at] = Fraction(*number.as_integer_ratio())
    except ArithmeticError:  # not only overflow: Decimal('sNaN') cannot be compared
        raise ValueError(f"{name} holds {number} at {at}, but finite numbers were expected") from None
    except (AttributeError, TypeError, ValueError, RuntimeError):
        raise no_array(name, value) from None
    return array


def _empty_sets(caller, normals, offsets):
    """Which rows have a zero normal, and so are the empty set; raise if a row is 0 throughout, or shapes are wrong."""
    if normals.ndim != 2:
        raise ValueError(f"{caller}: normals has shape {normals.shape}, but [n, dim] was expected")
    if offsets.shape != normals.shape[:1]:
        raise ValueError(f"{caller}: offsets has shape {offsets.shape}, but {normals.shape[:1]} was expected")
    empty = (normals == 0).all(axis=1)
    if (zero := empty & (offsets == 0)).any():
        raise ValueError(f"{caller}: row {np.argmax(zero)} is all 0, but a hyperplane was expected")
    return empty
