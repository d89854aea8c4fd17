"""attention_dimension against the eager maps that it never holds."""

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from eager import eager_maps
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TINY
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from geolib.dimension import attention_dimension, attention_edges, measuring

PROMPTS = [
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many friends did Natalia sell clips to in April?",
    "def fibonacci(n):\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)\n\nprint(fibonacci(10))",
    "Geometry is the art of correct reasoning from incorrectly drawn figures. " * 12,
]

COUNTED = {
    "llama": {},
    "mistral": {"sliding_window": 5},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "gemma3_text": {"sliding_window": 5},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256},
    "gpt_neox": {},
    "phi": {},
    "phi3": {},
    "olmo2": {},
    "granite": {"attention_multiplier": 0.5},
    "stablelm": {},
    "mixtral": {"num_local_experts": 2},
    "gemma2": {"sliding_window": 5, "attn_logit_softcapping": 2.0},
    "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 5},
}
REFUSED = {
    "bloom": ({"n_layer": 2, "n_head": 4}, "interface"),
    "diffllama": ({}, "two softmaxes"),
    "mamba": ({"state_size": 4}, "interface"),
}


def tiny(kind, extra):
    torch.manual_seed(0)
    settings = TINY | extra
    if kind == "phi3":
        settings |= {"original_max_position_embeddings": 256}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()


def eager_count(maps, eps, rule):
    """Counts, and which rows hold an entry so near its threshold that rounding decides."""
    threshold = eps if rule == "absolute" else eps * maps.amax(-1, keepdim=True)
    undecided = ((maps - threshold).abs() < 2e-5 * threshold).any(-1).numpy()
    return (maps > threshold).sum(-1).numpy(), undecided


def assert_equal_but_undecided(counts, expected, undecided):
    assert undecided.sum() <= max(1, 0.01 * undecided.size)
    np.testing.assert_array_equal(np.where(undecided, 0, counts), np.where(undecided, 0, expected))


