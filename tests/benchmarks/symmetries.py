"""Tied kernels beside plain ones and beside augmentation by the same transformations.

    pip install scikit-image
    python tests/benchmarks/symmetries.py --data FOLDER [--draws 5]

FOLDER holds cifar10.npz. Photographs: few labels of CIFAR-10, kernels that are tied to their mirror
images. Textures: crops of brick, grass and gravel of scikit-image, upright for training, and turned
by a random number of quarter turns for the test. The classifier is ridge regression on the scaled
square roots of the features, whose penalty is found by leave-one-out.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from timing import machine

from sklearn_calm import ConvGMMFeatures

LABELS = (10, 25, 100)
PHOTOGRAPHS = {"patch_size": 6, "reg_covar": 0.3, "random_state": 0}
TEXTURES = {"patch_size": 7, "pool_grid": 1, "padding": 0, "random_state": 0}


def classifier():
    return make_pipeline(
        FunctionTransformer(np.sqrt),
        StandardScaler(),
        RidgeClassifierCV(np.logspace(-1, 6, 22)),
    )


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
    print(f"\n{'CIFAR-10 (JPEG), labels of each class':46}{'features':>9}", end="")
    print("".join(f"{n:>14}" for n in LABELS))
    for name, (layer, augmented) in layers.items():
        layer.fit(X[:10_000])
        test, rows = layer.transform(X_test), []
        other = layer.transform(mirrored(X_test)) if augmented else None
        for n in LABELS:
            found = []
            for draw in range(args.draws):
                chosen = few_rows(y, n, np.random.default_rng(draw))
                train, labels = layer.transform(X[chosen]), y[chosen]
                if augmented:
                    train = np.concatenate([train, layer.transform(mirrored(X[chosen]))])
                    labels = np.tile(labels, 2)
                model = classifier().fit(train, labels)
                scores = model.decision_function(test)
                if augmented:
                    scores += model.decision_function(other)
                found.append(100 * np.mean(scores.argmax(axis=1) == y_test))
            rows.append(f"{np.mean(found):8.1f} ± {np.std(found):3.1f}")
        print(f"  {name:44}{test.shape[1]:9}" + "".join(rows), flush=True)


def crops(image, columns, n, size, rng):
    """Crops of a picture, within a range of its columns."""
    tops = rng.integers(image.shape[0] - size + 1, size=n)
    lefts = rng.integers(columns[0], columns[1] - size + 1, size=n)
    return np.stack([image[t : t + size, x : x + size] for t, x in zip(tops, lefts, strict=True)])


def textures(args, size=24, n_test=400):
    from skimage import data

    pictures = [data.brick(), data.grass(), data.gravel()]
    layers = {
        "plain, 16 kernels": (ConvGMMFeatures(16, **TEXTURES), False),
        "plain, 64 kernels": (ConvGMMFeatures(64, **TEXTURES), False),
        "plain, 64 kernels, turned images added": (ConvGMMFeatures(64, **TEXTURES), True),
        "rotation, 16 kernels": (ConvGMMFeatures(16, symmetry="rotation", **TEXTURES), False),
        "rotation, 64 kernels": (ConvGMMFeatures(64, symmetry="rotation", **TEXTURES), False),
    }
    print(f"\n{'textures, labels of each class':46}{'features':>9}", end="")
    print("".join(f"{n:>14}" for n in LABELS))
    for name, (layer, augmented) in layers.items():
        rows = []
        for n in LABELS:
            found = []
            for draw in range(args.draws):
                rng = np.random.default_rng(draw)
                X = np.concatenate([crops(p, (0, 256), n, size, rng) for p in pictures])
                X_test = np.concatenate([crops(p, (256, 512), n_test, size, rng) for p in pictures])
                turns = rng.integers(4, size=len(X_test))
                X_test = np.stack([np.rot90(x, k) for x, k in zip(X_test, turns, strict=True)])
                y, y_test = np.repeat(range(3), n), np.repeat(range(3), n_test)
                if augmented:
                    X, y = np.concatenate(all_turns(X)), np.tile(y, 4)
                model = classifier().fit(layer.fit_transform(X), y)
                found.append(100 * model.score(layer.transform(X_test), y_test))
            rows.append(f"{np.mean(found):8.1f} ± {np.std(found):3.1f}")
        n_features = layer.get_feature_names_out().size
        print(f"  {name:44}{n_features:9}" + "".join(rows), flush=True)


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--draws", type=int, default=5)
    args = parser.parse_args()
    print(machine())
    textures(args)
    photographs(args)


if __name__ == "__main__":
    main()
