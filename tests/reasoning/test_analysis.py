"""The analysis against closed forms, naive loops, and simulations whose truth is known."""

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logsumexp
from scipy.stats import binom, norm, spearmanr

from geolib.reasoning import (
    Effect,
    Estimate,
    association,
    binned_share,
    dose_response,
    fixed_effects,
    holm,
    id_change,
    layer_profile,
    logistic,
    mean_change,
    mediation,
    paired_share,
    permutation_test,
)


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
        ({"layer": 2}, "layer is 2, but the rows hold 2 layers"),
        ({"layer": -3}, "layer is -3"),
        ({"verdict": "lenient"}, "verdict is 'lenient', but the table's columns are question, shots"),
    ],
)
def test_bad_id_change(given, message):
    with pytest.raises(ValueError, match=f"^id_change: {message}"):
        id_change(rows_of({1: {0: [1, 2]}}, {1: {0: False}}), **given)


def test_a_question_without_a_bare_row():
    with pytest.raises(ValueError, match=r"^id_change: question 4 has no row with 0 shots"):
        id_change(rows_of({4: {1: [1]}}, {4: {1: True}}))


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


def test_null_of_a_ratio():
    ratio = Estimate(1.3, 1.1, 1.5, 90, null=1.0)
    assert str(ratio) == "1.30 [1.10, 1.50], n = 90"
    assert ratio.verdict(1) == "agrees"
    assert Estimate(1.3, 0.9, 1.5, 90, null=1.0).verdict(1) == "undecided"
    assert Estimate(0.7, 0.5, 0.9, 90, null=1.0).verdict(1) == "disagrees"


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
    with pytest.raises(ValueError, match=r"^permutation_test: alternative is 'both', but two-sided, greater or less"):
        permutation_test(table, alternative="both")


def test_holm_in_closed_form():
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03]), [0.06, 0.03, 0.06])  # 1 * 0.04 may not fall below 2 * 0.03
    np.testing.assert_allclose(holm([0.04, np.nan, 0.01]), [0.04, np.nan, 0.02])
    assert np.isnan(holm([np.nan])).all()
    assert holm([]).shape == (0,)
    for wrong in ([0.1, 1.2], [-0.1], 0.5):
        with pytest.raises(ValueError, match=r"^holm: p_values are not a list of numbers from 0 to 1"):
            holm(wrong)


# Regressions


def table_of(cells):
    """One question per row: cells[(x, y)] of them."""
    rows = [(x, bool(y)) for (x, y), n in cells.items() for _ in range(n)]
    return pd.DataFrame(rows, columns=["change", "correct"]).assign(question=range(len(rows)), shots=1)


def test_logistic_of_a_table_of_four():
    """Odds ratio ad/bc, with Woolf's (1955) error; a rise by 1 is 1 / sd standard deviations."""
    cells = {(0, 0): 40, (0, 1): 20, (1, 0): 25, (1, 1): 35}
    table = table_of(cells)
    effect = logistic(table, controls=())
    n, sd = 120, 0.5
    slope = np.log(40 * 35 / (20 * 25)) * sd
    error = np.sqrt(sum(1 / size for size in cells.values()) * n / (n - 2)) * sd  # the sandwich's factor
    z = norm.ppf(0.975)
    expected = np.exp([slope, slope - z * error, slope + z * error])
    np.testing.assert_allclose([effect.odds_ratio.value, effect.odds_ratio.low, effect.odds_ratio.high], expected)
    assert effect.p == pytest.approx(2 * norm.sf(slope / error))
    shares = np.array([20 / 60, 35 / 60])
    assert effect.points.value == pytest.approx(100 * slope * np.mean(shares * (1 - shares)))
    assert effect.points.low < effect.points.value < effect.points.high
    assert (effect.points.n, effect.odds_ratio.n, effect.reason) == (n, n, "")
    assert str(effect).startswith(f"points {effect.points}; odds ratio {effect.odds_ratio}; p = ")


