import builtins
import contextlib
from unittest import mock

import dask.array as da
import numpy as np
import onnx
import pandas as pd
import pytest
import skl2onnx
import torch
from numpy.testing import assert_allclose, assert_array_equal
from onnxruntime import InferenceSession
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common._registration import _converter_pool, _shape_calculator_pool
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from _models import POOLINGS
from sklearn_calm import ConvGMMFeatures
from sklearn_calm.onnx import register, to_onnx

PREPROCESSINGS = [(None, False), (None, True), ("contrast", False), ("contrast", True)]
# (image_shape, patch_size, stride, padding)
GEOMETRIES = [
    ((6, 7, 1), (3, 3), (1, 1), (0, 0)),
    ((7, 6, 3), (3, 2), (2, 1), (1, 2)),
    ((1, 12, 2), (1, 4), (1, 2), (0, 3)),
    ((6, 6, 1), (6, 6), (1, 1), (0, 0)),
]
# float32 sums in another order.
ROUNDING = 1e-5


def fitted(X, n_components=5, **parameters):
    model = ConvGMMFeatures(n_components, padding=0, max_iter=2, tol=0, random_state=0)
    return model.set_params(**parameters).fit(X)


def images(seed, *shape):
    return np.random.default_rng(seed).random((20, *shape)).astype(np.float32)


def outputs(onnx_model, X):
    onnx.checker.check_model(onnx_model, full_check=True)
    session = InferenceSession(onnx_model.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: X})


def assert_same_features(model, X, **options):
    (found,) = outputs(to_onnx(model, X, **options), X)
    expected = model.transform(X)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert_allclose(found, expected, rtol=ROUNDING, atol=ROUNDING * np.abs(expected).max())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("image_shape", "patch_size", "stride", "padding"), GEOMETRIES)
@pytest.mark.parametrize(("normalize", "whiten"), PREPROCESSINGS)
def test_every_layer(seed, image_shape, patch_size, stride, padding, normalize, whiten):
    X = images(seed, *image_shape)
    model = fitted(
        X,
        patch_size=patch_size,
        stride=stride,
        padding=padding,
        normalize=normalize,
        whiten=whiten,
    )
    for pooling in [*POOLINGS, None]:
        assert_same_features(model.set_params(pooling=pooling), X)


@pytest.mark.parametrize("dilation", [2, (1, 3)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("normalize", "whiten"), PREPROCESSINGS)
def test_dilated_patches(dilation, stride, normalize, whiten):
    X = images(4, 9, 10, 2)
    options = {"dilation": dilation, "stride": stride, "normalize": normalize, "whiten": whiten}
    assert_same_features(fitted(X, patch_size=3, padding="auto", **options), X)


@pytest.mark.parametrize("pool_grid", [1, 2, 4, (1, 3), (4, 1), (5, 6)])
@pytest.mark.parametrize("pooling", [*POOLINGS, None])
def test_every_region(pooling, pool_grid):
    X = images(2, 7, 8)
    model = fitted(X, patch_size=3, pooling=pooling, pool_grid=pool_grid, pool_window="box")
    assert_same_features(model, X)


@pytest.mark.parametrize("pool_grid", [1, 4, (1, 3), (5, 6)])
@pytest.mark.parametrize("pool_width", [0.1, 0.7])
@pytest.mark.parametrize("pooling", [name for name in POOLINGS if name != "max"])
def test_every_window(pooling, pool_width, pool_grid):
    X = images(2, 7, 8)
    model = fitted(X, patch_size=3, pooling=pooling, pool_grid=pool_grid)
    assert_same_features(model.set_params(pool_window="gaussian", pool_width=pool_width), X)


@pytest.mark.parametrize("pool_window", ["box", "gaussian"])
@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize(("normalize", "whiten"), PREPROCESSINGS)
def test_both_polarities(pool_window, flatten, normalize, whiten):
    X = images(3, 7, 8)
    options = {"patch_size": 3, "normalize": normalize, "whiten": whiten, "flatten": flatten}
    assert_same_features(fitted(X, polarity="both", pool_window=pool_window, **options), X)


@pytest.mark.parametrize("power", [0.5, 2])
@pytest.mark.parametrize("options", [{}, {"polarity": "both"}, {"symmetry": "mirror"}])
def test_scores_times_contrast(power, options):
    X = images(3, 7, 8)
    assert_same_features(fitted(X, patch_size=3, pool_contrast=power, **options), X)


def test_windows_over_signals():
    X = images(2, 12, 2)
    options = {"patch_size": (1, 4), "image_shape": (1, 12, 2), "pool_window": "gaussian"}
    assert_same_features(fitted(X, **options), X)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("assignment", ["image", "patch", (2, 4), (1, 3), (5, 6), [5, 1]])
def test_responsibilities_of_every_assignment(assignment, seed):
    X = images(seed, 7, 8)
    model = fitted(X, patch_size=3, assignment=assignment, pooling="mean", pool_grid=(2, 3))
    assert_same_features(model, X)


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.uint8, np.int8, np.int32, np.int64, bool]
)
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (30,)])
def test_every_dtype_and_layout(dtype, shape):
    X = (100 * images(3, *shape)).astype(dtype)
    assert_same_features(fitted(X, patch_size=3, padding=1, image_shape=(6, 5)), X)


