"""Local moments of images, without copying a patch out: of every patch, and of regions of a grid.

Equation numbers are those of docs/mathematics.rst.
"""

import numpy as np

from sklearn_calm._arrays.namespace import array_namespace, copied, empty, like, matmul_into
from sklearn_calm._convolution.windows import of_what_is_there

# Columns of box sums that one product computes.
BAND_COLUMNS = 64
# A variance of less than this share of the mean square is a rounding error of float64.
LEAST_VARIANCE = 1e-13


def centred(kernels):
    """Kernels (K, D) less the mean of each."""
    return kernels - array_namespace(kernels).mean(kernels, axis=1, keepdims=True)


def deviations(images, geometry, contrast_floor):
    """Deviation of every patch, as contrast normalisation divides by it (eq. 10).

    Parameters
    ----------
    images : ndarray of shape (n, padded height, padded width, channels)
    geometry : PatchGeometry
    contrast_floor : float or None
        Added to the variance of a patch before the square root; None leaves patches as they are.

    Returns
    -------
    images : ndarray of shape (n, padded height, padded width, channels)
        Less the mean of each image, which changes no normalised patch.
    deviation : ndarray of shape (rows, n, columns), or None without normalisation
    """
    if contrast_floor is None:
        return images, None
    images, variance = _variances(images, geometry)
    return images, array_namespace(images).sqrt(variance + contrast_floor)


def square_norms(images, geometry, contrast_floor):
    """|x~_u|^2 of every patch, normalised if there is a floor: (rows, n, columns)."""
    if contrast_floor is None:
        return box_sums(images * images, geometry)
    _, variance = _variances(images, geometry)
    return geometry.patch_length * variance / (variance + contrast_floor)


def _variances(images, geometry):
    """Images less the mean of each, and the variance of every patch."""
    xp, length = array_namespace(images), geometry.patch_length
    # Without the mean, float32 is spared the difference of two large numbers.
    images = images - xp.mean(images, axis=(1, 2, 3), keepdims=True)
    mean = box_sums(images, geometry) / length
    variance = box_sums(images * images, geometry) / length - mean * mean
    return images, xp.clip(variance, 0.0, None)


def box_sums(images, geometry):
    """Sums of images (n, height, width, channels) over every patch: (rows, n, columns)."""
    n, _, width, channels = images.shape
    (n_rows, n_columns), (down, right) = geometry.map_shape, geometry.stride
    xp = array_namespace(images)
    image_rows = xp.reshape(images, (n, -1, width * channels))
    tall = copied(image_rows[:, : down * (n_rows - 1) + 1 : down, :])
    for y in range(geometry.dilation[0], geometry.reach[0], geometry.dilation[0]):
        tall += image_rows[:, y : y + down * (n_rows - 1) + 1 : down, :]
    if geometry.dilation[1] > 1:
        tall = xp.sum(xp.reshape(tall, (n, n_rows, width, channels)), axis=3)
        return xp.permute_dims(_dilated_sums(tall, geometry), (1, 0, 2))
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


def _dilated_sums(rows, geometry):
    """Sums across of every dilation-th value of rows (n, rows, width): (n, rows, columns)."""
    n_columns, right = geometry.map_shape[1], geometry.stride[1]
    starts = range(0, geometry.reach[1], geometry.dilation[1])
    first, *others = (rows[:, :, x : x + right * (n_columns - 1) + 1 : right] for x in starts)
    sums = copied(first)
    for values in others:
        sums += values
    return sums


def centre_of(images):
    """Mean of the values of each channel that are there, which are not NaN: (n, 1, 1, channels).

    0 where nothing is there.
    """
    xp = array_namespace(images)
    there = images == images
    sums = xp.sum(xp.where(there, images, xp.zeros_like(images)), axis=(1, 2), keepdims=True)
    counts = xp.sum(xp.astype(there, images.dtype), axis=(1, 2), keepdims=True)
    return sums / xp.clip(counts, 1.0, None)


def region_sums(images, weights):
    """Weighted sums over each region, which add up over parts of the images.

    Parameters
    ----------
    images : ndarray of shape (n, height, width, channels)
        float64, less what `centre_of` gives of them; NaN where a value is missing.
    weights : tuple of ndarrays of shape (grid rows, height), (grid columns, width)
        Those of `Windows`.

    Returns
    -------
    sums : ndarray of shape (3, n, grid rows, grid columns, channels)
        Of ones, values and squares.
    """
    xp, (n, height, width, n_channels) = array_namespace(images), images.shape
    rows, columns = (like(side, images) for side in weights)
    there = images == images
    values = xp.where(there, images, xp.zeros_like(images))
    powers = xp.stack([xp.astype(there, images.dtype), values, values * values])
    sums = rows @ xp.reshape(powers, (3, n, height, width * n_channels))
    # Along the last axis, as one product: there are few channels, and many stacks.
    sums = xp.permute_dims(xp.reshape(sums, (3, n, -1, width, n_channels)), (0, 1, 2, 4, 3))
    sums = xp.reshape(xp.reshape(sums, (-1, width)) @ columns.T, (*sums.shape[:-1], -1))
    return xp.permute_dims(sums, (0, 1, 2, 4, 3))


def region_moments(sums, centre):
    """Mean and deviation of each region (eq. 44): (n, grid rows, grid columns, 2, channels).

    NaN where nothing is there.

    Parameters
    ----------
    sums : ndarray of shape (3, n, grid rows, grid columns, channels)
        Those of `region_sums`.
    centre : ndarray of shape (n, 1, 1, channels)
        What was taken off the images.
    """
    xp = array_namespace(sums)
    mean, square = (of_what_is_there(part, sums[0, ...]) for part in (sums[1, ...], sums[2, ...]))
    variance = square - mean * mean
    # Or constant regions would have a tiny deviation, which a scaler makes large.
    variance = xp.where(variance < LEAST_VARIANCE * square, xp.zeros_like(variance), variance)
    return xp.stack([mean + centre, xp.sqrt(variance)], axis=3)
