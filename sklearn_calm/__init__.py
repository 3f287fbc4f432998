"""Convolution layers learned from unlabelled images by expectation-maximisation."""

from sklearn_calm._conv_gmm import ConvGMMFeatures

__version__ = "0.1.0"

__all__ = ["ConvGMMFeatures", "__version__"]
