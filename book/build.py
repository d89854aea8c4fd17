"""Execute the notebooks that need it, and render the book from their outputs.

    python book/build.py                      the quick profile, two notebooks at a time
    python book/build.py --profile full       at the paper's scale
    python book/build.py --jobs 1             one at a time

A notebook whose source, parameters, package and data are unchanged is not executed again, and a book whose pages
are unchanged is not rendered again. Everything built is under ``book/_build``; the book is in its ``html``.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from filelock import FileLock

import pair

ROOT = pair.ROOT
PROFILES = ("quick", "full")
KERNEL = "book"
README_FIGURE = "fig-mosaic"
# One file that holds every TeX extension and all glyphs: no page has to ask for anything else.
MATHJAX = "es5/tex-svg-full.js"
NOT_STAGED = ("_build", "node_modules", "package*.json", ".npmrc", "*.py", "__pycache__")
NOT_STAGED += ("profiles.yml", "repository.yml", "colab.txt", "readme.png", "assignments")
NOT_SEARCHED = ["404.html", "genindex.html", "search.html"]
PROGRESS = re.compile(r"\r[^\r\n]*")  # a progress bar, which a terminal would have overwritten
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\s\"'>]+")
LINKED = re.compile(r"<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon))[^>]*(?:https?:)?//[^>]+")

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
PROOF_INDEX = "prf-prf.html"


OTHERS = """
:::{note}
This build reads other runs than the book's own. Its tables, figures and computed sentences are about those runs; text
that is not computed is about the book's own.
:::
"""


class BuildError(RuntimeError):
    """What stops a build, said so that it can be acted on."""


@dataclass(frozen=True)
class Notebook:
    """A notebook of the book, and where its executed copy is once it has one."""

    name: str  # as in _toc.yml: "notebooks/part-1-partitions/regions"
    source: Path  # the MyST source
    paired: Path  # the plain notebook beside it, which is the one executed
    parameters: dict
    needs: tuple[str, ...]
    executed: Path  # its name holds the key: the file exists exactly when nothing has changed since
    lacking: tuple[str, ...] = ()  # runs that it reads and the results folder does not hold: then it is not executed


def find_notebooks(root: Path, profile: str) -> list[Notebook]:
    """List the notebooks of the table of contents, in order."""
    names = []
    for name in pair.chapters(root):
        if (root / f"{name}.md").is_file():
            names.append(name)
        elif not (root / "book" / f"{name}.md").is_file():
            raise BuildError(f"book/_toc.yml lists {name}, but there is no {name}.md and no book/{name}.md")
    try:
        old, _ = pair.stale(root)
    except pair.PairError as error:
        raise BuildError(str(error)) from error
    if stale := [name for name in names if root / f"{name}.ipynb" in old]:
        raise BuildError(f"{', '.join(stale)}: the .ipynb is not in step with its .md; run: make pair")

    sources = {name: pair.read(root / f"{name}.md") for name in names}
    parameters = _parameters(root, profile, sources)
    needs = {name: tuple(source.metadata.get("needs", ())) for name, source in sources.items()}
    for name, needed in needs.items():
        if unknown := set(needed) - set(names):
            raise BuildError(f"{name}.md: needs {min(unknown)}, which is no notebook of book/_toc.yml")
    try:
        in_order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise BuildError(f"notebooks that need each other: {' -> '.join(error.args[1])}") from error

    common, found = _common_digest(root), {}
    results = _other_results() or root / "book" / "results"
    for name in in_order:
        source, paired = root / f"{name}.md", root / f"{name}.ipynb"
        key = hashlib.sha256(common)
        # What is said around the code may change without the code being run again.
        code = [[cell.source, cell.metadata] for cell in sources[name].cells if cell.cell_type == "code"]
        key.update(json.dumps([code, parameters[name]], sort_keys=True).encode())
        for needed in needs[name]:
            key.update(found[needed].executed.name.encode())
        executed = root / "book" / "_build" / "executed" / profile / f"{name}.{key.hexdigest()[:20]}.ipynb"
        lacking = tuple(run for run in sources[name].metadata.get("runs", ()) if not _is_there(results, run))
        found[name] = Notebook(name, source, paired, parameters[name], needs[name], executed, lacking)
    return [found[name] for name in names]


def _parameters(root: Path, profile: str, sources: dict) -> dict[str, dict]:
    """Read what the profile gives to each notebook: nothing to one that has no cell tagged ``parameters``."""
    overrides = _read_yaml(root / "book" / "profiles.yml").get(profile) or {}
    parameters = {name: {} for name in sources}
    for name, source in sources.items():
        if any("parameters" in cell.metadata.get("tags", ()) for cell in source.cells):
            parameters[name] = {"profile": profile, **overrides.pop(name, {})}
    if overrides:
        raise BuildError(f"book/profiles.yml: {profile}: {min(overrides)} has no cell tagged `parameters` to set")
    return parameters


def _common_digest(root: Path) -> bytes:
    """Digest what every notebook depends on: the package, its pinned versions, the data, the stored results."""
    # The model needs no line of its own: geolib pins the hash of its file, and refuses any other.
    files = [*(root / "geolib").rglob("*"), *(root / "book" / "results").rglob("*"), root / "constraints.txt"]
    names = {str(path.relative_to(root)): path for path in sorted(files) if "__pycache__" not in path.parts}
    if results := _other_results():
        names |= {f"results/{path.name}": path for path in sorted(results.glob("*.*"))}
    if data := os.environ.get("GEOLIB_DATA"):
        names["data"] = Path(data).expanduser() / "gsm8k_zero.jsonl"
    return _digest({name: path for name, path in names.items() if path.is_file()}).encode()


def _is_there(results: Path, run: str) -> bool:
    return all((results / f"{run}.{ending}").exists() for ending in ("parquet", "json"))


def _other_results() -> Path | None:
    """Find the folder of runs that the pages are to read in place of the book's own."""
    folder = os.environ.get("GEOLIB_RESULTS")
    if folder and not Path(folder).expanduser().is_dir():
        raise BuildError(f"GEOLIB_RESULTS is {folder}, but a folder of published runs was expected")
    return Path(folder).expanduser().resolve() if folder else None


