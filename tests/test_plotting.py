import builtins
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import KernelDisplay, LowerBoundDisplay

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    matplotlib.pyplot.close("all")


def fitted(channels=1):
    X = np.random.default_rng(0).random((20, 6, 6, channels))
    return ConvGMMFeatures(5, patch_size=3, max_iter=3, tol=0, random_state=0).fit(X)


def drawn(display):
    return np.asarray(display.ax_.get_images()[0].get_array())


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_kernels_heaviest_first(channels):
    model = fitted(channels)
    picture = drawn(KernelDisplay.from_estimator(model))
    assert picture.ndim == (3 if channels == 3 else 2)
    heaviest = model.means_[np.argmax(model.weights_)]
    heaviest = heaviest if channels == 3 else heaviest.mean(axis=2)
    heaviest = (heaviest - heaviest.min()) / (heaviest.max() - heaviest.min())
    first = picture[: 3 * 16 : 16, : 3 * 16 : 16]
    np.testing.assert_allclose(first, heaviest, rtol=1e-6, atol=1e-6)


def test_shared_scale_keeps_the_contrast_between_kernels():
    kernels = np.stack([np.eye(3), 2 * np.eye(3)])[..., None]
    each = drawn(KernelDisplay(kernels).plot(n_columns=2))
    shared = drawn(KernelDisplay(kernels).plot(n_columns=2, shared_scale=True))
    assert each[0, 0] == 1
    assert shared[0, 0] == 0.5


def test_n_kernels_and_axes():
    figure, ax = matplotlib.pyplot.subplots()
    display = KernelDisplay.from_estimator(fitted(), n_kernels=2, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert len(display.kernels) == 2


def test_a_constant_kernel_is_drawn():
    assert np.isfinite(drawn(KernelDisplay(np.ones((1, 3, 3, 1))).plot())).all()


def test_lower_bounds():
    model = fitted()
    display = LowerBoundDisplay.from_estimator(model)
    passes, values = display.ax_.get_lines()[0].get_data()
    np.testing.assert_array_equal(passes, [1, 2, 3])
    np.testing.assert_array_equal(values, model.lower_bounds_)
    assert "log-likelihood" in display.ax_.get_ylabel()


@pytest.mark.parametrize("display", [KernelDisplay, LowerBoundDisplay])
def test_before_fit(display):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        display.from_estimator(ConvGMMFeatures())


def test_without_matplotlib(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    model = fitted()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r'pip install "sklearn-calm\[plot\]"'):
        KernelDisplay.from_estimator(model)


def test_the_demonstration(tmp_path):
    script = Path(__file__).parents[1] / "docs" / "examples" / "demo.py"
    command = [sys.executable, script, "--n-train", "200", "--n-components", "8", "--out", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "raw pixels, logistic regression: test accuracy 0." in result.stdout
    assert "ConvGMMFeatures, logistic regression: test accuracy 0." in result.stdout
    assert "pass 2/" in result.stdout
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["digits_kernels.png", "digits_objective.png"]
