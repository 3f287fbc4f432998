"""Patches of which values are missing: what is there, what is filled in, which patches count.

Missing values are NaN in a batch of images. Equation numbers are those of docs/mathematics.rst.
"""

from typing import NamedTuple

import numpy as np

from sklearn_calm._arrays.namespace import (
    array_namespace,
    contiguous,
    empty,
    matmul_into,
    strided,
)
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._convolution.moments import box_sums
from sklearn_calm._convolution.patches import Patches
from sklearn_calm._convolution.windows import LOG_ZERO

# The weight of an observed value falls by this factor, e^-2, with each pixel of distance ...
FILL_DECAY = 2.0
# ... or by less where patches are so large that float32 would lose the smallest weights.
LARGEST_EXPONENT = 80.0


class Missing(NamedTuple):
    """What is done about missing values."""

    min_observed: float  # share of a patch that must be there for it to count
    fill: bool  # whether missing values are filled in, as whitening needs them


def has_missing(images):
    """Whether any value of a batch is NaN; all others are finite."""
    total = array_namespace(images).sum(images)
    return bool(total != total)


def filled(images, patch_size):
    """Images with their missing values replaced by a mean of the observed ones around (eq. 42).

    Each channel is filled by itself. Where nothing is near, the mean of the image stands in.
    """
    xp, seen = array_namespace(images), images == images
    values = xp.where(seen, images, xp.zeros_like(images))
    counts = xp.astype(seen, images.dtype)
    reach = [side - 1 for side in patch_size]
    decay = min(FILL_DECAY, LARGEST_EXPONENT / max(sum(reach), 1))
    sums, weights = (_smoothed(part, reach, decay) for part in (values, counts))
    near = weights > 0
    of_channel = _mean_of(values, counts, (1, 2))
    of_image = _mean_of(values, counts, (1, 2, 3))
    known = xp.sum(counts, axis=(1, 2), keepdims=True) > 0
    far = xp.where(known, of_channel, of_image)
    mean = xp.where(near, sums / xp.where(near, weights, xp.ones_like(weights)), far)
    return xp.where(seen, images, mean)


def _mean_of(values, counts, axes):
    xp = array_namespace(values)
    total = xp.sum(counts, axis=axes, keepdims=True)
    return xp.sum(values, axis=axes, keepdims=True) / xp.where(
        total > 0, total, xp.ones_like(total)
    )


def _smoothed(images, reach, decay):
    """Sums over rows and columns, with weights that fall exponentially with distance."""
    xp = array_namespace(images)
    for axis, most in enumerate(reach, start=1):
        sums, side = xp.asarray(images, copy=True), images.shape[axis]
        for distance in range(1, min(most, side - 1) + 1):
            before = (slice(None),) * axis
            first = (*before, slice(None, -distance), ...)
            last = (*before, slice(distance, None), ...)
            weight = float(np.exp(-decay * distance))
            sums[first] += weight * images[last]
            sums[last] += weight * images[first]
        images = sums
    return images


def used_positions(images, geometry, min_observed):
    """1 at the positions whose patches count, 0 at the others: (rows, n, columns)."""
    xp = array_namespace(images)
    counts = box_sums(contiguous(xp.astype(images == images, images.dtype)), geometry)
    least = max(min_observed * geometry.patch_length, 1) - 1e-3
    return xp.astype(counts >= least, images.dtype)


def without_unused(maps, used):
    """Maps (rows, n, columns, K), overwritten: `LOG_ZERO` at positions that do not count, if any.

    It is added to the score, of which nothing is left after rounding.
    """
    if used is not None:
        maps += (LOG_ZERO * (1 - used))[..., None]
    return maps


