import pickle
import re
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

import _reference
from sklearn_calm import ConvGMMFeatures

SMALL = {
    "n_components": 3,
    "patch_size": 3,
    "padding": 0,
    "pool_grid": 2,
    "max_iter": 3,
    "tol": 0,
    "random_state": 0,
}
RAW = {"normalize": None, "whiten": False}
ASSIGNMENTS = ["image", (2, 2), "patch"]
POOLINGS = ["logsumexp", "max", "mean", "triangle"]
PREPROCESSINGS = {
    "raw": RAW,
    "contrast": {"normalize": "contrast", "whiten": False},
    "whitened": {"normalize": None, "whiten": True},
    "both": {"normalize": "contrast", "whiten": True},
}

assignments = pytest.mark.parametrize("assignment", ASSIGNMENTS, ids=str)
preprocessings = pytest.mark.parametrize(
    "preprocessing", PREPROCESSINGS.values(), ids=PREPROCESSINGS
)


def small(**parameters):
    return ConvGMMFeatures(**{**SMALL, **parameters})


def make_images(seed, n=30, shape=(8, 9), dtype=np.float64):
    """Images of which each holds one of three strokes, and noise."""
    rng = np.random.default_rng(seed)
    strokes = rng.normal(size=(3, 3, 3)) * 2
    images = rng.normal(scale=0.3, size=(n, *shape))
    for image in images:
        y, x = rng.integers(shape[0] - 2), rng.integers(shape[1] - 2)
        image[y : y + 3, x : x + 3] += strokes[rng.integers(3)]
    return images.astype(dtype)


def make_bytes(seed, n=30, shape=(8, 9)):
    images = make_images(seed, n, shape)
    return np.clip(images * 40 + 100, 0, 255).astype(np.uint8)


def assert_same_model(a, b, rtol=0):
    """Equal in all that describes the layer; to the last bit for rtol 0."""
    for name in ("means_", "weights_", "noise_variance_", "conv_weight_", "conv_bias_"):
        x, y = getattr(a, name), getattr(b, name)
        assert_allclose(x, y, rtol=rtol, atol=rtol * np.abs(y).max(), err_msg=name)
    assert_allclose(a.lower_bounds_, b.lower_bounds_, rtol=rtol)


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
        (np.int64, np.float32),
        (bool, np.float32),
    ],
)
def test_floats_are_kept_and_integers_give_float32(dtype, expected, pooling):
    X = make_bytes(0) > 110 if dtype is bool else make_bytes(0).astype(dtype)
    model = small(pooling=pooling, batch_size=7).fit(X)
    features = model.transform(X)
    assert features.dtype == expected
    assert model.means_.dtype == expected
    assert features.shape == ((30, 6, 7, 3) if pooling is None else (30, 12))
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


# What must not change the result


@assignments
@pytest.mark.parametrize("batch_size", [1, 7, 30, "auto"])
def test_any_number_of_jobs_gives_the_same_bits(assignment, batch_size):
    X = make_images(10)
    options = {"assignment": assignment, "batch_size": batch_size, "pooling": "logsumexp"}
    serial = small(**options, n_jobs=1).fit(X)
    for n_jobs in (2, 3, -1, None):
        model = small(**options, n_jobs=n_jobs).fit(X)
        assert_same_model(model, serial)
        assert_array_equal(model.transform(X), serial.transform(X))
        assert_array_equal(model.score_samples(X), serial.score_samples(X))


@assignments
@preprocessings
def test_any_batch_size_gives_the_same_but_for_rounding(assignment, preprocessing):
    X = make_images(11)
    whole = small(assignment=assignment, **preprocessing, batch_size=30).fit(X)
    for batch_size in (1, 7, 1000):
        model = clone(whole).set_params(batch_size=batch_size).fit(X)
        assert_same_model(model, whole, rtol=1e-9)
        assert_allclose(model.transform(X), whole.transform(X), rtol=1e-9, atol=1e-9)
        assert_allclose(model.score_samples(X), whole.score_samples(X), rtol=1e-9)


