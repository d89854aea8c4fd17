"""Counts and bounds against naive versions, published sequences, and the partitions that attain them."""

import re
from decimal import Context, Decimal, Inexact, getcontext, localcontext
from fractions import Fraction
from itertools import chain, combinations, pairwise, product
from math import comb, factorial, prod

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc

from geolib.partition import (
    ReluNetwork,
    count_arrangement,
    count_in_ball,
    effective_regions,
    expected_regions,
    max_regions,
    plane_partition,
    region_bound,
)
from geolib.partition.count import _shares_met

# max_regions


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
    assert max_regions(10**6, 10**6) == 2**10**6
    assert max_regions(2**70, 2) == 1 + 2**70 + comb(2**70, 2)


def test_bounds_that_fill_the_memory_are_refused():
    refused = "need numbers of 2^44 bits in total, but at most 2e+10 was expected"
    refuses(ValueError, f"max_regions: n_hyperplanes and dim {refused}", max_regions, 10**12, 10**6)
    refuses(ValueError, f"max_regions: n_hyperplanes and dim {refused}", max_regions, 10**12, 10**6, central=True)
    refuses(ValueError, f"region_bound: widths and dim {refused}", region_bound, [10**6], 10**6)
    refused = refused.replace("2^44", "2^40")
    refuses(ValueError, f"max_regions: n_hyperplanes and dim {refused}", max_regions, 10**12, 10**12)
    # Sums of very long numbers are not: half of all subsets of an odd number of neurons are small.
    assert max_regions(20_001, 10_000) == region_bound([20_001], 10_000) == 2**20_000
    assert max_regions(10**400, 1) == region_bound([10**400], 1) == 10**400 + 1


def test_numpy_integers_count():
    count = max_regions(np.int64(50), np.int32(2))
    assert count == 1276
    assert type(count) is int


NO_INTEGERS = [True, 2.0, "3", None, Fraction(2), np.bool_(True), np.float64(3)]


@pytest.mark.parametrize("value", NO_INTEGERS)
def test_only_integers_count(value):
    with pytest.raises(TypeError, match=r"max_regions: n_hyperplanes is .*an integer was expected"):
        max_regions(value, 2)
    with pytest.raises(TypeError, match=r"max_regions: dim is .*an integer was expected"):
        max_regions(3, value)


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="max_regions: n_hyperplanes is -1, but at least 0 was expected"):
        max_regions(-1, 2)
    with pytest.raises(ValueError, match="max_regions: dim is -2, but at least 0 was expected"):
        max_regions(3, -2)


# count_arrangement


def by_subsets(normals, offsets):
    """Whitney's theorem: every set of hyperplanes that have a point in common adds (-1)^(size - rank)."""
    rows = np.column_stack([normals, offsets])[np.any(normals, axis=1)]
    rows = np.array([row for i, row in enumerate(rows) if not any(parallel(row, other) for other in rows[:i])])
    total = 1
    for size in range(1, len(rows) + 1):
        for subset in combinations(rows, size):
            rank = np.linalg.matrix_rank(np.array(subset)[:, :-1])
            if np.linalg.matrix_rank(subset) == rank:
                total += (-1) ** (size - rank)
    return total


def parallel(a, b):
    return np.linalg.matrix_rank([a, b]) == 1


@st.composite
def arrangements(draw, max_rows=6):
    """Rows with entries so small that parallel, concurrent, repeated and empty hyperplanes are common."""
    dim = draw(st.integers(1, 3))
    row = st.lists(st.integers(-2, 2), min_size=dim + 1, max_size=dim + 1).filter(any)
    rows = np.array(draw(st.lists(row, min_size=1, max_size=max_rows)))
    return rows[:, :-1], rows[:, -1]


@settings(max_examples=150, deadline=None)
@given(arrangements())
def test_any_arrangement_agrees_with_the_sum_over_subsets(arrangement):
    assert count_arrangement(*arrangement) == by_subsets(*arrangement)


@settings(max_examples=50, deadline=None)
@given(arrangements(9), st.randoms(use_true_random=False))
def test_count_does_not_depend_on_how_the_arrangement_is_written(arrangement, random):
    normals, offsets = (array.astype(object) for array in arrangement)
    n, dim = normals.shape
    count = count_arrangement(normals, offsets)
    order = random.sample(range(n), n)
    assert count_arrangement(normals[order], offsets[order]) == count
    scale = np.array([random.choice([-1, 1]) * Fraction(random.randint(1, 9), random.randint(1, 9)) for _ in range(n)])
    assert count_arrangement(scale[:, None] * normals, scale * offsets) == count
    assert count_arrangement([*normals, *normals], [*offsets, *offsets]) == count
    # x = B y + c with B unipotent, thus invertible; then one more coordinate, which nothing depends on.
    B = np.eye(dim, dtype=int) + np.triu(np.array(random.choices(range(-5, 6), k=dim**2)).reshape(dim, dim), 1)
    c = np.array(random.choices(range(-5, 6), k=dim))
    assert count_arrangement(normals @ B, offsets + normals @ c) == count
    assert count_arrangement(np.column_stack([normals, np.zeros(n, dtype=int)]), offsets) == count


@settings(max_examples=50, deadline=None)
@given(arrangements(4), arrangements(4))
def test_regions_of_independent_arrangements_multiply(one, other):
    (a, b), (c, d) = one, other
    normals = np.block([[a, np.zeros((len(a), c.shape[1]))], [np.zeros((len(c), a.shape[1])), c]])
    together = count_arrangement(normals, np.concatenate([b, d]))
    assert together == count_arrangement(a, b) * count_arrangement(c, d)


