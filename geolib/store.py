"""Long work in parts: every finished batch is kept, and a new run continues where the last one stopped.

A part is a Parquet file with the rows of one batch. The ``key`` of a row is a hash of everything that determines the
row. So one folder of parts may hold the rows of many runs, and each run finds exactly its own rows.
"""

import contextlib
import copy
import dis
import errno
import hashlib
import inspect
import io
import json
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from numbers import Number
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from geolib.typing import Model

logger = logging.getLogger(__name__)
progress_log = logging.getLogger("geolib.progress")

_WRITING = ".writing-"
_INDEX = "index.txt"
_TRIES = 3
_SAY = 60.0  # seconds between two lines of the log, without a progress bar
_TRUSTED = ("transformers", "peft", "accelerate")  # the effect of their hooks follows from configuration and weights
_OWN = vars(torch.nn.Module()).keys()  # attributes of every module
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
    with Parts(folder) as parts:
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
        ``folder`` is not a path, is a file, or is inside a file; or its index or lock is a folder.
    """

    def __init__(self, folder: str | os.PathLike | None):
        if not isinstance(folder, str | os.PathLike | None):
            raise TypeError(f"Parts: folder is {folder!r:.60}, but a path was expected")
        self.folder: Any = Path(folder) if folder is not None else None
        self._lock, self._known = cast(Any, None), set[str]()
        for place in (self.folder, *self.folder.parents) if self.folder else ():
            if place.exists() and not place.is_dir():
                which = "which is" if place == self.folder else f"but {str(place)!r} is"
                raise ValueError(f"Parts: folder is {str(folder)!r}, {which} a file, but a folder was expected")
        if self.folder and any((self.folder / name).is_dir() for name in (_INDEX, ".lock")):
            raise ValueError(f"Parts: {_INDEX} or .lock in folder {str(folder)!r} is a folder, but a file was expected")

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
            for unfinished in self.folder.glob(f"{_WRITING}*"):  # left by a killed process: only this one writes now
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
                    path.replace(path.with_suffix(".damaged"))
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
        files = sorted(self.folder.glob("*.parquet"))
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
            keys = _sha256("".join(row["key"] for row in rows).encode())
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=_WRITING) as folder:
                whole = Path(folder) / "rows.parquet"
                write_parquet(pd.DataFrame(rows), whole)
                name = f"{keys[:16]}-{_sha256(whole.read_bytes())[:16]}.parquet"
                whole.replace(self.folder / name)
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
    with _in_place(path) as whole:
        _map_cells(frame, lambda cell: list(cell) if _is_array(cell) and cell.ndim == 2 else cell).to_parquet(
            whole, index=False, compression="zstd", write_page_checksum=True
        )


def write_text(text: str, path: str | os.PathLike) -> None:
    """Write ``text`` to ``path`` as UTF-8, never a part of it."""
    with _in_place(path) as whole:
        whole.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _in_place(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a path to write to; the file replaces ``path`` once it is written."""
    path = Path(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_WRITING) as folder:
        whole = Path(folder) / path.name
        yield whole
        whole.replace(path)


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
    return _map_cells(frame, lambda cell: np.stack(cell) if _is_array(cell) and cell.dtype.kind == "O" else cell)


def _map_cells(frame: pd.DataFrame, function: Callable) -> pd.DataFrame:
    """Apply a function to the cells that may hold arrays; numbers keep their types."""
    objects = {name: column for name, column in frame.items() if pd.api.types.is_object_dtype(column)}
    return frame.assign(**{name: column.map(function) for name, column in objects.items()})


def _is_array(cell: Any) -> bool:
    return isinstance(cell, np.ndarray)


def fingerprint(model: Model) -> str:
    """Hash of a model's configuration and of every weight: the part of a row's key that identifies the model.

    The hash covers everything that changes the function that the model computes, as far as it can be hashed. Besides
    configuration and weights these are: the classes, plain settings (numbers, texts, tensors) and unsaved buffers of
    its modules where they differ from those of a new model with the same configuration (adapters and whether they are
    active, merged or scaled; quantised and replaced modules); autocast; and the precision of float32 products.
    :func:`check_storable` refuses models with parts that cannot be hashed, such as hooks.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Its name and path do not count, nor the version of transformers that wrote its configuration, nor whether its
        weights are offloaded.

    Returns
    -------
    str
        SHA-256 in hexadecimal digits.
    """
    config = {k: v for k, v in model.config.to_dict().items() if k not in ("transformers_version", "_name_or_path")}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    weights = model.state_dict()
    if any(isinstance(weight, torch.Tensor) and weight.is_meta for weight in weights.values()):
        from accelerate.utils.modeling import get_state_dict_offloaded_model

        weights = get_state_dict_offloaded_model(model)
    for name, weight in sorted(weights.items()):
        _digest(digest, name, weight)
    if differences := _differences(model):
        digest.update(json.dumps(differences, sort_keys=True, default=sorted).encode())
    return digest.hexdigest()


