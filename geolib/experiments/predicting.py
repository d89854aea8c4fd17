"""How well the geometry of a prompt predicts a right answer, beside what the text says: book/plan-predict.md.

Sparse logistic regression on counts and entropies of single heads; each score comes from a fit that saw neither the
question nor its examples.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from geolib.reasoning import Estimate
from geolib.reasoning.published import add_facts

FACTS = ("length", "numbers", "position", "first")
HEADS = ("counts", "entropies")
# Sets of columns by the plan's letters: which blocks of `features` each has.
SETS = {"A0": FACTS[:2], "A": FACTS, "B": ("layers",), "C": HEADS[:1], "D": HEADS[1:], "E": HEADS}
SETS |= {"F": FACTS + HEADS, "F0": FACTS[:2] + HEADS}
OWN = {"G": ("answer",), "A and G": (*FACTS, "answer"), "F and G": (*FACTS, "answer", *HEADS)}
LIGHT, WEIGHT = (*FACTS, "answer"), 10.0  # few columns, which are hardly penalised
PENALTIES = tuple(0.064 / 2**i for i in range(6))
SMALLEST_GAIN = 0.02


def features(
    rows: pd.DataFrame, manifest: dict, answers: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Collect what a right answer is predicted from.

    Parameters
    ----------
    rows, manifest : pandas.DataFrame, dict
        The run "sharper", as :func:`geolib.reasoning.load_run` returns it.
    answers : pandas.DataFrame, optional
        The run "margins", of the model's own answers: ``question``, ``sharpness``, ``best`` and ``lead``. Questions
        that it lacks are then left out.

    Returns
    -------
    asked : pandas.DataFrame
        One row for each question: ``question``, ``example_set``, ``correct``, ``frozen``.
    blocks : dict of str to array, shape=[questions, columns]
        Columns of one kind, such as ``"length"`` or ``"entropies"``.

    Raises
    ------
    ValueError
        A question has no row without examples, or two with them.
    """
    asked, bare = rows[(rows.shots > 0) & (rows.sharpness == 1)], rows[rows.shots == 0].set_index("question")
    if answers is not None:
        own = answers[answers.sharpness == 1].set_index("question")[["best", "lead"]].dropna()
        asked = asked[asked.question.isin(own.index)]
    if asked.question.duplicated().any() or not asked.question.isin(bare.index).all():
        raise ValueError("features: every question was expected once with examples, and without")
    asked, bare = asked.reset_index(drop=True), bare.loc[asked.question]
    facts = add_facts(asked[["question"]], manifest)
    length, numbers, place = (one.to_numpy(float) for one in (bare.prompt_tokens, facts.numbers, facts.place))

    def levels_and_rises(*names):
        levels, before = (np.hstack([np.stack(table[name]) for name in names]).astype(float) for table in (asked, bare))
        return np.hstack([levels, levels - before])

    blocks = {
        "length": np.column_stack([length, np.log(length)]),
        "numbers": np.column_stack([numbers, 1 / np.maximum(numbers, 1)]),
        "position": np.column_stack([place, place == numbers - 1, place < 0]),
        "first": (place == 0)[:, None].astype(float),
        "layers": levels_and_rises("id_absolute_0.1", "id_relative_0.1"),
        "counts": levels_and_rises("heads_absolute_0.1", "heads_relative_0.1"),
        "entropies": levels_and_rises("entropy", "renyi2"),
    }
    if answers is not None:
        blocks["answer"] = own.loc[asked.question].to_numpy(float)
    return asked[["question", "example_set", "correct", "frozen"]], blocks


def out_of_fold(
    blocks: dict[str, np.ndarray], y: np.ndarray, prompts: np.ndarray | None = None, *, outer: int = 10, inner: int = 3
) -> pd.DataFrame:
    """Score each question by a sparse logistic regression that saw neither it nor, if prompts are given, its prompt.

    Parameters
    ----------
    blocks : dict of str to array, shape=[questions, columns]
        Of :func:`features`, those to predict from. Those in ``LIGHT`` are hardly penalised.
    y : array of bool, shape=[questions]
        Whether the answer is right.
    prompts : array, shape=[questions], optional
        Folds are of whole prompts; without, of questions at random, stratified by y.
    outer, inner : int
        Number of folds, and of folds within the training rows that choose the penalty by their log-loss.

    Returns
    -------
    pandas.DataFrame
        ``score`` (log-odds), and of its fit: ``penalty`` and ``kept`` (columns whose weight is not 0).

    Raises
    ------
    ValueError
        y has one value only, or the number of rows differs.
    """
    y = np.asarray(y, dtype=bool)
    if y.all() or not y.any() or {len(block) for block in blocks.values()} != {len(y)}:
        raise ValueError(f"out_of_fold: blocks of {len(y)} rows were expected, with right answers and wrong ones")
    x = np.hstack([*blocks.values()])
    weights = np.concatenate([np.full(b.shape[1], WEIGHT if n in LIGHT else 1.0) for n, b in blocks.items()])
    found = pd.DataFrame({"score": np.zeros(len(y)), "penalty": 0.0, "kept": 0})
    for train, test in _splits(outer, y, prompts):
        losses = np.zeros(len(PENALTIES))
        for some, others in _splits(inner, y[train], None if prompts is None else prompts[train]):
            fit, left = train[some], train[others]
            each = np.array([_fit(x[fit], y[fit], weights, penalty)[0](x[left]) for penalty in PENALTIES])
            losses += np.logaddexp(0, np.where(y[left], -each, each)).sum(axis=1)
        penalty = PENALTIES[int(losses.argmin())]
        score, kept = _fit(x[train], y[train], weights, penalty)
        found.loc[test, "score"], found.loc[test, ["penalty", "kept"]] = score(x[test]), [penalty, kept]
    return found


