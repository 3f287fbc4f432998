import numpy as np
import pandas
import pytest
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegressionCV, RidgeClassifier, RidgeCV
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from _drawing import ALL, OF_IMAGES, draw
from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay
from sklearn_calm.plotting._estimators import features_and_images, find_features

X = np.random.default_rng(0).random((40, 36))
Y = np.arange(40) % 2
FRAME = pandas.DataFrame(X).add_prefix("pixel").assign(age=Y)
PIXELS = [f"pixel{i}" for i in range(36)]


def layer():
    return ConvGMMFeatures(3, patch_size=3, max_iter=2, tol=0, random_state=0)


def centre(X):
    return X - 0.5


def pipeline():
    return make_pipeline(
        FunctionTransformer(centre), "passthrough", layer(), StandardScaler(), RidgeClassifier()
    )


GRID = {"ridgeclassifier__alpha": [1, 10]}
HOLDERS = {
    "pipeline": (pipeline, centre),
    "nested": (
        lambda: make_pipeline(FunctionTransformer(np.sqrt), pipeline()),
        lambda X: centre(np.sqrt(X)),
    ),
    "grid search": (lambda: GridSearchCV(pipeline(), GRID, cv=2), centre),
    "random search": (lambda: RandomizedSearchCV(pipeline(), GRID, n_iter=1, cv=2), centre),
    "union": (lambda: make_union(VarianceThreshold(), layer()), lambda X: X),
    "union in a pipeline": (
        lambda: make_pipeline(
            FunctionTransformer(centre),
            FeatureUnion([("a", "passthrough"), ("b", layer()), ("c", "drop")]),
            RidgeCV(),
        ),
        centre,
    ),
    "columns": (
        lambda: make_column_transformer((layer(), slice(0, 36)), remainder="passthrough"),
        lambda X: X,
    ),
    "frozen": (lambda: make_pipeline(FrozenEstimator(pipeline()[:3].fit(X))), centre),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_the_layer_is_found_with_its_images(holder):
    make, before = HOLDERS[holder]
    estimator = make().fit(X, Y)
    features, images, _ = features_and_images(estimator, X)
    assert isinstance(features, ConvGMMFeatures)
    assert find_features(estimator) is features
    np.testing.assert_allclose(images, before(X))
    np.testing.assert_array_equal(features.means_, layer().fit(before(X)).means_)


@pytest.mark.parametrize("display", ALL)
def test_displays_of_a_pipeline_are_those_of_its_layer(display):
    model = GridSearchCV(pipeline(), GRID, cv=2).fit(X, Y)
    shown = draw(display, model, X[:5])
    expected = draw(display, model.best_estimator_[2], centre(X[:5]))
    for name, value in vars(expected).items():
        if not name.endswith("_"):
            np.testing.assert_array_equal(getattr(shown, name), value)


@pytest.mark.parametrize("columns", [PIXELS, lambda frame: frame.columns[:36], list(range(36))])
def test_columns_of_a_frame(columns):
    estimator = ColumnTransformer([("image", layer(), columns), ("age", "passthrough", ["age"])])
    estimator.fit(FRAME)
    features, images, _ = features_and_images(estimator, FRAME)
    pandas.testing.assert_frame_equal(images, FRAME[PIXELS])
    for display in OF_IMAGES:
        assert draw(display, estimator, FRAME[:4]).images.shape[-3:] == (6, 6, 1)
    assert features is estimator.named_transformers_["image"]


@pytest.mark.parametrize(
    "estimator", [make_pipeline(StandardScaler()), LogisticRegressionCV(), "text"]
)
def test_estimators_without_a_layer(estimator):
    with pytest.raises(ValueError, match=r"holds no ConvGMMFeatures\. Pass a fitted"):
        KernelDisplay.from_estimator(estimator)


def test_estimators_with_two_layers():
    first = layer().set_params(pool_grid=4, flatten=False)
    stacked = make_pipeline(first, make_pipeline(StandardScaler(), layer())[1:]).fit(X)
    with pytest.raises(ValueError, match=r"2 ConvGMMFeatures: convgmmfeatures, pipeline__conv"):
        KernelDisplay.from_estimator(stacked)
    KernelDisplay.from_estimator(stacked[1])


def test_estimators_that_are_not_fitted():
    columns = make_column_transformer((layer(), PIXELS))
    for estimator in (pipeline(), GridSearchCV(pipeline(), GRID), columns):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            KernelDisplay.from_estimator(estimator)


def test_a_search_that_kept_no_model():
    search = GridSearchCV(pipeline(), GRID, cv=2, refit=False).fit(X, Y)
    with pytest.raises(ValueError, match=r"GridSearchCV keeps no fitted model, as refit=False"):
        KernelDisplay.from_estimator(search)
