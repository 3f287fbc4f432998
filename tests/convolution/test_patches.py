from itertools import repeat

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _reference
from _twins import EDGE_CASES, FLOOR, GEOMETRIES, HEIGHT, WIDTH
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._convolution import fourier
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._convolution.patches import (
    BAND_COLUMNS,
    box_sums,
    centred,
    correlate,
    correlate_adjoint,
    correlate_rows,
    correlate_spectrum,
    gather_adjoint,
    view_patches,
)
from sklearn_calm._images.reader import Images

floors = pytest.mark.parametrize("floor", [None, FLOOR])
geometries = pytest.mark.parametrize("geometry", GEOMETRIES + EDGE_CASES)
seeds = pytest.mark.parametrize("seed", [0, 1])


def make_images(rng, geometry, n_images=3):
    """Padded images, read-only, their geometry, and the unpadded images."""
    patch_size, stride, padding, n_channels = geometry
    X = rng.normal(size=(n_images, HEIGHT, WIDTH, n_channels)) + 0.3
    geometry = PatchGeometry(X.shape[1:], patch_size, stride, padding)
    padded = Images(X, geometry).read(slice(None)).copy()
    padded.flags.writeable = False
    return padded, geometry, X


def literal_patches(X, geometry, floor):
    """x~ at every position: (rows, n, columns, D)."""
    setting = _reference.Setting(
        geometry.patch_size, geometry.stride, geometry.padding, contrast_floor=floor
    )
    return np.stack([_reference.preprocessed_patches(image, setting) for image in X], axis=1)


@geometries
@seeds
def test_blocks_are_the_literal_patches(geometry, seed):
    images, geometry, X = make_images(np.random.default_rng(seed), geometry)
    expected = literal_patches(X, geometry, None)
    blocks = view_patches(images, geometry).blocks
    lines = blocks.reshape(*expected.shape[:3], geometry.patch_size[0], -1)
    assert_array_equal(lines[..., :-1].reshape(expected.shape), expected)
    assert_array_equal(lines[..., 0, -1], 1)
    assert not blocks.flags.writeable


@geometries
@floors
@seeds
def test_correlate_is_the_inner_product_with_every_patch(geometry, floor, seed):
    rng = np.random.default_rng(seed)
    images, geometry, X = make_images(rng, geometry)
    kernels = rng.normal(size=(3, geometry.patch_length))
    bias = rng.normal(size=3)
    kernels.flags.writeable = bias.flags.writeable = False
    patches = view_patches(images, geometry, contrast_floor=floor)
    expected = literal_patches(X, geometry, floor) @ kernels.T
    assert_allclose(correlate(patches, kernels), expected, rtol=1e-9, atol=1e-11)
    assert_allclose(correlate(patches, kernels, bias), expected + bias, rtol=1e-9, atol=1e-11)


@geometries
@floors
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transforms_give_what_products_give(geometry, floor, dtype):
    rng = np.random.default_rng(12)
    images, geometry, X = make_images(rng, geometry)
    kernels, bias = centred(rng.normal(size=(3, geometry.patch_length))), rng.normal(size=3)
    options = {"contrast_floor": floor, "striped": False}
    patches = view_patches(images.astype(dtype), geometry, **options)
    assert patches.stripes is None
    spectrum = fourier.spectrum(kernels.astype(dtype), geometry)
    maps = correlate_spectrum(patches, spectrum, bias.astype(dtype))
    assert maps.dtype == dtype
    expected = literal_patches(X, geometry, floor) @ kernels.T + bias
    tolerance = 1e-9 if dtype == np.float64 else 1e-4
    assert_allclose(maps, expected, rtol=tolerance, atol=tolerance)


