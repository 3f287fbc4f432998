"""What a user gets who passes what is no array of images: what was got, expected, what to do."""

import copy
import pickle
import warnings
from pathlib import Path

import dask.array as da
import dask.bag
import numpy as np
import pandas as pd
import pytest
import torch
import torch.masked
from numpy.testing import assert_array_equal
from PIL import Image
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from torch.utils.data import DataLoader, TensorDataset

from _cases import (
    ROWS,
    X,
    all_of,
    assert_same_state,
    assert_unchanged_by,
    bad,
    named,
    small,
    spoiled,
)

NAN_WORDS = ("NaN or infinity", "first in image 19", "not accepted", "drop")
LARGE_WORDS = ("value too large for float32", "scale large values down")
FEW_WORDS = ("too few for n_components", "Give more images, lower n_components")
AXES_WORDS = ("Expected images of shape (n, height, width)", "got an array of", "Reshape your data")

BAD_DATA = [
    bad("scalar", ("at least 1 dimension", "got scalar"), data=3.0, error=TypeError),
    bad("one_axis", (*AXES_WORDS[:2], "1 dimension(s), shape (6,)", AXES_WORDS[2]), data=X[0, 0]),
    bad("five_axes", (*AXES_WORDS[:2], "5 dimension(s)", AXES_WORDS[2]), data=X[None, None]),
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


FILE_WORDS = ("files are not read", "Read the images first")
LOADER_WORDS = ("one by one or in batches", "partial_fit with each batch", "np.stack")
DASK_WORDS = ("expected a Dask array",)
MASK_WORDS = ("masked", "first in image 3", "drop such images, or fill them in")
RAGGED = [np.zeros((6, 6)), np.zeros((5, 6))]
CELLS = pd.Series(list(X))
PICTURE = Image.fromarray(np.zeros((6, 6, 3), np.uint8))


def objects(items):
    """A list as an array of objects."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


def masked(images=X):
    """Images of which one value of image 3 is masked."""
    images = np.ma.masked_array(images, np.zeros(images.shape, bool))
    images[(3,) + (1,) * (images.ndim - 1)] = np.ma.masked
    return images


def nested(arrays):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls them a prototype
        return torch.nested.nested_tensor([torch.asarray(array) for array in arrays])


def masked_tensor():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.masked.masked_tensor(torch.asarray(X.copy()), torch.asarray(X > 0.1))


def missing():
    """A frame of integers of which one is not there."""
    frame = pd.DataFrame((ROWS * 9).astype(int)).astype("Int64")
    frame.iloc[3, 3] = pd.NA
    return frame


class DataFrame:
    """What the door sees of a Dask data frame, which needs more packages than the tests have."""

    shape, columns = (None, 36), range(36)

    def to_dask_array(self, lengths):
        """Never called."""


class Images(torch.utils.data.Dataset):
    """A data set of torch, which is no sequence of Python's."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return torch.asarray(X[i].copy()), 0


def wrong(name, words, data):
    return bad(name, words, data=data, error=TypeError)


NO_ARRAYS = [
    wrong("None", ("X is None", "expected an array of shape (n, height, width"), None),
    wrong("object", ("X is a object", "expected an array"), object()),
    wrong("function", ("X is a function", "expected an array"), len and (lambda: X)),
    wrong("path", ("'images/digits'", *FILE_WORDS), "images/digits"),
    wrong("path_object", ("digits", *FILE_WORDS), Path("images/digits")),
    wrong("bytes", FILE_WORDS, b"images/digits"),
    wrong("paths", ("the first 'a.png'", *FILE_WORDS), ["a.png", "b.png"]),
    wrong("path_objects", ("a.png", *FILE_WORDS), [Path("a.png"), Path("b.png")]),
    wrong("array_of_paths", ("the first 'a.png'", *FILE_WORDS), np.array(["a.png", "b.png"])),
    wrong("column_of_paths", FILE_WORDS, pd.Series(["a.png", "b.png"])),
    wrong("dict", ("a dict with keys 'images', 'y'", "alone"), {"images": X, "y": 0}),
    wrong("bunch", ("a Bunch with keys 'data'", "Pass the images in it alone"), load_digits()),
    wrong("dicts", ("X[0] is a dict", "expected an image"), [{"image": X[0]}]),
    wrong("picture", ("one picture", "np.asarray(X)[np.newaxis]"), PICTURE),
    wrong("generator", ("a generator", *LOADER_WORDS), (image for image in X)),
    wrong("map", ("a map", *LOADER_WORDS), map(np.asarray, X)),
    wrong("set", ("a set", *LOADER_WORDS), {1, 2}),
    wrong("data_set", ("a Images", *LOADER_WORDS), Images()),
    wrong("loader", ("a DataLoader", *LOADER_WORDS), DataLoader(Images(), 4)),
    wrong("tensor_data_set", LOADER_WORDS, TensorDataset(torch.zeros(9, 6, 6))),
    wrong("dask_frame", ("Dask DataFrame", *DASK_WORDS, "X.to_dask_array("), DataFrame()),
    wrong("dask_bag", ("Dask Bag", *DASK_WORDS, "X.compute()"), dask.bag.from_sequence(list(X))),
    wrong("delayed", ("Dask Delayed", *DASK_WORDS, "from_delayed"), dask.delayed(X)),
    wrong("sparse_tensor", ("sparse tensor", "X.to_dense()"), torch.eye(36).to_sparse()),
    wrong("meta_tensor", "holds no values", torch.empty(20, 6, 6, device="meta")),
    wrong("fields", ("X has dtype [('a', '<f4')]", "expected"), np.zeros(20, [("a", "<f4")])),
    bad("nested_tensor", ("nested tensor", "X.unbind()"), data=nested(RAGGED)),
    bad("ragged_within", ("X[0] is a list of parts of several sizes",), data=[[[1, 2], [3]]]),
    bad("pairs", ("X[0] is a tuple", "[image for image, _ in X]"), data=[(x, 0) for x in X]),
    bad(
        "column_beside_others",
        ("2 columns, of which some hold whole images", "X['image']"),
        data=pd.DataFrame({"image": CELLS, "label": 0}),
    ),
    bad("masked", ("X is a masked array", *MASK_WORDS, "X.filled"), data=masked()),
    bad("masked_rows", MASK_WORDS, data=masked(ROWS)),
    bad("masked_integers", MASK_WORDS, data=masked((X * 9).astype(int))),
    bad("masked_in_a_list", MASK_WORDS, data=list(masked())),
    bad("masked_in_a_column", MASK_WORDS, data=pd.Series(list(masked()))),
    bad("masked_tensor", ("X is a masked tensor", "fill them in"), data=masked_tensor()),
    bad("missing_in_a_frame", NAN_WORDS[0], data=missing()),
]


@named([*BAD_DATA, *NO_ARRAYS])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_first_fit_says_what_is_wrong(case, method):
    model = small(**case.parameters)
    before = set(vars(model))
    with pytest.raises(case.error, match=case.pattern):
        getattr(model, method)(case.data, sample_weight=case.sample_weight)
    assert set(vars(model)) == before


# What a fitted model would say something else of.
NO_REFIT = ("too_few", "data_frame_of_text")
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


@named([*BAD_FOR_FITTED, *NO_ARRAYS])
@pytest.mark.parametrize(
    "method", ["transform", "score_samples", "score_map", "score", "partial_fit"]
)
def test_a_fitted_model_says_what_is_wrong_and_stays(case, method):
    columns = [f"a{i}" for i in range(36)]
    train = pd.DataFrame(ROWS, columns=columns) if case.name == "other_names" else X
    model = small(**case.parameters).fit(train)
    assert_unchanged_by(model, train, method, case)


@named([case for case in [*BAD_DATA, *NO_ARRAYS] if case.name not in NO_REFIT])
def test_a_failed_refit_leaves_the_model(case):
    assert_unchanged_by(small().fit(X).set_params(**case.parameters), X, "fit", case)


@pytest.mark.parametrize(
    "method", ["fit", "partial_fit", "transform", "score_samples", "score_map", "score"]
)
def test_masked_values_of_dask_arrays(method):
    """They are found where blocks are read; the number is that of the image in the whole array."""
    model = small().fit(X)
    for chunks in (2, 20):
        lazy = da.from_array(masked(), chunks=(chunks, -1, -1))
        with pytest.raises(ValueError, match=all_of("masked", "first in image", "fill them in")):
            np.asarray(getattr(model, method)(lazy))
    with pytest.raises(ValueError, match="first in image 3"):
        model.fit(lazy)


@pytest.mark.parametrize("kind", ["masked", "NaN"])
def test_missing_values_where_a_fit_sees_a_sample_of_patches(kind, monkeypatch):
    """Values are refused where patches are drawn, as they are where images are read."""
    monkeypatch.setattr("sklearn_calm._mixture.seeds.MAX_PATCHES", 200)
    images = masked()
    images = images.filled(np.nan) if kind == "NaN" else images
    lazy = da.from_array(images, chunks=(4, -1, -1))
    with pytest.raises(ValueError, match=all_of(kind, "first in image 3", "fill")):
        small(patch_size=3).fit(lazy)


def test_masked_arrays_that_mask_nothing_are_arrays():
    whole = np.ma.masked_array(X, np.zeros(X.shape, bool))
    expected = small().fit(X)
    for same in (np.ma.masked_array(X), whole, list(whole), da.from_array(whole, chunks=7)):
        model = small().fit(same)
        np.testing.assert_allclose(model.means_, expected.means_, rtol=1e-5, atol=1e-6)
        assert not isinstance(model.means_, np.ma.MaskedArray)
        assert not isinstance(model.transform(whole), np.ma.MaskedArray)


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


def test_the_comparison_of_states_sees_a_difference():
    model = small().fit(X)
    before = copy.deepcopy(vars(model))
    assert_same_state(vars(model), before)
    model._layer.weight[0, 0] += 1e-6
    with pytest.raises(AssertionError, match="_layer"):
        assert_same_state(vars(model), before)


@pytest.mark.parametrize(
    "method", ["transform", "score_samples", "score_map", "score", "get_feature_names_out"]
)
def test_unfitted_use(method):
    arguments = () if method == "get_feature_names_out" else (X,)
    with pytest.raises(NotFittedError, match=all_of("not fitted yet", "Call 'fit'")):
        getattr(small(), method)(*arguments)


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
