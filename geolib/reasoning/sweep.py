"""Sweeps over questions and conditions: ask, measure and judge, and keep every finished batch."""

import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from geolib.checks import above_zero, flag, integer, integers, one_line
from geolib.dimension.architectures import check_model, layer_count
from geolib.dimension.batches import changed_rules
from geolib.dimension.lm import check_fit
from geolib.dimension.rules import RULES, SHIPPED, check_eps
from geolib.dimension.texts import text_ids
from geolib.fingerprint import check_storable, fingerprint
from geolib.reasoning.answers import Answerer, Settings, ends, room, stops
from geolib.reasoning.decode import Change, RefusedError
from geolib.reasoning.prompts import Condition, frame_and_place, slot_ids
from geolib.reasoning.questions import Question
from geolib.reasoning.reading import frozen_judge, judge
from geolib.store import check_folder, run_in_parts
from geolib.typing import Engine, Model, Tokenizer

logger = logging.getLogger(__name__)

_MEASURE = 4  # part of each row's key: raise it when the meaning or the making of a row changes
_PLAIN = ("\n\n", "\nQuestion:")  # texts that ended answers in plain text when the first rows were kept
_MOST_ROWS = {"cpu": 256}  # rows of a batch: each batch waits for its longest answer, so few large batches are best


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The few-shot experiment: every question under every condition.

    Section 3 of arXiv 2407.02678: k fixed examples are put before a question, the model answers greedily, and
    ID_eps is measured at the last token of the prompt, at every layer, in the same pass that reads the prompt. The
    beginning that the prompts of a condition share is read once (:mod:`geolib.reasoning.decode`).

    Parameters
    ----------
    model, tokenizer
        As :func:`geolib.models.load` returns them.
    questions : sequence of Question
        Questions to ask.
    examples : sequence of Question
        Shown in this order; a k-shot prompt shows the first k. They must not be among the questions.
    shots : sequence of int
        Numbers of examples.
    conditions : sequence of Condition, optional
        Conditions in place of ``examples`` and ``shots``, for other surroundings of a question.
    paired : bool
        Whether the i-th condition is for the i-th question only; otherwise each condition is for all questions.
    only_wrong : bool
        Step 1 of the paper's protocol: ask all questions without examples, and continue with those answered wrong. Then
        ``shots`` must include 0, or ``conditions`` one without examples, lead and hint.
    eps : float or sequence of float
        Threshold(s) in (0, 1); every one of :data:`geolib.dimension.RULES` is recorded.
    max_new_tokens : int
        Length of the longest answer; ``truncated`` marks rows whose answer was cut off. An answer ends at an end token
        of model or tokenizer, at a stop string of the model's generation configuration, or, if the tokenizer has no
        chat template, at an empty line or the next question.
    temperature : float
        0 decodes greedily; above 0, tokens are drawn at random.
    seed : int
        Seed of the draws. Each row has its own generator, made of the seed and the prompt, whatever its batch.
    sharpness : mapping of int to float, optional
        Factor of the attention scores for each layer, from 0: an intervention on ID with the prompt held fixed.
    change : Change, optional
        An intervention of another kind, in place of ``sharpness``: noise, controls of equal size, or some passes only.
    watched : sequence of str
        Names of modules whose outputs' signs at the prompt's last token are recorded, such as the MLPs' gates.
    batch_size : int, optional
        Number of prompts answered together; by default as many as fit into an eighth of the memory.
    store : path, optional
        Folder of finished batches (Parquet). A run over the same store continues where the last one stopped, and
        computes nothing twice; several processes may share it. A row's key covers everything that changes the function
        that the model computes (:mod:`geolib.fingerprint`); a model with hooks, which no key can cover, is
        refused. Tokenizers that make the same tokens of a prompt, and end answers in the same way, count as equal.
    engine : Engine, optional
        What answers: a :class:`~geolib.experiments.cluster.Cluster` answers with its workers; by default ``model``.
    progress : bool
        Whether to show a progress bar.
    """

    model: Model
    tokenizer: Tokenizer
    questions: Sequence[Question]
    examples: Sequence[Question] = ()
    shots: Sequence[int] = (0, 1, 3, 5)
    conditions: Sequence[Condition] = ()
    paired: bool = False
    only_wrong: bool = False
    eps: float | Sequence[float] = (0.1, 0.05, 0.01)
    max_new_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    sharpness: Mapping[int, float] | None = None
    change: Change | None = None
    watched: Sequence[str] = ()
    batch_size: int | None = None
    store: str | os.PathLike | None = None
    engine: Engine | None = None
    progress: bool = True

    def __post_init__(self):
        kinds = {"questions": Question, "examples": Question, "conditions": Condition, "shots": object, "watched": str}
        for name, kind in kinds.items():
            object.__setattr__(self, name, _several(f"Sweep: {name}", getattr(self, name), kind))
        for name in ("paired", "only_wrong"):
            flag(f"Sweep: {name}", getattr(self, name))
        if len(self.questions) == 0:
            raise ValueError("Sweep: questions is empty, but at least one was expected")
        if self.conditions:
            self._check_conditions()
        else:
            self._check_shots()
        if self.paired and (self.only_wrong or len(self.conditions) != len(self.questions)):
            raise ValueError(
                f"Sweep: paired is True with {len(self.conditions)} conditions, {len(self.questions)} questions and "
                f"only_wrong {self.only_wrong}, but one condition for each question, and False, were expected"
            )
        integer("Sweep: max_new_tokens", self.max_new_tokens, 1)
        check_folder("Sweep: store", self.store)
        if self.batch_size is not None:
            integer("Sweep: batch_size", self.batch_size, 1)
        if self.engine is not None and not callable(getattr(self.engine, "submit", None)):
            raise TypeError(f"Sweep: engine is {one_line(self.engine)}, but a Cluster was expected")
        object.__setattr__(self, "temperature", _number("Sweep: temperature", self.temperature, zero=True))
        object.__setattr__(self, "seed", integer("Sweep: seed", self.seed, -math.inf))
        check_eps("Sweep", self.eps, distinct=True)
        self._check_sharpness()
        _distinct("Sweep: examples", "text", [example.text for example in self.examples])
        _distinct("Sweep: questions", "index", [question.index for question in self.questions])
        if self.only_wrong and Condition() not in self._conditions:
            raise ValueError(
                "Sweep: only_wrong is True, but 0 among shots, or Condition() among conditions, was expected with it"
            )
        shown = {example.text for condition in self._conditions for example in condition.examples}
        both = {question.text for question in self.questions} & shown
        if both:
            raise ValueError(f"Sweep: examples has {len(both)} of the questions, but none was expected")

    def _check_sharpness(self):
        if not isinstance(self.sharpness, Mapping | None):
            raise TypeError(f"Sweep: sharpness is {one_line(self.sharpness)}, but factors by layer were expected")
        factors = {}
        for layer, factor in (self.sharpness or {}).items():
            number = _number(f"Sweep: sharpness of layer {layer}", factor)
            last = layer_count("Sweep", self.model) - 1
            factors[integer("Sweep: layer of sharpness", layer, 0, last)] = number
        if len(factors) < len(self.sharpness or {}):
            raise ValueError(f"Sweep: sharpness is {one_line(self.sharpness)}, but each layer once was expected")
        object.__setattr__(self, "sharpness", factors or None)
        if not isinstance(self.change, Change | None):
            raise TypeError(f"Sweep: change is {one_line(self.change)}, but a Change was expected")
        if self.change and self.sharpness:
            raise ValueError("Sweep: sharpness and change are both given, but one was expected")

    def _check_shots(self):
        integers("Sweep: shots", self.shots, 0)
        if max(self.shots) > len(self.examples):
            given, most = max(self.shots), len(self.examples)
            raise ValueError(
                f"Sweep: shots has {one_line(given)}, but at most {most}, as many as examples, was expected"
            )
        _distinct("Sweep: shots", "number", self.shots)

    def _check_conditions(self):
        if self.examples:
            raise ValueError("Sweep: conditions and examples are both given, but one of them was expected")
        labels = [(c.name, c.example_set, c.shots, c.seed) for c in self.conditions]
        if not self.paired:  # then each is a question's own, and questions may share theirs
            _distinct("Sweep: conditions", "name, example set, shots and seed", labels)

    @property
    def _conditions(self) -> list[Condition]:
        if self.conditions:
            return list(self.conditions)
        return [Condition(examples=tuple(self.examples[:k])) for k in sorted(self.shots)]

    def run(self) -> pd.DataFrame:
        """Answer the prompts that are not in the store yet, and return one row for each question and condition.

        Returns
        -------
        pandas.DataFrame
            ``question`` (index), ``condition`` (its name), ``example_set``, ``shots``, ``prompt_tokens``,
            ``id_<rule>_<eps>`` (array, shape=[layers]: ID at the last prompt token, summed over heads),
            ``heads_<rule>_<eps>`` (array, shape=[all heads], layer by layer: the same of each head), ``entropy`` and
            ``renyi2`` (the same shape: Shannon's and Rényi's entropy of each head there, in nats), ``sink_share``
            (array, shape=[layers]: weight on the first token, mean over heads), ``near`` (number of weights within 1e-6
            of a threshold, over all layers, heads, thresholds and rules: with other numbers of threads, or other
            batches, their count may differ), ``signs`` (packed bits, if modules are watched), ``response``,
            ``new_tokens``, ``truncated``, ``seconds`` (of the batch, divided by its rows), ``expected``, the judge's
            ``correct``, ``redundant`` (as without the question: a weak model miscopies numbers), ``kind``, and
            ``computed`` (redundant with the question: a number that is not in it counts too); and those of the first
            plan's judge: ``frozen`` (correct), ``frozen_redundant`` and ``strict`` (correct under its strict reading
            too). Prompts that do not fit into the model's window are left out: ``.attrs["skipped"]`` lists them. So are
            prompts on which the model fails repeatedly: ``.attrs["failed"]`` lists them, with the error.

        Raises
        ------
        ValueError
            No prompt fits, or the model's attention is unsupported; the message gives the reason.
        Exception
            The error of the model, if it fails on many prompts in a row, or on all.
        """
        check_model("Sweep", self.model)
        if not hasattr(self.tokenizer, "convert_ids_to_tokens"):
            raise TypeError(f"Sweep: tokenizer is {one_line(self.tokenizer)}, but a tokenizer was expected")
        if self.store is not None or self.engine:
            check_storable("Sweep", self.model)
        model_hash = fingerprint(self.model)
        bare = [condition for condition in self._conditions if self.only_wrong and condition == Condition()]
        rest = [condition for condition in self._conditions if condition not in bare]
        frames, questions, skipped, failed = [], self.questions, [], []
        for group in filter(None, (bare, rest)):
            asked = [[question] for question in questions] if self.paired else [questions] * len(group)
            pairs = zip(group, asked, strict=True)
            prompts = [p for condition, some in pairs for p in self._prompts(condition, some, model_hash, skipped)]
            if prompts:
                frames.append(self._answer(prompts, model_hash, failed))
            if group is bare and frames:
                wrong = set(frames[0].question[~frames[0].correct])
                questions = [question for question in questions if question.index in wrong]
        if not frames:
            window = self.model.config.get_text_config().max_position_embeddings
            shortest = min(prompt["prompt_tokens"] for prompt in skipped)
            raise ValueError(
                f"Sweep: none of {len(skipped)} prompts fits into the model's window: the shortest is {shortest} "
                f"tokens and max_new_tokens is {self.max_new_tokens}, but at most {window} in total was expected"
            )
        if skipped:
            logger.warning("%d prompts do not fit into the model's window and are left out", len(skipped))
        if failed:
            logger.warning("%d prompts failed repeatedly and are left out: %s", len(failed), failed[0]["error"])
        rows = pd.concat(frames, ignore_index=True)
        rows.attrs |= {"skipped": skipped, "failed": failed}
        return rows

    @property
    def _thresholds(self) -> list[float]:
        return list(check_eps("Sweep", self.eps))

    @property
    def _endings(self) -> dict[str, Any]:
        """Tokens that end an answer, and texts that do."""
        config = getattr(self.model, "generation_config", None)
        return {"ends": ends(config, self.tokenizer), "stops": stops(config, self.tokenizer)}

    def _prompts(self, condition: Condition, questions: Sequence, model_hash: str, skipped: list) -> list[dict]:
        """Prompt of every question with its key: a hash of everything that determines its row."""
        window = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or math.inf
        (before, after), place = frame_and_place(self.tokenizer, condition)
        about = {"condition": condition.name, "example_set": condition.example_set, "shots": condition.shots}
        prompts = []
        for question in questions:
            rest = [*slot_ids(self.tokenizer, question.text, place), *after]
            length = len(before) + len(rest)
            if length + self.max_new_tokens > window:
                skipped.append({"question": question.index, **about, "prompt_tokens": length})
                continue
            check_fit(f"Sweep: prompt of question {question.index}", self.model, np.array([*before, *rest]))
            key = self._key(model_hash, [*before, *rest])
            prompts.append({"key": key, "question": question, "about": about, "before": before, "rest": rest})
        return prompts

    def _key(self, model_hash: str, ids: list[int]) -> str:
        settings = [_MEASURE, model_hash, ids, self._thresholds, self.max_new_tokens]
        # Settings that are not used are left out, so that the keys of rows do not depend on them.
        if self.temperature:
            settings.append({"temperature": self.temperature, "seed": self.seed, "drawn": "by prompt"})
        if self.sharpness:
            settings.append({"sharpness": sorted(self.sharpness.items())})
        if self.change:
            settings.append({"change": asdict(self.change) | {"sharpness": sorted(self.change.sharpness.items())}})
        if self.watched:
            settings.append({"watched": list(self.watched)})
        changed = changed_rules("Sweep", list(RULES), stored=self.store is not None)
        if changed or len(RULES) < len(SHIPPED):
            settings.append({"rules": {name: changed.get(name) for name in sorted(RULES)}})
        # The end tokens of the configuration are already in the model's hash.
        own_ends, own_stops = self._endings.values()
        if own_ends != ends(self.model.config.get_text_config()):
            settings.append({"ends": own_ends})
        # The stop texts that belong to the form of the prompt (turns or plain text) follow from its tokens.
        (plain,) = text_ids("frame", self.tokenizer, ["\nAnswer:"])
        if own_stops != (_PLAIN if ids[-len(plain) :] == plain else ()):
            settings.append({"stops": own_stops})
        return hashlib.sha256(json.dumps(settings, default=lambda number: number.item()).encode()).hexdigest()

    def _answer(self, prompts: list[dict], model_hash: str, failed: list[dict]) -> pd.DataFrame:
        """Rows of the prompts, in the order of the prompts, from the store or the model."""
        longest = max(prompts, key=lambda prompt: len(prompt["before"]) + len(prompt["rest"]))
        same = ("max_new_tokens", "temperature", "seed", "watched")
        given = {name: getattr(self, name) for name in same} | self._endings
        given["change"] = self.change or Change(sharpness=self.sharpness or {})
        probe = (*longest["before"], *longest["rest"])
        settings = Settings(eps=self._thresholds, model_sha256=model_hash, probe=probe, **given)
        answer, errors = Answerer(self.model, self.tokenizer, settings), {}
        known = run_in_parts(
            list(self._batches(prompts)),
            partial(self.engine.submit, settings) if self.engine else answer,
            folder=self.store,
            progress=self.progress,
            label="answers",
            at_once=self.engine.at_once if self.engine else 1,
            failed=errors,
            fatal=RefusedError,
        )
        for prompt in [prompt for prompt in prompts if prompt["key"] in errors]:
            failed.append({"question": prompt["question"].index, **prompt["about"], "error": errors[prompt["key"]]})
        prompts = [prompt for prompt in prompts if prompt["key"] in known]
        rows = []
        for prompt in prompts:
            question, row = prompt["question"], known[prompt["key"]]
            answer, response = question.answer, row["response"]
            read = judge(response, answer, question=question, truncated=row["truncated"])
            # A weak model miscopies numbers, which are then in no question, and yet calculates nothing.
            told = judge(response, answer, truncated=row["truncated"]).redundant
            kind = read.kind if not read.correct else "reasoning" if told else "extraction"
            plain, strict = (frozen_judge(response, answer, strict=strict) for strict in (False, True))
            rows.append(
                {"question": question.index, **prompt["about"], "expected": answer, **row}
                | {"correct": read.correct, "redundant": told, "kind": kind, "computed": read.redundant}
                | {"frozen": plain.correct, "frozen_redundant": plain.redundant, "strict": strict.correct}
            )
        return pd.DataFrame(rows).drop(columns="key")

    def _batches(self, prompts):
        """Batches of prompts with the same beginning and similar lengths, so that little is padded.

        Batches do not depend on the contents of the store: a resumed run computes the same ones as an undisturbed run.
        """
        groups = {}
        for prompt in {prompt["key"]: prompt for prompt in prompts}.values():  # the same text may be there twice
            groups.setdefault(prompt["before"], []).append(prompt)
        for group in groups.values():
            group.sort(key=lambda prompt: (len(prompt["rest"]), prompt["key"]))
            size = self.batch_size or self._rows_that_fit(max(len(prompt["rest"]) for prompt in group))
            # Batches have about equal sizes: 65 prompts are split into 33 and 32, not 64 and 1.
            for part in np.array_split(np.arange(len(group)), math.ceil(len(group) / size)):
                yield [group[i] for i in part]

    def _rows_that_fit(self, length: int) -> int:
        """Batch size whose key-value cache and widest activation fit in an eighth of memory.

        The cache is counted twice, because it is held twice while finished rows are dropped.
        """
        config = self.model.config.get_text_config()
        device, memory = self.engine.room() if self.engine else room(self.model)
        queries = np.max(getattr(config, "num_attention_heads", 1))
        heads = np.max(getattr(config, "num_key_value_heads", None) or queries)
        size = getattr(config, "head_dim", None) or config.hidden_size // queries
        kept = 2 * 2 * config.num_hidden_layers * heads * size * (length + self.max_new_tokens)
        widest = length * (16 * config.hidden_size) + 3 * config.vocab_size
        return max(1, min(_MOST_ROWS.get(device, 512), memory // 8 // (4 * (kept + widest))))


def _several(name: str, values: Any, kind: type) -> tuple:
    """Return the values of a sequence as a tuple, if all are of one type; `name` prefixes the message."""
    if isinstance(values, str | Mapping) or not np.iterable(values):
        raise TypeError(f"{name} is {one_line(values)}, but a sequence was expected")
    values = tuple(values)
    if wrong := [type(value).__name__ for value in values if not isinstance(value, kind)]:
        raise TypeError(f"{name} holds a {wrong[0]}, but {kind.__name__}s were expected")
    return values


def _distinct(name: str, what: str, keys: Sequence) -> None:
    if len(set(keys)) < len(keys):
        raise ValueError(f"{name} holds the same {what} twice, but distinct ones were expected")


def _number(name: str, value: Any, *, zero: bool = False) -> int | float:
    """Return a number above 0, or with `zero` at least 0, as an int or a float; `name` prefixes the message."""
    number = above_zero(name, value, zero=zero)
    return value if type(value) is int else float(number)
