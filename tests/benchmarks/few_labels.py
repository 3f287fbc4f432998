"""Test accuracy where all training images are at hand and few have labels.

    pip install -e '.[bench,plot]'
    python tests/benchmarks/few_labels.py --data FOLDER --results few_labels.json --plot FILE

FOLDER holds mnist.npz, fashion.npz and cifar10.npz (X_train, y_train, X_test, y_test). A draw
gives labels to as many images of each class; fewer labels are a part of more. Features are learned
from the images with a label or, without labels, from all. All rows but the network have one
classifier, ridge regression, which finds its penalty by leave-one-out on the images with a label
and so needs no validation part. Whether columns are scaled each or all alike, and whether the
(signed) square root is taken of them first, has the least leave-one-out error of 1000 images, or of
fewer where there are fewer. The test images are looked at once for each cell and draw. What FILE of
--results holds already is not measured again.

    python tests/benchmarks/few_labels.py --data FOLDER --kernels [--draws 3]

answers another question: how many images kernels are to be learned from, with 100 labels a class
whatever their number.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from accuracy import TwoLayers, load
from linear import Ridge, signed_root
from peers import Flat, Mirrored, Scattering
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from timing import machine

from sklearn_calm import ConvGMMFeatures

DATA = {"mnist": "MNIST", "fashion": "Fashion-MNIST", "cifar10": "CIFAR-10 (JPEG)"}
N_LABELS = (10, 25, 50, 100, 250, 1000)
OURS_ALL, OURS_LABELLED = "ours, all images", "ours, labelled images"
OURS_WIDE, SCATTERING, WIDE_SCATTERING = "ours, 3960 features", "scattering", "scattering, J=3"
OURS_MIRRORED, NETWORK = "ours, 3960, mirrored", "network"
OURS_DEEP, OURS_CONTRAST = "ours, two layers", "ours, 3960, contrast"
OURS_BOTH = "ours, mirrored, contrast"
# Okabe and Ito's colours, which the colour-blind can tell apart.
ROWS = {
    OURS_BOTH: "#332288",
    OURS_CONTRAST: "#999933",
    OURS_MIRRORED: "#666666",
    OURS_WIDE: "#F0E442",
    OURS_DEEP: "#882255",
    OURS_ALL: "#D55E00",
    OURS_LABELLED: "#E69F00",
    SCATTERING: "#0072B2",
    WIDE_SCATTERING: "#56B4E9",
    NETWORK: "#009E73",
    "PCA, all images": "#CC79A7",
    "raw pixels": "#000000",
}
# One setting for all data, chosen on validation images of MNIST and Fashion-MNIST.
WIDE = {
    "n_components": 110,
    "padding": 2,
    "reg_covar": 0.3,
    "pool_window": "gaussian",
    "pool_grid": 6,
    "pool_width": 0.6,
}
WITH_CONTRAST = {**WIDE, "pool_contrast": 0.5}
LAYERS_OF_ROWS = {
    OURS_ALL: {},
    OURS_WIDE: WIDE,
    OURS_MIRRORED: WIDE,
    OURS_CONTRAST: WITH_CONTRAST,
    OURS_BOTH: WITH_CONTRAST,
}
# Of the other question: layers, and the numbers of images before all of them.
LAYERS = [{"n_components": 64, "patch_size": 5}, {"n_components": 248, "patch_size": 6}]
N_IMAGES = (3, 10, 30, 100, 1000)
# The choice of root and scale is made on so many labelled images.
N_FEW = 1000
N_EPOCHS, N_STEPS, RATE = 10, 400, 3e-3


def draw_labelled(y, n_a_class, seed):
    """Rows of the labelled images; of any n classes-full at the start, each class has n."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(y == k))[:n_a_class] for k in np.unique(y)]
    return np.stack(rows, axis=1).ravel()


def scaled(F, F_test, root, each):
    """Features less their mean, over the deviation of each or of all."""
    parts = [signed_root(part) if root else part for part in (F, F_test)]
    mean, scale = parts[0].mean(axis=0), parts[0].std(axis=0)
    scale = np.where(scale > 0, scale, 1) if each else np.sqrt(np.mean(scale**2))
    return [(part - mean) / scale for part in parts]


def choose_way(F, y):
    """Whether to take the root, and to scale each column: the least leave-one-out error."""
    ways = [(root, each) for root in (False, True) for each in (True, False)]
    few, y = F[:N_FEW], y[:N_FEW]
    return min(ways, key=lambda way: Ridge(scaled(few, few[:0], *way)[0], y).error)


