"""Sentences about results, each beside the condition that makes it true.

Key points, lines of tables and captions that state a result are code here: the build fails when the data no longer
support them. With results other than the book's own (GEOLIB_RESULTS) the numbers are shown instead of the sentence.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Statement:
    """Markdown that a notebook shows."""

    markdown: str

    def _repr_markdown_(self) -> str:
        return self.markdown

    def __str__(self) -> str:
        return self.markdown


class NotCarriedError(AssertionError):
    """The data no longer support a sentence of the book."""


def holds(
    statement: str, condition: bool, numbers: str, *, own: bool | None = None, shown: bool = True
) -> Statement | None:
    """Return a sentence about a result, if a condition on the result is true.

    >>> print(holds("Three is more than two.", 3 > 2, "three: 3, two: 2"))
    Three is more than two.

    Parameters
    ----------
    statement : str
        The sentence, in Markdown.
    condition : bool
        Whether the sentence is true. None, NaN and arrays are refused: compare them first.
    numbers : str
        The numbers behind the sentence; shown instead of it where the results are not the book's own.
    own : bool, optional
        Whether the results are the book's own; by default, whether GEOLIB_RESULTS is not set.
    shown : bool
        False for a sentence that is written elsewhere on the page (a caption, an option of a self-test): then nothing
        is returned for the book's own results.

    Returns
    -------
    Statement or None

    Raises
    ------
    NotCarriedError
        The condition is false for the book's own results.
    TypeError
        An argument has another type.
    """
    if str(getattr(condition, "dtype", type(condition).__name__)) != "bool" or getattr(condition, "ndim", False):
        raise TypeError(f"holds: condition is {condition!r}, but True or False was expected")
    if not (isinstance(statement, str) and isinstance(numbers, str) and statement.strip() and numbers.strip()):
        raise TypeError(f"holds: statement and numbers are {statement!r} and {numbers!r}, but two texts were expected")
    if own is not None and not isinstance(own, bool):
        raise TypeError(f"holds: own is {own!r}, but True, False or None was expected")
    statement, numbers = (" ".join(text.split()) for text in (statement, numbers))
    if own if own is not None else not os.environ.get("GEOLIB_RESULTS"):
        if not condition:
            raise NotCarriedError(f"the data no longer support this sentence: {statement} (now: {numbers})")
        return Statement(statement) if shown else None
    return Statement(f"{numbers}" if shown else f"*With these results: {numbers}.*")


def is_full(profile: str) -> bool:
    """Whether a notebook's profile is "full"; a misspelt name is refused rather than taken as "quick".

    Raises
    ------
    ValueError
        ``profile`` is neither "quick" nor "full".
    """
    if profile not in ("quick", "full"):
        raise ValueError(f"is_full: profile is {profile!r}, but 'quick' or 'full' was expected")
    return profile == "full"


def points(*statements: object) -> Statement:
    """List statements as bullet points."""
    return Statement("\n".join(f"- {statement}" for statement in statements))


def compared(paper: str, here: str, rows: Sequence[tuple]) -> Statement:
    """Make a table of what the paper reports beside what was measured.

    Parameters
    ----------
    paper, here : str
        What was studied by the paper and here: headings of the two columns.
    rows : sequence of tuple
        Subject, result of the paper, and a statement of what was measured.

    Returns
    -------
    Statement
    """
    table = [("", f"the paper ({paper})", f"here ({here})"), ("---",) * 3, *rows]
    return Statement("\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in table))
