"""Padded images are those that a user could have padded before."""

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from onnxruntime import InferenceSession

import _reference
from _models import assert_same_model, make_bytes, make_images, small
from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._images.reader import Images
from sklearn_calm.onnx import to_onnx

modes = pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
paddings = pytest.mark.parametrize("padding", [(2, 2), (0, 3), (1, 0)])


def literally(X, padding, mode):
    padded = [_reference.pad(x[..., None] if x.ndim == 2 else x, padding, mode) for x in X]
    return np.stack(padded).astype(X.dtype)


@modes
@pytest.mark.parametrize("shape", [(5, 4, 2), (1, 6, 1), (2, 1, 1)])
@pytest.mark.parametrize("padding", [(0, 0), (2, 3), (7, 1)])
def test_images_are_read_as_the_literal_twin_pads_them(mode, shape, padding, from_numpy):
    X = np.random.default_rng(0).normal(size=(3, *shape))
    images = Images(from_numpy(X), PatchGeometry(shape, (1, 1), (1, 1), padding, mode))
    assert_array_equal(to_numpy(images.read(slice(None))), literally(X, padding, mode))


@modes
@paddings
@pytest.mark.parametrize("make", [make_images, make_bytes])
def test_a_fit_is_that_of_images_padded_before(mode, padding, make):
    X = make(1)
    model = small(padding=padding, padding_mode=mode).fit(X)
    before = small(image_shape="auto").fit(literally(X, padding, mode))
    assert_same_model(model, before)
    assert_array_equal(model.transform(X), before.transform(literally(X, padding, mode)))
    assert_array_equal(model.score_samples(X), before.score_samples(literally(X, padding, mode)))


@modes
def test_blocks_of_a_dask_array_are_padded_alike(mode):
    X = make_images(2)
    options = {"padding": 2, "padding_mode": mode}
    expected = small(**options).fit(X)
    D = da.from_array(X, chunks=(11, 8, 9))
    model = small(**options).fit(D)
    assert_same_model(model, expected, rtol=1e-9)
    assert_allclose(model.transform(D).compute(), expected.transform(X), rtol=1e-9, atol=1e-12)


@modes
@paddings
def test_onnx_pads_alike(mode, padding):
    X = make_images(3, dtype=np.float32)
    model = small(padding=padding, padding_mode=mode).fit(X)
    session = InferenceSession(to_onnx(model, X).SerializeToString())
    (found,) = session.run(None, {"X": X})
    assert_allclose(found, model.transform(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_a_constant_added_to_the_images_changes_nothing(mode):
    X = make_images(4)
    options = {"padding": 2, "padding_mode": mode, "normalize": "contrast"}
    model, other = small(**options).fit(X), small(**options).fit(X + 100)
    assert_allclose(other.transform(X + 100), model.transform(X), rtol=1e-6, atol=1e-8)
