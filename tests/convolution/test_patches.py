import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from _geometries import floors, geometries, make_images, seeds, twin_patches
from _twins import FLOOR, GEOMETRIES, HEIGHT, WIDTH, patch_types
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._convolution.fourier import FourierPatches
from sklearn_calm._convolution.geometry import PatchGeometry, slices
from sklearn_calm._convolution.moments import centred
from sklearn_calm._convolution.patches import StripedPatches


def view(images, geometry, floor, patch_type=StripedPatches, scratch=None):
    return patch_type(images, geometry, contrast_floor=floor, scratch=scratch)


@geometries
@seeds
def test_blocks_are_the_twin_patches(geometry, seed):
    images, geometry, X = make_images(np.random.default_rng(seed), geometry)
    expected = twin_patches(X, geometry, None)
    patches = view(images, geometry, None)
    blocks = patches.blocks
    assert not blocks.flags.writeable
    blocks = blocks if patches.order is None else blocks[patches.order]
    lines = blocks.reshape(*expected.shape[:3], geometry.patch_size[0], -1)
    assert_array_equal(lines[..., :-1].reshape(expected.shape), expected)
    assert_array_equal(lines[..., 0, -1], 1)


@geometries
@seeds
def test_windows_are_the_twin_patches(geometry, seed):
    images, geometry, X = make_images(np.random.default_rng(seed), geometry)
    expected = twin_patches(X, geometry, None).transpose(1, 0, 2, 3)
    windows = view(images, geometry, None, FourierPatches).windows
    assert_array_equal(windows.reshape(expected.shape), expected)
    assert not windows.flags.writeable


@geometries
@floors
@seeds
@patch_types
def test_correlate_is_the_inner_product_with_every_patch(geometry, floor, seed, patch_type):
    rng = np.random.default_rng(seed)
    images, geometry, X = make_images(rng, geometry)
    kernels, bias = centred(rng.normal(size=(3, geometry.patch_length))), rng.normal(size=3)
    kernels.flags.writeable = bias.flags.writeable = False
    maps = view(images, geometry, floor, patch_type).correlate(
        patch_type.prepared(kernels, geometry), bias
    )
    expected = twin_patches(X, geometry, floor) @ kernels.T + bias
    assert_allclose(maps, expected, rtol=1e-9, atol=1e-9)


@geometries
@seeds
def test_stripes_of_normalised_patches_take_kernels_with_a_mean(geometry, seed):
    rng = np.random.default_rng(seed)
    images, geometry, X = make_images(rng, geometry)
    kernels, bias = rng.normal(size=(3, geometry.patch_length)) + 1, rng.normal(size=3)
    maps = view(images, geometry, FLOOR).correlate(kernels, bias)
    expected = twin_patches(X, geometry, FLOOR) @ kernels.T + bias
    assert_allclose(maps, expected, rtol=1e-9, atol=1e-11)


@geometries
@floors
def test_rows_are_those_of_correlate_times_the_deviation(geometry, floor):
    rng = np.random.default_rng(10)
    images, geometry, _ = make_images(rng, geometry)
    kernels, bias = rng.normal(size=(3, geometry.patch_length)), rng.normal(size=3)
    patches = view(images, geometry, floor)
    expected = patches.correlate(kernels, bias)
    if floor is not None:
        expected *= patches.deviation[..., None]
    for map_row, literal in zip(patches.correlate_rows(kernels, bias), expected, strict=True):
        assert_allclose(map_row, literal, rtol=1e-9, atol=1e-11)
    bands = slices(len(expected), 2)
    for band, rows in zip(patches.correlate_bands(kernels, bias, bands), bands, strict=True):
        assert_allclose(band, expected[rows], rtol=1e-9, atol=1e-11)


@geometries
@floors
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_correlate_at_is_correlate_at_the_positions_given(geometry, floor, share):
    rng = np.random.default_rng(13)
    images, geometry, _ = make_images(rng, geometry)
    kernels, bias = rng.normal(size=(3, geometry.patch_length)), rng.normal(size=3)
    patches = view(images, geometry, floor)
    maps = patches.correlate(kernels, bias)
    chosen = rng.uniform(size=maps.shape[:3]) < share
    positions = np.nonzero(chosen.reshape(len(chosen), -1))
    few = patches.correlate_at(positions, kernels, bias)
    assert_allclose(few, maps[chosen], rtol=1e-9, atol=1e-11)


@geometries
@floors
@pytest.mark.parametrize("scaled", [False, True])
@patch_types
def test_adjoint_is_the_weighted_sum_of_patches(geometry, floor, scaled, patch_type):
    rng = np.random.default_rng(2)
    images, geometry, X = make_images(rng, geometry)
    literal = twin_patches(X, geometry, floor)
    maps = rng.normal(size=(*literal.shape[:3], 3))
    scale = rng.uniform(0.5, 2, size=literal.shape[:3]) if scaled else None
    weights = maps if scale is None else maps * scale[..., None]
    maps_before = maps.copy()
    sums, totals = view(images, geometry, floor, patch_type).adjoint(maps, scale)
    assert_allclose(sums, np.einsum("rnck,rncd->kd", weights, literal), rtol=1e-9, atol=1e-10)
    assert_allclose(totals, weights.sum(axis=(0, 1, 2)), rtol=1e-9, atol=1e-10)
    assert_array_equal(maps, maps_before)


