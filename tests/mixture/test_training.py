from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _reference
from _twins import ASSIGNMENTS, PREPROCESSINGS, assert_statistics_close, make_learning, make_problem
from sklearn_calm._arrays.execution import single_threaded_blas
from sklearn_calm._images.reader import Images
from sklearn_calm._mixture import training
from sklearn_calm._mixture.em import VARIANCE_FLOOR, blend, objective
from sklearn_calm._mixture.history import ConvergenceMonitor
from sklearn_calm._mixture.preprocessing import fit_preprocessing, normalize_contrast
from sklearn_calm._mixture.seeds import sample_patches
from sklearn_calm._mixture.training import (
    count_steps,
    expectation_maximization,
    fit_best,
    prepare,
    run_e_step,
    stage_rows,
    start,
    start_variance,
    stepwise_stage,
    stepwise_update,
    update,
)

assignments = pytest.mark.parametrize("assignment", ASSIGNMENTS)
preprocessings = pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
seeds = pytest.mark.parametrize("seed", [0, 1])
PREPARED = {"normalize": "contrast", "whiten": True, "reg_covar": 0.1}


def new_monitor(problem, tol=0.0, max_iter=10):
    return ConvergenceMonitor(tol, max_iter, problem.model.cells.n_cells)


def assert_parameters_equal(a, b):
    for x, y in zip(a, b, strict=True):
        assert_array_equal(x, y)


# Passes over all images


@assignments
@preprocessings
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batches_are_the_whole(assignment, preprocessing, batch_size):
    rng = np.random.default_rng(0)
    problem = make_problem(rng, assignment, preprocessing, n_images=7)
    parameters = problem.parameters(rng)
    learning = make_learning(batch_size=batch_size)
    actual = run_e_step(problem.images, parameters, problem.model, learning)
    expected = _reference.e_step(
        problem.images.X, problem.sample_weight, _reference.Mixture(*parameters), problem.setting
    )
    assert_statistics_close(actual, expected)
    spared = run_e_step(problem.images, parameters, problem.model, learning, energy=actual.energy)
    assert_statistics_close(spared, actual, rtol=1e-12)
    assert run_e_step(problem.images, parameters, problem.model, learning, energy=3.0).energy == 3


@assignments
@preprocessings
@pytest.mark.parametrize("n_jobs", [2, 3])
def test_any_number_of_workers_gives_the_same_bits(assignment, preprocessing, n_jobs):
    fits = []
    for jobs in (1, n_jobs):
        rng = np.random.default_rng(1)
        problem = make_problem(rng, assignment, preprocessing, n_images=11)
        fits.append(
            expectation_maximization(
                problem.images,
                problem.parameters(rng),
                problem.model,
                make_learning(batch_size=2, n_jobs=jobs),
                new_monitor(problem),
            )
        )
    assert_parameters_equal(fits[0].parameters, fits[1].parameters)
    assert fits[0].monitor.lower_bounds == fits[1].monitor.lower_bounds


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
    learning = make_learning(learn_weights=learn_weights, noise_variance=noise_variance)
    monitor = new_monitor(problem, max_iter=4)
    fit = expectation_maximization(problem.images, parameters, problem.model, learning, monitor)
    assert fit.n_reseeded == fit.n_dead == 0
    mixture, history = _reference.Mixture(*parameters), []
    for _ in range(4):
        statistics = _reference.e_step(
            problem.images.X, problem.sample_weight, mixture, problem.setting
        )
        value = _reference.objective(statistics, mixture.noise_variance)
        history.append(value / statistics.n_images)
        mixture = _reference.m_step(
            statistics,
            learn_weights,
            noise_variance,
            problem.setting.mean,
            problem.setting.whitener,
        )
    assert_allclose(fit.monitor.lower_bounds, history, rtol=1e-9)
    assert np.diff(history).min() >= -1e-11 * np.abs(history).max()
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
    learning = make_learning(learn_weights=learn_weights, noise_variance=0.1)
    monitor = new_monitor(problem, max_iter=25)
    fit = expectation_maximization(problem.images, parameters, problem.model, learning, monitor)
    history = fit.monitor.lower_bounds
    assert np.diff(history).min() >= -1e-11 * np.abs(history).max()
    assert fit.n_reseeded > 0


@pytest.mark.parametrize("max_iter", [1, 6])
def test_tolerance_zero_makes_exactly_max_iter_passes(max_iter):
    rng = np.random.default_rng(2)
    problem = make_problem(rng)
    monitor = new_monitor(problem, max_iter=max_iter)
    fit = expectation_maximization(
        problem.images, problem.parameters(rng), problem.model, make_learning(), monitor
    )
    assert fit.monitor.n_iter == max_iter
    assert not fit.monitor.converged


