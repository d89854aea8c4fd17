"""Prompts as token ids: what stands before a question and after it, whatever fills the places of the examples.

A prompt is ``before + question_ids + after``. The question is tokenised by itself, so that its tokens are the same in
every condition, but for the space that some tokenizers put before a text at the start or behind a mark; the first k
examples' tokens begin the prompt of k + 1 as well.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geolib.checks import one_line, whole_text
from geolib.dimension.texts import SLOT, place, render, template_ids, text_ids
from geolib.reasoning.questions import Question

KINDS = ("examples", "random", "shuffled", "prose")
# A space or line break, as byte-level and SentencePiece tokenizers write it.
_STARTS_A_WORD = ("Ġ", "▁", "Ċ", " ", "\n")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a question is asked under.

    Attributes
    ----------
    kind : {"examples", "random", "shuffled", "prose"}
        What fills the places of the examples' questions and replies, token for token: they themselves; ordinary tokens
        drawn at random (figure 7 of arXiv 2407.02678); each example's own words in another order; or one running text
        about a river. Only ``"examples"`` helps; the others keep the length and the turns of the dialog.
    examples : sequence of Question
        Shown in this order, each with the reply "The answer is N."
    worked : bool
        Whether replies begin with the example's ``steps``.
    lead, hint : str
        A line before the question and a line after it, in the same turn. Examples have neither.
    example_set : int
        Which of several sets the examples are: a label, and part of what random tokens are drawn from.
    seed : int
        Of ``"random"`` and ``"shuffled"``.

    Raises
    ------
    TypeError, ValueError
        An attribute of another kind; worked examples without steps.
    """

    kind: str = "examples"
    examples: Sequence[Question] = ()
    worked: bool = False
    lead: str = ""
    hint: str = ""
    example_set: int = 0
    seed: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"Condition: kind is {self.kind!r}, but one of {', '.join(KINDS)} was expected")
        if not isinstance(self.examples, Sequence) or not all(isinstance(e, Question) for e in self.examples):
            raise TypeError("Condition: examples is not a sequence of Question")
        object.__setattr__(self, "examples", tuple(self.examples))
        for name in ("lead", "hint"):
            line = getattr(self, name)
            if not isinstance(line, str):
                raise TypeError(f"Condition: {name} is a {type(line).__name__}, but text was expected")
            if line != " ".join(line.split()):
                raise ValueError(f"Condition: {name} is {line!r}, but one line without outer spaces was expected")
            whole_text(f"Condition: {name}", line)
        for name in ("example_set", "seed"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, Integral) or number < 0:
                raise ValueError(f"Condition: {name} is {number!r}, but a whole number from 0 on was expected")
        if self.worked and not all(example.steps.strip() for example in self.examples):
            raise ValueError("Condition: worked is True, but not every example has steps")

    @property
    def shots(self) -> int:
        """Number of examples."""
        return len(self.examples)

    @property
    def name(self) -> str:
        """Short name for rows and figures: the kind, "worked" for worked examples, and what is added to it.

        >>> Condition().name, Condition(kind="random", worked=True).name, Condition(hint="Think.").name
        ('examples', 'random worked', 'examples, hint')
        """
        kind = self.kind if not self.worked else "worked" if self.kind == "examples" else f"{self.kind} worked"
        return kind + ", lead" * bool(self.lead) + ", hint" * bool(self.hint)


class Frame(NamedTuple):
    """Token ids around a question."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def build_prompt(tokenizer, question: str, examples: Sequence[Question] | Condition = ()) -> list[int]:
    """Token ids of ``question`` after ``examples`` (section 3 of arXiv 2407.02678: k fixed question-answer pairs).

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        With a chat template, examples become earlier turns; without one, plain question-and-answer text.
    question : str
        What to ask.
    examples : sequence of Question, or Condition
        Shown first, each with the reply "The answer is N."

    Returns
    -------
    list of int

    Raises
    ------
    ValueError
        The question is empty.
    """
    question = _text("build_prompt: question", question)
    condition = examples if isinstance(examples, Condition) else Condition(examples=examples)
    (before, after), where = frame_and_place(tokenizer, condition)
    return [*before, *slot_ids(tokenizer, question, where), *after]


def question_ids(tokenizer, text: str) -> list[int]:
    """Tokens of a question by itself, without outer white space; a special token written in it is mere text.

    Plain text has a space before every question, so without a chat template it is tokenised with that space; so it is
    where the chat template has one.
    """
    return slot_ids(tokenizer, text, _place_of_question(tokenizer))


def _place_of_question(tokenizer) -> str:
    """Where a bare question stands in its prompt."""
    chat = tokenizer.chat_template
    return place(tokenizer, _dialog(tokenizer, (), "", SLOT, "").split(SLOT)[0]) if chat else "inside"


def slot_ids(tokenizer, text: str, where: str) -> list[int]:
    """Tokens of a text by itself, as they are in a place of a prompt."""
    text = _text("question_ids: text", text)
    ids = _text_ids(tokenizer, text if tokenizer.chat_template else f" {text}", where)
    if not ids:  # of bytes that are not in its vocabulary some tokenizers make nothing
        raise ValueError(f"question_ids: text is {one_line(text)}, of which the tokenizer makes no token")
    return ids


def frame(tokenizer, condition: Condition) -> Frame:
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
        A chat template that fails, or drops, repeats or alters what it is given, or one in which the tokens of the
        question depend on the condition, since the tokenizer puts a space before some places. One that prints today's
        date gets 26 July 2024, so that a prompt stays the same.
    """
    if not isinstance(condition, Condition):
        raise TypeError(f"frame: condition is a {type(condition).__name__}, but a Condition was expected")
    found, asked = frame_and_place(tokenizer, condition)
    bare = _place_of_question(tokenizer)
    if asked != bare and _text_ids(tokenizer, "a", asked) != _text_ids(tokenizer, "a", bare):
        raise ValueError(
            f"frame: condition is {condition.name!r} with {condition.shots} examples, where the tokenizer makes other "
            "tokens of a question than without; expected a condition that leaves them"
        )
    return found


