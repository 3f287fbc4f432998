"""Groups of transformations under which kernels are tied: mirror images, quarter turns, signs.

A transformation moves the values of a patch to other places, and may change all signs. So it is an
orthogonal matrix, and its inverse is its transpose (docs/mathematics.rst, eqs. 33, 34, 37 to 39).
"""

import math
from itertools import product
from typing import NamedTuple

import numpy as np

# Names of the generators, and the number of transformations that each makes by itself.
ORDERS = {"mirror": 2, "rotation": 4, "sign": 2}


class Symmetry(NamedTuple):
    """A group of transformations of arrays of one shape; without names, the identity alone.

    Transformation g turns an array by 90 degrees counterclockwise, g modulo 4 times. In the second
    half, arrays are mirrored left to right before they are turned. With signs, the transformations
    follow once more, negated.
    """

    names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()  # of the arrays: (rows, columns, channels)

    @property
    def order(self):
        """Number of transformations."""
        return math.prod(ORDERS[name] for name in self.names)

    @property
    def _elements(self):
        """The sign, whether to mirror, and the number of quarter turns of each transformation."""
        signs = (1.0, -1.0) if "sign" in self.names else (1.0,)
        mirrored = (False, True) if "mirror" in self.names else (False,)
        return list(product(signs, mirrored, range(4 if "rotation" in self.names else 1)))

    @property
    def signs(self):
        """The sign of each transformation: (order,)."""
        return np.asarray([sign for sign, _, _ in self._elements])

    @property
    def permutations(self):
        """Where each value of a transformed array comes from: (order, D)."""
        places = np.arange(math.prod(self.shape)).reshape(self.shape)
        return np.stack(
            [
                np.rot90(places[:, ::-1] if mirrored else places, turns).ravel()
                for _, mirrored, turns in self._elements
            ]
        )

    @property
    def inverses(self):
        """Where each value comes from when a transformation is undone: (order, D)."""
        return np.argsort(self.permutations, axis=1)

    def expand(self, vectors):
        """Vectors (K, D) under all transformations: (K * order, D), those of a vector together."""
        if self.order == 1:
            return vectors
        expanded = self.signs[:, None] * vectors[:, self.permutations]
        return expanded.reshape(-1, vectors.shape[1])

    def fold(self, sums):
        """Bring sums (K * order, D) back from the transformations and add them up: (K, D)."""
        if self.order == 1:
            return sums
        sums = sums.reshape(-1, self.order, sums.shape[1])
        undone = zip(self.signs, self.inverses, strict=True)
        return sum(sign * sums[:, g, places] for g, (sign, places) in enumerate(undone))

    def canonical(self, vectors):
        """One vector (m, D) for all that transformations turn into one another.

        It is the transformed vector whose product with a fixed direction is largest.
        """
        if self.order == 1:
            return vectors
        direction = np.random.RandomState(0).standard_normal((1, vectors.shape[1]))
        turned = self.expand(direction).astype(vectors.dtype)
        best = (vectors @ turned.T).argmax(axis=1)
        chosen = np.empty_like(vectors)
        for g, (sign, places) in enumerate(zip(self.signs, self.inverses, strict=True)):
            rows = np.flatnonzero(best == g)
            chosen[rows] = float(sign) * vectors[rows[:, None], places]
        return chosen


NO_SYMMETRY = Symmetry()
