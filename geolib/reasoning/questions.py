"""The questions: GSM8K-Zero from its public home, a user's own file, or generated ones.

GSM8K-Zero (Chiang and Lee 2024, arXiv:2401.11467) holds 2,978 questions made from GSM8K by asking for a number that
the story already states; its authors found about 85 % of 250 reviewed pairs valid. It carries no licence, so it is
fetched from its repository and never shipped.
"""

import json
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

from geolib.models import MissingFileError, cache_dir, fetch

logger = logging.getLogger(__name__)

# The commit is pinned, so that the address stays good whatever the repository's branch is called.
URL = (
    "https://raw.githubusercontent.com/d223302/Over-Reasoning-of-LLMs/70a65c44edf4049e7d7f87cf5678b8ca042c065d/"
    "gsm8k_zero.json"
)
SHA256 = "21d1850d9757bf6a3a20940c0a6775e4e19710a94ad9afea39cdeb40b8fcc3aa"
FILE_NAME = "gsm8k_zero.jsonl"
N_GENERATED = 3000
_HOW_TO_SUPPLY = 'pass a path, set GEOLIB_DATA to its folder, or use source="generated"'


@dataclass(frozen=True)
class Question:
    """A question and the number that answers it.

    Attributes
    ----------
    text : str
    answer : float
    index : int
        Its line in the file, from 0; or its place among the generated questions.
    """

    text: str
    answer: float
    index: int


def load_questions(path=None, *, source: str = "gsm8k-zero") -> list[Question]:
    """Load the questions of GSM8K-Zero or of a file like it, or generate some.

    >>> load_questions(source="generated")[0].index
    0

    Parameters
    ----------
    path : str or os.PathLike, optional
        A file of JSON lines, each an object with "question" (text) and "answer" (a finite number, not a string);
        blank lines are skipped. Without a path, ``gsm8k_zero.jsonl`` in the folder that the environment variable
        GEOLIB_DATA names; else the cache, into which the file is first downloaded from its public home and checked
        against its SHA-256.
    source : str
        "gsm8k-zero", or "generated" for 3,000 questions of
        :func:`~geolib.reasoning.generated.generate_questions`, which need no file.

    Returns
    -------
    list of Question

    Raises
    ------
    MissingFileError
        There is no such file, or it cannot be downloaded. A ValueError and a FileNotFoundError.
    ValueError
        Another source, or a file that is not of this form: the message names the line.
    """
    if source not in ("gsm8k-zero", "generated"):
        raise ValueError(f'load_questions: source is {source!r}, but "gsm8k-zero" or "generated" was expected')
    if path is not None and not isinstance(path, str | os.PathLike):
        raise TypeError(f"load_questions: path is {path!r}, but a file's name was expected")
    if source == "generated":
        if path is not None:
            raise ValueError(f'load_questions: path is {str(path)!r}, but source="generated" reads no file')
        from geolib.reasoning.generated import generate_questions  # which needs Question from here

        return generate_questions(N_GENERATED)
    return _read(_locate() if path is None else Path(path))


def available_questions(path=None) -> tuple[list[Question], str]:
    """Load GSM8K-Zero where it can be had, generated questions elsewhere, and say which.

    A page that must run anywhere calls this, and prints the source. Only a failed download is made up for: a
    path, or a folder in GEOLIB_DATA, says where the file should be, and it is an error when it is not there.

    Parameters
    ----------
    path : str or os.PathLike, optional
        As for :func:`load_questions`.

    Returns
    -------
    questions : list of Question
    source : str
        "gsm8k-zero" or "generated", or the path as it was given.

    Raises
    ------
    MissingFileError, ValueError
        As for :func:`load_questions`.
    """
    try:
        return load_questions(path), "gsm8k-zero" if path is None else str(path)
    except MissingFileError as error:
        if path is not None or os.environ.get("GEOLIB_DATA"):
            raise
        logger.info("%s; generated questions are used instead", error)
        return load_questions(source="generated"), "generated"


def _locate() -> Path:
    """GSM8K-Zero in the folder GEOLIB_DATA, or in the cache, downloaded when it is not there yet."""
    if folder := os.environ.get("GEOLIB_DATA"):
        return Path(folder) / FILE_NAME
    try:
        return fetch(URL, SHA256, cache_dir() / FILE_NAME)
    except (OSError, ValueError) as error:  # no network, no such page, no room; or other bytes than expected
        logger.debug("download failed", exc_info=error)
        raise MissingFileError(
            f"load_questions: {FILE_NAME} is not in {cache_dir()} and could not be downloaded from {URL} "
            f"({type(error).__name__}): {_HOW_TO_SUPPLY}"
        ) from None


def _read(path: Path) -> list[Question]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MissingFileError(f"load_questions: {path} cannot be read ({error.strerror}): {_HOW_TO_SUPPLY}") from None
    try:
        lines = raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"load_questions: {path}, line {line}, is not UTF-8") from None
    questions = [_parse(line, path, index) for index, line in enumerate(lines) if line.strip()]
    if not questions:
        raise ValueError(f"load_questions: {path} is empty, but JSON lines of question and answer were expected")
    return questions


def _parse(line: str, path: Path, index: int) -> Question:
    where = f"load_questions: {path}, line {index + 1}"
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(f"{where}, is not JSON") from None
    if not isinstance(record, dict):
        raise ValueError(f'{where}, is {_shown(record)}, but an object with "question" and "answer" was expected')
    text, answer = record.get("question"), record.get("answer")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where}: question is {_shown(text)}, but a text was expected")
    if not _is_finite(answer):
        raise ValueError(f"{where}: answer is {_shown(answer)}, but a finite number was expected")
    return Question(text, float(answer), index)


def _is_finite(value) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _shown(value) -> str:
    """Write a value as JSON does, cut to a length that fits a message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
