"""Interactive figures: what the page holds is what was given, it asks for nothing, and no text can break out of it."""

import base64
import itertools
import json
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex

from geolib import interactive
from geolib.dimension.rows import count_weights, row_statistics
from geolib.partition import ReluNetwork, max_regions, plane_partition, region_bound
from tools import check

VOID = {
    "input",
    "rect",
    "path",
    "circle",
}  # elements without content: HTML's own, and those of SVG that we close at once


class Page(HTMLParser):
    """Elements of a fragment with their attributes, and the text in each; every element must be closed."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), []))
        if tag != "input":
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID
        self.elements.append((tag, dict(attributes), []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, text):
        if self.open:
            self.open[-1][2].append(text)

    def all(self, tag):
        return [(attributes, "".join(text)) for name, attributes, text in self.elements if name == tag]

    def one(self, tag):
        (element,) = self.all(tag)
        return element

    def data(self):
        return json.loads(re.search(r"const data = (.*);\n", self.one("script")[1])[1])


@pytest.fixture(scope="module")
def partition():
    rng = np.random.default_rng(0)
    readout = rng.normal(size=(1, 20)), rng.normal(size=1)
    network = ReluNetwork([rng.normal(size=(20, 2))], [rng.normal(size=20)], readout=readout)
    return plane_partition(network, ((-1, 1), (0, 3)))


@pytest.fixture(scope="module")
def still():
    figure = plt.figure()
    plt.close(figure)
    return figure


def make_film(still, label="film", frames=None, **kwargs):
    x = np.linspace(0, 3, 31)
    frames = frames or {0: ([0, 3], [0, 0]), 7: ([0, 0.5, 2, 2.25, 3], [0, 1, 1, 2, 0])}
    return interactive.film(x, np.sin(x), frames, **{"bins": [0, 1, 2, 3], "label": label, "still": still, **kwargs})


EDGES = pd.DataFrame(
    [
        (4, 1, 0, 0, 1.0), (4, 1, 1, 0, 0.75), (4, 1, 2, 1, 0.2), (4, 1, 2, 2, 0.501),
        (4, 3, 0, 0, 1.0), (4, 3, 2, 0, 0.999),
        (5, 1, 0, 0, 1.0), (5, 1, 1, 1, 0.3), (5, 1, 2, 0, 0.104),
        (5, 3, 0, 0, 1.0),
    ],
    columns=["layer", "head", "query", "key", "weight"],
)  # fmt: skip


def make_heads(still, label="heads", tokens=("a", " b", "c"), edges=EDGES, **kwargs):
    return interactive.head_by_head(tokens, edges, label=label, still=still, **kwargs)


def make_steps(still, label="thresholds", start=1, **counts):
    counts = counts or {"absolute": [[9, 3, 0], [0, 1, 0]], "relative": [[99, 9, 9], [9, 9, 0]]}
    return interactive.by_threshold([0.01, 0.1], counts, label=label, still=still, start=start)


WINDOW = ((-3, 3), (-2, 4))
EPS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5]


def random_layers(rng, *widths):
    sizes = (2, *widths)
    weights = [rng.normal(size=size) for size in zip(widths, sizes, strict=False)]
    return weights, [rng.normal(size=width) for width in widths]


def own_layers(seed=0):
    """Those of `make_recut`: the first neuron's line crosses the window."""
    weights, biases = random_layers(np.random.default_rng(seed), 14, 5)
    weights[0][0], biases[0][0] = [1, -1], 0.5
    return weights, biases


def make_recut(label="recut", n=9, seed=0, **kwargs):
    weights, biases = own_layers(seed)
    partition = plane_partition(ReluNetwork([weights[0][:n]], [biases[0][:n]]), WINDOW)
    return interactive.recut_mosaic(partition, ReluNetwork(weights, biases), label=label, **kwargs)


def make_row(still, label="row", scores=None, **kwargs):
    scores = np.random.default_rng(0).normal(size=40) if scores is None else scores
    return interactive.one_row(scores, EPS, label=label, still=still, **{"start": 4, **kwargs})


def drawn(page):
    """Paths that stand without scripts: those of other tokens, and those of the last."""
    tags = [tag for tag, _, _ in page.elements]
    first = tags.index("g")
    second = tags.index("g", first + 1)
    paths = [
        [a["d"] for tag, a, _ in part if tag == "path"] for part in (page.elements[:second], page.elements[second:])
    ]
    return tuple(paths)


def test_every_region_is_there_with_its_map(partition):
    page = Page(interactive.hover_mosaic(partition, label="cells").html)
    cells = [attributes["d"] for attributes, _ in page.all("path") if "fill" in attributes and "d" in attributes]
    data = page.data()
    assert len(cells) == len(data["maps"]) == partition.n_regions > 20
    for i, cell in enumerate(cells):
        A, b = partition.affine_map(i)
        np.testing.assert_allclose(data["maps"][i], [*A[0], *b], rtol=1e-4)
        drawn = np.array(re.findall(r"[-\d.]+", cell), dtype=float).reshape(-1, 2)
        width, height = 580, 870
        corners = np.stack([drawn[:, 0] / width * 2 - 1, 3 - drawn[:, 1] / height * 3], axis=1)
        np.testing.assert_allclose(corners, partition.polygons[i], atol=0.06 * 2 / width)
    np.testing.assert_allclose(data["areas"], partition.areas, rtol=1e-4)
    assert data["active"] == [int(layer.sum()) for (layer,) in partition.patterns]
    assert data["neurons"] == 20


def test_regions_are_counted_over_all_layers():
    layers = [np.eye(2), [[1, -1], [1, 1], [0, 1]]]
    network = ReluNetwork(layers, [np.zeros(2), -np.ones(3)], readout=([[1, 1, 1]], [0]))
    partition = plane_partition(network, ((-2, 2), (-2, 2)))
    data = Page(interactive.hover_mosaic(partition, label="deep").html).data()
    assert data["neurons"] == 5
    assert data["active"] == [sum(int(layer.sum()) for layer in pattern) for pattern in partition.patterns]


