import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import kmeans_plusplus

import _reference
from _twins import geometries, literal_patches, make_problem
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._images.reader import Images
from sklearn_calm._mixture.preprocessing import Preprocessing
from sklearn_calm._mixture.seeds import (
    SEED_LENGTH,
    PatchSample,
    choose_seeds,
    distinct,
    drawn_in,
    least_square_distances,
    patches_to_fit,
    sample_patches,
    starting_means,
)

inits = pytest.mark.parametrize("init", ["k-means++", "random_from_data"])
seeds = pytest.mark.parametrize("seed", [0, 1, 2])


def rows_of(patches):
    return {patch.tobytes() for patch in patches}


def whole_sample(patches, weights=None):
    return PatchSample(patches, np.ones(len(patches)) if weights is None else weights, True)


# The sample


@geometries
def test_few_patches_are_all_taken_with_their_weights(geometry):
    problem = make_problem(np.random.default_rng(0), geometry=geometry)
    sample = sample_patches(problem.images, np.random.RandomState(0))
    expected = literal_patches(problem)
    assert sample.complete
    assert_array_equal(sample.patches, expected.reshape(-1, expected.shape[-1]))
    assert_array_equal(sample.weights, np.repeat(problem.sample_weight, expected.shape[1]))


@geometries
def test_many_patches_are_sampled_evenly_over_positions(geometry):
    problem = make_problem(np.random.default_rng(4), geometry=geometry, weighted=False)
    images = Images(problem.images.X, problem.model.geometry)
    expected = literal_patches(problem)
    n_patches = expected.shape[0] * expected.shape[1]
    repeated = Images(np.repeat(images.X, 100, axis=0), images.geometry)
    sample = sample_patches(repeated, np.random.RandomState(0), max_patches=50 * n_patches)
    assert not sample.complete
    assert len(sample.patches) == 50 * n_patches
    assert_array_equal(sample.weights, np.ones(50 * n_patches))
    kinds, counts = np.unique(sample.patches, axis=0, return_counts=True)
    assert rows_of(kinds) == rows_of(expected.reshape(n_patches, -1))
    # Each is expected 50 times, plus or minus six deviations. Padding makes some patches equal.
    if len(kinds) == n_patches:
        assert np.abs(counts - 50).max() < 6 * np.sqrt(50)


def test_sampling_follows_the_weights_and_leaves_out_zeros():
    X = np.repeat(np.arange(4.0), 64).reshape(4, 8, 8)
    images = Images(X, PatchGeometry((8, 8, 1), (2, 2), (1, 1)), np.array([0.0, 1, 0, 3]))
    whole = sample_patches(images, np.random.RandomState(0))
    assert set(whole.patches[:, 0]) == {1, 3}
    assert_array_equal(whole.weights, whole.patches[:, 0])
    many = Images(np.tile(X, (50, 1, 1)), images.geometry, np.tile(images.sample_weight, 50))
    sample = sample_patches(many, np.random.RandomState(0), max_patches=4000)
    values = sample.patches[:, 0]
    assert set(values) == {1, 3}
    assert abs(np.mean(values == 3) - 3 / 4) < 6 * np.sqrt(3 / 16 / 4000)


def test_sample_is_bounded_in_patches_and_in_values(monkeypatch):
    problem = make_problem(np.random.default_rng(5))
    monkeypatch.setattr("sklearn_calm._mixture.seeds.MAX_PATCHES", 30)
    assert len(sample_patches(problem.images, np.random.RandomState(0)).patches) == 30
    assert len(sample_patches(problem.images, np.random.RandomState(0), 20).patches) == 20
    monkeypatch.setattr(
        "sklearn_calm._mixture.seeds.MAX_VALUES", 10 * problem.model.geometry.patch_length
    )
    assert len(sample_patches(problem.images, np.random.RandomState(0)).patches) == 10


@pytest.mark.parametrize(
    ("subsample", "n_components", "expected"),
    [
        ("auto", 1, 20_000),
        ("auto", 80, 20_000),
        ("auto", 81, 20_250),
        ("auto", 800, 200_000),
        ("auto", 1600, 200_000),
        (700, 81, 700),
        (10**6, 1, 10**6),
    ],
)
def test_more_components_are_fitted_to_more_patches(subsample, n_components, expected):
    assert patches_to_fit(subsample, n_components) == expected


