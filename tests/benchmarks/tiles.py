"""Defects of magnetic tiles by the features of their regions, beside other features.

    pip install scikit-image
    python tests/benchmarks/tiles.py FOLDER [--held-out] [--methods ...] [--seed N]

FOLDER is a copy of github.com/abin24/Magnetic-tile-defect-datasets. (Y. Huang, C. Qiu and K. Yuan,
"Surface defect saliency of magnetic tile", The Visual Computer 36, 2020): grey photographs in the
folders MT_Blowhole, MT_Break, MT_Crack, MT_Fray, MT_Uneven and MT_Free, which has no defects.

Photographs are resized to 128 x 128, and their logarithms are taken. Features of 16 x 16 regions
are made of them. For each region, a Gaussian is fitted to the features of tiles without defects
(LedoitWolf). The distances of a tile (Mahalanobis) from it are a map, and a statistic of the map is
the score of the tile. Figures are the areas under the ROC curve of each kind of defect.

Each tile was photographed up to six times, in other light, and numbered in one order. So parts are
cut along this order, and nearly all photographs of a tile are in one part. Of the tiles without
defects, the first and third quarter are learned, at most 300 of them. The second quarter, and the
first half of each kind of defect, choose the settings of each method. The rest is judged with
--held-out, by these settings.
"""

import argparse
import re
from itertools import product
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from skimage import feature, io, transform
from sklearn.cluster import MiniBatchKMeans
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from timing import machine

from sklearn_calm import ConvGMMFeatures

KINDS = ("MT_Free", "MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Uneven")
SIDE, GRID, N_LEARNED = 128, 16, 300
NAME = re.compile(r"exp(\d+)_num_(\d+)")


def photographs(folder):
    """Logarithms of all photographs (n, 128, 128), their kinds, and where in the order they are."""
    images, kinds, names = [], [], []
    for kind, name in enumerate(KINDS):
        for path in sorted((folder / name).rglob("*.jpg")):
            images.append(transform.resize(io.imread(path) / 255, (SIDE, SIDE), anti_aliasing=True))
            names.append([kind, *map(int, NAME.match(path.stem).groups())])
            kinds.append(kind)
    if set(kinds) != set(range(len(KINDS))):
        raise SystemExit(f"{folder} lacks some of the folders {', '.join(KINDS)} of photographs.")
    names, places = np.array(names), np.empty(len(names))
    for series in np.unique(names[:, :2], axis=0):
        chosen = np.flatnonzero((names[:, :2] == series).all(axis=1))
        order = chosen[np.argsort(names[chosen, 2])]
        places[order] = (np.arange(len(order)) + 0.5) / len(order)
    return np.log(np.array(images) + 0.02).astype(np.float32), np.array(kinds), places


def parts_of(kinds, places, seed):
    """Rows of the learned photographs, of those that choose settings, and of the held-out ones."""
    quarter, free = (4 * places).astype(int), kinds == 0
    learned = np.flatnonzero(free & (quarter % 2 == 0))
    learned = np.random.default_rng(seed).permutation(learned)[:N_LEARNED]
    choosing = np.flatnonzero(np.where(free, quarter == 1, places < 0.5))
    return learned, choosing, np.flatnonzero(np.where(free, quarter == 3, places >= 0.5))


def of_regions(maps):
    """Means of maps (height, width, ...) over the regions of a grid."""
    side = len(maps) // GRID
    return maps.reshape(GRID, side, GRID, side, *maps.shape[2:]).mean(axis=(1, 3))


