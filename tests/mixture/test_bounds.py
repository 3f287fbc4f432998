import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from _twins import (
    GEOMETRIES,
    assert_statistics_close,
    layer_of,
    make_em,
    make_problem,
    numpy_in,
    preprocessings,
)
from sklearn_calm import ConvGMMFeatures
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._convolution.patches import StripedPatches
from sklearn_calm._images.reader import Images
from sklearn_calm._mixture import bounds as bounds_module
from sklearn_calm._mixture import training
from sklearn_calm._mixture.bounds import ScoreBounds, block_lengths, bounded_e_step, bounds_pay
from sklearn_calm._mixture.cells import Cells
from sklearn_calm._mixture.em import e_step
from sklearn_calm._mixture.history import History
from sklearn_calm._mixture.model import PatchModel, conv_layer, log_joint
from sklearn_calm._mixture.training import run

WIDE = ((5, 4), (1, 1), (0, 0), 2)


def wander(rng, parameters, step):
    """A mixture a little farther on."""
    return parameters._replace(
        means=parameters.means + step * rng.normal(size=parameters.means.shape),
        weights=rng.dirichlet(np.full(len(parameters.weights), 50.0)),
        noise_variance=parameters.noise_variance * rng.uniform(0.9, 1.1),
    )


def true_best(problem, parameters):
    """sigma^2 max_k l(k, u), computed: (n, rows, columns)."""
    layer = layer_of(parameters, problem.model)
    maps = log_joint(layer.view(problem.padded), layer)
    return parameters.noise_variance * maps.max(axis=-1).transpose(1, 0, 2)


