"""An unsupervised convolutional kernel network (Mairal, 2016), a peer of two layers.

Patches of unit length are compared with filters of unit length by exp((cosine - 1) / 0.36), and the
answers are multiplied by the length of the patch. Maps are pooled by Gaussian windows, and
decorrelated. Filters are the centres of spherical k-means.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from peers import map_threads, window_means
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline

SIZE = 3
BANDWIDTH = 0.36
# Images, and patches of them, that a layer is fitted to; passes of k-means; images of a batch.
N_IMAGES, N_PATCHES, N_PASSES, BATCH = 4000, 60_000, 12, 50


class KernelNetwork:
    """A layer, maps of 16 x 16, and a layer on them. Both are fitted to some of the images.

    `options` are those of both layers; `second` is another second layer.
    """

    def __init__(self, n_first, n_second, *, second=None, seed=0, **options):
        first = KernelLayer(n_first, 16, ridge=1.0, seed=seed, **options)
        second = KernelLayer(n_second, 3, seed=seed, **options) if second is None else second
        self.layers = make_pipeline(first, second)

    def fit(self, X, y=None):
        self.layers.fit(X[:N_IMAGES])
        return self

    def transform(self, X):
        parts = [self.layers.transform(X[i : i + 1000]) for i in range(0, len(X), 1000)]
        return np.concatenate([part.reshape(len(part), -1) for part in parts])


class KernelLayer(TransformerMixin, BaseEstimator):
    """One layer: maps (n, pool_grid, pool_grid, n_filters) of maps (n, rows, columns, channels).

    The paper's layer has all options at their defaults. `ridge` is that of the whitening, relative
    to the mean variance, and None does not whiten; patches are whitened and have the mean of each
    channel subtracted in a first layer only. Without `channel_means`, one mean of all channels is
    subtracted there. Without `exponential`, answers are the positive parts
    of the cosines, which are not decorrelated.
    """

    def __init__(
        self,
        n_filters,
        pool_grid,
        ridge=None,
        lengths=True,
        exponential=True,
        decorrelate=True,
        channel_means=True,
        seed=0,
    ):
        self.n_filters = n_filters
        self.pool_grid = pool_grid
        self.ridge = ridge
        self.lengths = lengths
        self.exponential = exponential
        self.decorrelate = decorrelate
        self.channel_means = channel_means
        self.seed = seed

    def fit(self, X, y=None):
        rng = np.random.default_rng(self.seed)
        patches = np.concatenate(
            [self._sampled(X[i : i + BATCH], rng) for i in range(0, min(len(X), N_IMAGES), BATCH)]
        )
        self.mean_, self.whitener_ = self._whitening(patches)
        directions, lengths = self._directions(patches)
        self.scale_ = 1 / np.sqrt(np.mean(np.square(lengths)))
        directions = directions[lengths[:, 0] > 1e-3 * np.median(lengths)][:N_PATCHES]
        self.filters_ = spherical_kmeans(directions, self.n_filters, rng)
        products = np.exp((self.filters_ @ self.filters_.T - 1) / BANDWIDTH)
        values, vectors = np.linalg.eigh(products.astype(np.float64))
        values = np.maximum(values, 0) + 1e-3
        self.decorrelation_ = ((vectors / np.sqrt(values)) @ vectors.T).astype(np.float32)
        return self

    def transform(self, X):
        return map_threads(self._maps, X, BATCH)

    def _sampled(self, X, rng):
        patches = self._patches(X)
        patches = patches.reshape(-1, patches.shape[-1])
        n = -(-2 * N_PATCHES * len(X) // N_IMAGES)
        return patches[rng.choice(len(patches), n, replace=False)]

    def _patches(self, X):
        """(n, rows, columns, values)"""
        X = np.pad(X.astype(np.float32), [(0, 0), (1, 1), (1, 1), (0, 0)])
        windows = sliding_window_view(X, (SIZE, SIZE), axis=(1, 2))
        if self.ridge is not None:
            axes = (4, 5) if self.channel_means else (3, 4, 5)
            windows = windows - windows.mean(axis=axes, keepdims=True)
        return windows.reshape(*windows.shape[:3], -1)

    def _whitening(self, patches):
        if self.ridge is None:
            return 0, None
        values, vectors = np.linalg.eigh(np.cov(patches, rowvar=False))
        scale = np.sqrt(np.maximum(values, 0) + self.ridge * values.mean())
        return patches.mean(axis=0), ((vectors / scale) @ vectors.T).astype(np.float32)

    def _directions(self, patches):
        """Patches of unit length, and their lengths."""
        if self.whitener_ is not None:
            patches = (patches - self.mean_) @ self.whitener_
        lengths = np.linalg.norm(patches, axis=-1, keepdims=True)
        return patches / np.maximum(lengths, 1e-5), lengths

    def _maps(self, X):
        directions, lengths = self._directions(self._patches(X))
        maps = directions @ self.filters_.T
        maps = np.exp((maps - 1) / BANDWIDTH) if self.exponential else np.maximum(maps, 0)
        if self.lengths:
            maps *= lengths * self.scale_
        # Windows as wide as in the paper: the step between them over the square root of 2.
        maps = window_means(maps, self.pool_grid, 0.5**0.5)
        decorrelated = self.exponential and self.decorrelate
        return maps @ self.decorrelation_ if decorrelated else maps


def spherical_kmeans(directions, n_clusters, rng):
    """Centres of unit length of directions (m, D)."""
    centres = directions[rng.choice(len(directions), n_clusters, replace=False)]
    for _ in range(N_PASSES):
        nearest = (directions @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, directions)
        empty = np.linalg.norm(sums, axis=1) < 1e-6
        sums[empty] = directions[rng.choice(len(directions), empty.sum(), replace=False)]
        centres = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return centres
