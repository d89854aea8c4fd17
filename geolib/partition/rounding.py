"""How far rounding errors reach, for those who must tell a value from 0."""

import numpy as np

# Rounding errors that we allow for, relative to the numbers that are added up: 512 times the unit of float64. Well
# above what sums of a few hundred terms lose, and far below the distances between lines of a network in general
# position (a million vertices leave gaps of some 1e-9).
ROUNDING = 512 * np.finfo(np.float64).eps
TINY = np.finfo(np.float64).tiny


def carry(W, b, errors):
    """Errors of W h + b, shape=[n, width], from those of h: shape=[n, fan_in], with the rounding errors of h itself.

    Errors of different terms are independent, so their squares add up; absolute values would grow by sqrt(width) a
    layer and drown a deep network. What overflows is NaN or infinite in the result.
    """
    # Scaled to at most 1, squares do not overflow, and single precision is enough for them.
    scale = np.maximum(errors.max(axis=0), TINY)
    terms = W * scale
    largest = np.maximum(np.maximum(terms.max(axis=1), -terms.min(axis=1)), TINY)
    squares, weights = np.empty(errors.shape, np.float32), np.empty(W.shape, np.float32)
    for ratio, part, whole in ((squares, errors, scale), (weights, terms, largest[:, None])):
        np.square(np.divide(part, whole, out=ratio, casting="same_kind"), out=ratio)
    total = squares @ weights.T
    return np.sqrt(total, out=total) * largest + ROUNDING * np.abs(b)
