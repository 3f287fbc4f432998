import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp

import _reference
from _twins import assignments, make_em, make_problem, preprocessings
from sklearn_calm._images.reader import Images
from sklearn_calm._mixture.em import dead_components, objective
from sklearn_calm._mixture.model import MixtureParameters

uniform_or_learned = pytest.mark.parametrize("learn_weights", [True, False])
seeds = pytest.mark.parametrize("seed", [0, 1, 2])


def make_dead(rng, problem, dead=(1,), noise_variance=0.5):
    """Four components, of which some are too far away from everything to explain it."""
    parameters = problem.parameters(rng, 4, noise_variance)._replace(weights=np.full(4, 1 / 4))
    means = parameters.means * 0.7 * np.sqrt(noise_variance)
    for k in dead:
        means[k] *= 1e4
    return parameters._replace(means=means)


def step(problem, parameters, em):
    """An E-step and an M-step: statistics, new parameters."""
    statistics = em.statistics(parameters)
    return statistics, em.m_step(statistics, parameters)


def is_dead(problem, statistics):
    return dead_components(statistics, problem.images.least_weight)


def log_likelihood(problem, parameters, em):
    statistics = em.statistics(parameters)
    return objective(statistics, parameters.noise_variance)


def literal_choice(problem, parameters, statistics, learn_weights):
    """x~ of the patch that gains most as a new component, image weights and all: (D,)."""
    best, choice = -np.inf, None
    setting, variance = problem.setting, parameters.noise_variance
    for image, w in zip(problem.images.X, problem.sample_weight, strict=True):
        with np.errstate(divide="ignore"):  # a dead component may have weight 0
            joint = _reference.log_joint(image, _reference.Mixture(*parameters), setting)
        y = _reference.preprocessed_patches(image, setting)
        raw = _reference.patch_vectors(image, setting)
        rows, cols = joint.shape[:2]
        cells = _reference.cells(setting.assignment, rows, cols)
        share = w / statistics.counts.sum() if learn_weights else 1 / len(parameters.weights)
        for cell in cells:
            known = logsumexp(_reference.cell_scores(joint, cell))
            for u in cell:
                new = y[u] @ y[u] / (2 * variance) - np.log(rows * cols / len(cells))
                worth = w * np.logaddexp(0, np.log(share) + new - known)
                if learn_weights:
                    worth -= 2 * w
                if worth > best:
                    best = worth
                    choice = _reference.preprocess(raw[u], setting.contrast_floor, None, None)
    return choice


@assignments
@preprocessings
@uniform_or_learned
@seeds
def test_a_dead_component_gets_the_worst_patch_and_the_objective_rises(
    assignment, preprocessing, learn_weights, seed
):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, assignment, preprocessing, n_images=6)
    # Normalised patches are of bounded length: only less noise makes them worth a component.
    noise_variance = 0.5 if preprocessing in ("raw", "whitened") else 0.1
    em = make_em(problem, learn_weights=learn_weights, noise_variance=noise_variance)
    parameters = make_dead(rng, problem, noise_variance=noise_variance)
    statistics, parameters = step(problem, parameters, em)
    # A single pass leaves the other three alive.
    assert_array_equal(is_dead(problem, statistics), [False, True, False, False])
    revived, n_reseeded = em.revive(statistics, parameters)
    assert n_reseeded == 1
    # The others stay; the dead one starts from the patch that a literal search finds.
    alive = [0, 2, 3]
    assert_array_equal(revived.means[alive], parameters.means[alive])
    expected = literal_choice(problem, parameters, statistics, learn_weights)
    assert_allclose(revived.means[1], expected, rtol=1e-10, atol=1e-12)
    assert revived.weights.sum() == pytest.approx(1)
    assert revived.noise_variance == parameters.noise_variance
    if not learn_weights:
        assert_array_equal(revived.weights, parameters.weights)
    before = log_likelihood(problem, parameters, em)
    assert log_likelihood(problem, revived, em) > before


