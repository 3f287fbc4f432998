"""Seconds and memory of fits and transforms, beside the bare matrix product and our peers.

    pip install -e '.[bench,plot]'
    python tests/benchmarks/speed.py --data FOLDER [--sections NAME ...] [--repeat 5] [--plot FILE]

FOLDER holds fashion.npz and cifar10.npz. Contenders take turns in one process; tables give medians,
the spread, and ratios to the first row. All have all cores. The sections:

limits     log joint, and all of `transform`, against the product alone: sgemm of the same shapes,
           on patches that lie in memory already
fit        a default fit, against k-means and Gaussian mixtures of scikit-learn on as many patches
transform  against scattering and k-means features, as many features each
rivals     `transform` against the same layer in PyTorch and in ONNX Runtime (needs the extras torch
           and onnx, and onnxruntime)
kernels    passes and fits with more and more kernels
many       fits with 1600 kernels, against MiniBatchKMeans; with the accuracy of ridge regression on
           images that were held out
search     a grid search, whose candidates run side by side, and the same of k-means features
start      imports, fits of few images, and calls on one image
growth     with the number of images, kernels, threads, and the size of patches
memory     peak beyond the input, of fits to memory maps of 60000 and of 1000000 images
"""

import argparse
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from linear import NormalEquations, standardized
from peers import KMeansFeatures, Scattering
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeClassifier
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timing import compare, machine, report, seconds_of

from sklearn_calm import ConvGMMFeatures
from sklearn_calm._arrays.execution import Workers
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._batches import batch_size_of
from sklearn_calm._images.reader import Images
from sklearn_calm._mixture.model import log_joint
from sklearn_calm._mixture.seeds import patches_to_fit

# Images, shape, patch size, options: as in the paper, and with the defaults.
PAPER_LIKE = {"assignment": "image", "normalize": None, "whiten": False, "pooling": "logsumexp"}
SHAPES = {
    "20 x 20 grey": (12_000, (32, 32, 1), 20, {**PAPER_LIKE, "pool_grid": 1}),
    "7 x 7 grey": (12_000, (28, 28, 1), 7, {}),
    "5 x 5 grey": (12_000, (28, 28, 1), 5, {}),
    "6 x 6 colour": (6_000, (32, 32, 3), 6, {}),
    "15 x 15 colour": (6_000, (32, 32, 3), 15, {}),
    "15 x 15 colour, 96 x 96": (300, (96, 96, 3), 15, {}),
    "31 x 31 colour, 96 x 96": (100, (96, 96, 3), 31, {}),
}


def ours(n_components=64, **options):
    return ConvGMMFeatures(n_components, random_state=0, **options)


