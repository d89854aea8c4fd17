"""Make one PDF and one EPUB of the built book, and a note of one of its pages.

Both begin with one long page, put together from the built ones: links between pages lead to places in it, what was
folded is open (but for the code of figures, which is left out), and what a figure shows without a script stays.
Chromium prints that page; pandoc turns it into an EPUB whose equations are MathML.
"""

import posixpath
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

from . import check
from .stage import pictures
from .toc import ROOT, BookError, chapters, parts, read_yaml, template

STYLE = Path(__file__).with_name("print.css")
NAME = "geometry-of-reasoning"
NOTE, WORKS = "notebooks/found", "bibliography"  # the page that is a note, too, and that of the works it cites
LEFT_OUT = (
    "script, style, .headerlink, .thebelab-cell, .copybtn, input, label, button, noscript, .toggle-button,"
    " details.above-input, details.below-input, .cell.tag_hide-input > .cell_input, a[target=_blank].colab,"
    " img.only-dark"
)


def _place(page: str, fragment: str) -> str:
    """Name a place of the long page: ids are unique on a page, and need not be in the book."""
    return f"{page.replace('/', '-')}--{fragment}"


def read(path: Path):
    """Read the text of a built page."""
    from bs4 import BeautifulSoup

    text = BeautifulSoup(path.read_text("utf-8"), "html.parser").select_one("article.bd-article > section")
    if text is None:
        raise BookError(f"{path.name} holds no chapter; run make book again")
    return text


def prepare(text, name: str, tops: dict[str, str]) -> None:
    """Turn a page into a chapter: remove what is for screens, and make its ids and links those of the whole book."""
    from bs4 import BeautifulSoup

    for tag in text.select(LEFT_OUT):
        tag.decompose()
    for tag in text.select("details"):
        tag["open"] = ""
    for tag in text.select(".dropdown, .toggle"):
        tag["class"] = [one for one in tag["class"] if one not in ("dropdown", "toggle")]
    # Headings stand at the top level, where a printer looks for chapters; they take the names of their sections.
    for section in [text, *text.select("section")]:
        if heading := section.find(["h1", "h2", "h3", "h4", "h5", "h6"]):
            heading["id"] = section["id"]
    for section in text.select("section"):
        section.unwrap()
    for tag in text.select("[id]"):
        tag["id"] = _place(name, tag["id"])
    for tag in text.select("dt[id], figure[id], table[id]"):  # where pandoc does not see an id, or not always
        place = BeautifulSoup("", "html.parser").new_tag("span", id=tag["id"])
        del tag["id"]
        (tag.find(["figcaption", "caption"]) or tag).insert(0, place)
    for tag in text.select("p.downloads"):
        tag.decompose()  # files that the page holds: not in print
    for tag in text.select("a[href]"):
        target = urlsplit(tag["href"])
        if target.scheme or target.netloc:
            continue
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(target.path)))
        page = path.removesuffix(".html") if target.path else name
        if page in tops:
            tag["href"] = "#" + _place(page, unquote(target.fragment) or tops[page])
        else:
            tag.unwrap()  # the general index, a file to download: not in print
    for tag in text.select("img[src]"):
        tag.attrs.pop("loading", None)  # print waits for no picture
        if not tag["src"].startswith("data:"):
            tag["src"] = posixpath.normpath(posixpath.join("../html", posixpath.dirname(name), tag["src"]))


def put_stills(text, notebook: Path) -> None:
    """Replace figures that move by their stills: readers of EPUBs may support neither scripts nor drawings."""
    stills = pictures(notebook) if notebook.exists() else {}
    for drawing in text.select("figure .geolib-figure"):
        figure = drawing.find_parent("figure")
        label = drawing.svg["aria-label"]
        drawing.clear()
        drawing.name, drawing.attrs = "img", {"alt": label, "src": f"data:image/png;base64,{stills[figure['id']]}"}


