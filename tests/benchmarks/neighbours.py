"""Similar images and clusters by features, beside raw pixels.

    python tests/benchmarks/neighbours.py --data FOLDER

FOLDER holds fashion.npz (X_train, y_train, X_test, y_test). Features are learned from the first
10000 training images, which are the gallery too. For each of the first 1000 test images the ten
nearest of the gallery are looked up, by Euclidean distance; the figure is the share of them of the
same class. Clusters are those of k-means on the first 5000 images of the gallery, and the figure is
the adjusted Rand index. Nothing is scaled or reduced. Mean and range over three seeds.
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
OURS = {
    "pool_grid=1": {"pool_grid": 1},
    "pool_grid=2": {"pool_grid": 2},
    "pool_grid=4": {"pool_grid": 4},
    "pool_grid=7": {"pool_grid": 7},
}


def same_class(gallery, queries, y, y_queries):
    """Share of the ten nearest that are of the class of the query."""
    nearest = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(gallery)
    found = nearest.kneighbors(queries, return_distance=False)
    return (y[found] == y_queries[:, np.newaxis]).mean()


def cluster_agreement(rows, y, seed):
    kmeans = KMeans(len(np.unique(y)), n_init=5, random_state=seed)
    return adjusted_rand_score(y, kmeans.fit_predict(rows))


def report(name, shares, agreements):
    parts = [f"{np.mean(x):.3f} ({np.min(x):.3f} to {np.max(x):.3f})" for x in (shares, agreements)]
    print(f"{name:14} neighbours {parts[0]}, clusters {parts[1]}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    print(machine())
    with np.load(Path(parser.parse_args().data) / "fashion.npz") as data:
        X, y = data["X_train"][:N_GALLERY], data["y_train"][:N_GALLERY]
        Q, y_queries = data["X_test"][:N_QUERIES], data["y_test"][:N_QUERIES]
    part = slice(N_CLUSTERED)
    rows, query_rows = (Z.reshape(len(Z), -1).astype(np.float32) for Z in (X, Q))
    share = same_class(rows, query_rows, y, y_queries)
    report("raw pixels", share, [cluster_agreement(rows[part], y[part], seed) for seed in SEEDS])
    for name, options in OURS.items():
        shares, agreements = [], []
        for seed in SEEDS:
            options = {"padding": 2, "max_iter": 4, "tol": 0, **options, "random_state": seed}
            features = ConvGMMFeatures(**options).fit(X)
            F, F_queries = features.transform(X), features.transform(Q)
            shares.append(same_class(F, F_queries, y, y_queries))
            agreements.append(cluster_agreement(F[part], y[part], seed))
        report(name, shares, agreements)


if __name__ == "__main__":
    main()
