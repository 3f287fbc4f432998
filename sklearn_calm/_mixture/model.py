"""The mixture model of patches, and the convolution layer that it is.

One patch per cell: the positions of an image are divided into cells, and each cell holds one patch
of the mixture at an unknown position, y_u ~ N(theta_k, sigma^2 I). All other patches are
background, N(0, sigma^2 I). Equation numbers are those of docs/mathematics.rst.
"""

from typing import NamedTuple

import numpy as np

from sklearn_calm._arrays.namespace import array_namespace, contiguous, like, to_numpy
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._convolution import fourier
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._convolution.moments import centred, square_norms
from sklearn_calm._convolution.observed import (
    ObservedPatches,
    filled,
    has_missing,
    used_positions,
)
from sklearn_calm._convolution.patches import Patches, StripedPatches
from sklearn_calm._convolution.symmetry import Symmetry
from sklearn_calm._mixture.cells import Cells
from sklearn_calm._mixture.preprocessing import Preprocessing


class PatchModel(NamedTuple):
    """The mixture model without its parameters."""

    geometry: PatchGeometry
    cells: Cells
    preprocessing: Preprocessing
    symmetry: Symmetry = Symmetry()  # of kernels
    # Share of a patch that must be there for it to count; None where no value can be missing.
    min_observed: float | None = None

    @property
    def counts_pixels(self):
        """Whether the likelihood is that of the image itself, each pixel counted once (eq. 9)."""
        one_cell = self.cells.n_cells == 1 and not self.cells.of_positions
        return one_cell and self.preprocessing.is_identity

    @property
    def n_values(self):
        """M of one image: how many values its likelihood counts."""
        if self.counts_pixels:
            return int(np.prod(self.geometry.padded_shape))
        return self.geometry.n_positions * self.geometry.patch_length

    def view(self, images, patch_type=StripedPatches, scratch=None):
        """The normalised, not yet whitened patches of a batch."""
        options = {"contrast_floor": self.preprocessing.contrast_floor, "scratch": scratch}
        if not self.misses_values(images):
            return patch_type(images, self.geometry, **options)
        if self.preprocessing.whitener is None:
            options["min_observed"] = self.min_observed
            return ObservedPatches(images, self.geometry, **options)
        whole = filled(images, self.geometry.reach)
        patches = patch_type(whole, self.geometry, **options)
        patches.used = used_positions(images, self.geometry, self.min_observed)
        return patches

    def misses_values(self, images):
        """Whether values of a batch are missing."""
        return self.min_observed is not None and has_missing(images)


class MixtureParameters(NamedTuple):
    """theta_k in the space of normalised, not yet whitened patches; pi_k; sigma^2. All float64."""

    means: np.ndarray  # (K, D)
    weights: np.ndarray  # (K,)
    noise_variance: float


class ConvLayer(NamedTuple):
    """The log joint as a convolution layer: weights (K, D) and bias (K,).

    Kernels that are tied are K for each transformation, those of a component together.
    """

    weight: np.ndarray
    bias: np.ndarray
    # What a missing value takes off each score: (K, D); None where missing values are filled in.
    missing_weight: np.ndarray | None = None

    def prepared(self, model, placement, scratch=None, patch_type=None):
        """The layer, ready to be applied to batches.

        Parameters
        ----------
        model : PatchModel
        placement : Placement
            Where batches are worked on, and in what precision.
        scratch : Scratch or None
            Memory for all batches; None takes new memory for each.
        patch_type : type of Patches or None
            None chooses the faster one.
        """
        if patch_type is None:
            transforms = placement.is_numpy and fourier.pays(model.geometry, len(self.weight))
            patch_type = fourier.FourierPatches if transforms else StripedPatches
        kernels = patch_type.prepared(placement.asarray(self.weight), model.geometry)
        bias, observed = placement.asarray(self.bias), None
        if model.min_observed is not None and self.missing_weight is not None:
            both = np.concatenate([self.weight, -self.missing_weight], axis=1)
            observed = (
                placement.asarray(both),
                placement.asarray(self.bias + self.missing_weight.sum(axis=1)),
            )
        return PreparedLayer(kernels, bias, patch_type, model, scratch, observed)


class PreparedLayer(NamedTuple):
    """A layer as it is applied to batches: with its kind of patches, its model and its memory."""

    kernels: np.ndarray  # K of them, as the patches take them
    bias: np.ndarray  # (K,)
    patch_type: type[Patches]
    model: PatchModel
    scratch: Scratch | None
    observed: tuple | None = None  # kernels (K, 2 D) and bias for `ObservedPatches` (eq. 40)

    def parts_for(self, patches):
        """Kernels and bias, as the patches take them."""
        if isinstance(patches, ObservedPatches):
            return self.observed
        return self.kernels, self.bias

    @property
    def is_striped(self):
        return self.patch_type is StripedPatches

    def view(self, images):
        """The patches of a batch."""
        return self.model.view(images, self.patch_type, self.scratch)


