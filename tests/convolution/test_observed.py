"""Patches with missing values, beside their literal twin; and the laws of what is missing."""

import dataclasses
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import get_tags

import _missing
import _reference
from _pixel_reference import pixel_features
from _twins import (
    GEOMETRIES,
    engine_maps,
    grid_that_fits,
    layer_of,
    make_em,
    make_problem,
    twin,
)
from sklearn_calm import ConvGMMFeatures, _pixels
from sklearn_calm._convolution.observed import Missing, filled
from sklearn_calm._images.reader import Images
from sklearn_calm._mixture.em import cell_log_likelihoods, objective
from sklearn_calm.datasets import make_planted_patches

OPTIONS = [
    {},
    {"whiten": False},
    {"whiten": False, "normalize": None},
    {"whiten": False, "normalize": None, "assignment": "image"},
    {"assignment": (2, 2)},
    {"assignment": (2, 2), "whiten": False},
    {"symmetry": ("mirror", "sign")},
    {"symmetry": ("mirror", "sign"), "whiten": False},
]


def model_of(**options):
    options = {"max_iter": 8, "tol": 0, "random_state": 0, "patch_size": 3, **options}
    return ConvGMMFeatures(4, missing_values="ignore", **options)


def fitted(model, X, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, **options)


def with_missing(rng, n=30, side=9, share=0.3, channels=1):
    X = rng.normal(size=(n, side, side, channels)).cumsum(axis=1)
    X[rng.random(X.shape) < share] = np.nan
    return X


def with_gaps(problem, rng):
    """The images of a problem with missing values, and the problem of these."""
    X = problem.images.X.copy()
    X[rng.random(X.shape) < 0.4] = np.nan
    X[1, 2:6] = np.nan
    images = Images(X, problem.model.geometry, missing=Missing(0.6, False))
    return X, problem._replace(images=images, model=problem.model._replace(min_observed=0.6))


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("assignment", ["image", "patch"])
@pytest.mark.parametrize("preprocessing", ["raw", "contrast"])
def test_passes_of_em_are_those_of_the_twin(preprocessing, assignment, geometry):
    rng = np.random.default_rng(0)
    problem = make_problem(rng, assignment, preprocessing, geometry, weighted=False)
    X, problem = with_gaps(problem, rng)
    parameters, em = problem.parameters(rng), make_em(problem, batch_size=2)
    mixture = twin(parameters)
    for _ in range(3):
        statistics = em.e_step(parameters)
        bound, mixture = _missing.observed_pass(X, mixture, problem.setting, 0.6)
        assert objective(statistics, parameters.noise_variance) == pytest.approx(bound, rel=1e-9)
        parameters = em.m_step(statistics, parameters)
        np.testing.assert_allclose(parameters.means, mixture.means, atol=1e-9)
        np.testing.assert_allclose(parameters.weights, mixture.weights, atol=1e-9)
        assert parameters.noise_variance == pytest.approx(mixture.noise_variance, rel=1e-9)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("assignment", ["image", (2, 3), "patch"])
@pytest.mark.parametrize("preprocessing", ["raw", "contrast"])
def test_maps_of_the_likelihood_are_those_of_the_twin(preprocessing, assignment, geometry):
    rng = np.random.default_rng(20)
    assignment = grid_that_fits(assignment, geometry)
    problem = make_problem(rng, assignment, preprocessing, geometry, weighted=False)
    X, problem = with_gaps(problem, rng)
    parameters = problem.parameters(rng)
    layer, variance = layer_of(parameters, problem.model), parameters.noise_variance
    found = cell_log_likelihoods(problem.padded, layer, variance)
    for image, shares in zip(X, found, strict=True):
        expected = _missing.cell_log_likelihoods(image, twin(parameters), problem.setting, 0.6)
        np.testing.assert_allclose(shares.ravel(), expected, rtol=1e-9)


@pytest.mark.parametrize("options", OPTIONS)
def test_maps_add_up_and_lack_what_does_not_count(options):
    X = with_missing(np.random.default_rng(21))
    X[:, 2:5, :6] = np.nan
    X[3] = np.nan
    model = fitted(model_of(padding="same", padding_mode="edge", **options), X)
    maps = model.score_map(X)
    np.testing.assert_allclose(np.nansum(maps, axis=(1, 2)), model.score_samples(X), rtol=1e-9)
    assert np.isnan(maps[3]).all()
    if "assignment" not in options:
        joint = model.set_params(pooling=None).transform(X)
        assert np.isnan(maps[4]).any()
        np.testing.assert_array_equal(np.isnan(maps), np.isnan(joint[..., 0]))


