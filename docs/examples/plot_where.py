"""
What kernels see, and where
===========================

The responsibilities of the mixture show where in an image each kernel is found: one kernel covers
the sky, another the petals, another the leaves. The patches that a kernel explains best show what
it stands for.
"""

# %%
# We fit sixteen kernels to two photographs, at half their resolution. Whitening is off, since these
# kernels are meant to be looked at and not to serve a classifier.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import ResponsibilityDisplay, TopPatchesDisplay

X = np.stack(load_sample_images().images)[:, :420, :600]
X = X.reshape(2, 210, 2, 300, 2, 3).mean(axis=(2, 4))
features = ConvGMMFeatures(16, patch_size=6, whiten=False, random_state=0).fit(X)

# %%
# Each column shows one kernel, and below it where the kernel is found. The stronger the colour, the
# more the kernel is responsible for the patch around a pixel. The responsibilities of all sixteen
# kernels sum to one.
ResponsibilityDisplay.from_estimator(features, X, components=4)
plt.show()

# %%
# Each image gives at most one patch to a kernel, so we cut the photographs into 140 small images.
# The left column shows every fourth of 32 kernels, ordered by weight. Beside each kernel are its
# ten best patches, in the colours of the photographs. The model compares patches by their contrast:
# a dark patch and a pale one can belong to the same kernel.
pieces = X.reshape(2, 7, 30, 10, 30, 3).swapaxes(2, 3).reshape(-1, 30, 30, 3)
features.set_params(n_components=32).fit(pieces)
heaviest = np.argsort(-features.weights_)
TopPatchesDisplay.from_estimator(features, pieces, components=heaviest[::4])
plt.show()
