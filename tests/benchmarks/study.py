"""What each option is worth: test accuracy for one option changed at a time, and several together.

    python tests/benchmarks/study.py --data FOLDER [--n-train 4000] [--n-test 4000] [--seeds 3]

FOLDER holds mnist.npz, fashion.npz and cifar10.npz (X_train, y_train, X_test, y_test). Each seed
draws other training images and other starting kernels. All rows make ten passes, and have the
default of every option that they do not name. But for the last block all rows have 1024 features or
nearly so. The classifier is ridge regression on standardised features, its penalty chosen on a
fifth of the training images. Cells are the mean accuracy on the test images in percent and the
standard deviation over seeds; seconds are the processor time of `fit`, mean over all.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from linear import signed_root, standardized
from peers import PAPER
from scipy.linalg import LinAlgWarning
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_calm import ConvGMMFeatures

DATA = ("mnist", "fashion", "cifar10")
RAW = {"normalize": None, "whiten": False}
BASE = {"n_components": 64, "max_iter": 10, "tol": 0}
# Blocks of rows: the options that differ from these. "sizes" and "grids" are those of several
# layers side by side; "root" takes square roots of the features.
STUDY = {
    "": [{}],
    "preprocessing": [
        {"normalize": None},
        {"whiten": False},
        RAW,
        {"reg_covar": 0.3},
        {"reg_covar": 1.0},
    ],
    "geometry": [
        {"patch_size": 3},
        {"patch_size": 6},
        {"patch_size": 7},
        {"patch_size": 9},
        {"padding": 0},
        {"padding": 2, "padding_mode": "constant"},
        {"stride": 2},
        {"sizes": (3, 5, 8), "n_components": 21},
    ],
    "windows": [
        {"pool_window": "box"},
        {"pool_width": 0.4},
        {"pool_width": 0.5},
        {"pool_width": 0.8},
        {"pool_width": 1.0},
    ],
    "regions": [
        {"pool_grid": 2, "n_components": 256},
        {"pool_grid": 3, "n_components": 114},
        {"pool_grid": 5, "n_components": 41},
        {"pool_grid": 6, "n_components": 28},
        {"pool_grid": 7, "n_components": 21},
        {"grids": (3, 7), "n_components": 18},
    ],
    "mixture": [
        {"assignment": (4, 4)},
        {"learn_weights": False},
        {"noise_variance": 0.05},
        {"init_params": "random_from_data"},
        {"init_params": "random"},
        {"max_iter": 4},
        {"max_iter": 30},
    ],
    "scores": [
        {"polarity": "both", "n_components": 32},
        {"root": True},
        {"pool_contrast": 0.5},
        {"pool_contrast": 0.5, "root": True},
        {"pool_contrast": 1, "root": True},
        {"pooling": "logsumexp"},
        {"pooling": "max"},
        {"pooling": "mean"},
        {"pooling": "tempered"},
    ],
    "together": [
        {**RAW, "pooling": "logsumexp"},
        {**RAW, "assignment": "image", "pooling": "logsumexp"},
    ],
    "other numbers of features": [
        {"n_components": 16},
        {"n_components": 128},
        {"n_components": 256},
        {"polarity": "both"},
        {"n_components": 114, "grids": (3, 7)},
        PAPER,
    ],
}


def features_of(options, seed):
    """The transformer with these options."""
    options = {**BASE, "random_state": seed, **options}
    sizes, grids = options.pop("sizes", ()), options.pop("grids", ())
    root = options.pop("root", False)
    layer = ConvGMMFeatures(**options)
    parts = [(f"size{size}", clone(layer).set_params(patch_size=size)) for size in sizes]
    parts += [(f"grid{grid}", clone(layer).set_params(pool_grid=grid)) for grid in grids]
    features = FeatureUnion(parts) if parts else layer
    return make_pipeline(features, FunctionTransformer(signed_root)) if root else features


def name_of(options):
    if not options:
        return "all by default"
    if all(options.get(key) == value for key, value in PAPER.items() if key != "n_components"):
        return f"the paper's layer, n_components={options['n_components']}"
    return ", ".join(f"{key}={value!r}" for key, value in options.items())


def ridge_accuracy(F, y, F_test, y_test):
    """Test accuracy of ridge regression, its penalty chosen on a fifth of the training images."""
    F_fit, F_val, y_fit, y_val = train_test_split(F, y, test_size=0.2, stratify=y, random_state=0)
    F_fit, F_val = standardized(F_fit, F_val, root=False)
    penalties = [share * len(F) for share in (1e-3, 1e-2, 1e-1, 1)]

    def validated(alpha):
        return RidgeClassifier(alpha).fit(F_fit, y_fit).score(F_val, y_val)

    F, F_test = standardized(F, F_test, root=False)
    return RidgeClassifier(max(penalties, key=validated)).fit(F, y).score(F_test, y_test)


def main():
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--n-train", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n-test", type=int, default=4000)
    parser.add_argument("--blocks", nargs="*", default=list(STUDY), choices=list(STUDY))
    args = parser.parse_args()

    # Some options leave components dead, and the least penalty leaves ridge ill-conditioned.
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.simplefilter("ignore", LinAlgWarning)
    splits = {}
    for name in DATA:
        with np.load(Path(args.data) / f"{name}.npz") as parts:
            splits[name] = [parts[f"{p}_{s}"] for s in ("train", "test") for p in "Xy"]
    print(f"{'':60}" + "".join(f"{name:>15}" for name in DATA) + f"{'fit s':>8}")
    for block in args.blocks:
        print(f"\n{block}")
        for options in STUDY[block]:
            cells, seconds = [], []
            for X, y, X_test, y_test in splits.values():
                X_test, y_test = X_test[: args.n_test], y_test[: args.n_test]
                found = []
                for seed in range(args.seeds):
                    rows = np.random.default_rng(seed).permutation(len(X))[: args.n_train]
                    features = features_of(options, seed)
                    started = time.process_time()
                    features.fit(X[rows])
                    seconds.append(time.process_time() - started)
                    F, F_test = features.transform(X[rows]), features.transform(X_test)
                    found.append(100 * ridge_accuracy(F, y[rows], F_test, y_test))
                cells.append(f"{np.mean(found):8.2f} ± {np.std(found, ddof=1):4.2f}")
            print(f"{name_of(options):60}{''.join(cells)}{np.mean(seconds):8.1f}", flush=True)


if __name__ == "__main__":
    main()
