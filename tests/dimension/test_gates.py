"""gate_regions against what really goes into the activation, and against each neighbour taken by itself; mlp_parts
against what leaves the MLP."""

import json
import runpy
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from scipy.special import lambertw
from tiny import TINY
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from geolib.dimension import (
    gate_hyperplanes,
    gate_names,
    gate_regions,
    isotropic_gates,
    isotropic_gates_around,
    mlp_parts,
)
from geolib.dimension.architectures import find_blocks
from geolib.dimension.gates import _count
from geolib.partition import ReluNetwork, line_partition
from geolib.reasoning.decode import SharedPrefix

OLD = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
# What the model has beyond TINY; its layers; in a layer, the first projection and the activation.
COVERED = {
    "llama": ({"mlp_bias": True}, "layers", "mlp.gate_proj", "mlp.act_fn"),
    "mistral": ({}, "layers", "mlp.gate_proj", "mlp.act_fn"),
    "qwen2": ({}, "layers", "mlp.gate_proj", "mlp.act_fn"),
    "qwen3": ({}, "layers", "mlp.gate_proj", "mlp.act_fn"),
    "gemma2": ({}, "layers", "mlp.gate_proj", "mlp.act_fn"),
    "gemma3_text": ({}, "layers", "mlp.gate_proj", "mlp.act_fn"),
    "smollm3": ({}, "layers", "mlp.gate_proj", "mlp.act_fn"),
    "olmo2": ({}, "layers", "mlp.gate_proj", "mlp.act_fn"),
    "phi3": ({"original_max_position_embeddings": 256}, "layers", "mlp.gate_up_proj", "mlp.activation_fn"),
    "glm": ({}, "layers", "mlp.gate_up_proj", "mlp.activation_fn"),
    "glm4": ({}, "layers", "mlp.gate_up_proj", "mlp.activation_fn"),
    "gpt2": (OLD, "h", "mlp.c_fc", "mlp.act"),
    "opt": ({"ffn_dim": 48, "word_embed_proj_dim": 32}, "decoder.layers", "fc1", "activation_fn"),
    "gpt_neox": ({}, "layers", "mlp.dense_h_to_4h", "mlp.act"),
    "phi": ({}, "layers", "mlp.fc1", "mlp.activation_fn"),
    "starcoder2": ({}, "layers", "mlp.c_fc", "mlp.act"),
    "gptj": (OLD | {"rotary_dim": 4}, "h", "mlp.fc_in", "mlp.act"),
    "nemotron": ({}, "layers", "mlp.up_proj", "mlp.act_fn"),
}
REFUSED = {
    "mixtral": ({"num_local_experts": 2}, "is a mixture of experts"),
    "granitemoe": ({"num_local_experts": 2, "num_experts_per_tok": 1}, "is a mixture of experts"),
    "mamba": ({"state_size": 4}, r"holds 0 MLPs with a known gate \(MambaMixer, MambaRMSNorm\)"),
}


def tiny(kind, extra=None):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **TINY | (extra or {}))).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)  # begin as zeros
    return model


def tokens(batch, length, low=3, high=64):
    return torch.randint(low, high, (batch, length), generator=torch.Generator().manual_seed(1))


def relu(z):
    return np.maximum(z, 0)


def units(n, dim, seed=0):
    directions = np.random.default_rng(seed).standard_normal((n, dim))
    return torch.tensor(directions / np.linalg.norm(directions, axis=1, keepdims=True), dtype=torch.float32)


def seen(model, module, ids, mask=None):
    """Return what a module is given in a plain forward pass, shape=[batch, tokens, ...]."""
    given = []
    hook = module.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask)
    hook.remove()
    return given[0].reshape(*ids.shape, -1).float()


def assert_counts(counts, before, after):
    """Counts of regions, where rounding may only decide on gates that are almost 0."""
    scale = before.abs().mean()
    in_doubt = (torch.minimum(before.abs(), after.abs()) < 1e-5 * scale).sum(-1).numpy()
    assert in_doubt.sum() <= 1 + 1e-4 * before.numel()
    expected = 1 + ((before > 0) != (after > 0)).sum(-1).numpy()
    assert (np.abs(counts - expected) <= in_doubt).all()


