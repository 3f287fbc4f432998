"""Volumes as slabs: the recipe of the guide, beside literal patches with three axes in space."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from _reference import normalize_contrast
from sklearn_calm import ConvGMMFeatures

GUIDE = Path(__file__).parents[1] / "docs" / "user_guide.rst"
DEPTH, HEIGHT, WIDTH = PATCH = (3, 2, 4)
SHAPES = [(6, 7, 8), (6, 7, 8, 2)]

seeds = pytest.mark.parametrize("seed", [0, 1])
shapes = pytest.mark.parametrize("shape", SHAPES)


@pytest.fixture(scope="module")
def recipe():
    """The names that the section of the guide defines."""
    section = GUIDE.read_text("utf-8").split("\nVolumes\n-------\n")[1].split("\n.. _guide-")[0]
    names = {}
    for example in doctest.DocTestParser().get_examples(section):
        exec(example.source, names)
    return names


def make_volumes(seed, shape, n=5):
    return np.random.default_rng(seed).normal(size=(n, *shape))


def small(seed, **parameters):
    options = {"patch_size": (HEIGHT, WIDTH), "padding": 0, "pool_grid": 2, "pool_window": "box"}
    return ConvGMMFeatures(3, max_iter=3, tol=0, random_state=seed, **(options | parameters))


def literal_patches(volume):
    """Position -> patch of a volume, both (depth, height, width, channels)."""
    sides = [whole - part + 1 for whole, part in zip(volume.shape, PATCH, strict=False)]
    return {
        (z, y, x): volume[z : z + DEPTH, y : y + HEIGHT, x : x + WIDTH]
        for z, y, x in np.ndindex(*sides)
    }


def with_channels(volumes):
    return volumes.reshape(*volumes.shape[:4], -1)


@seeds
@shapes
@pytest.mark.parametrize("whiten", [False, True])
def test_a_fit_to_slabs_is_that_of_all_patches(recipe, seed, shape, whiten):
    X = make_volumes(seed, shape)
    found = recipe["VolumeFeatures"](small(seed, whiten=whiten), DEPTH).fit(X).layer_
    patches = [p for volume in with_channels(X) for p in literal_patches(volume).values()]
    # The depth last: the channels of an image are those of a patch.
    rows = np.stack([patch.transpose(1, 2, 3, 0) for patch in patches])
    tiny = rows.reshape(len(rows), HEIGHT, WIDTH, -1)
    expected = small(seed, whiten=whiten, pool_grid=1).fit(tiny)
    assert_allclose(found.means_, expected.means_, rtol=1e-7, atol=1e-9)
    assert_allclose(found.weights_, expected.weights_, rtol=1e-7)
    assert_allclose(found.noise_variance_, expected.noise_variance_, rtol=1e-7)


def literal_features(volume, kernels, layer):
    """Triangle pooled over 2 x 2 x 2 boxes of the positions of a volume: (8 * K,)."""
    scores = {}
    for position, patch in literal_patches(volume).items():
        y = normalize_contrast(patch, layer.contrast_floor_)
        joint = [
            (np.sum(kernel * y) - np.sum(kernel**2) / 2) / layer.noise_variance_ + np.log(weight)
            for kernel, weight in zip(kernels, layer.weights_, strict=True)
        ]
        scores[position] = np.maximum(0, np.array(joint) - np.mean(joint))
    halves = [(side + 1) // 2 for side in np.max(list(scores), axis=0)]
    boxes = {}
    for position, score in scores.items():
        box = tuple(int(p >= half) for p, half in zip(position, halves, strict=True))
        boxes.setdefault(box, []).append(score)
    return np.concatenate([np.mean(boxes[box], axis=0) for box in sorted(boxes)])


@seeds
@shapes
def test_features_are_those_of_literal_patches_and_regions(recipe, seed, shape):
    X = make_volumes(seed, shape)
    features = recipe["VolumeFeatures"](small(seed, whiten=False), DEPTH, pool_depth=2).fit(X)
    layer = features.layer_
    kernels = layer.means_.reshape(3, HEIGHT, WIDTH, -1, DEPTH).transpose(0, 4, 1, 2, 3)
    expected = [literal_features(volume, kernels, layer) for volume in with_channels(X)]
    assert_allclose(features.transform(X), expected, rtol=1e-7, atol=1e-9)


@shapes
def test_slabs_are_parts_of_their_volume(recipe, shape):
    X = make_volumes(0, shape)
    slabs = recipe["slabs"](X, DEPTH).reshape(len(X), -1, *shape[1:], DEPTH)
    assert slabs.shape[1] == shape[0] - DEPTH + 1
    for z in range(slabs.shape[1]):
        assert_allclose(slabs[:, z], np.moveaxis(X[:, z : z + DEPTH], 1, -1), rtol=0)
