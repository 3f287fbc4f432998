"""Dask arrays give the model of the serial fit, whatever their chunks and whoever computes."""

import contextlib
import os
import pickle
import signal
import threading
import warnings

import dask
import dask.array as da
import joblib
import numpy as np
import pytest
import torch
import zarr
from distributed import Client, LocalCluster
from numpy.testing import assert_allclose, assert_array_equal

from _models import small
from sklearn_calm import ConvGMMFeatures
from sklearn_calm._arrays.namespace import is_dask
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._images.blocks import BlockImages, joined_lengths, map_images, whole_images
from sklearn_calm._images.reader import Images
from sklearn_calm._mixture import seeds

SETTINGS = {
    "defaults": {},
    "image": {"assignment": "image", "pooling": "logsumexp"},
    "windows": {"pool_window": "gaussian", "pool_width": 0.7, "polarity": "both"},
    "contrast": {"pool_contrast": 0.5},
    "raw": {"assignment": (2, 2), "normalize": None, "whiten": False, "pooling": "max"},
    "stream of passes": {"assignment": "image", "max_iter": 3, "tol": 0, "padding": 1},
}
settings = pytest.mark.parametrize("setting", SETTINGS)
chunkings = pytest.mark.parametrize("chunks", [(600,), (250, 250, 100), (1, 599), (0, 300, 300)])


@pytest.fixture(autouse=True)
def few_threads():
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


def images(seed, n=600, shape=(8, 7)):
    return np.random.default_rng(seed).normal(size=(n, *shape)) + 0.3


def make(setting, **options):
    features = ConvGMMFeatures(4, patch_size=3, pool_grid=2, random_state=0, tol=0.05)
    return features.set_params(**(SETTINGS[setting] | options))


def assert_same_model(found, expected):
    assert found.n_iter_ == expected.n_iter_
    assert found.n_samples_seen_ == expected.n_samples_seen_
    for name in ("means_", "weights_", "conv_weight_", "conv_bias_", "lower_bounds_"):
        assert isinstance(found.means_, np.ndarray)
        assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-8, atol=1e-9)


@settings
@chunkings
@pytest.mark.parametrize("weighted", [False, True])
def test_the_model_is_that_of_the_serial_fit(setting, chunks, weighted):
    X = images(0)
    weights = np.random.default_rng(1).uniform(0.5, 2, len(X)) if weighted else None
    expected = make(setting).fit(X, sample_weight=weights)
    D = da.from_array(X, chunks=(chunks, 8, 7))
    found = make(setting).fit(D, sample_weight=None if weights is None else da.asarray(weights))
    assert_same_model(found, expected)


def test_the_stepwise_stage_is_the_same():
    X = images(2, n=2500)
    expected = make("image").fit(X)
    D = da.from_array(X, chunks=(900, 8, 7))
    assert_same_model(make("image").fit(D), expected)
    assert len(expected.lower_bounds_) < make("image", max_iter=100).max_iter


@pytest.mark.parametrize("seed", [3, 4])
def test_samples_are_the_same(seed, monkeypatch):
    monkeypatch.setattr("sklearn_calm._mixture.seeds.MAX_PATCHES", 500)
    X = images(seed)
    found = make("defaults").fit(da.from_array(X, chunks=(170, 8, 7)))
    assert_same_model(found, make("defaults").fit(X))


@settings
def test_a_stream_of_arrays(setting):
    found, expected = make(setting), make(setting)
    for seed in range(3):
        X = images(seed, n=200)
        expected.partial_fit(X)
        found.partial_fit(da.from_array(X, chunks=(90, 8, 7)))
    assert_same_model(found, expected)


