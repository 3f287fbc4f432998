"""Bounds that carry over passes of EM, so that positions which cannot matter are not computed.

Between two passes kernels move a little, so the best score of a position can rise by a little only:
the length of its patch and the lengths of the moves limit by how much. A position whose score
cannot come near enough to the best of its cell has no share in the posterior, and its scores are
not computed (docs/mathematics.rst, eq. 26).
"""

from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from sklearn_calm._convolution import fourier
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._convolution.moments import box_sums
from sklearn_calm._mixture.em import collect, e_step
from sklearn_calm._mixture.model import log_joint
from sklearn_calm._mixture.posterior import Posterior, find_posterior, image_log_normalizers

# Number of blocks along each side of a patch. The lengths of blocks bound the inner product of two
# patches far better than the lengths of whole patches do.
BLOCKS = 4
# Number of groups of components. Components that moved by similar lengths share a bound.
GROUPS = 16
# All positions are computed where more than this share is within reach, since copying costs time.
DENSE_ABOVE = 0.6
# Bounds are kept up to this memory, for cells of at least this number of positions, and where each
# position costs at least this number of products.
MOST_BYTES = 2**28
LEAST_POSITIONS = 16
LEAST_PRODUCTS = 2**12
# Margin for the rounding of scores: a number of nats, and a share of the largest score.
SLACK = 0.1
SLACK_SHARE = 1e-5


class Moves(NamedTuple):
    """By how much the layer moved since the last pass, which bounds the rise of sigma^2 l(k, u)."""

    lengths: np.ndarray  # (groups, blocks), of the blocks of the differences of sigma^2 A_k
    offsets: np.ndarray  # (groups,), the differences of sigma^2 b_k


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
        self.upper = np.empty((n_images, *geometry.map_shape), np.float32)
        self._scaled_layer = None  # kernels and offsets of the last pass

    def advance(self, layer, noise_variance):
        """Go on to the layer of the next pass, and return the moves to it; None at the first."""
        old = self._scaled_layer
        new = self._scaled_layer = noise_variance * layer.weight, noise_variance * layer.bias
        if old is None:
            return None
        kernels, offsets = (after - before for after, before in zip(new, old, strict=True))
        moved = np.square(kernels).reshape(-1, *self.geometry.kernel_shape)
        starts = [block_starts(side) for side in self.geometry.patch_size]
        lengths = np.add.reduceat(np.add.reduceat(moved.sum(axis=3), starts[0], 1), starts[1], 2)
        return grouped(np.sqrt(lengths).reshape(len(moved), -1), offsets)


def grouped(lengths, offsets):
    """Moves of groups of components, (K, blocks) and (K,): the largest of each group."""
    order = np.argsort(lengths.sum(axis=1), kind="stable")
    starts = np.unique(np.linspace(0, len(order), GROUPS, endpoint=False, dtype=int))
    return Moves(
        np.maximum.reduceat(lengths[order], starts, axis=0),
        np.maximum.reduceat(offsets[order], starts),
    )


def bounds_pay(images, model, n_kernels):
    """Whether bounds save time, and fit in memory."""
    geometry = model.geometry
    return (
        not fourier.pays(geometry, n_kernels)
        and images.in_memory
        and images.placement.is_numpy
        and model.cells.sizes.min() >= LEAST_POSITIONS
        and geometry.patch_length * n_kernels >= LEAST_PRODUCTS
        and 4 * len(images) * geometry.n_positions <= MOST_BYTES
    )


def bounded_e_step(images, sample_weight, layer, upper, moves, noise_variance, **options):
    """`e_step` of a batch, with bounds from the last pass.

    Parameters
    ----------
    images, sample_weight, **options
        As for `e_step`.
    layer : PreparedLayer
        Of striped patches.
    upper : ndarray of shape (n, rows, columns)
        Bounds of the last pass.
    moves : Moves or None
        None at the first pass, which computes all positions.
    noise_variance : float

    Returns
    -------
    statistics : SufficientStatistics
    upper : ndarray of shape (n, rows, columns)
        Bounds of this pass.
    """
    patches, cells = layer.view(images), layer.model.cells
    if patches.used is not None:  # there are no bounds of batches that miss values
        return e_step(images, sample_weight, layer, **options), upper
    posterior = None
    if moves is not None:
        lower = best_anew(upper, patches, layer, cells)
        raised = upper.transpose(1, 0, 2) + rises(patches, moves)
        posterior = _posterior_within_reach(
            raised, lower, patches, layer, sample_weight, noise_variance
        )
    if posterior is None:
        maps = log_joint(patches, layer)
        raised = noise_variance * maps.max(axis=-1)
        posterior = find_posterior(
            maps, cells, sample_weight, patches.sparse_below, patches.scratch
        )
    statistics = collect(patches, posterior, images, sample_weight, layer.model, **options)
    return statistics, raised.transpose(1, 0, 2)


