import dask.array as da
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.nn.functional import conv2d

import _reference
from sklearn_calm import ConvGMMFeatures

RAW = {"normalize": None, "whiten": False}
PREPROCESSINGS = [RAW, {"normalize": None}, {"whiten": False}, {}]
DILATIONS = [2, (3, 1), (1, 4), (2, 3)]
SETTINGS = {
    "defaults": {},
    "bounded": {"assignment": "image", "patch_size": (8, 8), "n_components": 70, "tol": 0},
    "grid": {"assignment": (2, 2), "stride": (1, 2), "pooling": "mean"},
    "maps": {"pooling": None, "stride": 2},
}


def images(seed, shape=(24, 23), n=12):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, *shape)) + rng.normal(size=(n, *(1,) * len(shape)))


def small(n_components=4, **options):
    options = {"patch_size": 3, "max_iter": 4, "tol": 0, "random_state": 0, **options}
    return ConvGMMFeatures(n_components, **options)


@pytest.mark.parametrize("dilation", DILATIONS)
@pytest.mark.parametrize("stride", [1, (2, 3)])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_the_layer_is_that_of_torch(dilation, stride, n_channels):
    X = images(0, (17, 15, n_channels))
    options = {"patch_size": (3, 4), "dilation": dilation, "stride": stride, "padding": (2, 1)}
    model = small(pooling=None, **options, **RAW).fit(X)
    weight = torch.as_tensor(model.conv_weight_).permute(0, 3, 1, 2)
    expected = conv2d(
        torch.as_tensor(X).permute(0, 3, 1, 2),
        weight,
        torch.as_tensor(model.conv_bias_),
        stride=stride,
        padding=(2, 1),
        dilation=dilation,
    )
    assert_allclose(model.transform(X), expected.permute(0, 2, 3, 1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=str)
def test_patches_of_a_phase_are_those_of_the_image_of_that_phase(preprocessing):
    """Every second row and every third column of an image are an image of their own."""
    X = images(1, (12, 15))
    phases = [X[:, i::2, j::3] for i in range(2) for j in range(3)]
    options = {"padding": 0, "pooling": None, **preprocessing}
    model = small(dilation=(2, 3), **options).fit(X)
    maps = model.transform(X)
    other = small(**options).fit(np.concatenate(phases))
    other._model = other._model._replace(preprocessing=model._model.preprocessing)
    other._layer = model._layer
    for k, phase in enumerate(phases):
        i, j = divmod(k, 3)
        found = maps[:, i::2, j::3]
        expected = other.transform(phase)[:, : found.shape[1], : found.shape[2]]
        assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


def test_an_image_with_zeros_between_its_pixels():
    """It has the features of the image in the places that were its pixels."""
    X = images(2, (9, 8))
    spread = np.zeros((len(X), 17, 15))
    spread[:, ::2, ::2] = X
    kernels = np.random.default_rng(3).normal(size=(4, 3, 3))
    options = {"padding": 0, "pooling": None, "init_params": kernels, "max_iter": 1, **RAW}
    options |= {"noise_variance": 1.0, "learn_weights": False}
    plain = small(**options).fit(X)
    dilated = small(dilation=2, stride=2, **options).fit(spread)
    assert_allclose(dilated.means_, plain.means_, rtol=1e-9, atol=1e-12)
    assert_allclose(dilated.transform(spread), plain.transform(X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=str)
@pytest.mark.parametrize("assignment", ["image", (2, 2), "patch"])
@pytest.mark.parametrize("seed", [4, 5])
def test_the_objective_never_falls(assignment, preprocessing, seed):
    X = images(seed)
    model = small(dilation=(2, 3), assignment=assignment, max_iter=12, **preprocessing).fit(X)
    bounds = np.array([*model.lower_bounds_, model.score(X)])
    assert (np.diff(bounds) >= -1e-9 * np.abs(bounds[:-1])).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # dead components
@pytest.mark.parametrize("setting", SETTINGS)
def test_torch_and_dask_give_the_features_of_numpy(setting):
    X = images(6)
    model = small(**{"dilation": (3, 2), **SETTINGS[setting]})
    expected = model.fit(X).transform(X)
    # Of several terms of one rounding error each.
    close = {"rtol": 1e-7, "atol": 1e-7 * np.abs(expected).max()}
    found = model.fit(torch.as_tensor(X)).transform(torch.as_tensor(X))
    assert_allclose(found.numpy(), expected, **close)
    blocks = da.from_array(X, chunks=(5, -1, -1))
    assert_allclose(model.fit(X).transform(blocks).compute(), expected, **close)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # dead components
def test_the_bounds_of_large_patches_change_nothing():
    """Tensors have no bounds."""
    X = images(7, n=30)
    options = {"patch_size": (8, 9), "dilation": (2, 2), "assignment": "image", "max_iter": 8}
    model = small(70, **options).fit(X)
    unbounded = small(70, **options).fit(torch.as_tensor(X))
    assert_allclose(model.lower_bounds_, unbounded.lower_bounds_, rtol=1e-8)


def test_a_side_of_one_pixel_has_no_gaps():
    X = images(8, (60,))
    features = [
        small(dilation=dilation, patch_size=9, pool_grid=2).fit_transform(X)
        for dilation in (4, (1, 4), (7, 4))
    ]
    assert_array_equal(features[1], features[0])
    assert_array_equal(features[2], features[0])


@pytest.mark.parametrize(
    ("options", "padding"),
    [
        ({"padding": "auto"}, ((4, 4), (3, 3))),
        ({"padding": "same"}, ((4, 4), (3, 3))),
        ({"padding": "auto", "assignment": "image"}, ((0, 0), (0, 0))),
        ({"padding": 100}, ((8, 8), (6, 6))),
    ],
    ids=str,
)
def test_padding_follows_the_reach(options, padding):
    geometry = small(dilation=(4, 3), **options).fit(images(9))._model.geometry
    assert geometry.reach == (9, 7)
    assert geometry.padding == padding


def test_an_int_patch_size_is_clipped_so_that_patches_fit():
    model = small(patch_size=9, dilation=4, padding=0).fit(images(10, (10, 60)))
    assert model.means_.shape[1:3] == (3, 9)
    assert _reference.extract_patches(np.zeros((10, 60, 1)), (3, 9), (1, 1), (0, 0), (4, 4)).size


def test_patches_beyond_the_image_are_refused():
    with pytest.raises(ValueError, match=r"dilation=\(8, 8\), of \(33, 33\) pixels.*larger than"):
        small(patch_size=(5, 5), dilation=8).fit(images(11))


@pytest.mark.parametrize("dilation", DILATIONS)
def test_features_of_pixels_are_those_of_the_maps(dilation):
    X = images(12)
    options = {"patch_size": 3, "dilation": dilation, "padding": "same", "pooling": "tempered"}
    model = small(**options).fit(X)
    maps = model.set_params(pooling=None).transform(X) / 9
    shares = np.exp(maps - maps.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    found = model.set_params(pooling="tempered").transform_pixels(X, widths=0)
    assert_allclose(found, shares.reshape(-1, 4), rtol=1e-7, atol=1e-9)
