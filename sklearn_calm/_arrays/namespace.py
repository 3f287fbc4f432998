"""The only door to other array libraries than NumPy: CuPy, torch and the Array API.

Large arrays (batches of images, score maps, features) stay on the device that computes. Small ones
(parameters, statistics, samples of patches) are NumPy arrays in float64. The other modules use the
functions that all libraries share. Where a library needs a call of its own, or does better in
place, there is a function for it here.
"""

import importlib
import itertools
import math
import sys
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

# Exponentials that are less count as 0. Their products with other small values remain far from the
# subnormal numbers of their precision.
LEAST_EXPONENTIAL = {"float32": 1e-26, "float64": 1e-200}


def _is_of(module, kind, x):
    """Whether x is an instance of a class of a module. The module is not imported for it."""
    return isinstance(x, getattr(sys.modules.get(module), kind, ()))


def _test_of_kind(library, module, kind):
    """The test of array-api-compat for arrays of a library, or an equal one where it is missing."""
    try:
        return getattr(importlib.import_module("array_api_compat"), f"is_{library}_array")
    except ImportError:
        return partial(_is_of, module, kind)


# Libraries whose arrays are used without conversion. array_api_strict is there for the tests.
FOLLOWED = {
    "torch": _test_of_kind("torch", "torch", "Tensor"),
    "cupy": _test_of_kind("cupy", "cupy", "ndarray"),
    "array_api_strict": partial(_is_of, "array_api_strict._array_object", "Array"),
}


def library_of(x):
    """Name of the library of an array: "numpy" for all that is to be made NumPy."""
    if isinstance(x, np.ndarray):
        return "numpy"
    return next((library for library, is_one in FOLLOWED.items() if is_one(x)), "numpy")


# Whether an array is a Dask array: lazy, and of blocks that may be of any library.
is_dask = _test_of_kind("dask", "dask.array", "Array")


def array_namespace(x):
    """The functions of the library of an array."""
    return np if isinstance(x, np.ndarray) else namespace(library_of(x))


def namespace(library):
    """The functions of a library by its name."""
    if library == "numpy":
        return np
    name = library if library == "array_api_strict" else f"array_api_compat.{library}"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"Working with {library} needs the packages array-api-compat and {library}: pip "
            f"install 'sklearn-calm[{library}]', or use backend=\"numpy\"."
        ) from error


class Placement(NamedTuple):
    """Where batches are worked on, and in what precision."""

    library: str
    device: object | None  # None is that library's own choice
    dtype: np.dtype  # as NumPy calls it

    @property
    def xp(self):
        return namespace(self.library)

    @property
    def is_numpy(self):
        return self.library == "numpy"

    @property
    def on_accelerator(self):
        return self.library == "cupy" or (
            self.library == "torch" and str(self.device).partition(":")[0] != "cpu"
        )

    def asarray(self, values, *, cast=True):
        """An array of any library here, in this precision or in its own."""
        if self.library != library_of(values):
            values = to_numpy(values)
        elif self.library == "torch":
            values = values.detach()
        if self.is_numpy:
            return np.asarray(values, self.dtype if cast else None, order="C")
        xp = self.xp
        if isinstance(values, np.ndarray):
            values = _sendable(values, self.dtype)
        values = xp.asarray(values, device=self.device)
        return xp.astype(values, getattr(xp, self.dtype.name), copy=False) if cast else values

    def empty(self, shape, dtype):
        """An uninitialised array here."""
        if self.is_numpy:
            return np.empty(shape, dtype)
        return self.xp.empty(shape, dtype=dtype, device=self.device)


def _sendable(values, dtype):
    """NumPy values as every library takes them; small integers go as they are."""
    if values.dtype not in (np.uint8, np.int8, np.bool_, np.float32, np.float64):
        return values.astype(dtype)
    # torch warns of memory that must not be written to, though nobody does.
    return values if values.flags.writeable else values.copy()


