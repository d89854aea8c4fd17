"""The toys: plain torch modules trained one at a time, closed forms, neighbours that do not matter, and the errors."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from geolib.partition import ReluNetwork, line_partition
from geolib.toy import _mlps_on_line, embed, fit_mlps, regions_along, train_grid

X = np.linspace(-2 * np.pi, 2 * np.pi, 101)
SMALL = {"heads": [1, 3], "contexts": [4, 6], "seeds": [0, 5], "d_model": 8, "width": 6, "bins": 31, "stride": 3}


def descend(module, loss_at, n_steps, learning_rate=0.01):
    """The plain training loop, one module."""
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for step in range(n_steps):
        optimizer.zero_grad()
        loss_at(step).backward()
        optimizer.step()
        schedule.step()


# --- MLPs on a curve


@pytest.mark.parametrize("init", ["spread", "torch"])
def test_mlps_train_as_plain_modules_do(init):
    fit = fit_mlps(X, np.sin(X), width=7, seeds=[2, 9], n_steps=40, init=init)
    x, y = torch.from_numpy(X)[:, None], torch.from_numpy(np.sin(X))[:, None]
    for i in range(2):
        plain = fit.network(i, 0)
        descend(plain, lambda step, plain=plain: (plain(x) - y).square().mean(), 40)
        with torch.no_grad():
            torch.testing.assert_close(fit.network(i)(x), plain(x), rtol=0, atol=1e-9)
            assert fit.losses[-1, i] == pytest.approx((plain(x) - y).square().mean().item(), abs=1e-9)


def test_relu_network_takes_an_mlp_whole():
    fit = fit_mlps(X, np.sin(X), width=7, seeds=[4], n_steps=10)
    network = ReluNetwork.from_torch(fit.network(0))
    assert (network.input_dim, network.widths) == (1, (7,))
    assert np.mean((network(X[:, None])[:, 0] - np.sin(X)) ** 2) == pytest.approx(fit.losses[-1, 0])


@pytest.mark.whole
def test_an_mlp_learns_sin_and_more_neurons_learn_it_better():
    few, many = (fit_mlps(X, np.sin(X), width=width, seeds=range(3), n_steps=600).losses for width in (5, 100))
    assert (many[-1] < 1e-2 * np.var(np.sin(X))).all()
    assert (many[-1] < few[-1]).all()


def test_a_neuron_without_a_breakpoint_is_always_active_or_never():
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    weight, bias, readout = torch.tensor(
        [[[0.0, 0.0, 0.0, 2.0]], [[3.0, -3.0, 0.0, -1.0]], [[1.0, 1.0, 1.0, 1.0]]]
    ).double()
    expected = torch.relu(x[:, None] * weight + bias).sum(dim=1)
    torch.testing.assert_close(_mlps_on_line(x, weight, bias, readout, torch.zeros(1, 1).double()), expected[None])


def test_neighbours_and_the_order_of_points_do_not_matter():
    alone = fit_mlps(X, np.sin(X), width=9, seeds=[3], n_steps=50)
    order = np.random.default_rng(0).permutation(len(X))
    among = fit_mlps(X[order], np.sin(X)[order], width=9, seeds=[1, 3, 8], n_steps=50)
    for name in ("losses", "weight", "bias", "readout", "offset"):
        np.testing.assert_allclose(getattr(among, name)[:, [1]], getattr(alone, name), rtol=1e-9, atol=1e-9)


def test_a_snapshot_is_the_run_at_that_step():
    dense = fit_mlps(X, np.sin(X), width=5, seeds=[0], n_steps=8, snapshots=range(9))
    sparse = fit_mlps(X, np.sin(X), width=5, seeds=[0], n_steps=8, snapshots=[2, 7])
    assert (dense.steps, sparse.steps) == (tuple(range(9)), (2, 7))
    assert sparse.weight.shape == (2, 1, 5)
    assert len(np.unique(dense.weight[:, 0, 0])) == 9
    for name in ("losses", "weight", "bias", "readout", "offset"):
        np.testing.assert_array_equal(getattr(dense, name)[[2, 7]], getattr(sparse, name))


def test_no_steps_leave_the_draws():
    fit = fit_mlps(X, np.sin(X), width=5, seeds=[0], n_steps=0)
    assert fit.steps == (0,)
    assert fit.losses.shape == (1, 1)


@given(low=st.floats(-100, 100), length=st.floats(0.1, 100), seed=st.integers(0, 2**32))
def test_breakpoints_begin_within_the_range(low, length, seed):
    x = np.linspace(low, low + length, 11)
    fit = fit_mlps(x, x, width=40, seeds=[seed], n_steps=0)
    at = -fit.bias[0, 0] / fit.weight[0, 0]
    slack = 1e-9 * (abs(low) + length)
    assert x[0] - slack <= at.min() < x[5] < at.max() <= x[-1] + slack  # misses a half once in 2^39


def test_torch_init_has_the_bounds_of_linear():
    fit = fit_mlps(X, X, width=10_000, seeds=[0], n_steps=0, init="torch")
    for values, bound in ((fit.weight, 1), (fit.bias, 1), (fit.readout, 0.01)):
        assert 0.99 * bound < np.abs(values).max() <= bound
    assert abs(fit.offset[0, 0]) <= 0.01


def test_global_generators_are_left_alone():
    state = torch.get_rng_state()
    fit_mlps(X, X, width=3, seeds=[0], n_steps=1).network(0)
    train_grid(**SMALL, n_steps=1).network(0)
    assert torch.equal(torch.get_rng_state(), state)


# --- regions along a curve


def exact_regions(points, weight, bias):
    """Walk the open intervals between a neuron's zeros, in whole numbers: a region more for each change of activity."""
    changes = 0
    for w, b in zip(weight, bias, strict=True):
        values = [sum(c * x for c, x in zip(w, p, strict=True)) + b for p in points]
        active = []
        for here, there in pairwise(values):
            active += [here > 0, there > 0] if here * there < 0 else [here + there > 0]
        changes += sum(one != other for one, other in pairwise(active))
    return 1 + changes


