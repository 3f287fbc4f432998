"""Expectation-maximisation: sufficient statistics, E-step, M-step and objective.

Equation numbers are those of docs/mathematics.rst. Nothing here knows of estimators or of threads.
"""

import math
from typing import NamedTuple

import numpy as np

from sklearn_calm._arrays.namespace import array_namespace, like, to_numpy
from sklearn_calm._mixture.model import (
    MixtureParameters,
    count_values,
    energies,
    log_joint,
    log_joint_rows,
    patch_counts,
    patch_energies,
)
from sklearn_calm._mixture.posterior import (
    exact_log_normalizers,
    find_few_components,
    find_posterior,
    position_log_normalizers,
)

# A component with less than this share of an even one's patches is dead.
DEAD_SHARE = 1e-3
# The noise variance never falls below this share of the mean square of the data.
VARIANCE_FLOOR = 1e-6
# The weight of a component never falls below this.
WEIGHT_FLOOR = 1e-10


class SufficientStatistics(NamedTuple):
    """What an M-step needs of the data: sums over weighted images, so they add over batches.

    Tied kernels share the sums of their component.
    """

    sums: np.ndarray  # (K, D), S_k = sum of responsibilities times x~_u
    counts: np.ndarray  # (K,), N_k = sum of responsibilities
    log_normalizer: float  # sum over cells of log sum exp l
    energy: float  # Q = sum |y_u|^2
    n_values: float  # M, the number of values in Q
    n_images: float  # sum of the weights of the images
    # (K, D), sum of responsibilities of what was observed; 0 where no value can be missing
    seen: np.ndarray | float = 0.0


def merge(a, b):
    """Statistics of two sets of images together."""
    return SufficientStatistics(*(x + y for x, y in zip(a, b, strict=True)))


def per_image(statistics, scale=1.0):
    """Statistics of a mean image, which has `scale` of the images that they are sums of."""
    mean = (scale * x / statistics.n_images for x in statistics)
    return SufficientStatistics(*mean)._replace(n_images=1.0)


def blend(old, new, rate):
    """One step of stepwise EM: (1 - rate) old + rate new, each per image (eq. 21)."""
    if np.ndim(old.seen) != np.ndim(new.seen):  # only one of them knows of missing values
        old, new = _with_seen(old), _with_seen(new)
    return SufficientStatistics(
        *(
            (1 - rate) * x / old.n_images + rate * y / new.n_images
            for x, y in zip(old, new, strict=True)
        )
    )


def _with_seen(statistics):
    """Statistics that say how often each value was seen: always, where none can be missing."""
    if np.ndim(statistics.seen):
        return statistics
    seen = np.broadcast_to(statistics.counts[:, None], statistics.sums.shape)
    return statistics._replace(seen=seen)


def e_step(images, sample_weight, layer, *, with_energy=True):
    """Sufficient statistics of a batch (eqs. 4, 5 and 38).

    Parameters
    ----------
    images : ndarray of shape (n, padded height, padded width, channels)
    sample_weight : ndarray of shape (n,)
    layer : PreparedLayer
    with_energy : bool
        False leaves Q at 0: it does not change from pass to pass.
    """
    patches = layer.view(images)
    maps, cells, posterior = log_joint(patches, layer), layer.model.cells, None
    if layer.is_striped and patches.used is None:
        posterior = find_few_components(maps, cells, sample_weight)
    if posterior is None:
        posterior = find_posterior(
            maps, cells, sample_weight, patches.sparse_below, patches.scratch, patches.used
        )
    return collect(patches, posterior, images, sample_weight, layer.model, with_energy=with_energy)


def collect(patches, posterior, images, sample_weight, model, *, with_energy=True):
    """Sufficient statistics of a batch from its posterior: NumPy, float64."""
    sums, counts = posterior.sums(patches)
    n_images = float(sample_weight.sum())
    sums, counts = (to_numpy(part).astype(np.float64) for part in (sums, counts))
    length, symmetry = model.geometry.patch_length, model.symmetry
    n_values, seen, marks = model.n_values * n_images, 0.0, sums[:, length:]
    sums = symmetry.fold(sums[:, :length])
    counts = counts.reshape(-1, symmetry.order).sum(axis=1)
    if model.min_observed is not None and model.preprocessing.whitener is None:
        seen = np.broadcast_to(counts[:, None], sums.shape)
        if marks.size:  # which have no sign
            signs = np.tile(symmetry.signs, len(counts))
            seen = symmetry.fold(signs[:, None] * marks)
    if patches.used is not None:
        n_values = float(sample_weight @ count_values(images, model))
    return SufficientStatistics(
        sums=sums,
        counts=counts,
        log_normalizer=float(sample_weight @ posterior.log_normalizers),
        energy=float(sample_weight @ energies(images, model)) if with_energy else 0.0,
        n_values=n_values,
        n_images=n_images,
        seen=seen,
    )


def background(energy, n_values, noise_variance):
    """Log-likelihood of noise alone (eq. 9)."""
    return -energy / (2 * noise_variance) - n_values / 2 * np.log(2 * np.pi * noise_variance)


