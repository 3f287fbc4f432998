"""What a fitted estimator makes of images: features and their names, log-likelihoods."""

import math
from functools import partial

import numpy as np

from sklearn_calm._arrays.namespace import array_namespace
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._bands import features_by_band, is_large, scores_by_band
from sklearn_calm._batches import (
    map_batches,
    map_blocks,
    map_sizes,
    missing_of,
    pools_parts,
    worker_of,
)
from sklearn_calm._convolution.pooling import POOLINGS, pool_symmetry
from sklearn_calm._images.blocks import BlockImages, cuts_images, map_images
from sklearn_calm._images.chunks import map_chunks
from sklearn_calm._images.reader import Images
from sklearn_calm._images.sizes import resized
from sklearn_calm._images.tiles import read_tile
from sklearn_calm._mixture.features import (
    batch_features,
    batch_log_likelihoods,
    batch_score_maps,
    feature_layer,
    pools_by_row,
)
from sklearn_calm._mixture.quantiles import even_levels, score_quantiles
from sklearn_calm._mixture.starting import patch_model
from sklearn_calm._state import fitted_parameters
from sklearn_calm._validation import (
    check_geometry,
    check_pool_contrast,
    check_symmetry,
    find_pooler,
)


def pooled_features(features, images):
    """Features of images: `ConvGMMFeatures.transform`, once its input is checked."""
    if images.several_sizes:
        return _features_of_sizes(features, images)
    model = model_at(features, images.geometry)
    pooler = fitted_pooler(features, model.geometry.map_shape, thresholds_of(features))
    shape = features_shape(features, pooler, model.geometry.map_shape)
    if isinstance(images, BlockImages):
        if cuts_images(images.X):
            return _features_of_chunks(features, images, pooler, shape)
        return map_blocks(features, "transform", images, shape)
    results = _features_of_images(features, images, model, pooler)
    return array_namespace(results).reshape(results, (len(images), *shape))


def _features_of_images(features, images, model, pooler):
    """Features of images of one size: (n, n_features), or maps."""
    order = tied_order(features)
    if is_large(features, images) and pools_parts(features):
        return features_by_band(features, images, model, pooler, order)
    layer = feature_layer(features._layer, model, pooler, images.placement, Scratch())
    step = partial(batch_features, images=images, layer=layer, pooler=pooler, order=order)
    by_row = pools_by_row(layer, pooler)
    return map_batches(features, step, images, images.home.dtype, by_row=by_row)


def _features_of_chunks(features, images, pooler, shape):
    """Features of images that chunks cut apart, lazily: those of their parts, merged."""
    n_kernels, dtype = features.conv_bias_.shape[0], images.home.dtype
    where = images.geometry, images.placement
    n_features = shape[-1] if pooler is None else pooler.n_features_of_kernels(n_kernels)
    step = partial(
        _part_features,
        features=worker_of(features),
        where=where,
        pooler=pooler,
        n_features=n_features,
        dtype=dtype,
    )
    maps = pooler is None
    parts = map_chunks(step, images.X, images.geometry, n_features, dtype, maps=maps)
    if pooler is None:
        return parts
    merge = partial(_merged, pooler=pooler, n_kernels=n_kernels, shape=shape)
    return _of_whole_images(merge, parts, images, shape, dtype)


def _part_features(block, corner, tile, features, where, pooler, n_features, dtype):
    """What a part of an image adds to its features; or its part of the maps."""
    if 0 in tile.shape:
        if pooler is None:
            return np.empty((1, *tile.shape, n_features), dtype)
        return np.full((1, 1, 1, n_features), pooler.pooling.of_nothing, dtype)
    images = _part_images(block, corner, tile, where)
    model = patch_model(images.geometry, "patch", features._model.preprocessing)
    part = pooler and pooler.part(tile.rows, tile.columns)
    results = _features_of_images(features, images, model, part)
    return results if pooler is None else results[:, None, None, :]


def _part_images(block, corner, tile, where):
    """The pixels of one image that a tile sees, as an image that is not padded."""
    geometry, placement = where
    batch = read_tile(block, tile, geometry, placement, corner)
    return Images(batch, tile.geometry(geometry), placement=placement)