def _splits(n, y, prompts):
    from sklearn.model_selection import GroupKFold, StratifiedKFold

    if prompts is None:
        return list(StratifiedKFold(n, shuffle=True, random_state=0).split(y, y))
    return list(GroupKFold(n).split(y, y, prompts))


def _fit(x: np.ndarray, y: np.ndarray, weights: np.ndarray, penalty: float) -> tuple[Callable, int]:
    """Return a function that scores rows, and how many columns it reads."""
    from sklearn.linear_model import LogisticRegression

    mean, spread = x.mean(axis=0), x.std(axis=0)
    varies = spread > 1e-9 * np.abs(x).max(axis=0)
    scale = np.where(varies, weights, 0) / np.where(varies, spread, 1)
    # The intercept is penalised by this solver, unless its own column is large.
    made = {"solver": "liblinear", "intercept_scaling": 100.0, "random_state": 0, "tol": 1e-3, "max_iter": 1000}
    made |= {"penalty": "l1"} if LogisticRegression().l1_ratio is None else {"l1_ratio": 1.0}  # before 1.8, and since
    model = LogisticRegression(C=1 / (penalty * len(y)), **made).fit((x - mean) * scale, y)
    return lambda rows: model.decision_function((rows - mean) * scale), int((model.coef_ != 0).sum())


def auroc(
    table: pd.DataFrame,
    score: str,
    less: str | None = None,
    *,
    y: str = "correct",
    within: str = "example_set",
    n_boot: int = 20_000,
    seed: int = 0,
) -> Estimate:
    """Estimate AUROC within prompts, or the difference of two, with an interval over prompts and questions.

    Parameters
    ----------
    table : pandas.DataFrame
    score, less : str
        Columns: of the score, and of one whose AUROC is subtracted.
    y, within : str
        Columns: whether the answer is right, and the prompt. Only answers after the same prompt are compared.
    n_boot, seed : int
        Bootstrap samples, the same for every score: prompts are drawn, and within each of them its questions.

    Returns
    -------
    Estimate
        The share of pairs of a right and a wrong answer in which the right one has the higher score; ties count half.

    Raises
    ------
    ValueError
        No prompt has both right answers and wrong ones.
    """
    rng, groups = np.random.default_rng(seed), [group for _, group in table.groupby(within)]
    drawn, (won, pairs) = rng.integers(len(groups), size=(n_boot, len(groups))), np.zeros((2, n_boot + 1))
    for number, group in enumerate(groups):
        n, right = len(group), group[y].to_numpy(bool)
        above = _above(group[score].to_numpy(), right) - (0 if less is None else _above(group[less].to_numpy(), right))
        samples = np.nonzero(drawn == number)[0]
        places = rng.integers(n, size=(len(samples), n)) + n * np.arange(len(samples))[:, None]
        counts = np.bincount(places.ravel(), minlength=places.size).reshape(places.shape)
        counts, samples = np.vstack([counts, np.ones(n)]), np.append(samples, n_boot)  # last, the rows themselves
        of_right, of_wrong = counts[:, right], counts[:, ~right]
        np.add.at(won, samples, ((of_right @ above) * of_wrong).sum(axis=1))
        np.add.at(pairs, samples, of_right.sum(axis=1) * of_wrong.sum(axis=1))
    if not pairs[-1]:
        raise ValueError(f"auroc: y is {y!r}, but right answers and wrong ones after the same prompt were expected")
    *found, value = won / np.where(pairs > 0, pairs, np.nan)
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), len(table), 0.5 if less is None else 0.0)


def _above(scores, right):
    """Of each pair of a right and a wrong answer, whether the right one has the higher score: 1, 1/2 or 0."""
    return (1 + np.sign(scores[right][:, None] - scores[~right])) / 2


def said(gain: Estimate) -> str:
    """Say of F less A, the primary comparison, what its plan fixed before looking.

    >>> said(Estimate(0.01, -0.01, 0.03, 2186))
    'it was not found that the geometry of heads adds to the facts of the text'
    """
    adds = "the geometry of heads adds to the facts of the text"
    if gain.low > SMALLEST_GAIN:
        return f"{adds}, by an amount that matters"
    worse, refuted = "with the geometry of heads the prediction is worse", "; a gain that matters is refuted"
    line = adds if gain.low > 0 else worse if gain.high < 0 else f"it was not found that {adds}"
    return line + refuted * (gain.high < SMALLEST_GAIN)
