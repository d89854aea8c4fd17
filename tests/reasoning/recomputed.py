"""Headline numbers of the book, computed again from the published files with pandas and SciPy alone, without geolib.

    python tests/reasoning/recomputed.py

They are lines of the page of reported and reproduced claims, and test_claims.py compares them with what it prints. The
bootstrap is another one (fewer samples, other draws), so its ends agree to within its own error.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm, spearmanr

RESULTS = Path(__file__).parents[2] / "book" / "results"
N_BOOT = 1000


def rows(name):
    return pd.read_parquet(RESULTS / f"{name}.parquet")


def layer(table, rule, at):
    return table[f"id_{rule}_0.1"].map(lambda cell: float(cell[at]))


def wide(table, values):
    """One line for each question, one column for each number of examples."""
    return table.assign(value=values).pivot_table(index="question", columns="shots", values="value")


def ends(statistic, n, *, seed=1):
    """Percentiles of a statistic of drawn questions, by their places."""
    rng = np.random.default_rng(seed)
    draws = [statistic(rng.integers(n, size=n)) for _ in range(N_BOOT)]
    return np.quantile(draws, [0.025, 0.975])


def mean_with_ends(values):
    values = np.asarray(values, dtype=float)
    return values.mean(), *ends(lambda drawn: values[drawn].mean(), len(values))


def rho_over_sets(tables, rule, at):
    """Spearman's rho of the rise with a right answer at each number of examples, averaged; and how many questions."""
    per_set = []
    for table in tables:
        of_id, right = wide(table, layer(table, rule, at)), wide(table, table.correct.astype(float))
        rise = of_id.drop(columns=0).sub(of_id[0], axis=0)
        per_set.append((rise.to_numpy(), right[rise.columns].loc[rise.index].to_numpy()))

    def statistic(drawn):
        found = [[spearmanr(x, y).statistic for x, y in zip(r[drawn].T, c[drawn].T, strict=True)] for r, c in per_set]
        return np.mean(found)

    return statistic, len(per_set[0][0])


def within_question(table, rule, at):
    """Points for one sd of the rise, with question, set and number held fixed (their means are taken off in turn)."""
    of_id = layer(table, rule, at)
    bare = of_id[table.shots == 0].set_axis(table.question[table.shots == 0])
    asked = table.assign(x=of_id - table.question.map(bare), y=table.correct.astype(float))[table.shots > 0]
    sd = np.sqrt(((asked.x - asked.groupby(["example_set", "shots"]).x.transform("mean")) ** 2).mean())
    for _ in range(50):
        for group in (["question"], ["example_set", "shots"]):
            asked[["x", "y"]] -= asked.groupby(group)[["x", "y"]].transform("mean")
    slope = (asked.x @ asked.y) / (asked.x @ asked.x)
    scores = (asked.x * (asked.y - slope * asked.x)).groupby(asked.question).sum()
    error = np.sqrt((scores**2).sum()) / (asked.x @ asked.x)
    return 100 * sd * slope, *(100 * sd * (slope + error * norm.ppf([0.025, 0.975])))


def recomputed():
    """Estimate and ends by claim, line and reading."""
    shots, others, ablations = rows("shots"), rows("other-sets"), rows("ablations")
    sets = [
        shots,
        *(others[(others.shots == 0) | (others.example_set == s)] for s in sorted(set(others.example_set) - {0})),
    ]
    found = {}

    # Rises of the first layer's ID, averaged over one to ten examples of a question.
    for rule in ("absolute", "relative"):
        of_id = wide(shots, layer(shots, rule, 0))
        found["C6", 2, rule] = mean_with_ends(of_id.drop(columns=0).mean(axis=1) - of_id[0])

    # The preregistered reading, the paper's own, and its like over four sets of examples.
    for line, name, tables, rule in (
        (10, "absolute, second to last layer", [rows("first/shots")], "absolute"),
        (11, "relative, second to last layer", [shots], "relative"),
        (12, "relative, second to last layer", sets, "relative"),
    ):
        statistic, n = rho_over_sets(tables, rule, -2)
        few = ends(statistic, n) if len(tables) == 1 else (np.nan, np.nan)  # four sets take four times as long
        found["C7", line, name] = (statistic(np.arange(n)), *few)
    every = pd.concat([shots, others[others.shots > 0]], ignore_index=True)
    found["C7", 16, "relative, second to last layer"] = within_question(every, "relative", -2)

    # Examples against a text of equal length, at five examples.
    five = shots[shots.shots == 5].set_index("question").correct.astype(float)
    for kind in ("random", "shuffled"):
        other = ablations[(ablations.condition == kind) & (ablations.shots == 5)].set_index("question").correct
        found["C8", 26, f"k = 5, {kind}"] = mean_with_ends(100 * (five - other[five.index].astype(float)))

    # Worked steps against the same examples without them; 64 examples against ten.
    chain = rows("chain")
    worked, plain = (
        chain[(chain.condition == kind) & (chain.shots == 5)].set_index("question").correct.astype(float)
        for kind in ("worked", "examples")
    )
    found["C9", 28, "k = 5"] = mean_with_ends(100 * (worked - plain[worked.index]))
    many = rows("many")
    long = many[many.shots == 64].set_index("question")
    ten = shots[shots.shots == 10].set_index("question").loc[long.index]
    found["C9", 29, "k = 64, relative, last layer"] = mean_with_ends(
        layer(long, "relative", -1) - layer(ten, "relative", -1)
    )
    found["C9", 30, "k = 32"] = mean_with_ends(
        100
        * (
            many[many.shots == 32].set_index("question").correct.astype(float)
            - shots[shots.shots == 10].set_index("question").correct.astype(float)
        ).dropna()
    )

    return found


if __name__ == "__main__":
    for (claim, line, name), (value, low, high) in recomputed().items():
        print(f"{claim} line {line:2} {name:38}{value:10.3f}{low:10.3f}{high:10.3f}")  # noqa: T201
