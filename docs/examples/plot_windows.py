"""
Windows with hard and with soft edges
=====================================

Each kernel is pooled over the regions of a grid. With boxes, a stroke that moves over an edge
leaves one region and enters the next. Gaussian windows overlap, so that features change little
where strokes move a little. Digits that are moved by a pixel are then recognised better, with the
same number of features.
"""

# %%
# The windows
# -----------
# The weights of a window are the product of those along the rows and along the columns (eq. 28 of
# the mathematics page). Here are the windows of a 4 x 4 grid over a digit, each with the outline of
# its box, or with a circle of one standard deviation around its middle. One window is filled with
# its weights.
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse, Rectangle
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sklearn_calm import ConvGMMFeatures

X, y = load_digits(return_X_y=True)
digit, grid, width, filled = X[3].reshape(8, 8), 4, 0.5, (1, 2)
side = len(digit) / grid
middles = (np.arange(grid) + 0.5) * side - 0.5
fine = np.linspace(-0.5, len(digit) - 0.5, 400)
row, column = (fine - middles[index] for index in filled)
box = np.outer(abs(row) < side / 2, abs(column) < side / 2)
gaussian = np.exp(-(row[:, None] ** 2 + column**2) / (2 * (width * side) ** 2))

figure, axes = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
for ax, weights, title in zip(axes, (box, gaussian), ("box", "gaussian"), strict=True):
    ax.imshow(digit, cmap="gray")
    tint = np.full(weights.shape, 0.7)
    ax.imshow(tint, "Oranges", vmin=0, vmax=1, alpha=0.8 * weights, extent=(-0.5, 7.5, 7.5, -0.5))
    for y0 in middles:
        for x0 in middles:
            if title == "box":
                outline = Rectangle((x0 - side / 2, y0 - side / 2), side, side)
            else:
                outline = Ellipse((x0, y0), 2 * width * side, 2 * width * side)
            outline.set(fill=False, edgecolor="C1", linewidth=1)
            ax.add_patch(outline)
    ax.set(title=f'pool_window="{title}"', xticks=[], yticks=[])
plt.show()

# %%
# What they are worth
# -------------------
# The kernels do not depend on the windows, so they are learned once, from 1200 digits. Then a few
# labels of each class are drawn, ten times, and a logistic regression is fitted to them. It is
# scored on the other digits as they are, and moved to the right by one pixel, half a region.
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=1200, stratify=y, random_state=0
)
moved = np.roll(X_test.reshape(-1, 8, 8), 1, axis=2).reshape(-1, 64)
features = ConvGMMFeatures(padding=2, random_state=0).fit(X_train)
n_labels, n_draws = [1, 2, 5, 10, 20], 10
labelled = {
    (n, draw): np.concatenate(
        [rng.choice(np.flatnonzero(y_train == k), n, replace=False) for k in range(10)]
    )
    for n in n_labels
    for draw, rng in enumerate(map(np.random.default_rng, range(n_draws)))
}
accuracy = {}
for window in ("box", "gaussian"):
    features.set_params(pool_window=window, pool_width=width)
    scale = StandardScaler().fit(features.transform(X_train))
    train, test, test_moved = (
        scale.transform(features.transform(part)) for part in (X_train, X_test, moved)
    )
    accuracy[window, "as they are"] = means = []
    accuracy[window, "moved"] = means_moved = []
    for n in n_labels:
        models = [
            LogisticRegression(max_iter=1000).fit(train[rows], y_train[rows])
            for rows in (labelled[n, draw] for draw in range(n_draws))
        ]
        means.append(np.mean([model.score(test, y_test) for model in models]))
        means_moved.append(np.mean([model.score(test_moved, y_test) for model in models]))

# %%
# Where digits stay in place, both windows perform about equally: these digits are small, and all of
# them are centred. Where digits move, Gaussian windows lose less.
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for (window, place), means in accuracy.items():
    color = "C0" if window == "box" else "C1"
    style = "-" if place == "as they are" else "--"
    ax.plot(n_labels, means, style, color=color, marker="o", label=f"{window}, {place}")
    print(f"{window}, {place}:", np.round(means, 3))
ax.set_xscale("log")
ax.set_xticks(n_labels, n_labels)
ax.minorticks_off()
ax.set(xlabel="labels of each class", ylabel="test accuracy")
ax.legend(title="windows and digits", frameon=False)
plt.show()
