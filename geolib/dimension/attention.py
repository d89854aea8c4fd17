"""The soft intrinsic dimension of attention, counted while the model's own fast attention runs.

For each row i of an attention map, ID_eps(i) counts the entries above a threshold (arXiv 2407.02678, eq. 8). Eager
attention would hand over every T x T map; at useful lengths that costs gigabytes. Here the forward pass goes on
through scaled-dot-product attention, whose kernel also knows each row's logsumexp, and a second product of a few query
rows with the keys gives the counts.
"""

import contextlib
import contextvars
import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from inspect import signature
from numbers import Real

import numpy as np
import pandas as pd
import torch
from transformers import GenerationMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from geolib.dimension.architectures import (
    NOT_ROUTED,
    NOT_SOFTMAX,
    OFFLOADED,
    UncountableError,
    cached,
    check_arguments,
    copied,
    layer_count,
    refusing,
    virtual_tokens,
)
from geolib.dimension.lm import (
    attending,
    check_ids,
    check_mask,
    check_positions,
    device_of,
    layer_numbers,
    ours,
    read,
)
from geolib.dimension.rows import AttentionMap, LogSumExp, count_weights, row_statistics
from geolib.dimension.rules import RULES, check_eps, check_rule, keep

_NAME = "geolib_counting"
_EXPECTED = "one plain softmax per head, through the attention interface"


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
        A name in :data:`~geolib.dimension.RULES`.
    sink_share : array-like, shape=[batch, layers, heads, tokens], or None
        Weight on the first token that is not padding. This and the following are there when ``statistics`` was
        asked for, and NaN where the token is padding.
    entropy : array-like, shape=[batch, layers, heads, tokens], or None
        Shannon's entropy of the row in nats (of its weights over their sum, where a model's own sinks take a part).
    renyi2 : array-like, shape=[batch, layers, heads, tokens], or None
        Rényi's entropy of order 2 of the same weights p in nats, -log sum_j p_j^2: at most ``entropy``.
    mass_above : array-like, shape as ``per_head``, or None
        Sum of the weights that ``per_head`` counts.
    """

    per_head: np.ndarray
    visible: np.ndarray
    eps: tuple[float, ...]
    rule: str
    sink_share: np.ndarray | None = None
    entropy: np.ndarray | None = None
    renyi2: np.ndarray | None = None
    mass_above: np.ndarray | None = None

    @property
    def per_layer(self) -> np.ndarray:
        """Sum over heads, ID_eps of eq. 8; ``shape=[..., batch, layers, tokens]``, -1 where the token is padding."""
        return np.where(self.visible > 0, self.per_head.sum(axis=-2), -1)

    @property
    def density(self) -> np.ndarray:
        """``per_head`` divided by the number of visible tokens; same shape, NaN where the token is padding."""
        visible = np.where(self.visible > 0, self.visible, np.nan)[..., None, :]
        return self.per_head / visible

    @property
    def effective_support(self) -> np.ndarray | None:
        """exp(``entropy``): the number of tokens that a uniform row of the same entropy would attend to."""
        return None if self.entropy is None else np.exp(self.entropy)


def attention_dimension(
    model,
    input_ids,
    attention_mask=None,
    *,
    eps=0.1,
    rule="absolute",
    tokens="last",
    statistics=False,
    position_ids=None,
    past_key_values=None,
) -> AttentionDimension:
    r"""Count, for every layer and head, how many tokens a token attends to by more than eps.

    ID_eps(i) is, summed over heads, the number of j <= i with Attn(X)_ij > eps (arXiv 2407.02678, eq. 8). One forward
    pass through the model's fast attention; the counts are those of the eager maps, without these being held.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model whose attention goes through transformers' attention interface. It leaves the call
        as it entered it. What peft adds to it is measured with it; virtual tokens are attended to and counted as
        keys, and have no rows.
    input_ids : array-like, shape=[batch, tokens], int
        Token ids; ``shape=[tokens]`` is taken as a batch of one.
    attention_mask : array-like, shape=[batch, tokens], optional
        1 for tokens, 0 for padding, on either side. With ``past_key_values``, ``shape=[batch, past + tokens]``.
    eps : float or sequence of float
        Threshold(s) in (0, 1). A dense grid is one pass too.
    rule : str
        A name in :data:`~geolib.dimension.RULES`: with ``"absolute"`` count entries above eps (the printed eq. 8), with
        ``"relative"`` those above eps times the row's largest entry (the released code of arXiv 2312.01648).
    tokens : {"last", "all"}
        Rows to count: the last token that is not padding, or every token.
    statistics : bool
        Whether to measure the sink's share, the entropies and the mass above eps too.
    position_ids : array-like, shape=[batch, tokens], optional
        Handed to the model. Without them it counts positions as it does in any call: from the first column, so that
        left padding shifts the tokens of a model with learned absolute positions (gpt2). Rotary ones do not care.
    past_key_values : transformers.Cache, optional
        Keys and values of the tokens before ``input_ids``, as the model returned them, of any kind, empty or not. They
        are copied: the cache leaves the call as it entered it.

    Returns
    -------
    AttentionDimension

    Raises
    ------
    ValueError
        An empty or too long prompt, eps outside (0, 1), an unknown rule, a mask that does not fit, or a model whose
        attention cannot be counted (named, with the reason).
    TypeError
        ``model`` is no transformers model, or eps no number.

    Notes
    -----
    Scores and softmax are taken in float32 whatever the type of the model, as inside its fused kernel, and compared
    there: a weight of exactly eps does not exceed it. Eager attention in bfloat16 rounds scores to 8 bits first, so
    weights within some per cent of eps may fall on its other side. Under autocast queries and keys are rounded as they
    are for the kernel, and nothing after that.

    Examples
    --------
    >>> from geolib.models import load
    >>> model, tokenizer = load()
    >>> ids = tokenizer("Natalia sold clips to 48 of her friends.", return_tensors="pt").input_ids
    >>> attention_dimension(model, ids, eps=[0.1, 0.01]).per_head.shape  # [eps, batch, layers, heads, tokens]
    (2, 1, 30, 9, 1)
    """
    inputs = _check_inputs(model, input_ids, attention_mask, position_ids, past_key_values)
    settings = {"eps": eps, "rule": [rule], "tokens": tokens, "statistics": statistics}
    with measuring(model, attention_mask=inputs.get("attention_mask"), **settings) as measure:
        measure.n_past = cached(past_key_values)
        read(model, **inputs)
    return measure.result()


def attention_edges(model, input_ids, *, layer=None, eps=0.1) -> pd.DataFrame:
    """Edges of the attention graphs: the entries above eps, and nothing else (arXiv 2407.02678, eq. 6).

    Parameters
    ----------
    model, input_ids
        As in :func:`attention_dimension`; one prompt.
    layer : int or sequence of int, optional
        From 0; negative counts from the last. By default all of them. Any number is one pass.
    eps : float
        Threshold in (0, 1): at most 1 / eps edges leave a token in each head.

    Returns
    -------
    pandas.DataFrame
        ``layer``, ``head``, ``query`` (the token that attends), ``key`` (what it attends to), ``weight``.

    Raises
    ------
    ValueError
        As :func:`attention_dimension`; also more than one prompt, or no such layer.
    """
    ids = check_ids("attention_edges", model, input_ids, one=True)
    every = range(layer_count("attention_edges", model))
    wanted = layer_numbers("attention_edges", model, every if layer is None else layer)
    with measuring(model, eps=check_eps("attention_edges", [eps]), tokens="all") as measure:
        measure.edges_of = wanted
        read(model, input_ids=ids)
    columns = (torch.cat(part).cpu().numpy() for part in zip(*measure.edges, strict=True))
    return pd.DataFrame(dict(zip(("layer", "head", "query", "key", "weight"), columns, strict=True)))


@contextlib.contextmanager
def measuring(model, *, eps=0.1, rule="absolute", tokens="last", statistics=False, attention_mask=None):
    """Count attention during whatever forward pass of ``model`` runs inside the ``with`` block.

    Only the first pass is counted. Inside ``model.generate`` that is the prompt, once each, in however many passes it
    is read, with whatever candidate tokens behind it, and whatever the number of beams or samples. Afterwards the
    yielded object's ``result()`` returns an :class:`AttentionDimension`, and its ``results()`` one per rule when
    ``rule`` is a sequence. Parameters as in :func:`attention_dimension`; batches that are padded need the same
    ``attention_mask`` as the model is given (``generate`` tells its own). Another thread that would measure the same
    model waits until the block ends.

    Yields
    ------
    _Recorder
    """
    rules = check_rule("attention_dimension", rule)
    if tokens not in ("last", "all"):
        raise ValueError(f"attention_dimension: tokens is {tokens!r}, but 'last' or 'all' was expected")
    eps, scalar = check_eps("attention_dimension", eps), isinstance(eps, Real)
    recorder = _Recorder(eps, rules, tokens, bool(statistics), None, scalar)
    recorder.virtual, recorder.n_read = virtual_tokens(model), virtual_tokens(model, read=True)
    recorder.pad(None if attention_mask is None else check_mask("attention_dimension", attention_mask))
    recorder.modules = frozenset(model.modules())
    running = _RECORDERS.set((*_RECORDERS.get(), recorder))
    with refusing("attention_dimension", model, _EXPECTED):
        try:
            if model.config.model_type in NOT_SOFTMAX:
                raise UncountableError(NOT_SOFTMAX[model.config.model_type])
            with attending(model, _NAME, _counting_attention, sdpa_mask), _heard(model):
                yield recorder
        finally:
            _RECORDERS.reset(running)
        layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
        if not recorder.rows:
            unheard = NOT_ROUTED if recorder.ran else f"was not heard to attend: no pass ran here, or it {NOT_ROUTED}"
            raise UncountableError("has not read its prompt to the end" if recorder.passed else unheard)
        if len(recorder.rows) != layers:
            raise UncountableError(f"passed {len(recorder.rows)} of its {layers} layers through softmax attention")


@contextlib.contextmanager
def _heard(model):
    """Let every call of `generate` tell the recorder what the prompts are: a pass may hold part of them, or more."""
    recorder = _recorder_of(model)
    hear = ours(lambda *_: setattr(recorder, "ran", True))
    with contextlib.ExitStack() as stack:
        for part in {model, getattr(model, "base_model", model)}:
            stack.enter_context(part.register_forward_pre_hook(hear))
        for part in model.modules():
            if isinstance(part, GenerationMixin) and "generate" not in vars(part):
                part.generate = functools.partial(_generate, part.generate)
                stack.callback(delattr, part, "generate")
        yield


def _generate(generate, *args, **kwargs):
    """Call a model's `generate`; the first call of a measurement is noted."""
    recorder = _recorder_of(generate.__self__)
    if recorder is None or recorder.passed:
        return generate(*args, **kwargs)
    recorder.note(generate, *args, **kwargs)
    # What is compiled cannot be counted, and later passes need not be.
    return generate(*args, **({} if "custom_generate" in kwargs else {"disable_compile": True}) | kwargs)


