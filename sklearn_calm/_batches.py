"""Images of an estimator, checked and worked on in batches."""

import math

import numpy as np
from joblib import effective_n_jobs

from sklearn_calm._arrays.execution import Workers
from sklearn_calm._arrays.namespace import find_placement, is_dask, to_numpy
from sklearn_calm._convolution.geometry import slices
from sklearn_calm._convolution.observed import Missing
from sklearn_calm._convolution.pooling import POOLINGS
from sklearn_calm._images.blocks import BlockImages, check_known_shape, map_images, whole_images
from sklearn_calm._images.layouts import warn_of_layout
from sklearn_calm._images.reader import Images, home_of
from sklearn_calm._images.shapes import is_free, resolve_image_shape, resolve_shapes
from sklearn_calm._images.sizes import SizedImages, largest, resized
from sklearn_calm._mixture.preprocessing import layer_precision
from sklearn_calm._progress import tell_tenths
from sklearn_calm._sklearn import without_callbacks
from sklearn_calm._validation import (
    check_array,
    check_geometry,
    check_n_positions,
    check_shape,
    check_size,
    check_sizes,
    check_weights,
)

# Scores that take so many products are computed in less time than threads take to start.
WORTH_THREADS = 2**26


def check_images(features, X, *, reset=False, sample_weight=None, method=None):
    """Read X as images of an estimator.

    Parameters
    ----------
    features : ConvGMMFeatures
    X : array-like
    reset : bool
        Whether a fit begins: the parameters are checked against X.
    sample_weight : array-like of shape (n,) or None
    method : str or None
        Method that applies a fitted model.

    Returns
    -------
    images : ImageSource
    """
    if is_dask(X):
        check_known_shape(X)
    X = check_array(X, features, reset=reset, method=method)
    source = _images_of_list if isinstance(X, list) else _images_of_array
    images, common = source(features, X, sample_weight, reset=reset, method=method)
    if is_dask(X) and not _takes_parts(features, images, reset=reset, method=method):
        images.X = whole_images(X)
    if reset:
        n_positions = images.total_positions
        subsample = features.subsample if features.assignment == "patch" else "auto"
        check_n_positions(len(images), n_positions, features.n_components, subsample)
        warn_of_layout(images, features.image_shape, stacklevel=4)
        set_image_shape(features, common)
    if reset and not (features.warm_start and hasattr(features, "means_")):
        return images
    return in_layer_precision(features, images)


def in_layer_precision(features, images):
    """The images in a precision in which the fitted layer can be applied."""
    least = layer_precision(features._layer, features.contrast_floor_)
    return images.in_precision(np.promote_types(images.dtype, least))


def _takes_parts(features, images, *, reset, method):
    """Whether what is to be done takes images that the chunks of a Dask array cut apart."""
    if images.missing is not None or images.X.shape[1:3] != images.geometry.image_shape[:2]:
        return False
    if method == "transform":
        return pools_parts(features)
    # A fit samples patches, and the likelihood is a sum over patches.
    if reset:
        return features.assignment == "patch"
    return method is not None and features._model.cells.of_positions


def pools_parts(features):
    """Whether features of parts of an image make those of all of it, or its maps do."""
    pooling = POOLINGS.get(features.pooling)
    return pooling is None or pooling.shares != "cell" or features._model.cells.of_positions


def missing_of(features):
    """What the parameters of an estimator say of missing values; None refuses them."""
    if features.missing_values == "error":
        return None
    return Missing(features.min_observed, features.whiten)


def _images_of_array(features, X, sample_weight, *, reset, method):
    """Images of one size, and their shape with None for a side that is free."""
    if reset:
        image_shape, common = resolve_image_shape(X.shape, features.image_shape)
        geometry = check_geometry(image_shape, features, common)
    else:
        common = features.image_shape_
        image_shape = check_shape(X.shape, common, type(features).__name__)
        geometry = resized(features._model.geometry, image_shape)
        if is_free(common):
            check_size(geometry, features, common, pooled=method == "transform")
    if sample_weight is not None:
        sample_weight = check_weights(sample_weight, X.shape[0])
    return images_of(features, X, geometry, sample_weight), common


