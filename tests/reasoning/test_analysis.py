"""The analysis against closed forms and scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from geolib.reasoning import Estimate, association, binned_share, id_change, mean_change


def rows_of(ids, correct):
    """Rows as a sweep returns them: ids[question][shots] is a list of layers, correct[question][shots] a bool."""
    table = [
        {"question": q, "shots": k, "id_absolute_0.1": np.array(layers), "correct": correct[q][k]}
        for q, by_shots in ids.items()
        for k, layers in by_shots.items()
    ]
    return pd.DataFrame(table)


def test_id_change():
    ids = {5: {0: [1, 10], 1: [4, 8]}, 9: {0: [2, 20], 1: [2, 25], 3: [1, 30]}}
    correct = {5: {0: False, 1: True}, 9: {0: False, 1: False, 3: True}}
    last = id_change(rows_of(ids, correct))
    assert last.to_dict("list") == {
        "question": [5, 9, 9],
        "shots": [1, 1, 3],
        "change": [-2, 5, 10],
        "correct": [True, False, True],
    }
    assert id_change(rows_of(ids, correct), layer=-2).change.tolist() == [3, 0, -1]
    assert id_change(rows_of(ids, correct), layer=0).change.tolist() == [3, 0, -1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "relative"}, "rows have no column 'id_relative_0.1', but id_absolute_0.1 were recorded"),
        ({"eps": 0.2}, "rows have no column 'id_absolute_0.2'"),
        ({"layer": 2}, "layer is 2, but the rows hold 2 layers"),
        ({"layer": -3}, "layer is -3"),
    ],
)
def test_bad_id_change(settings, message):
    with pytest.raises(ValueError, match=f"^id_change: {message}"):
        id_change(rows_of({1: {0: [1, 2]}}, {1: {0: False}}), **settings)


def test_a_question_without_a_bare_row():
    with pytest.raises(ValueError, match=r"^id_change: question 4 has no row with 0 shots"):
        id_change(rows_of({4: {1: [1]}}, {4: {1: True}}))


def noise(n, seed, slope=0.0):
    """Rows of n questions under 1 and 3 shots; shots move both columns, and correctness follows the change by slope."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"question": np.repeat(np.arange(n), 2), "shots": np.tile([1, 3], n)})
    table["change"] = rng.integers(-5, 6, 2 * n) + 10 * (table.shots == 3)
    within = table.change - 10 * (table.shots == 3)
    table["correct"] = rng.random(2 * n) < 0.3 + 0.4 * (table.shots == 3) + slope * within
    return table


def test_bins_hold_every_row_once():
    table = noise(200, 0)
    binned = binned_share(table, bins=5)
    assert binned.n.sum() == len(table)
    assert (binned.n * binned.share).sum() == pytest.approx(table.correct.sum())
    assert binned.change.is_monotonic_increasing
    assert ((binned.low <= binned.share) & (binned.share <= binned.high)).all()


def test_wilson_interval_in_closed_form():
    """Wilson 1927: the interval's ends solve (p - share)^2 = z^2 p (1 - p) / n."""
    table = pd.DataFrame({"change": np.arange(40.0), "correct": np.arange(40) % 4 == 0})
    (row,) = binned_share(table, bins=1).itertuples()
    z = 1.959963984540054  # the normal distribution's 97.5 % quantile
    for end in (row.low, row.high):
        assert (end - row.share) ** 2 == pytest.approx(z**2 * end * (1 - end) / row.n)


def test_repeated_values_make_fewer_bins():
    assert len(binned_share(pd.DataFrame({"change": [0] * 9 + [1], "correct": [True] * 10}), bins=6)) == 1


def test_association_is_spearman_at_fixed_shots():
    table = noise(150, 1)
    measured = association(table, n_boot=200)
    expected = [spearmanr(group.change, group.correct).statistic for _, group in table.groupby("shots")]
    assert measured.value == pytest.approx(np.mean(expected))
    assert measured.low < measured.value < measured.high
    assert measured.n == 300


def test_association_is_not_fooled_by_shots():
    """More shots raise both, within no number of shots is there anything: pooled, the correlation would be strong."""
    table = noise(400, 2)
    assert spearmanr(table.change, table.correct).statistic > 0.3
    assert association(table, n_boot=200).verdict(1) == "undecided"


@pytest.mark.parametrize("slope", [0.05, -0.05])
def test_association_finds_what_is_there(slope):
    measured = association(noise(400, 3, slope), n_boot=200)
    claims = {claimed: measured.verdict(claimed) for claimed in (1, -1, 0)}
    assert claims == {np.sign(slope): "agrees", -np.sign(slope): "disagrees", 0: "disagrees"}


def test_association_is_seeded():
    table = noise(50, 4)
    assert association(table, n_boot=50, seed=1) == association(table, n_boot=50, seed=1)
    assert association(table, n_boot=50, seed=1) != association(table, n_boot=50, seed=2)


def test_nothing_varies():
    table = pd.DataFrame({"question": [1, 2], "shots": [1, 1], "change": [3, 4], "correct": [True, True]})
    measured = association(table, n_boot=20)
    assert np.isnan([measured.value, measured.low, measured.high]).all()
    assert measured.verdict(1) == "undecided"


def test_mean_change_and_its_coverage():
    """Of 95 % intervals, about 95 % hold the truth: 0 for changes symmetric about 0."""
    rng = np.random.default_rng(5)
    held = 0
    for seed in range(100):
        table = pd.DataFrame({"question": np.arange(60), "shots": 1, "change": rng.normal(size=60), "correct": True})
        measured = mean_change(table, n_boot=200, seed=seed)
        assert measured.value == pytest.approx(table.change.mean())
        held += measured.low <= 0 <= measured.high
    assert held >= 86  # binomial(100, 0.95) is below with probability 0.0002


def test_bootstrap_is_over_questions():
    """Copies of a question's rows are no new evidence: the interval must not shrink."""
    rng = np.random.default_rng(6)
    once = pd.DataFrame({"question": np.arange(40), "shots": 1, "change": rng.normal(size=40), "correct": True})
    copies = pd.concat([once] * 10, ignore_index=True)
    widths = [measured.high - measured.low for measured in (mean_change(once), mean_change(copies))]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_estimates_read_well():
    assert str(Estimate(0.123, -0.04, 0.28, 90)) == "+0.12 [-0.04, +0.28], n = 90"


def test_other_columns_by_name():
    table = noise(20, 0)
    names = {"question": "seed", "shots": "width", "change": "regions", "correct": "error"}
    renamed = table.rename(columns=names)
    by_name = association(renamed, x="regions", y="error", within="width", unit="seed", n_boot=20)
    assert by_name == association(table, n_boot=20)
    assert mean_change(renamed, x="regions", unit="seed", n_boot=20) == mean_change(table, n_boot=20)


@pytest.mark.parametrize("name", ["x", "y", "within", "unit"])
def test_a_column_that_is_not_there(name):
    with pytest.raises(ValueError, match=f"^association: {name} is 'regions', but the table's columns are question,"):
        association(noise(5, 0), **{name: "regions"})
    if name in ("x", "unit"):
        with pytest.raises(ValueError, match=f"^mean_change: {name} is 'regions'"):
            mean_change(noise(5, 0), **{name: "regions"})