numbers = st.integers(-9, 9)


@given(
    points=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6),
    neurons=st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=6),
)
def test_regions_along_a_curve_are_counted_exactly(points, neurons):
    weight, bias = [n[:2] for n in neurons], [n[2] for n in neurons]
    count = regions_along(points, weight, bias)
    assert count.regions == exact_regions(points, weight, bias) == 1 + count.crossed.sum()
    values = np.array(points) @ np.transpose(weight) + bias
    if values.all():
        assert count.patterns == 1 + (np.diff(values > 0, axis=0)).any(axis=1).sum()
    assert count.patterns == 1 + np.count_nonzero(count.crossed)
    assert count.crossed.shape == (len(points) - 1,)


@pytest.mark.parametrize(
    ("points", "crossed"),
    [
        ([1, 0, 1], [0, 0]),  # touches, and turns back
        ([-1, 0, -1], [0, 0]),
        ([1, 0, -1], [1, 0]),  # in the point itself: with the segment on which the neuron is active
        ([-1, 0, 1], [0, 1]),
        ([0, 1, 0], [0, 0]),  # at the ends
        ([1, 0, 0, 1], [1, 0, 1]),  # a segment within the hyperplane: there the neuron is 0
        ([-1, 0, 0, -1], [0, 0, 0]),
    ],
)
def test_a_curve_that_touches_a_hyperplane(points, crossed):
    count = regions_along(np.array(points)[:, None], [[1], [0]], [0, 1])
    assert count.crossed.tolist() == crossed
    assert count.regions == 1 + sum(crossed)


def test_between_neighbours_line_partition_finds_the_same_regions():
    rng = np.random.default_rng(3)
    points, weight, bias = rng.normal(size=(12, 3)), rng.normal(size=(20, 3)), rng.normal(size=20)
    network = ReluNetwork([weight], [bias])
    found = [line_partition(network, p, q).n_regions - 1 for p, q in pairwise(points)]
    assert regions_along(points, weight, bias).crossed.tolist() == found


def test_regions_do_not_depend_on_direction_order_or_scale():
    rng = np.random.default_rng(1)
    points, weight, bias = rng.normal(size=(20, 3)), rng.normal(size=(8, 3)), rng.normal(size=8)
    one, order, scale = regions_along(points, weight, bias), rng.permutation(8), rng.uniform(0.1, 9, size=8)
    other = regions_along(points[::-1], (scale[:, None] * weight)[order], (scale * bias)[order])
    assert (one.regions, one.patterns) == (other.regions, other.patterns)
    assert one.crossed.tolist() == other.crossed[::-1].tolist()


def test_a_finer_walk_along_the_same_polygon_finds_the_same_regions():
    rng = np.random.default_rng(2)
    points, weight, bias = rng.normal(size=(5, 3)), rng.normal(size=(30, 3)), rng.normal(size=30)
    share = np.linspace(0, 1, 400, endpoint=False)[:, None]
    fine = np.concatenate([(1 - share) * p + share * q for p, q in pairwise(points)] + [points[-1:]])
    coarse, fine = regions_along(points, weight, bias), regions_along(fine, weight, bias)
    assert fine.regions == coarse.regions
    assert coarse.patterns == 5 < fine.patterns <= fine.regions


