"""A question and the number that answers it, and what is known of questions without their text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geolib.checks import one_line, real
from geolib.reasoning.judge import _quantities, _tidy

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Question:
    """A question and the number that answers it.

    Attributes
    ----------
    text : str
    answer : float
        The expected number.
    index : int
        Line in the file, from 0; or position among the generated questions.
    steps : str
        Worked solution without the answer; "" if there is none.

    Raises
    ------
    TypeError, ValueError
        The answer is not a finite number. It is checked here, before a model is asked.
    """

    text: str
    answer: float
    index: int
    steps: str = ""

    def __post_init__(self):
        check_finite("Question: answer", self.answer)


def quantities(text: str) -> list[list[float]]:
    """Read the numbers of a text, number words included, as the judge of the plan does: the readings of each.

    >>> quantities("Ann has 3 pens and two cups.")
    [[3.0], [2.0]]
    """
    return _quantities(_tidy(text))


def question_facts(questions: Sequence[Question]) -> "pd.DataFrame":
    """Describe questions without their text: the number of numbers, and the position of the answer among them.

    Numbers, including number words, are read in the same way as the judge of the plan reads those of a response.

    >>> question_facts([Question("Ann has 3 pens and two cups. How many cups?", 2.0, 7)]).to_dict("list")
    {'question': [7], 'numbers': [2], 'place': [1]}

    Parameters
    ----------
    questions : sequence of Question

    Returns
    -------
    pandas.DataFrame
        ``question`` (index), ``numbers``, ``place`` (position of the answer among the numbers, from 0; -1 if the text
        does not state it).
    """
    import pandas as pd  # imported here, because reading questions does not need it

    rows = []
    for question in questions:
        values = quantities(question.text)
        states = [any(math.isclose(one, question.answer, rel_tol=1e-9) for one in readings) for readings in values]
        rows.append((question.index, len(values), states.index(True) if any(states) else -1))
    return pd.DataFrame(rows, columns=["question", "numbers", "place"])


def is_finite(value: Any) -> bool:
    """Whether a value is a number, no boolean, and a float can hold it."""
    try:
        return real(value) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def check_finite(name: str, value: Any) -> None:
    """Refuse what is no finite number; booleans are rejected. `name` prefixes the message."""
    if not is_finite(value):
        kind = ValueError if real(value) and not isinstance(value, bool) else TypeError
        raise kind(f"{name} is {one_line(value)}, but a finite number was expected")