@geometries
@floors
@seeds
@patch_types
def test_correlate_and_its_adjoint_are_adjoint(geometry, floor, seed, patch_type):
    rng = np.random.default_rng(seed)
    images, geometry, _ = make_images(rng, geometry)
    patches = view(images, geometry, floor, patch_type)
    kernels, bias = centred(rng.normal(size=(4, geometry.patch_length))), rng.normal(size=4)
    maps = rng.normal(size=geometry.maps_shape(len(images), 4))
    there = np.vdot(patches.correlate(patch_type.prepared(kernels, geometry), bias), maps)
    sums, totals = patches.adjoint(maps)
    back = np.vdot(kernels, sums) + np.vdot(bias, totals)
    assert there == pytest.approx(back, rel=1e-9, abs=1e-9)


@geometries
@floors
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@patch_types
def test_gather_sums_the_positions_given(geometry, floor, scaled, share, patch_type):
    rng = np.random.default_rng(3)
    images, geometry, X = make_images(rng, geometry)
    literal = twin_patches(X, geometry, floor)
    kept = rng.uniform(size=literal.shape[:3]) < share
    scale = rng.uniform(0.5, 2, size=kept.shape)
    few = rng.normal(size=(kept.sum(), 3))
    weights = few * scale[kept][:, None] if scaled else few
    positions = np.nonzero(kept.reshape(len(kept), -1))
    patches = view(images, geometry, floor, patch_type)
    sums, totals = patches.gather(positions, few, scale if scaled else None)
    assert_allclose(sums, weights.T @ literal[kept], rtol=1e-9, atol=1e-10)
    assert_allclose(totals, weights.sum(axis=0), rtol=1e-9, atol=1e-10)


@patch_types
def test_gather_takes_more_positions_than_it_copies_at_a_time(patch_type):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(30, 20, 20, 1))
    geometry = PatchGeometry((20, 20, 1), (8, 8), (1, 1))
    maps = rng.normal(size=(13, 30, 13, 2))
    positions = np.nonzero(np.ones((13, 30 * 13), dtype=bool))
    expected = view(X, geometry, FLOOR).adjoint(maps)
    few = view(X, geometry, FLOOR, patch_type).gather(positions, maps.reshape(-1, 2))
    for gathered, all_of_them in zip(few, expected, strict=True):
        assert_allclose(gathered, all_of_them, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@floors
@patch_types
def test_precision_is_kept(dtype, floor, patch_type):
    rng = np.random.default_rng(6)
    images, geometry, X = make_images(rng, GEOMETRIES[2])
    patches = view(images.astype(dtype), geometry, floor, patch_type)
    kernels = centred(rng.normal(size=(3, geometry.patch_length))).astype(dtype)
    prepared = patch_type.prepared(kernels, geometry)
    maps = patches.correlate(prepared, np.zeros(3, dtype))
    assert maps.dtype == patches.images.dtype == dtype
    assert all(sums.dtype == dtype for sums in patches.adjoint(maps))
    assert_allclose(maps, twin_patches(X, geometry, floor) @ kernels.T, rtol=1e-3, atol=1e-4)


def test_contrast_survives_a_large_constant_in_float32():
    rng = np.random.default_rng(7)
    X = rng.normal(size=(2, HEIGHT, WIDTH, 1))
    geometry = PatchGeometry(X.shape[1:], (3, 3), (1, 1))
    kernels = rng.normal(size=(2, 9)).astype(np.float32)
    # 2**-8 is what float32 resolves at 2**15: quantise first, so that only the engine can lose.
    X = np.round(X * 2**8) / 2**8
    shifted = (X + 2**14).astype(np.float32)
    maps = view(shifted, geometry, FLOOR).correlate(kernels, np.zeros(2, np.float32))
    assert_allclose(maps, twin_patches(X, geometry, FLOOR) @ kernels.T, atol=2e-2)


@floors
@patch_types
def test_used_memory_changes_nothing(floor, patch_type):
    scratch = Scratch()
    for seed, geometry in enumerate([*GEOMETRIES, *GEOMETRIES[::-1]]):
        rng = np.random.default_rng(seed)
        images, geometry, _ = make_images(rng, geometry, n_images=1 + seed % 3)
        kernels = centred(rng.normal(size=(2 + seed % 2, geometry.patch_length)))
        layer = patch_type.prepared(kernels, geometry), rng.normal(size=len(kernels))
        fresh = view(images, geometry, floor, patch_type).correlate(*layer)
        used = view(images, geometry, floor, patch_type, scratch).correlate(*layer)
        assert_array_equal(used, fresh)


@patch_types
def test_images_need_not_be_contiguous(patch_type):
    rng = np.random.default_rng(8)
    images, geometry, _ = make_images(rng, GEOMETRIES[2])
    kernels = patch_type.prepared(rng.normal(size=(2, geometry.patch_length)), geometry)
    turned = np.asfortranarray(images)
    assert not turned.flags.c_contiguous
    assert_array_equal(
        view(turned, geometry, None, patch_type).correlate(kernels, np.zeros(2)),
        view(images, geometry, None, patch_type).correlate(kernels, np.zeros(2)),
    )


@floors
def test_normalised_patches_know_their_deviation(floor):
    images, geometry, X = make_images(np.random.default_rng(5), GEOMETRIES[1])
    for patch_type in (StripedPatches, FourierPatches):
        patches = view(images, geometry, floor, patch_type)
        if floor is None:
            assert patches.deviation is None
        else:
            variance = twin_patches(X, geometry, None).var(axis=-1)
            assert_allclose(patches.deviation, np.sqrt(variance + floor), rtol=1e-9)
