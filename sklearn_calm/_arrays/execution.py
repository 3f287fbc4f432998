"""Map-reduce over batches, serially or with joblib workers.

Results are merged in the order of the batches, so that a sum is the same to the last bit for any
number of workers. BLAS uses one thread in each worker, since many small products side by side are
faster than one product shared by all cores.
"""

import contextlib
import os
import sys
import threading
from functools import reduce
from typing import NamedTuple

import threadpoolctl
from joblib import Parallel, delayed, effective_n_jobs
from threadpoolctl import ThreadpoolController

from sklearn_calm._arrays.scratch import Scratch


class _Blas:
    """The BLAS libraries of this process, and the contexts that limit them to one thread."""

    def __init__(self):
        self.lock = threading.Lock()
        # The open contexts. The first sets the limit, and the last to leave restores it.
        self.users = []
        self._controller = None
        self._n_modules = 0

    def controller(self):
        """The BLAS libraries that are loaded.

        The search takes milliseconds, so it is repeated only after an import of modules, which may
        have loaded others.
        """
        if self._controller is None and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forget_users)
        if self._n_modules != len(sys.modules):
            self._controller = ThreadpoolController().select(user_api="blas")
            self._n_modules = len(sys.modules)
        return self._controller

    def forget_users(self):
        """Start anew in a forked child, which lacks the threads that held the lock or a limit."""
        self.lock = threading.Lock()
        if self.users:
            _let_any_thread_set_limits()
            self.users[0].restore_original_limits()
            self.users.clear()


_blas = _Blas()


class Workers:
    """A pool of workers over batches.

    Parameters
    ----------
    n_jobs : int or None
        None takes as many threads as BLAS is set to use by itself, unless a
        `joblib.parallel_config` asks for more than one.
    """

    def __init__(self, n_jobs=None):
        self.n_jobs = count_workers(n_jobs)

    def map(self, function, batches):
        """Results of function(batch), in order, as they come."""
        with single_threaded_blas():
            if self.n_jobs == 1 or len(batches) == 1:
                yield from map(function, batches)
                return
            # Threads whatever `joblib.parallel_config` says: workers share arrays and memory.
            pool = Parallel(self.n_jobs, require="sharedmem", return_as="generator")
            yield from pool(delayed(function)(batch) for batch in batches)

    def map_reduce(self, function, batches, merge):
        """merge(... merge(function(first), function(second)) ...)."""
        return reduce(merge, self.map(function, batches))


class Execution(NamedTuple):
    """How batches are worked on."""

    workers: Workers
    batch_size: int
    scratch: Scratch


def count_workers(n_jobs):
    """Number of workers that `n_jobs` stands for."""
    workers = effective_n_jobs(n_jobs)
    if n_jobs is not None or workers > 1:
        return workers
    return max((library["num_threads"] for library in _blas.controller().info()), default=1)


@contextlib.contextmanager
def single_threaded_blas():
    """Limit BLAS to one thread until the last of overlapping contexts is left.

    The limit is a setting of the whole process. If each context restored the setting that it found,
    two fits in two Python threads that end in the order they began would leave the limit set.
    """
    with _blas.lock:
        if not _blas.users:
            _let_any_thread_set_limits()
            _blas.users.append(_blas.controller().limit(limits=1, user_api="blas"))
        else:
            _blas.users.append(None)
    try:
        yield
    finally:
        with _blas.lock:
            if len(_blas.users) > 1:
                _blas.users.pop()
            else:
                _let_any_thread_set_limits()
                _blas.users.pop().restore_original_limits()
                _let_any_thread_set_limits()


def _let_any_thread_set_limits():
    """Make threadpoolctl accept limits from any thread.

    From version 3.8 on, only the first thread that limits OpenBLAS may do so while it lives. Here,
    any thread may be the last to leave, and the next fit may begin in any thread.
    """
    controller = getattr(threadpoolctl, "OpenBLASController", None)
    if hasattr(controller, "clear_controlling_thread"):
        controller.clear_controlling_thread(force=True)
