"""What visits a model: prompts checked, passes heard or ended early, attention replaced for a while."""

import contextlib
import functools
import inspect
import threading

import numpy as np
import pandas as pd
import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from geolib.checks import integer, masked, one_line
from geolib.dimension.architectures import NOT_ROUTED, UncountableError, check_model, layer_count, virtual_tokens

# One lock per configuration: it is where the attention is swapped, and models and their parts may share it.
_LOCKS: dict[int, threading.RLock] = {}


def device_of(model) -> torch.device:
    """Where a model takes its inputs; the weights of an offloaded one are nowhere, and move their inputs themselves."""
    return torch.device("cpu") if model.device.type == "meta" else model.device


def read(model, **inputs) -> None:
    """Let a model read, without the head where it can be left out: the vocabulary's logits cost more than all else.

    What wraps a model, or listens to all of it, may change what is read: then all of it runs.
    """
    whole = not isinstance(model, PreTrainedModel) or model._forward_pre_hooks
    (model if whole else model.base_model)(**inputs, use_cache="past_key_values" in inputs)


def as_rows(name, value) -> torch.Tensor:
    """Whole numbers in a tensor; a row by itself is a batch of one. `name` opens the error."""
    try:
        if masked(value):
            raise TypeError
        # A copy of what pandas or NumPy hold, which may be indexed by other labels, or closed to writing.
        rows = torch.as_tensor(value if isinstance(value, torch.Tensor | list | tuple) else np.array(value))
    except (TypeError, ValueError, RuntimeError):
        expected = "integers of shape [batch, tokens] were expected"
        raise TypeError(f"{name} is {one_line(value)}, but {expected}") from None
    rows = rows.long() if "uint" in str(rows.dtype) else rows  # torch can do little with these
    return rows[None] if rows.ndim == 1 else rows


def check_ids(function, model, input_ids, past=0, *, virtual=False, one=False) -> torch.Tensor:
    """Token ids on the model's device, shape=[batch, tokens], that fit its vocabulary, and its window after `past`.

    With `one`, a batch of one prompt.
    """
    check_model(function, model, virtual=virtual)
    ids = as_rows(f"{function}: input_ids", input_ids)
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(
            f"{function}: input_ids has shape {tuple(ids.shape)}, but [batch, tokens] with at least one token was "
            "expected"
        )
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"{function}: input_ids has type {ids.dtype}, but integers were expected")
    check_fit(f"{function}: input_ids", model, ids, past)
    if one and len(ids) > 1:
        raise ValueError(f"{function}: input_ids holds {len(ids)} prompts, but one was expected")
    return ids.to(device_of(model), torch.long)


def check_fit(name, model, ids, past=0) -> None:
    """Refuse token ids outside the model's vocabulary, or, after `past` others, beyond its window; `name` opens."""
    config = model.config.get_text_config()
    if ids.min() < 0 or ids.max() >= config.vocab_size:
        raise ValueError(f"{name} has ids from {ids.min()} to {ids.max()}, but the vocabulary has {config.vocab_size}")
    length, window = past + virtual_tokens(model) + ids.shape[-1], getattr(config, "max_position_embeddings", None)
    if window and 0 < window < length:
        raise ValueError(f"{name} has {length} tokens, but the model's window is {window}")


def labelled(name: str, values) -> pd.Series:
    """Values in a Series, whose index is what they are called."""
    if isinstance(values, str) or not np.iterable(values):
        raise TypeError(f"{name} is {one_line(values)}, but a sequence was expected")
    series = values if isinstance(values, pd.Series) else pd.Series(list(values), dtype=object)
    if series.empty:
        raise ValueError(f"{name} is empty, but at least one was expected")
    return series


def named(function: str, series: pd.Series):
    """Go through a Series; each value comes with the opening of an error about it: "measure_prompts: line 3"."""
    kind = series.index.name or "prompt"
    return ((f"{function}: {kind} {label}", value) for label, value in series.items())


def prompt_ids(name: str, ids, model) -> tuple[int, ...]:
    """One prompt's token ids, so that they can be a key; `name` opens the error."""
    try:
        array = np.asarray(ids)
        if masked(ids) or array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise TypeError
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {one_line(ids)}, but token ids of shape [tokens] were expected") from None
    if array.size == 0:
        raise ValueError(f"{name} has no tokens, but at least one was expected")
    check_fit(name, model, array)
    return tuple(array.tolist())


def check_mask(function, attention_mask, shape=None) -> torch.Tensor:
    """Mask as a tensor, of the shape if that is known yet; `function` opens the error."""
    mask = as_rows(f"{function}: attention_mask", attention_mask)
    if mask.shape != (shape or mask.shape) or mask.ndim != 2 or not mask.numel():
        shape = shape or "[batch, tokens]"
        raise ValueError(f"{function}: attention_mask has shape {tuple(mask.shape)}, but {shape} was expected")
    if not torch.isin(mask.to(torch.float32), torch.tensor([0.0, 1.0])).all() or not mask.any(-1).all():
        raise ValueError(
            f"{function}: attention_mask holds other than 0 and 1, or a row of padding only, "
            "but 1 for each token and 0 for padding was expected"
        )
    return mask


