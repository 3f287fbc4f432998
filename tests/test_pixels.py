"""Features of pixels."""

import copy

import dask.array as da
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_allclose, assert_array_equal

import _reference
from _models import make_bytes, make_images, small
from _pixel_reference import pixel_features
from sklearn_calm import _pixels
from sklearn_calm._arrays.namespace import library_of, to_numpy

POOLINGS = {
    "triangle": {"pooling": "triangle"},
    "both": {"pooling": "triangle", "polarity": "both"},
    "contrast": {"pool_contrast": 0.5, "polarity": "both"},
    "tempered": {"pooling": "tempered"},
    "mean": {"pooling": "mean"},
    "image": {"assignment": "image", "pooling": "tempered", "padding_mode": "constant"},
    "raw": {"normalize": None, "whiten": False, "patch_size": 4, "padding_mode": "edge"},
    "dilated": {"dilation": 2, "symmetry": "mirror", "pool_symmetry": None},
    "Fourier": {"patch_size": 8, "n_components": 6},
}
poolings = pytest.mark.parametrize("options", POOLINGS.values(), ids=POOLINGS)


def fitted(seed=0, **options):
    options = {"padding": "same", **options}
    return small(**options).fit(make_images(seed))


def photographs(seed=0, n=2, shape=(23, 31), dtype=np.float64):
    return make_images(seed + 100, n, shape, dtype)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(_pixels, "TILE_BYTES", 1)
    monkeypatch.setattr(_pixels, "LEAST_TILE", 5)


def contrasts(model, image):
    """Contrast of the patch about every pixel, relative to the mean one."""
    patches = sliding_window_view(np.pad(image, 1, mode="reflect"), (3, 3))
    floor = model.contrast_floor_
    return np.sqrt((patches.var(axis=(2, 3)) + floor) / (100 * floor))


@poolings
@pytest.mark.parametrize("seed", [0, 1])
def test_features_are_those_of_the_literal_twin(options, seed):
    model = fitted(seed, **options)
    X = make_images(seed + 50, n=2)  # of the fitted size, so that maps can be had
    mapped = copy.copy(model).set_params(pooling=None, pool_contrast=0, polarity="positive")
    joint = mapped.transform(X)
    pixels = np.array([[0, 0, 0], [1, 7, 8], [0, 3, 4], [1, 5, 0]])
    widths = [0, 0.7, 2]
    found = model.transform_pixels(X, pixels, widths=widths)
    signs = [1, -1] if model.polarity == "both" else [1]
    patch_length = model.means_[0].size
    for row, (i, *pixel) in zip(found, pixels, strict=True):
        gamma = np.exp(joint[i] - np.logaddexp.reduce(joint[i], axis=-1, keepdims=True))
        quantities = np.array(
            [
                [
                    [
                        _reference.averaged(scores, shares, model.pooling, k, sign, patch_length)
                        for sign in signs
                        for k in range(len(scores))
                    ]
                    for scores, shares in zip(*line, strict=True)
                ]
                for line in zip(joint[i], gamma, strict=True)
            ]
        )
        if model.pool_contrast:
            quantities *= contrasts(model, X[i])[..., None] ** model.pool_contrast
        expected = pixel_features(quantities, pixel, widths)
        assert_allclose(row, expected, rtol=1e-8, atol=1e-10)


@poolings
@pytest.mark.parametrize("widths", [[0], [1, 3]])
def test_tiles_do_not_matter(options, widths, monkeypatch):
    model, X = fitted(**options), photographs()
    expected = model.transform_pixels(X, widths=widths)
    monkeypatch.setattr(_pixels, "TILE_BYTES", 1)
    monkeypatch.setattr(_pixels, "LEAST_TILE", 5)
    assert_allclose(model.transform_pixels(X, widths=widths), expected, rtol=1e-9, atol=1e-11)


def test_pixels_are_chosen_by_mask_and_by_coordinates(small_tiles):
    model, X, rng = fitted(), photographs(), np.random.default_rng(0)
    everything = model.transform_pixels(X).reshape(*X.shape, -1)
    assert everything.shape[3] == 9
    mask = rng.random(X.shape) < 0.1
    assert_allclose(model.transform_pixels(X, mask), everything[mask], rtol=1e-9)
    pixels = rng.permutation(np.argwhere(mask))
    pixels = np.concatenate([pixels, pixels[:3]])
    chosen = everything[tuple(pixels.T)]
    assert_allclose(model.transform_pixels(X, pixels), chosen, rtol=1e-9)
    assert_allclose(model.transform_pixels(X, pixels.tolist()), chosen, rtol=1e-9)
    one = model.transform_pixels(X[:1], mask[0])
    assert_allclose(one, everything[0][mask[0]], rtol=1e-9)
    for none in ([], np.zeros_like(mask), np.empty((0, 3), int)):
        assert model.transform_pixels(X, none).shape == (0, 9)


def test_a_constant_image_has_constant_features():
    model = fitted(pooling="tempered")
    found = model.transform_pixels(np.full((1, 20, 25), 3.0))
    assert_allclose(found, np.broadcast_to(found[0], found.shape), rtol=1e-9)


def test_a_shifted_image_has_shifted_features():
    model, X = fitted(), photographs(shape=(40, 40))
    features = model.transform_pixels(X, widths=[1]).reshape(*X.shape, -1)
    shifted = model.transform_pixels(X[:, 3:, 5:], widths=[1]).reshape(2, 37, 35, -1)
    assert_allclose(shifted[:, 6:, 6:], features[:, 9:, 11:], rtol=1e-8, atol=1e-10)


