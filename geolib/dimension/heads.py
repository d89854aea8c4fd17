"""One layer's attention, head by head: the convex weights, the points that they mix, and the output that they give.

Every architecture that uses transformers' attention interface also has an eager attention of its own. It returns the
weights that it used, which include the effects of grouped heads, windows, caps and sinks. The values are recorded where
they enter it, and the output projection is the module that reads its output: nothing is looked up by name.
"""

import contextlib
import contextvars
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask

from geolib.checks import finite_array
from geolib.dimension import architectures
from geolib.dimension.architectures import UncountableError
from geolib.dimension.lm import Reached, attending, check_ids, layer_numbers, ours, read
from geolib.typing import Model

_NAME = "geolib_heads"
_EXPECTED = "convex weights times values, and one linear output projection"


@dataclass(frozen=True, eq=False)
class AttentionHeads:
    """Attention of one layer over one prompt, made by `attention_heads`.

    Row i of ``output`` is the sum over heads h of ``weights[h, i] @ values[h] @ out_proj[h]``, plus ``bias``.

    Attributes
    ----------
    weights : array-like, shape=[heads, tokens, tokens]
        Row i holds the weights with which token i attends. They are not negative, and their sum is 1 (with sinks, at
        most 1).
    values : array-like, shape=[heads, tokens, head_dim]
        The points that the weights mix, including the bias of the value projection. Values that several heads share are
        repeated for each.
    out_proj : array-like, shape=[heads, head_dim, width]
        Output projection, split by head.
    bias : array-like, shape=[width]
        Bias of the output projection; zeros if it has none.
    output : array-like, shape=[tokens, width]
        The output of the model's own output projection.
    sinks : bool
        Whether the heads have learned sinks, which take a part of the weight and add nothing to the output.
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

    def rows(self, weights: ArrayLike) -> np.ndarray:
        """Mix the values by other weights, shape=[heads, rows, tokens]; project and sum over heads, in float64.

        With the layer's own weights the result, shape=[rows, width], is ``output - bias`` up to rounding.

        Raises
        ------
        TypeError, ValueError
            If the weights are not finite numbers of that shape.
        """
        weights, (heads, tokens, _) = finite_array("AttentionHeads.rows: weights", weights), self.values.shape
        if weights.ndim != 3 or (len(weights), weights.shape[2]) != (heads, tokens):
            expected = f"({heads}, rows, {tokens}) was expected"
            raise ValueError(f"AttentionHeads.rows: weights has shape {weights.shape}, but {expected}")
        means = weights @ self.values.astype(np.float64)  # shape=[heads, rows, head_dim]
        return np.moveaxis(means, 0, 1).reshape(means.shape[1], -1) @ np.concatenate(self.out_proj, dtype=np.float64)


def attention_heads(
    model: Model, input_ids: ArrayLike, *, layer: int | Sequence[int]
) -> AttentionHeads | list[AttentionHeads]:
    """Take one layer's attention apart: weights, values and output projection of each head, over one prompt.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model whose attention goes through transformers' attention interface. The model is not
        modified.
    input_ids : array-like, shape=[tokens] or [1, tokens], int
        One prompt, without padding.
    layer : int or sequence of int
        Number of the layer, from 0; a negative number counts from the last. A sequence takes one forward pass too.

    Returns
    -------
    AttentionHeads, or list of AttentionHeads
        A list when ``layer`` is a sequence, in its order.

    Raises
    ------
    ValueError
        If the prompt is empty or too long, if there is more than one, if the layer does not exist, or if the output
        of the model's attention is not weights times values times one unquantised linear map (the error gives the
        reason).
    TypeError
        If ``model`` is not a transformers model, or an argument is not a number.

    Notes
    -----
    The layers asked for run the model's own eager attention, and the pass ends after the last of them. Their attention
    maps are held in memory: heads x tokens x tokens numbers for each layer.

    Examples
    --------
    >>> from geolib.models import load
    >>> model, tokenizer = load()
    >>> ids = tokenizer("Natalia sold clips.", return_tensors="pt").input_ids
    >>> heads = attention_heads(model, ids, layer=-1)
    >>> heads.values.shape == (9, ids.shape[1], 64), heads.out_proj.shape  # [heads, tokens, head_dim], and the width
    (True, (9, 64, 576))
    """
    wanted = layer_numbers("attention_heads", model, layer)
    heads = layer_heads(model, input_ids, wanted)
    return [heads[one] for one in wanted] if np.ndim(layer) else heads[wanted[0]]


def layer_heads(model: Any, input_ids: ArrayLike, wanted: Sequence[int]) -> dict[int, AttentionHeads]:
    """Return the attention of several layers by their numbers, as for :func:`attention_heads`."""
    ids = check_ids("attention_heads", model, input_ids, one=True)
    recorder = _Recorder(frozenset(wanted))
    with architectures.refusing("attention_heads", model, _EXPECTED), recorder.hooks as hooks:
        hooks.callback(_RECORDER.reset, _RECORDER.set(recorder))
        with attending(model, _NAME, _attend, eager_mask) as before, contextlib.suppress(Reached):
            recorder.fast = before == "sdpa"
            read(model, input_ids=ids)
        if missing := recorder.wanted - recorder.layers.keys():
            lacking = f"has no such attention in layer {min(missing)}"
            raise UncountableError(lacking if recorder.layers else architectures.NOT_ROUTED)
        return {one: _split(one, *recorder.layers[one]) for one in wanted}


@dataclass
class _Recorder:
    wanted: frozenset
    fast: bool = False  # whether the model's own attention is sdpa
    layers: dict = field(default_factory=dict)  # of each layer: value, weights, whether there are sinks, readers
    hooks: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


# The recorder that listens in this thread: transformers hands no argument of ours to the attention function.
_RECORDER: contextvars.ContextVar[_Recorder | None] = contextvars.ContextVar("geolib_heads", default=None)


def _attend(module, query, key, value, attention_mask, **kwargs):
    """Attend as the model's own eager function does, and record; the signature is that of transformers' interface."""
    recorder = _RECORDER.get()
    if recorder is not None and recorder.wanted <= recorder.layers.keys():
        raise Reached
    eager, layer = architectures.eager_attention(module)
    wanted = recorder is not None and layer in recorder.wanted - recorder.layers.keys()
    plain = kwargs.get("softcap") is None and kwargs.get("s_aux") is None
    if plain and recorder is not None and recorder.fast and not wanted:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    output, weights = eager(module, query, key, value, attention_mask, **kwargs)
    if not wanted:
        return output, weights
    if not output.isfinite().all():
        raise architectures.not_finite("attention_heads", f"NaN or infinite values in the attention of layer {layer}")
    value = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
    readers = []  # modules that are given this output, and their outputs
    recorder.layers[layer] = value[0], weights[0], kwargs.get("s_aux") is not None, readers
    flat = output.flatten()

    def read(reader, args, result):
        given = args[0] if args else None
        if isinstance(given, torch.Tensor) and given.numel() == flat.numel() and given.flatten().equal(flat):
            readers.append((reader, result))

    passing = torch.nn.Dropout | torch.nn.Identity  # these return their input
    parts = [part for part in module.modules() if not (isinstance(part, passing) or [*part.children()])]
    for part in parts:
        recorder.hooks.enter_context(part.register_forward_hook(ours(read)))
    return output, weights


def _split(layer, value, weights, sinks, readers):
    """Split the output projection by head, and check that its output is the sum over heads."""
    if len(readers) != 1 or not isinstance(readers[0][0], architectures.LINEAR):
        names = ", ".join(type(reader).__name__ for reader, _ in readers)
        raise UncountableError(f"hands the unchanged attention of layer {layer} to {names or 'no module'}")
    ((projection, output),) = readers
    if kind := architectures.quantised(projection.weight):
        raise UncountableError(f"has an output projection of type {kind} in layer {layer}")
    total = weights.float().sum(-1)
    rounding = rounding_of(value)
    if weights.min() < 0 or total.max() > 1 + rounding or not (sinks or total.min() > 1 - rounding):
        raise UncountableError(f"has attention weights in layer {layer} that are negative or do not sum to 1")
    W, bias = architectures.linear_map(projection)
    output = output.reshape(-1, len(W))
    out_proj = W.T.reshape(len(value), -1, len(W))
    arrays = (one.detach().float().cpu().numpy() for one in (weights, value, out_proj, bias, output))
    heads = AttentionHeads(*arrays, sinks=sinks, layer=layer)
    deviation = np.linalg.norm(heads.rows(heads.weights) + heads.bias - heads.output)
    if not deviation <= rounding * np.linalg.norm(heads.output):
        raise UncountableError(f"computes more in the attention of layer {layer} than weights times projected values")
    return heads


def rounding_of(values: torch.Tensor) -> float:
    """Return a relative deviation of half of the type's digits: far above its rounding, and far below an error."""
    return math.sqrt(torch.finfo(values.dtype).eps)