def check_positions(function, position_ids, shape) -> torch.Tensor:
    """Positions as a tensor of this shape, whole numbers from 0 on; `function` opens the error."""
    positions = as_rows(f"{function}: position_ids", position_ids)
    if positions.shape != shape or positions.is_floating_point() or (positions < 0).any():
        raise ValueError(
            f"{function}: position_ids has shape {tuple(positions.shape)}, type {positions.dtype}, but whole "
            f"numbers from 0 on, of shape {tuple(shape)}, were expected"
        )
    return positions


def layer_numbers(function, model, layer) -> list[int]:
    """Layers that a caller asked for, one or a sequence of them, negative from the last: their numbers, from 0."""
    n_layers = layer_count(function, model)
    layers = layer if np.ndim(layer) else [layer]
    if not len(layers):
        raise ValueError(f"{function}: layer is empty, expected at least one")
    return [integer(f"{function}: layer", one, -n_layers, n_layers - 1) % n_layers for one in layers]


@contextlib.contextmanager
def evaluating(model):
    """Switch dropout and gradients off, then each module back to what it was; other threads that would wait."""
    with locked(model):
        training = [module for module in model.modules() if module.training]
        model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module in training:
                module.training = True


class Reached(Exception):  # noqa: N818 -- no error
    """Ends a forward pass that has gone far enough."""


def ours(hook):
    """Make a hook that is called in this thread alone: others may call the model meanwhile, and are not heard."""
    thread = threading.get_ident()

    @functools.wraps(hook)
    def hear(*args, **kwargs):
        return hook(*args, **kwargs) if threading.get_ident() == thread else None

    return hear


def visit(function, modules, hear, model, ids, mask):
    """Run a model until it has entered all modules, and call hear(name, what the module is given) at each."""
    waiting = set(modules)

    def enter(name, module, args):
        hear(name, args[0])
        waiting.discard(name)
        if not waiting:
            raise Reached

    inputs = {"input_ids": ids, "attention_mask": mask}
    inner = next(part for part in model.modules() if isinstance(part, PreTrainedModel))  # adapters wrap it
    if "position_ids" in inspect.signature(inner.base_model.forward).parameters:
        inputs["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)  # padding on the left moves no token
    with contextlib.ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_pre_hook(ours(functools.partial(enter, name))))
        with contextlib.suppress(Reached), evaluating(model):
            read(model, **inputs)
    if waiting:
        raise ValueError(f"{function}: model is a {type(model).__name__}, whose forward pass does not reach the layer")


@contextlib.contextmanager
def locked(model):
    """Hold a model, so that no other thread measures it meanwhile: their attention and modes are one and the same."""
    with contextlib.ExitStack() as stack:
        for key in sorted({id(part.config) for part in model.modules() if isinstance(part, PreTrainedModel)}):
            stack.enter_context(_LOCKS.setdefault(key, threading.RLock()))
        yield


def _cast(attend):
    """Attention function that gets what autocast hands a fused kernel, and computes with no cast of its own."""

    @functools.wraps(attend)
    def cast(module, query, key, value, *args, **kwargs):
        kind = query.device.type
        if torch.is_autocast_enabled(kind):
            query, key, value = (part.to(torch.get_autocast_dtype(kind)) for part in (query, key, value))
        with torch.autocast(kind, enabled=False):
            return attend(module, query, key, value, *args, **kwargs)

    return cast


@contextlib.contextmanager
def attending(model, name, attend, mask):
    """Let a model attend through `attend`, without dropout or gradients; leave it as it was.

    Other threads that would measure the model wait. Those that merely call it meanwhile get `attend` too.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    name : str
        Under which the two functions are registered with transformers.
    attend, mask : callable
        Of the signatures of transformers' attention and mask interfaces. An attention without a mask function of its
        own would be given no mask, and see padding.

    Raises
    ------
    UncountableError
        The model bypasses the interface: by a look at its class's source, transformers decides whether it does.
    """
    if not model._can_set_attn_implementation():
        raise UncountableError(NOT_ROUTED)
    AttentionInterface.register(name, _cast(attend))
    AttentionMaskInterface.register(name, mask)
    with locked(model):
        parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
        configs = {id(part.config): part.config for part in parts}.values()
        before = [(config, config._attn_implementation_internal) for config in configs]
        try:
            own = model.config._attn_implementation
            model.set_attn_implementation(name)
            with evaluating(model):  # dropout would drop edges
                yield own
        finally:
            # Parts of a model may differ: the public setter would give all of them the attention of the whole.
            for config, implementation in before:
                config._attn_implementation_internal = implementation