@settings
@chunkings
def test_features_and_scores_are_lazy(setting, chunks):
    X = images(5)
    features = make(setting).fit(X)
    D = da.from_array(X, chunks=(chunks, 8, 7))
    found, scores = features.transform(D), features.score_samples(D)
    assert is_dask(found)
    assert is_dask(scores)
    assert found.chunks[0] == D.chunks[0]
    expected = features.transform(X)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert_allclose(found.compute(), expected, rtol=1e-9, atol=1e-10)
    assert_allclose(scores.compute(), features.score_samples(X), rtol=1e-9)
    maps, expected = features.score_map(D), features.score_map(X)
    assert is_dask(maps)
    assert (maps.shape, maps.chunks[0], maps.dtype) == (expected.shape, D.chunks[0], np.float64)
    assert_allclose(maps.compute(), expected, rtol=1e-9, atol=1e-9)
    assert features.score(D) == pytest.approx(features.score(X))


def test_maps_are_lazy():
    X = images(6)
    features = make("image", pooling=None).fit(X)
    found = features.transform(da.from_array(X, chunks=(200, 8, 7)))
    assert found.shape == (600, 6, 5, 4)
    assert_allclose(found.compute(), features.transform(X), rtol=1e-9, atol=1e-10)


def test_lazy_features_are_of_the_model_that_made_them():
    X = images(7)
    features = make("image").fit(X)
    expected = features.transform(X)
    lazy = features.transform(da.from_array(X, chunks=(200, 8, 7)))
    features.fit(images(8))
    assert_allclose(lazy.compute(), expected, rtol=1e-9, atol=1e-10)


def test_integers_and_flat_rows():
    X = np.random.default_rng(9).integers(256, size=(300, 64)).astype(np.uint8)
    expected = make("defaults").fit(X)
    D = da.from_array(X, chunks=(100, 64))
    found = make("defaults").fit(D)
    assert_allclose(found.means_, expected.means_, rtol=1e-4, atol=1e-5)
    assert found.transform(D).dtype == np.float32
    assert_allclose(found.transform(D), expected.transform(X), rtol=1e-3, atol=1e-3)


def test_images_cut_apart_are_put_together():
    X = images(10)
    D = da.from_array(X, chunks=(200, 4, 7))
    with pytest.warns(UserWarning, match="cut images of shape"):
        found = make("image").fit(D)
    assert_same_model(found, make("image").fit(X))


def test_blocks_of_tensors_are_refused_with_a_way_out():
    X = images(12).astype(np.float32)
    D = da.from_array(X, chunks=(200, 8, 7)).map_blocks(torch.from_numpy, dtype=torch.float32)
    with pytest.raises(TypeError, match="expected blocks of NumPy or CuPy") as error:
        make("image").fit(D)
    way_out = str(error.value).split("Pass ")[1].removesuffix(".")
    found = make("image").fit(eval(way_out, {"X": D, "np": np}))
    assert_allclose(found.means_, make("image").fit(X).means_, rtol=1e-4, atol=1e-5)


def test_unknown_chunks_are_refused():
    D = da.from_array(images(11), chunks=(200, 8, 7))
    unknown = D[D[:, 0, 0] > 0]
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        make("image").fit(unknown)
    make("image").fit(unknown.compute_chunk_sizes())


def test_data_frames_of_lazy_features_are_refused():
    X = images(12)
    features = make("image").fit(X).set_output(transform="pandas")
    with pytest.raises(ValueError, match="cannot be put into a data frame"):
        features.transform(da.from_array(X, chunks=(200, 8, 7)))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bad_blocks_are_told_and_leave_the_model(method):
    X = images(13)
    features = make("image").fit(X)
    before = features.means_
    X[417, 2, 2] = np.nan
    D = da.from_array(X, chunks=(200, 8, 7))
    with pytest.raises(ValueError, match="first in image 417"):
        getattr(features, method)(D)
    assert features.means_ is before
    with pytest.raises(ValueError, match="NaN or infinity"):
        features.transform(D).compute()


