"""Proportions of positions above thresholds, and fits of a sample of patches."""

import re

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _proportion_reference
import _reference
import _tied_reference
from _models import make_images, small
from _pixel_reference import pixel_features
from sklearn_calm._arrays.namespace import library_of, to_numpy
from sklearn_calm._inference import thresholds_of

seeds = pytest.mark.parametrize("seed", [0, 1, 2])


def fitted(seed=0, **options):
    """A model of proportions, its images, and its maps as a pooling would see them."""
    X = make_images(seed)
    options = {"pooling": "proportion", "n_thresholds": 4, **options}
    model = small(**options).fit(X)
    maps = model.set_params(pooling=None).transform(X)
    return model.set_params(pooling="proportion"), X, maps


@pytest.mark.parametrize("assignment", ["patch", "image"])
@pytest.mark.parametrize("grid", [1, (2, 3)])
@pytest.mark.parametrize("window", ["box", "gaussian"])
@seeds
def test_features_are_those_of_the_twin(assignment, grid, window, seed):
    options = {"assignment": assignment, "pool_grid": grid, "pool_window": window}
    model, X, maps = fitted(seed, **options)
    thresholds, pair = thresholds_of(model), (grid, grid) if grid == 1 else grid
    expected = [
        _proportion_reference.proportions(m, thresholds, pair, window, 0.6).ravel() for m in maps
    ]
    assert_allclose(model.transform(X), expected, rtol=1e-10, atol=1e-12)


def test_proportions_fall_from_threshold_to_threshold_within_0_and_1():
    model, X, _ = fitted(n_thresholds=6, flatten=False)
    found = model.transform(X).reshape(len(X), 2, 2, 6, 3)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-12
    assert np.diff(found, axis=3).max() <= 1e-12
    assert 0.2 < found.mean() < 0.8


def test_constant_maps_have_proportions_of_0_and_1():
    model, _, _ = fitted(pool_grid=1)
    X = np.full((2, 8, 9), 3.0)
    maps = model.set_params(pooling=None).transform(X)[:, 0, 0]
    found = model.set_params(pooling="proportion").transform(X).reshape(2, 4, 3)
    assert_allclose(found, maps[:, None] > thresholds_of(model), atol=1e-12)


def test_names_say_region_component_and_threshold():
    model, X, maps = fitted(pool_grid=(2, 1), pool_window="box")
    names = model.get_feature_names_out()
    features, thresholds = model.transform(X), thresholds_of(model)
    assert len(set(names)) == features.shape[1] == 24
    for column, name in zip(features.T, names, strict=True):
        pattern = r"convgmmfeatures_row(\d)_column0_component(\d)_threshold(\d)"
        row, k, t = map(int, re.fullmatch(pattern, name).groups())
        region = maps[:, 3 * row : 3 * row + 3, :, k]
        assert_allclose(column, (region > thresholds[t, k]).mean(axis=(1, 2)), atol=1e-12)


@pytest.mark.parametrize("symmetry", ["mirror", "rotation"])
def test_features_of_components_are_means_of_those_of_their_kernels(symmetry):
    model, X, _ = fitted(symmetry=symmetry, pool_symmetry=None, flatten=False, pool_grid=1)
    kept = model.transform(X).reshape(len(X), 4, 3, -1)
    found = model.set_params(pool_symmetry="image").transform(X)
    assert_allclose(found.reshape(len(X), 4, 3), kept.mean(axis=-1), rtol=1e-12)


@pytest.mark.parametrize("symmetry", ["mirror", "rotation"])
@pytest.mark.parametrize("over", ["image", "region"])
@pytest.mark.parametrize("window", ["box", "gaussian"])
def test_features_of_several_regions_are_those_of_the_tied_twin(symmetry, over, window):
    options = {"pool_symmetry": None, "flatten": False, "pool_grid": 2, "pool_window": window}
    model, X, _ = fitted(symmetry=symmetry, **options)
    kept = model.transform(X[:3]).reshape(3, 4, 4, -1)  # regions, thresholds, kernels
    found = model.set_params(pool_symmetry=over).transform(X[:3]).reshape(3, 4, 4, -1)
    for i, t in np.ndindex(3, 4):
        expected = _tied_reference.pool(kept[i, :, t], "proportion", (2, 2), (symmetry,), over)
        assert_allclose(found[i, :, t].ravel(), expected, rtol=1e-12)


