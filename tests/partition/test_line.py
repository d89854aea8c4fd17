"""line_partition: against rational arithmetic, closed forms, plane partitions, and the network itself."""

from fractions import Fraction
from itertools import pairwise
from operator import mul, sub

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import after_identity, he_layers, random_layers, rescaled

from geolib.partition import LinePartition, ReluNetwork, exact, line_partition, plane_partition
from geolib.partition import line as line_module

seeds = st.integers(0, 2**32 - 1)


def layer(normals, offsets, start, end, **kwargs):
    return line_partition(ReluNetwork([normals], [offsets]), start, end, **kwargs)


def sawtooth(depth):
    """Tent map of [0, 1], iterated: 2^depth straight teeth, from relu(2x) - relu(4x - 2)."""
    weights = [[[2], [4]], *[[[2, -2], [4, -4]]] * (depth - 1)]
    return ReluNetwork(weights, [[0, -2]] * depth, readout=([[1, -1]], [0]))


def rows(partition):
    """Pattern of each region, all layers side by side."""
    return np.concatenate(partition.active, axis=1)


# --- Against rational arithmetic ---------------------------------------------------------------------------------


def walk(weights, biases, readout, slope, start, end):
    """Breakpoints, patterns, and the output's slopes: from each point on to the nearest zero of any neuron."""
    layers = [
        ([[Fraction(w) for w in row] for row in W], [Fraction(c) for c in b])
        for W, b in zip(weights, biases, strict=True)
    ]
    start, end = [Fraction(x) for x in start], [Fraction(x) for x in end]
    direction = list(map(sub, end, start))
    t, breakpoints, patterns, slopes = Fraction(0), [], [], []
    while t < 1:
        values, rises, pattern, zeros = [x + t * d for x, d in zip(start, direction, strict=True)], direction, [], []
        for W, b in layers:
            values, rises = [dot(row, values) + c for row, c in zip(W, b, strict=True)], [dot(row, rises) for row in W]
            here = list(zip(values, rises, strict=True))
            zeros += [t - value / rise for value, rise in here if rise]
            active = [pair > (0, 0) for pair in here]  # just right of t: the slope breaks a tie
            pattern += active
            gains = [1 if on else slope for on in active]
            values, rises = list(map(mul, gains, values)), list(map(mul, gains, rises))
        patterns.append(pattern)
        slopes.append([dot(map(Fraction, row), rises) for row in readout[0]] if readout else rises)
        t = min([zero for zero in zeros if t < zero < 1], default=Fraction(1))
        breakpoints.append(t)
    return breakpoints[:-1], patterns, slopes


def dot(row, column):
    return sum(map(mul, row, column))


@st.composite
def integer_networks(draw):
    """Small integers: zero rows, parallel neurons, common zeros and zeros at the ends are all frequent."""
    number = st.integers(-2, 2)
    dims = [draw(st.integers(1, 3)), *draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))]
    vector = lambda n: draw(st.lists(number, min_size=n, max_size=n))  # noqa: E731
    weights = [[vector(before) for _ in range(after)] for before, after in pairwise(dims)]
    biases = [vector(after) for after in dims[1:]]
    readout = ([vector(dims[-1])], vector(1)) if draw(st.booleans()) else None
    start, end = vector(dims[0]), vector(dims[0])
    start[0] += start == end
    return weights, biases, readout, start, end


def check_against_walk(partition, expected):
    breakpoints, patterns, slopes = expected
    assert partition.n_regions == len(patterns)
    np.testing.assert_allclose(partition.breakpoints, [float(t) for t in breakpoints], rtol=1e-12)
    assert rows(partition).tolist() == patterns
    assert partition.n_pieces == 1 + sum(left != right for left, right in pairwise(slopes))


@pytest.mark.whole
@settings(deadline=None, max_examples=300)
@given(net=integer_networks(), slope=st.sampled_from([0, 0.5]), seed=seeds, run=st.sampled_from([1, 32]))
def test_agrees_with_rational_arithmetic(net, slope, seed, run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_module, "_RUN", run)  # 1: take short cuts in narrow networks too
        check_in_rationals(net, slope, seed)


def check_in_rationals(net, slope, seed):
    weights, biases, readout, start, end = net
    expected = walk(weights, biases, readout, Fraction(slope), start, end)
    network = ReluNetwork(weights, biases, readout=readout, negative_slope=slope)
    check_against_walk(line_partition(network, start, end, certify=True), expected)

    rng = np.random.default_rng(seed)
    before = rng.uniform(0.1, 3, size=len(start))
    start, end = start * before, end * before
    *scaled, readout = rescaled(rng, before, weights, biases, readout)
    network = ReluNetwork(*scaled, readout=readout, negative_slope=slope)
    check_against_walk(line_partition(network, start, end), expected)