@pytest.mark.parametrize("kind", COVERED)
def test_equals_a_loop_over_what_goes_into_the_activation(kind):
    extra, layers, projection, activation = COVERED[kind]
    model, ids, radius = tiny(kind, extra), tokens(2, 6), 0.7
    block = model.base_model.get_submodule(layers)[1]
    projection, activation = block.get_submodule(projection), block.get_submodule(activation)
    regions = gate_regions(model, ids, layer=1, radius=radius, n_neighbours=3)

    gates = seen(model, activation, ids)
    assert regions.n_gates == gates.shape[-1]
    assert regions.between_tokens.shape == (2, 5)
    assert_counts(regions.between_tokens, gates[:, :-1], gates[:, 1:])
    assert regions.between_tokens.max() > 5

    x = seen(model, projection, ids)
    assert regions.around_tokens.shape == (2, 6, 3)
    for k, u in enumerate(units(3, x.shape[-1])):
        with torch.no_grad():
            neighbour = projection(x + radius * x.norm(dim=-1, keepdim=True) * u)[..., : gates.shape[-1]]
        assert_counts(regions.around_tokens[..., k], gates, neighbour)
    assert regions.around_tokens.max() > 3


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "phi3"])
def test_a_padded_batch_equals_its_prompts(kind, side):
    model, ids = tiny(kind, COVERED[kind][0]), tokens(3, 20)
    mask = torch.ones_like(ids)
    for row, padding in ((1, 7), (2, 19)):
        mask[row, slice(padding) if side == "left" else slice(20 - padding, None)] = 0
    together = gate_regions(model, ids, mask, layer=2)
    for row in range(3):
        real = mask[row] == 1
        alone = gate_regions(model, ids[row, real], layer=2)
        real = real.numpy()
        pairs = real[1:] & real[:-1]
        np.testing.assert_array_equal(together.between_tokens[row, pairs], alone.between_tokens[0])
        np.testing.assert_array_equal(together.around_tokens[row, real], alone.around_tokens[0])
        assert (together.between_tokens[row, ~pairs] == -1).all()
        assert (together.around_tokens[row, ~real] == -1).all()


def test_blocks_do_not_show(monkeypatch):
    from geolib.dimension import gates

    model, ids = tiny("llama"), tokens(3, 20)
    whole = gate_regions(model, ids, layer=1)
    monkeypatch.setattr(gates, "_BLOCK", 7 * 48)
    parts = gate_regions(model, ids, layer=1)
    np.testing.assert_array_equal(parts.between_tokens, whole.between_tokens)
    np.testing.assert_array_equal(parts.around_tokens, whole.around_tokens)


def test_segments_meet_as_many_regions_as_a_relu_layer_would_make():
    model, ids = tiny("llama", {"mlp_bias": True}), tokens(1, 12)
    gate = model.model.layers[0].mlp.gate_proj
    network = ReluNetwork([gate.weight.detach().double()], [gate.bias.detach().double()])
    x = seen(model, gate, ids)[0].double().numpy()
    expected = [line_partition(network, *ends).n_regions for ends in pairwise(x)]
    assert gate_regions(model, ids, layer=0).between_tokens[0].tolist() == expected


def test_further_neighbours_cross_all_that_nearer_ones_do():
    model, ids = tiny("qwen2"), tokens(2, 10)
    counts = [gate_regions(model, ids, layer=-1, radius=r).around_tokens for r in (1e-9, 0.1, 1, 10, 1e6)]
    assert (counts[0] == 1).all()
    for nearer, further in pairwise(counts):
        assert (nearer <= further).all()
        assert (nearer < further).any()
    assert counts[-1].max() <= 1 + 48


def test_gates_that_change_at_one_point_are_counted_each():
    """From x to -x every gate without a bias changes, at the origin: as many gates as there are, and two regions."""
    model, ids = tiny("llama"), tokens(1, 1)
    gate = model.model.layers[0].mlp.gate_proj
    x = seen(model, gate, ids)[0, 0]
    counted, _ = _count(torch.stack([x, -x]), gate.weight.detach(), torch.zeros(48), torch.zeros(1, 48))
    assert counted.tolist() == [49, 1]
    network = ReluNetwork([gate.weight.detach().double()], [np.zeros(48)])
    assert line_partition(network, x.double().numpy(), -x.double().numpy()).n_regions == 2


# --- What isotropic gates would give -----------------------------------------------------------------------------


def test_isotropic_gates_by_hand():
    x = np.array([3.0, 0, 0])
    ends = [[1, 0, 0], [1, 1, 0], [0, 0, 5], [-1, np.sqrt(3), 0], [-2, 0, 0]]
    np.testing.assert_allclose(isotropic_gates(x, ends, 12), [0, 3, 6, 8, 12], atol=1e-12)
    assert isotropic_gates(x, [1, 1e-9, 0], 1) == pytest.approx(1e-9 / np.pi, rel=1e-12)  # arccos would give 0
    assert isotropic_gates([1e300, 1e300], [0, 1e-300], 4) == pytest.approx(1)
    assert isotropic_gates(np.ones((4, 1, 2)), np.ones((3, 2)), 5).shape == (4, 3)


@settings(max_examples=40, deadline=None)
@given(dim=st.integers(2, 6), seed=st.integers(0, 99))
def test_isotropic_gates_are_what_random_gates_give(dim, seed):
    rng = np.random.default_rng(seed)
    x, y, normals = rng.standard_normal(dim), rng.standard_normal(dim), rng.standard_normal((20_000, dim))
    counted = ((normals @ x > 0) != (normals @ y > 0)).sum()
    expected = isotropic_gates(x, y, len(normals))
    deviation = np.sqrt(expected * (1 - expected / len(normals)))  # of a binomial number
    assert abs(counted - expected) < 5 * deviation + 1
    assert expected == pytest.approx(isotropic_gates(7 * y, 0.1 * x, len(normals)), rel=1e-12)


