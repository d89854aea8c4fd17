"""What is known of transformers' models: which attention is exact, which is refused, and how their parts are found.

Only the attention interface is the same in all models. Layers are found by their number, and MLPs and gates by the
names that the model families give them. A model that is not known is refused, with the reason.
"""

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

NOT_ROUTED = "does not route its attention through transformers' attention interface"
OFFLOADED = "offloads keys and values, for which torch has no accelerator"
# Routed through the interface, yet not one softmax per head over the tokens.
NOT_SOFTMAX = {"diffllama": "subtracts two softmaxes", "deepseek_v4": "attends to summaries of tokens too"}
# Arguments of an attention function, besides query, key, value and mask, that do not change the weights. Any other one
# that is given might change them, and is refused.
_HARMLESS = {
    "dropout", "is_causal", "sliding_window", "position_ids", "cache_position", "use_cache", "output_attentions",
    "output_hidden_states", "output_router_logits", "return_dict", "deterministic", "logits_to_keep",
    "num_items_in_batch", "past_key_values",
}  # fmt: skip

LINEAR = torch.nn.Linear | Conv1D
# Names that blocks give to the module with which their MLP begins.
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
_FIRST_HALF = ("phi3", "glm", "glm4")  # as their source shows; other models may hold the halves in the other order


class UncountableError(Exception):
    """Raised deep in a forward pass when a model cannot be measured; the message is the reason."""


def unfit(function: str, model: Any, found: str, expected: str, kind: type[Exception] = ValueError) -> Exception:
    """Return the error for a model that cannot be used; `found` continues the name of its class."""
    return kind(f"{function}: model is a {type(model).__name__}{found}, but {expected} was expected")


def not_finite(function: str, found: str) -> ValueError:
    """Return the error for a model that gives NaN or infinite values; `found` says which."""
    return ValueError(f"{function}: model gives {found}, but finite values were expected")


@contextlib.contextmanager
def refusing(function: str, model: Any, expected: str) -> Iterator[None]:
    """Turn an :class:`UncountableError` into a ValueError that names the model and the reason."""
    try:
        yield
    except UncountableError as error:
        raise ValueError(f"{function}: model is a {type(model).__name__}, which {error}; expected {expected}") from None


def check_model(function: str, model: Any, *, virtual: bool = False) -> None:
    """Refuse anything but a causal transformers model; and, unless `virtual`, a model with virtual tokens."""
    if not hasattr(model, "set_attn_implementation"):
        raise unfit(function, model, "", "a transformers model", TypeError)
    if model.config.is_encoder_decoder:
        raise unfit(function, model, "", "a causal language model")
    if not virtual and (n_virtual := virtual_tokens(model)):
        raise unfit(function, model, f" with {n_virtual} virtual tokens", "one without")


