"""Every causal language model of transformers, made tiny and random, and its counts held against its eager maps.

``row(kind)`` is a line of the book's table of architectures.
"""

import dataclasses
import re
import sys

import numpy as np
import torch
from transformers import CONFIG_MAPPING, AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM
from transformers.masking_utils import eager_mask
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from geolib.dimension import attention_dimension, measuring

# Taken by each configuration that knows them; what is unknown to it is left out.
SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "original_max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "is_decoder": True,
    "initializer_range": 0.3,  # large, so that attention is far from uniform and counts differ between heads
    "init_std": 0.3,
    # windows that bite within the prompts below
    "sliding_window": 5,
    "local_attention": 10,
    "attention_chunk_size": 16,
    "keep_window_size": 20,
    "index_topk": 20,
    "index_block_size": 8,
    "index_topk_blocks": 4,
    "index_n_heads": 2,
    "index_head_dim": 8,
    # decoders of models with an encoder
    "d_model": 32,
    "decoder_layers": 3,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "encoder_layers": 1,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    # other names of widths
    "ffn_dim": 48,
    "dff": 48,
    "dim_ff": 48,
    "dim_head": 8,
    "d_head": 8,
    "embedding_size": 32,
    "word_embed_proj_dim": 32,
    "dense_intermediate_size": 48,
    "shared_intermediate_size": 16,
    # mixtures of experts
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "zero_expert_num": 2,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "num_dense_layers": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "moe_shared_expert_intermediate_size": 16,
    # keys and values from a latent vector; the sizes of keys (12) and values (6) differ
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "o_lora_rank": 8,
    "o_groups": 2,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
    # heads of sliding layers, relative positions
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "swa_head_dim": 8,
    "d_rel": 4,
    "rel_extent": 16,
    "rotary_dim": 4,
    # linear attention and state spaces
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_num_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_head_dim": 8,
    "mamba_n_heads": 4,
    "mamba_num_heads": 4,
    "mamba_d_head": 16,
    "mamba_head_dim": 16,
    "mamba_d_ssm": 64,
    "mamba_d_state": 4,
    "ssm_state_size": 4,
    "state_size": 4,
    "mamba_chunk_size": 8,
    "chunk_size": 8,
    "block_size": 16,
    "n_groups": 1,
    # tables that are large whatever the width
    "vocab_size_per_layer_input": 64,
    "hidden_size_per_layer_input": 8,
    "ngram_vocab_size_base": 64,
    "make_ngram_vocab_size_divisible_by": 4,
    "split_ngram_parts": 2,
    "hc_lowrank": 4,
    "hidden_size_global": 32,
    "router_hidden_size": 8,
    "shape_vocab_size": 64,
    "shape_embed_dim": 8,
    "pronunciation_vocab_size": 64,
    "pronunciation_embed_dim": 8,
}
# What some architectures need besides, or all kinds of layer where the default has but one.
LATENT = {"num_key_value_heads": 4, "head_dim": 4}
CONVOLUTIONS = {"layer_types": ["conv", "full_attention", "conv"]}
WINDOWS = {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}
LINEAR = {"layer_types": ["linear_attention", "full_attention", "linear_attention"]}
HYBRID = {"layers_block_type": ["linear_attention", "hybrid", "hybrid"]}
SPECIAL = {
    "axk1": LATENT,
    "axk2": LATENT,
    "bailing_hybrid": LATENT,
    "bamba": {"attn_layer_indices": [1]},
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "cohere_compass_text": WINDOWS
    | {"rope_parameters": {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in WINDOWS["layer_types"]}},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "deepseek_v32": LATENT,
    "dots3_note_text": {
        "num_key_value_heads": 4,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_q_lora_rank": 16,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": 12,
        "swa_qk_nope_head_dim": 8,
        "swa_v_head_dim": 6,
    },
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "glm4_moe_lite": LATENT,
    "glm_moe_dsa": LATENT,
    "gpt_neo": {"attention_types": [[["global", "local", "global"], 1]]},
    "granitemoehybrid": LINEAR,
    "hy_v4": LATENT,
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": LATENT,
    "laguna": WINDOWS,
    "lfm2": CONVOLUTIONS,
    "lfm2_moe": CONVOLUTIONS,
    "longcat_flash": LATENT | {"num_layers": 2},
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "mellum": WINDOWS,
    "minicpm3": LATENT,
    "minimax_m3_vl_text": {"layer_types": ["full_attention", "minimax_m3_sparse", "full_attention"]},
    "moshi": {"sliding_window": 0},  # it masks nothing by it
    "prophetnet": {
        "num_encoder_layers": 1,
        "num_decoder_layers": 3,
        "num_encoder_attention_heads": 4,
        "num_decoder_attention_heads": 4,
    },
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1},
    "qwen2_moe": {"use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {"use_sliding_window": True, "max_window_layers": 1},
    "qwen3_moe": {"use_sliding_window": True, "max_window_layers": 1},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 32,
        "indexer_compress_ratio": 4,
    },
    "reformer": {"axial_pos_embds": False, "attention_head_size": 8, "attn_layers": ["local", "lsh"]},
    "xlnet": {"d_inner": 48},
    "xmod": {"default_language": "en_XX"},
    "youtu": LATENT,
    "zamba": HYBRID,
    "zamba2": HYBRID | {"adapter_rank": 4},
    "zaya": {"num_experts_per_tok": 1},
}
# Not built, or nothing of their own to test.
NOT_TRIED = {
    "dots3_note": "its language model is tried as dots3_note_text",
    "gemma3n": "its vision part needs the package timm; its language model is tried as gemma3n_text",
    "gemma4_assistant": "drafts for another model, whose keys and values it reads",
    "gemma4_unified_assistant": "drafts for another model, whose keys and values it reads",
    "musicgen": "transformers builds no language model from its configuration",
    "musicgen_melody": "transformers builds no language model from its configuration",
}
CLASSES = dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
# Their eager function hands out its weights before it scales them by what the sink leaves.
SINK_OUTSIDE = ("granite_swa", "granitemoe_swa")
LAYERS = {
    "sliding_attention": "sliding window",
    "chunked_attention": "chunks",
    "indexed_attention": "selected keys",
    "minimax_m3_sparse": "selected keys",
    "compressed_sparse_attention": "compressed keys",
    "conv": "convolutions",
    "linear_attention": "linear attention",
    "recurrent": "linear attention",
    "mamba": "linear attention",
}
EPS = (0.1, 0.01)
RULES = ("absolute", "relative")
LENGTH = 150  # more than one block of rows, and long against every window
NEAR = 2e-5  # an entry this near its threshold, relative to it, is decided by rounding


