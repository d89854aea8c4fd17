"""Sentences held by conditions: said while the data carry them, refused when not, numbers for another's data."""

import numpy as np
import pytest

from geolib.statements import NotCarriedError, compared, holds, is_full, points


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
