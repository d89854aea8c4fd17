"""Where the book lives: the address that Colab's buttons, the line that installs and the README are made from."""

import re
import shutil
import subprocess
from pathlib import Path
from string import Template
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
    """Read ``book/repository.yml``; None if there is no such file: notebooks then have no Colab button."""
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
    """Write the cell that installs the package where it is missing: with open ranges, so that nothing is replaced.

    A folder or a wheel in ``GEOLIB_SOURCE`` is installed instead, which is how the notebooks are tried alone.
    """
    cell = Template(Path(__file__).with_name("setup_cell.txt").read_text("utf-8").rstrip())
    return cell.substitute(package=PACKAGE, requirement=home.requirement)


def readme(root: Path, home: Repository) -> dict[Path, str]:
    """Render the README's lines on Colab: ``{path: text}``; empty if it has no place for them."""
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


def git(root: Path, *arguments: str) -> str:
    """Return what git says about a folder; "" if git is missing or fails."""
    if not shutil.which("git"):
        return ""
    done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)
    return "" if done.returncode else done.stdout.strip()


def elsewhere(root: Path) -> str:
    """Return a message if this clone comes from another GitHub repository than the book names; else ""."""
    found, home = re.fullmatch(ORIGIN, git(root, "remote", "get-url", "origin")), repository(root)
    own = f"https://github.com/{found[1]}" if found else ""
    if not own or not home or home.address == own:
        return ""
    return f"this clone comes from {own}, and the book names {home.address}; run: make home ADDRESS={own}"
