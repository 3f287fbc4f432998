"""Values at the ends of a type's range: features are those of the same images in other units."""

import copy

import dask.array as da
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from _models import PREPROCESSINGS, make_images, small

# Powers of two, so that images are the same to the last bit.
TINY = {"1e-21": 2.0**-70, "1e-25": 2.0**-83, "1e-36": 2.0**-120}
SETTINGS = {
    **PREPROCESSINGS,
    "image": {"assignment": "image", "pooling": "logsumexp"},
    "grid of raw images": {"assignment": (2, 2), "pooling": "mean", **PREPROCESSINGS["raw"]},
    "maps": {"pooling": None, "padding": 1},
    "random kernels": {"init_params": "random_from_data", "reg_covar": 0},
    "Fourier": {"patch_size": 8, "assignment": "image", "padding": 4, "pooling": "max"},
}
settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
scales = pytest.mark.parametrize("scale", TINY.values(), ids=TINY)


def images(seed=0, dtype=np.float32, n=30):
    """Images whose values all types hold, also where they are scaled down."""
    return (np.round(make_images(seed, n) * 64) / 64).astype(dtype)


def assert_same_features(found, expected, dtype, rtol):
    assert found.dtype == dtype
    assert_allclose(found, expected, atol=rtol * np.abs(expected).max(), rtol=0)


@settings
@scales
def test_tiny_values_of_float32(scale, setting):
    """They are worked on in float64: what is expected is exact, what comes out is float32."""
    X = images()
    expected = small(**setting).fit(X.astype(np.float64))
    found = small(**setting).fit(X * np.float32(scale))
    features = found.transform(X * np.float32(scale))
    assert_same_features(features, expected.transform(X.astype(np.float64)), np.float32, 1e-5)
    assert np.isfinite(found.score_samples(X * np.float32(scale))).all()


@settings
@pytest.mark.parametrize("power", [-450, -300, 300, 450])
def test_any_scale_of_float64(power, setting):
    X, scale = images(dtype=np.float64), 2.0**power
    expected = small(**setting).fit(X).transform(X)
    found = small(**setting).fit(X * scale).transform(X * scale)
    assert_same_features(found, expected, np.float64, 1e-6)


@pytest.mark.parametrize("setting", PREPROCESSINGS.values(), ids=PREPROCESSINGS)
def test_the_smallest_values_that_float32_has(setting):
    X = np.round(images() * 40).astype(np.float64)
    smallest = np.float64(np.finfo(np.float32).smallest_subnormal)
    tiny = (X * smallest).astype(np.float32)
    assert_array_equal(tiny / smallest, X)
    expected = small(**setting).fit(X).transform(X)
    features = small(**setting).fit(tiny).transform(tiny)
    assert_same_features(features, expected, np.float32, 1e-5)


@scales
def test_a_stream_of_tiny_values(scale):
    found, expected = small(), small()
    for seed in range(4):
        X = images(seed)
        expected.partial_fit(X.astype(np.float64))
        found.partial_fit(X * np.float32(scale))
    assert_allclose(found.means_, expected.means_, rtol=1e-9, atol=1e-9)
    features = found.transform(X * np.float32(scale))
    assert_same_features(features, expected.transform(X.astype(np.float64)), np.float32, 1e-5)


@pytest.mark.parametrize("continued", [False, True])
def test_attributes_of_tiny_values_are_in_their_units(continued):
    scale, X = TINY["1e-36"], images()
    model = small(normalize=None, whiten=False, warm_start=continued)
    expected = small(normalize=None, whiten=False, warm_start=continued)
    for _ in range(1 + continued):
        model.fit(X * np.float32(scale))
        expected.fit(X.astype(np.float64))
    assert model.means_.dtype == model.conv_weight_.dtype == np.float64
    assert_allclose(model.means_, expected.means_ * scale, rtol=1e-6)
    assert_allclose(model.conv_weight_, expected.conv_weight_ / scale, rtol=1e-6)
    assert model.noise_variance_ == pytest.approx(expected.noise_variance_ * scale**2, rel=1e-6)
    contrast = small().fit(X * np.float32(scale)).contrast_floor_
    floor = small().fit(X.astype(np.float64)).contrast_floor_
    assert contrast == pytest.approx(floor * scale**2, rel=1e-6)


