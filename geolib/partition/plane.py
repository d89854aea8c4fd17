"""The regions of a network in a plane: exact polygons, layer by layer.

On every region of its first k layers, layer k + 1 is affine, so each of its neurons cuts those regions along lines.
Cutting a square by all neurons in turn gives the partition.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geolib.checks import finite_array, integer, one_line
from geolib.partition.exact import certified, plane_counts
from geolib.partition.mesh import LayerCut, Mesh
from geolib.partition.network import ReluNetwork, gain, map_of
from geolib.partition.rounding import ROUNDING, carry

# Numbers that are worked on at once: faces times neurons.
BLOCK = 1 << 18


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
    """

    network: ReluNetwork
    window: np.ndarray
    origin: np.ndarray
    axes: np.ndarray
    _mesh: Mesh
    _maps: "_Maps"

    def __repr__(self):
        return f"PlanePartition(n_regions={self.n_regions}, snapped={self.snapped})"

    @property
    def n_regions(self):
        """Number of regions: open sets of the window, one for each pattern that occurs."""
        return self._mesh.n_faces

    @property
    def snapped(self):
        """Number of doubtful values (of a neuron, at a vertex): taken for 0, as if rounding errors, without being 0.

        If it is 0, no decision was in doubt.
        """
        return self._mesh.snapped

    @cached_property
    def n_pieces(self):
        """Number of affine pieces: maximal connected sets on which the output is one affine map of (u, v).

        Regions that share an edge and have equal maps belong to one piece; to touch in a point is not enough. The
        map is taken through the readout, and up to rounding.
        """
        sides, maps, noise = self._mesh.adjacent_faces(), self._maps, self._maps.noise
        # Most neighbours differ, and one mixture of the outputs tells so.
        mixture = np.cos(np.arange(len(noise)))
        mixed = [maps.output(np.arange(self.n_regions)[some]) @ mixture for some in maps.blocks(self.n_regions)]
        left, right = np.moveaxis(np.concatenate(mixed, axis=1)[:, sides], 2, 0)
        sides = sides[(np.abs(left - right) <= 2 * noise @ np.abs(mixture)).all(axis=0)]
        equal = np.zeros(len(sides), dtype=bool)
        for some in maps.blocks(len(sides)):
            left, right = np.split(maps.output(sides[some].T.ravel()), 2, axis=1)
            equal[some] = (np.abs(left - right) <= 2 * noise).all(axis=(0, 2))
        return _n_components(self.n_regions, sides[equal].tolist())

    @cached_property
    def active(self):
        """Which neurons are active on each region: a tuple of bool arrays, one per layer, shape=[n_regions, width_k].

        Laid out like `network.pattern` of one point per region.
        """
        active, cells = [], slice(None)
        for cell, signs in reversed(self._maps.layers):
            active.append(signs.dense[cells])
            cells = cell[cells]
        return tuple(reversed(active))

    @cached_property
    def patterns(self):
        """Activation pattern of each region: a list of tuples, laid out like `network.pattern` of one point."""
        return list(zip(*self.active, strict=True))

    @cached_property
    def polygons(self):
        """Corners of each region, counter-clockwise: a list of arrays, shape=[k, 2], in plane coordinates (u, v)."""
        low, high = self.window.T
        corners = self._mesh.corners()
        return np.split((low * (1 - corners) + high * (1 + corners)) / 2, np.cumsum(self._mesh.size)[:-1])

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
        return map_of(self.network, tuple(active[i] for active in self.active))


def plane_partition(network, window, *, origin=None, axes=None, limit=2_000_000, certify=False):
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

    limit : int
        The most regions that may be made.
    certify : bool
        Whether to count regions and pieces again, in rational arithmetic and by another algorithm. For small
        networks: it takes milliseconds for each region, and is refused beyond 2,000 of them.

    Returns
    -------
    PlanePartition
        Polygons, patterns, areas and counts.

    Raises
    ------
    TypeError
        If `network` is not a ReluNetwork, or something is not an array of real numbers or an integer.
    ValueError
        If the window has no area, the axes are parallel, a shape or a number is wrong, axes are missing, or values
        overflow; if there are more regions than `limit`; if `certify` finds other counts, or there are too many
        regions for it.

    Notes
    -----
    Values are compared with the rounding error of their computation: 512 units of float64 relative to the terms of
    each sum, carried through the layers as independent errors, plus what it moves the vertex. Lines that pass
    closer to a vertex than that pass through it.

    `certify` takes floats for the rationals that they are, and so takes nothing for 0 that is not. Where degenerate
    input has been rounded, as the offsets of lines through (0.3, -0.2) are, the rationals are not degenerate any
    more: they have more regions, `certify` raises, and `snapped` > 0 is the reason. Input that float64 holds exactly
    (integers, say) passes, degenerate or not.

    A face is compared only with the lines around it, so the time and the memory for one layer grow with the number of
    regions made: some 450 bytes each, of which the partition keeps 160. In deeper networks each cell also needs its
    own map: the product of two widths in time; while a layer is cut, 24 bytes for each neuron of the one before; and
    one byte for each neuron of all layers but the last to keep. `active` and `patterns` are made when asked for, and
    take one byte for each region and neuron.

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
    mesh, maps = Mesh(integer("plane_partition: limit", limit, 1)), _Maps(network, window, origin, axes)
    for _ in network.widths:
        maps.add_layer(mesh)
    partition = PlanePartition(network, window, origin, axes, mesh, maps)
    if certify:
        certified("plane_partition", partition, lambda most: plane_counts(network, window, origin, axes, most))
    return partition