def find_placement(backend, home):
    """Where the work is to be done, for images that are at `home`.

    Parameters
    ----------
    backend : str
        "auto", or a library and perhaps its device: "numpy", "torch", "torch:cuda:1", "cupy:0".
    home : Placement

    Raises
    ------
    ValueError
        If there is no such library or device.
    ImportError
        If the library is not installed.
    """
    if backend == "auto":
        namespace(home.library)
        return home
    library, _, name = backend.partition(":")
    if library not in ("numpy", "torch", "cupy") or (library == "numpy" and name):
        raise ValueError(
            f'backend={backend!r}: expected "auto", "numpy", "torch" or "cupy", the last two with '
            'a device if you like: "torch:cpu", "torch:cuda:1", "cupy:0".'
        )
    if library == "numpy":
        return home._replace(library="numpy", device=None)
    namespace(library)
    own = importlib.import_module(library)
    try:
        device = _torch_device(own, name) if library == "torch" else own.cuda.Device(int(name or 0))
    except (RuntimeError, ValueError, AssertionError) as error:  # the last from torch without CUDA
        raise ValueError(f"backend={backend!r} names no device of {library}: {error}") from error
    return home._replace(library=library, device=device)


def _torch_device(torch, name):
    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.empty(0, device=device)  # whether it is there
    return device


def device_of(x):
    """Device of an array; None for NumPy."""
    return None if isinstance(x, np.ndarray) else x.device


def like(values, x):
    """NumPy values as an array of the library, precision and device of another."""
    if isinstance(x, np.ndarray):
        return np.asarray(values, x.dtype)
    return array_namespace(x).asarray(np.array(values), dtype=x.dtype, device=x.device)


def indices(values, x):
    """NumPy integers as an array that indexes another."""
    if isinstance(x, np.ndarray):
        return values
    return array_namespace(x).asarray(np.array(values, np.int64), device=x.device)


def to_numpy(x):
    """An array of any library as NumPy; itself if it is."""
    library = library_of(x)
    if library == "torch":
        known = x if _has_numpy_dtype(x) else x.float()
        return known.numpy(force=True)
    if library == "cupy":
        return x.get()
    if library == "array_api_strict":
        x = x.to_device(namespace(library).Device("CPU_DEVICE"))
    return np.asarray(x)


def numpy_dtype(x):
    """The NumPy name of an array's precision."""
    if library_of(x) == "numpy":
        return x.dtype
    # bfloat16 and floats of 8 bits, which NumPy has no names for, are held by float32.
    return np.dtype(_dtype_name(x) if _has_numpy_dtype(x) else np.float32)


def _dtype_name(x):
    return str(x.dtype).rpartition(".")[2]


def _has_numpy_dtype(x):
    return hasattr(np, _dtype_name(x))


def empty(shape, x):
    """An uninitialised array of the library, precision and device of another."""
    return array_namespace(x).empty(shape, dtype=x.dtype, device=x.device)


def take(x, rows):
    """The rows of an array, by a slice, a mask or integers, all of NumPy."""
    if isinstance(x, np.ndarray):
        return x[rows]
    if isinstance(rows, slice):
        return x[rows, ...]
    rows = np.arange(x.shape[0])[rows]
    return array_namespace(x).take(x, indices(rows, x), axis=0)


def write_rows(out, rows, values):
    """Write values over the rows of an array, by integers of NumPy."""
    if library_of(out) != "array_api_strict":
        out[indices(rows, out)] = values
        return
    for i, row in enumerate(rows.tolist()):
        out[row, ...] = values[i, ...]


def contiguous(x):
    """The values of an array in the order of its axes, copied if they lie otherwise."""
    if isinstance(x, np.ndarray):
        return np.ascontiguousarray(x)
    if library_of(x) == "torch":
        return x.contiguous()
    return array_namespace(x).reshape(x, x.shape)


def copied(x):
    """A copy in the order of the axes."""
    if isinstance(x, np.ndarray):
        return x.copy()
    if library_of(x) == "torch":
        return x.clone().contiguous()
    return array_namespace(x).asarray(x, copy=True)


