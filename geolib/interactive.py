"""Figures that react to the reader without a kernel: SVG and a few lines of script, all inside the cell's output.

They draw what they are given, as `geolib.figures` does. They load nothing, so they work offline, in a built page and in
Colab. Without scripts, and in print, the drawing remains visible; formats without HTML show a still picture. Two of
them, `recut_mosaic` and `one_row`, compute anew at each move, in their scripts; tests compare these with geolib.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from geolib import figures
from geolib.checks import finite_array, integer, one_line, whole_text
from geolib.dimension.rules import check_eps

BLUE, ORANGE, _, RED, _, GREY = figures.PALETTE


@dataclass(frozen=True, repr=False)
class Interactive:
    """A figure that a notebook shows as HTML where it can, and as a still elsewhere.

    Attributes
    ----------
    html : str
        A fragment of markup, style and script that loads nothing.
    still : matplotlib.figure.Figure
        The picture for print.
    """

    html: str
    still: Figure

    def __repr__(self):
        return f"Interactive({len(self.html)} characters)"

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.html, "image/png": figures.png(self.still, dpi=144), "text/plain": repr(self)}


def hover_mosaic(partition: Any, *, label: str, still: Figure | None = None) -> Interactive:
    """Plane partition that shows the affine map, the active neurons and the area of the region under the pointer.

    A pointer, a tap or the arrow keys choose the region; Home goes to the largest one, PageDown and PageUp visit all.

    Parameters
    ----------
    partition : geolib.partition.PlanePartition
        Of a network with two inputs and, through its readout, one output.
    label : str
        What the figure shows, for readers who cannot see it.
    still : matplotlib.figure.Figure, optional
        The picture for print; by default the mosaic itself.

    Returns
    -------
    Interactive

    Raises
    ------
    TypeError, ValueError
        If `partition` is no PlanePartition, its affine maps do not map two numbers to one, `label` is no text, or
        `still` no figure.
    """
    _check_plane("hover_mosaic", partition, label, still)
    maps = []
    for i in range(partition.n_regions):
        A, b = partition.affine_map(i)
        if A.shape != (1, 2):
            raise ValueError(f"hover_mosaic: partition has maps A of shape {A.shape}, but (1, 2) was expected")
        maps.append([*A[0], b[0]])
    data = {
        "maps": _short(maps),
        "active": sum(layer.sum(axis=1) for layer in partition.active).tolist(),
        "neurons": sum(layer.shape[1] for layer in partition.active),
        "areas": _short(partition.areas),
    }
    mark = f'<path class="geolib-mark" fill="none" stroke="{RED}" stroke-width="3.5" pointer-events="none"/>'
    body = _mosaic(partition, label, mark) + f'<p aria-live="polite">{partition.n_regions} regions.</p>'
    return Interactive(_fragment("hover.js", body, data), still or figures.mosaic({"": partition}))


def recut_mosaic(partition: Any, network: Any, *, label: str, still: Figure | None = None) -> Interactive:
    """Plane partition that is cut again at each move of a slider, or of one line.

    Sliders choose how many neurons of the first layer and of the second there are, multiply the biases, and turn and
    shift the first neuron's line, which the pointer can drag as well; the bias scale leaves that line where it is. The
    text has the number of regions and the most that so many neurons can make.

    Parameters
    ----------
    partition : geolib.partition.PlanePartition
        What is shown first: the partition by the first neurons of `network`, as one layer.
    network : geolib.partition.ReluNetwork
        All neurons that the sliders can bring in: two inputs, two hidden layers, ReLU. The first one's line crosses the
        window.
    label : str
        What the figure shows, for readers who cannot see it.
    still : matplotlib.figure.Figure, optional
        The picture for print; by default the mosaic itself.

    Returns
    -------
    Interactive

    Raises
    ------
    TypeError, ValueError
        If the network is of another kind, or the partition is not by its first neurons, or not cut by the very first;
        or an argument has another type.

    Notes
    -----
    The script cuts convex polygons one neuron after the other, in float64; values below 1e-12 of their terms count as
    0. It has no certificate and no limit: it is meant for some fifty neurons.
    """
    _check_plane("recut_mosaic", partition, label, still)
    if not hasattr(network, "negative_slope"):
        raise TypeError(f"recut_mosaic: network is {one_line(network)}, but a ReluNetwork was expected")
    layers = list(zip(network.weights, network.biases, strict=True))
    if network.input_dim != 2 or len(layers) != 2 or network.negative_slope:
        raise ValueError(f"recut_mosaic: network is {network}, but 2 inputs, 2 layers and ReLU were expected")
    first, n = partition.network, partition.network.widths[0]
    given = [*first.weights, *first.biases, partition.axes, partition.origin, first.negative_slope]
    asked = [layers[0][0][:n], layers[0][1][:n], np.eye(2), np.zeros(2), 0]
    if len(given) != len(asked) or not all(map(np.array_equal, given, asked)):
        raise ValueError(f"recut_mosaic: partition is of {first}, but the first neurons of {network} were expected")
    if len(set(partition.active[0][:, 0])) < 2:
        raise ValueError("recut_mosaic: partition is not cut by its first neuron, but a line to drag was expected")
    data = {
        "layers": [[W.tolist(), b.tolist()] for W, b in layers],
        "window": partition.window.tolist(),
        "shades": [*map(to_hex, colormaps["YlGnBu"](np.linspace(0, 0.85, 18)))],  # those of region_colors
    }
    line = f'class="geolib-mark" stroke="{RED}"'
    handles = f'<path {line} stroke-width="4" pointer-events="none"/>'
    handles += f'<path {line} stroke-width="40" stroke-opacity="0"/>'  # wide enough for a finger
    handles += 2 * f'<circle stroke="{RED}" fill="{RED}" r="9" stroke-width="30" stroke-opacity="0"/>'
    many, deep = network.widths
    sliders = [("Neurons", many, n, 1), ("Second layer", deep, 0), ("Bias scale", 20, 10)]
    controls = _controls(*sliders, ("Angle of the line", 359, 0), ("Its distance", 80, 0))
    words = f"<p><b>{partition.n_regions} regions</b> of {n} neurons.</p>"
    body = _mosaic(partition, label, handles) + controls + words
    return Interactive(_fragment("recut.js", body, data), still or figures.mosaic({"": partition}))


def one_row(
    scores: ArrayLike,
    eps: ArrayLike,
    *,
    label: str,
    still: Figure | None = None,
    length: int | None = None,
    start: int = 0,
) -> Interactive:
    """One row of attention and its counts: sliders for its length, a factor on the scores and the threshold.

    Bars are the weights, the softmax of the first scores times the factor, on a logarithmic axis, in order or sorted.
    Lines are the thresholds of the absolute and of the relative rule; bars above them have their colours. The text has
    both IDs, the entropy in nats and the effective support, which is its exponential.

    Parameters
    ----------
    scores : array-like, shape=[tokens]
        Scores before the softmax, of the longest row. The logarithms of a row's weights give that row.
    eps : array-like, shape=[thresholds]
        Thresholds, increasing.
    label : str
        What the figure shows, for readers who cannot see it.
    still : matplotlib.figure.Figure, optional
        For print; by default the bars and lines that are shown first.
    length : int, optional
        How many tokens are shown first; by default half of them.
    start : int
        Index of the threshold that is shown first.

    Returns
    -------
    Interactive

    Raises
    ------
    TypeError, ValueError
        If scores are not finite numbers in a row, thresholds do not increase, the length or the index is not theirs,
        `label` is no text, or `still` no figure.
    """
    _check_shown("one_row", label, still, own=True)
    scores, eps = finite_array("one_row: scores", scores), np.array(check_eps("one_row", eps))
    if scores.ndim != 1 or len(scores) < 2 or not _increase(eps):
        expected = "two scores or more and thresholds that increase were expected"
        raise ValueError(f"one_row: scores has shape {scores.shape} and eps is {eps.tolist()}, but {expected}")
    n, start = len(scores), integer("one_row: start", start, 0, len(eps) - 1)
    m = n // 2 if length is None else integer("one_row: length", length, 1, n)
    with np.errstate(over="ignore"):
        weights = np.exp(scores[:m] - scores[:m].max())
    weights /= weights.sum()
    thresholds = eps[start] * np.array([1, weights.max()])
    counted = weights[:, None] > thresholds
    panel = _Panel(24, 470, 260, (0.5, n + 0.5), (-4, 0.3), log=True)  # the names of the lines stand beside it
    sides = np.arange(1, m + 1)[:, None] + [-0.4, -0.4, 0.4, 0.4]
    boxes = np.stack([sides, _powers(np.outer(weights, [0, 1, 1, 0]))], axis=2)
    bars = ""
    for k, ink in enumerate((GREY, ORANGE, BLUE)):  # by how many rules count a weight
        shapes = "".join(_path(box) + "Z" for box in panel(boxes[counted.sum(axis=1) == k]))
        bars += f'<path class="geolib-bars" d="{shapes}" fill="{ink}"/>'
    ends = np.stack(np.broadcast_arrays([0.5, n + 0.5], _powers(thresholds)[:, None]), axis=2)
    lines = "".join(map(_line, map(_path, panel(ends)), ("currentColor",) * 2, ("", "8 4")))
    names = 2 * f'<text class="geolib-name" x="{panel.left + panel.width + 6}" dy=".35em"></text>'
    drawing = panel.svg(bars + lines, xlabel="token", ylabel="weight; thresholds: absolute (full), relative (dashed)")
    sliders = [("Length", n, m, 1), ("Scores ×", 40, 10), ("Threshold", len(eps) - 1, start)]
    controls = _controls(*sliders, more='<label><input type="checkbox"> sorted</label>')
    absolute, relative = counted.sum(axis=0)
    words = f"<p><b>ID {absolute} absolute, {relative} relative</b> at eps = {eps[start]:g}, of {m} tokens.</p>"
    body = _svg(drawing + names, panel.bottom, label) + controls + words
    data = {"scores": scores.tolist(), "eps": eps.tolist(), "span": panel.y}
    return Interactive(_fragment("row.js", body, data), still or _bars(weights, thresholds))


@figures.drawn
def _bars(weights, thresholds):
    figure, (ax,) = figures.panels()
    inks = np.array(["grey", "orange", "blue"])[(weights[:, None] > thresholds).sum(axis=1)]
    ax.bar(np.arange(1, len(weights) + 1), weights, color=[*map(figures.ink, inks)])
    for limit, dash in zip(thresholds, ("-", "--"), strict=True):
        ax.axhline(limit, color=figures.ink("grey"), linestyle=dash)
    ax.set(yscale="log", xlabel="token", ylabel="weight")
    return figure


def film(
    x: ArrayLike, target: ArrayLike, frames: Mapping[int, tuple], *, bins: ArrayLike, label: str, still: Figure
) -> Interactive:
    """Fit of a curve by a piecewise affine function: a slider moves through frames, one for each training step.

    The upper panel shows the target and the fit with its breakpoints; the lower one, the number of breakpoints in each
    interval.

    Parameters
    ----------
    x, target : array-like, shape=[points]
        The curve, x increasing.
    frames : mapping of int to (vx, vy), array-like, shape=[vertices]
        For each training step, the vertices of the graph of the fit, vx increasing: the breakpoints, and the two ends,
        which do not count as breakpoints.
    bins : array-like, shape=[intervals + 1]
        Edges of the intervals, increasing.
    label : str
        What the figure shows, for readers who cannot see it.
    still : matplotlib.figure.Figure
        For print.

    Returns
    -------
    Interactive

    Raises
    ------
    TypeError, ValueError
        If there is no frame, a shape is wrong, values are not finite numbers or do not increase, `label` is no text, or
        `still` no figure.
    """
    _check_shown("film", label, still)
    given = {"x": x, "target": target, "bins": bins}
    x, target, bins = (finite_array(f"film: {name}", values) for name, values in given.items())
    if x.shape != target.shape or not _increase(x):
        raise ValueError(
            f"film: x has shape {x.shape} and target {target.shape}, but increasing x and as many targets were expected"
        )
    if not _increase(bins):
        raise ValueError(f"film: bins has shape {bins.shape}, but at least two increasing edges were expected")
    if not isinstance(frames, Mapping) or not all(map(np.iterable, frames.values())):
        raise TypeError(f"film: frames is {one_line(frames)}, but a mapping of steps to pairs was expected")
    if not frames:
        raise ValueError("film: frames is empty, but at least one was expected")
    vertices = {
        n: tuple(finite_array(f"film: frames[{one_line(n)}]", side) for side in frame) for n, frame in frames.items()
    }
    for step, sides in vertices.items():
        if len(sides) != 2 or not _increase(sides[0]) or sides[0].shape != sides[1].shape:
            shapes = " and ".join(str(side.shape) for side in sides)
            raise ValueError(f"film: frames[{step}] has shapes {shapes}, but increasing vx, each with vy, was expected")

    counts = {step: np.histogram(vx[1:-1], bins)[0] for step, (vx, _) in vertices.items()}
    span, room = (x[0], x[-1]), 0.2 * np.ptp(target) or 1.0
    above = _Panel(24, 580, 260, span, (target.min() - room, target.max() + room))
    below = _Panel(340, 580, 90, span, (0, max(1, *(count.max() for count in counts.values()))))
    reel = []
    for step, (vx, vy) in vertices.items():
        heights = np.concatenate([[0], np.repeat(counts[step], 2), [0]])
        bars = _path(below(np.stack([np.repeat(bins, 2), heights], axis=1)))
        error = np.sqrt(np.mean((np.interp(x, vx, vy) - target) ** 2))
        words = f"Step {step}: {len(vx) - 2} breakpoints, root mean square error {error:.2g}."
        reel.append([_path(above(np.stack([vx, vy], axis=1))), bars, words])

    fit, bars, words = reel[-1]
    drawing = above.svg(
        f'<path d="{_path(above(np.stack([x, target], axis=1)))}" stroke="{GREY}" stroke-opacity=".35"'
        ' stroke-width="7" fill="none"/>'
        f'<path class="geolib-fit" d="{fit}" stroke="{BLUE}" stroke-width="2" fill="none"/>'
        f'<path class="geolib-dots" d="{_dots(fit)}" stroke="{RED}" stroke-width="6" stroke-linecap="round"/>',
        xlabel="",
        ylabel="target (grey), fit (blue), its breakpoints (red)",
    ) + below.svg(
        f'<path class="geolib-bars" d="{bars}" fill="{ORANGE}"/>', xlabel="x", ylabel="breakpoints per interval"
    )
    controls = (
        '<div class="geolib-controls" hidden><button type="button">Play</button>'
        f"{_slider('Training step', len(reel) - 1, len(reel) - 1)}</div>"
    )
    body = f"{_svg(drawing, below.bottom, label)}{controls}<p>{words}</p>"
    return Interactive(_fragment("film.js", body, reel, "player"), still)


def rollout(
    predicted: ArrayLike,
    true: ArrayLike,
    edges: Any,
    *,
    prompt: str,
    seen: int,
    label: str,
    still: Figure,
    balls: int = 2,
    radius: float = 0.05,
) -> Interactive:
    """Film of one clip and its prediction, with the attention edges from which each frame was made.

    Edges lead from a ball to where the model saw it and others, to the words, or to the box "none" for a ball that is
    not there. Of several edges between the same two places the one with the largest weight is drawn.

    Parameters
    ----------
    predicted, true : array-like, shape=[frames, balls, 2]
        Centres in a box [0, 1] x [0, 1], y upwards.
    edges : pandas.DataFrame
        ``query``, ``key`` and ``weight`` between tokens of the clip: its words, then x and y of each ball, frame by
        frame. A coordinate is made from the edges of the token before its own.
    prompt : str
        The words.
    seen : int
        Number of first frames that the model was shown.
    label : str
        What the figure shows, for readers who cannot see it.
    still : matplotlib.figure.Figure
        For print.
    balls : int
        Number of balls in the tokens of a frame.
    radius : float
        Of a disc.

    Returns
    -------
    Interactive

    Raises
    ------
    TypeError, ValueError
        If shapes differ, a number is not finite, or an edge leads out of the clip.
    """
    p, q, words = finite_array("rollout: predicted", predicted), finite_array("rollout: true", true), prompt.split()
    if p.ndim != 3 or p.shape != q.shape or p.shape[2] != 2 or not 0 < p.shape[1] <= balls:
        found = f"rollout: predicted has shape {p.shape} and true {q.shape}"
        raise ValueError(f"{found}, but [frames, balls <= {balls}, 2] was expected for both")
    seen, n = integer("rollout: seen", seen, 1, len(p)), len(words) + 2 * balls * len(p)
    if not ((edges["key"] >= 0) & (edges["key"] <= edges["query"]) & (edges["query"] < n)).all():
        raise ValueError(f"rollout: edges has others, but edges with 0 <= key <= query < {n} were expected")
    p, q = (580 * (x * [1, -1] + [0, 1]) + [30, 60] for x in (p, q))
    boxes = {name: (100.0 + 440 * i / len(words), 40.0) for i, name in enumerate([*words, "none"])}
    places = [boxes[word] for word in words]  # of each token
    places += [tuple(x[b]) if b < p.shape[1] else boxes["none"] for x in p for b in np.repeat(range(balls), 2)]
    reel = []
    for k in range(len(p)):
        drawn, first = {}, len(words) + 2 * balls * k - 1
        own = edges[(edges["query"] >= first) & (edges["query"] < first + 2 * p.shape[1])]
        for query, key, weight in zip(own["query"], own["key"], own["weight"], strict=True):
            line = places[query + 1], places[key]
            drawn[line] = max(weight, drawn.get(line, 0))
        bands = [
            [line for line, w in drawn.items() if low < w <= high] for low, high in ((0, 0.3), (0.3, 0.6), (0.6, 2))
        ]
        paths = ["".join(map(_path, band)) for band in bands]
        paths += ["".join(f"M{x:.1f} {y:.1f}h0" for x, y in p[k]), "".join(_ring(x, y, 580 * radius) for x, y in q[k])]
        off = np.linalg.norm(p[k] - q[k], axis=-1).mean() / 580
        how = "shown to the model" if k < seen else f"predicted, {off:.3f} of the box's side off"
        reel.append([paths, f"Frame {k + 1} of {len(p)}: {how}. Edges: {len(own)}."])
    paths, text = reel[0]
    looks = [f'stroke="{ORANGE}" stroke-width="{width}" stroke-opacity=".75"' for width in (1, 2.5, 5)]
    looks.append(f'stroke="{BLUE}" stroke-width="{1160 * radius:g}" stroke-linecap="round" stroke-opacity=".8"')
    looks.append('stroke="currentColor" stroke-width="3"')
    moving = "".join(f'<path class="geolib-moves" d="{d}" fill="none" {x}/>' for d, x in zip(paths, looks, strict=True))
    names = "".join(f'<text x="{x:.0f}" y="28" text-anchor="middle">{escape(n)}</text>' for n, (x, _) in boxes.items())
    frame = '<rect x="30" y="60" width="580" height="580" fill="none" stroke="currentColor"/>'
    button = '<button type="button">Play</button>'
    controls = f'<div class="geolib-controls" hidden>{button}{_slider("Frame", len(reel) - 1, 0)}</div>'
    body = f"{_svg(names + frame + moving, 650, label)}{controls}<p>{text}</p>"
    return Interactive(_fragment("rollout.js", body, reel, "player"), still)


def by_threshold(
    eps: ArrayLike, counts: Mapping[str, ArrayLike], *, label: str, still: Figure, start: int = 0
) -> Interactive:
    """ID over the layers, a line for each rule; a slider moves the threshold.

    Parameters
    ----------
    eps : array-like, shape=[thresholds]
        Thresholds, increasing.
    counts : mapping of str to array-like, shape=[thresholds, layers]
        ID at each threshold and layer, for each rule.
    label : str
        What the figure shows, for readers who cannot see it.
    still : matplotlib.figure.Figure
        For print.
    start : int
        Index of the threshold that is shown first.

    Returns
    -------
    Interactive

    Raises
    ------
    TypeError, ValueError
        If thresholds do not increase, the index is not theirs, a table of counts has another shape or holds other
        numbers, `label` is no text, or `still` no figure.
    """
    _check_shown("by_threshold", label, still)
    if not isinstance(counts, Mapping):
        raise TypeError(f"by_threshold: counts is {one_line(counts)}, but a mapping of rules to tables was expected")
    eps = np.array(check_eps("by_threshold", eps))
    start = integer("by_threshold: start", start, 0, len(eps) - 1)
    tables = {name: finite_array(f"by_threshold: counts[{one_line(name)}]", table) for name, table in counts.items()}
    shapes = {table.shape for table in tables.values()}
    shape = shapes.pop() if len(shapes) == 1 else ()
    if not _increase(eps) or len(shape) != 2 or shape[0] != len(eps) or shape[1] < 2:
        raise ValueError(
            f"by_threshold: counts have shapes {[*map(np.shape, counts.values())]}, but ({len(eps)}, layers) "
            "was expected, of thresholds that increase"
        )
    if least := min(min(table.min() for table in tables.values()), 0):
        raise ValueError(f"by_threshold: counts hold {least:g}, but numbers of at least 0 were expected")
    heights = {name: np.log10(1 + table) for name, table in tables.items()}
    panel = _Panel(24, 580, 280, (1, shape[1]), (0, 1.05 * max(1, *(height.max() for height in heights.values()))))
    layers = np.arange(1, shape[1] + 1)
    steps = []
    for k, threshold in enumerate(eps):
        paths = [_path(panel(np.stack([layers, height[k]], axis=1))) for height in heights.values()]
        spans = (f"{name} from {table[k].min():g} to {table[k].max():g}" for name, table in tables.items())
        steps.append([*paths, f"Threshold {threshold:.2g}: {', '.join(spans)}."])
    lines = map(_line, steps[start][:-1], figures.PALETTE, ("", "8 4", "2 4"))
    names = ", ".join(f"{name} ({style})" for name, style in zip(tables, ("full", "dashed", "dotted"), strict=False))
    drawing = panel.svg("".join(lines), xlabel="layer", ylabel=escape(f"log₁₀(1 + ID): {names}"))
    controls = _controls(("Threshold", len(eps) - 1, start))
    body = f"{_svg(drawing, panel.bottom, label)}{controls}<p>{escape(steps[start][-1])}</p>"
    return Interactive(_fragment("steps.js", body, steps), still)


def head_by_head(
    tokens: Sequence[str],
    edges: Any,
    *,
    label: str,
    eps: float = 0.1,
    layer: int | None = None,
    head: int | None = None,
    still: Figure | None = None,
) -> Interactive:
    """Attention graphs of one prompt, one head at a time: sliders choose the layer, the head and the coloured token.

    The tokens are in a row. An arc leads from a token (at its right end) to one that it attends to (at its left end); a
    loop is a token that attends to itself. A tap chooses a token too. Long prompts scroll sideways.

    Parameters
    ----------
    tokens : sequence of str
    edges : pandas.DataFrame
        ``layer``, ``head``, ``query``, ``key``, ``weight``, as :func:`geolib.dimension.attention_edges` returns them.
    label : str
        What the figure shows, for readers who cannot see it.
    eps : float
        Threshold that the weights exceed; shown in the text.
    layer, head : int, optional
        Layer and head that are shown first, from 0; by default the last layer, and its head with the most edges at the
        last token.
    still : matplotlib.figure.Figure, optional
        The picture for print; by default the graph that is shown first.

    Returns
    -------
    Interactive

    Raises
    ------
    TypeError, ValueError
        If ``edges`` is no table, lacks a column or is empty, an edge leads forward or has a weight outside (0, 1],
        ``layer`` or ``head`` is not among the edges, or another argument has another type.
    """
    _check_shown("head_by_head", label, still, own=True)
    if not isinstance(tokens, Sequence | np.ndarray | pd.Series) or not len(tokens):
        raise TypeError(f"head_by_head: tokens is {one_line(tokens)}, but a sequence of texts was expected")
    for token in map(str, tokens):
        whole_text("head_by_head: tokens", token)
    n, (eps,) = len(tokens), check_eps("head_by_head", [eps])
    _check_edges(edges, n)
    query, key = edges["query"], edges["key"]
    layers, heads = np.unique(edges["layer"]).tolist(), np.unique(edges["head"]).tolist()
    layer = layers[-1] if layer is None else layer
    if head is None:
        last = edges["head"][(edges["layer"] == layer) & (query == n - 1)]
        head = heads[0] if last.empty else last.mode()[0]
    for name, value, known in (("layer", layer, layers), ("head", head, heads)):
        if integer(f"head_by_head: {name}", value, 0) not in known:
            raise ValueError(f"head_by_head: {name} is {one_line(value)}, but {known[0]} to {known[-1]} was expected")

    # An edge is encoded as one integer: 100 times the index of its pair of tokens, plus the weight in hundredths.
    pairs, pair = np.unique(np.stack([query, key], axis=1), axis=0, return_inverse=True)
    codes = 100 * pair.ravel() + np.clip(np.round(100 * edges["weight"]), 1, 99).astype(int)
    graphs = {place: group.tolist() for place, group in codes.groupby([edges["layer"], edges["head"]])}
    step, foot = max(15, 590 / n), 232
    xs = 10 + step * (np.arange(n) + 0.5)
    arcs = [_arc(xs[i], xs[j], foot, 24 + 260 * (i - j) / n, step * (i == j)) for i, j in pairs]
    data = {
        "arcs": arcs,
        "pairs": pairs.tolist(),
        "graphs": [[graphs.get((i, j), []) for j in heads] for i in layers],
        "layers": [i + 1 for i in layers],
        "heads": [j + 1 for j in heads],
        "tokens": [str(token).strip() for token in tokens],
        "step": step,
        "eps": f"{eps:g}",
    }

    drawn = {True: "", False: ""}
    for code in graphs.get((layer, head), []):
        i = pairs[code // 100, 0]
        drawn[i == n - 1] += f'<path d="{arcs[code // 100]}" stroke-width="{0.5 + code % 100 / 30:.1f}"/>'
    names = [name if len(name) <= 12 else f"{name[:11]}…" for name in data["tokens"]]
    height = foot + 30 + 7 * max(map(len, names))
    words = "".join(
        f'<text transform="translate({x:.0f} {foot + 12})rotate(-90)" text-anchor="end" dy=".35em">{name}</text>'
        for x, name in zip(xs, map(escape, names), strict=True)
    )
    drawing = (
        f'<g fill="none" stroke="{GREY}" stroke-opacity=".45">{drawn[False]}</g>'
        f'<g fill="none" stroke="{RED}">{drawn[True]}</g>{words}'
    )
    width = round(20 + n * step)
    places = ("Layer", len(layers) - 1, layers.index(layer)), ("Head", len(heads) - 1, heads.index(head))
    body = (
        f"{_controls(*places, ('Token', n - 1, n - 1))}"
        f'<div class="geolib-wide" tabindex="0" style="--width:{width}px">{_svg(drawing, height, label, width)}</div>'
        f"<p>Layer {layer + 1}, head {head + 1}: {len(graphs.get((layer, head), []))} edges above {eps:g}.</p>"
    )
    if still is None:
        chosen = edges[(edges["layer"] == layer) & (edges["head"] == head)]
        still = figures.attention_graph(tokens, chosen, title=f"layer {layer + 1}, head {head + 1}")
    return Interactive(_fragment("heads.js", body, data), still)


@dataclass(frozen=True)
class _Panel:
    """A panel in a drawing 640 pixels wide: it converts data to pixels, and draws axes around its content."""

    top: float
    width: float
    height: float
    x: tuple
    y: tuple
    log: bool = False  # whether y holds the powers of 10

    left = 48

    @property
    def bottom(self):
        return self.top + self.height + 46

    def __call__(self, points):
        """Pixels of points, shape=[n, 2], from the panel's upper left corner."""
        low, high = np.transpose([self.x, self.y])
        return (points - low) / (high - low) * [self.width, -self.height] + [0, self.height]

    def svg(self, content, *, xlabel, ylabel):
        """Wrap a panel's content, clipped to it, in ticks and labels."""
        right, foot = self.left + self.width, self.top + self.height
        power = '10<tspan dy="-5" font-size="75%">{}</tspan>'.format if self.log else str
        marks = [f'<text x="{self.left}" y="{self.top - 8}">{ylabel}</text>']
        marks.append(f'<text x="{right}" y="{foot + 40}" text-anchor="end">{xlabel}</text>')
        for tick in _ticks(self.x):
            at = self.left + self(np.array([[tick, self.y[0]]]))[0, 0]
            marks.append(f'<text x="{at:.1f}" y="{foot + 20:.1f}" text-anchor="middle">{_number(tick)}</text>')
        for tick in _ticks(self.y):
            at = self.top + self(np.array([[self.x[0], tick]]))[0, 1]
            marks.append(f'<text x="{self.left - 6}" y="{at + 5:.1f}" text-anchor="end">{power(_number(tick))}</text>')
        box = f'x="{self.left}" y="{self.top}" width="{self.width}" height="{self.height:.1f}"'
        return f'{"".join(marks)}<svg {box}>{content}</svg><rect {box} fill="none" stroke="#8a949b"/>'


