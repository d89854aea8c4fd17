"""The soft intrinsic dimension of attention, counted while the model's own fast attention runs.

For each row i of an attention map, ID_eps(i) counts the entries above a threshold (arXiv 2407.02678, eq. 8). Eager
attention would hand over every T x T map; at useful lengths that costs gigabytes. Here the forward pass goes on
through scaled-dot-product attention, and a second product of a few query rows with the keys gives the counts.
"""

import contextlib
import contextvars
from dataclasses import dataclass, field
from numbers import Real

import numpy as np
import pandas as pd
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "geolib_counting"
_ROWS = 128  # query rows counted at a time: the only block of attention weights that ever exists
_RULES = ("absolute", "relative")

# What an attention function may be handed beyond a plain softmax of scaled products; not counted, so refused.
_UNCOUNTED = {
    "softcap": "caps its attention scores",
    "s_aux": "has attention sinks in its denominator",
    "position_bias": "adds a learned bias to its attention scores",
    "indices": "selects its keys",
}
# Routed through the interface, yet not one softmax per head.
_NOT_SOFTMAX = {"diffllama": "subtracts two softmaxes"}
_NOT_ROUTED = "does not route its attention through transformers' attention interface"


@dataclass(frozen=True)
class AttentionDimension:
    """Intrinsic dimension of attention, ID_eps, per head.

    Attributes
    ----------
    per_head : array-like, shape=[batch, layers, heads, tokens], int
        Entries of the attention row that exceed the threshold; -1 where the token is padding. With a sequence of
        eps there is a leading axis: ``shape=[eps, batch, layers, heads, tokens]``.
    visible : array-like, shape=[batch, layers, tokens], int
        Tokens that the row may attend to; 0 where the token is padding.
    eps : tuple of float
        Thresholds, in the order of the leading axis (one without it).
    rule : str
        ``"absolute"`` or ``"relative"``.
    """

    per_head: np.ndarray
    visible: np.ndarray
    eps: tuple[float, ...]
    rule: str

    @property
    def per_layer(self) -> np.ndarray:
        """Sum over heads, ID_eps of eq. 8; ``shape=[..., batch, layers, tokens]``, -1 where the token is padding."""
        return np.where(self.visible > 0, self.per_head.sum(axis=-2), -1)

    @property
    def density(self) -> np.ndarray:
        """``per_head`` divided by the number of visible tokens; same shape, NaN where the token is padding."""
        visible = np.where(self.visible > 0, self.visible, np.nan)[..., None, :]
        return self.per_head / visible


def attention_dimension(
    model, input_ids, attention_mask=None, *, eps=0.1, rule="absolute", tokens="last"
) -> AttentionDimension:
    r"""Count, for every layer and head, how many tokens a token attends to by more than eps.

    ID_eps(i) is, summed over heads, the number of j <= i with Attn(X)_ij > eps (arXiv 2407.02678, eq. 8). One forward
    pass through the model's fast attention; the counts are those of the eager maps, without these being held.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model whose attention goes through transformers' attention interface. It leaves the call
        as it entered it.
    input_ids : array-like, shape=[batch, tokens], int
        Token ids; ``shape=[tokens]`` is taken as a batch of one.
    attention_mask : array-like, shape=[batch, tokens], optional
        1 for tokens, 0 for padding, on either side.
    eps : float or sequence of float
        Threshold(s) in (0, 1).
    rule : {"absolute", "relative"}
        Count entries above eps (the printed eq. 8), or above eps times the row's largest entry (the released code
        of arXiv 2312.01648).
    tokens : {"last", "all"}
        Rows to count: the last token that is not padding, or every token.

    Returns
    -------
    AttentionDimension

    Raises
    ------
    ValueError
        An empty or too long prompt, eps outside (0, 1), an unknown rule, a mask that does not fit, or a model whose
        attention cannot be counted (named, with the reason).
    TypeError
        ``model`` is no transformers model.

    Notes
    -----
    The softmax is taken in float32 whatever the type of the model, and compared there: a weight of exactly eps does
    not exceed it.

    Examples
    --------
    >>> from geolib.models import load
    >>> model, tokenizer = load()
    >>> ids = tokenizer("Natalia sold clips to 48 of her friends.", return_tensors="pt").input_ids
    >>> attention_dimension(model, ids, eps=[0.1, 0.01]).per_head.shape  # [eps, batch, layers, heads, tokens]
    (2, 1, 30, 9, 1)
    """
    input_ids, attention_mask = _check_tokens(model, input_ids, attention_mask)
    with measuring(model, eps=eps, rule=rule, tokens=tokens, attention_mask=attention_mask) as measure:
        # The backbone alone: the vocabulary's logits are not needed and cost more memory than all else.
        model.base_model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    return measure.result()