def test_two_fits_at_once_give_what_each_gives_alone():
    X = [make_images(12), make_images(13)]

    def fit(images):
        return small(n_jobs=2, batch_size=3, max_iter=20, assignment="image").fit(images)

    alone = [fit(images) for images in X]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(fit, X * 3))
    for i, model in enumerate(together):
        assert_same_model(model, alone[i % 2], rtol=1e-9)


@assignments
@preprocessings
@pytest.mark.parametrize("padding", [0, 2])
def test_a_weight_is_a_number_of_copies(assignment, preprocessing, padding):
    rng = np.random.default_rng(14)
    X = make_images(14, n=20)
    copies = rng.integers(0, 4, size=20)
    repeated = np.repeat(X, copies, axis=0)
    options = {"assignment": assignment, **preprocessing, "padding": padding, "max_iter": 5}
    weighted = small(**options).fit(X, sample_weight=copies)
    assert_same_model(weighted, small(**options).fit(repeated), rtol=1e-7)
    assert weighted.score(X, sample_weight=copies) == pytest.approx(weighted.score(repeated))
    weighted = small(**options).partial_fit(X, sample_weight=copies)
    weighted.partial_fit(X[::-1], sample_weight=copies[::-1])
    stream = small(**options).partial_fit(repeated).partial_fit(repeated[::-1])
    assert_same_model(weighted, stream, rtol=1e-7)


