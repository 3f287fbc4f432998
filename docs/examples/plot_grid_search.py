"""
Choose the number of kernels
============================

This example chooses the number of kernels by a grid search over a pipeline, as for any other
parameter. More kernels give a higher accuracy, but the gain becomes smaller.
"""

# %%
# Search over the pooling grid too. Five passes of EM are enough for a search. Ridge regression
# finds its penalty for each candidate by the leave-one-out error, at no extra cost.
import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_calm import ConvGMMFeatures

X, y = load_digits(return_X_y=True)
model = Pipeline(
    [
        ("features", ConvGMMFeatures(padding=2, max_iter=5, tol=0, random_state=0)),
        ("scale", StandardScaler()),
        ("classify", RidgeClassifierCV([1, 10, 100, 1000])),
    ]
)
candidates = {
    "features__n_components": [4, 8, 16, 32, 64],
    "features__pool_grid": [1, 2],
}
search = GridSearchCV(model, candidates, cv=3).fit(X, y)
print(search.best_params_, f"accuracy {search.best_score_:.3f}")

# %%
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
results = pd.DataFrame(search.cv_results_)
for pool_grid, rows in results.groupby("param_features__pool_grid"):
    kernels, mean, spread = (
        rows[name] for name in ("param_features__n_components", "mean_test_score", "std_test_score")
    )
    ax.errorbar(kernels, mean, spread, marker="o", capsize=3, label=f"{pool_grid} x {pool_grid}")
ax.set_xscale("log")
ax.set_xticks(kernels, kernels)
ax.minorticks_off()
ax.set(xlabel="kernels", ylabel="accuracy, mean and deviation over 3 folds")
ax.legend(title="pool_grid", frameon=False)
plt.show()
