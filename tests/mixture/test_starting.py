import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _reference
from _twins import (
    assignments,
    make_em,
    make_problem,
    preprocessings,
)
from sklearn_calm._arrays.execution import single_threaded_blas
from sklearn_calm._mixture.em import VARIANCE_FLOOR
from sklearn_calm._mixture.preprocessing import fit_preprocessing, normalize_contrast
from sklearn_calm._mixture.seeds import sample_patches
from sklearn_calm._mixture.starting import prepare, start, start_variance

PREPARED = {"normalize": "contrast", "whiten": True, "reg_covar": 0.1}


@pytest.mark.parametrize(("normalize", "whiten"), [(None, False), ("contrast", True)])
@assignments
def test_what_is_prepared_is_what_all_patches_give(assignment, normalize, whiten):
    problem = make_problem(np.random.default_rng(5), assignment, n_images=5)
    images, model, whole, sample, scale = prepare(
        problem.images,
        assignment,
        normalize=normalize,
        whiten=whiten,
        reg_covar=0.1,
        rng=np.random.RandomState(0),
    )
    raw = sample_patches(problem.images, np.random.RandomState(0))
    with single_threaded_blas():
        expected = fit_preprocessing(
            raw.patches, raw.weights, normalize=normalize, whiten=whiten, reg_covar=0.1
        )
    assert images is problem.images
    assert model.geometry == problem.model.geometry
    assert model.cells == problem.model.cells
    assert_array_equal(sample.patches, normalize_contrast(raw.patches, expected.contrast_floor))
    assert_array_equal(sample.weights, raw.weights)
    assert model is whole
    assert scale == 1
    if whiten:
        assert_array_equal(model.preprocessing.whitener, expected.whitener)
    else:
        assert model.preprocessing.is_identity


def test_preprocessing_is_kept_where_it_is_given():
    problem = make_problem(np.random.default_rng(6), "image", "both")
    prepared = prepare(
        problem.images,
        "image",
        **PREPARED,
        rng=np.random.RandomState(0),
        preprocessing=problem.model.preprocessing,
    )
    assert prepared.model.preprocessing is problem.model.preprocessing
    raw = sample_patches(problem.images, np.random.RandomState(0)).patches
    expected = normalize_contrast(raw, problem.model.preprocessing.contrast_floor)
    assert_array_equal(prepared.sample.patches, expected)


def test_of_very_many_patches_a_sample_is_fitted(monkeypatch):
    rng = np.random.default_rng(7)
    problem = make_problem(rng, "patch", n_images=30)
    monkeypatch.setattr("sklearn_calm._mixture.seeds.MAX_PATCHES", 300)
    random = {"rng": np.random.RandomState(0)}
    prepared = prepare(problem.images, "patch", **PREPARED, **random)
    images, model, whole, sample, scale = prepared
    assert len(images) == len(sample.patches) == 300
    assert model.cells.n_cells == model.geometry.n_positions == 1
    assert model.geometry.kernel_shape == problem.model.geometry.kernel_shape
    # The sampled patches are normalised already.
    assert whole.preprocessing.contrast_floor > 0
    assert whole.geometry == problem.model.geometry
    assert scale == prepared.cells_per_image == whole.cells.n_cells
    assert model.preprocessing.contrast_floor is None
    assert_array_equal(images.X.reshape(300, -1), sample.patches)
    # One pass over the sampled patches is a pass of an ordinary mixture over them.
    parameters = problem.parameters(rng)
    statistics = make_em(prepared, batch_size=64).statistics(parameters)
    y = model.preprocessing.whiten(sample.patches)
    theta = model.preprocessing.whiten(parameters.means)
    distances = ((y[:, None] - theta) ** 2).sum(axis=2)
    gamma = parameters.weights * np.exp(-distances / (2 * 0.7))
    gamma /= gamma.sum(axis=1, keepdims=True)
    assert_allclose(statistics.counts, gamma.sum(axis=0), rtol=1e-9)
    assert_allclose(statistics.sums, gamma.T @ sample.patches, rtol=1e-9, atol=1e-9)


def test_of_very_many_patches_a_sample_is_prepared_where_images_are_fitted(monkeypatch):
    problem = make_problem(np.random.default_rng(8), (2, 3), n_images=30)
    monkeypatch.setattr("sklearn_calm._mixture.starting.SEED_PATCHES", 100)
    random = {"rng": np.random.RandomState(0)}
    images, model, _, sample, _ = prepare(problem.images, (2, 3), **PREPARED, **random)
    assert images is problem.images
    assert len(sample.patches) == 100
    assert model.cells == problem.model.cells


@assignments
@preprocessings
@pytest.mark.parametrize("noise_variance", ["auto", 0.3])
def test_noise_starts_from_the_nearest_mean_or_from_the_background(
    assignment, preprocessing, noise_variance
):
    problem = make_problem(np.random.default_rng(9), assignment, preprocessing)
    model = problem.model
    raw = sample_patches(problem.images, np.random.RandomState(0))
    sample = raw._replace(
        patches=normalize_contrast(raw.patches, model.preprocessing.contrast_floor)
    )
    rng = np.random.RandomState(0)
    parameters = start(sample, model, 3, "k-means++", noise_variance, rng)
    assert_array_equal(parameters.weights, np.full(3, 1 / 3))
    if noise_variance != "auto":
        assert parameters.noise_variance == noise_variance
        return
    setting = problem.setting
    total = weight = 0.0
    for image, w in zip(problem.images.X, problem.sample_weight, strict=True):
        for y in _reference.preprocessed_patches(image, setting).reshape(-1, 6):
            centres = np.zeros((1, 6))
            if assignment == "patch":
                centres = [
                    _reference.preprocess(mean, None, setting.mean, setting.whitener)
                    for mean in parameters.means
                ]
            total += w * min(np.mean((y - centre) ** 2) for centre in centres)
            weight += w
    assert parameters.noise_variance == pytest.approx(total / weight, rel=1e-8)


def test_start_variance_is_kept_above_rounding_errors():
    errors, squares, weights = np.array([1.0, 4.0]), np.array([8.0, 4.0]), np.array([3.0, 1.0])
    assert start_variance(errors, squares, weights) == 1.75
    assert start_variance(0 * errors, squares, weights) == pytest.approx(7 * VARIANCE_FLOOR)
    assert start_variance(0 * errors, 0 * squares, weights) == 1.0
