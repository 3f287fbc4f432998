"""Fitting the mixture: every way of it is map(e_step), reduce(merge), m_step.

Seeds and whitening, too, are found with one BLAS thread, so that the model is the same to the last
bit for any number of threads.
"""

from functools import partial, reduce
from typing import NamedTuple

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from sklearn_calm._arrays.execution import single_threaded_blas
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._callbacks import UNTOLD
from sklearn_calm._convolution.geometry import PatchGeometry
from sklearn_calm._images.reader import Images
from sklearn_calm._mixture.bounds import ScoreBounds, bounded_e_step, pay
from sklearn_calm._mixture.cells import Cells
from sklearn_calm._mixture.em import (
    VARIANCE_FLOOR,
    SufficientStatistics,
    blend,
    dead_components,
    e_step,
    m_step,
    merge,
    objective,
)
from sklearn_calm._mixture.history import ConvergenceMonitor
from sklearn_calm._mixture.model import MixtureParameters, PatchModel, conv_layer
from sklearn_calm._mixture.preprocessing import fit_preprocessing, normalize_contrast
from sklearn_calm._mixture.reseeding import reseed
from sklearn_calm._mixture.seeds import sample_patches, starting_means

# Patches that seeds and preprocessing are taken from, where images and not patches are fitted.
SEED_PATCHES = 50_000
# The stepwise stage: so many steps, fewer where one would have less than this many cells for each
# component, and none at all below the least number of steps or of images. The rate of step t is
# (STAGE_OFFSET + t)^-STAGE_DECAY, and neighbours come together in runs, as files are read fastest.
STAGE_STEPS = 160
STAGE_CELLS = 16
LEAST_STEPS = 20
LEAST_IMAGES = 2048
STAGE_OFFSET = 2.0
STAGE_DECAY = 0.5
# Images of a run, and runs of a step if they can be kept that short.
STAGE_RUN = 32
STAGE_RUNS = 64


class Learning(NamedTuple):
    """How to learn: the parameters of the estimator that every step needs."""

    learn_weights: bool
    noise_variance: float | str
    batch_size: int
    workers: object
    rng: np.random.RandomState
    scratch: Scratch


class MixtureFit(NamedTuple):
    """What a run of EM found."""

    parameters: MixtureParameters
    statistics: SufficientStatistics
    monitor: ConvergenceMonitor
    n_reseeded: int
    n_dead: int


@single_threaded_blas()
def prepare(images, assignment, *, normalize, whiten, reg_covar, rng, preprocessing=None):
    """Sample patches and fit their preprocessing, unless it is given.

    Returns
    -------
    preprocessing : Preprocessing
    model : PatchModel
        Of the images to fit.
    sample : PatchSample
        Normalised, not yet whitened patches.
    images : Images
        What to fit: the images or, where every position is a cell of its own and there are more of
        them than a sample holds, the normalised patches of the sample, as images of one position.
    """
    sample = sample_patches(images, rng, None if assignment == "patch" else SEED_PATCHES)
    if preprocessing is None:
        preprocessing = fit_preprocessing(
            sample.patches, sample.weights, normalize=normalize, whiten=whiten, reg_covar=reg_covar
        )
    geometry, remaining = images.geometry, preprocessing
    normalized = normalize_contrast(sample.patches, preprocessing.contrast_floor)
    if assignment == "patch" and not sample.complete:
        geometry = PatchGeometry(geometry.kernel_shape, geometry.patch_size, (1, 1), (0, 0))
        images = Images(images.placement.asarray(normalized), geometry)
        remaining = preprocessing._replace(contrast_floor=None)
    sample = sample._replace(patches=normalized)
    cells = Cells.from_assignment(assignment, geometry.map_shape)
    return preprocessing, PatchModel(geometry, cells, remaining), sample, images


