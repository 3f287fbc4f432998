"""Whether images and parameters fit together, and the sentence to say if not."""

import math
import numbers

import numpy as np
from sklearn.utils.validation import validate_data

from sklearn_calm._arrays.door import as_array, refuse_no_numbers, unmasked
from sklearn_calm._arrays.namespace import array_namespace, is_dask, library_of, to_numpy
from sklearn_calm._convolution.geometry import PatchGeometry, on_both_sides
from sklearn_calm._convolution.pooling import POOLINGS, Pooler
from sklearn_calm._convolution.symmetry import ORDERS, Symmetry
from sklearn_calm._convolution.windows import Windows
from sklearn_calm._images.shapes import check_n_axes, is_free, read_shape
from sklearn_calm._sklearn import check_same_namespace, check_sample_weight, output_config


def check_array(X, estimator, *, reset, method=None):
    """X as an array of numbers: of NumPy, or as it is if another library's.

    Images of several sizes stay a list, of arrays of NumPy.
    """
    given, X = X, as_array(X, masked=estimator.missing_values == "ignore")
    if reset:  # each image is then a value, and all of them have one name
        estimator._is_column_of_images = _is_column(given) and not _is_column(X)
    if isinstance(X, list):
        return _check_list(X, estimator, reset, method)
    mask = np.ma.getmaskarray(X) if np.ma.is_masked(X) else None
    if is_dask(X) or library_of(X) != "numpy":
        # scikit-learn takes arrays of other libraries only if it is told to.
        array_namespace(X)
        validate_data(estimator, X, reset=reset, skip_check_array=True, ensure_2d=False)
        check_n_images(X)
    else:
        X = validate_data(
            estimator,
            X,
            reset=reset,
            dtype="numeric",
            ensure_2d=False,
            allow_nd=True,
            ensure_all_finite=False,
        )
    if mask is not None:
        X = np.ma.array(X, mask=mask.reshape(X.shape), copy=False)
    if method is not None and not is_dask(X):
        check_same_namespace(X, estimator, attribute="means_", method=method)
    check_numbers(X)
    return X


def _is_column(X):
    shape = getattr(X, "shape", ())
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _check_list(X, estimator, reset, method):
    if reset:  # a list has no columns whose names could be those of an earlier fit
        vars(estimator).pop("feature_names_in_", None)
    if method is not None:
        check_same_namespace(X[0], estimator, attribute="means_", method=method)
    for i, image in enumerate(X):
        check_numbers(image, f"X[{i}]")
    return X


def check_container(features, X, *, are_maps=False):
    """Check that what `transform` gives fits the container that was asked for."""
    if output_config("transform", features)["dense"] == "default":
        return
    if are_maps or is_dask(X):
        what = "A lazy Dask array"
        if not is_dask(X):
            what = "Maps, which pooling=None and flatten=False give,"
        raise ValueError(
            f"{what} cannot be put into a data frame. Choose a pooling and flatten=True, "
            'compute the array, or set_output(transform="default").'
        )


def check_geometry(image_shape, estimator, common=None):
    """Geometry of the patches of images under the parameters of an estimator.

    Parameters
    ----------
    image_shape : tuple (height, width, n_channels)
    estimator : ConvGMMFeatures
    common : tuple (height, width, n_channels) or None
        With None for a side that is free: an int is not clipped to it.

    Raises
    ------
    ValueError
        If there are no such patches.
    """
    common = image_shape if common is None else common
    if is_free(common) and estimator.assignment != "patch":
        raise ValueError(
            f"assignment={estimator.assignment!r} needs images of one size; the images have the "
            f'shape {common}, where None stands for any length. Set assignment="patch", or resize '
            "the images."
        )
    geometry = _patch_geometry(image_shape, estimator, common)
    if estimator.normalize == "contrast" and geometry.patch_length < 2:
        if np.max(estimator.dilation) > 1:
            raise ValueError(
                f'normalize="contrast" needs patches of two values or more; images of '
                f"n_features={math.prod(image_shape)} give patches of one with "
                f"dilation={estimator.dilation!r}. Set a smaller dilation, or normalize=None."
            )
        raise ValueError(
            f'normalize="contrast" needs patches of two values or more; images of '
            f"n_features={math.prod(image_shape)} give patches of one. Set normalize=None."
        )
    if not isinstance(estimator.assignment, str):
        check_grid("assignment", estimator.assignment, geometry.map_shape, common)
    symmetry = check_symmetry(estimator.symmetry, geometry)
    find_pooler(estimator, geometry.map_shape, symmetry, common)
    return geometry


