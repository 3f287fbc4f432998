import gzip
import importlib.util
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_calm import ConvGMMFeatures
from sklearn_calm.datasets import load_idx, load_stl10, make_planted_patches

NAMES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
PARTS = {"train": 6, "test": 4, "unlabeled": 3}
PAPER = {
    "assignment": "image",
    "normalize": None,
    "whiten": False,
    "learn_weights": False,
    "init_params": "random",
    "pooling": "logsumexp",
    "pool_grid": 1,
}


def write_stl10(folder, seed, image_shape=(96, 96, 3)):
    """Random files; returns what they hold, pixel by pixel from what the format says."""
    rng = np.random.default_rng(seed)
    height, width, n_channels = image_shape
    held = {}
    for part, n in PARTS.items():
        values = rng.integers(256, size=n * height * width * n_channels, dtype=np.uint8)
        values.tofile(folder / f"{part}_X.bin")
        X = np.empty((n, *image_shape), np.uint8)
        at = 0
        for image in range(n):
            for channel in range(n_channels):
                for column in range(width):
                    X[image, :, column, channel] = values[at : at + height]
                    at += height
        held[f"X_{part}"] = X
    for part in ("train", "test"):
        labels = rng.integers(1, 11, size=PARTS[part])
        labels[:2] = 1, 10
        (folder / f"{part}_y.bin").write_bytes(bytes(labels.tolist()))
        held[f"y_{part}"] = labels - 1
    held["folds"] = [rng.permutation(PARTS["train"])[:2] for _ in range(10)]
    lines = [" ".join(map(str, fold)) + " \n" for fold in held["folds"]]
    (folder / "fold_indices.txt").write_text("".join(lines))
    (folder / "class_names.txt").write_text("\n".join(NAMES) + "\n")
    return held


# STL-10


