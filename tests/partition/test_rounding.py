"""The bound on rounding errors: its closed form, at every scale, and against what rounding really does."""

import numpy as np
import pytest

from geolib.partition.rounding import ROUNDING, carry


@pytest.mark.parametrize("scale", [1e-290, 1e-160, 1.0, 1e160, 1e300])
def test_squares_add_up_at_every_scale(scale):
    W, b, size, noise = (
        np.array([[3.0, 0.0], [0.0, 0.0]]) * scale,
        np.array([4.0, -2.0]) * scale,
        np.ones(2),
        np.zeros(2),
    )
    np.testing.assert_allclose(carry(W, b, size, noise), np.array([5.0, 2.0]) * (scale * ROUNDING), rtol=1e-12)


def test_noise_is_carried_through_the_weights():
    W = np.array([[3.0, -4.0]])
    assert carry(W, np.zeros(1), np.zeros(2), np.ones(2)) == pytest.approx(5)


def test_overflow_is_told():
    with np.errstate(over="ignore", invalid="ignore"):
        assert not np.isfinite(carry(np.full((1, 2), 1e308), np.zeros(1), np.full(2, 1e30), np.zeros(2))).any()


def test_what_rounding_does_stays_below():
    rng = np.random.default_rng(0)
    W, h = rng.standard_normal((50, 300)), rng.standard_normal(300)
    exact = W.astype(np.longdouble) @ h.astype(np.longdouble)
    error = np.abs(W @ h - exact)
    assert (error <= carry(W, np.zeros(50), np.abs(h), np.zeros(300))).all()
    assert error.max() > 0
