"""Interactive figures: what the page holds is what was given, it asks for nothing, and no text can break out of it."""

import base64
import json
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from geolib import interactive
from geolib.partition import ReluNetwork, plane_partition

VOID = {"input", "rect", "path"}  # elements without content: HTML's own, and those of SVG that we close at once


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
        heads,
        make_steps(still, HOSTILE),
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
        make_steps(still), make_steps(still, "other"),
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
        ({3: ([0, 3], [0, np.nan])}, r"^film: frames\[3\] holds NaN or infinity, but finite numbers were expected$"),
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
        (with_edge(weight=np.nan), {}, r"has a weight outside \(0, 1\]"),
        (EDGES, {"layer": 3}, "layer is 3, but 4 to 5 was expected"),
        (EDGES, {"head": 2}, "head is 2, but 1 to 3 was expected"),
    ],
)
def test_head_by_head_refuses(still, edges, kwargs, message):
    with pytest.raises(ValueError, match=rf"^head_by_head: .*{message}"):
        make_heads(still, edges=edges, **kwargs)
