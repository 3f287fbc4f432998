"""When to stop: the history of the objective, tolerance, progress."""

import math
import time

from sklearn_calm._callbacks import UNTOLD


class ConvergenceMonitor:
    """Follows the objective over the passes of one EM run.

    Parameters
    ----------
    tol : float
        A pass that gains less than this, in nats per cell, is the last; 0 never stops.
    max_iter : int
    cells_per_image : int
        The objective is a mean over images; `tol` is per cell, which is what a sample is to the
        mixture.
    scale : float
        Turns the objective that is recorded into one per image.
    verbose : int
        Whether to print a line a pass, and one for the stepwise stage.
    task : FitTask
        What the passes are tasks of.
    """

    def __init__(self, tol, max_iter, cells_per_image, scale=1.0, verbose=0, task=UNTOLD):
        self.tol = tol
        self.max_iter = max_iter
        self.cells_per_image = cells_per_image
        self.scale = scale
        self.verbose = verbose
        self.task = task
        self.lower_bounds = []
        self.converged = False
        self.stopped = False  # by a callback
        self._started = time.perf_counter()

    @property
    def n_iter(self):
        return len(self.lower_bounds)

    @property
    def exhausted(self):
        return self.n_iter >= self.max_iter

    def record(self, lower_bound):
        """Note the objective of a pass."""
        lower_bound = float(lower_bound * self.scale)
        gain = lower_bound - self.lower_bounds[-1] if self.lower_bounds else math.inf
        self.lower_bounds.append(lower_bound)
        self.converged = self.tol > 0 and gain < self.tol * self.cells_per_image
        change = "" if self.n_iter == 1 else f" ({gain:+.4g})"
        self._print(
            f"pass {self.n_iter}/{self.max_iter}: "
            f"log-likelihood per image {lower_bound:.6g}{change}"
        )

    def tell_of_stage(self, n_steps):
        """Note that the stepwise stage is over."""
        self._print(f"stepwise stage: {n_steps} steps")

    def _print(self, line):
        if self.verbose:
            seconds = time.perf_counter() - self._started
            print(f"[ConvGMMFeatures] {line}, {seconds:.1f} s")