def confounded(seed, n=300):
    """The prompt's length moves both ID and answer; nothing else does."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"question": np.repeat(np.arange(n), 2), "shots": np.tile([1, 3], n)})
    length = rng.normal(size=n)[table.question]
    table["prompt_tokens"] = 100 + 20 * length
    table["change"] = 3 * length + rng.normal(size=2 * n) + 10 * table.shots
    table["correct"] = rng.random(2 * n) < expit(length + table.shots - 2)
    return table


def test_logistic_takes_out_the_control():
    table = confounded(0)
    assert logistic(table, controls=()).points.verdict(1) == "agrees"
    assert logistic(table).points.verdict(1) == "undecided"
    twice = table.assign(again=2 * table.prompt_tokens + 5 * table.shots, constant=1)
    one, other = logistic(table), logistic(twice, controls=("prompt_tokens", "again", "constant"))
    np.testing.assert_allclose(
        [other.odds_ratio.value, other.points.value], [one.odds_ratio.value, one.points.value], rtol=1e-6
    )


def test_logistic_against_the_plain_regression():
    table = confounded(1)
    given_shots = table.change - table.groupby("shots").change.transform("mean")
    design = np.column_stack(
        [table.change / given_shots.std(ddof=0), table.prompt_tokens, table.shots == 1, table.shots == 3]
    )
    fit = sm.Logit(table.correct, design).fit(
        disp=0, maxiter=100, cov_type="cluster", cov_kwds={"groups": table.question}
    )
    effect = logistic(table)
    np.testing.assert_allclose(np.log(effect.odds_ratio.value), fit.params.iloc[0], rtol=1e-6)
    np.testing.assert_allclose(
        np.log([effect.odds_ratio.low, effect.odds_ratio.high]), fit.conf_int().iloc[0], rtol=1e-6
    )


def test_shots_without_variety_say_nothing():
    table = confounded(2)
    more = pd.concat([table, table[table.shots == 1].assign(shots=9, correct=False)], ignore_index=True)
    assert logistic(more) == logistic(table)


def test_copies_are_no_evidence_for_a_regression():
    table = confounded(3, n=100)
    copies = pd.concat([table] * 8, ignore_index=True)
    for regression, controls in ((logistic, ("prompt_tokens",)), (fixed_effects, ())):
        one, other = (regression(t, controls=controls).points for t in (table, copies))
        assert other.value == pytest.approx(one.value)
        assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.02)


def test_logistic_intervals_hold_the_truth():
    """Answers follow exp(0.5) per standard deviation, given twice each; 95 of 100 intervals hold it, or nearly so."""
    rng, held, naive = np.random.default_rng(7), 0, 0
    for _ in range(100):
        change = rng.normal(size=150)
        table = pd.DataFrame({"change": change, "question": range(150), "shots": 1})
        table["correct"] = rng.random(150) < expit(0.5 * change - 0.3)
        ratio = logistic(pd.concat([table, table]), controls=()).odds_ratio
        alone = logistic(pd.concat([table, table.assign(question=table.question + 150)]), controls=()).odds_ratio
        truth = np.exp(0.5 * change.std())
        held += ratio.low <= truth <= ratio.high
        naive += alone.low <= truth <= alone.high
    assert held >= 86  # binomial(100, 0.95) is below with probability 0.0002
    assert naive < held


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (table_of({(0, 0): 9, (1, 0): 9}), "the answers do not vary"),
        (table_of({(1, 0): 9, (1, 1): 9}), "change does not vary"),
        (table_of({(0, 0): 9, (1, 1): 9}), "right and wrong answers are separated"),
        (table_of({(0, 0): 9, (1, 1): 9, (1, 0): 3}), "right and wrong answers are separated"),
        (table_of({(0, 0): 1, (1, 1): 1}), "2 questions are too few for 2 coefficients"),
        (table_of({(0, 0): 20, (0, 1): 10, (1, 0): 10, (1, 1): 20, (1e6, 1): 1}), "the coefficients grow out of range"),
    ],
)
def test_no_finite_odds_ratio(table, reason):
    effect = logistic(table, controls=())
    assert effect.reason == reason
    assert str(effect) == f"none: {reason}"
    numbers = [
        effect.p,
        *(getattr(e, end) for e in (effect.points, effect.odds_ratio) for end in ("value", "low", "high")),
    ]
    assert np.isnan(numbers).all()


def test_a_change_that_the_controls_determine():
    table = confounded(4).assign(prompt_tokens=lambda t: 7 * t.change)
    assert logistic(table).reason == "change is determined by what is held fixed"
    table = confounded(4).assign(change=lambda t: t.question * 1.0)
    assert fixed_effects(table).reason == "change is determined by what is held fixed"
    assert fixed_effects(table.assign(correct=table.question > 3)).reason == "the answers do not vary"


def test_fixed_effects_of_matched_pairs():
    """Of b pairs right only with the higher ID and c only with the lower one: odds ratio b/c per rise by 1."""
    b, c, alike = 30, 12, 18
    pairs = [(0, 1)] * b + [(1, 0)] * c + [(1, 1)] * alike
    table = pd.DataFrame([(q, x, bool(pair[x])) for q, pair in enumerate(pairs) for x in (0, 1)])
    table.columns = ["question", "change", "correct"]
    effect = fixed_effects(table, within=())
    sd, z = 0.5, norm.ppf(0.975)
    error = np.sqrt((1 / b + 1 / c) * (b + c) / (b + c - 1))
    expected = np.exp(sd * (np.log(b / c) + error * np.array([0, -z, z])))
    np.testing.assert_allclose(
        [effect.odds_ratio.value, effect.odds_ratio.low, effect.odds_ratio.high], expected, rtol=1e-4
    )
    assert effect.points.value == pytest.approx(100 * sd * (b - c) / len(pairs))
    assert (effect.odds_ratio.n, effect.points.n) == (2 * (b + c), 2 * len(pairs))


def test_fixed_effects_against_the_likelihood():
    """Given how many of a question's answers are right, which ones are? All choices, one by one."""
    rng = np.random.default_rng(8)
    table = pd.DataFrame({"question": np.repeat(np.arange(40), 4), "change": rng.normal(size=160)})
    table["correct"] = rng.random(160) < expit(rng.normal(size=40)[table.question] + 0.8 * table.change)

    def loss(slope):
        total = 0
        for _, group in table.groupby("question"):
            x, right = group.change.to_numpy(), group.correct.to_numpy()
            others = [x[list(chosen)].sum() * slope for chosen in combinations(range(4), right.sum())]
            total -= x[right].sum() * slope - logsumexp(others)
        return total

    varied = table.groupby("question").correct.transform("nunique") == 2
    slope = minimize_scalar(loss, bracket=(0, 1)).x
    effect = fixed_effects(table, within=())
    assert effect.odds_ratio.value == pytest.approx(np.exp(slope * table.change[varied].std(ddof=0)), rel=1e-3)


