"""Part I: a ReLU MLP as a continuous piecewise affine map, and the regions it cuts its input into.

- `ReluNetwork`: a fully connected ReLU or leaky ReLU network, and its affine map at a point;
- `line_partition`: all breakpoints along a segment;
- `effective_regions`: how many regions a set meets, estimated from random points of the set;
- `plane_partition`: the exact polygons of a two-dimensional slice;
- `count_arrangement`, `count_in_ball`: the regions of hyperplanes in R^d, and in a ball;
- `expected_regions`: the expected number of regions of a random layer in a ball;
- `count_in_cube`: the regions of a network of any depth in a cube of few dimensions;
- `max_regions`, `region_bound`: the largest number of regions of hyperplanes, and of a network with given widths.

NumPy only. Torch networks enter through `ReluNetwork.from_torch`.
"""

from geolib.later import later
from geolib.partition.count import (
    count_arrangement,
    count_in_ball,
    effective_regions,
    expected_regions,
    max_regions,
    region_bound,
)
from geolib.partition.cube import count_in_cube
from geolib.partition.line import LinePartition, line_partition
from geolib.partition.network import ReluNetwork
from geolib.partition.plane import PlanePartition, plane_partition

__all__ = [
    "LinePartition",
    "PlanePartition",
    "ReluNetwork",
    "count_arrangement",
    "count_in_ball",
    "count_in_cube",
    "effective_regions",
    "expected_regions",
    "line_partition",
    "max_regions",
    "plane_partition",
    "region_bound",
]

# Where they are now: models need torch.
__getattr__ = later(__name__, {"geolib.dimension": "GateRegions gate_hyperplanes gate_names gate_regions"})[0]