@assignments
@pytest.mark.parametrize("preprocessing", ["raw", "both"])
@uniform_or_learned
@pytest.mark.parametrize("dead", [(0, 2), (0, 1, 3)])
@pytest.mark.parametrize("noise_variance", ["auto", "fixed"])
@seeds
def test_several_dead_components_never_lower_the_objective(
    assignment, preprocessing, learn_weights, dead, noise_variance, seed
):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, assignment, preprocessing, n_images=6)
    # Normalised patches are of bounded length, and as many dead components share the worth.
    start = 0.2 if preprocessing == "raw" else 0.02
    noise = start if noise_variance == "fixed" else "auto"
    em = make_em(problem, learn_weights=learn_weights, noise_variance=noise)
    parameters = make_dead(rng, problem, dead, noise_variance=start)
    revived_in_all = 0
    for _ in range(8):
        statistics, parameters = step(problem, parameters, em)
        revived, n_reseeded = em.revive(statistics, parameters)
        before = log_likelihood(problem, parameters, em)
        after = log_likelihood(problem, revived, em)
        assert after >= before - 1e-11 * abs(before)
        parameters = revived
        revived_in_all += n_reseeded
    assert revived_in_all > 0 or noise_variance == "auto"


@uniform_or_learned
def test_the_only_component_of_an_outlier_is_not_taken_from_it(learn_weights):
    # It has a thousandth of an even share of the patches, and yet it explains one that nothing else
    # does: to move it to another outlier loses as much as it gains, and would never end.
    rng = np.random.default_rng(3)
    X = rng.normal(size=(900, 8, 8, 1)) * 0.1
    X[17, :2, :2], X[99, 4:6, 4:6] = 5.0, -2.0
    geometry = ((2, 2), (2, 2), (0, 0), 1)
    problem = make_problem(rng, "patch", "raw", geometry, X=X, weighted=False)
    parameters = MixtureParameters(
        np.array([np.zeros(4), np.full(4, 5.0)]), np.array([0.5, 0.5]), 0.05
    )
    em = make_em(problem, learn_weights=learn_weights, noise_variance=0.05, batch_size=100)
    statistics, parameters = step(problem, parameters, em)
    before = log_likelihood(problem, parameters, em)
    revived, _ = em.revive(statistics, parameters)
    assert log_likelihood(problem, revived, em) >= before - 1e-11 * abs(before)


@preprocessings
@uniform_or_learned
def test_nothing_is_done_where_no_component_is_dead(preprocessing, learn_weights):
    rng = np.random.default_rng(4)
    problem = make_problem(rng, "patch", preprocessing)
    em = make_em(problem, learn_weights=learn_weights)
    parameters = problem.parameters(rng, 4)
    statistics, parameters = step(problem, parameters, em)
    assert not is_dead(problem, statistics).any()
    same, n_reseeded = em.revive(statistics, parameters)
    assert same is parameters
    assert n_reseeded == 0


def test_nothing_is_done_where_everything_is_explained():
    X = np.ones((5, 7, 8, 1))
    problem = make_problem(np.random.default_rng(5), "patch", "raw", X=X, weighted=False)
    means = np.stack([np.ones(6), np.full(6, 1e3)])
    em = make_em(problem, noise_variance=0.1)
    parameters = MixtureParameters(means, np.array([0.5, 0.5]), 0.1)
    statistics, parameters = step(problem, parameters, em)
    assert_array_equal(is_dead(problem, statistics), [False, True])
    same, n_reseeded = em.revive(statistics, parameters)
    assert same is parameters
    assert n_reseeded == 0


