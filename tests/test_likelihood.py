"""Log-likelihoods of images by the fitted estimator."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV

from _models import RAW, assignments, make_images, small


def test_score_is_the_mean_of_score_samples():
    X = make_images(21)
    model = small().fit(X)
    scores = model.score_samples(X)
    assert scores.shape == (30,)
    assert model.score(X) == pytest.approx(scores.mean())
    assert isinstance(model.score(X), float)
    weights = np.random.default_rng(21).random(30)
    assert model.score(X, sample_weight=weights) == pytest.approx(weights @ scores / weights.sum())
    assert model.score(X[:5], sample_weight=2.0) == pytest.approx(scores[:5].mean())


@assignments
def test_the_bound_is_the_score_before_the_last_step(assignment):
    X = make_images(22)
    shorter = small(assignment=assignment, max_iter=4).fit(X)
    longer = small(assignment=assignment, max_iter=5).fit(X)
    assert longer.lower_bound_ == pytest.approx(shorter.score(X), rel=1e-9)
    assert_array_equal(longer.lower_bounds_[:-1], shorter.lower_bounds_)


def test_learned_images_score_best():
    X = make_images(23)
    model = small(assignment="image", **RAW, max_iter=20).fit(X)
    assert model.score(X) > model.score(np.random.default_rng(23).permuted(X, axis=2)) + 1


def test_grid_search_by_likelihood():
    X = make_images(41, n=40)
    model = small(assignment="image", **RAW, max_iter=10)
    search = GridSearchCV(model, {"noise_variance": [0.09, 9.0]}, cv=2, error_score="raise").fit(X)
    assert search.best_params_ == {"noise_variance": 0.09}