def test_two_neurons_on_one_hyperplane_count_each():
    assert regions_along([[-1], [1]], [[1], [2]], [0, 0]).regions == 3
    assert regions_along([[-1], [1]], [[1], [2]], [0, 0]).patterns == 2


# --- one-block LLMs


class Block(nn.Module):
    """One block over all tokens, with causal masks and a loop over heads, as eqs. 2-5 are written."""

    def __init__(self, seed, n_heads, d_model, width, head_size):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.weight = nn.Parameter(normal(width, d_model) / d_model**0.5)
        self.bias = nn.Parameter(normal(width))
        self.readout = nn.Parameter(normal(width) / width**0.5)
        self.offset = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        if head_size == "full":
            heads = [normal(4, d_model, d_model) for _ in range(n_heads)]
        else:
            whole = normal(4, d_model, d_model)
            heads = [whole[:, :, list(part)] for part in np.array_split(np.arange(d_model), n_heads)]
        self.heads = nn.ParameterList([nn.Parameter(head / d_model**0.5) for head in heads])

    def forward(self, tokens):
        mask = torch.ones(tokens.shape[1], tokens.shape[1]).tril() == 0
        x, rows = tokens, []
        for head in self.heads:
            q, k, v, o = head
            scores = (tokens @ q) @ (tokens @ k).transpose(1, 2) / q.shape[1] ** 0.5
            attention = scores.masked_fill(mask, -torch.inf).softmax(dim=-1)
            x = x + attention @ (tokens @ v) @ o.T
            rows.append(attention[:, -1])
        x = nn.functional.layer_norm(x, x.shape[-1:])
        y = torch.relu(x @ self.weight.T + self.bias) @ self.readout + self.offset
        return y[:, -1], x[:, -1], torch.stack(rows)


@pytest.mark.parametrize(("head_size", "span"), [("split", None), ("full", None), ("split", 5)])
def test_the_grid_trains_as_single_blocks_do(head_size, span):
    grid = train_grid(**SMALL, head_size=head_size, span=span, n_steps=12, eps=0.2)
    settings = [(h, c, s) for c in SMALL["contexts"] for h in SMALL["heads"] for s in SMALL["seeds"]]
    assert list(zip(grid.heads, grid.context, grid.seed, strict=True)) == settings
    for i, (n_heads, context, seed) in enumerate(settings):
        block = Block(seed, n_heads, SMALL["d_model"], SMALL["width"], head_size)
        tokens, target = embed(grid.t, context, SMALL["d_model"], span=span), torch.from_numpy(np.sin(grid.t))

        def loss(step, block=block, tokens=tokens, target=target):
            return (block(tokens[step % 3 :: 3])[0] - target[step % 3 :: 3]).square().mean()

        descend(block, loss, 12)
        with torch.no_grad():
            fit, inputs, rows = (part.numpy() for part in block(tokens))
        np.testing.assert_allclose(grid.fit[i], fit, atol=1e-9)
        np.testing.assert_allclose(grid.inputs[i], inputs, atol=1e-9)
        np.testing.assert_allclose(grid.weight[i], block.weight.detach(), atol=1e-9)
        assert grid.edges["absolute"][i].tolist() == (rows > 0.2).sum(axis=(0, 2)).tolist()
        largest = rows.max(axis=2, keepdims=True)
        assert grid.edges["relative"][i].tolist() == (rows > 0.2 * largest).sum(axis=(0, 2)).tolist()


def test_split_heads_start_alike_and_have_as_many_parameters():
    blocks = [Block(7, n_heads, 8, 6, "split") for n_heads in (1, 3, 8)]
    assert len({sum(p.numel() for p in block.parameters()) for block in blocks}) == 1
    grid = train_grid(heads=[1, 3, 8], contexts=[4, 9], seeds=[7], d_model=8, width=6, bins=11, stride=1, n_steps=0)
    assert (grid.weight == grid.weight[0]).all()
    assert (grid.bias == grid.bias[0]).all()


def test_neighbouring_runs_do_not_matter():
    grid = train_grid(**SMALL, n_steps=30)
    alone = train_grid(**(SMALL | {"heads": [3], "contexts": [6], "seeds": [5]}), n_steps=30)
    (i,) = np.flatnonzero((grid.heads == 3) & (grid.context == 6) & (grid.seed == 5))
    for name in ("fit", "inputs", "weight", "bias", "readout", "offset"):
        np.testing.assert_allclose(getattr(grid, name)[i], getattr(alone, name)[0], rtol=1e-9, atol=1e-9)


