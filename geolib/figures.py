"""One look for all figures: a theme on seaborn, and the few plots that chapters share; nothing is computed here.

A chapter draws what it alone needs with seaborn, in a function that :func:`drawn` decorates, or as a
:class:`seaborn.objects.Plot` that it gives to :func:`draw`.

Where the environment variable ``GEOLIB_DARK`` is set, a notebook gets each figure twice: on a light ground, and on a
dark one under a type of its own, :data:`DARK`, which the book's build shows to readers whose theme is dark.
"""

import base64
import functools
import io
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import seaborn.objects as so
from matplotlib.collections import PolyCollection
from matplotlib.patches import Arc
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

DARK = "application/vnd.geolib.dark+"  # followed by svg or png
# Okabe and Ito's palette: told apart with any colour vision, and in grey. On a dark ground two of them are lighter.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#5F6B73")
_NAMES = ("blue", "orange", "green", "red", "purple", "grey")
_MARKERS = "osD^vP"
_DASHES = ("--", ":", "-.")
# A picture of more characters than this has many marks, and is smaller as pixels.
_MOST = 150_000

_LOOK = (
    sns.axes_style("ticks")
    | sns.plotting_context("paper", font_scale=1.0)
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


def _ground(paper, ink, axes, grid, palette):
    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    papers = dict.fromkeys(("figure.facecolor", "axes.facecolor"), paper)
    lines = {"axes.edgecolor": axes, "grid.color": grid, "axes.prop_cycle": plt.cycler(color=palette)}
    return _LOOK | dict.fromkeys(inked, ink) | papers | lines


_LIGHT = _ground("white", "#14191D", "#3C454C", "#E3E7EA", PALETTE)
_ON_DARK = _ground("#121212", "#CED6DD", "#8B98A3", "#2B3238", ("#56B4E9", *PALETTE[1:-1], "#9AA5AE"))


def drawn(draw):
    """Decorate a function that returns a figure (or what has one: axes, a grid) of pyplot or seaborn.

    It is then drawn in the house's look, and closed for pyplot: a notebook shows it once, as a value.

    >>> @drawn
    ... def heights(table):
    ...     return sns.barplot(table, x="name", y="height")
    """

    @functools.wraps(draw)
    def drawn(*args, **kwargs):
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
    finally:  # also what was begun when something was wrong
        for number in set(plt.get_fignums()) - set(before):
            plt.close(number)
    return getattr(figure, "figure", figure)


def _bundle(light, dark) -> dict[str, str]:
    """Write the two pictures of a figure: few marks as lines, which stay sharp at any size, many as pixels."""
    image = _svg(light)
    if len(image) > _MOST:
        return {DARK + "png": png(dark, bbox_inches="tight")}  # as notebooks do
    return {"image/svg+xml": image, DARK + "svg": _svg(dark)}


def _svg(figure) -> str:
    return _written(figure, format="svg", bbox_inches="tight", metadata={"Date": None}).decode()


def png(figure, **settings) -> str:
    """Write a figure as a PNG in base64, as pages and notebooks hold it; settings are those of ``savefig``."""
    return base64.b64encode(_written(figure, format="png", **settings)).decode()


def _written(figure, **settings) -> bytes:
    file = io.BytesIO()
    with plt.rc_context(_LOOK):  # among them the names inside an SVG
        figure.savefig(file, **settings)
    return file.getvalue()


def ink(name: str) -> str:
    """Colour of this name (blue, orange, green, red, purple, grey) on the present ground."""
    return _inks()[_NAMES.index(name)]


def _inks() -> list[str]:
    return plt.rcParams["axes.prop_cycle"].by_key()["color"]


def panels(n_columns: int = 1, *, height: float = 3.1, **kwargs):
    """Make a figure with axes side by side; returns the figure and its axes, shape=[n_columns]."""
    figure, axes = plt.subplots(1, n_columns, figsize=(7, height), squeeze=False, **kwargs)
    return figure, axes[0]


def plain_log(axis, subs=(1, 2, 5)) -> None:
    """Name places of a logarithmic axis by plain numbers."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


@drawn
def draw(plot: so.Plot, *, height: float = 3.4, log: str = ""):
    """Draw a plot of :mod:`seaborn.objects` in the house's look, its legend below.

    Parameters
    ----------
    plot : seaborn.objects.Plot
    height : float
        In inches, of 7 of width.
    log : str
        Which axes are logarithmic: "", "x", "y" or "xy".
    """
    figure = _plotted(plot, height=height, log=log)
    _legend(figure)
    return figure


def _plotted(plot, *, height=3.4, log=""):
    figure = plt.figure(figsize=(7, height))
    plot.theme(dict(plt.rcParams)).on(figure).plot()
    for ax in figure.axes:
        ax.set(**{f"{axis}scale": "log" for axis in log})
        for axis in (getattr(ax, f"{axis}axis") for axis in log):
            low, high = axis.get_view_interval()
            if low > 1e-3 and high < 1e4 and high > 5 * low:  # few decades: plain numbers, not powers of ten
                plain_log(axis)
    return figure


def _legend(figure, more: Mapping = MappingProxyType({})) -> None:
    """Put the legend below, where it takes no width, with what is to be named besides; one name needs none."""
    handles = dict(more)
    if figure.legends:
        old = figure.legends.pop()
        handles = dict(zip((text.get_text() for text in old.get_texts()), old.legend_handles, strict=True)) | handles
    if len(handles) > 1:
        n_lines = -(-len(handles) // 4)
        columns = -(-len(handles) // n_lines)
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns)


def _facets(plot, table, panel):
    return plot.facet(panel).label(title=str) if panel in table else plot


def _parts(table, panel):
    return list(table.groupby(panel, sort=False)) if panel in table else [("", table)]


def _by_name(plot, names):
    """Give each name a colour and a marker, in the order of the palette."""
    color, marker = (so.Nominal(dict(zip(names, values, strict=False))) for values in (_inks(), _MARKERS))
    return plot.scale(color=color, marker=marker)


@drawn
def mosaic(partitions: Mapping[str, object]):
    """Plane partitions side by side, a colour per region by how many neurons are active there (figure 1).

    Parameters
    ----------
    partitions : mapping of title to geolib.partition.PlanePartition
    """
    figure, axes = panels(len(partitions), height=3.5)
    for ax, (title, partition) in zip(axes, partitions.items(), strict=True):
        cells = PolyCollection(
            partition.polygons, facecolors=region_colors(partition), edgecolors="#25323B", linewidths=0.25
        )
        ax.add_collection(cells)
        ax.autoscale_view()
        ax.margins(0)
        ax.set(title=title, xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
        ax.grid(visible=False)
    return figure


def region_colors(partition):
    """Colour of each region by how many neurons are active there, shape=[n_regions, 4]."""
    active = sum(layer.sum(axis=1) for layer in partition.active)
    # Neighbours differ by one neuron, so the parity of the count alternates: two shades make every border show.
    return plt.get_cmap("YlGnBu")(0.7 * (active - active.min()) / max(np.ptp(active), 1) + 0.15 * (active % 2))


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
):
    """Draw a tidy table of estimates as lines: a colour and a marker each, in bands where it has ``low`` and ``high``.

    Parameters
    ----------
    table : pandas.DataFrame
        ``estimate``, and ``low`` and ``high`` if they are known. A line whose ends are all missing, among others that
        have ends, is a reference: dashed, in grey.
    x, color, panel : str
        Columns: what the lines run over, what tells them apart, and what the panels show.
    fill : str, optional
        Column of true and false: whether a marker is full.
    null : float, optional
        The value that means no effect: a dashed line.
    share : bool
        Whether the panels have one scale.
    log : str
        Which axes are logarithmic: "", "x", "y" or "xy".
    """
    banded = {"low", "high"} <= set(table)
    name = color or "line"
    table = table.assign(**{name: table[color].astype(str) if color else ""}).reset_index(drop=True)
    plain = pd.Series(False, table.index)
    if banded:
        plain = table.groupby(name)["low"].transform(lambda low: low.isna().all())
        plain &= not plain.all()
    main = table[~plain]
    names = list(main[name].unique())
    at = {"x": x, "color": name}
    plot = _by_name(_facets(so.Plot(table), table, panel), names).share(x=share, y=share)
    if banded:
        plot = plot.add(so.Band(alpha=0.2), data=main, ymin="low", ymax="high", legend=False, **at)
    if fill:
        plot = plot.add(so.Line(), data=main, y="estimate", **at)
        plot = plot.add(so.Dot(pointsize=5), data=main, y="estimate", fill=fill, legend=False, **at)
        plot = plot.scale(fill=so.Boolean([True, False]))
    else:
        plot = plot.add(so.Line(pointsize=4, edgewidth=0), data=main, y="estimate", marker=name, **at)
    figure = _plotted(plot.label(x=xlabel, y=ylabel, **{name: ""}), height=height, log=log)
    references = dict(zip(table[name][plain].unique(), _DASHES, strict=False))
    for ax, (_, part) in zip(figure.axes, _parts(table, panel), strict=True):
        for other, line in part[part[name].isin(references)].groupby(name, sort=False):
            ax.plot(line[x], line["estimate"], ls=references[other], color=ink("grey"), lw=1.2, label=other)
        if null is not None:
            ax.axhline(null, color=ink("grey"), ls="--", lw=1, zorder=0)
        values = np.unique((table if share else part)[x])
        if "x" in log and len(values) < 5:  # few values: name them
            ax.set_xticks(values, [f"{value:g}" for value in values])
            ax.xaxis.minorticks_off()
        elif "x" not in log and values.dtype.kind == "i":
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    shown = {line.get_label(): line for ax in figure.axes for line in ax.lines if line.get_label() in references}
    _legend(figure, shown)
    return figure


@drawn
def estimates(table: pd.DataFrame, *, of: str = "reading", panel: str | None = "panel", xlabel: str, log: bool = False):
    """Draw estimates with their intervals and counts, one below the other, and a dashed line where no effect would be.

    Parameters
    ----------
    table : pandas.DataFrame
        ``estimate``, ``low``, ``high``, ``n``, ``null``, as :func:`geolib.estimates.tidy` returns them. A row whose
        estimate is NaN keeps its line and stays empty.
    of, panel : str
        Columns: the names of the lines, and what the panels show.
    log : bool
        Whether the axis is logarithmic, as for odds ratios.
    """
    table = table.assign(**{of: table[of].astype(str)}).reset_index(drop=True)
    parts = _parts(table, panel)
    shared = all(list(part[of]) == list(parts[0][1][of]) for _, part in parts)
    figure, axes = panels(len(parts), height=0.8 + 0.27 * max(len(part) for _, part in parts), sharey=shared)
    for ax, (title, part) in zip(axes, parts, strict=True):
        plot = so.Plot(part, x="estimate", y=of).add(so.Range(color=ink("blue")), xmin="low", xmax="high")
        plot = plot.add(so.Dot(color=ink("blue"), pointsize=5)).label(x=xlabel, y="")
        plot.theme(dict(plt.rcParams)).on(ax).plot()
        ax.axvline(part["null"].iloc[0], color=ink("grey"), ls="--", lw=1, zorder=0)
        for place, n in enumerate(part["n"]):
            at = {"xycoords": ax.get_yaxis_transform(), "va": "center", "fontsize": 7, "color": ink("grey")}
            ax.annotate(f"{n}", (1.01, place), **at)
        ax.set(title=title, xscale="log" if log else "linear", ylim=(len(part) - 0.5, -0.5))
        if log:  # plain numbers: odds ratios span few powers of ten
            plain_log(ax.xaxis, subs=(1, 1.5, 2, 3, 5))
        ax.grid(visible=False, axis="y")
        ax.tick_params(labelleft=not shared or ax is axes[0])
    return figure


@drawn
def share_by_change(table: pd.DataFrame, *, panel: str | None = "panel", baseline: float | None = None):
    """Draw shares of correct answers against the change of ID, in bins with intervals and counts (figure 6).

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`geolib.reasoning.binned_share` returns it; several, one below the other, with a column that names
        their panels.
    panel : str, optional
    baseline : float, optional
        Share over all rows, drawn as a dashed line.
    """
    table = table.reset_index(drop=True)
    plot = _facets(so.Plot(table, x="change", y="estimate"), table, panel)
    plot = plot.label(x="change of ID against 0-shot", y="share correct")
    plot = plot.add(so.Range(color=ink("blue")), ymin="low", ymax="high").add(so.Dot(color=ink("blue"), pointsize=5))
    figure = _plotted(plot.limit(y=(0, 1)).share(x=False))
    for ax, (_, part) in zip(figure.axes, _parts(table, panel), strict=True):
        if baseline is not None:
            ax.axhline(baseline, color=ink("grey"), ls="--", lw=1, zorder=0)
        for row in part.itertuples():
            ax.annotate(f"{row.n}", (row.change, 0.02), ha="center", fontsize=8, color=ink("grey"))
        ax.margins(x=0.08)
    return figure


@drawn
def attention_graph(tokens: Sequence[str], edges, *, title="", highlight=None):
    """Tokens on a line, an arc for every attention edge from a token (right foot) to what it attends to (left foot).

    Parameters
    ----------
    tokens : sequence of str
    edges : pandas.DataFrame
        ``query``, ``key``, ``weight`` as :func:`geolib.dimension.attention_edges` returns them, for one head.
        Self-loops are drawn as rings.
    highlight : int, optional
        Draw this query's edges in colour, the others in grey.
    """
    figure, (ax,) = panels(height=3.6)
    highlight = len(tokens) - 1 if highlight is None else highlight
    # Grey first, colour on top.
    for edge in sorted(edges.itertuples(), key=lambda edge: edge.query == highlight):
        own = edge.query == highlight
        style = {
            "color": ink("red") if own else ink("grey"),
            "alpha": 0.95 if own else 0.35,
            "lw": 0.4 + 2.6 * edge.weight,
        }
        if edge.query == edge.key:
            ax.plot(edge.query, 0, "o", mfc="none", mec=style["color"], alpha=style["alpha"], ms=6, mew=style["lw"])
            continue
        span = edge.query - edge.key
        ax.add_patch(Arc(((edge.query + edge.key) / 2, 0), span, span, theta1=0, theta2=180, **style))
    ax.plot(range(len(tokens)), np.zeros(len(tokens)), ".", color=plt.rcParams["text.color"], ms=3)
    ax.set(xlim=(-1, len(tokens)), ylim=(-0.6, len(tokens) / 2 + 0.5), title=title, yticks=[])
    size = 8 if len(tokens) <= 40 else 6
    ax.set_xticks(range(len(tokens)), [token.replace("$", r"\$") for token in tokens], rotation=90, fontsize=size)
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(length=0)
    return figure


# Of the chapters that are not yet drawn by the functions above.


def bands(panels: Mapping[str, Mapping[str, tuple]], *, xlabel, ylabel, log="y", height=3.4):
    """Draw :func:`lines` from mappings.

    Parameters
    ----------
    panels : mapping of title to mapping of label to (x, low, middle, high), or (x, y)
        A line without a band is a reference, where others have one.
    """
    rows = []
    for title, named in panels.items():
        for name, (x, *ys) in named.items():
            columns = ("x", "low", "estimate", "high") if len(ys) == 3 else ("x", "estimate")
            made = dict(zip(columns, map(np.asarray, (x, *ys)), strict=True))
            rows.append(pd.DataFrame(made).assign(panel=title, line=name))
    table = pd.concat(rows, ignore_index=True)
    panel = "panel" if any(panels) else None
    return lines(table, x="x", color="line", panel=panel, xlabel=xlabel, ylabel=ylabel, log=log, height=height)


def profiles(panels: Mapping[str, Mapping[str, Sequence[float]]], *, ylabel="ID, summed over heads", log=False):
    """Draw values per layer: a panel per rule, a line per prompt."""
    lines = {t: {n: (np.arange(1, len(y) + 1), y) for n, y in named.items()} for t, named in panels.items()}
    return bands(lines, xlabel="layer", ylabel=ylabel, log="y" if log else "")


def by_layer(panels: Mapping[str, object], *, ylabel="rank correlation"):
    """Draw a :func:`geolib.reasoning.layer_profile` per panel; full markers where it survives correction (figure 8)."""
    table = pd.concat([one.assign(panel=title, layer=one["layer"] + 1) for title, one in panels.items()])
    return lines(table, x="layer", panel="panel", fill="survives", null=0, share=True, xlabel="layer", ylabel=ylabel)


@drawn
def points(panels: Mapping[str, tuple], *, xlabel, ylabel, log=""):
    """Draw points under curves that bound them, a panel per title.

    Parameters
    ----------
    panels : mapping of title to (groups, curves), each a mapping of label to (x, y)
        A colour and a marker per group; curves are dashed, in grey.
    """
    rows = [
        pd.DataFrame({"panel": title, "group": name, "x": np.asarray(x), "y": np.asarray(y)})
        for title, (groups, _) in panels.items()
        for name, (x, y) in groups.items()
    ]
    table = pd.concat(rows, ignore_index=True)
    names = list(table["group"].unique())
    plot = so.Plot(table, x="x", y="y", color="group", marker="group").add(so.Dot(pointsize=4, alpha=0.6, edgewidth=0))
    plot = _facets(_by_name(plot, names), table, "panel" if any(panels) else None).label(x=xlabel, y=ylabel)
    figure = _plotted(plot.share(x=False, y=False), log=log)
    shown = {}
    for ax, (_, curves) in zip(figure.axes, panels.values(), strict=True):
        for (name, (x, y)), dash in zip(curves.items(), _DASHES, strict=False):
            (shown[name],) = ax.plot(x, y, ls=dash, color=ink("grey"), lw=1.2, label=name)
    _legend(figure, shown)
    return figure
