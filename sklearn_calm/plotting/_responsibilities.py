"""Where in images components are found."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm.plotting._canvas import (
    MARK,
    canvas,
    draw,
    draw_gaps,
    draw_tint,
    draw_within,
    label,
    moved,
)
from sklearn_calm.plotting._components import choose
from sklearn_calm.plotting._pictures import are_signals, limits, scaled, stretched, tile_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.typing import ColorType

    from sklearn_calm._conv_gmm import ConvGMMFeatures

# Brightness of an image under colour.
DIMMED = 0.6


class ResponsibilityDisplay:
    """Where in images components are found: responsibilities, laid over the images.

    One row an image: the image, then the responsibilities of one component after the other over
    its greys, each under its kernel. The more a component is responsible for a patch, the stronger
    the colour at the centre of the patch.

    Parameters
    ----------
    images : array-like of shape (n, height, width, n_channels)
        Integers of 8 bits are drawn from 0 to 255, all else from the least to the greatest value.
    responsibilities : array-like of shape (n, rows, columns, m)
        Of m components at all positions of patches, between 0 and 1.
    kernels : array-like of shape (m, kernel height, kernel width, n_channels)
        Their kernels.
    extent : tuple (left, right, bottom, top)
        What the maps cover, in pixels of the image, the first of which has its centre at 0.
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
    (2, 6, 6, 3)
    >>> display.extent
    (0.5, 6.5, 6.5, 0.5)
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
        estimator: ConvGMMFeatures,
        X: ArrayLike,
        *,
        components: int | ArrayLike | None = 6,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw where a fitted estimator finds its components.

        Parameters
        ----------
        estimator : ConvGMMFeatures
            A fitted estimator. It is not changed.
        X : array-like of shape (n, height, width[, n_channels]) or (n, n_features)
            A few images of the shape that was fitted; all are drawn.
        components : int, array-like of int or None, default=6
            Which to draw: an int is how many, those responsible for most of the images; an array
            their indices; None all.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **options : dict
            Passed to `plot`. Where contrast is not normalised, `shared_scale` is True unless given.

        Returns
        -------
        display : ResponsibilityDisplay
            The display, drawn.
        """
        check_is_fitted(estimator)
        options = {"shared_scale": estimator.contrast_floor_ is None, **options}
        geometry = estimator._model.geometry
        maps = _responsibilities(estimator, X, geometry.map_shape)
        chosen = choose(components, maps.sum(axis=(0, 1, 2)))
        return cls(
            to_numpy(X).reshape(-1, *geometry.image_shape),
            maps[..., chosen],
            to_numpy(estimator.means_)[chosen],
            extent=_map_extent(geometry),
            components=chosen,
        ).plot(ax=ax, **options)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        shared_scale: bool = False,
        color: ColorType = MARK,
        cmap: str | Colormap = "gray",
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        shared_scale : bool, default=False
            Whether kernels are drawn on the scale of the images, rather than one each.
        color : matplotlib color, default="#ff7a00"
            Colour of responsibilities.
        cmap : str or matplotlib Colormap, default="gray"
            Colours of images and kernels of one channel.

        Returns
        -------
        self : ResponsibilityDisplay
            The display, drawn.
        """
        bounds = limits(self.images)
        images = scaled(self.images, bounds)
        kernels = scaled(self.kernels, bounds) if shared_scale else stretched(self.kernels)
        maps = np.clip(self.responsibilities, 0, 1)
        (height, width), picture, overlay = self._boxes(images)
        n, m = maps.shape[0], maps.shape[3]
        header = 0.75 * min(height, width)
        self.ax_ = canvas(ax, header + n * height, (m + 1) * width)
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
        label(self.ax_.xaxis, (np.arange(1, m + 1) + 0.5) * width, self.components)
        self.figure_ = self.ax_.figure
        return self

    def _boxes(self, images):
        """Shape of a panel, and the boxes of image and map in it; both begin at its corner."""
        (height, width), (left, right, bottom, top) = tile_shape(images), self.extent
        # Padding can carry positions out of the image.
        x0, x1 = min(left, -0.5), max(right, width - 0.5)
        y0, y1 = min(top, -0.5), max(bottom, height - 0.5)
        if are_signals(images):
            y0, y1, top, bottom = -0.5, height - 0.5, -0.5, height - 0.5
        picture = (-0.5 - x0, -0.5 - y0, width, height)
        return (y1 - y0, x1 - x0), picture, (left - x0, top - y0, right - left, bottom - top)


def _responsibilities(estimator, X, map_shape):
    """Responsibilities of all components at all positions: (n, rows, columns, K)."""
    # Their mean over a region of one position is what they are there.
    other = copy.deepcopy(estimator).set_params(pooling="mean", pool_grid=map_shape)
    columns = to_numpy(other.set_output(transform="default").transform(X))
    return columns.reshape(len(columns), *map_shape, -1)


def _map_extent(geometry):
    """Find what a map covers, in pixels of the unpadded image, for imshow.

    Each position covers a step about the centre of its patch.
    """
    sides = zip(geometry.patch_size, geometry.stride, geometry.padding, strict=True)
    top, left = ((patch - 1) / 2 - padding - step / 2 for patch, step, padding in sides)
    n_rows, n_columns = geometry.map_shape
    return left, left + n_columns * geometry.stride[1], top + n_rows * geometry.stride[0], top
