"""Answers to many prompts with the same beginning: the model reads the beginning once, and ID is counted on the way.

A k-shot prompt is a long beginning, the same for every question, and a short question. The keys and values of the
beginning are computed once, stored once, and attended to by the whole batch in one matrix product. The next beginning
keeps the part that it shares: with one more example only that example is read.

How it works. While `SharedPrefix` runs, transformers' attention interface calls `_attend` in place of the model's
attention. Every layer has two stores (`_Layer`): *shared* keys and values, without a batch axis, and each row's *own*,
with one. Scores over both are computed separately and normalised by one softmax: the larger of the two maxima is
subtracted from both, and both sums enter the denominator.

The invariants:

- Own columns 0 to `_written` - 1 hold keys and values; a pass with `_new` columns writes the next ones. All layers
  have the same number, because a pass runs all of them in the same order.
- Rows are padded on the left, so that the last column is the last token of every row. A padded column is hidden from
  every token, and positions count from the first token that is not padding.
- A beginning is read in steps that start at multiples of `_STEP`, so its keys are the same bit by bit whichever
  beginning was read before: an interrupted run gives the same answers as an uninterrupted one.
- Before a model is used, `check` compares logits and visible tokens with those of the model's own attention.
"""

import contextlib
import contextvars
import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.masking_utils import sdpa_mask

from geolib.checks import above_zero
from geolib.dimension.architectures import NOT_ROUTED, UncountableError, check_arguments, check_model
from geolib.dimension.attention import _counting_attention, measuring
from geolib.dimension.lm import attending, device_of
from geolib.dimension.rows import count_weights, row_statistics
from geolib.dimension.rules import RULES

_NAME = "geolib_shared"
DURING = ("all", "prompt", "answer", "last token")
_PIECE = 1024  # tokens of a prompt that are read in one pass: more take memory and save no time
_STEP = 128  # tokens of a beginning that are read in one pass
_BLOCK = 2**21  # attention scores in memory at a time
_TOLERANCE = {torch.float32: 1e-3}  # of logits, relative to the largest one; other types round to a few per cent
_COARSE = 5e-2
_NOISE = 65_521  # draws of noise of each head: a prime, so that two pairs of positions seldom have the same
_STRIDE = 7919  # between the places of two neighbouring queries: longer than most prompts
_NEAR = 1e-6  # size of rounding errors of an attention weight in float32


class RefusedError(ValueError):
    """The model's attention is unsupported; retrying other questions will not help."""


@dataclass
class Answer:
    """The model's answer to one prompt, and the measurements at the prompt's last token.

    Attributes
    ----------
    tokens : list of int
        Token ids, without the token that ended the answer.
    ended : bool
        Whether the model ended the answer; False if it reached the limit.
    counts : int array, shape=[rules, eps, layers]
        ID_eps (arXiv 2407.02678, eq. 8) under each rule: ``per_head``, summed over the heads of a layer.
    sink_share : array, shape=[layers]
        Attention weight on the first token, mean over heads.
    per_head : int array, shape=[rules, eps, all heads]
        Number of weights above each threshold, for the heads of the first layer, of the second, and so on: layers may
        differ in their number of heads.
    entropy, renyi2 : array, shape=[all heads]
        Shannon's entropy of the weights and Rényi's of order 2, in nats, as of
        :func:`geolib.dimension.attention_dimension`.
    near : int
        Number of weights within 1e-6 of a threshold, over all layers, heads, thresholds and rules: rounding may change
        whether they are counted.
    signs : uint8 array, shape=[bytes]
        Signs of the watched modules' outputs, packed eight to a byte; empty if no module is watched.
    visible : int array, shape=[layers]
        Number of tokens that the last token may attend to.
    """

    tokens: list[int]
    ended: bool
    counts: np.ndarray
    sink_share: np.ndarray
    per_head: np.ndarray
    entropy: np.ndarray
    renyi2: np.ndarray
    near: int
    signs: np.ndarray
    visible: np.ndarray


