"""Test accuracy and seconds on signals, beside MiniRocket.

    pip install -e '.[bench-signals]'
    python tests/benchmarks/signals.py [--seeds 5] [--sets NAME ...]

Data ship with aeon or are made here; nothing is fetched. Seed 0 has the split that a data set came
with, the others a random one of the same sizes, with the same share of each class. All rows end in
`RidgeClassifierCV` on standardised columns. Our settings are the same for all sets; MiniRocket has
its own defaults. Seconds are those of one thread to fit the features and to transform all signals,
and those that Numba compiles.
"""

import argparse
import os
import tempfile
import time
import warnings

import numpy as np
from peers import Flat
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_limits
from timing import machine

from sklearn_calm import ConvGMMFeatures

SHIPPED = ("gunpoint", "italy_power_demand", "arrow_head", "osuleaf", "acsf1", "basic_motions")
# Of several settings the one with the best mean accuracy of 5 folds of the training signals, with
# seed 0 and averaged over the sets.
PATCH = 9
SETTINGS = {
    "n_components": 64,
    "patch_size": PATCH,
    "whiten": False,
    "pool_grid": 1,
    "polarity": "both",
    "max_iter": 3,
    "tol": 0,
    "n_jobs": 1,
}


def shipped(name, seed):
    """Signals of aeon, (n, length, sensors), with their classes."""
    from aeon import datasets

    load = getattr(datasets, f"load_{name}")
    (X, y), (X_test, y_test) = (load(split=split) for split in ("train", "test"))
    if seed > 0:
        X, X_test, y, y_test = train_test_split(
            np.concatenate([X, X_test]),
            np.concatenate([y, y_test]),
            train_size=len(X),
            stratify=np.concatenate([y, y_test]),
            random_state=seed,
        )
    return X.transpose(0, 2, 1), X_test.transpose(0, 2, 1), y, y_test


def motifs(y, rng):
    """One of three motifs of 40 samples, at a random place in noise as strong."""
    t = np.linspace(0, 1, 40)
    shapes = np.stack(
        [
            np.sin(2 * np.pi * (1 + 3 * t) * t) * np.sin(np.pi * t),
            np.exp(-6 * t) - np.exp(-60 * t),
            1 - np.abs(2 * t - 1),
        ]
    )
    shapes /= np.sqrt(np.mean(shapes**2, axis=1, keepdims=True))
    X = rng.normal(size=(len(y), 250))
    for signal, k, place in zip(X, y, rng.integers(210, size=len(y)), strict=True):
        signal[place : place + 40] += shapes[k]
    return X


def frequencies(y, rng):
    """A sine of 6, 7 or 8 periods, of random phase, in noise three times as strong."""
    phases = rng.uniform(0, 2 * np.pi, size=(len(y), 1))
    waves = np.sin(2 * np.pi * (6 + y[:, None]) * np.arange(250) / 250 + phases)
    return waves + rng.normal(scale=np.sqrt(1.5), size=waves.shape)


def cylinder_bell_funnel(y, rng):
    """Saito (1994): a plateau, a rise or a fall, between random ends."""
    starts = rng.integers(16, 33, size=(len(y), 1))
    lengths = rng.integers(32, 97, size=(len(y), 1))
    t = np.arange(128)
    rise = (t - starts) / lengths
    shape = np.choose(y[:, None], [np.ones_like(rise), rise, 1 - rise])
    shape = shape * ((rise >= 0) & (rise <= 1)) * (6 + rng.normal(size=(len(y), 1)))
    return shape + rng.normal(size=shape.shape)


def split_of(name, seed):
    """Training and test signals, (n, length, sensors), and classes."""
    if name in SHIPPED:
        return shipped(name, seed)
    rng = np.random.default_rng(seed)
    y = np.arange(1050) % 3
    X = globals()[name](y, rng)[:, :, None]
    return X[:150], X[150:], y[:150], y[150:]


class MiniRocket:
    """aeon's MiniRocket, whose signals have their sensors first."""

    def fit(self, X):
        from aeon.transformations.collection.convolution_based import MiniRocket

        self.rocket_ = MiniRocket(random_state=0, n_jobs=1).fit(self._turned(X))
        return self

    def transform(self, X):
        return self.rocket_.transform(self._turned(X))

    def _turned(self, X):
        return np.ascontiguousarray(X[:, 0].transpose(0, 2, 1), dtype=np.float32)


def classifier():
    return make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-3, 5, 17)))


def layers(length, seed):
    """Kernels of all dilations that fit, of signals and of their first differences."""
    dilations = [2**i for i in range(20) if 2**i * (PATCH - 1) < length]
    layer = ConvGMMFeatures(**SETTINGS, random_state=seed)
    union = make_union(*(clone(layer).set_params(dilation=dilation) for dilation in dilations))
    return make_union(union, make_pipeline(FunctionTransformer(differences), clone(union)))


def differences(X):
    """First differences of signals (n, 1, length, sensors), of the same shape."""
    return np.diff(X, axis=2, prepend=X[:, :, :1])


def compile_seconds(X):
    """Seconds of MiniRocket's first call less those of its second."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        MiniRocket().fit(X).transform(X)
        seconds.append(time.perf_counter() - started)
    return seconds[0] - seconds[1]


def measure(name, seed):
    """For each row accuracy, seconds of the features, columns."""
    X, X_test, y, y_test = split_of(name, seed)
    # A signal is an image of height 1.
    X, X_test = X[:, None].astype(np.float32), X_test[:, None].astype(np.float32)
    found = {}
    for row, features in {
        "ours": layers(X.shape[2], seed),
        "MiniRocket": MiniRocket(),
        "raw": Flat(),
    }.items():
        started = time.perf_counter()
        F = features.fit(X).transform(X)
        F_test = features.transform(X_test)
        seconds = time.perf_counter() - started
        accuracy = classifier().fit(F, y).score(F_test, y_test)
        found[row] = accuracy, seconds, F.shape[1]
    return (len(X), len(X_test), *X.shape[2:]), found


def main():
    """Run the benchmark."""
    names = [*SHIPPED, "motifs", "frequencies", "cylinder_bell_funnel"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sets", nargs="*", default=names, choices=names)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    # Numba reads this when it is imported: an empty folder, so that it compiles anew.
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()
    # Of few short signals components die. aeon will cease to ship OSULeaf.
    for category in (ConvergenceWarning, UserWarning, FutureWarning):
        warnings.simplefilter("ignore", category)

    print(machine())
    with threadpool_limits(1):
        X = np.random.default_rng(0).normal(size=(2, 1, 100, 1))
        print(f"Numba compiles MiniRocket in {compile_seconds(X):.0f} s, for several sensors in")
        print(f"{compile_seconds(np.concatenate([X, X], axis=3)):.0f} s more; left out below.")
        for name in args.sets:
            runs = [measure(name, seed) for seed in range(args.seeds)]
            (n, n_test, length, sensors), _ = runs[0]
            print(f"\n{name}: {n} and {n_test} signals, {length} samples, {sensors} sensors")
            for row in runs[0][1]:
                found = np.array([found[row] for _, found in runs])
                accuracy, seconds, columns = found.T
                print(
                    f"  {row:12}{100 * accuracy.mean():6.1f} ± {100 * accuracy.std(ddof=1):4.1f}"
                    f"{seconds.mean():8.3f} s  columns {columns.max():.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
