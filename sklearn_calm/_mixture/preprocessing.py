"""Contrast normalisation and whitening of patches, as maps that fold into a convolution.

Both are fitted on a sample of patches. Patches and `conv_layer` then apply them without copying a
patch out (docs/mathematics.rst, eqs. 10 to 13).
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import linalg

from sklearn_calm._convolution.geometry import slices
from sklearn_calm._convolution.symmetry import NO_SYMMETRY

# The variance that is added to that of every patch, as a share of the mean variance of a patch.
CONTRAST_FLOOR = 0.01
# Images that should be constant differ by so many units in the last place of their values.
NOISE_UNITS = 16
# Number of values that are cast to float64 at a time.
PART_VALUES = 2**16
# Where the contrast floor, or that share of the mean square of raw patches, is below this, float32
# loses squares that matter.
LEAST_SQUARE = 1e-32
# Where no value is larger than this, float64 loses them.
LEAST_VALUE = 1e-145


class Preprocessing(NamedTuple):
    """From a raw patch x to y = B (x~ - m), x~ = (x - mean(x)) / sqrt(var(x) + floor)."""

    contrast_floor: float | None = None
    mean: np.ndarray | None = None  # m, (D,)
    whitener: np.ndarray | None = None  # B, (D, D), symmetric

    @property
    def is_identity(self):
        return self.contrast_floor is None and self.whitener is None

    def whiten(self, vectors):
        """Vectors (m, D) of x~ space in y space."""
        return vectors if self.whitener is None else (vectors - self.mean) @ self.whitener


class PatchMoments(NamedTuple):
    """Weighted moments of normalised patches; they add over samples."""

    weight: float
    total: np.ndarray  # (D,), sum of w x~
    second: np.ndarray  # (D, D), sum of w x~ x~^T

    def merge(self, other):
        return PatchMoments(*(a + b for a, b in zip(self, other, strict=True)))

    def averaged(self, symmetry):
        """Mean moments of the patches under all transformations of a symmetry (eq. 39)."""
        if symmetry.order == 1:
            return self
        total = symmetry.expand(self.total[None]).mean(axis=0)
        second = sum(self.second[np.ix_(places, places)] for places in symmetry.permutations)
        return PatchMoments(self.weight, total, second / symmetry.order)


def working_precision(patches, weights, *, normalize):
    """The precision that holds the squares of raw patches (m, D): theirs, or float64.

    Raises
    ------
    ValueError
        If none does.
    """
    values = patches.reshape(-1)
    largest = max(values.max(initial=0), -values.min(initial=0))
    if 0 < largest < LEAST_VALUE:
        raise ValueError(
            f"Input X contains only values too small for float64, whose squares are lost: the "
            f"largest is {largest:.0e}, expected {LEAST_VALUE:.0e} or more. Scale the images up, "
            "as in X / abs(X).max()."
        )
    # Rounding of values whose mean square is larger is larger than what is lost.
    with np.errstate(over="ignore"):
        plain = values @ values > 1e-16 * values.size
    if patches.dtype == np.float64 or plain or largest == 0:
        return patches.dtype
    floor = contrast_floor(patches, weights, centre=normalize == "contrast")
    return patches.dtype if floor > LEAST_SQUARE else np.dtype(np.float64)


def layer_precision(layer, contrast_floor):
    """The least precision in which a layer can be applied, by the scale of what it was fitted to.

    Kernels of raw patches grow as the values of the patches fall; those of normalised ones do not.
    """
    if contrast_floor is not None:
        return np.dtype(np.float32 if contrast_floor > LEAST_SQUARE else np.float64)
    largest = np.abs(layer.weight).max()
    return np.dtype(np.float32 if largest < LEAST_SQUARE**-0.5 else np.float64)


def fit_preprocessing(patches, weights, *, normalize, whiten, reg_covar, symmetry=NO_SYMMETRY):
    """The preprocessing of raw patches (m, D) with weights (m,).

    It commutes with the transformations of the symmetry (eq. 33).
    """
    floor = contrast_floor(patches, weights) if normalize == "contrast" else None
    if not whiten:
        return Preprocessing(floor)
    moments = patch_moments(normalize_contrast(patches, floor), weights)
    return Preprocessing(floor, *whitening(moments.averaged(symmetry), reg_covar))


def normalize_contrast(patches, floor):
    """Raw patches (m, D) less their mean, divided by their deviation (eq. 10).

    Values that are missing, NaN, stay so; the moments are those of the others.
    """
    if floor is None:
        return patches
    normalized = _centred(patches)
    normalized /= np.sqrt(_mean_squares(normalized) + floor)[:, None]
    return normalized


def _centred(patches):
    return patches - _means(patches)


def _means(patches):
    means = patches.mean(axis=1, keepdims=True)
    if np.isnan(means).any():
        means = np.nanmean(patches, axis=1, keepdims=True)
    return means


def _mean_squares(patches):
    squares = np.einsum("md,md->m", patches, patches) / patches.shape[1]
    if np.isnan(squares).any():
        squares = np.nanmean(np.square(patches), axis=1)
    return squares


def contrast_floor(patches, weights, *, centre=True):
    """The variance added to every patch's own: CONTRAST_FLOOR of the mean one (eq. 10).

    Without `centre` the same share of the mean square.
    """
    mean = variance = square = 0.0
    for part, share in _parts(patches, weights / weights.sum()):
        mean += share @ _means(part)[:, 0]
        variance += share @ _mean_squares(_centred(part) if centre else part)
        square += share @ _mean_squares(part)
    # Rounding errors must not be amplified: those of the values, and those of a variance that is
    # the difference of two squares, of images less their mean.
    eps = np.finfo(patches.dtype).eps
    rounding = (NOISE_UNITS * eps) ** 2 * square + eps * max(square - mean**2, 0.0)
    return float(max(CONTRAST_FLOOR * variance, rounding)) or 1.0


def mean_contrast(floor):
    """Deviation of a patch of mean variance, from the floor of eq. 10."""
    return math.sqrt(floor / CONTRAST_FLOOR)


def patch_moments(patches, weights):
    """Moments of normalised patches (m, D) with weights (m,)."""
    length = patches.shape[1]
    moments = PatchMoments(0.0, np.zeros(length), np.zeros((length, length)))
    for part, weight in _parts(patches, weights):
        weighted = part * weight[:, None]
        added = PatchMoments(float(weight.sum()), weighted.sum(axis=0), weighted.T @ part)
        moments = moments.merge(added)
    return moments


def _parts(patches, weights):
    """Patches in float64 and their weights, one part after the other that fits the cache."""
    for part in slices(len(patches), max(1, PART_VALUES // patches.shape[1])):
        yield patches[part].astype(np.float64), weights[part]


def whitening(moments, reg_covar):
    """Mean m and matrix B = (Cov + reg_covar tr(Cov) / D I)^(-1/2) (eq. 12)."""
    mean = moments.total / moments.weight
    covariance = moments.second / moments.weight - np.outer(mean, mean)
    variances, axes = linalg.eigh((covariance + covariance.T) / 2)
    if variances.sum() <= 1e-13 * np.trace(moments.second) / moments.weight:
        return mean, np.eye(len(mean))  # the patches differ by rounding errors only
    ridge = reg_covar * variances.mean()
    # Without a ridge the directions in which patches do not vary have no scale: leave them out.
    varies = variances > 1e-10 * variances[-1]
    kept = varies | (ridge > 0)
    scale = np.where(kept, 1 / np.sqrt(np.where(kept, np.maximum(variances, 0) + ridge, 1)), 0)
    return mean, (axes * scale) @ axes.T
