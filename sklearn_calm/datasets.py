"""Readers of image files as memory maps, and a generator of images with known kernels."""

from __future__ import annotations

import gzip
import math
import numbers
import os
import zlib
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch, check_random_state

from sklearn_calm._convolution.geometry import PatchGeometry, even_edges
from sklearn_calm._sklearn import Interval, StrOptions, validate_params
from sklearn_calm._validation import check_grid

__all__ = ["load_idx", "load_stl10", "make_planted_patches"]

Function = TypeVar("Function", bound=Callable[..., Any])

STL10_CLASSES = 10
STL10_FOLDS = 10
STL10_SOURCE = (
    "The official archive, stl10_binary.tar.gz from https://cs.stanford.edu/~acoates/stl10/, holds "
    "a folder stl10_binary: unpack it and pass that folder"
)
# Multi-byte values are big-endian.
IDX_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"


def load_stl10(
    folder: str | os.PathLike[str], *, image_shape: tuple[int, int, int] = (96, 96, 3)
) -> Bunch:
    r"""Read the binary files of STL-10, images as memory maps.

    STL-10 [1]_ has 5000 labelled training images of ten classes, divided into ten folds of 1000,
    8000 test images and 100000 unlabelled images. Nothing is downloaded: unpack the official
    archive, stl10_binary.tar.gz, and pass its folder stl10_binary.

    Parameters
    ----------
    folder : str or path-like
        Holds train_X.bin, train_y.bin, test_X.bin, test_y.bin, unlabeled_X.bin and
        fold_indices.txt, and may hold class_names.txt.

    image_shape : (height, width, n_channels), default=(96, 96, 3)
        Shape of one image. Give it for other images that were written in the same format.

    Returns
    -------
    data : :class:`sklearn.utils.Bunch`
        With the attributes

        X_train, X_test, X_unlabeled : memmap of shape (n, height, width, n_channels), uint8
            Read-only views of the files, which hold channels first and columns before rows.
            Nothing is read until it is used. :class:`~sklearn_calm.ConvGMMFeatures` takes them as
            they are and reads them batch by batch.
        y_train, y_test : ndarray of shape (n,), int64
            Labels from 0 to 9; the files have 1 to 10.
        folds : list of 10 ndarrays of int64
            Indices into `X_train` of the images of each fold.
        target_names : list of 10 str, or None
            Names of the classes in the order of the labels; None without class_names.txt.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is truncated or is not what its name says.

    References
    ----------
    .. [1] A. Coates, H. Lee and A. Y. Ng, "An Analysis of Single-Layer Networks in Unsupervised
           Feature Learning", AISTATS, 2011.

    Examples
    --------
    Files of one 2 x 3 image each, in the same format:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_calm.datasets import load_stl10
    >>> with TemporaryDirectory() as folder:
    ...     for part in ("train", "test", "unlabeled"):
    ...         _ = (Path(folder) / f"{part}_X.bin").write_bytes(bytes(range(18)))
    ...     for part in ("train", "test"):
    ...         _ = (Path(folder) / f"{part}_y.bin").write_bytes(bytes([10]))
    ...     _ = (Path(folder) / "fold_indices.txt").write_text(10 * "0\n")
    ...     data = load_stl10(folder, image_shape=(2, 3, 3))
    ...     data.y_train, data.X_train.shape, data.X_train[0, :, :, 0].tolist()
    (array([9]), (1, 2, 3, 3), [[0, 2, 4], [1, 3, 5]])
    """
    folder = Path(folder)
    image_shape = _sides("image_shape", image_shape, (3,), "(height, width, n_channels)")
    X_train, X_test, X_unlabeled = (
        _stl10_images(folder / f"{part}_X.bin", image_shape)
        for part in ("train", "test", "unlabeled")
    )
    return Bunch(
        X_train=X_train,
        y_train=_stl10_labels(folder / "train_y.bin", len(X_train)),
        X_test=X_test,
        y_test=_stl10_labels(folder / "test_y.bin", len(X_test)),
        X_unlabeled=X_unlabeled,
        folds=_stl10_folds(folder / "fold_indices.txt", len(X_train)),
        target_names=_stl10_names(folder / "class_names.txt"),
    )


