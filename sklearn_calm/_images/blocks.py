"""Images in a Dask array: a pass maps the E-step over blocks where they lie.

The layer travels to the workers, and the statistics travel back, added up in a tree. Of the images
only samples travel: patches to start from, and some images from which to choose new patches.
"""

import importlib
import math
import warnings
from functools import cached_property, partial, reduce
from itertools import pairwise

import numpy as np

from sklearn_calm._arrays.execution import Workers
from sklearn_calm._arrays.namespace import Placement, find_placement, to_numpy
from sklearn_calm._images.reader import (
    READ_VALUES,
    Images,
    home_of,
    pick_patches,
    row_numbers,
    working_dtype,
)
from sklearn_calm._images.source import ImageSource

# Blocks are not joined to fewer than this, which keep many workers busy.
LEAST_BLOCKS = 64
# Number of statistics that one task adds up.
FAN_IN = 8


def whole_images(X):
    """The Dask array in blocks that hold whole images.

    Raises
    ------
    ValueError
        If the number of images in its blocks is unknown.
    """
    check_known_shape(X)
    if cuts_images(X):
        warnings.warn(
            f"X has chunks {X.chunksize}, which cut images of shape {X.shape[1:]} apart. They are "
            'put together; X.rechunk({0: "auto", 1: -1, ...}) does it once for every call.',
            UserWarning,
            stacklevel=5,
        )
        X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
    return X


def cuts_images(X):
    """Whether the chunks of a Dask array hold parts of images."""
    return X.numblocks[1:] != (1,) * (X.ndim - 1)


def check_known_shape(X):
    """Raise a ValueError if the number of images in the blocks of a Dask array is unknown."""
    if any(np.isnan(side) for side in X.shape):
        raise ValueError(
            f"X is a Dask array of unknown shape {X.shape}. Call X.compute_chunk_sizes() first."
        )


