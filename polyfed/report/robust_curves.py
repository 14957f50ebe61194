"""Score against the relative change of one quantity, one line per arm: how far a policy bears the world being other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polyfed.evaluation.statistics import Estimate
from polyfed.report import curves, figures, wording
from polyfed.report.figures import MUTED, Drawing, Style
from polyfed.report.robust_scores import Bench, words


def perturbation_curve(bench: Bench, styles: Sequence[Style], group: str, name: str) -> Drawing:
    """Final score in the worlds of one grid, 95 % bands over seeds; ticks at the foot are the clients' worlds.

    Args:
      bench: The arms and their test.
      styles: One per arm.
      group: Whose grid.
      name: File name without ending.
    """
    x, measure = bench.test.changes, bench.arms[0].entry.measure
    found = [tested.along(bench.test.grid(group)) for tested in bench.arms]
    labels = [tested.entry.label for tested in bench.arms]
    crowd = len(labels) > figures.FEW_LINES
    rug = client_changes(bench, group)
    keys = [*labels, "clients’ worlds"] if len(rug) and not crowd else labels
    size = (330, figures.WIDE) if crowd else (225 + figures.legend_height(keys), figures.WIDTH)
    with figures.canvas(*size) as figure:
        axes = figure.add_subplot()
        axes.axvline(0, color=figures.GRID, linewidth=1.2)
        handles = [
            curves.band(axes, x, estimate, style, turn, 0.09 if crowd else 0.16)
            for turn, (estimate, style) in enumerate(zip(found, styles, strict=True))
        ]
        curves.dress(axes, f"{measure.axis.capitalize()} against {words(group)}", _along(bench, group))
        _changes(axes, bench.test.rho)
        axes.set_ylim(_limits(bench))
        if len(rug):
            foot = axes.plot(rug, np.full(len(rug), 0.025), transform=axes.get_xaxis_transform(), color=MUTED,
                             linestyle="none", marker="|", markersize=8, markeredgewidth=1.4)[0]  # fmt: skip
            handles = [*handles, foot] if not crowd else handles
        figures.legend(figure, handles, keys, [float(e.value.min()) for e in found] if crowd else None)
        title = f"{measure.name.capitalize()} against {words(group)}"
        return figures.finish(figure, name, title, _describe(bench, found))


def client_changes(bench: Bench, group: str) -> np.ndarray:
    """Relative change of a group in the clients' worlds, those within the grid, `[at most C]`; empty if unknown."""
    entry, quantity = bench.arms[0].entry, group.split("+")[0]
    row = np.asarray(entry.run.worlds.get(quantity, ()), float)
    if len(row) != len(entry.arm.environments):
        return np.empty(0)
    nominal = row[entry.held_out_columns[bench.test.nominal[0]]]
    x = row[entry.client_columns] / nominal - 1 if nominal else np.empty(0)
    return x[np.abs(x) <= bench.test.rho * (1 + 1e-9)]


def nominal_values(bench: Bench, group: str) -> str:
    """The nominal values of a group: `0.5 m`; empty where they were not recorded."""
    entry, values = bench.arms[0].entry, []
    place = entry.held_out_columns[bench.test.nominal[0]]
    for quantity in group.split("+"):
        row = entry.run.worlds.get(quantity, ())
        if len(row) == len(entry.arm.environments):
            values.append(wording.quantity(float(row[place]), entry.run.units.get(quantity, "")))
    return wording.listing(values, limit=4)


def _along(bench: Bench, group: str) -> str:
    """What stands under the axis: the quantities with their nominal values, if there is room."""
    values = nominal_values(bench, group)
    text = f"change of {words(group)}" + (f" (nominal: {values})" if values else "")
    return text if len(text) <= 52 else f"change of {words(group)}"


def _changes(axes: Any, rho: float) -> None:
    """Five changes under the axis, in per cent; the one in the middle is called nominal."""
    ticks = [-rho, -rho / 2, 0.0, rho / 2, rho]
    percent = [f"{wording.number(100 * x, 0 if abs(100 * x) % 1 < 1e-6 else 1, sign=True)} %" for x in ticks]
    axes.set_xticks(ticks, [*percent[:2], "nominal", *percent[3:]])
    axes.set_xlim(-1.06 * rho, 1.06 * rho)


def _limits(bench: Bench) -> tuple[float, float]:
    """One range for all groups, so that they can be compared by eye."""
    found = [tested.along(bench.test.grid(group)) for tested in bench.arms for group in bench.test.groups]
    numbers = np.concatenate([np.ravel(part) for one in found for part in (one.value, one.low, one.high)])
    numbers = numbers[np.isfinite(numbers)]
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _describe(bench: Bench, found: Sequence[Estimate]) -> str:
    middle, parts, decimals = bench.test.points // 2, [], bench.arms[0].entry.measure.places(e[0] for e in found)
    for judged, estimate in zip(bench.arms, found, strict=True):
        ends = ", ".join(
            f"{where} {wording.number(float(estimate.value[place]), decimals)}"
            for where, place in ((_signed(-bench.test.rho), 0), ("nominal", middle), (_signed(bench.test.rho), -1))
        )
        parts.append(f"{judged.entry.label}: {ends}")
    return "One line per arm: interquartile mean over seeds with 95 % intervals. " + "; ".join(parts) + "."


def _signed(x: float) -> str:
    return f"at {wording.number(100 * x, 0, sign=True)} %"
