import numpy as np
import pytest
from numpy.testing import assert_allclose

import _reference
from sklearn_calm._pooling import pool

POOLINGS = ["logsumexp", "max", "mean", "triangle"]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("pool_grid", [(1, 1), (2, 3), (4, 4), (6, 7), (5, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_pooling_is_that_of_the_twin(pooling, pool_grid, seed):
    rng = np.random.default_rng(seed)
    joint = rng.normal(size=(2, 6, 7, 3)) * 3
    gamma = rng.uniform(size=joint.shape)
    expected = [
        _reference.pool(j, g, pooling, pool_grid) for j, g in zip(joint, gamma, strict=True)
    ]
    centred = joint - joint.mean(axis=-1, keepdims=True)
    maps = {"mean": gamma, "triangle": centred}.get(pooling, joint)
    features = pool(maps.transpose(1, 0, 2, 3).copy(), pooling, pool_grid)
    assert features.shape == (2, pool_grid[0] * pool_grid[1] * 3)
    assert_allclose(features, expected, rtol=1e-11, atol=1e-13)


def test_logsumexp_neither_overflows_nor_underflows():
    maps = np.array([-1e4, 1e4]).reshape(1, 1, 1, 2) + np.zeros((2, 1, 3, 1))
    assert_allclose(pool(maps, "logsumexp", (1, 1)), [[-1e4 + np.log(6), 1e4 + np.log(6)]])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_precision_is_kept(pooling):
    maps = np.random.default_rng(2).normal(size=(4, 2, 5, 3)).astype(np.float32)
    assert pool(maps, pooling, (2, 2)).dtype == np.float32
