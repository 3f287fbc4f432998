"""The patches that components explain best."""

from __future__ import annotations

import numbers
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._batches import batch_size_of, workers_of
from sklearn_calm._inference import model_at
from sklearn_calm._mixture.model import ConvLayer, log_joint, patch_energies
from sklearn_calm.plotting._canvas import (
    MARK,
    canvas,
    draw_frame,
    draw_gaps,
    draw_grid,
    draw_within,
    label,
    moved,
)
from sklearn_calm.plotting._components import choose
from sklearn_calm.plotting._estimators import features_and_images
from sklearn_calm.plotting._pictures import are_signals, limits, scaled, stretched, tile_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.typing import ColorType
    from sklearn.base import BaseEstimator

# Between kernels and patches, as a share of a patch.
SPACE = 0.15


class TopPatchesDisplay:
    """The patches that components explain best, beside their kernels.

    Each row shows one component: first its kernel, then the patches at which its density is
    highest, one from each image, the most likely first. These are the patches that are closest to
    the kernel after preprocessing. The log joint alone would prefer patches of high contrast.

    Parameters
    ----------
    images : array-like of shape (m, n_patches, height, width, n_channels)
        The images that hold the patches, of any real dtype. The range of brightness is 0 to 255
        for uint8, otherwise from the least value to the greatest.
    corners : array-like of shape (m, n_patches, 2), int
        Row and column of the first pixel of each patch in its image; negative in the padding.
    kernels : array-like of shape (m, kernel height, kernel width, n_channels)
        Kernels of the m components.
    components : array-like of shape (m,) or None, default=None
        Numbers to write beside the kernels.
    dilation : tuple (vertical, horizontal), default=(1, 1)
        Step between the pixels of a patch. A frame is drawn around all of them.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes drawn on.
    figure_ : matplotlib Figure
        Figure drawn on.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_calm import ConvGMMFeatures
    >>> from sklearn_calm.plotting import TopPatchesDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> features = ConvGMMFeatures(8, patch_size=3, random_state=0).fit(X)
    >>> display = TopPatchesDisplay.from_estimator(features, X, components=[0, 4], n_patches=5)
    >>> display.images.shape
    (2, 5, 8, 8, 1)
    >>> display.corners.shape
    (2, 5, 2)
    """

    ax_: Axes
    figure_: Any  # a Figure, or the SubFigure of the Axes given

    def __init__(
        self,
        images: ArrayLike,
        corners: ArrayLike,
        kernels: ArrayLike,
        *,
        components: ArrayLike | None = None,
        dilation: tuple[int, int] = (1, 1),
    ) -> None:
        self.images: Any = images
        self.corners: Any = corners
        self.kernels: Any = kernels
        self.components: Any = components
        self.dilation = dilation

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        components: int | ArrayLike | None = 8,
        n_patches: int = 10,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw what the components of a fitted estimator explain best.

        Parameters
        ----------
        estimator : estimator
            A fitted `ConvGMMFeatures`; or a fitted pipeline, feature union, column transformer or
            search that holds exactly one. It is not changed.
        X : array-like of shape (n, height, width[, n_channels]) or (n, n_features)
            Images of the shape that was fitted, to search in, read batch by batch. A pipeline takes
            them as its own `transform` does, and its steps before the `ConvGMMFeatures` are applied
            first.
        components : int, array-like of int or None, default=8
            Which components to draw: an int is how many, beginning with the largest `weights_`; an
            array holds their indices; None draws all.
        n_patches : int, default=10
            Number of patches for each component; fewer if there are fewer images.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **options : dict
            Passed to `plot`. `shared_scale` is True by default if contrast is not normalised.

        Returns
        -------
        display : TopPatchesDisplay
            The display, drawn.
        """
        features, _, images = features_and_images(estimator, X)
        options = {"shared_scale": features.contrast_floor_ is None, **options}
        chosen = choose(components, to_numpy(features.weights_))
        rows, positions = _top_patches(features, images, chosen, n_patches)
        geometry = images.geometry
        tops = images.X[rows.ravel()]
        corners = np.stack(np.unravel_index(positions, geometry.map_shape), axis=-1)
        return cls(
            tops.reshape(*rows.shape, *geometry.image_shape),
            corners * geometry.stride - np.asarray(geometry.padding_before),
            to_numpy(features.means_)[chosen],
            components=chosen,
            dilation=geometry.dilation,
        ).plot(ax=ax, **options)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        whole_images: bool = False,
        shared_scale: bool = False,
        color: ColorType = MARK,
        cmap: str | Colormap = "gray",
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        whole_images : bool, default=False
            Whether to draw whole images, each with its patch framed, rather than patches alone.
        shared_scale : bool, default=False
            Whether kernels and patches are drawn on the scale of the images, rather than on one
            each. Whole images always are, and so are the colours of patches.
        color : matplotlib color, default="white"
            Colour of the frames. They have an edge of black, or of white around dark colours.
        cmap : str or matplotlib Colormap, default="gray"
            Colour map of images and kernels drawn in grey.

        Returns
        -------
        self : TopPatchesDisplay
            The display, drawn.
        """
        images, kernels, corners = map(to_numpy, (self.images, self.kernels, self.corners))
        bounds = limits(images)
        kernels = scaled(kernels, bounds) if shared_scale else stretched(kernels)
        sides = zip(kernels.shape[1:3], self.dilation, strict=True)
        reach = tuple(gap * (side - 1) + 1 for side, gap in sides)
        tiles = images if whole_images else _cut(images, corners, reach, self.dilation)
        (m, n_patches), tiles = tiles.shape[:2], tiles.reshape(-1, *tiles.shape[2:])
        to_scale = scaled if whole_images or shared_scale else stretched
        tiles = to_scale(tiles, bounds)
        height, width = tile_shape(tiles)
        left = (1 + SPACE) * width
        self.ax_ = canvas(ax, m * height, left + n_patches * width, tiles)
        for i, kernel in enumerate(kernels):
            draw_within(self.ax_, kernel, (0, i * height, width, height), cmap)
        if not are_signals(kernels):
            draw_gaps(self.ax_, (0, 0), (m, 1), (height, width))
        draw_grid(self.ax_, tiles, n_patches, cmap, left=left)
        if whole_images:
            for i, j in np.ndindex(m, n_patches):
                corner = left + j * width, i * height
                box = moved(_patch_box(tiles, corners[i, j], reach), *corner)
                draw_frame(self.ax_, box, color, within=(*corner, width, height))
        label(self.ax_.yaxis, (np.arange(m) + 0.5) * height, self.components, height)
        self.figure_ = self.ax_.figure
        return self


