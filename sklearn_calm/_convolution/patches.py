"""Patches of images, seen through a convolution: stripes, correlation and its adjoint.

No matrix of patches is ever made. A batch of images is copied once into *stripes*: row (i, x) of
the stripes holds columns x .. x + width of every row of image i, so the patches of output row y are
a plain slice of its columns, which BLAS multiplies in place (docs/mathematics.rst, eq. 15). The
price is a copy that is `width` times the batch, instead of `height * width` times. Where kernels
are large there are no stripes: Fourier transforms take the place of the products.
"""

from typing import NamedTuple

import numpy as np

from sklearn_calm._arrays.namespace import (
    array_namespace,
    contiguous,
    copied,
    empty,
    like,
    matmul_into,
    strided,
    take_at,
)
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._convolution import fourier
from sklearn_calm._convolution.geometry import PatchGeometry

# Columns of box sums that are found by one product.
BAND_COLUMNS = 64
# With fewer than this share of positions that matter, copying them out pays; with Fourier
# transforms it is the second, over how many times as fast as products they are.
SPARSE_BELOW = 0.75
FOURIER_SPARSE_BELOW = 1.4
# Copies of patches that stay inside the cache; and larger ones, where several threads would rather
# wait for memory than for the interpreter.
COPIED_BYTES = 200_000
TOGETHER_BYTES = 800_000
# An accelerator wants much work at a time.
DEVICE_BYTES = 2**26


class Patches(NamedTuple):
    """The patches of a batch of n images: a view of its stripes.

    Where the convolution goes by Fourier transforms the images are enough, and there are none.

    A unit beside the values of each patch lets kernels carry their bias within the product. With
    contrast normalisation the patches x~ = (x - mean) / deviation (eq. 10) are seen `deviation`
    times as large, and so is their unit: kernels whose values add up to zero do not see the mean.
    """

    images: np.ndarray  # (n, padded height, padded width, channels)
    geometry: PatchGeometry
    stripes: np.ndarray | None  # (n * columns, padded height * (patch width * channels + 1))
    deviation: np.ndarray | None  # (rows, n, columns), or None for raw patches
    square_norm: np.ndarray | None  # (rows, n, columns), |x~_u|^2, where asked for

    @property
    def blocks(self):
        """Patches of each output row, a strided view (rows, n * columns, length): not to be copied.

        The unit is the last value of a patch's first row; its other rows end in a value that
        kernels multiply by zero.
        """
        n_rows, (n, length) = self.geometry.map_shape[0], self.stripes.shape
        row_length = length // self.geometry.padded_shape[0]
        shape = (n_rows, n, self.geometry.patch_size[0] * row_length)
        return strided(self.stripes, shape, (self.geometry.stride[0] * row_length, length, 1))

    @property
    def windows(self):
        """Patches as views of the images: (n, rows, columns, *kernel_shape)."""
        (down, right), kernel_shape = self.geometry.stride, self.geometry.kernel_shape
        n, height, width, channels = self.images.shape
        row_step = width * channels
        shape = (n, *self.geometry.map_shape, *kernel_shape)
        steps = (down * row_step, right * channels, row_step, channels, 1)
        return strided(self.images, shape, (height * row_step, *steps))

    @property
    def sparse_below(self):
        """With fewer than this share of positions that matter, copying them out pays."""
        if self.stripes is not None:
            return SPARSE_BELOW
        return min(SPARSE_BELOW, FOURIER_SPARSE_BELOW / fourier.gain(self.geometry))


def view_patches(
    images, geometry, *, contrast_floor=None, square_norm=False, striped=True, scratch=None
):
    """Stripes of a batch, and the local moments that its normalisation needs.

    Parameters
    ----------
    images : ndarray of shape (n, padded height, padded width, channels), float
    geometry : PatchGeometry
    contrast_floor : float or None
        Added to the variance of a patch before the root (eq. 10); None leaves patches raw.
    square_norm : bool
        Whether to compute |x~_u|^2.
    striped : bool
        Whether to make stripes, which only `correlate_spectrum` does without.
    scratch : Scratch or None
        Where the stripes go; they are then good until its next use in this thread.
    """
    scratch = Scratch() if scratch is None else scratch
    xp, images = array_namespace(images), contiguous(images)
    deviation = norms = None
    length = geometry.patch_length
    if contrast_floor is not None:
        # A constant added to an image changes no normalised patch; taking the mean away first
        # spares float32 the difference of two large numbers.
        images = images - xp.mean(images, axis=(1, 2, 3), keepdims=True)
        mean = box_sums(images, geometry) / length
        variance = box_sums(images * images, geometry) / length - mean * mean
        variance = xp.clip(variance, 0.0, None)
        deviation = xp.sqrt(variance + contrast_floor)
        norms = length * variance / (variance + contrast_floor) if square_norm else None
    elif square_norm:
        norms = box_sums(images * images, geometry)
    stripes = _stripes(images, geometry, deviation, scratch) if striped else None
    return Patches(images, geometry, stripes, deviation, norms)