def _digest(digest: Any, name: str, weight: Any) -> None:
    """Add one entry of a state_dict to a hash: a tensor, or what a quantised module keeps in place of a tensor."""
    if isinstance(weight, tuple | list):
        for part in weight:
            _digest(digest, name, part)
    elif hasattr(weight, "__tensor_flatten__"):  # such as torchao's tensors, which are made of others
        parts, context = weight.__tensor_flatten__()
        _digest(digest, name, [weight.dtype, context, *(getattr(weight, part) for part in parts)])
    elif not isinstance(weight, torch.Tensor):
        digest.update(f"{name} {weight}".encode())
    else:
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        weight = weight.dequantize() if weight.is_quantized else weight
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def _differences(model: Any) -> dict:
    """Classes and settings of modules that differ from those of a new model with the same configuration."""
    from transformers import PreTrainedModel

    base = next((part for part in model.modules() if isinstance(part, PreTrainedModel)), model)
    try:
        with torch.device("meta"):
            made = dict(type(base)(copy.deepcopy(base.config)).named_modules())
        for parent in filter(lambda part: isinstance(part, PreTrainedModel), made.values()):
            _fill_buffers(parent)
    except Exception:  # a class of somebody's own, for instance: then all modules are described
        made = {}
    own, changed = {part: name for name, part in base.named_modules()}, dict[str, Any]()
    for name, part in model.named_modules():
        fresh, settings = made.get(own.get(part)), _settings(part)
        if fresh is None or settings != _settings(fresh):
            changed[name] = settings
        # Scaling for long texts keeps buffers that depend on the length of the last text, and recomputes them.
        for key in () if "longrope" in str(vars(part).get("rope_type")) else part._non_persistent_buffers_set:
            value, other = (None if one is None else one._buffers.get(key) for one in (part, fresh))
            if value is not None and not value.is_meta and (other is None or not _close(value, other)):
                changed[f"{name}.{key}"] = plain(value)
    kind = next((weight.device.type for weight in model.parameters() if not weight.is_meta), "cpu")
    if torch.is_autocast_enabled(kind):
        changed["autocast"] = str(torch.get_autocast_dtype(kind))
    # torch.set_float32_matmul_precision may let products of float32 be rounded as in a shorter type.
    products = getattr(torch.backends.cuda if kind == "cuda" else torch.backends.mkldnn, "matmul", None)
    if (precision := getattr(products, "fp32_precision", "none")) not in ("none", "ieee"):
        changed["products"] = precision
    return changed


@torch.no_grad()
def _fill_buffers(parent: Any) -> None:
    """Compute the buffers that no file of weights holds, as loading does, in a model made on the meta device."""
    for part in filter(lambda part: part._non_persistent_buffers_set, parent.modules()):
        part._buffers |= {key: torch.zeros_like(part._buffers[key], device="cpu") for key in part._buffers}
        parent._init_weights(part)


