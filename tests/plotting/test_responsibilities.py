import numpy as np
import pytest

import _reference
from _drawing import GEOMETRIES, fitted, images
from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import ResponsibilityDisplay, TopPatchesDisplay
from sklearn_calm.plotting._pictures import stretched


@pytest.mark.parametrize("assignment", ["patch", "image", (2, 2)])
@pytest.mark.parametrize(
    "options", [{}, {"pooling": None}, {"pool_window": "gaussian", "polarity": "both"}]
)
def test_responsibilities_are_those_of_the_twin(assignment, options):
    model = fitted(assignment=assignment, **options)
    before = vars(model).copy()
    X = images(2, seed=1)
    display = ResponsibilityDisplay.from_estimator(model, X, components=[4, 2])
    parameters = model.get_params()
    maps = model.set_params(pooling=None, polarity="positive").transform(X)
    model.set_params(**parameters)
    cells = _reference.cells(assignment, 4, 4)
    expected = [_reference.responsibilities(joint, cells)[..., [4, 2]] for joint in maps]
    np.testing.assert_allclose(display.responsibilities, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(display.images, X)
    np.testing.assert_array_equal(display.kernels, model.means_[[4, 2]])
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is before[name] for name in before)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_responsibilities_lie_at_the_centres_of_patches(geometry):
    model, X = fitted(shape=(7, 9), **geometry), images(1, shape=(7, 9), seed=1)
    display = ResponsibilityDisplay.from_estimator(model, X, components=[0])
    geometry = model._model.geometry
    rows_and_columns = np.stack(np.indices(geometry.padded_shape[:2]), axis=-1)
    rows_and_columns -= geometry.padding_before
    patches = _reference.extract_patches(
        rows_and_columns, geometry.patch_size, geometry.stride, (0, 0), geometry.dilation
    )
    centres = patches.mean(axis=(2, 3))
    left, right, bottom, top = display.extent
    n_rows, n_columns = display.responsibilities.shape[1:3]
    height, width = (bottom - top) / n_rows, (right - left) / n_columns
    assert (height, width) == geometry.stride
    np.testing.assert_allclose(centres[:, 0, 0], top + height * (np.arange(n_rows) + 0.5))
    np.testing.assert_allclose(centres[0, :, 1], left + width * (np.arange(n_columns) + 0.5))
    # On the axes the map lies over its own image as the extent says.
    *_, backdrop, tint = display.ax_.get_images()
    shift = np.subtract(tint.get_extent(), backdrop.get_extent())
    np.testing.assert_allclose(shift, np.subtract(display.extent, (-0.5, 8.5, 6.5, -0.5)))
    across, down = display.ax_.get_xlim()[1], display.ax_.get_ylim()[0]
    for image in (backdrop, tint):
        left, right, bottom, top = image.get_extent()
        assert across / 2 - 1e-9 <= left < right <= across + 1e-9
        assert -1e-9 <= top < bottom <= down + 1e-9


def test_where_a_planted_patch_is_found():
    rng = np.random.default_rng(0)
    cross = np.eye(3) + np.eye(3)[::-1]
    X = 0.05 * rng.normal(size=(60, 9, 9, 1))
    corners = rng.integers(0, 7, size=(60, 2))
    for image, (row, column) in zip(X, corners, strict=True):
        image[row : row + 3, column : column + 3, 0] += cross
    model = ConvGMMFeatures(
        1,
        patch_size=3,
        assignment="image",
        normalize=None,
        whiten=False,
        pooling="logsumexp",
        random_state=0,
    ).fit(X)
    found = TopPatchesDisplay.from_estimator(model, X[:1]).corners[0, 0]
    offset = found - corners[0]
    assert abs(offset).max() <= 1  # the component may hold the cross a pixel off its middle
    display = ResponsibilityDisplay.from_estimator(model, X)
    left, _, _, top = display.extent
    for responsibilities, corner in zip(display.responsibilities, corners, strict=True):
        row, column = np.unravel_index(responsibilities.argmax(), responsibilities.shape[:2])
        if (corner + offset >= 0).all() and (corner + offset <= 6).all():
            assert (top + 0.5 + row, left + 0.5 + column) == tuple(corner + offset + 1)


def test_what_is_drawn_of_responsibilities():
    rng = np.random.default_rng(0)
    X, maps = rng.random((2, 6, 8, 3)), rng.random((2, 4, 6, 2))
    kernels = rng.random((2, 3, 3, 3))
    display = ResponsibilityDisplay(
        X, maps, kernels, extent=(0.5, 6.5, 4.5, 0.5), components=[7, 9]
    )
    ax = display.plot(color="red").ax_
    assert [text.get_text() for text in ax.get_xticklabels()] == ["7", "9"]
    pictures = [np.asarray(image.get_array()) for image in ax.get_images()]
    assert len(pictures) == 2 + 2 * (1 + 2 * 2)
    np.testing.assert_array_equal(pictures[:2], stretched(kernels))
    low, high = X.min(), X.max()
    for i, row in enumerate([pictures[2:7], pictures[7:]]):
        image = (X[i] - low) / (high - low)
        np.testing.assert_allclose(row[0], image)
        for j in range(2):
            np.testing.assert_allclose(row[1 + 2 * j], 0.6 * image.mean(axis=2))
            tint = row[2 + 2 * j]
            np.testing.assert_array_equal(tint[..., :3], np.broadcast_to([1, 0, 0], (4, 6, 3)))
            np.testing.assert_allclose(tint[..., 3], maps[i, ..., j])
