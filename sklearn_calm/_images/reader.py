"""Images as users hold them, read batch by batch.

Flat rows, grey or colour images, integers and memory maps are all read as padded float batches of
shape (n, height, width, channels). The array itself is never copied whole, nor written to.
"""

import math
from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sklearn_calm._arrays.door import unmasked
from sklearn_calm._arrays.namespace import (
    Placement,
    array_namespace,
    contiguous,
    device_of,
    indices,
    library_of,
    numpy_dtype,
    size,
    take,
    to_numpy,
)
from sklearn_calm._convolution.geometry import slices
from sklearn_calm._convolution.observed import filled, has_missing, used_positions
from sklearn_calm._images.source import ImageSource

# Number of values that are read at a time to pick patches from.
READ_VALUES = 2**20
# Integers below are float64 without rounding.
MAX_INTEGER = 2**53


def working_dtype(dtype):
    """float64 for floats of 64 bits and integers of 32, and for larger ones; else float32."""
    dtype = np.dtype(dtype)
    least = {"f": 8, "i": 4, "u": 4}.get(dtype.kind, math.inf)
    return np.dtype(np.float64 if dtype.itemsize >= least else np.float32)


def home_of(X):
    """Where an array is, and the precision in which it is worked on."""
    return Placement(library_of(X), device_of(X), working_dtype(numpy_dtype(X)))


def row_numbers(image_rows, n):
    """The integers that a slice of n rows stands for; integers as they are."""
    return np.arange(*image_rows.indices(n)) if isinstance(image_rows, slice) else image_rows


def padded(batch, geometry):
    """Images (n, height, width, channels), padded as the geometry asks for."""
    if not geometry.pads:
        return batch
    xp = array_namespace(batch)
    if geometry.padding_mode != "constant":
        for axis, repeated in enumerate(geometry.places, start=1):
            batch = xp.take(batch, indices(repeated, batch), axis=axis)
        return batch
    (n, height, width, _), (down, right) = batch.shape, geometry.padding_before
    result = xp.zeros((n, *geometry.padded_shape), dtype=batch.dtype, device=device_of(batch))
    result[:, down : down + height, right : right + width, :] = batch
    return result


