"""Fixtures shared by all tests: the embedded model, loaded once, and the questions."""

import signal

import pytest

# Tests that a shell runs in the background have SIGINT ignored; some of them are about Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def embedded():
    from geolib.models import load

    return load(device="cpu")


@pytest.fixture
def model(embedded):
    return embedded[0]


@pytest.fixture
def tokenizer(embedded):
    return embedded[1]