def test_film_draws_vertices_and_counts_breakpoints(still):
    page = Page(make_film(still).html)
    (first, _, start), (last, bars, end) = page.data()
    assert first.count("L") == 1
    assert last.count("L") == 4
    assert start.startswith("Step 0: 0 breakpoints")
    assert end.startswith("Step 7: 3 breakpoints")
    heights = np.array(re.findall(r"[-\d.]+", bars), dtype=float).reshape(-1, 2)[1:-1:2, 1]
    np.testing.assert_allclose(heights, [45, 90, 0])  # 1, 0 and 2 of at most 2, in 90 pixels from above
    # Without scripts the last frame stands, a dot at each of its breakpoints and at nothing else.
    paths = {attributes.get("class"): attributes["d"] for attributes, _ in page.all("path")}
    assert paths["geolib-fit"] == last
    assert paths["geolib-bars"] == bars
    corners = last.removeprefix("M").split("L")
    assert re.findall(r"M([^Mh]+)h0", paths["geolib-dots"]) == corners[1:-1]
    assert page.one("p")[1] == end


def test_film_measures_the_error_of_each_frame(still):
    x = np.linspace(0, 3, 31)
    exact = {0: (x, np.sin(x)), 1: (x, np.sin(x) + 0.25)}
    words = [frame[2] for frame in Page(make_film(still, frames=exact).html).data()]
    assert words[0].endswith("error 0.")
    assert words[1].endswith("error 0.25.")


PATHS = np.linspace([0.1, 0.2], [0.9, 0.6], 4)[:, None]
# Of a clip of three words and 4 tokens a frame: to a word, to "none", to the frame before, and from a token of "none".
CLIP_EDGES = pd.DataFrame(
    [[6, 1, 0.2], [6, 5, 0.4], [7, 3, 0.3], [7, 4, 0.7], [8, 0, 0.9]], columns=["query", "key", "weight"]
)


def make_rollout(still, label="clip", predicted=PATHS, true=PATHS + 0.01, edges=CLIP_EDGES, **given):
    given = {"prompt": "a ball falls", "seen": 1} | given
    return interactive.rollout(predicted, true, edges, label=label, still=still, **given)


def test_a_rollout_draws_the_edges_that_each_frame_was_made_from(still):
    page = Page(make_rollout(still).html)
    reel = page.data()
    assert len(reel) == 4
    assert "shown to the model. Edges: 0." in reel[0][1]
    x, y = (580 * (PATHS[:, 0] * [1, -1] + [0, 1]) + [30, 60]).T
    names = {text: float(given["x"]) for given, text in page.all("text")}
    assert list(names) == ["a", "ball", "falls", "none"]
    thin, middle, thick = reel[1][0][:3]  # made from the tokens 6 and 7: x from the first, y from the second
    assert "predicted, 0.014 of" in reel[1][1]
    assert "Edges: 4." in reel[1][1]
    assert thin == f"M{x[1]:.1f} {y[1]:.1f}L{100 + 440 / 3:.1f} 40"
    assert middle == f"M{x[1]:.1f} {y[1]:.1f}L540 40"  # two edges to one place: the larger one
    assert thick == f"M{x[1]:.1f} {y[1]:.1f}L{x[0]:.0f} {y[0]:.0f}"
    assert reel[1][0][3] == f"M{x[1]:.1f} {y[1]:.1f}h0"
    assert all(part == "" for part in reel[3][0][:3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"true": PATHS[:3]},
            r"rollout: predicted has shape \(4, 1, 2\) and true \(3, 1, 2\), but \[frames, balls <= 2, 2",
        ),
        ({"predicted": PATHS * np.nan}, "rollout: predicted holds nan"),
        ({"seen": 5}, "rollout: seen is 5, but 1 to 4 was expected"),
        ({"edges": CLIP_EDGES.assign(query=19)}, "rollout: edges has others, but edges with 0 <= key <= query < 19"),
        ({"edges": CLIP_EDGES.assign(key=9)}, "rollout: edges has others"),
    ],
)
def test_a_rollout_refuses(still, change, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make_rollout(still, **change)


def test_slider_is_a_native_one_with_a_name(still):
    page = Page(make_film(still).html)
    slider, _ = page.one("input")
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "0", "1")
    assert slider["aria-label"]
    assert page.one("button")[1] == "Play"


def test_thresholds_draw_each_rule_on_one_scale(still):
    page = Page(make_steps(still).html)
    first, second = page.data()
    assert first[-1] == "Threshold 0.01: absolute from 0 to 9, relative from 9 to 99."
    assert second[-1] == page.one("p")[1] == "Threshold 0.1: absolute from 0 to 1, relative from 0 to 9."
    lines = [line for line, _ in page.all("path") if line.get("class") == "geolib-line"]
    assert [line["d"] for line in lines] == second[:-1], "what stands without a script"
    assert len({line["stroke-dasharray"] for line in lines}) == 2, "told apart without colours"
    heights = [float(pair.split()[1]) for pair in re.split("[ML]", first[0])[1:]]
    foot, one = heights[2], heights[2] - heights[0]  # log10(1 + 9) is 1
    assert heights[1] == pytest.approx(foot - one * np.log10(4), abs=0.1)
    assert float(re.split("[ML]", first[1])[1].split()[1]) == pytest.approx(foot - 2 * one, abs=0.15)
    slider, _ = page.one("input")
    assert (slider["type"], slider["value"], slider["max"], slider["aria-label"]) == ("range", "1", "1", "Threshold")