def test_the_fit_is_the_mlp_of_its_inputs_and_the_table_says_what_they_hold():
    grid = train_grid(**SMALL, n_steps=5)
    assert (grid.inputs.shape, grid.fit.shape, grid.edges["absolute"].shape) == ((8, 31, 8), (8, 31), (8, 31))
    table = grid.table()
    assert len(table) == 8
    for i, row in enumerate(table.itertuples()):
        network = ReluNetwork.from_torch(grid.network(i))
        np.testing.assert_allclose(network(grid.inputs[i])[:, 0], grid.fit[i], atol=1e-12)
        (pattern,) = network.pattern(grid.inputs[i])
        assert row.regions == 1 + np.diff(pattern, axis=0).sum()
        assert row.patterns == grid.regions(i).patterns
        assert row.rmse == pytest.approx(np.sqrt(np.mean((grid.fit[i] - np.sin(grid.t)) ** 2)))
        assert (row.id_absolute, row.id_relative) == (
            grid.edges["absolute"][i].mean(),
            grid.edges["relative"][i].mean(),
        )


@pytest.mark.whole
def test_a_block_learns_sin():
    grid = train_grid(heads=[1, 2], contexts=[5], seeds=[0, 1], bins=200, stride=4, n_steps=400)
    assert (grid.table().rmse < 0.05).all()


def test_dimension_where_it_is_known():
    """A context of one attends to itself; at t = 0 all tokens are the same, and attention is uniform."""
    alone = train_grid(heads=[1, 3], contexts=[1], seeds=[0], bins=9, stride=2, n_steps=3)
    assert (alone.edges["absolute"] == [[1], [3]]).all()
    assert (alone.edges["relative"] == [[1], [3]]).all()
    grid = train_grid(heads=[1, 3], contexts=[4, 25], seeds=[0], bins=9, stride=2, n_steps=3)
    assert grid.edges["absolute"][:, 4].tolist() == [4, 12, 0, 0]
    assert grid.edges["relative"][:, 4].tolist() == [4, 12, 25, 75]


def test_tokens_are_the_sinusoids_they_claim_to_be():
    t = np.array([-1.0, 0.0, 2.5])
    tokens = embed(t, 4, 6).numpy()
    for b, j, k in np.ndindex(3, 4, 3):
        angle = 0.5 * 10 ** (-2 * k / 6) * t[b] * (j + 1) / 4
        np.testing.assert_allclose(tokens[b, j, [k, k + 3]], [np.sin(angle), np.cos(angle)], atol=1e-15)
    np.testing.assert_allclose(embed(t, 8, 6, span=4)[:, :4], tokens, atol=1e-15)
    np.testing.assert_allclose(embed(t, 8, 6, span=4)[:, 7], embed(2 * t, 1, 6)[:, 0], atol=1e-15)