def test_no_more_than_samples_travel(monkeypatch):
    X = images(14)
    sizes = []
    compute = dask.compute

    def spy(*tasks, **options):
        found = compute(*tasks, **options)
        sizes.append(len(pickle.dumps(found)))
        return found

    monkeypatch.setattr(dask, "compute", spy)
    monkeypatch.setattr("sklearn_calm._mixture.starting.SEED_PATCHES", 100)
    make("image", max_iter=3, tol=0).fit(da.from_array(X, chunks=(100, 8, 7)))
    assert len(sizes) > 3
    assert sum(sizes) < 0.1 * X.nbytes


def test_what_training_asks_of_images():
    X = images(15)
    weights = np.random.default_rng(15).uniform(size=len(X))
    geometry = PatchGeometry((8, 7, 1), (3, 2), (2, 1), ((1, 1), (0, 0)))
    whole = Images(X, geometry, weights)
    blocks = BlockImages(da.from_array(X, chunks=(130, 8, 7)), geometry, weights)
    rows = np.array([0, 129, 130, 131, 599])
    positions = np.array([3, 0, 5, 1, 2])
    assert len(blocks) == len(whole)
    assert blocks.dtype == whole.dtype
    assert blocks.total_weight == whole.total_weight
    assert blocks.least_weight == whole.least_weight
    assert_array_equal(blocks.weights(rows), whole.weights(rows))
    assert_array_equal(blocks.patches(rows, positions), whole.patches(rows, positions))
    assert blocks.patches(rows[:0], positions[:0]).shape == (0, 6)
    assert_array_equal(blocks.on_host(rows).X, X[rows])
    assert_array_equal(blocks.on_host(rows).weights(slice(None)), weights[rows])
    assert whole_images(blocks.X) is blocks.X