def images_of(features, X, geometry, sample_weight=None):
    """The images of an array, once they are checked."""
    missing = missing_of(features)
    if is_dask(X):
        return BlockImages(X, geometry, sample_weight, features.backend, missing)
    placement = find_placement(features.backend, home_of(X))
    return Images(X, geometry, sample_weight, placement, missing=missing)


def _images_of_list(features, X, sample_weight, *, reset, method):
    """Images of several sizes, and the shape that they have in common."""
    wanted = features.image_shape if reset else features.image_shape_
    image_shapes, common = resolve_shapes([image.shape for image in X], wanted)
    if reset:
        geometry = check_geometry(largest(image_shapes), features, common)
    else:
        geometry = features._model.geometry
    if sample_weight is not None:
        sample_weight = check_weights(sample_weight, len(X))
    images = SizedImages(
        X, image_shapes, geometry, sample_weight, features.backend, missing_of(features)
    )
    check_sizes(images, features, common, pooled=reset or method == "transform")
    return images, common


def set_image_shape(features, common):
    """Tell the shape of images; and of how many values they are, if it is always the same."""
    features.image_shape_ = common
    if is_free(common):
        for name in ("n_features_in_", "feature_names_in_"):
            vars(features).pop(name, None)
    else:
        features.n_features_in_ = math.prod(common)


def workers_of(features, images):
    """Threads over batches; other libraries than NumPy share work out by themselves."""
    n_scores = images.total_positions * features.n_components
    few = n_scores * images.geometry.patch_length < WORTH_THREADS and effective_n_jobs(None) == 1
    alone = not images.placement.is_numpy or (features.n_jobs is None and few)
    return Workers(1 if alone else features.n_jobs)


def map_parts(features, images, step, parts, name):
    """Each part of large images with step(part), as they come; `verbose` tells of them by name."""
    results = workers_of(features, images).map(step, parts)
    if features.verbose and len(parts) > 1:
        results = tell_tenths(results, name, len(parts))
    return zip(parts, results, strict=True)


def batch_size_of(features, images, n_components, *, by_row=False):
    """Number of images in a batch."""
    if features.batch_size != "auto":
        return features.batch_size
    return images.batch_size(n_components, by_row=by_row)


def map_batches(features, step, images, dtype, *, by_row=False):
    """Results of step(image_rows) for all batches, in one array of a dtype where X is."""
    n_components = features.conv_bias_.shape[0]
    batches = images.batches(batch_size_of(features, images, n_components, by_row=by_row))
    blocks = workers_of(features, images).map(step, batches)
    results, home = None, images.home._replace(dtype=np.dtype(dtype))
    for image_rows, block in zip(batches, blocks, strict=True):
        block = home.asarray(block)
        if results is None:
            results = home.empty((len(images), *block.shape[1:]), block.dtype)
        results[image_rows, ...] = block
    return results


def map_sizes(features, step, images, dtype, *, by_row=False, maps=False):
    """Results of step(images of one size) for all batches of images of several sizes, in order.

    Returns
    -------
    results : ndarray of shape (n, ...), or list of ndarrays
        A list of maps, even where their sizes happen to be equal: a next layer would take an array
        for images of one size.
    """
    n_components = features.conv_bias_.shape[0]
    batches = []
    for image_rows, _ in images.groups():
        one = images.images(image_rows[:1])
        step_size = batch_size_of(features, one, n_components, by_row=by_row)
        batches += [image_rows[part] for part in slices(len(image_rows), step_size)]
    blocks = workers_of(features, images).map(lambda rows: step(images.images(rows)), batches)
    results = [None] * len(images)
    for image_rows, block in zip(batches, blocks, strict=True):
        for row, result in zip(image_rows, to_numpy(block), strict=True):
            results[row] = result.astype(dtype, copy=False)
    return results if maps else np.stack(results)


def map_blocks(features, method, images, shape, dtype=None):
    """Call a method on every block of a Dask array, lazily, with the model as it is now.

    Parameters
    ----------
    features : ConvGMMFeatures
    method : str
    images : BlockImages
    shape : tuple of int
        Shape of the result for one image.
    dtype : numpy dtype or None
        Of the result; None is that of features.
    """
    method = getattr(worker_of(features), method)
    return map_images(method, images.X, shape, dtype or images.home.dtype)


def worker_of(features):
    """A copy of an estimator for the workers of Dask, whose own threads share the work."""
    return without_callbacks(features).set_params(n_jobs=1, verbose=0)
