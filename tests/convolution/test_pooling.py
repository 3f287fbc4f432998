import numpy as np
import pytest
from numpy.testing import assert_allclose

import _reference
from sklearn_calm._convolution.pooling import (
    BAND_BYTES,
    POOLINGS,
    Pooler,
    bands_of_rows,
    pool,
    pool_rectified,
)
from sklearn_calm._convolution.windows import Windows

WHOLE = [
    name for name, pooling in POOLINGS.items() if not (pooling.rectified or pooling.thresholded)
]
WEIGHTED = [name for name, pooling in POOLINGS.items() if pooling.weighted]
# A map of more rows than are added up at once, some of no whole number of regions, a signal.
SHAPES = {
    (6, 7): [(1, 1), (2, 3), (4, 4), (6, 7), (5, 1)],
    (19, 4): [(3, 4)],
    (1, 12): [(1, 5)],
}
GRIDS = [(shape, grid) for shape, grids in SHAPES.items() for grid in grids]

grids = pytest.mark.parametrize(("map_shape", "grid"), GRIDS)
windows = pytest.mark.parametrize(
    ("window", "width"), [("box", None), ("gaussian", 0.5), ("gaussian", 0.1)]
)


def make_pooler(pooling, window, width, grid, map_shape, both=False):
    return Pooler(POOLINGS[pooling], Windows.from_grid(window, width, grid, map_shape), both)


