"""The regions of a network along a segment: all its breakpoints, layer by layer.

Between two neighbouring breakpoints of the first k layers, layer k + 1 is affine, so each of its neurons changes sign
at most once there, and its values at the breakpoints determine it everywhere: straight lines join them.

The algorithm keeps a sorted list of *nodes* (positions t: both ends and all breakpoints so far) and a table z of the
pre-activations of the current layer at the nodes. Invariant: between two neighbouring nodes every column of z is
affine in t. For each layer, `_cut` decides the sign of every value of z and finds the zeros between nodes (the *bends*:
the outputs of the layer bend there); `_through` computes the next layer's pre-activations at the old nodes and at the
bends, which then become nodes. `noise` bounds the errors of z and travels through the layers with it; values below it
are decided in rational arithmetic (`geolib.partition.exact.LineMaps`).
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from geolib.checks import flag, integer, one_line
from geolib.partition.exact import LineMaps, certified, line_counts, line_doubts
from geolib.partition.network import Partition, ReluNetwork, check_network, check_points, output_slopes
from geolib.partition.rounding import ROUNDING, carry, refuse_more

LARGEST = 1e250  # larger values may overflow when they are divided by the lengths of two intervals

_ROWS = 512  # rows of values that are processed at a time
_NOISE = 1 << 25  # multiplications that carrying the noise through a layer may take
_ROUNDED = 1 / 32  # rounding of the input may have made up to this share of the noise, 16 units, of an exact 0
_RUN = 32  # longest run of new nodes whose values are computed from the two nodes around the run


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
        Positions where the pattern changes, in (0, 1), increasing. Region i lies between breakpoints i - 1 and i.
    """

    network: ReluNetwork
    start: np.ndarray
    end: np.ndarray
    breakpoints: np.ndarray
    _flips: tuple  # per layer: which neurons are active at the start; the position and the neuron of each change
    _in_doubt: int
    _zeros: tuple  # per layer: the position and the neuron of each value that float64 computed as 0

    @property
    def n_regions(self) -> int:
        """Number of regions: open intervals whose pattern differs from that of their neighbours."""
        return len(self.breakpoints) + 1

    @cached_property
    def snapped(self) -> int:
        """Number of doubtful decisions: values of a neuron, or distances of two crossings, taken as 0 without a proof.

        Such a value is smaller than what rounding of the input may have made of an exact 0, or deciding it in rational
        arithmetic would have taken too long (see the Notes of `line_partition`).

        If the number is 0, no region is in doubt: all values that float64 computes as 0, and all crossings that it
        computes as equal, have been verified in rational arithmetic. (They are not verified when other decisions are
        in doubt already; above 50,000 nodes, all of them count as in doubt.)
        """
        return self._in_doubt or line_doubts(self)

    @cached_property
    def n_pieces(self) -> int:
        """Number of affine pieces: maximal intervals on which the output is one affine map of t.

        At most `n_regions`: a change of pattern need not change the output. Maps include the readout and are compared
        along the segment, up to rounding: a neuron's contribution to a slope 1e13 times as steep may be lost. `snapped`
        does not count that; `certify` finds it.
        """
        ends, changes = np.stack([self.start, self.end]), 0
        along = np.diff(np.ldexp(ends, -np.frexp(np.abs(ends).max())[1]), axis=0)  # scaled, so as not to overflow
        for start in range(0, self.n_regions - 1, _ROWS - 1):
            patterns = [(slice(None), active[start : start + _ROWS]) for active in self.active]
            slopes, noise = output_slopes(self.network._rescaled, along, patterns)
            # The output is continuous, so neighbouring maps are equal if their slopes are.
            changes += int((np.abs(np.diff(slopes, axis=0)) > noise[1:] + noise[:-1]).any(axis=1).sum())
        return 1 + changes

    @cached_property
    def midpoints(self) -> np.ndarray:
        """Position t of the middle of each region, shape=[n_regions]."""
        nodes = np.concatenate([[0.0], self.breakpoints, [1.0]])
        return (nodes[:-1] + nodes[1:]) / 2

    @cached_property
    def active(self) -> tuple[np.ndarray, ...]:
        """Which neurons are active on each region: a tuple of bool arrays, one per layer, shape=[n_regions, width_k].

        It has the layout of `network.pattern` for one point of each region.
        """
        layers = []
        for first, at, neuron in self._flips:
            changed = np.zeros((self.n_regions, len(first)), dtype=bool)
            changed[0] = first
            changed[np.searchsorted(self.breakpoints, at) + 1, neuron] = True
            layers.append(np.logical_xor.accumulate(changed, axis=0))
        return tuple(layers)


