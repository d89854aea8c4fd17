"""The analysis against closed forms, naive loops, and simulations whose truth is known."""

import re
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom, norm, spearmanr

from geolib.estimates import finding
from geolib.reasoning import (
    Estimate,
    association,
    binned_share,
    holm,
    id_change,
    layer_profile,
    load_run,
    mean_change,
    paired_share,
    permutation_test,
)
from geolib.reasoning.published import own_results
from geolib.reasoning.resampling import partial_rhos


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
    ("given", "message"),
    [
        ({"rule": "relative"}, "rows have no column 'id_relative_0.1', but id_absolute_0.1 were recorded"),
        ({"eps": 0.2}, "rows have no column 'id_absolute_0.2'"),
        ({"layer": 2}, "layer is 2, but -2 to 1 was expected"),
        ({"layer": 1.0}, "layer is 1.0, but an integer was expected"),
        ({"layer": True}, "layer is True, but an integer was expected"),
        ({"layer": "1"}, "layer is '1', but an integer was expected"),
        ({"layer": -3}, "layer is -3"),
        ({"verdict": "lenient"}, "verdict is 'lenient', but the table's columns are question, shots"),
    ],
)
def test_bad_id_change(given, message):
    with pytest.raises((ValueError, TypeError), match=f"^id_change: {message}"):
        id_change(rows_of({1: {0: [1, 2]}}, {1: {0: False}}), **given)


OLD = load_run("shots", own_results() / "first")[0]


@pytest.mark.parametrize(
    ("call", "lacking"),
    [
        (lambda: id_change(OLD, verdict="frozen"), "id_change: {} lack frozen"),
        (lambda: paired_share(OLD, OLD, y="computed"), "paired_share: first: {} lack computed"),
        (lambda: association(OLD, x="renyi2", y="entropy"), "association: {} lack renyi2, entropy"),
        (lambda: mean_change(OLD, x="heads_absolute_0.1"), "mean_change: {} lack heads_absolute_0.1"),
        (lambda: permutation_test(OLD, x="near"), "permutation_test: {} lack near"),
        (lambda: layer_profile(OLD, verdict="frozen"), "id_change: {} lack frozen"),
    ],
)
def test_what_a_file_of_an_older_format_lacks_is_named_with_the_command_that_makes_it(call, lacking):
    expected = lacking.format("rows of an older format") + "; geolib sweep --run shots records them now"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        call()


def test_rows_of_no_known_run_and_tables_of_other_columns():
    with pytest.raises(ValueError, match=r"lack frozen; geolib sweep --run NAME records them now$"):
        id_change(rows_of({1: {0: [1, 2]}}, {1: {0: False}}), verdict="frozen")
    with pytest.raises(ValueError, match=r"^association: controls is 'renyi2', but the table's columns are "):
        association(id_change(OLD), controls=["renyi2"])  # no run would give it this column


def test_a_question_without_a_bare_row():
    rows = rows_of({4: {1: [1]}, 5: {0: [2], 1: [5]}}, {4: {1: True}, 5: {0: False, 1: True}})
    assert id_change(rows)[["question", "change"]].to_numpy().tolist() == [[5, 3]]
    with pytest.raises(ValueError, match=r"^id_change: rows has no question with 0 shots, but"):
        id_change(rows[:1])


