"""Slow, literal twin of the moments of regions; as the other twins, it imports no sklearn_calm."""

import numpy as np

from _reference import window_counts


def region_moments(image, window, grid, width=None):
    """Mean and deviation of each region and channel of an image (H, W, C): (regions, 2, C).

    A missing value is NaN and counts nowhere. A region of which nothing is there has NaN.
    """
    height, width_, n_channels = image.shape
    moments = []
    for counts in window_counts(window, grid, height, width_, width):
        means, deviations = np.empty(n_channels), np.empty(n_channels)
        for e in range(n_channels):
            there = [u for u in np.ndindex(height, width_) if not np.isnan(image[u][e])]
            total = sum(counts[u] for u in there)
            if total == 0:
                means[e] = deviations[e] = np.nan
                continue
            means[e] = sum(counts[u] * image[u][e] for u in there) / total
            variance = sum(counts[u] * (image[u][e] - means[e]) ** 2 for u in there) / total
            deviations[e] = np.sqrt(variance)
        moments.append([means, deviations])
    return np.array(moments)
