"""Features of large images, made band by band, are those of the whole."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from _models import make_images, small
from sklearn_calm import _bands
from sklearn_calm._arrays.namespace import library_of, to_numpy

SETTINGS = {
    "triangle": {},
    "both": {"polarity": "both", "flatten": False},
    "box": {"pool_window": "box", "pool_grid": (3, 2), "padding": "same", "patch_size": 4},
    "tempered": {"pooling": "tempered", "assignment": "image", "stride": (3, 2)},
    "mean": {"pooling": "mean", "padding_mode": "edge", "padding": 2},
    "dilated": {"dilation": (2, 3), "patch_size": 4, "stride": 2},
    "tied": {"symmetry": "mirror", "pool_symmetry": "region"},
    "tied over the image": {"symmetry": "mirror", "polarity": "both"},
    "tied apart": {"symmetry": "sign", "pool_symmetry": None},
    "tied maps": {"symmetry": "mirror", "pooling": None},
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


@pytest.mark.parametrize("options", [{"pooling": "max"}, {"pooling": "logsumexp"}])
def test_other_poolings_see_whole_images(options, small_bands, monkeypatch):
    X = make_images(2)
    model = small(**options).fit(X)
    found = model.transform(X)
    monkeypatch.setattr(_bands, "LARGE_BYTES", np.inf)
    assert_array_equal(found, model.transform(X))


def test_bands_read_no_more_than_their_rows(small_bands, monkeypatch):
    read, read_tile = [], _bands.read_tile

    def recorded(X, tile, geometry, placement):
        batch = read_tile(X, tile, geometry, placement)
        read.append(batch.shape[1])
        return batch

    monkeypatch.setattr(_bands, "read_tile", recorded)
    X = make_images(3, n=3, shape=(60, 10))
    small(n_jobs=1).fit(X).transform(X)
    assert len(read) > 30
    assert max(read) <= 10


def test_small_images_make_no_bands(monkeypatch):
    monkeypatch.setattr(_bands, "read_tile", None)
    X = make_images(4)
    assert np.isfinite(small().fit(X).transform(X)).all()
