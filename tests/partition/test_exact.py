"""Rational counts: against the slabs of exact_regions.py, a third algorithm, and cases done by hand."""

from fractions import Fraction

import numpy as np
import pytest
from exact_regions import exact_counts
from hypothesis import given, settings
from hypothesis import strategies as st

from geolib.partition import ReluNetwork
from geolib.partition.exact import plane_counts

PLANE = {"origin": [0, 0], "axes": [[1, 0], [0, 1]], "limit": 10**6}


@pytest.mark.whole
@settings(deadline=None, max_examples=25)
@given(
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    seed=st.integers(0, 2**32 - 1),
    slope=st.sampled_from([0, 0.5]),
    readout=st.booleans(),
)
def test_two_rational_algorithms_agree(widths, seed, slope, readout):
    rng = np.random.default_rng(seed)
    sizes = [2, *widths]
    weights = [rng.integers(-2, 3, (after, before)) for before, after in zip(sizes, widths, strict=False)]
    biases = [rng.integers(-2, 3, width) for width in widths]
    readout = (rng.integers(-1, 2, (1, widths[-1])), rng.integers(-1, 2, 1)) if readout else None
    window = ((-2, 2), (-1, 3))
    network = ReluNetwork(weights, biases, readout=readout, negative_slope=slope)
    as_lists = [[array.tolist() for array in arrays] for arrays in (weights, biases, readout or [])]
    patterns, n_pieces = exact_counts(*as_lists[:2], window, as_lists[2], slope)
    assert plane_counts(network, window, **PLANE) == (len(patterns), n_pieces)


def test_nothing_is_rounded():
    # 0.1 + 0.2 is not 0.3 in binary: the third line misses the crossing of the first two.
    network = ReluNetwork([[[1, 0], [0, 1], [1, 1]]], [[-0.1, -0.2, -0.3]])
    assert Fraction(0.1) + Fraction(0.2) != Fraction(0.3)
    assert plane_counts(network, ((0, 1), (0, 1)), **PLANE) == (7, 7)
    network = ReluNetwork([[[1, 0], [0, 1], [1, 1]]], [[-0.125, -0.25, -0.375]])
    assert plane_counts(network, ((0, 1), (0, 1)), **PLANE) == (6, 6)


def test_the_plane_may_lie_anywhere():
    # relu(z) on the plane (u, v) -> (7, v, u + v - 1): one line, from corner to corner.
    network = ReluNetwork([[[0, 0, 1]]], [[0]])
    origin, axes = [7, 0, -1], [[0, 0, 1], [0, 1, 1]]
    assert plane_counts(network, ((0, 1), (0, 1)), origin, axes, limit=9) == (2, 2)
    assert plane_counts(network, ((1, 2), (0, 1)), origin, axes, limit=9) == (1, 1)


@pytest.mark.parametrize("depth", [1, 2])
def test_it_gives_up_beyond_the_limit(depth):
    network = ReluNetwork([np.eye(2)] * depth, [[0, 0]] + [[-0.5, -0.5]] * (depth - 1))
    window = ((-1, 1), (-1, 1))
    counts = plane_counts(network, window, **PLANE)
    assert plane_counts(network, window, **PLANE | {"limit": counts[0]}) == counts
    assert plane_counts(network, window, **PLANE | {"limit": counts[0] - 1}) is None
