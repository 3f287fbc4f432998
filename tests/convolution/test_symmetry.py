import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _tied_reference
from sklearn_calm._convolution.symmetry import NO_SYMMETRY, ORDERS, Symmetry

NAMES = [
    names for n in range(1, len(ORDERS) + 1) for names in itertools.combinations(list(ORDERS), n)
]
SHAPE = (3, 3, 2)

every_group = pytest.mark.parametrize("names", NAMES, ids="-".join)


def vectors(seed, n=5, shape=SHAPE):
    return np.random.default_rng(seed).normal(size=(n, np.prod(shape)))


@every_group
@pytest.mark.parametrize("seed", [0, 1])
def test_expanded_vectors_are_those_of_the_twin(names, seed):
    symmetry, X = Symmetry(names, SHAPE), vectors(seed)
    expected = _tied_reference.expand(X, SHAPE, names)
    assert len(expected) == len(X) * symmetry.order
    assert_array_equal(symmetry.expand(X), expected)
    assert_array_equal(symmetry.expand(X)[:: symmetry.order], X)


@every_group
def test_fold_is_the_transpose_of_expand(names):
    symmetry, a = Symmetry(names, SHAPE), vectors(2)
    b = vectors(3, len(a) * symmetry.order)
    assert np.vdot(symmetry.expand(a), b) == pytest.approx(np.vdot(a, symmetry.fold(b)))
    assert_allclose(symmetry.fold(symmetry.expand(a)), symmetry.order * a)


@every_group
def test_the_transformations_are_a_group(names):
    """The transformed vectors of a transformed vector are those of the vector."""
    symmetry = Symmetry(names, SHAPE)
    orbit = symmetry.expand(vectors(4, 1))
    assert len(np.unique(orbit, axis=0)) == symmetry.order
    for one in orbit:
        again = symmetry.expand(one[None])
        assert_array_equal(np.unique(again, axis=0), np.unique(orbit, axis=0))


@every_group
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_of_an_orbit_have_one_canonical_vector(names, dtype):
    symmetry, X = Symmetry(names, SHAPE), vectors(5).astype(dtype)
    orbits = symmetry.expand(X).astype(dtype)
    canonical = symmetry.canonical(orbits)
    assert canonical.dtype == dtype
    assert_array_equal(canonical, np.repeat(symmetry.canonical(X), symmetry.order, axis=0))
    for one, orbit in zip(canonical[:: symmetry.order], np.split(orbits, len(X)), strict=True):
        assert (orbit == one).all(axis=1).any()


def test_mirror_reverses_signals():
    X = vectors(6, shape=(1, 4, 2))
    expanded = Symmetry(("mirror",), (1, 4, 2)).expand(X)
    assert_array_equal(expanded[1::2], X.reshape(-1, 4, 2)[:, ::-1].reshape(-1, 8))


def test_without_a_symmetry_arrays_are_themselves():
    X = vectors(7)
    assert NO_SYMMETRY.order == 1
    assert NO_SYMMETRY.expand(X) is NO_SYMMETRY.fold(X) is NO_SYMMETRY.canonical(X) is X
