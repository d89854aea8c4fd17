"""geolib: measure the geometry of reasoning in language models.

The companion package of *The Geometry of Reasoning*. Its three parts are the book's:

- ``geolib.partition``: a ReLU MLP as a continuous piecewise affine map, and the regions it cuts its input space into;
- ``geolib.dimension``: the intrinsic dimension of the MLP's input, which self-attention determines;
- ``geolib.reasoning``: the GSM8K-Zero experiments.

``geolib.experiments`` operates many runs, ``geolib.models`` loads models, ``geolib.toy`` trains small ones,
``geolib.video`` trains small models of balls that obey the laws of ``geolib.physics``, ``geolib.figures`` and
``geolib.interactive`` draw. ``geolib.typing`` has the protocols of the annotations.
Subpackages are imported on first use, so that ``import geolib`` is fast.
"""

import importlib
from typing import Any

__version__ = "0.2.0"

_SUBMODULES = (
    *("cli", "dimension", "estimates", "experiments", "figures", "interactive"),
    *("models", "partition", "physics", "reasoning", "statements", "toy", "video"),
)
__all__ = ["__version__", *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"geolib.{name}")
    raise AttributeError(f"module 'geolib' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