def conv_layer(parameters, model):
    """The convolution layer whose output is the log joint, of all k and u (eqs. 13, 34 and 37)."""
    means, weights, noise_variance = parameters
    mean, whitener = model.preprocessing.mean, model.preprocessing.whitener
    centres = model.preprocessing.whiten(means)
    kernels = centres / noise_variance
    with np.errstate(divide="ignore"):
        bias = np.log(weights) - np.square(centres).sum(axis=1) / (2 * noise_variance)
    bias -= np.log(model.geometry.n_positions / model.cells.n_cells)
    missing_weight = None
    if whitener is not None:
        kernels = kernels @ whitener
        bias -= kernels @ mean
    else:
        missing_weight = np.square(means) / (2 * noise_variance)
    if model.preprocessing.contrast_floor is not None:
        kernels = centred(kernels)
    # The preprocessing commutes with the transformations (eq. 33), so they may come last.
    bias = np.repeat(bias - np.log(model.symmetry.order), model.symmetry.order)
    if missing_weight is not None:  # squares have no sign
        missing_weight = np.abs(model.symmetry.expand(missing_weight))
    return ConvLayer(model.symmetry.expand(kernels), bias, missing_weight)


def log_joint(patches, layer):
    """l(k, u), the log joint of components and positions against the background (eq. 2).

    Parameters
    ----------
    patches : Patches
        Those that the layer views.
    layer : PreparedLayer

    Returns
    -------
    maps : ndarray of shape (rows, n, columns, K)
        In the memory of the patches.
    """
    return patches.correlate(*layer.parts_for(patches))


def log_joint_rows(patches, layer):
    """The same, one row of the map after the other, so that no maps are held.

    Parameters
    ----------
    patches : StripedPatches
    layer : PreparedLayer

    Yields
    ------
    map_row : ndarray of shape (1, n, columns, K)
        Overwritten by the next.
    """
    return normalized_rows(patches, layer.kernels, layer.bias)


def normalized_rows(patches, kernels, bias):
    """Rows of `StripedPatches.correlate`, (1, n, columns, K), each in the memory of the last."""
    for y, map_row in enumerate(patches.correlate_rows(kernels, bias)):
        if patches.deviation is not None:
            map_row *= 1 / patches.deviation[y, ..., None]
        yield map_row[None, ...]


def energies(images, model):
    """Q of each image, the sum of the squares that its likelihood counts (eq. 14).

    Returns
    -------
    energies : ndarray of shape (n,)
        NumPy, float64.
    """
    xp = array_namespace(images)
    if model.counts_pixels:
        if model.misses_values(images):
            images = xp.where(images == images, images, xp.zeros_like(images))
        return to_numpy(xp.sum(images * images, axis=(1, 2, 3), dtype=xp.float64))
    return to_numpy(xp.sum(patch_energies(images, model), axis=(0, 2), dtype=xp.float64))


def count_values(images, model):
    """M of each image, float64: how many of its values the likelihood counts (eq. 41)."""
    if not model.misses_values(images):
        return np.full(images.shape[0], float(model.n_values))
    xp = array_namespace(images)
    if model.counts_pixels:
        seen = xp.astype(images == images, xp.float64)
        return to_numpy(xp.sum(seen, axis=(1, 2, 3)))
    return to_numpy(xp.sum(patch_counts(images, model), axis=(0, 2), dtype=xp.float64))


def patch_counts(images, model):
    """Number of values that count at every position of images that miss some (eq. 41): as used."""
    patches = model.view(images)
    if isinstance(patches, ObservedPatches):
        return patches.used * patches.moments()[1]
    return patches.used * model.geometry.patch_length


def patch_energies(images, model):
    """|y_u|^2 at every position, 0 where a patch does not count: (rows, n, columns)."""
    mean, whitener = model.preprocessing.mean, model.preprocessing.whitener
    misses_values = model.misses_values(images)
    if whitener is None and misses_values:
        patches = model.view(images)
        return patches.used * patches.moments()[0]
    if whitener is None:
        floor = model.preprocessing.contrast_floor
        return square_norms(contiguous(images), model.geometry, floor)
    kernels, bias = like(whitener, images), like(-(whitener @ mean), images)
    patches = model.view(images)
    xp, map_rows = array_namespace(images), normalized_rows(patches, kernels, bias)
    squares = xp.concat([xp.vecdot(map_row, map_row) for map_row in map_rows])
    return squares if patches.used is None else patches.used * squares
