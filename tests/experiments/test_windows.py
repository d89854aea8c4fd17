"""The window experiment: its grid on tiny models, and its analysis on simulated rows."""

import json

import numpy as np
import pandas as pd
import pytest

from geolib import cli
from geolib.experiments import windows
from geolib.experiments.windows import SMALLEST_SLOPE, by_clip, by_window, facts, grid, measure, two_way
from geolib.physics import LAWS, move
from geolib.reasoning import load_run
from geolib.video import Settings, train

pytestmark = pytest.mark.whole  # nearly every test trains, or draws thousands of samples

TINY = {"n_steps": 2, "batch_size": 4, "bins": 8, "n_layers": 3, "n_heads": 2, "width": 8}


def simulated(*, slope=0.0, of_seeds=0.0, rho=0.0, of_models=0.0, n=60, seed=0):
    """Rows as of the run: errors with hard worlds, and ID that goes with the error within models."""
    rng, parts = np.random.default_rng(seed), []
    for band in ("in", "out"):
        for law in LAWS:
            hard, speed, events = rng.standard_normal(n), rng.uniform(0.01, 0.02, n), rng.integers(0, 3, n)
            for s in windows.SEEDS:
                own = slope + of_seeds * rng.standard_normal()
                for w in windows.WINDOWS:
                    z = 0.7 * hard + 0.7 * rng.standard_normal(n)
                    r = np.clip(rho + of_models * rng.standard_normal(), -0.9, 0.9)
                    x = r * z + np.sqrt(1 - r**2) * rng.standard_normal(n)
                    y = z + events + own * np.log2(w)
                    part = pd.DataFrame({"log_error": y, windows.PRIMARY: np.round(17 + 3 * x), "world": np.arange(n)})
                    parts.append(part.assign(speed=speed, events=events, band=band, law=law, seed=s, window=w))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A grid of two windows and two seeds, made by two processes, one after the other."""
    folder = tmp_path_factory.mktemp("grid") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "SEEDS", (1, 2))
        patch.setattr(windows, "WINDOWS", (2, 24))
        first = [*grid(folder, share=(1, 2), n=3, **TINY)]
        second = [*grid(folder, share=(2, 2), n=3, **TINY)]
        third = [*grid(folder, n=3, **TINY)]
    return folder, first, second, third


def test_the_grid_is_shared_and_not_done_twice(done):
    folder, first, second, third = done
    assert (first, second, third) == (["seed1-w2", "seed2-w2"], ["seed1-w24", "seed2-w24", "video"], ["video"])
    assert not [*folder.glob("*.training")]
    rows, manifest = load_run("video", folder)
    assert len(rows) == 2 * 2 * 2 * 4 * 3 == manifest["rows"]
    assert (rows.groupby(["seed", "window", "band", "law"], observed=True).size() == 3).all()
    assert manifest["settings"]["n_steps"] == 2
    assert manifest["settings"]["seed"] == [1, 2]


def test_rows_are_what_another_measurement_gives(done):
    rows, _ = load_run("video", done[0])
    part = rows[(rows.seed == 2) & (rows.window == 2)].drop(columns=["seed", "window"]).reset_index(drop=True)
    again = measure(train(Settings(window=2, seed=2, **TINY))[0], n=3)
    pd.testing.assert_frame_equal(part, again, check_categorical=False, check_dtype=False)
    longer = measure(train(Settings(window=2, seed=2, **TINY))[0], n=4)
    pd.testing.assert_frame_equal(longer[longer.world < 3].reset_index(drop=True), again)
    assert (again.id_sum >= again[windows.PRIMARY]).all()
    assert (again[again.band == "in"][["free_1", "free_3"]] > 0).all(axis=None)
    assert (again[again.band == "out"].free_1 == 0).all()


@pytest.mark.parametrize("at", ["save", "measure", "write_parquet", "train"])
def test_a_killed_grid_goes_on(monkeypatch, tmp_path, at):
    monkeypatch.setattr(windows, "SEEDS", (1,))
    monkeypatch.setattr(windows, "WINDOWS", (2, 24))
    whole = [*grid(tmp_path / "whole", n=2, **TINY)]
    with monkeypatch.context() as patch:

        def die(*args, **kwargs):
            raise KeyboardInterrupt

        patch.setattr(windows, at, die)
        with pytest.raises(KeyboardInterrupt):
            [*grid(tmp_path / "killed", n=2, **TINY)]
    assert [*grid(tmp_path / "killed", n=2, **TINY)] == whole
    rows = [load_run("video", tmp_path / name)[0] for name in ("whole", "killed")]
    pd.testing.assert_frame_equal(*rows)


def test_a_folder_of_other_settings_is_refused(done, monkeypatch):
    monkeypatch.setattr(windows, "SEEDS", (1, 2))
    monkeypatch.setattr(windows, "WINDOWS", (2, 24))
    with pytest.raises(ValueError, match=r"^grid: .*seed1-w2.parquet has rows of other settings, but rows of the same"):
        [*grid(done[0], n=3, **TINY | {"n_steps": 3})]
    with pytest.raises(ValueError, match=r"^grid: share is 3 of 2, but"):
        next(grid(done[0], share=(3, 2)))


def test_the_settings_are_those_of_the_plan():
    assert (windows.WINDOWS, windows.SEEDS) == ((2, 4, 8, 16, 24), (1, 2, 3, 4, 5, 6))
    assert (windows.N_STEPS, windows.N_CLIPS, windows.PRIMARY) == (2000, 500, "id_absolute_0.1_3")
    assert pytest.approx(0.0266, abs=1e-4) == SMALLEST_SLOPE


def test_events_are_those_of_the_path():
    start, velocity = [[[0.2, 0.5]], [[0.9, 0.5]]], [[[0.0, 0.0]], [[0.1, 0.0]]]
    flat = move(start, velocity, law="bounces", frames=24)[0]
    unfolded = np.floor((0.85 + 0.1 * np.array([3, 23])) / 0.9)
    assert facts(flat, law="bounces")["events"].tolist() == [0, np.diff(unfolded)[0]]
    assert facts(flat, law="bounces")["speed"] == pytest.approx([0, 0.1])
    rng = np.random.default_rng(0)
    x, v = rng.uniform(0.1, 0.9, (200, 1, 2)), rng.uniform(-0.04, 0.04, (200, 1, 2))
    cells = [np.floor((x - 0.05 + v * frame) / 0.9) for frame in (3, 23)]
    naive = np.abs(cells[1] - cells[0]).sum((1, 2))
    assert (facts(move(x, v, law="bounces", frames=24)[0], law="bounces")["events"] == naive).all()
    fallen = move([[[0.5, 0.3]]], [[[0.01, 0.0]]], law="falls", frames=24)[0]
    floors = (np.diff(np.sign(np.diff(fallen[0, 3:, 0, 1]))) > 0).sum()
    assert facts(fallen, law="falls")["events"][0] == floors > 0
    two = move([[[0.4, 0.5], [0.6, 0.5]]], [[[0.01, 0], [-0.01, 0]]], law="collide", frames=24)[0]
    assert facts(two, law="collide")["events"] == [2]  # one for each ball


@pytest.mark.parametrize(
    ("slope", "said"),
    [
        (0.08, "the error rises with the window, at a size that matters"),
        (-0.08, "the error falls with the window, at a size that matters"),
        (0.0, "the window makes no difference that matters"),
    ],
)
def test_slopes_are_found(slope, said):
    table = by_window(simulated(slope=slope, of_seeds=0.005, n=400), n_boot=300)
    assert table.said.tolist() == [said] * 2
    assert table.estimate.to_numpy() == pytest.approx(slope, abs=0.02)
    assert all(len(slopes) == 6 for slopes in table.slopes)


def test_slopes_are_least_squares():
    rows = simulated(slope=0.05, of_seeds=0.05)
    table = by_window(rows, n_boot=200).set_index("band")
    means = rows[rows.band == "out"].groupby(["seed", "window"]).log_error.mean().unstack()
    naive = [np.polyfit(np.log2(means.columns), row, 1)[0] for row in means.to_numpy()]
    assert table.slopes["out"] == pytest.approx(naive)
    with pytest.raises(ValueError, match=r"^by_window: rows have 4 windows of some clip, but 5 of each"):
        by_window(rows.drop(index=rows.index[-1]))


def test_correlations_are_found():
    part = simulated(rho=-0.4, n=200).query("band == 'in' and window == 24")
    found = by_clip(part, n_boot=400)
    assert found["said"] == "clips with higher ID are continued better, at a size that matters"
    alone = part.groupby(["seed", "law"])[[windows.PRIMARY, "log_error"]].corr("spearman").iloc[::2, 1].mean()
    assert by_clip(part, controls=False, n_boot=200)["estimate"] == pytest.approx(alone, abs=0.02)
    none = by_clip(simulated(n=400).query("band == 'in' and window == 24"), n_boot=400)
    assert none["said"] == "no association that matters"
    worse = by_clip(simulated(rho=0.3, n=200).query("band == 'in' and window == 24"), n_boot=200)
    assert worse["said"] == "clips with higher ID are continued worse, at a size that matters"


def test_worlds_are_drawn_for_all_models_at_once():
    """Worlds that all models share leave an error that more models do not remove."""
    rows = simulated(n=50).query("band == 'in' and window == 24").reset_index(drop=True)
    hard = np.random.default_rng(1).standard_normal(50)[rows.world]
    shared = two_way(rows, lambda w: (hard @ w / w.sum(0))[None], n_boot=2000)[0]
    error = (shared.high - shared.low) / 2 / 2.571 / np.sqrt(6 / 5)
    assert error == pytest.approx(hard.std() / np.sqrt(4 * 50), rel=0.1)  # four laws
    with pytest.raises(ValueError, match="two_way: rows have 1 seed, but at least 2"):
        two_way(rows[rows.seed == 1], None)


def test_the_command_trains_the_grid(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(windows, "grid", lambda folder, **given: iter([f"{folder.name} {given['share']}"]))
    cli.main(["video", "--grid", str(tmp_path / "new"), "--share", "1", "2", "--json"])
    assert json.loads(capsys.readouterr().out)["done"] == "new (1, 2)"
    for wrong in (["--grid", "x", "--window", "2"], ["--grid", "x", "--roll", "a ball falls"], ["--share", "1", "2"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(["video", *wrong])
        assert stop.value.code == 2
