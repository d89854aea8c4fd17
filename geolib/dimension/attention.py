"""The soft intrinsic dimension of attention, counted while the model's own fast attention runs.

For each row i of an attention map, ID_eps(i) counts the entries above a threshold (arXiv 2407.02678, eq. 8). Eager
attention would return every T x T map; at useful lengths that takes gigabytes. Here the forward pass uses
scaled-dot-product attention, whose kernel also computes each row's logsumexp, and a second product of a few query rows
with the keys gives the counts.
"""

import contextlib
import contextvars
import copy
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from inspect import signature
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from transformers import GenerationMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from geolib.checks import choice, flag
from geolib.dimension import architectures, lm
from geolib.dimension.architectures import UncountableError
from geolib.dimension.rows import AttentionMap, LogSumExp, count_weights, joined, row_statistics
from geolib.dimension.rules import RULES, check_eps, check_rule, keep
from geolib.typing import Model

_NAME = "geolib_counting"
_EXPECTED = "one plain softmax per head, through the attention interface"


@dataclass(frozen=True)
class AttentionDimension:
    """The intrinsic dimension of attention, ID_eps, of each head; made by `attention_dimension`.

    Attributes
    ----------
    per_head : array-like, shape=[batch, layers, heads, tokens], int
        Number of entries of the attention row that exceed the threshold; -1 where the token is padding. With a sequence
        of eps there is a leading axis: ``shape=[eps, batch, layers, heads, tokens]``.
    visible : array-like, shape=[batch, layers, tokens], int
        Number of tokens that the row may attend to; 0 where the token is padding.
    eps : tuple of float
        Thresholds, in the order of the leading axis; a single one if there is no such axis.
    rule : str
        A name in :data:`~geolib.dimension.RULES`.
    sink_share : array-like, shape=[batch, layers, heads, tokens], or None
        Weight on the first token that is not padding. This and the following arrays are None unless ``statistics`` was
        asked for, and NaN where the token is padding.
    entropy : array-like, shape=[batch, layers, heads, tokens], or None
        Shannon's entropy of the row in nats. If a model's own sinks take a part, the weights are divided by their sum.
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
    model: Model,
    input_ids: ArrayLike,
    attention_mask: ArrayLike | None = None,
    *,
    eps: float | Sequence[float] = 0.1,
    rule: str = "absolute",
    tokens: str = "last",
    statistics: bool = False,
    position_ids: ArrayLike | None = None,
    past_key_values: Any = None,
) -> AttentionDimension:
    r"""Count, for every layer and head, how many tokens a token attends to by more than eps.

    ID_eps(i) is, summed over heads, the number of j <= i with Attn(X)_ij > eps (arXiv 2407.02678, eq. 8). It takes one
    forward pass through the model's fast attention; the counts are those of the eager maps, which are never stored.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model whose attention goes through transformers' attention interface. The model is not
        modified. Adapters of peft are measured with it; virtual tokens are counted as keys, but have no rows.
    input_ids : array-like, shape=[batch, tokens], int
        Token ids; ``shape=[tokens]`` is taken as a batch of one.
    attention_mask : array-like, shape=[batch, tokens], optional
        1 for tokens, 0 for padding, on either side. With ``past_key_values``, ``shape=[batch, past + tokens]``.
    eps : float or sequence of float
        Threshold(s) in (0, 1). Any number of them takes one forward pass.
    rule : str
        A name in :data:`~geolib.dimension.RULES`: with ``"absolute"`` count entries above eps (the printed eq. 8), with
        ``"relative"`` those above eps times the row's largest entry (the released code of arXiv 2312.01648).
    tokens : {"last", "all"}
        Rows to count: the last token that is not padding, or every token.
    statistics : bool
        Whether to measure the sink's share, the entropies and the mass above eps too.
    position_ids : array-like, shape=[batch, tokens], optional
        Positions of the tokens. Without them the model counts positions from the first column, as in any call, so that
        left padding shifts the tokens of a model with learned absolute positions (gpt2); rotary ones are unaffected.
    past_key_values : transformers.Cache, optional
        Cache of the tokens before ``input_ids``, of any kind, as the model returned it. It may be empty. The cache is
        copied, not modified.

    Returns
    -------
    AttentionDimension

    Raises
    ------
    ValueError
        If a prompt is empty or too long, eps is outside (0, 1), the rule is unknown, the mask does not fit, or the
        model's attention cannot be counted (the error gives the reason).
    TypeError
        If ``model`` is not a transformers model, or eps is not a number.

    Notes
    -----
    Scores and softmax are computed and compared in float32 for every type of model, as inside its fused kernel. A
    weight of exactly eps does not exceed it. Eager attention in bfloat16 rounds scores to 8 bits first, so weights
    within some per cent of eps may be counted differently there. Under autocast, queries and keys are rounded as for
    the kernel, and nothing after that.

    Examples
    --------
    >>> from geolib.models import load
    >>> model, tokenizer = load()
    >>> ids = tokenizer("Natalia sold clips to 48 of her friends.", return_tensors="pt").input_ids
    >>> attention_dimension(model, ids, eps=[0.1, 0.01]).per_head.shape  # [eps, batch, layers, heads, tokens]
    (2, 1, 30, 9, 1)
    """
    inputs = _check_inputs(model, input_ids, attention_mask, position_ids, past_key_values)
    mask = inputs.get("attention_mask")
    with measuring(model, eps=eps, rule=[rule], tokens=tokens, statistics=statistics, attention_mask=mask) as measure:
        measure.n_past = architectures.cached(past_key_values)
        lm.read(model, **inputs)
    return measure.result()


def attention_edges(
    model: Model, input_ids: ArrayLike, *, layer: int | Sequence[int] | None = None, eps: float = 0.1
) -> pd.DataFrame:
    """List the edges of the attention graphs: the entries above eps (arXiv 2407.02678, eq. 6).

    Parameters
    ----------
    model, input_ids
        As in :func:`attention_dimension`, with a single prompt.
    layer : int or sequence of int, optional
        Numbers of layers, from 0; a negative number counts from the last. By default all layers. It is always one
        forward pass.
    eps : float
        Threshold in (0, 1): at most 1 / eps edges leave a token in each head.

    Returns
    -------
    pandas.DataFrame
        ``layer``, ``head``, ``query`` (the token that attends), ``key`` (the token attended to), ``weight``.

    Raises
    ------
    ValueError
        As :func:`attention_dimension`; and if there is more than one prompt, or a layer does not exist.
    """
    ids = lm.check_ids("attention_edges", model, input_ids, one=True)
    every = range(architectures.layer_count("attention_edges", model))
    wanted = lm.layer_numbers("attention_edges", model, every if layer is None else layer)
    with measuring(model, eps=check_eps("attention_edges", [eps]), tokens="all") as measure:
        measure.edges_of = wanted
        lm.read(model, input_ids=ids)
    columns = (torch.cat(part).cpu().numpy() for part in zip(*measure.edges, strict=True))
    return pd.DataFrame(dict(zip(("layer", "head", "query", "key", "weight"), columns, strict=True)))


@contextlib.contextmanager
def measuring(
    model: Model,
    *,
    eps: float | Sequence[float] = 0.1,
    rule: str | Sequence[str] = "absolute",
    tokens: str = "last",
    statistics: bool = False,
    attention_mask: ArrayLike | None = None,
) -> Iterator[Any]:
    """Count the attention of a forward pass of ``model`` that runs inside the ``with`` block.

    Only the first pass is counted. For ``model.generate`` this is the reading of the prompts. Each prompt is counted
    once, even if it is read in several passes, if candidate tokens follow it, or with several beams or samples.

    The parameters are those of :func:`attention_dimension`. For a padded batch, ``attention_mask`` must be the one that
    the model is given; inside ``generate`` it is known. Afterwards the yielded object's ``result()`` returns an
    :class:`AttentionDimension`; if ``rule`` is a sequence, ``results()`` returns one for each rule. Another thread that
    would measure the same model waits until the block ends.

    Yields
    ------
    _Recorder
    """
    rules, scalar = check_rule("attention_dimension", rule), isinstance(eps, Real)
    choice("attention_dimension: tokens", tokens, "last", "all")
    statistics = flag("attention_dimension: statistics", statistics)
    recorder = _Recorder(check_eps("attention_dimension", eps), rules, tokens, statistics, scalar)
    recorder.virtual = architectures.virtual_tokens(model)
    recorder.n_read = architectures.virtual_tokens(model, read=True)
    recorder.pad(None if attention_mask is None else lm.check_mask("attention_dimension", attention_mask))
    recorder.modules = frozenset(module for _, module in model.named_modules())
    with architectures.refusing("attention_dimension", model, _EXPECTED):
        with contextlib.ExitStack() as stack:
            stack.callback(_RECORDERS.reset, _RECORDERS.set((*_RECORDERS.get(), recorder)))
            if model.config.model_type in architectures.NOT_SOFTMAX:
                raise UncountableError(architectures.NOT_SOFTMAX[model.config.model_type])
            stack.enter_context(lm.attending(model, _NAME, _counting_attention, sdpa_mask))
            _listen(model, recorder, stack)
            yield recorder
        layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
        if not recorder.rows:
            bypassed = architectures.NOT_ROUTED
            unheard = bypassed if recorder.ran else f"was not heard to attend: no pass ran here, or it {bypassed}"
            raise UncountableError("has not read its prompt to the end" if recorder.passed else unheard)
        if len(recorder.rows) != layers:
            raise UncountableError(f"passed {len(recorder.rows)} of its {layers} layers through softmax attention")


def _listen(model, recorder, stack):
    """Note each pass of the whole model, and the prompts of `generate`: a pass may hold part of them, or more."""
    hear = lm.ours(lambda *_: setattr(recorder, "ran", True))
    for part in {model, getattr(model, "base_model", model)}:
        stack.enter_context(part.register_forward_pre_hook(hear))
    for part in model.modules():
        if isinstance(part, GenerationMixin) and "generate" not in vars(part):
            part.generate = functools.partial(_generate, part.generate)
            stack.callback(delattr, part, "generate")


def _generate(generate, *args, **kwargs):
    """Call a model's `generate`, after noting the prompts of the first call of a measurement."""
    recorder = _recorder_of(generate.__self__)
    if recorder is None or recorder.passed:
        return generate(*args, **kwargs)
    recorder.note(generate, *args, **kwargs)
    # A compiled pass cannot be counted. Later calls are not counted, and may be compiled.
    return generate(*args, **({} if "custom_generate" in kwargs else {"disable_compile": True}) | kwargs)