@pytest.fixture(scope="module")
def cluster():
    """Two processes with a thread each, as two machines would be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ports in use, and of tidying up
        local = LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=None
        )
        yield local
        # Before 2026.8 a cluster of which a worker was killed waits for it for ever.
        with contextlib.suppress(TimeoutError):
            local.close(timeout=5)


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        client.wait_for_workers(2)
        yield client


@settings
def test_workers_in_processes_give_the_same(client, setting):
    X = images(16)
    D = da.from_array(X, chunks=(150, 8, 7))
    with dask.config.set(scheduler=client):
        found = make(setting).fit(D)
        expected = make(setting).fit(X)
        assert_same_model(found, expected)
        assert_allclose(found.transform(D).compute(), expected.transform(X), rtol=1e-8, atol=1e-9)


def test_joblib_on_dask_gives_the_same(client):
    X = images(20)
    expected = make("image", batch_size=100).fit(X)
    with client.as_current(), joblib.parallel_config(backend="dask", n_jobs=2):
        found = make("image", batch_size=100).fit(X)
    assert_same_model(found, expected)


def kill_once(block, seen, killed):
    """The block. The first process that has seen fifteen, in the second pass, is killed by itself.

    Processes work at the same time, so a count alone could tell two of them or none.
    """
    with seen.open("a") as file:
        file.write(".")
    if seen.stat().st_size >= 15:
        with contextlib.suppress(FileExistsError), killed.open("x") as file:
            file.write(str(os.getpid()))
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    return block


def test_a_worker_killed_in_a_pass_changes_nothing(client, tmp_path):
    X = images(17)
    killed = tmp_path / "killed"
    D = da.from_array(X, chunks=(100, 8, 7))
    # With a meta, the function is not tried here.
    D = D.map_blocks(kill_once, seen=tmp_path / "seen", killed=killed, meta=X[:0])
    before = set(client.run(os.getpid).values())
    with dask.config.set(scheduler=client):
        found = make("image", max_iter=4, tol=0).fit(D)
    assert int(killed.read_text()) in before
    assert int(killed.read_text()) not in client.run(os.getpid).values()
    assert_same_model(found, make("image", max_iter=4, tol=0).fit(X))


def test_a_zarr_store_larger_than_a_block(tmp_path):
    X = np.random.default_rng(18).integers(256, size=(600, 8, 7)).astype(np.uint8)
    store = zarr.create_array(
        tmp_path / "images.zarr", shape=X.shape, chunks=(100, 8, 7), dtype="u1"
    )
    store[:] = X
    D = da.from_zarr(store)
    expected = make("image").fit(X)
    found = make("image").fit(D)
    assert_allclose(found.means_, expected.means_, rtol=1e-4, atol=1e-5)
    assert_allclose(found.transform(D), expected.transform(X), rtol=1e-3, atol=1e-3)


def test_fits_side_by_side():
    X = images(19)
    D = da.from_array(X, chunks=(100, 8, 7))
    expected, found = make("image").fit(X), [make("image") for _ in range(3)]
    threads = [threading.Thread(target=features.fit, args=(D,)) for features in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for features in found:
        assert_same_model(features, expected)


@pytest.mark.parametrize(
    ("lengths", "values", "expected"),
    [
        ((7, 7, 7), 64, (7, 7, 7)),
        ((1,) * 640, 64, (10,) * 64),
        ((1,) * 645, 64, (10,) * 64 + (5,)),
        ((30, 1, 1, 600, 1, 8), 64, (30, 2, 600, 9)),
        ((1,) * 640, 2**19, (2,) * 320),
        ((1,) * 3, 2**30, (1, 1, 1)),
        ((0, 5, 0), 64, (0, 5, 0)),
    ],
)
def test_very_many_small_blocks_are_joined(lengths, values, expected):
    assert joined_lengths(lengths, values) == expected
    assert sum(expected) == sum(lengths)


def test_blocks_of_one_image_give_what_whole_ones_give():
    X = images(17, n=200)
    lazy = da.from_array(X, chunks=(1, -1, -1))
    model, expected = make("raw").fit(lazy), make("raw").fit(X)
    assert_same_model(model, expected)
    features = model.transform(lazy)
    assert features.chunks[0] == (1,) * 200
    assert_allclose(features.compute(), expected.transform(X), rtol=1e-8, atol=1e-10)


def test_very_many_small_blocks_are_worked_on_together_and_keep_their_chunks():
    X = np.random.default_rng(0).random((300, 4, 5))
    D = da.from_array(X, chunks=(1, 4, 5))
    lengths = []

    def flat(block):
        lengths.append(len(block))
        return block.reshape(len(block), -1)

    result = map_images(flat, D, (20,), X.dtype)
    assert result.chunks == (D.chunks[0], (20,))
    assert_array_equal(result.compute(scheduler="sync"), X.reshape(300, 20))
    assert sum(lengths) == 300
    assert len(lengths) <= 75


@pytest.mark.parametrize("padding", [0, 2, "same"])
@pytest.mark.parametrize("chunks", [(1, 20, 30), (2, 33, 7), (3, 64, 50)])
def test_patches_come_from_chunks_that_cut_images(padding, chunks, monkeypatch):
    """Without putting the images together, which would warn."""
    monkeypatch.setattr(seeds, "MAX_PATCHES", 2000)
    for shape in [(3, 64, 50), (3, 64, 50, 2)]:
        X = np.random.default_rng(20).normal(size=shape)
        model = small(padding=padding, patch_size=4).fit(X)
        D = da.from_array(X, chunks=(*chunks, 1)[: X.ndim])
        assert_array_equal(small(padding=padding, patch_size=4).fit(D).means_, model.means_)


def test_patches_of_chunks_name_the_image_that_is_not_finite(monkeypatch):
    monkeypatch.setattr(seeds, "MAX_PATCHES", 2000)
    X = np.random.default_rng(21).normal(size=(3, 64, 50))
    X[1] = np.nan
    with pytest.raises(ValueError, match=r"first in image 1\)"):
        small().fit(da.from_array(X, chunks=(1, 20, 30)))
