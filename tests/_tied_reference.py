"""Literal twins of tied kernels: components that appear under a group of transformations.

Like `_reference`, on which it is built, it is written from the mathematics alone and never imports
sklearn_calm.
"""

import itertools

import numpy as np
from scipy.special import logsumexp

import _reference


def mirrored(array):
    """Mirror an array (rows, columns, ...) left to right."""
    result = np.empty_like(array)
    for r, c in np.ndindex(array.shape[:2]):
        result[r, c] = array[r, array.shape[1] - 1 - c]
    return result


def turned(array):
    """Turn an array (rows, columns, ...) by a quarter, counterclockwise: right becomes top."""
    rows, columns = array.shape[:2]
    result = np.empty((columns, rows, *array.shape[2:]), array.dtype)
    for r, c in np.ndindex(columns, rows):
        result[r, c] = array[c, columns - 1 - r]
    return result


def elements(names):
    """All combinations of the transformations named: a list of (sign, mirror or not, turns)."""
    signs = [1, -1] if "sign" in names else [1]
    mirrors = [False, True] if "mirror" in names else [False]
    turns = range(4) if "rotation" in names else [0]
    return list(itertools.product(signs, mirrors, turns))


def transform(array, element, *, signed=True):
    """Transform an array (rows, columns, ...): mirror it, then turn it, then change its sign."""
    sign, mirror, turns = element
    if mirror:
        array = mirrored(array)
    for _ in range(turns):
        array = turned(array)
    return sign * array if signed else array


def undo(array, element):
    """The inverse of `transform`."""
    sign, mirror, turns = element
    for _ in range((4 - turns) % 4):
        array = turned(array)
    return sign * (mirrored(array) if mirror else array)


def expand(vectors, shape, names):
    """Vectors (K, D) of arrays of a shape under all transformations: (K G, D)."""
    return np.array(
        [
            transform(vector.reshape(shape), element).ravel()
            for vector in vectors
            for element in elements(names)
        ]
    )


def expanded(mixture, shape, names):
    """The mixture of K G components, which share the weights of K."""
    order = len(elements(names))
    return _reference.Mixture(
        expand(mixture.means, shape, names),
        np.repeat(mixture.weights / order, order),
        mixture.noise_variance,
    )


def e_step(images, sample_weight, mixture, setting, shape, names):
    """Statistics of K components: each patch is brought back before it is added up."""
    stats = _reference.e_step(images, sample_weight, expanded(mixture, shape, names), setting)
    sums, counts = np.zeros_like(mixture.means), np.zeros(len(mixture.means))
    group = elements(names)
    for k in range(len(counts)):
        for g, element in enumerate(group):
            sums[k] += undo(stats.sums[k * len(group) + g].reshape(shape), element).ravel()
            counts[k] += stats.counts[k * len(group) + g]
    return stats._replace(sums=sums, counts=counts)


def run_em(images, sample_weight, mixture, setting, n_passes, shape, names):
    """`_reference.run_em` of tied kernels."""
    objectives = []
    for _ in range(n_passes):
        stats = e_step(images, sample_weight, mixture, setting, shape, names)
        objectives.append(_reference.objective(stats, mixture.noise_variance) / stats.n_images)
        mixture = _reference.m_step(stats, True, "auto", setting.mean, setting.whitener)
    return mixture, objectives


def pool(features, pooling, grid, names, over):
    """Features (regions K G,) of one image, pooled over the transformations: (regions K,).

    The feature of component k in region r is made of those of its kernels g: in region r, or in
    that to which g takes r if `over` is "image".
    """
    group = elements(names)
    features = features.reshape(*grid, -1, len(group))
    reduce = {
        "logsumexp": logsumexp,
        "max": np.max,
        "mean": np.sum,
        "proportion": np.mean,
        "tempered": np.sum,
        "triangle": np.mean,
    }[pooling]
    regions = np.array(list(np.ndindex(grid))).reshape(*grid, 2)
    pooled = []
    for i, j in np.ndindex(grid):
        for k in range(features.shape[2]):
            values = []
            for g, element in enumerate(group):
                region = i, j
                if over == "image":
                    moved = transform(regions, element, signed=False)
                    (region,) = [at for at in np.ndindex(grid) if tuple(moved[at]) == (i, j)]
                values.append(features[*region, k, g])
            pooled.append(reduce(values))
    return np.array(pooled)