@dataclass
class _Recorder:
    """Collects counts layer by layer, as the forward pass calls the attention function."""

    eps: tuple[float, ...]
    rules: tuple[str, ...]
    tokens: str
    statistics: bool
    attention_mask: torch.Tensor | None
    scalar: bool
    ran: bool = False  # whether a pass of the whole model did
    n_past: int = 0  # tokens in the cache
    n_prompts: int | None = None  # what `generate` was given, and of how many tokens that are not in the cache
    length: int | None = None
    virtual: int = 0  # tokens before the prompt that are no text's, and how many of them are read like it
    n_read: int = 0
    edges_of: Sequence[int] = ()  # layers whose edges above eps are kept
    # By module, for each pass over a part of the prompt: what the rows see, shape=[batch, tokens]; their counts,
    # shape=[rules, eps, batch, heads, tokens]; and what `row_statistics` gives.
    rows: dict = field(default_factory=dict)
    edges: list = field(default_factory=list)  # per block of rows: layer, head, query, key, weight
    passed: dict = field(default_factory=dict)  # tokens, by module
    modules: frozenset = frozenset()  # of the model: another may be measured meanwhile

    def pad(self, mask):
        """Note which tokens are padding."""
        if mask is not None and self.virtual:
            mask = torch.cat([mask.new_ones(len(mask), self.virtual), mask], dim=1)
        self.attention_mask = mask

    def note(self, generate, *args, **kwargs):
        """Note the prompts that `generate` is given."""
        kwargs, model = signature(generate).bind(*args, **kwargs).arguments, generate.__self__
        kwargs |= kwargs.pop("kwargs", {})
        given = (kwargs.get(name) for name in ("inputs_embeds", "inputs", "input_ids"))
        ids, mask = next((one for one in given if one is not None), None), kwargs.get("attention_mask")
        # A setting that is no keyword is the configuration's, and what that leaves open is the model's.
        config = vars(kwargs.get("generation_config") or model.generation_config)
        config = vars(model.generation_config) | {name: value for name, value in config.items() if value is not None}
        settings = config | kwargs
        if settings.get("cache_implementation") == "paged":
            raise UncountableError("reads its prompts from a paged cache here")
        if "offloaded" in str(settings.get("cache_implementation")) and not torch.accelerator.is_available():
            raise UncountableError(f"{OFFLOADED} here")
        if ids is None:
            return
        padding, ends = settings["pad_token_id"], settings["eos_token_id"]
        if mask is None and ids.ndim == 2 and padding not in (None, *np.atleast_1d(ends)):
            mask = (ids != padding).long()  # as generate itself takes it
        self.n_past = cached(kwargs.get("past_key_values"))
        self.n_prompts, self.length = len(ids), ids.shape[1] + self.n_read
        if mask is None or mask.shape[1] == ids.shape[1]:  # else the ids are those that are not in the cache
            self.length -= self.n_past
        if mask is not None and self.attention_mask is None:
            self.pad(mask)

    def add(self, module, attention: AttentionMap, normaliser):
        """Count one layer; ``normaliser``, shape=[batch, heads, queries], if known, spares the softmax."""
        n_queries, passed = attention.query.shape[2], self.passed.get(module, 0)
        self.passed[module] = passed + n_queries
        rest = self.length - passed if self.length is not None else 0 if passed else n_queries
        if rest <= 0 or (self.tokens == "last" and rest > n_queries):
            return
        # The cache of a sliding window forgets: then the keys are the last of all tokens.
        forgotten = max(0, self.n_past + passed + n_queries - attention.key.shape[2])
        attention, normaliser = self._of_prompts(attention, normaliser, min(rest, n_queries))
        held, rows = len(attention.query), passed + attention.query.shape[2]
        if self.attention_mask is not None and (
            len(self.attention_mask) != held or self.attention_mask.shape[1] < rows
        ):
            shape = tuple(self.attention_mask.shape)
            raise ValueError(f"attention_dimension: attention_mask has shape {shape}, but {held, rows} was expected")
        parts_so_far = self.rows.setdefault(module, [])
        layer, statistics = list(self.rows).index(module), self.statistics
        scored = all(getattr(RULES[rule], "score", None) for rule in self.rules)
        if scored and normaliser is not None and self.tokens == "all" and not statistics and layer not in self.edges_of:
            counts, seen = attention.count(normaliser, self.eps, self.rules)
            measured = {"counts": counts, "seen": seen}
            # The kernel takes a query of NaN for a row that sees nothing.
            broken = (normaliser + attention.query.sum(-1)).isnan()
        else:
            parts = []
            for rows in [self._last_rows(attention)] if self.tokens == "last" else attention.blocks():
                weights, seen = attention.weights(rows)
                part = {"counts": count_weights(weights, self.eps, self.rules), "seen": seen}
                part["broken"] = weights[..., 0].isnan()
                if statistics:
                    part |= row_statistics(weights, self._first_tokens(len(weights)) - forgotten, self.eps, self.rules)
                if layer in self.edges_of:
                    self._add_edges(layer, rows, weights[0])
                parts.append(part)
            measured = {name: torch.cat([part[name] for part in parts], dim=-1) for name in parts[0]}
            broken = measured.pop("broken")
        if (broken & (measured["seen"] > 0)[:, None]).any():
            raise ValueError(f"attention_dimension: model gives NaN attention in layer {layer + 1}")
        parts_so_far.append({name: value.cpu() for name, value in measured.items()})

    def _of_prompts(self, attention, normaliser, n_queries):
        """Keep each prompt's first row of the batch (beams and samples begin alike), and its first queries."""
        every, later = len(attention.query) // (self.n_prompts or len(attention.query)), attention.query.shape[2]
        if every == 1 and later == n_queries:
            return attention, normaliser
        attention = copy.copy(attention)
        attention.query, attention.key = attention.query[::every, :, :n_queries], attention.key[::every]
        if attention.mask is None:
            attention.key = attention.key[:, :, : attention.key.shape[2] - (later - n_queries)]
        else:
            attention.mask = attention.mask[:: every if len(attention.mask) > 1 else 1, :, :n_queries]
        return attention, normaliser if normaliser is None else normaliser[::every, :, :n_queries]

    def _add_edges(self, layer, rows, weights):
        head, row, token = keep(self.rules[0], weights, self.eps[0]).nonzero(as_tuple=True)
        self.edges.append((torch.full_like(head, layer), head, row + rows.start, token, weights[head, row, token]))

    def _last_rows(self, attention) -> torch.Tensor:
        """Row of the last token that is not padding, shape=[batch]."""
        query = attention.query
        last = torch.full((query.shape[0],), query.shape[2] - 1, device=query.device)
        if self.attention_mask is None:
            return last
        last = last - self.attention_mask.to(query.device).flip(-1).to(torch.int32).argmax(-1)
        if (last < 0).any():
            raise ValueError("attention_dimension: attention_mask ends in padding before the pass that is measured")
        return last

    def _first_tokens(self, batch) -> torch.Tensor:
        """Place of the first token that is not padding, shape=[batch]."""
        if self.attention_mask is None:
            return torch.zeros(batch, dtype=torch.long)
        return self.attention_mask.to("cpu", torch.int32).argmax(-1)

    def results(self) -> dict[str, AttentionDimension]:
        """One :class:`AttentionDimension` per rule."""
        if not self.rows:
            raise ValueError("attention_dimension: result is asked for before the model has read its prompt")
        layers = [
            {name: torch.cat([part[name] for part in parts], -1) for name in parts[0]} for parts in self.rows.values()
        ]
        if self.tokens == "all" and self.n_read:  # of virtual tokens no rows are given
            layers = [{name: value[..., self.n_read :] for name, value in layer.items()} for layer in layers]
        visible = [layer.pop("seen").to(torch.int32) for layer in layers]
        try:
            visible = torch.stack(visible, dim=1).numpy()
            rows = {name: torch.stack([layer[name] for layer in layers], dim=-3).numpy() for name in layers[0]}
        except RuntimeError:
            raise ValueError("attention_dimension: layers differ in their number of heads or tokens") from None
        if self.tokens == "all" and self.attention_mask is not None:
            padding = self.attention_mask.cpu().numpy()[:, -visible.shape[-1] :] == 0
            visible[np.broadcast_to(padding[:, None], visible.shape)] = 0
        real = visible[:, :, None] > 0
        counts = np.where(real, rows.pop("counts"), -1).astype(np.int32)  # [rules, eps, batch, layers, heads, tokens]
        rest = {name: np.where(real, row, np.nan) for name, row in rows.items()}
        masses = rest.pop("mass_above", [None] * len(self.rules))
        if self.scalar:
            counts, masses = counts[:, 0], [None if mass is None else mass[0] for mass in masses]
        return {
            rule: AttentionDimension(counted, visible, self.eps, rule, mass_above=mass, **rest)
            for rule, counted, mass in zip(self.rules, counts, masses, strict=True)
        }

    def result(self) -> AttentionDimension:
        """Return the :class:`AttentionDimension` of a measurement under one rule."""
        (result,) = self.results().values()
        return result


