"""Criteria do not change in silence: each one's words stand, by their hash, in a table of the page of changes."""

import hashlib
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

from geolib.experiments import fresh, predicting
from geolib.reasoning import finding
from geolib.reasoning.claims import CLAIMS, SMALLEST, _judged, _load
from geolib.reasoning.published import own_results

pytestmark = pytest.mark.whole

ROOT = Path(__file__).resolve().parent.parent
LEDGER = ROOT / "book" / "changes.md"
LINE = re.compile(
    r"^\| (?P<name>[^|]+) \| `(?P<words>[0-9a-f]{12})` \| (?P<date>\d{4}-\d\d-\d\d) \| (?P<reason>[^|]+) \|$", re.M
)


def digest(words):
    return hashlib.sha256(" ".join(words.split()).encode()).hexdigest()[:12]


def code(function):
    """A function without its docstring: what it does, however that is explained."""
    source = inspect.getsource(function)
    return source.replace(function.__doc__, "")


@cache
def readings():
    """What is read for each claim in the book's own runs: rule, layer, set, number of examples."""
    load = cache(lambda name: _load(name, own_results()))
    return "\n".join(f"{c.name}, {c.text}: {name}" for c in CLAIMS for name, _ in c.readings(load))


def criteria():
    """Name and words of all that decides what will be said of a result."""
    found = {}
    for source in sorted((ROOT / "notebooks").rglob("*.md")):
        text = source.read_text("utf-8")
        for paragraph in re.findall(r"\*\*What would change our mind.*?(?=\n\n)", text, re.DOTALL):
            found[f"{source.stem}, what would change our mind"] = paragraph
    plans = {"the plan": "plan", "the plan of H3": "plan-sharper", "the plan of H2": "plan-rise"}
    for name, file in (
        plans | {"the plan for predicting": "plan-predict", "the plan for the video model": "plan-video"}
    ).items():
        plan = (ROOT / "book" / f"{file}.md").read_text("utf-8")
        found[f"{name}, up to its list of changes"] = plan.partition("## Changes after the plan")[0]
    found["outcomes of H2 and H3, code"] = code(fresh.said_of_sharper) + code(fresh.said_of_rise)
    found["outcome of predicting, code"] = code(predicting.said)
    appendix = (ROOT / "notebooks" / "appendix" / "reported-and-reproduced.md").read_text("utf-8")
    found["the appendix, rules"] = re.search(r"\*\*The rules\.\*\*.*?(?=\n\n)", appendix, re.DOTALL)[0]
    found["verdicts, code"] = code(finding) + code(_judged)
    found["smallest effects"] = repr(SMALLEST)
    found["readings"] = readings()
    found["claims"] = "\n".join(repr((c.name, c.text, c.reported, c.claimed, c.unit)) for c in CLAIMS)
    return found


def unlisted(found, ledger):
    """Names of criteria whose words are not those of their last line in the ledger."""
    last = {match["name"]: match["words"] for match in LINE.finditer(ledger)}
    return [name for name, words in found.items() if last.get(name) != digest(words)]


def test_every_criterion_is_listed_as_it_stands():
    found = criteria()
    lines = "\n".join(
        f"| {name} | `{digest(found[name])}` | DATE | REASON |" for name in unlisted(found, LEDGER.read_text("utf-8"))
    )
    assert not lines, f"criteria changed; add to the table in book/changes.md, with date and reason:\n{lines}"
    assert len(found) >= 20


def test_lines_are_dated_in_order_and_say_why():
    lines = list(LINE.finditer(LEDGER.read_text("utf-8")))
    dates = [line["date"] for line in lines]
    assert dates == sorted(dates), "new lines go to the end"
    assert {line["name"] for line in lines} == set(criteria())
    assert all(len(line["reason"].split()) >= 3 for line in lines)


@pytest.mark.parametrize(
    "name", ["verdicts, code", "the plan, up to its list of changes", "referee, what would change our mind"]
)
def test_a_change_of_words_is_noticed(name):
    ledger, found = LEDGER.read_text("utf-8"), criteria()
    changed = found | {name: found[name].replace(" not ", " ", 1) + " more"}
    assert unlisted(changed, ledger) == [name]
    entry = f"| {name} | `{digest(changed[name])}` | 2026-12-01 | a reason of words |\n"
    assert unlisted(changed, f"{ledger.rstrip()}\n{entry}") == []
    silent = f"| {name} | `{digest(changed[name])}` | 2026-12-01 |  |\n"
    assert unlisted(changed, f"{ledger.rstrip()}\n{silent}") == [name], "no reason, no entry"


def test_layout_alone_is_no_change():
    assert digest("two  words\n") == digest("two words")


def test_four_changes_of_the_first_round_are_told():
    text = LEDGER.read_text("utf-8")
    assert all(f"`{commit}`" in text for commit in ("ef3b552", "8ad8cab", "e71dd89", "3e1d599"))
