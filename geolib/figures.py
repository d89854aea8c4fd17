"""One look for all figures: a theme on seaborn, and the few plots that chapters share; nothing is computed here.

What is drawn is a tidy table. A chapter draws what it alone needs with seaborn, in a function that :func:`drawn`
decorates, or as a :class:`seaborn.objects.Plot` that it gives to :func:`draw`. A figure is 7 inches wide and has two
panels in a row, or three where there are three, so that its text can be read on a telephone.

Where the environment variable ``GEOLIB_DARK`` is set, a notebook gets each figure twice: on a light ground, and on a
dark one under a type of its own, :data:`DARK`, which the book's build shows to readers whose theme is dark.
"""

import base64
import functools
import io
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import seaborn.objects as so
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Arc
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from geolib.checks import choice, integer
from geolib.dimension.rules import RULES

P = ParamSpec("P")
DARK = "application/vnd.geolib.dark+"  # followed by svg or png
# Okabe and Ito's palette: told apart with any colour vision, and in grey. On a dark ground two of them are lighter.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#5F6B73")
_NAMES = ("blue", "orange", "green", "red", "purple", "grey")
_OTHERS = ("green", "red", "purple", "blue", "orange", "grey")
_MARKERS = "osD^vP"
_DASHES = ("--", ":", "-.", (0, (8, 2)), (0, (1, 3)), (0, (6, 1, 1, 1, 1, 1)))
# A picture of more characters than this has many marks, and is smaller as pixels.
_MOST = 150_000
_WIDTH = 7  # inches

_LOOK = (
    sns.axes_style("ticks")
    | sns.plotting_context("paper", font_scale=1.2)  # 7 pixels high or more where the page is 390 wide
    | {
        "font.sans-serif": ["DejaVu Sans"],  # which matplotlib brings: the same letters everywhere
        "figure.dpi": 200,  # twice the pixels of the column that it is shown in
        "figure.constrained_layout.use": True,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "lines.markersize": 4,
        "svg.hashsalt": "geolib",  # the same figure is the same file
    }
)


def _ground(paper, ink, axes, grid, palette, cmap):
    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    papers = dict.fromkeys(("figure.facecolor", "axes.facecolor"), paper) | {"image.cmap": cmap}
    lines = {"axes.edgecolor": axes, "grid.color": grid, "axes.prop_cycle": plt.cycler(color=palette)}
    return _LOOK | dict.fromkeys(inked, ink) | papers | lines


_LIGHT = _ground("white", "#14191D", "#3C454C", "#E3E7EA", PALETTE, "YlGnBu")
_ON_DARK = _ground("#121212", "#CED6DD", "#8B98A3", "#2B3238", ("#56B4E9", *PALETTE[1:-1], "#9AA5AE"), "YlGnBu_r")


def drawn(draw: Callable[P, Any]) -> Callable[P, Figure]:
    """Decorate a function that returns a figure of pyplot or seaborn, or an object that has one: axes, a grid.

    The figure is then drawn in the house's look, and closed for pyplot: a notebook shows it once, as a value.

    >>> @drawn
    ... def heights(table):
    ...     return sns.barplot(table, x="name", y="height")
    """

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        figure = _drawn(draw, _LIGHT, args, kwargs)
        if os.environ.get("GEOLIB_DARK"):  # IPython asks the figure itself, before it makes the usual picture of it
            dark = _drawn(draw, _ON_DARK, args, kwargs)
            figure._repr_mimebundle_ = lambda **_: _bundle(figure, dark)
        return figure

    return drawn


def _drawn(draw, look, args, kwargs):
    before = plt.get_fignums()
    try:
        with plt.rc_context(look):
            figure = draw(*args, **kwargs)
    finally:  # a figure that was begun before an error is closed too
        for number in set(plt.get_fignums()) - set(before):
            plt.close(number)
    return getattr(figure, "figure", figure)


def _bundle(light: Figure, dark: Figure) -> dict[str, str]:
    """Write the two pictures of a figure: few marks as lines, which stay sharp at any size, many as pixels."""
    image = _svg(light)
    if len(image) > _MOST:
        return {DARK + "png": png(dark, bbox_inches="tight")}  # as notebooks do
    return {"image/svg+xml": image, DARK + "svg": _svg(dark)}


