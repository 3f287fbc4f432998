"""Learn kernels from images without labels, and compare their features with raw pixels.

    python docs/examples/demo.py                                   the digits of scikit-learn
    python docs/examples/demo.py --dataset fashion --data FOLDER   FOLDER/fashion.npz
    python docs/examples/demo.py --dataset mnist --openml          fetched from OpenML

A .npz file holds X_train, y_train, X_test and y_test: images (n, height, width[, channels]) and
labels; tests/benchmarks/prepare_data.py writes such files. The demonstration prints the test
accuracy of logistic regression on raw pixels and on features, and writes two pictures: the kernels,
and the objective over the passes.
"""

import argparse
import time
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.datasets import fetch_openml, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay, LowerBoundDisplay

OPENML_NAMES = {"mnist": "mnist_784", "fashion": "Fashion-MNIST", "cifar10": "CIFAR_10"}


def load(dataset, folder, openml):
    """X_train, X_test, y_train, y_test: images as they come, of any integer or float type."""
    if dataset == "digits":
        digits = load_digits()
        return train_test_split(
            digits.images, digits.target, test_size=0.5, stratify=digits.target, random_state=0
        )
    if openml:
        X, y = fetch_openml(OPENML_NAMES[dataset], return_X_y=True, as_frame=False)
        if dataset == "cifar10":
            X = X.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return train_test_split(X, y, test_size=10000, stratify=y, random_state=0)
    file = Path(folder) / f"{dataset}.npz"
    if not file.exists():
        raise SystemExit(f"There is no {file}. Give its folder with --data, or use --openml.")
    with np.load(file) as parts:
        return [parts[name] for name in ("X_train", "X_test", "y_train", "y_test")]


def accuracy(X_train, X_test, y_train, y_test):
    """Test accuracy of logistic regression, and its C, chosen within the training part."""
    splits = StratifiedShuffleSplit(5 if len(X_train) < 2000 else 1, test_size=0.2, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    grid = {"logisticregression__C": [0.3, 0.03, 0.003]}
    search = GridSearchCV(model, grid, cv=splits).fit(X_train, y_train)
    return search.score(X_test, y_test), search.best_params_["logisticregression__C"]


def main():
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dataset", choices=["digits", *OPENML_NAMES], default="digits")
    parser.add_argument("--data", default=".data", metavar="FOLDER", help="holds the .npz files")
    parser.add_argument("--openml", action="store_true", help="fetch the data from OpenML")
    parser.add_argument("--n-train", type=int, default=10000, help="images to train on, at most")
    parser.add_argument("--n-components", type=int, default=64)
    parser.add_argument("--patch-size", type=int, default=5)
    parser.add_argument("--n-columns", type=int, help="kernels in a row of their picture")
    parser.add_argument("--out", default=".demo", metavar="FOLDER", help="where the pictures go")
    args = parser.parse_args()
    matplotlib.use("Agg")

    X_train, X_test, y_train, y_test = load(args.dataset, args.data, args.openml)
    X_train, y_train = X_train[: args.n_train], y_train[: args.n_train]
    print(f"{args.dataset}: {len(X_train)} training images of shape {X_train.shape[1:]}")

    pixels = [X.reshape(len(X), -1).astype(np.float32) for X in (X_train, X_test)]
    score, C = accuracy(*pixels, y_train, y_test)
    print(f"raw pixels, logistic regression: test accuracy {score:.4f} (C={C})")

    features = ConvGMMFeatures(
        args.n_components, patch_size=args.patch_size, random_state=0, verbose=1
    )
    started = time.perf_counter()
    columns = features.fit_transform(X_train), features.transform(X_test)
    seconds = time.perf_counter() - started
    score, C = accuracy(*columns, y_train, y_test)
    print(f"ConvGMMFeatures, logistic regression: test accuracy {score:.4f} (C={C})")
    print(f"{columns[0].shape[1]} features, learned and computed in {seconds:.1f} s")

    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "kernels": KernelDisplay.from_estimator(features, n_columns=args.n_columns),
        "objective": LowerBoundDisplay.from_estimator(features),
    }
    for name, display in pictures.items():
        path = folder / f"{args.dataset}_{name}.png"
        display.figure_.savefig(path, dpi=150)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
