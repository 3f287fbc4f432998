"""
Learn from a stream that changes
================================

In this example, batches of small images arrive. They are cut first from a photograph of a flower,
and then from one of a temple. The objective drops at the change and recovers within about ten
batches, while bars and ornament of the temple replace the petals among the kernels.
"""

# %%
# ``partial_fit`` makes one step of stepwise EM with each batch. For comparison, a copy of the model
# stops learning at the change.
from copy import deepcopy

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay, LowerBoundDisplay

X = np.stack(load_sample_images().images)[:, :420, :636]
temple, flower = X.reshape(2, 210, 2, 318, 2, 3).mean(axis=(2, 4))

n_batches, change = 80, 40
features = ConvGMMFeatures(36, patch_size=6, reg_covar=1.0, random_state=0)
frozen_bounds = []
for i in range(n_batches):
    if i == change:
        frozen = deepcopy(features)
    source = flower if i < change else temple
    batch = extract_patches_2d(source, (24, 24), max_patches=50, random_state=i)
    features.partial_fit(batch)
    if i >= change:
        frozen_bounds.append(frozen.score(batch))

# %%
# The objective of a batch is computed before the kernels learn from the batch. It does not return
# to its first level, because a temple has more detail than a flower, and because contrast floor and
# whitening stay as the first batch set them.
figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
LowerBoundDisplay.from_estimator(features, ax=ax, label="partial_fit with every batch")
ax.plot(range(change + 1, n_batches + 1), frozen_bounds, color="0.6", label="no more partial_fit")
ax.set_xlabel("batch")
ax.legend(frameon=False)
plt.show()

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
KernelDisplay.from_estimator(frozen, ax=left)
left.set_title("before the change")
KernelDisplay.from_estimator(features, ax=right)
right.set_title("at the end")
plt.show()
