"""Test accuracy of a linear classifier on our features and on those of our peers.

    pip install -e '.[bench]'
    python tests/benchmarks/accuracy.py --data FOLDER [--settings NAME ...] [--rows NAME ...]

FOLDER holds mnist.npz, fashion.npz and cifar10.npz (X_train, y_train, X_test, y_test). Every row
has the same split and a linear classifier on standardised features: logistic regression or, with
few training images, ridge regression. Which of them, its penalty, and whether the (signed) square
root is taken of the features first, are chosen for each row on a validation part of the training
images; the test images are looked at once. Seconds are those of this run: of `fit`, and of
`transform` on the test images; with --times nothing else is done.
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from peers import PAPER, Flat, KMeansFeatures, Scattering
from scipy.linalg import LinAlgWarning
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from timing import machine

from sklearn_calm import ConvGMMFeatures

# With more training images the root is chosen on so many of them, the penalty on all.
N_FEW = 12_000


GAUSSIAN = {"pool_window": "gaussian", "pool_width": 0.6}


def ours(n_components, **options):
    return ConvGMMFeatures(n_components, random_state=0, **options)


def boxes(n_components, **options):
    return ours(n_components, pool_window="box", **options)


def settings():
    """Setting -> data set, training images, rows."""
    pixels = {"raw pixels": Flat(), "PCA": make_pipeline(Flat(), PCA(100, random_state=0))}
    peers = {
        **pixels,
        "scattering, J=2": Scattering(),
        "the paper's layer, 64": ours(**PAPER, max_iter=15, tol=0),
        "ours, boxes": boxes(64, padding=0),
        "ours, defaults": ours(64),
    }
    one_region = boxes(64, patch_size=20, padding=2, reg_covar=1.0, pool_grid=1)
    strokes = {
        f"ours, {n}, 8 x 8": boxes(n, patch_size=8, padding=2, normalize=None, reg_covar=1.0)
        for n in (400, 600)
    }
    return {
        "mnist": (
            "mnist",
            60_000,
            {**peers, "ours, 64, one region": one_region, **strokes},
        ),
        "fashion-10000": (
            "fashion",
            10_000,
            {
                **peers,
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
                "k-means, 400, 6 x 6": KMeansFeatures(400),
                "ours, 400, 6 x 6": boxes(400, patch_size=6, padding=2),
                "ours, 800, 6 x 6": boxes(800, patch_size=6, padding=2),
            },
        ),
        "cifar10": (
            "cifar10",
            50_000,
            {
                **pixels,
                "k-means, 1600, 6 x 6": KMeansFeatures(1600, pool_grid=2),
                "k-means, 711, 6 x 6, 3 x 3": KMeansFeatures(711, pool_grid=3),
                "the paper's layer, 64": ours(**PAPER, max_iter=15, tol=0),
                "ours, boxes": boxes(64, padding=0),
                "ours, defaults": ours(64),
                "ours, 1600, 6 x 6": boxes(1600, patch_size=6, pool_grid=2),
                "ours, 711, 6 x 6, 3 x 3": boxes(711, patch_size=6, pool_grid=3),
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


def standardized(train, *others, root):
    """Features in place, less the training mean, over the training deviation."""
    parts = [train, *others]
    if root:
        parts = [np.sign(part) * np.sqrt(np.abs(part)) for part in parts]
    mean, scale = parts[0].mean(axis=0), parts[0].std(axis=0)
    scale[scale == 0] = 1
    for part in parts:
        part -= mean
        part /= scale
    return parts


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


def choose_penalty(F, y, kind, root, tol, *, first=-4, validated=0.4):
    """The best penalty on a validation part."""
    F, F_val, y, y_val = train_test_split(F, y, test_size=validated, stratify=y, random_state=0)
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
    few = np.random.default_rng(0).permutation(len(F))[:N_FEW]
    kinds = ["LR", "ridge"] if len(few) == len(F) else ["LR"]
    best = max(
        choose_penalty(F[few], y[few], kind, root, tol) for root in (False, True) for kind in kinds
    )
    if len(few) < len(F):
        best = choose_penalty(F, y, "LR", best.root, tol, first=best.exponent, validated=0.2)
    return best


def climb(accuracy, best):
    """Best accuracy and exponent, walking uphill from `best`."""
    known = {best: accuracy(best)}
    for step in (1, -1):
        while -12 < best + step < 12:
            if best + step not in known:
                known[best + step] = accuracy(best + step)
            if known[best + step] <= known[best]:
                break
            best += step
    return known[best], best


def measure(features, X, X_test, y, y_test, *, tol=1e-4, times=False):
    """One row: number of features, accuracy, seconds to fit, images per second, classifier."""
    started = time.perf_counter()
    features.fit(X)
    fit_seconds = time.perf_counter() - started
    started = time.perf_counter()
    F_test = features.transform(X_test)
    rate = len(X_test) / (time.perf_counter() - started)
    if times:
        return F_test.shape[1], np.nan, fit_seconds, rate, ""
    F = features.transform(X)
    choice = choose_classifier(F, y, tol)
    F, F_test = standardized(F, F_test, root=choice.root)
    model = classifier(choice.kind, choice.exponent, len(F), tol).fit(F, y)
    return F.shape[1], model.score(F_test, y_test), fit_seconds, rate, str(choice)


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
    header = f"{'features':>8}{'accuracy':>10}{'fit s':>8}{'images/s':>10}  classifier"
    for name in args.settings:
        data, n_train, rows = known[name]
        split = load(data, args.data, n_train)
        print(f"\n{name} ({len(split[0])} training images)\n{'':30}{header}", flush=True)
        for row, features in rows.items():
            if args.rows and not any(part in row for part in args.rows):
                continue
            n, accuracy, seconds, rate, chosen = measure(
                features, *split, tol=args.tol, times=args.times
            )
            print(
                f"{row:30}{n:8}{accuracy:10.4f}{seconds:8.1f}{rate:10.0f}  {chosen}",
                flush=True,
            )


if __name__ == "__main__":
    main()