@dataclass
class _Recorder:
    """Collects counts layer by layer, as the forward pass calls the attention function."""

    eps: tuple[float, ...]
    rules: tuple[str, ...]
    tokens: str
    statistics: bool
    scalar: bool  # whether eps is one number
    attention_mask: torch.Tensor | None = None
    ran: bool = False  # whether a pass of the whole model began
    n_past: int = 0  # number of tokens in the cache
    n_prompts: int | None = None  # number of prompts that `generate` was given
    length: int | None = None  # number of their tokens that are not in the cache
    virtual: int = 0  # number of virtual tokens before the prompt
    n_read: int = 0  # number of virtual tokens that the model reads like those of the prompt
    edges_of: Sequence[int] = ()  # layers whose edges above eps are kept
    # By module, for each pass over a part of the prompt: numbers of visible tokens, shape=[batch, tokens]; counts,
    # shape=[rules, eps, batch, heads, tokens]; and what `row_statistics` returns.
    rows: dict = field(default_factory=dict)
    edges: list = field(default_factory=list)  # for each block of rows: layer, head, query, key, weight
    passed: dict = field(default_factory=dict)  # number of tokens read, by module
    modules: frozenset = frozenset()  # those of the model: another model may be measured meanwhile

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
        # Keywords go before the configuration that is given, and this before the model's own.
        config = vars(kwargs.get("generation_config") or model.generation_config)
        config = vars(model.generation_config) | {name: value for name, value in config.items() if value is not None}
        settings = config | kwargs
        if settings.get("cache_implementation") == "paged":
            raise UncountableError("reads its prompts from a paged cache here")
        if "offloaded" in str(settings.get("cache_implementation")) and not torch.accelerator.is_available():
            raise UncountableError(f"{architectures.OFFLOADED} here")
        if ids is None:
            return
        padding, ends = settings["pad_token_id"], settings["eos_token_id"]
        if mask is None and ids.ndim == 2 and padding not in (None, *np.atleast_1d(ends)):
            mask = (ids != padding).long()  # the mask that generate itself makes
        self.n_past = architectures.cached(kwargs.get("past_key_values"))
        self.n_prompts, self.length = len(ids), ids.shape[1] + self.n_read
        if mask is None or mask.shape[1] == ids.shape[1]:  # otherwise the ids leave out the tokens in the cache
            self.length -= self.n_past
        if mask is not None and self.attention_mask is None:
            self.pad(mask)

    def add(self, module, attention, normaliser):
        """Count one layer; with ``normaliser``, shape=[batch, heads, queries], no softmax is needed."""
        n_queries, passed = attention.query.shape[2], self.passed.get(module, 0)
        self.passed[module] = passed + n_queries
        rest = self.length - passed if self.length is not None else 0 if passed else n_queries
        if rest <= 0 or (self.tokens == "last" and rest > n_queries):
            return
        # The cache of a sliding window drops old tokens: then the keys are those of the last tokens.
        forgotten = max(0, self.n_past + passed + n_queries - attention.key.shape[2])
        attention, normaliser = self._of_prompts(attention, normaliser, min(rest, n_queries))
        held, rows = len(attention.query), passed + attention.query.shape[2]
        shape = (held, rows) if self.attention_mask is None else tuple(self.attention_mask.shape)
        if shape[0] != held or shape[1] < rows:
            raise ValueError(f"attention_dimension: attention_mask has shape {shape}, but {held, rows} was expected")
        parts_so_far = self.rows.setdefault(module, [])
        layer, statistics = list(self.rows).index(module), self.statistics
        scored = all(getattr(RULES[rule], "score", None) for rule in self.rules)
        first = self._first_tokens(len(attention.query)) - forgotten if statistics else None
        if scored and normaliser is not None and self.tokens == "all" and layer not in self.edges_of:
            measured = attention.count(normaliser, self.eps, self.rules, first)
            # The kernel gives a query of NaN the logsumexp of a row that sees nothing, so the query is tested too.
            broken = (normaliser + attention.query.sum(-1)).isnan()
        else:
            parts = []
            for rows in [self._last_rows(attention)] if self.tokens == "last" else attention.blocks():
                weights, seen = attention.weights(rows)
                part = {"counts": count_weights(weights, self.eps, self.rules), "seen": seen}
                part["broken"] = weights[..., 0].isnan()
                if statistics:
                    part |= row_statistics(weights, first, self.eps, self.rules)
                if layer in self.edges_of:
                    self._add_edges(layer, rows, weights[0])
                parts.append(part)
            measured = joined(parts)
            broken = measured.pop("broken")
        if (broken & (measured["seen"] > 0)[:, None]).any():
            raise architectures.not_finite("attention_dimension", f"NaN attention in layer {layer + 1}")
        parts_so_far.append({name: value.cpu() for name, value in measured.items()})

    def _of_prompts(self, attention, normaliser, n_queries):
        """Keep each prompt's first row of the batch (its beams or samples are equal here), and its first queries."""
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

    def _last_rows(self, attention):
        """Return the row of the last token that is not padding, shape=[batch]."""
        query = attention.query
        last = torch.full((query.shape[0],), query.shape[2] - 1, device=query.device)
        if self.attention_mask is None:
            return last
        last = last - self.attention_mask.to(query.device).flip(-1).to(torch.int32).argmax(-1)
        if (last < 0).any():
            found = "ends in padding before the pass that is measured"
            raise ValueError(f"attention_dimension: attention_mask {found}, but a token in this pass was expected")
        return last

    def _first_tokens(self, batch):
        """Return the place of the first token that is not padding, shape=[batch]."""
        if self.attention_mask is None:
            return torch.zeros(batch, dtype=torch.long)
        return self.attention_mask.to("cpu", torch.int32).argmax(-1)

    def results(self) -> dict[str, AttentionDimension]:
        """Return an :class:`AttentionDimension` for each rule."""
        if not self.rows:
            raise ValueError("attention_dimension: result is asked for before a pass, but a pass was expected first")
        layers = [joined(parts) for parts in self.rows.values()]
        if self.tokens == "all" and self.n_read:  # virtual tokens have no rows in the result
            layers = [{name: value[..., self.n_read :] for name, value in layer.items()} for layer in layers]
        visible = [layer.pop("seen").to(torch.int32) for layer in layers]
        try:
            visible = torch.stack(visible, dim=1).numpy()
            rows = {name: torch.stack([layer[name] for layer in layers], dim=-3).numpy() for name in layers[0]}
        except RuntimeError:
            found = "layers that differ in their number of heads or tokens"
            raise ValueError(f"attention_dimension: model has {found}, but equal layers were expected") from None
        if self.tokens == "all" and self.attention_mask is not None:
            padding = self.attention_mask.cpu().numpy()[:, -visible.shape[-1] :] == 0
            visible[np.broadcast_to(padding[:, None], visible.shape)] = 0
        real = visible[:, :, None] > 0
        counts = np.where(real, rows.pop("counts"), -1).astype(np.int32)  # [rules, eps, batch, layers, heads, tokens]
        rest: dict[str, Any] = {name: np.where(real, row, np.nan) for name, row in rows.items()}
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


