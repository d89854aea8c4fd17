"""Figures: what is drawn is what was given, once, in the house's look, and pyplot is left as it was."""

import base64
import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
import seaborn.objects as so

from geolib import figures
from geolib.estimates import Estimate, by_layer, tidy
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


@pytest.mark.parametrize("n", [1, 4, 5, 7, 8, 9, 30])
def test_one_neuron_more_is_another_colour(n):
    lines = ReluNetwork([np.tile([1, 0], (n, 1))], [-np.arange(n) / n])
    colors = figures.region_colors(plane_partition(lines, ((-1, 1), (-1, 1))))
    assert len(colors) == n + 1
    assert np.abs(np.diff(colors, axis=0)).max(axis=1).min() > 0.05


def test_one_region_has_a_colour_too():
    partition = plane_partition(ReluNetwork([np.zeros((1, 2))], [np.ones(1)]), ((-1, 1), (-1, 1)))
    assert len(figures.mosaic({"dead": partition}).axes[0].collections) == 1


def test_attention_graph_has_an_arc_for_each_edge_and_a_ring_for_each_loop():
    edges = pd.DataFrame({"query": [0, 1, 2, 2], "key": [0, 0, 0, 2], "weight": [1.0, 0.9, 0.6, 0.3]})
    (ax,) = figures.attention_graph(["a", "$5", "c"], edges).axes
    spans = sorted((patch.center[0], patch.width) for patch in ax.patches)
    assert spans == [(0.5, 1), (1.0, 2)]
    rings = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert sorted(rings) == [0, 2]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", r"\$5", "c"]


@pytest.fixture
def table():
    """Two panels of two lines with ends, and a reference in the first."""
    rows = [
        (panel, line, x, value, value - 1, value + 1)
        for panel in "ab"
        for line, values in (("p", (3, 4)), ("q", (5, 6)))
        for x, value in zip((1, 2), values, strict=True)
    ]
    rows += [("a", "bound", 1, 9, np.nan, np.nan), ("a", "bound", 2, 99, np.nan, np.nan)]
    return pd.DataFrame(rows, columns=["panel", "line", "x", "estimate", "low", "high"])


