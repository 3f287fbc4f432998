"""Test accuracy of a linear classifier on our features and on those of our peers.

    pip install -e '.[bench]'
    python tests/benchmarks/accuracy.py --data FOLDER [--settings NAME ...] [--rows NAME ...]

FOLDER holds mnist.npz, fashion.npz and cifar10.npz (X_train, y_train, X_test, y_test). Every row
has the same split and a linear classifier on standardised features: logistic or ridge regression.
Which of them, its penalty, and whether the (signed) square root is taken of the features first, are
chosen for each row on training images; the test images are looked at once. With many training
images and more than 7000 features only ridge regression is tried: features are then made and added
a batch at a time. With --times, instead of accuracies, seconds of `fit`
and images per second of `transform`.
"""

import argparse
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from linear import climb, many_images, signed_root, standardized
from peers import PAPER, Flat, KMeansFeatures, Mirrored, Scattering
from scipy.linalg import LinAlgWarning
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from timing import machine, seconds_of

from sklearn_calm import ConvGMMFeatures

# With more training images, the classifiers that take features a batch at a time.
N_FEW = 12_000
GAUSSIAN = {"pool_window": "gaussian", "pool_width": 0.6}


def ours(n_components, **options):
    return ConvGMMFeatures(n_components, random_state=0, **options)


def boxes(n_components, **options):
    return ours(n_components, pool_window="box", **options)


class TwoLayers(TransformerMixin, BaseEstimator):
    """Smooth maps of one layer, their root, and a layer on them: 16 features for each kernel."""

    # Maps of so many images are in memory together, for the fit of the second layer.
    n_images = 20_000

    def __init__(self, n_components=248, seed=0):
        self.n_components = n_components
        self.seed = seed

    def fit(self, X, y=None):
        smooth = {"pool_window": "gaussian", "pool_width": 0.6, "max_iter": 10, "tol": 0}
        first = {"n_components": 64, "padding": 2, "pool_grid": 10, "polarity": "both"}
        first = ConvGMMFeatures(
            **first, **smooth, reg_covar=0.3, flatten=False, random_state=self.seed
        )
        second = {"patch_size": 3, "padding": 1, "reg_covar": 1.0, "random_state": self.seed}
        second = ConvGMMFeatures(self.n_components, **second, **smooth)
        self.layers_ = make_pipeline(first, FunctionTransformer(signed_root), second)
        self.layers_.fit(X[: self.n_images])
        return self

    def transform(self, X):
        return self.layers_.transform(X)


