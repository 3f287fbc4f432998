"""Lines of progress that `verbose` prints."""

import time

from sklearn_calm._mixture.history import Observer


class Printer(Observer):
    """Prints a line for each task that ends, and passes all that it sees on to another observer.

    Parameters
    ----------
    observer : Observer
    task : str
        Name of the task that is observed.
    """

    def __init__(self, observer, task="fit"):
        self.observer = observer
        self.task = task
        self.n_begun = 0
        self.started = time.perf_counter()

    def begin(self, name, n_tasks=0):
        self.n_begun += 1
        printer = Printer(self.observer.begin(name, n_tasks), name)
        if name == "pass":
            printer.started = self.started
        return printer

    def end(self, fit=None):
        stop = self.observer.end(fit)
        line = self._line(fit)
        if line:
            print_line(line, self.started)
        return stop

    def _line(self, fit):
        if self.task == "stepwise stage":
            return f"stepwise stage: {self.n_begun} steps"
        if self.task == "pass":
            return pass_line(fit.history)
        return end_line(fit.history) if self.task == "start" else None


def print_line(line, started):
    """Print a line, with the seconds since the start."""
    print(f"[ConvGMMFeatures] {line}, {time.perf_counter() - started:.1f} s")


def tell_tenths(results, name, n):
    """Pass n results on as they come, and print a line for each tenth of them."""
    started, n_told = time.perf_counter(), 0
    for i, result in enumerate(results, start=1):
        yield result
        if 10 * i // n > n_told:
            n_told = 10 * i // n
            print_line(f"{name} {i}/{n}", started)


def pass_line(history):
    """The objective of the last pass, and the gain that `tol` is compared with."""
    gain = "" if history.n_iter == 1 else f", gain per cell {history.gain:.3g}"
    return (
        f"pass {history.n_iter}/{history.max_iter}: "
        f"log-likelihood per image {history.lower_bounds[-1]:.6g}{gain}"
    )


def end_line(history):
    """Why the passes of a start ended."""
    passes = f"after {history.n_iter} pass{'es' if history.n_iter > 1 else ''}"
    if history.stopped:
        return f"stopped by a callback {passes}"
    if history.converged:
        return f"converged {passes}: gain per cell below tol={history.tol:g}"
    return f"stopped {passes}: max_iter={history.max_iter}"