@pytest.mark.parametrize("rule", ["absolute", "relative"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_equals_eager_on_the_real_model(model, tokenizer, prompt, rule):
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    eps = [0.1, 0.01]
    maps = eager_maps(model, ids)
    all_tokens = attention_dimension(model, ids, eps=eps, rule=rule, tokens="all")
    last = attention_dimension(model, ids, eps=eps, rule=rule)
    assert all_tokens.per_head.shape == (2, 1, 30, 9, ids.shape[1])
    assert last.per_head.shape == (2, 1, 30, 9, 1)
    for e, value in enumerate(eps):
        expected, undecided = eager_count(maps, value, rule)
        assert_equal_but_undecided(all_tokens.per_head[e], expected, undecided)
        assert_equal_but_undecided(last.per_head[e, ..., 0], expected[..., -1], undecided[..., -1])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", COUNTED)
def test_equals_eager_on_other_architectures(kind, side):
    model = tiny(kind, COUNTED[kind])
    ids = torch.randint(3, 64, (3, 150), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for row, padding in ((1, 7), (2, 140)):
        mask[row, slice(padding) if side == "left" else slice(150 - padding, None)] = 0
    real = mask.bool().numpy()
    last = [np.flatnonzero(row)[-1] for row in real]
    maps = eager_maps(model, ids, mask)
    for rule in ("absolute", "relative"):
        expected, undecided = eager_count(maps, 0.1, rule)
        everywhere = np.broadcast_to(real[:, None, None], expected.shape)
        measured = attention_dimension(model, ids, mask, rule=rule, tokens="all")
        assert (measured.per_head[~everywhere] == -1).all()
        assert_equal_but_undecided(
            np.where(everywhere, measured.per_head, 0),
            np.where(everywhere, expected, 0),
            undecided & everywhere,
        )
        measured = attention_dimension(model, ids, mask, rule=rule).per_head[..., 0]
        for row, at in enumerate(last):
            assert_equal_but_undecided(measured[row], expected[row, ..., at], undecided[row, ..., at])


@pytest.mark.parametrize("kind", COUNTED)
def test_without_padding_equals_a_mask_of_ones(kind):
    model = tiny(kind, COUNTED[kind])
    ids = torch.randint(3, 64, (2, 20), generator=torch.Generator().manual_seed(1))
    bare = attention_dimension(model, ids, tokens="all")
    masked = attention_dimension(model, ids, torch.ones_like(ids), tokens="all")
    np.testing.assert_array_equal(bare.per_head, masked.per_head)
    np.testing.assert_array_equal(bare.visible, masked.visible)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma3_text", "gemma2", "gpt_oss", "gpt2"])
def test_equals_eager_after_a_filled_cache(kind):
    """The rows of the new tokens are those of one pass over everything, and the cache stays as it is."""
    model, past = tiny(kind, COUNTED[kind]), 140
    ids = torch.randint(3, 64, (2, 150), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, :9] = 0
    for padding in (None, mask):
        maps = eager_maps(model, ids, padding)
        with torch.no_grad():
            first = None if padding is None else padding[:, :past]
            cache = model.base_model(ids[:, :past], attention_mask=first, use_cache=True).past_key_values
        held = [(layer.keys.clone(), layer.values.clone()) for layer in cache.layers]
        for rule in ("absolute", "relative"):
            measured = attention_dimension(
                model, ids[:, past:], padding, rule=rule, tokens="all", past_key_values=cache, statistics=True
            )
            expected, undecided = eager_count(maps[..., past:, :], 0.1, rule)
            assert_equal_but_undecided(measured.per_head, expected, undecided)
            first = torch.zeros(2, dtype=torch.long) if padding is None else padding.argmax(-1)
            sink = torch.stack([row[..., past:, at] for row, at in zip(maps, first, strict=True)])
            np.testing.assert_allclose(measured.sink_share, sink, atol=1e-5)
        last = attention_dimension(model, ids[:, past:], padding, past_key_values=cache).per_head[..., 0]
        expected, undecided = eager_count(maps[..., -1:, :], 0.1, "absolute")
        assert_equal_but_undecided(last, expected[..., 0], undecided[..., 0])
        for layer, (keys, values) in zip(cache.layers, held, strict=True):
            assert torch.equal(layer.keys, keys)
            assert torch.equal(layer.values, values)


def test_chunked_attention_equals_eager():
    kind, extra = "llama4_text", {"attention_chunk_size": 16, "no_rope_layers": [1, 1, 0], "num_local_experts": 2}
    model = tiny(kind, extra | {"intermediate_size_mlp": 48, "moe_layers": []})
    ids = torch.randint(3, 64, (2, 150), generator=torch.Generator().manual_seed(1))
    expected, undecided = eager_count(eager_maps(model, ids), 0.1, "absolute")
    measured = attention_dimension(model, ids, tokens="all")
    assert_equal_but_undecided(measured.per_head, expected, undecided)
    np.testing.assert_array_equal(measured.visible[0, 0], np.arange(150) % 16 + 1)  # a chunk, then the next
    np.testing.assert_array_equal(measured.visible[0, 2], np.arange(150) + 1)  # the layer without rotary positions


@pytest.mark.parametrize("kind", COUNTED)
def test_statistics_are_those_of_the_eager_maps(kind):
    model = tiny(kind, COUNTED[kind])
    ids = torch.randint(3, 64, (2, 150), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, :7] = 0
    maps, real = eager_maps(model, ids, mask), mask.bool().numpy()
    for tokens in ("all", "last"):
        measured = attention_dimension(model, ids, mask, eps=[0.1, 0.02], tokens=tokens, statistics=True)
        rows = maps if tokens == "all" else maps[..., -1:, :]
        kept = np.broadcast_to((real if tokens == "all" else real[:, -1:])[:, None, None], rows.shape[:-1])
        shares = rows / rows.sum(-1, keepdim=True)
        expected = {
            "sink_share": torch.stack([rows[0, ..., 0], rows[1, ..., 7]]),
            "entropy": -torch.xlogy(shares, shares).sum(-1),
            "renyi2": -shares.square().sum(-1).log(),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(measured, name)[kept], value.numpy()[kept], atol=2e-5)
            assert np.isnan(getattr(measured, name)[~kept]).all()
        assert (measured.renyi2[kept] <= measured.entropy[kept] + 1e-6).all()
        np.testing.assert_allclose(measured.effective_support, np.exp(measured.entropy))
        for e, eps in enumerate(measured.eps):
            above = (rows * (rows > eps)).sum(-1).numpy()
            undecided = eager_count(rows, eps, "absolute")[1] | ~kept
            np.testing.assert_allclose(measured.mass_above[e][~undecided], above[~undecided], atol=2e-5)
    assert attention_dimension(model, ids, mask).entropy is None
    assert attention_dimension(model, ids, mask).effective_support is None


def test_counts_do_not_depend_on_the_statistics_beside_them(model, tokenizer):
    """Neither with all tokens, by the kernel's logsumexp, nor as the block route, which takes the softmax, has them."""
    ids = tokenizer(PROMPTS[2], return_tensors="pt").input_ids
    for rule in ("absolute", "relative"):
        settings = {"eps": [0.3, 0.1, 0.01, 0.001], "rule": rule, "tokens": "all"}
        bare = attention_dimension(model, ids, **settings)
        full = attention_dimension(model, ids, statistics=True, **settings)
        np.testing.assert_array_equal(bare.per_head, full.per_head)
        assert full.mass_above.shape == full.per_head.shape
        assert (full.mass_above[0] <= full.mass_above[-1] + 1e-6).all()


def test_statistics_are_those_of_the_real_model_in_float64(model, tokenizer):
    """The fast route, which takes neither a softmax nor a map, is that of the model in twice the precision."""
    ids = tokenizer(PROMPTS[2] * 4, return_tensors="pt").input_ids
    maps = eager_maps(copy.deepcopy(model).double(), ids).double()
    measured = attention_dimension(model, ids, eps=[0.1, 0.01], tokens="all", statistics=True)
    np.testing.assert_allclose(measured.sink_share, maps[..., 0], atol=1e-4)
    np.testing.assert_allclose(measured.entropy, -torch.xlogy(maps, maps).sum(-1), atol=1e-4)
    np.testing.assert_allclose(measured.renyi2, -maps.square().sum(-1).log(), atol=1e-4)


def test_dense_grid_of_eps_is_one_of_single_ones(model, tokenizer):
    ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    grid = np.geomspace(0.001, 0.5, 60)
    dense = attention_dimension(model, ids, eps=grid).per_layer
    assert dense.shape == (60, 1, 30, 1)
    assert (np.diff(dense, axis=0) <= 0).all()
    for e in (0, 30, 59):
        np.testing.assert_array_equal(dense[e], attention_dimension(model, ids, eps=grid[e]).per_layer)


def test_bfloat16_counts_differ_from_eager_only_near_the_threshold():
    """Eager rounds its scores to 8 bits: a weight moves by some per cent, and only then does a count."""
    model = tiny("llama", {"num_hidden_layers": 1}).to(torch.bfloat16)
    ids = torch.randint(3, 64, (4, 150), generator=torch.Generator().manual_seed(1))
    maps = eager_maps(model, ids)
    for tokens, rows in (("all", maps), ("last", maps[..., -1:, :])):
        counts = attention_dimension(model, ids, tokens=tokens).per_head
        assert (counts >= (rows > 0.1 * 1.1).sum(-1).numpy()).all()
        assert (counts <= (rows > 0.1 / 1.1).sum(-1).numpy()).all()


def test_positions_are_the_models_own_unless_given():
    """Left padding shifts learned positions, as in any call of the model; given ones do not."""
    model = tiny("gpt2", COUNTED["gpt2"])
    ids = torch.randint(3, 64, (1, 30), generator=torch.Generator().manual_seed(1))
    padded, mask = torch.nn.functional.pad(ids, (5, 0)), torch.nn.functional.pad(torch.ones_like(ids), (5, 0))
    bare = attention_dimension(model, ids, tokens="all").per_head
    shifted = attention_dimension(model, padded, mask, tokens="all").per_head[..., 5:]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    told = attention_dimension(model, padded, mask, position_ids=positions, tokens="all").per_head[..., 5:]
    np.testing.assert_array_equal(told, bare)
    assert (shifted != bare).any()


def test_visible_tokens_of_a_sliding_window():
    ids = torch.randint(3, 64, (1, 20), generator=torch.Generator().manual_seed(1))
    measured = attention_dimension(tiny("mistral", {"sliding_window": 5}), ids, tokens="all")
    np.testing.assert_array_equal(measured.visible[0, 0], np.minimum(np.arange(20) + 1, 5))


def test_densities(model, tokenizer):
    batch = tokenizer(PROMPTS[:2], return_tensors="pt", padding=True)
    measured = attention_dimension(model, **batch, tokens="all")
    real = batch.attention_mask.bool().numpy()
    tokens_before = batch.attention_mask.cumsum(-1).numpy()
    density = measured.density
    assert density.shape == measured.per_head.shape
    assert np.isnan(np.moveaxis(density, -1, 1)[~real]).all()
    np.testing.assert_array_equal(
        np.moveaxis(density, -1, 1)[real] * tokens_before[real][:, None, None],
        np.moveaxis(measured.per_head, -1, 1)[real],
    )
    assert measured.per_layer.shape == (2, 30, batch.input_ids.shape[1])
    assert (np.moveaxis(measured.per_layer, -1, 1)[~real] == -1).all()


def test_first_token_sees_itself_alone(model, tokenizer):
    ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    for rule in ("absolute", "relative"):
        first = attention_dimension(model, ids, rule=rule, tokens="all").per_head[0, :, :, 0]
        np.testing.assert_array_equal(first, 1)


def test_a_weight_of_exactly_eps_does_not_exceed_it():
    """Zero queries make attention uniform: ten tokens, ten weights of 0.1, in whatever type the model has."""
    for dtype in (torch.float32, torch.bfloat16):
        model = tiny("llama", {}).to(dtype)
        for layer in model.model.layers:
            torch.nn.init.zeros_(layer.self_attn.q_proj.weight)
        ids = torch.arange(3, 13)[None]
        tenth = attention_dimension(model, ids, tokens="all").per_head[0]
        np.testing.assert_array_equal(tenth[..., 9], 0)
        np.testing.assert_array_equal(tenth[..., 8], 9)  # nine weights of 1/9
        np.testing.assert_array_equal(attention_dimension(model, ids, rule="relative").per_head[..., 0], 10)


@pytest.mark.whole
@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 40), seed=st.integers(0, 2**16), eps=st.floats(0.01, 0.99))
def test_bounds_hold_for_any_prompt(length, seed, eps):
    model = tiny("llama", {})
    ids = torch.randint(3, 64, (1, length), generator=torch.Generator().manual_seed(seed))
    absolute = attention_dimension(model, ids, eps=[eps, eps / 2], tokens="all")
    relative = attention_dimension(model, ids, eps=[eps, eps / 2], rule="relative", tokens="all")
    cap = np.ceil(1 / eps) - 1  # weights sum to 1
    assert (absolute.per_head[0] <= min(cap, length)).all()
    assert (absolute.per_head[1] >= absolute.per_head[0]).all()  # a lower threshold loses nothing
    assert (relative.per_head >= np.maximum(absolute.per_head, 1)).all()  # a row's maximum is at most 1
    assert (relative.per_head <= absolute.visible[:, :, None]).all()


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_model_leaves_as_it_entered(implementation):
    model = tiny("llama", {"attention_dropout": 0.5})
    model.set_attn_implementation(implementation)
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        before = model(ids).logits
    attention_dimension(model, ids, tokens="all", statistics=True)
    with pytest.raises(ZeroDivisionError), measuring(model):
        1 / 0  # noqa: B018
    with pytest.raises(ValueError, match="cache"), measuring(model):
        raise ValueError("in the midst of a pass, say: no room in the cache")
    assert model.config._attn_implementation == implementation
    assert not model.training
    with torch.no_grad():
        assert torch.equal(model(ids).logits, before)
    model.train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    attention_dimension(model, ids)
    assert [module.training for module in model.modules()] == modes


def test_parts_with_attention_of_their_own_keep_it():
    """A model of text and images: each part's configuration comes back, not the whole's for all."""
    torch.manual_seed(0)
    config = Gemma3Config(
        text_config=TINY | {"sliding_window": 5},
        vision_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 8, "patch_size": 4,
        },
        mm_tokens_per_image=4, image_token_index=63, boi_token_index=62, eoi_token_index=61,
    )  # fmt: skip
    model = Gemma3ForConditionalGeneration(config).eval()
    model.set_attn_implementation({"text_config": "sdpa", "vision_config": "eager"})
    before = {name: getattr(config, name)._attn_implementation for name in config.sub_configs}
    assert set(before.values()) == {"sdpa", "eager"}
    assert attention_dimension(model, [[3, 4, 5]]).per_head.shape == (1, 3, 4, 1)
    assert {name: getattr(config, name)._attn_implementation for name in config.sub_configs} == before