def settings():
    """Setting -> data set, training images, rows."""
    pixels = {"raw pixels": Flat(), "PCA": make_pipeline(Flat(), PCA(100, random_state=0))}
    peers = {
        **pixels,
        "the paper's layer, 64": ours(**PAPER, max_iter=15, tol=0),
        "ours, boxes": boxes(64, padding=0),
        "ours, defaults": ours(64),
    }
    one_region = boxes(64, patch_size=20, padding=2, reg_covar=1.0, pool_grid=1)
    scattering = {
        f"scattering, J={J}{', log' if log else ''}": Scattering(J, log)
        for J in (2, 3)
        for log in (False, True)
    }
    thirds = {"patch_size": 6, "pool_grid": 3, "reg_covar": 0.3, "max_iter": 10, "tol": 0}
    smooth = {"padding": 2, "pool_window": "gaussian", "pool_width": 0.5}
    quarters = {**thirds, **smooth, "pool_grid": 4, "polarity": "both"}
    return {
        "mnist": (
            "mnist",
            60_000,
            {
                **peers,
                **scattering,
                "ours, 64, one region": one_region,
                "ours, 400, 8 x 8, boxes": boxes(
                    400, patch_size=8, padding=2, normalize=None, reg_covar=1.0
                ),
                "ours, 200, 6 x 6, both": ours(200, **quarters),
                "ours, 400, 6 x 6, both": ours(400, **quarters),
                "ours, two layers": TwoLayers(),
                "ours, two layers, 1000": TwoLayers(1000),
            },
        ),
        "fashion-10000": (
            "fashion",
            10_000,
            {
                **peers,
                "scattering, J=2": Scattering(),
                "k-means, 248, 6 x 6": KMeansFeatures(248),
                "k-means, 248, 6 x 6, Gaussian": KMeansFeatures(248, pool_width=0.6),
                "ours, 248, 6 x 6": boxes(248, patch_size=6, padding=2),
                "ours, 248, 6 x 6, Gaussian": ours(248, patch_size=6, padding=2, **GAUSSIAN),
            },
        ),
        "fashion": (
            "fashion",
            60_000,
            {
                **peers,
                **scattering,
                "ours, 400, 6 x 6, boxes": boxes(400, patch_size=6, padding=2),
                "ours, 200, 6 x 6, both": ours(200, **quarters),
                "ours, 400, 6 x 6, both": ours(400, **quarters),
                "the same, mirrored": Mirrored(ours(400, **quarters)),
                "ours, two layers": TwoLayers(),
                "ours, two layers, 1000": TwoLayers(1000),
            },
        ),
        "cifar10": (
            "cifar10",
            50_000,
            {
                **pixels,
                "k-means, 711, 6 x 6, 3 x 3": KMeansFeatures(711, pool_grid=3, ridge=0.3),
                "k-means, 711, 6 x 6, 3 x 3, Gaussian": KMeansFeatures(
                    711, pool_grid=3, pool_width=0.5, ridge=0.3, padding=2
                ),
                "k-means, 711, 6 x 6, 3 x 3, contrast": KMeansFeatures(
                    711, pool_grid=3, pool_width=0.5, ridge=0.3, padding=2, contrast=0.5
                ),
                "ours, boxes": boxes(64, padding=0),
                "ours, defaults": ours(64),
                "ours, 711, 6 x 6, 3 x 3, boxes": boxes(711, **thirds, padding=0),
                "ours, 711, 6 x 6, 3 x 3, Gaussian": ours(711, **thirds, **smooth),
                "ours, 711, 6 x 6, 3 x 3, contrast": ours(
                    711, **thirds, **smooth, pool_contrast=0.5
                ),
                "ours, 355, 6 x 6, 3 x 3, both": ours(355, **thirds, **smooth, polarity="both"),
                "ours, 1600, 6 x 6, 3 x 3, Gaussian": ours(1600, **thirds, **smooth),
                "ours, 1600, 6 x 6, 3 x 3, both": ours(1600, **thirds, **smooth, polarity="both"),
                "the same, mirrored": Mirrored(ours(1600, **thirds, **smooth, polarity="both")),
                "the same, mirrored, contrast": Mirrored(
                    ours(1600, **thirds, **smooth, polarity="both", pool_contrast=0.5)
                ),
            },
        ),
        "digits": (
            "digits",
            898,
            {
                "raw pixels": Flat(),
                "PCA": make_pipeline(Flat(), PCA(40, random_state=0)),
                "scattering, J=1": Scattering(1),
                "ours, defaults": ours(64),
                "ours, boxes": boxes(64, padding=0),
                "ours, boxes, padding=2": boxes(64, padding=2),
                "ours, Gaussian": ours(64, padding=0, **GAUSSIAN),
                "ours, Gaussian, padding=2": ours(64, padding=2, **GAUSSIAN),
            },
        ),
    }


def load(name, folder, n_train):
    """Training and test images and labels."""
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        X = X.reshape(-1, 8, 8)
        return train_test_split(X, y, train_size=n_train, stratify=y, random_state=0)
    with np.load(Path(folder) / f"{name}.npz") as parts:
        X, X_test, y, y_test = (
            parts[f"{part}_{split}"] for part in "Xy" for split in ("train", "test")
        )
    return X[:n_train], X_test, y[:n_train], y_test


