"""One file of the book: a long page whose links and names hold together, an EPUB, a PDF, slides."""

import os
import re
import shutil
import zipfile
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

from tools import check, pdf_epub, slides, stage, toc
from tools.__main__ import main

pytestmark = pytest.mark.whole

ROOT = Path(__file__).resolve().parents[2]

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
PAGE = """<html><body><nav>menu</nav><article class="bd-article"><section id="{top}" class="mathjax_ignore">
<span id="label"></span><h1>{title}<a class="headerlink" href="#{top}">#</a></h1>
<p><a href="{other}.html">all</a> <a href="{other}.html#sub">part</a> <a href="#sub">here</a>
<a href="../genindex.html">index</a> <a href="https://a.b/">far</a>
<span class="math notranslate nohighlight">\\(x^2\\)</span></p>
<section id="sub"><h2>Sub</h2><details class="quiz-option"><summary>7</summary><p>Right.</p></details>
<div class="cell tag_hide-input"><div class="cell_input"><details class="above-input">plot()</details></div>
<div class="cell_output"><figure id="fig-a"><div class="geolib-figure"><svg aria-label="A dot" viewBox="0 0 1 1"></svg>
<input type="range"><script>move()</script></div><figcaption>Fig. 1</figcaption></figure></div></div>
</section></section></article></body></html>"""


@pytest.fixture
def root(tmp_path):
    """Lay out two built pages."""
    book = tmp_path / "book"
    pages = book / "_build" / "html"
    (pages / "notebooks").mkdir(parents=True)
    (pages / "_static" / "mathjax").mkdir(parents=True)
    (book / "_toc.yml").write_text("root: notebooks/a\nparts: [{caption: Part I, chapters: [{file: notebooks/b}]}]\n")
    (book / "_config.yml").write_text(yaml.safe_dump({"title": "A & B", "author": "C"}))
    script = stage.mathjax(ROOT)
    if script is None and not os.environ.get("CI"):
        pytest.skip("npm has not installed MathJax")
    shutil.copy(script, pages / "_static" / "mathjax")
    for name, other in (("a", "b"), ("b", "a")):
        page = PAGE.format(top=f"top-{name}", title=name.upper(), other=other)
        (pages / "notebooks" / f"{name}.html").write_text(page)
        cell = nbformat.v4.new_code_cell("f()", metadata={"mystnb": {"figure": {"name": "fig-a"}}})
        cell.outputs = [nbformat.v4.new_output("display_data", data={"image/png": DOT})]
        staged = book / "_build" / "stage" / "notebooks"
        staged.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), staged / f"{name}.ipynb")
    return tmp_path


@pytest.mark.parametrize("stills", [False, True])
def test_the_long_page_holds_together(root, stills):
    page = BeautifulSoup(pdf_epub.whole(root, stills), "html.parser")
    ids = [tag["id"] for tag in page.select("[id]")]
    assert len(ids) == len(set(ids))
    inner = [tag["href"][1:] for tag in page.select('a[href^="#"]')]
    assert set(inner) <= set(ids)
    assert len(inner) == 2 + 2 * 3  # the contents, and three links on either page
    assert [tag.get_text() for tag in page.select("nav a")] == ["A", "B"]
    assert [tag.name for tag in page.body.find_all(["h1", "h2"], recursive=False)] == ["h1", "h2"] * 2
    assert "index" in page.get_text(), "the words of a link that leads out of the book stay"
    assert not page.select("a[href*=genindex], input, .headerlink, .above-input")
    assert all(tag.has_attr("open") for tag in page.select("details"))
    assert "move()" not in str(page)
    assert page.title.get_text() == "A & B"
    pictures = [tag["alt"] for tag in page.select("img")]
    assert (pictures, len(page.select("svg"))) == ((["A dot"] * 2, 0) if stills else ([], 2))


def test_a_page_that_is_not_built_is_named(root, capsys):
    (root / "book" / "_build" / "html" / "notebooks" / "b.html").unlink()
    assert main(["epub", "--root", str(root)]) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(r"epub: there is no notebooks/b\.html in .*; run make book first\n", said)


def test_epub(root, capsys):
    assert main(["epub", "--root", str(root)]) == 0, capsys.readouterr().err
    with zipfile.ZipFile(root / "book" / "_build" / "print" / "geometry-of-reasoning.epub") as book:
        names = book.namelist()
        texts = [book.read(name).decode() for name in names if re.search(r"text/ch\d+\.xhtml", name)]
        assert names[0] == "mimetype"
    chapters = [text for text in texts if "<math" in text]
    assert len(chapters) == 2, "a file each"
    assert all("<msup>" in text and "\\(" not in text for text in chapters)
    assert not list((root / "book" / "_build" / "print").glob("*-part*"))