def execute(notebooks: list[Notebook], build: Path, jobs: int) -> set[str]:
    """Execute what has no executed copy, ``jobs`` at a time; return the names of those executed."""
    by_name = {notebook.name: notebook for notebook in notebooks}
    graph = TopologicalSorter({notebook.name: notebook.needs for notebook in notebooks})
    graph.prepare()
    waiting, running, done = [], {}, set()
    try:
        while graph.is_active():
            waiting += [by_name[name] for name in graph.get_ready()]
            waiting.sort(key=_last_seconds, reverse=True)  # the longest first; the others keep the book's order
            while waiting and len(running) < jobs:
                notebook = waiting.pop(0)
                if notebook.lacking or _read_executed(notebook) is not None:
                    graph.done(notebook.name)
                else:
                    found = {key: say for name in notebook.needs for key, say in _findings(by_name[name]).items()}
                    running[notebook.name] = _start(notebook, build, found, jobs)
            for name, process in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    _finish(by_name[name], build, process.returncode)
                    graph.done(name)
                    done.add(name)
            time.sleep(0.05 if running else 0)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return done


def _findings(notebook: Notebook) -> dict:
    """Read what an executed notebook hands on: the JSON object that its cell tagged ``findings`` printed, if any."""
    found = {}
    for cell in [] if notebook.lacking else _code_cells(_read_executed(notebook)):
        if "findings" in cell["metadata"].get("tags", ()):
            text = "".join("".join(output["text"]) for output in cell["outputs"] if output.get("name") == "stdout")
            try:
                found |= json.loads(text)
            except (ValueError, TypeError):
                raise BuildError(f"{notebook.name}: its cell tagged `findings` printed no JSON object") from None
    return found


