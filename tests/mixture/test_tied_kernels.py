"""Tied kernels in the engine, held to their literal twin."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

import _reference
import _tied_reference
from _models import WITHOUT_THRESHOLDS
from _twins import (
    assert_statistics_close,
    assignments,
    literal_patches,
    make_em,
    make_problem,
    numpy_in,
    patch_types,
    preprocessings,
    twin,
)
from sklearn_calm._convolution.pooling import POOLINGS as TABLE
from sklearn_calm._convolution.pooling import Pooler
from sklearn_calm._convolution.symmetry import Symmetry
from sklearn_calm._convolution.windows import Windows
from sklearn_calm._mixture.em import log_normalizers
from sklearn_calm._mixture.features import batch_features, folded
from sklearn_calm._mixture.history import History
from sklearn_calm._mixture.model import MixtureParameters, conv_layer
from sklearn_calm._mixture.preprocessing import Preprocessing, fit_preprocessing
from sklearn_calm._mixture.reseeding import _gains
from sklearn_calm._mixture.seeds import SEED_LENGTH, drawn_in
from sklearn_calm._mixture.training import run

GEOMETRY = ((3, 3), (1, 1), (1, 0), 2)
SHAPE = (3, 3, 2)
GROUPS = [("mirror",), ("rotation",), ("mirror", "rotation"), ("mirror", "sign")]

groups = pytest.mark.parametrize("names", GROUPS, ids="-".join)


def tied_problem(rng, names, assignment, preprocessing, n_images=3):
    """A problem whose whitening is that of all patches under all transformations."""
    problem = make_problem(rng, assignment, preprocessing, GEOMETRY, n_images)
    model, setting = problem.model._replace(symmetry=Symmetry(names, SHAPE)), problem.setting
    if setting.whitener is not None:
        plain = replace(setting, mean=None, whitener=None)
        patches = np.concatenate(
            [_reference.preprocessed_patches(x, plain).reshape(-1, 18) for x in problem.images.X]
        )
        patches = _tied_reference.expand(patches, SHAPE, names)
        mean, whitener = _reference.whitening(patches, np.ones(len(patches)), 0.1)
        setting = replace(setting, mean=mean, whitener=whitener)
        floor = setting.contrast_floor
        model = model._replace(preprocessing=Preprocessing(floor, mean, whitener))
    return problem._replace(model=model, setting=setting)


@groups
@assignments
@preprocessings
def test_statistics_are_those_of_the_twin(names, assignment, preprocessing):
    rng = np.random.default_rng(0)
    problem = tied_problem(rng, names, assignment, preprocessing)
    parameters = problem.parameters(rng)
    expected = _tied_reference.e_step(
        problem.images.X, problem.sample_weight, twin(parameters), problem.setting, SHAPE, names
    )
    for batch_size in (1, 3):
        em = make_em(problem, batch_size=batch_size)
        assert_statistics_close(em.statistics(parameters), expected)


@groups
@pytest.mark.parametrize("assignment", ["image", "patch"])
@preprocessings
@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_never_loses_and_is_the_literal_one(names, assignment, preprocessing, seed):
    rng = np.random.default_rng(seed)
    problem = tied_problem(rng, names, assignment, preprocessing)
    parameters = problem.parameters(rng, 2)
    parameters = parameters._replace(means=0.5 * parameters.means, weights=np.full(2, 0.5))
    fit = run(make_em(problem), parameters, History(0.0, 3, problem.model.cells.n_cells))
    mixture, objectives = _tied_reference.run_em(
        problem.images.X, problem.sample_weight, twin(parameters), problem.setting, 3, SHAPE, names
    )
    assert_allclose(fit.history.lower_bounds, objectives, rtol=1e-9)
    assert np.diff(objectives).min() >= -1e-11 * np.abs(objectives).max()
    assert_allclose(fit.parameters.means, mixture.means, rtol=1e-7, atol=1e-9)
    assert_allclose(fit.parameters.weights, mixture.weights, rtol=1e-7)
    assert fit.parameters.noise_variance == pytest.approx(mixture.noise_variance, rel=1e-8)


@pytest.mark.parametrize("names", [("rotation",), ("mirror", "sign")], ids="-".join)
@pytest.mark.parametrize("learn_weights", [True, False])
def test_a_run_with_dead_components_never_loses(names, learn_weights):
    rng = np.random.default_rng(3)
    problem = tied_problem(rng, names, "image", "raw", n_images=8)
    parameters = problem.parameters(rng, 6, noise_variance=0.1)
    parameters.means[:3] *= 1e3
    em = make_em(problem, learn_weights=learn_weights, noise_variance=0.1)
    fit = run(em, parameters, History(0.0, 20, 1))
    history = fit.history.lower_bounds
    assert np.diff(history).min() >= -1e-11 * np.abs(history).max()
    assert fit.n_reseeded > 0


@groups
@pytest.mark.parametrize("pooling", WITHOUT_THRESHOLDS)
@pytest.mark.parametrize("over", ["image", "region", None])
@patch_types
def test_features_are_those_of_the_twin(names, pooling, over, patch_type):
    rng = np.random.default_rng(4)
    problem = tied_problem(rng, names, (2, 2), "both")
    parameters, grid = problem.parameters(rng), (2, 2)
    windows = Windows.from_grid("box", None, grid, problem.model.geometry.map_shape)
    pooler = Pooler(TABLE[pooling], windows, False, Symmetry(names, (*grid, 1)), over)
    layer = folded(conv_layer(parameters, problem.model), pooler)
    layer = layer.prepared(problem.model, numpy_in(np.float64), patch_type=patch_type)
    features = batch_features(slice(None), problem.images, layer, pooler)
    mixture, expected = _tied_reference.expanded(twin(parameters), SHAPE, names), []
    for image in problem.images.X:
        joint = _reference.log_joint(image, mixture, problem.setting)
        cells = _reference.cells((2, 2), *joint.shape[:2])
        gamma = _reference.responsibilities(joint, cells)
        kept = _reference.pool(joint, gamma, pooling, grid, 18)
        expected.append(
            kept if over is None else _tied_reference.pool(kept, pooling, grid, names, over)
        )
    assert_allclose(features, expected, rtol=1e-9, atol=1e-11)
    assert features.shape[1] == np.prod(pooler.features_shape(len(layer.bias)))


@groups
@pytest.mark.parametrize("normalize", [None, "contrast"])
@pytest.mark.parametrize("seed", [5, 6])
def test_whitening_commutes_with_the_transformations(names, normalize, seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, "patch", "raw", GEOMETRY)
    patches = literal_patches(problem).reshape(-1, 18)
    weights = rng.uniform(0.2, 3, len(patches))
    options = {"normalize": normalize, "whiten": True, "reg_covar": 0.1}
    symmetry = Symmetry(names, SHAPE)
    fitted = fit_preprocessing(patches, weights, **options, symmetry=symmetry)
    X = patches[:4]
    assert_allclose(
        fitted.whiten(symmetry.expand(X)), symmetry.expand(fitted.whiten(X)), rtol=1e-9, atol=1e-9
    )
    if normalize is not None:
        patches = np.array(
            [_reference.normalize_contrast(x, fitted.contrast_floor) for x in patches]
        )
    everything = _tied_reference.expand(patches, SHAPE, names)
    expected = _reference.whitening(everything, np.repeat(weights, symmetry.order), 0.1)
    assert_allclose(fitted.mean, expected[0], atol=1e-12)
    assert_allclose(fitted.whitener, expected[1], rtol=1e-8, atol=1e-9)
    plain = fit_preprocessing(literal_patches(problem).reshape(-1, 18), weights, **options)
    assert np.abs(plain.whiten(symmetry.expand(X)) - symmetry.expand(plain.whiten(X))).max() > 0.01


@groups
@pytest.mark.parametrize("seed", [0, 1])
def test_the_gain_of_a_new_patch_is_that_of_its_cell(names, seed):
    rng = np.random.default_rng(seed)
    problem = tied_problem(rng, names, "patch", "raw", n_images=4)
    model, order = problem.model, len(_tied_reference.elements(names))
    parameters = problem.parameters(rng, 3, 0.01)
    rows, share = np.arange(4), np.full(4, 0.05)
    gains, positions = _gains(problem.images, rows, share / order, parameters, model, 3)

    def normalizers(parameters):
        layer = conv_layer(parameters, model).prepared(model, problem.images.placement)
        found = log_normalizers(problem.images.read(slice(None)), layer)
        return found.transpose(1, 0, 2).reshape(4, -1)

    before = normalizers(parameters)
    patches = problem.images.patches(rows, positions)
    for i, patch in enumerate(patches):
        means = np.concatenate([parameters.means, patch[None]])
        weights = np.append(parameters.weights, share[i])
        after = normalizers(MixtureParameters(means, weights, 0.01))
        # So little noise that the patch is none of its own transformations.
        at = i, positions[i]
        assert gains[i] == pytest.approx(after[at] - before[at], rel=1e-9)


@groups
@pytest.mark.parametrize("seed", [0, 1])
def test_starting_kernels_are_drawn_in_as_their_transformations_are(names, seed):
    rng = np.random.default_rng(seed)
    symmetry, patches = Symmetry(names, SHAPE), rng.standard_t(3, size=(60, 18))
    every = symmetry.expand(patches)
    mean, whitener = _reference.whitening(every, np.ones(len(every)), 0.1)
    weights, chosen = rng.uniform(0.2, 3, size=60), patches[:4]
    found = drawn_in(chosen, patches, weights, Preprocessing(None, mean, whitener), symmetry)
    expected = _reference.drawn_in(
        symmetry.expand(chosen), patches, weights, mean, whitener, SEED_LENGTH
    )[:: symmetry.order]
    assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@groups
def test_a_new_component_explains_its_patch_under_one_transformation(names, monkeypatch):
    rng = np.random.default_rng(3)
    problem = tied_problem(rng, names, "patch", "raw", n_images=4)
    em, parameters, shares = make_em(problem, noise_variance=0.01), problem.parameters(rng, 3), []

    def recorded(images, image_rows, share, *others):
        shares.append(share)
        return _gains(images, image_rows, share, *others)

    monkeypatch.setattr("sklearn_calm._mixture.reseeding._gains", recorded)
    statistics = em.statistics(parameters)
    counts = np.array([0.01, *statistics.counts[1:]])
    em.revive(statistics._replace(counts=counts), parameters._replace(noise_variance=0.01))
    weights = problem.sample_weight / counts.sum()  # of a component that begins with one cell
    assert_allclose(shares, [weights / len(_tied_reference.elements(names))], rtol=1e-12)
