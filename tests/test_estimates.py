"""Tables of estimates: made, judged and shown; what a table says is what its rows say."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geolib.estimates import Estimate, by_layer, estimate_of, finding, spread, tidy
from geolib.statements import Statement, show, true_minus

ENDS = st.floats(-5, 5)


def test_tidy_of_a_mapping_in_a_mapping_is_that_of_pairs():
    one, other = Estimate(1, 0, 2, 5), Estimate(3, 2, 4, 6, null=1.0)
    nested = tidy({"a": {"p": one}, "b": {"p": other}}, "panel", "reading")
    pd.testing.assert_frame_equal(nested, tidy({("a", "p"): one, ("b", "p"): other}, "panel", "reading"))
    assert list(nested) == ["panel", "reading", "estimate", "low", "high", "n", "null"]
    assert nested.iloc[1].tolist() == ["b", "p", 3, 2, 4, 6, 1]
    assert list(tidy({"p": one}, "reading")["reading"]) == ["p"]
    assert len(tidy({}, "reading")) == 0


ONE = Estimate(1, 0, 2, 5)


@pytest.mark.parametrize(
    ("found", "names", "given"),
    [
        (
            {"a": ONE, "b": {"p": ONE}},
            ("panel",),
            "{'p': Estimate(value=1, low=0, high=2, n=5, null=0.0)} under ('b',)",
        ),
        ({"a": {"p": {"q": ONE}}}, ("panel", "reading"), "under ('a', 'p')"),
        ({"ab": ONE}, ("panel", "reading"), "under ab"),  # not a row of "a" and "b"
        ({("a", "p"): ONE}, ("panel", "reading", "n"), "under ('a', 'p')"),
        ({"a": 0.5}, ("reading",), "0.5 under ('a',)"),
    ],
)
def test_no_row_is_made_of_what_is_no_estimate_under_its_names(found, names, given):
    with pytest.raises(
        TypeError, match=rf"^tidy: found has .*{re.escape(given)}, but an Estimate under \('panel|reading"
    ):
        tidy(found, *names)


@given(ENDS, ENDS, st.sampled_from([1, 0, -1]), st.floats(0, 2))
def test_a_table_is_judged_row_by_row(one, other, claimed, smallest):
    low, high = sorted((one, other))
    e = Estimate((low + high) / 2, low, high, 9)
    table = tidy({"a": e, "b": Estimate(np.nan, np.nan, np.nan, 0)}, "of")
    judged = finding(table, claimed, smallest)
    assert judged["verdict"].tolist() == [finding(e, claimed, smallest), "undecided"]
    assert finding(judged.iloc[0], claimed, smallest) == judged["verdict"][0]
    assert list(table) == list(judged)[:-1], "the table that was given is as it was"


def test_a_null_that_is_not_0_is_read_off_the_row():
    ratio = tidy({"odds": Estimate(1.4, 1.1, 1.9, 50, null=1.0)}, "of")
    assert finding(ratio, 1)["verdict"].tolist() == ["agrees"]
    assert finding(ratio.assign(null=2.0), 1)["verdict"].tolist() == ["disagrees"]


@pytest.mark.parametrize(
    "given",
    [0.3, None, "agrees", {"low": 0, "high": 1}, Estimate(0.3, None, 0.5, 9), pd.Series({"low": 0.1, "high": pd.NA})],
)
def test_what_is_no_estimate(given):
    with pytest.raises(TypeError, match=r"^finding: estimate is .*, but an Estimate or rows of them were expected$"):
        finding(given, 1)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=9), st.lists(st.floats(-100, 100), min_size=1, max_size=9))
def test_spread_is_the_quantiles_of_each_group(one, other):
    table = pd.DataFrame({"kind": ["b"] * len(one) + ["a"] * len(other), "value": one + other})
    found = spread(table, "value", "kind", ends=(0.25, 0.75))
    assert found["kind"].tolist() == ["b", "a"], "in the order of the table"
    for row, values in zip(found.itertuples(), (one, other), strict=True):
        np.testing.assert_allclose([row.low, row.estimate, row.high], np.quantile(values, [0.25, 0.5, 0.75]))
        assert row.n == len(values)


def test_a_row_without_a_value_is_not_counted():
    table = pd.DataFrame({"depth": [1, 1, 1, 2], "regions": [5, np.nan, 12, np.nan]})
    found = spread(table, "regions", "depth")
    assert found.iloc[0].tolist() == [1, 8.5, 5, 12, 2]
    assert (found["n"][1], found["estimate"].isna()[1]) == (0, True)
    for ends in ((1, 0), (-0.1, 1), (0, 1.1), (0, np.nan)):
        with pytest.raises(ValueError, match=r"^spread: ends is .*, but two quantiles from 0 to 1, in order, were"):
            spread(table, "regions", "depth", ends=ends)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-0.08 [-0.15, +0.01]", "−0.08 [−0.15, +0.01]"),
        ("from -3 to -.5", "from −3 to −.5"),
        ("2026-11-28, 3-4, k-1", "2026-11-28, 3-4, k-1"),
        ("`x[-1]` is -1", "`x[-1]` is −1"),
        ("a - b, well-known", "a - b, well-known"),
    ],
)
def test_true_minus(text, shown):
    assert true_minus(text) == shown
    assert Statement(text)._repr_markdown_() == shown
    assert str(Statement(text)) == text


def cells(table, **settings):
    shown = show(table, **settings)
    return [list(shown.cells), *shown.cells.to_numpy().tolist()]


def test_estimates_have_the_digits_that_their_intervals_carry():
    table = tidy({"a": Estimate(0.1234, 0.0312, 0.2156, 300)}, "reading")
    assert cells(table) == [["reading", "estimate [95 % interval]", "n"], ["a", "+0.12 [+0.03, +0.22]", "300"]]
    assert cells(table * [1, 100, 100, 100, 1, 1])[1][1] == "+12 [+3, +22]"
    assert cells(table, digits={"estimate": 3})[1][1] == "+0.123 [+0.031, +0.216]"
    nothing = tidy({"a": Estimate(np.nan, np.nan, np.nan, 0), "b": Estimate(1, 0.5, 1.5, 3)}, "reading")
    assert [row[1] for row in cells(nothing)[1:]] == ["", "+1.0 [+0.5, +1.5]"]


def test_what_is_missing_is_empty_and_what_is_infinite_is_said():
    numbers = pd.DataFrame({"x": [1.25, np.inf, -np.inf, np.nan, -0.01]})
    assert [row[0] for row in cells(numbers)[1:]] == ["1.2", "inf", "−inf", "", "0.0"]
    assert '<td style="text-align: left' not in show(numbers)._repr_html_(), "all are numbers"
    absent = pd.DataFrame({"whole": pd.array([1, None], "Int64"), "x": pd.array([1.25, None], "Float64")})
    absent = absent.assign(
        word=pd.Categorical(["a", None]), any=pd.Series(["a", pd.NA], dtype=object), none=["a", None]
    )
    assert cells(absent)[1:] == [["1", "1.2", "a", "a", "a"], [""] * 5]
    for dtype in (object, "Float64"):
        ends = pd.DataFrame({"estimate": [1, 2, None], "low": [None, 1, None], "high": [2, 3, None]}).astype(dtype)
        assert cells(ends)[1:] == [["+1.0 [nan, +2.0]"], ["+2.0 [+1.0, +3.0]"], [""]]
    wide = pd.DataFrame({"x": [Estimate(1, -np.inf, 2, 3), Estimate(1, 0.5, 1.5, 3)]})
    assert cells(wide)[1:] == [["+1.0 [−inf, +2.0]"], ["+1.0 [+0.5, +1.5]"]]


@pytest.mark.parametrize("digits", [-1, 1.5, True, "2"])
def test_digits_are_a_whole_number(digits):
    for column in ([1.5], [Estimate(1, 0.5, 1.5, 3)]):
        for wanted in (digits, {"x": digits}):
            with pytest.raises((TypeError, ValueError), match=r"^show: digits is .*, but .* expected$"):
                show(pd.DataFrame({"x": column}), digits=wanted)


@pytest.mark.parametrize("table", [[1, 2], {"a": 1}, np.eye(2), 3, None])
def test_only_a_table_is_shown(table):
    with pytest.raises(TypeError, match=r"^show: table is .*, but a DataFrame or a Series was expected$"):
        show(table)


def test_a_ratio_is_shown_without_a_sign():
    assert cells(tidy({"a": Estimate(1.4, 1.1, 1.9, 50, null=1.0)}, "of"))[1][1] == "1.4 [1.1, 1.9]"


@pytest.mark.parametrize("name", ["estimate", "share"])
def test_a_column_that_holds_no_number_is_empty(name):
    table = pd.DataFrame({"of": ["a", "b"], name: np.nan, "low": np.nan, "high": np.nan})
    assert {row[1] for row in cells(table)[1:]} == {""}


@given(ENDS, ENDS, st.integers(0, 99), st.sampled_from([0.0, 1.0]))
def test_a_row_is_the_estimate_that_it_was_made_of(one, other, n, null):
    e = Estimate((one + other) / 2, min(one, other), max(one, other), n, null)
    (row,) = tidy({"a": e}, "of").itertuples()
    assert estimate_of(row) == e


def test_estimates_side_by_side_have_the_digits_of_their_column():
    near, far = Estimate(0.1234, 0.0312, 0.2156, 300), Estimate(-12.34, -30.1, 5.2, 9)
    table = pd.DataFrame({"first": {"a": near, "b": np.nan}, "last": {"a": far, "b": "none"}})
    assert cells(table)[1] == ["a", "+0.12 [+0.03, +0.22]", "−12 [−30, +5]"]
    assert cells(table, digits=1)[1][2] == "−12.3 [−30.1, +5.2]"
    assert cells(table, digits={"last": 1})[1][1:] == ["+0.12 [+0.03, +0.22]", "−12.3 [−30.1, +5.2]"]
    assert cells(table)[2][2] == "none"
    unknown = Estimate(np.nan, np.nan, np.nan, 0)
    assert cells(pd.DataFrame({"first": [near, unknown]}))[2] == [""]
    fine = Estimate(0.0812, 0.071, 0.091, 9)  # one that is not known takes no digits from the others
    assert cells(pd.DataFrame({"first": [fine, unknown]}))[1:] == [["+0.081 [+0.071, +0.091]"], [""]]
    assert cells(pd.DataFrame({"first": [unknown]}))[1] == [""]


def test_the_lines_of_a_text_stay_lines():
    """A backslash and an n, as in formulas, stay what they are."""
    page = show(pd.DataFrame({"answer": ["one\n\ntwo", r"\nabla"]}))._repr_html_()
    assert ">one<br><br>two</td>" in page
    assert r">\nabla</td>" in page


def test_numbers_end_at_the_right_and_texts_begin_at_the_left():
    near = Estimate(-0.08, -0.15, 0.01, 90)
    table = pd.DataFrame({"n": [1, 20_000], "share": ["48 %", "+3"], "word": ["48", "a"], "effect": [near, near]})
    page = show(table)._repr_html_()
    sides = re.findall(r'<t([hd])(?: style="text-align: (left|right)")?>', page)
    row = [("d", "right"), ("d", "right"), ("d", "left"), ("d", "right")]
    assert sides == [("h", "right"), ("h", "right"), ("h", ""), ("h", "right"), *row, *row]
    assert show(pd.DataFrame({"answer": []}, dtype=object))._repr_html_().count("<td") == 0


def test_values_over_the_layers_count_them_from_1():
    table = by_layer({("A", 1): np.array([5, 7]), ("B", 1): np.array([6, 8])}, "rule", "shots")
    assert table.columns.tolist() == ["layer", "rule", "shots", "estimate"]
    assert table.to_numpy().tolist() == [[1, "A", 1, 5], [2, "A", 1, 7], [1, "B", 1, 6], [2, "B", 1, 8]]
    assert by_layer({"A": [5]}, "rule").to_numpy().tolist() == [[1, "A", 5]]
    numbered = {"A": pd.Series([5, 7], index=[1, 2]), "B": pd.Series([6, 8], index=[1, 0])}  # places count, no index
    assert by_layer(numbered, "rule").to_numpy().tolist() == [[1, "A", 5], [2, "A", 7], [1, "B", 6], [2, "B", 8]]


def test_other_numbers_and_headings():
    table = pd.DataFrame({"share": [0.123, -0.0456, np.nan], "tokens": [1234.0, 5, 6], "kind": ["<b>", "b", "c"]})
    assert cells(table) == [
        ["share", "tokens", "kind"],
        ["0.12", "1,234", "<b>"],
        ["−0.05", "5", "b"],
        ["", "6", "c"],
    ]
    page = show(table, "of a < b")._repr_html_()
    assert "<caption>of a &lt; b</caption>" in page
    assert "<b>" not in page
    by_rule = pd.DataFrame([[1.5, 2]], index=pd.Index([3], name="layer"), columns=[("p", "r"), ("p", "s")])
    by_rule.columns = pd.MultiIndex.from_tuples(by_rule.columns)
    assert cells(by_rule) == [["layer", "p, r", "p, s"], ["3", "1.5", "2"]]
    assert cells(pd.Series([1, 2], index=["a", "b"], name="n")) == [["", "n"], ["a", "1"], ["b", "2"]]
    assert cells(table, digits=1)[1] == ["0.1", "1,234.0", "<b>"]
