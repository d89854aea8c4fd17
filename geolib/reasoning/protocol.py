"""The paper's protocol, and which questions serve what: looked at already, or unseen until a hypothesis is tested."""

from collections.abc import Sequence

import numpy as np

from geolib.models import cache_dir
from geolib.reasoning.questions import Question
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
# fmt: on


def exploration_split(
    questions: Sequence[Question], n_questions: int, *, n_examples: int = 10, seed: int = 0
) -> tuple[list[Question], list[Question]]:
    """Draw questions to ask and examples to show, disjoint, from what has been looked at before.

    GSM8K-Zero (recognised by its length, 2,978) is split along fixed indices; of any other list of questions,
    ``n_questions + n_examples`` are drawn.

    Returns
    -------
    questions, examples : list of Question

    Raises
    ------
    ValueError
        More questions or examples are wanted than there are.
    """
    if len(questions) == 2978:
        asked = [questions[i] for i in EXPLORATION_QUESTIONS]
        shown = [questions[i] for i in EXPLORATION_EXAMPLES]
        for name, wanted, pool in (("n_questions", n_questions, asked), ("n_examples", n_examples, shown)):
            if not 0 < wanted <= len(pool):
                raise ValueError(
                    f"exploration_split: {name} is {wanted}, but 1 to {len(pool)} was expected: all other questions of "
                    "GSM8K-Zero stay unseen until the hypothesis is tested"
                )
        return asked[:n_questions], shown[:n_examples]
    if n_questions < 1 or n_examples < 0 or n_questions + n_examples > len(questions):
        raise ValueError(
            f"exploration_split: n_questions + n_examples is {n_questions} + {n_examples}, "
            f"but there are {len(questions)} questions"
        )
    drawn = np.random.default_rng(seed).permutation(len(questions))[: n_questions + n_examples]
    return [questions[i] for i in drawn[n_examples:]], [questions[i] for i in drawn[:n_examples]]


# The paper's scale is about 300 questions answered wrong; that run waits for the preregistered plan, because it must
# not look at the questions set aside for it. "full" is all that may be looked at before.
PROFILES = {
    "quick": {"n_questions": 48, "shots": (0, 1, 3, 5)},
    "full": {"n_questions": 128, "shots": tuple(range(11))},
}


def few_shot_sweep(model, tokenizer, questions: Sequence[Question], *, profile: str = "quick", **settings) -> Sweep:
    """Set up the paper's protocol: ask without examples, keep what was answered wrong, ask again with examples.

    Parameters
    ----------
    model, tokenizer
        As :func:`geolib.models.load` returns them.
    questions : sequence of Question
        All questions; :func:`exploration_split` draws from them.
    profile : {"quick", "full"}
        ``"quick"``: 48 questions, 0, 1, 3 and 5 examples, minutes on two cores; it illustrates. ``"full"``: the 128
        questions that may be looked at, 0 to 10 examples.
    **settings
        Passed on to :class:`Sweep`; by default finished batches are kept in geolib's cache.

    Returns
    -------
    Sweep
    """
    if profile not in PROFILES:
        raise ValueError(f"few_shot_sweep: profile is {profile!r}, but one of {', '.join(PROFILES)} was expected")
    asked, shown = exploration_split(questions, PROFILES[profile]["n_questions"])
    shots = PROFILES[profile]["shots"]
    settings = {"store": cache_dir() / "sweeps" / profile, "only_wrong": True, "shots": shots} | settings
    return Sweep(model=model, tokenizer=tokenizer, questions=asked, examples=shown, **settings)