@pytest.mark.parametrize(
    ("eps", "counts"),
    [
        ([0.1, 0.01], {"a": [[1, 2], [3, 4]]}),
        ([0.1], {"a": [[1, 2]]}),
        ([0.1, 0.2], {}),
        ([0.1, 0.2], {"a": [[1, 2], [3, 4], [5, 6]]}),
        ([0.1, 0.2], {"a": [1, 2]}),
        ([0.1, 0.2], {"a": [[1, 2], [3, 4]], "b": [[1, 2, 3], [3, 4, 5]]}),
        ([0.1, 0.2], {"a": [[1], [2]]}),
    ],
)
def test_thresholds_refuse(still, eps, counts):
    with pytest.raises(ValueError, match=r"^by_threshold: counts have shapes \[.*\], but \(\d, layers\) was expected"):
        interactive.by_threshold(eps, counts, label="", still=still)


def test_every_edge_of_every_head_is_there(still):
    data = Page(make_heads(still).html).data()
    assert (data["layers"], data["heads"], data["tokens"]) == ([5, 6], [2, 4], ["a", "b", "c"])
    rows = [
        (layer - 1, head - 1, *data["pairs"][code // 100], code % 100 / 100)
        for layer, graphs in zip(data["layers"], data["graphs"], strict=True)
        for head, codes in zip(data["heads"], graphs, strict=True)
        for code in codes
    ]
    assert len(rows) == len(EDGES)
    np.testing.assert_allclose(rows, EDGES, atol=0.0101)  # a weight to two digits, and 1.00 as 0.99
    assert len(data["arcs"]) == len({tuple(pair) for pair in data["pairs"]}) == 6


def test_arcs_stand_on_their_tokens(still):
    page = Page(make_heads(still).html)
    data = page.data()
    (left, right) = (float(attributes["viewbox"].split()[k]) for attributes, _ in page.all("svg") for k in (0, 2))
    feet = [float(re.match(r"translate\(([\d.]+) ", attributes["transform"])[1]) for attributes, _ in page.all("text")]
    assert left < feet[0] < feet[1] < feet[2] < right
    heights = {}
    for (query, key), arc in zip(data["pairs"], data["arcs"], strict=True):
        start, foot, _, top, _, _, end, _ = map(float, re.findall(r"[-\d.]+", arc))
        assert (start, end) == (feet[query], feet[key])
        assert foot > top > 0
        heights.setdefault(query - key, set()).add(foot - top)
    assert [len(each) for each in heights.values()] == [1, 1, 1]
    assert max(heights[0]) < max(heights[1]) < max(heights[2])


def test_what_stands_without_scripts_is_the_chosen_head(still):
    page = Page(make_heads(still, layer=4, head=1).html)
    data = page.data()
    arc = {tuple(pair): path for pair, path in zip(data["pairs"], data["arcs"], strict=True)}
    others, own = drawn(page)
    assert (set(others), set(own)) == ({arc[0, 0], arc[1, 0]}, {arc[2, 1], arc[2, 2]})
    assert page.one("p")[1] == "Layer 5, head 2: 4 edges above 0.1."
    sliders = {
        attributes["aria-label"]: (attributes["max"], attributes["value"]) for attributes, _ in page.all("input")
    }
    assert sliders == {"Layer": ("1", "0"), "Head": ("1", "0"), "Token": ("2", "2")}


def test_by_default_the_last_layer_and_its_fullest_head(still):
    assert Page(make_heads(still).html).one("p")[1] == "Layer 6, head 2: 3 edges above 0.1."
    assert Page(make_heads(still, layer=4).html).one("p")[1] == "Layer 5, head 2: 4 edges above 0.1."
    nothing_at_last = EDGES[EDGES["query"] < 2]
    page = Page(make_heads(still, edges=nothing_at_last, eps=0.25).html)
    assert page.one("p")[1] == "Layer 6, head 2: 2 edges above 0.25."


def test_a_weight_may_be_a_rounding_above_one(still):
    edges = EDGES.assign(weight=EDGES["weight"] * (1 + 2**-23))
    assert make_heads(still, edges=edges).html == make_heads(still).html


def test_still_is_the_graph_that_is_shown_first():
    figure = interactive.head_by_head(["a", "b", "c"], EDGES, label="", layer=4, head=1).still
    (ax,) = figure.axes
    assert ax.get_title(loc="left") == "layer 5, head 2"
    assert len(ax.patches) == 2  # two arcs; loops are rings
    assert plt.get_fignums() == []


def test_a_long_prompt_scrolls_inside_the_figure(still):
    def width(n):
        edges = pd.DataFrame({"layer": 0, "head": 0, "query": np.arange(n), "key": 0, "weight": 0.5})
        boxes = Page(make_heads(still, tokens=["t"] * n, edges=edges).html).all("div")
        (box,) = [attributes for attributes, _ in boxes if attributes.get("class") == "geolib-wide"]
        assert box["tabindex"] == "0"  # or the keyboard could not scroll it
        return int(re.search(r"--width:(\d+)px", box["style"])[1])

    assert width(3) == width(30) < 640  # a figure's own width
    assert width(100) == 20 + 100 * 15


def test_ten_thousand_edges_stay_small(still):
    rng = np.random.default_rng(0)
    key, query = np.sort(rng.integers(40, size=(2, 10_000)), axis=0)
    edges = pd.DataFrame({"layer": rng.integers(30, size=10_000), "head": rng.integers(9, size=10_000)})
    edges = edges.assign(query=query, key=key, weight=rng.uniform(0.1, 1, 10_000))
    assert len(make_heads(still, tokens=["token"] * 40, edges=edges).html) < 110_000


HOSTILE = '</script><img src=x onerror="alert(1)">\'"&'


def test_no_text_breaks_out(partition, still):
    heads = make_heads(still, HOSTILE, tokens=[HOSTILE[:12], HOSTILE, "c"])
    for figure in (
        interactive.hover_mosaic(partition, label=HOSTILE),
        make_film(still, HOSTILE),
        make_rollout(still, HOSTILE, prompt="a <b> \"'&"),
        heads,
        make_steps(still, HOSTILE),
        make_recut(HOSTILE),
        make_row(still, HOSTILE),
    ):
        page = Page(figure.html)
        assert page.all("img") == []
        named = [attributes["aria-label"] for attributes, _ in page.all("svg") if "aria-label" in attributes]
        assert named == [HOSTILE]
    assert "<" not in re.search(r"const data = (.*);\n", interactive._fragment("film.js", "", [HOSTILE]))[1]


def test_nothing_is_asked_from_outside_and_no_id_can_clash(partition, still):
    names = set()
    made = (
        interactive.hover_mosaic(partition, label="a"),
        make_film(still), make_film(still, "other"), make_heads(still), make_heads(still, layer=4),
        make_steps(still), make_steps(still, "other"), make_recut(), make_recut(n=8),
        make_row(still), make_row(still, start=1), make_rollout(still), make_rollout(still, seen=2),
    )  # fmt: skip
    for figure in made:
        page = Page(figure.html)
        assert not re.search(r"https?:|//[a-z]|@import|url\(|\bsrc=|\bhref=", figure.html)
        assert all("id" not in attributes for _, attributes, _ in page.elements)
        name = page.all("div")[0][0]["class"]
        assert f'".{name.split()[1]}:not' in page.one("script")[1]
        names.add(name)
    assert len(names) == len(made)


def test_same_input_gives_the_same_bytes(still):
    assert make_film(still).html == make_film(still).html
    assert make_heads(still).html == make_heads(still).html


def test_bundle_has_html_and_a_still(partition, still):
    for figure in (
        interactive.hover_mosaic(partition, label="a"),
        make_heads(still),
        make_film(still),
        make_steps(still),
        make_recut(still=still),
        make_row(still),
        make_rollout(still),
    ):
        bundle = figure._repr_mimebundle_()
        assert set(bundle) == {"text/html", "image/png", "text/plain"}
        assert bundle["text/html"] == figure.html
        assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert plt.get_fignums() == []
    assert figure.still is still
    mine = interactive.hover_mosaic(partition, label="a", still=still)
    assert mine.still is still


def test_a_thousand_regions_stay_small():
    rng = np.random.default_rng(1)
    readout = rng.normal(size=(1, 50)), [0]
    network = ReluNetwork([rng.normal(size=(50, 2))], [rng.normal(size=50)], readout=readout)
    partition = plane_partition(network, ((-9, 9), (-9, 9)))
    assert len(interactive.hover_mosaic(partition, label="a").html) < 1000 + 160 * partition.n_regions + 6000


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ({3: ([0, 1, 1, 3], [0, 0, 0, 0])}, r"^film: frames\[3\] has shapes \(4,\) and \(4,\), but increasing vx"),
        (
            {3: ([0, 1, 3], [0, 0])},
            r"^film: frames\[3\] has shapes \(3,\) and \(2,\), but increasing vx, each with vy, was expected$",
        ),
        ({3: [[0, 3]]}, r"^film: frames\[3\] has shapes \(2,\), but"),
        ({3: ([0], [0])}, r"^film: frames\[3\] has shapes \(1,\) and \(1,\), but"),
        ({3: ([0, 3], [0, np.nan])}, r"^film: frames\[3\] holds nan at \(1,\), but finite numbers were expected$"),
    ],
)
def test_film_refuses(still, frames, message):
    with pytest.raises(ValueError, match=message):
        make_film(still, frames=frames)


