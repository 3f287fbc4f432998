"""A pyramid of scales: columns of the same images at half and at a quarter of their size.

    python tests/benchmarks/pyramid.py --data FOLDER [--draws 4]

FOLDER holds fashion.npz and cifar10.npz. A draw takes 5000 training images, of which 20 of each
class or all have labels. The last 10000 training images validate: no test image is looked at. All
rows have 1024 columns. The classifier is that of `few_labels.py`.
"""

import argparse

import numpy as np
from accuracy import load
from few_labels import draw_labelled, linear_accuracy
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer
from timing import machine

from sklearn_calm import ConvGMMFeatures

N_TRAIN, N_VALIDATED, N_LABELS = 5000, 10_000, 20
SETS = {"cifar10": "CIFAR-10 (JPEG)", "fashion": "Fashion-MNIST"}
# Kernels, times that the images are halved, and dilation of the parts of each row.
ROWS = {
    "64": [(64, 0, 1)],
    "32, 32 at half": [(32, 0, 1), (32, 1, 1)],
    "48, 16 at half": [(48, 0, 1), (16, 1, 1)],
    "32, 16 at half, 16 at quarter": [(32, 0, 1), (16, 1, 1), (16, 2, 1)],
    "32, 32 of dilation=2": [(32, 0, 1), (32, 0, 2)],
}


def halved(images, times):
    """Images of which each 2 x 2 pixels become their mean, so many times."""
    images = images.astype(np.float32)
    for _ in range(times):
        n, height, width = images.shape[:3]
        images = images.reshape(n, height // 2, 2, width // 2, 2, -1).mean(axis=(2, 4))
    return images


def pyramid(parts, seed):
    """The union of a layer for each part."""
    return make_union(
        *(
            make_pipeline(
                FunctionTransformer(halved, kw_args={"times": times}),
                ConvGMMFeatures(n_kernels, dilation=dilation, random_state=seed),
            )
            for n_kernels, times, dilation in parts
        )
    )


def accuracies(parts, X, y, seed):
    """Percentage of validation images classified correctly, with few labels and with all."""
    X_val, y_val = X[-N_VALIDATED:], y[-N_VALIDATED:]
    drawn = np.random.default_rng(seed).permutation(len(X) - N_VALIDATED)[:N_TRAIN]
    X, y = X[drawn], y[drawn]
    features = pyramid(parts, seed).fit(X)
    F, F_val = features.transform(X), features.transform(X_val)
    return [
        100 * linear_accuracy(F[chosen], y[chosen], F_val, y_val)
        for chosen in (draw_labelled(y, N_LABELS, seed), slice(None))
    ]


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--draws", type=int, default=4)
    args = parser.parse_args()
    print(machine())
    for name, title in SETS.items():
        X, _, y, _ = load(name, args.data, None)
        print(f"\n{title + ', labels of each class':38}{N_LABELS:>14}{'all':>14}")
        for row, parts in ROWS.items():
            found = np.array([accuracies(parts, X, y, seed) for seed in range(args.draws)])
            columns = zip(found.mean(axis=0), found.std(axis=0, ddof=1), strict=True)
            cells = "".join(f"{mean:8.1f} ± {spread:3.1f}" for mean, spread in columns)
            print(f"  {row:36}{cells}", flush=True)


if __name__ == "__main__":
    main()
