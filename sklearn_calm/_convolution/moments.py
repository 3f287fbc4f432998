"""Local moments of images: means and variances of every patch, without copying a patch out.

Equation numbers are those of docs/mathematics.rst.
"""

import numpy as np

from sklearn_calm._arrays.namespace import array_namespace, copied, empty, like, matmul_into

# Columns of box sums that one product computes.
BAND_COLUMNS = 64


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