# --- errors


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": [1, 2, 3]}, ValueError, r"fit_mlps: x has shape \(3,\) and y \(2,\), but \[points\] was expected"),
        ({"x": [[1], [2]], "y": [[1], [2]]}, ValueError, r"fit_mlps: x has shape \(2, 1\)"),
        ({"x": [1, 1]}, ValueError, "fit_mlps: x has 1 distinct points, but at least 2 were expected"),
        ({"x": [1, np.nan]}, ValueError, r"fit_mlps: x holds nan at \(1,\), but finite numbers were expected"),
        ({"y": [1, np.inf]}, ValueError, r"fit_mlps: y holds inf at \(1,\), but finite numbers were expected"),
        ({"y": ["a", "b"]}, TypeError, r"fit_mlps: y is \['a', 'b'\], but an array of real numbers"),
        ({"width": 0}, ValueError, "fit_mlps: width is 0, but at least 1 was expected"),
        ({"width": 2.0}, TypeError, "fit_mlps: width is 2.0, but an integer was expected"),
        ({"width": True}, TypeError, "fit_mlps: width is True, but an integer was expected"),
        ({"seeds": []}, ValueError, "fit_mlps: seeds is empty, but at least one integer was expected"),
        ({"seeds": [0, -1]}, ValueError, r"fit_mlps: seeds\[1\] is -1, but at least 0 was expected"),
        ({"n_steps": -1}, ValueError, "fit_mlps: n_steps is -1, but at least 0 was expected"),
        ({"learning_rate": 0}, ValueError, "fit_mlps: learning_rate is 0, but a number above 0 was expected"),
        ({"learning_rate": np.nan}, ValueError, "fit_mlps: learning_rate holds nan, but finite numbers were expected"),
        ({"learning_rate": "fast"}, TypeError, "fit_mlps: learning_rate is 'fast', but a number above 0 was expected"),
        ({"snapshots": []}, ValueError, "fit_mlps: snapshots is empty"),
        ({"snapshots": [0, 6]}, ValueError, r"snapshots is \(0, 6\), but increasing steps within 0 to 5"),
        ({"snapshots": [3, 2]}, ValueError, r"snapshots is \(3, 2\), but increasing steps"),
        ({"init": "random"}, ValueError, "fit_mlps: init is 'random', but 'spread' or 'torch' was expected"),
    ],
)
def test_fit_mlps_says_what_is_wrong(change, error, message):
    with pytest.raises(error, match=message) as caught:
        fit_mlps(**({"x": [0, 1], "y": [0, 1], "width": 3, "seeds": [0], "n_steps": 5} | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"heads": []}, ValueError, "train_grid: heads is empty, but at least one integer was expected"),
        ({"heads": [1, 0]}, ValueError, r"train_grid: heads\[1\] is 0, but at least 1 was expected"),
        ({"heads": [9]}, ValueError, r"train_grid: heads is \(9,\), but at most d_model = 8 heads were expected"),
        ({"contexts": [2.5]}, TypeError, r"train_grid: contexts\[0\] is 2.5, but an integer was expected"),
        ({"seeds": [-3]}, ValueError, r"train_grid: seeds\[0\] is -3, but at least 0 was expected"),
        ({"d_model": 7}, ValueError, "embed: d_model is 7, but an even number"),
        ({"width": 0}, ValueError, "train_grid: width is 0, but at least 1 was expected"),
        ({"bins": 2}, ValueError, "train_grid: stride is 3, but at most 2, the number of bins, was expected"),
        ({"stride": 0}, ValueError, "train_grid: stride is 0, but at least 1 was expected"),
        ({"span": 0}, ValueError, "embed: span is 0, but at least 1 was expected"),
        ({"n_steps": None}, TypeError, "train_grid: n_steps is None, but an integer was expected"),
        ({"learning_rate": -1}, ValueError, "train_grid: learning_rate is -1, but a number above 0 was expected"),
        ({"eps": 0}, ValueError, "train_grid: eps is 0, but a number between 0 and 1 was expected"),
        ({"eps": 1.0}, ValueError, "train_grid: eps is 1.0, but a number between 0 and 1 was expected"),
        ({"eps": [0.1]}, TypeError, r"train_grid: eps is \[0.1\], but a number between 0 and 1 was expected"),
        ({"head_size": 4}, ValueError, "train_grid: head_size is 4, but 'split' or 'full' was expected"),
    ],
)
def test_train_grid_says_what_is_wrong(change, error, message):
    with pytest.raises(error, match=message) as caught:
        train_grid(**(SMALL | {"n_steps": 1} | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"t": [[0.0]]}, ValueError, r"embed: t has shape \(1, 1\), but \[bins\] was expected"),
        ({"t": [np.nan]}, ValueError, r"embed: t holds nan at \(0,\), but finite numbers were expected"),
        ({"context": 0}, ValueError, "embed: context is 0, but at least 1 was expected"),
        ({"d_model": 3}, ValueError, "embed: d_model is 3, but an even number"),
        ({"span": 1.5}, TypeError, "embed: span is 1.5, but an integer was expected"),
    ],
)
def test_embed_says_what_is_wrong(change, error, message):
    with pytest.raises(error, match=message):
        embed(**({"t": [0.0], "context": 2, "d_model": 4} | change))


@pytest.mark.parametrize(
    ("points", "weight", "bias", "error", "message"),
    [
        ([[1, 2]], [[1]], [0], ValueError, r"regions_along: .* shapes \(1, 2\), \(1, 1\) and \(1,\), but"),
        ([[1]], [[1]], [0, 0], ValueError, "regions_along: .* expected"),
        ([1], [[1]], [0], ValueError, "regions_along: .* expected"),
        ([[1]], [[1]], 0, ValueError, "regions_along: .* expected"),
        (np.empty((0, 1)), [[1]], [0], ValueError, "regions_along: .* expected"),
        ([[np.nan]], [[1]], [0], ValueError, r"regions_along: points holds nan at \(0, 0\), but finite"),
        ([[1]], [[np.inf]], [0], ValueError, r"regions_along: weight holds inf at \(0, 0\), but finite"),
        ([[1]], [[1]], ["b"], TypeError, r"regions_along: bias is \['b'\], but an array of real numbers"),
    ],
)
def test_regions_along_says_what_is_wrong(points, weight, bias, error, message):
    with pytest.raises(error, match=message):
        regions_along(points, weight, bias)
