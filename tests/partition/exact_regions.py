"""Regions and pieces of a small network in rational arithmetic: slow, exact, and another algorithm.

All lines along which a neuron of any layer could change are drawn through the whole window. Vertical lines through
all their crossings cut it into slabs; within a slab no two lines cross, so the cells between neighbouring lines are
trapezoids, and one point of each tells the pattern of all of it.
"""

from fractions import Fraction
from itertools import combinations, pairwise, product


def exact_counts(weights, biases, window, readout=None, slope=0):
    """Set of patterns (a tuple of bools over all layers), and the number of pieces; numbers are made Fractions."""
    layers = [_rational(W, b) for W, b in zip(weights, biases, strict=True)]
    last = [_rational(*readout)] if readout else []
    (u0, u1), (v0, v1) = [[Fraction(end) for end in interval] for interval in window]
    lines = {(Fraction(0), Fraction(1), -v0), (Fraction(0), Fraction(1), -v1)}
    for depth in range(len(layers)):
        lines |= {
            tuple(row)
            for point in _inner_points(_slabs(lines, u0, u1, v0, v1))
            for row in _maps_at(point, layers[: depth + 1], slope)[1][-1]
        }
    slabs = _slabs(lines, u0, u1, v0, v1)
    cells = [(i, j) for i, (_, levels) in enumerate(slabs) for j in range(len(levels) - 1)]
    patterns, maps = {}, {}
    for cell, point in zip(cells, _inner_points(slabs), strict=True):
        patterns[cell], _, hidden = _maps_at(point, layers, slope)
        maps[cell] = _apply(*last[0], hidden) if last else hidden
    return set(patterns.values()), _components(cells, _neighbours(slabs), maps)


def _rational(W, b):
    return [[Fraction(w) for w in row] for row in W], [Fraction(c) for c in b]


def _apply(W, b, rows):
    """W and b after a map whose rows are (slope, slope, offset)."""
    out = [[sum((w * row[i] for w, row in zip(ws, rows, strict=True)), Fraction(0)) for i in range(3)] for ws in W]
    return [[row[0], row[1], row[2] + c] for row, c in zip(out, b, strict=True)]


def _maps_at(point, layers, slope):
    """Pattern at a point; rows of each layer's pre-activations there; rows of the last activations."""
    rows, pattern, before = [[Fraction(1), Fraction(0), Fraction(0)], [Fraction(0), Fraction(1), Fraction(0)]], [], []
    for W, b in layers:
        before.append(_apply(W, b, rows))
        active = [_at(row, point) > 0 for row in before[-1]]
        rows = [row if on else [Fraction(slope) * r for r in row] for row, on in zip(before[-1], active, strict=True)]
        pattern += active
    return tuple(pattern), before, rows


def _at(row, point):
    return row[0] * point[0] + row[1] * point[1] + row[2]


def _slabs(lines, u0, u1, v0, v1):
    """For each slab, its two ends and the lines that bound its cells, from below to above."""
    lines = [line for line in lines if line[0] or line[1]]
    walls = {u0, u1} | {-c / a for a, b, c in lines if not b}
    sloped = {(-a / b, -c / b) for a, b, c in lines if b}
    walls |= {(q2 - q1) / (p1 - p2) for (p1, q1), (p2, q2) in combinations(sloped, 2) if p1 != p2}
    slabs = []
    for left, right in pairwise(sorted(x for x in walls if u0 <= x <= u1)):
        x = (left + right) / 2
        levels = sorted((p * x + q, p, q) for p, q in sloped if v0 <= p * x + q <= v1)
        slabs.append(((left, right), [(p, q) for _, p, q in levels]))
    return slabs


def _inner_points(slabs):
    for (left, right), levels in slabs:
        x = (left + right) / 2
        for (p1, q1), (p2, q2) in pairwise(levels):
            yield x, (p1 * x + q1 + p2 * x + q2) / 2


def _neighbours(slabs):
    """Pairs of cells that share a segment: over a line within a slab, or over the wall between two slabs."""
    for i, (_, levels) in enumerate(slabs):
        yield from (((i, j), (i, j + 1)) for j in range(len(levels) - 2))
    for i, (((_, x), lower), (_, upper)) in enumerate(pairwise(slabs)):
        spans = [[(p1 * x + q1, p2 * x + q2) for (p1, q1), (p2, q2) in pairwise(side)] for side in (lower, upper)]
        for (j, one), (k, two) in product(enumerate(spans[0]), enumerate(spans[1])):
            if max(one[0], two[0]) < min(one[1], two[1]):
                yield (i, j), (i + 1, k)


def _components(cells, neighbours, maps):
    label = {cell: {cell} for cell in cells}
    for one, two in neighbours:
        if maps[one] == maps[two] and label[one] is not label[two]:
            label[one] |= label[two]
            for cell in label[two]:
                label[cell] = label[one]
    return len({id(group) for group in label.values()})
