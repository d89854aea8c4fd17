"""How many regions hyperplanes can cut a space into."""

from math import comb
from operator import index

import numpy as np


def max_regions(n_hyperplanes: int, dim: int, *, central: bool = False) -> int:
    """Largest number of regions that hyperplanes can cut R^dim into.

    Attained in general position (Zaslavsky 1975): the sum over k <= dim of C(n, k); for hyperplanes through the
    origin, twice the same sum for n - 1 and dim - 1. Without hyperplanes, or in R^0 (a point), there is one region.

    Parameters
    ----------
    n_hyperplanes : int
        Number of hyperplanes n, for instance the neurons of one hidden layer; at least 0.
    dim : int
        Dimension of the space, at least 0.
    central : bool
        Whether all hyperplanes pass through the origin, as they do for a layer without biases.

    Returns
    -------
    int
        The maximum, exact at any size.

    Raises
    ------
    TypeError
        If a count is not an integer; a bool is none.
    ValueError
        If a count is negative.

    References
    ----------
    T. Zaslavsky, Facing up to arrangements, Memoirs of the American Mathematical Society 154, 1975.

    Examples
    --------
    >>> max_regions(50, 2)
    1276
    >>> max_regions(50, 2, central=True)
    100
    """
    n, dim = _count("n_hyperplanes", n_hyperplanes), _count("dim", dim)
    if n == 0 or dim == 0:
        return 1
    if central:
        # A hyperplane off the origin meets the half of the cone on its side: each half is an arrangement of n - 1
        # hyperplanes in one dimension less.
        return 2 * max_regions(n - 1, dim - 1)
    return sum(comb(n, k) for k in range(min(n, dim) + 1))


def _count(name, value):
    try:
        if isinstance(value, bool | np.bool):  # truth values are no counts
            raise TypeError
        count = index(value)
    except TypeError:
        raise TypeError(f"max_regions: {name} is {value!r}, expected an integer") from None
    if count < 0:
        raise ValueError(f"max_regions: {name} is {count}, expected at least 0")
    return count
