"""Learning curves with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polyfed.evaluation.statistics import Estimate
from polyfed.report import figures
from polyfed.report.arms import Entry
from polyfed.report.figures import Drawing, Style

AVERAGE, WORST, HELD_OUT = "average", "worst", "held-out"  # whose curve


def learning_curve(of: Sequence[Entry], styles: Sequence[Style], who: str, axis: str) -> Drawing:
    """Score against experience, communication or time, one line per arm, 95 % bands.

    An arm that sends nothing has no place on an axis of bytes: it is a level line at its final value. One whose run
    time is unknown, for it has not ended, is not on an axis of seconds.

    Args:
      of: The arms.
      styles: One per arm.
      who: `"average"` over clients, the `"worst"` of them, or `"held-out"`, average over held-out environments.
      axis: `"steps"`, environment steps per client, `"bytes"` on the wire, or `"seconds"` of run time of one seed.
    """
    pairs = [(e, s) for e, s in zip(of, styles, strict=True) if axis != "seconds" or e.seconds[-1] > 0]
    labels = [entry.label for entry, _ in pairs]
    along, divisor = _axis(of, axis)
    crowd = len(labels) > figures.FEW_LINES
    size = (330, figures.WIDE) if crowd else (215 + figures.legend_height(labels), figures.WIDTH)
    with figures.canvas(*size) as figure:
        axes = figure.add_subplot()
        handles = []
        for turn, (entry, style) in enumerate(pairs):
            if axis == "bytes" and not entry.arm.bytes[-1] > 0:
                level = float(_final(entry, who).value)
                handles.append(axes.axhline(level, color=style.colour, linestyle=style.dash))
                continue
            x = {"bytes": entry.arm.bytes, "steps": entry.arm.steps, "seconds": entry.seconds}[axis] / divisor
            handles.append(band(axes, x, _curve(entry, who), style, turn, 0.09 if crowd else 0.16))
        title = name_of(who, of[0])
        dress(axes, title, along)
        axes.xaxis.set_major_formatter(thousands)
        axes.set_ylim(_limits(of, who))
        if axis == "steps":
            _mark_changes(axes, of)
        ends = [float(_final(entry, who).value) for entry, _ in pairs]
        figures.legend(figure, handles, labels, ends if crowd else None)
        finals = ", ".join(f"{label} {end:.4g}" for label, end in zip(labels, ends, strict=True))
        return figures.finish(
            figure,
            f"{who}-{axis}",
            f"{title} against {axis}",
            f"One line per arm: interquartile mean over seeds with 95 % intervals. Over the last quarter: {finals}.",
        )


def _mark_changes(axes: Any, of: Sequence[Entry]) -> None:
    """A dotted line where something changes on the way, in all arms alike."""
    if len({entry.run.changes for entry in of}) == 1:
        for begins in sorted({change.first - 1 for change in of[0].run.changes} - {0}):
            where = float(np.interp(begins, of[0].arm.rounds, of[0].arm.steps))
            axes.axvline(where, color=figures.MUTED, linestyle=":", linewidth=1)


def name_of(who: str, entry: Entry) -> str:
    """What a curve shows, with its unit."""
    measure = entry.measure
    if who == HELD_OUT:
        return f"{measure.name.capitalize()} on {measure.in_held_out}" + (f" ({measure.unit})" if measure.unit else "")
    return f"Average {measure.axis}" if who == AVERAGE else f"Worst client’s {measure.axis}"


def _axis(of: Sequence[Entry], axis: str) -> tuple[str, float]:
    """What stands under an axis, and what its numbers are divided by."""
    if axis == "bytes":
        unit, divisor = _byte_unit(max(float(entry.arm.bytes[-1]) for entry in of))
        return f"{unit} on the wire, all clients", divisor
    return ("run time of a seed (s)" if axis == "seconds" else f"{of[0].measure.step} per client"), 1.0


def _limits(of: Sequence[Entry], who: str) -> tuple[float, float]:
    """One range for worst and average, so that they can be compared by eye, and one for held-out environments."""
    whose = (HELD_OUT,) if who == HELD_OUT else (AVERAGE, WORST)
    curves = [_curve(entry, one) for entry in of for one in whose]
    numbers = np.concatenate([np.ravel(part) for curve in curves for part in (curve.value, curve.low, curve.high)])
    numbers = numbers[np.isfinite(numbers)]
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 1.0)
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def _curve(entry: Entry, who: str) -> Estimate:
    if who == HELD_OUT:
        return entry.held_out_curve
    return entry.average_curve if who == AVERAGE else entry.worst_curve


def _final(entry: Entry, who: str) -> Estimate:
    if who == HELD_OUT and entry.held_out is not None:
        return entry.held_out
    return entry.average if who == AVERAGE else entry.worst_case


def band(axes: Any, x: np.ndarray, found: Estimate, style: Style, turn: int, alpha: float = 0.16) -> Any:
    """A line or a point with its interval; markers are set apart from line to line lest they cover each other."""
    points = len(x)
    x = x * (1 - 0.02 * turn) if points == 1 else x  # single points stand beside each other
    if points == 1 and found.has_interval:
        axes.vlines(x, found.low, found.high, color=style.colour, linewidth=1.2)
    elif found.has_interval:
        axes.fill_between(x, found.low, found.high, color=style.colour, alpha=alpha, linewidth=0)
    every = max(1, points // 6)
    (line,) = axes.plot(
        x, found.value, color=style.colour, linestyle=style.dash, marker=style.marker,
        markevery=((turn * every) // 4 % every, every), markeredgewidth=0,
    )  # fmt: skip
    return line


def dress(axes: Any, title: str, along: str) -> None:
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


def thousands(value: float, _position: float) -> str:
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
