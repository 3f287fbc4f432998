"""Images of several sizes: lists of them are fitted and transformed as each image alone is."""

import pickle

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from _models import PREPROCESSINGS, assert_same_model, make_images, small
from sklearn_calm import ConvGMMFeatures
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._images.sizes import SizedImages
from sklearn_calm._mixture import seeds
from sklearn_calm._mixture.seeds import sample_patches
from sklearn_calm.onnx import to_onnx
from sklearn_calm.plotting import TopPatchesDisplay

SHAPES = [(8, 9), (7, 12), (8, 9), (10, 6), (13, 8), (7, 12)]
SIGNALS = [make_images(i, 1, (3, 20 + 3 * (i % 5)))[0, 1] for i in range(12)]


def make_list(seed=0, n=24, channels=()):
    return [
        make_images(seed + i, 1, SHAPES[i % 6])[0].reshape(*SHAPES[i % 6], *(1,) * len(channels))
        * np.ones(channels)
        for i in range(n)
    ]


X = make_list()
preprocessings = pytest.mark.parametrize(
    "preprocessing", PREPROCESSINGS.values(), ids=PREPROCESSINGS
)


def literal_patches(images, size=(3, 3), stride=(1, 1)):
    """Every patch of every image, (m, height, width), and the number of its image."""
    patches = [
        image[y : y + size[0], x : x + size[1]]
        for image in images
        for y in range(0, image.shape[0] - size[0] + 1, stride[0])
        for x in range(0, image.shape[1] - size[1] + 1, stride[1])
    ]
    rows = [
        i
        for i, image in enumerate(images)
        for _ in range(0, image.shape[0] - size[0] + 1, stride[0])
        for _ in range(0, image.shape[1] - size[1] + 1, stride[1])
    ]
    return np.stack(patches), np.array(rows)


@preprocessings
@pytest.mark.parametrize("seed", [0, 1])
def test_a_fit_is_that_of_all_patches_as_tiny_images(preprocessing, seed):
    images = make_list(seed)
    patches, _ = literal_patches(images)
    model = small(random_state=seed, **preprocessing).fit(images)
    expected = small(random_state=seed, pool_grid=1, **preprocessing).fit(patches)
    assert_allclose(model.means_, expected.means_, rtol=1e-7, atol=1e-9)
    assert_allclose(model.noise_variance_, expected.noise_variance_, rtol=1e-7)
    n_patches = len(patches) / len(images)
    assert_allclose(model.lower_bounds_, n_patches * np.array(expected.lower_bounds_), rtol=1e-8)


def test_weights_are_those_of_all_patches_of_an_image():
    weights = np.random.default_rng(0).random(len(X)) + 0.1
    patches, rows = literal_patches(X)
    model = small().fit(X, sample_weight=weights)
    expected = small(pool_grid=1).fit(patches, sample_weight=weights[rows])
    assert_allclose(model.means_, expected.means_, rtol=1e-7, atol=1e-9)


def test_a_weight_is_a_number_of_copies():
    weights = 1 + np.arange(len(X)) % 3
    copies = [image for image, weight in zip(X, weights, strict=True) for _ in range(weight)]
    model, expected = small().fit(X, sample_weight=weights), small().fit(copies)
    assert_allclose(model.means_, expected.means_, rtol=1e-9)
    assert_allclose(model.lower_bounds_, expected.lower_bounds_, rtol=1e-9)


@pytest.mark.parametrize("tol", [0, 1e-2])
def test_the_order_of_images_does_not_matter(tol):
    images = make_list(3, 60)
    assert sum((image.shape[0] - 2) * (image.shape[1] - 2) for image in images) > 2048
    order = np.random.default_rng(0).permutation(60)
    shuffled = [images[i] for i in order]
    model = small(tol=tol, max_iter=20).fit(images)
    other = small(tol=tol, max_iter=20).fit(shuffled)
    assert_same_model(model, other)
    assert_array_equal(model.transform(images)[order], other.transform(shuffled))


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"padding": "auto", "pooling": "tempered"},
        {"pooling": "logsumexp", "stride": 2, "batch_size": 2},
        {"polarity": "both", "flatten": False, "n_jobs": 2},
        {"pool_contrast": 0.5},
        {"pooling": "mean", "padding": "same", "patch_size": 4},
        {"patch_size": 6, "padding": 0, "pool_grid": 1, "pooling": "max"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["transform", "score_samples"])
