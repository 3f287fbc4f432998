"""Displays of what was learned. They need matplotlib: ``pip install "sklearn-calm[plot]"``."""

from sklearn_calm.plotting._kernels import KernelDisplay
from sklearn_calm.plotting._lower_bounds import LowerBoundDisplay
from sklearn_calm.plotting._responsibilities import ResponsibilityDisplay
from sklearn_calm.plotting._score_maps import ScoreMapDisplay
from sklearn_calm.plotting._top_patches import TopPatchesDisplay

__all__ = [
    "KernelDisplay",
    "LowerBoundDisplay",
    "ResponsibilityDisplay",
    "ScoreMapDisplay",
    "TopPatchesDisplay",
]
