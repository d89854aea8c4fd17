"""Prediction of right answers: a planted signal is found, nothing where there is nothing, and no fit sees its test."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from geolib.experiments import predicting
from geolib.experiments.predicting import FACTS, OWN, SETS, auroc, features, out_of_fold, said
from geolib.reasoning import Estimate, load_run

ROOT = Path(__file__).resolve().parents[2]
N = 400
PROMPTS = np.repeat(np.arange(20), N // 20)


def simulated(seed, signal):
    """Two facts, and thirty columns of which one is what answers follow."""
    rng = np.random.default_rng(seed)
    blocks = {"length": rng.normal(size=(N, 2)), "counts": rng.normal(3, 10, size=(N, 30))}
    blocks["counts"][:, 7] = 5  # does not vary
    chance = 1 / (1 + np.exp(1 - signal * (blocks["counts"][:, 4] - 3) / 10))
    return blocks, rng.random(N) < chance


@pytest.mark.parametrize("prompts", [PROMPTS, None], ids=["new prompts", "new questions"])
def test_a_planted_signal_is_found(prompts):
    blocks, y = simulated(0, 2.0)
    found = out_of_fold(blocks, y, prompts)
    best = roc_auc_score(y, blocks["counts"][:, 4])
    assert best - 0.05 < roc_auc_score(y, found.score) < best + 0.02
    assert found.kept.between(1, 20).all()
    assert set(found.penalty) <= set(predicting.PENALTIES)
    facts = out_of_fold({"length": blocks["length"]}, y, prompts)
    table = pd.DataFrame({"heads": found.score, "facts": facts.score, "correct": y, "example_set": PROMPTS})
    assert auroc(table, "heads", "facts", n_boot=500).low > 0.1


def test_where_nothing_is_nothing_is_found():
    """Within prompts chance is exactly 1/2, also where the fits are of other prompts."""
    values = []
    for seed in range(6):
        blocks, y = simulated(seed, 0.0)
        table = out_of_fold(blocks, y, PROMPTS).assign(correct=y, example_set=PROMPTS)
        values.append(auroc(table, "score", n_boot=10).value)
    assert abs(np.mean(values) - 0.5) < 0.04


@pytest.mark.parametrize("prompts", [PROMPTS, None], ids=["new prompts", "new questions"])
def test_no_score_comes_from_a_fit_that_saw_its_question_or_prompt(monkeypatch, prompts):
    fits, (blocks, y) = [], simulated(1, 1.0)
    blocks["counts"][:, 0] = np.arange(N)  # which row it is

    def fit(x, labels, weights, penalty):
        seen = x[:, 2].astype(int)
        assert (labels == y[seen]).all()
        fits.append(len(seen))

        def score(rows):
            scored = rows[:, 2].astype(int)
            assert not {*seen} & {*scored}
            if prompts is not None:
                assert not {*PROMPTS[seen]} & {*PROMPTS[scored]}
            return scored.astype(float)

        return score, 0

    monkeypatch.setattr(predicting, "_fit", fit)
    assert out_of_fold(blocks, y, prompts).score.tolist() == list(range(N))
    assert len(fits) == 10 * (3 * 6 + 1)
    assert max(fits) == N * 9 // 10


def test_answers_of_a_fold_move_none_of_its_scores():
    """As little do its columns move those of another fold's standardisation: a fold is scored as it would be alone."""
    blocks, y = simulated(2, 1.0)
    fold = predicting._splits(10, y, PROMPTS)[3][1]
    before = out_of_fold(blocks, y, PROMPTS).score[fold]
    turned = y.copy()
    turned[fold] = ~turned[fold]
    assert (out_of_fold(blocks, turned, PROMPTS).score[fold] == before).all()
    blocks["counts"][fold[0]] *= 100
    assert (out_of_fold(blocks, y, PROMPTS).score[fold[1:]] == before[1:]).all()


def test_the_penalty_is_hardly_of_the_facts():
    """At the largest penalty a weak column among the facts is kept, and is shrunk away among the others."""
    x = np.random.default_rng(0).normal(size=(N, 1))
    y = np.random.default_rng(1).random(N) < 1 / (1 + np.exp(-0.2 * x[:, 0]))
    assert [predicting._fit(x, y, np.full(1, weight), 0.064)[1] for weight in (1.0, 10.0)] == [0, 1]


