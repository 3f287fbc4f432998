"""Callbacks of scikit-learn, its pipelines and searches, Dask, copies; and no callbacks at all."""

import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from _recorders import (
    HAS_CALLBACKS,
    MANY,
    Everywhere,
    Keeper,
    Recorder,
    assert_same_fit,
    make,
    make_images,
    make_staged,
    needs_callbacks,
)
from sklearn_calm import ConvGMMFeatures
from sklearn_calm._sklearn import CallbackSupportMixin

if HAS_CALLBACKS:
    from sklearn.callback import ProgressBar, ScoringMonitor


# scikit-learn's own callbacks and estimators


@needs_callbacks
def test_progress_bars(capsys):
    X = make_images(19, n=MANY)
    make_staged(n_init=2, max_iter=100).set_callbacks(ProgressBar()).fit(X)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    names = ["fit", "start #0", "stepwise stage #0", "start #1", "stepwise stage #0"]
    assert len(lines) == len(names)
    for line, name in zip(lines, names, strict=True):
        assert line.startswith(f"ConvGMMFeatures - {name} ")
        assert "100%" in line


@needs_callbacks
def test_a_scoring_monitor_writes_down_each_pass():
    X, weights = make_images(20), np.random.default_rng(0).uniform(1, 2, 60)

    def log_likelihood(model, X, y, sample_weight=None):
        return {"log_likelihood": model.score(X, sample_weight=sample_weight)}

    monitor = ScoringMonitor(scoring=log_likelihood)
    features = make().set_callbacks(monitor).fit(X, np.zeros(60), sample_weight=weights)
    rows = {row["task_id_path"]: row["log_likelihood"] for row in monitor.get_logs().data}
    # A bound is found before its M-step, so it is the score of the pass before.
    assert_allclose([rows[0, i] for i in range(3)], features.lower_bounds_[1:], rtol=1e-9)
    assert rows[0,] == rows[0, 3] == features.score(X, sample_weight=weights)


@needs_callbacks
def test_in_a_pipeline():
    X, y = make_images(21), np.arange(60) % 2
    outer, inner = Everywhere(), Recorder()
    model = make_pipeline(make().set_callbacks(inner), RidgeClassifier())
    with pytest.warns(UserWarning, match="RidgeClassifier does not support callbacks"):
        model.set_callbacks(outer).fit(X, y)
    passes = [("begin", "pass", i, 0) for i in range(4)]
    assert [entry for entry in outer.log if entry[:2] == ("begin", "pass")] == passes
    assert [entry for entry in inner.log if entry[:2] == ("begin", "pass")] == passes
    assert outer.log.count(("setup",)) == outer.log.count(("teardown",)) == 1
    assert vars(model[0]).keys() == vars(make().set_callbacks(inner).fit(X)).keys()
    expected = make_pipeline(make(), RidgeClassifier()).fit(X, y)
    assert_array_equal(model.decision_function(X), expected.decision_function(X))


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_in_a_search(n_jobs):
    X, y = make_images(22), np.zeros(60)
    monitor = ScoringMonitor(scoring={"log_likelihood": _score})
    features = make(max_iter=3).set_callbacks(monitor)
    search = GridSearchCV(features, {"n_components": [2, 3]}, cv=2, n_jobs=n_jobs).fit(X, y)
    rows = monitor.get_logs().data
    # Two candidates on two folds, and the best on all, of three passes each.
    passes = [row for row in rows if row["task_name"] == "pass"]
    assert len(passes) == 5 * 3
    last = max(passes, key=lambda row: (row["task_id_path"][0], row["task_id"]))
    assert last["log_likelihood"] == pytest.approx(search.best_estimator_.score(X), rel=1e-9)


def _score(model, X, y):  # of the module, so that it can be sent to other processes
    return model.score(X)


@needs_callbacks
def test_a_dask_array_is_followed_alike():
    X = make_images(23, n=MANY)
    D = da.from_array(X, chunks=(900, 6, 7))
    recorders, keepers = [Recorder(), Recorder()], [Keeper(), Keeper()]
    for data, *callbacks in zip((X, D), recorders, keepers, strict=True):
        make_staged(max_iter=100).set_callbacks(*callbacks).fit(data)
    assert recorders[0].log == recorders[1].log
    assert [entry[1] for entry in recorders[1].log[1:4]] == ["fit", "stepwise stage", "step"]
    assert all(told[1] is D for told in keepers[1].told)
    for expected, found in zip(keepers[0].kept, keepers[1].kept, strict=True):
        assert_allclose(found.means_, expected.means_, rtol=1e-8, atol=1e-9)
    assert keepers[1].kept[0].score(D) == pytest.approx(keepers[0].kept[0].score(X))


@needs_callbacks
def test_callbacks_do_not_travel_with_the_blocks():
    class StaysHere(Keeper):
        def __reduce__(self):
            raise AssertionError("sent to where a block lies")

    X = make_images(24)
    D = da.from_array(X, chunks=(30, 6, 7))
    callback = StaysHere()
    features = make().set_callbacks(callback).fit(D)
    for model in (features, callback.kept[0]):
        for result in (model.transform(D), model.score_samples(D)):
            cloudpickle.dumps(result)
    assert features._skl_callbacks == [callback]


@needs_callbacks
def test_clones_and_pickles_keep_callbacks():
    callback = Recorder()
    features = make().set_callbacks(callback).fit(make_images(25))
    assert clone(features)._skl_callbacks == [callback]
    n_told = len(callback.log)
    loaded = pickle.loads(pickle.dumps(features))
    loaded.fit(make_images(25))
    assert_same_fit(loaded, features)
    assert len(callback.log) == n_told
    assert len(loaded._skl_callbacks[0].log) == 2 * n_told


@needs_callbacks
def test_a_copy_put_aside_holds_no_tasks():
    keeper = Keeper()
    features = make().set_callbacks(keeper).fit(make_images(26))
    kept = keeper.kept[-1]
    assert set(vars(kept)) == set(vars(features))
    kept.set_callbacks()
    assert b"CallbackContext" not in pickle.dumps(kept)
    assert_same_fit(pickle.loads(pickle.dumps(kept)), features)


# Without callbacks


def test_the_mixin_is_that_of_scikit_learn_where_it_has_one():
    assert CallbackSupportMixin.__module__.startswith("sklearn.") is HAS_CALLBACKS
    assert hasattr(ConvGMMFeatures, "set_callbacks") is HAS_CALLBACKS


WITHOUT = """
import sys
import numpy as np
import sklearn.cluster
import sklearn.model_selection

found = sys.modules.get("sklearn.callback")
sys.modules["sklearn.callback"] = None  # as if there were no such module
from sklearn_calm import ConvGMMFeatures

if found is not None:
    sys.modules["sklearn.callback"] = found  # scikit-learn's own decorators ask for it
features = ConvGMMFeatures(2, patch_size=3, pool_grid=2, max_iter=4, tol=0, random_state=0)
assert not hasattr(features, "set_callbacks")
X = np.load(sys.argv[1])
np.save(sys.argv[1], features.fit(X).partial_fit(X).means_)
"""


def test_without_callbacks_in_scikit_learn_the_fit_is_the_same(tmp_path):
    """On an old scikit-learn it is so by itself; else its module is hidden from ours."""
    X, path = make_images(27), tmp_path / "array.npy"
    np.save(path, X)
    command = [sys.executable, "-c", WITHOUT, str(path)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_allclose(np.load(path), make().fit(X).partial_fit(X).means_, rtol=1e-12, atol=1e-14)
