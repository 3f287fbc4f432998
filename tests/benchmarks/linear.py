"""Linear classifiers of the benchmarks: ridge regression on signs, and logistic regression.

`Ridge` has all features in memory, and finds its penalty by leave-one-out. `NormalEquations` takes
features in batches: besides a square matrix of their products, it holds none of them. `Logistic`
is for some ten thousand images and some thousand columns, which scikit-learn's solvers take long
for.
"""

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh, solve_triangular
from scipy.optimize import minimize
from sklearn.utils import gen_batches
from threadpoolctl import threadpool_limits

# Of `many_images`: images that choose the root, images of a batch, and the most columns for which
# logistic regression is tried too.
N_CHOOSING, BATCH, MOST_COLUMNS = 4000, 1000, 7000


def signed_root(F):
    return np.sign(F) * np.sqrt(np.abs(F))


def standardized(train, *others, root):
    """Features in place, less the training mean, over the training deviation."""
    parts = [train, *others]
    if root:
        parts = [signed_root(part) for part in parts]
    mean, scale = parts[0].mean(axis=0), parts[0].std(axis=0)
    scale[scale == 0] = 1
    for part in parts:
        part -= mean
        part /= scale
    return parts


def climb(accuracy, best):
    """Best accuracy and exponent, walking uphill from `best`."""
    known = {best: accuracy(best)}
    for step in (1, -1):
        while -12 < best + step < 12:
            if best + step not in known:
                known[best + step] = accuracy(best + step)
            if known[best + step] <= known[best]:
                break
            best += step
    return known[best], best


def signs(y):
    """Targets of ridge regression: 1 in the column of the class, -1 elsewhere."""
    return 2 * np.eye(10, dtype=np.float32)[y] - 1


class Ridge:
    """Ridge regression on signs, its penalty chosen by leave-one-out, from columns of mean zero.

    What `RidgeCV` finds; by the smaller Gram matrix and in the dtype of the features it takes a
    fraction of the time.
    """

    penalties = np.logspace(-4, 2, 13)

    def __init__(self, F, y):
        targets = signs(y).astype(F.dtype)
        self.intercept = targets.mean(axis=0)
        targets -= self.intercept
        wide = len(F) <= F.shape[1]
        variances, axes = eigh(F @ F.T + 1 if wide else F.T @ F, driver="evd", overwrite_a=True)
        variances = np.maximum(variances, 0)
        moments = axes.T @ (targets if wide else F.T @ targets)
        squares = np.square(axes if wide else F @ axes)
        # In this direction the rows of a wide matrix are alike: the intercept has it.
        constant = np.abs(axes.sum(axis=0)).argmax() if wide else []
        self.error = np.inf
        for penalty in F.shape[1] * self.penalties:
            inverse = 1 / (variances + F.dtype.type(penalty))
            inverse[constant] = 0
            found = axes @ (inverse[:, None] * moments)
            if wide:  # both over the penalty
                residuals, left = found, squares @ inverse
                found = F.T @ found
            else:
                residuals, left = targets - F @ found, 1 - 1 / len(F) - squares @ inverse
            error = np.mean(np.square(residuals / left[:, None]))
            if error < self.error:
                self.error, self.coefficients = error, found

    def predict(self, F):
        return (F @ self.coefficients + self.intercept).argmax(axis=1)