def line_partition(
    network: ReluNetwork, start: ArrayLike, end: ArrayLike, *, limit: int = 2_000_000, certify: bool = False
) -> LinePartition:
    """Cut a segment of the input space into the regions of a network.

    All breakpoints are found, for any depth, width and input dimension, exact up to rounding in float64. Input in
    special position (zero biases, equal or opposite neurons, neurons that touch 0, breakpoints at the ends) is not
    perturbed: a value that the rounding of the input makes indistinguishable from 0 counts as 0.

    Parameters
    ----------
    network : ReluNetwork
        The network.
    start, end : array-like, shape=[input_dim]
        The segment's ends, two different points. Breakpoints at the ends themselves are not counted.
    limit : int
        Largest number of regions that may be made.
    certify : bool
        Whether to count regions and pieces again, in rational arithmetic and by another algorithm, and raise if the
        counts differ. Meant for small networks: it is slow, and refused above 2,000 regions.

    Returns
    -------
    LinePartition
        Breakpoints, patterns and counts.

    Raises
    ------
    TypeError
        If `network` is not a ReluNetwork, or another argument is not of the type above.
    ValueError
        If a shape or a number is wrong, the ends are equal, there are more than `limit` regions, or values overflow;
        if `certify` finds other counts, or there are too many regions for it.

    Notes
    -----
    Every value has a tolerance for the rounding errors of its computation: 512 units of float64 relative to the terms
    of each sum, carried through the layers with the values as independent errors, plus the effect of the error of the
    breakpoint's position. A value within its tolerance is decided in rational arithmetic, as long as all such decisions
    take no more than a second or two. So the count is exact, except for values within 16 units of 0: the rounding of
    degenerate input, such as neurons through the point (0.3, -0.2), makes values of this size. They count as 0 (such
    neurons share one breakpoint), and `snapped` says how many there were.

    With one hidden layer, the number of regions is 1 plus the number of neurons in which the patterns at the two ends
    differ, as long as no neuron is 0 at an end and no two change at the same point. For deeper networks that number is
    a lower bound: a neuron may change more than once.

    Depth alone loses no digits, but the errors of neurons that are differences of each other are not independent, and
    then the tolerance grows faster than the true errors: a sawtooth of 2^19 teeth, one fold per layer, is counted
    completely; one of 2^20 is not, and `snapped` > 0 reports it. `certify` treats floats as the exact rationals that
    they are, and so never counts a nonzero value as 0.

    Time and memory grow with the number of regions times the width of the widest layer; memory takes about 25 bytes
    for each such pair.

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
    check_network("line_partition", network)
    given, start = start, check_points("line_partition: start", start, network, single=True)
    end = check_points("line_partition: end", end, network, single=True)
    if (start == end).all():
        raise ValueError(f"line_partition: start and end are both {one_line(given)}, but two points were expected")
    limit, certify = integer("line_partition: limit", limit, 1), flag("line_partition: certify", certify)
    t, blur = np.array([0.0, 1.0]), np.zeros(2)  # positions of the nodes, and bounds on the errors of these positions
    z, flips, zeros, snapped, bends = np.stack([start, end]), [], [], 0, cast(Any, None)
    scaled = network._rescaled
    maps = LineMaps(scaled, start, end, flips)
    for k, (W, b) in enumerate(zip(scaled.weights, scaled.biases, strict=True)):
        with np.errstate(over="ignore", invalid="ignore"):  # the noise is then infinite or NaN, which is tested below
            if bends is None:
                z, noise, run = z @ W.T + b, carry(W, b, ROUNDING * np.abs(z).max(axis=0, keepdims=True)), 1
            else:
                noise, run = _carried(W, b, network.negative_slope, z, noise, run, bends)
                z = _through(W, b, network.negative_slope, t, z, bends)
                t, blur = bends.insert(t, bends.at), bends.insert(blur, bends.error)
        if not noise.max() < LARGEST * ROUNDING / W.shape[1]:
            raise ValueError(f"line_partition: weights[{k}] gives values above {LARGEST}, but smaller were expected")
        sign, bends, zero, in_doubt = _cut(t, blur, z, noise, run, maps)
        refuse_more("line_partition", limit, len(t) - 1 + len(bends.at))
        flips.append(_flips(t, sign, bends))
        zeros.append(zero)
        snapped += in_doubt
    t = bends.insert(t, bends.at)
    partition = LinePartition(network, start, end, t[1:-1], tuple(flips), int(snapped), tuple(zeros))
    if certify:
        certified("line_partition", partition, lambda most: line_counts(network, start, end, most))
    return partition


@dataclass
class _Bends:
    """Where a layer's neurons change sign between nodes: their outputs bend there, and the next nodes are made there.

    Neurons whose zeros are indistinguishable up to rounding share a node. Arrays are aligned in two groups: one entry
    for each new node, and one for each zero.
    """

    interval: np.ndarray  # of each new node: the interval between old nodes that it lies in; sorted
    at: np.ndarray  # of each new node: its position; sorted
    error: np.ndarray  # of each new node: how far rounding may have moved it
    node: np.ndarray  # of each zero: its new node; sorted
    neuron: np.ndarray  # of each zero: the neuron
    slope: np.ndarray  # of each zero: how steep the pre-activation is there, in absolute value

    def insert(self, old, new):
        """Insert a quantity of the new nodes into the same quantity of the old nodes, in the order of the positions."""
        return np.insert(old, self.interval + 1, new)


def _cut(t, blur, z, noise, run, maps):
    """Decide the sign of each value of z, and find the bends between nodes.

    The idea: take signs with the tolerance `noise`, compute the zeros between nodes from them, and ask for exact values
    wherever a decision is closer than the tolerance: a value at a node, or a zero so close to a node that it may lie
    at the node or on the other side of it. Exact values may change signs, and signs change which zeros there are, so
    this repeats until no new value is asked for. What is still too close counts as 0 at the node, and is set to 0.

    Parameters
    ----------
    t, blur : array, shape=[n_nodes]
        Nodes, and bounds on the errors of their positions.
    z : array, shape=[n_nodes, width]
        Pre-activations at the nodes; corrected in place.
    noise : array, shape=[n_runs, width]
        Bounds on the errors of z, a row for each run of `run` intervals between nodes.
    maps : LineMaps
        Exact values.

    Returns
    -------
    sign : int array, shape=[n_nodes, width]
    bends : _Bends
    zeros : pair of arrays
        Position and neuron of each value that float64 computed as 0.
    in_doubt : int
        Number of decisions that `LinePartition.snapped` counts.
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
        # Measured from the nearer end, so that a small distance to it keeps its digits.
        at = np.where(left <= right, t[interval] + left / drop * length, t[interval + 1] - right / drop * length)
        # Where the slope is small, an error of the value moves the zero far.
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
    # Without noise all terms of the sum are 0, and the value is exactly 0.
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
    """Noise at nodes: the smaller one of the intervals on both sides."""
    return noise[np.clip([node - 1, node], 0, n_nodes - 2) // run, neuron].min(axis=0)


def _tell(maps, t, z, sign, noise, run, told, *places):
    """Replace values of neurons at nodes, and their signs, by exact ones, as long as that is affordable."""
    for node, neuron in zip(*places, strict=True):
        if not maps.affordable():
            break
        z[node, neuron] = maps.value(neuron, t[node], t[max(node, 1)])
        sign[node, neuron] = _sign(z[node, neuron], _least(noise, run, len(z), node, neuron) * _ROUNDED)
        told[node, neuron] = True


def _order(maps, t, interval, neuron, at, error):
    """Order zeros along the segment; zeros whose order is in doubt are first moved, in place, to exact positions."""
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
    """Rows and columns where a mask is true; faster than np.nonzero."""
    return divmod(np.flatnonzero(mask), mask.shape[1])


def _leaders(interval, at, error):
    """For each zero, the index of its leader, at whose position it is put.

    The leader of a run of overlapping zeros is the one with the smallest error; zeros of the run that are farther from
    it than both errors allow form the next runs, until every zero has a leader.
    """
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
    """Which neurons are active on the first interval, and the position and the neuron of each change of activity."""
    first = (sign[0] > 0) | (sign[0] == 0) & (sign[1] > 0)
    node, neuron = _where(sign[1:-1] == 0)
    # A neuron that is 0 at a node is active on a side of the node if it is > 0 at the next node on that side.
    changes = (sign[node, neuron] > 0) != (sign[node + 2, neuron] > 0)
    at = np.concatenate([t[1:-1][node[changes]], bends.at[bends.node]])
    return first, at, np.concatenate([neuron[changes], bends.neuron])


def _sign(z, noise):
    return (z > noise).view(np.int8) - (z < -noise).view(np.int8)


def _carried(W, b, negative_slope, z, noise, run, bends):
    """Noise of the next layer, given that of this layer: a row for each run of intervals, and the length of a run.

    A run is one interval, or several if a row for each interval would take longer than the values themselves. Neurons
    that are active nowhere on a run pass no errors on.
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

    Between two old nodes the next layer is affine, except for the neurons that bend there. So its values at a new node
    follow from the values at the two nodes around it and from these bends, at a fraction of the cost of a full matrix
    product. In a long run of new nodes, every `_RUN`-th one is computed by a full product, so that few bends lie
    between; in a narrow network a full product is cheaper, and all are computed so.
    """
    interval, at, node, neuron = bends.interval, bends.at, bends.node, bends.neuron
    place = np.arange(len(at)) - np.searchsorted(interval, interval)
    full = (place % _RUN == _RUN - 1) | (W.shape[1] <= 2 * _RUN)
    rank, bent = np.where(full, np.cumsum(full), np.cumsum(~full)) - 1, full[node]
    if full.any():
        rows = _between(t, z, interval[full], at[full])
        rows[rank[node[bent]], neuron[bent]] = 0
        z, t = np.insert(z, interval[full] + 1, rows, axis=0), np.insert(t, interval[full] + 1, at[full])
    h = np.maximum(z, negative_slope * z if negative_slope else 0, out=z)
    z = _product(W, h)
    z += b

    at, node, neuron, kink = at[~full], rank[node[~bent]], neuron[~bent], (1 - negative_slope) * bends.slope[~bent]
    interval = np.searchsorted(t, at) - 1
    rows, columns = _between(t, z, interval, at), np.ascontiguousarray(W.T)
    # Between two nodes, an output that bends lies below the straight line by a hat function that peaks at the bend.
    low, peak, high = t[interval[node]], at[node], t[interval[node] + 1]
    height = kink / (high - low)
    step = 1 + _RUN * len(t) // (1 + len(at))  # intervals in a row that have about _RUN new nodes
    for i, j in pairwise(np.searchsorted(interval, np.arange(0, len(t) + step, step))):
        some = slice(*np.searchsorted(node, [i, j]))
        p, q = at[i:j, None], peak[some]
        hats = (np.minimum(p, q) - low[some]) * (high[some] - np.maximum(p, q))  # negative in all other intervals
        rows[i:j] -= (hats.clip(min=0) * height[some]) @ columns[neuron[some]]
    return np.insert(z, interval + 1, rows, axis=0)


def _between(t, z, interval, at):
    """Values at positions in intervals, interpolated on the straight lines between nodes, shape=[n, width]."""
    rows = z[interval + 1]
    rows -= z[interval]
    rows *= ((at - t[interval]) / (t[interval + 1] - t[interval]))[:, None]
    rows += z[interval]
    return rows


def _product(W, h):
    """Return h @ W.T; in each block of rows, neurons that are 0 on all of it (with ReLU, many) are left out."""
    out = np.empty((len(h), len(W)))
    for start in range(0, len(h), _ROWS):
        rows = h[start : start + _ROWS]
        alive = np.flatnonzero(rows.any(axis=0))
        np.matmul(rows.take(alive, axis=1), W.take(alive, axis=1).T, out=out[start : start + _ROWS])
    return out
