"""Patches of images, seen through a convolution: geometry, stripes, correlation and its adjoint.

No matrix of patches is ever made. A batch of images is copied once into *stripes*: row (i, x) of
the stripes holds columns x .. x + width of every row of image i, so the patches of output row y are
a plain slice of its columns, which BLAS multiplies in place (docs/mathematics.rst, eq. 15). The
price is a copy that is `width` times the batch, instead of `height * width` times.
"""

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from sklearn_calm._scratch import Scratch

# Columns of box sums that are found by one product.
BAND_COLUMNS = 64


class PatchGeometry(NamedTuple):
    """Where the patches of an image lie; every pair is (vertical, horizontal)."""

    image_shape: tuple[int, int, int]
    patch_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def padded_shape(self):
        height, width, n_channels = self.image_shape
        return height + 2 * self.padding[0], width + 2 * self.padding[1], n_channels

    @property
    def map_shape(self):
        """Rows and columns of patch positions."""
        sides = zip(self.padded_shape, self.patch_size, self.stride, strict=False)
        return tuple((side - patch) // step + 1 for side, patch, step in sides)

    @property
    def n_positions(self):
        return self.map_shape[0] * self.map_shape[1]

    @property
    def patch_length(self):
        """D, the number of values in a patch."""
        return self.patch_size[0] * self.patch_size[1] * self.image_shape[2]

    @property
    def kernel_shape(self):
        return (*self.patch_size, self.image_shape[2])


class Patches(NamedTuple):
    """The patches of a batch of n images: a view of its stripes.

    A unit beside the values of each patch lets kernels carry their bias within the product. With
    contrast normalisation the patches x~ = (x - mean) / deviation (eq. 10) are seen `deviation`
    times as large, and so is their unit: kernels whose values add up to zero do not see the mean.
    """

    stripes: np.ndarray  # (n * columns, padded height * (patch width * channels + 1))
    geometry: PatchGeometry
    deviation: np.ndarray | None  # (rows, n, columns), or None for raw patches
    square_norm: np.ndarray | None  # (rows, n, columns), |x~_u|^2, where asked for

    @property
    def blocks(self):
        """Patches of each output row, a strided view (rows, n * columns, length): not to be copied.

        The unit is the last value of a patch's first row; its other rows end in a value that
        kernels multiply by zero.
        """
        n_rows = self.geometry.map_shape[0]
        row_length = self.stripes.shape[1] // self.geometry.padded_shape[0]
        step, item = self.stripes.strides
        row_step = self.geometry.stride[0] * row_length * item
        shape = (n_rows, len(self.stripes), self.geometry.patch_size[0] * row_length)
        return as_strided(self.stripes, shape, (row_step, step, item), writeable=False)


def view_patches(images, geometry, *, contrast_floor=None, square_norm=False, scratch=None):
    """Stripes of a batch, and the local moments that its normalisation needs.

    Parameters
    ----------
    images : ndarray of shape (n, padded height, padded width, channels), float
    geometry : PatchGeometry
    contrast_floor : float or None
        Added to the variance of a patch before the root (eq. 10); None leaves patches raw.
    square_norm : bool
        Whether to compute |x~_u|^2.
    scratch : Scratch or None
        Where the stripes go; they are then good until its next use in this thread.
    """
    scratch = Scratch() if scratch is None else scratch
    if contrast_floor is None:
        norms = box_sums(np.square(images), geometry) if square_norm else None
        return Patches(_stripes(images, geometry, None, scratch), geometry, None, norms)
    # A constant added to an image changes no normalised patch; taking the mean away first spares
    # float32 the difference of two large numbers.
    images = images - images.mean(axis=(1, 2, 3), keepdims=True)
    length = geometry.patch_length
    mean = box_sums(images, geometry) / length
    variance = np.maximum(box_sums(np.square(images), geometry) / length - mean * mean, 0)
    norms = length * variance / (variance + contrast_floor) if square_norm else None
    deviation = np.sqrt(variance + contrast_floor, dtype=images.dtype)
    return Patches(_stripes(images, geometry, deviation, scratch), geometry, deviation, norms)


def _stripes(images, geometry, unit, scratch):
    n, height, _, channels = images.shape
    (n_rows, n_columns), width = geometry.map_shape, geometry.patch_size[1]
    images = np.ascontiguousarray(images)
    image_step, row_step, pixel_step, item = images.strides
    shape = (n, n_columns, height, width * channels + 1)
    stripes = scratch.empty("stripes", shape, images.dtype)
    steps = (image_step, geometry.stride[1] * pixel_step, row_step, item)
    stripes[..., :-1] = as_strided(images, (*shape[:3], width * channels), steps, writeable=False)
    if unit is None:
        stripes[..., -1] = 1
    else:
        stripes[..., -1] = 0
        down = geometry.stride[0]
        stripes[:, :, : down * (n_rows - 1) + 1 : down, -1] = unit.transpose(1, 2, 0)
    return stripes.reshape(n * n_columns, -1)


def correlate(patches, kernels, bias=None, scratch=None):
    """Inner product of every patch with every kernel, and a bias: a convolution layer.

    Parameters
    ----------
    patches : Patches
    kernels : ndarray of shape (K, D)
    bias : ndarray of shape (K,) or None
    scratch : Scratch or None
        Where the maps go; they are then good until its next use in this thread.

    Returns
    -------
    maps : ndarray of shape (rows, n, columns, K)
        kernels[k] . x~_u + bias[k]; for normalised patches by eq. 11.
    """
    n_rows, n_columns = patches.geometry.map_shape
    scratch = Scratch() if scratch is None else scratch
    shape = (n_rows, len(patches.stripes), len(kernels))
    maps = scratch.empty("maps", shape, patches.stripes.dtype)
    rows = correlate_rows(patches, kernels, bias, maps)
    if patches.deviation is None:
        deque(rows, maxlen=0)
    else:
        # One output row after the other, while it is in the cache.
        for row, scale in zip(rows, 1 / patches.deviation.reshape(n_rows, -1, 1), strict=True):
            row *= scale
    return maps.reshape(n_rows, -1, n_columns, len(kernels))


def correlate_rows(patches, kernels, bias, rows):
    """The maps of `correlate` times the deviation, one output row after the other.

    Parameters
    ----------
    patches : Patches
    kernels : ndarray of shape (K, D)
    bias : ndarray of shape (K,) or None
    rows : iterable of ndarrays of shape (n * columns, K)
        Where each output row goes.

    Yields
    ------
    row : ndarray of shape (n * columns, K)
    """
    if patches.deviation is not None:
        kernels = centred(kernels)
    (height, _, _), n_components = patches.geometry.kernel_shape, len(kernels)
    # The product is up to twice as fast with the components along the rows in memory.
    columns = np.zeros((height, patches.blocks.shape[2] // height, n_components), kernels.dtype)
    columns[:, :-1] = kernels.T.reshape(height, -1, n_components)
    if bias is not None:
        columns[0, -1] = bias
    columns = columns.reshape(-1, n_components)
    for block, row in zip(patches.blocks, rows, strict=False):
        yield np.matmul(block, columns, out=row)


def correlate_adjoint(patches, maps, scale=None):
    """Sum of all patches, weighted by maps: the maps used as a convolution filter over the images.

    Parameters
    ----------
    patches : Patches
    maps : ndarray of shape (rows, n, columns, K)
    scale : ndarray of shape (rows, n, columns) or None
        What the maps are multiplied by at each position.

    Returns
    -------
    sums : ndarray of shape (K, D)
        sum_u scale[u] maps[k, u] x~_u.
    totals : ndarray of shape (K,)
        sum_u scale[u] maps[k, u]: with `sums` the adjoint of `correlate`.
    """
    n_components = maps.shape[-1]
    scale = _over_deviation(patches, scale)
    sums = np.zeros((n_components, patches.blocks.shape[2]), maps.dtype)
    product = np.empty_like(sums)
    scaled = None if scale is None else np.empty_like(maps[0])
    for y, (block, row) in enumerate(zip(patches.blocks, maps, strict=True)):
        if scale is not None:
            row = np.multiply(row, scale[y][..., None], out=scaled)
        sums += np.matmul(row.reshape(-1, n_components).T, block, out=product)
    return _without_unit(sums, patches)


def gather_adjoint(patches, positions, maps, scale=None):
    """`correlate_adjoint` for maps that are zero but at a few positions.

    Parameters
    ----------
    patches : Patches
    positions : tuple of two ndarrays of shape (m,)
        Output row, and row of the stripes, of each position.
    maps : ndarray of shape (m, K)
    scale : ndarray of shape (rows, n, columns) or None
    """
    blocks, (ys, rows) = patches.blocks, positions
    scale = _over_deviation(patches, scale)
    if scale is not None:
        scale = scale.reshape(len(blocks), -1)[ys, rows, None]
    sums = np.zeros((maps.shape[1], blocks.shape[2]), maps.dtype)
    product = np.empty_like(sums)
    # Copies of this many bytes stay inside the cache.
    step = max(16, 200_000 // (sums.itemsize * sums.shape[1]))
    for start in range(0, len(ys), step):
        part = slice(start, start + step)
        weights = maps[part] if scale is None else maps[part] * scale[part]
        sums += np.matmul(weights.T, blocks[ys[part], rows[part]], out=product)
    return _without_unit(sums, patches)


def _over_deviation(patches, scale):
    if patches.deviation is None:
        return scale
    return 1 / patches.deviation if scale is None else scale / patches.deviation


def _without_unit(sums, patches):
    """Sums of patches (K, D) and of their units (K,), out of sums of blocks."""
    n_components, height = len(sums), patches.geometry.patch_size[0]
    sums = sums.reshape(n_components, height, -1)
    values = sums[:, :, :-1].reshape(n_components, -1)
    return values if patches.deviation is None else centred(values), sums[:, 0, -1]


def centred(kernels):
    """Kernels (K, D) less the mean of each."""
    return kernels - kernels.mean(axis=1, keepdims=True)


def box_sums(images, geometry):
    """Sums of images (n, height, width, channels) over every patch: (rows, n, columns)."""
    n, _, width, channels = images.shape
    (n_rows, n_columns), (down, right) = geometry.map_shape, geometry.stride
    lines = images.reshape(n, -1, width * channels)
    tall = lines[:, : down * (n_rows - 1) + 1 : down].copy()
    for y in range(1, geometry.patch_size[0]):
        tall += lines[:, y : y + down * (n_rows - 1) + 1 : down]
    # Across, a product with a band of ones is faster than many sums of short rows.
    step, reach = right * channels, geometry.patch_size[1] * channels
    n_together = min(n_columns, BAND_COLUMNS)
    starts = step * np.arange(n_together)
    offsets = np.arange(starts[-1] + reach)[:, None] - starts
    band = ((offsets >= 0) & (offsets < reach)).astype(images.dtype)
    sums = np.empty((n * n_rows, n_columns), images.dtype)
    tall = tall.reshape(n * n_rows, -1)
    for left in range(0, n_columns, n_together):
        out = sums[:, left : left + n_together]
        m = out.shape[1]
        length = step * (m - 1) + reach
        np.matmul(tall[:, step * left : step * left + length], band[:length, :m], out=out)
    return sums.reshape(n, n_rows, n_columns).transpose(1, 0, 2)


def even_edges(length, parts):
    """Edges that cut range(length) into parts as even as possible."""
    return [part * length // parts for part in range(parts + 1)]
