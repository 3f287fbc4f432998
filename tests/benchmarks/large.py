"""Time and memory for large images: pixels of a photograph, and a scene of 20000 x 20000.

    pip install scikit-image
    python tests/benchmarks/large.py [--folder FOLDER] [--side PIXELS] [--only photograph|scene]

The photograph has 4000 x 3000 pixels in colour, and 1000 pixels of scribbles are described. Beside
it are scikit-image's `multiscale_basic_features`, which take up to 8 GB. The scene is a file of
bytes in FOLDER, 400 MB, opened as a memory map. Memory is the most that the process holds beyond
what it held before, looked at a hundred times a second; pages of files are not in it. It is read
from /proc, so this runs on Linux. OMP_NUM_THREADS=1 gives the processor time of one thread.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from skimage import data
from skimage.feature import multiscale_basic_features
from timing import machine

from sklearn_calm import ConvGMMFeatures

OPTIONS = {"padding": "same", "max_iter": 4, "tol": 0, "random_state": 0}
WIDTHS = (8, 24)


def measured(name, function):
    """Print seconds, seconds of processors, and MiB of one call."""
    held, ended = [held_kib()], threading.Event()

    def look():
        while not ended.wait(0.01):
            held.append(held_kib())

    watcher = threading.Thread(target=look)
    watcher.start()
    begun, begun_work = time.perf_counter(), time.process_time()
    function()
    seconds, work = time.perf_counter() - begun, time.process_time() - begun_work
    ended.set()
    watcher.join()
    most = (max(held) - held[0]) / 1024
    print(f"{name:32}{seconds:9.2f} s{work:9.2f} s of processors{most:8.0f} MiB", flush=True)


def held_kib():
    """Memory that the process holds, without files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def photograph():
    """Features of the pixels of two scribbles."""
    image = np.tile(data.astronaut(), (8, 6, 1))[:4000, :3000]
    mask = np.zeros(image.shape[:2], bool)
    mask[400, 500:1000] = mask[3100, 1200:1700] = True
    layer = ConvGMMFeatures(16, **OPTIONS)
    print(f"\na photograph of {image.shape}, {mask.sum()} pixels")
    measured("fit", lambda: layer.fit(image[np.newaxis]))
    measured(
        "transform_pixels", lambda: layer.transform_pixels(image[np.newaxis], mask, widths=WIDTHS)
    )
    measured(
        "multiscale_basic_features",
        lambda: multiscale_basic_features(image, sigma_min=1, sigma_max=16, channel_axis=2)[mask],
    )


def scene(folder, side):
    """Every method on a memory map."""
    path, tile = Path(folder) / "scene", data.gravel()
    images = np.memmap(path, np.uint8, "w+", shape=(1, side, side))
    rng = np.random.default_rng(0)
    for top in range(0, side, len(tile)):
        band = images[0, top : top + len(tile)]
        row = np.tile(tile, (1, side // tile.shape[1] + 1))[: len(band), :side]
        band[:] = row // 2 + rng.integers(128, size=row.shape, dtype=np.uint8)
    pixels = np.column_stack([np.zeros(1000, int), rng.integers(side, size=(1000, 2))])
    layer = ConvGMMFeatures(16, **OPTIONS)
    print(f"\na scene of {images.shape[1:]}, {images.nbytes / 1e6:.0f} MB")
    measured("fit", lambda: layer.fit(images))
    measured("transform", lambda: layer.transform(images))
    layer.set_params(pooling="max")
    measured('transform, pooling="max"', lambda: layer.transform(images))
    layer.set_params(pooling="triangle")
    measured("score_samples", lambda: layer.score_samples(images))
    measured(
        "transform_pixels, 1000 pixels",
        lambda: layer.transform_pixels(images, pixels, widths=WIDTHS),
    )
    path.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--only", choices=("photograph", "scene"))
    args = parser.parse_args()
    print(machine())
    if args.only != "scene":
        photograph()
    if args.only != "photograph":
        scene(args.folder, args.side)


if __name__ == "__main__":
    main()
