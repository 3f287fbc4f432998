"""Features of large images, band by band of rows of their maps.

A mean over the positions is a sum over bands, so that no array of the size of an image is made.
"""

import math
from functools import partial
from itertools import pairwise

from sklearn_calm._arrays.namespace import array_namespace
from sklearn_calm._batches import workers_of
from sklearn_calm._convolution.geometry import even_edges
from sklearn_calm._convolution.pooling import pool_symmetry
from sklearn_calm._images.reader import Images
from sklearn_calm._images.tiles import Tile, read_tile
from sklearn_calm._mixture.features import feature_layer, patches_features
from sklearn_calm._mixture.starting import patch_model

# Images whose stripes or scores take more than this are worked on band by band; and a band.
LARGE_BYTES = 2**28
BAND_BYTES = 2**24


def pools_by_band(features, images, pooler):
    """Whether images are so large that bands are worth it, and their pooling can be cut."""
    if images.missing is not None:
        return False
    if not isinstance(images, Images) or images.X.shape[1:3] != images.geometry.image_shape[:2]:
        return False
    if pooler is not None and not _is_mean_of_positions(features, pooler.pooling):
        return False
    return images.geometry.n_positions * _position_bytes(features, images) > LARGE_BYTES


def _is_mean_of_positions(features, pooling):
    """Whether features are a mean over positions, each of which is seen by itself."""
    by_itself = pooling.shares == "position" or features.assignment == "patch"
    return pooling.rectified or (pooling.shares is not None and by_itself)


def _position_bytes(features, images):
    held = (
        features.conv_bias_.shape[0] + images.geometry.stripe_length // images.geometry.n_positions
    )
    return held * images.dtype.itemsize


def features_by_band(features, images, pooler, shape, order, scratch):
    """Features of large images: (n, *shape), where X is.

    Parameters
    ----------
    features : ConvGMMFeatures
    images : Images
    pooler : Pooler or None
        None gives the maps.
    shape : tuple of int
        Of the features of one image.
    order : int
        Number of tied kernels that become one map.
    scratch : Scratch
    """
    geometry, home = images.geometry, images.home
    n_rows, n_columns = geometry.map_shape
    row_bytes = n_columns * _position_bytes(features, images)
    edges = even_edges(n_rows, min(n_rows, -(-n_rows * row_bytes // BAND_BYTES)))
    tiles = [
        Tile(image, slice(top, bottom), slice(0, n_columns))
        for image in range(len(images))
        for top, bottom in pairwise(edges)
    ]
    step = partial(
        _band, features=features, images=images, pooler=pooler, order=order, scratch=scratch
    )
    dtype, n_kernels = getattr(home.xp, home.dtype.name), features.conv_bias_.shape[0]
    if pooler is not None:
        each = math.prod(_of_kernels(pooler).features_shape(n_kernels))
    results = home.empty((len(images), *(shape if pooler is None else (each,))), dtype)
    results[...] = 0
    for tile, block in zip(tiles, workers_of(features, images).map(step, tiles), strict=True):
        block = home.asarray(block)
        if pooler is None:
            results[tile.image, tile.rows, ...] = block[0, ...]
        else:
            results[tile.image, ...] += block[0, ...]
    if pooler is not None:
        results = pool_symmetry(results, pooler, n_kernels)
    return array_namespace(results).reshape(results, (len(images), *shape))


def _of_kernels(pooler):
    """The pooler that keeps tied kernels apart: they are pooled once all bands are added up."""
    return pooler._replace(pool_symmetry=None)


def _band(tile, features, images, pooler, order, scratch):
    """What one band adds to the features of its image; or its rows of the map."""
    geometry = tile.geometry(images.geometry)
    model = features._model._replace(geometry=geometry)
    if pooler is not None:
        windows = pooler.windows
        rows = windows.log_rows[:, tile.rows]
        pooler = _of_kernels(pooler)._replace(windows=windows._replace(log_rows=rows, edges=None))
        model = patch_model(geometry, "patch", model.preprocessing)
    layer = feature_layer(features._layer, model, pooler, images.placement, scratch)
    batch = read_tile(images.X, tile, images.geometry, images.placement)
    return patches_features(layer.view(batch), layer, pooler, order=order)
