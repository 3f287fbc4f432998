"""What a fitted estimator makes of images: features and their names, log-likelihoods."""

import math
from functools import partial

import numpy as np

from sklearn_calm._arrays.namespace import array_namespace
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._bands import features_by_band, is_large, pools_parts, scores_by_band
from sklearn_calm._batches import map_batches, map_blocks, map_sizes, missing_of
from sklearn_calm._images.blocks import BlockImages
from sklearn_calm._mixture.features import (
    batch_features,
    batch_log_likelihoods,
    batch_score_maps,
    feature_layer,
    pools_by_row,
)
from sklearn_calm._mixture.starting import patch_model
from sklearn_calm._validation import find_pooler, grid_or_name


def pooled_features(features, images):
    """Features of images: `ConvGMMFeatures.transform`, once its input is checked."""
    if images.several_sizes:
        return _features_of_sizes(features, images)
    model = model_at(features, images.geometry)
    pooler = _pooler(features, model.geometry)
    shape = features_shape(features, pooler, model.geometry.map_shape)
    if isinstance(images, BlockImages):
        return map_blocks(features, "transform", images, shape)
    order = tied_order(features)
    if is_large(features, images) and pools_parts(features, pooler):
        results = features_by_band(features, images, model, pooler, order)
    else:
        layer = feature_layer(features._layer, model, pooler, images.placement, Scratch())
        step = partial(batch_features, images=images, layer=layer, pooler=pooler, order=order)
        by_row = pools_by_row(layer, pooler)
        results = map_batches(features, step, images, images.home.dtype, by_row=by_row)
    return array_namespace(results).reshape(results, (len(images), *shape))


def _features_of_sizes(features, images):
    scratch = Scratch()

    def prepared(geometry):
        model = model_at(features, geometry)
        pooler = _pooler(features, geometry)
        return feature_layer(features._layer, model, pooler, images.placement, scratch), pooler

    def step(some):
        layer, pooler = prepared(some.geometry)
        found = batch_features(slice(None), some, layer, pooler)
        shape = features_shape(features, pooler, some.geometry.map_shape)
        return array_namespace(found).reshape(found, (len(some), *shape))

    by_row = pools_by_row(*prepared(images.geometry))
    return map_sizes(features, step, images, images.home.dtype, by_row=by_row)


def model_at(features, geometry):
    """The fitted model of images that may have another size than those of the fit."""
    model, missing = features._model, missing_of(features)
    if geometry == model.geometry:
        return model._replace(min_observed=missing and missing.min_observed)
    assignment = grid_or_name(features.assignment)
    return patch_model(geometry, assignment, model.preprocessing, model.symmetry, missing)


def _pooler(features, geometry):
    symmetry, common = features._model.symmetry, features.image_shape_
    return find_pooler(features, geometry.map_shape, symmetry, common)


def log_likelihoods(features, images):
    """Log-likelihood of each image: `ConvGMMFeatures.score_samples`, once its input is checked."""
    if isinstance(images, BlockImages):
        return map_blocks(features, "score_samples", images, (), np.float64)
    if is_large(features, images):
        return scores_by_band(features, images, model_at(features, images.geometry), summed=True)
    return _map_scores(features, batch_log_likelihoods, images)


def score_maps(features, images):
    """Log-likelihood of each cell: `ConvGMMFeatures.score_map`, once its input is checked."""
    if isinstance(images, BlockImages):
        shape = model_at(features, images.geometry).cells.sizes.shape
        return map_blocks(features, "score_map", images, shape, np.float64)
    if is_large(features, images):
        return scores_by_band(features, images, model_at(features, images.geometry), summed=False)
    return _map_scores(features, batch_score_maps, images)


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
    symmetry, common = features._model.symmetry, features.image_shape_
    pooler = find_pooler(features, _any_map_shape(features), symmetry, common)
    if pooler is None or not features.flatten:
        raise ValueError(
            "pooling=None and flatten=False give maps, which have no columns to name. Choose a "
            "pooling and flatten=True."
        )
    kept = range(symmetry.order) if pooler.pool_symmetry is None else ()
    transformations = [f"_transformation{g}" for g in kept] if len(kept) > 1 else [""]
    n_rows, n_columns, _ = pooler.features_shape(features.conv_bias_.shape[0])
    prefix = type(features).__name__.lower()
    names = [
        f"{prefix}_row{row}_column{column}_component{component}{transformation}{polarity}"
        for row in range(n_rows)
        for column in range(n_columns)
        for polarity in (("_positive", "_negative") if pooler.both else ("",))
        for component in range(features.means_.shape[0])
        for transformation in transformations
    ]
    return np.asarray(names, dtype=object)
