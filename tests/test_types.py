"""The public interface has types: in `make lint`, mypy and pyright check what this file asserts."""

import inspect
import re
from importlib import import_module, resources
from typing import Any, assert_type

import numpy as np
import pytest
from numpy.typing import NDArray

from sklearn_calm import ConvGMMFeatures
from sklearn_calm._state import PlainStateMixin
from sklearn_calm.datasets import make_planted_patches
from sklearn_calm.plotting import KernelDisplay

MODULES = ["sklearn_calm", *(f"sklearn_calm.{name}" for name in ("datasets", "onnx", "plotting"))]


def public_functions() -> list[Any]:
    """Functions and methods of all public names that this package defines itself."""
    found = []
    for module in map(import_module, MODULES):
        for name in module.__all__:
            thing = getattr(module, name)
            members = [(name, thing)]
            if inspect.isclass(thing):
                ours = [
                    base for base in thing.__mro__ if base.__module__.startswith("sklearn_calm")
                ]
                members = [member for base in ours for member in vars(base).items()]
            for key, member in members:
                member = getattr(member, "__func__", member)
                if inspect.isfunction(member) and (key == "__init__" or key[0] != "_"):
                    found.append(pytest.param(member, id=f"{name}.{key}"))
    return found


def test_the_package_says_that_it_has_types():
    assert resources.files("sklearn_calm").joinpath("py.typed").is_file()


@pytest.mark.parametrize("function", public_functions())
def test_all_parameters_and_results_have_types(function):
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    for name, parameter in signature.parameters.items():
        assert name in ("self", "cls") or parameter.annotation is not inspect.Parameter.empty, name


def test_every_fitted_attribute_is_declared_and_has_no_value_before_fit():
    documented = re.findall(r"^(\w+_) : ", inspect.getdoc(ConvGMMFeatures) or "", re.MULTILINE)
    declared = [name for name in vars(PlainStateMixin)["__annotations__"] if name.endswith("_")]
    assert declared == documented
    assert not any(hasattr(ConvGMMFeatures(), name) for name in declared)


def test_types_are_what_they_are_said_to_be() -> None:
    """The decorators of scikit-learn have no types, and must not hide those of the methods."""
    X, _ = make_planted_patches(20, 2, random_state=0)
    assert_type(X, NDArray[np.float64])
    features = ConvGMMFeatures(2, patch_size=(3, 3), max_iter=1, tol=0, random_state=0)
    assert_type(features.fit(X), ConvGMMFeatures)
    assert_type(features.partial_fit(X), ConvGMMFeatures)
    assert_type(features.score(X), float)
    assert_type(features.get_feature_names_out(), NDArray[np.object_])
    assert_type(features.means_, NDArray[np.floating])
    assert_type(features.lower_bounds_, list[float])
    assert_type(features.image_shape_, tuple[int | None, int | None, int])
    assert_type(features.contrast_floor_, float | None)
    assert_type(KernelDisplay.from_estimator(features), KernelDisplay)
    assert isinstance(features.score(X), float)
