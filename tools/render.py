"""Render the stage into pages, whole or not at all."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

from .execute import ANSI, Notebook, common_files, digest_of, execute, find_notebooks, last_seconds
from .home import elsewhere
from .stage import few_colors, mathjax, pictures, stage
from .toc import ROOT, BookError, files

README_FIGURE = "fig-mosaic"
LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\s\"'>]+")
LINKED = re.compile(r"<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon))[^>]*(?:https?:)?//[^>]+")
NO_MATHJAX = "equations load MathJax from its CDN; for an offline book: npm ci --prefix book (Node 18 or newer)"
# Variables that geolib, Sphinx and its extensions read.
VARIABLES = ("GEOLIB_", "LANG", "LC_", "READTHEDOCS", "SOURCE_DATE_EPOCH")


def sources(root: Path, profile: str) -> tuple[str, list[int]]:
    """Digest everything that the pages are made from; also return the files' times, since an edit may be undone."""
    folders = [root / "book", root / "notebooks", ROOT / "geolib", ROOT / "tools"]
    named = {os.path.relpath(path, root): path for folder in folders for path in files(folder)} | common_files(root)
    if script := mathjax(root):
        named["mathjax"] = script
    # The names of these folders hold the versions of what is installed.
    installed = sorted(folder.name for place in sys.path for folder in Path(place).glob("*.dist-info"))
    variables = sorted(item for item in os.environ.items() if item[0].startswith(VARIABLES))
    digest = repr([digest_of(named), profile, os.cpu_count(), sys.version, installed, variables])
    return digest, [path.stat().st_mtime_ns for path in named.values()]


def stamp(made_from: str, build: Path, profile: str) -> str:
    """Digest what the pages are made from and what was made: while the digest stays, there is nothing to do."""
    made = [path for folder in (f"executed/{profile}", "stage", "html") for path in files(build / folder)]
    digest = digest_of({str(path.relative_to(build)): path for path in made})
    return hashlib.sha256(f"{made_from}{digest}".encode()).hexdigest()


def render(staged: Path, build: Path) -> None:
    """Render the stage into ``build/html``."""
    html = build / "html"
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
    shutil.rmtree(html, ignore_errors=True)
    pages.rename(html)
    shutil.rmtree(build / "render", ignore_errors=True)


def outside_requests(pages: Path) -> list[str]:
    """List the tags of built pages that make a browser load something from elsewhere."""
    return [
        f"{page.relative_to(pages)}: {tag[:200]}"
        for page in sorted(pages.rglob("*.html"))
        for pattern in (LOADED, LINKED)
        for tag in pattern.findall(page.read_text("utf-8"))
    ]


def readme_figure(root: Path, staged: Path) -> None:
    """Make the README's figure from its page, unless it exists: delete the file to have it made again."""
    path = root / "book" / "readme.png"
    if path.exists():
        return
    for image in (found[README_FIGURE] for found in map(pictures, staged.rglob("*.ipynb")) if README_FIGURE in found):
        path.write_bytes(base64.b64decode(few_colors(image, 64)))


def build_book(root: Path = ROOT, profile: str = "quick", jobs: int = 2) -> None:
    """Bring the book up to date, and say what was done."""
    started = time.perf_counter()
    build = root / "book" / "_build"
    build.mkdir(exist_ok=True)
    kept, pages = build / "html.stamp", "unchanged"
    with FileLock(build / ".lock"):  # of two builds at once one waits
        made_from, times = sources(root, profile)
        before, *said = kept.read_text("utf-8").splitlines() if kept.exists() else [""]
        if before != stamp(made_from, build, profile):
            notebooks = find_notebooks(root, profile)
            executed = execute(notebooks, build, jobs)
            render(stage(root, notebooks, profile), build)
            if sources(root, profile) == (made_from, times):  # nothing was written while the pages were made
                said = [_report(notebook, cached=True) for notebook in notebooks]
                kept.write_text("\n".join([stamp(made_from, build, profile), *said]), encoding="utf-8")
            said = [_report(notebook, cached=notebook.name not in executed) for notebook in notebooks]
            pages = "rendered"
        readme_figure(root, build / "stage")
    said += filter(None, ["" if mathjax(root) else NO_MATHJAX, elsewhere(root)])
    taken = f"{time.perf_counter() - started:.1f} s"
    print("\n".join([*said, f"total: {taken}, pages {pages}; open {build / 'html' / 'index.html'}"]))


def _report(notebook: Notebook, *, cached: bool) -> str:
    """Say of a notebook how long it took, or that it was left out."""
    if notebook.lacking:
        return f"{notebook.name}: left out, for want of the runs {', '.join(notebook.lacking)}"
    seconds = f"{last_seconds(notebook):.1f} s"
    return f"{notebook.name}: {f'cached ({seconds} when run)' if cached else seconds}"
