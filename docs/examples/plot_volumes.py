"""
Kernels that see motion
=======================

A film is a volume whose depth is time. A slab is some frames of it that follow one another, which
an image can hold as its channels. A layer of slabs learns kernels of three axes: here edges and
spots that move.
"""

# %%
# Films of gravel that drifts to the left or the right, up or down, by one pixel from frame to
# frame. No frame tells where the gravel drifts. The upper half of the picture gives the films for
# training, and the lower half those for testing.
import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from skimage.data import gravel
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_calm import ConvGMMFeatures

DIRECTIONS = {"left": (0, 1), "right": (0, -1), "up": (1, 0), "down": (-1, 0)}
N_FRAMES, SIDE = 6, 24


def films(picture, n, rng):
    """Films (n, frames, height, width), and the numbers of their directions."""
    y, found = rng.integers(4, size=n), []
    for direction in y:
        step = np.array([*DIRECTIONS.values()][direction])
        corner = rng.integers(N_FRAMES, np.array(picture.shape) - SIDE - N_FRAMES)
        corners = corner + step * np.arange(N_FRAMES)[:, np.newaxis]
        found.append([picture[a : a + SIDE, b : b + SIDE] for a, b in corners])
    X = np.array(found, dtype=np.float32)
    return X + rng.normal(scale=5, size=X.shape).astype(np.float32), y


rng = np.random.default_rng(0)
upper, lower = np.split(gravel(), 2)
X_train, y_train = films(upper, 200, rng)
X_test, y_test = films(lower, 400, rng)

# %%
# The features of a film are the means of those of its slabs. With a depth of one frame, the
# classifier can only guess.


def slabs(volumes, depth):
    windows = sliding_window_view(volumes, depth, axis=1)  # the depth comes last
    return windows.reshape(-1, *windows.shape[2:])


def features(layer, volumes, depth):
    found = layer.transform(slabs(volumes, depth))
    return found.reshape(len(volumes), -1, found.shape[1]).mean(axis=1)


layers = {}
for depth in (1, 3):
    layer = ConvGMMFeatures(48, patch_size=7, pool_grid=1, random_state=0)
    layers[depth] = layer.fit(slabs(X_train, depth))
    classifier = make_pipeline(
        FunctionTransformer(np.sqrt), StandardScaler(), RidgeClassifierCV(np.logspace(-2, 4, 13))
    )
    classifier.fit(features(layer, X_train, depth), y_train)
    accuracy = classifier.score(features(layer, X_test, depth), y_test)
    print(f"{depth} frames: accuracy {accuracy:.2f}")

# %%
# A film of each direction:
figure, axes = plt.subplots(4, N_FRAMES, figsize=(8, 5.6), layout="constrained")
for direction, (name, row) in enumerate(zip(DIRECTIONS, axes, strict=True)):
    for ax, frame in zip(row, X_test[np.argmax(y_test == direction)], strict=True):
        ax.imshow(frame, cmap="gray")
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)
plt.show()

# %%
# Each group below is a kernel of three frames. An edge is a little further on in each frame. These
# eight kernels change most from frame to frame.
kernels = layers[3].means_
changes = np.square(np.diff(kernels, axis=3)).sum(axis=(1, 2, 3))
moving = kernels[np.argsort(-changes)[:8]]
figure = plt.figure(figsize=(9, 2))
for part, kernel in zip(figure.subfigures(2, 4).flat, moving, strict=True):
    most = np.abs(kernel).max()
    axes = part.subplots(1, 3, gridspec_kw={"wspace": 0.06})
    for ax, frame in zip(axes, np.moveaxis(kernel, 2, 0), strict=True):
        ax.imshow(frame, cmap="gray", vmin=-most, vmax=most)
        ax.set_axis_off()
plt.show()
