"""Features of pixels: the scores around each chosen pixel, pooled by smooth windows."""

import importlib
import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sklearn_calm._arrays.namespace import (
    array_namespace,
    empty,
    is_dask,
    library_of,
    take,
    to_numpy,
    write_rows,
)
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._batches import images_of, in_layer_precision, map_parts, worker_of
from sklearn_calm._convolution.pooling import POOLINGS
from sklearn_calm._convolution.smoothing import radius, smoothed, smoothed_used
from sklearn_calm._images.blocks import check_known_shape
from sklearn_calm._images.chunks import overlapped
from sklearn_calm._images.reader import home_of, working_dtype
from sklearn_calm._images.tiles import Tile, read_tile
from sklearn_calm._inference import thresholds_of, tied_order
from sklearn_calm._mixture.features import averaged_maps, tied_averages
from sklearn_calm._mixture.starting import patch_model
from sklearn_calm._sklearn import validate_parameters
from sklearn_calm._validation import check_array, check_polarity, check_pool_contrast

# Memory for the scores of one tile, and the least side of a tile without its halo.
TILE_BYTES = 2**25
LEAST_TILE = 64
# Widest windows, in pixels. No image is as large.
WIDEST = 1e9


class PixelFeaturesMixin:
    """A method that describes pixels rather than images."""

    def transform_pixels(
        self, X: Any, pixels: Any = None, *, widths: float | ArrayLike = (1.0, 2.0, 4.0)
    ) -> Any:
        """Features of pixels, for a classifier of pixels: the scores around them.

        Each feature is what `pooling` averages, of one component, averaged over a Gaussian window
        about the pixel. Only tiles that hold chosen pixels are read and computed. So a few pixels
        of a large photograph need little time and memory.

        It needs ``stride=1`` and maps of the size of the image, so that each position is a pixel:
        ``padding="same"``, or "auto" with an odd patch size. It needs ``pooling`` "triangle",
        "tempered", "proportion", or "mean" with ``assignment="patch"``.

        Parameters
        ----------
        X : array-like of shape (n, height, width[, n_channels])
            Images of any height and width, with as many channels as were fitted. A memory map is
            read tile by tile.
        pixels : array-like or None, default=None
            The chosen pixels: a mask of bool, of shape (n, height, width), or (height, width) for
            one image; or integers of shape (n_pixels, 3), the image, row and column of each. None
            chooses all.
        widths : float or array-like of float, default=(1.0, 2.0, 4.0)
            Standard deviations of the windows, in pixels. A window ends four standard deviations
            from its pixel, and at the border of the image. 0 is the pixel's own value.

        Returns
        -------
        features : array of shape (n_pixels, n_widths * n_components)
            In the order of the pixels; those of a mask, and all, by image, row and column. The
            first width has the first columns, one for each component; twice as many with
            ``polarity="both"``, the positive ones first, and as many for each threshold of
            "proportion", the lowest first. Tied kernels are pooled pixel by pixel,
            unless ``pool_symmetry=None`` keeps them. The dtype, library and device are those
            of `transform`. Of a Dask array, chosen pixels give a NumPy array, and all pixels a lazy
            array of shape (n, height, width, n_widths * n_components). With
            ``missing_values="ignore"``, patches of which too much is missing do not count, and
            a pixel without others in its window has NaN.

        Raises
        ------
        ValueError
            If positions are no pixels, if the pooling has no such windows, or if the images, the
            pixels or the widths are not as described.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_calm import ConvGMMFeatures
        >>> X = np.random.default_rng(0).random((50, 16, 16))
        >>> features = ConvGMMFeatures(8, padding="same", random_state=0).fit(X)
        >>> photograph = np.random.default_rng(1).random((1, 100, 120))
        >>> features.transform_pixels(photograph, [[0, 50, 60], [0, 99, 0]], widths=[1, 3]).shape
        (2, 16)
        """
        check_is_fitted(self)
        validate_parameters(self)
        _check_positions(self)
        widths = _check_widths(widths)
        X = check_array(X, self, reset=False, method="transform_pixels")
        X = _check_images(X, self)
        if is_dask(X) and pixels is None:
            return _lazy_features(self, X, widths)
        pixels = _check_pixels(pixels, X.shape[:3])
        return (_block_features if is_dask(X) else _features)(self, X, pixels, widths)