def product(n, geometry, n_components, batch_size):
    """The bare product of a batch of patches with all kernels, as often as there are batches."""
    rng = np.random.default_rng(0)
    shape = (batch_size * geometry.n_positions, geometry.patch_length)
    patches = rng.random(shape, dtype=np.float32)
    kernels = rng.random((geometry.patch_length, n_components), dtype=np.float32)
    scratch = Scratch()

    def batch(_):
        out = scratch.empty("out", (len(patches), n_components), patches)
        np.matmul(patches, kernels, out=out)

    return lambda: list(Workers().map(batch, range(n // batch_size)))


def log_joints(X, features):
    """The log joint of all images, batch by batch, thrown away."""
    model, images = features._model, Images(X, features._model.geometry)
    layer = features._layer.prepared(model, images.placement, Scratch())
    batches = images.batches(batch_size_of(features, images, len(layer.bias)))

    def batch(rows):
        log_joint(layer.view(images.read(rows)), layer)

    return lambda: list(Workers().map(batch, batches))


def limits(args):
    shares = {}
    for name, (n, shape, patch_size, options) in SHAPES.items():
        X = np.random.default_rng(0).random((n, *shape), dtype=np.float32)
        features = ours(patch_size=patch_size, max_iter=1, tol=0, **options).fit(X[:50])
        geometry = features._model.geometry
        batch_size = batch_size_of(features, Images(X, geometry), 64)
        seconds = compare(
            {
                "product": product(n, geometry, 64, batch_size),
                "log joint": log_joints(X, features),
                "transform": partial(features.transform, X),
            },
            args.repeat,
        )
        report(f"{name}, 64 kernels", seconds)
        medians = {kind: np.median(values) for kind, values in seconds.items()}
        shares[name] = {kind: medians["product"] / s for kind, s in medians.items()}
    return shares


# Patches that a default fit of 64 kernels takes.
N_DEFAULT = patches_to_fit("auto", 64)


def fit(args):
    X = load(args, "fashion")
    few, kmeans = (KMeansFeatures(64, patch_size=5, n_patches=n) for n in (N_DEFAULT, 400_000))
    kmeans.fit(X)
    rng = np.random.default_rng(0)
    windows = kmeans._patches(X)
    rows, ys, xs = (rng.integers(side, size=400_000) for side in windows.shape[:3])
    patches, _ = kmeans._normalize(windows[rows, ys, xs].reshape(400_000, -1))
    patches = kmeans._whiten(patches)
    mixture = GaussianMixture(
        64,
        covariance_type="spherical",
        init_params="k-means++",
        max_iter=15,
        tol=0,
        random_state=0,
    )
    fifteen = ours(max_iter=15, tol=0, subsample=400_000)
    seconds = compare(
        {
            "ours, defaults": partial(ours().fit, X),
            "MiniBatchKMeans, as many patches": partial(few.fit, X),
            "ours, 400000 patches": partial(ours(subsample=400_000).fit, X),
            "MiniBatchKMeans, 400000 patches": partial(kmeans.fit, X),
            "MiniBatchKMeans, 400000, whitened": partial(kmeans.kmeans_.fit, patches),
            "ours, 400000, 15 passes": partial(fifteen.fit, X),
            "GaussianMixture, 400000, 15 passes": partial(mixture.fit, patches),
        },
        args.repeat,
    )
    report("fit, Fashion-MNIST, 60000 images", seconds)


def transform(args):
    X = load(args, "fashion")
    n = 10_000
    layers = {
        "ours, defaults": ours(),
        "ours, 248 of 5 x 5": ours(248),
        "ours, 248 of 6 x 6": ours(248, patch_size=6),
        "scattering, J=2, 3969 features": Scattering(),
        "k-means, 248 of 6 x 6": KMeansFeatures(248),
    }
    for layer in layers.values():
        layer.fit(X)
    seconds = compare(
        {name: partial(layer.transform, X[:n]) for name, layer in layers.items()}, args.repeat
    )
    report(f"transform, Fashion-MNIST, {n} images", seconds)
    pair = {
        "ours, 248 of 6 x 6": ours(248, patch_size=6),
        "k-means, 248 of 6 x 6": KMeansFeatures(248),
    }
    both = {
        name: lambda layer=layer: layer.fit(X[:n]).transform(X[:n]) for name, layer in pair.items()
    }
    report(f"fit and transform, Fashion-MNIST, {n} images", compare(both, args.repeat))
    return {name: n / np.median(values) for name, values in seconds.items()}


# Images for 64 kernels (fewer for more), shape, patch size, numbers of kernels.
RIVALS = {
    "5 x 5 grey": (2400, (28, 28, 1), 5, (64, 248, 1000)),
    "7 x 7 grey": (2400, (28, 28, 1), 7, (64, 248, 1000)),
    "6 x 6 colour": (1200, (32, 32, 3), 6, (64, 248, 1000)),
    "15 x 15 colour, 96 x 96": (30, (96, 96, 3), 15, (64,)),
    "5 x 5 colour, 224 x 224": (24, (224, 224, 3), 5, (64,)),
    "5 x 5 colour, 2000 x 3000": (1, (2000, 3000, 3), 5, (64,)),
}


def rivals(args):
    from torch_layer import forget_compiled

    print(f"\n{'seconds, medians; best rival / ours, least, most':50}", end="")
    print("".join(f"{kind:>9}" for kind in ("ours", *RIVAL_KINDS.values(), "ratio", "", "")))
    found = {}
    for name, (n, shape, patch_size, numbers) in RIVALS.items():
        if not any(part in name for part in args.shapes):
            continue
        for n_components in numbers:
            forget_compiled()
            for window in ("box", "gaussian"):
                n_images = max(1, n * 64 // n_components)
                found[name, n_components, window] = _rival_row(
                    f"{name}, {n_components}, {window}",
                    np.random.default_rng(0).random((n_images, *shape), dtype=np.float32),
                    ours(n_components, patch_size=patch_size, pool_window=window, max_iter=2),
                    args.repeat,
                )
    return found


def _rival_row(title, X, features, repeat):
    from torch_layer import onnx_contender, torch_contenders

    features.fit(X[:200])
    contenders = {"ours": partial(features.transform, X)}
    contenders |= torch_contenders(features, X) | {"onnx": onnx_contender(features, X)}
    expected = features.transform(X)
    for kind, function in list(contenders.items()):
        try:
            found = function()
        except Exception as error:  # a compiler that is missing, memory that does not suffice
            print(f"  {kind} does not run: {type(error).__name__}")
            del contenders[kind]
            continue
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())
    seconds = compare(contenders, repeat)
    medians = {kind: np.median(seconds.get(kind, np.nan)) for kind in ("ours", *RIVAL_KINDS)}
    best = min((kind for kind in seconds if kind != "ours"), key=medians.get)
    ratios = np.divide(seconds[best], seconds["ours"])
    ratio = medians[best] / medians["ours"]
    row = "".join(f"{value:9.3f}" for value in medians.values())
    print(f"  {title:48}{row}{ratio:9.1f}{ratios.min():9.1f}{ratios.max():9.1f}", flush=True)
    return ratio


RIVAL_KINDS = {
    "torch, eager": "eager",
    "torch, eager, channels last": "last",
    "torch.compile": "compile",
    "onnx": "onnx",
}


def kernels(args):
    """Processor time, as of `many`."""
    X = load(args, "cifar10")
    title = "CIFAR-10, 5 x 5, a pass over 400000 patches"
    print(f"\n{title:50}{'pass s':>9}{'fit s':>8}{'passes':>8}")
    for n_components in (64, 256, 1024):
        passes = {"tol": 0, "subsample": 400_000}
        one, five = (ours(n_components, max_iter=n, **passes) for n in (1, 5))
        default = ours(n_components)
        times = {"one": partial(one.fit, X), "five": partial(five.fit, X)}
        times["default"] = partial(default.fit, X)
        found = compare(times, args.repeat, time.process_time)
        seconds = {kind: np.median(each) for kind, each in found.items()}
        a_pass = (seconds["five"] - seconds["one"]) / 4
        print(
            f"  {n_components:<48}{a_pass:9.3f}{seconds['default']:8.2f}{default.n_iter_:8}",
            flush=True,
        )


def many(args):
    """Processor time, since several threads do not help k-means and EM alike."""
    with np.load(Path(args.data) / "cifar10.npz") as parts:
        X, y = parts["X_train"], parts["y_train"]
    boxes = {"patch_size": 6, "padding": 0, "pool_grid": 2, "pool_window": "box"}
    layers = {
        "ours, defaults": ours(1600, **boxes),
        "ours, 400000 patches": ours(1600, **boxes, subsample=400_000),
    }
    for n_patches, batch_size in ((200_000, 1024), (400_000, 1024), (400_000, 4096)):
        layers[f"MiniBatchKMeans, {n_patches} patches, {batch_size} a batch"] = KMeansFeatures(
            1600, pool_grid=2, n_patches=n_patches, batch_size=batch_size
        )
    fits = {name: partial(layer.fit, X) for name, layer in layers.items()}
    seconds = compare(fits, args.repeat, time.process_time)
    report("CIFAR-10, 1600 kernels of 6 x 6, processor time", seconds)
    for name, layer in layers.items():
        found = _held_out_accuracy(layer, (X[:6000], y[:6000]), (X[-3000:], y[-3000:]))
        print(f"  {name:42}{found:9.4f} held out", flush=True)


def _held_out_accuracy(layer, train, held_out):
    """Of ridge regression on the roots of features, with the best penalty."""
    (X, y), (X_held, y_held) = train, held_out
    F, held = standardized(layer.transform(X), layer.transform(X_held), root=True)
    ridge = NormalEquations(F.shape[1]).add(F, y)
    found = [held @ ridge.solve(exponent) for exponent in (-4, -3, -2, -1, 0, 1, 2)]
    return max((scores.argmax(axis=1) == y_held).mean() for scores in found)


def search(args):
    X = load(args, "fashion")[:2000]
    with np.load(Path(args.data) / "fashion.npz") as parts:
        y = parts["y_train"][:2000]

    def searched(layer, name, n_jobs):
        pipeline = make_pipeline(layer, StandardScaler(), RidgeClassifier(1e3))
        grid = {f"{type(layer).__name__.lower()}__{name}": [32, 64, 128]}
        return partial(GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs).fit, X, y)

    kmeans = KMeansFeatures(patch_size=5, n_patches=N_DEFAULT)
    contenders = {
        "ours, 6 fits and a last one, in turn": searched(ours(), "n_components", 1),
        "ours, GridSearchCV(n_jobs=2)": searched(ours(), "n_components", 2),
        "ours, the same, 2 threads in each": searched(ours(n_jobs=2), "n_components", 2),
        "MiniBatchKMeans, in turn": searched(kmeans, "n_clusters", 1),
        "MiniBatchKMeans, GridSearchCV(n_jobs=2)": searched(kmeans, "n_clusters", 2),
    }
    compare(contenders, 1)  # starts the workers
    report("Fashion-MNIST, 2000 images", compare(contenders, args.repeat))


def start(args):
    def imported(modules):
        return partial(subprocess.run, [sys.executable, "-c", f"import {modules}"], check=True)

    modules = ("sklearn_calm", "sklearn.mixture, sklearn.cluster", "numpy")
    compare({name: imported(name) for name in modules}, 1)  # reads the files
    report("import", compare({name: imported(name) for name in modules}, args.repeat))
    X = load(args, "fashion")
    kmeans = KMeansFeatures(64, patch_size=5, n_patches=N_DEFAULT)
    for n in (100, 1000):
        fits = {"ours": partial(ours().fit, X[:n])}
        fits["MiniBatchKMeans, as many patches"] = partial(kmeans.fit, X[:n])
        report(f"fit, Fashion-MNIST, {n} images", compare(fits, args.repeat))
    _report_one_image(ours().fit(X[:1000]), kmeans, X[:1].astype(np.float32), args.repeat)


def _report_one_image(features, kmeans, image, repeat):
    from torch_layer import onnx_contender, torch_contenders

    contenders = {"ours": partial(features.transform, image)}
    contenders |= torch_contenders(features, image[..., None])
    contenders |= {"onnx": onnx_contender(features, image[..., None])}
    contenders["k-means"] = partial(kmeans.transform, image)

    def repeated(function):
        return lambda: [function() for _ in range(1000)]

    thousand = {name: repeated(function) for name, function in contenders.items()}
    compare(contenders, 1)  # compiles
    report("transform, one image, 1000 times", compare(thousand, repeat))


def growth(args):
    X = load(args, "fashion")
    print(f"\n{'':44}{'fit s':>9}{'passes':>8}{'images/s':>10}")
    found = {}

    def row(axis, value, X=X, **options):
        layer = ours(**options)
        times = [seconds_of(partial(layer.fit, X)) for _ in range(args.repeat)]
        rates = [10_000 / seconds_of(partial(layer.transform, X[:10_000])) for _ in times]
        found.setdefault(axis, {})[value] = np.median(times), np.median(rates)
        name = f"{axis} {value}"
        print(
            f"  {name:42}{np.median(times):9.2f}{layer.n_iter_:8}{np.median(rates):10.0f}",
            flush=True,
        )

    for n in (7_500, 15_000, 30_000, 60_000, 240_000):
        row("images", n, X=X[np.arange(n) % len(X)])
    for n_components in (16, 64, 256, 1024):
        row("n_components", n_components, n_components=n_components)
    for patch_size in (3, 5, 7, 11, 15):
        row("patch_size", patch_size, patch_size=patch_size)
    for n_jobs in (1, 2):
        row("n_jobs", n_jobs, n_jobs=n_jobs)
    return found


def memory(args):
    """Peak of what Python and NumPy allocate; the input is a memory map."""
    X = load(args, "fashion")
    print(f"\n{'uint8 memory map of 28 x 28':44}{'input MB':>9}{'peak MB':>9}{'fit s':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for n in (60_000, 1_000_000):
            mapped = np.memmap(Path(folder) / "images", np.uint8, "w+", shape=(n, 28, 28))
            for start in range(0, n, len(X)):
                part = mapped[start : start + len(X)]
                part[...] = X[: len(part)]
            for name, options in {"defaults": {}, "15 passes": {"max_iter": 15, "tol": 0}}.items():
                tracemalloc.start()
                seconds = seconds_of(partial(ours(**options).fit, mapped))
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                title = f"{n} images, {name}"
                print(
                    f"  {title:42}{mapped.nbytes / 1e6:9.0f}{peak / 1e6:9.0f}{seconds:8.1f}",
                    flush=True,
                )


def load(args, name):
    with np.load(Path(args.data) / f"{name}.npz") as parts:
        return parts["X_train"]


def plot(file, found):
    """Three panels: share of the product, images per second, growth with the number of images."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    shapes = list(found["limits"])
    for offset, kind in ((-0.2, "log joint"), (0.2, "transform")):
        shares = [100 * found["limits"][shape][kind] for shape in shapes]
        left.barh(np.arange(len(shapes)) + offset, shares, 0.38, label=kind)
    left.set_yticks(range(len(shapes)), shapes)
    left.axvline(100, color="0.5", linewidth=1)
    left.invert_yaxis()
    left.set_xlabel("speed, percent of the bare product's (64 kernels)")
    left.legend(frameon=False)
    names = list(found["transform"])
    colours = ["C0" if name.startswith("ours") else "0.7" for name in names]
    bars = middle.barh(names, [found["transform"][name] for name in names], color=colours)
    middle.bar_label(bars, fmt="{:,.0f}", padding=3)
    middle.set_xlabel("images per second, transform")
    middle.set_xlim(right=1.2 * max(found["transform"].values()))
    middle.invert_yaxis()
    sizes = found["growth"]["images"]
    right.semilogx(list(sizes), [seconds for seconds, _ in sizes.values()], "o-", clip_on=False)
    right.set_xticks(list(sizes), [f"{n / 1000:g}" for n in sizes])
    right.minorticks_off()
    right.set_xlabel("thousand images")
    right.set_ylabel("seconds of a default fit")
    right.set_ylim(bottom=0)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)


SECTIONS = {
    "limits": limits,
    "fit": fit,
    "transform": transform,
    "rivals": rivals,
    "kernels": kernels,
    "many": many,
    "search": search,
    "start": start,
    "growth": growth,
    "memory": memory,
}


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--sections", nargs="*", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--shapes", nargs="*", default=[""], help="parts of the names of the rows of rivals to run"
    )
    parser.add_argument("--plot", metavar="FILE", help="needs limits, transform and growth")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(machine())
    found = {name: SECTIONS[name](args) for name in args.sections}
    if args.plot:
        plot(args.plot, found)


if __name__ == "__main__":
    main()
