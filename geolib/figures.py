"""One look for all figures. Each function draws what it is given and returns the figure; nothing is computed here.

Where the environment variable ``GEOLIB_DARK`` is set, a notebook gets each figure twice: on a light ground, and on a
dark one under a type of its own, :data:`DARK`, which the book's build shows to readers whose theme is dark.
"""

import base64
import functools
import io
import itertools
import os
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.patches import Arc
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from geolib.dimension.rules import check_eps

DARK = "application/vnd.geolib.dark+png"
# Okabe and Ito's palette: told apart with any colour vision, and in grey. On a dark ground two of them are lighter.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#5F6B73")
_NAMES = ("blue", "orange", "green", "red", "purple", "grey")
_MARKERS = "osD^vP"

_LOOK = {
    "figure.dpi": 144,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
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
}


def _ground(paper, ink, axes, grid, palette):
    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    papers = dict.fromkeys(("figure.facecolor", "axes.facecolor"), paper)
    lines = {"axes.edgecolor": axes, "grid.color": grid, "axes.prop_cycle": plt.cycler(color=palette)}
    return _LOOK | dict.fromkeys(inked, ink) | papers | lines


_LIGHT = _ground("white", "#14191D", "#3C454C", "#E3E7EA", PALETTE)
_ON_DARK = _ground("#121212", "#CED6DD", "#8B98A3", "#2B3238", ("#56B4E9", *PALETTE[1:-1], "#9AA5AE"))


def _figure(draw):
    """Draw in the house's look, and close the figure for pyplot: a notebook then shows it once, as a value."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs):
        figure = _drawn(draw, _LIGHT, args, kwargs)
        if os.environ.get("GEOLIB_DARK"):  # IPython asks the figure itself, before it makes the usual picture of it
            figure._repr_mimebundle_ = lambda **_: {
                DARK: png(_drawn(draw, _ON_DARK, args, kwargs), bbox_inches="tight")  # as notebooks do
            }
        return figure

    return drawn


def _drawn(draw, look, args, kwargs):
    with plt.rc_context(look):
        figure = draw(*args, **kwargs)
    plt.close(figure)
    return figure


def png(figure, **settings) -> str:
    """Write a figure as a PNG in base64, as pages and notebooks hold it; settings are those of ``savefig``."""
    file = io.BytesIO()
    figure.savefig(file, format="png", **settings)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _inks():
    return plt.rcParams["axes.prop_cycle"].by_key()["color"]


def _ink(name):
    """Colour of this name on the present ground; "C0" would be looked up when the figure is shown, on any ground."""
    return _inks()[_NAMES.index(name)]


def _axes(columns=1, *, height=3.1, width=7.0, **kwargs):
    figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False, **kwargs)
    return figure, axes[0]


def _plain_log(axis, subs=(1, 2, 5)):
    """Name places of a logarithmic axis by plain numbers."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


@_figure
def mosaic(partitions: Mapping[str, object]):
    """Plane partitions side by side, a colour per region by how many neurons are active there (figure 1).

    Parameters
    ----------
    partitions : mapping of title to geolib.partition.PlanePartition
    """
    figure, axes = _axes(len(partitions), height=3.5)
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


@_figure
def curves(x, lines: Mapping[str, Sequence[float]], *, xlabel, ylabel, title="", points=None, log=False):
    """Curves over one axis, each with its own colour and marker; ``points`` adds measured values without a line."""
    figure, (ax,) = _axes()
    for marker, (label, y) in zip(_MARKERS, lines.items(), strict=False):
        ax.plot(x, y, marker=marker, label=label)
    for color, (label, (px, py)) in zip(_inks(), (points or {}).items(), strict=False):
        ax.plot(px, py, "x", color=color, markersize=8, markeredgewidth=2, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title, yscale="log" if log else "linear")
    ax.xaxis.set_major_locator(MaxNLocator(integer=np.asarray(x).dtype.kind == "i"))
    ax.legend()
    return figure


@_figure
def profiles(panels: Mapping[str, Mapping[str, Sequence[float]]], *, ylabel="ID, summed over heads", log=False):
    """Values per layer: a panel per rule, a line per prompt."""
    figure, axes = _axes(len(panels))
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        for marker, (label, y) in zip(itertools.cycle(_MARKERS), lines.items(), strict=False):
            ax.plot(np.arange(1, len(y) + 1), y, marker=marker, markersize=3, label=label)
        ax.set(title=title, xlabel="layer", ylabel=ylabel)
        if log:
            ax.set_yscale("log")
            _plain_log(ax.yaxis)
        else:
            ax.set_ylim(bottom=0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1].legend()
    return figure