def _taken(root: Path, names: list[str], stills: bool = False) -> dict:
    """Read built pages and prepare them; also return their tops, and what else a template needs."""
    build = root / "book" / "_build"
    pages = build / "html"
    if missing := [name for name in names if not (pages / f"{name}.html").is_file()]:
        raise BookError(f"there is no {missing[0]}.html in {pages}; run make book first")
    if (script := next((pages / "_static" / "mathjax").glob("*.js"), None)) is None:
        raise BookError("the book has no MathJax of its own; install npm and run make book again")
    texts = {name: read(pages / f"{name}.html") for name in names}
    tops = {name: text["id"] for name, text in texts.items()}
    for name, text in texts.items():
        if stills:
            put_stills(text, build / "stage" / f"{name}.ipynb")
        prepare(text, name, tops)
    return {"texts": texts, "tops": tops, "style": STYLE.as_uri(), "mathjax": script.name}


def whole(root: Path, stills: bool) -> str:
    """Put the built pages together as one."""
    given = _taken(root, list(chapters(root)), stills)
    config = read_yaml(root / "book" / "_config.yml")
    return template("print.html").render(given, config=config, parts=parts(root), place=_place)


def note(root: Path) -> str:
    """Set a page as a note in two columns: its answer is the abstract, and the works that it cites stand at the end."""
    given = _taken(root, [NOTE, WORKS])
    text, works = given["texts"].values()
    cited = {link["href"] for link in text.select("a[href]")}
    citation = read_yaml(root / "CITATION.cff")
    given |= {"citation": citation, "authors": ", ".join(one["name"] for one in citation["authors"])}
    given |= {"works": [work for work in works.select(".citation") if f"#{work['id']}" in cited]}
    given |= {"title": text.h1.extract().get_text(), "abstract": text.select_one(".admonition.tip").extract()}
    given["abstract"].select_one(".admonition-title").decompose()
    for line in text.find_all("strong", string=["Question.", "Time"]):
        line.parent.decompose()
    return template("note.html").render(given, text=text)


def pdf(page: Path, target: Path) -> None:
    """Print the long page: with page numbers, and the headings as an outline."""
    from playwright.sync_api import sync_playwright

    if check.find_browser() is None:
        raise BookError(check.NO_BROWSER)
    footer = '<div style="width:100%;font-size:8px;text-align:center"><span class="pageNumber"></span></div>'
    with sync_playwright() as playwright:
        browser = check.launch(playwright)
        tab = browser.new_page()
        tab.set_default_timeout(120_000)
        tab.goto(page.as_uri(), wait_until="load")
        tab.wait_for_function("window.MathJax.startup && MathJax.startup.promise.then(() => true)")
        if failed := tab.locator("mjx-merror").count():
            raise BookError(f"{failed} equations could not be set")
        margin = dict.fromkeys(("top", "bottom", "left", "right"), "18mm")
        tab.pdf(
            path=target, format="A4", margin=margin, outline=True, tagged=True, print_background=True,
            display_header_footer=True, header_template="<span></span>", footer_template=footer,
        )  # fmt: skip
        browser.close()


def epub(page: Path, target: Path) -> None:
    """Let pandoc make the EPUB: a file for each chapter, MathML, contents; title and author are in the page's head."""
    import pypandoc

    command = [pypandoc.get_pandoc_path(), page.name, "--from", "html+tex_math_single_backslash", "--to", "epub3"]
    command += ["--mathml", "--split-level=1", "--toc-depth=2", "--output", str(target)]
    done = subprocess.run(command, cwd=page.parent, capture_output=True, text=True, check=False)
    if done.returncode or done.stderr.strip():
        raise BookError(f"pandoc: {done.stderr.strip()[:2000]}")


def make(root: Path = ROOT, kind: str = "pdf") -> None:
    """Make ``book/_build/print/geometry-of-reasoning``, a ``"pdf"`` or an ``"epub"``, or the ``"note"`` beside it."""
    folder = root / "book" / "_build" / "print"
    folder.mkdir(parents=True, exist_ok=True)
    page, target = folder / "book.html", folder / f"{NAME}.{kind}"
    if kind == "note":
        page, target = folder / "note.html", folder / f"{NAME}-note.pdf"
    part = target.with_stem(f"{target.stem}-part")
    page.write_text(note(root) if kind == "note" else whole(root, stills=kind == "epub"), encoding="utf-8")
    {"pdf": pdf, "epub": epub, "note": pdf}[kind](page, part)
    part.replace(target)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