def _stripes(images, geometry, unit, scratch):
    n, height, _, channels = images.shape
    (n_rows, n_columns), width = geometry.map_shape, geometry.patch_size[1]
    row_step = images.shape[2] * channels
    shape = (n, n_columns, height, width * channels + 1)
    stripes = scratch.empty("stripes", shape, images)
    steps = (height * row_step, geometry.stride[1] * channels, row_step, 1)
    stripes[..., :-1] = strided(images, (*shape[:3], width * channels), steps)
    if unit is None:
        stripes[..., -1] = 1
    else:
        stripes[..., -1] = 0
        down = geometry.stride[0]
        units = array_namespace(images).permute_dims(unit, (1, 2, 0))
        stripes[:, :, : down * (n_rows - 1) + 1 : down, -1] = units
    return array_namespace(images).reshape(stripes, (n * n_columns, -1))


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
    shape = (n_rows, patches.images.shape[0], n_columns, kernels.shape[0])
    maps = scratch.empty("maps", shape, patches.images)
    rows = array_namespace(maps).reshape(maps, (n_rows, -1, kernels.shape[0]))
    if isinstance(maps, np.ndarray):
        np.matmul(patches.blocks, _with_unit(kernels, bias, patches), out=rows)
    else:  # others would copy the blocks of all rows to make one product
        blocks, columns = patches.blocks, _with_unit(kernels, bias, patches)
        for y in range(n_rows):
            matmul_into(rows[y, ...], blocks[y, ...], columns)
    if patches.deviation is not None:
        maps *= 1 / patches.deviation[..., None]
    return maps


def correlate_spectrum(patches, spectrum, bias, scratch=None):
    """`correlate` by Fourier transforms.

    Parameters
    ----------
    patches : Patches
    spectrum : ndarray of shape (K, channels, rows, columns)
        Of the kernels (see `fourier.spectrum`); for normalised patches the values of each kernel
        add up to zero.
    bias : ndarray of shape (K,)
    scratch : Scratch or None
    """
    n_rows, n_columns = patches.geometry.map_shape
    scratch = Scratch() if scratch is None else scratch
    shape = (n_rows, len(patches.images), n_columns, len(spectrum))
    maps = scratch.empty("maps", shape, patches.images)
    fourier.correlate_spectrum(patches.images, spectrum, patches.geometry, maps)
    if patches.deviation is not None:
        maps /= patches.deviation[..., None]
    maps += bias
    return maps


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
    columns, blocks = _with_unit(kernels, bias, patches), patches.blocks
    for y, row in zip(range(blocks.shape[0]), rows, strict=False):
        yield matmul_into(row, blocks[y, ...], columns)


def correlate_at(patches, positions, kernels, bias):
    """`correlate` at a few positions.

    Parameters
    ----------
    patches : Patches
        With stripes.
    positions : tuple of two ndarrays of shape (m,)
        Output row, and row of the stripes, of each position.
    kernels : ndarray of shape (K, D)
    bias : ndarray of shape (K,)

    Returns
    -------
    maps : ndarray of shape (m, K)
    """
    blocks, (ys, rows) = patches.blocks, positions
    columns = _with_unit(kernels, bias, patches)
    maps = np.empty((len(ys), len(kernels)), blocks.dtype)
    for part in _parts(len(ys), blocks[0, 0].nbytes, TOGETHER_BYTES):
        np.matmul(blocks[ys[part], rows[part]], columns, out=maps[part])
    if patches.deviation is not None:
        maps /= patches.deviation.reshape(len(blocks), -1)[ys, rows, None]
    return maps


