"""The page about a model holds what was measured, loads nothing, and shows what the model said without running it."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from geolib import cli
from geolib.experiments.report import report
from geolib.reasoning import association, id_change

# Pages with figures take seconds each.
pytestmark = pytest.mark.whole
ABOUT = {"model": "a <model>", "questions": "generated"}


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def rows(shots=(0, 1, 3), n=20, layers=4, seed=0, **columns):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame([{"question": q, "shots": k} for k in shots for q in range(n)])
    counts = {f"id_{rule}_0.1": list(rng.integers(1, 30, (len(table), layers))) for rule in ("absolute", "relative")}
    correct = rng.random(len(table)) < 0.5
    return table.assign(
        **{
            "condition": "examples",
            "example_set": 0,
            "correct": correct,
            "strict": correct,
            "redundant": ~correct,
            "kind": np.where(correct, "extraction", "wrong"),
            "prompt_tokens": 50 + 60 * table.shots,
            "response": "It is 3.",
            "sink_share": list(rng.random((len(table), layers))),
            **counts,
            **columns,
        }
    )


@pytest.fixture(scope="module")
def html():
    return report(rows(), ABOUT)


def test_it_loads_nothing_and_holds_the_figures(html):
    page = Page(html)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 2
    assert all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in images)
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import", html)
    assert "20 questions (generated), 60 answers. So few illustrate" in page.text
    assert "So few" not in Page(report(rows(n=100), ABOUT)).text


def test_it_says_what_the_analysis_says(html):
    table, page = rows(), Page(html).text
    for rule in ("absolute", "relative"):
        assert (
            f"{rule} rule, rank correlation at fixed number of examples: {association(id_change(table, rule=rule))}"
            in page
        )
    for shots, group in table.groupby("shots"):
        assert re.search(rf"{shots}\s*20\s*{group.correct.mean():.0%} \[", page)


def test_what_is_said_is_shown_not_run():
    hostile = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ about }}", "a & b"]
    said = " ".join(hostile)
    page = Page(report(rows(response=said, kind=said), {**ABOUT, "model": said, "note": said}))
    assert all(page.text.count(one) >= 4 for one in hostile)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_without_a_change_there_is_no_figure_of_it():
    assert "Is the answer right more often" not in report(rows(shots=(0,)), ABOUT)
    same = {f"id_{rule}_0.1": [np.ones(4, int)] * 60 for rule in ("absolute", "relative")}
    assert "Is the answer right more often" not in report(rows(**same), ABOUT)
    always = rows(correct=True)
    assert "none (" in report(always, ABOUT) or "nan" in report(always, ABOUT)


def test_rows_without_the_bare_question_are_refused():
    with pytest.raises(ValueError, match=r"^report: rows has \[1, 3\] examples, but 0 was expected"):
        report(rows(shots=(1, 3)), ABOUT)


def test_rows_without_the_id_that_is_shown_are_refused():
    other = rows().rename(columns=lambda name: name.replace("_0.1", "_0.05"))
    expected = r"rows have no column 'id_absolute_0.1', but id_absolute_0.05, id_relative_0.05 were recorded$"
    with pytest.raises(ValueError, match=f"^report: {expected}"):
        report(other, ABOUT)
    with pytest.raises(ValueError, match=r"^report: rows have no column 'id_absolute_0.1', but none were recorded$"):
        report(rows().filter(regex="^(?!id_)"), ABOUT)


def test_from_the_shell(tmp_path, capsys):
    out = tmp_path / "page.html"
    command = ["report", "-n", "3", "--shots", "0", "1", "--max-new-tokens", "6", "--out", str(out)]
    cli.main([*command, "--store", str(tmp_path / "store"), "--json"])
    assert json.loads(capsys.readouterr().out) == {"out": str(out), "rows": 6}
    page = Page(out.read_text("utf-8"))
    assert "smollm2-135m" in page.text
    assert "chat template" in page.text
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".html"] == ["page.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shots", "1", "3"], "geolib: report: shots is (1, 3), but 0 was expected among them"),
        (["--out", "."], "geolib: report: out is '.', but a file in an existing folder was expected"),
        (["--out", "none/page.html"], "geolib: report: out is 'none/page.html', but a file in an existing folder"),
    ],
)
def test_what_cannot_be_is_said_before_the_model_is_asked(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", *arguments])
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
