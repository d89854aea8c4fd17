"""Sentences held by conditions: said while the data carry them, refused when not, numbers for another's data."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest

from geolib.statements import MARKS, NotCarriedError, VerdictMap, compared, holds, is_full, points


@pytest.fixture(autouse=True)
def _own(monkeypatch):
    monkeypatch.delenv("GEOLIB_RESULTS", raising=False)


def test_a_misspelt_profile_is_none():
    assert [is_full(profile) for profile in ("quick", "full")] == [False, True]
    for profile in ("Full", "ful", "", None, ["full"]):
        with pytest.raises(ValueError, match=r"^is_full: profile is .*, but 'quick' or 'full' was expected$"):
            is_full(profile)


@pytest.mark.parametrize("true", [True, np.True_])
def test_a_sentence_that_is_carried(true):
    said = holds("Three is\n   more.", true, "3, 2")
    assert said._repr_markdown_() == str(said) == "Three is more."
    assert holds("Three is more.", true, "3, 2", shown=False) is None


@pytest.mark.parametrize("shown", [True, False])
def test_a_sentence_that_is_not_carried(shown):
    with pytest.raises(NotCarriedError, match=r"no longer support this sentence: Two is more. \(now: 3, 2\)"):
        holds("Two is more.", np.False_, "3, 2", shown=shown)


@pytest.mark.parametrize("condition", [True, False])
def test_of_other_results_the_numbers_are_shown(monkeypatch, condition):
    monkeypatch.setenv("GEOLIB_RESULTS", "elsewhere")
    assert str(holds("Two is more.", condition, "3, 2")) == "3, 2"
    assert str(holds("Two is more.", condition, "3, 2", shown=False)) == "*With these results: 3, 2.*"
    assert str(holds("Two is more.", True, "3, 2", own=True)) == "Two is more."
    with pytest.raises(NotCarriedError):
        holds("Two is more.", False, "3, 2", own=True)


def test_another_model_in_a_live_chapter():
    assert str(holds("Two is more.", False, "3, 2", own=False)) == "3, 2"


@pytest.mark.parametrize("condition", [None, 1, "yes", np.nan, np.array([True]), 0.5])
def test_conditions_are_true_or_false(condition):
    with pytest.raises(TypeError, match=r"^holds: condition is .*, but True or False was expected"):
        holds("Two is more.", condition, "3, 2")


@pytest.mark.parametrize(("statement", "numbers"), [("", "3"), ("A.", " "), (None, "3"), ("A.", 3)])
def test_sentence_and_numbers_are_texts(statement, numbers):
    with pytest.raises(TypeError, match=r"^holds: statement and numbers are .*, but two texts were expected"):
        holds(statement, True, numbers)


def test_lists_and_tables():
    first = holds("A.", True, "1")
    assert str(points(first, "B.")) == "- A.\n- B."
    table = str(compared("Llama", "Smol", [("x", "rises", first)])).splitlines()
    assert table == ["|  | the paper (Llama) | here (Smol) |", "| --- | --- | --- |", "| x | rises | A. |"]


def test_own_is_true_false_or_none():
    with pytest.raises(TypeError, match=r"^holds: own is 'no', but True or False was expected"):
        holds("Two is more.", True, "3, 2", own="no")


def test_numbers_are_one_line():
    assert str(holds("Two is more.", True, "3,\n 2", own=False)) == "3, 2"


READINGS = pd.DataFrame({
    "claim": ["C1", "C7", "C7"],
    "text": ["affine", "ID & answers", "ID & answers"],
    "reading": ["all", "absolute", "relative"],
    "verdict": ["agrees", "absent", "no estimate"],
    "evidence": ["1e-15", "-0.01 [-0.05, +0.02]", "none"],
})  # fmt: skip


def test_a_map_has_a_line_for_each_claim_and_a_mark_for_each_reading():
    shown = VerdictMap(READINGS)
    (first, second) = re.findall(r"<tr><td>(.*?)</td></tr>", shown._repr_html_())
    assert first.startswith("C1</td><td>affine</td><td><details>")
    assert "ID &amp; answers" in second
    assert re.findall(r'<b class="(\w+)" aria-hidden="true">(\S)</b>', second) == [("absent", "0"), ("no", "n")]
    assert "<small>1 absent, 1 no estimate</small>" in second
    assert "<li>0 absolute: \N{MINUS SIGN}0.01 [\N{MINUS SIGN}0.05, +0.02] (absent)</li>" in second
    assert repr(shown) == "C1 affine: A\nC7 ID & answers: 0n"
    twice = VerdictMap(pd.concat([READINGS, READINGS]))
    assert repr(twice) == f"{shown!r}\n{shown!r}", "a line that comes again is a line of its own"
    assert len(set(MARKS.values())) == len(MARKS)


def test_a_map_holds_its_rows_as_files():
    rows = READINGS.assign(estimate=[np.nan, -0.012345678, 0.5], reading=["all", 'a "rule"; ID < 3', "relative"])
    held = re.findall(r'<a download="claims.(\w+)" href="data:([\w/]+);base64,(\S+)">', VerdictMap(rows)._repr_html_())
    assert [one[:2] for one in held] == [("csv", "text/csv"), ("json", "application/json")]
    csv, json = (base64.b64decode(data) for *_, data in held)
    pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(csv)), rows)
    pd.testing.assert_frame_equal(pd.read_json(io.BytesIO(json)), rows, check_exact=False)


def test_a_map_of_something_else():
    with pytest.raises(ValueError, match=r"^VerdictMap: readings lacks 'reading', but a column of that name"):
        VerdictMap(READINGS.drop(columns="reading"))
    with pytest.raises(ValueError, match=r"^VerdictMap: verdict is 'true', but 'agrees' or 'disagrees' or "):
        VerdictMap(READINGS.assign(verdict="true"))
