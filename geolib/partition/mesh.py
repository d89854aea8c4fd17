"""A square cut into convex faces, and how the lines of a whole layer cut them.

Each face is cut by itself, by the lines that cross it, one after the other; many faces take their next line at once.
So a face is compared only with the lines around it, and the time is that of the faces made. Neighbours still fit
together: the lines that cross an edge cross the faces on both of its sides, and in the same order, so the face that
comes second finds the vertex that the first one made. To cut at edges is the idea of Berzins (2023, arXiv
2306.07212); here the faces come along, and signs may be 0.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Lines that are compared with their faces at once: enough to be fast, few enough for the cache.
BATCH = 1 << 15

# Signs, as bits: a line crosses a face if the signs at its corners add up to both.
ZERO, POSITIVE, NEGATIVE, BOTH = np.arange(4, dtype=np.int8)


class Mesh:
    """Convex faces that tile the square [-1, 1]^2.

    Edge e is two half-edges, 2 e and 2 e + 1, of opposite directions; a face is a loop of half-edges. Half-edge h
    goes from vertex ends[h] to vertex ends[h ^ 1].

    Attributes
    ----------
    vertices : array, shape=[n_vertices, 4]
        x, y, and how far rounding may have moved the vertex: along the edge it was made on, by +- (blur x, blur y).
    ends : int array, shape=[2 n_edges]
        The vertex where each half-edge begins.
    loop : int array, shape=[n_corners]
        Half-edges of all faces, face after face, each counter-clockwise.
    size : int array, shape=[n_faces]
        Number of corners of each face.
    snapped : int
        How many values, of a function at a vertex, were taken for 0 without being computed as 0.
    zeros : list of int arrays, shape=[n, 2]
        For each layer, the values that were computed as 0, by rounding perhaps: vertex and neuron.
    limit : int
        The most faces there may be.
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

    Faces are numbered as they are made: first the faces of the mesh, which are the cells on which the functions are
    affine, then what is cut off from them. A *line* is the zeros of one function on one cell.
    """

    def __init__(self, mesh, width):
        self._mesh = mesh
        self._order = _spread(width)
        self._vertices, self._ends = _Table(mesh.vertices), _Table(mesh.ends)
        # What became of an edge: the first of its two parts, and the neuron that cut it.
        self._parts = _Table(np.full((len(mesh.ends) // 2, 2), -1))
        self._n_faces = mesh.n_faces
        self._corners = np.append(0, np.cumsum(mesh.size))
        self._done, self._signs, self._steps = [], [], []
        self._snapped, self._zeros = ([np.zeros(0, dtype=np.intp)] for _ in range(2))

    def cut(self, cells, maps):
        """Cut some of the cells by the zeros of functions that are affine on each.

        A face is cut if a function is > 0 at one of its corners and < 0 at another, beyond rounding.

        Parameters
        ----------
        cells : slice
            Which cells. Each cell is cut once, and they come in order.
        maps : array, shape=[4, n_cells, width]
            Slopes, offset and error: (x, y) -> maps[0, c, i] x + maps[1, c, i] y + maps[2, c, i], where values up to
            maps[3, c, i] are rounding errors, and count as 0.
        """
        size = self._mesh.size[cells]
        loop = self._mesh.loop[self._corners[cells.start] : self._corners[cells.stop]]
        positive, near = self._compare_boxes(loop, size, maps)
        self._signs.append(positive)
        cell, neuron = np.nonzero(near[:, self._order])
        neuron = self._order[neuron]
        lines = _Lines(neuron, maps[:, cell, neuron])
        n_lines = np.bincount(cell, minlength=len(size))
        todo = [_Faces(np.arange(cells.start, cells.stop), loop, size, np.arange(len(cell)), n_lines)]
        while todo:
            faces = todo.pop()
            if len(faces.line) > BATCH and len(faces.id) > 1:
                todo += faces.halves()
                continue
            faces = self._cut_once(faces, lines)
            if len(faces.id):
                todo.append(faces)

    def finish(self):
        """Replace the mesh's faces by those made, in the order of their cells.

        Returns
        -------
        cell : int array, shape=[n_faces]
            The cell that each face is a part of, sorted.
        signs : Signs
            Where the functions are > 0.
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
        # Forget the edges that were cut.
        used = np.zeros(len(self._ends.rows) // 2, dtype=bool)
        used[loop >> 1] = True
        mesh.loop, mesh.size = 2 * (np.cumsum(used) - 1)[loop >> 1] + (loop & 1), size
        mesh.vertices, mesh.ends = self._vertices.rows.copy(), self._ends.rows[np.repeat(used, 2)]
        mesh.snapped += len(np.unique(np.concatenate(self._snapped)))
        mesh.zeros.append(np.stack(divmod(np.unique(np.concatenate(self._zeros)), len(self._order)), axis=1))
        return cell[face[order]], Signs(np.concatenate(self._signs), self._steps, place)

    def _compare_boxes(self, loop, size, maps):
        """Compare functions with 0 on a box around each cell: which are > 0, and which may have both signs."""
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

    def _compare(self, faces, lines):
        """Compare the lines of some faces with all corners of their face.

        Returns
        -------
        owner, n : int array, shape=[n_lines]
            Which of the faces a line belongs to, and that face's number of corners.
        value, sign : array, shape=[sum of n]
            The function at these corners, one line after the other.
        """
        owner = np.repeat(np.arange(len(faces.id)), faces.n_lines)
        n = faces.size[owner]
        corner = _ranges(_starts(faces.size)[owner], n)
        tail = self._ends.rows[faces.loop]
        value, sign = lines.compare(faces.line, n, self._vertices.rows.take(tail, axis=0).take(corner, axis=0))
        zero = np.flatnonzero(sign == ZERO)
        if len(zero):
            line = faces.line[np.searchsorted(np.cumsum(n), zero, side="right")]
            names = tail[corner[zero]] * len(self._order) + lines.neuron[line]
            self._snapped.append(np.unique(names[value[zero] != 0]))
            self._zeros.append(np.unique(names[(value[zero] == 0) & (lines.noise[line] > 0)]))
        return owner, n, value, sign

    def _cut_once(self, faces, lines):
        """Cut each face by the first line that crosses it; return the parts, with the lines that are left."""
        owner, n, value, sign = self._compare(faces, lines)
        starts = _starts(n)
        signs = np.bitwise_or.reduceat(sign, starts) if len(n) else sign
        above, crossing = np.flatnonzero(signs == POSITIVE), np.flatnonzero(signs == BOTH)
        is_first = np.ones(len(crossing), dtype=bool)
        is_first[1:] = owner[crossing[1:]] != owner[crossing[:-1]]
        first, later = crossing[is_first], crossing[~is_first]
        parent = owner[first]
        neuron = lines.neuron[faces.line[first]]
        self._steps.append((faces.id[owner[above]], lines.neuron[faces.line[above]], faces.id[parent], neuron))
        is_cut = np.zeros(len(faces.id), dtype=bool)
        is_cut[parent] = True
        whole = np.repeat(~is_cut, faces.size)
        self._done.append((faces.id[~is_cut], faces.loop[whole], faces.size[~is_cut]))
        new = self._n_faces + np.arange(len(first))
        self._n_faces += len(first)
        if self._n_faces > self._mesh.limit:
            limit = self._mesh.limit
            raise ValueError(f"plane_partition: limit is {limit}, but there are more regions; pass a larger limit")
        at = _ranges(starts[first], n[first])
        loops, sizes = self._split(
            faces.loop[~whole], n[first], value[at], sign[at], neuron, lines.noise[faces.line[first]]
        )
        n_lines = np.bincount(owner[later], minlength=len(faces.id))[parent]
        return _Faces(
            np.concatenate([faces.id[parent], new]),
            np.concatenate(loops),
            np.concatenate(sizes),
            np.concatenate([faces.line[later]] * 2),
            np.concatenate([n_lines] * 2),
        )

    def _split(self, loop, size, value, sign, neuron, noise):
        """Split faces, each by one line; their sides where it is >= 0, and where it is <= 0.

        Given are the faces' half-edges; the line's values and signs where these begin; and for each face the line's
        neuron and noise.
        """
        face, first, end = np.repeat(np.arange(len(size)), size), _starts(size), np.cumsum(size)
        following = np.arange(1, len(loop) + 1)
        following[end - 1] = first
        # A line meets the border of a face in two points. Rounding errors can make it look otherwise.
        meets = np.bincount(face, (sign == ZERO) | (sign | sign[following] == BOTH))
        for i in np.flatnonzero(meets != 2):
            sign[first[i] : end[i]] = _one_run(value[first[i] : end[i]], sign[first[i] : end[i]])
        # An edge whose ends have opposite signs is cut in two; the vertex between has sign 0.
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
        # A new edge for each face, from where the positive side ends to where it begins.
        leaves = np.flatnonzero((sign == ZERO) & (next_sign == NEGATIVE))
        enters = np.flatnonzero((sign == ZERO) & (next_sign == POSITIVE))
        edge = len(self._parts.rows) + np.arange(len(size))
        begin, end = np.empty_like(edge), np.empty_like(edge)
        begin[face[leaves]] = self._ends.rows[loop[leaves]]
        end[face[enters]] = self._ends.rows[loop[enters]]
        self._add_edges(begin, end)
        positive, negative = loop.copy(), loop
        positive[leaves], negative[enters] = 2 * edge[face[leaves]], 2 * edge[face[enters]] + 1
        loops, sizes = [], []
        for side, other in ((positive, NEGATIVE), (negative, POSITIVE)):
            loops.append(side[sign != other])
            sizes.append(np.bincount(face[sign != other], minlength=len(size)))
        return loops, sizes

    def _cut_edges(self, half, value, next_value, neuron, noise):
        """Cut half-edges where a line, with these values at both ends, crosses them; return the two parts of each."""
        edge, part = half >> 1, np.empty_like(half)
        todo = np.arange(len(half))
        while len(todo):
            new = todo[self._parts.rows[edge[todo], 1] != neuron[todo]]
            # Both faces of an edge may ask for the same vertex: who writes last, makes it.
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
        """Put a vertex on each edge, and note the parts."""
        start, end = self._vertices.rows[self._ends.rows[[half, half ^ 1]], :2]
        # A line that meets the edge at a small angle has a small drop along it: its crossing is uncertain.
        along = np.stack([value, noise]) / (value - next_value)
        shift, blur = along[:, :, None] * (end - start)
        vertex = len(self._vertices.rows) + np.arange(len(half))
        self._vertices.extend(np.concatenate([start + shift, blur], axis=1))
        edge = half >> 1
        self._parts.rows[edge, 0] = len(self._parts.rows) + 2 * np.arange(len(half))
        self._parts.rows[edge, 1] = neuron
        self._add_edges(self._ends.rows[2 * edge], vertex, vertex, self._ends.rows[2 * edge + 1])

    def _add_edges(self, *ends):
        """Add edges, one or more for each index, given by where they begin and end."""
        self._ends.extend(np.stack(ends, axis=1).ravel())
        self._parts.extend(np.full((len(ends) // 2 * len(ends[0]), 2), -1))


class Signs:
    """Where the functions of a layer are > 0: until one asks, the steps of the cuts, a few numbers for each face."""

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
    """Some faces, and the lines that may cross them: n_lines for each, in the order in which they cut."""

    id: np.ndarray
    loop: np.ndarray
    size: np.ndarray
    line: np.ndarray
    n_lines: np.ndarray

    def halves(self):
        """Two parts that have about half of the lines each."""
        lines = np.cumsum(self.n_lines)
        middle = min(max(1, np.searchsorted(lines, lines[-1] / 2)), len(self.id) - 1)
        corners = self.size[:middle].sum()
        cuts = (middle, corners, middle, lines[middle - 1], middle)
        arrays = (self.id, self.loop, self.size, self.line, self.n_lines)
        return (
            _Faces(*(array[:cut] for array, cut in zip(arrays, cuts, strict=True))),
            _Faces(*(array[cut:] for array, cut in zip(arrays, cuts, strict=True))),
        )


class _Lines:
    """Functions, each on one cell: their neuron, and their slopes, offset and noise, shape=[4, n_lines]."""

    def __init__(self, neuron, functions):
        self.neuron, self.noise = neuron, functions[3]
        self._functions = np.ascontiguousarray(functions.T)

    def compare(self, line, n, vertices):
        """Values and signs of lines at n vertices each."""
        x, y, blur_x, blur_y = vertices.T
        slope_x, slope_y, offset, noise = np.repeat(self._functions.take(line, axis=0), n, axis=0).T
        value = slope_x * x + slope_y * y + offset
        noise = noise + np.abs(slope_x * blur_x + slope_y * blur_y)
        return value, (value > noise) * POSITIVE + (value < -noise) * NEGATIVE


class _Table:
    """Rows that grow in number, in place most of the time."""

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
    """Where each run starts, of runs that follow one another."""
    return np.cumsum(size) - size


def _ranges(start, n):
    """Concatenate the ranges from each start, n long."""
    return np.arange(n.sum()) + np.repeat(start - _starts(n), n)


def _one_run(value, sign):
    """Signs around a face, changed so that the positive corners follow one another, and the negative ones."""
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

    Neurons sorted by where they cut, as along a grid, would cut off one strip after the other; like this, they halve.
    """
    numbers = np.arange(n)
    bits = np.arange(max(n - 1, 1).bit_length())
    return np.argsort((numbers[:, None] >> bits & 1) @ (1 << bits[::-1]), kind="stable")
