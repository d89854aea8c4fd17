"""Model judges against the naive way to ask; the endpoint's against a real server that fails in every manner."""

import ast
import hashlib
import inspect
import json
import logging
import math
import re
import socket
import sys
import threading
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from endpoint_server import HTML, KEY, fails, good, hang, hang_up, says, sends, serving
from hypothesis import given
from hypothesis import strategies as st

from geolib.experiments.endpoint_judge import (
    Agreement,
    Case,
    EndpointJudge,
    NoVerdictError,
    agreement,
    as_verdict,
    judge_by_rules,
)
from geolib.reasoning import Verdict, frozen_judge, judge
from geolib.reasoning.protocol import EXPLORATION_EXAMPLES, EXPLORATION_QUESTIONS

pytestmark = pytest.mark.whole

RESPONSES = [
    "She sold 48 clips.",
    "48 + 24 = 72, so she sold 72.",
    "Half of 48 is 24. So she sold 24 clips in May, and 48 clips in April, as the text says at its beginning.",
]
ANSWERS = [48, 48.0, np.float64(48)]
QUESTIONS = ["She sold 48 clips in April and half as many in May. How many did she sell in April?"] * 3


# The interface


def test_verdicts_of_two_decisions():
    kinds = {(c, r): as_verdict(c, r).kind for c in (True, False) for r in (True, False)}
    expected = {(True, True): "reasoning", (True, False): "extraction", (False, True): "wrong", (False, False): "wrong"}
    assert kinds == expected
    assert as_verdict(np.True_, np.False_) == Verdict(correct=True, redundant=False, kind="extraction")


@pytest.mark.parametrize("strict", [False, True])
def test_rules_behind_the_interface(strict):
    expected = [frozen_judge(r, a, strict=strict) for r, a in zip(RESPONSES, ANSWERS, strict=True)]
    assert judge_by_rules(RESPONSES, ANSWERS, QUESTIONS, strict=strict) == expected
    assert judge_by_rules(RESPONSES, ANSWERS, strict=strict) == expected


def test_a_case_is_written_down():
    assert (
        str(Case(" 48 clips. ", 48.0, "How many?\n")) == "Question: How many?\nExpected number: 48\nResponse: 48 clips."
    )
    assert str(Case("1/2", 0.5, None)) == "Expected number: 0.5\nResponse: 1/2"


