"""Accuracy with missing pixels, beside images whose pixels are filled in before.

    python tests/benchmarks/missing.py

Pixels of scikit-learn's digits are missing at random, or behind clouds, from training and test
images alike. Fills: the mean of each pixel (SimpleImputer), the pixels of the nearest images
(KNNImputer), and the nearest observed pixel of the image. The layer and the classifier are the same
in all rows.

    python tests/benchmarks/missing.py --shares-observed [--draws 5]

compares values of min_observed on the training images alone: in each draw, two thirds of them are
learned, and the others are judged.
"""

import argparse

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_calm import ConvGMMFeatures

N_TRAIN = 898
N_DRAWS = 5
SHARES = (0.1, 0.3, 0.5)
SHARES_OBSERVED = (0.04, 0.1, 0.25, 0.5, 0.75)


def hidden(kind, share, shape, rng):
    """Which pixels are missing."""
    noise = rng.standard_normal(shape)
    if kind == "clouds":
        noise = ndimage.gaussian_filter(noise, (0, 1, 1), mode="wrap")
    return noise < np.quantile(noise, share, axis=(1, 2), keepdims=True)


def nearest_filled(images):
    """Each missing pixel is that observed one of its image that is nearest."""
    whole = np.empty_like(images)
    for image, out in zip(images, whole, strict=True):
        _, places = ndimage.distance_transform_edt(np.isnan(image), return_indices=True)
        out[...] = image[tuple(places)]
    return whole


def imputed(imputer):
    """A fill of an imputer of rows, fitted to the training images."""

    def fill(images):
        rows = images.reshape(len(images), -1)
        known = ~np.isnan(rows[:N_TRAIN]).all(axis=0)
        whole = np.zeros_like(rows)
        whole[:, known] = imputer.fit(rows[:N_TRAIN, known]).transform(rows[:, known])
        return whole.reshape(images.shape)

    return fill


FILLS = {
    "missing_values='ignore'": lambda images: images,
    "nearest pixel": nearest_filled,
    "KNNImputer": imputed(KNNImputer()),
    "SimpleImputer": imputed(SimpleImputer()),
}


def accuracy(images, labels, min_observed, n_train=N_TRAIN):
    """Accuracy of ridge regression on roots of features, on the images after the first n_train."""
    features = ConvGMMFeatures(
        32,
        max_iter=10,
        tol=0,
        missing_values="ignore",
        min_observed=min_observed,
        random_state=0,
    )
    F = np.nan_to_num(np.sqrt(features.fit(images[:n_train]).transform(images)))
    classifier = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 4, 11)))
    classifier.fit(F[:n_train], labels[:n_train])
    return 100 * classifier.score(F[n_train:], labels[n_train:])


def compare_shares_observed(images, labels, n_draws):
    """Accuracy by min_observed, and how much better than 0.25 each value is in the same draw."""
    images, labels = images[:N_TRAIN], labels[:N_TRAIN]
    for kind in ("pixels", "clouds"):
        for share in SHARES:
            found = []
            for seed in range(n_draws):
                rng = np.random.default_rng(seed)
                order = rng.permutation(N_TRAIN)
                gaps = hidden(kind, share, images.shape, rng)
                gapped = np.where(gaps, np.float32(np.nan), images)[order]
                n_learned = N_TRAIN * 2 // 3
                rows = gapped, labels[order]
                found.append([accuracy(*rows, s, n_learned) for s in SHARES_OBSERVED])
            gains = np.array(found) - np.array(found)[:, [SHARES_OBSERVED.index(0.25)]]
            for j, observed in enumerate(SHARES_OBSERVED):
                print(
                    f"{kind} {share:.0%}, min_observed={observed}: {np.mean(found, axis=0)[j]:.1f},"
                    f" {gains[:, j].mean():+.1f} ± {gains[:, j].std(ddof=1):.1f}",
                    flush=True,
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fills", nargs="*", default=list(FILLS))
    parser.add_argument("--draws", type=int, default=N_DRAWS)
    parser.add_argument("--min-observed", type=float, default=0.1)
    parser.add_argument("--shares-observed", action="store_true")
    arguments = parser.parse_args()
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    images, labels = digits.images[order].astype(np.float32), digits.target[order]
    if arguments.shares_observed:
        compare_shares_observed(images, labels, arguments.draws)
        return
    print(f"complete: {accuracy(images, labels, arguments.min_observed):.1f}")
    for name in arguments.fills:
        for kind in ("pixels", "clouds"):
            for share in SHARES:
                found = []
                for seed in range(arguments.draws):
                    gaps = hidden(kind, share, images.shape, np.random.default_rng(seed))
                    whole = FILLS[name](np.where(gaps, np.float32(np.nan), images))
                    found.append(accuracy(whole, labels, arguments.min_observed))
                print(f"{name:24} {kind} {share:.0%}: {np.mean(found):.1f}", flush=True)


if __name__ == "__main__":
    main()
