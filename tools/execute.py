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
from .toc import BookError, chapters, files, read

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
    names = [name for name in chapters(root) if (root / f"{name}.md").is_file()]
    for name in sorted(chapters(root).keys() - names):
        if not (root / "book" / f"{name}.md").is_file():
            raise BookError(f"book/_toc.yml lists {name}, but there is no {name}.md and no book/{name}.md")
    old, _ = stale(root)
    if late := [name for name in names if root / f"{name}.ipynb" in old]:
        raise BookError(f"{', '.join(late)}: the .ipynb is not in step with its .md; run: make pair")

    sources = {name: read(root / f"{name}.md") for name in names}
    parameters = {name: _parameters(source, profile) for name, source in sources.items()}
    needs = {name: tuple(source.metadata.get("needs", ())) for name, source in sources.items()}
    for name, needed in needs.items():
        if unknown := set(needed) - set(names):
            raise BookError(f"{name}.md: needs {min(unknown)}, which is not a notebook of book/_toc.yml")
    try:
        in_order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise BookError(f"notebooks that need each other: {' -> '.join(error.args[1])}") from error

    common, found = digest_of(common_files(root)).encode(), {}
    kept = other_results() or root / "book" / "results"
    for name in in_order:
        source, paired = root / f"{name}.md", root / f"{name}.ipynb"
        key = hashlib.sha256(common)
        # What is said around the code may change without the code being run again.
        code = [[cell.source, cell.metadata] for cell in sources[name].cells if cell.cell_type == "code"]
        key.update(json.dumps([code, parameters[name]], sort_keys=True).encode())
        for needed in needs[name]:
            key.update(found[needed].executed.name.encode())
        executed = root / "book" / "_build" / "executed" / profile / f"{name}.{key.hexdigest()[:20]}.ipynb"
        runs = sources[name].metadata.get("runs", ())
        lacking = tuple(run for run in runs if not all((kept / f"{run}.{end}").exists() for end in ("parquet", "json")))
        found[name] = Notebook(name, source, paired, parameters[name], needs[name], executed, lacking)
    return [found[name] for name in names]


def _parameters(source, profile: str) -> dict:
    """Return the parameters of a notebook: the profile, if its cell tagged ``parameters`` sets one."""
    cells = [cell for cell in source.cells if "parameters" in cell.metadata.get("tags", ())]
    return {"profile": profile} if any(re.search(r"^profile\b", cell.source, re.MULTILINE) for cell in cells) else {}


