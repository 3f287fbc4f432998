"""Defects of textures by score_map and by features of pixels, beside PCA, k-means, IsolationForest.

    pip install scikit-image
    python tests/benchmarks/defects.py [--methods ...]

The textures brick, grass and gravel of scikit-image are cut into tiles of 64 x 64 pixels. One half
of each texture is learned, the upper one and then the lower one. In the other half, one copy of the
tiles stays normal, and one more for each kind of defect gets one defect in every tile. Each method
gives a map of the tile, which is standardised by the maps of the learned tiles, and may be
smoothed. Some methods add two maps up. A value may count as odd if it is high, or if it is far from
the median on either side: a place without texture is more likely than most. A statistic of the map
is the score of the tile. Figures are the areas under the ROC curve: of tiles, defective against
normal ones, and of pixels. The settings, the smoothing and the statistic of each method are those
that are best on the other two textures.
"""

import argparse
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter
from skimage import data, draw
from skimage.feature import multiscale_basic_features
from sklearn.cluster import MiniBatchKMeans
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from timing import machine

from sklearn_calm import ConvGMMFeatures

TEXTURES = ("brick", "grass", "gravel")
SIDE = 64
WIDTHS = (0, 2, 4)  # of the smoothing, in pixels
PATCHES = ("5, 32", "5, 256", "9, 32")  # sides and numbers of kernels


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


def planted(texture, half):
    """Tiles to learn; tiles to judge, the defects of each (0 is none), and masks of defects."""
    halves = tiles_of(texture)
    learned, normal = halves[half], halves[1 - half]
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
    for normalize, whiten, shape in product((None, "contrast"), (False, True), PATCHES):
        patch_size, n_components = map(int, shape.split(","))
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
        yield f"{normalize}, whiten={whiten}, {shape}", -features.fit(learned).score_map(tiles)


LAYERS = {
    "full": {},
    "white": {"normalize": None, "reg_covar": 1e-3},
    "raw": {"normalize": None, "whiten": False},
}
LAYERS_TOGETHER = ("full", "raw", "full+raw", "white+raw")
PIXEL_WIDTHS = ([1, 4], [2, 8])


