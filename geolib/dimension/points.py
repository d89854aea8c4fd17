"""Points that differ by rounding alone; this module needs NumPy only."""

import numpy as np


def distinct_rows(rows: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return the indices of rows, shape=[n, dim], of which none lies within the reach, shape=[n], of another.

    The search takes little memory and time: close rows are close along every line. So rows are sorted along one random
    line and compared with their neighbours there, first along a few other lines, and then in full.
    """
    lines = np.random.default_rng(0).standard_normal((rows.shape[1], 8))
    shadows = rows @ (lines / np.linalg.norm(lines, axis=0))
    order = np.argsort(shadows[:, 0], kind="stable")
    rows, shadows, reach = rows[order], shadows[order], reach[order]
    kept = np.ones(len(rows), dtype=bool)
    for k in range(1, len(rows)):
        near = (shadows[k:, 0] - shadows[:-k, 0] <= reach[:-k]) & (reach[:-k] > 0)
        if not near.any():
            break
        (near,) = np.nonzero(near & kept[:-k] & kept[k:])
        near = near[(np.abs(shadows[near] - shadows[near + k]) <= reach[near, None]).all(axis=1)]
        near = near[np.linalg.norm(rows[near] - rows[near + k], axis=1) <= reach[near]]
        kept[near + k] = False
    return np.sort(order[kept])
