"""Headline numbers of the book recomputed from the published files, without geolib: pandas and SciPy alone.

Each is compared with what the pages print, digit by digit.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm, rankdata, spearmanr

RESULTS = Path(__file__).parents[2] / "book" / "results"
pytestmark = pytest.mark.filterwarnings("error")


def read(name):
    return pd.read_parquet(RESULTS / f"{name}.parquet")


@pytest.fixture(scope="module")
def shots():
    return read("shots")


def change_of(rows, rule, layer):
    """ID with k examples minus ID with none, by question: one line of pandas."""
    counts = rows[f"id_{rule}_0.1"].map(lambda row: int(row[layer]))
    bare = counts[rows.shots == 0].set_axis(rows.question[rows.shots == 0])
    return (counts - rows.question.map(bare))[rows.shots > 0]


def mean_rho(change, rows, by=("shots",)):
    asked = rows.loc[change.index].assign(change=change)
    groups = [group for _, group in asked.groupby(list(by))]
    found = [spearmanr(group.change, group.correct).statistic for group in groups]
    return np.average(found, weights=[len(group) for group in groups])


def test_1_share_correct_with_no_example():
    bare = read("bare")
    assert (len(bare), round(100 * bare.correct.mean(), 1)) == (2978, 18.3)


def test_2_the_first_number_of_the_text_as_an_answer():
    """A baseline: what a reader would get who always answers with the first number of the question."""
    facts = read("questions")
    assert round(100 * (facts.place == 0).mean(), 1) == 58.8


@pytest.mark.whole
def test_3_the_primary_test(shots):
    """The plan's statistic, and its interval by a bootstrap over questions that draws rows and ranks them."""
    change = change_of(shots, "absolute", -2)
    assert round(mean_rho(change, shots), 3) == -0.032
    asked = shots.loc[change.index].assign(change=change).pivot(index="question", columns="shots")
    x, y = asked["change"].to_numpy(), asked["correct"].to_numpy(dtype=float)
    drawn = np.random.default_rng(1).integers(len(x), size=(1500, len(x)))
    ranks_x, ranks_y = rankdata(x[drawn], axis=1), rankdata(y[drawn], axis=1)
    ranks_x, ranks_y = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (ranks_x, ranks_y))
    scale = np.sqrt((ranks_x**2).sum(axis=1) * (ranks_y**2).sum(axis=1))
    low, high = np.quantile(((ranks_x * ranks_y).sum(axis=1) / scale).mean(axis=1), [0.025, 0.975])
    assert (low, high) == pytest.approx((-0.11, 0.047), abs=0.008)
    assert low < 0 < high < 0.10, "not supported, and refuted at the size that would matter"


def test_4_sixths_of_the_papers_own_reading(shots):
    change = change_of(shots, "relative", -2)
    correct = shots.correct[change.index]
    sixths = correct.groupby(pd.qcut(change, 6, labels=False, duplicates="drop")).mean()
    assert (100 * sixths).round().tolist() == [25, 32, 32, 30, 38, 44]


def test_5_rank_correlations_by_set():
    shots, others = read("shots"), read("other-sets")
    every = pd.concat([shots, others[others.shots > 0]], ignore_index=True)
    change = change_of(every, "relative", -2)
    by_set = [mean_rho(change[every.example_set[change.index] == s], every) for s in range(4)]
    assert np.round(by_set, 3).tolist() == [0.080, 0.104, 0.086, 0.098]
    assert round(mean_rho(change, every, ("example_set", "shots")), 3) == 0.092


@pytest.mark.whole
def test_6_within_a_question():
    """The linear model with question, set and number of examples held fixed, by two-way demeaning until it is done."""
    shots, others = read("shots"), read("other-sets")
    every = pd.concat([shots, others[others.shots > 0]], ignore_index=True)
    for rule, expected in (("absolute", 0.23), ("relative", 0.36)):
        change = change_of(every, rule, -2)
        table = every.loc[change.index, ["question", "shots", "example_set", "correct"]].assign(x=change)
        table["y"] = table.correct.astype(float)
        cell = table.groupby(["example_set", "shots"])
        sd = np.sqrt(((table.x - cell.x.transform("mean")) ** 2).mean())
        for _ in range(50):
            for group in (["question"], ["example_set", "shots"]):
                table[["x", "y"]] -= table.groupby(group)[["x", "y"]].transform("mean")
        slope = (table.x @ table.y) / (table.x @ table.x)
        scores = (table.x * (table.y - slope * table.x)).groupby(table.question).sum()
        error = np.sqrt((scores**2).sum()) / (table.x @ table.x)
        low, high = 100 * sd * (slope + error * norm.ppf([0.025, 0.975]))
        assert round(100 * sd * slope, 2) == expected
        assert -2 < low < 0 < high < 2, "equivalence: under 2 points per sd"


def test_7_question_length_alone():
    shots, others = read("shots"), read("other-sets")
    asked = pd.concat([shots, others])[lambda rows: rows.shots > 0]
    found = [spearmanr(g.prompt_tokens, g.correct).statistic for _, g in asked.groupby(["example_set", "shots"])]
    assert round(np.mean(found), 2) == -0.17


def test_8_sharper_attention_answers_better():
    rows = read("intervention")
    rows = rows[rows.shots == 5].set_index("question")
    one = rows[(rows.layers == "none")].correct
    sharp = rows[(rows.layers == "all") & (rows.sharpness == 1.25)].correct[one.index]
    gained, lost = (sharp & ~one).sum(), (~sharp & one).sum()
    assert (gained, lost, round(100 * (sharp.mean() - one.mean()), 1)) == (35, 11, 8.0)
    assert round(binomtest(int(gained), int(gained + lost)).pvalue, 4) == 0.0005
    assert (rows[(rows.layers == "all") & (rows.sharpness == 0.5)].new_tokens == 0).all()


def test_9_asked_again_with_a_line_before_it():
    again = read("repeats")
    assert round(100 * again[again.condition == "examples, lead"].correct.mean()) == 18
    assert round(100 * again[again.temperature > 0].correct.mean()) == 15


def test_10_examples_without_steps_stop_calculations_and_do_not_help():
    rows = read("chain")
    plain = rows[(rows.condition == "examples") & rows.shots.isin([3, 5, 8])].groupby("shots")
    assert (100 * plain.redundant.mean()).round().tolist() == [5, 3, 0]
    assert (100 * plain.correct.mean()).round(1).tolist() == [16.7, 13.7, 15.7]


def test_11_more_examples_than_ten():
    rows = read("many")
    share = 100 * rows[rows.shots > 0].groupby("shots").correct.mean()
    assert share.round(1).to_dict() == {16: 40.7, 32: 56.0, 64: 42.0}


def test_12_examples_against_shuffled_ones(shots):
    fillings = read("ablations")
    shuffled = fillings[fillings.condition == "shuffled"].groupby("shots").correct.mean()
    apart = 100 * (shots.groupby("shots").correct.mean() - shuffled).dropna()
    assert apart.round(1).to_dict() == {1: -17.0, 3: 13.3, 5: 0.0, 10: 3.7}


def test_the_manifests_say_whose_numbers_these_are():
    for name in ("bare", "shots", "other-sets", "intervention", "chain", "many", "repeats", "ablations"):
        assert json.loads((RESULTS / f"{name}.json").read_text())["model"] == "smollm2-135m-b179c952-v1"