BAD = [
    (("48", [48]), TypeError, "responses is one text, but a list was expected"),
    ((["48"], [48], "How many?"), TypeError, "questions is one text, but a list was expected"),
    ((["48"], [48, 49]), ValueError, "answers holds 2, but 1, as many as responses, were expected"),
    ((["48"], [48], []), ValueError, "questions holds 0, but 1, as many as responses, were expected"),
    (([None], [48]), TypeError, "response 0 is None, but text was expected"),
    ((["48", "49"], [48, 49], ["How many?", 7]), TypeError, "question 1 is 7, but text was expected"),
    ((["48"], ["48"]), TypeError, "answer 0 is '48', but a finite number was expected"),
    ((["48"], [True]), TypeError, "answer 0 is True, but a finite number was expected"),
    ((["48"], [math.nan]), ValueError, "answer 0 is nan, but a finite number was expected"),
    ((["1"], [10**400]), ValueError, f"answer 0 is 1{56 * '0'}..., but a finite number was expected"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
@pytest.mark.parametrize("name", ["judge_by_rules", "EndpointJudge"])
def test_what_does_not_fit_together(name, arguments, error, message):
    judges = {
        "judge_by_rules": judge_by_rules,
        "EndpointJudge": EndpointJudge("m"),
    }
    with pytest.raises(error) as raised:
        judges[name](*arguments)
    assert str(raised.value) == f"{name}: {message}"


# An endpoint


@pytest.fixture
def server(monkeypatch):
    with serving() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def endpoint(folder, **settings):
    return EndpointJudge("a-model", store=folder, **{"max_retries": 1, "timeout": 60} | settings)


def test_what_is_asked_and_what_comes_back(server, tmp_path):
    server.script = {
        "72": [says('{"correct": false, "calculates": true}')],
        "24": [says('```json\n{"calculates": true, "correct": true}\n```')],
    }
    verdicts = endpoint(tmp_path)(["48", "72", "24"], [48, 48.0, 0.5], ["How many?"] * 3)
    assert [verdict.kind for verdict in verdicts] == ["extraction", "wrong", "reasoning"]
    first = next(asked for asked in server.asked if asked["response"] == "24")
    assert first["path"] == "/v1/chat/completions"
    assert first["headers"]["Authorization"] == f"Bearer {KEY}"
    assert (first["model"], first["temperature"]) == ("a-model", 0)
    assert [message["role"] for message in first["messages"]] == ["user", "assistant"] * 4 + ["user"]
    assert first["messages"][-1]["content"].startswith("Question: How many?\nExpected number: 0.5\nResponse: 24\n")


def test_verdicts_are_asked_for_once(server, tmp_path, monkeypatch):
    responses = [str(i) for i in range(20)]
    verdicts = endpoint(tmp_path)([*responses, "7"], [7] * 21)
    assert Counter(asked["response"] for asked in server.asked) == Counter(responses)
    monkeypatch.delenv("OPENAI_API_KEY")  # nothing to ask, so no key
    assert endpoint(tmp_path)(responses[::-1], [7] * 20) == verdicts[19::-1]
    assert len(server.asked) == 20


@pytest.mark.parametrize("change", [{"model": "other"}, {"answer": 8}, {"response": "8"}, {"question": "How many?"}])
def test_what_makes_another_verdict_is_asked_anew(server, tmp_path, change):
    endpoint(tmp_path)(["7"], [7])
    question = [change["question"]] if "question" in change else None
    EndpointJudge(change.get("model", "a-model"), store=tmp_path)(
        [change.get("response", "7")], [change.get("answer", 7)], question
    )
    assert len(server.asked) == 2


def test_the_cache_is_where_verdicts_are_by_default(server, tmp_path, monkeypatch):
    monkeypatch.setenv("GEOLIB_CACHE", str(tmp_path))
    EndpointJudge("a-model")(["7"], [7])
    assert len(list((tmp_path / "verdicts").glob("*.parquet"))) == 1


def test_too_many_requests_are_repeated(server, tmp_path):
    server.script = {"7": [fails(429), good]}
    assert endpoint(tmp_path)(["7"], [7]) == [as_verdict(True, False)]
    assert len(server.asked) == 2


def with_locals(error):
    """Traceback with every local variable from the judge on: the test's own hold the key."""
    trace = traceback.TracebackException(type(error), error, error.__traceback__.tb_next, capture_locals=True)
    return "".join(trace.format())


FAILURES = {
    "server error": ([fails(500)], 3, "InternalServerError (HTTP 500)"),
    "key refused": ([fails(401)], 1, "AuthenticationError (HTTP 401)"),
    "forbidden": ([fails(403)], 1, "PermissionDeniedError (HTTP 403)"),
    "no such model": ([fails(404)], 1, "NotFoundError (HTTP 404)"),
    "too many": ([fails(429)], 3, "RateLimitError (HTTP 429)"),
    "elsewhere": ([fails(302)], 1, "APIStatusError (HTTP 302)"),
    "hangs": ([hang], 2, "APITimeoutError"),
    "hangs up": ([hang_up], 2, "APIConnectionError"),
    "html": ([sends(HTML, "text/html")], 2, "not in the form asked for"),
    "empty": ([sends("")], 2, "not in the form asked for"),
    "other": ([sends('{"a": 1}'), says(f"I cannot judge {KEY}")], 2, "not in the form asked for"),
    "not a bool": ([says('{"correct": "yes", "calculates": 1}'), says(None)], 2, "not in the form asked for"),
    "two": (
        [says('{"correct": true, "calculates": true} or {"correct": false, "calculates": true}')],
        2,
        "not in the form asked for",
    ),
    "no object": ([sends("[" * 100_000), sends("[]")], 2, "not in the form asked for"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_cost_one_response_and_show_no_key(server, tmp_path, caplog, capfd, name):
    script, tries, reason = FAILURES[name]
    server.script = {"bad": list(script)}
    judge_ = endpoint(tmp_path, max_retries=tries - 1 or 1, timeout=1 if name == "hangs" else 60)
    with caplog.at_level(logging.DEBUG), pytest.raises(NoVerdictError) as raised:
        judge_(["1", "bad", "2"], [1, 1, 1])
    error, yes = raised.value, as_verdict(True, False)
    assert str(error) == (
        f"EndpointJudge: 1 of 3 responses have no verdict (1 {reason}); "
        "the others are kept, and the same call again asks for the rest"
    )
    assert error.verdicts == [yes, None, yes]
    assert Counter(asked["response"] for asked in server.asked) == {"1": 1, "2": 1, "bad": tries}

    assert all(KEY in asked["headers"]["Authorization"] for asked in server.asked)  # it is used, and nowhere to be seen
    shown = [
        str(error),
        repr(error),
        repr(judge_),
        str(vars(error)),
        with_locals(error),
        caplog.text,
        *capfd.readouterr(),
    ]
    shown += [str(vars(record)) for record in caplog.records]
    assert not [text for text in shown if KEY in text]
    assert error.__context__ is error.__cause__ is None
    assert not [path for path in tmp_path.iterdir() if KEY.encode() in path.read_bytes()]

    server.script = {}
    assert judge_(["1", "bad", "2"], [1, 1, 1]) == [yes, yes, yes]
    assert [asked["response"] for asked in server.asked][-1] == "bad"
    assert len(server.asked) == 3 + tries


def test_an_endpoint_that_is_down_is_left_alone(server, tmp_path):
    server.script = {"*": [fails(401)]}
    with pytest.raises(NoVerdictError, match=r"40 of 40 .*\(24 not asked, 16 AuthenticationError \(HTTP 401\)\)"):
        endpoint(tmp_path)([str(i) for i in range(40)], [1] * 40)
    assert len(server.asked) == 16


def test_an_endpoint_that_goes_down_half_way_loses_nothing(server, tmp_path):
    responses, answers = [str(i) for i in range(48)], [1] * 48
    server.script = {"*": [good] * 20 + [fails(503)]}
    judge_ = endpoint(tmp_path, max_retries=0)
    with pytest.raises(NoVerdictError) as raised:
        judge_(responses, answers)
    assert raised.value.verdicts.count(None) == 28
    assert len(server.asked) == 48
    server.script = {}
    assert judge_(responses, answers) == [as_verdict(True, False)] * 48
    assert len(server.asked) == 48 + 28


def test_requests_are_under_way_at_once(server, tmp_path):
    together = threading.Barrier(4, timeout=60)

    def meet(handler):
        together.wait()
        good(handler)

    server.script = {"*": [meet]}
    endpoint(tmp_path, at_once=4)(["1", "2", "3", "4"], [1] * 4)
    assert not together.broken


@pytest.mark.parametrize("key", [None, "", f"{KEY}\n", f"{KEY} ", f"{KEY}é"])
def test_a_key_that_is_none(server, tmp_path, monkeypatch, key):
    monkeypatch.delenv("OPENAI_API_KEY")
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(
        ValueError,
        match=r"^EndpointJudge: OPENAI_API_KEY is missing or malformed, but a key of printable characters",
    ) as raised:
        endpoint(tmp_path)(["1"], [1])
    assert KEY not in with_locals(raised.value)
    assert server.asked == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "OPENAI_BASE_URL is no address, but http(s)://... was expected"),
        ("127.0.0.1:8000/v1", "OPENAI_BASE_URL is no address, but http(s)://... was expected"),
        (f"http://{KEY}@127.0.0.1:a/v1", "OPENAI_BASE_URL is no address that openai accepts"),
    ],
)
def test_an_address_that_is_none(server, tmp_path, monkeypatch, url, message):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(ValueError) as raised:
        endpoint(tmp_path)(["1"], [1])
    assert str(raised.value) == f"EndpointJudge: {message}"
    assert raised.value.__context__ is None
    assert KEY not in with_locals(raised.value)


def test_nobody_listens(server, tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    with pytest.raises(NoVerdictError, match=r"1 of 1 .*\(1 APIConnectionError\)"):
        endpoint(tmp_path, max_retries=0)(["1"], [1])


def test_without_the_extra(server, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError) as raised:
        endpoint(tmp_path)(["1"], [1])
    expected = 'openai is not installed, but the extra "endpoint" was expected (pip install openai)'
    assert str(raised.value) == f"EndpointJudge: {expected}"


def test_openai_is_imported_when_it_is_needed():
    tree = ast.parse(Path(inspect.getsourcefile(EndpointJudge)).read_text("utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports
    assert "openai" not in "".join(map(ast.unparse, imports))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"model": ""}, ValueError, "model is '', but a model's name was expected"),
        ({"model": None}, ValueError, "model is None, but a model's name was expected"),
        ({"timeout": 0}, ValueError, "timeout is 0, but a number above 0 was expected"),
        ({"timeout": "1"}, TypeError, "timeout is '1', but a number above 0 was expected"),
        ({"max_retries": -1}, ValueError, "max_retries is -1, but at least 0 was expected"),
        ({"at_once": 17}, ValueError, "at_once is 17, but 1 to 16 was expected"),
    ],
)
def test_settings_of_an_endpoint(settings, error, message):
    with pytest.raises(error) as raised:
        EndpointJudge(**{"model": "a-model"} | settings)
    assert str(raised.value) == f"EndpointJudge: {message}"


