"""Slow, literal twins of the engine: the formulas and nothing else.

Written from the mathematics alone, in float64, with one Python loop per sum wherever that reads
better, so that every fast path has something obviously right to be held to. This module never
imports sklearn_calm and is never made fast.

An image is (H, W, C). A patch as a vector has D = ph * pw * C values, in that order. Means are
(K, D) in x~ space: contrast-normalised if there is a floor, never whitened. A map is
(rows, cols, K).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp


@dataclass(frozen=True)
class Setting:
    """All that stays fixed during EM: geometry, cells and preprocessing.

    Pairs are (vertical, horizontal). `assignment` is "image", "patch" or (rows, cols).
    `contrast_floor` None: raw patches. `whitener` (D, D) None: no whitening, `mean` (D,) unused.
    """

    patch_size: tuple
    stride: tuple = (1, 1)
    padding: tuple = (0, 0)
    assignment: object = "image"
    contrast_floor: float | None = None
    mean: np.ndarray | None = None
    whitener: np.ndarray | None = None
    dilation: tuple = (1, 1)


class Mixture(NamedTuple):
    """What EM learns: means (K, D) in x~ space, weights (K,), noise variance (a float)."""

    means: np.ndarray
    weights: np.ndarray
    noise_variance: float


class Statistics(NamedTuple):
    """Sums over images, each image times its sample weight.

    sums (K, D) of gamma x~ and counts (K,) of gamma; four floats: the cells' log normalisers, the
    energy Q, the number of values M, and the sample weights themselves.
    """

    sums: np.ndarray
    counts: np.ndarray
    log_normalizer: float
    energy: float
    n_values: float
    n_images: float


# Geometry


def pad(image, padding, mode="constant"):
    """Surround an image (H, W, C) by pixels of its padding.

    The padding is (vertical, horizontal), each of it a number or a pair (before, after).
    """
    height, width, n_channels = image.shape
    (above, below), (left, right) = (np.broadcast_to(pixels, 2) for pixels in padding)
    padded = np.zeros((above + height + below, left + width + right, n_channels))
    for r in range(len(padded)):
        for c in range(len(padded[0])):
            y, x = inside(r - above, height, mode), inside(c - left, width, mode)
            if y is not None and x is not None:
                padded[r, c] = image[y, x]
    return padded


def inside(i, side, mode):
    """Find the pixel that stands at position i of a padded side; None for a zero."""
    if mode == "edge":
        return min(max(i, 0), side - 1)
    while mode == "reflect" and not 0 <= i < side:
        if side == 1:
            return 0
        i = -i if i < 0 else 2 * (side - 1) - i
    return i if 0 <= i < side else None


def extract_patches(image, patch_size, stride, padding, dilation=(1, 1)):
    """Copy every patch out of an image (H, W, C): (rows, cols, ph, pw, C).

    A patch takes every dilation-th pixel.
    """
    padded = pad(image, padding)
    height, width, n_channels = padded.shape
    (ph, pw), (sv, sh) = patch_size, stride
    dv, dh = dilation
    rows = (height - dv * (ph - 1) - 1) // sv + 1
    cols = (width - dh * (pw - 1) - 1) // sh + 1
    patches = np.empty((rows, cols, ph, pw, n_channels))
    for r in range(rows):
        for c in range(cols):
            for i in range(ph):
                for j in range(pw):
                    patches[r, c, i, j] = padded[r * sv + i * dv, c * sh + j * dh]
    return patches


def patch_vectors(image, setting):
    """Extract the raw patches of an image (H, W, C) as vectors: (rows, cols, D)."""
    patches = extract_patches(
        image, setting.patch_size, setting.stride, setting.padding, setting.dilation
    )
    rows, cols = patches.shape[:2]
    return patches.reshape(rows, cols, -1)


def blocks(grid, rows, cols):
    """Divide rows x cols positions into a grid: a list, by grid row, of lists of (r, c)."""
    grid_rows, grid_cols = grid
    if grid_rows > rows or grid_cols > cols:
        raise ValueError(f"A {grid} grid has empty blocks on a {(rows, cols)} map.")
    row_edges = [i * rows // grid_rows for i in range(grid_rows + 1)]
    col_edges = [i * cols // grid_cols for i in range(grid_cols + 1)]
    return [
        [
            (r, c)
            for r in range(row_edges[i], row_edges[i + 1])
            for c in range(col_edges[j], col_edges[j + 1])
        ]
        for i in range(grid_rows)
        for j in range(grid_cols)
    ]


def cells(assignment, rows, cols):
    """Divide rows x cols positions into cells: a list of lists of (r, c)."""
    if assignment == "image":
        return [[(r, c) for r in range(rows) for c in range(cols)]]
    if assignment == "patch":
        return [[(r, c)] for r in range(rows) for c in range(cols)]
    return blocks(assignment, rows, cols)


# Preprocessing


def normalize_contrast(patch, floor):
    """(x - mean) / sqrt(var + floor) of a patch (any shape), all its values as one vector."""
    return (patch - np.mean(patch)) / np.sqrt(np.var(patch) + floor)


def whitening(patches, weights, reg_covar):
    """Mean m (D,) and B (D, D) = (Cov + reg_covar tr(Cov)/D I)^(-1/2) of patches (m, D)."""
    n_patches, n_values = patches.shape
    total = np.sum(weights)
    mean = np.zeros(n_values)
    for i in range(n_patches):
        mean += weights[i] * patches[i] / total
    covariance = np.zeros((n_values, n_values))
    for i in range(n_patches):
        covariance += weights[i] * np.outer(patches[i] - mean, patches[i] - mean) / total
    if np.trace(covariance) == 0:  # nothing to whiten
        return mean, np.eye(n_values)
    ridge = reg_covar * np.trace(covariance) / n_values
    eigenvalues, eigenvectors = np.linalg.eigh(covariance + ridge * np.eye(n_values))
    return mean, eigenvectors @ np.diag(eigenvalues**-0.5) @ eigenvectors.T


def preprocess(patch_vector, floor, mean, whitener):
    """y (D,) of a raw patch (D,): x~ = the patch, contrast-normalised; y = B (x~ - m)."""
    if floor is not None:
        patch_vector = normalize_contrast(patch_vector, floor)
    if whitener is not None:
        patch_vector = whitener @ (patch_vector - mean)
    return patch_vector


def preprocessed_patches(image, setting):
    """y of every position of an image (H, W, C): (rows, cols, D)."""
    patches = patch_vectors(image, setting)
    rows, cols = patches.shape[:2]
    for r in range(rows):
        for c in range(cols):
            patches[r, c] = preprocess(
                patches[r, c], setting.contrast_floor, setting.mean, setting.whitener
            )
    return patches


# The start


def drawn_in(seeds, patches, weights, mean, whitener, seed_length):
    """Seeds (K, D) of x~ space, each moved along its line to the mean m of patches (m, D).

    Lengths and distances are those of y. s = the mean square length of a patch, e = its mean square
    distance to the nearest seed, L^2 = seed_length^2 s max(s / e, 1). A seed of length l ends at
    length l' with 1 / l'^2 = 1 / l^2 + 1 / L^2. With e = 0 seeds stay.
    """
    centres = [preprocess(seed, None, mean, whitener) for seed in seeds]
    square = error = 0.0
    for patch, w in zip(patches, weights, strict=True):
        y = preprocess(patch, None, mean, whitener)
        square += w * np.sum(y**2) / np.sum(weights)
        error += w * min(np.sum((y - c) ** 2) for c in centres) / np.sum(weights)
    moved = np.array(seeds, dtype=float)
    if error == 0:
        return moved
    longest = seed_length * np.sqrt(square) * max(np.sqrt(square / error), 1)
    for k, centre in enumerate(centres):
        length = np.sqrt(np.sum(centre**2))
        if length > 0:
            new_length = (length**-2 + longest**-2) ** -0.5
            moved[k] = mean + new_length / length * (seeds[k] - mean)
    return moved


# The mixture


def log_joint(image, mixture, setting):
    """l(k, u) = (theta_k . y_u - |theta_k|^2/2) / sigma^2 + log pi_k - log(mean |cell|).

    Image (H, W, C) -> (rows, cols, K), with theta_k = B (means_k - m) where patches are whitened.
    On uneven cells the exact prior is 1/|cell|; see `cell_log_normalizers`.
    """
    y = preprocessed_patches(image, setting)
    rows, cols = y.shape[:2]
    n_components = len(mixture.means)
    mean_cell_size = rows * cols / len(cells(setting.assignment, rows, cols))
    joint = np.empty((rows, cols, n_components))
    for k in range(n_components):
        theta = preprocess(mixture.means[k], None, setting.mean, setting.whitener)
        for r in range(rows):
            for c in range(cols):
                score = (theta @ y[r, c] - theta @ theta / 2) / mixture.noise_variance
                joint[r, c, k] = score + np.log(mixture.weights[k]) - np.log(mean_cell_size)
    return joint


def cell_scores(joint, cell):
    """l of the positions of one cell: (len(cell), K) out of (rows, cols, K)."""
    return np.array([joint[r, c] for r, c in cell])


def responsibilities(joint, cell_list):
    """gamma (rows, cols, K): the softmax of l (rows, cols, K) over all (k, u) of each cell."""
    gamma = np.full(joint.shape, np.nan)
    for cell in cell_list:
        normalizer = logsumexp(cell_scores(joint, cell))
        for r, c in cell:
            gamma[r, c] = np.exp(joint[r, c] - normalizer)
    return gamma


def cell_log_normalizers(joint, cell_list):
    """Log of the sum over (k, u) of each cell, under the exact prior 1/|cell|: (n_cells,).

    l holds - log(mean |cell|), so log(mean |cell|) - log |cell| is put right here: 0 on even cells.
    """
    rows, cols = joint.shape[:2]
    mean_cell_size = rows * cols / len(cell_list)
    return np.array(
        [
            logsumexp(cell_scores(joint, cell)) + np.log(mean_cell_size) - np.log(len(cell))
            for cell in cell_list
        ]
    )


def background_values(image, setting):
    """Flat array of the values whose noise N(0, sigma^2) is the background of an image (H, W, C).

    One cell on raw pixels: each pixel once, padding included. Otherwise, and always where every
    position is a cell: each y_u once.
    """
    one_cell = len(cells(setting.assignment, *patch_vectors(image, setting).shape[:2])) == 1
    one_cell = one_cell and setting.assignment != "patch"
    if one_cell and setting.contrast_floor is None and setting.whitener is None:
        return pad(image, setting.padding).ravel()
    return preprocessed_patches(image, setting).ravel()


def energy(image, setting):
    """(Q, M) of one image (H, W, C): sum of squares and number of its background values."""
    values = background_values(image, setting)
    return np.sum(values**2), values.size


def image_log_likelihood(image, mixture, setting):
    """Cells' log normalisers + background log density of one image (H, W, C): a float."""
    joint = log_joint(image, mixture, setting)
    cell_list = cells(setting.assignment, *joint.shape[:2])
    variance = mixture.noise_variance
    background = 0.0
    for value in background_values(image, setting):
        background += -(value**2) / (2 * variance) - np.log(2 * np.pi * variance) / 2
    return np.sum(cell_log_normalizers(joint, cell_list)) + background