class ObservedPatches(Patches):
    """Patches with the marks of what was observed: 2 D values each, [x~, o] (eq. 40).

    The values of x~ that are missing are 0, and so are their marks. Contrast is normalised over
    the observed values of a patch. Patches are copied out, one row of the map at a time.
    """

    sparse_below = 0  # all positions are summed over
    deviation = None  # values are normalised already

    def __init__(self, images, geometry, *, contrast_floor=None, scratch=None, min_observed=0.0):
        xp = array_namespace(images)
        self.geometry = geometry
        self.contrast_floor = contrast_floor
        self.scratch = Scratch() if scratch is None else scratch
        self.used = used_positions(images, geometry, min_observed)
        seen = images == images
        self.images = contiguous(xp.where(seen, images, xp.zeros_like(images)))
        self.seen = contiguous(xp.astype(seen, images.dtype))

    @staticmethod
    def prepared(kernels, geometry):
        return kernels

    def contrasts(self):
        xp, (images, seen) = array_namespace(self.images), (self.images, self.seen)
        counts = box_sums(seen, self.geometry)
        counts = xp.where(counts > 0, counts, xp.ones_like(counts))
        means = _mean_of(images, seen, (1, 2, 3))
        images = (images - means) * seen  # for the precision of the difference below
        mean = box_sums(images, self.geometry) / counts
        variance = box_sums(images * images, self.geometry) / counts - mean * mean
        return xp.sqrt(xp.clip(variance, 0.0, None) + self.contrast_floor)

    def row(self, y):
        """Patches of one row of the map: (n * columns, 2 D)."""
        xp = array_namespace(self.images)
        values, seen = self._cut(self.images, y), self._cut(self.seen, y)
        if self.contrast_floor is not None:
            count = xp.sum(seen, axis=1, keepdims=True)
            count = xp.where(count > 0, count, xp.ones_like(count))
            values = (values - xp.sum(values, axis=1, keepdims=True) / count) * seen
            variance = xp.sum(values * values, axis=1, keepdims=True) / count
            values = values / xp.sqrt(variance + self.contrast_floor)
        return xp.concat([values, seen], axis=1)

    def correlate(self, kernels, bias):
        shape = self.geometry.maps_shape(self.images.shape[0], kernels.shape[0])
        maps = self.scratch.empty("maps", shape, self.images)
        for y, map_row in enumerate(self.correlate_rows(kernels, bias)):
            maps[y, ...] = map_row
        return maps

    def correlate_rows(self, kernels, bias):
        """The maps of `correlate`, one row after the other: (n, columns, K)."""
        n_rows, *shape = self.geometry.maps_shape(self.images.shape[0], kernels.shape[0])
        for y in range(n_rows):
            product = self.row(y) @ kernels.T + bias
            yield array_namespace(product).reshape(product, tuple(shape))

    def adjoint(self, maps, scale=None):
        """Sums (K, 2 D): of x~, and of the marks; and totals (K,)."""
        xp, n_components = array_namespace(maps), maps.shape[-1]
        product = empty((n_components, 2 * self.geometry.patch_length), maps)
        sums, totals = xp.zeros_like(product), xp.zeros_like(product[:, 0])
        for y in range(maps.shape[0]):
            map_row = maps[y, ...] if scale is None else maps[y, ...] * scale[y, ..., None]
            map_row = xp.reshape(map_row, (-1, n_components))
            sums += matmul_into(product, map_row.T, self.row(y))
            totals += xp.sum(map_row, axis=0)
        return sums, totals

    def moments(self):
        """|x~_u|^2 and the number of observed values, at every position: (rows, n, columns)."""
        xp, length = array_namespace(self.images), self.geometry.patch_length
        squares, counts = xp.zeros_like(self.used), xp.zeros_like(self.used)
        for y in range(squares.shape[0]):
            row = self.row(y)
            for out, part in ((squares, row[:, :length]), (counts, row[:, length:])):
                out[y, ...] = xp.reshape(xp.sum(part * part, axis=1), tuple(out.shape[1:]))
        return squares, counts

    def _cut(self, images, y):
        geometry, (n, _, width, channels) = self.geometry, images.shape
        (_, n_columns), (down, right) = geometry.map_shape, geometry.stride
        top, row_step = y * down, width * channels
        rows = contiguous(images[:, top : top + geometry.reach[0] : geometry.dilation[0], ...])
        shape = (n, n_columns, *geometry.kernel_shape)
        steps = (right * channels, row_step, geometry.dilation[1] * channels, 1)
        blocks = strided(rows, shape, (rows.shape[1] * row_step, *steps))
        return array_namespace(images).reshape(blocks, (n * n_columns, -1))


def own_means_filled(patches):
    """Patches (m, D) whose missing values are the mean of the others of the patch; NumPy."""
    missing = np.isnan(patches)
    if not missing.any():
        return patches
    return np.where(missing, np.nanmean(patches, axis=1, keepdims=True), patches)