def test_signals_with_channels():
    X = images(4, 12, 2)
    assert_same_features(fitted(X, patch_size=(1, 4), image_shape=(1, 12, 2)), X)


def test_lists_and_data_frames():
    X = images(5, 36)
    model = fitted(X, patch_size=3)
    expected = to_onnx(model, X)
    assert to_onnx(model, pd.DataFrame(X)) == expected
    assert to_onnx(model, X.astype(np.float64).tolist()) == to_onnx(model, X.astype(np.float64))


@pytest.mark.parametrize("n", [1, 33])
def test_any_number_of_images(n):
    X = images(6, 6, 6)
    onnx_model = to_onnx(fitted(X, patch_size=3, pool_grid=2), X)
    (found,) = outputs(onnx_model, np.resize(X, (n, 6, 6)))
    assert found.shape == (n, 20)


@pytest.mark.parametrize("pooling", [*POOLINGS, None])
def test_contrast_beside_a_large_constant(pooling):
    X = images(7, 6, 6) + 1000
    assert_same_features(fitted(X, patch_size=3, padding=1, pooling=pooling), X)


def test_float64_images_that_float32_cannot_tell_apart():
    X = images(8, 6, 6).astype(np.float64)
    model = fitted(X, patch_size=3)
    assert_same_features(model, X + 1e9)


def test_flat_patches_of_bright_images_have_no_negative_variance():
    X = images(9, 6, 6)
    onnx_model = to_onnx(fitted(X, patch_size=3), X)
    bright = np.repeat(np.repeat(images(26, 2, 2), 3, axis=1), 3, axis=2) * np.float32(1e5)
    assert np.isfinite(outputs(onnx_model, bright)[0]).all()


@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_sums_of_exponentials_neither_overflow_nor_underflow(scale):
    X = images(9, 6, 6) * np.float32(scale)
    model = fitted(X, patch_size=3, normalize=None, whiten=False, noise_variance=1.0)
    for pooling in ("logsumexp", "mean"):
        for pool_window in ("box", "gaussian"):
            model.set_params(pooling=pooling, assignment="image", pool_window=pool_window)
            assert_same_features(model.fit(X), X)


def test_a_model_fitted_by_partial_fit():
    X = images(10, 6, 6)
    model = ConvGMMFeatures(4, patch_size=3, random_state=0)
    for part in np.split(X, 4):
        model.partial_fit(part)
    assert_same_features(model, X)


