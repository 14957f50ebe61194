"""The pictures of wasserstein-fusion.md: `python docs/explanation/fusion_pictures.py` (three minutes on two cores).

Every curve, image and number is computed by the library's own functions, from seeds that are fixed here. It writes
`figures/*.svg` and, with all numbers that the page quotes, `figures/fusion_pictures.json`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.agents import Classifier
from polyfed.aggregation import AlignedMean, WassersteinBarycenter, WeightedMean, barycenter_1d, displacement, fuse_rows
from polyfed.aggregation.alignment import align
from polyfed.aggregation.entropic import entropic_barycenter_1d
from polyfed.aggregation.geometric import geometric_mean
from polyfed.environments import Dataset, Digits, EqualSplit
from polyfed.experiment import Experiment
from polyfed.recipes import local_only
from polyfed.report import figures
from polyfed.report.figures import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, VERMILLION
from polyfed.simulation.simulate import Simulation
from polyfed.types import Update

FOLDER = Path(__file__).parent / "figures"
BINS = (1, 3, 10, 30)  # ticks of displacement
SEEDS = (0, 1, 2, 3, 4)
EPOCHS = (1, 2, 5, 10, 20, 50)  # local epochs before the one merge
MANY, SHOWN = 5, 20  # clients of the curves; local epochs of the images
WEIGHTS = ("layers.0.weight", "layers.1.weight", "layers.2.weight")
DATASET = Dataset(Digits())
RULES: dict[str, Any] = {
    "mean": WeightedMean(),
    "row": WassersteinBarycenter.safe(),
    "layer": WassersteinBarycenter.paper_exact(),
    "layer, nearest": WassersteinBarycenter.lp(),
    "layer, entropic": WassersteinBarycenter.paper(),
    "layer, geometric": WassersteinBarycenter.geometric(),
    "values": WassersteinBarycenter.values(),
    "aligned by weights": AlignedMean(),
    "aligned by activations": AlignedMean(features="activations"),
}


def bump(centre: float, width: float, num: int = 40) -> np.ndarray:
    """A row of weights less their minimum: a bump on a low floor, of mass 1."""
    heights = 0.02 + np.exp(-0.5 * ((np.arange(num) - centre) / width) ** 2)
    return heights / heights.sum()


def rounded(tree: Any, decimals: int = 4) -> Any:
    """Numbers of nested dictionaries and lists, rounded."""
    if isinstance(tree, dict):
        return {name: rounded(value, decimals) for name, value in tree.items()}
    if isinstance(tree, list | tuple | np.ndarray):
        return [rounded(value, decimals) for value in tree]
    return tree if isinstance(tree, int) else round(float(tree), decimals)


def save(figure: Any, name: str) -> None:
    """One SVG."""
    (FOLDER / f"{name}.svg").write_text(figures.finish(figure, name, "", "").svg, encoding="utf-8")


def bars(axes: Any, rows: list[np.ndarray], looks: list[str], title: str, top: float) -> None:
    """Histograms over positions, each a filled outline."""
    for row, colour in zip(rows, looks, strict=True):
        edges = np.arange(len(row) + 1) - 0.5
        axes.stairs(row, edges, fill=True, color=colour, alpha=0.22, linewidth=0)
        axes.stairs(row, edges, color=colour, linewidth=1.3)
    axes.set_title(title, loc="left")
    axes.set(xlim=(-0.5, len(rows[0]) - 0.5), ylim=(0, top), yticks=[])
    axes.grid(visible=False)


def two_rows() -> dict[str, Any]:
    """Two histograms and what every solver makes of them."""
    rows = np.stack([bump(9, 1.6), bump(28, 3.2)])
    equal = np.ones(2)
    strengths = ((0.1, 100), (0.1, 10_000), (2.0, 10_000), (20.0, 10_000))
    found = {
        pair: entropic_barycenter_1d(rows, equal, regularization=pair[0], iterations=pair[1]) for pair in strengths
    }
    exact, mean = np.asarray(barycenter_1d(rows, equal)), rows.mean(axis=0)
    panels = [
        ("mean", mean, BLUE),
        ("exact barycenter", exact, VERMILLION),
        ("geometric mean", np.asarray(geometric_mean(rows, equal)), GREEN),
        *((f"entropic {s:g}, {n:,} its", np.asarray(one.histogram), ORANGE) for (s, n), one in found.items()),
    ]
    with figures.canvas(370, figures.WIDE) as figure:
        grid = figure.subplots(2, 4, sharex=True, sharey=True)
        bars(grid[0, 0], list(rows), [SKY, PURPLE], "two clients", 0.23)
        for axes, (title, row, colour) in zip(grid.flat[1:], panels, strict=True):
            bars(axes, [row], [colour], title.replace(", ", ",\n").replace("its", "iterations"), 0.23)
        for axes in grid[1]:
            axes.set_xlabel("position")
        save(figure, "two-rows")
    others: dict[str, Any] = {"nearest": {"grid": "nearest"}, "power 1": {"power": 1}}
    same = {name: np.asarray(barycenter_1d(rows, equal, **fields)) for name, fields in others.items()}
    return {
        "displacement": displacement(rows, equal),
        "largest difference of nearest from split": np.abs(same["nearest"] - exact).max(),
        "largest difference of power 1 from the mean": np.abs(same["power 1"] - mean).max(),
        "L1 to the exact barycenter": {title: np.abs(row - exact).sum() for title, row, _ in panels},
        "marginal error": {f"entropic {s:g}, {n} its": one.marginal_error for (s, n), one in found.items()},
        "converged": {f"entropic {s:g}, {n} its": one.converged for (s, n), one in found.items()},
    }


def three_rows() -> dict[str, Any]:
    """Three histograms: here the two grids and the two powers differ."""
    rows = np.stack([bump(5, 0.8, 24), bump(9, 1.4, 24), bump(17, 2.2, 24)])
    equal = np.ones(3)
    panels = [
        ("mean", rows.mean(axis=0), BLUE),
        ("exact, split", np.asarray(barycenter_1d(rows, equal)), VERMILLION),
        ("exact, nearest", np.asarray(barycenter_1d(rows, equal, grid="nearest")), VERMILLION),
        ("exact, power 1", np.asarray(barycenter_1d(rows, equal, power=1)), GREEN),
    ]
    with figures.canvas(205, figures.WIDE) as figure:
        grid = figure.subplots(1, 5, sharex=True, sharey=True)
        bars(grid[0], list(rows), [SKY, PURPLE, ORANGE], "three clients", 0.42)
        for axes, (title, row, colour) in zip(grid[1:], panels, strict=True):
            bars(axes, [row], [colour], title, 0.42)
        for axes in grid:
            axes.set_xlabel("position")
        save(figure, "three-rows")
    positions = np.arange(24)
    return {
        "displacement": displacement(rows, equal),
        "mean position": {title: (positions * row).sum() for title, row, _ in panels},
        "spread, positions": {
            title: np.sqrt((positions**2 * row).sum() - (positions * row).sum() ** 2) for title, row, _ in panels
        },
    }


def trained(num_clients: int, common_start: bool) -> Iterator[tuple[int, Any]]:
    """`(local epochs, networks [S, C, ...])` of clients that learn alone, each on its part of the digits."""
    samples = len(DATASET.samples.train) // num_clients
    alone = local_only(
        Experiment(
            name="fusion-pictures",
            environment=DATASET,
            variation=EqualSplit(),
            num_clients=num_clients,
            agent=Classifier(hidden=(64, 64), learning_rate=0.1, batch_size=25),
            num_rounds=max(EPOCHS),
            local_steps=samples,
            common_start=common_start,
        )
    )
    simulation = Simulation(alone, seeds=SEEDS)
    federation, done = simulation.init(), 0
    shape = (len(SEEDS), num_clients)
    for epochs in EPOCHS:
        federation, _ = simulation.advance(federation, epochs - done)
        done = epochs
        flat = jax.device_get(simulation.unpadded(federation).clients[0].agent.network)
        yield epochs, jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), flat)


def accuracy(network: Any) -> float:
    """On the held-out digits."""
    images, labels = (np.asarray(x)[DATASET.samples.test] for x in (DATASET.samples.images, DATASET.samples.labels))
    return float(np.mean(np.argmax(network(jnp.asarray(images, jnp.float32) / 255), axis=-1) == labels))


def one_of(networks: Any, *index: int) -> Any:
    """One network of a stack, or all clients of one seed."""
    return jax.tree.map(lambda x: x[index], networks)


def merged(networks: Any, rule: Any) -> tuple[Any, dict[str, Any]]:
    """One merge of `[C, ...]` with equal weights."""
    update = Update(networks, jnp.ones(len(networks.layers[0].bias)))
    payload, _, metrics = rule.aggregate(rule.init(one_of(networks, 0)), update)
    return payload, metrics


def flat(network: Any) -> np.ndarray:
    """The weights of the hidden layer, in their order."""
    return np.asarray(network.layers[1].weight).ravel()


def likeness(a: Any, b: Any) -> float:
    """Correlation; NaN of what is constant."""
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


def judged(networks: Any) -> dict[str, Any]:
    """Accuracy by rule and seed; likeness to the mean and displacement of the hidden layer."""
    found: dict[str, Any] = {"accuracy": {"a client": [], **{name: [] for name in RULES}}, "likeness": {}}
    found["displacement"], found["moved units"] = {}, {}
    for seed in range(len(SEEDS)):
        clients = one_of(networks, seed)
        num = len(clients.layers[0].bias)
        found["accuracy"]["a client"].append(np.mean([accuracy(one_of(clients, c)) for c in range(num)]))
        fused = {name: merged(clients, rule) for name, rule in RULES.items()}
        for name, (network, metrics) in fused.items():
            found["accuracy"][name].append(accuracy(network))
            found["likeness"].setdefault(name, []).append(likeness(flat(network), flat(fused["mean"][0])))
            for kind, metric in (
                ("displacement", "displacement/layers.1.weight"),
                ("moved units", "moved_units/layers.1"),
            ):
                if metric in metrics:
                    found[kind].setdefault(name, []).append(float(metrics[metric]))
    return found


def histograms(networks: Any) -> dict[str, list[tuple[float, float]]]:
    """`(displacement, likeness to the mean)` of every row and every whole layer, scale "mass"."""
    found: dict[str, list[tuple[float, float]]] = {"row": [], "layer": []}
    for seed in range(len(SEEDS)):
        for layer in one_of(networks, seed).layers:
            weight = np.asarray(layer.weight)
            for kind, rows in (("row", weight), ("layer", weight.reshape(len(weight), 1, -1))):
                fused, bins = (np.asarray(x) for x in fuse_rows(rows, jnp.ones(len(rows))))
                means = rows.mean(axis=0)
                found[kind] += [(float(b), likeness(f, m)) for f, b, m in zip(fused, bins, means, strict=True)]
    return found


def drift(by_epoch: dict[int, dict[str, Any]], pairs: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Displacement, likeness and accuracy after one merge, by local epochs."""
    looks: dict[str, Any] = {
        "mean": (BLUE, "-", "o"),
        "row": (GREEN, (0, (5, 1.5, 1, 1.5)), "^"),
        "layer": (VERMILLION, (0, (6, 1.5)), "s"),
    }
    looks |= {"layer, entropic": (ORANGE, (0, (8, 1, 1, 1, 1, 1)), "v"), "a client": (MUTED, (0, (4, 2)), "p")}
    ticks = [str(epochs) for epochs in EPOCHS]

    def curve(axes: Any, kind: str, name: str) -> Any:
        values = np.array([by_epoch[epochs][kind][name] for epochs in EPOCHS])  # [E, S]
        colour, dash, marker = looks[name]
        axes.fill_between(EPOCHS, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.13, linewidth=0)
        return axes.plot(EPOCHS, values.mean(axis=1), color=colour, linestyle=dash, marker=marker)[0]

    with figures.canvas(295, figures.WIDE) as figure:
        left, middle, right = figure.subplots(1, 3)
        for name in ("layer", "row"):
            curve(left, "displacement", name)
        left.set_title("displacement (positions)", loc="left")
        left.set_yscale("log")
        left.set_yticks(BINS, [str(b) for b in BINS])
        left.set_ylim(BINS[0], BINS[-1])
        left.axhline(3, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        scattered(middle, pairs)
        handles = {
            name: curve(right, "accuracy", name) for name in ("a client", "mean", "row", "layer, entropic", "layer")
        }
        right.set_title("accuracy of the result", loc="left")
        right.set_ylim(0, 1)
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xticks(EPOCHS, ticks)
            axes.set_xlabel("local epochs before the merge")
        for axes in (left, middle, right):
            axes.minorticks_off()
        figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=5, columnspacing=1.2)
        save(figure, "drift")
    rows, layers = (np.array(pairs[kind]) for kind in ("row", "layer"))
    by_bins = {str(int(b)): np.median(rows[rows[:, 0] == b, 1]) for b in np.unique(rows[:, 0]) if b <= 10}
    return {
        "likeness of a row by its displacement, median": by_bins,
        "rows, layers": [len(rows), len(layers)],
        "likeness of a layer, displacement up to 3 / 4 to 10 / above, median": [
            np.median(layers[(layers[:, 0] > low) & (layers[:, 0] <= high), 1])
            for low, high in ((-1, 3), (3, 10), (10, np.inf))
            if ((layers[:, 0] > low) & (layers[:, 0] <= high)).any()
        ],
    }