def _check_positions(features):
    """Whether each position is a pixel, and the pooling is a mean over positions one by one."""
    geometry, pooling = features._model.geometry, POOLINGS.get(features.pooling)
    same = tuple(((side - 1) // 2, side // 2) for side in geometry.reach)
    if geometry.stride != (1, 1) or geometry.padding != same:
        raise ValueError(
            "transform_pixels needs each position to be a pixel: fitted were "
            f"stride={features.stride!r} and padding={features.padding!r}. Fit with stride=1 and "
            'padding="same".'
        )
    check_polarity(features)
    check_pool_contrast(features)
    check_pool_contrast(features, fitted=True)
    if pooling is None or not pooling.is_mean:
        raise ValueError(
            f"pooling={features.pooling!r} is no mean over positions, which transform_pixels "
            'weighs by smooth windows. Set pooling="triangle", "tempered", "proportion" or "mean".'
        )
    if pooling.shares == "cell" and not features._model.cells.of_positions:
        raise ValueError(
            f'pooling="mean" with assignment={features.assignment!r}: responsibilities are shared '
            "among the positions of a cell, and pixels of other images have no such cells. Set "
            'pooling="triangle" or "tempered", or fit with assignment="patch".'
        )


def _check_widths(widths):
    """Widths as a list of floats."""
    try:
        found = np.atleast_1d(np.asarray(widths, dtype=float))
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.ndim != 1 or not len(found) or not ((found >= 0) & (found <= WIDEST)).all():
        raise ValueError(
            f"widths={widths!r}: expected standard deviations in pixels, a number from 0 to "
            f"{WIDEST:.0e} or a list of them."
        )
    return found.tolist()


def _check_images(X, features):
    """X as images (n, height, width, channels), with as many channels as were fitted."""
    if isinstance(X, list):
        raise ValueError(
            "X holds images of several sizes; transform_pixels expects images of one size. Call it "
            "for each image alone, as X[i][np.newaxis]."
        )
    n_channels = features.image_shape_[2]
    if is_dask(X):
        check_known_shape(X)
    if X.ndim not in (3, 4) or (*X.shape, 1)[3] != n_channels or 0 in X.shape:
        raise ValueError(
            f"Got X of shape {tuple(X.shape)}; transform_pixels expects images of shape (n, "
            f"height, width{', n_channels' if n_channels > 1 else ''}), with n_channels="
            f"{n_channels} as fitted. One image alone is X[np.newaxis]; flat rows are to be "
            "reshaped."
        )
    return X[..., None] if is_dask(X) and X.ndim == 3 else X


def _check_pixels(pixels, shape):
    """The image, row and column of each chosen pixel: (m, 3)."""
    if pixels is None:
        return np.indices(shape).reshape(3, -1).T
    pixels = np.asarray(pixels) if library_of(pixels) == "numpy" else to_numpy(pixels)
    if not pixels.size and pixels.ndim < 3 and pixels.dtype != bool:
        return np.empty((0, 3), int)
    if pixels.dtype == bool:
        if pixels.shape != shape and (1, *pixels.shape) != shape:
            raise ValueError(
                f"pixels is a mask of shape {pixels.shape}; expected that of the images, {shape}."
            )
        return np.argwhere(pixels.reshape(shape))
    if pixels.dtype.kind not in "iu" or pixels.shape[1:] != (3,):
        raise ValueError(
            f"pixels has dtype {pixels.dtype} and shape {pixels.shape}; expected a mask of bool of "
            f"shape {shape}, or integers of shape (n_pixels, 3): image, row and column of each."
        )
    outside = ((pixels < 0) | (pixels >= shape)).any(axis=1)
    if outside.any():
        raise ValueError(
            f"pixels[{outside.argmax()}] = {pixels[outside.argmax()].tolist()} lies outside of the "
            f"images, which are of shape {shape}; expected image, row and column, counted from 0."
        )
    return pixels.astype(int)


def _features(features, X, pixels, widths):
    """Features of the pixels (m, 3) of images that are no Dask array."""
    fitted, home = features._model.geometry, home_of(X)
    geometry = fitted._replace(image_shape=(*X.shape[1:3], fitted.image_shape[2]))
    images = in_layer_precision(features, images_of(features, X, geometry))
    n_channels = _n_channels(features)
    halo = _halo(features, widths)
    tiles = _tiles(pixels, _tile_side(halo, n_channels * images.dtype.itemsize))
    step = partial(
        _tile_features,
        features=features,
        images=images,
        pixels=pixels,
        widths=widths,
        thresholds=thresholds_of(features),
        scratch=Scratch(),
    )
    dtype = getattr(home.xp, home.dtype.name)
    results = home.empty((len(pixels), len(widths) * n_channels), dtype)
    for chosen, block in map_parts(features, images, step, tiles, "tile"):
        write_rows(results, chosen, home.asarray(block))
    return results


def _n_channels(features):
    """Number of features of one pixel and width."""
    n_kernels = features.conv_bias_.shape[0] // tied_order(features)
    both = features.polarity == "both"
    return n_kernels * POOLINGS[features.pooling].n_parts(features.n_thresholds, both=both)


def _halo(features, widths):
    """How far from a pixel the positions lie that a tile needs for its features."""
    # Missing values are filled in from pixels that lie within the reach of a patch (eq. 42).
    fills = features.missing_values == "ignore" and features.whiten
    return radius(max(widths)) + (max(features._model.geometry.reach) - 1 if fills else 0)


def _tile_side(halo, position_bytes):
    """Side of a tile without its halo, so that its scores fit the memory for them."""
    return max(math.isqrt(TILE_BYTES // position_bytes) - 2 * halo, halo, LEAST_TILE)


def _tiles(pixels, side):
    """Numbers of the pixels of each tile that holds any, tile by tile."""
    if not len(pixels):
        return []
    tiles = np.column_stack([pixels[:, 0], pixels[:, 1:] // side])
    order = np.lexsort(tiles.T[::-1])
    new = (np.diff(tiles[order], axis=0) != 0).any(axis=1)
    return np.split(order, np.flatnonzero(new) + 1)


def _tile_features(chosen, features, images, pixels, widths, thresholds, scratch):
    """Features of some of the pixels, all of one tile: (m, n_widths * channels)."""
    geometry, missing, known = images.geometry, images.missing, features._model.preprocessing
    tile = Tile.around(pixels[chosen], _halo(features, widths), geometry)
    batch = read_tile(images.X, tile, geometry, images.placement, missing=missing)
    model = patch_model(tile.geometry(geometry), "patch", known, missing=missing)
    pooling, both = POOLINGS[features.pooling], features.polarity == "both"
    layer = pooling.fold(features._layer).prepared(model, images.placement, scratch)
    patches = layer.view(batch)
    used = None if patches.used is None else patches.used[:, 0, :]
    maps = averaged_maps(
        patches, layer, pooling, both=both, thresholds=thresholds, contrast=features.pool_contrast
    )[:, 0, :, :]
    maps = tied_averages(maps, pooling, tied_order(features))
    rows, row_of = np.unique(pixels[chosen, 1] - tile.rows.start, return_inverse=True)
    columns, column_of = np.unique(pixels[chosen, 2] - tile.columns.start, return_inverse=True)
    xp, places = array_namespace(maps), row_of * len(columns) + column_of
    dense = len(places) == len(rows) * len(columns) and (np.diff(places) == 1).all()
    n_channels = maps.shape[2]
    found = empty((len(places), len(widths) * n_channels), maps)
    for i, width in enumerate(widths):
        if used is None:
            means = smoothed(maps, rows, columns, width)
        else:
            means = smoothed_used(maps, used, rows, columns, width)
        means = xp.reshape(means, (-1, n_channels))
        found[:, i * n_channels : (i + 1) * n_channels] = means if dense else take(means, places)
    return found


def _block_features(features, X, pixels, widths):
    """Features of the pixels (m, 3) of a Dask array (n, height, width, channels): NumPy.

    Of the chunks only those are computed that hold chosen pixels, or are within their reach.
    """
    dask, depth = importlib.import_module("dask"), _depth(features, widths)
    around = np.array([0, depth, depth])
    edges = [np.cumsum((0, *lengths)) for lengths in X.chunks[:3]]
    places = zip(edges, pixels.T, strict=True)
    chunks = np.column_stack([np.searchsorted(edge, at, "right") for edge, at in places])
    groups = _tiles(chunks, 1)
    method = dask.delayed(worker_of(features).transform_pixels, pure=False, traverse=False)
    tasks = []
    for chosen in groups:
        first = np.maximum(pixels[chosen].min(axis=0) - around, 0)
        last = pixels[chosen].max(axis=0) + around
        parts = tuple(map(slice, first.tolist(), (last + 1).tolist()))
        blocks = X[parts].rechunk(-1).to_delayed().ravel()
        tasks.append(method(blocks[0], pixels[chosen] - first, widths=widths))
    dtype = working_dtype(X.dtype)
    results = np.empty((len(pixels), len(widths) * _n_channels(features)), dtype)
    for chosen, block in zip(groups, dask.compute(*tasks), strict=True):
        results[chosen] = to_numpy(block)
    return results


def _lazy_features(features, X, widths):
    """Features of all pixels of a Dask array, lazily: (n, height, width, n_widths * channels)."""
    depth = _depth(features, widths)
    X, blocks = overlapped(X, (depth, depth))
    step = partial(_inner_features, worker=worker_of(features), n_blocks=X.numblocks, widths=widths)
    n_columns, dtype = len(widths) * _n_channels(features), working_dtype(X.dtype)
    return blocks.map_blocks(
        partial(step, depth=depth),
        dtype=dtype,
        chunks=(*X.chunks[:3], (n_columns,)),
        meta=np.empty((0, 0, 0, 0), dtype),
    )


def _inner_features(block, worker, n_blocks, widths, depth, block_id=None):
    """Features of the pixels of a block, without those that it shares with its neighbours."""
    inner = np.zeros(block.shape[:3], dtype=bool)
    sides = zip(block_id[1:3], n_blocks[1:3], block.shape[1:3], strict=True)
    inside = [slice(depth if i else 0, side - (depth if i + 1 < n else 0)) for i, n, side in sides]
    inner[:, *inside] = True
    shape = inner[:, *inside].shape
    found = to_numpy(worker.transform_pixels(block, inner, widths=widths))
    return found.reshape(*shape, -1)


def _depth(features, widths):
    """How far the pixels lie that the features of a pixel see."""
    return _halo(features, widths) + max(features._model.geometry.reach)
