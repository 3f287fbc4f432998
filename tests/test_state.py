import copy
import io
import pickle
import warnings
from numbers import Number

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError

from _models import make_images, small
from sklearn_calm import ConvGMMFeatures, __version__

VERSION = "_sklearn_calm_version"


def images(seed=0):
    return np.random.default_rng(seed).random((30, 6, 6)).astype(np.float32)


def build(fit="fit", **parameters):
    """An estimator that has learned something, by a whole fit or from a stream."""
    model = ConvGMMFeatures(5, patch_size=3, max_iter=3, tol=0, n_jobs=1, random_state=0)
    model.set_params(**parameters)
    if fit == "fit":
        return model.fit(images())
    for part in np.split(images(), 3):
        model.partial_fit(part)
    return model


MODELS = {
    "default": {},
    "streamed": {"fit": "partial_fit"},
    "raw": {"normalize": None, "whiten": False},
    "image": {"assignment": "image", "pooling": "logsumexp"},
    "grid": {"assignment": (2, 3), "pooling": "mean", "padding": (1, 0), "stride": (2, 1)},
    "maps": {"pooling": None},
    "same": {"padding": "same", "patch_size": 4},
    "dilated": {"dilation": (2, 1)},
    "windows": {"pool_window": "gaussian", "pool_width": 0.7},
    "kernels": {"init_params": images()[:5, :3, :3, None]},
    "generator": {"random_state": np.random.RandomState(3)},
}


def by_pickle(model, folder):
    return pickle.loads(pickle.dumps(model))


def by_old_pickle(model, folder):
    return pickle.loads(pickle.dumps(model, protocol=2))


def by_deepcopy(model, folder):
    return copy.deepcopy(model)


def by_joblib(model, folder):
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def by_memory_map(model, folder):
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib", mmap_mode="r")


def by_skops(model, folder):
    # Nothing is trusted but the estimator itself.
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    return skops.io.loads(skops.io.dumps(model), trusted=[name])


def by_memory_map_and_skops(model, folder):
    return by_skops(by_memory_map(model, folder), folder)


ways = pytest.mark.parametrize(
    "way",
    [
        by_pickle,
        by_old_pickle,
        by_deepcopy,
        by_joblib,
        by_memory_map,
        by_skops,
        by_memory_map_and_skops,
    ],
)
models = pytest.mark.parametrize("name", MODELS)


def assert_same_model(found, expected):
    for name, value in expected.get_params().items():
        if not isinstance(value, np.random.RandomState):
            assert_array_equal(getattr(found, name), value, err_msg=name)
            assert isinstance(getattr(found, name), type(value)), name
    X = images(1)
    assert_array_equal(found.transform(X), expected.transform(X))
    assert_array_equal(found.score_samples(X), expected.score_samples(X))
    learned = [name for name in vars(expected) if name.endswith("_")]
    assert "means_" in learned
    for name in learned:
        a, b = getattr(found, name), getattr(expected, name)
        assert_array_equal(a, b, err_msg=name)
        assert isinstance(a, type(b)), name


@ways
@models
def test_a_copy_is_the_same_model_and_goes_on_learning_alike(way, name, tmp_path):
    model = build(**MODELS[name])
    copied = way(model, tmp_path)
    assert_same_model(copied, model)
    before = model.means_.copy()
    for seed in (2, 3):
        copied.partial_fit(images(seed))
        model.partial_fit(images(seed))
    assert not np.array_equal(model.means_, before)
    assert_same_model(copied, model)


@ways
def test_a_copy_goes_on_from_a_warm_start(way, tmp_path):
    model = build(warm_start=True)
    copied = way(model, tmp_path)
    assert_same_model(copied.fit(images(2)), model.fit(images(2)))


@ways
def test_a_copy_learns_apart_from_its_original(way, tmp_path):
    model = build()
    copied = way(model, tmp_path)
    features = model.transform(images(1))
    copied.partial_fit(images(2))
    assert_array_equal(model.transform(images(1)), features)


@ways
def test_an_estimator_that_is_not_fitted(way, tmp_path):
    model = way(ConvGMMFeatures(7, patch_size=(3, 2), image_shape=(6, 6)), tmp_path)
    assert (model.n_components, model.patch_size, model.image_shape) == (7, (3, 2), (6, 6))
    with pytest.raises(NotFittedError):
        model.transform(images())
    assert VERSION not in vars(model)
    assert vars(clone(model)) == vars(model)