def test_maps_of_several_sizes_add_up():
    rng = np.random.default_rng(27)
    X = [with_missing(rng, n=1, side=side)[0] for side in (9, 12, 9, 15)]
    model = fitted(model_of(), X)
    sums = [np.nansum(each) for each in model.score_map(X)]
    np.testing.assert_allclose(sums, model.score_samples(X), rtol=1e-9)


@pytest.mark.parametrize("options", OPTIONS)
def test_maps_and_pixels_of_complete_images_change_no_bit(options):
    X = np.random.default_rng(22).normal(size=(20, 9, 9))
    model = fitted(model_of(padding="same", pooling="tempered", **options), X)
    scores, pixels = model.score_map(X), model.transform_pixels(X)
    model.set_params(missing_values="error")
    np.testing.assert_array_equal(model.score_map(X), scores)
    np.testing.assert_array_equal(model.transform_pixels(X), pixels)


@pytest.mark.parametrize("pooling", ["triangle", "tempered", "mean"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dilation": 2},
        {"whiten": False},
        {"symmetry": "sign"},
        {"padding_mode": "constant", "whiten": False},
    ],
)
def test_features_of_pixels_are_means_of_what_is_there(options, pooling, monkeypatch):
    """Small tiles have the features of the whole image, as missing values are filled in alike."""
    rng = np.random.default_rng(23)
    model = model_of(padding="same", pooling=pooling, **options)
    model = fitted(model, with_missing(rng, side=20))
    X = with_missing(rng, n=2, side=20, share=0.2)
    X[1, 3:14, 2:15] = np.nan
    X[0, 0, :7] = np.nan
    found = model.transform_pixels(X, widths=0).reshape(2, 20, 20, 4)
    joint = model.set_params(pooling=None).transform(X)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(joint))
    assert 0 < np.isnan(found).sum() < found.size
    model.set_params(pooling=pooling)
    monkeypatch.setattr(_pixels, "TILE_BYTES", 1)
    monkeypatch.setattr(_pixels, "LEAST_TILE", 5)
    widths, pixels = (
        [0, 0.7, 2],
        np.array([[0, 0, 0], [0, 9, 12], [1, 1, 2], [1, 8, 8], [1, 3, 15]]),
    )
    features = model.transform_pixels(X, pixels, widths=widths)
    for row, (i, *pixel) in zip(features, pixels, strict=True):
        expected = pixel_features(found[i], pixel, widths)
        np.testing.assert_allclose(row, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("preprocessing", ["whitened", "both"])
def test_whitened_patches_are_those_of_filled_images(preprocessing, geometry):
    """Filled in within the reach of a patch, which is more than its size where it is dilated."""
    rng = np.random.default_rng(24)
    problem = make_problem(rng, "patch", preprocessing, geometry, weighted=False)
    X = problem.images.X.copy()
    X[rng.random(X.shape) < 0.4] = np.nan
    images = Images(X, problem.model.geometry, missing=Missing(0.6, True))
    problem = problem._replace(images=images, model=problem.model._replace(min_observed=0.6))
    parameters = problem.parameters(rng)
    setting = dataclasses.replace(problem.setting, padding=(0, 0))
    maps = engine_maps(problem, parameters)
    for i, image in enumerate(X):
        padded = _reference.pad(image, problem.setting.padding)
        whole = _missing.filled_in(padded, problem.model.geometry.reach)
        expected = _reference.log_joint(whole, twin(parameters), setting)
        np.testing.assert_allclose(maps[:, i], expected, rtol=1e-9, atol=1e-9)


def test_images_are_filled_as_by_the_twin():
    X = with_missing(np.random.default_rng(1), n=3, share=0.6, channels=2)
    X[0, :6, :, 1] = np.nan
    literal = [_missing.filled_in(x, (3, 4)) for x in X]
    np.testing.assert_allclose(filled(X, (3, 4)), literal, rtol=1e-10)


@pytest.mark.parametrize("options", OPTIONS)
def test_nothing_missing_changes_no_bit(options):
    X = np.random.default_rng(2).normal(size=(30, 9, 9))
    plain = fitted(model_of(**options).set_params(missing_values="error"), X)
    ignoring = fitted(model_of(**options), X)
    np.testing.assert_array_equal(ignoring.means_, plain.means_)
    assert ignoring.lower_bounds_ == plain.lower_bounds_
    np.testing.assert_array_equal(ignoring.transform(X), plain.transform(X))
    np.testing.assert_array_equal(ignoring.score_samples(X), plain.score_samples(X))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", OPTIONS)
def test_the_objective_never_falls(options, seed):
    X = with_missing(np.random.default_rng(seed))
    bounds = fitted(model_of(max_iter=20, **options), X).lower_bounds_
    assert (np.diff(bounds) > -1e-9 * np.abs(bounds[0])).all()


@pytest.mark.parametrize("pooling", ["triangle", "mean", "tempered", "logsumexp", "max", None])
@pytest.mark.parametrize("options", OPTIONS)
def test_what_is_behind_a_mask_never_matters(options, pooling):
    rng = np.random.default_rng(4)
    X = with_missing(rng)
    mask = np.isnan(X)
    garbage = np.where(mask, 1e300 * rng.normal(size=X.shape), X)
    garbage[0][mask[0]] = np.inf
    masked = np.ma.array(garbage, mask=mask)
    model = fitted(model_of(pooling=pooling, **options), X)
    other = fitted(model_of(pooling=pooling, **options), masked)
    np.testing.assert_array_equal(model.means_, other.means_)
    np.testing.assert_array_equal(model.transform(X), other.transform(masked))
    np.testing.assert_array_equal(model.score_samples(X), other.score_samples(masked))
    np.testing.assert_array_equal(model.score_map(X), other.score_map(masked))


@pytest.mark.parametrize("polarity", ["positive", "both"])
@pytest.mark.parametrize("seed", [0, 1])
def test_scores_times_contrast_are_those_of_what_is_there(polarity, seed):
    X = np.random.default_rng(seed).normal(size=(20, 9, 9))
    model = fitted(model_of(pooling=None, whiten=False, padding=0, min_observed=0.4), X)
    X[0, 2:4, 3:5] = np.nan
    joint = model.transform(X[:1])[0]
    model.set_params(pooling="triangle", pool_grid=7, pool_window="box", pool_contrast=0.5)
    features = model.set_params(polarity=polarity).transform(X[:1]).reshape(7, 7, -1)
    for r, c in np.ndindex(7, 7):  # each position is a region
        contrast = np.nanvar(X[0, r : r + 3, c : c + 3]) + model.contrast_floor_
        weight = (contrast / (100 * model.contrast_floor_)) ** 0.25
        score = weight * (joint[r, c] - joint[r, c].mean())
        expected = np.maximum(score, 0)
        if polarity == "both":
            expected = np.concatenate([expected, np.maximum(-score, 0)])
        np.testing.assert_allclose(features[r, c], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"whiten": False}])
