"""Images in a Dask array: a pass maps the E-step over blocks where they lie.

What travels is the layer on its way out and the statistics on their way back, added up in a tree;
of the images only samples: patches to start from, and some images to choose new patches from.
"""

import importlib
import warnings
from functools import partial, reduce
from itertools import pairwise

import numpy as np

from sklearn_calm._arrays.execution import Workers
from sklearn_calm._arrays.namespace import Placement, find_placement
from sklearn_calm._images.reader import Images, home_of, row_numbers, working_dtype

# Statistics that one task adds up.
FAN_IN = 8


def whole_images(X):
    """The Dask array in blocks that hold whole images.

    Raises
    ------
    ValueError
        If nobody knows how many images its blocks hold.
    """
    if any(np.isnan(side) for side in X.shape):
        raise ValueError(
            f"X is a Dask array of unknown shape {X.shape}. Call X.compute_chunk_sizes() first."
        )
    if X.numblocks[1:] != (1,) * (X.ndim - 1):
        warnings.warn(
            f"X has chunks {X.chunksize}, which cut images of shape {X.shape[1:]} apart. They are "
            'put together; X.rechunk({0: "auto", 1: -1, ...}) does it once for every call.',
            UserWarning,
            stacklevel=5,
        )
        X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
    return X


class BlockImages:
    """The images of a Dask array: what training asks of `Images`, done where the blocks lie.

    Parameters
    ----------
    X : dask.array.Array of shape (n, ...)
        In blocks of whole images.
    geometry : PatchGeometry
    sample_weight : ndarray of shape (n,) or None
    backend : str
        Where blocks are worked on, as the estimator says it.
    """

    in_memory = False

    def __init__(self, X, geometry, sample_weight=None, backend="auto"):
        self.X = X
        self.geometry = geometry
        self.sample_weight = sample_weight
        home = home_of(X._meta)._replace(dtype=working_dtype(X.dtype))
        self.placement = find_placement(backend, home)
        self._edges = np.cumsum([0, *X.chunks[0]])

    def __len__(self):
        return self.X.shape[0]

    @property
    def home(self):
        """Where results go that are no Dask arrays."""
        return Placement("numpy", None, working_dtype(self.X.dtype))

    dtype = Images.dtype
    model_home = Images.model_home
    in_precision = Images.in_precision
    weights = Images.weights
    total_weight = Images.total_weight
    least_weight = Images.least_weight
    batch_size = Images.batch_size

    def some_rows(self, most):
        """Numbers of up to so many images, of one block, as each costs its making."""
        first = int(np.argmax(np.diff(self._edges) > 0))
        start, stop = self._edges[first : first + 2]
        return np.arange(start, min(stop, start + most))

    def on_host(self, rows=slice(None)):
        """The images of the given rows, in ascending order, NumPy in memory."""
        rows = row_numbers(rows, len(self))
        parts = _compute(self._tasks(_host_images, rows))
        weights = None if self.sample_weight is None else self.sample_weight[rows]
        return Images(_joined(parts), self.geometry, weights, self.model_home, rows)

    def patches(self, rows, positions):
        """The patches at given positions of given images, rows in ascending order."""
        if not len(rows):
            return np.empty((0, self.geometry.patch_length), self.dtype)
        return np.concatenate(_compute(self._tasks(_block_patches, rows, positions)))

    def map_reduce(self, step, merge, workers, batch_size, rows=None):
        """merge(... merge(step(images, batch), ...) ...) of all batches of all blocks."""
        delayed = _dask().delayed
        # One node of the graph, so that the layer travels once to each worker.
        step = delayed(step, pure=False, traverse=False)
        tasks = self._tasks(partial(_statistics, batch_size=batch_size, merge=merge), rows, step)
        merge_all = delayed(partial(reduce, merge), pure=False)
        while len(tasks) > 1:
            tasks = [merge_all(tasks[i : i + FAN_IN]) for i in range(0, len(tasks), FAN_IN)]
        return _compute(tasks)[0]

    def _tasks(self, function, rows, values=None):
        """function(images, rows, values) of every block, where it lies, that holds any rows.

        Rows are counted within the block; `values` go with the rows, or are a task.
        """
        function = _dask().delayed(function, pure=False)
        tasks = []
        for block, (start, stop) in zip(
            self.X.to_delayed().ravel(), pairwise(self._edges), strict=True
        ):
            mine, part = None, slice(None)
            if rows is not None:
                part = slice(*np.searchsorted(rows, (start, stop)))
                mine = rows[part] - start
            if start < stop and (rows is None or len(mine)):
                weights = None if self.sample_weight is None else self.sample_weight[start:stop]
                images = _dask().delayed(_images, pure=False)(
                    block, self.geometry, weights, self.placement, start
                )
                given = values[part] if isinstance(values, np.ndarray) else values
                tasks.append(function(images, mine, given))
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
    return X.map_blocks(
        partial(_results, method=method, like_one=like_one, dtype=dtype),
        dtype=dtype,
        chunks=(X.chunks[0], *((side,) for side in like_one)),
        drop_axis=list(range(1, X.ndim)),
        new_axis=list(range(1, 1 + len(like_one))),
        meta=np.empty((0,) * (1 + len(like_one)), dtype),
    )


def _results(block, method, like_one, dtype):
    return method(block) if len(block) else np.empty((0, *like_one), dtype)


def _joined(parts):
    """Arrays one after the other; masks are kept, to be refused where images are read."""
    masked = any(map(np.ma.isMaskedArray, parts))
    return (np.ma if masked else np).concatenate(parts)


def _dask():
    return importlib.import_module("dask")


def _compute(tasks):
    return _dask().compute(*tasks)


def _images(block, geometry, weights, placement, start):
    numbers = np.arange(start, start + block.shape[0])
    return Images(block, geometry, weights, placement, numbers)


def _host_images(images, rows, _):
    return images.on_host(rows).X


def _block_patches(images, rows, positions):
    return images.patches(rows, positions)


def _statistics(images, rows, step, batch_size, merge):
    return images.map_reduce(step, merge, Workers(1), batch_size, rows)
