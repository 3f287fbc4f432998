import numpy as np
import pytest

from sklearn_calm._mixture.history import ConvergenceMonitor


def record(monitor, *values):
    converged = []
    for value in values:
        monitor.record(value)
        converged.append(monitor.converged)
    return converged


@pytest.mark.parametrize(
    ("cells_per_image", "expected"),
    [(1, [False, False, False, True]), (10, [False, False, True, True])],
)
def test_tolerance_is_per_cell(cells_per_image, expected):
    monitor = ConvergenceMonitor(0.5, 10, cells_per_image)
    assert record(monitor, -20.0, -10.0, -9.0, -8.9) == expected


def test_the_first_pass_never_converges():
    assert record(ConvergenceMonitor(1e300, 10, 1), -1.0, -1.0) == [False, True]


def test_tolerance_zero_never_converges():
    assert record(ConvergenceMonitor(0, 10, 1), -1.0, -1.0, -2.0) == [False, False, False]


def test_converged_is_about_the_last_pass():
    assert record(ConvergenceMonitor(0.1, 10, 1), -2.0, -2.0, -1.0) == [False, True, False]


@pytest.mark.parametrize("max_iter", [1, 3])
def test_exhausted_after_max_iter_passes(max_iter):
    monitor = ConvergenceMonitor(0, max_iter, 1)
    for n_iter in range(max_iter):
        assert monitor.n_iter == n_iter
        assert not monitor.exhausted
        monitor.record(float(n_iter))
    assert monitor.exhausted


def test_scale_makes_values_per_image():
    monitor = ConvergenceMonitor(0.5, 10, 6, scale=3.0)
    assert record(monitor, -2.0, -0.9, 0.0) == [False, False, True]
    np.testing.assert_allclose(monitor.lower_bounds, [-6.0, -2.7, 0.0])


@pytest.mark.parametrize("verbose", [0, 1])
def test_verbose_prints_a_line_a_pass(capsys, verbose):
    record(ConvergenceMonitor(0, 3, 1, verbose=verbose), -2.5, -1.25)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * verbose
    if verbose:
        assert "pass 1/3" in lines[0]
        assert "-2.5" in lines[0]
        assert "pass 2/3" in lines[1]
        assert "(+1.25)" in lines[1]


def test_what_is_told_are_plain_numbers():
    monitor = ConvergenceMonitor(1.0, 5, 1)
    for bound in (1.0, 1.5):
        monitor.record(np.float64(bound))
    assert monitor.converged is True
    assert [type(bound) for bound in monitor.lower_bounds] == [float, float]