def test_a_model_of_tiny_values_meets_others():
    """The contrast of images of any scale is that of the model's, or far above its floor."""
    X = images()
    model = small().fit(X * np.float32(TINY["1e-36"]))
    assert np.isfinite(model.transform(X)).all()
    assert np.isfinite(model.transform(0 * X)).all()
    refitted = copy.deepcopy(model).set_params(warm_start=True).fit(X)
    assert np.isfinite(refitted.transform(X)).all()
    assert np.isfinite(small().fit(X).transform(X * np.float32(TINY["1e-36"]))).all()
    fresh = model.fit(X)
    assert fresh.means_.dtype == np.float32


@scales
def test_tiny_values_of_other_libraries(scale):
    X = images() * np.float32(scale)
    expected = small().fit(X).transform(X)
    tensors = small().fit(torch.asarray(X))
    assert tensors.means_.dtype == torch.float64
    assert_same_features(tensors.transform(torch.asarray(X)).numpy(), expected, np.float32, 1e-5)
    lazy = da.from_array(X, chunks=(7, -1, -1))
    features = small().fit(lazy).transform(lazy)
    assert features.dtype == np.float32
    assert_same_features(features.compute(), expected, np.float32, 1e-5)
    bytes_too = small(backend="torch").fit(X).transform(X)
    assert_same_features(bytes_too, expected, np.float32, 1e-5)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("normalize", [None, "contrast"])
def test_values_too_small_for_float64_are_refused(method, normalize):
    X = images(dtype=np.float64)
    for scale in (1e-155, 1e-200, 1e-305):
        with pytest.raises(ValueError, match=r"values too small for float64.*Scale the images up"):
            getattr(small(normalize=normalize), method)(X * scale)


def test_long_doubles():
    X = images(dtype=np.longdouble)
    expected = small().fit_transform(X.astype(np.float64))
    assert_array_equal(small().fit_transform(X), expected)
    with pytest.raises(ValueError, match="too large for float64"):
        small().fit(X * np.longdouble(2) ** 2000)
    with pytest.raises(ValueError, match="too small for float64"):
        small().fit(X * np.longdouble(2) ** -2000)


# Integers

WIDE = pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64])


@WIDE
def test_wide_integers_lose_nothing(dtype):
    """Neither do those on a pedestal, which float32 would round."""
    X = (np.round(images() * 20) + 2**30).astype(dtype)
    expected = small().fit(X.astype(np.float64))
    model = small().fit(X)
    assert_array_equal(model.means_, expected.means_)
    for other in (X, da.from_array(X, chunks=(7, -1, -1)), X.tolist()):
        features = np.asarray(model.transform(other))
        assert features.dtype == np.float64
        assert_array_equal(features, expected.transform(X.astype(np.float64)))


@pytest.mark.parametrize("name", ["int32", "int64", "uint16", "uint32", "uint64"])
def test_integers_of_tensors(name):
    X = np.round(np.abs(images()) * 20).astype(name)
    expected = small().fit(X)
    tensor = torch.asarray(X)
    model = small().fit(tensor)
    assert_allclose(model.means_.numpy(), expected.means_, rtol=1e-5, atol=1e-5)
    found = model.transform(tensor)
    assert_same_features(found.numpy(), expected.transform(X), expected.transform(X).dtype, 1e-5)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "score_samples"])
def test_integers_that_float64_would_round_are_refused(dtype, method):
    X = np.round(np.abs(images()) * 20).astype(dtype)
    bad = X.copy()
    bad[3] += dtype(2**60)
    model = small().fit(X)
    for wrong in (bad, da.from_array(bad, chunks=(2, -1, -1))):
        with pytest.raises(ValueError, match=r"first in image \d+\), which float64 would round"):
            np.asarray(getattr(model, method)(wrong))
    assert np.isfinite(model.fit(bad.astype(float)).means_).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.float16, bool])
def test_small_types_are_float32(dtype):
    X = np.round(np.abs(images()) * 20).astype(dtype)
    features = small().fit_transform(X)
    assert features.dtype == np.float32
    assert_array_equal(features, small().fit_transform(X.astype(np.float32)))
