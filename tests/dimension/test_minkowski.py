"""Theorem 2.1: dimensions known in closed form, a naive rank over all pairs, and rows that lie where they should."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geolib.dimension import (
    AttentionHeads,
    attention_heads,
    eps_support,
    minkowski_check,
    minkowski_dimension,
    token_dimension,
)
from geolib.dimension.rows import count_weights


def generic(heads, tokens, head_dim, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((heads, tokens, head_dim)), rng.standard_normal((heads, head_dim, width))


def full(values):
    return np.ones(np.shape(values)[:2], bool)


def naive_rank(values, out_proj, support, sink=False):
    """Rank of every difference of every head, stacked: the definition."""
    rows = []
    for value, projection, attended in zip(values, out_proj, support, strict=True):
        points = list(value[attended] @ projection) + [np.zeros(projection.shape[1])] * bool(sink)
        rows += [a - b for a, b in combinations(points, 2)]
    return np.linalg.matrix_rank(rows, rtol=1e-9) if rows else 0


# Closed forms


@pytest.mark.parametrize(
    ("heads", "tokens", "head_dim", "width", "rank", "saturation"),
    [
        (2, 3, 4, 20, 4, 5),  # two triangles
        (3, 1, 4, 20, 0, 5),  # a single token
        (3, 9, 4, 20, 12, 5),  # more tokens than a head has dimensions
        (3, 9, 4, 7, 7, 4),  # a width smaller than the sum: 3 heads of dimension 3 fill it
        (2, 2, 1, 5, 2, 2),
        (2, 4, 6, 3, 3, 3),
        (1, 5, 3, 2, 2, 3),  # a projection of rank 2
    ],
)
def test_generic_values_attain_the_bound(heads, tokens, head_dim, width, rank, saturation):
    values, out_proj = generic(heads, tokens, head_dim, width)
    measured = minkowski_dimension(values, out_proj, full(values))
    assert measured.rank == measured.bound == rank
    assert measured.paper_bound == heads * tokens
    assert measured.saturation == saturation
    np.testing.assert_array_equal(measured.per_head, [min(tokens - 1, head_dim, width)] * heads)
    dropped, kept = measured.margin[1], measured.margin[0]
    assert dropped < 1e-14 < 1e-5 < kept


def test_saturation_is_where_the_bound_stops_growing():
    values, out_proj = generic(3, 12, 5, 13)
    out_proj[0, 2:] = 0  # heads of unequal rank: 2, 5, 5
    for sink in (False, True):
        bounds = [
            minkowski_dimension(values, out_proj, np.arange(12) < i * np.ones((3, 1)), sink=sink).bound
            for i in range(1, 13)
        ]
        measured = minkowski_dimension(values, out_proj, full(values), sink=sink)
        assert measured.saturation == 1 + bounds.index(bounds[-1])
        assert bounds[-1] == 12


def test_identical_tokens_collapse():
    values, out_proj = generic(3, 1, 4, 20)
    measured = minkowski_dimension(np.repeat(values, 7, axis=1), out_proj, np.ones((3, 7), bool))
    assert (measured.rank, measured.bound, measured.paper_bound) == (0, 12, 21)


@pytest.mark.parametrize("token", [14, 17872])
def test_one_token_again_and_again_is_one_point(token, model):
    """In the last layer rounding has moved equal states farthest: this was rank 6 and 9."""
    for heads in attention_heads(model, [token] * 200, layer=[0, -2, -1]):
        assert token_dimension(heads).rank == 0


def test_repeated_tokens_count_once():
    values, out_proj = generic(2, 3, 4, 20)
    repeated = values[:, [0, 1, 0, 2, 1, 1]]
    assert minkowski_dimension(repeated, out_proj, full(repeated)).rank == 4


def test_planes_that_share_a_direction():
    """Two heads, each mixing the corners of a triangle: in general 4 dimensions, here 3."""
    triangle = np.array([[0.0, 0], [1, 0], [0, 1]])
    e = np.eye(5)
    shared = minkowski_dimension([triangle, triangle], [e[[0, 1]], e[[1, 2]]], np.ones((2, 3), bool))
    apart = minkowski_dimension([triangle, triangle], [e[[0, 1]], e[[2, 3]]], np.ones((2, 3), bool))
    assert (shared.rank, shared.bound) == (3, 4)
    assert (apart.rank, apart.bound) == (4, 4)
    np.testing.assert_array_equal(shared.per_head, [2, 2])


def test_shared_values_do_not_lower_the_rank():
    """Grouped key-value heads: one set of values, a projection for each head."""
    values, out_proj = generic(6, 5, 4, 24)
    shared = np.repeat(values[:2], 3, axis=0)
    assert minkowski_dimension(shared, out_proj, full(shared)).rank == 6 * 4


def test_an_injective_output_projection_adds_the_dimensions_of_the_heads():
    values, _ = generic(4, 6, 3, 12)
    values[1, 2:] = values[1, :1]  # two points
    values[2] = values[2, :1]  # one
    values[3, :, 2] = 0  # a plane
    out_proj = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0].reshape(4, 3, 12)
    measured = minkowski_dimension(values, out_proj, full(values))
    np.testing.assert_array_equal(measured.per_head, [3, 1, 0, 2])
    assert measured.rank == 6


def test_a_sink_adds_the_vertex_0():
    values, out_proj = generic(2, 3, 6, 20)
    with_sink = minkowski_dimension(values, out_proj, full(values), sink=True)
    assert (with_sink.rank, with_sink.bound, with_sink.paper_bound, with_sink.saturation) == (6, 6, 6, 6)
    assert minkowski_dimension(values, out_proj, full(values)).rank == 4
    one = minkowski_dimension(values[:, :1], out_proj, full(values[:, :1]), sink=True)
    assert one.rank == 2


def test_a_bias_moves_the_set_but_not_the_vertex_of_a_sink():
    """Values 0 and e1 span a line through 0, which a bias e2 moves away from 0: with that vertex it is a triangle."""
    line, eye = np.array([[0.0, 0, 0], [1, 0, 0]]), np.eye(3)

    def rank(points, sink):
        return minkowski_dimension([points], [eye], np.ones((1, 2), bool), sink=sink).rank

    assert (rank(line, False), rank(line + eye[1], False)) == (1, 1)
    assert (rank(line, True), rank(line + eye[1], True)) == (1, 2)


def test_a_gain_of_zero_costs_at_most_one():
    points, eye = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.eye(3)
    gains = (1, 1, 1), (1, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1)
    found = [minkowski_dimension([points], [eye * gain], np.ones((1, 3), bool)).rank for gain in gains]
    assert found == [2, 2, 1, 1, 0]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4), head_dim=st.integers(1, 4), extra=st.integers(0, 9),
    shared=st.booleans(), seed=st.integers(0, 999),
)  # fmt: skip
def test_almost_all_values_and_projections_attain_the_bound(sizes, head_dim, extra, shared, seed):
    """Part 3 of the theorem: any supports, values of one projection of the same tokens, or one for each head."""
    rng, n_heads, width = np.random.default_rng(seed), len(sizes), head_dim + extra
    tokens, out_proj = rng.standard_normal((6, width)), rng.standard_normal((n_heads, head_dim, width))
    value_proj = rng.standard_normal((1 if shared else n_heads, width, head_dim))
    values = np.broadcast_to(tokens @ value_proj, (n_heads, 6, head_dim))
    support = np.array([rng.permutation(6) < size for size in sizes])
    measured = minkowski_dimension(values, out_proj, support)
    assert measured.rank == min(width, sum(min(size - 1, head_dim) for size in sizes)) == measured.bound


def test_the_rank_of_the_stacked_projections_bounds_the_sum():
    """Heads that write into one plane: the bound by the width, 6, is not attained, the rank of the stack is."""
    values, _ = generic(3, 5, 2, 6)
    out_proj = np.tile(np.eye(2, 6), (3, 1, 1)) * np.arange(1, 4)[:, None, None]
    measured = minkowski_dimension(values, out_proj, full(values))
    assert (measured.rank, measured.bound, np.linalg.matrix_rank(out_proj.reshape(6, 6))) == (2, 6, 2)


def test_a_union_keeps_the_largest_dimension_and_not_the_hull():
    """Two crossing lines are one-dimensional and span a plane; so do three points, of dimension 0."""
    from geolib.dimension import estimate_dimension

    t = np.random.default_rng(0).standard_normal(400)
    cross = np.vstack([np.outer(t, [1, 2, 0]), np.outer(t + 0.01, [0, 1, 1])])
    assert np.linalg.matrix_rank(cross - cross.mean(axis=0)) == 2
    assert estimate_dimension(cross, n_boot=0).value == pytest.approx(1, abs=0.15)


def test_a_head_that_was_cut_away_adds_nothing():
    values, out_proj = generic(3, 4, 5, 20)
    support = full(values)
    support[1] = False
    measured = minkowski_dimension(values, out_proj, support)
    assert (measured.rank, measured.bound, measured.paper_bound) == (6, 6, 8)
    np.testing.assert_array_equal(measured.per_head, [3, 0, 3])


def test_heads_of_very_different_scale():
    values, out_proj = generic(3, 5, 6, 20)
    values[1] *= 1e-14
    out_proj[2] *= 1e14
    assert minkowski_dimension(values, out_proj, full(values)).rank == 12


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [1e7, 1e-7, 1e30, 1e-30])
@pytest.mark.parametrize("scaled", [[0], [5], [1, 4], [0, 2, 3]])
def test_a_long_token_hides_no_short_ones(scaled, factor, dtype):
    """Six points in general position span five dimensions, however long some are; with one of them twice, four."""
    values, out_proj = generic(1, 6, 8, 20)
    values[0, scaled] *= factor
    assert minkowski_dimension(values.astype(dtype), out_proj.astype(dtype), full(values)).rank == 5
    assert minkowski_dimension(values.astype(dtype), out_proj.astype(dtype), full(values), sink=True).rank == 6
    values[0, (scaled[0] + 1) % 6] = values[0, scaled[0]]
    measured = minkowski_dimension(values.astype(dtype), out_proj.astype(dtype), full(values))
    assert measured.rank == 4
    assert measured.margin[0] > 0.01


def test_what_float32_cannot_tell_apart_is_the_same():
    """A large common offset: differences of 1e-8 of it are rounding in float32, and real in float64."""
    values, out_proj = generic(2, 4, 5, 20)
    values = 1 + 1e-8 * values
    assert minkowski_dimension(values, out_proj, full(values)).rank == 6
    assert minkowski_dimension(values.astype(np.float32), out_proj, full(values)).rank == 0
    assert minkowski_dimension(values, out_proj, full(values), rtol=1e-6).rank == 0


def test_zero_values_and_zero_projections():
    values, out_proj = generic(2, 4, 3, 9)
    assert minkowski_dimension(0 * values, out_proj, full(values)).rank == 0
    nothing = minkowski_dimension(values, 0 * out_proj, full(values))
    assert (nothing.rank, nothing.bound, nothing.saturation) == (0, 0, 1)


# Against the definition, and what must not matter


@st.composite
def layers(draw):
    """Small layers of integers: repeated tokens, shared directions and cut heads are common."""
    heads, tokens, head_dim, width = (draw(st.integers(1, top)) for top in (3, 6, 3, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.integers(-2, 3, (heads, tokens, head_dim)).astype(float)
    out_proj = rng.integers(-1, 2, (heads, head_dim, width)) * (rng.random((heads, head_dim, width)) < 0.4) * 1.0
    support = rng.random((heads, tokens)) < 0.8
    support[0, 0] = True
    return values, out_proj, support, draw(st.booleans())


@settings(max_examples=150, deadline=None)
@given(layers())
def test_equals_the_rank_of_all_differences(layer):
    *arrays, sink = layer
    measured = minkowski_dimension(*arrays, sink=sink)
    assert measured.rank == naive_rank(*arrays, sink=sink)
    assert measured.rank <= measured.bound <= measured.paper_bound
    assert measured.per_head.max() <= measured.rank <= measured.per_head.sum()


@settings(max_examples=60, deadline=None)
@given(layers(), st.integers(0, 2**32))
def test_invariances(layer, seed):
    values, out_proj, support, _ = layer
    rng = np.random.default_rng(seed)
    tokens, heads = rng.permutation(values.shape[1]), rng.permutation(len(values))
    scale = 10 ** rng.uniform(-8, 8, (len(values), 1, 1))
    turned = np.linalg.qr(rng.standard_normal((out_proj.shape[2],) * 2))[0]
    same = [
        (values[:, tokens], out_proj, support[:, tokens]),
        (values[heads], out_proj[heads], support[heads]),
        (values + rng.standard_normal((len(values), 1, values.shape[2])), out_proj, support),
        (scale * values, out_proj / scale**1.5, support),
        (values, out_proj @ turned, support),
    ]
    expected = minkowski_dimension(values, out_proj, support)
    for arrays in same:
        measured = minkowski_dimension(*arrays)
        assert (measured.rank, measured.bound) == (expected.rank, expected.bound)
        assert (measured.paper_bound, measured.saturation) == (expected.paper_bound, expected.saturation)


@settings(max_examples=30, deadline=None)
@given(layers())
def test_a_larger_support_never_lowers_the_rank(layer):
    values, out_proj, support, sink = layer
    more = support | (np.arange(values.shape[1]) == values.shape[1] - 1)
    assert (
        minkowski_dimension(values, out_proj, support, sink=sink).rank
        <= minkowski_dimension(values, out_proj, more, sink=sink).rank
    )


# The theorem on a real layer


@pytest.fixture
def ids(tokenizer):
    text = "A bakery sold 96 rolls on Monday, half as many on Tuesday, and 12 pies. " * 4
    return tokenizer(text, return_tensors="pt").input_ids


def test_rows_of_a_real_layer_lie_in_their_minkowski_sum(model, ids):
    for heads in attention_heads(model, ids, layer=[0, 15, -1]):
        check = minkowski_check(heads, eps=0.1)
        assert check.residual.max() < 3e-6  # float32
        assert check.smallest_weight >= 0
        np.testing.assert_allclose(check.weight_sum, 1, atol=1e-5)
        # The same, the theorem's way: the row less one vertex of each hull is spanned by the hulls' differences.
        token = 30
        support = heads.weights[:, token] > 0
        points = heads.values.astype(float) @ heads.out_proj.astype(float)  # [heads, tokens, width]
        edges = np.concatenate([p[s][1:] - p[s][0] for p, s in zip(points, support, strict=True)])
        offset = heads.output[token] - heads.bias - points[:, 0].sum(axis=0)
        left = offset - edges.T @ np.linalg.lstsq(edges.T, offset, rcond=1e-9)[0]
        assert len(edges) < 576
        assert np.linalg.norm(left) < 3e-6 * np.linalg.norm(heads.output[token])


def test_the_sharp_bound_of_a_real_layer_saturates_at_65_tokens(model, ids):
    heads = attention_heads(model, ids, layer=14)
    measured = {token: token_dimension(heads, token) for token in (0, 1, 40, 63, 64, -1)}
    assert {one.saturation for one in measured.values()} == {65}
    for token, expected in ((0, 0), (1, 9), (40, 360), (63, 567), (64, 576), (-1, 576)):
        assert measured[token].bound == expected
        assert measured[token].rank <= expected
    assert [measured[token].paper_bound for token in (0, 40, 63)] == [9, 369, 576]
    assert measured[1].rank == 9


def test_identical_tokens_of_the_first_layer_collapse(model):
    """Rotary positions turn queries and keys, not values: at layer 0 equal tokens are equal points."""
    measured = [token_dimension(heads) for heads in attention_heads(model, [504] * 20, layer=[0, 1])]
    assert [one.paper_bound for one in measured] == [180, 180]
    assert measured[0].rank == 0
    varied = token_dimension(attention_heads(model, [504, 260, 504, 260, 28, 504], layer=0))
    assert (varied.rank, varied.bound) == (9 * 2, 9 * 5)


# The cut


def toy(sinks=False):
    """Two heads of three tokens, in a plane, with weights that can be cut by hand."""
    weights = np.array([[[1, 0, 0], [0.5, 0.5, 0], [0.8, 0.15, 0.05]], [[1, 0, 0], [0.95, 0.05, 0], [0.2, 0.3, 0.5]]])
    values = np.array([[[0.0, 0], [4, 0], [0, 4]], [[1.0, 1], [3, 1], [1, 5]]])
    out_proj = np.stack([np.eye(2), 2 * np.eye(2)])
    weights *= 0.5 if sinks else 1
    bias = np.array([0.5, 0.0])
    output = np.einsum("hij,hjk,hkd->id", weights, values, out_proj) + bias
    return AttentionHeads(weights, values, out_proj, bias, output, sinks, 0)


def test_cut_by_hand():
    check = minkowski_check(toy(), eps=[0.1, 0.01])
    np.testing.assert_allclose(check.residual, 0, atol=1e-15)
    np.testing.assert_array_equal(check.edges[0], [[1, 2, 2], [1, 1, 3]])
    np.testing.assert_array_equal(check.edges[1], [[1, 2, 3], [1, 2, 3]])
    np.testing.assert_allclose(check.cut_residual[1], 0, atol=1e-15)
    # Token 1, head 1: 0.05 of 2 (3, 1) goes over to 2 (1, 1), a move of 0.2; the row is (2, 0) + (2.2, 2) + (0.5, 0).
    # Token 2, head 0: of the weights 0.8 and 0.15 remain, over 0.95, where 0.05 of (0, 4) was.
    first = np.array([0.15 / 0.95 * 4, 0]) - np.array([0.15 * 4, 0.05 * 4])
    second = np.array([0.6, 0.2]) + 2 * np.array([0.2 + 0.9 + 0.5, 0.2 + 0.3 + 2.5]) + [0.5, 0]
    moved = [0, 0.2 / np.hypot(4.7, 2), np.linalg.norm(first) / np.linalg.norm(second)]
    np.testing.assert_allclose(check.cut_residual[0], moved)
    # As they are: 0.05 of 2 (3, 1) is gone from token 1, and 0.05 of (0, 4) from token 2.
    kept = minkowski_check(toy(), eps=[0.1, 0.01], rescale=False)
    np.testing.assert_allclose(
        kept.cut_residual[0], [0, np.hypot(0.3, 0.1) / np.hypot(4.7, 2), 0.2 / np.linalg.norm(second)]
    )
    np.testing.assert_allclose(kept.cut_residual[1], 0, atol=1e-15)
    np.testing.assert_array_equal(kept.edges, check.edges)


def test_a_single_eps_has_no_axis_and_a_head_that_keeps_nothing_adds_0():
    check = minkowski_check(toy(), eps=0.5)
    assert check.edges.shape == (2, 3)
    assert check.cut_residual.shape == (3,)
    np.testing.assert_array_equal(check.edges, [[1, 0, 1], [1, 1, 0]])
    heads = toy()
    row = heads.output[1]
    # Token 1: head 0 is gone, with (2, 0); head 1 moves by 0.2 to 2 (1, 1).
    np.testing.assert_allclose(check.cut_residual[1], 2.2 / np.linalg.norm(row))


def test_relative_rule_goes_by_the_rows_own_largest_weight():
    np.testing.assert_array_equal(minkowski_check(toy(), eps=0.99, rule="relative").edges, [[1, 2, 1], [1, 1, 1]])
    np.testing.assert_array_equal(minkowski_check(toy(), eps=0.5, rule="relative").edges, [[1, 2, 1], [1, 1, 2]])


def test_cut_rows_keep_the_weight_that_a_sink_left():
    plain, sunk = minkowski_check(toy(), eps=0.1, rule="relative"), minkowski_check(toy(True), eps=0.1, rule="relative")
    np.testing.assert_allclose(sunk.weight_sum, 0.5)
    np.testing.assert_array_equal(plain.edges, sunk.edges)
    np.testing.assert_allclose(sunk.residual, 0, atol=1e-15)
    size = np.linalg.norm(toy().output, axis=1) / np.linalg.norm(toy(True).output, axis=1)
    np.testing.assert_allclose(sunk.cut_residual, plain.cut_residual * 0.5 * size)


def test_a_layer_that_is_switched_off_moves_by_nothing():
    heads = toy()
    off = AttentionHeads(heads.weights, heads.values, 0 * heads.out_proj, 0 * heads.bias, 0 * heads.output, False, 0)
    check = minkowski_check(off)
    np.testing.assert_array_equal(check.residual, 0)
    np.testing.assert_array_equal(check.cut_residual, 0)


def test_eps_support_compares_in_the_weights_own_type():
    tenth = torch.full((10,), 0.1).numpy()
    assert not eps_support(tenth, 0.1).any()
    assert eps_support(tenth, 0.0999).all()
    assert eps_support(tenth, 0.1, "relative").all()


@pytest.mark.parametrize("rule", ["absolute", "relative"])
def test_eps_support_is_what_attention_dimension_counts(rule):
    """Two homes of one rule, one in NumPy and one in torch: they agree, ties included."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.cat([torch.randn(50, 10, generator=generator), torch.zeros(1, 10)])  # a row of ties at 1 / 10
    weights, eps = scores.softmax(-1), [0.5, 0.1, 0.05]
    sizes = [eps_support(weights.numpy(), one, rule).sum(axis=-1) for one in eps]
    np.testing.assert_array_equal(sizes, count_weights(weights, eps, [rule])[0])


