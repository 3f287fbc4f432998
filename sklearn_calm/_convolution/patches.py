"""Patches of images, seen through a convolution: correlation and its adjoint.

No matrix of patches is ever made. There are two kinds of patches, which share one protocol: striped
ones, here, and those of `fourier`, which are faster where kernels are large.

A batch of images is copied once into *stripes*. Each row of the stripes is called a *line*: line
(i, x) holds the columns x .. x + width of all rows of image i. So the patches of one row of the map
are a plain slice of the stripes' columns, which BLAS multiplies in place (docs/mathematics.rst,
eq. 15). The copy is `width` times the batch, where all patches would be `height * width` times.

A line of dilated patches holds every dilation-th of these columns. Its rows are ordered by their
remainder by the dilation, so that the rows of a patch follow one another (eq. 32).
"""

from typing import Any, Protocol

import numpy as np

from sklearn_calm._arrays.namespace import (
    array_namespace,
    contiguous,
    empty,
    indices,
    matmul_into,
    multiply_into,
    strided,
    take_at,
)
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._convolution.geometry import PatchGeometry, slices
from sklearn_calm._convolution.moments import centred, deviations

# Copying positions out pays where fewer than this share of them matter.
SPARSE_BELOW = 0.75
# Copies of patches that stay inside the cache; and larger ones, where several threads would rather
# wait for memory than for the interpreter.
COPIED_BYTES = 200_000
TOGETHER_BYTES = 800_000
# An accelerator wants much work at a time.
DEVICE_BYTES = 2**26


class Patches(Protocol):
    """The patches x~_u of a batch of n images, and the products that EM needs of them.

    With contrast normalisation x~ = (x - mean) / deviation (eq. 10), without it x~ = x. A position
    is given by a row of the map and a line, which counts the columns of the map image by image:
    line = image * columns + column.

    Parameters
    ----------
    images : ndarray of shape (n, padded height, padded width, channels), float
    geometry : PatchGeometry
    contrast_floor : float or None
        Added to the variance of a patch before the square root (eq. 10); None leaves patches raw.
    scratch : Scratch or None
        Memory for everything of the size of maps. What it holds is good until the next patches
        with the same scratch are made in this thread. None takes memory of its own.
    """

    images: Any  # less the mean of each, where patches are normalised
    geometry: PatchGeometry
    deviation: Any  # (rows, n, columns), or None for raw patches
    scratch: Scratch
    used: Any = None  # (rows, n, columns), 1 where a patch counts and 0 elsewhere; None: all count

    def __init__(self, images, geometry, *, contrast_floor=None, scratch=None): ...

    @property
    def sparse_below(self):
        """Share of the positions below which `gather` is faster than `adjoint`."""

    def contrasts(self):
        """The deviation that every patch is normalised by (eq. 10): (rows, n, columns)."""
        return self.deviation

    @staticmethod
    def prepared(kernels, geometry):
        """Kernels (K, D) as `correlate` takes them: prepared once for all batches."""

    def correlate(self, kernels, bias):
        """Inner product of every patch with every kernel, plus a bias: a convolution layer.

        Parameters
        ----------
        kernels : ndarray
            K of them, `prepared`.
        bias : ndarray of shape (K,)

        Returns
        -------
        maps : ndarray of shape (rows, n, columns, K)
            kernels[k] . x~_u + bias[k]; for normalised patches by eq. 11. The next call overwrites
            them.
        """

    def adjoint(self, maps, scale=None):
        """Sum of all patches, weighted by maps: the maps used as a filter over the images.

        Parameters
        ----------
        maps : ndarray of shape (rows, n, columns, K)
        scale : ndarray of shape (rows, n, columns) or None
            Factor of the maps at each position.

        Returns
        -------
        sums : ndarray of shape (K, D)
            sum_u scale[u] maps[k, u] x~_u.
        totals : ndarray of shape (K,)
            sum_u scale[u] maps[k, u]. Together they are the adjoint of `correlate`.
        """

    def gather(self, positions, maps, scale=None):
        """`adjoint` for maps that are zero at all but a few positions.

        Parameters
        ----------
        positions : tuple of two ndarrays of shape (m,)
            Row of the map, and line, of each position.
        maps : ndarray of shape (m, K)
        scale : ndarray of shape (rows, n, columns) or None
        """


