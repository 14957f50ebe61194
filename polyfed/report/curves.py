"""Lines over time: learning curves with intervals, and the displacement of the barycenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import Estimate
from polyfed.report import figures
from polyfed.report.arms import Entry
from polyfed.report.figures import GRID, MUTED, Drawing, Style

PREFIX = "displacement/"  # of the metrics that the barycenter reports, one per layer


def learning_curve(of: Sequence[Entry], styles: Sequence[Style], worst: bool, against_bytes: bool) -> Drawing:
    """Return against experience or communication, one line per arm, 95 % bands.

    An arm that sends nothing has no place on an axis of bytes: it is a level line at its final value.

    Args:
      of: The arms.
      styles: One per arm.
      worst: The worst client instead of the average over clients.
      against_bytes: Bytes on the wire instead of environment steps per client.
    """
    labels = [entry.label for entry in of]
    largest = max((float(entry.arm.bytes[-1]) for entry in of), default=0.0)
    unit, divisor = _byte_unit(largest) if against_bytes else ("", 1.0)
    with figures.canvas(215 + figures.legend_height(labels)) as figure:
        axes = figure.add_subplot()
        handles = []
        for turn, (entry, style) in enumerate(zip(of, styles, strict=True)):
            scores = entry.on_clients
            found = statistics.estimate_worst_case(scores) if worst else statistics.estimate_iqm(scores)
            if against_bytes and not entry.arm.bytes[-1] > 0:
                level = float((entry.worst_case if worst else entry.average).value)
                handles.append(axes.axhline(level, color=style.colour, linestyle=style.dash))
                continue
            x = (entry.arm.bytes if against_bytes else entry.arm.steps) / divisor
            handles.append(_band(axes, x, found, style, turn))
        _finish_axes(axes, "worst client’s return" if worst else "average return")
        axes.set_xlabel(f"{unit} on the wire, all clients" if against_bytes else "environment steps per client")
        axes.xaxis.set_major_formatter(_thousands)
        figures.legend(figure, handles, labels)
        what, over = ("worst client", "average over clients")[not worst], ("steps", "bytes")[against_bytes]
        return figures.finish(
            figure,
            f"{'worst' if worst else 'average'}-{over}",
            f"Return against {over}: {what}",
            f"Learning curves of {', '.join(labels)}: {what}, interquartile mean over seeds with 95 % intervals. "
            + _last_values(of, worst),
        )


def displacement(entry: Entry, name: str) -> Drawing | None:
    """How far the barycenter moved weights, per layer over rounds; `None` where the rule does not say."""
    layers = {key.removeprefix(PREFIX): row for key, row in entry.arm.metrics.items() if key.startswith(PREFIX)}
    layers = {key: np.asarray(row, float) for key, row in layers.items() if np.isfinite(row).any()}
    if not layers:
        return None
    labels = list(layers)
    with figures.canvas(205 + figures.legend_height(labels)) as figure:
        axes = figure.add_subplot()
        handles = []
        for turn, (row, style) in enumerate(zip(layers.values(), _cycle(len(layers)), strict=True)):
            found = statistics.estimate_iqm(row[..., None])
            handles.append(_band(axes, np.arange(1, len(row) + 1), found, style, turn))
        highest = max(float(np.nanmax(row)) for row in layers.values())
        if highest > 20:
            axes.set_yscale("symlog", linthresh=1.0)
            axes.yaxis.set_major_formatter(_thousands)
        axes.set_ylim(0, max(1.3, highest * 1.08))
        axes.axhline(1.0, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        _finish_axes(axes, "displacement (bins)")
        axes.set_xlabel("round")
        figures.legend(figure, handles, labels)
        return figures.finish(
            figure,
            name,
            f"Displacement of the barycenter: {entry.label}",
            f"Displacement in bins over {len(next(iter(layers.values())))} rounds, one line per layer; "
            f"the largest is {highest:.3g} bins.",
        )


def _band(axes: Any, x: np.ndarray, found: Estimate, style: Style, turn: int) -> Any:
    """A line with its interval; markers are set apart from line to line so that they do not cover each other."""
    points = len(x)
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


def _finish_axes(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", color=figures.INK, pad=6)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", color=GRID)
    axes.margins(x=0.02)
    axes.locator_params(axis="x", nbins=6) if axes.get_xscale() == "linear" else None
    axes.set_xlim(left=min(0, axes.get_xlim()[0]) if len(axes.lines) else None)


def _thousands(value: float, _position: int) -> str:
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


def _cycle(number: int) -> list[Style]:
    return [Style(*figures._METHODS[i % len(figures._METHODS)]) for i in range(number)]


def _last_values(of: Sequence[Entry], worst: bool) -> str:
    finals = [f"{entry.label} {float((entry.worst_case if worst else entry.average).value):.4g}" for entry in of]
    return f"Over the last quarter: {', '.join(finals)}."
