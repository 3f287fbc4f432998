"""New patches for dead components.

A component that explains nothing starts again from the patch that the mixture explains worst, if
that does not lower the objective (docs/mathematics.rst, eq. 22).
"""

import numpy as np
from scipy.special import logsumexp
from sklearn.utils.random import sample_without_replacement

from sklearn_calm._convolution.geometry import slices
from sklearn_calm._convolution.observed import own_means_filled, without_unused
from sklearn_calm._convolution.windows import LOG_ZERO
from sklearn_calm._mixture.em import dead_components
from sklearn_calm._mixture.model import conv_layer, log_joint, patch_energies
from sklearn_calm._mixture.posterior import cell_log_normalizers
from sklearn_calm._mixture.preprocessing import normalize_contrast
from sklearn_calm._mixture.seeds import join_equal

MAX_IMAGES = 1000


def reseed(images, parameters, statistics, model, *, learn_weights, batch_size, rng, scale=1.0):
    """Give dead components the worst explained patches of (a sample of) the images.

    Parameters
    ----------
    images : ImageSource
    parameters : MixtureParameters
    statistics : SufficientStatistics
        Of the last E-step: they say which components are dead.
    model : PatchModel
    scale : float
        Weight that an image of weight 1 has in the statistics.

    Returns
    -------
    parameters : MixtureParameters
    n_reseeded : int
        Less than the number of dead components where few patches are badly explained.
    """
    lightest = images.least_weight * scale
    dead = np.flatnonzero(dead_components(statistics, lightest))
    # Together they must hold less than half of any cell, so the emptiest come first.
    dead = dead[np.argsort(statistics.counts[dead], kind="stable")]
    dead = dead[statistics.counts[dead].cumsum() < lightest / 2]
    if not len(dead):
        return parameters, 0
    n_candidates = min(len(images), MAX_IMAGES)
    # This memory does not grow with the number of images, of which there may be billions.
    sampled = np.sort(sample_without_replacement(len(images), n_candidates, random_state=rng))
    images = images.on_host(sampled)
    image_rows, weights = _joined(images)
    # Weight of each image in the statistics, and the weight with which a new component starts.
    unit = weights * scale
    share = unit / statistics.counts.sum()
    # New weights lower all others, which costs every cell a little; and what a dead component
    # explained is lost.
    cost = 2 * statistics.counts[dead].max()
    if learn_weights:
        cost = cost + 2 * unit
    else:
        share = np.full(len(image_rows), parameters.weights[dead].min())
    # A new component explains its patch as it is under one transformation of several.
    one = share / model.symmetry.order
    gains, positions = _gains(images, image_rows, one, parameters, model, batch_size)
    worth = unit * gains - cost
    chosen = _best_distinct(images, image_rows, positions, worth, len(dead), model.symmetry)
    if not len(chosen):
        return parameters, 0
    patches = images.patches(image_rows[chosen], positions[chosen]).astype(np.float64)
    revived = dead[: len(chosen)]
    means, weights = parameters.means.copy(), parameters.weights.copy()
    normalized = normalize_contrast(patches, model.preprocessing.contrast_floor)
    means[revived] = own_means_filled(normalized)
    if learn_weights:
        weights[revived] = share[chosen]
        weights /= weights.sum()
    return parameters._replace(means=means, weights=weights), len(chosen)


def _joined(images):
    """Rows and weights of distinct images: three equal ones are one image of weight 3."""
    pixels = images.X.reshape(len(images), -1)
    first, weights = join_equal(pixels, images.weights(slice(None)))
    order = np.argsort(first)
    return first[order], weights[order]


def _gains(images, image_rows, share, parameters, model, batch_size):
    """Gain in its cell of the best new patch of each image, and the position of the patch."""
    layer = conv_layer(parameters, model).prepared(model, images.placement)
    log_cell = np.log(model.geometry.n_positions / model.cells.n_cells)
    gains, positions = np.empty(len(image_rows)), np.empty(len(image_rows), dtype=int)
    for part in slices(len(image_rows), batch_size):
        batch = images.read(image_rows[part])
        patches = layer.view(batch)
        log_masses = logsumexp(log_joint(patches, layer), axis=-1, keepdims=True)
        log_masses = without_unused(log_masses, patches.used)[..., 0]
        peaks = model.cells.peaks(log_masses[..., None])
        totals = model.cells.sums(np.exp(log_masses - model.cells.spread(peaks)))
        new = patch_energies(batch, model) / (2 * parameters.noise_variance) - log_cell
        odds = new - model.cells.spread(cell_log_normalizers(totals, peaks))
        if patches.used is not None:
            odds = np.where(patches.used > 0, odds, LOG_ZERO)
        odds = odds.transpose(1, 0, 2).reshape(odds.shape[1], -1)
        positions[part] = odds.argmax(axis=1)
        with np.errstate(divide="ignore"):
            gains[part] = np.logaddexp(0, odds.max(axis=1) + np.log(share[part]))
    return gains, positions


def _best_distinct(images, image_rows, positions, worth, most, symmetry):
    """The images of highest worth, no two of which give the same patch, in ascending order.

    Patches that the symmetry turns into one another are the same.
    """
    candidates = np.argsort(-worth, kind="stable")[: 4 * most]
    candidates = np.sort(candidates[worth[candidates] > 0])
    patches = images.patches(image_rows[candidates], positions[candidates])
    patches = symmetry.canonical(own_means_filled(patches))
    _, first = np.unique(patches, axis=0, return_index=True)
    candidates = candidates[first]
    return np.sort(candidates[np.argsort(-worth[candidates], kind="stable")][:most])
