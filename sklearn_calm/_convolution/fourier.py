"""Patches whose products are made by Fourier transforms, which are faster where kernels are large.

Transforms are made image by image, and for a few kernels at a time, so that the working set stays
in the cache (docs/mathematics.rst, eq. 25).
"""

import numpy as np
from scipy import fft

from sklearn_calm._arrays.namespace import contiguous, strided
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._convolution.geometry import slices
from sklearn_calm._convolution.moments import centred, deviations
from sklearn_calm._convolution.patches import COPIED_BYTES, SPARSE_BELOW, Patches

# Floating point operations that a product makes in the time in which an inverse transform makes one
# pixel of one kernel, and that a channel adds: measured with OpenBLAS and scipy.fft.
PIXEL_COST = 150
CHANNEL_COST = 115
# Transforms are chosen where they are this many times as fast, as they round a little worse ...
MIN_GAIN = 1.5
# ... and where the transforms of all kernels are no larger than this.
SPECTRUM_BYTES = 2**26
# Transforms of kernels that are worked on together.
BLOCK_BYTES = 2**20
# Copying positions out pays below this share of them, over how many times as fast as products
# transforms are.
FOURIER_SPARSE_BELOW = 1.4


class FourierPatches(Patches):
    """Patches that are never cut: their images are enough. NumPy only.

    Kernels of normalised patches must have values that add up to zero.
    """

    def __init__(self, images, geometry, *, contrast_floor=None, scratch=None):
        self.geometry = geometry
        self.scratch = Scratch() if scratch is None else scratch
        self.images, self.deviation = deviations(contiguous(images), geometry, contrast_floor)

    @staticmethod
    def prepared(kernels, geometry):
        return spectrum(kernels, geometry)

    @property
    def sparse_below(self):
        return min(SPARSE_BELOW, FOURIER_SPARSE_BELOW / gain(self.geometry))

    @property
    def windows(self):
        """Patches as views of the images: (n, rows, columns, *kernel_shape)."""
        (down, right), (row_gap, gap) = self.geometry.stride, self.geometry.dilation
        n, height, width, channels = self.images.shape
        row_step = width * channels
        shape = (n, *self.geometry.map_shape, *self.geometry.kernel_shape)
        steps = (down * row_step, right * channels, row_gap * row_step, gap * channels, 1)
        return strided(self.images, shape, (height * row_step, *steps))

    def correlate(self, kernels, bias):
        shape = self.geometry.maps_shape(len(self.images), len(kernels))
        maps = self.scratch.empty("maps", shape, self.images)
        correlate_spectrum(self.images, kernels, self.geometry, maps)
        if self.deviation is not None:
            maps /= self.deviation[..., None]
        maps += bias
        return maps

    def adjoint(self, maps, scale=None):
        totals = maps if scale is None else maps * scale[..., None]
        weights = totals if self.deviation is None else totals / self.deviation[..., None]
        sums = spectrum_adjoint(self.images, weights, self.geometry)
        return self._normalized(sums), totals.sum(axis=(0, 1, 2))

    def gather(self, positions, maps, scale=None):
        map_rows, lines = positions
        images, columns = np.divmod(lines, self.geometry.map_shape[1])
        totals = maps if scale is None else maps * scale[map_rows, images, columns, None]
        weights = totals
        if self.deviation is not None:
            weights = totals / self.deviation[map_rows, images, columns, None]
        sums = np.zeros((maps.shape[1], self.geometry.patch_length), maps.dtype)
        for part in slices(len(map_rows), max(16, COPIED_BYTES // sums[0].nbytes)):
            chosen = self.windows[images[part], map_rows[part], columns[part]]
            sums += weights[part].T @ chosen.reshape(len(chosen), -1)
        return self._normalized(sums), totals.sum(axis=0)

    def _normalized(self, sums):
        return sums if self.deviation is None else centred(sums)


def gain(geometry):
    """How many times as fast transforms are as the product of all patches with all kernels."""
    height, width = transform_shape(geometry)
    pixels = height * width * (PIXEL_COST + CHANNEL_COST * geometry.image_shape[2])
    return 2 * geometry.patch_length * geometry.n_positions / pixels


def pays(geometry, n_components):
    """Whether to choose transforms."""
    height, width = transform_shape(geometry)
    size = 8 * n_components * geometry.image_shape[2] * height * (width // 2 + 1)
    return size <= SPECTRUM_BYTES and gain(geometry) > MIN_GAIN


def transform_shape(geometry):
    """Rows and columns of the transform: those of the padded image, or a few more."""
    return tuple(fft.next_fast_len(side, real=True) for side in geometry.padded_shape[:2])


def spectrum(kernels, geometry):
    """Conjugate transform (K, channels, rows, columns) of kernels (K, D)."""
    kernels = kernels.reshape(len(kernels), *geometry.kernel_shape).transpose(0, 3, 1, 2)
    if geometry.dilation != (1, 1):
        spread = np.zeros((*kernels.shape[:2], *geometry.reach), kernels.dtype)
        spread[_taps(geometry)] = kernels
        kernels = spread
    return np.conj(fft.rfft2(kernels, s=transform_shape(geometry)))


def correlate_spectrum(images, kernels, geometry, maps):
    """Inner product of every raw patch with every kernel.

    Parameters
    ----------
    images : ndarray of shape (n, padded height, padded width, channels)
    kernels : ndarray of shape (K, channels, rows, columns)
        Transforms that `spectrum` returns.
    geometry : PatchGeometry
    maps : ndarray of shape (rows, n, columns, K)
        The products are written here.
    """
    (down, right), width = geometry.stride, transform_shape(geometry)[1]
    tall, wide = (down * geometry.map_shape[0], right * geometry.map_shape[1])
    for i, image in enumerate(images):
        transformed = _transform(image, geometry)
        for block in _cached_kernels(len(kernels), kernels[0].nbytes):
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
    for block in _cached_kernels(n_components, transformed[0].nbytes):
        spectrum = 0
        placed = np.zeros((len(sums[block]), *transform_shape(geometry)), maps.dtype)
        positions = placed[:, : down * n_rows : down, : right * n_columns : right]
        for i, image in enumerate(transformed):
            positions[...] = maps[:, i, :, block].transpose(2, 0, 1)
            spectrum += np.einsum("kij,cij->kcij", np.conj(fft.rfft2(placed)), image)
        product = fft.irfft2(spectrum, s=placed.shape[1:])
        sums[block] = product[_taps(geometry)]
    return sums.transpose(0, 2, 3, 1).reshape(n_components, -1)


def _taps(geometry):
    """Index of the pixels of a patch in the axes (..., rows, columns)."""
    sides = zip(geometry.reach, geometry.dilation, strict=True)
    return ..., *(slice(0, reach, gap) for reach, gap in sides)


def _transform(image, geometry):
    return fft.rfft2(image.transpose(2, 0, 1), s=transform_shape(geometry))


def _cached_kernels(n_components, nbytes):
    """Slices of kernels whose transforms, of `nbytes` each, fit the cache together."""
    return slices(n_components, max(1, BLOCK_BYTES // nbytes))
