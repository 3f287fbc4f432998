import numpy as np
import pytest
from numpy.testing import assert_array_equal

import _reference
from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._images.reader import home_of
from sklearn_calm._images.tiles import Tile, read_tile

PADDINGS = [((0, 0), (0, 0)), ((1, 2), (2, 1)), ((9, 9), (0, 3))]
TILES = [Tile(1, slice(0, 1), slice(0, 2)), Tile(0, slice(1, 3), slice(0, 3))]


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
def test_a_tile_is_a_part_of_the_padded_image(mode, padding, tile, stride, from_numpy):
    X = np.random.default_rng(0).normal(size=(2, 8, 7, 2))
    geometry = PatchGeometry(X.shape[1:], (3, 2), stride, padding, mode)
    found = to_numpy(read_tile(from_numpy(X), tile, geometry, home_of(from_numpy(X))))
    padded = _reference.pad(X[tile.image], padding, mode)
    top, left = tile.rows.start * stride[0], tile.columns.start * stride[1]
    bottom, right = (tile.rows.stop - 1) * stride[0] + 3, (tile.columns.stop - 1) * stride[1] + 2
    assert_array_equal(found[0], padded[top:bottom, left:right])
    inner = tile.geometry(geometry)
    assert inner.padded_shape == found.shape[1:]
    assert inner.map_shape == tuple(part.stop - part.start for part in tile[1:])


def test_a_tile_around_pixels_ends_at_the_border():
    geometry = PatchGeometry((8, 9, 1), (3, 3), (1, 1), ((1, 1), (1, 1)))
    pixels = np.array([[1, 2, 5], [1, 4, 3]])
    assert Tile.around(pixels, 1, geometry) == Tile(1, slice(1, 6), slice(2, 7))
    assert Tile.around(pixels, 5, geometry) == Tile(1, slice(0, 8), slice(0, 9))


def test_only_the_pixels_of_the_tile_are_read():
    X = np.full((2, 30, 30), np.nan)
    X[1, 10:15, 20:24] = 1
    geometry = PatchGeometry((30, 30, 1), (3, 3), (1, 1), ((1, 1), (1, 1)), "reflect")
    batch = read_tile(X, Tile(1, slice(11, 14), slice(21, 23)), geometry, home_of(X))
    assert_array_equal(batch, np.ones((1, 5, 4, 1)))
    with pytest.raises(ValueError, match=r"NaN or infinity \(first in image 1\)"):
        read_tile(X, Tile(1, slice(11, 15), slice(21, 23)), geometry, home_of(X))