def digits(dtype):
    X, y = load_digits(return_X_y=True)
    return X[:400].astype(dtype), y[:400]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("normalize", [None, "contrast"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_whole_pipeline(dtype, normalize, pooling):
    X, y = digits(dtype)
    model = make_pipeline(
        ConvGMMFeatures(8, normalize=normalize, pooling=pooling, max_iter=3, tol=0, random_state=0),
        StandardScaler(),
        LogisticRegression(C=0.01, max_iter=1000),
    ).fit(X, y)
    labels, probabilities = outputs(to_onnx(model, X, options={"zipmap": False}), X)
    assert_array_equal(labels, model.predict(X))
    expected = model.predict_proba(X)
    if pooling == "proportion":
        # A score that ties with its threshold, up to rounding, is counted or not in a few images.
        same = np.isclose(probabilities, expected, rtol=1e-4, atol=1e-5).all(axis=1)
        assert np.count_nonzero(~same) <= 2
        assert_allclose(probabilities[~same], expected[~same], atol=1e-2)
        probabilities, expected = probabilities[same], expected[same]
    assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-5)


def test_a_search_over_pipelines():
    X, y = digits(np.float32)
    pipeline = make_pipeline(
        ConvGMMFeatures(8, max_iter=3, tol=0, random_state=0),
        LogisticRegression(C=0.01, max_iter=1000),
    )
    model = GridSearchCV(pipeline, {"convgmmfeatures__pool_grid": [1, 2]}, cv=2).fit(X, y)
    assert_array_equal(outputs(to_onnx(model, X), X)[0], model.predict(X))


@pytest.mark.parametrize("maps", [{"pooling": None}, {"pool_grid": (3, 4), "flatten": False}])
def test_two_layers(maps):
    X = images(11, 8, 8, 2)
    model = make_pipeline(
        ConvGMMFeatures(4, patch_size=3, **maps, max_iter=2, tol=0, random_state=0),
        ConvGMMFeatures(3, patch_size=2, max_iter=2, tol=0, random_state=0),
    ).fit(X)
    assert_same_features(model, X)


def test_layers_side_by_side():
    X = images(12, 8, 8)
    union = make_union(
        ConvGMMFeatures(4, patch_size=3, max_iter=2, tol=0, random_state=0),
        ConvGMMFeatures(3, patch_size=5, max_iter=2, tol=0, random_state=1),
    )
    assert_same_features(make_pipeline(union, StandardScaler()).fit(X), X)


def test_options_of_skl2onnx():
    X = images(13, 6, 6)
    model = fitted(X, patch_size=3)
    onnx_model = to_onnx(model, X, name="kernels", target_opset=18)
    assert onnx_model.graph.name == "kernels"
    assert [opset.version for opset in onnx_model.opset_import if not opset.domain] == [18]
    assert_same_features(model, X, target_opset=18)


def test_initial_types():
    X = images(14, 6, 6)
    model = fitted(X, patch_size=3)
    pictures = skl2onnx.common.data_types.FloatTensorType([20, 6, 6])
    onnx_model = to_onnx(model, initial_types=[("pictures", pictures)])
    assert onnx_model.graph.input[0].name == "pictures"
    (found,) = outputs(onnx_model, X)
    assert_allclose(found, model.transform(X), rtol=ROUNDING, atol=ROUNDING)


def test_nothing_is_registered_and_nothing_is_changed(registry):
    registry[-1].pop(ConvGMMFeatures, None)  # doctests in this process may have registered it
    X = images(15, 6, 6)
    model = fitted(X, patch_size=3)
    before = vars(model).copy()
    to_onnx(model, X)
    assert vars(model) == before
    with pytest.raises(RuntimeError, match="ConvGMMFeatures"):
        skl2onnx.to_onnx(model, X)


@pytest.fixture
def registry():
    """What skl2onnx converts, restored afterwards."""
    tables = (_converter_pool, _shape_calculator_pool, sklearn_operator_name_map)
    with contextlib.ExitStack() as stack:
        for table in tables:
            stack.enter_context(mock.patch.dict(table))
        yield tables


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pooling", [*POOLINGS, None])
def test_a_registered_layer_is_converted_by_skl2onnx(pooling, dtype, registry):
    X = images(30, 6, 6).astype(dtype)
    model = fitted(X, patch_size=3, pooling=pooling)
    register()
    (found,) = outputs(skl2onnx.to_onnx(model, X), X)
    (ours,) = outputs(to_onnx(model, X), X)
    assert found.dtype == ours.dtype
    assert_array_equal(found, ours)


def test_skl2onnx_converts_pipelines_after_registration(registry):
    X = images(31, 6, 6)
    y = np.arange(20) % 2
    layer = fitted(X, patch_size=3)
    model = make_pipeline(layer, StandardScaler(), LogisticRegression()).fit(X, y)
    register()
    options = {"zipmap": False}
    labels, probabilities = outputs(skl2onnx.to_onnx(model, X, options=options), X)
    assert_array_equal(labels, model.predict(X))
    assert_allclose(probabilities, model.predict_proba(X), atol=1e-4)


def test_to_register_twice_changes_nothing(registry):
    register()
    before = [
        {name: getattr(entry, "_fct", entry) for name, entry in table.items()} for table in registry
    ]
    register()
    after = [
        {name: getattr(entry, "_fct", entry) for name, entry in table.items()} for table in registry
    ]
    assert after == before
    assert ConvGMMFeatures in registry[-1]


def test_an_image_of_another_size_fails():
    X = images(16, 36)
    types = [("X", skl2onnx.common.data_types.FloatTensorType([None, None]))]
    session = InferenceSession(
        to_onnx(fitted(X, patch_size=3), initial_types=types).SerializeToString()
    )
    assert session.run(None, {"X": X})[0].shape == (20, 80)
    # Twice as long rows are not twice as many images.
    with pytest.raises(Exception, match=r"(?i)reshape"):
        session.run(None, {"X": X.reshape(10, 72)})


@pytest.mark.parametrize("model", [ConvGMMFeatures(), make_pipeline(ConvGMMFeatures())])
def test_before_fit(model):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        to_onnx(model, images(17, 6, 6))


@pytest.mark.parametrize("dtype", [np.float16, np.uint16, object, "U1"])
def test_a_dtype_without_tensors(dtype):
    X = images(18, 6, 6)
    with pytest.raises(ValueError, match=r"X has dtype .*; skl2onnx takes float32, .*astype"):
        to_onnx(fitted(X, patch_size=3), X.astype(dtype))


@pytest.mark.parametrize("arguments", [{}, {"X": images(19, 6, 6), "initial_types": []}])
def test_one_of_images_and_types(arguments):
    with pytest.raises(ValueError, match="either X or initial_types"):
        to_onnx(fitted(images(19, 6, 6), patch_size=3), **arguments)


def test_images_of_another_shape():
    model = fitted(images(20, 6, 6), patch_size=3)
    with pytest.raises(ValueError, match="expecting 36 features as input"):
        to_onnx(model, images(20, 5, 6))
    with pytest.raises(ValueError, match="does not hold images of shape"):
        to_onnx(model, images(20, 4, 9))


def test_an_input_for_each_column():
    column = skl2onnx.common.data_types.FloatTensorType([None, 1])
    types = [(f"pixel{i}", column) for i in range(36)]
    with pytest.raises(ValueError, match=r"got 36 inputs; expected one, .* whole images"):
        to_onnx(fitted(images(21, 6, 6), patch_size=3), initial_types=types)


def test_an_old_opset():
    X = images(22, 6, 6)
    with pytest.raises(ValueError, match="target_opset=15 is too old"):
        to_onnx(fitted(X, patch_size=3), X, target_opset=15)


@pytest.mark.parametrize("changed", [{"patch_size": 2}, {"n_components": 4}])
def test_parameters_that_were_changed_after_the_fit(changed):
    X = images(23, 6, 6)
    model = fitted(X, patch_size=3).set_params(**changed)
    with pytest.raises(ValueError, match=r"parameters ask for .* fitted to .* Restore"):
        to_onnx(model, X)


def test_pooling_may_be_changed_after_the_fit_to_what_there_is():
    X = images(24, 6, 6)
    model = fitted(X, patch_size=3)
    with pytest.raises(ValueError, match="The 'pooling' parameter"):
        to_onnx(model.set_params(pooling="median"), X)
    with pytest.raises(ValueError, match="more regions than the map"):
        to_onnx(model.set_params(pooling="max", pool_grid=(5, 5)), X)


def test_without_skl2onnx(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("skl2onnx"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    X = images(25, 6, 6)
    model = fitted(X, patch_size=3)
    monkeypatch.setattr(builtins, "__import__", missing)
    for function in (lambda: to_onnx(model, X), register):
        with pytest.raises(ImportError, match=r'pip install "sklearn-calm\[onnx\]"'):
            function()


@pytest.mark.parametrize("pooling", [*POOLINGS, None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_models_fitted_on_tensors(pooling, dtype):
    X = images(30, 6, 7).astype(dtype)
    model = fitted(torch.asarray(X), pooling=pooling, patch_size=3)
    assert_same_features(model, X)
    (found,) = outputs(to_onnx(model, torch.asarray(X)), X)
    assert_array_equal(found, outputs(to_onnx(model, X), X)[0])


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_wide_integers_on_a_pedestal(dtype):
    X = (images(31, 6, 7) * 20).round().astype(dtype) + 2**28
    assert_same_features(fitted(X, patch_size=3), X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("power", [-70, -120, -140])
@pytest.mark.parametrize(("normalize", "whiten"), PREPROCESSINGS)
def test_tiny_values(normalize, whiten, power, dtype):
    """float32 would lose their squares; the graph multiplies images first."""
    X = np.round(images(32, 6, 7) * 64).astype(np.float64) * 2.0**power
    model = fitted(X.astype(dtype), normalize=normalize, whiten=whiten, patch_size=3)
    assert_same_features(model, X.astype(dtype))


@pytest.mark.parametrize(
    "holder",
    [list, lambda X: pd.DataFrame({"image": list(X)}), lambda X: X.astype(">f4"), da.from_array],
    ids=["list", "frame", "big-endian", "Dask"],
)
def test_images_in_other_holders(holder):
    X = images(33, 6, 7)
    model = fitted(X, patch_size=3)
    (found,) = outputs(to_onnx(model, holder(X)), X)
    assert_array_equal(found, outputs(to_onnx(model, X), X)[0])


@pytest.mark.parametrize(
    ("X", "words"),
    [
        ("images/digits", "files are not read"),
        ((x for x in "ab"), "partial_fit"),
        (np.ma.masked_less(images(34, 6, 7), 0.5), "masked"),
        (images(34, 6, 7)[:0], "0 sample"),
    ],
    ids=["path", "generator", "masked", "none"],
)
def test_what_is_no_array_of_images(X, words):
    with pytest.raises((TypeError, ValueError), match=words):
        to_onnx(fitted(images(34, 6, 7)), X)


@pytest.mark.parametrize(
    "changed",
    [
        {"stride": 2},
        {"padding": 0},
        {"padding": 1, "padding_mode": "edge"},
        {"dilation": 2},
        {"assignment": "image", "padding": 0},
    ],
)
def test_patches_that_were_changed_after_the_fit_are_refused(changed):
    X = images(24, 9, 9)
    model = fitted(X, patch_size=3, padding=1)
    to_onnx(model, X)
    with pytest.raises(ValueError, match="other patches than transform takes"):
        to_onnx(model.set_params(**changed), X)
