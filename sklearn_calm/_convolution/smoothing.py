"""Smooth windows around pixels: maps pooled by a Gaussian about each of many positions.

The windows are separable, and those of neighbours overlap. So the means of a block of positions are
a product with a band of weights along the columns, and one along the rows (docs/mathematics.rst,
eq. 30).
"""

import math
from typing import NamedTuple

import numpy as np

from sklearn_calm._arrays.namespace import array_namespace, empty, like
from sklearn_calm._convolution.windows import of_what_is_there

# Radius of a window, in units of its standard deviation.
TRUNCATE = 4
# Positions whose windows one product computes: more meet more zeros of the band.
TOGETHER = 64


class Band(NamedTuple):
    """The windows of some centres along one side."""

    centres: slice  # which of the centres
    positions: slice  # that they reach
    weights: np.ndarray  # (centres, positions); those of a window sum to one


def radius(width):
    """Number of positions on each side of its centre that a window of a width reaches."""
    return math.ceil(TRUNCATE * width)


def bands(centres, side, width):
    """Windows of a standard deviation about centres, which ascend, along a side."""
    reach, start, found = radius(width), 0, []
    while start < len(centres):
        stop = int(np.searchsorted(centres, centres[start] + TOGETHER))
        together = centres[start:stop]
        first, last = max(together[0] - reach, 0), min(together[-1] + reach + 1, side)
        distances = np.abs(np.arange(first, last) - together[:, None])
        found.append(Band(slice(start, stop), slice(first, last), _weights(distances, width)))
        start = stop
    return found


def _weights(distances, width):
    if width == 0:
        return (distances == 0).astype(float)
    with np.errstate(over="ignore"):
        weights = np.exp(-np.square(distances / width) / 2)
    weights[distances > radius(width)] = 0
    return weights / weights.sum(axis=1, keepdims=True)


def smoothed_used(maps, used, rows, columns, width):
    """`smoothed` over the positions that are used alone (eq. 43); NaN where there is none.

    Parameters
    ----------
    maps : ndarray of shape (n_rows, n_columns, K)
    used : ndarray of shape (n_rows, n_columns)
        1 at the positions that are used, 0 at the others.
    """
    used = used[..., None]
    means, shares = (smoothed(part, rows, columns, width) for part in (maps * used, used))
    return of_what_is_there(means, shares)


def smoothed(maps, rows, columns, width):
    """Means of maps over the windows about all positions of some rows and columns (eq. 30).

    Parameters
    ----------
    maps : ndarray of shape (n_rows, n_columns, K)
    rows, columns : ndarray of int
        In ascending order.
    width : float
        Standard deviation of the windows; 0 gives the values of the maps.

    Returns
    -------
    means : ndarray of shape (len(rows), len(columns), K)
    """
    xp, (n_rows, n_columns, n_channels) = array_namespace(maps), maps.shape
    wide = empty((n_rows, len(columns), n_channels), maps)
    for band in bands(columns, n_columns, width):
        wide[:, band.centres, :] = like(band.weights, maps) @ maps[:, band.positions, :]
    wide = xp.reshape(wide, (n_rows, -1))
    means = empty((len(rows), wide.shape[1]), maps)
    for band in bands(rows, n_rows, width):
        means[band.centres, :] = like(band.weights, maps) @ wide[band.positions, :]
    return xp.reshape(means, (len(rows), len(columns), n_channels))
