"""Contrast normalisation and whitening of patches, as maps that fold into a convolution.

Both are fitted on a sample of patches. Patches and `conv_layer` then apply them without copying a
patch out (docs/mathematics.rst, eqs. 10 to 13).
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg

# The variance that is added to that of every patch, as a share of the mean variance of a patch.
CONTRAST_FLOOR = 0.01
# Values that are taken to float64 at a time.
PART_VALUES = 2**16


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

    def preprocess(self, patches):
        """Raw patches (m, D) in y space."""
        return self.whiten(normalize_contrast(patches, self.contrast_floor))


class PatchMoments(NamedTuple):
    """Weighted moments of normalised patches; they add over samples."""

    weight: float
    total: np.ndarray  # (D,), sum of w x~
    second: np.ndarray  # (D, D), sum of w x~ x~^T

    def merge(self, other):
        return PatchMoments(*(a + b for a, b in zip(self, other, strict=True)))


def fit_preprocessing(patches, weights, *, normalize, whiten, reg_covar):
    """The preprocessing of raw patches (m, D) with weights (m,)."""
    floor = contrast_floor(patches, weights) if normalize == "contrast" else None
    if not whiten:
        return Preprocessing(floor)
    moments = patch_moments(normalize_contrast(patches, floor), weights)
    return Preprocessing(floor, *whitening(moments, reg_covar))


def normalize_contrast(patches, floor):
    """Raw patches (m, D) less their mean, divided by their deviation (eq. 10)."""
    if floor is None:
        return patches
    normalized = _centred(patches)
    normalized /= np.sqrt(_mean_squares(normalized) + floor)[:, None]
    return normalized


def _centred(patches):
    return patches - patches.mean(axis=1, keepdims=True)


def _mean_squares(patches):
    return np.einsum("md,md->m", patches, patches) / patches.shape[1]


def contrast_floor(patches, weights):
    """The variance added to every patch's own: CONTRAST_FLOOR of the mean one."""
    variance = square = 0.0
    for part, share in _parts(patches, weights / weights.sum()):
        variance += share @ _mean_squares(_centred(part))
        square += share @ _mean_squares(part)
    # Constant images have no contrast but that of rounding errors, which is not to be amplified.
    rounding = np.finfo(np.float32).eps * square
    return float(CONTRAST_FLOOR * variance) if variance > rounding else 1.0


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
    """Patches in float64 and their weights, a part that fits the cache after the other."""
    step = max(1, PART_VALUES // patches.shape[1])
    for start in range(0, len(patches), step):
        part = slice(start, start + step)
        yield patches[part].astype(np.float64), weights[part]


def whitening(moments, reg_covar):
    """Mean m and matrix B = (Cov + reg_covar tr(Cov) / D I)^(-1/2) (eq. 12)."""
    mean = moments.total / moments.weight
    covariance = moments.second / moments.weight - np.outer(mean, mean)
    variances, axes = linalg.eigh((covariance + covariance.T) / 2)
    if variances.sum() <= 1e-13 * np.trace(moments.second) / moments.weight:
        return mean, np.eye(len(mean))  # patches that differ by rounding errors only
    ridge = reg_covar * variances.mean()
    # Without a ridge the directions in which patches do not vary have no scale: leave them out.
    varies = variances > 1e-10 * variances[-1]
    kept = varies | (ridge > 0)
    scale = np.where(kept, 1 / np.sqrt(np.where(kept, np.maximum(variances, 0) + ridge, 1)), 0)
    return mean, (axes * scale) @ axes.T
