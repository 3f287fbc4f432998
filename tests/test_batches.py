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


def test_large_patches_are_worth_threads():
    X, n_components = np.zeros((300, 15, 15)), 64
    counts = []
    for patch_size in (3, 15):
        model = ConvGMMFeatures(n_components, patch_size=patch_size, padding=7)
        images = check_images(model, X, reset=True)
        alone = images.total_positions * n_components * patch_size**2 < 2**26
        counts.append((alone, workers_of(model, images).n_jobs == 1))
    assert counts[0] == (True, True)
    assert not counts[1][0]
