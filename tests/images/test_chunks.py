"""Images that the chunks of a Dask array cut apart give what whole images give."""

import warnings

import dask
import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose

from _models import RAW, make_images, small
from sklearn_calm import _bands
from sklearn_calm._arrays.namespace import is_dask

SETTINGS = {
    "defaults": {},
    "padded": {"padding": "same", "patch_size": 4, "padding_mode": "reflect", "polarity": "both"},
    "far": {"padding": (7, 3), "padding_mode": "edge", "flatten": False, "stride": (3, 2)},
    "mirrored far": {"padding": (9, 9), "padding_mode": "reflect"},
    "zeros": {"padding": 5, "pool_window": "box", "dilation": (2, 1), **RAW},
    "tempered": {"pooling": "tempered", "assignment": "image"},
    "mean": {"pooling": "mean", "stride": 4},
    "max": {"pooling": "max", "pool_grid": (3, 2), "symmetry": "mirror"},
    "logsumexp": {"pooling": "logsumexp", "assignment": (2, 2), "padding_mode": "reflect"},
    "logsumexp of windows": {"pooling": "logsumexp", "pool_window": "gaussian"},
    "tied": {"symmetry": "rotation", "pool_symmetry": "region"},
    "maps": {"pooling": None, "padding": 1, "stride": (2, 1)},
    "tied maps": {"pooling": None, "symmetry": "mirror", "assignment": "image"},
}
CHUNKS = [(2, 9, 10), (1, 20, -1), (3, -1, 4), ((1, 4), (30, 7, 3), (1, 19, 1))]
settings = pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
chunkings = pytest.mark.parametrize("chunks", CHUNKS, ids=str)


@pytest.fixture(autouse=True)
def in_order():
    """One thread, and no warning of images that are put together."""
    with dask.config.set(scheduler="sync"), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def images(seed, n=5, shape=(40, 21)):
    return make_images(seed, n, shape)


@settings
@chunkings
def test_chunks_do_not_matter(options, chunks):
    X = images(0)
    model = small(**options).fit(X)
    expected = model.transform(X)
    D = da.from_array(X, chunks=chunks)
    found = model.transform(D)
    assert is_dask(found)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if options.get("pooling", "") is not None:
        assert found.chunks[0] == D.chunks[0]
    assert_allclose(found.compute(), expected, rtol=1e-9, atol=1e-10)


@chunkings
@pytest.mark.parametrize("options", [{}, RAW, {"padding": "same", "stride": 3, "whiten": False}])
def test_chunks_of_scores_do_not_matter(options, chunks):
    X = images(1)
    model = small(**options).fit(X)
    D = da.from_array(X, chunks=chunks)
    for method in ("score_samples", "score_map"):
        found, expected = getattr(model, method)(D), getattr(model, method)(X)
        assert is_dask(found)
        assert found.shape == expected.shape
        assert_allclose(found.compute(), expected, rtol=1e-9, atol=1e-9)
    assert model.score(D) == pytest.approx(model.score(X))


@settings
def test_large_chunks_are_worked_on_by_bands(options, monkeypatch):
    X = images(2, shape=(40, 21))
    model = small(**options).fit(X)
    expected, scores = model.transform(X), model.score_samples(X)
    monkeypatch.setattr(_bands, "LARGE_BYTES", 0)
    monkeypatch.setattr(_bands, "BAND_BYTES", 2000)
    D = da.from_array(X, chunks=(5, 19, 15))
    assert_allclose(model.transform(D).compute(), expected, rtol=1e-9, atol=1e-10)
    if model.assignment == "patch":
        assert_allclose(model.score_samples(D).compute(), scores, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_colours_and_their_precision(dtype):
    X = (np.random.default_rng(3).random((2, 30, 24, 3)) * 200).astype(dtype)
    model = small(padding="same").fit(X)
    found = model.transform(da.from_array(X, chunks=(1, 11, 24, 2)))
    assert found.dtype == np.float32
    assert_allclose(found.compute(), model.transform(X), rtol=1e-4, atol=1e-5)


def test_images_of_any_size():
    X = images(4)
    model = small(image_shape=(None, None)).fit(X[:, :20])
    found = model.transform(da.from_array(X, chunks=(1, 13, 9)))
    assert_allclose(found.compute(), model.transform(X), rtol=1e-9, atol=1e-10)


def test_an_image_that_is_not_finite_is_named():
    X = images(5)
    X[3, 30, 4] = np.nan
    features = small().fit(X[:3]).transform(da.from_array(X, chunks=(2, 15, 12)))
    with pytest.raises(ValueError, match=r"first in image 3\)"):
        features.compute()


def test_lazy_features_are_of_the_model_that_made_them():
    X = images(6)
    model = small().fit(X)
    expected = model.transform(X)
    lazy = model.transform(da.from_array(X, chunks=(1, 13, 9)))
    model.fit(images(7))
    assert_allclose(lazy.compute(), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("options", [{"pooling": "mean"}, {"missing_values": "ignore"}])
def test_other_images_are_put_together_with_a_warning(options):
    X = images(8)
    model = small(assignment=(2, 2), **options).fit(X)
    with pytest.warns(UserWarning, match="cut images of shape"):
        found = model.transform(da.from_array(X, chunks=(1, 13, 9)))
    assert_allclose(found.compute(), model.transform(X), rtol=1e-9, atol=1e-10)


def test_likelihoods_of_larger_cells_are_those_of_whole_images():
    X = images(9)
    model = small(assignment="image").fit(X)
    D = da.from_array(X, chunks=(1, 13, 9))
    for method in ("score_samples", "score_map"):
        with pytest.warns(UserWarning, match="cut images of shape"):
            found = getattr(model, method)(D)
        assert_allclose(found.compute(), getattr(model, method)(X), rtol=1e-9)


@pytest.mark.parametrize(
    ("shape", "chunk", "options"),
    [
        ((30, 30), 5, {"patch_size": 3, "dilation": 2, "stride": 5}),
        ((30, 30), 10, {"patch_size": 3, "dilation": 2, "stride": 10}),
        ((7, 7), 3, {"patch_size": 5, "stride": 3}),
    ],
)
def test_parts_of_one_position_have_the_likelihood_of_a_patch(shape, chunk, options):
    X = images(3, 6, shape)
    model = small(**options, **RAW, padding=0, pool_grid=1).fit(X)
    cut = da.from_array(X, chunks=(6, chunk, chunk))
    assert_allclose(model.score_samples(cut).compute(), model.score_samples(X), rtol=1e-10)
    assert_allclose(model.score_map(cut).compute(), model.score_map(X), rtol=1e-10)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("n_images", [1, 4])
def test_patches_that_lie_in_the_padding_alone(mode, n_images):
    X = images(4, 12, (24, 24))
    options = {"padding": (9, 9), "padding_mode": mode, "patch_size": 3, "subsample": 200}
    model = small(**options, n_components=4).fit(da.from_array(X, chunks=(n_images, 6, 12)))
    assert_allclose(model.means_, small(**options, n_components=4).fit(X).means_, rtol=1e-6)
