"""The notebooks keep the book's rules, and their plain renderings hold no MyST that Colab would show raw."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tools import home, plain, toc
from tools.__main__ import main

ROOT = Path(__file__).resolve().parent.parent


SOURCES = sorted((ROOT / "notebooks").rglob("*.md"))
each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def code_cells(source):
    return [cell for cell in toc.read(source).cells if cell.cell_type == "code"]


def plain_python(cell):
    return re.sub(r"^\s*[%!].*$", "pass", cell.source, flags=re.MULTILINE)  # without the shell's lines


# The rules


def test_table_of_contents_lists_what_exists():
    for name in toc.chapters(ROOT):
        assert (ROOT / f"{name}.md").is_file() or (ROOT / "book" / f"{name}.md").is_file(), name


def test_every_notebook_is_in_the_table_of_contents():
    assert {path.relative_to(ROOT).with_suffix("").as_posix() for path in SOURCES} <= set(toc.chapters(ROOT))


def test_what_one_reader_changes_no_other_sees():
    first, before = toc.read(SOURCES[0]), toc.read(SOURCES[0])
    first.cells[0].source, first.cells[-1].metadata["tags"] = "", ["changed"]
    assert toc.read(SOURCES[0]) == before != first


def test_pairs_are_in_step():
    old, orphans = plain.stale(ROOT)
    assert not old, "run: make pair"
    assert not orphans


@each_source
def test_paired_notebook_has_the_code_and_no_outputs(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(notebook)
    setup, *paired = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert setup.source == home.setup_cell(home.repository(ROOT))
    for cell, ours in zip(paired, code_cells(source), strict=True):
        is_form = "parameters" in ours.metadata.get("tags", ())
        assert cell.source == (plain.form(ours.source) if is_form else ours.source)
        assert ast.dump(ast.parse(plain_python(cell))) == ast.dump(ast.parse(plain_python(ours)))
    assert all(cell.outputs == [] and cell.execution_count is None for cell in paired)


@pytest.mark.whole
def test_where_pip_cannot_install_the_set_up_says_so(monkeypatch):
    """In a kernel of its own: pip's reason, one line, and no cell after it is run."""
    monkeypatch.setenv("GEOLIB_SOURCE", "/no/such/wheel")
    source = home.setup_cell(home.Repository("https://github.com/a/b", "main")).replace(home.PACKAGE, "no-such-package")
    cells = [nbformat.v4.new_code_cell(source), nbformat.v4.new_code_cell("1")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with pytest.raises(CellExecutionError):
        NotebookClient(notebook).execute()
    outputs, after = (cell.outputs for cell in notebook.cells)
    assert "Invalid requirement" in outputs[0].text
    (error,) = [output for output in outputs if output.output_type == "error"]
    assert error.evalue == "no-such-package could not be installed; pip says why above. Then run this cell again."
    assert len("\n".join(error.traceback).splitlines()) <= 4
    assert after == []


@each_source
def test_paired_notebook_shows_no_raw_myst(source):
    for cell in nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"(```|~~~|:::)\s*\{[a-z]", cell.source)
            assert not re.search(r"\{[a-z][\w:-]*\}`", cell.source)
            assert not re.search(r"^\([\w:-]+\)=", cell.source, re.MULTILINE)
            assert not re.search(r"!\[\s*\]\(", cell.source), "an image needs an alternative text"


@each_source
def test_colab_opens_this_very_notebook(source):
    """The button under the title leads to the notebook that it is in."""
    title = nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells[0].source
    at, path = home.repository(ROOT), source.relative_to(ROOT).with_suffix(".ipynb").as_posix()
    in_colab = f"https://colab.research.google.com/github/{at.address.split('/', 3)[3]}/blob/{at.branch}/{path}"
    assert re.fullmatch(rf"# .+\n\n\[Open in Colab\]\({re.escape(in_colab)}\)(\n\n.+)?", title, re.DOTALL)


@each_source
def test_figures_have_alternative_text_and_caption(source):
    for cell in code_cells(source):
        if re.search(r"\b(figures|interactive|plt)\.\w+\(", cell.source):
            myst = cell.metadata.get("mystnb", {})
            assert myst.get("image", {}).get("alt", "").strip(), f"mystnb.image.alt is missing in:\n{cell.source}"
            assert myst.get("figure", {}).get("caption", "").strip(), f"no mystnb.figure.caption in:\n{cell.source}"