def test_fixed_effects_take_out_the_question():
    """Easy questions have a higher ID; within a question, nothing. The reverse holds too."""
    rng = np.random.default_rng(9)
    table = pd.DataFrame({"question": np.repeat(np.arange(150), 4), "shots": np.tile(np.arange(4), 150)})
    ease = rng.normal(size=150)[table.question]
    table["change"] = ease + rng.normal(size=600)
    table["correct"] = rng.random(600) < expit(1.5 * ease)
    assert logistic(table, controls=()).points.verdict(1) == "agrees"
    assert fixed_effects(table).points.verdict(1) == "undecided"
    table["correct"] = rng.random(600) < expit(1.5 * ease + 0.7 * (table.change - ease))
    inside = fixed_effects(table)
    assert inside.points.verdict(1) == inside.odds_ratio.verdict(1) == "agrees"
    assert inside.p < 0.001


# Layers


def layered(seed, n=60, layers=4):
    """Rows whose last layer's ID knows the answer."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame([(q, k) for q in range(n) for k in (0, 1, 3)], columns=["question", "shots"])
    rows["condition"], rows["prompt_tokens"] = "examples", 50 + rows.question % 7 + 30 * rows.shots
    rows["correct"] = (rng.random(len(rows)) < 0.5) & (rows.shots > 0)
    ids = rng.integers(0, 12, (len(rows), layers))
    ids[:, -1] += 6 * rows.correct
    rows["id_relative_0.05"] = list(ids)
    rows["sink_share"] = list(rng.random((len(rows), layers)))
    return rows


def test_layer_profile_is_layer_by_layer():
    rows, rule = layered(0), {"rule": "relative", "eps": 0.05}
    controls = ("prompt_tokens", "sink_share")
    profile = layer_profile(rows, **rule, controls=controls, n_boot=100, n_perm=199)
    assert profile.layer.tolist() == [0, 1, 2, 3]
    for layer, row in profile.iterrows():
        table = id_change(rows, **rule, layer=layer)
        rho = association(table, n_boot=100)
        np.testing.assert_allclose(row[["rho", "low", "high"]].tolist(), [rho.value, rho.low, rho.high])
        assert row.p == permutation_test(table, n_perm=199)
        effect = logistic(table, controls=controls)
        found = row[["points", "points_low", "points_high", "odds_ratio", "logistic_p"]].tolist()
        points = effect.points
        np.testing.assert_allclose(found, [points.value, points.low, points.high, effect.odds_ratio.value, effect.p])
        assert row.n == rho.n == 120
    np.testing.assert_allclose(profile.p_holm, holm(profile.p))
    np.testing.assert_allclose(profile.logistic_p_holm, holm(profile.logistic_p))
    assert profile.survives.tolist() == [False, False, False, True]


def test_layer_profile_of_another_column():
    rows = layered(1)
    profile = layer_profile(rows, rule="relative", eps=0.05, x="sink_share", n_boot=10, n_perm=19)
    table = id_change(rows, rule="relative", eps=0.05, layer=2)
    assert profile.rho[2] == pytest.approx(association(table, x="sink_share", n_boot=10).value)
    with pytest.raises(
        ValueError, match=r"^layer_profile: x is 'gates_changed', but the table's columns are question,"
    ):
        layer_profile(rows, rule="relative", eps=0.05, x="gates_changed")


# Mediation


def mediated(seed, n=100, a_to_m=0.4, m_to_y=0.8, a_to_y=0.2):
    """Shots move the ID, both move the answer; the rows of a question are independent given nothing."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"question": np.repeat(np.arange(n), 3), "shots": np.tile([1, 3, 5], n)})
    table["ease"] = rng.normal(size=n)[table.question]
    table["change"] = a_to_m * table.shots + 0.5 * table.ease + rng.normal(size=3 * n)
    logit = a_to_y * table.shots + m_to_y * table.change + 0.5 * table.ease - 2
    return table.assign(correct=rng.random(3 * n) < expit(logit))