def gaussian_maps(learned, tiles):
    """Distances (Mahalanobis) of the features of every second pixel from those that are learned."""
    for widths in PIXEL_WIDTHS:
        roots = {}
        for name, options in LAYERS.items():
            layer = ConvGMMFeatures(
                16, padding="same", max_iter=6, tol=0, random_state=0, **options
            ).fit(learned)
            roots[name] = [_roots(layer, part, widths) for part in (learned, tiles)]
        for together in LAYERS_TOGETHER:
            parts = zip(*(roots[name] for name in together.split("+")), strict=True)
            known, others = map(np.hstack, parts)
            mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-6
            gaussian = LedoitWolf(assume_centered=True).fit((known - mean) / deviation)
            distances = np.sqrt(gaussian.mahalanobis((others - mean) / deviation))
            coarse = distances.reshape(-1, SIDE // 2, SIDE // 2)
            yield f"{together}, {widths}", coarse.repeat(2, axis=1).repeat(2, axis=2)


def _roots(layer, tiles, widths):
    chosen = np.zeros(tiles.shape, bool)
    chosen[:, 1::2, 1::2] = True
    return np.sqrt(layer.transform_pixels(tiles, chosen, widths=widths))


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


MAPS = {
    "score_map": score_maps,
    "Gaussian": gaussian_maps,
    "PCA": pca_maps,
    "k-means": kmeans_maps,
    "IsolationForest": forest_maps,
}


def sums(first, second):
    return {f"{a} + {b}": (a, b) for a, b in product(first, second)}


_RAW, _WHITE = ([f"score_map: None, whiten={w}, {p}" for p in PATCHES] for w in (False, True))
_PCA = [f"PCA: {n} components" for n in (4, 16, 32)]
# The sums of two maps that are tried.
SUMS = {
    "score_map, twice": {f"{a} + {b}": (a, b) for a, b in zip(_RAW, _WHITE, strict=True)},
    "score_map + Gaussian": sums(
        _WHITE,
        [f"Gaussian: {t}, {w}" for t in LAYERS_TOGETHER if t != "full" for w in PIXEL_WIDTHS],
    ),
    "PCA + k-means": sums(
        _PCA, [f"k-means: patches of {s}, {n} clusters" for s, n in ((5, 64), (8, 64), (5, 256))]
    ),
    "PCA + IsolationForest": sums(_PCA, [f"IsolationForest: sigma_max={s}" for s in (4, 16)]),
}
METHODS = (*MAPS, *SUMS)


def all_maps(methods, learned, tiles):
    """Standardised maps of the learned tiles and of the others, by the method and its settings."""
    needed = {part for method in methods for part in method.replace(", twice", "").split(" + ")}
    both, found = np.concatenate([learned, tiles]), {}
    for name in needed:
        for setting, maps in MAPS[name](learned, both):
            known = maps[: len(learned)]
            found[f"{name}: {setting}"] = (maps - known.mean()) / known.std()
    return found


def settings_of(method, maps):
    """The maps of a method, by setting."""
    if method in SUMS:
        return {key: sum(maps[part] for part in parts) for key, parts in SUMS[method].items()}
    return {key: each for key, each in maps.items() if key.startswith(f"{method}:")}


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


def judged(method, maps, n_learned, kinds, masks):
    """Areas of every setting: of tiles by kind, and of pixels."""
    results = {}
    for setting, each in settings_of(method, maps).items():
        for width in WIDTHS:
            smooth = gaussian_filter(each, (0, width, width)) if width else each
            known, others = np.split(smooth, [n_learned])
            for sides, odd in (("one", others), ("both", np.abs(others - np.median(known)))):
                pixels = pixel_area(odd, masks)
                for name, scores in statistics(odd).items():
                    key = f"{setting}; width {width}; sides {sides}; {name}"
                    results[key] = areas(scores, kinds), pixels
    return results


def pixel_area(maps, masks):
    step = 7  # every seventh pixel, to save time
    return roc_auc_score(masks.ravel()[::step], maps.ravel()[::step])


def report(name, settings, kinds, pixels):
    text = " ".join(f"{area:.3f}" for area in kinds)
    print(
        f"{name:22} {text} mean {np.mean(kinds):.3f} pixels {pixels:.3f} [{settings}]", flush=True
    )


def best_on_others(found, texture, measure):
    """The setting that is best on the other textures."""
    others = [found[other] for other in TEXTURES if other != texture]
    return max(others[0], key=lambda key: sum(measure(other[key]) for other in others))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=METHODS)
    methods = parser.parse_args().methods
    print(machine())
    print("kinds:", ", ".join(defect.__name__ for defect in DEFECTS))
    rows, options = {method: [] for method in methods}, {}
    for half in (0, 1):
        found = {method: {} for method in methods}
        for texture in TEXTURES:
            learned, tiles, kinds, masks = planted(texture, half)
            maps = all_maps(methods, learned, tiles)
            for method in methods:
                found[method][texture] = judged(method, maps, len(learned), kinds, masks)
        for method, areas_of in found.items():
            for texture in TEXTURES:
                best = best_on_others(areas_of, texture, lambda pair: pair[0].mean())
                # Pixels have settings of their own, which the other textures choose as well.
                finest = best_on_others(areas_of, texture, lambda pair: pair[1])
                rows[method].append((areas_of[texture][best][0], areas_of[texture][finest][1]))
                report(f"{method} {texture}", best, *rows[method][-1])
        note_options(options, found)
    for method, parts in rows.items():
        kinds, pixels = (np.mean(part, axis=0) for part in zip(*parts, strict=True))
        report(method, "mean of textures and halves", kinds, pixels)
    for setting, figures in options.items():
        print(f"    {setting:60} {np.mean(figures):.3f}")


def note_options(options, found):
    """The best figure of each setting of score_map, over smoothings and statistics."""
    for method in ("score_map", "score_map, twice"):
        best = {}
        for key in found.get(method, {}).get(TEXTURES[0], ()):
            setting = key.split(";")[0]
            mean = np.mean([found[method][texture][key][0].mean() for texture in TEXTURES])
            best[setting] = max(best.get(setting, 0), mean)
        for setting, figure in best.items():
            options.setdefault(setting, []).append(figure)


if __name__ == "__main__":
    main()
