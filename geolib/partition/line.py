"""The regions of a network along a segment: all its breakpoints, layer by layer.

Between two neighbouring breakpoints of the first k layers, layer k + 1 is affine, so each of its neurons changes sign
there at most once. What a neuron does is told by its values at the breakpoints, for they are joined by straight lines.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from geolib.checks import finite_array, integer, one_line
from geolib.partition.exact import LineMaps, certified, line_counts, line_doubts
from geolib.partition.network import Partition, ReluNetwork, gain
from geolib.partition.rounding import ROUNDING, carry

LARGEST = 1e250  # values beyond may overflow once divided by the length of an interval, or two

_ROWS = 256  # rows of values that are worked on at a time
_NOISE = 1 << 25  # products that carrying the noise through a layer may take
_ROUNDED = 1 / 32  # of that error: 16 units, which rounding may have made of degenerate input
_RUN = 32  # longest run of nodes whose values follow from those of its two ends


@dataclass(frozen=True, eq=False, repr=False)
class LinePartition(Partition):
    """The regions of a network along a segment, made by `line_partition`.

    Position t in [0, 1] is the input start + t (end - start). A region is a maximal open interval of t with one
    pattern of active neurons.

    Attributes
    ----------
    network : ReluNetwork
        The network.
    start, end : array, shape=[input_dim]
        The segment's ends.
    breakpoints : array, shape=[n_regions - 1]
        Where the pattern changes, in (0, 1), increasing. Region i lies between breakpoints i - 1 and i.
    """

    network: ReluNetwork
    start: np.ndarray
    end: np.ndarray
    breakpoints: np.ndarray
    _flips: tuple  # per layer: which neurons are active at first; then the position and the neuron of each change
    _in_doubt: int
    _zeros: tuple  # per layer: the position and the neuron of each value that was computed as 0, by rounding perhaps

    @property
    def n_regions(self):
        """Number of regions: open intervals, each with another pattern than its neighbours."""
        return len(self.breakpoints) + 1

    @cached_property
    def snapped(self):
        """Number of doubtful decisions (a neuron's value at a node, two crossings): taken for 0 without being 0.

        They are closer than rounding may have made them, or exact arithmetic would have taken long (see the Notes of
        `line_partition`).

        If it is 0, no region is in doubt: values that float64 computes as 0, and crossings that it computes as one,
        have been computed again, in rational arithmetic. (If others are in doubt anyway, they have not; above 50,000
        nodes, all are counted as in doubt.)
        """
        return self._in_doubt or line_doubts(self)

    @cached_property
    def n_pieces(self):
        """Number of affine pieces: maximal intervals on which the output is one affine map of t.

        At most `n_regions`: a change of pattern need not change the output. The map is taken through the readout,
        along the segment, and up to rounding: what a neuron adds to a slope 1e13 times as steep may be lost. `snapped`
        does not cover that; `certify` does.
        """
        changes = 0
        for start in range(0, self.n_regions - 1, _ROWS - 1):
            slopes, noise = self._output_slopes(slice(start, start + _ROWS))
            # The output is continuous, so neighbouring maps are equal if their slopes are.
            changes += np.count_nonzero((np.abs(np.diff(slopes, axis=0)) > noise[1:] + noise[:-1]).any(axis=1))
        return 1 + int(changes)

    @cached_property
    def midpoints(self):
        """Middle of each region, shape=[n_regions]."""
        nodes = np.concatenate([[0.0], self.breakpoints, [1.0]])
        return (nodes[:-1] + nodes[1:]) / 2

    @cached_property
    def active(self):
        """Which neurons are active on each region: a tuple of bool arrays, one per layer, shape=[n_regions, width_k].

        Laid out like `network.pattern` of one point per region.
        """
        layers = []
        for first, at, neuron in self._flips:
            changed = np.zeros((self.n_regions, len(first)), dtype=bool)
            changed[0] = first
            changed[np.searchsorted(self.breakpoints, at) + 1, neuron] = True
            layers.append(np.logical_xor.accumulate(changed, axis=0))
        return tuple(layers)

    def _output_slopes(self, regions):
        """Slopes of the output on some regions, times a power of 2, and their noise: shape=[n, n_outputs]."""
        network, ends = self.network._rescaled, np.stack([self.start, self.end])
        slopes = np.diff(np.ldexp(ends, -np.frexp(np.abs(ends).max())[1]), axis=0)
        noise = np.zeros_like(slopes)
        for W, active in zip(network.weights, self.active, strict=True):
            slope = gain(network, active[regions])
            noise = slope * carry(W, np.zeros(1), noise + ROUNDING * np.abs(slopes))
            slopes = slope * _product(W, slopes)
        if network.readout is None:
            return slopes, noise
        W, _ = network.readout
        return _product(W, slopes), carry(W, np.zeros(1), noise + ROUNDING * np.abs(slopes))


def line_partition(network, start, end, *, limit=2_000_000, certify=False):
    """Cut a segment of the input space into the regions of a network.

    All breakpoints are found, for any depth, width and input dimension, exact up to rounding in float64. Input in
    special position (zero biases, equal or opposite neurons, neurons that touch 0, breakpoints at the ends) is taken
    as it is, not perturbed: a value that the rounding of the input cannot tell from 0 is 0.

    Parameters
    ----------
    network : ReluNetwork
        The network.
    start, end : array-like, shape=[input_dim]
        The segment's ends, two different points. Breakpoints at the ends themselves are not counted.
    limit : int
        The most regions that may be made.
    certify : bool
        Whether to count again in rational arithmetic, and raise if it finds other counts. Slow: for networks of some
        dozens of neurons.

    Returns
    -------
    LinePartition
        Breakpoints, patterns and counts.

    Raises
    ------
    TypeError
        If `network` is not a ReluNetwork, or something is not an array of real numbers.
    ValueError
        If a shape or a number is wrong, the ends are equal, there are more than `limit` regions, or values overflow;
        if `certify` finds other counts, or there are too many regions for it.

    Notes
    -----
    Values are compared with the rounding error of their computation: 512 units of float64 relative to the terms of
    each sum, carried through the layers along with the values, as independent errors, plus what it moves the
    breakpoint. What is closer than that is decided in rational arithmetic, as long as it takes no more than a second
    or two: the count is exact, but for what is closer than 16 units. So close are zeros of degenerate input that has
    been rounded, such as neurons through the point (0.3, -0.2): they are one, and `snapped` counts them.

    One hidden layer has as many regions as its patterns at the two ends differ in neurons, plus 1, as long as no
    neuron is 0 at an end and no two change at one point. For deeper networks that is a lower bound: a neuron may
    change more than once.

    Depth alone loses nothing, but errors of neurons that are differences of each other are not independent, and then
    that tolerance grows faster than the true errors: a sawtooth of 2^19 teeth, one fold per layer, comes out whole,
    one of 2^20 does not, and `snapped` > 0 says so. `certify` takes floats for the rationals that they are, and so
    takes nothing for 0 that is not.

    Time and memory grow with the number of regions times the widest layer; memory by some 25 bytes.

    References
    ----------
    R. Cosentino and S. Shekkizhar, arXiv 2407.02678: regions of an MLP along a curve of its input.
    B. Hanin and D. Rolnick, arXiv 1901.09021: the number of regions along a line.

    Examples
    --------
    A tent on [0, 1], folded twice: 2 pieces become 4.

    >>> fold = [[2.0], [4.0]], [0.0, -2.0]  # relu(2x), relu(4x - 2)
    >>> twice = [fold[0], [[2.0, -2.0], [4.0, -4.0]]], [fold[1], [0.0, -2.0]]
    >>> partition = line_partition(ReluNetwork(*twice, readout=([[1, -1]], [0])), [0], [1])
    >>> partition
    LinePartition(n_regions=4, snapped=0)
    >>> partition.breakpoints
    array([0.25, 0.5 , 0.75])

    relu(x) - relu(-x) is x: two regions, one piece.

    >>> partition = line_partition(ReluNetwork([[[1], [-1]]], [[0, 0]], readout=([[1, -1]], [0])), [-1], [1])
    >>> partition.n_regions, partition.n_pieces
    (2, 1)
    """
    if not isinstance(network, ReluNetwork):
        raise TypeError(f"line_partition: network is {type(network).__name__}, expected a ReluNetwork")
    start, end = _check_segment(network, start, end)
    limit = integer("line_partition: limit", limit, 1)
    t, blur = np.array([0.0, 1.0]), np.zeros(2)  # nodes, and how far rounding may have moved them
    z, bends, flips, zeros, snapped = np.stack([start, end]), None, [], [], 0
    scaled = network._rescaled
    maps = LineMaps(scaled, start, end, flips)
    for k, (W, b) in enumerate(zip(scaled.weights, scaled.biases, strict=True)):
        with np.errstate(over="ignore", invalid="ignore"):  # the noise will tell
            if bends is None:
                z, noise, run = z @ W.T + b, carry(W, b, ROUNDING * np.abs(z).max(axis=0, keepdims=True)), 1
            else:
                noise, run = _carried(W, b, network.negative_slope, z, noise, run, bends)
                z = _through(W, b, network.negative_slope, t, z, bends)
                t, blur = bends.insert(t, bends.at), bends.insert(blur, bends.error)
        if not noise.max() < LARGEST * ROUNDING / W.shape[1]:
            raise ValueError(f"line_partition: values of weights[{k}] may exceed {LARGEST}, expected smaller ones")
        sign, bends, zero, in_doubt = _cut(t, blur, z, noise, run, maps)
        if len(t) - 1 + len(bends.at) > limit:
            raise ValueError(f"line_partition: limit is {limit}, but there are more regions; pass a larger limit")
        flips.append(_flips(t, sign, bends))
        zeros.append(zero)
        snapped += in_doubt
    t = bends.insert(t, bends.at)
    partition = LinePartition(network, start, end, t[1:-1], tuple(flips), int(snapped), tuple(zeros))
    if certify:
        certified("line_partition", partition, lambda _: line_counts(network, start, end))
    return partition


@dataclass
class _Bends:
    """Where a layer's neurons change sign between nodes: there their outputs bend, and the next nodes are made.

    Neurons whose zeros cannot be told apart share a node.
    """

    interval: np.ndarray  # of each new node: the interval between old nodes that it lies in; sorted
    at: np.ndarray  # of each new node: its position; sorted
    error: np.ndarray  # of each new node: how far rounding may have moved it
    node: np.ndarray  # of each zero: its new node; sorted
    neuron: np.ndarray  # of each zero: the neuron
    slope: np.ndarray  # of each zero: how steep the pre-activation is there, in absolute value

    def insert(self, old, new):
        """Put something of the new nodes among the same of the old nodes."""
        return np.insert(old, self.interval + 1, new)


def _cut(t, blur, z, noise, run, maps):
    """Sign of each value, shape=[n_nodes, width]; bends between nodes; values computed as 0; number of doubts.

    `noise` is how large an error may be, a row for each run of so many intervals. Values that cannot be told from 0 are
    taken exactly, from `maps`. Signs are 0 where that cannot be done, or the values are as small as what the rounding
    of the input may make; such values are set to 0.
    """
    sign, (asked, told) = _sign(z, noise.max(axis=0)), np.zeros((2, *z.shape), dtype=bool)
    node, neuron = _where(sign == 0)
    sign[node, neuron] = _sign(z[node, neuron], _least(noise, run, len(z), node, neuron))
    new = (sign[node, neuron] == 0) & (z[node, neuron] != 0)
    while True:
        asked[node[new], neuron[new]] = True
        _tell(maps, t, z, sign, noise, run, told, node[new], neuron[new])
        interval, which = _where(sign[:-1] * sign[1:] < 0)
        left, right = np.abs(z[interval, which]), np.abs(z[interval + 1, which])
        length, drop = t[interval + 1] - t[interval], left + right
        # From the nearer end, lest a small distance to it be lost.
        at = np.where(left <= right, t[interval] + left / drop * length, t[interval + 1] - right / drop * length)
        # A small slope leaves the zero uncertain.
        error = noise[interval // run, which] / drop * length + 4 * np.spacing(at)
        node, neuron = np.concatenate([interval, interval + 1]), np.tile(which, 2)
        distance, reach = np.abs(np.tile(at, 2) - t[node]), np.tile(error, 2) + blur[node]
        near = np.flatnonzero(distance <= reach)
        node, neuron = node[near], neuron[near]
        new = ~asked[node, neuron]
        if not new.any():
            break
    near = distance[near] <= reach[near] * np.where(told[node, neuron], _ROUNDED, 1) + 4 * np.spacing(t[node])
    sign[node[near], neuron[near]] = 0
    node = _where(sign == 0)
    in_doubt = np.count_nonzero(z[node])
    # Where there is no noise, all terms are 0.
    exact = (z[node] == 0) & (noise[np.minimum(node[0], len(z) - 2) // run, node[1]] > 0)
    zeros = t[node[0][exact]], node[1][exact]
    z[node] = 0

    kept = np.flatnonzero(sign[interval, which] * sign[interval + 1, which])
    kept = kept[np.lexsort([at[kept], interval[kept]])]
    interval, neuron, at, error = interval[kept], which[kept], at[kept], error[kept]
    order = _order(maps, t, interval, neuron, at, error)
    neuron, at, error, slope = neuron[order], at[order], error[order], (drop / length)[kept[order]]
    leader = _leaders(interval, at, error)
    in_doubt += np.count_nonzero(at != at[leader])
    node, zero = np.unique(leader), np.argsort(leader, kind="stable")
    place = np.searchsorted(node, leader[zero])
    bends = _Bends(interval[node], at[node], error[node], place, neuron[zero], slope[zero])
    return sign, bends, zeros, in_doubt


def _least(noise, run, n_nodes, node, neuron):
    """Noise at nodes: the smaller of that on both sides."""
    return noise[np.clip([node - 1, node], 0, n_nodes - 2) // run, neuron].min(axis=0)


def _tell(maps, t, z, sign, noise, run, told, *places):
    """Put the exact values of neurons at nodes in place, and their signs, as long as that costs little."""
    for node, neuron in zip(*places, strict=True):
        if not maps.affordable():
            break
        z[node, neuron] = maps.value(neuron, t[node], t[max(node, 1)])
        sign[node, neuron] = _sign(z[node, neuron], _least(noise, run, len(z), node, neuron) * _ROUNDED)
        told[node, neuron] = True


def _order(maps, t, interval, neuron, at, error):
    """Order of zeros along the segment. Those that cannot be told apart are put where they exactly are, in place."""
    apart = (np.diff(at) > error[:-1] + error[1:]) | (np.diff(interval) > 0)
    run = np.cumsum(np.append(True, apart))
    for one in np.unique(run[1:][~apart & (np.diff(at) > 0)]):
        some = slice(*np.searchsorted(run, [one, one + 1]))
        if not maps.affordable():
            break
        start, end = t[interval[some.start] :][:2]
        exact, best = [maps.zero(each, end) for each in neuron[some]], np.argmin(error[some])
        at[some] = at[some][best] + np.array([float(zero - exact[best]) for zero in exact])
        at[some] = np.clip(at[some], np.nextafter(start, 1), np.nextafter(end, 0))
        error[some] = error[some] * _ROUNDED + 4 * np.spacing(at[some])
    return np.lexsort([at, interval])


def _where(mask):
    """Rows and columns where a mask is true; np.nonzero takes longer."""
    return divmod(np.flatnonzero(mask), mask.shape[1])


def _leaders(interval, at, error):
    """For each zero, the one at whose position it is put: the best determined of those it cannot be told from."""
    leader, todo = np.empty(len(at), dtype=np.intp), np.arange(len(at))
    while len(todo):
        apart = np.diff(at[todo]) > error[todo][:-1] + error[todo][1:]
        run = np.cumsum(np.append(True, apart | (np.diff(interval[todo]) > 0))) - 1
        best = np.lexsort([error[todo], run])[np.searchsorted(run, np.arange(run[-1] + 1))]
        best = todo[best][run]
        near = np.abs(at[todo] - at[best]) <= error[todo] + error[best]
        leader[todo[near]] = best[near]
        todo = todo[~near]
    return leader


def _flips(t, sign, bends):
    """Which neurons are active on the first interval; position and neuron of each change of activity."""
    first = (sign[0] > 0) | (sign[0] == 0) & (sign[1] > 0)
    node, neuron = _where(sign[1:-1] == 0)
    # A neuron that is 0 at a node is active on that side of it where it is > 0 at the next node.
    changes = (sign[node, neuron] > 0) != (sign[node + 2, neuron] > 0)
    at = np.concatenate([t[1:-1][node[changes]], bends.at[bends.node]])
    return first, at, np.concatenate([neuron[changes], bends.neuron])


def _sign(z, noise):
    return (z > noise).view(np.int8) - (z < -noise).view(np.int8)


def _carried(W, b, negative_slope, z, noise, run, bends):
    """Noise of the next layer, from that of this layer: a row for each run of so many intervals between nodes.

    A run is one interval, or more if so many rows would take longer than the values do. Neurons that are active
    nowhere on it carry nothing on.
    """
    starts = np.arange(0, len(z) - 1, run)
    end = z[np.minimum(starts + run, len(z) - 1)]
    high = np.maximum(np.maximum.reduceat(z, starts), end)
    low = np.minimum(np.minimum.reduceat(z, starts), end)
    errors = noise + ROUNDING * np.maximum(high, -low)
    errors[high <= 0] *= negative_slope
    noise = carry(W, b, errors)
    row = np.repeat(np.arange(len(z) - 1) // run, 1 + np.bincount(bends.interval, minlength=len(z) - 1))
    run = -(-len(row) // max(32, _NOISE // W.shape[0] ** 2))
    last = np.append(row[run - 1 :: run], row[-1])[: -(-len(row) // run)]
    ranges = np.stack([row[::run], last + 1], axis=1).ravel()
    return np.maximum.reduceat(np.append(noise, noise[-1:], axis=0), ranges)[::2], run


def _through(W, b, negative_slope, t, z, bends):
    """Pre-activations of the next layer, at the old and the new nodes, from those of this layer at the old nodes.

    Between two nodes the next layer is affine, but for the neurons that bend there. So its values at a new node
    follow from those at the two nodes around it and from these bends, at a fraction of a full product's cost. Some
    new nodes of a long run are done in full, to keep the others' work small; all of them in a narrow network.
    """
    place = np.arange(len(bends.at)) - np.searchsorted(bends.interval, bends.interval)
    full = (place % _RUN == _RUN - 1) | (W.shape[1] <= 2 * _RUN)
    bent = full[bends.node]  # which zeros lie on such a node
    rank = np.where(full, np.cumsum(full), np.cumsum(~full)) - 1

    rows = _between(t, z, bends.interval[full], bends.at[full])
    rows[rank[bends.node[bent]], bends.neuron[bent]] = 0
    if len(rows):
        z = np.insert(z, bends.interval[full] + 1, rows, axis=0)
        t = np.insert(t, bends.interval[full] + 1, bends.at[full])
    h = np.maximum(z, negative_slope * z if negative_slope else 0, out=z)
    z = _product(W, h)
    z += b
    at, node = bends.at[~full], rank[bends.node[~bent]]
    interval = np.searchsorted(t, at) - 1
    rows = _bent(W, t, z, interval, at, node, bends.neuron[~bent], (1 - negative_slope) * bends.slope[~bent])
    return np.insert(z, interval + 1, rows, axis=0)


def _bent(W, t, z, interval, at, node, neuron, kink):
    """Values of the next layer at positions in intervals, where outputs bend: neuron[k] by kink[k] at at[node[k]]."""
    rows = _between(t, z, interval, at)
    low, peak, high = t[interval[node]], at[node], t[interval[node] + 1]
    height = kink / (high - low)
    columns = np.ascontiguousarray(W.T)
    # Blocks of whole intervals, of about _RUN nodes.
    ends = np.append(np.flatnonzero(np.diff(interval, prepend=-1)), len(at))
    blocks = np.unique(ends[np.searchsorted(ends, np.append(np.arange(0, len(at), _RUN), len(at)))])
    for i, j in pairwise(blocks):
        # An output that bends lies below the straight line by a hat, with its peak where it bends.
        some = slice(*np.searchsorted(node, [i, j]))
        p, q = at[i:j, None], peak[some]
        hats = (np.minimum(p, q) - low[some]) * (high[some] - np.maximum(p, q))  # < 0 in all other intervals
        rows[i:j] -= (hats.clip(min=0) * height[some]) @ columns[neuron[some]]
    return rows


def _between(t, z, interval, at):
    """Values on the straight lines between nodes: at positions in intervals, shape=[n, width]."""
    rows = z[interval + 1]
    rows -= z[interval]
    rows *= ((at - t[interval]) / (t[interval + 1] - t[interval]))[:, None]
    rows += z[interval]
    return rows


def _product(W, h):
    """Return h @ W.T, leaving out the neurons that are 0 on many neighbouring rows, as with ReLU many are."""
    out = np.empty((len(h), len(W)))
    for start in range(0, len(h), _ROWS):
        rows = h[start : start + _ROWS]
        alive = np.flatnonzero(rows.any(axis=0))
        np.matmul(rows.take(alive, axis=1), W.take(alive, axis=1).T, out=out[start : start + _ROWS])
    return out


def _check_segment(network, start, end):
    ends = []
    for name, given in (("start", start), ("end", end)):
        point = finite_array(f"line_partition: {name}", given)
        if point.shape != (network.input_dim,):
            shape = f"shape {point.shape}, but the network's input has dimension {network.input_dim}"
            raise ValueError(f"line_partition: {name} has {shape}")
        ends.append(point)
    if (ends[0] == ends[1]).all():
        raise ValueError(f"line_partition: start and end are both {one_line(end)}, expected two different points")
    return ends
