"""Images as users hold them, read batch by batch.

Whatever comes in (flat rows, grey or colour images, integers, memory maps) is read as padded float
batches of shape (n, height, width, channels). The array itself is never copied whole, nor written
to.
"""

import copy
import math
import numbers
from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sklearn_calm._arrays.door import unmasked
from sklearn_calm._arrays.namespace import (
    Placement,
    array_namespace,
    contiguous,
    device_of,
    library_of,
    numpy_dtype,
    size,
    take,
    to_numpy,
)

# Values that are read at a time to pick patches from.
READ_VALUES = 2**20
# Scores of one batch: larger ones leave the cache, smaller ones spend time between them.
BATCH_BYTES = 2**22
DEVICE_BATCH_BYTES = 2**28
MAX_BATCH = 8192
# Integers below are float64 without rounding.
MAX_INTEGER = 2**53


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
    """float64 for floats of 64 bits and integers of 32, and for larger ones; else float32."""
    dtype = np.dtype(dtype)
    least = {"f": 8, "i": 4, "u": 4}.get(dtype.kind, math.inf)
    return np.dtype(np.float64 if dtype.itemsize >= least else np.float32)


def home_of(X):
    """Where an array is, and the precision in which it is worked on."""
    return Placement(library_of(X), device_of(X), working_dtype(numpy_dtype(X)))


def row_numbers(rows, n):
    """The integers that a slice of n rows stands for; integers as they are."""
    return np.arange(*rows.indices(n)) if isinstance(rows, slice) else rows


