"""Two layers against one at equal numbers of features.

    pip install -e '.[dask]'
    python tests/benchmarks/two_layers.py --data FOLDER --all-images [--rows NAME ...]
    python tests/benchmarks/two_layers.py --data FOLDER [--draws 2] [--rows NAME ...]
    python tests/benchmarks/two_layers.py --data FOLDER --memory

FOLDER holds fashion.npz and cifar10.npz. Ridge regression on standardised features, its penalty and
whether the signed root is taken first chosen on a fifth of the training images. With --all-images
these are all there are, and so are the test images; without, each draw takes 10000 training images
and 5000 test images at random, many ways are tried, and the last row is kernel ridge regression on
the features of the first: what a linear classifier leaves. The seed of every layer is that of the
draw. With --memory, instead, the most that is allocated while two layers are fitted to 60000
images.
"""

import argparse
import time
import tracemalloc

import dask.array as da
import numpy as np
from accuracy import load
from kernel_network import KernelNetwork
from linear import NormalEquations, climb, signed_root, standardized
from peers import KMeansFeatures, Mirrored
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from timing import machine

from sklearn_calm import ConvGMMFeatures

N_TRAIN, N_TEST = 10_000, 5000
FIRST, KERNEL_RIDGE = "one layer, 248, 4 x 4", "248, 4 x 4, kernel ridge"
ALPHAS = (0.003, 0.01, 0.03, 0.1, 0.3)