def _with_unit(kernels, bias, patches):
    """Kernels for blocks, (length, K): their bias meets the unit of the patch."""
    if patches.deviation is not None:
        kernels = centred(kernels)
    height, width, n_channels = patches.geometry.kernel_shape
    xp, n_components = array_namespace(kernels), kernels.shape[0]
    # The product is up to twice as fast with the components along the rows in memory.
    columns = empty((height, width * n_channels + 1, n_components), kernels)
    columns[:, :-1, :] = xp.reshape(kernels.T, (height, -1, n_components))
    columns[:, -1, :] = 0
    if bias is not None:
        columns[0, -1, :] = bias
    return xp.reshape(columns, (-1, n_components))


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
    if patches.stripes is None:
        return _adjoint_by_spectrum(patches, maps, scale)
    scale, blocks = _over_deviation(patches, scale), patches.blocks
    product = empty((n_components, blocks.shape[2]), maps)
    sums = array_namespace(maps).zeros_like(product)
    scaled = None if scale is None else empty(maps.shape[1:], maps)
    for y in range(blocks.shape[0]):
        row = maps[y, ...]
        if scale is not None:
            scaled[...] = row
            scaled *= scale[y, ..., None]
            row = scaled
        row = array_namespace(maps).reshape(row, (-1, n_components))
        sums += matmul_into(product, row.T, blocks[y, ...])
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
    if patches.stripes is None:
        return _gather_windows(patches, positions, maps, scale)
    xp, blocks, (ys, rows) = array_namespace(maps), patches.blocks, positions
    scale = _over_deviation(patches, scale)
    if scale is not None:
        scale = take_at(xp.reshape(scale, (blocks.shape[0], -1, 1)), ys, rows)
    product = empty((maps.shape[1], blocks.shape[2]), maps)
    sums = xp.zeros_like(product)
    nbytes = 8 * blocks.shape[2]
    most = COPIED_BYTES if isinstance(maps, np.ndarray) else DEVICE_BYTES
    for part in _parts(maps.shape[0], nbytes, most):
        weights = maps[part, :] if scale is None else maps[part, :] * scale[part, :]
        sums += matmul_into(product, weights.T, take_at(blocks, ys[part], rows[part]))
    return _without_unit(sums, patches)


def _adjoint_by_spectrum(patches, maps, scale):
    totals = maps if scale is None else maps * scale[..., None]
    weights = totals if patches.deviation is None else totals / patches.deviation[..., None]
    sums = fourier.spectrum_adjoint(patches.images, weights, patches.geometry)
    sums = sums if patches.deviation is None else centred(sums)
    return sums, totals.sum(axis=(0, 1, 2))


def _gather_windows(patches, positions, maps, scale):
    ys, (images, xs) = positions[0], np.divmod(positions[1], patches.geometry.map_shape[1])
    totals = maps if scale is None else maps * scale[ys, images, xs, None]
    weights = totals
    if patches.deviation is not None:
        weights = totals / patches.deviation[ys, images, xs, None]
    sums = np.zeros((maps.shape[1], patches.geometry.patch_length), maps.dtype)
    for part in _parts(len(ys), sums[0].nbytes):
        chosen = patches.windows[images[part], ys[part], xs[part]]
        sums += weights[part].T @ chosen.reshape(len(chosen), -1)
    return sums if patches.deviation is None else centred(sums), totals.sum(axis=0)


def _parts(n, nbytes, most=COPIED_BYTES):
    """Slices of n patches, of which copies are no larger than `most`."""
    step = max(16, most // nbytes)
    return [slice(start, start + step) for start in range(0, n, step)]


def _over_deviation(patches, scale):
    if patches.deviation is None:
        return scale
    return 1 / patches.deviation if scale is None else scale / patches.deviation


def _without_unit(sums, patches):
    """Sums of patches (K, D) and of their units (K,), out of sums of blocks."""
    n_components, height = sums.shape[0], patches.geometry.patch_size[0]
    xp = array_namespace(sums)
    sums = xp.reshape(sums, (n_components, height, -1))
    values = xp.reshape(sums[:, :, :-1], (n_components, -1))
    return values if patches.deviation is None else centred(values), sums[:, 0, -1]


def centred(kernels):
    """Kernels (K, D) less the mean of each."""
    return kernels - array_namespace(kernels).mean(kernels, axis=1, keepdims=True)


def box_sums(images, geometry):
    """Sums of images (n, height, width, channels) over every patch: (rows, n, columns)."""
    n, _, width, channels = images.shape
    (n_rows, n_columns), (down, right) = geometry.map_shape, geometry.stride
    xp = array_namespace(images)
    lines = xp.reshape(images, (n, -1, width * channels))
    tall = copied(lines[:, : down * (n_rows - 1) + 1 : down, :])
    for y in range(1, geometry.patch_size[0]):
        tall += lines[:, y : y + down * (n_rows - 1) + 1 : down, :]
    # Across, a product with a band of ones is faster than many sums of short rows.
    step, reach = right * channels, geometry.patch_size[1] * channels
    n_together = min(n_columns, BAND_COLUMNS)
    starts = step * np.arange(n_together)
    offsets = np.arange(starts[-1] + reach)[:, None] - starts
    band = like((offsets >= 0) & (offsets < reach), images)
    sums = empty((n * n_rows, n_columns), images)
    tall = xp.reshape(tall, (n * n_rows, -1))
    for left in range(0, n_columns, n_together):
        out = sums[:, left : left + n_together]
        m = out.shape[1]
        length = step * (m - 1) + reach
        matmul_into(out, tall[:, step * left : step * left + length], band[:length, :m])
    return xp.permute_dims(xp.reshape(sums, (n, n_rows, n_columns)), (1, 0, 2))
