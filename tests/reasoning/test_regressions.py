"""The regressions against closed forms, naive loops, and simulations whose truth is known."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit
from scipy.stats import norm

from geolib.estimates import finding
from geolib.reasoning import (
    Effect,
    Estimate,
    association,
    holm,
    id_change,
    layer_profile,
    logistic,
    mediation,
    permutation_test,
    same_question,
    top_less_bottom,
)

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


def test_answers_that_do_not_vary_give_no_estimate():
    """An interval of no width around 0 would be read as a proof of absence."""
    table = confounded(5)
    for constant in (table.assign(correct=False), table.assign(correct=table.question % 2 == 0)):
        assert np.isnan(same_question(constant).value)
    assert np.isnan(top_less_bottom(table.assign(correct=False)).value)
    for bins in (1, 0, 2.5, "6"):
        with pytest.raises((ValueError, TypeError), match="top_less_bottom: bins is"):
            top_less_bottom(table, bins=bins)


def test_top_less_bottom_is_a_difference_of_shares():
    rng = np.random.default_rng(9)
    table = pd.DataFrame({"question": np.arange(600), "shots": 1, "change": rng.permutation(600)})
    table["correct"] = rng.random(600) < 0.2 + 0.001 * table.change
    found = top_less_bottom(table)
    share = table.groupby(pd.qcut(table.change, 6, labels=False)).correct.mean()
    assert found.value == pytest.approx(100 * (share[5] - share[0]))
    wald = 100 * np.sqrt(share[0] * (1 - share[0]) / 100 + share[5] * (1 - share[5]) / 100)
    assert found.high - found.low == pytest.approx(2 * 1.96 * wald, rel=0.02)
    assert found.n == 600


def test_top_less_bottom_with_a_confounder_held_fixed():
    """Shares of bins, each with an intercept, beside a control: least squares by hand."""
    table = confounded(4, n=400)
    assert np.isnan(top_less_bottom(table, bins=4).value), "no number of examples has both ends"
    table["change"] -= 10 * table.shots
    found = top_less_bottom(table, controls=("prompt_tokens",), bins=4)
    bins, shots = pd.get_dummies(pd.qcut(table.change, 4, labels=False)), pd.get_dummies(table.shots)
    design = np.column_stack([bins.iloc[:, 1:], shots, table.prompt_tokens]).astype(float)
    assert found.value == pytest.approx(100 * np.linalg.lstsq(design, table.correct.astype(float), rcond=None)[0][2])
    assert abs(found.value) < abs(top_less_bottom(table, bins=4).value)
    assert np.isnan(top_less_bottom(table.assign(change=1)).value)
    assert np.isnan(
        top_less_bottom(table.assign(length=pd.qcut(table.change, 2, labels=False)), bins=2, controls=("length",)).value
    )


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
    assert finding(logistic(table, controls=()).points, 1) == "agrees"
    assert finding(logistic(table).points, 1) == "undecided"
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
    by_length = {"controls": ("prompt_tokens",)}
    for regression in (lambda t: logistic(t, **by_length).points, same_question):
        one, other = map(regression, (table, copies))
        assert other.value == pytest.approx(one.value)
        assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.02)


@pytest.mark.whole
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
    assert np.isnan(same_question(table).value)
    assert np.isnan(same_question(table.assign(correct=table.question > 3)).value)


def test_same_question_of_matched_pairs():
    """Of b pairs right only with the higher ID and c only with the lower one: (b - c) / n points for a rise by 1."""
    b, c, alike = 30, 12, 18
    pairs = [(0, 1)] * b + [(1, 0)] * c + [(1, 1)] * alike
    table = pd.DataFrame([(q, x, bool(pair[x])) for q, pair in enumerate(pairs) for x in (0, 1)])
    table.columns = ["question", "change", "correct"]
    effect = same_question(table, within=())
    apart = np.repeat([1, -1, 0], [b, c, alike])
    sd, n, z = 0.5, len(pairs), norm.ppf(0.975)
    assert effect.value == pytest.approx(100 * sd * apart.mean())
    # The sandwich of a paired difference, with its factors for few clusters and for one coefficient of 2 n rows.
    error = np.sqrt(((apart - apart.mean()) ** 2).sum()) / n * np.sqrt(n / (n - 1) * (2 * n - 1) / (2 * n - 1))
    assert effect.high - effect.value == pytest.approx(100 * sd * z * error, rel=1e-6)
    assert effect.n == n


def test_same_question_takes_out_the_question():
    """Easy questions have a higher ID; within a question, nothing. The reverse holds too."""
    rng = np.random.default_rng(9)
    table = pd.DataFrame({"question": np.repeat(np.arange(150), 4), "shots": np.tile(np.arange(4), 150)})
    ease = rng.normal(size=150)[table.question]
    table["change"] = ease + rng.normal(size=600)
    table["correct"] = rng.random(600) < expit(1.5 * ease)
    assert finding(logistic(table, controls=()).points, 1) == "agrees"
    assert finding(same_question(table), 1) == "undecided"
    table["correct"] = rng.random(600) < expit(1.5 * ease + 0.7 * (table.change - ease))
    assert finding(same_question(table), 1) == "agrees"


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


@pytest.mark.whole
def test_layer_profile_is_layer_by_layer():
    rows, rule = layered(0), {"rule": "relative", "eps": 0.05}
    controls = ("prompt_tokens", "sink_share")
    profile = layer_profile(rows, **rule, controls=controls, n_boot=100, n_perm=199)
    assert profile.layer.tolist() == [0, 1, 2, 3]
    for layer, row in profile.iterrows():
        table = id_change(rows, **rule, layer=layer)
        rho = association(table, n_boot=100)
        np.testing.assert_allclose(row[["estimate", "low", "high"]].tolist(), [rho.value, rho.low, rho.high])
        assert row.p == permutation_test(table, n_perm=199)
        effect = logistic(table, controls=controls)
        found = row[["points", "points_low", "points_high", "odds_ratio", "logistic_p"]].tolist()
        points = effect.points
        np.testing.assert_allclose(found, [points.value, points.low, points.high, effect.odds_ratio.value, effect.p])
        assert row.n == rho.n == 60
    np.testing.assert_allclose(profile.p_holm, holm(profile.p))
    np.testing.assert_allclose(profile.logistic_p_holm, holm(profile.logistic_p))
    assert profile.survives.tolist() == [False, False, False, True]


@pytest.mark.whole
def test_layer_profile_of_another_column():
    rows = layered(1)
    profile = layer_profile(rows, rule="relative", eps=0.05, x="sink_share", n_boot=10, n_perm=19)
    table = id_change(rows, rule="relative", eps=0.05, layer=2)
    assert profile.estimate[2] == pytest.approx(association(table, x="sink_share", n_boot=10).value)
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


@pytest.mark.whole
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
    assert finding(nothing.indirect, 1) == "undecided"
    assert finding(nothing.total, 1) == finding(nothing.direct, 1) == "agrees"
    assert abs(nothing.share.value) < 0.2
    flat = mediation(mediated(3, a_to_m=0, a_to_y=0), controls=("ease",), n_boot=200)
    assert finding(flat.total, 1) == "undecided"
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


# What is given


FUNCTIONS = [association, permutation_test, logistic, same_question, mediation]


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
    if function in (logistic, same_question, mediation):
        cases.append((ValueError, "controls is 'loss', but the table's", table, {"controls": ("loss",)}))
        cases.append((ValueError, "y is 'change', which holds .*, but true and false were", table, {"y": "change"}))
    if function in (logistic, same_question):
        cases.append((TypeError, "controls is 'loss', but a sequence of columns", table, {"controls": "loss"}))
    if function is not permutation_test:
        cases.append((ValueError, "level is 95, but a number between 0 and 1", table, {"level": 95}))
    if function in (association, mediation):
        cases.append((ValueError, "n_boot is 0, but at least 1 was expected", table, {"n_boot": 0}))
    if function is permutation_test:
        cases.append((TypeError, "n_perm is 1.5, but an integer was expected", table, {"n_perm": 1.5}))
    for error, message, bad, settings_ in cases:
        with pytest.raises(error, match=f"^{function.__name__}: {message}"):
            function(bad, **settings_)


def test_an_effect_is_what_it_says():
    one = Estimate(1.0, 0.5, 2.0, 9, 1.0)
    assert str(Effect(Estimate(5, -1, 11, 9), one, 0.1234)) == (
        "points +5.00 [-1.00, +11.00], n = 9; odds ratio 1.00 [0.50, 2.00], n = 9; p = 0.12"
    )
