"""What we are compared with: k-means features, scattering, raw pixels, PCA, the paper's layer."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

N_THREADS = 2
PAPER = {
    "n_components": 64,
    "patch_size": 20,
    "padding": 2,
    "assignment": "image",
    "normalize": None,
    "whiten": False,
    "noise_variance": 1.0,
    "learn_weights": False,
    "init_params": "random",
    "pooling": "logsumexp",
    "pool_grid": 1,
}


def map_threads(function, X, batch_size):
    """function(batch) of all batches, in one array; BLAS keeps to one thread in each."""
    batches = [X[start : start + batch_size] for start in range(0, len(X), batch_size)]
    with threadpool_limits(1), ThreadPoolExecutor(N_THREADS) as pool:
        return np.concatenate(list(pool.map(function, batches)))


class Flat(TransformerMixin, BaseEstimator):
    """Pixels as features."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X.reshape(len(X), -1).astype(np.float32)


class KMeansFeatures(TransformerMixin, BaseEstimator):
    """Coates, Lee and Ng (2011): whitened patches, k-means, triangle, means over a grid.

    Their ridge of the whitening is 0.1, their regions are boxes, and they do not pad. `pool_width`
    gives them the windows of `ConvGMMFeatures(pool_window="gaussian")`, `padding` its zeros, and
    `contrast` its `pool_contrast`.
    """

    def __init__(
        self,
        n_clusters=248,
        patch_size=6,
        pool_grid=4,
        pool_width=None,
        n_patches=400_000,
        ridge=0.1,
        padding=0,
        contrast=0.0,
        batch_size=4096,
        seed=0,
    ):
        self.n_clusters = n_clusters
        self.patch_size = patch_size
        self.pool_grid = pool_grid
        self.pool_width = pool_width
        self.n_patches = n_patches
        self.ridge = ridge
        self.padding = padding
        self.contrast = contrast
        self.batch_size = batch_size
        self.seed = seed

    def fit(self, X, y=None):
        rng = np.random.default_rng(self.seed)
        windows = self._patches(X)
        rows, ys, xs = (rng.integers(side, size=self.n_patches) for side in windows.shape[:3])
        patches, _ = self._normalize(windows[rows, ys, xs].reshape(self.n_patches, -1))
        self.mean_ = patches.mean(axis=0)
        variances, axes = np.linalg.eigh(np.cov(patches - self.mean_, rowvar=False))
        self.whitener_ = ((axes / np.sqrt(variances + self.ridge)) @ axes.T).astype(np.float32)
        self.kmeans_ = MiniBatchKMeans(
            self.n_clusters, batch_size=self.batch_size, n_init=1, random_state=self.seed
        ).fit(self._whiten(patches))
        return self

    def transform(self, X):
        return map_threads(self._features, X, 16)

    def _patches(self, X):
        X = X.reshape(*X.shape[:3], -1)
        X = np.pad(X, [(0, 0), (self.padding,) * 2, (self.padding,) * 2, (0, 0)])
        return sliding_window_view(X, (self.patch_size, self.patch_size), axis=(1, 2))

    def _normalize(self, patches):
        """Patches over their deviations, and these."""
        patches = patches.astype(np.float32)
        patches -= patches.mean(axis=1, keepdims=True)
        deviations = np.sqrt(patches.var(axis=1, keepdims=True) + 10)
        return patches / deviations, deviations

    def _whiten(self, patches):
        return (patches - self.mean_) @ self.whitener_

    def _features(self, X):
        windows = self._patches(X)
        n, rows, columns = windows.shape[:3]
        patches, deviations = self._normalize(windows.reshape(n * rows * columns, -1))
        patches = self._whiten(patches)
        # As KMeans.transform, which takes float32 to float64 and thrice the time.
        centres = self.kmeans_.cluster_centers_
        squares = np.square(centres).sum(axis=1) + np.square(patches).sum(axis=1, keepdims=True)
        squares -= 2 * patches @ centres.T
        distances = np.sqrt(np.maximum(squares, 0, out=squares), out=squares)
        triangle = np.maximum(distances.mean(axis=1, keepdims=True) - distances, 0)
        if self.contrast:
            triangle *= deviations**self.contrast
        maps = triangle.reshape(n, rows, columns, -1)
        return window_means(maps, self.pool_grid, self.pool_width).reshape(n, -1)


def window_means(maps, n_regions, width):
    """Means of maps (n, rows, columns, K) over a grid of regions: (n, n_regions, n_regions, K)."""
    n, rows, columns, n_channels = maps.shape
    by_row, by_column = (_window_weights(side, n_regions, width) for side in (rows, columns))
    maps = (by_row @ maps.reshape(n, rows, -1)).reshape(n, n_regions, columns, n_channels)
    return by_column @ maps


def _window_weights(side, n_regions, width):
    """Weights of the positions along one side in each region, which add up to one.

    Those of a box if `width` is None, otherwise of a Gaussian so many regions wide.
    """
    places, regions = np.arange(side), np.arange(n_regions)[:, None]
    if width is None:
        edges = np.arange(n_regions + 1)[:, None] * side // n_regions
        weights = (edges[:-1] <= places) & (places < edges[1:])
    else:
        offsets = (places + 0.5) * n_regions / side - (regions + 0.5)
        weights = np.exp(-0.5 * (offsets / width) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


class Mirrored(TransformerMixin, BaseEstimator):
    """The mean of the features of an image and of its mirror image."""

    def __init__(self, features):
        self.features = features

    def fit(self, X, y=None):
        self.features.fit(X)
        return self

    def transform(self, X):
        return (self.features.transform(X) + self.features.transform(X[:, :, ::-1])) / 2


class Scattering(TransformerMixin, BaseEstimator):
    """Kymatio's Scattering2D with its NumPy frontend, which is its fastest on a CPU.

    With `log`, the logarithm of the coefficients, which are first compared with a thousandth.
    """

    def __init__(self, J=2, log=False):
        self.J = J
        self.log = log

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        from kymatio.numpy import Scattering2D

        scattering = Scattering2D(J=self.J, shape=X.shape[1:3])

        def features(batch):
            planes = np.moveaxis(batch.reshape(*batch.shape[:3], -1), -1, 1)
            maps = scattering(np.ascontiguousarray(planes, dtype=np.float32) / 255)
            maps = np.log1p(1000 * np.maximum(maps, 0)) if self.log else maps
            return maps.reshape(len(batch), -1)

        return map_threads(features, X, 128)
