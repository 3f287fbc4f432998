"""
Texture and light
=================

Contrast normalisation makes the layer blind to light. Where light matters as well,
``RegionMoments`` stands beside the layer: it gives the mean and the deviation of the pixels of each
region.
"""

# %%
# Tiles of brick, grass and gravel, in the light of noon or of the evening, which varies. Without
# it, the three textures have equal mean and deviation. The upper halves of the pictures give the
# tiles for training, and the lower halves those for testing.
import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from sklearn.linear_model import RidgeClassifierCV
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from sklearn_calm import ConvGMMFeatures, RegionMoments

TEXTURES, LIGHTS, SIDE = ("brick", "grass", "gravel"), {"noon": 1.0, "evening": 0.6}, 32
CLASSES = [f"{texture}, {light}" for texture in TEXTURES for light in LIGHTS]


def tiles(half, n, rng):
    """Tiles of each texture in each light, and the numbers of their classes."""
    X = []
    for texture in TEXTURES:
        picture = getattr(data, texture)().astype(np.float32)
        picture = 0.5 + 0.15 * (picture - picture.mean()) / picture.std()
        picture = np.split(picture, 2)[half]
        for light in LIGHTS.values():
            for _ in range(n):
                y, x = (rng.integers(side - SIDE + 1) for side in picture.shape)
                X.append(light * rng.uniform(0.8, 1.25) * picture[y : y + SIDE, x : x + SIDE])
    return np.array(X), np.repeat(np.arange(len(CLASSES)), n)


rng = np.random.default_rng(0)
X_train, y_train = tiles(0, 50, rng)
X_test, y_test = tiles(1, 200, rng)

figure, axes = plt.subplots(2, 6, figsize=(9, 3.4), layout="constrained")
for column, (name, axs) in enumerate(zip(CLASSES, axes.T, strict=True)):
    axs[0].set_title(name, fontsize=10)
    for ax, tile in zip(axs, X_train[y_train == column], strict=False):
        ax.imshow(tile, cmap="gray", vmin=0, vmax=1)
        ax.set_axis_off()
plt.show()

# %%
# The layer tells the textures apart and the moments tell the lights. Both together tell the six
# classes.
layer, moments = ConvGMMFeatures(16, pool_grid=1, random_state=0), RegionMoments(pool_grid=1)
candidates = {"layer": layer, "moments": moments, "both": make_union(layer, moments)}
figure, axes = plt.subplots(1, 3, figsize=(11, 5.4), layout="constrained", sharey=True)
for ax, (name, features) in zip(axes, candidates.items(), strict=True):
    model = make_pipeline(features, StandardScaler(), RidgeClassifierCV(np.logspace(-2, 4, 13)))
    model.fit(X_train, y_train)
    ConfusionMatrixDisplay.from_estimator(
        model,
        X_test,
        y_test,
        display_labels=CLASSES,
        xticks_rotation="vertical",
        colorbar=False,
        cmap="Blues",
        ax=ax,
    )
    ax.set(title=f"{name}: accuracy {model.score(X_test, y_test):.2f}", xlabel="", ylabel="")
axes[0].set_ylabel("true class")
figure.supxlabel("predicted class")
plt.show()
