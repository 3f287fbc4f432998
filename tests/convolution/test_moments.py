import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from _geometries import floors, geometries, make_images, seeds, twin_patches
from _twins import FLOOR
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._convolution.moments import (
    BAND_COLUMNS,
    box_sums,
    centred,
    deviations,
    square_norms,
)


@geometries
@seeds
def test_box_sums_are_sums_over_windows(geometry, seed):
    images, geometry, X = make_images(np.random.default_rng(seed), geometry)
    literal = twin_patches(X, geometry, None)
    assert_allclose(box_sums(images, geometry), literal.sum(axis=-1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_box_sums_of_more_columns_than_one_product_finds(stride, n_channels):
    rng = np.random.default_rng(11)
    X = rng.normal(size=(2, 6, BAND_COLUMNS * 2 * stride + 21, n_channels))
    geometry = PatchGeometry(X.shape[1:], (3, 5), (1, stride))
    assert geometry.map_shape[1] > 2 * BAND_COLUMNS
    literal = twin_patches(X, geometry, None)
    assert_allclose(box_sums(X, geometry), literal.sum(axis=-1), rtol=1e-9, atol=1e-12)


@geometries
@floors
def test_square_norms_are_those_of_the_twin_patches(geometry, floor):
    images, geometry, X = make_images(np.random.default_rng(5), geometry)
    literal = twin_patches(X, geometry, floor)
    norms = square_norms(images, geometry, floor)
    assert_allclose(norms, (literal**2).sum(axis=-1), rtol=1e-9, atol=1e-12)


@geometries
@seeds
def test_deviations_are_those_of_the_twin_patches(geometry, seed):
    images, geometry, X = make_images(np.random.default_rng(seed), geometry)
    variance = twin_patches(X, geometry, None).var(axis=-1)
    centred_images, deviation = deviations(images, geometry, FLOOR)
    assert_allclose(deviation, np.sqrt(variance + FLOOR), rtol=1e-9)
    assert_allclose(centred_images, images - images.mean(axis=(1, 2, 3), keepdims=True))


def test_raw_patches_have_no_deviation():
    images, geometry, _ = make_images(np.random.default_rng(6), ((3, 2), (1, 1), (0, 0), 1))
    same, deviation = deviations(images, geometry, None)
    assert deviation is None
    assert_array_equal(same, images)


def test_centred_kernels_have_no_mean():
    kernels = np.random.default_rng(9).normal(size=(3, 5))
    assert_allclose(centred(kernels), kernels - kernels.mean(axis=1)[:, None], rtol=1e-12)
