"""Prompts as token ids: the tokens before a question and after it, for all conditions.

A prompt is ``before + question_ids + after``. The question is tokenised by itself, so that its tokens are the same in
every condition (except for a space that some tokenizers insert before a text at the start or after a special token).
The prompt with k + 1 examples begins with the tokens of the first k examples.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from geolib.checks import choice, integer, one_line, whole_text
from geolib.dimension.texts import SLOT, place, render, template_ids, text_ids
from geolib.reasoning.questions import Question
from geolib.typing import Tokenizer

KINDS = ("examples", "random", "shuffled", "prose")
# A space or line break, as byte-level and SentencePiece tokenizers write them.
_STARTS_A_WORD = ("Ġ", "▁", "Ċ", " ", "\n")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What surrounds a question in its prompt.

    Attributes
    ----------
    kind : {"examples", "random", "shuffled", "prose"}
        What fills the places of the examples' questions and replies, with the same number of tokens: the examples;
        ordinary tokens drawn at random (figure 7 of arXiv 2407.02678); the words of each example in another order; or
        a prose text about a river. Only ``"examples"`` has information for the answer; the others keep the length and
        the turns of the dialog.
    examples : sequence of Question
        Shown in this order, each with the reply "The answer is N."
    worked : bool
        Whether replies begin with the example's ``steps``.
    lead, hint : str
        A line before the question and a line after it, in the same turn. Examples have neither.
    example_set : int
        Number of the set of examples: a label, and part of the seed of random tokens.
    seed : int
        Seed of ``"random"`` and ``"shuffled"``.

    Raises
    ------
    TypeError, ValueError
        An attribute has another type or value; or ``worked`` examples lack steps.
    """

    kind: str = "examples"
    examples: Sequence[Question] = ()
    worked: bool = False
    lead: str = ""
    hint: str = ""
    example_set: int = 0
    seed: int = 0

    def __post_init__(self):
        choice("Condition: kind", self.kind, *KINDS)
        if not isinstance(self.examples, Sequence) or not all(isinstance(e, Question) for e in self.examples):
            raise TypeError(
                f"Condition: examples is {one_line(self.examples)}, but a sequence of Question was expected"
            )
        object.__setattr__(self, "examples", tuple(self.examples))
        for name in ("lead", "hint"):
            line = getattr(self, name)
            if not isinstance(line, str):
                raise TypeError(f"Condition: {name} is a {type(line).__name__}, but text was expected")
            if line != " ".join(line.split()):
                raise ValueError(f"Condition: {name} is {line!r}, but one line without outer spaces was expected")
            whole_text(f"Condition: {name}", line)
        for name in ("example_set", "seed"):
            integer(f"Condition: {name}", getattr(self, name), 0)
        if self.worked and not all(example.steps.strip() for example in self.examples):
            raise ValueError("Condition: worked is True, but examples with steps were expected")

    @property
    def shots(self) -> int:
        """Number of examples."""
        return len(self.examples)

    @property
    def name(self) -> str:
        """Short name for rows and figures: the kind ("worked" for worked examples), with ", lead" or ", hint" if given.

        >>> Condition().name, Condition(kind="random", worked=True).name, Condition(hint="Think.").name
        ('examples', 'random worked', 'examples, hint')
        """
        kind = self.kind if not self.worked else "worked" if self.kind == "examples" else f"{self.kind} worked"
        return kind + ", lead" * bool(self.lead) + ", hint" * bool(self.hint)


