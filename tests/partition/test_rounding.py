"""The bound on rounding errors: its closed form, at every scale, and against what rounding really does."""

import numpy as np
import pytest

from geolib.partition.rounding import ROUNDING, carry


@pytest.mark.parametrize("scale", [1e-290, 1e-160, 1.0, 1e160, 1e290])
def test_squares_add_up_at_every_scale(scale):
    W, b, errors = (
        np.array([[3.0, 0.0], [4.0, 3.0]]) * scale,
        np.array([4.0, 0.0]) * scale,
        np.array([[1.0, 1.0], [0, 1]]),
    )
    expected = np.array([[3 + 4 * ROUNDING, 5], [4 * ROUNDING, 3]]) * scale
    np.testing.assert_allclose(carry(W, b, errors), expected, rtol=1e-6)


def test_a_large_error_elsewhere_hides_no_small_one():
    errors = np.array([[1.0, 1.0], [1e-15, 1e-18]])
    np.testing.assert_allclose(carry(np.array([[3.0, 4.0]]), np.zeros(1), errors)[:, 0], [5, 3e-15], rtol=1e-5)


def test_overflow_is_told():
    with np.errstate(over="ignore", invalid="ignore"):
        assert not np.isfinite(carry(np.full((1, 2), 1e308), np.zeros(1), np.full((1, 2), 1e30))).any()


def test_what_rounding_does_stays_below():
    rng = np.random.default_rng(0)
    W, h = rng.standard_normal((50, 300)), rng.standard_normal(300)
    exact = W.astype(np.longdouble) @ h.astype(np.longdouble)
    error = np.abs(W @ h - exact)
    assert (error <= carry(W, np.zeros(50), ROUNDING * np.abs(h)[None])[0]).all()
    assert error.max() > 0