@_figure
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
    figure, (ax,) = _axes(height=3.6)
    highlight = len(tokens) - 1 if highlight is None else highlight
    # Grey first, colour on top.
    for edge in sorted(edges.itertuples(), key=lambda edge: edge.query == highlight):
        own = edge.query == highlight
        style = {
            "color": _ink("red") if own else _ink("grey"),
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


@_figure
def attention_map(tokens: Sequence[str], edges, *, eps):
    """One head's attention map, the causal triangle: all weights given (left), and those above eps (right).

    Parameters
    ----------
    tokens : sequence of str
    edges : pandas.DataFrame
        ``query``, ``key``, ``weight``, as :func:`geolib.dimension.attention_edges` returns them for a small threshold.
    eps : float
        In (0, 1).
    """
    (eps,) = check_eps("attention_map", [eps])
    figure, axes = _axes(2, height=3.7, sharey=True)
    weights = np.full((len(tokens), len(tokens)), np.nan)
    weights[edges["query"], edges["key"]] = edges["weight"]
    panels = {"attention weights": weights, f"those above {eps:g}": np.where(weights > eps, weights, np.nan)}
    names = [token.replace("$", r"\$") for token in tokens]
    for ax, (title, shown) in zip(axes, panels.items(), strict=True):
        image = ax.imshow(shown, norm=LogNorm(1e-4, 1), cmap="YlGnBu")
        ax.plot([-0.5, len(tokens) - 0.5], [-0.5, len(tokens) - 0.5], color=_ink("grey"), lw=0.6)
        ax.set(title=title, xlabel="attended to (key)")
        ax.set_xticks(range(len(tokens)), names, rotation=90, fontsize=5)
        ax.set_yticks(range(len(tokens)), names, fontsize=5)
        ax.grid(visible=False)
        ax.tick_params(length=0)
    axes[0].set_ylabel("attends (query)")
    figure.colorbar(image, ax=list(axes), label="weight", shrink=0.8)
    return figure


@_figure
def id_map(panels: Mapping[str, object], eps):
    """ID at every layer for a range of thresholds, a panel per rule; what counts nothing stays empty.

    Parameters
    ----------
    panels : mapping of title to array-like, shape=[eps, layers]
    eps : array-like, shape=[eps]
        In (0, 1), increasing.
    """
    eps = check_eps("id_map", eps)
    figure, axes = _axes(len(panels), height=3.3, sharey=True)
    high = max(np.max(values) for values in panels.values())
    for ax, (title, values) in zip(axes, panels.items(), strict=True):
        layers = np.arange(1, np.shape(values)[1] + 1)
        shown = np.ma.masked_equal(np.transpose(values), 0)
        mesh = ax.pcolormesh(eps, layers, shown, norm=LogNorm(1, high), cmap="YlGnBu", shading="nearest")
        ax.set(title=title, xlabel=r"$\varepsilon$", xscale="log")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(visible=False)
    axes[0].set_ylabel("layer")
    figure.colorbar(mesh, ax=list(axes), label="ID, summed over heads")
    return figure


@_figure
def steps(panels: Mapping[str, Mapping[str, tuple]], *, xlabel, ylabel):
    """Draw counts against a threshold, as stairs: a panel per title, a line per label; both axes logarithmic.

    Parameters
    ----------
    panels : mapping of title to mapping of label to (x, y)
    """
    figure, axes = _axes(len(panels), height=2.8, sharey=True)
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        for (label, (x, y)), style in zip(lines.items(), ("-", "--", ":"), strict=False):
            ax.plot(x, y, ls=style, drawstyle="steps-mid", label=label)
        ax.set_title(title, fontsize=8)
        ax.set(xlabel=xlabel, xscale="log", yscale="log")
    axes[0].set_ylabel(ylabel)
    axes[0].legend(fontsize=8)
    return figure


@_figure
def points(panels: Mapping[str, tuple], *, xlabel, ylabel, log=""):
    """Points under curves that bound them, a panel per title.

    Parameters
    ----------
    panels : mapping of title to (groups, curves), each a mapping of label to (x, y)
        A colour and a marker per group; curves are dashed, in grey.
    log : str
        Which axes are logarithmic: "", "x", "y" or "xy".
    """
    figure, axes = _axes(len(panels), height=3.2)
    for ax, (title, (groups, lines)) in zip(axes, panels.items(), strict=True):
        for (label, (x, y)), color, marker in zip(groups.items(), _inks(), _MARKERS, strict=False):
            ax.plot(x, y, marker, color=color, ms=3, mew=0, alpha=0.55, label=label)
        for (label, (x, y)), style in zip(lines.items(), ("--", ":", "-."), strict=False):
            ax.plot(x, y, ls=style, color=_ink("grey"), lw=1.2, label=label)
        ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
        ax.set(**{f"{axis}scale": "log" for axis in log})
        ax.legend(fontsize=7)
    return figure


@_figure
def hulls(panels: Mapping[str, tuple]):
    """Convex hulls in a plane, each with the points that span it and a convex mean of them, on one scale.

    Parameters
    ----------
    panels : mapping of title to (corners, points, weights, mean)
        corners, shape=[k, 2]: the hull's, in order; points, shape=[n, 2]; weights, shape=[n], the areas of their dots;
        mean, shape=[2].
    """
    figure, axes = _axes(len(panels), height=3.0, sharex=True, sharey=True)
    for ax, color, (title, (corners, points, weights, mean)) in zip(axes, _inks(), panels.items(), strict=False):
        ax.fill(*np.transpose(corners), facecolor=color, alpha=0.2)
        ax.fill(*np.transpose(corners), facecolor="none", edgecolor=color)
        ax.scatter(*np.transpose(points), s=300 * np.asarray(weights), color=color, lw=0, label="points, by weight")
        ax.plot(*mean, "*", color=_ink("red"), ms=11, mec="w", mew=0.6, label="their weighted mean")
        ax.set(title=title, aspect="equal")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


@_figure
def share_by_change(panels: Mapping[str, object], *, baseline=None):
    """Share of correct answers against the change of ID, in bins with intervals and counts (figure 6).

    Parameters
    ----------
    panels : mapping of title to pandas.DataFrame
        As :func:`geolib.reasoning.binned_share` returns them.
    baseline : float, optional
        Share over all rows, drawn as a dashed line.
    """
    figure, axes = _axes(len(panels), sharey=True)
    for ax, (title, binned) in zip(axes, panels.items(), strict=True):
        error = np.clip([binned.share - binned.low, binned.high - binned.share], 0, None)
        if baseline is not None:
            ax.axhline(baseline, color=_ink("grey"), ls="--", lw=1)
        ax.errorbar(binned.change, binned.share, yerr=error, fmt="o", color=_ink("blue"), capsize=3, ms=5)
        for row in binned.itertuples():
            ax.annotate(f"{row.n}", (row.change, 0.02), ha="center", fontsize=8, color=_ink("grey"))
        ax.margins(x=0.08)
        ax.set(title=title, xlabel="change of ID against 0-shot", ylim=(0, 1))
    axes[0].set_ylabel("share correct")
    return figure


@_figure
def fits(x, target, panels: Mapping[str, tuple], edges):
    """Piecewise affine fits of a curve, one a column: fit (top), regions per interval, error (bottom) (figure 2).

    Parameters
    ----------
    x, target : array-like, shape=[points]
        The curve.
    panels : mapping of title to (vertices, regions, error)
        vertices, shape=[2, n]: the fit's graph from end to end, the breakpoints between; regions, shape=[intervals];
        error, shape=[points].
    edges : array-like, shape=[intervals + 1]
        Of the intervals.
    """
    figure, rows = plt.subplots(
        3, len(panels), figsize=(7, 5.4), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2, 2)
    )
    for (top, middle, bottom), (title, (vertices, regions, error)) in zip(rows.T, panels.items(), strict=True):
        top.plot(x, target, color=_ink("grey"), alpha=0.35, lw=5, label="target")
        top.plot(*vertices, color=_ink("blue"), label="fit")
        top.plot(*vertices[:, 1:-1], ".", color=_ink("red"), ms=3.5, label="breakpoint")
        top.set_ylim(np.min(target) - 0.3, np.max(target) + 0.3)
        top.set_title(title)
        middle.stairs(regions, edges, fill=True, color=_ink("orange"))
        bottom.semilogy(x, error, color=_ink("blue"), lw=1)
        bottom.set_xlabel("$x$")
    for ax, label in zip(rows[:, 0], ("fit", "regions per interval", "|error|"), strict=True):
        ax.set_ylabel(label)
    rows[0, 0].legend(fontsize=7, loc="lower left", ncols=3, columnspacing=1)
    return figure


