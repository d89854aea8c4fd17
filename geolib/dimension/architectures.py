"""What is known of transformers' models: which attention is exact, which is refused, and how their parts are found.

Only the attention interface is the same in all of them. Layers are found by their number, MLPs and gates by the names
that the families give them, and what is not known is refused with the reason.
"""

import contextlib
import copy
import sys

import torch
from transformers.pytorch_utils import Conv1D

NOT_ROUTED = "does not route its attention through transformers' attention interface"
OFFLOADED = "offloads keys and values, for which torch has no accelerator"
# Routed through the interface, yet not one softmax per head over the tokens.
NOT_SOFTMAX = {"diffllama": "subtracts two softmaxes", "deepseek_v4": "attends to summaries of tokens too"}
# What an attention function may be handed besides query, key, value and mask without a change to the weights. Anything
# else that is given might change them, and is refused.
_HARMLESS = {
    "dropout", "is_causal", "sliding_window", "position_ids", "cache_position", "use_cache", "output_attentions",
    "output_hidden_states", "output_router_logits", "return_dict", "deterministic", "logits_to_keep",
    "num_items_in_batch", "past_key_values",
}  # fmt: skip

LINEAR = torch.nn.Linear | Conv1D
# What a block calls the module that its MLP begins with.
_MLPS = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "fc1")
# The linear maps of an MLP, by their names; the first goes into the activation.
_GATED = (
    ("gate_proj", "up_proj", "down_proj"),  # llama, mistral, qwen, gemma, olmo, ...
    ("gate_up_proj", "down_proj"),  # phi3, glm, glm4: the gate is the first half
    ("c_fc", "c_proj"),  # gpt2, gpt_neo, starcoder2, ...
    ("fc1", "fc2"),  # opt, phi, biogpt, ...
    ("fc_in", "fc_out"),  # gptj, codegen
    ("dense_h_to_4h", "dense_4h_to_h"),  # gpt_neox, bloom, falcon, ...
    ("up_proj", "down_proj"),  # nemotron, mpt
)
_FIRST_HALF = ("phi3", "glm", "glm4")  # seen in their source; others may hold the halves the other way round


class UncountableError(Exception):
    """What cannot be measured; raised deep in a forward pass, it carries the reason."""


@contextlib.contextmanager
def refusing(function, model, expected):
    """Turn the reason of an :class:`UncountableError` into a ValueError that `function` opens, and names the model."""
    try:
        yield
    except UncountableError as error:
        raise ValueError(f"{function}: model is a {type(model).__name__}, which {error}; expected {expected}") from None


def check_model(function, model, *, virtual=False) -> None:
    """Refuse what is no causal transformers model, and, unless `virtual`, one with virtual tokens; `function` opens."""
    if not hasattr(model, "set_attn_implementation"):
        raise TypeError(f"{function}: model is a {type(model).__name__}, but a transformers model was expected")
    if model.config.is_encoder_decoder:
        raise ValueError(f"{function}: model is a {type(model).__name__}, but a causal language model was expected")
    if not virtual and virtual_tokens(model):
        raise ValueError(
            f"{function}: model is a {type(model).__name__} with {virtual_tokens(model)} virtual tokens, but one "
            "without was expected"
        )


def check_arguments(module, arguments) -> None:
    """Refuse an attention function's further arguments where they may change the weights."""
    for argument in arguments:
        if argument not in _HARMLESS and arguments[argument] is not None:
            raise UncountableError(f"hands its attention function {argument!r}, which is not accounted for")
    if not arguments.get("is_causal", getattr(module, "is_causal", True)):
        raise UncountableError("attends to later tokens")


def eager_attention(module):
    """Eager attention function of a module's own architecture, and the number of the layer that it is in."""
    homes = [vars(sys.modules[kind.__module__]) for kind in type(module).__mro__]
    eager = next((home["eager_attention_forward"] for home in homes if "eager_attention_forward" in home), None)
    layer = getattr(module, "layer_idx", None)
    if eager is None or layer is None:
        raise UncountableError("has no eager attention of its own" if eager is None else "does not number its layers")
    return eager, layer


