"""Images of several sizes, in a list: they are worked on in groups of one size.

No stack of all images is made: those of a batch are stacked when it is read. Each position counts
once, so a large image counts for more than a small one.
"""

import math
from functools import cached_property

import numpy as np

from sklearn_calm._arrays.namespace import Placement, find_placement
from sklearn_calm._convolution.geometry import slices
from sklearn_calm._images.reader import READ_VALUES, Images, working_dtype
from sklearn_calm._images.source import ImageSource

# Where the patches of an image begin and end among patches in the order of the images.
SIDES = ("left", "right")


class SizedImages(ImageSource):
    """The images of a list, of several sizes.

    Parameters
    ----------
    X : list of ndarrays
    image_shapes : list of tuples (height, width, n_channels)
        How each is read.
    geometry : PatchGeometry
        Of an image of any shape.
    sample_weight : ndarray of shape (n,) or None
    backend : str
        Where batches are worked on: the parameter of the estimator.
    missing : Missing or None
        What is done about missing values.
    """

    several_sizes = True
    in_memory = False

    def __init__(self, X, image_shapes, geometry, sample_weight=None, backend="auto", missing=None):
        self.X = X
        self.missing = missing
        self.sample_weight = sample_weight
        shapes, first, self._groups = np.unique(
            np.asarray(image_shapes), axis=0, return_index=True, return_inverse=True
        )
        self._groups = self._groups.ravel()
        self.geometries = [resized(geometry, shape) for shape in shapes]
        self.first_rows = first
        self.geometry = resized(geometry, largest(shapes))
        self.placement = find_placement(backend, self.home)

    def __len__(self):
        return len(self.X)

    @property
    def home(self):
        """Where results go: NumPy, in the precision that holds every image."""
        dtype = np.result_type(*{image.dtype for image in self.X})
        return Placement("numpy", None, working_dtype(dtype))

    @property
    def n_positions(self):
        return np.asarray([geometry.n_positions for geometry in self.geometries])[self._groups]

    @cached_property
    def total_positions(self):
        return int(self.n_positions.sum())

    @property
    def mean_positions(self):
        return float(np.average(self.n_positions, weights=self.sample_weight))

    @property
    def shares(self):
        shares = self.weights(slice(None)) * self.n_positions
        return shares / shares.sum()

    def groups(self):
        """Rows of the images of each size, and their geometry."""
        return self._grouped(np.arange(len(self)))

    def _grouped(self, image_rows):
        """Some rows, those of each size together, and the geometry of that size."""
        groups = self._groups[image_rows]
        ordered = image_rows[np.argsort(groups, kind="stable")]
        found, counts = np.unique(groups, return_counts=True)
        parts = np.split(ordered, counts.cumsum()[:-1])
        return [(part, self.geometries[group]) for group, part in zip(found, parts, strict=True)]

    def images(self, image_rows):
        """Images of one size as `Images`."""
        parts = [self.X[row] for row in image_rows]
        geometry = self.geometries[self._groups[image_rows[0]]]
        masked = any(map(np.ma.isMaskedArray, parts))
        stacked = (np.ma if masked else np).stack(
            [part.reshape(geometry.image_shape) for part in parts]
        )
        weights = None if self.sample_weight is None else self.sample_weight[image_rows]
        return Images(
            stacked, geometry, weights, self.placement, np.asarray(image_rows), self.missing
        )

    def patches(self, image_rows, positions):
        patches = np.empty((len(image_rows), self.geometry.patch_length), self.dtype)
        for rows, geometry in self._grouped(np.unique(image_rows)):
            step = max(1, READ_VALUES // math.prod(geometry.padded_shape))
            for part in slices(len(rows), step):
                needed = rows[part]
                starts, stops = (np.searchsorted(image_rows, needed, side) for side in SIDES)
                chosen = np.concatenate([*map(np.arange, starts, stops)])
                within = np.repeat(np.arange(len(needed)), stops - starts)
                patches[chosen] = self.images(needed).patches(within, positions[chosen])
        return patches


def largest(image_shapes):
    """The shape of an image with the largest height and width of all."""
    return tuple(int(side) for side in np.max(image_shapes, axis=0))


def resized(geometry, image_shape):
    """The same patches in images of another shape."""
    return geometry._replace(image_shape=tuple(int(side) for side in image_shape))