def test_isotropic_gates_around_in_closed_form():
    def mean_angle(radius, width):
        return np.pi * isotropic_gates_around(radius, n_gates=1, width=width)

    for radius in (1e-6, 0.1, 0.9):
        assert mean_angle(radius, 3) == pytest.approx(np.pi * radius / 4, rel=1e-6)
        chi = sum(radius**k / k**2 for k in range(1, 400, 2))  # Legendre's chi function
        assert mean_angle(radius, 2) == pytest.approx(2 / np.pi * chi, rel=1e-6)
        for width in (2, 3, 10, 576):  # the angles seen from both ends of a segment add up to that of the direction
            assert mean_angle(radius, width) + mean_angle(1 / radius, width) == pytest.approx(np.pi / 2, rel=1e-6)
        assert mean_angle(radius, 10**6) == pytest.approx(np.arctan(radius), rel=1e-5)
    assert mean_angle(1, 7) == pytest.approx(np.pi / 4, rel=1e-9)


@pytest.mark.parametrize(("radius", "width"), [(0.1, 32), (0.7, 5), (2, 3)])
def test_isotropic_gates_around_is_the_mean_over_directions(radius, width):
    x = np.arange(1.0, 1 + width)
    around = x + radius * np.linalg.norm(x) * units(20_000, width).double().numpy()
    found = isotropic_gates(x, around, 1536)
    expected = isotropic_gates_around(radius, n_gates=1536, width=width)
    assert abs(found.mean() - expected) < 5 * found.std() / np.sqrt(len(found))


def test_a_model_of_random_gates_counts_what_isotropic_gates_predict():
    """The null model against `gate_regions` itself, in a model whose gates are drawn from a normal distribution."""
    model, ids = tiny("llama", {"intermediate_size": 4096}), tokens(1, 9)
    gate = model.model.layers[1].mlp.gate_proj
    torch.nn.init.normal_(gate.weight, generator=torch.Generator().manual_seed(0))
    regions = gate_regions(model, ids, layer=1, n_neighbours=64)
    x = seen(model, gate, ids)[0].numpy()
    expected = isotropic_gates(x[:-1], x[1:], 4096)
    assert (abs(regions.between_tokens[0] - 1 - expected) < 5 * np.sqrt(expected)).all()
    expected = isotropic_gates_around(0.1, n_gates=4096, width=x.shape[1])
    assert abs(regions.around_tokens.mean() - 1 - expected) < 0.05 * expected


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: isotropic_gates([[1, 2], [0, 0]], [1, 2], 3),
            ValueError,
            "isotropic_gates: start holds a vector of z",
        ),
        (
            lambda: isotropic_gates([1, 2], [0, 0], 3),
            ValueError,
            "isotropic_gates: end holds a vector of zeros, but",
        ),
        (
            lambda: isotropic_gates([1, 2], 5.0, 3),
            ValueError,
            "isotropic_gates: end is 5.0, but vectors with a direction",
        ),
        (lambda: isotropic_gates([1, 2], [], 3), ValueError, "isotropic_gates: end holds a vector of zeros"),
        (
            lambda: isotropic_gates([1, 2], [1, 2, 3], 3),
            ValueError,
            "isotropic_gates: end has width 3, but 2, as",
        ),
        (lambda: isotropic_gates([1, np.nan], [1, 2], 3), ValueError, "isotropic_gates: start holds nan"),
        (lambda: isotropic_gates("x", [1, 2], 3), TypeError, "isotropic_gates: start is 'x', but an array of real"),
        (lambda: isotropic_gates([1, 2], [1, 2], 0), ValueError, "isotropic_gates: n_gates is 0, but 1 to 10"),
        (
            lambda: isotropic_gates_around(0, n_gates=3, width=4),
            ValueError,
            "isotropic_gates_around: radius is 0",
        ),
        (
            lambda: isotropic_gates_around(1, n_gates=0, width=4),
            ValueError,
            "isotropic_gates_around: n_gates is 0,",
        ),
        (
            lambda: isotropic_gates_around(1, n_gates=3, width=1),
            ValueError,
            "isotropic_gates_around: width is 1",
        ),
        (
            lambda: isotropic_gates_around(1, n_gates=3, width=2.5),
            TypeError,
            "isotropic_gates_around: width is 2.5",
        ),
    ],
)
def test_wrong_arguments_of_the_null_model_are_named(call, error, message):
    with pytest.raises(error, match=f"^{message}") as info:
        call()
    assert "\n" not in str(info.value)


