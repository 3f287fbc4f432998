import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _reference
from sklearn_calm._mixture.cells import Cells


@pytest.mark.parametrize(
    ("assignment", "map_shape"),
    [("image", (5, 7)), ("patch", (5, 7)), ((2, 3), (5, 7)), ((5, 1), (5, 2)), ((1, 1), (1, 1))],
)
def test_cells_are_those_of_the_twin(assignment, map_shape):
    cells = Cells.from_assignment(assignment, map_shape)
    expected = _reference.cells(assignment, *map_shape)
    assert cells.n_cells == len(expected)
    assert_array_equal(cells.sizes.ravel(), [len(cell) for cell in expected])
    values = np.random.default_rng(4).normal(size=(map_shape[0], 2, map_shape[1]))
    sums = cells.sums(values)
    literal = [[sum(values[r, i, c] for r, c in cell) for i in range(2)] for cell in expected]
    assert_allclose(sums.transpose(0, 2, 1).reshape(-1, 2), literal, rtol=1e-12)
    spread = cells.spread(sums)
    for (r, c), total in [(u, t) for cell, t in zip(expected, literal, strict=True) for u in cell]:
        assert_allclose(spread[r, :, c], total, rtol=1e-12)


@pytest.mark.parametrize("assignment", ["image", "patch", (2, 3), (7, 1)])
def test_counts_and_the_largest_follow_from_the_sizes(assignment):
    cells = Cells.from_assignment(assignment, (7, 8))
    assert cells.n_cells == cells.sizes.size
    assert cells.largest == cells.sizes.max()
