"""
Kernels under quarter turns
===========================

An edge is an edge in any direction. This example learns kernels of photographs that may appear
under quarter turns and as mirror images, and shows what this does to the features of a turned
image.
"""

# %%
# Load the photographs from scikit-learn in grey, and tie the kernels. The fit takes the patches
# under all eight transformations as one.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay

X = np.stack(load_sample_images().images)[:, :420, :420].mean(axis=3)
X = X.reshape(2, 210, 2, 210, 2).mean(axis=(2, 4))
options = {"patch_size": 7, "reg_covar": 1.0, "random_state": 0}
tied = ConvGMMFeatures(16, symmetry=("mirror", "rotation"), max_iter=10, tol=0, **options).fit(X)
plain = ConvGMMFeatures(16, max_iter=10, tol=0, **options).fit(X)

# %%
# Each row below shows one kernel and its transformations, which together are its orbit. First come
# the four quarter turns, then those of the mirror image. The layer applies all of them. The picture
# has the eight orbits that give most energy to patches, which is the weight times the squared norm.
# Two others have large weights, but are nearly flat: they stand for smooth patches, as of the sky.
energies = tied.weights_ * np.square(tied.means_).sum(axis=(1, 2, 3))
strongest = np.argsort(-energies)[:8]
orbits = [
    np.rot90(image, turns)
    for kernel in tied.means_[strongest]
    for image in (kernel, kernel[:, ::-1])
    for turns in range(4)
]
KernelDisplay(np.stack(orbits)).plot(n_columns=8)
plt.show()

# %%
# Without a symmetry, kernels of the same kind in other directions are learned one by one.
KernelDisplay.from_estimator(plain, n_columns=8)
plt.show()

# %%
# The features of a turned photograph are those of the photograph. Without a symmetry they differ.
turned = np.rot90(X, axes=(1, 2))
figure, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
for ax, features, name in zip(axes, (plain, tied), ("plain", "tied"), strict=True):
    ax.scatter(features.transform(X), features.transform(turned), s=8)
    ax.set(title=f"{name} kernels", xlabel="photographs", ylabel="turned photographs")
    ax.set_aspect("equal")
plt.show()
