import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _paper
import _reference
from _twins import (
    GEOMETRIES,
    assert_statistics_close,
    assignments,
    geometries,
    grid_that_fits,
    layer_of,
    make_problem,
    patch_types,
    preprocessings,
    seeds,
    twin,
)
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._convolution.pooling import POOLINGS, Pooler
from sklearn_calm._convolution.windows import Windows
from sklearn_calm._mixture.cells import Cells
from sklearn_calm._mixture.em import (
    DEAD_SHARE,
    VARIANCE_FLOOR,
    SufficientStatistics,
    background,
    blend,
    cell_log_likelihoods,
    dead_components,
    e_step,
    floored_variance,
    log_likelihoods,
    m_step,
    merge,
    objective,
)
from sklearn_calm._mixture.features import batch_features, batch_log_likelihoods
from sklearn_calm._mixture.model import (
    MixtureParameters,
    PatchModel,
)
from sklearn_calm._mixture.preprocessing import Preprocessing

# The E-step


@assignments
@preprocessings
@geometries
@seeds
@patch_types
def test_e_step_is_that_of_the_twin(assignment, preprocessing, geometry, seed, patch_type):
    rng = np.random.default_rng(seed)
    assignment = grid_that_fits(assignment, geometry)
    problem = make_problem(rng, assignment, preprocessing, geometry)
    parameters = problem.parameters(rng)
    layer = layer_of(parameters, problem.model, patch_type=patch_type)
    actual = e_step(problem.padded, problem.sample_weight, layer)
    expected = _reference.e_step(
        problem.images.X, problem.sample_weight, twin(parameters), problem.setting
    )
    assert_statistics_close(actual, expected)
    n_cells = problem.model.cells.n_cells * problem.sample_weight.sum()
    assert actual.counts.sum() == pytest.approx(n_cells, rel=1e-10)
    # The objective and the M-step are pure functions of the statistics.
    assert objective(actual, 0.7) * actual.n_images == pytest.approx(
        _reference.objective(expected, 0.7), rel=1e-9
    )


@pytest.mark.parametrize("assignment", ["image", (1, 1), "patch"])
@preprocessings
def test_a_single_position_is_a_single_cell(assignment, preprocessing):
    # The pixels that no patch covers are background, but where every position is a cell.
    rng = np.random.default_rng(16)
    problem = make_problem(rng, assignment, preprocessing, ((2, 3), (6, 6), (0, 0), 1), 9)
    parameters = problem.parameters(rng)
    layer = layer_of(parameters, problem.model)
    actual = e_step(problem.padded, problem.sample_weight, layer)
    expected = _reference.e_step(
        problem.images.X, problem.sample_weight, twin(parameters), problem.setting
    )
    assert problem.model.cells.n_cells == 1
    assert_statistics_close(actual, expected)


@assignments
@preprocessings
@geometries
@patch_types
def test_log_likelihood_of_each_image_is_that_of_the_twin(
    assignment, preprocessing, geometry, patch_type
):
    rng = np.random.default_rng(2)
    problem = make_problem(rng, grid_that_fits(assignment, geometry), preprocessing, geometry)
    parameters = problem.parameters(rng, noise_variance=0.4)
    layer = layer_of(parameters, problem.model, patch_type=patch_type)
    expected = [
        _reference.image_log_likelihood(image, twin(parameters), problem.setting)
        for image in problem.images.X
    ]
    assert_allclose(log_likelihoods(problem.padded, layer, 0.4), expected, rtol=1e-9)
    rows = slice(1, 3)
    actual = batch_log_likelihoods(rows, problem.images, layer, 0.4)
    assert_allclose(actual, expected[rows], rtol=1e-9)
    # The objective of an E-step is the weighted mean of the same.
    statistics = e_step(problem.padded, problem.sample_weight, layer)
    mean = np.average(expected, weights=problem.sample_weight)
    assert objective(statistics, 0.4) == pytest.approx(mean, rel=1e-9)


@assignments
@preprocessings
@geometries
@patch_types
def test_log_likelihood_of_each_cell_is_that_of_the_twin(
    assignment, preprocessing, geometry, patch_type
):
    rng = np.random.default_rng(17)
    problem = make_problem(rng, grid_that_fits(assignment, geometry), preprocessing, geometry)
    parameters = problem.parameters(rng, noise_variance=0.4)
    layer = layer_of(parameters, problem.model, patch_type=patch_type)
    maps = cell_log_likelihoods(problem.padded, layer, 0.4)
    assert maps.shape[1:] == problem.model.cells.sizes.shape
    for image, score_map in zip(problem.images.X, maps, strict=True):
        expected = _reference.cell_log_likelihoods(image, twin(parameters), problem.setting)
        assert_allclose(score_map.ravel(), expected, rtol=1e-9, atol=1e-9)
    sums = maps.sum(axis=(1, 2))
    assert_allclose(sums, log_likelihoods(problem.padded, layer, 0.4), rtol=1e-12, atol=1e-9)


