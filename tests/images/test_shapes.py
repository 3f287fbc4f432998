"""How shapes of arrays and lists are read as shapes of images."""

import pytest

from sklearn_calm._images.shapes import read_shape, resolve_image_shape, resolve_shapes


@pytest.mark.parametrize(
    ("shape", "image_shape", "expected"),
    [
        ((9, 64), "auto", (8, 8, 1)),
        ((9, 65), "auto", (1, 65, 1)),
        ((9, 6, 7), "auto", (6, 7, 1)),
        ((9, 6, 7, 3), "auto", (6, 7, 3)),
        ((9, 42), (6, 7), (6, 7, 1)),
        ((9, 126), (6, 7, 3), (6, 7, 3)),
        ((9, 6, 7), (6, 7), (6, 7, 1)),
        ((9, 6, 7), (1, 6, 7), (1, 6, 7)),
    ],
)
def test_shapes_are_read_as_images(shape, image_shape, expected):
    assert resolve_image_shape(shape, image_shape) == (expected, expected)
    assert read_shape(shape[1:], expected) == expected


@pytest.mark.parametrize(
    ("shape", "image_shape", "sentence"),
    [
        ((9,), "auto", "got an array of 1 dimension"),
        ((9, 2, 3, 4, 5), "auto", "got an array of 5 dimension"),
        ((9, 0), "auto", "without pixels"),
        ((9, 42), (7, 7), "does not hold images"),
        ((9, 6, 7), (7, 6), "does not hold images"),
        ((9, 6, 7, 3), (6, 7), "does not hold images"),
        ((9, 42), (6, 7.0), "ints >= 1"),
        ((9, 42), (6, 0), "ints >= 1"),
        ((9, 42), (42,), "ints >= 1"),
        ((9, 6, 7), (6, 7, None), "ints >= 1"),
        ((9, 6, 7), (None, 8), r"does not hold images of image_shape=\(None, 8\)\."),
        ((9, 42), (None, None), "and flat rows have no height"),
    ],
)
def test_other_shapes_are_refused(shape, image_shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        resolve_image_shape(shape, image_shape)


@pytest.mark.parametrize(
    ("shape", "image_shape", "expected", "common"),
    [
        ((9, 6, 7), (None, None), (6, 7, 1), (None, None, 1)),
        ((9, 6, 7), (None, 7), (6, 7, 1), (None, 7, 1)),
        ((9, 6, 7, 3), (None, None, 3), (6, 7, 3), (None, None, 3)),
        ((9, 6, 7), (1, None, 7), (1, 6, 7), (1, None, 7)),
        ((9, 64), (1, None), (1, 64, 1), (1, None, 1)),
        ((9, 66), (1, None, 3), (1, 22, 3), (1, None, 3)),
    ],
)
def test_a_free_side_is_that_of_the_array(shape, image_shape, expected, common):
    assert resolve_image_shape(shape, image_shape) == (expected, common)


@pytest.mark.parametrize(
    ("shapes", "image_shape", "expected", "common"),
    [
        ([(4, 5), (6, 5)], "auto", [(4, 5, 1), (6, 5, 1)], (None, None, 1)),
        ([(4, 5), (6, 5, 1)], "auto", [(4, 5, 1), (6, 5, 1)], (None, None, 1)),
        ([(4, 5, 2), (1, 9, 2)], "auto", [(4, 5, 2), (1, 9, 2)], (None, None, 2)),
        ([(1, 5, 2), (1, 9, 2)], "auto", [(1, 5, 2), (1, 9, 2)], (1, None, 2)),
        ([(7,), (9,)], "auto", [(1, 7, 1), (1, 9, 1)], (1, None, 1)),
        ([(7, 3), (9, 3)], (1, None, 3), [(1, 7, 3), (1, 9, 3)], (1, None, 3)),
        ([(64, 3), (64, 9)], (64, None), [(64, 3, 1), (64, 9, 1)], (64, None, 1)),
    ],
)
def test_shapes_of_a_list(shapes, image_shape, expected, common):
    assert resolve_shapes(shapes, image_shape) == (expected, common)


@pytest.mark.parametrize(
    ("shapes", "image_shape", "sentence"),
    [
        ([(4, 5), (4,)], "auto", "pair of images and labels"),
        ([(4, 5), (4, 5, 3)], "auto", r"X\[0\] of shape \(4, 5\) has 1 channel\(s\), X\[1\]"),
        ([(3, 5, 6), (3, 6, 7)], "auto", "where channels come first"),
        ([(4, 5), (6, 0)], "auto", r"X\[1\] has shape \(6, 0\), and so no pixels"),
        ([(9, 4, 5, 1), (8, 4, 5, 1)], "auto", r"np\.concatenate\(X\)"),
        ([(), (3,)], "auto", r"X\[0\] has shape \(\)"),
        ([(4, 5), (6, 5)], (4, 5), r"X\[1\] has shape \(6, 5\), which is no image of shape"),
        ([(7,), (9,)], (None, None), r"X\[0\] has shape \(7,\)"),
    ],
)
def test_lists_of_no_images_are_refused(shapes, image_shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        resolve_shapes(shapes, image_shape)
