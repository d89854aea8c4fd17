"""Figures: what is drawn is what was given, once, in the house's look, and pyplot is left as it was."""

import base64
import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from geolib import figures
from geolib.partition import ReluNetwork, plane_partition
from geolib.reasoning import Estimate


@pytest.fixture(autouse=True)
def untouched():
    """No figure stays open, and the reader's own settings are not changed."""
    before = dict(mpl.rcParams)
    yield
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_mosaic_draws_every_region():
    rng = np.random.default_rng(0)
    partition = plane_partition(ReluNetwork([rng.normal(size=(9, 2))], [rng.normal(size=9)]), ((-1, 1), (-1, 1)))
    left, right = figures.mosaic({"a": partition, "b": partition}).axes
    for ax, title in ((left, "a"), (right, "b")):
        (cells,) = ax.collections
        assert len(cells.get_paths()) == partition.n_regions
        assert ax.get_title(loc="left") == title
        assert (*ax.get_xlim(), *ax.get_ylim()) == (-1, 1, -1, 1)


def test_one_region_has_a_colour_too():
    partition = plane_partition(ReluNetwork([np.zeros((1, 2))], [np.ones(1)]), ((-1, 1), (-1, 1)))
    assert len(figures.mosaic({"dead": partition}).axes[0].collections) == 1


def test_a_notebook_gets_a_figure_on_a_dark_ground_too(monkeypatch):
    """The same drawing: the ground and the inks differ, and what was returned keeps those of the light one."""

    def ground(png):
        corner = mpl.image.imread(io.BytesIO(png))[0, 0, :3]
        return mpl.colors.to_hex(corner)

    draw = {"x": [0, 1], "lines": {"a": [0, 1]}, "xlabel": "x", "ylabel": "y"}
    monkeypatch.delenv("GEOLIB_DARK", raising=False)
    assert not hasattr(figures.curves(**draw), "_repr_mimebundle_")
    monkeypatch.setenv("GEOLIB_DARK", "1")
    figure = figures.curves(**draw)
    (data,) = [figure._repr_mimebundle_(include=None, exclude=None)[figures.DARK]]
    assert ground(base64.b64decode(data)) == "#121212"
    light = io.BytesIO()
    figure.savefig(light, format="png")
    assert ground(light.getvalue()) == "#ffffff"
    assert figure.axes[0].lines[0].get_color() == figures.PALETTE[0]


def test_curves():
    (ax,) = figures.curves(
        np.arange(3), {"a": [1, 10, 100], "b": [2, 20, 200]}, points={"c": ([1], [5])}, xlabel="x", ylabel="y", log=True
    ).axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[1, 10, 100], [2, 20, 200], [5]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "c"]
    assert ax.get_yscale() == "log"


def test_profiles_count_layers_from_one():
    for log, scale in ((False, "linear"), (True, "log")):
        (ax,) = figures.profiles({"rule": {"prompt": [5, 6, 7]}}, log=log).axes
        assert ax.lines[0].get_xdata().tolist() == [1, 2, 3]
        assert ax.lines[0].get_ydata().tolist() == [5, 6, 7]
        assert ax.get_yscale() == scale


def test_attention_graph_has_an_arc_for_each_edge_and_a_ring_for_each_loop():
    edges = pd.DataFrame({"query": [0, 1, 2, 2], "key": [0, 0, 0, 2], "weight": [1.0, 0.9, 0.6, 0.3]})
    (ax,) = figures.attention_graph(["a", "$5", "c"], edges).axes
    spans = sorted((patch.center[0], patch.width) for patch in ax.patches)
    assert spans == [(0.5, 1), (1.0, 2)]
    rings = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert sorted(rings) == [0, 2]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", r"\$5", "c"]