@assignments
@preprocessings
@pytest.mark.parametrize("cuts", [[1], [2, 3], [1, 2, 3]])
def test_statistics_add_over_any_split(assignment, preprocessing, cuts):
    rng = np.random.default_rng(5)
    problem = make_problem(rng, assignment, preprocessing)
    layer = layer_of(problem.parameters(rng), problem.model)
    whole = e_step(problem.padded, problem.sample_weight, layer)
    first, *others = [
        e_step(images, weights, layer)
        for images, weights in zip(
            np.split(problem.padded, cuts), np.split(problem.sample_weight, cuts), strict=True
        )
    ]
    merged = first
    for part in others:
        merged = merge(merged, part)
    assert_statistics_close(merged, whole, rtol=1e-11)


@assignments
@preprocessings
def test_weights_are_repetitions(assignment, preprocessing):
    rng = np.random.default_rng(6)
    problem = make_problem(rng, assignment, preprocessing)
    layer = layer_of(problem.parameters(rng), problem.model)
    counts = np.array([1, 3, 0, 2])
    repeated = np.repeat(problem.padded, counts, axis=0)
    assert_statistics_close(
        e_step(problem.padded, counts.astype(float), layer),
        e_step(repeated, np.ones(len(repeated)), layer),
        rtol=1e-11,
    )


def test_energy_can_be_left_out():
    rng = np.random.default_rng(8)
    problem = make_problem(rng)
    layer = layer_of(problem.parameters(rng), problem.model)
    arguments = (problem.padded, problem.sample_weight, layer)
    full = e_step(*arguments)
    assert full.energy > 0
    assert_statistics_close(e_step(*arguments, with_energy=False), full._replace(energy=0.0))


def test_used_memory_changes_nothing_and_nothing_is_written_to_the_images():
    scratch = Scratch()
    kept = []
    for seed, (preprocessing, assignment) in enumerate(
        [("raw", "image"), ("both", "patch"), ("contrast", (2, 3)), ("whitened", "image")] * 2
    ):
        rng = np.random.default_rng(seed)
        problem = make_problem(rng, assignment, preprocessing, n_images=2 + seed % 3)
        parameters = problem.parameters(rng, 2 + seed % 2)
        fresh_layer = layer_of(parameters, problem.model)
        layer = layer_of(parameters, problem.model, scratch=scratch)
        images = problem.padded.copy()
        images.flags.writeable = False
        weights = problem.sample_weight
        kept.append((e_step(images, weights, layer), e_step(images, weights, fresh_layer)))
        map_shape = problem.model.geometry.map_shape
        mean, peak = (
            Pooler(POOLINGS[pooling], Windows.from_grid("box", None, grid, map_shape))
            for pooling, grid in [("mean", (1, 1)), ("max", (2, 2))]
        )
        for pooler in (mean, peak, None):
            used, fresh = (
                batch_features(slice(None), problem.images, each, pooler)
                for each in (layer, fresh_layer)
            )
            kept.append(((used,), (fresh,)))
    # Compared at the end: what a later batch overwrites would show.
    for used, fresh in kept:
        for a, b in zip(used, fresh, strict=True):
            assert_array_equal(a, b)


@pytest.mark.parametrize("noise_variance", [0.02, 0.7])
@assignments
def test_float32_keeps_every_cells_mass(noise_variance, assignment):
    rng = np.random.default_rng(10)
    problem = make_problem(rng, assignment, "contrast")
    parameters = problem.parameters(rng, noise_variance=noise_variance)
    layer = layer_of(parameters, problem.model)
    weights = problem.sample_weight
    single_layer = layer_of(parameters, problem.model, np.float32)
    single = e_step(problem.padded.astype(np.float32), weights, single_layer)
    double = e_step(problem.padded, weights, layer)
    assert_statistics_close(single, double, rtol=1e-4)
    n_cells = problem.model.cells.n_cells * weights.sum()
    assert single.counts.sum() == pytest.approx(n_cells, rel=3e-6)
    assert single.sums.dtype == single.counts.dtype == np.float64


# The M-step and the objective


