"""Generated questions like those of GSM8K-Zero: word problems whose text already states the answer.

GSM8K-Zero (Chiang and Lee 2024, arXiv:2401.11467) was made by asking for a number that a GSM8K story states. The
stories here are our own. Each states a few numbers and hints at something to calculate ("twice as many", "the
rest"), and its questions ask for one of the numbers, so that extraction is enough and calculation is redundant.
"""

import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from geolib.checks import integer
from geolib.reasoning.prompts import build_prompt
from geolib.reasoning.questions import Question
from geolib.typing import Tokenizer

# Stories, each with questions that ask for one of its numbers, given by its position from 0. "[4-30]" is an integer
# from 4 to 30, "[2.5-5.5]" a number with one decimal. No range has 0, 1 or 2, so every noun is in the plural, and
# "half", "twice" or "a third" cannot be mistaken for the answer. Words are drawn for "{name}", "{town}" and so on.
_DATA = json.loads(Path(__file__).with_name("stories.json").read_text("utf-8"))
_WORDS = {kind: words.split() for kind, words in _DATA["words"].items()}
_DOCUMENTED = ("argparse", "cmd", "configparser", "copy", "csv", "shelve")
_RANGE = re.compile(r"\[([\d.]+)-([\d.]+)\]")


def generate_questions(n: int, *, seed: int = 0) -> list[Question]:
    """Make word problems that look like arithmetic and ask for a number that they state.

    >>> question = generate_questions(3)[0]
    >>> f"{question.answer:g}" in question.text
    True

    Parameters
    ----------
    n : int
        Number of questions; all texts differ. The questions of a smaller n are the first ones of a larger n.
    seed : int
        Seed of the draws: the same seed gives the same questions.

    Returns
    -------
    list of Question
        With indices 0 to n - 1. The text states the answer once; its other numbers differ from the answer.

    Raises
    ------
    TypeError, ValueError
        If n is not a positive integer, or seed not a non-negative one.
    """
    n, rng = integer("generate_questions: n", n, 1), np.random.default_rng(integer("generate_questions: seed", seed, 0))
    answers: dict[str, float] = {}  # by text; a text that is drawn twice changes nothing
    while len(answers) < n:
        text, answer = _draw(rng)
        answers.setdefault(text, answer)
    return [Question(text, answer, index) for index, (text, answer) in enumerate(answers.items())]


def mixed_prompts(tokenizer: Tokenizer, n_each: int = 6, *, size: int = 96) -> list[list[int]]:
    """Tokens of word problems of our own, and of as many pieces of English prose that is on every machine.

    Parameters
    ----------
    tokenizer
        As :func:`geolib.models.load` returns it.
    n_each : int
        Number of either.
    size : int
        Tokens of a piece of :func:`python_prose`; the pieces start at equal distances, and may overlap.

    Returns
    -------
    list of list of int
        The problems, each in the model's chat template, then the pieces.
    """
    prose = tokenizer(python_prose()).input_ids
    starts = np.linspace(0, len(prose) - integer("mixed_prompts: size", size, 1, len(prose)), n_each).astype(int)
    problems = [build_prompt(tokenizer, one.text) for one in generate_questions(n_each, seed=3)]
    return [*problems, *(prose[start : start + size] for start in starts)]


def python_prose() -> str:
    """Documentation of six modules of Python's library: English prose, the same wherever Python's version is."""
    return "\n\n".join(inspect.getdoc(importlib.import_module(name)) or "" for name in _DOCUMENTED)


def _draw(rng: np.random.Generator) -> tuple[str, float]:
    story, questions = _pick(rng, _DATA["stories"]).values()
    position, question = _pick(rng, list(questions.items()))
    asking = _pick(rng, _DATA["asking"])
    if asking != "{}":
        question = question[0].lower() + question[1:]
    text = _pick(rng, _DATA["openings"]) + story + asking.format(question)
    text = text.format(**{kind: _pick(rng, words) for kind, words in _WORDS.items()})

    ranges = _RANGE.findall(story)
    numbers: list[float] = []
    while len(set(numbers)) < len(ranges):
        numbers = [_number(rng, low, high) for low, high in ranges]
    shown = (f"{number:,}" for number in numbers)
    return _RANGE.sub(lambda _: next(shown), text), float(numbers[int(position)])


def _number(rng: np.random.Generator, low: str, high: str) -> int | float:
    if "." in low:
        return int(rng.integers(round(10 * float(low)), round(10 * float(high)) + 1)) / 10
    return int(rng.integers(int(low), int(high) + 1))


def _pick(rng: np.random.Generator, options: list) -> Any:
    return options[rng.integers(len(options))]
