"""Learned kernels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm.plotting._canvas import canvas, draw_grid, draw_numbers
from sklearn_calm.plotting._components import choose
from sklearn_calm.plotting._estimators import find_features
from sklearn_calm.plotting._pictures import limits, scaled, stretched, tile_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from sklearn.base import BaseEstimator


class KernelDisplay:
    """Learned kernels as a grid of small pictures.

    Parameters
    ----------
    kernels : array-like of shape (n_kernels, height, width, n_channels)
        Kernels of three channels are drawn in colour, others as the mean over channels. Those of
        signals, of height 1, are drawn as one line for each channel.
    components : array-like of shape (n_kernels,) or None, default=None
        Numbers to write on the kernels: those by which `components` of all displays chooses.

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

    def __init__(self, kernels: ArrayLike, *, components: ArrayLike | None = None) -> None:
        self.kernels: Any = kernels
        self.components: Any = components

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        *,
        components: int | ArrayLike | None = None,
        sort: bool = True,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw the kernels of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted `ConvGMMFeatures`; or a fitted pipeline, feature union, column transformer or
            search that holds exactly one.
        components : int, array-like of int or None, default=None
            Which kernels to draw: an int is how many, an array holds their indices, None draws
            all.
        sort : bool, default=True
            Whether the kernels with the largest `weights_` come first; False keeps the order of
            `means_`. An array of indices keeps its own order.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : KernelDisplay
            The display, drawn.
        """
        features = find_features(estimator)
        weights = to_numpy(features.weights_)
        chosen = choose(components, weights if sort else np.zeros(len(weights)))
        kernels = to_numpy(features.means_)[chosen]
        return cls(kernels, components=chosen).plot(ax=ax, **options)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        shared_scale: bool = False,
        n_columns: int | None = None,
        numbers: bool = True,
        cmap: str | Colormap = "gray",
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        shared_scale : bool, default=False
            Whether all kernels share one scale of brightness. By default each kernel has its own;
            nearly flat kernels still look flat, and colours always share one scale.
        n_columns : int or None, default=None
            Number of kernels in a row; None makes the grid about square.
        numbers : bool, default=True
            Whether to write the numbers in `components` on the kernels.
        cmap : str or matplotlib Colormap, default="gray"
            Colour map of kernels drawn in grey.

        Returns
        -------
        self : KernelDisplay
            The display, drawn.
        """
        kernels = to_numpy(self.kernels)
        kernels = scaled(kernels, limits(kernels)) if shared_scale else stretched(kernels)
        n_columns = n_columns or math.ceil(math.sqrt(len(kernels)))
        height, width = tile_shape(kernels)
        shape = math.ceil(len(kernels) / n_columns) * height, n_columns * width
        self.ax_ = canvas(ax, *shape, kernels)
        draw_grid(self.ax_, kernels, n_columns, cmap)
        if numbers:
            draw_numbers(self.ax_, self.components, n_columns, (height, width))
        self.figure_ = self.ax_.figure
        return self
