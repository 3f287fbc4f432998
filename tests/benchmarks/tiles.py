"""Defects of magnetic tiles by the features of their regions, beside other features.

    pip install scikit-image
    python tests/benchmarks/tiles.py FOLDER [--methods ...] [--seeds N ...]

FOLDER is a copy of github.com/abin24/Magnetic-tile-defect-datasets. (Y. Huang, C. Qiu and K. Yuan,
"Surface defect saliency of magnetic tile", The Visual Computer 36, 2020): grey photographs in the
folders MT_Blowhole, MT_Break, MT_Crack, MT_Fray, MT_Uneven and MT_Free, which has no defects.

Photographs are resized to 128 x 128, and their logarithms are taken. Features of 16 x 16 regions
are made of them. For each region, a Gaussian is fitted to the features of tiles without defects
(ledoit_wolf). The distances of a tile (Mahalanobis) from it are a map, and a statistic of the map
is the score of the tile. Figures are the areas under the ROC curve of each kind of defect.

Each tile was photographed about six times, one after the other, in the lights "exp1" to "exp6". So
a tile ends where the light does not rise in the order of the numbers. Four tiles in a row are a
block, and all of a block is in one of three folds. A fold is judged by Gaussians and features that
are learned from at most 300 photographs without defects of the other two folds.

Each method has the same number of settings: four of the features, roots of the features or not, the
median of the photograph taken off the features or not, and five statistics. A fold gets the setting
that is best on the other two folds, where one is learned and the other is judged, and in turn.
"""

import argparse
import re
from functools import partial, reduce
from itertools import combinations, product
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage
from scipy.linalg import solve_triangular
from skimage import feature, io, transform
from sklearn.cluster import MiniBatchKMeans
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from timing import machine

from sklearn_calm import ConvGMMFeatures

KINDS = ("MT_Free", "MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Uneven")
SIDE, GRID, STEP = 128, 16, 2  # patches lie at every second pixel
N_FOLDS, N_LEARNED, TILES_OF_BLOCK = 3, 300, 4
NAME = re.compile(r"exp(\d+)_num_(\d+)")


def photographs(folder):
    """Logarithms of all photographs (n, 128, 128) in their order, their kinds and their blocks."""
    found = []
    for kind, name in enumerate(KINDS):
        for path in (folder / name).rglob("*.jpg"):
            light, number = map(int, NAME.match(path.stem).groups())
            found.append((number, light, kind, path))
    _, lights, kinds, paths = zip(*sorted(found), strict=True)
    if set(kinds) != set(range(len(KINDS))):
        raise SystemExit(f"{folder} lacks some of the folders {', '.join(KINDS)} of photographs.")
    images = [
        transform.resize(io.imread(path) / 255, (SIDE, SIDE), anti_aliasing=True) for path in paths
    ]
    tiles = np.cumsum(np.diff(lights, prepend=0) <= 0)
    images = np.log(np.array(images) + 0.02).astype(np.float32)
    return images, np.array(kinds), tiles // TILES_OF_BLOCK


def folds_of(kinds, blocks, seed):
    """The fold of each photograph."""
    folds = np.empty(len(kinds), int)
    parts = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=seed)
    for fold, (_, rows) in enumerate(parts.split(kinds, kinds, blocks)):
        folds[rows] = fold
    return folds


def of_regions(maps):
    """Means of maps (height, width, ...) over the regions of a grid."""
    side = len(maps) // GRID
    return maps.reshape(GRID, side, GRID, side, *maps.shape[2:]).mean(axis=(1, 3))


