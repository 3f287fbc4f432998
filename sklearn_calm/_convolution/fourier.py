"""The convolution by Fourier transforms, which is faster where kernels are large.

Every function works image by image, and on a few kernels at a time, so that what it works on stays
in the cache (docs/mathematics.rst, eq. 25).
"""

import numpy as np
from scipy import fft

# Floating point operations that a product makes in the time in which an inverse transform makes one
# pixel of one kernel, and that a channel adds: measured with OpenBLAS and scipy.fft.
PIXEL_COST = 150
CHANNEL_COST = 115
# It is chosen where it is this many times as fast, as it rounds a little worse ...
MIN_GAIN = 1.5
# ... and the transforms of all kernels are no larger.
SPECTRUM_BYTES = 2**26
# Transforms of kernels that are worked on together.
BLOCK_BYTES = 2**20


def gain(geometry):
    """How many times as fast as the product of all patches with all kernels transforms are."""
    height, width = transform_shape(geometry)
    pixels = height * width * (PIXEL_COST + CHANNEL_COST * geometry.image_shape[2])
    return 2 * geometry.patch_length * geometry.n_positions / pixels


def pays(geometry, n_components):
    """Whether transforms are to be chosen."""
    height, width = transform_shape(geometry)
    size = 8 * n_components * geometry.image_shape[2] * height * (width // 2 + 1)
    return size <= SPECTRUM_BYTES and gain(geometry) > MIN_GAIN


def transform_shape(geometry):
    """Rows and columns of the transform: those of the padded image, or a few more."""
    return tuple(fft.next_fast_len(side, real=True) for side in geometry.padded_shape[:2])


def spectrum(kernels, geometry):
    """Conjugate transform (K, channels, rows, columns) of kernels (K, D)."""
    kernels = kernels.reshape(len(kernels), *geometry.kernel_shape).transpose(0, 3, 1, 2)
    return np.conj(fft.rfft2(kernels, s=transform_shape(geometry)))


def correlate_spectrum(images, kernels, geometry, maps):
    """Inner product of every raw patch with every kernel.

    Parameters
    ----------
    images : ndarray of shape (n, padded height, padded width, channels)
    kernels : ndarray of shape (K, channels, rows, columns)
        As `spectrum` gives them.
    geometry : PatchGeometry
    maps : ndarray of shape (rows, n, columns, K)
        Where the products go.
    """
    (down, right), width = geometry.stride, transform_shape(geometry)[1]
    tall, wide = (down * geometry.map_shape[0], right * geometry.map_shape[1])
    for i, image in enumerate(images):
        transformed = _transform(image, geometry)
        for block in _blocks(kernels):
            product = np.einsum("kcij,cij->kij", kernels[block], transformed)
            # Rows that are no positions are not transformed back.
            product = fft.ifft(product, axis=1, overwrite_x=True)[:, :tall:down]
            product = fft.irfft(product, n=width, axis=2)[:, :, :wide:right]
            maps[:, i, :, block] = product.transpose(1, 2, 0)


def spectrum_adjoint(images, maps, geometry):
    """Sums (K, D) of all raw patches, weighted by maps (rows, n, columns, K)."""
    (n_rows, n_columns), (down, right) = geometry.map_shape, geometry.stride
    (height, width, n_channels), n_components = geometry.kernel_shape, maps.shape[-1]
    sums = np.empty((n_components, n_channels, height, width), maps.dtype)
    transformed = np.stack([_transform(image, geometry) for image in images])
    for block in _blocks(sums, transformed[0].nbytes):
        spectrum = 0
        placed = np.zeros((len(sums[block]), *transform_shape(geometry)), maps.dtype)
        positions = placed[:, : down * n_rows : down, : right * n_columns : right]
        for i, image in enumerate(transformed):
            positions[...] = maps[:, i, :, block].transpose(2, 0, 1)
            spectrum += np.einsum("kij,cij->kcij", np.conj(fft.rfft2(placed)), image)
        product = fft.irfft2(spectrum, s=placed.shape[1:])
        sums[block] = product[:, :, :height, :width]
    return sums.transpose(0, 2, 3, 1).reshape(n_components, -1)


def _transform(image, geometry):
    return fft.rfft2(image.transpose(2, 0, 1), s=transform_shape(geometry))


def _blocks(kernels, nbytes=None):
    """Slices of kernels whose transforms fit the cache."""
    step = max(1, BLOCK_BYTES // (nbytes or kernels[0].nbytes))
    return [slice(start, start + step) for start in range(0, len(kernels), step)]
