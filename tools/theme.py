"""Correct in built pages what no setting of the theme can: an extension of Sphinx, at the end of a build."""

import re
import shutil
from pathlib import Path

from .stage import DARK

# What the theme and its extensions write, and a browser or a screen reader stumbles over.
MENDED = (
    # Live code is not offered; its settings come twice, which is an error, and name an address outside.
    (re.compile(r"\s*<script>const THEBE_JS_URL.*?</script>"), ""),
    (re.compile(r"\s*<script async=\"async\" src=\"[^\"]*sphinx-thebe\.js[^\"]*\"></script>"), ""),
    # The field's text says what it is, and its key.
    (re.compile(r'(<button class="btn search-button-field[^>]*?) title="Search" aria-label="Search"'), r"\1"),
    # The button is labelled; the icons' titles would be another name for it.
    (re.compile(r'(<i class="theme-switch [^>]*?) title="[^"]*"'), r"\1"),
    # What folds says so itself: "Show code cell source".
    (re.compile(r'(<summary) aria-label="Toggle hidden content"'), r"\1"),
    # Roles that are deprecated, of a list that holds more than its items.
    (re.compile(r' role="doc-biblioentry"|(?<=<div) role="list"(?= class="citation-list")'), ""),
    # The index of modules: what the image is for.
    (re.compile(r'(<img src="[^"]*minus\.png"[^>]*) alt="-"'), r'\1 alt="Show or hide what is in this module"'),
)
# A picture that MyST-NB has named by its digest.
IMAGE = re.compile(r'<img (?![^>]*class=)[^>]*/([0-9a-f]{64}\.(?:png|svg))"[^>]*>')
PROOF_INDEX = "prf-prf.html"


def setup(app):
    """Make the extension known to Sphinx."""
    app.connect("build-finished", _finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _finish(app, failed):
    if not failed and app.builder.format == "html":
        mend(Path(app.outdir))
        show_dark(Path(app.srcdir) / DARK, Path(app.outdir))


def show_dark(dark: Path, pages: Path) -> None:
    """Add the dark version beside each picture that has one: the theme shows the one that fits the reader's choice."""
    for picture in dark.glob("*.*"):
        shutil.copy(picture, pages / "_images" / f"dark-{picture.name}")
    _change(pages, [(IMAGE, lambda found: _both(found[0]) if (dark / found[1]).exists() else found[0])])


def _both(tag: str) -> str:
    """Write the tag of a picture twice, once for each theme; a lazy picture that is not shown is not fetched.

    Both are in an element of their own: the theme hides, with a picture, the caption that stands beside it.
    """
    light, dark = (tag.replace("<img ", f'<img loading="lazy" class="only-{theme}" ', 1) for theme in ("light", "dark"))
    dark = re.sub(r"([0-9a-f]{64}\.)", r"dark-\1", dark, count=1)
    return f'<span class="themes">{light}{dark}</span>'


def mend(pages: Path) -> None:
    """Correct in built pages what no setting of the theme can."""
    _change(pages, MENDED)
    name_theorems(pages)


def _change(pages: Path, changes) -> None:
    for page in pages.rglob("*.html"):
        old = new = page.read_text("utf-8")
        for pattern, put in changes:
            new = pattern.sub(put, new)
        if new != old:
            page.write_text(new, encoding="utf-8")


def name_theorems(pages: Path) -> None:
    """Write, in the index of theorems, their numbers and titles in place of the sources' labels."""
    index = pages / PROOF_INDEX
    if not index.exists():
        return
    text = index.read_text("utf-8")
    for page, label in re.findall(r'<a href="([^"#]+)#([^"]+)"><code class="xref">', text):
        shown = rf'id="{re.escape(label)}">\s*<p class="admonition-title"><span class="caption-number">(.*?)</p>'
        if found := re.search(shown, (pages / page).read_text("utf-8"), re.DOTALL):
            name = " ".join(re.sub(r"<[^>]+>", "", found[1]).split())
            label = re.escape(label)
            text = re.sub(rf'<code class="xref">{label}</code></a> <em>.*?</em>', f"{name}</a>", text)
            text = re.sub(rf"<strong>{label}</strong>", f"<strong>{name}</strong>", text)
    index.write_text(text, encoding="utf-8")
