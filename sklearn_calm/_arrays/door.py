"""The door: what users pass for images becomes one array, or a sentence says why it cannot.

Arrays go through as they are, of whatever library. Images that a list, a column or an array of
objects holds one by one are stacked if they have one size, and stay a list if they have several. No
masked value goes through: what lies behind it is no pixel.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse

from sklearn_calm._arrays.namespace import is_dask, library_of, to_numpy

EXPECTED = "expected an array of shape (n, height, width[, n_channels]) or (n, n_features)"


def as_array(X, *, masked=False):
    """X as an array, as what scikit-learn makes one of, or as a list of arrays of several shapes.

    Masked values pass with `masked`.

    Raises
    ------
    TypeError
        If X is no array, nor a list of images.
    ValueError
        If it masks values.
    """
    if library_of(X) == "torch":
        return _plain_tensor(X)
    if library_of(X) != "numpy" or is_dask(X) or sparse.issparse(X):
        return X
    _refuse_what_holds_no_array(X)
    if isinstance(X, memoryview):
        X = np.asarray(X)
    if isinstance(X, np.ndarray):
        X = _unpacked(X)
    elif _is_frame(X):
        X = _unpacked_frame(X)
    elif isinstance(X, Sequence):
        X = _stacked(X)
    elif getattr(X, "ndim", None) == 1:
        X = _unpacked(np.asarray(X))  # a column
    if masked:
        return X
    if isinstance(X, list):
        return [unmasked_image(image, i) for i, image in enumerate(X)]
    return unmasked(X, "X")


def unmasked(values, name, numbers=None, kind="image"):
    """An array without its mask, which masks nothing.

    Parameters
    ----------
    values : array
    name : str
        What the error calls it.
    numbers : ndarray of shape (n,) or None
        Of its rows; None counts from 0.
    kind : str
        What its rows are.

    Raises
    ------
    ValueError
        If it does mask something.
    """
    first = first_masked(values)
    if first is not None:
        ignore = 'set missing_values="ignore", ' if name == "X" else ""
        first = first if numbers is None else numbers[first]
        raise ValueError(
            f"{name} is a masked array, of which some values are masked (first in {kind} {first}). "
            f"Missing values are not accepted: {ignore}drop such {kind}s, or fill "
            f"them in, as with {name}.filled(0)."
        )
    return np.ma.getdata(values) if isinstance(values, np.ma.MaskedArray) else values


def unmasked_image(image, i):
    """One image of a list without its mask, which masks nothing."""
    if isinstance(image, np.ma.MaskedArray):
        return unmasked(image[np.newaxis], "X", np.asarray([i]))[0]
    return image


def refuse_no_numbers(values, name):
    """Raise a TypeError for what is neither a number nor an array or a list of them."""
    listed = isinstance(values, Sequence) and not _is_path(values)
    if not (
        listed or np.isscalar(values) or library_of(values) != "numpy" or _is_array_like(values)
    ):
        raise TypeError(f"{name} is a {type(values).__name__}; expected an array of shape (n,).")


def first_masked(values):
    """Position of the first row of an array of which something is masked; None without one."""
    if not isinstance(values, np.ma.MaskedArray) or not np.ma.is_masked(values):
        return None
    mask = np.ma.getmaskarray(values)
    return int(np.argmax(mask.reshape(len(mask), -1).any(axis=1))) if mask.ndim else 0


def _plain_tensor(X):
    if hasattr(X, "get_mask"):
        if not X.get_mask().all():
            raise ValueError(
                "X is a masked tensor, of which some values are masked. Masked tensors are not "
                "accepted: pass X.to_tensor(float('nan')) with "
                'missing_values="ignore", drop such images, or fill them in, as with '
                "X.to_tensor(0)."
            )
        X = X.get_data()
    if X.is_meta:
        raise TypeError("X is a tensor on the meta device, which holds no values.")
    if X.is_nested:
        raise ValueError(
            "X is a nested tensor, of images of several sizes. Pass its images one by one, as "
            "X.unbind()."
        )
    if str(X.layout) != "torch.strided":
        raise TypeError("X is a sparse tensor; expected dense images. Pass X.to_dense().")
    import torch

    # Subclasses, such as parameters, would take part in every operation.
    return X.detach().as_subclass(torch.Tensor)


def _refuse_what_holds_no_array(X):
    name, module = type(X).__name__, type(X).__module__.partition(".")[0]
    if X is None:
        raise TypeError(f"X is None; {EXPECTED}.")
    if _is_path(X):
        raise TypeError(f"X is a path or a text, {str(X)!r}; {_READ_FILES}")
    if isinstance(X, Mapping):
        keys = ", ".join(map(repr, list(X)[:5]))
        raise TypeError(f"X is a {name} with keys {keys}; {EXPECTED}. Pass the images in it alone.")
    if _is_picture(X):
        raise TypeError(
            f"X is one picture, of Pillow's {name}; {EXPECTED}. One image alone is "
            "np.asarray(X)[np.newaxis]."
        )
    if hasattr(type(X), "to_dask_array"):
        raise TypeError(
            f"X is a Dask {name}; expected a Dask array. Pass X.to_dask_array(lengths=True)."
        )
    if module == "dask":
        raise TypeError(
            f"X is a Dask {name}; expected a Dask array. Make one with dask.array."
            "from_delayed or dask.array.stack, or pass X.compute()."
        )
    if module == "sparse":
        raise TypeError(f"X is a sparse {name}; expected dense images: X.todense().")
    if isinstance(X, Sequence) or _is_array_like(X) or np.isscalar(X):
        return
    if hasattr(X, "__iter__") or hasattr(X, "__getitem__"):
        raise TypeError(
            f"X is a {name}, which gives its images one by one or in batches; {EXPECTED}. Call "
            "partial_fit with each batch of a loader, as in `for images, _ in loader: "
            "model.partial_fit(images)`; or put all images into one array with np.stack."
        )
    raise TypeError(f"X is a {name}; {EXPECTED}.")


_READ_FILES = (
    "files are not read. Read the images first, as in "
    "[np.asarray(PIL.Image.open(path)) for path in paths]; if they are too many, read a batch for "
    "each call of partial_fit."
)


def _is_path(x):
    return isinstance(x, str | bytes | os.PathLike)


def _is_picture(x):
    """Whether x is an image of Pillow, which is not imported for the question."""
    return any(kind.__module__.partition(".")[0] == "PIL" for kind in type(x).__mro__)


def _is_array_like(x):
    if hasattr(x, "__array__") or hasattr(x, "__array_interface__"):
        return True
    try:
        memoryview(x)
    except TypeError:
        return False
    return True


def _is_frame(x):
    return hasattr(x, "columns") and hasattr(x, "shape") and hasattr(x, "to_numpy")


def _is_image(cell):
    """Whether an object, as an array or a column holds it, is an array of its own."""
    if _is_path(cell) or isinstance(cell, Mapping):
        return False
    return _is_picture(cell) or library_of(cell) != "numpy" or np.ndim(cell) > 0


def _unpacked_frame(X):
    """The images in the only column of a frame; or the frame, if it holds numbers."""
    cells = X[:1].to_numpy()
    if cells.dtype != object or not any(map(_is_image, cells.ravel())):
        return X
    if cells.shape[1] > 1:
        raise ValueError(
            f"X has {cells.shape[1]} columns, of which some hold whole images. Pass the column of "
            "images alone, as in X['image']."
        )
    return _stacked(X.to_numpy().ravel())


def _unpacked(X):
    """Images in an array of objects; or the array, if it holds numbers."""
    if X.dtype.kind in "UST" and X.ndim == 1 and len(X):
        raise TypeError(f"X holds paths or texts, the first {str(X[0])!r}; {_READ_FILES}")
    if X.dtype.kind == "V":
        raise TypeError(
            f"X has dtype {X.dtype}; expected integers or floats. Convert it with "
            "X.astype(np.float32), or take one field of it."
        )
    if X.dtype != object or not X.size:
        return X
    if X.ndim == 1 or (X.ndim == 2 and X.shape[1] == 1 and _is_image(X[0, 0])):
        return _stacked(X.ravel())
    return X


def _stacked(items):
    """One array of the images in a list; those of several shapes stay a list."""
    images = [_image(item, i) for i, item in enumerate(items)]
    if not images:
        return np.empty(0)
    if len({image.shape for image in images}) > 1:
        return images
    return (np.ma if any(map(np.ma.isMaskedArray, images)) else np).stack(images)


def _image(item, i):
    if _is_path(item):
        raise TypeError(f"X holds paths or texts, the first {str(item)!r}; {_READ_FILES}")
    if item is None or isinstance(item, Mapping):
        raise TypeError(f"X[{i}] is a {type(item).__name__}; expected an image, an array.")
    if library_of(item) != "numpy":
        return to_numpy(item)
    try:
        return np.asanyarray(item)
    except ValueError as error:
        raise ValueError(
            f"X[{i}] is a {type(item).__name__} of parts of several sizes, no image. Where it is a "
            "pair of image and label, pass the images alone, as in [image for image, _ in X]."
        ) from error
