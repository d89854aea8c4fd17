"""Render the stage into pages, whole or not at all."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

from .execute import ANSI, code_cells, digest_of, execute, find_notebooks, last_seconds
from .home import elsewhere
from .stage import stage
from .toc import ROOT, BookError

README_FIGURE = "fig-mosaic"
LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\s\"'>]+")
LINKED = re.compile(r"<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon))[^>]*(?:https?:)?//[^>]+")


def render(staged: Path, build: Path) -> bool:
    """Render the stage into ``build/html``, unless that is what it already shows; say whether it was needed."""
    html, stamp = build / "html", build / "html.stamp"
    files = {str(path.relative_to(staged)): path for path in sorted(staged.rglob("*")) if path.is_file()}
    digest = digest_of(files)
    if stamp.exists() and stamp.read_text("utf-8") == digest and (html / "index.html").exists():
        return False
    shutil.rmtree(build / "render", ignore_errors=True)
    fresh = build / "render" / str(os.getpid())  # of its own: the processes of a build that was killed may still write
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(staged), "--path-output", str(fresh), "-W", "-n", "--keep-going", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    pages = fresh / "_build" / "html"
    if done.returncode or not (pages / "index.html").exists():
        said = ANSI.sub("", done.stderr or done.stdout).replace(f"{staged}{os.sep}", "")
        raise BookError(f"jupyter-book could not render the book without warnings:\n{said.strip()}")
    if (staged / "extra").exists() and (asked := outside_requests(pages)):
        raise BookError("pages ask for what is not in the book:\n" + "\n".join(asked))
    for source in (pages / "_sources" / "notebooks").rglob("*.ipynb"):  # what the download button gives
        shutil.copy(build.parent.parent / source.relative_to(pages / "_sources"), source)
    stamp.unlink(missing_ok=True)
    shutil.rmtree(html, ignore_errors=True)
    pages.rename(html)
    stamp.write_text(digest, encoding="utf-8")
    shutil.rmtree(build / "render", ignore_errors=True)
    return True


def outside_requests(pages: Path) -> list[str]:
    """List the tags of built pages that make a browser load something from elsewhere."""
    return [
        f"{page.relative_to(pages)}: {tag[:200]}"
        for page in sorted(pages.rglob("*.html"))
        for pattern in (LOADED, LINKED)
        for tag in pattern.findall(page.read_text("utf-8"))
    ]


def readme_figure(root: Path, staged: Path) -> None:
    """Make the README's figure from its page, unless it is there: delete the file to have it made anew."""
    path = root / "book" / "readme.png"
    if path.exists():
        return
    for page in staged.rglob("*.ipynb"):
        for cell in code_cells(json.loads(page.read_text("utf-8"))):
            if cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") == README_FIGURE:
                from PIL import Image  # matplotlib brings it

                (image,) = (output["data"]["image/png"] for output in cell["outputs"] if "data" in output)
                picture = Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB")
                picture.quantize(64).save(path, optimize=True)  # a fraction of the bytes, and nobody sees it


def build_book(root: Path = ROOT, profile: str = "quick", jobs: int = 2) -> None:
    """Bring the book up to date, and say what was done."""
    started = time.perf_counter()
    build = root / "book" / "_build"
    build.mkdir(exist_ok=True)
    with FileLock(build / ".lock"):  # of two builds at once one waits
        notebooks = find_notebooks(root, profile)
        executed = execute(notebooks, build, jobs)
        staged = stage(root, notebooks, profile)
        rendered = render(staged, build)
        readme_figure(root, staged)
    for notebook in notebooks:
        seconds = f"{last_seconds(notebook):.1f} s"
        if notebook.lacking:
            print(f"{notebook.name}: left out, for want of the runs {', '.join(notebook.lacking)}")
            continue
        print(f"{notebook.name}: {seconds if notebook.name in executed else f'cached ({seconds} when run)'}")
    pages = "rendered" if rendered else "unchanged"
    first = build / "html" / "index.html"
    if said := elsewhere(root):
        print(said)
    print(f"total: {time.perf_counter() - started:.1f} s, pages {pages}; open {first}")