def test_a_run_ends_where_the_objective_stands_still():
    rng = np.random.default_rng(3)
    problem = make_problem(rng, "patch", n_images=6)
    monitor = new_monitor(problem, tol=1e-3, max_iter=500)
    fit = expectation_maximization(
        problem.images, problem.parameters(rng), problem.model, make_learning(), monitor
    )
    assert fit.monitor.converged
    gains = np.diff(fit.monitor.lower_bounds) / problem.model.cells.n_cells
    assert gains[-1] < 1e-3 <= gains[:-1].min()


@seeds
def test_the_best_start_is_kept(seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, "patch", n_images=6)
    starts = [problem.parameters(rng) for _ in range(5)]

    def fit(parameters):
        return expectation_maximization(
            problem.images, parameters, problem.model, make_learning(), new_monitor(problem)
        )

    alone = [fit(parameters) for parameters in starts]
    objectives = [one.monitor.lower_bounds[-1] for one in alone]
    assert len(set(objectives)) == 5
    for order in (starts, starts[::-1]):
        best = fit_best(
            problem.images,
            iter(order),
            problem.model,
            make_learning(),
            lambda task: new_monitor(problem),
            stepwise=True,  # three images are too few for it
        )
        assert best.monitor.lower_bounds == alone[np.argmax(objectives)].monitor.lower_bounds
        assert_parameters_equal(best.parameters, alone[np.argmax(objectives)].parameters)


# Steps over a stream


@assignments
@preprocessings
@seeds
def test_a_step_of_rate_one_is_a_full_pass(assignment, preprocessing, seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, assignment, preprocessing, n_images=6)
    parameters = problem.parameters(rng)._replace(weights=np.full(3, 1 / 3))
    parameters = parameters._replace(means=0.5 * parameters.means)
    learning = make_learning()
    statistics = run_e_step(problem.images, parameters, problem.model, learning)
    expected = update(statistics, parameters, problem.model, learning)
    # Whatever was seen before counts for nothing, and so does nothing seen before.
    past = blend(statistics, statistics, 0.5)._replace(sums=rng.normal(size=statistics.sums.shape))
    for old in (past, None):
        new, blended, lower_bound, n_reseeded = stepwise_update(
            problem.images, parameters, old, problem.model, learning, 1.0
        )
        assert n_reseeded == 0
        assert_allclose(new.means, expected.means, rtol=1e-10)
        assert_allclose(new.weights, expected.weights, rtol=1e-10)
        assert new.noise_variance == pytest.approx(expected.noise_variance, rel=1e-10)
        assert lower_bound == objective(statistics, parameters.noise_variance)
        assert blended.n_images == pytest.approx(1)


@pytest.mark.parametrize("rate", [0.1, 0.7])
def test_a_step_blends_the_batch_into_the_past(rate):
    rng = np.random.default_rng(4)
    problem = make_problem(rng, "patch", "contrast", n_images=8)
    parameters, learning = problem.parameters(rng), make_learning()
    first, second = problem._replace(), make_problem(rng, "patch", "contrast", n_images=3)
    past = run_e_step(first.images, parameters, problem.model, learning)
    new = run_e_step(second.images, parameters, problem.model, learning)
    found, blended, _, _ = stepwise_update(
        second.images, parameters, past, problem.model, learning, rate
    )
    assert_statistics_close(blended, blend(past, new, rate), rtol=1e-12)
    sums = (1 - rate) * past.sums / past.n_images + rate * new.sums / new.n_images
    counts = (1 - rate) * past.counts / past.n_images + rate * new.counts / new.n_images
    assert_allclose(found.means, sums / counts[:, None], rtol=1e-10)


# Where a fit starts


@pytest.mark.parametrize(("normalize", "whiten"), [(None, False), ("contrast", True)])
@assignments
def test_what_is_prepared_is_what_all_patches_give(assignment, normalize, whiten):
    problem = make_problem(np.random.default_rng(5), assignment, n_images=5)
    preprocessing, model, sample, images = prepare(
        problem.images,
        assignment,
        normalize=normalize,
        whiten=whiten,
        reg_covar=0.1,
        rng=np.random.RandomState(0),
    )
    raw = sample_patches(problem.images, np.random.RandomState(0))
    with single_threaded_blas():
        expected = fit_preprocessing(
            raw.patches, raw.weights, normalize=normalize, whiten=whiten, reg_covar=0.1
        )
    assert images is problem.images
    assert model.geometry == problem.model.geometry
    assert model.cells == problem.model.cells
    assert_array_equal(sample.patches, normalize_contrast(raw.patches, expected.contrast_floor))
    assert_array_equal(sample.weights, raw.weights)
    assert model.preprocessing is preprocessing
    if whiten:
        assert_array_equal(model.preprocessing.whitener, expected.whitener)
    else:
        assert model.preprocessing.is_identity


