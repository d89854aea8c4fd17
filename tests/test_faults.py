"""Each fault once; ``make faults`` tries each many times. Those of the cluster have tests of their own beside it."""

import faults
import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.whole

SHORT = sorted(
    [
        "`geolib sweep` killed",
        "`geolib dimension --file` killed",
        "build of a book killed",
        "a finished batch cut, flipped or swapped",
        "a published result cut, flipped or swapped",
        "an executed notebook cut or flipped",
        "disk full",
        "cache that cannot be written",
        "two processes, one store",
        "clock going backwards",
        "download cut",
        "endpoint of a judge: hangs, hangs up, 429, 500, HTML, empty",
    ]
)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        yield faults.Suite(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("fault", SHORT)
def test_once(suite, fault):
    lost, note = faults.attempt(suite, fault, 0, seed=0)
    if lost is None:
        pytest.skip(note)
    assert (lost, note) == (0, "")


def test_every_fault_is_tried_here_or_beside_what_it_is_of(suite):
    left = set(suite.faults) - set(SHORT)
    assert left == {name for name in left if "cluster" in name or "model" in name or "worker" in name}
    assert (
        sum(tries for name, (tries, _) in suite.faults.items() if name.endswith("killed") and "of a c" not in name)
        == 100
    )


def test_differences_are_seen():
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    assert faults.difference(frame, frame) == 0
    assert faults.difference(frame.iloc[:2], frame) == 1
    assert faults.difference(frame.iloc[[0, 1, 2, 2]], frame) == 1
    assert faults.difference(frame.assign(a=[1, 2, 4]), frame) == 2
    assert faults.difference({"a": 1, "c": 3}, {"a": 1, "b": 2}) == 2


def test_damage_is_damage(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for seed in range(30):
        for i, path in enumerate(paths):
            path.write_bytes(bytes([i] * 9))
        changed = faults.damage(paths, np.random.default_rng(seed))
        assert {path for i, path in enumerate(paths) if path.read_bytes() != bytes([i] * 9)} == set(changed) != set()


def test_what_is_lost_is_reported(tmp_path, capsys, monkeypatch):
    """A suite that cannot fail shows nothing: here every kill loses a row."""
    monkeypatch.setattr(faults.Command, "lost", lambda self, folder: 1)
    status = faults.main(["--only", "dimension --file", "--tries", "1", "--out", str(tmp_path / "out.json")])
    assert status == 1
    assert "killed: 0 of 1" in capsys.readouterr().out
    assert '"lost": 1' in (tmp_path / "out.json").read_text()
