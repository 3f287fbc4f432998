"""The experiment of the CALM paper on STL-10, with its layer and ours, on the ten predefined folds.

    python docs/examples/stl10.py FOLDER

FOLDER is stl10_binary of the official archive. Each layer learns its kernels without labels, from
the labelled images, and from the labelled and unlabelled ones. On each fold of 1000 labelled images
a linear classifier is trained, and tested on all test images. The script prints mean and standard
deviation of the accuracy over the folds. Images stay in files. A temporary file holds the images
that one layer learns from; it takes 5.8 GB for all of STL-10, and is deleted in the end.

To run the same on CIFAR-10, use a .npz file of X_train, y_train, X_test and y_test, as
tests/benchmarks/prepare_data.py writes it:

    python docs/examples/stl10.py FOLDER --write-cifar10 cifar10.npz
    python docs/examples/stl10.py FOLDER --side 32
"""

import argparse
import contextlib
import os
import resource
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.datasets import load_stl10

BATCH = 500
CIFAR10 = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n"


def bytes_as_they_are(images):
    return images


def unit_range(images):
    """Pixels in [0, 1]."""
    return (images / np.float32(255)).astype(np.float16)


def sphered(images):
    """Every channel of every image with its rows, as variables, uncorrelated (the paper's code).

    The columns are the samples. So each channel loses the mean of every row, and all its
    singular values become the same.
    """
    channels = np.moveaxis(images, 3, 1).astype(np.float64)
    channels -= channels.mean(axis=3, keepdims=True)
    covariance = channels @ channels.swapaxes(2, 3) / channels.shape[3]
    variances, axes = np.linalg.eigh(covariance + 1e-7 * np.eye(channels.shape[2]))
    scores = axes.swapaxes(2, 3) @ channels / np.sqrt(variances)[..., np.newaxis]
    return np.moveaxis(axes @ scores, 1, 3).astype(np.float16)


def layers(side, patch_size):
    """Name -> what becomes of the bytes, and the layer."""
    paper = ConvGMMFeatures(
        200,
        patch_size=round(15 * side / 96),
        assignment="image",
        normalize=None,
        whiten=False,
        noise_variance=1.0,
        learn_weights=False,
        init_params="random",
        pooling="logsumexp",
        pool_grid=1,
        max_iter=10,
        tol=0,
        random_state=0,
    )
    ours = ConvGMMFeatures(400, patch_size=patch_size, pool_grid=3, random_state=0)
    return {
        "paper": (unit_range, paper),
        "paper-sphered": (sphered, paper),
        "ours": (bytes_as_they_are, ours),
    }


def batches(images):
    return (images[start : start + BATCH] for start in range(0, len(images), BATCH))


@contextlib.contextmanager
def one_array(parts, prepare, folder):
    """All images of the parts, prepared, as one memory map of a temporary file.

    `fit` takes one array, and to join two memory maps would read both into memory.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        for batch in chain.from_iterable(map(batches, parts)):
            prepared = np.ascontiguousarray(prepare(batch))
            prepared.tofile(file)
        file.flush()
        shape = (sum(map(len, parts)), *prepared.shape[1:])
        yield np.memmap(file, prepared.dtype, mode="r", shape=shape)


def features(layer, prepare, images):
    """Features of images, prepared and read batch by batch."""
    return np.concatenate([layer.transform(prepare(batch)) for batch in batches(images)])


def fold_accuracies(F, y, F_test, y_test, folds):
    """Test accuracy of a linear classifier trained on each fold; C is chosen within the fold."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    grid = {"logisticregression__C": [1, 0.1, 0.01, 0.001]}
    splits = StratifiedKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(model, grid, cv=splits)
    return [search.fit(F[fold], y[fold]).score(F_test, y_test) for fold in folds]


def peak_gigabytes():
    """The most memory that the process held at once, pages of mapped files included."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def write_cifar10(npz, folder):
    """CIFAR-10 in the format of STL-10: 500 labelled images a class, the rest unlabelled."""
    with np.load(npz) as parts:
        X, y, X_test, y_test = (parts[k] for k in ("X_train", "y_train", "X_test", "y_test"))
    rng = np.random.default_rng(0)
    order = np.argsort(y, kind="stable").reshape(10, -1)  # 5000 of each class
    labelled, unlabelled = np.sort(order[:, :500], axis=None), np.sort(order[:, 500:], axis=None)
    folder.mkdir(parents=True, exist_ok=True)
    images = {"train": X[labelled], "unlabeled": X[unlabelled], "test": X_test}
    for part, block in images.items():
        block.transpose(0, 3, 2, 1).tofile(folder / f"{part}_X.bin")
    for part, labels in (("train", y[labelled]), ("test", y_test)):
        (labels + 1).astype(np.uint8).tofile(folder / f"{part}_y.bin")
    members = np.argsort(y[labelled], kind="stable").reshape(10, 500)
    folds = [rng.permuted(members, axis=1)[:, :100].ravel() for _ in range(10)]
    np.savetxt(folder / "fold_indices.txt", folds, fmt="%d")
    (folder / "class_names.txt").write_text(CIFAR10)


def main():
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="holds the binary files")
    parser.add_argument("--side", type=int, default=96, help="height and width of an image")
    parser.add_argument("--patch-size", type=int, default=6, help="of our layer")
    parser.add_argument("--rows", nargs="*", choices=list(layers(96, 6)), help="layers to run")
    parser.add_argument("--n-unlabeled", type=int, help="unlabelled images, at most")
    parser.add_argument("--temporary", type=Path, help="for the temporary file; FOLDER if left out")
    parser.add_argument("--write-cifar10", metavar="NPZ", help="write FOLDER from it, and end")
    args = parser.parse_args()
    if args.write_cifar10:
        write_cifar10(args.write_cifar10, args.folder)
        return

    data = load_stl10(args.folder, image_shape=(args.side, args.side, 3))
    unlabelled = data.X_unlabeled[: args.n_unlabeled]
    print(
        f"{len(data.X_train)} labelled, {len(unlabelled)} unlabelled and {len(data.X_test)} test "
        f"images of shape {data.X_train.shape[1:]}, {os.cpu_count()} cores"
    )
    print(f"{'':38}features  accuracy         fit s  all s  peak GB", flush=True)
    known = layers(args.side, args.patch_size)
    for name in args.rows or known:
        prepare, layer = known[name]
        for label, parts in (
            ("labelled", [data.X_train]),
            ("labelled + unlabelled", [data.X_train, unlabelled]),
        ):
            started = time.perf_counter()
            with one_array(parts, prepare, args.temporary or args.folder) as X:
                fit_started = time.perf_counter()
                layer.fit(X)
                fit_seconds = time.perf_counter() - fit_started
            F, F_test = (features(layer, prepare, X) for X in (data.X_train, data.X_test))
            found = fold_accuracies(F, data.y_train, F_test, data.y_test, data.folds)
            seconds = time.perf_counter() - started
            print(
                f"{f'{name}, {label}':38}{F.shape[1]:8}"
                f"  {np.mean(found):.4f} ± {np.std(found, ddof=1):.4f}"
                f"{fit_seconds:7.0f}{seconds:7.0f}{peak_gigabytes():9.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
