"""Callbacks see every task of a fit, and the model as it would be had the fit ended there."""

import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sklearn_calm import ConvGMMFeatures
from sklearn_calm._callbacks import FitTask
from sklearn_calm._sklearn import CallbackSupportMixin, NoContext

HAS_CALLBACKS = importlib.util.find_spec("sklearn.callback") is not None
if HAS_CALLBACKS:
    from sklearn.callback import ProgressBar, ScoringMonitor
needs_callbacks = pytest.mark.skipif(
    not HAS_CALLBACKS, reason="scikit-learn has callbacks since 1.9"
)

SETTINGS = {
    "defaults": {},
    "image": {"assignment": "image", "pooling": "logsumexp"},
    "raw": {"assignment": (2, 2), "normalize": None, "whiten": False},
}
settings = pytest.mark.parametrize("setting", SETTINGS)
seeds = pytest.mark.parametrize("seed", [0, 1])
# So many images are enough for a stepwise stage; 2 components then make 65 steps.
MANY, STEPS = 2100, 65


def make_images(seed, n=60, shape=(6, 7)):
    return np.random.default_rng(seed).normal(size=(n, *shape)) + 0.3


def make(setting="defaults", **options):
    options = {"max_iter": 4, "tol": 0, "n_jobs": 1, "random_state": 0} | options
    return ConvGMMFeatures(2, patch_size=3, pool_grid=2, **(SETTINGS[setting] | options))


def make_staged(**options):
    return make("image", **({"tol": 0.05} | options))


class Recorder:
    """Writes down what it is told."""

    def __init__(self):
        self.log = []

    def setup(self, estimator, context):
        self.log.append(("setup",))

    def on_fit_task_begin(self, estimator, context):
        self.log.append(("begin", context.task_name, context.task_id, context.max_subtasks))

    def on_fit_task_end(self, estimator, context):
        self.log.append(("end", context.task_name, context.task_id))

    def teardown(self, estimator, context):
        self.log.append(("teardown",))


class Everywhere(Recorder):
    """The same, also where it is set on what holds the features."""

    max_propagation_depth = None


class Keeper(Recorder):
    """Keeps the fitted copy at the end of each task of a name, and may stop at one of them."""

    def __init__(self, name="pass", stop_at=None):
        super().__init__()
        self.name, self.stop_at = name, stop_at
        self.kept, self.told = [], []

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        if context.task_name == self.name:
            self.kept.append(fitted_estimator)
            self.told.append((estimator, X, y, metadata))
            return context.task_id == self.stop_at
        return False


class HeldOut(Recorder):
    """Stops where held-out images are explained no better than a pass before."""

    def __init__(self, X):
        super().__init__()
        self.X, self.scores = X, []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name != "pass":
            return False
        self.scores.append(fitted_estimator.score(self.X))
        return len(self.scores) > 1 and self.scores[-1] <= self.scores[-2]


class Failing(Recorder):
    """Fails in a hook, at a task."""

    def __init__(self, hook, name="pass", task_id=0):
        super().__init__()
        self.hook, self.name, self.task_id = hook, name, task_id

    def _fail(self, hook, context):
        place = context.task_name, context.task_id
        if hook == self.hook and (hook == "setup" or place == (self.name, self.task_id)):
            raise OSError("the disk is full")

    def setup(self, estimator, context):
        super().setup(estimator, context)
        self._fail("setup", context)

    def on_fit_task_begin(self, estimator, context):
        self._fail("begin", context)

    def on_fit_task_end(self, estimator, context):
        self._fail("end", context)


