import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from _pixel_reference import pixel_features
from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm._convolution.smoothing import bands, radius, smoothed

WIDTHS = [0, 0.3, 1, 2.5, 40]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("seed", [0, 1])
def test_means_are_those_of_the_literal_twin(width, seed, from_numpy):
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(9, 11, 2))
    rows, columns = np.array([0, 2, 3, 8]), np.array([1, 5, 10])
    found = to_numpy(smoothed(from_numpy(maps), rows, columns, width))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            expected = pixel_features(maps, (row, column), [width])
            assert_allclose(found[i, j], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("width", [*WIDTHS, 1e-300])
def test_bands_cover_all_centres_and_their_weights_sum_to_one(width):
    centres = np.unique(np.random.default_rng(2).integers(500, size=200))
    covered = []
    for band in bands(centres, 500, width):
        covered.extend(centres[band.centres])
        assert 0 <= band.positions.start < band.positions.stop <= 500
        assert_allclose(band.weights.sum(axis=1), 1, rtol=1e-12)
    assert_array_equal(covered, centres)


def test_radius_is_four_widths():
    assert [radius(width) for width in (0, 0.1, 1, 2.6)] == [0, 1, 4, 11]


def test_no_centres():
    assert bands(np.empty(0, int), 5, 1.0) == []
