"""The regions of a network in a plane: exact polygons, layer by layer.

On every region of its first k layers, layer k + 1 is affine, so each of its neurons cuts those regions along lines.
Cutting a square by all neurons in turn gives the partition.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geolib.partition.checks import finite_array, one_line
from geolib.partition.mesh import Mesh
from geolib.partition.network import ReluNetwork, gain, map_of

# Rounding errors that we allow for, relative to the numbers that are added up: 512 times the unit of float64. Well
# above what sums of a few hundred terms lose, and far below the distances between lines of a network in general
# position (a million vertices leave gaps of some 1e-9).
ROUNDING = 512 * np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False, repr=False)
class PlanePartition:
    """The regions of a network in a rectangular window of a plane, made by `plane_partition`.

    A region is a maximal open set with one pattern of active neurons; it is convex. Point (u, v) of the plane is the
    input origin + u axes[0] + v axes[1].

    Attributes
    ----------
    network : ReluNetwork
        The network.
    window : array, shape=[2, 2]
        ((u0, u1), (v0, v1)), in plane coordinates.
    origin : array, shape=[input_dim]
        The plane's origin.
    axes : array, shape=[2, input_dim]
        The plane's axes.
    active : tuple of bool arrays
        One per hidden layer, shape=[n_regions, width_k]: which neurons are active on each region, laid out like
        `network.pattern` of one point per region.
    snapped : int
        How many values (of a neuron, at a vertex) were so small that they could be rounding errors and were taken
        for 0, without being 0. If it is 0, no decision was in doubt.
    """

    network: ReluNetwork
    window: np.ndarray
    origin: np.ndarray
    axes: np.ndarray
    active: tuple
    snapped: int
    _mesh: Mesh

    def __repr__(self):
        return f"PlanePartition(n_regions={self.n_regions}, snapped={self.snapped})"

    @property
    def n_regions(self):
        """Number of regions: open sets of the window, one for each pattern that occurs."""
        return self._mesh.n_faces

    @cached_property
    def n_pieces(self):
        """Number of affine pieces: maximal connected sets on which the output is one affine map of (u, v).

        Regions that share an edge and have equal maps belong to one piece; to touch in a point is not enough. The
        map is taken through the readout, and up to rounding.
        """
        sides = self._mesh.adjacent_faces()
        equal = np.zeros(len(sides), dtype=bool)
        block = 1024  # bounds the memory for the maps
        for start in range(0, len(sides), block):
            left, right = sides[start : start + block].T
            maps, noise = self._output_maps(np.concatenate([left, right]))
            gap = np.abs(maps[:, : len(left)] - maps[:, len(left) :])
            equal[start : start + block] = (gap <= 2 * noise).all(axis=(0, 2))
        return _n_components(self.n_regions, sides[equal].tolist())

    @cached_property
    def patterns(self):
        """Activation pattern of each region: a list of tuples, laid out like `network.pattern` of one point."""
        return list(zip(*self.active, strict=True))

    @cached_property
    def polygons(self):
        """Corners of each region, counter-clockwise: a list of arrays, shape=[k, 2], in plane coordinates (u, v)."""
        low, high = self.window.T
        points = (low * (1 - self._mesh.points) + high * (1 + self._mesh.points)) / 2
        return np.split(points[self._mesh.corner], self._mesh.starts()[1:])

    @cached_property
    def areas(self):
        """Area of each region in plane coordinates, shape=[n_regions]; they sum to the window's."""
        half = np.diff(self.window)[:, 0] / 2
        return self._mesh.areas() * half.prod()

    def affine_map(self, i):
        """Affine map of region i: f(x) = A x + b for each input x in it.

        Parameters
        ----------
        i : int
            Index of a region, as in `polygons` and `patterns`.

        Returns
        -------
        A : array, shape=[n_outputs, input_dim]
        b : array, shape=[n_outputs]
            As `network.affine_map` gives them for a point inside.
        """
        return map_of(self.network, self.patterns[i])

    def _output_maps(self, regions):
        """Compose the maps from the unit square to the output on n regions, shape=[3, n, n_outputs]; their noise."""
        maps, noise = _inputs(self.window, self.origin, self.axes)
        network = self.network
        for W, b, active in zip(network.weights, network.biases, self.active, strict=True):
            maps, noise = _affine(W, b, maps, noise)
            maps = gain(network, active[regions]) * maps
        return (maps, noise) if network.readout is None else _affine(*network.readout, maps, noise)


