"""Tied kernels beside plain ones and beside augmentation by the same transformations.

    pip install scikit-image
    python tests/benchmarks/symmetries.py --data FOLDER [--draws 5]

FOLDER holds cifar10.npz. Photographs: few labels of CIFAR-10, kernels that are tied to their mirror
images. Textures: crops of brick, grass and gravel of scikit-image, upright for training, and turned
by a random number of quarter turns for the test. The classifier is ridge regression on the scaled
square roots of the features. Its penalty is found by leave-one-out; where transformed copies of the
images are added, by five folds that keep an image and its copies together.

Pixels: nuclei of a stained tissue, a colour picture of scikit-image. The truth is the blue stain of
each pixel, which colours tell; the features see the grey picture alone. Kernels are learned from
the left half, pixels chosen there at random are the training set, and the right half is the test.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from scipy.linalg import LinAlgWarning
from sklearn.linear_model import RidgeClassifierCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from timing import machine

from sklearn_calm import ConvGMMFeatures

LABELS = (10, 25, 100)
PHOTOGRAPHS = {"patch_size": 6, "reg_covar": 0.3, "random_state": 0}
TEXTURES = {"patch_size": 7, "pool_grid": 1, "padding": 0, "random_state": 0}


PIXELS = {"patch_size": 7, "padding": "same", "random_state": 0}
WIDTHS, N_PIXELS = (1, 4), (30, 100, 1000)


def classifier(root=True, folds=None):
    return make_pipeline(
        FunctionTransformer(np.sqrt if root else None),
        StandardScaler(),
        RidgeClassifierCV(np.logspace(-1, 6, 22), cv=folds),
    )


def folds_of_images(X, y, n_copies):
    """Five folds of images whose copies follow one another, n_copies blocks of all images."""
    images = np.tile(np.arange(len(y) // n_copies), n_copies)
    return list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(X, y, images))


def print_head(title, numbers):
    print(f"\n{title:46}{'features':>9}" + "".join(f"{n:>14}" for n in numbers))


def print_row(name, n_features, cells):
    """Mean and deviation of the percentages of each cell."""
    cells = "".join(f"{np.mean(found):8.1f} ± {np.std(found, ddof=1):3.1f}" for found in cells)
    print(f"  {name:44}{n_features:9}{cells}", flush=True)


def mirrored(X):
    return X[:, :, ::-1]


def all_turns(X):
    return [np.rot90(X, turns, axes=(1, 2)) for turns in range(4)]


def few_rows(y, n, rng):
    """Rows of n images of each class."""
    return np.concatenate(
        [rng.choice(np.flatnonzero(y == k), n, replace=False) for k in np.unique(y)]
    )


def photographs(args):
    with np.load(Path(args.data) / "cifar10.npz") as parts:
        X, y, X_test, y_test = (parts[name] for name in ("X_train", "y_train", "X_test", "y_test"))
    layers = {
        "plain, 55 kernels": (ConvGMMFeatures(55, **PHOTOGRAPHS), False),
        "plain, 110 kernels": (ConvGMMFeatures(110, **PHOTOGRAPHS), False),
        "plain, 110 kernels, mirror images added": (ConvGMMFeatures(110, **PHOTOGRAPHS), True),
        "mirror, 55 kernels": (ConvGMMFeatures(55, symmetry="mirror", **PHOTOGRAPHS), False),
        "mirror, 110 kernels": (ConvGMMFeatures(110, symmetry="mirror", **PHOTOGRAPHS), False),
    }
    print_head("CIFAR-10 (JPEG), labels of each class", LABELS)
    for name, (layer, augmented) in layers.items():
        layer.fit(X[:10_000])
        test, cells = layer.transform(X_test), []
        other = layer.transform(mirrored(X_test)) if augmented else None
        for n in LABELS:
            found = []
            for draw in range(args.draws):
                chosen = few_rows(y, n, np.random.default_rng(draw))
                train, labels = layer.transform(X[chosen]), y[chosen]
                folds = None
                if augmented:
                    train = np.concatenate([train, layer.transform(mirrored(X[chosen]))])
                    labels = np.tile(labels, 2)
                    folds = folds_of_images(train, labels, 2)
                model = classifier(folds=folds).fit(train, labels)
                scores = model.decision_function(test)
                if augmented:
                    scores += model.decision_function(other)
                found.append(100 * np.mean(scores.argmax(axis=1) == y_test))
            cells.append(found)
        print_row(name, test.shape[1], cells)


def crops(image, columns, n, size, rng):
    """Crops of a picture, within a range of its columns."""
    tops = rng.integers(image.shape[0] - size + 1, size=n)
    lefts = rng.integers(columns[0], columns[1] - size + 1, size=n)
    return np.stack([image[t : t + size, x : x + size] for t, x in zip(tops, lefts, strict=True)])


def textures(args, size=24, n_test=400):
    from skimage import data

    pictures = [data.brick(), data.grass(), data.gravel()]
    tied = {"symmetry": "rotation", **TEXTURES}
    layers = {
        "plain, 16 kernels": (ConvGMMFeatures(16, **TEXTURES), False, None),
        "plain, 64 kernels": (ConvGMMFeatures(64, **TEXTURES), False, None),
        "plain, 64 kernels, turned images added": (ConvGMMFeatures(64, **TEXTURES), True, None),
        "rotation, 16 kernels": (ConvGMMFeatures(16, **tied), False, None),
        "rotation, 64 kernels": (ConvGMMFeatures(64, **tied), False, None),
        "rotation, 64 kernels, largest of the turns": (
            ConvGMMFeatures(64, pool_symmetry=None, **tied),
            False,
            lambda features: features.reshape(len(features), 64, 4).max(axis=2),
        ),
    }
    print_head("textures, labels of each class", LABELS)
    for name, (layer, augmented, reduce) in layers.items():
        cells = []
        for n in LABELS:
            found = []
            for draw in range(args.draws):
                rng = np.random.default_rng(draw)
                X = np.concatenate([crops(p, (0, 256), n, size, rng) for p in pictures])
                X_test = np.concatenate([crops(p, (256, 512), n_test, size, rng) for p in pictures])
                turns = rng.integers(4, size=len(X_test))
                X_test = np.stack([np.rot90(x, k) for x, k in zip(X_test, turns, strict=True)])
                y, y_test = np.repeat(range(3), n), np.repeat(range(3), n_test)
                folds = None
                if augmented:
                    X, y = np.concatenate(all_turns(X)), np.tile(y, 4)
                    folds = folds_of_images(X, y, 4)
                train, test = layer.fit_transform(X), layer.transform(X_test)
                if reduce is not None:
                    train, test = reduce(train), reduce(test)
                model = classifier(folds=folds).fit(train, y)
                found.append(100 * model.score(test, y_test))
            cells.append(found)
        print_row(name, test.shape[1], cells)


def nuclei():
    """A grey picture of tissue, and whether each pixel is blue by Otsu's threshold."""
    from scipy.ndimage import gaussian_filter
    from skimage import color, data, filters

    picture = data.immunohistochemistry()
    blue = gaussian_filter(color.rgb2hed(picture)[..., 0], 1)
    return color.rgb2gray(picture).astype(np.float32), blue > filters.threshold_otsu(blue)


