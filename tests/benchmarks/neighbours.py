"""Similar images and clusters by features, beside raw pixels.

    python tests/benchmarks/neighbours.py --data FOLDER

FOLDER holds fashion.npz (X_train, y_train, X_test, y_test). Features are learned from the first
10000 training images, which are the gallery too. For each of the first 1000 test images the ten
nearest of the gallery are looked up, by Euclidean distance; the figure is the share of them of the
same class. Clusters are those of k-means on the first 5000 images of the gallery, and the figure is
the adjusted Rand index. Columns are as they come, but for the last rows. Mean and range over three
seeds.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from timing import machine

from sklearn_calm import ConvGMMFeatures

SEEDS = (0, 1, 2)
N_GALLERY, N_QUERIES, N_CLUSTERED = 10_000, 1000, 5000
POOL_GRIDS = (1, 2, 4, 7)
# What is done to the columns of the finest grid.
STEPS = {
    "square roots": FunctionTransformer(np.sqrt),
    "standardised": StandardScaler(),
    "whitened PCA": PCA(64, whiten=True, random_state=0),
}


def same_class(gallery, queries, y, y_queries):
    """Share of the ten nearest that are of the class of the query."""
    nearest = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(gallery)
    found = nearest.kneighbors(queries, return_distance=False)
    return (y[found] == y_queries[:, np.newaxis]).mean()


def cluster_agreement(rows, y, seed):
    kmeans = KMeans(len(np.unique(y)), n_init=5, random_state=seed)
    return adjusted_rand_score(y, kmeans.fit_predict(rows))


def ours(pool_grid, seed):
    return ConvGMMFeatures(padding=2, pool_grid=pool_grid, max_iter=4, tol=0, random_state=seed)


def report(name, figures):
    """Print mean and range of both figures, (n_seeds, 2)."""
    figures = np.asarray(figures)
    parts = [f"{x.mean():.3f} ({x.min():.3f} to {x.max():.3f})" for x in figures.T]
    print(f"{name:26} neighbours {parts[0]}, clusters {parts[1]}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    print(machine())
    with np.load(Path(parser.parse_args().data) / "fashion.npz") as data:
        X, y = data["X_train"][:N_GALLERY], data["y_train"][:N_GALLERY]
        Q, y_queries = data["X_test"][:N_QUERIES], data["y_test"][:N_QUERIES]
    part = slice(N_CLUSTERED)

    def measure(gallery, queries, seed):
        agreement = cluster_agreement(gallery[part], y[part], seed)
        return same_class(gallery, queries, y, y_queries), agreement

    pixels = [Z.reshape(len(Z), -1).astype(np.float32) for Z in (X, Q)]
    report("raw pixels", [measure(*pixels, seed) for seed in SEEDS])
    for pool_grid in POOL_GRIDS:
        features = [ours(pool_grid, seed).fit(X) for seed in SEEDS]
        columns = [(model.transform(X), model.transform(Q)) for model in features]
        report(f"pool_grid={pool_grid}", [measure(*columns[seed], seed) for seed in SEEDS])
    for name, step in STEPS.items():
        changed = [
            (step.fit(F).transform(F), step.transform(F_queries)) for F, F_queries in columns
        ]
        report(f"pool_grid={pool_grid}, {name}", [measure(*changed[seed], seed) for seed in SEEDS])


if __name__ == "__main__":
    main()
