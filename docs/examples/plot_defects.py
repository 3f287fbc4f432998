"""
Find defects of a surface
=========================

A model of normal images needs no examples of defects. It says how likely each patch of a new image
is. Where the likelihood is low, something is odd.
"""

# %%
# The surface is the brick wall of scikit-image, in tiles of 64 x 64 pixels. The model learns from
# the upper half of the wall. Of the lower half, we keep some tiles to choose a threshold, and plant
# a defect in each of the others: a scratch, a stain, and a square that has lost its texture.
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.data import brick
from skimage.draw import line
from sklearn.metrics import roc_auc_score

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import ScoreMapDisplay

tiles = brick().astype(np.float32).reshape(8, 64, 8, 64).swapaxes(1, 2).reshape(-1, 64, 64)
learned, held_out, normal = tiles[:32], tiles[32:48], tiles[48:]


def scratched(tile, rng):
    y, x = rng.integers(10, 54, size=(2, 2))
    tile[line(y[0], x[0], y[1], x[1])] += 40
    return tile


def stained(tile, rng):
    stain = np.zeros(tile.shape)
    stain[tuple(rng.integers(12, 52, size=2))] = 1
    stain = gaussian_filter(stain, 3)
    return tile - 50 * stain / stain.max()


def smoothed(tile, rng):
    y, x = rng.integers(8, 42, size=2)
    square = slice(y, y + 14), slice(x, x + 14)
    tile[square] = gaussian_filter(tile, 3)[square]
    return tile


rng = np.random.default_rng(0)
plants = [scratched, stained, smoothed]
defective = [plants[i % 3](tile.copy(), rng) for i, tile in enumerate(normal)]
defective = np.stack(defective).astype(np.float32)

# %%
# One setting does not see everything. Without whitening, patches differ by their brightness above
# all, so the model finds stains. With whitening, fine structure counts as much, so the model finds
# scratches. Contrast normalisation would remove the brightness of a patch, so we turn it off.
# ``padding="same"`` gives maps of the size of the tiles.
options = {"patch_size": 5, "padding": "same", "normalize": None, "random_state": 0}
models = [
    ConvGMMFeatures(64, whiten=False, **options).fit(learned),
    ConvGMMFeatures(64, whiten=True, reg_covar=1e-3, **options).fit(learned),
]

# %%
# The maps of the two models are brought to one scale by the normal tiles, and the larger value of
# the two counts. The maps are smoothed a little, since a defect touches many patches side by side.


def smooth_map(model, tiles):
    return gaussian_filter(-model.score_map(tiles), (0, 2, 2))


scales = [(np.median(m), m.std()) for m in (smooth_map(model, learned) for model in models)]


def odd_map(tiles):
    maps = [
        (smooth_map(model, tiles) - middle) / spread
        for model, (middle, spread) in zip(models, scales, strict=True)
    ]
    return np.maximum(*maps)


shown = defective[[0, 1, 2, 4]]
extent = (-0.5, 63.5, 63.5, -0.5)
ScoreMapDisplay(shown[..., np.newaxis], -odd_map(shown), extent=extent).plot(vmin=-8, vmax=-2)
plt.show()

# %%
# Defects are small, so the mean over a tile hides them. The score of a tile is the mean of the
# oddest percent of its map.


def score(tiles):
    return np.sort(odd_map(tiles).reshape(len(tiles), -1), axis=1)[:, -40:].mean(axis=1)


def areas(scores):
    """Area under the ROC curve of each kind of defect against the normal tiles."""
    kinds = [scores[len(normal) + i :: 3] for i in range(3)]
    return [
        roc_auc_score(np.arange(16 + len(kind)) >= 16, np.r_[scores[:16], kind]) for kind in kinds
    ]


judged = np.concatenate([normal, defective])
for name, scores in [
    ("mean, without whitening", -models[0].score_samples(judged)),
    ("mean, with whitening", -models[1].score_samples(judged)),
    ("oddest percent, of both", score(judged)),
]:
    figures = zip(plants, areas(scores), strict=True)
    print(f"{name:24}", *(f"{plant.__name__} {area:.2f}" for plant, area in figures))

# %%
# Squares that have lost their texture are the hardest. A smooth patch is as likely as any other,
# so only the edges of a square are odd, and no more so than some joints of the wall.
#
# Normal tiles that were not learned give the threshold: few of them may raise an alarm.
threshold = np.quantile(score(held_out), 0.9)
alarms = score(judged) > threshold
print(f"alarms: {alarms[:16].mean():.0%} of the normal tiles")
for i, plant in enumerate(plants):
    print(f"        {alarms[16 + i :: 3].mean():.0%} of the {plant.__name__} tiles")
