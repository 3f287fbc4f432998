"""
The paper's layer
=================

This example fits the layer of the paper, with one patch per image and kernels as large as a digit.
The kernels are whole digits in many handwritings. The posterior of an image is a bright dot, which
says which kernel the image contains, and where.
"""

# %%
# Read MNIST from ``.data/mnist.npz`` in the root of the repository. If this file is missing, use
# the small digits of scikit-learn, enlarged three times.
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import zoom
from scipy.special import softmax
from sklearn.datasets import load_digits

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay

file = Path("../../.data/mnist.npz")
if file.exists():
    with np.load(file) as mnist:
        X = mnist["X_train"][:3000] / np.float32(255)
else:
    X = zoom(load_digits().images / np.float32(16), (1, 3, 3), order=1)
    print(f"There is no {file}: digits of scikit-learn, enlarged.")

# %%
# Use the settings of the paper. EM makes 15 passes from standard normal kernels. The noise has
# variance 1, and all kernels have the same weight.
features = ConvGMMFeatures(
    64,
    patch_size=20,
    padding=2,
    assignment="image",
    normalize=None,
    whiten=False,
    noise_variance=1.0,
    learn_weights=False,
    init_params="random",
    pooling=None,
    max_iter=15,
    tol=0,
    random_state=0,
).fit(X)
KernelDisplay.from_estimator(features)
plt.show()

# %%
# The maps hold the log joint probability of every kernel and position. Their softmax is the
# posterior. The second row shows the position of the patch, as the sum of the posterior over the
# kernels. The third row shows the kernels at their positions, weighted by the posterior.
shown = X[:8]
joint = features.transform(shown)
posterior = softmax(joint, axis=(1, 2, 3))

explained = np.zeros_like(np.pad(shown, ((0, 0), (2, 2), (2, 2))))
for row, column in np.ndindex(joint.shape[1:3]):
    patches = np.tensordot(posterior[:, row, column], features.means_[..., 0], axes=1)
    explained[:, row : row + 20, column : column + 20] += patches

figure, axes = plt.subplots(3, 8, figsize=(10, 4), layout="constrained")
rows = {"image": shown, "position": posterior.sum(axis=3), "explained": explained}
for line, (name, pictures) in zip(axes, rows.items(), strict=True):
    line[0].set_ylabel(name)
    for ax, picture in zip(line, pictures, strict=True):
        ax.imshow(picture, cmap="gray")
        ax.set(xticks=[], yticks=[])
plt.show()
