"""Choose examples without labels: by the rise of ID that each one causes, and by other rules for comparison.

Every choice is a tuple of positions in the list of candidates, in the order of that list: choices differ only in which
examples are shown.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from geolib.checks import finite_array, integer
from geolib.reasoning.analysis import mean_rises
from geolib.reasoning.prompts import Condition, frame_and_place
from geolib.reasoning.published import ALONE
from geolib.reasoning.questions import Question
from geolib.reasoning.sweep import Sweep
from geolib.typing import Model, Tokenizer


def choices(rows: pd.DataFrame, lengths: Sequence[int], k: int) -> dict[int, tuple[int, ...]]:
    """Choose sets of k examples for all questions: by rise under each rule, and by other rules for comparison.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of the conditions of :func:`alone`, and of the same questions without examples.
    lengths : array-like, shape=[candidates]
        In tokens.
    k : int
        Number of examples.

    Returns
    -------
    dict of int to tuple of int
        Positions of the examples, by number of the example set as in :data:`CHOICES`.
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
    model: Model,
    tokenizer: Tokenizer,
    candidates: Sequence[Question],
    questions: Sequence[Question],
    *,
    layer: int = -2,
    eps: float = 0.1,
    rule: str = "relative",
    **settings: Any,
) -> np.ndarray:
    """Mean rise of ID that each candidate causes as the only example; no answers are needed.

    The model reads the prompts and decodes only one token; the keys and values of a candidate are computed once for all
    questions.

    Parameters
    ----------
    model, tokenizer
        As :func:`geolib.models.load` returns them.
    candidates : sequence of Question
        Possible examples.
    questions : sequence of Question
        Questions that the candidates are shown before; they must not be candidates.
    layer, eps, rule
        As for :func:`id_change`.
    **settings
        Arguments of :class:`Sweep`, such as ``store``.

    Returns
    -------
    array, shape=[candidates]
        In tokens, summed over heads; the mean over questions.

    Raises
    ------
    ValueError
        As for :class:`Sweep`.
    """
    conditions = [Condition(), *alone(candidates)]
    settings = {"max_new_tokens": 1, "progress": False} | settings
    sweep = Sweep(model=model, tokenizer=tokenizer, questions=questions, conditions=conditions, eps=eps, **settings)
    return mean_rises(sweep.run(), layer=layer, eps=eps, rule=rule)


def lengths(tokenizer: Tokenizer, candidates: Sequence[Question]) -> np.ndarray:
    """Count the tokens before the question with each candidate as the only example, shape=[candidates]."""
    return np.array([len(frame_and_place(tokenizer, condition)[0].before) for condition in alone(candidates)])


def highest(scores: ArrayLike, k: int, *, lowest: bool = False) -> tuple[int, ...]:
    """Positions of the k highest scores, or lowest; of equal scores the first ones.

    >>> highest([3.0, 9.0, 1.0, 7.0], 2), highest([3.0, 9.0, 1.0, 7.0], 2, lowest=True)
    ((1, 3), (0, 2))
    """
    scores = finite_array("highest: scores", scores)
    integer("highest: k", k, 1, len(scores))
    return _places(np.argsort(scores if lowest else -scores, kind="stable")[:k])


def at_random(n: int, k: int, *, seed: int) -> tuple[int, ...]:
    """Draw k of n positions at random."""
    integer("at_random: k", k, 1, n)
    return _places(np.random.default_rng(seed).permutation(n)[:k])


def of_like_length(lengths: ArrayLike, chosen: Sequence[int]) -> tuple[int, ...]:
    """Positions other than the chosen ones, one for each, with the smallest total difference of lengths.

    >>> of_like_length([50, 80, 52, 70, 81], (0, 1))
    (2, 4)
    """
    lengths = finite_array("of_like_length: lengths", lengths)
    for place in chosen:
        integer("of_like_length: chosen", place, 0, len(lengths) - 1)
    others = np.setdiff1d(np.arange(len(lengths)), chosen)
    if len(others) < len(chosen):
        raise ValueError(f"of_like_length: chosen holds {len(chosen)} of {len(lengths)}, but at most half was expected")
    apart = np.abs(lengths[list(chosen)][:, None] - lengths[others])
    return _places(others[linear_sum_assignment(apart)[1]])


def nearest(candidates: Sequence[Question], questions: Sequence[Question], k: int) -> list[tuple[int, ...]]:
    """Positions of the k candidates that are closest to each question, by the cosine of TF-IDF vectors.

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


def _places(places: np.ndarray) -> tuple[int, ...]:
    return tuple(sorted(int(place) for place in places))
