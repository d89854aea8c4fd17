"""The README's promises, run as they stand."""

import json
import re
import shlex
from pathlib import Path

import pytest

from geolib import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PARTS = ("partition", "dimension", "reasoning", "experiments", "toy", "video", "physics")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.whole
def test_five_lines_of_python_and_the_shell_line_say_the_same(capsys):
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line]) == 5
    exec(code, {})
    in_python = re.findall(r"\d+", capsys.readouterr().out)
    assert len(in_python) == 30
    (line,) = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("geolib ")]
    cli.main(shlex.split(line)[1:])
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[1] for row in rows] == in_python


@pytest.mark.parametrize("target", re.findall(r"`?make ([a-z]+)", README))
def test_every_make_target_exists(target):
    assert re.search(rf"^{target}:.* ##", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "path", re.findall(r"\]\(((?!http)[^)]+)\)", README) + re.findall(r"`([a-z0-9-]+/[^` ]*)`", README)
)
def test_every_path_exists(path):
    assert (ROOT / path.split("html")[0]).exists() or path.startswith("book/_build")


def test_each_system_has_its_line():
    lines = [line for line in README.splitlines() if line.startswith("- ")]
    for system, command in (("Linux", "as above"), ("macOS", "xcode-select"), ("Windows", "wsl --install")):
        assert [line for line in lines if line.startswith(f"- {system}") and command in line], system
    assert re.search(r"no more threads than cores are free.*OMP_NUM_THREADS=1", README, re.DOTALL)


@pytest.mark.parametrize("run", ["bare", "shots"])
def test_the_second_models_command_is_the_one_that_its_rows_were_made_by(run):
    """Up to places, and to how the work is shared out, which changes no row."""
    described = (ROOT / "benchmarks" / "gemma.py").read_text()
    ran = json.loads((ROOT / "book" / "results" / "gemma3-270m" / f"{run}.json").read_text())["command"]
    settings, name = ran.removeprefix("geolib sweep --model gemma3-270m ").split("--run ")
    asked, _, shared = settings.partition("--batch-size")
    assert re.search(rf"geolib sweep --model FOLDER {asked}[^\n]*--run {name}\b", described)
    assert f"--batch-size{shared.rstrip()}" in described


def figure_rows():
    """Of the table of figures: chapter, names of figures, functions, runs."""
    for line in README[README.index("## Find a figure") : README.index("## Develop")].splitlines():
        if line.startswith("| ["):
            chapter, figures, _, functions, runs = (cell.strip() for cell in line.strip("|").split("|"))
            path = re.search(r"\((notebooks/[^)]+)\)", chapter)[1]
            yield path, figures.split(", "), re.findall(r"`(\w+)`", functions), [r for r in runs.split(", ") if r]


def test_every_figure_is_in_the_table_beside_its_chapter():
    drawn = {}
    for source in sorted((ROOT / "notebooks").rglob("*.md")):
        if names := re.findall(r"^    name: fig-([\w-]+)$", source.read_text(), re.MULTILINE):
            drawn[str(source.relative_to(ROOT))] = names
    assert {path: figures for path, figures, _, _ in figure_rows()} == drawn


@pytest.mark.parametrize("row", list(figure_rows()), ids=lambda row: row[0])
def test_the_table_names_what_the_chapter_calls_and_reads(row):
    path, _, functions, runs = row
    source = (ROOT / path).read_text()
    assert functions
    code = "".join(re.findall(r"^```\{code-cell\}.*?^```$", source, re.MULTILINE | re.DOTALL))
    for name in functions:
        assert re.search(rf"\b{name}\b", code), name
        assert any(name in dir(__import__(f"geolib.{part}", fromlist="_")) for part in PARTS), name
    front = re.search(r"^runs: \[(.*)\]$", source, re.MULTILINE)
    assert runs == (front[1].split(", ") if front else [])