def named(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def drawn_lines(ax):
    return [line for line in ax.lines if len(line.get_xdata())]


def test_lines_in_bands_and_a_reference(table):
    figure = figures.lines(table, x="x", color="line", panel="panel", xlabel="n", ylabel="m", log="xy")
    left, right = figure.axes
    assert [ax.get_title(loc="left") for ax in (left, right)] == ["a", "b"]
    assert [line.get_ydata().tolist() for line in drawn_lines(left)] == [[3, 4], [5, 6], [9, 99]]
    inks = [mpl.colors.to_hex(line.get_color()).upper() for line in drawn_lines(left)]
    assert inks == [*figures.PALETTE[2:4], figures.PALETTE[-1]], "the reference is grey"
    assert [line.get_ydata().tolist() for line in drawn_lines(right)] == [[3, 4], [5, 6]]
    bands = [{tuple(corner) for corner in path.vertices} for band in left.patches for path in [band.get_path()]]
    assert bands == [{(1, 2), (1, 4), (2, 3), (2, 5)}, {(1, 4), (1, 6), (2, 5), (2, 7)}]
    assert named(figure) == ["p", "q", "bound"]
    assert (right.get_xscale(), right.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in right.get_xticklabels()] == ["1", "2"]
    assert {ax.get_xlabel() for ax in (left, right)} == {"n"}
    assert left.get_ylabel() == "m"


def test_lines_without_ends_are_lines_all_the_same(table):
    one = table[table["panel"] == "b"].drop(columns=["low", "high"])
    figure = figures.lines(one, x="x", color="line", xlabel="n", ylabel="m")
    (ax,) = figure.axes
    assert [line.get_ydata().tolist() for line in drawn_lines(ax)] == [[3, 4], [5, 6]]
    assert not ax.patches
    assert named(figure) == ["p", "q"]
    alone = figures.lines(one[one["line"] == "p"], x="x", xlabel="n", ylabel="m")
    assert alone.legends == []
    assert len(drawn_lines(alone.axes[0])) == 1


def test_a_gap_in_a_line_is_no_reference(table):
    one = table[table["panel"] == "b"].drop(columns=["low", "high"]).reset_index(drop=True)
    one.loc[1, "estimate"] = np.nan
    (ax,) = figures.lines(one, x="x", color="line", xlabel="n", ylabel="m").axes
    inks = [mpl.colors.to_hex(line.get_color()).upper() for line in drawn_lines(ax)]
    assert inks == list(figures.PALETTE[2:4])


def test_numbers_name_lines_too(table):
    """Not a gradient: each has its colour."""
    figure = figures.lines(table.assign(line=table["line"].map({"p": 8, "q": 1, "bound": 2})), x="x", color="line",
                           panel="panel", xlabel="n", ylabel="m")  # fmt: skip
    assert named(figure) == ["8", "1", "2"]
    colors = [line.get_color() for line in drawn_lines(figure.axes[1])]
    assert [mpl.colors.to_hex(color).upper() for color in colors] == list(figures.PALETTE[2:4])


@pytest.mark.parametrize(
    ("names", "inks"),
    [("absolute rule,relative rule", (0, 1)), ("p,q", (2, 3)), ("p", (0,)), ("a,b,c,d,e,f", (2, 3, 4, 0, 1, 5))],
)
def test_blue_and_orange_are_the_rules(table, names, inks):
    each = pd.concat([table[table["line"] == "p"].assign(line=name) for name in names.split(",")])
    lines = drawn_lines(draw("lines", each).axes[0])
    assert [mpl.colors.to_hex(line.get_color()).upper() for line in lines] == [figures.PALETTE[i] for i in inks]


def test_full_markers_where_it_is_true():
    profile = pd.DataFrame({"layer": [0, 1, 2], "estimate": [0.1, 0.4, -0.1], "low": [0, 0.3, -0.2]})
    profile = profile.assign(high=profile["low"] + 0.2, survives=[False, True, False])
    labels = {"xlabel": "layer", "ylabel": "rank correlation"}
    (ax,) = figures.lines(profile, x="layer", fill="survives", null=0, **labels).axes
    (dots,) = (one for one in ax.collections if len(one.get_offsets()) == 3)
    assert dots.get_offsets().tolist() == [[0, 0.1], [1, 0.4], [2, -0.1]]
    assert (dots.get_facecolors()[:, 3] > 0).tolist() == [False, True, False]
    assert [line.get_ydata() for line in ax.lines if line.get_linestyle() == "--" and len(line.get_ydata()) == 2] == [
        [0, 0]
    ]


def test_values_over_the_layers():
    ids = {("rule", "a"): [5, 6, 7], ("rule", "b"): [1, 2, 3]}
    figure = figures.lines(by_layer(ids, "panel", "line"), x="layer", color="line", panel="panel", xlabel="", ylabel="")
    (ax,) = figure.axes
    assert [line.get_xdata().tolist() for line in drawn_lines(ax)] == [[1, 2, 3]] * 2
    assert [line.get_ydata().tolist() for line in drawn_lines(ax)] == [[5, 6, 7], [1, 2, 3]]
    assert (named(figure), ax.get_title(loc="left")) == (["a", "b"], "rule")


def test_points_and_the_curves_that_bound_them():
    table = pd.DataFrame({"panel": ["a", "b"], "line": ["g", "h"], "x": [1, 3], "y": [2, 4]})
    curve = pd.DataFrame({"panel": "a", "line": "c", "x": [1, 9], "y": [2, 3]})
    draw = {"x": "x", "y": "y", "color": "line", "panel": "panel", "xlabel": "", "ylabel": "", "log": "y"}
    figure = figures.points(table, curves=curve, **draw)
    left, right = figure.axes
    assert [(line.get_linestyle(), line.get_xdata().tolist()) for line in drawn_lines(left)] == [("--", [1, 9])]
    assert not drawn_lines(right)
    assert [ax.collections[0].get_offsets().tolist() for ax in (left, right)] == [[[1, 2]], [[3, 4]]]
    assert named(figure) == ["g", "h", "c"]
    assert {ax.get_yscale() for ax in (left, right)} == {"log"}
    everywhere = figures.points(table, curves=curve.drop(columns="panel"), **draw)
    assert [len(drawn_lines(ax)) for ax in everywhere.axes] == [1, 1]
    assert named(figures.points(table, **draw)) == ["g", "h"]


def test_points_without_names():
    figure = figures.points(pd.DataFrame({"x": [1, 2], "y": [3, 4]}), x="x", y="y", xlabel="a", ylabel="b")
    (ax,) = figure.axes
    assert ax.collections[0].get_offsets().tolist() == [[1, 3], [2, 4]]
    assert (ax.get_xlabel(), ax.get_ylabel(), figure.legends) == ("a", "b", [])


def test_heat_maps_have_one_scale_and_one_bar():
    one = pd.DataFrame([[1, 2], [3, 400]], index=["p", "q"], columns=["r", "s"])
    figure = figures.heat_maps({"a": one, "b": 2 * one}, label="n", annot=True, norm=mpl.colors.LogNorm(1, 800))
    left, right, bar = figure.axes
    assert [ax.get_title(loc="left") for ax in (left, right)] == ["a", "b"]
    assert [text.get_text() for text in right.texts] == ["2", "4", "6", "800"]
    assert [text.get_text() for text in left.get_yticklabels()] == ["p", "q"]
    assert left.collections[0].get_clim() == right.collections[0].get_clim() == (1, 800)
    assert bar.get_xlabel() == "n"
    assert "100" in [text.get_text() for text in bar.get_xticklabels()]


@pytest.mark.parametrize(("n", "n_rows", "named"), [(2, 1, "01"), (3, 1, "012"), (4, 2, "23"), (5, 3, "34")])
def test_panels_wrap(table, n, n_rows, named):
    """Two in a row, or three if there are three; the lowest panel of each column has its axis and its ticks named."""
    each = pd.concat([table[table["panel"] == "b"].assign(panel=str(i)) for i in range(n)])
    draw = {"x": "x", "color": "line", "panel": "panel", "xlabel": "n", "ylabel": "m"}
    drawn = figures.lines(each, share=True, height=2, **draw)
    empty, axes = figures.panels(n, height=2, sharex=True)
    plt.close(empty)
    assert axes.shape == (n,)
    assert [ax.get_title("left") for ax in drawn.axes if ax.xaxis.label.get_visible()] == list(named)
    assert [str(i) for i, ax in enumerate(axes) if ax.xaxis.get_tick_params()["labelbottom"]] == list(named)
    for figure in (drawn, empty):
        assert figure.get_size_inches().tolist() == [7, 2 * n_rows]
        assert figure.axes[0].get_gridspec().nrows == n_rows


def text_sizes(figure):
    figure.draw_without_rendering()
    return {text.get_fontsize() for text in figure.findobj(mpl.text.Text) if text.get_visible() and text.get_text()}


def test_text_can_be_read_on_a_telephone(table):
    """There 7 inches are 358 pixels: of the 390 of the screen, the page leaves 16 at each side."""
    found = {"a": {"p": Estimate(1.5, 1.0, 3.0, 40)}}
    binned = pd.DataFrame({"change": [-1.0], "n": [10], "estimate": [0.2], "low": [0.1], "high": [0.4]})
    edges = pd.DataFrame({"query": [0, 1], "key": [0, 0], "weight": [1.0, 0.9]})
    three = dict.fromkeys("abc", found["a"])
    for figure in (
        figures.lines(table, x="x", color="line", panel="panel", xlabel="n", ylabel="m"),
        figures.estimates(tidy(three, "panel", "reading"), xlabel="x"),
        figures.share_by_change(binned),
        figures.attention_graph(["a"] * 36, edges),
    ):
        assert min(text_sizes(figure)) * 358 / (7 * 72) > 6.8


def test_names_that_fill_a_line_stand_in_two(table):
    """The legend is no wider than the axes, or everything beside it would become smaller."""
    names = [f"a long name of a line, number {i}" for i in range(4)]
    many = pd.concat([table[table["line"] == "p"].assign(line=name) for name in names])
    figure = figures.lines(many, x="x", color="line", xlabel="n", ylabel="m")
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().width <= figure.bbox.width


def test_long_titles_and_labels_break_where_panels_stand_side_by_side(table):
    long = "a title of some forty letters and no less"
    draw = {"x": "x", "color": "line", "panel": "panel", "xlabel": long, "ylabel": "m"}
    for titled, broken in ((table.replace({"panel": {"a": long}}), True), (table.assign(panel=long)[:4], False)):
        ax = figures.lines(titled, **draw).axes[0]
        assert ("\n" in ax.get_title(loc="left"), "\n" in ax.get_xlabel()) == (broken, broken)


def test_a_colour_that_is_none():
    with pytest.raises(ValueError, match=r"^ink: name is 'pink', but 'blue' or .* was expected$"):
        figures.ink("pink")


def test_estimates_with_their_counts():
    nothing = Estimate(np.nan, np.nan, np.nan, 0, null=1.0)
    found = {"a": {"p": Estimate(1.5, 1.0, 3.0, 40, null=1.0), "q": nothing}, "b": {"r": Estimate(0.2, -0.1, 0.4, 9)}}
    left, right = figures.estimates(tidy(found, "panel", "reading"), xlabel="x").axes
    written = [[label.get_text().replace("\xa0", " ") for label in ax.get_yticklabels()] for ax in (left, right)]
    assert written == [["p, n = 40", "q, n = 0"], ["r, n = 9"]]
    assert left.get_xlabel() == "x"
    assert left.get_xlim() == right.get_xlim(), "one unit, one scale"
    for ax, null, value, ends in ((left, 1, 1.5, (1.0, 3.0)), (right, 0, 0.2, (-0.1, 0.4))):
        (line,) = (one for one in ax.lines if one.get_linestyle() == "--")
        assert line.get_xdata() == [null, null]
        assert tuple(ax.collections[0].get_segments()[0][:, 0]) == ends
        assert ax.collections[1].get_offsets()[0].tolist() == [value, 0]
        assert ax.yaxis_inverted()
    twice = pd.concat([tidy({"p": Estimate(value, value, value, 1200)}, "reading") for value in (1.0, 2.0)])
    (ax,) = figures.estimates(twice, xlabel="points").axes
    assert ax.collections[1].get_offsets().tolist() == [[1, 0], [2, 1]], "two rows of one name are two rows"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["p", "p"]
    assert ax.get_xlabel().replace("\xa0", " ") == "points, n = 1,200"


def test_share_by_change():
    binned = pd.DataFrame({"change": [-1.0, 2.0], "n": [10, 20], "estimate": [0.2, 0.5]})
    binned = binned.assign(low=[0.1, 0.3], high=[0.4, 0.7])
    both = pd.concat([binned.assign(panel="a"), binned.assign(panel="b")])
    left, right = figures.share_by_change(both, baseline=0.4).axes
    for ax, title in ((left, "a"), (right, "b")):
        assert ax.get_title(loc="left") == title
        assert [text.get_text() for text in ax.texts] == ["10", "20"]
        lines, dots = ax.collections
        assert dots.get_offsets().tolist() == [[-1, 0.2], [2, 0.5]]
        assert [segment[:, 1].tolist() for segment in lines.get_segments()] == [[0.1, 0.4], [0.3, 0.7]]
        assert ax.get_ylim() == (0, 0.7)  # with room for the counts below the lowest interval
    assert len(figures.share_by_change(binned).axes) == 1
    (ax,) = figures.share_by_change(binned.assign(low=0.96, high=0.98)).axes
    assert ax.get_ylim() == (0.8, 1)


def test_layers_are_counted_from_one_and_counts_are_whole():
    ids = {"a": np.tile([10, 28, 13], 10)}
    (ax,) = figures.lines(by_layer(ids, "line"), x="layer", color="line", xlabel="", ylabel="").axes
    assert ax.get_xticks().tolist() == [1, 5, 10, 15, 20, 25, 30]
    assert not (ax.get_yticks() % 1).any()


def ground(image):
    return mpl.colors.to_hex(mpl.image.imread(io.BytesIO(image))[0, 0, :3])


@pytest.mark.whole
def test_a_notebook_gets_a_figure_on_a_dark_ground_too(monkeypatch, table):
    """The same drawing: the ground and the inks differ, and what was returned keeps those of the light one."""
    draw = {"x": "x", "color": "line", "panel": "panel", "xlabel": "x", "ylabel": "y"}
    monkeypatch.delenv("GEOLIB_DARK", raising=False)
    assert not hasattr(figures.lines(table, **draw), "_repr_mimebundle_")
    monkeypatch.setenv("GEOLIB_DARK", "1")
    figure = figures.lines(table, **draw)
    shown = figure._repr_mimebundle_(include=None, exclude=None)
    light, dark = shown["image/svg+xml"], shown[figures.DARK + "svg"]
    assert "#ffffff" in light
    assert "#121212" in dark
    assert "#121212" not in light
    assert len(light.splitlines()) == len(dark.splitlines())
    again = figures.lines(table, **draw)._repr_mimebundle_()
    assert again == shown, "the same figure is the same file"
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert ground(file.getvalue()) == "#ffffff"


def test_many_marks_are_pixels(monkeypatch):
    monkeypatch.setenv("GEOLIB_DARK", "1")
    many = pd.DataFrame({"x": np.arange(3000), "y": np.arange(3000)})
    shown = figures.draw(so.Plot(many, x="x", y="y").add(so.Dots()))._repr_mimebundle_()
    assert list(shown) == [figures.DARK + "png"]
    assert ground(base64.b64decode(shown[figures.DARK + "png"])) == "#121212"


def test_a_chapter_draws_with_seaborn():
    heights = figures.drawn(lambda data: sns.barplot(data, x="name", y="height"))
    figure = heights(pd.DataFrame({"name": ["a", "b"], "height": [1, 2]}))
    assert [bar.get_height() for bar in figure.axes[0].patches] == [1, 2]
    assert not figure.axes[0].spines["top"].get_visible()


def draw(name, table, **given):
    """Call a function of this name with what it needs."""
    labels = {"xlabel": "", "ylabel": ""}
    needed = {
        "lines": {"x": "x", "color": "line"} | labels,
        "points": {"x": "x", "y": "estimate", "color": "line"} | labels,
        "estimates": {"of": "line", "xlabel": ""},
        "share_by_change": {},
    }
    return getattr(figures, name)(
        table.assign(n=9, null=0, change=table.get("x")), **{"panel": "panel"} | needed[name] | given
    )


def unknown(role):
    return rf" has columns panel, line, x, estimate, .*, but 'no' \({role}\) was expected once among them$"


@pytest.mark.parametrize(
    ("names", "spoil", "given", "said"),
    [
        ("lines points estimates share_by_change", {}, {"panel": "no"}, unknown("panel")),
        ("lines points", {}, {"color": "no"}, unknown("color")),
        ("lines points", {}, {"x": "no"}, unknown("x")),
        ("estimates", {}, {"of": "no"}, unknown("of")),
        (
            "lines points estimates share_by_change",
            {"panel": None},
            {},
            r": 'panel' \(panel\) is missing in 1 of 10 rows",
        ),
        (
            "lines points estimates",
            {"line": None},
            {},
            r": 'line' \((color|of)\) is missing in 1 of 10 rows, but values",
        ),
        (
            "lines points share_by_change",
            {"x": np.nan},
            {},
            r": '(x|change)' \(x\) is missing in 1 of 10 rows, but values",
        ),
        (
            "lines points share_by_change",
            {"estimate": [np.nan] * 10},
            {},
            r": 'estimate' \(y\) is missing in 10 of 10 rows",
        ),
        (
            "lines points",
            {"line": list("0123456789")},
            {},
            r": number of names for color is \d+, but 0 to 6 was expected$",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_line(table, names, spoil, given, said):
    """And no figure stays open."""
    for column, values in spoil.items():
        rest = table[column][1:].tolist()
        table[column] = values if isinstance(values, list) else [values, *rest]
    for name in names.split():
        with pytest.raises(ValueError, match=rf"^{name}: table{said}") as error:
            draw(name, table, **given)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["lines", "points", "estimates", "share_by_change"])
def test_no_rows_and_one_row(table, name):
    with pytest.raises(ValueError, match=rf"^{name}: table: number of rows is 0, but at least 1 was expected$"):
        draw(name, table[:0])
    assert len(draw(name, table[:1]).axes) == 1


def test_curves_that_would_not_be_seen_are_refused(table):
    curves = pd.concat([table[:2].assign(line=str(i)) for i in range(7)])
    with pytest.raises(ValueError, match=r"^points: curves: number of names for color is 7, but 0 to 6 was expected$"):
        draw("points", table, curves=curves)
    with pytest.raises(ValueError, match=r"^points: curves has panels z, but a, b were expected$"):
        draw("points", table, curves=curves[:2].assign(panel="z"))
    assert named(draw("points", table, curves=curves[:12])) == ["p", "q", "bound", *"012345"]


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ([], "^panels: n is 0, but at least 1 was expected$"),
        ([pd.DataFrame()], r"^heat_maps: tables\[0\] is \(0, 0\), but cells like the first's were expected$"),
        ([pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})], r"^heat_maps: tables\[1\] is \(1, 1\), but cells like"),
    ],
)
def test_heat_maps_of_unlike_tables_are_refused(tables, said):
    with pytest.raises(ValueError, match=said):
        figures.heat_maps(dict(enumerate(tables)), label="")