def attention_edges(model, input_ids, *, layer, eps=0.1) -> pd.DataFrame:
    """Edges of one layer's attention graphs: the entries above eps, and nothing else (arXiv 2407.02678, eq. 6).

    Parameters
    ----------
    model, input_ids
        As in :func:`attention_dimension`; one prompt.
    layer : int
        From 0; negative counts from the last.
    eps : float
        Threshold in (0, 1): at most 1 / eps edges leave a token in each head.

    Returns
    -------
    pandas.DataFrame
        ``head``, ``query`` (the token that attends), ``key`` (what it attends to), ``weight``.

    Raises
    ------
    ValueError
        As :func:`attention_dimension`; also more than one prompt, or no such layer.
    """
    input_ids, _ = _check_tokens(model, input_ids, None)
    layers = model.config.get_text_config().num_hidden_layers
    if len(input_ids) > 1:
        raise ValueError(f"attention_edges: input_ids holds {len(input_ids)} prompts, but one was expected")
    if isinstance(layer, bool) or not isinstance(layer, int) or not -layers <= layer < layers:
        raise ValueError(f"attention_edges: layer is {layer!r}, but a whole number below {layers} was expected")
    with measuring(model, eps=eps, tokens="all") as measure:
        measure.edges_of = layer % layers
        model.base_model(input_ids=input_ids, use_cache=False)
    head, query, key, weight = (torch.cat(part).cpu().numpy() for part in zip(*measure.edges, strict=True))
    return pd.DataFrame({"head": head, "query": query, "key": key, "weight": weight})


@contextlib.contextmanager
def measuring(model, *, eps=0.1, rule="absolute", tokens="last", attention_mask=None):
    """Count attention during whatever forward pass of ``model`` runs inside the ``with`` block.

    Only the first pass is counted: inside ``model.generate`` that is the pass over the prompt. Afterwards the
    yielded object's ``result()`` returns an :class:`AttentionDimension`, and its ``results()`` one per rule when
    ``rule`` is a sequence. Parameters as in :func:`attention_dimension`; batches that are padded need the same
    ``attention_mask`` as the model is given.

    Yields
    ------
    _Recorder
    """
    rules = (rule,) if isinstance(rule, str) else tuple(rule)
    for one in rules:
        if one not in _RULES:
            raise ValueError(f"attention_dimension: rule is {one!r}, but 'absolute' or 'relative' was expected")
    if tokens not in ("last", "all"):
        raise ValueError(f"attention_dimension: tokens is {tokens!r}, but 'last' or 'all' was expected")
    recorder = _Recorder(_check_eps(eps), rules, tokens, attention_mask, scalar=np.ndim(eps) == 0)
    before = model.config._attn_implementation
    reason = _NOT_SOFTMAX.get(model.config.model_type)
    if reason:
        raise _uncountable(model, reason)
    # transformers decides by a look at the class's source whether it dispatches attention through the interface.
    if not model._can_set_attn_implementation():
        raise _uncountable(model, _NOT_ROUTED)
    AttentionInterface.register(_NAME, _counting_attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)  # without it the mask is None, and padding is ignored
    training = [module for module in model.modules() if module.training]
    running = _RECORDER.set(recorder)
    try:
        model.set_attn_implementation(_NAME)
        model.eval()  # dropout would drop edges
        with torch.no_grad():
            yield recorder
    except _UncountableError as error:
        raise _uncountable(model, str(error)) from None
    finally:
        _RECORDER.reset(running)
        for module in training:
            module.training = True
        model.set_attn_implementation(before)
    layers = model.config.get_text_config().num_hidden_layers
    if not recorder.visible:
        raise _uncountable(model, _NOT_ROUTED)
    if len(recorder.visible) != layers:
        raise _uncountable(model, f"passed {len(recorder.visible)} of its {layers} layers through softmax attention")


class _UncountableError(Exception):
    """Raised deep in a forward pass; carries the reason."""


