"""Sentences about results, each beside the condition that makes it true.

Key points, lines of tables and captions that state a result are code here: the build fails when the data no longer
support them. With results other than the book's own (GEOLIB_RESULTS) the numbers are shown instead of the sentence.
"""

import base64
import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geolib.checks import choice, flag, integer, one_line
from geolib.estimates import Estimate, estimate_of

_NUMBER = r"(?:[+\u2212]?(?:inf|\d[\d,.e\u2212]*)(?: ?%)?(?: \[[^\]]*\])?)?"  # also with an interval, or none
# The hyphen before a number, unless it joins two (a range, a date) or stands in code.
_MINUS = re.compile(r"(`[^`]*`)|(?<![\w.`-])-(?=\.?\d|inf\b)")


@dataclass(frozen=True)
class Statement:
    """Markdown that a notebook shows."""

    markdown: str

    def _repr_markdown_(self) -> str:
        return true_minus(self.markdown)

    def __str__(self) -> str:
        return self.markdown


@dataclass(frozen=True)
class Table:
    """Cells of text that a notebook shows; `cells` is the table behind it."""

    cells: pd.DataFrame
    caption: str = ""

    def _repr_html_(self) -> str:
        # A mark, of which pandas makes nothing else, begins the cells and the heading of a column of numbers.
        cells = self.cells.apply(lambda c: "\x02" * bool(c.str.fullmatch(_NUMBER).all()) + c.str.replace("\n", "\v"))
        heads = ["\x02" * bool(c.str[:1].eq("\x02").any()) + name for name, c in cells.items()]
        shown = cells.set_axis(heads, axis=1).to_html(index=False, border=0, justify="left").replace("\v", "<br>")
        shown = re.sub(r"<(t[hd])>\x02", r'<\1 style="text-align: right">', shown)
        shown = shown.replace("<td>", '<td style="text-align: left">')
        return shown.replace(">", f"><caption>{html.escape(self.caption)}</caption>", 1) if self.caption else shown

    def __repr__(self) -> str:
        return self.cells.to_string(index=False)


def true_minus(text: str) -> str:
    """Write a minus sign, not a hyphen, before every number that is negative.

    >>> true_minus("-0.5 of 2026-11-28, `x[-1]`")
    '−0.5 of 2026-11-28, `x[-1]`'
    """
    return _MINUS.sub(lambda found: found[1] or "\N{MINUS SIGN}", text)


def show(table: pd.DataFrame, caption: str = "", *, digits: int | dict | None = None) -> Table:
    """Make a table that a page shows: every number with the digits that it carries, one row of headings.

    >>> print(show(pd.DataFrame({"rule": ["absolute"], "estimate": -0.0812, "low": -0.151, "high": 0.014, "n": 90})))
        rule estimate [95 % interval]  n
    absolute     −0.08 [−0.15, +0.01] 90

    Estimates may stand side by side:

    >>> first, last = Estimate(-0.0812, -0.151, 0.014, 90), Estimate(4.2, 1.3, 7.6, 90)
    >>> print(show(pd.DataFrame({"first": [first], "last": [last]})))
                   first        last
    −0.08 [−0.15, +0.01] +4 [+1, +8]

    Parameters
    ----------
    table : pandas.DataFrame or pandas.Series
        Cells may be numbers, texts, and :class:`~geolib.estimates.Estimate`, which are shown with their intervals.
        Columns ``estimate``, ``low`` and ``high`` become one, of such estimates. Index levels that have a name, or are
        not mere numbers of rows, become columns; levels of columns are joined.
    caption : str
        Above the table: what is shown, of which data.
    digits : int or dict of column to int, optional
        Decimals. By default of estimates as many as the intervals of the column carry, and of other numbers that are
        not whole as many as give the largest of the column two significant digits. A cell without a value is empty.

    Raises
    ------
    TypeError, ValueError
        ``table`` or ``digits`` is something else.
    """
    if not isinstance(table, pd.DataFrame | pd.Series):
        raise TypeError(f"show: table is {one_line(table)}, but a DataFrame or a Series was expected")
    table = table.to_frame() if isinstance(table, pd.Series) else table
    if not isinstance(table.index, pd.RangeIndex) or table.index.name:
        table = table.rename_axis([name or "" for name in table.index.names]).reset_index(allow_duplicates=True)
    names = [", ".join(map(str, filter(None, c))) if isinstance(c, tuple) else str(c) for c in table.columns]
    table = table.set_axis(names, axis=1)
    with_ends = {"estimate", "low", "high"} <= set(names)
    if with_ends:
        table = table.astype(dict.fromkeys(("estimate", "low", "high"), float))  # what is missing becomes NaN
        table = table.assign(estimate=[estimate_of(row) for row in table.itertuples()])
        table = table.drop(columns=["low", "high", "null"], errors="ignore")
    cells = table.apply(lambda c: _texts(c, digits.get(c.name) if isinstance(digits, dict) else digits))
    return Table(cells.rename(columns={"estimate": "estimate [95 % interval]"} if with_ends else {}), caption)


