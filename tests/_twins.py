"""One small problem, told twice: to the engine and to its literal twin.

Images are (n, 7, 8, C) and float64 unless a test says otherwise. The preprocessing is the twin's
own, so that no fast path is held to itself.
"""

from typing import NamedTuple

import numpy as np
import pytest

import _reference
from sklearn_calm._arrays.execution import Execution, Workers
from sklearn_calm._arrays.namespace import Placement
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._convolution.fourier import FourierPatches
from sklearn_calm._convolution.geometry import PatchGeometry, on_both_sides
from sklearn_calm._convolution.patches import StripedPatches
from sklearn_calm._convolution.pooling import POOLINGS, Pooler
from sklearn_calm._convolution.windows import Windows
from sklearn_calm._images.reader import Images
from sklearn_calm._mixture.cells import Cells
from sklearn_calm._mixture.model import MixtureParameters, PatchModel, conv_layer, log_joint
from sklearn_calm._mixture.preprocessing import Preprocessing
from sklearn_calm._mixture.training import EM, Options

HEIGHT, WIDTH = 7, 8
FLOOR = 0.05

ASSIGNMENTS = ["image", (2, 3), "patch"]
PREPROCESSINGS = ["raw", "contrast", "whitened", "both"]
# (patch_size, stride, padding, n_channels), and the dilation where there is one.
GEOMETRIES = [
    ((3, 2), (1, 1), (0, 0), 1),
    ((2, 3), (2, 1), (1, 2), 1),
    ((3, 3), (1, 2), (2, 0), 3),
    ((1, 4), (2, 2), (0, 3), 2),
    ((3, 3), (1, 1), (1, 0), 1, (2, 3)),
]
# Patches as large as the image, one pixel wide, and strides that leave pixels over.
EDGE_CASES = [
    ((HEIGHT, WIDTH), (1, 1), (0, 0), 2),
    ((1, 1), (1, 1), (0, 0), 2),
    ((HEIGHT + 2, 1), (1, 3), (1, 0), 1),
    ((2, 2), (4, 5), (0, 1), 1),
    ((2, 2), (7, 9), (0, 0), 3),
    ((3, 2), (2, 3), (2, 1), 3, (3, 2)),
    ((2, 2), (1, 1), (0, 0), 2, (HEIGHT - 1, WIDTH - 1)),
    ((3, 1), (4, 1), (1, 0), 1, (2, 1)),
    ((1, 3), (1, 2), (0, 2), 2, (1, 4)),
]

assignments = pytest.mark.parametrize("assignment", ASSIGNMENTS)
preprocessings = pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
geometries = pytest.mark.parametrize("geometry", GEOMETRIES)
seeds = pytest.mark.parametrize("seed", [0, 1])
# The convolution as products of patches, or by Fourier transforms.
patch_types = pytest.mark.parametrize("patch_type", [StripedPatches, FourierPatches])


class Problem(NamedTuple):
    """Images (n, H, W, C), and the model of them in both tongues."""

    images: Images
    sample_weight: np.ndarray
    model: PatchModel
    setting: _reference.Setting

    @property
    def padded(self):
        return self.images.read(slice(None))

    def parameters(self, rng, n_components=3, noise_variance=0.7):
        """A random mixture in x~ space."""
        means = rng.normal(size=(n_components, self.model.geometry.patch_length))
        if self.model.preprocessing.contrast_floor is not None:
            means -= means.mean(axis=1, keepdims=True)
        weights = rng.dirichlet(np.full(n_components, 5.0))
        return MixtureParameters(means, weights, noise_variance)


def with_dilation(geometry):
    """A geometry whose patches may have no gaps, as five values."""
    return (*geometry, (1, 1))[:5]


