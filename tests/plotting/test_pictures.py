import numpy as np
import pytest

from _drawing import drawn
from sklearn_calm.plotting import KernelDisplay


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
