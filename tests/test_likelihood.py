"""Log-likelihoods of images by the fitted estimator."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GridSearchCV

from _models import RAW, assignments, make_images, preprocessings, small


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


@assignments
@preprocessings
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", [51, 52])
def test_maps_add_up_to_the_scores(assignment, preprocessing, dtype, seed):
    X = make_images(seed, dtype=dtype)
    model = small(assignment=assignment, **preprocessing).fit(X)
    maps = model.score_map(X)
    assert maps.dtype == np.float64
    assert maps.shape == (30, *{"image": (1, 1), "patch": (6, 7)}.get(assignment, assignment))
    assert_allclose(maps.sum(axis=(1, 2)), model.score_samples(X), rtol=1e-9)


@pytest.mark.parametrize("patch_size", [3, 4, (2, 5)])
def test_with_padding_same_maps_have_the_size_of_the_images(patch_size):
    X = make_images(53)
    model = small(patch_size=patch_size, padding="same", **RAW).fit(X)
    assert model.score_map(X).shape == X.shape
    assert model.set_params(stride=2).fit(X).score_map(X).shape == (30, 4, 5)


def test_maps_of_any_number_of_threads_and_batches():
    X = make_images(54)
    model = small(batch_size=4).fit(X)
    expected = model.score_map(X)
    assert_array_equal(model.set_params(n_jobs=2).score_map(X), expected)
    assert_allclose(model.set_params(batch_size=30).score_map(X), expected, rtol=1e-9)


def test_a_planted_defect_is_the_least_likely_place():
    X = np.random.default_rng(55).normal(size=(40, 15, 17))
    model = small(padding="same", normalize=None).fit(X)
    X[0, 4, 11] += 12
    row, column = np.unravel_index(model.score_map(X[:1])[0].argmin(), (15, 17))
    assert abs(row - 4) <= 1
    assert abs(column - 11) <= 1


@assignments
@pytest.mark.parametrize("symmetry", ["mirror", "rotation", "sign"])
def test_maps_of_tied_kernels_add_up(assignment, symmetry):
    X = make_images(56)
    model = small(assignment=assignment, symmetry=symmetry).fit(X)
    assert_allclose(model.score_map(X).sum(axis=(1, 2)), model.score_samples(X), rtol=1e-9)


@pytest.mark.parametrize("method", ["score_samples", "score_map", "score"])
def test_parameters_that_were_changed_are_checked(method):
    X = make_images(0)
    model = small().fit(X)
    with pytest.raises(ValueError, match="'batch_size' parameter"):
        getattr(model.set_params(batch_size=0), method)(X)


@pytest.mark.parametrize("fitted", ["image", "patch"])
def test_an_assignment_that_was_changed_after_the_fit_does_nothing(fitted):
    X, other = make_images(1), {"image": "patch", "patch": "image"}[fitted]
    model = small(assignment=fitted, pooling="mean", padding=1).fit(X)
    before = model.transform(X), model.score_map(X)
    model.set_params(assignment=other)
    for found, expected in zip((model.transform(X), model.score_map(X)), before, strict=True):
        assert_array_equal(found, expected)