@single_threaded_blas()
def start(sample, model, n_components, init, learning):
    """Parameters to start EM from.

    Where every position is its own cell the noise starts as the mean square distance of a patch to
    the nearest starting mean; else as the mean square of a patch, since most patches are
    background.
    """
    preprocessing, rng = model.preprocessing, learning.rng
    means = starting_means(init, sample, preprocessing, n_components, rng)
    noise_variance = learning.noise_variance
    if noise_variance == "auto":
        chosen = slice(None)
        if len(sample.patches) > 10_000:
            chosen = rng.choice(len(sample.patches), 10_000, replace=False)
        points = preprocessing.whiten(sample.patches[chosen].astype(np.float64))
        squares = np.square(points).mean(axis=1)
        errors = squares
        if model.cells.n_cells == model.geometry.n_positions:
            distances = euclidean_distances(points, preprocessing.whiten(means), squared=True)
            errors = distances.min(axis=1) / points.shape[1]
        noise_variance = start_variance(errors, squares, sample.weights[chosen])
    return MixtureParameters(means, np.full(n_components, 1 / n_components), noise_variance)


def start_variance(errors, squares, weights):
    """Weighted mean of errors, kept above rounding errors; 1 where all data are zero."""
    square = np.average(squares, weights=weights)
    return max(np.average(errors, weights=weights), VARIANCE_FLOOR * square) if square > 0 else 1.0


def run_e_step(images, parameters, model, learning, *, rows=None, energy=None, bounds=None):
    """Sufficient statistics of all images, or of the rows given; `energy` spares them Q.

    With `bounds` positions that cannot matter are left out, and the bounds brought up to date.
    """
    layer = conv_layer(parameters, model)
    options = {
        "layer": layer.prepared(model.geometry, images.placement),
        "model": model,
        "with_energy": energy is None,
        "scratch": learning.scratch,
    }
    if bounds is None:
        step = partial(_batch_statistics, **options)
        statistics = images.map_reduce(step, merge, learning.workers, learning.batch_size, rows)
    else:
        moves = bounds.advance(layer, parameters.noise_variance)
        step = partial(
            _bounded_batch_statistics,
            images,
            highest=bounds.highest,
            moves=moves,
            noise_variance=parameters.noise_variance,
            **options,
        )
        batches = images.batches(learning.batch_size, rows)
        found = learning.workers.map(step, batches)
        statistics = reduce(merge, _keep(found, batches, bounds.highest))
    return statistics if energy is None else statistics._replace(energy=energy)


def _batch_statistics(images, rows, layer, **options):
    weights = images.weights(rows)
    return e_step(images.read(rows), weights, layer, **options)


def _bounded_batch_statistics(images, rows, highest, **options):
    weights = images.weights(rows)
    return bounded_e_step(images.read(rows), weights, highest=highest[rows], **options)


def _keep(found, batches, highest):
    """The statistics of each batch; its bounds are written to all bounds."""
    for rows, (statistics, bounds) in zip(batches, found, strict=True):
        highest[rows] = bounds
        yield statistics


def expectation_maximization(images, parameters, model, learning, monitor, energy=None):
    """Passes of EM until the objective stands still or the monitor's passes are used up.

    At least one is made, even where a callback has asked to stop before.

    Parameters
    ----------
    images : Images
    parameters : MixtureParameters
    model : PatchModel
    learning : Learning
    monitor : ConvergenceMonitor
    energy : float or None
        Q of all images, where it is known.

    Returns
    -------
    fit : MixtureFit
    """
    n_reseeded, bounds = 0, None
    if pay(images, model, len(parameters.means)):
        bounds = ScoreBounds(len(images), model.geometry)
    while True:
        task = monitor.task.begin("pass")
        statistics = run_e_step(images, parameters, model, learning, energy=energy, bounds=bounds)
        energy = statistics.energy
        monitor.record(objective(statistics, parameters.noise_variance))
        parameters = update(statistics, parameters, model, learning)
        n_dead = int(dead_components(statistics, images.least_weight).sum())
        fit = MixtureFit(parameters, statistics, monitor, n_reseeded, n_dead)
        monitor.stopped |= task.end(fit)
        if monitor.stopped or monitor.exhausted:
            return fit
        parameters, revived = revive(images, statistics, parameters, model, learning)
        n_reseeded += revived
        if monitor.converged and not revived:
            return fit


