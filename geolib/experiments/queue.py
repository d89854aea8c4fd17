"""The queue of a cluster's work: a broker that gives batches to Ray's actors, and the worker inside each of them.

`geolib.experiments.cluster` says why the two are separate.
"""

import builtins
import contextlib
import os
import re
import signal
import socket
import time
from collections import deque
from collections.abc import Sequence

import torch

from geolib.fingerprint import fingerprint
from geolib.reasoning.answers import Answerer, Settings, room
from geolib.reasoning.decode import RefusedError

_LOOK = 5.0  # seconds between two checks that the cluster is still the same
PAUSE = 0.5  # seconds between two checks of states that Ray does not announce


class ClusterError(RuntimeError):
    """The cluster cannot be reached, has no worker, or lost a worker while it was working."""


def serve(pipe, load, workers, threads, address, patience):
    """Run the broker: give the batches from the pipe to Ray's actors, and send back their rows.

    ``("ready", about)`` is sent once, ``(number, rows or exception)`` for each batch, and ``("lost", why)`` last.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep, which then closes the pipe
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # else Ray tries a dead address for a quarter of an hour
    import ray

    address = address or os.environ.get("RAY_ADDRESS") or "local"  # not one that Ray remembers, and that may be gone
    local = {"include_dashboard": False} if address == "local" else {}
    try:
        if match := re.fullmatch(r"(.+):(\d+)", address):
            socket.create_connection(match.groups(), timeout=10).close()
        ray.init(address, log_to_driver=False, logging_level="error", **local)
        _broke(pipe, _actors(load, workers, threads), patience)
    except (EOFError, BrokenPipeError):
        pass
    except (OSError, ray.exceptions.RayError, RuntimeError, ValueError) as error:
        with contextlib.suppress(OSError):
            pipe.send(("lost", f"{address}: {' '.join(str(error).split())}"))
    finally:
        ray.shutdown()


def _actors(load, workers, threads):
    """Start the actors: one for each GPU, or without GPUs one for every `threads` cores."""
    import ray

    there = ray.cluster_resources()
    gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 0))
    workers = workers or gpus or max(1, cores // threads)
    # Ray restarts actors as often as they die, but never repeats a task: the sweep decides what is tried again.
    kind = ray.remote(num_cpus=threads, num_gpus=1 if gpus else 0, max_restarts=-1, max_task_retries=0)(_Worker)
    return [kind.remote(load, threads) for _ in range(workers)]


def _broke(pipe, actors, patience):
    import ray

    waiting, idle, told, seen, looked = deque(), [], False, time.monotonic(), time.monotonic()
    here = ray.get_runtime_context().get_node_id()
    # By reference: the actor, and the number of the batch; None for a call that only checks that the actor is alive.
    flying = {actor.about.remote(): (actor, None) for actor in actors}
    while True:
        while pipe.poll(0 if flying or waiting else None):
            if (work := pipe.recv()) is None:
                return
            waiting.append(work)
        while waiting and idle:
            (number, *work), actor = waiting.popleft(), idle.pop()
            flying[actor.answer.remote(*work)] = actor, number
        done, _ = ray.wait(list(flying), timeout=PAUSE / 10 if idle else PAUSE)
        for reference in done:
            actor, number = flying.pop(reference)
            try:
                outcome = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                outcome = _portable(error.cause)
            except ray.exceptions.ActorDiedError as error:  # for good: it could not be made
                reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
                outcome = ClusterError(f"a worker could not be made: {reason}")
                actors.remove(actor)
                if not actors:
                    raise outcome from None
            except ray.exceptions.RayError as error:  # it died, and is made again
                outcome = ClusterError(f"a worker was lost at its work ({type(error).__name__})")
            seen, lost = time.monotonic(), isinstance(outcome, ClusterError)
            if number is not None:
                pipe.send((number, outcome))
            elif not lost and not told:
                device, memory = outcome
                pipe.send(("ready", (device, memory, len(actors))))
                told = True
            if not lost:
                idle.append(actor)
            elif actor in actors:
                time.sleep(PAUSE)
                flying[actor.about.remote()] = actor, None
        if time.monotonic() - looked > _LOOK:
            # A head that was restarted answers at the same address, and knows of no node, worker or task.
            if not any(node["NodeID"] == here and node["Alive"] for node in ray.nodes()):
                raise ClusterError("this node is no longer part of it")
            looked = time.monotonic()
        if len(idle) == 0 and time.monotonic() - seen > patience and all(n is None for _, n in flying.values()):
            raise ClusterError(f"no worker has started in {patience:g} s: has the cluster the cores or GPUs it needs?")


def _portable(error: Exception) -> Exception:
    """Return an error that can be pickled: of the same type if it is known everywhere, with the same message."""
    if isinstance(error, RefusedError) or type(error) is getattr(builtins, type(error).__name__, None):
        return type(error)(str(error))
    return RuntimeError(f"{type(error).__name__}: {error}")


class _Worker:
    """The object inside an actor: a model, and the Answerer that turns prompts into rows with it."""

    def __init__(self, load, threads):
        torch.set_num_threads(threads)
        self.threads = threads
        self.model, self.tokenizer = load()
        self.sha256, self.settings = fingerprint(self.model), None

    def about(self) -> tuple[str, int]:
        device, memory = room(self.model)
        return device, memory if device == "cuda" else int(memory * min(1.0, self.threads / os.cpu_count()))

    def answer(self, settings: Settings, batch: Sequence[dict]) -> list[dict]:
        if settings != self.settings:
            if settings.model_sha256 != self.sha256:
                raise RefusedError("Cluster: model has other weights on a worker, but the sweep's were expected")
            self.answerer, self.settings = Answerer(self.model, self.tokenizer, settings), settings
        return self.answerer(batch)