def strided(x, shape, steps):
    """A view of a contiguous array by steps counted in its values; not to be written to.

    Libraries without such views get a copy.
    """
    if isinstance(x, np.ndarray):
        return as_strided(x, shape, [x.itemsize * step for step in steps], writeable=False)
    library, xp = library_of(x), array_namespace(x)
    if library == "torch":
        return x.as_strided(shape, steps)
    if library == "cupy":
        strides = [x.itemsize * step for step in steps]
        return xp.lib.stride_tricks.as_strided(x, shape, strides)
    places = np.zeros(shape, np.int64)
    for axis, (side, step) in enumerate(zip(shape, steps, strict=True)):
        places += step * np.arange(side).reshape(-1, *(1,) * (len(shape) - axis - 1))
    values = xp.take(xp.reshape(x, (-1,)), indices(places.ravel(), x))
    return xp.reshape(values, tuple(shape))


def take_at(x, first, second):
    """x[first, second] of an array of three axes or more."""
    if library_of(x) != "array_api_strict":
        return x[first, second]
    xp = array_namespace(x)
    flat = xp.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))
    return xp.take(flat, first * x.shape[1] + second, axis=0)


def matmul_into(out, a, b):
    """The product of two stacks of matrices, in memory that is there already."""
    if isinstance(out, np.ndarray):
        return np.matmul(a, b, out=out)
    if library_of(out) in ("torch", "cupy"):
        return importlib.import_module(library_of(out)).matmul(a, b, out=out)
    out[...] = a @ b
    return out


def multiply_into(out, x, y):
    """The product of two arrays, in memory that is there already."""
    if isinstance(out, np.ndarray):
        return np.multiply(x, y, out=out)
    if library_of(out) in ("torch", "cupy"):
        return importlib.import_module(library_of(out)).multiply(x, y, out=out)
    out[...] = x * y
    return out


def exp_in_place(x):
    """exp(x), written over x; 0 where it is less than `LEAST_EXPONENTIAL`.

    Smaller values would soon be subnormal numbers, with which many processors compute some twenty
    times as slowly.
    """
    dtype = numpy_dtype(x)
    least = LEAST_EXPONENTIAL[dtype.name]
    lowest = dtype.type(math.log(least))
    if isinstance(x, np.ndarray):
        np.maximum(x, lowest, out=x)
        np.exp(x, out=x)
        x -= np.exp(lowest)
        return x
    if library_of(x) == "torch":
        return x.clamp_(min=float(lowest)).exp_().sub_(float(np.exp(lowest))).clamp_(min=0)
    xp = array_namespace(x)
    x[...] = xp.clip(xp.exp(xp.clip(x, float(lowest), None)) - float(np.exp(lowest)), 0.0, None)
    return x


def rectify(x, zeros):
    """What is positive of x, written over x; `zeros` is of its shape."""
    if isinstance(x, np.ndarray):
        # NumPy takes the maximum of two arrays several times as fast as that with a number.
        return np.maximum(x, zeros, out=x)
    if library_of(x) == "torch":
        return x.clamp_(min=0)
    x[...] = array_namespace(x).maximum(x, zeros)
    return x


def minimum_into(out, x, y):
    """The minimum of two arrays, in memory that is there already."""
    if isinstance(out, np.ndarray):
        return np.minimum(x, y, out=out)
    if library_of(out) in ("torch", "cupy"):
        return importlib.import_module(library_of(out)).minimum(x, y, out=out)
    out[...] = array_namespace(out).minimum(x, y)
    return out


def sum_segments(x, edges, axis):
    """Sums of the parts between edges, along an axis."""
    if len(edges) == x.shape[axis] + 1:
        return x
    if isinstance(x, np.ndarray):
        return np.add.reduceat(x, edges[:-1], axis=axis)
    xp, before = array_namespace(x), (slice(None),) * axis
    parts = (x[(*before, slice(*pair), ...)] for pair in itertools.pairwise(edges))
    return xp.stack([xp.sum(part, axis=axis) for part in parts], axis=axis)


def count_true(x):
    """How many of an array's booleans are true; the standard has no function for it before 2024."""
    if isinstance(x, np.ndarray):
        return np.count_nonzero(x)
    xp = array_namespace(x)
    return int(xp.sum(xp.astype(x, xp.int64)))


def size(x):
    """How many values an array has: torch gives this name to something else."""
    return math.prod(x.shape)
