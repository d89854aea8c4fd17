"""Models as they come: caches, ways to generate, autocast, adapters, threads, offloading."""

import copy
import re
import threading
import warnings

import accelerate
import numpy as np
import pandas as pd
import pytest
import torch
from eager import eager_maps
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from test_attention import COUNTED, assert_equal_but_undecided, eager_count, tiny
from transformers import DynamicCache, GenerationConfig, QuantizedCache, StaticCache

from geolib.dimension import (
    attention_dimension,
    attention_edges,
    attention_heads,
    dimension_profile,
    gate_hyperplanes,
    gate_regions,
    measure_prompts,
    measuring,
    mlp_reach,
)

KINDS = ["llama", "gemma3_text", "gpt_oss", "gpt2"]
LENGTH = 30
ADAPTER = {"task_type": "CAUSAL_LM"}


def prompts(batch=2, length=LENGTH, seed=1):
    return torch.randint(3, 64, (batch, length), generator=torch.Generator().manual_seed(seed))


def padded(ids, padding=9):
    mask = torch.ones_like(ids)
    mask[-1, :padding] = 0
    return mask


def assert_last(measured, maps):
    expected, undecided = eager_count(maps[..., -1:, :], measured.eps[0], measured.rule)
    assert_equal_but_undecided(measured.per_head, expected, undecided)


def assert_all(measured, maps, mask=None):
    expected, undecided = eager_count(maps, measured.eps[0], measured.rule)
    real = np.ones((1, 1, 1, 1), bool) if mask is None else mask.bool().numpy()[:, None, None]
    real = np.broadcast_to(real, expected.shape)
    assert (measured.per_head[~real] == -1).all()
    assert_equal_but_undecided(np.where(real, measured.per_head, 0), np.where(real, expected, 0), undecided & real)


# Caches