# --- Closed forms ------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(seed=seeds, n=st.integers(1, 200), input_dim=st.integers(1, 20))
def test_one_layer_has_as_many_regions_as_its_end_patterns_differ(seed, n, input_dim):
    rng = np.random.default_rng(seed)
    network = ReluNetwork(*random_layers(rng, [input_dim, n]))
    ends = rng.normal(size=(2, input_dim))
    partition = line_partition(network, *ends)
    assert partition.n_regions == 1 + np.count_nonzero(np.diff(network.pattern(ends)[0], axis=0))
    values = ends @ network.weights[0].T + network.biases[0]
    zeros = [a / (a - b) for a, b in values.T if a * b < 0]
    np.testing.assert_allclose(partition.breakpoints, np.sort(zeros), rtol=1e-12)


@settings(deadline=None, max_examples=50)
@given(seed=seeds)
def test_deep_networks_have_at_least_as_many(seed):
    rng = np.random.default_rng(seed)
    network = ReluNetwork(*random_layers(rng, [3, 20, 20, 20]))
    ends = rng.normal(scale=3, size=(2, 3))
    changed = sum(np.count_nonzero(np.diff(active, axis=0)) for active in network.pattern(ends))
    assert line_partition(network, *ends).n_regions >= 1 + changed


@pytest.mark.parametrize("depth", [1, 2, 7, 14])
def test_a_sawtooth(depth):
    partition = line_partition(sawtooth(depth), [0], [1])
    assert partition.n_regions == partition.n_pieces == 2**depth
    np.testing.assert_array_equal(partition.breakpoints, np.arange(1, 2**depth) / 2**depth)
    assert partition.snapped == 0
    # Deep enough, the patterns at the ends say nothing: f(0) = f(1), and all neurons agree.
    assert np.array_equal(rows(partition)[0, 2:], rows(partition)[-1, 2:])


def test_regions_and_pieces_differ():
    identity = ReluNetwork([[[1], [-1]]], [[0, 0]], readout=([[1, -1]], [0]))
    partition = line_partition(identity, [-1], [1], certify=True)
    assert (partition.n_regions, partition.n_pieces) == (2, 1)
    # Pieces are of neighbours: a bump that comes and goes leaves the map it began with, and still makes 4.
    bump = ReluNetwork([[[1], [1], [1]]], [[0, -1, -2]], readout=([[1, -2, 1]], [0]))
    partition = line_partition(bump, [-1], [3], certify=True)
    assert (partition.n_regions, partition.n_pieces) == (4, 4)
    assert partition.affine_map(0)[0].tolist() == partition.affine_map(3)[0].tolist() == [[0]]


def test_pieces_are_taken_along_the_line():
    # The second neuron changes on the segment, and changes the map of the plane; but nothing along the segment.
    network = ReluNetwork([[[1, 0], [0, 1]]], [[0, -0.5]], readout=([[1, 0]], [0]))
    partition = line_partition(network, [-1, 0], [1, 1], certify=True)
    assert (partition.n_regions, partition.n_pieces) == (2, 2)  # both change at t = 1/2
    partition = line_partition(network, [1, 0], [1, 1], certify=True)
    assert (partition.n_regions, partition.n_pieces) == (2, 1)


