"""Quantiles of scores under the mixture, by themselves and as thresholds of an estimator."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _proportion_reference
import _reference
import _tied_reference
from _models import assignments, make_images, preprocessings, small
from _twins import make_problem, twin
from sklearn_calm._inference import thresholds_of
from sklearn_calm._mixture.model import conv_layer
from sklearn_calm._mixture.quantiles import even_levels, score_quantiles

seeds = pytest.mark.parametrize("seed", [0, 1, 2])


def fitted(**options):
    """A model of proportions."""
    options = {"pooling": "proportion", "n_thresholds": 4, **options}
    return small(**options).fit(make_images(0))


@seeds
@assignments
@preprocessings
def test_thresholds_are_those_of_the_twin(assignment, preprocessing, seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, assignment, preprocessing)
    parameters, model = problem.parameters(rng), problem.model
    found = score_quantiles(
        conv_layer(parameters, model), parameters, model, np.array([0.03, 0.5, 0.8])
    )
    share = model.cells.n_cells / model.geometry.n_positions
    for t, level in enumerate([0.03, 0.5, 0.8]):
        for k in range(3):
            expected = _proportion_reference.score_quantile(
                twin(parameters), problem.setting, k, level, share
            )
            assert_allclose(found[t, k], expected, atol=1e-4)


@pytest.mark.parametrize("symmetry", ["mirror", ("rotation", "mirror"), "sign"])
def test_tied_kernels_share_the_thresholds_of_their_component(symmetry):
    model = fitted(symmetry=symmetry)
    names = np.atleast_1d(symmetry)
    shape, order = (3, 3, 1), len(_tied_reference.elements(names))
    found = thresholds_of(model).reshape(4, 3, order)
    assert_array_equal(found, np.broadcast_to(found[:, :, :1], found.shape))
    mixture = _reference.Mixture(
        model.means_.reshape(3, -1), model.weights_, float(model.noise_variance_)
    )
    preprocessing = model._model.preprocessing
    setting = _reference.Setting((3, 3), mean=preprocessing.mean, whitener=preprocessing.whitener)
    tied = _tied_reference.expanded(mixture, shape, names)
    for t, level in enumerate(even_levels(4)):
        for k in range(3):
            expected = _proportion_reference.score_quantile(tied, setting, k * order, level, 1)
            assert_allclose(found[t, k, 0], expected, atol=1e-3)


@seeds
def test_patches_of_the_mixture_lie_above_thresholds_as_often_as_the_levels_say(seed):
    rng = np.random.default_rng(seed)
    kernels = rng.normal(scale=2, size=(3, 4, 4))
    X = kernels[rng.integers(3, size=4000)] + rng.normal(scale=0.5, size=(4000, 4, 4))
    options = {"normalize": None, "whiten": False, "padding": 0, "max_iter": 30}
    model = small(patch_size=4, pooling="proportion", n_thresholds=5, **options).fit(X)
    shares = model.transform(X).reshape(len(X), 5, 3).mean(axis=0)
    assert_allclose(shares, np.broadcast_to(1 - even_levels(5)[:, None], (5, 3)), atol=0.03)


def test_a_third_of_nine_thresholds_are_those_of_three():
    model = fitted(n_thresholds=9)
    nine = thresholds_of(model)
    three = thresholds_of(model.set_params(n_thresholds=3))
    assert_allclose(nine[1::3], three, atol=1e-4)


def test_a_kernel_of_zeros_has_its_bias_as_threshold():
    problem = make_problem(np.random.default_rng(0), preprocessing="raw")
    parameters = problem.parameters(np.random.default_rng(1))
    parameters.means[1] = 0
    layer = conv_layer(parameters, problem.model)
    found = score_quantiles(layer, parameters, problem.model, even_levels(3))
    assert_allclose(found[:, 1], layer.bias[1], rtol=1e-12)
    assert np.isfinite(found).all()
