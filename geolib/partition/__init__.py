"""Part I: an MLP as a continuous piecewise affine map, and the regions it cuts its input into.

- `ReluNetwork`: a fully connected ReLU or leaky ReLU network, and its affine map at a point;
- `line_partition`: all breakpoints along a segment;
- `gate_regions`: regions of a language model's MLP, between tokens and around them; `gate_hyperplanes`: their borders;
  `gate_names`: the modules that make them;
- `effective_regions`: how many regions a set holds, from points drawn from it;
- `plane_partition`: the exact polygons of a two-dimensional slice;
- `count_arrangement`, `count_in_ball`: the regions of hyperplanes in R^d, and in a ball;
- `count_in_cube`: the regions of a network of any depth in a cube of few dimensions;
- `max_regions`, `region_bound`: the most that hyperplanes, and the layers of a network, can make.

NumPy only. Torch networks enter through `ReluNetwork.from_torch`.
"""

from geolib.partition.count import count_arrangement, count_in_ball, max_regions, region_bound
from geolib.partition.cube import count_in_cube
from geolib.partition.gates import GateRegions, effective_regions, gate_hyperplanes, gate_names, gate_regions
from geolib.partition.line import LinePartition, line_partition
from geolib.partition.network import ReluNetwork
from geolib.partition.plane import PlanePartition, plane_partition

__all__ = [
    "GateRegions",
    "LinePartition",
    "PlanePartition",
    "ReluNetwork",
    "count_arrangement",
    "count_in_ball",
    "count_in_cube",
    "effective_regions",
    "gate_hyperplanes",
    "gate_names",
    "gate_regions",
    "line_partition",
    "max_regions",
    "plane_partition",
    "region_bound",
]
