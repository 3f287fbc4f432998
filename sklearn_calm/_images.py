"""Images as users hold them, read batch by batch.

Whatever comes in (flat rows, grey or colour images, integers, memory maps) is read as padded float
batches of shape (n, height, width, channels). The array itself is never copied whole, nor written
to.
"""

import math
import numbers

import numpy as np


def resolve_image_shape(shape, image_shape="auto"):
    """Height, width and channels of the images in an array of the given shape.

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
        return _guess_image_shape(shape)
    if len(image_shape) not in (2, 3) or any(
        not isinstance(side, numbers.Integral) or side < 1 for side in image_shape
    ):
        raise ValueError(
            f'image_shape={image_shape!r}: expected "auto", (height, width) or (height, width, '
            "n_channels), ints >= 1."
        )
    wanted = tuple(int(side) for side in (*image_shape, 1)[:3])
    if not holds_images(shape, wanted):
        raise ValueError(
            f"X of shape {tuple(shape)} does not hold images of image_shape={tuple(image_shape)}, "
            f"which have {math.prod(wanted)} values each. Pass the shape of one image, "
            '(height, width) or (height, width, channels), or image_shape="auto".'
        )
    return wanted


def check_n_axes(shape):
    """Whether an array of this shape can be images at all."""
    if len(shape) not in (2, 3, 4):
        raise ValueError(
            f"Expected images of shape (n, height, width) or (n, height, width, channels), or a 2D "
            f"array of flat rows, got an array of {len(shape)} dimension(s), shape {tuple(shape)}. "
            "Reshape your data: X.reshape(n_images, -1) makes flat rows."
        )


def holds_images(shape, wanted):
    """Whether an array of this shape can be read as images (height, width, channels)."""
    # Three axes can be grey images, or signals with channels: whichever was asked for.
    readings = {2: [wanted], 3: [(*shape[1:], 1), (1, *shape[1:])], 4: [shape[1:]]}[len(shape)]
    return wanted in readings and math.prod(wanted) == math.prod(shape[1:])


def _guess_image_shape(shape):
    if len(shape) > 2:
        return (*shape[1:], 1)[:3]
    side = math.isqrt(shape[1])
    return (side, side, 1) if side * side == shape[1] else (1, shape[1], 1)


def working_dtype(dtype):
    """float64 stays float64; float32, smaller floats and integers become float32."""
    wide = np.issubdtype(dtype, np.floating) and np.dtype(dtype).itemsize >= 8
    return np.dtype(np.float64 if wide else np.float32)


class Images:
    """The images of an array, read a few at a time.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
    geometry : PatchGeometry
        Gives the shape of an image, and its padding.
    sample_weight : ndarray of shape (n,) or None
    dtype : numpy dtype or None
        What batches are cast to; None follows X.
    """

    def __init__(self, X, geometry, sample_weight=None, dtype=None):
        self.X = X
        self.geometry = geometry
        self.sample_weight = sample_weight
        self.dtype = working_dtype(X.dtype) if dtype is None else dtype

    def __len__(self):
        return self.X.shape[0]

    def read(self, rows):
        """Images of the given rows, cast and padded: (n, padded height, padded width, channels)."""
        batch = np.asarray(self.X[rows]).reshape(-1, *self.geometry.image_shape)
        down, right = self.geometry.padding
        if down or right:
            batch = np.pad(batch, ((0, 0), (down, down), (right, right), (0, 0)))
        # One layout for all, so that sums round alike whatever the order of X in memory.
        batch = np.ascontiguousarray(batch, dtype=self.dtype)
        if np.issubdtype(self.X.dtype, np.floating):
            self._check_finite(batch, rows)
        return batch

    def weights(self, rows):
        """Weight of each image of the given rows, float64."""
        if self.sample_weight is None:
            return np.broadcast_to(1.0, len(self))[rows]
        return self.sample_weight[rows]

    @property
    def total_weight(self):
        return float(len(self) if self.sample_weight is None else self.sample_weight.sum())

    @property
    def least_weight(self):
        """Weight of the lightest image that has any."""
        if self.sample_weight is None:
            return 1.0
        return float(self.sample_weight[self.sample_weight > 0].min())

    def _check_finite(self, batch, rows):
        # Squares are summed over images and over seeds: there has to be room for such sums as well.
        most = 1e-6 * np.finfo(self.dtype).max
        with np.errstate(over="ignore", invalid="ignore"):
            if np.vdot(batch, batch) <= most:
                return
        largest = np.sqrt(most / math.prod(batch.shape[1:]))
        finite = (np.abs(batch) <= largest).all(axis=(1, 2, 3))
        if not finite.all():
            first = np.arange(len(self))[rows][np.argmin(finite)]
            raise ValueError(
                f"Input X contains NaN or infinity (first in image {first}), or a value too large "
                f"for {self.dtype}, beyond {largest:.0e}. ConvGMMFeatures does not accept missing "
                "values: drop such images, or fill them in, with sklearn.impute.SimpleImputer for "
                "example; scale large values down."
            )

    def batches(self, batch_size, rows=None):
        """Slices that cover all images in order; or parts of the rows given."""
        n = len(self) if rows is None else len(rows)
        parts = [slice(i, min(i + batch_size, n)) for i in range(0, n, batch_size)]
        return parts if rows is None else [rows[part] for part in parts]
