"""What visits a model: it checks prompts, listens to forward passes, ends them early, and replaces attention."""

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from geolib.checks import integer, masked, one_line
from geolib.dimension.architectures import NOT_ROUTED, UncountableError, check_model, layer_count, unfit, virtual_tokens
from geolib.dimension.rules import several

# One lock for each configuration, where the attention is replaced; several models, or parts of one, may share it.
_LOCKS: dict[int, threading.RLock] = {}


def device_of(model: Any) -> torch.device:
    """Return the device on which a model takes its inputs; an offloaded one takes them on the CPU and moves them."""
    return torch.device("cpu") if model.device.type == "meta" else model.device


def read(model: Any, **inputs: Any) -> None:
    """Run a forward pass, without the head if possible: the vocabulary's logits cost more than everything else.

    Adapters and hooks on the whole model may change what is read: then the whole model runs.
    """
    whole = not isinstance(model, PreTrainedModel) or model._forward_pre_hooks
    (model if whole else model.base_model)(**inputs, use_cache="past_key_values" in inputs)


def as_rows(name: str, value: Any) -> torch.Tensor:
    """Return whole numbers as a tensor; a single row becomes a batch of one. `name` prefixes the message."""
    try:
        if masked(value):
            raise TypeError
        # pandas and NumPy objects are copied: they may have other indices than 0, 1, ..., or be read-only.
        rows = torch.as_tensor(value if isinstance(value, torch.Tensor | list | tuple) else np.array(value))
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} is {one_line(value)}, but integers of shape [batch, tokens] were expected") from None
    # torch has few operations for unsigned integers, and compares narrow ones with numbers that it has wrapped.
    rows = rows.long() if "int" in str(rows.dtype) else rows
    return rows[None] if rows.ndim == 1 else rows


def check_ids(
    function: str, model: Any, input_ids: Any, past: int = 0, *, virtual: bool = False, one: bool = False
) -> torch.Tensor:
    """Return token ids on the model's device, shape=[batch, tokens], after checking them.

    They must fit the vocabulary and, after `past` tokens, the window. With `one`, a single prompt is expected.
    """
    check_model(function, model, virtual=virtual)
    ids = as_rows(f"{function}: input_ids", input_ids)
    if ids.ndim != 2 or ids.numel() == 0:
        expected = "[batch, tokens] with at least one token was expected"
        raise ValueError(f"{function}: input_ids has shape {tuple(ids.shape)}, but {expected}")
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"{function}: input_ids has type {ids.dtype}, but integers were expected")
    check_fit(f"{function}: input_ids", model, ids, past)
    if one and len(ids) > 1:
        raise ValueError(f"{function}: input_ids holds {len(ids)} prompts, but one was expected")
    return ids.to(device_of(model), torch.long)


def check_fit(name: str, model: Any, ids: Any, past: int = 0) -> None:
    """Refuse token ids outside the model's vocabulary, or beyond its window after `past` other tokens."""
    config = model.config.get_text_config()
    if ids.min() < 0 or ids.max() >= config.vocab_size:
        raise ValueError(f"{name} has ids {ids.min()} to {ids.max()}, but 0 to {config.vocab_size - 1} was expected")
    length, window = past + virtual_tokens(model) + ids.shape[-1], getattr(config, "max_position_embeddings", None)
    if window and 0 < window < length:
        raise ValueError(f"{name} has {length} tokens, but at most {window}, the model's window, was expected")


def labelled(name: str, values: Any) -> pd.Series:
    """Return a sequence as a Series, whose index labels its values."""
    if isinstance(values, str | Set | Mapping) or not np.iterable(values):
        raise TypeError(f"{name} is {one_line(values)}, but a sequence was expected")
    series = values if isinstance(values, pd.Series) else pd.Series(list(values), dtype=object)
    if series.empty:
        raise ValueError(f"{name} is empty, but at least one was expected")
    return series


def named(function: str, series: pd.Series) -> Iterator[tuple[str, Any]]:
    """Go through a Series; each value comes with the prefix of an error about it: "measure_prompts: line 3"."""
    kind = series.index.name or "prompt"
    return ((f"{function}: {kind} {label}", value) for label, value in series.items())


def prompts_of(function: str, prompts: Any, model: Any) -> tuple[pd.Index, list[tuple[int, ...]]]:
    """Return the labels of prompts, and the token ids of each as a tuple, which can be a key of a dict."""
    series = labelled(f"{function}: prompts", prompts)
    return series.index, [_prompt_ids(name, ids, model) for name, ids in named(function, series)]


def _prompt_ids(name, ids, model):
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


