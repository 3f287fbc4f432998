"""Expectation-maximisation: sufficient statistics, E-step, M-step and objective.

Equation numbers are those of docs/mathematics.rst. Nothing here knows of estimators or of threads.
"""

from typing import NamedTuple

import numpy as np

from sklearn_calm._arrays.namespace import (
    array_namespace,
    count_true,
    empty,
    exp_in_place,
    like,
    numpy_dtype,
    size,
    take_at,
    to_numpy,
)
from sklearn_calm._convolution.patches import correlate_adjoint, gather_adjoint
from sklearn_calm._mixture.model import MixtureParameters, energies, log_joint

# A component with less than this share of an even one's patches is dead.
DEAD_SHARE = 1e-3
# The noise variance never falls below this share of the mean square of the data.
VARIANCE_FLOOR = 1e-6
# The weight of a component never falls below this.
WEIGHT_FLOOR = 1e-10


class SufficientStatistics(NamedTuple):
    """What an M-step needs of the data: sums over weighted images, so they add over batches."""

    sums: np.ndarray  # (K, D), S_k = sum of gamma x~_u
    counts: np.ndarray  # (K,), N_k = sum of gamma
    log_normalizer: float  # sum over cells of log sum exp l
    energy: float  # Q = sum |y_u|^2
    n_values: float  # M, the number of values in Q
    n_images: float  # sum of the weights of the images


def merge(a, b):
    """Statistics of two sets of images together."""
    return SufficientStatistics(*(x + y for x, y in zip(a, b, strict=True)))


def per_image(statistics, scale=1.0):
    """Statistics of a mean image, which has `scale` of the images that they are sums of."""
    mean = (scale * x / statistics.n_images for x in statistics)
    return SufficientStatistics(*mean)._replace(n_images=1.0)


def blend(old, new, rate):
    """One step of stepwise EM: (1 - rate) old + rate new, each per image (eq. 21)."""
    return SufficientStatistics(
        *(
            (1 - rate) * x / old.n_images + rate * y / new.n_images
            for x, y in zip(old, new, strict=True)
        )
    )


def e_step(images, sample_weight, layer, model, *, with_energy=True, scratch=None):
    """Sufficient statistics of a batch (eqs. 4 and 5).

    Parameters
    ----------
    images : ndarray of shape (n, padded height, padded width, channels)
    sample_weight : ndarray of shape (n,)
    layer : ConvLayer
        Prepared for the geometry and precision of the images.
    model : PatchModel
    with_energy : bool
        False leaves Q at 0: it does not change from pass to pass.
    scratch : Scratch or None
        Memory to work in.
    """
    patches = layer.view(images, model, scratch)
    maps = log_joint(patches, layer, scratch)
    found = posterior(maps, model.cells, sample_weight, patches.sparse_below, scratch)
    return collect(patches, found, images, sample_weight, model, with_energy=with_energy)


def collect(patches, found, images, sample_weight, model, *, with_energy=True):
    """Sufficient statistics of a batch, of which the posterior is found: NumPy, float64."""
    gamma, scale, positions, log_normalizers = found
    if positions is None:
        sums, counts = correlate_adjoint(patches, gamma, scale)
    else:
        sums, counts = gather_adjoint(patches, positions, gamma, scale)
    n_images = float(sample_weight.sum())
    return SufficientStatistics(
        sums=to_numpy(sums).astype(np.float64),
        counts=to_numpy(counts).astype(np.float64),
        log_normalizer=float(sample_weight @ log_normalizers),
        energy=float(sample_weight @ energies(images, model)) if with_energy else 0.0,
        n_values=model.n_values * n_images,
        n_images=n_images,
    )


def responsibilities(maps, cells):
    """gamma(k, u): softmax of the log joint over each cell (eq. 4).

    The maps, (rows, n, columns, K), are overwritten.
    """
    gamma, scale, _, _ = posterior(maps, cells, np.ones(maps.shape[1]))
    gamma *= scale[..., None]
    return gamma