@settings(max_examples=40, deadline=None)
@given(arrangements(7))
def test_arrangements_in_the_plane_agree_with_the_polygons(arrangement):
    normals, offsets = arrangement
    normals = np.pad(normals, ((0, 0), (0, 1)))[:, :2]
    some = normals.any(axis=1)
    if not some.any():
        return
    # Two lines with entries up to 2 cross within 8 of the origin.
    partition = plane_partition(ReluNetwork([normals[some]], [offsets[some]]), ((-9, 9), (-9, 9)))
    assert count_arrangement(normals[some], offsets[some]) == partition.n_regions


@settings(max_examples=100, deadline=None)
@given(arrangements(8))
def test_distinct_hyperplanes_add_a_region_each_or_more(arrangement):
    """Distinct: the count of hyperplanes that coincide says nothing, as the last line shows."""
    normals, offsets = arrangement
    rows = np.column_stack([normals, offsets])[np.any(normals, axis=1)]
    rows = np.array([row for i, row in enumerate(rows) if not any(parallel(row, other) for other in rows[:i])])
    if len(rows):
        count = count_arrangement(rows[:, :-1], rows[:, -1])
        assert len(rows) + 1 <= count <= max_regions(len(rows), normals.shape[1])
    assert count_arrangement([[1, 2]] * 1536, [0] * 1536) == 2


def differences(n, values=(0,), sign=-1):
    """Hyperplanes x_i + sign x_j = value, for all i < j."""
    unit = np.eye(n, dtype=int)
    rows = [(unit[i] + sign * unit[j], -value) for i, j in combinations(range(n), 2) for value in values]
    return [row for row, _ in rows], [offset for _, offset in rows]


def central(rows):
    return rows, [0] * len(rows)