@each_source
def test_every_setting_is_a_field_of_the_form(source):
    """Papermill and Colab see one name and one plain value on a line; and what a profile changes asks is_full."""
    for cell in code_cells(source):
        if "parameters" in cell.metadata.get("tags", ()):
            assert all(isinstance(node, ast.Assign) for node in ast.parse(cell.source).body)
            assert all(isinstance(node.targets[0], ast.Name) for node in ast.parse(cell.source).body)
    text = source.read_text("utf-8")
    assert not re.search(r'if profile == |[^=] = profile == "full"|\}\[profile\]', text)
    assert ("\nprofile = " in text) == bool(re.search(r"is_full\(profile\)|profile=profile", text)), "set and not read"


@each_source
def test_no_notebook_installs_the_other_geolib(source):
    # That name on PyPI belongs to a geohash library.
    assert not re.search(r"pip3? install[^\n]*\bgeolib\b", source.read_text("utf-8"))


@each_source
def test_functions_are_short(source):
    for cell in code_cells(source):
        for node in ast.walk(ast.parse(plain_python(cell))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 8, f"{node.name} is worth a test: move it into geolib"


def test_what_the_appendix_asks_for_is_found_by_a_chapter_that_it_needs():
    appendix = ROOT / "notebooks" / "appendix" / "reported-and-reproduced.md"
    asked = set(re.findall(r'(?:chapter|published)\("(\w+)"\)', appendix.read_text("utf-8")))
    needed = [ROOT / f"{name}.md" for name in toc.read(appendix).metadata["needs"]]
    cells = [cell for source in needed for cell in code_cells(source) if "findings" in cell.metadata.get("tags", ())]
    assert asked
    assert asked == {key for cell in cells for key in re.findall(r'"(C\w+)":', cell.source)}


# The renderer

HEADER = "---\nkernelspec:\n  display_name: Python 3\n  language: python\n  name: python3\n---\n\n"
BIB = """
@misc{one, author = {Doe, Jane}, title = {T}, year = {2001}, eprint = {1234.5678}}
@article{three, author = {Doe, Jane and Roe, Jo and de Poe, Al}, title = {T}, journal = {J}, year = {2003}}
"""
OTHER = """# Other chapter

$$ a = b $$ (eq-other)

```{prf:theorem} Big
:label: thm-other

It holds.
```
"""


@pytest.fixture
def render(tmp_path):
    """Render a MyST text as chapter 1 of a book of two; returns the Markdown between its code cells."""
    book = tmp_path / "book"
    book.mkdir()
    (tmp_path / "notebooks").mkdir()
    (book / "_config.yml").write_text((ROOT / "book" / "_config.yml").read_text("utf-8"), encoding="utf-8")
    (book / "_toc.yml").write_text(
        "root: start\nparts: [{caption: I, numbered: true, chapters: [{file: notebooks/a}, {file: notebooks/b}]}]"
    )
    (book / "references.bib").write_text(BIB)
    (book / "start.md").write_text("# Start\n\n(sec-why)=\n## Why\n")
    (tmp_path / "notebooks" / "b.md").write_text(HEADER + OTHER)

    def render(myst):
        (tmp_path / "notebooks" / "a.md").write_text(f"{HEADER}# Chapter\n\n{myst}\n", encoding="utf-8")
        text = plain.Pairs(tmp_path).render()[tmp_path / "notebooks" / "a.ipynb"]
        cells = nbformat.reads(text, as_version=4).cells
        shown = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        return shown.removeprefix("# Chapter").strip()

    return render


@pytest.mark.parametrize(
    ("myst", "plain"),
    [
        ("Plain *text*, `code` and $x_1$.", "Plain *text*, `code` and $x_1$."),
        ("```{note}\nMind.\n```", "> **Note.**\n>\n> Mind."),
        (":::{seealso}\nThat.\n:::", "> **See also.**\n>\n> That."),
        ("```{tip} At once\n```", "> **Tip.**\n>\n> At once"),
        ("```{admonition} Why $x$?\n:class: tip\nSo.\n```", "> **Why $x$?**\n>\n> So."),
        ("```{warning}\n:class: dropdown\nHot.\n```", "<details>\n<summary>Warning</summary>\n\nHot.\n\n</details>"),
        ("```{dropdown} More\nBody.\n```", "<details>\n<summary>More</summary>\n\nBody.\n\n</details>"),
        ("````{note}\nA\n```{tip}\nB\n```\n````", "> **Note.**\n>\n> A\n>\n> > **Tip.**\n> >\n> > B"),
        ("- item\n  ```{note}\n  Mind.\n  ```", "- item\n\n  > **Note.**\n  >\n  > Mind."),
        ("```{prf:theorem} Zaslavsky\nIt is.\n```", "> **Theorem 1.1 (Zaslavsky).**\n>\n> It is."),
        ("```{prf:proof}\nClear.\n```", "> **Proof.**\n>\n> Clear."),
        (
            "```{exercise} Count\n:label: ex\nDo.\n```\n\n```{solution} ex\n:class: dropdown\nDone.\n```",
            "> **Exercise 1.1 (Count).**\n>\n> Do.\n\n"
            "<details>\n<summary>Solution to Exercise 1.1</summary>\n\nDone.\n\n</details>",
        ),
        (
            "```{exercise-start}\n:label: ex\n```\nDo.\n```{exercise-end}\n```\n\n```{solution-start} ex\n```\nDone.",
            "> **Exercise 1.1.**\n\nDo.\n\n**Solution to Exercise 1.1.**\n\nDone.",
        ),
        ("```{math}\n:label: eq-a\nx\n```\n\nBy {eq}`eq-a`.", "$$\nx\n\\tag{1.1}\n$$\n\nBy (1.1)."),
        ("$$\nx\n$$ (eq-a)", "$$\nx\n\\tag{1.1}\n$$"),
        ("$$\nx\n$$", "$$\nx\n$$"),
        ("\\begin{align*}\nx\n\\end{align*}", "\\begin{align*}\nx\n\\end{align*}"),
        (
            "```{figure} a.png\n:name: fig-a\n:alt: An a\nThe a.\n```\n\n{numref}`Figure %s <fig-a>`",
            "![An a](a.png)\n\n*Fig. 1.1. The a.*\n\nFigure 1.1",
        ),
        (
            "```{table} Both\n:name: tab\n| a |\n|---|\n| 1 |\n```\n\n{numref}`tab`",
            "*Table 1.1. Both*\n\n| a |\n|---|\n| 1 |\n\nTable 1.1",
        ),
        (
            "```{code-cell}\n---\nmystnb:\n  image: {alt: A}\n  figure:\n    name: fig-a\n"
            "    caption: As in {eq}`eq-other`.\n---\n1\n```\n\nSee {numref}`fig-a`, {ref}`it <fig-a>`.",
            "*Fig. 1.1. As in [(2.1)](b.ipynb).*\n\nSee Fig. 1.1, it.",
        ),
        ("(sec-a)=\n## Section\n\nSee {ref}`sec-a`, [](#sec-a).", "## Section\n\nSee Section, Section."),
        ("{ref}`sec-why` and {doc}`/start`", "[Why](../book/start.md) and [Start](../book/start.md)"),
        ("{prf:ref}`thm-other`", "[Theorem 2.1](b.ipynb)"),
        ("{doc}`b` and {doc}`here <b>`", "[Other chapter](b.ipynb) and [here](b.ipynb)"),
        ("[it](b.md), [](b.md), [out](https://a.b/c.md)", "[it](b.ipynb), [Other chapter](b.ipynb), [out](https://a.b/c.md)"),
        ("{cite:p}`one,three`", "([Doe, 2001](https://arxiv.org/abs/1234.5678); Doe et al., 2003)"),
        ("{cite:t}`one`", "[Doe (2001)](https://arxiv.org/abs/1234.5678)"),
        ("{term}`region` and {term}`areas <region>`", "region and areas"),
        ("| a |\n|---|\n| {eq}`eq-other` |", "| a |\n|---|\n| [(2.1)](b.ipynb) |"),
        ("Region\n: A piece.", "- **Region**\n  A piece."),
        ("> :::{tip}\n> A\n> :::\n> B", "> > **Tip.**\n> >\n> > A\n>\n> B"),
        ("- :::{tip}\n  A\n  :::", "- > **Tip.**\n  >\n  > A"),
        ("% unseen\n\nSeen", "Seen"),
        ("Write `` {eq}`x` `` or `[a](b.md)`; $f[0](x)$.", "Write `` {eq}`x` `` or `[a](b.md)`; $f[0](x)$."),
        ("```python\n{eq}`x`\n```", "```python\n{eq}`x`\n```"),
    ],
)  # fmt: skip
def test_renders(render, myst, plain):
    assert render(myst) == plain


@pytest.mark.parametrize(
    ("myst", "named"),
    [
        ("```{tabs}\nA\n```", "directive {tabs}"),
        ("- a\n\n  :::{tabs}\n  :::", "directive {tabs}"),
        ("````{note}\n```{code-cell}\n1\n```\n````", "directive {code-cell}"),
        ("{sub}`2`", "role {sub}"),
        ("{cite:p}`nobody`", "citation 'nobody'"),
        ("{eq}`nothing`", "reference to 'nothing'"),
        ("{doc}`nowhere`", "link to 'nowhere'"),
        ("[a](nowhere.md)", "link to 'nowhere.md'"),
        ("A[^1]\n\n[^1]: note", "a footnote"),
        ("{{ name }}", "a substitution"),
        ("\\begin{align}\nx\n\\end{align}", "numbered amsmath"),
    ],
)
def test_refuses_what_has_no_plain_form(render, myst, named):
    with pytest.raises(toc.BookError, match=r"^notebooks/a\.md: .*" + re.escape(named)) as caught:
        render(myst)
    assert "\n" not in str(caught.value)


def test_refuses_cell_options_that_are_no_yaml(render):
    with pytest.raises(toc.BookError, match=r"^a\.md: Code cell .*Invalid YAML"):
        render("```{code-cell}\n---\ntags: [a\n---\n1\n```")


def test_numbers_run_on_through_the_pages_without_a_chapter(render, tmp_path):
    render("x")
    toc = "root: notebooks/a\nchapters: [{file: notebooks/b}]"
    (tmp_path / "book" / "_toc.yml").write_text(toc)
    assert "$$ (eq-a)" not in render("$$ y $$ (eq-a)\n\n{eq}`eq-a` {eq}`eq-other`")
    assert "(1) [(2)](b.ipynb)" in render("$$ y $$ (eq-a)\n\n{eq}`eq-a` {eq}`eq-other`")


def test_writing_twice_changes_nothing(render, tmp_path, capsys):
    render("```{code-cell}\n:tags: [parameters, hide-input]\nx = 1\n```\n\n```{code-cell}\nx = 1\n```")
    assert main(["pair", "--root", str(tmp_path), "--check"]) == 1
    assert "notebooks/a.ipynb: stale" in capsys.readouterr().out
    assert main(["pair", "--root", str(tmp_path)]) == 0
    first = (tmp_path / "notebooks" / "a.ipynb").read_bytes()
    assert main(["pair", "--root", str(tmp_path), "--check"]) == 0
    (tmp_path / "notebooks" / "a.ipynb").unlink()
    assert main(["pair", "--root", str(tmp_path)]) == 0
    assert (tmp_path / "notebooks" / "a.ipynb").read_bytes() == first
    code = [cell for cell in nbformat.reads(first.decode(), as_version=4).cells if cell.cell_type == "code"]
    assert code[0].metadata.tags == ["parameters", "hide-input"]
    assert code[0].metadata.jupyter.source_hidden
    assert code[1].metadata == {}
    assert code[0].id != code[1].id


def test_a_pair_without_a_source_is_named(render, tmp_path, capsys):
    render("x")
    main(["pair", "--root", str(tmp_path)])
    (tmp_path / "notebooks" / "c.ipynb").write_text("{}")
    assert main(["pair", "--root", str(tmp_path), "--check"]) == 1
    assert "notebooks/c.ipynb: has no source" in capsys.readouterr().out


# What only Colab needs


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        ("n = 3", ['n = 3  # @param {type:"integer"}']),
        ("x = 0.5   # of it", ["# @markdown `x`: of it", 'x = 0.5  # @param {type:"number"}']),
        ("b = True", ['b = True  # @param {type:"boolean"}']),
        ('name = "a # b"', ['name = "a # b"  # @param {type:"string"}']),
        ("sizes = (1, 2)", ['sizes = (1, 2)  # @param {type:"raw"}']),
        ('profile = "quick"', ['profile = "quick"  # @param ["quick", "full"]']),
        ('rule = "absolute"', ['rule = "absolute"  # @param ["absolute", "relative"]']),
        ("a, b = 1, 2", ["a, b = 1, 2"]),
        ('text = (\n    "one"\n)', ["text = (", '    "one"', ")"]),
        ("n = 2 * m", ["n = 2 * m"]),
        ("import os", ["import os"]),
    ],
)
def test_forms(source, fields):
    title, *lines = plain.form(source).split("\n")
    assert title.startswith("# @title ")
    assert lines == fields


