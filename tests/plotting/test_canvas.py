from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from _drawing import drawn_pixels
from sklearn_calm.plotting import KernelDisplay, ResponsibilityDisplay, TopPatchesDisplay


def kernels(n, height=6, width=6):
    return np.random.default_rng(n).random((n, height, width, 1))


def kernel_size(n, n_columns, **shape):
    return KernelDisplay(kernels(n, **shape)).plot(n_columns=n_columns).figure_.get_size_inches()


def responsibility_size(n, height=28, width=28, m=4):
    maps = np.full((n, height, width, m), 1 / m)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    display = ResponsibilityDisplay(kernels(n, height, width), maps, kernels(m), extent=extent)
    return display.plot().figure_.get_size_inches()


def test_a_figure_grows_with_its_rows_and_columns():
    width, height = kernel_size(64, 8)
    assert width == height
    assert kernel_size(128, 16) == pytest.approx([2 * width, height])
    assert kernel_size(128, 8) == pytest.approx([width, 2 * height])


def test_twenty_images_are_as_wide_as_two():
    assert responsibility_size(20)[0] == responsibility_size(2)[0] > 4
    assert responsibility_size(20)[1] > 15
    # Without a header of kernels every row takes the same height.
    heights = [responsibility_size(n)[1] for n in (2, 3, 20)]
    assert heights[2] - heights[0] == pytest.approx(18 * (heights[1] - heights[0]))


def test_pictures_of_more_pixels_are_larger_up_to_a_limit():
    few, more, most = (kernel_size(25, 5, height=s, width=s)[0] for s in (5, 28, 96))
    assert few < more < most <= 12
    assert kernel_size(25, 5, height=200, width=200)[0] == most


@pytest.mark.parametrize("n_columns", [1, 10, 100, 1000])
def test_no_figure_is_larger_than_a_page_or_smaller_than_a_stamp(n_columns):
    for n in (1, 1000):
        width, height = kernel_size(n, n_columns)
        assert width <= 12 + 1e-9
        assert height <= 30 + 1e-9
        assert max(width, height) >= 2.5 - 1e-9


def framed(images, corners, **options):
    """Pixels of whole images with a frame each, and the box of every tile in them."""
    patches = np.ones((len(images), 3, 3, 1))
    display = TopPatchesDisplay(images, corners, patches).plot(whole_images=True, **options)
    pixels, ax = drawn_pixels(display), display.ax_
    m, n, height, width = images.shape[:4]
    left = display.ax_.get_xlim()[1] - n * width
    boxes = np.empty((m, n), object)
    for i, j in np.ndindex(m, n):
        corners_of_tile = [
            (left + j * width, i * height),
            (left + (j + 1) * width, (i + 1) * height),
        ]
        (x0, y0), (x1, y1) = ax.transData.transform(corners_of_tile)
        boxes[i, j] = (
            slice(*np.round([len(pixels) - y0, len(pixels) - y1]).astype(int)),
            slice(*np.round([x0, x1]).astype(int)),
        )
    return pixels, boxes


@pytest.mark.parametrize("corner", [(-2, -2), (-2, 3), (5, 5), (0, 0), (3, 3), (7, 7)])
def test_frames_stay_within_their_images(corner):
    images = np.zeros((3, 3, 8, 8, 1))
    images[..., 0, 0, 0] = 1  # or there is no contrast to scale
    corners = np.full((3, 3, 2), 2)
    corners[1, 1] = corner
    with_frame, boxes = framed(images, corners)
    corners[1, 1] = 2
    moved, _ = framed(images, corners)
    changed = (with_frame != moved).any(axis=2)
    assert changed[boxes[1, 1]].any() or corner == (2, 2)
    changed[boxes[1, 1]] = False
    assert not changed.any()


@pytest.mark.parametrize("color", ["white", "black", "red", "yellow"])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_frames_are_seen_on_any_picture(color, level):
    images = np.full((1, 3, 12, 12, 1), level)
    images[0, 0, 0, 0], images[0, 2, 0, 0] = 0, 1
    pixels, boxes = framed(images, np.full((1, 3, 2), 4), color=color)
    grey = pixels[boxes[0, 1]] @ [0.3, 0.6, 0.1]
    assert np.abs(grey - level).max() > 0.4


@pytest.mark.parametrize("style", ["default", "dark_background", "ggplot", "grayscale"])
def test_numbers_are_seen_in_any_style(style):
    with pyplot.style.context(style):
        images, maps = np.random.default_rng(0).random((2, 3, 8, 8, 1))
        corners = np.ones((2, 3, 2), int)
        extent = (-0.5, 7.5, 7.5, -0.5)
        top = TopPatchesDisplay(images[None], corners[:1], kernels(1), components=[12]).plot()
        where = ResponsibilityDisplay(images, maps, kernels(1), extent=extent, components=[12])
        where.plot()
        for display, axis in ((top, top.ax_.yaxis), (where, where.ax_.xaxis)):
            [text] = axis.get_ticklabels()
            assert text.get_text() == "12"
            ground = display.figure_.get_facecolor()
            ink, ground = (
                np.dot(matplotlib.colors.to_rgb(color), [0.3, 0.6, 0.1])
                for color in (text.get_color(), ground)
            )
            assert abs(ink - ground) > 0.5


def test_numbers_beside_many_rows_do_not_overlap():
    n = 100
    corners = np.zeros((n, 2, 2), int)
    images = np.random.default_rng(0).random((n, 2, 5, 5, 1))
    display = TopPatchesDisplay(images, corners, kernels(n, 5, 5), components=np.arange(n)).plot()
    display.figure_.canvas.draw()
    boxes = [text.get_window_extent() for text in display.ax_.get_yticklabels()]
    for above, below in pairwise(boxes):
        assert below.y1 < above.y0
