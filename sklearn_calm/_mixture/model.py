"""The mixture model of patches, and the convolution layer that it is.

One patch per cell: the positions of an image are divided into cells, and each cell holds one patch
of the mixture at an unknown position, y_u ~ N(theta_k, sigma^2 I); all else is background, N(0,
sigma^2 I). Equation numbers are those of docs/mathematics.rst.
"""

from typing import NamedTuple

import numpy as np

from sklearn_calm._arrays.namespace import array_namespace, like, to_numpy
from sklearn_calm._convolution import fourier
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._convolution.patches import (
    centred,
    correlate,
    correlate_spectrum,
    view_patches,
)
from sklearn_calm._mixture.cells import Cells
from sklearn_calm._mixture.preprocessing import Preprocessing


class PatchModel(NamedTuple):
    """All of the model but its parameters."""

    geometry: PatchGeometry
    cells: Cells
    preprocessing: Preprocessing

    @property
    def counts_pixels(self):
        """Whether the likelihood is that of the image itself, each pixel counted once (eq. 9)."""
        return self.cells.n_cells == 1 and self.preprocessing.is_identity

    @property
    def n_values(self):
        """M of one image: how many values its likelihood counts."""
        if self.counts_pixels:
            return int(np.prod(self.geometry.padded_shape))
        return self.geometry.n_positions * self.geometry.patch_length

    def view(self, images, scratch=None, **options):
        """The normalised, not yet whitened patches of a batch."""
        floor = self.preprocessing.contrast_floor
        return view_patches(images, self.geometry, contrast_floor=floor, scratch=scratch, **options)


class MixtureParameters(NamedTuple):
    """theta_k in the space of normalised, not yet whitened patches; pi_k; sigma^2. All float64."""

    means: np.ndarray  # (K, D)
    weights: np.ndarray  # (K,)
    noise_variance: float


class ConvLayer(NamedTuple):
    """The log joint as a convolution layer: weights (K, D) and bias (K,)."""

    weight: np.ndarray
    bias: np.ndarray
    spectrum: np.ndarray | None = None  # of the weights, where they are applied by it

    def prepared(self, geometry, placement):
        """The layer where batches are worked on, as it is applied fastest."""
        weight, bias = placement.asarray(self.weight), placement.asarray(self.bias)
        by_spectrum = placement.is_numpy and fourier.pays(geometry, len(self.weight))
        return ConvLayer(weight, bias, fourier.spectrum(weight, geometry) if by_spectrum else None)

    def view(self, images, model, scratch=None):
        """The patches of a batch, as the layer takes them."""
        return model.view(images, scratch, striped=self.spectrum is None)


def conv_layer(parameters, model):
    """The convolution layer whose output is the log joint, of all k and u (eq. 13)."""
    means, weights, noise_variance = parameters
    mean, whitener = model.preprocessing.mean, model.preprocessing.whitener
    centres = model.preprocessing.whiten(means)
    kernels = centres / noise_variance
    with np.errstate(divide="ignore"):
        bias = np.log(weights) - np.square(centres).sum(axis=1) / (2 * noise_variance)
    bias -= np.log(model.geometry.n_positions / model.cells.n_cells)
    if whitener is not None:
        kernels = kernels @ whitener
        bias -= kernels @ mean
    if model.preprocessing.contrast_floor is not None:
        kernels = centred(kernels)
    return ConvLayer(kernels, bias)


def log_joint(patches, layer, scratch=None):
    """l(k, u), the log joint of components and positions against the background (eq. 2).

    Returns
    -------
    maps : ndarray of shape (rows, n, columns, K)
    """
    if layer.spectrum is not None:
        return correlate_spectrum(patches, layer.spectrum, layer.bias, scratch)
    return correlate(patches, layer.weight, layer.bias, scratch)


def energies(images, model):
    """Q of each image, the squares that its likelihood counts (eq. 14).

    Returns
    -------
    energies : ndarray of shape (n,)
        NumPy, float64.
    """
    xp = array_namespace(images)
    if model.counts_pixels:
        return to_numpy(xp.sum(images * images, axis=(1, 2, 3), dtype=xp.float64))
    return to_numpy(xp.sum(patch_energies(images, model), axis=(0, 2), dtype=xp.float64))


def patch_energies(images, model):
    """|y_u|^2 at every position: (rows, n, columns)."""
    mean, whitener = model.preprocessing.mean, model.preprocessing.whitener
    if whitener is None:
        return model.view(images, square_norm=True).square_norm
    kernels, bias = like(whitener, images), like(-(whitener @ mean), images)
    whitened = correlate(model.view(images), kernels, bias)
    return array_namespace(images).vecdot(whitened, whitened)
