"""The estimator: what fits find, what must not change it, scikit-learn's tools."""

import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import get_args, get_type_hints

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

import _paper
import _reference
from _models import (
    POOLINGS,
    RAW,
    WITHOUT_THRESHOLDS,
    assert_same_model,
    assignments,
    make_images,
    preprocessings,
    small,
)
from sklearn_calm import ConvGMMFeatures
from sklearn_calm._convolution.windows import WINDOWS

# What must not change the result


@assignments
@pytest.mark.parametrize("batch_size", [1, 7, 30, "auto"])
def test_any_number_of_jobs_gives_the_same_bits(assignment, batch_size, monkeypatch):
    monkeypatch.setattr("sklearn_calm._batches.WORTH_THREADS", 0)
    X = make_images(10)
    options = {"assignment": assignment, "batch_size": batch_size, "pooling": "logsumexp"}
    serial = small(**options, n_jobs=1).fit(X)
    for n_jobs in (2, 3, -1, None):
        model = small(**options, n_jobs=n_jobs).fit(X)
        assert_same_model(model, serial)
        assert_array_equal(model.transform(X), serial.transform(X))
        assert_array_equal(model.score_samples(X), serial.score_samples(X))


@assignments
@preprocessings
def test_any_batch_size_gives_the_same_but_for_rounding(assignment, preprocessing):
    X = make_images(11)
    whole = small(assignment=assignment, **preprocessing, batch_size=30).fit(X)
    for batch_size in (1, 7, 1000):
        model = clone(whole).set_params(batch_size=batch_size).fit(X)
        assert_same_model(model, whole, rtol=1e-9)
        assert_allclose(model.transform(X), whole.transform(X), rtol=1e-9, atol=1e-9)
        assert_allclose(model.score_samples(X), whole.score_samples(X), rtol=1e-9)


def test_two_fits_at_once_give_what_each_gives_alone():
    X = [make_images(12), make_images(13)]

    def fit(images):
        return small(n_jobs=2, batch_size=3, max_iter=20, assignment="image").fit(images)

    alone = [fit(images) for images in X]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(fit, X * 3))
    for i, model in enumerate(together):
        assert_same_model(model, alone[i % 2], rtol=1e-9)


@assignments
@preprocessings
@pytest.mark.parametrize("padding", [0, 2])
def test_a_weight_is_a_number_of_copies(assignment, preprocessing, padding):
    rng = np.random.default_rng(14)
    X = make_images(14, n=20)
    copies = rng.integers(0, 4, size=20)
    repeated = np.repeat(X, copies, axis=0)
    options = {"assignment": assignment, **preprocessing, "padding": padding, "max_iter": 5}
    weighted = small(**options).fit(X, sample_weight=copies)
    assert_same_model(weighted, small(**options).fit(repeated), rtol=1e-7)
    assert weighted.score(X, sample_weight=copies) == pytest.approx(weighted.score(repeated))
    weighted = small(**options).partial_fit(X, sample_weight=copies)
    weighted.partial_fit(X[::-1], sample_weight=copies[::-1])
    stream = small(**options).partial_fit(repeated).partial_fit(repeated[::-1])
    assert_same_model(weighted, stream, rtol=1e-7)


