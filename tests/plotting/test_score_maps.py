import dask.array
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from _drawing import GEOMETRIES, drawn_pixels, fitted, images
from sklearn_calm import ConvGMMFeatures
from sklearn_calm.plotting import ResponsibilityDisplay, ScoreMapDisplay


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_maps_are_those_of_the_estimator_where_patches_lie(geometry):
    model, X = fitted(shape=(7, 9), **geometry), images(2, shape=(7, 9), seed=1)
    display = ScoreMapDisplay.from_estimator(model, X)
    assert_array_equal(display.score_map, model.score_map(X))
    assert_array_equal(display.images, X)
    other = ResponsibilityDisplay.from_estimator(model, X)
    assert display.extent == other.extent


def test_images_of_another_size_than_those_of_the_fit():
    model, X = fitted(image_shape=(None, None)), images(2, shape=(12, 15), seed=1)
    display = ScoreMapDisplay.from_estimator(model, X)
    assert_array_equal(display.score_map, model.score_map(X))
    with pytest.raises(ValueError, match="draws images of one size"):
        ScoreMapDisplay.from_estimator(model, [X[0], X[1, :9]])


def test_positions_share_the_score_of_their_cell():
    model, X = fitted(assignment=(2, 3)), images(2, seed=1)  # of a map of 4 x 4
    display = ScoreMapDisplay.from_estimator(model, X)
    assert display.score_map.shape == (2, 4, 4)
    assert_allclose(display.score_map.sum(axis=(1, 2)), model.score_samples(X))
    expected = model.score_map(X)
    assert_allclose(display.score_map[:, 0, 0], expected[:, 0, 0] / 2)
    assert_allclose(display.score_map[:, 3, 3], expected[:, 1, 2] / 4)


def test_what_is_drawn_of_score_maps():
    rng = np.random.default_rng(0)
    X, maps = rng.random((3, 6, 8, 3)), rng.normal(size=(3, 4, 6))
    display = ScoreMapDisplay(X, maps, extent=(0.5, 6.5, 4.5, 0.5)).plot(color="red")
    pictures = [np.asarray(image.get_array()) for image in display.ax_.get_images()]
    assert len(pictures) == 3 * 3
    low, high = maps.min(), np.median(maps)
    for i in range(3):
        image = (X[i] - X.min()) / (X.max() - X.min())
        assert_allclose(pictures[3 * i], image)
        assert_allclose(pictures[3 * i + 1], 0.6 * image.mean(axis=2))
        tint = pictures[3 * i + 2]
        assert_array_equal(tint[..., :3], np.broadcast_to([1, 0, 0], (4, 6, 3)))
        assert_allclose(tint[..., 3], np.clip((high - maps[i]) / (high - low), 0, 1))
    pictures = display.plot(vmin=-1, vmax=-0.5).ax_.get_images()
    assert_allclose(pictures[2].get_array()[..., 3], np.clip((-0.5 - maps[0]) / 0.5, 0, 1))


def test_maps_that_are_even_have_no_colour():
    display = ScoreMapDisplay(images(1), np.zeros((1, 4, 4)), extent=(0.5, 4.5, 4.5, 0.5)).plot()
    assert not display.ax_.get_images()[2].get_array()[..., 3].any()


def test_a_defect_is_coloured():
    X = np.random.default_rng(1).normal(size=(40, 12, 12, 1))
    model = ConvGMMFeatures(3, patch_size=3, padding="same", normalize=None, random_state=0).fit(X)
    X[0, 4, 7] += 15
    tint = ScoreMapDisplay.from_estimator(model, X[:1]).ax_.get_images()[2].get_array()[..., 3]
    row, column = np.unravel_index(tint.argmax(), tint.shape)
    assert abs(row - 4) <= 1
    assert abs(column - 7) <= 1


def test_pipelines_and_dask():
    model, X = fitted(), images(4, seed=2)
    pipeline = make_pipeline(FunctionTransformer(np.negative), model)
    expected = ScoreMapDisplay.from_estimator(model, -X)
    assert_array_equal(ScoreMapDisplay.from_estimator(pipeline, X).score_map, expected.score_map)
    lazy = ScoreMapDisplay.from_estimator(model, dask.array.from_array(-X, chunks=(3, 6, 6, 1)))
    assert_array_equal(drawn_pixels(lazy), drawn_pixels(expected))


def test_signals():
    X = images(shape=(1, 30))
    model = ConvGMMFeatures(4, patch_size=7, max_iter=3, tol=0, random_state=0).fit(X)
    ax = ScoreMapDisplay.from_estimator(model, X[:3]).ax_
    assert len(ax.get_lines()) == 6
    assert len(ax.get_images()) == 3


def test_images_that_miss_values_are_drawn():
    model = fitted(shape=(8, 8), missing_values="ignore")
    X = images(2, shape=(8, 8), seed=1).astype(float)
    plain = ScoreMapDisplay.from_estimator(model, X).plot()
    X[0, :5, :5] = np.nan
    display = ScoreMapDisplay.from_estimator(model, X).plot()
    assert np.isnan(display.score_map).any()
    for panel in display.ax_.images:
        assert not np.isnan(np.asarray(panel.get_array(), float)).any()
    # The image that misses nothing keeps its structure.
    assert np.ptp(display.ax_.images[-2].get_array()) > 0
    assert len(display.ax_.images) == len(plain.ax_.images)
    everything = X.copy()
    everything[:] = np.nan
    ScoreMapDisplay.from_estimator(model, everything).plot()