STRUCTURED = {
    # the permutations
    **{f"braid {n}": (differences(n), factorial(n)) for n in (2, 3, 5, 7, 9)},
    # Shi 1986: the parking functions
    **{f"Shi {n}": (differences(n, (0, 1)), (n + 1) ** (n - 1)) for n in (2, 3, 5)},
    "Catalan 4": (differences(4, (-1, 0, 1)), factorial(4) * 14),
    "Catalan 5": (differences(5, (-1, 0, 1)), factorial(5) * 42),
    # Postnikov and Stanley 2000: the alternating trees
    "Linial 3": (differences(3, (1,)), 7),
    "Linial 4": (differences(4, (1,)), 36),
    "Linial 5": (differences(5, (1,)), 246),
    # the threshold graphs with labelled vertices, OEIS A005840
    **{f"threshold {n}": (differences(n, sign=1), count) for n, count in [(3, 8), (4, 46), (5, 332), (6, 2874)]},
    # the Boolean functions of n inputs that one neuron can compute, OEIS A000609
    **{
        f"one neuron, {n} inputs": (central([(1, *x) for x in product((0, 1), repeat=n)]), count)
        for n, count in [(2, 14), (3, 104), (4, 1882)]
    },
    "Boolean": (central(np.eye(30, dtype=int)), 2**30),
    "signed permutations": (
        central([*np.eye(4, dtype=int), *chain(*(differences(4, sign=s)[0] for s in (-1, 1)))]),
        2**4 * factorial(4),
    ),
    "parallel": (([[1, 2]] * 7, range(7)), 8),
    "pencil": (([[k, 1 - k] for k in range(7)], [1] * 7), 14),
    "grid": (([[1, 0]] * 3 + [[0, 1]] * 4, [0, 1, 2, 0, 1, 2, 3]), 20),
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_structured_arrangements_have_their_published_counts(name):
    (normals, offsets), expected = STRUCTURED[name]
    assert count_arrangement(normals, offsets) == expected


@pytest.mark.parametrize(("n", "dim"), [(12, 5), (20, 2), (7, 7), (6, 40), (9, 1)])
def test_random_floats_are_in_general_position(n, dim):
    rng = np.random.default_rng(n)
    normals, offsets = rng.standard_normal((n, dim)), rng.standard_normal(n)
    assert count_arrangement(normals, offsets) == max_regions(n, dim)
    assert count_arrangement(normals, np.zeros(n)) == max_regions(n, dim, central=True)


def test_numbers_are_taken_exactly():
    big = 2**60  # the next float is 256 away
    assert count_arrangement([[1], [1]], [-big, -(big + 1)]) == 3
    assert count_arrangement([[big, 1], [big + 1, 1], [1, 0]], [0, 0, 0]) == 6
    assert count_arrangement([[big, big + 1]] * 2, [1, Fraction(1, 3)]) == 3
    assert count_arrangement([[Fraction(1, 3), 1], [1, 3]], [2, 6]) == 2
    assert count_arrangement([[10], [1]], [1, Fraction(1, 10)]) == 2
    assert count_arrangement([[10], [1]], [1, 0.1]) == 3  # 0.1 is not a tenth
    assert count_arrangement([[10], [1]], [1, Decimal("0.1")]) == 2
    assert count_arrangement([[5e-324, 1e308], [5e-324, 1.1e308]], [1, 1]) == 4


def test_more_flats_than_the_limit_are_refused():
    normals, offsets = np.random.default_rng(0).integers(-99, 100, (12, 5)), np.arange(12)
    count = max_regions(12, 5)
    assert count_arrangement(normals, offsets, limit=12 * 11 * 10 // 6) == count  # flats where three meet
    message = "count_arrangement: limit is 100, but more was expected: there are more flats"
    refuses(ValueError, message, count_arrangement, normals, offsets, limit=100)
    refuses(
        ValueError, "count_arrangement: limit is 0, but at least 1 was expected", count_arrangement, [[1]], [0], limit=0
    )


def test_lists_and_arrays_of_any_kind_are_welcome():
    normals, offsets = [[1, 0], [0, 1], [1, 1]], [0, 0, 1]
    for kind in (np.int8, np.uint64, np.int64, np.float16, np.float32, np.float64, np.longdouble, bool, object):
        count = count_arrangement(np.array(normals, dtype=kind), np.array(offsets, dtype=kind))
        assert count == 7
        assert type(count) is int
    assert count_arrangement([np.array([1, 0]), [np.int64(0), np.float32(1)], (1, 1)], (0, 0, 1)) == 7


def test_the_empty_set_cuts_nothing():
    assert count_arrangement([[0, 0], [1, 0]], [3, 0]) == 2
    assert count_arrangement([[0, 0]], [3]) == 1
    assert count_arrangement(np.zeros((0, 3)), []) == 1
    assert count_arrangement(np.zeros((0, 0)), []) == 1
    assert count_arrangement(np.zeros((2, 0)), [1, 2]) == 1


def refuses(error, message, call, *args, **kwargs):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call(*args, **kwargs)


@pytest.mark.parametrize("count", [count_arrangement, lambda *rows: count_in_ball(*rows, 1)])
def test_what_is_no_arrangement_is_refused(count):
    name = "count_arrangement" if count is count_arrangement else "count_in_ball"
    refuses(ValueError, f"{name}: row 1 is all 0, but a hyperplane was expected", count, [[1, 0], [0, 0]], [0, 0])
    refuses(ValueError, f"{name}: normals has shape (2,), but [n, dim] was expected", count, [1, 2], [1, 2])
    refuses(ValueError, f"{name}: normals has shape (0,), but [n, dim] was expected", count, [], [])
    message = f"{name}: offsets has shape (1,), but (2,) was expected"
    refuses(ValueError, message, count, [[1], [2]], [3])
    refuses(
        ValueError, f"{name}: normals holds nan at (0, 1), but finite numbers were expected", count, [[1, np.nan]], [0]
    )
    refuses(
        ValueError, f"{name}: offsets holds -inf at (0,), but finite numbers were expected", count, [[1, 0]], [-np.inf]
    )
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: normals .*sNaN"):
        count([[Decimal("sNaN"), 1]], [0])
    refuses(
        ValueError, "count_in_ball: radius is True, but a number above 0 was expected", count_in_ball, [[1]], [0], True
    )
    for bad in ([[1j]], [["1"]], "ab", None, [[None]], [[1], [2, 3]]):
        refuses(TypeError, f"{name}: normals is {bad!r}, but an array of real numbers was expected", count, bad, [0])


# count_in_ball


def by_distances(normals, offsets, radius):
    """Solve for the point of each intersection that is nearest to the origin, set by set."""
    n, dim = normals.shape
    sets = [list(s) for size in range(dim + 1) for s in combinations(range(n), size)]
    nearest = [np.linalg.lstsq(normals[s], -offsets[s], rcond=None)[0] if s else np.zeros(dim) for s in sets]
    return sum(np.linalg.norm(point) < radius for point in nearest)


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_ball_agrees_with_the_distances_of_all_intersections(dim, seed):
    rng = np.random.default_rng(seed)
    normals, offsets = rng.standard_normal((9, dim)), rng.standard_normal(9)
    for radius in (0.1, 0.5, 1, 3):
        assert count_in_ball(normals, offsets, radius) == by_distances(normals, offsets, radius)


def distance(polygon):
    """From the origin to a polygon with counter-clockwise corners."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    turn = polygon[:, 0] * edges[:, 1] - polygon[:, 1] * edges[:, 0]
    if (turn > 0).all():
        return 0
    along = np.clip(-(polygon * edges).sum(axis=1) / (edges**2).sum(axis=1), 0, 1)
    return np.linalg.norm(polygon + along[:, None] * edges, axis=1).min()


@pytest.mark.parametrize("seed", range(4))
def test_disc_agrees_with_the_polygons_that_meet_it(seed):
    rng = np.random.default_rng(seed)
    normals, offsets, centre = rng.standard_normal((25, 2)), rng.standard_normal(25), rng.standard_normal(2)
    partition = plane_partition(ReluNetwork([normals], [offsets]), ((-6, 6), (-6, 6)))
    distances = np.array([distance(polygon - centre) for polygon in partition.polygons])
    for radius in (0.05, 0.4, 1, 2):
        assert count_in_ball(normals, offsets + normals @ centre, radius) == (distances < radius).sum()


@pytest.mark.parametrize(("n", "dim"), [(12, 3), (9, 5), (4, 6), (30, 2)])
def test_balls_grow_from_one_region_to_all(n, dim):
    rng = np.random.default_rng(dim)
    normals, offsets = rng.standard_normal((n, dim)), rng.standard_normal(n)
    counts = [count_in_ball(normals, offsets, radius) for radius in (1e-9, 0.3, 1, 3, 1e9)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, max_regions(n, dim))
    rotation = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    assert count_in_ball(normals @ rotation, -7 * offsets / 7, 1) == counts[2]


def test_no_sample_of_a_ball_shows_more_patterns_than_counted():
    rng = np.random.default_rng(0)
    normals, offsets = rng.standard_normal((8, 3)), rng.standard_normal(8)
    points = rng.standard_normal((200_000, 3))
    points *= (rng.random((200_000, 1)) ** (1 / 3)) / np.linalg.norm(points, axis=1, keepdims=True)
    seen = len(np.unique(np.packbits(points @ normals.T + offsets > 0, axis=1)))
    count = count_in_ball(normals, offsets, 1)
    assert 0.9 * count < seen <= count


def test_the_ball_is_the_unit_of_length():
    rng = np.random.default_rng(1)
    normals, offsets = rng.standard_normal((10, 3)), rng.standard_normal(10)
    count = count_in_ball(normals, offsets, 1)
    for scale in (1e-200, 1e-9, 1e9, 1e200):
        assert count_in_ball(normals, scale * offsets, scale) == count
        assert count_in_ball(scale * normals, scale * offsets, 1) == count
    assert count_in_ball([[1e-300], [1]], [1e300, 0], 1) == 2


def test_parallel_hyperplanes_and_the_empty_set_are_in_general_position():
    assert count_in_ball([[1, 0], [2, 0], [0, 1], [0, 0]], [0.1, 0.3, 0.2, 1], 1) == 6
    assert count_in_ball(np.zeros((0, 3)), [], 1) == count_in_ball(np.zeros((2, 0)), [1, 2], 1) == 1


@pytest.mark.parametrize(
    ("normals", "offsets", "which"),
    [
        ([[1, 0], [0, 1], [1, 1]], [0, 0, 0], "0, 1, 2"),
        ([[1, 0], [0, 1], [0.1, 0.3]], [-0.1, -0.2, -0.07], "0, 1, 2"),
        ([[0, 0], [1, 0], [0, 1], [-3, 0]], [1, 0.3, 0, -0.9], "1, 3"),
        ([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]], [0, 0, 0, 0], "0, 1, 2"),
    ],
)
def test_hyperplanes_in_special_position_are_refused(normals, offsets, which):
    message = f"count_in_ball: hyperplanes {which} are not in general position, but a simple arrangement was expected"
    refuses(ValueError, message, count_in_ball, normals, offsets, 1)


@pytest.mark.parametrize("scale", [1e-200, 1, 1e200])
@pytest.mark.parametrize("gap", [1e-9, 1e-14, 1e-20])
def test_hyperplanes_that_are_nearly_parallel_meet(gap, scale):
    # The lines x = 0 and x + gap y + gap / 10 = 0 meet in y = -1/10.
    normals, offsets = scale * np.array([[1, 0], [1, gap]]), scale * np.array([0, gap / 10])
    assert count_in_ball(normals, offsets, 1) == 4
    assert count_in_ball(normals, offsets, 0.09) == 3
    assert count_in_ball(np.vstack([normals, [[0, 1]]]), [*offsets, 0.5], 1) == 7
    # Parallel, and as near.
    assert count_in_ball([[1, 0], [1, 0]], [0, gap], 1) == 3


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), dim=st.integers(2, 4))
def test_nearly_parallel_hyperplanes_in_a_large_ball_make_all_their_regions(seed, dim):
    rng = np.random.default_rng(seed)
    normals, offsets = rng.normal(size=(5, dim)), rng.normal(size=5)
    for i in (1, 2):
        normals[i] = normals[0] + 10.0 ** -rng.integers(3, 16) * rng.normal(size=dim)
    assert count_in_ball(normals, offsets, 1e60) == count_arrangement(normals, offsets)


def test_special_position_outside_the_ball_does_not_matter():
    normals, offsets = [[1, 0], [0, 1], [1, 2]], [-2, -2, -6]  # all through (2, 2)
    assert count_in_ball(normals, offsets, 1.9) == 1
    assert count_in_ball(normals, offsets, 2.1) == 3
    assert count_in_ball(normals, offsets, 2.7) == 4
    with pytest.raises(ValueError, match="hyperplanes 0, 1, 2 are not in general position"):
        count_in_ball(normals, offsets, 3)


def test_what_touches_the_sphere_is_refused():
    message = "count_in_ball: hyperplanes 1 meet on the sphere up to rounding, but another radius was expected"
    refuses(ValueError, message, count_in_ball, [[1, 0], [3, 4]], [0.3, 1], 0.2)
    message = "count_in_ball: hyperplanes 0, 1 meet on the sphere up to rounding, but another radius was expected"
    refuses(ValueError, message, count_in_ball, [[1, 0], [0, 1]], [0.3, 0.4], 0.5)


@pytest.mark.parametrize("radius", [0, -1.0, [1, 2]])
def test_a_radius_is_a_number_above_zero(radius):
    message = f"count_in_ball: radius is {radius}, but a number above 0 was expected"
    refuses(ValueError, message, count_in_ball, [[1]], [0], radius)


@pytest.mark.parametrize("limit", [1, 5, 300])
def test_more_regions_in_a_ball_than_the_limit_are_refused(limit):
    rng = np.random.default_rng(0)
    normals, offsets = rng.standard_normal((12, 5)), rng.standard_normal(12)
    count = max_regions(12, 5)
    assert count_in_ball(normals, offsets, 1e9, limit=count) == count
    message = "but more was expected: there are more regions"
    refuses(
        ValueError, f"count_in_ball: limit is {limit}, {message}", count_in_ball, normals, offsets, 1e9, limit=limit
    )
    refuses(
        ValueError,
        f"count_in_ball: limit is {count - 1}, {message}",
        count_in_ball,
        normals,
        offsets,
        1e9,
        limit=count - 1,
    )


def test_a_limit_on_regions_in_a_ball_is_a_number_of_them():
    refuses(ValueError, "count_in_ball: limit is 0, but at least 1 was expected", count_in_ball, [[1]], [0], 1, limit=0)
    message = "count_in_ball: limit is 2.0, but an integer was expected"
    refuses(TypeError, message, count_in_ball, [[1]], [0], 1, limit=2.0)


# expected_regions


def by_the_formula(n, dim, x):
    """The theorem as it is printed, with another beta function, and x = R^2 / (R^2 + s^2)."""
    return 1 + sum(comb(n, k) * betainc(k / 2, (dim - k + 1) / 2, x) for k in range(1, min(n, dim) + 1))


def with_digits(n, dim, radius, scale):
    """The same with 80 digits, each beta function by numerical integration or hypergeometric series of its own."""
    with mpmath.workdps(80):
        x = mpmath.mpf(radius) ** 2 / (mpmath.mpf(radius) ** 2 + mpmath.mpf(scale) ** 2)
        a = [mpmath.mpf(k) / 2 for k in range(dim + 2)]
        shares = [mpmath.betainc(a[k], a[dim - k + 1], 0, x, regularized=True) for k in range(1, min(n, dim) + 1)]
        return float(1 + mpmath.fsum(mpmath.binomial(n, k) * share for k, share in enumerate(shares, 1)))


# Neurons, dimension, radius, scale of the biases.
SETTINGS = [
    (30, 2, 0.2, 0.5 / 2**0.5),
    (30, 3, 0.2, 0.5 / 2**0.5),
    (12, 4, 0.2, 0.5 / 2**0.5),
    (10, 1, 1.0, 1.0),
    (10, 2, 1.0, 1.0),
    (10, 3, 1.0, 1.0),
    (8, 4, 1.0, 0.3),
    (6, 6, 1.0, 1.0),
    (4, 7, 0.7, 1.0),
    (40, 2, 0.05, 1.0),
    (7, 3, 30.0, 1.0),
    (9, 5, 0.5, 2.0),
    (1, 3, 0.4, 1.0),
]


def near(counts, expected):
    """Whether a mean of counts is as near to its expectation as five standard errors allow (one in two million)."""
    error = np.std(counts, ddof=1) / np.sqrt(len(counts))
    return abs(np.mean(counts) - expected) < 5 * error


@pytest.mark.parametrize(("n", "dim", "radius", "scale"), SETTINGS)
def test_random_layers_have_the_expected_regions_on_average(n, dim, radius, scale):
    rng = np.random.default_rng([n, dim])
    layers = [(rng.standard_normal((n, dim)), scale * rng.standard_normal(n)) for _ in range(300)]
    # The unit of the weights does not matter: only the ratio of the two scales does.
    counts = [count_in_ball(7 * normals, 7 * offsets, radius) for normals, offsets in layers]
    expected = expected_regions(n, dim, radius=radius, bias_scale=scale)
    assert near(counts, expected)
    assert not near(counts, 1.5 * expected)  # the interval is narrow enough to tell


def test_layers_of_a_network_on_a_slice_have_the_scale_of_their_fan_in():
    """Weights N(0, 2 / D), on axes of length sqrt(D) that are orthogonal: slopes N(0, 2), so s = bias / sqrt(2)."""
    rng, dim, bias = np.random.default_rng(0), 3, 0.5
    counts = []
    for _ in range(300):
        weights, biases = rng.normal(0, np.sqrt(2 / 64), (12, 64)), rng.normal(0, bias, 12)
        axes = np.sqrt(64) * np.linalg.qr(rng.standard_normal((64, dim)))[0]
        counts.append(count_in_ball(weights @ axes, biases, 0.5))
    assert near(counts, expected_regions(12, dim, radius=0.5, bias_scale=bias / np.sqrt(2)))


@pytest.mark.parametrize(("n", "dim", "relative"), [(12, 2, 0.3), (10, 3, 0.7), (8, 4, 1.5)])
def test_a_slice_through_a_point_sees_its_length_as_the_scale_of_the_biases(n, dim, relative):
    """Gates without biases, on p + V with V orthogonal to p."""
    rng, length = np.random.default_rng([n, dim]), 5.0
    weights = rng.standard_normal((300, n, dim + 1))
    counts = [count_in_ball(W[:, 1:], W[:, 0] * length, relative * length) for W in weights]
    assert near(counts, expected_regions(n, dim, radius=relative * length, bias_scale=length))
    assert expected_regions(n, dim, radius=relative * length, bias_scale=length) == pytest.approx(
        expected_regions(n, dim, radius=relative)
    )


@pytest.mark.parametrize(("n", "dim", "relative"), [(12, 2, 0.3), (10, 3, 0.7), (10, 4, 0.9)])
def test_a_ball_around_a_point_meets_as_many_cones_as_its_shadow_on_the_slice(n, dim, relative):
    """Gates without biases, in all of R^dim: there the values at the point are not independent of the weights."""
    rng, point = np.random.default_rng([n, dim]), np.arange(1.0, dim + 1)
    weights = rng.standard_normal((300, n, dim))
    counts = [count_in_ball(W, W @ point, relative * np.linalg.norm(point)) for W in weights]
    shadow = relative / np.sqrt(1 - relative**2)
    assert near(counts, expected_regions(n, dim - 1, radius=shadow))
    assert not near(counts, expected_regions(n, dim, radius=relative))


def test_values_that_were_computed_independently():
    """Of n = 30, s = 0.5 / sqrt(2) by another program; 3,000 layers gave 71.53 +- 0.46, 347.3 +- 3.6 and 1333 +- 31."""
    scale = 0.5 / np.sqrt(2)
    small = [expected_regions(30, dim, radius=0.2, bias_scale=scale) for dim in (2, 3, 4)]
    assert [f"{value:.4g}" for value in small] == ["72.15", "347.4", "1315"]
    whole = [expected_regions(30, dim, bias_scale=scale, radius=1) for dim in range(1, 7)]
    factors = [f"{after / before:.2f}" for before, after in pairwise(whole)]
    assert factors == ["13.03", "8.73", "6.48", "5.10", "4.17"]


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 200), st.integers(0, 60), st.floats(-6, 1))
def test_expectation_is_the_printed_formula(n, dim, log_radius):
    """In balls so small that 1 - x, of which float64 loses digits, is no smaller than 0.01."""
    radius = 10**log_radius
    expected = by_the_formula(n, dim, radius**2 / (radius**2 + 1))
    assert expected_regions(n, dim, radius=radius) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize(
    ("n", "dim", "radius", "scale"),
    [*SETTINGS, (1000, 60, 0.3, 1), (100, 20, 1e-3, 1), (100, 21, 1e3, 1), (20, 40, 0.01, 3), (10**6, 31, 1e-5, 1)],
)
def test_expectation_is_right_to_the_last_digit(n, dim, radius, scale):
    assert expected_regions(n, dim, radius=radius, bias_scale=scale) == with_digits(n, dim, radius, scale)


@pytest.mark.parametrize("dim", [1, 2, 30, 59, 60, 61, 301])
@pytest.mark.parametrize("far", [1e-30, 0.01, 0.099, 0.2, 0.499, 0.501, 0.9, 1 - 1e-12])
def test_shares_of_flats_add_up(dim, far):
    """The share of k = 0 is 1 (every ball meets the space), whichever series the sum begins with."""
    with localcontext(Context(prec=60)):
        shares = _shares_met(dim, 1.0, np.sqrt(far / (1 - far)))
        assert len(shares) == dim + 1
        assert abs(shares[0] - 1) < Decimal("1e-45")
        assert all(after < share + Decimal("1e-55") for share, after in pairwise(shares))


@pytest.mark.parametrize(("n", "dim"), [(30, 4), (3, 9), (50, 1), (7, 7), (0, 3), (5, 0), (200, 30)])
def test_a_large_ball_holds_what_general_position_allows(n, dim):
    ceiling = float(max_regions(n, dim))
    assert expected_regions(n, dim) == expected_regions(n, dim, radius=float("inf"), bias_scale=3) == ceiling
    assert expected_regions(n, dim, radius=1e30) == pytest.approx(ceiling, rel=1e-12)
    assert expected_regions(n, dim, radius=1e-30) == 1
    assert expected_regions(n, dim, radius=np.float32("inf")) == ceiling


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("radius", [0.1, 1, 4])
def test_many_neurons_approach_the_leading_term(dim, radius):
    leading = betainc(dim / 2, 0.5, radius**2 / (radius**2 + 1)) / factorial(dim)
    gaps = [abs(expected_regions(n, dim, radius=radius) / n**dim / leading - 1) for n in (10**4, 10**6, 10**8)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-5


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 300), st.integers(0, 40), st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), st.floats(1, 10))
def test_more_neurons_dimensions_and_room_make_more_regions(n, dim, radius, scale, factor):
    value = expected_regions(n, dim, radius=radius, bias_scale=scale)
    assert 1 <= value <= expected_regions(n + 1, dim, radius=radius, bias_scale=scale)
    assert value <= expected_regions(n, dim + 1, radius=radius, bias_scale=scale) <= float(max_regions(n, dim + 1))
    assert value <= expected_regions(n, dim, radius=factor * radius, bias_scale=scale)
    assert value >= expected_regions(n, dim, radius=radius, bias_scale=factor * scale)


@pytest.mark.parametrize(("n", "dim"), [(9, 4), (5, 1), (1, 1), (0, 3), (4, 0), (3, 8), (12, 2)])
def test_without_biases_every_ball_holds_all_cones(n, dim):
    weights = np.random.default_rng(0).standard_normal((n, dim))
    regions = count_arrangement(weights, np.zeros(n)) if dim else 1
    for radius in (1e-9, 1, np.inf):
        assert expected_regions(n, dim, radius=radius, bias_scale=0) == regions
    # The limit is another number, as soon as there are more hyperplanes than dimensions.
    limit = expected_regions(n, dim, radius=1, bias_scale=1e-200)
    assert limit == max_regions(n, dim)
    assert (limit > regions) == (n > dim > 0)


def test_numbers_beyond_floats_are_infinite_and_no_others():
    assert expected_regions(10**6, 1000) == expected_regions(10**6, 1000, radius=1e-3) == np.inf
    assert expected_regions(5000, 2000, bias_scale=0) == np.inf
    # C(10^6, 1000) is far beyond float64; the sum is not.
    n, x = 10**6, 3e-5**2 / (1 + 3e-5**2)
    value = expected_regions(n, 1000, radius=3e-5)
    with mpmath.workdps(50):
        few = [
            mpmath.binomial(n, k) * mpmath.betainc(mpmath.mpf(k) / 2, mpmath.mpf(1001 - k) / 2, 0, x, regularized=True)
            for k in range(1, 200)
        ]
        assert value == pytest.approx(float(1 + mpmath.fsum(few)), rel=1e-9)
    assert expected_regions(10**400, 1, radius=1e-300) == pytest.approx(2 / np.pi * 1e100, rel=1e-12)
    assert expected_regions(20, 10**12) == 2**20
    assert expected_regions(10**12, 10**12) == np.inf
    assert expected_regions(5, 3, radius=5e-324, bias_scale=1e308) == 1
    assert expected_regions(5, 3, radius=1e308, bias_scale=5e-324) == max_regions(5, 3)
    assert expected_regions(1023, 1023) == 2.0**1023
    assert expected_regions(1024, 1024) == np.inf


def test_expectation_of_more_dimensions_than_neurons():
    # Every neuron cuts the ball with the same probability; two also meet in it, or not.
    one = 1 + betainc(0.5, 500, 0.5)
    assert expected_regions(1, 1000, radius=1) == pytest.approx(one)
    assert 1 < expected_regions(2, 1000, radius=1e-3) < 4
    assert expected_regions(3, 10**5, radius=1) == pytest.approx(8, rel=1e-12)


def test_the_settings_of_decimals_around_it_do_not_matter():
    value = expected_regions(30, 5, radius=0.3)
    with localcontext(Context(prec=3, traps=[Inexact])):
        assert expected_regions(30, 5, radius=0.3) == value
        assert getcontext().prec == 3


def test_what_has_no_expectation_is_refused():
    expected = "but an integer was expected"
    for value in NO_INTEGERS:
        refuses(TypeError, f"expected_regions: n_neurons is {value!r}, {expected}", expected_regions, value, 2)
        refuses(TypeError, f"expected_regions: dim is {value!r}, {expected}", expected_regions, 3, value)
    refuses(ValueError, "expected_regions: n_neurons is -1, but at least 0 was expected", expected_regions, -1, 2)
    refuses(ValueError, "expected_regions: dim is -2, but at least 0 was expected", expected_regions, 3, -2)
    for value in (0, -1.0, True, -np.inf, np.nan, [1, 2]):
        with pytest.raises(ValueError, match=r"^expected_regions: radius (is|holds) .*expected$"):
            expected_regions(3, 2, radius=value)
    for value in (-1.0, False, np.inf, np.nan, [0, 1]):
        with pytest.raises(ValueError, match=r"^expected_regions: bias_scale (is|holds) .*expected$"):
            expected_regions(3, 2, bias_scale=value)
    for value in ("1", None, 1j):
        with pytest.raises(TypeError, match=r"^expected_regions: radius is .*expected$"):
            expected_regions(3, 2, radius=value)
        with pytest.raises(TypeError, match=r"^expected_regions: bias_scale is .*expected$"):
            expected_regions(3, 2, bias_scale=value)
    message = "expected_regions: dim is 1000001, but at most 1000000 was expected in a ball"
    refuses(ValueError, message, expected_regions, 3, 10**6 + 1, radius=1)


# region_bound


def by_enumeration(widths, dim):
    """Theorem 1 as it is printed."""
    total = 0
    for j in product(*(range(n + 1) for n in widths)):
        before = [n - k for n, k in zip(widths, j, strict=True)]
        if all(j[k] <= min([dim, *before[:k], n]) for k, n in enumerate(widths)):
            total += prod(comb(n, k) for n, k in zip(widths, j, strict=True))
    return total


@pytest.mark.parametrize("dim", range(7))
@pytest.mark.parametrize("widths", [[3], [2, 5], [5, 2], [4, 4, 4], [1, 6, 3], [6, 1, 6], [3, 2, 3, 2], [2, 0, 3]])
def test_bound_is_the_printed_sum(widths, dim):
    assert region_bound(widths, dim) == by_enumeration(widths, dim)


@pytest.mark.parametrize(("n", "dim"), [(0, 3), (7, 0), (7, 3), (7, 7), (7, 90), (300, 40)])
def test_one_layer_is_bounded_by_its_maximum(n, dim):
    assert region_bound([n], dim) == max_regions(n, dim)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 50), st.data())
def test_bound_grows_with_every_width_and_with_the_dimension(widths, dim, data):
    bound = region_bound(widths, dim)
    assert bound <= region_bound(widths, dim + 1) <= 2 ** sum(widths)
    layer = data.draw(st.integers(0, len(widths) - 1))
    wider = [n + (k == layer) for k, n in enumerate(widths)]
    assert bound <= region_bound(wider, dim)
    assert bound <= region_bound([*widths, 1], dim)
    assert region_bound(widths, 0) == 1


@pytest.mark.parametrize("widths", [[8, 8], [4, 4, 4], [3, 9, 2], [1, 8], [16]])
@pytest.mark.parametrize("seed", range(3))
def test_networks_stay_below_the_bound(widths, seed):
    rng = np.random.default_rng(seed)
    fan_in = [2, *widths[:-1]]
    weights = [rng.standard_normal(shape) for shape in zip(widths, fan_in, strict=True)]
    network = ReluNetwork(weights, [rng.standard_normal(n) for n in widths])
    assert plane_partition(network, ((-50, 50), (-50, 50))).n_regions <= region_bound(widths, 2)


def test_bound_is_exact_at_any_size():
    assert region_bound([400], 400) == 2**400
    assert region_bound([1000] * 10, 1) == 1001**10
    bound = region_bound(np.array([1000] * 10), np.int64(1000))
    assert type(bound) is int
    assert 2**9000 < bound < 2**10000
    assert region_bound([10, 10], 10**12) == region_bound([10, 10], 10)


def test_bound_refuses_what_is_no_width():
    for value in NO_INTEGERS:
        refuses(TypeError, f"region_bound: dim is {value!r}, but an integer was expected", region_bound, [3], value)
        refuses(
            TypeError, f"region_bound: widths[1] is {value!r}, but an integer was expected", region_bound, [3, value], 2
        )
    refuses(TypeError, "region_bound: widths is 3, but a sequence was expected", region_bound, 3, 2)
    refuses(
        ValueError, "region_bound: widths is empty, but at least one hidden layer was expected", region_bound, [], 2
    )
    refuses(ValueError, "region_bound: widths[0] is -1, but at least 0 was expected", region_bound, [-1], 2)
    refuses(ValueError, "region_bound: dim is -1, but at least 0 was expected", region_bound, [1], -1)


@pytest.mark.parametrize("count", [count_arrangement, lambda *given: count_in_ball(*given, 1)])
def test_masked_entries_are_refused(count):
    with pytest.raises(TypeError, match=r": normals is masked_array.*but an array of real numbers without masked"):
        count(np.ma.array([[1, 0], [0, 1]], mask=[[0, 1], [0, 0]]), [0, 0])
    with pytest.raises(TypeError, match=r": offsets is masked_array.*but an array of real numbers without masked"):
        count([[1, 0], [0, 1]], np.ma.array([0, 1], mask=[True, False]))


def test_effective_regions_are_those_of_the_volumes():
    """Two lines cut a square into rectangles, whose areas are known."""
    points = np.random.default_rng(0).random((20_000, 2))
    areas = np.outer([0.3, 0.7], [0.1, 0.9])
    assert effective_regions(points - [0.3, 0.1]) == pytest.approx(1 / (areas**2).sum(), rel=0.02)
    grid = np.repeat(points, 9, axis=1) - np.tile(np.arange(1, 10) / 10, 2)  # a grid of equal squares
    assert effective_regions(grid) == pytest.approx(100, rel=0.05)


def test_effective_regions_are_pairs_over_pairs_that_share_a_pattern():
    values = np.random.default_rng(1).standard_normal((40, 3))
    together = sum((one > 0).tolist() == (other > 0).tolist() for one in values for other in values) - 40
    assert effective_regions(values) == pytest.approx(40 * 39 / together)
    assert effective_regions(np.eye(5) - 0.5) == np.inf
    assert effective_regions(np.zeros((4, 2))) == 1
    assert effective_regions(np.empty((4, 0))) == 1
    # A ninth hyperplane counts too: patterns are packed by eights.
    assert effective_regions(np.tile(np.eye(2) - 0.5, 5)[:, [0] * 8 + [1]]) == np.inf
    assert effective_regions([[1] * 8 + [1], [1] * 8 + [-1]]) == np.inf


def test_what_is_no_set_of_points_has_no_effective_regions():
    with pytest.raises(ValueError, match=r"^effective_regions: values has shape \(1, 2\), but \[n > 1, hyperplanes\]"):
        effective_regions([[1, 2]])
    with pytest.raises(ValueError, match=r"^effective_regions: values has shape \(2,\), but"):
        effective_regions([1, 2])
    with pytest.raises(
        ValueError, match=r"^effective_regions: values holds nan at \(1, 0\), but finite numbers were expected$"
    ):
        effective_regions([[1.0], [np.nan]])


@pytest.mark.parametrize("size", [1, 1e-300, 1e-310, 1e300, 1.7e308])
def test_lengths_of_any_size_are_counted(size):
    normals, offsets = np.array([[1.0, 0], [0, 1], [1, 1]]), np.array([0, 0, 1 / 3])
    assert count_in_ball(normals, offsets * size, size) == 7
    assert count_in_ball(normals * size, offsets * size, 1.0) == 7


def test_widths_beyond_64_bits_have_an_expected_count():
    assert expected_regions(2**63, 2**63) == np.inf
    assert expected_regions(2**63, 1) == pytest.approx(2.0**63)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: max_regions(-(10**5000), 2), ValueError, "max_regions: n_hyperplanes is too long a value of type int"),
        (lambda: expected_regions(2, 10**5000, radius=1.0), ValueError, "expected_regions: dim is too long a value"),
        (
            lambda: max_regions(np.timedelta64(2), 2),
            TypeError,
            r"max_regions: n_hyperplanes is np.timedelta64\(2\), but",
        ),
        (lambda: count_arrangement([[np.timedelta64(1), 2]], [0]), TypeError, "count_arrangement: normals is"),
        (lambda: count_arrangement(np.ones((1, 2), "m8[s]"), [0]), TypeError, "count_arrangement: normals is"),
        (lambda: count_in_ball([[1, 2]], [0], np.timedelta64(1)), TypeError, "count_in_ball: radius is"),
        (
            lambda: count_in_ball([[2**53 + 1, 2]], [0], 1),
            ValueError,
            "count_in_ball: normals holds 9007199254740993, b",
        ),
    ],
)
def test_numbers_that_are_none_or_that_float64_rounds_are_named(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()
