"""Starting kernels, and the sample of patches for them and for the preprocessing.

As long as all patches fit the sample, the draws depend on the patches and their weights alone. They
do not depend on the order of the images, nor on whether an image is given twice or with weight 2:
before anything is drawn, patches are sorted and equal ones are joined.
"""

from typing import NamedTuple

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import gen_batches

from sklearn_calm._convolution.symmetry import NO_SYMMETRY

# Patches to fit for each component, in all at least and at most, and values: 128 MiB of float32.
PATCHES_PER_COMPONENT = 250
MIN_PATCHES, MAX_PATCHES = 20_000, 200_000
MAX_VALUES = 2**25
# Distances, or products, that are held at a time.
HELD_DISTANCES = 2**22
# Seeds that k-means++ chooses together, and how many patches there are for each where it does so.
SEEDS_TOGETHER = 256
LEAST_PATCHES = 4
# Length that whitened seeds are drawn in to, over the root mean square length of a patch.
SEED_LENGTH = 0.3


class PatchSample(NamedTuple):
    """Patches (m, D) and their weights (m,)."""

    patches: np.ndarray
    weights: np.ndarray
    complete: bool  # whether they are all there are


def patches_to_fit(subsample, n_components):
    """Number of patches that are fitted at most, as the parameter of the estimator says."""
    if subsample != "auto":
        return subsample
    return min(max(PATCHES_PER_COMPONENT * n_components, MIN_PATCHES), MAX_PATCHES)


