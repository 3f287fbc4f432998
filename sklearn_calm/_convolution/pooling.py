"""From score maps to features: the poolings, one entry of a table each.

Each component of a map is reduced to one number per region of a grid, whose windows may overlap
(docs/mathematics.rst, eqs. 17 to 20, 27, 28 and 48). Tied kernels may be reduced to one feature of
their component as well (eqs. 35 and 36). To add a pooling, add an entry to `POOLINGS`, an
equation to the mathematics page and a literal twin to tests/_reference.py.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from sklearn_calm._arrays.namespace import (
    array_namespace,
    empty,
    exp_in_place,
    indices,
    like,
    matmul_into,
    minimum_into,
    numpy_dtype,
    rectify,
)
from sklearn_calm._convolution.geometry import slices
from sklearn_calm._convolution.observed import without_unused
from sklearn_calm._convolution.symmetry import Symmetry
from sklearn_calm._convolution.windows import LOG_ZERO, Windows, of_what_is_there

# Output rows that are added to the regions by one product: fewer take longer, more take memory.
ROWS_TOGETHER = 8
# Scores that are worked on at once. Shorter calls make threads wait for the interpreter.
BAND_BYTES = 2**20
# Weights below e^-44, or 1e-19, are less than the rounding error of any sum of weights.
LEAST_LOG_WEIGHT = -44.0

# The axes of maps in an ONNX graph: (n, K, rows, columns).
COMPONENT, ROW, COLUMN = 1, 2, 3


def _unfolded(layer):
    return layer


class Pooling(NamedTuple):
    """All that one pooling does.

    A layer is a named tuple with a `weight` (K, D), a `bias` (K,) and a `missing_weight` (K, D) or
    None.
    """

    # (maps, windows, used or None) -> features (n, regions * K). The thresholds of a pooling that
    # has some come last.
    reduce: Callable[..., Any]
    add_nodes: Callable[[Any, str, Windows], str]  # (nodes, maps, windows) -> pooled maps, in ONNX
    fold: Callable[[Any], Any] = _unfolded  # the layer whose maps are pooled
    # The positions over which maps become shares that add up to one; None leaves them as they are.
    shares: Literal["cell", "position"] | None = None
    # Whether only what is positive counts. Such maps are pooled row by row as they are computed.
    rectified: bool = False
    # Whether it counts positions whose scores lie above each of several thresholds.
    thresholded: bool = False
    # Whether positions may count in part, as in windows that are no boxes.
    weighted: bool = True
    # The window that "auto" stands for.
    auto_window: str = "gaussian"
    # How features of tied kernels are reduced to one of their component.
    over_symmetry: Literal["logsumexp", "max", "mean", "sum"] = "mean"
    # The function of two arrays that makes features of two parts of a map those of both.
    merge: Literal["add", "logaddexp", "maximum"] = "add"

    @property
    def is_mean(self):
        """Whether features are means of something over positions."""
        return self.rectified or self.thresholded or self.shares is not None

    def n_parts(self, n_thresholds, *, both):
        """Features of one kernel in one region: of each polarity, or above each threshold."""
        if self.thresholded:
            return n_thresholds
        return 2 if both else 1

    @property
    def of_nothing(self):
        """Feature of a region of which a part of a map holds nothing."""
        return 0.0 if self.merge == "add" else LOG_ZERO


class Pooler(NamedTuple):
    """A pooling, and the windows over which it reduces a map."""

    pooling: Pooling
    windows: Windows
    both: bool = False  # polarities: what is negative counts as well, in features of its own
    symmetry: Symmetry = Symmetry()  # of the regions and of the kernels
    # Whether tied kernels become one feature, with the regions transformed as the kernels are
    # ("image") or not ("region"); None keeps a feature for each.
    pool_symmetry: Literal["image", "region"] | None = None
    n_thresholds: int = 1
    # (n_thresholds, K), of a pooling that has some. What counts features needs none.
    thresholds: Any = None
    contrast: float = 0.0  # power of the contrast of a patch that scores are multiplied by

    @property
    def n_parts(self):
        """As of `Pooling`."""
        return self.pooling.n_parts(self.n_thresholds, both=self.both)

    def features_shape(self, n_kernels):
        """Shape of the features of one image: (grid rows, grid columns, channels)."""
        n_channels = n_kernels if self.pool_symmetry is None else n_kernels // self.symmetry.order
        n_channels *= self.n_parts
        return self.windows.log_rows.shape[0], self.windows.log_columns.shape[0], n_channels

    def part(self, rows, columns):
        """The same of some rows and columns of the map.

        It keeps tied kernels apart: they are pooled once the features of all parts are merged.
        """
        return self._replace(windows=self.windows.part(rows, columns), pool_symmetry=None)

    def n_features_of_kernels(self, n_kernels):
        """Number of features of one image before those of tied kernels are pooled."""
        return math.prod(self._replace(pool_symmetry=None).features_shape(n_kernels))

    def orbits(self, n_kernels):
        """Features of kernels that make a feature of a component: (transformations, features)."""
        n_regions = self.windows.log_rows.shape[0] * self.windows.log_columns.shape[0]
        order = self.symmetry.order
        shape = (n_regions, self.n_parts, n_kernels // order, order)
        features = np.arange(math.prod(shape)).reshape(shape)
        regions = np.tile(np.arange(n_regions), (order, 1))
        if self.pool_symmetry == "image":
            regions = self.symmetry.inverses
        return np.stack([features[regions[g], ..., g].ravel() for g in range(order)])


def pool(maps, pooler, used=None):
    """Pool maps over a grid of regions.

    Parameters
    ----------
    maps : ndarray of shape (rows, n, columns, K)
        Those of the folded layer, or their shares. Overwritten.
    pooler : Pooler
    used : ndarray of shape (rows, n, columns) or None
        0 at the positions that are left out, 1 at the others; None leaves out none. A region of
        which nothing is left has NaN.

    Returns
    -------
    features : ndarray of shape (n, grid rows * grid columns * K)
        Ordered by region, row first, and then by threshold, if there are any; the component runs
        fastest.
    """
    reduce, windows = pooler.pooling.reduce, pooler.windows
    if pooler.thresholds is None:
        return reduce(maps, windows, used)
    return reduce(maps, windows, used, pooler.thresholds)


def above_thresholds(maps, thresholds):
    """1 where maps (..., K) lie above each of the thresholds (T, K), 0 elsewhere: (..., T K)."""
    xp = array_namespace(maps)
    above = maps[..., None, :] > like(thresholds, maps)
    return xp.reshape(xp.astype(above, maps.dtype), (*maps.shape[:-1], -1))


def _groups_of_rows(n_rows):
    """Slices of the rows that are added to the regions together; the first is a longest."""
    n_groups = -(-n_rows // ROWS_TOGETHER)
    return slices(n_rows, -(-n_rows // n_groups))


def bands_of_rows(n_rows, row_bytes):
    """Bands of the rows of a map, as `pool_rectified` takes them: slices, the first a longest."""
    most = max(1, BAND_BYTES // row_bytes)
    return [
        slice(start, min(start + most, group.stop))
        for group in _groups_of_rows(n_rows)
        for start in range(group.start, group.stop, most)
    ]


def pool_rectified(bands, scale, pooler, used=None):
    """Mean of what is positive over each region of a grid (eq. 20), and of what is negative (29).

    Parameters
    ----------
    bands : iterable of ndarrays of shape (rows, n, columns, K)
        The maps of the folded layer, one band of rows after the other, none of them longer than
        the first: single rows, or `bands_of_rows`. Each is overwritten.
    scale : ndarray of shape (rows, n, columns)
        Positive factor by which the maps have yet to be multiplied.
    pooler : Pooler
    used : ndarray of shape (rows, n, columns) or None
        As `pool` takes it.

    Returns
    -------
    features : ndarray of shape (n, grid rows * grid columns * K)
        Ordered as those of `pool`. Of both polarities there are 2 K of each region, the positive
        ones of all components first.
    """
    bands, windows = _rectified(bands, pooler.both), pooler.windows
    if used is None:
        return _mean_of_bands(bands, scale, windows)
    return _of_used(_mean_of_bands(bands, scale * used, windows), windows, used)


def _shares(windows, used):
    """Weight of the positions used in each region, of all its weight: (n, regions)."""
    xp = array_namespace(used)
    rows, columns = (like(weights, used) for weights in windows.weights)
    across = xp.permute_dims(used @ columns.T, (1, 0, 2))  # (n, rows, grid columns)
    return xp.reshape(rows @ across, (used.shape[1], -1))


def _of_used(features, windows, used, divide=None):
    """Features of the positions used alone, of those of all; NaN where none is (eq. 43)."""
    xp, shares = array_namespace(features), _shares(windows, used)
    features = xp.reshape(features, (*shares.shape, -1))
    features = of_what_is_there(features, shares[..., None], divide)
    return xp.reshape(features, (features.shape[0], -1))


def _rectified(bands, both):
    """Bands as `_mean_of_bands` takes them: what is positive, and with `both` what is negative."""
    zeros = memory = None
    for band in bands:
        n_rows = band.shape[0]
        if zeros is None:
            zeros = array_namespace(band).zeros_like(band)
            memory = empty(band.shape, band) if both else None
        if both:
            negative = minimum_into(memory[:n_rows, ...], band, zeros[:n_rows, ...])
            yield (rectify(band, zeros[:n_rows, ...]), 1), (negative, -1)
        else:
            yield ((rectify(band, zeros[:n_rows, ...]), 1),)


def pool_symmetry(features, pooler, n_kernels):
    """Reduce features of tied kernels to those of their components (eqs. 35 and 36).

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
    pooler : Pooler
    n_kernels : int
    """
    if pooler.pool_symmetry is None or pooler.symmetry.order == 1:
        return features
    xp = array_namespace(features)
    tied = xp.stack(
        [
            xp.take(features, indices(columns, features), axis=1)
            for columns in pooler.orbits(n_kernels)
        ]
    )
    if pooler.pooling.over_symmetry == "logsumexp":
        return _log_sum(tied, axis=0)
    return getattr(xp, pooler.pooling.over_symmetry)(tied, axis=0)


def tied_maps(maps, order):
    """The log joint of components from that of their tied kernels: (..., K) of (..., K * order).

    The maps are overwritten.
    """
    if order == 1:
        return maps
    xp = array_namespace(maps)
    return _log_sum(xp.reshape(maps, (*maps.shape[:-1], -1, order)), axis=-1)


def less_mean(layer):
    """The layer whose maps are those of `layer` less the mean of all components (eq. 20)."""
    weight, bias = layer.weight, layer.bias
    layer = layer._replace(weight=weight - weight.mean(axis=0), bias=bias - bias.mean())
    missing = layer.missing_weight
    return (
        layer if missing is None else layer._replace(missing_weight=missing - missing.mean(axis=0))
    )


def tempered(layer):
    """The layer whose log joint is per value of a patch, not per patch (eq. 27)."""
    length = layer.weight.shape[1]
    layer = layer._replace(weight=layer.weight / length, bias=layer.bias / length)
    missing = layer.missing_weight
    return layer if missing is None else layer._replace(missing_weight=missing / length)


def _mean(maps, windows, used=None):
    """Weighted mean over each region, of whole maps."""
    xp, (n_rows, n, _, n_kernels) = array_namespace(maps), maps.shape
    row_weights, column_weights = (like(side, maps) for side in windows.weights)
    weights = column_weights if used is None else column_weights * used[:, :, None, :]
    across = xp.reshape(weights @ maps, (n_rows, -1))
    shape = row_weights.shape[0], n, column_weights.shape[0], n_kernels
    means = xp.permute_dims(xp.reshape(row_weights @ across, shape), (1, 0, 2, 3))
    means = xp.reshape(means, (n, -1))
    return means if used is None else _of_used(means, windows, used)


def _mean_of_bands(bands, scale, windows):
    """Weighted mean over each region.

    Parameters
    ----------
    bands : iterable of sequences of (ndarray of shape (rows, n, columns, K), sign)
        The parts of each band of rows of the maps: those of a region follow one another in the
        features.
    scale : ndarray of shape (rows, n, columns)
        What the maps have yet to be multiplied by.
    windows : Windows
    """
    xp, (n_rows, n, _) = array_namespace(scale), scale.shape
    row_weights, column_weights = (like(weights, scale) for weights in windows.weights)
    sums, bands = None, iter(bands)
    for group in _groups_of_rows(n_rows):
        y, top, bottom = group.start, group.start, group.stop
        while y < bottom:
            parts = next(bands)
            if sums is None:
                shape = (len(parts), n, column_weights.shape[0], parts[0][0].shape[3])
                sums_of_rows = empty((ROWS_TOGETHER, *shape), scale)
                shape = (row_weights.shape[0], math.prod(shape))
                sums = xp.zeros(shape, dtype=scale.dtype, device=scale.device)
            end = y + parts[0][0].shape[0]
            # One product scales the rows and adds up their columns.
            weights = column_weights * scale[y:end, :, None, :]
            for i, (part, sign) in enumerate(parts):
                matmul_into(sums_of_rows[y - top : end - top, i, ...], sign * weights, part)
            y = end
        # Most regions do not reach most rows.
        reached = np.flatnonzero(windows.log_rows[:, top:bottom].max(axis=1) > LEAST_LOG_WEIGHT)
        if not len(reached):
            continue
        regions = slice(int(reached[0]), int(reached[-1]) + 1)
        flat = xp.reshape(sums_of_rows[: bottom - top, ...], (bottom - top, -1))
        sums[regions, :] += row_weights[regions, top:bottom] @ flat
    sums = xp.reshape(sums, (sums.shape[0], *sums_of_rows.shape[1:]))
    return xp.reshape(xp.permute_dims(sums, (2, 0, 3, 1, 4)), (n, -1))


def _proportions(maps, windows, used, thresholds):
    """Weight of what lies above each threshold, in each region (eq. 48)."""
    xp, (n_rows, n, n_columns, n_kernels) = array_namespace(maps), maps.shape
    # Long rows compare in less than half the time of rows of n_kernels.
    thresholds = like(thresholds, maps)[:, None, :] + xp.zeros_like(maps[0, 0, :, :])
    # So few images at a time that what lies above a threshold stays in the cache.
    image_bytes = n_rows * n_columns * n_kernels * numpy_dtype(maps).itemsize
    features = []
    for images in slices(n, max(1, BAND_BYTES // image_bytes)):
        some, used_of_some = maps[:, images, :, :], None if used is None else used[:, images, :]
        parts = []
        for i in range(thresholds.shape[0]):
            above = xp.astype(some > thresholds[i, ...], maps.dtype)
            part = _mean(above, windows, used_of_some)
            parts.append(xp.reshape(part, (some.shape[1], -1, n_kernels)))
        features.append(xp.reshape(xp.stack(parts, axis=2), (some.shape[1], -1)))
    return xp.concat(features)


def _logsumexp(maps, windows, used=None):
    features = _logsumexp_of_all(without_unused(maps, used), windows)
    if used is None:
        return features
    log = array_namespace(features).log
    return _of_used(features, windows, used, lambda sums, shares: sums - log(shares))


def _logsumexp_of_all(maps, windows):
    if windows.edges is not None:
        return _over_boxes(_logsumexp_of_region, maps, windows.edges)
    xp, (log_rows, log_columns) = array_namespace(maps), windows.log_counts
    log_rows, log_columns = like(log_rows, maps), like(log_columns, maps)
    features = []
    for i in range(log_rows.shape[0]):
        columns = _log_sum(maps + log_rows[i, :, None, None, None], axis=0)
        for j in range(log_columns.shape[0]):
            features.append(_log_sum(columns + log_columns[j, :, None], axis=1))
    return xp.concat(features, axis=1)


def _log_sum(values, axis):
    """Logarithm of the sum of exponentials along an axis. The values are overwritten."""
    xp = array_namespace(values)
    peak = xp.max(values, axis=axis, keepdims=True)
    values -= peak
    return xp.squeeze(peak, axis=axis) + xp.log(xp.sum(exp_in_place(values), axis=axis))


def _max(maps, windows, used=None):
    features = _over_boxes(_max_of_region, without_unused(maps, used), windows.edges)
    if used is None:
        return features
    return _of_used(features, windows, used, lambda peaks, _: peaks)


def _over_boxes(reduce, maps, edges):
    row_edges, column_edges = edges
    reduced = [
        reduce(maps[top:bottom, :, left:right, :])
        if top < bottom and left < right
        else _nothing(maps)
        for top, bottom in pairwise(row_edges)
        for left, right in pairwise(column_edges)
    ]
    return array_namespace(maps).concat(reduced, axis=1)


def _nothing(maps):
    """Features (n, K) of a region that lies in another part of the map."""
    return array_namespace(maps).full_like(maps[0, :, 0, :], LOG_ZERO)


def _max_of_region(region):
    xp = array_namespace(region)
    return xp.max(xp.max(region, axis=0), axis=1)


def _logsumexp_of_region(region):
    xp, peak = array_namespace(region), _max_of_region(region)
    region -= peak[:, None, :]
    return peak + xp.log(xp.sum(xp.sum(exp_in_place(region), axis=0), axis=1))


def _add_means(nodes, maps, windows):
    """Weighted mean over each region, by a product over columns and one over rows."""
    for weights in reversed(windows.weights):
        maps = nodes("MatMul", maps, weights.T.astype(np.float32))
        maps = nodes("Transpose", maps, perm=[0, COMPONENT, COLUMN, ROW])
    return maps


def _add_logsumexps(nodes, maps, windows):
    if windows.edges is not None:
        return reduce_regions(nodes, "ReduceLogSumExp", maps, windows.edges)
    for log_counts in reversed(windows.log_counts):
        # (n, K, other axis, 1, side) + (parts, side)
        maps = nodes("Unsqueeze", maps, np.asarray([3], np.int64))
        maps = nodes("Add", maps, log_counts.astype(np.float32))
        maps = nodes("ReduceLogSumExp", maps, np.asarray([4], np.int64), keepdims=0)
        maps = nodes("Transpose", maps, perm=[0, COMPONENT, COLUMN, ROW])
    return maps


def _add_maxima(nodes, maps, windows):
    return reduce_regions(nodes, "ReduceMax", maps, windows.edges)


def reduce_regions(nodes, reduction, maps, edges):
    """Add nodes that reduce over each box of a grid, first its rows and then its columns."""
    for axis, cuts in zip((ROW, COLUMN), edges, strict=True):
        lengths = np.diff(cuts)
        if len(lengths) == 1:
            maps = nodes.reduce(reduction, maps, axis)
        elif lengths.max() > 1:
            parts = nodes.split(maps, lengths, axis)
            maps = nodes("Concat", *(nodes.reduce(reduction, p, axis) for p in parts), axis=axis)
    return maps


POOLINGS = {
    "logsumexp": Pooling(
        _logsumexp,
        _add_logsumexps,
        auto_window="box",
        over_symmetry="logsumexp",
        merge="logaddexp",
    ),
    "max": Pooling(
        _max,
        _add_maxima,
        weighted=False,
        auto_window="box",
        over_symmetry="max",
        merge="maximum",
    ),
    "mean": Pooling(_mean, _add_means, shares="cell", over_symmetry="sum"),
    "proportion": Pooling(_proportions, _add_means, thresholded=True),
    "tempered": Pooling(_mean, _add_means, fold=tempered, shares="position", over_symmetry="sum"),
    "triangle": Pooling(_mean, _add_means, fold=less_mean, rectified=True),
}
