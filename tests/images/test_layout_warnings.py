"""Layouts that look odd warn once, in a fit; those that are plainly images, or given, do not."""

import warnings

import dask.array as da
import numpy as np
import pytest
import torch
from scipy import signal
from sklearn.datasets import load_digits, load_sample_image

from _models import small
from sklearn_calm import ConvGMMFeatures

RNG = np.random.default_rng(0)
T = np.arange(484)
PHOTOGRAPH = load_sample_image("china.jpg")


def crops(side, n=60, seed=0):
    """Square parts of a photograph."""
    rng = np.random.default_rng(seed)
    ys, xs = rng.integers(427 - side, size=n), rng.integers(640 - side, size=n)
    return np.stack([PHOTOGRAPH[y : y + side, x : x + side] for y, x in zip(ys, xs, strict=True)])


def waves(n_values=484):
    t, rng = np.arange(n_values), np.random.default_rng(1)
    return np.sin(rng.uniform(0.05, 0.5, (40, 1)) * t + rng.uniform(0, 6, (40, 1)))


ODD = {
    "one photograph": ((64, 96, 3), "X[np.newaxis]"),
    "one with transparency": ((64, 96, 4), "X[np.newaxis]"),
    "loader of grey": ((10, 1, 28, 28), "X.transpose(0, 2, 3, 1)"),
    "loader of colour": ((10, 3, 32, 32), "X.permute(0, 2, 3, 1)"),
    "loader of wide colour": ((10, 3, 24, 32), "X.transpose(0, 2, 3, 1)"),
    "bands first": ((10, 13, 24, 24), "13 channel(s) come first"),
    "series": ((10, 500, 3), "set image_shape=(1, 500, 3)"),
    "series with channels first": ((10, 3, 500), "set image_shape=(1, 500, 3)"),
    "series of many channels": ((10, 200, 9), "set image_shape=(1, 200, 9)"),
    "stereo": ((10, 160, 2), "set image_shape=(1, 160, 2)"),
}
PLAIN = {
    "grey": (10, 28, 28),
    "one grey": (1, 28, 28),
    "three grey": (3, 28, 28),
    "colour": (10, 32, 32, 3),
    "bands": (10, 32, 32, 13),
    "rows": (40, 784),
    "one row": (1, 784),
    "rows of signals": (40, 500),
    "rows of colour": (40, 192),
    "signals with channels": (10, 1, 100, 3),
    "signals of one channel": (10, 1, 100),
    "maps": (10, 12, 12, 64),
    "maps of signals": (10, 1, 30, 64),
    "pooled maps": (10, 4, 4, 64),
    "spectrograms": (10, 40, 120),
    "portraits": (10, 62, 47),
    "tiny": (10, 4, 3),
}
FAST = {"n_components": 2, "max_iter": 1, "whiten": False, "init_params": "random_from_data"}


