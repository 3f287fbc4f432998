"""Memory that is used again for every batch.

A fresh array of some megabytes costs a page fault for each of its pages, about a third of the time
of an E-step. Each thread has memory of its own. All of it is freed with the object.
"""

import math
import threading

import numpy as np

from sklearn_calm._arrays.namespace import empty


class Scratch:
    """Named arrays, one for each name and thread, which the next request overwrites."""

    def __init__(self):
        self._local = threading.local()

    def empty(self, name, shape, x):
        """An uninitialised array like x, good until this thread asks for the same name again."""
        if not isinstance(x, np.ndarray):
            return empty(shape, x)  # other libraries keep freed memory for the next array
        size = math.prod(shape)
        kept = getattr(self._local, name, None)
        if kept is None or kept.size < size or kept.dtype != x.dtype:
            kept = np.empty(size, x.dtype)
            setattr(self._local, name, kept)
        return kept[:size].reshape(shape)

    def __reduce__(self):
        return Scratch, ()  # a worker process starts with its own
