"""Lay out what jupyter-book renders: the pages, and the sources' cells with the executed outputs."""

import base64
import hashlib
import io
import json
import os
import posixpath
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from .execute import Notebook, code_cells, last_seconds, other_results, read_executed
from .home import COLAB, repository
from .toc import BookError, read, read_yaml

# One file that holds every TeX extension and all glyphs: no page has to ask for anything else.
MATHJAX = "es5/tex-svg-full.js"
DARK = "dark"  # the folder of pictures on a dark ground
NOT_STAGED = ("_build", "node_modules", "package*.json", ".npmrc", "results")
NOT_STAGED += ("repository.yml", "readme.png", "assignments")
NOT_SEARCHED = ["404.html", "genindex.html", "search.html"]
OTHERS = """
:::{note}
This build reads other runs than the book's own. Its tables, figures and computed sentences are about those runs; text
that is not computed is about the book's own.
:::
"""


def stage(root: Path, notebooks: list[Notebook], profile: str) -> Path:
    """Lay out what jupyter-book renders: the pages, and the sources' cells with the executed outputs."""
    import nbformat

    staged = root / "book" / "_build" / "stage"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(root / "book", staged, ignore=shutil.ignore_patterns(*NOT_STAGED))
    other = shutil.ignore_patterns("*.md", "*.ipynb", ".ipynb*")
    shutil.copytree(root / "notebooks", staged / "notebooks", ignore=other)
    seconds = {notebook.name: round(last_seconds(notebook), 1) for notebook in notebooks}
    for page in staged.glob("*.md"):
        page.write_text(_links_to_staged(page.read_text("utf-8"), page.stem, seconds), encoding="utf-8")
    for notebook in notebooks:
        page = read(notebook.source)
        cells = [cell for cell in page.cells if cell.cell_type == "code"]
        others = OTHERS if other_results() and page.metadata.get("runs") else ""
        if note := _note(notebook.lacking) if notebook.lacking else others:
            title, _, rest = page.cells[0].source.partition("\n")
            page.cells[0].source = f"{title}\n{note}\n{rest}"
        executed = _left_out(notebook, cells) if notebook.lacking else read_executed(notebook)
        if len(cells) != len(code_cells(executed)):
            raise BookError(f"{notebook.name}.md has changed while the book was built: build it again")
        for cell, ran in zip(cells, code_cells(executed), strict=True):
            shown = [output for output in ran["outputs"] if output.get("name") != "stderr"]  # only progress bars
            _put_aside(shown, staged / DARK)
            cell.outputs = nbformat.from_dict(shown)
            cell.execution_count = ran["execution_count"]
        for number, cell in enumerate(page.cells):
            cell.id = f"cell-{number}"
            if cell.cell_type == "markdown":
                cell.source = _links_to_staged(cell.source, notebook.name, seconds)
        language = nbformat.from_dict(executed["metadata"]["language_info"])
        page.metadata = nbformat.NotebookNode(kernelspec=page.metadata.kernelspec, language_info=language)
        page.nbformat, page.nbformat_minor = 4, 5
        nbformat.write(page, staged / f"{notebook.name}.ipynb")
    (staged / "timings.json").write_text(json.dumps({"profile": profile, "seconds": seconds}, indent=1), "utf-8")
    (staged / "timings.md").write_text(_timings_table(seconds, profile), encoding="utf-8")
    (staged / "shell.md").write_text(_shell_help(), encoding="utf-8")
    config = read_yaml(root / "book" / "_config.yml")
    if script := _mathjax(root / "book"):
        local = staged / "extra" / "_static" / "mathjax" / script.name  # outside _static, whose scripts all load
        local.parent.mkdir(parents=True)
        shutil.copy(script, local)
        settings = config.setdefault("sphinx", {}).setdefault("config", {})
        settings |= {"html_extra_path": ["extra"], "mathjax_path": f"mathjax/{script.name}"}
    if home := repository(root):
        config |= {"repository": {"url": home.address, "branch": home.branch, "path_to_book": ""}}
        config |= {"launch_buttons": {"colab_url": COLAB, "notebook_interface": "classic"}}
        settings = {"use_repository_button": True, "use_issues_button": True, "baseurl": home.pages}
        config.setdefault("html", {}).update(settings)
        sphinx = config.setdefault("sphinx", {})
        # Cards and the map of the site need whole addresses; so does the page for what is not there, at any depth.
        sphinx.setdefault("extra_extensions", []).extend(["sphinxext.opengraph", "sphinx_sitemap"])
        settings = {
            "ogp_site_url": home.pages,
            "ogp_site_name": config["title"],
            "notfound_urls_prefix": urlsplit(home.pages).path,
        }
        settings |= {"sitemap_url_scheme": "{link}", "sitemap_show_lastmod": False, "sitemap_excludes": NOT_SEARCHED}
        sphinx.setdefault("config", {}).update(settings)
    (staged / "_config.yml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return staged


def _put_aside(outputs: list[dict], folder: Path) -> None:
    """Move what was drawn on a dark ground into a folder, under the name that MyST-NB gives to the picture itself."""
    from geolib import figures  # which brings matplotlib: the other commands do without

    for data in (output.get("data", {}) for output in outputs):
        for kind, mime in (("svg", "image/svg+xml"), ("png", "image/png")):
            if dark := data.pop(figures.DARK + kind, None):
                if kind == "png":
                    data[mime], dark = map(_few_colors, (data[mime], dark))
                folder.mkdir(exist_ok=True)
                name = hashlib.sha256(_bytes(data[mime], kind)).hexdigest()
                (folder / f"{name}.{kind}").write_bytes(_bytes(dark, kind))


def _few_colors(picture: str) -> str:
    """Write a PNG in base64 anew, with 256 colours: a third of the bytes, which nobody sees."""
    from PIL import Image  # matplotlib brings it

    file, drawn = io.BytesIO(), Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    drawn.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _bytes(data: str | list[str], kind: str) -> bytes:
    """Bytes of a picture in a notebook, as MyST-NB writes them."""
    text = "".join(data)
    return base64.b64decode(text) if kind == "png" else os.linesep.join(text.splitlines()).encode()


def _note(lacking: tuple[str, ...]) -> str:
    """Say on a page which runs are not there."""
    runs = " ".join(f"--run {run}" for run in lacking)
    return f"""
:::{{warning}}
The results folder of this build does not hold what this chapter reads (`geolib sweep {runs}` makes it). Its figures and
tables are left out, and what its text says of results is about the book's own runs.
:::
"""


def _left_out(notebook: Notebook, cells: list) -> dict:
    """Make the copy of a notebook that was not executed: where figures belong, a line that says so."""
    executed = json.loads(notebook.paired.read_text("utf-8"))
    executed["metadata"]["language_info"] = {"name": "python"}
    for cell, source in zip(code_cells(executed), cells, strict=True):
        if "figure" in source.metadata.get("mystnb", {}):
            data = {"image/png": _blank(), "text/plain": "left out"}
            cell["outputs"] = [{"output_type": "display_data", "data": data, "metadata": {}}]
    return executed


def _blank() -> str:
    from PIL import Image, ImageDraw  # matplotlib brings it

    picture, file = Image.new("RGB", (640, 48), "#f2f2f2"), io.BytesIO()
    ImageDraw.Draw(picture).text((16, 18), "Left out: the results folder does not hold this run.", fill="#333333")
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _links_to_staged(text: str, here: str, notebooks: dict) -> str:
    """Point Markdown links at the staged ``.ipynb`` of a notebook, which its source links to as ``.md``."""

    def link(match: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[1]))
        return f"]({match[1]}.ipynb" if target in notebooks else match[0]

    return re.sub(r"\]\(([^()\s:]+)\.md(?=[)#])", link, text)


def _timings_table(seconds: dict[str, float], profile: str) -> str:
    rows = [f"| {{doc}}`/{name}` | {taken:.1f} |" for name, taken in seconds.items()]
    rows.append(f"| all, one after the other | {sum(seconds.values()):.1f} |")
    caption = f"Profile `{profile}`, {os.cpu_count()} cores."
    return "\n".join([caption, "", "| notebook | seconds |", "|:--|--:|", *rows, ""])


def _shell_help() -> str:
    """Collect what each command of the shell says of itself."""
    import click

    from geolib.cli import group

    helps = (
        command.get_help(click.Context(command, info_name=f"geolib {name}", max_content_width=84))
        for name, command in sorted(group.commands.items())
    )
    return "\n\n".join(f"```text\n{text}\n```" for text in helps) + "\n"


def _mathjax(book: Path) -> Path | None:
    """Find MathJax among what npm installed; None, and a word about it, where it is not there."""
    script = book / "node_modules" / "mathjax" / MATHJAX
    if script.exists():
        return script
    print("equations will load MathJax from its CDN; for an offline book: npm ci --prefix book (Node 18 or newer)")
    return None