@pytest.mark.parametrize(("room", "past"), [(LENGTH, 0), (64, 0), (256, 0), (64, 1), (64, 12), (LENGTH, LENGTH - 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_static_cache(kind, room, past):
    model, ids = tiny(kind, COUNTED[kind]), prompts()
    for mask in (None, padded(ids)):
        maps = eager_maps(model, ids, mask)
        cache = StaticCache(config=model.config, max_cache_len=room)
        if past:
            model(ids[:, :past], attention_mask=None if mask is None else mask[:, :past], past_key_values=cache)
        given = {"attention_mask": mask, "past_key_values": cache, "statistics": True}
        rows = attention_dimension(model, ids[:, past:], tokens="all", **given)
        if mask is None:
            assert_all(rows, maps[..., past:, :])
        assert_last(attention_dimension(model, ids[:, past:], **given), maps)
        first = torch.zeros(len(ids), dtype=torch.long) if mask is None else mask.argmax(-1)
        sink = torch.stack([row[..., -1, at] for row, at in zip(maps, first, strict=True)])
        np.testing.assert_allclose(rows.sink_share[..., -1], sink, atol=1e-5)
        assert (rows.visible[:, -1, -1] == maps[:, -1, 0, -1].count_nonzero(-1).numpy()).all()
        assert cache.get_seq_length() == past


def test_a_quantised_cache():
    """Keys come back coarser than they went in, and are counted as the model's own eager attention sees them."""
    model, ids = tiny("llama", {}), prompts()
    cache = QuantizedCache("fp8", model.config)
    with torch.no_grad():
        model(ids[:, :12], past_key_values=cache)
        model.set_attn_implementation("eager")
        maps = model(ids[:, 12:], past_key_values=copy.deepcopy(cache), output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    with measuring(model) as measure:
        generate(model, ids, cache_implementation="quantized", cache_config={"backend": "fp8"})
    assert_last(measure.result(), eager_maps(model, ids))
    assert_all(attention_dimension(model, ids[:, 12:], tokens="all", past_key_values=cache), torch.stack(maps, dim=1))
    assert not torch.equal(torch.stack(maps, dim=1), eager_maps(model, ids)[..., 12:, :])


@pytest.mark.parametrize("kind", ["gemma2", "gpt_oss", "llama"])
def test_measuring_changes_no_logits_whatever_the_cache(kind):
    """Softcaps and sinks are computed here, since no fused kernel does: the answer must be the model's own."""
    model, ids = tiny(kind, COUNTED[kind]), prompts()
    caches = [None, StaticCache(config=model.config, max_cache_len=64), DynamicCache(config=model.config)]
    model.set_attn_implementation("eager")
    for cache in caches:
        with torch.no_grad():
            expected = model(ids, past_key_values=copy.deepcopy(cache)).logits
        with measuring(model):
            measured = model(ids, past_key_values=cache).logits
        torch.testing.assert_close(measured, expected, atol=1e-4, rtol=1e-4)


# Ways to generate

WAYS = {
    "greedy": {},
    "sampled": {"do_sample": True, "num_return_sequences": 3},
    "beams": {"num_beams": 3},
    "sampled beams": {"num_beams": 2, "do_sample": True, "num_return_sequences": 2},
    "chunks": {"prefill_chunk_size": 8},
    "a chunk of one": {"prefill_chunk_size": LENGTH - 1},
    "chunks of beams": {"prefill_chunk_size": 7, "num_beams": 2},
    "static": {"cache_implementation": "static"},
    "static chunks": {"cache_implementation": "static", "prefill_chunk_size": 8},
    "no cache": {"use_cache": False},
    "guided": {"guidance_scale": 1.5},
}
ALONE = {
    "lookup": {"prompt_lookup_num_tokens": 5},
    "assistant": {"assistant": True},
    "chunks": {"prefill_chunk_size": 8},
}


def generate(model, ids, mask=None, **way):
    if way.pop("assistant", False):
        way["assistant_model"] = tiny("llama", {"num_hidden_layers": 1})
    settings = {"do_sample": False, "max_new_tokens": 4, "pad_token_id": 0} | way
    return model.generate(ids, attention_mask=mask, **settings)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["gemma3_text", "gemma2"])
def test_generate_is_measured_on_its_prompts_once_each(kind, way):
    model, ids = tiny(kind, COUNTED[kind]), prompts()
    for mask in (torch.ones_like(ids), padded(ids)):
        maps = eager_maps(model, ids, mask)
        for tokens, check in (("last", assert_last), ("all", assert_all)):
            with measuring(model, tokens=tokens) as measure:
                generate(model, ids, mask, **WAYS[way])
            assert measure.result().per_head.shape == (2, 3, 4, 1 if tokens == "last" else LENGTH)
            check(measure.result(), maps, *([mask] if tokens == "all" else []))


@pytest.mark.parametrize("way", ALONE)
@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_generate_with_candidates_is_measured_on_its_prompt(kind, way):
    model, part = tiny(kind, COUNTED[kind]), prompts(1, 10)
    ids = torch.cat([part, part, part], dim=1)
    maps = eager_maps(model, ids)
    plain = generate(model, ids)
    for tokens, check in (("last", assert_last), ("all", assert_all)):
        with measuring(model, tokens=tokens) as measure:
            answer = generate(model, ids, **ALONE[way])
        assert torch.equal(answer, plain)
        check(measure.result(), maps)


def test_generate_goes_on_from_a_cache():
    model, ids = tiny("llama", {}), prompts(1)
    maps = eager_maps(model, ids)
    for cache in (DynamicCache(), StaticCache(config=model.config, max_cache_len=64)):
        model(ids[:, :11], past_key_values=cache)
        with measuring(model) as measure:
            generate(model, ids, past_key_values=cache)
        assert_last(measure.result(), maps)


def test_generate_takes_padding_from_the_ids():
    """Without a mask it looks for the padding token, unless that ends answers too; so do we."""
    model, ids = tiny("llama", {}), prompts()
    ids[1, :9] = 0
    for pad, eos, mask in ((0, 2, padded(ids)), (0, 0, torch.ones_like(ids))):
        with measuring(model, tokens="all", statistics=True) as measure:
            generate(model, ids, pad_token_id=pad, eos_token_id=eos)
        expected = attention_dimension(model, ids, mask, tokens="all", statistics=True)
        np.testing.assert_array_equal(measure.result().per_head, expected.per_head)
        np.testing.assert_allclose(measure.result().sink_share, expected.sink_share, atol=1e-6)


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "gpt_oss"])
@pytest.mark.parametrize("size", [3, 8, 20])
def test_sinks_share_in_chunks(kind, size):
    """The first token leaves the window, or, behind padding, is not yet read."""
    model, ids = tiny(kind, COUNTED[kind]), prompts()
    mask = padded(ids)
    mask[1, :25] = 0
    for given in (torch.ones_like(ids), mask):
        expected = attention_dimension(model, ids, given, tokens="all", statistics=True)
        real = given[:, None, None].expand(expected.sink_share.shape).numpy() == 1
        maps = eager_maps(model, ids, given)
        naive = np.stack([maps[i, ..., int(given[i].argmax())].numpy() for i in range(2)])
        np.testing.assert_allclose(expected.sink_share[real], naive[real], atol=1e-5)
        for way in ({}, {"cache_implementation": "static"}):
            with measuring(model, tokens="all", statistics=True) as measure:
                generate(model, ids, given, prefill_chunk_size=size, **way)
            found = measure.result()
            np.testing.assert_array_equal(np.isnan(found.sink_share), ~real)
            np.testing.assert_allclose(found.sink_share[real], naive[real], atol=1e-5)


def test_settings_in_a_configuration_and_by_place():
    """Generate takes its settings by name, in a configuration, by place, and from the model, in this order."""
    model, ids = tiny("llama", {}), prompts()
    ids[1, :9] = 0
    expected = attention_dimension(model, ids, padded(ids), tokens="all").per_head
    short = {"max_new_tokens": 2, "do_sample": False, "eos_token_id": 2}
    config = GenerationConfig(pad_token_id=0, prefill_chunk_size=8, **short)
    model.generation_config.pad_token_id = 5
    for ways in (
        lambda: model.generate(ids, config),
        lambda: model.generate(ids, generation_config=config),
        lambda: model.generate(inputs=ids, generation_config=config),
        lambda: model.generate(ids, GenerationConfig(**short), pad_token_id=0),
        lambda: setattr(model.generation_config, "pad_token_id", 0) or model.generate(ids, GenerationConfig(**short)),
    ):
        with measuring(model, tokens="all") as measure:
            ways()
        np.testing.assert_array_equal(measure.result().per_head, expected)
    for paged in ([GenerationConfig(cache_implementation="paged", **short)], []):
        model.generation_config.cache_implementation = None if paged else "paged"
        with pytest.raises(ValueError, match="paged cache"), measuring(model):
            model.generate(ids, *paged)


def test_two_models_at_once():
    """Each is counted for itself, whichever runs first, also where they share a configuration."""
    one, ids = tiny("llama", {}), prompts()
    for other in (tiny("mistral", COUNTED["mistral"]), type(one)(one.config).eval()):
        maps = [eager_maps(model, ids) for model in (one, other)]
        for first, second in ((one, other), (other, one)):
            with measuring(one) as of_one, measuring(other) as of_other:
                first(ids)
                generate(second, ids)
                first(ids[:, :5])
            assert_last(of_one.result(), maps[0])
            assert_last(of_other.result(), maps[1])
        with measuring(one) as of_one:
            other(ids)
            one(ids)
        assert_last(of_one.result(), maps[0])


@pytest.mark.parametrize("kind", [np.asarray, torch.Tensor.bool, torch.Tensor.tolist, torch.Tensor.float])
@pytest.mark.parametrize("tokens", ["last", "all"])
def test_a_mask_of_any_kind_is_measured_by(kind, tokens):
    model, ids = tiny("llama", {}), prompts()
    mask = padded(ids)
    with measuring(model, attention_mask=kind(mask), tokens=tokens) as measure:
        model(ids, attention_mask=mask)
    expected = attention_dimension(model, ids, mask, tokens=tokens)
    np.testing.assert_array_equal(measure.result().per_head, expected.per_head)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[1, 2]], "holds numbers other than 0 and 1"),
        ([[1, 1], [0, 0]], "a row of padding only"),
        ([[1], [1, 1]], "is [[1], [1, 1]], but integers"),
        ("11", "is '11', but integers"),
        ([], "has shape (1, 0), but [batch, tokens]"),
        ([[[1]]], "has shape (1, 1, 1), but [batch, tokens]"),
        ([1] * LENGTH, "has shape (1, 30), but (2, 30)"),
        ([[1] * 9] * 2, "has shape (2, 9), but (2, 30)"),
    ],
)
@pytest.mark.parametrize("tokens", ["last", "all"])
def test_masks_that_are_none(mask, message, tokens):
    model = tiny("llama", {})
    refused = pytest.raises(
        (ValueError, TypeError), match=f"^attention_dimension: attention_mask .*{re.escape(message)}"
    )
    with refused, measuring(model, attention_mask=mask, tokens=tokens):
        model(prompts())