def check_mask(function: str, attention_mask: Any, shape: tuple[int, ...] | None = None) -> torch.Tensor:
    """Return an attention mask as a tensor, after checking its values and, if it is given, its shape."""
    mask = as_rows(f"{function}: attention_mask", attention_mask)
    if mask.shape != (shape or mask.shape) or mask.ndim != 2 or not mask.numel():
        expected = shape or "[batch, tokens]"
        raise ValueError(f"{function}: attention_mask has shape {tuple(mask.shape)}, but {expected} was expected")
    if not torch.isin(mask.to(torch.float32), torch.tensor([0.0, 1.0])).all() or not mask.any(-1).all():
        found, expected = "numbers other than 0 and 1, or a row of padding only", "1 for each token and 0 for padding"
        raise ValueError(f"{function}: attention_mask holds {found}, but {expected} was expected")
    return mask


def check_positions(function: str, position_ids: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """Return positions as a tensor of this shape, after checking that they are whole numbers from 0 on."""
    positions = as_rows(f"{function}: position_ids", position_ids)
    if positions.shape != shape or positions.is_floating_point() or (positions < 0).any():
        found, expected = f"shape {tuple(positions.shape)}, type {positions.dtype}", "whole numbers from 0 on, of shape"
        raise ValueError(f"{function}: position_ids has {found}, but {expected} {tuple(shape)}, were expected")
    return positions


def layer_numbers(function: str, model: Any, layer: Any) -> list[int]:
    """Return the numbers, from 0, of one layer or a sequence of layers; a negative one counts from the last."""
    n_layers, layers = layer_count(function, model), several(layer)
    if not layers:
        raise ValueError(f"{function}: layer is empty, but at least one was expected")
    return [integer(f"{function}: layer", one, -n_layers, n_layers - 1) % n_layers for one in layers]


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Switch dropout and gradients off for a while; other threads that would do so with this model wait."""
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
    """Raised to end a forward pass that has gone far enough."""


def ours(hook: Callable) -> Callable:
    """Restrict a hook to this thread: other threads may call the same model meanwhile."""
    thread = threading.get_ident()

    @functools.wraps(hook)
    def hear(*args, **kwargs):
        return hook(*args, **kwargs) if threading.get_ident() == thread else None

    return hear


@contextlib.contextmanager
def hearing(modules: Mapping[Any, torch.nn.Module], hear: Callable) -> Iterator[None]:
    """Call hear(name, what the module is given) whenever a pass of this thread enters one of the modules."""

    def enter(name, module, args, kwargs):
        hear(name, args[0] if args else kwargs["hidden_states"])

    with contextlib.ExitStack() as hooks:
        for name, module in modules.items():
            hook = ours(functools.partial(enter, name))
            hooks.enter_context(module.register_forward_pre_hook(hook, with_kwargs=True))
        yield


def visit(function: str, modules: Mapping, hear: Callable, model: Any, ids: torch.Tensor, mask: torch.Tensor) -> None:
    """Run a model until it has entered all modules; `modules` and `hear` as for :func:`hearing`."""
    waiting = set(modules)

    def enter(name, given):
        hear(name, given)
        waiting.discard(name)
        if not waiting:
            raise Reached

    inputs = {"input_ids": ids, "attention_mask": mask}
    inner = next(part for part in model.modules() if isinstance(part, PreTrainedModel))  # adapters wrap it
    if "position_ids" in inspect.signature(inner.base_model.forward).parameters:
        inputs["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)  # padding on the left moves no token
    with hearing(modules, enter), contextlib.suppress(Reached), evaluating(model):
        read(model, **inputs)
    if waiting:
        raise unfit(function, model, ", whose forward pass does not reach the layer", "a pass through all layers")


@contextlib.contextmanager
def locked(model: Any) -> Iterator[None]:
    """Keep other threads from measuring a model meanwhile: its attention and its modes belong to all threads."""
    with contextlib.ExitStack() as stack:
        for key in sorted({id(part.config) for part in model.modules() if isinstance(part, PreTrainedModel)}):
            stack.enter_context(_LOCKS.setdefault(key, threading.RLock()))
        yield


def _cast(attend):
    """Cast the inputs of an attention function as autocast does for a fused kernel, and nothing inside it."""

    @functools.wraps(attend)
    def cast(module, query, key, value, *args, **kwargs):
        kind = query.device.type
        if torch.is_autocast_enabled(kind):
            query, key, value = (part.to(torch.get_autocast_dtype(kind)) for part in (query, key, value))
        with torch.autocast(kind, enabled=False):
            return attend(module, query, key, value, *args, **kwargs)

    return cast


@contextlib.contextmanager
def attending(model: Any, name: str, attend: Callable, mask: Callable) -> Iterator[str]:
    """Replace a model's attention by `attend` for a while, without dropout or gradients.

    Other threads that would measure the model wait. Threads that only call it meanwhile get `attend` too.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    name : str
        Name under which the two functions are registered with transformers.
    attend, mask : callable
        Functions with the signatures of transformers' attention and mask interfaces. Without a mask function of its
        own, an attention function would be given no mask, and would see padding.

    Raises
    ------
    UncountableError
        The model bypasses the interface; transformers finds this out from the source of the model's class.
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
            # Parts of a model may have attention of different kinds; the public setter would make them all alike.
            for config, implementation in before:
                config._attn_implementation_internal = implementation
