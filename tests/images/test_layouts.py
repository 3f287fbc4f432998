"""Images as users hold them: shapes, types, layouts, files."""

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _reference
from _models import (
    POOLINGS,
    RAW,
    assert_same_model,
    assignments,
    make_bytes,
    make_images,
    preprocessings,
    small,
)
from sklearn_calm import ConvGMMFeatures

# Shapes, types, attributes


@pytest.mark.parametrize(
    ("shape", "image_shape"), [((7, 8), (7, 8, 1)), ((7, 8, 1), (7, 8, 1)), ((7, 8, 3), (7, 8, 3))]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fitted_attributes(shape, image_shape, dtype):
    X = np.random.default_rng(0).random((12, *shape)).astype(dtype)
    model = small(patch_size=(3, 2), stride=(2, 1), padding=(1, 0)).fit(X)
    kernel_shape = (3, 3, 2, image_shape[2])
    for name, expected in {
        "means_": kernel_shape,
        "conv_weight_": kernel_shape,
        "conv_bias_": (3,),
        "weights_": (3,),
    }.items():
        assert getattr(model, name).shape == expected, name
        assert getattr(model, name).dtype == dtype, name
        assert np.isfinite(getattr(model, name)).all(), name
    assert model.weights_.sum() == pytest.approx(1, abs=1e-6)
    assert (model.weights_ > 0).all()
    assert isinstance(model.noise_variance_, float)
    assert model.noise_variance_ > 0
    assert model.image_shape_ == image_shape
    assert model.n_features_in_ == np.prod(image_shape)
    assert model.n_samples_seen_ == 12
    assert model.n_iter_ == len(model.lower_bounds_) == 3
    assert model.lower_bound_ == model.lower_bounds_[-1]
    assert not model.converged_
    assert model.n_reseeded_ == 0


@pytest.mark.parametrize("pooling", [*POOLINGS, None])
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.float16, np.float32),
        (np.uint8, np.float32),
        (np.int16, np.float32),
        (np.int32, np.float64),
        (np.int64, np.float64),
        (bool, np.float32),
    ],
)
def test_types_that_float32_holds_give_float32(dtype, expected, pooling):
    X = make_bytes(0) > 110 if dtype is bool else make_bytes(0).astype(dtype)
    model = small(pooling=pooling, batch_size=7).fit(X)
    features = model.transform(X)
    assert features.dtype == expected
    assert model.means_.dtype == expected
    columns = 12 * model.n_thresholds if pooling == "proportion" else 12
    assert features.shape == ((30, 6, 7, 3) if pooling is None else (30, columns))
    assert model.score_samples(X).dtype == np.float64
    cast = X.astype(expected)
    assert_array_equal(features, small(pooling=pooling, batch_size=7).fit(cast).transform(cast))


def test_pooling_grid_sets_the_number_of_columns():
    X = make_images(0)
    for pool_grid, n_regions in [(1, 1), (2, 4), ((3, 1), 3), ((1, 7), 7), (50, 6 * 7)]:
        model = small(pool_grid=pool_grid).fit(X)
        assert model.transform(X).shape == (30, 3 * n_regions)
        assert len(model.get_feature_names_out()) == 3 * n_regions


@pytest.mark.parametrize("padding", [2, (3, 3)])
@pytest.mark.parametrize(
    ("shape", "patch_size", "expected"),
    [
        ((8, 9), 50, (8, 9)),
        ((4, 9), 7, (4, 7)),
        ((9, 4), 7, (7, 4)),
        ((1, 30), 5, (1, 5)),
        ((8, 9), 8, (8, 8)),
    ],
)
def test_an_int_patch_is_clipped_to_the_image(shape, patch_size, expected, padding):
    """Not to the padded image, whatever the padding."""
    X = np.random.default_rng(46).normal(size=(12, *shape))
    model = small(patch_size=patch_size, padding=padding, pool_grid=1).fit(X)
    assert model.means_.shape == (3, *expected, 1)
    pair = small(patch_size=expected, padding=padding, pool_grid=1).fit(X)
    assert_same_model(model, pair)
    assert_array_equal(model.transform(X), pair.transform(X))


