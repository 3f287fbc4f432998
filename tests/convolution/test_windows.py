import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _reference
from sklearn_calm._convolution.windows import WINDOWS, Windows

# (grid, map shape), a signal among them.
GRIDS = [((1, 1), (6, 7)), ((2, 3), (6, 7)), ((4, 4), (6, 7)), ((6, 7), (6, 7)), ((1, 4), (1, 9))]

grids = pytest.mark.parametrize(("grid", "map_shape"), GRIDS)
widths = pytest.mark.parametrize("width", [1e-300, 0.05, 0.5, 1.0, 30.0, 1e300])


def weights_of_regions(windows):
    """Weights of each region: (regions, map rows, map columns)."""
    rows, columns = windows.weights
    weights = np.einsum("ay,bx->abyx", rows, columns)
    return weights.reshape(-1, *weights.shape[2:])


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("width", [0.3, 0.5, 2.0])
@grids
def test_windows_are_those_of_the_twin(window, width, grid, map_shape):
    windows = Windows.from_grid(window, width, grid, map_shape)
    counts = np.array(_reference.window_counts(window, grid, *map_shape, width))
    expected = counts / counts.sum(axis=(1, 2), keepdims=True)
    assert_allclose(weights_of_regions(windows), expected, rtol=1e-12, atol=1e-15)


@widths
@grids
def test_weights_of_a_region_add_up_to_one(width, grid, map_shape):
    windows = Windows.from_grid("gaussian", width, grid, map_shape)
    assert_allclose(weights_of_regions(windows).sum(axis=(1, 2)), 1, rtol=1e-12)


@grids
def test_a_window_that_vanishes_is_the_position_in_the_middle(grid, map_shape):
    windows = Windows.from_grid("gaussian", 1e-300, grid, map_shape)
    for weights, side, parts in zip(windows.weights, map_shape, grid, strict=True):
        for part in range(parts):
            middle = (2 * part + 1) * side / (2 * parts) - 0.5
            distances = np.abs(np.arange(side) - middle)
            nearest = np.isclose(distances, distances.min())
            assert_array_equal(weights[part] > 0, nearest)


def test_on_the_finest_grid_such_windows_are_the_positions():
    windows = Windows.from_grid("gaussian", 1e-3, (6, 7), (6, 7))
    for weights in windows.weights:
        assert_array_equal(weights, np.eye(len(weights)))


@grids
def test_a_very_wide_window_counts_all_positions_alike(grid, map_shape):
    windows = Windows.from_grid("gaussian", 1e300, grid, map_shape)
    assert_allclose(weights_of_regions(windows), 1 / np.prod(map_shape), rtol=1e-12)


def test_windows_mirror_with_the_map():
    for weights in Windows.from_grid("gaussian", 0.7, (4, 3), (9, 8)).weights:
        assert_allclose(weights, weights[::-1, ::-1], rtol=1e-12)