def test_what_else_was_recorded_comes_along():
    """The baseline is the plain 0-shot prompt: a hint, a draw at random or sharpened attention make another row."""
    rows = pd.DataFrame(
        {
            "question": 7,
            "condition": ["examples", "examples, hint", "examples", "random", "examples"],
            "example_set": [0, 0, 0, 2, 0],
            "shots": [0, 0, 0, 3, 3],
            "temperature": [0.0, 0.0, 0.7, 0.0, 0.0],
            "sharpness": [1.0, 1.0, 1.0, 1.0, 2.0],
            "prompt_tokens": [40, 50, 40, 90, 90],
            "correct": [False, True, True, False, True],
            # Stored as small integers, whose differences would wrap around.
            "id_absolute_0.1": list(np.array([[-30000, 1], [30000, 2], [-30000, 1], [5, 3], [6, 9]], dtype=np.int16)),
            "sink_share": list(np.array([[0.1, 0.5], [0.2, 0.25], [0.1, 0.5], [0, 1], [0, 0.75]], dtype=np.float16)),
            "gates_changed": list(np.array([[0, 0], [1, 2], [0, 0], [3, 4], [5, 6]])),
        }
    )
    table = id_change(rows, layer=-1)
    assert table.condition.tolist() == ["examples, hint", "examples", "random", "examples"]
    assert table.example_set.tolist() == [0, 0, 2, 0]
    assert table.temperature.tolist() == [0, 0.7, 0, 0]
    assert table.sharpness.tolist() == [1, 1, 1, 2]
    assert table.change.tolist() == [1, 0, 2, 8]
    assert table.prompt_tokens.tolist() == [50, 40, 90, 90]
    assert table.prompt_tokens_change.tolist() == [10, 0, 50, 50]
    assert table.sink_share.tolist() == [0.25, 0.5, 1, 0.75]
    assert table.sink_share_change.tolist() == [-0.25, 0, 0.5, 0.25]
    assert table.gates_changed.tolist() == [2, 0, 4, 6]
    assert id_change(rows, layer=0).change.tolist() == [60000, 0, 30005, 30006]
    doubled = pd.concat([rows, rows.iloc[:1]], ignore_index=True)  # the same answer, from two runs
    pd.testing.assert_frame_equal(id_change(doubled), table)


def test_two_bare_rows_that_differ():
    rows = pd.concat([rows_of({3: {0: [1]}}, {3: {0: False}}), rows_of({3: {0: [2]}}, {3: {0: False}})])
    with pytest.raises(ValueError, match=r"^id_change: question 3 has two 0-shot rows of different ID, but one was"):
        id_change(rows)
    with pytest.raises(ValueError, match=r"^id_change: the table has no rows"):
        id_change(rows.iloc[:0])


