"""Bounds that carry over passes of EM, so that positions which cannot matter are not computed.

Between two passes kernels move a little, and so does the best score of a position: by no more than
the lengths of its patch and of the moves allow. Where that cannot lift it to within reach of the
best position of its cell, it has no share in the posterior, whatever its scores are
(docs/mathematics.rst, eq. 26).
"""

from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from sklearn_calm._convolution import fourier
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._convolution.patches import box_sums, correlate_at
from sklearn_calm._mixture.em import Posterior, collect, posterior
from sklearn_calm._mixture.model import log_joint

# A patch is cut into blocks, so many along each side: the lengths of blocks bound the inner product
# of two patches far better than those of the whole.
BLOCKS = 4
# Components that moved alike share a bound.
GROUPS = 16
# With more than this share of positions within reach, all are computed: copying costs time.
DENSE_ABOVE = 0.6
# Bounds are kept where they take no more memory than this, cells hold at least so many positions,
# and each position costs at least so many products.
MOST_BYTES = 2**28
LEAST_POSITIONS = 16
LEAST_PRODUCTS = 2**12
# For the rounding of scores, which is relative to the largest: so many nats, and so large a share.
SLACK = 0.1
SLACK_SHARE = 1e-5


class Moves(NamedTuple):
    """What bounds by how much the scores sigma^2 l(k, u) have risen since the last pass."""

    lengths: np.ndarray  # (groups, blocks), of the blocks of what sigma^2 A_k moved by
    offsets: np.ndarray  # (groups,), what sigma^2 b_k moved by


class ScoreBounds:
    """Upper bounds of sigma^2 max_k l(k, u) at every position, over the passes of one run of EM.

    They take four bytes a position.

    Parameters
    ----------
    n_images : int
    geometry : PatchGeometry
    """

    def __init__(self, n_images, geometry):
        self.geometry = geometry
        self.highest = np.empty((n_images, *geometry.map_shape), np.float32)
        self._scores = None  # kernels and offsets of the last pass

    def advance(self, layer, noise_variance):
        """Go on to the layer of the next pass; the moves to it, or None at the first."""
        old, self._scores = (
            self._scores,
            (noise_variance * layer.weight, noise_variance * layer.bias),
        )
        if old is None:
            return None
        kernels, offsets = (new - last for new, last in zip(self._scores, old, strict=True))
        moved = np.square(kernels).reshape(-1, *self.geometry.kernel_shape)
        starts = [block_starts(side) for side in self.geometry.patch_size]
        lengths = np.add.reduceat(np.add.reduceat(moved.sum(axis=3), starts[0], 1), starts[1], 2)
        return grouped(np.sqrt(lengths).reshape(len(moved), -1), offsets)


def grouped(lengths, offsets):
    """The moves of components, (K, blocks) and (K,), the largest of some that moved alike."""
    order = np.argsort(lengths.sum(axis=1), kind="stable")
    starts = np.unique(np.linspace(0, len(order), GROUPS, endpoint=False, dtype=int))
    return Moves(
        np.maximum.reduceat(lengths[order], starts, axis=0),
        np.maximum.reduceat(offsets[order], starts),
    )


def bounds_pay(images, model, n_components):
    """Whether bounds save time, and have room."""
    geometry = model.geometry
    return (
        not fourier.pays(geometry, n_components)
        and images.in_memory
        and images.placement.is_numpy
        and model.cells.sizes.min() >= LEAST_POSITIONS
        and geometry.patch_length * n_components >= LEAST_PRODUCTS
        and 4 * len(images) * geometry.n_positions <= MOST_BYTES
    )


def bounded_e_step(
    images, sample_weight, layer, model, highest, moves, noise_variance, *, scratch=None, **options
):
    """`e_step` of a batch, with bounds from the last pass.

    Parameters
    ----------
    images, sample_weight, layer, model, scratch, **options
        As for `e_step`.
    highest : ndarray of shape (n, rows, columns)
        Bounds of the last pass.
    moves : Moves or None
        None where there was no last pass: all positions are computed.
    noise_variance : float

    Returns
    -------
    statistics : SufficientStatistics
    highest : ndarray of shape (n, rows, columns)
        Bounds of this pass.
    """
    patches = layer.view(images, model, scratch)
    found, raised = None, None
    if moves is not None:
        lows = best_anew(highest, patches, layer, model.cells)
        raised = highest.transpose(1, 0, 2) + rises(patches, moves)
        found = _posterior_within_reach(
            raised, lows, patches, layer, model, sample_weight, noise_variance
        )
    if found is None:
        maps = log_joint(patches, layer, scratch)
        raised = noise_variance * maps.max(axis=-1)
        found = posterior(maps, model.cells, sample_weight, patches.sparse_below, scratch)
    statistics = collect(patches, found, images, sample_weight, model, **options)
    return statistics, raised.transpose(1, 0, 2)


