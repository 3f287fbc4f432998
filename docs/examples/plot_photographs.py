"""
Kernels of photographs
======================

This example learns kernels from two photographs. They are plain colours, edges, bars, corners and
the ornament of a temple. The photographs remain clear when they are drawn with only the best kernel
at each place.
"""

# %%
# Load the photographs from scikit-learn. The mean of each two by two pixels removes traces of
# compression. You need not cut the images into patches, since every position holds a patch.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay

size = 6
X = np.stack(load_sample_images().images)[:, :420, :636]
X = X.reshape(2, 210, 2, 318, 2, 3).mean(axis=(2, 4))
features = ConvGMMFeatures(64, patch_size=size, reg_covar=1.0, random_state=0).fit(X)
KernelDisplay.from_estimator(features)
plt.show()

# %%
# With ``pooling=None``, the features are maps: the log joint probability of each kernel at each
# position. Draw the best kernel at every sixth position, with the mean and the deviation of the
# patch at this position.
maps = features.set_params(pooling=None).transform(X)
best = maps[:, ::size, ::size].argmax(axis=3)
tiles = X.reshape(2, 210 // size, size, 318 // size, size, 3).swapaxes(2, 3)
mean = tiles.mean(axis=(3, 4, 5), keepdims=True)
deviation = np.sqrt(tiles.var(axis=(3, 4, 5), keepdims=True) + features.contrast_floor_)
drawn = (mean + deviation * features.means_[best]).swapaxes(2, 3).reshape(X.shape)

figure, axes = plt.subplots(2, 2, figsize=(9, 6.2), layout="constrained")
for row, photograph, drawing in zip(axes, X, drawn, strict=True):
    row[0].imshow(photograph / 255)
    row[1].imshow(np.clip(drawing / 255, 0, 1))
for ax in axes.flat:
    ax.set_axis_off()
axes[0, 0].set_title("photograph")
axes[0, 1].set_title("drawn with 64 kernels")
plt.show()
