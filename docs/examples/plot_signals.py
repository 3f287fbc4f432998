"""
Motifs in signals
=================

In this example, each signal contains one of three motifs at an unknown place, in noise as strong as
the motif. The estimator does not know which motif, or where. It finds the three shapes and their
places.
"""

# %%
# Make signals with motifs of 40 samples. The motifs have a mean square of 1, and the noise has a
# variance of 1.
import matplotlib.pyplot as plt
import numpy as np

from sklearn_calm import ConvGMMFeatures

rng = np.random.default_rng(0)
t = np.linspace(0, 1, 40)
motifs = np.stack(
    [
        np.sin(2 * np.pi * (1 + 3 * t) * t) * np.sin(np.pi * t),
        np.exp(-6 * t) - np.exp(-60 * t),
        1 - np.abs(2 * t - 1),
    ]
)
motifs /= np.sqrt(np.mean(motifs**2, axis=1, keepdims=True))
n, length, size = 600, 250, 60
kinds = rng.integers(3, size=n)
places = rng.integers(length - 40, size=n)
X = rng.normal(size=(n, length)).astype(np.float32)
for signal, kind, place in zip(X, kinds, places, strict=True):
    signal[place : place + 40] += motifs[kind]

# %%
# A signal is an image of height 1. ``assignment="image"`` says that it contains one motif. The
# kernels are to be looked at, and the noise is white, so turn off normalisation and whitening.
features = ConvGMMFeatures(
    3,
    patch_size=(1, size),
    padding=(0, size // 2),
    image_shape=(1, length),
    assignment="image",
    normalize=None,
    whiten=False,
    pooling=None,
    n_init=4,
    tol=1e-3,
    random_state=0,
)
scores = features.fit_transform(X)[:, 0]
found_places, found_kinds = np.divmod(scores.reshape(n, -1).argmax(axis=1), 3)
found_places -= size // 2

# %%
# Components have no names, so name each after the motif in most of its signals. A kernel may also
# contain its motif with a shift, which is the same in all signals.
names = np.array([np.bincount(kinds[found_kinds == k]).argmax() for k in range(3)])
shifts = np.array([np.median((places - found_places)[found_kinds == k]) for k in range(3)])
right = names[found_kinds] == kinds
near = np.abs(found_places + shifts[found_kinds] - places) <= 5
print(f"motif right: {right.mean():.0%}, place within 5 samples: {near.mean():.0%} of {n} signals")

# %%
# The upper row shows a signal for each motif, and the kernel at the place that was found. The lower
# row shows the motif and the kernel.
figure, axes = plt.subplots(2, 3, figsize=(10, 4.6), layout="constrained")
for k, (top, bottom) in enumerate(axes.T):
    i = np.flatnonzero(found_kinds == k)[0]
    kernel, samples, colour = features.means_[k, 0, :, 0], np.arange(size), f"C{k}"
    top.plot(X[i], color="0.6", linewidth=0.8)
    top.plot(found_places[i] + samples, kernel, color=colour)
    bottom.plot(motifs[names[k]], color="0.75", linewidth=6, label="planted")
    bottom.plot(samples - shifts[k], kernel, color=colour, label="learned")
    top.set_title(f"signal {i}")
axes[1, 0].legend(frameon=False)
plt.show()
