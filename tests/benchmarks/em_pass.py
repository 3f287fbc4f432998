"""Seconds of EM on MNIST: ours, dense convolutions in torch, and the bare matrix product.

    python tests/benchmarks/em_pass.py --data FOLDER [--n-images 60000] [--repeat 5]

FOLDER holds mnist.npz. 64 kernels of 20 x 20, padding 2, all cores, once at the paper's literal
setting (noise variance 1, uniform weights) and once with both learned. Every contender goes on from
the same kernels, those after five passes, and takes its turn in each repetition; the table gives
medians, the spread and the ratio to ours. "product" is the product of the E-step alone, patches
already in place: no E-step by products can be faster. With --fifteen, instead, fifteen passes with
both learned, from kernels by k-means++, and how soon a fit as it is done by default, the stepwise
stage and then passes, is where torch is after its fifteen. Needs torch.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from dense_torch import DenseTorchEM, GroupedTorchEM
from peers import PAPER
from sklearn.utils import check_random_state
from timing import compare, machine, report

from sklearn_calm import ConvGMMFeatures
from sklearn_calm._arrays.execution import Execution, Workers
from sklearn_calm._arrays.namespace import find_placement
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._batches import batch_size_of, workers_of
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._images.reader import Images, home_of
from sklearn_calm._mixture.history import History
from sklearn_calm._mixture.starting import prepare, start
from sklearn_calm._mixture.stepwise import stepwise_stage
from sklearn_calm._mixture.training import EM, Options, run
from sklearn_calm._state import parameters_of


def ours(X, features, learned, backend="numpy"):
    """A function that makes one pass."""
    placement = find_placement(backend, home_of(X))
    images = Images(X, features._model.geometry, placement=placement)
    options = Options(learned, "auto" if learned else 1.0)
    batch_size = batch_size_of(features, images, features.n_components)
    execution = Execution(workers_of(features, images), batch_size, Scratch())
    em = EM(images, features._model, options, execution, check_random_state(0))
    em.energy = 1e6
    parameters = parameters_of(features, images.geometry)

    def one_pass():
        em.m_step(em.statistics(parameters)._replace(energy=em.energy), parameters)

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


class Race(History):
    """Stops where the objective is reached."""

    def __init__(self, objective):
        super().__init__(0, 1000, 1)
        self.objective = objective

    @property
    def exhausted(self):
        return self.lower_bounds[-1] >= self.objective


def fifteen(X, repeat):
    """Fifteen passes of each contender, and the race to where torch ends."""
    geometry = PatchGeometry((28, 28, 1), (20, 20), (1, 1), ((2, 2), (2, 2)))
    images = Images(X, geometry)
    rng = check_random_state(0)
    prepared = prepare(images, "image", normalize=None, whiten=False, reg_covar=0, rng=rng)
    begin = start(prepared.sample, prepared.model, 64, "k-means++", "auto", rng)
    execution = Execution(Workers(), 96, Scratch())
    ends = {}

    def new_em():
        return EM(images, prepared.model, Options(True, "auto"), execution, rng)

    def torch_passes():
        dense = DenseTorchEM(
            begin.means.reshape(64, 20, 20).astype(np.float32),
            padding=2,
            noise_variance=begin.noise_variance,
            learn_variance=True,
            learn_weights=True,
        )
        ends["torch"] = dense.fit(X, 15).log_likelihoods[-1]

    def passes():
        ends["ours"] = run(new_em(), begin, History(0, 15, 1)).history.lower_bounds[-1]

    def race():
        em, history = new_em(), Race(ends["torch"])
        run(em, stepwise_stage(em, begin, history), history)
        ends["race"] = history.lower_bounds[-1]
        ends["passes"] = history.n_iter

    seconds = compare(
        {
            "torch, dense, 15 passes": torch_passes,
            "ours, 15 passes": passes,
            "ours, stage and passes, to its objective": race,
        },
        repeat,
    )
    report("noise variance and weights learned", seconds)
    print(
        f"  log-likelihood per image: torch {ends['torch']:.2f}, ours {ends['ours']:.2f}, "
        f"stage and {ends['passes']} passes {ends['race']:.2f}"
    )


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--n-images", type=int, default=60000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--settings", nargs="*", default=["literal", "learned"])
    parser.add_argument("--fifteen", action="store_true")
    args = parser.parse_args()

    with np.load(Path(args.data) / "mnist.npz") as parts:
        X = parts["X_train"][: args.n_images] / np.float32(255)
    print(f"{machine()}, torch {torch.__version__}; {len(X)} images")
    if args.fifteen:
        fifteen(X, args.repeat)
        return
    for learned in [setting == "learned" for setting in args.settings]:
        options = {"learn_weights": True, "noise_variance": "auto"} if learned else {}
        features = ConvGMMFeatures(**{**PAPER, **options}, max_iter=5, tol=0, random_state=0)
        features.fit(X[:6000])
        contenders = {
            "ours": ours(X, features, learned),
            'ours, backend="torch:cpu"': ours(X, features, learned, "torch:cpu"),
            "torch, dense, images as channels": dense(DenseTorchEM, X, features, learned),
            "torch, dense, grouped": dense(GroupedTorchEM, X, features, learned),
            "product": product(len(X), features),
        }
        title = "noise variance and weights learned" if learned else "the paper's literal setting"
        report(title, compare(contenders, args.repeat))


if __name__ == "__main__":
    main()
