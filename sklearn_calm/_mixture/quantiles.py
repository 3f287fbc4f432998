"""Quantiles of scores under a fitted mixture, which are thresholds of features (eq. 47).

The score of a component is linear in the patch, so under the mixture it is a mixture of Gaussians
of one dimension. No data are looked at, and thresholds are those of the parameters as they are.
"""

import numpy as np
from scipy.special import ndtr

# Deviations about a mean beyond which a Gaussian has next to nothing.
TAIL = 8.0
# Halvings of the interval that holds a quantile, to a millionth of its length.
N_HALVINGS = 20


def even_levels(n_levels):
    """Levels in the middle of as many equal parts of the interval from 0 to 1."""
    return (np.arange(n_levels) + 0.5) / n_levels


def score_quantiles(layer, parameters, model, levels):
    """Quantiles of the log joint of each kernel, at a random position under the model.

    Parameters
    ----------
    layer : ConvLayer
        That of the parameters.
    parameters : MixtureParameters
    model : PatchModel
    levels : ndarray of shape (T,)

    Returns
    -------
    quantiles : ndarray of shape (T, n_kernels)
        Those of tied kernels, which follow one another, are equal.
    """
    means, weights, noise_variance = parameters
    symmetry, preprocessing = model.symmetry, model.preprocessing
    weight, bias = layer.weight[:: symmetry.order], layer.bias[:: symmetry.order]
    # A position holds a patch of the mixture with this probability, and else background, which is
    # the mean patch with noise.
    share = model.cells.n_cells / model.geometry.n_positions
    shares = np.append(np.repeat(weights, symmetry.order) / symmetry.order * share, 1 - share)
    centre = np.zeros_like(means[:1]) if preprocessing.mean is None else preprocessing.mean[None]
    patches = np.concatenate([symmetry.expand(means), centre])
    scores = patches @ weight.T + bias
    deviations = np.linalg.norm(preprocessing.whiten(means), axis=1) / np.sqrt(noise_variance)
    quantiles = [_quantiles(scores, shares, deviations, level) for level in levels]
    return np.repeat(np.stack(quantiles), symmetry.order, axis=1)


def _quantiles(means, weights, deviations, level):
    """Quantiles (K,) of K mixtures of Gaussians: means (J, K), weights (J,), deviations (K,)."""
    low = means.min(axis=0) - TAIL * deviations
    high = means.max(axis=0) + TAIL * deviations
    scale = np.maximum(deviations, np.finfo(float).tiny)
    for _ in range(N_HALVINGS):
        middle = (low + high) / 2
        below = weights @ ndtr((middle - means) / scale) < level
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2
