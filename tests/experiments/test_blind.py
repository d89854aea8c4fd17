"""Corrected shares are right where the judge's errors are known, and their intervals cover what they should."""

import numpy as np
import pytest

from geolib.experiments.blind import corrected_share, load_blind


def sample(rng, share, n, sensitivity, specificity):
    hand = rng.random(n) < share
    return np.where(hand, rng.random(n) < sensitivity, rng.random(n) >= specificity), hand


def test_a_perfect_judge_changes_nothing():
    for n_yes in (0, 7, 40):
        assert corrected_share(n_yes, 40, [True, False], [True, False]).value == pytest.approx(100 * n_yes / 40)


def test_intervals_cover_the_true_share():
    """In nine tenths of 200 samples and more, with a judge that errs often; the raw share is far from it."""
    rng, covered, raw = np.random.default_rng(0), 0, []
    for _ in range(200):
        judged, _ = sample(rng, 0.3, 300, 0.8, 0.7)
        found = corrected_share(int(judged.sum()), 300, *sample(rng, 0.3, 60, 0.8, 0.7), n_draws=1000)
        covered += found.low <= 30 <= found.high
        raw.append(100 * judged.mean())
    assert covered >= 180
    assert np.mean(raw) > 40


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((3, 2, [True, False], [True, False]), "n_yes is 3, but 0 to 2 was expected"),
        ((1, 2, [True, True], [True, True]), "hand has 2 of 2 right and verdicts 2, but equally many were expected"),
        ((1, 2, [True], [True, False]), "hand has 1 of 2 right and verdicts 1, but equally many were expected"),
        ((1, 2, [False, True], [True, False]), "verdicts have sensitivity 0.00 and specificity 0.00: no better than"),
    ],
)
def test_what_cannot_be_corrected(given, message):
    with pytest.raises(ValueError, match=f"^corrected_share: {message}"):
        corrected_share(*given)


def test_the_published_sample_has_fifty_of_each_condition():
    rows = load_blind()
    assert set(rows.way.value_counts()) == {50}
    assert rows.way.nunique() == 9
    assert rows.question.is_unique
    agree = rows.first_correct == rows.second_correct
    assert (rows.hand[agree] == rows.first_correct[agree]).all()
