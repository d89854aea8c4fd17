"""mlp_reach against every vertex of the set, pushed through the model's own norm and gate."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY
from transformers import AutoConfig, AutoModelForCausalLM

from geolib.dimension import attention_dimension, eps_support, gate_hyperplanes, minkowski_dimension, mlp_reach

COVERED = {
    "llama": {"attention_bias": True},
    "mistral": {"sliding_window": 4},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "smollm3": {},
    "phi3": {"original_max_position_embeddings": 256},
}
REFUSED = {
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256},  # LayerNorm
    "starcoder2": {},  # LayerNorm
    "gemma2": {},  # a norm between attention and sum
    "olmo2": {},  # no norm between sum and MLP
    "gpt_neox": {},  # MLP beside attention
    "granite": {"residual_multiplier": 0.5},  # the sum is another one
}
IDS = [5, 9, 33, 9, 17, 60]


def tiny(kind, extra=None):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **TINY | (extra or {}))).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.normal_(std=0.3)  # begin as constants
    return model


def norm_and_gate(model, layer):
    block = model.model.layers[layer]
    return block.post_attention_layernorm, getattr(block.mlp, "gate_proj", None) or block.mlp.gate_up_proj


def vertices(reach, token, eps, rule):
    """Every state that puts all movable weight of each head on one token; shape=[combinations, width]."""
    heads = reach.heads
    weights = heads.weights[:, token].astype(float)
    supports = eps_support(heads.weights[:, token], eps, rule)
    points = np.einsum("htd,hdw->htw", heads.values, heads.out_proj, dtype=float)
    rest = reach.states[token] - np.einsum("ht,htw->w", np.where(supports, weights, 0), points)
    corners = [
        [w[s].sum() * point for point in p[s]] or [np.zeros(len(rest))]
        for w, s, p in zip(weights, supports, points, strict=True)
    ]
    return rest + np.array([np.sum(choice, axis=0) for choice in itertools.product(*corners)])


@pytest.mark.parametrize("kind", COVERED)
@pytest.mark.parametrize(("eps", "rule"), [(0.0, "absolute"), (0.1, "absolute"), (0.5, "relative")])
def test_equals_a_loop_over_all_vertices(kind, eps, rule):
    model = tiny(kind, COVERED[kind])
    reach = mlp_reach(model, IDS, layer=1)
    norm, gate = norm_and_gate(model, 1)
    normals, _ = gate_hyperplanes(model, layer=1)
    low, high = reach.extremes(normals, eps=eps, rule=rule)
    table = reach.table(normals, eps=eps, rule=rule)
    for token in (0, 2, 5):
        states = vertices(reach, token, eps, rule)
        values = (states * reach.gain) @ normals.T
        np.testing.assert_allclose(low[token], values.min(axis=0), atol=1e-4)
        np.testing.assert_allclose(high[token], values.max(axis=0), atol=1e-4)
        with torch.no_grad():
            seen = gate(norm(torch.tensor(states, dtype=torch.float32)))[:, : len(normals)] > 0
        clear = np.minimum(np.abs(values.min(axis=0)), np.abs(values.max(axis=0))) > 1e-4
        cut = (low[token] < 0) & (high[token] > 0)
        np.testing.assert_array_equal(cut[clear], (seen.any(dim=0) & ~seen.all(dim=0)).numpy()[clear])
        assert table.cut[token] == cut.sum()
        assert clear.mean() > 0.9


@pytest.mark.parametrize("kind", COVERED)
def test_states_and_inputs_are_the_models_own(kind):
    model, given = tiny(kind, COVERED[kind]), []
    norm, gate = norm_and_gate(model, 2)
    hooks = [module.register_forward_pre_hook(lambda _, args: given.append(args[0])) for module in (norm, gate)]
    reach = mlp_reach(model, IDS, layer=-1)
    for hook in hooks:
        hook.remove()
    np.testing.assert_array_equal(reach.states, given[0].reshape(6, -1).numpy())
    np.testing.assert_array_equal(reach.inputs, given[1].reshape(6, -1).numpy())
    factor = reach.inputs / (reach.gain * reach.states)
    assert (factor > 0).all()
    np.testing.assert_allclose(factor, np.repeat(np.median(factor, axis=1)[:, None], 32, axis=1), rtol=1e-3)


def test_sets_grow_as_the_threshold_falls_and_hold_the_token_itself():
    model = tiny("llama")
    reach = mlp_reach(model, IDS, layer=1)
    normals, _ = gate_hyperplanes(model, layer=1)
    own = (reach.states * reach.gain) @ normals.T
    before = own, own
    for eps in (0.9, 0.3, 0.1, 0.01, 0.0):
        low, high = reach.extremes(normals, eps=eps)
        assert (low <= before[0] + 1e-4).all()
        assert (high >= before[1] - 1e-4).all()
        before = low, high
    assert (before[1] - before[0])[1:].min() > 0  # the first token sees itself alone
    np.testing.assert_allclose(before[0][0], own[0], atol=1e-5)


def test_the_table_is_eq_8_and_the_sharp_bound():
    model = tiny("qwen2")
    normals, _ = gate_hyperplanes(model, layer=0)
    reach = mlp_reach(model, IDS, layer=0)
    for rule in ("absolute", "relative"):
        counted = attention_dimension(model, [IDS], rule=rule, tokens="all").per_layer[0, 0]
        table = reach.table(normals, rule=rule)
        np.testing.assert_array_equal(table.id, counted)
        for token, dimension in zip(table.token, table.dimension, strict=True):
            support = eps_support(reach.heads.weights[:, token], 0.1, rule)
            bounded = minkowski_dimension(reach.heads.values, reach.heads.out_proj, support)
            assert bounded.rank <= dimension == bounded.bound
    chosen = reach.table(normals, [-1, 2])
    assert chosen.token.tolist() == [5, 2]
    everything = reach.table(normals)
    np.testing.assert_allclose(chosen.width, everything.width[[5, 2]], rtol=1e-4)
    np.testing.assert_array_equal(chosen.cut, everything.cut[[5, 2]])


@pytest.mark.parametrize(("head_dim", "cap"), [(4, 16), (8, 32)])
def test_no_head_gives_more_than_its_projection(head_dim, cap):
    """Theorem 2.1: 4 heads give at most the sum of min(|S_h| - 1, rank A_h), and in all no more than the width, 32."""
    model = tiny("llama", {"head_dim": head_dim})
    reach = mlp_reach(model, list(range(3, 27)), layer=1)
    table = reach.table(np.eye(32), eps=0)
    expected = [min(4 * min(token, head_dim), 32) for token in range(24)]
    assert table.dimension.tolist() == expected
    assert expected[-1] == cap
    heads = reach.heads
    ranks = [minkowski_dimension(heads.values, heads.out_proj, heads.weights[:, i] > 0).rank for i in range(24)]
    assert ranks == expected


def test_width_is_that_of_a_segment():
    """One head that moves between two tokens draws a segment: its width along e is |e . (p - q)|."""
    model = tiny("llama")
    reach = mlp_reach(model, [5, 9], layer=0)
    weights = np.zeros_like(reach.heads.weights)
    weights[2, 1] = 0.6, 0.4
    weights[[0, 1, 3], 1, 0] = 1
    alone = replace(reach, heads=replace(reach.heads, weights=weights))
    points = (reach.heads.values[2] @ reach.heads.out_proj[2]) * reach.gain
    axes = np.eye(32)
    expected = np.abs(points[0] - points[1]).mean() / np.linalg.norm(reach.gain * reach.states[1])
    assert alone.table(axes, [1]).width[0] == pytest.approx(expected, rel=1e-4)
    assert alone.table(axes, [1]).dimension[0] == 1

    # And uniform weights on a segment are uniform points of it.
    drawn = alone.sample(axes, 1, n=4000)
    ends = reach.gain * reach.states[1] + np.array([[0.4], [-0.6]]) * (points[0] - points[1])
    t = (drawn - ends[1]) @ (ends[0] - ends[1]) / np.sum((ends[0] - ends[1]) ** 2)
    np.testing.assert_allclose(drawn, ends[1] + t[:, None] * (ends[0] - ends[1]), atol=1e-4)
    np.testing.assert_allclose(np.quantile(t, [0, 0.25, 0.5, 0.75, 1]), [0, 0.25, 0.5, 0.75, 1], atol=0.03)


@pytest.mark.parametrize("power", [-1070, -500, -153, 133, 900])
def test_the_size_of_normals_is_free(power):
    """Numbers that float32 or float64 square to 0 or to infinity: powers of two change no digit."""
    reach = mlp_reach(tiny("llama"), IDS, layer=1)
    normals, _ = gate_hyperplanes(tiny("llama"), layer=1)
    normals = np.round(np.asarray(normals, dtype=float) * 8) / 8  # few digits: exact when subnormal, too
    mixed = np.concatenate([normals[:3], np.ldexp(normals[3:], power)])
    for one, other in zip(reach.extremes(normals), reach.extremes(mixed), strict=True):
        np.testing.assert_array_equal(np.ldexp(one[:, 3:], power), other[:, 3:])
        np.testing.assert_array_equal(one[:, :3], other[:, :3])
    table, scaled = reach.table(normals), reach.table(mixed)
    np.testing.assert_allclose(table.width, scaled.width, rtol=1e-12)
    assert table.drop(columns="width").equals(scaled.drop(columns="width"))
    drawn = [reach.sample(some[3:], 4, n=3) for some in (normals, mixed)]
    np.testing.assert_array_equal(np.ldexp(drawn[0], power), drawn[1])


def test_a_direction_of_0_takes_the_value_0():
    for end in mlp_reach(tiny("llama"), IDS, layer=1).extremes(np.zeros((2, 32))):
        np.testing.assert_array_equal(end, np.zeros((6, 2)))


def test_samples_lie_between_the_extremes_and_follow_the_seed():
    model = tiny("mistral")
    reach = mlp_reach(model, IDS, layer=1)
    normals, _ = gate_hyperplanes(model, layer=1)
    low, high = reach.extremes(normals, [4], eps=0.05)
    drawn = reach.sample(normals, 4, n=500, eps=0.05, seed=3)
    assert drawn.shape == (500, 48)
    assert (drawn >= low - 1e-4).all()
    assert (drawn <= high + 1e-4).all()
    assert np.ptp(drawn, axis=0).min() > 0
    np.testing.assert_array_equal(drawn, reach.sample(normals, 4, n=500, eps=0.05, seed=3))
    assert (drawn != reach.sample(normals, 4, n=500, eps=0.05, seed=4)).any()
    own = (reach.states[4] * reach.gain) @ normals.T
    np.testing.assert_allclose(reach.sample(normals, 4, n=2, eps=0.99), [own, own], rtol=1e-5)


def test_layers_in_one_pass_are_those_taken_one_by_one():
    model = tiny("llama")
    for number, reach in zip((2, 0), mlp_reach(model, IDS, layer=[-1, 0]), strict=True):
        alone = mlp_reach(model, IDS, layer=number)
        assert reach.heads.layer == number
        # Layers that are not taken apart may attend by another kernel, which rounds otherwise.
        np.testing.assert_allclose(reach.states, alone.states, atol=1e-4)
        np.testing.assert_allclose(reach.heads.weights, alone.heads.weights, atol=1e-4)


def test_the_real_model(model, tokenizer):
    ids = tokenizer("Natalia sold clips to 48 of her friends in April.").input_ids
    for number, reach in zip((0, 29), mlp_reach(model, ids, layer=(0, 29)), strict=True):
        normals, offsets = gate_hyperplanes(model, layer=number)
        assert not offsets.any()
        values = reach.inputs @ normals.T
        low, high = reach.extremes(normals)
        doubtful = np.abs(values) < 1e-4 * np.abs(values).mean()
        assert ((high > 0) | (values <= 0) | doubtful).all()
        assert ((low < 0) | (values >= 0) | doubtful).all()
        table = reach.table(normals)
        assert ((table.cut > 0) == (table.width > 0)).mean() > 0.7
        assert (table.cut[table.dimension == 0] == 0).all()


def test_model_leaves_as_it_entered():
    model = tiny("llama").train()
    before = model.config._attn_implementation

    def check():
        assert model.training
        assert model.config._attn_implementation == before
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

    mlp_reach(model, IDS, layer=1)
    check()
    with pytest.raises(ValueError, match="but 0 to 63 was expected"):
        mlp_reach(model, [99], layer=1)
    check()


# --- Errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REFUSED)
def test_other_blocks_are_refused_by_name(kind):
    with pytest.raises(ValueError, match=r"^mlp_reach: model is a \w+, which has no RMSNorm after .* of layer 1; exp"):
        mlp_reach(tiny(kind, REFUSED[kind]), IDS, layer=1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 3}, TypeError, "mlp_reach: model is a int, but a transformers model was expected"),
        ({"layer": 3}, ValueError, "mlp_reach: layer is 3, but -3 to 2 was expected"),
        ({"layer": "last"}, TypeError, "mlp_reach: layer is .*'last'.*, but an integer was expected"),
        ({"input_ids": []}, ValueError, "attention_heads: input_ids has shape"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=rf"^{message}") as info:
        mlp_reach(**{"model": tiny("llama"), "input_ids": IDS, "layer": 1} | arguments)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("method", "arguments", "error", "message"),
    [
        (
            "extremes",
            {"directions": [[1.0]]},
            ValueError,
            r"directions has shape \(1, 1\), but \[n, 32\] was expected",
        ),
        ("extremes", {"directions": np.full((1, 32), np.nan)}, ValueError, "directions holds nan at"),
        ("extremes", {"directions": np.full((1, 32), 1e308)}, ValueError, "a value holds -?inf at"),
        ("sample", {"n": 2, "directions": np.full((1, 32), 1e308)}, ValueError, "a value holds -?inf at"),
        ("extremes", {"tokens": 3}, TypeError, "tokens is 3, but a sequence of integers was expected"),
        ("extremes", {"tokens": [6]}, ValueError, "token is 6, but -6 to 5 was expected"),
        ("extremes", {"tokens": [0.5]}, TypeError, "token is 0.5, but an integer was expected"),
        ("sample", {"n": 0}, ValueError, "n is 0, but at least 1 was expected"),
        ("sample", {"n": 2, "seed": -1}, ValueError, "seed is -1, but at least 0 was expected"),
        ("sample", {"n": 2, "token": 7}, ValueError, "token is 7, but -6 to 5 was expected"),
    ],
)
def test_wrong_arguments_of_methods_are_named(method, arguments, error, message):
    reach = mlp_reach(tiny("llama"), IDS, layer=1)
    with pytest.raises(error, match=rf"^MlpReach.{method}: {message}"):
        getattr(reach, method)(**{"directions": np.eye(32)} | arguments)


@pytest.mark.parametrize(
    ("normals", "tokens", "error", "message"),
    [
        (
            np.eye(32) * (np.arange(32) != 3),
            None,
            ValueError,
            r"normals\[3\] is 0, but normals of hyperplanes were expected",
        ),
        (np.zeros((0, 32)), None, ValueError, "normals is empty, but normals of hyperplanes were expected"),
        (np.eye(31), None, ValueError, r"normals has shape \(31, 31\), but \[n, 32\] was expected"),
        ([[np.inf] * 32], None, ValueError, r"normals holds inf at \(0, 0\), but finite numbers were expected"),
        (np.eye(32), 3, TypeError, "tokens is 3, but a sequence of integers was expected"),
        (np.eye(32), "last", TypeError, "token is 'last', but an integer was expected"),
        (np.eye(32), {2, 0}, TypeError, "token is {0, 2}, but an integer was expected"),
    ],
)
def test_wrong_arguments_of_table_are_named(normals, tokens, error, message):
    with pytest.raises(error, match=rf"^MlpReach.table: {message}$"):
        mlp_reach(tiny("llama"), IDS, layer=1).table(normals, tokens)


def test_wrong_thresholds_are_named():
    reach = mlp_reach(tiny("llama"), IDS, layer=1)
    with pytest.raises(ValueError, match=r"^MlpReach.extremes: eps is 1, but"):
        reach.extremes(np.eye(32), eps=1)
    with pytest.raises(ValueError, match=r"^MlpReach.table: rule is 'soft', but"):
        reach.table(np.eye(32), rule="soft")