def cell_log_likelihoods(image, mixture, setting):
    """Log normaliser and background of each cell of one image (H, W, C): (n_cells,)."""
    joint, y = log_joint(image, mixture, setting), preprocessed_patches(image, setting)
    cell_list, v = cells(setting.assignment, *joint.shape[:2]), mixture.noise_variance
    shares = cell_log_normalizers(joint, cell_list)
    for i, cell in enumerate(cell_list):
        values = [value for u in cell for value in y[u]]
        for value in values if len(cell_list) > 1 else background_values(image, setting):
            shares[i] += -(value**2) / (2 * v) - np.log(2 * np.pi * v) / 2
    return shares


# EM


def e_step(images, sample_weight, mixture, setting):
    """Sufficient statistics of images (n, H, W, C) with weights (n,): Statistics."""
    sums, counts = np.zeros_like(mixture.means), np.zeros(len(mixture.means))
    log_normalizer = total_energy = n_values = n_images = 0.0
    for image, w in zip(images, sample_weight, strict=True):
        raw = patch_vectors(image, setting)
        joint = log_joint(image, mixture, setting)
        rows, cols, n_components = joint.shape
        cell_list = cells(setting.assignment, rows, cols)
        gamma = responsibilities(joint, cell_list)
        for r in range(rows):
            for c in range(cols):
                x = preprocess(raw[r, c], setting.contrast_floor, None, None)
                for k in range(n_components):
                    sums[k] += w * gamma[r, c, k] * x
                    counts[k] += w * gamma[r, c, k]
        log_normalizer += w * np.sum(cell_log_normalizers(joint, cell_list))
        image_energy, image_n_values = energy(image, setting)
        total_energy += w * image_energy
        n_values += w * image_n_values
        n_images += w
    return Statistics(sums, counts, log_normalizer, total_energy, n_values, n_images)


