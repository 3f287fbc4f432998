"""What a fitted layer says of images: features, log-likelihoods."""

from itertools import repeat

from sklearn_calm._arrays.namespace import array_namespace, copied
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._convolution.patches import correlate_rows
from sklearn_calm._convolution.pooling import pool, pool_rectified
from sklearn_calm._mixture.cells import Cells
from sklearn_calm._mixture.em import log_likelihoods, responsibilities
from sklearn_calm._mixture.model import log_joint


def feature_layer(layer, model, pooler, placement):
    """The layer whose maps are pooled, prepared for where batches are worked on."""
    return folded(layer, pooler).prepared(model.geometry, placement)


def folded(layer, pooler):
    """The layer that gives the maps that are pooled."""
    return layer if pooler is None else pooler.pooling.fold(layer)


def pools_by_row(layer, pooler):
    """Whether each output row is pooled as it is computed, so that no maps are held."""
    return pooler is not None and pooler.pooling.rectified and layer.spectrum is None


def batch_features(rows, images, layer, model, pooler, scratch=None):
    """Features of a batch of images: (n, n_features), or maps where there is no pooler.

    The layer is that of `feature_layer`.
    """
    scratch = Scratch() if scratch is None else scratch
    patches = layer.view(images.read(rows), model, scratch)
    if pooler is not None and pooler.pooling.rectified:
        return _rectified_features(patches, layer, pooler, scratch)
    maps = log_joint(patches, layer, scratch)
    if pooler is None:
        return copied(array_namespace(maps).permute_dims(maps, (1, 0, 2, 3)))
    if pooler.pooling.shares is not None:
        cells = share_cells(pooler.pooling, model.cells, model.geometry.map_shape)
        maps = responsibilities(maps, cells)
    return pool(maps, pooler)


def share_cells(pooling, cells, map_shape):
    """The cells over each of which the shares of a pooling add up to one."""
    return cells if pooling.shares == "cell" else Cells.from_assignment("patch", map_shape)


def _rectified_features(patches, layer, pooler, scratch):
    """Features of rectified maps: each output row is pooled while it is in the cache."""
    n_rows, n_columns = patches.geometry.map_shape
    xp, images = array_namespace(patches.images), patches.images
    n, n_components = images.shape[0], layer.bias.shape[0]
    scale = xp.ones((n_rows, n, n_columns), dtype=images.dtype, device=images.device)
    if pools_by_row(layer, pooler):
        row = scratch.empty("row", (n * n_columns, n_components), images)
        correlated = correlate_rows(patches, layer.weight, layer.bias, repeat(row, n_rows))
        rows = (xp.reshape(row, (n, n_columns, n_components)) for row in correlated)
        if patches.deviation is not None:
            scale = 1 / patches.deviation
    else:
        maps = log_joint(patches, layer, scratch)
        rows = (maps[y, ...] for y in range(n_rows))
    return pool_rectified(rows, scale, pooler)


def batch_log_likelihoods(rows, images, layer, model, noise_variance, scratch=None):
    """Log-likelihood of each image of a batch."""
    return log_likelihoods(images.read(rows), layer, model, noise_variance, scratch)