# The recorders that listen in this thread: the attention function gets no argument of ours.
_RECORDERS: contextvars.ContextVar[tuple[_Recorder, ...]] = contextvars.ContextVar("geolib_recorders", default=())


def _recorder_of(module) -> _Recorder | None:
    """Return the innermost recorder of the model that the module is part of."""
    return next((one for one in reversed(_RECORDERS.get()) if module in one.modules), None)


def _counting_attention(module, query, key, value, attention_mask, scaling=None, softcap=None, s_aux=None, **kwargs):
    """Attend as the model does, and let the recorder count; the signature is that of transformers' interface."""
    check_arguments(module, kwargs)
    if attention_mask is None and query.shape[2] > 1:
        # transformers leaves the mask away where a cache is still empty: what is behind the queries is room in it.
        key, value = key[:, :, : query.shape[2]], value[:, :, : query.shape[2]]
    attention = AttentionMap(query, key, attention_mask, scaling=scaling, softcap=softcap, sinks=s_aux)
    normaliser = None
    if softcap is not None or s_aux is not None:
        output = attention.attend(value), None
    else:
        with LogSumExp() as listener:
            output = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        normaliser = listener.of(query) if attention_mask is None or attention_mask.shape[1] == 1 else None
    recorder = _recorder_of(module)
    if recorder is not None:
        recorder.add(module, attention, normaliser)
    return output


def _check_inputs(model, input_ids, attention_mask, position_ids, past_key_values) -> dict:
    """Return the arguments of the forward pass, on the model's device."""
    if past_key_values is not None and not hasattr(past_key_values, "get_seq_length"):
        raise TypeError(
            f"attention_dimension: past_key_values is a {type(past_key_values).__name__}, but a transformers cache was "
            "expected"
        )
    past = cached(past_key_values)
    ids = check_ids("attention_dimension", model, input_ids, past, virtual=True)
    inputs = {"input_ids": ids}
    for name, given in {"position_ids": position_ids, "past_key_values": past_key_values}.items():
        if given is not None and virtual_tokens(model):
            raise ValueError(f"attention_dimension: {name} is given, but none was expected beside virtual tokens")
    if past_key_values is not None:
        inputs["past_key_values"] = copied("attention_dimension", past_key_values)
    if position_ids is not None:
        inputs["position_ids"] = check_positions("attention_dimension", position_ids, ids.shape).to(device_of(model))
    if attention_mask is not None:
        mask = check_mask("attention_dimension", attention_mask, (ids.shape[0], past + ids.shape[1]))
        inputs["attention_mask"] = mask.to(device_of(model), torch.long)
    return inputs
