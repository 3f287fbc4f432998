"""
Start a network in PyTorch
==========================

The learned layer is a convolution with a bias, so a network can start from it. With few labels it
then does better than the same network from its random start, fine-tuned or not.
"""

# %%
# This example needs PyTorch. Where the documentation is built without it, the code is shown here but
# not run.
#
# With ``normalize=None`` the layer is a plain convolution: whitening is folded into ``conv_weight_``
# and ``conv_bias_``. (With ``normalize="contrast"`` the output of the convolution would be divided by
# the deviation of each patch before the bias is added.)
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
# scikit-learn's images have their channels last, PyTorch's first. The two layers agree.
images = torch.from_numpy(X_test[:, None])


def layer():
    conv = nn.Conv2d(1, 64, kernel_size=5, padding=2)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(features.conv_weight_.transpose(0, 3, 1, 2).copy()))
        conv.bias.copy_(torch.from_numpy(features.conv_bias_))
    return conv


with torch.no_grad():
    maps = layer()(images).permute(0, 2, 3, 1).numpy()
print(f"largest difference: {np.abs(maps - features.transform(X_test)).max():.1e}")
print(maps.std(), maps.mean())