def block_starts(side):
    """Where the blocks start along a side of the patch."""
    return list(range(0, side, -(-side // BLOCKS)))


def best_anew(upper, patches, layer, cells):
    """max_k l(k, u) at the best position u of each cell in the last pass.

    It is a lower bound of the maximum of the cell: (cell rows, n, cell columns).
    """
    n, _, n_columns = upper.shape
    first_lines = n_columns * np.arange(n)
    map_rows, lines = [], []
    for (top, bottom), (left, right) in product(
        pairwise(cells.row_edges), pairwise(cells.column_edges)
    ):
        best = upper[:, top:bottom, left:right].reshape(n, -1).argmax(axis=1)
        map_rows.append(top + best // (right - left))
        lines.append(first_lines + left + best % (right - left))
    positions = np.concatenate(map_rows), np.concatenate(lines)
    scores = patches.correlate_at(positions, layer.kernels, layer.bias)
    lower = scores.max(axis=1).reshape(len(cells.row_edges) - 1, -1, n)
    return lower.transpose(0, 2, 1)


def rises(patches, moves):
    """By how much sigma^2 max_k l(k, u) may have risen: (rows, n, columns)."""
    n_rows, n_columns = patches.geometry.map_shape
    lengths, offsets = (part.astype(patches.images.dtype) for part in moves)
    largest = np.empty((n_rows, len(patches.images) * n_columns), lengths.dtype)
    for y, patch_lengths in enumerate(np.moveaxis(block_lengths(patches), 2, 0)):
        rise = lengths @ patch_lengths.reshape(lengths.shape[1], -1)
        if patches.deviation is not None:
            rise /= patches.deviation[y].ravel()
        rise += offsets[:, None]
        rise.max(axis=0, out=largest[y])
    return largest.reshape(n_rows, -1, n_columns)


def block_lengths(patches):
    """Lengths of blocks of raw patches: a view (block rows, block columns, rows, n, columns)."""
    images, geometry = patches.images, patches.geometry
    (n_rows, n_columns), (down, right) = geometry.map_shape, geometry.stride
    block = tuple(-(-side // BLOCKS) for side in geometry.patch_size)
    counts = [len(block_starts(side)) for side in geometry.patch_size]
    height, width = (side * gap for side, gap in zip(block, geometry.dilation, strict=True))
    # The last block of a side may reach beyond the patch and the image: it is a bound all the same.
    beyond = [
        (0, gap * (n * side - patch))
        for n, side, patch, gap in zip(
            counts, block, geometry.patch_size, geometry.dilation, strict=True
        )
    ]
    squares = np.pad(np.square(images), ((0, 0), *beyond, (0, 0)))
    window = PatchGeometry(squares.shape[1:], block, (1, 1), dilation=geometry.dilation)
    lengths = np.sqrt(np.ascontiguousarray(box_sums(squares, window)))
    step, image_step, item = lengths.strides
    shape = (*counts, n_rows, len(images), n_columns)
    steps = (height * step, width * item, down * step, image_step, right * item)
    return as_strided(lengths, shape, steps, writeable=False)


def _posterior_within_reach(raised, lower, patches, layer, sample_weight, noise_variance):
    """The posterior from the positions that may matter; None if those are most of all positions.

    `raised`, the bounds (rows, n, columns), becomes exact where scores are computed.
    """
    cells, n_components = layer.model.cells, len(layer.bias)
    share = cells.negligible_share(raised.dtype)
    slack = SLACK + SLACK_SHARE * np.abs(raised).max() / noise_variance
    needed = raised > noise_variance * (cells.spread(lower) + np.log(share / n_components) - slack)
    if needed.mean() > DENSE_ABOVE:
        return None
    positions = np.nonzero(needed.reshape(len(needed), -1))
    scores = patches.correlate_at(positions, layer.kernels, layer.bias)
    best = scores.max(axis=1)
    raised[needed] = noise_variance * best
    cell_of = cells.spread(np.arange(lower.size).reshape(lower.shape))[needed]
    peaks = lower.ravel().copy()
    np.maximum.at(peaks, cell_of, best)
    exponentials = scores
    exponentials -= peaks[cell_of, None]
    np.exp(exponentials, out=exponentials)
    masses = exponentials.sum(axis=1)
    totals = np.bincount(cell_of, masses, lower.size)
    kept = masses > share * totals[cell_of]
    positions = tuple(part[kept] for part in positions)
    totals, peaks = totals.reshape(lower.shape), peaks.reshape(lower.shape)
    log_normalizers = image_log_normalizers(totals, peaks, cells)
    scale = cells.spread((sample_weight[:, None] / totals).astype(exponentials.dtype))
    return Posterior(exponentials[kept], scale, positions, log_normalizers)