@preprocessings
@pytest.mark.parametrize("learn_weights", [True, False])
@pytest.mark.parametrize("noise_variance", ["auto", 0.3])
@seeds
def test_m_step_is_that_of_the_twin(preprocessing, learn_weights, noise_variance, seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, "image", preprocessing)
    old = problem.parameters(rng)._replace(weights=np.full(3, 1 / 3))
    layer = layer_of(old, problem.model)
    statistics = e_step(problem.padded, problem.sample_weight, layer)
    actual = m_step(
        statistics,
        old,
        problem.model.preprocessing,
        learn_weights=learn_weights,
        noise_variance=noise_variance,
    )
    expected = _reference.m_step(
        _reference.Statistics(*statistics[:6]),
        learn_weights,
        noise_variance,
        problem.setting.mean,
        problem.setting.whitener,
    )
    assert_allclose(actual.means, expected.means, rtol=1e-10)
    assert_allclose(actual.weights, expected.weights, rtol=1e-10)
    assert actual.noise_variance == pytest.approx(expected.noise_variance, rel=1e-9)
    assert type(actual.noise_variance) is float


def test_m_step_maximises_the_expected_log_joint():
    # Eqs. 6 to 8 from their definition: no step away from the result gains anything.
    rng = np.random.default_rng(11)
    problem = make_problem(rng, "image", "raw")
    old = problem.parameters(rng)
    statistics = e_step(problem.padded, problem.sample_weight, layer_of(old, problem.model))

    def expected_log_joint(means, weights, noise_variance):
        sums, counts = statistics.sums, statistics.counts
        fit = np.sum(means * sums) - counts @ (means**2).sum(axis=1) / 2
        noise = background(statistics.energy, statistics.n_values, noise_variance)
        return fit / noise_variance + counts @ np.log(weights) + noise

    best = m_step(statistics, old, Preprocessing(), learn_weights=True, noise_variance="auto")
    top = expected_log_joint(*best)
    for _ in range(50):
        means = best.means + rng.normal(size=best.means.shape) * 0.01
        weights = best.weights * np.exp(rng.normal(size=3) * 0.05)
        weights /= weights.sum()
        variance = best.noise_variance * np.exp(rng.normal() * 0.05)
        assert expected_log_joint(means, *best[1:]) < top
        assert expected_log_joint(best.means, weights, best.noise_variance) < top
        assert expected_log_joint(*best[:2], variance) < top


def test_a_component_without_patches_keeps_its_mean():
    old = MixtureParameters(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.5, 0.5]), 1.0)
    statistics = SufficientStatistics(
        np.array([[2.0, 6.0], [0.0, 0.0]]), np.array([2.0, 0.0]), -1.0, 50.0, 10.0, 5.0
    )
    new = m_step(statistics, old, Preprocessing(), learn_weights=True, noise_variance="auto")
    assert_array_equal(new.means, [[1.0, 3.0], [3.0, 4.0]])
    # Next to nothing, but not zero: its logarithm is a feature.
    assert_allclose(new.weights, [1.0, 0.0], atol=1e-9)
    assert new.weights[1] > 0
    assert new.noise_variance == pytest.approx((50 - 2 * 10) / 10)


def test_noise_variance_has_a_floor():
    rng = np.random.default_rng(12)
    statistics = SufficientStatistics(rng.normal(size=(2, 3)), np.ones(2), 0.0, 8.0, 4.0, 2.0)
    assert floored_variance(statistics) == 2.0
    assert floored_variance(statistics, 6.0) == 0.5
    assert floored_variance(statistics, 8.0) == pytest.approx(2 * VARIANCE_FLOOR)
    assert floored_variance(statistics, 9.0) == pytest.approx(2 * VARIANCE_FLOOR)
    assert floored_variance(statistics._replace(energy=0.0)) == 1.0


def test_dead_components_have_a_thousandth_of_an_even_share():
    counts = np.array([1.0, DEAD_SHARE * 0.2, DEAD_SHARE * 0.4, 0.0])
    statistics = SufficientStatistics(np.zeros((4, 2)), counts, 0.0, 1.0, 1.0, 1.0)
    assert_array_equal(dead_components(statistics, 1.0), [False, True, False, True])
    # Half of the lightest image's cell keeps a component alive, however small its share.
    assert_array_equal(dead_components(statistics, DEAD_SHARE * 0.2), [False, False, False, True])


def test_blend_is_a_mean_of_statistics_per_image():
    rng = np.random.default_rng(13)

    def random_statistics(n_images):
        return SufficientStatistics(
            rng.normal(size=(2, 3)), rng.uniform(size=2), *rng.uniform(1, 9, size=3), n_images
        )

    old, new = random_statistics(4.0), random_statistics(10.0)
    blended = blend(old, new, 0.3)
    assert blended.n_images == pytest.approx(1)
    for a, b, c in zip(blended, old, new, strict=True):
        assert_allclose(a, 0.7 * b / 4 + 0.3 * c / 10, rtol=1e-12)


