"""Learned kernels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm.plotting._canvas import canvas, draw_grid
from sklearn_calm.plotting._components import choose
from sklearn_calm.plotting._pictures import limits, scaled, stretched, tile_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from sklearn_calm._conv_gmm import ConvGMMFeatures


class KernelDisplay:
    """Learned kernels as a grid of small pictures.

    Parameters
    ----------
    kernels : array-like of shape (n_kernels, height, width, n_channels)
        With three channels they are drawn in colour, else as the mean over channels; those of
        signals, of height or width 1, as lines, one a channel.

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
    >>> from sklearn_calm.plotting import KernelDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> features = ConvGMMFeatures(8, patch_size=5, random_state=0).fit(X)
    >>> display = KernelDisplay.from_estimator(features, n_columns=4)
    >>> display.kernels.shape
    (8, 5, 5, 1)
    >>> display.figure_.savefig("kernels.png")  # doctest: +SKIP
    """

    ax_: Axes
    figure_: Any  # a Figure, or the SubFigure of the Axes given

    def __init__(self, kernels: ArrayLike) -> None:
        self.kernels: Any = kernels

    @classmethod
    def from_estimator(
        cls,
        estimator: ConvGMMFeatures,
        *,
        components: int | ArrayLike | None = None,
        sort: bool = True,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw the kernels of a fitted estimator.

        Parameters
        ----------
        estimator : ConvGMMFeatures
            A fitted estimator.
        components : int, array-like of int or None, default=None
            Which to draw: an int is how many, an array their indices, None all.
        sort : bool, default=True
            Whether the heaviest come first, by `weights_`; False keeps the order of `means_`. An
            array of indices is drawn in its own order.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : KernelDisplay
            The display, drawn.
        """
        check_is_fitted(estimator)
        weights = to_numpy(estimator.weights_)
        chosen = choose(components, weights if sort else np.zeros(len(weights)))
        return cls(to_numpy(estimator.means_)[chosen]).plot(ax=ax, **options)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        shared_scale: bool = False,
        n_columns: int | None = None,
        cmap: str | Colormap = "gray",
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        shared_scale : bool, default=False
            Whether all kernels share one scale of contrast, rather than one each. Kernels that are
            all but flat are drawn flat in either.
        n_columns : int or None, default=None
            Kernels in a row; None makes the grid about square.
        cmap : str or matplotlib Colormap, default="gray"
            Colours of kernels of one channel.

        Returns
        -------
        self : KernelDisplay
            The display, drawn.
        """
        kernels = np.asarray(self.kernels)
        kernels = scaled(kernels, limits(kernels)) if shared_scale else stretched(kernels)
        n_columns = n_columns or math.ceil(math.sqrt(len(kernels)))
        height, width = tile_shape(kernels)
        shape = math.ceil(len(kernels) / n_columns) * height, n_columns * width
        self.ax_ = canvas(ax, *shape)
        draw_grid(self.ax_, kernels, n_columns, cmap)
        self.figure_ = self.ax_.figure
        return self
