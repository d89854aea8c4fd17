"""What the rows of a sweep say: change of ID against correctness, with intervals."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint


def id_change(
    rows: pd.DataFrame, *, rule: str = "absolute", eps: float = 0.1, layer: int = -1, verdict: str = "correct"
) -> pd.DataFrame:
    """Change of a layer's ID against the same question's prompt without examples (arXiv 2407.02678, figure 6).

    Parameters
    ----------
    rows : pandas.DataFrame
        As :meth:`Sweep.run` returns them; every question needs a row with 0 shots.
    rule : {"absolute", "relative"}
    eps : float
    layer : int
        -1 is the last layer, -2 the last but one.
    verdict : {"correct", "strict"}
        Which reading of the judge counts.

    Returns
    -------
    pandas.DataFrame
        ``question``, ``shots``, ``change``, ``correct``; one row per row with examples.

    Raises
    ------
    ValueError
        Such an ID was not recorded, or a question has no 0-shot row.
    """
    column = f"id_{rule}_{eps:g}"
    if column not in rows:
        raise ValueError(f"id_change: rows have no column {column!r}, but {_listed(rows)} were recorded")
    layers = len(rows[column].iloc[0])
    if not -layers <= layer < layers:
        raise ValueError(f"id_change: layer is {layer}, but the rows hold {layers} layers")
    table = rows[["question", "shots"]].assign(correct=rows[verdict], id=[row[layer] for row in rows[column]])
    bare = table[table.shots == 0].set_index("question").id
    table = table[table.shots > 0].reset_index(drop=True)
    missing = set(table.question) - set(bare.index)
    if missing:
        raise ValueError(f"id_change: question {min(missing)} has no row with 0 shots, but one was expected")
    table["change"] = table.id - table.question.map(bare)
    return table[["question", "shots", "change", "correct"]]


def binned_share(table: pd.DataFrame, *, bins: int = 6, level: float = 0.95) -> pd.DataFrame:
    """Share of correct answers in bins of like size of the change of ID, with Wilson (1927) intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`id_change` returns it.
    bins : int
        Number of quantile bins; fewer result where values repeat.
    level : float
        Confidence level.

    Returns
    -------
    pandas.DataFrame
        ``change`` (mean in the bin), ``n``, ``share``, ``low``, ``high``.
    """
    groups = table.groupby(pd.qcut(table.change, bins, duplicates="drop"), observed=True)
    binned = groups.agg(change=("change", "mean"), n=("correct", "size"), hits=("correct", "sum")).reset_index(
        drop=True
    )
    low, high = proportion_confint(binned.hits, binned.n, alpha=1 - level, method="wilson")
    return binned.assign(share=binned.hits / binned.n, low=low, high=high).drop(columns="hits")


@dataclass(frozen=True)
class Estimate:
    """A number, its interval, and how many rows are behind it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self):
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}], n = {self.n}"

    def verdict(self, claimed: int) -> str:
        """Say what the interval says of a claimed sign.

        Parameters
        ----------
        claimed : {1, -1, 0}
            The claim: positive, negative, or nothing there.

        Returns
        -------
        str
            ``"agrees"`` where the whole interval lies on the claimed side, ``"disagrees"`` where it lies on the other
            (or, with nothing claimed, on either), else ``"undecided"``: no interval can show that nothing is there.

        >>> Estimate(0.3, 0.1, 0.5, 90).verdict(1), Estimate(0.3, -0.1, 0.5, 90).verdict(1)
        ('agrees', 'undecided')
        """
        sign = int(self.low > 0) - int(self.high < 0)
        if sign == 0:
            return "undecided"
        return "agrees" if sign == claimed else "disagrees"


def association(
    table: pd.DataFrame,
    *,
    x: str = "change",
    y: str = "correct",
    within: str = "shots",
    unit: str = "question",
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Spearman's rank correlation of change of ID and correctness at fixed shots, averaged over shots.

    At fixed shots, because the number of shots moves both. The interval is a percentile bootstrap over *questions*:
    a question's rows under several shots are not independent.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`id_change` returns it, or with columns named below.
    x, y : str
        Columns that are correlated.
    within : str
        Column that is held fixed.
    unit : str
        Column of what is drawn anew in the bootstrap.
    n_boot : int
        Bootstrap samples.
    level : float
        Confidence level.
    seed : int

    Returns
    -------
    Estimate
        NaN where x or y does not vary.

    Raises
    ------
    ValueError
        If the table lacks a column.
    """
    _require(table, "association", x=x, y=y, within=within, unit=unit)
    return _bootstrap(table, lambda sample: _mean_rho(sample, x, y, within), unit, n_boot, level, seed)


def mean_change(
    table: pd.DataFrame,
    *,
    x: str = "change",
    unit: str = "question",
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Mean change of ID, with a bootstrap over questions; parameters as for :func:`association`."""
    _require(table, "mean_change", x=x, unit=unit)
    return _bootstrap(table, lambda sample: sample[x].mean(), unit, n_boot, level, seed)


def _bootstrap(table, statistic, unit, n_boot, level, seed) -> Estimate:
    rng = np.random.default_rng(seed)
    rows_of = list(table.groupby(unit).indices.values())
    draws = []
    for _ in range(n_boot):
        drawn = rng.integers(len(rows_of), size=len(rows_of))
        draws.append(statistic(table.take(np.concatenate([rows_of[i] for i in drawn]))))
    tail = (1 - level) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail]) if np.isfinite(draws).any() else (np.nan, np.nan)
    return Estimate(float(statistic(table)), float(low), float(high), len(table))


def _mean_rho(table: pd.DataFrame, x: str, y: str, within: str) -> float:
    """Spearman's rho of x and y within each group, averaged with the rows as weights."""
    rhos, sizes = [], []
    for _, group in table.groupby(within):
        ranks = group[x].rank().to_numpy(), group[y].rank().to_numpy()
        if min(rank.std() for rank in ranks) > 0:
            rhos.append(np.corrcoef(*ranks)[0, 1])
            sizes.append(len(group))
    return float(np.average(rhos, weights=sizes)) if rhos else float("nan")


def _require(table, caller, **columns):
    for name, column in columns.items():
        if column not in table:
            raise ValueError(f"{caller}: {name} is {column!r}, but the table's columns are {', '.join(table)}")


def _listed(rows: pd.DataFrame) -> str:
    return ", ".join(column for column in rows if column.startswith("id_")) or "none"
