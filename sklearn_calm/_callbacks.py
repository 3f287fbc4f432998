"""An observer that tells the callbacks of scikit-learn of the tasks of a fit.

fit                     below it "start", where there are several; else the tasks of its start
    start
        stepwise stage  below it "step"
        pass
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sklearn_calm._mixture.history import Observer
from sklearn_calm._sklearn import callback_context


@dataclass(frozen=True)
class FitTask(Observer):
    """A task of a fit, of which callbacks are told.

    Parameters
    ----------
    context : sklearn.callback.CallbackContext or NoContext
    told : dict
        What callbacks are told of every task: estimator, X, y, metadata.
    n_starts, n_tasks : int
        Number of starts of the fit, and maximum number of tasks of a start.
    attributes : callable or None
        Makes the fitted attributes out of a `MixtureFit`, for callbacks that ask for a fitted
        copy; it is called for those alone.
    """

    context: Any
    told: dict
    n_starts: int = 1
    n_tasks: int = 0
    attributes: Callable | None = None

    def begin(self, name, n_tasks=0):
        if name == "start":
            if self.n_starts == 1:
                return OnlyStart(self)
            n_tasks = self.n_tasks
        context = self.context.subcontext(task_name=name, max_subtasks=n_tasks)
        context.call_on_fit_task_begin(**self.told)
        return replace(self, context=context)

    def end(self, fit=None):
        attributes = None
        if fit is not None and self.attributes is not None:
            attributes = partial(self.attributes, fit)
        return self.context.call_on_fit_task_end(**self.told, reconstruction_attributes=attributes)

    def with_attributes(self, attributes):
        """The same task, which tells callbacks of fitted copies."""
        return replace(self, attributes=attributes)


class OnlyStart(Observer):
    """The only start of a fit, whose tasks are told as those of the fit itself."""

    def __init__(self, fit_task):
        self.fit_task = fit_task

    def begin(self, name, n_tasks=0):
        return self.fit_task.begin(name, n_tasks)


def begin_fit(estimator, X, y, sample_weight, n_starts, n_tasks):
    """Set up the callbacks of the estimator and tell them of the whole fit."""
    context = callback_context(estimator, n_tasks if n_starts == 1 else n_starts)
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    told = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
    context.call_on_fit_task_begin(**told)
    return FitTask(context, told, n_starts, n_tasks)