class _Maps:
    """The affine maps of a network on the faces of its layers, composed when they are needed.

    A map's first axis holds two slopes and an offset, from the square [-1, 1]^2. There the window's extent is 1, so
    slopes and offsets compare; their absolute values add up to the largest value in the window.

    Attributes
    ----------
    layers : list of pairs
        For each layer that has cut: the cell that each face is a part of, and the signs of the neurons there.
    noise : array
        Rounding errors of the values that enter the next layer, or of the output.
    """

    def __init__(self, network, window, origin, axes):
        self.network, self.layers, self._latest = network, [], None
        with np.errstate(over="ignore", invalid="ignore"):  # the first layer's noise will tell
            middle, half = window.mean(axis=1), np.diff(window)[:, 0] / 2
            self._inputs = np.stack([half[0] * axes[0], half[1] * axes[1], origin + middle @ axes])[:, None]
            self._size = np.abs(self._inputs).sum(axis=0).max(axis=0)
            # Not of the offset itself: a window far from the origin has lost digits to cancellation.
            self.noise = ROUNDING * (np.abs(origin) + np.abs(window).max(axis=1) @ np.abs(axes))

    def blocks(self, n):
        """Cut range(n) into slices of so many faces as are worked on at once."""
        step = max(1, BLOCK // max(self.network.widths))
        return [slice(start, min(start + step, n)) for start in range(0, n, step)]

    def add_layer(self, mesh):
        """Let the next layer cut the faces of a mesh, which the layers before have made."""
        depth = len(self.layers)
        W, b = self.network.weights[depth], self.network.biases[depth]
        self._apply_noise(W, b, f"layer {depth}")
        last = depth + 1 == len(self.network.weights)
        kept = None if last else np.empty((3, mesh.n_faces, len(b)))
        size, cut = np.zeros(len(b)), LayerCut(mesh, len(b))
        for cells in self.blocks(mesh.n_faces):
            maps = self.before(depth, np.arange(cells.start, cells.stop))
            positive = cut.cut(cells, maps, self.noise)
            size = np.maximum(size, (gain(self.network, positive) * np.abs(maps).sum(axis=0)).max(axis=0))
            if not last:
                kept[:, cells] = maps
        self.layers.append(cut.finish())
        self._size, self._latest = size, kept
        if last and self.network.readout is not None:
            self._apply_noise(*self.network.readout, "the output")

    def _apply_noise(self, W, b, where):
        """Carry the noise through W and b."""
        with np.errstate(over="ignore", invalid="ignore"):
            self.noise = carry(W, b, self._size, self.noise)
            if not np.isfinite(self.noise / ROUNDING * (W.shape[1] + 1)).all():
                raise ValueError(f"plane_partition: values of {where} overflow float64, expected smaller numbers")

    def before(self, depth, cells):
        """Pre-activations of a layer on some of its cells, shape=[3, n_cells, width]."""
        if depth == len(self.layers) - 1 and self._latest is not None:
            return self._latest[:, cells]
        return _affine(self.network.weights[depth], self.network.biases[depth], self.after(depth - 1, cells))

    def after(self, depth, faces):
        """Activations of a layer on some of its faces, shape=[3, n_faces, width]."""
        if depth < 0:
            return self._inputs
        cell, signs = self.layers[depth]
        cells, inverse = np.unique(cell[faces], return_inverse=True)
        return gain(self.network, signs.dense[faces]) * self.before(depth, cells)[:, inverse]

    def output(self, regions):
        """Output on some regions, shape=[3, n_regions, n_outputs]."""
        maps = self.after(len(self.layers) - 1, regions)
        return maps if self.network.readout is None else _affine(*self.network.readout, maps)


def _affine(W, b, maps):
    """Apply W and b to maps, shape=[3, n, fan_in]."""
    maps = maps @ W.T
    maps[2] += b
    return maps


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
    # Halves, as we use half of its extent: it must neither overflow nor vanish.
    if window.shape != (2, 2) or not (window[:, 0] / 2 < window[:, 1] / 2).all():
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