def m_step(stats, learn_weights, noise_variance, mean, whitener):
    """Mixture that maximises the expected log joint of the statistics.

    theta = S / N; pi = N / sum N, or uniform; sigma^2 = (Q - sum_k |B (S_k - N_k m)|^2 / N_k) / M
    if `noise_variance` is "auto", else the float given. Without a whitener B = I and m = 0.
    """
    n_components = len(stats.counts)
    means = stats.sums / stats.counts[:, np.newaxis]
    if learn_weights:
        weights = stats.counts / np.sum(stats.counts)
    else:
        weights = np.full(n_components, 1 / n_components)
    if noise_variance == "auto":
        explained = 0.0
        for k in range(n_components):
            if whitener is None:
                y_sum = stats.sums[k]
            else:
                y_sum = whitener @ (stats.sums[k] - stats.counts[k] * mean)
            explained += y_sum @ y_sum / stats.counts[k]
        noise_variance = (stats.energy - explained) / stats.n_values
    return Mixture(means, weights, noise_variance)


def objective(stats, noise_variance):
    """Sum of the images' log-likelihoods under the mixture that took the E-step: a float."""
    background = -stats.energy / (2 * noise_variance)
    background -= stats.n_values / 2 * np.log(2 * np.pi * noise_variance)
    return stats.log_normalizer + background


