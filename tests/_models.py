"""Small estimators and images for them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklearn_calm import ConvGMMFeatures
from sklearn_calm._convolution import pooling

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
POOLINGS = list(pooling.POOLINGS)
# Those whose maps are all they need; others have tests of their own.
WITHOUT_THRESHOLDS = [name for name in POOLINGS if not pooling.POOLINGS[name].thresholded]
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