def test_one_setting_makes_every_address(render, tmp_path):
    """Button, set-up and README follow repository.yml, and a stale README is named."""
    render("Text.")
    (tmp_path / "book" / "repository.yml").write_text("address: https://github.com/me/fork\nbranch: trunk\n")
    (tmp_path / "README.md").write_text("# R\n<!-- colab: written by make pair -->\nold\n<!-- /colab -->\nEnd.\n")
    assert tmp_path / "README.md" in plain.stale(tmp_path)[0]
    assert main(["pair", "--root", str(tmp_path)]) == 0
    readme, notebook = ((tmp_path / name).read_text() for name in ("README.md", "notebooks/a.ipynb"))
    for text in (readme, notebook):
        assert "geometry-of-reasoning @ git+https://github.com/me/fork@trunk" in text
        assert "https://colab.research.google.com/github/me/fork/blob/trunk/" in text
    assert "old" not in readme
    assert readme.endswith("<!-- /colab -->\nEnd.\n")
    assert main(["pair", "--root", str(tmp_path), "--check"]) == 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("address: https://github.com/me/fork\n", "an address and a branch were expected"),
        ("- a\n", "an address and a branch were expected"),
        ("address: github.com/me/fork\nbranch: main\n", "address is 'github.com/me/fork'"),
        ('address: https://github.com/me/fork"\nbranch: main\n', "address is"),
        ("address: https://github.com/me/fork\nbranch: a b\n", "branch is 'a b'"),
    ],
)
def test_a_setting_that_is_none_is_refused(render, tmp_path, text, named, capsys):
    render("Text.")
    (tmp_path / "book" / "repository.yml").write_text(text)
    assert main(["pair", "--root", str(tmp_path)]) == 1
    assert named in capsys.readouterr().err


