import numpy as np
import pytest
from numpy.testing import assert_allclose

import _reference
from sklearn_calm._convolution.pooling import POOLINGS, Pooler, pool, pool_rectified

WHOLE = [name for name, pooling in POOLINGS.items() if not pooling.rectified]
GRIDS = [(1, 1), (2, 3), (4, 4), (6, 7), (5, 1)]


@pytest.mark.parametrize("pooling", ["logsumexp", "max", "mean"])
@pytest.mark.parametrize("pool_grid", GRIDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_pooling_is_that_of_the_twin(pooling, pool_grid, seed):
    rng = np.random.default_rng(seed)
    joint = rng.normal(size=(2, 6, 7, 3)) * 3
    gamma = rng.uniform(size=joint.shape)
    expected = [
        _reference.pool(j, g, pooling, pool_grid) for j, g in zip(joint, gamma, strict=True)
    ]
    maps = gamma if pooling == "mean" else joint
    pooler = Pooler.from_grid(pooling, pool_grid, (6, 7))
    features = pool(maps.transpose(1, 0, 2, 3).copy(), pooler)
    assert features.shape == (2, pool_grid[0] * pool_grid[1] * 3)
    assert_allclose(features, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("pool_grid", GRIDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_triangle_pooling_is_that_of_the_twin(pool_grid, dtype):
    rng = np.random.default_rng(3)
    joint = rng.normal(size=(2, 6, 7, 3)) * 3
    expected = [_reference.pool(j, None, "triangle", pool_grid) for j in joint]
    scale = rng.uniform(0.3, 3, size=(6, 2, 7)).astype(dtype)
    maps = (joint - joint.mean(axis=-1, keepdims=True)).transpose(1, 0, 2, 3).astype(dtype)
    rows = (maps / scale[..., None]).reshape(6, -1, 3)
    features = pool_rectified(rows, scale, Pooler.from_grid("triangle", pool_grid, (6, 7)))
    assert features.dtype == dtype
    rtol = 1e-5 if dtype == np.float32 else 1e-11
    assert_allclose(features, expected, rtol=rtol, atol=rtol)


def test_logsumexp_neither_overflows_nor_underflows():
    maps = np.array([-1e4, 1e4]).reshape(1, 1, 1, 2) + np.zeros((2, 1, 3, 1))
    pooler = Pooler.from_grid("logsumexp", (1, 1), (2, 3))
    assert_allclose(pool(maps, pooler), [[-1e4 + np.log(6), 1e4 + np.log(6)]])


@pytest.mark.parametrize("pooling", WHOLE)
def test_precision_is_kept(pooling):
    maps = np.random.default_rng(2).normal(size=(4, 2, 5, 3)).astype(np.float32)
    assert pool(maps, Pooler.from_grid(pooling, (2, 2), (4, 5))).dtype == np.float32
