"""From score maps to features: the poolings, one entry of a table each.

A map is divided into a grid of regions, and each component is reduced to one number per region
(docs/mathematics.rst, eqs. 17 to 20 and 27). To add a pooling, add an entry to `POOLINGS`, an
equation to the mathematics page and a literal twin to tests/_reference.py.
"""

from collections.abc import Callable
from itertools import islice, pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from sklearn_calm._arrays.namespace import array_namespace, exp_in_place, rectify
from sklearn_calm._convolution.geometry import even_edges

# The axes of maps in an ONNX graph: (n, K, rows, columns).
COMPONENT, ROW, COLUMN = 1, 2, 3


class Pooling(NamedTuple):
    """All that one pooling does.

    A layer is a named tuple with a `weight` (K, D) and a `bias` (K,). `regions` are the edges of
    the regions along the rows and along the columns of a map.
    """

    reduce: Callable[[Any, Any], Any]  # (maps, regions) -> features (n, regions * K)
    add_nodes: Callable[[Any, str, Any], str]  # (nodes, maps, regions) -> pooled maps, in ONNX
    fold: Callable[[Any], Any] = lambda layer: layer  # the layer whose maps are pooled
    # The positions over which maps become shares that add up to one; None leaves them as they are.
    shares: Literal["cell", "position"] | None = None
    # Whether only what is positive counts. Such maps are pooled row by row as they are computed.
    rectified: bool = False


class Pooler(NamedTuple):
    """A pooling, and the regions of the map that it is applied to."""

    pooling: Pooling
    regions: tuple[list[int], list[int]]

    @classmethod
    def from_grid(cls, pooling, grid, map_shape):
        """The pooler of a named pooling on a grid (rows, columns)."""
        row_edges, column_edges = map(even_edges, map_shape, grid)
        return cls(POOLINGS[pooling], (row_edges, column_edges))


def pool(maps, pooler):
    """Pool maps over a grid of regions.

    Parameters
    ----------
    maps : ndarray of shape (rows, n, columns, K)
        Those of the folded layer, or their shares. Overwritten.
    pooler : Pooler

    Returns
    -------
    features : ndarray of shape (n, grid rows * grid columns * K)
        Ordered by region, row first; the component runs fastest.
    """
    return pooler.pooling.reduce(maps, pooler.regions)


def pool_rectified(rows, scale, pooler):
    """Mean of what is positive over each region of a grid (eq. 20).

    Parameters
    ----------
    rows : iterable of ndarrays of shape (n * columns, K)
        The maps of the folded layer, one output row after the other. Each is overwritten.
    scale : ndarray of shape (rows, n, columns)
        Positive factor by which the maps have yet to be multiplied.
    pooler : Pooler

    Returns
    -------
    features : ndarray of shape (n, grid rows * grid columns * K)
        Ordered as those of `pool`.
    """
    xp, (n_rows, n, n_columns) = array_namespace(scale), scale.shape
    tops, lefts = pooler.regions
    shape = (n_rows, n, len(lefts) - 1, n_columns)
    shares = xp.zeros(shape, dtype=scale.dtype, device=scale.device)
    for region, (left, right) in enumerate(pairwise(lefts)):
        shares[:, :, region, left:right] = scale[:, :, left:right] / (right - left)
    # One product scales and adds up a row.
    products = (
        shares[y, ...] @ xp.reshape(row, (n, n_columns, -1))
        for y, row in enumerate(_rectified(rows))
    )
    means = [sum(islice(products, bottom - top)) / (bottom - top) for top, bottom in pairwise(tops)]
    return xp.reshape(xp.stack(means, axis=1), (n, -1))


def _rectified(rows):
    zeros = None
    for row in rows:
        zeros = array_namespace(row).zeros_like(row) if zeros is None else zeros
        yield rectify(row, zeros)


def less_mean(layer):
    """The layer whose maps are those of `layer` less the mean of all components (eq. 20)."""
    weight, bias = layer.weight, layer.bias
    return layer._replace(weight=weight - weight.mean(axis=0), bias=bias - bias.mean())


def tempered(layer):
    """The layer whose log joint is per value of a patch, not per patch (eq. 27)."""
    length = layer.weight.shape[1]
    return layer._replace(weight=layer.weight / length, bias=layer.bias / length)


def _over_regions(reduce):
    """The function that reduces maps by `reduce` of each region."""

    def over_regions(maps, regions):
        row_edges, column_edges = regions
        reduced = [
            reduce(maps[top:bottom, :, left:right, :])
            for top, bottom in pairwise(row_edges)
            for left, right in pairwise(column_edges)
        ]
        return array_namespace(maps).concat(reduced, axis=1)

    return over_regions


def _max(region):
    xp = array_namespace(region)
    return xp.max(xp.max(region, axis=0), axis=1)


def _sum(region):
    xp = array_namespace(region)
    return xp.sum(xp.sum(region, axis=0), axis=1)


def _mean(region):
    return _sum(region) / (region.shape[0] * region.shape[2])


def _logsumexp(region):
    peak = _max(region)
    region -= peak[:, None, :]
    return peak + array_namespace(region).log(_sum(exp_in_place(region)))


def _add_means(nodes, maps, regions):
    """Mean over each region, by a product over columns and one over rows."""
    for edges in reversed(regions):
        lengths = np.diff(edges)
        weights = np.repeat(np.diag(1 / lengths), lengths, axis=0).astype(np.float32)
        maps = nodes("MatMul", maps, weights)
        maps = nodes("Transpose", maps, perm=[0, COMPONENT, COLUMN, ROW])
    return maps


def _add_reductions(reduction):
    """The function that adds nodes of one ONNX reduction over each region."""
    return lambda nodes, maps, regions: reduce_regions(nodes, reduction, maps, regions)


def reduce_regions(nodes, reduction, maps, regions):
    """Add nodes that reduce over each region of a grid, first its rows and then its columns."""
    for axis, edges in zip((ROW, COLUMN), regions, strict=True):
        lengths = np.diff(edges)
        if len(lengths) == 1:
            maps = nodes.reduce(reduction, maps, axis)
        elif lengths.max() > 1:
            parts = nodes.split(maps, lengths, axis)
            maps = nodes("Concat", *(nodes.reduce(reduction, p, axis) for p in parts), axis=axis)
    return maps


POOLINGS = {
    "logsumexp": Pooling(_over_regions(_logsumexp), _add_reductions("ReduceLogSumExp")),
    "max": Pooling(_over_regions(_max), _add_reductions("ReduceMax")),
    "mean": Pooling(_over_regions(_mean), _add_means, shares="cell"),
    "tempered": Pooling(_over_regions(_mean), _add_means, fold=tempered, shares="position"),
    "triangle": Pooling(_over_regions(_mean), _add_means, fold=less_mean, rectified=True),
}