@pytest.mark.parametrize(
    ("shape", "patch_size", "padding", "expected"),
    [
        ((8, 9), 3, 50, (2, 2)),
        ((8, 9), 3, 2, (2, 2)),
        ((8, 9), 3, 1, (1, 1)),
        ((8, 9), (4, 2), 2, (2, 1)),
        ((8, 9), (1, 5), 3, (0, 3)),
        ((2, 9), 5, 3, (1, 3)),
        ((1, 30), 5, 2, (0, 2)),
    ],
)
def test_an_int_padding_is_clipped_to_one_less_than_the_patch(shape, patch_size, padding, expected):
    X = np.random.default_rng(47).normal(size=(12, *shape))
    options = {"patch_size": patch_size, "pooling": None}
    model, pair = (
        small(**options, padding=padding).fit(X),
        small(**options, padding=expected).fit(X),
    )
    assert_same_model(model, pair)
    assert_array_equal(model.transform(X), pair.transform(X))
    height, width = model.means_.shape[1:3]
    rows, columns = shape[0] + 2 * expected[0] - height + 1, shape[1] + 2 * expected[1] - width + 1
    assert model.transform(X).shape == (12, rows, columns, 3)


@pytest.mark.parametrize(
    ("shape", "patch_size", "padding", "map_shape"),
    [
        ((8, 9), (3, 3), (4, 5), (14, 17)),
        ((8, 9), (10, 12), (1, 2), (1, 2)),
        ((1, 30), (3, 5), (2, 2), (3, 30)),
        ((8, 9), 3, (0, 4), (6, 15)),
        ((8, 9), (10, 11), 2, (3, 3)),
    ],
)
def test_pairs_are_kept_as_they_are(shape, patch_size, padding, map_shape):
    X = np.random.default_rng(48).normal(size=(12, *shape))
    options = {**RAW, "assignment": "image", "pooling": None, "noise_variance": 1.0}
    model = small(**options, patch_size=patch_size, padding=padding).fit(X)
    patch, padding = np.broadcast_to(patch_size, 2), np.broadcast_to(padding, 2)
    assert model.means_.shape == (3, *patch, 1)
    setting = _reference.Setting(tuple(patch), padding=tuple(padding))
    mixture = _reference.Mixture(model.means_.reshape(3, -1), model.weights_, 1.0)
    expected = [_reference.log_joint(x[..., np.newaxis], mixture, setting) for x in X]
    maps = model.transform(X)
    assert maps.shape == (12, *map_shape, 3)
    assert_allclose(maps, expected, rtol=1e-9, atol=1e-9)


def test_half_a_patch_of_padding_keeps_the_size_of_the_images():
    options = {
        "n_components": 3,
        "padding": 2,
        "pooling": None,
        "max_iter": 2,
        "tol": 0,
        "random_state": 0,
    }
    X = make_images(49)
    model = ConvGMMFeatures(**options).fit(X)
    assert model.means_.shape == (3, 5, 5, 1)
    assert model.transform(X).shape == (30, 8, 9, 3)
    signals = np.random.default_rng(49).normal(size=(20, 30))
    model = ConvGMMFeatures(**options).fit(signals)
    assert model.means_.shape == (3, 1, 5, 1)
    assert model.transform(signals).shape == (20, 1, 30, 3)


@preprocessings
def test_all_layouts_of_grey_images_agree(preprocessing):
    X = make_images(1, shape=(8, 8))
    model = small(**preprocessing).fit(X)
    for layout in [X[..., np.newaxis], X.reshape(30, 64), X.reshape(30, 64).tolist()]:
        other = small(**preprocessing).fit(layout)
        assert_same_model(model, other)
        assert other.image_shape_ == (8, 8, 1)
        assert_array_equal(model.transform(layout), other.transform(X))
        assert_array_equal(model.score_samples(layout), model.score_samples(X))


def test_all_layouts_of_colour_images_agree():
    X = np.random.default_rng(2).random((12, 6, 7, 3))
    model = small().fit(X)
    rows = small(image_shape=(6, 7, 3)).fit(X.reshape(12, -1))
    assert_same_model(model, rows)
    assert_array_equal(model.transform(X), rows.transform(X.reshape(12, -1)))
    assert_array_equal(model.transform(X), rows.transform(X))


