"""
Few labels, many images
=======================

Kernels need no labels. This example learns them from all training images, and fits a classifier to
the few images with labels. For every number of labels, the features are better than the pixels.
"""

# %%
# Learn the features and the scale of the columns from 1200 digits. Then draw some labels of each
# class, ten times. Fit ridge regression to these images, and score it on the remaining digits.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_calm import ConvGMMFeatures

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=1200, stratify=y, random_state=0
)
features = make_pipeline(ConvGMMFeatures(padding=2, random_state=0), StandardScaler())
columns = {
    "raw pixels": StandardScaler(),
    "features": features,
}
columns = {
    name: (scale.fit_transform(X_train), scale.transform(X_test)) for name, scale in columns.items()
}
n_labels, n_draws = [1, 2, 5, 10, 20, 50], 10
scores = {name: np.empty((len(n_labels), n_draws)) for name in columns}
for i, draw in np.ndindex(len(n_labels), n_draws):
    rng = np.random.default_rng(draw)
    labelled = np.concatenate(
        [rng.choice(np.flatnonzero(y_train == k), n_labels[i], replace=False) for k in range(10)]
    )
    for name, (train, test) in columns.items():
        model = RidgeClassifierCV(np.logspace(-1, 4, 11)).fit(train[labelled], y_train[labelled])
        scores[name][i, draw] = model.score(test, y_test)

# %%
# The bands contain the middle eight of the ten draws.
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, values in scores.items():
    ax.plot(n_labels, values.mean(axis=1), marker="o", label=name)
    ax.fill_between(n_labels, *np.quantile(values, [0.1, 0.9], axis=1), alpha=0.2)
    print(name, np.round(values.mean(axis=1), 3))
ax.set_xscale("log")
ax.set_xticks(n_labels, n_labels)
ax.minorticks_off()
ax.set(xlabel="labels of each class", ylabel="test accuracy")
ax.legend(frameon=False)
plt.show()
