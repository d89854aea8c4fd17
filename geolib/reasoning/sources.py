"""Where questions come from: GSM8K-Zero or GSM8K from their repositories, a user's own file, or generated questions.

GSM8K-Zero (Chiang and Lee 2024, arXiv:2401.11467) has 2,978 questions made from GSM8K by asking for a number that the
story already states; its authors found about 85 % of 250 reviewed pairs valid. It has no licence, so it is fetched from
its repository and never shipped. GSM8K (Cobbe et al. 2021, arXiv:2110.14168) has 7,473 training questions
with worked solutions, under the MIT licence; it serves as worked examples.
"""

import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geolib.checks import choice, whole_text
from geolib.files import json_lines
from geolib.models import MissingFileError, cache_dir, fetch
from geolib.reasoning.generated import generate_questions
from geolib.reasoning.questions import Question, is_finite

logger = logging.getLogger(__name__)

N_GENERATED = 3000


@dataclass(frozen=True)
class Source:
    """Source of a file of questions, and whether its answers are worked solutions."""

    file_name: str
    url: str
    sha256: str
    worked: bool
    instead: str  # advice for when the file cannot be fetched


# Commits are pinned, so that an address stays valid when a branch changes or is renamed.
SOURCES = {
    "gsm8k-zero": Source(
        file_name="gsm8k_zero.jsonl",
        url="https://raw.githubusercontent.com/d223302/Over-Reasoning-of-LLMs/"
        "70a65c44edf4049e7d7f87cf5678b8ca042c065d/gsm8k_zero.json",
        sha256="21d1850d9757bf6a3a20940c0a6775e4e19710a94ad9afea39cdeb40b8fcc3aa",
        worked=False,
        instead='pass a path, set GEOLIB_DATA to its folder, or use source="generated"',
    ),
    "gsm8k-train": Source(
        file_name="gsm8k_train.jsonl",
        url="https://raw.githubusercontent.com/openai/grade-school-math/"
        "3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data/train.jsonl",
        sha256="17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
        worked=True,
        instead="pass a path, or set GEOLIB_DATA to its folder",
    ),
}
_SOLUTION = re.compile(r"(.+)\n#### (-?[0-9][0-9,]*(?:\.[0-9]+)?)\s*", re.DOTALL)
_CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")


def load_questions(path: str | os.PathLike | None = None, *, source: str = "gsm8k-zero") -> list[Question]:
    """Load the questions of GSM8K-Zero, of GSM8K or of a file in the same form, or generate questions.

    >>> load_questions(source="generated")[0].index
    0

    Parameters
    ----------
    path : str or os.PathLike, optional
        A file of JSON lines, each an object with "question" (text) and "answer" (for "gsm8k-zero" a finite number, not
        a string; for "gsm8k-train" a worked solution that ends in a line "#### N"); blank lines are skipped. Without a
        path: ``gsm8k_zero.jsonl`` or ``gsm8k_train.jsonl`` in the folder that the environment variable GEOLIB_DATA
        names; without GEOLIB_DATA, the file in the cache, which is downloaded from its repository when it is missing,
        and verified by its SHA-256.
    source : {"gsm8k-zero", "gsm8k-train", "generated"}
        ``"generated"``: 3,000 questions of :func:`~geolib.reasoning.generated.generate_questions`, which need no file.
        ``"gsm8k-train"``: :attr:`Question.steps` holds the solution without its calculator marks and its last line.

    Returns
    -------
    list of Question

    Raises
    ------
    MissingFileError
        The file is missing, or cannot be downloaded. A ValueError and a FileNotFoundError.
    ValueError
        ``source`` is unknown, or the file has another form; the message names the line.
    TypeError
        ``path`` is not a path.
    """
    choice("load_questions: source", source, *SOURCES, "generated")
    if path is not None and not isinstance(path, str | os.PathLike):
        raise TypeError(f"load_questions: path is {path!r}, but a file's name was expected")
    if source == "generated":
        if path is not None:
            raise ValueError(f'load_questions: path is {str(path)!r}, but None was expected with source="generated"')
        return generate_questions(N_GENERATED)
    home = SOURCES[source]
    return _read(_locate(home) if path is None else Path(path).expanduser(), home)


def available_questions(path: str | os.PathLike | None = None) -> tuple[list[Question], str]:
    """Load GSM8K-Zero if it is available, else generated questions, and return which.

    A page that must run anywhere calls this function, and prints the source. Only a failed download leads to generated
    questions: if a path or GEOLIB_DATA says where the file is, a missing file is an error.

    Parameters
    ----------
    path : str or os.PathLike, optional
        As for :func:`load_questions`.

    Returns
    -------
    questions : list of Question
    source : str
        "gsm8k-zero" or "generated", or the given path.

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


def _locate(home: Source) -> Path:
    """Return the path of the file in the folder GEOLIB_DATA, or in the cache, downloaded if it is missing."""
    if folder := os.environ.get("GEOLIB_DATA"):
        return Path(folder).expanduser() / home.file_name
    try:
        return fetch(home.url, home.sha256, cache_dir() / home.file_name)
    except (OSError, ValueError) as error:  # no network, page or disk space; or a wrong checksum
        logger.debug("download failed", exc_info=error)
        raise MissingFileError(
            f"load_questions: {home.file_name} is not in {cache_dir()} and could not be downloaded from {home.url} "
            f"({type(error).__name__}): {home.instead}"
        ) from None


def _read(path: Path, home: Source) -> list[Question]:
    like = '{"question": "...", "answer": "... #### 48"}' if home.worked else '{"question": "...", "answer": 48}'
    try:
        lines = json_lines("load_questions", path, like)
        return [_parse(where, record, number - 1, home.worked) for number, where, record in lines]
    except OSError as error:
        found = f"{path} cannot be read ({error.strerror})"
        raise MissingFileError(f"load_questions: {found}, but a file was expected: {home.instead}") from None


def _parse(where: str, record: dict, index: int, worked: bool) -> Question:
    text, answer = record.get("question"), record.get("answer")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where}: question is {_shown(text)}, but a text was expected")
    number, steps = _solution(answer) if worked else (answer, "")
    if number is None or not is_finite(number):
        expected = 'steps and a last line "#### N" were' if worked else "a finite number was"
        raise ValueError(f"{where}: answer is {_shown(answer)}, but {expected} expected")
    for name, held in (("question", text), ("answer", steps)):
        whole_text(f"{where}: {name}", held)
    return Question(text, float(number), index, steps)


def _solution(answer: Any) -> tuple[float | None, str]:
    """Read number and steps of a GSM8K answer; calculator marks in << >> and the last line, "#### N", are removed."""
    match = _SOLUTION.fullmatch(answer) if isinstance(answer, str) else None
    steps = _CALCULATOR_MARK.sub("", match[1]).strip() if match else ""
    return (float(match[2].replace(",", "")), steps) if match and steps else (None, "")


def _shown(value: Any) -> str:
    """Write a value as JSON, cut to 60 characters for a message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
