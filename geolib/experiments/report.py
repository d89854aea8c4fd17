"""One page about one model: its ID layer by layer, a few-shot sweep, the paper's figure. A single file, no script."""

from collections.abc import Mapping

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from statsmodels.stats.proportion import proportion_confint

from geolib import figures
from geolib.dimension.rules import RULES, column
from geolib.reasoning import association, binned_share, by_layer, id_change

_EPS = 0.1
_SHOWN = 4  # questions whose answers are printed
_LINES = 4  # of a figure, or they hide each other
_DRAWN: dict = {"x": "layer", "color": "prompt", "panel": "rule", "xlabel": "layer", "ylabel": "ID, summed over heads"}
# Values are escaped: what a model has answered is shown, never run.
_PAGES = jinja2.Environment(
    loader=jinja2.PackageLoader("geolib", "."), autoescape=True, undefined=jinja2.StrictUndefined
)


def report(rows: pd.DataFrame, about: Mapping[str, object]) -> str:
    """Write the page about one sweep.

    Parameters
    ----------
    rows : pandas.DataFrame
        As :meth:`geolib.reasoning.Sweep.run` returns them, including rows with 0 examples.
    about : mapping of str to object
        ``model``, ``questions``, and anything else about how the rows were made; printed at the end.

    Returns
    -------
    str
        HTML that loads nothing.

    Raises
    ------
    ValueError
        There are no rows with 0 examples, or the ID at eps = 0.1 was not recorded.
    """
    rules = _rules(rows)
    if not rules:
        expected, given = column(next(iter(RULES)), _EPS), [name for name in rows if name.startswith("id_")]
        raise ValueError(f"report: rows have no column {expected!r}, but {', '.join(given) or 'none'} were recorded")
    if not (rows.shots == 0).any():
        given = sorted(rows.shots.unique().tolist())
        raise ValueError(f"report: rows has {given} examples, but 0 was expected among them")
    profiles = pd.concat([_profiles(rows, rule) for rule in rules])
    changes = {rule: id_change(rows, rule=rule, eps=_EPS) for rule in rules} if rows.shots.any() else {}
    varied = {rule: table for rule, table in changes.items() if table.change.nunique() > 1}
    shares = [binned_share(table).assign(panel=f"{rule} rule") for rule, table in varied.items()]
    shown = rows[rows.question.isin(rows.question.unique()[:_SHOWN])].sort_values(["question", "shots"])
    return _PAGES.get_template("report.html").render(
        title=about["model"],
        about=about,
        n_questions=rows.question.nunique(),
        n_rows=len(rows),
        profiles=_png(figures.lines(profiles, **_DRAWN)),
        table=_by_shots(rows),
        changes=_png(figures.share_by_change(pd.concat(shares))) if shares else None,
        associations={rule: _association(table) for rule, table in changes.items()},
        shown=shown,
    )


def _rules(rows: pd.DataFrame) -> list[str]:
    """Rules that the rows were counted by: a rule may have been added since."""
    return [rule for rule in RULES if column(rule, _EPS) in rows]


def _profiles(rows: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Median over questions of each layer's ID, by number of examples: the fewest, the most, and some between."""
    ids = rows.groupby("shots")[column(rule, _EPS)].apply(lambda ids: np.median(np.stack(list(ids)), axis=0))
    some = np.unique(np.linspace(0, len(ids) - 1, _LINES).round().astype(int))
    profiles = {f"{shots} examples": ids[shots] for shots in ids.index[some]}
    return by_layer(profiles, "prompt").assign(rule=f"{rule} rule")


def _by_shots(rows: pd.DataFrame) -> pd.DataFrame:
    found = []
    for shots, group in rows.groupby("shots"):
        low, high = proportion_confint(group.correct.sum(), len(group), method="wilson")
        last = {rule: np.stack(list(group[column(rule, _EPS)]))[:, -1].mean() for rule in _rules(rows)}
        row = {
            "examples": shots,
            "answers": len(group),
            "right": f"{group.correct.mean():.0%} [{low:.0%}, {high:.0%}]",
            "calculates": f"{group.redundant.mean():.0%}",
            "prompt tokens": f"{group.prompt_tokens.mean():.0f}",
        }
        found.append(row | {f"last-layer ID, {rule}": f"{value:.1f}" for rule, value in last.items()})
    return pd.DataFrame(found)


def _association(table: pd.DataFrame) -> str:
    try:
        return str(association(table))
    except ValueError as error:  # all answers correct, all wrong, or too few
        return f"none ({error})"


def _png(figure: Figure) -> str:
    """Write a figure as a data URL."""
    return f"data:image/png;base64,{figures.png(figure, dpi=160, bbox_inches='tight')}"