def _cut(images, corners, size, dilation):
    """Patches of images (m, n_patches, ...), one each; zeros where they lie in the padding."""
    before = np.maximum(-corners.min(axis=(0, 1)), 0)
    after = np.maximum(corners.max(axis=(0, 1)) + size - images.shape[2:4], 0)
    added = [(0, 0), (0, 0), *zip(before, after, strict=True), (0, 0)]
    windows = sliding_window_view(np.pad(images, added), size, axis=(2, 3))
    windows = windows[..., :: dilation[0], :: dilation[1]]
    i, j = np.indices(corners.shape[:2])
    rows, columns = np.moveaxis(corners + before, -1, 0)
    return np.moveaxis(windows[i, j, rows, columns], 2, -1)


def _patch_box(tiles, corner, size):
    """Where a patch is on its tile; on a signal it has no height of its own."""
    if are_signals(tiles):
        return corner[1], 0, size[1], tile_shape(tiles)[0]
    return corner[1], corner[0], size[1], size[0]


def _top_patches(features, images, components, n_patches):
    """Rows of images, and positions in them, at which each density is highest: (m, n_patches)."""
    if not isinstance(n_patches, numbers.Integral) or n_patches < 1:
        raise ValueError(f"n_patches={n_patches!r}: expected an int of 1 or more.")
    model = model_at(features, images.geometry)
    order = model.symmetry.order
    kernels = (order * components[:, None] + np.arange(order)).ravel()
    parts = (None if part is None else part[kernels] for part in features._layer)
    layer = ConvLayer(*parts)
    step = partial(
        _likeliest,
        images=images,
        layer=layer.prepared(model, images.placement, Scratch()),
        noise_variance=features.noise_variance_,
    )
    batches = images.batches(batch_size_of(features, images, len(kernels)))
    workers = workers_of(features, images)
    best = np.empty((3, 0, len(components)))
    for rows, found in zip(batches, workers.map(step, batches), strict=True):
        row_numbers = np.arange(rows.start, rows.stop)[:, None]
        new = np.stack([*found, np.broadcast_to(row_numbers, found[0].shape)])
        best = np.concatenate([best, new], axis=1)
        order = np.argsort(-best[0], axis=0, kind="stable")[:n_patches]
        best = np.take_along_axis(best, order[None], axis=1)
    _, positions, rows = best
    return rows.T.astype(int), positions.T.astype(int)


def _likeliest(rows, images, layer, noise_variance):
    """Highest density of each component in each image, but for a constant; and its position."""
    batch = images.read(rows)
    patches = layer.view(batch)
    density = log_joint(patches, layer)
    density -= patch_energies(batch, layer.model)[..., None] / (2 * noise_variance)
    # Of a component under the transformation that suits the patch best.
    density = density.reshape(*density.shape[:3], -1, layer.model.symmetry.order).max(axis=-1)
    if patches.used is not None:
        density[patches.used == 0] = -np.inf
    density = density.transpose(1, 0, 2, 3).reshape(len(batch), -1, density.shape[-1])
    return density.max(axis=1), density.argmax(axis=1)
