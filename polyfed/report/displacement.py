"""How far a barycenter moved weights, per layer over rounds."""

from __future__ import annotations

import numpy as np

from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import Estimate
from polyfed.report import figures
from polyfed.report.arms import Entry
from polyfed.report.curves import band, dress, thousands
from polyfed.report.figures import MUTED, Drawing

MOST_POINTS = 100  # of a line; of more rounds, the means of blocks
PREFIX = "displacement/"  # of the metrics that the barycenter reports, one per layer


def displacement(entry: Entry, name: str) -> Drawing | None:
    """How far the barycenter moved weights, per layer over rounds; `None` where the rule does not say."""
    layers = {key.removeprefix(PREFIX): row for key, row in entry.arm.metrics.items() if key.startswith(PREFIX)}
    layers = {key: np.where(np.isfinite(row), row, np.nan) for key, row in layers.items() if np.isfinite(row).any()}
    if not layers:
        return None
    labels = list(layers)
    num_rounds, highest = len(layers[labels[0]]), max(float(np.nanmax(row)) for row in layers.values())
    block = -(-num_rounds // MOST_POINTS)
    with figures.canvas(205 + figures.legend_height(labels)) as figure:
        axes = figure.add_subplot()
        handles = []
        for turn, (row, style) in enumerate(zip(layers.values(), figures.colours(len(layers)), strict=True)):
            rounds, means = _blocks(row, block)
            handles.append(band(axes, rounds, _over_seeds(means), style, turn))
        if highest > 20:
            axes.set_yscale("symlog", linthresh=1.0)
            axes.yaxis.set_major_formatter(thousands)
        axes.set_ylim(0, max(1.3, highest * 1.08))
        axes.axhline(1.0, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        dress(axes, f"Displacement (bins): {entry.label}", "round" + (f" (means of {block})" if block > 1 else ""))
        figures.legend(figure, handles, labels)
        return figures.finish(
            figure,
            name,
            f"Displacement of the barycenter: {entry.label}",
            f"Displacement in bins over {num_rounds} rounds, one line per layer; the largest is {highest:.3g} bins.",
        )


def _blocks(row: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Last round and mean `[B, S]` of every `block` rounds of `[R, S]`, those left out in which the rule rested."""
    starts = np.arange(0, len(row), block)
    means = np.stack([_mean(row[start : start + block]) for start in starts])
    return np.minimum(starts + block, len(row)), means


def _mean(rows: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is a number; NaN where nothing is."""
    known = np.isfinite(rows)
    return np.where(known.any(axis=0), np.where(known, rows, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan)


def _over_seeds(means: np.ndarray) -> Estimate:
    """Over seeds; of the seeds whose rule merged, without an interval, where that of others rested."""
    found = statistics.estimate_iqm(means[..., None])
    some = np.array([statistics.interquartile_mean(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan
                     for row in means])  # fmt: skip
    return Estimate(np.where(np.isnan(found.value), some, found.value), found.low, found.high, found.num_seeds)
