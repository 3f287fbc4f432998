"""Literal twins where values are missing, which are NaN: the formulas and nothing else."""

import numpy as np
from scipy.special import logsumexp

from _reference import Mixture, cells, normalize_contrast, pad, patch_vectors


def filled_in(image, patch_size):
    """Replace each missing value by a mean of its channel, whose weights fall with distance.

    A value at (y, x) counts e^(-2 (|y| + |x|)), if |y| and |x| are less than the sides of a patch.
    """
    height, width, _ = image.shape
    whole = image.copy()
    for r, c, e in np.ndindex(image.shape):
        if not np.isnan(image[r, c, e]):
            continue
        total = weight = 0.0
        for y, x in np.ndindex(height, width):
            near = abs(y - r) < patch_size[0] and abs(x - c) < patch_size[1]
            if near and not np.isnan(image[y, x, e]):
                share = np.exp(-2.0 * (abs(y - r) + abs(x - c)))
                total, weight = total + share * image[y, x, e], weight + share
        whole[r, c, e] = total / weight if weight else np.nanmean(image[:, :, e])
    return whole


def observed_log_joint(patch, floor, mixture, log_cell):
    """l(k) of a patch (D,) with missing values, its x~ (0 there) and its marks o: three (.,)."""
    there = ~np.isnan(patch)
    x = np.zeros(len(patch))
    x[there] = patch[there] if floor is None else normalize_contrast(patch[there], floor)
    scores = np.zeros(len(mixture.means))
    for k, theta in enumerate(mixture.means):
        for d in np.flatnonzero(there):
            scores[k] += (theta[d] * x[d] - theta[d] ** 2 / 2) / mixture.noise_variance
        scores[k] += np.log(mixture.weights[k]) - log_cell
    return scores, x, there.astype(float)


def observed_pass(images, mixture, setting, min_observed):
    """One pass of EM without whitening over images with missing values: objective, mixture."""
    sums, seen = np.zeros_like(mixture.means), np.zeros_like(mixture.means)
    counts = np.zeros(len(mixture.means))
    normalizers = total_energy = n_values = 0.0
    exact = setting.assignment == "image" and setting.contrast_floor is None
    for image in images:
        patches = patch_vectors(image, setting)
        rows, cols = patches.shape[:2]
        for cell in cells(setting.assignment, rows, cols):
            used = [u for u in cell if np.mean(~np.isnan(patches[u])) >= min_observed]
            if not used:
                continue
            parts = [
                observed_log_joint(patches[u], setting.contrast_floor, mixture, np.log(len(used)))
                for u in used
            ]
            normalizer = logsumexp([scores for scores, _, _ in parts])
            normalizers += normalizer
            for scores, x, there in parts:
                gamma = np.exp(scores - normalizer)
                counts += gamma
                sums += np.outer(gamma, x)
                seen += np.outer(gamma, there)
                total_energy += 0.0 if exact else x @ x
                n_values += 0.0 if exact else np.sum(there)
        if exact:
            total_energy += np.nansum(pad(image, setting.padding) ** 2)
            n_values += np.sum(~np.isnan(pad(image, setting.padding)))
    variance = mixture.noise_variance
    bound = normalizers - total_energy / (2 * variance)
    bound -= n_values / 2 * np.log(2 * np.pi * variance)
    means = np.where(seen > 0, sums / np.where(seen > 0, seen, 1), mixture.means)
    variance = (total_energy - np.sum(seen * means**2)) / n_values
    return bound / len(images), Mixture(means, counts / np.sum(counts), variance)


def cell_log_likelihoods(image, mixture, setting, min_observed):
    """Share of each cell in the log-likelihood, without whitening: (n_cells,).

    NaN of a cell of which nothing counts.
    """
    patches, variance = patch_vectors(image, setting), mixture.noise_variance
    cell_list = cells(setting.assignment, *patches.shape[:2])
    exact = len(cell_list) == 1 and setting.contrast_floor is None
    shares = []
    for cell in cell_list:
        used = [u for u in cell if np.mean(~np.isnan(patches[u])) >= min_observed]
        parts = [
            observed_log_joint(patches[u], setting.contrast_floor, mixture, np.log(len(used)))
            for u in used
        ]
        values = [x[there > 0] for _, x, there in parts]
        if exact:
            values = [pad(image, setting.padding)]
        values = np.concatenate([part[~np.isnan(part)] for part in values] or [[]])
        share = logsumexp([scores for scores, _, _ in parts]) if used else 0.0
        share -= values @ values / (2 * variance) + len(values) / 2 * np.log(2 * np.pi * variance)
        shares.append(share if len(values) else np.nan)
    return np.array(shares)