def _increase(values):
    return values.ndim == 1 and len(values) > 1 and bool((np.diff(values) > 0).all())


def _check_shown(function, label, still, *, own=False):
    """Check a figure's label, and its still, which may be None if the figure has its `own`."""
    if not isinstance(label, str):
        raise TypeError(f"{function}: label is {one_line(label)}, but a text was expected")
    whole_text(f"{function}: label", label)
    if not isinstance(still, Figure) and not (own and still is None):
        raise TypeError(f"{function}: still is {one_line(still)}, but a matplotlib Figure was expected")


def _check_plane(function, partition, label, still):
    if not hasattr(partition, "polygons"):
        raise TypeError(f"{function}: partition is {one_line(partition)}, but a PlanePartition was expected")
    _check_shown(function, label, still, own=True)


def _check_edges(edges, n):
    columns = ("layer", "head", "query", "key", "weight")
    if not isinstance(edges, pd.DataFrame):
        raise TypeError(f"head_by_head: edges is {one_line(edges)}, but a DataFrame was expected")
    if missing := [name for name in columns if name not in edges]:
        raise ValueError(f"head_by_head: edges lacks {', '.join(missing)}, but {', '.join(columns)} were expected")
    if edges.empty:
        raise ValueError("head_by_head: edges is empty, but at least one was expected")
    if not all(pd.api.types.is_integer_dtype(edges[name]) for name in columns[:-1]):
        raise TypeError(f"head_by_head: edges has other types, but integers in {', '.join(columns[:-1])} were expected")
    finite_array("head_by_head: edges['weight']", edges["weight"])
    if not ((edges["key"] >= 0) & (edges["key"] <= edges["query"]) & (edges["query"] < n)).all():
        raise ValueError(f"head_by_head: edges has others, but edges with 0 <= key <= query < {n} were expected")
    # A float32 softmax may give a weight of 1 plus a rounding error.
    if not ((edges["weight"] > 0) & (edges["weight"] <= 1 + 1e-5)).all():
        raise ValueError("head_by_head: edges has a weight outside (0, 1], but only weights inside were expected")


