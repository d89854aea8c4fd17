"""Long work in parts: every finished batch is kept, and a new run continues where the last one stopped.

A part is a Parquet file with the rows of one batch. The ``key`` of a row is a hash of everything that determines the
row. So one folder of parts may hold the rows of many runs, and each run finds exactly its own rows.
"""

import contextlib
import errno
import hashlib
import io
import itertools
import logging
import os
import re
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from geolib.checks import one_line
from geolib.files import WRITING, write_bytes

logger = logging.getLogger(__name__)
progress_log = logging.getLogger("geolib.progress")

_INDEX = "index.txt"
# Names of parts, also of those that are set aside; names of older parts have no checksum.
_OWN = re.compile(r"[0-9a-f]{16}(-[0-9a-f]{16})?(\.\d+)?\.(parquet|damaged)")
_TRIES = 3
_SAY = 60.0  # seconds between two lines of the log, without a progress bar
_HOPELESS = 16  # after so many failures in a row the cause is not in the items


def run_in_parts(
    batches: Sequence[Sequence[dict]],
    compute: Callable[[Sequence[dict]], list[dict] | Future],
    *,
    folder: str | os.PathLike | None = None,
    progress: bool = False,
    label: str = "",
    at_once: int = 1,
    failed: dict[str, str] | None = None,
    fatal: type[Exception] | tuple[type[Exception], ...] = (),
) -> dict[str, dict]:
    """Compute batch after batch, keep each one when it is finished, and read the rows that an earlier run kept.

    If one row of a batch is missing, the whole batch is computed. When the run is stopped, in whatever way, only the
    batches in progress are lost.

    Parameters
    ----------
    batches : sequence of sequences of dict
        Items to compute. Every item has a ``"key"``: a text that differs whenever its row may differ.
    compute : callable
        Takes a batch and returns its rows, or a future of them: dicts of numbers, text and arrays, each with the
        ``"key"`` of its item.
    folder : path, optional
        Folder of the parts; without it nothing is kept. Of several processes with one folder, one works while the
        others wait, and then they read its rows.
    progress : bool
        Whether to show a progress bar; without it, the logger "geolib.progress" gets a line every minute.
    label : str
        Text of the bar or the line.
    at_once : int
        Largest number of futures in progress.
    failed : dict, optional
        Receives the errors of items that fail, by key: a batch is tried three times, then each of its items alone
        three times. Without it the first error is raised.
    fatal : type of Exception, or several
        Errors that are raised at once, because other items would fail with them too.

    Returns
    -------
    dict of str to dict
        Rows by key, without the items in ``failed``.

    Raises
    ------
    Exception
        An error of ``compute``. With ``failed``, only the last error of 16 failures in a row, or when all items fail.
    """
    wanted, in_a_row = {item["key"] for batch in batches for item in batch}, 0
    with Parts(check_folder("run_in_parts: folder", folder)) as parts:
        rows = parts.read(wanted)
        missing = [batch for batch in batches if any(item["key"] not in rows for item in batch)]
        try:
            total, left, said = sum(map(len, batches)), sum(map(len, missing)), time.monotonic()
            bar = tqdm(total=total, desc=label, unit="", disable=not progress)
            with _noting_interrupts() as interrupts, bar:
                bar.update(total - left)
                for batch, outcome in _attempts(missing, compute, at_once, 1 if failed is None else _TRIES, fatal):
                    if isinstance(outcome, Exception):
                        in_a_row += 1
                        if failed is None or isinstance(outcome, fatal) or in_a_row == _HOPELESS:
                            raise outcome
                        failed[batch[0]["key"]] = f"{type(outcome).__name__}: {' '.join(str(outcome).split())}"
                    else:
                        in_a_row = 0
                        parts.add(outcome)
                        rows.update((row["key"], row) for row in outcome)
                    bar.update(len(batch))
                    left -= len(batch)
                    if not progress and time.monotonic() - said > _SAY:
                        said = time.monotonic()
                        progress_log.info("%s: %d of %d", label, total - left, total)
                    if interrupts:
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            if folder is not None:
                logger.warning("%d of %d rows are safe in %s: run again to go on", len(rows), len(wanted), folder)
            raise
    if failed and not rows:
        raise outcome
    return rows