def test_measurements_within_measurements():
    model, ids = tiny("llama", {}), prompts()
    maps = eager_maps(model, ids)
    with measuring(model) as outer:
        with measuring(model, rule="relative") as inner:
            generate(model, ids, num_beams=2)
        generate(model, ids, num_beams=2)
    for measure in (outer, inner):
        assert_last(measure.result(), maps)


def test_generate_is_what_it_was_afterwards():
    model = tiny("llama", {})
    before = generate(model, prompts())
    with measuring(model):
        generate(model, prompts())
    assert "generate" not in vars(model)
    assert torch.equal(generate(model, prompts()), before)


def test_a_paged_cache_is_refused():
    model = tiny("llama", {})
    with pytest.raises(ValueError, match="paged cache"), measuring(model):
        generate(model, prompts(), cache_implementation="paged")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="here it has a place to go to")
def test_an_offloaded_cache_without_an_accelerator():
    model, ids = tiny("llama", {}), prompts()
    caches = [DynamicCache(offloading=True), StaticCache(config=model.config, max_cache_len=64, offloading=True)]
    for cache in caches:
        with pytest.raises(
            ValueError, match=r"^attention_dimension: past_key_values offloads .*, but a cache in memory"
        ):
            attention_dimension(model, ids, past_key_values=cache)
    for kind in ("offloaded", "offloaded_static"):
        with pytest.raises(ValueError, match=r"^attention_dimension: .* offloads .*no accelerator"), measuring(model):
            generate(model, ids, cache_implementation=kind)