def test_contrast_behind_a_mask_never_matters(options):
    X = with_missing(np.random.default_rng(4))
    masked = np.ma.array(np.nan_to_num(X, nan=1e300), mask=np.isnan(X))
    model = fitted(model_of(pool_contrast=1, padding="same", **options), X)
    np.testing.assert_array_equal(model.transform(X), model.transform(masked))
    np.testing.assert_array_equal(model.transform_pixels(X), model.transform_pixels(masked))


@pytest.mark.parametrize("options", [{}, {"whiten": False}])
def test_what_is_behind_a_mask_never_matters_to_pixels(options):
    X = with_missing(np.random.default_rng(4))
    masked = np.ma.array(np.nan_to_num(X, nan=1e300), mask=np.isnan(X))
    model = fitted(model_of(padding="same", **options), X)
    np.testing.assert_array_equal(model.transform_pixels(X), model.transform_pixels(masked))


@pytest.mark.parametrize("options", OPTIONS)
def test_weights_are_copies_and_batches_do_not_matter(options):
    X = with_missing(np.random.default_rng(5))
    weights = np.ones(len(X))
    weights[:5] = 2
    one = fitted(model_of(**options, batch_size=7), X, sample_weight=weights)
    two = fitted(model_of(**options, n_jobs=2), np.concatenate([X, X[:5]]))
    np.testing.assert_allclose(one.means_, two.means_, atol=1e-6)
    np.testing.assert_allclose(
        one.transform(X), one.set_params(batch_size=3).transform(X), atol=1e-9
    )


