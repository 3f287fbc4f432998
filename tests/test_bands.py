"""Features of large images, made band by band, are those of the whole."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from _models import RAW, make_images, small
from sklearn_calm import _bands
from sklearn_calm._arrays.namespace import library_of, to_numpy

SETTINGS = {
    "triangle": {},
    "both": {"polarity": "both", "flatten": False},
    "contrast": {"pool_contrast": 0.5, "polarity": "both"},
    "box": {"pool_window": "box", "pool_grid": (3, 2), "padding": "same", "patch_size": 4},
    "tempered": {"pooling": "tempered", "assignment": "image", "stride": (3, 2)},
    "proportion": {"pooling": "proportion", "n_thresholds": 3, "stride": 2},
    "proportion of tied": {"pooling": "proportion", "symmetry": "mirror"},
    "mean": {"pooling": "mean", "padding_mode": "edge", "padding": 2},
    "dilated": {"dilation": (2, 3), "patch_size": 4, "stride": 2},
    "tied": {"symmetry": "mirror", "pool_symmetry": "region"},
    "tied over the image": {"symmetry": "mirror", "polarity": "both"},
    "tied apart": {"symmetry": "sign", "pool_symmetry": None},
    "tied maps": {"symmetry": "mirror", "pooling": None},
    "max": {"pooling": "max", "pool_grid": (3, 2)},
    "max of tied": {"pooling": "max", "symmetry": "rotation", "stride": 2},
    "logsumexp": {"pooling": "logsumexp", "pool_grid": (4, 3), "assignment": "image"},
    "logsumexp of windows": {"pooling": "logsumexp", "pool_window": "gaussian"},
    "narrow windows": {"pooling": "logsumexp", "pool_window": "gaussian", "pool_width": 1e-200},
    "logsumexp of tied": {"pooling": "logsumexp", "symmetry": "mirror", "pool_symmetry": "region"},
    "maps": {"pooling": None, "padding": (0, 2)},
    "maps of the image": {"pooling": None, "assignment": "image", "stride": 2},
}
settings = pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)


@pytest.fixture
def small_bands(monkeypatch):
    monkeypatch.setattr(_bands, "LARGE_BYTES", 0)
    monkeypatch.setattr(_bands, "BAND_BYTES", 1000)


@settings
def test_bands_do_not_matter(options, monkeypatch):
    X = make_images(0, n=5, shape=(40, 21))
    model = small(**options).fit(X)
    expected = model.transform(X)
    monkeypatch.setattr(_bands, "LARGE_BYTES", 0)
    for band_bytes in (1, 3000):
        monkeypatch.setattr(_bands, "BAND_BYTES", band_bytes)
        found = model.transform(X)
        assert found.dtype == expected.dtype
        assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@settings
def test_bands_of_other_libraries(options, from_numpy, small_bands):
    X = make_images(1, n=4, shape=(24, 20))
    model = small(**options).fit(from_numpy(X))
    found = model.transform(from_numpy(X))
    assert library_of(found) == library_of(from_numpy(X))
    expected = model.to_numpy().transform(X)
    assert_allclose(to_numpy(found), expected, rtol=1e-9, atol=1e-11)


SCORED = {
    "defaults": {},
    "padded": {"padding": "same", "padding_mode": "reflect", "normalize": None},
    "raw": RAW,
    "image": {"assignment": "image", "padding": "same"},
    "density": {"assignment": "image", **RAW, "stride": (3, 2), "padding": 2},
    "reflected": {"assignment": "image", **RAW, "padding": 2, "padding_mode": "reflect"},
    "cells": {"assignment": (2, 3), **RAW},
    "many cells": {"assignment": (30, 5), "whiten": False, "dilation": (2, 1)},
    "tied": {"assignment": (7, 2), "symmetry": "mirror"},
}


@pytest.mark.parametrize("options", SCORED.values(), ids=SCORED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bands_of_scores_do_not_matter(options, dtype, monkeypatch):
    X = make_images(5, n=3, shape=(40, 21), dtype=dtype)
    model = small(**options).fit(X)
    expected_map, expected = model.score_map(X), model.score_samples(X)
    monkeypatch.setattr(_bands, "LARGE_BYTES", 0)
    rtol = {np.float32: 1e-5, np.float64: 1e-11}[dtype]
    for band_bytes in (1, 3000, 10**6):
        monkeypatch.setattr(_bands, "BAND_BYTES", band_bytes)
        found_map, found = model.score_map(X), model.score_samples(X)
        assert found_map.dtype == found.dtype == np.float64
        scale = np.abs(expected_map).max()
        assert_allclose(found_map, expected_map, rtol=rtol, atol=rtol * scale)
        assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())
        assert model.score(X) == pytest.approx(expected.mean(), rel=rtol)


@pytest.mark.parametrize("options", [SCORED[name] for name in ("padded", "density", "cells")])
def test_scores_of_bands_of_other_libraries(options, from_numpy, small_bands):
    X = make_images(6, n=3, shape=(24, 20))
    model = small(**options).fit(from_numpy(X))
    expected = model.to_numpy()
    for method in ("score_map", "score_samples"):
        found = getattr(model, method)(from_numpy(X))
        assert library_of(found) == library_of(from_numpy(X))
        assert_allclose(to_numpy(found), getattr(expected, method)(X), rtol=1e-9)


def test_shares_of_cells_see_whole_images(small_bands, monkeypatch):
    X = make_images(2)
    model = small(pooling="mean", assignment=(2, 2)).fit(X)
    found = model.transform(X)
    monkeypatch.setattr(_bands, "LARGE_BYTES", np.inf)
    assert_array_equal(found, model.transform(X))


@pytest.mark.parametrize("assignment", ["image", "patch"])
def test_bands_read_no_more_than_their_rows(assignment, small_bands, monkeypatch):
    read, read_tile = [], _bands.read_tile

    def recorded(X, tile, geometry, placement):
        batch = read_tile(X, tile, geometry, placement)
        read.append(batch.shape[1])
        return batch

    monkeypatch.setattr(_bands, "read_tile", recorded)
    X = make_images(3, n=3, shape=(60, 10))
    model = small(n_jobs=1, assignment=assignment).fit(X)
    for method in (model.transform, model.score_map, model.score_samples):
        read.clear()
        method(X)
        assert len(read) > 30
        assert max(read) <= 10


def test_small_images_make_no_bands(monkeypatch):
    monkeypatch.setattr(_bands, "read_tile", None)
    X = make_images(4)
    assert np.isfinite(small().fit(X).transform(X)).all()
