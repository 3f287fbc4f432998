"""The private names of scikit-learn do what the package expects of them."""

import ast
import re
from numbers import Integral
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas
import pytest
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

from sklearn_calm import ConvGMMFeatures, RegionMoments, _sklearn
from sklearn_calm._sklearn import (
    Interval,
    NoContext,
    StrOptions,
    callback_context,
    check_input_features,
    check_same_namespace,
    check_sample_weight,
    checked_fit,
    output_config,
    safe_indexing,
    validate_parameters,
    validate_params,
    without_callbacks,
    without_run,
)

PACKAGE = Path(_sklearn.__file__).parent
PAGE_OF_THE_SCALER = re.compile(r'href="https://scikit-learn.org/\S+\.StandardScaler\.html"')


class Estimator(TransformerMixin, BaseEstimator):
    _parameter_constraints: ClassVar = {
        "size": [Interval(Integral, 1, None, closed="left")],
        "kind": [StrOptions({"a", "b"})],
    }

    def __init__(self, size=1, kind="a"):
        self.size = size
        self.kind = kind

    @checked_fit
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X

    def get_feature_names_out(self, input_features=None):
        return input_features


def test_no_other_module_uses_private_names_of_scikit_learn():
    for path in PACKAGE.rglob("*.py"):
        if path.name == "_sklearn.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sklearn":
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
                assert not [name for name in names if name.startswith("_")], path
        words = re.findall(
            r"\b_(?:skl_|validate_params|init_callback|parent_callback)\w*", path.read_text()
        )
        assert not words, path


@pytest.mark.parametrize("bad", [{"size": 0}, {"size": 1.5}, {"kind": "c"}])
def test_fit_and_validate_parameters_refuse_what_the_constraints_do(bad):
    for check in (validate_parameters, lambda estimator: estimator.fit(np.ones((2, 2)))):
        with pytest.raises(InvalidParameterError, match=next(iter(bad))):
            check(Estimator(**bad))
        check(Estimator(size=2, kind="b"))


def test_functions_refuse_what_the_constraints_do():
    @validate_params(
        {"n": [Interval(Integral, 0, 3, closed="both")]}, prefer_skip_nested_validation=True
    )
    def double(n):
        return 2 * n

    assert double(3) == 6
    with pytest.raises(ValueError, match=r"'n' parameter of .*double"):
        double(4)


def test_the_container_is_the_one_that_was_asked_for():
    estimator = Estimator()
    assert output_config("transform", estimator)["dense"] == "default"
    with config_context(transform_output="pandas"):
        assert output_config("transform", estimator)["dense"] == "pandas"
    estimator.set_output(transform="pandas")
    assert output_config("transform", estimator)["dense"] == "pandas"


def test_weights_are_float64_one_for_each_sample():
    X = np.ones((3, 1))
    weights = check_sample_weight([1, 2, 3], X, dtype=np.float64, ensure_non_negative=True)
    assert_array_equal(weights, [1.0, 2.0, 3.0])
    assert weights.dtype == np.float64
    assert_array_equal(check_sample_weight(None, X), np.ones(3))
    for bad, word in (([1, 2], "shape"), ([1, 2, -1], "[Nn]egative"), ([1, 2, np.nan], "NaN")):
        with pytest.raises(ValueError, match=word):
            check_sample_weight(bad, X, ensure_non_negative=True)


def test_arrays_of_one_library_go_together():
    estimator = Estimator()
    estimator.means_ = np.ones(2)
    check_same_namespace(np.ones(3), estimator, attribute="means_", method="transform")


def test_the_html_representation_links_to_the_documentation(monkeypatch):
    pipeline = make_pipeline(StandardScaler(), ConvGMMFeatures())
    monkeypatch.setattr(_sklearn, "DOCUMENTATION", "https://docs.example/stable")
    page = 'href="https://docs.example/stable/api/sklearn_calm.ConvGMMFeatures.html"'
    assert page in ConvGMMFeatures()._repr_html_()
    assert page in pipeline._repr_html_()
    assert PAGE_OF_THE_SCALER.search(pipeline._repr_html_())


def test_there_is_no_link_where_the_documentation_has_no_address(monkeypatch):
    monkeypatch.setattr(_sklearn, "DOCUMENTATION", "")
    pipeline = make_pipeline(StandardScaler(), ConvGMMFeatures())
    assert "sklearn_calm.ConvGMMFeatures.html" not in pipeline._repr_html_()
    assert PAGE_OF_THE_SCALER.search(pipeline._repr_html_())


def test_there_is_a_callback_context_for_every_version():
    class Plain:
        pass

    context = callback_context(Plain(), 3)
    assert isinstance(context, NoContext)
    below = context.subcontext(task_name="pass", max_subtasks=0)
    below.call_on_fit_task_begin(estimator=None)
    assert below.call_on_fit_task_end(estimator=None) is False


def test_attributes_of_callbacks_are_left_out():
    estimator = Estimator().fit(np.ones((2, 2)))
    estimator._skl_callbacks = ["callback"]
    copy = without_callbacks(estimator)
    assert vars(copy).keys() == vars(estimator).keys() - {"_skl_callbacks"}
    state = vars(copy) | {"_callback_fit_ctx": 1, "_skl_callbacks_to_teardown": 2}
    assert without_run(state) == vars(copy)


def test_names_of_columns_are_those_that_were_fitted():
    estimator = Estimator()
    estimator.n_features_in_ = 2
    check_input_features(estimator, None)
    check_input_features(estimator, ["a", "b"])
    with pytest.raises(ValueError, match="length equal to number of features"):
        check_input_features(estimator, ["a"])
    estimator.feature_names_in_ = np.array(["a", "b"], dtype=object)
    with pytest.raises(ValueError, match="not equal to feature_names_in_"):
        check_input_features(estimator, ["b", "a"])


@pytest.mark.parametrize("columns", [["b", "c"], [1, 2], slice(1, 3), [False, True, True]])
def test_columns_are_selected_as_by_a_column_transformer(columns):
    frame = pandas.DataFrame(np.arange(6).reshape(2, 3), columns=["a", "b", "c"])
    selected = safe_indexing(frame, columns, axis=1)
    assert list(selected.columns) == ["b", "c"]
    if columns != ["b", "c"]:
        assert_array_equal(safe_indexing(frame.to_numpy(), columns, axis=1), selected)


@pytest.mark.parametrize("transformer", [ConvGMMFeatures(3, random_state=0), RegionMoments()])
@pytest.mark.parametrize("selected", [["image"], "image"])
def test_a_column_of_images_has_one_name(transformer, selected):
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(8, 8)) for _ in range(30)]
    frame = pandas.DataFrame({"image": images, "age": rng.normal(size=30)})
    parts = [("features", clone(transformer), selected), ("age", "passthrough", ["age"])]
    columns = ColumnTransformer(parts).set_output(transform="pandas")
    found = columns.fit_transform(frame)
    assert list(found.columns) == list(columns.get_feature_names_out())
    assert found.columns[-1] == "age__age"
    layer = columns.named_transformers_["features"]
    with pytest.raises(ValueError, match=r"number of features \(1\), got 64"):
        layer.get_feature_names_out([f"pixel{i}" for i in range(64)])
    layer.fit(np.stack(images))
    with pytest.raises(ValueError, match=r"number of features \(64\), got 1"):
        layer.get_feature_names_out(["image"])
