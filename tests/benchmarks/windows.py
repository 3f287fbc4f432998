"""Windows, grids, polarity and padding: accuracy on validation images, from which defaults follow.

    python tests/benchmarks/windows.py --data FOLDER [--sets NAME ...]

FOLDER holds mnist.npz, fashion.npz and cifar10.npz. No test image is looked at. Of each set 4000
training images are drawn, and its last 4000 training images validate; of digits, 600 images of the
training half of `accuracy.py`, and the other 298, in six draws. Ridge regression on standardised
columns, with their square root taken first or not, and its penalty: for each row what does best on
the validation images, so that figures are a little high, of all rows alike.
"""

import argparse
from pathlib import Path

import numpy as np
from accuracy import load
from linear import standardized
from scipy.linalg import eigh
from timing import machine

from sklearn_calm import ConvGMMFeatures

SETS = ("digits", "mnist", "fashion", "cifar10")
N_TRAIN = N_VALIDATED = 4000
PENALTIES = np.logspace(-3.5, 0.5, 9)
# Options of the kernels, without padding unless they name one; grids and widths of the windows,
# None for boxes.
ROWS = [
    ({}, [(4, None), (4, 0.4), (4, 0.5), (4, 0.6), (4, 0.7), (4, 0.9)]),
    ({"n_components": 41}, [(5, 0.5), (5, 0.7), (5, 0.9)]),
    ({"n_components": 114}, [(3, None), (3, 0.4), (3, 0.5), (3, 0.6)]),
    ({"n_components": 32, "polarity": "both"}, [(4, 0.5), (4, 0.7)]),
    ({"polarity": "both"}, [(3, 0.5), (3, 0.6), (4, 0.6)]),
    ({"padding": "auto"}, [(4, None), (4, 0.6)]),
    ({"padding": "auto", "polarity": "both"}, [(4, 0.6)]),
    ({"padding": 2}, [(4, 0.5), (4, 0.6)]),
    ({"padding": 2, "reg_covar": 0.3}, [(4, 0.5), (4, 0.6)]),
]


def draw(name, folder, seed):
    """Images and labels to fit to, images and labels to validate on."""
    rng = np.random.default_rng(seed)
    if name == "digits":
        X, _, y, _ = load(name, None, 898)
        order = rng.permutation(len(X))
        train, validated = order[:600], order[600:]
    else:
        with np.load(Path(folder) / f"{name}.npz") as parts:
            X, y = parts["X_train"], parts["y_train"]
        train = rng.permutation(len(X) - 2 * N_VALIDATED)[:N_TRAIN]
        validated = slice(-N_VALIDATED, None)
    return X[train], y[train], X[validated], y[validated]


def ridge_accuracy(F, y, F_val, y_val):
    """Accuracy on validation images with the penalty that does best on them."""
    targets = np.where(y[:, None] == np.arange(10), 1, -1).astype(F.dtype)
    variances, axes = eigh(F.T @ F, driver="evd")
    moments, F_val = axes.T @ (F.T @ targets), F_val @ axes
    return max(
        np.mean((F_val @ (moments / scale[:, None])).argmax(axis=1) == y_val)
        for scale in (np.maximum(variances, 0) + penalty * len(F) for penalty in PENALTIES)
    )


def accuracies(features, windows, split):
    """Accuracy of each of the windows, from one fit; (windows, without and with root)."""
    X, y, X_val, y_val = split
    features.fit(X)
    for grid, width in windows:
        options = (
            {"pool_window": "gaussian", "pool_width": width} if width else {"pool_window": "box"}
        )
        features.set_params(pool_grid=grid, **options)
        parts = features.transform(X), features.transform(X_val)
        yield [
            ridge_accuracy(F, y, F_val, y_val)
            for F, F_val in (
                standardized(*(part.copy() for part in parts), root=root) for root in (False, True)
            )
        ]


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    args = parser.parse_args()
    print(machine())
    for name in args.sets:
        print(f"\n{name:56}without root, with")
        for options, windows in ROWS:
            found = []
            for seed in range(6 if name == "digits" else 1):
                features = ConvGMMFeatures(padding=0, random_state=seed).set_params(**options)
                found.append(list(accuracies(features, windows, draw(name, args.data, seed))))
            for (grid, width), (plain, root) in zip(windows, np.mean(found, axis=0), strict=True):
                row = f"{options or ''} {grid} x {grid}, {f'width {width}' if width else 'boxes'}"
                print(f"{row:60}{100 * plain:8.2f}{100 * root:8.2f}", flush=True)


if __name__ == "__main__":
    main()
