"""The classifiers of the benchmarks, beside those of scikit-learn that find the same."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.linear_model import Ridge as PlainRidge

SCRIPT = Path(__file__).parent / "benchmarks" / "linear.py"


@pytest.fixture
def script():
    return runpy.run_path(str(SCRIPT))


def drawn(seed, n, n_columns, noise=3.0):
    """Columns of mean zero, and labels of ten classes that they tell in part."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 10)
    F = rng.normal(size=(10, n_columns))[y] + noise * rng.normal(size=(n, n_columns))
    return F - F.mean(axis=0), y


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(80, 12), (60, 90)], ids=["tall", "wide"])
def test_ridge_is_that_of_scikit_learn(script, shape, seed):
    F, y = drawn(seed, *shape, noise=1.5)
    found = script["Ridge"](F, y)
    penalties = shape[1] * found.penalties
    expected = RidgeCV(penalties).fit(F, 2.0 * np.eye(10)[y] - 1)
    np.testing.assert_allclose(found.coefficients, expected.coef_.T, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.intercept, expected.intercept_, atol=1e-9)
    np.testing.assert_allclose(found.error, -expected.best_score_, rtol=1e-6)
    assert penalties[0] < expected.alpha_ < penalties[-1]
    np.testing.assert_array_equal(found.predict(F), expected.predict(F).argmax(axis=1))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_columns", [5, 30])
def test_normal_equations_are_ridge_regression(script, n_columns, seed):
    F, y = drawn(seed, 100, n_columns)
    F = F.astype(np.float32)
    equations = script["NormalEquations"](n_columns)
    for part in (slice(0, 30), slice(30, 100)):
        equations.add(F[part], y[part])
        for exponent in (-3, 1):  # a solution in between changes nothing
            found = equations.solve(exponent)
            n = part.stop
            expected = PlainRidge(n * 10 ** (exponent / 2), fit_intercept=False)
            expected.fit(F[:n], 2.0 * np.eye(10)[y[:n]] - 1)
            np.testing.assert_allclose(found, expected.coef_.T, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("exponent", [-4, -1])
def test_logistic_regression_is_that_of_scikit_learn(script, exponent, seed):
    F, y = drawn(seed, 200, 6)
    F = F.astype(np.float32)
    logistic = script["Logistic"](F, y, script["NormalEquations"](6).add(F, y))
    coefficients, intercept = logistic.fit(exponent)
    expected = LogisticRegression(C=1 / (200 * 10 ** (exponent / 2)), tol=1e-8, max_iter=1000)
    expected.fit(F.astype(float), y)
    np.testing.assert_allclose(coefficients, expected.coef_.T, atol=0.01)
    # Only differences of intercepts matter.
    np.testing.assert_allclose(
        intercept - intercept.mean(), expected.intercept_ - expected.intercept_.mean(), atol=0.01
    )


class Columns:
    """A layer that gives its images back, and counts the most of them at a time."""

    most = 0

    def transform(self, X):
        self.most = max(self.most, len(X))
        return X.copy()


def plain(script, X, y, X_test, y_test, n_choosing, *, logistic):
    """`many_images` with all features in memory and the classifiers of scikit-learn."""
    X, X_test = X.astype(float), X_test.astype(float)
    order = np.random.default_rng(0).permutation(len(X))
    first, train, held_out = order[:n_choosing], *np.split(order, [len(X) * 4 // 5])

    def prepared(rooted):
        parts = [np.sign(F) * np.sqrt(np.abs(F)) if rooted else F for F in (X, X_test)]
        mean, scale = parts[0][first].mean(axis=0), parts[0][first].std(axis=0)
        return [(part - mean) / scale for part in parts]

    def error(rooted):
        F = prepared(rooted)[0][first]
        penalties = F.shape[1] * np.logspace(-4, 2, 13)
        return -RidgeCV(penalties).fit(F, 2.0 * np.eye(10)[y[first]] - 1).best_score_

    rooted = bool(error(True) < error(False))
    F, F_test = prepared(rooted)

    def answers(kind, exponent, rows, others):
        penalty = 10 ** (exponent / 2)
        if kind == "ridge":
            model = PlainRidge(len(rows) * penalty, fit_intercept=False)
            return model.fit(F[rows], 2.0 * np.eye(10)[y[rows]] - 1).predict(others)
        model = LogisticRegression(C=1 / (len(rows) * penalty), tol=1e-8, max_iter=2000)
        return model.fit(F[rows], y[rows]).decision_function(others)

    def accuracy(kind, exponent):
        found = answers(kind, exponent, train, F[held_out])
        return np.mean(found.argmax(axis=1) == y[held_out])

    found = {}
    for kind, start in [("ridge", -3), ("logistic", -7)][: 1 + logistic]:
        best, exponent = script["climb"](lambda e, kind=kind: accuracy(kind, e), start)
        if not found or best > found["best"]:
            found = {"best": best, "kind": kind, "exponent": exponent}
    right = answers(found["kind"], found["exponent"], order, F_test).argmax(axis=1) == y_test
    chosen = f"{found['kind']} {10 ** (found['exponent'] / 2):.2g}{', root' * rooted}"
    return X.shape[1], np.mean(right), chosen


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("logistic", [False, True], ids=["ridge alone", "both"])
def test_many_images_in_batches_are_the_same_as_in_memory(script, logistic, seed):
    (X, y), (X_test, y_test) = (
        [part[start : start + 600] for part in drawn(seed, 1200, 20)] for start in (0, 600)
    )
    X, X_test = (part.astype(np.float32) for part in (X**3, X_test**3))
    many_images = script["many_images"]
    few = {"N_CHOOSING": 150, "BATCH": 70, "MOST_COLUMNS": 20 if logistic else 19}
    many_images.__globals__.update(few)
    script["Logistic"].n_steps = 1000
    layer = Columns()
    n_columns, accuracy, chosen = many_images(layer, X, y, X_test, y_test)
    expected = plain(script, X, y, X_test, y_test, 150, logistic=logistic)
    assert (n_columns, chosen) == (expected[0], expected[2])
    assert abs(accuracy - expected[1]) <= 0.005  # some of 600 lie between two classes
    assert layer.most == 150
