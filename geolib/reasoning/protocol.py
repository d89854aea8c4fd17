"""The paper's protocol, and the roles of the questions: explored before, shown as examples, or asked in the test."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geolib.checks import choice
from geolib.models import cache_dir
from geolib.reasoning.questions import Question
from geolib.typing import Model, Tokenizer

if TYPE_CHECKING:  # it imports torch, which nothing else here needs
    from geolib.reasoning.sweep import Sweep

# Line indices of GSM8K-Zero that were looked at while the hypothesis of Part III was formed. Everything exploratory
# (the quick profile above all) stays among them, so that all other questions are fresh when it is tested.
# fmt: off
EXPLORATION_EXAMPLES = (
    1926, 397, 2388, 1852, 120, 2096, 2759, 1444, 65, 2691,
)
EXPLORATION_QUESTIONS = (
    0, 2, 5, 12, 20, 22, 28, 52, 66, 78, 103, 112, 127, 128, 146, 147, 154, 176, 195, 209, 222, 278, 320, 326, 344,
    392, 407, 424, 457, 475, 478, 493, 530, 541, 583, 637, 647, 664, 668, 762, 804, 863, 869, 906, 922, 958, 968,
    1025, 1035, 1079, 1165, 1262, 1276, 1278, 1361, 1366, 1423, 1467, 1487, 1509, 1512, 1536, 1580, 1608, 1673,
    1682, 1691, 1695, 1696, 1703, 1723, 1778, 1780, 1803, 1804, 1847, 1849, 1900, 1924, 1925, 1945, 1946, 1960,
    1971, 1988, 2008, 2021, 2044, 2056, 2110, 2131, 2139, 2189, 2209, 2214, 2219, 2246, 2259, 2283, 2298, 2320,
    2347, 2350, 2357, 2395, 2414, 2449, 2472, 2478, 2479, 2501, 2520, 2523, 2529, 2573, 2574, 2649, 2676, 2678,
    2739, 2740, 2755, 2778, 2833, 2834, 2906, 2954, 2969,
)
# Shown as examples and never asked: drawn by default_rng(0) from the 2,685 other questions that share no sentence with
# any of GSM8K-Zero. Kept here, because NumPy may change what its generators draw.
EXAMPLE_POOL = (
    11, 19, 32, 61, 79, 96, 111, 135, 238, 255, 279, 378, 519, 524, 824, 846, 872, 942, 953, 1175, 1185, 1202, 1233,
    1288, 1398, 1447, 1496, 1514, 1577, 1613, 1617, 1647, 1657, 1787, 1837, 1865, 1868, 1909, 1933, 1953, 1986, 2002,
    2057, 2151, 2162, 2262, 2276, 2389, 2406, 2408, 2489, 2505, 2535, 2559, 2677, 2748, 2835, 2847, 2917, 2963,
)
# fmt: on
N_ZERO = 2978
# Characters: ten worked examples within these limits take some 1,100 tokens.
LONGEST_QUESTION, LONGEST_STEPS = 250, 200


@dataclass(frozen=True)
class Split:
    """Roles of questions: each question is in exactly one of the lists.

    Attributes
    ----------
    exploration, exploration_examples : list of Question
        Asked, and shown as examples, while the hypothesis was formed.
    pool : list of Question
        Kept for :func:`example_sets`; never asked.
    evaluation : list of Question
        Asked when the hypothesis is tested. All texts differ from each other and from those in the other lists.
    repeated : list of Question
        Left out because their text is already in another list: GSM8K-Zero contains 24 texts twice.
    """

    exploration: list[Question]
    exploration_examples: list[Question]
    pool: list[Question]
    evaluation: list[Question]
    repeated: list[Question]


def split(questions: Sequence[Question]) -> Split:
    """Split questions into those of the exploration, those to show and those to ask; always in the same way.

    GSM8K-Zero (recognised by its 2,978 indices) is split along fixed indices. Any other list has no exploration; a
    fifth of it, at most 60 questions, is drawn as the pool.

    >>> from geolib.reasoning import generate_questions
    >>> parts = split(generate_questions(100))
    >>> len(parts.exploration), len(parts.pool), len(parts.evaluation)
    (0, 20, 80)

    Raises
    ------
    ValueError
        ``questions`` is empty.
    """
    if len(questions) == 0:
        raise ValueError("split: questions is empty, but at least one was expected")
    if _is_gsm8k_zero(questions):
        lines = {question.index: question for question in questions}
        kept = [[lines[i] for i in group] for group in (EXPLORATION_QUESTIONS, EXPLORATION_EXAMPLES, EXAMPLE_POOL)]
    else:
        size = min(len(EXAMPLE_POOL), len(questions) // 5)
        drawn = np.random.default_rng(0).permutation(len(questions))[:size]
        kept = [[], [], [questions[i] for i in sorted(drawn)]]
    taken = {question for group in kept for question in group}
    texts = {question.text for question in taken}
    evaluation, repeated = [], []
    for question in questions:
        if question not in taken:
            (repeated if question.text in texts else evaluation).append(question)
            texts.add(question.text)
    return Split(*[*kept, evaluation, repeated])


def example_sets(
    questions: Sequence[Question], n_sets: int = 3, k: int = 10, *, seed: int = 0
) -> list[tuple[Question, ...]]:
    """Draw disjoint sets of examples from the pool of :func:`split`.

    Parameters
    ----------
    questions : sequence of Question
        All questions, as for :func:`split`.
    n_sets, k : int
        Number of sets, and number of examples in each.
    seed : int
        With the same seed, a larger number of sets begins with the same sets.

    Returns
    -------
    list of tuple of Question

    Raises
    ------
    ValueError
        The pool is too small.
    """
    pool = split(questions).pool
    if n_sets < 1 or k < 1 or n_sets * k > len(pool):
        raise ValueError(f"example_sets: n_sets * k is {n_sets} * {k}, but 1 to {len(pool)} examples were expected")
    drawn = np.random.default_rng(seed).permutation(len(pool))
    return [tuple(pool[i] for i in drawn[start : start + k]) for start in range(0, n_sets * k, k)]


def worked_examples(
    train: Sequence[Question], asked: Sequence[Question], k: int = 10, *, seed: int = 0
) -> tuple[Question, ...]:
    """Draw examples with worked steps, none of which shares its story with a question that is asked.

    GSM8K-Zero was made from GSM8K's training questions: each question keeps a story, except for a sentence or two, and
    ends in another question. So training questions that share a sentence with a question in ``asked`` are left out
    (3,032 of 7,473), and so are long questions and solutions.

    Parameters
    ----------
    train : sequence of Question
        With steps, as ``load_questions(source="gsm8k-train")`` returns them.
    asked : sequence of Question
        GSM8K-Zero, or any other questions that are asked.
    k : int
        Number of examples. With the same seed, a larger k begins with the same examples.
    seed : int
        Seed of the draw.

    Returns
    -------
    tuple of Question

    Raises
    ------
    ValueError
        There are fewer than k such questions.
    """
    known = set().union(*(sentences(question.text) for question in asked))
    candidates = [
        question
        for question in train
        if len(question.text) <= LONGEST_QUESTION
        and 0 < len(question.steps) <= LONGEST_STEPS
        and not known & sentences(question.text)
    ]
    if not 0 < k <= len(candidates):
        raise ValueError(f"worked_examples: k is {k}, but 1 to {len(candidates)} was expected")
    return tuple(candidates[i] for i in np.random.default_rng(seed).permutation(len(candidates))[:k])


def sentences(text: str) -> set[str]:
    """Return the sentences of a text in lower case and without punctuation, for comparison.

    >>> sorted(sentences("Ann has 2 pens.  How many?"))
    ['ann has 2 pens', 'how many']
    """
    bare = (re.sub(r"\W+", " ", part.casefold()).strip() for part in re.split(r"(?<=[.!?])\s+", text))
    return set(filter(None, bare))


def _is_gsm8k_zero(questions: Sequence[Question]) -> bool:
    return len(questions) == N_ZERO and {question.index for question in questions} == set(range(N_ZERO))


def exploration_split(
    questions: Sequence[Question], n_questions: int, *, n_examples: int = 10, seed: int = 0
) -> tuple[list[Question], list[Question]]:
    """Draw questions to ask and examples to show, without overlap, from the questions of the exploration.

    GSM8K-Zero (recognised by its 2,978 indices) is split along fixed indices; from any other list,
    ``n_questions + n_examples`` questions are drawn.

    Parameters
    ----------
    questions : sequence of Question
        All questions.
    n_questions, n_examples : int
        Number of questions to ask, and of examples to show.
    seed : int
        Seed of the draw.

    Returns
    -------
    questions, examples : list of Question

    Raises
    ------
    ValueError
        There are fewer questions or examples.
    """
    if _is_gsm8k_zero(questions):
        parts = split(questions)
        asked, shown = parts.exploration, parts.exploration_examples
        for name, wanted, least, pool in (("n_questions", n_questions, 1, asked), ("n_examples", n_examples, 0, shown)):
            if not least <= wanted <= len(pool):
                raise ValueError(
                    f"exploration_split: {name} is {wanted}, but {least} to {len(pool)} was expected: all other "
                    "questions of GSM8K-Zero stay unseen until the hypothesis is tested"
                )
        return asked[:n_questions], shown[:n_examples]
    if n_questions < 1 or n_examples < 0 or n_questions + n_examples > len(questions):
        raise ValueError(
            f"exploration_split: n_questions + n_examples is {n_questions} + {n_examples}, "
            f"but at most {len(questions)}, the number of questions, was expected"
        )
    drawn = np.random.default_rng(seed).permutation(len(questions))[: n_questions + n_examples]
    return [questions[i] for i in drawn[n_examples:]], [questions[i] for i in drawn[:n_examples]]


# These profiles use only questions that were used before the preregistered test, so that trying the protocol reveals
# none of the test's questions. Runs has the paper's scale, about 300 questions answered wrong.
PROFILES: dict[str, dict[str, Any]] = {
    "quick": {"n_questions": 16, "shots": (0, 1, 3, 5)},
    "full": {"n_questions": 128, "shots": tuple(range(11))},
}


def few_shot_sweep(
    model: Model, tokenizer: Tokenizer, questions: Sequence[Question], *, profile: str = "quick", **settings: Any
) -> "Sweep":
    """Set up the paper's protocol: ask without examples, keep what was answered wrong, ask again with examples.

    Parameters
    ----------
    model, tokenizer
        As :func:`geolib.models.load` returns them.
    questions : sequence of Question
        All questions; :func:`exploration_split` draws from them.
    profile : {"quick", "full"}
        ``"quick"``: 16 questions with 0, 1, 3 and 5 examples, a minute on two cores, as an illustration. ``"full"``:
        128 questions with 0 to 10 examples.
    **settings
        Arguments of :class:`Sweep`; by default finished batches are kept in geolib's cache.

    Returns
    -------
    Sweep
        Not run yet.

    Raises
    ------
    ValueError
        ``profile`` is unknown, or there are too few questions.
    """
    from geolib.reasoning.sweep import Sweep

    choice("few_shot_sweep: profile", profile, *PROFILES)
    asked, shown = exploration_split(questions, PROFILES[profile]["n_questions"])
    shots = PROFILES[profile]["shots"]
    settings = {"store": cache_dir() / "sweeps" / profile, "only_wrong": True, "shots": shots} | settings
    return Sweep(model=model, tokenizer=tokenizer, questions=asked, examples=shown, **settings)