def virtual_tokens(model, *, read=False) -> int:
    """Tokens that peft puts before every prompt; with `read`, those that come as embeddings and not as a cache."""
    config = getattr(model, "active_peft_config", None)
    if not getattr(config, "is_prompt_learning", False) or model._adapters_disabled:
        return 0
    return 0 if read and config.peft_type in ("PREFIX_TUNING", "CARTRIDGE") else config.num_virtual_tokens


def cached(past_key_values) -> int:
    """Tokens in a cache."""
    return 0 if past_key_values is None else int(past_key_values.get_seq_length())


def copied(function, cache):
    """Copy of a cache, free of the graph that a pass with gradients leaves in it; `function` opens the error."""
    if getattr(cache, "offloading", False) and not torch.accelerator.is_available():
        raise ValueError(f"{function}: past_key_values {OFFLOADED}; expected a cache in memory")
    held = [value for layer in getattr(cache, "layers", ()) for value in vars(layer).values()]
    memo = {id(value): value.detach().clone() for value in held if isinstance(value, torch.Tensor)}
    memo |= {id(value): value for value in vars(cache).values() if isinstance(value, torch.Stream)}
    return copy.deepcopy(cache, memo)


def layer_count(function, model) -> int:
    """Return the number of layers that a model's configuration tells; `function` opens the error."""
    check_model(function, model)
    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if n_layers is None:
        raise ValueError(f"{function}: model is a {type(model).__name__}, whose number of layers is not known")
    return n_layers


def find_blocks(model):
    """Return the model's layers, as modules in their order; nothing where no list of modules has their number."""
    config = model.config.get_text_config()
    n_layers = getattr(config, "num_hidden_layers", None)
    # A vision tower may be as deep: the language model is the part that has the text's configuration.
    home = next((part for part in model.modules() if getattr(part, "config", None) is config), model)
    lists = (part for part in home.modules() if isinstance(part, torch.nn.ModuleList))
    return next((part for part in lists if len(part) == n_layers), ())


def find_mlps(blocks) -> list:
    """Return the module that the MLP of each block begins with, None where no name is known."""
    return [next((getattr(block, name) for name in _MLPS if hasattr(block, name)), None) for block in blocks]


def find_gate(function, model, layer):
    """Projection whose output goes into the MLP's activation, and whether that is its first half only."""
    blocks, found = find_blocks(model), []
    if not blocks:
        raise ValueError(f"{function}: model is a {type(model).__name__}, whose layers were not found")
    block = blocks[layer]
    for module in block.modules():
        linear = {name for name, child in module.named_children() if isinstance(child, LINEAR)}
        found += [(getattr(module, names[0]), names[0]) for names in _GATED if linear == set(names)]
    if any("expert" in f"{name} {type(module).__name__}".lower() for name, module in block.named_modules()):
        reason = "is a mixture of experts"
    elif len(found) != 1:
        names = sorted({type(module).__name__ for module in block.children()})
        reason = f"holds {len(found)} MLPs with a known gate ({', '.join(names)})"
    elif found[0][1] == "gate_up_proj" and model.config.get_text_config().model_type not in _FIRST_HALF:
        reason = "has a gate in one half of gate_up_proj, unknown which"
    elif found[0][0].weight.is_meta:
        reason = "has weights that are offloaded"
    elif kind := quantised(found[0][0].weight):
        reason = f"has weights of type {kind}"
    elif (kind := type(found[0][0])) not in (torch.nn.Linear, Conv1D):
        reason = f"has a {kind.__name__}, which may compute other than its weights tell,"
    else:
        return found[0][0], found[0][1] == "gate_up_proj"
    raise ValueError(
        f"{function}: model is a {type(model).__name__}, whose layer {layer} {reason}; expected one MLP with a known "
        "gate"
    )


def quantised(weight) -> str | None:
    """Return the type of weights that stand for others, which a scale or another tensor belongs to."""
    if type(weight.data) is not torch.Tensor:
        return type(weight.data).__name__
    plain = weight.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return None if plain else str(weight.dtype)


def linear_map(module):
    """Weights and biases of a linear module, shape=[out, in] and shape=[out]; zeros where it has no bias."""
    W = module.weight if isinstance(module, torch.nn.Linear) else module.weight.T  # Conv1D is a transposed Linear
    return W, W.new_zeros(len(W)) if module.bias is None else module.bias
