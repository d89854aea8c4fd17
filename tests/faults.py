"""Faults, brought about for real, and what is left afterwards: nothing may be lost, doubled or changed.

    python tests/faults.py                      the whole suite, two faults at a time (``make faults``)
    python tests/faults.py --only sweep         those whose names hold a word
    python tests/faults.py --out faults.json    also keep the table, as the book shows it

Every try follows from the seed, its fault and its number; the moment at which a process is killed, of course, falls
where it falls. The tests run each fault once.
"""

import argparse
import contextlib
import hashlib
import http.server
import json
import logging
import multiprocessing
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from small_book import lay_out  # noqa: E402 - both are scripts' folders
from tiny_folder import save_tiny  # noqa: E402

from geolib import models  # noqa: E402
from geolib.reasoning import load_run  # noqa: E402
from geolib.store import read_parquet  # noqa: E402

# Children are forked from a process that has imported everything: what is killed is the work, not the imports.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["geolib.cli", "geolib.reasoning", "transformers.models.llama.modeling_llama"])
LONGEST = 300  # seconds that a child may take


class NotPermittedError(Exception):
    """This machine does not let the fault be brought about; the text says what it would need."""


def shell(arguments, log, environment, patched):
    """Be a shell's ``geolib``: in a process of its own."""
    os.environ |= environment
    with Path(log).open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if patched:  # a clock that runs backwards
        start = time.time()
        time.time = lambda: 2 * start - time.monotonic() * 3600
        time.time_ns = lambda: int(time.time() * 1e9)
    from geolib import cli

    cli.main(arguments)


def _nothing(folder) -> dict:
    """Nothing to be set, or to be done."""
    return {}


@dataclass
class Command:
    """A command that is killed, and how to tell what it leaves.

    ``make(folder)`` gives arguments, ``begun(folder)`` a path that is there once the work has begun, and
    ``result(folder)`` something to compare.
    """

    name: str
    make: Callable
    begun: Callable
    result: Callable
    environment: Callable = _nothing
    prepare: Callable = _nothing
    expected: object = None
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, folder, *, patched=False):
        arguments = (self.make(folder), folder / "log.txt", self.environment(folder), patched)
        process = CONTEXT.Process(target=shell, args=arguments)
        process.start()
        return process

    def finish(self, folder, **settings) -> int:
        """Run to the end; the exit code."""
        process = self.start(folder, **settings)
        process.join(LONGEST)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"{self.name} hangs: {(folder / 'log.txt').read_text()[-500:]}")
        return process.exitcode

    def undisturbed(self):
        """Run once with nothing in the way: what to expect, and how long the work lasts."""
        with self.lock:
            if self.expected is None:
                with tempfile.TemporaryDirectory() as name:
                    folder = Path(name)
                    self.prepare(folder)
                    process = self.start(folder)
                    self.wait(process, folder)
                    begun = time.monotonic()
                    process.join(LONGEST)
                    self.seconds = time.monotonic() - begun
                    if process.exitcode:
                        raise AssertionError((folder / "log.txt").read_text()[-500:])
                    self.expected = self.result(folder)
        return self.expected

    def wait(self, process, folder):
        while process.exitcode is None and not self.begun(folder).exists():
            time.sleep(0.002)

    def lost(self, folder) -> int:
        """Rows, or files, that are not as in an undisturbed run."""
        return difference(self.result(folder), self.undisturbed())

    def killed(self, folder, rng) -> int:
        """SIGKILL at a random moment of the work, and a rerun."""
        self.undisturbed()
        self.prepare(folder)
        for attempt in range(8):  # one that had ended before it was killed does not count
            process = self.start(folder)
            self.wait(process, folder)
            time.sleep(rng.uniform(0, self.seconds * 0.85**attempt))
            process.kill()
            process.join()
            if process.exitcode == -signal.SIGKILL:
                break
            shutil.rmtree(folder)
            folder.mkdir()
            self.prepare(folder)
        else:
            raise AssertionError(f"{self.name} ended each time before it was killed")
        return self.rerun(folder)

    def rerun(self, folder, **settings) -> int:
        if self.finish(folder, **settings):
            raise AssertionError((folder / "log.txt").read_text()[-500:])
        return self.lost(folder)