class Posterior(NamedTuple):
    """Responsibilities, weighted by image: scale[u] gamma[k, u] at all positions or at a few."""

    gamma: np.ndarray  # (rows, n, columns, K), or (m, K) at a few
    scale: np.ndarray  # (rows, n, columns)
    positions: tuple | None  # output row, and row of the stripes, of each of the m positions
    log_normalizers: np.ndarray  # (n,), NumPy, float64


def posterior(maps, cells, sample_weight, sparse_below=0, scratch=None):
    """Posterior of a batch of maps, which are overwritten.

    Most positions carry next to nothing. Those that hold the least are left out of the sums, as
    long as no cell loses more than NEGLIGIBLE of its mass (eq. 16) and no more than a share of
    `sparse_below` remain.
    """
    xp = array_namespace(maps)
    peaks = cells.peaks(maps)
    masses = _exponentials(maps, cells.spread(peaks))
    totals = cells.sums(masses)
    scale = cells.spread(like(sample_weight[:, None], maps) / totals)
    log_totals = xp.log(xp.astype(totals, xp.float64)) + xp.astype(peaks, xp.float64)
    log_normalizers = to_numpy(xp.sum(log_totals, axis=(0, 2))) + cells.log_uneven
    if sparse_below and cells.sizes.max() > 1:
        kept = masses > cells.negligible_share(numpy_dtype(maps)) * cells.spread(totals)
        if count_true(kept) < sparse_below * size(kept):
            positions = xp.nonzero(xp.reshape(kept, (kept.shape[0], -1)))
            gamma = _take(maps, positions, scratch)
            return Posterior(gamma, scale, positions, log_normalizers)
    return Posterior(maps, scale, None, log_normalizers)


def _take(maps, positions, scratch):
    """The maps (rows, n, columns, K) at a few positions: (m, K)."""
    xp, n_components = array_namespace(maps), maps.shape[-1]
    rows = xp.reshape(maps, (maps.shape[0], -1, n_components))
    if scratch is None or not isinstance(maps, np.ndarray):
        return take_at(rows, *positions)
    chosen = np.ravel_multi_index(positions, rows.shape[:2])
    taken = scratch.empty("taken", (len(chosen), n_components), maps)
    rows = rows.reshape(-1, n_components)
    return np.take(rows, chosen, axis=0, out=taken, mode="clip")  # "raise" would copy once more


def _exponentials(maps, shift):
    """exp(maps - shift) in place; its sums over components (rows, n, columns).

    One output row at a time fits the cache.
    """
    masses = empty(shift.shape, shift)
    for y in range(maps.shape[0]):
        row = maps[y, ...]
        row -= shift[y, ..., None]
        masses[y, ...] = _sum_last(exp_in_place(row))
    return masses


def _sum_last(values):
    """Sum over the last axis, as a product that BLAS makes."""
    return values @ like(np.ones(values.shape[-1]), values)


def background(energy, n_values, noise_variance):
    """Log-likelihood of noise alone (eq. 9)."""
    return -energy / (2 * noise_variance) - n_values / 2 * np.log(2 * np.pi * noise_variance)


def objective(statistics, noise_variance):
    """Log-likelihood per image of the parameters that made the statistics (eq. 9)."""
    noise = background(statistics.energy, statistics.n_values, noise_variance)
    return (statistics.log_normalizer + noise) / statistics.n_images


def log_likelihoods(images, layer, model, noise_variance, scratch=None):
    """Log-likelihood of each image (eq. 9): float64, shape (n,)."""
    maps = log_joint(layer.view(images, model, scratch), layer, scratch)
    found = posterior(maps, model.cells, np.ones(images.shape[0]))
    return found.log_normalizers + background(
        energies(images, model), model.n_values, noise_variance
    )


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
    means = np.where(found[:, None], sums / np.where(found, counts, 1)[:, None], old.means)
    weights = floored_weights(counts) if learn_weights else old.weights
    if noise_variance == "auto":
        explained = counts @ np.square(preprocessing.whiten(means)).sum(axis=1)
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
