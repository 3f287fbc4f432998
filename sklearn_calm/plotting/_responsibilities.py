"""Where in images components are found."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm._inference import model_at
from sklearn_calm._mixture.posterior import responsibilities
from sklearn_calm.plotting._canvas import (
    TINT,
    canvas,
    draw,
    draw_gaps,
    draw_tint,
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

# Brightness of an image under colour.
DIMMED = 0.6


class ResponsibilityDisplay:
    """Where in images components are found: responsibilities, drawn over the images.

    Each row shows one image: first the image itself, then its responsibilities for each component,
    drawn in colour over a grey copy, below the kernel of the component. The more a component is
    responsible for a patch, the stronger is the colour at the centre of the patch.

    Parameters
    ----------
    images : array-like of shape (n, height, width, n_channels)
        Images of any real dtype. The range of brightness is 0 to 255 for uint8, otherwise from the
        least value to the greatest.
    responsibilities : array-like of shape (n, rows, columns, m)
        Responsibilities of m components at all positions of patches, between 0 and 1.
    kernels : array-like of shape (m, kernel height, kernel width, n_channels)
        Kernels of the m components.
    extent : tuple (left, right, bottom, top)
        Area that the maps cover, in pixels of the image. The centre of the first pixel is 0.
    components : array-like of shape (m,) or None, default=None
        Numbers to write above the kernels.

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
    >>> from sklearn_calm.plotting import ResponsibilityDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> features = ConvGMMFeatures(8, patch_size=3, random_state=0).fit(X)
    >>> display = ResponsibilityDisplay.from_estimator(features, X[:2], components=[0, 4, 5])
    >>> display.responsibilities.shape
    (2, 8, 8, 3)
    >>> display.extent
    (-0.5, 7.5, 7.5, -0.5)
    """

    ax_: Axes
    figure_: Any  # a Figure, or the SubFigure of the Axes given

    def __init__(
        self,
        images: ArrayLike,
        responsibilities: ArrayLike,
        kernels: ArrayLike,
        *,
        extent: tuple[float, float, float, float],
        components: ArrayLike | None = None,
    ) -> None:
        self.images: Any = images
        self.responsibilities: Any = responsibilities
        self.kernels: Any = kernels
        self.extent = extent
        self.components: Any = components

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        components: int | ArrayLike | None = 6,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw where a fitted estimator finds its components.

        Parameters
        ----------
        estimator : estimator
            A fitted `ConvGMMFeatures`; or a fitted pipeline, feature union, column transformer or
            search that holds exactly one. It is not changed.
        X : array-like of shape (n, height, width[, n_channels]) or (n, n_features)
            A few images of the shape that was fitted; all are drawn. A pipeline takes them as its
            own `transform` does, and its steps before the `ConvGMMFeatures` are applied first.
        components : int, array-like of int or None, default=6
            Which components to draw: an int is how many, beginning with those that are responsible
            for most of the images; an array holds their indices; None draws all.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **options : dict
            Passed to `plot`. `shared_scale` is True by default if contrast is not normalised.

        Returns
        -------
        display : ResponsibilityDisplay
            The display, drawn.
        """
        features, X, images = features_and_images(estimator, X)
        options = {"shared_scale": features.contrast_floor_ is None, **options}
        geometry = images.geometry
        maps = _responsibilities(features, X, geometry)
        chosen = choose(components, maps.sum(axis=(0, 1, 2)))
        return cls(
            images.X.reshape(-1, *geometry.image_shape),
            maps[..., chosen],
            to_numpy(features.means_)[chosen],
            extent=map_extent(geometry),
            components=chosen,
        ).plot(ax=ax, **options)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        shared_scale: bool = False,
        color: ColorType = TINT,
        cmap: str | Colormap = "gray",
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        shared_scale : bool, default=False
            Whether kernels are drawn on the scale of the images, rather than on one each.
        color : matplotlib color, default="#ff00c8"
            Colour of responsibilities.
        cmap : str or matplotlib Colormap, default="gray"
            Colour map of images and kernels drawn in grey.

        Returns
        -------
        self : ResponsibilityDisplay
            The display, drawn.
        """
        images, kernels = to_numpy(self.images), to_numpy(self.kernels)
        bounds = limits(images)
        images = scaled(images, bounds)
        kernels = scaled(kernels, bounds) if shared_scale else stretched(kernels)
        maps = np.clip(to_numpy(self.responsibilities), 0, 1)
        (height, width), picture, overlay = panel_boxes(images, self.extent)
        n, m = maps.shape[0], maps.shape[3]
        header = 0.75 * min(height, width)
        self.ax_ = canvas(ax, header + n * height, (m + 1) * width, images)
        for j, kernel in enumerate(kernels, start=1):
            draw_within(self.ax_, kernel, (j * width, 0, width, 0.9 * header), cmap)
        backdrops = images if are_signals(images) else DIMMED * images.mean(axis=3, keepdims=True)
        for i, j in np.ndindex(n, m + 1):
            left, top = j * width, header + i * height
            draw(self.ax_, backdrops[i] if j else images[i], moved(picture, left, top), cmap)
            if j:
                draw_tint(self.ax_, maps[i, :, :, j - 1], moved(overlay, left, top), color)
        if not are_signals(images):
            draw_gaps(self.ax_, (0, header), (n, m + 1), (height, width))
        label(self.ax_.xaxis, (np.arange(1, m + 1) + 0.5) * width, self.components, width)
        self.figure_ = self.ax_.figure
        return self


def panel_boxes(images, extent):
    """Shape of a panel, and the boxes of image and map in it; both begin at its corner."""
    (height, width), (left, right, bottom, top) = tile_shape(images), extent
    # With padding, positions can lie outside of the image.
    x0, x1 = min(left, -0.5), max(right, width - 0.5)
    y0, y1 = min(top, -0.5), max(bottom, height - 0.5)
    if are_signals(images):
        y0, y1, top, bottom = -0.5, height - 0.5, -0.5, height - 0.5
    picture = (-0.5 - x0, -0.5 - y0, width, height)
    return (y1 - y0, x1 - x0), picture, (left - x0, top - y0, right - left, bottom - top)


def _responsibilities(features, X, geometry):
    """Responsibilities of all components at all positions: (n, rows, columns, K)."""
    # A deep copy: a shallow one shares the setting of its output.
    mapped = copy.deepcopy(features).set_output(transform="default")
    mapped.set_params(pooling=None, pool_contrast=0, polarity="positive", pool_symmetry="region")
    maps = to_numpy(mapped.transform(X)).swapaxes(0, 1)
    missing = np.isnan(maps[..., 0])
    used = 1.0 - missing if missing.any() else None
    maps = np.nan_to_num(maps)
    cells = model_at(features, geometry).cells
    return responsibilities(maps, cells, used).swapaxes(0, 1)


def map_extent(geometry):
    """Area that a map covers, in pixels of the unpadded image, for imshow.

    Each position covers one step around the centre of its patch.
    """
    sides = zip(geometry.reach, geometry.stride, geometry.padding_before, strict=True)
    top, left = ((reach - 1) / 2 - padding - step / 2 for reach, step, padding in sides)
    n_rows, n_columns = geometry.map_shape
    return left, left + n_columns * geometry.stride[1], top + n_rows * geometry.stride[0], top
