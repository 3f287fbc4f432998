"""Estimators whose kernels are tied by a symmetry."""

import itertools
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from _models import POOLINGS, SMALL, assert_same_model
from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay, ResponsibilityDisplay, TopPatchesDisplay

# Of each group, what it makes of images (n, rows, columns).
TURNS = {
    "mirror": lambda X: X[:, :, ::-1],
    "rotation": lambda X: np.rot90(X, 1, (1, 2)),
    "sign": lambda X: -X,
    ("mirror", "rotation"): lambda X: np.rot90(X[:, :, ::-1], 3, (1, 2)),
    ("mirror", "sign"): lambda X: -X[:, :, ::-1],
}

groups = pytest.mark.parametrize("symmetry", TURNS, ids=str)


def tied(symmetry, **parameters):
    return ConvGMMFeatures(**{**SMALL, "symmetry": symmetry, **parameters})


def make_images(seed, n=30, shape=(9, 9), dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, *shape)).cumsum(axis=1).cumsum(axis=2).astype(dtype)


def largest_difference(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@groups
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(("pool_grid", "padding"), [(1, 0), (1, "auto"), (3, 1)])
@pytest.mark.parametrize("assignment", ["patch", "image"])
def test_features_of_a_turned_image_are_those_of_the_image(
    symmetry, pooling, pool_grid, padding, assignment
):
    X = make_images(0)
    options = {"pooling": pooling, "pool_grid": pool_grid, "padding": padding}
    model = tied(symmetry, assignment=assignment, **options).fit(X)
    assert largest_difference(model.transform(TURNS[symmetry](X)), model.transform(X)) < 1e-10
    plain = tied(None, assignment=assignment, **options).fit(X)
    assert largest_difference(plain.transform(TURNS[symmetry](X)), plain.transform(X)) > 1e-3


@groups
@pytest.mark.parametrize("pooling", POOLINGS)
def test_regions_of_a_turned_image_are_the_turned_regions(symmetry, pooling):
    X = make_images(1)
    options = {"pooling": pooling, "pool_grid": 3, "padding": "auto"}
    model = tied(symmetry, pool_symmetry="region", flatten=False, **options).fit(X)
    expected = np.abs(TURNS[symmetry](model.transform(X)))
    assert expected.shape == (30, 3, 3, 24 if pooling == "proportion" else 3)
    assert largest_difference(np.abs(model.transform(TURNS[symmetry](X))), expected) < 1e-10


@groups
def test_maps_of_a_turned_image_are_the_turned_maps(symmetry):
    X = make_images(2)
    model = tied(symmetry, pooling=None).fit(X)
    maps, turn = model.transform(X), TURNS[symmetry]
    expected = -turn(maps) if "sign" in np.atleast_1d(symmetry) else turn(maps)
    assert largest_difference(model.transform(turn(X)), expected) < 1e-10
    kept = model.set_params(pool_symmetry=None).transform(X)
    order = len(model.conv_bias_) // 3
    assert kept.shape == (30, 7, 7, 3 * order)
    marginal = np.logaddexp.reduce(kept.reshape(30, 7, 7, 3, order), axis=-1)
    assert_allclose(marginal, maps, rtol=1e-10, atol=1e-10)


@groups
@pytest.mark.parametrize("assignment", ["patch", "image", (2, 2)])
@pytest.mark.parametrize("seed", [3, 4])
def test_turned_images_give_the_same_model(symmetry, assignment, seed):
    X = make_images(seed, shape=(8, 8))
    model, turned = (
        tied(symmetry, assignment=assignment).fit(images) for images in (X, TURNS[symmetry](X))
    )
    assert_same_model(turned, model, rtol=1e-7)
    assert np.diff(model.lower_bounds_).min() > 0


@pytest.mark.parametrize("parameters", [{}, {"normalize": None}, {"whiten": False}])
def test_kernels_of_the_layer_are_the_turned_ones(parameters):
    X = make_images(5)
    model = tied(("rotation", "mirror"), **parameters).fit(X)
    assert model.means_.shape == (3, 3, 3, 1)
    kernels = model.conv_weight_.reshape(3, 2, 4, 3, 3)
    assert_array_equal(model.conv_bias_.reshape(3, 8), np.repeat(model.conv_bias_[::8, None], 8, 1))
    for k, mirror, turns in itertools.product(range(3), range(2), range(4)):
        kernel = kernels[k, 0, 0, :, ::-1] if mirror else kernels[k, 0, 0]
        assert_array_equal(kernels[k, mirror, turns], np.rot90(kernel, turns))


@pytest.mark.parametrize("flags", [{}, {"polarity": "both"}])
def test_names_are_those_of_the_columns(flags):
    X = make_images(6)
    model = tied("mirror", pool_symmetry=None, pool_grid=1, **flags).fit(X)
    names = list(model.get_feature_names_out())
    assert len(names) == model.transform(X).shape[1] == 6 * (1 + bool(flags))
    ending = "_positive" if flags else ""
    expected = "convgmmfeatures_row0_column0_component1_transformation1" + ending
    assert names[3] == expected
    pooled = model.set_params(pool_symmetry="image")
    assert len(pooled.get_feature_names_out()) == pooled.transform(X).shape[1] == len(names) // 2
    assert "transformation" not in "".join(pooled.get_feature_names_out())


@pytest.mark.parametrize("seed", [7, 8])
def test_kernels_are_found_that_were_planted_at_random_turns(seed):
    rng = np.random.default_rng(seed)
    planted = rng.normal(scale=2, size=(3, 5, 5))
    X = np.stack([np.rot90(planted[i % 3], rng.integers(4)) for i in range(300)])
    X += rng.normal(scale=0.3, size=X.shape)
    options = {"patch_size": 5, "pool_grid": 1, "normalize": None, "whiten": False, "max_iter": 20}
    model = tied("rotation", **options).fit(X)
    for kernel in planted:
        orbit = np.stack([np.rot90(kernel, turns) for turns in range(4)])
        errors = np.abs(model.means_[:, None, :, :, 0] - orbit).max(axis=(2, 3))
        assert errors.min() < 0.2
    assert_allclose(model.weights_, 1 / 3, atol=1e-6)
    assert model.noise_variance_ == pytest.approx(0.09, rel=0.1)


@groups
def test_weights_are_copies(symmetry):
    X = make_images(9)
    weight = np.random.default_rng(9).integers(1, 3, size=len(X))
    weighted = tied(symmetry).fit(X, sample_weight=weight)
    assert_same_model(tied(symmetry).fit(np.repeat(X, weight, axis=0)), weighted, rtol=1e-8)


@groups
@pytest.mark.parametrize("pooling", ["triangle", "tempered", "mean", "proportion"])
def test_pixels_of_a_turned_image_have_the_features_of_the_pixels(symmetry, pooling):
    X = make_images(19, n=4, shape=(8, 8))
    model = tied(symmetry, pooling=pooling, padding="same").fit(X)
    turn = TURNS[symmetry]
    pixels = model.transform_pixels(X, widths=1.5).reshape(4, 8, 8, -1)
    expected = np.abs(turn(pixels))
    found = model.transform_pixels(turn(X), widths=1.5).reshape(4, 8, 8, -1)
    assert largest_difference(found, expected) < 1e-10
    kept = model.set_params(pool_symmetry=None).transform_pixels(X, widths=1.5)
    kept = kept.reshape(*pixels.shape, -1)
    shares = pooling in ("tempered", "mean")
    reduced = kept.sum(axis=-1) if shares else kept.mean(axis=-1)
    assert_allclose(reduced, pixels, rtol=1e-10, atol=1e-12)


def test_signals_may_be_reversed():
    X = make_images(10, shape=(1, 20))
    model = tied("mirror", image_shape=(1, 20, 1), pool_grid=2).fit(X)
    assert_allclose(model.transform(X[:, :, ::-1]), model.transform(X), rtol=1e-9, atol=1e-12)


def test_a_stream_goes_on_with_its_symmetry():
    X = make_images(11, n=60)
    model = tied("rotation").partial_fit(X[:30]).partial_fit(X[30:])
    assert model.means_.shape == (3, 3, 3, 1)
    assert largest_difference(model.transform(np.rot90(X, 1, (1, 2))), model.transform(X)) < 1e-8
    with pytest.raises(ValueError, match=r"fitted with symmetry=\('rotation',\); now .*None"):
        model.set_params(symmetry=None).partial_fit(X)
    with pytest.raises(ValueError, match="symmetry='mirror'"):
        model.set_params(symmetry="mirror", warm_start=True).fit(X)


def test_a_warm_start_goes_on():
    X = make_images(12)
    whole = tied("mirror", max_iter=5).fit(X)
    parts = tied("mirror", max_iter=2, warm_start=True).fit(X).set_params(max_iter=3).fit(X)
    assert_allclose(parts.means_, whole.means_, rtol=1e-6, atol=1e-8)


def test_pickles_of_models_without_a_symmetry_load():
    X = make_images(13)
    model = tied(None).fit(X)
    state = model.__getstate__()
    del state["_model"]["symmetry"]
    old = ConvGMMFeatures()
    old.__setstate__(state)
    assert_array_equal(old.transform(X), model.transform(X))
    tied_model = tied(("sign", "rotation")).fit(X)
    assert_array_equal(pickle.loads(pickle.dumps(tied_model)).transform(X), tied_model.transform(X))


@pytest.mark.parametrize("pooling", [*POOLINGS, None])
@pytest.mark.parametrize("pool_symmetry", ["image", "region", None])
def test_every_place_gives_the_same_features(pooling, pool_symmetry):
    da, torch = pytest.importorskip("dask.array"), pytest.importorskip("torch")
    from onnxruntime import InferenceSession

    from sklearn_calm.onnx import to_onnx

    X = make_images(14, dtype=np.float32)
    model = tied(("mirror", "rotation"), pooling=pooling, pool_symmetry=pool_symmetry).fit(X)
    expected = model.transform(X)
    rtol = {"rtol": 1e-4, "atol": 1e-4 * np.abs(expected).max()}
    lazy = model.transform(da.from_array(X, chunks=(10, 9, 9)))
    assert lazy.shape == expected.shape
    assert_allclose(lazy.compute(), expected, **rtol)
    (found,) = InferenceSession(to_onnx(model, X).SerializeToString()).run(None, {"X": X})
    assert_allclose(found, expected, **rtol)
    on_torch = model.set_params(backend="torch:cpu").transform(X)
    assert_allclose(on_torch, expected, **rtol)
    fitted = tied(("mirror", "rotation"), pooling=pooling, pool_symmetry=pool_symmetry)
    assert fitted.fit(torch.asarray(X)).transform(torch.asarray(X)).shape == expected.shape


def test_onnx_refuses_another_symmetry():
    from sklearn_calm.onnx import to_onnx

    X = make_images(15, dtype=np.float32)
    model = tied("mirror").fit(X).set_params(symmetry=None)
    with pytest.raises(ValueError, match=r"symmetry=None; the model was fitted"):
        to_onnx(model, X)


def test_displays_take_tied_kernels():
    X = make_images(16)
    model = tied("rotation", pool_symmetry=None).fit(X)
    assert KernelDisplay.from_estimator(model).kernels.shape == (3, 3, 3, 1)
    maps = ResponsibilityDisplay.from_estimator(model, X[:2]).responsibilities
    assert maps.shape == (2, 7, 7, 3)
    assert_allclose(maps.sum(axis=-1), 1)
    display = TopPatchesDisplay.from_estimator(model, X, n_patches=4)
    assert display.corners.shape == (3, 4, 2)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"symmetry": "turns"}, "symmetry"),
        ({"symmetry": ("mirror", "mirror")}, "each at most once"),
        ({"symmetry": ()}, "expected None"),
        ({"symmetry": ["rotation", "shift"]}, "expected None, one of 'mirror'"),
        ({"symmetry": "rotation", "patch_size": (2, 3)}, "quarter turns need square"),
        ({"symmetry": "mirror", "patch_size": (3, 1)}, "their own mirror images"),
        ({"symmetry": "rotation", "pool_grid": (2, 3)}, "Make pool_grid square"),
        ({"pool_symmetry": "all"}, "pool_symmetry"),
    ],
)
def test_what_does_not_fit_is_refused(parameters, words):
    with pytest.raises(ValueError, match=words):
        tied(**{"symmetry": None, **parameters}).fit(make_images(17))


def test_one_component_is_compared_with_its_own_transformations():
    X = make_images(18)
    assert tied("mirror", n_components=1).fit_transform(X).max() > 0
