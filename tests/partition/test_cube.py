"""count_in_cube against the exact partitions of lines and planes, products, closed forms and samples."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geolib.partition import (
    ReluNetwork,
    count_in_cube,
    cube,
    line_partition,
    max_regions,
    plane_partition,
    region_bound,
)


def random_network(widths, dim, seed, slope=0.0):
    rng = np.random.default_rng([seed, dim, *widths])
    weights = [rng.standard_normal(shape) for shape in zip(widths, [dim, *widths[:-1]], strict=True)]
    return ReluNetwork(weights, [rng.standard_normal(n) for n in widths], negative_slope=slope)


def side_by_side(networks):
    """One network that applies each to its own coordinates."""

    def blocks(matrices):
        rows, columns = np.sum([matrix.shape for matrix in matrices], axis=0)
        whole, i, j = np.zeros((rows, columns)), 0, 0
        for matrix in matrices:
            whole[i : i + matrix.shape[0], j : j + matrix.shape[1]] = matrix
            i, j = i + matrix.shape[0], j + matrix.shape[1]
        return whole

    weights = [blocks(layer) for layer in zip(*(network.weights for network in networks), strict=True)]
    biases = [np.concatenate(layer) for layer in zip(*(network.biases for network in networks), strict=True)]
    return ReluNetwork(weights, biases)


SPECIAL = "count_in_cube: network has a neuron that is 0 at a vertex, but general position was expected"
SHAPES = [[1], [9], [5, 5], [3, 7, 2], [4, 4, 4, 4]]


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("widths", SHAPES)
def test_agrees_with_lines_and_planes(widths, slope):
    for seed in range(5):
        line, plane = (random_network(widths, dim, seed, slope) for dim in (1, 2))
        for radius in (0.3, 2.0, 20):
            assert count_in_cube(line, radius) == line_partition(line, [-radius], [radius]).n_regions
            window = ((-radius, radius), (-radius, radius))
            assert count_in_cube(plane, radius) == plane_partition(plane, window).n_regions


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=2), st.integers(2, 4), st.integers(0, 999))
def test_regions_of_independent_coordinates_multiply(widths, dim, seed):
    parts = [random_network(widths, 1, seed + 1000 * i) for i in range(dim)]
    counts = [line_partition(part, [-3], [3]).n_regions for part in parts]
    assert count_in_cube(side_by_side(parts), 3) == np.prod(counts)


@pytest.mark.parametrize(("n", "dim"), [(10, 3), (8, 4), (7, 5), (3, 6)])
def test_one_layer_has_all_its_regions_in_a_large_cube(n, dim):
    network = random_network([n], dim, 0)
    counts = [count_in_cube(network, radius) for radius in (1e-3, 0.5, 2, 1e4)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, max_regions(n, dim))


@pytest.mark.parametrize("dim", [8, 12])
def test_many_dimensions(dim):
    """Cubes of many corners: regions of independent coordinates multiply, and a layer of few neurons has them all."""
    assert count_in_cube(random_network([4], dim, 0), 1e3) == 16
    parts = [random_network([1], 1, seed) for seed in range(dim)]
    counts = [line_partition(part, [-1.5], [1.5]).n_regions for part in parts]
    assert count_in_cube(side_by_side([*parts[:4], random_network([1], dim - 4, 0)]), 1.5) == 2 * np.prod(counts[:4])


@pytest.mark.parametrize("widths", [[8], [4, 4], [3, 3, 3]])
def test_samples_see_nearly_as_many_and_the_bound_is_above(widths):
    network = random_network(widths, 3, 1)
    points = np.random.default_rng(0).uniform(-2, 2, (200_000, 3))
    active = np.concatenate(network.pattern(points), axis=1)
    seen = len(np.unique(np.packbits(active, axis=1), axis=0))
    assert 0.85 * count_in_cube(network, 2) < seen <= count_in_cube(network, 2) <= region_bound(widths, 3)


def test_order_and_scale_do_not_matter():
    network = random_network([6, 5], 3, 0)
    (W, V), (b, c) = network.weights, network.biases
    count = count_in_cube(network, 2)
    order = np.random.default_rng(0).permutation(6)
    assert count_in_cube(ReluNetwork([W[order], V[:, order]], [b[order], c]), 2) == count
    assert count_in_cube(ReluNetwork([W[:, [2, 0, 1]], V], [b, c]), 2) == count
    assert count_in_cube(ReluNetwork([W, V], [1e6 * b, 1e6 * c]), 2e6) == count
    scale = np.exp(np.arange(6) - 3)
    assert count_in_cube(ReluNetwork([scale[:, None] * W, V / scale], [scale * b, c]), 2) == count
    assert type(count) is int


def refuses(error, message, call, *args, **kwargs):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call(*args, **kwargs)


@pytest.mark.parametrize(
    ("weights", "biases"),
    [
        ([[[1, 0]]], [[1]]),  # along a face
        ([[[1, 1]]], [[0]]),  # through corners
        ([[[1, 0.2], [0.3, 1], [1, 1]]], [[0, 0, 0]]),  # concurrent
        ([[[1, 0.2], [-2, -0.4]]], [[0.1, -0.2]]),  # one line twice
        ([[[0, 0]]], [[0]]),  # nothing
        ([[[1, 0.2]], [[1]]], [[0], [0]]),  # 0 on all of a side
        ([[[1, 0.2], [0.3, 1]], [[0.5, 0.7]]], [[0.1, 0.2], [0]]),
    ],
)
def test_special_positions_are_refused(weights, biases):
    refuses(ValueError, SPECIAL, count_in_cube, ReluNetwork(weights, biases), 1)


def test_digits_that_an_earlier_layer_lost_are_missed():
    # Layer 2 is 0.3 x + 0.7 y + 5 but for what cancels, and layer 3 is 0 at a corner of the square but for that.
    far = 12345678901.1
    weights, biases = [np.eye(2), [[0.3, 0.7]], [[1]]], [[far, far], [5 - far], [-6]]
    refuses(ValueError, SPECIAL, count_in_cube, ReluNetwork(weights, biases), 1)
    biases[2] = [-5]
    assert count_in_cube(ReluNetwork(weights, biases), 1) == 2


def test_bad_input_is_refused():
    network = random_network([5], 2, 0)
    count = count_in_cube(network, 3)
    assert count_in_cube(network, 3, limit=count) == count
    message = f"count_in_cube: limit is {count - 1}, but more was expected: there are more regions"
    refuses(ValueError, message, count_in_cube, network, 3, limit=count - 1)
    refuses(ValueError, "count_in_cube: limit is 0, but at least 1 was expected", count_in_cube, network, 3, limit=0)
    refuses(TypeError, "count_in_cube: network is int, but a ReluNetwork was expected", count_in_cube, 3, 3)
    for radius in (0, -1, [1], True):
        message = f"count_in_cube: radius is {radius}, but a number above 0 was expected"
        refuses(ValueError, message, count_in_cube, network, radius)
    message = "count_in_cube: radius is '1', but a number above 0 was expected"
    refuses(TypeError, message, count_in_cube, network, "1")
    message = "count_in_cube: network has input dimension 13, but at most 12 was expected"
    refuses(ValueError, message, count_in_cube, random_network([2], 13, 0), 1)
    message = "count_in_cube: values overflow, but a smaller radius or smaller weights were expected"
    refuses(ValueError, message, count_in_cube, ReluNetwork([[[1e200]], [[1e200]]], [[1], [1]]), 1)
    refuses(ValueError, message, count_in_cube, ReluNetwork([[[1e300, -1e300]]], [[1]]), 1e300)


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize(("widths", "dim"), [([7], 3), ([4, 4], 3), ([3, 3, 3], 3), ([5], 4), ([3, 3], 5), ([6], 1)])
def test_counts_are_certified(widths, dim, slope):
    network = random_network(widths, dim, 2, slope)
    count = count_in_cube(network, 1.5)
    assert count_in_cube(network, 1.5, certify=True) == count > 1


def test_a_count_that_rounding_has_changed_is_not_certified(monkeypatch):
    """Three planes through one line, but for rounding: 7 regions in rational arithmetic, in float64 6, 7 or 8."""
    monkeypatch.setattr(cube, "DOUBT", 0)
    monkeypatch.setattr(cube, "carry", lambda W, b, errors: np.zeros((1, len(b))))
    said = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        normals = np.pad(rng.standard_normal((3, 2)), ((0, 0), (0, 1)))
        network = ReluNetwork([normals], [-normals @ rng.uniform(-0.1, 0.1, 3)])
        try:
            assert count_in_cube(network, 10, certify=True) == 7
        except ValueError as error:
            said.add(str(error))
    message = "count_in_cube: certify found 7 regions in rational arithmetic, but float64 gives "
    assert said
    assert said <= {f"{message}6", f"{message}8", SPECIAL}
    assert said - {SPECIAL}


def test_certify_beyond_its_limit_is_refused():
    network = random_network([14], 5, 0)
    count = count_in_cube(network, 9)
    message = f"count_in_cube: certify is True for {count} regions, but at most 2000 were expected"
    refuses(ValueError, message, count_in_cube, network, 9, certify=True)
    refuses(
        TypeError, "count_in_cube: certify is 1, but True or False was expected", count_in_cube, network, 9, certify=1
    )


@pytest.mark.parametrize("size", [1, 1e-300, 1e-310, 1e-313])
def test_small_cubes_are_counted(size):
    layers = [[[1.0, 0], [0, 1], [1, 1]], [[1, -1, 0.5], [1, 1, -1]]]
    biases = [np.array([0.1, -0.2, 1 / 3]) * size, np.array([-0.1, 0.3]) * size]
    assert count_in_cube(ReluNetwork(layers[:1], biases[:1]), size) == 7
    assert count_in_cube(ReluNetwork(layers, biases), size) == 16
