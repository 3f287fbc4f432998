"""Array libraries that the same tests run on."""

import importlib.util

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