@pytest.mark.parametrize("image_shape", [(96, 96, 3), (2, 5, 1), (4, 3, 3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_files_hold_what_the_format_says(tmp_path, image_shape, seed):
    held = write_stl10(tmp_path, seed, image_shape)
    data = load_stl10(str(tmp_path), image_shape=image_shape)
    for name in ("X_train", "X_test", "X_unlabeled"):
        images = data[name]
        assert images.dtype == np.uint8
        assert_array_equal(images, held[name])
        assert isinstance(images, np.memmap)
        assert not images.flags.writeable
    for name in ("y_train", "y_test"):
        assert data[name].dtype == np.int64
        assert_array_equal(data[name], held[name])
    assert len(data.folds) == 10
    for fold, expected in zip(data.folds, held["folds"], strict=True):
        assert_array_equal(fold, expected)
    assert data.target_names == NAMES


def test_published_images_are_the_default(tmp_path):
    write_stl10(tmp_path, 2)
    assert load_stl10(tmp_path).X_test.shape == (4, 96, 96, 3)


def test_class_names_may_be_left_out(tmp_path):
    write_stl10(tmp_path, 3, (2, 2, 3))
    (tmp_path / "class_names.txt").unlink()
    assert load_stl10(tmp_path, image_shape=(2, 2, 3)).target_names is None


def test_images_are_mapped_not_read(tmp_path):
    write_stl10(tmp_path, 4)
    with open(tmp_path / "unlabeled_X.bin", "r+b") as stream:
        stream.truncate(4000 * 96 * 96 * 3)  # a hole of 110 MB
    tracemalloc.start()
    try:
        data = load_stl10(tmp_path)
        assert data.X_unlabeled.shape == (4000, 96, 96, 3)
        model = ConvGMMFeatures(
            2,
            patch_size=3,
            stride=30,
            noise_variance=1e4,
            max_iter=1,
            tol=0,
            batch_size=20,
            n_jobs=1,
            random_state=0,
            **PAPER,
        )
        model.fit(data.X_unlabeled).transform(data.X_unlabeled)
        assert tracemalloc.get_traced_memory()[1] < data.X_unlabeled.nbytes / 4
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("options", [{}, PAPER])
def test_the_estimator_takes_the_maps_as_they_are(tmp_path, options):
    held = write_stl10(tmp_path, 5, (12, 10, 3))
    data = load_stl10(tmp_path, image_shape=(12, 10, 3))
    model = ConvGMMFeatures(3, patch_size=4, max_iter=3, tol=0, random_state=0, **options)
    expected = model.fit(held["X_train"]).transform(held["X_test"])
    assert_array_equal(model.fit(data.X_train).transform(data.X_test), expected)
    for part in PARTS:
        again = load_stl10(tmp_path, image_shape=(12, 10, 3))[f"X_{part}"]
        assert_array_equal(again, held[f"X_{part}"])


@pytest.mark.parametrize(
    "name",
    [
        *(f"{part}_X.bin" for part in PARTS),
        "train_y.bin",
        "test_y.bin",
        "fold_indices.txt",
    ],
)
def test_a_missing_file_is_named(tmp_path, name):
    write_stl10(tmp_path, 6, (2, 2, 3))
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"(?s)There is no file .*{name}.*tar\.gz.*pass"):
        load_stl10(tmp_path, image_shape=(2, 2, 3))


def test_the_folder_around_the_folder_is_told_apart(tmp_path):
    inner = tmp_path / "stl10_binary"
    inner.mkdir()
    write_stl10(inner, 7, (2, 2, 3))
    with pytest.raises(FileNotFoundError, match=r"pass the folder .*stl10_binary"):
        load_stl10(tmp_path, image_shape=(2, 2, 3))


def rewrite(name, content):
    def damage(folder):
        (folder / name).write_bytes(content)

    return damage


def shorten(name):
    def damage(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shorten("train_X.bin"), "train_X.bin has 71 bytes; expected a positive multiple of 12"),
        (rewrite("unlabeled_X.bin", b""), "unlabeled_X.bin has 0 bytes; expected a positive"),
        (rewrite("train_X.bin", bytes(12)), "train_y.bin holds 6 labels, but its images are 1"),
        (shorten("test_y.bin"), "test_y.bin holds 3 labels, but its images are 4"),
        (rewrite("test_y.bin", bytes([1, 0, 2, 3])), "has the label 0 .of image 1.; expected"),
        (rewrite("train_y.bin", bytes([1] * 5 + [11])), "has the label 11 .of image 5.; expected"),
        (rewrite("fold_indices.txt", b"0 1\n" * 9), "has 9 lines; expected 10, one for each fold"),
        (
            rewrite("fold_indices.txt", b"0 6\n" * 10),
            "the index '6'; expected integers from 0 to 5",
        ),
        (rewrite("fold_indices.txt", b"0 -1\n" * 10), "the index '-1'; expected integers"),
        (rewrite("fold_indices.txt", b"0 1.0\n" * 10), "the index '1.0'; expected integers"),
        (rewrite("fold_indices.txt", b"\xff\xfe\n" * 10), "is not text; expected a text file"),
        (rewrite("class_names.txt", b"cat\ndog\n"), "has 2 lines; expected 10, one for each class"),
    ],
)
def test_a_damaged_file_is_told(tmp_path, damage, message):
    write_stl10(tmp_path, 8, (2, 2, 3))
    damage(tmp_path)
    with pytest.raises(ValueError, match=message) as told:
        load_stl10(tmp_path, image_shape=(2, 2, 3))
    assert "stl10_binary.tar.gz" in str(told.value)


@pytest.mark.parametrize("image_shape", [(96, 96), (0, 2, 3), (2.0, 2, 3)])
def test_an_image_shape_is_three_ints(tmp_path, image_shape):
    write_stl10(tmp_path, 9, (2, 2, 3))
    with pytest.raises(ValueError, match=r"image_shape=.*expected \(height, width, n_channels\)"):
        load_stl10(tmp_path, image_shape=image_shape)


# IDX

IDX_CODES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def idx_bytes(values, dtype):
    """An IDX file, written as the format says."""
    header = bytes([0, 0, IDX_CODES[dtype], values.ndim])
    sides = b"".join(side.to_bytes(4, "big") for side in values.shape)
    return header + sides + values.astype(dtype).tobytes()


