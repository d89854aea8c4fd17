"""From prompts to rows: a model answers a batch; its answers and the measurements become the rows of a sweep."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import torch

from geolib.dimension.lm import device_of
from geolib.dimension.rules import RULES, check_rule, column
from geolib.reasoning.decode import Answer, Change, SharedPrefix, gumbel
from geolib.typing import Model, Tokenizer

_STOPS = ("\n\n", "\nQuestion:")  # an answer in plain text ends here, though the model may continue


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How prompts are answered: everything that a worker needs besides the model.

    Attributes
    ----------
    eps, max_new_tokens, temperature, seed, change, watched
        As for :class:`~geolib.reasoning.Sweep`.
    ends : sequence of int
        Tokens that end an answer, of :func:`ends`.
    stops : sequence of str
        Texts that end an answer, of :func:`stops`.
    model_sha256 : str
        :func:`geolib.fingerprint.fingerprint` of the model that is expected.
    probe : tuple of int
        Token ids of a long prompt, on which the measurement is first compared with the model's own attention.
    rules : tuple of str
        Names in :data:`geolib.dimension.RULES`; a worker must know all of them.
    """

    eps: Sequence[float]
    max_new_tokens: int
    temperature: float
    seed: int
    change: Change
    watched: Sequence[str]
    ends: Sequence[int]
    stops: Sequence[str]
    model_sha256: str
    probe: tuple[int, ...]
    rules: tuple[str, ...] = field(default_factory=lambda: tuple(RULES))


class Answerer:
    """A model that turns batches of prompts into rows.

    Parameters
    ----------
    model, tokenizer
        As :func:`geolib.models.load` returns them.
    settings : Settings
        How to answer.

    Raises
    ------
    ValueError
        The model lacks a module of ``settings.watched``, or a rule is unknown.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, settings: Settings):
        modules = dict(model.named_modules())
        for name in settings.watched:
            if name not in modules:
                raise ValueError(f"Sweep: watched holds {name!r}, but names of the model's modules were expected")
        watched = [modules[name] for name in settings.watched]
        self.tokenizer, self.settings, self._checked = tokenizer, settings, False
        rules = check_rule("Sweep", settings.rules)
        self._engine = SharedPrefix(model, settings.eps, settings.change, watched, rules)

    def __call__(self, batch: Sequence[dict]) -> list[dict]:
        """Answer prompts that share their beginning.

        Parameters
        ----------
        batch : sequence of dict
            Each with its ``"key"``, ``"before"`` (token ids, the same in all) and ``"rest"``.

        Returns
        -------
        list of dict
            One row for each prompt, with its key.

        Raises
        ------
        RefusedError
            The model's attention cannot be followed.
        """
        if not self._checked:
            self._engine.check(list(self.settings.probe), self.settings.max_new_tokens)
            self._checked = True
        start, settings = time.perf_counter(), self.settings
        # Not the keys: what else is measured of a row, or how a model is hashed, must not change its draws.
        seeds = [f"{settings.seed} {[int(i) for part in ('before', 'rest') for i in prompt[part]]}" for prompt in batch]
        answers = self._engine.answer(
            batch[0]["before"],
            [prompt["rest"] for prompt in batch],
            max_new_tokens=settings.max_new_tokens,
            ends=settings.ends,
            choose=gumbel(settings.temperature, seeds) if settings.temperature else None,
            stop=self._stopped if settings.stops else None,
        )
        seconds = (time.perf_counter() - start) / len(batch)
        return [self._row(prompt, answer) | {"seconds": seconds} for prompt, answer in zip(batch, answers, strict=True)]

    def _row(self, prompt: dict, answer: Answer) -> dict:
        row = {
            "key": prompt["key"],
            "prompt_tokens": len(prompt["before"]) + len(prompt["rest"]),
            "response": self._cut(self._text(answer.tokens)),
            "new_tokens": len(answer.tokens),
            "truncated": not answer.ended,
            "seconds": 0.0,
        }
        for r, rule in enumerate(self.settings.rules):
            for e, eps in enumerate(self.settings.eps):
                row[column(rule, eps)] = answer.counts[r, e].astype(np.int32)
                row[column(rule, eps, "heads")] = answer.per_head[r, e].astype(np.uint16)
        heads = {name: getattr(answer, name).astype(np.float16) for name in ("entropy", "renyi2")}
        row |= {"sink_share": answer.sink_share, **heads, "near": answer.near}
        return row | ({"signs": answer.signs} if self.settings.watched else {})

    def _text(self, tokens: Sequence[int]) -> str:
        # A padded vocabulary has ids without a token; slow tokenizers fail on them.
        known = [token for token in tokens if self.tokenizer.convert_ids_to_tokens(token) is not None]
        return self.tokenizer.decode(known, skip_special_tokens=True)

    def _stopped(self, tokens: Sequence[int]) -> bool:
        # The longest stop text has at most one token for each byte. A stop text that begins an answer is ignored.
        stops = self.settings.stops
        end = self._text(tokens[-max(len(stop.encode()) for stop in stops) - 1 :])
        return any(stop in end for stop in stops) and any(stop in self._text(tokens).lstrip() for stop in stops)

    def _cut(self, text: str) -> str:
        text = text.lstrip()
        return text[: min([text.find(stop) for stop in self.settings.stops if stop in text], default=None)].strip()


def ends(config: Any, tokenizer: Tokenizer | None = None) -> list[int]:
    """Tokens that end an answer, from a configuration (one, several, or none) and a tokenizer."""
    eos, other = (getattr(one, "eos_token_id", None) for one in (config, tokenizer))
    return sorted({*np.ravel(np.array(eos)).tolist(), other} - {None})


def stops(config: Any, tokenizer: Tokenizer) -> tuple[str, ...]:
    """Texts that end an answer, from a model's generation configuration and, without a chat template, of plain text."""
    own = getattr(config, "stop_strings", None) or ()
    return (*([own] if isinstance(own, str) else own), *(() if tokenizer.chat_template else _STOPS))


def room(model: Model) -> tuple[str, int]:
    """Type of a model's device, and its memory in bytes."""
    device = device_of(model)
    if device.type == "cuda":
        return "cuda", torch.cuda.mem_get_info(device)[1]
    return device.type, psutil.virtual_memory().total