def run_em(
    images, sample_weight, mixture, setting, n_passes, learn_weights=True, noise_variance="auto"
):
    """Make passes of EM over images (n, H, W, C).

    Returns the mixture after the last pass, and the objective per image before each pass: a list.
    """
    objectives = []
    for _ in range(n_passes):
        stats = e_step(images, sample_weight, mixture, setting)
        objectives.append(objective(stats, mixture.noise_variance) / stats.n_images)
        mixture = m_step(stats, learn_weights, noise_variance, setting.mean, setting.whitener)
    return mixture, objectives


def run_stepwise_em(batches, mixture, setting, rates):
    """Make one step of stepwise EM with each batch of images (n, H, W, C).

    Yields the objective per image of the batch before the step, and the mixture after it. Blended
    statistics are per image; the first batch counts in full.
    """
    blended = None
    for batch, rate in zip(batches, rates, strict=True):
        stats = e_step(batch, np.ones(len(batch)), mixture, setting)
        new = [value / len(batch) for value in stats]
        if blended is None:
            blended = new
        blended = [(1 - rate) * a + rate * b for a, b in zip(blended, new, strict=True)]
        bound = objective(Statistics(*new), mixture.noise_variance)
        mixture = m_step(Statistics(*blended), True, "auto", setting.mean, setting.whitener)
        yield bound, mixture