def test_points_draw_what_is_given():
    (ax,) = figures.points({"a": ({"g": ([1], [2])}, {"c": ([1, 9], [2, 3])})}, xlabel="x", ylabel="y", log="y").axes
    assert [(line.get_linestyle(), line.get_xdata().tolist()) for line in ax.lines] == [("None", [1]), ("--", [1, 9])]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["g", "c"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "log")


def test_share_by_change():
    binned = pd.DataFrame(
        {"change": [-1.0, 2.0], "n": [10, 20], "share": [0.2, 0.5], "low": [0.1, 0.3], "high": [0.4, 0.7]}
    )
    left, right = figures.share_by_change({"a": binned, "b": binned}, baseline=0.4).axes
    for ax in (left, right):
        assert [text.get_text() for text in ax.texts] == ["10", "20"]
        (points,) = ax.containers
        assert list(points[0].get_ydata()) == [0.2, 0.5]
        ends = [segment[:, 1].tolist() for segment in points[2][0].get_segments()]
        np.testing.assert_allclose(np.array(ends, dtype=float), [[0.1, 0.4], [0.3, 0.7]])


def test_bands_and_references():
    lines = {"bound": ([1, 2], [9, 99]), "runs": ([1, 2], [1, 2], [3, 4], [5, 6])}
    left, right = figures.bands({"a": lines, "b": lines}, xlabel="x", ylabel="y", log="xy").axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[9, 99], [3, 4]]
    assert [line.get_linestyle() for line in left.lines] == ["--", "-"]
    (band,) = right.collections
    assert {tuple(corner) for corner in band.get_paths()[0].vertices} == {(1, 1), (1, 5), (2, 2), (2, 6)}
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["bound", "runs"]
    assert (right.get_xscale(), right.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in right.get_xticklabels()] == ["1", "2"]


def test_estimates_with_their_counts():
    found = {"p": Estimate(1.5, 1.0, 3.0, 40, null=1.0), "q": Estimate(np.nan, np.nan, np.nan, 0, null=1.0)}
    left, right = figures.estimates({"a": found, "b": {"r": Estimate(0.2, -0.1, 0.4, 9)}}, xlabel="x").axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["p", "q"]
    assert [label.get_text() for label in right.get_yticklabels()] == ["r"]
    assert [text.get_text() for text in left.texts] == ["40", "0"]
    for ax, null, value, ends in ((left, 1, 1.5, [1.0, 3.0]), (right, 0, 0.2, [-0.1, 0.4])):
        assert ax.lines[0].get_xdata() == [null, null]
        assert ax.lines[0].get_linestyle() == "--"
        (points,) = ax.containers
        assert points[0].get_xdata()[0] == value
        np.testing.assert_allclose(points[2][0].get_segments()[0][:, 0], ends)
        assert ax.yaxis_inverted()
    (ax,) = figures.estimates({"a": found}, xlabel="odds ratio", log=True).axes
    assert (ax.get_xscale(), ax.get_xlabel()) == ("log", "odds ratio")
    ax.figure.canvas.draw()
    shown = {label.get_text() for label in ax.get_xticklabels()}
    assert {"1", "1.5", "2", "3"} <= shown


def test_by_layer_marks_what_survives():
    table = pd.DataFrame({"layer": [0, 1, 2], "rho": [0.1, 0.4, -0.1], "low": [0, 0.3, -0.2], "high": [0.2, 0.5, 0]})
    some, none = table.assign(survives=[False, True, False]), table.assign(survives=False)
    left, right = figures.by_layer({"a": some, "b": none}).axes
    assert [line.get_xdata().tolist() for line in left.lines[1:]] == [[1, 2, 3], [1, 3], [2]]
    assert left.lines[3].get_ydata().tolist() == [0.4]
    (band,) = left.collections
    assert {tuple(corner) for corner in band.get_paths()[0].vertices} >= {(1, 0), (1, 0.2), (2, 0.3), (3, 0)}
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["survives correction"]
    (alone,) = figures.by_layer({"b": none}).axes
    assert alone.get_legend() is None
