"""Prompts as token ids: a question, after any number of worked examples."""

from collections.abc import Sequence

from geolib.reasoning.questions import Question

_PLAIN = "Question: {}\nAnswer:"  # for base models, whose tokenizers have no chat template


def build_prompt(tokenizer, question: str, examples: Sequence[Question] = ()) -> list[int]:
    """Token ids of ``question`` after ``examples`` (section 3 of arXiv 2407.02678: k fixed question-answer pairs).

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        With a chat template, examples become earlier turns; without one, plain question-and-answer text.
    question : str
        What to ask.
    examples : sequence of Question
        Shown first, each with the reply "The answer is N."

    Returns
    -------
    list of int

    Raises
    ------
    ValueError
        The question is empty.
    """
    if not isinstance(question, str):
        raise TypeError(f"build_prompt: question is a {type(question).__name__}, but text was expected")
    if not question.strip():
        raise ValueError(f"build_prompt: question is {question!r}, but text was expected")
    if tokenizer.chat_template:
        turns = []
        for example in examples:
            turns += [
                {"role": "user", "content": example.text},
                {"role": "assistant", "content": reply(example.answer)},
            ]
        turns.append({"role": "user", "content": question})
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return tokenizer(text, add_special_tokens=False).input_ids
    shown = [f"{_PLAIN.format(example.text)} {reply(example.answer)}" for example in examples]
    return tokenizer("\n\n".join([*shown, _PLAIN.format(question)])).input_ids


def reply(answer: float) -> str:
    """Write the reply that an example gives.

    >>> reply(48.0), reply(0.5)
    ('The answer is 48.', 'The answer is 0.5.')
    """
    number = int(answer) if float(answer).is_integer() else answer
    return f"The answer is {number}."
