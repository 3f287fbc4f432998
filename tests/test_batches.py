"""How the images of an estimator are worked on in batches."""

import numpy as np
import pytest
from joblib import parallel_config

from _models import make_images, small
from sklearn_calm import ConvGMMFeatures
from sklearn_calm._batches import check_images, workers_of


@pytest.mark.parametrize(
    ("n_jobs", "configured", "worth", "expected"),
    [
        (None, 3, 1, 3),
        (None, 3, 10**9, 3),
        (None, 1, 10**9, 1),
        (2, 1, 10**9, 2),
        (2, 3, 10**9, 2),
        (1, 3, 1, 1),
    ],
)
def test_few_scores_need_no_threads_unless_they_are_asked_for(
    n_jobs, configured, worth, expected, monkeypatch
):
    monkeypatch.setattr("sklearn_calm._batches.WORTH_THREADS", worth)
    X, model = make_images(12), small(n_jobs=n_jobs)
    images = check_images(model, X, reset=True)
    with parallel_config("threading", n_jobs=configured):
        assert workers_of(model, images).n_jobs == expected


@pytest.mark.parametrize(("patch_size", "expected"), [(3, 1), (15, None)])
def test_large_patches_are_worth_threads(patch_size, expected, monkeypatch):
    monkeypatch.setattr("sklearn_calm._batches.Workers", lambda n_jobs: n_jobs)
    model = ConvGMMFeatures(64, patch_size=patch_size, padding=patch_size // 2)
    images = check_images(model, np.zeros((300, 15, 15)), reset=True)
    assert images.total_positions == 300 * 15 * 15
    with parallel_config("threading", n_jobs=1):
        assert workers_of(model, images) == expected