def assert_same_fit(found, expected):
    """All that a fit leaves is the same, but for rounding in what is folded together."""
    assert set(vars(found)) - {"_skl_callbacks"} == set(vars(expected)) - {"_skl_callbacks"}
    for name in ("n_iter_", "lower_bounds_", "lower_bound_", "converged_", "n_reseeded_"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.n_samples_seen_ == expected.n_samples_seen_
    assert_array_equal(found.means_, expected.means_)
    assert_array_equal(found.weights_, expected.weights_)
    for x, y in zip(found._statistics, expected._statistics, strict=True):
        assert_array_equal(x, y)
    X = make_images(99, shape=found.image_shape_[:2])
    assert_allclose(found.transform(X), expected.transform(X), rtol=1e-9, atol=1e-12)


# What is told


@needs_callbacks
@settings
def test_every_pass_is_told_in_its_turn(setting):
    recorder = Recorder()
    make(setting).set_callbacks(recorder).fit(make_images(0))
    passes = [(hook, "pass", i) for i in range(4) for hook in ("begin", "end")]
    log = [entry[:3] for entry in recorder.log]
    assert log == [("setup",), ("begin", "fit", 0), *passes, ("end", "fit", 0), ("teardown",)]
    assert recorder.log[1][3] == 4  # most tasks below the fit
    assert recorder.log[2][3] == 0


@needs_callbacks
def test_starts_are_a_level_of_tasks():
    recorder = Recorder()
    make(n_init=3, max_iter=2).set_callbacks(recorder).fit(make_images(1))
    one = [("begin", "pass", 0, 0), ("end", "pass", 0), ("begin", "pass", 1, 0), ("end", "pass", 1)]
    expected = [("begin", "fit", 0, 3)]
    for i in range(3):
        expected += [("begin", "start", i, 2), *one, ("end", "start", i)]
    assert recorder.log[1:-1] == [*expected, ("end", "fit", 0)]


@needs_callbacks
@pytest.mark.parametrize("n_init", [1, 2])
def test_the_stepwise_stage_is_a_task_before_the_passes(n_init):
    recorder = Recorder()
    features = make_staged(n_init=n_init, max_iter=100).set_callbacks(recorder)
    features.fit(make_images(2, n=MANY))
    begun = [entry[1:] for entry in recorder.log if entry[0] == "begin"]
    holder, n_tasks = ("fit", 101) if n_init == 1 else ("start", 101)
    first = begun.index((holder, 0, n_tasks))
    assert begun[first + 1] == ("stepwise stage", 0, STEPS)
    steps = slice(first + 2, first + 2 + STEPS)
    assert begun[steps] == [("step", t, 0) for t in range(STEPS)]
    assert begun[first + 2 + STEPS] == ("pass", 1, 0)
    assert [entry[0] for entry in begun].count("stepwise stage") == n_init
    ended = [entry[1:] for entry in recorder.log if entry[0] == "end"]
    assert sorted(ended) == sorted(entry[:2] for entry in begun)


@needs_callbacks
def test_there_is_no_stage_where_fit_goes_on():
    X = make_images(3, n=MANY)
    features = make_staged(warm_start=True, n_init=2, max_iter=100).fit(X)
    recorder = Recorder()
    features.set_callbacks(recorder).fit(X)
    assert {entry[1] for entry in recorder.log[1:-1]} == {"fit", "pass"}
    assert recorder.log[1] == ("begin", "fit", 0, 100)


@needs_callbacks
@pytest.mark.parametrize("weighted", [False, True])
def test_images_labels_and_weights_are_told_as_they_came(weighted):
    X, y = make_images(4).tolist(), list("ab" * 30)
    weights = np.random.default_rng(0).uniform(1, 2, 60) if weighted else None
    keeper = Keeper()
    features = make().set_callbacks(keeper).fit(X, y, sample_weight=weights)
    assert len(keeper.told) == 4
    for estimator, told_X, told_y, metadata in keeper.told:
        assert estimator is features
        assert told_X is X
        assert told_y is y
        assert metadata is None if weights is None else metadata["sample_weight"] is weights


@needs_callbacks
def test_a_data_frame_is_told_as_one_that_the_copies_know():
    X = make_images(4, shape=(6, 6)).reshape(60, -1)
    frame = pd.DataFrame(X, columns=[f"pixel{i}" for i in range(36)])
    keeper = Keeper()
    make().set_callbacks(keeper).fit(frame)
    for copy, (_, told_X, _, _) in zip(keeper.kept, keeper.told, strict=True):
        assert told_X is frame
        assert copy.transform(told_X).shape == (60, 8)  # without a warning of missing names


@needs_callbacks
def test_partial_fit_tells_nobody():
    recorder = Recorder()
    make().set_callbacks(recorder).partial_fit(make_images(5)).partial_fit(make_images(6))
    assert recorder.log == []


# A fitted copy


@needs_callbacks
@settings
@seeds
def test_the_copy_of_each_pass_is_the_model_of_so_many_passes(setting, seed):
    X = make_images(seed)
    weights = np.random.default_rng(seed).uniform(0.5, 2, len(X))
    keeper = Keeper()
    features = make(setting, random_state=seed).set_callbacks(keeper).fit(X, sample_weight=weights)
    assert [copy.lower_bound_ for copy in keeper.kept] == features.lower_bounds_
    for max_iter, copy in enumerate(keeper.kept, start=1):
        expected = make(setting, random_state=seed, max_iter=max_iter).fit(X, sample_weight=weights)
        assert_same_fit(copy, expected)
        batch = make_images(seed + 10)
        assert_array_equal(copy.partial_fit(batch).means_, expected.partial_fit(batch).means_)
    assert features.n_iter_ == 4  # what was done to the copies did nothing to it


# The model of one pass warns of the component that the second is to revive.
@pytest.mark.filterwarnings("ignore:1 of 3 components:sklearn.exceptions.ConvergenceWarning")
@needs_callbacks
def test_copies_are_right_where_components_are_re_seeded():
    rng = np.random.default_rng(0)
    X = rng.normal(scale=0.1, size=(60, 3, 3))
    X[:30] += 5
    X[59] -= 20
    far = np.stack([np.full((3, 3, 1), value) for value in (5.0, 0.0, 500.0)])
    options = {"init_params": far, "normalize": None, "whiten": False, "tol": 0, "pool_grid": 1}
    keeper = Keeper()
    features = ConvGMMFeatures(3, patch_size=3, max_iter=5, random_state=0, **options)
    features.set_callbacks(keeper).fit(X)
    assert features.n_reseeded_ > 0
    for max_iter, copy in enumerate(keeper.kept, start=1):
        assert_same_fit(copy, clone(features).set_callbacks().set_params(max_iter=max_iter).fit(X))


@needs_callbacks
def test_copies_are_right_where_patches_are_sampled(monkeypatch):
    monkeypatch.setattr("sklearn_calm._mixture.seeds.MAX_PATCHES", 300)
    X, keeper = make_images(7), Keeper()
    make().set_callbacks(keeper).fit(X)
    for max_iter, copy in enumerate(keeper.kept, start=1):
        assert_same_fit(copy, make(max_iter=max_iter).fit(X))


@needs_callbacks
def test_copies_are_of_the_library_of_the_images(from_numpy):
    X = make_images(8).astype(np.float32)
    keeper = Keeper()
    features = make().set_callbacks(keeper).fit(from_numpy(X))
    for copy in keeper.kept:
        assert type(copy.means_) is type(features.means_)
        assert type(copy.transform(from_numpy(X))) is type(features.transform(from_numpy(X)))


@needs_callbacks
def test_the_copy_of_a_start_is_its_last_pass_and_that_of_the_fit_the_best():
    X = make_images(9)
    starts, fit = Keeper("start"), Keeper("fit")
    features = make(n_init=3).set_callbacks(starts, fit).fit(X)
    bounds = [copy.lower_bound_ for copy in starts.kept]
    assert len(set(bounds)) == 3
    assert features.lower_bound_ == max(bounds)
    assert_same_fit(starts.kept[int(np.argmax(bounds))], features)
    assert_same_fit(fit.kept[0], features)


@needs_callbacks
def test_the_copy_of_the_stepwise_stage_has_made_no_pass():
    X = make_images(10, n=MANY)
    stage, steps, passes = Keeper("stepwise stage"), Keeper("step"), Keeper()
    make_staged(max_iter=100).set_callbacks(stage, steps, passes).fit(X)
    (staged,) = stage.kept
    assert steps.kept == [None] * STEPS
    assert (staged.n_iter_, staged.lower_bounds_, staged.converged_) == (0, [], False)
    assert np.isnan(staged.lower_bound_)
    assert staged.score(X) == pytest.approx(passes.kept[0].lower_bound_, rel=1e-9)
    assert np.isfinite(staged.partial_fit(X[:50]).means_).all()


@needs_callbacks
@seeds
def test_scores_of_held_out_images_are_those_of_models_of_so_many_passes(seed):
    X, held_out = make_images(seed), make_images(seed + 20)
    monitor = ScoringMonitor(scoring={"log_likelihood": lambda model, X, y: model.score(held_out)})
    make(random_state=seed).set_callbacks(monitor).fit(X, np.zeros(len(X)))
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "pass"]
    expected = [make(random_state=seed, max_iter=k).fit(X).score(held_out) for k in range(1, 5)]
    assert_allclose([row["log_likelihood"] for row in rows], expected, rtol=1e-9)


