"""Two judges with the same interface, the rules and a model at an endpoint, and the agreement between two judges.

A judge is called with responses, the expected numbers and, optionally, the questions, and returns a
:class:`~geolib.reasoning.judge.Verdict` for each response. A model is asked two questions: does the response finally
give the expected number, and does it calculate? It is not asked whether a wrong response gives any number, so a
response that the rules may call "no-answer" is "wrong" for a model.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from statsmodels.stats.inter_rater import cohens_kappa

from geolib.checks import above_zero, choice, integer, one_line
from geolib.models import cache_dir
from geolib.reasoning import Verdict, frozen_judge
from geolib.reasoning.questions import check_finite
from geolib.store import Parts, check_folder, run_in_parts


class Case(NamedTuple):
    """A response to be judged."""

    response: str
    answer: float
    question: str | None

    def __str__(self):
        number = int(self.answer) if float(self.answer).is_integer() else float(self.answer)
        asked = "" if self.question is None else f"Question: {self.question.strip()}\n"
        return f"{asked}Expected number: {number}\nResponse: {self.response.strip()}"


_TASK = "You check responses to questions. The text of the question states the expected number."
_FORM = (
    "Does the response finally give the expected number, and does it calculate anything? "
    'Answer in the form {"correct": true, "calculates": false}, and nothing else.'
)
# Shown to every judge before what it is to judge, with the verdict: correct, redundant.
_PENS = "Ira has 14 pens and buys 3 more. How many pens did Ira have at first?"
_TRAM = "A tram stops 9 times in 45 minutes. How many times does it stop?"
_SHOWN = (
    (Case("Ira had 14 pens at first.", 14, _PENS), (True, False)),
    (Case("14 + 3 = 17, so Ira had 17 pens.", 14, _PENS), (False, True)),
    (Case("45 / 9 = 5 minutes lie between stops. So the tram stops nine times.", 9, _TRAM), (True, True)),
    (Case("The tram stops every 45 minutes.", 9, _TRAM), (False, False)),
)


def judge_by_rules(
    responses: Sequence[str], answers: Sequence[float], questions: Sequence | None = None, *, strict: bool = False
) -> list[Verdict]:
    """Call :func:`~geolib.reasoning.judge.judge` on each response; parameters as for :meth:`EndpointJudge.__call__`.

    >>> [verdict.kind for verdict in judge_by_rules(["48 clips.", "48 + 24 = 72"], [48, 48])]
    ['extraction', 'wrong']
    """
    cases = _cases("judge_by_rules", responses, answers, questions)
    return [frozen_judge(case.response, case.answer, strict=strict) for case in cases]


def as_verdict(correct: bool, redundant: bool) -> Verdict:
    """Make a verdict from the two decisions; a response that is not correct is "wrong".

    >>> as_verdict(True, False)
    Verdict(correct=True, redundant=False, kind='extraction')
    """
    kind = ("reasoning" if redundant else "extraction") if correct else "wrong"
    return Verdict(bool(correct), bool(redundant), kind)


def _cases(function, responses, answers, questions):
    """Combine responses, answers and questions into cases, or raise an error that says what is wrong."""
    if questions is None:
        questions = [None] * len(responses)
    for name, given in (("responses", responses), ("answers", answers), ("questions", questions)):
        if isinstance(given, str):
            raise TypeError(f"{function}: {name} is one text, but a list was expected")
        if len(given) != len(responses):
            raise ValueError(
                f"{function}: {name} holds {len(given)}, but {len(responses)}, as many as responses, were expected"
            )
    cases = [Case(*case) for case in zip(responses, answers, questions, strict=True)]
    for i, (response, answer, question) in enumerate(cases):
        for name, text in (("response", response), ("question", question)):
            if not isinstance(text, str) and not (name == "question" and text is None):
                raise TypeError(f"{function}: {name} {i} is {one_line(text)}, but text was expected")
        check_finite(f"{function}: answer {i}", answer)
    return cases


def _dialog(turns: list[str], replies: list[str]) -> list[dict]:
    """Messages of a dialog whose last turn has no reply yet."""
    pairs = zip_longest(turns, replies)
    said = [(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
    return [{"role": role, "content": text} for role, text in said if text is not None]


_PART = 16  # responses in a part of the store; if all of a part fail, the endpoint counts as down


class NoVerdictError(ValueError):
    """Some responses have no verdict.

    Attributes
    ----------
    verdicts : list of Verdict or None
        In the order of the responses; None for responses without a verdict.
    """

    def __init__(self, message: str, verdicts: list[Verdict | None]):
        super().__init__(message)
        self.verdicts = verdicts


class _DownError(Exception):
    """Every request of a part failed."""


@dataclass(frozen=True)
class EndpointJudge:
    """A judge that is a model at an endpoint with the interface of OpenAI's chat completions, at temperature 0.

    The key is read from the environment variable OPENAI_API_KEY whenever the judge is called, and the address from
    OPENAI_BASE_URL (without it, OpenAI's own); neither is stored, written or shown. Needs the extra ``endpoint``.

    Every verdict is kept in a folder, under a hash of the model's name, the prompt and the settings, and is requested
    only once. The address is not part of the hash: if one name stands for two models, use two folders.

    Parameters
    ----------
    model : str
        Name of the model at the endpoint.
    store : path, optional
        Folder of verdicts; by default ``verdicts`` in geolib's cache.
    timeout : float
        Seconds that one request may take.
    max_retries : int
        How often a request is repeated, with growing pauses, after a temporary failure (no connection, timeout, HTTP
        408, 409, 429 and 5xx), or after a reply of another form than requested.
    at_once : int
        Number of simultaneous requests, 1 to 16.
    progress : bool
        Whether to show a progress bar.
    """

    model: str
    _: KW_ONLY
    store: str | os.PathLike | None = None
    timeout: float = 60.0
    max_retries: int = 3
    at_once: int = 8
    progress: bool = False

    def __post_init__(self):
        if not isinstance(self.model, str) or not self.model.strip():
            raise ValueError(f"EndpointJudge: model is {one_line(self.model)}, but a model's name was expected")
        above_zero("EndpointJudge: timeout", self.timeout)
        integer("EndpointJudge: max_retries", self.max_retries, 0)
        integer("EndpointJudge: at_once", self.at_once, 1, _PART)
        check_folder("EndpointJudge: store", self.store)

    def __call__(
        self, responses: Sequence[str], answers: Sequence[float], questions: Sequence[str] | None = None
    ) -> list[Verdict]:
        """Judge responses.

        Parameters
        ----------
        responses : sequence of str
        answers : sequence of float
            The expected numbers.
        questions : sequence of str, optional
            Shown to the judge if given.

        Returns
        -------
        list of Verdict

        Raises
        ------
        NoVerdictError
            Requests for some responses failed, or the replies had another form. The other responses are still judged,
            unless 16 in a row fail: then the endpoint counts as down. Verdicts so far are in the error's ``verdicts``
            and in the store; the same call again requests only the missing ones.
        ImportError
            The extra ``endpoint`` is not installed.
        TypeError, ValueError
            The arguments have different lengths or other types; or the key or the address is invalid.
        """
        items = [self._item(case) for case in _cases("EndpointJudge", responses, answers, questions)]
        keys = [item["key"] for item in items]
        store = cache_dir() / "verdicts" if self.store is None else self.store
        rows, failures = _kept(store, keys), {}
        if missing := list({item["key"]: item for item in items if item["key"] not in rows}.values()):
            with self._client() as client, ThreadPoolExecutor(self.at_once) as pool, contextlib.suppress(_DownError):
                run_in_parts(
                    [missing[start : start + _PART] for start in range(0, len(missing), _PART)],
                    functools.partial(self._judge_part, client, pool, failures),
                    folder=store,
                    progress=self.progress,
                    label="verdicts",
                )
            rows = _kept(store, keys)
        verdicts = [as_verdict(rows[k]["correct"], rows[k]["redundant"]) if k in rows else None for k in keys]
        if None in verdicts:
            reasons = Counter(failures.get(key, "not asked") for key in keys if key not in rows)
            listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
            raise NoVerdictError(
                f"EndpointJudge: {verdicts.count(None)} of {len(verdicts)} responses have no verdict ({listed}); "
                "the others are kept, and the same call again asks for the rest",
                verdicts,
            )
        return [verdict for verdict in verdicts if verdict]

    def _item(self, case: Case) -> dict:
        """Messages that ask for a verdict, and the key under which it is kept."""
        turns = [f"{shown}\n{_FORM}" for shown in (*(shown for shown, _ in _SHOWN), case)]
        turns[0] = f"{_TASK}\n\n{turns[0]}"
        replies = [json.dumps(dict(zip(("correct", "calculates"), told, strict=True))) for _, told in _SHOWN]
        messages = _dialog(turns, replies)
        settings = {"model": self.model, "messages": messages, "temperature": 0}
        return {"key": hashlib.sha256(json.dumps(settings).encode()).hexdigest(), "settings": settings}

    def _client(self):
        try:
            import openai
        except ImportError:
            raise ImportError(
                'EndpointJudge: openai is not installed, but the extra "endpoint" was expected (pip install openai)'
            ) from None
        # Neither is assigned to a variable or written into a message, because tracebacks show both.
        if not re.fullmatch(r"[!-~]+", os.environ.get("OPENAI_API_KEY", "")):
            raise ValueError(
                "EndpointJudge: OPENAI_API_KEY is missing or malformed, but a key of printable characters was expected"
            )
        if not re.match(r"https?://[^/\s]", os.environ.get("OPENAI_BASE_URL", "https://of-openai")):
            raise ValueError("EndpointJudge: OPENAI_BASE_URL is no address, but http(s)://... was expected")
        with contextlib.suppress(Exception):
            return openai.OpenAI(timeout=self.timeout, max_retries=self.max_retries)
        raise ValueError("EndpointJudge: OPENAI_BASE_URL is no address that openai accepts")

    def _judge_part(self, client, pool, failures, part):
        """Return the rows of the judged responses; put the reasons for the others into ``failures``."""
        rows = []
        for item, told in zip(part, pool.map(functools.partial(self._ask, client), part), strict=True):
            if isinstance(told, str):
                failures[item["key"]] = told
            else:
                rows.append({"key": item["key"], "correct": told[0], "redundant": told[1]})
        if not rows:
            raise _DownError
        return rows

    def _ask(self, client: Any, item: dict) -> tuple[bool, bool] | str:
        """Return correct and redundant, or the reason why there is no verdict."""
        for attempt in range(self.max_retries + 1):
            time.sleep(min(2.0 ** (attempt - 2), 8.0) if attempt else 0.0)
            try:
                body = client.chat.completions.with_raw_response.create(**item["settings"]).text
            except Exception as error:  # its text may repeat the request: only its type is passed on
                status = getattr(error, "status_code", None)
                return type(error).__name__ + (f" (HTTP {status})" if status else "")
            if (told := _told(body)) is not None:
                return told
        return "not in the form asked for"


def _kept(store: str | os.PathLike, keys: list[str]) -> dict[str, dict]:
    with Parts(store) as parts:
        return parts.read(keys)


def _told(body: str) -> tuple[bool, bool] | None:
    """Read a reply; None if it has another form."""
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
        (verdict,) = re.findall(r"\{[^{}]*\}", content)
        told = json.loads(verdict)
        correct, redundant = told["correct"], told["calculates"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return (correct, redundant) if isinstance(correct, bool) and isinstance(redundant, bool) else None


@dataclass(frozen=True)
class Agreement:
    """How far two judges agree.

    Attributes
    ----------
    kappa : float
        Cohen's kappa (1960): 1 for complete agreement, 0 for agreement no more often than by chance. NaN if both give
        one and the same verdict to all responses.
    interval : tuple of float
        95 % interval from the asymptotic normal distribution of kappa, cut at -1 and 1; its width is 0 for complete
        agreement. NaN if one judge gives the same verdict to all responses.
    share : float
        Share of responses on which they agree.
    n : int
        Number of responses.
    """

    kappa: float
    interval: tuple[float, float]
    share: float
    n: int

    def __str__(self) -> str:
        low, high = self.interval
        return f"kappa {self.kappa:.2f} [{low:.2f}, {high:.2f}], {self.share:.1%} the same, n = {self.n}"


def agreement(first: Sequence[Verdict], second: Sequence[Verdict], *, of: str = "correct") -> Agreement:
    """Cohen's kappa of two judges' verdicts on the same responses.

    >>> yes, no = as_verdict(True, False), as_verdict(False, False)
    >>> print(agreement([yes, yes, no, no], [yes, no, no, no]))
    kappa 0.50 [-0.23, 1.00], 75.0% the same, n = 4

    Parameters
    ----------
    first, second : sequence of Verdict
        In the same order.
    of : {"correct", "redundant"}
        Which of the two decisions is compared.

    Returns
    -------
    Agreement

    Raises
    ------
    TypeError, ValueError
        The arguments contain something else than verdicts, are empty, or have different lengths.
    """
    choice("agreement: of", of, "correct", "redundant")
    if not len(first) == len(second) > 0:
        raise ValueError(
            f"agreement: first holds {len(first)} and second {len(second)}, but equal numbers above 0 were expected"
        )
    for name, verdicts in (("first", first), ("second", second)):
        for i, verdict in enumerate(verdicts):
            if not isinstance(verdict, Verdict):
                raise TypeError(f"agreement: {name}[{i}] is {one_line(verdict)}, but a Verdict was expected")
    pairs = [2 * getattr(a, of) + getattr(b, of) for a, b in zip(first, second, strict=True)]
    table = np.bincount(pairs, minlength=4).reshape(2, 2).astype(float)
    n, share = len(first), float(np.trace(table) / len(first))
    if n in table.sum(0) or n in table.sum(1):
        return Agreement(np.nan if share == 1 else 0.0, (np.nan, np.nan), share, n)
    with np.errstate(invalid="ignore"):  # a variance of 0 may round to a negative number
        found = cohens_kappa(table)
    half = float(np.nan_to_num(found.kappa_upp - found.kappa))
    interval = (max(-1.0, float(found.kappa) - half), min(1.0, float(found.kappa) + half))
    return Agreement(float(found.kappa), interval, share, n)