def test_the_seed_draws_the_directions_and_nothing_else():
    model, ids = tiny("llama"), tokens(1, 10)
    state = torch.get_rng_state()
    first, again, other = (gate_regions(model, ids, layer=1, radius=1, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(first.around_tokens, again.around_tokens)
    assert (first.around_tokens != other.around_tokens).any()
    np.testing.assert_array_equal(first.between_tokens, other.between_tokens)


def test_equal_tokens_lie_in_one_region():
    # Without attention, an MLP's input depends on its own token alone.
    model = tiny("llama")
    for block in model.model.layers:
        torch.nn.init.zeros_(block.self_attn.o_proj.weight)
    between = gate_regions(model, [[5, 5, 9, 9, 9, 5]], layer=1).between_tokens[0]
    assert between[[0, 2, 3]].tolist() == [1, 1, 1]
    assert between[1] == between[4] > 1


def test_the_layer_is_counted_from_either_end():
    model, ids = tiny("llama"), tokens(1, 10)
    last = gate_regions(model, ids, layer=-1)
    assert last.layer == 2
    np.testing.assert_array_equal(last.between_tokens, gate_regions(model, ids, layer=2).between_tokens)
    assert (last.between_tokens != gate_regions(model, ids, layer=0).between_tokens).any()
    assert gate_regions(model, [3], layer=0).between_tokens.shape == (1, 0)


def test_several_layers_are_one_pass():
    model, ids = tiny("qwen2"), tokens(2, 8)
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    passes = []
    hook = model.model.layers[0].register_forward_pre_hook(lambda *_: passes.append(1))
    together = gate_regions(model, ids, mask, layer=[-1, 0, 2], radius=0.5)
    assert len(passes) == 1
    hook.remove()
    assert [one.layer for one in together] == [2, 0, 2]
    for one in together:
        alone = gate_regions(model, ids, mask, layer=one.layer, radius=0.5)
        np.testing.assert_array_equal(one.between_tokens, alone.between_tokens)
        np.testing.assert_array_equal(one.around_tokens, alone.around_tokens)
    assert (together[0].around_tokens != together[1].around_tokens).any()
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("kind", COVERED)
def test_hyperplanes_are_where_the_gate_is_0(kind):
    extra, layers, projection, activation = COVERED[kind]
    model, ids = tiny(kind, extra), tokens(1, 5)
    block = model.base_model.get_submodule(layers)[2]
    normals, offsets = gate_hyperplanes(model, layer=-1)
    x = seen(model, block.get_submodule(projection), ids).numpy()
    gates = seen(model, block.get_submodule(activation), ids).numpy()
    assert normals.shape == (gates.shape[-1], 32)
    np.testing.assert_allclose(x @ normals.T + offsets, gates, atol=1e-4)


def test_bfloat16_gates_are_taken_in_float32():
    model, ids = tiny("llama").to(torch.bfloat16), tokens(2, 30)
    gate = model.model.layers[2].mlp.gate_proj
    z = seen(model, gate, ids) @ gate.weight.detach().float().T
    regions = gate_regions(model, ids, layer=2)
    assert_counts(regions.between_tokens, z[:, :-1], z[:, 1:])
    assert regions.radius == 0.1


def test_the_real_model(model, tokenizer):
    prompts = ["Natalia sold clips to 48 of her friends in April.", "Two and two are four."]
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    regions = gate_regions(model, **batch, layer=7)
    assert regions.n_gates == 1536
    real = batch.attention_mask.bool().numpy()
    assert ((regions.around_tokens > 0) == real[..., None]).all()
    gates = seen(model, model.model.layers[7].mlp.act_fn, batch.input_ids[:1])
    assert real[0].all()
    assert_counts(regions.between_tokens[:1], gates[:, :-1], gates[:, 1:])
    # Neighbours at a tenth of the norm cross some hyperplanes, and fewer than the step to the next token does.
    assert 1 < np.median(regions.around_tokens[real]) < np.median(regions.between_tokens[0])


def test_model_leaves_as_it_entered():
    model, ids = tiny("phi", {"hidden_dropout": 0.5}), tokens(1, 8)
    with torch.no_grad():
        before = model(ids).logits
    model.train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]

    def check():
        assert [module.training for module in model.modules()] == modes
        assert not any(module._forward_pre_hooks for module in model.modules())

    gate_regions(model, ids, layer=1)
    check()
    broken = model.model.layers[0].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gate_regions(model, ids, layer=1)
    broken.remove()
    check()
    with torch.no_grad():
        assert torch.equal(model.eval()(ids).logits, before)


def test_adapters_are_read_with_the_model():
    """The gate is the model's own; what goes into it, the adapter has changed."""
    model, ids = tiny("gpt2", COVERED["gpt2"][0]), tokens(2, 8)
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    bare = gate_regions(model, ids, mask, layer=2)
    config = LoraConfig(r=4, target_modules=["c_attn"], init_lora_weights=False, task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(model, config).eval()
    regions = gate_regions(model, ids, mask, layer=2)
    assert (regions.between_tokens != bare.between_tokens).any()
    assert gate_names(model)[2].endswith("transformer.h.2.mlp.c_fc")
    gates = seen(model, model.get_submodule("base_model.model.transformer.h.2.mlp.act"), ids[1:, 3:])
    assert_counts(regions.between_tokens[1:, 3:], gates[:, :-1], gates[:, 1:])
    with model.disable_adapter():
        np.testing.assert_array_equal(gate_regions(model, ids, mask, layer=2).around_tokens, bare.around_tokens)


# --- Errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_covered_is_refused_by_name(kind):
    extra, reason = REFUSED[kind]
    with pytest.raises(
        ValueError,
        match=rf"^gate_regions: model is a \w+, whose layer 1 {reason}, but one MLP with a known gate was expected$",
    ):
        gate_regions(tiny(kind, extra), [[3, 4, 5]], layer=1)


def test_halves_of_unknown_order_are_refused():
    model = tiny("phi3", COVERED["phi3"][0])
    model.config.model_type = "phi5"
    with pytest.raises(ValueError, match="whose layer 0 has a gate in an unknown half of gate_up_proj"):
        gate_regions(model, [[3, 4]], layer=0)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8])