@needs_callbacks
@pytest.mark.parametrize("callbacks", [[], ["asks"], ["does not ask"]], ids=str)
def test_a_copy_is_made_only_for_who_asks(callbacks, monkeypatch):
    made = []

    def counted(*args, **options):
        made.append(args)
        return fit_attributes(*args, **options)

    from sklearn_calm._fitting import fit_attributes

    monkeypatch.setattr("sklearn_calm._fitting.fit_attributes", counted)
    kinds = {"asks": Keeper, "does not ask": Recorder}
    make().set_callbacks(*(kinds[name]() for name in callbacks)).fit(make_images(11))
    # One for the model itself; four passes and the fit.
    assert len(made) == (6 if callbacks == ["asks"] else 1)


# Stopping


@needs_callbacks
@settings
def test_a_fit_that_is_stopped_is_a_model_of_fewer_passes(setting):
    X = make_images(12)
    features = make(setting, max_iter=50, tol=1e-12).set_callbacks(Keeper(stop_at=2)).fit(X)
    assert features.n_iter_ == 3
    assert not features.converged_
    assert_same_fit(features, make(setting, max_iter=3).fit(X))
    batch = make_images(13)
    again = make(setting, max_iter=3).fit(X).partial_fit(batch)
    assert_array_equal(features.partial_fit(batch).means_, again.means_)


