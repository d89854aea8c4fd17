"""Answers to many prompts that begin alike: what they share is read once, and ID is counted on the way.

A k-shot prompt is a long beginning, the same for every question, and a short question. The keys and values of the
beginning are computed once, held once, and attended to by the whole batch in one product; they are cut and extended
when the next beginning starts with the same tokens, as the one with one example more does.
"""

import contextvars
import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import DynamicCache
from transformers.masking_utils import sdpa_mask

from geolib.checks import integer
from geolib.dimension.architectures import NOT_ROUTED, UncountableError, check_arguments, check_model
from geolib.dimension.attention import _counting_attention, measuring
from geolib.dimension.lm import attending, device_of
from geolib.dimension.rows import count_weights
from geolib.dimension.rules import RULES

_NAME = "geolib_shared"
_PIECE = 1024  # tokens read in one pass: more gain nothing and take memory
_STEP = 128  # the same, of a beginning
_BLOCK = 2**21  # attention scores held at a time
_TOLERANCE = {torch.float32: 1e-3}  # of logits, relative to their largest; other types round to a few per cent
_COARSE = 5e-2
_NEAR = 1e-6  # what rounding may do to a weight, in float32


class RefusedError(ValueError):
    """The model's attention is not one that is followed here; no question is to blame."""


@dataclass
class Answer:
    """What the model answered to one prompt, and what was measured at the prompt's last token.

    Attributes
    ----------
    tokens : list of int
        Up to the end, which is left out.
    ended : bool
        Whether the model ended the answer, rather than the limit.
    counts : array-like, shape=[rules, eps, layers], int
        ID_eps of eq. 8 under each rule.
    sink_share : array-like, shape=[layers]
        Weight on the first token, mean over heads.
    near : int
        Weights within 1e-6 of a threshold, over all layers, heads, thresholds and rules: rounding may count them
        otherwise.
    signs : array-like, uint8
        Signs of the watched modules' outputs, packed bit by bit; empty where none is watched.
    visible : array-like, shape=[layers], int
        Tokens that the last one may attend to.
    """

    tokens: list[int]
    ended: bool
    counts: np.ndarray
    sink_share: np.ndarray
    near: int
    signs: np.ndarray
    visible: np.ndarray


@dataclass
class _Layer:
    """Keys and values of one layer: those shared by the batch, and each row's own."""

    key: torch.Tensor  # shape=[key-value heads, shared tokens, head_dim]
    value: torch.Tensor
    own_key: torch.Tensor | None = None  # shape=[key-value heads, batch, room, head_dim]
    own_value: torch.Tensor | None = None