@pytest.mark.parametrize(
    ("x", "frames", "bins", "message"),
    [
        ([0, 1], {}, [0, 1], r"^film: frames is empty, but at least one was expected$"),
        ([1, 0], {0: ([0, 1], [0, 1])}, [0, 1], r"^film: x has shape \(2,\).* but increasing x"),
        (
            [0, 1, 2],
            {0: ([0, 1], [0, 1])},
            [0, 1],
            r"^film: x has shape \(3,\) and target \(2,\), but increasing x",
        ),
        ([0, 1], {0: ([0, 1], [0, 1])}, [1, 0], r"^film: bins has shape \(2,\), but at least two increasing edges"),
    ],
)
def test_film_refuses_a_curve(still, x, frames, bins, message):
    with pytest.raises(ValueError, match=message):
        interactive.film(x, [0, 1], frames, bins=bins, label="", still=still)


def test_mosaic_of_many_outputs_is_refused():
    partition = plane_partition(ReluNetwork([np.eye(2)], [np.zeros(2)]), ((-1, 1), (-1, 1)))
    with pytest.raises(ValueError, match=r"^hover_mosaic: .* A of shape \(2, 2\), but \(1, 2\) was expected$"):
        interactive.hover_mosaic(partition, label="")


def test_what_is_cut_again_begins_as_what_was_given():
    page, (weights, biases) = Page(make_recut(n=9).html), own_layers()
    assert page.data()["layers"] == [[W.tolist(), b.tolist()] for W, b in zip(weights, biases, strict=True)]
    first = plane_partition(ReluNetwork([weights[0][:9]], [biases[0][:9]], readout=([[1] * 9], [0])), WINDOW)
    hovered = Page(interactive.hover_mosaic(first, label="").html)
    cells = [[a for a, _ in each.all("path") if "geolib-mark" not in a.get("class", "")] for each in (page, hovered)]
    assert cells[0] == cells[1]
    assert page.one("b")[1] == f"{first.n_regions} regions"
    sliders = {a["aria-label"]: (a["min"], a["max"], a["value"]) for a, _ in page.all("input")}
    assert sliders["Neurons"] == ("1", "14", "9")
    assert sliders["Second layer"] == ("0", "5", "0")


NETWORK = ReluNetwork([np.eye(2), np.eye(2)], [np.ones(2), np.ones(2)])