# Autocast


@pytest.mark.parametrize("kind", ["llama", "gemma2", "qwen3", "gpt_oss"])
def test_under_autocast_all_ways_of_counting_agree(kind):
    model, ids = tiny(kind, COUNTED[kind]), prompts()
    bare = attention_dimension(model, ids, tokens="all")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = eager_maps(model, ids)
        last = attention_dimension(model, ids)
        every = attention_dimension(model, ids, tokens="all")
        measured = attention_dimension(model, ids, tokens="all", statistics=True)
    np.testing.assert_array_equal(every.per_head[..., -1:], last.per_head)
    np.testing.assert_array_equal(every.per_head, measured.per_head)
    assert (bare.per_head != every.per_head).any()
    # Eager attention rounds scores and weights to 8 bits: within six per cent of eps either count is right.
    fewest, most = ((maps > 0.1 * shift).sum(-1).numpy() for shift in (1.06, 0.94))
    share = ((fewest <= every.per_head) & (every.per_head <= most)).mean()
    assert share > 0.99
    assert measured.entropy.dtype == np.float32


# Adapters


def with_adapter(model, config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model, config).eval()


def lora(model, **settings):
    return with_adapter(model, LoraConfig(r=4, target_modules=["q_proj", "k_proj"], init_lora_weights=False, **ADAPTER))