def _attempts(batches, compute, at_once, tries, fatal):
    """Yield batches in the order in which they finish: each with its rows, or a single item with its last error."""
    waiting, running = deque((batch, 1) for batch in batches), {}
    while waiting or running:
        while waiting and len(running) < at_once:
            batch, attempt = waiting.popleft()
            running[_as_future(compute, batch)] = batch, attempt
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            batch, attempt = running.pop(future)
            error = future.exception()
            if error is None:
                yield batch, future.result()
            elif tries == 1 or isinstance(error, fatal):
                yield batch, error
            elif attempt < tries:
                logger.info("attempt %d of %d at %d items failed: %r", attempt, tries, len(batch), error)
                waiting.appendleft((batch, attempt + 1))
            elif len(batch) > 1:
                waiting.extendleft(([item], 1) for item in reversed(batch))
            else:
                yield batch, error


def _as_future(compute, batch):
    future = Future()
    try:
        outcome = compute(batch)
    except Exception as error:
        future.set_exception(error)
        return future
    if isinstance(outcome, Future):
        return outcome
    future.set_result(outcome)
    return future


@contextlib.contextmanager
def _noting_interrupts():
    """Append each Ctrl-C to the list that is yielded, and let it interrupt as usual.

    An interrupt during garbage collection would be raised inside a destructor, where Python drops it.
    """
    interrupts, handler = [], signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield interrupts
        return

    def note(number, frame):
        interrupts.append(number)
        if frame is None or frame.f_code.co_name != "__del__":
            handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, handler)


def check_folder(name: str, folder: Any) -> Path | None:
    """Return the folder of a store as a path, or None for none; `name` prefixes the message.

    Raises
    ------
    TypeError, ValueError
        ``folder`` is not a path, is a file, is inside a file, or has other files in it and none of a store; or its
        index or lock is a folder.
    """
    if not isinstance(folder, str | os.PathLike | None):
        raise TypeError(f"{name} is {one_line(folder)}, but a path was expected")
    if folder is None:
        return None
    if not os.fspath(folder):  # it would be the current folder
        raise ValueError(f"{name} is {folder!r}, but a path was expected")
    folder = Path(folder)
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            which = "which is" if place == folder else f"but {str(place)!r} is"
            raise ValueError(f"{name} is {str(folder)!r}, {which} a file, but a folder was expected")
    if any((folder / own).is_dir() for own in (_INDEX, ".lock")):
        raise ValueError(f"{name} is {str(folder)!r}, whose {_INDEX} or .lock is a folder, but a file was expected")
    if folder.exists() and not _is_store(folder):
        expected = "an empty folder, or one that a store has made, was expected"
        raise ValueError(f"{name} is {str(folder)!r}, which holds other files, but {expected}")
    return folder


def _is_store(folder):
    """Whether a folder has a store's parts or index; or nothing but hidden files, of a store or of the system."""
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if not names or any(map(_OWN.fullmatch, names)):
        return True
    lines = (folder / _INDEX).read_bytes() if _INDEX in names else b""
    return bool(re.search(rb"(?m)^[0-9a-f]{16} [0-9a-f]{16}(-[0-9a-f]{16})?\.parquet", lines))


