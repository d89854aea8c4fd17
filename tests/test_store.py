"""Work in parts: nothing finished is lost or done twice, and what is damaged is not believed."""

import logging
import os
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geolib.store import Parts, read_parquet, run_in_parts, write_parquet

BATCHES = [[{"key": f"{name}{i}"} for i in range(3)] for name in "abcd"]
KEYS = [item["key"] for batch in BATCHES for item in batch]


def square(batch):
    return [{"key": item["key"], "value": int(item["key"][1]) ** 2, "row": np.arange(2)} for item in batch]


def counted(calls, *, stop_at=None, error=KeyboardInterrupt):
    """Compute as ``square`` does, note each call, and fail at one of the batches."""

    def compute(batch):
        if batch[0]["key"][0] == stop_at:
            raise error
        calls.append(batch[0]["key"][0])
        return square(batch)

    return compute


def test_without_a_folder_everything_is_computed():
    calls = []
    rows = run_in_parts(BATCHES, counted(calls))
    assert list(rows) == KEYS
    assert calls == list("abcd")
    assert rows["c2"]["value"] == 4


def test_what_is_there_is_not_computed_again(tmp_path):
    first = run_in_parts(BATCHES[1:3], square, folder=tmp_path)
    calls = []
    rows = run_in_parts(BATCHES, counted(calls), folder=tmp_path)
    assert calls == ["a", "d"]
    assert sorted(rows) == KEYS
    assert all(np.array_equal(rows[key]["row"], first[key]["row"]) for key in first)


def test_an_interruption_loses_the_batch_in_flight_alone(tmp_path, caplog):
    calls = []
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING):
        run_in_parts(BATCHES, counted(calls, stop_at="c"), folder=tmp_path)
    assert f"6 of 12 rows are safe in {tmp_path}: run again to go on" in caplog.text
    run_in_parts(BATCHES, counted(calls), folder=tmp_path)
    assert calls == list("abcd")


class Garbage:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


