"""Figures: what is drawn is what was given, once, in the house's look, and pyplot is left as it was."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from geolib import figures
from geolib.partition import ReluNetwork, plane_partition


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


def test_curves():
    (ax,) = figures.curves(
        np.arange(3), {"a": [1, 10, 100], "b": [2, 20, 200]}, points={"c": ([1], [5])}, xlabel="x", ylabel="y", log=True
    ).axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[1, 10, 100], [2, 20, 200], [5]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "c"]
    assert ax.get_yscale() == "log"


def test_profiles_count_layers_from_one():
    (ax,) = figures.profiles({"rule": {"prompt": [5, 6, 7]}}).axes
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert ax.lines[0].get_ydata().tolist() == [5, 6, 7]


def test_attention_graph_has_an_arc_for_each_edge_and_a_ring_for_each_loop():
    edges = pd.DataFrame({"query": [0, 1, 2, 2], "key": [0, 0, 0, 2], "weight": [1.0, 0.9, 0.6, 0.3]})
    (ax,) = figures.attention_graph(["a", "$5", "c"], edges).axes
    spans = sorted((patch.center[0], patch.width) for patch in ax.patches)
    assert spans == [(0.5, 1), (1.0, 2)]
    rings = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert sorted(rings) == [0, 2]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", r"\$5", "c"]


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
