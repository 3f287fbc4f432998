import numpy as np
import pytest
from numpy.testing import assert_array_equal

from _twins import (
    GEOMETRIES,
    assert_statistics_close,
    layer_of,
    literal_patches,
    make_problem,
    numpy_in,
)
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._images.reader import Images
from sklearn_calm._mixture.em import e_step

geometries = pytest.mark.parametrize("geometry", GEOMETRIES)


def test_reading_casts_to_the_precision_asked_for():
    rng = np.random.default_rng(15)
    problem = make_problem(rng, "image", "both")
    images = Images(problem.images.X, problem.model.geometry, placement=numpy_in(np.float32))
    parameters = problem.parameters(rng)
    single_layer = layer_of(parameters, problem.model, np.float32)
    single = e_step(images.read(slice(None)), np.ones(4), single_layer)
    double = e_step(problem.padded, np.ones(4), layer_of(parameters, problem.model))
    assert_statistics_close(single, double, rtol=1e-4)


@geometries
@pytest.mark.parametrize("seed", [1, 2])
def test_images_give_the_patches_asked_for(geometry, seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, geometry=geometry, n_images=6)
    expected = literal_patches(problem)
    rows = np.sort(rng.integers(6, size=40))
    positions = rng.integers(expected.shape[1], size=40)
    assert_array_equal(problem.images.patches(rows, positions), expected[rows, positions])
    nothing = problem.images.patches(rows[:0], positions[:0])
    assert nothing.shape == (0, expected.shape[2])


def test_patches_are_read_from_large_images_in_groups():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(7, 1, 2**19, 1)).astype(np.float32)  # two to a group
    images = Images(X, PatchGeometry((1, 2**19, 1), (1, 3), (1, 5), (0, 0)))
    rows = np.array([0, 1, 1, 2, 5, 5, 5, 6])
    positions = rng.integers(images.geometry.n_positions, size=len(rows))
    columns = 5 * positions[:, None] + np.arange(3)
    assert_array_equal(images.patches(rows, positions), X[rows[:, None], 0, columns, 0])