def linear_accuracy(F, y, F_test, y_test, way=None):
    """Test accuracy of ridge regression on these features."""
    F, F_test = scaled(F, F_test, *(way or choose_way(F, y)))
    return float(np.mean(Ridge(F, y).predict(F_test) == y_test))


def network_accuracy(X, y, X_test, y_test, seed):
    """Test accuracy of two convolutions and a linear layer, trained on the labelled images."""
    import torch
    from torch import nn

    def tensor(images):
        images = torch.from_numpy(images.reshape(*images.shape[:3], -1)).float()
        return images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    torch.manual_seed(seed)
    X, X_test, y = tensor(X), tensor(X_test), torch.from_numpy(y.astype(np.int64))
    mean, scale = X.mean(), X.std()
    X, X_test = (X - mean) / scale, (X_test - mean) / scale
    side = X.shape[2] // 4
    layers = []
    for n_in, n_out in ((X.shape[1], 32), (32, 64)):
        # Pooled first, which spares the rest three quarters of the work.
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.MaxPool2d(2)]
        layers += [nn.BatchNorm2d(n_out), nn.ReLU()]
    layers += [nn.Flatten(), nn.Dropout(0.5), nn.Linear(64 * side**2, 10)]
    network = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    # Fixed beforehand, on other draws of training images: no labels are held back for it.
    batch = min(64, len(X) // 4)
    n_epochs = max(N_EPOCHS, -(-N_STEPS * batch // len(X)))
    optimizer = torch.optim.Adam(network.parameters(), weight_decay=1e-4)
    n_batches = len(X) // batch
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, n_epochs * n_batches)
    for _ in range(n_epochs):
        for rows in torch.randperm(len(X))[: n_batches * batch].view(n_batches, batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[rows]), y[rows]).backward()
            optimizer.step()
            rate.step()
    network.eval()
    with torch.no_grad():
        found = torch.cat([network(part).argmax(dim=1) for part in X_test.split(500)])
    return float(np.mean(found.numpy() == y_test))


class Bench:
    """One data set: what needs all images is done once for each seed it depends on."""

    def __init__(self, name, folder):
        self.X, self.X_test, self.y, self.y_test = load(name, folder, None)
        self.fixed = {}

    def accuracies(self, row, seed, wanted):
        """Number of labels a class, test accuracy."""
        rows = draw_labelled(self.y, max(wanted), seed)
        X, y = self.X[rows], self.y[rows]
        parts = {n: slice(10 * n) for n in wanted}
        if row == NETWORK:
            for n, part in parts.items():
                yield n, network_accuracy(X[part], y[part], self.X_test, self.y_test, seed)
        elif row == OURS_LABELLED:
            for n, part in parts.items():
                features = ConvGMMFeatures(random_state=seed).fit(X[part])
                F, F_test = features.transform(X[part]), features.transform(self.X_test)
                yield n, linear_accuracy(F, y[part], F_test, self.y_test)
        else:
            features, F_test = self.from_all(row, seed)
            F = features.transform(X)
            way = None
            for n, part in parts.items():
                # The images that choose are the same for all larger numbers.
                known = way if 10 * n > N_FEW else None
                way = known or choose_way(F[part], y[part])
                yield n, linear_accuracy(F[part], y[part], F_test, self.y_test, way)

    def from_all(self, row, seed):
        """Features that know no labels, and those of the test images."""
        if row == OURS_DEEP:
            features = TwoLayers(seed=seed).fit(self.X)
            return features, features.transform(self.X_test)
        if row in LAYERS_OF_ROWS:
            features = ConvGMMFeatures(**LAYERS_OF_ROWS[row], random_state=seed)
            mirrored = row in (OURS_MIRRORED, OURS_BOTH)
            features = (Mirrored(features) if mirrored else features).fit(self.X)
            return features, features.transform(self.X_test)
        if row not in self.fixed:
            pca = make_pipeline(Flat(), PCA(100, random_state=0))
            peers = {
                SCATTERING: Scattering(),
                WIDE_SCATTERING: Scattering(3),
                "PCA, all images": pca,
                "raw pixels": Flat(),
            }
            features = peers[row].fit(self.X)
            self.fixed = {row: (features, features.transform(self.X_test))}
        return self.fixed[row]


def kernels_table(bench, draws):
    """Accuracy with 100 labels a class against the number of images that kernels come from."""
    sizes = [*N_IMAGES, len(bench.X)]
    print(f"{'':24}" + "".join(f"{size:>14}" for size in sizes))
    for options in LAYERS:
        found = np.empty((draws, len(sizes)))
        for (seed, i), _ in np.ndenumerate(found):
            rows = np.random.default_rng(seed).permutation(len(bench.X))[: sizes[i]]
            features = ConvGMMFeatures(**options, random_state=seed)
            features.fit(bench.X[np.sort(rows)])
            labelled = draw_labelled(bench.y, 100, seed)
            F, F_test = features.transform(bench.X[labelled]), features.transform(bench.X_test)
            found[seed, i] = 100 * linear_accuracy(F, bench.y[labelled], F_test, bench.y_test)
        name = "{n_components} of {patch_size} x {patch_size}".format(**options)
        cells = zip(found.mean(axis=0), found.std(axis=0, ddof=1), strict=True)
        cells = [f"{mean:.1f} ± {spread:.1f}" for mean, spread in cells]
        print(f"{name:24}" + "".join(f"{cell:>14}" for cell in cells), flush=True)


def table(known, draws):
    """Percent of the test images right, mean and deviation over draws."""
    for name, title in DATA.items():
        print(f"\n{title:24}" + "".join(f"{n:>14}" for n in N_LABELS))
        for row in ROWS:
            cells = ""
            for n in N_LABELS:
                found = 100 * np.array(known.get(f"{name}, {row}, {n}", []))
                cell = f"{found.mean():.1f} ± {found.std(ddof=1):.1f}" if len(found) > 1 else ""
                cells += f"{cell + '*' * (0 < len(found) < draws):>14}"
            print(f"{row:24}{cells}")
    if any(0 < len(found) < draws for found in known.values()):
        print(f"\n* fewer than {draws} draws")


def plot(known, path):
    """Accuracy against labels, mean and deviation, a panel for each data set."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.8), layout="constrained")
    for ax, (name, title) in zip(axes, DATA.items(), strict=True):
        ends = {}
        for row, colour in ROWS.items():
            found = {n: known.get(f"{name}, {row}, {n}", []) for n in N_LABELS}
            found = {n: 100 * np.array(values) for n, values in found.items() if values}
            if not found:
                continue
            labels = np.array(list(found))
            mean = np.array([values.mean() for values in found.values()])
            spread = np.array([values.std(ddof=len(values) > 1) for values in found.values()])
            # Two rows of ours all but coincide: one is dashed, so that both are seen.
            style = "--" if row == OURS_LABELLED else "-"
            ax.plot(labels, mean, style, color=colour, marker="o", markersize=3)
            ax.fill_between(
                labels, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0
            )
            ends[row] = labels[-1], mean[-1]
        low, high = ax.get_ylim()
        place = high
        for row, end in sorted(ends.items(), key=lambda item: -item[1][1]):
            place = min(end[1], place - (high - low) / 20)
            line = {"arrowstyle": "-", "color": ROWS[row], "linewidth": 0.6, "relpos": (0, 0.5)}
            text = {"color": ROWS[row], "va": "center", "fontsize": 9}
            ax.annotate(row, end, (1500, place), arrowprops=line, **text)
        ax.set(title=title, xlabel="labels of each class", xscale="log", xlim=(8, 40000))
        ax.set_xticks(N_LABELS, N_LABELS)
        ax.minorticks_off()
        ax.grid(axis="y", color="0.9")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("test images right, percent")
    figure.savefig(path, dpi=120)


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=".data", metavar="FOLDER")
    parser.add_argument("--sets", nargs="*", default=list(DATA), choices=list(DATA))
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--labels", nargs="*", type=int, default=N_LABELS, metavar="N")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--results", default="few_labels.json", metavar="FILE")
    parser.add_argument("--plot", metavar="FILE", help="of the picture")
    parser.add_argument("--kernels", action="store_true", help="the other question")
    args = parser.parse_args()
    # A hundred images leave components dead.
    warnings.simplefilter("ignore", ConvergenceWarning)

    print(machine())
    path = Path(args.results)
    known = json.loads(path.read_text()) if path.exists() else {}
    for name in args.sets:
        bench = Bench(name, args.data)
        if args.kernels:
            print(f"\n{DATA[name]}")
            kernels_table(bench, args.draws)
            continue
        for row in args.rows:
            for seed in range(args.draws):
                cells = {n: known.setdefault(f"{name}, {row}, {n}", []) for n in args.labels}
                wanted = [n for n, found in cells.items() if len(found) == seed]
                started = time.perf_counter()
                for n, accuracy in bench.accuracies(row, seed, wanted) if wanted else ():
                    cells[n].append(accuracy)
                    path.write_text(json.dumps(known, indent=0))
                    seconds = time.perf_counter() - started
                    print(f"{name}, {row}, {n}: {accuracy:.4f}, {seconds:.0f} s", flush=True)
                    started = time.perf_counter()
    if not args.kernels:
        table(known, args.draws)
    if args.plot:
        plot(known, args.plot)


if __name__ == "__main__":
    main()