def difference(found, expected) -> int:
    """How many rows, or entries of a dict, differ, are missing, or are there twice."""
    if isinstance(expected, dict):
        return sum(found.get(key) != expected.get(key) for key in {*found, *expected})
    try:
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
    except AssertionError:
        rows = [row.to_json() for _, row in found.iterrows()], [row.to_json() for _, row in expected.iterrows()]
        return max(1, len(set(rows[0]) ^ set(rows[1])), abs(len(rows[0]) - len(rows[1])))
    return 0


def digests(folder, names) -> dict:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in names if p.is_file()}


class Suite:
    """The commands, and every fault under its name: how often it is tried, and what tries it."""

    def __init__(self, folder: Path):
        self.folder, self.alone = folder, threading.Lock()  # of those that set this process's environment
        save_tiny(folder / "tiny")
        names = ("Ann", "Tom", "Mia", "Ben", "Zoe", "Kim")
        questions = [f"{name} has {n} pens and {n + 3} cups. Pens?" for n in range(11) for name in names]
        lines = [json.dumps({"question": text, "answer": i // len(names)}) for i, text in enumerate(questions)]
        (folder / "q.jsonl").write_text("\n".join(lines))
        texts = [f"{'word ' * (i % 30)}number {i}" for i in range(400)]
        (folder / "p.jsonl").write_text("\n".join(json.dumps({"text": text, "id": i}) for i, text in enumerate(texts)))
        self.book_source = folder / "small"
        self.book_source.mkdir()
        with contextlib.redirect_stdout(None):
            lay_out(self.book_source)
        self.gguf = models.embedded_folder().parent / models._GGUF
        self.sweep = Command(
            "geolib sweep",
            lambda out: [
                *("sweep", "--model", str(folder / "tiny"), "--questions", str(folder / "q.jsonl"), "-n", "24"),
                *("--shots", "0,1,2", "--max-new-tokens", "12", "--batch-size", "2", "--out", str(out)),
            ],
            lambda out: out / "batches" / ".lock",
            lambda out: read_parquet(out / "rows.parquet").drop(columns="seconds"),
        )
        self.dimension = Command(
            "geolib dimension --file",
            lambda out: [
                *("dimension", "--model", str(folder / "tiny"), "--file", str(folder / "p.jsonl"), "--statistics"),
                *("--batch-tokens", "512", "--out", str(out / "rows.parquet")),
            ],
            lambda out: out / "rows.parquet.parts" / ".lock",
            lambda out: read_parquet(out / "rows.parquet"),
        )
        self.conversion = Command(
            "conversion of the model",
            lambda out: ["models", "--fetch"],
            lambda out: out / "models" / f"{models.EMBEDDED}.lock",
            lambda out: digests(out, (out / "models").glob(f"{models.EMBEDDED}-*/*")),
            environment=lambda out: {"GEOLIB_CACHE": str(out)},
            prepare=self._with_gguf,
        )
        self.book = Book(
            "make book",
            lambda out: ["-m", "tools", "build", "--root", str(out)],
            lambda out: out / "book" / "_build" / ".lock",
            # But for the seconds that notebooks took, which one page shows, and what is made from it.
            lambda out: {
                name: digest
                for name, digest in digests(out, (out / "book" / "_build" / "html").rglob("*.html")).items()
                if "execution-times" not in name
            },
            prepare=lambda out: shutil.copytree(self.book_source, out, dirs_exist_ok=True),
        )
        self.faults = {
            "`geolib sweep` killed": (50, self.sweep.killed),
            "`geolib dimension --file` killed": (30, self.dimension.killed),
            "conversion of the model killed": (10, self.conversion.killed),
            "build of a book killed": (10, self.book.killed),
            "a finished batch cut, flipped or swapped": (30, self.damaged_store),
            "a file of the model's cache cut, flipped or swapped": (6, self.damaged_cache),
            "a published result cut, flipped or swapped": (200, self.damaged_result),
            "an executed notebook cut or flipped": (4, self.damaged_notebook),
            "disk full": (6, self.disk_full),
            "cache that cannot be written": (2, self.read_only_cache),
            "two processes, one store": (10, self.two_at_once),
            "clock going backwards": (4, self.clock),
            "download cut": (20, self.download_cut),
            "endpoint of a judge: hangs, hangs up, 429, 500, HTML, empty": (10, self.endpoint),
            "worker of a cluster killed": (3, self.worker_killed),
            "question that kills its worker": (1, self.worker_out_of_memory),
            "node of a cluster lost": (1, self.node_lost),
            "head of a cluster restarted": (1, self.head_restarted),
        }

    def _with_gguf(self, folder):
        (folder / "models").mkdir()
        os.link(self.gguf, folder / "models" / self.gguf.name) if self._same_device(folder) else shutil.copy(
            self.gguf, folder / "models"
        )

    def _same_device(self, folder) -> bool:
        return folder.stat().st_dev == self.gguf.stat().st_dev

    # Files that are not what they were

    def damaged_store(self, folder, rng) -> int:
        """The damaged file is named, set aside, and its rows come back."""
        self.sweep.rerun(folder)
        paths = sorted((folder / "batches").glob("*.parquet"))
        damaged = damage(paths, rng)
        lost = self.sweep.rerun(folder)
        said = (folder / "log.txt").read_text()
        return lost + sum(f"{path} is damaged" not in said for path in damaged)

    def damaged_cache(self, folder, rng) -> int:
        """The model is made anew."""
        whole = models.embedded_folder()
        self._with_gguf(folder)
        shutil.copytree(whole, copy := folder / "models" / whole.name)
        damage([path for path in sorted(copy.iterdir()) if path.name != "manifest.json"], rng)
        lost = self.conversion.rerun(folder)
        return lost + ("is damaged" not in (folder / "log.txt").read_text())

    def damaged_result(self, folder, rng) -> int:
        """It is refused, by name."""
        source = ROOT / "book" / "results"
        names = ("bare", "chain", "many", "repeats")
        for name in names:
            for end in ("parquet", "json"):
                shutil.copy(source / f"{name}.{end}", folder)
        believed = 0
        for path in damage([folder / f"{name}.parquet" for name in names], rng):
            with contextlib.suppress(ValueError):
                load_run(path.stem, folder)
                believed += 1
        return believed

    def damaged_notebook(self, folder, rng) -> int:
        """It is executed again."""
        self.book.undisturbed()
        self.book.prepare(folder)
        self.book.rerun(folder)
        damage(sorted((folder / "book" / "_build" / "executed").rglob("*.ipynb")), rng, swap=False)
        lost = self.book.rerun(folder)
        return lost + ("is damaged" not in (folder / "log.txt").read_text())

    # What the system refuses

    def disk_full(self, folder, rng) -> int:
        """One line says so; once there is room, the run goes on with what it had."""
        command = (self.sweep, self.dimension)[rng.integers(2)]
        command.undisturbed()
        with mounted(folder, f"size={rng.integers(100, 260)}k") as disk:
            code = command.finish(disk)
            said = (disk / "log.txt").read_text().splitlines() if (disk / "log.txt").stat().st_size else []
            if code == 0:
                raise AssertionError("the disk was large enough")
            wrong = code != 1 or any("Traceback" in line for line in said)
            kept = len(list(disk.rglob("*.parquet")))
            run("mount", "-o", "remount,size=64m", str(disk))
            return command.rerun(disk) + wrong + (kept == 0)

    def read_only_cache(self, folder, rng) -> int:
        """A model that is there is loaded; one that is not is a matter of one line."""
        whole = models.embedded_folder()
        with mounted(folder, "size=1g") as disk:
            (disk / "models").mkdir()
            shutil.copytree(whole, disk / "models" / whole.name)
            (out := self.folder / f"read-only-{rng.integers(10**9)}").mkdir()
            (out / "models").mkdir()
            run("mount", "-o", "remount,ro", str(disk))
            reading = Command(
                "geolib models", lambda _: ["models", "--fetch"], None, None, lambda _: {"GEOLIB_CACHE": str(disk)}
            )
            wrong = reading.finish(out) != 0
            run("mount", "-o", "remount,rw", str(disk))
            (disk / "models" / whole.name / "config.json").write_text("{}")
            run("mount", "-o", "remount,ro", str(disk))
            (out / "log.txt").unlink()
            wrong += reading.finish(out) != 1
            return wrong + ("Traceback" in (out / "log.txt").read_text())

    # Others at the same time

    def two_at_once(self, folder, rng) -> int:
        """Both finish, with all rows; nothing is computed twice."""
        self.sweep.undisturbed()
        first = self.sweep.start(folder)
        time.sleep(rng.uniform(0, self.sweep.seconds))
        second = self.sweep.start(folder)
        for process in (first, second):
            process.join(LONGEST)
        keys = [key for path in (folder / "batches").glob("*.parquet") for key in read_parquet(path).key]
        return self.sweep.lost(folder) + len(keys) - len(set(keys)) + abs(first.exitcode) + abs(second.exitcode)

    def clock(self, folder, rng) -> int:
        """Killed, and taken up again by a process whose clock runs backwards, an hour a second."""
        command = (self.sweep, self.dimension)[rng.integers(2)]
        command.killed(folder, rng)
        future = time.time() + 1e6
        for path in folder.rglob("*"):
            os.utime(path, (future, future))
        victim = sorted(path for path in folder.rglob("*.parquet") if path.parent != folder)[0]
        victim.unlink()
        return command.rerun(folder, patched=True)

    def download_cut(self, folder, rng) -> int:
        """Every connection breaks after a random number of bytes, until all have come."""
        content = rng.bytes(200_000)
        with serving(content, rng) as address:
            digest = hashlib.sha256(content).hexdigest()
            path = models.fetch(f"{address}/file", digest, folder / "file", downloader=models._download)
            return int(path.read_bytes() != content) + len(list(folder.iterdir())) - 1

    def endpoint(self, folder, rng) -> int:
        """Each response meets one of the faults first; the same call again asks for what has no verdict yet."""
        from endpoint_server import HTML, fails, good, hang, hang_up, sends, serving

        from geolib.experiments.endpoint_judge import EndpointJudge, NoVerdictError

        faults = [fails(429), fails(500), sends(HTML, "text/html"), sends(""), hang, hang_up]
        responses = [str(i) for i in range(40)]
        with self.alone, serving() as server:
            server.script = {one: [faults[rng.integers(len(faults))], good] for one in responses}
            os.environ |= server.environment
            judge = EndpointJudge("a-model", store=folder, max_retries=0, timeout=1)
            for _ in range(6):
                with contextlib.suppress(NoVerdictError):
                    verdicts = judge(responses, [7] * 40)
                    break
            asked = [one["response"] for one in server.asked]
        lost = sum(not (verdict.correct and verdict.kind == "extraction") for verdict in verdicts)
        return lost + sum(asked.count(one) != 2 for one in responses)

    # A cluster

    def _cluster(self, folder, address, meanwhile, **settings):
        """Run a sweep on a cluster; ``meanwhile`` is called with the engine as soon as there is a first batch."""
        from geolib.experiments.cluster import Cluster
        from geolib.models import load
        from geolib.reasoning import Sweep, exploration_split, load_questions

        asked, shown = exploration_split(load_questions(self.folder / "q.jsonl"), 24, n_examples=2)
        settings = {"shots": (0, 1, 2), "max_new_tokens": 100, "batch_size": 2, "progress": False} | settings
        loaded = load(str(self.folder / "tiny"), device="cpu")
        sweep = {"model": loaded[0], "tokenizer": loaded[1], "questions": asked, "examples": shown} | settings
        with Cluster(str(self.folder / "tiny"), workers=2, address=address) as engine:
            engine.room()
            thread = threading.Thread(target=after_first_batch, args=(folder / "store", meanwhile, engine))
            thread.start()
            rows = Sweep(**sweep, engine=engine, store=folder / "store").run()
            thread.join()
        alone = Sweep(**sweep).run()
        drop = "seconds"
        return difference(rows.drop(columns=drop), alone.drop(columns=drop))

    def worker_killed(self, folder, rng) -> int:
        """By SIGKILL, as the kernel does when memory runs out."""
        return self._cluster(folder, None, lambda engine: workers(engine)[rng.integers(2)].kill())

    def worker_out_of_memory(self, folder, rng) -> int:
        """It is set aside after three tries, and all others are answered."""
        from functools import partial

        from faulty import FAULTS, load_faulty

        from geolib.experiments.cluster import Cluster
        from geolib.models import load
        from geolib.reasoning import Question, Sweep, load_questions

        asked = load_questions(self.folder / "q.jsonl")[:10]
        mark = next(mark for mark, fault in FAULTS.items() if fault.__name__ == "killed")
        model, tokenizer = load(str(self.folder / "tiny"), device="cpu")
        settings = {"model": model, "tokenizer": tokenizer, "shots": (0,), "max_new_tokens": 8, "progress": False}
        with Cluster(partial(load_faulty, str(self.folder / "tiny")), workers=2) as engine:
            rows = Sweep(
                questions=[*asked, Question(f"{mark}?", 1.0, 99)], engine=engine, batch_size=4, **settings
            ).run()
        alone = Sweep(questions=asked, batch_size=4, **settings).run()
        columns = ["question", "response", "correct", "kind"]
        return difference(rows[columns], alone[columns]) + abs(len(rows.attrs["failed"]) - 1)

    def node_lost(self, folder, rng) -> int:
        """One of two nodes goes for good: the other does the rest."""
        with Node("--head", cpus=1) as head, Node(f"--address={head.address}", cpus=1) as other:
            return self._cluster(folder, head.address, lambda _: other.kill())

    def head_restarted(self, folder, rng) -> int:
        """The only node goes, with all that it knew, and comes back at the same address."""
        with Node("--head", cpus=2) as head:

            def restart(_):
                head.kill()
                time.sleep(rng.uniform(0, 5))
                head.start()

            return self._cluster(folder, head.address, restart)


class Node:
    """A node of a cluster: ``ray start``, and all that it starts."""

    def __init__(self, role, *, cpus):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        ray = str(Path(sys.executable).with_name("ray"))
        self.command = [ray, "start", role, f"--num-cpus={cpus}", "--block", "--disable-usage-stats"]
        if role == "--head":
            self.command += [f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]

    def start(self):
        null = subprocess.DEVNULL
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex())  # which nodes and workers share
        self.process = subprocess.Popen(self.command, stdin=null, stdout=null, stderr=null)
        if "--head" in self.command:
            self._until_it_answers()

    def _until_it_answers(self):
        host, port = self.address.split(":")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection((host, port), timeout=1).close()
                return
            time.sleep(0.1)
        raise AssertionError(f"no head of a cluster came up at {self.address}")

    def kill(self):
        """All of it, at once."""
        import psutil

        with contextlib.suppress(psutil.Error):
            for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        self.process.wait()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()


class Book(Command):
    """The build, which is a script; what it started is not killed with it, and goes on."""

    def start(self, folder, *, patched=False):
        with (folder / "log.txt").open("a") as log:
            command = [sys.executable, *self.make(folder)]
            return Script(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))


class Script:
    """A child that looks like a process of multiprocessing."""

    def __init__(self, process):
        self._process = process

    @property
    def exitcode(self):
        return self._process.poll()

    def join(self, timeout=None):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    def kill(self):
        self._process.kill()


def damage(paths, rng, *, swap=True) -> list[Path]:
    """Cut one of the files short, flip one of its bits, or swap it with another; those that are now others."""
    first, second = (paths[i] for i in rng.choice(len(paths), size=2, replace=False))
    raw, kind = bytearray(first.read_bytes()), rng.integers(3 if swap else 2)
    if kind == 2 and raw != second.read_bytes():
        first.write_bytes(second.read_bytes())
        second.write_bytes(raw)
        return [first, second]
    place = int(rng.integers(len(raw)))
    raw[place] ^= 1 << int(rng.integers(8))
    first.write_bytes(raw[:place] if kind == 0 else raw)
    return [first]


def run(*command):
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or error
        raise NotPermittedError(f"{command[0]}: {str(said).strip()}") from None


@contextlib.contextmanager
def mounted(folder, options):
    """A small file system of memory; needs the right to mount one."""
    (disk := folder / "disk").mkdir()
    run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk))
    try:
        yield disk
    finally:
        run("umount", "-l", str(disk))