def test_the_setup_pins_nothing():
    requirement = home.repository(ROOT).requirement
    assert re.fullmatch(r"geometry-of-reasoning @ git\+https://github\.com/[\w.-]+/[\w.-]+@[\w./-]+", requirement)
    assert "==" not in home.setup_cell(home.repository(ROOT))


def test_once_released_the_package_is_installed_by_its_name(tmp_path):
    (tmp_path / "book").mkdir()
    text = "address: https://github.com/me/fork\nbranch: main\nreleased: true\n"
    (tmp_path / "book" / "repository.yml").write_text(text)
    assert home.repository(tmp_path).requirement == home.PACKAGE
    assert f'GEOLIB_SOURCE", "{home.PACKAGE}")' in home.setup_cell(home.repository(tmp_path))


# What is folded is not counted. Past a limit, look for what geolib or pandas says in fewer lines, or fold what only
# arranges numbers.
VISIBLE = 900


def test_every_chapter_is_answered_in_a_box():
    """Of the last chapter the question is what is not known."""
    without = []
    for path in sorted((ROOT / "notebooks").glob("part-*/*.md")):
        answers = [cell for cell in toc.read(path).cells if "answer" in cell.metadata.get("tags", ())]
        assert len(answers) < 2, path.stem
        without += [path.stem] * (not answers)
    assert without == ["open"]


def test_the_visible_code_of_the_three_parts_stays_short():
    shown = [
        cell.source
        for source in sorted((ROOT / "notebooks").glob("part-*/*.md"))
        for cell in code_cells(source)
        if not set(cell.metadata.get("tags", [])) & {"hide-input", "hide-cell", "remove-input", "remove-cell"}
    ]
    assert sum(bool(line.strip()) for code in shown for line in code.splitlines()) <= VISIBLE