def test_weights_that_a_scale_belongs_to_are_refused(dtype):
    """Eight bits, floating-point or not: the numbers that the gate multiplies by are others."""
    model = tiny("llama")
    weight = model.model.layers[0].mlp.gate_proj.weight
    model.model.layers[0].mlp.gate_proj.weight = torch.nn.Parameter(weight.detach().to(dtype), requires_grad=False)
    with pytest.raises(ValueError, match=rf"whose layer 0 has weights of type {dtype}, but one MLP with a known"):
        gate_hyperplanes(model, layer=0)


def test_a_gate_that_computes_something_else_is_refused():
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = tiny("llama")
    model.model.layers[1].mlp.gate_proj = Doubled(32, 48)
    with pytest.raises(
        ValueError, match="layer 1 has a Doubled, which may compute something else than its weights say"
    ):
        gate_regions(model, [[3, 4]], layer=1)


def test_nan_is_no_count():
    model = tiny("llama")
    model.model.layers[1].self_attn.o_proj.weight.data[0, 0] = torch.nan
    assert gate_regions(model, [[3, 4, 5]], layer=0).between_tokens.min() > 0
    with pytest.raises(
        ValueError, match=r"^gate_regions: model gives NaN or infinite values before the MLP of layer 1"
    ):
        gate_regions(model, [[3, 4, 5]], layer=1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 3}, TypeError, "model is a int, but a transformers model was expected"),
        ({"input_ids": []}, ValueError, r"input_ids has shape \(1, 0\), but \[batch"),
        ({"input_ids": torch.empty(1, 0, dtype=torch.long)}, ValueError, r"input_ids has shape \(1, 0\), but \[batch"),
        ({"input_ids": [[[3]]]}, ValueError, r"input_ids has shape \(1, 1, 1\), but \[batch"),
        ({"input_ids": [[1.5, 2]]}, TypeError, "input_ids has type torch.float32, but integers were expected"),
        ({"input_ids": "three words"}, TypeError, "input_ids is 'three words', but integers of shape"),
        ({"input_ids": [[3, 64]]}, ValueError, "input_ids has ids 3 to 64, but 0 to 63 was expected"),
        ({"input_ids": [[-1, 4]]}, ValueError, "input_ids has ids -1 to 4"),
        (
            {"input_ids": [[3] * 257]},
            ValueError,
            "input_ids has 257 tokens, but at most 256, the model's window, was expected",
        ),
        ({"attention_mask": [[1, 1]]}, ValueError, r"attention_mask has shape \(1, 2\), but .*1, 4.* was expected"),
        (
            {"attention_mask": [[0] * 4]},
            ValueError,
            "attention_mask holds numbers other than 0 and 1, or a row of padding",
        ),
        ({"attention_mask": [[2] * 4]}, ValueError, "attention_mask holds numbers other than 0 and 1"),
        ({"layer": 3}, ValueError, "layer is 3, but -3 to 2 was expected"),
        ({"layer": -4}, ValueError, "layer is -4, but"),
        ({"layer": 1.0}, TypeError, "layer is 1.0, but an integer was expected"),
        ({"layer": True}, TypeError, "layer is True, but an integer was expected"),
        ({"layer": []}, ValueError, "layer is empty, but at least one was expected"),
        ({"layer": [0, 3]}, ValueError, "layer is 3, but -3 to 2 was expected"),
        ({"layer": "last"}, TypeError, "layer is 'last', but an integer was expected"),
        ({"radius": 0}, ValueError, "radius is 0, but a number above 0 was expected"),
        ({"radius": True}, ValueError, "radius is True, but a number above 0 was expected"),
        ({"radius": np.True_}, ValueError, "radius is .*True.*, but a number above 0 was expected"),
        ({"radius": float("nan")}, ValueError, "radius holds nan, but finite"),
        ({"radius": float("inf")}, ValueError, "radius holds inf, but finite"),
        ({"radius": "wide"}, TypeError, "radius is 'wide', but a number above 0 was expected"),
        ({"n_neighbours": 0}, ValueError, "n_neighbours is 0, but at least 1 was expected"),
        ({"n_neighbours": 2.5}, TypeError, "n_neighbours is 2.5, but an integer was expected"),
        ({"seed": -1}, ValueError, "seed is -1, but at least 0 was expected"),
        ({"seed": None}, TypeError, "seed is None, but an integer was expected"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=rf"^gate_regions: {message}") as info:
        gate_regions(**{"model": tiny("llama"), "input_ids": [[3, 4, 5, 6]], "layer": 1} | arguments)
    assert "\n" not in str(info.value)


