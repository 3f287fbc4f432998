"""The windows of a grid of regions: how much each position of a map counts in each region.

Windows are separable: the weight of a position is that of its row times that of its column
(docs/mathematics.rst, eq. 28). To add a window, add a function of one side to `WINDOWS`.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sklearn_calm._arrays.namespace import array_namespace
from sklearn_calm._convolution.geometry import even_edges

# Stands for the logarithm of 0 where infinities would become NaN.
LOG_ZERO = -1e30
# A window with less than this share of its weight at what is there has nothing.
LEAST_SHARE = 1e-18


class Windows(NamedTuple):
    """Windows of all regions of a grid (rows, columns).

    The logarithms of the weights along each axis, float64; the weights of a region sum to one.
    """

    log_rows: np.ndarray  # (grid rows, map rows)
    log_columns: np.ndarray  # (grid columns, map columns)
    edges: tuple[list[int], list[int]] | None  # of boxes, along both axes
    counts: tuple[float, float]  # mean number of positions in a region, along both axes

    @classmethod
    def from_grid(cls, window, width, grid, map_shape):
        """Windows by name; the width of "gaussian" is in units of the size of a region."""
        sides = list(zip(map_shape, grid, strict=True))
        log_rows, log_columns = (WINDOWS[window](side, parts, width) for side, parts in sides)
        edges = tuple(even_edges(side, parts) for side, parts in sides)
        counts = tuple(side / parts for side, parts in sides)
        return cls(log_rows, log_columns, edges if window == "box" else None, counts)

    def part(self, rows, columns):
        """The same windows over some rows and columns of the map: features of parts add up."""
        parts = rows, columns
        logs = (
            np.maximum(log_weights[:, part], LOG_ZERO)
            for log_weights, part in zip((self.log_rows, self.log_columns), parts, strict=True)
        )
        edges = self.edges and tuple(
            (np.clip(cuts, part.start, part.stop) - part.start).tolist()
            for cuts, part in zip(self.edges, parts, strict=True)
        )
        return Windows(*logs, edges, self.counts)

    @property
    def weights(self):
        """Weights along the rows and along the columns of the map."""
        return np.exp(self.log_rows), np.exp(self.log_columns)

    @property
    def log_counts(self):
        """Logarithms of weights that sum to the mean number of positions in a region."""
        return tuple(
            log_weights + math.log(count)
            for log_weights, count in zip(
                (self.log_rows, self.log_columns), self.counts, strict=True
            )
        )


def log_box(side, parts, width):
    """Logarithms of even weights within each of the parts of a side: (parts, side)."""
    log_weights = np.full((parts, side), -np.inf)
    for part, (start, stop) in enumerate(pairwise(even_edges(side, parts))):
        log_weights[part, start:stop] = -math.log(stop - start)
    return log_weights


def log_gaussian(side, parts, width):
    """Logarithms of Gaussian weights about the middle of each part of a side: (parts, side)."""
    centres = (np.arange(parts) + 0.5) * side / parts - 0.5
    distances = np.abs(np.arange(side) - centres[:, None])
    nearest = distances.min(axis=1, keepdims=True)
    deviation = width * side / parts
    # The difference of the squares, so that the nearest position counts however narrow the window.
    with np.errstate(over="ignore"):
        exponents = (distances - nearest) / deviation * ((distances + nearest) / deviation) / 2
    return -exponents - np.log(np.exp(-exponents).sum(axis=1, keepdims=True))


WINDOWS = {"box": log_box, "gaussian": log_gaussian}


def of_what_is_there(features, shares, divide=None):
    """Features over windows, of what is there alone; NaN where nothing is (eq. 43).

    Parameters
    ----------
    features : ndarray
        Of all positions, those that are not there as zeros.
    shares : ndarray that broadcasts to the shape of the features
        Weight of what is there in each window, of all its weight.
    divide : callable or None
        How to take the shares out; None divides by them.
    """
    xp, there = array_namespace(features), shares > LEAST_SHARE
    shares = xp.where(there, shares, xp.ones_like(shares))
    features = features / shares if divide is None else divide(features, shares)
    return xp.where(there, features, xp.full_like(features, math.nan))