def test_a_store_that_is_a_file(server, tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="which is a file, but a folder was expected"):
        endpoint(file)(["1"], [1])


# Agreement


def naive_kappa(first, second):
    """Cohen's kappa (1960) with the variance of Fleiss, Cohen and Everitt (1969), sum by sum."""
    n, values = len(first), (False, True)
    p = {(a, b): sum((x, y) == (a, b) for x, y in zip(first, second, strict=True)) / n for a in values for b in values}
    row = {a: sum(p[a, b] for b in values) for a in values}
    column = {b: sum(p[a, b] for a in values) for b in values}
    chance = sum(row[a] * column[a] for a in values)
    kappa = (p[True, True] + p[False, False] - chance) / (1 - chance)
    variance = sum(p[a, a] * (1 - (row[a] + column[a]) * (1 - kappa)) ** 2 for a in values)
    variance += (1 - kappa) ** 2 * sum(p[a, b] * (column[a] + row[b]) ** 2 for a in values for b in values if a != b)
    variance -= (kappa - chance * (1 - kappa)) ** 2
    return kappa, math.sqrt(max(variance, 0) / n) / (1 - chance)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60),
    st.sampled_from(["correct", "redundant"]),
)
def test_kappa_is_cohens(pairs, of):
    def verdicts(decisions):
        return [as_verdict(d, not d) if of == "correct" else as_verdict(not d, d) for d in decisions]

    first, second = zip(*pairs, strict=True)
    found = agreement(verdicts(first), verdicts(second), of=of)
    assert found.n == len(pairs)
    assert found.share == pytest.approx(np.mean([a == b for a, b in pairs]))
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found.kappa == 0 or (math.isnan(found.kappa) and found.share == 1)
        assert all(map(math.isnan, found.interval))
        return
    kappa, error = naive_kappa(first, second)
    assert found.kappa == pytest.approx(kappa, abs=1e-9)
    low, high = max(-1, kappa - 1.959964 * error), min(1, kappa + 1.959964 * error)
    assert found.interval == pytest.approx((low, high), abs=1e-5)


