"""Which notebooks are run alone; that they run is what the command itself shows."""

import subprocess
from pathlib import Path

import pytest

from tools import alone
from tools.__main__ import main

pytestmark = pytest.mark.whole

ROOT = Path(__file__).resolve().parents[2]


NAMES = [f"notebooks/{letter}" for letter in "abcdefgh"]


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false")
        subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True)

    (tmp_path / "notebooks").mkdir()
    for name in NAMES:
        (tmp_path / f"{name}.ipynb").write_text("{}")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    return tmp_path, git


def test_two_are_drawn_by_the_commit(repository):
    root, git = repository
    first = alone.drawn(root, NAMES)
    assert len(set(first)) == 2
    assert alone.drawn(root, NAMES) == first
    others = []
    for number in range(8):
        git("commit", "-q", "--allow-empty", "-m", str(number))
        others.append(alone.drawn(root, NAMES))
    assert len({tuple(chosen) for chosen in others}) > 1


def test_what_changed_since_the_release_is_run(repository):
    root, git = repository
    git("tag", "v1")
    (root / "notebooks" / "c.ipynb").write_text('{"a": 1}')
    git("commit", "-qam", "two")
    chosen = alone.drawn(root, NAMES)
    assert chosen[0] == "notebooks/c"
    assert len(set(chosen)) == 3


def test_without_git_two_are_drawn_all_the_same(tmp_path):
    assert len(alone.drawn(tmp_path, NAMES)) == 2


def test_no_such_notebook(capsys):
    assert main(["alone", "notebooks/none"]) == 1
    assert capsys.readouterr().err == "alone: notebooks/none was given, but a notebook of book/_toc.yml was expected\n"


def test_the_list_of_versions_leaves_torch_to_the_constraints():
    lines = [line for line in (ROOT / "tools" / "colab.txt").read_text().splitlines() if not line.startswith("#")]
    assert {"numpy", "pandas", "transformers", "matplotlib", "seaborn"} <= {line.split("==")[0] for line in lines}
    assert not [line for line in lines if line.startswith("torch")]
