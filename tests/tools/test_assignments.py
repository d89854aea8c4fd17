"""Assignments: solutions pass, blanks fail where they should, and nothing that is to be hidden is handed out."""

import json
import re
import zipfile
from pathlib import Path

import nbformat
import pytest

from tools import assignments, home
from tools.toc import BookError

ROOT = Path(__file__).resolve().parents[2]

HEADER = """---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""
SOURCE = (
    HEADER
    + """# Sums

```{code-cell}
---
nbgrader: {grade_id: add, solution: true}
---
def add(a, b):
    ### BEGIN SOLUTION
    return a + b
    ### END SOLUTION
```

```{code-cell}
---
nbgrader: {grade_id: add-check, points: 2}
---
assert add(1, 2) == 3
### BEGIN HIDDEN TESTS
assert add(2, 2) == 4
### END HIDDEN TESTS
```

```{code-cell}
print("as it was")
```

+++

Why?

+++ {"nbgrader": {"grade_id": "why", "points": 1, "solution": true}}

One point for a reason.
"""
)


def notebook(tmp_path, text=SOURCE):
    source = tmp_path / "sums.md"
    source.write_text(text)
    return assignments.instructor(source)


def test_the_release_holds_blanks_and_nothing_hidden(tmp_path):
    whole = notebook(tmp_path)
    release = assignments.student(whole)
    assert [cell.source for cell in release.cells[2:]] == [
        "def add(a, b):\n    # YOUR CODE HERE\n    raise NotImplementedError()",
        "assert add(1, 2) == 3",
        'print("as it was")',
        "Why?",
        "YOUR ANSWER HERE",
    ]
    assert "return a + b" in whole.cells[2].source, "the instructor's copy is as it was"
    marks = [cell.metadata.get("nbgrader") for cell in release.cells]
    assert marks[2]["solution"]
    assert not marks[2]["grade"]
    assert not marks[2]["locked"]
    assert marks[3]["grade"]
    assert marks[3]["locked"]
    assert marks[3]["points"] == 2
    assert marks[4] is None
    assert marks[6]["grade"]
    assert marks[6]["solution"]
    assert marks[6]["cell_type"] == "markdown"
    nbformat.validate(release)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        ("", "", []),
        ("return a + b", "return a - b", ["add-check fails with its solution"]),
        ("assert add(1, 2) == 3", "add", ["add-check passes with a blank"]),
        ('print("as it was")', "add(1, 2)", ["cell 4 fails and holds no blank"]),
    ],
)
def test_says_what_fails_where_it_should_not(tmp_path, old, new, problems):
    assert assignments.wrong_in(notebook(tmp_path, SOURCE.replace(old, new))) == problems


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("grade_id: add-check", "grade_id: add", "grade_id is 'add'"),
        ("grade_id: add-check, ", "", "grade_id is None"),
        ("points: 2", "marks: 2", "nbgrader has 'marks'"),
        ("### BEGIN SOLUTION", "", "add has no BEGIN SOLUTION"),
    ],
)
def test_refuses_a_source_that_makes_no_assignment(tmp_path, old, new, named):
    with pytest.raises(BookError, match=named):
        notebook(tmp_path, SOURCE.replace(old, new))


def test_the_pack(tmp_path, capsys):
    target = tmp_path / "pack.zip"
    names = assignments.write(ROOT, target)
    assert names == ["dimension", "partitions", "reasoning"]
    with zipfile.ZipFile(target) as pack:
        files = [f"{folder}/{name}/{name}.ipynb" for name in names for folder in ("source", "release")]
        assert set(pack.namelist()) == {"README.txt", *files}
        for file in files:
            text = pack.read(file).decode()
            cells = json.loads(text)["cells"]
            assert all(not cell.get("outputs") for cell in cells)
            # In Colab the first code cell installs the book's package, and never PyPI's geolib.
            first = next(cell for cell in cells if cell["cell_type"] == "code")
            assert "".join(first["source"]) == home.setup_cell(home.repository(ROOT))
            assert not re.search(r"pip3? install[^\n]*\bgeolib\b", text)
            assert bool(re.search("SOLUTION|HIDDEN|How to mark", text)) == file.startswith("source")


@pytest.mark.whole
@pytest.mark.parametrize("name", ["dimension", "partitions", "reasoning"])
def test_solutions_pass_and_blanks_fail_where_they_should(name):
    assert assignments.wrong_in(assignments.instructor(ROOT / "book" / "assignments" / f"{name}.md")) == []