# Equal patches


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_distinct_joins_equal_patches_in_an_order_of_their_own(dtype, seed):
    rng = np.random.default_rng(seed)
    kinds = rng.integers(-2, 3, size=(20, 4)).astype(dtype)
    kinds = np.unique(kinds, axis=0)
    counts = rng.integers(1, 4, size=len(kinds))
    patches = np.repeat(kinds, counts, axis=0)
    expected_patches, expected_weights = distinct(kinds, counts.astype(float))
    assert rows_of(expected_patches) == rows_of(kinds)
    for _ in range(3):
        order = rng.permutation(len(patches))
        found, weights = distinct(patches[order], np.ones(len(patches)))
        assert_array_equal(found, expected_patches)
        assert_array_equal(weights, expected_weights)
    for patch, weight in zip(expected_patches, expected_weights, strict=True):
        assert weight == counts[(kinds == patch).all(axis=1)].sum()


# Starting means


@inits
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_weight_two_is_given_twice_in_any_order(init, seed):
    rng = np.random.default_rng(seed)
    patches = rng.normal(size=(60, 5))
    counts = rng.integers(1, 4, size=60)
    repeated = np.repeat(patches, counts, axis=0)
    order = rng.permutation(len(repeated))
    whitener = rng.normal(size=(5, 5))
    preprocessing = Preprocessing(None, rng.normal(size=5), whitener @ whitener.T)

    def means(sample):
        return starting_means(init, sample, preprocessing, 7, np.random.RandomState(seed))

    weighted = means(whole_sample(patches, counts.astype(float)))
    assert_array_equal(means(whole_sample(repeated)), weighted)
    assert_array_equal(means(whole_sample(repeated[order])), weighted)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_many_seeds_are_chosen_in_groups_of_all_points(monkeypatch, seed):
    monkeypatch.setattr("sklearn_calm._mixture.seeds.SEEDS_TOGETHER", 3)
    rng = np.random.default_rng(seed)
    points, weights = rng.normal(size=(50, 4)), rng.uniform(0.2, 3, size=50)
    chosen = choose_seeds(points, weights, 11, np.random.RandomState(seed))
    assert len(set(chosen)) == 11
    # The same draws, told step by step: three groups, of 3, 4 and 4 seeds.
    state, expected = np.random.RandomState(seed), []
    order = state.permutation(50)
    for group, n_seeds in enumerate([3, 4, 4]):
        rows = [order[i] for i in range(50) if i % 3 == group]
        _, found = kmeans_plusplus(
            points[rows], n_seeds, sample_weight=weights[rows], random_state=state
        )
        expected += [rows[i] for i in found]
    assert_array_equal(chosen, expected)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_seeds_in_groups_do_not_depend_on_copies_and_order(monkeypatch, seed):
    monkeypatch.setattr("sklearn_calm._mixture.seeds.SEEDS_TOGETHER", 3)
    test_weight_two_is_given_twice_in_any_order("k-means++", seed)


@pytest.mark.parametrize("n_points", [30, 39])
def test_few_points_are_not_divided(monkeypatch, n_points):
    monkeypatch.setattr("sklearn_calm._mixture.seeds.SEEDS_TOGETHER", 2)
    points = np.random.default_rng(9).normal(size=(n_points, 3))
    chosen = choose_seeds(points, np.ones(n_points), 10, np.random.RandomState(0))
    assert_array_equal(chosen, kmeans_plusplus(points, 10, random_state=0)[1])


@inits
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_means_are_different_patches(init, dtype):
    rng = np.random.default_rng(6)
    patches = np.repeat(rng.normal(size=(12, 4)).astype(dtype), 3, axis=0)
    means = starting_means(
        init, whole_sample(patches), Preprocessing(), 12, np.random.RandomState(0)
    )
    assert means.dtype == np.float64
    assert rows_of(means) == rows_of(patches.astype(np.float64))


@inits
def test_means_repeat_where_there_are_too_few_patches(init):
    patches = np.repeat(np.random.default_rng(7).normal(size=(3, 4)), 5, axis=0)
    means = starting_means(
        init, whole_sample(patches), Preprocessing(), 8, np.random.RandomState(0)
    )
    assert means.shape == (8, 4)
    assert rows_of(means) == rows_of(patches)


