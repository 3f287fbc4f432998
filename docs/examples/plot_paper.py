"""
The paper's layer
=================

With one patch an image and kernels as large as a digit, the kernels are whole digits in many hands.
The posterior of an image is a bright dot: it says which kernel the image holds, and where.
"""

# %%
# MNIST is read from ``.data/mnist.npz`` in the root of the repository. Where that is missing, the
# small digits of scikit-learn take its place, three times as large.
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
# These are the paper's settings. EM makes 15 passes from standard normal kernels; the noise has
# variance 1, and every kernel the same weight.
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
# The maps hold the log joint of every kernel and position, and their softmax is the posterior.
# Below each image: where its patch lies, by the posterior summed over kernels, and the kernels
# weighed by the posterior, put where they lie.
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