def sample_patches(images, rng, max_patches=None):
    """All patches of the images with their images' weights, or a random sample if they are many.

    Parameters
    ----------
    images : ImageSource
    rng : numpy.random.RandomState
    max_patches : int or None
        None is MAX_PATCHES. They have MAX_VALUES at most.
    """
    most = MAX_PATCHES if max_patches is None else max_patches
    most = min(most, max(MAX_VALUES // images.geometry.patch_length, 1))
    complete = images.total_positions <= most
    if complete:
        n_positions = np.broadcast_to(images.n_positions, len(images))
        image_rows = np.repeat(np.arange(len(images)), n_positions)
        before = n_positions.cumsum() - n_positions  # positions of the images before each
        positions = np.arange(len(image_rows)) - before[image_rows]
        weights = images.weights(slice(None))[image_rows]
    else:
        image_rows = np.sort(rng.choice(len(images), most, p=images.shares))
        n_positions = images.n_positions
        if images.several_sizes:
            n_positions = n_positions[image_rows]
        positions = rng.randint(n_positions, size=most)
        weights = np.ones(most)
    kept = weights > 0
    patches, weights = images.patches(image_rows[kept], positions[kept]), weights[kept]
    if images.missing is not None:
        counts = ~np.isnan(patches).all(axis=1)
        if not counts.any():
            raise ValueError(
                "X misses too many values: among the patches that were looked at, none has the "
                f"share min_observed={images.missing.min_observed} of its values. Give images of "
                "which more is there, or lower min_observed or patch_size."
            )
        if not counts.all():
            patches, weights = patches[counts], weights[counts]
    return PatchSample(patches, weights, complete)


def distinct(patches, weights):
    """Patches in an order of their own, equal ones joined and their weights added."""
    first, weights = join_equal(patches, weights)
    return patches[first], weights


def join_equal(rows, weights):
    """The first of each kind of equal rows, in an order of their own, and the weights of each."""
    if np.isnan(rows).any():  # NaN equals nothing, not even itself
        rows = np.concatenate([np.nan_to_num(rows), np.isnan(rows)], axis=1)
    # Any fixed direction orders the rows; only equal ones tie.
    direction = np.random.RandomState(0).standard_normal(rows.shape[1])
    # In parts, as products are of float64. No BLAS, by which equal rows may differ by rounding.
    parts = gen_batches(len(rows), max(1, HELD_DISTANCES // rows.shape[1]))
    places = np.concatenate([(rows[part] * direction).sum(axis=1) for part in parts])
    order = np.argsort(places, kind="stable")
    ordered = rows[order]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order[new], np.add.reduceat(weights[order], np.flatnonzero(new))


def starting_means(init, sample, preprocessing, n_components, rng, symmetry=NO_SYMMETRY):
    """Means (K, D) of normalised patches to start EM from.

    Parameters
    ----------
    init : {"k-means++", "random_from_data", "random"} or ndarray of shape (K, D)
    sample : PatchSample
        Normalised, not yet whitened patches.
    preprocessing : Preprocessing
    n_components : int
    rng : numpy.random.RandomState
    symmetry : Symmetry
        Patches that it turns into one another count as equal.
    """
    if not isinstance(init, str):
        return np.asarray(init, dtype=np.float64)
    if init == "random":
        return rng.standard_normal((n_components, sample.patches.shape[1]))
    most = max(10_000, 10 * n_components)
    patches, weights = symmetry.canonical(sample.patches), sample.weights
    if sample.complete:
        patches, weights = distinct(patches, weights)
    if len(patches) > most:
        chosen = rng.choice(len(patches), most, replace=False)
        patches, weights = distinct(patches[chosen], weights[chosen])
    n_seeds = min(n_components, len(patches))
    if init == "k-means++":
        points = preprocessing.whiten(patches)
        chosen = choose_seeds(points, weights, n_seeds, rng)
    else:
        chosen = rng.choice(len(patches), n_seeds, replace=False, p=weights / weights.sum())
    # Fewer distinct patches than components: some start alike, and stay alike.
    seeds = patches[np.resize(chosen, n_components)].astype(np.float64)
    if preprocessing.whitener is None:
        return seeds
    return drawn_in(seeds, patches, weights, preprocessing, symmetry)


def choose_seeds(points, weights, n_seeds, rng):
    """Which of the points (m, D) k-means++ chooses (eq. 23), many of them in several groups.

    To choose each seed takes a product with all points. In groups, the time grows in proportion to
    the number of seeds, and the points of a group fit the cache.
    """
    # Here, as processes that only transform need not wait for it.
    from sklearn.cluster import kmeans_plusplus

    n_groups = n_seeds // SEEDS_TOGETHER if len(points) >= LEAST_PATCHES * n_seeds else 1
    if n_groups < 2:
        return kmeans_plusplus(points, n_seeds, sample_weight=weights, random_state=rng)[1]
    chosen, order = [], rng.permutation(len(points))
    edges = np.arange(n_groups + 1) * n_seeds // n_groups
    for group, n_chosen in enumerate(np.diff(edges)):
        rows = order[group::n_groups]
        _, found = kmeans_plusplus(
            points[rows], n_chosen, sample_weight=weights[rows], random_state=rng
        )
        chosen.append(rows[found])
    return np.concatenate(chosen)


def drawn_in(seeds, patches, weights, preprocessing, symmetry=NO_SYMMETRY):
    """Seeds (K, D) moved towards the mean, as far as their whitened length asks (eq. 24).

    In many dimensions a patch is far from all others, and one that is far from the mean too stays
    alone in its component for good. Along its direction but near the mean it wins the patches that
    point its way. The farther a patch the farther it stays, so seeds remain distinct; and the
    nearer patches lie to the seeds, as they do where there are clusters, the less are these moved.
    """
    points = preprocessing.whiten(patches)
    centres = preprocessing.whiten(seeds)
    errors = least_square_distances(points, preprocessing.whiten(symmetry.expand(seeds)))
    square = np.average(np.square(points).sum(axis=1), weights=weights)
    error = np.average(errors, weights=weights)
    if error <= 0:
        return seeds
    most = SEED_LENGTH**2 * square * max(square / error, 1)
    share = np.sqrt(most / (most + np.square(centres).sum(axis=1, keepdims=True)))
    return preprocessing.mean + share * (seeds - preprocessing.mean)


def least_square_distances(points, centres):
    """Square distance of each point (m, D) to the nearest of the centres (K, D).

    What scikit-learn has for it works with OpenMP, which waits forever in a forked child of a
    process that has used it.
    """
    step = max(1, HELD_DISTANCES // len(centres))
    parts = [
        euclidean_distances(points[rows], centres, squared=True).min(axis=1)
        for rows in gen_batches(len(points), step)
    ]
    return np.concatenate(parts)
