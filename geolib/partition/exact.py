"""Counts in rational arithmetic: slow, exact, and made in another way than the fast ones that they certify.

Floats are the rationals that they are, and nothing is ever rounded. A region is a convex polygon of the plane; each
neuron of the next layer is affine on it, and cuts it or not. An affine map is a list of rows, one for each of its
values: (slope in u, slope in v, offset).
"""

from fractions import Fraction
from itertools import pairwise

# The most regions that are counted again: seconds.
CERTIFIABLE = 2_000


def certified(caller, partition, count):
    """Raise if `count`, a function of the most regions there may be, finds other counts than a partition has."""
    n_regions = partition.n_regions
    if n_regions > CERTIFIABLE:
        raise ValueError(
            f"{caller}: certify is for at most {CERTIFIABLE} regions, but there are {n_regions}; expected fewer, "
            "or certify=False"
        )
    exact = count(CERTIFIABLE)
    if exact != (n_regions, partition.n_pieces):
        found = f"{exact[0]} regions and {exact[1]} pieces" if exact else f"more than {CERTIFIABLE} regions"
        raise ValueError(
            f"{caller}: certify found {found} in rational arithmetic, but float64 gives {n_regions} and "
            f"{partition.n_pieces} (snapped={partition.snapped})"
        )


def plane_counts(network, window, origin, axes, limit):
    """Count the regions and the pieces that `plane_partition` should find.

    Parameters
    ----------
    network, window, origin, axes
        As in `plane_partition`, checked.
    limit : int
        When more regions than this are there, give up.

    Returns
    -------
    pair of int, or None
        n_regions and n_pieces; None if there are more regions than `limit`.
    """
    (u0, u1), (v0, v1) = [_fractions(interval) for interval in window]
    inputs = [list(row) for row in zip(*(_fractions(vector) for vector in (*axes, origin)), strict=True)]
    slope = Fraction(network.negative_slope)
    regions = [([(u0, v0), (u1, v0), (u1, v1), (u0, v1)], inputs)]
    for W, b in _layers(network.weights, network.biases):
        after = []
        for polygon, inputs in regions:
            rows = _apply(W, b, inputs)
            cells = _cut_by_all(polygon, rows, limit - len(after))
            if cells is None:
                return None
            for part, active in cells:
                gains = [Fraction(1) if on else slope for on in active]
                after.append((part, [[gain * x for x in row] for gain, row in zip(gains, rows, strict=True)]))
        regions = after
    if network.readout is not None:
        ((W, b),) = _layers(*([part] for part in network.readout))
        regions = [(polygon, _apply(W, b, rows)) for polygon, rows in regions]
    return len(regions), _n_pieces(regions)


def line_counts(network, start, end):
    """Count the regions and pieces that `line_partition` should find.

    A region is an interval of t, and rows are (slope in t, offset).

    Parameters
    ----------
    network, start, end
        As in `line_partition`, checked.

    Returns
    -------
    pair of int
        n_regions and n_pieces.
    """
    slope = Fraction(network.negative_slope)
    inputs = [[b - a, a] for a, b in zip(_fractions(start), _fractions(end), strict=True)]
    regions = [(Fraction(0), Fraction(1), inputs)]
    for W, b in _layers(network.weights, network.biases):
        after = []
        for low, high, rows in regions:
            rows = _apply(W, b, rows)
            zeros = {-offset / rise for rise, offset in rows if rise}
            for left, right in pairwise(sorted({low, high, *(t for t in zeros if low < t < high)})):
                gains = [1 if rise * (left + right) / 2 + offset > 0 else slope for rise, offset in rows]
                after.append((left, right, [[gain * x for x in row] for gain, row in zip(gains, rows, strict=True)]))
        regions = after
    maps = [rows for _, _, rows in regions]
    if network.readout is not None:
        ((W, b),) = _layers(*([part] for part in network.readout))
        maps = [_apply(W, b, rows) for rows in maps]
    return len(maps), 1 + sum(left != right for left, right in pairwise(maps))


def _cut_by_all(polygon, rows, limit):
    """Parts of a polygon on which no row changes sign, each with which rows are > 0 there; None if over the limit."""
    cells = [(polygon, [])]
    for row in rows:
        parts = []
        for part, active in cells:
            values = [row[0] * u + row[1] * v + row[2] for u, v in part]
            if min(values) < 0 < max(values):
                parts.append((_positive_side(part, values), [*active, True]))
                parts.append((_positive_side(part, [-value for value in values]), [*active, False]))
            else:
                parts.append((part, [*active, max(values) > 0]))
        cells = parts
        if len(cells) > limit:
            return None
    return cells


def _positive_side(polygon, values):
    """Part of a polygon where an affine function, given by its values at the corners, is >= 0."""
    side = []
    for i, (q, after) in enumerate(zip(polygon, values, strict=True)):
        p, before = polygon[i - 1], values[i - 1]
        if min(before, after) < 0 < max(before, after):
            t = before / (before - after)
            side.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
        if after >= 0:
            side.append(q)
    return side


def _n_pieces(regions):
    """Count the regions, those taken together that share an edge and have the same map.

    The lines that cross an edge cross the regions on both of its sides: neighbours have the whole edge in common.
    """
    sides, neighbours = {}, [[] for _ in regions]
    for i, (polygon, rows) in enumerate(regions):
        for k, corner in enumerate(polygon):
            j = sides.setdefault(frozenset((polygon[k - 1], corner)), i)
            if rows == regions[j][1]:
                neighbours[i].append(j)
                neighbours[j].append(i)
    seen, n = set(), 0
    for i in range(len(regions)):
        n += i not in seen
        todo = [i]
        while todo:
            j = todo.pop()
            if j not in seen:
                seen.add(j)
                todo += neighbours[j]
    return n


def _layers(weights, biases):
    """Matrices and vectors as lists of Fractions."""
    return [([_fractions(row) for row in W], _fractions(b)) for W, b in zip(weights, biases, strict=True)]


def _fractions(numbers):
    return [Fraction(float(number)) for number in numbers]


def _apply(W, b, rows):
    """W and b after the map of these rows."""
    out = []
    for weights, offset in zip(W, b, strict=True):
        terms = [(w, row) for w, row in zip(weights, rows, strict=True) if w]
        out.append([sum((w * row[k] for w, row in terms), Fraction(0)) for k in range(len(rows[0]))])
        out[-1][-1] += offset
    return out
