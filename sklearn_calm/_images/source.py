"""What training asks of images, be they in memory, in a file or in blocks of a Dask array."""

import copy
from typing import Any, Protocol

import numpy as np

from sklearn_calm._arrays.namespace import Placement
from sklearn_calm._convolution.geometry import PatchGeometry

# Memory for the scores of one batch: larger batches leave the cache, smaller ones spend time
# between batches.
BATCH_BYTES = 2**22
# The statistics of a batch take time too, which counts with fewer positions than this for each
# value of a patch. Then batches are larger, up to so many times.
POSITIONS_PER_VALUE = 32
MOST_TIMES = 4
# The same where maps are pooled row by row: stripes are then the largest part.
BY_ROW_BYTES = 2**21
DEVICE_BATCH_BYTES = 2**28
MAX_BATCH = 8192


class ImageSource(Protocol):
    """Images with their geometry and weights, wherever they are held.

    `image_rows` are the rows of images in X: a slice, or integers in ascending order.
    """

    X: Any  # (n, ...)
    geometry: PatchGeometry  # of images of several sizes: that of the largest sides
    sample_weight: np.ndarray | None  # (n,)
    placement: Placement  # where batches are worked on, and in what precision
    missing: Any  # `Missing`: what is done about missing values; None refuses them

    # Whether images have several sizes; what EM fits is then always a sample of their patches.
    several_sizes: bool = False

    @property
    def in_memory(self):
        """Whether X is an array of NumPy, and no file."""

    @property
    def home(self):
        """Where features go, and in what precision."""

    def some_rows(self, most):
        """Rows of up to so many of the images."""

    def on_host(self, image_rows=slice(None)):
        """Some of the images as `Images`, NumPy in memory."""

    def patches(self, image_rows, positions):
        """The patches at given positions of given images.

        Parameters
        ----------
        image_rows : ndarray of shape (m,)
            May hold an image several times.
        positions : ndarray of shape (m,)
            Counted row by row of the map.

        Returns
        -------
        patches : ndarray of shape (m, D)
            NumPy.
        """

    def map_reduce(self, step, merge, workers, batch_size, image_rows=None):
        """merge(... merge(step(images, rows), step(images, rows)) ...) over all batches.

        Parameters
        ----------
        step : callable
            Takes `Images` and the rows of a batch.
        merge : callable
        workers : Workers
        batch_size : int
        image_rows : ndarray of int or None
            None takes all images.
        """

    def __len__(self):
        return self.X.shape[0]

    @property
    def dtype(self):
        """Precision of batches, as NumPy calls it."""
        return self.placement.dtype

    @property
    def model_home(self):
        """Where fitted attributes go: their precision is the one that batches are worked on in."""
        return self.home._replace(dtype=self.dtype)

    def in_precision(self, dtype):
        """The same images, read in another precision."""
        other = copy.copy(self)
        other.placement = self.placement._replace(dtype=np.dtype(dtype))
        return other

    def weights(self, image_rows):
        """Weights of some of the images, float64."""
        if self.sample_weight is None:
            return np.broadcast_to(1.0, len(self))[image_rows]
        return self.sample_weight[image_rows]

    @property
    def total_weight(self):
        return float(len(self) if self.sample_weight is None else self.sample_weight.sum())

    @property
    def least_weight(self):
        """Weight of the lightest image that has any."""
        if self.sample_weight is None:
            return 1.0
        return float(self.sample_weight[self.sample_weight > 0].min())

    @property
    def n_positions(self):
        """Positions in each image: a number for all, or one for each, (n,)."""
        return self.geometry.n_positions

    @property
    def total_positions(self):
        return len(self) * self.n_positions

    @property
    def mean_positions(self):
        """Mean number of positions of an image, each counted by its weight."""
        return float(self.n_positions)

    @property
    def shares(self):
        """Share of each image in the weighted positions of all; None where they are even."""
        if self.sample_weight is None:
            return None
        return self.sample_weight / self.sample_weight.sum()

    def batch_size(self, n_components, *, by_row=False):
        """Number of images in a batch, so that its scores fit the cache.

        Parameters
        ----------
        n_components : int
        by_row : bool
            Whether maps are pooled row by row, so that fewer scores are held at once.
        """
        geometry = self.geometry
        held, most = geometry.n_positions * n_components, BATCH_BYTES
        wanted = POSITIONS_PER_VALUE * geometry.patch_length * n_components * self.dtype.itemsize
        most = min(max(most, wanted), MOST_TIMES * most)
        if by_row:
            most = BY_ROW_BYTES
            held = max(4 * geometry.map_shape[1] * n_components, geometry.stripe_length)
        if self.placement.on_accelerator:
            most = DEVICE_BATCH_BYTES
        return int(np.clip(most // (held * self.dtype.itemsize), 1, MAX_BATCH))
