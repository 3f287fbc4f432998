"""
Segment textures from scribbles
===============================

You mark a few pixels of each kind, a classifier learns them, and it finds what all other pixels
are. What it needs are features of pixels. Here kernels that are learned from the image itself are
compared with the hand-made features of scikit-image, ``multiscale_basic_features``: blurred
intensities, edges and the eigenvalues of the Hessian matrix at several scales.
"""

# %%
# The image and the scribbles
# ---------------------------
# Brick, grass and gravel of scikit-image lie in a mosaic of regions. All three have the same mean
# and the same deviation, so that the brightness of a pixel does not tell what it is. A line of 40
# pixels is drawn in six of the twelve regions.
import time
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from skimage.feature import multiscale_basic_features
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_calm import ConvGMMFeatures

rng = np.random.default_rng(1)
shape = (256, 384)
pictures = [picture.astype(np.float32) for picture in (data.brick(), data.grass(), data.gravel())]
pictures = [(picture - picture.mean()) / picture.std() for picture in pictures]
rows, columns = np.indices(shape)
centres = rng.uniform(size=(12, 2)) * shape
region = np.argmin([(rows - y) ** 2 + (columns - x) ** 2 for y, x in centres], axis=0)
kind = rng.permutation(np.arange(12) % 3)
truth = kind[region]
image = np.choose(truth, [picture[: shape[0], : shape[1]] for picture in pictures])

scribbles = np.zeros(shape, bool)
for texture in range(3):
    for chosen in np.flatnonzero(kind == texture)[:2]:
        y, x = (int(np.median(places)) for places in np.nonzero(region == chosen))
        scribbles[y, max(x - 20, 0) : x + 20] = True
scribbles &= np.isin(region, [r for t in range(3) for r in np.flatnonzero(kind == t)[:2]])

# %%
# Two kinds of features
# ---------------------
# ``transform_pixels`` averages the scores of the kernels over Gaussian windows about each pixel, of
# several widths.


def learned(image):
    layer = ConvGMMFeatures(16, padding="same", max_iter=4, tol=0, random_state=0)
    layer.fit(image[np.newaxis])
    return layer.transform_pixels(image[np.newaxis], widths=[8, 24])


def hand_made(image):
    features = multiscale_basic_features(image, sigma_min=1, sigma_max=16)
    return features.reshape(image.size, -1)


found = {}
for name, make in {"learned kernels": learned, "multiscale_basic_features": hand_made}.items():
    begun = time.perf_counter()
    features = make(image)
    seconds = time.perf_counter() - begun
    tracemalloc.start()
    make(image)
    most = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(features[scribbles.ravel()], truth[scribbles])
    found[name] = classifier.predict(features).reshape(shape)
    accuracy = np.mean((found[name] == truth)[~scribbles])
    print(f"{name:26} accuracy {accuracy:.3f}, {seconds:.2f} s, {most:.0f} MiB at most")

# %%
# What they find
# --------------
# The scribbles are drawn over the image in the colours of their textures.
colours = np.array([[0.84, 0.37, 0.0], [0.0, 0.62, 0.45], [0.34, 0.71, 0.91]])
grey = (image - image.min()) / np.ptp(image)
figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
marked = np.repeat(grey[..., np.newaxis], 3, axis=2)
for down in range(-2, 3):  # wider than they are, to be seen
    wide = np.roll(scribbles, down, axis=0)
    marked[wide] = colours[np.roll(truth, down, axis=0)[wide]]
axes[0, 0].imshow(marked)
axes[0, 0].set_title("image and scribbles")
axes[0, 1].imshow(0.5 * grey[..., np.newaxis] + 0.5 * colours[truth])
axes[0, 1].set_title("truth")
for ax, (name, texture) in zip(axes[1], found.items(), strict=True):
    ax.imshow(0.5 * grey[..., np.newaxis] + 0.5 * colours[texture])
    accuracy = np.mean((texture == truth)[~scribbles])
    ax.set_title(f"{name}: {100 * accuracy:.1f} %")
for ax in axes.flat:
    ax.set_axis_off()
plt.show()

# %%
# A few pixels of a large photograph
# ----------------------------------
# Scribbles need not wait for the features of all pixels. Only the tiles that hold chosen pixels are
# computed.
layer = ConvGMMFeatures(16, padding="same", max_iter=4, tol=0, random_state=0)
layer.fit(image[np.newaxis])
photograph = np.tile(image, (8, 8))[np.newaxis]
chosen = np.zeros(photograph.shape, bool)
chosen[0, 1000, 1500:1600] = True
begun = time.perf_counter()
few = layer.transform_pixels(photograph, chosen, widths=[8, 24])
print(f"{few.shape} of {photograph.shape}: {time.perf_counter() - begun:.2f} s")
