"""Make the assignments: from one source the instructor's notebook, with solutions, and the students', with blanks.

The sources are ``book/assignments/*.md``. A cell's ``nbgrader`` entry gives its ``grade_id``, ``solution: true`` where
a student writes, and ``points``; the notebooks carry the metadata of nbgrader's cells, so that it can collect and mark
them. Their first code cell installs the package where it is missing, as in Colab. The zip holds the folders that it
expects: ``source/NAME/NAME.ipynb`` and ``release/NAME/NAME.ipynb``.
"""

import re
import zipfile
from pathlib import Path

from .home import SETUP, repository, setup_cell
from .toc import ROOT, BookError, read

BLANK = "# YOUR CODE HERE\nraise NotImplementedError()"
WORDS = "YOUR ANSWER HERE"
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION$", re.DOTALL | re.MULTILINE)
HIDDEN = re.compile(r"\n?### BEGIN HIDDEN TESTS\n.*?### END HIDDEN TESTS", re.DOTALL)
README = """\
Assignments of The Geometry of Reasoning

release/   what students get: blanks, and a part of the checks
source/    what you keep: solutions, all checks, and how to mark written answers

Both are a course of nbgrader as they stand: put source/ into the folder of a course, and `nbgrader generate_assignment`
makes the same release. Without nbgrader, hand out release/ and run the notebooks that come back beside source/.
In Colab (File, Upload notebook) the first code cell installs what is needed.
How to mark and what to expect: the page "Teach from this book".
"""


def instructor(source: Path):
    """Read a source as the notebook that the instructor keeps, each cell with nbgrader's whole metadata."""
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
        if unknown := set(given) - {"grade_id", "points", "solution"}:
            raise BookError(
                f"{source.name}: a cell's nbgrader has {min(unknown)!r}, but grade_id, points and solution"
                " were expected"
            )
        name, solution = given.get("grade_id"), given.get("solution", False)
        if not isinstance(name, str) or name in seen:
            raise BookError(f"{source.name}: grade_id is {name!r}, but a name of its own was expected")
        seen.add(name)
        if solution and cell.cell_type == "code" and not SOLUTION.search(cell.source):
            raise BookError(f"{source.name}: {name} holds no solution to take out")
        graded = "points" in given
        whole = {"schema_version": 3, "grade_id": name, "grade": graded, "solution": solution, "task": False}
        whole |= {"locked": not solution, "cell_type": cell.cell_type} | ({"points": given["points"]} if graded else {})
        cell.metadata = {"nbgrader": whole}
    return notebook


def student(notebook):
    """Take solutions, hidden checks and what is said of written answers out of an instructor's notebook."""
    from copy import deepcopy

    release = deepcopy(notebook)
    for cell in release.cells:
        cell.source = SOLUTION.sub(lambda found: re.sub("^", found[1], BLANK, flags=re.MULTILINE), cell.source)
        cell.source = HIDDEN.sub("", cell.source)
        if cell.cell_type == "markdown" and cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = WORDS
    return release


def failures(notebook) -> list[str]:
    """Run a notebook, through its errors; name each graded cell that failed, and whatever else did by its number."""
    from nbclient import NotebookClient

    NotebookClient(notebook, allow_errors=True, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    return [
        cell.metadata.get("nbgrader", {}).get("grade_id", f"cell {number}")
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and any(output.output_type == "error" for output in cell.outputs)
    ]


def wrong_in(notebook) -> list[str]:
    """Run an instructor's notebook and the students': what should have failed and did not, or the other way round."""
    kinds = {"grade": set(), "solution": set()}
    for cell in notebook.cells:
        for kind, names in kinds.items():
            if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get(kind):
                names.add(cell.metadata["nbgrader"]["grade_id"])
    blank = set(failures(student(notebook)))
    wrong = [f"{name} fails with its solution" for name in failures(notebook)]
    wrong += [f"{name} passes with a blank" for name in sorted(kinds["grade"] - blank)]
    return wrong + [f"{name} fails and holds no blank" for name in sorted(blank - kinds["grade"] - kinds["solution"])]


def write(root: Path, target: Path) -> list[str]:
    """Write the zip, whole or not at all; return the assignments' names."""
    import nbformat

    target.parent.mkdir(parents=True, exist_ok=True)
    part, names = target.with_suffix(".part"), []
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("README.txt", README)
        for source in sorted((root / "book" / "assignments").glob("*.md")):
            whole, name = instructor(source), source.stem
            for folder, notebook in (("source", whole), ("release", student(whole))):
                pack.writestr(f"{folder}/{name}/{name}.ipynb", nbformat.writes(notebook) + "\n")
            names.append(name)
    part.replace(target)
    return names


def assignments(root: Path = ROOT, check: bool = False) -> int:
    """Make the zip; with ``check`` run solutions and blanks too, and say what is wrong."""
    target, wrong = root / "book" / "_build" / "assignments.zip", []
    names = write(root, target)
    for name in names if check else ():
        whole = instructor(root / "book" / "assignments" / f"{name}.md")
        wrong += [f"{name}: {problem}" for problem in wrong_in(whole)]
    print("\n".join([*wrong, f"{', '.join(names)}: {target}"]))
    return int(bool(wrong))
