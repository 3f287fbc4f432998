"""Warnings of images that are probably read otherwise than they were meant.

An array does not say what its axes are. How it is read is told by its shape alone; here shape, and
for flat rows a few of them, say whether that reading is odd.
"""

import math
import warnings

import numpy as np
from scipy import fft

# An image of which one side is this many times the other, or more, is thin ...
THIN = 5
# ... if it is no wider than this, and as long.
THIN_SIDE, LONG_SIDE = 4, 16
# Wider ones, of up to so many pixels, are thin if their sides differ this much.
WIDE_SIDE, VERY_THIN = 12, 10
# Channels of photographs, and the least sides of one.
PHOTO_CHANNELS, PHOTO_SIDE = (3, 4), 16
# Correlation of the channels of a photograph, at least.
LEAST_LIKENESS = 0.75
# With fewer channels, nobody would take them for the pixels of a row.
LEAST_CHANNELS = 8
# Flat rows that are looked at, and the least square that they are looked at for.
ROWS, LEAST_SIDE = 64, 6
# Neighbours in a row that are correlated less have no order; and an image repeats itself one row
# of pixels later, more than half a row before or after, by this much.
LEAST_ORDER, LEAST_PEAK = 0.2, 0.2

ANY_GREY = (None, None)
KEEP = "To keep this reading without a warning, set image_shape={}."


def warn_of_layout(images, image_shape, *, stacklevel):
    """Warn if images are read in a way that looks odd; `image_shape` in full silences it.

    Parameters
    ----------
    images : ImageSource
    image_shape : "auto" or tuple
        As the estimator has it.
    stacklevel : int
        Of the call in the user's code.
    """
    if not isinstance(image_shape, str):
        return
    if images.several_sizes:
        odd, what = _odd_list([image.shape for image in images.X]), "a list of several sizes"
    else:
        shape = tuple(images.X.shape)
        odd = {2: _odd_rows, 3: _odd_grey, 4: _odd_channels}[len(shape)](images, shape)
        what = f"of shape {shape}"
        if odd is not None:
            read_as = images.geometry.image_shape
            full = len(shape) == 4 or read_as[2] > 1
            odd = f"{odd} {KEEP.format(read_as if full else read_as[:2])}"
    if odd is not None:
        warnings.warn(
            f"The layout of X, {what}, looks odd: {odd}", UserWarning, stacklevel=stacklevel + 1
        )


def _odd_list(shapes):
    """What is odd about the shapes of images of several sizes."""
    if any(len(shape) != len(shapes[0]) for shape in shapes):
        return None
    sides = np.asarray(shapes)
    same = (sides == sides[0]).all(axis=0)
    first, is_line = tuple(shapes[0]), sides.shape[1] == 2
    if is_line and same[1] and 1 < first[1] <= THIN_SIDE and (sides[:, 0] >= LONG_SIDE).all():
        return (
            f"all its images are read as grey, and are {first[1]} pixels wide. For signals of "
            f"{first[1]} channels, set image_shape=(1, None, {first[1]}). {KEEP.format(ANY_GREY)}"
        )
    if sides.shape[1] < 3:
        return None
    keep = KEEP.format((None, None, first[2]))
    if same[0] and first[0] in PHOTO_CHANNELS and (sides[:, 1:] >= PHOTO_SIDE).all():
        return (
            f"its images, the first of shape {first}, are read as of {first[0]} rows of pixels. "
            "Where channels come first, pass [image.transpose(1, 2, 0) for image in X]; they must "
            "be as many in all images, and come last."
        )
    if same[1] and same[2] and not same[0] and first[2] >= LEAST_CHANNELS:
        return (
            f"its images, the first of shape {first}, are read as of {first[2]} channels. If each "
            f"is a batch of grey images, pass np.concatenate(X). {keep}"
        )
    return None


def _odd_grey(images, shape):
    n, height, width = shape
    if n in PHOTO_CHANNELS and min(height, width) >= PHOTO_SIDE and _are_alike(images):
        return (
            f"it is read as {n} grey images, which are as much alike as the channels of one "
            "photograph are. For one photograph, pass X.transpose(1, 2, 0)[np.newaxis]."
        )
    short, long = sorted((height, width))
    very_thin = short <= WIDE_SIDE and long >= VERY_THIN * short
    thin = short <= THIN_SIDE and long >= max(THIN * short, LONG_SIDE)
    if short == 1 or not (thin or very_thin):
        return None
    said = f"it is read as {n} grey images of {height} x {width} pixels, which are unusually thin."
    if width in PHOTO_CHANNELS and n >= PHOTO_SIDE:
        said += f" For one colour photograph of {n} x {height} pixels, pass X[np.newaxis]."
    if width < height:
        return f"{said} For signals of {width} channels, set image_shape=(1, {height}, {width})."
    return (
        f"{said} For signals of {height} channels, pass X.transpose(0, 2, 1) and "
        f"set image_shape=(1, {width}, {height})."
    )


