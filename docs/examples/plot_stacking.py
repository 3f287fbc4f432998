"""
Stack two layers
================

The maps of one layer are images for a second layer, whose kernels are arrangements of those of the
first. This example pools the maps between the layers and uses soft shares at the end. Two layers
are then as accurate as one layer with as many features, or slightly more.
"""

# %%
# The maps of the first layer are pooled to 4 x 4, and remain images with 32 channels. The kernels
# of the second layer see windows of 2 x 2 of them. A strong ridge keeps whitening from amplifying
# directions that hardly vary. ``pooling="tempered"`` keeps the shares soft. Without it, they would
# be almost 0 or 1 in so many dimensions.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
single = ConvGMMFeatures(64, padding=2, random_state=0)
first = ConvGMMFeatures(32, padding=2, pool_grid=4, flatten=False, random_state=0)
root = FunctionTransformer(np.sqrt)
second = ConvGMMFeatures(
    114, patch_size=2, reg_covar=10, pool_grid=3, pooling="tempered", random_state=0
)
for name, layers in {"one layer": [single], "two layers": [first, root, second]}.items():
    model = make_pipeline(*layers, StandardScaler(), RidgeClassifierCV(np.logspace(-1, 4, 11)))
    accuracy = model.fit(X_train, y_train).score(X_test, y_test)
    print(f"{name}: {model[:-1].transform(X_test).shape[1]} features, accuracy {accuracy:.3f}")

# %%
# A kernel of 2 x 2 x 32 cannot be drawn. Draw instead the mean of the 20 windows of the images to
# which it responds most. A window of the pooled map covers half the image, and its surroundings.
maps = root.transform(first.transform(X_train))
answers = second.set_params(pooling=None).transform(maps)
images = np.pad(X_train.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
seen = []
for k in np.argsort(-second.weights_)[:64]:
    strongest = np.argsort(-answers[..., k], axis=None)[:20]
    which, rows, columns = np.unravel_index(strongest, answers.shape[:3])
    windows = [
        images[i, 2 * row : 2 * row + 6, 2 * column : 2 * column + 6]
        for i, row, column in zip(which, rows, columns, strict=True)
    ]
    seen.append(np.mean(windows, axis=0))

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.5), layout="constrained")
KernelDisplay.from_estimator(first, ax=left)
left.set_title("32 kernels of the first layer, 5 x 5")
KernelDisplay(np.array(seen)[..., np.newaxis]).plot(ax=right)
right.set_title("what 64 of the second respond to, 6 x 6")
plt.show()
