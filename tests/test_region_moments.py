"""Means and deviations of regions: twin, laws, and every kind of images that the layer takes."""

import copy
import pickle

import dask.array as da
import numpy as np
import onnx
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from onnxruntime import InferenceSession
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from _moments_reference import region_moments
from sklearn_calm import ConvGMMFeatures, RegionMoments, _region_moments
from sklearn_calm._arrays.namespace import library_of, to_numpy
from sklearn_calm.onnx import to_onnx

# (grid, window, width)
WINDOWS = [(1, "box", 0.6), ((2, 3), "box", 0.6), (2, "gaussian", 0.6), ((3, 2), "auto", 0.3)]
SHAPES = [(7, 9, 3), (6, 5, 1), (1, 12, 2)]

windows = pytest.mark.parametrize(("grid", "window", "width"), WINDOWS)
seeds = pytest.mark.parametrize("seed", [0, 1, 2])


def make_images(seed, n=6, shape=(7, 9, 3), dtype=np.float64):
    return np.random.default_rng(seed).normal(3, 2, size=(n, *shape)).astype(dtype)


def gaps(X, seed, share=0.4):
    """X with missing values; of the first image everything in the first rows."""
    missing = np.random.default_rng(seed).random(X.shape) < share
    missing[0, :4] = True
    return np.where(missing, np.nan, X)


def literal(X, grid, window, width):
    """The twin as rows."""
    grid = (min(grid, X.shape[1]), min(grid, X.shape[2])) if isinstance(grid, int) else grid
    window = "gaussian" if window == "auto" else window
    return np.stack([region_moments(image, window, grid, width).ravel() for image in X])


def outputs(onnx_model, X):
    onnx.checker.check_model(onnx_model, full_check=True)
    session = InferenceSession(onnx_model.SerializeToString())
    return session.run(None, {"X": X})[0]


@seeds
@windows
@pytest.mark.parametrize("shape", SHAPES)
def test_moments_are_those_of_the_twin(seed, grid, window, width, shape):
    if isinstance(grid, tuple) and grid[0] > shape[0]:
        grid = (1, grid[1])
    X = make_images(seed, shape=shape)
    moments = RegionMoments(image_shape=shape, pool_grid=grid, pool_window=window, pool_width=width)
    assert_allclose(moments.fit_transform(X), literal(X, grid, window, width), rtol=1e-10)


@seeds
@windows
def test_missing_values_count_nowhere(seed, grid, window, width):
    X = gaps(make_images(seed), seed)
    moments = RegionMoments(
        pool_grid=grid, pool_window=window, pool_width=width, missing_values="ignore"
    )
    found = moments.fit_transform(X)
    assert_allclose(found, literal(X, grid, window, width), rtol=1e-10, atol=1e-12)


@seeds
def test_boxes_are_means_and_deviations_of_numpy(seed):
    X = make_images(seed, shape=(8, 6, 2))
    found = RegionMoments(pool_grid=1, pool_window="box").fit_transform(X)
    expected = np.concatenate([X.mean(axis=(1, 2)), X.std(axis=(1, 2))], axis=1)
    assert_allclose(found, expected, rtol=1e-12)
    found = RegionMoments(pool_grid=2, pool_window="box").fit_transform(X)
    corner = X[:, 4:, 3:]
    expected = np.concatenate([corner.mean(axis=(1, 2)), corner.std(axis=(1, 2))], axis=1)
    assert_allclose(found[:, -4:], expected, rtol=1e-12)


@seeds
@windows
def test_a_constant_shifts_the_means_only(seed, grid, window, width):
    X = make_images(seed)
    moments = RegionMoments(pool_grid=grid, pool_window=window, pool_width=width).fit(X)
    names = moments.get_feature_names_out()
    are_means = np.array([name.endswith("_mean") for name in names])
    before, after = moments.transform(X), moments.transform(X + 7)
    assert_allclose(after[:, are_means], before[:, are_means] + 7, rtol=1e-12)
    assert_allclose(after[:, ~are_means], before[:, ~are_means], rtol=1e-9)
    assert_allclose(moments.transform(-2 * X), np.where(are_means, -2, 2) * before, rtol=1e-9)


