"""The fitted layer as a PyTorch module, a rival for the speed of `transform`."""

import torch
from torch import nn
from torch.nn import functional


class TorchLayer(nn.Module):
    """Features of ``pooling="triangle"`` and ``normalize="contrast"`` by dense convolutions.

    Parameters
    ----------
    features : ConvGMMFeatures
        Fitted, with a `padding_mode` that reflects or is constant.
    windows : sequence of two ndarrays, (grid rows, rows) and (grid columns, columns)
        Weights of the rows and columns of the map for each region.
    """

    def __init__(self, features, windows):
        super().__init__()
        weight, bias = features.conv_weight_, features.conv_bias_
        weight = torch.tensor((weight - weight.mean(axis=0)).transpose(0, 3, 1, 2))
        self.weight = nn.Parameter(weight - weight.mean(dim=(1, 2, 3), keepdim=True))
        self.bias = nn.Parameter(torch.tensor(bias - bias.mean())[:, None, None])
        self.box = nn.Parameter(torch.full_like(self.weight[:1], 1 / self.weight[0].numel()))
        self.rows, self.columns = (
            nn.Parameter(torch.tensor(weights, dtype=torch.float32)) for weights in windows
        )
        self.floor = features.contrast_floor_
        geometry = features._model.geometry
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


def torch_contenders(features, windows, images):
    """The forms of the layer, by name: functions of no argument that return features like ours.

    Parameters
    ----------
    features : ConvGMMFeatures
    windows : sequence of two ndarrays
    images : ndarray of shape (n, height, width, channels), float32
    """
    layer = TorchLayer(features, windows).eval()
    batch = torch.tensor(images.transpose(0, 3, 1, 2)).contiguous()
    # Batches as large as fit the cache well; larger ones were slower.
    parts = batch.split(max(1, min(64, 2**22 // (batch[0, 0].numel() * len(layer.weight)))))
    last = [part.to(memory_format=torch.channels_last) for part in parts]
    compiled = torch.compile(layer)

    def run(module, parts):
        with torch.inference_mode():
            maps = torch.cat([module(part) for part in parts])
        return maps.permute(0, 2, 3, 1).reshape(len(images), -1).numpy()

    return {
        "torch, eager": lambda: run(layer, parts),
        "torch, eager, channels last": lambda: run(layer, last),
        "torch.compile": lambda: run(compiled, parts),
    }
