"""Operate many runs: the book's own, choices of examples, clusters, judges behind an endpoint, a page about a model.

The chapters' own computations do not need this package, and no other part imports it.
"""

import importlib
from typing import Any

_LATER = {
    "choosing": "rises",
    "cluster": "Cluster",
    "endpoint_judge": "EndpointJudge",
    "runs": "Part Runs publish",
}
_HOMES = {name: home for home, names in _LATER.items() for name in names.split()}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"geolib.experiments.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'geolib.experiments' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
