import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _reference
from sklearn_calm._mixture.preprocessing import (
    PatchMoments,
    Preprocessing,
    contrast_floor,
    fit_preprocessing,
    normalize_contrast,
    patch_moments,
    whitening,
)

seeds = pytest.mark.parametrize("seed", [0, 1, 2])


def make_patches(rng, n=40, length=6):
    """Correlated patches with a mean, read-only, and their weights."""
    patches = rng.normal(size=(n, length)) @ rng.normal(size=(length, length)) + 1
    patches.flags.writeable = False
    return patches, rng.uniform(0.1, 3, size=n)


def preprocessed(patches, preprocessing):
    """Raw patches (m, D) in y space."""
    return preprocessing.whiten(normalize_contrast(patches, preprocessing.contrast_floor))


@seeds
def test_normalization_is_literal(seed):
    rng = np.random.default_rng(seed)
    patches, _ = make_patches(rng)
    expected = [_reference.normalize_contrast(patch, 0.3) for patch in patches]
    assert_allclose(normalize_contrast(patches, 0.3), expected, rtol=1e-10, atol=1e-13)
    assert normalize_contrast(patches, None) is patches


@seeds
def test_floor_is_a_share_of_the_mean_variance(seed):
    rng = np.random.default_rng(seed)
    patches, weights = make_patches(rng)
    variances = [np.var(patch) for patch in patches]
    expected = 0.01 * np.sum(weights * variances) / np.sum(weights)
    assert contrast_floor(patches, weights) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 255.0, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normalized_patches_do_not_depend_on_the_scale(scale, dtype):
    rng = np.random.default_rng(3)
    patches, weights = make_patches(rng)
    one, other = patches.astype(dtype), (patches * scale).astype(dtype)
    floor = contrast_floor(one, weights)
    assert contrast_floor(other, weights) == pytest.approx(scale**2 * floor, rel=1e-5)
    assert_allclose(
        normalize_contrast(other, contrast_floor(other, weights)),
        normalize_contrast(one, floor),
        rtol=1e-4,
        atol=1e-5,
    )


@seeds
@pytest.mark.parametrize("reg_covar", [0, 1e-3, 0.1, 10])
def test_whitening_is_that_of_the_twin(seed, reg_covar):
    rng = np.random.default_rng(seed)
    patches, weights = make_patches(rng)
    mean, whitener = whitening(patch_moments(patches, weights), reg_covar)
    expected_mean, expected = _reference.whitening(patches, weights, reg_covar)
    assert_allclose(mean, expected_mean, rtol=1e-10)
    assert_allclose(whitener, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


@seeds
def test_whitened_patches_are_white(seed):
    rng = np.random.default_rng(seed)
    patches, weights = make_patches(rng)
    preprocessing = fit_preprocessing(patches, weights, normalize=None, whiten=True, reg_covar=0)
    white = preprocessed(patches, preprocessing)
    assert_allclose(weights @ white, np.zeros(6), atol=1e-9)
    assert_allclose((white.T * weights) @ white / weights.sum(), np.eye(6), atol=1e-8)


@seeds
@pytest.mark.parametrize("rank", [1, 3])
def test_without_ridge_directions_that_do_not_vary_are_left_out(seed, rank):
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(6, rank)))[0]
    patches = rng.normal(size=(50, rank)) @ rng.normal(size=(rank, rank)) @ axes.T + 2
    weights = np.ones(50)
    preprocessing = fit_preprocessing(patches, weights, normalize=None, whiten=True, reg_covar=0)
    assert np.linalg.matrix_rank(preprocessing.whitener, tol=1e-6) == rank
    white = preprocessed(patches, preprocessing)
    # Whitened within the plane: the covariance is the projection on it.
    assert_allclose(white.T @ white / 50, axes @ axes.T, atol=1e-7)