def _svg(drawing, height, label, width=640):
    return f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{escape(label)}">{drawing}</svg>'


def _mosaic(partition, label, more=""):
    """Draw the mosaic of a partition, and more above it."""
    size = np.ptp(partition.window, axis=1)
    panel = _Panel(24, 580, 580 * size[1] / size[0], *partition.window)
    shapes = zip(partition.polygons, figures.region_colors(partition), strict=True)
    cells = "".join(f'<path d="{_path(panel(corners))}Z" fill="{to_hex(color)}"/>' for corners, color in shapes)
    drawing = f'<g class="geolib-cells" stroke="#25323b" stroke-width=".4">{cells}</g>{more}'
    return _svg(panel.svg(drawing, xlabel="x₁", ylabel="x₂"), panel.bottom, label)


def _slider(name, last, value, first=0):
    return f'<input type="range" min="{first}" max="{last}" value="{value}" aria-label="{name}">'


def _controls(*sliders, more=""):
    labels = "".join(f"<label>{slider[0]} {_slider(*slider)}</label>" for slider in sliders)
    return f'<div class="geolib-controls" hidden>{labels}{more}</div>'


def _fragment(script, body, data, *shared):
    """Join a drawing with its style, its script, those that scripts share, and the script's data."""
    assets = files("geolib") / "assets"
    style = (assets / "interactive.css").read_text("utf-8")
    scripts = {name: f"{name}.js" for name in shared} | {"bring": script}
    code = "\n".join(f"const {name} = {(assets / s).read_text('utf-8').strip()};" for name, s in scripts.items())
    # "<" could end the script element; inside JSON it can be written as an escape.
    data = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    # The script finds the figure by a unique class name, and handles it once: a page may show the same figure twice.
    name = "geolib-" + hashlib.sha256(f"{script}{body}{data}".encode()).hexdigest()[:12]
    start = f'document.querySelectorAll(".{name}:not([data-live])").forEach((root) => {{ root.dataset.live = ""; '
    return (
        f'<div class="geolib-figure {name}" role="group"><style>{style}</style>{body}</div>\n'
        f"<script>{{ const data = {data};\n{code}\n{start}bring(root, data); }}); }}</script>"
    )