@dataclass
class SharedPrefix:
    """A model that answers batches of prompts with a common beginning.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        As for :func:`geolib.dimension.attention_dimension`: attention goes through transformers' interface and is one
        softmax per head. Keys and values are held in float32 whatever its type.
    eps : sequence of float
        Thresholds of ID_eps, counted under every rule.
    sharpness : mapping of int to float, optional
        Layer (from 0) to a factor of its attention scores: above 1 rows of attention grow sharper, below flatter. The
        intervention of Part III; layers that are not named keep 1.
    watched : sequence of torch.nn.Module
        Modules whose outputs' signs at the prompt's last token are recorded, such as the gates of the MLPs.
    rules : sequence of str
        Names in :data:`geolib.dimension.RULES`; by default all that are there.
    """

    model: object
    eps: Sequence[float]
    sharpness: Mapping[int, float] | None = None
    watched: Sequence[torch.nn.Module] = ()
    rules: Sequence[str] = field(default_factory=lambda: tuple(RULES))
    _shared: list[int] = field(default_factory=list)  # the tokens whose keys and values are shared
    _layers: dict = field(default_factory=dict)  # by module, in the order of the forward pass
    _written: int = 0  # columns of the rows' own tokens that are there
    _new: int = 0  # columns of the pass that runs
    _padding: torch.Tensor | None = None  # shape=[batch]: columns on the left that are no tokens
    _rows: slice = field(default_factory=lambda: slice(None))  # of the batch, in the pass that runs
    _hidden: dict = field(default_factory=dict)  # masks of the pass that runs, by sliding window
    _measured: list | None = None  # per layer, while the last piece of the prompts is read
    _followed: float = 0  # tokens up to which the model was seen to be followed

    def __post_init__(self):
        check_model("Sweep", self.model)
        config = self.model.config.get_text_config()
        if not self.model.can_generate():
            raise self._refusal("is no causal language model with a head")
        if not self.model._can_set_attn_implementation() or not hasattr(config, "num_hidden_layers"):
            raise self._refusal(NOT_ROUTED)
        if any("Linear" in type(layer).__name__ for layer in DynamicCache(config=config).layers):
            raise self._refusal("keeps more of what it has read than keys and values")
        for layer in self.sharpness or {}:
            integer("Sweep: layer of sharpness", layer, 0, config.num_hidden_layers - 1)

    @torch.no_grad()
    def answer(
        self,
        before: Sequence[int],
        rests: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        ends: Sequence[int],
        choose: Callable | None = None,
        stop: Callable | None = None,
    ) -> list[Answer]:
        """Answer every prompt ``before + rest``, greedily unless ``choose`` says otherwise.

        Parameters
        ----------
        before : sequence of int
            Token ids that all prompts begin with; none is fine.
        rests : sequence of sequences of int
            What follows in each, at least one token.
        max_new_tokens : int
        ends : sequence of int
            Tokens that end an answer.
        choose : callable, optional
            Takes logits, ``shape=[rows, vocabulary]``, and the rows' numbers; returns a token for each.
        stop : callable, optional
            Takes an answer's tokens so far; true where the answer is at its end without an end token.

        Returns
        -------
        list of Answer

        Raises
        ------
        RefusedError
            The model's attention cannot be followed (named, with the reason). A ValueError.
        ValueError
            It gives NaN.
        """
        longest = max(rests, key=len)
        if self._followed < len(before) + len(longest) + max_new_tokens:
            self.check([*before, *longest], max_new_tokens)
        token = _RUNNING.set(self)
        try:
            with attending(self.model, _NAME, _shared_attention, _no_mask):
                self._read_shared(list(before))
                return self._answer(rests, max_new_tokens, set(ends), choose, stop)
        except UncountableError as error:
            raise self._refusal(str(error)) from None
        except BaseException:
            self._shared, self._layers = [], {}  # whatever state the pass was in
            raise
        finally:
            _RUNNING.reset(token)

    def check(self, prompt: Sequence[int], max_new_tokens: int = 0) -> None:
        """Compare what is seen and said after a prompt and an answer with the model's own attention.

        The answer counts: chunks, windows and stretched positions may begin in it. Its tokens are the prompt's again.
        """
        window = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or math.inf
        length = len(prompt) + max_new_tokens
        text = (list(prompt) * -(-length // len(prompt)))[: max(2, min(length, window))]
        try:
            with measuring(self.model) as measure:
                expected = self._forward(torch.tensor([text], device=device_of(self.model)), None)
            visible = measure.result().visible[0, :, 0]
        except ValueError as error:
            raise RefusedError(str(error).replace("attention_dimension: ", "Sweep: ", 1)) from None
        plain, said, split = SharedPrefix(self.model, self.eps), [], len(text) // 2
        plain._followed = math.inf
        settings = {
            "choose": lambda logits, _: said.append(logits) or logits.argmax(-1),
            "max_new_tokens": 1,
            "ends": (),
        }
        (answer,) = plain.answer(text[:split], [text[split:]], **settings)
        kind = device_of(self.model).type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.model.dtype
        if not expected.isfinite().all():
            raise RefusedError("Sweep: model gives NaN or infinite logits")
        difference = (said[0] - expected).abs().max() / expected.abs().max()
        if (answer.visible != visible).any() or not difference <= _TOLERANCE.get(dtype, _COARSE):
            raise self._refusal(
                f"attends in a way that is not followed here after {len(text)} tokens (logits differ by "
                f"{difference:.1e})"
            )
        self._followed = length

    def _refusal(self, reason) -> RefusedError:
        return RefusedError(
            f"Sweep: model is a {type(self.model).__name__}, which {reason}; "
            "expected one plain softmax per head, through the attention interface"
        )

    # What is shared

    def _read_shared(self, before):
        """Hold the keys and values of `before`, keeping what is there already.

        Steps begin at multiples of their length, and one that was not full is read again: a token's keys are then the
        same bit by bit, whatever was shared before, and a run that was stopped ends like one that was not.
        """
        if before == self._shared:
            return
        same = next((i for i, (a, b) in enumerate(zip(self._shared, before, strict=False)) if a != b), None)
        same = min(len(self._shared), len(before)) if same is None else same
        same -= same % _STEP
        for layer in self._layers.values():
            layer.key, layer.value = layer.key[:, :same], layer.value[:, :same]
        self._shared = self._shared[:same]
        for start in range(same, len(before), _STEP):
            piece = before[start : start + _STEP]
            self._start([piece], room=len(piece))
            self._pass(torch.tensor([piece], device=device_of(self.model)))
            for layer in self._layers.values():
                layer.key = torch.cat([layer.key, layer.own_key[:, 0]], dim=1)
                layer.value = torch.cat([layer.value, layer.own_value[:, 0]], dim=1)
            self._shared += piece

    def _start(self, rests, room):
        """Make room for the rows' own tokens."""
        length = max(map(len, rests))
        self._padding = torch.tensor([length - len(rest) for rest in rests], device=device_of(self.model))
        self._written, self._room = 0, room
        for layer in self._layers.values():
            layer.own_key = layer.own_value = None

    # The forward pass

    def _pass(self, ids, rows=slice(None)):
        """Logits after the last of the new columns of some rows, shape=[rows, vocabulary]."""
        self._rows, self._new, self._hidden, self._order = rows, ids.shape[1], {}, 0
        columns = self._written + torch.arange(self._new, device=ids.device)
        self._positions = (len(self._shared) + columns - self._padding[rows, None]).clamp(min=0)
        logits = self._forward(ids, self._positions)
        if self._order == 0:
            raise UncountableError(NOT_ROUTED)
        layers = getattr(self.model.config.get_text_config(), "num_hidden_layers", None)
        if self._order != layers:
            raise UncountableError(f"passed {self._order} of its {layers} layers through softmax attention")
        self._written += self._new
        return logits

    def _forward(self, ids, positions):
        inputs = {"input_ids": ids, "use_cache": False}
        accepted = inspect.signature(self.model.forward).parameters
        if positions is not None:
            inputs["position_ids"] = positions
        if "logits_to_keep" in accepted:
            inputs["logits_to_keep"] = 1
        return self.model(**inputs).logits[:, -1].float()

    def _attend(self, module, query, key, value, scaling, softcap, sinks, window):
        """Attention output, shape=[batch, queries, heads, value_dim], of the new columns."""
        index, self._order = self._order, self._order + 1
        kv_heads, (batch, heads, n_new, size) = key.shape[1], query.shape
        layer = self._remember(module, key.float().transpose(0, 1), value.float().transpose(0, 1))
        n_own, n_shared = self._written + n_new, layer.key.shape[1]
        scaling = size**-0.5 if scaling is None else scaling
        scaling *= (self.sharpness or {}).get(index, 1.0)
        # Key-value heads in front, so that one product of theirs serves the queries of the whole batch.
        folded = (query.float() * scaling).unflatten(1, (kv_heads, -1)).transpose(0, 1)
        output = query.new_empty(batch, n_new, heads, value.shape[-1], dtype=torch.float32)
        own_key, own_value = layer.own_key[:, self._rows, :n_own], layer.own_value[:, self._rows, :n_own]
        at_once = max(1, _BLOCK // (heads * n_new * (n_shared + n_own)))
        measured = []
        for start in range(0, batch, at_once):
            part = slice(start, min(start + at_once, batch))
            q, n_rows = folded[:, part].flatten(1, 3), part.stop - start
            shape = (kv_heads, n_rows, heads // kv_heads, n_new)
            own_keys = own_key[:, part].flatten(0, 1).transpose(1, 2)
            own = torch.bmm(folded[:, part].reshape(kv_heads * n_rows, -1, size), own_keys).view(*shape, n_own)
            shared = torch.bmm(q, layer.key.transpose(1, 2)).view(*shape, n_shared) if n_shared else None
            parts = [own] if shared is None else [shared, own]
            if softcap is not None:
                parts = [softcap * (scores / softcap).tanh() for scores in parts]
            parts[-1].masked_fill_(self._hides_own(window, n_own)[part], -torch.inf)
            if window is not None and n_shared:
                parts[0].masked_fill_(self._hides_shared(window, n_shared)[part], -torch.inf)
            peak = parts[-1].amax(-1, keepdim=True)
            if n_shared:
                peak = torch.maximum(peak, parts[0].amax(-1, keepdim=True))
            if sinks is not None:
                sink = sinks.float().view(kv_heads, 1, -1, 1, 1)
                peak = torch.maximum(peak, sink)
            parts = [scores.sub_(peak).exp_() for scores in parts]
            total = sum(scores.sum(-1, keepdim=True) for scores in parts)
            if sinks is not None:
                total = total + (sink - peak).exp()
            own_values = own_value[:, part].flatten(0, 1)
            mixed = torch.bmm(parts[-1].view(kv_heads * n_rows, -1, n_own), own_values).view(*shape, -1)
            if n_shared:
                mixed = mixed + torch.bmm(parts[0].view(kv_heads, -1, n_shared), layer.value).view(*shape, -1)
            output[part] = (mixed / total).permute(1, 3, 0, 2, 4).flatten(2, 3)
            if self._measured is not None:
                last = torch.cat([scores[..., -1, :] for scores in parts], dim=-1) / total[..., -1, :]
                hidden = self._hides_own(window, n_own)[part, 0, -1].sum(-1)
                if window is not None and n_shared:
                    hidden = hidden + self._hides_shared(window, n_shared)[part, 0, -1].sum(-1)
                measured.append((*self._measure(last, part), n_own + n_shared - hidden))
        if self._measured is not None:
            self._measured.append([torch.cat(one, dim=-1) for one in zip(*measured, strict=True)])
        return output.to(query.dtype)

    def _remember(self, module, key, value) -> _Layer:
        """Write the new columns' keys and values, shape=[key-value heads, batch, new, head_dim], beside the old."""
        if module not in self._layers:
            if self._shared:
                raise UncountableError("changes the order of its layers from pass to pass")
            kv_heads, _, _, size = key.shape
            self._layers[module] = _Layer(
                key.new_empty(kv_heads, 0, size), value.new_empty(kv_heads, 0, value.shape[3])
            )
        layer = self._layers[module]
        if layer.own_key is None:
            room = len(self._padding), self._room
            layer.own_key = key.new_empty(key.shape[0], *room, key.shape[3])
            layer.own_value = value.new_empty(value.shape[0], *room, value.shape[3])
        columns = slice(self._written, self._written + self._new)
        layer.own_key[:, self._rows, columns], layer.own_value[:, self._rows, columns] = key, value
        return layer

    def _hides_own(self, window, n_own):
        """Which of a row's own columns its new ones do not see, shape=[batch, 1, new, own]."""
        if ("own", window) not in self._hidden:
            column = torch.arange(n_own, device=self._padding.device)
            new = column[self._written :, None]
            hidden = column > new
            if window is not None:
                hidden = hidden | (new - column >= window)
            padding = self._padding[self._rows, None, None]
            # A column of padding sees padding, or its softmax would be of nothing, and NaN; nothing else sees it.
            hidden = hidden | ((column < padding) & (new >= padding))
            self._hidden["own", window] = hidden[:, None]
        return self._hidden["own", window]

    def _hides_shared(self, window, n_shared):
        """Which of the shared tokens lie before the sliding window, shape=[batch, 1, new, shared]."""
        if ("shared", window) not in self._hidden:
            token = torch.arange(n_shared, device=self._padding.device)
            self._hidden["shared", window] = (self._positions[..., None] - token >= window)[:, None]
        return self._hidden["shared", window]

    def _measure(self, weights, part):
        """ID and the sink's share of the last rows, shape=[key-value heads, batch, heads of each, tokens]."""
        if weights.isnan().any():
            raise ValueError(f"Sweep: model gives NaN attention in layer {len(self._measured) + 1}")
        below, counts, above = (
            count_weights(weights, [max(0, eps + shift) for eps in self.eps], self.rules).sum((2, 4))
            for shift in (-_NEAR, 0, _NEAR)
        )  # [rules, eps, batch]
        if self._shared:
            sink = weights[..., 0]
        else:
            first = self._padding[self._rows][part].view(1, -1, 1, 1).expand(*weights.shape[:3], 1)
            sink = weights.gather(-1, first)[..., 0]
        return counts, sink.mean((0, 2)), (below - above).sum((0, 1))

    # Answers

    def _answer(self, rests, max_new_tokens, ends, choose, stop):
        length = max(map(len, rests))
        self._start(rests, room=length + max_new_tokens)
        pad = next(iter(ends), 0)
        ids = torch.tensor([[pad] * (length - len(rest)) + list(rest) for rest in rests], device=device_of(self.model))
        answers, logits = [], []
        at_once = max(1, _PIECE // length)
        for start in range(0, len(rests), at_once):
            rows = slice(start, start + at_once)
            read, measured = self._read(ids[rows], rows)
            logits.append(read)
            answers += [Answer([], False, *row) for row in measured]
        logits = torch.cat(logits)

        rows = list(range(len(rests)))
        choose = choose or (lambda logits, _: logits.argmax(-1))
        for _ in range(max_new_tokens):
            chosen = choose(logits, rows)
            going = []
            for place, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
                answer = answers[row]
                if answer.ended:
                    continue
                answer.ended = token in ends
                if not answer.ended:
                    answer.tokens.append(token)
                    answer.ended = stop is not None and stop(answer.tokens)
                if not answer.ended:
                    going.append(place)
            if not going or len(answers[rows[going[0]]].tokens) == max_new_tokens:
                break
            # Rows that are done are carried along until they are worth the copy.
            if len(going) < 0.8 * len(rows):
                rows, chosen = [rows[place] for place in going], chosen[going]
                self._keep(going)
            logits = self._pass(chosen[:, None])
        return answers

    def _read(self, ids, rows):
        """Read some rows' prompts: the logits after them, and what is measured there."""
        self._written = 0
        pieces = ids.split(_PIECE, dim=1)
        for piece in pieces[:-1]:
            self._pass(piece, rows)
        self._measured = []
        with _Signs(self.watched) as signs:
            logits = self._pass(pieces[-1], rows)
        measured, self._measured = self._measured, None
        counts, sinks, near, seen = (torch.stack(one, dim=-1).cpu() for one in zip(*measured, strict=True))
        counts, near = counts.permute(2, 0, 1, 3).numpy(), near.sum(-1).tolist()
        return logits, zip(counts, sinks.numpy(), near, signs.packed(len(ids)), seen.numpy(), strict=True)

    def _keep(self, places):
        """Drop the rows that are done."""
        places = torch.tensor(places, device=self._padding.device)
        self._padding = self._padding[places]
        for layer in self._layers.values():
            layer.own_key, layer.own_value = layer.own_key[:, places], layer.own_value[:, places]


class _Signs:
    """Signs of some modules' outputs at the last column, heard by hooks."""

    def __init__(self, modules):
        self.modules, self.heard = modules, []

    def __enter__(self):
        self.hooks = [module.register_forward_hook(self._hear) for module in self.modules]
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()

    def _hear(self, module, inputs, output):
        if not isinstance(output, torch.Tensor):
            raise RefusedError(
                f"Sweep: watched holds a {type(module).__name__}, but one that gives a tensor was expected"
            )
        if _RUNNING.get() is not None:  # else another thread calls the model
            self.heard.append((output[:, -1] > 0).cpu().numpy())

    def packed(self, batch):
        """One array of bits for each row, module after module."""
        if not self.heard:
            return [np.zeros(0, dtype=np.uint8)] * batch
        return list(np.packbits(np.concatenate(self.heard, axis=1), axis=1))


_RUNNING: contextvars.ContextVar[SharedPrefix | None] = contextvars.ContextVar("geolib_shared", default=None)


def _no_mask(*args, **kwargs):
    """Masks are made where the keys are: transformers does not know what is shared."""
    return None if _RUNNING.get() else sdpa_mask(*args, **kwargs)


def _shared_attention(
    module, query, key, value, attention_mask, scaling=None, softcap=None, s_aux=None, sliding_window=None, **kwargs
):
    if _RUNNING.get() is None:  # another thread calls the model meanwhile
        kwargs |= {"scaling": scaling, "softcap": softcap, "s_aux": s_aux, "sliding_window": sliding_window}
        return _counting_attention(module, query, key, value, attention_mask, **kwargs)
    check_arguments(module, kwargs)
    return _RUNNING.get()._attend(module, query, key, value, scaling, softcap, s_aux, sliding_window), None


def gumbel(temperature: float, seeds: Sequence[str]) -> Callable:
    """Choose tokens at random, each row from its own generator: what a row gets does not depend on its batch.

    The largest of logits / temperature plus Gumbel noise is a draw from their softmax.
    """
    generators = [
        torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) >> 1) for seed in seeds
    ]

    def choose(logits, rows):
        noise = torch.stack([torch.empty(logits.shape[1]).exponential_(generator=generators[row]) for row in rows])
        scaled = logits / temperature
        if scaled.isinf().any():  # next to 0, where only the largest is drawn
            return logits.argmax(-1)
        return (scaled - noise.to(logits.device).log()).argmax(-1)

    return choose