@_figure
def fit_and_met(t, target, panels: Mapping[str, Mapping[str, tuple]]):
    """Draw runs on a curve, a column a setting: fits (top), the regions met so far (bottom) (figure 4).

    Parameters
    ----------
    t, target : array-like, shape=[bins]
        The curve.
    panels : mapping of title to mapping of label to (fit, met), both shape=[runs, bins]
        A colour per label, a thin line per run.
    """
    figure, rows = plt.subplots(
        2, len(panels), figsize=(7, 3.9), sharex=True, sharey="row", squeeze=False, height_ratios=(2, 3)
    )
    for (top, bottom), (title, groups) in zip(rows.T, panels.items(), strict=True):
        top.plot(t, target, color=_ink("grey"), alpha=0.35, lw=5)
        for color, (label, (fit, met)) in zip(_inks(), groups.items(), strict=False):
            top.plot(t, np.transpose(fit), color=color, lw=0.5, alpha=0.6)
            bottom.plot(t, np.transpose(met), color=color, lw=0.7, alpha=0.6)
            bottom.plot([], [], color=color, label=label)
        top.set_title(title, fontsize=8)
        bottom.set_xlabel("$t$")
    for ax, label in zip(rows[:, 0], ("fit", "regions met so far"), strict=True):
        ax.set_ylabel(label)
    rows[1, 0].legend()
    return figure