class DeeperGarbage:
    def __del__(self):
        self.interrupt()

    def interrupt(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", [Garbage, DeeperGarbage])
def test_an_interruption_during_garbage_collection_is_not_dropped(tmp_path, kind):
    """Python prints what a destructor raises, and goes on; the run must not."""
    calls = []

    def compute(batch):
        garbage = kind()
        del garbage
        calls.append(batch)
        return square(batch)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_in_parts(BATCHES, compute, folder=tmp_path)
    assert len(calls) == len(list(tmp_path.glob("*.parquet"))) == 1
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_error_leaves_what_is_finished(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run_in_parts(BATCHES, counted([], stop_at="b", error=ZeroDivisionError), folder=tmp_path)
    with Parts(tmp_path) as parts:
        assert sorted(parts.read(KEYS)) == ["a0", "a1", "a2"]


@pytest.mark.parametrize("bad", ["b1", "d0"])
def test_what_always_fails_is_set_aside(tmp_path, bad):
    """Three tries with its batch, three alone; whoever shares its batch is computed alone, in order."""
    tries, failed = [], {}

    def compute(batch):
        tries.append([item["key"] for item in batch])
        if bad in tries[-1]:
            raise FloatingPointError("two\nlines")
        return square(batch)

    rows = run_in_parts(BATCHES, compute, folder=tmp_path, failed=failed)
    assert sorted(rows) == sorted(set(KEYS) - {bad})
    assert failed == {bad: "FloatingPointError: two lines"}
    assert sum(bad in one for one in tries) == 6
    assert tries.count([bad]) == 3
    again = {}
    run_in_parts(BATCHES, counted(calls := []), folder=tmp_path, failed=again)
    assert (calls, again) == ([bad[0]], {})


def test_what_passes_is_tried_again(tmp_path):
    left = [2]

    def compute(batch):
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionError
        return square(batch)

    failed = {}
    assert list(run_in_parts(BATCHES[:1], compute, failed=failed)) == KEYS[:3]
    assert failed == {}


@pytest.mark.parametrize(("n", "fatal", "tries"), [(2, (), 3 + 6), (20, (), 16 * 3 + 6 * 3), (20, ValueError, 1)])
def test_when_everything_fails_no_item_is_to_blame(n, fatal, tries):
    calls = []

    def compute(batch):
        calls.append(batch)
        raise ValueError("no model")

    batches = [[{"key": f"{i}"} for i in range(start, min(start + 3, n))] for start in range(0, n, 3)]
    with pytest.raises(ValueError, match="no model"):
        run_in_parts(batches, compute, failed={}, fatal=fatal)
    assert len(calls) == tries


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_futures(tmp_path, at_once):
    """As many at once as may be, in whatever order they are finished."""
    running, most = [], []

    def compute(batch):
        running.append(batch)
        most.append(len(running))
        time.sleep(0.01 * int(batch[0]["key"][0] == "a"))
        running.remove(batch)
        return square(batch)

    with ThreadPoolExecutor(8) as pool:
        rows = run_in_parts(BATCHES, lambda batch: pool.submit(compute, batch), folder=tmp_path, at_once=at_once)
    assert sorted(rows) == KEYS
    assert max(most) <= at_once


def test_one_missing_row_brings_its_batch_back(tmp_path):
    with Parts(tmp_path) as parts:
        parts.add(square(BATCHES[0][:2]))
    calls = []
    run_in_parts(BATCHES[:1], counted(calls), folder=tmp_path)
    assert calls == ["a"]


def test_only_the_rows_asked_for_are_read(tmp_path):
    run_in_parts(BATCHES, square, folder=tmp_path)
    with Parts(tmp_path) as parts:
        assert sorted(parts.read(["b1", "no"])) == ["b1"]


def test_parts_written_without_checksums_are_read(tmp_path):
    pd.DataFrame(square(BATCHES[0])).to_parquet(tmp_path / "0123456789abcdef.parquet")
    with Parts(tmp_path) as parts:
        assert sorted(parts.read(KEYS)) == ["a0", "a1", "a2"]


def opened(monkeypatch):
    """Note which parts are opened."""
    names, read_bytes = [], Path.read_bytes

    def noted(path):
        names.extend([path.name] if path.suffix == ".parquet" else [])
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", noted)
    return names


def test_reading_some_rows_opens_their_files_alone(tmp_path, monkeypatch):
    run_in_parts(BATCHES, square, folder=tmp_path)
    names = opened(monkeypatch)
    with Parts(tmp_path) as parts:
        rows = parts.read(["b1", "c0", "c2", "no"])
    assert {key: row["value"] for key, row in rows.items()} == {"b1": 1, "c0": 0, "c2": 4}
    assert len(names) == 2


def test_a_store_without_an_index_gets_one(tmp_path, monkeypatch):
    """What was kept before there was an index is looked at once."""
    run_in_parts(BATCHES, square, folder=tmp_path)
    (tmp_path / "index.txt").unlink()
    names = opened(monkeypatch)
    for seen in (4, 1):
        with Parts(tmp_path) as parts:
            assert list(parts.read(["b1"])) == ["b1"]
        assert len(names) == seen
        names.clear()


@pytest.mark.parametrize(
    "damage",
    [
        lambda index: index[: len(index) * 2 // 3],
        lambda index: index[:-5] + b"\n" + index,
        lambda index: index.replace(b"parquet", b"parquer", 1),
        lambda index: bytes(len(index)),
        lambda index: b"\xff" + index + b"\xff\xfe no\n",
        lambda index: b"",
        lambda index: index + index,
    ],
    ids=["cut", "half a line", "flipped", "zeros", "no text", "empty", "twice"],
)
def test_a_damaged_index_loses_nothing(tmp_path, damage):
    run_in_parts(BATCHES, square, folder=tmp_path)
    whole = (tmp_path / "index.txt").read_bytes()
    (tmp_path / "index.txt").write_bytes(damage(whole))
    calls = []
    assert sorted(run_in_parts(BATCHES, counted(calls), folder=tmp_path)) == KEYS
    assert calls == []
    with Parts(tmp_path) as parts:  # and what is added now is found by what it then holds
        parts.add(square([{"key": "e7"}]))
        assert parts.read(["e7", "a2"]).keys() == {"e7", "a2"}


def test_an_index_may_name_files_that_are_gone(tmp_path):
    run_in_parts(BATCHES, square, folder=tmp_path)
    sorted(tmp_path.glob("*.parquet"))[0].unlink()
    calls = []
    assert sorted(run_in_parts(BATCHES, counted(calls), folder=tmp_path)) == KEYS
    assert len(calls) == 1


def test_a_large_store_is_as_quick_as_a_small_one(tmp_path):
    """A store of 100 batches, from which one is read: within a few times what that one alone takes."""
    batches = [[{"key": f"{i}.{j}"} for j in range(16)] for i in range(100)]

    def wide(batch):
        return [{"key": item["key"], **{f"column {i}": np.arange(30) for i in range(10)}} for item in batch]

    run_in_parts(batches, wide, folder=tmp_path / "large")
    run_in_parts(batches[:1], wide, folder=tmp_path / "small")

    def seconds(name):
        start = time.perf_counter()
        with Parts(tmp_path / name) as parts:
            assert len(parts.read(item["key"] for item in batches[0])) == 16
        return time.perf_counter() - start

    assert min(seconds("large") for _ in range(5)) < 5 * min(seconds("small") for _ in range(5))


def test_columns_that_differ_between_batches(tmp_path):
    with Parts(tmp_path) as parts:
        parts.add([{"key": "a", "value": 1, "cell": np.arange(3)}])
        parts.add([{"key": "b", "other": "text", "cell": np.arange(4).reshape(2, 2)}])
        rows = parts.read(["a", "b"])
    assert rows["a"].keys() == {"key", "value", "cell"}
    assert rows["b"].keys() == {"key", "other", "cell"}
    np.testing.assert_array_equal(rows["b"]["cell"], [[0, 1], [2, 3]])


@pytest.fixture
def read_only():
    """Fill a folder, then take the right to write from it, and from root its privileges, until the test ends."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        run_in_parts(BATCHES[:2], square, folder=f"{folder}/store")
        Path(folder, "store").chmod(0o555)
        Path(folder).chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        yield Path(folder)
        os.seteuid(user)
        Path(folder).chmod(0o755)
        Path(folder, "store").chmod(0o755)


@pytest.mark.parametrize(("name", "computed"), [("store", ["c", "d"]), ("no", list("abcd"))])
def test_what_cannot_be_written_is_read(read_only, caplog, name, computed):
    calls = []
    with caplog.at_level(logging.WARNING):
        assert sorted(run_in_parts(BATCHES, counted(calls), folder=read_only / name)) == KEYS
    assert calls == computed
    assert f"{read_only / name} cannot be written: what is kept there is read, and nothing is added" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "flipped", "footer", "empty", "text", "other", "swapped"])
def test_a_damaged_part_is_set_aside(tmp_path, caplog, damage):
    run_in_parts(BATCHES[:2], square, folder=tmp_path)
    path, second = sorted(tmp_path.glob("*.parquet"))
    whole = path.read_bytes()

    def flipped(place):  # only a checksum tells
        return whole[:place] + bytes([whole[place] ^ 1]) + whole[place:][1:]

    if damage == "other":
        pd.DataFrame({"no": ["key"]}).to_parquet(path)
    else:
        damaged = {"cut": whole[:-20], "flipped": flipped(20), "footer": flipped(len(whole) - 40), "empty": b""}
        path.write_bytes((damaged | {"text": b"Hello", "swapped": second.read_bytes()})[damage])
    calls = []
    with caplog.at_level(logging.WARNING):
        assert sorted(run_in_parts(BATCHES[:2], counted(calls), folder=tmp_path)) == KEYS[:6]
    assert len(calls) == 1
    assert f"{path} is damaged" in caplog.text
    assert path.read_bytes() == whole
    assert path.with_suffix(".damaged").exists()


def test_runs_over_one_folder_share_the_work(tmp_path):
    """Each takes the lock through a file of its own, as processes do."""
    calls = []
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: run_in_parts(BATCHES, counted(calls), folder=tmp_path), range(3)))
    assert all(sorted(rows) == KEYS for rows in results)
    assert calls == list("abcd")
    assert len(list(tmp_path.glob("*.parquet"))) == 4


def test_leavings_of_a_killed_process_go(tmp_path):
    left = tmp_path / ".writing-xyz"
    left.mkdir()
    (left / "half.parquet").write_bytes(b"PAR1")
    run_in_parts(BATCHES, square, folder=tmp_path)
    assert not left.exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^run_in_parts: folder is '.*file', which is a file, but a folder"):
        run_in_parts(BATCHES, square, folder=tmp_path / "file")


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    kind=st.sampled_from(["int32", "int64", "float32", "float64"]),
    name=st.text(st.characters(codec="utf-8"), max_size=5),
)
def test_round_trip(tmp_path_factory, shape, kind, name):
    """Arrays of one and two axes, numbers and text come back as they were, with the settings."""
    n, height, width = shape
    matrices = list(np.random.default_rng(0).normal(size=shape).astype(kind))
    frame = pd.DataFrame({"text": [name] * n, "number": np.arange(n, dtype=kind)})
    frame = frame.assign(matrix=matrices, vector=[matrix[0] for matrix in matrices])
    frame.attrs = {"eps": [0.1], "name": name}
    folder = tmp_path_factory.mktemp("parquet")
    for file in ("first", "second"):
        write_parquet(frame, folder / file)
    assert (folder / "first").read_bytes() == (folder / "second").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["first", "second"]
    back = read_parquet(folder / "first")
    assert back.attrs == frame.attrs
    for column in ("text", "number"):
        pd.testing.assert_series_equal(back[column], frame[column])
    for column, axes in (("matrix", (height, width)), ("vector", (width,))):
        for cell, expected in zip(back[column], frame[column], strict=True):
            assert (cell.shape, cell.dtype) == (axes, expected.dtype)
            np.testing.assert_array_equal(cell, expected)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_parquet(pd.DataFrame({"a": [1]}), tmp_path / "rows.parquet")
    before = (tmp_path / "rows.parquet").read_bytes()
    with pytest.raises(Exception, match="object"):
        write_parquet(pd.DataFrame({"a": [object()]}), tmp_path / "rows.parquet")
    assert (tmp_path / "rows.parquet").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


@pytest.mark.parametrize("name", ["index.txt", ".lock"])
def test_folders_in_the_place_of_files(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(
        ValueError, match=r"^Parts: folder is '.*', whose index.txt or .lock is a folder, but a file was expected$"
    ):
        Parts(tmp_path)


def test_what_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^Parts: folder is '.*', but '.*file' is a file, but a folder was expected$"):
        Parts(tmp_path / "file" / "x")
    with pytest.raises(TypeError, match=r"^Parts: folder is 5, but a path was expected$"):
        Parts(5)


@pytest.mark.parametrize(("name", "content"), [("t.parquet", b"PAR1"), ("index.txt", b"1. Counting"), ("a.md", b"a")])
def test_in_a_folder_of_other_files_nothing_is_begun(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    expected = "which holds other files, but an empty folder, or one that a store has made, was expected"
    with pytest.raises(ValueError, match=rf"^run_in_parts: folder is '.*', {expected}$"):
        run_in_parts(BATCHES, square, folder=tmp_path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(name, content)]


def test_other_files_beside_parts_are_left_alone(tmp_path):
    run_in_parts(BATCHES[:2], square, folder=tmp_path)
    (tmp_path / "table.parquet").write_bytes(b"no part of it")
    assert sorted(run_in_parts(BATCHES, square, folder=tmp_path)) == KEYS
    assert (tmp_path / "table.parquet").read_bytes() == b"no part of it"


def test_what_is_set_aside_again_overwrites_nothing(tmp_path):
    run_in_parts(BATCHES[:1], square, folder=tmp_path)
    (part,) = tmp_path.glob("*.parquet")
    for content in (b"first", b"second", b"third"):
        part.write_bytes(content)
        run_in_parts(BATCHES[:1], square, folder=tmp_path)
    assert sorted(file.read_bytes() for file in tmp_path.glob("*.damaged")) == [b"first", b"second", b"third"]


def test_an_index_whose_parts_are_gone_is_a_store(tmp_path):
    run_in_parts(BATCHES[:1], square, folder=tmp_path)
    (part,) = tmp_path.glob("*.parquet")
    part.unlink()
    assert sorted(run_in_parts(BATCHES[:1], square, folder=tmp_path)) == KEYS[: len(BATCHES[0])]


@pytest.mark.parametrize("folder", ["", 10**5000, b"x"], ids=["empty", "long", "bytes"])
def test_what_is_no_path(folder):
    with pytest.raises((TypeError, ValueError), match=r"^run_in_parts: folder is .*, but a path was expected$"):
        run_in_parts(BATCHES, square, folder=folder)
