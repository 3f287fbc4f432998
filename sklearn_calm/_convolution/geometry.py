"""Where the patches of an image lie."""

from typing import NamedTuple

import numpy as np

# Modes of `numpy.pad`.
PADDING_MODES = ("constant", "edge", "reflect")


class PatchGeometry(NamedTuple):
    """Where the patches of an image lie; every pair is (vertical, horizontal)."""

    image_shape: tuple[int, int, int]
    patch_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))  # of (before, after)
    padding_mode: str = "constant"
    dilation: tuple[int, int] = (1, 1)

    def unpadded(self, height, width):
        """The same patches in an image of another size that is not padded."""
        shape = (int(height), int(width), self.image_shape[2])
        return self._replace(image_shape=shape, padding=((0, 0), (0, 0)))

    @property
    def padded_shape(self):
        height, width, n_channels = self.image_shape
        return height + sum(self.padding[0]), width + sum(self.padding[1]), n_channels

    @property
    def pads(self):
        """Whether there is any padding."""
        return any(map(any, self.padding))

    @property
    def padding_before(self):
        """Rows above the image, and columns to its left."""
        return tuple(before for before, _ in self.padding)

    @property
    def places(self):
        """The row and the column of the image at each of the padded one's; -1 where zeros are."""
        options = {"constant_values": -1} if self.padding_mode == "constant" else {}
        sides = zip(self.image_shape, self.padding, strict=False)
        return tuple(
            np.pad(np.arange(side), pad, self.padding_mode, **options) for side, pad in sides
        )

    def patch_places(self, positions):
        """Rows (m, height) and columns (m, width) of the image in patches; -1 where zeros are.

        Parameters
        ----------
        positions : ndarray of shape (m,)
            Counted row by row of the map.
        """
        starts = np.divmod(positions, self.map_shape[1])
        sides = zip(starts, self.stride, self.dilation, self.patch_size, self.places, strict=True)
        return tuple(
            places[step * start[:, None] + gap * np.arange(side)]
            for start, step, gap, side, places in sides
        )

    @property
    def reach(self):
        """Rows and columns from the first pixel of a patch to its last, both counted."""
        sides = zip(self.patch_size, self.dilation, strict=True)
        return tuple(gap * (patch - 1) + 1 for patch, gap in sides)

    @property
    def holds_patch(self):
        """Whether the padded image is as large as a patch."""
        sides = zip(self.padded_shape, self.reach, strict=False)
        return all(side >= reach for side, reach in sides)

    @property
    def map_shape(self):
        """Rows and columns of patch positions."""
        sides = zip(self.padded_shape, self.reach, self.stride, strict=False)
        return tuple((side - reach) // step + 1 for side, reach, step in sides)

    @property
    def row_order(self):
        """Rows of the padded image, ordered by their remainder by the vertical dilation.

        The rows of every patch then follow one another.
        """
        n_rows, gap = self.padded_shape[0], self.dilation[0]
        return np.concatenate([np.arange(first, n_rows, gap) for first in range(gap)])

    @property
    def first_rows(self):
        """Where the first row of each row of the map is in `row_order`."""
        tops = self.stride[0] * np.arange(self.map_shape[0])
        return np.argsort(self.row_order)[tops]

    @property
    def n_positions(self):
        return self.map_shape[0] * self.map_shape[1]

    def maps_shape(self, n_images, n_components):
        """Shape of the maps of a batch: (rows, n, columns, K)."""
        n_rows, n_columns = self.map_shape
        return n_rows, n_images, n_columns, n_components

    @property
    def patch_length(self):
        """D, the number of values in a patch."""
        return self.patch_size[0] * self.patch_size[1] * self.image_shape[2]

    @property
    def stripe_length(self):
        """Number of values in the stripes of an image (see `patches`)."""
        height, _, n_channels = self.padded_shape
        return self.map_shape[1] * height * (self.patch_size[1] * n_channels + 1)

    @property
    def kernel_shape(self):
        return (*self.patch_size, self.image_shape[2])


def on_both_sides(padding):
    """The padding of a geometry with as many pixels before the image as after it."""
    return tuple((pixels, pixels) for pixels in padding)


def even_edges(length, parts):
    """Edges that cut range(length) into parts as even as possible."""
    return [part * length // parts for part in range(parts + 1)]


def slices(length, step):
    """Slices of at most `step` that cover range(length) in order."""
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
