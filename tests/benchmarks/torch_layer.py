"""The fitted layer in PyTorch and in ONNX Runtime, rivals for the speed of `transform`."""

import numpy as np
import onnxruntime
import torch
from torch import nn
from torch.nn import functional

from sklearn_calm._validation import find_pooler
from sklearn_calm.onnx import to_onnx


class TorchLayer(nn.Module):
    """Features of ``pooling="triangle"`` and ``normalize="contrast"`` by dense convolutions.

    Parameters
    ----------
    features : ConvGMMFeatures
        Fitted, with a `padding_mode` that reflects or is constant.
    """

    def __init__(self, features):
        super().__init__()
        geometry, symmetry = features._model.geometry, features._model.symmetry
        windows = find_pooler(features, geometry.map_shape, symmetry).windows
        weight, bias = features.conv_weight_, features.conv_bias_
        weight = torch.tensor((weight - weight.mean(axis=0)).transpose(0, 3, 1, 2))
        self.weight = nn.Parameter(weight - weight.mean(dim=(1, 2, 3), keepdim=True))
        self.bias = nn.Parameter(torch.tensor(bias - bias.mean())[:, None, None])
        self.box = nn.Parameter(torch.full_like(self.weight[:1], 1 / self.weight[0].numel()))
        self.rows, self.columns = (
            nn.Parameter(torch.tensor(weights, dtype=torch.float32)) for weights in windows.weights
        )
        self.floor = features.contrast_floor_
        (top, bottom), (left, right) = geometry.padding
        self.padding = (left, right, top, bottom)
        self.mode = geometry.padding_mode

    def forward(self, images):
        """Features (n, K, grid rows, grid columns) of images (n, channels, height, width)."""
        images = images - images.mean(dim=(1, 2, 3), keepdim=True)
        if any(self.padding):
            images = functional.pad(images, self.padding, mode=self.mode)
        mean = functional.conv2d(images, self.box)
        variance = functional.conv2d(images * images, self.box) - mean * mean
        scores = functional.conv2d(images, self.weight)
        scores = scores / torch.sqrt(variance.clamp(min=0) + self.floor) + self.bias
        return self.rows @ (functional.relu(scores) @ self.columns.T)


def forget_compiled():
    """Forget compiled layers: beyond a limit of shapes, the next ones would stay eager."""
    torch._dynamo.reset()


def torch_contenders(features, images):
    """The forms of the layer, by name: functions of no argument that return features like ours.

    Parameters
    ----------
    features : ConvGMMFeatures
    images : ndarray of shape (n, height, width, channels), float32
    """
    layer = TorchLayer(features).eval()
    batch = torch.tensor(images.transpose(0, 3, 1, 2)).contiguous()
    # Batches as large as fit the cache well; larger ones were slower.
    parts = batch.split(max(1, min(64, 2**22 // (batch[0, 0].numel() * len(layer.weight)))))
    last = [part.to(memory_format=torch.channels_last) for part in parts]
    # A last part of another size is compiled on its own, as sizes known beforehand are faster.
    compiled = torch.compile(layer, dynamic=False)

    def run(module, parts):
        with torch.inference_mode():
            maps = torch.cat([module(part) for part in parts])
        return maps.permute(0, 2, 3, 1).reshape(len(images), -1).numpy()

    return {
        "torch, eager": lambda: run(layer, parts),
        "torch, eager, channels last": lambda: run(layer, last),
        "torch.compile": lambda: run(compiled, parts),
    }


def onnx_contender(features, images):
    """The exported layer in ONNX Runtime: a function like those of `torch_contenders`."""
    session = onnxruntime.InferenceSession(to_onnx(features, images[:1]).SerializeToString())
    name, step = session.get_inputs()[0].name, max(1, min(64, 2**18 // images[0].size))
    parts = [images[start : start + step] for start in range(0, len(images), step)]
    return lambda: np.concatenate([session.run(None, {name: part})[0] for part in parts])