class StripedPatches(Patches):
    """Patches as slices of stripes.

    A unit beside the values of each patch lets kernels carry their bias within the product.
    Normalised patches are seen `deviation` times as large, and so is their unit: kernels whose
    values add up to zero do not see the mean.
    """

    sparse_below = SPARSE_BELOW

    def __init__(self, images, geometry, *, contrast_floor=None, scratch=None):
        self.geometry = geometry
        self.scratch = Scratch() if scratch is None else scratch
        self.images, self.deviation = deviations(contiguous(images), geometry, contrast_floor)
        # Which block each row of the map is: the next, or this one of the blocks of all rows.
        self.order = None if geometry.dilation[0] == 1 else geometry.first_rows
        self.stripes = self._cut()  # (n * columns, padded height * (patch width * channels + 1))

    @staticmethod
    def prepared(kernels, geometry):
        return kernels

    @property
    def blocks(self):
        """Patches of each row of the map, a strided view (rows, n * columns, length): not a copy.

        Where the rows of the image are ordered otherwise, there is a block for each row at which a
        patch may begin, and `order` says which of them are the rows of the map.

        The unit is the last value of a patch's first row. The other rows of a patch end in a value
        that kernels multiply by zero.
        """
        (n_lines, length), (n_image_rows, _, _) = self.stripes.shape, self.geometry.padded_shape
        row_length, height = length // n_image_rows, self.geometry.patch_size[0]
        n_rows, step = self.geometry.map_shape[0], self.geometry.stride[0]
        if self.order is not None:
            n_rows, step = n_image_rows - height + 1, 1
        shape = (n_rows, n_lines, height * row_length)
        return strided(self.stripes, shape, (step * row_length, length, 1))

    def correlate(self, kernels, bias):
        shape = self.geometry.maps_shape(self.images.shape[0], kernels.shape[0])
        maps = self.scratch.empty("maps", shape, self.images)
        map_rows = array_namespace(maps).reshape(maps, (shape[0], -1, shape[-1]))
        if isinstance(maps, np.ndarray) and self.order is None:
            np.matmul(self.blocks, self._with_unit(kernels, bias), out=map_rows)
        else:  # other libraries would copy the blocks of all rows to make one product
            blocks, columns = self.blocks, self._with_unit(kernels, bias)
            for y in range(shape[0]):
                matmul_into(map_rows[y, ...], blocks[self._number(y), ...], columns)
        if self.deviation is not None:
            maps *= 1 / self.deviation[..., None]
        return maps

    def correlate_rows(self, kernels, bias):
        """The maps of `correlate` times the deviation, one row of the map after the other.

        Yields
        ------
        map_row : ndarray of shape (n, columns, K)
            Overwritten by the next.
        """
        each = slices(self.geometry.map_shape[0], 1)
        for band in self.correlate_bands(kernels, bias, each):
            yield band[0, ...]

    def correlate_bands(self, kernels, bias, bands):
        """The same for bands of several rows of the map, slices of at most the length of the first.

        Yields
        ------
        band : ndarray of shape (rows, n, columns, K)
            Overwritten by the next.
        """
        columns, blocks = self._with_unit(kernels, bias), self.blocks
        _, *shape = self.geometry.maps_shape(self.images.shape[0], kernels.shape[0])
        most = bands[0].stop - bands[0].start
        memory = self.scratch.empty("band", (most, blocks.shape[1], shape[-1]), self.images)
        for rows in bands:
            products = memory[: rows.stop - rows.start, ...]
            if isinstance(products, np.ndarray) and self.order is None:
                np.matmul(blocks[rows], columns, out=products)
            else:
                for y in range(rows.start, rows.stop):
                    block = blocks[self._number(y), ...]
                    matmul_into(products[y - rows.start, ...], block, columns)
            yield array_namespace(products).reshape(products, (products.shape[0], *shape))

    def correlate_at(self, positions, kernels, bias):
        """`correlate` at a few positions, as `gather` takes them: (m, K). NumPy only."""
        blocks, (map_rows, lines) = self.blocks, positions
        columns, numbers = self._with_unit(kernels, bias), self._number(map_rows)
        maps = np.empty((len(lines), len(kernels)), blocks.dtype)
        for part in _cached_parts(len(lines), blocks[0, 0].nbytes, TOGETHER_BYTES):
            np.matmul(blocks[numbers[part], lines[part]], columns, out=maps[part])
        if self.deviation is not None:
            maps /= self.deviation.reshape(len(self.deviation), -1)[map_rows, lines, None]
        return maps

    def adjoint(self, maps, scale=None):
        xp, scale, blocks = array_namespace(maps), self._over_deviation(scale), self.blocks
        n_rows, _, _, n_components = maps.shape
        n_lines, length = blocks.shape[1:]
        product = empty((n_components, length), maps)
        sums = xp.zeros_like(product)
        scaled = None if scale is None else empty((n_lines, min(length, n_components)), maps)
        for y in range(n_rows):
            block = blocks[self._number(y), ...]
            map_row = xp.reshape(maps[y, ...], (-1, n_components))
            if scale is not None:
                # Whichever is smaller is scaled.
                line_scale = xp.reshape(scale[y, ...], (-1, 1))
                if length < n_components:
                    block = multiply_into(scaled, block, line_scale)
                else:
                    map_row = multiply_into(scaled, map_row, line_scale)
            sums += matmul_into(product, map_row.T, block)
        return self._without_unit(sums)

    def adjoint_sparse(self, map_rows):
        """`adjoint` for maps of which few components are not zero at a position. NumPy only.

        Parameters
        ----------
        map_rows : list of sparse arrays of shape (n * columns, K)
        """
        blocks, sums = self.blocks, 0
        for y, map_row in enumerate(map_rows):
            block = blocks[self._number(y)]
            if self.deviation is not None:
                block = block / self.deviation[y].reshape(-1, 1)
            sums = sums + map_row.T @ block
        return self._without_unit(sums)

    def gather(self, positions, maps, scale=None):
        xp, blocks, (map_rows, lines) = array_namespace(maps), self.blocks, positions
        scale = self._over_deviation(scale)
        if scale is not None:
            scale = take_at(xp.reshape(scale, (scale.shape[0], -1, 1)), map_rows, lines)
        numbers = self._number(map_rows)
        product = empty((maps.shape[1], blocks.shape[2]), maps)
        sums = xp.zeros_like(product)
        most = COPIED_BYTES if isinstance(maps, np.ndarray) else DEVICE_BYTES
        for part in _cached_parts(maps.shape[0], 8 * blocks.shape[2], most):
            weights = maps[part, :] if scale is None else maps[part, :] * scale[part, :]
            sums += matmul_into(product, weights.T, take_at(blocks, numbers[part], lines[part]))
        return self._without_unit(sums)

    def _cut(self):
        """The stripes."""
        n, height, width, channels = self.images.shape
        (n_rows, n_columns), (down, right) = self.geometry.map_shape, self.geometry.stride
        row_step, row_length = width * channels, self.geometry.patch_size[1] * channels
        shape = (n, n_columns, height, row_length + 1)
        stripes = self.scratch.empty("stripes", shape, self.images)
        steps = (height * row_step, right * channels, row_step, 1)
        xp, images, gap = array_namespace(self.images), self.images, self.geometry.dilation[1]
        if self.order is not None:
            images = xp.take(images, indices(self.geometry.row_order, images), axis=1)
        if gap == 1:
            stripes[..., :-1] = strided(images, (*shape[:3], row_length), steps)
        else:
            pixels = (*shape[:3], self.geometry.patch_size[1], channels)
            values = strided(images, pixels, (*steps[:-1], gap * channels, 1))
            stripes[..., :-1] = xp.reshape(values, (*shape[:3], row_length))
        if self.deviation is None:
            stripes[..., -1] = 1
        elif self.order is None:
            stripes[..., -1] = 0
            units = xp.permute_dims(self.deviation, (1, 2, 0))
            stripes[:, :, : down * (n_rows - 1) + 1 : down, -1] = units
        else:
            stripes[..., -1] = 0
            for y, row in enumerate(self.order):
                stripes[:, :, row, -1] = self.deviation[y, ...]
        return xp.reshape(stripes, (n * n_columns, -1))

    def _number(self, map_rows):
        """Number among the blocks of a row of the map, or of an array of them."""
        if self.order is None:
            return map_rows
        if isinstance(map_rows, int | np.ndarray):
            return self.order[map_rows]
        return array_namespace(map_rows).take(indices(self.order, map_rows), map_rows)

    def _with_unit(self, kernels, bias):
        """Kernels for blocks, (length, K): their bias meets the unit of the patch."""
        if self.deviation is not None:
            kernels = centred(kernels)
        height, width, n_channels = self.geometry.kernel_shape
        xp, n_components = array_namespace(kernels), kernels.shape[0]
        # The product is up to twice as fast with the components along the rows in memory.
        columns = empty((height, width * n_channels + 1, n_components), kernels)
        columns[:, :-1, :] = xp.reshape(kernels.T, (height, -1, n_components))
        columns[:, -1, :] = 0
        columns[0, -1, :] = bias
        return xp.reshape(columns, (-1, n_components))

    def _without_unit(self, sums):
        """Sums of patches (K, D) and of their units (K,), out of sums of blocks."""
        n_components, height = sums.shape[0], self.geometry.patch_size[0]
        xp = array_namespace(sums)
        sums = xp.reshape(sums, (n_components, height, -1))
        values = xp.reshape(sums[:, :, :-1], (n_components, -1))
        return values if self.deviation is None else centred(values), sums[:, 0, -1]

    def _over_deviation(self, scale):
        if self.deviation is None:
            return scale
        return 1 / self.deviation if scale is None else scale / self.deviation


def _cached_parts(n, nbytes, most=COPIED_BYTES):
    """Slices of n patches of `nbytes` each, of which copies are no larger than `most`."""
    return slices(n, max(16, most // nbytes))
