"""What is in the book, and where: its table of contents, parts and chapters, and the sources of its notebooks."""

import copy
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
MADE = {"_build", "node_modules", "__pycache__", ".ipynb_checkpoints", "readme.png"}


class BookError(ValueError):
    """An error that stops a command; its message is for the user."""


class Part(NamedTuple):
    """A part of the book, with the pages of each of its chapters; the first page is in a part without a title."""

    title: str
    numbered: bool
    chapters: list[list[str]]

    @property
    def pages(self) -> list[str]:
        """Its pages, in order."""
        return [page for chapter in self.chapters for page in chapter]


def parts(root: Path = ROOT) -> list[Part]:
    """Read the table of contents."""
    toc = read_yaml(root / "book" / "_toc.yml")
    found = [Part("", False, [[toc["root"]]])]
    for part in toc.get("parts", [toc]):
        pages = [[page["file"] for page in (one, *one.get("sections", []))] for one in part.get("chapters", [])]
        found.append(Part(part.get("caption", ""), bool(part.get("numbered")), pages))
    return found


def chapters(root: Path = ROOT) -> dict[str, str]:
    """Return every page of the table of contents, in order, with its chapter number ("" where it has none)."""
    pages, last = {}, 0
    for part in parts(root):
        for chapter in part.chapters:
            last += part.numbered
            pages |= dict.fromkeys(chapter, str(last) if part.numbered else "")
    return pages


def read(source: Path):
    """Read a MyST source as a notebook whose Markdown cells still hold MyST."""
    from jupytext.myst import MystMetadataParsingError

    try:
        return copy.deepcopy(_parsed(source.read_text(encoding="utf-8")))
    except MystMetadataParsingError as error:
        raise BookError(f"{source.name}: {' '.join(str(error).split())}") from error


@cache  # a build reads each source four times
def _parsed(text: str):
    import jupytext

    return jupytext.reads(text, fmt="md:myst")


def files(folder: Path) -> list[Path]:
    """List the files in a folder, in order, without those that npm installs or that builds, Python and Jupyter make."""
    found = []
    for place, inner, names in os.walk(folder, followlinks=True):
        inner[:] = set(inner) - MADE
        found += [Path(place, name) for name in set(names) - MADE]
    return sorted(path for path in found if path.is_file())  # an editor's lock may be a link to nothing


def template(name: str):
    """Read a template beside this module; values put into it are escaped."""
    import jinja2

    beside, strict = jinja2.FileSystemLoader(ROOT / "tools"), jinja2.StrictUndefined
    look = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=beside, undefined=strict)
    return look.get_template(name)


def read_yaml(path: Path) -> dict:
    """Read a file of settings; a missing file sets nothing."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}