def _start(notebook: Notebook, build: Path, findings: dict, jobs: int) -> subprocess.Popen:
    """Start papermill on a notebook, in an empty folder; the parameter `findings` is what others handed on, if any."""
    # A folder of its own: the kernel of a build that was killed may still be writing to the last one's.
    shutil.rmtree(build / "run" / notebook.name, ignore_errors=True)
    run = _run_folder(build, notebook)
    (run / "empty").mkdir(parents=True)
    # The kernel is this very interpreter, whatever kernels the user has.
    kernel = build / "jupyter" / "kernels" / KERNEL / "kernel.json"
    kernel.parent.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}), "utf-8")
    # Every core for each: most of the time one long notebook runs alone. Threads that wait must then sleep, not spin,
    # or two notebooks at once would stall each other; OpenBLAS's spin whatever one says, so these are shared out.
    threads = os.cpu_count() or 1
    environment = dict(os.environ, JUPYTER_PATH=str(build / "jupyter"), IPYTHONDIR=str(build / "ipython"))
    environment |= {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "NUMEXPR", "NUMBA")}
    environment["OPENBLAS_NUM_THREADS"] = str(max(1, threads // jobs))
    environment |= {
        "OMP_WAIT_POLICY": "PASSIVE",
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONHASHSEED": "0",
    }
    environment["PYTHONWARNINGS"] = "ignore:IProgress not found"  # progress bars do without widgets
    if results := _other_results():
        environment["GEOLIB_RESULTS"] = str(results)  # whole, since the notebook runs elsewhere
    environment.pop("MPLBACKEND", None)  # figures go inline; a backend set for scripts would leave them blank
    command = [sys.executable, "-m", "papermill", str(notebook.paired), str(run / "executed.ipynb")]
    command += ["--kernel", KERNEL, "--cwd", str(run / "empty"), "--no-progress-bar"]
    if parameters := notebook.parameters | ({"findings": findings} if findings else {}):
        command += ["--parameters_yaml", json.dumps(parameters)]
    print(f"{notebook.name}: executing", flush=True)
    with (run / "log.txt").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def _finish(notebook: Notebook, build: Path, returncode: int) -> None:
    """Keep the executed copy of a notebook that succeeded; stop the build for one that did not."""
    run = _run_folder(build, notebook)
    executed = run / "executed.ipynb"
    wrong = problem(executed) if executed.exists() else None
    if wrong or returncode:
        log = ANSI.sub("", (run / "log.txt").read_text("utf-8", errors="replace")).strip()
        reason = wrong or log.split("\n")[-1]
        raise BuildError(f"{notebook.name} failed: {reason}\n\n(the whole traceback: {run / 'log.txt'})")
    notebook.executed.parent.mkdir(parents=True, exist_ok=True)
    earlier = _copies(notebook)
    executed.write_text(sealed(json.loads(executed.read_text("utf-8"))), "utf-8")
    executed.replace(notebook.executed)  # atomic: a copy is there whole, or not at all
    for copy in set(earlier) - {notebook.executed}:
        copy.unlink()
    shutil.rmtree(run)
    print(f"{notebook.name}: executed", flush=True)


def _run_folder(build: Path, notebook: Notebook) -> Path:
    return build / "run" / notebook.name / str(os.getpid())


def sealed(notebook: dict) -> str:
    """Write a notebook with its checksum among its metadata, so that a damaged copy is not believed."""
    notebook["metadata"]["sha256"] = ""
    digest = hashlib.sha256(json.dumps(notebook).encode()).hexdigest()
    notebook["metadata"]["sha256"] = digest
    return json.dumps(notebook)


def problem(path: Path) -> str | None:
    """Say why an executed copy must not be used; None if every cell ran, and ran well."""
    try:
        cells = _code_cells(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return "it cannot be read"
    for number, cell in enumerate(cells, start=1):
        texts = [f"{out['ename']}: {out['evalue']}" for out in cell["outputs"] if out["output_type"] == "error"]
        if not texts and (warning := _stderr(cell)):
            texts.append(f"it wrote to stderr, which a page must not show: {warning}")
        if not texts and cell["execution_count"] is None and "".join(cell["source"]).strip():
            texts.append("the cell was not executed: the kernel died or was stopped")
        if texts:
            source = "    " + "".join(cell["source"]).replace("\n", "\n    ")
            return f"code cell {number} of {len(cells)}\n\n{source}\n\n{ANSI.sub('', texts[0]).strip()}"
    return None


def _stderr(cell: dict) -> str:
    """Return what a cell wrote to stderr, progress bars aside."""
    text = "".join("".join(output["text"]) for output in cell["outputs"] if output.get("name") == "stderr")
    return PROGRESS.sub("", text).strip()


def _code_cells(notebook: dict) -> list[dict]:
    """List a notebook's code cells, without those that were added to its source."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [cell for cell in code if not is_added(cell)]


def is_added(cell: dict) -> bool:
    """Whether a cell is in no source: the one that installs, and the one in which papermill sets parameters."""
    return bool({pair.SETUP, "injected-parameters"} & set(cell["metadata"].get("tags", ())))


def _read_executed(notebook: Notebook) -> dict | None:
    """Read a notebook's executed copy; None if there is none, or none that may be rendered."""
    try:
        text = notebook.executed.read_text("utf-8")
        if sealed(json.loads(text)) == text and not problem(notebook.executed):
            return json.loads(text)
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError):
        pass
    print(f"{notebook.name}: its executed copy is damaged, and made again", flush=True)
    return None


def _copies(notebook: Notebook) -> list[Path]:
    """List the executed copies of a notebook, of this and of earlier keys."""
    return sorted(notebook.executed.parent.glob(f"{notebook.source.stem}.*.ipynb"))


def _last_seconds(notebook: Notebook) -> float:
    """Return how long a notebook took when it was last executed; 0 if it never was."""
    for copy in (notebook.executed, *_copies(notebook)):
        try:
            return json.loads(copy.read_text("utf-8"))["metadata"]["papermill"]["duration"]
        except (OSError, ValueError, KeyError):
            continue
    return 0.0


def stage(root: Path, notebooks: list[Notebook], profile: str) -> Path:
    """Lay out what jupyter-book renders: the pages, and the sources' cells with the executed outputs."""
    import nbformat

    staged = root / "book" / "_build" / "stage"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(root / "book", staged, ignore=shutil.ignore_patterns(*NOT_STAGED))
    if (extension := root / "book" / "quiz.py").exists():  # Sphinx's, of all that is Python here
        shutil.copy(extension, staged)
    shutil.copytree(
        root / "notebooks", staged / "notebooks", ignore=shutil.ignore_patterns("*.md", "*.ipynb", ".ipynb*")
    )
    seconds = {notebook.name: round(_last_seconds(notebook), 1) for notebook in notebooks}
    for page in staged.glob("*.md"):
        page.write_text(_links_to_staged(page.read_text("utf-8"), page.stem, seconds), encoding="utf-8")
    for notebook in notebooks:
        page = pair.read(notebook.source)
        cells = [cell for cell in page.cells if cell.cell_type == "code"]
        others = OTHERS if _other_results() and page.metadata.get("runs") else ""
        if note := _note(notebook.lacking) if notebook.lacking else others:
            title, _, rest = page.cells[0].source.partition("\n")
            page.cells[0].source = f"{title}\n{note}\n{rest}"
        executed = _left_out(notebook, cells) if notebook.lacking else _read_executed(notebook)
        if len(cells) != len(_code_cells(executed)):
            raise BuildError(f"{notebook.name}.md has changed while the book was built: build it again")
        for cell, ran in zip(cells, _code_cells(executed), strict=True):
            shown = [output for output in ran["outputs"] if output.get("name") != "stderr"]  # only progress bars
            cell.outputs = nbformat.from_dict(shown)
            cell.execution_count = ran["execution_count"]
        for number, cell in enumerate(page.cells):
            cell.id = f"cell-{number}"
            if cell.cell_type == "markdown":
                cell.source = _links_to_staged(cell.source, notebook.name, seconds)
        language = {"language_info": nbformat.from_dict(executed["metadata"]["language_info"])}
        page.metadata = nbformat.NotebookNode(kernelspec=page.metadata.kernelspec, **language)
        page.nbformat, page.nbformat_minor = 4, 5
        nbformat.write(page, staged / f"{notebook.name}.ipynb")
    (staged / "timings.json").write_text(json.dumps({"profile": profile, "seconds": seconds}, indent=1), "utf-8")
    (staged / "timings.md").write_text(_timings_table(seconds, profile), encoding="utf-8")
    (staged / "shell.md").write_text(_shell_help(), encoding="utf-8")
    config = _read_yaml(root / "book" / "_config.yml")
    if script := _mathjax(root / "book"):
        local = staged / "extra" / "_static" / "mathjax" / script.name  # outside _static, whose scripts all load
        local.parent.mkdir(parents=True)
        shutil.copy(script, local)
        settings = config.setdefault("sphinx", {}).setdefault("config", {})
        settings |= {"html_extra_path": ["extra"], "mathjax_path": f"mathjax/{script.name}"}
    if home := pair.repository(root):
        config |= {"repository": {"url": home.address, "branch": home.branch, "path_to_book": ""}}
        config |= {"launch_buttons": {"colab_url": pair.COLAB, "notebook_interface": "classic"}}
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
    for cell, source in zip(_code_cells(executed), cells, strict=True):
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
    """Find MathJax, installing it with npm if need be; None, and a word about it, where that cannot be done."""
    lock = book / "package-lock.json"
    if not lock.exists():
        return None
    package = book / "node_modules" / "mathjax"
    version = json.loads(lock.read_text("utf-8"))["packages"]["node_modules/mathjax"]["version"]
    try:
        if json.loads((package / "package.json").read_text("utf-8"))["version"] == version:
            return package / MATHJAX
    except (OSError, ValueError):
        pass
    command = ["npm", "ci", "--prefix", str(book), "--ignore-scripts", "--no-audit", "--no-fund"]
    online = "equations will load MathJax from its CDN; an offline book needs Node 18 or newer"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        print(f"npm is not installed: {online}")
        return None
    if done.returncode or not (package / MATHJAX).exists():
        print(f"`{' '.join(command)}` exited with {done.returncode}: {online}\n{done.stderr.strip()[-800:]}")
        return None
    return package / MATHJAX


def render(staged: Path, build: Path) -> bool:
    """Render the stage into ``build/html``, unless that is what it already shows; say whether it was needed."""
    html, stamp = build / "html", build / "html.stamp"
    files = {str(path.relative_to(staged)): path for path in sorted(staged.rglob("*")) if path.is_file()}
    digest = _digest(files)
    if stamp.exists() and stamp.read_text("utf-8") == digest and (html / "index.html").exists():
        return False
    shutil.rmtree(build / "render", ignore_errors=True)
    fresh = build / "render" / str(os.getpid())  # of its own, as in _start
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(staged), "--path-output", str(fresh), "-W", "-n", "--keep-going", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    pages = fresh / "_build" / "html"
    if done.returncode or not (pages / "index.html").exists():
        said = ANSI.sub("", done.stderr or done.stdout).replace(f"{staged}{os.sep}", "")
        raise BuildError(f"jupyter-book could not render the book without warnings:\n{said.strip()}")
    mend(pages)
    if (staged / "extra").exists() and (asked := outside_requests(pages)):
        raise BuildError("pages ask for what is not in the book:\n" + "\n".join(asked))
    for source in (pages / "_sources" / "notebooks").rglob("*.ipynb"):  # what the download button gives
        shutil.copy(build.parent.parent / source.relative_to(pages / "_sources"), source)
    stamp.unlink(missing_ok=True)
    shutil.rmtree(html, ignore_errors=True)
    pages.rename(html)
    stamp.write_text(digest, encoding="utf-8")
    shutil.rmtree(build / "render", ignore_errors=True)
    return True


def mend(pages: Path) -> None:
    """Put right, in built pages, what no setting of the theme can."""
    for page in pages.rglob("*.html"):
        old = new = page.read_text("utf-8")
        for pattern, put in MENDED:
            new = pattern.sub(put, new)
        if new != old:
            page.write_text(new, encoding="utf-8")
    name_theorems(pages)


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


def outside_requests(pages: Path) -> list[str]:
    """List the tags of built pages that make a browser load something from elsewhere."""
    return [
        f"{page.relative_to(pages)}: {tag[:200]}"
        for page in sorted(pages.rglob("*.html"))
        for pattern in (LOADED, LINKED)
        for tag in pattern.findall(page.read_text("utf-8"))
    ]


def build_book(root: Path = ROOT, profile: str = "quick", jobs: int = 2) -> Path:
    """Bring the book up to date; return its first page."""
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
        seconds = f"{_last_seconds(notebook):.1f} s"
        if notebook.lacking:
            print(f"{notebook.name}: left out, for want of the runs {', '.join(notebook.lacking)}")
            continue
        print(f"{notebook.name}: {seconds if notebook.name in executed else f'cached ({seconds} when run)'}")
    pages = "rendered" if rendered else "unchanged"
    first = build / "html" / "index.html"
    print(f"total: {time.perf_counter() - started:.1f} s, pages {pages}; open {first}")
    return first


def readme_figure(root: Path, staged: Path) -> None:
    """Make the README's figure from its page, unless it is there: delete the file to have it made anew."""
    path = root / "book" / "readme.png"
    if path.exists():
        return
    for page in staged.rglob("*.ipynb"):
        for cell in _code_cells(json.loads(page.read_text("utf-8"))):
            if cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") == README_FIGURE:
                from PIL import Image  # matplotlib brings it

                (image,) = (output["data"]["image/png"] for output in cell["outputs"] if "data" in output)
                picture = Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB")
                picture.quantize(64).save(path, optimize=True)  # a fraction of the bytes, and nobody sees it


def _digest(files: dict[str, Path]) -> str:
    """Digest files under the names given to them."""
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _read_yaml(path: Path) -> dict:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description="Execute the notebooks that need it, and render the book.")
    parser.add_argument("--profile", choices=PROFILES, default="quick", help="how much is measured")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks executed at a time (default: 2)")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository (default: this one)")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs: {options.jobs}, but at least 1 is needed")
    try:
        build_book(options.root.resolve(), options.profile, options.jobs)
    except BuildError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the notebooks executed so far are kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