def square_symmetries(image):
    """An image under the eight symmetries of the square, and how to undo each on its maps."""
    for mirror in (False, True):
        for turns in range(4):
            turned = np.rot90(image[:, ::-1] if mirror else image, turns)

            def undo(maps, mirror=mirror, turns=turns):
                maps = np.rot90(maps, -turns)
                return maps[:, ::-1] if mirror else maps

            yield turned, undo


def pixel_features(layer, image):
    features = layer.transform_pixels(image[None], widths=WIDTHS)
    return features.reshape(*image.shape, -1)


def pixels(args):
    from skimage.feature import multiscale_basic_features

    image, truth = nuclei()
    half = image.shape[1] // 2
    square = ("mirror", "rotation")
    layers = {"multiscale_basic_features": (None, False)}
    for options in ({}, {"normalize": None, "whiten": False}):
        raw = ", raw" if options else ""
        given = {**PIXELS, **options}
        layers |= {
            f"plain, 16 kernels{raw}": (ConvGMMFeatures(16, **given), False),
            f"plain, 64 kernels{raw}": (ConvGMMFeatures(64, **given), False),
            f"plain, 16 kernels{raw}, turned images added": (ConvGMMFeatures(16, **given), True),
            f"tied, 16 kernels{raw}": (ConvGMMFeatures(16, symmetry=square, **given), False),
            f"tied, 32 kernels{raw}": (ConvGMMFeatures(32, symmetry=square, **given), False),
        }
    print_head("nuclei, pixels for training", N_PIXELS)
    for name, (layer, augmented) in layers.items():
        if layer is None:
            copies = [multiscale_basic_features(image)]
        else:
            layer.fit(image[None, :, :half])
            turned = square_symmetries(image) if augmented else [(image, np.asarray)]
            copies = [undo(pixel_features(layer, other)) for other, undo in turned]
        test = copies[0][::3, half::3].reshape(-1, copies[0].shape[2])
        cells = []
        for n in N_PIXELS:
            found = []
            for draw in range(args.draws):
                rng = np.random.default_rng(draw)
                y, x = rng.integers(len(image), size=n), rng.integers(half, size=n)
                train = np.concatenate([copy[y, x] for copy in copies])
                labels = np.tile(truth[y, x], len(copies))
                folds = folds_of_images(train, labels, len(copies)) if augmented else None
                model = classifier(root=False, folds=folds).fit(train, labels)
                scores = model.decision_function(test)
                found.append(100 * roc_auc_score(truth[::3, half::3].ravel(), scores))
            cells.append(found)
        print_row(name, test.shape[1], cells)


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--draws", type=int, default=5)
    args = parser.parse_args()
    # The smallest penalties of a search say that they are small.
    warnings.simplefilter("ignore", LinAlgWarning)
    print(machine())
    textures(args)
    pixels(args)
    photographs(args)


if __name__ == "__main__":
    main()