def test_each_image_has_the_features_that_it_has_alone(parameters, method):
    model = small(**parameters).fit(X)
    found = getattr(model, method)(X)
    alone = np.concatenate([getattr(model, method)(image[np.newaxis]) for image in X])
    assert found.shape == alone.shape
    assert_allclose(found, alone, rtol=1e-9, atol=1e-9)


def test_the_layer_is_that_of_a_fit_to_one_size():
    model = small(image_shape=(None, None)).fit(make_images(4))
    for shape in {image.shape for image in X}:
        images = make_images(5, 4, shape)
        fixed = small(init_params=model.means_, max_iter=1).fit(images)
        fixed.__dict__.update(
            {
                name: getattr(model, name)
                for name in ("_layer", "conv_weight_", "conv_bias_", "noise_variance_")
            },
            _model=fixed._model._replace(preprocessing=model._model.preprocessing),
        )
        assert_array_equal(model.transform(images), fixed.transform(images))
        assert_array_equal(model.score_samples(images), fixed.score_samples(images))


def test_a_free_fit_to_an_array_is_the_fit_to_the_array():
    images = make_images(0)
    free, fixed = small(image_shape=(None, None)).fit(images), small().fit(images)
    assert_same_model(free, fixed)
    assert free.image_shape_ == (None, None, 1)
    assert not hasattr(free, "n_features_in_")
    assert_array_equal(free.transform(images), fixed.transform(images))
    assert_same_model(small().fit(list(images)), fixed)


def test_maps_of_several_sizes_are_a_list():
    model = small(pooling=None).fit(X)
    maps = model.transform(X)
    assert [part.shape for part in maps] == [(h - 2, w - 2, 3) for h, w in (x.shape for x in X)]
    assert_allclose(maps[3], model.transform(X[3][np.newaxis])[0], rtol=1e-9)
    # They are images for a next layer.
    stack = make_pipeline(small(flatten=True, pooling=None), small(patch_size=2)).fit(X)
    assert stack[1].image_shape_ == (None, None, 3)
    assert stack.transform(X).shape == (24, 12)


def test_signals_of_unequal_length():
    model = small(image_shape="auto").fit(SIGNALS)
    assert model.image_shape_ == (1, None, 1)
    assert model.means_.shape == (3, 1, 3, 1)
    features = model.transform(SIGNALS)
    assert features.shape == (12, 2 * 3)
    assert_allclose(features[4], model.transform(SIGNALS[4][np.newaxis])[0], rtol=1e-9)
    assert model.transform(np.ones((5, 36))).shape == (5, 6)
    channels = [np.stack([signal, signal**2], axis=1) for signal in SIGNALS]
    model = small(image_shape=(1, None, 2)).fit(channels)
    assert model.means_.shape == (3, 1, 3, 2)
    expected = small().fit([signal[np.newaxis] for signal in channels])
    assert_same_model(model, expected)


