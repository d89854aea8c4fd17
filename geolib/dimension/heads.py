"""One layer's attention, head by head: the convex weights, the points that they mix, and what the model made of them.

Every architecture that goes through transformers' attention interface has its own eager attention as well, which
returns the weights it used, whatever entered them: grouped heads, windows, caps, sinks. The values are taken where they
enter it, and the output projection is the module that reads what comes out: nothing is looked up by name.
"""

import contextlib
import contextvars
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask

from geolib.dimension.architectures import (
    LINEAR,
    NOT_ROUTED,
    UncountableError,
    eager_attention,
    linear_map,
    quantised,
    refusing,
)
from geolib.dimension.lm import Reached, attending, check_ids, layer_numbers, ours, read

_NAME = "geolib_heads"
_EXPECTED = "convex weights times values, and one linear output projection"


@dataclass(frozen=True, eq=False)
class AttentionHeads:
    """Attention of one layer over one prompt, made by `attention_heads`.

    Row i of ``output`` is the sum over heads h of ``weights[h, i] @ values[h] @ out_proj[h]``, plus ``bias``.

    Attributes
    ----------
    weights : array-like, shape=[heads, tokens, tokens]
        Row i holds the weights with which token i attends: not negative, and their sum is 1 (at most 1 with sinks).
    values : array-like, shape=[heads, tokens, head_dim]
        What the weights mix, each head with its own even where heads share them. A bias of the values is included.
    out_proj : array-like, shape=[heads, head_dim, width]
        Output projection, split by head.
    bias : array-like, shape=[width]
        Of the output projection; zeros if it has none.
    output : array-like, shape=[tokens, width]
        What the model's own output projection returned.
    sinks : bool
        Whether the heads have learned sinks, which take a part of the weight and add nothing.
    layer : int
        The layer, from 0.
    """

    weights: np.ndarray
    values: np.ndarray
    out_proj: np.ndarray
    bias: np.ndarray
    output: np.ndarray
    sinks: bool
    layer: int

    def rows(self, weights) -> np.ndarray:
        """Sum over heads of the projected means that ``weights``, shape=[heads, rows, tokens], make; float64.

        With the layer's own weights that is ``output`` without ``bias``, up to rounding.
        """
        means = np.asarray(weights, np.float64) @ self.values.astype(np.float64)  # shape=[heads, rows, head_dim]
        return np.moveaxis(means, 0, 1).reshape(means.shape[1], -1) @ np.concatenate(self.out_proj, dtype=np.float64)


def attention_heads(model, input_ids, *, layer):
    """Take one layer's attention apart: weights, values and output projection of each head, over one prompt.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model whose attention goes through transformers' attention interface. It leaves the call
        as it entered it.
    input_ids : array-like, shape=[tokens] or [1, tokens], int
        One prompt, without padding.
    layer : int or sequence of int
        From 0; negative counts from the last. A sequence is one pass too.

    Returns
    -------
    AttentionHeads, or list of AttentionHeads
        A list when ``layer`` is a sequence, in its order.

    Raises
    ------
    ValueError
        An empty or too long prompt, more than one, no such layer, or a model whose attention output is not the
        weights times the values times one unquantised linear map (named, with the reason).
    TypeError
        ``model`` is no transformers model, or a number is none.

    Notes
    -----
    The layers asked for run the model's own eager attention; the pass ends after the last of them. Their maps are held:
    heads x tokens x tokens numbers each.

    Examples
    --------
    >>> from geolib.models import load
    >>> model, tokenizer = load()
    >>> ids = tokenizer("Natalia sold clips.", return_tensors="pt").input_ids
    >>> heads = attention_heads(model, ids, layer=-1)
    >>> heads.values.shape == (9, ids.shape[1], 64), heads.out_proj.shape  # [heads, tokens, head_dim], and the width
    (True, (9, 64, 576))
    """
    ids = check_ids("attention_heads", model, input_ids, one=True)
    wanted = layer_numbers("attention_heads", model, layer)
    recorder = _Recorder(frozenset(wanted))
    with refusing("attention_heads", model, _EXPECTED), recorder.hooks:
        running = _RECORDER.set(recorder)
        try:
            with attending(model, _NAME, _attend, eager_mask) as before, contextlib.suppress(Reached):
                recorder.fast = before == "sdpa"
                read(model, input_ids=ids)
        finally:
            _RECORDER.reset(running)
        if missing := recorder.wanted - recorder.layers.keys():
            raise UncountableError(
                NOT_ROUTED if not recorder.layers else f"has no such attention in layer {min(missing)}"
            )
        heads = {one: _split(one, *recorder.layers[one]) for one in recorder.wanted}
    return [heads[one] for one in wanted] if np.ndim(layer) else heads[wanted[0]]


