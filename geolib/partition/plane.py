"""The regions of a network in a plane: exact polygons, layer by layer.

On every region of the first k layers, layer k + 1 is affine, so each of its neurons cuts those regions along lines.
Cutting a square by all neurons, layer after layer, gives the partition.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from geolib.checks import finite_array, flag, integer, one_line
from geolib.partition.exact import certified, n_components, plane_counts, plane_doubts
from geolib.partition.mesh import LayerCut, Mesh
from geolib.partition.network import Partition, ReluNetwork, check_network, check_points, gain, output_slopes
from geolib.partition.rounding import ROUNDING, TINY, carry

# Faces times neurons that are processed at a time.
BLOCK = 1 << 18


@dataclass(frozen=True, eq=False, repr=False)
class PlanePartition(Partition):
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

    @property
    def n_regions(self) -> int:
        """Number of regions: open sets of the window, one for each pattern that occurs."""
        return self._mesh.n_faces

    @cached_property
    def snapped(self) -> int:
        """Number of doubtful values (of a neuron at a vertex): within the tolerance, and taken as 0 without a proof.

        They are values that float64 does not compute as 0. Some may be 0 all the same: a second copy of a neuron is 0
        on the whole line of the first, and float64 seldom computes 0 there. `certify` tells whether the count is right.

        If the number is 0, no region is in doubt: all values that float64 computes as 0 have been verified in rational
        arithmetic. (They are not verified when other values are in doubt already; above 50,000 vertices, all of them
        count as in doubt.)
        """
        return self._mesh.snapped or plane_doubts(self)

    @cached_property
    def n_pieces(self) -> int:
        """Number of affine pieces: maximal connected sets on which the output is one affine map of (u, v).

        Regions that share an edge and have equal maps belong to one piece; regions that touch in a point do not. Maps
        include the readout, and slopes are compared up to rounding: a neuron's contribution to a slope 1e13 times as
        steep may be lost. `snapped` does not count that; `certify` finds it.
        """
        sides, slopes = self._mesh.adjacent_faces(), self._maps.slopes
        # Most neighbours differ, which one linear combination of the outputs shows without comparing all outputs.
        mixed = [_mixed(slopes(np.arange(some.start, some.stop))) for some in self._maps.blocks(self.n_regions)]
        mixed = np.concatenate(mixed, axis=2)
        sides = sides[_equal(*(mixed[:, :, faces] for faces in sides.T))]
        equal = np.zeros(len(sides), dtype=bool)
        for some in self._maps.blocks(len(sides)):
            equal[some] = _equal(*(slopes(faces) for faces in sides[some].T)).all(axis=-1)
        return n_components(self.n_regions, sides[equal].tolist())

    @cached_property
    def active(self) -> tuple[np.ndarray, ...]:
        """Which neurons are active on each region: a tuple of bool arrays, one per layer, shape=[n_regions, width_k].

        It has the layout of `network.pattern` for one point of each region.
        """
        active, cells = [], slice(None)
        for cell, signs in reversed(self._maps.layers):
            active.append(signs.dense[cells])
            cells = cell[cells]
        return tuple(reversed(active))

    @cached_property
    def polygons(self) -> list[np.ndarray]:
        """Corners of each region, counter-clockwise: arrays, shape=[n_corners, 2], in plane coordinates (u, v)."""
        low, high = self.window.T
        corners = self._mesh.corners()
        corners = low * ((1 - corners) / 2) + high * ((1 + corners) / 2)
        return np.split(corners, np.cumsum(self._mesh.size)[:-1])

    @cached_property
    def areas(self) -> np.ndarray:
        """Area of each region in plane coordinates, shape=[n_regions]; they sum to the area of the window.

        Raises
        ------
        ValueError
            If an area overflows or underflows float64.
        """
        extent, parts = np.diff(self.window), self._mesh.areas() / 4
        with np.errstate(over="ignore"):
            # Multiply by the larger factor first, so that no intermediate product underflows.
            areas = parts * extent.max() * extent.min()
        size = np.abs(areas[parts != 0])
        if not ((size >= TINY) & (size < np.inf)).all():
            raise ValueError(
                f"areas: window is {one_line(self.window.tolist())}, but one whose areas do not "
                f"{'overflow' if size.max() > 1 else 'underflow'} float64 was expected"
            )
        return areas


def plane_partition(
    network: ReluNetwork,
    window: ArrayLike,
    *,
    origin: ArrayLike | None = None,
    axes: ArrayLike | None = None,
    limit: int = 2_000_000,
    certify: bool = False,
) -> PlanePartition:
    """Cut a rectangular window of a plane into the regions of a network.

    The polygons are exact up to rounding in float64, for any depth and width. Input in special position (zero
    biases, equal or opposite neurons, many lines through one point, lines through a corner or along an edge of the
    window) is not perturbed: a value that is indistinguishable from 0, up to rounding, counts as 0.

    Parameters
    ----------
    network : ReluNetwork
        The network.
    window : array-like, shape=[2, 2]
        ((u0, u1), (v0, v1)) with u0 < u1 and v0 < v1, in plane coordinates.
    origin : array-like, shape=[input_dim], optional
        Point of the input space at the plane's (0, 0); by default the origin of the input space.
    axes : array-like, shape=[2, input_dim], optional
        Two directions that span the plane, of any length and angle. By default the two axes of a 2-D input.
    limit : int
        Largest number of regions that may be made.
    certify : bool
        Whether to count regions and pieces again, in rational arithmetic and by another algorithm, and raise if the
        counts differ. Meant for small networks: it is slow, and refused above 2,000 regions.

    Returns
    -------
    PlanePartition
        Polygons, patterns, areas and counts.

    Raises
    ------
    TypeError
        If `network` is not a ReluNetwork, or another argument is not of the type above.
    ValueError
        If the window has no area, the axes are parallel, a shape or a number is wrong, axes are missing, or values
        overflow; if there are more regions than `limit`; if `certify` finds other counts, or there are too many
        regions for it.

    Notes
    -----
    Every value has a tolerance for the rounding errors of its computation: 512 units of float64 relative to the terms
    of each sum, carried through the layers with the map of each face as independent errors, plus the effect of the
    error of the vertex's position. A line that passes a vertex within this tolerance passes through the vertex.

    Depth alone loses no digits, but the errors of neurons that are differences of each other are not independent, and
    then the tolerance grows faster than the true errors: a sawtooth of 2^19 teeth, one fold per layer, is cut
    completely; one of 2^20 is not, and `snapped` > 0 reports it.

    `certify` treats floats as the exact rationals that they are, and so never counts a nonzero value as 0. Degenerate
    input that has been rounded, such as the offsets of lines through (0.3, -0.2), is no longer degenerate in rational
    arithmetic: it has more regions there, `certify` raises, and `snapped` > 0 shows why. Degenerate input that float64
    represents exactly (integers, for instance) passes.

    A face is compared only with the lines around it, so the time and the memory for one layer grow with the number of
    regions made: about 450 bytes each, of which the partition keeps 160. In deeper networks each cell also needs its
    own map. It takes time proportional to the product of two widths; while a layer is cut, 32 bytes for each neuron of
    the layer before; and permanently one byte for each neuron of all layers except the last. `active` and `patterns`
    are computed on first use, and take one byte for each region and neuron.

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
    check_network("plane_partition", network)
    window = _check_window(window)
    axes = _check_axes(network.input_dim, axes)
    origin = np.zeros(network.input_dim) if origin is None else origin
    origin = check_points("plane_partition: origin", origin, network, single=True)
    limit, certify = integer("plane_partition: limit", limit, 1), flag("plane_partition: certify", certify)
    mesh, maps = Mesh(limit), _Maps(network._rescaled, window, origin, axes)
    for _ in network.widths:
        maps.add_layer(mesh)
    partition = PlanePartition(network, window, origin, axes, mesh, maps)
    if certify:
        certified("plane_partition", partition, lambda most: plane_counts(network, window, origin, axes, most))
    return partition


