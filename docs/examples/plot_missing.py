"""
Missing pixels
==============

Kernels of digits of which clouds hide a third. They are learned twice: from what is there, and from
images whose gaps are filled with the mean of each pixel. Filled gaps spoil the kernels.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from sklearn.impute import SimpleImputer

from sklearn_calm import ConvGMMFeatures

X = load_digits().images
noise = np.random.default_rng(0).standard_normal(X.shape)
clouds = gaussian_filter(noise, (0, 1.2, 1.2))
cloudy = np.where(clouds > np.quantile(clouds, 2 / 3), np.nan, X)
mean_filled = SimpleImputer().fit_transform(cloudy.reshape(len(X), -1)).reshape(X.shape)

options = {
    "patch_size": 8,
    "assignment": "image",
    "normalize": None,
    "whiten": False,
    "missing_values": "ignore",
    "random_state": 0,
}
models = [ConvGMMFeatures(10, **options).fit(images) for images in (cloudy, mean_filled)]

rows = {
    "Images, red where pixels are missing": cloudy[:10],
    "Kernels of what is there": models[0].means_[..., 0],
    "Kernels of gaps filled with means": models[1].means_[..., 0],
}
figure, axes = plt.subplots(3, 10, figsize=(10, 3.9), gridspec_kw={"hspace": 0.5})
colours = plt.colormaps["gray"].with_extremes(bad="firebrick")
for (title, pictures), line in zip(rows.items(), axes, strict=True):
    line[0].set_title(title, loc="left").set_in_layout(False)
    for picture, ax in zip(pictures, line, strict=True):
        ax.imshow(picture, cmap=colours, vmin=0, vmax=16)
        ax.set_axis_off()
plt.show()
