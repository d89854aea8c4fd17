"""Sentences about results, each beside the check that it stands on.

A key point, a line of a table or a caption that says what came out is code here: the build fails when the data no
longer carry it. Of other results than the book's own (GEOLIB_RESULTS) the numbers are shown in the sentence's place.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Statement:
    """Markdown that a notebook shows."""

    markdown: str

    def _repr_markdown_(self):
        return self.markdown

    def __str__(self):
        return self.markdown


class NotCarriedError(AssertionError):
    """The data no longer carry a sentence of the book."""


def holds(statement: str, condition: bool, numbers: str, *, own: bool | None = None, shown: bool = True):
    """Say a sentence about a result, held by a condition on the result.

    >>> print(holds("Three is more than two.", 3 > 2, "three: 3, two: 2"))
    Three is more than two.

    Parameters
    ----------
    statement : str
        The sentence, in Markdown.
    condition : bool
        What makes it true. None, NaN and arrays are refused: compare them first.
    numbers : str
        The numbers behind it; shown instead of the sentence where the results are not the book's.
    own : bool, optional
        Whether the results are the book's own; by default, whether GEOLIB_RESULTS is not set.
    shown : bool
        False for a sentence that stands elsewhere on the page (a caption, an option of a self-test): then nothing is
        shown of the book's own results.

    Returns
    -------
    Statement or None

    Raises
    ------
    NotCarriedError
        The condition is false of the book's own results.
    TypeError
        An argument is of another kind.
    """
    if str(getattr(condition, "dtype", type(condition).__name__)) != "bool" or getattr(condition, "ndim", 0):
        raise TypeError(f"holds: condition is {condition!r}, but True or False was expected")
    if not (isinstance(statement, str) and isinstance(numbers, str) and statement.strip() and numbers.strip()):
        raise TypeError(f"holds: statement and numbers are {statement!r} and {numbers!r}, but two texts were expected")
    if own is not None and not isinstance(own, bool):
        raise TypeError(f"holds: own is {own!r}, but True, False or None was expected")
    statement, numbers = (" ".join(text.split()) for text in (statement, numbers))
    if own if own is not None else not os.environ.get("GEOLIB_RESULTS"):
        if not condition:
            raise NotCarriedError(f"the data no longer carry this sentence: {statement} (now: {numbers})")
        return Statement(statement) if shown else None
    return Statement(f"{numbers}" if shown else f"*With these results: {numbers}.*")


def is_full(profile: str) -> bool:
    """Whether a notebook's profile is the full one; a misspelt one would be the quick one under its name.

    Raises
    ------
    ValueError
        It is neither "quick" nor "full".
    """
    if profile not in ("quick", "full"):
        raise ValueError(f"profile is {profile!r}, but 'quick' or 'full' was expected")
    return profile == "full"


def points(*statements) -> Statement:
    """List statements as bullet points."""
    return Statement("\n".join(f"- {statement}" for statement in statements))


def compared(paper: str, here: str, rows: Sequence[tuple]) -> Statement:
    """Put what the paper reports beside what was measured.

    Parameters
    ----------
    paper, here : str
        What was studied: the headings of the two columns.
    rows : sequence of tuple
        What it is about, what the paper reports, and a statement of what was measured.
    """
    table = [("", f"the paper ({paper})", f"here ({here})"), ("---",) * 3, *rows]
    return Statement("\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in table))
