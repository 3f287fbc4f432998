import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklearn_calm import ConvGMMFeatures
from sklearn_calm._convolution import fourier
from sklearn_calm._convolution.geometry import PatchGeometry


def square(side, patch, n_channels=1):
    return PatchGeometry((side, side, n_channels), (patch, patch), (1, 1))


def test_transforms_pay_for_large_kernels_only():
    for geometry in (square(28, 5), square(28, 7), square(32, 6, 3), square(32, 20)):
        assert not fourier.pays(geometry, 64)
    for geometry in (square(96, 15, 3), square(64, 31), square(128, 63, 3)):
        assert fourier.pays(geometry, 64)
    # A few positions of a large image are a few products.
    sparse = square(128, 31, 3)._replace(stride=(16, 16))
    assert not fourier.pays(sparse, 64)


def test_transforms_of_all_kernels_fit_in_memory():
    geometry = square(512, 63)
    assert fourier.pays(geometry, 8)
    assert not fourier.pays(geometry, 10_000)


@pytest.mark.parametrize("n_components", [1, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_blocks_of_kernels_are_put_together(monkeypatch, n_components, seed):
    rng = np.random.default_rng(seed)
    geometry = PatchGeometry((9, 11, 2), (4, 3), (2, 1))
    images = rng.normal(size=(3, 9, 11, 2))
    kernels = rng.normal(size=(n_components, geometry.patch_length))
    spectrum = fourier.spectrum(kernels, geometry)
    shape = (geometry.map_shape[0], 3, geometry.map_shape[1], n_components)

    def both():
        maps = np.empty(shape)
        fourier.correlate_spectrum(images, spectrum, geometry, maps)
        return maps, fourier.spectrum_adjoint(images, maps, geometry)

    whole = both()
    monkeypatch.setattr(fourier, "BLOCK_BYTES", 2 * spectrum[0].nbytes)
    for found, expected in zip(both(), whole, strict=True):
        assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("assignment", ["image", (2, 2)])
@pytest.mark.parametrize("normalize", [None, "contrast"])
def test_a_fit_by_transforms_is_that_by_products(monkeypatch, assignment, normalize):
    X = np.random.default_rng(2).normal(size=(12, 14, 13, 2))
    model = ConvGMMFeatures(
        4,
        patch_size=6,
        assignment=assignment,
        normalize=normalize,
        pool_grid=2,
        max_iter=4,
        tol=0,
        random_state=0,
    )
    features = model.fit_transform(X)
    monkeypatch.setattr(fourier, "pays", lambda geometry, n_components: True)
    assert_allclose(model.transform(X), features, rtol=1e-8, atol=1e-9)
    means, bounds, scores = model.means_, model.lower_bounds_, model.score_samples(X)
    assert_allclose(model.fit_transform(X), features, rtol=1e-6, atol=1e-8)
    assert_allclose(model.means_, means, rtol=1e-6, atol=1e-8)
    assert_allclose(model.lower_bounds_, bounds, rtol=1e-9)
    assert_allclose(model.score_samples(X), scores, rtol=1e-9)