def patches_of(image, side):
    """The patch about every pixel, without its mean: (height, width, side * side)."""
    padded = np.pad(image, ((side - 1) // 2, side // 2), mode="reflect")
    patches = sliding_window_view(padded, (side, side)).reshape(*image.shape, -1)
    return patches - patches.mean(axis=-1, keepdims=True)


def some_patches(images, side):
    rng = np.random.default_rng(0)
    rows = [rng.permutation(patches_of(one, side).reshape(-1, side**2))[:200] for one in images]
    return np.concatenate(rows)


# Each method yields its settings, and for each a function that makes features of regions,
# (n, 16, 16, n_features), of images.


def learned_kernels(images, seed):
    for n_components, patch_size in product((16, 32), (5, 9)):
        layer = ConvGMMFeatures(
            n_components,
            patch_size=patch_size,
            pool_grid=GRID,
            flatten=False,
            max_iter=6,
            tol=0,
            random_state=seed,
        )
        yield f"{n_components} of {patch_size} x {patch_size}", layer.fit(images).transform


def likelihoods(images, seed):
    for options in (
        {},
        {"normalize": None, "reg_covar": 1e-3},
        {"normalize": None, "whiten": False},
    ):
        layer = ConvGMMFeatures(32, padding="same", random_state=seed, **options).fit(images)

        def features(some, layer=layer):
            return np.array([of_regions(-layer.score_map(one[None])[0]) for one in some])[..., None]

        yield str(options), features


def pca_errors(images, seed):
    for n_components in (4, 16, 32):
        pca = PCA(n_components, random_state=seed).fit(some_patches(images, 8))

        def of_image(one, pca=pca):
            rows = patches_of(one, 8).reshape(-1, 64)
            errors = np.square(rows - pca.inverse_transform(pca.transform(rows))).sum(axis=1)
            return of_regions(errors.reshape(one.shape))[..., None]

        yield f"{n_components} components", each(of_image)


def pca_features(images, seed):
    """Mean absolute values of the components of patches, which are filters."""
    for n_components, side in product((16, 24), (5, 8)):
        pca = PCA(n_components, random_state=seed).fit(some_patches(images, side))

        def of_image(one, pca=pca, side=side):
            rows = np.abs(pca.transform(patches_of(one, side).reshape(-1, side**2)))
            return of_regions(rows.reshape(*one.shape, -1))

        yield f"{n_components} of {side} x {side}", each(of_image)


def kmeans_features(images, seed):
    """How much nearer than the mean distance each center is, as Coates et al. (2011) pool it."""
    for n_clusters, side in product((16, 32), (5, 8)):
        rows = some_patches(images, side)
        pca = PCA(whiten=True, n_components=0.99).fit(rows)
        kmeans = MiniBatchKMeans(n_clusters, n_init=1, random_state=seed).fit(pca.transform(rows))

        def of_image(one, pca=pca, kmeans=kmeans, side=side):
            patches = pca.transform(patches_of(one, side).reshape(-1, side**2))
            distances = kmeans.transform(patches)
            nearer = np.maximum(distances.mean(axis=1, keepdims=True) - distances, 0)
            return of_regions(nearer.reshape(*one.shape, -1))

        yield f"{n_clusters} of {side} x {side}", each(of_image)


def basic_features(images, seed):
    for sigma_max in (4, 16):
        yield (
            f"sigma_max={sigma_max}",
            each(
                lambda one, most=sigma_max: of_regions(
                    feature.multiscale_basic_features(one, sigma_max=most)
                )
            ),
        )


def gradients(images, seed):
    for orientations in (9, 18):

        def of_image(one, orientations=orientations):
            cells = SIDE // GRID
            found = feature.hog(one, orientations, (cells, cells), (1, 1), feature_vector=False)
            return found.reshape(GRID, GRID, -1)

        yield f"{orientations} orientations", each(of_image)


def brightness(images, seed):
    def of_image(one):
        mean = of_regions(one)
        return np.stack([mean, np.sqrt(np.maximum(of_regions(one**2) - mean**2, 0))], axis=-1)

    yield "", each(of_image)


def each(of_image):
    return lambda images: np.array([of_image(one) for one in images])


METHODS = {
    "ConvGMMFeatures": learned_kernels,
    "score_map": likelihoods,
    "PCA, reconstruction error": pca_errors,
    "PCA, components": pca_features,
    "k-means": kmeans_features,
    "multiscale_basic_features": basic_features,
    "hog": gradients,
    "mean and deviation": brightness,
}


def distances(learned, judged):
    """Distances of regions from the Gaussians of the learned ones: (n, regions)."""
    found = []
    learned, judged = (F.reshape(len(F), GRID**2, -1).astype(float) for F in (learned, judged))
    for known, others in zip(learned.swapaxes(0, 1), judged.swapaxes(0, 1), strict=True):
        mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-9
        gaussian = LedoitWolf().fit((known - mean) / deviation)
        found.append(gaussian.mahalanobis((others - mean) / deviation))
    return np.sqrt(np.maximum(found, 0)).T


def statistics(maps):
    values = np.sort(maps, axis=1)
    return {
        "max": values[:, -1],
        "top 2 %": values[:, -5:].mean(axis=1),
        "top 5 %": values[:, -12:].mean(axis=1),
        "mean": values.mean(axis=1),
    }


def areas(scores, kinds):
    """Area under the curve of each kind of defect against tiles without defects."""
    found = []
    for kind in range(1, len(KINDS)):
        chosen = (kinds == 0) | (kinds == kind)
        found.append(roc_auc_score(kinds[chosen] > 0, scores[chosen]))
    return np.array(found)


def figures(method, images, kinds, parts, seed):
    """Areas of each setting, of the part that chooses and of the held-out one."""
    learned, choosing, held_out = parts
    judged, found = np.concatenate([choosing, held_out]), {}
    for setting, features in METHODS[method](images[learned], seed):
        known, others = features(images[learned]), features(images[judged])
        for root in (False, True) if known.min() >= 0 and others.min() >= 0 else (False,):
            if root:
                known, others = np.sqrt(known), np.sqrt(others)
            for name, scores in statistics(distances(known, others)).items():
                halves = np.split(scores, [len(choosing)])
                key = f"{setting}{', roots' if root else ''}; {name}"
                found[key] = [
                    areas(half, kinds[part])
                    for half, part in zip(halves, (choosing, held_out), strict=True)
                ]
    return found


def report(name, kinds, note):
    text = " ".join(f"{area:.3f}" for area in kinds)
    print(f"{name:26} {text} mean {kinds.mean():.3f} [{note}]", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--all", action="store_true", help="print every setting")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(machine())
    images, kinds, places = photographs(arguments.folder)
    parts = parts_of(kinds, places, arguments.seed)
    print(f"learned {len(parts[0])}, choosing {len(parts[1])}, held out {len(parts[2])}")
    print("kinds:", ", ".join(KINDS[1:]))
    for method in arguments.methods:
        found = figures(method, images, kinds, parts, arguments.seed)
        best = max(found, key=lambda key: found[key][0].mean())
        report(method, found[best][0], best)
        if arguments.held_out:
            report("    held out", found[best][1], best)
        for key in found if arguments.all else ():
            report("    ", found[key][0], key)


if __name__ == "__main__":
    main()