def test_a_stream_of_lists():
    model = small().partial_fit(X[:12])
    assert model.image_shape_ == (None, None, 1)
    whole = small(max_iter=1).fit(X[:12])
    assert_allclose(model.means_, whole.means_, rtol=1e-9)
    assert_allclose(model.lower_bounds_, whole.lower_bounds_, rtol=1e-9)
    assert_allclose(model._statistics.counts, whole._statistics.counts, rtol=1e-9)
    expected = float(np.mean(model.score_samples(X[12:])))
    model.partial_fit(X[12:]).partial_fit(make_images(3, 5, (6, 11)))
    assert model.n_samples_seen_ == 29
    assert_allclose(model.lower_bounds_[1], expected, rtol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_step_on_a_list_of_one_size_is_the_step_on_the_array(seed):
    images = make_images(seed, 20)
    free = small(image_shape=(None, None)).partial_fit(images[:10])
    other = pickle.loads(pickle.dumps(free))
    free.partial_fit(images[10:])
    mixed = [image.reshape(8, 9, *(1,) * (i % 2)) for i, image in enumerate(images[10:])]
    other.partial_fit(mixed)
    assert_same_model(free, other, rtol=1e-7)


def test_positions_are_sampled_evenly(monkeypatch):
    monkeypatch.setattr(seeds, "MAX_PATCHES", 4000)
    images = [np.full((4, 4), 0.0), np.full((40, 40), 1.0), np.full((90, 40), 2.0)]
    geometry = PatchGeometry((4, 4, 1), (3, 3), (1, 1))
    shapes = [(*image.shape, 1) for image in images]
    source = SizedImages(images, shapes, geometry)
    sample = sample_patches(source, np.random.RandomState(0))
    assert not sample.complete
    shares = np.bincount(sample.patches[:, 0].astype(int)) / 4000
    expected = np.array([4, 38 * 38, 88 * 38]) / (4 + 38 * 38 + 88 * 38)
    assert_allclose(shares, expected, atol=0.03)
    model = small(normalize=None, whiten=False).fit([x + np.eye(*x.shape) for x in images])
    assert_allclose(model._statistics.counts.sum(), source.mean_positions, rtol=1e-6)


def test_patches_are_those_of_each_image():
    rng = np.random.default_rng(0)
    shapes = [(*image.shape, 1) for image in X]
    source = SizedImages(X, shapes, PatchGeometry((7, 6, 1), (3, 2), (2, 1), ((1, 0), (0, 2))))
    rows = np.sort(rng.integers(len(X), size=200))
    positions = rng.integers(source.n_positions[rows])
    found = source.patches(rows, positions)
    for patch, row, position in zip(found, rows, positions, strict=True):
        padded = np.pad(X[row], ((1, 0), (0, 2)))
        n_columns = padded.shape[1] - 1
        y, x = 2 * (position // n_columns), position % n_columns
        assert_array_equal(patch, padded[y : y + 3, x : x + 2].ravel())


HOLDERS = {
    "tuple": tuple(X),
    "column": pd.Series(X),
    "frame": pd.DataFrame({"image": X}),
    "tensors": [torch.asarray(image) for image in X],
    "lists": [image.tolist() for image in X],
    "flipped": [np.asfortranarray(image) for image in X],
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_whatever_holds_the_images(holder):
    model, expected = small().fit(holder), small().fit(X)
    assert_same_model(model, expected)
    assert_array_equal(model.transform(holder), expected.transform(X))


def test_the_precision_is_that_of_all_images():
    short = [image.astype(np.float32) for image in X]
    model = small().fit(short)
    assert model.means_.dtype == model.transform(short).dtype == np.float32
    assert model.transform([*short[:-1], X[-1]]).dtype == np.float64
    assert small().fit_transform([(9 * image).astype(np.int8) for image in X]).dtype == np.float32
    tensors = small(backend="torch").fit([image.astype(np.float32) for image in X])
    assert_allclose(tensors.transform(short), model.transform(short), rtol=1e-3, atol=1e-3)


def test_dask_arrays_of_other_sizes():
    model = small().fit(X)
    images = make_images(1, 6, (11, 7))
    lazy = model.transform(da.from_array(images, chunks=(4, -1, -1)))
    assert_allclose(lazy.compute(), model.transform(images), rtol=1e-9)


def test_scikit_learn_passes_lists_on():
    y = np.arange(24) % 2
    model = make_pipeline(small(), RidgeClassifier())
    assert cross_val_score(model, X, y, cv=3).shape == (3,)
    framed = small().set_output(transform="pandas").fit(X)
    assert [*framed.transform(X).columns] == [*framed.get_feature_names_out()]
    assert len(clone(framed).fit(X).set_params(pool_grid=(9, 9)).get_feature_names_out()) == 243


def test_pickles_transform_any_size():
    model = small().fit(X)
    restored = pickle.loads(pickle.dumps(model))
    assert restored.image_shape_ == (None, None, 1)
    assert_array_equal(restored.transform(X), model.transform(X))


def test_a_refit_to_one_size_has_one_size():
    rows = make_images(0, 20, (6, 6)).reshape(20, 36)
    model = small().fit(pd.DataFrame(rows, columns=[f"a{i}" for i in range(36)]))
    assert len(model.feature_names_in_) == 36
    model.fit(X)
    assert not hasattr(model, "n_features_in_")
    assert not hasattr(model, "feature_names_in_")
    assert model.fit(make_images(0)).image_shape_ == (8, 9, 1)
    assert model.n_features_in_ == 72


def test_graphs_of_any_one_size():
    onnxruntime = pytest.importorskip("onnxruntime")
    model = small(padding="auto").fit(X)
    for shape in ((8, 9), (13, 8)):
        images = make_images(2, 4, shape, np.float32)
        graph = to_onnx(model, images).SerializeToString()
        (found,) = onnxruntime.InferenceSession(graph).run(None, {"X": images})
        assert_allclose(found, model.transform(images), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="a graph takes images of one size"):
        to_onnx(model, X)


def test_other_images_are_refused():
    model = small().fit(X)
    with pytest.raises(ValueError, match=r"X\[1\] of shape \(2, 9\) is too small: padded to"):
        model.transform([X[0], X[0][:2]])
    with pytest.raises(ValueError, match=r"X\[2\] of shape \(3, 9\) is too small: pool_grid="):
        model.transform([*X[:2], X[0][:3]])
    assert model.score_samples([*X[:2], X[0][:3]]).shape == (3,)
    with pytest.raises(ValueError, match="more regions than the map"):
        model.transform(X[0][np.newaxis, :3])
    with pytest.raises(ValueError, match="holds no patch"):
        model.score_samples(X[0][np.newaxis, :2])
    with pytest.raises(ValueError, match=r"does not hold images of shape \(None, None, 1\)"):
        model.transform(np.ones((3, 64)))
    with pytest.raises(ValueError, match=r"image_shape=\(None, None, n_channels\)"):
        small().fit(make_images(0)).transform(X)
    with pytest.raises(ValueError, match='Set assignment="patch"'):
        small(assignment="image").fit(X)
    with pytest.raises(ValueError, match=r"first in image 5\)"):
        small().fit([image * (np.nan if i == 5 else 1) for i, image in enumerate(X)])
    with pytest.raises(ValueError, match=r"X\[1\] has dtype complex128"):
        small().fit([X[0], X[1] + 1j])
    with pytest.raises(ValueError, match=r"masked array.*first in image 1"):
        small().fit([X[0], np.ma.masked_greater(X[1], 0)])
    with pytest.raises(ValueError, match="too few for n_components=99"):
        small(n_components=99).fit(X[:2])
    with pytest.raises(ValueError, match="display draws images of one size"):
        TopPatchesDisplay.from_estimator(model, X)


@pytest.mark.parametrize(
    ("images", "sentence", "image_shape"),
    [
        ([np.eye(20 + i, 3) for i in range(5)], "signals of 3 channels", (None, None)),
        ([np.ones((9 + i, 8, 8)) for i in range(2)], r"np\.concatenate\(X\)", (None, None, 8)),
        ([np.ones((3, 16 + i, 20)) for i in range(2)], "channels come first", (None, None, 20)),
    ],
)
@pytest.mark.filterwarnings("ignore:.*distinct kernel")
@pytest.mark.filterwarnings("ignore:.*components explain next to nothing")
def test_odd_layouts_of_lists_are_told(images, sentence, image_shape):
    options = {"patch_size": 2, "pool_grid": 1}
    rng = np.random.default_rng(0)
    images = [image + rng.normal(size=image.shape) for image in images]
    with pytest.warns(UserWarning, match=sentence) as caught:
        small(**options).fit(images)
    assert caught[0].filename == __file__
    small(image_shape=image_shape, **options).fit(images)


def test_the_twin_of_the_log_likelihood():
    model = ConvGMMFeatures(
        3, patch_size=3, padding=0, normalize=None, whiten=False, max_iter=2, tol=0, random_state=0
    ).fit(X)
    found = model.score_samples(X)
    variance = model.noise_variance_
    for image, score in zip(X, found, strict=True):
        patches, _ = literal_patches([image])
        differences = patches[:, None] - model.means_[..., 0]
        squares = np.square(differences).sum(axis=(2, 3))
        joint = np.log(model.weights_) - squares / (2 * variance)
        joint -= 4.5 * np.log(2 * np.pi * variance)
        assert_allclose(score, np.logaddexp.reduce(joint, axis=1).sum(), rtol=1e-9)


@pytest.mark.parametrize("whiten", [False, True])
def test_missing_values_of_several_sizes(whiten):
    """What lies behind a mask changes nothing, and each image has its features alone."""
    rng = np.random.default_rng(18)
    images = [rng.random((height, 12)) for height in rng.integers(9, 15, size=12)]
    masks = [rng.random(image.shape) < 0.2 for image in images]
    holes = [np.where(mask, np.nan, x) for x, mask in zip(images, masks, strict=True)]
    masked = [
        np.ma.array(np.where(mask, np.inf, x), mask=mask)
        for x, mask in zip(images, masks, strict=True)
    ]
    model = small(missing_values="ignore", whiten=whiten, normalize=None)
    by_nan, by_mask = (clone(model).fit(X) for X in (holes, masked))
    assert_same_model(by_nan, by_mask)
    features = by_nan.transform(holes)
    assert_array_equal(by_mask.transform(masked), features)
    alone = np.concatenate([by_nan.transform(image[None]) for image in holes])
    assert_allclose(features, alone, rtol=1e-9)
    complete = clone(model).set_params(missing_values="error")
    assert_same_model(clone(model).fit(images), complete.fit(images))


@pytest.mark.parametrize("pool_symmetry", ["image", "region", None])
def test_maps_of_tied_kernels_are_those_of_each_image(pool_symmetry):
    model = small(symmetry="mirror", pooling=None, pool_symmetry=pool_symmetry).fit(X)
    for image, found in zip(X, model.transform(X), strict=True):
        assert_allclose(found, model.transform(image[np.newaxis])[0], rtol=1e-12, atol=1e-12)


def test_maps_are_a_list_even_where_their_sizes_are_equal():
    images = [*make_images(60, 6, (6, 8)), *make_images(61, 6, (6, 9))]
    model = small(pooling=None, stride=4, padding=0, n_components=2).fit(images)
    for maps in (model.transform(images), model.score_map(images)):
        assert isinstance(maps, list)
        assert {found.shape[:2] for found in maps} == {(1, 2)}
    second = small(
        patch_size=1, normalize=None, n_components=2, pool_grid=1, image_shape=(None, None, 2)
    )
    chain = make_pipeline(model, second).fit(images)
    assert len(chain.transform([np.ones((20, 22)), np.ones((22, 25))])) == 2


def test_the_grid_of_regions_need_not_fit_maps_that_are_not_pooled():
    images = [*make_images(62, 6, (6, 8)), *make_images(63, 6, (7, 8))]
    model = small(pooling=None, stride=3, pool_grid=(4, 4)).fit(images)
    assert len(model.transform(images)) == len(images)
    with pytest.raises(ValueError, match="more regions than the map"):
        small(stride=3, pool_grid=(4, 4)).fit(images)


def test_the_score_of_a_position_does_not_depend_on_how_many_there_are():
    options = {"normalize": None, "whiten": False, "stride": 3, "padding": 0, "pool_grid": 1}
    model = small(patch_size=5, image_shape=(None, None), **options).fit(X)
    image = make_images(50, 1, (8, 8))
    crops = [image[:, :height, :width] for height, width in ((5, 5), (6, 6), (7, 7), (8, 8))]
    first = [model.score_map(crop)[0, 0, 0] for crop in crops]
    assert_allclose(first, first[0], rtol=1e-12)


def test_a_list_has_no_columns_of_an_earlier_fit():
    rows = pd.DataFrame(make_images(0, 12, (6, 6)).reshape(12, 36)).add_prefix("pixel")
    model = small(image_shape=(6, 6), padding=0).fit(rows)
    assert len(model.feature_names_in_) == 36
    model.fit([*rows.to_numpy().reshape(12, 6, 6)[:6], *rows.to_numpy()[6:]])
    assert not hasattr(model, "feature_names_in_")
