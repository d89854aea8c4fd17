"""Fixtures shared by all tests: the embedded model, loaded once, and the questions."""

import pytest


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