def test_quantised_modules_are_counted():
    """Weights of 8 bits change the attention, not how it is counted."""
    model = tiny("llama", {})
    ids = torch.randint(3, 64, (1, 40), generator=torch.Generator().manual_seed(1))
    bare = attention_dimension(model, ids, tokens="all").per_head
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao announces its move to a package of its own
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    expected, undecided = eager_count(eager_maps(model, ids), 0.1, "absolute")
    measured = attention_dimension(model, ids, tokens="all").per_head
    assert_equal_but_undecided(measured, expected, undecided)
    assert (measured != bare).any()


def test_generate_is_measured_on_its_prompt(model, tokenizer):
    ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    with measuring(model, rule=("absolute", "relative")) as measure:
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
    for rule, measured in measure.results().items():
        np.testing.assert_array_equal(measured.per_head, attention_dimension(model, ids, rule=rule).per_head)


def test_edges_are_the_counts(model, tokenizer):
    ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    counts = attention_dimension(model, ids, tokens="all").per_head[0]
    maps = eager_maps(model, ids)[0]
    every = attention_edges(model, ids)
    assert every["layer"].is_monotonic_increasing
    for layer in (0, -2):
        edges = attention_edges(model, ids, layer=layer)
        same = every[every["layer"] == layer % 30].reset_index(drop=True)
        pd.testing.assert_frame_equal(edges, same)
        table = np.zeros_like(counts[layer])
        np.add.at(table, (edges["head"], edges["query"]), 1)
        np.testing.assert_array_equal(table, counts[layer])
        weights = maps.numpy()[layer, edges["head"], edges["query"], edges["key"]]
        np.testing.assert_allclose(edges["weight"], weights, atol=1e-5)


