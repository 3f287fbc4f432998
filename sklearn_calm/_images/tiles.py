"""Parts of large images, read with the pixels around them that their patches reach."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sklearn_calm._arrays.namespace import array_namespace, indices, like
from sklearn_calm._convolution.geometry import even_edges
from sklearn_calm._images.reader import Images


class Tile(NamedTuple):
    """Some rows and columns of the map of one image."""

    image: int
    rows: slice
    columns: slice

    @classmethod
    def around(cls, pixels, halo, geometry):
        """The tile of the pixels (m, 3) of one image, and of the positions around them."""
        (image, *first), last = pixels.min(axis=0).tolist(), pixels.max(axis=0)[1:].tolist()
        sides = zip(first, last, geometry.map_shape, strict=True)
        parts = (slice(max(a - halo, 0), min(b + halo + 1, side)) for a, b, side in sides)
        return cls(image, *parts)

    def geometry(self, geometry):
        """The geometry of the tile as `read_tile` reads it: that of an image without padding."""
        sides = zip((self.rows, self.columns), geometry.stride, geometry.reach, strict=True)
        return geometry.unpadded(
            *((part.stop - part.start - 1) * step + reach for part, step, reach in sides)
        )

    @property
    def shape(self):
        """Rows and columns of positions."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def bands(self, most_rows):
        """The tile in parts of at most so many rows."""
        n_rows, _ = self.shape
        edges = even_edges(n_rows, -(-n_rows // most_rows))
        return [
            self._replace(rows=slice(self.rows.start + top, self.rows.start + bottom))
            for top, bottom in pairwise(edges)
        ]


def read_tile(X, tile, geometry, placement, corner=(0, 0, 0), missing=None):
    """The padded pixels that the positions of a tile see.

    Parameters
    ----------
    X : array of shape (n, height, width[, channels])
        Only the pixels of the tile are read.
    tile : Tile
    geometry : PatchGeometry
        Of a whole image.
    placement : Placement
    corner : tuple of int
        Image, row and column of the first pixel of X, where X is a part of images.
    missing : Missing or None
        As `Images` takes it.

    Returns
    -------
    batch : ndarray of shape (1, tile height, tile width, channels)
        As `Images.read` gives it.
    """
    places = [
        seen[part.start * step : (part.stop - 1) * step + reach]
        for seen, part, step, reach in zip(
            geometry.places,
            (tile.rows, tile.columns),
            geometry.stride,
            geometry.reach,
            strict=True,
        )
    ]
    inside = [seen[seen >= 0] for seen in places]
    if not all(map(len, inside)):  # nothing but zeros
        shape = (1, *tile.geometry(geometry).image_shape)
        xp = placement.xp
        dtype = getattr(xp, placement.dtype.name)
        return xp.zeros(shape, dtype=dtype, device=placement.device)
    starts = [int(seen.min()) for seen in inside]
    rows, columns = (
        slice(start, int(seen.max()) + 1) for start, seen in zip(starts, inside, strict=True)
    )
    image, down, right = corner
    rows = slice(rows.start - down, rows.stop - down)
    columns = slice(columns.start - right, columns.stop - right)
    block = X[tile.image - image : tile.image - image + 1, rows, columns, ...]
    raw = geometry.unpadded(*block.shape[1:3])
    numbers = np.asarray([tile.image])
    batch = Images(block, raw, placement=placement, numbers=numbers, missing=missing).read(
        slice(None)
    )
    xp = array_namespace(batch)
    for axis, (seen, start) in enumerate(zip(places, starts, strict=True), start=1):
        if len(seen) == batch.shape[axis] and (seen >= 0).all() and (np.diff(seen) == 1).all():
            continue
        batch = xp.take(batch, indices(np.maximum(seen - start, 0), batch), axis=axis)
        if (seen < 0).any():
            there = (seen >= 0).reshape(-1, 1, 1) if axis == 1 else (seen >= 0).reshape(-1, 1)
            batch = xp.where(like(there, batch) > 0, batch, xp.zeros_like(batch))
    return batch