def _are_alike(images):
    """Whether each image is, but for its scale, about the next."""
    values = _some_rows(images)
    values = values - values.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(values, axis=1)
    products = (values[1:] * values[:-1]).sum(axis=1)
    return bool((products > LEAST_LIKENESS * lengths[1:] * lengths[:-1]).all() and len(values) > 1)


def _odd_channels(images, shape):
    n, height, width, n_channels = shape
    square = height < width == n_channels >= LEAST_CHANNELS
    photo = height in PHOTO_CHANNELS and min(width, n_channels) >= PHOTO_SIDE
    line = height == 1 < width and n_channels >= LEAST_CHANNELS
    if not (square or photo or (line and _is_smooth(images))):
        return None
    return (
        f"it is read as {n} images of {height} x {width} pixels and {n_channels} channels. For "
        f"images of {width} x {n_channels} pixels whose {height} channel(s) come first, as torch "
        "has them, pass X.transpose(0, 2, 3, 1), of a tensor X.permute(0, 2, 3, 1)."
    )


def _is_smooth(images):
    """Whether values change along the last axis as they do from pixel to pixel."""
    values = _some_rows(images)
    n_channels = images.geometry.image_shape[2]
    repeats = _autocorrelation(values.reshape(-1, n_channels))
    far = repeats[n_channels // 4 + 1 : n_channels // 2 + 2]
    return repeats[1] - far.mean() > 2 * LEAST_ORDER


def _odd_rows(images, shape):
    n, length = shape
    side = math.isqrt(length)
    if side * side == length:
        return _odd_square(images, n, side) if side >= LEAST_SIDE else None
    for n_channels in PHOTO_CHANNELS:
        side = math.isqrt(length // n_channels)
        if side >= LEAST_SIDE and n_channels * side * side == length:
            return _odd_signal(images, side, n_channels)
    return None


def _odd_square(images, n, side):
    rows = _some_rows(images)
    if not rows.size:
        return None
    repeats = _autocorrelation(rows)
    ordered = np.abs(repeats[1 : side // 2 + 1]).max() > LEAST_ORDER + 4 / math.sqrt(rows.size)
    if not ordered or _peaks(repeats, side):
        return None
    return (
        f"its rows of {side * side} values are read as {n} grey images of {side} x {side} pixels, "
        f"but neighbours in a row are alike and values {side} apart are not, as in signals. For "
        f"signals, set image_shape=(1, {side * side})."
    )


def _odd_signal(images, side, n_channels):
    repeats = _autocorrelation(_some_rows(images))
    first, last = _peaks(repeats, side), _peaks(repeats, side * n_channels)
    if not (first or last):
        return None
    said = (
        f"its rows of {n_channels * side * side} values are read as signals, but repeat themselves "
        f"as images of {side} x {side} pixels and {n_channels} channels do. For images, set "
        f"image_shape=({side}, {side}, {n_channels})"
    )
    if first:
        said += (
            f"; where channels come first, pass X.reshape(-1, {n_channels}, {side}, {side})"
            ".transpose(0, 2, 3, 1)"
        )
    return f"{said}."


def _peaks(repeats, width):
    """Whether rows repeat themselves after `width` values more than after others about as many."""
    half = width // 2
    around = repeats[width - half : width + half + 1]
    sides = (around[0] + around[-1]) / 2
    return (
        len(around) == 2 * half + 1
        and around.argmax() == half
        and (repeats[width] - sides > LEAST_PEAK)
    )


def _some_rows(images):
    """A few images, spread over all of them, as rows of float64."""
    rows = images.some_rows(ROWS)
    values = np.asarray(images.on_host(rows).X, np.float64).reshape(len(rows), -1)
    return values[np.isfinite(values).all(axis=1)]


def _autocorrelation(rows):
    """Mean autocorrelation of rows (m, L) at lags 0 to L - 1; zeros of rows that do not vary."""
    if not rows.size:
        return np.zeros(rows.shape[1])
    rows = rows / (np.abs(rows).max() or 1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    deviation = rows.std(axis=1, keepdims=True)
    rows = rows / np.where(deviation > 1e-9, deviation, np.inf)
    length = rows.shape[1]
    spectrum = np.square(np.abs(fft.rfft(rows, 2 * length))).mean(axis=0)
    repeats = fft.irfft(spectrum)[:length] / (length - np.arange(length))
    return repeats / (repeats[0] or 1)
