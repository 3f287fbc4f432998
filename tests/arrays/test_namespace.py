"""The same answers from every array library, and of the kind that went in.

`from_numpy` (conftest.py) runs through the libraries; where there is a GPU, torch and CuPy on it
are among them.
"""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklearn_calm import ConvGMMFeatures
from sklearn_calm._arrays import namespace as namespace_module
from sklearn_calm._arrays.namespace import (
    LEAST_EXPONENTIAL,
    Placement,
    array_namespace,
    contiguous,
    copied,
    device_of,
    exp_in_place,
    find_placement,
    like,
    matmul_into,
    multiply_into,
    numpy_dtype,
    rectify,
    strided,
    sum_segments,
    take,
    take_at,
    to_numpy,
)

# Rounding of sums of some thousand numbers, relative to the largest value.
TOLERANCES = {"float64": 1e-11, "float32": 2e-4}

SETTINGS = {
    "defaults": {},
    "the paper's": {
        "assignment": "image",
        "normalize": None,
        "whiten": False,
        "pooling": "logsumexp",
    },
    "grid": {"assignment": (2, 3), "pooling": "mean", "padding": 1, "stride": 2},
    "maps": {"pooling": None, "normalize": None, "noise_variance": 0.5, "learn_weights": False},
    "windows": {"pool_window": "gaussian", "pool_width": 0.7, "pool_grid": (2, 3)},
    "both": {"polarity": "both", "pool_window": "gaussian"},
    "contrast": {"pool_contrast": 0.5},
    "soft sums": {"pooling": "logsumexp", "pool_window": "gaussian"},
    "dilated": {"dilation": (2, 3), "stride": (3, 1)},
    "max": {"pooling": "max", "whiten": False, "assignment": "image", "padding": (0, 2)},
}
settings = pytest.mark.parametrize("setting", SETTINGS)


def images(seed, dtype=np.float64, n=60, shape=(9, 8)):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, *shape)) + rng.normal(size=(n, *(1,) * len(shape)))
    return X.astype(dtype)


def make(setting, **options):
    features = ConvGMMFeatures(
        5, patch_size=3, pool_grid=2, max_iter=6, tol=0, init_params=kernels(), random_state=0
    )
    return features.set_params(**(SETTINGS[setting] | options))


def kernels():
    return 0.3 * np.random.default_rng(99).normal(size=(5, 3, 3))


