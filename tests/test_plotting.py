import builtins
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas
import pytest
from sklearn.exceptions import NotFittedError

import _reference
from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import (
    KernelDisplay,
    LowerBoundDisplay,
    ResponsibilityDisplay,
    TopPatchesDisplay,
)

matplotlib.use("Agg")

ALL = [KernelDisplay, LowerBoundDisplay, ResponsibilityDisplay, TopPatchesDisplay]
OF_IMAGES = [ResponsibilityDisplay, TopPatchesDisplay]
GEOMETRIES = [
    {"patch_size": 3},
    {"patch_size": 4, "padding": 2},
    {"patch_size": (3, 4), "stride": (2, 1), "padding": (0, 3)},
    {"patch_size": 2, "stride": 3},
    {"patch_size": 3, "padding": (3, 5)},
]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    matplotlib.pyplot.close("all")


def fitted(channels=1, shape=(6, 6), **options):
    X = images(channels=channels, shape=shape)
    options = {"patch_size": 3, **options}
    return ConvGMMFeatures(5, max_iter=3, tol=0, random_state=0, **options).fit(X)


def images(n=20, channels=1, shape=(6, 6), seed=0):
    return np.random.default_rng(seed).random((n, *shape, channels))


def drawn(display):
    return np.asarray(display.ax_.get_images()[0].get_array())


def stretched(kernel):
    kernel = kernel if kernel.shape[-1] == 3 else kernel.mean(axis=-1)
    return (kernel - kernel.min()) / (kernel.max() - kernel.min())


def draw(display, model, X, **options):
    """The display of an estimator, whether or not it needs images."""
    arguments = (model, X) if display in OF_IMAGES else (model,)
    return display.from_estimator(*arguments, **options)


@pytest.mark.parametrize("display", ALL)
def test_figure_and_axes(display):
    model = fitted()
    made = draw(display, model, images(2))
    assert made.ax_.figure is made.figure_
    figure, ax = matplotlib.pyplot.subplots()
    made = draw(display, model, images(2), ax=ax)
    assert made.ax_ is ax
    assert made.figure_ is figure
    again = made.plot()
    assert again is made
    assert made.figure_ is not figure
    made.figure_.canvas.draw()


@pytest.mark.parametrize("display", ALL)
def test_before_fit(display):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        draw(display, ConvGMMFeatures(), images())


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_kernels_heaviest_first(channels):
    model = fitted(channels)
    picture = drawn(KernelDisplay.from_estimator(model))
    assert picture.ndim == (3 if channels == 3 else 2)
    heaviest = model.means_[np.argmax(model.weights_)]
    np.testing.assert_allclose(picture[:3, :3], stretched(heaviest), rtol=1e-6, atol=1e-6)


def test_every_kernel_has_its_place():
    model = fitted()
    display = KernelDisplay.from_estimator(model, sort=False, n_columns=2)
    np.testing.assert_array_equal(display.kernels, model.means_)
    full, rest = display.ax_.get_images()
    assert full.get_extent() == [0, 6, 6, 0]
    assert rest.get_extent() == [0, 3, 9, 6]
    assert display.ax_.get_xlim() == (0, 6)
    assert display.ax_.get_ylim() == (9, 0)
    for i in range(5):
        row, column = divmod(i, 2)
        part, top = (full, 3 * row) if row < 2 else (rest, 0)
        tile = part.get_array()[top : top + 3, 3 * column : 3 * column + 3]
        np.testing.assert_allclose(tile, stretched(model.means_[i]), rtol=1e-6, atol=1e-6)


def test_which_kernels():
    model = fitted()
    order = np.argsort(-model.weights_)
    for components, sort, expected in [
        (2, True, order[:2]),
        (2, False, [0, 1]),
        ([3, 1], True, [3, 1]),
        (None, True, order),
        (50, True, order),
    ]:
        display = KernelDisplay.from_estimator(model, components=components, sort=sort)
        np.testing.assert_array_equal(display.kernels, model.means_[expected])