class WindowKernels(TransformerMixin, BaseEstimator):
    """Gaussian kernels of windows of a map: a second layer whose answers are not linear.

    Channels are standardised roots; windows are projected to their first components, whose
    variances are flattened by half; the kernels' centres are by k-means, and what they answer is
    decorrelated (Nystroem's method), so that products of features are kernels.
    """

    def __init__(self, n_components, size=2, n_directions=200, random_state=None):
        self.n_components = n_components
        self.size = size
        self.n_directions = n_directions
        self.random_state = random_state

    def fit(self, X, y=None):
        roots = signed_root(X)
        self.mean_, self.scale_ = roots.mean(axis=(0, 1, 2)), roots.std(axis=(0, 1, 2)) + 1e-6
        windows = self._windows(X[:: max(1, len(X) // 3000)]).reshape(-1, self._length(X))
        self.pca_ = PCA(min(self.n_directions, windows.shape[1]), random_state=self.random_state)
        self.pca_.fit(windows[:20_000])
        points = self._points(windows)
        clusters = MiniBatchKMeans(
            self.n_components, batch_size=4096, n_init=1, random_state=self.random_state
        )
        self.centres_ = clusters.fit(points).cluster_centers_
        self.gamma_ = 1 / (2 * points.var(axis=0).sum())
        values, vectors = np.linalg.eigh(rbf_kernel(self.centres_, gamma=self.gamma_))
        self.decorrelation_ = (vectors / np.sqrt(np.maximum(values, 1e-3))).astype(np.float32)
        return self

    def transform(self, X):
        parts = []
        for batch in np.array_split(X, max(1, len(X) // 1000)):
            points = self._points(self._windows(batch).reshape(-1, self._length(X)))
            kernels = rbf_kernel(points, self.centres_, gamma=self.gamma_)
            parts.append((kernels @ self.decorrelation_).reshape(len(batch), -1))
        return np.concatenate(parts).astype(np.float32)

    def _length(self, X):
        return self.size**2 * X.shape[3]

    def _windows(self, X):
        X = ((signed_root(X) - self.mean_) / self.scale_).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(X, (self.size,) * 2, axis=(1, 2))
        return windows.transpose(0, 1, 2, 4, 5, 3)

    def _points(self, windows):
        spread = np.maximum(self.pca_.explained_variance_, 1e-3 * self.pca_.explained_variance_[0])
        return (self.pca_.transform(windows) / spread**0.25).astype(np.float32)


def windows(width):
    return {"pool_window": "gaussian", "pool_width": width}


def wide_rows(padding, seed):
    """Rows of the table of all images: layers side by side with two that give as many features."""

    def ours(n_components, pool_grid, **options):
        options = {
            "patch_size": 6,
            "padding": padding,
            "reg_covar": 0.3,
            "pool_window": "box",
            **options,
        }
        return ConvGMMFeatures(
            n_components, pool_grid=pool_grid, max_iter=10, tol=0, random_state=seed, **options
        )

    def deep(n_components):
        small = {"patch_size": 2, "padding": 0, "reg_covar": 10.0, "pooling": "tempered"}
        second = ours(n_components, 3, **small)
        return make_pipeline(ours(400, 4, flatten=False), FunctionTransformer(np.sqrt), second)

    return {
        "k-means, 711, 3 x 3": KMeansFeatures(711, pool_grid=3, seed=seed),
        "k-means, 711, 3 x 3, ridge 0.3": KMeansFeatures(711, pool_grid=3, ridge=0.3, seed=seed),
        "k-means, 711, 3 x 3, ridge 0.3, Gaussian": KMeansFeatures(
            711, pool_grid=3, pool_width=0.5, ridge=0.3, seed=seed
        ),
        "one layer, 400, 4 x 4": ours(400, 4),
        "one layer, 400, 4 x 4, Gaussian": ours(400, 4, **windows(0.6)),
        "one layer, 711, 3 x 3": ours(711, 3),
        "one layer, 711, 3 x 3, Gaussian": ours(711, 3, **windows(0.5)),
        "400, 4 x 4, then 711 of 2 x 2": deep(711),
        "one layer, 256, 3 x 3, Gaussian, padded": ours(256, 3, **{**windows(0.5), "padding": 2}),
        "kernel network, 64 and 256": KernelNetwork(64, 256, seed=seed),
        "kernel network, 256 and 1024": KernelNetwork(256, 1024, seed=seed),
        "kernel network, mirrored": Mirrored(KernelNetwork(256, 1024, seed=seed)),
        "one layer, 1600, 3 x 3": ours(1600, 3),
        "400, 4 x 4, then 1600 of 2 x 2": deep(1600),
    }


def rows(padding, seed):
    """Rows of the table of draws: nearly 4000 features each."""

    def ours(n_components, **options):
        options = {
            "patch_size": 6,
            "padding": padding,
            "pool_window": "box",
            "max_iter": 10,
            "tol": 0,
            **options,
        }
        return ConvGMMFeatures(n_components, random_state=seed, **options)

    def second(n_components, **options):
        return ours(n_components, **{"patch_size": 3, "padding": 0, **options})

    def maps(pool_grid, n_components=100):
        return ours(n_components, pool_grid=pool_grid, flatten=False)

    root = FunctionTransformer(signed_root)
    plain = {"normalize": None, "whiten": False}
    wide = {"padding": 2, "reg_covar": 0.3}
    smooth = {"padding": 1, "reg_covar": 10.0, "pool_grid": 3, **windows(0.7)}
    small = [("one", ours(124)), ("two", make_pipeline(maps(8), second(124)))]
    centres = {"random_state": seed}
    return {
        FIRST: ours(248),
        "one layer, 248, 4 x 4, Gaussian": ours(248, **windows(0.6)),
        "k-means, 248, 4 x 4": KMeansFeatures(seed=seed),
        "k-means, 248, 4 x 4, Gaussian": KMeansFeatures(pool_width=0.6, seed=seed),
        "one layer, 440, 3 x 3": ours(440, pool_grid=3),
        "one layer, 440, 3 x 3, Gaussian": ours(440, pool_grid=3, **windows(0.5)),
        "one layer, 440, 3 x 3, Gaussian, padded": ours(440, **wide, pool_grid=3, **windows(0.5)),
        "200, 8 x 8, then 990 of 3 x 3, Gaussian": make_pipeline(
            ours(200, **wide, pool_grid=8, flatten=False, **windows(0.6)),
            root,
            second(990, pool_grid=2, reg_covar=10.0, pooling="tempered", **windows(0.5)),
        ),
        "one layer, 256, 3 x 3, Gaussian, padded": ours(256, **wide, pool_grid=3, **windows(0.5)),
        "the same, contrast": ours(256, **wide, pool_grid=3, **windows(0.5), pool_contrast=0.5),
        "kernel network, 64 and 256": KernelNetwork(64, 256, seed=seed),
        "kernel network, not decorrelated": KernelNetwork(64, 256, seed=seed, decorrelate=False),
        "kernel network, positive cosines": KernelNetwork(64, 256, seed=seed, exponential=False),
        "kernel network, lengths left out": KernelNetwork(64, 256, seed=seed, lengths=False),
        "kernel network, one mean of channels": KernelNetwork(
            64, 256, seed=seed, channel_means=False
        ),
        "64 of a kernel network, 256 of ours": KernelNetwork(
            64, 256, seed=seed, second=second(256, **smooth, pool_contrast=1)
        ),
        "100, 8 x 8, then 248 of 3 x 3": make_pipeline(maps(8), second(248)),
        "the same, reg_covar=1": make_pipeline(maps(8), second(248, reg_covar=1.0)),
        "the same, no contrast": make_pipeline(maps(8), second(248, normalize=None)),
        "the same, no preprocessing": make_pipeline(maps(8), second(248, **plain)),
        "the same, roots between": make_pipeline(maps(8), root, second(248)),
        "the same, shares between": make_pipeline(
            maps(8).set_params(pooling="mean"), root, second(248)
        ),
        "248, 4 x 4, then 440 of 2 x 2": make_pipeline(
            maps(4, 248), second(440, patch_size=2, pool_grid=3)
        ),
        "the same, tempered": make_pipeline(
            maps(4, 248),
            root,
            second(440, patch_size=2, pool_grid=3, reg_covar=10.0, pooling="tempered"),
        ),
        "both depths, 124 each": FeatureUnion(small),
        "248, 4 x 4, Nystroem on top": make_pipeline(
            ours(248),
            root,
            StandardScaler(),
            PCA(500, **centres),
            Nystroem(gamma=1 / 1000, n_components=3968, **centres),
        ),
        "248, 4 x 4, 440 window kernels": make_pipeline(
            maps(4, 248), WindowKernels(440, **centres)
        ),
    }


def table(data, seed, args):
    """Name -> features of one of the two tables."""
    padding = 2 if data == "fashion" else 0
    return (wide_rows if args.all_images else rows)(padding, seed)


def draw(data, folder, seed, everything):
    X, X_test, y, y_test = load(data, folder, None)
    rng = np.random.default_rng(seed)
    if everything:  # in an order of their own, as validation images are the last
        order = rng.permutation(len(X))
        return X[order], X_test, y[order], y_test
    train, test = rng.permutation(len(X))[:N_TRAIN], rng.permutation(len(X_test))[:N_TEST]
    return X[train], X_test[test], y[train], y_test[test]


def accuracy(F, F_test, y, y_test):
    """Test accuracy of the ridge regression that does best on validation images."""
    n = len(F) * 4 // 5
    best, found = -1.0, None
    for root in (False, True):
        Z, Z_test = standardized(F.copy(), F_test.copy(), root=root)
        equations = NormalEquations(F.shape[1]).add(Z[:n], y[:n])

        def held_out_accuracy(exponent, Z=Z, equations=equations):
            return np.mean((Z[n:] @ equations.solve(exponent)).argmax(axis=1) == y[n:])

        validated, exponent = climb(held_out_accuracy, -4)
        if validated > best:
            best, coefficients = validated, equations.add(Z[n:], y[n:]).solve(exponent)
            found = np.mean((Z_test @ coefficients).argmax(axis=1) == y_test)
    return found


def kernel_accuracy(F, F_test, y, y_test):
    """Test accuracy of the Gaussian kernel ridge regression that does best on validation images."""
    F, F_test = standardized(F, F_test, root=True)
    n, targets = len(F) * 4 // 5, 2 * np.eye(10, dtype=np.float32)[y] - 1

    def model(alpha):
        return KernelRidge(alpha=alpha, kernel="rbf", gamma=0.5 / F.shape[1])

    def score(alpha, train, test, labels):
        found = model(alpha).fit(F[train], targets[train]).predict(test)
        return np.mean(found.argmax(axis=1) == labels)

    best = max(ALPHAS, key=lambda alpha: score(alpha, slice(n), F[n:], y[n:]))
    return score(best, slice(None), F_test, y_test)


def memory(folder):
    """Print the most that fits of two layers allocate."""
    X = load("fashion", folder, None)[0]
    lazy = da.from_array(X, chunks=(1000, -1, -1))
    second = ConvGMMFeatures(64, patch_size=3, random_state=0)
    first = {"random_state": 0, "n_components": 64}
    ways = {
        "8 x 8 x 64 maps": (ConvGMMFeatures(pool_grid=8, flatten=False, **first), X),
        "24 x 24 x 64 maps, Dask": (ConvGMMFeatures(pooling=None, **first), lazy),
    }
    for name, (layer, images) in ways.items():
        tracemalloc.start()
        started = time.perf_counter()
        make_pipeline(layer, second).fit(images)
        seconds = time.perf_counter() - started
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"{name:34}{most / 1e9:9.2f} GB {seconds:6.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--sets", nargs="+", default=["fashion", "cifar10"])
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--rows", nargs="*", help="rows whose name contains one of these")
    parser.add_argument("--all-images", action="store_true", help="the other table")
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    print(machine())
    if args.memory:
        memory(args.data)
        return
    for data in args.sets:
        print(f"\n{data:40}{'features':>9}  accuracy of each draw, mean; seconds of features")
        for name in [*table(data, 0, args), *([] if args.all_images else [KERNEL_RIDGE])]:
            if args.rows and not any(part in name for part in args.rows):
                continue
            found, seconds = [], 0.0
            for seed in range(1 if args.all_images else args.draws):
                X, X_test, y, y_test = draw(data, args.data, seed, everything=args.all_images)
                started = time.perf_counter()
                layers = table(data, seed, args)
                features = layers[FIRST if name == KERNEL_RIDGE else name].fit(X)
                F, F_test = features.transform(X), features.transform(X_test)
                seconds += time.perf_counter() - started
                measure = kernel_accuracy if name == KERNEL_RIDGE else accuracy
                found.append(measure(F, F_test, y, y_test))
            each = " ".join(f"{value:.4f}" for value in found)
            mean, seconds = np.mean(found), seconds / len(found)
            print(f"{name:40}{F.shape[1]:9}  {each}  {mean:.4f} {seconds:6.0f} s", flush=True)


if __name__ == "__main__":
    main()
