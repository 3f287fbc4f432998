"""The fits of an estimator: from its parameters and images to its fitted attributes."""

import warnings
from functools import partial
from itertools import chain

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from sklearn_calm._arrays.execution import Execution, single_threaded_blas
from sklearn_calm._arrays.scratch import Scratch
from sklearn_calm._batches import batch_size_of, workers_of
from sklearn_calm._convolution.pooling import POOLINGS
from sklearn_calm._mixture.history import SILENT, History
from sklearn_calm._mixture.seeds import patches_to_fit
from sklearn_calm._mixture.starting import patch_model, prepare, start
from sklearn_calm._mixture.stepwise import stepwise_stage, stream_step
from sklearn_calm._mixture.training import EM, Options, run
from sklearn_calm._progress import Printer
from sklearn_calm._state import fit_attributes, parameters_of, stream_attributes
from sklearn_calm._validation import check_continued, check_init, check_symmetry, grid_or_name

# The tolerance that is chosen for few components.
LEAST_TOL = 0.01


def fit(features, images, task, n_starts, *, continued, stepwise):
    """Fit an estimator to images: `ConvGMMFeatures.fit`, once its input is checked.

    Parameters
    ----------
    features : ConvGMMFeatures
        Gets the fitted attributes.
    images : ImageSource
    task : FitTask
    n_starts : int
    continued : bool
        Whether to go on from the last fit.
    stepwise : bool
        Whether the stepwise stage may come before the passes.
    """
    rng = check_random_state(features.random_state)
    if continued:
        check_continued(features, images.geometry)
    known = features._model.preprocessing if continued else None
    prepared = prepare_images(features, images, rng, known)
    images = images.in_precision(prepared.sample.patches.dtype)
    starts = starting_parameters(features, prepared, images.geometry, rng, n_starts, continued)
    first = next(starts)
    # Before BLAS is limited to one thread, from which the number of workers would follow.
    settings = em_settings(features, prepared.images)
    task = task.with_attributes(partial(fit_attributes, model=prepared.whole, images=images))
    best = fit_best(
        chain([first], starts),
        partial(EM, prepared.images, prepared.model, *settings, rng),
        partial(
            History,
            tolerance(features.tol, prepared, features.n_components),
            features.max_iter,
            prepared.cells_per_image,
            prepared.scale,
        ),
        # A sample is small: steps on parts of it would see too few patches for each component.
        stepwise=stepwise and prepared.model is prepared.whole,
        observer=Printer(task) if features.verbose else task,
    )
    vars(features).update(task.attributes(best))
    warn_of_fit(first, best)
    warn_of_zeros(features)
    task.end(best)


def partial_fit(features, images, *, first):
    """Take one step on a batch: `ConvGMMFeatures.partial_fit`, once its input is checked."""
    rng = check_random_state(features.random_state)
    if not first:
        check_continued(features, images.geometry)
    known = None if first else features._model.preprocessing
    if first or images.several_sizes:
        prepared = prepare_images(features, images, rng, known)
        images, model = images.in_precision(prepared.sample.patches.dtype), prepared.whole
    else:
        assignment, symmetry = grid_or_name(features.assignment), features._model.symmetry
        model = patch_model(images.geometry, assignment, known, symmetry, images.missing)
        _check_same_cells(features, model)
    to_fit, model_to_fit, patches_per_image = images, model, 1.0
    if images.several_sizes:
        to_fit, model_to_fit, patches_per_image = prepared.images, prepared.model, prepared.scale
    if first:
        (parameters,) = starting_parameters(
            features, prepared._replace(model=model_to_fit), images.geometry, rng, 1
        )
    else:
        parameters = parameters_of(features, images.geometry)
    past = None if first else features._statistics
    n_steps = 1 if first else features.n_iter_ + 1
    rate = (features.learning_offset + n_steps) ** -features.learning_decay
    em = EM(to_fit, model_to_fit, *em_settings(features, to_fit), rng)
    step = stream_step(em, parameters, past, rate, patches_per_image)
    if first:
        warn_of_zeros(features)
    vars(features).update(stream_attributes(None if first else features, step, model, images))


