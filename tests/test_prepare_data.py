"""The script that writes the files of the benchmarks, on what OpenML would return."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "benchmarks" / "prepare_data.py"


@pytest.fixture
def script():
    return runpy.run_path(str(SCRIPT))


def fetched(rng, n, n_columns):
    """Flat rows and labels as ``fetch_openml`` returns them: floats, and strings."""
    X = rng.integers(0, 256, size=(n, n_columns)).astype(float)
    return X, rng.integers(0, 10, size=n).astype(str).astype(object)


@pytest.mark.parametrize("seed", range(3))
def test_grey_images_are_rows_put_into_shape(script, seed):
    X, y = fetched(np.random.default_rng(seed), 7, 784)
    parts = script["convert"](X, y, (28, 28), 5)
    images = np.concatenate([parts["X_train"], parts["X_test"]])
    assert images.dtype == np.uint8
    assert parts["X_train"].shape == (5, 28, 28)
    np.testing.assert_array_equal(images.reshape(7, -1), X)
    labels = np.concatenate([parts["y_train"], parts["y_test"]])
    assert labels.dtype == np.int64
    assert [*map(str, labels)] == [*y]


def test_colour_images_have_their_channels_last(script):
    X, y = fetched(np.random.default_rng(0), 4, 3072)
    parts = script["convert"](X, y, (3, 32, 32), 3)
    assert parts["X_test"].shape == (1, 32, 32, 3)
    assert parts["X_train"][1, 5, 9, 2] == X[1, 2 * 1024 + 5 * 32 + 9]


@pytest.mark.parametrize("pixel", [0.5, -1.0, 256.0])
def test_pixels_that_are_no_bytes_are_refused(script, pixel):
    X, y = np.full((2, 784), pixel), np.array(["1", "2"])
    with pytest.raises(ValueError, match="whole numbers from 0 to 255"):
        script["convert"](X, y, (28, 28), 1)


def test_files_are_written_once(script, tmp_path, monkeypatch, capsys):
    calls = []

    def fetch_openml(name, **options):
        calls.append(name)
        return fetched(np.random.default_rng(0), 3, 784)

    monkeypatch.setitem(script["main"].__globals__, "fetch_openml", fetch_openml)
    monkeypatch.setattr(
        sys, "argv", ["prepare_data.py", "--data", str(tmp_path), "mnist", "fashion"]
    )
    for _ in range(2):
        script["main"]()
    assert calls == ["mnist_784", "Fashion-MNIST"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fashion.npz", "mnist.npz"]
    with np.load(tmp_path / "mnist.npz") as parts:
        assert sorted(parts) == ["X_test", "X_train", "y_test", "y_train"]
    assert capsys.readouterr().out.count("kept") == 2
