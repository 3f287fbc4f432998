"""
Start a network in PyTorch
==========================

The learned layer is a convolution with a bias, so a network can start from it. In this example,
such a network is trained on few labels. It is slightly more accurate than the same network from a
random start.
"""

# %%
# This example needs PyTorch. If the documentation is built without it, the code is shown but not
# run.
#
# With ``normalize=None``, the layer is a plain convolution: whitening is a part of ``conv_weight_``
# and ``conv_bias_``. With ``normalize="contrast"``, the network would also have to divide the
# output by the deviation of each patch before it adds the bias.
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sklearn_calm import ConvGMMFeatures

X, y = load_digits(return_X_y=True)
X = (X.reshape(-1, 8, 8) / 16).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=1200, stratify=y, random_state=0
)
features = ConvGMMFeatures(
    64, padding=2, normalize=None, pooling=None, reg_covar=1.0, random_state=0
).fit(X_train)

# %%
# Transpose the kernels, since PyTorch expects channels first. The two layers agree.
weight = torch.tensor(features.conv_weight_.transpose(0, 3, 1, 2))
bias = torch.tensor(features.conv_bias_)
maps = nn.functional.conv2d(torch.tensor(X_test[:, None]), weight, bias, padding=2)
ours = features.transform(X_test)
print(f"largest difference: {np.abs(maps.permute(0, 2, 3, 1).numpy() - ours).max():.1e}")


# %%
# Use the layer as the first layer of a small network. Subtract the mean of all kernels, as
# ``pooling="triangle"`` does, and divide by a scale that suits gradients. Train the whole network
# on the few labelled images, long enough to fit them from both starts.
def network(learned):
    conv = nn.Conv2d(1, 64, kernel_size=5, padding=2)
    if learned:
        conv.weight.data = (weight - weight.mean(dim=0)) / maps.std()
        conv.bias.data = (bias - bias.mean()) / maps.std()
    return nn.Sequential(conv, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(1024, 10))


def accuracy(model, labelled, n_steps=100):
    images, labels = torch.tensor(X_train[labelled, None]), torch.tensor(y_train[labelled])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(n_steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()
    with torch.no_grad():
        found = model(torch.tensor(X_test[:, None])).argmax(dim=1).numpy()
    return np.mean(found == y_test)


n_labels, n_draws = [1, 2, 5, 10], 5
scores = {name: np.empty((len(n_labels), n_draws)) for name in ("random start", "learned start")}
for i, draw in np.ndindex(len(n_labels), n_draws):
    rng = np.random.default_rng(draw)
    labelled = np.concatenate(
        [rng.choice(np.flatnonzero(y_train == k), n_labels[i], replace=False) for k in range(10)]
    )
    for name, values in scores.items():
        torch.manual_seed(draw)
        values[i, draw] = accuracy(network(name == "learned start"), labelled)

# %%
# Each point is one draw of the labelled images. The lines are the means of the draws.
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for colour, shift, (name, values) in zip(["0.5", "C1"], [0.97, 1.03], scores.items(), strict=True):
    ax.plot(n_labels, values.mean(axis=1), color=colour, label=name)
    ax.plot(np.multiply(n_labels, shift), values, ".", color=colour)
ax.set_xscale("log")
ax.set_xticks(n_labels, n_labels)
ax.minorticks_off()
ax.set(xlabel="labels of each class", ylabel="test accuracy")
ax.legend(frameon=False)
plt.show()