@pytest.mark.parametrize("dtype", IDX_CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (4, 3, 2)])
@pytest.mark.parametrize("compressed", [False, True])
def test_idx_files_hold_what_was_written(tmp_path, dtype, shape, compressed):
    values = np.random.default_rng(len(shape)).integers(0, 100, size=shape)
    content = idx_bytes(values, dtype)
    # The name says nothing: what is compressed shows in the first bytes.
    file = tmp_path / "values"
    file.write_bytes(gzip.compress(content) if compressed else content)
    array = load_idx(str(file))
    assert array.dtype == np.dtype(dtype)
    assert_array_equal(array, values)
    assert not array.flags.writeable
    assert isinstance(array, np.memmap) is not compressed


def test_an_idx_file_without_images(tmp_path):
    (tmp_path / "none").write_bytes(idx_bytes(np.empty((0, 28, 28)), "u1"))
    assert load_idx(tmp_path / "none").shape == (0, 28, 28)


def test_the_estimator_takes_idx_images(tmp_path):
    values = np.random.default_rng(10).integers(0, 100, size=(12, 7, 8))
    (tmp_path / "images").write_bytes(idx_bytes(values, ">f8"))
    model = ConvGMMFeatures(3, patch_size=3, max_iter=2, tol=0, random_state=0)
    features = model.fit_transform(load_idx(tmp_path / "images"))
    assert_array_equal(features, model.fit_transform(values.astype(float)))


GOOD = idx_bytes(np.arange(6).reshape(2, 3), "u1")


