"""Defects of surfaces by score_map, beside PCA, k-means and IsolationForest.

    pip install scikit-image
    python tests/benchmarks/defects.py [--real FOLDER --normal NAME] [--methods ...]

The textures brick, grass and gravel of scikit-image are cut into tiles of 64 x 64 pixels. The upper
half of each texture is learned. In the lower half, one copy of the tiles stays normal, and one more
for each kind of defect gets one defect in every tile. Each method gives a map of the tile, which
may be smoothed. A value may count as odd if it is high, or if it is far from the median on either
side: a place without texture is more likely than most. A statistic of the map is the score of the
tile. Figures are the areas under the
ROC curve: of tiles, defective against normal ones, and of pixels. The settings, the smoothing and
the statistic of each method are those that are best on the other two textures.

FOLDER holds photographs of a real surface, in one folder for each kind; NAME is that of the normal
ones. They are resized to 64 x 64; their logarithm is centred at its median and divided by its
standard deviation. Half of the normal images are learned, at most 300. Half of the others choose
the settings, and figures are of the rest.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter
from skimage import data, draw, io, transform
from skimage.feature import multiscale_basic_features
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from timing import machine

from sklearn_calm import ConvGMMFeatures

TEXTURES = ("brick", "grass", "gravel")
SIDE = 64
WIDTHS = (0, 2, 4)  # of the smoothing, in pixels
N_LEARNED = 300
METHODS = ("score_map", "PCA", "k-means", "IsolationForest")


def tiles_of(texture):
    """Tiles of the upper and of the lower half: two arrays (32, 64, 64)."""
    halves = np.split(getattr(data, texture)().astype(np.float32), 2)
    return [h.reshape(-1, SIDE, 8, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE) for h in halves]


def scratch(tile, rng):
    (y, x), angle = rng.integers(16, 48, size=2), rng.uniform(0, np.pi)
    down, right = np.round(rng.uniform(6, 14) * np.array([np.sin(angle), np.cos(angle)])).astype(
        int
    )
    mask = np.zeros(tile.shape, bool)
    mask[draw.line(y - down, x - right, y + down, x + right)] = True
    return np.where(mask, tile + rng.choice([-80, 80]), tile), mask


def blob(tile, rng):
    shade = np.zeros(tile.shape)
    shade[tuple(rng.integers(12, 52, size=2))] = 1
    shade = gaussian_filter(shade, rng.uniform(2, 4))
    shade /= shade.max()
    return tile + rng.choice([-80, 80]) * shade, shade > 0.3


def smoothed_patch(tile, rng):
    """A missing stitch: a square that has lost its texture."""
    return _replaced(tile, gaussian_filter(tile, 3), rng)


def moved_patch(tile, rng):
    """A square that shows another place of the tile, turned by a right angle."""
    return _replaced(tile, np.rot90(tile), rng)


def light(tile, rng):
    shade = np.zeros(tile.shape)
    shade[tuple(rng.integers(8, 56, size=2))] = 1
    shade = gaussian_filter(shade, 10)
    shade /= shade.max()
    return tile * (1 + rng.choice([-0.5, 0.5]) * shade), shade > 0.3


def _replaced(tile, other, rng):
    y, x = rng.integers(8, 42, size=2)
    mask = np.zeros(tile.shape, bool)
    mask[y : y + 14, x : x + 14] = True
    return np.where(mask, other, tile), mask


DEFECTS = (scratch, blob, smoothed_patch, moved_patch, light)


def planted(texture):
    """Tiles to learn; tiles to judge, the defects of each (0 is none), and masks of defects."""
    learned, normal = tiles_of(texture)
    tiles, kinds, masks = [normal], [np.zeros(len(normal), int)], [np.zeros(normal.shape, bool)]
    for kind, defect in enumerate(DEFECTS, start=1):
        rng = np.random.default_rng(kind)
        changed, mask = zip(*(defect(tile, rng) for tile in normal), strict=True)
        tiles.append(np.clip(changed, 0, 255).astype(np.float32))
        kinds.append(np.full(len(normal), kind))
        masks.append(np.stack(mask))
    return learned, np.concatenate(tiles), np.concatenate(kinds), np.concatenate(masks)


def patches_of(tiles, side):
    """The patch about every pixel: (n, height, width, side * side)."""
    pad = ((side - 1) // 2, side // 2)
    padded = np.pad(tiles, ((0, 0), pad, pad), mode="reflect")
    return sliding_window_view(padded, (side, side), axis=(1, 2)).reshape(*tiles.shape, -1)


def some_rows(rows, most=50_000):
    return rows[np.random.default_rng(0).permutation(len(rows))[:most]]


def score_maps(learned, tiles):
    """Maps of score_map by its settings: high where a tile is odd."""
    kept = {}
    for normalize, whiten, (patch_size, n_components) in product(
        (None, "contrast"), (False, True), ((5, 32), (5, 256), (9, 32))
    ):
        features = ConvGMMFeatures(
            n_components,
            patch_size=patch_size,
            padding="same",
            normalize=normalize,
            whiten=whiten,
            reg_covar=1e-3,
            max_iter=6,
            tol=0,
            random_state=0,
        )
        maps = -features.fit(learned).score_map(tiles)
        yield f"{normalize}, whiten={whiten}, {patch_size}, {n_components}", maps
        if normalize is None:
            kept[whiten, patch_size, n_components] = (maps - np.median(maps)) / maps.std()
    for shape in ((5, 32), (5, 256), (9, 32)):
        pair = kept[False, *shape], kept[True, *shape]
        yield f"None, sum of both, {shape[0]}, {shape[1]}", pair[0] + pair[1]
        yield f"None, larger of both, {shape[0]}, {shape[1]}", np.maximum(*pair)


def pca_maps(learned, tiles):
    train = some_rows(patches_of(learned, 8).reshape(-1, 64))
    for n_components in (4, 8, 16, 32):
        pca = PCA(n_components, random_state=0).fit(train)
        errors = [_pca_error(pca, patches_of(tile[None], 8)[0].reshape(-1, 64)) for tile in tiles]
        yield f"{n_components} components", np.reshape(errors, tiles.shape)


def _pca_error(pca, rows):
    return np.square(rows - pca.inverse_transform(pca.transform(rows))).sum(axis=1)


def kmeans_maps(learned, tiles):
    for side, n_clusters in product((5, 8), (64, 256)):
        train = some_rows(patches_of(learned, side).reshape(-1, side * side))
        kmeans = MiniBatchKMeans(n_clusters, n_init=1, random_state=0).fit(train)
        rows = (patches_of(tile[None], side).reshape(-1, side * side) for tile in tiles)
        distances = [kmeans.transform(tile).min(axis=1) for tile in rows]
        yield f"patches of {side}, {n_clusters} clusters", np.reshape(distances, tiles.shape)


def forest_maps(learned, tiles):
    for sigma_max in (4, 16):
        columns = [multiscale_basic_features(tile, sigma_max=sigma_max) for tile in learned]
        train = some_rows(np.concatenate([c.reshape(-1, c.shape[-1]) for c in columns]), 20_000)
        forest = IsolationForest(random_state=0).fit(train)
        columns = (multiscale_basic_features(tile, sigma_max=sigma_max) for tile in tiles)
        scores = [-forest.score_samples(c.reshape(-1, c.shape[-1])) for c in columns]
        yield f"sigma_max={sigma_max}", np.reshape(scores, tiles.shape)


MAPS = dict(zip(METHODS, (score_maps, pca_maps, kmeans_maps, forest_maps), strict=True))


def statistics(maps):
    """Scores of tiles from their maps (n, height, width)."""
    values = np.sort(maps.reshape(len(maps), -1), axis=1)
    n = values.shape[1]
    quarter, middle, three = (values[:, n * i // 4] for i in (1, 2, 3))
    top = values[:, -n // 100 :].mean(axis=1)
    return {
        "max": values[:, -1],
        "top 1 %": top,
        "top 5 %": values[:, -n // 20 :].mean(axis=1),
        "mean": values.mean(axis=1),
        "top 1 % over own quartiles": (top - middle) / (three - quarter),
    }


def areas(scores, kinds):
    """Area under the curve of each kind of defect against normal tiles."""
    found = []
    for kind in np.unique(kinds[kinds > 0]):
        chosen = (kinds == 0) | (kinds == kind)
        found.append(roc_auc_score(kinds[chosen] > 0, scores[chosen]))
    return np.array(found)


def judged(method, learned, tiles, kinds, masks=None, halves=None):
    """Areas of every setting: {setting: (of tiles by kind, of pixels)}, for each half if any."""
    results = {}
    for setting, maps in MAPS[method](learned, tiles):
        for width in WIDTHS:
            smooth = gaussian_filter(maps, (0, width, width)) if width else maps
            for sides, odd in (("one", smooth), ("both", np.abs(smooth - np.median(smooth)))):
                pixels = np.nan if masks is None else pixel_area(odd, masks)
                for name, scores in statistics(odd).items():
                    key = f"{setting}; width {width}; sides {sides}; {name}"
                    parts = [slice(None)] if halves is None else halves
                    results[key] = [(areas(scores[p], kinds[p]), pixels) for p in parts]
    return results


def pixel_area(maps, masks):
    step = 7  # every seventh pixel, to save time
    return roc_auc_score(masks.ravel()[::step], maps.ravel()[::step])


def report(name, settings, kinds, pixels):
    text = " ".join(f"{area:.3f}" for area in kinds)
    print(
        f"{name:22} {text} mean {np.mean(kinds):.3f} pixels {pixels:.3f} [{settings}]", flush=True
    )


def textures(methods):
    problems = {texture: planted(texture) for texture in TEXTURES}
    print("kinds:", ", ".join(defect.__name__ for defect in DEFECTS))
    for method in methods:
        found = {texture: judged(method, *problems[texture]) for texture in TEXTURES}
        rows = []
        for texture in TEXTURES:
            others = [found[other] for other in TEXTURES if other != texture]
            best = max(others[0], key=lambda key: sum(o[key][0][0].mean() for o in others))
            kinds, _ = found[texture][best][0]
            # Pixels have settings of their own, which the other textures choose as well.
            finest = max(others[0], key=lambda key: sum(o[key][0][1] for o in others))
            rows.append((kinds, found[texture][finest][0][1]))
            report(f"{method} {texture}", best, *rows[-1])
        kinds, pixels = (np.mean(part, axis=0) for part in zip(*rows, strict=True))
        report(method, "mean of the textures", kinds, pixels)
        if method == "score_map":
            report_options(found)


def report_options(found):
    """The best figure of each setting, over widths and statistics: mean of the textures."""
    best = {}
    for key in found[TEXTURES[0]]:
        setting = key.split(";")[0]
        mean = np.mean([found[texture][key][0][0].mean() for texture in TEXTURES])
        best[setting] = max(best.get(setting, (0, "")), (mean, key.partition("; ")[2]))
    for setting, (mean, key) in best.items():
        print(f"    {setting:30} {mean:.3f} [{key}]")


def photographs(folder, normal):
    """Learned images, images to judge, their kinds, and two halves of these."""
    names = [normal, *sorted(f.name for f in folder.iterdir() if f.is_dir() and f.name != normal)]
    images, kinds = [], []
    for kind, name in enumerate(names):
        for path in sorted((folder / name).rglob("*.jpg")):
            images.append(transform.resize(io.imread(path, as_gray=True), (SIDE, SIDE)))
            kinds.append(kind)
    print("kinds:", ", ".join(names[1:]))
    X, kinds = np.log(np.asarray(images) / np.max(images) + 0.02), np.asarray(kinds)
    X -= np.median(X, axis=(1, 2), keepdims=True)
    X = (X / X.std(axis=(1, 2), keepdims=True)).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(X))
    learned = order[kinds[order] == 0][: min(N_LEARNED, (kinds == 0).sum() // 2)]
    rest = np.setdiff1d(order, learned)
    rest = np.random.default_rng(1).permutation(rest)
    halves = np.arange(0, len(rest), 2), np.arange(1, len(rest), 2)
    return X[learned], X[rest], kinds[rest], None, halves


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--real", type=Path, metavar="FOLDER")
    parser.add_argument("--normal", metavar="NAME")
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=METHODS)
    arguments = parser.parse_args()
    print(machine())
    if arguments.real is None:
        textures(arguments.methods)
        return
    problem = photographs(arguments.real, arguments.normal)
    for method in arguments.methods:
        found = judged(method, *problem)
        best = max(found, key=lambda key: found[key][0][0].mean())
        report(method, best, *found[best][1])


if __name__ == "__main__":
    main()