@inits
def test_a_large_sample_is_thinned(init, monkeypatch):
    seen = []

    def distinct_of(patches, weights):
        seen.append(len(patches))
        return distinct(patches, weights)

    monkeypatch.setattr("sklearn_calm._mixture.seeds.distinct", distinct_of)
    patches = np.random.default_rng(8).normal(size=(10_001, 2))
    sample = whole_sample(patches)
    means = starting_means(init, sample, Preprocessing(), 3, np.random.RandomState(0))
    again = starting_means(init, sample, Preprocessing(), 3, np.random.RandomState(0))
    assert rows_of(means) <= rows_of(patches)
    assert_array_equal(means, again)
    assert seen == [10_001, 10_000] * 2


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_k_means_plus_plus_spreads_in_the_whitened_space(seed):
    rng = np.random.default_rng(seed)
    # Five groups along a direction that only whitening makes the larger one.
    group = np.repeat(np.arange(5), 40)
    patches = np.column_stack([rng.normal(size=200) * 1e3, group + 0.01 * rng.normal(size=200)])
    preprocessing = Preprocessing(None, np.zeros(2), np.diag([1e-6, 1e3]))
    means = starting_means(
        "k-means++", whole_sample(patches), preprocessing, 5, np.random.RandomState(seed)
    )
    assert_array_equal(np.sort(np.round(means[:, 1])), np.arange(5))


@pytest.mark.parametrize("init", ["k-means++", "random_from_data"])
def test_heavy_patches_are_chosen_more_often(init):
    patches = np.arange(20.0).reshape(20, 1) % 2 * 1e-3 + np.arange(20).reshape(20, 1) * 1e-6
    weights = np.where(np.arange(20) == 13, 1e6, 1.0)
    for seed in range(5):
        means = starting_means(
            init, whole_sample(patches, weights), Preprocessing(), 1, np.random.RandomState(seed)
        )
        assert_array_equal(means[0], patches[13])


def test_random_means_are_standard_normal():
    sample = whole_sample(np.zeros((2, 50)))
    means = starting_means("random", sample, Preprocessing(), 200, np.random.RandomState(0))
    assert means.shape == (200, 50)
    assert abs(means.mean()) < 0.05
    assert abs(means.std() - 1) < 0.05


def test_given_means_are_taken():
    given = np.random.default_rng(9).normal(size=(3, 4)).astype(np.float32)
    means = starting_means(given, whole_sample(np.zeros((2, 4))), Preprocessing(), 3, None)
    assert means.dtype == np.float64
    assert_allclose(means, given)


# Seeds drawn in


def heavy_tailed(rng, n, length, freedom=3):
    """Patches of a multivariate t distribution: no clusters, a few far out."""
    scale = np.sqrt(rng.chisquare(freedom, size=(n, 1)) / freedom)
    return rng.normal(size=(n, length)) @ rng.normal(size=(length, length)) / scale + 1


def clustered(rng, n, length, n_groups, noise):
    """Patches of which each lies next to one of a few points."""
    centres = rng.normal(size=(n_groups, length))
    return centres[rng.permutation(n) % n_groups] + noise * rng.normal(size=(n, length))


def whitened(patches):
    return Preprocessing(None, *_reference.whitening(patches, np.ones(len(patches)), 0.1))


def lengths_of(vectors, preprocessing):
    """Distance from the mean in the whitened space."""
    return np.linalg.norm((vectors - preprocessing.mean) @ preprocessing.whitener, axis=1)


def origins(means, patches, preprocessing):
    """The patches on whose ray from the mean the means lie; none but these are near it."""
    rays = [vectors - preprocessing.mean for vectors in (means, patches)]
    a, b = (ray / np.linalg.norm(ray, axis=1, keepdims=True) for ray in rays)
    cosines = a @ b.T
    assert_allclose(cosines.max(axis=1), 1, rtol=1e-12)
    assert ((cosines > 1 - 1e-9).sum(axis=1) == 1).all()
    return patches[cosines.argmax(axis=1)]


@inits
@seeds
def test_far_seeds_end_near_the_mean(init, seed):
    patches = heavy_tailed(np.random.default_rng(seed), 2000, 100)
    preprocessing = whitened(patches)
    means = starting_means(
        init, whole_sample(patches), preprocessing, 20, np.random.RandomState(seed)
    )
    chosen = origins(means, patches, preprocessing)
    points, centres = (preprocessing.whiten(vectors) for vectors in (patches, chosen))
    square = np.square(points).sum(axis=1).mean()
    error = np.mean([np.square(centres - y).sum(axis=1).min() for y in points])
    assert error > 0.8 * square  # no clusters
    assert lengths_of(chosen, preprocessing).max() > 1.5 * np.sqrt(square)
    longest = SEED_LENGTH * np.sqrt(square * max(square / error, 1))
    assert lengths_of(means, preprocessing).max() < longest