def plane_partition(network, window, *, origin=None, axes=None):
    """Cut a rectangular window of a plane into the regions of a network.

    The polygons are exact up to rounding in float64, for any depth and width. Input in special position (zero
    biases, equal or opposite neurons, many lines through one point, lines through a corner or along an edge of the
    window) is cut as it is, not perturbed: a value that cannot be told from 0 is 0.

    Parameters
    ----------
    network : ReluNetwork
        The network.
    window : pair of pairs
        ((u0, u1), (v0, v1)) with u0 < u1 and v0 < v1, in plane coordinates.
    origin : array-like, shape=[input_dim], optional
        Where the plane's (0, 0) lies in the input space; its origin by default.
    axes : array-like, shape=[2, input_dim], optional
        Two directions that span the plane, of any length and angle. By default the two axes of a 2-D input.

    Returns
    -------
    PlanePartition
        Polygons, patterns, areas and counts.

    Raises
    ------
    TypeError
        If `network` is not a ReluNetwork, or something is not an array of real numbers.
    ValueError
        If the window has no area, the axes are parallel, a shape or a number is wrong, or axes are missing.

    Notes
    -----
    Values are compared with the rounding error of their computation: 512 units of float64 relative to the terms of
    each sum, carried through the layers as independent errors, plus what it moves the vertex. Lines that pass
    closer to a vertex than that pass through it.

    Time and memory grow with the number of regions times the widest layer.

    References
    ----------
    R. Cosentino and S. Shekkizhar, arXiv 2407.02678, eq. 1 and figure 1: the partition of a one-hidden-layer MLP.
    A. Berzins, arXiv 2306.07212: cutting edges neuron by neuron.

    Examples
    --------
    Three lines in general position, and the same three through the origin:

    >>> normals = [[1, 0], [0, 1], [1, 1]]
    >>> plane_partition(ReluNetwork([normals], [[0, 0, 1]]), ((-9, 9), (-9, 9)))
    PlanePartition(n_regions=7, snapped=0)
    >>> plane_partition(ReluNetwork([normals], [[0, 0, 0]]), ((-9, 9), (-9, 9)))
    PlanePartition(n_regions=6, snapped=0)

    relu(x) - relu(-x) is x: two regions, one piece.

    >>> identity = ReluNetwork([[[1, 0], [-1, 0]]], [[0, 0]], readout=([[1, -1]], [0]))
    >>> partition = plane_partition(identity, ((-1, 1), (0, 1)))
    >>> partition.n_regions, partition.n_pieces
    (2, 1)
    >>> partition.areas
    array([1., 1.])
    """
    if not isinstance(network, ReluNetwork):
        raise TypeError(f"plane_partition: network is {type(network).__name__}, expected a ReluNetwork")
    window = _check_window(window)
    origin, axes = _check_plane(network.input_dim, origin, axes)
    mesh, patterns = Mesh(), []
    maps, noise = _inputs(window, origin, axes)
    for W, b in zip(network.weights, network.biases, strict=True):
        if patterns:  # through the activation of the layer before, on the faces that it made
            maps = gain(network, patterns[-1]) * maps[:, mesh.cell]
        mesh.restart()
        maps, noise = _affine(W, b, maps, noise)
        active = _cut_by_layer(mesh, maps, noise)
        patterns = [earlier[mesh.cell] for earlier in patterns] + [active]
    return PlanePartition(network, window, origin, axes, tuple(patterns), mesh.snapped, mesh)


def _cut_by_layer(mesh, maps, noise):
    """Cut by each neuron of a layer in turn; which are active on each face, shape=[n_faces, width]."""
    active = np.zeros((mesh.n_faces, len(noise)), dtype=bool)
    for i, function in enumerate(np.moveaxis(maps, 2, 0).copy()):  # a neuron's numbers side by side
        positive, parents = mesh.cut(function, noise[i])
        active = np.concatenate([active, active[parents]])
        active[:, i] = positive
    return active


def _inputs(window, origin, axes):
    """Write inputs as an affine map of the unit square [-1, 1]^2, shape=[3, 1, input_dim]; and their noise.

    A map's first axis holds two slopes and an offset. In these coordinates the window's extent is 1, so slopes and
    offsets compare; their absolute values add up to the largest value in the window.
    """
    middle, half = window.mean(axis=1), np.diff(window)[:, 0] / 2
    maps = np.stack([half[0] * axes[0], half[1] * axes[1], origin + middle @ axes])
    # Not of the offset itself: a window far from the origin has lost digits to cancellation.
    noise = ROUNDING * (np.abs(origin) + np.abs(window).max(axis=1) @ np.abs(axes))
    return maps[:, None], noise


def _affine(W, b, maps, noise):
    """Apply W and b to maps, shape=[3, n, fan_in], and to the noise, shape=[fan_in], of their values."""
    size = np.abs(maps).sum(axis=0).max(axis=0)
    # Rounding errors of different terms are independent, so their squares add up; absolute values would grow by
    # sqrt(width) a layer and drown a deep network. hypot squares without overflow.
    terms = np.concatenate([W * (noise + ROUNDING * size), ROUNDING * b[:, None]], axis=1)
    maps = maps @ W.T
    maps[2] += b
    return maps, np.hypot.reduce(terms, axis=1)


def _n_components(n, pairs):
    """Count the connected components of a graph on range(n), by union-find."""
    parent = list(range(n))

    def root(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in pairs:
        i, j = root(i), root(j)
        if i != j:
            parent[i] = j
            n -= 1
    return n


def _check_window(window):
    given, window = window, finite_array("plane_partition: window", window)
    if window.shape != (2, 2) or not (window[:, 0] < window[:, 1]).all():
        raise ValueError(
            f"plane_partition: window is {one_line(given)}, expected ((u0, u1), (v0, v1)) with u0 < u1 and v0 < v1"
        )
    return window


def _check_plane(dim, origin, axes):
    if axes is None:
        if dim != 2:
            raise ValueError(f"plane_partition: axes is missing, and the network's input has dimension {dim}, not 2")
        axes = np.eye(2)
    axes = finite_array("plane_partition: axes", axes)
    if axes.shape != (2, dim):
        raise ValueError(f"plane_partition: axes has shape {axes.shape}, expected {(2, dim)} for this network")
    origin = finite_array("plane_partition: origin", np.zeros(dim) if origin is None else origin)
    if origin.shape != (dim,):
        raise ValueError(
            f"plane_partition: origin has shape {origin.shape}, but the network's input has dimension {dim}"
        )
    lengths = np.abs(axes).max(axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(f"plane_partition: axes[{int(np.argmin(lengths))}] is zero, expected a direction")
    if np.linalg.matrix_rank(axes / lengths, tol=ROUNDING) < 2:
        raise ValueError("plane_partition: axes[0] and axes[1] are parallel, expected them to span a plane")
    return origin, axes
