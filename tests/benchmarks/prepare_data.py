"""Fetch the data sets of the benchmarks from OpenML and write the files that they read.

    python tests/benchmarks/prepare_data.py [--data .data] [mnist fashion cifar10]

Needs a network, pandas, and some gigabytes of memory for CIFAR-10. Writes mnist.npz, fashion.npz
and cifar10.npz into the folder, each with X_train, y_train, X_test and y_test: images as uint8 of
shape (n, 28, 28) or (n, 32, 32, 3), and labels from 0 to 9. The images keep the order of OpenML,
and the last 10000 are the test images. Files that exist are kept.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml

# Name on OpenML, shape of an image with its channels first, and number of training images.
DATA_SETS = {
    "mnist": ("mnist_784", (28, 28), 60_000),
    "fashion": ("Fashion-MNIST", (28, 28), 60_000),
    "cifar10": ("CIFAR_10", (3, 32, 32), 50_000),
}


def convert(X, y, shape, n_train):
    """The four arrays of a file, from flat rows whose channels come first."""
    images = np.asarray(X).reshape(-1, *shape)
    low, high = images.min(), images.max()
    if low < 0 or high > 255 or np.any(images % 1):
        raise ValueError(f"Expected pixels in whole numbers from 0 to 255, got {low} to {high}.")
    images = images.astype(np.uint8)
    if len(shape) == 3:
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    labels = np.asarray(y).astype(np.int64)
    return {
        "X_train": images[:n_train],
        "y_train": labels[:n_train],
        "X_test": images[n_train:],
        "y_test": labels[n_train:],
    }


def main():
    """Write the files that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", default=[*DATA_SETS], help="those to write")
    parser.add_argument("--data", default=".data", metavar="FOLDER", help="where the files go")
    args = parser.parse_args()
    if unknown := {*args.names} - {*DATA_SETS}:
        parser.error(f"unknown data sets {sorted(unknown)}; expected some of {[*DATA_SETS]}")
    folder = Path(args.data)
    folder.mkdir(parents=True, exist_ok=True)
    for name in args.names:
        file = folder / f"{name}.npz"
        if file.exists():
            print(f"kept {file}")
            continue
        openml_name, shape, n_train = DATA_SETS[name]
        X, y = fetch_openml(openml_name, version=1, return_X_y=True, as_frame=False, parser="auto")
        np.savez_compressed(file, **convert(X, y, shape, n_train))
        print(f"wrote {file}")


if __name__ == "__main__":
    main()
