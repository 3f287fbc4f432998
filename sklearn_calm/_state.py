"""The fitted attributes of an estimator, and their plain values for pickles and skops.

Plain values are NumPy arrays, numbers and dicts. A file of them needs no class of this package but
the estimator, loads on a machine without a GPU, and tells which version wrote it.
"""

import contextlib
import copy
import math
import warnings
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import InconsistentVersionWarning

from sklearn_calm._arrays.namespace import FOLLOWED, library_of, to_numpy
from sklearn_calm._convolution.geometry import PatchGeometry, on_both_sides
from sklearn_calm._convolution.symmetry import Symmetry
from sklearn_calm._mixture.cells import Cells
from sklearn_calm._mixture.em import SufficientStatistics, per_image
from sklearn_calm._mixture.model import ConvLayer, MixtureParameters, PatchModel, conv_layer
from sklearn_calm._mixture.preprocessing import Preprocessing
from sklearn_calm._sklearn import without_run

VERSION = "_sklearn_calm_version"
OURS = (Cells, ConvLayer, PatchGeometry, PatchModel, Preprocessing, SufficientStatistics, Symmetry)


def layer_attributes(parameters, model, home):
    """Attributes that describe the layer, in the library, device and precision of the images."""
    shape = (-1, *model.geometry.kernel_shape)
    layer = conv_layer(parameters, model)
    return {
        "_model": model,
        "_layer": layer,
        "means_": home.asarray(parameters.means.reshape(shape)),
        "weights_": home.asarray(parameters.weights),
        "noise_variance_": parameters.noise_variance,
        "conv_weight_": home.asarray(layer.weight.reshape(shape)),
        "conv_bias_": home.asarray(layer.bias),
        "contrast_floor_": model.preprocessing.contrast_floor,
    }


def fit_attributes(fit, model, images):
    """All attributes of a fit to the images, or to patches that were sampled from them."""
    lower_bounds = list(fit.history.lower_bounds)
    return layer_attributes(fit.parameters, model, images.model_home) | {
        "lower_bounds_": lower_bounds,
        "lower_bound_": lower_bounds[-1] if lower_bounds else math.nan,  # before the first pass
        "n_iter_": len(lower_bounds),
        "converged_": fit.history.converged,
        "n_reseeded_": fit.n_reseeded,
        "n_samples_seen_": len(images),
        # `partial_fit` continues from here, whether images or sampled patches were fitted.
        "_statistics": per_image(fit.statistics, fit.history.scale),
    }


def stream_attributes(before, step, model, images):
    """All attributes after a step of a stream; `before` is the estimator, or None at the first."""
    parameters, statistics, lower_bound, n_revived = step
    n_iter, n_reseeded, n_samples_seen, lower_bounds = 0, 0, 0, []
    if before is not None:
        n_iter, n_reseeded = before.n_iter_, before.n_reseeded_
        n_samples_seen, lower_bounds = before.n_samples_seen_, before.lower_bounds_
    return layer_attributes(parameters, model, images.model_home) | {
        "lower_bounds_": [*lower_bounds, lower_bound],
        "lower_bound_": lower_bound,
        "n_iter_": n_iter + 1,
        "converged_": False,
        "n_reseeded_": n_reseeded + n_revived,
        "n_samples_seen_": n_samples_seen + len(images),
        "_statistics": statistics,
    }


def fitted_parameters(estimator, geometry):
    """The parameters of the last fit."""
    means = to_numpy(estimator.means_).reshape(-1, geometry.patch_length).astype(np.float64)
    weights = to_numpy(estimator.weights_).astype(np.float64)
    return MixtureParameters(means, weights, estimator.noise_variance_)


def parameters_of(estimator, geometry):
    """The parameters of the last fit; those that are not learned come from the constructor."""
    means, weights, noise_variance = fitted_parameters(estimator, geometry)
    if not estimator.learn_weights:
        weights = np.ones(len(means))
    if estimator.noise_variance != "auto":
        noise_variance = float(estimator.noise_variance)
    return MixtureParameters(means, weights / weights.sum(), noise_variance)


@contextlib.contextmanager
def kept_on_error(estimator):
    """Restore an estimator if the body of the context raises."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


class PlainStateMixin:
    """Makes pickles and copies of an estimator hold plain values."""

    # Declared for editors and type checkers; fits set them. Arrays are of the library of X.
    means_: NDArray[np.floating]
    weights_: NDArray[np.floating]
    noise_variance_: float
    conv_weight_: NDArray[np.floating]
    conv_bias_: NDArray[np.floating]
    contrast_floor_: float | None
    lower_bound_: float
    lower_bounds_: list[float]
    n_iter_: int
    converged_: bool
    n_reseeded_: int
    image_shape_: tuple[int | None, int | None, int]
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]
    n_samples_seen_: int

    def to_numpy(self) -> Self:
        """Copy the estimator, with fitted attributes that are NumPy arrays.

        Returns
        -------
        features : ConvGMMFeatures
            The copy. Its results are those of this estimator.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_calm import ConvGMMFeatures
        >>> X = np.random.default_rng(0).random((50, 8, 8))
        >>> type(ConvGMMFeatures(4).fit(X).to_numpy().means_)
        <class 'numpy.ndarray'>
        """
        return copy.copy(self)

    def __getstate__(self):
        state = without_run(super().__getstate__())
        return {name: _plain(value) for name, value in state.items()} | {VERSION: _version()}

    def __setstate__(self, state):
        super().__setstate__(restored(state, _version(), type(self).__name__))


def _version():
    from sklearn_calm import __version__  # not defined yet while this module is imported

    return __version__


def _plain(value):
    if isinstance(value, OURS):
        return {name: _plain(part) for name, part in value._asdict().items()}
    # A memory map, as joblib may load it, is an array like any other.
    if isinstance(value, np.ndarray) or library_of(value) in FOLLOWED:
        return to_numpy(value)
    return value


def _geometry(state):
    state = {name: _as_tuple(value) for name, value in state.items()}
    if isinstance(state["padding"][0], int):  # of older versions, in which both sides were alike
        state["padding"] = on_both_sides(state["padding"])
    return PatchGeometry(**state)


def _as_tuple(value):
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value


def restored(state, version, name):
    """Return the attributes of an estimator from plain values; warn if the version differs."""
    state = dict(state)
    written = state.pop(VERSION, "unknown")
    if written != version:
        warnings.warn(
            InconsistentVersionWarning(
                estimator_name=name,
                current_sklearn_version=f"{version} of sklearn_calm",
                original_sklearn_version=f"{written} of sklearn_calm",
            ),
            stacklevel=3,
        )
    if "_model" in state:
        model = state["_model"]
        state["_model"] = PatchModel(
            _geometry(model["geometry"]),
            # Files of older versions do not say whether every position is a cell.
            Cells(**{"of_positions": state.get("assignment") == "patch"} | model["cells"]),
            Preprocessing(**model["preprocessing"]),
            # Files of older versions have none.
            Symmetry(**{name: tuple(part) for name, part in model.get("symmetry", {}).items()}),
            model.get("min_observed"),
        )
        # Files of older versions hold more of a layer, or less.
        state["_layer"] = ConvLayer(*map(state["_layer"].get, ConvLayer._fields))
        state["_statistics"] = SufficientStatistics(**state["_statistics"])
    return state
