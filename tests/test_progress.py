"""Lines that `verbose` prints."""

import re

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose

from _models import small
from sklearn_calm import _bands
from sklearn_calm._mixture.history import SILENT, History
from sklearn_calm._progress import Printer

# So many images are enough for a stepwise stage; 2 components then make 65 steps.
MANY, STEPS = 2100, 65


def make(**options):
    return small(**{"n_components": 2, "assignment": "image", "verbose": 1, "tol": 0.05} | options)


def printed(capsys):
    lines = capsys.readouterr().out.splitlines()
    for line in lines:
        assert re.fullmatch(r"\[ConvGMMFeatures\] .*, \d+\.\d s", line)
    return [line.removeprefix("[ConvGMMFeatures] ").rpartition(", ")[0] for line in lines]


def make_images(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 6, 7)) + 0.3


@pytest.mark.parametrize("dask", [False, True])
def test_a_line_for_the_stage_for_each_pass_and_for_the_end(dask, capsys):
    X = make_images(MANY)
    features = make(max_iter=100).fit(da.from_array(X, chunks=(900, 6, 7)) if dask else X)
    lines = printed(capsys)
    assert lines[0] == f"stepwise stage: {STEPS} steps"
    assert len(lines) == 2 + features.n_iter_
    assert lines[1] == f"pass 1/100: log-likelihood per image {features.lower_bounds_[0]:.6g}"
    gain = features.lower_bounds_[-1] - features.lower_bounds_[-2]  # there is one cell an image
    assert lines[-2].endswith(f", gain per cell {gain:.3g}")
    assert lines[-1] == f"converged after {features.n_iter_} passes: gain per cell below tol=0.05"


@pytest.mark.parametrize("max_iter", [1, 3])
def test_the_last_line_names_the_limit(max_iter, capsys):
    make(max_iter=max_iter, tol=0).fit(make_images(50))
    lines = printed(capsys)
    passes = "1 pass" if max_iter == 1 else f"{max_iter} passes"
    assert lines[-1] == f"stopped after {passes}: max_iter={max_iter}"
    assert not any("stage" in line for line in lines)


def test_each_start_has_an_end(capsys):
    make(max_iter=2, tol=0, n_init=3).fit(make_images(50))
    assert sum(line.startswith("stopped after") for line in printed(capsys)) == 3


def test_an_observer_below_the_printer_may_stop(capsys):
    class Stops(type(SILENT)):
        def end(self, fit=None):
            return True

    history = History(0, 9, 1)
    history.record(-1.0)
    history.stopped = True

    class Fit:
        pass

    fit = Fit()
    fit.history = history
    start = Printer(Stops()).begin("start")
    assert start.begin("pass").end(fit)
    assert start.end(fit)
    assert printed(capsys)[-1] == "stopped by a callback after 1 pass"


@pytest.mark.parametrize("method", ["transform", "score_map", "score_samples"])
def test_a_line_for_each_tenth_of_the_bands_of_large_images(method, capsys, monkeypatch):
    X = make_images(4)
    features = make(assignment="patch", max_iter=1, tol=0).fit(X)
    expected = getattr(features, method)(X)
    capsys.readouterr()
    monkeypatch.setattr(_bands, "LARGE_BYTES", 0)
    monkeypatch.setattr(_bands, "BAND_BYTES", 1)
    assert_allclose(getattr(features, method)(X), expected, rtol=1e-9)
    # 4 rows of the map of each of 4 images
    assert printed(capsys) == [f"band {i}/16" for i in (2, 4, 5, 7, 8, 10, 12, 13, 15, 16)]
    getattr(features, method)(da.from_array(X, chunks=(2, 6, 7))).compute()
    assert not printed(capsys)


def test_a_line_for_each_tenth_of_the_tiles_of_pixels(capsys, monkeypatch):
    X = make_images(3)
    features = make(assignment="patch", padding="same", max_iter=1, tol=0).fit(X)
    capsys.readouterr()
    features.transform_pixels(X[:1])
    assert not printed(capsys)
    features.transform_pixels(X)
    assert printed(capsys) == ["tile 1/3", "tile 2/3", "tile 3/3"]


def test_nothing_is_printed_unless_asked(capsys, monkeypatch):
    monkeypatch.setattr(_bands, "LARGE_BYTES", 0)
    make(verbose=0).fit(make_images(50)).transform(make_images(3))
    assert not capsys.readouterr().out