def _close(value: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two buffers are equal up to the rounding of different devices."""
    value, other = value.detach().cpu().double(), other.double()
    return value.shape == other.shape and torch.allclose(value, other, rtol=1e-6, atol=0)


def _settings(module: Any) -> dict:
    # Attributes in which transformers records how, and from where, a model was loaded do not count.
    passing = {"gradient_checkpointing", "_is_hf_initialized", "name_or_path", "hf_device_map", "warnings_issued"}
    passing |= {"forward", "_old_forward", "_use_kernels", "_weight_conversions", "_output_capturing_hooks_installed"}
    passing |= {"prepare_inputs_for_generation", "extra_repr", *_OWN}
    settings = {"class": f"{type(module).__module__}.{type(module).__qualname__}"}
    held = {name: value for name, value in vars(module).items() if name not in passing and "cached" not in name}
    # A class of somebody's own may be redefined under the same name, so the code of its methods counts too.
    own = [kind for kind in type(module).__mro__ if _home(kind) not in (*_TRUSTED, "torch", "builtins")]
    for method in (value for kind in own for value in vars(kind).values() if isinstance(value, FunctionType)):
        read = inspect.getclosurevars(method)
        told = {"code": method.__code__, "defaults": method.__defaults__, **read.nonlocals, **read.globals}
        held |= {f"{method.__qualname__} {name}": value for name, value in told.items()}
    for name, value in held.items():
        with contextlib.suppress(TypeError, ValueError, RecursionError, AttributeError):
            # peft writes a single active adapter as a text or as a list.
            settings[name] = plain([value] if name == "active_adapter" and isinstance(value, str) else value)
    return settings


def plain(value: Any) -> Any:
    """Represent a value in JSON so that equal representations mean equal behaviour.

    A function of torch, numpy, math, transformers, peft or accelerate is represented by its name; any other function by
    its code with everything that the code reads: constants, defaults, enclosed variables and globals.

    Parameters
    ----------
    value : object
        Numbers, texts, tensors, functions, and collections of them.

    Returns
    -------
    object
        What :func:`json.dumps` accepts.

    Raises
    ------
    TypeError, ValueError, RecursionError, AttributeError
        ``value`` is, or contains, something else.
    """
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, torch.Tensor | np.ndarray):
        tensor, digest = torch.as_tensor(value), hashlib.sha256()
        _digest(digest, "", str(tensor.shape) if tensor.is_meta else tensor)
        return digest.hexdigest()
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in (sorted(value, key=repr) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Number | bytes | slice | torch.dtype | type(...)):
        return repr(value)
    if isinstance(value, partial):
        return plain([value.func, value.args, value.keywords])
    if _home(value) in (*_TRUSTED, "torch", "numpy", "math"):
        return f"{getattr(value, '__module__', '')}.{value.__name__}"
    if isinstance(value, CodeType):
        return plain([value.co_code, value.co_names, value.co_consts])
    if not isinstance(value, FunctionType):
        raise TypeError(f"plain: value is {type(value).__name__}, but a number, text, tensor or function was expected")
    read = {name: value.__globals__[name] for name in _globals(value.__code__) if name in value.__globals__}
    enclosed = [cell.cell_contents for cell in value.__closure__ or ()]
    return plain([value.__code__, value.__defaults__, value.__kwdefaults__, enclosed, read])


def _globals(code: CodeType) -> set[str]:
    """Names of the globals that code, and code nested in it, reads."""
    inner = [_globals(const) for const in code.co_consts if isinstance(const, CodeType)]
    return {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}.union(*inner)


def _home(called: Any) -> str:
    """Name of the package that a function, class or object comes from."""
    called = getattr(called, "func", called)
    own = called.__name__ if isinstance(called, ModuleType) else getattr(called, "__module__", "")
    return str(getattr(called, "__globals__", {}).get("__name__", own)).split(".")[0]


def check_storable(function: str, model: Model) -> None:
    """Refuse to keep rows of a model whose behaviour its hash does not cover; `function` prefixes the message.

    Parameters
    ----------
    function : str
    model : transformers.PreTrainedModel

    Raises
    ------
    ValueError
        The model has hooks, or a ``forward`` that replaces its class's own, other than those of transformers, peft and
        accelerate; or a module holds a callable that is neither theirs nor torch's.
    """
    for name, module in [("", torch.nn.modules.module), *model.named_modules()]:
        for one in _untold(module):
            raise ValueError(
                f"{function}: model has {one!r:.60} on {name or 'the whole'!r}, which a row's key cannot cover, but no "
                "hooks, or no store, were expected"
            )


def _untold(module):
    """Yield what a module calls that neither its weights nor its plain settings describe."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_global_forward_hooks", "_global_forward_pre_hooks")
    called = [hook for kind in kinds for hook in getattr(module, kind, {}).values()]
    if isinstance(module, torch.nn.Module):
        owner = next(kind for kind in type(module).__mro__ if "forward" in vars(kind))
        layer, usual = owner.forward, (*_TRUSTED, "torch", owner.__module__.split(".")[0])
        while layer:  # its wrappers, such as torch.no_grad(), and the wrapped function
            called += [layer] if _home(layer) not in usual else []
            layer = getattr(layer, "__wrapped__", None)
        held = {name: value for name, value in vars(module).items() if name not in (*_OWN, "extra_repr")}
        instead = filter(None, [held.pop("forward", None), held.pop("_old_forward", None)])
        called += [one for one in instead if getattr(one, "__func__", one) is not owner.forward]
        hook = held.pop("_hf_hook", None)
        called += map(type, getattr(hook, "hooks", [hook] if hook else []))
        for value in held.values():
            inside = [*value.values()] if isinstance(value, dict) else value
            yield from filter(_unknown, inside if isinstance(inside, list | tuple) else [value])
    yield from (one for one in called if _home(one) not in _TRUSTED)


def _unknown(value: Any) -> bool:
    """Whether a value can be called, and no settings describe what the call does."""
    with contextlib.suppress(TypeError, ValueError, RecursionError, AttributeError):
        return callable(value) and (plain(value) is None or _home(value) not in (*_TRUSTED, "torch"))
    return True
