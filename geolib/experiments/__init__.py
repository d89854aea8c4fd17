"""Operate many runs: the book's own, choices of examples, clusters, judges behind an endpoint, a page about a model.

What the chapters teach with does not need it, and nothing in the other parts imports it.
"""

import importlib

_LATER = {
    "choosing": "rises",
    "cluster": "Cluster",
    "endpoint_judge": "EndpointJudge",
    "runs": "Part Runs publish",
}
_HOMES = {name: home for home, names in _LATER.items() for name in names.split()}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"geolib.experiments.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'geolib.experiments' has no attribute '{name}'")


def __dir__():
    return __all__
