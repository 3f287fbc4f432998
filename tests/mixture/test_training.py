from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _reference
from _twins import (
    assert_statistics_close,
    assignments,
    make_em,
    make_problem,
    preprocessings,
    seeds,
    twin,
)
from sklearn_calm._fitting import fit_best
from sklearn_calm._mixture.history import History
from sklearn_calm._mixture.training import run


def new_history(problem, tol=0.0, max_iter=10):
    return History(tol, max_iter, problem.model.cells.n_cells)


def assert_parameters_equal(a, b):
    for x, y in zip(a, b, strict=True):
        assert_array_equal(x, y)


@assignments
@preprocessings
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batches_are_the_whole(assignment, preprocessing, batch_size):
    rng = np.random.default_rng(0)
    problem = make_problem(rng, assignment, preprocessing, n_images=7)
    parameters = problem.parameters(rng)
    em = make_em(problem, batch_size=batch_size)
    actual = em.statistics(parameters)
    expected = _reference.e_step(
        problem.images.X, problem.sample_weight, _reference.Mixture(*parameters), problem.setting
    )
    assert_statistics_close(actual, expected)
    for _ in range(2):  # the second pass need not look for Q
        assert_statistics_close(em.e_step(parameters), actual, rtol=1e-12)
    assert em.energy == pytest.approx(actual.energy, rel=1e-12)
    assert em.statistics(parameters).energy == 0


@assignments
@preprocessings
@pytest.mark.parametrize("n_jobs", [2, 3])
def test_any_number_of_workers_gives_the_same_bits(assignment, preprocessing, n_jobs):
    fits = []
    for jobs in (1, n_jobs):
        rng = np.random.default_rng(1)
        problem = make_problem(rng, assignment, preprocessing, n_images=11)
        fits.append(
            run(
                make_em(problem, batch_size=2, n_jobs=jobs),
                problem.parameters(rng),
                new_history(problem),
            )
        )
    assert_parameters_equal(fits[0].parameters, fits[1].parameters)
    assert fits[0].history.lower_bounds == fits[1].history.lower_bounds


@assignments
@preprocessings
@pytest.mark.parametrize("learn_weights", [True, False])
@pytest.mark.parametrize("noise_variance", ["auto", 0.3])
@seeds
def test_a_run_never_loses_and_is_the_literal_one(
    assignment, preprocessing, learn_weights, noise_variance, seed
):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, assignment, preprocessing, n_images=5)
    parameters = problem.parameters(rng, noise_variance=0.3)
    parameters = parameters._replace(means=0.5 * parameters.means, weights=np.full(3, 1 / 3))
    em = make_em(problem, learn_weights=learn_weights, noise_variance=noise_variance)
    fit = run(em, parameters, new_history(problem, max_iter=4))
    assert fit.n_reseeded == fit.n_dead == 0
    options = (learn_weights, noise_variance)
    mixture, objectives = _reference.run_em(
        problem.images.X, problem.sample_weight, twin(parameters), problem.setting, 4, *options
    )
    assert_allclose(fit.history.lower_bounds, objectives, rtol=1e-9)
    assert np.diff(objectives).min() >= -1e-11 * np.abs(objectives).max()
    assert_allclose(fit.parameters.means, mixture.means, rtol=1e-7, atol=1e-9)
    assert_allclose(fit.parameters.weights, mixture.weights, rtol=1e-7)
    assert fit.parameters.noise_variance == pytest.approx(mixture.noise_variance, rel=1e-8)


@assignments
@preprocessings
@pytest.mark.parametrize("learn_weights", [True, False])
@seeds
def test_a_run_with_dead_components_never_loses(assignment, preprocessing, learn_weights, seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, assignment, preprocessing, n_images=8)
    parameters = problem.parameters(rng, 6, noise_variance=0.1)
    parameters.means[:3] *= 1e3
    em = make_em(problem, learn_weights=learn_weights, noise_variance=0.1)
    history = new_history(problem, max_iter=25)
    fit = run(em, parameters, history)
    history = fit.history.lower_bounds
    assert np.diff(history).min() >= -1e-11 * np.abs(history).max()
    assert fit.n_reseeded > 0


@pytest.mark.parametrize("max_iter", [1, 6])
def test_tolerance_zero_makes_exactly_max_iter_passes(max_iter):
    rng = np.random.default_rng(2)
    problem = make_problem(rng)
    history = new_history(problem, max_iter=max_iter)
    fit = run(make_em(problem), problem.parameters(rng), history)
    assert fit.history.n_iter == max_iter
    assert not fit.history.converged


def test_a_run_ends_where_the_objective_stands_still():
    rng = np.random.default_rng(3)
    problem = make_problem(rng, "patch", n_images=6)
    history = new_history(problem, tol=1e-3, max_iter=500)
    fit = run(make_em(problem), problem.parameters(rng), history)
    assert fit.history.converged
    gains = np.diff(fit.history.lower_bounds) / problem.model.cells.n_cells
    assert gains[-1] < 1e-3 <= gains[:-1].min()


@seeds
def test_the_best_start_is_kept(seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, "patch", n_images=6)
    starts = [problem.parameters(rng) for _ in range(5)]

    def fit(parameters):
        return run(make_em(problem), parameters, new_history(problem))

    alone = [fit(parameters) for parameters in starts]
    objectives = [one.history.lower_bounds[-1] for one in alone]
    assert len(set(objectives)) == 5
    for order in (starts, starts[::-1]):
        best = fit_best(
            iter(order),
            partial(make_em, problem),
            partial(new_history, problem),
            stepwise=True,  # six images are too few for it
        )
        assert best.history.lower_bounds == alone[np.argmax(objectives)].history.lower_bounds
        assert_parameters_equal(best.parameters, alone[np.argmax(objectives)].parameters)