@pytest.mark.parametrize(
    ("sizes", "settings", "message"),
    [
        ([2], {}, r"ReluNetwork\(2 -> 2\)"),
        ([2, 2, 2], {}, r"ReluNetwork\(2 -> 2 -> 2 -> 2\)"),
        ([3, 3], {}, r"ReluNetwork\(3 -> 3 -> 3\)"),
        ([2, 2], {"negative_slope": 0.1}, r"ReluNetwork\(2 -> 2 -> 2, negative_slope=0.1\)"),
    ],
)
def test_a_network_of_another_kind_is_refused(sizes, settings, message):
    network = ReluNetwork([*map(np.eye, sizes)], [*map(np.ones, sizes)], **settings)
    partition = plane_partition(ReluNetwork([[[1, 0]]], [[1]]), WINDOW)
    assert interactive.recut_mosaic(partition, NETWORK, label="").html
    message = rf"^recut_mosaic: network is {message}, but 2 inputs, 2 layers and ReLU were expected$"
    with pytest.raises(ValueError, match=message):
        interactive.recut_mosaic(partition, network, label="")


@pytest.mark.parametrize(
    ("neurons", "biases", "settings"),
    [
        ([[[1, 0]]], [[1]], {"origin": [1, 0]}),
        ([[[1, 0]]], [[1]], {"axes": [[0, 1], [1, 0]]}),
        ([[[1, 0.5]]], [[1]], {}),
        ([[[1, 0]]], [[0.5]], {}),
        ([[[1, 0], [0, 1], [1, 1]]], [[1, 1, 1]], {}),
        ([[[1, 0]], [[1]]], [[1], [1]], {}),
    ],
)
def test_a_partition_of_something_else_is_refused(neurons, biases, settings):
    other = plane_partition(ReluNetwork(neurons, biases), WINDOW, **settings)
    with pytest.raises(ValueError, match=r"^recut_mosaic: partition is of ReluNetwork.* but the first neurons of"):
        interactive.recut_mosaic(other, NETWORK, label="")


def test_a_line_that_cannot_be_seen_is_refused():
    outside = plane_partition(ReluNetwork([[[1, 0]]], [[1]]), ((5, 6), (5, 6)))
    with pytest.raises(
        ValueError, match=r"^recut_mosaic: partition is not cut by its first neuron, but a line to drag"
    ):
        interactive.recut_mosaic(outside, NETWORK, label="")


def test_a_row_stands_with_both_counts_without_a_script(still):
    scores = np.log([0.5, 0.3, 0.15, 0.04, 0.01, 1.0])
    page = Page(make_row(still, scores=scores, length=5).html)
    neither, relative, both = [a["d"].count("M") for a, _ in page.all("path") if a["class"] == "geolib-bars"]
    assert (neither, relative, both) == (2, 0, 3), "0.04 is below a tenth of 0.5"
    assert page.one("p")[1] == " at eps = 0.1, of 5 tokens."
    assert page.one("b")[1] == "ID 3 absolute, 3 relative"
    page = Page(make_row(still, scores=scores, length=5, start=3).html)
    assert page.one("b")[1] == "ID 3 absolute, 4 relative"
    boxes = re.findall(r"M[^Z]+", page.all("path")[2][0]["d"])
    low, high = (float(re.split("[ ML]+", boxes[k])[4]) for k in (1, 0))
    assert low - high == pytest.approx(np.log10(0.5 / 0.3) * 260 / 4.3, abs=0.11), "one step of the axis is ten times"


def test_a_weight_of_zero_stands_on_the_foot(still):
    assert "nan" not in make_row(still, scores=[0, -800.0, 0], length=3).html


@pytest.mark.parametrize(
    ("scores", "settings", "message"),
    [
        ([[1, 2]], {}, r"scores has shape \(1, 2\) and eps is .*, but two scores or more"),
        ([1], {}, r"scores has shape \(1,\) and eps"),
        ([1, np.nan], {}, "scores"),
        ([1, 2], {"length": 3}, "length is 3, but"),
        ([1, 2], {"length": 0}, "length is 0, but"),
        ([1, 2], {"start": 7}, "start is 7, but"),
        ([1, 2], {"start": -1}, "start is -1, but"),
    ],
)
def test_one_row_refuses(still, scores, settings, message):
    with pytest.raises(ValueError, match=rf"^one_row: {message}"):
        make_row(still, scores=scores, **settings)


def test_a_row_draws_its_own_still():
    """Bars of the first half of the tokens, with the colours of the rules that count them."""
    scores = np.array([0.0, 2.0, 5.0, 4.0, 1.0, 0.0, 0.0, 0.0])
    figure = interactive.one_row(scores, [0.1, 0.3], label="row", start=1).still
    (ax,) = figure.axes
    weights = np.exp(scores[:4]) / np.exp(scores[:4]).sum()
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], weights)
    assert [line.get_ydata()[0] for line in ax.lines] == pytest.approx([0.3, 0.3 * weights.max()])
    inks = [to_hex(bar.get_facecolor()) for bar in ax.patches]
    assert inks[0] == inks[1] != inks[2] != inks[3] != inks[0], "none; both rules; the relative one alone"


def test_one_row_refuses_thresholds(still):
    for eps in ([0.1], [0.2, 0.1]):
        with pytest.raises(
            ValueError, match=r"^one_row: .* eps is \[.*\], but two scores or more and thresholds that inc"
        ):
            interactive.one_row([1, 2], eps, label="", still=still)


# In a browser: what the scripts compute.


@pytest.fixture
def opened(browser):
    """Open figures on one page, which must not log, throw, ask for anything or leave a name behind."""
    wrong = []

    def opened(*figures, **settings):
        page = browser.new_page(**{"viewport": {"width": 900, "height": 1100}, **settings})
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda request: wrong.append(request.url))
        page.set_content("<p>Nothing.</p>")
        names = page.evaluate("Object.keys(window)")
        page.set_content("".join(figure.html for figure in figures))
        assert page.evaluate("Object.keys(window)") == names
        return page

    yield opened
    assert wrong == []