def bands_of(maps, most):
    """The maps (rows, n, columns, K) in bands of at most so many rows, as they are pooled."""
    return [maps[rows] for rows in bands_of_rows(len(maps), BAND_BYTES // most)]


def literal(maps, pooling, grid, window, width, both=False):
    """What the twin makes of maps (n, rows, columns, K)."""
    return [_reference.pool(m, m, pooling, grid, 1, window, width, both) for m in maps]


@pytest.mark.parametrize("pooling", ["logsumexp", "max", "mean"])
@windows
@grids
@pytest.mark.parametrize("seed", [0, 1])
def test_pooling_is_that_of_the_twin(pooling, window, width, grid, map_shape, seed):
    if pooling == "max":
        window = "box"
    maps = np.random.default_rng(seed).normal(size=(2, *map_shape, 3)) * 3
    pooler = make_pooler(pooling, window, width, grid, map_shape)
    features = pool(maps.transpose(1, 0, 2, 3).copy(), pooler)
    assert features.shape == (2, grid[0] * grid[1] * 3)
    expected = literal(maps, pooling, grid, window, width)
    assert_allclose(features, expected, rtol=1e-11, atol=1e-12)


@windows
@grids
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("longest", [1, 3, 8])
def test_triangle_pooling_is_that_of_the_twin(window, width, grid, map_shape, dtype, both, longest):
    rng = np.random.default_rng(3)
    joint = rng.normal(size=(2, *map_shape, 3)) * 3
    scale = rng.uniform(0.3, 3, size=(2, *map_shape)).transpose(1, 0, 2).astype(dtype)
    maps = (joint - joint.mean(axis=-1, keepdims=True)).transpose(1, 0, 2, 3).astype(dtype)
    pooler = make_pooler("triangle", window, width, grid, map_shape, both)
    bands = bands_of(maps / scale[..., None], longest)
    features = pool_rectified(bands, scale, pooler)
    assert features.dtype == dtype
    rtol = 1e-5 if dtype == np.float32 else 1e-11
    expected = literal(joint, "triangle", grid, window, width, both)
    assert features.shape == (2, np.prod(pooler.features_shape(3)))
    assert_allclose(features, expected, rtol=rtol, atol=rtol)


@windows
def test_logsumexp_neither_overflows_nor_underflows(window, width):
    maps = np.array([-1e4, 1e4]).reshape(1, 1, 1, 2) + np.zeros((2, 1, 3, 1))
    pooler = make_pooler("logsumexp", window, width, (1, 1), (2, 3))
    assert_allclose(pool(maps, pooler), [[-1e4 + np.log(6), 1e4 + np.log(6)]])


@pytest.mark.parametrize("seed", [4, 5])
def test_logsumexp_of_positions_that_differ_by_hundreds(seed):
    maps = np.random.default_rng(seed).normal(size=(2, 6, 7, 3)).astype(np.float32) * 300
    pooler = make_pooler("logsumexp", "gaussian", 0.3, (3, 2), (6, 7))
    features = pool(maps.transpose(1, 0, 2, 3).copy(), pooler)
    expected = literal(maps.astype(np.float64), "logsumexp", (3, 2), "gaussian", 0.3)
    assert_allclose(features, expected, rtol=1e-5)


@pytest.mark.parametrize("pooling", WHOLE)
@pytest.mark.parametrize("window", ["box", "gaussian"])
def test_precision_is_kept(pooling, window):
    window = window if POOLINGS[pooling].weighted else "box"
    maps = np.random.default_rng(2).normal(size=(4, 2, 5, 3)).astype(np.float32)
    assert pool(maps, make_pooler(pooling, window, 0.5, (2, 2), (4, 5))).dtype == np.float32


@pytest.mark.parametrize("pooling", WHOLE)
@windows
@grids
def test_maps_that_are_constant_give_the_constant(pooling, window, width, grid, map_shape):
    """But for the number of positions, where they are added up."""
    if not POOLINGS[pooling].weighted:
        window = "box"
    constants = np.array([-3.0, 0.5, 2.0])
    maps = constants + np.zeros((map_shape[0], 2, map_shape[1], 1))
    pooler = make_pooler(pooling, window, width, grid, map_shape)
    features = pool(maps, pooler).reshape(2, -1, 3)
    if pooling == "logsumexp":
        counts = _reference.window_counts(window, grid, *map_shape, width)
        features = features - np.log([count.sum() for count in counts])[:, None]
    assert_allclose(features, np.broadcast_to(constants, features.shape), rtol=1e-12)


@pytest.mark.parametrize("pooling", [name for name in WEIGHTED if name in WHOLE])
@pytest.mark.parametrize("seed", [6, 7])
def test_windows_that_vanish_give_the_map_itself(pooling, seed):
    maps = np.random.default_rng(seed).normal(size=(5, 2, 6, 3)) * 50
    expected = maps.transpose(1, 0, 2, 3).reshape(2, -1)
    pooler = make_pooler(pooling, "gaussian", 1e-300, (5, 6), (5, 6))
    assert_allclose(pool(maps.copy(), pooler), expected, rtol=1e-12)


@windows
@grids
@pytest.mark.parametrize("seed", [8, 9])
def test_positive_less_negative_is_the_mean(window, width, grid, map_shape, seed):
    maps = np.random.default_rng(seed).normal(size=(map_shape[0], 2, map_shape[1], 3))
    scale = np.ones(maps.shape[:3])
    both = make_pooler("triangle", window, width, grid, map_shape, both=True)
    features = pool_rectified(bands_of(maps.copy(), 1), scale, both).reshape(2, -1, 2, 3)
    means = pool(maps.copy(), make_pooler("mean", window, width, grid, map_shape))
    difference = features[:, :, 0] - features[:, :, 1]
    assert_allclose(difference.reshape(2, -1), means, rtol=1e-10, atol=1e-12)
    assert features.min() >= 0


@pytest.mark.parametrize("width", [1e-3, 0.02, 1.0])
def test_rows_that_no_window_reaches(width):
    """Narrow windows about the middle of a tall map leave most of its rows out."""
    maps = np.random.default_rng(0).normal(size=(60, 2, 9, 3))
    windows = Windows.from_grid("gaussian", width, (1, 1), (60, 9))
    found = pool(maps.copy(), Pooler(POOLINGS["tempered"], windows))
    rows, columns = windows.weights
    expected = np.einsum("ay,bx,ynxk->nabk", rows, columns, maps).reshape(2, -1)
    assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
