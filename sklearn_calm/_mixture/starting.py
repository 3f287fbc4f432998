"""What a fit starts from: a sample of patches, their preprocessing, and starting parameters.

All of it is found with one BLAS thread, so that a model is the same to the last bit for any number
of threads.
"""

from typing import NamedTuple

import numpy as np

from sklearn_calm._arrays.execution import single_threaded_blas
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._convolution.observed import own_means_filled
from sklearn_calm._convolution.symmetry import NO_SYMMETRY
from sklearn_calm._images.reader import Images
from sklearn_calm._images.source import ImageSource
from sklearn_calm._mixture.cells import Cells
from sklearn_calm._mixture.em import VARIANCE_FLOOR
from sklearn_calm._mixture.model import MixtureParameters, PatchModel
from sklearn_calm._mixture.preprocessing import (
    fit_preprocessing,
    normalize_contrast,
    working_precision,
)
from sklearn_calm._mixture.seeds import (
    PatchSample,
    distinct,
    least_square_distances,
    sample_patches,
    starting_means,
)

# Patches that seeds and preprocessing are taken from, where images and not patches are fitted.
SEED_PATCHES = 50_000
# Patches that the starting noise variance is taken from.
NOISE_PATCHES = 10_000


class Prepared(NamedTuple):
    """What EM is to fit.

    Where every position is a cell of its own, and there are more of them than a sample holds or
    images have several sizes, EM fits the sample: its normalised patches are then the images, of
    one position each.
    """

    images: ImageSource  # to fit
    model: PatchModel  # of the images to fit
    whole: PatchModel  # of the images given
    sample: PatchSample  # normalised, not yet whitened patches
    scale: float  # positions of an image given, for each position of an image to fit

    @property
    def cells_per_image(self):
        """Cells of an image given, as many as are fitted for it."""
        return self.model.cells.n_cells * self.scale


@single_threaded_blas()
def prepare(
    images,
    assignment,
    *,
    normalize,
    whiten,
    reg_covar,
    rng,
    preprocessing=None,
    symmetry=NO_SYMMETRY,
    max_patches=None,
):
    """Sample patches, and fit their preprocessing unless it is given.

    Where patches are fitted, there are `max_patches` of them at most.
    """
    sample = sample_patches(images, rng, max_patches if assignment == "patch" else SEED_PATCHES)
    precision = working_precision(
        own_means_filled(sample.patches), sample.weights, normalize=normalize
    )
    if precision != images.dtype:
        images = images.in_precision(precision)
        sample = sample._replace(patches=sample.patches.astype(precision))
    if images.several_sizes and sample.complete:
        # In an order of their own, so that the order of the images does not matter.
        sample = PatchSample(*distinct(sample.patches, sample.weights), complete=True)
    if preprocessing is None:
        preprocessing = fit_preprocessing(
            sample.patches,
            sample.weights,
            normalize=normalize,
            whiten=whiten,
            reg_covar=reg_covar,
            symmetry=symmetry,
        )
    missing = images.missing
    whole = patch_model(images.geometry, assignment, preprocessing, symmetry, missing)
    normalized = normalize_contrast(sample.patches, preprocessing.contrast_floor)
    sampled = sample._replace(patches=normalized)
    if assignment != "patch" or (sample.complete and not images.several_sizes):
        return Prepared(images, whole, whole, sampled, 1.0)
    geometry = PatchGeometry(whole.geometry.kernel_shape, whole.geometry.patch_size, (1, 1))
    raw = preprocessing._replace(contrast_floor=None)
    model = patch_model(geometry, assignment, raw, symmetry, missing)
    weights = sample.weights if sample.complete else None
    patches = Images(images.placement.asarray(normalized), geometry, weights, missing=missing)
    return Prepared(patches, model, whole, sampled, images.mean_positions)


def patch_model(geometry, assignment, preprocessing, symmetry=NO_SYMMETRY, missing=None):
    """The model of images of the geometry given, and with what may be missing of them."""
    cells = Cells.from_assignment(assignment, geometry.map_shape)
    least = missing and missing.min_observed
    return PatchModel(geometry, cells, preprocessing, symmetry, least)


@single_threaded_blas()
def start(sample, model, n_components, init, noise_variance, rng):
    """Parameters to start EM from.

    Parameters
    ----------
    sample : PatchSample
        Normalised, not yet whitened patches.
    model : PatchModel
    n_components : int
    init : str or ndarray of shape (K, D)
    noise_variance : float or "auto"
        "auto" estimates it from the sample. Where every position is its own cell, it is the mean
        square distance of a patch to the nearest starting mean; else the mean square of a patch,
        since most patches are background.
    rng : numpy.random.RandomState
    """
    sample = sample._replace(patches=own_means_filled(sample.patches))
    means = starting_means(init, sample, model.preprocessing, n_components, rng, model.symmetry)
    if noise_variance == "auto":
        noise_variance = _starting_noise(means, sample, model, rng)
    return MixtureParameters(means, np.full(n_components, 1 / n_components), noise_variance)


def _starting_noise(means, sample, model, rng):
    chosen = slice(None)
    if len(sample.patches) > NOISE_PATCHES:
        chosen = rng.choice(len(sample.patches), NOISE_PATCHES, replace=False)
    points = model.preprocessing.whiten(sample.patches[chosen].astype(np.float64))
    squares = np.square(points).mean(axis=1)
    errors = squares
    if model.cells.n_cells == model.geometry.n_positions:
        centres = model.preprocessing.whiten(model.symmetry.expand(means))
        errors = least_square_distances(points, centres) / points.shape[1]
    return start_variance(errors, squares, sample.weights[chosen])


def start_variance(errors, squares, weights):
    """Weighted mean of errors, kept above rounding errors; 1 where all data are zero."""
    square = np.average(squares, weights=weights)
    return max(np.average(errors, weights=weights), VARIANCE_FLOOR * square) if square > 0 else 1.0
