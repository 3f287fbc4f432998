"""Images larger than the memory that the process may take."""

import subprocess
import sys
from functools import partial
from operator import add

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_calm import ConvGMMFeatures
from sklearn_calm._arrays.execution import Workers
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._images.reader import Images

N_IMAGES, SIDE = 64_000, 32  # 64 MB
LIMIT = 48 * 2**20

# RLIMIT_DATA counts memory that is taken, and not files that are mapped. Batches and samples have a
# fixed size, whatever the number of images: where these are small, a small file is large enough.
# Stacks of threads count in full, 8 MB each, and a busy machine makes pools start more threads.
BEGIN = """
import resource, sys, threading
import numpy as np
from sklearn_calm import ConvGMMFeatures, RegionMoments
from sklearn_calm import _bands, _pixels, _region_moments
from sklearn_calm._images import reader, source
from sklearn_calm._mixture import seeds, starting

threading.stack_size(2**19)
source.BATCH_BYTES = source.BY_ROW_BYTES = 2**19
seeds.MAX_PATCHES, starting.SEED_PATCHES = 20_000, 5_000
reader.READ_VALUES, _bands.BAND_BYTES, _pixels.TILE_BYTES = 2**18, 2**20, 2**20
_region_moments.BAND_BYTES = 2**20
path = sys.argv[1]
features = ConvGMMFeatures(8, pool_grid=1, stride=3, max_iter=3, tol=0, n_jobs=1, random_state=0)
features.fit(np.random.default_rng(0).random((50, 32, 32)))
images = np.memmap(path, np.uint8, "r").reshape(-1, 32, 32)


def limit():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    most = 1024 * int(status["VmData"].split()[0]) + int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        images.copy()
    except MemoryError:
        return
    sys.exit("there is memory enough for all of the images")
"""
WAYS = {
    "memory map": """
limit()
features.set_params(assignment="image", max_iter=1).fit(images[::2])
features.set_params(assignment="patch", max_iter=3).fit(images)
found = features.transform(images)
""",
    "large images": """
images = images.reshape(2, 4000, 8192)
limit()
features.set_params(padding="same").fit(images)
found = features.transform(images)
others = features.set_params(pooling="max").transform(images)
others = np.concatenate([others, features.set_params(pooling="logsumexp").transform(images)])
assert np.isfinite(others).all() and np.isfinite(features.score_samples(images)).all()
features.set_params(pooling="triangle", stride=1).fit(images)
pixels = np.random.default_rng(0).integers(images.shape, size=(5, 3))
assert np.isfinite(features.transform_pixels(images, pixels, widths=[1, 4])).all()
""",
    "moments": """
limit()
found = RegionMoments(pool_grid=2).fit(images).transform(images)
large = images.reshape(2, 4000, 8192)
assert np.isfinite(RegionMoments(pool_grid=2).fit(large).transform(large)).all()
""",
    "generator": """
def batches(size=2_000):
    for start in range(0, len(images), size):
        yield images[start : start + size]


limit()
for batch in batches():
    features.partial_fit(batch)
found = np.concatenate([features.transform(batch) for batch in batches()])
""",
    "zarr store": """
import dask, dask.array as da, zarr

store = zarr.create_array(path + ".zarr", shape=images.shape, chunks=(2000, 32, 32), dtype="u1")
for start in range(0, len(images), 2000):
    store[start : start + 2000] = images[start : start + 2000]
D = da.from_zarr(store)
dask.config.set(scheduler="threads", num_workers=2)
D[:2].compute()
limit()
features.fit(D)
found = features.transform(D).compute()
""",
}
END = """
assert found.shape == (len(images), 8)
assert np.isfinite(found).all()
assert found.std(axis=0).min() > 0
"""


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "images"
    path.write_bytes(np.random.default_rng(0).bytes(N_IMAGES * SIDE * SIDE))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
@pytest.mark.parametrize("way", WAYS)
def test_images_larger_than_the_memory_that_may_be_taken(large_file, way):
    command = [sys.executable, "-c", BEGIN + WAYS[way] + END, str(large_file), str(LIMIT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def kind_of_x(images, rows):
    return [type(images.X).__name__]


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_workers_share_memory_maps(tmp_path, backend):
    X = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(60, 8, 8))
    images = Images(X, PatchGeometry((8, 8, 1), (3, 3), (1, 1)))
    with joblib.parallel_config(backend=backend, n_jobs=2):
        kinds = images.map_reduce(partial(kind_of_x), add, Workers(), 20)
    assert kinds == ["memmap"] * 3


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("backend", ["threading", "loky"])
@pytest.mark.parametrize("assignment", ["patch", "image"])
def test_backends_of_joblib_give_the_same_to_the_last_bit(backend, assignment, seed):
    X = np.random.default_rng(seed).normal(size=(400, 8, 8))
    options = {"assignment": assignment, "batch_size": 90, "random_state": seed}
    options |= {"max_iter": 3, "tol": 0}
    expected = ConvGMMFeatures(4, n_jobs=1, **options).fit(X)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        found = ConvGMMFeatures(4, **options).fit(X)
        features = found.transform(X)
    assert_array_equal(found.means_, expected.means_)
    assert_array_equal(features, expected.transform(X))