@uniform_or_learned
@seeds
def test_equal_worst_images_give_different_patches(learn_weights, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(9, 7, 8, 1)) * 0.1
    worst, second = rng.normal(size=(2, 3, 2))
    for i in (1, 4, 6):
        X[i] = X[1]
        X[i, 2:5, 3:5, 0] = worst * 8
    X[7, 1:4, 4:6, 0] = second * 6
    problem = make_problem(rng, "image", "raw", X=X, weighted=False)
    em = make_em(problem, learn_weights=learn_weights, noise_variance=0.5)
    parameters = MixtureParameters(
        np.concatenate([np.full((2, 6), 1e3), np.zeros((2, 6))]), np.full(4, 1 / 4), 0.5
    )
    statistics, parameters = step(problem, parameters, em)
    revived, n_reseeded = em.revive(statistics, parameters)
    assert n_reseeded == 2
    assert not np.array_equal(revived.means[0], revived.means[1])
    expected = np.stack([worst.ravel() * 8, second.ravel() * 6])
    assert_allclose(
        revived.means[:2][np.argsort(np.abs(revived.means[:2]).sum(axis=1))],
        expected[np.argsort(np.abs(expected).sum(axis=1))],
        rtol=1e-12,
    )
    assert log_likelihood(problem, revived, em) > log_likelihood(problem, parameters, em)


@uniform_or_learned
def test_images_of_weight_zero_give_no_patches(learn_weights):
    rng = np.random.default_rng(6)
    X = rng.normal(size=(6, 7, 8, 1))
    X[2] *= 20
    problem = make_problem(rng, "image", "raw", X=X)
    weights = problem.sample_weight.copy()
    weights[2] = 0
    images = Images(X, problem.model.geometry, weights)
    problem = problem._replace(images=images, sample_weight=weights)
    em = make_em(problem, learn_weights=learn_weights, noise_variance=0.5)
    statistics, parameters = step(problem, make_dead(rng, problem), em)
    revived, n_reseeded = em.revive(statistics, parameters)
    assert n_reseeded == 1
    expected = literal_choice(
        problem._replace(
            images=Images(np.delete(X, 2, axis=0), images.geometry),
            sample_weight=np.delete(weights, 2),
        ),
        parameters,
        statistics,
        learn_weights,
    )
    assert_allclose(revived.means[1], expected, rtol=1e-12)


def test_of_many_images_a_sample_is_searched(monkeypatch):
    rng = np.random.default_rng(7)
    problem = make_problem(rng, "image", "raw", n_images=20)
    monkeypatch.setattr("sklearn_calm._mixture.reseeding.MAX_IMAGES", 5)
    statistics, parameters = step(problem, make_dead(rng, problem), make_em(problem))
    found = []
    for seed in (0, 0, 1, 2):
        em = make_em(problem, random_state=seed)
        revived, n_reseeded = em.revive(statistics, parameters)
        assert n_reseeded <= 1
        before = log_likelihood(problem, parameters, em)
        assert log_likelihood(problem, revived, em) >= before
        found.append(revived.means[1])
    assert_array_equal(found[0], found[1])
    assert len(np.unique(found, axis=0)) > 1


@uniform_or_learned
def test_components_are_revived_that_together_hold_less_than_half_a_cell(learn_weights):
    rng = np.random.default_rng(8)
    problem = make_problem(rng, "patch", "raw", n_images=6, weighted=False)
    em = make_em(problem, learn_weights=learn_weights, noise_variance=0.01)
    parameters = make_dead(rng, problem, (0, 1, 2), noise_variance=0.01)
    statistics = em.statistics(parameters)
    for held, expected in (([0.1, 0.15, 0.2], 3), ([0.2, 0.1, 0.22], 2), ([0.3, 0.3, 0.3], 1)):
        counts = np.array([*held, 5000.0])
        assert is_dead(problem, statistics._replace(counts=counts)).sum() == 3
        revived, n_reseeded = em.revive(statistics._replace(counts=counts), parameters)
        assert n_reseeded == expected
        changed = (revived.means != parameters.means).any(axis=1)
        assert_array_equal(np.flatnonzero(changed), np.sort(np.argsort(held)[:expected]))