def _uncountable(model, reason) -> ValueError:
    return ValueError(
        f"attention_dimension: model is a {type(model).__name__}, which {reason}; "
        "expected one plain softmax per head, through the attention interface"
    )


@dataclass
class _Recorder:
    """Collects counts layer by layer, as the forward pass calls the attention function."""

    eps: tuple[float, ...]
    rules: tuple[str, ...]
    tokens: str
    attention_mask: torch.Tensor | None
    scalar: bool
    counts: list = field(default_factory=list)  # per layer, shape=[rules, eps, batch, heads, tokens]
    visible: list = field(default_factory=list)  # per layer, shape=[batch, tokens]
    edges_of: int | None = None  # layer whose edges above eps are kept
    edges: list = field(default_factory=list)  # per block of rows: head, query, key, weight
    first: object = None  # the module that is called first: when it comes again, a second pass has begun
    done: bool = False

    def add(self, module, query, key, mask, scaling):
        """Count one layer; query is [batch, heads, Tq, d], key [batch, kv heads, Tk, d], mask [batch, 1, Tq, Tk]."""
        if module is self.first or self.done:
            self.done = True
            return
        self.first = self.first or module
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        if self.tokens == "last":
            blocks = [self._last_rows(query)]
        else:
            blocks = [slice(start, start + _ROWS) for start in range(0, query.shape[2], _ROWS)]
        counts, visible = [], []
        for rows in blocks:
            weights, seen = _weights(*_pick(query, key, mask, rows), scaling)
            peak = weights.amax(-1, keepdim=True)
            if (peak[..., 0].isnan() & (seen > 0)[:, None]).any():
                raise ValueError(f"attention_dimension: model gives NaN attention in layer {len(self.counts) + 1}")
            counts.append(self._count(weights, peak))
            visible.append(seen)
            if len(self.counts) == self.edges_of:
                head, row, token = (weights[0] > self.eps[0]).nonzero(as_tuple=True)
                self.edges.append((head, row + rows.start, token, weights[0, head, row, token]))
        self.counts.append(torch.cat(counts, dim=-1).to("cpu", torch.int32))
        self.visible.append(torch.cat(visible, dim=-1).to("cpu", torch.int32))

    def _last_rows(self, query) -> torch.Tensor:
        """Row of the last token that is not padding, shape=[batch]."""
        last = torch.full((query.shape[0],), query.shape[2] - 1, device=query.device)
        if self.attention_mask is None:
            return last
        return last - self.attention_mask.to(query.device).flip(-1).to(torch.int32).argmax(-1)

    def _count(self, weights, peak):
        """Entries above each threshold; shape=[rules, eps, batch, heads, rows]."""
        thresholds = {"absolute": lambda eps: eps, "relative": lambda eps: eps * peak}
        return torch.stack(
            [torch.stack([(weights > thresholds[rule](eps)).sum(-1) for eps in self.eps]) for rule in self.rules]
        )

    def results(self) -> dict[str, AttentionDimension]:
        """One :class:`AttentionDimension` per rule."""
        try:
            per_head = torch.stack(self.counts, dim=3).numpy()  # [rules, eps, batch, layers, heads, tokens]
        except RuntimeError:
            raise ValueError("attention_dimension: layers differ in their number of heads or tokens") from None
        visible = torch.stack(self.visible, dim=1).numpy().copy()
        if self.tokens == "all" and self.attention_mask is not None:
            padding = self.attention_mask.cpu().numpy() == 0
            visible[np.broadcast_to(padding[:, None], visible.shape)] = 0
        per_head = np.where(visible[:, :, None] > 0, per_head, -1)
        per_head = per_head[:, 0] if self.scalar else per_head
        return {
            rule: AttentionDimension(counts, visible, self.eps, rule)
            for rule, counts in zip(self.rules, per_head, strict=True)
        }

    def result(self) -> AttentionDimension:
        """Return the :class:`AttentionDimension` of a measurement under one rule."""
        (result,) = self.results().values()
        return result


# Which recorder, if any, listens in this thread: the attention function gets no argument of ours.
_RECORDER: contextvars.ContextVar[_Recorder | None] = contextvars.ContextVar("geolib_recorder", default=None)


def _counting_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """Attend as sdpa does, and let the recorder count; the signature is that of transformers' interface."""
    for argument, reason in _UNCOUNTED.items():
        if kwargs.get(argument) is not None:
            raise _UncountableError(reason)
    output = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    recorder = _RECORDER.get()
    if recorder is not None:
        recorder.add(module, query, key, attention_mask, scaling)
    return output


