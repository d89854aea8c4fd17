"""Run notebooks as a reader does who has nothing but the ``.ipynb``: in Colab, or in any empty folder.

Each runs in an empty folder, with a HOME and a cache of its own, in a copy of an environment that holds what Colab
ships (``tools/colab.txt``) and nothing of this repository. Its first cell installs the package, from a wheel built here
in place of the public address. A notebook fails when a cell does, or writes to stderr, or when the installation changes
a package that was there. Everything is under ``book/_build/alone``; the executed copies too.
"""

import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

from .execute import problem
from .home import SETUP
from .toc import ROOT, BookError, chapters

KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")  # of the caller's environment
DRAWN = 2


def environment(root: Path, folder: Path) -> Path:
    """Make what Colab has, once for each list of versions; return the virtual environment."""
    listed, pinned = (Path(__file__).with_name("colab.txt")).read_text(), (root / "constraints.txt").read_text()
    torch = re.search(r"^torch==.*$", pinned, re.MULTILINE)[0]
    venv = folder / f"venv-{hashlib.sha256(f'{listed}{torch}{sys.version}'.encode()).hexdigest()[:12]}"
    if not venv.exists():
        fresh = folder / "venv-part"
        shutil.rmtree(fresh, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", fresh], check=True)
        pip = [fresh / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", Path(__file__).with_name("colab.txt"), torch], check=True)
        fresh.rename(venv)
    return venv


def wheel(root: Path, folder: Path) -> Path:
    """Build the package's wheel."""
    shutil.rmtree(folder / "wheel", ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*pip, "--wheel-dir", folder / "wheel", root], check=True)
    (built,) = (folder / "wheel").glob("*.whl")
    return built


def installed(venv: Path) -> set[str]:
    """Name the packages of an environment, with their versions."""
    return {path.stem for path in venv.glob("lib/python*/site-packages/*.dist-info")}


def run(root: Path, name: str, venv: Path, built: Path, folder: Path) -> dict:
    """Run one notebook alone; return what went wrong ("" if nothing), the seconds and the memory it took."""
    place = folder / "run" / name
    shutil.rmtree(place, ignore_errors=True)
    for part in ("home", "empty", "kernels/alone"):
        (place / part).mkdir(parents=True)
    own = place / "venv"
    shutil.copytree(venv, own, symlinks=True, copy_function=os.link)  # in no time, and pip replaces, never overwrites
    before = installed(own)
    argv = [str(own / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (place / "kernels" / "alone" / "kernel.json").write_text(json.dumps(spec))
    kept = {key: value for key, value in os.environ.items() if key in KEPT or key.startswith("PIP_")}
    kept |= {"HOME": str(place / "home"), "JUPYTER_PATH": str(place), "GEOLIB_SOURCE": str(built)}
    # The book's own build says why.
    kept |= {"OMP_WAIT_POLICY": "PASSIVE", "PYDEVD_DISABLE_FILE_VALIDATION": "1", "JUPYTER_PLATFORM_DIRS": "1"}
    kept |= {"PYTHONWARNINGS": "ignore:IProgress not found"}
    source, executed = place / "empty" / f"{Path(name).name}.ipynb", place / "executed.ipynb"
    shutil.copy(root / f"{name}.ipynb", source)
    command = [sys.executable, "-m", "papermill", str(source), str(executed), "--kernel", "alone"]
    with (place / "log.txt").open("wb") as log:
        done = subprocess.run(
            [*command, "--cwd", str(source.parent), "--no-progress-bar"], env=kept, stdout=log, stderr=log, check=False
        )
    wrong = problem(executed) if executed.exists() else None
    if not wrong and done.returncode:
        wrong = (place / "log.txt").read_text("utf-8", errors="replace").strip().split("\n")[-1]
    if not wrong and (changed := before - installed(own)):
        wrong = f"the installation replaced {', '.join(sorted(changed))}"
    seconds, setup = _seconds(executed)
    shutil.rmtree(own)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # of all so far
    return {"problem": wrong or "", "seconds": seconds, "setup": setup, "peak": peak}


def _seconds(executed: Path) -> tuple[float, float]:
    """Read how long a notebook took, and its first code cell, which installs."""
    if not executed.exists():
        return 0.0, 0.0
    notebook = json.loads(executed.read_text("utf-8"))
    setup = [cell for cell in notebook["cells"] if SETUP in cell["metadata"].get("tags", ())]
    took = [part["metadata"]["papermill"].get("duration") or 0.0 for part in (notebook, *setup)]
    return took[0], sum(took[1:])


def drawn(root: Path, names: list[str]) -> list[str]:
    """Name the notebooks that changed since the last release, and two more that the commit's hash draws."""

    def git(*arguments):
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)
        return done.stdout.split() if done.returncode == 0 else []

    release = git("describe", "--tags", "--abbrev=0")
    changed = set(git("diff", "--name-only", release[0], "--", "notebooks") if release else [])
    chosen = [name for name in names if f"{name}.ipynb" in changed]
    rest = [name for name in names if name not in chosen]
    commit = "".join(git("rev-parse", "HEAD"))
    return chosen + Random(commit).sample(rest, min(DRAWN, len(rest)))


def alone(root: Path = ROOT, notebooks: tuple[str, ...] = (), ci: bool = False) -> int:
    """Run notebooks alone: all, those named, or for ``ci`` those that changed and two drawn by the commit."""
    names = [name for name in chapters(root) if (root / f"{name}.ipynb").is_file()]
    asked = [name.removesuffix(".ipynb").removesuffix(".md") for name in notebooks]
    if unknown := set(asked) - set(names):
        raise BookError(f"{min(unknown)} is no notebook of book/_toc.yml")
    asked = asked or (drawn(root, names) if ci else names)
    folder = root / "book" / "_build" / "alone"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        venv, built = environment(root, folder), wheel(root, folder)
    except subprocess.CalledProcessError as error:
        raise BookError(f"{' '.join(map(str, error.cmd))} ended with status {error.returncode}") from None
    failed = 0
    for name in asked:
        result = run(root, name, venv, built, folder)
        failed += bool(result["problem"])
        took = f"{result['seconds']:6.1f} s, of which {result['setup']:5.1f} s set-up"
        print(f"{name:48} {'FAILED' if result['problem'] else 'well':7}{took}, peak so far {result['peak']:.1f} GB")
        if result["problem"]:
            print(f"\n{result['problem']}\n", flush=True)
    print(f"{len(asked) - failed} of {len(asked)} notebooks ran alone")
    return int(failed > 0)
