"""plane_partition: against rational arithmetic, closed forms, and the network itself."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from exact_regions import exact_counts
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import after_identity, he_layers, random_layers, rescaled
from reference_plane import area as area_of
from reference_plane import reference_regions

from geolib.partition import PlanePartition, ReluNetwork, exact, max_regions, mesh, plane, plane_partition

SQUARE = ((-1, 1), (-1, 1))
seeds = st.integers(0, 2**32 - 1)


def layer(normals, offsets, window=SQUARE, **kwargs):
    """Partition by one hidden layer whose neurons vanish where normals @ x + offsets = 0."""
    return plane_partition(ReluNetwork([normals], [offsets], **kwargs), window)


def pattern_set(patterns):
    return {tuple(row) for row in np.concatenate(patterns, axis=-1).tolist()}


def through(point, angles):
    """Unit normals and offsets of lines through a point."""
    normals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return normals, -normals @ point


def interior_points(rng, polygon, n):
    """Points well inside a convex polygon: random mixtures of its corners, each with a weight."""
    return rng.dirichlet(np.full(len(polygon), 5.0), size=n) @ polygon


def check_tiling(partition):
    """Convex, counter-clockwise polygons of positive area that fill the window."""
    (u0, u1), (v0, v1) = partition.window
    assert len(partition.polygons) == len(partition.areas) == partition.n_regions
    assert partition.areas.min() > 0
    np.testing.assert_allclose(partition.areas.sum(), (u1 - u0) * (v1 - v0), rtol=1e-9)
    for polygon, area in zip(partition.polygons, partition.areas, strict=True):
        assert polygon.shape[1] == 2
        assert (polygon >= [u0, v0]).all()
        assert (polygon <= [u1, v1]).all()
        p = polygon - polygon[0]
        np.testing.assert_allclose(p[:-1, 0] @ p[1:, 1] - p[1:, 0] @ p[:-1, 1], 2 * area, rtol=1e-3)
        side = np.roll(polygon, -1, axis=0) - polygon
        turn = side[:, 0] * np.roll(side[:, 1], -1) - side[:, 1] * np.roll(side[:, 0], -1)
        assert (turn > -1e-12 * (u1 - u0) * (v1 - v0)).all()
    # Neighbours have their vertices in common, to the last bit: vertices - edges + faces = 1.
    corners = [[tuple(corner) for corner in polygon.tolist()] for polygon in partition.polygons]
    edges = {frozenset(edge) for polygon in corners for edge in pairwise([*polygon, polygon[0]])}
    assert len(set().union(*corners)) - len(edges) + partition.n_regions == 1


# --- Against rational arithmetic ---------------------------------------------------------------------------------


@st.composite
def integer_networks(draw, max_width, max_depth):
    """Small integers: zero rows, parallel, concurrent and repeated lines are all frequent."""
    fan_in, weights, biases = 2, [], []
    for _ in range(draw(st.integers(1, max_depth))):
        width = draw(st.integers(1, max_width))
        row = st.lists(st.integers(-2, 2), min_size=fan_in, max_size=fan_in)
        weights.append(draw(st.lists(row, min_size=width, max_size=width)))
        biases.append(draw(st.lists(st.integers(-2, 2), min_size=width, max_size=width)))
        fan_in = width
    readout = ([draw(st.lists(st.integers(-1, 1), min_size=fan_in, max_size=fan_in))], [draw(st.integers(-1, 1))])
    return weights, biases, draw(st.sampled_from([None, readout]))


def check_against_exact(net, window, slope, seed):
    weights, biases, readout = net
    patterns, n_pieces = exact_counts(weights, biases, window, readout, slope)
    partition = plane_partition(ReluNetwork(weights, biases, readout=readout, negative_slope=slope), window)
    assert partition.n_regions == len(patterns)
    assert pattern_set(partition.active) == patterns
    assert partition.n_pieces == n_pieces
    check_tiling(partition)

    rng = np.random.default_rng(seed)
    before = rng.uniform(0.1, 3, size=2)
    window = np.array(window) * before[:, None]
    *scaled, readout = rescaled(rng, before, weights, biases, readout)
    partition = plane_partition(ReluNetwork(*scaled, readout=readout, negative_slope=slope), window)
    assert partition.n_regions == len(patterns)
    assert pattern_set(partition.active) == patterns
    assert partition.n_pieces == n_pieces
    check_tiling(partition)


@pytest.mark.whole
@settings(deadline=None, max_examples=150)
@given(net=integer_networks(max_width=6, max_depth=1), slope=st.sampled_from([0, 0.5]), seed=seeds)
def test_one_layer_agrees_with_rational_arithmetic(net, slope, seed):
    check_against_exact(net, ((-2, 2), (-1, 3)), slope, seed)


@settings(deadline=None, max_examples=40)
@given(net=integer_networks(max_width=3, max_depth=3), slope=st.sampled_from([0, 0.5]), seed=seeds)
def test_deep_networks_agree_with_rational_arithmetic(net, slope, seed):
    check_against_exact(net, ((-2, 2), (-1, 3)), slope, seed)


# --- Against the plainest algorithm ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    seed=seeds,
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    slope=st.sampled_from([0.0, 0.1]),
    n_outputs=st.sampled_from([None, 1, 3]),
)
def test_clipping_one_polygon_at_a_time_gives_the_same_regions(seed, widths, slope, n_outputs):
    rng = np.random.default_rng(seed)
    weights, biases = random_layers(rng, [2, *widths])
    readout = n_outputs and (rng.normal(size=(n_outputs, widths[-1])), rng.normal(size=n_outputs))
    network = ReluNetwork(weights, biases, readout=readout, negative_slope=slope)
    window = ((-2, 1), (-1, 3))
    partition = plane_partition(network, window)
    expected = {pattern: (area_of(polygon), rows) for pattern, polygon, rows in reference_regions(network, window)}
    assert partition.n_regions == len(expected)
    assert pattern_set(partition.active) == set(expected)
    for i, pattern in enumerate(np.concatenate(partition.active, axis=1).tolist()):
        expected_area, rows = expected[tuple(pattern)]
        np.testing.assert_allclose(partition.areas[i], expected_area, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(np.column_stack(partition.affine_map(i)), rows, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("widths", [(60,), (25, 25), (12, 12, 12)])
def test_clipping_larger_networks(widths):
    network = ReluNetwork(*random_layers(np.random.default_rng(1), [2, *widths]))
    expected = reference_regions(network, SQUARE)
    partition = plane_partition(network, SQUARE)
    assert partition.n_regions == len(expected)
    assert pattern_set(partition.active) == {pattern for pattern, _, _ in expected}
    areas = np.sort([area_of(polygon) for _, polygon, _ in expected])
    np.testing.assert_allclose(np.sort(partition.areas), areas, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("widths", [(40,), (20, 20), (15, 15, 15)])
def test_the_size_of_batches_changes_nothing(widths, monkeypatch):
    network = ReluNetwork(
        *random_layers(np.random.default_rng(2), [2, *widths]), readout=(np.ones((1, widths[-1])), [0])
    )
    at_once = plane_partition(network, SQUARE)
    monkeypatch.setattr(mesh, "BATCH", 3)
    monkeypatch.setattr(plane, "BLOCK", 100)
    bit_by_bit = plane_partition(network, SQUARE)
    assert bit_by_bit.n_regions == at_once.n_regions > 100
    assert bit_by_bit.n_pieces == at_once.n_pieces
    assert pattern_set(bit_by_bit.active) == pattern_set(at_once.active)
    np.testing.assert_allclose(np.sort(bit_by_bit.areas), np.sort(at_once.areas), rtol=1e-9)
    check_tiling(bit_by_bit)


# --- Closed forms ------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(seed=seeds, n=st.integers(0, 30))
def test_general_position_in_a_large_window_attains_the_maximum(seed, n):
    # Tangents of a circle, no two nearly parallel: all their crossings are simple, and close by.
    rng = np.random.default_rng(seed)
    angles = (np.arange(n + 1) + rng.uniform(0, 0.5, n + 1)) * np.pi / (n + 1)
    normals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    partition = layer(normals, np.ones(n + 1), ((-1e3, 1e3), (-1e3, 1e3)))
    assert partition.n_regions == max_regions(n + 1, 2)
    assert partition.snapped == 0


@settings(deadline=None)
@given(seed=seeds, n=st.integers(1, 60))
def test_zero_biases_give_a_central_arrangement(seed, n):
    normals = np.random.default_rng(seed).normal(size=(n, 2))
    assert layer(normals, np.zeros(n)).n_regions == max_regions(n, 2, central=True) == 2 * n


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 5), (10, 10)])
def test_a_grid(m, n):
    normals = [[1, 0]] * m + [[0, 1]] * n
    offsets = np.concatenate([np.linspace(-0.9, 0.7, m), np.linspace(-0.8, 0.9, n)])
    partition = layer(normals, offsets)
    assert partition.n_regions == (m + 1) * (n + 1)
    assert {len(p) for p in partition.polygons} == {4}


@pytest.mark.parametrize(
    ("widths", "n_regions"),
    [((100, 100), 6154), ((128, 128, 128), 21457), ((200, 200), 30926), ((500,), 38096)],
)
def test_counts_agree_with_regioncam(widths, n_regions):
    # Counts by regioncam 0.5.2, an independent program, on these networks.
    weights, biases = random_layers(np.random.default_rng(0), [2, *widths])
    partition = plane_partition(ReluNetwork(weights, biases), SQUARE)
    assert partition.n_regions == n_regions
    np.testing.assert_allclose(partition.areas.sum(), 4, rtol=1e-9)


# --- The network itself ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    seed=seeds,
    dims=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    slope=st.sampled_from([0.0, 0.1]),
    readout=st.booleans(),
    input_dim=st.integers(2, 5),
)
def test_patterns_and_maps_hold_inside_every_region(seed, dims, slope, readout, input_dim):
    rng = np.random.default_rng(seed)
    weights, biases = random_layers(rng, [input_dim, *dims])
    network = ReluNetwork(
        weights,
        biases,
        readout=(rng.normal(size=(2, dims[-1])), rng.normal(size=2)) if readout else None,
        negative_slope=slope,
    )
    origin, axes = rng.normal(size=input_dim), rng.normal(size=(2, input_dim))
    partition = plane_partition(network, ((-2, 1), (0, 3)), origin=origin, axes=axes)
    check_tiling(partition)
    assert [p.shape for p in partition.active] == [(partition.n_regions, width) for width in dims]
    assert len(pattern_set(partition.active)) == partition.n_regions
    assert len(partition.patterns) == partition.n_regions
    for i, polygon in enumerate(partition.polygons):
        if partition.areas[i] < 1e-8:
            continue  # too thin to hold points that are safely inside
        x = origin + np.vstack([polygon.mean(axis=0), interior_points(rng, polygon, 4)]) @ axes
        for expected, found in zip(partition.patterns[i], network.pattern(x), strict=True):
            assert (found == expected).all()
        A, b = partition.affine_map(i)
        np.testing.assert_allclose(x @ A.T + b, network(x), rtol=1e-9, atol=1e-9)
        for one, found in zip((A, b), network.affine_map(x), strict=True):
            np.testing.assert_allclose(found, np.broadcast_to(one, found.shape), rtol=1e-12, atol=1e-12)


@pytest.mark.whole
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_a_dense_grid_finds_no_other_pattern(slope):
    network = ReluNetwork(*random_layers(np.random.default_rng(3), [2, 12, 10, 8]), negative_slope=slope)
    partition = plane_partition(network, SQUARE)
    # Off by an irrational, so that no grid point lies on a boundary but by accident.
    ticks = np.linspace(-1, 1, 301)[:-1] + np.sqrt(2) / 1000
    seen = pattern_set(network.pattern(np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)))
    assert seen <= pattern_set(partition.active)
    assert len(seen) > partition.n_regions / 2


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_scaling_and_permuting_neurons_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    (W0, W1), (b0, b1) = random_layers(rng, [2, 7, 5])
    readout = rng.normal(size=(1, 5))
    before = plane_partition(ReluNetwork([W0, W1], [b0, b1], readout=(readout, [0])), SQUARE)
    order, scale = rng.permutation(7), np.exp(rng.normal(scale=5, size=7))
    weights, biases = [(scale[:, None] * W0)[order], (W1 / scale)[:, order]], [(scale * b0)[order], b1]
    after = plane_partition(ReluNetwork(weights, biases, readout=(readout, [0])), SQUARE)
    assert (after.n_regions, after.n_pieces) == (before.n_regions, before.n_pieces)
    patterns = [after.active[0][:, np.argsort(order)], after.active[1]]
    assert pattern_set(patterns) == pattern_set(before.active)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, angle=st.floats(0, 6.28))
def test_rotating_the_axes_changes_no_count(seed, angle):
    rng = np.random.default_rng(seed)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    # The plane and the network turn together ...
    (W0, W1), biases = random_layers(rng, [2, 7, 5])
    still = plane_partition(ReluNetwork([W0, W1], biases), SQUARE)
    turned = plane_partition(ReluNetwork([W0 @ rotation, W1], biases), SQUARE, axes=rotation)
    assert turned.n_regions == still.n_regions
    # ... or the window alone, when all that happens is far from its border.
    n = 10
    tilts = (np.arange(n) + rng.uniform(0, 0.5, n)) * np.pi / n
    network = ReluNetwork([np.stack([np.cos(tilts), np.sin(tilts)], axis=1)], [np.ones(n)])
    turned = plane_partition(network, ((-1e3, 1e3), (-1e3, 1e3)), axes=rotation)
    assert turned.n_regions == max_regions(n, 2)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, dims=st.lists(st.integers(1, 8), min_size=1, max_size=3))
def test_powers_of_two_change_no_digit(seed, dims):
    # To scale a neuron by a power of two is exact, and so is to scale the plane.
    rng = np.random.default_rng(seed)
    weights, biases = random_layers(rng, [2, *dims])
    before = plane_partition(ReluNetwork(weights, biases), SQUARE)
    inputs, scaled = np.ones(2), ([], [])
    for W, b in zip(weights, biases, strict=True):
        scale = 2.0 ** rng.integers(-40, 40, len(b))
        scaled[0].append(scale[:, None] * W / inputs)
        scaled[1].append(scale * b)
        inputs = scale
    after = plane_partition(ReluNetwork(*scaled), ((-8, 8), (-8, 8)), axes=np.eye(2) / 8)
    assert after.snapped == before.snapped
    np.testing.assert_array_equal(after.areas, 64 * before.areas)
    for one, other in zip(after.active, before.active, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(deadline=None, max_examples=40)
@given(seed=seeds, net=integer_networks(max_width=5, max_depth=3))
def test_order_scale_and_direction_of_degenerate_networks_change_no_count(seed, net):
    rng = np.random.default_rng(seed)
    weights, biases, readout = net
    window = ((-2, 2), (-1, 3))
    before = plane_partition(ReluNetwork(weights, biases, readout=readout), window)
    angle = rng.uniform(0, 6)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    inputs, changed = turn, ([], [])  # from the changed inputs to those before
    for W, b in zip(weights, biases, strict=True):
        order, scale = rng.permutation(len(b)), np.exp(rng.normal(scale=2, size=len(b)))
        change = np.diag(scale)[order]
        changed[0].append(change @ W @ inputs)
        changed[1].append(change @ b)
        inputs = np.linalg.inv(change)
    readout = readout and (readout[0] @ inputs, readout[1])
    after = plane_partition(ReluNetwork(*changed, readout=readout), window, axes=turn)
    assert (after.n_regions, after.n_pieces) == (before.n_regions, before.n_pieces)
    np.testing.assert_allclose(np.sort(after.areas), np.sort(before.areas), rtol=1e-6)


def test_polygons_and_areas_are_in_plane_coordinates():
    # The plane x = (3, v, u): the line u = 1 cuts the window into 2/3 and 1/3.
    network = ReluNetwork([[[0, 0, 2]]], [[-2]])
    partition = plane_partition(network, ((-1, 2), (5, 7)), origin=[3, 0, 0], axes=[[0, 0, 1], [0, 1, 0]])
    assert sorted(partition.areas.tolist()) == pytest.approx([2, 4])
    left = partition.polygons[int(np.argmin(partition.active[0][:, 0]))]
    assert {tuple(corner) for corner in left.round(12).tolist()} == {(-1, 5), (1, 5), (1, 7), (-1, 7)}


@pytest.mark.parametrize("extents", [(1e300, 1e-300), (1e150, 1e150), (1e-150, 1e-150), (1.7e308, 1), (1e-307, 4)])
def test_areas_and_polygons_of_extreme_windows(extents):
    # The line through two corners leaves halves; nothing on the way overflows or vanishes.
    width, height = extents
    partition = layer([[1 / width, -1 / height]], [0], ((0, width), (0, height)))
    np.testing.assert_allclose(partition.areas, width * height / 2, rtol=1e-15)
    assert {tuple(corner) for polygon in partition.polygons for corner in polygon.tolist()} == {
        (x, y) for x in (0, width) for y in (0, height)
    }


@pytest.mark.parametrize(("size", "word"), [(1e200, "overflow"), (1e-200, "underflow"), (1e-160, "underflow")])
def test_areas_beyond_float64_are_refused(size, word):
    partition = layer(np.eye(2), [0, 0], ((-size, size), (-size, size)))
    assert partition.n_regions == 4
    with pytest.raises(ValueError, match=rf"^areas: window is .* {word} float64 was expected"):
        partition.areas  # noqa: B018


def test_an_origin_alone_moves_the_window():
    network = ReluNetwork([[[1, 0]]], [[0]])
    assert plane_partition(network, SQUARE).n_regions == 2
    assert plane_partition(network, SQUARE, origin=[1, 0]).n_regions == 1


def test_a_partition_introduces_itself():
    partition = layer(np.eye(2), [0, 0])
    assert isinstance(partition, PlanePartition)
    assert repr(partition) == "PlanePartition(n_regions=4, snapped=0)"


# --- Special position --------------------------------------------------------------------------------------------


def test_forty_lines_through_a_point():
    angles = np.random.default_rng(0).uniform(0, np.pi, 40)
    partition = layer(*through([0.3, -0.2], angles))
    assert partition.n_regions == 80
    assert partition.snapped > 0
    check_tiling(partition)


@settings(deadline=None, max_examples=50)
@given(
    seed=seeds,
    n=st.integers(3, 60),
    gap=st.sampled_from([1e-2, 1e-4, 1e-6, 1e-8]),
    far=st.sampled_from([0, 1, 100]),
)
def test_concurrent_lines_two_of_them_nearly_parallel(seed, n, gap, far):
    # Two lines place the common point, badly, if they come first: the others must still be seen to pass through it.
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, np.pi, n)
    angles[rng.choice(mesh._spread(n)[1:3])] = angles[0] + gap
    normals, offsets = through(far + rng.uniform(-0.8, 0.8, 2), angles)
    scale = np.exp(rng.normal(scale=4, size=n))
    window = ((far - 1, far + 1), (far - 1, far + 1))
    assert layer(scale[:, None] * normals, scale * offsets, window).n_regions == 2 * n


@settings(deadline=None, max_examples=50)
@given(seed=seeds, copies=st.integers(2, 5))
def test_equal_scaled_and_opposite_neurons_cut_once(seed, copies):
    rng = np.random.default_rng(seed)
    (W,), (b,) = random_layers(rng, [2, 8])
    scale = np.exp(rng.normal(scale=4, size=(copies, 8, 1))) * rng.choice([-1, 1], size=(copies, 8, 1))
    alone, together = layer(W, b), layer((scale * W).reshape(-1, 2), (scale[..., 0] * b).reshape(-1))
    assert together.n_regions == alone.n_regions
    np.testing.assert_allclose(np.sort(together.areas), np.sort(alone.areas), rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(seed=seeds)
def test_split_neurons_of_a_deep_network_cut_once(seed):
    # Each hidden neuron becomes three, in awkward scales, that share its outgoing weight.
    rng = np.random.default_rng(seed)
    weights, biases = random_layers(rng, [2, 8, 8, 8])
    readout = rng.normal(size=(1, 8))
    alone = plane_partition(ReluNetwork(weights, biases, readout=(readout, [0])), SQUARE)
    split, before = ([], []), lambda W: W
    for W, b in zip(weights, biases, strict=True):
        scale, share = np.exp(rng.normal(scale=2, size=24)), rng.dirichlet([1, 1, 1], size=8).T.reshape(-1)
        split[0].append(scale[:, None] * np.tile(before(W), (3, 1)))
        split[1].append(scale * np.tile(b, 3))
        before = lambda W, factor=share / scale: np.tile(W, (1, 3)) * factor  # noqa: E731
    together = plane_partition(ReluNetwork(*split, readout=(before(readout), [0])), SQUARE)
    assert (together.n_regions, together.n_pieces) == (alone.n_regions, alone.n_pieces)


def test_lines_through_corners_and_along_edges_of_the_window():
    window = ((0.1, 0.7), (-0.3, 0.9))
    u, v = np.array([1.0, 0]), np.array([0, 1.0])
    edges = [(u, -0.1), (u, -0.7), (v, 0.3), (v, -0.9)]
    assert layer([n for n, _ in edges], [c for _, c in edges], window).n_regions == 1
    # The two diagonals, and through each corner a line that stays outside.
    assert layer([[2, -1], [2, 1]], [-0.5, -1.1], window).n_regions == 4
    assert layer([[1, 1], [1, -1], [1, -1], [1, 1]], [0.2, 0.8, -1.0, -1.6], window).n_regions == 1
    # All of them at once, each three times.
    normals = [n for n, _ in edges] + [[2, -1], [2, 1]] + [[1, 1], [1, -1]]
    offsets = [c for _, c in edges] + [-0.5, -1.1] + [0.2, 0.8]
    scale = np.repeat([1, 0.1, -3], len(offsets))
    partition = layer(scale[:, None] * np.tile(normals, (3, 1)), scale * np.tile(offsets, 3), window)
    assert partition.n_regions == 4
    check_tiling(partition)


def test_a_pencil_at_a_corner_of_the_window():
    angles = np.linspace(0.1, 1.4, 12)
    normals = np.stack([-np.sin(angles), np.cos(angles)], axis=1)
    assert layer(normals, -normals @ [0.1, 0.2], ((0.1, 0.7), (0.2, 0.9))).n_regions == 13


def test_errors_are_carried_from_layer_to_layer():
    # Layer 2 recovers x and y from sums near 1e5 and so loses five digits, which layer 3 cannot see in its numbers.
    far, n = 123456.789, 20
    normals, _ = through([0, 0], np.random.default_rng(0).uniform(0, np.pi, n))
    weights, biases = [np.eye(2), normals, np.eye(n)], [[far, far], 3 - far * normals.sum(axis=1), np.full(n, -3.0)]
    partition = plane_partition(ReluNetwork(weights, biases), SQUARE)
    assert partition.n_regions == 2 * n
    check_tiling(partition)


def test_each_layer_adds_its_own_errors():
    # Deep averages of many copies of x + 2, y + 2 and 1: errors of the first layer average out, later ones do not.
    rng = np.random.default_rng(0)
    n, copies = 40, 150
    group = np.repeat(np.eye(3), copies, axis=0)
    average = rng.uniform(0.5, 1.5, (3 * copies, 3 * copies)) * (group @ group.T)
    average /= average.sum(axis=1, keepdims=True)
    normals, offsets = through([0.3, -0.2], rng.uniform(0, np.pi, n))
    lines = np.column_stack([normals, offsets - 2 * normals.sum(axis=1)]) @ average[::copies]
    weights = [group[:, :2], *[average] * 4, lines]
    biases = [group @ [2, 2, 1], *[np.zeros(3 * copies)] * 4, np.zeros(n)]
    assert plane_partition(ReluNetwork(weights, biases), SQUARE).n_regions == 2 * n


@pytest.mark.parametrize("seed", range(10))
def test_a_plane_with_a_distant_origin(seed):
    # The window's lower left corner is x = 0, but for what cancels: the lines through it fan into the window.
    rng = np.random.default_rng(seed)
    turn, corner = rng.uniform(0, 6), rng.uniform(-1e7, 1e7, 2)
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    angles = np.linspace(0.1, 1.4, 12)
    normals = np.stack([-np.sin(angles), np.cos(angles)], axis=1) @ axes
    window = np.stack([corner, corner + 1], axis=1)
    network = ReluNetwork([normals], [np.zeros(12)])
    assert plane_partition(network, window, origin=-corner @ axes, axes=axes).n_regions == 13


@pytest.mark.whole
@pytest.mark.parametrize("shift", [0, 10])
def test_depth_loses_no_cut(shift):
    shallow = plane_partition(ReluNetwork(*after_identity(1, shift)), SQUARE, certify=True)
    for depth in (80, 600):
        deep = plane_partition(ReluNetwork(*after_identity(depth, shift)), SQUARE)
        assert (deep.n_regions, deep.n_pieces, deep.snapped) == (shallow.n_regions, shallow.n_pieces, 0)


def test_pieces_of_a_deep_network():
    # Its output's kinks are far below what errors could be, were they not carried along with each map.
    network = ReluNetwork(*he_layers(np.random.default_rng(5), 40, 6))
    partition = plane_partition(network, SQUARE)
    counts = exact.plane_counts(network, np.array(SQUARE), np.zeros(2), np.eye(2), 100)
    assert (partition.n_regions, partition.n_pieces) == counts
    assert counts[1] > 1


def test_no_decision_of_a_deep_network_is_in_doubt():
    assert plane_partition(ReluNetwork(*he_layers(np.random.default_rng(0), 60, 8, bias=0.1)), SQUARE).snapped == 0


@pytest.mark.whole
@pytest.mark.parametrize("depth", [12, 18])
def test_a_sawtooth(depth):
    # Each layer doubles values, and what the errors may be by some 3: up to 2^19 teeth are told apart.
    weights = [[[2, 0], [4, 0]], *[[[2, -2], [4, -4]]] * (depth - 1)]
    partition = plane_partition(ReluNetwork(weights, [[0, -2]] * depth, readout=([[1, -1]], [0])), UNIT)
    assert (partition.n_regions, partition.n_pieces) == (2**depth, 2**depth)
    assert partition.snapped == 0 or depth > 12


def test_dead_neurons_do_not_cut():
    partition = layer([[0, 0], [0, 0], [0, 0], [1, 0]], [0, -1, 1, 0])
    assert partition.n_regions == 2
    assert partition.active[0][:, :3].tolist() == [[False, False, True]] * 2
    assert partition.snapped == 0
    # A neuron whose line misses the window is as good as dead.
    assert layer([[1, 0], [1, 0]], [5, -5]).active[0].tolist() == [[True, False]]


def test_dead_layers_do_not_cut():
    network = ReluNetwork([np.eye(2), -np.eye(2), np.eye(2)], [[0, 0], [-1, -1], [0, 0]])
    partition = plane_partition(network, SQUARE)
    assert (partition.n_regions, partition.n_pieces) == (4, 1)


@pytest.mark.parametrize("second", [[[1, 1]], [[-1, -1]], [[-1, 0]]])
def test_a_layer_that_touches_zero_is_not_cut(second):
    # relu(x) + relu(y) is 0 on a whole quadrant, and nowhere changes sign.
    assert plane_partition(ReluNetwork([np.eye(2), second], [[0, 0], [0]]), SQUARE).n_regions == 4


def test_a_layer_that_cancels_to_rounding_errors_is_not_cut():
    # relu(f) - relu(-f) = f. With f = p, q and 0.1 p + 0.7 q, the second layer adds up to 0, but for rounding.
    p, q = np.array([0.3, 0.9]), np.array([-0.7, 0.2])
    normals, signs = np.stack([p, q, 0.1 * p + 0.7 * q]), np.array([[1], [-1]])
    first = (signs[:, :, None] * normals).reshape(-1, 2)
    second = (signs * [0.1, 0.7, -1]).reshape(1, -1)
    partition = plane_partition(ReluNetwork([first, second], [np.zeros(6), [0]], readout=([[1]], [0])), SQUARE)
    assert partition.n_regions == 6
    assert partition.n_pieces == 1
    assert not partition.active[1].any()
    assert partition.snapped > 0


def test_snapped_counts_only_values_that_are_not_zero():
    assert layer([[1, 0], [1, 0]], [0, 0]).snapped == 0
    # The second neuron is off by one unit in the last place at the two ends of the first one's line.
    nearby = layer([[1, 0], [1, 0]], [0.5, np.nextafter(0.5, 1)])
    assert (nearby.n_regions, nearby.snapped) == (2, 2)
    # What is far above rounding is real.
    apart = layer([[1, 0], [1, 0]], [0.5, 0.5 + 1e-10])
    assert (apart.n_regions, apart.snapped) == (3, 0)


def test_what_float64_computes_as_zero_is_not_always_zero():
    # 0.1 + 0.2 - 0.3 is 2^-54 in rational arithmetic, and computed as 0 here: these lines make a small triangle.
    lines = [[1, 0], [0, 1], [1, 1]]
    assert layer(lines, [-0.1, -0.2, -0.3], ((0, 2), (0, 2))).snapped > 0
    assert layer(lines, [-1, -2, -3], ((0, 4), (0, 4))).snapped == 0
    # In tenths floats hold the offsets exactly, but not the points where the lines meet.
    assert layer(np.multiply(10, lines), [-1, -2, -3], ((0, 2), (0, 2))).snapped == 0


@settings(deadline=None, max_examples=60)
@given(net=integer_networks(max_width=4, max_depth=2), slope=st.sampled_from([0, 0.5]), tenths=st.booleans())
def test_where_nothing_is_in_doubt_the_rational_count_is_the_same(net, slope, tenths):
    weights, biases, readout = net
    if tenths:
        biases = [(np.array(b) / 10).tolist() for b in biases]
    network, window = (
        ReluNetwork(weights, biases, readout=readout, negative_slope=slope),
        np.array([[-2, 2], [-1, 0.3]]),
    )
    partition = plane_partition(network, window)
    counts = exact.plane_counts(network, window, np.zeros(2), np.eye(2), 10_000)
    assert partition.snapped > 0 or partition.n_regions == counts[0]


def test_many_values_computed_as_zero_are_in_doubt_unseen(monkeypatch):
    monkeypatch.setattr(exact, "DECIDABLE", 0)
    assert layer([[1, 0], [0, 1], [1, 1]], [0, 0, 0]).snapped == 3  # at the origin, and at two corners


def test_the_tolerance_follows_the_scale_of_the_window():
    # A partition of size 1e-12 at the origin is no rounding error there.
    offsets = np.array([1, 1, 1]) * 1e-12
    normals = [[1, 0], [0, 1], [-1, -1]]
    assert layer(normals, offsets, ((-9e-12, 9e-12), (-9e-12, 9e-12))).n_regions == max_regions(3, 2)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_neurons_neither_overflow_nor_vanish(scale):
    normals, offsets = through([0.3, -0.2], np.linspace(0.1, 3, 9))
    factor = scale ** np.linspace(0, 1, 9)
    assert layer(factor[:, None] * normals, factor * offsets).n_regions == 18


@pytest.mark.whole
@settings(deadline=None, max_examples=200)
@given(seed=seeds, n=st.integers(10, 25), gap=st.integers(-14, -12), slope=st.sampled_from([0.0, 0.3]))
def test_polygons_tile_even_where_every_decision_is_in_doubt(seed, n, gap, slope):
    # Lines that miss a common point by about what rounding may do: counts are anyone's guess, but areas are not.
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, np.pi, n)
    angles[n // 2 :] = angles[0] + 10.0**gap * rng.normal(size=n - n // 2)
    normals, offsets = through(rng.uniform(-0.9, 0.9, 2), angles)
    weights = [normals, rng.integers(-2, 3, (5, n))]
    biases = [offsets + 10.0**gap * rng.normal(size=n), 10.0**gap * rng.normal(size=5)]
    partition = plane_partition(ReluNetwork(weights, biases, negative_slope=slope), SQUARE)
    np.testing.assert_allclose(partition.areas.sum(), 4, rtol=1e-9)
    assert partition.areas.min() > -1e-9
    # No two polygons lie on the same side of an edge, but for edges as short as the doubt.
    sides = [side for polygon in partition.polygons for side in pairwise(map(tuple, [*polygon, polygon[0]]))]
    sides = [(start, end) for start, end in sides if np.hypot(start[0] - end[0], start[1] - end[1]) > 1e-6]
    assert len(set(sides)) == len(sides)
    assert 1 <= partition.n_pieces <= partition.n_regions


# --- Certified in rational arithmetic ----------------------------------------------------------------------------

UNIT = ((0, 1), (0, 1))
CLASSES = {
    # window, weights, biases, readout; regions and pieces, counted by hand
    "zero biases": (SQUARE, [[[1, 2], [3, -1], [-2, 5]]], [[0, 0, 0]], ([[1, 1, 1]], [0]), 6, 6),
    # relu(x - y) and relu(y - x), and relu of their difference: the same line again.
    "zero biases, deep": (SQUARE, [[[1, -1], [-1, 1]], [[1, -1], [1, 1]]], [[0, 0]] * 2, ([[1, 0]], [0]), 2, 2),
    "equal neurons": (UNIT, [[[2, 2], [2, 2], [6, 6]]], [[-1, -1, -3]], ([[1, 1, 1]], [0]), 2, 2),
    "opposite neurons": (UNIT, [[[4, 1], [-4, -1]]], [[-2, 2]], ([[1, -1]], [0]), 2, 1),
    "equal neurons that cancel": (UNIT, [[[2, 2], [2, 2]]], [[-1, -1]], ([[1, -1]], [0]), 2, 1),
    # Five lines through (3/8, 5/8), off the centre.
    "concurrent": (UNIT, [[[8, 0], [0, 8], [8, 8], [8, -8], [16, 8]]], [[-3, -5, -8, 2, -11]], None, 10, 10),
    # 1, 4 lines, and 2 + 1 + 1 for the crossings at (-1, 0), of three lines, (1, 0) and (0, 1).
    "concurrent and parallel": (((-4, 4), (-4, 4)), [[[0, 1], [1, 1], [1, -1], [1, 1]]], [[0, 1, 1, -1]], None, 9, 9),
    "both diagonals": (UNIT, [[[1, -1], [1, 1]]], [[0, -1]], None, 4, 4),
    "lines that touch corners": (UNIT, [[[1, 1], [1, 1]]], [[0, -2]], None, 1, 1),
    "lines along edges": (UNIT, [[[1, 0], [1, 0], [0, 1], [0, 1]]], [[0, -1, 0, -1]], None, 1, 1),
    # The second layer is relu(x) - 1/2 and relu(y) - 1/2 in disguise; at the crossing of the first, both are < 0.
    "lines along edges, deep": (UNIT, [[[1, 0], [0, 1]], [[2, 0], [0, 2]]], [[0, 0], [-2, -1]], None, 2, 2),
    "dead neurons": (UNIT, [[[0, 0], [0, 0], [1, 1], [2, 0]]], [[0, 1, 7, -1]], ([[1, 1, 0, 1]], [0]), 2, 2),
    "a dead layer": (SQUARE, [[[1, 0], [0, 1]], [[-1, -1]], [[1], [-1]]], [[0, 0], [-1], [0, 0]], None, 4, 1),
    # relu(x) + relu(y) - relu(x + y) is 0 on two quadrants and > 0 on the rest.
    "pieces that touch 0": (SQUARE, [[[1, 0], [0, 1], [1, 1]], [[1, 1, -1]]], [[0] * 3, [0]], None, 6, 6),
    # Its negative is never > 0.
    "pieces that touch 0 from below": (SQUARE, [[[1, 0], [0, 1], [1, 1]], [[-1, -1, 1]]], [[0] * 3, [0]], None, 6, 1),
}


@pytest.mark.parametrize("case", CLASSES)
@pytest.mark.parametrize("slope", [0, 0.5])
def test_degenerate_classes_are_certified(case, slope):
    window, weights, biases, readout, n_regions, n_pieces = CLASSES[case]
    network = ReluNetwork(weights, biases, readout=readout, negative_slope=slope)
    partition = plane_partition(network, window, certify=True)
    check_tiling(partition)
    if slope == 0:
        assert (partition.n_regions, partition.n_pieces) == (n_regions, n_pieces)


def test_random_networks_are_certified():
    rng = np.random.default_rng(4)
    weights, biases = random_layers(rng, [3, 12, 8, 6])
    network = ReluNetwork(weights, biases, readout=(rng.normal(size=(1, 6)), [0]), negative_slope=0.01)
    plane = {"origin": rng.normal(size=3), "axes": rng.normal(size=(2, 3))}
    assert plane_partition(network, SQUARE, **plane, certify=True).n_regions > 50


def test_integer_lines_through_a_point_are_certified():
    # The forty lines through (0.3, -0.2), as tenths: floats hold them exactly.
    normals = np.random.default_rng(0).integers(-9, 10, (40, 2))
    normals = normals[normals.any(axis=1)]
    directions = {(u * np.sign(u or v) / np.gcd(u, v), v * np.sign(u or v) / np.gcd(u, v)) for u, v in normals}
    window = ((-10, 10), (-10, 10))
    network = ReluNetwork([normals], [-normals @ [3, -2]])
    assert plane_partition(network, window, certify=True).n_regions == 2 * len(directions)


def test_rounded_lines_through_a_point_are_not():
    # Their offsets are rounded, so as rationals they make small triangles. `snapped` tells that it was a decision.
    network = ReluNetwork(*([array] for array in through([0.3, -0.2], np.random.default_rng(0).uniform(0, np.pi, 40))))
    partition = plane_partition(network, SQUARE)
    assert (partition.n_regions, partition.snapped > 0) == (80, True)
    message = r"certify found \d+ regions and \d+ pieces in rational arithmetic, but float64 gives 80 and 80 \(snapped="
    with pytest.raises(ValueError, match=message):
        plane_partition(network, SQUARE, certify=True)


def test_pieces_are_certified_too():
    # The same regions; but 0.1 + 0.2 - 0.3 is 2^-54, and not 0.
    weights, biases = [[[1, 0], [1, 0], [1, 0]]], [[0, 0, 0]]
    readout = [[0.1, 0.2, -0.3]], [0]
    network = ReluNetwork(weights, biases, readout=readout)
    assert plane_partition(network, SQUARE).n_pieces == 1
    with pytest.raises(ValueError, match=r"found 2 regions and 2 pieces in rational arithmetic, but .* 2 and 1 "):
        plane_partition(network, SQUARE, certify=True)


def test_certification_is_for_small_partitions():
    network = ReluNetwork(*random_layers(np.random.default_rng(0), [2, 120]))
    with pytest.raises(ValueError, match=r"^plane_partition: certify is True for \d+ regions, but at most 2000"):
        plane_partition(network, SQUARE, certify=True)


def test_certification_gives_up_on_many_rational_regions(monkeypatch):
    monkeypatch.setattr(exact, "CERTIFIABLE", 100)
    rounded = through([0.3, -0.2], np.random.default_rng(0).uniform(0, np.pi, 30))
    network = ReluNetwork(*([array] for array in rounded))
    with pytest.raises(ValueError, match=r"certify found more than 100 regions in rational .* float64 gives 60 and 60"):
        plane_partition(network, SQUARE, certify=True)


# --- Limit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(30,), (12, 12), (8, 8, 8)])
def test_the_limit_is_exact(widths):
    network = ReluNetwork(*random_layers(np.random.default_rng(0), [2, *widths]))
    n_regions = plane_partition(network, SQUARE).n_regions
    assert plane_partition(network, SQUARE, limit=n_regions).n_regions == n_regions
    message = f"^plane_partition: limit is {n_regions - 1}, but more was expected: there are more regions"
    with pytest.raises(ValueError, match=message):
        plane_partition(network, SQUARE, limit=n_regions - 1)


def test_the_limit_stops_within_a_layer():
    # All its regions would take gigabytes.
    normals, offsets = random_layers(np.random.default_rng(0), [2, 10_000])
    tracemalloc.start()
    with pytest.raises(ValueError, match="limit is 10000, but more was expected"):
        plane_partition(ReluNetwork(normals, offsets), SQUARE, limit=10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize(
    ("limit", "error", "message"),
    [
        (0, ValueError, "limit is 0, but at least 1 was expected"),
        (-3, ValueError, "limit is -3, but at least 1 was expected"),
        (1e6, TypeError, r"limit is 1000000\.0, but an integer was expected"),
        (True, TypeError, "limit is True, but an integer was expected"),
        (None, TypeError, "limit is None, but an integer was expected"),
    ],
)
def test_wrong_limits_are_named(limit, error, message):
    with pytest.raises(error, match=f"^plane_partition: {message}"):
        plane_partition(ReluNetwork([np.eye(2)], [[0, 0]]), SQUARE, limit=limit)


# --- Pieces ------------------------------------------------------------------------------------------------------


def pieces(weights, biases, readout, **kwargs):
    partition = plane_partition(ReluNetwork(weights, biases, readout=readout, **kwargs), ((-3, 3), (-3, 3)))
    return partition.n_regions, partition.n_pieces


def test_pieces_of_known_functions():
    x, y = [1, 0], [0, 1]
    left, down = [-1, 0], [0, -1]
    assert pieces([[x, left]], [[0, 0]], ([[1, -1]], [0])) == (2, 1)  # x
    assert pieces([[x, left]], [[0, 0]], ([[1, 1]], [0])) == (2, 2)  # |x|
    assert pieces([[x, y]], [[0, 0]], ([[0, 0]], [5])) == (4, 1)  # 5
    assert pieces([[x, y]], [[0, 0]], ([[1, 0]], [0])) == (4, 2)  # relu(x)
    assert pieces([[x, y]], [[0, 0]], ([[1, 0], [0, 1]], [0, 0])) == (4, 4)  # both
    assert pieces([[x, y]], [[0, 0]], None) == (4, 4)
    assert pieces([[x, left, down]], [[0, 0, 0]], ([[1, -1, 0]], [0]), negative_slope=0.5) == (4, 1)
    # A hat is 0 on both of its sides, which are two pieces: they are not connected.
    assert pieces([[x, x, x]], [[1, 0, -1]], ([[1, -2, 1]], [0])) == (4, 4)
    # relu(min(x, y)) + relu(min(-x, -y)) is 0 on two quadrants that share only a point: two pieces.
    first = [x, left, y, down, [1, -1]]
    second = [[1, -1, 0, 0, -1], [0, 0, -1, 1, -1]]
    assert pieces([first, second], [[0] * 5, [0, 0]], ([[1, 1]], [0])) == (6, 6)


def test_pieces_that_differ_where_a_mixture_of_outputs_does_not():
    # n_pieces looks at the mixture cos(0), cos(1), cos(2) ... of the outputs first.
    assert pieces([[[1, 0]]], [[0]], ([[-np.cos(1)], [1]], [0, 0])) == (2, 2)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("size", [1e-9, 1e-7, 1e-4, 1e4, 1e7, 1e9])
def test_pieces_of_small_slopes_beside_large_ones(size, depth):
    # relu(u) + relu(v): each quadrant has its map, whatever the scales of u and v.
    first, second = (np.vstack([np.eye(2), -np.eye(2)]), np.zeros(4)), (np.eye(2, 4), np.zeros(2))
    weights, biases = zip(*(first, second)[:depth], strict=True)
    sums = np.array([1, 1, 0, 0])[None, : len(biases[-1])]
    small = ((-size, size), (-1 / size, 1 / size))
    for scale, window, axes in ((1, small, np.eye(2)), (size, SQUARE, np.eye(2)), (1, SQUARE, np.diag([1, size]))):
        network = ReluNetwork(weights, biases, readout=(sums * [1, scale, 0, 0][: len(biases[-1])], [0]))
        assert plane_partition(network, window, axes=axes, certify=True).n_pieces == 4
        straight = ReluNetwork([first[0]], [first[1]], readout=([[1, scale, -1, -scale]], [0]))
        assert plane_partition(straight, window, axes=axes, certify=True).n_pieces == 1


def test_pieces_merge_in_awkward_numbers():
    # The sum of a (relu(z) - relu(-z)) = a z is affine, whatever its 60 lines; one line more is one cut.
    rng = np.random.default_rng(5)
    W, b, a = rng.normal(size=(60, 2)), rng.normal(size=60), rng.normal(size=(1, 60))
    weights, biases = np.concatenate([W, -W, [[1, 0.1]]]), np.concatenate([b, -b, [0.05]])
    n_regions, n_pieces = pieces([weights], [biases], (np.concatenate([a, -a, [[1]]], axis=1), [0.3]))
    assert n_regions > 1000
    assert n_pieces == 2


def test_pieces_merge_under_a_large_readout_bias():
    # a z is 2^-33 at 0, and 2^20 + 2^-33 lies halfway between two floats: rounding errors of a z decide which.
    rng = np.random.default_rng(0)
    W, b, a = rng.normal(size=(20, 2)), rng.normal(size=20), rng.normal(size=(1, 20))
    b[-1] = (2**-33 - a[0, :-1] @ b[:-1]) / a[0, -1]
    readout = np.concatenate([a, -a], axis=1), [2**20]
    n_regions, n_pieces = pieces([np.concatenate([W, -W])], [np.concatenate([b, -b])], readout)
    assert n_regions > 100
    assert n_pieces == 1


# --- Errors ------------------------------------------------------------------------------------------------------

NETWORK = ReluNetwork([np.eye(2)], [[0, 0]])
DEEP_INPUT = ReluNetwork([np.eye(3)], [[0, 0, 0]])


@pytest.mark.parametrize(
    ("window", "error", "message"),
    [
        (((0, 0), (0, 1)), ValueError, r"window is \(\(0, 0\), \(0, 1\)\), but .*, u0 < u1, v0 < v1, was expected"),
        (((0, 1), (2, 1)), ValueError, r"window is \(\(0, 1\), \(2, 1\)\), but"),
        ((0, 1, 0, 1), ValueError, r"window is \(0, 1, 0, 1\), but \(\(u0, u1\), \(v0, v1\)\)"),
        (2, ValueError, "window is 2, but"),
        (((0, 5e-324), (0, 1)), ValueError, r"window is \(\(0, 5e-324\), \(0, 1\)\), but"),
        (np.zeros((2, 2)), ValueError, r"window is array\(\[\[0., 0.\], \[0., 0.\]\]\), but"),
        (((0, 1), (0, np.inf)), ValueError, r"window holds inf at \(1, 1\), but finite"),
        (((0, np.nan), (0, 1)), ValueError, r"window holds nan at \(0, 1\), but finite"),
        (((0, 1), (0,)), TypeError, r"window is \(\(0, 1\), \(0,\)\), but an array of real numbers was expected"),
        (None, TypeError, "window is None, but"),
    ],
)
def test_wrong_windows_are_named(window, error, message):
    with pytest.raises(error, match=f"^plane_partition: {message}"):
        plane_partition(NETWORK, window)


@pytest.mark.parametrize(
    ("network", "plane", "message"),
    [
        (DEEP_INPUT, {}, "axes is None, but two directions in R.3 were expected"),
        (DEEP_INPUT, {"origin": [0, 0, 0]}, "axes is None"),
        (DEEP_INPUT, {"axes": np.eye(2)}, r"axes has shape \(2, 2\), but \(2, 3\)"),
        (NETWORK, {"axes": np.eye(3)[:2]}, r"axes has shape \(2, 3\), but \(2, 2\)"),
        (NETWORK, {"axes": [1, 0]}, r"axes has shape \(2,\), but \(2, 2\)"),
        (NETWORK, {"axes": [[1, 0], [0, 0]]}, r"axes\[1\] is zero, but a direction was expected"),
        (NETWORK, {"axes": [[1, 2], [-0.3, -0.6]]}, r"axes\[0\] and axes\[1\] are parallel, but"),
        (ReluNetwork([[[1]]], [[0]]), {"axes": [[1], [2]]}, r"axes\[0\] and axes\[1\] are parallel"),
        (NETWORK, {"axes": [[1, np.nan], [0, 1]]}, r"axes holds nan at \(0, 1\)"),
        (NETWORK, {"origin": [0, 0, 0]}, r"origin has shape \(3,\), but \[2\] was expected"),
        (NETWORK, {"origin": 0}, r"origin has shape \(\), but \[2\] was expected"),
        (NETWORK, {"origin": [0, np.inf]}, r"origin holds inf at \(1,\)"),
        (NETWORK, {"certify": np.array([True])}, r"certify is array\(\[ True\]\), but True or False was expected"),
    ],
)
def test_wrong_planes_are_named(network, plane, message):
    with pytest.raises((TypeError, ValueError), match=f"^plane_partition: {message}"):
        plane_partition(network, SQUARE, **plane)


def test_wrong_networks_are_named():
    with pytest.raises(TypeError, match=r"^plane_partition: network is list, but a ReluNetwork was expected"):
        plane_partition([np.eye(2)], SQUARE)


@pytest.mark.parametrize(
    ("network", "plane", "where"),
    [
        (NETWORK, {"axes": 1e200 * np.eye(2), "origin": [1e308, 0]}, "layer 0"),
        (NETWORK, {"window": ((-1.7e308, 1.7e308), (0, 1))}, "layer 0"),
        (ReluNetwork([np.eye(2), [[1e300, 1e-300]]], [[0, 0], [0]]), {"axes": 1e150 * np.eye(2)}, "layer 1"),
        (
            ReluNetwork([np.eye(2)], [[0, 0]], readout=([[1e300, 1e-300]], [0])),
            {"axes": 1e150 * np.eye(2)},
            "the output",
        ),
    ],
)
def test_numbers_that_overflow_are_refused(network, plane, where):
    with pytest.raises(ValueError, match=f"^plane_partition: values of {where} overflow float64, but smaller"):
        plane_partition(network, **{"window": SQUARE} | plane)


def test_a_second_copy_of_a_neuron_is_in_doubt_and_certified():
    """Its values on the line of the first are 0, and float64 computes others: `snapped` counts them all the same."""
    rng = np.random.default_rng(0)
    W, b = rng.standard_normal((5, 2)), rng.standard_normal(5)
    network = ReluNetwork([np.concatenate([W, W])], [np.concatenate([b, b])])
    partition = plane_partition(network, ((-9, 9), (-9, 9)), certify=True)
    assert partition.snapped > 0
    assert partition.n_regions == plane_partition(ReluNetwork([W], [b]), ((-9, 9), (-9, 9))).n_regions