def grid_that_fits(assignment, geometry):
    """(2, 3) on every map but those of one row or two columns."""
    if isinstance(assignment, str):
        return assignment
    (ph, pw), (sv, sh), (pv, pad), _, (dv, dh) = with_dilation(geometry)
    height, width = dv * (ph - 1) + 1, dh * (pw - 1) + 1
    map_shape = ((HEIGHT + 2 * pv - height) // sv + 1, (WIDTH + 2 * pad - width) // sh + 1)
    return tuple(min(a, b) for a, b in zip(assignment, map_shape, strict=True))


def twin(parameters):
    """The mixture, as the twin takes it."""
    return _reference.Mixture(*parameters)


def literal_patches(problem):
    """Raw patches of each image: (n, positions, D)."""
    length = problem.model.geometry.patch_length
    return np.array(
        [
            _reference.patch_vectors(image, problem.setting).reshape(-1, length)
            for image in problem.images.X
        ]
    )


def literal_maps(problem, parameters):
    """The log joint and the responsibilities of each image, by the twin: (rows, columns, K)."""
    maps = []
    for image in problem.images.X:
        joint = _reference.log_joint(image, twin(parameters), problem.setting)
        cells = _reference.cells(problem.setting.assignment, *joint.shape[:2])
        maps.append((joint, _reference.responsibilities(joint, cells)))
    return maps


def engine_maps(problem, parameters):
    """The log joint of all images, by the engine: (rows, n, columns, K)."""
    layer = layer_of(parameters, problem.model)
    return log_joint(layer.view(problem.padded), layer)


def layer_of(parameters, model, dtype=np.float64, scratch=None, patch_type=None):
    """The convolution layer of a mixture, prepared for NumPy in the precision given."""
    return conv_layer(parameters, model).prepared(model, numpy_in(dtype), scratch, patch_type)


def make_problem(
    rng,
    assignment="image",
    preprocessing="raw",
    geometry=GEOMETRIES[0],
    n_images=4,
    X=None,
    weighted=True,
):
    patch_size, stride, padding, n_channels, dilation = with_dilation(geometry)
    if X is None:
        X = rng.normal(size=(n_images, HEIGHT, WIDTH, n_channels)) + 0.5
    X.flags.writeable = False
    sample_weight = rng.uniform(0.2, 3, size=len(X)) if weighted else np.ones(len(X))
    geometry = PatchGeometry(
        X.shape[1:], patch_size, stride, on_both_sides(padding), dilation=dilation
    )
    floor = FLOOR if preprocessing in ("contrast", "both") else None
    mean = whitener = None
    if preprocessing in ("whitened", "both"):
        plain = _reference.Setting(
            patch_size, stride, padding, contrast_floor=floor, dilation=dilation
        )
        patches = np.concatenate(
            [
                _reference.preprocessed_patches(x, plain).reshape(-1, geometry.patch_length)
                for x in X
            ]
        )
        mean, whitener = _reference.whitening(patches, np.ones(len(patches)), 0.1)
    model = PatchModel(
        geometry,
        Cells.from_assignment(assignment, geometry.map_shape),
        Preprocessing(floor, mean, whitener),
    )
    setting = _reference.Setting(
        patch_size, stride, padding, assignment, floor, mean, whitener, dilation
    )
    return Problem(Images(X, geometry, sample_weight), sample_weight, model, setting)


def make_pooler(problem, pooling, pool_grid, window="box", width=None, both=False, contrast=0.0):
    """What pools the maps of a problem by the name of the pooling."""
    if pooling is None:
        return None
    map_shape = problem.model.geometry.map_shape
    windows = Windows.from_grid(window, width, pool_grid, map_shape)
    return Pooler(POOLINGS[pooling], windows, both, contrast=contrast)


def numpy_in(dtype):
    """NumPy, in the precision given."""
    return Placement("numpy", None, np.dtype(dtype))


def make_em(
    problem, *, learn_weights=True, noise_variance="auto", batch_size=3, n_jobs=1, random_state=0
):
    """EM of a problem, or of any other pair of images and their model."""
    return EM(
        problem.images,
        problem.model,
        Options(learn_weights, noise_variance),
        Execution(Workers(n_jobs), batch_size, Scratch()),
        np.random.RandomState(random_state),
    )


def assert_statistics_close(actual, expected, rtol=1e-9):
    """Statistics equal field by field, sums to within rtol of the largest."""
    for name, a, b in zip(expected._fields, actual, expected, strict=False):
        np.testing.assert_allclose(
            a, b, rtol=rtol, atol=rtol * np.abs(b).max(), err_msg=f"statistics.{name}"
        )
