"""Counts and decisions in rational arithmetic: slow, exact, and by another algorithm than the counts that they certify.

Every float is treated as the rational number that it is, and nothing is ever rounded. Rational numbers are kept as
integers, times a positive factor that changes no sign: a point is (coordinates, factor), an affine map has a row
(slopes, offset) for each component, and the value of a row at a point is the sum of their products. A region is a
convex part of a plane or of a segment; each neuron of the next layer is affine on it, and cuts it or not.
"""

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise
from math import gcd
from operator import mul

import numpy as np

# Largest number of regions that are counted again, which takes seconds.
CERTIFIABLE = 2_000
# Largest number of vertices or nodes at which values that float64 computed as 0 are verified.
DECIDABLE = 50_000
# Largest number of weights and flips that exact decisions about a line may process: a second or two.
AFFORDABLE = 2_500_000


def certified(caller, partition, count):
    """Raise if `count` (a function of the largest number of regions allowed) differs from the counts of a partition."""
    n_regions = partition.n_regions
    if n_regions > CERTIFIABLE:
        raise ValueError(f"{caller}: certify is True for {n_regions} regions, but at most {CERTIFIABLE} were expected")
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
        Give up when there are more regions than this.

    Returns
    -------
    pair of int, or None
        n_regions and n_pieces; None if there are more regions than `limit`.
    """
    ((u0, u1), (v0, v1)), factor = _integers(window)
    corners = [(u0, v0, factor), (u1, v0, factor), (u1, v1, factor), (u0, v1, factor)]
    return _counts(network, corners, _integers(np.column_stack([*axes, origin])), limit)


def line_counts(network, start, end, limit):
    """Count the regions and the pieces that `line_partition` should find; as `plane_counts`."""
    return _counts(network, [(0, 1), (1, 1)], _segment(start, end), limit)


def _counts(network, corners, inputs, limit):
    """Cut a convex set by each neuron, layer after layer."""
    maps, regions = _ExactMaps(network, inputs), [(corners, [])]
    for _ in network.widths:
        after = []
        for region, active in regions:
            cells = _cut_by_all(region, maps.rows(active)[0].tolist(), limit - len(after))
            if cells is None:
                return None
            after += [(cell, [*active, np.array(signs)]) for cell, signs in cells]
        regions = after
    return len(regions), _n_pieces([(region, maps.output(active).tolist()) for region, active in regions])


def plane_doubts(partition):
    """Count the values computed as 0 at a vertex of a plane partition that are not 0 where the lines exactly meet."""
    mesh, active = partition._mesh, partition.active
    zeros = defaultdict(dict)
    for layer, pairs in enumerate(mesh.zeros):
        for vertex, neuron in pairs.tolist():
            zeros[vertex][layer, neuron] = None
    if not zeros or len(zeros) > DECIDABLE:
        return len(zeros)
    maps = _ExactMaps(partition.network, _integers(np.column_stack([*partition.axes, partition.origin])))
    borders = [_integers([k == 0, k == 1, -end])[0] for k in (0, 1) for end in partition.window[k]]
    corner, face = mesh.ends[mesh.loop], np.repeat(np.arange(mesh.n_faces), mesh.size)
    order = np.argsort(corner, kind="stable")
    corner = corner[order]
    n_doubts = 0
    for vertex, values in zeros.items():
        around = face[order[slice(*np.searchsorted(corner, [vertex, vertex + 1]))]]
        on_border = (mesh.vertices[vertex, [0, 0, 1, 1]] == [-1, 1, -1, 1]).tolist()
        lines = [((-1, side), border) for side, border in enumerate(borders) if on_border[side]]
        lines += _lines_between(maps, active, around)
        meet = [np.cross(lines[0][1], line) for _, line in lines[1:]]
        meet = next((point for point in meet if point[2]), None)
        for layer, neuron in values:
            (line,), _ = maps.rows([signs[around[0]] for signs in active[:layer]], neuron)
            lines.append(((layer, neuron), line))
        n_doubts += len({name for name, line in lines if meet is None or line @ meet})
    return n_doubts


def _lines_between(maps, active, faces):
    """Lines through a vertex, found from the patterns of the faces around it: (layer, neuron) and an exact row."""
    lines = []
    faces = sorted(faces, key=lambda face: b"".join(signs[face].tobytes() for signs in active))
    for one, other in pairwise(faces):
        layer = next(layer for layer, signs in enumerate(active) if (signs[one] != signs[other]).any())
        before = [signs[one] for signs in active[:layer]]
        neurons = np.flatnonzero(active[layer][one] != active[layer][other])
        lines += [((layer, neuron), maps.rows(before, neuron)[0][0]) for neuron in neurons.tolist()]
    return lines


def line_doubts(partition):
    """Count the values computed as 0 at a node of a line partition that are not 0 at the exact position of the node."""
    nodes = defaultdict(dict)
    for layer, ((_, *changes), zeros) in enumerate(zip(partition._flips, partition._zeros, strict=True)):
        for at, neurons in (changes, zeros):
            for t, neuron in zip(at.tolist(), neurons.tolist(), strict=True):
                nodes[t][layer, neuron] = None
    # Inside the segment, the one value of a node is 0 there by definition.
    nodes = {t: values for t, values in nodes.items() if len(values) > 1 or t in (0, 1)}
    if len(nodes) > DECIDABLE:
        return len(nodes)
    maps, n_doubts = LineMaps(partition.network, partition.start, partition.end), 0
    for t, values in nodes.items():
        region = np.searchsorted(partition.breakpoints, t)
        active = [signs[region] for signs in partition.active]
        rows = [maps.rows(active[:layer], neuron)[0][0] for layer, neuron in values]
        # The neuron of the lowest layer defines the node: it is 0 at -offset / rise.
        point = np.array([int(t), 1]) if t in (0, 1) else np.array([-rows[0][1], rows[0][0]])
        n_doubts += sum(1 for row in rows if row @ point)
    return n_doubts


class _ExactMaps:
    """Exact affine maps of a network's layers, each row times a positive factor.

    The factor of a row of all neurons is the same on all regions, so that maps of different regions can be compared.
    """

    def __init__(self, network, inputs):
        self.work = 0  # numbers multiplied so far
        self._layers, self._readout = [*zip(network.weights, network.biases, strict=True)], network.readout
        slope, one = float(network.negative_slope).as_integer_ratio()
        self._one, self._gains = one, np.array([slope, one], dtype=object)  # integers of any size
        # By the patterns of the layers before: their outputs, and what the next layer makes of them, with the factors.
        self._hidden, self._rows, self._matrices = {b"": inputs}, {}, {}

    def rows(self, active, neuron=None):
        """Return rows of one neuron, or of all, of the layer that follows on these patterns, and their factor."""
        return self._apply(len(active), self._visit(active), neuron)

    def output(self, active):
        """Return the rows of the output, where the layers have these patterns."""
        name = self._visit(active)
        return (self._apply(len(active), name) if self._readout else self._hidden[name])[0]

    def _visit(self, active):
        """Compute the outputs of layers with these patterns, and return the name under which the last ones are kept."""
        name = b""
        for layer, signs in enumerate(active):
            before, name = name, name + signs.tobytes()
            if name not in self._hidden:
                rows, factor = self._apply(layer, before)
                self._hidden[name] = self._gains[signs.astype(int)][:, None] * rows, factor * self._one
        return name

    def _apply(self, layer, name, neuron=None):
        """Apply a layer, or one neuron of it, to the outputs of that name; each is computed once."""
        if (name, neuron) not in self._rows:
            if (layer, neuron) not in self._matrices:
                W, b = [*self._layers, self._readout][layer]
                some = slice(None) if neuron is None else [neuron]
                self._matrices[layer, neuron] = _integers(np.column_stack([W[some], b[some]]))
            (rows, factor), (matrix, scale) = self._hidden[name], self._matrices[layer, neuron]
            used = np.flatnonzero(rows.any(axis=1))
            self.work += len(matrix) * len(used)
            rows = matrix[:, used] @ rows[used]
            rows[:, -1] += matrix[:, -1] * factor
            self._rows[name, neuron] = rows, factor * scale
        return self._rows[name, neuron]


class LineMaps(_ExactMaps):
    """Exact values of a layer's neurons along a segment, for `line_partition`, which extends `flips` layer by layer."""

    def __init__(self, network, start, end, flips=()):
        super().__init__(network, _segment(start, end))
        self._flips = flips

    def affordable(self):
        """Whether the work done so far leaves room for another value."""
        return self.work + sum(W.size for W, _ in self._layers[: len(self._flips)]) <= AFFORDABLE

    def value(self, neuron, t, end):
        """Value of a neuron of the next layer at node t, by its map on the interval between nodes that ends at `end`.

        The exact position of the node is the zero of the neuron of the lowest layer that changes there.
        """
        made = ((layer, which[at == t]) for layer, (_, at, which) in enumerate(self._flips))
        point = (
            Fraction(t) if t in (0, 1) else next(self.zero(which[0], t, layer) for layer, which in made if len(which))
        )
        ((rise, offset),), factor = self._on(neuron, end)
        return float((rise * point + offset) / factor)

    def zero(self, neuron, end, layer=None):
        """Zero of the map of a neuron of the next layer, or of `layer`, on the interval that ends at `end`."""
        ((rise, offset),), _ = self._on(neuron, end, layer)
        return Fraction(-offset, rise) if rise else Fraction(end)

    def _on(self, neuron, end, layer=None):
        flips = self._flips[:layer]
        self.work += 100 + sum(len(at) for _, at, _ in flips)
        active = [first ^ (np.bincount(which[at < end], minlength=len(first)) % 2 == 1) for first, at, which in flips]
        return self.rows(active, neuron)


