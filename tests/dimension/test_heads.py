"""attention_heads: what it takes out of a layer is what the layer did, in whatever architecture, or it is refused."""

import numpy as np
import pytest
import torch
from tiny import TINY
from transformers import AutoConfig, AutoModelForCausalLM

from geolib.dimension import attention_heads, minkowski_check, token_dimension

GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
COVERED = {
    "llama": {},
    "mistral": {"sliding_window": 5},
    "qwen2": {},
    "gemma2": {"sliding_window": 5},
    "gemma3_text": {"sliding_window": 5},
    "gpt2": GPT2,
    "gpt_neox": {},
    "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi": {},
    "phi3": {"original_max_position_embeddings": 256},
    "olmo2": {},
    "cohere": {},
    "deepseek_v3": {  # values and keys of different size
        "num_key_value_heads": 4,
        "head_dim": 4,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 6,
        "q_lora_rank": 8,
        "kv_lora_rank": 12,
        "n_routed_experts": 2,
        "n_group": 1,
        "topk_group": 1,
        "num_experts_per_tok": 1,
    },
}
REFUSED = {
    "bitnet": ({}, "hands the unchanged attention of layer 0 to BitNetRMSNorm"),
    "diffllama": ({}, "hands the unchanged attention of layer 0 to no module"),
    "bloom": ({"n_layer": 3, "n_head": 4}, "does not route its attention"),
    "mamba": ({"state_size": 4}, "does not route its attention"),
}
IDS = torch.randint(3, 64, (1, 20), generator=torch.Generator().manual_seed(1))


def tiny(kind, extra):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(TINY | extra))).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "sinks")):  # zeros, or not even that, as they are made
            torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("kind", COVERED)
def test_rows_lie_in_their_minkowski_sum(kind):
    model = tiny(kind, COVERED[kind])
    for heads in attention_heads(model, IDS, layer=[0, 2]):
        check = minkowski_check(heads, eps=1e-6)
        assert check.residual.max() < 2e-6
        assert check.smallest_weight >= 0
        assert heads.sinks == (kind == "gpt_oss")
        if heads.sinks:
            assert 0 < check.weight_sum.min() < 0.5
            assert check.weight_sum.max() < 1 + 1e-6
        else:
            np.testing.assert_allclose(check.weight_sum, 1, atol=1e-6)
        assert np.isfinite(check.cut_residual).all()
        dimension = token_dimension(heads, 3)  # inside every window
        assert dimension.paper_bound == 4 * 4
        assert dimension.rank == dimension.bound == 4 * (4 if heads.sinks else 3)


def test_grouped_heads_against_a_loop():
    model = tiny("llama", {})
    heads = attention_heads(model, IDS, layer=1)
    layer = model.model.layers[1]
    with torch.no_grad():
        states = model.model(IDS, output_hidden_states=True).hidden_states[1]
        x = layer.input_layernorm(states)[0]
        values = x @ layer.self_attn.v_proj.weight.T  # two key-value heads of size 8
        expected = layer.self_attn.o_proj.weight
        for head in range(4):
            group = head // 2
            np.testing.assert_allclose(heads.values[head], values[:, 8 * group : 8 * group + 8], atol=1e-5)
            np.testing.assert_array_equal(heads.out_proj[head], expected[:, 8 * head : 8 * head + 8].T)
    assert heads.bias.tolist() == [0.0] * 32


def test_the_output_is_the_modules_own():
    """Seen from outside: a hook on the attention module, on a pass that knows nothing of ours."""
    model = tiny("gpt2", GPT2)
    seen = []
    hook = model.transformer.h[2].attn.register_forward_hook(lambda *given: seen.append(given[2][0]))
    with torch.no_grad():
        model(IDS)
    hook.remove()
    heads = attention_heads(model, IDS, layer=-1)
    np.testing.assert_allclose(heads.output, seen[0][0].numpy(), atol=1e-4)
    assert np.abs(heads.bias).max() > 0.1


def test_a_bias_of_the_values_shifts_all_points_alike():
    """Weights sum to 1, so it adds a constant to the row and nothing to the dimension."""
    model = tiny("gpt2", GPT2)
    before = attention_heads(model, IDS, layer=0)
    shift = torch.linspace(-1, 1, 32)
    model.transformer.h[0].attn.c_attn.bias.data[64:] += shift  # queries, keys, values
    after = attention_heads(model, IDS, layer=0)
    moved = shift.numpy() @ np.concatenate(before.out_proj)
    np.testing.assert_allclose(after.output - before.output, np.tile(moved, (20, 1)), atol=1e-4)
    assert token_dimension(after, 5).rank == token_dimension(before, 5).rank == 20


def test_layers_in_the_order_asked_for():
    model = tiny("llama", {})
    several = attention_heads(model, IDS, layer=(2, 0, -2))
    assert [heads.layer for heads in several] == [2, 0, 1]
    for heads in several:
        alone = attention_heads(model, IDS[0], layer=heads.layer)  # with sdpa in the layers before
        np.testing.assert_allclose(heads.output, alone.output, atol=1e-4)
        np.testing.assert_allclose(heads.weights, alone.weights, atol=1e-4)