def common_files(root: Path) -> dict[str, Path]:
    """Map names to the files that every notebook depends on: the package, its pins, the data, the stored results."""
    # The model needs no line of its own: geolib pins the hash of its file, and refuses any other.
    paths = [*files(root / "geolib"), *files(root / "book" / "results"), root / "constraints.txt"]
    names = {str(path.relative_to(root)): path for path in sorted(paths)}
    if results := other_results():
        names |= {f"results/{path.name}": path for path in sorted(results.glob("*.*"))}
    if data := os.environ.get("GEOLIB_DATA"):
        names["data"] = Path(data).expanduser() / "gsm8k_zero.jsonl"
    return {name: path for name, path in names.items() if path.is_file()}


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
            for name in [name for name, process in running.items() if process.poll() is not None]:
                _finish(by_name[name], build, running.pop(name).returncode)
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
    """Start the execution of a notebook; the parameter `findings` is what others handed on, if any."""
    # A folder of the process: the kernel of a build that was killed may still be writing to its own.
    shutil.rmtree(build / "run" / notebook.name, ignore_errors=True)
    # Every core for each: most of the time one long notebook runs alone. Threads that wait must then sleep, not spin,
    # or two notebooks at once would stall each other; OpenBLAS's spin whatever one says, so these are shared out.
    threads = os.cpu_count() or 1
    environment = os.environ | {"OPENBLAS_NUM_THREADS": str(max(1, threads // jobs)), "PYTHONHASHSEED": "0"}
    environment |= {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "NUMEXPR", "NUMBA")}
    environment |= {"IPYTHONDIR": str(build / "ipython"), "GEOLIB_DARK": "1"}  # each figure on a dark ground too
    if results := other_results():
        environment["GEOLIB_RESULTS"] = str(results)  # whole, since the notebook runs elsewhere
    environment.pop("MPLBACKEND", None)  # figures go inline; a backend set for scripts would leave them blank
    parameters = notebook.parameters | ({"findings": findings} if findings else {})
    print(f"{notebook.name}: executing", flush=True)
    place = build / "run" / notebook.name / str(os.getpid())
    return start(sys.executable, notebook.paired, place, environment, parameters)


def start(python: str, paired: Path, place: Path, environment: dict, parameters: dict) -> subprocess.Popen:
    """Start papermill, which runs a notebook in the folder ``place / "empty"`` and with an interpreter's kernel."""
    # The kernel is that very interpreter, whatever kernels the user has.
    kernel = place / "kernels" / KERNEL / "kernel.json"
    for folder in (kernel.parent, place / "empty"):
        folder.mkdir(parents=True, exist_ok=True)
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}), "utf-8")
    environment = environment | {"JUPYTER_PATH": str(place), "JUPYTER_PLATFORM_DIRS": "1"}
    environment |= {"OMP_WAIT_POLICY": "PASSIVE", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    environment["PYTHONWARNINGS"] = "ignore:IProgress not found"  # progress bars do without widgets
    command = [sys.executable, "-m", "papermill", str(paired), str(place / "executed.ipynb"), "--kernel", KERNEL]
    command += ["--cwd", str(place / "empty"), "--no-progress-bar", "--parameters_yaml", json.dumps(parameters)]
    with (place / "log.txt").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def failure(place: Path, returncode: int) -> str | None:
    """Say why a notebook that was run in a folder failed; None if it did not."""
    executed, log = place / "executed.ipynb", (place / "log.txt").read_text("utf-8", errors="replace")
    said = ANSI.sub("", log).strip().split("\n")[-1] or f"papermill ended with status {returncode}"
    return (problem(executed) if executed.exists() else None) or (said if returncode else None)


def _finish(notebook: Notebook, build: Path, returncode: int) -> None:
    """Keep the executed copy of a notebook that succeeded; stop the build for one that did not."""
    run = build / "run" / notebook.name / str(os.getpid())
    executed = run / "executed.ipynb"
    if reason := failure(run, returncode):
        raise BookError(f"{notebook.name} failed: {reason}\n\n(the whole traceback: {run / 'log.txt'})")
    notebook.executed.parent.mkdir(parents=True, exist_ok=True)
    executed.write_text(sealed(json.loads(executed.read_text("utf-8"))), "utf-8")
    executed.replace(notebook.executed)  # atomic: a copy is there whole, or not at all
    for copy in set(_copies(notebook)) - {notebook.executed}:
        copy.unlink()
    shutil.rmtree(run)
    print(f"{notebook.name}: executed", flush=True)


def sealed(notebook: dict) -> str:
    """Write a notebook with its checksum among its metadata, so that a damaged copy is not believed."""
    notebook["metadata"]["sha256"] = ""
    notebook["metadata"]["sha256"] = hashlib.sha256(json.dumps(notebook).encode()).hexdigest()
    return json.dumps(notebook)


def problem(path: Path) -> str | None:
    """Say why an executed copy must not be used; None if every cell ran without an error or a warning."""
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
    """Return whether a cell was added to the source: to install the package, or by papermill to set parameters."""
    return bool({SETUP, "injected-parameters"} & set(cell["metadata"].get("tags", ())))


def read_executed(notebook: Notebook) -> dict | None:
    """Read a notebook's executed copy; None if it is missing or damaged."""
    try:
        text = notebook.executed.read_text("utf-8")
        if sealed(json.loads(text)) == text and not problem(notebook.executed):
            return json.loads(text)
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError):
        pass
    print(f"{notebook.name}: its executed copy is damaged, and is made again", flush=True)
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
