from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose

from _twins import (
    assert_statistics_close,
    assignments,
    make_em,
    make_problem,
    preprocessings,
    seeds,
)
from sklearn_calm._fitting import fit_best
from sklearn_calm._images.reader import Images
from sklearn_calm._mixture.em import blend, objective
from sklearn_calm._mixture.history import History
from sklearn_calm._mixture.stepwise import (
    STAGE_RUNS,
    count_steps,
    stage_rows,
    stepwise_stage,
    stream_step,
)


def new_history(problem, tol=0.0, max_iter=10):
    return History(tol, max_iter, problem.model.cells.n_cells)


# Steps over a stream


@assignments
@preprocessings
@seeds
def test_a_step_of_rate_one_is_a_full_pass(assignment, preprocessing, seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, assignment, preprocessing, n_images=6)
    parameters = problem.parameters(rng)._replace(weights=np.full(3, 1 / 3))
    parameters = parameters._replace(means=0.5 * parameters.means)
    em = make_em(problem)
    statistics = em.statistics(parameters)
    expected = em.m_step(statistics, parameters)
    # Whatever was seen before counts for nothing, and so does nothing seen before.
    past = blend(statistics, statistics, 0.5)._replace(sums=rng.normal(size=statistics.sums.shape))
    for old in (past, None):
        new, blended, lower_bound, n_revived = stream_step(make_em(problem), parameters, old, 1.0)
        assert n_revived == 0
        assert_allclose(new.means, expected.means, rtol=1e-10)
        assert_allclose(new.weights, expected.weights, rtol=1e-10)
        assert new.noise_variance == pytest.approx(expected.noise_variance, rel=1e-10)
        assert lower_bound == objective(statistics, parameters.noise_variance)
        assert blended.n_images == pytest.approx(1)


@pytest.mark.parametrize("rate", [0.1, 0.7])
def test_a_step_blends_the_batch_into_the_past(rate):
    rng = np.random.default_rng(4)
    problem = make_problem(rng, "patch", "contrast", n_images=8)
    parameters = problem.parameters(rng)
    images = make_problem(rng, "patch", "contrast", n_images=3).images
    past = make_em(problem).statistics(parameters)
    em = make_em(problem._replace(images=images))
    new = em.statistics(parameters)
    found, blended, _, _ = stream_step(em, parameters, past, rate)
    assert_statistics_close(blended, blend(past, new, rate), rtol=1e-12)
    sums = (1 - rate) * past.sums / past.n_images + rate * new.sums / new.n_images
    counts = (1 - rate) * past.counts / past.n_images + rate * new.counts / new.n_images
    assert_allclose(found.means, sums / counts[:, None], rtol=1e-10)


# The stepwise stage


def sorted_blobs(rng, n_images=2400, n_kinds=4):
    """Images of noise about a few patterns, sorted by pattern."""
    patterns = rng.normal(size=(n_kinds, 4, 5, 1)) * 2
    kinds = np.sort(rng.integers(n_kinds, size=n_images))
    return patterns[kinds] + rng.normal(size=(n_images, 4, 5, 1))


def blob_problem(rng, **options):
    return make_problem(rng, X=sorted_blobs(rng), geometry=((4, 5), (1, 1), (0, 0), 1), **options)


def run_stage(problem, parameters, **options):
    """The parameters where the stage ends, and Q."""
    em = make_em(problem, **options)
    return stepwise_stage(em, parameters, new_history(problem)), em.energy


@preprocessings
@pytest.mark.parametrize("seed", [0, 1])
def test_the_stage_sees_every_image_once(preprocessing, seed):
    rng = np.random.default_rng(seed)
    problem = blob_problem(rng, preprocessing=preprocessing)
    parameters = problem.parameters(rng)
    staged, energy = run_stage(problem, parameters, batch_size=100)
    whole = make_em(problem, batch_size=100).statistics(parameters)
    assert energy == pytest.approx(whole.energy, rel=1e-10)
    assert np.isfinite(staged.means).all()
    assert staged.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_stage_is_worth_several_passes_even_on_sorted_images(seed):
    rng = np.random.default_rng(seed)
    problem = blob_problem(rng, weighted=False)
    parameters = problem.parameters(rng, n_components=4)
    bounds = [
        fit_best(
            [parameters],
            partial(make_em, problem, batch_size=500),
            partial(History, 0, 2, 1),
            stepwise=stepwise,
        ).history.lower_bounds
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
        run_stage(problem, parameters, batch_size=size) for size in (7, 3000)
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
    staged, energy = run_stage(problem, parameters)
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
    staged, energy = run_stage(problem, parameters)
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
            assert n_runs <= STAGE_RUNS + 1
        assert rows[0] < n_images / 4
        assert rows[-1] > n_images / 2
        sizes.append(len(rows))
    assert len(sizes) == n_steps
    assert (seen == 1).all()
    assert max(sizes) < 2 * np.mean(sizes)


@pytest.mark.parametrize("patches_per_image", [1.0, 30.0])
def test_dead_components_of_a_stream_are_weighed_as_its_batch_is(patches_per_image):
    rng = np.random.default_rng(12)
    problem = make_problem(rng, "patch", "raw", n_images=5)
    parameters, em, scales = problem.parameters(rng), make_em(problem), []

    def revive(statistics, parameters, scale):
        scales.append(scale)
        return parameters, 0

    em.revive = revive
    first = stream_step(em, parameters, None, 0.3, patches_per_image)
    stream_step(em, parameters, first.statistics, 0.3, patches_per_image)
    # A cell of an image of weight 1 has this count among those of the step, which are per image.
    share = patches_per_image / problem.sample_weight.sum()
    assert_allclose(scales, [share, 0.3 * share], rtol=1e-12)
