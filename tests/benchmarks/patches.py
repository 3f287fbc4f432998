"""How many patches a fit needs: accuracy and time against `subsample`.

    python tests/benchmarks/patches.py --data FOLDER [--rows NAME ...] [--draws 3]

FOLDER holds mnist.npz, fashion.npz and cifar10.npz. Each draw takes 20000 training images for the
kernels, 8000 others for ridge regression on the roots of features, whose penalty is chosen by
leave-one-out, and 5000 others to validate. Cells are the percentage of these that are classified
correctly: mean and standard deviation over draws, which all rows share. Seconds are the processor
time of `fit`, the median of all.
"""

import argparse
import time

import numpy as np
from accuracy import load
from linear import Ridge, standardized
from timing import machine

from sklearn_calm import ConvGMMFeatures

SETS = ("mnist", "fashion", "cifar10")
N_KERNELS, N_TRAIN, N_HELD_OUT = 20_000, 8000, 5000
SMOOTH = {"patch_size": 6, "padding": 2, "reg_covar": 0.3, "pool_width": 0.5}
# Row -> options, and the numbers of patches; the default is among them.
ROWS = {
    "16 of 5 x 5": ({"n_components": 16}, (5000, 10_000, 20_000, 50_000, 400_000)),
    "64 of 5 x 5": ({"n_components": 64}, (5000, 10_000, 20_000, 50_000, 400_000)),
    "64 of 15 x 15": (
        {"n_components": 64, "patch_size": 15, "pool_grid": 3},
        (5000, 10_000, 20_000, 40_000),
    ),
    "256 of 6 x 6": (
        {"n_components": 256, "pool_grid": 3, **SMOOTH},
        (16_000, 32_000, 64_000, 400_000),
    ),
}


def measure(data, folder, options, seed):
    """Accuracy in percent on images that were held out, and processor time of `fit`."""
    X, _, y, _ = load(data, folder, None)
    order = np.random.default_rng(seed).permutation(len(X))
    ends = np.cumsum([N_KERNELS, N_TRAIN, N_HELD_OUT])
    for_kernels, train, held_out = np.split(order[: ends[-1]], ends[:-1])
    features = ConvGMMFeatures(random_state=seed, n_jobs=1, **options)
    started = time.process_time()
    features.fit(X[for_kernels])
    seconds = time.process_time() - started
    parts = (features.transform(X[rows]) for rows in (train, held_out))
    F, F_held = standardized(*parts, root=True)
    found = Ridge(F, y[train]).predict(F_held)
    return 100 * np.mean(found == y[held_out]), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--draws", type=int, default=3)
    args = parser.parse_args()
    print(machine())
    print(f"\n{'kernels':16}{'patches':>9}" + "".join(f"{data:>18}{'s':>6}" for data in args.sets))
    for row in args.rows:
        options, numbers = ROWS[row]
        for subsample in numbers:
            line = f"{row:16}{subsample:9}"
            for data in args.sets:
                each = [
                    measure(data, args.data, {**options, "subsample": subsample}, seed)
                    for seed in range(args.draws)
                ]
                accuracies, seconds = np.transpose(each)
                line += f"{accuracies.mean():11.2f} ± {accuracies.std(ddof=1):.2f}"
                line += f"{np.median(seconds):7.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
