"""A square cut into convex faces, and how one more line cuts them.

Vertices are shared: the faces around a vertex hold the same index, so a sign is decided once for all of them and
neighbours cannot disagree. That is the idea of edge subdivision (Berzins 2023, arXiv 2306.07212), kept here together
with the faces, and with signs that may be 0.
"""

import numpy as np


class Mesh:
    """Convex faces that tile the square [-1, 1]^2.

    Attributes
    ----------
    points : array, shape=[n_vertices, 2]
        Vertices.
    corner : int array, shape=[n_corners]
        Vertices of all faces, face after face, each counter-clockwise.
    face : int array, shape=[n_corners]
        The face of each corner, sorted.
    cell : int array, shape=[n_faces]
        The face, at the last `restart`, that each face is a part of.
    snapped : int
        How often a value that is not 0 was taken for 0.
    """

    def __init__(self):
        self.points = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
        self.corner = np.arange(4)
        self.face = np.zeros(4, dtype=np.intp)
        self.snapped = 0
        # How far rounding may have moved a vertex: along the edge it was made on, by +- blur.
        self._blur = np.zeros((4, 2))
        self.restart()

    @property
    def n_faces(self):
        """Number of faces."""
        return len(self.cell)

    def restart(self):
        """Let today's faces be the cells on which the next functions are affine."""
        self.cell = np.arange(self.face[-1] + 1)
        # One cell around each vertex: any of them, since the functions are continuous.
        self._home = np.empty(len(self.points), dtype=np.intp)
        self._home[self.corner] = self.face

    def starts(self):
        """Position of each face's first corner, shape=[n_faces]."""
        return np.flatnonzero(np.diff(self.face, prepend=-1))

    def heads(self):
        """Vertex that follows each corner around its face, shape=[n_corners]."""
        starts = self.starts()
        heads = np.roll(self.corner, -1)
        heads[starts - 1] = self.corner[np.roll(starts, 1)]
        return heads

    def areas(self):
        """Area of each face, shape=[n_faces]."""
        anchor = self.points[self.corner[self.starts()]][self.face]
        p, q = self.points[self.corner] - anchor, self.points[self.heads()] - anchor
        return np.bincount(self.face, p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]) / 2

    def adjacent_faces(self):
        """Pairs of faces that share an edge, shape=[n_inner_edges, 2]."""
        edge = _edge_keys(self.corner, self.heads())
        order = np.argsort(edge, kind="stable")
        same = np.flatnonzero(np.diff(edge[order]) == 0)
        return self.face[order][np.stack([same, same + 1], axis=1)]

    def cut(self, function, noise):
        """Cut the faces by the zeros of a continuous function that is affine on each cell.

        A face is cut if the function is > 0 at one of its vertices and < 0 at another, beyond rounding.

        Parameters
        ----------
        function : array, shape=[3, n_cells]
            Slopes and offset: on cell c it is (x, y) -> function[0, c] x + function[1, c] y + function[2, c].
        noise : float
            Values up to this are rounding errors, and count as 0.

        Returns
        -------
        positive : bool array, shape=[n_faces]
            Whether the function is > 0 somewhere on each face, after the cuts.
        parents : int array
            The faces that were cut. Each keeps the side where the function is >= 0; the other sides are the last
            faces, in the same order.
        """
        value = self._values(function, noise)
        self._split_edges(value, noise)
        sign = np.zeros(len(self.points), dtype=np.int8)  # the new vertices lie on the line
        sign[: len(value)] = np.sign(value)
        return self._split_faces(sign[self.corner])

    def _values(self, function, noise):
        """Values at the vertices, 0 where they cannot be told from it."""
        slope_x, slope_y, offset = function[:, self._home]
        value = slope_x * self.points[:, 0] + slope_y * self.points[:, 1] + offset
        zero = np.abs(value) <= noise + np.abs(slope_x * self._blur[:, 0] + slope_y * self._blur[:, 1])
        self.snapped += np.count_nonzero(value[zero])
        value[zero] = 0
        return value

    def _split_edges(self, value, noise):
        """Put a vertex on every edge whose ends have opposite signs."""
        sign = np.sign(value).astype(np.int8)
        tails, heads = self.corner, self.heads()
        crossed = np.flatnonzero(sign[tails] * sign[heads] < 0)
        # Two faces know the edge, one in each direction: number edges, not sides.
        edges, first, edge = np.unique(
            _edge_keys(tails[crossed], heads[crossed]), return_index=True, return_inverse=True
        )
        a, b = edges >> 32, edges & 0xFFFFFFFF
        step = self.points[b] - self.points[a]
        drop = (value[a] - value[b])[:, None]
        new = len(self.points) + edge
        self.points = np.concatenate([self.points, self.points[a] + value[a][:, None] / drop * step])
        # A line that meets the edge at a small angle has a small drop along it: its crossing is uncertain.
        self._blur = np.concatenate([self._blur, noise / drop * step])
        self._home = np.concatenate([self._home, self.cell[self.face[crossed[first]]]])
        self.corner = np.insert(self.corner, crossed + 1, new)
        self.face = np.insert(self.face, crossed + 1, self.face[crossed])

    def _split_faces(self, sign):
        """Split the faces that have corners of both signs; corners of sign 0 go to both sides."""
        n = self.n_faces
        positive = np.bincount(self.face[sign > 0], minlength=n) > 0
        negative = np.bincount(self.face[sign < 0], minlength=n) > 0
        parents = np.flatnonzero(positive & negative)
        child = np.full(n, -1)
        child[parents] = n + np.arange(len(parents))
        child = child[self.face]
        stays, leaves = (child < 0) | (sign >= 0), (child >= 0) & (sign <= 0)
        self.corner = np.concatenate([self.corner[stays], self.corner[leaves]])
        self.face = np.concatenate([self.face[stays], child[leaves]])
        self.cell = np.concatenate([self.cell, self.cell[parents]])
        return np.concatenate([positive, np.zeros(len(parents), dtype=bool)]), parents


def _edge_keys(tails, heads):
    """One integer for each edge, whatever its direction: the smaller end, then the larger, 32 bits each."""
    return np.minimum(tails, heads) << 32 | np.maximum(tails, heads)
