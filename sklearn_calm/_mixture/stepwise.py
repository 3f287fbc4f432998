"""Stepwise EM: the stage before the passes of a fit, and the step of a stream (eq. 21)."""

from typing import NamedTuple

import numpy as np

from sklearn_calm._mixture.em import SufficientStatistics, objective
from sklearn_calm._mixture.history import SILENT
from sklearn_calm._mixture.model import MixtureParameters
from sklearn_calm._mixture.training import MixtureFit

# Number of steps of the stage: fewer where one would have less than STAGE_CELLS cells for each
# component, and none at all below LEAST_STEPS or LEAST_IMAGES.
STAGE_STEPS = 160
STAGE_CELLS = 16
LEAST_STEPS = 20
LEAST_IMAGES = 2048
# The rate of step t is (STAGE_OFFSET + t)^-STAGE_DECAY.
STAGE_OFFSET = 2.0
STAGE_DECAY = 0.5
# Images of a run, and runs of a step if they can be kept that short. Neighbours come together in
# runs, since files are read fastest so.
STAGE_RUN = 32
STAGE_RUNS = 64


def stepwise_stage(em, parameters, history, observer=SILENT):
    """Take steps through all images once, where there are many of them.

    A stage that is complete leaves the energy Q in `em`; an observer may stop the steps before.

    Returns
    -------
    parameters : MixtureParameters
    """
    n_steps = count_steps(em.images, em.model, len(parameters.means))
    if not n_steps:
        return parameters
    energy, past, complete = 0.0, None, True
    stage = observer.begin("stepwise stage", n_steps)
    for t, image_rows in enumerate(stage_rows(len(em.images), n_steps)):
        if not em.images.weights(image_rows).any():
            continue
        step = stage.begin("step")
        rate = (STAGE_OFFSET + t) ** -STAGE_DECAY
        parameters, past, new = em.step(parameters, past, rate, image_rows)
        energy += new.energy
        if step.end() and t + 1 < n_steps:
            complete = False
            break
    if complete:
        em.energy = energy
    history.stopped |= stage.end(MixtureFit(parameters, past, history, n_reseeded=0, n_dead=0))
    return parameters


def stage_rows(n_images, n_steps):
    """The images of each step: runs of neighbours from all over, so that sorted images do no harm.

    They depend on nothing but the number of images. With very many images runs grow long rather
    than many, so that a step needs a few blocks of a Dask array, not all.
    """
    run = max(1, min(n_images // (4 * n_steps), STAGE_RUN), n_images // (STAGE_RUNS * n_steps))
    for t in range(n_steps):
        starts = np.arange(t * run, n_images, n_steps * run)
        rows = (starts[:, None] + np.arange(run)).ravel()
        yield rows[rows < n_images]


def count_steps(images, model, n_components):
    """Number of steps of the stepwise stage; 0 for none."""
    n_cells = len(images) * model.cells.n_cells
    n_steps = min(STAGE_STEPS, n_cells // (STAGE_CELLS * n_components))
    return n_steps if n_steps >= LEAST_STEPS and len(images) >= LEAST_IMAGES else 0


class StreamStep(NamedTuple):
    """Result of one step on a batch of a stream."""

    parameters: MixtureParameters
    statistics: SufficientStatistics  # blended, per image
    lower_bound: float  # objective of the batch, before the step
    n_revived: int


def stream_step(em, parameters, past, rate, patches_per_image=1.0):
    """Take one step on a batch of a stream, then revive dead components.

    Parameters
    ----------
    em : EM
        Of the batch.
    parameters : MixtureParameters
    past : SufficientStatistics or None
        Blended statistics of the batches before; without any, the batch counts alone.
    rate : float
        Weight of the batch.
    patches_per_image : float
        As for `EM.step`.
    """
    rate = 1.0 if past is None else rate
    new_parameters, blended, new = em.step(
        parameters, past, rate, patches_per_image=patches_per_image
    )
    lower_bound = float(objective(new, parameters.noise_variance))
    scale = rate * patches_per_image / em.images.total_weight
    revived, n_revived = em.revive(blended, new_parameters, scale)
    return StreamStep(revived, blended, lower_bound, n_revived)
