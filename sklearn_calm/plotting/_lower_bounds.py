"""The objective over the passes of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sklearn_calm.plotting._canvas import figure_axes
from sklearn_calm.plotting._estimators import find_features

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from sklearn.base import BaseEstimator


class LowerBoundDisplay:
    """The objective over the passes of a fit.

    Parameters
    ----------
    lower_bounds : list of float
        Mean log-likelihood per image that each pass found, as in `lower_bounds_`.

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
    >>> from sklearn_calm.plotting import LowerBoundDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> features = ConvGMMFeatures(8, max_iter=5, tol=0, random_state=0).fit(X)
    >>> display = LowerBoundDisplay.from_estimator(features)
    >>> len(display.lower_bounds)
    5
    """

    ax_: Axes
    figure_: Any  # a Figure, or the SubFigure of the Axes given

    def __init__(self, lower_bounds: Sequence[float]) -> None:
        self.lower_bounds = lower_bounds

    @classmethod
    def from_estimator(
        cls, estimator: BaseEstimator, *, ax: Axes | None = None, **options: Any
    ) -> Self:
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted `ConvGMMFeatures`; or a fitted pipeline, feature union, column transformer or
            search that holds exactly one.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : LowerBoundDisplay
            The display, drawn.
        """
        return cls(find_features(estimator).lower_bounds_).plot(ax=ax, **options)

    def plot(self, ax: Axes | None = None, **line: Any) -> Self:
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
        self.ax_ = figure_axes(ax, figsize=(5, 3.2))
        passes = np.arange(1, len(self.lower_bounds) + 1)
        self.ax_.plot(passes, self.lower_bounds, **{"marker": ".", **line})
        self.ax_.set(xlabel="pass", ylabel="log-likelihood per image (nats)")
        self.ax_.locator_params(axis="x", integer=True)
        self.ax_.spines[["top", "right"]].set_visible(False)
        self.ax_.grid(alpha=0.3)
        self.figure_ = self.ax_.figure
        return self
