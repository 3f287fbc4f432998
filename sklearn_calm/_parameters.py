"""The values that each parameter of the estimator may have, one by one.

Whether they fit together, and fit the images, is for `_validation` to say.
"""

import numbers
from typing import Literal, TypeAlias

from sklearn_calm._convolution.geometry import PADDING_MODES
from sklearn_calm._convolution.pooling import POOLINGS
from sklearn_calm._convolution.symmetry import ORDERS
from sklearn_calm._convolution.windows import WINDOWS
from sklearn_calm._sklearn import Interval, StrOptions

ImageShape: TypeAlias = (
    Literal["auto"] | tuple[int | None, int | None] | tuple[int | None, int | None, int]
)
PoolingName: TypeAlias = Literal["logsumexp", "max", "mean", "proportion", "tempered", "triangle"]

POSITIVE_INT = Interval(numbers.Integral, 1, None, closed="left")

PARAMETER_CONSTRAINTS = {
    "n_components": [POSITIVE_INT],
    "patch_size": [POSITIVE_INT, tuple, list],
    "stride": [POSITIVE_INT, tuple, list],
    "dilation": [POSITIVE_INT, tuple, list],
    "padding": [
        StrOptions({"auto", "same"}),
        Interval(numbers.Integral, 0, None, closed="left"),
        tuple,
        list,
    ],
    "padding_mode": [StrOptions({"auto", *PADDING_MODES})],
    "image_shape": [StrOptions({"auto"}), tuple, list],
    "assignment": [StrOptions({"image", "patch"}), tuple, list],
    "missing_values": [StrOptions({"error", "ignore"})],
    "min_observed": [Interval(numbers.Real, 0, 1, closed="right")],
    "normalize": [StrOptions({"contrast"}), None],
    "whiten": ["boolean"],
    "symmetry": [StrOptions(set(ORDERS)), tuple, list, None],
    "reg_covar": [Interval(numbers.Real, 0, None, closed="left")],
    "noise_variance": [StrOptions({"auto"}), Interval(numbers.Real, 0, None, closed="neither")],
    "learn_weights": ["boolean"],
    "pooling": [StrOptions(set(POOLINGS)), None],
    "n_thresholds": [POSITIVE_INT],
    "pool_grid": [POSITIVE_INT, tuple, list],
    "pool_window": [StrOptions({"auto", *WINDOWS})],
    "pool_width": [Interval(numbers.Real, 0, None, closed="neither")],
    "pool_symmetry": [StrOptions({"image", "region"}), None],
    "pool_contrast": [Interval(numbers.Real, 0, None, closed="left")],
    "polarity": [StrOptions({"positive", "both"})],
    "flatten": ["boolean"],
    "init_params": [StrOptions({"k-means++", "random_from_data", "random"}), "array-like"],
    "subsample": [StrOptions({"auto"}), POSITIVE_INT],
    "n_init": [POSITIVE_INT],
    "max_iter": [POSITIVE_INT],
    "tol": [StrOptions({"auto"}), Interval(numbers.Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), POSITIVE_INT],
    "learning_decay": [Interval(numbers.Real, 0.5, 1, closed="right")],
    "learning_offset": [Interval(numbers.Real, 0, None, closed="left")],
    "warm_start": ["boolean"],
    "n_jobs": [numbers.Integral, None],
    "backend": [str],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}