def test_preprocessing_is_kept_where_it_is_given():
    problem = make_problem(np.random.default_rng(6), "image", "both")
    _, model, sample, _ = prepare(
        problem.images,
        "image",
        **PREPARED,
        rng=np.random.RandomState(0),
        preprocessing=problem.model.preprocessing,
    )
    assert model.preprocessing is problem.model.preprocessing
    raw = sample_patches(problem.images, np.random.RandomState(0)).patches
    expected = normalize_contrast(raw, model.preprocessing.contrast_floor)
    assert_array_equal(sample.patches, expected)


def test_of_very_many_patches_a_sample_is_fitted(monkeypatch):
    rng = np.random.default_rng(7)
    problem = make_problem(rng, "patch", n_images=30)
    monkeypatch.setattr("sklearn_calm._mixture.seeds.MAX_PATCHES", 300)
    random = {"rng": np.random.RandomState(0)}
    preprocessing, model, sample, images = prepare(problem.images, "patch", **PREPARED, **random)
    assert len(images) == len(sample.patches) == 300
    assert model.cells.n_cells == model.geometry.n_positions == 1
    assert model.geometry.kernel_shape == problem.model.geometry.kernel_shape
    # The sampled patches are normalised already.
    assert preprocessing.contrast_floor > 0
    assert model.preprocessing.contrast_floor is None
    assert_array_equal(images.X.reshape(300, -1), sample.patches)
    # One pass over the sampled patches is a pass of an ordinary mixture over them.
    parameters = problem.parameters(rng)
    statistics = run_e_step(images, parameters, model, make_learning(batch_size=64))
    y = model.preprocessing.whiten(sample.patches)
    theta = model.preprocessing.whiten(parameters.means)
    distances = ((y[:, None] - theta) ** 2).sum(axis=2)
    gamma = parameters.weights * np.exp(-distances / (2 * 0.7))
    gamma /= gamma.sum(axis=1, keepdims=True)
    assert_allclose(statistics.counts, gamma.sum(axis=0), rtol=1e-9)
    assert_allclose(statistics.sums, gamma.T @ sample.patches, rtol=1e-9, atol=1e-9)


def test_of_very_many_patches_a_sample_is_prepared_where_images_are_fitted(monkeypatch):
    problem = make_problem(np.random.default_rng(8), (2, 3), n_images=30)
    monkeypatch.setattr("sklearn_calm._mixture.training.SEED_PATCHES", 100)
    random = {"rng": np.random.RandomState(0)}
    _, model, sample, images = prepare(problem.images, (2, 3), **PREPARED, **random)
    assert images is problem.images
    assert len(sample.patches) == 100
    assert model.cells == problem.model.cells


@assignments
@preprocessings
@pytest.mark.parametrize("noise_variance", ["auto", 0.3])
def test_noise_starts_from_the_nearest_mean_or_from_the_background(
    assignment, preprocessing, noise_variance
):
    problem = make_problem(np.random.default_rng(9), assignment, preprocessing)
    model = problem.model
    raw = sample_patches(problem.images, np.random.RandomState(0))
    sample = raw._replace(
        patches=normalize_contrast(raw.patches, model.preprocessing.contrast_floor)
    )
    learning = make_learning(noise_variance=noise_variance)
    parameters = start(sample, model, 3, "k-means++", learning)
    assert_array_equal(parameters.weights, np.full(3, 1 / 3))
    if noise_variance != "auto":
        assert parameters.noise_variance == noise_variance
        return
    setting = problem.setting
    total = weight = 0.0
    for image, w in zip(problem.images.X, problem.sample_weight, strict=True):
        for y in _reference.preprocessed_patches(image, setting).reshape(-1, 6):
            centres = np.zeros((1, 6))
            if assignment == "patch":
                centres = [
                    _reference.preprocess(mean, None, setting.mean, setting.whitener)
                    for mean in parameters.means
                ]
            total += w * min(np.mean((y - centre) ** 2) for centre in centres)
            weight += w
    assert parameters.noise_variance == pytest.approx(total / weight, rel=1e-8)


def test_start_variance_is_kept_above_rounding_errors():
    errors, squares, weights = np.array([1.0, 4.0]), np.array([8.0, 4.0]), np.array([3.0, 1.0])
    assert start_variance(errors, squares, weights) == 1.75
    assert start_variance(0 * errors, squares, weights) == pytest.approx(7 * VARIANCE_FLOOR)
    assert start_variance(0 * errors, 0 * squares, weights) == 1.0


