"""Learning from one batch after the other."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _reference
from _models import RAW, assert_same_model, assignments, make_images, preprocessings, small


def test_a_learning_rate_is_a_power_of_the_step():
    """Step t weighs (learning_offset + t) ** -learning_decay (eq. 21); the first one all."""
    X = make_images(30, n=24)
    batches = [X[:10], X[10:11], X[11:24]]
    kernels = np.random.default_rng(30).normal(size=(3, 3, 3))
    options = {"learning_offset": 2.5, "learning_decay": 0.8, "init_params": kernels}
    model = small(**options, **RAW, assignment="image")
    setting = _reference.Setting((3, 3))
    patches = [_reference.patch_vectors(x[..., np.newaxis], setting) for x in batches[0]]
    first = _reference.Mixture(
        kernels.reshape(3, 9), np.full(3, 1 / 3), np.mean(np.square(patches))
    )
    rates = [(2.5 + t) ** -0.8 for t in (1, 2, 3)]
    images = [batch[..., np.newaxis] for batch in batches]
    expected = _reference.run_stepwise_em(images, first, setting, rates)
    for t, (batch, (bound, mixture)) in enumerate(zip(batches, expected, strict=True), start=1):
        model.partial_fit(batch)
        assert model.lower_bound_ == pytest.approx(bound, rel=1e-9)
        assert_allclose(model.means_.reshape(3, 9), mixture.means, rtol=1e-8, atol=1e-10)
        assert_allclose(model.weights_, mixture.weights, rtol=1e-8)
        assert model.noise_variance_ == pytest.approx(mixture.noise_variance, rel=1e-8)
        assert model.n_iter_ == len(model.lower_bounds_) == t
    assert model.n_samples_seen_ == 24
    assert model.n_reseeded_ == 0
    assert not model.converged_


@assignments
@preprocessings
def test_batches_of_any_size_follow_the_first(assignment, preprocessing):
    X = make_images(31)
    model = small(assignment=assignment, **preprocessing).partial_fit(X[:10])
    seen = 10
    for size in (1, 2, 17, 1):
        assert model.partial_fit(X[:size]) is model
        seen += size
        assert np.isfinite(model.transform(X)).all()
    assert model.n_samples_seen_ == seen
    assert model.n_iter_ == 5


@pytest.mark.parametrize("sampled", [False, True])
def test_a_stream_goes_on_from_a_fit(monkeypatch, sampled):
    if sampled:
        monkeypatch.setattr("sklearn_calm._mixture.seeds.MAX_PATCHES", 2000)
    X = make_images(33, n=200)
    model = small(max_iter=30, batch_size=16).fit(X)
    fitted, means = model.score(X), model.means_
    fresh = small(batch_size=16).partial_fit(X[:3])
    model.partial_fit(X[:3])
    # Three images neither wipe out what 200 taught, nor count for nothing.
    assert fresh.score(X) < model.score(X)
    rate = (10 + model.n_iter_) ** -0.7
    assert_allclose(model.score(X), fitted, rtol=rate)
    assert np.abs(model.means_ - means).max() > 1e-6
    assert model.n_samples_seen_ == 203


@assignments
@preprocessings
def test_a_stream_ends_near_fit(monkeypatch, assignment, preprocessing):
    """From one start; preprocessing and start come from the first batch, here all images."""
    # Seeds drawn in may start where little is left to gain: a share of it would say little.
    monkeypatch.setattr("sklearn_calm._mixture.seeds.SEED_LENGTH", 1e6)
    X = make_images(32, n=200)
    # As a mixture of all patches, few images have too many optima to compare for more than one.
    n_components = 1 if assignment == "patch" else 3
    options = {"assignment": assignment, **preprocessing, "n_components": n_components}
    options["pooling"] = "max"  # a single component by the triangle warns
    fitted = small(**options, max_iter=40).fit(X)
    stream = small(**options).partial_fit(X)
    rng = np.random.default_rng(32)
    for _ in range(12):
        for rows in np.split(rng.permutation(200), 10):
            stream.partial_fit(X[rows])
    at_start = fitted.lower_bounds_[0]
    assert stream.lower_bounds_[0] == pytest.approx(at_start, rel=1e-9)
    assert stream.score(X) - at_start > 0.9 * (fitted.score(X) - at_start)
    assert stream.n_samples_seen_ == 200 + 12 * 200


def test_a_stream_does_not_depend_on_jobs():
    X = make_images(33)
    models = [small(n_jobs=n_jobs, batch_size=4) for n_jobs in (1, 2)]
    for model in models:
        for rows in (slice(0, 12), slice(12, 13), slice(13, 30)):
            model.partial_fit(X[rows])
    assert_same_model(*models)


@assignments
@pytest.mark.parametrize("whiten", [False, True])
def test_a_stream_that_goes_on_from_a_fit_forgets_nothing(assignment, whiten):
    """Had one image the last word, more than half of what was gained would be lost."""
    X = make_images(33, n=100)
    model = small(assignment=assignment, normalize=None, whiten=whiten, max_iter=20).fit(X)
    fitted, at_start = model.score(X), model.lower_bounds_[0]
    model.partial_fit(X[:1])
    assert fitted - model.score(X) < 0.1 * (fitted - at_start)


def test_fit_forgets_a_stream_and_its_counts():
    X = make_images(34)
    model = small().partial_fit(X).partial_fit(X).fit(X)
    assert model.n_samples_seen_ == 30
    assert model.n_iter_ == len(model.lower_bounds_) == 3


@pytest.mark.parametrize("first", ["error", "ignore"])
def test_missing_values_may_be_allowed_or_refused_within_a_stream(first):
    X = make_images(9, 60)
    model, other = (small(whiten=False, normalize=None) for _ in range(2))
    for step in range(4):
        batch = X[15 * step : 15 * (step + 1)]
        allowed = (step < 2) == (first == "ignore")
        model.set_params(missing_values="ignore" if allowed else "error").partial_fit(batch)
        other.partial_fit(batch)
    assert_allclose(model.means_, other.means_, rtol=1e-9)
    assert model.noise_variance_ == pytest.approx(other.noise_variance_, rel=1e-9)


def test_a_stream_has_one_assignment():
    X = make_images(9, 30)
    model = small().partial_fit(X)
    means = model.means_
    with pytest.raises(ValueError, match="the stream was begun with another one"):
        model.set_params(assignment="image", padding=1).partial_fit(X)
    assert_array_equal(model.means_, means)
    model.set_params(assignment="patch").partial_fit(X)
