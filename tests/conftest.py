"""Fixtures shared by all tests: the embedded model, loaded once, and the questions."""

import os
import pydoc
import signal
import subprocess
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from geolib import models
from geolib.models import EMBEDDED
from tools import check

# The same cases each time, so that a failure is that of a change; `make test DRAW=anew`, each night, draws others.
settings.register_profile("same", derandomize=True)
settings.register_profile("anew", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("GEOLIB_DRAW") or "same")

# Tests that a shell runs in the background have SIGINT ignored; some of them are about Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


WHOLE = {"embedded", "model", "tokenizer", "browser", "has_browser"}


def pytest_collection_modifyitems(items):
    """Mark as ``unit`` what needs no embedded model, no browser and no process, unless it is marked ``whole``."""
    for item in items:
        examples = getattr(getattr(item, "dtest", None), "examples", ())
        loads = any("load()" in example.source for example in examples)
        if not loads and not WHOLE & set(getattr(item, "fixturenames", ())) and not item.get_closest_marker("whole"):
            item.add_marker("unit")


@pytest.fixture(autouse=True)
def _no_process(request, monkeypatch):
    """Under `make unit`, let no test start another Python or git, or read the embedded model: those are ``whole``."""
    if request.config.option.markexpr == "unit":
        is_whole = models._is_whole

        def unless_embedded(folder):
            if folder.name.startswith(EMBEDDED) and folder.exists():
                pytest.fail("a unit test asks for the embedded model: mark it `whole`")
            return is_whole(folder)

        monkeypatch.setattr(models, "_is_whole", unless_embedded)
        start = subprocess.Popen.__init__

        def refuse(self, command, *arguments, **options):
            program = Path(command if isinstance(command, str) else command[0]).name
            if program.startswith("python") or program == "git":
                self.returncode = -1
                pytest.fail(f"a unit test started a process, {command!r}: mark it `whole`")
            start(self, command, *arguments, **options)  # libraries ask the system what it is

        monkeypatch.setattr(subprocess.Popen, "__init__", refuse)


@pytest.fixture
def has_browser():
    """Skip where there is no browser; CI must have one."""
    if check.find_browser() is None and not os.environ.get("CI"):
        pytest.skip(check.NO_BROWSER)


@pytest.fixture
def browser(has_browser):
    """Start the browser that looks at pages."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = check.launch(playwright)
        yield started
        started.close()


@pytest.fixture(scope="session", autouse=True)
def _one_model():
    """Load the embedded model once: whoever asks for it on this CPU gets the same, which nothing may change."""
    load = models.load

    @cache
    def loaded(_folder):
        return load(device="cpu")

    class Shared:
        def __call__(self, name=EMBEDDED, *, device=None, **settings):
            here = name == EMBEDDED and device in (None, "cpu") and not any(settings.values())
            return loaded(models.cache_dir()) if here else load(name, device=device, **settings)

        def __reduce__(self):  # another process, a cluster's worker, loads for itself
            return pydoc.locate, ("geolib.models.load",)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", Shared())
        yield


@pytest.fixture(scope="session")
def embedded(_one_model):
    return models.load(device="cpu")


@pytest.fixture
def model(embedded):
    return embedded[0]


@pytest.fixture
def tokenizer(embedded):
    return embedded[1]