def test_narrow_windows_give_the_value_of_the_pixel():
    model, X = fitted(), photographs()
    own, narrow = model.transform_pixels(X, widths=0), model.transform_pixels(X, widths=1e-3)
    assert own.max() > 0
    assert_array_equal(narrow, own)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_other_libraries_and_types(dtype, from_numpy, small_tiles):
    X = make_bytes(3, 2, (20, 21)).astype(dtype)
    model, mask = fitted().to_numpy(), np.random.default_rng(3).random(X.shape) < 0.2
    expected = model.transform_pixels(X, mask)
    assert expected.dtype == (np.float64 if dtype == np.float64 else np.float32)
    other = small(padding="same").fit(from_numpy(make_images(0).astype(expected.dtype)))
    found = other.transform_pixels(from_numpy(X), mask)
    assert library_of(found) == library_of(from_numpy(X))
    assert to_numpy(found).dtype == expected.dtype
    tolerance = 1e-8 if dtype == np.float64 else 1e-3
    assert_allclose(to_numpy(found), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(2, 40, 50), (2, 40, 50, 2), (1, 7, 3)])
@pytest.mark.parametrize("chunks", [(1, 11, 13), (2, 40, 20), (2, 6, 9)])
def test_dask_arrays_in_chunks_of_space(shape, chunks):
    rng = np.random.default_rng(4)
    X = rng.normal(size=shape)
    model = small(padding="same", patch_size=4).fit(rng.normal(size=(20, 8, 8, *shape[3:])))
    D = da.from_array(X, chunks=(*chunks, 1)[: X.ndim])
    expected = model.transform_pixels(X, widths=[1, 2])
    lazy = model.transform_pixels(D, widths=[1, 2])
    assert lazy.shape == (*shape[:3], 6)
    assert lazy.dtype == np.float64
    assert_allclose(lazy.compute().reshape(-1, 6), expected, rtol=1e-8, atol=1e-10)
    mask = rng.random(shape[:3]) < 0.1
    chosen = model.transform_pixels(D, mask, widths=[1, 2])
    assert_allclose(chosen, expected[mask.ravel()], rtol=1e-8, atol=1e-10)


def test_chosen_pixels_compute_only_the_chunks_that_they_see():
    made = []

    def make(block_id):
        made.append(block_id)
        return np.random.default_rng(block_id).normal(size=(1, 20, 20))

    D = da.map_blocks(
        make, chunks=((1,), (20,) * 8, (20,) * 8), dtype=float, meta=np.empty((0, 0, 0))
    )
    made.clear()
    found = fitted().transform_pixels(D, [[0, 50, 50], [0, 51, 58]], widths=1)
    assert set(made) == {(0, 2, 2), (0, 2, 3)}
    assert np.isfinite(found).all()


def test_memory_maps_are_read_where_pixels_are_chosen(tmp_path):
    X = np.memmap(tmp_path / "images", np.float32, "w+", shape=(1, 300, 300))
    X[:] = np.nan
    X[0, 100:140, 100:140] = photographs(5, 1, (40, 40))
    found = fitted().transform_pixels(X, [[0, 120, 120]], widths=[1, 2])
    assert np.isfinite(found).all()
    with pytest.raises(ValueError, match="NaN or infinity"):
        fitted().transform_pixels(X, [[0, 138, 120]], widths=[1, 2])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"padding": 0}, 'Fit with stride=1 and padding="same"'),
        ({"stride": 2}, 'Fit with stride=1 and padding="same"'),
        ({"pooling": "max"}, "is no mean over positions"),
        ({"pooling": "logsumexp"}, "is no mean over positions"),
        ({"pooling": None}, "is no mean over positions"),
        ({"pooling": "mean", "assignment": (2, 2)}, "pixels of other images have no such cells"),
    ],
)
def test_models_without_such_features(options, said):
    with pytest.raises(ValueError, match=said):
        fitted(**options).transform_pixels(photographs())


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.ones((2, 5, 5), bool), "is a mask of shape"),
        (np.ones((23, 31), bool), "is a mask of shape"),
        ([[0.0, 1.0, 2.0]], "dtype float64"),
        ([[1, 2]], "integers of shape"),
        ([[0, 1, 2], [0, 23, 0]], r"pixels\[1\] = \[0, 23, 0\] lies outside"),
        ([[0, -1, 2]], "lies outside"),
    ],
)
def test_bad_pixels(pixels, said):
    with pytest.raises(ValueError, match=said):
        fitted().transform_pixels(photographs(), pixels)


@pytest.mark.parametrize("widths", [-1, [], [1, np.nan], np.inf, "wide", [[1]]])
def test_bad_widths(widths):
    with pytest.raises(ValueError, match="expected standard deviations in pixels"):
        fitted().transform_pixels(photographs(), widths=widths)


@pytest.mark.parametrize("shape", [(2, 400), (2, 20, 20, 3), (2, 20, 20, 1, 1), (2, 0, 20)])
def test_bad_images(shape):
    with pytest.raises(ValueError, match="transform_pixels expects images of shape"):
        fitted().transform_pixels(np.ones(shape))


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_threads_do_not_change_a_bit(n_jobs, small_tiles):
    X = photographs(6)
    expected = fitted(n_jobs=2).transform_pixels(X)
    assert_array_equal(fitted(n_jobs=n_jobs).transform_pixels(X), expected)


def test_a_polarity_that_was_changed_is_checked():
    model = fitted(polarity="both")
    with pytest.raises(ValueError, match='polarity="both" with pooling'):
        model.set_params(pooling="tempered").transform_pixels(photographs())
