"""What a user gets whose parameters or weights are wrong: what was got, expected, what to do."""

import copy

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from _cases import ROWS, SMALL, X, all_of, assert_same_state, assert_unchanged_by, bad, named, small
from sklearn_calm import ConvGMMFeatures

SHAPE_WORDS = ('"auto", (height, width) or (height, width, n_channels), ints >= 1',)

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
    bad("dilation_zero", ("dilation=(1, 0)", "ints >= 1"), dilation=(1, 0)),
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
        ("pool_grid=(5, 5)", "more regions than the map of positions, (4, 4)", "coarser grid"),
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
    bad(
        "init_masked",
        ("init_params is a masked array", "fill them in"),
        init_params=np.ma.masked_less(np.zeros((3, 3, 3)), 1),
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
    bad(
        "weights_of_a_generator",
        ("sample_weight is a generator", "expected an array of shape (n,)"),
        sample_weight=(1.0 for _ in X),
        error=TypeError,
    ),
    bad("weights_in_a_dict", "sample_weight is a dict", sample_weight={0: 1.0}, error=TypeError),
    bad(
        "weights_masked",
        ("sample_weight is a masked array", "first in image 2"),
        sample_weight=np.ma.masked_equal(np.arange(20.0), 2),
    ),
    bad(
        "weights_masked_in_blocks",
        "sample_weight is a masked array",
        sample_weight=da.from_array(np.ma.masked_equal(np.arange(20.0), 2), chunks=5),
    ),
    # "non-zero number" where scikit-learn finds it first, as it does in some versions.
    bad("weights_zero", "at least one ", sample_weight=np.zeros(20)),
]


@named([*BAD_SIZES, *BAD_WEIGHTS])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_first_fit_says_what_is_wrong(case, method):
    model = small(**case.parameters)
    before = set(vars(model))
    with pytest.raises(case.error, match=case.pattern):
        getattr(model, method)(case.data, sample_weight=case.sample_weight)
    assert set(vars(model)) == before


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
    ("dilation", 0),
    ("dilation", "two"),
    ("padding", -1),
    ("padding", 0.5),
    ("padding", "valid"),
    ("padding_mode", "wrap"),
    ("padding_mode", None),
    ("image_shape", 6),
    ("image_shape", "square"),
    ("assignment", 2),
    ("assignment", "pixel"),
    ("normalize", "l2"),
    ("normalize", True),
    ("whiten", "yes"),
    ("symmetry", "turns"),
    ("symmetry", 4),
    ("reg_covar", -0.1),
    ("reg_covar", np.nan),
    ("noise_variance", 0),
    ("noise_variance", -1.0),
    ("noise_variance", np.nan),
    ("noise_variance", np.inf),
    ("noise_variance", "learn"),
    ("learn_weights", None),
    ("pooling", "sum"),
    ("n_thresholds", 0),
    ("n_thresholds", "auto"),
    ("pool_grid", 0),
    ("pool_grid", "fine"),
    ("pool_window", "triangle"),
    ("pool_width", 0),
    ("pool_width", np.inf),
    ("pool_width", "wide"),
    ("pool_symmetry", "all"),
    ("pool_symmetry", True),
    ("pool_contrast", -0.5),
    ("pool_contrast", np.nan),
    ("pool_contrast", None),
    ("polarity", "negative"),
    ("flatten", None),
    ("missing_values", "drop"),
    ("min_observed", 0),
    ("min_observed", 1.5),
    ("init_params", "kmeans"),
    ("init_params", 3.0),
    ("subsample", 0),
    ("subsample", "all"),
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
    words = all_of('pooling="max"', 'Set pool_window="auto" or "box"', "choose another")
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


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"pooling": "mean"}, 'or pooling="triangle"'),
        ({"pooling": None}, 'or pooling="triangle"'),
        ({"normalize": None}, 'or fit with normalize="contrast"'),
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "transform_pixels"])
def test_only_triangles_of_normalised_patches_are_multiplied_by_contrast(options, advice, method):
    model = small(padding="same", **options)
    if method.startswith("transform"):
        model.fit(X)
    model.set_params(pool_contrast=0.5)
    with pytest.raises(
        ValueError, match=all_of("pool_contrast=0.5", "Set pool_contrast=0", advice)
    ):
        getattr(model, method)(X)


@pytest.mark.parametrize("method", ["transform", "transform_pixels"])
def test_a_model_that_was_fitted_without_contrast_has_none_to_multiply_by(method):
    model = small(padding="same", normalize=None).fit(X)
    model.set_params(normalize="contrast", pool_contrast=0.5)
    with pytest.raises(ValueError, match='or fit with normalize="contrast"'):
        getattr(model, method)(X)
    assert np.isfinite(getattr(model.fit(X), method)(X)).all()


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


def test_small_mistakes_are_named():
    with pytest.raises(ValueError, match="expected None, one of"):
        small(symmetry=([1],)).fit(X)
    with pytest.raises(ValueError, match=r"patches of one with dilation=20.*smaller dilation"):
        small(dilation=20, patch_size=3, padding=0).fit(X)
    model = small().fit(X)
    assert_array_equal(small().fit(memoryview(X)).means_, model.means_)
    with pytest.raises(ValueError, match="a number from 0 to 1e"):
        small(padding="same").fit(X).transform_pixels(X, widths=[1e300])
