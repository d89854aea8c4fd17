"""Where the book lives: the address that Colab's buttons, the line that installs and the README are made from."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import yaml

from .toc import ROOT, BookError, chapters

COLAB = "https://colab.research.google.com"
PACKAGE = "geometry-of-reasoning"  # the distribution: PyPI's geolib is another project
# As git names a repository on GitHub.
ORIGIN = r"(?:https://(?:.*@)?|(?:ssh://)?git@)github\.com[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?"
SETUP = "setup"  # tag of the cell that installs
README_MARK = re.compile(r"(<!-- colab: written by make pair -->\n).*?(<!-- /colab -->)", re.DOTALL)


class Repository(NamedTuple):
    """Where the book lives: ``Repository("https://github.com/owner/name", "main")``."""

    address: str
    branch: str
    released: bool = False  # whether pip finds the package by its name

    @property
    def requirement(self) -> str:
        """What pip installs: the released package, or what is on the branch."""
        return PACKAGE if self.released else f"{PACKAGE} @ git+{self.address}@{self.branch}"

    @property
    def pages(self) -> str:
        """Where GitHub Pages shows the book."""
        owner, name = self.address.removeprefix("https://github.com/").split("/")
        return f"https://{owner.lower()}.github.io/{name}/"

    def button(self, path: str) -> str:
        """Markdown that opens a notebook in Colab."""
        name = self.address.removeprefix("https://github.com/")
        return f"[Open in Colab]({COLAB}/github/{name}/blob/{self.branch}/{path})"


def repository(root: Path = ROOT) -> Repository | None:
    """Read ``book/repository.yml``; None where there is none, and then there is nothing of Colab's."""
    path = root / "book" / "repository.yml"
    if not path.exists():
        return None
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        found = Repository(**given)
    except TypeError:  # other keys, or no mapping
        raise BookError(f"repository.yml: holds {given!r}, but an address and a branch were expected") from None
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+(?<!\.git)", str(found.address)):
        raise BookError(f"repository.yml: address is {found.address!r}, but https://github.com/OWNER/NAME was expected")
    if not re.fullmatch(r"[\w./-]+", str(found.branch)):
        raise BookError(f"repository.yml: branch is {found.branch!r}, but a branch's name was expected")
    return found


def setup_cell(home: Repository) -> str:
    """Write the cell that installs the package where it is not there: with open ranges, so that nothing is replaced.

    A folder or a wheel in ``GEOLIB_SOURCE`` is installed instead, which is how the notebooks are tried alone.
    """
    return f"""\
# @title Set-up: run this first. It installs the book's package where it is missing, as in Colab.
import importlib, os
from importlib import metadata

try:
    metadata.version("{PACKAGE}")
except metadata.PackageNotFoundError:
    source = os.environ.get("GEOLIB_SOURCE", "{home.requirement}")
    %pip install --quiet "{{source}}"
    importlib.invalidate_caches()
try:
    print("{PACKAGE}", metadata.version("{PACKAGE}"), "is installed")
except metadata.PackageNotFoundError:
    raise SystemExit("{PACKAGE} could not be installed; pip says why above. Then run this cell again.") from None"""


def readme(root: Path, home: Repository) -> dict[Path, str]:
    """Render the README's lines on Colab: ``{path: text}``; nothing where it has no place for them."""
    path = root / "README.md"
    text = path.read_text("utf-8") if path.exists() else ""
    button = home.button(f"{next(iter(chapters(root)))}.ipynb")
    lines = f"""\
{button}, or any other notebook of the book. Its first cell installs the package:

```
%pip install --quiet "{home.requirement}"
```
"""
    return {path: README_MARK.sub(lambda mark: f"{mark[1]}{lines}{mark[2]}", text)} if README_MARK.search(text) else {}


def move(root: Path, address: str) -> int:
    """Write a new address into ``book/repository.yml``, and from there into the README and every notebook."""
    from .plain import pair

    path = root / "book" / "repository.yml"
    old, address = path.read_text("utf-8"), address.rstrip("/").removesuffix(".git")
    path.write_text(re.sub(r"^address:.*$", lambda _: f"address: {address}", old, flags=re.MULTILINE), "utf-8")
    try:
        return pair(root)
    except BookError:
        path.write_text(old, "utf-8")
        raise


def elsewhere(root: Path) -> str:
    """Say where this clone comes from if it is on GitHub and the book names another place; else ""."""
    if not shutil.which("git"):
        return ""
    ask = ["git", "-C", root, "remote", "get-url", "origin"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    found, home = re.fullmatch(ORIGIN, done.stdout.strip()), repository(root)
    own = f"https://github.com/{found[1]}" if found else ""
    if not own or not home or home.address == own:
        return ""
    return f"this clone comes from {own}, and the book names {home.address}; run: make home ADDRESS={own}"