def true_effects(a_to_m=0.4, m_to_y=0.8, a_to_y=0.2):
    """By numerical integration over what is normal in the logit: ease and the ID's own noise."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = np.hypot(m_to_y * 0.5 + 0.5, m_to_y)

    def share(own, through):
        return 100 * expit(a_to_y * own + m_to_y * a_to_m * through - 2 + spread * nodes) @ weights / weights.sum()

    return share(5, 5) - share(1, 1), share(5, 1) - share(1, 1), share(5, 5) - share(5, 1)


def test_mediation_intervals_hold_the_truth():
    truth, held = true_effects(), np.zeros(3)
    for seed in range(60):
        found = mediation(mediated(seed), controls=("ease",), n_boot=200, seed=seed)
        effects = found.total, found.direct, found.indirect
        held += [effect.low <= true <= effect.high for effect, true in zip(effects, truth, strict=True)]
        assert found.direct.value + found.indirect.value == pytest.approx(found.total.value)
    assert (held >= 50).all()  # binomial(60, 0.95) is below with probability 0.0003


def test_mediation_against_a_loop():
    table, rng = mediated(1, n=80), np.random.default_rng(4)
    by_question = [group for _, group in table.groupby("question")]

    def effects(sample):
        shots, noise = sample.shots.to_numpy(float), sample.ease.to_numpy()
        ones, change = np.ones(len(sample)), sample.change.to_numpy()
        slope = sm.OLS(change, np.column_stack([ones, shots, noise])).fit().params[1]
        design = lambda a, m: np.column_stack([ones, a * ones, m, a * m, noise])  # noqa: E731
        model = sm.Logit(sample.correct.to_numpy(float), design(shots, change)).fit(disp=0)

        def share(a, through):
            return 100 * model.predict(design(a, change + slope * (through - shots))).mean()

        total, direct = share(5, 5) - share(1, 1), share(5, 1) - share(1, 1)
        return total, direct, total - direct, 1 - direct / total

    samples = [pd.concat([by_question[i] for i in rng.integers(80, size=80)]) for _ in range(20)]
    low, high = np.quantile([effects(sample) for sample in samples], [0.025, 0.975], axis=0)
    found = mediation(table, controls=("ease",), n_boot=20, seed=4)
    found = found.total, found.direct, found.indirect, found.share
    np.testing.assert_allclose([e.value for e in found], effects(table), rtol=1e-6)
    np.testing.assert_allclose([e.low for e in found], low, rtol=1e-6)
    np.testing.assert_allclose([e.high for e in found], high, rtol=1e-6)


def test_mediation_that_is_not_there():
    nothing = mediation(mediated(2, a_to_m=0, n=300), controls=("ease",), n_boot=200)
    assert nothing.indirect.verdict(1) == "undecided"
    assert nothing.total.verdict(1) == nothing.direct.verdict(1) == "agrees"
    assert abs(nothing.share.value) < 0.2
    flat = mediation(mediated(3, a_to_m=0, a_to_y=0), controls=("ease",), n_boot=200)
    assert flat.total.verdict(1) == "undecided"
    assert np.isnan(flat.share.value)


def test_mediation_contrasts():
    table = mediated(4)
    forth, back = (mediation(table, contrast=pair, n_boot=20) for pair in ((1, 5), (5, 1)))
    assert forth == mediation(table, n_boot=20)
    assert forth.total.value == pytest.approx(-back.total.value)
    for wrong, shown in (({"contrast": (3, 3)}, "'shots' from 3 to 3"), ({"exposure": "one"}, "'one' from 1 to 1")):
        with pytest.raises(ValueError, match=f"^mediation: exposure is {shown}, but two values were expected"):
            mediation(table.assign(one=1), **wrong)


def test_mediation_of_separated_answers():
    table = mediated(5)
    found = mediation(table.assign(correct=table.change > 1), n_boot=10)
    assert np.isnan(
        [found.total.value, found.total.low, found.direct.value, found.indirect.high, found.share.value]
    ).all()


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


def test_paired_share_of_other_questions():
    table = pd.DataFrame({"question": [1, 2], "correct": [True, False]})
    with pytest.raises(ValueError, match=r"^paired_share: question 2 and 0 more are in one table only"):
        paired_share(table, table[:1])
    with pytest.raises(ValueError, match=r"^paired_share: second: the table has no rows"):
        paired_share(table, table[:0])
    with pytest.raises(ValueError, match=r"^paired_share: first: y is 'strict', but the table's columns are question,"):
        paired_share(table, table, y="strict")
    with pytest.raises(ValueError, match=r"^paired_share: second: y is 'correct', which holds 3, but true and false"):
        paired_share(table, table.assign(correct=3))


def test_dose_response():
    table = pd.DataFrame({"question": np.tile(np.arange(20), 3), "sharpness": np.repeat([0.5, 1.0, 2.0], 20)})
    table["layers"], table["change"] = "all", 10 / table.sharpness - 10 + table.question % 2
    table["correct"] = table.question < 5 * table.sharpness
    found = dose_response(table)
    assert found.columns.tolist() == ["layers", "sharpness", "change", "n", "share", "low", "high"]
    assert found.sharpness.tolist() == [0.5, 1, 2]
    assert found.change.tolist() == [10.5, 0.5, -4.5]
    assert found.share.tolist() == [0.15, 0.25, 0.5]
    assert found.n.tolist() == [20] * 3
    expected = binned_share(table[table.sharpness == 1].assign(change=0), bins=1)
    assert (found.low[1], found.high[1]) == (expected.low[0], expected.high[0])
    pd.testing.assert_frame_equal(dose_response(table, by="sharpness"), found.drop(columns="layers"))
    with pytest.raises(ValueError, match=r"^dose_response: by is 'layers', but some question has two rows at one dose"):
        dose_response(table, by="layers")
    with pytest.raises(ValueError, match=r"^dose_response: by is 'shots', but the table's columns are question,"):
        dose_response(table, by="shots")
    with pytest.raises(ValueError, match=r"^dose_response: y is 'correct', which holds 7, but true and false"):
        dose_response(table.assign(correct=7))


# What is given


FUNCTIONS = [association, permutation_test, logistic, fixed_effects, mediation]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_bad_tables(function):
    table = confounded(0, n=5)
    x = "mediator" if function is mediation else "x"
    cases = [
        (ValueError, "the table has no rows", table[:0], {}),
        (ValueError, "y is 'right', but the table's columns are question, shots", table, {"y": "right"}),
        (ValueError, "unit is 'prompt', but the table's columns are", table, {"unit": "prompt"}),
        (ValueError, f"{x} is 'change', which is not finite in 10 of 10 rows", table.assign(change=np.nan), {}),
        (ValueError, "unit is 'question', which is missing in 10 rows", table.assign(question=np.nan), {}),
        (TypeError, f"{x} is 'change', which holds no numbers", table.assign(change="high"), {}),
    ]
    if function is not mediation:
        cases.append((ValueError, "within is 'set', but the table's", table, {"within": ("shots", "set")}))
    if function in (logistic, fixed_effects, mediation):
        cases.append((ValueError, "controls is 'loss', but the table's", table, {"controls": ("loss",)}))
        cases.append((ValueError, "y is 'change', which holds .*, but true and false were", table, {"y": "change"}))
    if function in (logistic, fixed_effects):
        cases.append((TypeError, "controls is 'loss', but a sequence of columns", table, {"controls": "loss"}))
    if function is not permutation_test:
        cases.append((ValueError, "level is 95, but a number between 0 and 1", table, {"level": 95}))
    if function in (association, mediation):
        cases.append((ValueError, "n_boot is 0, but a whole number from 1 on", table, {"n_boot": 0}))
    if function is permutation_test:
        cases.append((ValueError, "n_perm is 1.5, but a whole number from 1 on", table, {"n_perm": 1.5}))
    for error, message, bad, settings_ in cases:
        with pytest.raises(error, match=f"^{function.__name__}: {message}"):
            function(bad, **settings_)


def test_an_effect_is_what_it_says():
    one = Estimate(1.0, 0.5, 2.0, 9, 1.0)
    assert str(Effect(Estimate(5, -1, 11, 9), one, 0.1234)) == (
        "points +5.00 [-1.00, +11.00], n = 9; odds ratio 1.00 [0.50, 2.00], n = 9; p = 0.12"
    )
