"""ConvGMMFeatures: parameters, validation and fitted attributes. The arithmetic lives elsewhere."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_calm._batches import check_images
from sklearn_calm._callbacks import begin_fit
from sklearn_calm._fitting import fit, partial_fit
from sklearn_calm._inference import feature_names, pooled_features
from sklearn_calm._likelihood import LikelihoodMixin
from sklearn_calm._parameters import PARAMETER_CONSTRAINTS, ImageShape, PoolingName
from sklearn_calm._pixels import PixelFeaturesMixin
from sklearn_calm._sklearn import (
    CallbackSupportMixin,
    DocumentationLinkMixin,
    check_input_features,
    checked_fit,
    validate_parameters,
)
from sklearn_calm._state import PlainStateMixin, kept_on_error
from sklearn_calm._validation import ImageTagsMixin, check_container


class ConvGMMFeatures(
    LikelihoodMixin,
    PixelFeaturesMixin,
    CallbackSupportMixin,
    DocumentationLinkMixin,
    PlainStateMixin,
    ImageTagsMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Convolution layer learned from unlabelled images by expectation-maximisation.

    An image, or each cell of it, is modelled as one patch of a Gaussian mixture at an unknown
    position, and background noise elsewhere. The E-step of EM is then a convolution, and the M-step
    uses the posterior map as a convolution filter. The features are pooled log posteriors [1]_.

    Parameters
    ----------
    n_components : int, default=64
        Number of kernels K. More give better features and take more time. Hundreds are usual.

    patch_size : int or tuple (height, width), default=5
        Size of a kernel. An int gives a square kernel and is clipped to the image. A pair must fit
        the padded image. Sizes from 5 to 7 perform about equally. Use a larger one, such as the 20
        of the paper, if each kernel should show a whole object.

    stride : int or tuple (vertical, horizontal), default=1
        Step between patches. With 2, `transform` takes a quarter of the time; accuracy is lower.

    dilation : int or tuple (vertical, horizontal), default=1
        Step between the pixels of a patch. With 2, a patch takes every second pixel, and reaches
        about twice as far at the same cost.

    padding : "auto", "same", int or tuple (vertical, horizontal), default="auto"
        Number of pixels that are added on each side of the image. "auto" adds half a patch with
        ``assignment="patch"``, which gives better accuracy, and nothing otherwise. "same" always
        adds half a patch, so that maps have the size of the image, divided by `stride` and rounded
        up. An int is clipped to one less than the patch size.

    padding_mode : {"auto", "constant", "edge", "reflect"}, default="auto"
        Values of the padding. "constant" adds zeros, as in the paper. "edge" repeats the pixels of
        the border. "reflect" mirrors the image about them, which makes no artificial edges. "auto"
        is "constant" if `padding` is a number or a pair of numbers, and "reflect" otherwise.

    image_shape : "auto", (height, width) or (height, width, n_channels), default="auto"
        Shape of one image, for flat rows, signals and images of any size. "auto" reads rows of
        square length as square grey images and any other row as a signal, an image of height 1,
        and `fit` warns if that looks wrong. None as height or width allows any, as (None, None, 3)
        for colour images and (1, None) for signals; "auto" does so for lists of several sizes.

    assignment : {"image", "patch"} or tuple (rows, columns), default="patch"
        Cells of an image. Each cell contains one patch of the mixture.

        - "patch": every position is a cell: a Gaussian mixture of all patches. Best and fastest.
        - "image": the image is one cell, as in the paper. Use it to find one object per image.
        - (rows, columns): a grid of cells.

    normalize : {None, "contrast"}, default="contrast"
        "contrast" subtracts the mean of each patch and divides by its standard deviation. None
        keeps the brightness of patches. Use None if the light does not vary, as for pen strokes on
        an empty background, or if `score_samples` should be a likelihood of pixels.

    whiten : bool, default=True
        Whether to whiten patches. A mixture of whitened patches is a mixture with a shared full
        covariance. Without whitening, most kernels model smooth patches. Set it to False if kernels
        should look like patches, or if `score_samples` should be a likelihood of pixels.

    symmetry : None, {"mirror", "rotation", "sign"} or tuple of these, default=None
        Transformations under which a kernel may appear: "mirror", mirrored left to right, or
        reversed if images are signals; "rotation", turned by 0, 90, 180 or 270 degrees; "sign",
        negated. Several names stand for all their combinations. Time grows with their number.

    reg_covar : float, default=0.1
        Ridge that is added to the covariance before whitening, relative to the mean variance. Use
        0.3 for hundreds of components, 1 for pen strokes, large patches and noisy images, and 1 to
        10 for a second layer. With a small ridge, whitening amplifies noise.

    noise_variance : "auto" or float, default="auto"
        Variance of the noise. "auto" learns it. A float keeps it fixed; the paper uses 1.0. A
        smaller variance makes responsibilities closer to 0 or 1.

    learn_weights : bool, default=True
        Whether to learn the weights of the components. False keeps them uniform, as in the paper.

    pooling : {"logsumexp", "max", "mean", "proportion", "tempered", "triangle"} or None, \
            default="triangle"
        How the log joint of a component is pooled over each region: "logsumexp", the paper's log
        posterior; "max"; "mean" of its responsibilities, to be read as shares; "proportion" of the
        positions at which it is above each of `n_thresholds` thresholds; "tempered", the mean of
        responsibilities whose log joint is divided by the values of a patch, which makes them soft;
        "triangle", the mean of what lies above the mean of all components. Use "triangle" under a
        linear classifier, "tempered" in a second layer on small maps, "proportion" for signals.
        None returns the maps, (n, rows, columns, n_components), as images for a next layer.

    n_thresholds : int, default=8
        Number of thresholds of each component with ``pooling="proportion"``, and of its features.
        They are quantiles of the log joint under the fitted mixture, at even levels.

    pool_grid : int or tuple (rows, columns), default=4
        Grid of regions. An int is square, and clipped to the map; a pair must fit the map. Lower
        it where things may lie anywhere in the image, or for fewer features. Use 1 for textures.

    pool_window : {"auto", "box", "gaussian"}, default="auto"
        Weights of the positions of a region. "box" counts the positions inside the region.
        "gaussian" weighs all positions by a Gaussian about the middle of the region, so that
        regions overlap; accuracy is better. "auto" is "box" for "logsumexp" and "max", which
        accepts no other, and "gaussian" otherwise.

    pool_width : float, default=0.6
        Standard deviation of a Gaussian window, in units of the height of a region vertically and
        of its width horizontally. Values from 0.5 to 0.8 perform about equally.

    pool_symmetry : {"image", "region"} or None, default="image"
        How features of the transformations of a kernel become one. "image" transforms the grid
        as the kernel: features of a turned image are those of the image. "region" pools within
        each region. None keeps a feature of each transformation.

    pool_contrast : float, default=0.0
        Power of the contrast of a patch that its scores are multiplied by. 0 leaves them as they
        are, 0.5 suits photographs. Needs ``pooling="triangle"`` and ``normalize="contrast"``.

    polarity : {"positive", "both"}, default="positive"
        Which scores become features with ``pooling="triangle"``: "positive", those above the mean
        of all components; "both", also those below it, in as many features again, which are about
        as accurate as those of twice as many components. Other poolings take "positive" only.

    flatten : bool, default=True
        Whether features are rows, for a classifier. False keeps them as pooled maps, of shape
        (n, grid rows, grid columns, n_components), which are images for a next layer. Channels of
        the second polarity, and of further thresholds, follow those of all components.

    missing_values : {"error", "ignore"}, default="error"
        Whether values may be missing: NaN, and masked values of masked arrays. "ignore" learns and
        pools from what is there; a region of which nothing is there has NaN as features.

    min_observed : float, default=0.1
        Share of its values that must be there for a patch to be used, with missing values.

    init_params : {"k-means++", "random_from_data", "random"} or array-like, default="k-means++"
        Starting kernels. With `whiten=True`, chosen patches are moved towards the mean patch.

        - "k-means++": patches chosen by k-means++.
        - "random_from_data": patches chosen at random.
        - "random": standard normal kernels, as in the paper.
        - array-like: kernels of the shape of `means_`, such as those of another fit.

    subsample : "auto" or int, default="auto"
        Maximum number of patches that are fitted with ``assignment="patch"``: a random sample, if
        there are more. "auto" is 250 for each component, from 20000 to 200000 in all. There are
        never more than 2**25 values: 49710 patches of 15 x 15 x 3.

    n_init : int, default=1
        Number of starts. The one with the best objective is kept. Given kernels start once.

    max_iter : int, default=100
        Maximum number of EM passes. Accuracy rarely improves after about four passes.

    tol : "auto" or float, default="auto"
        EM stops when a pass gains less than this in log-likelihood per cell. 0 makes exactly
        `max_iter` passes. "auto" is 0.01, or the number of learned values over the number of
        patches if a sample of them is fitted and this is larger.

    batch_size : int or "auto", default="auto"
        Images in a batch. Smaller batches need less memory. Results are equal up to rounding.

    learning_decay : float, default=0.7
        Exponent of the learning rate of `partial_fit`, in the interval (0.5, 1].

    learning_offset : float, default=10.0
        Nonnegative number that reduces the weight of early batches in `partial_fit`.

    warm_start : bool, default=False
        Whether `fit` continues from the parameters and the preprocessing of the last fit.

    n_jobs : int or None, default=None
        Number of threads over batches. None uses as many as BLAS would, or as
        :func:`joblib.parallel_config` asks for. Results are equal. Not used by torch and CuPy.

    backend : str, default="auto"
        Library that computes: "numpy", "torch" or "cupy", and a device of the latter two, as in
        "torch:cuda:1", "torch:cpu" or "cupy:0"; without a device, torch uses a GPU if there is one.
        "auto" uses the library and device of X. Results always have those of X.

    random_state : int, RandomState instance or None, default=None
        Generator for sampled patches and starting kernels. Pass an int for reproducible results.

    verbose : int, default=0
        1 prints a line for each pass, the reason for the end, and each tenth of the bands or tiles
        of large images. `set_callbacks` of scikit-learn 1.9 and later shows progress bars of fits.

    Attributes
    ----------
    means_ : ndarray of shape (n_components, height, width, n_channels)
        Means of the components (kernels), in the space of normalised patches.

    weights_ : ndarray of shape (n_components,)
        Weights of the components. They sum to 1.

    noise_variance_ : float
        Variance of the noise, in the space of preprocessed patches.

    conv_weight_ : ndarray of shape (n_kernels, height, width, n_channels)
        Weights of the convolution layer. With contrast normalisation, the output of the
        convolution is divided by the standard deviation of each patch before `conv_bias_` is added.
        With `symmetry`, a component has one kernel for each transformation, one after the other;
        otherwise `n_kernels` is `n_components`.

    conv_bias_ : ndarray of shape (n_kernels,)
        Bias of the convolution layer.

    contrast_floor_ : float or None
        Variance that contrast normalisation adds to that of a patch. None without normalisation.

    lower_bound_ : float
        Mean log-likelihood per image in the last pass, before its M-step.

    lower_bounds_ : list of float
        Mean log-likelihood per image of each pass of the best start, or of each `partial_fit`.

    n_iter_ : int
        Number of passes of the best start, or of calls of `partial_fit`.

    converged_ : bool
        Whether the best start reached the tolerance `tol`.

    n_reseeded_ : int
        Number of times that a dead component was re-seeded from a patch.

    image_shape_ : tuple (height, width, n_channels)
        Shape of one image. A height or width that may be any is None.

    n_features_in_ : int
        Number of values in one image. Not defined if images may have any size.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X. Defined only if X has column names that are all strings.

    n_samples_seen_ : int
        Number of images seen by `fit`, or by all calls of `partial_fit`.

    See Also
    --------
    sklearn.mixture.GaussianMixture : Mixture of rows rather than of patches.
    sklearn.cluster.MiniBatchKMeans : Learns kernels from patches that are extracted before.

    References
    ----------
    .. [1] L. Liang, "Efficient Learning of Convolution Weights as Gaussian Mixture Model
           Posteriors", arXiv:2401.17400, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_calm import ConvGMMFeatures
    >>> X, _ = load_digits(return_X_y=True)
    >>> features = ConvGMMFeatures(16, patch_size=5, pool_grid=2, random_state=0)
    >>> features.fit_transform(X).shape
    (1797, 64)
    >>> features.means_.shape
    (16, 5, 5, 1)
    """

    _parameter_constraints: ClassVar = PARAMETER_CONSTRAINTS

    def __init__(
        self,
        n_components: int = 64,
        *,
        patch_size: int | tuple[int, int] = 5,
        stride: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        padding: Literal["auto", "same"] | int | tuple[int, int] = "auto",
        padding_mode: Literal["auto", "constant", "edge", "reflect"] = "auto",
        image_shape: ImageShape = "auto",
        assignment: Literal["image", "patch"] | tuple[int, int] = "patch",
        normalize: Literal["contrast"] | None = "contrast",
        whiten: bool = True,
        symmetry: str | tuple[str, ...] | None = None,
        reg_covar: float = 0.1,
        noise_variance: Literal["auto"] | float = "auto",
        learn_weights: bool = True,
        pooling: PoolingName | None = "triangle",
        n_thresholds: int = 8,
        pool_grid: int | tuple[int, int] = 4,
        pool_window: Literal["auto", "box", "gaussian"] = "auto",
        pool_width: float = 0.6,
        pool_symmetry: Literal["image", "region"] | None = "image",
        pool_contrast: float = 0.0,
        polarity: Literal["positive", "both"] = "positive",
        flatten: bool = True,
        missing_values: Literal["error", "ignore"] = "error",
        min_observed: float = 0.1,
        init_params: Literal["k-means++", "random_from_data", "random"] | ArrayLike = "k-means++",
        subsample: Literal["auto"] | int = "auto",
        n_init: int = 1,
        max_iter: int = 100,
        tol: float | Literal["auto"] = "auto",
        batch_size: Literal["auto"] | int = "auto",
        learning_decay: float = 0.7,
        learning_offset: float = 10.0,
        warm_start: bool = False,
        n_jobs: int | None = None,
        backend: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.patch_size = patch_size
        self.stride = stride
        self.dilation = dilation
        self.padding = padding
        self.padding_mode = padding_mode
        self.image_shape = image_shape
        self.assignment = assignment
        self.normalize = normalize
        self.whiten = whiten
        self.symmetry = symmetry
        self.reg_covar = reg_covar
        self.noise_variance = noise_variance
        self.learn_weights = learn_weights
        self.pooling = pooling
        self.n_thresholds = n_thresholds
        self.pool_grid = pool_grid
        self.pool_window = pool_window
        self.pool_width = pool_width
        self.pool_symmetry = pool_symmetry
        self.pool_contrast = pool_contrast
        self.polarity = polarity
        self.flatten = flatten
        self.missing_values = missing_values
        self.min_observed = min_observed
        self.init_params = init_params
        self.subsample = subsample
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.learning_decay = learning_decay
        self.learning_offset = learning_offset
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.backend = backend
        self.random_state = random_state
        self.verbose = verbose

    @checked_fit
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn the kernels.

        If all patches of 2048 images or more are fitted, EM begins with a pass of stepwise EM,
        unless `tol` is 0 or kernels are given. `lower_bounds_` does not include that pass.

        Parameters
        ----------
        X : array-like of shape (n, height, width[, n_channels]) or (n, n_features)
            Images. Flat rows are read according to `image_shape`. X is read batch by batch and
            never copied as a whole. With ``assignment="patch"``, a list may hold images of several
            sizes. Each position counts once.
        y : Ignored
            For the scikit-learn interface.
        sample_weight : array-like of shape (n,) or None, default=None
            Weight of each image. An image of weight 2 counts as two images.

        Returns
        -------
        self : ConvGMMFeatures
            The fitted transformer.

        Raises
        ------
        ValueError
            If the images and the parameters do not fit together. The model is left unchanged.
        TypeError
            If X is no array of images, such as a loader, a path or a sparse matrix.
        ImportError
            If the library that `backend` names is not installed.
        """
        continued = self.warm_start and hasattr(self, "means_")
        # Kernels that were learned or given are better than what one step would make of them.
        known = continued or not isinstance(self.init_params, str)
        stepwise, n_starts = self.tol != 0 and not known, 1 if known else self.n_init
        # Outside, as scikit-learn keeps in the estimator which callbacks it is to tear down.
        task = begin_fit(self, X, y, sample_weight, n_starts, self.max_iter + stepwise)
        with kept_on_error(self):
            images = check_images(self, X, reset=True, sample_weight=sample_weight)
            fit(self, images, task, n_starts, continued=continued, stepwise=stepwise)
        return self

    @checked_fit
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn from one batch of a stream: one step of stepwise EM.

        The first call takes the starting kernels and the preprocessing from its batch.

        Parameters
        ----------
        X : array-like of shape (n, height, width[, n_channels]) or (n, n_features)
            A batch of images, as for `fit`. Batches may have different numbers of images.
        y : Ignored
            For the scikit-learn interface.
        sample_weight : array-like of shape (n,) or None, default=None
            Weight of each image within the batch.

        Returns
        -------
        self : ConvGMMFeatures
            The fitted transformer.

        Raises
        ------
        ValueError, TypeError, ImportError
            As for `fit`, or if the batch does not fit the model, which is left unchanged.
        """
        with kept_on_error(self):
            first = not hasattr(self, "means_")
            images = check_images(self, X, reset=first, sample_weight=sample_weight)
            partial_fit(self, images, first=first)
        return self

    def transform(self, X: Any) -> Any:
        """Features of images: the pooled log posteriors of the components.

        Parameters
        ----------
        X : array-like of shape (n, height, width[, n_channels]) or (n, n_features)
            Images of the shape that was fitted. If that is any shape, also a list of images.

        Returns
        -------
        features : array of shape (n, grid rows * grid columns * n_components)
            Ordered as `get_feature_names_out` says. ``polarity="both"`` doubles the number of
            columns, ``pool_symmetry=None`` multiplies it by the number of transformations, and
            ``pooling="proportion"`` by `n_thresholds`. With ``pooling=None`` the maps, (n, rows,
            columns, n_components), a list of them for several sizes; with ``flatten=False`` the
            pooled maps, (n, grid rows, grid columns, n_components). float64 if X is float64 or
            holds integers of 32 bits or more, else float32; library and device are those of X.

        Raises
        ------
        ValueError
            If the images, or parameters that were changed since, do not fit the model.
        """
        check_is_fitted(self)
        # Pooling may be changed on a fitted model, so it is checked here as well as in fit.
        validate_parameters(self)
        check_container(self, X, are_maps=self.pooling is None or not self.flatten)
        return pooled_features(self, check_images(self, X, method="transform"))

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Names of the features: region, component, and polarity or threshold if there are several.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only checked against `feature_names_in_`.

        Returns
        -------
        names : ndarray of str objects
            "convgmmfeatures_row0_column1_component2" and so on. "_transformation0", and then
            "_positive" or "_threshold0", may follow.

        Raises
        ------
        ValueError
            If the features are maps, which have no names.
        """
        check_is_fitted(self)
        check_input_features(self, input_features)
        return feature_names(self)
