import pytest
from matplotlib import pyplot

pyplot.switch_backend("Agg")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    pyplot.close("all")