def check_arguments(module: torch.nn.Module, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of an attention function that may change the weights."""
    for argument in arguments:
        if argument not in _HARMLESS and arguments[argument] is not None:
            raise UncountableError(f"hands its attention function {argument!r}, which is not accounted for")
    if not arguments.get("is_causal", getattr(module, "is_causal", True)):
        raise UncountableError("attends to later tokens")


def eager_attention(module: torch.nn.Module) -> tuple[Callable, int]:
    """Return the eager attention function of a module's architecture, and the number of the module's layer."""
    homes = [vars(sys.modules[kind.__module__]) for kind in type(module).__mro__]
    eager = next((home["eager_attention_forward"] for home in homes if "eager_attention_forward" in home), None)
    layer = getattr(module, "layer_idx", None)
    if eager is None or layer is None:
        raise UncountableError("has no eager attention of its own" if eager is None else "does not number its layers")
    return eager, layer


def virtual_tokens(model: Any, *, read: bool = False) -> int:
    """Count the tokens that peft puts before every prompt; with `read`, only those that are embedded, not cached."""
    config: Any = getattr(model, "active_peft_config", None)
    if not getattr(config, "is_prompt_learning", False) or model._adapters_disabled:
        return 0
    return 0 if read and config.peft_type in ("PREFIX_TUNING", "CARTRIDGE") else config.num_virtual_tokens


def cached(past_key_values: Any) -> int:
    """Count the tokens in a cache, or in none."""
    return 0 if past_key_values is None else int(past_key_values.get_seq_length())


def copied(function: str, cache: Any) -> Any:
    """Copy a cache, without the autograd graph that a pass with gradients leaves in it."""
    if getattr(cache, "offloading", False) and not torch.accelerator.is_available():
        raise ValueError(f"{function}: past_key_values {OFFLOADED}, but a cache in memory was expected")
    held = [value for layer in getattr(cache, "layers", ()) for value in vars(layer).values()]
    memo = {id(value): value.detach().clone() for value in held if isinstance(value, torch.Tensor)}
    memo |= {id(value): value for value in vars(cache).values() if isinstance(value, torch.Stream)}
    return copy.deepcopy(cache, memo)


def layer_count(function: str, model: Any) -> int:
    """Return the number of layers, which the model's configuration states."""
    check_model(function, model)
    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if n_layers is None:
        raise unfit(function, model, ", whose number of layers is not known", "num_hidden_layers in its configuration")
    return n_layers


def find_blocks(model: Any) -> Sequence[torch.nn.Module]:
    """Return the model's layers, as modules in their order; empty if no list of modules has that many."""
    config = model.config.get_text_config()
    n_layers = getattr(config, "num_hidden_layers", None)
    # A vision tower may have as many layers: the language model is the part that has the text's configuration.
    home = next((part for part in model.modules() if getattr(part, "config", None) is config), model)
    lists = (part for part in home.modules() if isinstance(part, torch.nn.ModuleList))
    return next((part for part in lists if len(part) == n_layers), ())


def find_mlps(blocks: Sequence[torch.nn.Module]) -> list:
    """Return the module with which the MLP of each block begins, or None if the block has no known name for it."""
    return [next((getattr(block, name) for name in _MLPS if hasattr(block, name)), None) for block in blocks]


def find_gate(function: str, model: Any, layer: int) -> tuple[torch.nn.Module, bool]:
    """Return the projection whose output enters the MLP's activation, and whether only its first half does."""
    module, (name, *_) = find_mlp(function, model, layer)
    return getattr(module, name), name == "gate_up_proj"


def find_mlp(function: str, model: Any, layer: int, *, whole: bool = False) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Return the module that holds the linear maps of an MLP, and their names: first the gate's, last the readout's.

    Weights that do not say what is computed are refused: those of the gate or, with `whole`, of all the maps.
    """
    blocks, expected = find_blocks(model), "one MLP with a known gate"
    if not blocks:
        raise unfit(function, model, ", whose layers were not found", expected)
    block, found = blocks[layer], []
    for module in block.modules():
        linear = {name for name, child in module.named_children() if isinstance(child, LINEAR)}
        found += [(module, names) for names in _GATED if linear == set(names)]
    parts = [getattr(module, name) for module, names in found for name in names]
    if any("expert" in f"{name} {type(module).__name__}".lower() for name, module in block.named_modules()):
        reason = "is a mixture of experts"
    elif len(found) != 1:
        names = sorted({type(module).__name__ for module in block.children()})
        reason = f"holds {len(found)} MLPs with a known gate ({', '.join(names)})"
    elif "gate_up_proj" in found[0][1] and model.config.get_text_config().model_type not in _FIRST_HALF:
        reason = "has a gate in an unknown half of gate_up_proj"
    else:
        reason = next(filter(None, map(_unclear, parts if whole else parts[:1])), None)
    if reason:
        raise unfit(function, model, f", whose layer {layer} {reason}", expected)
    return found[0]


def _unclear(part):
    """Say why the weights of a linear map may not be what it multiplies by, or None."""
    if part.weight.is_meta:
        return "has weights that are offloaded"
    if kind := quantised(part.weight):
        return f"has weights of type {kind}"
    known = type(part) in (torch.nn.Linear, Conv1D)
    return None if known else f"has a {type(part).__name__}, which may compute something else than its weights say"


def quantised(weight: torch.nn.Parameter) -> str | None:
    """Return the type of weights that are quantised, and mean something only with a scale; None for plain weights."""
    if type(weight.data) is not torch.Tensor:
        return type(weight.data).__name__
    return None if weight.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64) else str(weight.dtype)


def linear_map(module: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights, shape=[out, in], and biases, shape=[out], of a linear module; zeros if it has no bias."""
    W = module.weight if isinstance(module, torch.nn.Linear) else module.weight.T  # Conv1D is a transposed Linear
    return W, W.new_zeros(len(W)) if module.bias is None else module.bias