def _merged(parts, pooler, n_kernels, shape):
    """Features (n, *shape) of those of the parts of images, (n, rows, columns, n_features)."""
    n, _, _, n_features = parts.shape
    whole = getattr(np, pooler.pooling.merge).reduce(parts.reshape(n, -1, n_features), axis=1)
    return pool_symmetry(whole, pooler, n_kernels).reshape(n, *shape)


def _of_whole_images(merge, parts, images, shape, dtype):
    """merge(parts of each image), in the chunks of images that X has."""
    results = map_images(merge, parts.rechunk({1: -1, 2: -1}), shape, dtype)
    return results.rechunk({0: images.X.chunks[0]})


def _features_of_sizes(features, images):
    scratch, thresholds = Scratch(), thresholds_of(features)

    def prepared(geometry):
        model = model_at(features, geometry)
        pooler = fitted_pooler(features, geometry.map_shape, thresholds)
        return feature_layer(features._layer, model, pooler, images.placement, scratch), pooler

    def step(some):
        layer, pooler = prepared(some.geometry)
        found = batch_features(slice(None), some, layer, pooler, order=tied_order(features))
        shape = features_shape(features, pooler, some.geometry.map_shape)
        return array_namespace(found).reshape(found, (len(some), *shape))

    by_row = pools_by_row(*prepared(images.geometry))
    maps = features.pooling is None
    return map_sizes(features, step, images, images.home.dtype, by_row=by_row, maps=maps)


def model_at(features, geometry):
    """The fitted model of images that may have another size than those of the fit."""
    model, missing = features._model, missing_of(features)
    if geometry == model.geometry:
        return model._replace(min_observed=missing and missing.min_observed)
    # Images have several sizes only where every position is a cell.
    return patch_model(geometry, "patch", model.preprocessing, model.symmetry, missing)


def fitted_geometry(features, image_shape):
    """Derive the geometry of a fitted estimator from its parameters."""
    n_components, *kernel_shape = features.means_.shape
    geometry = check_geometry(image_shape, features, features.image_shape_)
    if (features.n_components, *geometry.kernel_shape) != (n_components, *kernel_shape):
        raise ValueError(
            f"The parameters ask for kernels of shape {geometry.kernel_shape}, "
            f"{features.n_components} of them; the model was fitted to {n_components} of "
            f"{tuple(kernel_shape)}. Restore them, or fit anew."
        )
    if check_symmetry(features.symmetry, geometry) != features._model.symmetry:
        raise ValueError(
            f"symmetry={features.symmetry!r}; the model was fitted with "
            f"symmetry={features._model.symmetry.names or None}. Restore it, or fit anew."
        )
    if geometry != resized(features._model.geometry, image_shape):
        raise ValueError(
            "stride, dilation, padding, padding_mode or assignment were changed after the fit: "
            "they ask for other patches than transform takes. Restore them, or fit anew."
        )
    return geometry


def fitted_pooler(features, map_shape, thresholds=None):
    """What a fitted estimator pools maps of a shape by, with `thresholds_of` it to pool any."""
    symmetry, common = features._model.symmetry, features.image_shape_
    pooler = find_pooler(features, map_shape, symmetry, common)
    check_pool_contrast(features, fitted=True)
    return pooler if thresholds is None else pooler._replace(thresholds=thresholds)


def thresholds_of(features):
    """Thresholds of a fitted estimator (n_thresholds, n_kernels); None if its pooling has none."""
    pooling = POOLINGS.get(features.pooling)
    if pooling is None or not pooling.thresholded:
        return None
    parameters = fitted_parameters(features, features._model.geometry)
    levels = even_levels(features.n_thresholds)
    return score_quantiles(features._layer, parameters, features._model, levels)


def log_likelihoods(features, images):
    """Log-likelihood of each image: `ConvGMMFeatures.score_samples`, once its input is checked."""
    if isinstance(images, BlockImages):
        if cuts_images(images.X):
            parts = _scores_of_chunks(features, images, summed=True)
            return _of_whole_images(_summed, parts, images, (), np.float64)
        return map_blocks(features, "score_samples", images, (), np.float64)
    if is_large(features, images):
        return scores_by_band(features, images, model_at(features, images.geometry), summed=True)
    return _map_scores(features, batch_log_likelihoods, images)