def live(page, call, *arguments, figure=0):
    """What a figure's own function answers."""
    code = f"(all) => document.querySelectorAll('.geolib-figure')[{figure}].live.{call}(...all)"
    return page.evaluate(code, [*arguments])


def said(page, figure=0):
    return page.locator(".geolib-figure > p").nth(figure).inner_text()


def slide(page, name, value, figure=0):
    """Move a slider with the keys, from where it is or from its left end."""
    slider = page.locator(".geolib-figure").nth(figure).get_by_label(name, exact=True)
    if value < abs(value - int(slider.input_value())):
        slider.press("Home")
    steps = value - int(slider.input_value())
    for _ in range(abs(steps)):
        slider.press("ArrowRight" if steps > 0 else "ArrowLeft")
    assert slider.input_value() == str(value)


def any_network(seed):
    """Layers of a random network, each fifth in special position: whole numbers, lines through a point, equal rows."""
    rng = np.random.default_rng(seed)
    weights, biases = random_layers(rng, *([(24,), (3,), (12, 7), (9, 4, 5), (40,)][seed % 5]))
    biases = [rng.choice([0, 0.3, 1]) * b for b in biases]
    if seed % 10 > 4:
        return weights, biases
    weights, biases = ([np.round(3 * values) for values in layers] for layers in (weights, biases))
    weights[0][-1], biases[0][-1] = weights[0][0], biases[0][0]
    return weights, biases


def area(corners):
    x, y = np.transpose(corners)
    return (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2


# What a page sends back: a region's corners, and its pattern as a text.
CUT = """([layers, window]) => document.querySelector(".geolib-figure").live.cut(layers, window)
    .map(({ corners, pattern }) => [pattern.flat().map(Number).join(""), corners])"""


def test_it_cuts_as_plane_partition_does_region_for_region(opened):
    page, numbers = opened(make_recut()), []
    for seed in range(50):
        weights, biases = any_network(seed)
        layers = [[W.tolist(), b.tolist()] for W, b in zip(weights, biases, strict=True)]
        regions = page.evaluate(CUT, [layers, WINDOW])
        ours = {pattern: area(corners) for pattern, corners in regions}
        exact = plane_partition(ReluNetwork(weights, biases), WINDOW)
        patterns = ["".join(map(str, np.concatenate(pattern).astype(int))) for pattern in exact.patterns]
        assert len(regions) == len(ours) == exact.n_regions, seed
        assert ours == pytest.approx(dict(zip(patterns, exact.areas, strict=True)), abs=1e-6), seed
        numbers.append(len(regions))
    assert min(numbers) < 10
    assert max(numbers) > 300


def test_its_ceilings_are_those_of_geolib(opened):
    page = opened(make_recut())
    for n in range(1, 31, 3):
        assert live(page, "ceiling", n, 0) == max_regions(n, 2)
        for m in range(8):
            assert live(page, "ceiling", n, m) == region_bound([n, m], 2)


def regions_of(weights, biases):
    return plane_partition(ReluNetwork(weights, biases), WINDOW).n_regions


def test_its_sliders_count_what_the_network_has(opened):
    (W, V), (b, c) = own_layers()
    page = opened(make_recut(n=9))
    n_first = regions_of([W[:9]], [b[:9]])
    assert re.match(
        rf"{n_first} regions: 1 \+ (\d+) lines in the window \+ (\d+) crossings. 9 .* at most 46\.", said(page)
    )
    assert 1 + sum(map(int, re.findall(r"(\d+) (?:lines|crossings)", said(page)))) == n_first
    slide(page, "Neurons", 13)
    assert said(page).startswith(f"{regions_of([W[:13]], [b[:13]])} regions: ")
    slide(page, "Bias scale", 4)
    less = [b[0], *(0.4 * b[1:])]  # the red line stays
    first = regions_of([W[:13]], [less[:13]])
    assert said(page).startswith(f"{first} regions: ")
    assert "Biases ×\u00a00.4; " in said(page)
    slide(page, "Second layer", 5)
    both = regions_of([W[:13], V[:, :13]], [less[:13], 0.4 * c])
    assert said(page).startswith(
        f"{both} regions; the first layer alone makes {first}. 13 + 5 neurons can make at most "
    )
    assert f"at most {region_bound([13, 5], 2):,}." in said(page)
    slide(page, "Bias scale", 0)
    slide(page, "Second layer", 0)
    star = regions_of([W[:13]], [[b[0], *np.zeros(12)]])
    assert said(page).startswith(f"{star} regions: 1 + ")
    cells = page.locator(".geolib-cells path")
    assert cells.count() == star
    slide(page, "Angle of the line", 18)
    slide(page, "Its distance", 50)  # a quarter of 3 from the centre, (0, 1)
    normal = np.array([np.cos(np.pi / 10), np.sin(np.pi / 10)])
    layers = live(page, "shown")
    np.testing.assert_allclose(layers[0][0][0], np.hypot(*W[0]) * normal)
    np.testing.assert_allclose(layers[0][1][0], -np.hypot(*W[0]) * (0.75 + normal[1]))
    assert "red line at 18°, 0.75 from the centre." in said(page)
    assert page.get_by_label("Its distance").get_attribute("aria-valuetext") == f"0.75: {cells.count()} regions"


def middle(locator):
    box = locator.bounding_box()
    return np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])


def drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=5)
    before = said(page)
    page.mouse.up()
    assert said(page) == before, "letting go moves no line"
    (W, b), *deeper = live(page, "shown")
    assert deeper == []
    assert before.startswith(f"{regions_of([W], [b])} regions: ")
    return np.array(W), np.array(b)