@contextlib.contextmanager
def serving(content, rng):
    """A server that breaks off each answer after a random number of bytes."""
    from huggingface_hub import constants, file_download

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            rest = content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: int(rng.integers(1000, 90_000))])

        def log_message(self, *_):
            pass

    logging.getLogger("huggingface_hub.file_download").setLevel(logging.ERROR)
    # What is kept of a broken connection are whole chunks; and nobody need wait a second each time.
    kept, constants.DOWNLOAD_CHUNK_SIZE = constants.DOWNLOAD_CHUNK_SIZE, 1000
    sleep, file_download.time = file_download.time, type("Clock", (), {"sleep": staticmethod(lambda _: None)})
    try:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
    finally:
        constants.DOWNLOAD_CHUNK_SIZE, file_download.time = kept, sleep


def workers(engine):
    """Processes of a cluster's workers, where it runs on this machine for this sweep alone."""
    import psutil

    children = psutil.Process(engine._broker.pid).children(recursive=True)
    return [child for child in children if "ray::_Worker" in " ".join(child.cmdline())]


def after_first_batch(store, what, engine):
    deadline = time.monotonic() + LONGEST
    while not list(store.glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    what(engine)


@dataclass
class Outcome:
    """What came of a fault."""

    fault: str
    tries: int = 0
    survived: int = 0
    lost: int = 0
    seconds: float = 0.0
    note: str = ""


def attempt(suite: Suite, name: str, number: int, seed: int) -> tuple[int | None, str]:
    """Try a fault once: how much was lost, and what went wrong; None where it is not permitted here."""
    function = suite.faults[name][1]
    rng = np.random.default_rng([seed, number, *name.encode()])
    folder = Path(tempfile.mkdtemp(dir=suite.folder))
    try:
        return function(folder, rng), ""
    except NotPermittedError as error:
        return None, str(error)
    except Exception as error:  # whatever it is, it was not survived
        return 1, f"try {number}: {type(error).__name__}: {error}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments=None) -> int:
    """Run the suite; print the table; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description="Bring about faults, and look at what is left.")
    parser.add_argument("--only", default="", help="faults whose names hold this")
    parser.add_argument("--tries", type=int, help="how often each, in place of its own number")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a JSON file for the table")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(options.jobs) as pool:
        suite = Suite(Path(name))
        chosen = [fault for fault in suite.faults if options.only in fault]
        jobs = {
            fault: [
                pool.submit(timed, attempt, suite, fault, number, options.seed)
                for number in range(options.tries or suite.faults[fault][0])
            ]
            for fault in sorted(chosen, key=lambda fault: "cluster" not in fault)  # the longest first
        }
        outcomes = []
        for fault in chosen:
            outcome = Outcome(fault)
            for seconds, (lost, note) in (job.result() for job in jobs[fault]):
                outcome.seconds += seconds
                outcome.note = outcome.note or note
                if lost is not None:
                    outcome.tries += 1
                    outcome.survived += not lost
                    outcome.lost += lost
            outcomes.append(outcome)
            print(f"{fault}: {outcome.survived} of {outcome.tries}{outcome.note and f' ({outcome.note})'}", flush=True)
    table = pd.DataFrame([vars(outcome) for outcome in outcomes]).round(1)
    minutes = (time.monotonic() - started) / 60
    print(f"\n{table.drop(columns='note').to_string(index=False)}\n\n{minutes:.1f} minutes")
    if options.out:
        report = {"seed": options.seed, "minutes": round(minutes, 1), "faults": table.to_dict("records")}
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    return int(table.lost.sum() > 0)


def timed(function, *arguments):
    """Call a function: how long it took, and what it returned."""
    start = time.monotonic()
    result = function(*arguments)
    return time.monotonic() - start, result


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(ROOT / "tests")}
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"  # what was killed has left something: that is the point
    import torch
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()

    torch.set_num_threads(1)
    sys.exit(main())
