"""Make the assignments: from one source the instructor's notebook, with solutions, and the students', with blanks.

The sources are ``book/assignments/*.md``. A cell's ``nbgrader`` entry gives its ``grade_id``, ``solution: true`` where
a student writes, and ``points``; the notebooks carry the metadata of nbgrader's cells, so that it can collect and mark
them. Their first code cell installs the package where it is missing, as in Colab. The zip holds the folders that it
expects: ``source/NAME/NAME.ipynb`` and ``release/NAME/NAME.ipynb``.
"""

import re
import zipfile
from copy import deepcopy
from pathlib import Path

from .home import SETUP, repository, setup_cell
from .toc import ROOT, BookError, read

BLANK = "# YOUR CODE HERE\nraise NotImplementedError()"
WORDS = "YOUR ANSWER HERE"
KEYS = ("grade_id", "points", "solution")
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION$", re.DOTALL | re.MULTILINE)
HIDDEN = re.compile(r"\n?### BEGIN HIDDEN TESTS\n.*?### END HIDDEN TESTS", re.DOTALL)
README = Path(__file__).with_name("assignments.txt")


def instructor(source: Path):
    """Read a source as the notebook that the instructor keeps, each cell with complete nbgrader metadata."""
    from nbformat.v4 import new_code_cell

    notebook, seen = read(source), set()
    if home := repository():
        notebook.cells.insert(1, new_code_cell(setup_cell(home), metadata={"tags": [SETUP]}))
    notebook.metadata = {"kernelspec": dict(notebook.metadata["kernelspec"])}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        given = cell.metadata.get("nbgrader")
        if given is None:
            continue
        if unknown := set(given) - set(KEYS):
            raise BookError(f"{source.name}: nbgrader has {min(unknown)!r}, but {', '.join(KEYS)} were expected")
        name, solution = given.get("grade_id"), given.get("solution", False)
        if not isinstance(name, str) or name in seen:
            raise BookError(f"{source.name}: grade_id is {name!r}, but a name that no other cell has was expected")
        seen.add(name)
        if solution and cell.cell_type == "code" and not SOLUTION.search(cell.source):
            raise BookError(f"{source.name}: {name} has no BEGIN SOLUTION and END SOLUTION, but both were expected")
        graded = "points" in given
        whole = {"schema_version": 3, "grade_id": name, "grade": graded, "solution": solution, "task": False}
        whole |= {"locked": not solution, "cell_type": cell.cell_type} | ({"points": given["points"]} if graded else {})
        cell.metadata = {"nbgrader": whole}
    return notebook


def student(notebook):
    """Remove solutions, hidden checks and notes on marking from an instructor's notebook."""
    release = deepcopy(notebook)
    for cell in release.cells:
        blank = SOLUTION.sub(lambda found: re.sub("^", found[1], BLANK, flags=re.MULTILINE), cell.source)
        cell.source = HIDDEN.sub("", blank)
        if cell.cell_type == "markdown" and cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = WORDS
    return release


def failures(notebook) -> list[str]:
    """Run every cell of a notebook; name each that failed by its grade_id, or by its number if it has none."""
    from nbclient import NotebookClient

    NotebookClient(notebook, allow_errors=True, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    return [
        cell.metadata.get("nbgrader", {}).get("grade_id", f"cell {number}")
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and any(output.output_type == "error" for output in cell.outputs)
    ]


def wrong_in(notebook) -> list[str]:
    """Run an instructor's notebook and the students'; list what wrongly fails or wrongly passes."""
    code = [cell.metadata.get("nbgrader", {}) for cell in notebook.cells if cell.cell_type == "code"]
    graded, solved = ({one["grade_id"] for one in code if one.get(kind)} for kind in ("grade", "solution"))
    blank = set(failures(student(notebook)))
    wrong = [f"{name} fails with its solution" for name in failures(notebook)]
    wrong += [f"{name} passes with a blank" for name in sorted(graded - blank)]
    return wrong + [f"{name} fails and holds no blank" for name in sorted(blank - graded - solved)]


def write(root: Path, target: Path) -> list[str]:
    """Write the zip, whole or not at all; return the assignments' names."""
    import nbformat

    target.parent.mkdir(parents=True, exist_ok=True)
    part, sources = target.with_suffix(".part"), sorted((root / "book" / "assignments").glob("*.md"))
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("README.txt", README.read_text("utf-8"))
        for source in sources:
            whole, name = instructor(source), source.stem
            for folder, notebook in (("source", whole), ("release", student(whole))):
                pack.writestr(f"{folder}/{name}/{name}.ipynb", nbformat.writes(notebook) + "\n")
    part.replace(target)
    return [source.stem for source in sources]


def assignments(root: Path = ROOT, check: bool = False) -> int:
    """Make the zip; with ``check``, also run solutions and blanks, and print what is wrong."""
    target, wrong = root / "book" / "_build" / "assignments.zip", []
    names = write(root, target)
    for name in names if check else ():
        wrong += [f"{name}: {said}" for said in wrong_in(instructor(root / "book" / "assignments" / f"{name}.md"))]
    print("\n".join([*wrong, f"{', '.join(names)}: {target}"]))
    return int(bool(wrong))