def test_wrong_arguments_of_the_others_are_named():
    with pytest.raises(TypeError, match=r"^gate_hyperplanes: model is a int, but a transformers model was expected$"):
        gate_hyperplanes(3, layer=0)
    with pytest.raises(ValueError, match=r"^gate_hyperplanes: layer is 3, but -3 to 2 was expected$"):
        gate_hyperplanes(tiny("llama"), layer=3)
    with pytest.raises(TypeError, match=r"^gate_hyperplanes: layer is \[0, 1\], but an integer was expected$"):
        gate_hyperplanes(tiny("llama"), layer=[0, 1])
    with pytest.raises(ValueError, match=r"^gate_hyperplanes: model is a Mixtral\w+, whose layer 1 is a mixture"):
        gate_hyperplanes(tiny("mixtral", {"num_local_experts": 2}), layer=1)


def test_an_encoder_with_a_decoder_is_refused():
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(T5Config(vocab_size=64, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2))
    with pytest.raises(ValueError, match=r"^gate_regions: model is a T5\w+, but a causal language model was expected$"):
        gate_regions(model, [[3, 4]], layer=0)


def test_a_vision_tower_as_deep_as_the_language_model_is_not_it():
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "image_size": 8, "patch_size": 4}
    vision |= {"num_hidden_layers": TINY["num_hidden_layers"]}
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config=TINY, vision_config=vision, mm_tokens_per_image=4, image_token_index=63, boi_token_index=62,
            eoi_token_index=61,
        )
    ).eval()  # fmt: skip
    layers = model.model.language_model.layers
    assert list(find_blocks(model)) == list(layers)
    assert gate_names(model) == [f"model.language_model.layers.{i}.mlp.gate_proj" for i in range(3)]
    normals, _ = gate_hyperplanes(model, layer=1)
    np.testing.assert_array_equal(normals, layers[1].mlp.gate_proj.weight.detach())
    decoder = SharedPrefix(model, (0.1,), watched=[model.get_submodule(name) for name in gate_names(model)])
    (answer,) = decoder.answer([5, 6], [[7, 8]], max_new_tokens=2, ends=())
    signs = np.unpackbits(answer.signs)[: 3 * 48].reshape(3, 48)
    expected = [seen(model, layer.mlp.act_fn, torch.tensor([[5, 6, 7, 8]]))[0, -1] > 0 for layer in layers]
    np.testing.assert_array_equal(signs, np.stack(expected))


# --- The MLP, neuron by neuron ------------------------------------------------------------------------------------


def readout_of(block, kind):
    names = {"gpt2": "mlp.c_proj", "opt": "fc2", "gpt_neox": "mlp.dense_4h_to_h", "phi": "mlp.fc2"}
    names |= {"starcoder2": "mlp.c_proj", "gptj": "mlp.fc_out"}
    return block.get_submodule(names.get(kind, "mlp.down_proj"))


@pytest.mark.parametrize("kind", COVERED)
def test_parts_make_the_output_of_the_mlp(kind):
    """With its own activation, what leaves the readout; with another one, what leaves it in a model that has that."""
    extra, layers, projection, activation = COVERED[kind]
    model, ids = tiny(kind, extra), tokens(1, 9)
    block = model.base_model.get_submodule(layers)[1]
    parts, left = mlp_parts(model, ids, layer=1), []
    readout = readout_of(block, kind)
    hook = readout.register_forward_hook(lambda module, args, result: left.append(result.reshape(9, -1)))
    x = seen(model, block.get_submodule(projection), ids)[0]
    np.testing.assert_allclose(parts.output(), left[0], atol=1e-4)
    np.testing.assert_allclose(parts.gates, seen(model, block.get_submodule(activation), ids)[0], atol=1e-4)
    owner, _, name = activation.rpartition(".")
    setattr(block.get_submodule(owner) if owner else block, name, torch.nn.Softplus())
    with torch.no_grad():
        model(ids)
    assert torch.equal(x, seen(model, block.get_submodule(projection), ids)[0]), "the layer before has not changed"
    np.testing.assert_allclose(parts.output(lambda z: np.log1p(np.exp(z))), left[-1], atol=1e-4)
    gated = kind not in ("gpt2", "opt", "gpt_neox", "phi", "starcoder2", "gptj", "nemotron")
    assert (parts.factors == 1).all() == (not gated)
    hook.remove()


def with_relu(kind, **extra):
    model = tiny(kind, COVERED[kind][0] | {"hidden_act": "relu"} | extra)
    return mlp_parts(model, tokens(1, 12), layer=2)


def test_with_relu_nothing_is_lost_by_relu():
    for kind in ("llama", "starcoder2", "opt"):
        parts = with_relu(kind)
        assert (parts.error(relu) == 0).all()
        np.testing.assert_allclose(parts.fit(np.abs, lambda z: z), [0.5, 0.5], atol=1e-5)
        assert parts.error(lambda z: z / 2).min() > 0.1


