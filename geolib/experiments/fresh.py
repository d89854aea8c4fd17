"""Round two: questions that no round has looked at, twenty prompts, and the tests that two plans fixed before the run.

The plans are book/plan-sharper.md (H3) and book/plan-rise.md (H2). A prompt is a random order of the pool of examples,
whose first k are shown; each question is asked behind one of twenty, so that both questions and prompts are samples.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from geolib.reasoning import Estimate, columns
from geolib.reasoning.analysis import association, id_change, mean_over_prompts
from geolib.reasoning.decode import Change, SharedPrefix
from geolib.reasoning.prompts import Condition, frame_and_place, reply, slot_ids
from geolib.reasoning.protocol import N_ZERO, split
from geolib.reasoning.published import add_facts, load_run, own_results
from geolib.reasoning.questions import Question, quantities
from geolib.typing import Model, Tokenizer

N_PROMPTS, SEED = 20, 2026
PROMPT = 2000  # the example set of the first prompt: a label
# Runs of round one whose questions were asked behind examples, and folder of a second model's.
SHOWN = ("shots", "ablations", "right", "chain", "many", "intervention", "choosing")
SECOND = ("shots",)
SMALLEST_GAIN = 3  # points, of H3
CONTROLS = ("prompt_tokens", "numbers", "place")
FACTOR = 1.25


def fresh(questions: Sequence[Question], *, second: bool = False) -> list[Question]:
    """List, in a random order, the questions that round one did not ask behind examples.

    Parameters
    ----------
    questions : sequence of Question
        GSM8K-Zero; of any other list, no question has been asked.
    second : bool
        Whether to leave out those that the second model, Gemma, was asked too.

    Returns
    -------
    list of Question
        2,186 of GSM8K-Zero, or 1,984: the same order, with the others left out.
    """
    asked: set[int] = set()
    if len(questions) == N_ZERO:
        folders = {own_results(): SHOWN} | ({own_results() / "gemma3-270m": SECOND} if second else {})
        for folder, names in folders.items():
            tables = (load_run(name, folder)[0] for name in names)
            asked |= {question for rows in tables for question in rows.question[rows.shots > 0]}
    evaluation = split(questions).evaluation
    order = np.random.default_rng(SEED).permutation(len(evaluation))
    return [evaluation[i] for i in order if evaluation[i].index not in asked]


def prompts(questions: Sequence[Question], asked: Sequence[Question], k: int) -> list[Condition]:
    """Give each question that is asked its prompt with k examples: one of twenty, drawn at random."""
    pool = split(questions).pool
    orders = [np.random.default_rng([SEED, number]).permutation(len(pool))[:k] for number in range(N_PROMPTS)]
    drawn = [tuple(pool[i] for i in order) for order in orders]
    # By its index, so that a question has the same prompt in every run.
    numbers = np.random.default_rng([SEED, N_PROMPTS]).integers(N_PROMPTS, size=1 + max(q.index for q in questions))
    return [Condition(examples=drawn[n], example_set=PROMPT + n) for n in (numbers[q.index] for q in asked)]


def margins(
    model: Model,
    tokenizer: Tokenizer,
    asked: Sequence[Question],
    conditions: Sequence[Condition],
    *,
    sharpness: Mapping[int, float] | None = None,
) -> pd.DataFrame:
    """Measure how far the right number leads, without a judge: the second endpoint of H3.

    Each number of a question's text is put into the reply of the examples, "The answer is N."; the margin is the
    log-probability of the reply with the right number, less the largest of the others'.

    Parameters
    ----------
    model, tokenizer
        As :func:`geolib.models.load` returns them.
    asked : sequence of Question
        Those whose text states the right number and at least one other are measured.
    conditions : sequence of Condition
        One for each question.
    sharpness : mapping of int to float, optional
        As for :class:`geolib.reasoning.Sweep`.

    Returns
    -------
    pandas.DataFrame
        ``question``, ``example_set``, ``margin`` (in nats), ``best`` (the largest log-probability of a reply), ``lead``
        (its lead over the second), ``candidates`` (number of numbers), ``seconds``.
    """
    engine, groups = SharedPrefix(model, (0.1,), Change(sharpness=sharpness or {})), {}
    for question, condition in zip(asked, conditions, strict=True):
        stated = {value for readings in quantities(question.text) for value in readings[:1]}
        others = [value for value in stated if not math.isclose(value, question.answer, rel_tol=1e-9)]
        if len(others) not in (0, len(stated)):
            groups.setdefault(condition, []).append((question, [question.answer, *others]))
    rows = []
    for condition, group in tqdm(groups.items(), desc="margins"):
        (before, after), place = frame_and_place(tokenizer, condition)
        rests = [[*slot_ids(tokenizer, question.text, place), *after] for question, _ in group]
        said = [[tokenizer(reply(v), add_special_tokens=False).input_ids for v in values] for _, values in group]
        start = time.perf_counter()
        scores = engine.score(list(before), rests, said)
        seconds = (time.perf_counter() - start) / len(group)
        for (question, _), own in zip(group, scores, strict=True):
            row = {"question": question.index, "example_set": condition.example_set, "margin": own[0] - own[1:].max()}
            second, best = np.sort(own)[-2:]
            row |= {"best": best, "lead": best - second, "candidates": len(own), "seconds": seconds}
            rows.append(row)
    return pd.DataFrame(rows)


def sharper(rows: pd.DataFrame, *, factor: float = FACTOR, y: str = "correct", **draws: Any) -> Estimate:
    """Estimate what sharper attention adds to ``y``: the primary test of H3, over questions and prompts.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of the run "sharper", or of another with the same labels.
    factor : float
        Factor of the attention scores, which is compared with 1.
    y, **draws
        As for :func:`contrast`.

    Returns
    -------
    Estimate
        Mean difference; of a share, in percentage points.
    """
    return contrast(rows, {1: -1, factor: 1}, y=y, **draws)


def contrast(
    rows: pd.DataFrame, weights: Mapping, *, by: Any = "sharpness", y: str = "correct", **draws: Any
) -> Estimate:
    """Estimate a weighted sum of the values of ``y`` of each question in several arms, over questions and prompts.

    With weights of -1 and 1 it is a difference between two arms, with those of :func:`slope` a trend.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of one or several runs of round two: one for each question and arm.
    weights : mapping
        Weight of each arm; questions that were not asked in all of them are left out.
    by : str or list of str
        Column that tells the arms apart; of several, an arm is a tuple.
    y : str
        Column of numbers, or of booleans.
    **draws
        ``n_boot`` and ``seed`` of :func:`geolib.reasoning.mean_over_prompts`.

    Returns
    -------
    Estimate
        Mean over the questions; of a share, in percentage points.

    Raises
    ------
    ValueError
        The rows lack an arm.
    """
    named = {f"by {name}": name for name in np.atleast_1d(by).tolist()}
    columns.check("contrast", rows, y=y, prompt="example_set", **named)
    wide = rows[rows.shots > 0].pivot(index=["question", "example_set"], columns=by, values=y)
    if lacking := [arm for arm in weights if arm not in wide]:
        raise ValueError(f"contrast: weights has the arm {lacking[0]!r}, but the rows have {wide.columns.tolist()}")
    scale = 100 if rows[y].dtype == bool else 1
    whole = wide[list(weights)].astype(float).dropna()
    table = (scale * whole @ np.array([*weights.values()])).rename("difference").reset_index()
    return mean_over_prompts(table, "difference", **draws)


def slope(values: Sequence[float]) -> dict[float, float]:
    """Weights whose sum over values of y is the slope of y on ``values``, by least squares.

    >>> {value: round(weight, 3) for value, weight in slope([1, 2, 3]).items()}
    {1: -0.5, 2: 0.0, 3: 0.5}
    """
    centred = np.array(values) - np.mean(values)
    return dict(zip(values, (centred / (centred**2).sum()).tolist(), strict=True))


def said_of_sharper(gain: Estimate) -> str:
    """Say of the primary estimate of H3 what its plan fixed before the run.

    >>> said_of_sharper(Estimate(5.0, 3.2, 6.8, 1984))
    'H3 is supported, at a size that matters'
    >>> said_of_sharper(Estimate(1.0, -0.9, 2.9, 1984))
    'H3 is not supported, and is refuted at the size that matters'
    """
    if gain.low > SMALLEST_GAIN:
        return "H3 is supported, at a size that matters"
    said = "H3 is supported" if gain.low > 0 else "sharper attention answers worse" if gain.high < 0 else ""
    return (said or "H3 is not supported") + ", and is refuted at the size that matters" * (gain.high < SMALLEST_GAIN)


def said_of_rise(plain: Estimate, held: Estimate) -> str:
    """Say of the two primary estimates of H2 what its plan fixed before the run.

    >>> said_of_rise(Estimate(0.07, 0.02, 0.12, 1855), Estimate(0.03, -0.02, 0.08, 1855))
    'it repeats as a correlation; beyond length and position it was not found'
    """
    if plain.low <= 0:
        return "the paper's reading does not repeat on fresh questions"
    if held.low > 0:
        return "the paper's reading repeats on fresh questions, beyond length and position"
    return "it repeats as a correlation; beyond length and position it was not found"


def rise(rows: pd.DataFrame, manifest: dict, wrong: Sequence[int], **settings: Any) -> dict[str, Estimate]:
    """Estimate the association of the rise of ID with a right answer: the primary tests of H2.

    Parameters
    ----------
    rows, manifest : pandas.DataFrame, dict
        The run "sharper", as :func:`geolib.reasoning.load_run` returns it.
    wrong : sequence of int
        Questions that the model answers wrong without examples.
    **settings
        ``rule``, ``layer``, ``eps`` and ``verdict`` of :func:`geolib.reasoning.id_change`, or ``n_boot`` and ``seed``.

    Returns
    -------
    dict of str to Estimate
        ``"plain"``: Spearman's rho within prompts, averaged over them; ``"held"``: the partial rho, with the controls
        held fixed. Within a prompt its length is that of the question.
    """
    of_id: dict[str, Any] = {"rule": "relative", "layer": -2, "eps": 0.1}
    of_id |= {name: settings.pop(name) for name in ("rule", "layer", "eps", "verdict") if name in settings}
    asked = rows[(rows.sharpness == 1) & rows.question.isin(wrong)]
    table = id_change(asked, **of_id)
    table = add_facts(table, manifest)
    held = {"plain": (), "held": CONTROLS}
    return {name: association(table, controls=c, within="example_set", **settings) for name, c in held.items()}