@seeds
@windows
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_constant_images_have_no_deviation(seed, grid, window, width, dtype):
    values = np.random.default_rng(seed).uniform(1, 200, size=(6, 1, 1, 3)).astype(dtype)
    X = np.broadcast_to(values, (6, 7, 9, 3))
    moments = RegionMoments(pool_grid=grid, pool_window=window, pool_width=width).fit(X)
    found = moments.transform(X).reshape(6, -1, 2, 3)
    assert_allclose(found[:, :, 0], np.broadcast_to(values[:, 0], found[:, :, 0].shape), rtol=1e-6)
    assert_array_equal(found[:, :, 1], 0)


@seeds
def test_a_constant_region_of_an_image_has_no_deviation(seed):
    """Rounding errors would become large once columns are standardised."""
    X = make_images(seed, shape=(8, 8))
    X[:, :4, :4] = np.random.default_rng(seed).random((6, 1, 1))
    found = RegionMoments(pool_grid=2, pool_window="box").fit_transform(X)
    assert_array_equal(found[:, 1], 0)
    assert found[:, 3:].min() > 0


@seeds
def test_bright_images_keep_small_deviations(seed):
    X = make_images(seed, shape=(8, 8))
    bright = (X + 1e6).astype(np.float32)
    found = RegionMoments(pool_grid=1, pool_window="box").fit_transform(bright)
    assert_allclose(found[:, 1], bright.astype(np.float64).std(axis=(1, 2)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int32])
def test_every_library_gives_the_same(from_numpy, dtype):
    X = (20 * make_images(0)).clip(0, 200).astype(dtype)
    expected = RegionMoments().fit_transform(X)
    found = RegionMoments().fit(from_numpy(X)).transform(from_numpy(X))
    assert library_of(found) == library_of(from_numpy(X))
    assert to_numpy(found).dtype == expected.dtype
    assert expected.dtype == (np.float32 if dtype in (np.float32, np.uint8) else np.float64)
    assert_allclose(to_numpy(found), expected, rtol=1e-6)


def test_missing_values_in_every_library(from_numpy):
    X = gaps(make_images(0), 0)
    expected = RegionMoments(missing_values="ignore").fit_transform(X)
    moments = RegionMoments(missing_values="ignore").fit(from_numpy(X))
    assert_allclose(to_numpy(moments.transform(from_numpy(X))), expected, rtol=1e-10)


def test_what_is_behind_a_mask_never_counts():
    X = gaps(make_images(0), 0)
    moments = RegionMoments(missing_values="ignore").fit(X)
    expected = moments.transform(X)
    for behind in (0, 1e30, np.nan):
        masked = np.ma.array(np.where(np.isnan(X), behind, X), mask=np.isnan(X))
        assert_array_equal(moments.transform(masked), expected)
        lazy = da.from_array(masked, chunks=(2, -1, -1, -1))
        assert_array_equal(moments.transform(lazy).compute(), expected)


def test_complete_images_are_the_same_to_the_last_bit():
    X = make_images(0)
    ignoring = RegionMoments(missing_values="ignore")
    assert_array_equal(ignoring.fit_transform(X), RegionMoments().fit_transform(X))


def test_rows_images_and_memory_maps_are_the_same(tmp_path):
    X = make_images(0, dtype=np.float32)
    moments = RegionMoments().fit(X)
    expected = moments.transform(X)
    np.save(tmp_path / "images.npy", X)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert_array_equal(moments.transform(mapped), expected)
    rows = mapped.reshape(len(X), -1)
    assert_array_equal(moments.transform(rows), expected)
    by_rows = RegionMoments(image_shape=(7, 9, 3)).fit(rows)
    assert_array_equal(by_rows.transform(rows), expected)
    assert_array_equal(X, np.load(tmp_path / "images.npy"))
    assert_array_equal(moments.transform(X[::-1])[::-1], expected)