def patches_of(image, side):
    """The patch about every second pixel, without its mean: (height, width, side * side)."""
    padded = np.pad(image, ((side - 1) // 2, side // 2), mode="reflect")
    patches = sliding_window_view(padded, (side, side))[::STEP, ::STEP]
    patches = patches.reshape(*patches.shape[:2], -1)
    return patches - patches.mean(axis=-1, keepdims=True)


def some_patches(images, side):
    rng = np.random.default_rng(0)
    rows = [rng.permutation(patches_of(one, side).reshape(-1, side**2))[:200] for one in images]
    return np.concatenate(rows)


# Each method yields four settings, and for each a function of rows that makes features of regions,
# (n, 16, 16, n_features), of these photographs.


def learned_kernels(images, learned, seed, **options):
    for n_components, patch_size in product((16, 32), (5, 9)):
        layer = ConvGMMFeatures(
            n_components,
            patch_size=patch_size,
            padding="same",
            padding_mode="reflect",
            stride=STEP,
            pool_grid=GRID,
            flatten=False,
            max_iter=6,
            tol=0,
            random_state=seed,
            **options,
        ).fit(images[learned])
        features = chained(images.__getitem__, layer.transform)
        yield f"{n_components} of {patch_size} x {patch_size}", features


raw_kernels = partial(learned_kernels, normalize=None)
with_contrast = partial(learned_kernels, pool_contrast=1)


def likelihoods(images, learned, seed):
    for normalize, whiten in product(("contrast", None), (True, False)):
        layer = ConvGMMFeatures(
            32,
            padding="same",
            padding_mode="reflect",
            stride=STEP,
            normalize=normalize,
            whiten=whiten,
            reg_covar=1e-3,
            random_state=seed,
        ).fit(images[learned])
        regions = each(lambda log_densities: of_regions(-log_densities)[..., None])
        features = chained(images.__getitem__, layer.score_map, regions)
        yield f"normalize={normalize}, whiten={whiten}", features


def pca_errors(images, learned, seed):
    for n_components in (4, 8, 16, 32):
        pca = PCA(n_components, random_state=seed).fit(some_patches(images[learned], 8))

        def of_patches(rows, pca=pca):
            return np.square(rows - pca.inverse_transform(pca.transform(rows))).sum(axis=1)

        yield f"{n_components} components", of_each_patch(images, 8, of_patches)


def pca_features(images, learned, seed):
    """Mean absolute values of the components of patches, which are filters."""
    for n_components, side in product((16, 24), (5, 8)):
        pca = PCA(n_components, random_state=seed).fit(some_patches(images[learned], side))
        features = of_each_patch(images, side, chained(pca.transform, np.abs))
        yield f"{n_components} of {side} x {side}", features


def kmeans_features(images, learned, seed):
    """How much nearer than the mean distance each center is, as Coates et al. (2011) pool it."""
    for n_clusters, side in product((16, 32), (5, 8)):
        rows = some_patches(images[learned], side)
        pca = PCA(whiten=True, n_components=0.99).fit(rows)
        kmeans = MiniBatchKMeans(n_clusters, n_init=1, random_state=seed).fit(pca.transform(rows))

        def nearer(distances):
            return np.maximum(distances.mean(axis=1, keepdims=True) - distances, 0)

        features = chained(pca.transform, kmeans.transform, nearer)
        yield f"{n_clusters} of {side} x {side}", of_each_patch(images, side, features)


def kmeans_distances(images, learned, seed):
    """Distance from the nearest center."""
    for n_clusters, side in product((64, 256), (5, 8)):
        rows = some_patches(images[learned], side)
        kmeans = MiniBatchKMeans(n_clusters, n_init=1, random_state=seed).fit(rows)
        nearest = chained(kmeans.transform, lambda distances: distances.min(axis=1))
        yield f"{n_clusters} of {side} x {side}", of_each_patch(images, side, nearest)


def chained(*functions):
    return lambda argument: reduce(lambda found, function: function(found), functions, argument)


def each(of_image):
    return lambda images: np.array([of_image(one) for one in images], np.float32)


def of_each_patch(images, side, of_patches):
    """Means over regions of what a function makes of patches."""

    def of_image(one):
        found = of_patches(patches_of(one, side).reshape(-1, side**2))
        return of_regions(found.reshape(SIDE // STEP, SIDE // STEP, -1))

    return chained(images.__getitem__, each(of_image))


# These learn nothing. They yield settings, and functions of one photograph.


def basic_features():
    for sigma_max, intensity in product((4, 16), (True, False)):
        options = {"sigma_max": sigma_max, "intensity": intensity}
        features = partial(feature.multiscale_basic_features, **options)
        yield f"sigma_max={sigma_max}, intensity={intensity}", chained(features, of_regions)


def gradients():
    for orientations, cell in product((9, 18), (8, 4)):

        def of_image(one, orientations=orientations, cell=cell):
            found = feature.hog(one, orientations, (cell, cell), (1, 1), feature_vector=False)
            return of_regions(found.reshape(SIDE // cell, SIDE // cell, -1))

        yield f"{orientations} orientations, cells of {cell}", of_image


def brightness():
    """Mean and deviation of regions, or of the window about every pixel, averaged in regions."""
    for side, with_mean in product((8, 5), (True, False)):

        def of_image(one, side=side, with_mean=with_mean):
            if side == SIDE // GRID:
                mean, square = of_regions(one), of_regions(one**2)
            else:
                mean, square = (ndimage.uniform_filter(part, side) for part in (one, one**2))
            deviation = np.sqrt(np.maximum(square - mean**2, 0))
            maps = np.stack([mean, deviation][not with_mean :], axis=-1)
            return maps if side == SIDE // GRID else of_regions(maps)

        yield f"windows of {side}, {'both' if with_mean else 'deviation'}", of_image


def made_once(settings):
    """A method whose features of all photographs are made once, for all folds and seeds."""
    known = {}

    def method(images, learned, seed):
        for setting, of_image in settings():
            if setting not in known:
                known[setting] = each(of_image)(images)
            yield setting, known[setting].__getitem__

    return method


MOMENTS, BASIC = made_once(brightness), made_once(basic_features)


def with_moments(method):
    """The features of a method, and the mean and deviation of the region."""

    def joined(images, learned, seed):
        _, moments = next(MOMENTS(images, learned, seed))
        for setting, features in method(images, learned, seed):
            yield setting, together(features, moments)

    return joined


def both_layers(images, learned, seed):
    """The features of a layer with contrast normalisation and of one without."""
    layers = (method(images, learned, seed) for method in (learned_kernels, raw_kernels))
    for (setting, normalized), (_, raw) in zip(*layers, strict=True):
        yield f"twice {setting}", together(normalized, raw)


def together(*functions):
    return lambda rows: np.concatenate([function(rows) for function in functions], axis=-1)


def forests(images, learned, seed):
    """IsolationForest of regions, on multiscale_basic_features."""
    for setting, features in BASIC(images, learned, seed):
        known = features(learned)
        forest = IsolationForest(random_state=seed).fit(known.reshape(-1, known.shape[-1]))

        def scores(rows, features=features, forest=forest):
            found = features(rows)
            found = forest.score_samples(found.reshape(-1, found.shape[-1]))
            return -found.reshape(len(rows), GRID, GRID, 1)

        yield setting, scores


METHODS = {
    "ConvGMMFeatures": learned_kernels,
    "the same, and moments": with_moments(learned_kernels),
    "ConvGMMFeatures, normalize=None": raw_kernels,
    "ConvGMMFeatures, pool_contrast=1": with_contrast,
    "pool_contrast=1, and moments": with_moments(with_contrast),
    "both layers": both_layers,
    "PCA, components": pca_features,
    "the same components, and moments": with_moments(pca_features),
    "k-means": kmeans_features,
    "multiscale_basic_features": BASIC,
    "hog": made_once(gradients),
    "mean and deviation": MOMENTS,
    "score_map": likelihoods,
    "PCA, reconstruction error": pca_errors,
    "k-means, distance": kmeans_distances,
    "IsolationForest": forests,
}


def distances(learned, judged):
    """Distances of regions from the Gaussians of the learned ones: (n, regions)."""
    found = []
    learned, judged = (F.reshape(len(F), GRID**2, -1).astype(float) for F in (learned, judged))
    for known, others in zip(learned.swapaxes(0, 1), judged.swapaxes(0, 1), strict=True):
        mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-9
        covariance, _ = ledoit_wolf((known - mean) / deviation, assume_centered=True)
        factor = np.linalg.cholesky(covariance)
        rows = solve_triangular(factor, ((others - mean) / deviation).T, lower=True)
        found.append(np.sqrt(np.square(rows).sum(axis=0)))
    return np.array(found).T


def statistics(maps):
    values = np.sort(maps, axis=1)
    n = values.shape[1]
    quarter, middle, three = (values[:, n * i // 4] for i in (1, 2, 3))
    top = values[:, -5:].mean(axis=1)
    return {
        "max": values[:, -1],
        "top 2 %": top,
        "top 5 %": values[:, -12:].mean(axis=1),
        "mean": values.mean(axis=1),
        "top 2 % over own quartiles": (top - middle) / (three - quarter),
    }


def areas(scores, kinds):
    """Area under the curve of each kind of defect against tiles without defects."""
    found = []
    for kind in range(1, len(KINDS)):
        chosen = (kinds == 0) | (kinds == kind)
        found.append(roc_auc_score(kinds[chosen] > 0, scores[chosen]))
    return np.array(found)


def all_scores(method, images, learned, judged, seed, only=None):
    """Scores of the judged photographs, by setting; `only` of one setting of the features."""
    found = {}
    for setting, features in METHODS[method](images, learned, seed):
        if only is not None and setting != only:
            continue
        known, others = features(learned), features(judged)
        for root, centred in product((False, True), repeat=2):
            pair = [prepared(F, root, centred) for F in (known, others)]
            for name, scores in statistics(distances(*pair)).items():
                options = f"{'roots, ' * root}{'less median, ' * centred}{name}"
                found[f"{setting}; {options}"] = scores
    return found


def prepared(features, root, centred):
    if root:
        features = np.sign(features) * np.sqrt(np.abs(features))
    if centred:
        features = features - np.median(features, axis=(1, 2), keepdims=True)
    return features


def learned_rows(rows, kinds, seed):
    """Photographs without defects of some rows, at most 300."""
    return np.random.default_rng(seed).permutation(rows[kinds[rows] == 0])[:N_LEARNED]


def best_settings(method, images, kinds, folds, seed):
    """For each fold the setting that is best on the others, and its mean area there."""
    found = {}
    for pair in combinations(range(N_FOLDS), 2):
        outside = np.isin(folds, pair)
        learned = learned_rows(np.flatnonzero(~outside), kinds, seed)
        judged = np.flatnonzero(outside)
        for setting, scores in all_scores(method, images, learned, judged, seed).items():
            for judge, fold in (pair, pair[::-1]):
                chosen = folds[judged] == judge
                area = areas(scores[chosen], kinds[judged[chosen]]).mean()
                found.setdefault(fold, {}).setdefault(setting, []).append(area)
    best = []
    for fold in range(N_FOLDS):
        means = {setting: np.mean(those) for setting, those in found[fold].items()}
        setting = max(means, key=means.get)
        best.append((setting, means[setting]))
    return best


def figures(method, images, kinds, blocks, seed):
    """Areas of each kind, means over the folds, with settings that the other folds chose."""
    folds, found = folds_of(kinds, blocks, seed), []
    best = best_settings(method, images, kinds, folds, seed)
    for fold, (setting, inside) in enumerate(best):
        learned = learned_rows(np.flatnonzero(folds != fold), kinds, seed)
        judged = np.flatnonzero(folds == fold)
        only = setting.split("; ")[0]
        scores = all_scores(method, images, learned, judged, seed, only)[setting]
        found.append(areas(scores, kinds[judged]))
        report(f"    {method}, seed {seed}, fold {fold}", found[-1], f"{inside:.3f} {setting}")
    return np.mean(found, axis=0)


def report(name, kinds, note):
    text = " ".join(f"{area:.3f}" for area in kinds)
    print(f"{name:26} {text} mean {kinds.mean():.3f} [{note}]", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    arguments = parser.parse_args()
    print(machine())
    images, kinds, blocks = photographs(arguments.folder)
    print("kinds:", ", ".join(KINDS[1:]))
    found = {method: [] for method in arguments.methods}
    for seed, (method, seeds) in product(arguments.seeds, found.items()):
        seeds.append(figures(method, images, kinds, blocks, seed))
    for method, seeds in found.items():
        means = np.mean(seeds, axis=1)
        spread = " ".join(f"{deviation:.3f}" for deviation in np.std(seeds, axis=0, ddof=1))
        report(method, np.mean(seeds, axis=0), f"± {spread} mean {means.std(ddof=1):.3f}")


if __name__ == "__main__":
    main()
