"""Shares corrected for a judge's errors, which a blind sample read by hand estimates under each condition."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from geolib.checks import integer
from geolib.reasoning import Estimate
from geolib.reasoning.published import results_folder


def load_blind(path: str | os.PathLike | None = None) -> pd.DataFrame:
    """Read the sample: each answer's condition (``way``), the verdicts by hand, and those of both judges.

    Parameters
    ----------
    path : path, optional
        By default ``hand_blind.json`` among the published results.

    Returns
    -------
    pandas.DataFrame
        ``hand`` and ``hand_redundant``: what both readings say, or, where they differ, a third one. The judges' are
        ``correct`` and ``redundant``, and ``frozen`` and ``frozen_redundant``.
    """
    path = Path(path or results_folder() / "hand_blind.json")
    rows = pd.DataFrame(json.loads(path.read_text("utf-8"))["rows"])
    votes = rows.filter(regex="^(first|second|third)_").astype(float)  # of the third, NaN where it was not needed
    return rows.assign(
        hand=votes.filter(like="_correct").sum(axis=1) >= 2,
        hand_redundant=votes.filter(like="_redundant").sum(axis=1) >= 2,
    )


def corrected_share(
    n_yes: int, n: int, verdicts: Sequence, hand: Sequence, *, n_draws: int = 20_000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Share of a sample that is right, from the share that a judge calls right and the judge's own errors.

    Rogan and Gladen (1978): with the judge's sensitivity s and specificity t, a share q that it calls right belongs to
    a true share of (q + t - 1) / (s + t - 1), cut to between 0 and 1.

    >>> found = corrected_share(30, 100, [True, False] * 50, [True, False] * 50)
    >>> round(found.value, 1), found.n
    (30.0, 100)

    Parameters
    ----------
    n_yes, n : int
        Answers that the judge calls right, of how many.
    verdicts, hand : sequences of bool
        What the judge and the hand say of a sample under the same condition.
    n_draws, level, seed
        The interval is of percentiles of draws of the three shares, each from its Jeffreys posterior.

    Returns
    -------
    Estimate
        In percent.

    Raises
    ------
    ValueError
        The hand says only one thing, or the judge is no better than chance.
    """
    judged, truth = np.asarray(verdicts, dtype=bool), np.asarray(hand, dtype=bool)
    integer("corrected_share: n_yes", n_yes, 0, integer("corrected_share: n", n, 1))
    if len(judged) != len(truth) or truth.all() or not truth.any():
        raise ValueError(
            f"corrected_share: hand has {truth.sum()} of {len(truth)} right and verdicts {len(judged)}, but equally"
            " many were expected, with right and wrong ones among them"
        )
    tables = [(n_yes, n), (judged[truth].sum(), truth.sum()), ((~judged)[~truth].sum(), (~truth).sum())]
    q, s, t = (yes / all_ for yes, all_ in tables)
    if s + t <= 1:
        raise ValueError(
            f"corrected_share: verdicts have sensitivity {s:.2f} and specificity {t:.2f}: no better than chance"
        )
    rng = np.random.default_rng(seed)
    draws = [rng.beta(yes + 0.5, all_ - yes + 0.5, n_draws) for yes, all_ in tables]
    shares = np.clip((draws[0] + draws[2] - 1) / np.maximum(draws[1] + draws[2] - 1, 1e-9), 0, 1)
    low, high = 100 * np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(100 * np.clip((q + t - 1) / (s + t - 1), 0, 1)), float(low), float(high), n, null=np.nan)