def test_the_line_is_where_the_pointer_leaves_it(opened):
    page = opened(make_recut(n=9))
    (x0, x1), (y0, y1) = WINDOW
    frame = page.locator(".geolib-figure svg svg + rect").bounding_box()

    def pixel(x, y):
        return frame["x"] + (x - x0) / (x1 - x0) * frame["width"], frame["y"] + (y1 - y) / (y1 - y0) * frame["height"]

    grips, (weights, _) = [page.locator("circle").nth(k) for k in range(2)], own_layers()
    W, b = drag(page, middle(grips[0]), pixel(-1, 0.5))
    assert W[0] @ [-1, 0.5] + b[0] == pytest.approx(0, abs=0.02)
    np.testing.assert_array_equal(W[1:], weights[0][1:9])
    assert np.hypot(*W[0]) == pytest.approx(np.hypot(*weights[0][0])), "it is turned, and not made steeper"
    assert page.evaluate("document.activeElement.ariaLabel") == "Angle of the line", "the arrow keys go on from here"
    V, c = drag(page, (middle(grips[0]) + middle(grips[1])) / 2, pixel(1.5, 2))
    np.testing.assert_allclose(V, W, atol=1e-9)
    assert V[0] @ [1.5, 2] + c[0] == pytest.approx(0, abs=0.02)
    assert page.evaluate("document.activeElement.ariaLabel") == "Its distance"


def test_a_finger_moves_the_line_or_else_the_page(opened):
    page = opened(make_recut(), make_recut(n=8), viewport={"width": 390, "height": 600}, has_touch=True)
    fingers = page.context.new_cdp_session(page)

    def swipe(x, y):
        """Move a finger up by 80 pixels; return what is said then, and how far the page has scrolled."""
        for k in range(9):
            point = {"x": x, "y": y - 10 * k}
            event = {"type": "touchMove" if k else "touchStart", "touchPoints": [point]}
            fingers.send("Input.dispatchTouchEvent", event)
        fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_timeout(300)
        return said(page), page.evaluate("scrollY")

    before, grip = live(page, "shown")[0], page.locator("circle").nth(0)
    pivot, (x, y) = middle(page.locator("circle").nth(1)), middle(grip)
    turned, scrolled = swipe(x, y)
    assert scrolled == 0
    ways = [np.array(end) - pivot for end in ((x, y), (x, y - 80))]  # from the grip that has stayed, in pixels
    angles = [np.degrees(np.arctan2(*way)) for way in ways]
    normals = [np.degrees(np.arctan2(*layer[0][0][::-1])) for layer in (before, live(page, "shown")[0])]
    turns = [(two - one) % 360 for one, two in (angles, normals)]
    assert turns[1] == pytest.approx(turns[0], abs=1)
    assert 5 < turns[0] < 355
    away = page.locator(".geolib-cells").first.bounding_box()
    still, scrolled = swipe(away["x"] + 5, away["y"] + away["height"] - 5)
    assert still == turned
    assert scrolled > 30


def test_the_row_counts_as_geolib_does(opened, still):
    scores = np.random.default_rng(3).normal(size=40)
    page = opened(make_row(still, scores=scores))
    for length, tenths, eps in itertools.product([1, 2, 9, 10, 11, 40], [0, 3, 10, 40], EPS):
        ours = live(page, "measure", length, tenths / 10, eps)
        weights = torch.tensor(tenths / 10 * scores[:length]).softmax(-1)
        np.testing.assert_allclose(ours["weights"], weights, rtol=1e-12)
        counts = count_weights(weights, [eps], ["absolute", "relative"])[:, 0].tolist()
        assert ours["counts"] == counts, (length, tenths, eps)
        (entropy,) = row_statistics(weights[None, None, None], torch.tensor([0]), [], [])["entropy"].flatten().tolist()
        assert ours["entropy"] == pytest.approx(entropy, abs=1e-12)
        assert ours["support"] == pytest.approx(np.exp(entropy))


def test_its_sliders_show_the_row(opened, still):
    scores = np.random.default_rng(3).normal(size=40)
    page = opened(make_row(still, scores=scores), make_row(still, scores=scores[:30]))
    other = said(page, 1)
    for length, tenths, k in [(20, 10, 4), (33, 14, 4), (40, 0, 2), (10, 0, 4), (5, 40, 6)]:
        slide(page, "Length", length)
        slide(page, "Scores ×", tenths)
        slide(page, "Threshold", k)
        weights = torch.tensor(tenths / 10 * scores[:length]).softmax(-1)
        (absolute,), (relative,) = count_weights(weights, [EPS[k]], ["absolute", "relative"]).tolist()
        entropy = torch.special.entr(weights).sum()
        assert said(page) == (
            f"ID {absolute} absolute, {relative} relative at eps = {EPS[k]}, of {length} tokens, "
            f"scores ×\u00a0{tenths / 10}. "
            f"Entropy H = {entropy:.2f} nats, effective support exp(H) = {entropy.exp():.1f} tokens."
        )
        bars = page.locator(".geolib-figure").first.locator(".geolib-bars")
        lit = [bars.nth(i).get_attribute("d").count("M") for i in range(3)]
        assert lit == [length - relative, relative - absolute, absolute], "what counts lights up"
        names = page.locator(".geolib-figure").first.locator(".geolib-name").all_text_contents()
        assert names == [f"absolute {absolute}", f"relative {relative}"]
    slide(page, "Length", 30)
    in_order = [bars.nth(i).get_attribute("d") for i in range(3)]
    page.get_by_label("sorted").first.check()
    tops = [float(top) for i in (2, 1, 0) for top in re.findall(r"V([\d.]+)h", bars.nth(i).get_attribute("d"))]
    assert tops == sorted(tops)
    assert [bars.nth(i).get_attribute("d").count("M") for i in range(3)] == [path.count("M") for path in in_order]
    assert said(page, 1) == other, "the figure beside it has stayed"