def test_long_prompt_edges_cross_row_blocks():
    model = tiny("llama", {})
    ids = torch.randint(3, 64, (1, 250), generator=torch.Generator().manual_seed(1))
    edges = attention_edges(model, ids, layer=1, eps=0.1)
    maps = eager_maps(model, ids)[0, 1]
    expected = {tuple(edge) for edge in (maps > 0.1).nonzero().tolist()}
    assert set(zip(edges["head"], edges["query"], edges["key"], strict=True)) == expected


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_counted_is_refused_by_name(kind):
    extra, reason = REFUSED[kind]
    model = tiny(kind, extra)
    before = model.config._attn_implementation
    with pytest.raises(ValueError, match=rf"^attention_dimension: model is a \w+, which .*{reason}.*expected") as info:
        attention_dimension(model, torch.arange(3, 9)[None])
    assert "\n" not in str(info.value)
    assert model.config._attn_implementation == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_ids": torch.empty(1, 0, dtype=torch.long)}, ValueError, r"input_ids has shape \(1, 0\)"),
        ({"input_ids": []}, ValueError, "at least one token was expected"),
        (
            {"input_ids": torch.zeros(1, 2, 3, dtype=torch.long)},
            ValueError,
            r"input_ids has shape \(1, 2, 3\)",
        ),
        (
            {"input_ids": torch.ones(1, 257, dtype=torch.long)},
            ValueError,
            "has 257 tokens, but at most 256, the model's window, was expected",
        ),
        ({"input_ids": [[1.5, 2.0]]}, TypeError, "integers were expected"),
        ({"input_ids": "three words"}, TypeError, "input_ids is .three words."),
        ({"input_ids": [[3, 64]]}, ValueError, "has ids 3 to 64, but 0 to 63 was expected"),
        ({"input_ids": [[-1, 4]]}, ValueError, "has ids -1 to 4"),
        (
            {"attention_mask": [[1, 1]]},
            ValueError,
            r"attention_mask has shape \(1, 2\), but \(1, 6\) was expected",
        ),
        ({"attention_mask": [[0] * 6]}, ValueError, "padding only"),
        ({"attention_mask": [[2] * 6]}, ValueError, "other than 0 and 1"),
        ({"position_ids": [[0, 1]]}, ValueError, r"position_ids has shape \(1, 2\)"),
        ({"position_ids": [[-1, 0, 1, 2, 3, 4]]}, ValueError, "whole numbers from 0 on"),
        ({"past_key_values": [1]}, TypeError, "past_key_values is a list, but a transformers cache"),
        ({"attention_mask": [[0.5] * 6]}, ValueError, "other than 0 and 1"),
        ({"eps": 0.0}, ValueError, "eps is 0.0, but a number between 0 and 1 was expected"),
        ({"eps": 1.0}, ValueError, "eps is 1.0"),
        ({"eps": [0.1, -1]}, ValueError, "eps is -1"),
        ({"eps": float("nan")}, ValueError, "eps is nan"),
        ({"eps": "0.1"}, TypeError, "eps is '0.1'"),
        ({"eps": None}, TypeError, "eps is None"),
        ({"eps": True}, TypeError, "eps is True"),
        ({"eps": []}, ValueError, "eps is empty"),
        ({"rule": "soft"}, ValueError, "rule is 'soft', but 'absolute' or 'relative' was expected"),
        ({"rule": ("absolute", "relative")}, ValueError, r"rule is \('absolute', 'relative'\), but"),
        ({"tokens": "first"}, ValueError, "tokens is 'first', but 'last' or 'all'"),
        ({"model": 3}, TypeError, "model is a int"),
    ],
)
def test_bad_input(arguments, error, message):
    settings = {"model": tiny("llama", {}), "input_ids": [[3, 4, 5, 6, 7, 8]]} | arguments
    with pytest.raises(error, match=rf"^attention_dimension: .*{message}") as info:
        attention_dimension(**settings)
    assert "\n" not in str(info.value)


def test_nan_is_no_count():
    model = tiny("llama", {})
    model.model.layers[1].self_attn.q_proj.weight.data[0, 0] = torch.nan
    for tokens in ("last", "all"):
        with pytest.raises(ValueError, match=r"^attention_dimension: model gives NaN attention in layer 2"):
            attention_dimension(model, [[3, 4, 5]], tokens=tokens)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 3}, "layer is 3, but -3 to 2 was expected"),
        ({"layer": True}, "layer is True, but an integer was expected"),
        ({"layer": []}, "layer is empty, but at least one was expected"),
        ({"eps": [0.1, 0.01]}, r"eps is \[0.1, 0.01\], but a number between 0 and 1 was expected"),
        ({"input_ids": [3, 64]}, "input_ids has ids 3 to 64, but 0 to 63 was expected"),
        ({"layer": 0, "input_ids": [[3, 4], [5, 6]]}, "input_ids holds 2 prompts"),
    ],
)
def test_bad_edges(arguments, message):
    with pytest.raises((ValueError, TypeError), match=rf"^attention_edges: {message}"):
        attention_edges(**({"model": tiny("llama", {}), "input_ids": [[3, 4, 5]]} | arguments))