def _texts(column, digits):
    if column.dtype.kind == "f":
        finite = (column := column.astype(float))[np.isfinite(column)]
        decimals = 0 if digits is None and (finite % 1 == 0).all() else _decimals(finite.abs().max(), 2, digits)
        return column.map(lambda value: "" if np.isnan(value) else true_minus(f"{value:z,.{decimals}f}"))
    cells = column.astype(object).where(column.notna(), "")
    errors = [abs(e.high - e.low) / 4 for e in cells if isinstance(e, Estimate) and np.isfinite(e.high - e.low)]
    places = _decimals(np.median(errors), 1, digits) if errors else 0
    texts = cells.map(lambda e: ("" if np.isnan(e.value) else f"{e:.{places}f}") if isinstance(e, Estimate) else e)
    return texts.map(lambda value: true_minus(str(value)))


def _decimals(size, significant, wanted):
    """Return the decimals that are wanted, or else those that give a number of this size its significant digits."""
    enough = max(0, significant - 1 - int(np.floor(np.log10(size)))) if size > 0 else significant
    return enough if wanted is None else integer("show: digits", wanted, 0)


# By verdict, the letter that stands for it: the colour is not all that tells verdicts apart.
MARKS = {"agrees": "A", "disagrees": "D", "absent": "0", "undecided": "?", "no estimate": "n", "untested": "u"}


@dataclass(frozen=True)
class VerdictMap:
    """A line for each claim, and in it a lettered mark for each reading, whose evidence opens on a click.

    Parameters
    ----------
    readings : pandas.DataFrame
        ``claim`` and ``text`` (the same in all rows of one line, one after the other), ``reading``, ``verdict`` (a key
        :data:`MARKS`) and ``evidence``, a text. Further columns are only in the files that the map offers.

    Raises
    ------
    ValueError
        A column is missing, or a verdict is another word.
    """

    readings: pd.DataFrame

    def __post_init__(self):
        if missing := {"claim", "text", "reading", "verdict", "evidence"} - {*self.readings}:
            raise ValueError(f"VerdictMap: readings lacks {min(missing)!r}, but a column of that name was expected")
        for verdict in self.readings["verdict"]:
            choice("VerdictMap: verdict", verdict, *MARKS)

    def _repr_html_(self) -> str:
        lines = []
        for own in self._lines():
            (claim, text), verdicts = own[["claim", "text"]].iloc[0], own["verdict"]
            tally = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.value_counts(sort=False).items())
            marks = "".join(f'<b class="{one.split()[0]}" aria-hidden="true">{MARKS[one]}</b>' for one in verdicts)
            evidence = (f"{MARKS[r.verdict]} {r.reading}: {r.evidence} ({r.verdict})" for r in own.itertuples())
            listed = "".join(f"<li>{html.escape(true_minus(one))}</li>" for one in evidence)
            summary = f"<summary>{marks} <small>{tally}</small></summary>"
            cells = html.escape(claim), html.escape(text), f"<details>{summary}<ul>{listed}</ul></details>"
            lines.append("<tr><td>" + "</td><td>".join(cells) + "</td></tr>")
        head = "<tr><th>claim</th><th>what it says</th><th>verdict of each reading</th></tr>"
        return (
            f'<table class="verdicts"><thead>{head}</thead><tbody>{"".join(lines)}</tbody></table>{self._downloads()}'
        )

    def _downloads(self):
        """Write the rows, whole, as files that the page itself holds."""
        files = {
            "text/csv": self.readings.to_csv(index=False),
            "application/json": self.readings.to_json(orient="records"),
        }
        links = []
        for kind, text in files.items():
            end, held = kind.partition("/")[2], base64.b64encode(text.encode()).decode()
            links.append(f'<a download="claims.{end}" href="data:{kind};base64,{held}">{end.upper()}</a>')
        return f'<p class="downloads">Every reading with its numbers: {", ".join(links)}</p>'

    def __repr__(self) -> str:
        marks = (f"{own.claim.iloc[0]} {own.text.iloc[0]}: {own.verdict.map(MARKS).sum()}" for own in self._lines())
        return "\n".join(marks)

    def _lines(self):
        """Rows of each line: the same claim and text one after the other, which may come again under another line."""
        named = self.readings[["claim", "text"]]
        return [own for _, own in self.readings.groupby(named.ne(named.shift()).any(axis=1).cumsum().to_numpy())]


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
    flag("holds: condition", condition)
    if not (isinstance(statement, str) and isinstance(numbers, str) and statement.strip() and numbers.strip()):
        raise TypeError(f"holds: statement and numbers are {statement!r} and {numbers!r}, but two texts were expected")
    own = not os.environ.get("GEOLIB_RESULTS") if own is None else flag("holds: own", own)
    statement, numbers = (" ".join(text.split()) for text in (statement, numbers))
    if own:
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
    return choice("is_full: profile", profile, "quick", "full") == "full"


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
