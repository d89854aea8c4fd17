"""Part I: an MLP as a continuous piecewise affine map, and the regions it cuts its input into.

- `ReluNetwork`: a fully connected ReLU or leaky ReLU network, and its affine map at a point;
- `plane_partition`: the exact polygons of a two-dimensional slice;
- `max_regions`: how many regions hyperplanes can cut a space into.

NumPy only. Torch networks enter through `ReluNetwork.from_torch`.
"""

from geolib.partition.count import max_regions
from geolib.partition.network import ReluNetwork
from geolib.partition.plane import PlanePartition, plane_partition

__all__ = ["PlanePartition", "ReluNetwork", "max_regions", "plane_partition"]
