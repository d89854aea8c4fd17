"""The split: examples and questions apart, and among those that may be looked at."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from geolib.reasoning import (
    Condition,
    example_sets,
    exploration_split,
    few_shot_sweep,
    frame,
    generate_questions,
    load_questions,
    split,
    worked_examples,
)
from geolib.reasoning.protocol import (
    EXAMPLE_POOL,
    EXPLORATION_EXAMPLES,
    EXPLORATION_QUESTIONS,
    PROFILES,
    sentences,
)
from geolib.reasoning.questions import Question

LIKE_GSM8K_ZERO = [Question(f"How many are {n}?", float(n), n) for n in range(2978)]


DATA = Path(os.environ.get("GEOLIB_DATA") or Path(__file__).parents[3] / "shared" / "data")
needs_data = pytest.mark.skipif(
    not all((DATA / name).exists() for name in ("gsm8k_zero.jsonl", "gsm8k_train.jsonl")), reason=f"no data in {DATA}"
)


def lists(parts):
    return [parts.exploration, parts.exploration_examples, parts.pool, parts.evaluation, parts.repeated]


def test_every_question_has_one_purpose():
    parts = split(LIKE_GSM8K_ZERO)
    assert sorted(q.index for part in lists(parts) for q in part) == list(range(2978))
    assert [len(part) for part in lists(parts)] == [128, 10, 60, 2780, 0]
    assert tuple(q.index for q in parts.exploration) == EXPLORATION_QUESTIONS
    assert tuple(q.index for q in parts.exploration_examples) == EXPLORATION_EXAMPLES
    assert tuple(q.index for q in parts.pool) == EXAMPLE_POOL
    assert split(LIKE_GSM8K_ZERO) == parts


def test_the_split_goes_by_lines_not_by_order():
    parts, turned = split(LIKE_GSM8K_ZERO), split(LIKE_GSM8K_ZERO[::-1])
    assert turned.evaluation == parts.evaluation[::-1]
    assert lists(turned)[:3] == lists(parts)[:3]
    assert exploration_split(LIKE_GSM8K_ZERO[::-1], 48) == exploration_split(LIKE_GSM8K_ZERO, 48)


@pytest.mark.parametrize("known", [EXPLORATION_QUESTIONS[3], EXPLORATION_EXAMPLES[3], EXAMPLE_POOL[3], 1])
def test_a_text_that_was_seen_is_not_asked_again(known):
    """Wherever the other copy stands: before or after."""
    for copy in (3, 2970):
        questions = list(LIKE_GSM8K_ZERO)
        questions[copy] = replace(questions[known], index=copy)
        parts = split(questions)
        assert [q.index for q in parts.repeated] == [max(copy, known) if known == 1 else copy]
        assert len({q.text for part in lists(parts)[:4] for q in part}) == 2977


def test_a_file_of_ones_own_is_split_too():
    questions = generate_questions(400, seed=3)
    parts = split(questions)
    assert [len(part) for part in lists(parts)] == [0, 0, 60, 340, 0]
    assert sorted(parts.pool + parts.evaluation, key=lambda q: q.index) == questions
    assert split(questions) == parts
    assert [len(part) for part in lists(split(questions[:3]))] == [0, 0, 0, 3, 0]
    # As many lines as GSM8K-Zero has, but not its lines.
    shifted = [replace(question, index=question.index + 1) for question in LIKE_GSM8K_ZERO]
    assert split(shifted).exploration == []


def test_no_questions():
    with pytest.raises(ValueError, match=r"^split: questions is empty, but at least one was expected$"):
        split([])


def test_example_sets_are_disjoint_and_from_the_pool():
    sets = example_sets(LIKE_GSM8K_ZERO)
    assert [len(shown) for shown in sets] == [10, 10, 10]
    drawn = [question.index for shown in sets for question in shown]
    assert len(set(drawn)) == 30
    assert set(drawn) <= set(EXAMPLE_POOL)
    assert example_sets(LIKE_GSM8K_ZERO, 6)[:3] == sets
    assert example_sets(LIKE_GSM8K_ZERO, seed=1) != sets
    own = generate_questions(100, seed=3)
    assert {question for shown in example_sets(own, 2) for question in shown} == set(split(own).pool)


@pytest.mark.parametrize(("n_sets", "k"), [(7, 10), (1, 61), (0, 10), (3, 0), (-1, -1)])
def test_too_many_sets(n_sets, k):
    with pytest.raises(ValueError) as raised:
        example_sets(LIKE_GSM8K_ZERO, n_sets, k)
    assert str(raised.value) == f"example_sets: n_sets * k is {n_sets} * {k}, but 1 to 60 examples were expected"


TRAIN = [
    Question("Ann has 2 pens. She buys 3. How many has she?", 5.0, 0, "2+3=5"),
    Question("Bob has 2 pens. He buys 3. How many has he?", 5.0, 1, "2+3=5"),
    Question("Cy has 2 pens. He sells them. How many has he left?", 0.0, 2, "2-2=0"),
    Question("Dee has 2 pens. She eats them. Is she well?", 0.0, 3),
    Question("Eve has 2 pens. " * 20 + "How many?", 2.0, 4, "2"),
    Question("Flo has 2 pens. How many?", 2.0, 5, "2 " * 101),
    Question("Gus walks. How far?", 2.0, 6, "2"),
]


def test_worked_examples_are_short_and_about_other_stories():
    asked = [Question("ANN has  2 pens.  How many does she have?", 2.0, 0)]
    drawn = worked_examples(TRAIN, asked, 3)
    assert sorted(question.index for question in drawn) == [1, 2, 6]
    assert worked_examples(TRAIN, asked, 2) == drawn[:2]
    assert {worked_examples(TRAIN, asked, 1, seed=seed) for seed in range(20)} == {(question,) for question in drawn}
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"^worked_examples: k is {k}, but 1 to 3 was expected$"):
            worked_examples(TRAIN, asked, k)


# Facts about the two files that the split and its documentation rest on; only texts are compared.


@pytest.fixture(scope="module")
def zero():
    return load_questions(DATA / "gsm8k_zero.jsonl")


@pytest.fixture(scope="module")
def train():
    return load_questions(DATA / "gsm8k_train.jsonl", source="gsm8k-train")


@needs_data
def test_gsm8k_zero_repeats_itself(zero):
    parts = split(zero)
    assert [len(part) for part in lists(parts)] == [128, 10, 60, 2756, 24]
    assert len({q.text for part in lists(parts)[:4] for q in part}) == 2978 - 24


@needs_data
def test_the_pool_is_drawn_from_stories_of_its_own(zero):
    count = Counter(sentence for question in zero for sentence in sentences(question.text))
    seen = {*EXPLORATION_QUESTIONS, *EXPLORATION_EXAMPLES}
    alone = [
        question.index
        for question in zero
        if question.index not in seen and all(count[sentence] == 1 for sentence in sentences(question.text))
    ]
    assert len(alone) == 2685
    assert set(EXAMPLE_POOL) <= set(alone)


@needs_data
def test_stories_come_from_the_training_questions(zero, train):
    told = [sentences(question.text) for question in train]
    asked = [sentences(question.text) for question in zero]
    everything = set().union(*told)
    assert all(story & everything for story in asked)
    everything = set().union(*asked)
    assert sum(bool(story & everything) for story in told) == 3032


@needs_data
def test_ten_worked_examples_are_short(zero, train, tokenizer):
    drawn = worked_examples(train, zero)
    asked = set().union(*(sentences(question.text) for question in zero))
    assert not any(sentences(question.text) & asked for question in drawn)
    before, _ = frame(tokenizer, Condition(examples=drawn, worked=True))
    assert len(before) < 1600


def test_exploration_is_fixed_and_disjoint():
    assert len(set(EXPLORATION_QUESTIONS)) == 128
    assert len(set(EXPLORATION_EXAMPLES)) == 10
    assert not set(EXPLORATION_EXAMPLES) & set(EXPLORATION_QUESTIONS)
    asked, shown = exploration_split(LIKE_GSM8K_ZERO, 48)
    assert tuple(question.index for question in asked) == EXPLORATION_QUESTIONS[:48]
    assert tuple(question.index for question in shown) == EXPLORATION_EXAMPLES
    assert exploration_split(LIKE_GSM8K_ZERO, 48, n_examples=0) == (asked, [])


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
        (LIKE_GSM8K_ZERO, 10, 11, "n_examples is 11, but 0 to 10"),
        (LIKE_GSM8K_ZERO[:20], 15, 10, r"n_questions \+ n_examples is 15 \+ 10, but at most 20, the number"),
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
    for profile in ("slow", "Full", None, ["full"]):
        with pytest.raises(ValueError, match=r"^few_shot_sweep: profile is .*, but 'quick' or 'full' was expected"):
            few_shot_sweep(None, None, LIKE_GSM8K_ZERO, profile=profile)