@pytest.mark.parametrize("learn_weights", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_weight_is_a_number_of_copies_to_a_component_that_dies(learn_weights, seed):
    rng = np.random.default_rng(seed)
    X, copies = rng.normal(size=(6, 6, 6)), np.array([1, 2, 3, 1, 2, 3])
    far = np.full((3, 3), 100.0)
    model = small(
        n_components=2,
        init_params=np.stack([rng.normal(size=(3, 3)), far]),
        assignment="image",
        normalize=None,
        whiten=False,
        noise_variance=0.1,
        learn_weights=learn_weights,
        max_iter=3,
        tol=0,
    )
    weighted = clone(model).fit(X, sample_weight=copies)
    assert weighted.n_reseeded_ > 0
    assert_same_model(weighted, model.fit(np.repeat(X, copies, axis=0)), rtol=1e-9)


def test_weights_change_the_model():
    X = make_images(15)
    weighted = small().fit(X, sample_weight=np.arange(30))
    assert np.abs(weighted.means_ - small().fit(X).means_).max() > 1e-3


@pytest.mark.parametrize("init_params", ["k-means++", "random_from_data", "random"])
def test_a_random_state_is_reproducible(init_params):
    X = make_images(16)
    options = {"init_params": init_params, "noise_variance": 2.0, **RAW}
    model = small(**options, random_state=3).fit(X)
    assert_same_model(model, small(**options, random_state=3).fit(X))
    assert_same_model(model, small(**options, random_state=np.random.RandomState(3)).fit(X))
    assert_same_model(model, clone(model).fit(X))
    assert_same_model(model, model.fit(X))
    other = small(**options, random_state=5).fit(X)
    assert np.abs(model.means_ - other.means_).max() > 1e-6


def test_the_global_generator_is_left_alone():
    X = make_images(16)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    small().fit(X).transform(X)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


# EM


@assignments
@preprocessings
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"learn_weights": False},
        {"noise_variance": 0.5},
        {"noise_variance": 2.0, "learn_weights": False},
        {"stride": 2, "padding": (1, 2)},
        {"init_params": "random"},
        {"init_params": "random_from_data", "n_init": 2, "n_components": 9},
        {"n_components": 40, "reg_covar": 0},
    ],
    ids=str,
)
def test_the_objective_never_falls(assignment, preprocessing, options):
    X = make_images(17, n=16)
    model = small(**{"assignment": assignment, **preprocessing, "max_iter": 25, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # dead components may be left
        model.fit(X)
    bounds = np.array([*model.lower_bounds_, model.score(X)])
    assert (np.diff(bounds) >= -1e-9 * np.abs(bounds[:-1])).all()
    assert bounds[-1] > bounds[0]


def test_the_paper_layer_is_the_papers():
    rng = np.random.default_rng(18)
    X = rng.random((6, 18, 19))
    kernels = rng.normal(scale=0.1, size=(5, 20, 20))
    model = ConvGMMFeatures(
        5,
        patch_size=(20, 20),
        padding=2,
        assignment="image",
        **RAW,
        noise_variance=1.0,
        learn_weights=False,
        init_params=kernels,
        pooling="logsumexp",
        pool_grid=1,
        max_iter=3,
        tol=0,
    ).fit(X)
    padded = np.pad(X, ((0, 0), (2, 2), (2, 2)))
    for _ in range(3):
        kernels = _paper.paper_em_pass(padded, kernels)
    assert_allclose(model.means_[..., 0], kernels, rtol=1e-9, atol=1e-12)
    assert_allclose(model.transform(X), _paper.paper_features(padded, kernels), rtol=1e-9)
    assert_array_equal(model.weights_, np.full(5, 0.2))
    assert model.noise_variance_ == 1.0
    assert model.n_reseeded_ == 0


def deviations(model, X):
    """Square root of variance and floor (eq. 10) of every patch, (n, rows, columns)."""
    floor = model.contrast_floor_
    height, width = model.means_.shape[1:3]
    stride, padding = model.stride, model.padding
    patches = [_reference.extract_patches(x, (height, width), stride, padding) for x in X]
    return np.sqrt(np.var(patches, axis=(3, 4, 5)) + floor)


@preprocessings
@pytest.mark.parametrize("n_channels", [1, 2])
def test_the_layer_is_a_convolution(preprocessing, n_channels):
    """conv_weight_ and conv_bias_ are all that another framework needs, but for the deviation."""
    X = np.random.default_rng(19).normal(size=(5, 7, 8, n_channels))
    model = small(pooling=None, stride=(2, 1), padding=(1, 2), **preprocessing).fit(X)
    maps = model.transform(X)
    assert maps.shape == (5, 4, 10, 3)
    expected = np.zeros(maps.shape)
    for i, row, column, k in np.ndindex(*maps.shape):
        padded = _reference.pad(X[i], (1, 2))
        patch = padded[2 * row : 2 * row + 3, column : column + 3]
        expected[i, row, column, k] = np.sum(patch * model.conv_weight_[k])
    if model.normalize == "contrast":
        assert_allclose(model.conv_weight_.sum(axis=(1, 2, 3)), 0, atol=1e-9)
        expected /= deviations(model, X)[..., np.newaxis]
    assert_allclose(maps, expected + model.conv_bias_, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("pooling", WITHOUT_THRESHOLDS)
def test_names_and_columns_have_the_same_order(pooling):
    X = make_images(20)
    model = small(pooling=pooling, pool_grid=(2, 3), pool_window="box", n_components=4).fit(X)
    features, names = model.transform(X), model.get_feature_names_out()
    assert len(set(names)) == features.shape[1] == 24
    maps = clone(model).set_params(pooling=None).fit(X).transform(X)
    cells = _reference.cells("patch", 6, 7)
    gamma = [_reference.responsibilities(joint, cells) for joint in maps]
    twin = np.array(
        [_reference.pool(m, g, pooling, (2, 3), 9) for m, g in zip(maps, gamma, strict=True)]
    ).reshape(30, 2, 3, 4)
    for column, name in zip(features.T, names, strict=True):
        found = re.fullmatch(r"convgmmfeatures_row(\d)_column(\d)_component(\d)", name)
        row, left, component = map(int, found.groups())
        assert_allclose(column, twin[:, row, left, component], rtol=1e-9, atol=1e-12)


def test_names_of_both_polarities():
    X = make_images(20)
    model = small(pool_grid=(2, 3), pool_window="box", polarity="both").fit(X)
    features, names = model.transform(X), model.get_feature_names_out()
    assert len(set(names)) == features.shape[1] == 36
    alone = model.set_params(polarity="positive")
    columns = dict(zip(alone.get_feature_names_out(), alone.transform(X).T, strict=True))
    means = model.set_params(pooling=None).transform(X)
    means = means - means.mean(axis=-1, keepdims=True)
    for column, name in zip(features.T, names, strict=True):
        kind, polarity = name.rsplit("_", 1)
        row, left, k = map(int, re.findall(r"\d", kind))
        region = means[:, 3 * row : 3 * row + 3, [0, 2, 4, 7][left] : [0, 2, 4, 7][left + 1], k]
        negative = columns[kind] - region.mean(axis=(1, 2))
        expected = {"positive": columns[kind], "negative": negative}[polarity]
        assert_allclose(column, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_one_component_by_triangle_warns_of_zeros(method):
    X = make_images(26)
    words = r'n_components=1 with pooling="triangle" .* zero: .* Set pooling="logsumexp"'
    with pytest.warns(UserWarning, match=words) as record:
        model = getattr(small(n_components=1), method)(X)
    assert [warning.filename for warning in record] == [__file__]
    assert_array_equal(model.transform(X), 0)
    getattr(small(n_components=1, pooling="logsumexp"), method)(X)


def test_n_init_keeps_the_best():
    X = make_images(24, n=60)
    options = {"init_params": "random_from_data", "assignment": "image", **RAW, "max_iter": 4}
    best = small(**options, n_init=4, random_state=np.random.RandomState(3)).fit(X)
    rng = np.random.RandomState(3)
    each = [small(**options, random_state=rng).fit(X) for _ in range(4)]
    bounds = [model.lower_bound_ for model in each]
    assert np.argmax(bounds) != 0
    assert_same_model(best, each[np.argmax(bounds)])


def test_tol_stops():
    X = make_images(25)
    model = small(tol=1e-3, max_iter=500).fit(X)
    assert model.converged_
    assert 2 < model.n_iter_ < 500
    last, before = model.lower_bounds_[-1], model.lower_bounds_[-2]
    assert last - before < 1e-3 * 6 * 7  # cells per image
    all_but_last = np.diff(model.lower_bounds_[:-1])
    assert (all_but_last >= 1e-3 * 6 * 7).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_tol_is_chosen_by_the_number_of_learned_values(monkeypatch, seed):
    X = np.random.default_rng(seed).normal(size=(30, 6, 7))
    whole = small(tol="auto", max_iter=500).fit(X)
    assert_same_model(whole, small(tol=0.01, max_iter=500).fit(X))
    monkeypatch.setattr("sklearn_calm._mixture.seeds.MAX_PATCHES", 500)
    sampled = small(tol="auto", max_iter=500).fit(X)
    tol = sampled.n_components * (sampled.means_[0].size + 1) / 500
    assert tol > 0.01
    assert_same_model(sampled, small(tol=tol, max_iter=500).fit(X))
    assert sampled.n_iter_ <= small(tol=0.01, max_iter=500).fit(X).n_iter_


def test_no_tol_makes_every_pass():
    model = small(max_iter=40, n_components=1, pooling="logsumexp").fit(make_images(25))
    assert model.n_iter_ == 40
    assert not model.converged_


@assignments
@pytest.mark.parametrize("noise_variance", ["auto", 0.5])
def test_a_warm_start_goes_on(assignment, noise_variance):
    X = make_images(26)
    options = {"assignment": assignment, "noise_variance": noise_variance}
    whole = small(**options, max_iter=8).fit(X)
    model = small(**options, max_iter=5, warm_start=True).fit(X)
    first = model.lower_bounds_
    model.set_params(max_iter=3).fit(X)
    assert_allclose([*first, *model.lower_bounds_], whole.lower_bounds_, rtol=1e-9)
    assert model.n_iter_ == 3
    assert_allclose(model.means_, whole.means_, rtol=1e-6, atol=1e-9)
    cold = small(**options, max_iter=3).fit(X)
    assert model.lower_bounds_[0] > cold.lower_bounds_[0]


def test_without_warm_start_fit_starts_anew():
    X, other = make_images(27), make_images(28, shape=(6, 6))
    assert_same_model(small().fit(other).fit(X), small().fit(X))
    assert_same_model(small().partial_fit(other).fit(X), small().fit(X))


def test_given_kernels_are_where_em_starts():
    X = make_images(29)
    kernels = np.random.default_rng(29).normal(size=(3, 3, 3, 1))
    options = {**RAW, "assignment": "image", "max_iter": 1, "noise_variance": 0.5}
    model = small(**options, init_params=kernels).fit(X)
    assert_same_model(model, small(**options, init_params=kernels[..., 0].tolist()).fit(X))
    setting = _reference.Setting((3, 3))
    start = _reference.Mixture(kernels.reshape(3, 9), np.full(3, 1 / 3), 0.5)
    images, ones = X[..., np.newaxis], np.ones(30)
    expected, (bound,) = _reference.run_em(images, ones, start, setting, 1, noise_variance=0.5)
    assert_allclose(model.means_.reshape(3, 9), expected.means, rtol=1e-9, atol=1e-12)
    assert_allclose(model.weights_, expected.weights, rtol=1e-9)
    assert model.lower_bound_ == pytest.approx(bound)


# Dead components, warnings, progress


def far_kernels(n_far):
    """Four kernels, of which the last explain no patch."""
    kernels = np.random.default_rng(35).normal(size=(4, 3, 3))
    kernels[4 - n_far :] += 100
    return kernels


def test_dead_components_get_new_patches():
    X = make_images(35)
    options = {**RAW, "assignment": "image", "init_params": far_kernels(2), "n_components": 4}
    model = small(**options, max_iter=15).fit(X)
    assert model.n_reseeded_ >= 2
    assert (model.means_ < 20).all()
    assert (model.weights_ > 1e-3).all()
    alone = small(**{**options, "init_params": far_kernels(2)[:2], "n_components": 2}, max_iter=15)
    assert model.score(X) > alone.fit(X).score(X) + 0.1


def test_dead_components_of_a_stream_get_new_patches():
    X = make_images(35)
    options = {**RAW, "assignment": "image", "init_params": far_kernels(2), "n_components": 4}
    model = small(**options).partial_fit(X)
    assert model.n_reseeded_ == 2
    for _ in range(5):
        model.partial_fit(X)
    assert (model.means_ < 20).all()


def test_dead_components_that_are_left_are_named():
    X = make_images(35)
    options = {**RAW, "assignment": "image", "init_params": far_kernels(1), "n_components": 4}
    with pytest.warns(ConvergenceWarning, match=r"1 of 4 components explain next to nothing") as w:
        small(**options, max_iter=1).fit(X)
    assert len(w) == 1
    assert "n_reseeded_=0" in str(w[0].message)
    assert "Lower n_components" in str(w[0].message)
    assert w[0].filename == __file__


def test_alike_starts_are_named():
    X = np.tile(make_images(36, n=1, shape=(3, 4)), (10, 1, 1))
    with pytest.warns(ConvergenceWarning, match="only 2 distinct kernel") as w:
        small(n_components=5).fit(X)
    assert "n_components=5" in str(w[0].message)
    assert w[0].filename == __file__


def test_too_few_passes_are_named():
    with pytest.warns(ConvergenceWarning, match="did not converge in max_iter=3 passes") as w:
        model = small(tol=1e-6).fit(make_images(36))
    assert len(w) == 1
    assert "Increase max_iter or tol" in str(w[0].message)
    assert w[0].filename == __file__
    assert not model.converged_


# scikit-learn's tools


def test_clone_is_unfitted_and_equal():
    model = small(assignment=(2, 2), pool_grid=(1, 2)).fit(make_images(38))
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "means_")


def test_grid_search_over_a_pipeline():
    X = make_images(40, n=40)
    y = (X.max(axis=(1, 2)) > np.median(X.max(axis=(1, 2)))).astype(int)
    pipe = Pipeline([("features", small()), ("clf", RidgeClassifier())])
    grid = {"features__n_components": [2, 4], "features__assignment": ["image", "patch", (2, 2)]}
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X).shape == (40,)


def test_fit_transform_is_fit_then_transform():
    X = make_images(42)
    assert_array_equal(small().fit_transform(X), small().fit(X).transform(X))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_data_frames(pooling):
    X = make_images(44, shape=(6, 6)).reshape(30, -1)
    frame = pd.DataFrame(X, columns=[f"pixel{i}" for i in range(36)], index=range(100, 130))
    model = small(pooling=pooling).set_output(transform="pandas").fit(frame)
    features = model.transform(frame)
    assert isinstance(features, pd.DataFrame)
    assert list(features.columns) == list(model.get_feature_names_out())
    assert list(features.index) == list(frame.index)
    expected = small(pooling=pooling).fit(X).transform(X)
    assert_allclose(features.to_numpy(), expected, rtol=1e-9, atol=1e-12)
    assert list(model.feature_names_in_) == list(frame.columns)


def test_pooling_may_change_after_fit():
    """Kernels do not depend on how features are pooled."""
    X = make_images(45)
    model = small(pooling="max").fit(X).set_params(pooling="mean", pool_grid=3)
    assert_array_equal(model.transform(X), small(pooling="mean", pool_grid=3).fit(X).transform(X))
    assert model.get_feature_names_out()[-1] == "convgmmfeatures_row2_column2_component2"


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_window_auto_is_gaussian_for_means(pooling):
    X = make_images(27)
    model = small(pooling=pooling).fit(X)
    auto = model.transform(X)
    named = "box" if pooling in ("logsumexp", "max") else "gaussian"
    assert_array_equal(model.set_params(pool_window=named).transform(X), auto)
    other = {"gaussian": "box", "box": "gaussian"}[named]
    if pooling != "max":
        assert not np.allclose(model.set_params(pool_window=other).transform(X), auto)


def test_types_name_all_poolings_and_windows():
    hints = get_type_hints(ConvGMMFeatures.__init__)
    poolings, none = get_args(hints["pooling"])
    assert none is type(None)
    assert list(get_args(poolings)) == POOLINGS
    assert set(get_args(hints["pool_window"])) == {"auto", *WINDOWS}