def noise(n, seed, slope=0.0):
    """Rows of n questions under 1 and 3 shots; shots move both columns, and correctness follows the change by slope."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"question": np.repeat(np.arange(n), 2), "shots": np.tile([1, 3], n)})
    table["change"] = rng.integers(-5, 6, 2 * n) + 10 * (table.shots == 3)
    within = table.change - 10 * (table.shots == 3)
    table["correct"] = rng.random(2 * n) < 0.3 + 0.4 * (table.shots == 3) + slope * within
    return table


# An end that is not known, or that is not where it belongs.
UNKNOWN = [(np.nan, np.nan), (0.2, np.nan), (np.nan, -0.2), (np.nan, 0.05), (-0.05, np.nan), (0.4, 0.2), (0.01, -0.01)]


@pytest.mark.parametrize(
    ("low", "high", "claimed", "smallest", "verdict"),
    [
        (0.15, 0.30, 1, 0.1, "agrees"),
        (0.02, 0.30, 1, 0.1, "agrees"),
        (0.02, 0.08, 1, 0.1, "absent"),  # it is there, and too small to matter
        (-0.11, 0.04, 1, 0.1, "absent"),  # what the plan calls refuted at the size that would matter
        (-0.11, 0.11, 1, 0.1, "undecided"),
        (-0.30, -0.01, 1, 0.1, "disagrees"),
        (-0.30, -0.15, -1, 0.1, "agrees"),
        (-0.08, 0.2, -1, 0.1, "absent"),
        (0.01, 0.2, -1, 0.1, "disagrees"),
        (-0.08, 0.08, 0, 0.1, "agrees"),
        (0.02, 0.08, 0, 0.1, "agrees"),
        (-0.11, 0.08, 0, 0.1, "undecided"),
        (0.02, 0.2, 0, 0.1, "disagrees"),
        *((*ends, claimed, 0.1, "undecided") for ends in UNKNOWN for claimed in (1, -1, 0)),
    ],
)
def test_verdicts_with_a_smallest_effect(low, high, claimed, smallest, verdict):
    assert finding(Estimate((low + high) / 2, low, high, 9), claimed, smallest) == verdict


def test_an_end_that_may_be_off_decides_nothing():
    assert finding(Estimate(0.2, 0.001, 0.4, 9), 1, 0.1) == "agrees"
    assert finding(Estimate(0.2, 0.001, 0.4, 9), 1, 0.1, slack=0.002) == "undecided"
    assert finding(Estimate(0.2, -0.001, 0.4, 9), 1, 0.1, slack=-0.002) == "agrees"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"claimed": 2}, "claimed is 2"),
        ({"claimed": True}, "claimed is True"),
        ({"claimed": np.True_}, "claimed is np.True_"),
        ({"claimed": 0.5}, "claimed is 0.5"),
        ({"claimed": np.array([1])}, "claimed is array"),
        ({"smallest": -0.1}, "smallest is -0.1"),
        ({"smallest": np.nan}, "smallest holds nan"),
        ({"smallest": True}, "smallest is True"),
        ({"slack": np.nan}, "slack is nan"),
        ({"slack": -np.inf}, "slack is -inf"),
        ({"slack": "0.1"}, "slack is '0.1'"),
        ({"slack": np.True_}, "slack is np.True_"),
        ({"slack": np.array([0.1])}, "slack is array"),
    ],
)
def test_bad_verdicts(given, message):
    with pytest.raises((TypeError, ValueError), match=rf"^finding: {message}.*, but .* expected$"):
        finding(Estimate(0, -1, 1, 9), **({"claimed": 1} | given))


def test_estimates_as_text():
    assert f"{Estimate(8, 3.66, 12.04, 300):.1f}" == "+8.0 [+3.7, +12.0]"
    assert f"{Estimate(1.5, 1, 2, 3, null=1.0):.2f}" == "1.50 [1.00, 2.00]"
    assert f"{Estimate(8, 3, 12, 300)}" == "+8.00 [+3.00, +12.00], n = 300"


def naive_partial(table, controls):
    """Correlate what is left of the ranks of change and answer once those of the controls are regressed out."""
    found, sizes = [], []
    for _, group in table.groupby("shots"):
        ranks = group[["change", "correct", *controls]].rank().to_numpy()
        design = np.column_stack([np.ones(len(group)), ranks[:, 2:]])
        left = ranks[:, :2] - design @ np.linalg.lstsq(design, ranks[:, :2], rcond=None)[0]
        found.append(np.corrcoef(left.T)[0, 1])
        sizes.append(len(group))
    return np.average(found, weights=sizes)


def test_partial_association_is_the_naive_one():
    table = noise(150, 5, 0.03)
    rng = np.random.default_rng(5)
    table["length"] = rng.integers(0, 9, len(table)) + table.change
    table["twice"], table["flat"] = 2 * table.length, 3.0
    for controls in (["length"], ["length", "twice", "flat"]):
        assert association(table, controls=controls, n_boot=9).value == pytest.approx(naive_partial(table, ["length"]))
    by_hand = association(table, n_boot=9).value
    assert association(table, controls=["flat"], n_boot=9).value == pytest.approx(by_hand)
    assert np.isnan(association(table.assign(length=table.change), controls=["length"], n_boot=9).value)


def test_partial_association_takes_a_confounder_away():
    """Length moves both; with it held fixed nothing is left, and the interval covers 0."""
    rng = np.random.default_rng(6)
    length = rng.normal(size=600)
    table = pd.DataFrame({"question": range(600), "shots": 1, "length": length})
    table["change"] = length + 0.5 * rng.normal(size=600)
    table["correct"] = rng.random(600) < expit(2 * length)
    raw, held = association(table, n_boot=500), association(table, controls=["length"], n_boot=500)
    assert raw.low > 0.3
    assert held.low < 0 < held.high
    assert held.high - held.low < 0.25


def test_partial_association_reweights_as_rows_are_repeated():
    """A sample with weights is the table with rows repeated, ranks kept from the whole."""
    table = noise(40, 7, 0.03)
    table["length"] = np.random.default_rng(7).integers(0, 9, len(table))
    xs, ys, cs = (table[name].to_numpy(dtype=float) for name in ("change", "correct", "length"))
    strata, units = (table.shots == 3).to_numpy(dtype=int), table.question.to_numpy()
    weights = np.random.default_rng(8).integers(0, 4, 40)
    found = partial_rhos(xs, ys, [cs], strata, units)(weights[:, None].astype(float))[0, 0]
    expected = []
    for stratum in (0, 1):
        rows = np.flatnonzero(strata == stratum)
        ranks = table.iloc[rows][["change", "correct", "length"]].rank().to_numpy()
        ranks = ranks[np.repeat(np.arange(len(rows)), weights[units[rows]])]
        design = np.column_stack([np.ones(len(ranks)), ranks[:, 2]])
        left = ranks[:, :2] - design @ np.linalg.lstsq(design, ranks[:, :2], rcond=None)[0]
        expected.append(np.corrcoef(left.T)[0, 1])
    assert found == pytest.approx(np.mean(expected))


def test_controls_are_a_list():
    with pytest.raises(TypeError, match=r"^association: controls is 'length', but a sequence of columns was expected"):
        association(noise(9, 0), controls="length")
    with pytest.raises(ValueError, match=r"^association: controls is 'length', but the table's columns are question,"):
        association(noise(9, 0), controls=["length"])


def test_bins_hold_every_row_once():
    table = noise(200, 0)
    binned = binned_share(table, bins=5)
    assert binned.n.sum() == len(table)
    assert (binned.n * binned.estimate).sum() == pytest.approx(table.correct.sum())
    assert binned.change.is_monotonic_increasing
    assert ((binned.low <= binned.estimate) & (binned.estimate <= binned.high)).all()


def test_wilson_interval_in_closed_form():
    """Wilson 1927: the interval's ends solve (p - share)^2 = z^2 p (1 - p) / n."""
    table = pd.DataFrame({"change": np.arange(40.0), "correct": np.arange(40) % 4 == 0})
    (row,) = binned_share(table, bins=1).itertuples()
    z = 1.959963984540054  # the normal distribution's 97.5 % quantile
    for end in (row.low, row.high):
        assert (end - row.estimate) ** 2 == pytest.approx(z**2 * end * (1 - end) / row.n)