@_figure
def heat_maps(panels: Mapping[str, object], *, label):
    """Tables as colours, with their numbers, on one logarithmic scale (figure 5).

    Parameters
    ----------
    panels : mapping of title to pandas.DataFrame
        Positive numbers; the names of index and columns become the axis labels.
    label : str
        Of the colour bar.
    """
    figure, axes = _axes(len(panels), height=3.3)
    low = min(table.to_numpy().min() for table in panels.values())
    high = max(table.to_numpy().max() for table in panels.values())
    for ax, (title, table) in zip(axes, panels.items(), strict=True):
        image = ax.imshow(table, norm=LogNorm(low, high), cmap="YlGnBu", origin="lower", aspect="auto")
        for (row, column), value in np.ndenumerate(table.to_numpy()):
            dark = value > low**0.4 * high**0.6
            size = 8 if table.size <= 25 else 5
            ax.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=size, color="w" if dark else "k")
        ax.set(title=title, xlabel=table.columns.name, ylabel=table.index.name)
        ax.set_xticks(range(table.shape[1]), table.columns)
        ax.set_yticks(range(table.shape[0]), table.index)
        ax.grid(visible=False)
    ticks = [tick for tick in np.outer(10.0 ** np.arange(-9, 10), (1, 2, 5)).ravel() if low <= tick <= high]
    bar = figure.colorbar(image, ax=list(axes), label=label)
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.minorticks_off()
    return figure


@_figure
def correlations(panels: Mapping[str, object], *, label="rank correlation"):
    """Tables of correlations as colours, with their numbers, two panels a row; the diagonal stays empty.

    Parameters
    ----------
    panels : mapping of title to pandas.DataFrame
        Square, the same names in index and columns, numbers from -1 to 1.
    label : str
        Of the colour bar.
    """
    lines = -(-len(panels) // 2)
    figure, axes = plt.subplots(lines, 2, figsize=(7, 3.2 * lines), sharex=True, sharey=True, squeeze=False)
    for ax, (title, table) in zip(axes.flat, panels.items(), strict=False):
        shown = np.where(np.eye(len(table), dtype=bool), np.nan, table)
        image = ax.imshow(shown, vmin=-1, vmax=1, cmap="RdBu_r")
        for (row, column), value in np.ndenumerate(shown):
            if np.isfinite(value):
                color = "w" if abs(value) > 0.7 else "k"
                ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=5.5, color=color)
        ax.set_title(title)
        ax.set_xticks(range(len(table)), table.columns, rotation=90, fontsize=7)
        ax.set_yticks(range(len(table)), table.index, fontsize=7)
        ax.grid(visible=False)
        ax.tick_params(length=0)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    figure.colorbar(image, ax=list(axes.flat), label=label, shrink=0.6)
    return figure