def row(kind):
    """The table's line: architecture, class, what is special (as switched on here), verdict and reason."""
    line = {"architecture": kind, "class": CLASSES[kind], "special": ""}
    if kind in NOT_TRIED:
        return line | {"verdict": "not tried", "reason": NOT_TRIED[kind]}
    model = tiny_model(kind)
    line["verdict"], line["reason"] = verdict(model)
    return line | {"class": type(model).__name__, "special": ", ".join(special(model))}


def tiny_model(kind):
    """A random model; biases, gains and sinks are random too, not the zeros and ones that they start from."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(kind)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return model


def tiny_config(kind):
    """The configuration of an architecture: every size small, and every kind of layer that it has by default."""
    return CONFIG_MAPPING[kind](**_small(CONFIG_MAPPING[kind]))


def _small(cls):
    default = cls()
    known = {field.name for field in dataclasses.fields(cls)} | set(cls.attribute_map)
    small = {name: value for name, value in SMALL.items() if name in known}
    for name in cls.sub_configs:
        part = getattr(default, name)
        if part is not None:
            small[name] = _small(type(part)) | {"model_type": part.model_type}
    layers = list(dict.fromkeys(getattr(default, "layer_types", None) or ()))
    name = cls.attribute_map.get("layer_types", "layer_types")
    if len(layers) > 1 and name in known:
        small[name] = (layers * 3)[:3]
    return small | SPECIAL.get(cls.model_type, {})


def special(model):
    """What sets the model's attention apart from a plain one."""
    config = model.config.get_text_config()
    names = " ".join(name for name, _ in model.named_parameters())
    layers = getattr(config, "layer_types", None) or ()
    heads, shared = getattr(config, "num_attention_heads", 0), getattr(config, "num_key_value_heads", None)
    if getattr(config, "multi_query", False) or shared == 1:
        yield "one key-value head"
    elif shared and shared < heads:
        yield "grouped heads"
    if getattr(config, "kv_lora_rank", None):
        yield "keys and values from a latent vector"
    if not layers and getattr(config, "sliding_window", None):
        yield "sliding window"
    yield from dict.fromkeys(LAYERS[kind] for kind in layers if kind in LAYERS)
    if getattr(config, "keep_window_size", None):
        yield "selected keys"
    if ".mamba." in names and "linear_attention" not in layers:
        yield "a state space beside attention"
    if "sinks" in names or "sink_proj" in names:
        yield "sinks"
    if getattr(config, "attn_logit_softcapping", None):
        yield "softcap"
    if ".experts." in names:
        yield "experts"


