"""Features of pixels beside scikit-image's: textures told apart by scribbles.

    pip install scikit-image
    python tests/benchmarks/pixels.py [--draws N]

Each mosaic of 384 x 512 pixels has 12 regions of brick, grass and gravel, the textures that come
with scikit-image. Each texture has mean 0 and deviation 1, so that its brightness does not tell it.
One scribble, a line of 40 pixels, is drawn in each of 6 regions, two of each texture. A classifier
learns the pixels of the scribbles and predicts all others; figures are of those. Options were
chosen on mosaics of other draws. Kernels are learned from the mosaic itself, which the seconds
include. Memory is what NumPy holds at most, as tracemalloc sees it, in a run of its own.
"""

import argparse
import time
import tracemalloc
from functools import partial

import numpy as np
from skimage import data
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timing import machine, seconds_of

from sklearn_calm import ConvGMMFeatures

TEXTURES = ("brick", "grass", "gravel")
SHAPE, N_REGIONS, N_SCRIBBLED, LENGTH = (384, 512), 12, 6, 40
WIDTHS = (8, 24)
CLASSIFIERS = {
    "logistic regression": lambda: make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=1000)
    ),
    "random forest": lambda: RandomForestClassifier(100, n_jobs=-1, random_state=0),
}


def mosaic(seed):
    """An image, the texture of each pixel, and a mask of the scribbles."""
    rng = np.random.default_rng(seed)
    pictures = [getattr(data, name)().astype(np.float32) for name in TEXTURES]
    pictures = [(picture - picture.mean()) / picture.std() for picture in pictures]
    rows, columns = np.indices(SHAPE)
    centres = rng.uniform(size=(N_REGIONS, 2)) * SHAPE
    distances = [(rows - y) ** 2 + (columns - x) ** 2 for y, x in centres]
    region, kind = np.argmin(distances, axis=0), rng.permutation(np.arange(N_REGIONS) % 3)
    truth, scribbles = kind[region], np.zeros(SHAPE, bool)
    image = np.choose(truth, [picture[: SHAPE[0], : SHAPE[1]] for picture in pictures])
    for texture in range(3):
        for chosen in np.flatnonzero(kind == texture)[: N_SCRIBBLED // 3]:
            ys, xs = np.nonzero(region == chosen)
            y, x = np.median(ys).astype(int), np.median(xs).astype(int)
            line = np.clip(np.arange(x - LENGTH // 2, x + LENGTH // 2), 0, SHAPE[1] - 1)
            scribbles[y, line] = region[y, line] == chosen
    return image, truth, scribbles


def layer_of(images, seed=0):
    options = {"padding": "same", "max_iter": 4, "tol": 0, "random_state": seed}
    return ConvGMMFeatures(16, **options).fit(images)


def ours(image):
    return layer_of(image[np.newaxis]).transform_pixels(image[np.newaxis], widths=WIDTHS)


def basic(image, sigma_max=16):
    columns = multiscale_basic_features(image, sigma_min=1, sigma_max=sigma_max)
    return columns.reshape(image.size, -1)


METHODS = {
    "this library": ours,
    "multiscale_basic_features": basic,
    "the same, sigma_max=32": lambda image: basic(image, sigma_max=32),
    "both, joined": lambda image: np.hstack([ours(image), basic(image)]),
}


def run(method, seed):
    """Accuracies of the classifiers, seconds for the features, and their number."""
    image, truth, scribbles = mosaic(seed)
    begun = time.perf_counter()
    columns = method(image)
    seconds = time.perf_counter() - begun
    accuracies = []
    for make in CLASSIFIERS.values():
        classifier = make().fit(columns[scribbles.ravel()], truth[scribbles])
        found = classifier.predict(columns).reshape(SHAPE)
        accuracies.append(100 * np.mean((found == truth)[~scribbles]))
    return [*accuracies, seconds, columns.shape[1]]


def peak(function):
    """MiB that NumPy holds at most while a function runs."""
    tracemalloc.start()
    function()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 2**20


def photograph():
    """Time and memory for the features of 1000 chosen pixels of a photograph in colour."""
    image = np.tile(data.astronaut(), (3, 4, 1))
    mask = np.zeros(image.shape[:2], bool)
    mask[400, 500:1000] = mask[1100, 1200:1700] = True
    layer = layer_of(image[np.newaxis, :512, :512])
    ways = {
        "this library": lambda: layer.transform_pixels(image[np.newaxis], mask, widths=WIDTHS),
        "multiscale_basic_features": lambda: multiscale_basic_features(
            image, sigma_min=1, sigma_max=16, channel_axis=2
        )[mask],
    }
    print(f"\n1000 pixels of a photograph, {image.shape}")
    for name, way in ways.items():
        print(f"{name:28}{seconds_of(way):9.2f} s{peak(way):8.0f} MiB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=5)
    args = parser.parse_args()
    print(machine())
    print(f"{'':28}{'columns':>8}{'logistic':>16}{'forest':>16}{'seconds':>9}{'MiB':>7}")
    for name, method in METHODS.items():
        rows = np.array([run(method, seed) for seed in range(args.draws)])
        linear, forest = (
            f"{accuracies.mean():9.1f} ± {accuracies.std(ddof=1):4.1f}" for accuracies in rows.T[:2]
        )
        seconds, n_columns = np.median(rows[:, 2:], axis=0)
        most = peak(partial(method, mosaic(0)[0]))
        print(
            f"{name:28}{n_columns:8.0f}{linear}{forest}{seconds:9.2f}{most:7.0f}",
            flush=True,
        )
    photograph()


if __name__ == "__main__":
    main()