@dataclass
class _Recorder:
    wanted: frozenset
    fast: bool = False  # whether the model itself attends by sdpa
    layers: dict = field(default_factory=dict)  # (value, weights, whether there are sinks, readers) of each layer
    hooks: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


# Which recorder, if any, listens in this thread: the attention function gets no argument of ours.
_RECORDER: contextvars.ContextVar[_Recorder | None] = contextvars.ContextVar("geolib_heads", default=None)


def _attend(module, query, key, value, attention_mask, **kwargs):
    """Attend as the model's own eager function does, and let the recorder see; the interface's signature."""
    recorder = _RECORDER.get()
    if recorder is not None and recorder.wanted <= recorder.layers.keys():
        raise Reached
    eager, layer = eager_attention(module)
    wanted = recorder is not None and layer in recorder.wanted - recorder.layers.keys()
    plain = kwargs.get("softcap") is None and kwargs.get("s_aux") is None
    if plain and recorder is not None and recorder.fast and not wanted:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    output, weights = eager(module, query, key, value, attention_mask, **kwargs)
    if not wanted:
        return output, weights
    if not output.isfinite().all():
        raise ValueError(f"attention_heads: model gives NaN or infinite values in the attention of layer {layer}")
    value = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
    readers = []  # modules that are given this output, with what they return
    recorder.layers[layer] = value[0], weights[0], kwargs.get("s_aux") is not None, readers
    flat = output.flatten()

    def read(reader, args, result):
        given = args[0] if args else None
        if isinstance(given, torch.Tensor) and given.numel() == flat.numel() and given.flatten().equal(flat):
            readers.append((reader, result))

    passing = torch.nn.Dropout | torch.nn.Identity  # hand on what they are given
    parts = [part for part in module.modules() if not (isinstance(part, passing) or [*part.children()])]
    for part in parts:
        recorder.hooks.enter_context(part.register_forward_hook(ours(read)))
    return output, weights


def _split(layer, value, weights, sinks, readers) -> AttentionHeads:
    """Split the output projection by head, and make sure that what it returned is the sum over heads."""
    if len(readers) != 1 or not isinstance(readers[0][0], LINEAR):
        names = ", ".join(type(reader).__name__ for reader, _ in readers)
        raise UncountableError(f"hands the attention of layer {layer} to {names or 'no module as it is'}")
    ((projection, output),) = readers
    if kind := quantised(projection.weight):
        raise UncountableError(f"has an output projection of type {kind} in layer {layer}")
    total = weights.float().sum(-1)
    rounding = math.sqrt(torch.finfo(value.dtype).eps)  # half of the digits: far above rounding, far below an error
    if weights.min() < 0 or total.max() > 1 + rounding or not (sinks or total.min() > 1 - rounding):
        raise UncountableError(f"has attention weights in layer {layer} that are negative or do not sum to 1")
    W, bias = linear_map(projection)
    output = output.reshape(-1, len(W))
    out_proj = W.T.reshape(len(value), -1, len(W))
    arrays = (one.detach().float().cpu().numpy() for one in (weights, value, out_proj, bias, output))
    heads = AttentionHeads(*arrays, sinks, layer)
    deviation = np.linalg.norm(heads.rows(heads.weights) + heads.bias - heads.output)
    if not deviation <= rounding * np.linalg.norm(heads.output):
        raise UncountableError(f"makes more of the attention of layer {layer} than weights times projected values")
    return heads
