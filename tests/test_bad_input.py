"""What a user gets who errs: a sentence that says what was got, what was expected, what to do."""

import copy
import pickle
import re
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from sklearn_calm import ConvGMMFeatures

SMALL = {
    "n_components": 3,
    "patch_size": 3,
    "padding": 0,
    "pool_grid": 2,
    "max_iter": 2,
    "tol": 0,
    "random_state": 0,
}


def make_images(seed=0, n=20, dtype=np.float32):
    """Grey images of 6 x 6 pixels."""
    return np.random.default_rng(seed).random((n, 6, 6)).astype(dtype)


X = make_images()
X.flags.writeable = False
ROWS = X.reshape(20, -1)


def small(**parameters):
    return ConvGMMFeatures(**{**SMALL, **parameters})


def spoiled(value, row=-1, dtype=np.float32):
    """Images of which one pixel is replaced."""
    images = X.astype(dtype)
    images[row, 2, 3] = value
    return images


class Case(NamedTuple):
    """Bad parameters or data, a method that meets them, and the sentence, as a pattern."""

    name: str
    pattern: str
    data: object
    parameters: dict
    sample_weight: object
    error: type


def all_of(*words):
    """A pattern of words that appear in this order, whatever lies between."""
    return "(?s)" + ".*".join(re.escape(word) for word in words)


def bad(name, words, data=X, sample_weight=None, error=ValueError, **parameters):
    words = words if isinstance(words, tuple) else (words,)
    return Case(name, all_of(*words), data, parameters, sample_weight, error)


NAN_WORDS = ("NaN or infinity", "first in image 19", "does not accept missing values", "drop")
LARGE_WORDS = ("value too large for float32", "scale large values down")
FEW_WORDS = ("too few for n_components", "Give more images, lower n_components")
AXES_WORDS = ("Expected images of shape (n, height, width)", "got an array of", "Reshape your data")
SHAPE_WORDS = ('"auto", (height, width) or (height, width, n_channels), ints >= 1',)

BAD_DATA = [
    bad("scalar", ("at least 1 dimension", "got scalar"), data=3.0, error=TypeError),
    bad("None", ("at least 1 dimension", "got scalar"), data=None, error=TypeError),
    bad("one_axis", (*AXES_WORDS[:2], "1 dimension(s), shape (6,)", AXES_WORDS[2]), data=X[0, 0]),
    bad("five_axes", (*AXES_WORDS[:2], "5 dimension(s)", AXES_WORDS[2]), data=X[None, None]),
    bad("ragged", "inhomogeneous shape", data=[[1, 2], [3]]),
    bad("strings", ("bytes/strings", "numeric values"), data=ROWS.astype(str)),
    bad("objects", "could not convert string to float: ", data=np.full((20, 36), "a", object)),
    bad("dates", ("dtype datetime64", "expected integers or floats"), data=ROWS.astype("M8[s]")),
    bad("complex", "Complex data not supported", data=X + 1j),
    bad(
        "sparse",
        ("Sparse data was passed", "toarray"),
        data=sparse.csr_matrix(ROWS),
        error=TypeError,
    ),
    bad("no_images", ("0 sample(s)", "minimum of 1 is required"), data=X[:0]),
    bad("no_features", ("0 feature(s)", "minimum of 1 is required"), data=np.zeros((20, 0))),
    bad("no_rows_of_pixels", ("without pixels", "(20, 0, 6)", "1 or more"), data=X[:, :0]),
    bad("no_channels", ("without pixels", "(20, 6, 6, 0)"), data=np.zeros((20, 6, 6, 0))),
    bad("one_pixel", ("patches of two values", "Set normalize=None"), data=X[:, :1, :1]),
    bad("too_few", ("n_samples=1", "16 patch(es)", *FEW_WORDS), data=X[:1], n_components=17),
    bad("nan", NAN_WORDS, data=spoiled(np.nan)),
    bad("nan_float64", NAN_WORDS, data=spoiled(np.nan, dtype=np.float64)),
    bad("infinity", NAN_WORDS, data=spoiled(np.inf)),
    bad("minus_infinity", NAN_WORDS, data=spoiled(-np.inf)),
    bad("nan_in_first_batch", "first in image 0", data=spoiled(np.nan, row=0)),
    bad("nan_in_last_batch", NAN_WORDS, data=spoiled(np.nan), batch_size=3),
    bad("both_infinities", "first in image 0", data=np.where(np.eye(6), [np.inf, -np.inf] * 3, X)),
    bad("too_large_for_float32", LARGE_WORDS, data=spoiled(1e30)),
    bad(
        "too_large_for_float64",
        "value too large for float64",
        data=spoiled(1e200, dtype=np.float64),
    ),
    bad("nan_of_weight_0", NAN_WORDS, data=spoiled(np.nan), sample_weight=np.arange(20)[::-1]),
    bad(
        "data_frame_of_text",
        "could not convert string to float",
        data=pd.DataFrame({"a": ["x", "y"]}),
    ),
]

