"""Prompts: nested, ending in the same question, special tokens only where the template puts them."""

import pytest

from geolib.reasoning import Question, build_prompt, generate_questions
from geolib.reasoning.prompts import reply

EXAMPLES = generate_questions(4, seed=1)


def test_with_a_chat_template(tokenizer):
    text = tokenizer.decode(build_prompt(tokenizer, "How many?", EXAMPLES[:1]))
    expected = (
        f"<|im_start|>user\n{EXAMPLES[0].text}<|im_end|>\n"
        f"<|im_start|>assistant\n{reply(EXAMPLES[0].answer)}<|im_end|>\n"
        "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert text.endswith(expected)


def test_every_prompt_ends_in_the_same_tokens(tokenizer):
    bare = build_prompt(tokenizer, "How many pears are left?")
    system = bare.index(tokenizer.eos_token_id) + 2
    turn = bare[system:]
    for shots in range(1, 5):
        assert build_prompt(tokenizer, "How many pears are left?", EXAMPLES[:shots])[-len(turn) :] == turn


def test_fewer_examples_are_a_prefix(tokenizer):
    first = build_prompt(tokenizer, "How many?", EXAMPLES[:2])
    more = build_prompt(tokenizer, "How many?", EXAMPLES[:4])
    shared = next(i for i, (a, b) in enumerate(zip(first, more, strict=False)) if a != b)
    assert EXAMPLES[1].text in tokenizer.decode(more[:shared])


def test_without_a_template(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    text = tokenizer.decode(build_prompt(tokenizer, "How many?", [Question("Two and two?", 4.0, 0)]))
    assert text == "Question: Two and two?\nAnswer: The answer is 4.\n\nQuestion: How many?\nAnswer:"


@pytest.mark.parametrize(("question", "error"), [("", ValueError), ("  \n", ValueError), (None, TypeError)])
def test_no_question(tokenizer, question, error):
    with pytest.raises(error, match=r"^build_prompt: question is"):
        build_prompt(tokenizer, question)
