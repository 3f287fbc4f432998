"""The loop of expectation-maximisation, and the steps that it is made of.

`EM` binds a model to images; `run` is the loop of the textbook over it. The equation numbers are
those of docs/mathematics.rst.
"""

from typing import NamedTuple

import numpy as np

from sklearn_calm._mixture.bounds import Moves, ScoreBounds, bounded_e_step, bounds_pay
from sklearn_calm._mixture.em import (
    SufficientStatistics,
    blend,
    dead_components,
    e_step,
    m_step,
    merge,
    objective,
)
from sklearn_calm._mixture.history import SILENT, History
from sklearn_calm._mixture.model import MixtureParameters, PreparedLayer, conv_layer
from sklearn_calm._mixture.reseeding import reseed


class Options(NamedTuple):
    """What EM learns besides the means."""

    learn_weights: bool
    noise_variance: float | str  # "auto" learns it, a float is kept


class EStep(NamedTuple):
    """The E-step with its parameters bound: what travels to threads and workers."""

    layer: PreparedLayer
    with_energy: bool

    def __call__(self, images, image_rows):
        """Sufficient statistics of some of the images."""
        batch, weights = images.read(image_rows), images.weights(image_rows)
        return e_step(batch, weights, self.layer, with_energy=self.with_energy)


class BoundedEStep(NamedTuple):
    """The same where bounds of the last pass spare it positions; returns the new bounds too."""

    step: EStep
    upper: np.ndarray
    moves: Moves | None
    noise_variance: float

    def __call__(self, images, image_rows):
        batch, weights = images.read(image_rows), images.weights(image_rows)
        return bounded_e_step(
            batch,
            weights,
            self.step.layer,
            self.upper[image_rows],
            self.moves,
            self.noise_variance,
            with_energy=self.step.with_energy,
        )


class EM:
    """Expectation-maximisation of one mixture on the images given.

    It owns what lasts from pass to pass: the energy Q, which never changes, and the bounds.

    Parameters
    ----------
    images : ImageSource
    model : PatchModel
    options : Options
    execution : Execution
    rng : numpy.random.RandomState
        Draws the images from which dead components are revived.
    """

    def __init__(self, images, model, options, execution, rng):
        self.images = images
        self.model = model
        self.options = options
        self.execution = execution
        self.rng = rng
        self.energy = None
        self._bounds = None

    def e_step(self, parameters):
        """Sufficient statistics of all images (eqs. 4 and 5)."""
        n_kernels = len(parameters.means) * self.model.symmetry.order
        if self._bounds is None and bounds_pay(self.images, self.model, n_kernels):
            self._bounds = ScoreBounds(len(self.images), self.model.geometry)
        if self._bounds is None:
            statistics = self.statistics(parameters)
        else:
            statistics = self._bounded_statistics(parameters, self._bounds)
        if self.energy is None:
            self.energy = statistics.energy
        return statistics._replace(energy=self.energy)

    def m_step(self, statistics, old):
        """The parameters that maximise the expected log-likelihood (eqs. 6 to 8)."""
        return m_step(statistics, old, self.model.preprocessing, **self.options._asdict())

    def revive(self, statistics, parameters, scale=1.0):
        """Give dead components new patches (eq. 22); an image weighs `scale` in the statistics."""
        return reseed(
            self.images,
            parameters,
            statistics,
            self.model,
            learn_weights=self.options.learn_weights,
            batch_size=self.execution.batch_size,
            rng=self.rng,
            scale=scale,
        )

    def step(self, parameters, past, rate, image_rows=None, patches_per_image=1.0):
        """One step of stepwise EM on some of the images (eq. 21).

        Parameters
        ----------
        parameters : MixtureParameters
        past : SufficientStatistics or None
            Blended statistics of the steps before.
        rate : float
            Weight of the new statistics.
        image_rows : ndarray of int or None
            The images of the step; None takes all.
        patches_per_image : float
            How many of the images, which are then patches, make up one that statistics are of.

        Returns
        -------
        parameters : MixtureParameters
        blended : SufficientStatistics
            Per image.
        new : SufficientStatistics
            Of the images of the step.
        """
        new = self.statistics(parameters, image_rows)
        new = new._replace(n_images=new.n_images / patches_per_image)
        blended = blend(past or new, new, rate)
        return self.m_step(blended, parameters), blended, new

    def count_dead(self, statistics):
        """Number of components that explain next to nothing."""
        return int(dead_components(statistics, self.images.least_weight).sum())

    def statistics(self, parameters, image_rows=None):
        """Sufficient statistics of some of the images, without bounds; Q is 0 once it is known."""
        step = self._bound_step(conv_layer(parameters, self.model))
        workers, batch_size, _ = self.execution
        return self.images.map_reduce(step, merge, workers, batch_size, image_rows)

    def _bounded_statistics(self, parameters, bounds):
        layer, noise_variance = conv_layer(parameters, self.model), parameters.noise_variance
        moves = bounds.advance(layer, noise_variance)
        step = BoundedEStep(self._bound_step(layer), bounds.upper, moves, noise_variance)
        batches = self.images.batches(self.execution.batch_size)
        results = self.execution.workers.map(lambda rows: step(self.images, rows), batches)
        total = None
        for image_rows, (statistics, upper) in zip(batches, results, strict=True):
            bounds.upper[image_rows] = upper
            total = statistics if total is None else merge(total, statistics)
        return total

    def _bound_step(self, layer):
        layer = layer.prepared(self.model, self.images.placement, self.execution.scratch)
        return EStep(layer, self.energy is None)


class MixtureFit(NamedTuple):
    """Result of a run of EM."""

    parameters: MixtureParameters
    statistics: SufficientStatistics
    history: History
    n_reseeded: int
    n_dead: int


def run(em, parameters, history, observer=SILENT):
    """Make passes of EM until the objective stands still or no passes are left; at least one.

    Parameters
    ----------
    em : EM
    parameters : MixtureParameters
        Where to start.
    history : History
    observer : Observer
        May stop the passes.

    Returns
    -------
    fit : MixtureFit
    """
    n_reseeded = 0
    while True:
        task = observer.begin("pass")
        statistics = em.e_step(parameters)  # eqs. 4 and 5
        history.record(objective(statistics, parameters.noise_variance))  # eq. 9
        parameters = em.m_step(statistics, parameters)  # eqs. 6 to 8
        fit = MixtureFit(parameters, statistics, history, n_reseeded, em.count_dead(statistics))
        history.stopped |= task.end(fit)
        if history.stopped or history.exhausted:
            return fit
        parameters, n_revived = em.revive(statistics, parameters)  # eq. 22
        n_reseeded += n_revived
        if history.converged and not n_revived:
            return fit
