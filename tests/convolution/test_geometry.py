import numpy as np
import pytest
from numpy.testing import assert_array_equal

import _reference
from _twins import EDGE_CASES, GEOMETRIES, HEIGHT, WIDTH, with_dilation
from sklearn_calm._convolution.geometry import PatchGeometry, even_edges, on_both_sides, slices


@pytest.mark.parametrize("geometry", GEOMETRIES + EDGE_CASES)
def test_geometry_is_that_of_the_literal_patches(geometry):
    patch_size, stride, padding, n_channels, dilation = with_dilation(geometry)
    image = np.zeros((HEIGHT, WIDTH, n_channels))
    found = PatchGeometry(
        image.shape, patch_size, stride, on_both_sides(padding), dilation=dilation
    )
    patches = _reference.extract_patches(image, patch_size, stride, padding, dilation)
    assert found.padded_shape == _reference.pad(image, padding).shape
    assert found.map_shape == patches.shape[:2]
    assert found.maps_shape(5, 3) == (patches.shape[0], 5, patches.shape[1], 3)
    assert found.n_positions == patches.shape[0] * patches.shape[1]
    assert found.kernel_shape == patches.shape[2:]
    assert found.patch_length == patches[0, 0].size


@pytest.mark.parametrize("gap", [1, 2, 3, 4])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_rows_of_a_patch_follow_one_another(gap, step):
    geometry = PatchGeometry((11, 4, 1), (3, 2), (step, 1), dilation=(gap, 1))
    order, first_rows = geometry.row_order, geometry.first_rows
    assert sorted(order) == list(range(11))
    assert len(first_rows) == geometry.map_shape[0]
    for y, first in enumerate(first_rows):
        assert list(order[first : first + 3]) == [step * y + gap * i for i in range(3)]


@pytest.mark.parametrize(("length", "parts"), [(6, 1), (6, 6), (7, 3), (8, 5), (1, 1)])
def test_even_edges_differ_by_one_at_most(length, parts):
    edges = even_edges(length, parts)
    sizes = np.diff(edges)
    assert (edges[0], edges[-1], len(sizes)) == (0, length, parts)
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize(("length", "step"), [(0, 3), (1, 3), (6, 3), (7, 3), (7, 1)])
def test_slices_cover_a_range_in_order(length, step):
    parts = slices(length, step)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(length))
    assert all(part.stop - part.start == step for part in parts[:-1])
    assert all(0 < part.stop - part.start <= step for part in parts)


def test_places_of_zeros():
    rows, columns = PatchGeometry((3, 2, 1), (1, 1), (1, 1), ((1, 0), (0, 2))).places
    assert_array_equal(rows, [-1, 0, 1, 2])
    assert_array_equal(columns, [0, 1, -1, -1])


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_places_of_patches_are_those_of_the_literal_patches(mode):
    image = np.arange(1.0, 57).reshape(7, 8, 1)
    geometry = PatchGeometry(image.shape, (3, 2), (2, 1), ((1, 2), (0, 1)), mode)
    rows, columns = geometry.patch_places(np.arange(geometry.n_positions))
    found = image[rows[:, :, None], columns[:, None, :]]
    found[(rows[:, :, None] < 0) | (columns[:, None, :] < 0)] = 0
    padded = _reference.pad(image, geometry.padding, mode)
    expected = _reference.extract_patches(padded, (3, 2), (2, 1), (0, 0))
    assert_array_equal(found, expected.reshape(found.shape))
