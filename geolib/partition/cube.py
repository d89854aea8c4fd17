"""Number of regions of a network in a cube of few dimensions: polytopes are cut neuron by neuron.

A polytope is represented by two tables: the values of a layer's neurons at its vertices, and the facets that each
vertex lies on. This is enough to cut it: on the polytope the layer is affine, so the values at a new vertex are
interpolated between those at the two ends of the edge that is cut.
"""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np

from geolib.checks import above_zero, flag, integer
from geolib.partition.count import exact_array
from geolib.partition.exact import CERTIFIABLE
from geolib.partition.network import ReluNetwork, check_network, gain
from geolib.partition.rounding import carry, refuse_more

# Values up to this, relative to the terms of their sum, are indistinguishable from 0: far above the rounding errors in
# general position, and far below the values at a million vertices.
DOUBT = 1e-11
_LEAST = 4 * np.finfo(np.float64).smallest_subnormal  # what a product may lose, however small it is
_MAX_DIM = 12  # a cube has 2^dim corners


def count_in_cube(network: ReluNetwork, radius: float, *, limit: int = 2_000_000, certify: bool = False) -> int:
    """Count the regions of a network of any depth in the cube [-radius, radius]^input_dim.

    Meant for the restriction of a network to a slice of a few dimensions. The network must be in general position:
    no neuron is 0 at a corner of the cube, and no more neurons than dimensions are 0 at one point.

    Parameters
    ----------
    network : ReluNetwork
        The network, with an input of at most 12 dimensions.
    radius : float
        Half the length of the cube's edges, above 0.
    limit : int
        Largest number of regions that may be counted.
    certify : bool
        Whether to count again in rational arithmetic, in which nothing is rounded, and raise if the counts differ.
        Meant for small networks: it takes some hundred times as long, and is refused above 2,000 regions.

    Returns
    -------
    int
        The number of regions: open sets, one for each pattern that occurs.

    Raises
    ------
    TypeError
        If `network` is not a ReluNetwork, or another argument is not of the type above.
    ValueError
        If the network is not in general position in the cube, up to rounding; if there are more than `limit` regions;
        if the input has too many dimensions or a number is wrong; if `certify` finds another count, or there are too
        many regions for it.

    Notes
    -----
    In two dimensions `plane_partition` is better: it is faster, accepts any position, and keeps the polygons. Time
    grows with the number of regions and with their corners: about 0.1 ms for each region in up to six dimensions, and
    10 ms in twelve, where a cube has 4,096 corners and its parts have more. Memory hardly grows.

    Examples
    --------
    The three coordinate planes, shifted a little, and one plane through the middle:

    >>> network = ReluNetwork([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]], [[0.1, 0.1, 0.1, 0]])
    >>> count_in_cube(network, 1, certify=True)
    15
    """
    check_network("count_in_cube", network)
    dim = network.input_dim
    if dim > _MAX_DIM:
        raise ValueError(f"count_in_cube: network has input dimension {dim}, but at most {_MAX_DIM} was expected")
    radius = above_zero("count_in_cube: radius", radius)
    limit, certify = integer("count_in_cube: limit", limit, 1), flag("count_in_cube: certify", certify)
    total = _count(network, dim, radius, limit)
    if certify:
        if total > CERTIFIABLE:
            given = f"certify is True for {total} regions"
            raise ValueError(f"count_in_cube: {given}, but at most {CERTIFIABLE} were expected")
        layers = [[exact_array("count_in_cube", array) for array in each] for each in (network.weights, network.biases)]
        slope = Fraction(network.negative_slope)
        rational = SimpleNamespace(weights=layers[0], biases=layers[1], negative_slope=slope)
        exact = _count(rational, dim, Fraction(float(radius)), limit)
        if exact != total:
            found = f"certify found {exact} regions in rational arithmetic"
            raise ValueError(f"count_in_cube: {found}, but float64 gives {total}")
    return total