# The stepwise stage


def sorted_blobs(rng, n_images=2400, n_kinds=4):
    """Images of noise about a few patterns, sorted by pattern."""
    patterns = rng.normal(size=(n_kinds, 4, 5, 1)) * 2
    kinds = np.sort(rng.integers(n_kinds, size=n_images))
    return patterns[kinds] + rng.normal(size=(n_images, 4, 5, 1))


def blob_problem(rng, **options):
    return make_problem(rng, X=sorted_blobs(rng), geometry=((4, 5), (1, 1), (0, 0), 1), **options)


def run_stage(problem, parameters, learning):
    return stepwise_stage(problem.images, parameters, problem.model, learning, new_monitor(problem))


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_stage_sees_every_image_once(preprocessing, seed):
    rng = np.random.default_rng(seed)
    problem = blob_problem(rng, preprocessing=preprocessing)
    parameters = problem.parameters(rng)
    learning = make_learning(batch_size=100)
    staged, energy = run_stage(problem, parameters, learning)
    whole = run_e_step(problem.images, parameters, problem.model, learning)
    assert energy == pytest.approx(whole.energy, rel=1e-10)
    assert np.isfinite(staged.means).all()
    assert staged.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_stage_is_worth_several_passes_even_on_sorted_images(seed):
    rng = np.random.default_rng(seed)
    problem = blob_problem(rng, weighted=False)
    parameters = problem.parameters(rng, n_components=4)
    learning = make_learning(batch_size=500)
    bounds = [
        fit_best(
            problem.images,
            [parameters],
            problem.model,
            learning,
            partial(ConvergenceMonitor, 0, 2, 1),
            stepwise=stepwise,
        ).monitor.lower_bounds
        for stepwise in (False, True)
    ]
    plain, staged = bounds
    assert staged[0] > plain[1]
    assert staged[1] >= staged[0]


def test_the_stage_does_not_depend_on_batches():
    rng = np.random.default_rng(3)
    problem = blob_problem(rng, preprocessing="both")
    parameters = problem.parameters(rng)
    (few, energy), (many, same) = (
        run_stage(problem, parameters, make_learning(batch_size=size)) for size in (7, 3000)
    )
    assert_allclose(few.means, many.means, rtol=1e-8, atol=1e-10)
    assert few.noise_variance == pytest.approx(many.noise_variance, rel=1e-10)
    assert energy == pytest.approx(same, rel=1e-12)


def test_the_stage_passes_over_images_without_weight():
    rng = np.random.default_rng(4)
    problem = blob_problem(rng, weighted=False)
    problem.images.sample_weight = np.zeros(len(problem.images))
    problem.images.sample_weight[:40] = 1
    parameters = problem.parameters(rng)
    staged, energy = run_stage(problem, parameters, make_learning())
    assert np.isfinite(staged.means).all()
    assert energy == pytest.approx((problem.images.X[:40] ** 2).sum(), rel=1e-10)


def test_there_is_no_stage_where_images_are_few():
    rng = np.random.default_rng(5)
    problem = blob_problem(rng)
    few = problem.images
    assert count_steps(few, problem.model, 1) == 150
    assert count_steps(few, problem.model, 3) == 50
    assert count_steps(few, problem.model, 100) == 0
    few = Images(few.X[:2000], few.geometry)
    assert count_steps(few, problem.model, 3) == 0
    parameters = problem.parameters(rng)
    problem = problem._replace(images=few)
    staged, energy = run_stage(problem, parameters, make_learning())
    assert staged is parameters
    assert energy is None


@pytest.mark.parametrize("n_steps", [20, 58, 160])
@pytest.mark.parametrize("n_images", [2048, 60_000, 2_000_003])
def test_the_stage_sees_every_image_once_in_steps_from_all_over(n_images, n_steps):
    seen = np.zeros(n_images, dtype=np.int8)
    sizes = []
    for rows in stage_rows(n_images, n_steps):
        seen[rows] += 1
        assert (np.diff(rows) > 0).all()
        n_runs = 1 + np.count_nonzero(np.diff(rows) > 1)
        assert n_runs >= 3
        if n_images > 1_000_000:
            assert n_runs <= training.STAGE_RUNS + 1
        assert rows[0] < n_images / 4
        assert rows[-1] > n_images / 2
        sizes.append(len(rows))
    assert len(sizes) == n_steps
    assert (seen == 1).all()
    assert max(sizes) < 2 * np.mean(sizes)