def check_n_positions(n_images, total_positions, n_components, subsample="auto"):
    """Whether there are as many patches as components, and as many are fitted."""
    if subsample != "auto" and subsample < n_components:
        raise ValueError(
            f"subsample={subsample} patches are too few for n_components={n_components}. Raise "
            "subsample, or lower n_components."
        )
    if total_positions < n_components:
        mean = total_positions / n_images
        raise ValueError(
            f"n_samples={n_images} image(s) of {mean:.4g} patch(es) each are too few "
            f"for n_components={n_components}. Give more images, lower n_components or "
            "make patch_size smaller."
        )


def _patch_geometry(image_shape, estimator, common):
    stride = _pair("stride", estimator.stride, 1)
    dilation = _pair("dilation", estimator.dilation, 1)
    patch_size, padding = estimator.patch_size, estimator.padding
    if isinstance(patch_size, numbers.Integral):
        fitting = [
            None if side is None else (side - 1) // gap + 1
            for side, gap in zip(common[:2], dilation, strict=True)
        ]
        patch_size = _clipped(patch_size, fitting)
    else:
        patch_size = _pair("patch_size", patch_size, 1)
    # One pixel has no gaps: a signal, for one, whatever its vertical dilation.
    dilation = tuple(
        1 if side == 1 else gap for side, gap in zip(patch_size, dilation, strict=True)
    )
    reach = tuple(gap * (side - 1) + 1 for side, gap in zip(patch_size, dilation, strict=True))
    mode = estimator.padding_mode
    if mode == "auto":
        mode = "reflect" if isinstance(padding, str) else "constant"
    if padding == "same":
        padding = tuple(((pixels - 1) // 2, pixels // 2) for pixels in reach)
    elif isinstance(padding, str):
        padding = on_both_sides(_half_patch(reach, common, estimator.assignment))
    elif isinstance(padding, numbers.Integral):
        # More would make patches of nothing but zeros: above and below a signal, for one.
        padding = on_both_sides(min(int(padding), pixels - 1) for pixels in reach)
    else:
        padding = on_both_sides(_pair("padding", padding, 0))
    geometry = PatchGeometry(image_shape, patch_size, stride, padding, mode, dilation)
    if not geometry.holds_patch:
        dilated = "" if dilation == (1, 1) else f" with dilation={dilation}, of {reach} pixels,"
        raise ValueError(
            f"patch_size={patch_size}{dilated} is larger than the padded image, "
            f"{geometry.padded_shape[:2]}. Make it smaller, or raise padding; an int is clipped to "
            "the image."
        )
    return geometry


def check_sizes(images, estimator, common, *, pooled):
    """Whether each of images of several sizes holds a patch, and each map the grid to pool over.

    Parameters
    ----------
    images : SizedImages
    estimator : ConvGMMFeatures
    common : tuple (height, width, n_channels)
        With None for a side that is free.
    pooled : bool
        Whether maps are to be pooled.
    """
    for i, geometry in sorted(zip(images.first_rows, images.geometries, strict=True)):
        try:
            check_size(geometry, estimator, common, pooled=pooled)
        except ValueError as error:
            raise ValueError(f"X[{i}] of shape {images.X[i].shape} is too small: {error}") from None


def check_size(geometry, estimator, common, *, pooled):
    """The same of images of one size, which may be another than that of the fit."""
    if not geometry.holds_patch:
        raise ValueError(
            f"padded to {geometry.padded_shape[:2]}, it holds no patch of {geometry.patch_size}. "
            "Leave such images out, or fit anew with a smaller patch_size or more padding."
        )
    if pooled:
        symmetry = check_symmetry(estimator.symmetry, geometry)
        find_pooler(estimator, geometry.map_shape, symmetry, common)


def _half_patch(reach, common, assignment):
    """The padding that "auto" stands for; none for a patch that is larger than the image."""
    sides = zip(reach, common, strict=False)
    fits = all(side is None or pixels <= side for pixels, side in sides)
    if assignment != "patch" or not fits:
        return (0, 0)
    return tuple((pixels - 1) // 2 for pixels in reach)


def check_numbers(X, name="X"):
    """Whether X holds real numbers: dates, for one, can be cast to floats too."""
    if is_dask(X) and not isinstance(X.dtype, np.dtype):
        name, zeros = str(X.dtype).rpartition(".")[2], ", ".join("0" * X.ndim)
        raise TypeError(
            f"X is a Dask array of dtype {X.dtype}; expected blocks of NumPy or CuPy. Pass "
            f'X.map_blocks(np.asarray, dtype="{name}", meta=np.empty(({zeros}), "{name}")).'
        )
    if library_of(X) == "numpy":
        real = X.dtype.kind in "biuf"
    else:
        real = array_namespace(X).isdtype(X.dtype, ("bool", "integral", "real floating"))
    if not real:
        raise ValueError(
            f"{name} has dtype {X.dtype}; expected integers or floats. Convert it with "
            f"{name}.astype(float)."
        )


def check_shape(shape, image_shape, name):
    """Shape of the images in an array of the given shape, which is that of the fit.

    Parameters
    ----------
    shape : tuple of int
    image_shape : tuple (height, width, n_channels)
        `image_shape_`, with None for a side that is free.
    name : str
        Of the estimator.
    """
    check_n_axes(shape)
    found = read_shape(shape[1:], image_shape) if 0 not in shape[1:] else None
    if found is not None:
        return found
    if is_free(image_shape):
        raise ValueError(
            f"X of shape {tuple(shape)} does not hold images of shape {image_shape}, which {name} "
            "is expecting as input; None stands for any length. One image alone is "
            "X[np.newaxis], and flat rows need image_shape=(height, width[, n_channels])."
        )
    n_features, expected = math.prod(shape[1:]), math.prod(image_shape)
    if n_features != expected:
        raise ValueError(
            f"X has {n_features} features, but {name} is expecting {expected} features as input: "
            f"images of shape {image_shape}. Got an array of shape {tuple(shape)}. Resize the "
            "images, or fit anew, with image_shape=(None, None, n_channels) for images of any "
            "size; one image alone is X[np.newaxis]."
        )
    raise ValueError(
        f"X of shape {tuple(shape)} does not hold images of shape {image_shape}, which {name} is "
        "expecting as input. Keep the layout that was fitted, or pass flat rows."
    )


def check_continued(features, geometry):
    """Whether the kernels that were learned are those that the parameters now ask for."""
    expected = (features.n_components, *geometry.kernel_shape)
    if features.means_.shape != expected:
        raise ValueError(
            f"The model to go on from has means_ of shape {features.means_.shape}; n_components, "
            f"patch_size and the images now ask for {expected}. Restore them, or start anew from a "
            "clone."
        )
    known = features._model.symmetry.names
    if check_symmetry(features.symmetry, geometry).names != known:
        raise ValueError(
            f"The model to go on from was fitted with symmetry={known or None}; now "
            f"symmetry={features.symmetry!r}. Restore it, or start anew from a clone."
        )


def check_symmetry(symmetry, geometry):
    """The symmetry of kernels that a name, or several names, stand for."""
    if symmetry is None:
        return Symmetry()
    names = (symmetry,) if isinstance(symmetry, str) else tuple(symmetry)
    known = all(isinstance(name, str) and name in ORDERS for name in names)
    if not names or not known or len(set(names)) < len(names):
        raise ValueError(
            f"symmetry={symmetry!r}: expected None, one of {', '.join(map(repr, ORDERS))}, or a "
            "tuple of them, each at most once."
        )
    height, width, _ = geometry.kernel_shape
    if "rotation" in names and (height != width or height == 1):
        raise ValueError(
            f"symmetry={symmetry!r} with patches of {height} x {width}: quarter turns need square "
            'patches of 2 x 2 or more. Change patch_size, or leave "rotation" out.'
        )
    if "mirror" in names and width == 1:
        raise ValueError(
            f"symmetry={symmetry!r} with patches of width 1, which are their own mirror images. "
            'Make patch_size larger, or leave "mirror" out.'
        )
    return Symmetry(tuple(name for name in ORDERS if name in names), geometry.kernel_shape)


def check_init(init_params, n_components, geometry):
    """A named start as it is; kernels as float64 of shape (K, D)."""
    if isinstance(init_params, str):
        return init_params
    expected = (n_components, *geometry.kernel_shape)
    init_params = unmasked(init_params, "init_params", kind="kernel")
    try:
        init = to_numpy(init_params)
        init = init.astype(np.float64, casting="same_kind" if init.dtype.kind == "c" else "unsafe")
    except (TypeError, ValueError) as error:
        raise ValueError(
            "init_params is not an array of real numbers; expected (n_components, height, width, "
            f"n_channels) = {expected}."
        ) from error
    grey = expected[:3] if expected[3] == 1 else expected
    if init.shape not in (expected, grey):
        raise ValueError(
            f"init_params has shape {init.shape}, expected (n_components, height, width, "
            f"n_channels) = {expected}. Change n_components and patch_size, or the kernels."
        )
    if not np.isfinite(init).all():
        raise ValueError("init_params contains NaN or infinity; expected finite kernels.")
    return init.reshape(n_components, -1)


def check_n_images(X):
    """Whether there are images; what scikit-learn's own check says of NumPy's."""
    check_n_axes(X.shape)
    if not X.shape[0]:
        raise ValueError(
            f"Found array with 0 sample(s) (shape={tuple(X.shape)}) while a minimum of 1 is "
            "required."
        )


def check_weights(sample_weight, n_images):
    """Weights of images: float64, not negative, not all zero."""
    if is_dask(sample_weight):
        sample_weight = sample_weight.compute()
    refuse_no_numbers(sample_weight, "sample_weight")
    sample_weight = unmasked(sample_weight, "sample_weight")
    if library_of(sample_weight) != "numpy":
        sample_weight = to_numpy(sample_weight)
    images = np.broadcast_to(0.0, (n_images, 1))
    weights = check_sample_weight(sample_weight, images, dtype=np.float64, ensure_non_negative=True)
    if not weights.sum() > 0:
        raise ValueError("sample_weight sums to 0; expected at least one positive weight.")
    return weights


def _pair(name, value, least):
    """An int twice, or a pair of ints of at least `least`."""
    pair = (value, value) if isinstance(value, numbers.Integral) else tuple(value)
    if len(pair) != 2 or any(not isinstance(v, numbers.Integral) or v < least for v in pair):
        raise ValueError(
            f"{name}={value!r}: expected an int or a pair (vertical, horizontal) of ints "
            f">= {least}."
        )
    return tuple(int(v) for v in pair)


def _clipped(value, sides):
    """An int twice, clipped to the sides that are not free, which None stands for."""
    return tuple(int(value) if side is None else min(int(value), side) for side in sides[:2])


def check_grid(name, grid, map_shape, common=None):
    """The pair that a grid over the map stands for: an int is clipped to the map.

    Where a side of the images is free, it is not: features of all sizes are of the same regions.
    """
    if isinstance(grid, numbers.Integral):
        common = map_shape if common is None else common
        fixed = zip(map_shape, common, strict=False)
        grid = _clipped(grid, [None if side is None else length for length, side in fixed])
    grid = _pair(name, grid, 1)
    if any(parts > side for parts, side in zip(grid, map_shape, strict=True)):
        parts = "regions" if name == "pool_grid" else "cells"
        raise ValueError(
            f"{name}={grid} has more {parts} than the map of positions, {map_shape}. Choose a "
            "coarser grid, a smaller patch_size or stride, or more padding."
        )
    return grid


def find_pooler(estimator, map_shape, symmetry, common=None):
    """What an estimator pools maps by; None where the maps are its features.

    Parameters
    ----------
    estimator : ConvGMMFeatures
    map_shape : tuple (rows, columns)
    symmetry : Symmetry
        Of the kernels.
    common : tuple (height, width, n_channels) or None
        Shape of the images, with None for a side that is free; None of it is free by default.
    """
    pooling, window = POOLINGS.get(estimator.pooling), estimator.pool_window
    check_polarity(estimator)
    check_pool_contrast(estimator)
    if pooling is None:
        return None
    window = pooling.auto_window if window == "auto" else window
    if window != "box" and not pooling.weighted:
        raise ValueError(
            f'pooling="{estimator.pooling}" with pool_window="{window}": positions cannot count in '
            'part there. Set pool_window="auto" or "box", or choose another pooling.'
        )
    grid = check_grid("pool_grid", estimator.pool_grid, map_shape, common)
    windows = Windows.from_grid(window, estimator.pool_width, grid, map_shape)
    if "rotation" in symmetry.names and estimator.pool_symmetry == "image" and len(set(grid)) > 1:
        raise ValueError(
            f'pool_symmetry="image" with a grid of {grid[0]} x {grid[1]} regions, which quarter '
            'turns do not keep. Make pool_grid square, or set pool_symmetry="region".'
        )
    symmetry = symmetry._replace(shape=(*grid, 1))
    both, over = estimator.polarity == "both", estimator.pool_symmetry
    parts = {"n_thresholds": estimator.n_thresholds, "contrast": estimator.pool_contrast}
    return Pooler(pooling, windows, both, symmetry, over, **parts)


def check_polarity(estimator):
    """Raise an error if scores have no two polarities."""
    pooling = POOLINGS.get(estimator.pooling)
    if estimator.polarity == "both" and not (pooling and pooling.rectified):
        raise ValueError(
            f'polarity="both" with pooling={estimator.pooling!r}: only what is cut off at zero has '
            'two polarities. Set polarity="positive", or pooling="triangle".'
        )


def check_pool_contrast(estimator, *, fitted=False):
    """Raise an error if scores cannot be multiplied by the contrast of patches.

    A fitted model needs patches that were normalised when it was fitted.
    """
    if estimator.pool_contrast == 0:
        return
    pooling = POOLINGS.get(estimator.pooling)
    if not (pooling and pooling.rectified):
        raise ValueError(
            f"pool_contrast={estimator.pool_contrast!r} with pooling={estimator.pooling!r}: only "
            "scores that are cut off at zero can be multiplied by a contrast. Set pool_contrast=0, "
            'or pooling="triangle".'
        )
    if (estimator.contrast_floor_ if fitted else estimator.normalize) is None:
        raise ValueError(
            f"pool_contrast={estimator.pool_contrast!r} with normalize=None: scores of patches "
            "that are not normalised hold the contrast already. Set pool_contrast=0, or fit with "
            'normalize="contrast".'
        )


def grid_or_name(assignment):
    """A named assignment as it is, a grid as a tuple."""
    return assignment if isinstance(assignment, str) else tuple(assignment)


class ImageTagsMixin:
    """Tells scikit-learn what transformers of images take and give."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.three_d_array = True
        tags.array_api_support = True
        tags.input_tags.allow_nan = self.missing_values == "ignore"
        return tags