@_figure
def bands(panels: Mapping[str, Mapping[str, tuple]], *, xlabel, ylabel, log="y"):
    """Lines in bands, a panel per title.

    Parameters
    ----------
    panels : mapping of title to mapping of label to (x, low, middle, high), or (x, y)
        A line without a band is a reference: dashed, in grey.
    log : str
        Which axes are logarithmic: "", "x", "y" or "xy".
    """
    figure, axes = _axes(len(panels), height=3.4)
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        styles = zip(_inks(), _MARKERS, strict=True)
        dashes = iter(("--", ":", "-."))
        for label, (x, *ys) in lines.items():
            if len(ys) == 1:
                ax.plot(x, ys[0], ls=next(dashes), color=_ink("grey"), lw=1.2, label=label)
                continue
            color, marker = next(styles)
            ax.fill_between(x, ys[0], ys[2], color=color, alpha=0.2, lw=0)
            ax.plot(x, ys[1], marker=marker, color=color, label=label)
        ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
        ax.set(**{f"{axis}scale": "log" for axis in log})
        for axis in (getattr(ax, f"{axis}axis") for axis in log):
            low, high = axis.get_view_interval()
            if low > 1e-3 and high < 1e4 and high > 5 * low:  # few decades: plain numbers, rather than powers of ten
                _plain_log(axis)
        if "x" in log and len(x) < 5:  # few values: name them
            ax.set_xticks(x, [f"{value:g}" for value in x])
            ax.xaxis.minorticks_off()
        ax.legend(fontsize=8)
    return figure


@_figure
def estimates(panels: Mapping[str, Mapping[str, object]], *, xlabel, log=False):
    """Estimates with their intervals and counts, one below the other, and a dashed line where nothing would be.

    Parameters
    ----------
    panels : mapping of title to mapping of name to geolib.reasoning.Estimate
        One that is NaN keeps its line and stays empty.
    log : bool
        Whether the axis is logarithmic, as for odds ratios.
    """
    lines = max(map(len, panels.values()))
    shared = len({tuple(rows) for rows in panels.values()}) == 1
    figure, axes = _axes(len(panels), height=0.8 + 0.27 * lines, sharey=shared)
    for ax, (title, rows) in zip(axes, panels.items(), strict=True):
        places, found = np.arange(len(rows)), list(rows.values())
        value, low, high = np.transpose([(one.value, one.low, one.high) for one in found])
        ax.axvline(found[0].null, color=_ink("grey"), ls="--", lw=1)
        ax.errorbar(value, places, xerr=[value - low, high - value], fmt="o", color=_ink("blue"), capsize=3, ms=5)
        for place, one in zip(places, found, strict=True):
            at = ax.get_yaxis_transform()
            ax.annotate(f"{one.n}", (1.01, place), xycoords=at, va="center", fontsize=7, color=_ink("grey"))
        ax.set_yticks(places, rows)
        ax.set(title=title, xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5), xscale="log" if log else "linear")
        if log:  # plain numbers: odds ratios span few powers of ten
            _plain_log(ax.xaxis, subs=(1, 1.5, 2, 3, 5))
        ax.grid(visible=False, axis="y")
    return figure


@_figure
def by_layer(panels: Mapping[str, object], *, ylabel="rank correlation"):
    """Draw an estimate per layer in its band, a panel per title; full markers where it survives correction (figure 8).

    Parameters
    ----------
    panels : mapping of title to pandas.DataFrame
        ``layer`` (from 0), ``rho``, ``low``, ``high``, ``survives``, as :func:`geolib.reasoning.layer_profile` returns
        them.
    """
    figure, axes = _axes(len(panels), sharey=True)
    for ax, (title, table) in zip(axes, panels.items(), strict=True):
        layer, stands = table.layer + 1, table.survives
        ax.axhline(0, color=_ink("grey"), ls="--", lw=1)
        ax.fill_between(layer, table.low, table.high, color=_ink("blue"), alpha=0.2, lw=0)
        ax.plot(layer, table.rho, "-", color=_ink("blue"), lw=1)
        ax.plot(layer[~stands], table.rho[~stands], "o", color=_ink("blue"), mfc=plt.rcParams["axes.facecolor"], ms=4)
        ax.plot(layer[stands], table.rho[stands], "o", color=_ink("red"), ms=6, label="survives correction")
        ax.set(title=title, xlabel="layer")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel(ylabel)
    if any(table.survives.any() for table in panels.values()):
        axes[-1].legend(fontsize=8)
    return figure