def objective(statistics, noise_variance):
    """Log-likelihood per image of the parameters that made the statistics (eq. 9)."""
    noise = background(statistics.energy, statistics.n_values, noise_variance)
    return (statistics.log_normalizer + noise) / statistics.n_images


def log_likelihoods(images, layer, noise_variance):
    """Log-likelihood of each image (eq. 9): float64, shape (n,)."""
    model, patches = layer.model, layer.view(images)
    maps, weights = log_joint(patches, layer), np.ones(images.shape[0])
    posterior = find_posterior(maps, model.cells, weights, used=patches.used)
    noise = background(energies(images, model), count_values(images, model), noise_variance)
    return posterior.log_normalizers + noise


def cell_log_likelihoods(images, layer, noise_variance):
    """Share of each cell in the log-likelihood of its image (eqs. 31 and 41).

    Returns
    -------
    log_likelihoods : ndarray of shape (n, cell rows, cell columns)
        float64, of the library of the images; NaN of a cell of which nothing counts.
    """
    model, xp, gains = layer.model, array_namespace(images), log_normalizers(images, layer)
    if model.counts_pixels:
        energy = like(energies(images, model)[None, :, None], gains)
    else:
        energy = cell_energies(images, model)
    n_values = _cell_counts(images, model)
    # The part of the background that does not depend on the images.
    constant = like(background(0.0, n_values, noise_variance), gains)
    shares = gains + constant - energy / (2 * float(noise_variance))
    if model.misses_values(images):
        shares = xp.where(like(n_values, gains) > 0, shares, xp.full_like(shares, math.nan))
    return xp.permute_dims(shares, (1, 0, 2))


def cell_energies(images, model):
    """Q of each cell, the sum over its positions: (cell rows, n, cell columns), float64."""
    xp, squares = array_namespace(images), patch_energies(images, model)
    return model.cells.sums(xp.astype(squares, xp.float64))


def _cell_counts(images, model):
    """M of each cell: NumPy, (cell rows, n or 1, cell columns)."""
    if model.counts_pixels:
        return count_values(images, model)[None, :, None]
    if not model.misses_values(images):
        return model.geometry.patch_length * model.cells.sizes[:, None, :]
    return to_numpy(model.cells.sums(patch_counts(images, model))).astype(np.float64)


def log_normalizers(images, layer):
    """Log normaliser of each cell (eq. 9): (cell rows, n, cell columns)."""
    patches, cells = layer.view(images), layer.model.cells
    if cells.largest > 1 or not layer.is_striped or patches.used is not None:
        return exact_log_normalizers(log_joint(patches, layer), cells, patches.used)
    of_rows = [position_log_normalizers(map_row) for map_row in log_joint_rows(patches, layer)]
    return array_namespace(images).concat(of_rows)


def m_step(statistics, old, preprocessing, *, learn_weights, noise_variance):
    """The parameters that maximise the expected log-likelihood (eqs. 6 to 8).

    Parameters
    ----------
    statistics : SufficientStatistics
    old : MixtureParameters
        A component without patches keeps its mean.
    preprocessing : Preprocessing
    learn_weights : bool
    noise_variance : float or "auto"
    """
    sums, counts = statistics.sums, statistics.counts
    found = counts > np.finfo(np.float64).tiny
    if np.ndim(statistics.seen):
        # Responsibilities below rounding errors have seen nothing.
        seen = statistics.seen
        found = seen > np.maximum(1e-9 * counts[:, None], np.finfo(np.float64).tiny)
        means = np.where(found, sums / np.where(found, seen, 1), old.means)
    else:
        means = np.where(found[:, None], sums / np.where(found, counts, 1)[:, None], old.means)
    weights = floored_weights(counts) if learn_weights else old.weights
    if noise_variance == "auto":
        explained = counts @ np.square(preprocessing.whiten(means)).sum(axis=1)
        if np.ndim(statistics.seen):
            # 0 to the last bit where nothing is missing.
            explained -= ((counts[:, None] - statistics.seen) * np.square(means)).sum()
        noise_variance = floored_variance(statistics, explained)
    return MixtureParameters(means, weights, float(noise_variance))


def floored_weights(counts):
    """N_k / sum N, kept above zero, whose logarithm would spoil every feature (eq. 7)."""
    weights = np.maximum(counts / counts.sum(), WEIGHT_FLOOR)
    return weights / weights.sum() if (weights == WEIGHT_FLOOR).any() else weights


def floored_variance(statistics, explained=0.0):
    """(Q - explained) / M, kept above rounding errors; 1 where all data are zero (eq. 8)."""
    if statistics.energy <= 0:
        return 1.0
    least = VARIANCE_FLOOR * statistics.energy
    return max(statistics.energy - explained, least) / statistics.n_values


def dead_components(statistics, unit):
    """Mask (K,) of components that explain next to nothing.

    `unit` is what the lightest image weighs in the statistics: a component that explains half a
    cell of it is not dead, so that to replace one costs no cell half its mass (eq. 22).
    """
    least = min(DEAD_SHARE * statistics.counts.mean(), unit / 2)
    return statistics.counts < least
