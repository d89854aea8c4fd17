"""Regions of a network in a cube of few dimensions: polytopes that are cut neuron by neuron.

A polytope is known by the values of a layer's neurons at its vertices, and by which facets each vertex lies on. That
is enough to cut it: on the polytope the layer is affine, so a new vertex has values between those of its neighbours.
"""

import numpy as np

from geolib.checks import above_zero, integer
from geolib.partition.network import ReluNetwork, gain
from geolib.partition.rounding import carry

# Values up to this, relative to the terms they are the sum of, cannot be told from 0: far above what rounding does in
# general position, and far below the values at a million vertices.
DOUBT = 1e-11
_MAX_DIM = 12  # a cube has 2^dim corners


def count_in_cube(network, radius, *, limit=2_000_000) -> int:
    """Regions of a network of any depth in the cube [-radius, radius]^input_dim.

    Meant for the restriction of a network to a slice of a few dimensions. The network must be in general position:
    a neuron must not be 0 at a corner of the cube, nor where as many others are as there are dimensions.

    Parameters
    ----------
    network : ReluNetwork
        The network, with an input of at most 12 dimensions.
    radius : float
        Half the length of the cube's edges, above 0.
    limit : int
        The most regions that may be counted.

    Returns
    -------
    int
        The number of regions: open sets, one for each pattern that occurs.

    Raises
    ------
    TypeError
        If `network` is not a ReluNetwork, or another argument is not a number.
    ValueError
        If the network is not in general position in the cube, as far as rounding lets tell; if there are more than
        `limit` regions; if the input has too many dimensions or a number is wrong.

    Notes
    -----
    In two dimensions `plane_partition` does more: it is faster, takes any position, and keeps the polygons. Here time
    grows with the regions and with their corners: by some 0.1 ms for each region in up to six dimensions, where they
    are few, and by 10 ms in twelve, where a cube has 4,096 and its parts have more. Memory hardly grows.

    Examples
    --------
    The three coordinate planes, shifted a little, and one plane through the middle:

    >>> network = ReluNetwork([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]], [[0.1, 0.1, 0.1, 0]])
    >>> count_in_cube(network, 1)
    15
    """
    if not isinstance(network, ReluNetwork):
        raise TypeError(f"count_in_cube: network is {type(network).__name__}, expected a ReluNetwork")
    dim = network.input_dim
    if dim > _MAX_DIM:
        raise ValueError(f"count_in_cube: the network's input has dimension {dim}, expected at most {_MAX_DIM}")
    radius = above_zero("count_in_cube: radius", radius)
    limit = integer("count_in_cube: limit", limit, 1)

    above = (np.arange(2**dim)[:, None] >> np.arange(dim) & 1).astype(bool)
    facets = np.concatenate([above, ~above], axis=1)
    waiting = [(0, *_enter(network, 0, np.where(above, radius, -radius), np.zeros(dim)), facets)]
    total, last = 0, len(network.weights) - 1
    while waiting:
        layer, values, noise, facets = waiting.pop()
        cuts = np.flatnonzero((values.min(axis=0) < 0) & (values.max(axis=0) > 0))
        if layer == last and len(cuts) <= 1:
            total += 1 + len(cuts)
            if total > limit:
                raise ValueError(f"count_in_cube: limit is {limit}, but there are more regions; pass a larger limit")
        elif len(cuts):
            if layer == last:  # nothing comes after: the other neurons' values are not needed
                values, noise, cuts = values[:, cuts], noise[cuts], [0]
            waiting += [(layer, half, noise, own) for half, own in _cut(values, noise, facets, cuts[0], dim)]
        else:
            slope = gain(network, values.max(axis=0) > 0)
            waiting.append((layer + 1, *_enter(network, layer + 1, slope * values, slope * noise), facets))
    return total


def _enter(network, layer, hidden, noise):
    """Values of a layer's neurons at the vertices, shape=[n_vertices, width]; up to where they could be 0.

    `noise` is the same of the layer before: what cancels there is lost here, too.
    """
    W, b = network.weights[layer], network.biases[layer]
    with np.errstate(over="ignore", invalid="ignore"):
        values = hidden @ W.T + b
        lost = carry(W, b, noise[None])[0]
    if not (np.abs(values) < 1e300).all():
        raise ValueError("count_in_cube: values overflow, expected a smaller radius or smaller weights")
    noise = DOUBT * (np.abs(hidden).max(axis=0) @ np.abs(W).T + np.abs(b)) + lost
    _refuse_any(np.abs(values) <= noise)
    return values, noise


def _cut(values, noise, facets, neuron, dim):
    """Both sides of a polytope, shape=[n_vertices, width] and shape=[n_vertices, n_facets], that a neuron cuts."""
    value = values[:, neuron]
    sides = np.flatnonzero(value > 0), np.flatnonzero(value < 0)
    up, down = _neighbours(facets, value > 0, dim)
    part = value[up] / (value[up] - value[down])
    new = values[up] + part[:, None] * (values[down] - values[up])
    # Zero at both ends is zero between: the edge lies on a facet that this neuron cut before.
    zero = (values[up] == 0) & (values[down] == 0)
    zero[:, neuron] = True
    new[zero] = 0
    _refuse_any((np.abs(new) <= noise) & ~zero)
    for side in sides:
        own = np.zeros((len(side) + len(new), facets.shape[1] + 1), dtype=bool)
        own[: len(side), :-1] = facets[side]
        own[len(side) :, :-1] = facets[up] & facets[down]
        own[len(side) :, -1] = True
        yield np.concatenate([values[side], new]), own[:, own.any(axis=0)]


def _neighbours(facets, is_up, dim):
    """Pairs of vertices, one up and one down, that an edge joins: of the dim facets of each they share all but one."""
    # An edge is named by the sum of dim - 1 of these numbers: two have the same with a chance of 1e-9 among 100,000.
    numbers = np.random.default_rng(0).integers(0, 2**64, facets.shape[1], np.uint64)
    own = numbers[np.nonzero(facets)[1]].reshape(-1, dim)
    names = (own.sum(axis=1, keepdims=True) - own).ravel()
    order = np.argsort(names)
    one, other = order[:-1] // dim, order[1:] // dim
    joined = (names[order[:-1]] == names[order[1:]]) & (is_up[one] != is_up[other])
    return one[joined], other[joined]


def _refuse_any(doubtful):
    if doubtful.any():
        raise ValueError("count_in_cube: a neuron is 0 at a vertex, up to rounding; expected general position")