def test_each_stands_without_scripts_and_answers_the_keys_with_them(browser, opened, still):
    figures = make_recut(), make_row(still)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content("".join(figure.html for figure in figures))
    assert page.locator(".geolib-cells path").first.is_visible()
    assert page.locator(".geolib-bars").nth(1).is_visible()
    assert not page.get_by_role("slider").first.is_visible()
    context.close()
    page = opened(*figures)
    assert check.stuck(page) == []
    for slider in page.get_by_role("slider").all():
        assert slider.get_attribute("aria-valuetext")


@pytest.mark.parametrize("width", [360, 390])
def test_a_telephone_shows_the_whole(opened, still, width):
    page = opened(make_recut(), make_row(still), viewport={"width": width, "height": 800}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in page.locator(".geolib-name").all():
        box, svg = name.bounding_box(), page.locator(".geolib-figure > svg").last.bounding_box()
        assert box["x"] + box["width"] <= svg["x"] + svg["width"]


def with_edge(**row):
    return pd.concat([EDGES, pd.DataFrame([{"layer": 4, "head": 1, "query": 2, "key": 0, "weight": 0.5} | row])])


@pytest.mark.parametrize(
    ("edges", "kwargs", "message"),
    [
        (
            EDGES.drop(columns=["layer", "key"]),
            {},
            r"lacks layer, key, but layer, head, query, key, wei",
        ),
        (EDGES[:0], {}, "edges is empty, but at least one was expected"),
        (with_edge(query=3), {}, "edges has others, but edges with 0 <= key <= query < 3"),
        (with_edge(key=-1), {}, "edges has others, but"),
        (with_edge(query=1, key=2), {}, "edges has others, but"),
        (with_edge(weight=0.0), {}, r"has a weight outside \(0, 1\]"),
        (with_edge(weight=1.1), {}, r"has a weight outside \(0, 1\]"),
        (with_edge(weight=np.nan), {}, r"edges\['weight'\] holds nan at \(10,\)"),
        (EDGES, {"layer": 3}, "layer is 3, but 4 to 5 was expected"),
        (EDGES, {"head": 2}, "head is 2, but 1 to 3 was expected"),
    ],
)
def test_head_by_head_refuses(still, edges, kwargs, message):
    with pytest.raises(ValueError, match=rf"^head_by_head: .*{message}"):
        make_heads(still, edges=edges, **kwargs)


def test_a_wide_row_does_not_overflow(still):
    assert Page(make_row(still, scores=[1e308, -1e308], length=2).html).one("b")[1] == "ID 1 absolute, 1 relative"


def test_a_constant_target_has_room(still):
    frames = {0: ([0, 3], [0, 0])}
    assert "nan" not in interactive.film([0, 1, 3], [0, 0, 0], frames, bins=[0, 1], label="", still=still).html


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s, p: interactive.hover_mosaic(3, label=""), TypeError, "hover_mosaic: partition is 3, but"),
        (lambda s, p: interactive.hover_mosaic(p, label=b""), TypeError, "hover_mosaic: label is b'', but a text"),
        (lambda s, p: interactive.recut_mosaic(3, p.network, label=""), TypeError, "recut_mosaic: partition is 3, but"),
        (lambda s, p: interactive.recut_mosaic(p, 3, label=""), TypeError, "recut_mosaic: network is 3, but a ReluN"),
        (lambda s, p: make_recut(still=3), TypeError, "recut_mosaic: still is 3, but a matplotlib Figure"),
        (lambda s, p: make_row(3), TypeError, "one_row: still is 3, but a matplotlib Figure"),
        (lambda s, p: make_row(s, label="\ud800"), ValueError, "one_row: label holds '.*', but whole characters"),
        (lambda s, p: make_film(s, frames={0: 3}), TypeError, "film: frames is {0: 3}, but a mapping of steps"),
        (
            lambda s, p: make_film(s, frames={0: ([0, "a"], [0, 1])}),
            TypeError,
            r"film: frames\[0\] is .*, but an array",
        ),
        (lambda s, p: make_film(s, bins=[0, np.inf]), ValueError, r"film: bins holds inf at \(1,\), but finite"),
        (lambda s, p: make_film(s, label=3), TypeError, "film: label is 3, but a text"),
        (lambda s, p: make_steps(s, start=2), ValueError, "by_threshold: start is 2, but 0 to 1 was"),
        (
            lambda s, p: make_steps(s, a=[[1, 2], [3, -1]]),
            ValueError,
            "by_threshold: counts hold -1, but numbers of at",
        ),
        (
            lambda s, p: make_steps(s, a=[[1, 2], [3, "x"]]),
            TypeError,
            r"by_threshold: counts\['a'\] is .*, but an array",
        ),
        (lambda s, p: make_heads(s, tokens=3), TypeError, "head_by_head: tokens is 3, but a sequence of texts"),
        (lambda s, p: make_heads(s, tokens=["a", "\ud800", "c"]), ValueError, "head_by_head: tokens holds"),
        (lambda s, p: make_heads(s, edges={}), TypeError, "head_by_head: edges is {}, but a DataFrame"),
        (
            lambda s, p: make_heads(s, edges=EDGES.astype({"query": float})),
            TypeError,
            "head_by_head: edges has other t",
        ),
        (lambda s, p: make_heads(s, edges=EDGES.assign(weight="a")), TypeError, r"head_by_head: edges\['weight'\] is"),
        (lambda s, p: make_heads(s, layer=4.0), TypeError, "head_by_head: layer is 4.0, but an integer"),
    ],
)
def test_what_cannot_be_shown_is_named(partition, still, call, error, message):
    with pytest.raises(error, match=f"^{message}") as info:
        call(still, partition)
    assert "\n" not in str(info.value)
