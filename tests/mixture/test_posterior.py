import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import _reference
from _twins import (
    assert_statistics_close,
    assignments,
    engine_maps,
    geometries,
    layer_of,
    make_problem,
    preprocessings,
    seeds,
    twin,
)
from sklearn_calm._convolution.patches import SPARSE_BELOW
from sklearn_calm._mixture.cells import NEGLIGIBLE, Cells
from sklearn_calm._mixture.em import (
    e_step,
)
from sklearn_calm._mixture.posterior import (
    MANY_COMPONENTS,
    find_few_components,
    find_posterior,
    responsibilities,
)


@assignments
@preprocessings
@seeds
def test_responsibilities_are_those_of_the_twin(assignment, preprocessing, seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, assignment, preprocessing)
    parameters = problem.parameters(rng)
    gamma = responsibilities(engine_maps(problem, parameters), problem.model.cells)
    for i, image in enumerate(problem.images.X):
        joint = _reference.log_joint(image, twin(parameters), problem.setting)
        cells = _reference.cells(assignment, *joint.shape[:2])
        expected = _reference.responsibilities(joint, cells)
        assert_allclose(gamma[:, i], expected, rtol=1e-9, atol=1e-14)


# Where the posterior is sparse


@pytest.mark.parametrize("assignment", ["image", (2, 3)])
@preprocessings
@seeds
def test_sparse_posterior_is_the_dense_one(assignment, preprocessing, seed):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, assignment, preprocessing)
    parameters = problem.parameters(rng, noise_variance=0.01)
    maps, weights = engine_maps(problem, parameters), problem.sample_weight
    sparse = find_posterior(maps.copy(), problem.model.cells, weights, SPARSE_BELOW)
    dense = find_posterior(maps.copy(), problem.model.cells, weights)
    assert sparse.positions is not None
    assert dense.positions is None
    assert_allclose(sparse.log_normalizers, dense.log_normalizers, rtol=1e-12)
    # All e_steps of this mixture take the sparse path, so the twin checks their sums.
    layer = layer_of(parameters, problem.model)
    actual = e_step(problem.padded, weights, layer)
    expected = _reference.e_step(problem.images.X, weights, twin(parameters), problem.setting)
    # Differences of large scores cost some digits.
    assert_statistics_close(actual, expected, rtol=1e-8)
    full = np.zeros_like(maps)
    map_rows, lines = sparse.positions
    full.reshape(len(maps), -1, maps.shape[-1])[map_rows, lines] = sparse.exponentials
    assert_allclose(
        full * sparse.scale[..., None],
        dense.exponentials * dense.scale[..., None],
        rtol=1e-10,
        atol=4e-12,
    )


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("assignment", ["image", (2, 3)])
@pytest.mark.parametrize("factor", [0.9, 1.5])
def test_what_sparsity_leaves_out_weighs_next_to_nothing(dtype, bound, assignment, factor):
    # The worst case: in each cell one position, and all the others just too low to be kept.
    rng = np.random.default_rng(9)
    cells = Cells.from_assignment(assignment, (40, 50))
    n_components, limit = 8, NEGLIGIBLE[np.dtype(dtype).name]
    assert limit <= bound
    level = np.log(factor * limit / cells.sizes.max() / n_components)
    maps = np.full((40, 3, 50, n_components), level, dtype=dtype)
    for top in cells.row_edges[:-1]:
        for left in cells.column_edges[:-1]:
            maps[top, :, left, rng.integers(n_components)] = 0
    masses = np.exp(maps, dtype=np.float64).sum(axis=3)
    found = find_posterior(maps, cells, np.ones(3), SPARSE_BELOW)
    if factor > 1:
        assert found.positions is None
        return
    kept = np.zeros(masses.shape, dtype=bool)
    kept.reshape(40, -1)[found.positions] = True
    assert kept.sum() == 3 * cells.n_cells
    totals = cells.sums(masses)
    lost = cells.sums(np.where(kept, 0, masses)) / totals
    assert 0 < lost.max() <= bound
    # The normaliser counts them still.
    exact = (np.log(totals) + np.log(cells.sizes.mean() / cells.sizes)[:, None]).sum(axis=(0, 2))
    eps = np.finfo(dtype).eps
    assert_allclose(found.log_normalizers, exact, rtol=1e-12, atol=4 * eps * cells.n_cells)


# Where few of many components matter


@geometries
@pytest.mark.parametrize("preprocessing", ["raw", "both"])
def test_few_components_give_the_statistics_of_the_twin(geometry, preprocessing):
    rng = np.random.default_rng(3)
    problem = make_problem(rng, "patch", preprocessing, geometry)
    parameters = problem.parameters(rng, MANY_COMPONENTS, noise_variance=1e-3)
    maps, weights = engine_maps(problem, parameters), problem.sample_weight
    before = maps.copy()
    assert find_few_components(maps, problem.model.cells, weights) is not None
    assert_array_equal(maps, before)
    # So the twin checks the sums of the few.
    actual = e_step(problem.padded, weights, layer_of(parameters, problem.model))
    expected = _reference.e_step(problem.images.X, weights, twin(parameters), problem.setting)
    assert_statistics_close(actual, expected, rtol=1e-8)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("factor", [0.9, 1.5])
def test_components_that_are_left_out_weigh_next_to_nothing(dtype, bound, factor):
    # The worst case: one component at each position, and all others just too low to count.
    rng = np.random.default_rng(4)
    cells = Cells.from_assignment("patch", (4, 5))
    n_components, limit = 2 * MANY_COMPONENTS, NEGLIGIBLE[np.dtype(dtype).name]
    maps = np.full((4, 6, 5, n_components), np.log(factor * limit / n_components), dtype)
    best = rng.integers(n_components, size=(4, 6, 5))
    np.put_along_axis(maps, best[..., None], 0, axis=-1)
    weights = rng.uniform(0.2, 3, size=6)
    found = find_few_components(maps, cells, weights)
    if factor > 1:
        assert found is None
        return
    for y, shares in enumerate(found.shares):
        assert_array_equal(shares.indices, best[y].ravel())
        assert_allclose(shares.data, np.repeat(weights, 5), rtol=1e-6)
    exact = np.log(np.exp(maps, dtype=np.float64).sum(axis=-1)).sum(axis=(0, 2))
    assert_allclose(found.log_normalizers, exact, rtol=0, atol=20 * bound)


@pytest.mark.parametrize("assignment", ["image", (2, 3)])
def test_components_are_left_out_only_where_each_position_is_a_cell(assignment):
    rng = np.random.default_rng(5)
    problem = make_problem(rng, assignment)
    parameters = problem.parameters(rng, MANY_COMPONENTS, noise_variance=1e-3)
    maps = engine_maps(problem, parameters)
    assert find_few_components(maps, problem.model.cells, problem.sample_weight) is None