class Frame(NamedTuple):
    """Token ids around a question: those before it, and those after it."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def build_prompt(tokenizer: Tokenizer, question: str, examples: Sequence[Question] | Condition = ()) -> list[int]:
    """Token ids of ``question`` after ``examples`` (section 3 of arXiv 2407.02678: k fixed question-answer pairs).

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        With a chat template, examples become earlier turns; without one, plain question-and-answer text.
    question : str
        The question.
    examples : sequence of Question, or Condition
        Shown first, each with the reply "The answer is N."

    Returns
    -------
    list of int
        Token ids.

    Raises
    ------
    ValueError
        The question is empty.
    """
    question = _text("build_prompt: question", question)
    condition = examples if isinstance(examples, Condition) else Condition(examples=examples)
    (before, after), where = frame_and_place(tokenizer, condition)
    return [*before, *slot_ids(tokenizer, question, where), *after]


def question_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a question by itself, without outer white space; a special token in it is treated as plain text.

    Plain text has a space before every question, so without a chat template the question is tokenised with that space,
    and likewise if the chat template has a space there.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    text : str

    Returns
    -------
    list of int

    Raises
    ------
    ValueError, TypeError
        ``text`` is empty or not a text, or the tokenizer makes no token of it.
    """
    return slot_ids(tokenizer, text, _place_of_question(tokenizer))


def _place_of_question(tokenizer: Tokenizer) -> str:
    """Place of a question without examples in its prompt."""
    chat = tokenizer.chat_template
    return place(tokenizer, _dialog(tokenizer, (), "", SLOT, "").split(SLOT)[0]) if chat else "inside"


def slot_ids(tokenizer: Tokenizer, text: str, where: str) -> list[int]:
    """Token ids of a text by itself, as they are at a place of a prompt."""
    text = _text("question_ids: text", text)
    ids = _text_ids(tokenizer, text if tokenizer.chat_template else f" {text}", where)
    if not ids:  # some tokenizers make no token of bytes that are not in their vocabulary
        raise ValueError(f"question_ids: text is {one_line(text)}, but text that the tokenizer knows was expected")
    return ids


def frame(tokenizer: Tokenizer, condition: Condition) -> Frame:
    """Token ids before and after the question.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        As for :func:`build_prompt`.
    condition : Condition

    Returns
    -------
    Frame

    Raises
    ------
    ValueError
        The chat template fails, or drops, repeats or changes the texts that it is given; or the tokens of the question
        depend on the condition, because the tokenizer inserts a space at some places.

    Notes
    -----
    A template that prints today's date gets 26 July 2024, so that a prompt stays the same.
    """
    if not isinstance(condition, Condition):
        raise TypeError(f"frame: condition is a {type(condition).__name__}, but a Condition was expected")
    found, asked = frame_and_place(tokenizer, condition)
    bare = _place_of_question(tokenizer)
    if asked != bare and _text_ids(tokenizer, "a", asked) != _text_ids(tokenizer, "a", bare):
        raise ValueError(
            f"frame: condition is {condition.name!r} with {condition.shots} examples, but a condition in which a "
            "question has the same tokens as without examples was expected"
        )
    return found


