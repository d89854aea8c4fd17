"""Execute the notebooks of the book that have no executed copy yet, each by papermill in a process of its own.

A notebook whose source, parameters, package and data are unchanged is not executed again.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from .home import SETUP
from .plain import stale
from .toc import BookError, chapters, read

PROFILES = ("quick", "full")
KERNEL = "book"
PROGRESS = re.compile(r"\r[^\r\n]*")  # a progress bar, which a terminal would have overwritten
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


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
    for name in chapters(root):
        if (root / f"{name}.md").is_file():
            names.append(name)
        elif not (root / "book" / f"{name}.md").is_file():
            raise BookError(f"book/_toc.yml lists {name}, but there is no {name}.md and no book/{name}.md")
    old, _ = stale(root)
    if late := [name for name in names if root / f"{name}.ipynb" in old]:
        raise BookError(f"{', '.join(late)}: the .ipynb is not in step with its .md; run: make pair")

    sources = {name: read(root / f"{name}.md") for name in names}
    parameters = {name: _parameters(source, profile) for name, source in sources.items()}
    needs = {name: tuple(source.metadata.get("needs", ())) for name, source in sources.items()}
    for name, needed in needs.items():
        if unknown := set(needed) - set(names):
            raise BookError(f"{name}.md: needs {min(unknown)}, which is no notebook of book/_toc.yml")
    try:
        in_order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise BookError(f"notebooks that need each other: {' -> '.join(error.args[1])}") from error

    common, found = _common_digest(root), {}
    results = other_results() or root / "book" / "results"
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


def _parameters(source, profile: str) -> dict:
    """Say what is given to a notebook: the profile, where its cell tagged ``parameters`` has one."""
    cells = [cell for cell in source.cells if "parameters" in cell.metadata.get("tags", ())]
    return {"profile": profile} if any(re.search(r"^profile\b", cell.source, re.MULTILINE) for cell in cells) else {}


def _common_digest(root: Path) -> bytes:
    """Digest what every notebook depends on: the package, its pinned versions, the data, the stored results."""
    # The model needs no line of its own: geolib pins the hash of its file, and refuses any other.
    files = [*(root / "geolib").rglob("*"), *(root / "book" / "results").rglob("*"), root / "constraints.txt"]
    names = {str(path.relative_to(root)): path for path in sorted(files) if "__pycache__" not in path.parts}
    if results := other_results():
        names |= {f"results/{path.name}": path for path in sorted(results.glob("*.*"))}
    if data := os.environ.get("GEOLIB_DATA"):
        names["data"] = Path(data).expanduser() / "gsm8k_zero.jsonl"
    return digest_of({name: path for name, path in names.items() if path.is_file()}).encode()


def _is_there(results: Path, run: str) -> bool:
    return all((results / f"{run}.{ending}").exists() for ending in ("parquet", "json"))


def other_results() -> Path | None:
    """Find the folder of runs that the pages are to read in place of the book's own."""
    folder = os.environ.get("GEOLIB_RESULTS")
    if folder and not Path(folder).expanduser().is_dir():
        raise BookError(f"GEOLIB_RESULTS is {folder}, but a folder of published runs was expected")
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
            waiting.sort(key=last_seconds, reverse=True)  # the longest first; the others keep the book's order
            while waiting and len(running) < jobs:
                notebook = waiting.pop(0)
                if notebook.lacking or read_executed(notebook) is not None:
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
    for cell in [] if notebook.lacking else code_cells(read_executed(notebook)):
        if "findings" in cell["metadata"].get("tags", ()):
            text = "".join("".join(output["text"]) for output in cell["outputs"] if output.get("name") == "stdout")
            try:
                found |= json.loads(text)
            except (ValueError, TypeError):
                raise BookError(f"{notebook.name}: its cell tagged `findings` printed no JSON object") from None
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
    environment |= {"OMP_WAIT_POLICY": "PASSIVE", "JUPYTER_PLATFORM_DIRS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    environment |= {"PYTHONHASHSEED": "0", "GEOLIB_DARK": "1"}  # the latter: each figure on a dark ground too
    environment["PYTHONWARNINGS"] = "ignore:IProgress not found"  # progress bars do without widgets
    if results := other_results():
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
        raise BookError(f"{notebook.name} failed: {reason}\n\n(the whole traceback: {run / 'log.txt'})")
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
        cells = code_cells(json.loads(path.read_text("utf-8")))
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


def code_cells(notebook: dict) -> list[dict]:
    """List a notebook's code cells, without those that were added to its source."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [cell for cell in code if not is_added(cell)]


def is_added(cell: dict) -> bool:
    """Whether a cell is in no source: the one that installs, and the one in which papermill sets parameters."""
    return bool({SETUP, "injected-parameters"} & set(cell["metadata"].get("tags", ())))


def read_executed(notebook: Notebook) -> dict | None:
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


def last_seconds(notebook: Notebook) -> float:
    """Return how long a notebook took when it was last executed; 0 if it never was."""
    for copy in (notebook.executed, *_copies(notebook)):
        try:
            return json.loads(copy.read_text("utf-8"))["metadata"]["papermill"]["duration"]
        except (OSError, ValueError, KeyError):
            continue
    return 0.0


def digest_of(files: dict[str, Path]) -> str:
    """Digest files under the names given to them."""
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