def test_eps_support_takes_whole_numbers_for_what_they_are():
    np.testing.assert_array_equal(eps_support([True, False], 0.1), [True, False])
    np.testing.assert_array_equal(eps_support([4, 1, 2], 0.5, "relative"), [True, False, False])


# Bad input


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"values": np.zeros((2, 3))},
            ValueError,
            r"values, .* have shapes \(2, 3\), .* but \[heads, tokens, head_dim\]",
        ),
        ({"values": np.zeros((2, 0, 4))}, ValueError, r"values, .* have shapes \(2, 0, 4\), "),
        ({"values": np.full((2, 3, 4), np.nan)}, ValueError, r"values holds nan at \(0, 0, 0\), but finite"),
        ({"values": "abc"}, TypeError, "values is 'abc', but an array of real numbers"),
        (
            {"out_proj": np.zeros((2, 3, 5))},
            ValueError,
            r".*out_proj .* \(2, 3, 5\), .* but .*\[heads, head_dim, width\]",
        ),
        ({"out_proj": np.zeros((3, 4, 5))}, ValueError, r".*out_proj .* shapes \(2, 3, 4\), \(3, 4, 5\)"),
        ({"out_proj": np.zeros((2, 4, 0))}, ValueError, r".*out_proj .* shapes \(2, 3, 4\), \(2, 4, 0\)"),
        ({"out_proj": np.full((2, 4, 5), np.inf)}, ValueError, "out_proj holds inf"),
        ({"support": np.ones((2, 3))}, TypeError, "support is array.*, but booleans without masked entries"),
        ({"support": np.ones((2, 3), int)}, TypeError, "support is array.*, but booleans"),
        (
            {"support": np.ones((2, 4), bool)},
            ValueError,
            r".*support have shapes .*, \(2, 4\), but .*\[heads, tokens\] were",
        ),
        ({"support": np.ones(3, bool)}, ValueError, r".*support have shapes .*, \(3,\), but"),
        ({"support": np.zeros((2, 3), bool)}, ValueError, "support is False for every token, but at least one edge"),
        ({"rtol": 0}, ValueError, "rtol is 0, but a number between 0 and 1 was expected"),
        ({"rtol": float("nan")}, ValueError, "rtol is nan"),
        ({"rtol": "small"}, TypeError, "rtol is 'small', but a number"),
    ],
)
def test_bad_input(given, error, message):
    values, out_proj = generic(2, 3, 4, 5)
    arguments = {"values": values, "out_proj": out_proj, "support": full(values)} | given
    with pytest.raises(error, match=rf"^minkowski_dimension: {message}") as info:
        minkowski_dimension(**arguments)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: minkowski_check(toy(), rescale=1), TypeError, "^minkowski_check: rescale is 1, but"),
        (lambda: minkowski_check(3), TypeError, "^minkowski_check: heads is 3, but AttentionHeads were expected"),
        (lambda: token_dimension(None), TypeError, "^token_dimension: heads is None, but AttentionHeads were expected"),
        (lambda: token_dimension(toy(), 3), ValueError, "^token_dimension: token is 3, but -3 to 2 was expected"),
        (lambda: token_dimension(toy(), 0.0), TypeError, "^token_dimension: token is 0.0, but an integer was expected"),
        (lambda: token_dimension(toy(), eps=0.99), ValueError, "support is False for every token"),
        (
            lambda: minkowski_check(toy(), eps=1),
            ValueError,
            "^minkowski_check: eps is 1, but a number between 0 and 1 was expected",
        ),
        (lambda: minkowski_check(toy(), eps=[0.1, -1]), ValueError, "^minkowski_check: eps is -1"),
        (lambda: minkowski_check(toy(), eps="x"), TypeError, "^minkowski_check: eps is .*x.*, but a number"),
        (lambda: eps_support([1.0], True), TypeError, "^eps_support: eps is True"),
        (lambda: eps_support([1.0], float("nan")), ValueError, "^eps_support: eps is nan"),
        (lambda: eps_support([1.0, float("nan")], 0.1), ValueError, r"^eps_support: weights holds nan at \(1,\)"),
        (lambda: eps_support("x", 0.1), TypeError, "^eps_support: weights is .*'x'.*, but an array"),
        (lambda: minkowski_check(toy(), rule="soft"), ValueError, "^minkowski_check: rule is 'soft', but 'absolute'"),
    ],
)
def test_bad_input_of_the_others(call, error, message):
    with pytest.raises(error, match=message) as info:
        call()
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("points", "rank"),
    [
        (1e-170 * np.array([[0, 0], [1, 0], [0, 1]]), 2),
        (1e155 * np.array([[0, 0], [1, 0], [0, 1]]), 2),
        ([[1, 0], [0, 1], [1, 1e160]], 2),
        ([[1e-200, 0], [2e-200, 1e-200], [1, 2]], 2),
        ([[1e200, 1e200], [2e200, 2e200], [3e-200, 3e-200]], 1),
    ],
)
def test_values_whose_squares_leave_float64(points, rank):
    assert minkowski_dimension([points], [np.eye(2)], np.ones((1, 3), dtype=bool)).rank == rank