def frame_and_place(tokenizer: Any, condition: Condition) -> tuple[Frame, str]:
    """Token ids around the question, and the place of the question, for :func:`slot_ids`."""
    # The dialog is rendered with a unique name in each slot, and split at the names.
    shown = [f"slot{i:05}" for i in range(2 * condition.shots)]
    slots = [*shown, *["slotlead"] * bool(condition.lead), "slotquestion", *["slothint"] * bool(condition.hint)]
    lead, hint = "slotlead\n" * bool(condition.lead), "\nslothint" * bool(condition.hint)
    text = (_dialog if tokenizer.chat_template else _plain)(tokenizer, shown, lead, "slotquestion", hint)
    parts = re.split(f"({'|'.join(slots)})", text)
    if parts[1::2] != slots:
        raise ValueError("frame: the chat template changes the turns, but each, once and in order, was expected")
    ids: list[Any] = [None] * len(parts)
    ids[::2] = template_ids("frame", tokenizer, parts[::2])
    places = [place(tokenizer, part) for part in parts[:-1:2]]
    ids[1::2] = _fill(tokenizer, condition, places) + [None] * (len(slots) - len(shown))
    question = parts.index("slotquestion")
    for text, at in [(condition.lead, question - 2)] * bool(lead) + [(condition.hint, question + 2)] * bool(hint):
        ids[at] = _text_ids(tokenizer, text, places[at // 2])
    return Frame(tuple(chain(*ids[:question])), tuple(chain(*ids[question + 1 :]))), places[question // 2]


def reply(answer: float) -> str:
    """Reply of an example, with its answer.

    >>> reply(48.0), reply(0.5)
    ('The answer is 48.', 'The answer is 0.5.')
    """
    number = int(answer) if float(answer).is_integer() else answer
    return f"The answer is {number}."


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is a {type(value).__name__}, but text was expected")
    if not value.strip():
        raise ValueError(f"{name} is {value!r}, but text was expected")
    return whole_text(name, value).strip()


def _text_ids(tokenizer: Tokenizer, text: str, where: str = "inside") -> list[int]:
    return text_ids("question_ids", tokenizer, [text], place=where)[0]


def _dialog(tokenizer, shown, lead, question, hint):
    """Text of the dialog, as the chat template writes it."""
    said = [*shown, lead + question + hint]
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    return render("frame", tokenizer, turns)


def _plain(tokenizer, shown, lead, question, hint):
    """Text of the dialog for base models; the text of each slot begins with a space."""
    start = tokenizer.bos_token if tokenizer("").input_ids[:1] == [tokenizer.bos_token_id] else ""
    pairs = "".join(f"Question:{q}\nAnswer:{a}\n\n" for q, a in zip(shown[::2], shown[1::2], strict=True))
    return f"{start}{pairs}{lead}Question:{question}{hint}\nAnswer:"


# The contents of the slots of the examples.


def _fill(tokenizer: Tokenizer, condition: Condition, places: Sequence[str]) -> list[list[int]]:
    """Token ids of each example's question and reply, or of their replacements."""
    said = []
    for example in condition.examples:
        said += [example.text, f"{example.steps.strip()}\n" * condition.worked + reply(example.answer)]
    slots = [slot_ids(tokenizer, text, places[i]) for i, text in enumerate(said)]
    if condition.kind == "examples":
        return slots
    if condition.kind == "prose":
        return _cut(_text_ids(tokenizer, _prose()), [len(slot) for slot in slots])
    filled = []
    ordinary = _ordinary(tokenizer) if condition.kind == "random" else None
    for i in range(condition.shots):
        # Each example has its own generator, so that more examples do not change the earlier ones.
        rng = np.random.default_rng([condition.seed, condition.example_set, i])
        pair = slots[2 * i : 2 * i + 2]
        if ordinary is not None:
            tokens = rng.choice(ordinary, size=sum(map(len, pair))).tolist()
        else:
            words = [word for slot in pair for word in _words(tokenizer, slot)]
            tokens = [token for place in rng.permutation(len(words)) for token in words[place]]
        filled += _cut(tokens, [len(slot) for slot in pair])
    return filled


def _cut(tokens: list[int], lengths: list[int]) -> list[list[int]]:
    """Consecutive parts, of these lengths, of a text that is repeated when it ends."""
    text = tokens * (sum(lengths) // len(tokens) + 1)
    ends = np.cumsum([0, *lengths])
    return [text[start:end] for start, end in pairwise(ends)]


def _words(tokenizer: Tokenizer, ids: list[int]) -> list[list[int]]:
    """Group tokens into words: a group starts at a space or a line break."""
    words = []
    for token, text in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        if not words or text.startswith(_STARTS_A_WORD):
            words.append([])
        words[-1].append(token)
    return words


def _ordinary(tokenizer: Any) -> list[int]:
    """Ids of the vocabulary, without special tokens and other added tokens."""
    return sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder))


@cache
def _prose() -> str:
    """Read the text of the kind "prose", as one line."""
    return " ".join(Path(__file__).with_name("prose.txt").read_text("utf-8").split())
