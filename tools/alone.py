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

from .execute import failure, start
from .home import SETUP, git
from .toc import ROOT, BookError, chapters

KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")  # of the caller's environment
DRAWN = 2


def environment(root: Path, folder: Path) -> Path:
    """Return a virtual environment with the packages that Colab has; it is made once for each list of versions."""
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


def run(root: Path, name: str, venv: Path, built: Path, folder: Path) -> tuple[str, str]:
    """Run one notebook alone; return what went wrong ("" if nothing) and a line on the time and memory it took."""
    place = folder / "run" / name
    shutil.rmtree(place, ignore_errors=True)
    for part in ("home", "empty"):
        (place / part).mkdir(parents=True)
    own = place / "venv"
    shutil.copytree(venv, own, symlinks=True, copy_function=os.link)  # in no time, and pip replaces, never overwrites
    before = installed(own)
    kept = {key: value for key, value in os.environ.items() if key in KEPT or key.startswith("PIP_")}
    kept |= {"HOME": str(place / "home"), "GEOLIB_SOURCE": str(built)}
    source = shutil.copy(root / f"{name}.ipynb", place / "empty")
    with start(str(own / "bin" / "python"), source, place, kept, {}) as running:
        wrong = failure(place, running.wait())
    if not wrong and (changed := before - installed(own)):
        wrong = f"the installation replaced {', '.join(sorted(changed))}"
    seconds, setup = _seconds(place / "executed.ipynb")
    shutil.rmtree(own)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # of all so far
    return wrong or "", f"{seconds:6.1f} s, of which {setup:5.1f} s set-up, peak so far {peak:.1f} GB"


def _seconds(executed: Path) -> tuple[float, float]:
    """Return the seconds that a notebook took, and those of its first code cell, which installs the package."""
    if not executed.exists():
        return 0.0, 0.0
    notebook = json.loads(executed.read_text("utf-8"))
    setup = [cell for cell in notebook["cells"] if SETUP in cell["metadata"].get("tags", ())]
    took = [part["metadata"]["papermill"].get("duration") or 0.0 for part in (notebook, *setup)]
    return took[0], sum(took[1:])


def drawn(root: Path, names: list[str]) -> list[str]:
    """Name the notebooks that changed since the last release, and two more that the commit's hash draws."""
    release = git(root, "describe", "--tags", "--abbrev=0")
    changed = git(root, "diff", "--name-only", release, "--", "notebooks").splitlines() if release else []
    chosen = [name for name in names if f"{name}.ipynb" in changed]
    rest = [name for name in names if name not in chosen]
    return chosen + Random(git(root, "rev-parse", "HEAD")).sample(rest, min(DRAWN, len(rest)))


def alone(root: Path = ROOT, notebooks: tuple[str, ...] = (), ci: bool = False) -> int:
    """Run notebooks alone: all, those named, or for ``ci`` those that changed and two drawn by the commit."""
    names = [name for name in chapters(root) if (root / f"{name}.ipynb").is_file()]
    asked = [name.removesuffix(".ipynb").removesuffix(".md") for name in notebooks]
    if unknown := set(asked) - set(names):
        raise BookError(f"{min(unknown)} was given, but a notebook of book/_toc.yml was expected")
    asked = asked or (drawn(root, names) if ci else names)
    folder = root / "book" / "_build" / "alone"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        venv, built = environment(root, folder), wheel(root, folder)
    except subprocess.CalledProcessError as error:
        raise BookError(f"{' '.join(map(str, error.cmd))} ended with status {error.returncode}") from None
    failed = 0
    for name in asked:
        wrong, took = run(root, name, venv, built, folder)
        failed += bool(wrong)
        print(f"{name:48} {'FAILED' if wrong else 'well':7}{took}")
        print(f"\n{wrong}\n" if wrong else "", end="", flush=True)
    print(f"{len(asked) - failed} of {len(asked)} notebooks ran alone")
    return int(failed > 0)
