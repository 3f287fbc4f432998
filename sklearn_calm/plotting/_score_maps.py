"""Where images are unusual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm._inference import model_at
from sklearn_calm.plotting._canvas import TINT, canvas, draw, draw_gaps, draw_tint, moved
from sklearn_calm.plotting._estimators import features_and_images
from sklearn_calm.plotting._pictures import are_signals, limits, scaled
from sklearn_calm.plotting._responsibilities import DIMMED, map_extent, panel_boxes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.typing import ColorType
    from sklearn.base import BaseEstimator


class ScoreMapDisplay:
    """Where images are unusual: their score maps, drawn over the images.

    Each row shows one image: first the image itself, then a grey copy, with a colour that is the
    stronger, the less likely the patch around a position is.

    Parameters
    ----------
    images : array-like of shape (n, height, width, n_channels)
        Images of any real dtype. The range of brightness is 0 to 255 for uint8, otherwise from the
        least value to the greatest.
    score_map : array-like of shape (n, rows, columns)
        Log-likelihood of each position.
    extent : tuple (left, right, bottom, top)
        Area that the maps cover, in pixels of the image. The centre of the first pixel is 0.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes drawn on.
    figure_ : matplotlib Figure
        Figure drawn on.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_calm import ConvGMMFeatures
    >>> from sklearn_calm.plotting import ScoreMapDisplay
    >>> X = np.random.default_rng(0).normal(size=(20, 16, 16))
    >>> features = ConvGMMFeatures(4, padding="same", normalize=None, random_state=0).fit(X)
    >>> X[0, 5, 8] += 10
    >>> display = ScoreMapDisplay.from_estimator(features, X[:2])
    >>> display.score_map.shape
    (2, 16, 16)
    """

    ax_: Axes
    figure_: Any  # a Figure, or the SubFigure of the Axes given

    def __init__(
        self,
        images: ArrayLike,
        score_map: ArrayLike,
        *,
        extent: tuple[float, float, float, float],
    ) -> None:
        self.images: Any = images
        self.score_map: Any = score_map
        self.extent = extent

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw where images are unusual to a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted `ConvGMMFeatures`; or a fitted pipeline, feature union, column transformer or
            search that holds exactly one. It is not changed.
        X : array-like of shape (n, height, width[, n_channels]) or (n, n_features)
            A few images of the shape that was fitted; all are drawn. A pipeline takes them as its
            own `transform` does, and its steps before the `ConvGMMFeatures` are applied first.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : ScoreMapDisplay
            The display, drawn. If cells have several positions, each position has an even share of
            the log-likelihood of its cell.
        """
        features, X, images = features_and_images(estimator, X)
        cells = model_at(features, images.geometry).cells
        of_cells = to_numpy(features.score_map(X)) / cells.sizes
        return cls(
            images.X.reshape(-1, *images.geometry.image_shape),
            cells.spread(of_cells.swapaxes(0, 1)).swapaxes(0, 1),
            extent=map_extent(images.geometry),
        ).plot(ax=ax, **options)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        vmin: float | None = None,
        vmax: float | None = None,
        color: ColorType = TINT,
        cmap: str | Colormap = "gray",
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        vmin : float or None, default=None
            Log-likelihood at and below which the colour is full. None is the least of all maps.
        vmax : float or None, default=None
            Log-likelihood at and above which there is no colour. None is the median of all maps.
        color : matplotlib color, default="#ff00c8"
            Colour of unusual places.
        cmap : str or matplotlib Colormap, default="gray"
            Colour map of images drawn in grey.

        Returns
        -------
        self : ScoreMapDisplay
            The display, drawn.
        """
        images, maps = to_numpy(self.images), np.asarray(to_numpy(self.score_map), float)
        images = scaled(images, limits(images))
        known = maps[~np.isnan(maps)]
        known = known if known.size else np.zeros(1)
        low = known.min() if vmin is None else vmin
        high = np.median(known) if vmax is None else vmax
        strengths = np.clip((high - maps) / (high - low if high > low else 1), 0, 1)
        strengths[np.isnan(maps)] = 0  # where too much is missing there is nothing to tell
        (height, width), picture, overlay = panel_boxes(images, self.extent)
        self.ax_ = canvas(ax, len(maps) * height, 2 * width, images)
        backdrops = images if are_signals(images) else DIMMED * images.mean(axis=3, keepdims=True)
        for i, (image, backdrop) in enumerate(zip(images, backdrops, strict=True)):
            draw(self.ax_, image, moved(picture, 0, i * height), cmap)
            draw(self.ax_, backdrop, moved(picture, width, i * height), cmap)
            draw_tint(self.ax_, strengths[i], moved(overlay, width, i * height), color)
        if not are_signals(images):
            draw_gaps(self.ax_, (0, 0), (len(maps), 2), (height, width))
        self.figure_ = self.ax_.figure
        return self
