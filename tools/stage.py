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
from .toc import MADE, BookError, read, read_yaml, template

# One file that holds every TeX extension and all glyphs: no page has to ask for anything else.
MATHJAX = "es5/tex-svg-full.js"
DARK = "dark"  # the folder of pictures on a dark ground
NOT_STAGED = (*MADE, "package*.json", ".npmrc", "results", "repository.yml", "assignments")
NOT_SEARCHED = ["404.html", "genindex.html", "search.html"]
LEFT_OUT = """<svg xmlns="http://www.w3.org/2000/svg" width="640" height="48">
<rect width="640" height="48" fill="#eee"/><text x="16" y="29">
Left out: the results folder does not hold this run.</text></svg>"""


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
        if notebook.lacking or (other_results() and page.metadata.get("runs")):
            title, _, rest = page.cells[0].source.partition("\n")
            page.cells[0].source = f"{title}\n\n{template('note.md').render(lacking=notebook.lacking)}\n{rest}"
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
        _answer_first(page)
        language = executed["metadata"]["language_info"]
        page.metadata = nbformat.from_dict({"kernelspec": page.metadata.kernelspec, "language_info": language})
        page.nbformat, page.nbformat_minor = 4, 5
        nbformat.write(page, staged / f"{notebook.name}.ipynb")
    (staged / "timings.md").write_text(_timings_table(seconds, profile), encoding="utf-8")
    (staged / "shell.md").write_text(_shell_help(), encoding="utf-8")
    config = read_yaml(root / "book" / "_config.yml")
    extensions, settings = config["sphinx"]["extra_extensions"], config["sphinx"]["config"]
    if script := mathjax(root):
        local = staged / "extra" / "_static" / "mathjax" / script.name  # outside _static, whose scripts all load
        local.parent.mkdir(parents=True)
        shutil.copy(script, local)
        settings |= {"html_extra_path": ["extra"], "mathjax_path": f"mathjax/{script.name}"}
    if home := repository(root):
        config["repository"] = {"url": home.address, "branch": home.branch, "path_to_book": ""}
        config["launch_buttons"] = {"colab_url": COLAB, "notebook_interface": "classic"}
        buttons = {"use_repository_button": True, "use_issues_button": True, "baseurl": home.pages}
        config["html"] = config.get("html", {}) | buttons
        # Cards and the map of the site need whole addresses; so does the page for what is not there, at any depth.
        extensions += ["sphinxext.opengraph", "sphinx_sitemap"]
        settings |= {"ogp_site_url": home.pages, "ogp_site_name": config["title"]}
        settings["notfound_urls_prefix"] = urlsplit(home.pages).path
        settings |= {"sitemap_url_scheme": "{link}", "sitemap_show_lastmod": False, "sitemap_excludes": NOT_SEARCHED}
    (staged / "_config.yml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return staged


def _answer_first(page) -> None:
    """Show what the cell tagged ``answer`` says in a box behind the question, though it can be computed last only."""
    for cell in [cell for cell in page.cells if "answer" in cell.metadata.get("tags", ())]:
        page.cells.remove(cell)
        for text in ("".join(output.data["text/markdown"]) for output in cell.outputs):
            box = f"\n\n:::{{admonition}} Answer\n:class: tip\n{text}\n:::\n\n"
            question, _, rest = page.cells[0].source.partition("\n\n**Time**")
            page.cells[0].source = f"{question}{box}**Time**{rest}"


def _put_aside(outputs: list[dict], folder: Path) -> None:
    """Move what was drawn on a dark ground into a folder, under the name that MyST-NB gives to the picture itself."""
    from geolib import figures  # which brings matplotlib: the other commands do without

    for data in (output.get("data", {}) for output in outputs):
        for kind, mime in (("svg", "image/svg+xml"), ("png", "image/png")):
            if dark := data.pop(figures.DARK + kind, None):
                if kind == "png":
                    data[mime], dark = map(few_colors, (data[mime], dark))
                folder.mkdir(exist_ok=True)
                name = hashlib.sha256(_bytes(data[mime], kind)).hexdigest()
                (folder / f"{name}.{kind}").write_bytes(_bytes(dark, kind))


def few_colors(picture: str, colors: int = 256) -> str:
    """Write a PNG in base64 again, in few colours: a third of the bytes, and nobody sees the difference."""
    from PIL import Image  # matplotlib brings it

    file, drawn = io.BytesIO(), Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    drawn.quantize(colors, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _bytes(data: str | list[str], kind: str) -> bytes:
    """Return the bytes of a picture in a notebook, as MyST-NB writes them."""
    text = "".join(data)
    return base64.b64decode(text) if kind == "png" else os.linesep.join(text.splitlines()).encode()


def pictures(staged: Path) -> dict[str, str]:
    """Read the figures of a staged notebook: ``{name: PNG in base64}``."""
    return {
        cell["metadata"]["mystnb"]["figure"]["name"]: output["data"]["image/png"]
        for cell in code_cells(json.loads(staged.read_text("utf-8")))
        for output in cell["outputs"]
        if "figure" in cell["metadata"].get("mystnb", {}) and "image/png" in output.get("data", {})
    }


def _left_out(notebook: Notebook, cells: list) -> dict:
    """Copy a notebook that was not executed, with a line of text in place of each figure."""
    executed = json.loads(notebook.paired.read_text("utf-8"))
    executed["metadata"]["language_info"] = {"name": "python"}
    for cell, source in zip(code_cells(executed), cells, strict=True):
        if "figure" in source.metadata.get("mystnb", {}):
            data = {"image/svg+xml": LEFT_OUT, "text/plain": "left out"}
            cell["outputs"] = [{"output_type": "display_data", "data": data, "metadata": {}}]
    return executed


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
    """Return the help texts of the shell's commands."""
    import click

    from geolib.cli import group

    helps = (  # of one width, whatever the terminal's is
        command.get_help(click.Context(command, info_name=f"geolib {name}", terminal_width=78))
        for name, command in sorted(group.commands.items())
    )
    return "\n\n".join(f"```text\n{text}\n```" for text in helps) + "\n"


def mathjax(root: Path) -> Path | None:
    """Return the path of the MathJax that npm installed; None if it is missing."""
    script = root / "book" / "node_modules" / "mathjax" / MATHJAX
    return script if script.exists() else None
