"""Cells of positions: each holds one patch of the mixture (docs/mathematics.rst, eq. 1)."""

from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sklearn_calm._arrays.namespace import array_namespace, indices, sum_segments
from sklearn_calm._convolution.geometry import even_edges

# Share of a cell's mass that is lost in the rounding of its log joint anyway.
NEGLIGIBLE = {"float32": 1e-5, "float64": 1e-13}


class Cells(NamedTuple):
    """Cells of positions: a grid of edges; every position its own cell is the finest grid."""

    row_edges: list[int]
    column_edges: list[int]
    # Whether every position is a cell, also where there is one position only.
    of_positions: bool = False

    @classmethod
    def from_assignment(cls, assignment, map_shape):
        grid = {"image": (1, 1), "patch": map_shape}.get(assignment, assignment)
        edges = (even_edges(side, n) for side, n in zip(map_shape, grid, strict=True))
        return cls(*edges, of_positions=assignment == "patch")

    def part(self, rows):
        """Which rows of cells have positions in some rows of the map, and cells of these alone."""
        first = bisect_right(self.row_edges, rows.start) - 1
        last = bisect_left(self.row_edges, rows.stop)
        edges = np.clip(self.row_edges[first : last + 1], rows.start, rows.stop) - rows.start
        return slice(first, last), self._replace(row_edges=edges.tolist())

    @property
    def edges(self):
        return self.row_edges, self.column_edges

    @property
    def sizes(self):
        """Positions in each cell: (cell rows, cell columns)."""
        return np.outer(np.diff(self.row_edges), np.diff(self.column_edges))

    @property
    def n_cells(self):
        return (len(self.row_edges) - 1) * (len(self.column_edges) - 1)

    @property
    def largest(self):
        """Positions in the largest cell. Large images want no array of all sizes."""
        return int(np.diff(self.row_edges).max() * np.diff(self.column_edges).max())

    @property
    def log_uneven(self):
        """What its exact prior adds to the log normaliser of each cell (eq. 9): as `sizes`."""
        return np.log(self.sizes.mean() / self.sizes)

    def negligible_share(self, dtype):
        """Share of its cell's mass up to which a position is left out (eq. 16)."""
        return NEGLIGIBLE[dtype.name] / float(self.largest)

    def sums(self, values):
        """Sums of (rows, n, columns) over each cell: (cell rows, n, cell columns)."""
        return sum_segments(sum_segments(values, self.row_edges, 0), self.column_edges, 2)

    def peaks(self, maps):
        """Maximum over the components and positions of each cell: (cell rows, n, cell columns)."""
        xp = array_namespace(maps)
        if self.largest == 1:
            return xp.max(maps, axis=-1)
        # Whole output rows first: NumPy is slow at the maxima of short rows.
        rows = [xp.max(maps[top:bottom, ...], axis=0) for top, bottom in pairwise(self.row_edges)]
        tall = xp.stack(rows)
        cells = [tall[:, :, left:right, :] for left, right in pairwise(self.column_edges)]
        return xp.stack([xp.max(cell, axis=(2, 3)) for cell in cells], axis=2)

    def spread(self, values):
        """Give every position the value of its cell: the adjoint of a sum over cells."""
        if self.largest == 1:
            return values
        xp = array_namespace(values)
        for axis, edges in zip((0, 2), self.edges, strict=True):
            cells = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
            values = xp.take(values, indices(cells, values), axis=axis)
        return values