def test_auroc_compares_answers_after_the_same_prompt():
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"example_set": PROMPTS, "correct": rng.random(N) < 0.3, "one": rng.normal(0, 9, N).round()})
    table["one"] += 9 * table.correct
    table["shifted"] = table.one + 70 * table.example_set  # what differs between prompts does not count
    found = auroc(table, "one", n_boot=2000)
    groups = [group for _, group in table.groupby("example_set") if group.correct.nunique() == 2]
    sizes = [group.correct.sum() * (~group.correct).sum() for group in groups]
    assert found.value == pytest.approx(
        np.average([roc_auc_score(g.correct, g.one) for g in groups], weights=sizes), abs=1e-12
    )
    assert (found.n, found.null) == (N, 0.5)
    assert 0.5 < found.low < found.value < found.high < 1
    assert auroc(table, "shifted", n_boot=2000) == found
    assert auroc(table, "one", "shifted", n_boot=100) == Estimate(0.0, 0.0, 0.0, N)
    opposite = auroc(table.assign(one=-table.one), "one", n_boot=2000)
    assert opposite.low == pytest.approx(1 - found.high)
    alone = (found.high - found.low) / 3.92
    assert alone == pytest.approx(np.sqrt(found.value * (1 - found.value) / (table.correct.sum() * 1.5)), rel=0.5)


def test_features_are_those_that_the_plan_names():
    rows, manifest = load_run("sharper")
    asked, blocks = features(rows, manifest)
    widths = {name: block.shape[1] for name, block in blocks.items()}
    assert {len(block) for block in blocks.values()} == {len(asked)} == {2186}
    assert asked.question.is_unique
    assert [sum(widths[name] for name in SETS[of]) for of in ("A0", "A", "B", "C", "D", "E", "F", "F0")] == [
        *(4, 8, 120, 1080, 1080, 2160, 2168, 2164)
    ]
    assert all(np.isfinite(block).all() for block in blocks.values())
    at, question = 17, asked.question[17]
    row = rows[(rows.question == question) & (rows.sharpness == 1) & (rows.shots == 5)].iloc[0]
    bare = rows[(rows.question == question) & (rows.shots == 0)].iloc[0]
    layers, counts = (blocks[name][at] for name in ("layers", "counts"))
    assert layers[30 + 28] == row["id_relative_0.1"][28]
    assert layers[60 + 30 + 28] == row["id_relative_0.1"][28] - float(bare["id_relative_0.1"][28])
    assert counts[:270].reshape(30, 9).sum(axis=1).tolist() == layers[:30].tolist()
    assert blocks["entropies"][at, 540 + 270 + 5] == pytest.approx(float(row.renyi2[5]) - float(bare.renyi2[5]))
    assert blocks["length"][at, 0] == bare.prompt_tokens
    plan = (ROOT / "book" / "plan-predict.md").read_text()
    assert all(f"{penalty:g}" in plan for penalty in predicting.PENALTIES)


def test_the_models_own_answer_is_a_block_where_it_was_measured():
    rows, manifest = load_run("sharper")
    questions = rows.question.unique()[:9]
    own = pd.DataFrame({"question": np.tile(questions, 2), "sharpness": np.repeat([1.0, 1.25], 9)})
    own = own.assign(best=-1.0 - np.arange(18), lead=np.where(own.question == questions[3], np.nan, 2.0))
    asked, blocks = features(rows, manifest, own)
    assert {*asked.question} == {*questions} - {questions[3]}
    assert blocks["answer"][:, 1].tolist() == [2.0] * 8
    assert blocks["answer"][asked.question == questions[5], 0].tolist() == [-6.0]
    assert all(block.shape == (8, blocks[name].shape[1]) for name, block in blocks.items())
    assert {name for blocks_of in OWN.values() for name in blocks_of} <= {*blocks}
    assert {*FACTS} <= {*blocks}


def test_what_is_refused():
    rows, manifest = load_run("sharper")
    twice = pd.concat([rows, rows[rows.shots > 0][:1]])
    for wrong in (twice, rows[rows.shots > 0]):
        with pytest.raises(ValueError, match=r"^features: every question was expected once with"):
            features(wrong, manifest)
    blocks, y = simulated(0, 0.0)
    for labels in (y[:-1], np.ones(N, dtype=bool)):
        with pytest.raises(ValueError, match=r"^out_of_fold: blocks of \d+ rows were expected, with right answers"):
            out_of_fold(blocks, labels)
    table = pd.DataFrame({"example_set": [1, 1], "correct": [True, True], "one": [0.0, 1.0]})
    with pytest.raises(ValueError, match=r"^auroc: y is 'correct', but right answers and wrong ones"):
        auroc(table, "one", n_boot=10)


def test_what_the_plan_says_of_each_outcome():
    plan = (ROOT / "book" / "plan-predict.md").read_text()
    for low, high, refuted in [(0.03, 0.05, 0), (0.01, 0.05, 0), (0.001, 0.01, 1), (-0.01, 0.05, 0), (-0.02, 0.01, 1)]:
        line, _, more = said(Estimate((low + high) / 2, low, high, 9)).partition("; ")
        assert f"| {line} |" in plan
        assert (f"| {more} (beside one of" in plan) == bool(refuted) == bool(more)
    assert said(Estimate(-0.02, -0.03, -0.01, 9)).startswith(
        "with the geometry of heads the prediction is worse; a gain"
    )