@dataclass
class _Layer:
    """Keys and values of one layer: those that the batch shares, and each row's own."""

    shared: list[torch.Tensor]  # keys and values, shape=[key-value heads, shared tokens, head_dim] each
    own: list[torch.Tensor]  # keys and values, shape=[key-value heads, batch, room, head_dim]; empty before a batch


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a model's attention, in some layers and during some passes, with the prompt held fixed.

    Parameters
    ----------
    sharpness : mapping of int to float or sequence of float
        Factor of the attention scores for each layer (from 0), or one for each of its heads: factors above 1 make
        attention sharper, factors below 1 flatter. Other layers have the factor 1.
    noise : float
        Standard deviation of normal noise that is added to all scores, in all layers: fixed for each head and each
        pair of positions (each head's is read from a table of 65,521 draws, at a place that depends on the pair).
    output : float
        Factor of the attention's output, in all layers.
    during : str
        Passes that are changed: ``"all"``, ``"prompt"``, ``"answer"``, or ``"last token"`` (of the prompt, where ID is
        measured).

    Raises
    ------
    TypeError, ValueError
        A factor is not above 0, ``noise`` is below 0, or ``during`` is none of these.
    """

    sharpness: Mapping[int, float | Sequence[float]] = field(default_factory=dict)
    noise: float = 0.0
    output: float = 1.0
    during: str = "all"

    def __post_init__(self):
        if self.during not in DURING:
            raise ValueError(f"Change: during is {self.during!r}, but one of {', '.join(DURING)} was expected")
        above_zero("Change: noise", self.noise, zero=True)
        above_zero("Change: output", self.output)
        for layer, factors in self.sharpness.items():
            for factor in np.ravel(factors).tolist():
                above_zero(f"Change: sharpness of layer {layer}", factor)


@dataclass
class SharedPrefix:
    """A model that answers batches of prompts with a common beginning.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        As for :func:`geolib.dimension.attention_dimension`: attention goes through transformers' interface and is one
        softmax per head. Keys and values are stored in float32, whatever the type of the model.
    eps : sequence of float
        Thresholds of ID_eps, counted under every rule.
    change : Change
        A change of the model's attention: the intervention of Part III.
    watched : sequence of torch.nn.Module
        Modules whose outputs' signs at the prompt's last token are recorded, such as the gates of the MLPs.
    rules : sequence of str
        Names in :data:`geolib.dimension.RULES`; by default all of them.
    """

    model: Any
    eps: Sequence[float]
    change: Change = field(default_factory=Change)
    watched: Sequence[torch.nn.Module] = ()
    rules: Sequence[str] = field(default_factory=lambda: tuple(RULES))
    _shared: list[int] = field(default_factory=list)  # the tokens whose keys and values are shared
    _layers: dict = field(default_factory=dict)  # by module, in the order of the forward pass
    _written: int = 0  # number of columns of the rows' own tokens that have been read
    _new: int = 0  # number of columns of the current pass
    _padding: Any = None  # shape=[batch]: number of padded columns on the left
    _rows: slice = field(default_factory=lambda: slice(None))  # rows of the batch in the current pass
    _hidden: dict = field(default_factory=dict)  # masks of the current pass, by sliding window
    _answering: bool = False  # whether the current pass reads a token of an answer
    _noise: dict = field(default_factory=dict)  # draws of each head, by layer
    _measured: list | None = None  # per layer, while the last piece of the prompts is read
    _followed: float = 0  # length in tokens up to which `check` has passed

    def __post_init__(self):
        check_model("Sweep", self.model)
        config = self.model.config.get_text_config()
        if not self.model.can_generate():
            raise self._refusal("is no causal language model with a head")
        if not self.model._can_set_attn_implementation() or not hasattr(config, "num_hidden_layers"):
            raise self._refusal(NOT_ROUTED)
        if any("Linear" in type(layer).__name__ for layer in DynamicCache(config=config).layers):
            raise self._refusal("keeps more of what it has read than keys and values")

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
        """Answer every prompt ``before + rest``, greedily or as ``choose`` selects.

        Parameters
        ----------
        before : sequence of int
            Token ids that all prompts begin with; may be empty.
        rests : sequence of sequences of int
            Token ids that follow in each prompt, at least one.
        max_new_tokens : int
            Largest number of tokens of an answer.
        ends : sequence of int
            Tokens that end an answer.
        choose : callable, optional
            Takes logits, ``shape=[rows, vocabulary]``, and the indices of the rows; returns a token for each.
        stop : callable, optional
            Takes the tokens of an answer so far; returns whether the answer ends here without an end token.

        Returns
        -------
        list of Answer

        Raises
        ------
        RefusedError
            The model's attention is unsupported; the message gives the reason. A ValueError.
        ValueError
            The model gives NaN.
        """
        with self._reading(before, max(rests, key=len), max_new_tokens):
            return self._answer(rests, max_new_tokens, set(ends), choose, stop)

    @torch.no_grad()
    def score(
        self, before: Sequence[int], rests: Sequence[Sequence[int]], replies: Sequence[Sequence[Sequence[int]]]
    ) -> list[np.ndarray]:
        """Log-probability of each of a prompt's replies, whose prompt is read once.

        Parameters
        ----------
        before, rests : sequences of int
            As for :meth:`answer`.
        replies : sequence of sequences of sequences of int
            Token ids of the replies to each prompt.

        Returns
        -------
        list of float array, shape=[replies]
            In nats, one array for each prompt.

        Raises
        ------
        RefusedError
            As :meth:`answer`.
        """
        said = [list(reply) for some in replies for reply in some]
        owners = [row for row, some in enumerate(replies) for _ in some]
        with self._reading(before, max(rests, key=len), max(map(len, said))):
            logits, _ = self._read_all(rests, max(map(len, said)))
            self._keep(owners)
            logits, scores = logits[owners], torch.zeros(len(said), dtype=torch.float64)
            for place in range(max(map(len, said))):
                # A reply that is over is continued by anything, and nothing of that is counted.
                tokens = torch.tensor([reply[min(place, len(reply) - 1)] for reply in said], device=logits.device)
                found = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0].double().cpu()
                scores += torch.where(torch.tensor([place < len(reply) for reply in said]), found, 0)
                logits = self._pass(tokens[:, None])
        return [one.numpy() for one in scores.split(list(map(len, replies)))]

    @contextlib.contextmanager
    def _reading(self, before, longest, room):
        """Route the model's attention through this object, with the beginning `before` read."""
        if self._followed < len(before) + len(longest) + room:
            self.check([*before, *longest], room)
        token = _RUNNING.set(self)
        try:
            with attending(self.model, _NAME, _shared_attention, _no_mask):
                self._read_shared(list(before))
                yield
        except UncountableError as error:
            raise self._refusal(str(error)) from None
        except BaseException:
            self._shared, self._layers = [], {}  # the pass may have stopped anywhere
            raise
        finally:
            _RUNNING.reset(token)

    def check(self, prompt: Sequence[int], max_new_tokens: int = 0) -> None:
        """Compare logits and visible tokens with those of the model's own attention, after a prompt and an answer.

        The length of the answer matters: chunks, windows and stretched positions may begin in it. The tokens of the
        prompt, repeated, take the place of an answer.

        Parameters
        ----------
        prompt : sequence of int
            Token ids.
        max_new_tokens : int
            Length of the answer.

        Raises
        ------
        RefusedError
            They differ, or the model gives NaN.
        """
        window: Any = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or math.inf
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

        def choose(logits, _):
            said.append(logits)
            return logits.argmax(-1)

        (answer,) = plain.answer(text[:split], [text[split:]], max_new_tokens=1, ends=(), choose=choose)
        kind = device_of(self.model).type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.model.dtype
        if not expected.isfinite().all():
            raise RefusedError("Sweep: model gives NaN or infinite logits, but finite ones were expected")
        difference = (said[0] - expected).abs().max() / expected.abs().max()
        if (answer.visible != visible).any() or not difference <= _TOLERANCE.get(dtype, _COARSE):
            raise self._refusal(
                f"attends in a way that is not supported here after {len(text)} tokens (logits differ by "
                f"{difference:.1e})"
            )
        self._followed = length

    def _refusal(self, reason: str) -> RefusedError:
        return RefusedError(
            f"Sweep: model is a {type(self.model).__name__}, which {reason}; "
            "expected one plain softmax per head, through the attention interface"
        )

    # What is shared

    def _read_shared(self, before):
        """Store the keys and values of `before`, keeping those of the tokens that it shares with the last beginning.

        Steps begin at multiples of `_STEP`, and a step that was not full is read again: then a token's keys are the
        same bit by bit, whatever was shared before.
        """
        if before == self._shared:
            return
        same = next((i for i, (a, b) in enumerate(zip(self._shared, before, strict=False)) if a != b), None)
        same = min(len(self._shared), len(before)) if same is None else same
        same -= same % _STEP
        for layer in self._layers.values():
            layer.shared = [one[:, :same] for one in layer.shared]
        self._shared = self._shared[:same]
        for start in range(same, len(before), _STEP):
            piece = before[start : start + _STEP]
            self._start([piece], room=len(piece))
            self._pass(torch.tensor([piece], device=device_of(self.model)))
            for layer in self._layers.values():
                pairs = zip(layer.shared, layer.own, strict=True)
                layer.shared = [torch.cat([known, own[:, 0]], dim=1) for known, own in pairs]
            self._shared += piece

    def _start(self, rests, room):
        """Begin a batch: compute its padding, and drop the own keys and values of the last batch."""
        length, self._answering = max(map(len, rests)), False
        self._padding = torch.tensor([length - len(rest) for rest in rests], device=device_of(self.model))
        self._written, self._room, self._answering = 0, room, False
        for layer in self._layers.values():
            layer.own = []

    # The forward pass

    def _pass(self, ids, rows=slice(None)):
        """Read new columns of some rows; return the logits after the last one, shape=[rows, vocabulary]."""
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
        """Attention output of the new columns, shape=[batch, queries, heads, value_dim]."""
        index, self._order = self._order, self._order + 1
        kv_heads, (batch, heads, n_new, size) = key.shape[1], query.shape
        new = [one.float().transpose(0, 1) for one in (key, value)]
        shared_key, shared_value, own_key, own_value = self._remember(module, new)
        n_own, n_shared = self._written + n_new, shared_key.shape[1]
        scaling = size**-0.5 if scaling is None else scaling
        scaling, changed = self._scaling(index, scaling, n_new, heads)
        noise = self._draws(index, heads) if changed and self.change.noise else None
        # Key-value heads come first, so that one product per head serves the queries of the whole batch.
        folded = (query.float() * scaling).unflatten(1, (kv_heads, -1)).transpose(0, 1)
        output = query.new_empty(batch, n_new, heads, value.shape[-1], dtype=torch.float32)
        at_once = max(1, _BLOCK // (heads * n_new * (n_shared + n_own)))
        measured, (hides_own, hides_shared) = [], self._hides(window, n_own, n_shared)
        for start in range(0, batch, at_once):
            part = slice(start, min(start + at_once, batch))
            q, n_rows = folded[:, part].flatten(1, 3), part.stop - start
            shape = (kv_heads, n_rows, heads // kv_heads, n_new)
            own_keys = own_key[:, part].flatten(0, 1).transpose(1, 2)
            own = torch.bmm(folded[:, part].reshape(kv_heads * n_rows, -1, size), own_keys).view(*shape, n_own)
            shared = torch.bmm(q, shared_key.transpose(1, 2)).view(*shape, n_shared) if n_shared else None
            parts = [own] if shared is None else [shared, own]
            if softcap is not None:
                parts = [softcap * (scores / softcap).tanh() for scores in parts]
            if noise is not None:
                for scores, first in zip(parts, [0, n_shared][-len(parts) :], strict=True):
                    self._add_noise(scores, noise, part, first)
            parts[-1].masked_fill_(hides_own[part], -torch.inf)
            if hides_shared is not None:
                parts[0].masked_fill_(hides_shared[part], -torch.inf)
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
                mixed = mixed + torch.bmm(parts[0].view(kv_heads, -1, n_shared), shared_value).view(*shape, -1)
            output[part] = (mixed / total).permute(1, 3, 0, 2, 4).flatten(2, 3)
            if self._measured is not None:
                last = torch.cat([scores[..., -1, :] for scores in parts], dim=-1) / total[..., -1, :]
                hidden = hides_own[part, 0, -1].sum(-1)
                if hides_shared is not None:
                    hidden = hidden + hides_shared[part, 0, -1].sum(-1)
                measured.append((*self._measure(last, part), n_own + n_shared - hidden))
        if self._measured is not None:
            self._measured.append([torch.cat(one, dim=-1) for one in zip(*measured, strict=True)])
        if changed:
            output[:, -1 if self.change.during == "last token" else slice(None)] *= self.change.output
        return output.to(query.dtype)

    def _scaling(self, layer: int, scaling: float, n_new: int, heads: int) -> tuple[Any, bool]:
        """Return the scaling of the queries, shape=[heads or 1, new or 1, 1] or a number, and whether it is changed."""
        factor, during = self.change.sharpness.get(layer, 1.0), self.change.during
        reads_last = during == "last token" and self._measured is not None
        if not reads_last and during not in ("all", "answer" if self._answering else "prompt"):
            return scaling, False
        if not isinstance(factor, float | int):
            if len(factor) != heads:
                raise UncountableError(f"has {heads} heads in layer {layer + 1}, but {len(factor)} factors were given")
            factor = torch.tensor(factor, dtype=torch.float64, device=self._padding.device)[:, None, None]
        scaled = scaling * factor
        if reads_last:
            last = torch.arange(n_new, device=self._padding.device)[:, None] == n_new - 1
            scaled = torch.where(last, scaled, scaling)
        return scaled.float() if isinstance(scaled, torch.Tensor) else scaled, True

    def _draws(self, layer, heads):
        """Draw the noise of a layer's heads once, shape=[heads, draws]."""
        if layer not in self._noise:
            draws = np.random.default_rng(layer).standard_normal((heads, _NOISE), dtype=np.float32)
            self._noise[layer] = torch.from_numpy(self.change.noise * draws).to(self._padding.device)
        return self._noise[layer]

    def _add_noise(self, scores, noise, part, first):
        """Add to scores, shape=[key-value heads, batch, heads of each, new, columns], the noise of their positions."""
        rows, n_columns = self._positions[part], scores.shape[-1]
        seen = torch.arange(n_columns, device=rows.device)
        if first == len(self._shared):  # the rows' own columns, whose positions count from the padding's end
            seen = first + seen - self._padding[self._rows][part, None]
        if self.change.during == "last token":
            scores, rows = scores[..., -1:, :], rows[:, -1:]
        place = (rows[..., None] * _STRIDE + seen.expand(len(rows), n_columns)[:, None]) % _NOISE
        scores += noise[:, place].unflatten(0, (len(scores), -1)).transpose(1, 2)

    def _remember(self, module: Any, new: list[torch.Tensor]) -> list[torch.Tensor]:
        """Store new columns' keys and values, shape=[key-value heads, batch, new, head_dim]; return all that there are.

        Keys and values that are shared, then the own ones of the current rows up to the new columns.
        """
        if module not in self._layers:
            if self._shared:
                raise UncountableError("changes the order of its layers from pass to pass")
            self._layers[module] = _Layer([one.new_empty(len(one), 0, one.shape[3]) for one in new], [])
        layer = self._layers[module]
        layer.own = layer.own or [one.new_empty(len(one), len(self._padding), self._room, one.shape[3]) for one in new]
        now = self._written + self._new
        for own, one in zip(layer.own, new, strict=True):
            own[:, self._rows, self._written : now] = one
        return [*layer.shared, *(own[:, self._rows, :now] for own in layer.own)]

    def _hides(self, window, n_own, n_shared):
        """Mask what is hidden from a row's new columns: of its own columns, and of the shared ones (None if nothing).

        Both have shape=[batch, 1, new, columns].
        """
        if window not in self._hidden:
            column, token = (torch.arange(n, device=self._padding.device) for n in (n_own, n_shared))
            new, padding = column[self._written :, None], self._padding[self._rows, None, None]
            hidden = column > new
            if window is not None:
                hidden = hidden | (new - column >= window)
            # Only padding sees padding. It must see something, or the softmax over an empty set would be NaN.
            hidden = hidden | ((column < padding) & (new >= padding))
            before = self._positions[..., None] - token >= window if window is not None and n_shared else None
            self._hidden[window] = hidden[:, None], None if before is None else before[:, None]
        return self._hidden[window]

    def _measure(self, weights, part):
        """ID and statistics of each head, and number of weights near a threshold, of weights of the last token.

        `weights` has shape=[key-value heads, batch, query heads of each, tokens]; the results have shape=[..., batch].
        """
        if weights.isnan().any():
            raise ValueError(
                f"Sweep: model gives NaN in layer {len(self._measured) + 1}, but attention weights were expected"
            )
        weights = weights.transpose(0, 1).flatten(1, 2)  # [batch, heads, tokens]
        below, counts, above = (
            count_weights(weights, [max(0, eps + shift) for eps in self.eps], self.rules)
            for shift in (-_NEAR, 0, _NEAR)
        )  # [rules, eps, batch, heads]
        padding = self._padding[self._rows][part]
        first = torch.zeros_like(padding) if self._shared else padding
        heads = row_statistics(weights[:, :, None], first, (), ())
        kept = [counts, *(heads[name][..., 0] for name in ("sink_share", "entropy", "renyi2"))]
        return *(one.transpose(-1, -2) for one in kept), (below - above).sum((0, 1, 3))

    # Answers

    def _read_all(self, rests, max_new_tokens):
        """Read the prompts; return the logits after each, shape=[prompts, vocabulary], and the measurements there."""
        length = max(map(len, rests))
        self._start(rests, room=length + max_new_tokens)
        pad = min(map(min, rests))
        ids = torch.tensor([[pad] * (length - len(rest)) + list(rest) for rest in rests], device=device_of(self.model))
        measured, logits = [], []
        at_once = max(1, _PIECE // length)
        for start in range(0, len(rests), at_once):
            read, found = self._read(ids[start : start + at_once], slice(start, start + at_once))
            logits.append(read)
            measured += found
        self._answering = True
        return torch.cat(logits), measured

    def _answer(self, rests, max_new_tokens, ends, choose, stop):
        logits, measured = self._read_all(rests, max_new_tokens)
        answers, rows = [Answer([], False, *row) for row in measured], list(range(len(rests)))
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
            # Finished rows are kept until dropping them saves more time than the copy takes.
            if len(going) < 0.8 * len(rows):
                rows, chosen = [rows[place] for place in going], chosen[going]
                self._keep(going)
            logits = self._pass(chosen[:, None])
        return answers

    def _read(self, ids, rows):
        """Read the prompts of some rows; return the logits after them, and the measurements there."""
        self._written = 0
        pieces = ids.split(_PIECE, dim=1)
        for piece in pieces[:-1]:
            self._pass(piece, rows)
        self._measured = []
        with _listening(self.watched) as heard:
            logits = self._pass(pieces[-1], rows)
        signs = np.packbits(np.concatenate(heard, axis=1), axis=1) if heard else np.zeros((len(ids), 0), np.uint8)
        measured, self._measured = self._measured, None
        layers = [[one.cpu().numpy() for one in layer] for layer in measured]
        *heads, near, seen = zip(*layers, strict=True)
        # Of each layer the sum, or the mean, over its heads; and all heads of all layers, one after the other.
        counts = np.stack([one.sum(-2) for one in heads[0]], axis=-2)
        sinks = np.stack([one.mean(0) for one in heads[1]])
        kept = [counts, sinks, *(np.concatenate(one, axis=-2) for one in (heads[0], *heads[2:]))]
        kept = [np.moveaxis(one, -1, 0) for one in (*kept, np.stack(seen))]
        return logits, zip(*kept[:-1], np.sum(near, axis=0).tolist(), signs, kept[-1], strict=True)

    def _keep(self, places):
        """Keep only the rows at these places; the others are finished."""
        places = torch.tensor(places, device=self._padding.device)
        self._padding = self._padding[places]
        for layer in self._layers.values():
            layer.own = [one[:, places] for one in layer.own]


@contextlib.contextmanager
def _listening(modules):
    """Yield a list that takes the signs of the modules' outputs at the last column, shape=[batch, outputs] each."""
    heard = []

    def hear(module, inputs, output):
        if not isinstance(output, torch.Tensor):
            raise RefusedError(
                f"Sweep: watched holds a {type(module).__name__}, but a module whose output is a tensor was expected"
            )
        if _RUNNING.get() is not None:  # else another thread is calling the model
            heard.append((output[:, -1] > 0).cpu().numpy())

    hooks = [module.register_forward_hook(hear) for module in modules]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


_RUNNING: contextvars.ContextVar[SharedPrefix | None] = contextvars.ContextVar("geolib_shared", default=None)


def _no_mask(*args, **kwargs):
    """Return no mask: `_attend` makes its own, because transformers does not know the shared columns."""
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
    """Return a function that draws tokens at random, each row from its own generator, whatever its batch.

    The argmax of logits / temperature plus Gumbel noise is a draw from the softmax of logits / temperature.

    Parameters
    ----------
    temperature : float
        Above 0.
    seeds : sequence of str
        One for each row.

    Returns
    -------
    callable
        The ``choose`` of :meth:`SharedPrefix.answer`.
    """
    generators = [
        torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) >> 1) for seed in seeds
    ]

    def choose(logits, rows):
        noise = torch.stack([torch.empty(logits.shape[1]).exponential_(generator=generators[row]) for row in rows])
        scaled = logits / temperature
        if scaled.isinf().any():  # the temperature is so close to 0 that only the largest is drawn
            return logits.argmax(-1)
        return (scaled - noise.to(logits.device).log()).argmax(-1)

    return choose