# The law


def objectives(problem, parameters, *, learn_weights=True, noise_variance="auto", n_passes=25):
    """The objective before each pass."""
    history, preprocessing = [], problem.model.preprocessing
    options = {"learn_weights": learn_weights, "noise_variance": noise_variance}
    for _ in range(n_passes):
        layer = layer_of(parameters, problem.model)
        statistics = e_step(problem.padded, problem.sample_weight, layer)
        history.append(objective(statistics, parameters.noise_variance))
        parameters = m_step(statistics, parameters, preprocessing, **options)
    return history


@assignments
@preprocessings
@pytest.mark.parametrize("learn_weights", [True, False])
@pytest.mark.parametrize("noise_variance", ["auto", 0.5])
@seeds
def test_the_objective_never_falls(assignment, preprocessing, learn_weights, noise_variance, seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, assignment, preprocessing, n_images=9)
    parameters = problem.parameters(rng, noise_variance=0.5)
    if not learn_weights:
        parameters = parameters._replace(weights=np.full(3, 1 / 3))
    options = {"learn_weights": learn_weights, "noise_variance": noise_variance}
    history = objectives(problem, parameters, **options)
    gains = np.diff(history)
    assert gains.min() > -1e-11 * np.abs(history).max()
    assert history[-1] - history[0] > 0.1


@pytest.mark.parametrize("geometry", GEOMETRIES[1:])
@assignments
def test_the_objective_never_falls_for_any_geometry(assignment, geometry):
    rng = np.random.default_rng(14)
    assignment = grid_that_fits(assignment, geometry)
    problem = make_problem(rng, assignment, "both", geometry, n_images=9)
    history = objectives(problem, problem.parameters(rng, 5))
    assert np.diff(history).min() > -1e-11 * np.abs(history).max()


# The density


@pytest.mark.parametrize(
    ("width", "patch_width", "stride", "step"),
    [(2, 1, 1, 0.1), (2, 2, 1, 0.1), (3, 2, 1, 0.25), (3, 1, 2, 0.25)],
)
@seeds
def test_one_cell_on_raw_pixels_is_a_density(width, patch_width, stride, step, seed):
    rng = np.random.default_rng(seed)
    geometry = PatchGeometry((1, width, 1), (1, patch_width), (1, stride))
    cells = Cells.from_assignment("image", geometry.map_shape)
    model = PatchModel(geometry, cells, Preprocessing())
    parameters = MixtureParameters(
        rng.uniform(-1.5, 1.5, size=(2, patch_width)), np.array([0.3, 0.7]), 0.5
    )
    axis = np.arange(-6, 6 + step / 2, step)
    grid = np.stack(np.meshgrid(*[axis] * width, indexing="ij"), axis=-1)
    images = grid.reshape(-1, 1, width, 1)
    layer = layer_of(parameters, model)
    densities = np.exp(log_likelihoods(images, layer, 0.5))
    assert densities.sum() * step**width == pytest.approx(1, abs=1e-6)


# The paper's layer


@pytest.mark.parametrize("padding", [(0, 0), (2, 1)])
@seeds
def test_the_papers_pass_and_features(padding, seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(
        rng, "image", "raw", ((4, 3), (1, 1), padding, 1), n_images=5, weighted=False
    )
    kernels = rng.normal(size=(3, 4, 3))
    parameters = MixtureParameters(kernels.reshape(3, -1), np.full(3, 1 / 3), 1.0)
    layer = layer_of(parameters, problem.model)
    padded = np.stack([_reference.pad(image, padding)[..., 0] for image in problem.images.X])
    statistics = e_step(problem.padded, np.ones(5), layer)
    new = m_step(statistics, parameters, Preprocessing(), learn_weights=False, noise_variance=1.0)
    expected = _paper.paper_em_pass(padded, kernels)
    assert_allclose(new.means.reshape(kernels.shape), expected, rtol=1e-10)
    assert_array_equal(new.weights, parameters.weights)
    assert new.noise_variance == 1.0
    windows = Windows.from_grid("box", None, (1, 1), problem.model.geometry.map_shape)
    pooler = Pooler(POOLINGS["logsumexp"], windows)
    features = batch_features(slice(None), problem.images, layer, pooler)
    assert_allclose(features, _paper.paper_features(padded, kernels), rtol=1e-10)