def test_repeated_values_make_fewer_bins():
    assert len(binned_share(pd.DataFrame({"change": [0] * 9 + [1], "correct": [True] * 10}), bins=6)) == 1


def test_association_is_spearman_at_fixed_shots():
    table = noise(150, 1)
    measured = association(table, n_boot=200)
    expected = [spearmanr(group.change, group.correct).statistic for _, group in table.groupby("shots")]
    assert measured.value == pytest.approx(np.mean(expected))
    assert measured.low < measured.value < measured.high
    assert measured.n == 150, "questions, not rows"


def test_association_is_not_fooled_by_shots():
    """More shots raise both, within no number of shots is there anything: pooled, the correlation would be strong."""
    table = noise(400, 2)
    assert spearmanr(table.change, table.correct).statistic > 0.3
    assert finding(association(table, n_boot=200), 1) == "undecided"


@pytest.mark.parametrize("slope", [0.05, -0.05])
def test_association_finds_what_is_there(slope):
    measured = association(noise(400, 3, slope), n_boot=200)
    claims = {claimed: finding(measured, claimed) for claimed in (1, -1, 0)}
    assert claims == {np.sign(slope): "agrees", -np.sign(slope): "disagrees", 0: "disagrees"}


def test_association_is_seeded():
    table = noise(50, 4)
    assert association(table, n_boot=50, seed=1) == association(table, n_boot=50, seed=1)
    assert association(table, n_boot=50, seed=1) != association(table, n_boot=50, seed=2)


def test_nothing_varies():
    table = pd.DataFrame({"question": [1, 2], "shots": [1, 1], "change": [3, 4], "correct": [True, True]})
    measured = association(table, n_boot=20)
    assert np.isnan([measured.value, measured.low, measured.high]).all()
    assert finding(measured, 1) == "undecided"


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


def test_null_of_a_ratio():
    ratio = Estimate(1.3, 1.1, 1.5, 90, null=1.0)
    assert str(ratio) == "1.30 [1.10, 1.50], n = 90"
    assert finding(ratio, 1) == "agrees"
    assert finding(Estimate(1.3, 0.9, 1.5, 90, null=1.0), 1) == "undecided"
    assert finding(Estimate(0.7, 0.5, 0.9, 90, null=1.0), 1) == "disagrees"


# Association: bootstrap and permutation against what they stand for


