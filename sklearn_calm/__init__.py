"""Convolution layers learned from unlabelled images by expectation-maximisation."""

from sklearn_calm._conv_gmm import ConvGMMFeatures
from sklearn_calm._region_moments import RegionMoments

__version__ = "0.1.0"

__all__ = ["ConvGMMFeatures", "RegionMoments", "__version__"]
