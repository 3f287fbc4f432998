"""scikit-learn's own checks, in full."""

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from sklearn_calm import ConvGMMFeatures, RegionMoments

# The checks' data are tiny: rows of 1 to 10 features, 1 to 50 of them.
TINY = {"n_components": 2, "max_iter": 4, "tol": 0, "random_state": 0}
PAPER = {
    "patch_size": 20,
    "padding": 2,
    "assignment": "image",
    "normalize": None,
    "whiten": False,
    "noise_variance": 1.0,
    "learn_weights": False,
    "init_params": "random",
    "pooling": "logsumexp",
    "pool_grid": 1,
}
CONFIGURATIONS = [
    ConvGMMFeatures(n_components=2),
    ConvGMMFeatures(**TINY, patch_size=2),
    ConvGMMFeatures(**TINY, **PAPER),
    ConvGMMFeatures(**TINY, assignment="image", pooling="mean", whiten=False),
    ConvGMMFeatures(**TINY, assignment=(1, 1), pooling="max", normalize=None, whiten=False),
    ConvGMMFeatures(**TINY, patch_size=2, padding=1),
    ConvGMMFeatures(**TINY, patch_size=2, stride=2, padding=1, pooling="max", normalize=None),
    ConvGMMFeatures(**TINY, patch_size=2, pool_window="gaussian", polarity="both"),
    ConvGMMFeatures(**TINY, patch_size=2, pool_contrast=0.5),
    ConvGMMFeatures(**TINY, missing_values="ignore"),
    ConvGMMFeatures(**TINY, patch_size=2, pooling="logsumexp", n_jobs=2, batch_size=3, n_init=2),
    ConvGMMFeatures(**TINY, patch_size=2, init_params="random_from_data", reg_covar=0),
]
MOMENTS = [RegionMoments(), RegionMoments(pool_window="box", missing_values="ignore")]
# Not in the list that scikit-learn gives to others.
UNLISTED = [
    "check_dataframe_column_names_consistency",
    "check_global_output_transform_pandas",
    "check_n_features_in_after_fitting",
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_readonly_memmap_input",
]


# Some checks set n_components=1 by themselves.
@pytest.mark.filterwarnings("ignore:n_components=1 with pooling:UserWarning")
@parametrize_with_checks(CONFIGURATIONS + MOMENTS)
def test_sklearn_check(estimator, check):
    """Every listed check."""
    check(estimator)


# The pandas checks fit on a frame and transform an array, or the reverse: it warns by design.
@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning")
@pytest.mark.parametrize("name", UNLISTED)
@pytest.mark.parametrize(
    "estimator", CONFIGURATIONS[:3] + MOMENTS[:1], ids=["default", "tiny", "paper", "moments"]
)
def test_unlisted_check(estimator, name):
    """Checks that scikit-learn keeps for its own estimators."""
    getattr(estimator_checks, name)(type(estimator).__name__, estimator)


@pytest.mark.parametrize("estimator", CONFIGURATIONS + MOMENTS)
def test_the_suite_was_collected(estimator):
    """The tag two_d_array=False would make it return at once."""
    assert estimator.__sklearn_tags__().input_tags.two_d_array
    checks = [check.func.__name__ for _, check in estimator_checks_generator(estimator)]
    assert len(checks) >= 40
    required = {
        "check_estimators_nan_inf",
        "check_estimators_pickle",
        "check_fit2d_1feature",
        "check_fit2d_1sample",
        "check_fit2d_predict1d",
        "check_methods_subset_invariance",
        "check_n_features_in",
        "check_sample_weight_equivalence_on_dense_data",
        "check_transformer_general",
        "check_transformer_preserve_dtypes",
    }
    if estimator.missing_values == "ignore":  # NaN is taken
        required.remove("check_estimators_nan_inf")
    if isinstance(estimator, RegionMoments):  # its fit takes no weights
        required.remove("check_sample_weight_equivalence_on_dense_data")
    assert required <= set(checks)