# Features


def window_counts(window, grid, rows, cols, width=None):
    """How much each position counts in each region: a list, by grid row, of (rows, cols).

    A box counts its own positions. A Gaussian has its centre in the middle of the region, its
    standard deviation is `width` times the side of a region, and its counts add up to the mean
    number of positions in a region.
    """
    if window == "box":
        counts = [np.zeros((rows, cols)) for _ in range(grid[0] * grid[1])]
        for count, block in zip(counts, blocks(grid, rows, cols), strict=True):
            for r, c in block:
                count[r, c] = 1
        return counts
    height, width_ = rows / grid[0], cols / grid[1]
    counts = []
    for i in range(grid[0]):
        for j in range(grid[1]):
            count = np.zeros((rows, cols))
            for r in range(rows):
                for c in range(cols):
                    # The square at (r, c) has its middle at (r + 1/2, c + 1/2).
                    down = (r + 0.5 - (i + 0.5) * height) / (width * height)
                    right = (c + 0.5 - (j + 0.5) * width_) / (width * width_)
                    count[r, c] = np.exp(-(down**2) / 2 - right**2 / 2)
            counts.append(count / np.sum(count) * height * width_)
    return counts


def contrast_weights(image, setting, power):
    """Contrast of each patch of an image (H, W, C), relative to the mean one, to a power."""
    raw = patch_vectors(image, setting)
    rows, cols = raw.shape[:2]
    weights = np.empty((rows, cols))
    for r in range(rows):
        for c in range(cols):
            weights[r, c] = np.sqrt(np.var(raw[r, c]) + setting.contrast_floor)
    return (weights / np.sqrt(100 * setting.contrast_floor)) ** power


def pool(
    joint,
    gamma,
    pooling,
    pool_grid,
    patch_length=None,
    window="box",
    width=None,
    both=False,
    weights=None,
):
    """Pool maps (rows, cols, K) over a (grid rows, grid cols) grid of regions.

    Returns (grid rows * grid cols * K,), by region row, region column, component (fastest).
    Tempered shares need to know how many values a patch has. Triangles of both polarities are
    (grid rows * grid cols * 2 K,): in each region the positive ones of all components come first.
    Weights (rows, cols) multiply what a mean is of.
    """
    rows, cols, n_components = joint.shape
    weights = np.ones((rows, cols)) if weights is None else weights
    positions = [(r, c) for r in range(rows) for c in range(cols)]
    signs = [1, -1] if both else [1]
    features = []
    for count in window_counts(window, pool_grid, rows, cols, width):
        for k, sign in [(k, sign) for sign in signs for k in range(n_components)]:
            if pooling == "logsumexp":
                feature = logsumexp(joint[:, :, k], b=count)
            elif pooling == "max":
                feature = np.max([joint[u][k] for u in positions if count[u] == 1])
            else:
                feature = 0.0
                for u in positions:
                    share = None if gamma is None else gamma[u]
                    value = averaged(joint[u], share, pooling, k, sign, patch_length)
                    feature += count[u] * weights[u] * value
                feature /= np.sum(count)
            features.append(feature)
    return np.array(features)


def averaged(scores, shares, pooling, k, sign, patch_length=None):
    """What the mean over a region is of: of component k at a position, of l and gamma (K,)."""
    if pooling == "mean":
        return shares[k]
    if pooling == "tempered":
        return np.exp(scores[k] / patch_length - logsumexp(scores / patch_length))
    if pooling == "triangle":
        return max(0, sign * (scores[k] - np.mean(scores)))
    raise ValueError(f"Unknown pooling {pooling!r}.")