def _path(points):
    """SVG path through points, shape=[n, 2], to a tenth of a pixel."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in np.round(points, 1) + 0.0)


def _line(d, ink, dash):
    style = f'stroke="{ink}" stroke-width="2.5" stroke-dasharray="{dash}" fill="none"'
    return f'<path class="geolib-line" d="{d}" {style}/>'


def _powers(weights):
    """Powers of 10 of weights, those below the axis on its foot."""
    return np.log10(np.maximum(weights, 1e-4))


def _arc(start, end, foot, height, lean):
    """SVG path of an arc between two feet; with equal feet, `lean` to both sides makes it a loop."""
    top = foot - height
    return f"M{start:.0f} {foot}C{start + lean:.0f} {top:.0f} {end - lean:.0f} {top:.0f} {end:.0f} {foot}"


def _ring(x, y, r):
    return f"M{x - r:.1f} {y:.1f}a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0"


def _dots(path):
    """SVG path of dots at the inner points of a path: strokes of length 0, which round line caps make visible."""
    return re.sub("^M[^L]*L", "M", path).replace("L", "h0M")


def _ticks(span):
    low, high = span
    return [tick for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= tick <= high]


def _number(value):
    return f"{value:.6g}".replace("-", "−")


def _short(values):
    """Round numbers to five digits: more than a reader needs, and less than half of the bytes."""
    return [_short(value) if np.ndim(value) else float(f"{value:.5g}") for value in values]