class NormalEquations:
    """Ridge regression on signs of as many images as are added, in the memory of one matrix.

    The lower triangle of the matrix holds the products of features and the upper one the factor of
    the last solution, so that features of any number of images need no second matrix.
    """

    def __init__(self, n_columns):
        self.n = 0
        self.matrix = np.zeros((n_columns, n_columns), np.float32, order="F")
        self.diagonal = np.zeros(n_columns, np.float32)
        self.moments = np.zeros((n_columns, 10), np.float32)

    def add(self, F, y):
        """Add images: features (n, n_columns), float32 and of mean about zero; labels (n,)."""
        self.n += len(F)
        np.fill_diagonal(self.matrix, self.diagonal)
        # By blocks: see `solve`.
        for i, j in self._lower_blocks():
            self.matrix[i, j] += F[:, i].T @ F[:, j]
        self.diagonal = self.matrix.diagonal().copy()
        self.moments += F.T @ signs(y)
        return self

    def solve(self, exponent):
        """Coefficients with a penalty of 10^(exponent / 2) an image; zeros if it is too small."""
        for i, j in self._lower_blocks():
            block = self.matrix[i, j].T
            if i == j:
                block = np.triu(block) + np.tril(block.T, -1)
            self.matrix[j, i] = block
        np.fill_diagonal(self.matrix, self.diagonal + self.n * 10.0 ** (exponent / 2))
        # OpenBLAS 0.3.30 crashes in several threads where a matrix is beyond 2^31 bytes.
        one_thread = 1 if self.matrix.nbytes >= 2**31 else None
        try:
            with threadpool_limits(one_thread, "blas"):
                factor = cho_factor(self.matrix, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return np.zeros_like(self.moments)
        return cho_solve(factor, self.moments, check_finite=False)

    def _lower_blocks(self):
        blocks = list(gen_batches(len(self.matrix), 2000))
        return [(i, j) for i in blocks for j in blocks if j.start <= i.start]


class Logistic:
    """Multinomial logistic regression by L-BFGS.

    Coordinates are those in which features are about uncorrelated: some forty steps suffice, where
    correlated features take hundreds.
    """

    n_steps = 40

    def __init__(self, F, y, equations):
        """Features (n, n_columns), labels (n,) and normal equations of the same columns."""
        self.F, self.labels = F, np.eye(10, dtype=np.float32)[y]
        equations.solve(-4)
        # w = U^-1 v, with U'U the matrix of the normal equations an image
        self.factor = np.triu(equations.matrix / np.sqrt(np.float32(equations.n)))
        self.position = np.zeros((F.shape[1] + 1) * 10)

    def fit(self, exponent):
        """Coefficients and intercepts with a penalty of 10^(exponent / 2) an image."""
        penalty = np.float32(10.0 ** (exponent / 2))

        def loss(position):
            coefficients, intercept = self.unpack(position)
            odds = self.F @ coefficients + intercept
            odds -= odds.max(axis=1, keepdims=True)
            normalizer = np.log(np.exp(odds).sum(axis=1, keepdims=True))
            odds -= normalizer
            value = -np.einsum("nk,nk->", odds, self.labels) / len(odds)
            value += penalty / 2 * np.sum(np.square(coefficients))
            residuals = (np.exp(odds) - self.labels) / len(odds)
            slope = self.F.T @ residuals + penalty * coefficients
            slope = solve_triangular(self.factor, slope, trans="T", check_finite=False)
            slope = np.concatenate([slope, residuals.sum(axis=0)[None]])
            return float(value), slope.ravel().astype(np.float64)

        options = {"maxiter": self.n_steps}
        found = minimize(loss, self.position, jac=True, method="L-BFGS-B", options=options)
        self.position = found.x
        return self.unpack(found.x)

    def unpack(self, position):
        position = position.astype(np.float32).reshape(-1, 10)
        return (
            solve_triangular(self.factor, position[:-1], check_finite=False),
            position[-1],
        )


class Columns:
    """Features as a classifier takes them: rooted or not, less a mean, over a deviation."""

    def __init__(self, F, root):
        self.root = root
        F = signed_root(F) if root else F
        self.mean, self.scale = F.mean(axis=0), F.std(axis=0)
        self.scale[self.scale == 0] = 1

    def __call__(self, F):
        F = signed_root(F) if self.root else F.copy()
        F -= self.mean
        F /= self.scale
        return F


def choose_columns(F, y):
    """With the root or without: the least leave-one-out error."""
    ways = [Columns(F, root) for root in (False, True)]
    return min(ways, key=lambda columns: Ridge(columns(F), y).error)


def many_images(features, X, y, X_test, y_test):
    """Number of features, test accuracy of a linear classifier of many images, how it was chosen.

    Fitted `features` transform a batch at a time. The root is chosen by leave-one-out on
    `N_CHOOSING` of the images, whose means and deviations standardise all; the penalty on the
    accuracy of a fifth of the images, which are then added to the others. With up to
    `MOST_COLUMNS` columns, so is whether ridge or logistic regression classifies.
    """
    order = np.random.default_rng(0).permutation(len(X))
    first, held_out = order[:N_CHOOSING], order[len(X) * 4 // 5 :]
    columns = choose_columns(features.transform(X[first]), y[first])

    def batches(X):
        for start in range(0, len(X), BATCH):
            yield columns(features.transform(X[start : start + BATCH]))

    equations = NormalEquations(len(columns.mean))
    in_memory = len(columns.mean) <= MOST_COLUMNS
    train, kept = order[: len(X) * 4 // 5], []
    for start, F in zip(range(0, len(train), BATCH), batches(X[train]), strict=True):
        equations.add(F, y[train[start : start + BATCH]])
        kept += [F] if in_memory else []
    F_val = np.concatenate(list(batches(X[held_out])))

    def right(answers, y):
        return np.mean(answers.argmax(axis=1) == y)

    best, exponent = climb(lambda e: right(F_val @ equations.solve(e), y[held_out]), -3)
    kind, intercept = "ridge", 0
    if in_memory:
        F = np.concatenate(kept)
        del kept
        logistic = Logistic(F, y[train], equations)

        def validated(exponent):
            coefficients, intercept = logistic.fit(exponent)
            return right(F_val @ coefficients + intercept, y[held_out])

        accuracy, least = climb(validated, -7)
        kind, exponent = ("logistic", least) if accuracy > best else (kind, exponent)
    equations.add(F_val, y[held_out])
    if kind == "ridge":
        coefficients = equations.solve(exponent)
    else:
        del logistic
        F = np.concatenate([F, F_val])
        coefficients, intercept = Logistic(F, y[order], equations).fit(exponent)
    answers = np.concatenate([part @ coefficients + intercept for part in batches(X_test)])
    chosen = f"{kind} {10 ** (exponent / 2):.2g}{', root' if columns.root else ''}"
    return len(columns.mean), right(answers, y_test), chosen
