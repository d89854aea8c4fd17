"""A square cut into convex faces, and the cuts that all lines of a layer make in them.

The idea: each face is cut on its own, by one line after the other of those that cross it, and a part inherits only the
lines that may still cross it. So a face is compared with the lines around it only, and the time grows with the number
of faces made. For speed, many faces take their next line at the same time, in one NumPy operation.

The invariants:

- Faces are convex, and each is a closed loop of half-edges, counter-clockwise. A line that crosses a convex face meets
  its border in exactly two points (`LayerCut._split` repairs signs that rounding has made look otherwise).
- Neighbours fit together. The lines that cross an edge cross the faces on both sides of it, and both faces take their
  lines in the same order; so the face that is cut second finds the vertex that the first one made (`_cut_edges`).
- A vertex where two lines cross has a sign for every later line: positive, negative, or 0 within the tolerance. Signs
  of 0 are what makes lines through a common point, and lines through corners, exact.

Cutting at edges is the idea of Berzins (2023, arXiv 2306.07212); here faces are kept too, and signs may be 0.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geolib.partition.rounding import refuse_more

# Number of lines that are compared with their faces at a time: enough to be fast, few enough for the cache.
BATCH = 1 << 15

# Signs as bits: a line crosses a face if the bitwise "or" of the signs at the corners is BOTH.
ZERO, POSITIVE, NEGATIVE, BOTH = np.arange(4, dtype=np.int8)


class Mesh:
    """Convex faces that tile the square [-1, 1]^2.

    Edge e is two half-edges, 2 e and 2 e + 1, of opposite directions; a face is a loop of half-edges. Half-edge h
    goes from vertex ends[h] to vertex ends[h ^ 1].

    Attributes
    ----------
    vertices : array, shape=[n_vertices, 4]
        x, y, and a bound on the error of the position: +- (blur x, blur y), along the edge that the vertex was made on.
    ends : int array, shape=[2 n_edges]
        The vertex where each half-edge begins.
    loop : int array, shape=[n_corners]
        Half-edges of all faces, face after face, each counter-clockwise.
    size : int array, shape=[n_faces]
        Number of corners of each face.
    snapped : int
        Number of values (of a function at a vertex) that were taken as 0 although they were not computed as 0.
    zeros : list of int arrays, shape=[n, 2]
        For each layer, vertex and neuron of the values that float64 computed as 0.
    limit : int
        Largest number of faces.
    """

    def __init__(self, limit):
        corners = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
        self.vertices = np.concatenate([corners, np.zeros((4, 2))], axis=1)
        self.ends = np.array([0, 1, 1, 2, 2, 3, 3, 0])
        self.loop = np.array([0, 2, 4, 6])
        self.size = np.array([4])
        self.snapped, self.zeros = 0, []
        self.limit = limit

    @property
    def n_faces(self):
        """Number of faces."""
        return len(self.size)

    def corners(self):
        """Coordinates of the corners of all faces, shape=[n_corners, 2]."""
        return self.vertices[self.ends[self.loop], :2]

    def areas(self):
        """Area of each face, shape=[n_faces]."""
        starts = _starts(self.size)
        corners = self.corners()
        x, y = (corners - np.repeat(corners[starts], self.size, axis=0)).T
        cross = np.append(x[:-1] * y[1:] - y[:-1] * x[1:], 0)
        cross[starts - 1] = 0  # a face's last corner is followed by its first, which is (0, 0) now
        return np.add.reduceat(cross, starts) / 2

    def adjacent_faces(self):
        """Pairs of faces that share an edge, shape=[n_inner_edges, 2]."""
        face = np.full(len(self.ends), -1)
        face[self.loop] = np.repeat(np.arange(self.n_faces), self.size)
        face = face.reshape(-1, 2)
        return face[(face >= 0).all(axis=1)]


class LayerCut:
    """The faces of a mesh while the functions of one layer cut them.

    Faces are numbered in the order in which they are made: first the faces of the mesh, which are the cells on which
    the functions are affine, then the parts that are cut off. A face that is cut keeps its number for the part where
    the line is positive; the part where it is negative gets a new number. A *line* is the set of zeros of one function
    on one cell.
    """

    def __init__(self, mesh, width):
        self._mesh = mesh
        self._order = _spread(width)
        self._vertices, self._ends = _Table(mesh.vertices), _Table(mesh.ends)
        # For each edge that has been cut: the first one of its two parts, and the neuron that cut it; else -1.
        self._parts = _Table(np.full((len(mesh.ends) // 2, 2), -1))
        self._n_faces = mesh.n_faces
        self._corners = np.append(0, np.cumsum(mesh.size))
        self._done, self._signs, self._steps = [], [], []
        self._snapped, self._zeros = ([np.zeros(0, dtype=np.intp)] for _ in range(2))

    def cut(self, cells, maps):
        """Cut some of the cells by the zeros of functions that are affine on each.

        A face is cut if a function is > 0 at one of its corners and < 0 at another one, beyond the tolerance.

        Parameters
        ----------
        cells : slice
            Which cells. Each cell is cut once, and calls go through the cells in order.
        maps : array, shape=[4, n_cells, width]
            Slopes, offset and tolerance: (x, y) -> maps[0, c, i] x + maps[1, c, i] y + maps[2, c, i], where absolute
            values up to maps[3, c, i] may be rounding errors, and count as 0.
        """
        size = self._mesh.size[cells]
        loop = self._mesh.loop[self._corners[cells.start] : self._corners[cells.stop]]
        positive, near = self._compare_boxes(loop, size, maps)
        self._signs.append(positive)
        cell, neuron = np.nonzero(near[:, self._order])
        neuron = self._order[neuron]
        # The lines of these cells: the neuron of each, and its slopes, offset and tolerance, shape=[n_lines, 4].
        self._lines = neuron, np.ascontiguousarray(maps[:, cell, neuron].T)
        n_lines = np.bincount(cell, minlength=len(size))
        todo = [_Faces(np.arange(cells.start, cells.stop), loop, size, np.arange(len(cell)), n_lines)]
        while todo:
            faces = todo.pop()
            if len(faces.line) > BATCH and len(faces.id) > 1:
                todo += faces.halves()
                continue
            faces = self._cut_once(faces)
            if len(faces.id):
                todo.append(faces)

    def finish(self):
        """Replace the faces of the mesh by those that were made, in the order of their cells.

        Returns
        -------
        cell : int array, shape=[n_faces]
            The cell that each face is a part of, sorted.
        signs : Signs
            On which faces the functions are > 0.
        """
        mesh = self._mesh
        face, loop, size = (np.concatenate(arrays) for arrays in zip(*self._done, strict=True))
        cell, made = np.arange(self._n_faces), mesh.n_faces
        for _, _, parents, _ in self._steps:
            cell[made : made + len(parents)] = cell[parents]
            made += len(parents)
        order = np.argsort(cell[face], kind="stable")
        place = np.empty_like(order)
        place[face[order]] = np.arange(len(order))
        loop, size = loop[_ranges(_starts(size)[order], size[order])], size[order]
        # Drop the edges that were cut: their parts have replaced them.
        used = np.zeros(len(self._ends.rows) // 2, dtype=bool)
        used[loop >> 1] = True
        mesh.loop, mesh.size = 2 * (np.cumsum(used) - 1)[loop >> 1] + (loop & 1), size
        mesh.vertices, mesh.ends = self._vertices.rows.copy(), self._ends.rows[np.repeat(used, 2)]
        mesh.snapped += len(np.unique(np.concatenate(self._snapped)))
        mesh.zeros.append(np.stack(divmod(np.unique(np.concatenate(self._zeros)), len(self._order)), axis=1))
        return cell[face[order]], Signs(np.concatenate(self._signs), self._steps, place)

    def _compare_boxes(self, loop, size, maps):
        """Compare functions with 0 on the bounding box of each cell: which are > 0, and which may have both signs."""
        starts = _starts(size)
        corners = self._vertices.rows[self._ends.rows[loop]]
        low, high = np.minimum.reduceat(corners, starts), np.maximum.reduceat(corners, starts)
        middle, half = (low + high)[:, :2] / 2, (high - low)[:, :2] / 2
        half += np.maximum.reduceat(np.abs(corners[:, 2:]), starts)
        reach, value, term = np.abs(maps[0]), maps[0] * middle[:, :1], np.abs(maps[1])
        reach *= half[:, :1]
        term *= half[:, 1:]
        reach += term
        reach += maps[3]
        value += np.multiply(maps[1], middle[:, 1:], out=term)
        value += maps[2]
        return value > reach, np.abs(value, out=value) <= reach

    def _compare(self, faces):
        """Compare the lines of some faces with all corners of their face.

        Returns
        -------
        owner, n : int array, shape=[n_lines]
            The face that a line belongs to, and the number of corners of that face.
        value, sign : array, shape=[sum of n]
            Value and sign of the function at these corners, one line after the other.
        """
        owner = np.repeat(np.arange(len(faces.id)), faces.n_lines)
        n = faces.size[owner]
        corner = _ranges(_starts(faces.size)[owner], n)
        tail, (neuron, functions) = self._ends.rows[faces.loop], self._lines
        x, y, blur_x, blur_y = self._vertices.rows.take(tail, axis=0).take(corner, axis=0).T
        slope_x, slope_y, offset, tolerance = np.repeat(functions.take(faces.line, axis=0), n, axis=0).T
        value = slope_x * x + slope_y * y + offset
        noise = tolerance + np.abs(slope_x * blur_x + slope_y * blur_y)
        sign = (value > noise) * POSITIVE + (value < -noise) * NEGATIVE
        zero = np.flatnonzero(sign == ZERO)
        if len(zero):
            line = faces.line[np.searchsorted(np.cumsum(n), zero, side="right")]
            names = tail[corner[zero]] * len(self._order) + neuron[line]
            self._snapped.append(np.unique(names[value[zero] != 0]))
            self._zeros.append(np.unique(names[(value[zero] == 0) & (tolerance[zero] > 0)]))
        return owner, n, value, sign

    def _cut_once(self, faces):
        """Cut each face by the first line that crosses it; return the parts, with the lines that remain for them."""
        owner, n, value, sign = self._compare(faces)
        starts = _starts(n)
        signs = np.bitwise_or.reduceat(sign, starts) if len(n) else sign
        above, crossing = np.flatnonzero(signs == POSITIVE), np.flatnonzero(signs == BOTH)
        is_first = np.ones(len(crossing), dtype=bool)
        is_first[1:] = owner[crossing[1:]] != owner[crossing[:-1]]
        first, later = crossing[is_first], crossing[~is_first]
        parent = owner[first]
        neurons, functions = self._lines
        neuron = neurons[faces.line[first]]
        self._steps.append((faces.id[owner[above]], neurons[faces.line[above]], faces.id[parent], neuron))
        is_cut = np.zeros(len(faces.id), dtype=bool)
        is_cut[parent] = True
        whole = np.repeat(~is_cut, faces.size)
        self._done.append((faces.id[~is_cut], faces.loop[whole], faces.size[~is_cut]))
        new = self._n_faces + np.arange(len(first))
        self._n_faces += len(first)
        refuse_more("plane_partition", self._mesh.limit, self._n_faces)
        at = _ranges(starts[first], n[first])
        noise = functions[faces.line[first], 3]
        loop, size = self._split(faces.loop[~whole], n[first], value[at], sign[at], neuron, noise)
        n_lines = np.bincount(owner[later], minlength=len(faces.id))[parent]
        line = faces.line[later]
        made, lines, n = (np.concatenate(pair) for pair in ((faces.id[parent], new), (line, line), (n_lines, n_lines)))
        return _Faces(made, loop, size, lines, n)  # both parts of a face inherit its lines

    def _split(self, loop, size, value, sign, neuron, noise):
        """Split faces, each by one line, into the sides where the line is >= 0 and where it is <= 0.

        Parameters
        ----------
        loop, size : int array, shape=[n_corners] and shape=[n_faces]
            The half-edges of the faces, face after face, and the number of corners of each.
        value, sign : array, shape=[n_corners]
            Value and sign of the line where each half-edge begins.
        neuron, noise : array, shape=[n_faces]
            The neuron of each line, and its tolerance.

        Returns
        -------
        loop, size : int array
            Half-edges and numbers of corners of the positive sides, followed by those of the negative sides.
        """
        face, first, end = np.repeat(np.arange(len(size)), size), _starts(size), np.cumsum(size)
        following = np.arange(1, len(loop) + 1)
        following[end - 1] = first
        # A line meets the border of a convex face in two points. Where rounding makes it look otherwise, repair signs.
        meets = np.bincount(face, (sign == ZERO) | (sign | sign[following] == BOTH))
        for i in np.flatnonzero(meets != 2):
            sign[first[i] : end[i]] = _one_run(value[first[i] : end[i]], sign[first[i] : end[i]])
        # An edge whose ends have opposite signs is cut in two; the vertex between the parts has sign 0.
        crossed = np.flatnonzero(sign | sign[following] == BOTH)
        before, behind = self._cut_edges(
            loop[crossed], value[crossed], value[following[crossed]], neuron[face[crossed]], noise[face[crossed]]
        )
        copies = np.ones(len(loop), dtype=np.intp)
        copies[crossed] = 2
        old = np.repeat(np.arange(len(loop)), copies)
        vertex = crossed + np.arange(1, len(crossed) + 1)
        loop, face, sign, next_sign = loop[old], face[old], sign[old], sign[following][old]
        loop[vertex - 1], loop[vertex] = before, behind
        next_sign[vertex - 1] = sign[vertex] = ZERO
        # Each face gets a new edge, from the vertex where the positive side ends to the vertex where it begins.
        leaves = np.flatnonzero((sign == ZERO) & (next_sign == NEGATIVE))
        enters = np.flatnonzero((sign == ZERO) & (next_sign == POSITIVE))
        edge = len(self._parts.rows) + np.arange(len(size))
        begin, end = np.empty_like(edge), np.empty_like(edge)
        begin[face[leaves]] = self._ends.rows[loop[leaves]]
        end[face[enters]] = self._ends.rows[loop[enters]]
        self._add_edges(begin, end)
        positive, negative = loop.copy(), loop
        positive[leaves], negative[enters] = 2 * edge[face[leaves]], 2 * edge[face[enters]] + 1
        above, below = sign != NEGATIVE, sign != POSITIVE
        sizes = [np.bincount(face[side], minlength=len(size)) for side in (above, below)]
        return np.concatenate([positive[above], negative[below]]), np.concatenate(sizes)

    def _cut_edges(self, half, value, next_value, neuron, noise):
        """Cut half-edges where a line, with these values at both ends, crosses them; return the two parts of each.

        Both faces of an edge may be cut by the same neuron, at this call or at a later one: the vertex is made once. In
        each round the edges whose vertex is missing get it, and the half-edges whose edge has been cut by their own
        neuron are done. A half-edge whose edge another neuron has just cut tries again.
        """
        edge, part = half >> 1, np.empty_like(half)
        todo = np.arange(len(half))
        while len(todo):
            new = todo[self._parts.rows[edge[todo], 1] != neuron[todo]]
            # Both faces of an edge may ask for the same vertex: the last one to write its index here makes the vertex.
            self._parts.rows[edge[new], 0] = new
            new = new[self._parts.rows[edge[new], 0] == new]
            self._make_vertices(half[new], value[new], next_value[new], neuron[new], noise[new])
            first, cutter = self._parts.rows[edge[todo]].T
            known = cutter == neuron[todo]
            part[todo[known]] = first[known]
            todo = todo[~known]
        backward = half & 1
        return 2 * part + 3 * backward, 2 * part + 2 - backward

    def _make_vertices(self, half, value, next_value, neuron, noise):
        """Make a vertex on each edge, and record the two parts of the edge."""
        start, end = self._vertices.rows[self._ends.rows[[half, half ^ 1]], :2]
        # A line that meets the edge at a small angle changes little along it, and so its crossing is uncertain.
        along = np.stack([value, noise]) / (value - next_value)
        shift, blur = along[:, :, None] * (end - start)
        vertex = len(self._vertices.rows) + np.arange(len(half))
        self._vertices.extend(np.concatenate([start + shift, blur], axis=1))
        edge = half >> 1
        self._parts.rows[edge, 0] = len(self._parts.rows) + 2 * np.arange(len(half))
        self._parts.rows[edge, 1] = neuron
        self._add_edges(self._ends.rows[2 * edge], vertex, vertex, self._ends.rows[2 * edge + 1])

    def _add_edges(self, *ends):
        """Add one or more edges for each index, given by the vertices where they begin and end."""
        self._ends.extend(np.stack(ends, axis=1).ravel())
        self._parts.extend(np.full((len(ends) // 2 * len(ends[0]), 2), -1))


class Signs:
    """On which faces the functions of a layer are > 0.

    Until `dense` is first read, this holds only the steps of the cuts, which take a few numbers for each face.
    """

    def __init__(self, cells, steps, place):
        self._cells, self._steps, self._place = cells, steps, place

    @cached_property
    def dense(self):
        """Whether each function is > 0 on each face: bool array, shape=[n_faces, width]."""
        place = self._place
        dense = np.empty((len(place), self._cells.shape[1]), dtype=bool)
        made = len(self._cells)
        dense[place[:made]] = self._cells
        for faces, neurons, parents, cutters in self._steps:
            dense[place[faces], neurons] = True
            dense[place[made : made + len(parents)]] = dense[place[parents]]
            dense[place[parents], cutters] = True
            made += len(parents)
        del self._cells, self._steps, self._place
        return dense


@dataclass
class _Faces:
    """Some faces, and the lines that may cross them: n_lines for each face, in the order in which they cut."""

    id: np.ndarray
    loop: np.ndarray
    size: np.ndarray
    line: np.ndarray
    n_lines: np.ndarray

    def halves(self):
        """Split the faces into two parts with about half of the lines each."""
        lines = np.cumsum(self.n_lines)
        middle = min(max(1, np.searchsorted(lines, lines[-1] / 2)), len(self.id) - 1)
        cuts = (middle, self.size[:middle].sum(), middle, lines[middle - 1], middle)
        parts = (np.split(array, [cut]) for array, cut in zip(vars(self).values(), cuts, strict=True))
        return [_Faces(*arrays) for arrays in zip(*parts, strict=True)]


class _Table:
    """A table whose number of rows grows, most of the time without copying."""

    def __init__(self, rows):
        self.rows = self._room = rows

    def extend(self, rows):
        """Add rows at the end."""
        n, total = len(self.rows), len(self.rows) + len(rows)
        if total > len(self._room):
            self._room = np.empty((2 * total, *rows.shape[1:]), dtype=rows.dtype)
            self._room[:n] = self.rows
        self._room[n:total] = rows
        self.rows = self._room[:total]


def _starts(size):
    """Start of each run, for consecutive runs of these sizes."""
    return np.cumsum(size) - size


def _ranges(start, n):
    """Concatenate the ranges that begin at `start` and have length `n`."""
    return np.arange(n.sum()) + np.repeat(start - _starts(n), n)


def _one_run(value, sign):
    """Signs around a face, changed so that the positive corners are consecutive, and the negative ones too."""
    run = np.full_like(sign, NEGATIVE)
    top = np.argmax(np.where(sign == POSITIVE, value, -np.inf))
    for step in (1, -1):
        i = top
        while sign[i] == POSITIVE:
            run[i] = POSITIVE
            i = (i + step) % len(sign)
        run[i] = sign[i]
    return run


def _spread(n):
    """Order range(n) by reversed bits.

    Neurons that are sorted by position, as along a grid, would cut off one strip after the other from a large face; in
    this order they halve it. Zeros at the end of the reversed bits do not change their order as text.
    """
    return np.array(sorted(range(n), key=lambda i: f"{i:b}"[::-1]))