def packed(content):
    """What gzip makes of ``content``, without the time in its header: the bytes name test cases."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"begins with the bytes \(none\); an IDX file begins with"),
        (b"\0\0", "begins with the bytes 00 00; an IDX file begins with"),
        (b"\x89PNG\r\n\x1a\n", "begins with the bytes 89 50 4e 47; an IDX file begins with"),
        (bytes([0, 0, 10, 1]) + bytes(8), "begins with the bytes 00 00 0a 01; an IDX"),
        (bytes([0, 0, 8, 0]) + bytes(8), "begins with the bytes 00 00 08 00; an IDX"),
        (GOOD[:10], "ends within its header; expected the lengths of 2 axes"),
        (GOOD[:-1], r"5 bytes of values; expected 6 for shape \(2, 3\) and type uint8.*truncated"),
        (GOOD + b"\0", "7 bytes of values; expected 6 for .*followed by something else"),
        (packed(GOOD)[:-9], "cannot be unpacked.*truncated or damaged"),
        (packed(GOOD[:-1]), "5 bytes of values; expected 6"),
        (packed(GOOD) + b"other", "cannot be unpacked.*truncated or damaged"),
        (b"\x1f\x8b" + bytes(20), "cannot be unpacked.*truncated or damaged"),
    ],
)
def test_a_foreign_idx_file_is_told(tmp_path, content, message):
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_idx(tmp_path / "foreign")


def test_a_missing_idx_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"(?s)There is no file .*absent.*Pass the path"):
        load_idx(tmp_path / "absent")


# Planted patches


def planted_by_hand(truth, image_shape):
    """The images without noise, kernel by kernel."""
    X = np.zeros((len(truth.labels), *(*image_shape, 1)[:3]))
    for image, (labels, positions) in enumerate(zip(truth.labels, truth.positions, strict=True)):
        for label, (row, column) in zip(labels, positions, strict=True):
            kernel = truth.means[label]
            X[image, row : row + kernel.shape[0], column : column + kernel.shape[1]] += kernel
    return X.reshape(-1, *image_shape)


@pytest.mark.parametrize("image_shape", [(9, 8), (9, 8, 1), (8, 11, 3)])
@pytest.mark.parametrize("assignment", ["image", (2, 3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_without_noise_images_are_their_kernels(image_shape, assignment, seed):
    X, truth = make_planted_patches(
        20,
        4,
        patch_size=(3, 2),
        image_shape=image_shape,
        assignment=assignment,
        noise_variance=0,
        random_state=seed,
    )
    n_cells = 1 if assignment == "image" else 6
    assert X.shape == (20, *image_shape)
    assert truth.means.shape == (4, 3, 2, (*image_shape, 1)[2])
    assert truth.labels.shape == (20, n_cells)
    assert truth.positions.shape == (20, n_cells, 2)
    assert_allclose(X, planted_by_hand(truth, image_shape), atol=1e-15)


def test_noise_is_in_every_pixel():
    X, truth = make_planted_patches(
        2000, image_shape=(9, 8), noise_variance=0.3, assignment=(2, 2), random_state=2
    )
    noise = X - planted_by_hand(truth, (9, 8))
    # Five standard errors of the variance of 2000 numbers.
    assert_allclose(noise.var(axis=0), 0.3, atol=5 * 0.3 * np.sqrt(2 / 2000))
    assert_allclose(noise.mean(axis=0), 0, atol=5 * np.sqrt(0.3 / 2000))


def test_every_position_of_a_cell_is_as_likely():
    _, truth = make_planted_patches(
        4000, patch_size=3, image_shape=(7, 8), assignment=(2, 3), random_state=3
    )
    # Five rows and six columns of positions, cut after the second, and after the second and fourth.
    cells = [(rows, columns) for rows in [(0, 2), (2, 5)] for columns in [(0, 2), (2, 4), (4, 6)]]
    for positions, cell in zip(np.moveaxis(truth.positions, 1, 0), cells, strict=True):
        (top, bottom), (left, right) = cell
        counts = np.zeros((7, 8))
        np.add.at(counts, tuple(positions.T), 1)
        share = counts[top:bottom, left:right] / 4000
        assert_allclose(share.sum(), 1)
        assert_allclose(share, 1 / share.size, atol=5 * np.sqrt(0.25 / 4000))


def test_components_come_by_their_weights():
    _, truth = make_planted_patches(4000, 3, weights=[1, 0, 3], random_state=4)
    assert_allclose(truth.weights, [0.25, 0, 0.75])
    share = np.bincount(truth.labels.ravel(), minlength=3) / 4000
    assert share[1] == 0
    assert_allclose(share, truth.weights, atol=5 * np.sqrt(0.25 / 4000))


def test_given_kernels_are_planted():
    kernels = np.arange(12).reshape(2, 2, 3)
    X, truth = make_planted_patches(
        5, 7, means=kernels, image_shape=(4, 5), noise_variance=0, random_state=5
    )
    assert_array_equal(truth.means[..., 0], kernels)
    assert_array_equal(X, planted_by_hand(truth, (4, 5)))
    assert not np.shares_memory(truth.means, kernels)


def test_a_random_state_is_reproducible_and_the_global_one_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    X, truth = make_planted_patches(random_state=6)
    again, truth_again = make_planted_patches(random_state=6)
    assert_array_equal(X, again)
    assert_array_equal(truth.positions, truth_again.positions)
    other, _ = make_planted_patches(random_state=7)
    assert (other != X).any()
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("seed", [0, 1])
def test_the_estimator_finds_what_was_planted(seed):
    X, truth = make_planted_patches(
        400, 3, weights=[0.2, 0.3, 0.5], noise_variance=0.05, random_state=seed
    )
    model = ConvGMMFeatures(
        3,
        assignment="image",
        normalize=None,
        whiten=False,
        # From noise EM can end a pixel beside; this asks whether the model is that of the images.
        init_params=truth.means + np.random.default_rng(seed).normal(size=truth.means.shape) / 2,
        tol=1e-6,
    ).fit(X)
    n_least = 0.2 * 400
    assert_allclose(model.means_, truth.means, atol=6 * np.sqrt(0.05 / n_least))
    assert_allclose(model.weights_, truth.weights, atol=5 * np.sqrt(0.25 / 400))
    # Noise of the density that `score` reports: as many pixels as images have.
    assert_allclose(model.noise_variance_, 0.05, rtol=5 * np.sqrt(2 / X.size) + 1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (8,)}, r"image_shape=\(8,\): expected \(height, width\) or"),
        ({"image_shape": (8, 0)}, r"image_shape=\(8, 0\).*ints >= 1"),
        ({"patch_size": (3, 3, 3)}, r"patch_size=\(3, 3, 3\): expected an int or a pair"),
        ({"patch_size": 17}, "Kernels of 17 x 17 do not fit images of 16 x 16"),
        (
            {"means": np.zeros((2, 3, 3, 3))},
            r"means has shape \(2, 3, 3, 3\); expected .*_channels=1",
        ),
        ({"means": np.zeros((3, 3))}, r"means has shape \(3, 3\); expected"),
        ({"means": np.full((1, 3, 3), np.nan)}, "means contains NaN or infinity"),
        ({"weights": [1, 1]}, r"weights=\[1.0, 1.0\]: expected 3 numbers"),
        ({"weights": [1, -1, 1]}, "none negative and not all zero"),
        ({"weights": [0, 0, 0]}, "none negative and not all zero"),
        ({"weights": [1, np.nan, 1]}, "none negative and not all zero"),
        ({"assignment": (13, 1)}, r"assignment=\(13, 1\) has more cells than the map"),
        ({"assignment": "patch"}, "The 'assignment' parameter of make_planted_patches must be"),
        ({"noise_variance": -1}, "The 'noise_variance' parameter of make_planted_patches must be"),
        ({"n_samples": 0}, "The 'n_samples' parameter of make_planted_patches must be"),
    ],
)
def test_what_does_not_fit_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        make_planted_patches(**options)


# The example on STL-10


def example():
    file = Path(__file__).parents[1] / "docs" / "examples" / "stl10.py"
    spec = importlib.util.spec_from_file_location("stl10", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cifar10_is_written_as_stl10(tmp_path):
    rng = np.random.default_rng(11)
    y = rng.permutation(np.repeat(np.arange(10), 503))
    X = rng.integers(256, size=(len(y), 3, 4, 3), dtype=np.uint8)
    y_test, X_test = rng.integers(10, size=7), X[:7] // 2
    file = tmp_path / "cifar10.npz"
    np.savez(file, X_train=X, y_train=y, X_test=X_test, y_test=y_test)
    example().write_cifar10(file, tmp_path / "new")
    data = load_stl10(tmp_path / "new", image_shape=(3, 4, 3))
    assert_array_equal(data.X_test, X_test)
    assert_array_equal(data.y_test, y_test)
    known = {image.tobytes(): label for image, label in zip(X, y, strict=True)}
    found = [known.pop(image.tobytes()) for image in data.X_train]
    assert_array_equal(data.y_train, found)
    assert_array_equal(np.bincount(found), [500] * 10)
    assert {image.tobytes() for image in data.X_unlabeled} == set(known)
    for fold in data.folds:
        assert_array_equal(np.bincount(data.y_train[fold]), [100] * 10)
        assert len(np.unique(fold)) == 1000
    assert len({tuple(fold) for fold in data.folds}) == 10


def test_the_paper_spheres_each_channel_by_its_rows():
    images = np.random.default_rng(12).integers(256, size=(3, 8, 9, 3), dtype=np.uint8)
    found = example().sphered(images)
    assert found.dtype == np.float16
    for image, sphered in zip(images, found, strict=True):
        for channel in range(3):
            rows = image[:, :, channel] - image[:, :, channel].mean(axis=1, keepdims=True)
            # The nearest matrix of orthogonal rows, each of variance 1.
            left, _, right = np.linalg.svd(rows, full_matrices=False)
            assert_allclose(sphered[:, :, channel], left @ right * np.sqrt(9), atol=3e-3)


def test_parts_are_joined_in_a_file(tmp_path):
    rng = np.random.default_rng(13)
    parts = [rng.integers(256, size=(n, 2, 3, 3), dtype=np.uint8) for n in (700, 3)]
    stl10 = example()
    with stl10.one_array(parts, stl10.unit_range, tmp_path) as X:
        assert X.dtype == np.float16
        assert not X.flags.writeable
        assert_allclose(X, np.concatenate(parts) / 255, atol=3e-4)
    assert list(tmp_path.iterdir()) == []


def test_a_shape_that_is_a_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"image_shape=96: expected \(height, width, n_channels\)"):
        load_stl10(tmp_path, image_shape=96)
