"""Every private name of scikit-learn that this package uses, and what stands in for new ones.

Each entry says what can replace it when it goes. tests/test_sklearn.py holds each of them to what
the package expects of it.
"""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

# Decorator of `fit` that validates parameters, and sets up callbacks. Without it: call
# `estimator._validate_params()` first.
from sklearn.base import _fit_context

# Columns of an array or a data frame, named as in a `ColumnTransformer`. Without it: one that
# passes these columns through.
from sklearn.utils import _safe_indexing as safe_indexing

# Constraints in `_parameter_constraints`. Without them: checks of our own in `_validation`.
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

# The container that `set_output` and the global configuration ask for. Without it: read
# `sklearn.get_config()["transform_output"]`.
from sklearn.utils._set_output import _get_output_config as output_config

# Weights as float64, one for each sample. Without it: `check_array` and a check of the length.
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = [
    "CallbackSupportMixin",
    "DocumentationLinkMixin",
    "Interval",
    "NoContext",
    "StrOptions",
    "callback_context",
    "check_input_features",
    "check_same_namespace",
    "check_sample_weight",
    "checked_fit",
    "output_config",
    "safe_indexing",
    "validate_parameters",
    "validate_params",
    "without_callbacks",
    "without_run",
]

# Address of the documentation, without a slash at its end. It is set at the first release; until
# then there are no links to it.
DOCUMENTATION = ""

Method = TypeVar("Method", bound=Callable[..., Any])

# What scikit-learn keeps in an estimator while its fit runs, and the callbacks that are set on it.
_RUN_ATTRIBUTES = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")
_CALLBACK_ATTRIBUTES = ("_skl_callbacks", "_parent_callback_ctx")

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn older than 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn has no callbacks."""


try:
    from sklearn.utils._array_api import check_same_namespace
except ImportError:  # scikit-learn older than 1.9 has no such rule

    def check_same_namespace(X, estimator, *, attribute, method):
        """Accept arrays of any library."""


class DocumentationLinkMixin:
    """Links the HTML representation of an estimator to its page in the documentation.

    Without the names below there is no link.
    """

    _doc_link_module = "sklearn_calm"

    @property
    def _doc_link_template(self):
        return f"{DOCUMENTATION}/api/{{estimator_module}}.{{estimator_name}}.html"

    def _get_doc_link(self):
        return super()._get_doc_link() if DOCUMENTATION else ""


class NoContext:
    """Stands in for the callback context where scikit-learn has no callbacks."""

    def subcontext(self, **_):
        return self

    def call_on_fit_task_begin(self, **_):
        return self

    def call_on_fit_task_end(self, **_):
        return False


def callback_context(estimator, max_subtasks):
    """Set up the callbacks of an estimator for a fit."""
    set_up = getattr(estimator, "_init_callback_context", None)
    return NoContext() if set_up is None else set_up(max_subtasks=max_subtasks)


def checked_fit(method: Method) -> Method:
    """Check parameters before a method that fits. The decorator itself would hide our types."""
    return _fit_context(prefer_skip_nested_validation=True)(method)


def validate_parameters(estimator):
    """Validate the parameters of an estimator outside `fit`."""
    estimator._validate_params()


def without_run(state):
    """The attributes of an estimator, less those that scikit-learn keeps while its fit runs.

    A fitted copy that a callback keeps would otherwise hold the tasks, and through them all
    callbacks.
    """
    return {name: value for name, value in state.items() if name not in _RUN_ATTRIBUTES}


def without_callbacks(estimator):
    """A copy of an estimator that callbacks are not set on, to be sent to workers."""
    estimator = copy.copy(estimator)
    for name in _CALLBACK_ATTRIBUTES:
        vars(estimator).pop(name, None)
    return estimator


def check_input_features(estimator, input_features):
    """Check the names of input columns against those that were fitted."""
    if input_features is None:
        return
    names = np.asarray(input_features, dtype=object)
    fitted = getattr(estimator, "feature_names_in_", None)
    if fitted is not None and not np.array_equal(fitted, names):
        raise ValueError("input_features is not equal to feature_names_in_")
    expected = getattr(estimator, "n_features_in_", len(names))
    if getattr(estimator, "_is_column_of_images", False):
        expected = 1
    if len(names) != expected:
        raise ValueError(
            f"input_features should have length equal to number of features ({expected}), got "
            f"{len(names)}"
        )