def _count(network, dim, radius, limit):
    """Count regions in the arithmetic of the numbers that are given: floats, or objects that are fractions."""
    if isinstance(radius, np.ndarray) and radius < 1e-290:  # float64 loses digits at such lengths: all are enlarged
        size = int(min(900, *(900 - np.frexp(b)[1].max() for b in network.biases)))
        biases, radius = [np.ldexp(b, size) for b in network.biases], np.ldexp(radius, size)
        network = ReluNetwork(network.weights, biases, negative_slope=network.negative_slope)
    above = (np.arange(2**dim)[:, None] >> np.arange(dim) & 1).astype(bool)
    facets = np.concatenate([above, ~above], axis=1)
    waiting = [(0, *_enter(network, 0, np.where(above, radius, -radius), np.zeros(dim)), facets)]
    total, last = 0, len(network.weights) - 1
    while waiting:
        layer, values, noise, facets = waiting.pop()
        cuts = np.flatnonzero((values.min(axis=0) < 0) & (values.max(axis=0) > 0))
        if layer == last and len(cuts) <= 1:
            total += 1 + len(cuts)
            refuse_more("count_in_cube", limit, total)
        elif len(cuts):
            if layer == last:  # no layer comes after: the values of other neurons are not needed
                values, noise, cuts = values[:, cuts], noise[cuts], np.zeros(1, dtype=int)
            waiting += [(layer, half, noise, own) for half, own in _cut(values, noise, facets, cuts[0], dim)]
        else:
            slope = gain(network, values.max(axis=0) > 0)
            waiting.append((layer + 1, *_enter(network, layer + 1, slope * values, slope * noise), facets))
    return total


def _enter(network, layer, hidden, noise):
    """Values of a layer's neurons at the vertices, shape=[n_vertices, width], and the bound up to which they may be 0.

    `noise` is that bound for the layer before: digits that cancellation lost there are lost here, too.
    """
    W, b = network.weights[layer], network.biases[layer]
    exact = W.dtype == object
    with np.errstate(over="ignore", invalid="ignore"):
        values = hidden @ W.T + b
        lost = 0 if exact else carry(W, b, noise[None])[0]
    if not (np.abs(values) < 1e300).all():
        raise ValueError("count_in_cube: values overflow, but a smaller radius or smaller weights were expected")
    noise = (0 if exact else DOUBT) * (np.abs(hidden).max(axis=0) @ np.abs(W).T + np.abs(b)) + lost
    noise = noise if exact else noise + _LEAST * W.shape[1]
    _refuse_any(np.abs(values) <= noise)
    return values, noise


def _cut(values, noise, facets, neuron, dim):
    """Cut a polytope by a neuron; yield values, shape=[n_vertices, width], and facets of the vertices of both sides."""
    value = values[:, neuron]
    sides = np.flatnonzero(value > 0), np.flatnonzero(value < 0)
    up, down = _neighbours(facets, value > 0, dim)
    part = value[up] / (value[up] - value[down])
    new = values[up] + part[:, None] * (values[down] - values[up])
    # A neuron that is 0 at both ends of the edge has cut before: the edge lies on its facet, where it is exactly 0.
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
    """Pairs of vertices, one up and one down, that an edge joins: they share all but one of the dim facets of each."""
    # Each facet has a random number, and an edge is named by the sum of the numbers of its dim - 1 facets. Among
    # 100,000 edges, two have the same name with a probability of about 1e-9.
    numbers = np.random.default_rng(0).integers(0, 2**64, facets.shape[1], np.uint64)
    own = numbers[np.nonzero(facets)[1]].reshape(-1, dim)
    names = (own.sum(axis=1, keepdims=True) - own).ravel()
    order = np.argsort(names)
    one, other = order[:-1] // dim, order[1:] // dim
    joined = (names[order[:-1]] == names[order[1:]]) & (is_up[one] != is_up[other])
    return one[joined], other[joined]


def _refuse_any(doubtful):
    if doubtful.any():
        raise ValueError("count_in_cube: network has a neuron that is 0 at a vertex, but general position was expected")