def test_what_is_masked_is_no_support():
    support = np.ma.array(np.ones((1, 3), dtype=bool), mask=[[0, 1, 0]])
    with pytest.raises(
        TypeError, match=r"^minkowski_dimension: support is .*, but booleans without masked entries were expected$"
    ):
        minkowski_dimension([np.eye(3)], [np.eye(3)], support)


@pytest.mark.parametrize("kind", ["<f2", ">f2", "<f4", ">f4", ">f8", np.longdouble])
@pytest.mark.parametrize("rule", ["absolute", "relative"])
def test_eps_support_takes_numbers_of_any_type(kind, rule):
    assert eps_support(np.array([0.5, 0.02], kind), 0.1, rule).tolist() == [True, False]


@pytest.mark.parametrize("weights", [[], np.zeros((2, 0)), 0.5])
def test_eps_support_of_nothing_is_refused(weights):
    with pytest.raises(ValueError, match=r"^eps_support: weights has shape .*, but \[..., tokens > 0\] was expected$"):
        eps_support(weights, 0.1)


def test_the_function_that_was_called_is_named():
    for call, name in ((token_dimension, "token_dimension"), (minkowski_check, "minkowski_check")):
        with pytest.raises(ValueError, match=f"^{name}: eps is too long a value of type int, but a number"):
            call(toy(), eps=10**5000)
        with pytest.raises(ValueError, match=f"^{name}: rule is 'soft', but 'absolute' or"):
            call(toy(), rule="soft")
