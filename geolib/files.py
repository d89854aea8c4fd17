"""Files: texts are read with messages that name the line, and all is written whole, never a part of it."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from geolib.checks import one_line

WRITING = ".writing-"  # how the folder of a file that is being written begins


def whole_file(function: str, path: Path) -> str:
    """Read a file of UTF-8, with or without a byte order mark; `function` prefixes the message.

    Raises
    ------
    ValueError
        A line, which is named, is not UTF-8.
    OSError
        The file cannot be read.
    """
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{function}: {path}, line {line}, is not UTF-8, but UTF-8 was expected") from None


def json_lines(function: str, path: Path, like: str) -> Iterator[tuple[int, str, dict]]:
    """Read a file with a JSON object on each line; blank lines are skipped.

    Parameters
    ----------
    function : str
        Prefixes the messages.
    path : path
    like : str
        An example of an object that is expected, such as ``'{"text": "..."}'``.

    Yields
    ------
    number, where, record : int, str, dict
        The number of the line, from 1; the beginning of a message about it; and its object.

    Raises
    ------
    ValueError
        As for :func:`whole_file`; or a line is no JSON object, or all are blank.
    OSError
        The file cannot be read.
    """
    # By "\n" alone: JSON may hold the other ends of lines that str.splitlines knows.
    lines = {number: line for number, line in enumerate(whole_file(function, path).split("\n"), 1) if line.strip()}
    if not lines:
        raise ValueError(f"{function}: {path} is empty, but JSON lines like {like} were expected")
    for number, line in lines.items():
        where = f"{function}: {path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"{where}, is not JSON, but an object like {like} was expected") from None
        if not isinstance(record, dict):
            raise ValueError(f"{where}, is {one_line(record)}, but an object like {like} was expected")
        yield number, where, record


def write_text(text: str, path: str | os.PathLike) -> None:
    """Write ``text`` to ``path`` as UTF-8, never a part of it."""
    write_bytes(text.encode(), path)


def write_bytes(content: bytes, path: str | os.PathLike) -> None:
    """Write ``content`` to ``path``, never a part of it: a whole file replaces the one that was there."""
    path = Path(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=WRITING) as folder:
        whole = Path(folder) / path.name
        whole.write_bytes(content)
        whole.replace(path)