BAD_SIZES = [
    bad(
        "patch_larger",
        ("patch_size=(7, 3)", "larger than the padded image, (6, 6)", "Make it smaller"),
        patch_size=(7, 3),
    ),
    bad(
        "patch_larger_than_padded",
        ("patch_size=(3, 9)", "(6, 8)"),
        patch_size=(3, 9),
        padding=(0, 1),
    ),
    bad("patch_negative", ("patch_size=(3, -1)", "ints >= 1"), patch_size=(3, -1)),
    bad("patch_zero", ("patch_size=(0, 3)", "ints >= 1"), patch_size=(0, 3)),
    bad("patch_triple", ("patch_size=(3, 3, 1)", "an int or a pair"), patch_size=(3, 3, 1)),
    bad("patch_empty", ("patch_size=()", "an int or a pair"), patch_size=()),
    bad("patch_of_floats", ("patch_size=(3.0, 3)", "ints >= 1"), patch_size=(3.0, 3)),
    bad("patch_of_strings", ("patch_size=('3', 'a')", "ints >= 1"), patch_size=("3", "a")),
    bad("stride_zero", ("stride=(1, 0)", "ints >= 1"), stride=(1, 0)),
    bad("padding_negative", ("padding=(-1, 0)", "ints >= 0"), padding=(-1, 0)),
    bad("padding_triple", ("padding=(1, 1, 1)", "an int or a pair"), padding=(1, 1, 1)),
    bad("shape_of_four", ("image_shape=(6, 6, 1, 1)", *SHAPE_WORDS), image_shape=(6, 6, 1, 1)),
    bad("shape_of_one", ("image_shape=(36,)", *SHAPE_WORDS), data=ROWS, image_shape=(36,)),
    bad(
        "shape_of_floats",
        ("image_shape=(6.0, 6.0)", *SHAPE_WORDS),
        data=ROWS,
        image_shape=(6.0, 6.0),
    ),
    bad("shape_of_strings", ("image_shape=('a', 'b')", *SHAPE_WORDS), image_shape=("a", "b")),
    bad("shape_of_zero", ("image_shape=(0, 6)", *SHAPE_WORDS), image_shape=(0, 6)),
    bad("shape_negative", ("image_shape=(-6, -6)", *SHAPE_WORDS), data=ROWS, image_shape=(-6, -6)),
    bad(
        "shape_of_other_rows",
        ("(20, 36)", "image_shape=(5, 7)", "35 values", "Pass the shape of one image"),
        data=ROWS,
        image_shape=(5, 7),
    ),
    bad(
        "shape_of_other_channels",
        ("(20, 6, 6)", "image_shape=(6, 6, 3)", "108 values"),
        image_shape=(6, 6, 3),
    ),
    bad(
        "shape_transposed",
        ("(20, 6, 6)", "image_shape=(4, 9)", "Pass the shape of one image"),
        image_shape=(4, 9),
    ),
    bad(
        "cells_too_fine",
        ("assignment=(5, 1)", "more cells than the map of positions, (4, 4)", "coarser grid"),
        assignment=(5, 1),
    ),
    bad("cells_zero", ("assignment=(0, 1)", "ints >= 1"), assignment=(0, 1)),
    bad("cells_triple", ("assignment=(1, 1, 1)", "a pair"), assignment=(1, 1, 1)),
    bad("cells_of_floats", ("assignment=(1.0, 2)", "ints >= 1"), assignment=(1.0, 2)),
    bad(
        "pool_grid_too_fine",
        ("pool_grid=(5, 5)", "more cells than the map of positions, (4, 4)", "coarser grid"),
        pool_grid=(5, 5),
    ),
    bad("pool_grid_zero", ("pool_grid=(2, 0)", "ints >= 1"), pool_grid=(2, 0)),
    bad("pool_grid_triple", ("pool_grid=(1, 2, 3)", "a pair"), pool_grid=(1, 2, 3)),
    bad(
        "init_of_few",
        (
            "shape (2, 3, 3)",
            "expected (n_components, height, width, n_channels) = (3, 3, 3, 1)",
            "Change",
        ),
        init_params=np.zeros((2, 3, 3)),
    ),
    bad("init_flat", ("shape (3, 9)", "(3, 3, 3, 1)"), init_params=np.zeros((3, 9))),
    bad(
        "init_nan",
        ("init_params contains NaN or infinity", "finite"),
        init_params=np.full((3, 3, 3), np.nan),
    ),
    bad(
        "init_text",
        ("init_params is not an array of real numbers", "(3, 3, 3, 1)"),
        init_params=[["a"]],
    ),
    bad("init_ragged", "init_params is not an array of real numbers", init_params=[[1, 2], [3]]),
    bad(
        "init_complex",
        "init_params is not an array of real numbers",
        init_params=np.full((3, 3, 3), 1j),
    ),
]

