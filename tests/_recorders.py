"""Callbacks that write down what a fit tells them, and fits for them."""

import importlib.util

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_calm import ConvGMMFeatures

HAS_CALLBACKS = importlib.util.find_spec("sklearn.callback") is not None
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
