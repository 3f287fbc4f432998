import numpy as np
import pytest
from numpy.testing import assert_array_equal

import _reference
from _twins import (
    GEOMETRIES,
    assert_statistics_close,
    layer_of,
    literal_patches,
    make_problem,
    numpy_in,
)
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._images import reader
from sklearn_calm._images.reader import Images, row_numbers
from sklearn_calm._images.source import BATCH_BYTES, BY_ROW_BYTES, MAX_BATCH
from sklearn_calm._mixture.em import e_step

geometries = pytest.mark.parametrize("geometry", GEOMETRIES)
SMALL = PatchGeometry((4, 5, 1), (2, 2), (1, 1))


@geometries
def test_batches_are_padded_and_the_array_is_not_written_to(geometry):
    problem = make_problem(np.random.default_rng(0), geometry=geometry, n_images=5)
    before = problem.images.X.copy()
    for rows in (slice(1, 4), np.array([0, 4])):
        expected = [_reference.pad(image, geometry[2]) for image in before[rows]]
        found = problem.images.read(rows)
        assert found.flags.c_contiguous
        assert_array_equal(found, expected)
    assert_array_equal(problem.images.X, before)


def test_slices_and_numbers_name_the_same_rows():
    assert_array_equal(row_numbers(slice(2, 9, 3), 7), [2, 5])
    numbers = np.array([4, 1])
    assert row_numbers(numbers, 7) is numbers


def test_weights_are_those_given_or_one():
    X = np.zeros((4, 4, 5))
    weights = np.array([0.0, 2.0, 0.5, 1.0])
    images = Images(X, SMALL, weights)
    assert_array_equal(images.weights(slice(1, 3)), [2.0, 0.5])
    assert (images.total_weight, images.least_weight) == (3.5, 0.5)
    images = Images(X, SMALL)
    assert_array_equal(images.weights(np.array([3, 0])), [1.0, 1.0])
    assert (images.total_weight, images.least_weight) == (4.0, 1.0)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_cover_all_images_in_order(batch_size):
    images = Images(np.zeros((7, 4, 5)), SMALL)
    batches = [np.arange(7)[rows] for rows in images.batches(batch_size)]
    assert_array_equal(np.concatenate(batches), np.arange(7))
    assert max(map(len, batches)) == min(batch_size, 7)
    rows = np.array([5, 0, 3, 6])
    assert_array_equal(np.concatenate(images.batches(batch_size, rows)), rows)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("by_row", [False, True])
def test_the_scores_of_a_batch_fit_in_the_memory_they_are_given(dtype, by_row):
    images = Images(np.zeros((1, 40, 50), dtype), SMALL._replace(image_shape=(40, 50, 1)))
    n = images.batch_size(16, by_row=by_row)
    values = 4 * 49 * 16 if by_row else 39 * 49 * 16
    most = BY_ROW_BYTES if by_row else BATCH_BYTES
    assert n * values * images.dtype.itemsize <= most
    assert by_row or (n + 1) * values * images.dtype.itemsize > most
    assert images.batch_size(10**9, by_row=by_row) == 1
    tiny = Images(np.zeros((1, 2, 2), dtype), SMALL._replace(image_shape=(2, 2, 1)))
    assert tiny.batch_size(1, by_row=by_row) == MAX_BATCH


def test_images_on_the_host_keep_their_numbers_and_weights():
    X = np.random.default_rng(1).normal(size=(6, 4, 5))
    X[4, 0, 0] = np.nan
    images = Images(X, SMALL, np.arange(6.0)).on_host(np.array([1, 4, 5]))
    assert_array_equal(images.X, X[[1, 4, 5]])
    assert_array_equal(images.sample_weight, [1, 4, 5])
    with pytest.raises(ValueError, match="first in image 4"):
        images.read(slice(None))
    assert_array_equal(images.on_host(slice(2, 3)).numbers, [5])


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
    images = Images(X, PatchGeometry((1, 2**19, 1), (1, 3), (1, 5)))
    rows = np.array([0, 1, 1, 2, 5, 5, 5, 6])
    positions = rng.integers(images.geometry.n_positions, size=len(rows))
    columns = 5 * positions[:, None] + np.arange(3)
    assert_array_equal(images.patches(rows, positions), X[rows[:, None], 0, columns, 0])


@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("channels", [(), (2,)])
def test_patches_of_large_images_are_read_alone(dtype, mode, channels, monkeypatch):
    X = np.random.default_rng(30).integers(200, size=(4, 12, 11, *channels)).astype(dtype)
    shape = (12, 11, *(channels or (1,)))
    geometry = PatchGeometry(shape, (3, 4), (1, 2), ((1, 1), (1, 2)), mode)
    image_rows = np.sort(np.random.default_rng(31).integers(4, size=300))
    positions = np.random.default_rng(32).integers(geometry.n_positions, size=300)
    expected = Images(X, geometry).patches(image_rows, positions)
    for values in (100, 1):
        monkeypatch.setattr(reader, "READ_VALUES", values)
        assert_array_equal(Images(X, geometry).patches(image_rows, positions), expected)


def test_other_pixels_of_large_images_are_not_read(monkeypatch):
    monkeypatch.setattr(reader, "READ_VALUES", 100)
    X = np.full((3, 20, 20), np.nan)
    X[1, 4:7, 5:8] = 1
    geometry = PatchGeometry((20, 20, 1), (3, 3), (1, 1))
    images = Images(X, geometry)
    assert_array_equal(images.patches(np.array([1]), np.array([4 * 18 + 5])), np.ones((1, 9)))
    with pytest.raises(ValueError, match=r"first in image 1\)"):
        images.patches(np.array([1]), np.array([4 * 18 + 6]))
