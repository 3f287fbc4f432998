"""The history of a run of EM, and who watches it."""

import math
from typing import Any, Self


class History:
    """Records the objective of each pass of one run of EM, and tells when it stands still.

    Parameters
    ----------
    tol : float
        A pass that gains less than this, in nats per cell, is the last; 0 never stops.
    max_iter : int
        Maximum number of passes.
    cells_per_image : int
        The objective is a mean over images; `tol` is per cell, which is what a sample is to the
        mixture.
    scale : float
        Factor that turns a recorded objective into one per image.
    """

    def __init__(self, tol, max_iter, cells_per_image, scale=1.0):
        self.tol = tol
        self.max_iter = max_iter
        self.cells_per_image = cells_per_image
        self.scale = scale
        self.lower_bounds = []
        self.stopped = False  # by an observer

    def record(self, lower_bound):
        """Record the objective of a pass."""
        self.lower_bounds.append(float(lower_bound * self.scale))

    @property
    def n_iter(self):
        return len(self.lower_bounds)

    @property
    def gain(self):
        """What the last pass gained, in nats per cell; infinite for the first pass."""
        if self.n_iter < 2:
            return math.inf
        return (self.lower_bounds[-1] - self.lower_bounds[-2]) / self.cells_per_image

    @property
    def converged(self):
        return self.tol > 0 and self.gain < self.tol

    @property
    def exhausted(self):
        return self.n_iter >= self.max_iter


class Observer:
    """Sees the tasks of a fit begin and end, and may ask to stop. This one does neither.

    The tasks are "start" (one for each start), below it "stepwise stage" with its tasks "step", and
    "pass".
    """

    def begin(self, name: str, n_tasks: int = 0) -> Self:
        """Return the observer of a task that begins, which has at most `n_tasks` tasks itself."""
        return self

    def end(self, fit: Any = None) -> bool:
        """Return whether the level of the task that ends shall stop."""
        return False


SILENT = Observer()
