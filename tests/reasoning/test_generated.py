"""Generated questions: the answer stands in the text, once, among other numbers; nothing else varies but the seed."""

import re
from string import Formatter

import numpy as np
import pytest

from geolib.reasoning import build_prompt
from geolib.reasoning.generated import _DATA, _RANGE, _WORDS, generate_questions, mixed_prompts, python_prose
from geolib.reasoning.judge import judge

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def numbers(text):
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


@pytest.fixture(scope="module")
def questions():
    return generate_questions(3000)


def test_answer_stands_in_the_text_once_among_others(questions):
    for question in questions:
        stated = numbers(question.text)
        assert stated.count(question.answer) == 1
        assert len(set(stated) - {question.answer}) >= 2


def test_texts_differ_and_indices_count(questions):
    assert len({question.text for question in questions}) == 3000
    assert [question.index for question in questions] == list(range(3000))


def test_seed_decides(questions):
    assert generate_questions(100) == questions[:100]
    assert generate_questions(100, seed=1) == generate_questions(100, seed=np.int64(1))
    assert generate_questions(100, seed=1) != questions[:100]


def test_global_state_plays_no_part(questions):
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert generate_questions(10) == questions[:10]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_texts_are_whole(questions):
    for question in questions:
        assert question.text.endswith("?")
        assert "  " not in question.text
        assert not set("{}[]\n") & set(question.text)
        assert re.search(r"\b(\w+) \1\b", question.text) is None


def test_nouns_are_plural_because_no_number_is_small(questions):
    assert min(min(numbers(question.text)) for question in questions) > 2


def test_all_templates_and_their_questions_are_drawn(questions):
    assert len(_DATA["stories"]) >= 40
    asked = {question for story in _DATA["stories"] for question in story["questions"].values() if "{" not in question}
    texts = " ".join(question.text for question in questions).lower()
    assert all(question.lower() in texts for question in asked)


def test_templates_are_well_formed():
    for story, asked in map(dict.values, _DATA["stories"]):
        ranges = [(float(low), float(high)) for low, high in _RANGE.findall(story)]
        assert len(ranges) >= 3
        assert all(2 < low < high for low, high in ranges)
        assert not NUMBER.search(_RANGE.sub("", story))
        assert len(asked) >= 2
        for position, question in asked.items():
            assert int(position) < len(ranges)
            assert question[0].isupper()
            assert not NUMBER.search(question)
        for text in (story, *asked.values()):
            assert {field for _, field, _, _ in Formatter().parse(text) if field} <= set(_WORDS)


def test_judge_reads_the_answer_off(questions):
    for question in questions[:200]:
        assert judge(f"It is {question.answer:g}.", question.answer).kind == "extraction"


@pytest.mark.whole
def test_many_more_than_the_default_can_be_made():
    assert len(generate_questions(20_000, seed=2)) == 20_000


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "generate_questions: n is 0, but at least 1 was expected"),
        ({"n": 2.0}, TypeError, "generate_questions: n is 2.0, but an integer was expected"),
        ({"n": True}, TypeError, "generate_questions: n is True, but an integer was expected"),
        ({"n": 3, "seed": -1}, ValueError, "generate_questions: seed is -1, but at least 0 was expected"),
        ({"n": 3, "seed": None}, TypeError, "generate_questions: seed is None, but an integer was expected"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error) as raised:
        generate_questions(**arguments)
    assert str(raised.value) == message


def test_mixed_prompts_are_problems_and_pieces_of_prose(embedded):
    tokenizer = embedded[1]
    prose = tokenizer(python_prose()).input_ids
    prompts = mixed_prompts(tokenizer, 3, size=50)
    assert prompts[:3] == [build_prompt(tokenizer, one.text) for one in generate_questions(3, seed=3)]
    assert prompts[3] == prose[:50]
    assert prompts[5] == prose[-50:]
    assert mixed_prompts(tokenizer, 1, size=len(prose))[1] == prose
    for size in (0, len(prose) + 1):
        with pytest.raises(ValueError, match=f"^mixed_prompts: size is {size}, but "):
            mixed_prompts(tokenizer, 3, size=size)