def test_a_gated_mlp_with_relu_is_quadratic_along_rays_and_a_plain_one_linear():
    """Without biases no gate changes sign along a ray, so that a piecewise affine function would at most double."""
    reglu = with_relu("llama", mlp_bias=False)
    doubled = replace(reglu, gates=2 * reglu.gates, factors=2 * reglu.factors)
    np.testing.assert_array_equal(doubled.output(), 4 * reglu.output())
    plain = with_relu("starcoder2")
    doubled = replace(plain, gates=2 * plain.gates)
    np.testing.assert_allclose(doubled.output() - plain.offset, 2 * (plain.output() - plain.offset), atol=1e-4)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_relu_is_as_near_as_the_bound_says(activation):
    """The largest |SiLU - ReLU| is z - 1 where (z - 1) e^z = 1: W(1/e), at 1 more."""
    act = {"silu": torch.nn.functional.silu, "gelu": torch.nn.functional.gelu}[activation]
    z = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
    most = (act(z) - z.clamp(min=0)).abs().max().item()
    if activation == "silu":
        assert most == pytest.approx(lambertw(1 / np.e).real, abs=1e-9)
    parts = mlp_parts(tiny("llama", {"hidden_act": activation}), tokens(1, 12), layer=1)
    apart = np.linalg.norm(parts.output() - parts.output(relu), axis=1)
    bound = most * np.abs(parts.factors) @ np.linalg.norm(parts.readout, axis=0)
    assert (apart <= bound).all()
    np.testing.assert_allclose(parts.error(relu), apart / np.linalg.norm(parts.output(), axis=1), rtol=1e-6)


def test_the_fit_is_that_of_least_squares_and_finds_the_activation():
    parts = mlp_parts(tiny("llama"), tokens(1, 20), layer=1)
    np.testing.assert_allclose(parts.fit(parts.activation, np.abs), [1, 0], atol=1e-5)
    best = parts.fit(lambda z: z, np.square)

    def loss(a, b):
        return (parts.error(lambda z: a * z + b * z**2) ** 2).sum()

    assert all(loss(*best) < loss(*(best + step)) for step in 0.01 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]))


def test_parts_of_several_layers_are_one_pass_and_leave_tokens_out():
    model, ids = tiny("gemma3_text"), tokens(1, 10)
    together = mlp_parts(model, ids[0], layer=[-1, 0], skip=4)
    assert [one.layer for one in together] == [2, 0]
    for one in together:
        alone = mlp_parts(model, ids, layer=one.layer)
        assert alone.gates.shape == (10, 48)
        np.testing.assert_array_equal(one.output(), alone.output()[4:])
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_parts_in_bfloat16_are_float32():
    parts = mlp_parts(tiny("llama").to(torch.bfloat16), tokens(1, 10), layer=1)
    assert {part.dtype for part in (parts.gates, parts.factors, parts.readout, parts.offset)} == {np.dtype(np.float32)}


def test_an_mlp_of_another_form_is_refused():
    expected = r"does not read out its activation times one linear map, but an MLP of a known form was expected$"

    model = tiny("llama")
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x: mlp.down_proj(mlp.act_fn(mlp.gate_proj(x)).clamp(max=0.1) * mlp.up_proj(x))
    with pytest.raises(ValueError, match=rf"^mlp_parts: model is a Llama\w+, whose layer 1 {expected}"):
        mlp_parts(model, [3, 4, 5], layer=1)
    mlp.gating = mlp.act_fn  # right, and under a name that is not known
    mlp.forward = lambda x: mlp.down_proj(mlp.gating(mlp.gate_proj(x)) * mlp.up_proj(x))
    del mlp.act_fn
    with pytest.raises(ValueError, match=rf"^mlp_parts: model is a Llama\w+, whose layer 1 {expected}"):
        mlp_parts(model, [3, 4, 5], layer=1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 3}, TypeError, "model is a int, but a transformers model was expected"),
        ({"input_ids": [[3, 4], [5, 6]]}, ValueError, "input_ids holds 2 prompts, but one was expected"),
        ({"layer": 3}, ValueError, "layer is 3, but -3 to 2 was expected"),
        ({"skip": 4}, ValueError, "skip is 4, but 0 to 3 was expected"),
        ({"skip": 1.0}, TypeError, "skip is 1.0, but an integer was expected"),
    ],
)
def test_wrong_arguments_of_parts_are_named(arguments, error, message):
    with pytest.raises(error, match=rf"^mlp_parts: {message}$"):
        mlp_parts(**{"model": tiny("llama"), "input_ids": [3, 4, 5, 6], "layer": 1} | arguments)


@pytest.mark.parametrize("name", ["up_proj", "down_proj"])
def test_every_map_of_the_mlp_must_be_what_its_weights_say(name):
    """The gate alone decides for the signs; the output needs all three."""
    model = tiny("llama")
    weight = getattr(model.model.layers[0].mlp, name).weight
    getattr(model.model.layers[0].mlp, name).weight = torch.nn.Parameter(weight.to(torch.int8), requires_grad=False)
    assert gate_hyperplanes(model, layer=0)[0].shape == (48, 32)
    with pytest.raises(ValueError, match=r"^mlp_parts: .*whose layer 0 has weights of type torch.int8"):
        mlp_parts(model, [3, 4], layer=0)


def test_nan_is_no_output():
    model = tiny("llama")
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"^mlp_parts: model gives NaN or infinite values in the MLP of layer 1, but"):
        mlp_parts(model, [3, 4, 5], layer=1)


