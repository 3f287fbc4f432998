import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from _drawing import drawn
from sklearn_calm.plotting import KernelDisplay, TopPatchesDisplay
from sklearn_calm.plotting._pictures import limits, scaled, stretched


def test_shared_scale_keeps_the_contrast_between_kernels():
    kernels = np.stack([np.eye(3), 2 * np.eye(3)])[..., None]
    each = drawn(KernelDisplay(kernels).plot(n_columns=2))
    shared = drawn(KernelDisplay(kernels).plot(n_columns=2, shared_scale=True))
    assert each[0, 0] == 1
    assert shared[0, 0] == 0.5


def test_flat_kernels_are_drawn_flat():
    noise = 1e-3 * np.random.default_rng(0).random((3, 3))
    kernels = np.stack([np.eye(3), noise, 1 - noise, 0.5 + noise])[..., None]
    tiles = drawn(KernelDisplay(kernels).plot(n_columns=4)).reshape(3, 4, 3).swapaxes(0, 1)
    np.testing.assert_array_equal(tiles[0], np.eye(3))
    for tile, level in zip(tiles[1:], [0, 1, 0.5], strict=True):
        assert np.ptp(tile) == pytest.approx(10 * np.ptp(noise))
        assert abs(tile.mean() - level) < 0.02


def test_a_constant_kernel_is_drawn():
    for shared_scale in (False, True):
        picture = drawn(KernelDisplay(np.ones((1, 3, 3, 1))).plot(shared_scale=shared_scale))
        assert np.isfinite(picture).all()


@pytest.mark.parametrize("dtype", [bool, "i1", "i2", "i4", "i8", "u2", "u8", "f2", ">i2", ">f4"])
def test_limits_are_the_least_and_the_greatest_value(dtype):
    low, high = (0, 1) if dtype is bool else (-100, 100)
    if np.dtype(dtype).kind == "u":
        low = 0
    assert limits(np.array([low, high, high]).astype(dtype).reshape(1, 3, 1, 1)) == (low, high)


def test_limits_of_bytes():
    assert limits(np.array([3, 7], np.uint8)) == (0, 255)


def colours(n=6, size=4, seed=0):
    """Kernels as of contrast normalisation: edges of full contrast, and plain colours."""
    rng = np.random.default_rng(seed)
    edges = np.sign(rng.normal(size=(n, size, size, 1))) * np.ones(3)
    plain = rng.normal(size=(n, 1, 1, 3)) * np.ones((size, size, 1))
    kernels = np.concatenate([edges, plain])
    kernels -= kernels.mean(axis=(1, 2, 3), keepdims=True)
    return kernels / kernels.std(axis=(1, 2, 3), keepdims=True)


def chroma(pictures):
    """What each channel differs by from the mean of the channels."""
    return pictures - pictures.mean(axis=-1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_colours_share_one_scale_and_do_not_fill_it(seed):
    kernels = colours(seed=seed)
    strength = np.random.default_rng(seed).uniform(0.2, 1, size=(12, 1, 1, 1))
    kernels[6:] *= strength[6:]
    pictures = stretched(kernels)
    ratio = chroma(pictures[6:]) / chroma(kernels[6:])
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-9)
    assert np.ptp(pictures[6:], axis=-1).max() < 0.6
    np.testing.assert_allclose(np.ptp(pictures[:6], axis=(1, 2, 3)), 1)


def test_pale_pictures_stay_pale_beside_others_and_alone():
    pixels = np.random.default_rng(0).random((3, 4, 4, 3))
    pixels[0] = [0.80, 0.82, 0.88]
    for pictures in (pixels, pixels[:1]):
        assert np.ptp(stretched(pictures)[0], axis=-1).max() < 0.12
    assert np.ptp(stretched((255 * pixels).astype(np.uint8), (0, 255))[0], axis=-1).max() < 0.09


def test_colours_of_patches_are_those_of_the_images():
    images = np.random.default_rng(0).uniform(0.4, 0.6, size=(1, 3, 6, 6, 3))
    images[0, 0, 0, 0], images[0, 0, 0, 1] = 0, 1
    corners = np.full((1, 3, 2), 2)
    display = TopPatchesDisplay(images, corners, colours(1, 3)[:1]).plot()
    shown = np.asarray(display.ax_.get_images()[-1].get_array())
    patches = np.concatenate(images[0, :, 2:5, 2:5], axis=1)
    unclipped = ((shown > 0) & (shown < 1)).all(axis=-1)
    assert unclipped.mean() > 0.5
    np.testing.assert_allclose(chroma(shown)[unclipped], chroma(patches)[unclipped], atol=1e-12)


def test_one_bright_pixel_does_not_dull_all_colours():
    kernels = colours()
    dull = kernels.copy()
    dull[0, 0, 0] = 20
    assert chroma(stretched(dull)[6:]).max() > 0.5 * chroma(stretched(kernels)[6:]).max()


def test_a_constant_picture_in_colour_is_drawn():
    for value in (0, 1, -1):
        assert np.isfinite(stretched(np.full((2, 3, 3, 3), value))).all()


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("draw", [stretched, lambda pictures: scaled(pictures, limits(pictures))])
def test_missing_pixels_are_grey_and_change_no_other(draw, n_channels):
    pictures = np.random.default_rng(5).uniform(size=(3, 4, 5, n_channels))
    pictures[0, 0, 0], pictures[0, 0, 1] = 0, 1
    gapped = pictures.copy()
    gapped[1, 2:, 2:] = np.nan
    drawn, whole = draw(gapped), draw(pictures)
    assert_array_equal(drawn[1, 2:, 2:], 0.5)
    assert not np.isnan(drawn).any()
    if n_channels == 1:
        assert_allclose(drawn[0], whole[0])