def test_grey_rows_that_are_not_square():
    X = make_images(3)
    model = small(image_shape=(8, 9)).fit(X.reshape(30, -1))
    assert_same_model(model, small().fit(X))


def test_other_rows_are_signals():
    X = np.random.default_rng(4).normal(size=(20, 30))
    model = small().fit(X)
    assert model.image_shape_ == (1, 30, 1)
    assert model.means_.shape == (3, 1, 3, 1)
    assert_same_model(model, small().fit(X[:, np.newaxis, :, np.newaxis]))
    assert model.transform(X).shape == (20, 6)


def test_signals_with_channels():
    X = np.random.default_rng(5).normal(size=(20, 16, 3))
    model = small(image_shape=(1, 16, 3)).fit(X)
    assert model.image_shape_ == (1, 16, 3)
    assert model.means_.shape == (3, 1, 3, 3)
    four_axes = X[:, np.newaxis]
    assert_same_model(model, small().fit(four_axes))
    assert_array_equal(model.transform(X), model.transform(four_axes))
    with pytest.warns(UserWarning, match="set image_shape=.1, 16, 3."):
        assert small().fit(X).image_shape_ == (16, 3, 1)


def test_arrays_of_any_stride_agree():
    X = make_images(6)
    every_other = np.repeat(X, 2, axis=0)[::2]
    expected = small().fit(X)
    for same in [np.asfortranarray(X), every_other, X[:, ::-1].copy()[:, ::-1]]:
        model = small().fit(same)
        assert_same_model(model, expected, rtol=1e-9)
        assert_allclose(model.transform(same), expected.transform(X), rtol=1e-9, atol=1e-12)


# The array that comes in


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@assignments
def test_images_are_not_written_to(dtype, assignment):
    X = make_bytes(7).astype(dtype)
    before = X.copy()
    model = small(assignment=assignment, pooling="logsumexp", padding=1).fit(X).partial_fit(X)
    model.transform(X)
    model.score(X)
    assert_array_equal(X, before)
    X.flags.writeable = False
    small(assignment=assignment, pooling="mean").fit(X).partial_fit(X).transform(X)


def test_sample_weight_is_not_written_to():
    weights = np.linspace(0, 2, 30)
    before = weights.copy()
    small().fit(make_images(7), sample_weight=weights)
    assert_array_equal(weights, before)


@pytest.fixture
def large_memmap(tmp_path):
    """64000 images of 32 x 32 bytes, 65 MB, read-only."""
    block = make_bytes(8, n=100, shape=(32, 32))
    np.tile(block, (640, 1, 1)).tofile(tmp_path / "images")
    return np.memmap(tmp_path / "images", np.uint8, mode="r", shape=(64_000, 32, 32))


@pytest.mark.parametrize("flat", [False, True])
def test_images_are_not_copied_whole(large_memmap, flat):
    X = large_memmap.reshape(len(large_memmap), -1) if flat else large_memmap
    model = ConvGMMFeatures(
        2,
        patch_size=5,
        padding=0,
        stride=9,
        assignment="image",
        **RAW,
        init_params="random",
        noise_variance=1e4,
        pool_grid=1,
        max_iter=1,
        tol=0,
        batch_size=100,
        n_jobs=1,
        random_state=0,
    )
    tracemalloc.start()
    try:
        model.fit(X)
        assert tracemalloc.get_traced_memory()[1] < X.nbytes / 2
        tracemalloc.reset_peak()
        features = model.transform(X)
        assert tracemalloc.get_traced_memory()[1] < X.nbytes / 8
    finally:
        tracemalloc.stop()
    assert features.shape == (64_000, 2)


@assignments
def test_a_memory_map_gives_what_an_array_gives(tmp_path, assignment):
    X = make_bytes(9)
    X.tofile(tmp_path / "images")
    mapped = np.memmap(tmp_path / "images", np.uint8, mode="r", shape=X.shape)
    model = small(assignment=assignment, batch_size=7).fit(mapped)
    expected = small(assignment=assignment, batch_size=7).fit(X)
    assert_same_model(model, expected)
    assert_array_equal(model.transform(mapped), expected.transform(X))
    assert_array_equal(model.score_samples(mapped), expected.score_samples(X))
    assert_array_equal(np.fromfile(tmp_path / "images", np.uint8), X.ravel())