def test_bfloat16():
    heads = attention_heads(tiny("llama", {}).bfloat16(), IDS, layer=1)
    assert 1e-4 < minkowski_check(heads).residual.max() < 0.05


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_sum_over_heads_is_refused_by_name(kind):
    extra, reason = REFUSED[kind]
    model = tiny(kind, extra)
    before = model.config._attn_implementation
    with pytest.raises(ValueError, match=rf"^attention_heads: model is a \w+, which {reason}.*; expected") as info:
        attention_heads(model, IDS, layer=0)
    assert "\n" not in str(info.value)
    assert model.config._attn_implementation == before
    assert not any(module._forward_hooks for module in model.modules())


class Quantised(torch.nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.register_buffer("packed", linear.weight.detach())

    def forward(self, x):
        return x @ self.packed.T


class Adapted(torch.nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.base, self.low = linear, torch.nn.Linear(32, 32, bias=False)

    def forward(self, x):
        return self.base(x) + self.low(x)


class Doubled(torch.nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def doubled(linear):
    other = Doubled(32, 32, bias=False)
    other.weight.data.copy_(linear.weight)
    return other


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (Quantised, "hands the unchanged attention of layer 1 to Quantised"),
        (Adapted, "hands the unchanged attention of layer 1 to Linear, Linear"),
        (doubled, "computes more in the attention of layer 1 than weights times projected values"),
    ],
)
def test_other_output_projections_are_refused(change, reason):
    model = tiny("llama", {})
    attention = model.model.layers[1].self_attn
    attention.o_proj = change(attention.o_proj)
    attention_heads(model, IDS, layer=0)  # the others are as they were
    with pytest.raises(ValueError, match=rf"^attention_heads: model is a LlamaForCausalLM, which {reason}; expected"):
        attention_heads(model, IDS, layer=1)


def test_dropout_before_the_projection_is_passed_through():
    model = tiny("llama", {})
    attention = model.model.layers[1].self_attn
    attention.o_proj = torch.nn.Sequential(torch.nn.Dropout(0.5), attention.o_proj)
    assert minkowski_check(attention_heads(model.train(), IDS, layer=1)).residual.max() < 2e-6


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_model_leaves_as_it_entered(implementation):
    model = tiny("llama", {"attention_dropout": 0.5})
    model.set_attn_implementation(implementation)
    with torch.no_grad():
        before = model(IDS).logits
    model.train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    attention_heads(model, IDS, layer=1)
    model.model.layers[2].self_attn.v_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        attention_heads(model, IDS, layer=2)
    assert [module.training for module in model.modules()] == modes
    assert model.config._attn_implementation == implementation
    assert not any(module._forward_hooks for module in model.modules())
    model.model.layers[2].self_attn.v_proj.weight.data[0, 0] = 0
    fixed = tiny("llama", {"attention_dropout": 0.5})
    fixed.set_attn_implementation(implementation)
    fixed.model.layers[2].self_attn.v_proj.weight.data[0, 0] = 0
    with torch.no_grad():
        assert torch.equal(model.eval()(IDS).logits, fixed(IDS).logits)
        assert before.shape == (1, 20, 64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 3}, TypeError, "model is a int, but a transformers model was expected"),
        ({"input_ids": []}, ValueError, r"input_ids has shape \(1, 0\), but \[batch, tokens\] with at least one"),
        ({"input_ids": [[3, 4], [5, 6]]}, ValueError, r"input_ids holds 2 prompts, but one was expected"),
        ({"input_ids": [1.5]}, TypeError, "input_ids has type torch.float32, but integers were expected"),
        ({"input_ids": "three"}, TypeError, "input_ids is 'three', but integers of shape"),
        ({"input_ids": [3, 64]}, ValueError, "input_ids has ids 3 to 64, but 0 to 63 was expected"),
        (
            {"input_ids": [3] * 257},
            ValueError,
            "input_ids has 257 tokens, but at most 256, the model's window, was expected",
        ),
        ({"layer": 3}, ValueError, "layer is 3, but -3 to 2 was expected"),
        ({"layer": "last"}, TypeError, "layer is .*last.*, but an integer was expected"),
        ({"layer": True}, TypeError, "layer is .*True.*, but an integer was expected"),
        ({"layer": []}, ValueError, "layer is empty, but at least one was expected"),
    ],
)
def test_bad_input(arguments, error, message):
    given = {"model": tiny("llama", {}), "input_ids": IDS, "layer": 0} | arguments
    with pytest.raises(error, match=rf"^attention_heads: {message}") as info:
        attention_heads(**given)
    assert "\n" not in str(info.value)


def test_nan_is_no_attention():
    model = tiny("llama", {})
    model.model.layers[1].self_attn.v_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"^attention_heads: model gives NaN or infinite values in the attention of l"):
        attention_heads(model, IDS, layer=1)
    assert attention_heads(model, IDS, layer=0).layer == 0


def test_weights_of_another_shape_are_refused():
    heads = attention_heads(tiny("llama", {}), torch.arange(3, 9)[None], layer=1)
    weights, expected = heads.weights, r"but \(\d+, rows, 6\) was expected"
    assert heads.rows(weights[:, :2]).shape == (2, heads.output.shape[1])
    for wrong in (weights[:1], weights[0], weights[:, :, :3]):
        with pytest.raises(ValueError, match=rf"^AttentionHeads.rows: weights has shape .*, {expected}$"):
            heads.rows(wrong)
    with pytest.raises(ValueError, match=r"^AttentionHeads.rows: weights holds nan at \(0, 0, 0\), but finite numbers"):
        heads.rows(np.nan * weights)
    with pytest.raises(TypeError, match=r"^AttentionHeads.rows: weights is None, but an array of real numbers"):
        heads.rows(None)
