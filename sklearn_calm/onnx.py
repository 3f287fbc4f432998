"""Conversion to ONNX. It needs skl2onnx: ``pip install "sklearn-calm[onnx]"``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_calm._arrays.door import as_array
from sklearn_calm._arrays.namespace import to_numpy
from sklearn_calm._conv_gmm import ConvGMMFeatures
from sklearn_calm._convolution.moments import LEAST_VARIANCE
from sklearn_calm._convolution.pooling import COLUMN, COMPONENT, ROW, reduce_regions
from sklearn_calm._images.shapes import is_free
from sklearn_calm._inference import (
    features_shape,
    fitted_geometry,
    fitted_pooler,
    model_at,
    thresholds_of,
    tied_order,
)
from sklearn_calm._mixture.features import folded, share_cells
from sklearn_calm._mixture.model import ConvLayer
from sklearn_calm._mixture.preprocessing import layer_precision, mean_contrast
from sklearn_calm._region_moments import RegionMoments
from sklearn_calm._sklearn import validate_parameters
from sklearn_calm._validation import check_n_images, check_shape

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["register", "to_onnx"]

# Before the names under which skl2onnx keeps the converters.
ALIAS = "SklearnCalm"
# Nodes that reduce features of tied kernels.
REDUCTIONS = {
    "logsumexp": "ReduceLogSumExp",
    "max": "ReduceMax",
    "mean": "ReduceMean",
    "sum": "ReduceSum",
}
# From here on every reduction takes its axes as an input.
LEAST_OPSET = 18
# What skl2onnx has tensors for, that can be images.
DTYPES = ("float32", "float64", "uint8", "int8", "int32", "int64", "bool")


def to_onnx(
    model: Any, X: Any = None, *, initial_types: list[tuple[str, Any]] | None = None, **options: Any
) -> ModelProto:
    """Convert a fitted model that holds transformers of this package to ONNX.

    The model may be a :class:`~sklearn_calm.ConvGMMFeatures` or a
    :class:`~sklearn_calm.RegionMoments`, or a pipeline, a union or a search of which they are parts
    and whose other parts skl2onnx converts. skl2onnx itself is left as it was;
    `register` is for code that calls skl2onnx directly.

    The output of the graph equals that of `transform` up to rounding. It computes in float32 even
    where images, and therefore features, are float64: ONNX Runtime has no other convolution. It
    takes one image or more, of the layout and dtype of `X`. It does not look for NaN or infinity,
    which spoil the features of their image.

    Parameters
    ----------
    model : estimator
        A fitted model. Its parameters must be those of the fit; only `pooling`, `n_thresholds`,
        `polarity`, `flatten` and those that begin with `pool_` may have been changed since.
    X : array-like of shape (n, height, width[, n_channels]) or (n, n_features), or None
        Images as the graph will be given them; only the shape and dtype of the first are read.
    initial_types : list of tuples or None, default=None
        Names and types of the inputs, as for :func:`skl2onnx.convert_sklearn`, instead of `X`.
    **options : dict
        Passed to :func:`skl2onnx.convert_sklearn`: `name`, `target_opset` (18 or above), `options`
        and others. A classifier gives its probabilities as an array with
        ``options={"zipmap": False}``.

    Returns
    -------
    onnx_model : onnx.ModelProto
        The graph. Its input is "X", unless `initial_types` says otherwise.

    Raises
    ------
    ImportError
        If skl2onnx is missing.
    ValueError
        If the images do not fit the model, or have a dtype that skl2onnx has no tensors for.

    Examples
    --------
    >>> import numpy as np
    >>> from onnxruntime import InferenceSession
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_calm import ConvGMMFeatures
    >>> from sklearn_calm.onnx import to_onnx
    >>> X = load_digits().images.astype(np.float32)
    >>> features = ConvGMMFeatures(16, pool_grid=2, random_state=0).fit(X)
    >>> session = InferenceSession(to_onnx(features, X).SerializeToString())
    >>> (found,) = session.run(None, {"X": X})
    >>> np.allclose(found, features.transform(X), rtol=1e-3, atol=1e-3)
    True
    """
    try:
        from skl2onnx import convert_sklearn
    except ImportError as error:
        raise ImportError(
            'to_onnx needs skl2onnx. Install it with: pip install "sklearn-calm[onnx]"'
        ) from error
    if (X is None) == (initial_types is None):
        raise ValueError(
            "to_onnx takes either X or initial_types. Pass a few images as X, of the shape and "
            "dtype that the graph will be given."
        )
    check_is_fitted(model)
    # Otherwise skl2onnx would draw a name at random.
    options.setdefault("name", type(model).__name__)
    return convert_sklearn(
        model,
        initial_types=[("X", _tensor_type(X))] if initial_types is None else initial_types,
        custom_conversion_functions=CONVERTERS,
        custom_shape_calculators=dict.fromkeys(CONVERTERS, _set_output_type),
        **options,
    )


def register() -> None:
    """Register the transformers with skl2onnx, which then converts them by itself.

    Call it once for each process, for code that calls :func:`skl2onnx.to_onnx` or
    :func:`skl2onnx.convert_sklearn`. Further calls change nothing. Importing this module does not
    register anything, and `to_onnx` does not need it.

    Raises
    ------
    ImportError
        If skl2onnx is missing.

    See Also
    --------
    to_onnx : Converts a model without registration.

    Examples
    --------
    >>> import numpy as np
    >>> import skl2onnx
    >>> from sklearn_calm import ConvGMMFeatures
    >>> from sklearn_calm.onnx import register
    >>> X = np.random.default_rng(0).random((50, 8, 8)).astype(np.float32)
    >>> features = ConvGMMFeatures(4, max_iter=2, tol=0, random_state=0).fit(X)
    >>> register()
    >>> skl2onnx.to_onnx(features, X).graph.input[0].name
    'X'
    """
    try:
        from skl2onnx import update_registered_converter
    except ImportError as error:
        raise ImportError(
            'register needs skl2onnx. Install it with: pip install "sklearn-calm[onnx]"'
        ) from error
    for estimator, convert in CONVERTERS.items():
        alias = f"{ALIAS}{estimator.__name__}"
        update_registered_converter(estimator, alias, _set_output_type, convert)


def _tensor_type(X):
    from skl2onnx.common.data_types import guess_data_type

    X = as_array(X)
    if isinstance(X, list):
        raise ValueError(
            "X holds images of several sizes; a graph takes images of one size. Pass those of the "
            "size that the graph will be given."
        )
    check_n_images(X)
    first = to_numpy(X[:1])
    first = first.astype(first.dtype.newbyteorder("="))
    if first.dtype.name not in DTYPES:
        raise ValueError(
            f"X has dtype {first.dtype}; skl2onnx takes {', '.join(DTYPES)}. Convert it with "
            "X.astype(np.float32), and the images that the graph will be given likewise."
        )
    ((_, tensor_type),) = guess_data_type(first)
    tensor_type.shape = [None, *first.shape[1:]]
    return tensor_type


def _set_output_type(operator):
    """Check that the model and its input go together, and say what the output is."""
    from skl2onnx.common.data_types import DoubleTensorType, guess_tensor_type

    model = operator.raw_operator
    check_is_fitted(model)
    validate_parameters(model)
    if len(operator.inputs) != 1:
        raise ValueError(
            f"{type(model).__name__} got {len(operator.inputs)} inputs; expected one, which holds "
            "whole images. Pass X, or one entry of initial_types, instead of one for each column."
        )
    n, image_shape = operator.inputs[0].type.shape[0], _image_shape(operator)
    # float64 and wide integers give float64, and all else float32, as in `transform`.
    operator.outputs[0].type = guess_tensor_type(operator.inputs[0].type)
    if _is_wide(operator.inputs[0].type):
        operator.outputs[0].type = DoubleTensorType()
    operator.outputs[0].type.shape = [n, *_output_shape(model, image_shape)]


def _is_wide(tensor_type):
    """Whether float32 does not hold what a tensor may."""
    from skl2onnx.common.data_types import DoubleTensorType, Int32TensorType, Int64TensorType

    return isinstance(tensor_type, (DoubleTensorType, Int32TensorType, Int64TensorType))


def _image_shape(operator):
    """Shape of the images that a graph is given, which is fixed in it."""
    model, (_, *sides) = operator.raw_operator, operator.inputs[0].type.shape
    if all(isinstance(side, int) for side in sides):
        return check_shape((1, *sides), model.image_shape_, type(model).__name__)
    if is_free(model.image_shape_):
        raise ValueError(
            "A graph takes images of one size, and the model takes images of any. Pass images of "
            "the size that the graph will be given as X, or their shape in initial_types."
        )
    return model.image_shape_


def _output_shape(model, image_shape):
    """Shape of the features of one image."""
    if isinstance(model, RegionMoments):
        return (math.prod(model._features_shape()),)
    map_shape = fitted_geometry(model, image_shape).map_shape
    return features_shape(model, fitted_pooler(model, map_shape), map_shape)


def _convert(scope, operator, container):
    """Add the nodes of a fitted model to the graph: the converter that skl2onnx calls."""
    _check_opset(operator, container)
    model, (image,) = operator.raw_operator, operator.inputs
    geometry = fitted_geometry(model, _image_shape(operator))
    nodes = _Nodes(scope, container)
    layer, scale = _layer(model), _scale(model)
    centre = model.contrast_floor_ is not None
    images = _images(nodes, image, geometry, scale, centre=centre)
    maps = _maps(nodes, images, layer, model, geometry, scale)
    nodes.give(_features(nodes, maps, model, geometry), operator.outputs[0])


def _convert_moments(scope, operator, container):
    """Add the nodes of `RegionMoments`, which are of float64."""
    from onnx import TensorProto

    _check_opset(operator, container)
    model, (image,) = operator.raw_operator, operator.inputs
    nodes, image_shape = _Nodes(scope, container), _image_shape(operator)
    rows, columns = model._windows(image_shape).weights
    images = nodes("Reshape", image.full_name, np.asarray([0, *image_shape], np.int64))
    images = nodes("Transpose", nodes("Cast", images, to=TensorProto.DOUBLE), perm=[0, 3, 1, 2])
    centre = nodes.reduce("ReduceMean", images, 2, 3)
    images = nodes("Sub", images, centre)

    def means(values):
        return nodes("MatMul", rows, nodes("MatMul", values, columns.T))

    mean, square = means(images), means(nodes("Mul", images, images))
    variance = nodes("Sub", square, nodes("Mul", mean, mean))
    known = nodes("Less", variance, nodes("Mul", square, np.float64(LEAST_VARIANCE)))
    variance = nodes("Where", known, np.float64(0), variance)
    moments = nodes("Concat", nodes("Add", mean, centre), nodes("Sqrt", variance), axis=1)
    moments = nodes("Transpose", moments, perm=[0, 2, 3, 1])
    shape = np.asarray([0, *_output_shape(model, image_shape)], np.int64)
    nodes.give(nodes("Reshape", moments, shape), operator.outputs[0])


def _check_opset(operator, container):
    if container.target_opset < LEAST_OPSET:
        raise ValueError(
            f"target_opset={container.target_opset} is too old for "
            f"{type(operator.raw_operator).__name__}; expected {LEAST_OPSET} or above."
        )


CONVERTERS = {ConvGMMFeatures: _convert, RegionMoments: _convert_moments}


class _Nodes:
    """Adds nodes to a graph. Calling it gives the name of the output of the new node."""

    def __init__(self, scope, container):
        self.scope = scope
        self.container = container

    def __call__(self, op_type, *inputs, **attributes):
        """Add a node; inputs are names, or arrays, which become constants."""
        (output,) = self._add(op_type, inputs, 1, attributes)
        return output

    def split(self, name, lengths, axis):
        """Names of the parts of a tensor."""
        inputs = name, np.asarray(lengths, np.int64)
        return self._add("Split", inputs, len(lengths), {"axis": axis})

    def reduce(self, op_type, name, *axes):
        """Reduce over axes, which are kept with length 1."""
        return self(op_type, name, np.asarray(axes, np.int64), keepdims=1)

    def give(self, name, variable):
        """Make a tensor an output, in its dtype."""
        from skl2onnx.common.data_types import guess_proto_type

        to = guess_proto_type(variable.type)
        self.container.add_node("Cast", [name], [variable.full_name], to=to)

    def _add(self, op_type, inputs, n_outputs, attributes):
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        outputs = [self.scope.get_unique_variable_name(op_type.lower()) for _ in range(n_outputs)]
        self.container.add_node(op_type, names, outputs, **attributes)
        return outputs

    def _constant(self, values):
        from onnx.numpy_helper import from_array

        tensor = from_array(np.ascontiguousarray(values))
        name = self.scope.get_unique_variable_name("constant")
        self.container.add_initializer(name, tensor.data_type, list(tensor.dims), tensor)
        return name


def _layer(model):
    n_kernels = len(model.conv_bias_)
    return ConvLayer(
        to_numpy(model.conv_weight_).reshape(n_kernels, -1).astype(np.float64),
        to_numpy(model.conv_bias_).astype(np.float64),
    )


def _scale(model):
    """Find a power of two to multiply images by, where float32 would lose their squares."""
    layer, floor = _layer(model), model.contrast_floor_
    if layer_precision(layer, floor) == np.float32:
        return 1.0
    scale = np.abs(layer.weight).max() if floor is None else 1 / math.sqrt(floor)
    return 2.0 ** round(math.log2(scale))


def _images(nodes, variable, geometry, scale, *, centre):
    """Read the input as padded float32 images (n, n_channels, height, width), times `scale`.

    `centre` takes the mean of each away, in the precision of the input, as the patches do.
    """
    from onnx import TensorProto
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    # Length 0 keeps that of the input, and images of another size fail.
    shape = np.asarray([0, *geometry.image_shape], np.int64)
    images = nodes("Reshape", variable.full_name, shape)
    wide = _is_wide(variable.type) or scale != 1
    expected = DoubleTensorType if wide else FloatTensorType
    if not isinstance(variable.type, expected):
        images = nodes("Cast", images, to=TensorProto.DOUBLE if wide else TensorProto.FLOAT)
    if geometry.pads and geometry.padding_mode == "constant":
        before, after = zip(*geometry.padding, strict=True)
        images = nodes("Pad", images, np.asarray([0, *before, 0, 0, *after, 0], np.int64))
    elif geometry.pads:
        for axis, repeated in enumerate(geometry.places, start=1):
            images = nodes("Gather", images, repeated, axis=axis)
    if centre:
        images = nodes("Sub", images, nodes.reduce("ReduceMean", images, 1, 2, 3))
    if scale != 1:
        images = nodes("Mul", images, np.float64(scale))
    if wide:
        images = nodes("Cast", images, to=TensorProto.FLOAT)
    return nodes("Transpose", images, perm=[0, 3, 1, 2])


def _maps(nodes, images, layer, model, geometry, scale):
    """Apply the layer, as the pooling wants it: (n, n_kernels, rows, columns)."""
    layer = folded(layer, fitted_pooler(model, geometry.map_shape))
    weight = layer.weight.reshape(-1, *geometry.kernel_shape).transpose(0, 3, 1, 2)
    if model.contrast_floor_ is None:
        weight = weight / scale  # else it is of normalised patches
    weight, bias = weight.astype(np.float32), layer.bias.astype(np.float32)
    window = {
        "kernel_shape": list(geometry.patch_size),
        "strides": list(geometry.stride),
        "dilations": list(geometry.dilation),
    }
    if model.contrast_floor_ is None:
        return nodes("Conv", images, weight, bias, **window)
    floor = model.contrast_floor_ * scale**2
    deviation = _deviation(nodes, images, floor, geometry, window)
    maps = nodes("Div", nodes("Conv", images, weight, **window), deviation)
    maps = nodes("Add", maps, bias.reshape(1, -1, 1, 1))
    if model.pool_contrast == 0:
        return maps
    contrast = nodes("Div", deviation, np.float32(mean_contrast(floor)))
    return nodes("Mul", maps, nodes("Pow", contrast, np.float32(model.pool_contrast)))


def _deviation(nodes, images, contrast_floor, geometry, window):
    """sqrt(variance + floor) of every patch: (n, 1, rows, columns)."""
    height, width, n_channels = geometry.kernel_shape
    # ONNX Runtime takes several times as long for an AveragePool.
    box = np.full((1, n_channels, height, width), 1 / geometry.patch_length, np.float32)
    mean = nodes("Conv", images, box, **window)
    square = nodes("Conv", nodes("Mul", images, images), box, **window)
    variance = nodes("Relu", nodes("Sub", square, nodes("Mul", mean, mean)))
    return nodes("Sqrt", nodes("Add", variance, np.float32(contrast_floor)))


def _features(nodes, maps, model, geometry):
    """Pool the maps, or give them as they are."""
    pooler = fitted_pooler(model, geometry.map_shape, thresholds_of(model))
    order = tied_order(model)
    if pooler is None:
        maps = nodes("Transpose", maps, perm=[0, ROW, COLUMN, COMPONENT])
        if order == 1:
            return maps
        tied = np.asarray([0, *geometry.map_shape, -1, order], np.int64)
        maps = nodes("Reshape", maps, tied)
        return nodes("ReduceLogSumExp", maps, np.asarray([4], np.int64), keepdims=0)
    if pooler.pooling.shares is not None:
        cells = model_at(model, geometry).cells
        cells = share_cells(pooler.pooling, cells, geometry.map_shape)
        maps = _responsibilities(nodes, maps, cells)
    if pooler.thresholds is not None:
        maps = _above_thresholds(nodes, maps, pooler.thresholds, geometry.map_shape)
    if pooler.both:
        maps = nodes("Concat", maps, nodes("Neg", maps), axis=COMPONENT)
    if pooler.pooling.rectified:
        maps = nodes("Relu", maps)
    pooled = pooler.pooling.add_nodes(nodes, maps, pooler.windows)
    pooled = nodes("Transpose", pooled, perm=[0, ROW, COLUMN, COMPONENT])
    if order > 1:
        pooled = _over_symmetry(nodes, pooled, pooler, len(model.conv_bias_))
    shape = features_shape(model, pooler, geometry.map_shape)
    return nodes("Reshape", pooled, np.asarray([0, *shape], np.int64))


def _above_thresholds(nodes, maps, thresholds, map_shape):
    """1 where the maps lie above thresholds (T, K), 0 elsewhere: (n, T K, rows, columns)."""
    from onnx import TensorProto

    maps = nodes("Unsqueeze", maps, np.asarray([1], np.int64))
    above = nodes("Greater", maps, thresholds[:, :, None, None].astype(np.float32))
    shape = np.asarray([0, thresholds.size, *map_shape], np.int64)
    return nodes("Reshape", nodes("Cast", above, to=TensorProto.FLOAT), shape)


def _over_symmetry(nodes, pooled, pooler, n_kernels):
    """Reduce features of tied kernels to those of their components: (n, features)."""
    orbits = pooler.orbits(n_kernels)
    rows = nodes("Reshape", pooled, np.asarray([0, orbits.size], np.int64))
    rows = nodes("Gather", rows, orbits.ravel(), axis=1)
    rows = nodes("Reshape", rows, np.asarray([0, *orbits.shape], np.int64))
    return nodes(REDUCTIONS[pooler.pooling.over_symmetry], rows, np.asarray([1]), keepdims=0)


def _responsibilities(nodes, maps, cells):
    """Softmax over the components and positions of each cell (eq. 4)."""
    if cells.largest == 1:
        return nodes("Softmax", maps, axis=COMPONENT)

    def over_cells(reduction, values):
        values = nodes.reduce(reduction, values, COMPONENT)
        values = reduce_regions(nodes, reduction, values, cells.edges)
        for axis, cuts in zip((ROW, COLUMN), cells.edges, strict=True):
            lengths = np.diff(cuts)
            index = np.repeat(np.arange(len(lengths)), lengths)
            values = nodes("Gather", values, index, axis=axis)
        return values

    masses = nodes("Exp", nodes("Sub", maps, over_cells("ReduceMax", maps)))
    return nodes("Div", masses, over_cells("ReduceSum", masses))
