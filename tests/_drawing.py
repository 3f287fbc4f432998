"""Small fitted estimators, and what displays draw of them."""

import numpy as np

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import (
    KernelDisplay,
    LowerBoundDisplay,
    ResponsibilityDisplay,
    ScoreMapDisplay,
    TopPatchesDisplay,
)

ALL = [KernelDisplay, LowerBoundDisplay, ResponsibilityDisplay, ScoreMapDisplay, TopPatchesDisplay]
OF_IMAGES = [ResponsibilityDisplay, TopPatchesDisplay]
GEOMETRIES = [
    {"patch_size": 3},
    {"patch_size": 4, "padding": 2},
    {"patch_size": 4, "padding": "same", "padding_mode": "constant"},
    {"patch_size": (3, 4), "stride": (2, 1), "padding": (0, 3)},
    {"patch_size": 2, "stride": 3},
    {"patch_size": 3, "padding": (3, 5)},
    {"patch_size": (3, 2), "dilation": (2, 3), "padding": (1, 2)},
]


def fitted(channels=1, shape=(6, 6), **options):
    X = images(channels=channels, shape=shape)
    options = {"patch_size": 3, **options}
    options = {"padding": 0, **options}
    return ConvGMMFeatures(5, max_iter=3, tol=0, random_state=0, **options).fit(X)


def images(n=20, channels=1, shape=(6, 6), seed=0):
    return np.random.default_rng(seed).random((n, *shape, channels))


def draw(display, model, X, **options):
    """The display of an estimator, whether or not it needs images."""
    arguments = (model, X) if display in [*OF_IMAGES, ScoreMapDisplay] else (model,)
    return display.from_estimator(*arguments, **options)


def drawn(display):
    return np.asarray(display.ax_.get_images()[0].get_array())


def stretched(kernel):
    """A kernel of one or two channels from black to white."""
    grey = kernel.mean(axis=-1)
    return (grey - grey.min()) / (grey.max() - grey.min())


def drawn_pixels(display):
    """The whole figure as it is drawn, (height, width, 3), between 0 and 1."""
    canvas = display.figure_.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), float)[..., :3] / 255