@pytest.mark.parametrize("learn_weights", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_weight_is_a_number_of_copies_to_a_component_that_dies(learn_weights, seed):
    rng = np.random.default_rng(seed)
    X, copies = rng.normal(size=(6, 6, 6)), np.array([1, 2, 3, 1, 2, 3])
    far = np.full((3, 3), 100.0)
    model = small(
        n_components=2,
        init_params=np.stack([rng.normal(size=(3, 3)), far]),
        assignment="image",
        normalize=None,
        whiten=False,
        noise_variance=0.1,
        learn_weights=learn_weights,
        max_iter=3,
        tol=0,
    )
    weighted = clone(model).fit(X, sample_weight=copies)
    assert weighted.n_reseeded_ > 0
    assert_same_model(weighted, model.fit(np.repeat(X, copies, axis=0)), rtol=1e-9)


def test_weights_change_the_model():
    X = make_images(15)
    weighted = small().fit(X, sample_weight=np.arange(30))
    assert np.abs(weighted.means_ - small().fit(X).means_).max() > 1e-3


@pytest.mark.parametrize("init_params", ["k-means++", "random_from_data", "random"])
def test_a_random_state_is_reproducible(init_params):
    X = make_images(16)
    options = {"init_params": init_params, "noise_variance": 2.0, **RAW}
    model = small(**options, random_state=3).fit(X)
    assert_same_model(model, small(**options, random_state=3).fit(X))
    assert_same_model(model, small(**options, random_state=np.random.RandomState(3)).fit(X))
    assert_same_model(model, clone(model).fit(X))
    assert_same_model(model, model.fit(X))
    other = small(**options, random_state=5).fit(X)
    assert np.abs(model.means_ - other.means_).max() > 1e-6


def test_the_global_generator_is_left_alone():
    X = make_images(16)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    small().fit(X).transform(X)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


# EM


@assignments
@preprocessings
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"learn_weights": False},
        {"noise_variance": 0.5},
        {"noise_variance": 2.0, "learn_weights": False},
        {"stride": 2, "padding": (1, 2)},
        {"init_params": "random"},
        {"init_params": "random_from_data", "n_init": 2, "n_components": 9},
        {"n_components": 40, "reg_covar": 0},
    ],
    ids=str,
)
def test_the_objective_never_falls(assignment, preprocessing, options):
    X = make_images(17, n=16)
    model = small(**{"assignment": assignment, **preprocessing, "max_iter": 25, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # dead components may be left
        model.fit(X)
    bounds = np.array([*model.lower_bounds_, model.score(X)])
    assert (np.diff(bounds) >= -1e-9 * np.abs(bounds[:-1])).all()
    assert bounds[-1] > bounds[0]


def test_the_paper_layer_is_the_papers():
    rng = np.random.default_rng(18)
    X = rng.random((6, 18, 19))
    kernels = rng.normal(scale=0.1, size=(5, 20, 20))
    model = ConvGMMFeatures(
        5,
        patch_size=(20, 20),
        padding=2,
        assignment="image",
        **RAW,
        noise_variance=1.0,
        learn_weights=False,
        init_params=kernels,
        pooling="logsumexp",
        pool_grid=1,
        max_iter=3,
        tol=0,
    ).fit(X)
    padded = np.pad(X, ((0, 0), (2, 2), (2, 2)))
    for _ in range(3):
        kernels = _reference.paper_em_pass(padded, kernels)
    assert_allclose(model.means_[..., 0], kernels, rtol=1e-9, atol=1e-12)
    assert_allclose(model.transform(X), _reference.paper_features(padded, kernels), rtol=1e-9)
    assert_array_equal(model.weights_, np.full(5, 0.2))
    assert model.noise_variance_ == 1.0
    assert model.n_reseeded_ == 0


def deviations(model, X):
    """Square root of variance and floor (eq. 10) of every patch, (n, rows, columns)."""
    floor = model.contrast_floor_
    height, width = model.means_.shape[1:3]
    stride, padding = model.stride, model.padding
    patches = [_reference.extract_patches(x, (height, width), stride, padding) for x in X]
    return np.sqrt(np.var(patches, axis=(3, 4, 5)) + floor)


@preprocessings
@pytest.mark.parametrize("n_channels", [1, 2])
def test_the_layer_is_a_convolution(preprocessing, n_channels):
    """conv_weight_ and conv_bias_ are all that another framework needs, but for the deviation."""
    X = np.random.default_rng(19).normal(size=(5, 7, 8, n_channels))
    model = small(pooling=None, stride=(2, 1), padding=(1, 2), **preprocessing).fit(X)
    maps = model.transform(X)
    assert maps.shape == (5, 4, 10, 3)
    expected = np.zeros(maps.shape)
    for i, row, column, k in np.ndindex(*maps.shape):
        padded = _reference.pad(X[i], (1, 2))
        patch = padded[2 * row : 2 * row + 3, column : column + 3]
        expected[i, row, column, k] = np.sum(patch * model.conv_weight_[k])
    if model.normalize == "contrast":
        assert_allclose(model.conv_weight_.sum(axis=(1, 2, 3)), 0, atol=1e-9)
        expected /= deviations(model, X)[..., np.newaxis]
    assert_allclose(maps, expected + model.conv_bias_, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_names_and_columns_have_the_same_order(pooling):
    X = make_images(20)
    model = small(pooling=pooling, pool_grid=(2, 3), n_components=4).fit(X)
    features, names = model.transform(X), model.get_feature_names_out()
    assert len(set(names)) == features.shape[1] == 24
    maps = clone(model).set_params(pooling=None).fit(X).transform(X)
    cells = _reference.cells("patch", 6, 7)
    gamma = [_reference.responsibilities(joint, cells) for joint in maps]
    twin = np.array(
        [_reference.pool(m, g, pooling, (2, 3)) for m, g in zip(maps, gamma, strict=True)]
    ).reshape(30, 2, 3, 4)
    for column, name in zip(features.T, names, strict=True):
        found = re.fullmatch(r"convgmmfeatures_row(\d)_column(\d)_component(\d)", name)
        row, left, component = map(int, found.groups())
        assert_allclose(column, twin[:, row, left, component], rtol=1e-9, atol=1e-12)


def test_score_is_the_mean_of_score_samples():
    X = make_images(21)
    model = small().fit(X)
    scores = model.score_samples(X)
    assert scores.shape == (30,)
    assert model.score(X) == pytest.approx(scores.mean())
    assert isinstance(model.score(X), float)
    weights = np.random.default_rng(21).random(30)
    assert model.score(X, sample_weight=weights) == pytest.approx(weights @ scores / weights.sum())
    assert model.score(X[:5], sample_weight=2.0) == pytest.approx(scores[:5].mean())


@assignments
def test_the_bound_is_the_score_before_the_last_step(assignment):
    X = make_images(22)
    shorter = small(assignment=assignment, max_iter=4).fit(X)
    longer = small(assignment=assignment, max_iter=5).fit(X)
    assert longer.lower_bound_ == pytest.approx(shorter.score(X), rel=1e-9)
    assert_array_equal(longer.lower_bounds_[:-1], shorter.lower_bounds_)


def test_learned_images_score_best():
    X = make_images(23)
    model = small(assignment="image", **RAW, max_iter=20).fit(X)
    assert model.score(X) > model.score(np.random.default_rng(23).permuted(X, axis=2)) + 1


def test_n_init_keeps_the_best():
    X = make_images(24, n=60)
    options = {"init_params": "random_from_data", "assignment": "image", **RAW, "max_iter": 4}
    best = small(**options, n_init=4, random_state=np.random.RandomState(3)).fit(X)
    rng = np.random.RandomState(3)
    each = [small(**options, random_state=rng).fit(X) for _ in range(4)]
    bounds = [model.lower_bound_ for model in each]
    assert np.argmax(bounds) != 0
    assert_same_model(best, each[np.argmax(bounds)])


def test_tol_stops():
    X = make_images(25)
    model = small(tol=1e-3, max_iter=500).fit(X)
    assert model.converged_
    assert 2 < model.n_iter_ < 500
    last, before = model.lower_bounds_[-1], model.lower_bounds_[-2]
    assert last - before < 1e-3 * 6 * 7  # cells per image
    all_but_last = np.diff(model.lower_bounds_[:-1])
    assert (all_but_last >= 1e-3 * 6 * 7).all()


def test_no_tol_makes_every_pass():
    model = small(max_iter=40, n_components=1).fit(make_images(25))
    assert model.n_iter_ == 40
    assert not model.converged_


@assignments
@pytest.mark.parametrize("noise_variance", ["auto", 0.5])
def test_a_warm_start_goes_on(assignment, noise_variance):
    X = make_images(26)
    options = {"assignment": assignment, "noise_variance": noise_variance}
    whole = small(**options, max_iter=8).fit(X)
    model = small(**options, max_iter=5, warm_start=True).fit(X)
    first = model.lower_bounds_
    model.set_params(max_iter=3).fit(X)
    assert_allclose([*first, *model.lower_bounds_], whole.lower_bounds_, rtol=1e-9)
    assert model.n_iter_ == 3
    assert_allclose(model.means_, whole.means_, rtol=1e-6, atol=1e-9)
    cold = small(**options, max_iter=3).fit(X)
    assert model.lower_bounds_[0] > cold.lower_bounds_[0]


def test_without_warm_start_fit_starts_anew():
    X, other = make_images(27), make_images(28, shape=(6, 6))
    assert_same_model(small().fit(other).fit(X), small().fit(X))
    assert_same_model(small().partial_fit(other).fit(X), small().fit(X))


def test_given_kernels_are_where_em_starts():
    X = make_images(29)
    kernels = np.random.default_rng(29).normal(size=(3, 3, 3, 1))
    options = {**RAW, "assignment": "image", "max_iter": 1, "noise_variance": 0.5}
    model = small(**options, init_params=kernels).fit(X)
    assert_same_model(model, small(**options, init_params=kernels[..., 0].tolist()).fit(X))
    setting = _reference.Setting((3, 3))
    start = _reference.Mixture(kernels.reshape(3, 9), np.full(3, 1 / 3), 0.5)
    statistics = _reference.e_step(X[..., np.newaxis], np.ones(30), start, setting)
    expected = _reference.m_step(statistics, True, 0.5, None, None)
    assert_allclose(model.means_.reshape(3, 9), expected.means, rtol=1e-9, atol=1e-12)
    assert_allclose(model.weights_, expected.weights, rtol=1e-9)
    assert model.lower_bound_ == pytest.approx(_reference.objective(statistics, 0.5) / 30)


# Streams


def test_a_learning_rate_is_a_power_of_the_step():
    """Step t weighs (learning_offset + t) ** -learning_decay (eq. 21); the first one all."""
    X = make_images(30, n=24)
    batches = [X[:10], X[10:11], X[11:24]]
    kernels = np.random.default_rng(30).normal(size=(3, 3, 3))
    options = {"learning_offset": 2.5, "learning_decay": 0.8, "init_params": kernels}
    model = small(**options, **RAW, assignment="image")
    setting = _reference.Setting((3, 3))
    mixture, blended = None, None
    for t, batch in enumerate(batches, start=1):
        model.partial_fit(batch)
        if mixture is None:
            patches = [_reference.patch_vectors(x[..., np.newaxis], setting) for x in batch]
            noise = np.mean(np.square(patches))
            mixture = _reference.Mixture(kernels.reshape(3, 9), np.full(3, 1 / 3), noise)
        ones = np.ones(len(batch))
        new = _reference.e_step(batch[..., np.newaxis], ones, mixture, setting)
        new = _reference.Statistics(*(value / len(batch) for value in new))
        rate = (2.5 + t) ** -0.8
        blended = (
            new
            if blended is None
            else _reference.Statistics(
                *((1 - rate) * a + rate * b for a, b in zip(blended, new, strict=True))
            )
        )
        bound = _reference.objective(new, mixture.noise_variance)
        assert model.lower_bound_ == pytest.approx(bound, rel=1e-9)
        mixture = _reference.m_step(blended, True, "auto", None, None)
        assert_allclose(model.means_.reshape(3, 9), mixture.means, rtol=1e-8, atol=1e-10)
        assert_allclose(model.weights_, mixture.weights, rtol=1e-8)
        assert model.noise_variance_ == pytest.approx(mixture.noise_variance, rel=1e-8)
        assert model.n_iter_ == len(model.lower_bounds_) == t
    assert model.n_samples_seen_ == 24
    assert model.n_reseeded_ == 0
    assert not model.converged_


@assignments
@preprocessings
def test_batches_of_any_size_follow_the_first(assignment, preprocessing):
    X = make_images(31)
    model = small(assignment=assignment, **preprocessing).partial_fit(X[:10])
    seen = 10
    for size in (1, 2, 17, 1):
        assert model.partial_fit(X[:size]) is model
        seen += size
        assert np.isfinite(model.transform(X)).all()
    assert model.n_samples_seen_ == seen
    assert model.n_iter_ == 5


@pytest.mark.parametrize("sampled", [False, True])
def test_a_stream_goes_on_from_a_fit(monkeypatch, sampled):
    if sampled:
        monkeypatch.setattr("sklearn_calm._init.MAX_PATCHES", 2000)
    X = make_images(33, n=200)
    model = small(max_iter=30, batch_size=16).fit(X)
    fitted, means = model.score(X), model.means_
    fresh = small(batch_size=16).partial_fit(X[:3])
    model.partial_fit(X[:3])
    # Three images neither wipe out what 200 taught, nor count for nothing.
    assert fresh.score(X) < model.score(X)
    rate = (10 + model.n_iter_) ** -0.7
    assert_allclose(model.score(X), fitted, rtol=rate)
    assert np.abs(model.means_ - means).max() > 1e-6
    assert model.n_samples_seen_ == 203


@assignments
@preprocessings
def test_a_stream_ends_near_fit(monkeypatch, assignment, preprocessing):
    """From one start; preprocessing and start come from the first batch, here all images."""
    # Seeds drawn in may start where little is left to gain: a share of it would say little.
    monkeypatch.setattr("sklearn_calm._init.SEED_LENGTH", 1e6)
    X = make_images(32, n=200)
    # As a mixture of all patches, few images have too many optima to compare for more than one.
    n_components = 1 if assignment == "patch" else 3
    options = {"assignment": assignment, **preprocessing, "n_components": n_components}
    fitted = small(**options, max_iter=40).fit(X)
    stream = small(**options).partial_fit(X)
    rng = np.random.default_rng(32)
    for _ in range(12):
        for rows in np.split(rng.permutation(200), 10):
            stream.partial_fit(X[rows])
    at_start = fitted.lower_bounds_[0]
    assert stream.lower_bounds_[0] == pytest.approx(at_start, rel=1e-9)
    assert stream.score(X) - at_start > 0.9 * (fitted.score(X) - at_start)
    assert stream.n_samples_seen_ == 200 + 12 * 200


def test_a_stream_does_not_depend_on_jobs():
    X = make_images(33)
    models = [small(n_jobs=n_jobs, batch_size=4) for n_jobs in (1, 2)]
    for model in models:
        for rows in (slice(0, 12), slice(12, 13), slice(13, 30)):
            model.partial_fit(X[rows])
    assert_same_model(*models)


@assignments
@pytest.mark.parametrize("whiten", [False, True])
def test_a_stream_that_goes_on_from_a_fit_forgets_nothing(assignment, whiten):
    """Had one image the last word, more than half of what was gained would be lost."""
    X = make_images(33, n=100)
    model = small(assignment=assignment, normalize=None, whiten=whiten, max_iter=20).fit(X)
    fitted, at_start = model.score(X), model.lower_bounds_[0]
    model.partial_fit(X[:1])
    assert fitted - model.score(X) < 0.1 * (fitted - at_start)


def test_fit_forgets_a_stream_and_its_counts():
    X = make_images(34)
    model = small().partial_fit(X).partial_fit(X).fit(X)
    assert model.n_samples_seen_ == 30
    assert model.n_iter_ == len(model.lower_bounds_) == 3


# Dead components, warnings, progress


def far_kernels(n_far):
    """Four kernels, of which the last explain no patch."""
    kernels = np.random.default_rng(35).normal(size=(4, 3, 3))
    kernels[4 - n_far :] += 100
    return kernels


def test_dead_components_get_new_patches():
    X = make_images(35)
    options = {**RAW, "assignment": "image", "init_params": far_kernels(2), "n_components": 4}
    model = small(**options, max_iter=15).fit(X)
    assert model.n_reseeded_ >= 2
    assert (model.means_ < 20).all()
    assert (model.weights_ > 1e-3).all()
    alone = small(**{**options, "init_params": far_kernels(2)[:2], "n_components": 2}, max_iter=15)
    assert model.score(X) > alone.fit(X).score(X) + 0.1


def test_dead_components_of_a_stream_get_new_patches():
    X = make_images(35)
    options = {**RAW, "assignment": "image", "init_params": far_kernels(2), "n_components": 4}
    model = small(**options).partial_fit(X)
    assert model.n_reseeded_ == 2
    for _ in range(5):
        model.partial_fit(X)
    assert (model.means_ < 20).all()


def test_dead_components_that_are_left_are_named():
    X = make_images(35)
    options = {**RAW, "assignment": "image", "init_params": far_kernels(1), "n_components": 4}
    with pytest.warns(ConvergenceWarning, match=r"1 of 4 components explain next to nothing") as w:
        small(**options, max_iter=1).fit(X)
    assert len(w) == 1
    assert "n_reseeded_=0" in str(w[0].message)
    assert "Lower n_components" in str(w[0].message)
    assert w[0].filename == __file__


def test_alike_starts_are_named():
    X = np.tile(make_images(36, n=1, shape=(3, 4)), (10, 1, 1))
    with pytest.warns(ConvergenceWarning, match="only 2 distinct kernel") as w:
        small(n_components=5).fit(X)
    assert "n_components=5" in str(w[0].message)
    assert w[0].filename == __file__


def test_too_few_passes_are_named():
    with pytest.warns(ConvergenceWarning, match="did not converge in max_iter=3 passes") as w:
        model = small(tol=1e-6).fit(make_images(36))
    assert len(w) == 1
    assert "Increase max_iter or tol" in str(w[0].message)
    assert w[0].filename == __file__
    assert not model.converged_


def test_progress_is_a_line_a_pass(capsys):
    X = make_images(37)
    model = small(verbose=1).fit(X)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 3
    for i, (line, bound) in enumerate(zip(lines, model.lower_bounds_, strict=True), start=1):
        assert line.startswith(
            f"[ConvGMMFeatures] pass {i}/3: log-likelihood per image {bound:.6g}"
        )
    assert err == ""
    small(verbose=0).fit(X).transform(X)
    assert capsys.readouterr().out == ""


# scikit-learn's tools


def test_clone_is_unfitted_and_equal():
    model = small(assignment=(2, 2), pool_grid=(1, 2)).fit(make_images(38))
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "means_")


@pytest.mark.parametrize("fit", ["fit", "partial_fit"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_pickle_is_the_model(tmp_path, fit, dtype):
    X = make_images(39, dtype=dtype)
    model = getattr(small(), fit)(X)
    joblib.dump(model, tmp_path / "model")
    for copy in [pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model")]:
        assert_array_equal(copy.transform(X), model.transform(X))
        assert_array_equal(copy.score_samples(X), model.score_samples(X))
        twin = pickle.loads(pickle.dumps(model))
        assert_same_model(copy.partial_fit(X[:3]), twin.partial_fit(X[:3]))


def test_a_pickle_is_small():
    """Neither images nor working memory are kept."""
    X = make_images(39, n=2000)
    assert len(pickle.dumps(small().fit(X))) < 20_000


def test_grid_search_over_a_pipeline():
    X = make_images(40, n=40)
    y = (X.max(axis=(1, 2)) > np.median(X.max(axis=(1, 2)))).astype(int)
    pipe = Pipeline([("features", small()), ("clf", RidgeClassifier())])
    grid = {"features__n_components": [2, 4], "features__assignment": ["image", "patch", (2, 2)]}
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X).shape == (40,)


def test_grid_search_by_likelihood():
    X = make_images(41, n=40)
    model = small(assignment="image", **RAW, max_iter=10)
    search = GridSearchCV(model, {"noise_variance": [0.09, 9.0]}, cv=2, error_score="raise").fit(X)
    assert search.best_params_ == {"noise_variance": 0.09}


def test_fit_transform_is_fit_then_transform():
    X = make_images(42)
    assert_array_equal(small().fit_transform(X), small().fit(X).transform(X))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_data_frames(pooling):
    X = make_images(44, shape=(6, 6)).reshape(30, -1)
    frame = pd.DataFrame(X, columns=[f"pixel{i}" for i in range(36)], index=range(100, 130))
    model = small(pooling=pooling).set_output(transform="pandas").fit(frame)
    features = model.transform(frame)
    assert isinstance(features, pd.DataFrame)
    assert list(features.columns) == list(model.get_feature_names_out())
    assert list(features.index) == list(frame.index)
    expected = small(pooling=pooling).fit(X).transform(X)
    assert_allclose(features.to_numpy(), expected, rtol=1e-9, atol=1e-12)
    assert list(model.feature_names_in_) == list(frame.columns)


def test_pooling_may_change_after_fit():
    """Kernels do not depend on how features are pooled."""
    X = make_images(45)
    model = small(pooling="max").fit(X).set_params(pooling="mean", pool_grid=3)
    assert_array_equal(model.transform(X), small(pooling="mean", pool_grid=3).fit(X).transform(X))
    assert model.get_feature_names_out()[-1] == "convgmmfeatures_row2_column2_component2"
