"""What a fitted layer says of images: features, log-likelihoods."""

from itertools import repeat

from sklearn_calm._arrays.namespace import array_namespace, copied
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._convolution.patches import correlate_rows
from sklearn_calm._convolution.pooling import pool, pool_triangle
from sklearn_calm._mixture.cells import Cells
from sklearn_calm._mixture.em import log_likelihoods, responsibilities
from sklearn_calm._mixture.model import ConvLayer, log_joint


def feature_layer(layer, model, pooling, placement):
    """The layer whose maps are pooled, prepared for where batches are worked on."""
    return pooled_layer(layer, pooling).prepared(model.geometry, placement)


def pooled_layer(layer, pooling):
    """The layer that gives what a pooling starts from, if that is not the log joint."""
    if pooling == "triangle":
        return less_mean(layer)
    return tempered(layer) if pooling == "tempered" else layer


def pools_by_row(layer, pooling):
    """Whether each output row is pooled as it is computed, so that no maps are held."""
    return pooling == "triangle" and layer.spectrum is None


def less_mean(layer):
    """The layer whose maps are those of `layer` less the mean of all components (eq. 20)."""
    return ConvLayer(layer.weight - layer.weight.mean(axis=0), layer.bias - layer.bias.mean())


def tempered(layer):
    """The layer whose log joint is per value of a patch, not per patch (eq. 27)."""
    length = layer.weight.shape[1]
    return ConvLayer(layer.weight / length, layer.bias / length)


def batch_features(rows, images, layer, model, pooling, pool_grid, scratch=None):
    """Features of a batch of images: (n, n_features), or maps for pooling None.

    The layer is that of `feature_layer`.
    """
    scratch = Scratch() if scratch is None else scratch
    patches = layer.view(images.read(rows), model, scratch)
    if pooling == "triangle":
        return _triangle(patches, layer, pool_grid, scratch)
    maps = log_joint(patches, layer, scratch)
    if pooling is None:
        return copied(array_namespace(maps).permute_dims(maps, (1, 0, 2, 3)))
    if pooling in ("mean", "tempered"):
        maps, pooling = responsibilities(maps, share_cells(model, pooling)), "mean"
    return pool(maps, pooling, pool_grid)


def share_cells(model, pooling):
    """The cells over which shares add up to one: tempered ones do at every position."""
    if pooling == "mean":
        return model.cells
    return Cells.from_assignment("patch", model.geometry.map_shape)


def _triangle(patches, layer, pool_grid, scratch):
    """Features that need no maps: each output row is pooled while it is in the cache."""
    n_rows, n_columns = patches.geometry.map_shape
    xp, images = array_namespace(patches.images), patches.images
    n, n_components = images.shape[0], layer.bias.shape[0]
    scale = xp.ones((n_rows, n, n_columns), dtype=images.dtype, device=images.device)
    if pools_by_row(layer, "triangle"):
        row = scratch.empty("row", (n * n_columns, n_components), images)
        rows = correlate_rows(patches, layer.weight, layer.bias, repeat(row, n_rows))
        if patches.deviation is not None:
            scale = 1 / patches.deviation
    else:
        maps = log_joint(patches, layer, scratch)
        rows = (xp.reshape(maps[y, ...], (-1, n_components)) for y in range(n_rows))
    return pool_triangle(rows, scale, pool_grid)


def batch_log_likelihoods(rows, images, layer, model, noise_variance, scratch=None):
    """Log-likelihood of each image of a batch."""
    return log_likelihoods(images.read(rows), layer, model, noise_variance, scratch)
