"""Seconds of one EM pass on MNIST: ours, dense convolutions in torch, and the bare matrix product.

    python tests/benchmarks/em_pass.py --data FOLDER [--n-images 60000] [--repeat 5]

FOLDER holds mnist.npz. 64 kernels of 20 x 20, padding 2, all cores, once at the paper's literal
setting (noise variance 1, uniform weights) and once with both learned. Every contender goes on from
the same kernels, those after five passes, and takes its turn in each repetition; the table gives
medians, the spread and the ratio to ours. "product" is the product of the E-step alone, patches
already in place: no E-step by products can be faster. Needs torch.
"""

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from dense_torch import DenseTorchEM, GroupedTorchEM
from peers import PAPER
from sklearn.utils import check_random_state

from sklearn_calm import ConvGMMFeatures, __version__
from sklearn_calm._execution import Workers
from sklearn_calm._images import Images
from sklearn_calm._scratch import Scratch
from sklearn_calm._training import Learning, run_e_step, update


def ours(X, features, learned):
    """A function that makes one pass."""
    images = Images(X, features._model.geometry)
    noise = "auto" if learned else 1.0
    batch_size = features._batch_size(images, features.n_components)
    learning = Learning(learned, noise, batch_size, Workers(), check_random_state(0), Scratch())
    parameters = features._parameters(images.geometry)

    def one_pass():
        statistics = run_e_step(images, parameters, features._model, learning, energy=1e6)
        update(statistics, parameters, features._model, learning)

    return one_pass


def dense(kind, X, features, learned):
    """The same by dense convolutions in torch."""
    model = kind(
        features.means_[..., 0],
        padding=PAPER["padding"],
        noise_variance=features.noise_variance_,
        weights=features.weights_ / features.weights_.sum(dtype=np.float64),
    )
    start = model.kernels.clone()

    def one_pass():
        model.kernels = start.clone()
        model.step(X, energy=1e6)

    return one_pass


def product(n_images, features):
    """The product of the E-step: patches of 16 images after the other, with all their kernels."""
    n_positions = features._model.geometry.n_positions
    rng = np.random.default_rng(0)
    patches = rng.random((16 * n_positions, 400), dtype=np.float32)
    kernels = features.conv_weight_.reshape(64, 400).astype(np.float32)

    def batch(_):
        return np.matmul(patches, kernels.T)[0, 0]

    return lambda: sum(Workers().map(batch, range(n_images // 16)))


def compare(contenders, repeat):
    """Seconds of each contender, (repeat,) each, taken in turns."""
    seconds = {name: [] for name in contenders}
    for _ in range(repeat):
        for name, one_pass in contenders.items():
            started = time.perf_counter()
            one_pass()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--n-images", type=int, default=60000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()

    with np.load(Path(args.data) / "mnist.npz") as parts:
        X = parts["X_train"][: args.n_images] / np.float32(255)
    print(
        f"sklearn_calm {__version__}, numpy {np.__version__}, torch {torch.__version__}, "
        f"{os.cpu_count()} cores, {platform.machine()}; {len(X)} images"
    )
    for learned in (False, True):
        options = {"learn_weights": True, "noise_variance": "auto"} if learned else {}
        features = ConvGMMFeatures(**{**PAPER, **options}, max_iter=5, tol=0, random_state=0)
        features.fit(X[:6000])
        contenders = {
            "ours": ours(X, features, learned),
            "torch, dense, images as channels": dense(DenseTorchEM, X, features, learned),
            "torch, dense, grouped": dense(GroupedTorchEM, X, features, learned),
            "product": product(len(X), features),
        }
        print(
            "\nnoise variance and weights learned" if learned else "\nthe paper's literal setting"
        )
        print(f"{'':34}{'median s':>9}{'min s':>8}{'max s':>8}{'/ ours':>8}")
        seconds = compare(contenders, args.repeat)
        for name, values in seconds.items():
            median, ratio = np.median(values), np.median(values) / np.median(seconds["ours"])
            print(f"{name:34}{median:9.2f}{min(values):8.2f}{max(values):8.2f}{ratio:8.2f}")


if __name__ == "__main__":
    main()
