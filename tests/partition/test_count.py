"""max_regions against the recursion it solves; test_plane.py holds partitions that attain it."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from geolib.partition import max_regions


def by_recursion(n, dim):
    """A new hyperplane adds as many regions as the others cut it into."""
    if n == 0 or dim == 0:
        return 1
    return by_recursion(n - 1, dim) + by_recursion(n - 1, dim - 1)


@pytest.mark.parametrize(("n", "dim"), list(product(range(9), range(6))))
def test_general_position_solves_the_recursion(n, dim):
    assert max_regions(n, dim) == by_recursion(n, dim)


@pytest.mark.parametrize(("n", "dim"), list(product(range(9), range(1, 6))))
def test_central_is_general_position_seen_on_the_sphere(n, dim):
    # Take one of the hyperplanes as the equator: each hemisphere is R^(dim - 1), cut by the others.
    expected = 2 * by_recursion(n - 1, dim - 1) if n else 1
    assert max_regions(n, dim, central=True) == expected


def test_small_cases_known_by_heart():
    assert [max_regions(n, 1) for n in range(4)] == [1, 2, 3, 4]
    assert [max_regions(n, 2) for n in range(5)] == [1, 2, 4, 7, 11]
    assert [max_regions(n, 2, central=True) for n in range(1, 5)] == [2, 4, 6, 8]
    assert [max_regions(n, 1, central=True) for n in range(4)] == [1, 2, 2, 2]
    assert max_regions(7, 0) == max_regions(7, 0, central=True) == 1


def test_enough_dimensions_give_every_pattern():
    assert max_regions(300, 300) == max_regions(300, 300, central=True) == 2**300
    assert max_regions(300, 4096) == 2**300


def test_numpy_integers_count():
    count = max_regions(np.int64(50), np.int32(2))
    assert count == 1276
    assert type(count) is int


@pytest.mark.parametrize("value", [True, 2.0, "3", None, Fraction(2), np.bool_(True), np.float64(3)])
def test_only_integers_count(value):
    with pytest.raises(TypeError, match=r"max_regions: n_hyperplanes is .*expected an integer"):
        max_regions(value, 2)
    with pytest.raises(TypeError, match=r"max_regions: dim is .*expected an integer"):
        max_regions(3, value)


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="max_regions: n_hyperplanes is -1, expected at least 0"):
        max_regions(-1, 2)
    with pytest.raises(ValueError, match="max_regions: dim is -2, expected at least 0"):
        max_regions(3, -2)
