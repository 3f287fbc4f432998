"""Layers on layers, and side by side, in pipelines."""

import pickle
import tracemalloc

import dask
import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import clone
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from _models import POOLINGS
from sklearn_calm import ConvGMMFeatures

MAPS = {"all maps": {"pooling": None}, "pooled maps": {"pool_grid": (3, 2), "flatten": False}}
maps = pytest.mark.parametrize("maps", MAPS.values(), ids=MAPS)
seeds = pytest.mark.parametrize("seed", [0, 1])


def layer(n_components, **options):
    given = {"patch_size": 3, "padding": 0, "max_iter": 3, "tol": 0, "random_state": 0}
    return ConvGMMFeatures(n_components, **given | options)


def images(seed, n=60, shape=(8, 7)):
    return np.random.default_rng(seed).normal(size=(n, *shape))


def labelled(seed, n=100):
    """Images whose halves of one kind have a bar in them."""
    X, y = images(seed, n), np.arange(n) % 2
    X[y == 1, 3:5, 1:6] += 5
    return X, y


def two_layers(maps):
    first, second = layer(3, **maps), layer(4, patch_size=2, pool_grid=2)
    return Pipeline([("layer1", first), ("layer2", second)])


def classifier(maps):
    last = [("scaler", StandardScaler()), ("clf", LogisticRegression(C=0.1))]
    return Pipeline([*two_layers(maps).steps, *last])


@seeds
@maps
def test_maps_are_images_for_a_next_layer(maps, seed):
    X = images(seed)
    stack = two_layers(maps).fit(X)
    first, second = layer(3, **maps), layer(4, patch_size=2, pool_grid=2)
    between = first.fit_transform(X)
    assert between.ndim == 4
    assert stack[1].image_shape_ == between.shape[1:]
    assert stack[1].means_.shape == (4, 2, 2, 3)
    assert_array_equal(stack.transform(X), second.fit(between).transform(between))


@seeds
@pytest.mark.parametrize("pool_grid", [1, (3, 2), 100])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooled_maps_are_the_features_not_flattened(pooling, pool_grid, seed):
    X = images(seed)
    model = layer(3, pooling=pooling, pool_grid=pool_grid).fit(X)
    features = model.transform(X)
    found = model.set_params(flatten=False).transform(X)
    shape = {1: (1, 1), 100: (6, 5)}.get(pool_grid, pool_grid)
    assert found.shape == (60, *shape, 24 if pooling == "proportion" else 3)
    assert_array_equal(found.reshape(60, -1), features)


def test_maps_of_both_polarities_have_the_positive_channels_first():
    X = images(5)
    model = layer(3, pool_grid=(3, 2), flatten=False).fit(X)
    positive = model.transform(X)
    found = model.set_params(polarity="both").transform(X)
    assert found.shape == (60, 3, 2, 6)
    assert_array_equal(found[..., :3], positive)


def test_one_region_a_position_leaves_maps_as_they_are():
    X = images(2)
    model = layer(3, pooling="max", pool_grid=100, flatten=False).fit(X)
    found = model.transform(X)
    assert_allclose(found, model.set_params(pooling=None).transform(X), rtol=1e-12)


def test_signals_stay_signals():
    X = images(3, shape=(1, 40))
    model = make_pipeline(layer(3, patch_size=5, pool_grid=9, flatten=False), layer(2)).fit(X)
    assert model[1].image_shape_ == (1, 9, 3)
    assert model[1].means_.shape == (2, 1, 3, 3)


@maps
def test_a_classifier_on_two_layers(maps):
    X, y = labelled(4)
    model = classifier(maps).fit(X[:60], y[:60])
    assert model.score(X[60:], y[60:]) > 0.9
    copied = pickle.loads(pickle.dumps(model))
    assert_array_equal(copied.predict_proba(X), model.predict_proba(X))
    again = clone(model).fit(X[:60], y[:60])
    assert_array_equal(again.predict_proba(X), model.predict_proba(X))


@maps
def test_a_search_over_the_parameters_of_both_layers(maps):
    X, y = labelled(5)
    grid = {"layer1__n_components": [2, 3], "layer2__patch_size": [1, 2]}
    search = GridSearchCV(classifier(maps), grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_score_ > 0.9
    best = search.best_estimator_
    assert best["layer2"].image_shape_[2] == search.best_params_["layer1__n_components"]


@seeds
@maps
def test_a_stream_goes_through_layer_by_layer(maps, seed):
    batches = np.array_split(images(seed), 3)
    first, second = layer(3, **maps), layer(4, patch_size=2, pool_grid=2)
    for batch in batches:
        first.partial_fit(batch)
    for batch in batches:
        second.partial_fit(first.transform(batch))
    assert second.n_samples_seen_ == 60
    stack = make_pipeline(first, second)
    expected = second.transform(first.transform(batches[0]))
    assert_array_equal(stack.transform(batches[0]), expected)
    assert np.isfinite(expected).all()


@maps
def test_depths_and_sizes_side_by_side(maps):
    X, y = labelled(6)
    sizes = [("one", layer(3)), ("larger", layer(3, patch_size=5))]
    union = FeatureUnion([*sizes, ("two", two_layers(maps))])
    model = make_pipeline(union, RidgeClassifier()).fit(X[:60], y[:60])
    parts = [part.transform(X) for _, part in union.transformer_list]
    assert_array_equal(union.transform(X), np.concatenate(parts, axis=1))
    assert model.score(X[60:], y[60:]) > 0.9
    names = FeatureUnion(sizes).fit(X).get_feature_names_out()
    assert names[0] == "one__convgmmfeatures_row0_column0_component0"


@maps
def test_data_frames_are_refused_with_a_sentence(maps):
    X = images(7)
    with pytest.raises(ValueError, match="cannot be put into a data frame"):
        two_layers(maps).set_output(transform="pandas").fit(X)


@maps
def test_images_in_a_dask_array_make_maps_block_by_block(maps):
    X = images(8)
    expected = two_layers(maps).fit(X)
    D = da.from_array(X, chunks=(25, 8, 7))
    with dask.config.set(scheduler="synchronous"):
        found = two_layers(maps).fit(D)
        features = found.transform(D)
        assert isinstance(features, da.Array)
        assert_allclose(features.compute(), expected.transform(X), rtol=1e-8, atol=1e-9)


def test_maps_in_a_dask_array_are_never_there_all_at_once(monkeypatch):
    # Samples have sizes of their own, whatever the number of images.
    monkeypatch.setattr("sklearn_calm._mixture.seeds.MAX_PATCHES", 20_000)
    monkeypatch.setattr("sklearn_calm._mixture.starting.SEED_PATCHES", 2000)
    monkeypatch.setattr("sklearn_calm._mixture.reseeding.MAX_IMAGES", 50)
    n, chunk = 4000, 100
    X = np.random.default_rng(9).integers(0, 256, (n, 20, 20), np.uint8)
    stack = make_pipeline(
        layer(16, pooling=None), layer(4, patch_size=2, assignment="image", max_iter=2)
    )
    maps_bytes = n * 18 * 18 * 16 * 4
    stack.fit(X[:200])  # what is imported on the way is not counted
    with dask.config.set(scheduler="synchronous"):
        tracemalloc.start()
        try:
            stack.fit(da.from_array(X, chunks=(chunk, 20, 20)))
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert most < maps_bytes / 2
