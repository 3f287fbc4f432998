"""
Two layers
==========

Without pooling a layer gives maps, which are images for a next layer: its kernels are arrangements
of the first layer's. Here they look like parts of digits, but features of the second layer do no
better than those of the first.
"""

# %%
# The second layer gets an image of 16 channels, the maps of the first.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay

X, y = load_digits(return_X_y=True)
first = ConvGMMFeatures(16, patch_size=3, padding=1, pooling=None, random_state=0)
second = ConvGMMFeatures(64, patch_size=3, random_state=0)
one = ConvGMMFeatures(64, patch_size=5, padding=1, random_state=0)
for name, layers in {"one layer": [one], "two layers": [first, second]}.items():
    model = make_pipeline(*layers, StandardScaler(), RidgeClassifierCV([1, 10, 100, 1000]))
    scores = cross_val_score(model, X, y, cv=5)
    print(f"{name}: accuracy {scores.mean():.3f} +- {scores.std():.3f}")

# %%
# A kernel of 3 x 3 x 16 is no picture. What it looks for is: the mean of the 50 patches of 5 x 5
# pixels, among all that it saw, that it answers to most.
layers = make_pipeline(first, second).fit(X)
second.set_params(pooling=None)
answers = layers.transform(X)