def _check_same_cells(features, model):
    """Whether the batches of a stream have one assignment, as their statistics are added up."""
    known = features._model
    if model.geometry == known.geometry and model.cells != known.cells:
        raise ValueError(
            f"assignment={features.assignment!r}; the stream was begun with another one. Restore "
            "it, or start anew from a clone."
        )


@single_threaded_blas()
def fit_best(starts, new_em, new_history, *, stepwise, observer=SILENT):
    """The run of EM with the best objective, of one from each of the starts.

    Parameters
    ----------
    starts : iterable of MixtureParameters
    new_em : callable
        Returns an `EM`.
    new_history : callable
        Returns a `History`.
    stepwise : bool
        Whether the passes begin where `stepwise_stage` ends.
    observer : Observer
        May stop the starts: the best is of those that were made.
    """
    fits = []
    for parameters in starts:
        task, em, history = observer.begin("start"), new_em(), new_history()
        if stepwise:
            parameters = stepwise_stage(em, parameters, history, task)
        fits.append(run(em, parameters, history, task))
        if task.end(fits[-1]):
            break
    return max(fits, key=lambda fit: fit.history.lower_bounds[-1])


def prepare_images(features, images, rng, preprocessing=None):
    """What EM is to fit, as the parameters of the estimator ask for it."""
    return prepare(
        images,
        grid_or_name(features.assignment),
        normalize=features.normalize,
        whiten=features.whiten,
        reg_covar=features.reg_covar,
        rng=rng,
        preprocessing=preprocessing,
        symmetry=check_symmetry(features.symmetry, images.geometry),
        max_patches=patches_to_fit(features.subsample, features.n_components),
    )


def tolerance(tol, prepared, n_components):
    """What a pass must gain for another one to follow, in nats per cell (eq. 46)."""
    if tol != "auto":
        return tol
    if prepared.model is prepared.whole:
        return LEAST_TOL
    n_parameters = n_components * (prepared.model.geometry.patch_length + 1)
    return max(LEAST_TOL, n_parameters / len(prepared.images))


def starting_parameters(features, prepared, geometry, rng, n_starts, continued=False):
    """Parameters of each start, one after the other."""
    if continued:
        yield parameters_of(features, geometry)
        return
    init = check_init(features.init_params, features.n_components, geometry)
    options = (features.n_components, init, features.noise_variance, rng)
    for _ in range(n_starts):
        yield start(prepared.sample, prepared.model, *options)


def em_settings(features, images):
    """The options and the execution of EM, as the parameters of the estimator ask for them."""
    n_kernels = features.n_components * check_symmetry(features.symmetry, images.geometry).order
    execution = Execution(
        workers_of(features, images),
        batch_size_of(features, images, n_kernels),
        Scratch(),
    )
    return Options(features.learn_weights, features.noise_variance), execution


def warn_of_fit(first, best):
    """Warn of components that start alike or are dead, and of passes that ended too early."""
    n_components, history = len(first.means), best.history
    n_distinct = len(np.unique(first.means, axis=0))
    if n_distinct < n_components:
        _warn(
            f"The images gave only {n_distinct} distinct kernel(s) to start "
            f"n_components={n_components} from; those that start alike stay alike. Lower "
            "n_components, or give more varied images."
        )
    if best.n_dead:
        _warn(
            f"{best.n_dead} of {n_components} components explain next to nothing "
            f"(n_reseeded_={best.n_reseeded}). Lower n_components, or give more varied images."
        )
    if not history.converged and history.tol > 0 and not history.stopped:
        _warn(
            f"EM did not converge in max_iter={history.max_iter} passes. Increase max_iter or "
            "tol; tol=0 makes exactly max_iter passes and does not warn."
        )


def warn_of_zeros(features):
    """Warn of a pooling that compares the only component with itself."""
    pooling = POOLINGS.get(features.pooling)
    alone = features.n_components == 1 and features.symmetry is None
    if alone and pooling is not None and pooling.rectified:
        _warn(
            f'n_components=1 with pooling="{features.pooling}" makes all features zero: each '
            'component is compared with the mean of all. Set pooling="logsumexp", or raise '
            "n_components.",
            UserWarning,
        )


def _warn(message, category=ConvergenceWarning):
    # The level of who calls `fit` of the estimator, through its decorator.
    warnings.warn(message, category, stacklevel=6)
