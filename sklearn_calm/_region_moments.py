"""RegionMoments: how bright each region of an image is, and how much it varies."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_calm._arrays.namespace import array_namespace, is_dask
from sklearn_calm._batches import set_image_shape
from sklearn_calm._convolution.geometry import PatchGeometry, even_edges, slices
from sklearn_calm._convolution.moments import centre_of, region_moments, region_sums
from sklearn_calm._convolution.observed import Missing
from sklearn_calm._convolution.windows import Windows
from sklearn_calm._images.blocks import BlockImages, check_known_shape, map_images, whole_images
from sklearn_calm._images.reader import Images
from sklearn_calm._images.shapes import resolve_image_shape, resolve_shapes
from sklearn_calm._images.sizes import SizedImages, largest
from sklearn_calm._parameters import PARAMETER_CONSTRAINTS
from sklearn_calm._sklearn import (
    DocumentationLinkMixin,
    check_input_features,
    check_same_namespace,
    checked_fit,
    validate_parameters,
)
from sklearn_calm._state import kept_on_error
from sklearn_calm._validation import (
    ImageTagsMixin,
    check_array,
    check_container,
    check_grid,
    check_shape,
)

# Images of more bytes than this are read band by band of their rows.
BAND_BYTES = 2**24
# Values that are held for each value of a batch.
VALUES_HELD = 8


class RegionMoments(DocumentationLinkMixin, ImageTagsMixin, TransformerMixin, BaseEstimator):
    """Mean and standard deviation of the pixels of each region, for each channel.

    Contrast normalisation takes the mean and the standard deviation of a patch away, so the
    features of :class:`ConvGMMFeatures` hardly say how bright or how colourful an image is. Where
    this matters, join both with a :class:`~sklearn.pipeline.FeatureUnion`. The regions and their
    windows are those that pool the features of the layer, over the pixels of the image. Nothing is
    learned.

    Parameters
    ----------
    image_shape : "auto", (height, width) or (height, width, n_channels), default="auto"
        Shape of one image, as in :class:`ConvGMMFeatures`. None as height or width allows any.

    pool_grid : int or tuple (rows, columns), default=4
        Grid of regions. An int is square, and clipped to the image; a pair must fit the image.

    pool_window : {"auto", "box", "gaussian"}, default="auto"
        Weights of the pixels of a region. "box" counts the pixels inside the region. "gaussian",
        which "auto" stands for, weighs all pixels by a Gaussian about the middle of the region.

    pool_width : float, default=0.6
        Standard deviation of a Gaussian window, in units of the height of a region vertically and
        of its width horizontally.

    missing_values : {"error", "ignore"}, default="error"
        Whether values may be missing: NaN, and masked values of masked arrays. "ignore" takes the
        moments of what is there; a region of which nothing is there has NaN.

    Attributes
    ----------
    image_shape_ : tuple (height, width, n_channels)
        Shape of one image. A height or width that may be any is None.

    n_features_in_ : int
        Number of values in one image. Not defined if images may have any size.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X. Defined only if X has column names that are all strings.

    See Also
    --------
    ConvGMMFeatures : Says which shapes a region holds, whatever its brightness.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_calm import RegionMoments
    >>> X = np.random.default_rng(0).random((50, 8, 8, 3))
    >>> moments = RegionMoments(pool_grid=1, pool_window="box").fit(X)
    >>> moments.transform(X).shape
    (50, 6)
    >>> np.allclose(moments.transform(X)[:, :3], X.mean(axis=(1, 2)))
    True
    """

    _parameter_constraints: ClassVar = {
        name: PARAMETER_CONSTRAINTS[name]
        for name in ("image_shape", "pool_grid", "pool_window", "pool_width", "missing_values")
    }

    def __init__(
        self,
        *,
        image_shape: Literal["auto"]
        | tuple[int | None, int | None]
        | tuple[int | None, int | None, int] = "auto",
        pool_grid: int | tuple[int, int] = 4,
        pool_window: Literal["auto", "box", "gaussian"] = "auto",
        pool_width: float = 0.6,
        missing_values: Literal["error", "ignore"] = "error",
    ) -> None:
        self.image_shape = image_shape
        self.pool_grid = pool_grid
        self.pool_window = pool_window
        self.pool_width = pool_width
        self.missing_values = missing_values

    @checked_fit
    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the shape of the images.

        Parameters
        ----------
        X : array-like of shape (n, height, width[, n_channels]) or (n, n_features)
            Images, or a list of images of several sizes, as :class:`ConvGMMFeatures` takes them.
        y : Ignored
            For the scikit-learn interface.

        Returns
        -------
        self : RegionMoments
            The fitted transformer.

        Raises
        ------
        ValueError
            If the images and the parameters do not fit together, or a value is missing in the first
            few images.
        """
        with kept_on_error(self):
            images = self._check_images(X, reset=True)
            for geometry in images.geometries if images.several_sizes else [images.geometry]:
                self._windows(geometry.image_shape)
            if not isinstance(images, BlockImages):
                # What is wrong with all images is told now; of the others, `transform` tells.
                _, first, rows = next(_batches(images))
                next(_bands(first, rows))
                self._fitted_on = images.home.asarray(np.empty(0))
        return self

    def transform(self, X: Any) -> Any:
        """Mean and standard deviation of each region and channel.

        Parameters
        ----------
        X : array-like of shape (n, height, width[, n_channels]) or (n, n_features)
            Images of the shape that was fitted. If that is any shape, also a list of images.

        Returns
        -------
        moments : array of shape (n, grid rows * grid columns * 2 * n_channels)
            Of each region the means of all channels first, then their standard deviations. float64
            for images of float64 and of integers of 32 bits or more, else float32; of the library
            and on the device of X.

        Raises
        ------
        ValueError
            If the images, or parameters that were changed since, do not fit together.
        """
        check_is_fitted(self)
        validate_parameters(self)
        check_container(self, X)
        images = self._check_images(X)
        if not isinstance(images, BlockImages):
            return _moments(images, self._windows)
        n_features = math.prod(self._features_shape())
        block_moments = partial(_block_moments, moments=self)
        return map_images(block_moments, images.X, (n_features,), images.home.dtype)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Names of the features: region, channel and moment.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only checked against `feature_names_in_`.

        Returns
        -------
        names : ndarray of str objects
            "regionmoments_row0_column1_channel2_mean", "..._deviation" and so on.
        """
        check_is_fitted(self)
        check_input_features(self, input_features)
        n_rows, n_columns, _, n_channels = self._features_shape()
        names = [
            f"{type(self).__name__.lower()}_row{row}_column{column}_channel{channel}_{moment}"
            for row in range(n_rows)
            for column in range(n_columns)
            for moment in ("mean", "deviation")
            for channel in range(n_channels)
        ]
        return np.asarray(names, dtype=object)

    def __getstate__(self):
        # Pickles load where the library of the images of the fit is not installed.
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_fitted_on"}

    def _check_images(self, X, *, reset=False):
        """Read X as images, whose positions are their pixels."""
        if is_dask(X):
            check_known_shape(X)
            X = whole_images(X)
        X = check_array(X, self, reset=reset)
        if not reset and not is_dask(X) and hasattr(self, "_fitted_on"):
            one = X[0] if isinstance(X, list) else X
            check_same_namespace(one, self, attribute="_fitted_on", method="transform")
        missing = None if self.missing_values == "error" else Missing(0.0, False)
        wanted = self.image_shape if reset else self.image_shape_
        if isinstance(X, list):
            shapes, common = resolve_shapes([image.shape for image in X], wanted)
            images = SizedImages(X, shapes, _pixels(largest(shapes)), missing=missing)
        else:
            if reset:
                shape, common = resolve_image_shape(X.shape, wanted)
            else:
                shape, common = check_shape(X.shape, wanted, type(self).__name__), wanted
            source = BlockImages if is_dask(X) else Images
            images = source(X, _pixels(shape), missing=missing)
        if reset:
            set_image_shape(self, common)
        return images.in_precision(np.float64)

    def _windows(self, image_shape):
        """Make the windows of images of one size."""
        sides = image_shape[:2]
        grid = check_grid("pool_grid", self.pool_grid, sides, self.image_shape_)
        window = "gaussian" if self.pool_window == "auto" else self.pool_window
        return Windows.from_grid(window, self.pool_width, grid, sides)

    def _features_shape(self):
        """Rows and columns of the grid, moments and channels."""
        asked = np.broadcast_to(self.pool_grid, 2).tolist()
        sides = zip(self.image_shape_, asked, strict=False)
        # A side of any length is as long as the grid asks for.
        sides = tuple(parts if side is None else side for side, parts in sides)
        grid = check_grid("pool_grid", self.pool_grid, sides, self.image_shape_)
        return (*grid, 2, self.image_shape_[2])


def _pixels(image_shape):
    """Make the geometry of patches of one pixel."""
    return PatchGeometry(image_shape, (1, 1), (1, 1))


def _block_moments(block, moments):
    """Moments of one block of a Dask array."""
    return _moments(moments._check_images(block), moments._windows)


def _moments(images, windows_of):
    """Moments of the regions of all images, in one array where X is: (n, features)."""
    results, home = None, images.home
    for rows, some, within in _batches(images):
        found = _batch_moments(some, within, windows_of(some.geometry.image_shape))
        found = home.asarray(array_namespace(found).reshape(found, (found.shape[0], -1)))
        if results is None:
            results = home.empty((len(images), found.shape[1]), found.dtype)
        results[rows, ...] = found
    return results


def _batches(images):
    """Give rows of each batch, images of one size that hold them, and their rows in these."""
    held = VALUES_HELD * images.geometry.image_shape[2]
    if not images.several_sizes:
        for rows in images.batches(images.batch_size(held)):
            yield rows, images, rows
        return
    for rows, _ in images.groups():
        step = images.images(rows[:1]).batch_size(held)
        for part in slices(len(rows), step):
            yield rows[part], images.images(rows[part]), slice(None)


def _batch_moments(images, image_rows, windows):
    """Moments of the regions of a few images: (n, grid rows, grid columns, 2, channels)."""
    sums = centre = None
    for rows, batch in _bands(images, image_rows):
        centre = centre_of(batch) if centre is None else centre
        band = windows._replace(log_rows=windows.log_rows[:, rows])
        found = region_sums(batch - centre, band.weights)
        sums = found if sums is None else sums + found
    return region_moments(sums, centre)


def _bands(images, image_rows):
    """Bands of rows of some images, and their pixels; only large images have several."""
    geometry, dtype = images.geometry, images.dtype
    height, width, n_channels = geometry.image_shape
    n_bands = min(-(-height * width * n_channels * dtype.itemsize // BAND_BYTES), height)
    if n_bands == 1 or images.X.shape[1:3] != (height, width):
        yield slice(None), images.read(image_rows)
        return
    numbers = np.arange(len(images))[image_rows]
    for top, bottom in pairwise(even_edges(height, n_bands)):
        band = geometry._replace(image_shape=(bottom - top, width, n_channels))
        X = images.X[image_rows, top:bottom, ...]
        part = Images(X, band, None, images.placement, numbers, images.missing)
        yield slice(top, bottom), part.read(slice(None))
