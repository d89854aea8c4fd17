"""Make slides of each part from its executed chapters: reveal.js, with speaker notes, and nothing from the network.

A chapter gives its question, each figure with its caption, the table of what the paper reports and what we measured,
and its key points. What the chapter says before a figure is in the notes of its slide.
"""

import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from .execute import find_notebooks, is_added
from .stage import MATHJAX
from .toc import ROOT, BookError, parts, read, template

CAPTION = re.compile(r"\*(Fig\. [\d.]+ .*?)\*(?:\n\n|$)", re.DOTALL)
LINK = re.compile(r"(?<!!)\[([^\[\]]*)\]\([^()\s]+\)")
POINTS, COMPARED = "Key points", "What the paper"


class Slide(NamedTuple):
    """One slide; ``body`` and ``notes`` are HTML, ``image`` is a PNG in base64."""

    title: str
    body: str
    notes: str = ""
    image: str = ""
    alt: str = ""


def to_html(text: str) -> str:
    """Turn a chapter's plain Markdown into HTML; links lead nowhere from a slide, and become their words."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    def mathematics(content, options):
        opening, closing = ("\\[", "\\]") if options["display_mode"] else ("\\(", "\\)")
        content = content.replace("&", "&amp;").replace("<", "&lt;")
        return f"{opening}{content}{closing}"

    reader = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, renderer=mathematics)
    return reader.render(LINK.sub(r"\1", text))


def slides_of(name: str, executed: dict, source) -> list[Slide]:
    """Read a chapter's slides off its executed copy; alternative texts are in its source."""
    shown = iter(cell for cell in source.cells if cell.cell_type == "code")
    found, title, heading, before, points = [], name, "", "", []
    waiting = None  # a figure whose caption comes next
    for cell in (cell for cell in executed["cells"] if not is_added(cell)):
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            image = next((o["data"]["image/png"] for o in cell["outputs"] if "image/png" in o.get("data", {})), None)
            alt = next(shown).metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            waiting = ("".join(image), alt) if image else None
            for said in (o["data"]["text/markdown"] for o in cell["outputs"] if "text/markdown" in o.get("data", {})):
                if "answer" in cell["metadata"].get("tags", ()):  # computed last, and shown behind the question
                    found.insert(1, Slide(title, to_html("".join(said))))
                elif heading == POINTS:
                    points.append(Slide(f"{title}: key points", to_html("".join(said))))
                elif heading.startswith(COMPARED):
                    found.append(Slide(heading, to_html("".join(said)), to_html(before)))
            continue
        if waiting and (caption := CAPTION.match(text)):
            found.append(Slide(heading or title, to_html(caption[1]), to_html(before), *waiting))
            text = text[caption.end() :]
        waiting = None
        for block in re.split(r"^(?=#{1,2} )", text, flags=re.MULTILINE):
            first, _, rest = block.partition("\n")
            if first.startswith("# "):
                title = first.removeprefix("# ").strip()
                question = re.search(r"\*\*Question\.\*\* (.+?)(?:\n\n|$)", rest, re.DOTALL)
                aim = re.search(r"\*\*Afterwards you can\*\* (.+?)(?:\n\n|$)", rest, re.DOTALL)
                asked = to_html(question[1]) if question else ""
                found.append(Slide(title, asked, to_html(f"Afterwards they can {aim[1]}") if aim else ""))
                before = rest
                continue
            if first.startswith("## "):
                heading, block = first.removeprefix("## ").strip(), rest
            if heading.startswith(COMPARED) and (table := re.search(r"(?:^\|.*\n?)+", block, re.MULTILINE)):
                found.append(Slide(heading, to_html(table[0]), to_html(block.replace(table[0], ""))))
            elif heading == POINTS and (listed := re.match(r"\s*((?:- .*\n(?:  .*\n)*)+)", f"{block}\n")):
                points.append(Slide(f"{title}: key points", to_html(listed[1])))
            before = block
    return [*found, *points]


def write(root: Path, folder: Path) -> list[Path]:
    """Write the slides of every numbered part, with what they load beside them."""
    book = root / "book"
    reveal = book / "node_modules" / "reveal.js"
    mathjax = book / "node_modules" / "mathjax" / MATHJAX
    if missing := [path for path in (reveal / "dist" / "reveal.js", mathjax) if not path.is_file()]:
        raise BookError(f"there is no {missing[0]}; run: npm ci --prefix book")
    notebooks = {notebook.name: notebook for notebook in find_notebooks(root, "quick")}
    fresh = folder.with_name(f"{folder.name}-part")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(reveal / "dist", fresh / "reveal", ignore=shutil.ignore_patterns("*.map", "*.esm.js"))
    shutil.copytree(reveal / "plugin" / "notes", fresh / "reveal" / "notes")
    shutil.copy(mathjax, fresh / "reveal")
    for number, part in enumerate((part for part in parts(root) if part.numbered), 1):
        chapters = []
        for name in (page for page in part.pages if page in notebooks):
            executed = notebooks[name].executed
            if not executed.exists():
                raise BookError(f"{name} is not executed; run make book first")
            chapters.append(slides_of(name, json.loads(executed.read_text("utf-8")), read(notebooks[name].source)))
        text = template("slides.html").render(title=part.title, chapters=chapters, mathjax=mathjax.name)
        (fresh / f"part-{number}.html").write_text(text, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return sorted(folder.glob("part-*.html"))


def slides(root: Path = ROOT) -> None:
    """Write the slides into ``book/_build/slides``."""
    for page in write(root, root / "book" / "_build" / "slides"):
        print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