def _integers(floats):
    """Integers proportional to an array of floats, and the factor between them."""
    ratios = [float(number).as_integer_ratio() for number in np.ravel(floats)]
    factor = max(denominator for _, denominator in ratios)  # powers of two
    integers = [numerator * (factor // denominator) for numerator, denominator in ratios]
    return np.array(integers, dtype=object).reshape(np.shape(floats)), factor


def _segment(start, end):
    """Return the inputs along a segment as rows (slope in t, offset), and their factor."""
    (start, end), factor = _integers(np.stack([start, end]))
    return np.stack([end - start, start], axis=1), factor


def _cut_by_all(region, rows, limit):
    """Parts of a region on which no row changes sign, each with which rows are > 0; None if there are too many."""
    cells = [(region, [])]
    for row in rows:
        parts = []
        for part, active in cells:
            values = [sum(map(mul, row, corner)) for corner in part]
            if min(values) < 0 < max(values):
                parts.append((_positive_side(part, values), [*active, True]))
                parts.append((_positive_side(part, [-value for value in values]), [*active, False]))
            else:
                parts.append((part, [*active, max(values) > 0]))
        cells = parts
        if len(cells) > limit:
            return None
    return cells


def _positive_side(region, values):
    """Part of a region where an affine function, given by its values at the corners, is >= 0."""
    side = {}  # keeps the order; a segment's one edge is seen from both of its ends, and its new corner counts once
    for i, (q, after) in enumerate(zip(region, values, strict=True)):
        p, before = region[i - 1], values[i - 1]
        if min(before, after) < 0 < max(before, after):
            point = [abs(after) * x + abs(before) * y for x, y in zip(p, q, strict=True)]
            divisor = gcd(*point)  # a corner is the same numbers whichever region it is found from
            side[tuple([x // divisor for x in point])] = None
        if after >= 0:
            side[q] = None
    return list(side)


def _n_pieces(regions):
    """Count the pieces: regions that share a facet and have equal maps count as one.

    A facet is an edge in a plane, and a point on a segment. A neuron that crosses it crosses the regions on both sides,
    so neighbours have a whole facet in common.
    """
    facets, pairs = {}, []
    for i, (corners, rows) in enumerate(regions):
        for k in range(len(corners)):
            facet = frozenset(corners[k - back] for back in range(len(corners[k]) - 1))
            j = facets.setdefault(facet, i)
            if rows == regions[j][1]:
                pairs.append((i, j))
    return n_components(len(regions), pairs)


def n_components(n, pairs):
    """Count the connected components of a graph on range(n), by union-find."""
    parent = list(range(n))

    def root(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in pairs:
        parent[root(i)] = root(j)
    return sum(i == above for i, above in enumerate(parent))