@pytest.mark.parametrize("assignment", ["image", (2, 2)])
@preprocessings
@pytest.mark.parametrize("geometry", [*GEOMETRIES[:3], WIDE])
@pytest.mark.parametrize("step", [0.001, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_passes_with_bounds_are_those_without(assignment, preprocessing, geometry, step, dtype):
    rng = np.random.default_rng(0)
    problem = make_problem(rng, assignment, preprocessing, geometry)
    images = problem.padded.astype(dtype)
    parameters = problem.parameters(rng, n_components=5, noise_variance=0.02)
    bounds = ScoreBounds(len(images), problem.model.geometry)
    for _ in range(5):
        layer = conv_layer(parameters, problem.model)
        moves = bounds.advance(layer, parameters.noise_variance)
        layer = layer.prepared(problem.model, numpy_in(dtype))
        arguments = (images, problem.sample_weight, layer)
        found, upper = bounded_e_step(*arguments, bounds.upper, moves, parameters.noise_variance)
        assert_statistics_close(found, e_step(*arguments), 1e-10 if dtype == np.float64 else 3e-4)
        # The shortcut does not lie: no position is better than its bound.
        slack = 1e-5 * np.abs(upper).max()
        assert (upper + slack >= true_best(problem, parameters)).all()
        bounds.upper[...] = upper
        parameters = wander(rng, parameters, step)


def test_positions_out_of_reach_are_not_computed(monkeypatch):
    rng = np.random.default_rng(1)
    problem = make_problem(rng, "image", "raw", WIDE, n_images=6)
    parameters = problem.parameters(rng, n_components=5, noise_variance=0.01)
    computed = []
    correlate_at = StripedPatches.correlate_at

    def count(patches, positions, kernels, bias):
        computed.append(len(positions[0]))
        return correlate_at(patches, positions, kernels, bias)

    monkeypatch.setattr(StripedPatches, "correlate_at", count)
    monkeypatch.setattr("sklearn_calm._mixture.training.bounds_pay", lambda *_: True)
    em = make_em(problem, batch_size=6)
    for _ in range(2):
        em.e_step(parameters)
        parameters = wander(rng, parameters, 1e-4)
    best, within_reach = computed  # of the second pass: the first computes all
    assert best == 6
    assert 6 <= within_reach < 0.5 * 6 * problem.model.geometry.n_positions


@preprocessings
@pytest.mark.parametrize("geometry", [*GEOMETRIES, WIDE, ((6, 7), (1, 1), (0, 0), 1)])
@pytest.mark.parametrize("blocks", [1, 3, 4])
def test_lengths_of_blocks_bound_inner_products(monkeypatch, preprocessing, geometry, blocks):
    monkeypatch.setattr("sklearn_calm._mixture.bounds.BLOCKS", blocks)
    rng = np.random.default_rng(2)
    problem = make_problem(rng, "image", preprocessing, geometry)
    old = problem.parameters(rng, n_components=4)
    new = wander(rng, old, 0.3)
    bounds = ScoreBounds(4, problem.model.geometry)
    for parameters in (old, new):
        layer = conv_layer(parameters, problem.model)
        moves = bounds.advance(layer, parameters.noise_variance)
    patches = problem.model.view(problem.padded)
    lengths = block_lengths(patches)
    assert lengths.shape[2:] == (
        problem.model.geometry.map_shape[0],
        4,
        problem.model.geometry.map_shape[1],
    )
    risen = true_best(problem, new) - true_best(problem, old)
    assert (risen.transpose(1, 0, 2) <= bounds_module.rises(patches, moves) + 1e-9).all()


@pytest.mark.parametrize("assignment", ["image", (2, 2)])
@pytest.mark.parametrize("normalize", [None, "contrast"])
def test_a_fit_with_bounds_is_one_without(monkeypatch, assignment, normalize):
    X = np.random.default_rng(3).normal(size=(30, 12, 12))
    model = ConvGMMFeatures(
        6,
        patch_size=5,
        assignment=assignment,
        normalize=normalize,
        max_iter=12,
        tol=0,
        batch_size=7,
        random_state=0,
    )
    fits = {}
    for kept in (True, False):
        monkeypatch.setattr("sklearn_calm._mixture.training.bounds_pay", lambda *_, kept=kept: kept)
        for n_jobs in (1, 2):
            model.set_params(n_jobs=n_jobs).fit(X)
            fits[kept, n_jobs] = model.means_, model.lower_bounds_
    assert_allclose(fits[True, 1][0], fits[False, 1][0], rtol=1e-7, atol=1e-9)
    assert_allclose(fits[True, 1][1], fits[False, 1][1], rtol=1e-11)
    assert (np.diff(fits[True, 1][1]) >= -1e-9 * np.abs(fits[True, 1][1][1:])).all()
    for kept in (True, False):
        for a, b in zip(fits[kept, 1], fits[kept, 2], strict=True):
            assert_array_equal(a, b)


def test_images_without_weight_change_nothing(monkeypatch):
    rng = np.random.default_rng(4)
    problem = make_problem(rng, "image", "raw", WIDE, n_images=6)
    problem.images.sample_weight = np.array([1.0, 0, 2, 0, 0, 1])
    parameters = problem.parameters(rng, n_components=3, noise_variance=0.05)
    monkeypatch.setattr("sklearn_calm._mixture.training.bounds_pay", lambda *_: True)
    em = make_em(problem, batch_size=2)
    for _ in range(3):
        literal = make_em(problem, batch_size=2).statistics(parameters)
        assert_statistics_close(em.e_step(parameters), literal)
        parameters = wander(rng, parameters, 0.01)


def test_bounds_pay_where_products_are_many_and_memory_is_at_hand(tmp_path):
    geometry = PatchGeometry((32, 32, 1), (20, 20), (1, 1))
    images = Images(np.zeros((10, 32, 32)), geometry)

    def model(assignment, geometry=geometry):
        cells = Cells.from_assignment(assignment, geometry.map_shape)
        return PatchModel(geometry, cells, None)

    assert bounds_pay(images, model("image"), 64)
    assert bounds_pay(images, model((2, 2)), 64)
    assert not bounds_pay(images, model("patch"), 64)
    assert not bounds_pay(images, model("image"), 8)
    small = geometry._replace(patch_size=(5, 5))
    assert not bounds_pay(images, model("image", small), 64)
    many = Images(np.broadcast_to(np.float32(0), (10**6, 32, 32)), geometry)
    assert not bounds_pay(many, model("image"), 64)
    mapped = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(10, 32, 32))
    assert not bounds_pay(Images(mapped, geometry), model("image"), 64)
    large = PatchGeometry((96, 96, 3), (31, 31), (1, 1))  # by Fourier transforms
    assert not bounds_pay(Images(np.zeros((2, 96, 96, 3)), large), model("image", large), 64)


def test_a_run_of_em_keeps_its_bounds(monkeypatch):
    rng = np.random.default_rng(5)
    problem = make_problem(rng, "image", "raw", WIDE, n_images=6)
    parameters = problem.parameters(rng, n_components=3, noise_variance=0.3)
    monkeypatch.setattr("sklearn_calm._mixture.training.bounds_pay", lambda *_: True)
    calls = []
    step = training.bounded_e_step
    monkeypatch.setattr(
        training,
        "bounded_e_step",
        lambda *args, **options: calls.append(args[4]) or step(*args, **options),
    )
    run(make_em(problem, batch_size=6), parameters, History(0, 3, 1))
    assert [moves is None for moves in calls] == [True, False, False]