# The recorders that listen in this thread: transformers hands no argument of ours to the attention function.
_RECORDERS: contextvars.ContextVar[tuple[_Recorder, ...]] = contextvars.ContextVar("geolib_recorders", default=())


def _recorder_of(module):
    """Return the innermost recorder of the model that the module is part of."""
    return next((one for one in reversed(_RECORDERS.get()) if module in one.modules), None)


def _counting_attention(module, query, key, value, attention_mask, scaling=None, softcap=None, s_aux=None, **kwargs):
    """Attend as the model does, and count; the signature is that of transformers' attention interface."""
    architectures.check_arguments(module, kwargs)
    if attention_mask is None and query.shape[2] > 1:
        # For an empty cache transformers gives no mask: keys behind the queries are unused room in the cache.
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


def _check_inputs(model, input_ids, attention_mask, position_ids, past_key_values):
    """Return the arguments of the forward pass, on the model's device."""
    if past_key_values is not None and not hasattr(past_key_values, "get_seq_length"):
        kind = type(past_key_values).__name__
        raise TypeError(f"attention_dimension: past_key_values is a {kind}, but a transformers cache was expected")
    past = architectures.cached(past_key_values)
    ids = lm.check_ids("attention_dimension", model, input_ids, past, virtual=True)
    inputs = {"input_ids": ids}
    for name, given in {"position_ids": position_ids, "past_key_values": past_key_values}.items():
        if given is not None and architectures.virtual_tokens(model):
            raise ValueError(f"attention_dimension: {name} is given, but none was expected beside virtual tokens")
    if past_key_values is not None:
        inputs["past_key_values"] = architectures.copied("attention_dimension", past_key_values)
    if position_ids is not None:
        inputs["position_ids"] = lm.check_positions("attention_dimension", position_ids, ids.shape).to(ids.device)
    if attention_mask is not None:
        mask = lm.check_mask("attention_dimension", attention_mask, (ids.shape[0], past + ids.shape[1]))
        inputs["attention_mask"] = mask.to(ids.device, torch.long)
    return inputs