@inits
@seeds
def test_seeds_keep_their_direction_and_the_order_of_their_lengths(init, seed):
    patches = heavy_tailed(np.random.default_rng(seed + 10), 1000, 30)
    preprocessing = whitened(patches)
    means = starting_means(
        init, whole_sample(patches), preprocessing, 20, np.random.RandomState(seed)
    )
    chosen = origins(means, patches, preprocessing)
    assert len(rows_of(chosen)) == 20
    before, after = lengths_of(chosen, preprocessing), lengths_of(means, preprocessing)
    assert (after < before).all()
    assert_array_equal(np.argsort(after), np.argsort(before))


@seeds
def test_seeds_of_clusters_stay_nearly_where_they_were(seed):
    patches = clustered(np.random.default_rng(seed), 400, 20, 8, noise=1e-3)
    preprocessing = whitened(patches)
    means = starting_means(
        "k-means++", whole_sample(patches), preprocessing, 8, np.random.RandomState(seed)
    )
    chosen = origins(means, patches, preprocessing)
    moved = np.linalg.norm(means - chosen, axis=1)
    assert (moved < 1e-3 * np.linalg.norm(chosen - preprocessing.mean, axis=1)).all()
    # One of each cluster.
    distances = np.linalg.norm(means[:, np.newaxis] - means, axis=2)
    assert distances[~np.eye(8, dtype=bool)].min() > 1


@inits
@seeds
def test_seeds_that_are_not_whitened_are_patches(init, seed):
    patches = heavy_tailed(np.random.default_rng(seed + 20), 500, 30)
    for preprocessing in (Preprocessing(), Preprocessing(0.1)):
        means = starting_means(
            init, whole_sample(patches), preprocessing, 20, np.random.RandomState(seed)
        )
        assert len(rows_of(means)) == 20
        assert rows_of(means) <= rows_of(patches)


@inits
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_seeds_of_all_patches_stay_and_repeat(init, dtype):
    patches = np.repeat(np.random.default_rng(30).normal(size=(12, 7)).astype(dtype), 3, axis=0)
    preprocessing = whitened(patches)
    for n_components in (12, 30):
        means = starting_means(
            init, whole_sample(patches), preprocessing, n_components, np.random.RandomState(0)
        )
        assert len(rows_of(means)) == 12
        assert_allclose(means, origins(means, patches[::3], preprocessing), rtol=1e-9)


@pytest.mark.parametrize("kind", ["heavy_tailed", "clustered"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@seeds
def test_seeds_are_drawn_in_as_the_literal_twin_does(kind, dtype, seed):
    rng = np.random.default_rng(seed + 40)
    if kind == "clustered":
        patches = clustered(rng, 80, 6, 5, noise=0.1)
    else:
        patches = heavy_tailed(rng, 80, 6)
    patches, weights = patches.astype(dtype), rng.uniform(0.2, 3, size=80)
    mean, whitener = _reference.whitening(patches.astype(np.float64), weights, 0.1)
    chosen = patches[rng.choice(80, 5, replace=False)].astype(np.float64)
    expected = _reference.drawn_in(chosen, patches, weights, mean, whitener, SEED_LENGTH)
    found = drawn_in(chosen, patches, weights, Preprocessing(None, mean, whitener))
    assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert np.abs(found - chosen).max() > 0.1
    everything = patches.astype(np.float64)
    assert_allclose(
        drawn_in(everything, patches, weights, Preprocessing(None, mean, whitener)),
        _reference.drawn_in(everything, patches, weights, mean, whitener, SEED_LENGTH),
        rtol=1e-9,
    )


@pytest.mark.parametrize("held", [1, 7, 100])
def test_least_distances_are_literal(monkeypatch, held):
    rng = np.random.default_rng(6)
    points, centres = rng.normal(size=(23, 4)), rng.normal(size=(3, 4))
    expected = [min(np.sum((point - centre) ** 2) for centre in centres) for point in points]
    monkeypatch.setattr("sklearn_calm._mixture.seeds.HELD_DISTANCES", held)
    assert_allclose(least_square_distances(points, centres), expected, rtol=1e-9)