@pytest.mark.parametrize("window", ["box", "gaussian"])
@pytest.mark.parametrize("pooling", ["triangle", "mean", "tempered", "logsumexp"])
def test_pooled_features_are_those_of_the_positions_that_are_there(pooling, window):
    X = np.random.default_rng(6).normal(size=(20, 9, 9))
    model = fitted(model_of(pooling=None, whiten=False, padding=0, min_observed=1.0), X)
    X[0, 2:4, 3:5] = np.nan
    joint = model.transform(X[:1])[0]
    used = ~np.isnan(joint[..., 0])
    assert 0 < used.sum() < used.size
    model.set_params(pooling=pooling, pool_grid=2, pool_window=window)
    features = model.transform(X[:1])[0].reshape(4, -1)
    joint = np.nan_to_num(joint)
    shares = np.exp(joint - np.logaddexp.reduce(joint, axis=-1, keepdims=True))
    for region, count in enumerate(_reference.window_counts(window, (2, 2), 7, 7, 0.6)):
        weights = count * used
        for k in range(4):
            expected = 0.0
            if pooling == "logsumexp":
                total = sum(weights[u] * np.exp(joint[u][k]) for u in map(tuple, np.argwhere(used)))
                expected = np.log(total * count.sum() / weights.sum())
            else:
                for u in map(tuple, np.argwhere(used)):
                    expected += weights[u] * _reference.averaged(
                        joint[u], shares[u], pooling, k, 1, 9
                    )
                expected /= weights.sum()
            assert features[region, k] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_an_image_of_which_nothing_is_there_counts_for_nothing():
    X = with_missing(np.random.default_rng(7))
    gone = np.full_like(X[:2], np.nan)
    model, other = fitted(model_of(), X), fitted(model_of(), np.concatenate([X, gone]))
    np.testing.assert_allclose(model.means_, other.means_, atol=1e-9)
    assert np.isnan(model.transform(gone)).all()
    np.testing.assert_array_equal(model.score_samples(gone), 0)
    with pytest.raises(ValueError, match="misses too many values"):
        model_of().fit(gone)
    stepped = model_of().partial_fit(X).partial_fit(gone)
    assert np.isfinite(stepped.partial_fit(X).means_).all()


def test_by_default_missing_values_are_refused_with_a_hint():
    X = with_missing(np.random.default_rng(8))
    for bad in (X, np.ma.masked_invalid(X)):
        with pytest.raises(ValueError, match='missing_values="ignore"'):
            ConvGMMFeatures(4).fit(bad)
    assert not get_tags(ConvGMMFeatures()).input_tags.allow_nan
    assert get_tags(model_of()).input_tags.allow_nan
    X[3, 0, 0] = np.inf
    with pytest.raises(ValueError, match=r"infinity .first in image 3"):
        model_of().fit(X)


@pytest.mark.parametrize("seed", range(3))
def test_planted_kernels_are_found_though_a_third_is_missing(seed):
    X, truth = make_planted_patches(400, 3, patch_size=5, random_state=seed)
    X = X.astype(np.float64)
    X[np.random.default_rng(seed).random(X.shape) < 0.33] = np.nan
    # Near the truth, as EM may end elsewhere even with nothing missing.
    start = truth.means + np.random.default_rng(seed).normal(scale=0.5, size=truth.means.shape)
    model = ConvGMMFeatures(
        3,
        patch_size=5,
        assignment="image",
        normalize=None,
        whiten=False,
        missing_values="ignore",
        init_params=start,
        random_state=seed,
    )
    means = fitted(model, X).means_.reshape(3, -1)
    likeness = np.corrcoef(means, truth.means.reshape(3, -1))[:3, 3:]
    assert (likeness.max(axis=0) > 0.95).all()


