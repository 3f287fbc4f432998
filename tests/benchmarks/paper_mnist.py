"""The paper's experiment on MNIST: 60000 images, 64 kernels of 20 x 20, 15 passes.

    python tests/benchmarks/paper_mnist.py --data FOLDER [--out docs/images]

FOLDER holds mnist.npz (X_train, y_train, X_test, y_test). Prints the objective of each pass without
its constants, as the author's code does: the mean over images of log sum exp (theta . x - |theta|^2
/ 2), and the test accuracy of logistic regression on the features, as is and scaled. Writes the
pictures of the kernels and of the objective. The author's code reaches 30.29, and 0.9405 scaled.
"""

import argparse
import math
import time
from pathlib import Path

import matplotlib
import numpy as np
from peers import PAPER
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay, LowerBoundDisplay


def without_constants(lower_bounds, images, n_positions, padded_size):
    """log sum exp (theta . x - |theta|^2 / 2) per image, from the log-likelihood."""
    energy = np.mean([np.square(image, dtype=np.float64).sum() for image in images])
    noise = -energy / 2 - padded_size / 2 * math.log(2 * math.pi)
    prior = -math.log(PAPER["n_components"] * n_positions)
    return [bound - noise - prior for bound in lower_bounds]


def main():
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--out", default="docs/images", metavar="FOLDER")
    parser.add_argument("--n-train", type=int, default=60000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    matplotlib.use("Agg")

    with np.load(Path(args.data) / "mnist.npz") as parts:
        X_train, X_test = (parts[f"X_{split}"] / np.float32(255) for split in ("train", "test"))
        y_train, y_test = parts["y_train"], parts["y_test"]
    X_train, y_train = X_train[: args.n_train], y_train[: args.n_train]

    features = ConvGMMFeatures(**PAPER, max_iter=15, tol=0, random_state=args.seed, verbose=1)
    started = time.perf_counter()
    features.fit(X_train)
    seconds = time.perf_counter() - started
    print(f"fit: {seconds:.1f} s, {features.n_reseeded_} kernels re-seeded")
    curve = without_constants(features.lower_bounds_, X_train, 13 * 13, 32 * 32)
    print("objective per image:", " ".join(f"{value:.2f}" for value in curve))

    F_train, F_test = features.transform(X_train), features.transform(X_test)
    as_is = LogisticRegression(max_iter=500).fit(F_train, y_train)
    print(f"logistic regression as is: {as_is.score(F_test, y_test):.4f}")
    scaled = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    print(f"scaled: {scaled.fit(F_train, y_train).score(F_test, y_test):.4f}")

    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    kernels = KernelDisplay.from_estimator(features)
    kernels.figure_.savefig(folder / "paper_kernels.png", dpi=100)
    objective = LowerBoundDisplay(curve).plot()
    objective.ax_.set_ylabel("objective per image (nats)")
    objective.figure_.savefig(folder / "paper_objective.png", dpi=100)


if __name__ == "__main__":
    main()
