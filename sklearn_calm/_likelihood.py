"""The fitted estimator as a model of images: the log-likelihood of each."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm._batches import check_images
from sklearn_calm._inference import log_likelihoods
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
            Images of the shape that was fitted.

        Returns
        -------
        log_likelihood : array of shape (n,)
            In nats, float64; of the library and on the device of X.
        """
        check_is_fitted(self)
        return log_likelihoods(self, check_images(self, X, method="score_samples"))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log-likelihood per image.

        Parameters
        ----------
        X : array-like of shape (n, height, width[, n_channels]) or (n, n_features)
            Images of the shape that was fitted.
        y : Ignored
            For the scikit-learn interface.
        sample_weight : array-like of shape (n,) or None, default=None
            Weight of each image.

        Returns
        -------
        log_likelihood : float
            In nats.
        """
        scores = to_numpy(self.score_samples(X))
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, len(scores))
        return float(np.average(scores, weights=sample_weight))