def pick_patches(X, image_rows, rows, columns, geometry, dtype, numbers=None):
    """Patches of large images: no other pixels are read.

    Parameters
    ----------
    X : ndarray of shape (n, height, width[, channels])
    image_rows : ndarray of shape (m,)
    rows, columns : ndarray of shape (m, height), (m, width)
        Of the pixels, as `PatchGeometry.patch_places` gives them.
    geometry : PatchGeometry
    dtype : numpy dtype
    numbers : ndarray of shape (m,) or None
        Numbers of the images in errors, if they are not `image_rows`.

    Returns
    -------
    patches : ndarray of shape (m, D)
    """
    placement, numbers = Placement("numpy", None, dtype), image_rows if numbers is None else numbers
    one_patch = geometry.unpadded(*geometry.patch_size)
    patches = np.empty((len(image_rows), geometry.patch_length), dtype)
    for part in slices(len(image_rows), max(1, READ_VALUES // geometry.patch_length)):
        down, right = rows[part][:, :, None], columns[part][:, None, :]
        values = X[image_rows[part][:, None, None], down, right]
        values[(down < 0) | (right < 0)] = 0
        values = values.reshape(-1, *geometry.kernel_shape)
        patches_read = Images(values, one_patch, None, placement, numbers[part]).read(slice(None))
        patches[part] = patches_read.reshape(len(values), -1)
    return patches


def _cut_out(padded, geometry, chosen):
    """The patches with corners at (images, rows, columns) of padded images."""
    windows = sliding_window_view(padded, geometry.reach, axis=(1, 2))
    windows = windows[..., :: geometry.dilation[0], :: geometry.dilation[1]]
    # The channels come before the sides of a window.
    return np.moveaxis(windows[chosen], 1, -1)


class Images(ImageSource):
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
        Numbers of the images in errors; None counts from 0.
    missing : Missing or None
        What is done about missing values, which are NaN in batches; None refuses them.
    """

    def __init__(self, X, geometry, sample_weight=None, placement=None, numbers=None, missing=None):
        self.X = X
        self.missing = missing
        self.numbers = numbers
        self.geometry = geometry
        self.sample_weight = sample_weight
        self.placement = home_of(X) if placement is None else placement

    @property
    def home(self):
        """Where features go, and in what precision: the library and device of X."""
        return home_of(self.X)

    @property
    def in_memory(self):
        return isinstance(self.X, np.ndarray) and not isinstance(self.X, np.memmap)

    def read(self, image_rows):
        """Some of the images, cast and padded: (n, padded height, padded width, channels)."""
        values, mask = take(self.X, image_rows), None
        if isinstance(values, np.ma.MaskedArray):
            if self.missing is None:
                values = unmasked(values, "X", self._numbers(image_rows))
            elif np.ma.is_masked(values):
                values, mask = np.ma.getdata(values), np.ma.getmaskarray(values)
        with np.errstate(over="ignore", under="ignore"):  # told below, in a sentence
            batch = self.placement.asarray(values)
        xp = array_namespace(batch)
        if mask is not None:
            mask = xp.asarray(mask, device=device_of(batch))
            batch = xp.where(mask, xp.full_like(batch, math.nan), batch)
        batch = padded(xp.reshape(batch, (-1, *self.geometry.image_shape)), self.geometry)
        # One layout for all, so that sums round alike whatever the order of X in memory.
        batch = contiguous(batch)
        if array_namespace(self.X).isdtype(self.X.dtype, "real floating"):
            self._check_finite(batch, image_rows)
            self._check_not_lost(batch, image_rows)
        elif numpy_dtype(self.X).itemsize == 8:
            self._check_exact(batch, image_rows)
        return batch

    def batches(self, batch_size, image_rows=None):
        """Slices that cover all images in order; or parts of the rows given."""
        if image_rows is None:
            return slices(len(self), batch_size)
        return [image_rows[part] for part in slices(len(image_rows), batch_size)]

    def some_rows(self, most):
        """Numbers of up to so many images, spread over all of them."""
        return np.unique(np.linspace(0, len(self) - 1, most).astype(int))

    def on_host(self, image_rows=slice(None)):
        weights = None if self.sample_weight is None else self.weights(image_rows)
        placement = Placement("numpy", None, self.dtype)
        X, numbers = take(self.X, image_rows), self._numbers(image_rows)
        if self.missing is None:
            X = unmasked(X, "X", numbers)
        elif np.ma.is_masked(X):
            # What is behind a mask must not count where rows are compared.
            with np.errstate(over="ignore"):
                values = np.ma.getdata(X).astype(self.dtype)
            X = np.where(np.ma.getmaskarray(X), np.nan, values)
        X = to_numpy(X)
        return Images(X, self.geometry, weights, placement, numbers, self.missing)

    @property
    def _is_large(self):
        """Whether patches are read one by one: whole images are large, and NumPy's."""
        sides = self.geometry.image_shape[:2]
        large = math.prod(self.geometry.padded_shape) > READ_VALUES
        large = large and self.missing is None
        return large and isinstance(self.X, np.ndarray) and self.X.shape[1:3] == sides

    def patches(self, image_rows, positions):
        geometry = self.geometry
        if self._is_large:
            places = geometry.patch_places(positions)
            return pick_patches(self.X, image_rows, *places, geometry, self.dtype)
        tops, lefts = np.divmod(positions, geometry.map_shape[1])
        tops, lefts = tops * geometry.stride[0], lefts * geometry.stride[1]
        patches = np.empty((len(image_rows), *geometry.kernel_shape), self.dtype)
        needed, first = np.unique(image_rows, return_index=True)
        ends = np.append(first[1:], len(image_rows))
        step = max(1, READ_VALUES // math.prod(geometry.padded_shape))
        for group in slices(len(needed), step):
            part = slice(first[group.start], ends[group.stop - 1])
            padded = self.on_host(needed[group]).read(slice(None))
            images = np.searchsorted(needed[group], image_rows[part])
            chosen = (images, tops[part], lefts[part])
            patches[part] = _cut_out(padded, geometry, chosen)
            if self.missing is not None and has_missing(padded):
                self._settle(patches[part], padded, chosen)
        return patches.reshape(len(image_rows), geometry.patch_length)

    def _settle(self, patches, padded, chosen):
        """Fill patches in, if that is asked for; those that do not count become NaN."""
        geometry, (min_observed, fill) = self.geometry, self.missing
        used = used_positions(padded, geometry._replace(stride=(1, 1)), min_observed)
        images, tops, lefts = chosen
        if fill:
            patches[...] = _cut_out(filled(padded, geometry.reach), geometry, chosen)
        patches[used[tops, images, lefts] == 0] = np.nan

    def map_reduce(self, step, merge, workers, batch_size, image_rows=None):
        batches = self.batches(batch_size, image_rows)
        return workers.map_reduce(partial(step, self), batches, merge)

    def _numbers(self, image_rows):
        # No array of numbers is made where they only count: there may be billions of images.
        if self.numbers is None:
            return row_numbers(image_rows, len(self))
        return self.numbers[image_rows]

    def _check_finite(self, batch, image_rows):
        # Squares are summed over images and over seeds, and such sums must not overflow either.
        most = 1e-6 * float(np.finfo(self.dtype).max)
        xp = array_namespace(batch)
        values = xp.reshape(batch, (size(batch),))
        with np.errstate(over="ignore", invalid="ignore"):
            if bool(values @ values <= most):
                return
        largest = math.sqrt(most / math.prod(batch.shape[1:]))
        first = self._first_beyond(largest, batch, image_rows)
        if first is not None:
            raise ValueError(
                f"Input X contains NaN or infinity (first in image {first}), or a value too large "
                f"for {self.dtype}, beyond {largest:.0e}. Missing values are not accepted "
                'unless missing_values="ignore" is set: set it, drop such images, or fill '
                "them in, with sklearn.impute.SimpleImputer for example; scale large values down."
            )

    def _check_not_lost(self, batch, image_rows):
        longer = numpy_dtype(self.X).itemsize > self.dtype.itemsize
        if longer and not batch.any() and take(self.X, image_rows).any():
            raise ValueError(
                f"Input X of dtype {self.X.dtype} contains only values too small for {self.dtype}. "
                "Scale the images up, as in X / abs(X).max()."
            )

    def _check_exact(self, batch, image_rows):
        first = self._first_beyond(MAX_INTEGER - 1, batch, image_rows)
        if first is not None:
            raise ValueError(
                f"X has dtype {self.X.dtype} and holds integers of {MAX_INTEGER:.0e} or more "
                f"(first in image {first}), which float64 would round. Subtract a constant from "
                "all images, or pass X.astype(float) if rounding does no harm."
            )

    def _first_beyond(self, largest, batch, image_rows):
        """Number of the first image with a value beyond `largest`, or NaN; None without one."""
        xp = array_namespace(batch)
        within = xp.abs(batch) <= largest
        if self.missing is not None:
            within = within | (batch != batch)
        within = to_numpy(xp.all(within, axis=(1, 2, 3)))
        return None if within.all() else self._numbers(image_rows)[np.argmin(within)]