def block_starts(side):
    """Where the blocks of a side of the patch start."""
    return list(range(0, side, -(-side // BLOCKS)))


def best_anew(highest, patches, layer, cells):
    """l where each cell was best in the last pass: (cell rows, n, cell columns)."""
    n, _, n_columns = highest.shape
    first = n_columns * np.arange(n)
    ys, rows = [], []
    for (top, bottom), (left, right) in product(
        pairwise(cells.row_edges), pairwise(cells.column_edges)
    ):
        best = highest[:, top:bottom, left:right].reshape(n, -1).argmax(axis=1)
        ys.append(top + best // (right - left))
        rows.append(first + left + best % (right - left))
    scores = correlate_at(
        patches, (np.concatenate(ys), np.concatenate(rows)), layer.weight, layer.bias
    )
    lows = scores.max(axis=1).reshape(len(cells.row_edges) - 1, -1, n)
    return lows.transpose(0, 2, 1)


def rises(patches, moves):
    """By how much sigma^2 max_k l(k, u) may have risen: (rows, n, columns)."""
    n_rows, n_columns = patches.geometry.map_shape
    lengths, offsets = (part.astype(patches.images.dtype) for part in moves)
    found = np.empty((n_rows, len(patches.images) * n_columns), lengths.dtype)
    for y, row in enumerate(np.moveaxis(block_lengths(patches), 2, 0)):
        rise = lengths @ row.reshape(lengths.shape[1], -1)
        if patches.deviation is not None:
            rise /= patches.deviation[y].ravel()
        rise += offsets[:, None]
        rise.max(axis=0, out=found[y])
    return found.reshape(n_rows, -1, n_columns)


def block_lengths(patches):
    """Lengths of blocks of raw patches: a view (block rows, block columns, rows, n, columns)."""
    images, geometry = patches.images, patches.geometry
    (n_rows, n_columns), (down, right) = geometry.map_shape, geometry.stride
    height, width = (-(-side // BLOCKS) for side in geometry.patch_size)
    counts = [len(block_starts(side)) for side in geometry.patch_size]
    # The last block of a side may reach beyond the patch, and beyond the image: a bound it remains.
    beyond = [
        (0, n * side - patch)
        for n, side, patch in zip(counts, (height, width), geometry.patch_size, strict=True)
    ]
    squares = np.pad(np.square(images), ((0, 0), *beyond, (0, 0)))
    window = PatchGeometry(squares.shape[1:], (height, width), (1, 1), (0, 0))
    lengths = np.sqrt(np.ascontiguousarray(box_sums(squares, window)))
    step, image_step, item = lengths.strides
    shape = (*counts, n_rows, len(images), n_columns)
    steps = (height * step, width * item, down * step, image_step, right * item)
    return as_strided(lengths, shape, steps, writeable=False)


def _posterior_within_reach(raised, lows, patches, layer, model, sample_weight, noise_variance):
    """The posterior, from the positions within reach of their cell's best; None if those are most.

    `raised`, (rows, n, columns), is corrected where scores are computed.
    """
    cells, n_components = model.cells, len(layer.bias)
    share = cells.negligible_share(raised.dtype)
    slack = SLACK + SLACK_SHARE * np.abs(raised).max() / noise_variance
    needed = raised > noise_variance * (cells.spread(lows) + np.log(share / n_components) - slack)
    if needed.mean() > DENSE_ABOVE:
        return None
    n_rows = len(needed)
    positions = np.nonzero(needed.reshape(n_rows, -1))
    gamma = correlate_at(patches, positions, layer.weight, layer.bias)
    best = gamma.max(axis=1)
    raised[needed] = noise_variance * best
    cell_of = cells.spread(np.arange(lows.size).reshape(lows.shape))[needed]
    peaks = lows.ravel().copy()
    np.maximum.at(peaks, cell_of, best)
    gamma -= peaks[cell_of, None]
    np.exp(gamma, out=gamma)
    masses = gamma.sum(axis=1)
    totals = np.bincount(cell_of, masses, lows.size)
    kept = masses > share * totals[cell_of]
    positions = tuple(part[kept] for part in positions)
    log_normalizers = (np.log(totals) + peaks).reshape(lows.shape).sum(axis=(0, 2))
    log_normalizers += cells.log_uneven
    scale = cells.spread((sample_weight[:, None] / totals.reshape(lows.shape)).astype(gamma.dtype))
    return Posterior(gamma[kept], scale, positions, log_normalizers)
