"""The book's build, on a book of two small notebooks."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from small_book import FIRST, SECOND, lay_out, write

from geolib import estimates, figures, interactive
from tools import check, home, render, stage, theme
from tools import execute as run
from tools.__main__ import main
from tools.toc import BookError

pytestmark = pytest.mark.whole

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path):
    lay_out(tmp_path)
    return tmp_path


def execute(root, jobs=2):
    notebooks = run.find_notebooks(root, "quick")
    return {name.split("/")[1] for name in run.execute(notebooks, root / "book" / "_build", jobs)}


def keys(root, profile="quick"):
    return {notebook.source.stem: notebook.executed.name for notebook in run.find_notebooks(root, profile)}


def command(root, *arguments):
    return [sys.executable, "-m", "tools", "build", "--root", str(root), *arguments]


def test_only_what_changed_is_executed_again(root):
    """And a source that changes while the book is built is named."""
    assert execute(root) == {"first", "second"}
    assert execute(root) == set()
    write(root, second=SECOND.replace("1 + 1", "1 + 2"))
    assert execute(root) == {"second"}
    copies = list((root / "book" / "_build" / "executed").rglob("*.ipynb"))
    assert len(copies) == 2, "an earlier copy is of no use any more"
    first = next(copy for copy in copies if copy.name.startswith("first"))
    printing = run.code_cells(json.loads(first.read_text()))[1]
    output = "".join(printing["outputs"][0]["text"])
    assert output == f"quick [] {os.cpu_count()}\n", "profile, empty folder, every core"
    notebooks = run.find_notebooks(root, "quick")
    write(root, second=SECOND + "\n```{code-cell}\n2 + 2\n```\n")
    with pytest.raises(BookError, match=r"notebooks/second\.md has changed while the book was built"):
        stage.stage(root, notebooks, "quick")


def test_a_failed_cell_stops_the_build_and_keeps_what_succeeded(root, capsys):
    failing = "# Second\n\n```{code-cell}\nx = 1\n```\n\n```{code-cell}\nx = 0\n1 / x\n```\n"
    write(root, first=FIRST.replace("{numref}`fig-one`", "one").replace("{eq}`eq-one`", "one"), second=failing)
    assert main(["build", "--root", str(root), "--jobs", "1"]) == 1
    said = capsys.readouterr().err
    assert (
        "notebooks/second failed: code cell 2 of 2\n\n    x = 0\n    1 / x\n\nZeroDivisionError: division by zero"
        in said
    )
    assert "\x1b" not in said
    assert not (root / "book" / "_build" / "html").exists()
    assert not (root / "book" / "_build" / "stage").exists()
    with pytest.raises(BookError, match="notebooks/second failed"):
        execute(root, jobs=1)  # the first one, which had succeeded, does not run again
    assert "notebooks/first: executing" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ({"outputs": [{"output_type": "error", "ename": "KeyError", "evalue": "\x1b[31m3"}]}, "KeyError: 3"),
        (
            {"outputs": [{"output_type": "stream", "name": "stderr", "text": ["Traceback (most recent call last)"]}]},
            "Traceback",
        ),
        ({"outputs": [{"output_type": "stream", "name": "stderr", "text": ["a.py:1: UserWarning: odd"]}]}, "odd"),
        ({"execution_count": None}, "was not executed"),
        (None, "cannot be read"),
    ],
)
def test_a_copy_that_is_not_whole_and_well_is_never_used(root, cell, problem):
    notebook = run.find_notebooks(root, "quick")[0]
    notebook.executed.parent.mkdir(parents=True)
    good = {"cell_type": "code", "metadata": {}, "source": ["f()"], "execution_count": 1, "outputs": []}
    bar = {"output_type": "stream", "name": "stderr", "text": ["\r 10%|#   |", "\r100%|####|", "\n"]}
    text = run.sealed({"cells": [good | {"outputs": [bar]}], "metadata": {}})
    notebook.executed.write_text(text)
    assert run.read_executed(notebook) is not None, "a progress bar is no problem"
    notebook.executed.write_text(text.replace("100%", "101%"))
    assert run.read_executed(notebook) is None, "a checksum tells"
    text = run.sealed({"cells": [good, good | cell], "metadata": {}}) if cell else '{"cells": [{"cell_ty'
    notebook.executed.write_text(text)
    assert run.read_executed(notebook) is None
    assert problem in run.problem(notebook.executed)


def test_what_a_notebook_depends_on_is_in_its_key(root, monkeypatch):
    before = keys(root)
    assert keys(root) == before
    assert keys(root, "full")["second"] == before["second"], "it takes no parameters"
    assert keys(root, "full")["first"] != before["first"]
    for path in ("geolib/dimension/a.py", "constraints.txt", "book/results/sweep.parquet", "data/gsm8k_zero.jsonl"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("new")
        monkeypatch.setenv("GEOLIB_DATA", str(root / "data"))
        after = keys(root)
        assert all(after[name] != before[name] for name in before), path
        before = after
    write(root, "needs: [notebooks/second]\n", first=FIRST)
    before = keys(root)
    write(root, second=SECOND.replace("True.", "Very true."))
    assert keys(root) == before, "no code has changed"
    write(root, second=SECOND.replace("1 + 1", "1 + 3"))
    assert keys(root)["first"] != before["first"], "what it needs has changed"


def test_other_results_are_in_the_key_and_reach_the_notebook(root, monkeypatch, tmp_path_factory):
    before, other = keys(root), tmp_path_factory.mktemp("other")
    monkeypatch.setenv("GEOLIB_RESULTS", str(other))
    (other / "bare.parquet").write_text("one")
    one = keys(root)
    (other / "bare.parquet").write_text("two")
    assert before["second"] != one["second"] != keys(root)["second"]
    monkeypatch.chdir(other.parent)
    monkeypatch.setenv("GEOLIB_RESULTS", other.name)
    write(root, second=SECOND.replace("1 + 1\n```\n", "import os; print(os.environ['GEOLIB_RESULTS'])\n```\n"))
    execute(root)
    second = next((root / "book" / "_build" / "executed").rglob("second.*.ipynb"))
    assert run.code_cells(json.loads(second.read_text()))[0]["outputs"][0]["text"] == [f"{other}\n"]
    monkeypatch.setenv("GEOLIB_RESULTS", str(other / "nothing"))
    with pytest.raises(BookError, match=r"^GEOLIB_RESULTS is .*nothing, but a folder of published runs was exp"):
        keys(root)


def page_of(root):
    return (root / "book" / "_build" / "html" / "notebooks" / "first.html").read_text()


def test_a_chapter_whose_runs_are_not_there_is_left_out_and_says_so(root, monkeypatch, tmp_path_factory, capsys):
    """Its figures keep their numbers, so that other pages can refer to them. A book without a home is rendered too."""
    other = tmp_path_factory.mktemp("other")
    for name in ("bare.parquet", "bare.json", "ablations.parquet"):
        (other / name).write_text("")
    monkeypatch.setenv("GEOLIB_RESULTS", str(other))
    write(root, "runs: [bare, ablations]\n", first=FIRST.replace("print(profile", "raise SystemExit(profile"))
    write(root, second=SECOND + "\nSee {numref}`fig-one`.\n")
    for _ in range(2):  # the second finds nothing to do
        assert main(["build", "--root", str(root)]) == 0, capsys.readouterr().err
        printed = capsys.readouterr().out
        assert "notebooks/first: left out, for want of the runs ablations" in printed
        assert "npm ci --prefix book" in printed, "without MathJax the build says so and goes on"
    assert "pages unchanged" in printed
    said = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page_of(root)))
    assert "does not hold what this chapter reads (geolib sweep --run ablations makes it)" in said
    assert "A square, as in" in said
    assert (root / "book" / "_build" / "html" / "sitemap.xml").exists()
    (other / "ablations.json").write_text("")
    (root / "book" / "repository.yml").unlink()
    write(root, "runs: [bare, ablations]\n", first=FIRST)
    assert main(["build", "--root", str(root)]) == 0, capsys.readouterr().err
    assert "This build reads other runs than the book" in re.sub(r"<[^>]+>", "", page_of(root))
    assert not (root / "book" / "_build" / "html" / "sitemap.xml").exists()


def test_findings_go_to_the_notebook_that_needs_them_and_waits(root, capsys):
    hand_on = '\n```{code-cell}\n:tags: [findings]\nprint(\'{"C0": ["agrees", "1 + 1"]}\')\n```\n'
    parameter = "```{code-cell}\n:tags: [parameters]\nfindings = {}\n```\n\n```{code-cell}\nprint(findings)\n```\n"
    write(root, second=SECOND + hand_on)
    write(root, "needs: [notebooks/second]\n", first="# First\n\n" + parameter)
    assert execute(root) == {"first", "second"}
    order = re.findall(r"notebooks/(\w+): (executing|executed)", capsys.readouterr().out)
    assert [name for name, _ in order] == ["second", "second", "first", "first"]
    first = next((root / "book" / "_build" / "executed").rglob("first.*.ipynb"))
    assert run.code_cells(json.loads(first.read_text()))[1]["outputs"][0]["text"] == ["{'C0': ['agrees', '1 + 1']}\n"]
    write(root, second=SECOND + hand_on.replace("C0", "C1").replace("}'", "'"))
    with pytest.raises(BookError, match="notebooks/second: its cell tagged `findings` printed no JSON object"):
        execute(root)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: (root / "notebooks/second.ipynb").write_text("{}"),
            "notebooks/second: the .ipynb is not in step",
        ),
        (lambda root: (root / "notebooks/second.md").unlink(), "lists notebooks/second, but there is no"),
        (lambda root: write(root, "needs: [notebooks/third]\n", first=FIRST), "needs notebooks/third, which is no"),
        (lambda root: write(root, "needs: [notebooks/first]\n", first=FIRST), "notebooks that need each other"),
    ],
)
def test_a_book_that_does_not_hold_together_is_refused(root, spoil, message):
    spoil(root)
    with pytest.raises(BookError, match=re.escape(message)) as caught:
        run.find_notebooks(root, "quick")
    assert "\n" not in str(caught.value)


def test_an_interrupted_build_exits_with_130_and_leaves_no_half(root):
    write(root, second=SECOND.replace("1 + 1", "import time; time.sleep(60)"))
    running = subprocess.Popen(
        command(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # Tests that a shell runs in the background have SIGINT ignored, and hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with running:
        for line in running.stdout:
            if "first: executed" in line:
                running.send_signal(signal.SIGINT)
    assert running.returncode == 130
    copies = [path.name.split(".")[0] for path in (root / "book" / "_build" / "executed").rglob("*.ipynb")]
    assert copies == ["first"]


@pytest.mark.parametrize(
    "path",
    [
        *("book/_toc.yml", "book/_static/new.css", "book/repository.yml", "book/results/sweep.parquet"),
        *("notebooks/first.md", "notebooks/first.ipynb", "notebooks/picture.png", "constraints.txt"),
        *("geolib/cli.py", "tools/theme.py", "data/gsm8k_zero.jsonl", "other/bare.parquet"),
        f"book/node_modules/mathjax/{stage.MATHJAX}",
    ],
)
def test_a_change_of_what_pages_are_made_from_is_seen(root, monkeypatch, path):
    for folder in ("data", "other", "geolib", "tools"):
        (root / folder).mkdir()
    monkeypatch.setattr(render, "ROOT", root)
    monkeypatch.setenv("GEOLIB_DATA", str(root / "data"))
    monkeypatch.setenv("GEOLIB_RESULTS", str(root / "other"))
    before, times = render.sources(root, "quick")
    assert (before, times) == render.sources(root, "quick")
    old = (root / path).read_text() if (root / path).exists() else ""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(f"{old}\n")
    assert render.sources(root, "quick")[0] != before
    (root / path).write_text(old)
    assert render.sources(root, "quick") != (before, times), "it was changed and put back while pages were made"


def test_what_is_linked_is_seen_and_a_link_to_nothing_is_not(root, tmp_path_factory):
    before, shared = render.sources(root, "quick"), tmp_path_factory.mktemp("shared")
    (root / "notebooks" / ".#first.md").symlink_to("nobody@nowhere")
    assert render.sources(root, "quick") == before
    (root / "book" / "_static" / "shared").symlink_to(shared)
    (shared / "new.css").write_text("p {}")
    assert render.sources(root, "quick") != before


def test_what_is_made_and_what_is_set_is_seen_too(root, monkeypatch, tmp_path_factory):
    before = render.sources(root, "quick")
    (root / "book" / "readme.png").write_text("made")
    (root / "book" / "_build").mkdir()
    assert render.sources(root, "quick") == before
    assert render.sources(root, "full") != before
    monkeypatch.setattr(os, "cpu_count", lambda: 99)
    assert before != (one := render.sources(root, "quick")), "the page of timings names the cores"
    (tmp_path_factory.mktemp("site") / "sphinx-99.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path_factory.getbasetemp() / "site0")
    assert one != (two := render.sources(root, "quick")), "another version is installed"
    monkeypatch.setenv("GEOLIB_CACHE", "elsewhere")
    assert two != render.sources(root, "quick")


def test_the_shells_help_is_the_same_in_any_terminal(monkeypatch):
    helps = set()
    for columns in ("60", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        helps.add(stage._shell_help())
    assert len(helps) == 1


@pytest.mark.parametrize("path", ["html/notebooks/a.html", "stage/a.ipynb", "executed/quick/notebooks/a.1.ipynb"])
def test_damage_to_what_was_made_is_seen(tmp_path, path):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("a page")
    before = render.stamp("sources", tmp_path, "quick")
    assert before != render.stamp("other sources", tmp_path, "quick")
    (tmp_path / path).write_text("a rage")
    assert before != render.stamp("sources", tmp_path, "quick")
    (tmp_path / path).unlink()
    assert before != render.stamp("sources", tmp_path, "quick")


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ("https://github.com/me/fork.git", "ADDRESS=https://github.com/me/fork"),
        ("git@github.com:me/fork.git", "ADDRESS=https://github.com/me/fork"),
        ("ssh://git@github.com/me/fork", "ADDRESS=https://github.com/me/fork"),
        ("https://token@github.com/me/fork/", "ADDRESS=https://github.com/me/fork"),
        ("https://example.org/me/fork.git", ""),
        ("HOME", ""),
        (None, ""),
    ],
)
def test_a_clone_of_another_home_is_told(root, origin, said):
    git = ["git", "-C", str(root)]
    subprocess.run([*git, "init", "-q"], check=True)
    if origin:
        origin = origin.replace("HOME", f"{home.repository(root).address}.git")
        subprocess.run([*git, "remote", "add", "origin", origin], check=True)
    assert said in home.elsewhere(root)
    assert bool(said) == bool(home.elsewhere(root))


def test_a_new_home_is_written_everywhere(root, capsys):
    (root / "README.md").write_text("<!-- colab: written by make pair -->\nold\n<!-- /colab -->\n")
    assert main(["home", "https://github.com/me/fork.git", "--root", str(root)]) == 0
    assert home.repository(root).address == "https://github.com/me/fork"
    for name in ("README.md", "notebooks/first.ipynb", "notebooks/second.ipynb"):
        assert "github.com/me/fork@main" in (root / name).read_text()
        assert "YOUR_ORGANISATION" not in (root / name).read_text()
    before = (root / "book" / "repository.yml").read_text()
    capsys.readouterr()
    for wrong in (
        "me/fork",
        "https://github.com/me",
        "https://gitlab.com/me/fork",
        "https://github.com/me/fork/tree/x",
    ):
        assert main(["home", wrong, "--root", str(root)]) == 1
        said = capsys.readouterr().err
        assert said.startswith("home: repository.yml: address is ")
        assert said.count("\n") == 1
        assert (root / "book" / "repository.yml").read_text() == before


@pytest.mark.parametrize(
    ("tag", "asks"),
    [
        ('<script src="https://a.b/c.js"></script>', True),
        ('<script async src="//a.b/c.js"></script>', True),
        ('<link rel="stylesheet" href="https://a.b/c.css">', True),
        ("<link href='https://a.b/c.css' rel='stylesheet'>", True),
        ('<img alt="x" src="http://a.b/c.png">', True),
        ('<script src="../_static/c.js?v=1"></script>', False),
        ('<a href="https://a.b">A link is followed only when one clicks.</a>', False),
        ('<link rel="next" href="https://a.b">', False),
        ("<code>&lt;script src='https://a.b'&gt;</code>", False),
    ],
)
def test_outside_requests(tmp_path, tag, asks):
    (tmp_path / "page.html").write_text(f"<html>{tag}</html>")
    assert bool(render.outside_requests(tmp_path)) == asks


def test_the_index_of_theorems_shows_their_names(tmp_path):
    (tmp_path / "a.html").write_text(
        '<div class="proof theorem admonition" id="thm-one">\n<p class="admonition-title">'
        '<span class="caption-number">Theorem 7.1 </span> (Sharp <em>x</em>)</p>'
        '<div class="proof" id="prop-two">\n<p class="admonition-title">'
        '<span class="caption-number">Prop. 6.1 </span></p>'
    )
    row = '<a href="a.html#{0}"><code class="xref">{0}</code></a> <em>(a)</em> <strong>{0}</strong>'
    (tmp_path / "prf-prf.html").write_text("\n".join(map(row.format, ("thm-one", "prop-two"))))
    theme.mend(tmp_path)
    shown = re.sub("<[^>]+>", "", (tmp_path / "prf-prf.html").read_text()).split("\n")
    assert shown == ["Theorem 7.1 (Sharp x) Theorem 7.1 (Sharp x)", "Prop. 6.1 Prop. 6.1"]


@pytest.mark.parametrize(
    ("tag", "mended"),
    [
        ('a\n<script>const THEBE_JS_URL = "https://a.b"; const thebe_selector = ".x"</script>\nb', "a\nb"),
        ('a\n<script async="async" src="../_static/sphinx-thebe.js?v=1"></script>\nb', "a\nb"),
        (
            '<button class="btn search-button-field pst-js-only" title="Search" aria-label="Search" data-x="1">',
            '<button class="btn search-button-field pst-js-only" data-x="1">',
        ),
        ('<button class="btn search-button" title="Search" aria-label="Search">', None),  # an icon: its only name
        ('<i class="theme-switch fa-solid" data-mode="dark"  title="Dark"></i>', None),
        ('<summary aria-label="Toggle hidden content">', "<summary>"),
        ('<div class="citation" id="id1" role="doc-biblioentry">', '<div class="citation" id="id1">'),
        ('<div role="list" class="citation-list">', '<div class="citation-list">'),
        ('<div role="list" class="mine">', None),
        (
            '<img src="_static/minus.png" class="toggler"\n id="toggle-1" alt="-" />',
            '<img src="_static/minus.png" class="toggler"\n id="toggle-1" alt="Show or hide what is in this module" />',
        ),
    ],
)
def test_mends_what_the_theme_writes(tmp_path, tag, mended):
    page = tmp_path / "page.html"
    page.write_text(tag)
    theme.mend(tmp_path)
    if "theme-switch" in tag:
        mended = tag.replace(' title="Dark"', "")
    assert page.read_text() == (tag if mended is None else mended)


@pytest.mark.parametrize(
    ("target", "dead"),
    [
        ("b.html", False),
        ("b.html#here", False),
        ("#top", False),
        ("#", False),
        ("sub/../b.html", False),
        ("picture.png", False),
        ("https://a.b/none.html", False),
        ("mailto:a@b", False),
        ("c.html", True),
        ("b.html#there", True),
        ("#bottom", True),
        ("../b.html", True),
        ("/book/b.html#here", False),
        ("/b.html", True),
    ],
)
def test_dead_links(tmp_path, target, dead):
    (tmp_path / "a.html").write_text(f'<p id="top"><a href="{target}">x</a></p>')
    (tmp_path / "b.html").write_text('<p id="here"></p>')
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "sub").mkdir()
    found = check.dead_links(tmp_path, "/book/")
    assert found == ([f"a.html: {target} leads nowhere"] if dead else [])


def test_renders_a_book_that_asks_nothing_of_the_network(root, capsys):
    local = (ROOT / "book" / "node_modules").exists()
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(ROOT / "book" / name, root / "book")
    if local:
        (root / "book" / "node_modules").symlink_to(ROOT / "book" / "node_modules")
    drawn = "from geolib import estimates, figures\ntable = estimates.by_layer({'a': [1, 2]}, 'line')\n"
    drawn += "figures.lines(table, x='layer', color='line', xlabel='', ylabel='')"
    write(root, first=re.sub('import base64.*?CC["]\\)\\)\\n', f"{drawn}\n", FIRST, flags=re.DOTALL))
    assert main(["build", "--root", str(root)]) == 0, capsys.readouterr().err
    html = root / "book" / "_build" / "html"
    first, second = (html / "notebooks" / f"{name}.html" for name in ("first", "second"))
    said = capsys.readouterr().out
    assert re.search(r"notebooks/first: \d+\.\d s\n", said)
    assert f"open {html / 'index.html'}" in said
    assert "injected-parameters" not in first.read_text()
    assert "quick []" in first.read_text()
    pictures = re.findall(
        r'<img loading="lazy" class="only-(light|dark)" alt="A red square" src="([^"]+)"', first.read_text()
    )
    assert [theme for theme, _ in pictures] == ["light", "dark"], "one for each theme"
    light, dark = ((html / "notebooks" / source).read_bytes() for _, source in pictures)
    assert light != dark
    assert "<strong>Right. </strong>See <a" in second.read_text()
    at = home.repository(root)
    assert f"<loc>{at.pages}notebooks/first.html</loc>" in (html / "sitemap.xml").read_text()
    assert f'property="og:url" content="{at.pages}notebooks/first.html"' in first.read_text()
    assert 'property="og:site_name" content="The Geometry of Reasoning"' in first.read_text()
    assert f'href="{urlsplit(at.pages).path}_static/' in (html / "404.html").read_text()
    if (html / "_static" / "mathjax").exists():
        assert render.outside_requests(html) == []
    else:
        assert "MathJax from its CDN" in said
    # The plain notebooks number as the pages do, and the download button gives the plain ones.
    for page, shown in ((first, ["Fig. 1", "(1.1)", "Zaslavsky, 1975"]), (second, ["Theorem 1.1", "Exercise 1.1"])):
        text = re.sub(r"<[^>]+>", "", page.read_text())
        plain = page.relative_to(html).with_suffix(".ipynb")
        for number in shown:
            assert number in text
            assert number in (root / plain).read_text()
        assert (html / "_sources" / plain).read_bytes() == (root / plain).read_bytes()
    assert re.search(r"Second.*\d\.\d", (html / "execution-times.html").read_text(), re.DOTALL)

    before = (html / "index.html").stat().st_mtime_ns
    assert main(["build", "--root", str(root)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"notebooks/first: cached \(\d+\.\d s when run\)", said)
    assert "pages unchanged" in said
    assert (html / "index.html").stat().st_mtime_ns == before
    second.unlink()
    assert main(["build", "--root", str(root)]) == 0
    assert "pages rendered" in capsys.readouterr().out
    assert second.exists()

    before = (html / "index.html").stat().st_mtime_ns
    (root / "book" / "bibliography.md").write_text("# Bibliography\n\n{ref}`nowhere`\n\n```{bibliography}\n```\n")
    assert main(["build", "--root", str(root)]) == 1, "a warning is an error"
    assert "bibliography.md:3: WARNING: undefined label: 'nowhere'" in capsys.readouterr().err
    assert (html / "index.html").stat().st_mtime_ns == before, "the last good book stays"


@pytest.mark.parametrize(
    ("content", "widths"),
    [
        ("<p>Words that are broken where they need be, on however narrow a screen.</p>", []),
        ('<div style="width: 700px">x</div>', [360]),
        ('<div style="overflow-x: auto"><div style="width: 700px">x</div></div>', []),
        ('<details><summary>s</summary><div style="width: 700px">x</div></details>', [360]),
        ('<div style="overflow: hidden"><b style="display: inline-block; width: 2000px">x</b></div>', [360, 1400]),
    ],
)
def test_what_is_wider_than_the_screen_is_found(browser, content, widths):
    found = []
    for width in sorted({width for _, width in check.VIEWS}):
        page = browser.new_page(viewport={"width": width, "height": 600})
        page.set_content(f'<meta name="viewport" content="width=device-width"><div class="bd-content">{content}</div>')
        if page.evaluate(check.SPILLS):
            found.append(width)
        page.close()
    assert found == widths


def test_a_slider_that_the_keys_do_not_move_is_found(browser):
    counts = {"absolute": [[9, 3], [0, 1]]}
    still = figures.lines(estimates.by_layer({"a": [1, 2]}, "line"), x="layer", xlabel="layer", ylabel="ID")
    figure = interactive.by_threshold([0.01, 0.1], counts, label="ID", still=still).html
    page = browser.new_page()
    page.set_content(figure)
    assert check.stuck(page) == []
    page.set_content(re.sub(r"<script>.*</script>", "", figure, flags=re.DOTALL).replace(" hidden", ""))
    assert check.stuck(page) == ["has a figure that does not answer the keys: slider 'Threshold'"]


def test_the_answer_stands_behind_the_question():
    """It is computed last, and shown first; without an outcome there is no box."""
    text = "# Title\n\n**Question.** Why?\n\n**Time** 5 minutes.\n\nMore."
    said = nbformat.v4.new_output("display_data", {"text/markdown": ["Because", " of 3."]})
    for outputs, box in (([said], "\n\n:::{admonition} Answer\n:class: tip\nBecause of 3.\n:::"), ([], "")):
        last = nbformat.v4.new_code_cell("answer", metadata={"tags": ["answer"]}, outputs=outputs)
        page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text), last])
        stage._answer_first(page)
        (cell,) = page.cells
        assert cell.source == text.replace("Why?", f"Why?{box}")
