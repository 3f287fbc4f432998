import math

import numpy as np
import pytest

from _drawing import drawn, fitted, stretched
from sklearn_calm.plotting import KernelDisplay
from sklearn_calm.plotting import _pictures as pictures


@pytest.mark.parametrize("channels", [1, 2])
def test_kernels_heaviest_first(channels):
    model = fitted(channels)
    picture = drawn(KernelDisplay.from_estimator(model))
    heaviest = model.means_[np.argmax(model.weights_)]
    np.testing.assert_allclose(picture[:3, :3], stretched(heaviest), rtol=1e-6, atol=1e-6)


def test_kernels_in_colour():
    model = fitted(3)
    picture = drawn(KernelDisplay.from_estimator(model, n_columns=5))
    expected = pictures.stretched(model.means_[np.argsort(-model.weights_)])
    np.testing.assert_array_equal(picture, np.concatenate(expected, axis=1))


def test_kernels_have_the_numbers_by_which_components_are_chosen():
    model = fitted()
    ax = KernelDisplay.from_estimator(model, components=[4, 0, 3], n_columns=2).ax_
    assert [text.get_text() for text in ax.texts] == ["4", "0", "3"]
    for i, text in enumerate(ax.texts):
        row, column = divmod(i, 2)
        x, y = text.get_position()
        assert 3 * column < x < 3 * column + 1
        assert 3 * row < y < 3 * row + 1
    heaviest = KernelDisplay.from_estimator(model)
    assert [text.get_text() for text in heaviest.ax_.texts] == [
        str(k) for k in np.argsort(-model.weights_)
    ]
    assert not heaviest.plot(numbers=False).ax_.texts
    assert not KernelDisplay(model.means_).plot().ax_.texts


def test_numbers_lie_within_their_kernels():
    kernels = np.random.default_rng(0).random((400, 5, 5, 1))
    for n in (1, 30, 400):
        components = np.arange(400 - n, 400)
        display = KernelDisplay(kernels[:n], components=components).plot()
        display.figure_.canvas.draw()
        assert len(display.ax_.texts) == n
        n_columns = math.ceil(math.sqrt(n))
        for i in {0, n // 2, n - 1}:
            row, column = divmod(i, n_columns)
            area = display.ax_.texts[i].get_window_extent()
            (left, bottom), (right, top) = display.ax_.transData.transform(
                [(5 * column, 5 * row + 5), (5 * column + 5, 5 * row)]
            )
            assert left <= area.x0 < area.x1 <= right
            assert bottom <= area.y0 < area.y1 <= top


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