def marks(figure):
    """What a figure shows: lines, bands, points."""
    return [
        (
            [line.get_xydata().tolist() for line in ax.lines],
            [path.get_path().vertices.tolist() for path in ax.patches],
            [np.ma.filled(dots.get_offsets()).tolist() for dots in ax.collections],
        )
        for ax in figure.axes
    ]


@pytest.mark.parametrize("name", ["lines", "points"])
def test_neither_index_nor_names_of_columns_change_what_is_drawn(table, name):
    table = table[table["line"] != "bound"]
    usual = marks(draw(name, table))
    assert marks(draw(name, table.set_axis([0] * len(table)))) == usual
    assert marks(draw(name, table.assign(panel=pd.Categorical(table["panel"], ["z", "b", "a"])))) == usual
    for other in ("color", "y", "fill"):
        assert marks(draw(name, table.rename(columns={"x": other, "panel": "title"}), x=other, panel="title")) == usual
    one = table[(table["panel"] == "a") & (table["line"] == "p")]
    for other in ("line", "point"):
        alone = draw(name, one.drop(columns="line").rename(columns={"x": other}), x=other, color=None, panel=None)
        assert marks(alone) == marks(draw(name, one))
    assert [ax.get_title("left") for ax in draw(name, table, panel="line").axes] == ["p", "q"]