@seeds
@pytest.mark.parametrize("reg_covar", [1e-3, 0.1])
def test_a_ridge_keeps_directions_that_do_not_vary(seed, reg_covar):
    rng = np.random.default_rng(seed)
    patches = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 6)) + 2
    weights = rng.uniform(0.5, 2, size=50)
    _, whitener = whitening(patch_moments(patches, weights), reg_covar)
    _, expected = _reference.whitening(patches, weights, reg_covar)
    assert_allclose(whitener, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


@seeds
def test_contrast_without_ridge_leaves_out_brightness_alone(seed):
    rng = np.random.default_rng(seed)
    patches, weights = make_patches(rng)
    preprocessing = fit_preprocessing(
        patches, weights, normalize="contrast", whiten=True, reg_covar=0
    )
    assert np.linalg.matrix_rank(preprocessing.whitener, tol=1e-6) == 5
    assert_allclose(preprocessing.whitener @ np.ones(6), np.zeros(6), atol=1e-7)


@pytest.mark.parametrize("cuts", [[20], [1, 39], [7, 7, 30]])
def test_moments_add_over_any_split(cuts):
    rng = np.random.default_rng(4)
    patches, weights = make_patches(rng)
    parts = zip(np.split(patches, cuts), np.split(weights, cuts), strict=True)
    total = PatchMoments(0.0, np.zeros(6), np.zeros((6, 6)))
    for part in parts:
        total = total.merge(patch_moments(*part))
    for a, b in zip(total, patch_moments(patches, weights), strict=True):
        assert_allclose(a, b, rtol=1e-12)


def test_moments_of_weights_are_those_of_repeated_patches():
    rng = np.random.default_rng(5)
    patches, _ = make_patches(rng)
    counts = rng.integers(1, 4, size=len(patches))
    repeated = np.repeat(patches, counts, axis=0)
    for a, b in zip(
        patch_moments(patches, counts.astype(float)),
        patch_moments(repeated, np.ones(len(repeated))),
        strict=True,
    ):
        assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 255.0, -1e4])
@pytest.mark.parametrize("normalize", [None, "contrast"])
@pytest.mark.parametrize("reg_covar", [0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_patches_give_nothing_but_zeros(value, normalize, reg_covar, dtype):
    patches = np.full((30, 7), value, dtype=dtype)
    weights = np.linspace(0.1, 2, 30)
    preprocessing = fit_preprocessing(
        patches, weights, normalize=normalize, whiten=True, reg_covar=reg_covar
    )
    assert np.isfinite(preprocessing.whitener).all()
    # Rounding errors are not to be blown up into patches of their own.
    assert_allclose(preprocessed(patches, preprocessing), np.zeros((30, 7)), atol=1e-4)


def test_what_is_not_asked_for_is_not_done():
    patches, weights = make_patches(np.random.default_rng(6))
    plain = fit_preprocessing(patches, weights, normalize=None, whiten=False, reg_covar=0.1)
    assert plain == Preprocessing(None, None, None)
    assert plain.is_identity
    assert_array_equal(preprocessed(patches, plain), patches)
    contrast = fit_preprocessing(patches, weights, normalize="contrast", whiten=False, reg_covar=0)
    assert contrast.whitener is None
    assert not contrast.is_identity
    white = fit_preprocessing(patches, weights, normalize=None, whiten=True, reg_covar=0.1)
    assert white.contrast_floor is None
    assert not white.is_identity


@seeds
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_does_not_change_the_floor(seed, dtype):
    rng = np.random.default_rng(seed)
    patches, weights = make_patches(rng)
    patches = np.round(patches * 2**6) / 2**6  # so that float32 holds them with the constant
    floor = contrast_floor(patches.astype(dtype), weights)
    for constant in (1e3, -1e5):
        moved = (patches + constant).astype(dtype)
        assert contrast_floor(moved, weights) == pytest.approx(floor, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_constant_patches_have_no_contrast(dtype, unit):
    rng = np.random.default_rng(4)
    patches = np.full((30, 6), 0.1 * unit, dtype)
    rounding = rng.integers(-2, 3, size=patches.shape) * np.spacing(patches)
    for some in (patches, (patches + rounding).astype(dtype)):
        floor = contrast_floor(some, np.ones(30))
        assert np.abs(normalize_contrast(some, floor)).max() < 0.3
        assert floor == pytest.approx((16 * np.finfo(dtype).eps * 0.1 * unit) ** 2, rel=1e-3)
    assert contrast_floor(np.zeros((3, 6), dtype), np.ones(3)) == 1


def test_values_far_apart_have_a_floor_above_rounding_errors():
    patches = np.repeat([[0.0], [1e6]], 5, axis=1).astype(np.float32)
    patches[:, 0] += 0.125
    floor = contrast_floor(patches, np.ones(2))
    assert floor == pytest.approx(np.finfo(np.float32).eps * 0.25e12, rel=1e-3)
    assert contrast_floor(patches.astype(np.float64), np.ones(2)) < 1e-3
