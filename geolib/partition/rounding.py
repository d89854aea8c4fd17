"""How far rounding errors reach, for those who must tell a value from 0."""

import numpy as np

# Rounding errors that we allow for, relative to the numbers that are added up: 512 times the unit of float64. Well
# above what sums of a few hundred terms lose, and far below the distances between lines of a network in general
# position (a million vertices leave gaps of some 1e-9).
ROUNDING = 512 * np.finfo(np.float64).eps


def carry(W, b, size, noise):
    """Errors of W h + b, shape=[width], for h of absolute values up to `size` with errors up to `noise`.

    Errors of different terms are independent, so their squares add up; absolute values would grow by sqrt(width) a
    layer and drown a deep network. What overflows is NaN or infinite in the result.
    """
    terms, last = W * (noise + ROUNDING * size), ROUNDING * np.abs(b)
    squares = np.einsum("ij,ij->i", terms, terms)
    if ((squares > 1e-290) & (squares < 1e290)).all():
        return np.hypot(np.sqrt(squares), last)
    return np.hypot(np.hypot.reduce(terms, axis=1), last)  # slower, but squares nothing
