"""Turning what a caller gives into arrays, or into one line that says what is wrong with it."""

from numbers import Real
from operator import index

import numpy as np

LINES = (".jsonl", ".jsonlines", ".ndjson", ".json")  # ends of the names of files that hold an object a line


def finite_array(name, value):
    """Read-only float64 copy of real, finite numbers of any shape; `name` opens the error."""
    try:
        if masked(value):
            raise TypeError
        given = np.asarray(value)
        if given.dtype.kind not in "biuf" and not all(isinstance(number, Real) for number in given.flat):
            raise TypeError
        array = given.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise no_array(name, value) from None
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        at = f" at {where}" if where else ""
        raise ValueError(f"{name} holds {array[where]}{at}, expected finite numbers")
    array.setflags(write=False)
    return array


def masked(value):
    """Whether entries of an array, or of the arrays in a list, are masked: NumPy would read what is under the mask."""
    return any(map(np.ma.is_masked, [value, *(value if isinstance(value, list | tuple) else [])]))


def no_array(name, value):
    """Return the error for what cannot be read as an array of real numbers; `name` opens it."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    what = " without masked entries" if masked(value) else ""
    # A torch tensor: on a GPU, with gradients, or of a type that NumPy lacks. To make a complex one real is no advice.
    if hasattr(first, "detach") and not first.is_complex():
        what = ", as tensor.detach().cpu().float() gives it"
    return TypeError(f"{name} is {one_line(value)}, expected an array of real numbers{what}")


def one_line(value):
    """Show a value in an error: its repr on one line, cut short."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def integer(name, value, low, high=None):
    """Return an integer from `low` to `high`, if there is one; a bool is none. `name` opens the error."""
    try:
        if isinstance(value, bool | np.bool):
            raise TypeError
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} is {one_line(value)}, expected an integer") from None
    if number < low or (high is not None and number > high):
        expected = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} is {number}, expected {expected}")
    return number


def integers(name, values, low):
    """Return a sequence's integers from `low` on, at least one, as a tuple. `name` opens the error."""
    numbers = tuple(integer(f"{name}[{i}]", value, low) for i, value in enumerate(values))
    if not numbers:
        raise ValueError(f"{name} is empty, expected at least one")
    return numbers


def choice(name, value, *options):
    """Return a value that is one of the options. `name` opens the error."""
    if value not in options:
        raise ValueError(f"{name} is {value!r}, expected {' or '.join(map(repr, options))}")
    return value


def above_zero(name, value, *, zero=False):
    """Return a finite number above 0, or 0 where it may be, as an array without axes; a bool is none."""
    try:
        number = finite_array(name, value)
    except TypeError:
        number = None
    whole = number is not None and number.shape == () and np.asarray(value).dtype != bool
    if not whole or not (number > 0 or (zero and number == 0)):
        kind = TypeError if number is None else ValueError
        raise kind(f"{name} is {one_line(value)}, expected a number {'from 0 on' if zero else 'above 0'}")
    return number


def whole_text(name, text):
    """Return a text, if it is one: half a surrogate pair, as JSON may hold, is none. `name` opens the error."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} holds {text[error.start]!r}, which is half a character and no text") from None
    return text
