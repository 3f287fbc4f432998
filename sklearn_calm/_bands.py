"""Features and log-likelihoods of large images, band by band of rows of their maps.

What bands give is put together as they come, so that no array of the size of an image is made,
other than those that are asked for.
"""

from functools import partial

import numpy as np

from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._batches import map_parts
from sklearn_calm._convolution.pooling import pool_symmetry
from sklearn_calm._convolution.windows import LOG_ZERO
from sklearn_calm._images.reader import Images
from sklearn_calm._images.tiles import Tile, read_tile
from sklearn_calm._mixture.em import (
    background,
    cell_energies,
    cell_log_likelihoods,
    log_normalizers,
)
from sklearn_calm._mixture.features import feature_layer, patches_features
from sklearn_calm._mixture.model import energies
from sklearn_calm._mixture.starting import patch_model

# Images whose stripes or scores take more than this are worked on band by band; and a band.
LARGE_BYTES = 2**28
BAND_BYTES = 2**24


def is_large(features, images):
    """Whether images are so large that bands are worth it, and their rows can be read apart."""
    if images.missing is not None or not isinstance(images, Images):
        return False
    geometry = images.geometry
    if images.X.shape[1:3] != geometry.image_shape[:2]:
        return False
    return geometry.n_positions * _position_bytes(features, images) > LARGE_BYTES


def _position_bytes(features, images):
    held = (
        features.conv_bias_.shape[0] + images.geometry.stripe_length // images.geometry.n_positions
    )
    return held * images.dtype.itemsize


def _bands(features, images, geometry):
    """Bands of all rows of the maps of all images."""
    n_rows, n_columns = geometry.map_shape
    most_rows = max(1, BAND_BYTES // (n_columns * _position_bytes(features, images)))
    whole = (Tile(i, slice(0, n_rows), slice(0, n_columns)) for i in range(len(images)))
    return [band for tile in whole for band in tile.bands(most_rows)]


def _worked(step, bands, features, images):
    """What step(band) gives for each of the bands, where it comes from."""
    step = partial(step, features=features, images=images, scratch=Scratch())
    return map_parts(features, images, step, bands, "band")


def _read(band, images, geometry):
    return read_tile(images.X, band, geometry, images.placement)


def features_by_band(features, images, model, pooler, order):
    """Features of large images, as `_mixture.features.batch_features` gives them, where X is.

    Parameters
    ----------
    features : ConvGMMFeatures
    images : Images
    model : PatchModel
        Of the images.
    pooler : Pooler or None
        None gives the maps.
    order : int
        Number of tied kernels that become one map.
    """
    home, n_kernels = images.home, features.conv_bias_.shape[0]
    shape = (*model.geometry.map_shape, n_kernels // order)
    if pooler is not None:
        shape = (pooler.n_features_of_kernels(n_kernels),)
    results = home.empty((len(images), *shape), getattr(home.xp, home.dtype.name))
    if pooler is not None:
        results[...] = pooler.pooling.of_nothing
    step = partial(_band_features, model=model, pooler=pooler, order=order)
    for band, block in _worked(step, _bands(features, images, model.geometry), features, images):
        found = home.asarray(block)[0, ...]
        if pooler is None:
            results[band.image, band.rows, ...] = found
        else:
            merge = getattr(home.xp, pooler.pooling.merge)
            results[band.image, ...] = merge(results[band.image, ...], found)
    return results if pooler is None else pool_symmetry(results, pooler, n_kernels)


def _band_features(band, features, images, scratch, model, pooler, order):
    """What one band adds to the features of its image; or its rows of the map."""
    if pooler is not None:
        pooler = pooler.part(band.rows, band.columns)
    # Features of bands share nothing over cells of several positions.
    part = patch_model(band.geometry(model.geometry), "patch", model.preprocessing)
    layer = feature_layer(features._layer, part, pooler, images.placement, scratch)
    patches = layer.view(_read(band, images, model.geometry))
    return patches_features(patches, layer, pooler, order=order)


def scores_by_band(features, images, model, *, summed):
    """Log-likelihood of each cell of large images, or the sum of those of each image.

    Parameters
    ----------
    features : ConvGMMFeatures
    images : Images
    model : PatchModel
        Of the images.
    summed : bool

    Returns
    -------
    log_likelihood : array of shape (n, cell rows, cell columns), or (n,)
        float64, where X is.
    """
    home = images.home._replace(dtype=np.dtype(np.float64))
    if model.cells.largest > 1:
        shares = _cells_by_band(features, images, model)
        return home.asarray(shares.sum(axis=(1, 2)) if summed else shares)
    shape = (len(images),) if summed else (len(images), *model.geometry.map_shape)
    results, step = home.empty(shape, home.xp.float64), partial(_band_scores, model=model)
    if summed:
        results[...] = 0
    for band, block in _worked(step, _bands(features, images, model.geometry), features, images):
        if summed:
            results[band.image] += float(to_numpy(block).sum())
        else:
            results[band.image, band.rows, :] = home.asarray(block)[0, ...]
    return results


def _band_scores(band, features, images, scratch, model):
    """Log-likelihood of each position of a band, where every position is a cell."""
    part = patch_model(band.geometry(model.geometry), "patch", model.preprocessing)
    layer = features._layer.prepared(part, images.placement, scratch)
    batch = _read(band, images, model.geometry)
    return cell_log_likelihoods(batch, layer, features.noise_variance_)


def _cells_by_band(features, images, model):
    """Log-likelihood of each cell: NumPy, float64. Cells may lie in several bands (eq. 9)."""
    shape = (len(images), *model.cells.sizes.shape)
    gains, energy = np.full(shape, LOG_ZERO), np.zeros(shape)
    step = partial(_band_cells, model=model)
    for band, (log_sums, squares) in _worked(
        step, _bands(features, images, model.geometry), features, images
    ):
        rows, _ = model.cells.part(band.rows)
        gains[band.image, rows] = np.logaddexp(gains[band.image, rows], log_sums)
        energy[band.image, rows] += squares
    n_values = model.geometry.patch_length * model.cells.sizes
    if model.counts_pixels:
        energy, n_values = _pixel_energies(features, images, model), model.n_values
    noise = background(energy, n_values, float(features.noise_variance_))
    return gains + model.cells.log_uneven + noise


def _band_cells(band, features, images, scratch, model):
    """Logarithms of the sums over cells, of what they have in a band, and their energies."""
    _, cells = model.cells.part(band.rows)
    part = model._replace(geometry=band.geometry(model.geometry), cells=cells)
    layer = features._layer.prepared(part, images.placement, scratch)
    batch = _read(band, images, model.geometry)
    log_sums = to_numpy(log_normalizers(batch, layer))[:, 0, :] - cells.log_uneven
    if model.counts_pixels:
        return log_sums, 0.0
    return log_sums, to_numpy(cell_energies(batch, part))[:, 0, :]


def _pixel_energies(features, images, model):
    """Energy of each image of which every pixel counts once: (n, 1, 1)."""
    pixels = model.geometry._replace(patch_size=(1, 1), stride=(1, 1), dilation=(1, 1))
    found = np.zeros((len(images), 1, 1))

    def step(band, **_):
        return energies(_read(band, images, pixels), model)

    for band, energy in _worked(step, _bands(features, images, pixels), features, images):
        found[band.image] += energy
    return found