def uneven(seed, n=25):
    """Ties everywhere, two kinds of strata, and not every question under all of them."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame([(q, s, k) for q in range(n) for s in range(2) for k in (1, 3)])
    table.columns = ["question", "example_set", "shots"]
    table["change"] = rng.integers(-2, 3, len(table)) + table.shots
    table["correct"] = rng.random(len(table)) < expit(
        0.5 * (table.change - table.shots) + 0.3 * rng.normal(size=n)[table.question]
    )
    return table.sample(frac=0.8, random_state=seed)


def naive_rho(table, within):
    groups = [group for _, group in table.groupby(within) if min(group.change.nunique(), group.correct.nunique()) > 1]
    rhos = [spearmanr(group.change, group.correct).statistic for group in groups]
    return np.average(rhos, weights=[len(group) for group in groups])


@pytest.mark.parametrize("within", [["shots"], ["example_set", "shots"]])
def test_association_against_a_loop(within):
    table, rng = uneven(0), np.random.default_rng(3)
    by_question = [group for _, group in table.groupby("question")]
    draws = []
    for _ in range(40):
        drawn = rng.integers(len(by_question), size=len(by_question))
        draws.append(naive_rho(pd.concat([by_question[i] for i in drawn]), within))
    measured = association(table, within=within, n_boot=40, seed=3)
    assert measured.value == pytest.approx(naive_rho(table, within))
    np.testing.assert_allclose([measured.low, measured.high], np.quantile(draws, [0.025, 0.975]))


def test_nothing_held_fixed():
    table = uneven(1)
    assert association(table, within=(), n_boot=9).value == pytest.approx(
        spearmanr(table.change, table.correct).statistic
    )


@pytest.mark.whole
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(20)))
def test_ranks_alone_count(seed, order):
    """Neither the order of the rows nor the scale of the columns matters."""
    table = uneven(seed, n=10).iloc[:20]
    same = table.iloc[order].assign(change=np.exp(table.change) - 3, correct=2 * table.correct)
    one, other = association(table, n_boot=20), association(same, n_boot=20)
    np.testing.assert_allclose([one.value, one.low, one.high], [other.value, other.low, other.high], atol=1e-12)


def test_many_samples_are_the_first_few_and_more():
    """Samples are drawn a few at a time; the pieces must join."""
    table = pd.concat([noise(400, 0).assign(set=s) for s in range(30)], ignore_index=True)
    rng, question = np.random.default_rng(0), table.question.to_numpy()
    means = table.groupby("question").change.mean().to_numpy()
    draws = [means[rng.integers(400, size=400)].mean() for _ in range(150)]
    assert len(question) * 150 > 2**20
    measured = mean_change(table, n_boot=150)
    np.testing.assert_allclose([measured.low, measured.high], np.quantile(draws, [0.025, 0.975]))


@pytest.mark.whole
def test_permutations_against_all_of_them():
    """Six questions of one kind, and two that lack a number of shots: those exchange among themselves."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame([(q, k) for q in range(8) for k in (1, 3) if k == 1 or q < 6], columns=["question", "shots"])
    table["change"], table["correct"] = rng.integers(0, 5, len(table)), rng.random(len(table)) < 0.5
    verdicts = {q: group.correct.tolist() for q, group in table.groupby("question")}
    found = []
    for order in permutations(range(6)):
        for rest in ((6, 7), (7, 6)):
            moved = table.assign(correct=[verdict for q in (*order, *rest) for verdict in verdicts[q]])
            ranks = moved.groupby("shots")[["change", "correct"]].rank()
            rhos = [r.corr().iloc[0, 1] * len(r) for _, r in ranks.groupby(table.shots)]
            found.append(sum(rhos) / len(table))
    for alternative, side in (("two-sided", np.abs), ("greater", np.positive), ("less", np.negative)):
        exact = np.mean(side(np.array(found)) >= side(found[0]) - 1e-9)
        assert 0.1 < exact < 0.9
        p = permutation_test(table, alternative=alternative, n_perm=20_000)
        assert abs(p - exact) < 0.015  # more than four standard errors


@pytest.mark.whole
def test_permutation_p_values_are_uniform_where_nothing_is():
    """Questions are alike under all shots, in their ID as in their answers; rows are many, questions few."""
    rng, rejected, p_values = np.random.default_rng(6), 0, []
    for _ in range(200):
        table = pd.DataFrame({"question": np.repeat(np.arange(30), 5), "shots": np.tile(np.arange(5), 30)})
        table["change"] = rng.normal(size=30)[table.question] + 0.2 * rng.normal(size=150)
        table["correct"] = rng.random(150) < expit(3 * rng.normal(size=30)[table.question])
        p_values.append(permutation_test(table, n_perm=99))
        shuffled = [spearmanr(table.change, rng.permutation(table.correct)).statistic for _ in range(9)]
        rejected += abs(spearmanr(table.change, table.correct).statistic) > max(np.abs(shuffled))
    assert np.mean(np.array(p_values) <= 0.05) <= 0.11  # 22 of 200: binomial(200, 0.05) exceeds it once in 5,000
    assert 0.4 < np.mean(p_values) < 0.6
    assert rejected > 60, "row by row, one in ten would be right: the questions' likeness matters here"


