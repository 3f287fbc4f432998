"""Callbacks see every task of a fit, and the model as it would be had the fit ended there."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from _recorders import (
    HAS_CALLBACKS,
    MANY,
    STEPS,
    Failing,
    HeldOut,
    Keeper,
    Recorder,
    assert_same_fit,
    make,
    make_images,
    make_staged,
    needs_callbacks,
    seeds,
    settings,
)
from sklearn_calm import ConvGMMFeatures
from sklearn_calm._callbacks import FitTask
from sklearn_calm._sklearn import NoContext

if HAS_CALLBACKS:
    from sklearn.callback import ScoringMonitor


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
@pytest.mark.parametrize("subsample", [2500, 2600])
def test_there_is_no_stage_where_a_sample_is_fitted(subsample):
    X, recorder = make_images(4, n=2600, shape=(3, 3)), Recorder()
    features = make(subsample=subsample, tol=0.05, padding=0).set_params(pool_grid=1)
    features.set_callbacks(recorder).fit(X)
    names = [entry[1] for entry in recorder.log if entry[0] == "begin"]
    assert ("stepwise stage" in names) == (subsample == len(X))


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


# Without callbacks


def test_who_is_not_told_stops_nothing():
    for n_starts in (1, 2):
        task = FitTask(NoContext(), {}, n_starts)
        assert not task.begin("start").begin("pass", 3).begin("step").end()
        assert not task.begin("start").end(None)
