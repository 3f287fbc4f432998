"""The posterior of components and positions: a softmax of the log joint over each cell.

Equation numbers are those of docs/mathematics.rst.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from sklearn_calm._arrays.namespace import (
    array_namespace,
    count_true,
    empty,
    exp_in_place,
    like,
    numpy_dtype,
    size,
    take_at,
    to_numpy,
)
from sklearn_calm._convolution.observed import without_unused
from sklearn_calm._mixture.cells import NEGLIGIBLE


def responsibilities(maps, cells, used=None):
    """gamma(k, u): softmax of the log joint over each cell (eq. 4).

    The maps, (rows, n, columns, K), are overwritten.
    """
    weights = np.ones(maps.shape[1])
    exponentials, scale, _, _ = find_posterior(maps, cells, weights, used=used)
    exponentials *= scale[..., None]
    return exponentials


# Of so many components few may matter at a position. To pick them pays if their share is below
# FEW_COMPONENTS, which one position in LOOKED_AT shows.
MANY_COMPONENTS = 256
FEW_COMPONENTS = 0.04
LOOKED_AT = 16


class Posterior(NamedTuple):
    """Responsibilities weighted by image, as a product of two factors, at all positions or a few.

    The weighted responsibility of component k at position u is scale[u] exponentials[k, u].
    """

    exponentials: np.ndarray  # exp(l - peak of the cell): (rows, n, columns, K), or (m, K) at a few
    scale: np.ndarray  # weight of the image over the sum of its cell: (rows, n, columns)
    positions: tuple | None  # the few, as `Patches.gather` takes them
    log_normalizers: np.ndarray  # of each image: (n,), NumPy, float64

    def sums(self, patches):
        """Sums of patches and of responsibilities of each component, S_k and N_k (eq. 5)."""
        if self.positions is None:
            return patches.adjoint(self.exponentials, self.scale)
        return patches.gather(self.positions, self.exponentials, self.scale)


class FewComponents(NamedTuple):
    """The same where every position is a cell and few components matter at each (eq. 45)."""

    shares: list[csr_array]  # weighted responsibilities, for each row of the map: (n * columns, K)
    log_normalizers: np.ndarray  # (n,)

    def sums(self, patches):
        """As of `Posterior`."""
        return patches.adjoint_sparse(self.shares)


def find_few_components(maps, cells, sample_weight):
    """Posterior of a batch without the components that do not matter at a position (eq. 45).

    Parameters
    ----------
    maps : ndarray of shape (rows, n, columns, K)
        The log joint, contiguous. Not changed.
    cells : Cells
    sample_weight : ndarray of shape (n,)

    Returns
    -------
    posterior : FewComponents or None
        None where too many components matter, or where `maps` is not an array of NumPy.
    """
    n_components = maps.shape[-1]
    if cells.largest > 1 or n_components < MANY_COMPONENTS or not isinstance(maps, np.ndarray):
        return None
    least = maps.dtype.type(np.log(NEGLIGIBLE[maps.dtype.name] / n_components))
    some = maps.reshape(-1, n_components)[::LOOKED_AT]
    matter = some > some.max(axis=1, keepdims=True) + least
    if np.count_nonzero(matter) > FEW_COMPONENTS * matter.size:
        return None
    peaks = cells.peaks(maps)
    totals, weights = np.empty_like(peaks), sample_weight.astype(maps.dtype)[:, None]
    shares = []
    for y, map_row in enumerate(maps):
        chosen, n_chosen = _above(map_row, peaks[y] + least)
        values = np.exp(map_row.reshape(-1)[chosen] - np.repeat(peaks[y], n_chosen))
        ends = np.append(0, n_chosen.cumsum())
        totals[y] = np.add.reduceat(values, ends[:-1]).reshape(totals[y].shape)
        values *= np.repeat(weights / totals[y], n_chosen)
        columns = chosen - np.repeat(np.arange(len(n_chosen)) * n_components, n_chosen)
        shape = len(n_chosen), n_components
        shares.append(csr_array((values, columns, ends), shape))
    return FewComponents(shares, image_log_normalizers(totals, peaks, cells))


def _above(map_row, least):
    """Flat places of the scores (n, columns, K) above those given, and how many each line has."""
    n_components = map_row.shape[-1]
    chosen = np.flatnonzero(map_row > least[..., None])
    n_chosen = np.diff(np.searchsorted(chosen, np.arange(least.size + 1) * n_components))
    return chosen, n_chosen


def find_posterior(maps, cells, sample_weight, sparse_below=0, scratch=None, used=None):
    """Posterior of a batch (eq. 4).

    Most positions carry next to nothing. They are left out of the sums where less than a share of
    `sparse_below` remains, and no cell loses more than NEGLIGIBLE of its mass (eq. 16).

    Parameters
    ----------
    maps : ndarray of shape (rows, n, columns, K)
        The log joint. Overwritten.
    cells : Cells
    sample_weight : ndarray of shape (n,)
    sparse_below : float
    scratch : Scratch or None
        Memory for the exponentials of a few positions.
    used : ndarray of shape (rows, n, columns) or None
        0 at the positions that hold no patch, as too much of it is missing; None: all may.

    Returns
    -------
    posterior : Posterior
    """
    xp = array_namespace(maps)
    maps = without_unused(maps, used)
    peaks = cells.peaks(maps)
    masses = _exponentials(maps, cells.spread(peaks))
    if used is None:
        totals = cells.sums(masses)
        log_normalizers = image_log_normalizers(totals, peaks, cells)
    else:
        masses *= used
        totals = cells.sums(masses)
        of_cells = _of_used(totals, peaks, cells, used)
        log_normalizers = to_numpy(xp.sum(of_cells, axis=(0, 2)))
        totals = xp.where(totals > 0, totals, xp.ones_like(totals))
    scale = cells.spread(like(sample_weight[:, None], maps) / totals)
    if used is not None:
        scale = scale * used
    if sparse_below and cells.largest > 1:
        kept = masses > cells.negligible_share(numpy_dtype(maps)) * cells.spread(totals)
        if count_true(kept) < sparse_below * size(kept):
            positions = xp.nonzero(xp.reshape(kept, (kept.shape[0], -1)))
            return Posterior(_take(maps, positions, scratch), scale, positions, log_normalizers)
    return Posterior(maps, scale, None, log_normalizers)


def image_log_normalizers(totals, peaks, cells):
    """Log normaliser of each image, the sum of those of its cells (eq. 9).

    Parameters
    ----------
    totals : ndarray of shape (cell rows, n, cell columns)
        Sum of exp(l - peak) over the components and positions of each cell.
    peaks : ndarray of shape (cell rows, n, cell columns)
    cells : Cells

    Returns
    -------
    log_normalizers : ndarray of shape (n,)
        NumPy, float64.
    """
    of_cells = cell_log_normalizers(totals, peaks)
    return to_numpy(array_namespace(totals).sum(of_cells, axis=(0, 2))) + cells.log_uneven.sum()


def exact_log_normalizers(maps, cells, used=None):
    """Log normaliser of each cell, with its exact prior (eqs. 9 and 41).

    Parameters
    ----------
    maps : ndarray of shape (rows, n, columns, K)
        The log joint. Overwritten.
    cells : Cells
    used : ndarray of shape (rows, n, columns) or None
        As in `find_posterior`.

    Returns
    -------
    log_normalizers : ndarray of shape (cell rows, n, cell columns)
        float64; 0 of a cell that holds no patch.
    """
    maps = without_unused(maps, used)
    peaks = cells.peaks(maps)
    totals = cells.sums(_exponentials(maps, cells.spread(peaks)))
    if used is not None:
        return _of_used(totals, peaks, cells, used)
    log_normalizers = cell_log_normalizers(totals, peaks)
    return log_normalizers + like(cells.log_uneven[:, None, :], log_normalizers)


def position_log_normalizers(maps):
    """The same where every position is a cell: (rows, n, columns)."""
    peaks = array_namespace(maps).max(maps, axis=-1)
    return cell_log_normalizers(_exponentials(maps, peaks), peaks)


def _of_used(totals, peaks, cells, used):
    """Log normaliser of each cell where some positions hold no patch (eq. 41)."""
    xp = array_namespace(totals)
    sizes = xp.astype(cells.sums(used), xp.float64)
    zeros, ones = xp.zeros_like(sizes), xp.ones_like(sizes)
    of_cells = cell_log_normalizers(xp.where(totals > 0, totals, xp.ones_like(totals)), peaks)
    of_cells = of_cells + float(np.log(cells.sizes.mean())) - xp.log(xp.maximum(sizes, ones))
    return xp.where(sizes > 0, of_cells, zeros)


def cell_log_normalizers(totals, peaks):
    """Log normaliser of each cell, log sum exp l, in float64: (cell rows, n, cell columns)."""
    xp = array_namespace(totals)
    return xp.log(xp.astype(totals, xp.float64)) + xp.astype(peaks, xp.float64)


def _take(maps, positions, scratch):
    """The maps (rows, n, columns, K) at a few positions: (m, K)."""
    xp, n_components = array_namespace(maps), maps.shape[-1]
    by_line = xp.reshape(maps, (maps.shape[0], -1, n_components))
    if scratch is None or not isinstance(maps, np.ndarray):
        return take_at(by_line, *positions)
    chosen = np.ravel_multi_index(positions, by_line.shape[:2])
    taken = scratch.empty("taken", (len(chosen), n_components), maps)
    flat = by_line.reshape(-1, n_components)
    return np.take(flat, chosen, axis=0, out=taken, mode="clip")  # "raise" would copy once more


def _exponentials(maps, shift):
    """Write exp(maps - shift) over maps, and return its sums over components (rows, n, columns)."""
    masses = empty(shift.shape, shift)
    for y in range(maps.shape[0]):  # one row of the map fits the cache
        map_row = maps[y, ...]
        map_row -= shift[y, ..., None]
        masses[y, ...] = _sum_last(exp_in_place(map_row))
    return masses


def _sum_last(values):
    """Sum over the last axis, as a product that BLAS computes."""
    # Some builds of BLAS raise the flag of an invalid value for finite ones.
    with np.errstate(invalid="ignore"):
        return values @ like(np.ones(values.shape[-1]), values)
