"""Problems that are drawn at random, each held to the literal twin.

The other tests hold every option to the twin for a few problems. These draw what nobody thought of
putting together: shapes, strides, paddings, channels, weights and options.
"""

import warnings
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning

import _reference
from _models import PREPROCESSINGS, WITHOUT_THRESHOLDS
from _twins import (
    FLOOR,
    layer_of,
    literal_maps,
    make_pooler,
    make_problem,
    numpy_in,
    twin,
)
from sklearn_calm import ConvGMMFeatures
from sklearn_calm._convolution.fourier import FourierPatches
from sklearn_calm._convolution.patches import StripedPatches
from sklearn_calm._convolution.pooling import POOLINGS as TABLE
from sklearn_calm._convolution.windows import WINDOWS
from sklearn_calm._images.reader import Images
from sklearn_calm._mixture.em import e_step, log_likelihoods
from sklearn_calm._mixture.features import batch_features, folded
from sklearn_calm._mixture.model import conv_layer

# The same examples in every run; a machine that is busy with other work is no fault of a test.
drawn = settings(
    derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
patch_types = st.sampled_from([StripedPatches, FourierPatches])


class Shape(NamedTuple):
    """Images of a shape, and where the patches in them lie."""

    image_shape: tuple
    patch_size: tuple
    stride: tuple
    padding: tuple
    dilation: tuple

    @property
    def geometry(self):
        return self.patch_size, self.stride, self.padding, self.image_shape[2], self.dilation

    @property
    def map_shape(self):
        lengths = zip(self.patch_size, self.dilation, strict=True)
        reach = [gap * (patch - 1) + 1 for patch, gap in lengths]
        sides = zip(self.image_shape, self.padding, reach, self.stride, strict=False)
        return tuple((side + 2 * pad - length) // step + 1 for side, pad, length, step in sides)


@st.composite
def shapes(draw):
    height, width, n_channels = draw(st.tuples(*map(st.integers, (1, 1, 1), (6, 7, 3))))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    sides = [side + 2 * pad for side, pad in zip((height, width), padding, strict=True)]
    patch_size = tuple(draw(st.integers(1, min(side, 4))) for side in sides)
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = tuple(
        draw(st.integers(1, min(max((side - 1) // max(patch - 1, 1), 1), 3)))
        for side, patch in zip(sides, patch_size, strict=True)
    )
    return Shape((height, width, n_channels), patch_size, stride, padding, dilation)


def grids(map_shape):
    return st.tuples(*(st.integers(1, side) for side in map_shape))


def patches_vary(X, shape, preprocessing):
    """Whether there is a variance to whiten."""
    floor = FLOOR if preprocessing == "both" else None
    setting = _reference.Setting(*shape[1:], contrast_floor=floor)
    patches = np.stack([_reference.preprocessed_patches(x, setting) for x in X])
    return patches.std(axis=(0, 1, 2)).max() > 0.05


@st.composite
def inputs(draw):
    """A shape, images of it, their weights, an assignment, a preprocessing, a generator."""
    shape = draw(shapes())
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    n_images = draw(st.integers(1, 3))
    X = rng.normal(size=(n_images, *shape.image_shape)) + rng.normal()
    weights = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=3, max_size=3))
    weights = np.array([1.0, *weights][:n_images])
    assignment = draw(st.sampled_from(["image", "patch"]) | grids(shape.map_shape))
    preprocessing = draw(st.sampled_from(list(PREPROCESSINGS)))
    if preprocessing in ("contrast", "both"):
        assume(np.prod((*shape.patch_size, shape.image_shape[2])) > 1)  # or all values are 0
    if preprocessing in ("whitened", "both"):
        assume(patches_vary(X[weights > 0], shape, preprocessing))
    return shape, X, weights, assignment, preprocessing, rng


@st.composite
def problems(draw):
    """A problem told to the engine and to the twin, and a mixture for it."""
    shape, X, weights, assignment, preprocessing, rng = draw(inputs())
    problem = make_problem(rng, assignment, preprocessing, shape.geometry, X=X)
    images = Images(X, problem.model.geometry, weights)
    problem = problem._replace(images=images, sample_weight=weights)
    n_components, noise_variance = draw(st.integers(1, 4)), draw(st.sampled_from([0.05, 0.7, 4.0]))
    return problem, problem.parameters(rng, n_components, noise_variance)


@st.composite
def poolings(draw, map_shape):
    """Name of a pooling, grid, window and its width, and whether both polarities count."""
    pooling, grid = draw(st.sampled_from(WITHOUT_THRESHOLDS)), draw(grids(map_shape))
    window = draw(st.sampled_from(list(WINDOWS))) if TABLE[pooling].weighted else "box"
    both = TABLE[pooling].rectified and draw(st.booleans())
    return pooling, grid, window, draw(st.sampled_from([0.4, 1.0])), both


@drawn
@given(problems(), patch_types)
def test_statistics_are_those_of_the_twin(drawn_problem, patch_type):
    problem, parameters = drawn_problem
    layer = layer_of(parameters, problem.model, patch_type=patch_type)
    found = e_step(problem.padded, problem.sample_weight, layer)
    arguments = problem.images.X, problem.sample_weight, twin(parameters), problem.setting
    expected = _reference.e_step(*arguments)
    for name, value in expected._asdict().items():
        # Positions that hold next to nothing of a cell are left out (eq. 16).
        assert_allclose(getattr(found, name), value, rtol=1e-8, atol=1e-10, err_msg=name)


@drawn
@given(problems(), patch_types)
def test_log_likelihoods_are_those_of_the_twin(drawn_problem, patch_type):
    problem, parameters = drawn_problem
    layer = layer_of(parameters, problem.model, patch_type=patch_type)
    found = log_likelihoods(problem.padded, layer, parameters.noise_variance)
    expected = [
        _reference.image_log_likelihood(image, twin(parameters), problem.setting)
        for image in problem.images.X
    ]
    assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


@drawn
@given(st.data(), problems(), patch_types)
def test_features_are_those_of_the_twin(data, drawn_problem, patch_type):
    problem, parameters = drawn_problem
    geometry = problem.model.geometry
    pooling, grid, window, width, both = data.draw(poolings(geometry.map_shape))
    pooler = make_pooler(problem, pooling, grid, window, width, both)
    layer = folded(conv_layer(parameters, problem.model), pooler)
    layer = layer.prepared(problem.model, numpy_in(np.float64), patch_type=patch_type)
    found = batch_features(slice(None), problem.images, layer, pooler)
    expected = [
        _reference.pool(joint, gamma, pooling, grid, geometry.patch_length, window, width, both)
        for joint, gamma in literal_maps(problem, parameters)
    ]
    assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def whitened(setting, X, weights, reg_covar):
    """The setting with the whitening of all patches of images (n, H, W, C)."""
    patches = np.stack([_reference.preprocessed_patches(x, setting) for x in X])
    n_positions = patches.shape[1] * patches.shape[2]
    patches = patches.reshape(-1, patches.shape[-1])
    each = np.repeat(weights, n_positions)
    mean, whitener = _reference.whitening(patches, each, reg_covar)
    return replace(setting, mean=mean, whitener=whitener)


@drawn
@given(st.data(), inputs(), st.booleans())
def test_the_estimator_is_the_twin(data, drawn_inputs, learn_weights):
    """A pass from given kernels, and what the model then says of the images."""
    shape, X, weights, assignment, preprocessing, rng = drawn_inputs
    pooling, grid, window, width, both = data.draw(poolings(shape.map_shape))
    kernels = 0.5 * rng.normal(size=(2, *shape.patch_size, shape.image_shape[2]))
    assume(len(X) * np.prod(shape.map_shape) >= 2)  # as many patches as components
    _, patch_size, stride, padding, dilation = shape
    model = ConvGMMFeatures(
        2,
        patch_size=patch_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        assignment=assignment,
        **PREPROCESSINGS[preprocessing],
        noise_variance=1.5,
        learn_weights=learn_weights,
        pooling=pooling,
        pool_grid=grid,
        pool_window=window,
        pool_width=width,
        polarity="both" if both else "positive",
        init_params=kernels,
        max_iter=1,
        tol=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of a component that explains nothing
        model.fit(X, sample_weight=weights)
    setting = _reference.Setting(
        patch_size, stride, padding, assignment, model.contrast_floor_, dilation=dilation
    )
    if model.whiten:
        setting = whitened(setting, X, weights, model.reg_covar)
    start = _reference.Mixture(kernels.reshape(2, -1), np.full(2, 0.5), 1.5)
    statistics = _reference.e_step(X, weights, start, setting)
    assume(statistics.counts.min() > 1e-3)  # the mean of nothing is not defined
    bound = _reference.objective(statistics, 1.5) / statistics.n_images
    assert_allclose(model.lower_bound_, bound, rtol=1e-8)
    expected = _reference.m_step(statistics, learn_weights, 1.5, setting.mean, setting.whitener)
    assert_allclose(model.means_.reshape(2, -1), expected.means, rtol=1e-7, atol=1e-7)
    assert_allclose(model.weights_, expected.weights, rtol=1e-7)
    for x, features, score in zip(X, model.transform(X), model.score_samples(X), strict=True):
        joint = _reference.log_joint(x, expected, setting)
        gamma = _reference.responsibilities(joint, _reference.cells(assignment, *shape.map_shape))
        pooled = _reference.pool(joint, gamma, pooling, grid, kernels[0].size, window, width, both)
        assert_allclose(features, pooled, rtol=1e-7, atol=1e-7)
        likelihood = _reference.image_log_likelihood(x, expected, setting)
        assert_allclose(score, likelihood, rtol=1e-7, atol=1e-7)
