import numpy as np
import pytest

from sklearn_calm._mixture.history import History


def record(history, *values):
    converged = []
    for value in values:
        history.record(value)
        converged.append(history.converged)
    return converged


@pytest.mark.parametrize(
    ("cells_per_image", "expected"),
    [(1, [False, False, False, True]), (10, [False, False, True, True])],
)
def test_tolerance_is_per_cell(cells_per_image, expected):
    history = History(0.5, 10, cells_per_image)
    assert record(history, -20.0, -10.0, -9.0, -8.9) == expected


def test_the_first_pass_never_converges():
    assert record(History(1e300, 10, 1), -1.0, -1.0) == [False, True]


def test_tolerance_zero_never_converges():
    assert record(History(0, 10, 1), -1.0, -1.0, -2.0) == [False, False, False]


def test_converged_is_about_the_last_pass():
    assert record(History(0.1, 10, 1), -2.0, -2.0, -1.0) == [False, True, False]


@pytest.mark.parametrize("max_iter", [1, 3])
def test_exhausted_after_max_iter_passes(max_iter):
    history = History(0, max_iter, 1)
    for n_iter in range(max_iter):
        assert history.n_iter == n_iter
        assert not history.exhausted
        history.record(float(n_iter))
    assert history.exhausted


def test_the_gain_is_per_cell():
    history = History(0.1, 5, 4)
    history.record(-3.0)
    assert history.gain == np.inf
    history.record(-1.0)
    assert history.gain == 0.5


def test_scale_makes_values_per_image():
    history = History(0.5, 10, 6, scale=3.0)
    assert record(history, -2.0, -0.9, 0.0) == [False, False, True]
    np.testing.assert_allclose(history.lower_bounds, [-6.0, -2.7, 0.0])


def test_what_is_recorded_are_plain_numbers():
    history = History(1.0, 5, 1)
    for bound in (1.0, 1.5):
        history.record(np.float64(bound))
    assert history.converged is True
    assert [type(bound) for bound in history.lower_bounds] == [float, float]
