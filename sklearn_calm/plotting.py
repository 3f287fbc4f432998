"""Displays of what was learned. They need matplotlib: ``pip install "sklearn-calm[plot]"``."""

import math

import numpy as np
from sklearn.utils.validation import check_is_fitted

__all__ = ["KernelDisplay", "LowerBoundDisplay"]


class KernelDisplay:
    """Learned kernels as a grid of small pictures.

    Parameters
    ----------
    kernels : ndarray of shape (n_kernels, height, width, n_channels)
        With three channels they are drawn in colour, else as the mean over channels.

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
    >>> display = KernelDisplay.from_estimator(features)  # doctest: +SKIP
    """

    def __init__(self, kernels):
        self.kernels = kernels

    @classmethod
    def from_estimator(cls, estimator, *, n_kernels=None, ax=None, **options):
        """Draw the kernels of a fitted estimator, the heaviest first.

        Parameters
        ----------
        estimator : ConvGMMFeatures
            A fitted estimator.
        n_kernels : int or None, default=None
            How many to draw; None is all.
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
        order = np.argsort(-estimator.weights_, kind="stable")[:n_kernels]
        return cls(estimator.means_[order]).plot(ax=ax, **options)

    def plot(self, ax=None, *, shared_scale=False, n_columns=None, cmap="gray"):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        shared_scale : bool, default=False
            Whether all kernels share one scale of contrast, rather than one each.
        n_columns : int or None, default=None
            Kernels in a row; None makes the grid about square.
        cmap : str or matplotlib Colormap, default="gray"
            Colours of kernels of one channel.

        Returns
        -------
        self : KernelDisplay
            The display, drawn.
        """
        kernels = self.kernels
        if kernels.shape[3] != 3:
            kernels = kernels.mean(axis=3, keepdims=True)
        axes = None if shared_scale else (1, 2, 3)
        low, high = kernels.min(axis=axes, keepdims=True), kernels.max(axis=axes, keepdims=True)
        kernels = (kernels - low) / np.where(high > low, high - low, 1)
        mosaic = _mosaic(kernels, n_columns or math.ceil(math.sqrt(len(kernels))))
        self.ax_ = _axes(ax, figsize=(5, 5 * mosaic.shape[0] / mosaic.shape[1]))
        self.ax_.imshow(mosaic.squeeze(), cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
        self.ax_.set_axis_off()
        self.figure_ = self.ax_.figure
        return self


class LowerBoundDisplay:
    """The objective over the passes of a fit.

    Parameters
    ----------
    lower_bounds : list of float
        Mean log-likelihood per image after each pass.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes drawn on.
    figure_ : matplotlib Figure
        Figure drawn on.
    """

    def __init__(self, lower_bounds):
        self.lower_bounds = lower_bounds

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, **options):
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : ConvGMMFeatures
            A fitted estimator.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : LowerBoundDisplay
            The display, drawn.
        """
        check_is_fitted(estimator)
        return cls(estimator.lower_bounds_).plot(ax=ax, **options)

    def plot(self, ax=None, **line):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **line : dict
            Passed to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        self : LowerBoundDisplay
            The display, drawn.
        """
        self.ax_ = _axes(ax, figsize=(5, 3.2))
        passes = np.arange(1, len(self.lower_bounds) + 1)
        self.ax_.plot(passes, self.lower_bounds, **{"marker": ".", **line})
        self.ax_.set(xlabel="pass", ylabel="log-likelihood per image (nats)")
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        self.ax_.spines[["top", "right"]].set_visible(False)
        self.ax_.grid(alpha=0.3)
        self.figure_ = self.ax_.figure
        return self


def _mosaic(tiles, n_columns):
    """Tiles (n, height, width, channels) side by side, enlarged, with thin grey lines between."""
    zoom = max(1, round(48 / max(tiles.shape[1:3])))
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    n, height, width, channels = tiles.shape
    n_rows, gap = math.ceil(n / n_columns), 3
    grid = np.full((n_rows * n_columns, height + gap, width + gap, channels), 0.6)
    grid[:n, :height, :width] = tiles
    grid[n:] = 1
    grid = grid.reshape(n_rows, n_columns, height + gap, width + gap, channels).swapaxes(1, 2)
    return grid.reshape(n_rows * (height + gap), -1, channels)[:-gap, :-gap]


def _axes(ax, figsize):
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "Displays need matplotlib, which is not installed. Install it with: "
            'pip install "sklearn-calm[plot]"'
        ) from error
    return pyplot.subplots(figsize=figsize, layout="constrained")[1]
