import numpy as np
import pytest

import _reference
from _drawing import GEOMETRIES, fitted, images
from sklearn_calm.plotting import TopPatchesDisplay


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("normalize", ["contrast", None])
def test_top_patches_are_the_nearest_to_the_mean(geometry, whiten, normalize):
    options = {"whiten": whiten, "normalize": normalize, "batch_size": 4, "n_jobs": 2}
    model = fitted(shape=(7, 9), **geometry, **options)
    X = images(11, shape=(7, 9), seed=1).astype(np.float64)
    display = TopPatchesDisplay.from_estimator(model, X, components=[3, 1], n_patches=6)
    geometry, (floor, mean, whitener) = model._model.geometry, model._model.preprocessing
    setting = _reference.Setting(*geometry[1:4], "patch", floor, mean, whitener, geometry.dilation)
    y = np.stack([_reference.preprocessed_patches(image, setting) for image in X])
    patches = np.stack(
        [_reference.extract_patches(image, *geometry[1:4], geometry.dilation) for image in X]
    )
    for row, component in enumerate([3, 1]):
        theta = model.means_[component].astype(np.float64).ravel()
        theta = _reference.preprocess(theta, None, mean, whitener)
        distances = np.square(y - theta).sum(axis=-1)
        nearest = np.sort(distances.min(axis=(1, 2)))[:6]
        chosen = [
            np.flatnonzero((image == X).all(axis=(1, 2, 3)))[0] for image in display.images[row]
        ]
        assert len(set(chosen)) == 6
        for column, i in enumerate(chosen):
            corner = display.corners[row, column] + geometry.padding_before
            position, rest = np.divmod(corner, geometry.stride)
            assert not rest.any()
            assert distances[i][tuple(position)] == pytest.approx(nearest[column], rel=1e-5)
            shown, patch = tile(display, row, column, geometry.patch_size), patches[i][*position]
            if normalize == "contrast":
                low, high = patch.min(), patch.max()
            else:
                low, high = display.images.min(), display.images.max()
            expected = np.clip((patch[..., 0] - low) / max(high - low, 1e-12), 0, 1)
            flat = normalize == "contrast" and np.ptp(patch) < 0.1
            assert flat or np.allclose(shown, expected, atol=1e-9)


def tile(display, row, column, size):
    """A tile of the grid, the last picture drawn."""
    picture = np.asarray(display.ax_.get_images()[-1].get_array())
    top, left = row * size[0], column * size[1]
    return picture[top : top + size[0], left : left + size[1]]


def test_patches_are_framed_on_whole_images():
    rng = np.random.default_rng(0)
    X, corners = rng.random((2, 3, 8, 6, 1)), rng.integers(-1, 5, size=(2, 3, 2))
    display = TopPatchesDisplay(X, corners, rng.random((2, 3, 2, 1)), components=[5, 2])
    ax = display.plot(whole_images=True, color="red").ax_
    assert [text.get_text() for text in ax.get_yticklabels()] == ["5", "2"]
    grid = ax.get_images()[-1]
    left, _, _, top = grid.get_extent()
    assert len(ax.patches) == 6
    for i, frame in enumerate(ax.patches):
        row, column = divmod(i, 3)
        expected = corners[row, column] + (8 * row, 6 * column)
        np.testing.assert_allclose((frame.get_y() - top, frame.get_x() - left), expected)
        assert (frame.get_height(), frame.get_width()) == (3, 2)
        shown = tile(display, row, column, (8, 6))
        np.testing.assert_allclose(shown, (X[row, column, ..., 0] - X.min()) / np.ptp(X))


def test_fewer_images_than_patches():
    display = TopPatchesDisplay.from_estimator(fitted(), images(3), n_patches=10)
    assert display.images.shape == (5, 3, 6, 6, 1)
    assert display.corners.shape == (5, 3, 2)


@pytest.mark.parametrize("n_patches", [0, -1, 2.5, None])
def test_n_patches_that_cannot_be(n_patches):
    with pytest.raises(ValueError, match=f"n_patches={n_patches}: expected an int of 1 or more"):
        TopPatchesDisplay.from_estimator(fitted(), images(), n_patches=n_patches)
