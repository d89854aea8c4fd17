"""Operate many runs: the book's own, choices of examples, clusters, judges behind an endpoint, a page about a model.

The chapters' own computations do not need this package, and no other part imports it.
"""

from geolib.later import later

_NAMES = {
    ".choosing": "rises",
    ".cluster": "Cluster",
    ".endpoint_judge": "EndpointJudge",
    ".runs": "Part Runs publish",
}
__getattr__, __dir__, __all__ = later(__name__, _NAMES)
