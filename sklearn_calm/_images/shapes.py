"""What shape the images of an array have, or those of a list of images of several sizes.

A shape is (height, width, n_channels). Of images that may have any height or width, that side is
None; such a shape is called free.
"""

import math
import numbers


def resolve_image_shape(shape, image_shape="auto"):
    """Shape of the images in an array of the given shape, and the same as it was asked for.

    Returns
    -------
    image_shape : tuple (height, width, n_channels)
    common : tuple
        The same, with None for a side that is free.

    Raises
    ------
    ValueError
        If an array of this shape cannot hold images of `image_shape`.
    """
    check_n_axes(shape)
    if 0 in shape[1:]:
        raise ValueError(
            f"Found images without pixels: an array of shape {tuple(shape)}. Every axis needs a "
            "length of 1 or more."
        )
    if isinstance(image_shape, str):
        guessed = _guess_image_shape(shape)
        return guessed, guessed
    wanted = check_image_shape(image_shape)
    found = read_shape(shape[1:], wanted)
    if found is None:
        raise ValueError(
            f"X of shape {tuple(shape)} does not hold images of image_shape={tuple(image_shape)}"
            f"{_values_of(wanted)}. Pass the shape of one image, (height, width) or (height, "
            'width, channels), or image_shape="auto".'
        )
    return found, wanted


def _values_of(wanted):
    if not is_free(wanted):
        return f", which have {math.prod(wanted)} values each"
    if wanted[:2] == (None, None):
        return ", and flat rows have no height"
    return ""


def resolve_shapes(shapes, image_shape="auto"):
    """Shapes of the images in a list, and the shape that they have in common.

    Parameters
    ----------
    shapes : list of tuples
        Of each item of the list: (height, width[, n_channels]) or, for a signal, (length,).
    image_shape : "auto" or tuple
        As the estimator has it.

    Returns
    -------
    image_shapes : list of tuples (height, width, n_channels)
    common : tuple
        With None for a side that is free.

    Raises
    ------
    ValueError
        If an item is no image, or does not go with the others.
    """
    for i, shape in enumerate(shapes):
        if len(shape) not in (1, 2, 3):
            raise ValueError(
                f"X[{i}] has shape {shape}; expected one image, of shape (height, width[, "
                "n_channels]), or one signal, of shape (length,). Where X is a list of batches, "
                "pass np.concatenate(X), or call partial_fit with each."
            )
        if 0 in shape:
            raise ValueError(f"X[{i}] has shape {shape}, and so no pixels. Leave it out.")
    named = isinstance(image_shape, str)
    wanted = _in_common(shapes) if named else check_image_shape(image_shape)
    found = [read_shape(shape, wanted) for shape in shapes]
    if None in found:
        i = found.index(None)
        raise ValueError(
            f"X[{i}] has shape {shapes[i]}, which is no image of shape {wanted}; None stands for "
            "any length. Leave it out, resize it, or set image_shape=(None, None, n_channels) for "
            "images of any size."
        )
    return found, wanted


def _in_common(shapes):
    """The free shape of images of several sizes: signals are those of one row."""
    first = shapes[0]
    for i, shape in enumerate(shapes):
        if (len(shape) == 1) != (len(first) == 1):
            raise ValueError(
                f"X[0] has shape {first}, X[{i}] has {shape}: not all are images, of shape "
                "(height, width[, n_channels]), nor all signals, of shape (length,). If X is a "
                "pair of images and labels, pass the images alone."
            )
        if _n_channels(shape) != _n_channels(first):
            raise ValueError(
                f"X[0] of shape {first} has {_n_channels(first)} channel(s), X[{i}] of shape "
                f"{shape} has {_n_channels(shape)}. Images of several sizes need the same "
                "channels, as the last axis: make all of them grey, or all of them coloured; where "
                "channels come first, pass [image.transpose(1, 2, 0) for image in X]."
            )
    are_signals = all(len(shape) == 1 or shape[0] == 1 for shape in shapes)
    return (1 if are_signals else None, None, _n_channels(first))


def _n_channels(shape):
    return shape[2] if len(shape) == 3 else 1


def check_image_shape(image_shape):
    """The parameter as (height, width, n_channels); None stands for any height or width."""
    shape = (*image_shape, 1)[:3]
    fixed = [side for i, side in enumerate(shape) if side is not None or i == 2]
    if len(image_shape) not in (2, 3) or any(
        not isinstance(side, numbers.Integral) or side < 1 for side in fixed
    ):
        raise ValueError(
            f'image_shape={image_shape!r}: expected "auto", (height, width) or (height, width, '
            "n_channels), ints >= 1; None as height or width stands for any."
        )
    return tuple(None if side is None else int(side) for side in shape)


def is_free(image_shape):
    """Whether images of this shape may have any height or width."""
    return None in image_shape


def check_n_axes(shape):
    """Whether an array of this shape can be images at all."""
    if len(shape) not in (2, 3, 4):
        raise ValueError(
            f"Expected images of shape (n, height, width) or (n, height, width, channels), or a 2D "
            f"array of flat rows, got an array of {len(shape)} dimension(s), shape {tuple(shape)}. "
            "Reshape your data: X.reshape(n_images, -1) makes flat rows."
        )


def read_shape(shape, wanted):
    """How one image of an array or a list is read as an image of the shape wanted.

    Parameters
    ----------
    shape : tuple of int
        Of one to three axes.
    wanted : tuple (height, width, n_channels)
        None stands for any height or width.

    Returns
    -------
    image_shape : tuple of int or None
        None if it cannot be read so.
    """
    if len(shape) == 1:
        return _shape_of_row(shape[0], wanted)
    # Two axes can be a grey image, or a signal with channels: whichever was asked for.
    readings = [(*shape, 1), (1, *shape)] if len(shape) == 2 else [tuple(shape)]
    for reading in readings:
        if all(side in (None, found) for side, found in zip(wanted, reading, strict=True)):
            return reading
    return None


def _shape_of_row(length, wanted):
    """The shape of an image in a flat row, which has at most one free side."""
    known = math.prod(side for side in wanted if side is not None)
    n_free = wanted.count(None)
    if n_free > 1 or length % known or (n_free == 0 and length != known):
        return None
    return tuple(length // known if side is None else side for side in wanted)


def _guess_image_shape(shape):
    if len(shape) > 2:
        return (*shape[1:], 1)[:3]
    side = math.isqrt(shape[1])
    return (side, side, 1) if side * side == shape[1] else (1, shape[1], 1)
