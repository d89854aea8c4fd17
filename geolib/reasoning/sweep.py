"""Questions x shots: ask, measure, judge, and keep every finished batch."""

import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
import torch
from transformers import GenerationConfig

from geolib.dimension import measuring
from geolib.parts import fingerprint, run_in_parts
from geolib.reasoning.judge import judge
from geolib.reasoning.prompts import build_prompt
from geolib.reasoning.questions import Question

RULES = ("absolute", "relative")
_MEASURE = 1  # part of every row's key: raise it when what a row means changes


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The few-shot experiment: every question under every number of examples.

    Section 3 of arXiv 2407.02678: k fixed examples are put before a question, the model answers greedily, and
    ID_eps is read at the last token of the prompt, at every layer, in the very pass that reads the prompt.

    Parameters
    ----------
    model, tokenizer
        As :func:`geolib.models.load` returns them.
    questions : sequence of Question
        What to ask.
    examples : sequence of Question
        Shown in this order; a k-shot prompt shows the first k. None may be among the questions.
    shots : sequence of int
        Numbers of examples.
    only_wrong : bool
        Step 1 of the paper's protocol: ask everything with no example, and go on with what was answered wrong.
        Then ``shots`` must hold 0.
    eps : float or sequence of float
        Threshold(s); both rules are always recorded.
    max_new_tokens : int
        Longest answer; rows whose answer was cut off say so in ``truncated``.
    batch_size : int
        Prompts answered together.
    store : path, optional
        Folder of finished batches (Parquet). A run over the same store continues where the last one stopped, and
        computes nothing twice; several processes may share it.
    progress : bool
        Whether to show a progress bar.
    """

    model: object
    tokenizer: object
    questions: Sequence[Question]
    examples: Sequence[Question] = ()
    shots: Sequence[int] = (0, 1, 3, 5)
    only_wrong: bool = False
    eps: float | Sequence[float] = 0.1
    max_new_tokens: int = 256
    batch_size: int = 48
    store: str | os.PathLike | None = None
    progress: bool = True

    def __post_init__(self):
        if len(self.questions) == 0:
            raise ValueError("Sweep: questions is empty, but at least one was expected")
        if len(self.shots) == 0 or any(isinstance(k, bool) or not isinstance(k, Integral) or k < 0 for k in self.shots):
            raise ValueError(f"Sweep: shots is {self.shots!r}, but whole numbers from 0 on were expected")
        if max(self.shots) > len(self.examples):
            raise ValueError(f"Sweep: shots asks for {max(self.shots)} examples, but {len(self.examples)} were given")
        if len(set(self.shots)) < len(self.shots):
            raise ValueError(f"Sweep: shots is {self.shots!r}, but distinct numbers were expected")
        if self.only_wrong and 0 not in self.shots:
            raise ValueError(f"Sweep: shots is {self.shots!r}, but only_wrong needs 0 among them")
        for name in ("max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"Sweep: {name} is {getattr(self, name)}, but at least 1 was expected")
        for name, group in (("questions", self.questions), ("examples", self.examples)):
            if len({question.text for question in group}) < len(group):
                raise ValueError(f"Sweep: {name} holds the same text twice, but distinct ones were expected")
        both = {question.text for question in self.questions} & {example.text for example in self.examples}
        if both:
            raise ValueError(f"Sweep: {len(both)} of the examples are among the questions, but none may be")

    def run(self) -> pd.DataFrame:
        """Run what is not in the store yet, and return one row per question and number of shots.

        Returns
        -------
        pandas.DataFrame
            ``question`` (index), ``shots``, ``prompt_tokens``, ``id_<rule>_<eps>`` (array-like, shape=[layers]: ID at
            the last prompt token, summed over heads), ``response``, ``new_tokens``, ``truncated``, ``seconds`` (the
            batch's, divided by its rows), ``expected``, the judge's ``correct``, ``redundant`` and ``kind``, and
            ``strict``: correct under the strict reading too.

        Raises
        ------
        ValueError
            A prompt that does not fit into the model's window; nothing has been computed then.
        """
        model_hash = fingerprint(self.model)
        plan = {k: self._prompts(k, model_hash) for k in sorted(self.shots)}
        if not self.only_wrong:
            return self._answer([prompt for prompts in plan.values() for prompt in prompts])
        first = self._answer(plan.pop(0))
        wrong = set(first.question[~first.correct])
        rest = [p for prompts in plan.values() for p in prompts if p["question"].index in wrong]
        return pd.concat([first, self._answer(rest)], ignore_index=True) if rest else first

    @property
    def _thresholds(self) -> list[float]:
        return np.atleast_1d(self.eps).tolist()

    def _prompts(self, shots: int, model_hash: str) -> list[dict]:
        """Every question's prompt with its key: a hash of all that determines its row."""
        window = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or math.inf
        prompts = []
        for question in self.questions:
            ids = build_prompt(self.tokenizer, question.text, self.examples[:shots])
            if len(ids) + self.max_new_tokens > window:
                raise ValueError(
                    f"Sweep: question {question.index} with {shots} shots has {len(ids)} tokens and may get "
                    f"{self.max_new_tokens} more, but the model's window is {window}"
                )
            settings = [_MEASURE, model_hash, ids, self._thresholds, self.max_new_tokens]
            key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
            prompts.append({"key": key, "question": question, "shots": shots, "ids": ids})
        return prompts

    def _answer(self, prompts: list[dict]) -> pd.DataFrame:
        """Rows of the prompts, in their order, from the store or the model."""
        # Like lengths together, so that little is padded. Batches do not depend on what the store holds: a resumed
        # run computes the very batches that an undisturbed one would have.
        by_length = sorted(prompts, key=lambda prompt: (len(prompt["ids"]), prompt["key"]))
        batches = [by_length[i : i + self.batch_size] for i in range(0, len(by_length), self.batch_size)]
        known = run_in_parts(batches, self._answer_batch, folder=self.store, progress=self.progress, label="answers")
        rows = []
        for prompt in prompts:
            question, row = prompt["question"], known[prompt["key"]]
            verdict = judge(row["response"], question.answer)
            rows.append(
                {"question": question.index, "shots": prompt["shots"], "expected": question.answer, **row}
                | {"correct": verdict.correct, "redundant": verdict.redundant, "kind": verdict.kind}
                | {"strict": judge(row["response"], question.answer, strict=True).correct}
            )
        return pd.DataFrame(rows).drop(columns="key")

    def _answer_batch(self, batch: list[dict]) -> list[dict]:
        """Answer one batch: a single generate call, measured during its pass over the prompts."""
        start = time.perf_counter()
        eos = self.model.generation_config.eos_token_id
        ends = set(eos if isinstance(eos, list) else [eos]) | {self.tokenizer.eos_token_id}
        ends = sorted(end for end in ends if end is not None)
        pad = ends[0] if ends else 0
        length = max(len(prompt["ids"]) for prompt in batch)
        ids = torch.tensor([[pad] * (length - len(p["ids"])) + p["ids"] for p in batch], device=self.model.device)
        mask = torch.tensor(
            [[0] * (length - len(p["ids"])) + [1] * len(p["ids"]) for p in batch], device=self.model.device
        )
        # Spelt out, so that no sampling default of a hub model's own slips in.
        decoding = GenerationConfig(
            do_sample=False, max_new_tokens=self.max_new_tokens, eos_token_id=ends or None, pad_token_id=pad
        )
        with measuring(self.model, eps=self._thresholds, rule=RULES, attention_mask=mask) as measure:
            output = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=decoding)
        measured = {rule: result.per_layer[..., -1].astype(np.int32) for rule, result in measure.results().items()}
        seconds = (time.perf_counter() - start) / len(batch)
        rows = []
        for i, prompt in enumerate(batch):
            answer = output[i, length:].tolist()
            stop = next((j for j, token in enumerate(answer) if token in ends), None)
            dimensions = {
                f"id_{rule}_{eps:g}": measured[rule][e, i] for rule in RULES for e, eps in enumerate(self._thresholds)
            }
            rows.append(
                {
                    "key": prompt["key"],
                    "prompt_tokens": len(prompt["ids"]),
                    "response": self.tokenizer.decode(answer[:stop], skip_special_tokens=True).strip(),
                    "new_tokens": len(answer) if stop is None else stop,
                    "truncated": stop is None,
                    "seconds": seconds,
                    **dimensions,
                }
            )
        return rows
