"""An estimate is a number with its interval; a table of them has a row each, and is what is drawn, shown and judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from geolib.checks import above_zero, integer, one_line


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes
    ----------
    value, low, high : float
    n : int
        How many independent units (questions, unless said otherwise) are behind it.
    null : float
        The value that means no effect: 1 for an odds ratio.

    Examples
    --------
    >>> f"{Estimate(8.0, 3.7, 12.04, 300):.1f}"
    '+8.0 [+3.7, +12.0]'

    An end that rounds to 0 gets a digit more, so that its side is seen, and no sign if it rounds to 0 even then:

    >>> f"{Estimate(8.0, -0.04, 12.04, 300):.1f}"
    '+8.00 [-0.04, +12.04]'
    """

    value: float
    low: float
    high: float
    n: int
    null: float = 0.0

    def __format__(self, digits: str) -> str:
        if not digits:
            return str(self)
        if digits[:1] == "." and any(float(f"{end:{digits}}") == 0 != end for end in (self.low, self.high)):
            digits = f".{int(digits[1:-1]) + 1}f"  # or nobody sees on which side of 0 the interval ends
        value, low, high = (signed(n, digits, "" if self.null else "+") for n in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"

    def __str__(self) -> str:
        return f"{self:.2f}, n = {self.n}"


def signed(number: float, digits: str, sign: str = "+") -> str:
    """Write a number with its sign; without one if it rounds to 0 or is NaN.

    >>> signed(0.5, ".2f"), signed(-0.004, ".2f"), signed(0.5, ".1f", "")
    ('+0.50', '0.00', '0.5')
    """
    shown = f"{number:{sign}{digits}}"
    return shown if abs(float(shown)) > 0 else shown.lstrip("+-")


def tidy(found: Mapping[Any, Any], *names: str) -> pd.DataFrame:
    """Make a table of estimates, a row each, in the order given.

    >>> tidy({("A", 1): Estimate(0.5, 0.25, 0.75, 9)}, "condition", "shots")
      condition  shots  estimate   low  high  n  null
    0         A      1       0.5  0.25  0.75  9   0.0

    Parameters
    ----------
    found : mapping of key to Estimate
        A key is a tuple where there are several names; or every value is a mapping, which has the key's last part.
    *names : str
        What the parts of a key are called: the first columns.

    Returns
    -------
    pandas.DataFrame
        The names, then ``estimate``, ``low``, ``high``, ``n``, ``null``.

    Raises
    ------
    TypeError
        A value is no estimate, or a key has not as many parts as there are names.
    """
    if all(isinstance(part, Mapping) for part in found.values()):
        found = {(key, within): e for key, part in found.items() for within, e in part.items()}
    keys = [key if len(names) > 1 else (key,) for key in found]
    for key, e in zip(keys, found.values(), strict=True):
        if not (isinstance(e, Estimate) and isinstance(key, tuple) and len(key) == len(names)):
            raise TypeError(f"tidy: found has {one_line(e)} under {key}, but an Estimate under {names} was expected")
    rows = [(*key, e.value, e.low, e.high, e.n, e.null) for key, e in zip(keys, found.values(), strict=True)]
    return pd.DataFrame(rows, columns=[*names, "estimate", "low", "high", "n", "null"])


def by_layer(found: Mapping[Any, Any], *names: str) -> pd.DataFrame:
    """Make a table of values over the layers, which are counted from 1.

    >>> by_layer({"A": [5, 7]}, "prompt")
       layer prompt  estimate
    0      1      A         5
    1      2      A         7

    Parameters
    ----------
    found : mapping of key to array-like, shape=[layers]
        In the order of the layers, whatever index a Series has. A key is a tuple where there are several names.
    *names : str
        What the parts of a key are called.

    Returns
    -------
    pandas.DataFrame
        ``layer``, the names, and ``estimate``.
    """
    table = pd.DataFrame({key: np.asarray(values) for key, values in found.items()}).rename(index=lambda at: at + 1)
    table = table.rename_axis(index="layer", columns=list(names))
    return table.melt(ignore_index=False, value_name="estimate").reset_index()


def spread(table: pd.DataFrame, value: str, by: str | Sequence[str], *, ends: tuple = (0.0, 1.0)) -> pd.DataFrame:
    """Make a table of medians, with quantiles as the ends: by default the least and the most.

    >>> spread(pd.DataFrame({"depth": [1, 1, 1, 2], "regions": [5, 7, 12, 9]}), "regions", "depth")
       depth  estimate  low  high  n
    0      1       7.0  5.0  12.0  3
    1      2       9.0  9.0   9.0  1

    Parameters
    ----------
    table : pandas.DataFrame
    value : str
        Column of numbers.
    by : str or sequence of str
        Columns: a row of the result for each combination of their values, in the order of the table.
    ends : tuple of two float
        Quantiles, in [0, 1], in order.

    Returns
    -------
    pandas.DataFrame
        The columns ``by``, then ``estimate``, ``low``, ``high``, and ``n``, the number of rows that have a value.

    Raises
    ------
    ValueError
        ``ends`` are other numbers.
    """
    low, high = ends
    if not 0 <= low <= high <= 1:
        raise ValueError(f"spread: ends is {one_line(ends)}, but two quantiles from 0 to 1, in order, were expected")
    by = [by] if isinstance(by, str) else list(by)
    groups = table.groupby(by, sort=False, observed=True)[value]
    found = {name: groups.quantile(at) for name, at in {"estimate": 0.5, "low": low, "high": high}.items()}
    return pd.DataFrame(found).assign(n=groups.count()).reset_index()


def estimate_of(row: Any) -> Estimate:
    """Return the estimate that a row of a table holds: ``estimate``, ``low``, ``high``, ``n`` and ``null`` if not 0."""
    return Estimate(row.estimate, row.low, row.high, getattr(row, "n", 0), getattr(row, "null", 0.0))


def finding(estimate: Any, claimed: int, smallest: float = 0.0, *, slack: float = 0.0) -> Any:
    """Say what an interval says of a claimed sign.

    Parameters
    ----------
    estimate : Estimate, pandas.DataFrame, or a row of one
        A table, or row, has ``estimate``, ``low``, ``high``, and ``null`` if it is not 0.
    claimed : {1, -1, 0}
        The claim: positive, negative, or no effect.
    smallest : float
        The smallest effect that matters, 0 or more, in the units of the estimate.
    slack : float
        How far the ends of the interval may be off (the error of a simulation): both are moved outwards by it, or
        inwards by a negative one.

    Returns
    -------
    str, or pandas.DataFrame
        Of a claimed sign, the first of these that is so. ``"disagrees"``: the whole interval lies on the other side.
        ``"absent"``: the whole interval lies below the smallest effect that matters, so that the claimed effect, if
        there is one, is too small to matter. ``"agrees"``: the whole interval lies on the claimed side. Else
        ``"undecided"``. Of a claim of no effect: ``"agrees"`` where the whole interval lies within the smallest effect
        of either sign (equivalence), ``"disagrees"`` where it excludes 0, else ``"undecided"``. An interval of which an
        end is NaN, or whose ends are not in order, is ``"undecided"``. Of a table: the table with a column ``verdict``.

    Raises
    ------
    TypeError, ValueError
        ``estimate`` is neither an estimate nor rows of them, or another argument is not such a number.

    Examples
    --------
    >>> finding(Estimate(0.3, 0.1, 0.5, 90), 1, 0.1), finding(Estimate(0.3, -0.1, 0.5, 90), 1, 0.1)
    ('agrees', 'undecided')
    >>> finding(Estimate(-0.03, -0.11, 0.04, 90), 1, 0.1), finding(Estimate(-0.3, -0.5, -0.1, 90), 1, 0.1)
    ('absent', 'disagrees')
    """
    claimed = integer("finding: claimed", claimed, -1, 1)
    above_zero("finding: smallest", smallest, zero=True)
    if isinstance(slack, bool) or not isinstance(slack, Real) or not abs(slack) < np.inf:
        raise ValueError(f"finding: slack is {one_line(slack)}, but a finite number was expected")
    if isinstance(estimate, pd.DataFrame):
        return estimate.assign(verdict=[finding(row, claimed, smallest, slack=slack) for _, row in estimate.iterrows()])
    if not all(isinstance(getattr(estimate, end, None), Real) for end in ("low", "high")):
        raise TypeError(f"finding: estimate is {one_line(estimate)}, but an Estimate or rows of them were expected")
    low, high = (end - getattr(estimate, "null", 0.0) for end in (estimate.low - slack, estimate.high + slack))
    if not low <= high:
        return "undecided"
    if claimed == 0:
        return "agrees" if -smallest < low and high < smallest else "disagrees" if low > 0 or high < 0 else "undecided"
    low, high = (low, high) if claimed > 0 else (-high, -low)
    return "disagrees" if high < 0 else "absent" if high < smallest else "agrees" if low > 0 else "undecided"