def scattered(axes: Any, pairs: dict[str, list[tuple[float, float]]]) -> None:
    """Likeness to the mean against displacement: rows by median and 10 to 90 % range, layers as dots."""
    rows, layers = (np.array(pairs[kind]) for kind in ("row", "layer"))
    bins = [b for b in np.unique(rows[:, 0]) if (rows[:, 0] == b).sum() >= 20 and b >= 1]
    low, median, high = (np.array([np.quantile(rows[rows[:, 0] == b, 1], q) for b in bins]) for q in (0.1, 0.5, 0.9))
    axes.fill_between(bins, low, high, color=GREEN, alpha=0.2, linewidth=0)
    axes.plot(bins, median, color=GREEN, linestyle=(0, (5, 1.5, 1, 1.5)), marker="^")
    axes.plot(layers[:, 0], layers[:, 1], linestyle="none", marker="s", markersize=3.2, color=VERMILLION, alpha=0.6)
    axes.set_xscale("log")
    axes.set_xticks(BINS, [str(b) for b in BINS])
    axes.set_xlim(BINS[0], BINS[-1])
    axes.axvline(3, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.set_title("likeness to the mean", loc="left")
    axes.set_xlabel("displacement (positions)")
    axes.set_ylim(0, 1.05)


def image(axes: Any, weights: np.ndarray, limit: float) -> None:
    """Weights as colours: blue below 0, white, vermillion above."""
    shade = figures.ramp((BLUE, "#ffffff", VERMILLION))
    axes.imshow(weights, cmap=shade, vmin=-limit, vmax=limit, interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(True)


def filters(clients: Any) -> dict[str, Any]:
    """What eight hidden units read, as images of 8 × 8, before and after a merge of two clients."""
    fused = {name: merged(clients, RULES[name]) for name in ("mean", "row", "values", "layer")}
    nets = {"client 1": one_of(clients, 0), "client 2": one_of(clients, 1)}
    nets |= {name: network for name, (network, _) in fused.items()}
    first = {name: np.asarray(network.layers[0].weight) for name, network in nets.items()}
    chosen = np.sort(np.argsort(-np.linalg.norm(first["mean"], axis=1))[:8])
    limit = float(np.abs(first["mean"][chosen]).max())
    labels = {"row": "fused by row", "values": "fused by values", "layer": "fused by layer"}
    with figures.canvas(500, figures.WIDE) as figure:
        grid = figure.subplots(len(first), 8)
        for line, (name, weights) in zip(grid, first.items(), strict=True):
            for axes, unit in zip(line, chosen, strict=True):
                image(axes, weights[unit].reshape(8, 8), limit)
            line[0].set_ylabel(labels.get(name, name), rotation=0, ha="right", va="center", color=INK)
        for axes, unit in zip(grid[0], chosen, strict=True):
            axes.set_title(f"unit {unit}", color=MUTED, fontsize=10)
        save(figure, "filters")
    moved = {name: float(metrics["displacement/layers.0.weight"]) for name, (_, metrics) in fused.items()
             if "displacement/layers.0.weight" in metrics}  # fmt: skip
    return {
        "displacement of the first layer": moved,
        "likeness to the mean": {name: likeness(weights, first["mean"]) for name, weights in first.items()},
        "accuracy": {name: accuracy(network) for name, network in nets.items()},
        "units": [int(unit) for unit in chosen],
    }


def against_mean(clients: Any) -> dict[str, Any]:
    """Every weight of the hidden layer after fusion, against the mean."""
    names = {"row": GREEN, "layer": VERMILLION, "values": PURPLE, "layer, entropic": ORANGE}
    mean = flat(merged(clients, RULES["mean"])[0])
    fused = {name: flat(merged(clients, RULES[name])[0]) for name in names}
    with figures.canvas(215, figures.WIDE) as figure:
        grid = figure.subplots(1, 4, sharex=True, sharey=True)
        for axes, (name, colour) in zip(grid, names.items(), strict=True):
            axes.plot(mean, fused[name], linestyle="none", marker=".", markersize=1.6, color=colour, alpha=0.35,
                      rasterized=True)  # fmt: skip
            axes.set_title(f"{name}: {likeness(mean, fused[name]):.2f}", loc="left")
            axes.set_xlabel("weight in the mean")
        grid[0].set_ylabel("after fusion")
        save(figure, "against-mean")
    return {"likeness to the mean": {name: likeness(mean, weights) for name, weights in fused.items()}}


def solved_further(networks: Any) -> dict[str, Any]:
    """Whole layers by the entropic solver: accuracy, likeness to the mean and marginal error by its iterations."""
    found = {}
    for strength, iterations in ((0.1, 100), (0.1, 1000), (0.1, 10_000), (1.0, 100), (1.0, 1000)):
        paper = WassersteinBarycenter.paper()
        rule = dataclasses.replace(paper, regularization=strength, iterations=iterations)
        told = []
        for seed in range(len(SEEDS)):
            clients = one_of(networks, seed)
            network, metrics = merged(clients, rule)
            mean = flat(merged(clients, RULES["mean"])[0])
            told.append((accuracy(network), likeness(flat(network), mean), metrics["marginal_error/layers.1.weight"]))
        columns = np.mean(np.array(told, float), axis=0)
        found[f"{strength:g}, {iterations}"] = dict(
            zip(("accuracy", "likeness", "marginal error"), columns, strict=True)
        )
    return found


def no_order(clients: Any) -> dict[str, Any]:
    """Units of two networks that did not start alike: in their places, and matched."""
    one, other = one_of(clients, 0), one_of(clients, 1)
    turned = align(other, one)
    first = {"client 1": one, "client 2, same place": other, "client 2, matched": turned}
    first = {name: np.asarray(network.layers[0].weight) for name, network in first.items()}
    chosen = np.sort(np.argsort(-np.linalg.norm(first["client 1"], axis=1))[:8])
    limit = float(np.abs(first["client 1"][chosen]).max())
    with figures.canvas(265, figures.WIDE) as figure:
        grid = figure.subplots(3, 8)
        for line, (name, weights) in zip(grid, first.items(), strict=True):
            for axes, unit in zip(line, chosen, strict=True):
                image(axes, weights[unit].reshape(8, 8), limit)
            line[0].set_ylabel(name.replace(", ", ",\n"), rotation=0, ha="right", va="center", color=INK)
        for axes, unit in zip(grid[0], chosen, strict=True):
            axes.set_title(f"unit {unit}", color=MUTED, fontsize=10)
        save(figure, "no-order")
    alike = {
        name: np.mean([likeness(a, b) for a, b in zip(first["client 1"], weights, strict=True)])
        for name, weights in list(first.items())[1:]
    }
    return {
        "mean likeness of units to those of client 1": alike,
        "largest change of an output by matching": float(
            np.abs(np.asarray(other(jnp.ones((1, 64)))) - np.asarray(turned(jnp.ones((1, 64))))).max()
        ),
    }


def starts(both: dict[str, dict[str, Any]]) -> None:
    """Accuracy after one merge of two clients, by rule, from a common initialisation and from two."""
    names = {"a client": MUTED, "mean": BLUE, "row": GREEN, "layer": VERMILLION, "values": PURPLE}
    names |= {"aligned by weights": INK, "aligned by activations": INK}
    with figures.canvas(250, figures.WIDE) as figure:
        grid = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, (title, found) in zip(grid, both.items(), strict=True):
            for place, (name, colour) in enumerate(names.items()):
                values = np.array(found["accuracy"][name])
                axes.plot(values, np.full(len(values), -place), "o", color=colour, alpha=0.35, linestyle="none")
                axes.plot([values.mean()], [-place], "|", color=colour, markersize=14, markeredgewidth=2.4)
                axes.text(1.08, -place, f"{values.mean():.2f}", va="center", ha="left", color=colour)
            axes.set_title(title, loc="left")
            axes.set(xlim=(0, 1.04), xlabel="accuracy after one merge")
            axes.set_yticks([-place for place in range(len(names))], list(names))
            axes.grid(axis="y", visible=False)
        save(figure, "starts")


def main() -> None:
    """Writes all pictures and the numbers."""
    FOLDER.mkdir(exist_ok=True)
    found: dict[str, Any] = {"seeds": list(SEEDS), "epochs": list(EPOCHS), "clients of drift": MANY}
    found["two rows"], found["three rows"] = two_rows(), three_rows()
    by_epoch: dict[int, dict[str, Any]] = {}
    pairs: dict[str, list[tuple[float, float]]] = {"row": [], "layer": []}
    for epochs, networks in trained(MANY, common_start=True):
        by_epoch[epochs] = judged(networks)
        for kind, more in histograms(networks).items():
            pairs[kind] += more
    found["drift"] = drift(by_epoch, pairs) | {str(epochs): means(one) for epochs, one in by_epoch.items()}
    both = {}
    for common, title in ((True, "one initialisation for both"), (False, "an initialisation for each")):
        networks = dict(trained(2, common))[SHOWN]
        both[title] = judged(networks)
        first = one_of(networks, 0)
        if common:
            found["entropic, two clients"] = solved_further(networks)
        pictures = (filters, against_mean) if common else (no_order,)
        found |= {picture.__name__: picture(first) for picture in pictures}
    starts(both)
    found["two clients"] = {title: means(one) for title, one in both.items()}
    text = json.dumps(rounded(found), indent=1, ensure_ascii=False)
    (FOLDER / "fusion_pictures.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def means(one: dict[str, Any]) -> dict[str, Any]:
    """Mean over seeds of accuracy and likeness; median of displacement and of moved units; gains by seed."""
    centre: dict[str, Any] = {
        "accuracy": np.mean,
        "likeness": np.mean,
        "displacement": np.median,
        "moved units": np.median,
    }
    told = {kind: {name: centre[kind](values) for name, values in of.items()} for kind, of in one.items()}
    mean = np.array(one["accuracy"]["mean"])
    gains = {name: np.array(values) - mean for name, values in one["accuracy"].items() if name != "mean"}
    return told | {
        "accuracy less that of the mean, by seed": gains,
    }


if __name__ == "__main__":
    main()