class Images:
    """The images of an array, read a few at a time.

    Parameters
    ----------
    X : array of shape (n, ...)
    geometry : PatchGeometry
        Gives the shape of an image, and its padding.
    sample_weight : ndarray of shape (n,) or None
    placement : Placement or None
        Where batches are worked on, and in what precision; None follows X.
    numbers : ndarray of shape (n,) or None
        Of the images, by which errors name them; None counts from 0.
    """

    def __init__(self, X, geometry, sample_weight=None, placement=None, numbers=None):
        self.X = X
        self.numbers = numbers
        self.geometry = geometry
        self.sample_weight = sample_weight
        self.placement = home_of(X) if placement is None else placement

    def __len__(self):
        return self.X.shape[0]

    @property
    def dtype(self):
        """Precision of batches, as NumPy calls it."""
        return self.placement.dtype

    @property
    def home(self):
        """Where features go, and in what precision: to the library and device of X."""
        return home_of(self.X)

    @property
    def model_home(self):
        """Where fitted attributes go: their precision is the one that was worked in."""
        return self.home._replace(dtype=self.dtype)

    def in_precision(self, dtype):
        """The same images, read in another precision."""
        other = copy.copy(self)
        other.placement = self.placement._replace(dtype=np.dtype(dtype))
        return other

    @property
    def in_memory(self):
        """Whether X is an array of NumPy, and no file."""
        return isinstance(self.X, np.ndarray) and not isinstance(self.X, np.memmap)

    def read(self, rows):
        """Images of the given rows, cast and padded: (n, padded height, padded width, channels)."""
        values = take(self.X, rows)
        if isinstance(values, np.ma.MaskedArray):
            values = unmasked(values, "X", self._numbers(rows))
        with np.errstate(over="ignore", under="ignore"):  # told below, in a sentence
            batch = self.placement.asarray(values)
        xp = array_namespace(batch)
        batch = xp.reshape(batch, (-1, *self.geometry.image_shape))
        (n, height, width, _), (down, right) = batch.shape, self.geometry.padding
        if down or right:
            shape = (n, *self.geometry.padded_shape)
            padded = xp.zeros(shape, dtype=batch.dtype, device=device_of(batch))
            padded[:, down : down + height, right : right + width, :] = batch
            batch = padded
        # One layout for all, so that sums round alike whatever the order of X in memory.
        batch = contiguous(batch)
        if array_namespace(self.X).isdtype(self.X.dtype, "real floating"):
            self._check_finite(batch, rows)
            self._check_not_lost(batch, rows)
        elif numpy_dtype(self.X).itemsize == 8:
            self._check_exact(batch, rows)
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

    def some_rows(self, most):
        """Numbers of up to so many images, spread over all of them."""
        return np.unique(np.linspace(0, len(self) - 1, most).astype(int))

    def on_host(self, rows=slice(None)):
        """The images of the given rows, NumPy in memory."""
        weights = None if self.sample_weight is None else self.weights(rows)
        placement = Placement("numpy", None, self.dtype)
        X = to_numpy(take(self.X, rows))
        return Images(X, self.geometry, weights, placement, self._numbers(rows))

    def patches(self, rows, positions):
        """The patches at given positions of given images, rows in ascending order.

        Returns
        -------
        patches : ndarray of shape (m, D)
            NumPy.
        """
        geometry = self.geometry
        ys, xs = np.divmod(positions, geometry.map_shape[1])
        ys, xs = ys * geometry.stride[0], xs * geometry.stride[1]
        patches = np.empty((len(rows), *geometry.kernel_shape), self.dtype)
        needed, first = np.unique(rows, return_index=True)
        ends = np.append(first[1:], len(rows))
        step = max(1, READ_VALUES // math.prod(geometry.padded_shape))
        for start in range(0, len(needed), step):
            group = needed[start : start + step]
            part = slice(first[start], ends[start + len(group) - 1])
            windows = sliding_window_view(
                self.on_host(group).read(slice(None)), geometry.patch_size, axis=(1, 2)
            )
            found = windows[np.searchsorted(group, rows[part]), ys[part], xs[part]]
            patches[part] = np.moveaxis(found, 1, -1)
        return patches.reshape(len(rows), geometry.patch_length)

    def map_reduce(self, step, merge, workers, batch_size, rows=None):
        """merge(... merge(step(self, first batch), step(self, second batch)) ...)."""
        return workers.map_reduce(partial(step, self), self.batches(batch_size, rows), merge)

    def _numbers(self, rows):
        # None is kept for what only counts: images may be billions.
        return row_numbers(rows, len(self)) if self.numbers is None else self.numbers[rows]

    def _check_finite(self, batch, rows):
        # Squares are summed over images and over seeds: there has to be room for such sums as well.
        most = 1e-6 * float(np.finfo(self.dtype).max)
        xp = array_namespace(batch)
        values = xp.reshape(batch, (size(batch),))
        with np.errstate(over="ignore", invalid="ignore"):
            if bool(values @ values <= most):
                return
        largest = math.sqrt(most / math.prod(batch.shape[1:]))
        first = self._first_beyond(largest, batch, rows)
        if first is not None:
            raise ValueError(
                f"Input X contains NaN or infinity (first in image {first}), or a value too large "
                f"for {self.dtype}, beyond {largest:.0e}. ConvGMMFeatures does not accept missing "
                "values: drop such images, or fill them in, with sklearn.impute.SimpleImputer for "
                "example; scale large values down."
            )

    def _check_not_lost(self, batch, rows):
        longer = numpy_dtype(self.X).itemsize > self.dtype.itemsize
        if longer and not batch.any() and take(self.X, rows).any():
            raise ValueError(
                f"Input X of dtype {self.X.dtype} contains only values too small for {self.dtype}. "
                "Scale the images up, as in X / abs(X).max()."
            )

    def _check_exact(self, batch, rows):
        first = self._first_beyond(MAX_INTEGER - 1, batch, rows)
        if first is not None:
            raise ValueError(
                f"X has dtype {self.X.dtype} and holds integers of {MAX_INTEGER:.0e} or more "
                f"(first in image {first}), which float64 would round. Subtract a constant from "
                "all images, or pass X.astype(float) if rounding does no harm."
            )

    def _first_beyond(self, largest, batch, rows):
        """Number of the first image with a value beyond `largest`, or NaN; None without one."""
        xp = array_namespace(batch)
        within = to_numpy(xp.all(xp.abs(batch) <= largest, axis=(1, 2, 3)))
        return None if within.all() else self._numbers(rows)[np.argmin(within)]

    def batch_size(self, n_components, *, by_row=False):
        """Images to a batch; fewer scores are held at once where maps are pooled row by row."""
        geometry = self.geometry
        held = geometry.n_positions * n_components
        if by_row:
            held = max(4 * geometry.map_shape[1] * n_components, geometry.stripe_length)
        most = DEVICE_BATCH_BYTES if self.placement.on_accelerator else BATCH_BYTES
        return int(np.clip(most // (held * self.dtype.itemsize), 1, MAX_BATCH))

    def batches(self, batch_size, rows=None):
        """Slices that cover all images in order; or parts of the rows given."""
        n = len(self) if rows is None else len(rows)
        parts = [slice(i, min(i + batch_size, n)) for i in range(0, n, batch_size)]
        return parts if rows is None else [rows[part] for part in parts]