def test_the_published_table_is_what_the_script_measures():
    """Its numbers are the model's, which is not fetched here; its columns, and what they are, are the script's."""
    root = Path(__file__).parents[2]
    measured = runpy.run_path(str(root / "benchmarks" / "gates.py"))["measured"]
    parts = mlp_parts(tiny("gemma3_text"), tokens(1, 12), layer=1)
    row = measured(parts)
    bent = parts.error(lambda z: z / 2 + z**2 / np.sqrt(2 * np.pi))  # GELU to second order
    expected = {"ReLU": parts.error(relu), "parabola": bent, "gate": np.abs(parts.gates)}
    for name, values in expected.items():
        assert row[name] == pytest.approx(np.median(values), rel=2e-3, abs=1e-4), name
    rows = json.loads((root / "book" / "results" / "gates.json").read_text())["rows"]
    assert all(set(one) == {"prompt", "layer", *row} for one in rows)
    assert {(one["prompt"], one["layer"]) for one in rows} == {(p, k) for p in range(12) for k in range(1, 19)}
    assert len(rows) == 12 * 18


@pytest.mark.parametrize("radius", [1e39, 1e300])
def test_a_radius_beyond_float32_is_refused(radius):
    with pytest.raises(ValueError, match=r"^gate_regions: radius is 1e\+\d+, but neighbours that float32 holds were"):
        gate_regions(tiny("llama"), tokens(1, 5), layer=1, radius=radius)


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "uint8"])
def test_narrow_ids_are_ids(kind):
    """Also in a model with more ids than the type holds."""
    model, ids = tiny("llama", {"vocab_size": 300}), tokens(1, 5)
    expected = gate_regions(model, ids, layer=1).between_tokens
    for narrow in (ids.numpy().astype(kind), ids.to(getattr(torch, kind))):
        mask = np.ones((1, 5), kind)
        np.testing.assert_array_equal(gate_regions(model, narrow, mask, layer=1).between_tokens, expected)


def test_what_is_no_model_has_no_gates():
    with pytest.raises(TypeError, match=r"^gate_names: model is a NoneType, but a transformers model was expected$"):
        gate_names(None)


def test_isotropic_gates_around_in_any_width():
    for radius in (0.1, 2.0):
        one, more = (isotropic_gates_around(radius, n_gates=1, width=10**7 + k) for k in (0, 1))
        assert one == pytest.approx(more, rel=1e-13)  # on both sides of where the method changes
        far = isotropic_gates_around(radius, n_gates=1, width=10**400)
        assert far == pytest.approx(np.arctan(radius) / np.pi, rel=1e-15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: isotropic_gates(np.ones((3, 2)), np.ones((4, 2)), 5), r"isotropic_gates: end has shape \(4, 2\), but"),
        (lambda: isotropic_gates([1], [1], 10**400), r"isotropic_gates: n_gates is 10*\.\.\., but 1 to 10* was exp"),
        (
            lambda: isotropic_gates_around(1, n_gates=10**5000, width=2),
            "isotropic_gates_around: n_gates is too long a value of type int, but 1 to 10* was",
        ),
    ],
)
def test_wrong_sizes_of_the_null_model_are_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


@pytest.mark.parametrize(
    ("activation", "error", "message"),
    [
        (lambda z: 1.0, ValueError, r"'s value has shape \(\), but \(5, 48\), as the gates, was expected"),
        (lambda z: z[:1], ValueError, r"'s value has shape \(1, 48\), but"),
        (lambda z: z * np.nan, ValueError, r"'s value holds nan at \(0, 0\), but finite"),
        (lambda z: z + 0j, TypeError, "'s value is array.*, but an array of real numbers"),
        (lambda z: None, TypeError, "'s value is None, but"),
        (lambda: 0, TypeError, " raises TypeError .*, but a function from NumPy array to array was expected"),
        ("relu", TypeError, " is 'relu', but a function of arrays was expected"),
    ],
)
def test_what_is_no_activation_is_named(activation, error, message):
    parts = mlp_parts(tiny("llama"), tokens(1, 5), layer=1)
    calls = {
        "output: activation": parts.output,
        "error: activation": parts.error,
        r"fit: functions\[1\]": lambda one: parts.fit(np.abs, one),
    }
    for name, call in calls.items():
        with pytest.raises(error, match=f"^MlpParts.{name}{message}") as info:
            call(activation)
        assert "\n" not in str(info.value)


def test_what_has_no_relative_error_is_named():
    parts = mlp_parts(tiny("llama"), tokens(1, 5), layer=1)
    with pytest.raises(ValueError, match=r"^MlpParts.fit: functions is empty, but at least one was expected$"):
        parts.fit()
    nothing, expected = replace(parts, factors=0 * parts.factors, offset=0 * parts.offset), "but a norm above 0 was"
    for name in ("error", "fit"):
        with pytest.raises(ValueError, match=rf"^MlpParts.{name}: output of token 0 is 0, {expected} expected$"):
            getattr(nothing, name)(np.abs)


def test_an_activation_may_write_where_it_reads_and_be_large():
    parts = mlp_parts(tiny("llama"), tokens(1, 5), layer=1)
    np.testing.assert_array_equal(parts.error(lambda z: np.maximum(z, 0, out=z)), parts.error(relu))
    assert (parts.error(lambda z: 1e30 * z) > 1e28).all()  # squares of this overflow in float32
