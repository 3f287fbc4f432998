"""A fit and a transform on accelerators, beside NumPy and dense convolutions on the same device.

    pip install -e '.[cupy,torch]'
    python tests/benchmarks/accelerator.py --data FOLDER [--backends torch cupy] [--repeat 3]

FOLDER holds mnist.npz and cifar10.npz. Fits are at the paper's setting (64 kernels of 20 x 20,
padding 2, variance and weights learned; MNIST), five passes; transforms with the defaults, of
CIFAR-10. Images are on the host, and with "there" on the device already. Every contender takes its
turn in each repetition; its last device work is waited for.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from dense_torch import DenseTorchEM
from timing import compare, machine, report

from sklearn_calm import ConvGMMFeatures
from sklearn_calm._arrays.namespace import find_placement, to_numpy
from sklearn_calm._images.reader import home_of

PASSES = 5


def fit(X, kernels, backend="auto"):
    features = ConvGMMFeatures(
        64, patch_size=20, padding=2, assignment="image", normalize=None, whiten=False,
        init_params=kernels, noise_variance="auto", max_iter=PASSES, tol=0, backend=backend,
        random_state=0,
    )  # fmt: skip
    to_numpy(features.fit(X).means_)


def fit_dense(X, kernels):
    model = DenseTorchEM(
        torch.as_tensor(kernels[..., 0], dtype=torch.float32, device=X.device),
        padding=2,
        noise_variance=0.1,
        learn_variance=True,
        learn_weights=True,
        batch_size=48 if X.device.type == "cpu" else 1024,
    )
    to_numpy(model.fit(X, PASSES).kernels)


def transform(X, features, backend):
    # One number comes back, so that what is on a device may stay there.
    float(features.set_params(backend=backend).transform(X)[-1, -1])


def contenders(X, backends, function, *arguments):
    rows = {"numpy": partial(function, X, *arguments, "numpy")}
    for backend in backends:
        rows[backend] = partial(function, X, *arguments, backend)
        there = find_placement(backend, home_of(X)).asarray(X)
        rows[f"{backend}, images there"] = partial(function, there, *arguments, "auto")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backends", nargs="+", default=["torch", "cupy"])
    parser.add_argument("--n-images", type=int, default=60_000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(machine(), f"torch {torch.__version__}", sep=", ")
    if torch.cuda.is_available():
        print(torch.cuda.get_device_name())
    with np.load(options.data / "mnist.npz") as parts:
        X = parts["X_train"][: options.n_images] / np.float32(255)
    kernels = np.random.default_rng(0).normal(0.1, 0.1, size=(64, 20, 20, 1))
    rows = contenders(X, options.backends, fit, kernels)
    for backend in options.backends:
        if backend.startswith("torch"):
            there = find_placement(backend, home_of(X)).asarray(X)
            rows[f"{backend}, dense convolutions"] = partial(fit_dense, there, kernels)
    report(f"Fit, {PASSES} passes, {len(X)} images", compare(rows, options.repeat))
    with np.load(options.data / "cifar10.npz") as parts:
        X = parts["X_train"][: options.n_images]
    features = ConvGMMFeatures(64, random_state=0).fit(X[:5000])
    rows = contenders(X, options.backends, transform, features)
    report(f"Transform, {len(X)} images", compare(rows, options.repeat))


if __name__ == "__main__":
    main()