@needs_callbacks
def test_stopping_by_held_out_images():
    rng = np.random.default_rng(1)
    X, held_out = rng.normal(size=(20, 4, 4)), rng.normal(size=(200, 4, 4))
    callback = HeldOut(held_out)
    options = {"patch_size": 4, "max_iter": 100, "tol": 0, "pool_grid": 1, "random_state": 0}
    features = ConvGMMFeatures(6, normalize=None, whiten=False, **options)
    features.set_callbacks(callback).fit(X)
    assert 1 < features.n_iter_ < 100
    assert features.n_iter_ == len(callback.scores)
    assert np.all(np.diff(callback.scores)[:-1] > 0)
    assert features.score(held_out) == pytest.approx(callback.scores[-1], rel=1e-12)


@needs_callbacks
def test_stopping_a_start_leaves_the_others():
    recorder = Recorder()
    features = make(n_init=3).set_callbacks(Keeper(stop_at=1), recorder).fit(make_images(14))
    ended = [entry[1] for entry in recorder.log if entry[0] == "end"]
    assert ended == [*(["pass"] * 2 + ["start"]) * 3, "fit"]
    assert features.n_iter_ == 2


@needs_callbacks
def test_stopping_after_a_start_keeps_the_best_so_far():
    X = make_images(9)
    starts = Keeper("start", stop_at=1)
    features = make(n_init=3).set_callbacks(starts).fit(X)
    assert len(starts.kept) == 2
    assert features.lower_bound_ == max(copy.lower_bound_ for copy in starts.kept)


@needs_callbacks
def test_stopping_the_stepwise_stage_leaves_one_pass():
    X = make_images(15, n=MANY)
    recorder = Recorder()
    features = make_staged(max_iter=100)
    features.set_callbacks(Keeper("stepwise stage", stop_at=0), recorder).fit(X)
    assert [entry[1] for entry in recorder.log if entry[0] == "end"][STEPS:] == [
        "stepwise stage",
        "pass",
        "fit",
    ]
    assert features.n_iter_ == len(features.lower_bounds_) == 1


@needs_callbacks
@pytest.mark.parametrize("last", [0, 9, STEPS - 1])
def test_stopping_the_steps_goes_on_with_passes(last):
    """The first pass then has to find what the steps left out, the squares of all pixels."""
    X = make_images(16, n=MANY)
    recorder, stage, passes = Recorder(), Keeper("stepwise stage"), Keeper()
    callbacks = [recorder, stage, passes, Keeper("step", stop_at=last)]
    features = make_staged(max_iter=100).set_callbacks(*callbacks).fit(X)
    ended = [entry[1] for entry in recorder.log if entry[0] == "end"]
    assert ended[: last + 3] == ["step"] * (last + 1) + ["stepwise stage", "pass"]
    assert features.converged_
    assert features.n_iter_ > 1
    before = [*stage.kept, *passes.kept[:-1]]
    assert_allclose(features.lower_bounds_, [copy.score(X) for copy in before], rtol=1e-9)


# Errors


@needs_callbacks
@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize(
    "where",
    [("setup",), ("begin", "fit"), ("begin",), ("end", "pass", 2), ("end", "fit")],
    ids=lambda where: "-".join(map(str, where)),
)
def test_a_callback_that_fails_leaves_the_model_as_it_was(where, fitted):
    features = make()
    if fitted:
        features.fit(make_images(17))
    failing, recorder = Failing(*where), Recorder()
    features.set_callbacks(recorder, failing)
    before = vars(features).copy()
    with pytest.raises(OSError, match="the disk is full"):
        features.fit(make_images(18, shape=(7, 8)))
    assert vars(features) == before
    assert recorder.log[-1] == failing.log[-1] == ("teardown",)
    features.set_callbacks().fit(make_images(18))
    assert_same_fit(features, make().fit(make_images(18)))


@needs_callbacks
def test_callbacks_are_torn_down_where_images_are_refused():
    recorder = Recorder()
    features = make().set_callbacks(recorder)
    before = vars(features).copy()
    with pytest.raises(ValueError, match="NaN"):
        features.fit(np.full((60, 6, 7), np.nan))
    assert recorder.log == [("setup",), ("begin", "fit", 0, 4), ("teardown",)]
    assert vars(features) == before


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
    search = GridSearchCV(features, {"n_components": [1, 2]}, cv=2, n_jobs=n_jobs).fit(X, y)
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


def test_who_is_not_told_stops_nothing():
    for n_starts in (1, 2):
        task = FitTask(NoContext(), {}, n_starts)
        assert not task.begin("start").begin("pass", 3).begin("step").end()
        assert not task.begin("start").end(None)


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
