"""What goes through the door, and as what; test_bad_input.py has what does not."""

import subprocess
import sys

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from _models import make_bytes, make_images, small
from sklearn_calm._arrays.door import as_array, first_masked
from sklearn_calm._arrays.namespace import _is_of, is_dask, library_of, numpy_dtype, to_numpy

X = make_images(0, dtype=np.float32)


class Array(np.ndarray):
    """A subclass of NumPy's arrays."""


class Tensor(torch.Tensor):
    """A subclass of torch's tensors, of a module that is not torch's."""


def cells(images):
    array = np.empty(len(images), object)
    array[:] = list(images)
    return array


HOLDERS = {
    "list": list(X),
    "tuple": tuple(X),
    "objects": cells(X),
    "column of objects": cells(X)[:, np.newaxis],
    "series": pd.Series(list(X)),
    "frame": pd.DataFrame({"image": list(X)}),
    "tensors": [torch.asarray(x) for x in X],
    "parameters": [torch.nn.Parameter(torch.asarray(x)) for x in X],
    "lists": X.tolist(),
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_images_of_one_size_are_stacked(holder, method):
    assert_array_equal(as_array(holder), X)
    model = getattr(small(), method)(holder)
    expected = getattr(small(), method)(X)
    assert_allclose(model.means_, expected.means_, rtol=1e-5, atol=1e-6)
    assert_array_equal(model.transform(holder), model.transform(X.astype(model.means_.dtype)))
    assert_array_equal(
        model.score_samples(holder), model.score_samples(np.asarray(as_array(holder)))
    )


def test_pictures_are_stacked():
    images = make_bytes(1, shape=(8, 9, 3))
    assert_array_equal(as_array([Image.fromarray(image) for image in images]), images)


@pytest.mark.parametrize(
    "same", [X, X.astype(">f4"), X.view(Array), np.asfortranarray(X), X.view(np.recarray)]
)
def test_arrays_of_numpy_go_through_as_they_are(same):
    assert as_array(same) is same
    model, expected = small().fit(same), small().fit(X)
    assert_allclose(model.means_, expected.means_, rtol=1e-5, atol=1e-6)
    for method in ("transform", "score_samples"):
        found = getattr(model, method)(same)
        assert type(found) is np.ndarray
        assert found.dtype.isnative
        assert_array_equal(found, getattr(model, method)(X))


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", ">i8"])
def test_the_order_of_bytes_does_not_matter(dtype):
    images = make_bytes(2).astype(dtype)
    native = images.astype(images.dtype.newbyteorder("="))
    expected = small().fit_transform(native)
    assert_array_equal(small().fit_transform(images), expected)
    lazy = da.from_array(images, chunks=(7, -1, -1))
    assert_allclose(small().fit_transform(lazy), expected, rtol=1e-4, atol=1e-5)
    tensors = small(backend="torch").fit_transform(images)
    assert_allclose(tensors, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        torch.nn.Parameter,
        lambda tensor: tensor.as_subclass(Tensor),
        lambda tensor: tensor.requires_grad_(),
        lambda tensor: torch._neg_view(-tensor),
    ],
    ids=["parameter", "subclass", "gradient", "negative"],
)
def test_tensors_of_all_kinds_give_plain_tensors(make):
    tensor = make(torch.asarray(X.copy()))
    assert library_of(tensor) == "torch"
    model = small().fit(tensor, sample_weight=torch.ones(30, requires_grad=True))
    expected = small().fit(X)
    assert_allclose(model.means_.numpy(), expected.means_, rtol=1e-4, atol=1e-4)
    for found in (model.means_, model.transform(tensor), model.score_samples(tensor)):
        assert type(found) is torch.Tensor
        assert not found.requires_grad
    assert_allclose(to_numpy(model.transform(tensor)), model.transform(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float8_e4m3fn"])
def test_short_floats_of_tensors_are_worked_on_in_float32(name):
    tensor = torch.asarray(X).to(getattr(torch, name))
    assert_array_equal(to_numpy(tensor), tensor.float().numpy())
    features = small().fit(tensor).transform(tensor)
    assert features.dtype == torch.float32
    expected = small().fit_transform(tensor.float())
    assert_array_equal(to_numpy(features), to_numpy(expected))


def test_fitted_on_one_library_and_applied_to_another():
    model = small().fit(torch.asarray(X))
    assert type(model.transform(X)) is np.ndarray
    assert type(model.transform(list(X))) is np.ndarray
    assert is_dask(model.transform(da.from_array(X, chunks=(7, -1, -1))))
    assert type(model.partial_fit(X).means_) is np.ndarray
    assert type(model.partial_fit(torch.asarray(X)).means_) is torch.Tensor


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_a_matrix_of_numpy_is_refused():
    with pytest.raises(TypeError, match=r"np.matrix is not supported"):
        small().fit(np.asmatrix(X.reshape(30, -1)))


def test_the_first_masked_row():
    values = np.ma.masked_array(np.zeros((4, 2, 2)), np.zeros((4, 2, 2), bool))
    assert first_masked(values) is None
    assert first_masked(values.data) is None
    values[2, 1, 0] = values[3, 0, 0] = np.ma.masked
    assert first_masked(values) == 2


def test_kinds_are_told_without_array_api_compat():
    tensor, lazy = torch.asarray(X), da.from_array(X)
    for module, kind, own in (
        ("torch", "Tensor", tensor),
        ("dask.array", "Array", lazy),
        ("cupy", "ndarray", None),
    ):
        for x in (X, tensor, lazy, list(X)):
            assert _is_of(module, kind, x) == (x is own)


def test_importing_and_fitting_imports_no_other_library():
    script = (
        "import sys, numpy as np\n"
        "from sklearn_calm import ConvGMMFeatures\n"
        "X = np.random.default_rng(0).random((30, 6, 6))\n"
        "ConvGMMFeatures(3, max_iter=1, tol=0).fit(list(X)).transform(X)\n"
        "heavy = {'torch', 'dask', 'cupy', 'PIL', 'array_api_strict'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_dtypes_that_numpy_knows_keep_their_name():
    for name in ("float64", "uint16", "bool", "complex64"):
        assert numpy_dtype(torch.zeros(1, dtype=getattr(torch, name))) == np.dtype(name)
