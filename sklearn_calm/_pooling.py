"""From score maps to feature columns.

A map is cut into a grid of regions as even as possible, and each component is summed up over each
region (docs/mathematics.rst, eqs. 17 to 20).
"""

from itertools import pairwise

import numpy as np

from sklearn_calm._patches import even_edges


def pool(maps, pooling, pool_grid):
    """Pool maps over a grid of regions.

    Parameters
    ----------
    maps : ndarray of shape (rows, n, columns, K)
        Log joint of each component at each position; for "mean" its responsibility, for "triangle"
        its log joint less the mean of all components. Overwritten.
    pooling : {"logsumexp", "max", "mean", "triangle"}
    pool_grid : tuple of two int

    Returns
    -------
    features : ndarray of shape (n, grid rows * grid columns * K)
        Ordered by region, row first; the component runs fastest.
    """
    if pooling == "triangle":
        np.maximum(maps, 0, out=maps)
    reduce = {"logsumexp": _logsumexp, "max": _max}.get(pooling, _mean)
    row_edges, column_edges = (
        even_edges(length, parts) for length, parts in zip(maps.shape[::2], pool_grid, strict=True)
    )
    regions = [
        reduce(maps[top:bottom, :, left:right])
        for top, bottom in pairwise(row_edges)
        for left, right in pairwise(column_edges)
    ]
    return np.concatenate(regions, axis=1)


def _max(region):
    return region.max(axis=0).max(axis=1)


def _mean(region):
    return region.sum(axis=0).sum(axis=1) / (region.shape[0] * region.shape[2])


def _logsumexp(region):
    peak = _max(region)
    region -= peak[:, None]
    np.exp(region, out=region)
    return peak + np.log(region.sum(axis=0).sum(axis=1))
