"""Operate many runs: the book's own, choices of examples, clusters, judges behind an endpoint, a page about a model.

What the chapters teach with does not need it, and nothing in the other parts imports it.
"""

from geolib.later import later

_NAMES = {
    ".choosing": "rises",
    ".cluster": "Cluster",
    ".endpoint_judge": "EndpointJudge",
    ".runs": "Part Runs publish",
}
__getattr__, __dir__, __all__ = later(__name__, _NAMES)