class _Maps:
    """The affine maps of a network on the faces of its layers, composed when they are needed.

    The first axis of a map holds two slopes and an offset, as functions on the square [-1, 1]^2, and their error. On
    this square slopes and offsets are comparable: the sum of their absolute values is the largest absolute value in the
    window. The error is carried through the layers with the map, for each face and each neuron.

    Attributes
    ----------
    layers : list of pairs
        For each layer that has cut: the cell that each face is a part of, and the signs of the neurons there.
    """

    def __init__(self, network, window, origin, axes):
        self.network, self.layers = network, []
        with np.errstate(over="ignore", invalid="ignore"):  # non-finite errors are refused later
            middle, half = window.mean(axis=1), (window[:, 1] - window[:, 0]) / 2
            inputs = [half[0] * axes[0], half[1] * axes[1], origin + middle @ axes]
            # Relative to the terms, not to the offset: a window far from the origin has lost digits to cancellation.
            noise = ROUNDING * (np.abs(origin) + np.abs(window).max(axis=1) @ np.abs(axes))
            self._latest = _rounded(np.stack([*inputs, noise])[:, None])
        self._directions = self._latest[:2]

    def blocks(self, n):
        """Split range(n) into slices of faces that are processed together."""
        step = max(1, BLOCK // max(self.network.widths))
        return [slice(start, min(start + step, n)) for start in range(0, n, step)]

    def add_layer(self, mesh):
        """Cut the faces of a mesh, which the layers before have made, by the next layer."""
        depth = len(self.layers)
        W, b = self.network.weights[depth], self.network.biases[depth]
        last, blocks = depth + 1 == len(self.network.weights), self.blocks(mesh.n_faces)
        # The maps of the last layer are not needed after the cut, except to see whether the readout overflows.
        results, cut = np.empty((4, blocks[0].stop if last else mesh.n_faces, len(b))), LayerCut(mesh, len(b))
        for cells in blocks:
            maps = self._latest
            if depth:
                cell, signs = self.layers[-1]
                maps = maps.take(cell[cells], axis=1)
                maps *= gain(self.network, signs.dense[cells])
            after = results[:, : cells.stop - cells.start] if last else results[:, cells]
            cut.cut(cells, _affine(W, b, maps, f"layer {depth}", after))
            if not last or self.network.readout:
                _rounded(after)
            if last and self.network.readout:
                _carry(*self.network.readout, after[-1].max(axis=0, keepdims=True), "the output")
        self.layers.append(cut.finish())
        self._latest = None if last else results

    def slopes(self, faces):
        """Slopes of the output on faces of the last layer, and their errors, for each of the two directions."""
        patterns = []
        for cell, signs in reversed(self.layers):
            cells, place = np.unique(cell[faces], return_inverse=True)
            patterns.insert(0, (place, signs.dense[faces]))
            faces = cells
        return [output_slopes(self.network, along, patterns) for along in self._directions]


def _rounded(maps):
    """Add the rounding errors of maps to their errors, the last entry of the first axis, in place."""
    maps[-1] += ROUNDING * np.abs(maps[:-1]).sum(axis=0)
    return maps


def _affine(W, b, maps, where, after):
    """Apply W and b to maps, shape=[4, n, fan_in], and to their errors."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.matmul(maps[:-1], W.T, out=after[:-1])
        after[2] += b
        after[-1] = _carry(W, b, maps[-1], where)
    return after


def _carry(W, b, errors, where):
    with np.errstate(over="ignore", invalid="ignore"):
        errors = carry(W, b, errors)
        if not np.isfinite(errors.max() / ROUNDING * (W.shape[1] + 1)):
            raise ValueError(f"plane_partition: values of {where} overflow float64, but smaller numbers were expected")
    return errors


def _mixed(directions):
    """Slopes of one linear combination of the outputs, and their errors, for each direction: shape=[2, 2, n_faces]."""
    mixture = np.cos(np.arange(directions[0][0].shape[1]))
    return np.stack([[slopes @ mixture, errors @ np.abs(mixture)] for slopes, errors in directions])


def _equal(left, right):
    """Whether slopes are equal in both directions, up to their errors."""
    u, v = (np.abs(a - b) <= error + other for (a, error), (b, other) in zip(left, right, strict=True))
    return u & v


def _check_window(window):
    given, window = one_line(window), finite_array("plane_partition: window", window)
    # Halves are compared, because half of the extent is used: it must neither overflow nor underflow.
    if window.shape != (2, 2) or not (window[:, 0] / 2 < window[:, 1] / 2).all():
        raise ValueError(
            f"plane_partition: window is {given}, but ((u0, u1), (v0, v1)), u0 < u1, v0 < v1, was expected"
        )
    return window


def _check_axes(dim, axes):
    if axes is None:
        if dim != 2:
            raise ValueError(f"plane_partition: axes is None, but two directions in R^{dim} were expected")
        axes = np.eye(2)
    axes = finite_array("plane_partition: axes", axes)
    if axes.shape != (2, dim):
        raise ValueError(f"plane_partition: axes has shape {axes.shape}, but {(2, dim)} was expected for this network")
    lengths = np.abs(axes).max(axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(f"plane_partition: axes[{int(np.argmin(lengths))}] is zero, but a direction was expected")
    if np.linalg.matrix_rank(axes / lengths, tol=ROUNDING) < 2:
        raise ValueError("plane_partition: axes[0] and axes[1] are parallel, but axes of a plane were expected")
    return axes