def batch(side):
    """Three prompts of different lengths, padded on one side; or, without a side, one prompt and no mask."""
    ids = torch.randint(3, 64, (3, LENGTH), generator=torch.Generator().manual_seed(1))
    if side is None:
        return {"input_ids": ids[:1], "attention_mask": None}
    mask = torch.ones_like(ids)
    for prompt, padding in ((1, 7), (2, 100)):
        mask[prompt, slice(padding) if side == "left" else slice(LENGTH - padding, None)] = 0
    return {"input_ids": ids, "attention_mask": mask}


def verdict(model):
    """Say "exact", "refused", "wrong" or "no reference", and why; over padding on either side and none, and EPS."""
    for side, rule in (("left", "absolute"), ("right", "relative"), (None, "absolute")):
        inputs = batch(side)
        try:
            with measuring(model, eps=EPS, rule=RULES, tokens="all", attention_mask=inputs["attention_mask"]) as all_of:
                model.base_model(**inputs, use_cache=False)
            last = attention_dimension(model, **inputs, eps=EPS, rule=rule)
        except ValueError as error:
            reason = re.search(r"which (.*); expected one plain softmax", str(error))
            return "refused", reason[1] if reason else str(error)
        maps = eager_maps(model, inputs)
        real = np.ones((1, LENGTH), bool) if side is None else inputs["attention_mask"].bool().numpy()
        if (maps.triu(1).amax((1, 2, 4)).numpy()[real] > 0).any():
            return "no reference", "its own eager attention attends to later tokens"
        for result in (*all_of.results().values(), last):
            difference = compare(result, maps, real)
            if difference:
                return "wrong", f"{difference} ({result.rule}, {side + ' padding' if side else 'no mask'})"
    return "exact", ""


def eager_maps(model, inputs):
    """The maps of eager attention, [batch, layers, heads, tokens, tokens]."""
    before = model.config._attn_implementation
    model.set_attn_implementation("with_sink" if model.config.model_type in SINK_OUTSIDE else "eager")
    with torch.no_grad():
        maps = model.base_model(**inputs, output_attentions=True, use_cache=False).attentions
    model.set_attn_implementation(before)
    return torch.stack(maps, dim=1).float()


def _with_sink(module, query, key, value, mask, **kwargs):
    """The model's own eager attention, and the weights that multiply the values: values of one show their sum."""
    eager = sys.modules[type(module).__module__].eager_attention_forward
    ones = torch.ones_like(value[..., :1])
    output, weights = eager(module, query, key, torch.cat([value, ones], dim=-1), mask, **kwargs)
    return output[..., :-1], weights * output[..., -1:].transpose(1, 2)


AttentionInterface.register("with_sink", _with_sink)
AttentionMaskInterface.register("with_sink", eager_mask)


def compare(result, maps, real):
    """Say where counts differ from those in the maps; rows that rounding decides are left out, and must be few."""
    eps = torch.tensor(result.eps).view(-1, 1, 1, 1, 1, 1)
    threshold = eps * (maps.amax(-1, keepdim=True) if result.rule == "relative" else 1)
    expected = np.where(real[:, None, None], (maps > threshold).sum(-1).numpy(), -1)
    near = ((maps - threshold).abs() < NEAR * threshold).any(-1).numpy()
    if result.per_head.shape[-1] == 1:
        last = (real.shape[1] - 1 - real[:, ::-1].argmax(-1))[:, None, None, None]
        expected, near = (np.take_along_axis(rows, last[None], -1) for rows in (expected, near))
    if result.per_head.shape != expected.shape:
        return f"counts have shape {result.per_head.shape}, not {expected.shape}"
    if near.sum() > max(1, 0.01 * near.size):
        return f"rounding decides {near.sum()} of {near.size} rows"
    wrong = (result.per_head != expected) & ~near
    return f"{wrong.sum()} of {wrong.size} rows differ" if wrong.any() else ""
