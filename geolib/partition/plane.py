"""The regions of a network in a plane: exact polygons, layer by layer.

On every region of its first k layers, layer k + 1 is affine, so each of its neurons cuts those regions along lines.
Cutting a square by all neurons in turn gives the partition.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geolib.checks import finite_array, integer, one_line
from geolib.partition.exact import certified, n_components, plane_counts, plane_doubts
from geolib.partition.mesh import LayerCut, Mesh
from geolib.partition.network import Partition, ReluNetwork, gain
from geolib.partition.rounding import ROUNDING, TINY, carry

# Numbers that are worked on at once: faces times neurons.
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
    def n_regions(self):
        """Number of regions: open sets of the window, one for each pattern that occurs."""
        return self._mesh.n_faces

    @cached_property
    def snapped(self):
        """Number of doubtful values (of a neuron, at a vertex): taken for 0, as if rounding errors, without being 0.

        If it is 0, no region is in doubt: values that float64 computes as 0 have been computed again, in rational
        arithmetic. (If others are in doubt anyway, they have not; above 50,000 vertices, all are counted as in doubt.)
        """
        return self._mesh.snapped or plane_doubts(self)

    @cached_property
    def n_pieces(self):
        """Number of affine pieces: maximal connected sets on which the output is one affine map of (u, v).

        Regions that share an edge and have equal maps belong to one piece; to touch in a point is not enough. The
        map is taken through the readout, and each slope up to rounding: what a neuron adds to one 1e13 times as steep
        may be lost. `snapped` does not cover that; `certify` does.
        """
        sides, slopes = self._mesh.adjacent_faces(), self._maps.slopes
        # Most neighbours differ, and one mixture of the outputs tells so.
        mixed = [_mixed(slopes(np.arange(some.start, some.stop))) for some in self._maps.blocks(self.n_regions)]
        sides = sides[_equal(*np.moveaxis(np.concatenate(mixed, axis=1)[:, sides], 2, 0))]
        equal = np.zeros(len(sides), dtype=bool)
        for some in self._maps.blocks(len(sides)):
            equal[some] = _equal(*np.split(slopes(sides[some].T.ravel()), 2, axis=1)).all(axis=-1)
        return n_components(self.n_regions, sides[equal].tolist())

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
    def polygons(self):
        """Corners of each region, counter-clockwise: a list of arrays, shape=[k, 2], in plane coordinates (u, v)."""
        low, high = self.window.T
        corners = self._mesh.corners()
        corners = low * ((1 - corners) / 2) + high * ((1 + corners) / 2)
        return np.split(corners, np.cumsum(self._mesh.size)[:-1])

    @cached_property
    def areas(self):
        """Area of each region in plane coordinates, shape=[n_regions]; they sum to the window's.

        Raises
        ------
        ValueError
            If an area is beyond what float64 holds.
        """
        extent, parts = np.diff(self.window), self._mesh.areas() / 4
        with np.errstate(over="ignore"):
            # The larger factor first: what is in range does not vanish on the way.
            areas = parts * extent.max() * extent.min()
        size = np.abs(areas[parts != 0])
        if not ((size >= TINY) & (size < np.inf)).all():
            raise ValueError(
                f"areas: the window is {one_line(self.window.tolist())}, and areas of its regions "
                f"{'overflow' if size.max() > 1 else 'underflow'} float64; expected one of a more ordinary size"
            )
        return areas


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
    each sum, carried through the layers along with the map of each face, as independent errors, plus what it moves
    the vertex. Lines that pass closer to a vertex than that pass through it.

    Depth alone loses nothing, but errors of neurons that are differences of each other are not independent, and then
    that tolerance grows faster than the true errors: a sawtooth of 2^19 teeth, one fold per layer, comes out whole,
    one of 2^20 does not, and `snapped` > 0 says so.

    `certify` takes floats for the rationals that they are, and so takes nothing for 0 that is not. Where degenerate
    input has been rounded, as the offsets of lines through (0.3, -0.2) are, the rationals are not degenerate any
    more: they have more regions, `certify` raises, and `snapped` > 0 is the reason. Input that float64 holds exactly
    (integers, say) passes, degenerate or not.

    A face is compared only with the lines around it, so the time and the memory for one layer grow with the number of
    regions made: some 450 bytes each, of which the partition keeps 160. In deeper networks each cell also needs its
    own map: the product of two widths in time; while a layer is cut, 32 bytes for each neuron of the one before; and
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
    mesh, maps = Mesh(integer("plane_partition: limit", limit, 1)), _Maps(network._rescaled, window, origin, axes)
    for _ in network.widths:
        maps.add_layer(mesh)
    partition = PlanePartition(network, window, origin, axes, mesh, maps)
    if certify:
        certified("plane_partition", partition, lambda most: plane_counts(network, window, origin, axes, most))
    return partition


class _Maps:
    """The affine maps of a network on the faces of its layers, composed when they are needed.

    A map's first axis holds two slopes and an offset, from the square [-1, 1]^2, and their error. There the window's
    extent is 1, so slopes and offsets compare; their absolute values add up to the largest value in the window. The
    error is carried through the layers with the map, for each face and each neuron.

    Attributes
    ----------
    layers : list of pairs
        For each layer that has cut: the cell that each face is a part of, and the signs of the neurons there.
    """

    def __init__(self, network, window, origin, axes):
        self.network, self.layers = network, []
        with np.errstate(over="ignore", invalid="ignore"):  # the first layer's errors will tell
            middle, half = window.mean(axis=1), (window[:, 1] - window[:, 0]) / 2
            inputs = [half[0] * axes[0], half[1] * axes[1], origin + middle @ axes]
            # Not of the offset itself: a window far from the origin has lost digits to cancellation.
            noise = ROUNDING * (np.abs(origin) + np.abs(window).max(axis=1) @ np.abs(axes))
            self._inputs = self._latest = _rounded(np.stack([*inputs, noise])[:, None])

    def blocks(self, n):
        """Cut range(n) into slices of so many faces as are worked on at once."""
        step = max(1, BLOCK // max(self.network.widths))
        return [slice(start, min(start + step, n)) for start in range(0, n, step)]

    def add_layer(self, mesh):
        """Let the next layer cut the faces of a mesh, which the layers before have made."""
        depth = len(self.layers)
        W, b = self.network.weights[depth], self.network.biases[depth]
        last, blocks = depth + 1 == len(self.network.weights), self.blocks(mesh.n_faces)
        # Of the last layer, nothing is needed once it has cut, but whether the readout overflows.
        results, cut = np.empty((4, blocks[0].stop if last else mesh.n_faces, len(b))), LayerCut(mesh, len(b))
        largest = 0
        for cells in blocks:
            maps = self._latest
            if depth:
                cell, signs = self.layers[-1]
                maps = maps.take(cell[cells], axis=1)
                maps *= gain(self.network, signs.dense[cells])
            after = results[:, : cells.stop - cells.start] if last else results[:, cells]
            cut.cut(cells, _affine(W, b, maps, f"layer {depth}", after))
            if not last or self.network.readout:
                largest = np.maximum(largest, _rounded(after)[-1].max(axis=0))
        self.layers.append(cut.finish())
        self._latest = None if last else results
        if last and self.network.readout:
            _carry(*self.network.readout, largest[None], "the output")

    def slopes(self, faces):
        """Two slopes of the output on faces of the last layer, and the error of each, shape=[4, n_faces, n_outputs].

        Slopes alone, each with its own error: they lose no digits to offsets or to each other, however large those are.
        """
        steps = []
        for cell, signs in reversed(self.layers):
            cells, place = np.unique(cell[faces], return_inverse=True)
            steps.append((place, signs.dense[faces]))
            faces = cells
        maps = self._inputs[[0, 1, 0, 1]] * np.array([1, 1, 0, 0])[:, None, None]
        for W, (place, active) in zip(self.network.weights, reversed(steps), strict=True):
            maps = _linear(W, maps)[:, place] * gain(self.network, active)
        return maps if self.network.readout is None else _linear(self.network.readout[0], maps)


def _rounded(maps):
    """Add to the errors of maps, which come last, what rounding makes of such numbers; in place."""
    maps[-1] += ROUNDING * np.abs(maps[:-1]).sum(axis=0)
    return maps


def _linear(W, maps):
    """Apply W to two slopes and to the error of each, shape=[4, n, fan_in]."""
    errors = maps[2:] + ROUNDING * np.abs(maps[:2])
    return np.stack([*(maps[:2] @ W.T), *(_carry(W, np.zeros(1), error, "the output") for error in errors)])


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
            raise ValueError(f"plane_partition: values of {where} overflow float64, expected smaller numbers")
    return errors


def _mixed(slopes):
    """One mixture of the outputs: slopes and errors, shape=[4, n]."""
    mixture = np.cos(np.arange(slopes.shape[-1]))
    return np.concatenate([slopes[:2] @ mixture, slopes[2:] @ np.abs(mixture)])


def _equal(left, right):
    """Whether slopes are equal, up to their errors."""
    return (np.abs(left[:2] - right[:2]) <= left[2:] + right[2:]).all(axis=0)


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
        shape = f"shape {origin.shape}, but the network's input has dimension {dim}"
        raise ValueError(f"plane_partition: origin has {shape}")
    lengths = np.abs(axes).max(axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(f"plane_partition: axes[{int(np.argmin(lengths))}] is zero, expected a direction")
    if np.linalg.matrix_rank(axes / lengths, tol=ROUNDING) < 2:
        raise ValueError("plane_partition: axes[0] and axes[1] are parallel, expected them to span a plane")
    return origin, axes