BAD_WEIGHTS = [
    bad(
        "weights_short", ("sample_weight.shape == (3,)", "expected (20,)"), sample_weight=np.ones(3)
    ),
    bad("weights_of_pixels", "must be 1D array or scalar", sample_weight=np.ones((20, 36))),
    bad("weights_negative", ("Negative values", "sample_weight"), sample_weight=-np.ones(20)),
    bad("weights_nan", "sample_weight contains NaN", sample_weight=np.full(20, np.nan)),
    bad("weights_infinite", "sample_weight contains infinity", sample_weight=np.full(20, np.inf)),
    bad("weights_text", "could not convert string to float: ", sample_weight=["a"] * 20),
    # "non-zero number" where scikit-learn finds it first, as it does in some versions.
    bad("weights_zero", "at least one ", sample_weight=np.zeros(20)),
]

CASES = [*BAD_DATA, *BAD_SIZES, *BAD_WEIGHTS]


def named(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@named(CASES)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_first_fit_says_what_is_wrong(case, method):
    model = small(**case.parameters)
    before = set(vars(model))
    with pytest.raises(case.error, match=case.pattern):
        getattr(model, method)(case.data, sample_weight=case.sample_weight)
    assert set(vars(model)) == before


def test_the_table_is_long():
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(CASES) + len(BAD_OPTIONS) + len(BAD_FOR_FITTED) >= 100


# One value out of bounds, at least, for every parameter.
BAD_OPTIONS = [
    ("n_components", 0),
    ("n_components", 2.5),
    ("n_components", "many"),
    ("patch_size", 0),
    ("patch_size", -3),
    ("patch_size", 3.0),
    ("patch_size", "3"),
    ("stride", 0),
    ("stride", "two"),
    ("padding", -1),
    ("padding", 0.5),
    ("padding", "same"),
    ("image_shape", 6),
    ("image_shape", "square"),
    ("assignment", 2),
    ("assignment", "pixel"),
    ("normalize", "l2"),
    ("normalize", True),
    ("whiten", "yes"),
    ("reg_covar", -0.1),
    ("reg_covar", np.nan),
    ("noise_variance", 0),
    ("noise_variance", -1.0),
    ("noise_variance", np.nan),
    ("noise_variance", np.inf),
    ("noise_variance", "learn"),
    ("learn_weights", None),
    ("pooling", "sum"),
    ("pool_grid", 0),
    ("pool_grid", "fine"),
    ("pool_window", "triangle"),
    ("pool_width", 0),
    ("pool_width", np.inf),
    ("pool_width", "wide"),
    ("polarity", "negative"),
    ("flatten", None),
    ("init_params", "kmeans"),
    ("init_params", 3.0),
    ("n_init", 0),
    ("max_iter", 0),
    ("max_iter", 1.5),
    ("tol", -1e-3),
    ("tol", np.nan),
    ("batch_size", 0),
    ("batch_size", "all"),
    ("learning_decay", 0.5),
    ("learning_decay", 1.1),
    ("learning_offset", -1),
    ("warm_start", 2),
    ("n_jobs", 1.5),
    ("backend", None),
    ("random_state", "seed"),
    ("random_state", -1),
    ("verbose", -1),
]


@pytest.mark.parametrize(("name", "value"), BAD_OPTIONS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_parameter_out_of_bounds_is_named(name, value, method):
    pattern = all_of(f"The '{name}' parameter of ConvGMMFeatures must be", f"Got {value!r} instead")
    with pytest.raises(ValueError, match=pattern):
        getattr(small(**{name: value}), method)(X)


def test_every_parameter_is_tried():
    assert {name for name, _ in BAD_OPTIONS} == set(ConvGMMFeatures().get_params())


def test_no_jobs_at_all():
    with pytest.raises(ValueError, match="n_jobs == 0"):
        small(n_jobs=0).fit(X)


FITTED_WORDS = ("ConvGMMFeatures is expecting 36 features", "images of shape (6, 6, 1)", "fit anew")
LAYOUT_WORDS = ("does not hold images of shape (6, 6, 1)", "flat rows")
BAD_FOR_FITTED = [
    bad("smaller", ("X has 30 features", *FITTED_WORDS[:2], "(20, 5, 6)"), data=X[:, :5]),
    bad("colour", ("X has 108 features", *FITTED_WORDS), data=np.stack([X] * 3, axis=-1)),
    bad("short_rows", ("X has 30 features", *FITTED_WORDS), data=ROWS[:, :30]),
    bad("one_image", ("X has 6 features", "one image alone is X[np.newaxis]"), data=X[0]),
    bad("other_layout", ("(20, 4, 9)", *LAYOUT_WORDS), data=X.reshape(20, 4, 9)),
    bad("signal", ("(20, 36, 1, 1)", *LAYOUT_WORDS), data=X.reshape(20, 36, 1, 1)),
    bad("one_axis", (*AXES_WORDS[:2], "1 dimension(s)", AXES_WORDS[2]), data=X[0, 0]),
    bad("five_axes", (*AXES_WORDS[:2], "5 dimension(s)"), data=X[None, None]),
    bad("no_images", ("0 sample(s)", "minimum of 1"), data=X[:0]),
    bad("strings", ("bytes/strings", "numeric values"), data=ROWS.astype(str)),
    bad("dates", ("dtype datetime64", "expected integers or floats"), data=ROWS.astype("M8[s]")),
    bad("complex", "Complex data not supported", data=X + 1j),
    bad(
        "sparse",
        ("Sparse data was passed", "toarray"),
        data=sparse.csr_matrix(ROWS),
        error=TypeError,
    ),
    bad("nan", NAN_WORDS, data=spoiled(np.nan)),
    bad("infinity", NAN_WORDS, data=spoiled(np.inf)),
    bad("nan_in_last_batch", NAN_WORDS, data=spoiled(np.nan), batch_size=3),
    bad("too_large", LARGE_WORDS, data=spoiled(1e30)),
    bad(
        "other_names",
        "feature names should match",
        data=pd.DataFrame(ROWS, columns=[f"b{i}" for i in range(36)]),
    ),
]


@named(BAD_FOR_FITTED)
@pytest.mark.parametrize("method", ["transform", "score_samples", "score", "partial_fit"])
def test_a_fitted_model_says_what_is_wrong_and_stays(case, method):
    columns = [f"a{i}" for i in range(36)]
    train = pd.DataFrame(ROWS, columns=columns) if case.name == "other_names" else X
    model = small(**case.parameters).fit(train)
    assert_unchanged_by(model, train, method, case)


@named([case for case in BAD_DATA if case.name not in ("too_few", "data_frame_of_text")])
def test_a_failed_refit_leaves_the_model(case):
    assert_unchanged_by(small().fit(X).set_params(**case.parameters), X, "fit", case)


@named([*BAD_SIZES, *BAD_WEIGHTS])
@pytest.mark.parametrize("warm_start", [False, True])
def test_a_failed_refit_with_other_parameters_leaves_the_model(case, warm_start):
    if case.name.startswith("init") and warm_start:
        return  # goes on from means_, so init_params are not looked at
    model = small(warm_start=warm_start).fit(X)
    before = copy.deepcopy(vars(model))
    features = model.transform(X)
    model.set_params(**case.parameters)
    with pytest.raises(case.error, match=case.pattern):
        model.fit(case.data, sample_weight=case.sample_weight)
    model.set_params(**{name: SMALL.get(name, default) for name, default in DEFAULTS.items()})
    model.set_params(warm_start=warm_start)
    assert_same_state(vars(model), before)
    assert_array_equal(model.transform(X), features)


DEFAULTS = ConvGMMFeatures().get_params()


@named(BAD_WEIGHTS)
@pytest.mark.parametrize("method", ["partial_fit", "score"])
def test_bad_weights_for_a_fitted_model(case, method):
    assert_unchanged_by(small().fit(X), X, method, case)


def test_a_failed_partial_fit_of_a_stream_leaves_the_model():
    """The NaN is met in the last batch, long after the E-step began."""
    stream = small(batch_size=3)
    for _ in range(3):
        stream.partial_fit(X)
    case = bad("nan", NAN_WORDS, data=spoiled(np.nan))
    assert_unchanged_by(stream, X, "partial_fit", case)
    assert stream.n_iter_ == 3
    assert stream.n_samples_seen_ == 60
    twin = pickle.loads(pickle.dumps(stream))
    stream.partial_fit(X)
    assert_array_equal(stream.means_, twin.partial_fit(X).means_)


def test_a_failed_refit_keeps_feature_names():
    frame = pd.DataFrame(ROWS, columns=[f"a{i}" for i in range(36)])
    model = small().fit(frame)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(spoiled(np.nan))
    assert list(model.feature_names_in_) == list(frame.columns)


def assert_unchanged_by(model, good, method, case):
    """The method fails with the sentence of the case, and nothing in the model has changed."""
    before = copy.deepcopy(vars(model))
    features = model.transform(good)
    weight = {} if case.sample_weight is None else {"sample_weight": case.sample_weight}
    with pytest.raises(case.error, match=case.pattern):
        getattr(model, method)(case.data, **weight)
    assert_same_state(vars(model), before)
    assert_array_equal(model.transform(good), features)


def assert_same_state(actual, expected, path="vars(model)"):
    """Deeply equal: of the same types, to the last bit."""
    assert type(actual) is type(expected), path
    if isinstance(expected, np.ndarray):
        assert actual.dtype == expected.dtype, path
        assert_array_equal(actual, expected, err_msg=path)
    elif isinstance(expected, dict):
        assert list(actual) == list(expected), path
        for key, value in expected.items():
            assert_same_state(actual[key], value, f"{path}[{key!r}]")
    elif isinstance(expected, tuple | list):
        assert len(actual) == len(expected), path
        for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
            assert_same_state(a, b, f"{path}[{i}]")
    else:
        assert actual == expected, path


def test_the_comparison_of_states_sees_a_difference():
    model = small().fit(X)
    before = copy.deepcopy(vars(model))
    assert_same_state(vars(model), before)
    model._layer.weight[0, 0] += 1e-6
    with pytest.raises(AssertionError, match="_layer"):
        assert_same_state(vars(model), before)


@pytest.mark.parametrize("method", ["transform", "score_samples", "score", "get_feature_names_out"])
def test_unfitted_use(method):
    arguments = () if method == "get_feature_names_out" else (X,)
    with pytest.raises(NotFittedError, match=all_of("not fitted yet", "Call 'fit'")):
        getattr(small(), method)(*arguments)


@pytest.mark.parametrize("name", ["n_components", "patch_size"])
def test_a_warm_start_needs_the_same_kernels(name):
    model = small(warm_start=True).fit(X).set_params(**{name: 2})
    expected = {"n_components": "(2, 3, 3, 1)", "patch_size": "(3, 2, 2, 1)"}[name]
    with pytest.raises(ValueError, match=all_of("means_ of shape (3, 3, 3, 1)", expected, "anew")):
        model.fit(X)


def test_a_warm_start_needs_the_same_channels():
    model = small(warm_start=True).fit(X)
    with pytest.raises(ValueError, match=all_of("means_ of shape (3, 3, 3, 1)", "(3, 3, 3, 2)")):
        model.fit(np.stack([X, X], axis=-1))


def test_partial_fit_goes_on_with_as_many_kernels():
    model = small().partial_fit(X).set_params(n_components=5)
    with pytest.raises(ValueError, match=all_of("means_ of shape (3, 3, 3, 1)", "(5, 3, 3, 1)")):
        model.partial_fit(X)


@pytest.mark.parametrize("output", ["transform", "get_feature_names_out"])
def test_pooling_is_checked_where_it_was_changed(output):
    model = small().fit(X).set_params(pool_grid=(5, 5))
    arguments = (X,) if output == "transform" else ()
    with pytest.raises(ValueError, match=all_of("pool_grid=(5, 5)", "(4, 4)", "coarser grid")):
        getattr(model, output)(*arguments)


@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform"])
def test_the_maximum_takes_boxes_only(method):
    model = small(pooling="max")
    if method == "transform":
        model.fit(X)
    model.set_params(pool_window="gaussian")
    words = all_of('pooling="max"', 'Set pool_window="box"', "choose another pooling")
    with pytest.raises(ValueError, match=words):
        getattr(model, method)(X)


@pytest.mark.parametrize("pooling", ["logsumexp", "max", "mean", "tempered", None])
@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform"])
def test_only_triangles_have_two_polarities(pooling, method):
    model = small(pooling=pooling)
    if method == "transform":
        model.fit(X)
    model.set_params(polarity="both")
    words = all_of(f"pooling={pooling!r}", 'Set polarity="positive", or pooling="triangle"')
    with pytest.raises(ValueError, match=words):
        getattr(model, method)(X)


def test_unknown_pooling_set_on_a_fitted_model():
    model = small().fit(X).set_params(pooling="sum")
    with pytest.raises(ValueError, match=all_of("'pooling' parameter", "Got 'sum' instead")):
        model.transform(X)


@pytest.mark.parametrize("options", [{"pooling": None}, {"flatten": False}])
def test_maps_do_not_fit_into_a_data_frame(options):
    model = small(**options).set_output(transform="pandas").fit(X)
    words = all_of("pooling=None", "flatten=False", "data frame", "Choose a pooling")
    with pytest.raises(ValueError, match=words):
        model.transform(X)
    with pytest.raises(ValueError, match="no columns to name"):
        model.get_feature_names_out()


def test_names_of_other_features():
    with pytest.raises(ValueError, match=all_of("36", "got 1")):
        small().fit(X).get_feature_names_out(["a"])


# What looks bad and is not


models = pytest.mark.parametrize(
    "parameters",
    [{}, {"normalize": None, "whiten": False}, {"assignment": "image", "pooling": "logsumexp"}],
    ids=["default", "raw", "image"],
)


@pytest.mark.parametrize("value", [0, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@models
def test_constant_images_work_and_warn(value, dtype, parameters):
    images = np.full((5, 6, 6), value, dtype=dtype)
    with pytest.warns(ConvergenceWarning, match="only 1 distinct kernel"):
        model = small(**parameters).fit(images)
    assert np.isfinite(model.transform(images)).all()
    assert np.isfinite(model.score_samples(images)).all()
    assert np.isfinite(model.lower_bounds_).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@models
def test_constant_images_with_padding_work(dtype, parameters):
    """Their borders differ, so there is nothing to warn of."""
    images = np.full((5, 6, 6), 7, dtype=dtype)
    model = small(**parameters, padding=2).fit(images)
    assert len(np.unique(model.means_, axis=0)) == 3
    assert np.isfinite(model.transform(images)).all()
    assert np.isfinite(model.score_samples(images)).all()
    assert np.isfinite(model.lower_bounds_).all()


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_one_image_works(method):
    model = getattr(small(), method)(X[:1])
    assert np.isfinite(model.transform(X)).all()


def test_one_pixel_works_without_normalisation():
    pixels = X[:, :1, :1]
    model = small(normalize=None, whiten=False).fit(pixels)
    assert model.means_.shape == (3, 1, 1, 1)
    assert model.transform(pixels).shape == (20, 3)


def test_as_many_components_as_patches():
    model = small(n_components=16, reg_covar=1.0).fit(X[:1])
    assert np.isfinite(model.transform(X)).all()


@pytest.mark.parametrize("parameters", [{}, {"normalize": None, "whiten": False}])
def test_large_values_that_are_not_too_large(parameters):
    """Sums of squares still fit into float32."""
    images = X * np.float32(3e15)
    model = small(**parameters).fit(images)
    assert np.isfinite(model.transform(images)).all()
    assert np.isfinite(model.score(images))


def test_numbers_as_objects_are_numbers():
    assert_array_equal(
        small().fit(ROWS.astype(object)).means_, small().fit(ROWS.astype(np.float64)).means_
    )


def test_int_sizes_are_clipped_to_the_image():
    model = small(patch_size=50, stride=9, pool_grid=9, normalize=None).fit(X)
    assert model.means_.shape == (3, 6, 6, 1)
    assert model.transform(X).shape == (20, 3)
