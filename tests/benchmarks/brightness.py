"""Moments of regions beside the features of a layer, which contrast normalisation keeps from light.

    python tests/benchmarks/brightness.py --data FOLDER [--draws 3] [--validate]

FOLDER holds fashion.npz and cifar10.npz. Layers are fitted to 10000 training images, of which few
or all have labels. The layer with `RegionMoments` in a union has as many columns as a layer of more
kernels. The classifier is that of `few_labels.py`. With --validate the last 4000 training images
stand in for the test images.
"""

import argparse

import numpy as np
from accuracy import load
from few_labels import draw_labelled, linear_accuracy
from sklearn.base import clone
from sklearn.pipeline import FeatureUnion
from timing import machine

from sklearn_calm import ConvGMMFeatures, RegionMoments

N_TRAIN, N_VALIDATED = 10_000, 4000
# Of each class; None for all.
LABELS = (10, 100, None)
SETS = {
    "cifar10": ("CIFAR-10 (JPEG)", {"patch_size": 6, "reg_covar": 0.3}),
    "fashion": ("Fashion-MNIST", {}),
}


def rows(options, n_channels):
    """Name -> transformer; a kernel has 16 columns, the moments of a channel have 32."""
    few, more = (ConvGMMFeatures(n_kernels, **options) for n_kernels in (64, 64 + 2 * n_channels))
    return {
        "moments": RegionMoments(),
        "64 kernels": few,
        f"{more.n_components} kernels": more,
        f"{more.n_components} kernels, normalize=None": clone(more).set_params(normalize=None),
        "64 kernels and moments": FeatureUnion([("layer", few), ("moments", RegionMoments())]),
    }


def seeded(features, seed):
    """A copy whose layer, if any, has this seed."""
    names = [name for name in features.get_params() if name.endswith("random_state")]
    return clone(features).set_params(**dict.fromkeys(names, seed))


def accuracies(features, train, test, seed):
    """Number of columns; percentage of test images classified correctly by number of labels."""
    (X, y), (X_test, y_test) = train, test
    drawn = np.random.default_rng(seed).permutation(len(X))[:N_TRAIN]
    X, y = X[drawn], y[drawn]
    features = seeded(features, seed).fit(X)
    F, F_test, found = features.transform(X), features.transform(X_test), []
    for n in LABELS:
        chosen = draw_labelled(y, n, seed) if n else slice(None)
        found.append(100 * linear_accuracy(F[chosen], y[chosen], F_test, y_test))
    return F.shape[1], found


def main():
    """Print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--validate", action="store_true")
    args = parser.parse_args()
    print(machine())
    for name in args.sets:
        title, options = SETS[name]
        X, X_test, y, y_test = load(name, args.data, None)
        train, test = (X, y), (X_test, y_test)
        if args.validate:
            train, test = (
                (X[part], y[part]) for part in (slice(-N_VALIDATED), slice(-N_VALIDATED, None))
            )
        print(f"\n{title + ', labels of each class':38}{'columns':>9}", end="")
        print("".join(f"{n or 'all':>14}" for n in LABELS))
        for row, features in rows(options, X.shape[3] if X.ndim == 4 else 1).items():
            found = [accuracies(features, train, test, seed) for seed in range(args.draws)]
            cells = np.array([each for _, each in found])
            columns = zip(cells.mean(axis=0), cells.std(axis=0, ddof=1), strict=True)
            cells = "".join(f"{mean:8.1f} ± {spread:3.1f}" for mean, spread in columns)
            print(f"  {row:36}{found[0][0]:9}{cells}", flush=True)


if __name__ == "__main__":
    main()
