"""Bad input and the sentences that it gets: what the tables of cases are made of."""

import copy
import re
from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_array_equal

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


def named(cases):
    assert len({case.name for case in cases}) == len(cases)
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


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
