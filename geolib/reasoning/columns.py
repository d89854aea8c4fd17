"""Columns of a table, checked: numbers, groups of rows, true and false. Messages name the argument and the column."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

# How columns begin that a sweep records, and the files of the first round lack.
LATER = ("frozen", "computed", "entropy", "renyi2", "near", "heads_")


def numbers(caller: str, table: pd.DataFrame, **columns: str) -> list[np.ndarray]:
    """Columns of finite numbers, each named by its argument."""
    check(caller, table, **columns)
    found = []
    for name, column in columns.items():
        try:
            values = table[column].to_numpy(dtype=float)
        except (TypeError, ValueError):
            raise TypeError(f"{caller}: {name} is {column!r}, which holds no numbers") from None
        missing = np.count_nonzero(~np.isfinite(values))
        if missing:
            raise ValueError(f"{caller}: {name} is {column!r}, which is not finite in {missing} of {len(values)} rows")
        found.append(values)
    return found


def controls(caller: str, table: pd.DataFrame, names: Sequence[str]) -> list[np.ndarray]:
    """Columns of finite numbers that are held fixed, from a sequence of names."""
    if isinstance(names, str):
        raise TypeError(f"{caller}: controls is {names!r}, but a sequence of columns was expected")
    return [numbers(caller, table, controls=name)[0] for name in names]


def groups(caller: str, table: pd.DataFrame, **columns: str | Sequence[str]) -> list[np.ndarray]:
    """Rows with the same values share a number, from 0 on, in the order of the values."""
    found = []
    for name, given in columns.items():
        keys = [given] if isinstance(given, str) else list(given)
        for key in keys:
            check(caller, table, **{name: key})
            if table[key].isna().any():
                raise ValueError(f"{caller}: {name} is {key!r}, which is missing in {table[key].isna().sum()} rows")
        rows = table.groupby(keys, observed=True).ngroup() if keys else np.zeros(len(table), dtype=int)
        found.append(np.asarray(rows))
    return found


def check(caller: str, table: pd.DataFrame, **columns: str) -> None:
    """Check that the table has rows and the columns; of a run's rows in an older format, say what makes newer ones."""
    if len(table) == 0:
        raise ValueError(f"{caller}: the table has no rows")
    lacking = [column for column in columns.values() if column.startswith(LATER) and column not in table]
    if lacking and any(column.startswith("id_") for column in table):
        command = table.attrs.get("command", "geolib sweep --run NAME")
        raise ValueError(f"{caller}: rows of an older format lack {', '.join(lacking)}; {command} records them now")
    for name, column in columns.items():
        if column not in table:
            raise ValueError(f"{caller}: {name} is {column!r}, but the table's columns are {', '.join(table)}")


def true_or_false(caller: str, name: str, values: np.ndarray) -> None:
    """Check that y holds nothing but 0 and 1."""
    other = values[~np.isin(values, (0, 1))]
    if len(other):
        raise ValueError(f"{caller}: y is {name!r}, which holds {other[0]:g}, but true and false were expected")


def standard(values: np.ndarray) -> np.ndarray:
    """In standard deviations from the mean; zeros where nothing varies."""
    return (values - values.mean()) / (values.std() or 1)