class Choice(NamedTuple):
    """What one way to classify reached on validation images."""

    accuracy: float
    kind: str
    exponent: int
    root: bool

    def __str__(self):
        return f"{self.kind} {10 ** (self.exponent / 2):.2g}{', root' if self.root else ''}"


def classifier(kind, exponent, n, tol, **options):
    """A classifier with a penalty of 10^(exponent / 2): C, or alpha for each of n images."""
    if kind == "ridge":
        return RidgeClassifier(n * 10.0 ** (exponent / 2))
    return LogisticRegression(C=10.0 ** (exponent / 2), max_iter=500, tol=tol, **options)


def choose_penalty(F, y, kind, root, tol, first=-4):
    """The best penalty on a validation part."""
    F, F_val, y, y_val = train_test_split(F, y, test_size=0.4, stratify=y, random_state=0)
    F, F_val = standardized(F, F_val, root=root)
    warm = classifier("LR", first, len(F), tol, warm_start=True)

    def accuracy(exponent):
        model = classifier(kind, exponent, len(F), tol)
        if kind == "LR":
            model = warm.set_params(C=model.C)
        return model.fit(F, y).score(F_val, y_val)

    best, exponent = climb(accuracy, first)
    return Choice(best, kind, exponent, root)


def choose_classifier(F, y, tol):
    """The classifier, penalty and root that do best on a validation part of the training images."""
    return max(
        choose_penalty(F, y, kind, root, tol) for root in (False, True) for kind in ("LR", "ridge")
    )


def measure(features, X, X_test, y, y_test, *, tol=1e-4):
    """One row: number of features, accuracy, classifier."""
    features.fit(X)
    if len(X) > N_FEW:
        return many_images(features, X, y, X_test, y_test)
    F, F_test = features.transform(X), features.transform(X_test)
    choice = choose_classifier(F, y, tol)
    F, F_test = standardized(F, F_test, root=choice.root)
    model = classifier(choice.kind, choice.exponent, len(F), tol).fit(F, y)
    return F.shape[1], model.score(F_test, y_test), str(choice)


def times(features, X, X_test):
    """One row: number of features, seconds to fit, images per second."""
    fit_seconds = seconds_of(lambda: features.fit(X))
    seconds = seconds_of(lambda: features.transform(X_test))
    return features.transform(X_test[:1]).shape[1], fit_seconds, len(X_test) / seconds


def main():
    """Run the benchmark."""
    known = settings()
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--settings", nargs="*", default=list(known), choices=list(known))
    parser.add_argument("--rows", nargs="*", help="rows whose name contains one of these")
    parser.add_argument("--tol", type=float, default=1e-4, help="of logistic regression")
    parser.add_argument("--times", action="store_true", help="leave the classifier out")
    args = parser.parse_args()
    # Some features do not let logistic regression converge in its 500 iterations.
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.simplefilter("ignore", LinAlgWarning)  # the least penalties of ridge regression

    print(machine())
    columns = f"{'fit s':>8}{'images/s':>10}" if args.times else f"{'accuracy':>10}  classifier"
    for name in args.settings:
        data, n_train, rows = known[name]
        X, X_test, y, y_test = load(data, args.data, n_train)
        print(f"\n{name} ({len(X)} training images)\n{'':44}{'features':>8}{columns}", flush=True)
        for row, features in rows.items():
            if args.rows and not any(part in row for part in args.rows):
                continue
            if args.times:
                n, seconds, rate = times(features, X, X_test)
                found = f"{seconds:8.1f}{rate:10.0f}"
            else:
                n, accuracy, chosen = measure(features, X, X_test, y, y_test, tol=args.tol)
                found = f"{accuracy:10.4f}  {chosen}"
            print(f"{row:44}{n:8}{found}", flush=True)


if __name__ == "__main__":
    main()
