import numpy as np

from _drawing import fitted
from sklearn_calm.plotting import LowerBoundDisplay


def test_lower_bounds():
    model = fitted()
    display = LowerBoundDisplay.from_estimator(model, color="red")
    passes, values = display.ax_.get_lines()[0].get_data()
    np.testing.assert_array_equal(passes, [1, 2, 3])
    np.testing.assert_array_equal(values, model.lower_bounds_)
    assert display.ax_.get_lines()[0].get_color() == "red"
    assert "log-likelihood" in display.ax_.get_ylabel()
