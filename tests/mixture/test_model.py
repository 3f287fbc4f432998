import numpy as np
from numpy.testing import assert_allclose

import _reference
from _twins import (
    assignments,
    engine_maps,
    geometries,
    grid_that_fits,
    make_problem,
    preprocessings,
    twin,
)
from sklearn_calm._mixture.model import conv_layer, energies, patch_energies


@assignments
@preprocessings
@geometries
def test_conv_layer_gives_the_log_joint(assignment, preprocessing, geometry):
    rng = np.random.default_rng(3)
    problem = make_problem(rng, grid_that_fits(assignment, geometry), preprocessing, geometry)
    parameters = problem.parameters(rng)
    expected = [
        _reference.log_joint(image, twin(parameters), problem.setting) for image in problem.images.X
    ]
    maps = engine_maps(problem, parameters).transpose(1, 0, 2, 3)
    assert_allclose(maps, expected, rtol=1e-9, atol=1e-10)
    # As applied, by hand: correlate raw patches, divide by their deviation, add the bias.
    layer = conv_layer(parameters, problem.model)
    setting = problem.setting
    for image, joint in zip(problem.images.X, expected, strict=True):
        raw = _reference.patch_vectors(image, setting)
        output = raw @ layer.weight.T
        if setting.contrast_floor is not None:
            output /= np.sqrt(raw.var(axis=2) + setting.contrast_floor)[..., None]
        assert_allclose(output + layer.bias, joint, rtol=1e-9, atol=1e-10)


@assignments
@preprocessings
@geometries
def test_energies_are_those_of_the_twin(assignment, preprocessing, geometry):
    rng = np.random.default_rng(7)
    problem = make_problem(rng, grid_that_fits(assignment, geometry), preprocessing, geometry)
    expected = [_reference.energy(image, problem.setting) for image in problem.images.X]
    assert_allclose(energies(problem.padded, problem.model), [q for q, _ in expected], rtol=1e-9)
    assert {problem.model.n_values} == {m for _, m in expected}
    each = patch_energies(problem.padded, problem.model)
    for i, image in enumerate(problem.images.X):
        y = _reference.preprocessed_patches(image, problem.setting)
        assert_allclose(each[:, i], (y**2).sum(axis=2), rtol=1e-9)