@pytest.mark.parametrize("window", ["box", "gaussian"])
def test_missing_values_leave_positions_out(window):
    options = {"missing_values": "ignore", "whiten": False, "min_observed": 1.0}
    model, X, _ = fitted(pool_window=window, **options)
    X = X[:1].copy()
    X[0, 2:4, 3:5] = np.nan
    maps = model.set_params(pooling=None).transform(X)[0]
    used = ~np.isnan(maps[..., 0])
    assert 0 < used.sum() < used.size
    found = model.set_params(pooling="proportion").transform(X).reshape(4, 4, 3)
    thresholds = thresholds_of(model)
    counts = _reference.window_counts(window, (2, 2), *used.shape, 0.6)
    for region, count in enumerate(counts):
        for t, k in np.ndindex(thresholds.shape):
            above = [count[u] for u in np.ndindex(used.shape) if maps[u][k] > thresholds[t, k]]
            assert_allclose(found[region, t, k], np.sum(above) / count[used].sum(), rtol=1e-9)
    X[0] = np.nan
    assert np.isnan(model.transform(X)).all()


@seeds
def test_pixels_have_proportions_about_them(seed):
    model, X, _ = fitted(seed, padding="same")
    maps = model.set_params(pooling=None).transform(X[:2])
    above = maps[:, :, :, None, :] > thresholds_of(model.set_params(pooling="proportion"))
    above = above.reshape(*maps.shape[:3], -1).astype(float)
    pixels = np.array([[0, 0, 0], [1, 7, 8], [0, 3, 4]])
    found = model.transform_pixels(X[:2], pixels, widths=[0, 1.5])
    assert found.shape == (3, 2 * 4 * 3)
    for row, (i, *pixel) in zip(found, pixels, strict=True):
        assert_allclose(row, pixel_features(above[i], pixel, [0, 1.5]), rtol=1e-9, atol=1e-12)
    lazy = model.transform_pixels(da.from_array(X[:2], chunks=(1, 4, 5)), widths=[1])
    whole = model.transform_pixels(X[:2], widths=[1])
    assert_allclose(lazy.compute().reshape(whole.shape), whole, rtol=1e-9, atol=1e-12)


# Other ways to fit, and other arrays


def test_a_stream_has_the_thresholds_of_its_parameters():
    X = make_images(3)
    model = small(pooling="proportion", n_thresholds=2)
    for batch in np.split(X, 3):
        model.partial_fit(batch)
    maps = model.set_params(pooling=None).transform(X)
    found = model.set_params(pooling="proportion", pool_grid=1, pool_window="box").transform(X)
    expected = (maps[:, :, :, None] > thresholds_of(model)).mean(axis=(1, 2))
    assert_allclose(found, expected.reshape(len(X), -1), atol=1e-12)
    assert 0.1 < found.mean() < 0.9


def test_lists_have_the_features_of_each_size():
    model, X, _ = fitted(image_shape=(None, None, 1))
    images = [X[0], X[1, :7], X[2, :, :6]]
    found = model.transform(images)
    for image, features in zip(images, found, strict=True):
        assert_allclose(model.transform(image[None])[0], features, rtol=1e-12)


def test_batches_do_not_matter():
    model, X, _ = fitted(batch_size=7)
    assert_array_equal(model.transform(X), model.set_params(batch_size=30).transform(X))


def test_features_of_other_libraries(from_numpy):
    X = make_images(4)
    model = small(pooling="proportion", n_thresholds=3).fit(from_numpy(X))
    found = model.transform(from_numpy(X))
    assert library_of(found) == library_of(from_numpy(X))
    expected = model.to_numpy().transform(X)
    assert_allclose(to_numpy(found), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("chunks", [(10, 8, 9), (10, 5, 4)])
def test_features_of_dask_arrays_are_lazy(chunks):
    model, X, _ = fitted()
    found = model.transform(da.from_array(X, chunks=chunks))
    assert isinstance(found, da.Array)
    assert_allclose(found.compute(), model.transform(X), rtol=1e-9, atol=1e-11)


def test_thresholds_may_change_after_the_fit():
    model, X, _ = fitted(pool_grid=1)
    assert model.set_params(n_thresholds=7).transform(X).shape == (30, 21)


def test_two_polarities_are_refused():
    with pytest.raises(ValueError, match="polarity=\"both\" with pooling='proportion'"):
        small(pooling="proportion", polarity="both").fit(make_images(0))


# A sample of patches


@pytest.mark.parametrize("pooling", ["triangle", "proportion"])
def test_a_subsample_is_fitted(pooling, monkeypatch):
    X = make_images(5)
    found = small(pooling=pooling, subsample=500).fit(X)
    monkeypatch.setattr("sklearn_calm._mixture.seeds.MAX_PATCHES", 500)
    expected = small(pooling=pooling).fit(X)
    assert_array_equal(found.means_, expected.means_)
    monkeypatch.undo()
    assert not np.allclose(small(pooling=pooling).fit(X).means_, found.means_)


def test_a_subsample_of_all_patches_is_all_of_them():
    X = make_images(6)
    assert_array_equal(small(subsample=30 * 42).fit(X).means_, small().fit(X).means_)


def test_a_subsample_holds_a_patch_for_each_component():
    with pytest.raises(ValueError, match="subsample=2 patches are too few for n_components=3"):
        small(subsample=2).fit(make_images(0))