def _pick(query, key, mask, rows):
    """Take query rows (a slice, or one row index per batch element), and the mask over the keys they can see."""
    length, n_keys = query.shape[2], key.shape[2]
    if mask is None:
        # sdpa's own convention: no mask means causal, or one query that sees every key.
        position = torch.arange(length, device=query.device)[rows]
        position = (position if isinstance(rows, slice) else position[:, None]) + n_keys - length
        key = key[:, :, : int(position.max()) + 1]
        seen = torch.arange(key.shape[2], device=query.device) <= position[..., None]
        seen = seen.view(-1, 1, *seen.shape[-2:])
    elif isinstance(rows, slice):
        seen = mask[:, :, rows, :n_keys]
    else:
        seen = mask.expand(len(rows), *mask.shape[1:])[torch.arange(len(rows), device=rows.device), :, rows, :n_keys][
            :, :, None
        ]
    if isinstance(rows, slice):
        return query[:, :, rows], key, seen
    return query[torch.arange(len(rows), device=rows.device), :, rows][:, :, None], key, seen


def _weights(query, key, seen, scaling):
    """Attention weights [batch, heads, rows, keys] in float32, and the number of visible keys [batch, rows].

    ``seen`` [batch, 1, rows, keys] is True where a key may be attended to, or an additive mask.
    """
    batch, heads, rows, size = query.shape
    # Query heads that share a key-value head become more rows of it: keys are never expanded.
    folded = query.reshape(batch, key.shape[1], -1, size) @ key.transpose(-1, -2)
    scores = (folded.view(batch, heads, rows, -1) * scaling).float()
    if seen.is_floating_point():
        scores, seen = scores + seen, seen > torch.finfo(seen.dtype).min / 2
    else:
        scores = scores.masked_fill_(~seen, -torch.inf)
    return scores.softmax(-1), seen[:, 0].sum(-1).expand(batch, rows)


def _check_eps(eps) -> tuple[float, ...]:
    values = (eps,) if np.ndim(eps) == 0 else tuple(eps)
    if not values:
        raise ValueError("attention_dimension: eps is empty, but at least one threshold was expected")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < 1:
            raise ValueError(f"attention_dimension: eps is {value!r}, but a number between 0 and 1 was expected")
    return tuple(float(value) for value in values)


def _check_tokens(model, input_ids, attention_mask):
    """Return input ids and mask as tensors on the model's device, shape=[batch, tokens]; the mask may be None."""
    if not hasattr(model, "set_attn_implementation"):
        raise TypeError(
            f"attention_dimension: model is a {type(model).__name__}, but a transformers model was expected"
        )
    try:
        ids = torch.as_tensor(input_ids)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"attention_dimension: input_ids is a {type(input_ids).__name__}, but integers of shape [batch, tokens] "
            "were expected"
        ) from None
    ids = ids[None] if ids.ndim == 1 else ids
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(
            f"attention_dimension: input_ids has shape {tuple(ids.shape)}, but [batch, tokens] with at least one "
            "token was expected"
        )
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise TypeError(f"attention_dimension: input_ids has type {ids.dtype}, but integers were expected")
    config = model.config.get_text_config()
    vocabulary = config.vocab_size
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise ValueError(
            f"attention_dimension: input_ids run from {ids.min()} to {ids.max()}, but the vocabulary has {vocabulary}"
        )
    window = getattr(config, "max_position_embeddings", None)
    if window and ids.shape[1] > window:
        raise ValueError(
            f"attention_dimension: input_ids has {ids.shape[1]} tokens, but the model's window is {window}"
        )
    if attention_mask is None:
        return ids.to(model.device), None
    mask = torch.as_tensor(attention_mask)
    mask = mask[None] if mask.ndim == 1 else mask
    if mask.shape != ids.shape:
        raise ValueError(
            f"attention_dimension: attention_mask has shape {tuple(mask.shape)}, but input_ids {tuple(ids.shape)}"
        )
    if not torch.isin(mask.to(torch.float32), torch.tensor([0.0, 1.0])).all() or not mask.any(-1).all():
        raise ValueError(
            "attention_dimension: attention_mask holds other than 0 and 1, or a row of padding only, "
            "but 1 for each token and 0 for padding was expected"
        )
    return ids.to(model.device), mask.to(model.device, torch.long)
