"""The split: examples and questions apart, and among those that may be looked at."""

import pytest

from geolib.reasoning import exploration_split, few_shot_sweep, generate_questions
from geolib.reasoning.protocol import EXPLORATION_EXAMPLES, EXPLORATION_QUESTIONS, PROFILES
from geolib.reasoning.questions import Question

LIKE_GSM8K_ZERO = [Question(f"How many are {n}?", float(n), n) for n in range(2978)]


def test_exploration_is_fixed_and_disjoint():
    assert len(set(EXPLORATION_QUESTIONS)) == 128
    assert len(set(EXPLORATION_EXAMPLES)) == 10
    assert not set(EXPLORATION_EXAMPLES) & set(EXPLORATION_QUESTIONS)
    asked, shown = exploration_split(LIKE_GSM8K_ZERO, 48)
    assert tuple(question.index for question in asked) == EXPLORATION_QUESTIONS[:48]
    assert tuple(question.index for question in shown) == EXPLORATION_EXAMPLES


def test_other_questions_are_drawn():
    questions = generate_questions(60, seed=0)
    asked, shown = exploration_split(questions, 40)
    assert (len(asked), len(shown)) == (40, 10)
    assert len({question.index for question in asked + shown}) == 50
    assert exploration_split(questions, 40) == (asked, shown)
    assert exploration_split(questions, 40, seed=1) != (asked, shown)


@pytest.mark.parametrize(
    ("questions", "n", "examples", "message"),
    [
        (LIKE_GSM8K_ZERO, 129, 10, "n_questions is 129, but 1 to 128"),
        (LIKE_GSM8K_ZERO, 0, 10, "n_questions is 0, but 1 to 128"),
        (LIKE_GSM8K_ZERO, 10, 11, "n_examples is 11, but 1 to 10"),
        (LIKE_GSM8K_ZERO[:20], 15, 10, r"n_questions \+ n_examples is 15 \+ 10, but there are 20"),
        (LIKE_GSM8K_ZERO[:20], 0, 10, r"n_questions \+ n_examples is 0 \+ 10"),
    ],
)
def test_too_many(questions, n, examples, message):
    with pytest.raises(ValueError, match=f"^exploration_split: {message}"):
        exploration_split(questions, n, n_examples=examples)


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles(profile, monkeypatch, tmp_path):
    monkeypatch.setenv("GEOLIB_CACHE", str(tmp_path))
    sweep = few_shot_sweep(None, None, LIKE_GSM8K_ZERO, profile=profile, batch_size=3)
    assert len(sweep.questions) == PROFILES[profile]["n_questions"]
    assert sweep.only_wrong
    assert sweep.batch_size == 3
    assert sweep.store.is_relative_to(tmp_path)


def test_no_such_profile():
    with pytest.raises(ValueError, match=r"^few_shot_sweep: profile is 'slow', but one of quick, full was expected"):
        few_shot_sweep(None, None, LIKE_GSM8K_ZERO, profile="slow")