def test_dask_arrays_are_transformed_lazily_and_alike():
    X = make_images(0)
    lazy = da.from_array(X, chunks=(4, -1, -1, -1))
    moments = RegionMoments().fit(lazy)
    found = moments.transform(lazy)
    assert isinstance(found, da.Array)
    assert found.shape == (6, 96)
    assert_array_equal(found.compute(), moments.transform(X))
    with pytest.raises(ValueError, match="A lazy Dask array cannot be put into a data frame"):
        moments.set_output(transform="pandas").transform(lazy)


@pytest.mark.parametrize("window", ["box", "gaussian"])
@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_images_of_several_sizes_are_as_each_alone(window, dtype):
    shapes = [(8, 9, 3), (5, 6, 3), (8, 9, 3), (7, 5, 3)]
    images = [
        (20 * make_images(i, 1, shape)[0]).clip(0, 200).astype(dtype)
        for i, shape in enumerate(shapes)
    ]
    moments = RegionMoments(pool_window=window).fit(images)
    found = moments.transform(images)
    for image, row in zip(images, found, strict=True):
        assert_allclose(RegionMoments(pool_window=window).fit_transform(image[None])[0], row)
    assert found.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert moments.image_shape_ == (None, None, 3)
    assert len(moments.get_feature_names_out()) == found.shape[1]
    assert not hasattr(moments, "n_features_in_")
    with pytest.raises(ValueError, match="more regions than the map"):
        moments.fit([*images, images[0][:3]])


@seeds
@pytest.mark.parametrize("missing", [False, True])
def test_bands_of_large_images_are_the_whole(seed, missing, monkeypatch, from_numpy):
    X = make_images(seed, shape=(23, 6, 2))
    X = gaps(X, seed) if missing else X
    moments = RegionMoments(missing_values="ignore" if missing else "error").fit(from_numpy(X))
    expected = to_numpy(moments.transform(from_numpy(X)))
    monkeypatch.setattr(_region_moments, "BAND_BYTES", 200)
    found = to_numpy(moments.transform(from_numpy(X)))
    assert not np.array_equal(found, expected)  # or nothing was cut
    assert_allclose(found, expected, rtol=1e-10)


def test_a_bad_value_in_a_band_is_told_of_its_image(monkeypatch):
    X = make_images(0, shape=(23, 6, 2))
    moments = RegionMoments().fit(X)
    X[4, 20, 3, 1] = np.nan
    monkeypatch.setattr(_region_moments, "BAND_BYTES", 200)
    with pytest.raises(ValueError, match="first in image 4"):
        moments.transform(X)


def test_small_batches_are_the_same(monkeypatch):
    X = make_images(0, n=50)
    expected = RegionMoments().fit_transform(X)
    monkeypatch.setattr(_region_moments, "VALUES_HELD", 2**10)
    assert_allclose(RegionMoments().fit_transform(X), expected, rtol=1e-13)


def test_names_say_what_columns_are():
    X = make_images(0, shape=(8, 8, 2))
    moments = RegionMoments(pool_grid=2, pool_window="box").set_output(transform="pandas")
    frame = moments.fit_transform(X)
    assert_allclose(
        frame["regionmoments_row1_column0_channel1_mean"], X[:, 4:, :4, 1].mean(axis=(1, 2))
    )
    assert_allclose(
        frame["regionmoments_row0_column1_channel0_deviation"], X[:, :4, 4:, 0].std(axis=(1, 2))
    )
    assert len(set(frame.columns)) == frame.shape[1] == 16


def test_a_union_with_a_layer():
    X = make_images(0, n=30, shape=(8, 8))
    layer = ConvGMMFeatures(3, max_iter=2, tol=0, random_state=0)
    union = make_union(layer, RegionMoments()).set_output(transform="pandas")
    frame = union.fit_transform(X)
    assert isinstance(frame, pd.DataFrame)
    assert frame.shape == (30, 3 * 16 + 2 * 16)
    expected = np.concatenate([layer.fit_transform(X), RegionMoments().fit_transform(X)], axis=1)
    assert_allclose(frame.to_numpy(), expected)