@geometries
@floors
def test_rows_are_those_of_correlate_times_the_deviation(geometry, floor):
    rng = np.random.default_rng(10)
    images, geometry, _ = make_images(rng, geometry)
    kernels, bias = rng.normal(size=(3, geometry.patch_length)), rng.normal(size=3)
    patches = view_patches(images, geometry, contrast_floor=floor)
    expected = correlate(patches, kernels, bias)
    if floor is not None:
        expected *= patches.deviation[..., None]
    row = np.empty((expected[0].size // 3, 3))
    rows = correlate_rows(patches, kernels, bias, repeat(row))
    for found, literal in zip(rows, expected, strict=True):
        assert found is row
        assert_allclose(found, literal.reshape(-1, 3), rtol=1e-9, atol=1e-11)


@geometries
@floors
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("striped", [False, True])
def test_adjoint_is_the_weighted_sum_of_patches(geometry, floor, scaled, striped):
    rng = np.random.default_rng(2)
    images, geometry, X = make_images(rng, geometry)
    literal = literal_patches(X, geometry, floor)
    maps = rng.normal(size=(*literal.shape[:3], 3))
    scale = rng.uniform(0.5, 2, size=literal.shape[:3]) if scaled else None
    weights = maps if scale is None else maps * scale[..., None]
    maps_before = maps.copy()
    patches = view_patches(images, geometry, contrast_floor=floor, striped=striped)
    sums, totals = correlate_adjoint(patches, maps, scale)
    assert_allclose(sums, np.einsum("rnck,rncd->kd", weights, literal), rtol=1e-9, atol=1e-10)
    assert_allclose(totals, weights.sum(axis=(0, 1, 2)), rtol=1e-9, atol=1e-10)
    assert_array_equal(maps, maps_before)


@geometries
@floors
@seeds
def test_correlate_and_its_adjoint_are_adjoint(geometry, floor, seed):
    rng = np.random.default_rng(seed)
    images, geometry, _ = make_images(rng, geometry)
    patches = view_patches(images, geometry, contrast_floor=floor)
    kernels = rng.normal(size=(4, geometry.patch_length))
    maps = rng.normal(size=(geometry.map_shape[0], len(images), geometry.map_shape[1], 4))
    bias = rng.normal(size=4)
    there = np.vdot(correlate(patches, kernels, bias), maps)
    sums, totals = correlate_adjoint(patches, maps)
    back = np.vdot(kernels, sums) + np.vdot(bias, totals)
    assert there == pytest.approx(back, rel=1e-9, abs=1e-9)


@geometries
@floors
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("striped", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_gather_adjoint_sums_the_positions_given(geometry, floor, scaled, striped, share):
    rng = np.random.default_rng(3)
    images, geometry, X = make_images(rng, geometry)
    literal = literal_patches(X, geometry, floor)
    kept = rng.uniform(size=literal.shape[:3]) < share
    scale = rng.uniform(0.5, 2, size=kept.shape)
    few = rng.normal(size=(kept.sum(), 3))
    weights = few * scale[kept][:, None] if scaled else few
    sums, totals = gather_adjoint(
        view_patches(images, geometry, contrast_floor=floor, striped=striped),
        np.nonzero(kept.reshape(len(kept), -1)),
        few,
        scale if scaled else None,
    )
    assert_allclose(sums, weights.T @ literal[kept], rtol=1e-9, atol=1e-10)
    assert_allclose(totals, weights.sum(axis=0), rtol=1e-9, atol=1e-10)


def test_gather_adjoint_takes_more_positions_than_it_copies_at_a_time():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(30, 20, 20, 1))
    geometry = PatchGeometry((20, 20, 1), (8, 8), (1, 1), (0, 0))
    maps = rng.normal(size=(13, 30, 13, 2))
    positions = np.nonzero(np.ones((13, 30 * 13), dtype=bool))
    expected = correlate_adjoint(view_patches(X, geometry, contrast_floor=FLOOR), maps)
    for striped in (False, True):
        patches = view_patches(X, geometry, contrast_floor=FLOOR, striped=striped)
        few = gather_adjoint(patches, positions, maps.reshape(-1, 2))
        for found, all_of_them in zip(few, expected, strict=True):
            assert_allclose(found, all_of_them, rtol=1e-9, atol=1e-9)


@geometries
@seeds
def test_box_sums_are_sums_over_windows(geometry, seed):
    images, geometry, X = make_images(np.random.default_rng(seed), geometry)
    literal = literal_patches(X, geometry, None)
    assert_allclose(box_sums(images, geometry), literal.sum(axis=-1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_box_sums_of_more_columns_than_one_product_finds(stride, n_channels):
    rng = np.random.default_rng(11)
    X = rng.normal(size=(2, 6, BAND_COLUMNS * 2 * stride + 21, n_channels))
    geometry = PatchGeometry(X.shape[1:], (3, 5), (1, stride), (0, 0))
    assert geometry.map_shape[1] > 2 * BAND_COLUMNS
    literal = literal_patches(X, geometry, None)
    assert_allclose(box_sums(X, geometry), literal.sum(axis=-1), rtol=1e-9, atol=1e-12)


@geometries
@floors
def test_square_norm_and_deviation(geometry, floor):
    images, geometry, X = make_images(np.random.default_rng(5), geometry)
    patches = view_patches(images, geometry, contrast_floor=floor, square_norm=True)
    literal = literal_patches(X, geometry, floor)
    assert_allclose(patches.square_norm, (literal**2).sum(axis=-1), rtol=1e-9, atol=1e-12)
    if floor is None:
        assert patches.deviation is None
    else:
        variance = literal_patches(X, geometry, None).var(axis=-1)
        assert_allclose(patches.deviation, np.sqrt(variance + floor), rtol=1e-9)
    assert view_patches(images, geometry, contrast_floor=floor).square_norm is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@floors
def test_precision_is_kept(dtype, floor):
    rng = np.random.default_rng(6)
    images, geometry, X = make_images(rng, GEOMETRIES[2])
    patches = view_patches(images.astype(dtype), geometry, contrast_floor=floor, square_norm=True)
    kernels = rng.normal(size=(3, geometry.patch_length)).astype(dtype)
    maps = correlate(patches, kernels)
    assert maps.dtype == patches.stripes.dtype == dtype
    assert all(sums.dtype == dtype for sums in correlate_adjoint(patches, maps))
    assert_allclose(maps, literal_patches(X, geometry, floor) @ kernels.T, rtol=1e-3, atol=1e-4)


def test_contrast_survives_a_large_constant_in_float32():
    rng = np.random.default_rng(7)
    X = rng.normal(size=(2, HEIGHT, WIDTH, 1))
    geometry = PatchGeometry(X.shape[1:], (3, 3), (1, 1), (0, 0))
    kernels = rng.normal(size=(2, 9)).astype(np.float32)
    # 2**-8 is what float32 resolves at 2**15: quantise first, so that only the engine can lose.
    X = np.round(X * 2**8) / 2**8
    shifted = (X + 2**14).astype(np.float32)
    maps = correlate(view_patches(shifted, geometry, contrast_floor=FLOOR), kernels)
    assert_allclose(maps, literal_patches(X, geometry, FLOOR) @ kernels.T, atol=2e-2)


@floors
def test_stripes_in_used_memory_are_the_same(floor):
    scratch = Scratch()
    for seed, geometry in enumerate([*GEOMETRIES, *GEOMETRIES[::-1]]):
        rng = np.random.default_rng(seed)
        images, geometry, _ = make_images(rng, geometry, n_images=1 + seed % 3)
        kernels = rng.normal(size=(2 + seed % 2, geometry.patch_length))
        fresh = correlate(view_patches(images, geometry, contrast_floor=floor), kernels)
        used = view_patches(images, geometry, contrast_floor=floor, scratch=scratch)
        assert_array_equal(correlate(used, kernels, scratch=scratch), fresh)


def test_images_need_not_be_contiguous():
    rng = np.random.default_rng(8)
    images, geometry, _ = make_images(rng, GEOMETRIES[2])
    kernels = rng.normal(size=(2, geometry.patch_length))
    turned = np.asfortranarray(images)
    assert not turned.flags.c_contiguous
    assert_allclose(
        correlate(view_patches(turned, geometry), kernels),
        correlate(view_patches(images, geometry), kernels),
        rtol=1e-12,
    )


def test_centred_kernels_have_no_mean():
    kernels = np.random.default_rng(9).normal(size=(3, 5))
    assert_allclose(centred(kernels), kernels - kernels.mean(axis=1)[:, None], rtol=1e-12)
