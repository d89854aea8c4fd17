"""Counts in rational arithmetic: slow, exact, and by another algorithm than the fast counts that they certify.

Every float is treated as the rational number that it is, and nothing is ever rounded. A region is a convex polygon of
the plane; each neuron of the next layer is affine on it, and cuts it or not. An affine map is a list of rows, one for
each component: (slope in u, slope in v, offset).
"""

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise

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


def plane_doubts(partition):
    """Count the values computed as 0 at a vertex of a plane partition that are not 0 where the lines exactly meet."""
    mesh, active = partition._mesh, partition.active
    zeros = defaultdict(dict)
    for layer, pairs in enumerate(mesh.zeros):
        for vertex, neuron in pairs.tolist():
            zeros[vertex][layer, neuron] = None
    if not zeros or len(zeros) > DECIDABLE:
        return len(zeros)
    maps = _IntegerMaps(partition.network, _integers(np.column_stack([*partition.axes, partition.origin])))
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
        lines += [
            (value, maps.row([signs[around[0]] for signs in active[: value[0]]], value[1])[0]) for value in values
        ]
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
        lines += [((layer, neuron), maps.row(before, neuron)[0]) for neuron in neurons.tolist()]
    return lines


def line_doubts(partition):
    """Count the values computed as 0 at a node of a line partition that are not 0 at the exact position of the node."""
    nodes = defaultdict(dict)
    for layer, ((_, *changes), zeros) in enumerate(zip(partition._flips, partition._zeros, strict=True)):
        for at, neurons in (changes, zeros):
            for t, neuron in zip(at.tolist(), neurons.tolist(), strict=True):
                nodes[t][layer, neuron] = None
    nodes = {t: values for t, values in nodes.items() if len(values) > 1 or t in (0, 1)}  # one defines the node
    if len(nodes) > DECIDABLE:
        return len(nodes)
    maps, n_doubts = LineMaps(partition.network, partition.start, partition.end), 0
    for t, values in nodes.items():
        region = np.searchsorted(partition.breakpoints, t)
        active = [signs[region] for signs in partition.active]
        rows = [maps.row(active[:layer], neuron)[0] for layer, neuron in values]
        # The neuron of the lowest layer defines the node: it is 0 at -offset / rise.
        point = np.array([int(t), 1]) if t in (0, 1) else np.array([-rows[0][1], rows[0][0]])
        n_doubts += sum(1 for row in rows if row @ point)
    return n_doubts


class _IntegerMaps:
    """Exact affine maps of a network's layers in integers: every map is multiplied by a positive factor."""

    def __init__(self, network, inputs):
        self._network, self.work = network, 0  # numbers multiplied so far
        slope, one = float(network.negative_slope).as_integer_ratio()
        self._one, self._gains = one, np.array([slope, one], dtype=object)  # integers of any size
        self._hidden, self._layers, self._rows = {b"": inputs}, {}, {}

    def row(self, active, neuron):
        """Pre-activation of a neuron after layers with these patterns: slopes and offset, and the factor."""
        name = b""
        for layer, signs in enumerate(active):
            before, name = name, name + signs.tobytes()
            if name not in self._hidden:
                rows, scale = self._apply(layer, *self._hidden[before])
                self._hidden[name] = self._gains[signs.astype(int)][:, None] * rows, scale * self._one
        if (name, neuron) not in self._rows:
            (row,), scale = self._apply(len(active), *self._hidden[name], neuron)
            self._rows[name, neuron] = row, scale
        return self._rows[name, neuron]

    def _apply(self, layer, rows, scale, neuron=None):
        used = np.flatnonzero(rows.any(axis=1))
        W, b = self._network.weights[layer], self._network.biases[layer]
        if neuron is None and layer not in self._layers:
            self._layers[layer] = _integers(np.column_stack([W, b]))
        matrix, factor = self._layers[layer] if neuron is None else _integers([[*W[neuron], b[neuron]]])
        self.work += len(matrix) * len(used)
        rows = matrix[:, used] @ rows[used]
        rows[:, -1] += matrix[:, -1] * scale
        return rows, scale * factor


class LineMaps(_IntegerMaps):
    """Exact values of a layer's neurons along a segment, for `line_partition`, which extends `flips` layer by layer."""

    def __init__(self, network, start, end, flips=()):
        ends, scale = _integers(np.stack([start, end]))
        super().__init__(network, (np.stack([ends[1] - ends[0], ends[0]], axis=1), scale))
        self._flips = flips

    def affordable(self):
        """Whether the work done so far leaves room for another value."""
        return self.work + sum(W.size for W in self._network.weights[: len(self._flips)]) <= AFFORDABLE

    def value(self, neuron, t, end):
        """Value of a neuron of the next layer at node t, by its map on the interval between nodes that ends at `end`.

        The exact position of the node is the zero of the neuron of the lowest layer that changes there.
        """
        made = ((layer, which[at == t]) for layer, (_, at, which) in enumerate(self._flips))
        point = (
            Fraction(t) if t in (0, 1) else next(self.zero(which[0], t, layer) for layer, which in made if len(which))
        )
        (rise, offset), scale = self._on(neuron, end)
        return float((rise * point + offset) / scale)

    def zero(self, neuron, end, layer=None):
        """Zero of the map of a neuron of the next layer, or of `layer`, on the interval that ends at `end`."""
        (rise, offset), _ = self._on(neuron, end, layer)
        return Fraction(-offset, rise) if rise else Fraction(end)

    def _on(self, neuron, end, layer=None):
        flips = self._flips[:layer]
        self.work += 100 + sum(len(at) for _, at, _ in flips)
        active = [first ^ (np.bincount(which[at < end], minlength=len(first)) % 2 == 1) for first, at, which in flips]
        return self.row(active, neuron)


def _integers(floats):
    """Integers proportional to an array of floats, and the factor between them."""
    ratios = [float(number).as_integer_ratio() for number in np.ravel(floats)]
    factor = max(denominator for _, denominator in ratios)  # powers of two
    integers = [numerator * (factor // denominator) for numerator, denominator in ratios]
    return np.array(integers, dtype=object).reshape(np.shape(floats)), factor


def _cut_by_all(polygon, rows, limit):
    """Parts of a polygon on which no row changes sign, each with which rows are > 0; None if there are too many."""
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
    """Count the pieces: regions that share an edge and have equal maps count as one.

    The lines that cross an edge cross the regions on both sides of it, so neighbours have a whole edge in common.
    """
    sides, pairs = {}, []
    for i, (polygon, rows) in enumerate(regions):
        for k, corner in enumerate(polygon):
            j = sides.setdefault(frozenset((polygon[k - 1], corner)), i)
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
        i, j = root(i), root(j)
        if i != j:
            parent[i] = j
            n -= 1
    return n


def _layers(weights, biases):
    """Matrices and vectors as lists of Fractions."""
    return [([_fractions(row) for row in W], _fractions(b)) for W, b in zip(weights, biases, strict=True)]


def _fractions(numbers):
    return [Fraction(float(number)) for number in numbers]


def _apply(W, b, rows):
    """Rows of the map W h + b, given the rows of h."""
    out = []
    for weights, offset in zip(W, b, strict=True):
        terms = [(w, row) for w, row in zip(weights, rows, strict=True) if w]
        out.append([sum((w * row[k] for w, row in terms), Fraction(0)) for k in range(len(rows[0]))])
        out[-1][-1] += offset
    return out