@ways
def test_names_of_columns_and_the_container_of_the_output(way, tmp_path):
    frame = pd.DataFrame(images().reshape(30, -1)).add_prefix("pixel")
    model = ConvGMMFeatures(5, patch_size=3, max_iter=2, tol=0, random_state=0)
    model.set_output(transform="pandas").fit(frame)
    pd.testing.assert_frame_equal(way(model, tmp_path).transform(frame), model.transform(frame))


@models
def test_skops_has_nothing_to_trust_but_the_estimator(name):
    model = build(**MODELS[name])
    untrusted = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    assert untrusted == [f"{type(model).__module__}.{type(model).__qualname__}"]


def assert_plain(value, path):
    """Whether a value is made of arrays, numbers, strings, None, and containers of those alone."""
    if isinstance(value, dict):
        assert type(value) is dict, path
        for key, item in value.items():
            assert type(key) is str, path
            assert_plain(item, f"{path}[{key!r}]")
    elif isinstance(value, tuple | list):
        # A named tuple is a tuple too, of a class that would have to be found again.
        assert type(value) in (tuple, list), f"{path} is {type(value)}"
        for i, item in enumerate(value):
            assert_plain(item, f"{path}[{i}]")
    elif isinstance(value, np.ndarray):
        assert type(value) is np.ndarray, f"{path} is {type(value)}"
    else:
        assert value is None or isinstance(value, Number | str), f"{path} is {type(value)}"


@models
@pytest.mark.parametrize("mapped", [False, True])
def test_the_state_is_plain(name, mapped, tmp_path):
    model = build(**MODELS[name])
    if mapped:
        model = by_memory_map(model, tmp_path)
    state = model.__getstate__()
    if name == "generator":
        assert state.pop("random_state") is model.random_state
    assert_plain(state, "state")
    assert state[VERSION] == __version__


def test_the_state_is_no_part_of_the_model():
    # skops asks for the state twice, and callers may do with it what they like.
    model = build()
    before = vars(model).copy()
    first, second = model.__getstate__(), model.__getstate__()
    assert first.keys() == second.keys()
    first.clear()
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[key] is value for key, value in before.items())


def of_version(model, version, **changes):
    """The bytes of a pickle that another version made, with changes of the state."""

    class Pickler(pickle.Pickler):
        def reducer_override(self, obj):
            if obj is not model:
                return NotImplemented
            function, arguments, state = obj.__reduce_ex__(4)[:3]
            return function, arguments, {**state, VERSION: version, **changes}

    file = io.BytesIO()
    Pickler(file).dump(model)
    return file.getvalue()


@pytest.mark.parametrize("fitted", [False, True])
def test_another_version_warns_and_names_both(fitted):
    model = build() if fitted else ConvGMMFeatures()
    with pytest.warns(InconsistentVersionWarning, match="ConvGMMFeatures") as caught:
        found = pickle.loads(of_version(model, "0.0.7"))
    (warning,) = caught
    assert "0.0.7" in str(warning.message)
    assert __version__ in str(warning.message)
    assert VERSION not in vars(found)
    if fitted:
        assert_same_model(found, model)


def test_padding_as_older_versions_wrote_it():
    """As many pixels before the image as after it: one number for both."""
    model = build(padding=(1, 2))
    plain = model.__getstate__()["_model"]
    assert plain["geometry"]["padding"] == ((1, 1), (2, 2))
    plain["geometry"]["padding"] = (1, 2)
    with pytest.warns(InconsistentVersionWarning):
        found = pickle.loads(of_version(model, "0.3.0", _model=plain))
    assert_same_model(found, model)
    assert found._model.geometry == model._model.geometry


def test_the_same_version_does_not_warn():
    model = build()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same_model(pickle.loads(of_version(model, __version__)), model)


@pytest.mark.parametrize("fit", ["fit", "partial_fit"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_pickle_is_the_model(tmp_path, fit, dtype):
    X = make_images(39, dtype=dtype)
    model = getattr(small(), fit)(X)
    joblib.dump(model, tmp_path / "model")
    for found in [pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model")]:
        assert_array_equal(found.transform(X), model.transform(X))
        assert_array_equal(found.score_samples(X), model.score_samples(X))
        twin = pickle.loads(pickle.dumps(model))
        assert_array_equal(found.partial_fit(X[:3]).means_, twin.partial_fit(X[:3]).means_)


def test_a_pickle_is_small():
    """Neither images nor working memory are kept."""
    X = make_images(39, n=2000)
    assert len(pickle.dumps(small().fit(X))) < 20_000