@pytest.mark.parametrize("display", [KernelDisplay, *OF_IMAGES])
@pytest.mark.parametrize("components", [0, -1, [], [5], [-1], [0.5], [[0]], "3", [True, False]])
def test_components_that_are_not_there(display, components):
    with pytest.raises(ValueError, match=r"how many to draw, .* indices, from 0 to 4; or None"):
        draw(display, fitted(), images(2), components=components)


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


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_kernels_of_signals_are_lines(channels):
    kernels = np.random.default_rng(0).normal(size=(3, 1, 7, channels))
    display = KernelDisplay(kernels).plot(n_columns=2)
    assert not display.ax_.get_images()
    lines = display.ax_.get_lines()
    assert len(lines) == 3 * channels
    for i, line in enumerate(lines):
        kernel, channel = divmod(i, channels)
        row, column = divmod(kernel, 2)
        x, y = line.get_data()
        np.testing.assert_allclose(x, 7 * column + np.arange(7) + 0.5)
        assert ((y > 3.5 * row) & (y < 3.5 * (row + 1))).all()
        # The axis points down.
        assert np.corrcoef(y, kernels[kernel, 0, :, channel])[0, 1] == pytest.approx(-1)


def test_lower_bounds():
    model = fitted()
    display = LowerBoundDisplay.from_estimator(model, color="red")
    passes, values = display.ax_.get_lines()[0].get_data()
    np.testing.assert_array_equal(passes, [1, 2, 3])
    np.testing.assert_array_equal(values, model.lower_bounds_)
    assert display.ax_.get_lines()[0].get_color() == "red"
    assert "log-likelihood" in display.ax_.get_ylabel()


