"""Array libraries that the same tests run on, and how many cases of each test run."""

import importlib.util
from collections import defaultdict

import array_api_strict
import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # its threads wait for each other where cores are shared


def read_only(x):
    x = np.array(x)
    x.flags.writeable = False
    return x


def torch_on(device):
    return lambda x: torch.asarray(np.array(x), device=device)


LIBRARIES = {
    "numpy": np.array,
    "read-only numpy": read_only,
    "array_api_strict": lambda x: array_api_strict.asarray(np.array(x)),
    "torch": torch_on("cpu"),
}
if torch.cuda.is_available():
    LIBRARIES["torch, cuda"] = torch_on("cuda")
if importlib.util.find_spec("cupy"):
    import cupy

    LIBRARIES["cupy"] = cupy.asarray


@pytest.fixture(params=LIBRARIES)
def from_numpy(request):
    """A function that makes an array of NumPy one of another library."""
    return LIBRARIES[request.param]


def pytest_addoption(parser):
    parser.addoption(
        "--cases",
        type=int,
        metavar="N",
        help="run at most N cases of each test, evenly spread; all of scikit-learn's own",
    )


def pytest_collection_modifyitems(config, items):
    n_cases = config.getoption("--cases")
    if n_cases is None:
        return
    tests = defaultdict(list)
    for item in items:
        of_sklearn = item.path.name == "test_common.py"
        tests[item.nodeid if of_sklearn else item.nodeid.partition("[")[0]].append(item)
    chosen = set()
    for cases in tests.values():
        spread = np.linspace(0, len(cases) - 1, min(n_cases, len(cases)))
        chosen.update(cases[i] for i in spread.round().astype(int))
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = [item for item in items if item in chosen]