def layout_warnings(X, method="fit", **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(small(**FAST, **options), method)(X)
    return [w for w in caught if "The layout of X" in str(w.message)]


@pytest.mark.parametrize(("shape", "words"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_odd_shapes_warn(shape, words, method):
    X = np.random.default_rng(0).random(shape)
    (warning,) = layout_warnings(X, method)
    message = str(warning.message)
    assert str(shape) in message
    assert words in message
    assert warning.filename == __file__
    keep = message.rpartition("set image_shape=")[2].rstrip(".")
    assert not layout_warnings(X, method, image_shape=tuple(map(int, keep.strip("()").split(","))))


@pytest.mark.parametrize("shape", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_plain_shapes_do_not(shape, method):
    for X in (np.random.default_rng(0).random(shape), np.full(shape, 7)):
        assert not layout_warnings(X, method)


def test_other_libraries_warn_too():
    X = np.random.default_rng(0).random((10, 3, 24, 24))
    assert layout_warnings(torch.asarray(X))
    assert layout_warnings(da.from_array(X, chunks=(4, -1, -1, -1)))
    assert layout_warnings(da.from_array(waves(), chunks=(7, -1)))
    assert not layout_warnings(da.from_array(load_digits().data, chunks=(200, -1)))


def test_only_the_first_batch_warns():
    X = np.random.default_rng(0).random((10, 60, 3))
    with pytest.warns(UserWarning, match="layout of X"):
        model = small(**FAST).partial_fit(X)
    model.partial_fit(X).transform(X)
    model.score_samples(X)


SIGNALS = {
    "waves": waves(),
    "noisy waves": waves() + np.random.default_rng(2).normal(size=(40, 484)),
    "walks": RNG.normal(size=(40, 484)).cumsum(axis=1),
    "smooth": signal.lfilter([1], [1, -0.9], RNG.normal(size=(40, 484))),
    "resonant": signal.lfilter([1], [1, -1.6, 0.9], RNG.normal(size=(40, 484))),
    "beats": np.exp(-(((T + RNG.uniform(0, 60, (40, 1))) % 61 - 30) ** 2) / 8),
    "short": waves(64),
    "few": waves()[:2],
}


@pytest.mark.parametrize("rows", SIGNALS.values(), ids=SIGNALS)
def test_rows_of_signals_that_would_be_squares_warn(rows):
    (warning,) = layout_warnings(rows)
    assert f"set image_shape=(1, {rows.shape[1]})" in str(warning.message)
    assert not layout_warnings(rows, image_shape=(1, rows.shape[1]))
    assert layout_warnings(1e-30 * rows)
    assert layout_warnings((100 * rows).astype(np.int16))


IMAGES = {
    "digits": load_digits().data,
    "few digits": load_digits().data[:5],
    **{f"crops of {side}": crops(side).mean(axis=-1) for side in (8, 16, 32)},
    "noise": RNG.normal(size=(40, 484)),
    "strokes": RNG.normal(size=(40, 36)),
}


@pytest.mark.parametrize("rows", IMAGES.values(), ids=IMAGES)
def test_flattened_images_do_not(rows):
    assert not layout_warnings(rows.reshape(len(rows), -1))


def test_flattened_colour_images_that_would_be_signals_warn():
    X = crops(16)
    (last,) = layout_warnings(X.reshape(60, -1))
    assert "set image_shape=(16, 16, 3)" in str(last.message)
    assert "channels come first" not in str(last.message)
    (first,) = layout_warnings(X.transpose(0, 3, 1, 2).reshape(60, -1))
    assert "X.reshape(-1, 3, 16, 16).transpose(0, 2, 3, 1)" in str(first.message)
    assert not layout_warnings(X.reshape(60, -1), image_shape=(16, 16, 3))
    assert not layout_warnings(waves(768))


def test_channels_of_one_photograph_warn():
    photograph = PHOTOGRAPH[100:160, 200:290]
    (warning,) = layout_warnings(photograph.transpose(2, 0, 1))
    assert "X.transpose(1, 2, 0)[np.newaxis]" in str(warning.message)
    assert not layout_warnings(crops(30, n=3).mean(axis=-1))


def test_grey_images_in_channels_first_that_are_not_square_warn():
    X = crops(32)[:, :28, :20].mean(axis=-1)[:, np.newaxis]
    assert layout_warnings(X)
    assert not layout_warnings(np.random.default_rng(0).random(X.shape))


@pytest.mark.parametrize("missing_values", ["error", "ignore"])
@pytest.mark.parametrize("length", [64, 192])
def test_rows_that_all_miss_a_value_are_read_all_the_same(missing_values, length):
    X = np.random.default_rng(0).random((20, length))
    X[:, 0] = np.nan
    model = ConvGMMFeatures(2, missing_values=missing_values, random_state=0, max_iter=1, tol=0)
    if missing_values == "ignore":
        assert model.fit(X).transform(X).shape[0] == 20
        assert model.partial_fit(X).n_samples_seen_ == 40
    else:
        with pytest.raises(ValueError, match="contains NaN"):
            model.fit(X)
