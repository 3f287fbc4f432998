"""Images of many geometries, and their patches as the twin finds them."""

import numpy as np
import pytest

import _reference
from _twins import EDGE_CASES, FLOOR, GEOMETRIES, HEIGHT, WIDTH, with_dilation
from sklearn_calm._convolution.geometry import PatchGeometry, on_both_sides
from sklearn_calm._images.reader import Images

floors = pytest.mark.parametrize("floor", [None, FLOOR])
geometries = pytest.mark.parametrize("geometry", GEOMETRIES + EDGE_CASES)
seeds = pytest.mark.parametrize("seed", [0, 1])


def make_images(rng, geometry, n_images=3):
    """Padded images, read-only, their geometry, and the unpadded images."""
    patch_size, stride, padding, n_channels, dilation = with_dilation(geometry)
    X = rng.normal(size=(n_images, HEIGHT, WIDTH, n_channels)) + 0.3
    geometry = PatchGeometry(
        X.shape[1:], patch_size, stride, on_both_sides(padding), dilation=dilation
    )
    padded = Images(X, geometry).read(slice(None)).copy()
    padded.flags.writeable = False
    return padded, geometry, X


def twin_patches(X, geometry, floor):
    """x~ at every position: (rows, n, columns, D)."""
    setting = _reference.Setting(
        geometry.patch_size,
        geometry.stride,
        geometry.padding,
        contrast_floor=floor,
        dilation=geometry.dilation,
    )
    return np.stack([_reference.preprocessed_patches(image, setting) for image in X], axis=1)