def peft_maps(model, ids, mask=None):
    """The whole model's eager maps, virtual tokens among the keys."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model(input_ids=ids, attention_mask=mask, output_attentions=True, use_cache=False).attentions
    model.set_attn_implementation("sdpa")
    return torch.stack(maps, dim=1).float()


def test_adapters_are_measured_with_the_model():
    model, ids = lora(tiny("llama", {})), prompts()
    switched = peft_maps(model, ids)
    assert_last(attention_dimension(model, ids), switched)
    with model.disable_adapter():
        bare = peft_maps(model, ids)
        assert_last(attention_dimension(model, ids), bare)
    assert (bare - switched).abs().max() > 0.01


@pytest.mark.parametrize("config", [PromptTuningConfig, PrefixTuningConfig])
def test_virtual_tokens_are_keys_and_have_no_rows(config):
    model, ids = with_adapter(tiny("llama", {}), config(num_virtual_tokens=8, **ADAPTER)), prompts()
    for mask in (None, padded(ids)):
        maps = peft_maps(model, ids, mask)[..., -LENGTH:, :]
        last = attention_dimension(model, ids, mask)
        assert_last(last, maps)
        assert last.visible.ravel().tolist() == [38] * 3 + [38 if mask is None else 29] * 3
        assert_all(attention_dimension(model, ids, mask, tokens="all"), maps, mask)
        measured = attention_dimension(model, ids, mask, statistics=True)
        np.testing.assert_allclose(measured.sink_share[..., 0], maps[..., -1, 0], atol=1e-5)
    rows = measure_prompts(model, ids.tolist())
    np.testing.assert_array_equal(rows["id_absolute_0.1"][0], attention_dimension(model, ids).per_layer[0, :, 0])
    with measuring(model) as measure, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft leaves generate's positions out
        model.generate(input_ids=ids, max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert_last(measure.result(), peft_maps(model, ids))
    with model.disable_adapter():
        assert attention_dimension(model, ids).visible[0, 0, 0] == LENGTH


def test_what_does_not_go_with_virtual_tokens():
    model, ids = with_adapter(tiny("llama", {}), PromptTuningConfig(num_virtual_tokens=8, **ADAPTER)), prompts(1)
    for arguments in ({"past_key_values": DynamicCache()}, {"position_ids": torch.arange(LENGTH)}):
        with pytest.raises(ValueError, match=f"{next(iter(arguments))} is given, but none was expected"):
            attention_dimension(model, ids, **arguments)
    for function in (attention_edges, lambda *given: attention_heads(*given, layer=0)):
        with pytest.raises(ValueError, match="8 virtual tokens, but one without was expected"):
            function(model, ids)
    with pytest.raises(ValueError, match="has 257 tokens, but at most 256, the model's window, was expected"):
        attention_dimension(model, [[3] * 249])


# Hooks


def test_hooks_of_the_whole_model_are_heeded():
    model, ids = tiny("llama", {}), prompts(1)
    other = ids.flip(-1)
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: (args, kwargs | {"input_ids": other}), with_kwargs=True
    )
    changed = attention_dimension(model, ids).per_head
    hook.remove()
    np.testing.assert_array_equal(changed, attention_dimension(model, other).per_head)
    assert (changed != attention_dimension(model, ids).per_head).any()


# Offloading


@pytest.mark.parametrize("embedding", ["cpu", "disk"])
def test_offloaded_models(embedding, tmp_path):
    bare, ids = tiny("llama", {}), prompts()
    names = [
        "model.embed_tokens",
        *(f"model.layers.{i}" for i in range(3)),
        "model.norm",
        "model.rotary_emb",
        "lm_head",
    ]
    places = dict.fromkeys(names, "disk") | {"model.rotary_emb": "cpu", "model.embed_tokens": embedding}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = accelerate.dispatch_model(copy.deepcopy(bare), places, main_device="cpu", offload_dir=tmp_path)
    expected = attention_dimension(bare, ids, padded(ids), tokens="all", statistics=True)
    measured = attention_dimension(model, ids, padded(ids), tokens="all", statistics=True)
    np.testing.assert_array_equal(measured.per_head, expected.per_head)
    np.testing.assert_array_equal(measured.entropy, expected.entropy)
    rows = measure_prompts(model, ids.tolist())
    assert rows["id_absolute_0.1"][0].tolist() == attention_dimension(bare, ids).per_layer[0, :, 0].tolist()
    profiles = [dimension_profile(one, ids.tolist(), "TwoNN") for one in (bare, model)]
    assert str(profiles[0]) == str(profiles[1])
    with pytest.raises(ValueError, match="whose layer 1 has weights that are offloaded"):
        gate_hyperplanes(model, layer=1)


# Threads


def test_threads_take_turns():
    """Measured in several threads at once: each gets its own numbers, and the model stays what it was."""
    model, ids = tiny("llama", {"attention_dropout": 0.5}), [prompts(1, 12 + i, seed=i) for i in range(4)]
    expected = [attention_dimension(model, one, tokens="all").per_head for one in ids]
    with torch.no_grad():
        logits = model(ids[0]).logits
    model.train()
    model.model.layers[1].eval()
    modes, failed = [module.training for module in model.modules()], []

    def work(i):
        for _ in range(4):
            if not np.array_equal(attention_dimension(model, ids[i], tokens="all").per_head, expected[i]):
                failed.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [module.training for module in model.modules()] == modes
    assert model.config._attn_implementation == "sdpa"
    with torch.no_grad():
        assert torch.equal(model.eval()(ids[0]).logits, logits)


def test_what_listens_hears_its_own_thread_alone():
    """Hooks are on modules that other threads run too: with another prompt, measuring or merely calling."""
    model, ids, other = tiny("llama", {}), prompts(1), prompts(1, 11, seed=5)
    asked = {
        "heads": lambda: attention_heads(model, ids, layer=1).output.tolist(),
        "reach": lambda: mlp_reach(model, ids, layer=[0, 2])[1].inputs.tolist(),
        "profile": lambda: dimension_profile(model, ids.tolist(), "TwoNN").to_dict(),
    }
    expected, failed, stop = {name: str(ask()) for name, ask in asked.items()}, [], threading.Event()

    def call():
        while not stop.is_set():
            with torch.no_grad():
                model(other)

    def measure():
        while not stop.is_set():
            attention_heads(model, other, layer=2)

    def work(name):
        try:
            failed.extend(name for _ in range(8) if str(asked[name]()) != expected[name])
        except Exception as error:  # in a thread nobody else would see it
            failed.append(error)

    others = [threading.Thread(target=one) for one in (call, measure)]
    threads = [threading.Thread(target=work, args=(name,)) for name in asked]
    for thread in others + threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    for thread in others:
        thread.join()
    assert not failed
    assert not [module for module in model.modules() if module._forward_hooks or module._forward_pre_hooks]


def test_masked_ids_are_refused():
    """NumPy would read what is under the mask."""
    from geolib.dimension import attention_dimension, measure_prompts

    model, ids = tiny("llama", {}), np.ma.array([[5, 6, 7]], mask=[[0, 1, 0]])
    for call in (
        lambda: attention_dimension(model, ids),
        lambda: attention_dimension(model, [[5, 6, 7]], np.ma.array([[1, 1, 1]], mask=[[0, 1, 0]])),
        lambda: measure_prompts(model, [ids[0]]),
        lambda: gate_regions(model, ids, layer=0),
    ):
        with pytest.raises(TypeError, match=r"^\w+: .*masked.*expected[^\n]*$"):
            call()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_ids_of_types_without_a_sign(kind):
    model, ids = tiny("llama", {}), [[5, 6, 7, 8]]
    measured = attention_dimension(model, np.array(ids, kind), np.array([[0, 1, 1, 1]], kind))
    np.testing.assert_array_equal(measured.per_head, attention_dimension(model, ids, [[0, 1, 1, 1]]).per_head)
    with pytest.raises(ValueError, match=r"^attention_dimension: input_ids has ids 5 to 255, but 0 to 63 was expected"):
        attention_dimension(model, np.array([[5, 255]], kind))


def test_a_series_of_ids_is_read_in_its_order():
    ids = pd.Series([5, 6, 7], index=[2, 0, 1])
    expected = attention_dimension(tiny("llama", {}), [5, 6, 7]).per_head
    np.testing.assert_array_equal(attention_dimension(tiny("llama", {}), ids).per_head, expected)


def test_a_measurement_of_nothing_says_so():
    model = tiny("llama", {})
    with (
        pytest.raises(ValueError, match=r"LlamaForCausalLM, which was not heard to attend: no pass ran"),
        measuring(model),
    ):
        pass
    with (
        pytest.raises(ValueError, match=r"^attention_dimension: result is asked for before"),
        measuring(model) as early,
    ):
        early.result()
    mamba = tiny("mamba", {})
    with pytest.raises(ValueError, match=r"MambaForCausalLM, which does not route"), measuring(mamba):
        mamba(torch.tensor([[1, 2, 3]]))
    assert not model._forward_pre_hooks
    assert not mamba._forward_pre_hooks
