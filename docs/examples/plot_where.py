"""
What kernels see, and where
===========================

The responsibilities of the mixture show where in an image each kernel is found: one covers the sky,
one the petals, one the leaves. The patches that a kernel explains best show what it stands for.
"""

# %%
# Sixteen kernels for two photographs, of which every two by two pixels are averaged. Kernels are to
# be read here, not to serve a classifier, so nothing is whitened.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import ResponsibilityDisplay, TopPatchesDisplay

X = np.stack(load_sample_images().images)[:, :420, :600]
X = X.reshape(2, 210, 2, 300, 2, 3).mean(axis=(2, 4))
features = ConvGMMFeatures(16, patch_size=6, whiten=False, random_state=0).fit(X)

# %%
# Every column is one kernel, above it. The stronger the colour, the more the patch around a pixel
# is its own: the responsibilities of all sixteen sum to one.
ResponsibilityDisplay.from_estimator(features, X, components=4)
plt.show()

# %%
# Each image gives one patch to a kernel, so the photographs are cut into 140 small ones. On the
# left is every fourth of 32 kernels, from the heaviest down, beside it its ten best patches. Each
# picture has a scale of its own, as the model looks at contrast and not at brightness.
pieces = X.reshape(2, 7, 30, 10, 30, 3).swapaxes(2, 3).reshape(-1, 30, 30, 3)
features.set_params(n_components=32).fit(pieces)
heaviest = np.argsort(-features.weights_)
TopPatchesDisplay.from_estimator(features, pieces, components=heaviest[::4])
plt.show()