def assert_close(found, expected, dtype):
    """Equal but for rounding, relative to the largest."""
    expected = to_numpy(expected)
    rtol = TOLERANCES[np.dtype(dtype).name]
    assert_allclose(to_numpy(found), expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def assert_same_kind(found, X):
    assert type(found) is type(X)
    assert device_of(found) == device_of(X)


@settings
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_library_gives_the_answers_of_numpy_in_float64(from_numpy, setting, dtype, seed):
    X = images(seed, dtype)
    Z = from_numpy(X)
    weights = np.random.default_rng(seed).uniform(0.5, 2, len(X))
    expected = make(setting).fit(X.astype(np.float64), sample_weight=weights)
    found = make(setting).fit(Z, sample_weight=from_numpy(weights))
    for name in ("means_", "weights_", "conv_weight_", "conv_bias_"):
        assert_close(getattr(found, name), getattr(expected, name), dtype)
        assert_same_kind(getattr(found, name), Z)
    assert_close(found.lower_bounds_, expected.lower_bounds_, dtype)
    features, scores = found.transform(Z), found.score_samples(Z)
    assert_close(features, expected.transform(X.astype(np.float64)), dtype)
    assert_close(scores, expected.score_samples(X.astype(np.float64)), dtype)
    maps = found.score_map(Z)
    assert_close(maps, expected.score_map(X.astype(np.float64)), dtype)
    for result in (features, scores, maps):
        assert_same_kind(result, Z)
    assert features.dtype == Z.dtype
    assert_allclose(found.score(Z), to_numpy(scores).mean(), rtol=1e-5)


@settings
def test_integers_become_float32(from_numpy, setting):
    X = np.random.default_rng(2).integers(256, size=(60, 9, 8)).astype(np.uint8)
    found = make(setting).fit(from_numpy(X)).transform(from_numpy(X))
    assert numpy_dtype(found) == np.float32
    assert_close(found, make(setting).fit(X).transform(X), np.float32)


@pytest.mark.parametrize("shape", [(20, 15, 3), (1, 40), (17,)])
def test_shapes_of_all_kinds_are_read_alike(from_numpy, shape):
    X = images(3, n=30, shape=shape)
    options = {"patch_size": 3, "random_state": 0, "n_components": 4, "pool_grid": 2}
    options |= {"tol": 0, "max_iter": 3}
    expected = ConvGMMFeatures(**options).fit_transform(X)
    assert_close(ConvGMMFeatures(**options).fit_transform(from_numpy(X)), expected, np.float64)


@pytest.mark.parametrize("assignment", ["patch", "image"])
def test_starts_and_stages_draw_alike(from_numpy, assignment):
    X = images(4, n=2500, shape=(6, 6))
    options = {"patch_size": 3, "assignment": assignment, "random_state": 0, "tol": 1e-3}
    expected = ConvGMMFeatures(6, **options).fit(X)
    found = ConvGMMFeatures(6, **options).fit(from_numpy(X))
    assert found.n_iter_ == expected.n_iter_
    assert found.n_reseeded_ == expected.n_reseeded_
    assert_allclose(to_numpy(found.means_), expected.means_, atol=1e-7)


@settings
def test_a_stream_gives_the_same(from_numpy, setting):
    found, expected = make(setting), make(setting)
    for seed in range(3):
        X = images(seed)
        expected.partial_fit(X)
        found.partial_fit(from_numpy(X))
    assert_close(found.means_, expected.means_, np.float64)
    assert_close(found.transform(from_numpy(X)), expected.transform(X), np.float64)


def test_new_patches_for_dead_components_are_the_same(from_numpy):
    X = images(5, n=40)
    X[:4, 2:6, 2:6] += 20 * np.random.default_rng(5).normal(size=(4, 4, 4))  # worst explained
    init = kernels()
    init[:2] *= 1e4  # explain nothing
    options = {"patch_size": 3, "init_params": init, "tol": 0, "max_iter": 4, "random_state": 0}
    options |= {"assignment": "image", "whiten": False, "normalize": None}
    expected = ConvGMMFeatures(5, **options).fit(X)
    found = ConvGMMFeatures(5, **options).fit(from_numpy(X))
    assert found.n_reseeded_ == expected.n_reseeded_ > 0
    assert_close(found.means_, expected.means_, np.float64)


@settings
@pytest.mark.parametrize("backend", ["torch", "torch:cpu", "numpy"])
def test_a_backend_computes_and_what_went_in_comes_out(from_numpy, setting, backend):
    X = images(6)
    Z = from_numpy(X)
    features = make(setting, backend=backend).fit(Z)
    found = features.transform(Z)
    assert_same_kind(found, Z)
    assert_same_kind(features.means_, Z)
    assert_close(found, make(setting).fit(X).transform(X), np.float64)


def test_the_backend_is_the_one_asked_for(monkeypatch):
    X = images(7)
    used = []
    product = namespace_module.matmul_into

    def spy(out, a, b):
        used.append(type(out))
        return product(out, a, b)

    monkeypatch.setattr("sklearn_calm._convolution.patches.matmul_into", spy)
    make("defaults", backend="torch").fit(X).transform(X)
    assert set(used) >= {torch.Tensor}
    used.clear()
    make("defaults", backend="numpy").fit(torch.asarray(X)).transform(torch.asarray(X))
    assert set(used) == {np.ndarray}


@pytest.mark.parametrize(
    ("backend", "sentence"),
    [
        ("tensorflow", 'expected "auto", "numpy", "torch" or "cupy"'),
        ("numpy:0", 'expected "auto", "numpy", "torch" or "cupy"'),
        ("torch:nowhere", "names no device of torch"),
        ("torch:cuda:77", "names no device of torch"),
    ],
)
def test_an_unknown_backend_is_refused(backend, sentence):
    with pytest.raises(ValueError, match=sentence):
        make("defaults", backend=backend).fit(images(8))


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-calm\[cupy\]'"):
        make("defaults", backend="cupy").fit(images(8))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda X: X[:0, ...], "0 sample"),
        (lambda X: X[0, 0, ...], "dimension"),
        (lambda X: X + np.nan, "NaN or infinity .first in image 0."),
        (lambda X: X[:, :4, ...], "images of shape"),
    ],
)
def test_bad_input_of_any_library_is_told(from_numpy, spoil, sentence):
    X = from_numpy(images(9))
    features = make("defaults").fit(X)
    bad = from_numpy(spoil(to_numpy(X)))
    before = copy.copy(vars(features))
    for method in (features.partial_fit, features.transform, features.score_samples):
        with pytest.raises(ValueError, match=sentence):
            method(bad)
    assert vars(features).keys() == before.keys()
    assert features.n_iter_ == before["n_iter_"]


