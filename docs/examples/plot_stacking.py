"""
Two layers
==========

Without pooling a layer gives maps, which are images for a next layer: its kernels are arrangements
of the first layer's. They look like parts of digits, yet a linear classifier does better with one
layer: depth is not what this method is for.
"""

# %%
# The second layer sees an image of 16 channels, the maps of the first; each of its kernels covers
# 5 x 5 pixels, as do those of the single layer beside it.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
first = ConvGMMFeatures(16, patch_size=3, padding=1, pooling=None, random_state=0)
second = ConvGMMFeatures(64, patch_size=3, tol=0.1, random_state=0)
single = ConvGMMFeatures(64, patch_size=5, padding=1, random_state=0)
for name, layers in {"one layer": [single], "two layers": [first, second]}.items():
    model = make_pipeline(*layers, StandardScaler(), RidgeClassifierCV([1, 10, 100, 1000]))
    print(f"{name}: test accuracy {model.fit(X_train, y_train).score(X_test, y_test):.3f}")

# %%
# A kernel of 3 x 3 x 16 is no picture. What it stands for is: the mean of the 50 patches of 5 x 5
# pixels to which it answers most, among all that it saw.
maps = first.transform(X_train)
answers = second.set_params(pooling=None).transform(maps).reshape(-1, 64)
images = np.pad(X_train.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
patches = np.lib.stride_tricks.sliding_window_view(images, (5, 5), axis=(1, 2)).reshape(-1, 5, 5)
strongest = np.argpartition(-answers, 50, axis=0)[:50]
seen = patches[strongest].mean(axis=0)[np.argsort(-second.weights_)]

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.5), layout="constrained")
KernelDisplay.from_estimator(first, ax=left)
left.set_title("16 kernels of the first layer, 3 x 3")
KernelDisplay(seen[..., np.newaxis]).plot(ax=right)
right.set_title("what 64 kernels of the second answer to, 5 x 5")
plt.show()