@pytest.mark.parametrize("seed", range(2))
def test_what_is_behind_a_mask_is_not_learned_from_a_sample_of_patches(seed, monkeypatch):
    da = pytest.importorskip("dask.array")
    monkeypatch.setattr("sklearn_calm._mixture.seeds.MAX_PATCHES", 500)
    X = with_missing(np.random.default_rng(seed))
    models = []
    for garbage in (-1e3, 1e3):
        masked = np.ma.array(np.nan_to_num(X, nan=garbage), mask=np.isnan(X))
        lazy = da.from_array(masked, chunks=(7, -1, -1, -1))
        models += [fitted(model_of(), images) for images in (masked, lazy)]
    for other in models[1:]:
        np.testing.assert_allclose(other.means_, models[0].means_, rtol=1e-6, atol=1e-9)


def test_masked_dask_arrays_and_tensors():
    da, torch = pytest.importorskip("dask.array"), pytest.importorskip("torch")
    X = with_missing(np.random.default_rng(9))
    for options in OPTIONS:
        model = fitted(model_of(**options), X)
        expected, scores = model.transform(X), model.score_map(X)
        masked = np.ma.array(np.nan_to_num(X, nan=1e30), mask=np.isnan(X))
        lazy = da.from_array(masked, chunks=(7, -1, -1, -1))
        np.testing.assert_allclose(model.transform(lazy).compute(), expected, atol=1e-9)
        np.testing.assert_allclose(model.score_map(lazy).compute(), scores, rtol=1e-9)
        other = fitted(model_of(**options), lazy)
        np.testing.assert_allclose(other.means_, model.means_, atol=1e-6)
        tensors = fitted(model_of(**options), torch.asarray(X))
        np.testing.assert_allclose(tensors.means_.numpy(), model.means_, atol=1e-6)
        features = tensors.transform(torch.asarray(X)).numpy()
        np.testing.assert_allclose(features, expected, atol=1e-6)
        found = tensors.score_map(torch.asarray(X)).numpy()
        np.testing.assert_allclose(found, scores, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"whiten": False}])
def test_pixels_of_masked_dask_arrays_and_tensors(options):
    da, torch = pytest.importorskip("dask.array"), pytest.importorskip("torch")
    X = with_missing(np.random.default_rng(25), n=3, side=30)
    X[0, 4:20, 7:22] = np.nan
    model = fitted(model_of(padding="same", **options), X)
    expected = model.transform_pixels(X, widths=[0, 1])
    assert np.isnan(expected).any()
    masked = np.ma.array(np.nan_to_num(X, nan=1e30), mask=np.isnan(X))
    lazy = da.from_array(masked, chunks=(2, 13, 11, -1))
    found = model.transform_pixels(lazy, widths=[0, 1]).compute()
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-9)
    mask = np.random.default_rng(26).random(X.shape[:3]) < 0.1
    found = model.transform_pixels(lazy, mask, widths=[0, 1])
    np.testing.assert_allclose(found, expected[mask.ravel()], atol=1e-9)
    tensors = fitted(model_of(padding="same", **options), torch.asarray(X))
    found = tensors.transform_pixels(torch.asarray(X), widths=[0, 1]).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_graph_takes_complete_images():
    runtime, to_onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("sklearn_calm.onnx")
    X = with_missing(np.random.default_rng(10)).astype(np.float32)
    whole = np.nan_to_num(X)
    for options in OPTIONS[:3]:
        model = fitted(model_of(**options), X)
        session = runtime.InferenceSession(to_onnx.to_onnx(model, whole).SerializeToString())
        (columns,) = session.run(None, {"X": whole})
        np.testing.assert_allclose(columns, model.transform(whole), atol=1e-3)


def test_arrays_of_the_standard_may_miss_values():
    xp = pytest.importorskip("array_api_strict")
    X = with_missing(np.random.default_rng(11), n=12)
    for options in OPTIONS[:4]:
        model = fitted(model_of(**options), X)
        other = fitted(model_of(**options), xp.asarray(X))
        np.testing.assert_allclose(np.asarray(other.means_), model.means_, atol=1e-6)
        features = np.asarray(other.transform(xp.asarray(X)))
        np.testing.assert_allclose(features, model.transform(X), atol=1e-6)
        scores = np.asarray(other.score_map(xp.asarray(X)))
        np.testing.assert_allclose(scores, model.score_map(X), rtol=1e-6)