def test_complex_tensors_are_refused():
    with pytest.raises(ValueError, match="expected integers or floats"):
        make("defaults").fit(torch.asarray(images(9)).to(torch.complex64))


def test_x_is_not_written_to(from_numpy):
    X = images(10, np.float32)
    Z = from_numpy(X)
    make("grid").fit(Z).transform(Z)
    assert_array_equal(to_numpy(Z), X)


def test_tensors_that_require_gradients_are_read():
    X = torch.asarray(images(11)).requires_grad_()
    assert not make("defaults").fit(X).transform(X).requires_grad


def test_pickles_and_copies_hold_numpy(from_numpy):
    X = images(12)
    features = make("defaults").fit(from_numpy(X))
    for moved in (pickle.loads(pickle.dumps(features)), features.to_numpy()):
        for value in vars(moved).values():
            assert namespace_module.library_of(value) == "numpy"
        assert_close(moved.transform(X), features.transform(from_numpy(X)), np.float64)
        moved.partial_fit(X)
    assert_same_kind(features.means_, from_numpy(X))


def test_a_model_of_one_library_serves_another(from_numpy):
    X = images(13)
    features = make("defaults").fit(from_numpy(X))
    found = features.transform(X)
    assert type(found) is np.ndarray
    assert_close(make("defaults").fit(X).transform(from_numpy(X)), found, np.float64)


WITH_RIDGE = """
import numpy as np
import torch
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn_calm import ConvGMMFeatures

X, y = load_digits(return_X_y=True)
X, y = X[:300].reshape(-1, 8, 8), y[:300]
model = make_pipeline(ConvGMMFeatures(8, random_state=0), Ridge(solver="svd"))
expected = model.fit(X, y).predict(X)
with config_context(array_api_dispatch=True):
    Z = torch.asarray(X)
    found = model.fit(Z, torch.asarray(y, dtype=torch.float64)).predict(Z)
assert isinstance(found, torch.Tensor)
np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6)
"""


