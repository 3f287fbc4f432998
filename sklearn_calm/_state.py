"""A fitted estimator as plain values, for pickles and for skops: NumPy arrays, numbers, dicts.

Files then hold no class of ours but the estimator, load where there is no GPU, and say which
version wrote them.
"""

import warnings

from sklearn.exceptions import InconsistentVersionWarning

from sklearn_calm._em import Cells, ConvLayer, PatchModel, SufficientStatistics
from sklearn_calm._geometry import PatchGeometry
from sklearn_calm._namespace import FOLLOWED, library_of, to_numpy
from sklearn_calm._preprocessing import Preprocessing

VERSION = "_sklearn_calm_version"


def plain(state, version):
    """The attributes of an estimator as plain values."""
    state = {
        name: to_numpy(value) if library_of(value) in FOLLOWED else value
        for name, value in state.items()
    }
    if "_model" in state:
        state["_model"] = {name: part._asdict() for name, part in state["_model"]._asdict().items()}
        state["_layer"] = state["_layer"]._asdict()
        state["_statistics"] = state["_statistics"]._asdict()
    return state | {VERSION: version}


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
