"""From score maps to feature columns.

A map is cut into a grid of regions as even as possible, and each component is summed up over each
region (docs/mathematics.rst, eqs. 17 to 20).
"""

from itertools import islice, pairwise

from sklearn_calm._arrays.namespace import array_namespace, exp_in_place, rectify
from sklearn_calm._convolution.geometry import even_edges


def pool(maps, pooling, pool_grid):
    """Pool maps over a grid of regions.

    Parameters
    ----------
    maps : ndarray of shape (rows, n, columns, K)
        Log joint of each component at each position, for "mean" its responsibility. Overwritten.
    pooling : {"logsumexp", "max", "mean"}
    pool_grid : tuple of two int

    Returns
    -------
    features : ndarray of shape (n, grid rows * grid columns * K)
        Ordered by region, row first; the component runs fastest.
    """
    reduce = {"logsumexp": _logsumexp, "max": _max, "mean": _mean}[pooling]
    row_edges, column_edges = (
        even_edges(length, parts) for length, parts in zip(maps.shape[::2], pool_grid, strict=True)
    )
    regions = [
        reduce(maps[top:bottom, :, left:right, :])
        for top, bottom in pairwise(row_edges)
        for left, right in pairwise(column_edges)
    ]
    return array_namespace(maps).concat(regions, axis=1)


def pool_triangle(rows, scale, pool_grid):
    """Mean of what is positive over each region of a grid (eq. 20).

    Parameters
    ----------
    rows : iterable of ndarrays of shape (n * columns, K)
        Log joint of each component less the mean of all, one output row after the other. Each is
        overwritten.
    scale : ndarray of shape (rows, n, columns)
        What they have yet to be multiplied by, positive.
    pool_grid : tuple of two int

    Returns
    -------
    features : ndarray of shape (n, grid rows * grid columns * K)
        Ordered as those of `pool`.
    """
    xp, (n_rows, n, n_columns) = array_namespace(scale), scale.shape
    tops, lefts = even_edges(n_rows, pool_grid[0]), even_edges(n_columns, pool_grid[1])
    shape = (n_rows, n, pool_grid[1], n_columns)
    shares = xp.zeros(shape, dtype=scale.dtype, device=scale.device)
    for region, (left, right) in enumerate(pairwise(lefts)):
        shares[:, :, region, left:right] = scale[:, :, left:right] / (right - left)
    # One product scales and adds up a row.
    products = (
        shares[y, ...] @ xp.reshape(row, (n, n_columns, -1))
        for y, row in enumerate(_rectified(rows))
    )
    regions = [
        sum(islice(products, bottom - top)) / (bottom - top) for top, bottom in pairwise(tops)
    ]
    return xp.reshape(xp.stack(regions, axis=1), (n, -1))


def _rectified(rows):
    zeros = None
    for row in rows:
        zeros = array_namespace(row).zeros_like(row) if zeros is None else zeros
        yield rectify(row, zeros)


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
