"""Padded images are those that a user could have padded before."""

import math

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from onnxruntime import InferenceSession

import _reference
from _models import RAW, assert_same_model, make_bytes, make_images, small
from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._images.reader import Images
from sklearn_calm.onnx import to_onnx

modes = pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
paddings = pytest.mark.parametrize("padding", [(2, 2), (0, 3), (1, 0), "same"])
PATCH_SIZE = (4, 3)
SAME = ((1, 2), (1, 1))  # half a patch of this size


def literally(X, padding, mode):
    padding = SAME if padding == "same" else padding
    padded = [_reference.pad(x[..., None] if x.ndim == 2 else x, padding, mode) for x in X]
    return np.stack(padded).astype(X.dtype)


@modes
@pytest.mark.parametrize("shape", [(5, 4, 2), (1, 6, 1), (2, 1, 1)])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((2, 2), (3, 3)), ((7, 2), (0, 4))])
def test_images_are_read_as_the_literal_twin_pads_them(mode, shape, padding, from_numpy):
    X = np.random.default_rng(0).normal(size=(3, *shape))
    images = Images(from_numpy(X), PatchGeometry(shape, (1, 1), (1, 1), padding, mode))
    assert_array_equal(to_numpy(images.read(slice(None))), literally(X, padding, mode))


@modes
@paddings
@pytest.mark.parametrize("make", [make_images, make_bytes])
@pytest.mark.parametrize("assignment", ["image", (2, 2), "patch"])
def test_a_fit_is_that_of_images_padded_before(mode, padding, make, assignment):
    X = make(1)
    options = {"patch_size": PATCH_SIZE, "assignment": assignment}
    model = small(**options, padding=padding, padding_mode=mode).fit(X)
    before = small(**options).fit(literally(X, padding, mode))
    assert_same_model(model, before)
    assert_array_equal(model.transform(X), before.transform(literally(X, padding, mode)))
    assert_array_equal(model.score_samples(X), before.score_samples(literally(X, padding, mode)))


@modes
@paddings
def test_blocks_of_a_dask_array_are_padded_alike(mode, padding):
    X = make_images(2)
    options = {"patch_size": PATCH_SIZE, "padding": padding, "padding_mode": mode}
    expected = small(**options).fit(X)
    D = da.from_array(X, chunks=(11, 8, 9))
    model = small(**options).fit(D)
    assert_same_model(model, expected, rtol=1e-9)
    assert_allclose(model.transform(D).compute(), expected.transform(X), rtol=1e-9, atol=1e-12)


@modes
@paddings
def test_onnx_pads_alike(mode, padding):
    X = make_images(3, dtype=np.float32)
    model = small(patch_size=PATCH_SIZE, padding=padding, padding_mode=mode).fit(X)
    session = InferenceSession(to_onnx(model, X).SerializeToString())
    (found,) = session.run(None, {"X": X})
    assert_allclose(found, model.transform(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_a_constant_added_to_the_images_changes_nothing(mode):
    X = make_images(4)
    options = {"padding": 2, "padding_mode": mode, "normalize": "contrast"}
    model, other = small(**options).fit(X), small(**options).fit(X + 100)
    assert_allclose(other.transform(X + 100), model.transform(X), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("stride", [1, 2, (3, 1), 20])
@pytest.mark.parametrize("patch_size", [1, 2, 3, (5, 4), (8, 9), (9, 10)])
@pytest.mark.parametrize("assignment", ["image", "patch"])
def test_same_gives_maps_of_the_size_of_the_images(stride, patch_size, assignment):
    X = make_images(5)
    options = {"patch_size": patch_size, "stride": stride, "assignment": assignment}
    model = small(**options, padding="same", pooling=None, normalize=None).fit(X)
    steps = np.broadcast_to(stride, 2)
    expected = [math.ceil(side / step) for side, step in zip((8, 9), steps, strict=True)]
    assert model.transform(X).shape == (30, *expected, 3)


@pytest.mark.parametrize(("patch_size", "corner"), [(3, 1), (4, 1), (5, 2), (6, 2)])
def test_same_puts_position_u_upon_pixel_u(patch_size, corner):
    """Upon the middle of an odd patch, and upon the pixel before the middle of an even one."""
    given = {"patch_size": patch_size, "padding": "same", "padding_mode": "constant"}
    model = small(**given, **RAW, pooling=None).fit(make_images(8))
    impulse = np.zeros((1, 8, 9))
    impulse[0, 4, 5] = 1
    expected = model.conv_weight_[:, corner, corner, 0] + model.conv_bias_
    assert_allclose(model.transform(impulse)[0, 4, 5], expected, rtol=1e-12)


def test_auto_is_same_for_odd_patches():
    X = make_images(6)
    auto, same = small(padding="auto").fit(X), small(padding="same").fit(X)
    assert_same_model(auto, same)
    assert_array_equal(auto.transform(X), same.transform(X))


def test_signals_are_padded_along_their_length_alone():
    X = np.random.default_rng(7).normal(size=(20, 1, 15))
    model = small(patch_size=4, padding="same", pooling=None).fit(X)
    padded = np.pad(X, [(0, 0), (0, 0), (1, 2)], "reflect")
    before = small(patch_size=(1, 4), pooling=None).fit(padded)
    assert_array_equal(model.transform(X), before.transform(padded))