class Parts:
    """A folder of finished batches, held under a lock inside a ``with`` block.

    An index beside the files lists the keys in each, so that reading a few rows opens only the files that hold them.
    The index only saves time: rows of files that it lacks are looked for in the files themselves.

    Parameters
    ----------
    folder : path or None
        Made if it is missing. With None nothing is kept. A folder without write access is read, and nothing is added.

    Raises
    ------
    TypeError, ValueError
        As for :func:`check_folder`.
    """

    def __init__(self, folder: str | os.PathLike | None):
        self.folder: Any = check_folder("Parts: folder", folder)
        self._lock, self._known = cast(Any, None), set[str]()

    def __enter__(self) -> "Parts":
        if self.folder:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                    raise
            if not os.access(self.folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
                logger.warning("%s cannot be written: what is kept there is read, and nothing is added", self.folder)
                return self
            self._lock = FileLock(self.folder / ".lock")
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                logger.warning("another process works in %s: waiting for it", self.folder)
                self._lock.acquire()
            for unfinished in self.folder.glob(f"{WRITING}*"):  # left by a killed process: only this one writes now
                shutil.rmtree(unfinished, ignore_errors=True)
        return self

    def __exit__(self, *_):
        if self._lock:
            self._lock.release()

    def read(self, keys: Iterable[str]) -> dict[str, dict]:
        """Return the kept rows with these keys, by key; a damaged file is set aside, and its rows are missing.

        Parameters
        ----------
        keys : iterable of str

        Returns
        -------
        dict of str to dict
        """
        keys, tables = set(keys), {}
        for path in self._holding(keys) if self.folder else ():
            try:
                raw = path.read_bytes()
                _, _, digest = path.stem.partition("-")  # names of older files have none
                if not _sha256(raw).startswith(digest):
                    raise ValueError("its checksum differs")
                file = pq.ParquetFile(io.BytesIO(raw), page_checksum_verification=True)
                if path.name not in self._known:
                    self._note(path.name, there := file.read(["key"], use_threads=False)["key"].to_pylist())
                    if keys.isdisjoint(there):
                        continue
                table = file.read(use_threads=False)
                table = table.filter([key in keys for key in table["key"].to_pylist()])
                tables.setdefault(table.schema.to_string(), []).append(table)
            except Exception as error:  # pyarrow raises many kinds of errors, depending on the wrong byte
                logger.warning("%s is damaged (%s): it is set aside, and its rows are computed again", path, error)
                if self._lock:
                    aside = (path.with_suffix(f".{i}.damaged" if i else ".damaged") for i in itertools.count())
                    path.replace(next(name for name in aside if not name.exists()))
        # Tables with equal columns are converted together: one by one takes longer than reading them.
        frames = [_arrays(pa.concat_tables(alike).to_pandas()) for alike in tables.values()]
        return {row["key"]: row for frame in frames for row in frame.to_dict("records")}

    def _holding(self, keys: set[str]) -> list[Path]:
        """Files that hold rows of ``keys`` by the index, and files that the index lacks."""
        wanted, self._known, holding = set(map(_short, keys)), set(), set()
        with contextlib.suppress(FileNotFoundError):
            for line in (self.folder / _INDEX).read_bytes().splitlines():
                digest, _, content = line.partition(b" ")
                if _sha256(content)[:16].encode() == digest:  # else the line was cut off: its file is read again
                    name, *there = content.decode().split()
                    self._known.add(name)
                    if not wanted.isdisjoint(there):
                        holding.add(name)
        files = sorted(path for path in self.folder.glob("*.parquet") if _OWN.fullmatch(path.name))
        return [path for path in files if path.name in holding or path.name not in self._known]

    def _note(self, name: str, keys: Iterable[str]) -> None:
        """Add a file to the index."""
        if self._lock and name not in self._known:
            line = " ".join([name, *map(_short, keys)])
            with (self.folder / _INDEX).open("a", encoding="utf-8", newline="") as index:
                index.write(f"\n{_sha256(line.encode())[:16]} {line}\n")

    def add(self, rows: list[dict]) -> None:
        """Keep the rows of a batch as one file, never a part of it; the file name contains the checksum.

        Parameters
        ----------
        rows : list of dict
            Each with its ``"key"``.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        if self._lock:
            keys, content = _sha256("".join(row["key"] for row in rows).encode()), _parquet(pd.DataFrame(rows))
            name = f"{keys[:16]}-{_sha256(content)[:16]}.parquet"
            write_bytes(content, self.folder / name)
            self._note(name, (row["key"] for row in rows))


def _short(key: str) -> str:
    """Return the short form of a key in the index."""
    return _sha256(key.encode())[:16]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_parquet(frame: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write ``frame`` and ``frame.attrs`` to ``path``, never a part of it, with a checksum for every page.

    Equal frames make equal files.

    Parameters
    ----------
    frame : pandas.DataFrame
        Cells may be arrays, shape=[n] or shape=[n, m]: lists, or lists of lists, in the file.
    path : path

    Raises
    ------
    OSError
        The file cannot be written.
    """
    write_bytes(_parquet(frame), path)


def _parquet(frame: pd.DataFrame) -> bytes:
    frame = _map_arrays(frame, lambda array: list(array) if array.ndim == 2 else array)
    return frame.to_parquet(index=False, compression="zstd", write_page_checksum=True)


def read_parquet(path: Any) -> pd.DataFrame:
    """Read a file of :func:`write_parquet`; checksums are verified, and nested lists become arrays again.

    Parameters
    ----------
    path : path or binary file

    Returns
    -------
    pandas.DataFrame
    """
    return _arrays(pd.read_parquet(path, page_checksum_verification=True))


def _arrays(frame: pd.DataFrame) -> pd.DataFrame:
    return _map_arrays(frame, lambda array: np.stack(array) if array.dtype.kind == "O" else array)


def _map_arrays(frame: pd.DataFrame, function: Callable) -> pd.DataFrame:
    """Apply a function to the cells that are arrays; columns of numbers keep their types."""
    names = [name for name, column in frame.items() if pd.api.types.is_object_dtype(column)]
    return frame.assign(**{n: frame[n].map(lambda c: function(c) if isinstance(c, np.ndarray) else c) for n in names})
