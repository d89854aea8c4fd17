"""What all counts share: bounds on rounding errors, to decide whether a computed value is 0, and a limit."""

import numpy as np

# Rounding errors that we allow for, relative to the terms of a sum: 512 times the unit of float64. Well above the
# errors of sums of a few hundred terms, and far below the distances between lines of a network in general
# position (a million vertices leave gaps of some 1e-9).
ROUNDING = 512 * np.finfo(np.float64).eps
TINY = np.finfo(np.float64).tiny


def refuse_more(caller: str, limit: int, n: int, what: str = "regions") -> None:
    """Raise if `n` is above a limit on the number of regions, or of `what` else."""
    if n > limit:
        raise ValueError(f"{caller}: limit is {limit}, but more was expected: there are more {what}")


def carry(W: np.ndarray, b: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Errors of W h + b, given the errors of h (with the rounding errors of h itself).

    Errors of different terms are taken as independent, so their squares add up; sums of absolute values would grow by
    a factor of sqrt(width) for each layer and drown a deep network.

    Parameters
    ----------
    W : array, shape=[width, fan_in]
    b : array, shape=[width] or shape=[1]
    errors : array, shape=[n, fan_in]

    Returns
    -------
    array, shape=[n, width]
        NaN or infinite where the computation overflows.
    """
    # Numbers are scaled to at most 1, so that their squares do not overflow and single precision is enough.
    scale = np.maximum(errors.max(axis=0), TINY)
    terms = W * scale
    largest = np.maximum(np.maximum(terms.max(axis=1), -terms.min(axis=1)), TINY)
    squares, weights = np.empty(errors.shape, np.float32), np.empty(W.shape, np.float32)
    for ratio, part, whole in ((squares, errors, scale), (weights, terms, largest[:, None])):
        np.square(np.divide(part, whole, out=ratio, casting="same_kind"), out=ratio)
    total = squares @ weights.T
    return np.sqrt(total, out=total) * largest + ROUNDING * np.abs(b)