@pytest.mark.parametrize("assignment", ["patch", "image", (2, 2)])
@pytest.mark.parametrize("pooling", ["triangle", None])
def test_responsibilities_are_those_of_the_twin(assignment, pooling):
    model = fitted(assignment=assignment, pooling=pooling)
    before = vars(model).copy()
    X = images(2, seed=1)
    display = ResponsibilityDisplay.from_estimator(model, X, components=[4, 2])
    maps = model.set_params(pooling=None).transform(X)
    model.set_params(pooling=pooling)
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
    rows_and_columns = np.stack(np.indices(geometry.padded_shape[:2]), axis=-1) - geometry.padding
    patches = _reference.extract_patches(
        rows_and_columns, geometry.patch_size, geometry.stride, (0, 0)
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
        1, patch_size=3, assignment="image", normalize=None, whiten=False, random_state=0
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
    for picture, kernel in zip(pictures[:2], kernels, strict=True):
        np.testing.assert_allclose(picture, stretched(kernel))
    low, high = X.min(), X.max()
    for i, row in enumerate([pictures[2:7], pictures[7:]]):
        image = (X[i] - low) / (high - low)
        np.testing.assert_allclose(row[0], image)
        for j in range(2):
            np.testing.assert_allclose(row[1 + 2 * j], 0.6 * image.mean(axis=2))
            tint = row[2 + 2 * j]
            np.testing.assert_array_equal(tint[..., :3], np.broadcast_to([1, 0, 0], (4, 6, 3)))
            np.testing.assert_allclose(tint[..., 3], maps[i, ..., j])


@pytest.mark.parametrize("display", OF_IMAGES)
def test_bytes_are_drawn_from_0_to_255(display):
    X = (100 + 50 * images(seed=2)).astype(np.uint8)
    model = fitted(normalize=None, whiten=False)
    made = draw(display, model, X, components=[1])
    pictures = [np.asarray(image.get_array()) for image in made.ax_.get_images()]
    assert made.images.dtype == np.uint8
    # Kernels of raw pixels share the scale of the images.
    np.testing.assert_allclose(pictures[0], made.kernels[0, ..., 0] / 255)
    shown = pictures[1]
    assert 100 / 255 <= shown.min() < shown.max() <= 150 / 255
    pictures = made.plot(shared_scale=False).ax_.get_images()
    np.testing.assert_allclose(pictures[0].get_array(), stretched(made.kernels[0]), atol=1e-6)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("normalize", ["contrast", None])
def test_top_patches_are_the_nearest_to_the_mean(geometry, whiten, normalize):
    options = {"whiten": whiten, "normalize": normalize, "batch_size": 4, "n_jobs": 2}
    model = fitted(shape=(7, 9), **geometry, **options)
    X = images(11, shape=(7, 9), seed=1).astype(np.float64)
    display = TopPatchesDisplay.from_estimator(model, X, components=[3, 1], n_patches=6)
    geometry, (floor, mean, whitener) = model._model.geometry, model._model.preprocessing
    setting = _reference.Setting(*geometry[1:], "patch", floor, mean, whitener)
    y = np.stack([_reference.preprocessed_patches(image, setting) for image in X])
    patches = np.stack([_reference.extract_patches(image, *geometry[1:]) for image in X])
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
            corner = display.corners[row, column] + geometry.padding
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


@pytest.mark.parametrize("display", OF_IMAGES)
def test_images_of_another_shape(display):
    with pytest.raises(ValueError, match="expecting 36 features"):
        draw(display, fitted(), images(shape=(5, 5)))


@pytest.mark.parametrize("display", OF_IMAGES)
def test_data_frames_and_their_output(display):
    X = pandas.DataFrame(images().reshape(20, -1)).add_prefix("pixel")
    model = ConvGMMFeatures(5, patch_size=3, max_iter=3, tol=0, random_state=0).fit(X)
    model.set_output(transform="pandas")
    assert draw(display, model, X[:4]).images.shape[-3:] == (6, 6, 1)
    assert isinstance(model.transform(X), pandas.DataFrame)


@pytest.mark.parametrize("display", OF_IMAGES)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("options", [{}, {"whole_images": True}])
def test_signals_are_lines(display, channels, options):
    if display is ResponsibilityDisplay and options:
        options = {"color": "red"}
    X = images(shape=(1, 30), channels=channels)
    model = ConvGMMFeatures(4, patch_size=7, max_iter=3, tol=0, random_state=0).fit(X)
    ax = draw(display, model, X[:3], components=2, **options).ax_
    n_tints = 6 if display is ResponsibilityDisplay else 0
    assert len(ax.get_images()) == n_tints
    # Two kernels; three images, alone and under two components, or three patches of each.
    n_lines = 2 + 9 if display is ResponsibilityDisplay else 2 + 6
    assert len(ax.get_lines()) == n_lines * channels
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    for line in ax.get_lines():
        x, y = line.get_data()
        assert left <= x.min() < x.max() <= right
        assert top <= y.min() < y.max() <= bottom


def test_the_fewest_pixels():
    X = np.random.default_rng(0).random((30, 1, 1, 3))
    model = ConvGMMFeatures(2, normalize=None, max_iter=2, tol=0, random_state=0).fit(X)
    for display in ALL:
        draw(display, model, X).figure_.canvas.draw()


def test_shown_images_are_not_written_to():
    X = images(4)
    X.setflags(write=False)
    for display in OF_IMAGES:
        draw(display, fitted(), X)


@pytest.mark.parametrize("display", ALL)
def test_without_matplotlib(display, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    model = fitted()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r'pip install "sklearn-calm\[plot\]"'):
        draw(display, model, images(2))


def test_the_demonstration(tmp_path):
    script = Path(__file__).parents[1] / "docs" / "examples" / "demo.py"
    command = [sys.executable, script, "--n-train", "200", "--n-components", "8", "--out", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "raw pixels, logistic regression: test accuracy 0." in result.stdout
    assert "ConvGMMFeatures, logistic regression: test accuracy 0." in result.stdout
    assert "pass 2/" in result.stdout
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["digits_kernels.png", "digits_objective.png"]