def test_permutation_test_finds_what_is_there():
    table = noise(200, 3, slope=0.05)
    assert permutation_test(table, alternative="greater", n_perm=199) == 1 / 200  # the least there is
    assert permutation_test(table, alternative="less", n_perm=199) == 1
    assert permutation_test(table, n_perm=199, seed=1) == permutation_test(table, n_perm=199, seed=1)
    assert np.isnan(permutation_test(table.assign(correct=True), n_perm=9))
    with pytest.raises(ValueError, match=r"^permutation_test: alternative is 'both', but 'two-sided' or "):
        permutation_test(table, alternative="both")


@pytest.mark.whole
def test_holm_in_closed_form():
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03]), [0.06, 0.03, 0.06])  # 1 * 0.04 may not fall below 2 * 0.03
    np.testing.assert_allclose(holm([0.04, np.nan, 0.01]), [0.04, np.nan, 0.02])
    assert np.isnan(holm([np.nan])).all()
    assert holm([]).shape == (0,)
    for wrong in ([0.1, 1.2], [-0.1], 0.5):
        with pytest.raises(ValueError, match=r"^holm: p_values is .*, but a list of numbers from 0 to 1 was expected"):
            holm(wrong)


# Pairs and doses


def test_paired_share_in_closed_form():
    first = pd.DataFrame({"question": range(40), "correct": [True] * 25 + [False] * 15})
    second = pd.DataFrame({"question": range(40), "correct": [True] * 12 + [False] * 24 + [True] * 4})
    found = paired_share(first, second.sample(frac=1, random_state=0))
    assert (found.first, found.second, found.difference.value) == (62.5, 40, 22.5)
    b, c = 13, 4
    assert found.p == pytest.approx(2 * binom.cdf(c, b + c, 0.5))
    error = 100 * np.sqrt((b + c) / 40 - ((b - c) / 40) ** 2) / np.sqrt(40)
    np.testing.assert_allclose(
        [found.difference.low, found.difference.high], 22.5 + error * norm.ppf([0.025, 0.975]), atol=2.6
    )
    assert found.difference.n == 40
    assert paired_share(first, first).p == 1


def test_paired_share_of_several_answers():
    """Draws are averaged by question, so that one asked more often does not count more."""
    first = pd.DataFrame({"question": [1, 1, 1, 1, 2], "correct": [True, True, True, False, False]})
    second = pd.DataFrame({"question": [1, 2], "correct": [False, False]})
    found = paired_share(first, second)
    assert (found.first, found.second, found.difference.value) == (37.5, 0, 37.5)
    assert (found.difference.low, found.difference.high) == (0, 75)
    assert np.isnan(found.p)


def test_paired_share_is_of_the_shared_questions():
    """A run with questions missing is compared where both have an answer, and n says so."""
    table = pd.DataFrame({"question": [1, 2, 3], "correct": [True, False, True]})
    found = paired_share(table, table.assign(correct=False)[:2], n_boot=9)
    assert (found.first, found.second, found.difference.value, found.difference.n) == (50, 0, 50, 2)


def test_paired_share_of_other_questions():
    table = pd.DataFrame({"question": [1, 2], "correct": [True, False]})
    with pytest.raises(
        ValueError, match=r"^paired_share: first and second share no question, but at least one was expected"
    ):
        paired_share(table[:1], table[1:])
    with pytest.raises(ValueError, match=r"^paired_share: second: the table has no rows"):
        paired_share(table, table[:0])
    with pytest.raises(ValueError, match=r"^paired_share: first: y is 'strict', but the table's columns are question,"):
        paired_share(table, table, y="strict")
    with pytest.raises(ValueError, match=r"^paired_share: second: y is 'correct', which holds 3, but true and false"):
        paired_share(table, table.assign(correct=3))
