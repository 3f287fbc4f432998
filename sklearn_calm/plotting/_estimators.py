"""The `ConvGMMFeatures` inside a pipeline, a search or another estimator that holds it."""

from functools import partial

from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_calm._batches import check_images
from sklearn_calm._conv_gmm import ConvGMMFeatures
from sklearn_calm._sklearn import safe_indexing


def find_features(estimator):
    """Find the one fitted `ConvGMMFeatures` that an estimator is or holds.

    Raises
    ------
    ValueError
        If there is none, or more than one.
    NotFittedError
        If it is not fitted.
    """
    return _find(estimator)[0]


def features_and_images(estimator, X):
    """The same; X as the steps before it transform it; and this as `Images` of NumPy.

    Raises
    ------
    ValueError
        Also if the images have several sizes.
    """
    features, steps = _find(estimator)
    for step in steps:
        X = step(X)
    images = check_images(features, X)
    if images.several_sizes:
        raise ValueError(
            "X holds images of several sizes; a display draws images of one size. Pass those of "
            "one size, or one image alone, as X[:1]."
        )
    return features, X, images.on_host()


def _find(estimator):
    found = list(_walk(estimator, "", ()))
    kind = type(estimator).__name__
    if not found:
        raise ValueError(
            f"{kind} holds no ConvGMMFeatures. Pass a fitted ConvGMMFeatures, or a fitted "
            "Pipeline, FeatureUnion, ColumnTransformer or search that holds one."
        )
    if len(found) > 1:
        paths = ", ".join(path for path, _, _ in found)
        raise ValueError(
            f"{kind} holds {len(found)} ConvGMMFeatures: {paths}. Pass the one to draw, and for X "
            "the images as it gets them, for example pipeline[2] and pipeline[:2].transform(X)."
        )
    [(_, features, steps)] = found
    check_is_fitted(features)
    return features, steps


def _walk(estimator, path, steps):
    """Every `ConvGMMFeatures` in an estimator, with its path and the steps before it."""
    if isinstance(estimator, ConvGMMFeatures):
        yield path, estimator, steps
        return
    for name, part, before in _parts(estimator):
        yield from _walk(part, f"{path}__{name}" if path else name, (*steps, *before))


def _parts(estimator):
    """The estimators that one holds: name, estimator, what is done to X before it."""
    if isinstance(estimator, FrozenEstimator):
        yield "estimator", estimator.estimator, []
    elif isinstance(estimator, Pipeline):
        for i, (name, step) in enumerate(estimator.steps):
            yield name, step, [partial(_transform_first, estimator, i)] if i else []
    elif isinstance(estimator, FeatureUnion):
        for name, part in estimator.transformer_list:
            yield name, part, []
    elif isinstance(estimator, ColumnTransformer):
        check_is_fitted(estimator)
        for name, part, columns in estimator.transformers_:
            yield name, part, [partial(safe_indexing, indices=columns, axis=1)]
    elif hasattr(estimator, "refit") and hasattr(estimator, "estimator"):
        check_is_fitted(estimator)
        if not hasattr(estimator, "best_estimator_"):
            raise ValueError(
                f"{type(estimator).__name__} keeps no fitted model, as refit=False. Search with "
                "refit=True, or pass an estimator fitted with its best_params_."
            )
        yield "best_estimator_", estimator.best_estimator_, []


def _transform_first(pipeline, n_steps, X):
    return pipeline[:n_steps].transform(X)