@single_threaded_blas()  # once, as looking for BLAS takes milliseconds
def fit_best(images, starts, model, learning, new_monitor, *, stepwise, task=UNTOLD):
    """The run of EM with the best objective, of one from each of the starts.

    With `stepwise` the passes begin where `stepwise_stage` ends. A callback may stop the starts:
    the best is of those that were made.
    """

    def fits():
        for parameters in starts:
            monitor, energy = new_monitor(task=task.begin_start()), None
            if stepwise:
                parameters, energy = stepwise_stage(images, parameters, model, learning, monitor)
            fit = expectation_maximization(images, parameters, model, learning, monitor, energy)
            stopped = monitor.task.end_start(fit)
            yield fit
            if stopped:
                return

    return max(fits(), key=lambda fit: fit.monitor.lower_bounds[-1])


def stepwise_stage(images, parameters, model, learning, monitor):
    """Stepwise EM (eq. 21) through all images once, where there are many of them.

    Returns
    -------
    parameters : MixtureParameters
    energy : float or None
        Q of all images, if the stage went through them: a callback may stop its steps.
    """
    n_steps = count_steps(images, model, len(parameters.means))
    if not n_steps:
        return parameters, None
    energy, past = 0.0, None
    stage = monitor.task.begin("stepwise stage", n_steps)
    for t, rows in enumerate(stage_rows(len(images), n_steps)):
        if not images.weights(rows).any():
            continue
        step = stage.begin("step")
        new = run_e_step(images, parameters, model, learning, rows=rows)
        energy += new.energy
        past = blend(past or new, new, (STAGE_OFFSET + t) ** -STAGE_DECAY)
        parameters = update(past, parameters, model, learning)
        if step.end() and t + 1 < n_steps:
            energy = None
            break
    monitor.tell_of_stage(t + 1)
    monitor.stopped |= stage.end(MixtureFit(parameters, past, monitor, n_reseeded=0, n_dead=0))
    return parameters, energy


def stage_rows(n_images, n_steps):
    """The images of each step: runs of neighbours from all over, so that sorted images do no harm.

    They depend on nothing but the number of images. With very many images runs grow long rather
    than many, so that a step has to do with a few blocks of a Dask array, not with all.
    """
    run = max(1, min(n_images // (4 * n_steps), STAGE_RUN), n_images // (STAGE_RUNS * n_steps))
    for t in range(n_steps):
        starts = np.arange(t * run, n_images, n_steps * run)
        rows = (starts[:, None] + np.arange(run)).ravel()
        yield rows[rows < n_images]


def count_steps(images, model, n_components):
    """Steps of the stepwise stage; 0 for none."""
    n_cells = len(images) * model.cells.n_cells
    n_steps = min(STAGE_STEPS, n_cells // (STAGE_CELLS * n_components))
    return n_steps if n_steps >= LEAST_STEPS and len(images) >= LEAST_IMAGES else 0


def stepwise_update(images, parameters, statistics, model, learning, rate):
    """One step of stepwise EM (eq. 21): blend the statistics of a batch into those of the past."""
    new = run_e_step(images, parameters, model, learning)
    rate = 1.0 if statistics is None else rate
    statistics = blend(statistics or new, new, rate)
    lower_bound = float(objective(new, parameters.noise_variance))
    parameters = update(statistics, parameters, model, learning)
    scale = rate / images.total_weight
    parameters, revived = revive(images, statistics, parameters, model, learning, scale)
    return parameters, statistics, lower_bound, revived


def update(statistics, parameters, model, learning):
    """The M-step with the options of `learning`."""
    return m_step(
        statistics,
        parameters,
        model.preprocessing,
        learn_weights=learning.learn_weights,
        noise_variance=learning.noise_variance,
    )


def revive(images, statistics, parameters, model, learning, scale=1.0):
    """Re-seed dead components with the options of `learning`."""
    return reseed(
        images,
        parameters,
        statistics,
        model,
        learn_weights=learning.learn_weights,
        batch_size=learning.batch_size,
        rng=learning.rng,
        scale=scale,
    )
