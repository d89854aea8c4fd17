"""Choosing examples without labels: by the rise of ID that each causes, and the choices it is held against.

Every choice is a tuple of places in the list of candidates, in that list's order: choices differ in which examples are
shown, and in nothing else.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from geolib.checks import finite_array, integer
from geolib.reasoning.analysis import mean_rises
from geolib.reasoning.prompts import Condition, frame_and_place
from geolib.reasoning.published import ALONE
from geolib.reasoning.questions import Question
from geolib.reasoning.sweep import Sweep


def choices(rows: pd.DataFrame, lengths, k: int) -> dict[int, tuple[int, ...]]:
    """Choose sets of k examples for all questions: by rise under either rule, and those to hold them against.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of :func:`alone`'s conditions and of the same questions with no example.
    lengths : array-like, shape=[candidates]
        In tokens.
    k : int

    Returns
    -------
    dict of int to tuple of int
        Places by example set, the keys of :data:`CHOICES`.
    """
    relative = mean_rises(rows, rule="relative", layer=-2)
    first = highest(relative, k)
    return {
        10: first,
        11: highest(mean_rises(rows, rule="absolute", layer=-1), k),
        12: highest(relative, k, lowest=True),
        13: of_like_length(lengths, first),
        **{14 + seed: at_random(len(lengths), k, seed=seed) for seed in range(3)},
    }


def alone(candidates: Sequence[Question]) -> list[Condition]:
    """Conditions that show one candidate each."""
    return [Condition(examples=[one], example_set=ALONE + place) for place, one in enumerate(candidates)]


def rises(
    model,
    tokenizer,
    candidates: Sequence[Question],
    questions: Sequence[Question],
    *,
    layer: int = -2,
    eps: float = 0.1,
    rule: str = "relative",
    **settings,
) -> np.ndarray:
    """Mean rise of ID that each candidate causes as the only example; no answer is read, none is known.

    Prompts are read, and nothing is decoded past the first token; a candidate's keys and values are computed once for
    all questions.

    Parameters
    ----------
    model, tokenizer
        As :func:`geolib.models.load` returns them.
    candidates : sequence of Question
    questions : sequence of Question
        What the candidates stand before; none of them.
    layer, eps, rule
        As for :func:`id_change`.
    **settings
        Passed on to :class:`Sweep`, such as ``store``.

    Returns
    -------
    array-like, shape=[candidates]
        In tokens, summed over heads; the mean over questions.

    Raises
    ------
    ValueError
        As :class:`Sweep` raises it.
    """
    conditions = [Condition(), *alone(candidates)]
    settings = {"max_new_tokens": 1, "progress": False} | settings
    sweep = Sweep(model=model, tokenizer=tokenizer, questions=questions, conditions=conditions, eps=eps, **settings)
    return mean_rises(sweep.run(), layer=layer, eps=eps, rule=rule)


def lengths(tokenizer, candidates: Sequence[Question]) -> np.ndarray:
    """Tokens before the question with each candidate as the only example, shape=[candidates]."""
    return np.array([len(frame_and_place(tokenizer, condition)[0].before) for condition in alone(candidates)])


def highest(scores, k: int, *, lowest: bool = False) -> tuple[int, ...]:
    """Places of the k highest scores, or lowest; of equal ones the first.

    >>> highest([3.0, 9.0, 1.0, 7.0], 2), highest([3.0, 9.0, 1.0, 7.0], 2, lowest=True)
    ((1, 3), (0, 2))
    """
    scores = finite_array("highest: scores", scores)
    integer("highest: k", k, 1, len(scores))
    return _places(np.argsort(scores if lowest else -scores, kind="stable")[:k])


def at_random(n: int, k: int, *, seed: int) -> tuple[int, ...]:
    """Draw k of n places."""
    integer("at_random: k", k, 1, n)
    return _places(np.random.default_rng(seed).permutation(n)[:k])


def of_like_length(lengths, chosen: Sequence[int]) -> tuple[int, ...]:
    """Other places than the chosen ones, one for each, whose lengths are together as close as can be.

    >>> of_like_length([50, 80, 52, 70, 81], (0, 1))
    (2, 4)
    """
    lengths = finite_array("of_like_length: lengths", lengths)
    for place in chosen:
        integer("of_like_length: chosen", place, 0, len(lengths) - 1)
    others = np.setdiff1d(np.arange(len(lengths)), chosen)
    if len(others) < len(chosen):
        raise ValueError(f"of_like_length: chosen holds {len(chosen)} of {len(lengths)} places, expected half at most")
    apart = np.abs(lengths[list(chosen)][:, None] - lengths[others])
    return _places(others[linear_sum_assignment(apart)[1]])


def nearest(candidates: Sequence[Question], questions: Sequence[Question], k: int) -> list[tuple[int, ...]]:
    """Places of the k candidates whose words are closest to each question's: cosine of TF-IDF vectors.

    Words are weighted by how rare they are among the candidates.

    Returns
    -------
    list of tuple of int
        One for each question.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    integer("nearest: k", k, 1, len(candidates))
    words = TfidfVectorizer()
    known = words.fit_transform([one.text for one in candidates])
    likeness = (words.transform([question.text for question in questions]) @ known.T).toarray()
    return [highest(row, k) for row in likeness]


def _places(places) -> tuple[int, ...]:
    return tuple(sorted(int(place) for place in places))
