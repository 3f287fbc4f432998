"""What Dask costs, and whether the cost model of docs/scale.rst holds.

    pip install -e '.[dask]'
    python tests/benchmarks/scale.py --data FOLDER [--sections NAME ...] [--repeat 3]

FOLDER holds mnist.npz. Contenders take turns in one process. The sections:

dask     passes and `transform` on Dask arrays in chunks of several sizes, by threads and by two
         processes, against the same on the array itself with as many threads
workers  a pass and `transform` with 1, 2 and 4 threads, and with 1, 2 and 4 processes of Dask,
         against the cost model
"""

import argparse
import warnings
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from timing import compare, machine, report, seconds_of

from sklearn_calm import ConvGMMFeatures

N_IMAGES = 20_000
CHUNKS = (250, 1000, 5000)
WORKERS = (1, 2, 4)
PASSES = 4


def passes(n_jobs=2):
    """Fits by passes over all images and nothing else; kernels are learned from 64 patches."""
    options = {"normalize": None, "whiten": False, "max_iter": PASSES, "tol": 0}
    options |= {"n_jobs": n_jobs, "random_state": 0}
    return ConvGMMFeatures(64, assignment="image", patch_size=20, padding=2, **options)


def fit(X, n_jobs=2):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return passes(n_jobs).fit(X)


def cluster(n_workers):
    return LocalCluster(
        n_workers=n_workers, threads_per_worker=1, processes=True, dashboard_address=None
    )


def by_threads(function, D):
    with dask.config.set(scheduler="threads", num_workers=2):
        return function(D)


def by_processes(function, client, D):
    with client.as_current():
        return function(D)


def sum_of_features(model, D):
    """Features stay where they are: what comes back is their sum."""
    return model.transform(D).sum(axis=0).compute()


def dask_against_serial(X, repeat):
    model = fit(X)
    fits = {"array, 2 threads": lambda: fit(X)}
    transforms = {"array, 2 threads": lambda: model.transform(X)}
    with cluster(2) as local, Client(local, set_as_default=False) as client:
        for size in CHUNKS:
            D = da.from_array(X, chunks=(size, -1, -1))
            ways = {
                "2 threads": partial(by_threads, D=D),
                "2 processes": partial(by_processes, client=client, D=client.persist(D)),
            }
            for way, run in ways.items():
                name = f"Dask, {way}, chunks of {size}"
                fits[name] = partial(run, fit)
                transforms[name] = partial(run, partial(sum_of_features, model))
        report(f"Fit, {PASSES} passes over {len(X)} images", compare(fits, repeat))
        report(f"Transform, {len(X)} images", compare(transforms, repeat))


def costs(X, repeat):
    """Seconds by the model, fitted to one worker, and as measured."""
    model = fit(X)
    fits = {f"{n} threads": lambda n=n: fit(X, n) for n in WORKERS}
    transforms = {
        f"{n} threads": lambda n=n: model.set_params(n_jobs=n).transform(X) for n in WORKERS
    }
    halves = {"half of the images, 1 thread": lambda: fit(X[::2], 1)}
    report(f"Fit, {PASSES} passes over {len(X)} images", compare(fits | halves, repeat))
    report(f"Transform, {len(X)} images", compare(transforms, repeat))
    print("\nDask, one process a worker, chunks of 1000")
    for n in WORKERS:
        with cluster(n) as local, Client(local) as client:
            held = client.persist(da.from_array(X, chunks=(1000, -1, -1)))
            fit(held)
            seconds = sorted(seconds_of(lambda held=held: fit(held)) for _ in range(repeat))
            print(f"  {n} processes {seconds[repeat // 2]:9.2f}", flush=True)
    geometry = model._model.geometry
    n_scores = geometry.n_positions * model.n_components
    gigaflops = 2 * n_scores * geometry.patch_length * len(X) / 1e9
    statistics = 8 * model.n_components * (geometry.patch_length + 2)
    print(
        f"\nThe E-step of a pass: {gigaflops:.0f} GFLOP over {X.nbytes / 1e6:.0f} MB of images; "
        f"statistics of {statistics / 1e3:.0f} kB; features of {64 * 16 * 4 / 1e3:.0f} kB an image"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sections", nargs="+", default=["dask", "workers"])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(machine())
    with np.load(options.data / "mnist.npz") as parts:
        X = parts["X_train"][:N_IMAGES]
    if "dask" in options.sections:
        dask_against_serial(X, options.repeat)
    if "workers" in options.sections:
        costs(X, options.repeat)


if __name__ == "__main__":
    main()
