"""What a fitted layer says of images: features, log-likelihoods."""

from sklearn_calm._em import ConvLayer, log_joint, log_likelihoods, responsibilities
from sklearn_calm._pooling import pool


def batch_features(rows, images, layer, model, pooling, pool_grid, scratch=None):
    """Features of a batch of images: (n, n_features), or maps for pooling None."""
    if pooling == "triangle":
        layer = less_mean(layer)
    maps = log_joint(model.view(images.read(rows), scratch), layer, scratch)
    if pooling is None:
        return maps.transpose(1, 0, 2, 3).copy()
    if pooling == "mean":
        maps = responsibilities(maps, model.cells)
    return pool(maps, pooling, pool_grid)


def less_mean(layer):
    """The layer whose maps are those of `layer` less the mean of all components (eq. 20)."""
    return ConvLayer(layer.weight - layer.weight.mean(axis=0), layer.bias - layer.bias.mean())


def batch_log_likelihoods(rows, images, layer, model, noise_variance, scratch=None):
    """Log-likelihood of each image of a batch."""
    return log_likelihoods(images.read(rows), layer, model, noise_variance, scratch)
