"""Images that the chunks of a Dask array cut apart: chunks with the pixels that they see."""

import importlib
from functools import partial
from itertools import pairwise

import numpy as np

from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm._images.tiles import Tile


def overlapped(X, depths):
    """A Dask array of images in chunks of one image, and the same with the pixels around each.

    Parameters
    ----------
    X : dask.array.Array of shape (n, height, width, channels)
    depths : tuple of int
        Number of rows and of columns around a chunk. Smaller chunks are joined.
    """
    overlap = importlib.import_module("dask.array.overlap")
    lengths = {0: 1, 3: -1}
    for axis, depth in enumerate(depths, start=1):
        several = len(X.chunks[axis]) > 1 and X.shape[axis] > depth
        enough = overlap.ensure_minimum_chunksize(depth, X.chunks[axis]) if several else (-1,)
        lengths[axis] = enough if len(enough) > 1 else -1
    X = X.rechunk(lengths)
    around = {a: depth if X.numblocks[a] > 1 else 0 for a, depth in enumerate(depths, start=1)}
    return X, overlap.overlap(X, depth=around, boundary="none")


def map_chunks(step, X, geometry, n_features, dtype, *, maps):
    """A lazy array of what step(block, corner, tile) gives for each chunk: (n, ..., n_features).

    Parameters
    ----------
    step : callable
        Takes a part of X, (1, rows, columns, channels); the image, row and column of its corner;
        and the positions whose patches begin in the chunk, a `Tile` that may be empty.
    X : dask.array.Array of shape (n, height, width[, channels])
    geometry : PatchGeometry
        Of a whole image.
    n_features : int
    dtype : numpy dtype
        Of the result.
    maps : bool
        Whether results hold a place for each position, rather than one for each chunk.
    """
    X = X[..., None] if X.ndim == 3 else X
    depths = [max(reach, *pad) for reach, pad in zip(geometry.reach, geometry.padding, strict=True)]
    X, blocks = overlapped(X, depths)
    edges = [np.cumsum((0, *lengths)) for lengths in X.chunks[:3]]
    corners = [
        np.maximum(edge[:-1] - depth, 0) if len(edge) > 2 else edge[:-1]
        for edge, depth in zip(edges, (0, *depths), strict=True)
    ]
    parts = [_parts(geometry, axis, edge) for axis, edge in enumerate(edges[1:])]
    chunks = [tuple(part.stop - part.start if maps else 1 for part in side) for side in parts]
    return blocks.map_blocks(
        partial(_at_chunk, step=step, corners=corners, parts=parts),
        dtype=dtype,
        chunks=(X.chunks[0], *chunks, (n_features,)),
        meta=np.empty((0, 0, 0, 0), dtype),
    )


def _parts(geometry, axis, edges):
    """Positions whose patches begin between the edges of chunks; in the padding, beside it."""
    tops = geometry.stride[axis] * np.arange(geometry.map_shape[axis])
    tops = np.clip(tops - geometry.padding_before[axis], 0, geometry.image_shape[axis] - 1)
    return [slice(int(a), int(b)) for a, b in pairwise(np.searchsorted(tops, edges))]


def _at_chunk(block, step, corners, parts, block_id=None):
    _, row, column = block_id[:3]
    corner = tuple(int(c[i]) for c, i in zip(corners, block_id[:3], strict=True))
    return to_numpy(step(block, corner, Tile(corner[0], parts[0][row], parts[1][column])))
