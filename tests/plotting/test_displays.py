import builtins
import subprocess
import sys
from pathlib import Path

import dask.array
import matplotlib
import numpy as np
import pandas
import pytest
from sklearn.exceptions import NotFittedError

from _drawing import ALL, OF_IMAGES, draw, drawn_pixels, fitted, images, stretched
from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay, ResponsibilityDisplay, TopPatchesDisplay


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


@pytest.mark.parametrize("display", [KernelDisplay, *OF_IMAGES])
@pytest.mark.parametrize("components", [0, -1, [], [5], [-1], [0.5], [[0]], "3", [True, False]])
def test_components_that_are_not_there(display, components):
    with pytest.raises(ValueError, match=r"how many to draw, .* indices, from 0 to 4; or None"):
        draw(display, fitted(), images(2), components=components)


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


@pytest.mark.parametrize("display", OF_IMAGES)
@pytest.mark.parametrize(
    ("dtype", "channels"),
    [(bool, 1), (bool, 3), ("i1", 1), ("i1", 3), ("i8", 1), ("u2", 3), (">i2", 1), ("f2", 3)],
)
def test_typed_images_look_like_their_float_copies(display, channels, dtype):
    X = images(12, channels, seed=3)
    X = (X > 0.5) if dtype is bool else (250 * X - 125 * (np.dtype(dtype).kind != "u"))
    X = X.astype(dtype)
    model = fitted(channels)
    typed, floats = (draw(display, model, x, components=2) for x in (X, X.astype(np.float32)))
    assert typed.images.dtype == dtype
    pixels = drawn_pixels(typed)
    assert np.ptp(pixels) == 1
    np.testing.assert_allclose(pixels, drawn_pixels(floats), atol=2 / 255)


@pytest.mark.parametrize("display", ALL)
def test_other_libraries(display, from_numpy):
    X = images(12, seed=4).astype(np.float32)
    model = fitted()
    expected = drawn_pixels(draw(display, model, X))
    learned = ConvGMMFeatures(**model.get_params()).fit(from_numpy(images().astype("f4")))
    pixels = drawn_pixels(draw(display, learned, from_numpy(X)))
    assert pixels.shape == expected.shape
    assert np.mean(np.abs(pixels - expected) > 0.02) < 0.01


def test_displays_of_arrays_of_other_libraries(from_numpy):
    kernels, X = np.random.default_rng(0).random((2, 2, 4, 4, 1))
    corners, extent = np.zeros((2, 1, 2), int), (-0.5, 3.5, 3.5, -0.5)

    def pixels(convert):
        some, few = convert(kernels), convert(X)
        displays = [
            KernelDisplay(some),
            ResponsibilityDisplay(few, convert(X[..., [0, 0]]), some, extent=extent),
            TopPatchesDisplay(convert(X[:, None]), convert(corners), some),
        ]
        return [drawn_pixels(display.plot()) for display in displays]

    for shown, expected in zip(pixels(from_numpy), pixels(np.ndarray.tolist), strict=True):
        np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize("display", OF_IMAGES)
def test_dask(display):
    X = images(12, seed=4)
    expected, lazy = (
        draw(display, fitted(), x) for x in (X, dask.array.from_array(X, chunks=(5, -1, -1, -1)))
    )
    np.testing.assert_array_equal(drawn_pixels(lazy), drawn_pixels(expected))


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
    script = Path(__file__).parents[2] / "docs" / "examples" / "demo.py"
    command = [sys.executable, script, "--n-train", "200", "--n-components", "8", "--out", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "raw pixels, logistic regression: test accuracy 0." in result.stdout
    assert "ConvGMMFeatures, logistic regression: test accuracy 0." in result.stdout
    assert "pass 2/" in result.stdout
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["digits_kernels.png", "digits_objective.png"]
