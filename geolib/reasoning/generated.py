"""Questions like those of GSM8K-Zero, made here: word problems whose answer their text already states.

GSM8K-Zero (Chiang and Lee 2024, arXiv:2401.11467) was made by asking of a GSM8K story for a number that stands in it.
The stories are our own. Each states a few numbers and hints at something to calculate ("twice as many", "the
rest"), and its questions ask for one of the numbers, so that extraction is enough and calculation is redundant.
"""

import json
import re
from numbers import Integral
from pathlib import Path

import numpy as np

from geolib.reasoning.questions import Question

# Stories, each with questions that ask for a number of it, given by its place from 0. "[4-30]" is a whole number from
# 4 to 30, "[2.5-5.5]" a number with one decimal. No range holds 0, 1 or 2, so every noun is in the plural, and "half",
# "twice" or "a third" cannot be mistaken for the answer. Words are drawn for "{name}", "{town}" and so on.
_DATA = json.loads(Path(__file__).with_name("stories.json").read_text("utf-8"))
_WORDS = {kind: words.split() for kind, words in _DATA["words"].items()}
_RANGE = re.compile(r"\[([\d.]+)-([\d.]+)\]")


def generate_questions(n: int, *, seed: int = 0) -> list[Question]:
    """Make word problems that look like arithmetic and ask for a number that they state.

    >>> question = generate_questions(3)[0]
    >>> f"{question.answer:g}" in question.text
    True

    Parameters
    ----------
    n : int
        How many, all with different texts. A larger n starts with the questions of a smaller one.
    seed : int
        Of the draws. The same seed gives the same questions.

    Returns
    -------
    list of Question
        Indices 0 to n - 1. The answer stands in the text once; the other numbers there differ from it.

    Raises
    ------
    TypeError, ValueError
        If n is not a positive integer, or seed not a non-negative one.
    """
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(f"generate_questions: {name} is {value!r}, but an integer was expected")
        if value < least:
            raise ValueError(f"generate_questions: {name} is {value}, but at least {least} was expected")
    rng = np.random.default_rng(seed)
    answers: dict[str, float] = {}  # by text; a text drawn again changes nothing
    while len(answers) < n:
        text, answer = _draw(rng)
        answers.setdefault(text, answer)
    return [Question(text, answer, index) for index, (text, answer) in enumerate(answers.items())]


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


def _pick(rng: np.random.Generator, options: list):
    return options[rng.integers(len(options))]