def test_it_composes_with_estimators_of_array_api():
    """In a process of its own, as SciPy has to be told before it is imported."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITH_RIDGE],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_numpy_goes_through_an_accelerator_and_a_pipeline():
    X, y = load_digits(return_X_y=True)
    model = make_pipeline(
        ConvGMMFeatures(8, random_state=0, backend="torch"), LogisticRegression(max_iter=2000)
    )
    assert model.fit(X[:200], y[:200]).score(X[:200], y[:200]) == 1


def test_the_tag_tells():
    assert ConvGMMFeatures().__sklearn_tags__().array_api_support


# The functions in which libraries differ, against what NumPy makes of the same values.


def test_strided_views(from_numpy):
    x = np.arange(60.0)
    shape, steps = (3, 4, 5), (10, 2, 1)
    expected = [[[x[10 * i + 2 * j + k] for k in range(5)] for j in range(4)] for i in range(3)]
    assert_array_equal(to_numpy(strided(from_numpy(x), shape, steps)), expected)


@pytest.mark.parametrize("axis", [0, 2])
def test_sums_of_segments(from_numpy, axis):
    x = np.random.default_rng(14).normal(size=(6, 2, 6))
    edges = [0, 1, 4, 6]
    parts = [x.take(range(a, b), axis=axis).sum(axis=axis) for a, b in ((0, 1), (1, 4), (4, 6))]
    assert_allclose(to_numpy(sum_segments(from_numpy(x), edges, axis)), np.stack(parts, axis=axis))
    assert_array_equal(to_numpy(sum_segments(from_numpy(x), list(range(7)), axis)), x)


def test_rows_and_pairs_are_taken(from_numpy):
    x = np.random.default_rng(15).normal(size=(6, 4, 3))
    for rows in (slice(1, 5), np.array([4, 0, 4]), np.arange(6) % 2 == 0):
        assert_array_equal(to_numpy(take(from_numpy(x), rows)), x[rows])
    first, second = np.array([5, 0, 2]), np.array([3, 3, 1])
    found = take_at(from_numpy(x), from_numpy(first), from_numpy(second))
    assert_array_equal(to_numpy(found), x[first, second])


def test_work_in_place(from_numpy):
    x = np.random.default_rng(16).normal(size=(4, 3))
    writable = array_namespace(from_numpy(x)).asarray(from_numpy(x), copy=True)
    out = array_namespace(writable).zeros_like(writable[:, :2])
    assert_allclose(
        to_numpy(matmul_into(out, writable, like(x[:3, :2], writable))), x @ x[:3, :2], rtol=1e-12
    )
    assert_allclose(to_numpy(out), x @ x[:3, :2], rtol=1e-12)
    zeros = array_namespace(writable).zeros_like(writable)
    assert_array_equal(to_numpy(rectify(copied(writable), zeros)), np.maximum(x, 0))
    out = copied(writable)
    assert_array_equal(to_numpy(multiply_into(out, writable, writable[:, :1])), x * x[:, :1])
    assert_array_equal(to_numpy(out), x * x[:, :1])
    exp_in_place(writable)
    assert_allclose(to_numpy(writable), np.exp(x), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponentials_are_zero_before_they_are_subnormal(from_numpy, dtype):
    least = LEAST_EXPONENTIAL[np.dtype(dtype).name]
    x = np.append(np.linspace(-1000, 0, 20_001), [-np.inf, np.log(least)]).astype(dtype)
    writable = array_namespace(from_numpy(x)).asarray(from_numpy(x), copy=True)
    found, precise = to_numpy(exp_in_place(writable)), np.exp(x.astype(np.float64))
    assert_allclose(found, precise, rtol=4 * np.finfo(dtype).eps, atol=least)
    far_below = precise < least * (1 - 1e-4)
    assert far_below.any()
    assert_array_equal(found[far_below], 0)
    assert (found >= 0).all()


def test_layouts(from_numpy):
    x = np.arange(12.0).reshape(3, 4)
    turned = array_namespace(from_numpy(x)).permute_dims(from_numpy(x), (1, 0))
    assert_array_equal(to_numpy(contiguous(turned)), x.T)
    assert_array_equal(to_numpy(copied(turned)), x.T)


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.float16, np.bool_, np.dtype(">f4")])
def test_numpy_of_any_kind_is_sent(dtype):
    values = np.array([0, 1, 1]).astype(dtype)
    sent = Placement("torch", torch.device("cpu"), np.dtype(np.float32)).asarray(values)
    assert sent.dtype == torch.float32
    assert_array_equal(sent.numpy(), [0, 1, 1])


def test_home_is_where_nothing_is_asked_for():
    home = Placement("numpy", None, np.dtype(np.float32))
    assert find_placement("auto", home) == home
    assert find_placement("torch", home).library == "torch"
    assert not find_placement("torch:cpu", home).on_accelerator
    assert home._replace(library="torch", device=torch.device("cuda", 1)).on_accelerator