def joined_lengths(lengths, values_per_image):
    """Lengths of blocks, neighbours joined where there are very many small ones: each is a task.

    Parameters
    ----------
    lengths : sequence of int
        Images in each block.
    values_per_image : int
    """
    most = min(READ_VALUES // values_per_image, sum(lengths) // LEAST_BLOCKS)
    joined = []
    for length in lengths:
        if joined and joined[-1] + length <= most:
            joined[-1] += length
        else:
            joined.append(length)
    return tuple(joined)


class BlockImages(ImageSource):
    """The images of a Dask array: all work is done where the blocks lie.

    Parameters
    ----------
    X : dask.array.Array of shape (n, ...)
        In blocks of whole images.
    geometry : PatchGeometry
    sample_weight : ndarray of shape (n,) or None
    backend : str
        Where blocks are worked on: the parameter of the estimator.
    missing : Missing or None
        What is done about missing values.
    """

    in_memory = False

    def __init__(self, X, geometry, sample_weight=None, backend="auto", missing=None):
        self.missing = missing
        self.X = X
        self.geometry = geometry
        self.sample_weight = sample_weight
        home = home_of(X._meta)._replace(dtype=working_dtype(X.dtype))
        self.placement = find_placement(backend, home)

    @cached_property
    def _blocks(self):
        lengths = joined_lengths(self.X.chunks[0], math.prod(self.X.shape[1:]))
        return self.X.rechunk({0: lengths} | dict.fromkeys(range(1, self.X.ndim), -1))

    @property
    def _edges(self):
        return np.cumsum([0, *self._blocks.chunks[0]])

    @property
    def home(self):
        """Where results go that are no Dask arrays."""
        return Placement("numpy", None, working_dtype(self.X.dtype))

    def some_rows(self, most):
        """Rows of up to so many images, all of one block, since each block costs its making."""
        first = int(np.argmax(np.diff(self._edges) > 0))
        start, stop = self._edges[first : first + 2]
        return np.arange(start, min(stop, start + most))

    def on_host(self, image_rows=slice(None)):
        image_rows = row_numbers(image_rows, len(self))
        parts = _compute(self._tasks(_host_images, image_rows))
        weights = None if self.sample_weight is None else self.sample_weight[image_rows]
        return Images(
            np.concatenate(parts), self.geometry, weights, self.model_home, image_rows, self.missing
        )

    def patches(self, image_rows, positions):
        if not len(image_rows):
            return np.empty((0, self.geometry.patch_length), self.dtype)
        if cuts_images(self.X):
            return self._patches_of_chunks(image_rows, positions)
        return np.concatenate(_compute(self._tasks(_block_patches, image_rows, positions)))

    def _patches_of_chunks(self, image_rows, positions):
        """`patches` where chunks cut images: from the chunks that hold them, each made once."""
        rows, columns = self.geometry.patch_places(positions)
        corners = image_rows, rows.max(axis=1), columns.max(axis=1)
        edges = (np.cumsum(lengths) for lengths in self.X.chunks[:3])
        chunks = [
            np.searchsorted(edge, at, "right") for edge, at in zip(edges, corners, strict=True)
        ]
        order = np.lexsort(chunks[::-1])
        new = (np.diff(np.stack(chunks)[:, order], axis=1) != 0).any(axis=0)
        groups = np.split(order, np.flatnonzero(new) + 1)
        pick, tasks = _dask().delayed(_part_patches, pure=False), []
        for group in groups:
            at = image_rows[group], rows[group], columns[group]
            parts = tuple(map(_span, at))
            (part,) = self.X[parts].rechunk(-1).to_delayed().ravel()
            within = [
                np.where(places < 0, -1, places - part.start)
                for part, places in zip(parts, at, strict=True)
            ]
            tasks.append(pick(part, *within, self.geometry, self.dtype, at[0]))
        patches = np.empty((len(image_rows), self.geometry.patch_length), self.dtype)
        for group, found in zip(groups, _compute(tasks), strict=True):
            patches[group] = found
        return patches

    def map_reduce(self, step, merge, workers, batch_size, image_rows=None):
        """`ImageSource.map_reduce`, by Dask's own workers."""
        delayed = _dask().delayed
        # One node of the graph, so that the layer travels once to each worker.
        step = delayed(step, pure=False, traverse=False)
        statistics = partial(_statistics, batch_size=batch_size, merge=merge)
        tasks = self._tasks(statistics, image_rows, step)
        merge_all = delayed(partial(reduce, merge), pure=False)
        while len(tasks) > 1:
            tasks = [merge_all(tasks[i : i + FAN_IN]) for i in range(0, len(tasks), FAN_IN)]
        return _compute(tasks)[0]

    def _tasks(self, function, image_rows, values=None):
        """Tasks function(images, rows, values), one for each block that holds any of the rows.

        The rows of a task are counted within its block. `values` are an array with one value for
        each row, of which a task gets its part, or they go to every task as they are.
        """
        function = _dask().delayed(function, pure=False)
        tasks = []
        for block, (start, stop) in zip(
            self._blocks.to_delayed().ravel(), pairwise(self._edges), strict=True
        ):
            rows_within, part = None, slice(None)
            if image_rows is not None:
                part = slice(*np.searchsorted(image_rows, (start, stop)))
                rows_within = image_rows[part] - start
            if start < stop and (image_rows is None or len(rows_within)):
                weights = None if self.sample_weight is None else self.sample_weight[start:stop]
                images = _dask().delayed(_images, pure=False)(
                    block, self.geometry, weights, self.placement, start, self.missing
                )
                given = values[part] if isinstance(values, np.ndarray) else values
                tasks.append(function(images, rows_within, given))
        return tasks


def map_images(method, X, like_one, dtype):
    """A lazy Dask array of method(block) for every block.

    Parameters
    ----------
    method : callable
        Of an array of images.
    X : dask.array.Array
    like_one : tuple of int
        Shape of the result for one image.
    dtype : numpy dtype
        Of the result.
    """
    # A call for each of very many small blocks would take longer than the work itself.
    joined = X.rechunk({0: joined_lengths(X.chunks[0], math.prod(X.shape[1:]))})
    results = joined.map_blocks(
        partial(_results, method=method, like_one=like_one, dtype=dtype),
        dtype=dtype,
        chunks=(joined.chunks[0], *((side,) for side in like_one)),
        drop_axis=list(range(1, X.ndim)),
        new_axis=list(range(1, 1 + len(like_one))),
        meta=np.empty((0,) * (1 + len(like_one)), dtype),
    )
    return results.rechunk({0: X.chunks[0]})


def _results(block, method, like_one, dtype):
    return method(block) if len(block) else np.empty((0, *like_one), dtype)


def _dask():
    return importlib.import_module("dask")


def _compute(tasks):
    return _dask().compute(*tasks)


def _images(block, geometry, weights, placement, start, missing):
    numbers = np.arange(start, start + block.shape[0])
    return Images(block, geometry, weights, placement, numbers, missing)


def _host_images(images, image_rows, _):
    return images.on_host(image_rows).X


def _part_patches(part, *arguments):
    return pick_patches(np.ma.asanyarray(part) if np.ma.isMA(part) else to_numpy(part), *arguments)


def _block_patches(images, image_rows, positions):
    return images.patches(image_rows, positions)


def _statistics(images, image_rows, step, batch_size, merge):
    return images.map_reduce(step, merge, Workers(1), batch_size, image_rows)


def _span(places):
    """From the first to the last of the pixels at places; the first, of nothing but padding."""
    inside = places[places >= 0]
    return slice(int(inside.min()), int(inside.max()) + 1) if inside.size else slice(0, 1)
