"""
Kernels of digits
=================

This example learns kernels from small digits without labels. The kernels are strokes: edges,
bends, ends and dots. A linear classifier is more accurate on their features than on the pixels.
"""

# %%
# Learn 64 kernels from half of the digits of scikit-learn. The digits reach the border of their
# images, so the images are padded.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
features = ConvGMMFeatures(n_components=64, padding=2, random_state=0).fit(X_train)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.5), layout="constrained")
digits = np.pad(X_train[:64].reshape(-1, 8, 8, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
KernelDisplay(digits).plot(ax=left, cmap="gray_r")
left.set_title("digits")
KernelDisplay.from_estimator(features, ax=right)
right.set_title("kernels, the heaviest first")
plt.show()


# %%
# Choose the penalty of both classifiers on the training half, and score them on the other half.
def accuracy(columns_train, columns_test):
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    search = GridSearchCV(model, {"logisticregression__C": [1, 0.1, 0.01]}, cv=3)
    return search.fit(columns_train, y_train).score(columns_test, y_test)


print(f"raw pixels: {accuracy(X_train, X_test):.3f}")
print(f"features:   {accuracy(features.transform(X_train), features.transform(X_test)):.3f}")
