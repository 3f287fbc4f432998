"""New patches for dead components.

A component that explains nothing starts again from the patch that the mixture explains worst, if
that does not lower the objective (docs/mathematics.rst, eq. 22).
"""

import numpy as np
from scipy.special import logsumexp
from sklearn.utils.random import sample_without_replacement

from sklearn_calm._mixture.em import dead_components
from sklearn_calm._mixture.model import conv_layer, log_joint, patch_energies
from sklearn_calm._mixture.preprocessing import normalize_contrast
from sklearn_calm._mixture.seeds import join_equal

MAX_IMAGES = 1000


def reseed(images, parameters, statistics, model, *, learn_weights, batch_size, rng, scale=1.0):
    """Give dead components the worst explained patches of (a sample of) the images.

    Parameters
    ----------
    images : Images
    parameters : MixtureParameters
    statistics : SufficientStatistics
        Of the last E-step; they tell which components are dead.
    model : PatchModel
    scale : float
        What an image of weight 1 weighs in the statistics.

    Returns
    -------
    parameters : MixtureParameters
    n_reseeded : int
        Fewer than there are dead ones where nothing is badly explained.
    """
    lightest = images.least_weight * scale
    dead = np.flatnonzero(dead_components(statistics, lightest))
    # Together, too, they must not hold half of any cell: the emptiest first.
    dead = dead[np.argsort(statistics.counts[dead], kind="stable")]
    dead = dead[statistics.counts[dead].cumsum() < lightest / 2]
    if not len(dead):
        return parameters, 0
    n_looked_at = min(len(images), MAX_IMAGES)
    # In memory that does not grow with the images, of which there may be billions.
    rows = np.sort(sample_without_replacement(len(images), n_looked_at, random_state=rng))
    images, rows = images.on_host(rows), np.arange(len(rows))
    # What one image weighs in the statistics, and the weight a new component starts with.
    rows, weights = _joined(images, rows)
    unit = weights * scale
    share = unit / statistics.counts.sum()
    # Making room for new weights costs every cell a little, and what a dead one explained is lost.
    cost = 2 * statistics.counts[dead].max()
    if learn_weights:
        cost = cost + 2 * unit
    else:
        share = np.full(len(rows), parameters.weights[dead].min())
    gains, positions = _gains(images, rows, share, parameters, model, batch_size)
    chosen = _best_distinct(images, rows, positions, unit * gains - cost, len(dead))
    if not len(chosen):
        return parameters, 0
    patches = images.patches(rows[chosen], positions[chosen]).astype(np.float64)
    revived = dead[: len(chosen)]
    means, weights = parameters.means.copy(), parameters.weights.copy()
    means[revived] = normalize_contrast(patches, model.preprocessing.contrast_floor)
    if learn_weights:
        weights[revived] = share[chosen]
        weights /= weights.sum()
    return parameters._replace(means=means, weights=weights), len(chosen)


def _joined(images, rows):
    """Of equal images the first, with the weight of all: three copies are one image of weight 3."""
    pixels = images.X.reshape(len(rows), -1)
    first, weights = join_equal(pixels, images.weights(rows))
    order = np.argsort(first)
    return rows[first[order]], weights[order]


def _gains(images, rows, share, parameters, model, batch_size):
    """What the best new patch of each image would gain in its cell, and its position."""
    layer = conv_layer(parameters, model).prepared(model, images.placement)
    log_cell = np.log(model.geometry.n_positions / model.cells.n_cells)
    gains, positions = np.empty(len(rows)), np.empty(len(rows), dtype=int)
    for start in range(0, len(rows), batch_size):
        part = slice(start, start + batch_size)
        batch = images.read(rows[part])
        maps = log_joint(layer.view(batch), layer)
        known = logsumexp(maps, axis=-1)
        peaks = model.cells.peaks(known[..., None])
        masses = model.cells.sums(np.exp(known - model.cells.spread(peaks)))
        new = patch_energies(batch, model) / (2 * parameters.noise_variance) - log_cell
        odds = new - model.cells.spread(peaks + np.log(masses))
        odds = odds.transpose(1, 0, 2).reshape(odds.shape[1], -1)
        positions[part] = odds.argmax(axis=1)
        with np.errstate(divide="ignore"):
            gains[part] = np.logaddexp(0, odds.max(axis=1) + np.log(share[part]))
    return gains, positions


def _best_distinct(images, rows, positions, worth, most):
    """The images worth most, no two of which give the same patch, in ascending order."""
    candidates = np.argsort(-worth, kind="stable")[: 4 * most]
    candidates = np.sort(candidates[worth[candidates] > 0])
    patches = images.patches(rows[candidates], positions[candidates])
    _, first = np.unique(patches, axis=0, return_index=True)
    candidates = candidates[first]
    return np.sort(candidates[np.argsort(-worth[candidates], kind="stable")][:most])