def frame_and_place(tokenizer, condition: Condition) -> tuple[Frame, str]:
    """Tokens around the question, and the place where it stands, for :func:`slot_ids`."""
    # The dialog is rendered with a name in each slot, and taken apart again at the names.
    shown = [f"slot{i:05}" for i in range(2 * condition.shots)]
    slots = [*shown, *["slotlead"] * bool(condition.lead), "slotquestion", *["slothint"] * bool(condition.hint)]
    lead, hint = "slotlead\n" * bool(condition.lead), "\nslothint" * bool(condition.hint)
    text = (_dialog if tokenizer.chat_template else _plain)(tokenizer, shown, lead, "slotquestion", hint)
    parts = re.split(f"({'|'.join(slots)})", text)
    if parts[1::2] != slots:
        raise ValueError("frame: the tokenizer's chat template does not keep the text of every turn, once and in order")
    ids = [None] * len(parts)
    ids[::2] = template_ids("frame", tokenizer, parts[::2])
    places = [place(tokenizer, part) for part in parts[:-1:2]]
    ids[1::2] = _fill(tokenizer, condition, places) + [None] * (len(slots) - len(shown))
    question = parts.index("slotquestion")
    for text, at in [(condition.lead, question - 2)] * bool(lead) + [(condition.hint, question + 2)] * bool(hint):
        ids[at] = _text_ids(tokenizer, text, places[at // 2])
    return Frame(tuple(chain(*ids[:question])), tuple(chain(*ids[question + 1 :]))), places[question // 2]


def reply(answer: float) -> str:
    """Write the reply that an example gives.

    >>> reply(48.0), reply(0.5)
    ('The answer is 48.', 'The answer is 0.5.')
    """
    number = int(answer) if float(answer).is_integer() else answer
    return f"The answer is {number}."


def _text(name: str, value) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is a {type(value).__name__}, but text was expected")
    if not value.strip():
        raise ValueError(f"{name} is {value!r}, but text was expected")
    return whole_text(name, value).strip()


def _text_ids(tokenizer, text: str, where: str = "inside") -> list[int]:
    return text_ids("question_ids", tokenizer, [text], place=where)[0]


def _dialog(tokenizer, shown, lead, question, hint):
    """Text of the chat template."""
    turns = [
        {"role": ("user", "assistant")[i % 2], "content": text}
        for i, text in enumerate([*shown, lead + question + hint])
    ]
    return render("frame", tokenizer, turns)


def _plain(tokenizer, shown, lead, question, hint):
    """Plain text for base models; each slot brings the space before it."""
    start = tokenizer.bos_token if tokenizer("").input_ids[:1] == [tokenizer.bos_token_id] else ""
    pairs = "".join(f"Question:{q}\nAnswer:{a}\n\n" for q, a in zip(shown[::2], shown[1::2], strict=True))
    return f"{start}{pairs}{lead}Question:{question}{hint}\nAnswer:"


# What fills the slots of the examples.


def _fill(tokenizer, condition: Condition, places: Sequence[str]) -> list[list[int]]:
    """Tokens of each example's question and reply, or of what takes their places."""
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
        # A generator for each example: more examples change nothing about the earlier ones.
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
    """Consecutive parts of a running text that starts over at its end."""
    text = tokens * (sum(lengths) // len(tokens) + 1)
    ends = np.cumsum([0, *lengths])
    return [text[start:end] for start, end in pairwise(ends)]


def _words(tokenizer, ids: list[int]) -> list[list[int]]:
    """Tokens grouped: a group starts where a space or a line does."""
    words = []
    for token, text in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        if not words or text.startswith(_STARTS_A_WORD):
            words.append([])
        words[-1].append(token)
    return words


def _ordinary(tokenizer) -> list[int]:
    """Ids of the vocabulary, without special tokens and others added to it."""
    return sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder))


@cache
def _prose() -> str:
    """Read the running text of "prose", as one line."""
    return " ".join(Path(__file__).with_name("prose.txt").read_text("utf-8").split())
