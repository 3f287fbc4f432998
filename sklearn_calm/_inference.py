"""What a fitted estimator makes of images: features and their names, log-likelihoods."""

import math
from functools import partial

import numpy as np

from sklearn_calm._arrays.namespace import array_namespace
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._bands import features_by_band, pools_by_band
from sklearn_calm._batches import current_model, map_batches, map_blocks
from sklearn_calm._images.blocks import BlockImages
from sklearn_calm._mixture.features import (
    batch_features,
    batch_log_likelihoods,
    batch_score_maps,
    feature_layer,
    pools_by_row,
)
from sklearn_calm._validation import find_pooler


def pooled_features(features, images):
    """Features of images: `ConvGMMFeatures.transform`, once its input is checked."""
    model = current_model(features)
    pooler = find_pooler(features, model.geometry.map_shape, model.symmetry)
    shape = features_shape(features, pooler, model.geometry.map_shape)
    if isinstance(images, BlockImages):
        return map_blocks(features, "transform", images, shape)
    order = tied_order(features)
    if pools_by_band(features, images, pooler):
        return features_by_band(features, images, pooler, shape, order, Scratch())
    layer = feature_layer(features._layer, model, pooler, images.placement, Scratch())
    step = partial(batch_features, images=images, layer=layer, pooler=pooler, order=order)
    by_row = pools_by_row(layer, pooler)
    results = map_batches(features, step, images, images.home.dtype, by_row=by_row)
    return array_namespace(results).reshape(results, (len(images), *shape))


def log_likelihoods(features, images):
    """Log-likelihood of each image: `ConvGMMFeatures.score_samples`, once its input is checked."""
    if isinstance(images, BlockImages):
        return map_blocks(features, "score_samples", images, (), np.float64)
    layer = features._layer.prepared(current_model(features), images.placement, Scratch())
    step = partial(
        batch_log_likelihoods,
        images=images,
        layer=layer,
        noise_variance=features.noise_variance_,
    )
    return map_batches(features, step, images, np.float64)


def score_maps(features, images):
    """Log-likelihood of each cell: `ConvGMMFeatures.score_map`, once its input is checked."""
    model = features._model
    if isinstance(images, BlockImages):
        return map_blocks(features, "score_map", images, model.cells.sizes.shape, np.float64)
    layer = features._layer.prepared(model, images.placement, Scratch())
    step = partial(
        batch_score_maps,
        images=images,
        layer=layer,
        noise_variance=features.noise_variance_,
    )
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


def feature_names(features):
    """Names of the columns of features, in their order."""
    symmetry = features._model.symmetry
    pooler = find_pooler(features, features._model.geometry.map_shape, symmetry)
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