# --- The network itself ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    seed=seeds,
    dims=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    slope=st.sampled_from([0.0, 0.1]),
    readout=st.booleans(),
    input_dim=st.integers(1, 5),
)
def test_patterns_and_maps_hold_inside_every_region(seed, dims, slope, readout, input_dim):
    rng = np.random.default_rng(seed)
    network = ReluNetwork(
        *random_layers(rng, [input_dim, *dims]),
        readout=(rng.normal(size=(2, dims[-1])), rng.normal(size=2)) if readout else None,
        negative_slope=slope,
    )
    start, end = rng.normal(scale=3, size=(2, input_dim))
    partition = line_partition(network, start, end)
    assert [p.shape for p in partition.active] == [(partition.n_regions, width) for width in dims]
    assert (np.diff(partition.breakpoints) > 0).all()
    assert (rows(partition)[1:] != rows(partition)[:-1]).any(axis=1).all()
    nodes = np.concatenate([[0], partition.breakpoints, [1]])
    for i, (low, high) in enumerate(pairwise(nodes)):
        t = low + (high - low) * np.array([1e-3, 0.3, 0.5, 0.9, 0.999])
        assert partition.midpoints[i] == pytest.approx(t[2])
        if high - low < 1e-9:
            continue  # too short to hold points that are safely inside
        x = start + t[:, None] * (end - start)
        for expected, found in zip(partition.patterns[i], network.pattern(x), strict=True):
            assert (found == expected).all()
        A, b = partition.affine_map(i)
        np.testing.assert_allclose(x @ A.T + b, network(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("slope", [0.0, 0.3])
@pytest.mark.parametrize("input_dim", [1, 2, 16])
def test_breakpoints_of_a_wide_network_are_right_to_1e_12(input_dim, slope):
    rng = np.random.default_rng(input_dim)
    network = ReluNetwork(*random_layers(rng, [input_dim, 150, 150, 150]), negative_slope=slope)
    start, end = -np.ones(input_dim), np.ones(input_dim)
    partition = line_partition(network, start, end)
    assert partition.n_regions > 150
    assert partition.snapped == 0
    # In extended precision where there is some: the neurons of the pattern change between t - 1e-12 t and t + 1e-12 t.
    for side, expected in ((-1, rows(partition)[:-1]), (1, rows(partition)[1:])):
        t = partition.breakpoints.astype(np.longdouble) * (1 + side * np.longdouble(1e-12))
        h, found = start + t[:, None] * (end - start), []
        for W, b in zip(network.weights, network.biases, strict=True):
            z = h @ W.T.astype(np.longdouble) + b
            found.append(z > 0)
            h = np.where(z > 0, z, slope * z)
        np.testing.assert_array_equal(np.concatenate(found, axis=1), expected)


@pytest.mark.parametrize("slope", [0.0, 0.3])
@pytest.mark.parametrize("copies", [1, 3])
def test_values_that_follow_from_their_neighbours(monkeypatch, slope, copies):
    """Wide layers take the values at most new nodes from their neighbours'; the full product must say the same."""
    rng = np.random.default_rng(copies)
    weights, biases = random_layers(rng, [2, 300 // copies, 100, 90])
    # Copies of neurons bend at the same nodes.
    weights[0], biases[0] = np.repeat(weights[0], copies, axis=0), np.repeat(biases[0], copies)
    weights[1] = np.repeat(weights[1], copies, axis=1) / copies
    network = ReluNetwork(weights, biases, negative_slope=slope)
    start, end = [-1, -0.8], [0.7, 1]
    partition = line_partition(network, start, end)
    monkeypatch.setattr(line_module, "_RUN", 10**6)
    in_full = line_partition(network, start, end)
    np.testing.assert_allclose(partition.breakpoints, in_full.breakpoints, rtol=1e-12)
    np.testing.assert_array_equal(rows(partition), rows(in_full))
    assert partition.n_pieces == in_full.n_pieces


def test_a_dense_walk_finds_no_other_pattern():
    network = ReluNetwork(*random_layers(np.random.default_rng(3), [4, 30, 30, 30]))
    start, end = np.array([[-2.0] * 4, [2.0, 3.0, 1.0, 2.0]])
    partition = line_partition(network, start, end)
    t = (np.arange(20000) + 0.5) / 20000
    found = np.concatenate(network.pattern(start + t[:, None] * (end - start)), axis=1)
    np.testing.assert_array_equal(found, rows(partition)[np.searchsorted(partition.breakpoints, t)])


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_the_other_way_round(seed):
    rng = np.random.default_rng(seed)
    network = ReluNetwork(*random_layers(rng, [3, 15, 15]), readout=(rng.normal(size=(2, 15)), [0, 0]))
    start, end = rng.normal(scale=3, size=(2, 3))
    there, back = line_partition(network, start, end), line_partition(network, end, start)
    np.testing.assert_allclose(back.breakpoints, 1 - there.breakpoints[::-1], atol=1e-12)
    np.testing.assert_array_equal(rows(back), rows(there)[::-1])
    assert back.n_pieces == there.n_pieces


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_halves_add_up(seed):
    rng = np.random.default_rng(seed)
    network = ReluNetwork(*random_layers(rng, [3, 15, 15]), readout=(rng.normal(size=(1, 15)), [0]))
    start, end = rng.normal(scale=3, size=(2, 3))
    middle = (start + end) / 2
    whole, first, second = (line_partition(network, *ends) for ends in ((start, end), (start, middle), (middle, end)))
    halves = np.concatenate([first.breakpoints / 2, 0.5 + second.breakpoints / 2])
    np.testing.assert_allclose(halves, whole.breakpoints, atol=1e-12)
    assert first.n_pieces + second.n_pieces - 1 == whole.n_pieces


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_scaling_and_permuting_neurons_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    (W0, W1), (b0, b1) = random_layers(rng, [3, 20, 15])
    readout, ends = rng.normal(size=(1, 15)), rng.normal(scale=3, size=(2, 3))
    before = line_partition(ReluNetwork([W0, W1], [b0, b1], readout=(readout, [0])), *ends)
    order, scale = rng.permutation(20), np.exp(rng.normal(scale=5, size=20))
    weights, biases = [(scale[:, None] * W0)[order], (W1 / scale)[:, order]], [(scale * b0)[order], b1]
    after = line_partition(ReluNetwork(weights, biases, readout=(readout, [0])), *ends)
    np.testing.assert_allclose(after.breakpoints, before.breakpoints, atol=1e-12)
    np.testing.assert_array_equal(after.active[0], before.active[0][:, order])
    np.testing.assert_array_equal(after.active[1], before.active[1])
    assert after.n_pieces == before.n_pieces


# --- Planes ------------------------------------------------------------------------------------------------------


def segment_in(polygon, start, end):
    """Part of a segment inside a convex, counter-clockwise polygon: interval of t."""
    side = np.roll(polygon, -1, axis=0) - polygon
    inward = np.stack([-side[:, 1], side[:, 0]], axis=1)
    at_start = np.sum(inward * (start - polygon), axis=1)
    rise = inward @ (end - start)
    zeros = -at_start / rise
    return max(0, zeros[rise > 0].max(initial=0)), min(1, zeros[rise < 0].min(initial=1))


@settings(deadline=None, max_examples=25)
@given(
    seed=seeds,
    dims=st.lists(st.integers(3, 10), min_size=1, max_size=3),
    slope=st.sampled_from([0.0, 0.2]),
    input_dim=st.integers(2, 4),
)
def test_a_line_meets_the_regions_of_a_plane(seed, dims, slope, input_dim):
    rng = np.random.default_rng(seed)
    network = ReluNetwork(*random_layers(rng, [input_dim, *dims]), negative_slope=slope)
    origin, axes = rng.normal(size=input_dim), rng.normal(size=(2, input_dim))
    plane = plane_partition(network, ((-2, 2), (-2, 2)), origin=origin, axes=axes)
    start, end = rng.uniform(-2, 2, (2, 2))
    line = line_partition(network, origin + start @ axes, origin + end @ axes)
    spans = np.array([segment_in(polygon, start, end) for polygon in plane.polygons])
    met = np.flatnonzero(spans[:, 1] - spans[:, 0] > 1e-9)
    met = met[np.argsort(spans[met, 0])]
    assert line.n_regions == len(met)
    for on_line, in_plane in zip(line.active, plane.active, strict=True):
        np.testing.assert_array_equal(on_line, in_plane[met])
    # Each breakpoint lies on an edge of the plane's partition: where one region ends and the next begins.
    np.testing.assert_allclose(spans[met[:-1], 1], line.breakpoints, atol=1e-10)
    np.testing.assert_allclose(spans[met[1:], 0], line.breakpoints, atol=1e-10)


# --- Special position --------------------------------------------------------------------------------------------

DEGENERATE = {
    # name: (weights, biases, readout, start, end), breakpoints, n_pieces
    "two neurons change at one point": (([[[1, 0], [0, 1]]], [[0, 0]], None, [-1, -1], [1, 1]), [1 / 2], 2),
    "opposite neurons": (([[[1], [-1]]], [[-1, 1]], ([[1, 1]], [0]), [0], [4]), [1 / 4], 2),
    "equal and scaled neurons": (([[[1], [3], [0.1]]], [[-1, -3, -0.1]], None, [0], [4]), [1 / 4], 2),
    "all through the origin": (([[[1, 2], [3, -1], [-2, 5], [0, 1]]], [[0] * 4], None, [-1, -2], [2, 4]), [1 / 3], 2),
    "a change at the start": (([[[1]]], [[0]], None, [0], [1]), [], 1),
    "a change at the end": (([[[1]]], [[-1]], None, [0], [1]), [], 1),
    "changes at both ends": (([[[1], [1], [2]]], [[0, -1, -1]], None, [0], [1]), [1 / 2], 2),
    "the segment in a hyperplane": (([[[1, 0], [0, 1]]], [[0, 0]], None, [0, -1], [0, 3]), [1 / 4], 2),
    "dead neurons": (([[[0], [0], [1]]], [[-1, 0, 0]], None, [-1], [1]), [1 / 2], 2),
    "a neuron always on": (([[[0], [1]]], [[1, 5]], None, [-1], [1]), [], 1),
    # relu(-x) + relu(x) and its negative touch 0 at x = 0, where the first layer changes.
    "touches 0 from above": (([[[1], [-1]], [[1, 1]]], [[0, 0], [0]], None, [-1], [1]), [1 / 2], 2),
    "touches 0 from below": (([[[1], [-1]], [[-1, -1]]], [[0, 0], [0]], None, [-1], [1]), [1 / 2], 1),
    # relu(x) - relu(x - 1) - 1 rises to 0 at x = 1, and stays.
    "0 on an interval": (([[[1], [1]], [[1, -1], [-1, 1]]], [[0, -1], [-1, 1]], None, [-1], [3]), [1 / 4, 1 / 2], 3),
    "0 everywhere": (([[[1], [2]], [[2, -1]]], [[0, 0], [0]], None, [-1], [1]), [1 / 2], 1),
    "the next layer changes at a breakpoint": (
        ([[[1], [1]], [[1, 1]]], [[0, 1], [-1]], None, [-2], [2]),
        [1 / 4, 1 / 2],
        2,
    ),
    "a dead layer": (([[[1]], [[-1]], [[1]]], [[0], [-1], [0]], None, [-1], [1]), [1 / 2], 1),
}


@pytest.mark.parametrize("slope", [0, 0.25])
@pytest.mark.parametrize("case", DEGENERATE)
def test_special_positions(case, slope):
    (weights, biases, readout, start, end), breakpoints, n_pieces = DEGENERATE[case]
    network = ReluNetwork(weights, biases, readout=readout, negative_slope=slope)
    partition = line_partition(network, start, end, certify=True)
    check_against_walk(partition, walk(weights, biases, readout, Fraction(slope), start, end))
    assert partition.snapped == 0  # all is exact in these numbers
    if slope == 0:
        assert partition.breakpoints.tolist() == pytest.approx(breakpoints, rel=1e-12)
        assert partition.n_pieces == n_pieces


@settings(deadline=None, max_examples=50)
@given(seed=seeds, n=st.integers(1, 80), input_dim=st.integers(2, 6))
def test_concurrent_neurons_change_at_one_point(seed, n, input_dim):
    rng = np.random.default_rng(seed)
    point, direction = rng.normal(size=(2, input_dim))
    normals = rng.normal(size=(n, input_dim)) * np.exp(rng.normal(scale=4, size=(n, 1)))
    partition = layer(normals, -normals @ point, point - 0.3 * direction, point + 0.7 * direction)
    assert partition.n_regions == 2
    assert partition.breakpoints[0] == pytest.approx(0.3, rel=1e-9)
    np.testing.assert_array_equal(partition.active[0][0], ~partition.active[0][1])


@settings(deadline=None, max_examples=30)
@given(seed=seeds, depth=st.integers(1, 4))
def test_without_biases_the_origin_is_the_one_breakpoint(seed, depth):
    rng = np.random.default_rng(seed)
    weights, _ = random_layers(rng, [3, *[10] * depth])
    network = ReluNetwork(weights, [np.zeros(10)] * depth)
    x = rng.normal(size=3)
    partition = line_partition(network, -0.2 * x, x)
    assert partition.n_regions == 2
    assert partition.breakpoints[0] == pytest.approx(1 / 6, rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, slope=st.sampled_from([0.0, 0.1]))
def test_split_neurons_of_a_deep_network_change_once(seed, slope):
    # Each hidden neuron becomes three, in awkward scales, that share its outgoing weight.
    rng = np.random.default_rng(seed)
    weights, biases = random_layers(rng, [3, 9, 9, 9])
    readout, ends = rng.normal(size=(1, 9)), rng.normal(scale=3, size=(2, 3))
    alone = line_partition(ReluNetwork(weights, biases, readout=(readout, [0]), negative_slope=slope), *ends)
    split, before = ([], []), lambda W: W
    for W, b in zip(weights, biases, strict=True):
        scale, share = np.exp(rng.normal(scale=2, size=27)), rng.dirichlet([1, 1, 1], size=9).T.reshape(-1)
        split[0].append(scale[:, None] * np.tile(before(W), (3, 1)))
        split[1].append(scale * np.tile(b, 3))
        before = lambda W, factor=share / scale: np.tile(W, (1, 3)) * factor  # noqa: E731
    together = line_partition(ReluNetwork(*split, readout=(before(readout), [0]), negative_slope=slope), *ends)
    np.testing.assert_allclose(together.breakpoints, alone.breakpoints, atol=1e-12)
    np.testing.assert_array_equal(together.active[1][:, :9], alone.active[1])
    assert together.n_pieces == alone.n_pieces


def test_errors_are_carried_from_layer_to_layer():
    # Layer 2 recovers x and y from sums near 1e5 and so loses five digits, which layer 3 cannot see in its numbers.
    far, n = 123456.789, 20
    normals = np.random.default_rng(0).normal(size=(n, 2))
    weights, biases = [np.eye(2), normals, np.eye(n)], [[far, far], 3 - far * normals.sum(axis=1), np.full(n, -3.0)]
    partition = line_partition(ReluNetwork(weights, biases), [-0.2, -0.1], [0.6, 0.3])
    assert partition.n_regions == 2
    assert partition.breakpoints[0] == pytest.approx(1 / 4, rel=1e-9)


@pytest.mark.whole
@pytest.mark.parametrize("shift", [0, 10])
def test_depth_loses_no_cut(shift):
    ends = [-1, -0.9], [0.8, 1]
    shallow = line_partition(ReluNetwork(*after_identity(1, shift)), *ends, certify=True)
    for depth in (80, 600):
        deep = line_partition(ReluNetwork(*after_identity(depth, shift)), *ends)
        assert (deep.n_regions, deep.n_pieces, deep.snapped) == (shallow.n_regions, shallow.n_pieces, 0)


@pytest.mark.whole
def test_counts_of_a_deep_network():
    network, ends = ReluNetwork(*he_layers(np.random.default_rng(2), 40, 6, bias=0.1)), [[-1, -0.9], [0.2, 0.1]]
    partition = line_partition(network, *ends)
    _, patterns, slopes = walk(network.weights, network.biases, None, 0, *ends)
    assert partition.n_regions == len(patterns)
    assert partition.n_pieces == 1 + sum(left != right for left, right in pairwise(slopes)) > 20


def test_patterns_of_a_deep_network():
    network, ends = (
        ReluNetwork(*he_layers(np.random.default_rng(2), 16, 70, bias=0.1)),
        np.array([[-1, -1], [0.2, 0.1]]),
    )
    partition = line_partition(network, *ends)
    found = network.pattern(ends[0] + partition.midpoints[:, None] * (ends[1] - ends[0]))
    np.testing.assert_array_equal(np.concatenate(found, axis=1), rows(partition))
    assert partition.n_regions > 200


@pytest.mark.parametrize("rows_at_most", [1, 500, 5000])
def test_errors_of_runs_of_intervals(monkeypatch, rows_at_most):
    # However long the runs that share an error are: no region is lost, and none is made.
    network = ReluNetwork(*random_layers(np.random.default_rng(0), [2, 60, 60, 60]))
    expected = line_partition(network, [-1, -1], [1, 1])
    monkeypatch.setattr(line_module, "_NOISE", 60**2 * rows_at_most)
    found = line_partition(network, [-1, -1], [1, 1])
    np.testing.assert_array_equal(found.breakpoints, expected.breakpoints)
    assert found.n_regions > 64
    assert found.snapped == expected.snapped == 0


@pytest.mark.parametrize(("third", "n_regions", "snapped"), [(0.49999, 4, 0), (0.4999999, 3, 1)])
def test_a_badly_placed_zero_does_not_merge_good_ones(third, n_regions, snapped):
    # Two zeros 1e-12 apart; in float64 the third, of a difference that keeps 7 digits, cannot be told from either.
    normals, offsets = [[1, 0], [1, 0], [1e-9, 1]], [-0.5, -0.5 - 1e-12, -third * 1e-9 - 1]
    partition = layer(normals, offsets, [0, 1], [1, 1])
    assert (partition.n_regions, partition.snapped) == (n_regions, snapped)
    np.testing.assert_allclose(np.diff(partition.breakpoints)[-1], 1e-12, rtol=1e-3)


def crowded(rng, layers_before, slope):
    """A network whose last two layers have eight zeros each, 3e-13 apart, near positions 0.3 and 0.7 of a segment."""
    weights, biases = random_layers(rng, [2, *[6] * layers_before])
    ends = np.array([[-1, -0.9], [0.8, 1]])
    for near in (0.3, 0.7):
        point = ends[0] + np.array([[near], [near + 0.01]]) * (ends[1] - ends[0])
        for W, b in zip(weights, biases, strict=True):
            point = point @ W.T + b
            point = np.where(point > 0, point, slope * point)
        along = point[1] - point[0]
        noise = rng.normal(size=(8, len(along))) / 1000
        W = rng.uniform(0.5, 2, (8, 1)) * rng.choice([-1, 1], (8, 1)) * (along + noise)
        weights.append(W)
        biases.append(-(W * (point[0] + rng.permutation(8)[:, None] * 3e-11 * along)).sum(axis=1))
    return weights, biases, ends


@pytest.mark.whole
@pytest.mark.parametrize("layers_before", [0, 1, 3])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_what_float64_cannot_tell_apart_is_decided_exactly(layers_before, slope):
    close = lost = 0
    for seed in range(10):
        weights, biases, ends = crowded(np.random.default_rng(seed), layers_before, slope)
        partition = line_partition(ReluNetwork(weights, biases, negative_slope=slope), *ends)
        breakpoints, patterns, _ = walk(weights, biases, None, Fraction(slope), *ends)
        assert partition.snapped > 0 or rows(partition).tolist() == patterns
        close += sum(0 < right - left < 1e-12 for left, right in pairwise(breakpoints))
        lost += len(patterns) - partition.n_regions
    assert close > 70
    assert lost < close / 4  # where the rounding of the biases may have made the difference


def test_breakpoints_of_one_layer_that_are_closer_than_the_error_bound():
    # As training makes them: beside a point of the data, 1e-13 of the segment apart.
    gaps = np.array([0, 1.6e-13, 5e-13, 1e-12, 1.1e-12])
    start, end, x = -6.25, 6.25, 3.7
    partition = layer(np.ones((5, 1)), -(x + 12.5 * gaps), [start], [end])
    assert (partition.n_regions, partition.snapped) == (6, 0)
    np.testing.assert_allclose(np.diff(partition.breakpoints), np.diff(gaps), atol=2e-16)


def test_where_exact_decisions_would_take_long_they_are_in_doubt(monkeypatch):
    weights, biases = [[[1]], [[1], [1]]], [[1], [-1.5, -1.5 - 5e-14]]
    partition = line_partition(ReluNetwork(weights, biases), [0], [1])
    assert (partition.n_regions, partition.snapped) == (3, 0)
    monkeypatch.setattr(exact, "AFFORDABLE", 0)
    partition = line_partition(ReluNetwork(weights, biases), [0], [1])
    assert (partition.n_regions, partition.snapped) == (2, 1)


def test_snapped_counts_only_what_is_not_zero():
    assert layer([[1], [1]], [0, 0], [-1], [1]).snapped == 0
    nearby = layer([[1], [1]], [-0.5, -np.nextafter(0.5, 1)], [0], [1])
    assert (nearby.n_regions, nearby.snapped) == (2, 1)
    apart = layer([[1], [1]], [-0.5, -0.5 - 1e-10], [0], [1])
    assert (apart.n_regions, apart.snapped) == (3, 0)
    at_the_end = layer([[1]], [1 - 1e-16], [-1], [1])
    assert (at_the_end.n_regions, at_the_end.snapped) == (1, 1)


@pytest.mark.parametrize("slope", [1e-3, 1e-9, 1e-12])
def test_slopes_of_any_size_are_taken_exactly(slope):
    # The second layer is 0 at 0, where all of the first are: in the plane and on a line, this is decided in integers.
    network = ReluNetwork([np.eye(2), [[1, -1]]], [[0, 0], [0]], negative_slope=slope)
    partition = plane_partition(network, ((-1, 1), (-1, 1)))
    # The quadrants; x = y halves the first and the third.
    assert (partition.n_regions, partition.snapped, partition.n_pieces) == (6, 0, 6)
    partition = line_partition(network, [-1, -1.5], [2, 3])
    assert (partition.n_regions, partition.snapped) == (2, 0)


def test_what_float64_computes_as_zero_is_not_always_zero():
    # Three times the float 0.1 is not the float 0.3, but both zeros are computed as the float 0.1.
    assert layer([[1], [3]], [-0.1, -0.3], [0], [1]).snapped == 1
    assert layer([[1], [3]], [-1, -3], [0], [7]).snapped == 0
    # 0.1 * 0.3 - 0.03 is computed as 0, at an end.
    assert layer([[0.1]], [-0.03], [0.3], [1]).snapped == 1
    assert layer([[2]], [-1], [0.5], [1]).snapped == 0


@settings(deadline=None, max_examples=100)
@given(net=integer_networks(), slope=st.sampled_from([0, 0.5]))
def test_where_nothing_is_in_doubt_the_rational_count_is_the_same(net, slope):
    weights, biases, readout, start, end = net
    biases = [(np.array(b) / 10).tolist() for b in biases]
    partition = line_partition(ReluNetwork(weights, biases, readout=readout, negative_slope=slope), start, end)
    _, patterns, _ = walk(weights, biases, readout, Fraction(slope), start, end)
    assert partition.snapped > 0 or partition.n_regions == len(patterns)


def test_many_values_computed_as_zero_are_in_doubt_unseen(monkeypatch):
    monkeypatch.setattr(exact, "DECIDABLE", 0)
    assert layer([[1], [3]], [-1, -3], [0], [7]).snapped == 1


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_neurons_neither_overflow_nor_vanish(scale):
    factor = scale ** np.linspace(0, 1, 9)
    normals, offsets = np.ones((9, 1)), -np.linspace(0.1, 0.9, 9)
    partition = layer(factor[:, None] * normals, factor * offsets, [0], [1])
    np.testing.assert_allclose(partition.breakpoints, -offsets, rtol=1e-12)
    weights, biases = [factor[:, None] * normals, 1 / factor[None]], [factor * offsets, [-1.8]]
    deep = line_partition(ReluNetwork(weights, biases, readout=([[1]], [0])), [0], [1])
    assert (deep.n_regions, deep.n_pieces) == (11, 5)


@pytest.mark.parametrize("size", [2.0**-1070, 2.0**-560, 2.0**560, 2.0**1000])
def test_products_of_weights_neither_overflow_nor_vanish(size):
    rng = np.random.default_rng(0)
    weights, biases = [rng.integers(1, 9, (4, n)) * rng.choice([-1, 1], (4, n)) for n in (2, 4, 4)], np.zeros((3, 4))
    biases[0] = weights[0] @ [0.25, 0.5]
    expected = ReluNetwork(weights, biases, readout=([[1, 2, 3, 4]], [1]))
    found = ReluNetwork(
        [W * size for W in weights], biases * size, readout=([[size, 2 * size, 3 * size, 4 * size]], [1])
    )
    for partition in (
        lambda network: line_partition(network, [-3, -2], [2, 1]),
        lambda network: plane_partition(network, ((-2, 3), (-1, 2))),
    ):
        one, other = partition(expected), partition(found)
        assert (one.n_regions, one.n_pieces, one.snapped) == (other.n_regions, other.n_pieces, other.snapped)
        assert one.n_pieces > 3


@pytest.mark.parametrize("size", [1e-150, 1e-12, 1e12, 1e150])
def test_the_tolerance_follows_the_scale_of_the_segment(size):
    rng = np.random.default_rng(0)
    (W0, W1), (b0, b1) = random_layers(rng, [2, 20, 20])
    expected = line_partition(ReluNetwork([W0, W1], [b0, b1]), [-1, -2], [2, 1])
    scaled = line_partition(ReluNetwork([W0, W1], [size * b0, size * b1]), [-size, -2 * size], [2 * size, size])
    np.testing.assert_allclose(scaled.breakpoints, expected.breakpoints, rtol=1e-11)


def test_a_partition_introduces_itself():
    partition = layer(np.eye(2), [0, 0], [-1, -2], [2, 1])
    assert isinstance(partition, LinePartition)
    assert repr(partition) == "LinePartition(n_regions=3, snapped=0)"
    assert partition.midpoints.tolist() == pytest.approx([1 / 6, 1 / 2, 5 / 6])


# --- Errors ------------------------------------------------------------------------------------------------------

NETWORK = ReluNetwork([np.eye(2)], [[0, 0]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"network": [np.eye(2)]}, TypeError, "network is list, but a ReluNetwork was expected"),
        ({"end": [1, 2, 3]}, ValueError, r"end has shape \(3,\), but \[2\] was expected"),
        ({"start": 0}, ValueError, r"start has shape \(\), but \[2\] was expected"),
        ({"start": [[0, 0]]}, ValueError, r"start has shape \(1, 2\), but"),
        ({"start": [0, np.nan]}, ValueError, r"start holds nan at \(1,\), but finite numbers were expected"),
        ({"end": [np.inf, 0]}, ValueError, r"end holds inf at \(0,\), but"),
        ({"end": None}, TypeError, "end is None, but an array of real numbers was expected"),
        ({"end": [1, 1j]}, TypeError, r"end is \[1, 1j\], but"),
        ({"end": [0, 0]}, ValueError, r"start and end are both \[0, 0\], but two points were expected"),
        ({"limit": 0}, ValueError, "limit is 0, but at least 1 was expected"),
        ({"limit": 1e6}, TypeError, "limit is 1000000.0, but an integer was expected"),
        ({"limit": True}, TypeError, "limit is True, but an integer was expected"),
        ({"certify": "no"}, TypeError, "certify is 'no', but True or False was expected"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    arguments = {"network": NETWORK, "start": [0, 0], "end": [1, 1], **arguments}
    with pytest.raises(error, match=f"^line_partition: {message}") as info:
        line_partition(**arguments)
    assert "\n" not in str(info.value)


def test_a_limit_is_the_most_that_is_allowed():
    assert line_partition(sawtooth(10), [0], [1], limit=1024).n_regions == 1024
    with pytest.raises(ValueError, match=r"^line_partition: limit is 1023, but more was expected"):
        line_partition(sawtooth(10), [0], [1], limit=1023)


@pytest.mark.filterwarnings("error")
def test_overflow_is_no_count():
    with pytest.raises(ValueError, match=r"^line_partition: weights\[0\] gives values above 1e\+250, but smaller"):
        line_partition(NETWORK, [-1.7e308, 0], [1.7e308, 0])


@pytest.mark.parametrize(
    ("i", "error", "message"),
    [
        (2, ValueError, "2, but -2 to 1 was expected"),
        (-3, ValueError, "-3, but -2 to 1 was expected"),
        (1.5, TypeError, "1.5, but an integer was expected"),
        (None, TypeError, "None, but an integer was expected"),
        (True, TypeError, "True, but an integer was expected"),
    ],
)
def test_regions_that_are_not_there_have_no_map(i, error, message):
    network = ReluNetwork([[[1, 0]]], [[0]])
    for partition in (line_partition(network, [-1, 0], [1, 0]), plane_partition(network, ((-1, 1), (-1, 1)))):
        with pytest.raises(error, match=f"^affine_map: i is {message}$"):
            partition.affine_map(i)


def test_a_certificate_is_refused_where_floats_miscount():
    normals, offsets = [[1], [1]], [-0.5, -np.nextafter(0.5, 1)]
    assert layer(normals, offsets, [0], [1]).n_regions == 2
    with pytest.raises(
        ValueError,
        match=r"^line_partition: certify found 3 regions and 3 pieces .* but float64 gives 2 and 2 \(snapped=1\)$",
    ):
        layer(normals, offsets, [0], [1], certify=True)


def test_a_certificate_for_too_many_regions_is_refused():
    with pytest.raises(ValueError, match=r"^line_partition: certify is True for 4096 regions, but at most 2000"):
        line_partition(sawtooth(12), [0], [1], certify=True)


def test_gates_that_differ_at_the_ends_are_regions_only_where_their_crossings_are_distinct():
    """From x to -x through the origin all gates without biases change, at one point."""
    rng = np.random.default_rng(0)
    gates, x = rng.standard_normal((40, 6)), rng.standard_normal(6)
    network = ReluNetwork([gates], [np.zeros(40)])
    (there,), (back,) = network.pattern(x), network.pattern(-x)
    assert (there != back).all()
    assert line_partition(network, x, -x).n_regions == 2
    aside = line_partition(network, x, -x + 0.1 * rng.standard_normal(6))
    assert aside.n_regions == 1 + (there != network.pattern(aside.end)[0]).sum() > 30
