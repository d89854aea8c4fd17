"""A sweep beyond one machine: the same batches, answered by workers of a Ray cluster, each with its copy of the model.

There are three layers, so that each may fail alone. The sweep itself keeps the rows. A *broker*, a child process, has
the only connection to Ray and hands batches to workers: when the head of a cluster is lost, Ray ends the process that
is connected to it, and a new broker takes over once the head is back. The *workers* are Ray actors, one for each GPU,
or without GPUs one for every `threads` cores; Ray restarts a worker that dies, and its batch is tried again. The broker
and the workers are in `geolib.experiments.queue`.
"""

import contextlib
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import count

from geolib import models
from geolib.checks import above_zero, integer, one_line
from geolib.experiments.queue import PAUSE, ClusterError, serve
from geolib.reasoning.answers import Settings

logger = logging.getLogger(__name__)

_AHEAD = 2  # batches sent to each worker: the next one waits there


class Cluster:
    """Workers of a Ray cluster: the ``engine`` of a :class:`~geolib.reasoning.Sweep`. Needs the extra ``cluster``.

    Used in a ``with`` block, which ends the workers. The cluster is the one at ``address``, or at the address in the
    environment variable RAY_ADDRESS; without both, a cluster is started on this machine, and ends with the block.
    geolib and the model must be available on every node.

    Parameters
    ----------
    model : str or callable
        What each worker loads: a name as for :func:`geolib.models.load`, or a picklable function that returns a model
        and a tokenizer. A worker with other weights than the sweep's model is refused.
    workers : int, optional
        Number of workers; by default one per GPU, or without GPUs one per ``threads`` cores.
    threads : int
        Number of cores of each worker.
    address : str, optional
        As for ``ray.init``: ``"10.0.0.1:6379"``, ``"auto"``, ``"local"``.
    patience : float
        Seconds to wait for a lost cluster to come back, or for the first worker.

    Raises
    ------
    ImportError
        The extra ``cluster`` is not installed.
    TypeError, ValueError
        An argument has another type or value.
    """

    def __init__(
        self,
        model: str | Callable = models.EMBEDDED,
        *,
        workers: int | None = None,
        threads: int = 1,
        address: str | None = None,
        patience: float = 600.0,
    ):
        try:
            import ray  # noqa: F401
        except ImportError:
            raise ImportError(
                'Cluster: ray is not installed, but the extra "cluster" was expected (pip install ray)'
            ) from None
        if not callable(model) and not isinstance(model, str | os.PathLike):
            raise TypeError(f"Cluster: model is {one_line(model)}, but a name or a callable was expected")
        workers = workers if workers is None else integer("Cluster: workers", workers, 1)
        load = model if callable(model) else partial(models.load, str(model))
        self._options = load, workers, integer("Cluster: threads", threads, 1), address
        self.patience = float(above_zero("Cluster: patience", patience))
        self._pending, self._numbers, self._lock, self._closing = {}, count(), threading.Lock(), False
        self._ready = self._lost_for_good = None

    def __enter__(self):
        self._ready = Future()
        self._start()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_):
        self._closing = True
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._broker.join(20)
        self._broker.kill()
        self._listener.join()

    @property
    def at_once(self) -> int:
        """Number of batches that may be on the way at the same time; waits for the first worker."""
        return _AHEAD * self._about()[2]

    def room(self) -> tuple[str, int]:
        """Type of a worker's device and its share of the memory, in bytes; waits for the first worker."""
        return self._about()[:2]

    def _about(self):
        if self._ready is None:
            raise ClusterError("Cluster: it is not running, but use in a with block was expected")
        return self._ready.result()

    def submit(self, settings: Settings, batch: Sequence[dict]) -> Future:
        """Have a batch answered; return a future of its rows.

        The exception of the future is the model's error, or a ClusterError if the worker died or the cluster is lost.
        """
        future, number = Future(), next(self._numbers)
        # Questions stay here: a worker needs the tokens alone.
        work = number, settings, [{name: prompt[name] for name in ("key", "before", "rest")} for prompt in batch]
        with self._lock:
            if self._lost_for_good:
                future.set_exception(self._lost_for_good)
                return future
            self._pending[number] = future, work
            with contextlib.suppress(OSError):  # the broker is gone: the next one will be sent it
                self._pipe.send(work)
        return future

    def _start(self):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._broker = context.Process(target=serve, args=(theirs, *self._options, self.patience), daemon=True)
        self._broker.start()
        theirs.close()

    def _listen(self):
        """Pass on the broker's messages, and replace a broker that ended."""
        lost = None  # since when
        while True:
            try:
                what, content = self._pipe.recv()
            except (EOFError, OSError):
                what, content = "lost", "the connection ended"
            if self._closing:
                return
            if what == "lost":
                lost = lost or time.monotonic()
                if not self._ready.done() or time.monotonic() - lost > self.patience:
                    self._give_up(ClusterError(f"Cluster: {content}"))
                    return
                logger.warning("the cluster is lost (%s): trying to reach it again", content)
                self._replace()
                continue
            lost = None
            if what == "ready":
                if not self._ready.done():
                    self._ready.set_result(content)
            else:
                with self._lock:
                    future, _ = self._pending.pop(what)
                (future.set_exception if isinstance(content, Exception) else future.set_result)(content)

    def _replace(self):
        """Start another broker, and send it the batches that the last one did not finish."""
        self._broker.join(20)
        self._broker.kill()
        self._broker.join()
        self._pipe.close()
        time.sleep(PAUSE)
        with self._lock, contextlib.suppress(OSError):  # one that ended at once: the next will be sent it
            self._start()
            for _, work in self._pending.values():
                self._pipe.send(work)

    def _give_up(self, error):
        with self._lock:
            futures = [self._ready] * (not self._ready.done()) + [future for future, _ in self._pending.values()]
            self._pending.clear()
            self._lost_for_good = error
        for future in futures:
            future.set_exception(error)