@pytest.mark.parametrize("kind", ["dask", "sizes"])
def test_a_union_of_what_is_no_single_array(kind):
    X = make_images(0, n=30, shape=(8, 8))
    X = da.from_array(X, chunks=(10, -1, -1)) if kind == "dask" else [*X[:10], *X[10:, :6, 1:]]
    layer = ConvGMMFeatures(3, max_iter=2, tol=0, random_state=0)
    found = make_union(layer, RegionMoments()).fit(X).transform(X)
    assert isinstance(found, da.Array if kind == "dask" else np.ndarray)
    expected = [layer.fit(X).transform(X), RegionMoments().fit(X).transform(X)]
    assert_allclose(found, np.concatenate([np.asarray(part) for part in expected], axis=1))


def test_copies_and_changed_grids():
    X = make_images(0)
    moments = RegionMoments().fit(X)
    loaded = pickle.loads(pickle.dumps(moments))
    assert_array_equal(loaded.transform(X), moments.transform(X))
    loaded.set_params(pool_grid=2)
    assert_array_equal(loaded.transform(X), clone(loaded).fit_transform(X))


@pytest.mark.parametrize("fitted", [False, True])
def test_a_fit_that_fails_changes_nothing(fitted):
    moments = RegionMoments(pool_grid=(8, 2))
    if fitted:
        moments.fit(make_images(0, shape=(9, 9)))
    before = copy.deepcopy(moments.__getstate__())
    with pytest.raises(ValueError, match="has more regions than the map"):
        moments.fit(make_images(0))
    with pytest.raises(ValueError, match="without pixels"):
        moments.set_params(pool_grid=2).fit(make_images(0)[:, :, :, :0])
    assert moments.set_params(pool_grid=(8, 2)).__getstate__() == before


def test_images_of_another_shape_are_refused():
    moments = RegionMoments().fit(make_images(0))
    with pytest.raises(ValueError, match="RegionMoments is expecting 189 features"):
        moments.transform(make_images(0, shape=(7, 8, 3)))


@windows
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_onnx(grid, window, width, dtype):
    X = (20 * make_images(0)).clip(0, 200).astype(dtype)
    X[0] = 7
    moments = RegionMoments(pool_grid=grid, pool_window=window, pool_width=width).fit(X)
    found, expected = outputs(to_onnx(moments, X), X), moments.transform(X)
    assert found.dtype == expected.dtype
    assert_allclose(found, expected, rtol=1e-6)


def test_onnx_of_a_union_and_of_rows():
    X = make_images(0, n=40, dtype=np.float32).reshape(40, -1)
    y = (X.mean(axis=1) > 3).astype(int)
    union = make_union(
        ConvGMMFeatures(3, image_shape=(7, 9, 3), max_iter=2, tol=0, random_state=0),
        RegionMoments(image_shape=(7, 9, 3)),
    )
    model = make_pipeline(union, StandardScaler(), RidgeClassifier()).fit(X, y)
    assert_array_equal(outputs(to_onnx(model, X), X), model.predict(X))
    graph = to_onnx(model[:-1], X)
    assert_allclose(outputs(graph, X), model[:-1].transform(X), rtol=1e-3, atol=1e-3)


def test_onnx_refuses_an_old_opset():
    X = make_images(0)
    with pytest.raises(ValueError, match="too old for RegionMoments"):
        to_onnx(RegionMoments().fit(X), X, target_opset=17)


def test_a_model_of_tensors_takes_arrays_and_so_does_its_pickle():
    """Where scikit-learn dispatches, its own check asks for one library; pickles forget theirs."""
    torch = pytest.importorskip("torch")
    X = make_images(0)
    moments = RegionMoments().fit(torch.asarray(X))
    expected = RegionMoments().fit_transform(X)
    assert_allclose(moments.transform(X), expected, rtol=1e-6)
    loaded = pickle.loads(pickle.dumps(moments))
    assert not any(isinstance(value, torch.Tensor) for value in vars(loaded).values())
    with config_context(array_api_dispatch=True):
        assert_allclose(loaded.transform(X), expected, rtol=1e-6)
