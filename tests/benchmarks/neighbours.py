"""Similar images and clusters by features, beside raw pixels.

    python tests/benchmarks/neighbours.py --data FOLDER

FOLDER holds fashion.npz (X_train, y_train, X_test, y_test). Features are learned from the first
10000 training images, which are the gallery too. For each of the first 1000 test images the ten
nearest of the gallery are looked up, by Euclidean distance; the figure is the share of them of the
same class. Clusters are those of k-means on the first 5000 images of the gallery, and the figure is
the adjusted Rand index. Columns are neither scaled nor reduced. Mean and range over three seeds.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors
from timing import machine

from sklearn_calm import ConvGMMFeatures

SEEDS = (0, 1, 2)
N_GALLERY, N_QUERIES, N_CLUSTERED = 10_000, 1000, 5000
POOL_GRIDS = (1, 2, 4, 7)
WINDOWS = ("box", "gaussian")


def same_class(gallery, queries, y, y_queries):
    """Share of the ten nearest that are of the class of the query."""
    nearest = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(gallery)
    found = nearest.kneighbors(queries, return_distance=False)
    return (y[found] == y_queries[:, np.newaxis]).mean()


def cluster_agreement(rows, y, seed):
    kmeans = KMeans(len(np.unique(y)), n_init=5, random_state=seed)
    return adjusted_rand_score(y, kmeans.fit_predict(rows))


def report(name, figures):
    """Print mean and range of both figures, (n_seeds, 2)."""
    figures = np.asarray(figures)
    parts = [f"{x.mean():.3f} ({x.min():.3f} to {x.max():.3f})" for x in figures.T]
    print(f"{name:22} neighbours {parts[0]}, clusters {parts[1]}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--windows", nargs="*", default=WINDOWS, choices=WINDOWS)
    arguments = parser.parse_args()
    print(machine())
    with np.load(Path(arguments.data) / "fashion.npz") as data:
        X, y = data["X_train"][:N_GALLERY], data["y_train"][:N_GALLERY]
        Q, y_queries = data["X_test"][:N_QUERIES], data["y_test"][:N_QUERIES]
    part = slice(N_CLUSTERED)

    def measure(gallery, queries, seed):
        agreement = cluster_agreement(gallery[part], y[part], seed)
        return same_class(gallery, queries, y, y_queries), agreement

    pixels = [Z.reshape(len(Z), -1).astype(np.float32) for Z in (X, Q)]
    report("raw pixels", [measure(*pixels, seed) for seed in SEEDS])
    models = [
        ConvGMMFeatures(padding=2, max_iter=4, tol=0, random_state=seed).fit(X) for seed in SEEDS
    ]
    for window in arguments.windows:
        for pool_grid in POOL_GRIDS:
            columns = []
            for model in models:
                model.set_params(pool_window=window, pool_grid=pool_grid)
                columns.append((model.transform(X), model.transform(Q)))
            name = f"{window}, pool_grid={pool_grid}"
            report(name, [measure(*columns[seed], seed) for seed in SEEDS])


if __name__ == "__main__":
    main()