def score_maps(features, images):
    """Log-likelihood of each cell: `ConvGMMFeatures.score_map`, once its input is checked."""
    if isinstance(images, BlockImages):
        if cuts_images(images.X):
            return _scores_of_chunks(features, images, summed=False)[..., 0]
        shape = model_at(features, images.geometry).cells.sizes.shape
        return map_blocks(features, "score_map", images, shape, np.float64)
    if is_large(features, images):
        return scores_by_band(features, images, model_at(features, images.geometry), summed=False)
    return _map_scores(features, batch_score_maps, images)


def _scores_of_chunks(features, images, *, summed):
    """Log-likelihoods of parts of images, lazily, where every position is a cell."""
    where, worker = (images.geometry, images.placement), worker_of(features)
    step = partial(_part_scores, features=worker, where=where, summed=summed)
    return map_chunks(step, images.X, images.geometry, 1, np.float64, maps=not summed)


def _part_scores(block, corner, tile, features, where, summed):
    if 0 in tile.shape:
        return np.zeros((1, *((1, 1) if summed else tile.shape), 1))
    images = _part_images(block, corner, tile, where)
    if summed:
        return log_likelihoods(features, images)[:, None, None, None]
    return score_maps(features, images)[..., None]


def _summed(parts):
    return parts.sum(axis=(1, 2, 3))


def _map_scores(features, batch_scores, images):
    scratch = Scratch()

    def step(image_rows, some, layer):
        return batch_scores(image_rows, some, layer, features.noise_variance_)

    def prepared(geometry):
        return features._layer.prepared(model_at(features, geometry), images.placement, scratch)

    if images.several_sizes:
        return map_sizes(
            features,
            lambda some: step(slice(None), some, prepared(some.geometry)),
            images,
            np.float64,
            maps=batch_scores is batch_score_maps,
        )
    step = partial(step, some=images, layer=prepared(images.geometry))
    return map_batches(features, step, images, np.float64)


def features_shape(features, pooler, map_shape):
    """Shape of the features of one image."""
    n_kernels = features.conv_bias_.shape[0]
    if pooler is None:
        return (*map_shape, n_kernels // tied_order(features))
    shape = pooler.features_shape(n_kernels)
    return (math.prod(shape),) if features.flatten else shape


def tied_order(features):
    """Number of tied kernels that are pooled to one map of a component."""
    return 1 if features.pool_symmetry is None else features._model.symmetry.order


def _any_map_shape(features):
    """The map of an image of the fit; a free side is as long as the grid of regions asks for."""
    sides = np.broadcast_to(features.pool_grid, 2)
    fitted = zip(features._model.geometry.map_shape, features.image_shape_, sides, strict=False)
    return tuple(int(parts) if side is None else length for length, side, parts in fitted)


def feature_names(features):
    """Names of the columns of features, in their order."""
    symmetry = features._model.symmetry
    pooler = fitted_pooler(features, _any_map_shape(features))
    if pooler is None or not features.flatten:
        raise ValueError(
            "pooling=None and flatten=False give maps, which have no columns to name. Choose a "
            "pooling and flatten=True."
        )
    kept = range(symmetry.order) if pooler.pool_symmetry is None else ()
    transformations = [f"_transformation{g}" for g in kept] if len(kept) > 1 else [""]
    n_rows, n_columns, _ = pooler.features_shape(features.conv_bias_.shape[0])
    parts = ("_positive", "_negative") if pooler.both else ("",)
    if pooler.pooling.thresholded:
        parts = [f"_threshold{i}" for i in range(pooler.n_parts)]
    prefix = type(features).__name__.lower()
    names = [
        f"{prefix}_row{row}_column{column}_component{component}{transformation}{part}"
        for row in range(n_rows)
        for column in range(n_columns)
        for part in parts
        for component in range(features.means_.shape[0])
        for transformation in transformations
    ]
    return np.asarray(names, dtype=object)
