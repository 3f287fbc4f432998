"""The fitted estimator as a model of images: the log-likelihood of each."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm._batches import check_images
from sklearn_calm._inference import log_likelihoods, score_maps
from sklearn_calm._sklearn import validate_parameters
from sklearn_calm._validation import check_weights


class LikelihoodMixin:
    """Methods that say how likely images are under the fitted mixture."""

    def score_samples(self, X: Any) -> Any:
        """Log-likelihood of each image.

        With ``assignment="image"``, ``normalize=None`` and ``whiten=False`` it is the exact density
        of the (padded) image. Otherwise it is a composite likelihood, in which overlapping patches
        count separately.

        Parameters
        ----------
        X : array-like of shape (n, height, width[, n_channels]) or (n, n_features)
            Images of the shape that was fitted. If that is any shape, also a list of images.

        Returns
        -------
        log_likelihood : array of shape (n,)
            In nats, float64; of the library and on the device of X.

        Raises
        ------
        ValueError
            If the images do not fit the model.
        """
        check_is_fitted(self)
        validate_parameters(self)
        return log_likelihoods(self, check_images(self, X, method="score_samples"))

    def score_map(self, X: Any) -> Any:
        """Log-likelihood of each position of each image: low where an image is unusual.

        The map of an image adds up to its `score_samples`. Each value is that of one cell: of one
        patch with ``assignment="patch"``, of the whole image with ``assignment="image"``. With
        ``assignment="patch"``, ``padding="same"`` and a stride of 1, the map has the size of the
        image, and the value of a pixel is that of the patch around it.

        Parameters
        ----------
        X : array-like of shape (n, height, width[, n_channels]) or (n, n_features)
            Images of the shape that was fitted. If that is any shape, also a list of images.

        Returns
        -------
        log_likelihood : array of shape (n, cell rows, cell columns), or list of such arrays
            In nats, float64; of the library and on the device of X. A list for a list of images.
            With ``missing_values="ignore"`` it is NaN where too much is missing, and the others add
            up.

        Raises
        ------
        ValueError
            If the images do not fit the model.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_calm import ConvGMMFeatures
        >>> X = np.random.default_rng(0).normal(size=(20, 16, 16))
        >>> X[0, 5, 8] += 10
        >>> model = ConvGMMFeatures(4, padding=2, normalize=None, random_state=0).fit(X[1:])
        >>> log_likelihood = model.score_map(X)
        >>> log_likelihood.shape
        (20, 16, 16)
        >>> np.allclose(log_likelihood.sum(axis=(1, 2)), model.score_samples(X))
        True
        >>> row, column = np.unravel_index(log_likelihood[0].argmin(), (16, 16))
        >>> bool(abs(row - 5) <= 2 and abs(column - 8) <= 2)
        True
        """
        check_is_fitted(self)
        validate_parameters(self)
        return score_maps(self, check_images(self, X, method="score_map"))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log-likelihood per image.

        Parameters
        ----------
        X : array-like of shape (n, height, width[, n_channels]) or (n, n_features)
            Images of the shape that was fitted. If that is any shape, also a list of images.
        y : Ignored
            For the scikit-learn interface.
        sample_weight : array-like of shape (n,) or None, default=None
            Weight of each image.

        Returns
        -------
        log_likelihood : float
            In nats.

        Raises
        ------
        ValueError
            If the images or the weights do not fit the model or each other.
        """
        scores = to_numpy(self.score_samples(X))
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, len(scores))
        return float(np.average(scores, weights=sample_weight))
