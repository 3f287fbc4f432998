"""Which components of a fitted estimator to draw."""

import numbers

import numpy as np


def choose(components, heaviness):
    """Indices of the components to draw: those given, or as many of the heaviest as asked for."""
    n = len(heaviness)
    if components is None:
        components = n
    if isinstance(components, numbers.Integral) and components >= 1:
        return np.argsort(-np.asarray(heaviness), kind="stable")[:components]
    chosen = np.asarray(components)
    if (
        chosen.ndim != 1
        or chosen.dtype.kind not in "iu"
        or not len(chosen)
        or chosen.min() < 0
        or chosen.max() >= n
    ):
        raise ValueError(
            f"components={components!r}: expected how many to draw, an int of 1 or more; or a list "
            f"of their indices, from 0 to {n - 1}; or None for all."
        )
    return chosen
