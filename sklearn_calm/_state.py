"""A fitted estimator as plain values, for pickles and for skops: NumPy arrays, numbers, dicts.

Files then hold no class of ours but the estimator, load where there is no GPU, and say which
version wrote them.
"""

import warnings

import numpy as np
from sklearn.exceptions import InconsistentVersionWarning

from sklearn_calm._em import Cells, ConvLayer, PatchModel, SufficientStatistics
from sklearn_calm._geometry import PatchGeometry
from sklearn_calm._namespace import FOLLOWED, library_of, to_numpy
from sklearn_calm._preprocessing import Preprocessing

VERSION = "_sklearn_calm_version"
OURS = (Cells, ConvLayer, PatchGeometry, PatchModel, Preprocessing, SufficientStatistics)


def plain(state, version):
    """The attributes of an estimator as plain values."""
    return {name: _plain(value) for name, value in state.items()} | {VERSION: version}


def _plain(value):
    if isinstance(value, OURS):
        return {name: _plain(part) for name, part in value._asdict().items()}
    # A memory map, as joblib may load it, is an array like any other.
    if isinstance(value, np.ndarray) or library_of(value) in FOLLOWED:
        return to_numpy(value)
    return value


def restored(state, version, name):
    """The attributes of an estimator, out of plain values; a file of another version warns."""
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
            PatchGeometry(**{key: tuple(pair) for key, pair in model["geometry"].items()}),
            Cells(**model["cells"]),
            Preprocessing(**model["preprocessing"]),
        )
        state["_layer"] = ConvLayer(**state["_layer"])
        state["_statistics"] = SufficientStatistics(**state["_statistics"])
    return state