def test_agreement_in_words():
    found = Agreement(kappa=0.5, interval=(0.25, 0.75), share=0.75, n=200)
    assert str(found) == "kappa 0.50 [0.25, 0.75], 75.0% the same, n = 200"


YES = as_verdict(True, True)


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        (([YES], [YES, YES]), {}, ValueError, "first holds 1 and second 2, but equal numbers above 0 were expected"),
        (([], []), {}, ValueError, "first holds 0 and second 0, but equal numbers above 0 were expected"),
        (([YES], [None]), {}, TypeError, "second[0] is None, but a Verdict was expected"),
        (([True], [YES]), {}, TypeError, "first[0] is True, but a Verdict was expected"),
        (([YES], [YES]), {"of": "kind"}, ValueError, "of is 'kind', but 'correct' or 'redundant' was expected"),
    ],
)
def test_errors_of_agreement(arguments, settings, error, message):
    with pytest.raises(error) as raised:
        agreement(*arguments, **settings)
    assert str(raised.value) == f"agreement: {message}"


# The sample judged by hand


def test_the_sample_judged_by_hand_holds_no_text():
    file = Path(__file__).parents[2] / "book" / "results" / "hand_judged.json"
    rows = json.loads(file.read_text("utf-8"))["rows"]
    sources = Counter((row["source"], min(row["shots"], 1)) for row in rows)
    published = {("gpt-3.5-turbo-0613", 0): 60, ("Llama-2-70b-chat-hf", 0): 60}
    assert sources == published | {("smollm2-135m", 0): 40, ("smollm2-135m", 1): 40}
    assert len({(row["source"], row["index"], row["shots"]) for row in rows}) == 200
    # All were looked at before the plan was made: the other questions stay unseen.
    assert {row["index"] for row in rows} <= {*EXPLORATION_QUESTIONS, *EXPLORATION_EXAMPLES}
    for row in rows:
        assert {name: type(value) for name, value in row.items() if name not in ("source", "sha256", "doubtful")} == {
            "index": int,
            "shots": int,
            "correct": bool,
            "redundant": bool,
        }
        assert row.get("doubtful", True) is True
        assert re.fullmatch("[0-9a-f]{8}", row["sha256"])


def test_the_measured_agreement_is_of_this_judge_and_these_verdicts():
    results = Path(__file__).parents[2] / "book" / "results"
    manifest = json.loads((results / "judges.json").read_text())["manifest"]
    hashes = [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (*map(Path, map(inspect.getsourcefile, (frozen_judge, judge))), results / "hand_judged.json")
    ]
    assert [manifest[f"{name}_sha256"] for name in ("judge", "reading", "hand_judged")] == hashes