@pytest.mark.usefixtures("has_browser")
def test_pdf(root, capsys):
    for folder in ("a", "b"):
        page = root / "book" / "_build" / "html" / "notebooks" / f"{folder}.html"
        page.write_text(page.read_text().replace("../genindex", "genindex"))
    assert main(["pdf", "--root", str(root)]) == 0, capsys.readouterr().err
    content = (root / "book" / "_build" / "print" / "geometry-of-reasoning.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert b"/Outlines" in content
    assert len(re.findall(rb"/Type\s*/Page\b", content)) == 4  # title, contents, two chapters


def test_the_note_has_its_abstract_and_the_works_that_it_cites(root, capsys):
    pages = root / "book" / "_build" / "html"
    box = '<div class="tip admonition"><p class="admonition-title">Answer</p><p>Yes.</p></div>'
    box += '<p>As <a href="{}">one</a> says.</p>'
    asked = "<p><strong>Question.</strong> Is it?</p>" + box.format("../bibliography.html#id1")
    page = PAGE.format(top="top", title="Found", other="b").replace("<p><a", asked + "<p><a", 1)
    (pages / "notebooks" / "found.html").write_text(page)
    works = "".join(f'<div class="citation" id="id{n}"><p>W{n}.</p></div>' for n in (1, 2))
    listed = '<article class="bd-article"><section id="w"><h1>Works</h1>{}</section></article>'
    (pages / "bibliography.html").write_text(listed.format(works))
    shutil.copy(ROOT / "CITATION.cff", root)
    note = BeautifulSoup(pdf_epub.note(root), "html.parser")
    assert note.select_one("header h1").get_text() == "Found"
    assert note.select_one(".abstract").get_text(" ", strip=True) == "Abstract. Yes."
    assert [work.p.get_text() for work in note.select(".citation")] == ["W1."]
    assert "Is it?" not in note.get_text()
    assert len(note.select("svg")) == 1
    if check.find_browser():
        assert main(["note", "--root", str(root)]) == 0, capsys.readouterr().err
        assert (root / "book" / "_build" / "print" / "geometry-of-reasoning-note.pdf").read_bytes().startswith(b"%PDF-")


HEADER = "---\nkernelspec: {display_name: Python 3, language: python, name: python3}\n---\n\n"
SOURCE = (
    HEADER
    + """# Dots

```{code-cell}
---
mystnb: {image: {alt: A dot}, figure: {name: fig-dot, caption: A dot.}}
---
dot()
```
"""
)


def test_slides_of_a_chapter(tmp_path):
    (tmp_path / "dots.md").write_text(SOURCE)
    code = {"cell_type": "code", "metadata": {}, "source": ["dot()"], "execution_count": 1}
    code["outputs"] = [{"output_type": "display_data", "data": {"image/png": DOT}}]
    install = code | {"metadata": {"tags": ["setup"]}, "outputs": []}
    texts = [
        "# Dots\n\n**Question.** What is $x_1 < y_2$?\n\n**Time** 1 minute. **Afterwards you can** draw.",
        "## A picture\n\nLook at [this](other.ipynb).",
        "*Fig. 1.1. A dot, with $a_b$.*\n\nAnd then\n\n"
        "## What the paper reports\n\n| a | b |\n|---|---|\n| c | $d_1$ |\n\nMore.",
        "## Key points\n\n- One,\n  in two lines.\n- Two.\n\n**Self-test**\n\n1. Q\n",
    ]
    said = [{"cell_type": "markdown", "metadata": {}, "source": [text]} for text in texts]
    executed = {"cells": [said[0], install, said[1], code, said[2], said[3]]}
    opening, figure, table, points = slides.slides_of("dots", executed, toc.read(tmp_path / "dots.md"))
    assert opening.title == "Dots"
    assert opening.body == '<p>What is <span class="math inline">\\(x_1 &lt; y_2\\)</span>?</p>\n'
    assert opening.notes == "<p>Afterwards they can draw.</p>\n"
    assert (figure.title, figure.image, figure.alt) == ("A picture", DOT, "A dot")
    assert '<span class="math inline">\\(a_b\\)</span>' in figure.body
    assert figure.notes == "<p>Look at this.</p>\n", "a link is its words"
    assert table.title == "What the paper reports"
    assert '<td><span class="math inline">\\(d_1\\)</span></td>' in table.body
    assert "More." in table.notes
    assert "More." not in table.body
    assert points.title == "Dots: key points"
    assert points.body.count("<li>") == 2
    assert "Self-test" not in points.body


def test_slides_show_what_cells_say(tmp_path):
    """Key points and the table of comparison that are made by a cell reach the slides; other sentences do not."""
    (tmp_path / "dots.md").write_text(
        SOURCE.replace(
            "dot()", "a()\n```\n\n```{code-cell}\nb()\n```\n\n```{code-cell}\nc()\n```\n\n```{code-cell}\nd()", 1
        )
    )

    def code(markdown, *tags):
        output = {"output_type": "execute_result", "data": {"text/markdown": [markdown]}}
        made = {"metadata": {"tags": list(tags)}, "execution_count": 1, "outputs": [output]}
        return {"cell_type": "code", "source": ["x()"]} | made

    def text(source):
        return {"cell_type": "markdown", "metadata": {}, "source": [source]}

    cells = [text("# Dots\n\nA."), code("A sentence."), text("## What the paper reports\n\nBoth:")]
    cells += [code("| a | b |\n| --- | --- |\n| c | d |"), text("## Key points\n\n- Method."), code("- One.\n- Two.")]
    cells += [code("It is three.", "answer")]
    source = toc.read(tmp_path / "dots.md")
    _, answer, table, *listed = slides.slides_of("dots", {"cells": cells}, source)
    assert (answer.title, answer.body) == ("Dots", "<p>It is three.</p>\n")
    assert "<td>d</td>" in table.body
    assert "Both:" in table.notes
    assert {slide.title for slide in listed} == {"Dots: key points"}
    assert "".join(slide.body for slide in listed).count("<li>") == 3
