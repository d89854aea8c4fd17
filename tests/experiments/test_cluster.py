"""The cluster engine, on a real cluster of this machine: the rows of the local engine, whatever dies."""

import contextlib
import logging
import time
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from faults import Node
from faulty import FAULTS, load_faulty
from tiny_folder import save_tiny

from geolib.experiments.cluster import Cluster, ClusterError
from geolib.models import load
from geolib.reasoning import Question, Sweep

pytestmark = pytest.mark.whole

QUESTIONS = [Question(f"Ann has {n} pens and {n + 2} cups. Pens?", float(n), n) for n in range(20)]
EXAMPLES = [Question(f"Tom has {n} pens. Pens?", float(n), n) for n in range(2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tiny(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_machine():
    """Workers import what the tests do; no cluster but the tests' own; as many threads here as there."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        patch.delenv("RAY_ADDRESS", raising=False)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def loaded(folder):
    return load(folder, device="cpu")


@pytest.fixture(scope="module")
def address(one_machine):
    """A cluster that is there; those who name no address start one of their own."""
    with Node("--head", cpus=4) as head:
        yield head.address


@pytest.fixture(scope="module")
def cluster(folder, address):
    """Two workers, which fail at questions that hold a mark, and at no others."""
    with Cluster(partial(load_faulty, str(folder)), workers=2, address=address) as cluster:
        yield cluster
    deadline = time.monotonic() + 30  # the cluster goes on, and ends them when it sees that they are nobody's
    while workers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not workers()


def sweep(loaded, **settings):
    model, tokenizer = loaded
    defaults = {"questions": QUESTIONS, "examples": EXAMPLES, "shots": (0, 1, 2), "max_new_tokens": 8, "batch_size": 4}
    return Sweep(model=model, tokenizer=tokenizer, progress=False, **(defaults | settings)).run()


def assert_same(first, second):
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"), check_exact=True)


def workers():
    """Processes of the actors."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # ended, or a zombie, since the list was made
            found += [one] * ("ray::_Worker" in " ".join(one.cmdline()))
    return found


def test_rows_are_those_of_the_local_engine(cluster, loaded, tmp_path):
    """Also drawn ones, with signs and sharpened attention; what one engine kept, the other reads."""
    more = {"temperature": 1.0, "sharpness": {0: 1.5}, "watched": ["model.layers.1.mlp.gate_proj"]}
    assert_same(sweep(loaded, engine=cluster, store=tmp_path), sweep(loaded))
    assert_same(sweep(loaded, engine=cluster, **more), sweep(loaded, **more))
    kept = sorted(tmp_path.glob("*.parquet"))
    assert_same(sweep(loaded, store=tmp_path), sweep(loaded))
    assert sorted(tmp_path.glob("*.parquet")) == kept


def test_a_worker_that_is_killed_loses_nothing(cluster, loaded, tmp_path, monkeypatch):
    """Twice, at moments when batches are under way."""
    left, submit = [2], cluster.submit

    def killing(settings, batch):
        if left[0] and len(list(tmp_path.glob("*.parquet"))) >= 6 - 3 * left[0]:
            left[0] -= 1
            workers()[0].kill()
        return submit(settings, batch)

    monkeypatch.setattr(cluster, "submit", killing)
    assert_same(sweep(loaded, engine=cluster, store=tmp_path), sweep(loaded))
    assert left == [0]


def test_another_model_is_refused(cluster, tmp_path):
    with pytest.raises(ValueError, match="other weights"):
        sweep(save_tiny(tmp_path / "other", seed=1), engine=cluster)


def test_questions_that_always_fail_are_set_aside(cluster, loaded, tmp_path, caplog):
    """Also one that takes its worker with it; all others are answered as ever."""
    poisoned = [Question(f"Ann has {mark} pens. Pens?", 1.0, 90 + i) for i, mark in enumerate(FAULTS)]
    settings = {"questions": [*QUESTIONS, *poisoned], "shots": (0,), "store": tmp_path}
    with caplog.at_level(logging.WARNING):
        rows = sweep(loaded, engine=cluster, **settings)
    errors = {failed["question"]: failed["error"] for failed in rows.attrs["failed"]}
    assert errors == {
        90: "FloatingPointError: poisoned",
        91: "ClusterError: a worker was lost at its work (ActorUnavailableError)",
    }
    assert "2 prompts failed repeatedly and are left out" in caplog.text
    # The batch that one was in is answered one by one.
    alone = sweep(loaded, shots=(0,))
    assert rows.question.tolist() == alone.question.tolist()
    assert rows.response.tolist() == alone.response.tolist()


def test_a_model_that_is_not_there(tmp_path, address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with Cluster(str(tmp_path / "none"), workers=1) as cluster, pytest.raises(ClusterError, match="none"):
        cluster.room()


def test_more_cores_than_there_are(folder, address):
    message, settings = "no worker has started in 3 s", {"threads": 10_000, "patience": 3, "address": address}
    with Cluster(str(folder), **settings) as cluster, pytest.raises(ClusterError, match=message):
        cluster.room()


def test_no_cluster_at_the_address(folder, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    start = time.monotonic()
    with Cluster(str(folder)) as cluster, pytest.raises(ClusterError, match=r"127\.0\.0\.1:1"):
        cluster.room()
    assert time.monotonic() - start < 60


def test_a_cluster_that_does_not_come_back(folder, loaded, tmp_path):
    """The sweep ends with an error, and not before its patience does; what was finished is kept."""
    with Cluster(str(folder), workers=1) as cluster:
        submit, start = cluster.submit, []

        def losing(settings, batch):
            if list(tmp_path.glob("*.parquet")) and not start:
                start.append(time.monotonic())
                cluster.patience = 4
                cluster._options = (*cluster._options[:-1], "127.0.0.1:1")  # where nobody answers
                psutil.Process(cluster._broker.pid).kill()
            return submit(settings, batch)

        cluster.submit = losing
        with pytest.raises(ClusterError, match=r"^Cluster: 127\.0\.0\.1:1: .*refused"):
            sweep(loaded, engine=cluster, store=tmp_path)
        assert time.monotonic() - start[0] > 4
    kept = set(tmp_path.glob("*.parquet"))
    assert kept
    assert_same(sweep(loaded, store=tmp_path), sweep(loaded))
    assert kept < set(tmp_path.glob("*.parquet"))


def test_an_engine_that_is_none(folder, loaded):
    with pytest.raises(TypeError, match=r"^Sweep: engine is 'ray', but a Cluster was expected"):
        sweep(loaded, engine="ray")
    with pytest.raises(ClusterError, match=r"^Cluster: it is not running, but use in a with block was expected"):
        sweep(loaded, engine=Cluster(str(folder)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 3}, TypeError, "model is 3, but a name or a callable"),
        ({"workers": 0}, ValueError, "workers is 0, but at least 1 was expected"),
        ({"threads": 1.5}, TypeError, "threads is 1.5, but an integer was expected"),
        ({"patience": 0}, ValueError, "patience is 0, but a number above 0 was expected"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^Cluster: {message}"):
        Cluster(**arguments)
