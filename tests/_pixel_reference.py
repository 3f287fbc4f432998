"""Slow, literal twin of the features of pixels; as the other twins, it imports no sklearn_calm."""

import numpy as np


def pixel_features(quantities, pixel, widths):
    """Means of maps (rows, cols, K) over Gaussian windows about one pixel: (n_widths * K,).

    A window ends four standard deviations from its pixel, rounded up, and at the border. Positions
    with NaN do not count; where there are no others, the means are NaN.
    """
    features = []
    for width in widths:
        total, sums = 0.0, np.zeros(quantities.shape[2])
        for r, c in np.ndindex(quantities.shape[:2]):
            down, right = r - pixel[0], c - pixel[1]
            near = max(abs(down), abs(right)) <= np.ceil(4 * width)
            if near and not np.isnan(quantities[r, c]).any():
                weight = 1.0
                if width > 0:
                    weight = np.exp(-(down**2 + right**2) / (2 * width**2))
                sums += weight * quantities[r, c]
                total += weight
        features.extend(sums / total if total else np.full(len(sums), np.nan))
    return np.array(features)
