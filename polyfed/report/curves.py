"""Lines over time: learning curves with intervals, and the displacement of the barycenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import Estimate
from polyfed.report import figures
from polyfed.report.arms import Entry
from polyfed.report.figures import MUTED, Drawing, Style

MOST_POINTS = 100  # of a line of displacement; of more rounds, the means of blocks
PREFIX = "displacement/"  # of the metrics that the barycenter reports, one per layer


def learning_curve(of: Sequence[Entry], styles: Sequence[Style], who: str, axis: str) -> Drawing:
    """Return against experience or communication, one line per arm, 95 % bands.

    An arm that sends nothing has no place on an axis of bytes: it is a level line at its final value.

    Args:
      of: The arms.
      styles: One per arm.
      who: `"average"` over clients, or the `"worst"` of them.
      axis: `"steps"`, environment steps per client, or `"bytes"` on the wire.
    """
    labels = [entry.label for entry in of]
    unit, divisor = _byte_unit(max(float(entry.arm.bytes[-1]) for entry in of)) if axis == "bytes" else ("", 1.0)
    with figures.canvas(215 + figures.legend_height(labels)) as figure:
        axes = figure.add_subplot()
        handles = []
        for turn, (entry, style) in enumerate(zip(of, styles, strict=True)):
            if axis == "bytes" and not entry.arm.bytes[-1] > 0:
                level = float(_final(entry, who).value)
                handles.append(axes.axhline(level, color=style.colour, linestyle=style.dash))
                continue
            x = (entry.arm.bytes if axis == "bytes" else entry.arm.steps) / divisor
            handles.append(_band(axes, x, entry.average_curve if who == "average" else entry.worst_curve, style, turn))
        _dress(
            axes, _NAMES[who], f"{unit} on the wire, all clients" if axis == "bytes" else "environment steps per client"
        )
        axes.xaxis.set_major_formatter(_thousands)
        axes.set_ylim(_limits(of))
        figures.legend(figure, handles, labels)
        finals = ", ".join(f"{entry.label} {float(_final(entry, who).value):.4g}" for entry in of)
        return figures.finish(
            figure,
            f"{who}-{axis}",
            f"{_NAMES[who]} against {axis}",
            f"One line per arm: interquartile mean over seeds with 95 % intervals. Over the last quarter: {finals}.",
        )


_NAMES = {"average": "Average return", "worst": "Worst client’s return"}


def _limits(of: Sequence[Entry]) -> tuple[float, float]:
    """One range of returns for all learning curves, so that worst and average can be compared by eye."""
    curves = [curve for entry in of for curve in (entry.average_curve, entry.worst_curve)]
    numbers = np.concatenate([np.ravel(part) for curve in curves for part in (curve.value, curve.low, curve.high)])
    numbers = numbers[np.isfinite(numbers)]
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 1.0)
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def _final(entry: Entry, who: str) -> Estimate:
    return entry.average if who == "average" else entry.worst_case


def displacement(entry: Entry, name: str) -> Drawing | None:
    """How far the barycenter moved weights, per layer over rounds; `None` where the rule does not say."""
    layers = {key.removeprefix(PREFIX): row for key, row in entry.arm.metrics.items() if key.startswith(PREFIX)}
    layers = {key: np.asarray(row, float) for key, row in layers.items() if np.isfinite(row).any()}
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
            handles.append(_band(axes, rounds, statistics.estimate_iqm(means[..., None]), style, turn))
        if highest > 20:
            axes.set_yscale("symlog", linthresh=1.0)
            axes.yaxis.set_major_formatter(_thousands)
        axes.set_ylim(0, max(1.3, highest * 1.08))
        axes.axhline(1.0, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        _dress(axes, f"Displacement (bins): {entry.label}", "round" + (f" (means of {block})" if block > 1 else ""))
        figures.legend(figure, handles, labels)
        return figures.finish(
            figure,
            name,
            f"Displacement of the barycenter: {entry.label}",
            f"Displacement in bins over {num_rounds} rounds, one line per layer; the largest is {highest:.3g} bins.",
        )


def _band(axes: Any, x: np.ndarray, found: Estimate, style: Style, turn: int) -> Any:
    """A line or a point with its interval; markers are set apart from line to line lest they cover each other."""
    points = len(x)
    x = x * (1 - 0.02 * turn) if points == 1 else x  # single points stand beside each other
    if points == 1 and found.has_interval:
        axes.vlines(x, found.low, found.high, color=style.colour, linewidth=1.2)
    elif found.has_interval:
        axes.fill_between(x, found.low, found.high, color=style.colour, alpha=0.16, linewidth=0)
    every = max(1, points // 6)
    (line,) = axes.plot(
        x, found.value, color=style.colour, linestyle=style.dash, marker=style.marker,
        markevery=((turn * every) // 4 % every, every), markeredgewidth=0,
    )  # fmt: skip
    return line


def _dress(axes: Any, title: str, along: str) -> None:
    """The title says what goes up, so that no room is lost to a vertical label; grid lines are level only."""
    axes.set_title(title, loc="left", color=figures.INK, pad=6)
    axes.set_xlabel(along)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=6)
    left, right = axes.get_xlim()
    nothing = all(np.ptp(line.get_xdata()) == 0 == line.get_xdata()[-1] for line in axes.lines)
    axes.set_xlim(0.0 if nothing else min(0.0, left + 0.05 * (right - left)), 1.0 if nothing else right)


def _thousands(value: float, _position: float) -> str:
    """`50k` for 50 000."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _byte_unit(largest: float) -> tuple[str, float]:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if largest >= size:
            return unit, size
    return "bytes", 1.0


def _blocks(row: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Last round and mean `[B, S]` of every `block` rounds of `[R, S]`."""
    starts = np.arange(0, len(row), block)
    means = np.stack([row[start : start + block].mean(axis=0) for start in starts])
    return np.minimum(starts + block, len(row)), means