def _svg(figure: Figure) -> str:
    return _written(figure, format="svg", bbox_inches="tight", metadata={"Date": None}).decode()


def png(figure: Figure, **settings: Any) -> str:
    """Write a figure as a PNG in base64, as pages and notebooks hold it; ``settings`` are those of ``savefig``."""
    return base64.b64encode(_written(figure, format="png", **settings)).decode()


def _written(figure: Figure, **settings: Any) -> bytes:
    file = io.BytesIO()
    with plt.rc_context(_LOOK):  # among them the names inside an SVG
        figure.savefig(file, **settings)
    return file.getvalue()


def ink(name: str) -> str:
    """Return the colour of this name on the present ground.

    Parameters
    ----------
    name : {"blue", "orange", "green", "red", "purple", "grey"}

    Raises
    ------
    ValueError
        There is no colour of this name.
    """
    return plt.rcParams["axes.prop_cycle"].by_key()["color"][_NAMES.index(choice("ink: name", name, *_NAMES))]


def panels(n: int = 1, *, height: float = 3.1, wrap: int | None = None, **settings: Any) -> tuple[Figure, np.ndarray]:
    """Make a figure with axes side by side.

    Parameters
    ----------
    n : int
        How many axes, at least 1.
    height : float
        Of each row, in inches.
    wrap : int, optional
        How many axes a row has at most; by default two, or three where there are three.
    **settings
        As for ``matplotlib.pyplot.subplots``.

    Returns
    -------
    tuple of matplotlib.figure.Figure and numpy.ndarray
        The figure and its axes, shape=[n].
    """
    n_columns = min(integer("panels: n", n, 1), wrap or 2 + (n == 3))
    n_rows = -(-n // n_columns)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=(_WIDTH, height * n_rows), squeeze=False, **settings)
    for ax in axes.flat[n:]:
        ax.remove()
    for ax in axes.flat[max(0, n - n_columns) : n]:  # nothing is below these
        ax.xaxis.set_tick_params(labelbottom=True)
    return figure, axes.flat[:n]


@drawn
def draw(plot: so.Plot, *, height: float = 3.4, log: str = "") -> Figure:
    """Draw a plot of :mod:`seaborn.objects` in the house's look, with its legend below it.

    Parameters
    ----------
    plot : seaborn.objects.Plot
    height : float
        Of each row of panels, in inches.
    log : str
        Which axes are logarithmic: "", "x", "y" or "xy".

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _legend(_plotted(plot, height=height, log=log))


def _plotted(plot, *, height=3.4, log=""):
    figure = plt.figure(figsize=(_WIDTH, height))
    plot.theme(dict(plt.rcParams)).on(figure).plot()
    figure.set_figheight(height * figure.axes[0].get_gridspec().nrows)
    for ax in figure.axes:
        ax.set(**{f"{axis}scale": "log" for axis in log})
        for axis in log:
            _plain_where_few(getattr(ax, f"{axis}axis"))
    return figure


def _plain_where_few(axis):
    low, high = axis.get_view_interval()
    if low > 1e-3 and high < 1e4 and high > 5 * low:  # few decades: plain numbers, not powers of ten
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())


def _legend(figure, more=()):
    """Put the legend below the axes, with the names in ``more``; a single name needs no legend."""
    handles = dict(more)
    if figure.legends:
        old = figure.legends.pop()
        handles = dict(zip((text.get_text() for text in old.get_texts()), old.legend_handles, strict=True)) | handles
    if len(handles) > 1:
        most = max(1, min(4, 84 // (6 + max(map(len, handles)))))  # names in a line of the figure's width
        n_lines = -(-len(handles) // most)
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=-(-len(handles) // n_lines))
    return figure


def _wrapped(text, n_panels, beside=0):
    """Break a text above or below one of so many panels, where it is wider; so many letters stand beside them."""
    width = max(1, int(70 - 0.8 * beside) // min(n_panels, 2 + (n_panels == 3)) - 1)
    return textwrap.fill(str(text), width, break_long_words=False, break_on_hyphens=False)


def _taken(call, table, columns, **names):
    """Return what is drawn of a table, under names of our own; refuse what would be drawn wrongly, or silently not.

    ``columns`` hold numbers and ``names`` hold names, by what they are drawn as. Without a column, all rows have the
    name "".
    """
    columns = {role: column for role, column in (columns | names).items() if column is not None}
    given = ", ".join(map(str, table)) or "none"
    integer(f"{call}: number of rows", len(table), 1)
    for role, column in columns.items():
        if list(table).count(column) != 1:
            raise ValueError(f"{call} has columns {given}, but {column!r} ({role}) was expected once among them")
        missing = table[column].isna()
        if missing.all() if role == "y" else missing.any() and role in {"x", "fill", *names}:
            where = f"{call}: {column!r} ({role}) is missing in {missing.sum()} of {len(table)} rows"
            raise ValueError(f"{where}, but values were expected")
    taken = table.reset_index(drop=True)[list(columns.values())].set_axis(list(columns), axis=1)
    return taken.assign(**{role: taken[role].astype(str) if role in columns else "" for role in names})


def _styles(call, names, values):
    integer(f"{call}: number of names for color", len(names), 0, len(values))
    return dict(zip(names, values, strict=False))


def _begun(call, rows, titles):
    """Begin a plot of rows: a panel for each title, a colour and a marker for each name."""
    n, names = len(titles), rows["color"].unique()
    # Blue and orange are the two rules' in the whole book: other names begin with other inks.
    inks = _NAMES if len(names) < 2 or {*RULES} & {*" ".join(names).split()} else _OTHERS
    color, marker = (so.Nominal(_styles(call, names, values)) for values in ([*map(ink, inks)], _MARKERS))
    # Seaborn would sort the titles, and what is written beside them is not sorted.
    plot = so.Plot(rows, x="x", y="y", color="color").facet("panel", wrap=2 + (n == 3), order=list(titles))
    return plot.label(title=lambda title: _wrapped(title, n)).scale(color=color, marker=marker)


def _ended(call, plot, table, curves, xlabel, ylabel, *, null=None, **settings):
    """Draw a plot, and dashed, in grey, a level and curves, each of these in its panel or, if it names none, in all."""
    dashes = _styles(call, curves["color"].unique(), _DASHES)
    titles = table["panel"].unique()
    if lost := {*curves["panel"]} - {"", *titles}:
        raise ValueError(f"{call} has panels {', '.join(lost)}, but {', '.join(titles)} were expected")
    figure = _plotted(plot.label(x=_wrapped(xlabel, len(titles)), y=ylabel), **settings)
    shown = {}
    for ax, title in zip(figure.axes, titles, strict=True):
        if null is not None:
            ax.axhline(null, color=ink("grey"), ls="--", lw=1, zorder=0)
        for name, line in curves[curves["panel"].isin(["", title])].groupby("color", sort=False):
            style = {"ls": dashes[name], "color": ink("grey"), "lw": 1.2, "label": name}
            (shown[name],) = ax.plot(line["x"], line["y"], **style)
    return _legend(figure, shown)


@drawn
def mosaic(partitions: Mapping[str, Any]) -> Figure:
    """Draw plane partitions side by side: each region's colour says how many neurons are active there (figure 1).

    Parameters
    ----------
    partitions : mapping of title to geolib.partition.PlanePartition

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = panels(len(partitions), height=3.5)
    for ax, (title, partition) in zip(axes, partitions.items(), strict=True):
        ax.add_collection(PolyCollection(partition.polygons, fc=region_colors(partition), ec="#25323B", lw=0.25))
        ax.set(title=title, xlabel="$x_1$", ylabel="$x_2$", aspect="equal", xmargin=0, ymargin=0)
        ax.grid(visible=False)
    return figure


def region_colors(partition: Any) -> np.ndarray:
    """Return the colour of each region by how many neurons are active there, shape=[n_regions, 4]."""
    active = sum(layer.sum(axis=1) for layer in partition.active)
    # Neighbours differ by one neuron: where that is a small step, two shades for odd and even make every border show.
    span = max(np.ptp(active), 1)
    return plt.get_cmap("YlGnBu")(0.7 * (active - active.min()) / span + (span > 7) * 0.15 * (active % 2))


@drawn
def lines(
    table: pd.DataFrame,
    *,
    x: str,
    color: str | None = None,
    panel: str | None = None,
    xlabel: str,
    ylabel: str,
    fill: str | None = None,
    null: float | None = None,
    share: bool = False,
    log: str = "",
    height: float = 3.4,
) -> Figure:
    """Draw a tidy table of estimates as lines: a colour and a marker each, in bands where it has ``low`` and ``high``.

    Parameters
    ----------
    table : pandas.DataFrame
        ``estimate``, and ``low`` and ``high`` if they are known. A line whose ends are all missing, among others that
        have ends, is a reference: dashed, in grey.
    x, color, panel : str
        Columns: what the lines run over, what distinguishes them, and what the panels show.
    xlabel, ylabel : str
        Of the axes.
    fill : str, optional
        Column of booleans: whether a marker is full.
    null : float, optional
        The value that means no effect: a dashed line.
    share : bool
        Whether all panels have the same scales.
    log : str
        Which axes are logarithmic: "", "x", "y" or "xy".
    height : float
        Of each row of panels, in inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    call, banded = "lines: table", {"low", "high"} <= set(table)
    columns = {"x": x, "y": "estimate", "fill": fill} | ({"low": "low", "high": "high"} if banded else {})
    table = _taken(call, table, columns, color=color, panel=panel)
    plain = table.groupby("color")["low" if banded else "y"].transform(lambda values: values.isna().all())
    plain &= banded and not plain.all()
    plot = _begun(call, table[~plain], table["panel"].unique()).share(x=share, y=share)
    if banded:
        plot = plot.add(so.Band(alpha=0.2), ymin="low", ymax="high", legend=False)
    if fill:
        plot = plot.add(so.Line()).add(so.Dot(pointsize=5), fill="fill", legend=False)
        plot = plot.scale(fill=so.Boolean([True, False]))
    else:
        plot = plot.add(so.Line(pointsize=4, edgewidth=0), marker="color")
    figure = _ended(call, plot, table, table[plain], xlabel, ylabel, null=null, height=height, log=log)
    for ax, (_, part) in zip(figure.axes, table.groupby("panel", sort=False), strict=True):
        values = np.unique((table if share else part)["x"])
        if "x" in log and len(values) < 5:  # few values: name them
            ax.set_xticks(values, [f"{value:g}" for value in values])
            ax.xaxis.minorticks_off()
        elif "x" not in log and values.dtype.kind == "i":
            n = 4 if len(figure.axes) == 3 else 7
            ticks = MaxNLocator(n, integer=True, steps=[1, 2, 5, 10]).tick_values(values[0], values[-1])
            ax.set_xticks(np.unique(ticks[ticks <= values[-1]].clip(values[0])))  # there is no layer 0
        if "y" not in log and not (table["y"] % 1).any():  # counts
            ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@drawn
def points(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    color: str | None = None,
    panel: str | None = None,
    curves: pd.DataFrame | None = None,
    xlabel: str,
    ylabel: str,
    log: str = "",
) -> Figure:
    """Draw a tidy table as points, a colour and a marker for each name, and curves that bound them or meet them.

    Parameters
    ----------
    table : pandas.DataFrame
    x, y, color, panel : str
        Columns: the places of the points, what distinguishes them, and what the panels show.
    curves : pandas.DataFrame, optional
        The same columns: dashed lines, in grey. Without the column ``panel`` they are in every panel.
    xlabel, ylabel : str
        Of the axes.
    log : str
        Which axes are logarithmic: "", "x", "y" or "xy".

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = {"x": x, "y": y}
    table = _taken("points: table", table, columns, color=color, panel=panel)
    plot = _begun("points: table", table, table["panel"].unique()).share(x=False, y=False)
    plot = plot.add(so.Dot(pointsize=4, alpha=0.6, edgewidth=0), marker="color")
    own = panel if curves is not None and panel in curves else None
    curves = table[:0] if curves is None else _taken("points: curves", curves, columns, color=color, panel=own)
    return _ended("points: curves", plot, table, curves, xlabel, ylabel, log=log)


@drawn
def estimates(table: pd.DataFrame, *, of: str = "reading", panel: str | None = None, xlabel: str) -> Figure:
    """Draw estimates with their intervals and counts, one below the other, and a dashed line where no effect would be.

    Parameters
    ----------
    table : pandas.DataFrame
        ``estimate``, ``low``, ``high``, ``n``, ``null``, as :func:`geolib.estimates.tidy` returns them. A row whose
        estimate is NaN keeps its line and stays empty.
    of, panel : str
        Columns: the names of the lines, and what the panels show (by default "panel", if the table has it).
    xlabel : str
        Of the axis, which is the same in all panels. It is shown with ``n`` where each panel's rows have the same,
        which otherwise stands beside their names.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = {name: name for name in ("estimate", "low", "high", "n", "null")}
    table = _taken("estimates: table", table, columns, of=of, panel=panel or ("panel" if "panel" in table else None))
    table["count"] = [f", n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{n:,}" for n in table["n"]]
    if own := (table.groupby("panel")["n"].nunique() > 1).any():
        table["of"] += table["count"]
    parts = list(table.groupby("panel", sort=False))
    shared = all(list(part["of"]) == list(parts[0][1]["of"]) for _, part in parts)
    # Names that are not shared stand beside each panel, and then there is no room for two.
    room = (len(parts) if shared else 1, table["of"].str.len().max())
    n_breaks = _wrapped(xlabel + table["count"].iloc[0], *room).count("\n")
    height = 0.8 + 0.27 * max(len(part) for _, part in parts) + 0.18 * n_breaks
    figure, axes = panels(len(parts), height=height, wrap=None if shared else 1, sharex=True, sharey=shared)
    for ax, (title, part) in zip(axes, parts, strict=True):
        places, label = np.arange(len(part)), xlabel if own else xlabel + part["count"].iloc[0]
        plot = so.Plot(part.assign(place=places), x="estimate", y="place").theme(dict(plt.rcParams)).on(ax)
        plot = plot.add(so.Range(color=ink("blue")), xmin="low", xmax="high", orient="y")
        plot.add(so.Dot(color=ink("blue"), pointsize=5), orient="y").label(y="").plot()
        ax.axvline(part["null"].iloc[0], color=ink("grey"), ls="--", lw=1, zorder=0)
        ax.set_yticks(places, part["of"])
        ax.set(title=_wrapped(title, *room), ylim=(len(part) - 0.5, -0.5), xlabel=_wrapped(label, *room))
        ax.grid(visible=False, axis="y")
        ax.tick_params(labelbottom=True, labelleft=not shared or ax.get_subplotspec().is_first_col())
    return figure


@drawn
def heat_maps(tables: Mapping[str, pd.DataFrame], *, label: str, height: float = 3.8, **settings: Any) -> Figure:
    """Draw tables of numbers as colours, side by side, on one scale.

    Parameters
    ----------
    tables : mapping of title to pandas.DataFrame
        With the same rows and columns.
    label : str
        What the colours mean.
    height : float
        Of each row of panels, in inches.
    **settings
        As for ``seaborn.heatmap``: the scale, and whether numbers are written into the cells. The colours are the
        stronger the more they differ from the ground, unless ``cmap`` is given.

    Returns
    -------
    matplotlib.figure.Figure
    """
    defaults = {"annot_kws": {"size": "small"}, "fmt": ".0f", "cmap": plt.rcParams["image.cmap"]}
    figure, axes = panels(len(tables), height=height, sharex=True, sharey=True)
    first = next(iter(tables.values()))
    for title, table in tables.items():
        if table.empty or not all(map(pd.Index.equals, table.axes, first.axes)):
            raise ValueError(f"heat_maps: tables[{title!r}] is {table.shape}, but cells like the first's were expected")
    if "norm" not in settings:
        every = np.stack([table.to_numpy(float) for table in tables.values()])
        defaults |= {"vmin": np.nanmin(every), "vmax": np.nanmax(every)}
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        sns.heatmap(table, ax=ax, cbar=False, **defaults | settings)
        ax.set(title=title)
        ax.grid(visible=False)
        ax.tick_params(length=0)
        ax.tick_params(axis="y", rotation=0)
        ax.label_outer()
    bar = figure.colorbar(ax.collections[0], ax=list(axes), label=label, location="bottom", shrink=0.6, aspect=40)
    if bar.ax.get_xscale() == "log":
        _plain_where_few(bar.ax.xaxis)
    return figure


@drawn
def share_by_change(table: pd.DataFrame, *, panel: str | None = None, baseline: float | None = None) -> Figure:
    """Draw shares of correct answers against the change of ID, in bins with intervals and counts (figure 6).

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`geolib.reasoning.binned_share` returns it; or several such tables in one, with a column that names
        their panels.
    panel : str, optional
        Column: what the panels show; by default "panel", if the table has it.
    baseline : float, optional
        Share over all rows: a dashed line.

    Returns
    -------
    matplotlib.figure.Figure
    """
    call, columns = "share_by_change: table", {"x": "change", "y": "estimate", "low": "low", "high": "high", "n": "n"}
    table = _taken(call, table, columns, color=None, panel=panel or ("panel" if "panel" in table else None))
    # Outwards to tenths, with room for the counts below the lowest interval.
    bottom = np.floor(np.clip(10 * table["low"].min() - 0.3, 0, 8)) / 10
    top = max(np.ceil(10 * table["high"].max()) / 10, bottom + 0.2)
    plot = _begun(call, table, table["panel"].unique()).limit(y=(bottom, top)).share(x=False)
    plot = plot.add(so.Range(), ymin="low", ymax="high").add(so.Dot(pointsize=5))
    figure = _ended(call, plot, table, table[:0], "change of ID from 0-shot (edges)", "share correct", null=baseline)
    for ax, (_, part) in zip(figure.axes, table.groupby("panel", sort=False), strict=True):
        for change, n in part[["x", "n"]].itertuples(index=False):
            ax.text(change, 0.02, n, transform=ax.get_xaxis_transform(), ha="center", size="small", color=ink("grey"))
        ax.margins(x=0.08)
    return figure


@drawn
def attention_graph(
    tokens: Sequence[str], edges: pd.DataFrame, *, title: str = "", highlight: int | None = None
) -> Figure:
    """Draw tokens on a line, and an arc for every edge from a token (right foot) to what it attends to (left foot).

    Parameters
    ----------
    tokens : sequence of str
    edges : pandas.DataFrame
        ``query``, ``key``, ``weight`` as :func:`geolib.dimension.attention_edges` returns them, for one head.
        Self-loops are drawn as rings.
    title : str
        Above the axes.
    highlight : int, optional
        Draw this query's edges in colour, the others in grey; by default the last token's.

    Returns
    -------
    matplotlib.figure.Figure
    """
    integer("attention_graph: number of tokens", len(tokens), 1)
    figure, (ax,) = panels(height=3.6)
    highlight = len(tokens) - 1 if highlight is None else highlight
    faint = 0.35 if plt.rcParams["figure.facecolor"] == "white" else 0.6
    # Grey first, colour on top.
    for edge in sorted(edges.itertuples(), key=lambda edge: edge.query == highlight):
        own = edge.query == highlight
        style = {"color": ink("red" if own else "grey"), "alpha": 0.95 if own else faint, "lw": 0.4 + 2.6 * edge.weight}
        if edge.query == edge.key:
            ax.plot(edge.query, 0, "o", mfc="none", mec=style["color"], alpha=style["alpha"], ms=6, mew=style["lw"])
            continue
        span = edge.query - edge.key
        ax.add_patch(Arc(((edge.query + edge.key) / 2, 0), span, span, theta1=0, theta2=180, **style))
    ax.plot(range(len(tokens)), np.zeros(len(tokens)), ".", color=plt.rcParams["text.color"], ms=3)
    ax.set(xlim=(-1, len(tokens)), ylim=(-0.6, len(tokens) / 2 + 0.5), title=title, yticks=[], frame_on=False)
    size = min(10, 360 / len(tokens))  # points, so that neighbours do not touch
    ax.set_xticks(range(len(tokens)), [token.replace("$", r"\$") for token in tokens], rotation=90, fontsize=size)
    ax.grid(visible=False)
    ax.tick_params(length=0)
    return figure