def test_many_references(table):
    refs = pd.concat([table, *[table[-2:].assign(line=str(i)) for i in range(5)]])
    figure = draw("lines", refs)
    assert named(figure) == ["p", "q", "bound", *"01234"]
    dashed = [str(line._unscaled_dash_pattern) for line in drawn_lines(figure.axes[0])[2:]]
    assert len(set(dashed)) == 6


def test_panels_of_numbers_and_of_categories_stay_with_what_is_written_beside_them():
    table = pd.DataFrame({"change": [0.0, 0.0], "estimate": [0.2, 0.9], "low": [0.1, 0.8], "high": [0.3, 1.0]})
    table = table.assign(n=[30, 10])
    for names in ([3, 1], [True, False], pd.Categorical(["P", "Q"], categories=["Q", "P", "R"])):
        figure = figures.share_by_change(table.assign(panel=names))
        shown = [(ax.get_title("left"), [text.get_text() for text in ax.texts]) for ax in figure.axes]
        assert shown == [(str(name), [count]) for name, count in zip(names, ("30", "10"), strict=True)]


def test_heat_maps_have_one_scale():
    table = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]])
    figure = figures.heat_maps({"A": table, "B": table * 100}, label="l")
    assert [ax.collections[0].get_clim() for ax in figure.axes[:2]] == [(1, 400)] * 2
