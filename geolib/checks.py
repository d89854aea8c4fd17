"""Check arguments: turn what a caller gives into arrays and numbers, or raise an error of one line.

Every message has the form "<function>: <argument> is <given>, but <expected> was expected". The parameter `name` of
these functions is the part "<function>: <argument>", with which the message begins.
"""

import re
from collections.abc import Iterable
from numbers import Integral, Real
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

LINES = (".jsonl", ".jsonlines", ".ndjson", ".json")  # suffixes of files with one JSON object on each line


def finite_array(name: str, value: ArrayLike) -> np.ndarray:
    """Return a read-only float64 copy of an array of real, finite numbers; `name` prefixes the message.

    Parameters
    ----------
    name : str
        Function and argument, such as ``"max_regions: dim"``.
    value : array-like, shape=[...]

    Returns
    -------
    array, shape=[...]

    Raises
    ------
    TypeError
        If `value` is not an array of real numbers, or has masked entries.
    ValueError
        If a number is NaN or infinite, or an integer that float64 would round, as it does some beyond 2^53.
    """
    try:
        if masked(value):
            raise TypeError
        given = np.asarray(value)
        if given.dtype.kind not in "biuf" and not all(map(real, given.flat)):
            raise TypeError
        array = given.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise no_array(name, value) from None
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        at = f" at {where}" if where else ""
        raise ValueError(f"{name} holds {array[where]}{at}, but finite numbers were expected")
    for number in given[np.abs(array) >= 2**53].tolist() if given.dtype.kind in "iuO" else ():
        if isinstance(number, Integral) and int(float(number)) != number:
            raise ValueError(f"{name} holds {one_line(number)}, but integers that float64 holds were expected")
    array.setflags(write=False)
    return array


def real(value: Any) -> bool:
    """Whether a value is a real number; NumPy counts its time spans as integers, and they are not."""
    return isinstance(value, Real) and not isinstance(value, np.timedelta64)


def masked(value: Any) -> bool:
    """Whether an array, or an array in a list, has masked entries: NumPy would read the values under the mask."""
    return any(map(np.ma.is_masked, [value, *(value if isinstance(value, list | tuple) else [])]))


def no_array(name: str, value: Any) -> TypeError:
    """Return the error for a value that is not an array of real numbers; `name` prefixes the message."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    what = " without masked entries" if masked(value) else ""
    # A torch tensor on a GPU, with gradients, or of a type that NumPy lacks; a complex one stays refused.
    if hasattr(first, "detach") and not first.is_complex():
        what = ", as tensor.detach().cpu().float() gives it"
    return TypeError(f"{name} is {one_line(value)}, but an array of real numbers{what} was expected")


def one_line(value: Any) -> str:
    """Show a value in a message: its repr on one line, cut to 60 characters; its type if Python does not print it."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an integer of thousands of digits, by itself or in a sequence
        text = f"too long a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def integer(name: str, value: Any, low: float, high: int | None = None) -> int:
    """Return `value` as an int in [low, high]; booleans are rejected. `name` prefixes the message.

    Parameters
    ----------
    name : str
        Function and argument, such as ``"max_regions: dim"``.
    value : int
        Any type with ``__index__``, such as NumPy's integers.
    low : int or -inf
    high : int, optional
        Without it there is no upper limit.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If `value` is not an integer.
    ValueError
        If it is out of range.
    """
    try:
        if isinstance(value, bool | np.bool | np.timedelta64):
            raise TypeError
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} is {one_line(value)}, but an integer was expected") from None
    expected = f"at least {low}" if high is None else f"{low} to {high}"
    expect(low <= number and (high is None or number <= high), f"{name} is {one_line(number)}", expected)
    return number


def integers(name: str, values: Iterable[Any], low: float) -> tuple[int, ...]:
    """Return `values`, at least one, as a tuple of ints of at least `low`. `name` prefixes the message."""
    numbers = tuple(integer(f"{name}[{i}]", value, low) for i, value in enumerate(values))
    expect(numbers, f"{name} is empty", "at least one integer")
    return numbers


def choice(name: str, value: Any, *options: Any) -> Any:
    """Return `value`, which must be one of the options. `name` prefixes the message."""
    expect(value in options, f"{name} is {one_line(value)}", " or ".join(map(repr, options)))
    return value


def flag(name: str, value: Any) -> bool:
    """Return `value`, which must be True or False, as a bool; `name` prefixes the message."""
    if not isinstance(value, bool | np.bool):
        raise TypeError(f"{name} is {one_line(value)}, but True or False was expected")
    return bool(value)


def above_zero(name: str, value: ArrayLike, *, zero: bool = False) -> np.ndarray:
    """Return a finite number above 0, or with `zero` at least 0, as a 0-d array; booleans are rejected.

    Parameters
    ----------
    name : str
        Function and argument; it prefixes the message.
    value : float
    zero : bool
        Whether 0 is allowed.

    Returns
    -------
    array, shape=[]

    Raises
    ------
    TypeError, ValueError
        If `value` is not such a number.
    """
    try:
        number = finite_array(name, value)
    except TypeError:
        number = None
    if number is None or number.shape or np.asarray(value).dtype == bool or not (number > 0 or (zero and number == 0)):
        kind = TypeError if number is None else ValueError
        raise kind(f"{name} is {one_line(value)}, but a number {'of at least' if zero else 'above'} 0 was expected")
    return number


def fraction(name: str, value: Any, *, zero: bool = False) -> float:
    """Return a number between 0 and 1 as a float; `zero` allows 0 itself. `name` prefixes the message."""
    number = real(value) and not isinstance(value, bool)
    if not number or not (0 < value < 1 or (zero and value == 0)):
        expected = f"a number {'from 0 to less than' if zero else 'between 0 and'} 1 was expected"
        raise (ValueError if number else TypeError)(f"{name} is {one_line(value)}, but {expected}")
    return float(value)


def whole_text(name: str, text: str) -> str:
    """Return a text, unless it has half of a surrogate pair, as JSON may hold; `name` prefixes the message."""
    if half := re.search(r"[\ud800-\udfff]", text):
        raise ValueError(f"{name} holds {half[0]!r}, but whole characters were expected")
    return text


def expect(good: Any, found: str, expected: str) -> None:
    """Raise a ValueError of one line, "<found>, but <expected> was expected", unless it is good."""
    if not good:
        raise ValueError(f"{found}, but {expected} was expected")
