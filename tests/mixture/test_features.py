import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _reference
from _models import WITHOUT_THRESHOLDS
from _twins import (
    assignments,
    geometries,
    layer_of,
    literal_maps,
    make_pooler,
    make_problem,
    numpy_in,
    patch_types,
    preprocessings,
)
from sklearn_calm import ConvGMMFeatures
from sklearn_calm._convolution.pooling import POOLINGS as TABLE
from sklearn_calm._images.reader import Images
from sklearn_calm._mixture.features import batch_features, feature_layer, folded
from sklearn_calm._mixture.model import conv_layer


@assignments
@preprocessings
@pytest.mark.parametrize("pooling", WITHOUT_THRESHOLDS)
@pytest.mark.parametrize(
    ("pool_grid", "window", "width"),
    [((1, 1), "box", None), ((4, 3), "box", None), ((3, 4), "gaussian", 0.6)],
)
@patch_types
def test_features_are_those_of_the_twin(
    assignment, preprocessing, pooling, pool_grid, window, width, patch_type
):
    if not TABLE[pooling].weighted:
        window = "box"
    rng = np.random.default_rng(0)
    problem = make_problem(rng, assignment, preprocessing)
    parameters = problem.parameters(rng)
    pooler = make_pooler(problem, pooling, pool_grid, window, width)
    layer = folded(conv_layer(parameters, problem.model), pooler)
    layer = layer.prepared(problem.model, numpy_in(np.float64), patch_type=patch_type)
    features = batch_features(slice(None), problem.images, layer, pooler)
    patch_length = problem.model.geometry.patch_length
    expected = [
        _reference.pool(joint, gamma, pooling, pool_grid, patch_length, window, width)
        for joint, gamma in literal_maps(problem, parameters)
    ]
    assert_allclose(features, expected, rtol=1e-9, atol=1e-11)


@preprocessings
@pytest.mark.parametrize("window", ["box", "gaussian"])
@patch_types
def test_both_polarities_are_those_of_the_twin(preprocessing, window, patch_type):
    rng = np.random.default_rng(9)
    problem = make_problem(rng, "image", preprocessing)
    parameters = problem.parameters(rng)
    pooler = make_pooler(problem, "triangle", (3, 2), window, 0.7, both=True)
    layer = folded(conv_layer(parameters, problem.model), pooler)
    layer = layer.prepared(problem.model, numpy_in(np.float64), patch_type=patch_type)
    features = batch_features(slice(None), problem.images, layer, pooler)
    expected = [
        _reference.pool(joint, None, "triangle", (3, 2), None, window, 0.7, both=True)
        for joint, _ in literal_maps(problem, parameters)
    ]
    assert_allclose(features, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("preprocessing", ["contrast", "both"])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("power", [0.5, 1, 3])
@patch_types
def test_scores_times_contrast_are_those_of_the_twin(preprocessing, both, power, patch_type):
    rng = np.random.default_rng(10)
    problem = make_problem(rng, "patch", preprocessing)
    parameters = problem.parameters(rng)
    pooler = make_pooler(problem, "triangle", (3, 2), "gaussian", 0.7, both, contrast=power)
    layer = folded(conv_layer(parameters, problem.model), pooler)
    layer = layer.prepared(problem.model, numpy_in(np.float64), patch_type=patch_type)
    features = batch_features(slice(None), problem.images, layer, pooler)
    expected = [
        _reference.pool(
            joint,
            None,
            "triangle",
            (3, 2),
            window="gaussian",
            width=0.7,
            both=both,
            weights=_reference.contrast_weights(image, problem.setting, power),
        )
        for image, (joint, _) in zip(
            problem.images.X, literal_maps(problem, parameters), strict=True
        )
    ]
    assert_allclose(features, expected, rtol=1e-9, atol=1e-11)


@geometries
@preprocessings
@pytest.mark.parametrize("seed", [1, 2])
def test_without_pooling_the_features_are_the_map(geometry, preprocessing, seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, "image", preprocessing, geometry)
    parameters = problem.parameters(rng)
    rows = slice(1, 3)
    maps = batch_features(rows, problem.images, layer_of(parameters, problem.model), None)
    expected = [joint for joint, _ in literal_maps(problem, parameters)]
    assert maps.flags.c_contiguous
    assert_allclose(maps, expected[rows], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("pooling", [*WITHOUT_THRESHOLDS, None])
def test_features_follow_the_precision_of_the_images(pooling):
    rng = np.random.default_rng(3)
    problem = make_problem(rng, "image", "both")
    layer = conv_layer(problem.parameters(rng), problem.model)
    pooler = make_pooler(problem, pooling, (2, 2))
    single, double = (
        batch_features(
            slice(None),
            Images(problem.images.X.astype(dtype), problem.model.geometry),
            feature_layer(layer, problem.model, pooler, numpy_in(dtype)),
            pooler,
        )
        for dtype in (np.float32, np.float64)
    )
    assert double.dtype == np.float64
    assert single.dtype == np.float32
    assert_allclose(single, double, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pooling", [*WITHOUT_THRESHOLDS, None])
def test_images_are_independent_of_their_batch(pooling):
    rng = np.random.default_rng(4)
    problem = make_problem(rng, (2, 3), "both")
    layer = layer_of(problem.parameters(rng), problem.model)
    pooler = make_pooler(problem, pooling, (2, 2))
    arguments = (problem.images, layer, pooler)
    whole = batch_features(slice(None), *arguments)
    alone = [batch_features(slice(i, i + 1), *arguments)[0] for i in range(4)]
    assert_allclose(alone, whole, rtol=1e-10, atol=1e-12)
    assert_array_equal(batch_features(slice(None), *arguments), whole)


@assignments
@pytest.mark.parametrize("window", ["box", "gaussian"])
@pytest.mark.parametrize("seed", [5, 6])
def test_tempered_shares_of_a_region_add_up_to_one(assignment, window, seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, assignment, "both")
    layer = conv_layer(problem.parameters(rng), problem.model)
    pooler = make_pooler(problem, "tempered", (2, 3), window, 0.5)
    layer = feature_layer(layer, problem.model, pooler, problem.images.placement)
    features = batch_features(slice(None), problem.images, layer, pooler)
    shares = features.reshape(len(features), 6, -1)
    assert_allclose(shares.sum(axis=-1), 1, rtol=1e-12)
    assert shares.min() > 0


@pytest.mark.parametrize("seed", [7, 8])
def test_patches_of_one_value_have_no_temperature(seed):
    X = np.random.default_rng(seed).normal(size=(6, 5, 4))
    options = {"patch_size": 1, "normalize": None, "max_iter": 3, "tol": 0, "random_state": seed}
    model = ConvGMMFeatures(3, **options, pooling="mean", pool_grid=2).fit(X)
    shares = model.transform(X)
    assert_allclose(model.set_params(pooling="tempered").transform(X), shares, rtol=1e-12)