def load_idx(file: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an IDX file, the file format of MNIST.

    Parameters
    ----------
    file : str or path-like
        An IDX file, which may be compressed with gzip.

    Returns
    -------
    array : memmap or ndarray
        Of the shape and type that the file names, in its byte order, read-only. A plain file is
        memory-mapped: nothing is read until it is used. A compressed one is read into memory.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated or no IDX file.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_calm.datasets import load_idx
    >>> header = bytes([0, 0, 8, 2]) + bytes([0, 0, 0, 2]) + bytes([0, 0, 0, 3])
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "images-idx2-ubyte"
    ...     _ = file.write_bytes(header + bytes(range(6)))
    ...     load_idx(file).tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    file = Path(file)
    _check_exists(file, "Pass the path of an IDX file, such as train-images-idx3-ubyte[.gz]")
    with file.open("rb") as stream:
        if stream.read(2) == GZIP_MAGIC:
            return _compressed_idx(file)
        stream.seek(0)
        dtype, shape = _idx_header(stream, file)
        offset = stream.tell()
    _check_idx_size(file, file.stat().st_size - offset, dtype, shape)
    if 0 in shape:  # nothing to map
        return np.frombuffer(b"", dtype).reshape(shape)
    return np.memmap(file, dtype, mode="r", offset=offset, shape=shape)


def _checked(constraints: dict[str, list[Any]]) -> Callable[[Function], Function]:
    """Check parameters. The decorator of scikit-learn has no types and would hide ours."""
    return validate_params(constraints, prefer_skip_nested_validation=True)


@_checked(
    {
        "n_samples": [Interval(numbers.Integral, 1, None, closed="left")],
        "n_components": [Interval(numbers.Integral, 1, None, closed="left")],
        "patch_size": [Interval(numbers.Integral, 1, None, closed="left"), tuple, list],
        "image_shape": [tuple, list],
        "assignment": [StrOptions({"image"}), tuple, list],
        "means": ["array-like", None],
        "weights": ["array-like", None],
        "noise_variance": [Interval(numbers.Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }
)
def make_planted_patches(
    n_samples: int = 100,
    n_components: int = 3,
    *,
    patch_size: int | tuple[int, int] = 5,
    image_shape: tuple[int, int] | tuple[int, int, int] = (16, 16),
    assignment: Literal["image"] | tuple[int, int] = "image",
    means: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    noise_variance: float = 0.1,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[NDArray[np.float64], Bunch]:
    """Make images of noise in which each cell contains one of a few known kernels.

    The images are samples of the model that :class:`~sklearn_calm.ConvGMMFeatures` fits, exactly so
    with ``assignment="image"``. Each cell of an image draws a component by its weight, and a
    position uniformly. The kernel is added there to the noise of the pixels.

    Parameters
    ----------
    n_samples : int, default=100
        Number of images.

    n_components : int, default=3
        Number of kernels. Ignored if `means` is given.

    patch_size : int or tuple (height, width), default=5
        Size of a kernel; an int is square. Ignored if `means` is given.

    image_shape : (height, width) or (height, width, n_channels), default=(16, 16)
        Shape of one image.

    assignment : "image" or tuple (rows, columns), default="image"
        The cells of an image: "image" is one cell, else a grid of cells, which cuts the positions
        as the estimator does. Patches of neighbouring cells may overlap, and then add up.

    means : array-like of shape (n_components, height, width[, n_channels]) or None, default=None
        Kernels to plant. None draws them from a standard normal distribution.

    weights : array-like of shape (n_components,) or None, default=None
        Weights of the components, in proportion to each other; None is uniform.

    noise_variance : float, default=0.1
        Variance of the noise in every pixel.

    random_state : int, RandomState instance or None, default=None
        Draws kernels, components, positions and noise. Pass an int for the same images in every
        call.

    Returns
    -------
    X : ndarray of shape (n_samples, height, width[, n_channels]), float64
        The images.

    truth : :class:`sklearn.utils.Bunch`
        With the attributes

        means : ndarray of shape (n_components, height, width, n_channels)
            The kernels.
        weights : ndarray of shape (n_components,)
            Their weights, which sum to 1.
        labels : ndarray of shape (n_samples, n_cells), int64
            The component of each cell; cells are in row-major order.
        positions : ndarray of shape (n_samples, n_cells, 2), int64
            Row and column of the upper left corner of each patch.

    Raises
    ------
    ValueError
        If kernels, weights, cells and images do not fit together.

    See Also
    --------
    sklearn.datasets.make_blobs : Samples of a Gaussian mixture.

    Examples
    --------
    >>> from sklearn_calm import ConvGMMFeatures
    >>> from sklearn_calm.datasets import make_planted_patches
    >>> X, truth = make_planted_patches(200, 3, random_state=0)
    >>> X.shape, truth.means.shape, truth.positions.shape
    ((200, 16, 16), (3, 5, 5, 1), (200, 1, 2))
    >>> model = ConvGMMFeatures(
    ...     3, assignment="image", normalize=None, whiten=False, init_params="random",
    ...     random_state=0,
    ... ).fit(X)
    >>> print(f"{model.noise_variance_:.2f}")
    0.10
    """
    rng = check_random_state(random_state)
    expected = "(height, width) or (height, width, n_channels)"
    sides = _sides("image_shape", image_shape, (2, 3), expected)
    kernels = _planted_means(rng, means, n_components, patch_size, (*sides, 1)[:3])
    shares = _planted_weights(weights, len(kernels))
    geometry = PatchGeometry((*sides, 1)[:3], kernels.shape[1:3], (1, 1))
    positions = _planted_positions(rng, n_samples, assignment, geometry)
    labels = rng.choice(len(kernels), size=positions.shape[:2], p=shares)
    X = rng.normal(scale=math.sqrt(noise_variance), size=(n_samples, *geometry.image_shape))
    windows = sliding_window_view(X, geometry.patch_size, axis=(1, 2), writeable=True)
    patches = np.moveaxis(kernels, 3, 1)
    # One cell after the other: patches of one image may overlap.
    for cell in range(labels.shape[1]):
        rows, columns = positions[:, cell].T
        windows[np.arange(n_samples), rows, columns] += patches[labels[:, cell]]
    truth = Bunch(means=kernels, weights=shares, labels=labels, positions=positions)
    return X.reshape(n_samples, *sides), truth


def _planted_means(rng, means, n_components, patch_size, image_shape):
    """Draw or check kernels: (K, height, width, channels), finite float64."""
    height, width, n_channels = image_shape
    if means is None:
        if isinstance(patch_size, numbers.Integral):
            patch_size = (patch_size, patch_size)
        size = _sides("patch_size", patch_size, (2,), "an int or a pair (height, width)")
        means = rng.standard_normal((n_components, *size, n_channels))
    means = np.array(means, dtype=np.float64)
    if means.ndim == 3 and n_channels == 1:
        means = means[..., np.newaxis]
    if means.ndim != 4 or means.shape[3] != n_channels or 0 in means.shape:
        raise ValueError(
            f"means has shape {means.shape}; expected (n_components, height, width, n_channels) "
            f"with the n_channels={n_channels} of image_shape. Change one of the two."
        )
    if not np.isfinite(means).all():
        raise ValueError("means contains NaN or infinity; expected finite kernels.")
    if means.shape[1] > height or means.shape[2] > width:
        raise ValueError(
            f"Kernels of {means.shape[1]} x {means.shape[2]} do not fit images of "
            f"{height} x {width}. Make patch_size (or means) smaller, or image_shape larger."
        )
    return means


def _planted_weights(weights, n_components):
    if weights is None:
        return np.full(n_components, 1 / n_components)
    weights = np.asarray(weights, dtype=np.float64)
    total = weights.sum()
    if weights.shape != (n_components,) or not (weights >= 0).all() or not 0 < total < np.inf:
        raise ValueError(
            f"weights={weights.tolist()}: expected {n_components} numbers, one for each component, "
            "none negative and not all zero."
        )
    return weights / total


def _planted_positions(rng, n_samples, assignment, geometry):
    """Draw a position in each cell of each image: (n_samples, n_cells, 2)."""
    grid = (1, 1) if isinstance(assignment, str) else tuple(assignment)
    grid = check_grid("assignment", grid, geometry.map_shape)
    edges = (even_edges(side, parts) for side, parts in zip(geometry.map_shape, grid, strict=True))
    cells = product(*(list(pairwise(cuts)) for cuts in edges))
    drawn = [
        [rng.randint(first, last, size=n_samples, dtype=np.int64) for first, last in cell]
        for cell in cells
    ]
    return np.moveaxis(np.array(drawn), 2, 0)


def _sides(name, values, lengths, expected):
    """Check a tuple of one of these lengths of ints of 1 or more."""
    known = isinstance(values, tuple | list) and len(values) in lengths
    if not known or any(not isinstance(side, numbers.Integral) or side < 1 for side in values):
        raise ValueError(f"{name}={values!r}: expected {expected}, ints >= 1.")
    return tuple(int(side) for side in values)


def _check_exists(file, advice):
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}. {advice}.")


def _check_stl10_file(file):
    advice = STL10_SOURCE
    inner = file.parent / "stl10_binary"
    if (inner / file.name).is_file():
        advice = f"But there is {inner / file.name}: pass the folder {inner}"
    _check_exists(file, advice)


def _stl10_images(file, image_shape):
    """Map the images of a file: (n, height, width, channels), read-only."""
    _check_stl10_file(file)
    n_bytes, n_values = file.stat().st_size, math.prod(image_shape)
    if n_bytes == 0 or n_bytes % n_values:
        raise ValueError(
            f"{file} has {n_bytes} bytes; expected a positive multiple of {n_values}, the bytes of "
            f"one image of shape {image_shape}. It is truncated or no file of such images. "
            f"{STL10_SOURCE}; for images of another size give image_shape."
        )
    height, width, n_channels = image_shape
    stored = (n_bytes // n_values, n_channels, width, height)
    return np.memmap(file, np.uint8, mode="r", shape=stored).transpose(0, 3, 2, 1)


def _stl10_labels(file, n_images):
    _check_stl10_file(file)
    labels = np.fromfile(file, np.uint8)
    if len(labels) != n_images:
        raise ValueError(
            f"{file} holds {len(labels)} labels, but its images are {n_images}: expected one byte "
            f"for each image. One of the two files is truncated or foreign. {STL10_SOURCE}."
        )
    foreign = (labels < 1) | (labels > STL10_CLASSES)
    if foreign.any():
        first = np.argmax(foreign)
        raise ValueError(
            f"{file} has the label {labels[first]} (of image {first}); expected labels from 1 to "
            f"{STL10_CLASSES}. It is no file of labels. {STL10_SOURCE}."
        )
    return labels.astype(np.int64) - 1


def _stl10_folds(file, n_images):
    _check_stl10_file(file)
    lines = [line.split() for line in _text_lines(file)]
    if len(lines) != STL10_FOLDS:
        raise ValueError(
            f"{file} has {len(lines)} lines; expected {STL10_FOLDS}, one for each fold. "
            f"{STL10_SOURCE}."
        )
    for words in lines:
        for word in words:
            if not word.isdecimal() or int(word) >= n_images:
                raise ValueError(
                    f"{file} has the index {word!r}; expected integers from 0 to {n_images - 1}, "
                    f"as there are {n_images} training images. {STL10_SOURCE}."
                )
    return [np.array(words, dtype=np.int64) for words in lines]


def _stl10_names(file):
    if not file.is_file():
        return None
    names = [line.strip() for line in _text_lines(file)]
    if len(names) != STL10_CLASSES:
        raise ValueError(
            f"{file} has {len(names)} lines; expected {STL10_CLASSES}, one for each class. "
            f"{STL10_SOURCE}; or remove the file, which may be left out."
        )
    return names


def _text_lines(file):
    """Read the lines of a text file that are not blank."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not text; expected a text file. {STL10_SOURCE}.") from error
    return [line for line in text.splitlines() if line.strip()]


def _compressed_idx(file):
    try:
        with gzip.open(file) as stream:
            dtype, shape = _idx_header(stream, file)
            values = stream.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{file} cannot be unpacked: {error}. Expected an IDX file compressed by gzip; it is "
            "truncated or damaged. Fetch it anew."
        ) from error
    _check_idx_size(file, len(values), dtype, shape)
    return np.frombuffer(values, dtype).reshape(shape)


def _idx_header(stream, file):
    """Read type and shape of the values that follow in the stream."""
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_DTYPES or head[3] == 0:
        raise ValueError(
            f"{file} begins with the bytes {head.hex(' ') or '(none)'}; an IDX file begins with "
            "00 00, a byte for the type (08, 09, 0b, 0c, 0d or 0e) and the number of axes. Pass an "
            "IDX file, such as train-images-idx3-ubyte[.gz]."
        )
    sides = stream.read(4 * head[3])
    if len(sides) < 4 * head[3]:
        raise ValueError(
            f"{file} ends within its header; expected the lengths of {head[3]} axes. It is "
            "truncated: fetch it anew."
        )
    return np.dtype(IDX_DTYPES[head[2]]), tuple(np.frombuffer(sides, ">u4").tolist())


def _check_idx_size(file, n_bytes, dtype, shape):
    expected = math.prod(shape) * dtype.itemsize
    if n_bytes != expected:
        state = "truncated" if n_bytes < expected else "no IDX file, or followed by something else"
        raise ValueError(
            f"{file} holds {n_bytes} bytes of values; expected {expected} for shape {shape} and "
            f"type {dtype.name}. It is {state}. Fetch it anew."
        )
