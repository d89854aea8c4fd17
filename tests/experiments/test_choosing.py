"""Choices of examples: what is chosen is what a search of all choices finds, and no answer is looked at."""

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from geolib.dimension import attention_dimension
from geolib.experiments import rises
from geolib.experiments.choosing import alone, at_random, choices, highest, lengths, nearest, of_like_length
from geolib.reasoning import Question, Sweep, build_prompt, choice_of, generate_questions, mean_rises
from geolib.reasoning.prompts import Condition
from geolib.reasoning.published import CHOICES, NEAREST
from tests.tiny import TINY

CANDIDATES = generate_questions(7, seed=8)
QUESTIONS = generate_questions(4, seed=9)


@pytest.fixture(scope="module")
def loaded(embedded):
    """A model that is made in no time, with the real tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(**TINY | {"vocab_size": 49152, "max_position_embeddings": 2048})
    return LlamaForCausalLM(config).eval(), embedded[1]


@pytest.mark.parametrize(("rule", "layer"), [("relative", -2), ("absolute", -1)])
def test_a_rise_is_the_mean_difference_of_prompts_alone(loaded, rule, layer):
    model, tokenizer = loaded

    def count(question, shown, eps):
        ids = torch.tensor([build_prompt(tokenizer, question.text, shown)])
        return attention_dimension(model, ids, eps=eps, rule=rule).per_layer[0, layer, 0]

    found = rises(*loaded, CANDIDATES[:2], QUESTIONS, rule=rule, layer=layer, eps=0.03)
    # A weight on the threshold falls on either side: bracketed by those a hair above and below.
    for place, candidate in enumerate(CANDIDATES[:2]):
        ends = [
            np.mean([count(q, [candidate], 0.03 * hair) - count(q, [], 0.03 / hair) for q in QUESTIONS])
            for hair in (1 + 1e-5, 1 - 1e-5)
        ]
        assert ends[0] <= found[place] <= ends[1]
    assert found[0] != found[1]


def test_no_answer_is_looked_at(loaded):
    wrong = [replace(question, answer=question.answer + 1) for question in QUESTIONS]
    np.testing.assert_array_equal(rises(*loaded, CANDIDATES, wrong), rises(*loaded, CANDIDATES, QUESTIONS))


@pytest.fixture(scope="module")
def rows(loaded):
    model, tokenizer = loaded
    conditions = [Condition(), *alone(CANDIDATES), Condition(examples=CANDIDATES[:2], example_set=10)]
    settings = {"conditions": conditions, "max_new_tokens": 1, "progress": False}
    return Sweep(model=model, tokenizer=tokenizer, questions=QUESTIONS, **settings).run()


def test_rises_from_rows_of_more_conditions(loaded, rows):
    np.testing.assert_array_equal(mean_rises(rows), rises(*loaded, CANDIDATES, QUESTIONS))


def test_every_choice_has_a_name(loaded, rows):
    chosen = choices(rows, lengths(loaded[1], CANDIDATES), 2)
    assert list(chosen) == list(CHOICES)
    assert chosen[10] == highest(mean_rises(rows), 2)
    assert not set(chosen[10]) & set(chosen[13])
    assert len({choice_of(number) for number in [*chosen, NEAREST, 0]}) == len(CHOICES) + 2


def test_lengths_are_what_an_example_adds(loaded):
    bare, *shown = [
        len(build_prompt(loaded[1], QUESTIONS[0].text, condition)) for condition in [Condition(), *alone(CANDIDATES)]
    ]
    found = lengths(loaded[1], CANDIDATES)
    assert np.diff(found).tolist() == np.diff(shown).tolist()
    assert (np.array(shown) > bare).all()


scores = st.lists(st.integers(-5, 5), min_size=1, max_size=8)


@given(scores, st.data())
def test_the_highest(scores, data):
    k = data.draw(st.integers(1, len(scores)))
    chosen = highest(scores, k)
    assert sum(scores[i] for i in chosen) == max(sum(some) for some in combinations(scores, k))
    assert highest([-s for s in scores], k, lowest=True) == chosen
    assert list(chosen) == sorted(set(chosen))


@given(st.lists(st.integers(0, 30), min_size=2, max_size=7), st.data())
def test_of_like_length_is_the_closest_match(lengths, data):
    n = len(lengths)
    chosen = data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=min(3, n // 2)).map(tuple))

    def cost(places):
        return min(
            sum(abs(lengths[a] - lengths[b]) for a, b in zip(chosen, p, strict=True)) for p in permutations(places)
        )

    others = set(range(n)) - set(chosen)
    found = of_like_length(lengths, chosen)
    assert set(found) <= others
    assert cost(found) == min(map(cost, combinations(others, len(chosen))))


def test_random_choices_depend_on_the_seed_alone():
    assert at_random(60, 3, seed=1) == at_random(60, 3, seed=1)
    drawn = [at_random(5, 2, seed=seed) for seed in range(200)]
    assert set(drawn) == set(combinations(range(5), 2))
    assert at_random(4, 4, seed=0) == (0, 1, 2, 3)


def test_the_nearest_are_about_the_same_things():
    candidates = [
        Question(text, 1.0, i) for i, text in enumerate(("Ann buys pens.", "Bo feeds dogs.", "Pens are blue."))
    ]
    asked = [Question("How many pens does Ann have?", 2.0, 9), Question("How many dogs?", 3.0, 10)]
    assert nearest(candidates, asked, 1) == [(0,), (1,)]
    assert nearest(candidates, asked, 2)[0] == (0, 2)
    # Each text is nearest to itself; the answers do not matter.
    assert nearest(candidates, [replace(one, answer=0.0) for one in candidates], 1) == [(0,), (1,), (2,)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: highest([1, 2], 3), "highest: k is 3, but 1 to 2 was expected"),
        (lambda: highest([1, float("nan")], 1), "highest: scores holds nan at (1,), but finite numbers were expected"),
        (lambda: at_random(4, 0, seed=0), "at_random: k is 0, but 1 to 4 was expected"),
        (lambda: nearest(CANDIDATES, QUESTIONS, 8), "nearest: k is 8, but 1 to 7 was expected"),
        (lambda: of_like_length([1, 2, 3], (3,)), "of_like_length: chosen is 3, but 0 to 2 was expected"),
        (
            lambda: of_like_length([1, 2, 3], (0, 1)),
            "of_like_length: chosen holds 2 of 3, but at most half was expected",
        ),
    ],
)
def test_bad_choices(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


def test_each_question_under_its_own_condition(loaded):
    model, tokenizer = loaded
    own = [Condition(examples=[CANDIDATES[i % 2]], example_set=i) for i in range(len(QUESTIONS))]
    settings = {"questions": QUESTIONS, "conditions": own, "max_new_tokens": 3, "progress": False}
    rows = Sweep(model=model, tokenizer=tokenizer, paired=True, **settings).run()
    every = Sweep(model=model, tokenizer=tokenizer, **settings).run()
    assert list(zip(rows.question, rows.example_set, strict=True)) == [(q.index, i) for i, q in enumerate(QUESTIONS)]
    same = every.merge(rows[["question", "example_set"]])
    assert same.response.tolist() == rows.response.tolist()
    for more in ({"only_wrong": True, "conditions": [Condition(), *own[1:]]}, {"conditions": own[:2]}):
        with pytest.raises(ValueError, match=r"^Sweep: paired is True with \d conditions, 4 questions and only_"):
            Sweep(model=model, tokenizer=tokenizer, paired=True, **settings | more)
