"""What a fitted layer says of images: features, log-likelihoods."""

import math

from sklearn_calm._arrays.namespace import array_namespace, copied, numpy_dtype, rectify
from sklearn_calm._convolution.patches import StripedPatches
from sklearn_calm._convolution.pooling import (
    above_thresholds,
    bands_of_rows,
    pool,
    pool_rectified,
    pool_symmetry,
    tied_maps,
)
from sklearn_calm._mixture.cells import Cells
from sklearn_calm._mixture.em import cell_log_likelihoods, log_likelihoods
from sklearn_calm._mixture.model import log_joint
from sklearn_calm._mixture.posterior import responsibilities
from sklearn_calm._mixture.preprocessing import mean_contrast


def feature_layer(layer, model, pooler, placement, scratch=None):
    """The layer whose maps are pooled, as `ConvLayer.prepared` returns it."""
    return folded(layer, pooler).prepared(model, placement, scratch)


def folded(layer, pooler):
    """The layer that gives the maps that are pooled."""
    return layer if pooler is None else pooler.pooling.fold(layer)


def pools_by_row(layer, pooler):
    """Whether each row of the map is pooled as it is computed, so that no maps are held."""
    return pooler is not None and pooler.pooling.rectified and layer.is_striped


def batch_features(image_rows, images, layer, pooler, *, order=1):
    """Features of a batch of images: (n, n_features), or maps where there is no pooler.

    The layer is that of `feature_layer`. Maps are those of components, of `order` tied kernels
    each.
    """
    return patches_features(layer.view(images.read(image_rows)), layer, pooler, order=order)


def patches_features(patches, layer, pooler, *, order=1):
    """`batch_features` of the patches of a batch, as the layer views them."""
    if pooler is None:
        maps = tied_maps(log_joint(patches, layer), order)
        if patches.used is not None:
            maps[patches.used == 0] = math.nan
        return copied(array_namespace(maps).permute_dims(maps, (1, 0, 2, 3)))
    return pool_symmetry(_pooled(patches, layer, pooler), pooler, layer.bias.shape[0])


def _pooled(patches, layer, pooler):
    """Features of all kernels."""
    if pooler.pooling.rectified:
        return _rectified_features(patches, layer, pooler)
    maps, used = log_joint(patches, layer), patches.used
    if pooler.pooling.shares is not None:
        cells = share_cells(pooler.pooling, layer.model.cells, patches.geometry.map_shape)
        maps = responsibilities(maps, cells, used)
    return pool(maps, pooler, used)


def averaged_maps(patches, layer, pooling, *, both=False, thresholds=None, contrast=0.0):
    """What a pooling averages, at each position: (rows, n, columns, channels).

    Positions whose patches do not count hold any finite value.

    Parameters
    ----------
    patches : Patches
    layer : PreparedLayer
        Folded for the pooling.
    pooling : Pooling
        A mean.
    both : bool
        Whether what is negative follows what is positive, in K channels of its own.
    thresholds : ndarray of shape (T, K) or None
        Of a pooling that has some: each has K channels.
    contrast : float
        As of `Pooler`.
    """
    maps = log_joint(patches, layer)
    if thresholds is not None:
        return above_thresholds(maps, thresholds)
    if pooling.shares is not None:
        cells = share_cells(pooling, layer.model.cells, patches.geometry.map_shape)
        return responsibilities(maps, cells)
    xp = array_namespace(maps)
    if contrast > 0:
        maps *= contrast_weights(patches, layer, contrast)[..., None]
    zeros = xp.zeros_like(maps)
    if not both:
        return rectify(maps, zeros)
    negative = rectify(-maps, zeros)
    return xp.concat([rectify(maps, zeros), negative], axis=3)


def tied_averages(maps, pooling, order):
    """Maps of `averaged_maps`, reduced from tied kernels to components: (..., K) of (..., K G)."""
    if order == 1:
        return maps
    xp = array_namespace(maps)
    tied = xp.reshape(maps, (*maps.shape[:-1], -1, order))
    return getattr(xp, pooling.over_symmetry)(tied, axis=-1)


def contrast_weights(patches, layer, power):
    """What scores are multiplied by, from the contrast of patches (eq. 49): (rows, n, columns)."""
    mean = mean_contrast(layer.model.preprocessing.contrast_floor)
    return (patches.contrasts() / mean) ** power


def share_cells(pooling, cells, map_shape):
    """The cells over each of which the shares of a pooling add up to one."""
    return cells if pooling.shares == "cell" else Cells.from_assignment("patch", map_shape)


def _rectified_features(patches, layer, pooler):
    """Features of rectified maps: each row of the map is pooled while it is in the cache."""
    n_rows, n_columns = patches.geometry.map_shape
    xp, images = array_namespace(patches.images), patches.images
    scale = xp.ones((n_rows, images.shape[0], n_columns), dtype=images.dtype, device=images.device)
    if isinstance(patches, StripedPatches):
        n_scores = images.shape[0] * n_columns * layer.bias.shape[0]
        bands = bands_of_rows(n_rows, n_scores * numpy_dtype(images).itemsize)
        maps = patches.correlate_bands(layer.kernels, layer.bias, bands)
        if patches.deviation is not None:
            scale = 1 / patches.deviation
    elif layer.is_striped:  # with missing values
        maps = (row[None, ...] for row in patches.correlate_rows(*layer.parts_for(patches)))
    else:
        whole = log_joint(patches, layer)
        maps = (whole[y : y + 1, ...] for y in range(n_rows))
    if pooler.contrast > 0:
        scale = scale * contrast_weights(patches, layer, pooler.contrast)
    return pool_rectified(maps, scale, pooler, patches.used)


def batch_log_likelihoods(image_rows, images, layer, noise_variance):
    """Log-likelihood of each image of a batch."""
    return log_likelihoods(images.read(image_rows), layer, noise_variance)


def batch_score_maps(image_rows, images, layer, noise_variance):
    """Log-likelihood of each cell of each image of a batch."""
    return cell_log_likelihoods(images.read(image_rows), layer, noise_variance)
