"""Literal twins of proportions above thresholds, and of the thresholds.

Like `_reference`, on which it is built, it is written from the mathematics alone and never imports
sklearn_calm.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

import _reference


def score_quantile(mixture, setting, k, level, share):
    """Quantile of the log joint of component k at a random position of images from the model.

    With probability `share` a position holds a patch of the mixture, and else background.
    """
    whitener = np.eye(mixture.means.shape[1]) if setting.whitener is None else setting.whitener
    shift = 0 if setting.mean is None else setting.mean
    centres = (mixture.means - shift) @ whitener
    variance = mixture.noise_variance
    constant = np.log(share * mixture.weights[k]) - centres[k] @ centres[k] / (2 * variance)
    deviation = np.sqrt(centres[k] @ centres[k] / variance)
    parts = [
        (share * weight, constant + centres[k] @ centre / variance)
        for weight, centre in zip(mixture.weights, centres, strict=True)
    ]
    parts.append((1 - share, constant))

    def excess(score):
        return sum(p * norm.cdf(score, mean, deviation) for p, mean in parts) - level

    ends = [mean + sign * 10 * deviation for _, mean in parts for sign in (-1, 1)]
    return brentq(excess, min(ends), max(ends), xtol=1e-13)


def proportions(joint, thresholds, pool_grid, window="box", width=None):
    """Weight of the positions of each region above thresholds (T, K): (regions, T, K)."""
    rows, cols, _ = joint.shape
    found = np.zeros((pool_grid[0] * pool_grid[1], *thresholds.shape))
    for r, count in enumerate(_reference.window_counts(window, pool_grid, rows, cols, width)):
        for t, k in np.ndindex(thresholds.shape):
            for u in np.ndindex(rows, cols):
                if joint[u][k] > thresholds[t, k]:
                    found[r, t, k] += count[u]
        found[r] /= np.sum(count)
    return found
