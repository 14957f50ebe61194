"""The matrix policy × environment, all arms of a run above one another on the same columns and colours."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from polyfed.evaluation import statistics
from polyfed.report import figures, wording
from polyfed.report.arms import Entry
from polyfed.report.figures import DARK_CELL_INK, GRID, INK, LIGHT_CELL_INK, MUTED, WIDTH, Drawing
from polyfed.report.measure import ACCURACY

ROW = 20  # px
GAP = 8  # px between arms
MOST = 24  # rows and columns shown; of more, evenly spaced ones
RAMP = ("#f3f6fa", "#c9dcec", "#8fbbdc", "#4f94c4", "#1f6aa5", "#0a4170")  # light is low; even steps of lightness


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where things stand, px."""

    columns: list[int]  # environments shown
    gutter: float  # left of the cells
    cell: float  # width of a cell

    def x(self, place: float) -> float:
        return self.gutter + place * self.cell

    @property
    def width(self) -> float:
        return self.x(len(self.columns)) + 6


def matrix(of: Sequence[Entry], name: str) -> Drawing:
    """Final score of every policy in every environment: rows are policies, columns environments.

    Below the columns stand the physical values of each environment. Outlined, in an arm with several policies: the
    one that the client of that column would use.

    Args:
      of: The arms of one run.
      name: File name without ending.
    """
    run, environments = of[0].run, of[0].arm.environments
    values = [_iqm_matrix(entry) for entry in of]
    rows = [thin(len(entry.arm.policies), MOST) for entry in of]
    facts = [(wording.attribute(key) + _unit(run.units.get(key, "")), row) for key, row in run.worlds.items()]
    layout = _layout([label for label, _ in facts] + [label for entry in of for label in _names(entry)], environments)
    tops = np.cumsum([42] + [len(shown) * ROW + _head(entry) + GAP for entry, shown in zip(of, rows, strict=True)])
    height = float(tops[-1]) + figures.LINE * len(facts) + 8
    numbers = np.concatenate([v.ravel() for v in values])
    low, high = _range(numbers)
    decimals = max(of[0].measure.least_decimals, 0 if high - low >= 20 else 1 if high - low >= 2 else 2)
    with figures.canvas(height, layout.width, constrained=False) as figure:
        axes = figures.bare_axes(figure, layout.width, height)
        _columns(axes, layout, environments, of[0].measure.held_out)
        for entry, shown, found, top in zip(of, rows, values, tops, strict=False):
            first = float(top) + _head(entry)
            _row_names(axes, layout, entry, shown, first)
            _cells(axes, layout, found[np.ix_(shown, layout.columns)], first, (low, high), decimals)
            _outline_own(axes, layout, entry, shown, first)
        for line, (label, row) in enumerate(facts):
            _fact(axes, layout, label, row, float(tops[-1]) + (line + 0.6) * figures.LINE)
        return figures.finish(figure, name, f"{title(of[0])}: {run.name}", _describe(of, values))


def title(entry: Entry) -> str:
    """What the matrix shows: policies in environments, or models on test sets."""
    return f"{entry.measure.policy.capitalize()} × {entry.measure.world}"


def thin(number: int, most: int) -> list[int]:
    """All places of a long list, or `most` evenly spaced ones.

    >>> thin(3, 24), thin(100, 4)
    ([0, 1, 2], [0, 33, 66, 99])
    """
    return list(range(number)) if number <= most else [int(i) for i in np.linspace(0, number - 1, most).round()]


def shown_columns(environments: Sequence[str], most: int = MOST) -> list[int]:
    """Which environments are shown: half of the room at least is the clients', however many are held out.

    >>> shown_columns(["client-0", "client-1", *[f"held-out-{i}" for i in range(9)]], most=4)
    [0, 1, 2, 10]
    """
    held_out = [i for i, name in enumerate(environments) if name.startswith("held-out")]
    clients = [i for i in range(len(environments)) if i not in held_out]
    room = max(most // 2, most - len(held_out))
    own = [clients[i] for i in thin(len(clients), room)]
    return sorted(own + [held_out[i] for i in thin(len(held_out), most - len(own))])


def _names(entry: Entry) -> list[str]:
    """The policies; an arm with one policy needs but its own name."""
    return [wording.clean(name) for name in (entry.arm.policies if len(entry.arm.policies) > 1 else [entry.arm.name])]


def _head(entry: Entry) -> int:
    """Px above the cells of an arm: a line for its name where the rows are named after policies."""
    return figures.LINE if len(entry.arm.policies) > 1 else 0


def _row_names(axes: Any, layout: _Layout, entry: Entry, shown: list[int], top: float) -> None:
    names, right = _names(entry), layout.gutter - 6
    if _head(entry):
        axes.text(right, top - 5, wording.clean(entry.arm.name), fontsize=10, weight="bold", color=INK, ha="right")
    for place, policy in enumerate(shown):
        look = {"fontsize": 9.5, "color": MUTED} if _head(entry) else {"fontsize": 10, "color": INK, "weight": "bold"}
        axes.text(right, top + (place + 0.5) * ROW, names[policy], ha="right", va="center", **look)


def _iqm_matrix(entry: Entry) -> np.ndarray:
    """`[P, M]`: interquartile mean over seeds of the final window."""
    return statistics.interquartile_mean(statistics.final_window(entry.arm.rounds, entry.arm.returns), axis=0)


def _layout(labels: list[str], environments: Sequence[str]) -> _Layout:
    columns = shown_columns(environments)
    gutter = min(130.0, 14 + 6.0 * max((len(label) for label in labels), default=0))
    return _Layout(columns, gutter, max(30.0, min(64.0, (WIDTH - 6 - gutter) / len(columns))))


def _range(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _columns(axes: Any, layout: _Layout, environments: Sequence[str], held_out: str) -> None:
    """The head: `clients 0 1 2 | held-out 0 1`, with a rule under each group."""
    groups = {"held-out": [], "clients": []}  # type: dict[str, list[int]]
    for place, column in enumerate(layout.columns):
        name = wording.clean(environments[column])
        groups["held-out" if name.startswith("held-out") else "clients"].append(place)
        short = name.removeprefix("client-").removeprefix("held-out-")
        if held_out == ACCURACY.held_out and name == "held-out-0" == environments[-1]:
            short = ""  # the one common test set needs no number
        size = 10 if len(short) * 6 < layout.cell else 7
        axes.text(layout.x(place + 0.5), 35, short[:12], fontsize=size, color=MUTED, ha="center", va="baseline")
    for group, places in groups.items():
        if places:
            left, right = layout.x(places[0]) + 2, layout.x(places[-1] + 1) - 2
            axes.text(
                (left + right) / 2,
                14,
                held_out if group == "held-out" else group,
                fontsize=10,
                color=INK,
                ha="center",
                va="baseline",
            )
            axes.plot([left, right], [20, 20], color=GRID, linewidth=1)


def _cells(
    axes: Any, layout: _Layout, values: np.ndarray, top: float, limits: tuple[float, float], decimals: int
) -> None:
    ramp = figures.ramp(RAMP)
    scaled = (values - limits[0]) / ((limits[1] - limits[0]) or 1.0)
    longest = max((len(wording.number(v, decimals)) for v in values.ravel()), default=1)
    size = min(10.0, (layout.cell - 4) / (0.64 * longest))
    for (row, column), value in np.ndenumerate(values):
        share = float(scaled[row, column])
        known = np.isfinite(share)
        x, y = layout.x(column), top + row * ROW
        colour = ramp(share) if known else GRID
        figures.rectangle(axes, x + 0.75, y + 0.75, layout.cell - 1.5, ROW - 1.5, facecolor=colour, linewidth=0)
        ink = LIGHT_CELL_INK if known and share > 0.66 else DARK_CELL_INK
        axes.text(x + layout.cell / 2, y + ROW / 2 + 0.5, wording.number(float(value), decimals),
                  fontsize=size, color=ink if known else MUTED, ha="center", va="center")  # fmt: skip


def _outline_own(axes: Any, layout: _Layout, entry: Entry, shown: list[int], top: float) -> None:
    if len(entry.arm.policies) < 2:
        return
    for place, column in enumerate(layout.columns):
        own = entry.arm.environments[column] if entry.arm.personal else "global"
        for row, policy in enumerate(shown):
            if entry.arm.policies[policy] == own:
                figures.rectangle(
                    axes, layout.x(place) + 1.25, top + row * ROW + 1.25, layout.cell - 2.5, ROW - 2.5,
                    facecolor="none", edgecolor=figures.ORANGE, linewidth=1.8,
                )  # fmt: skip


def _fact(axes: Any, layout: _Layout, label: str, row: Sequence[float], y: float) -> None:
    axes.text(layout.gutter - 6, y, label, fontsize=9.5, color=MUTED, ha="right", va="center")
    texts = {
        place: wording.quantity(row[column], "") for place, column in enumerate(layout.columns) if column < len(row)
    }
    size = min(9.5, (layout.cell - 3) / (0.62 * max(map(len, texts.values()), default=1)))
    for place, text in texts.items():
        axes.text(layout.x(place + 0.5), y, text, fontsize=size, color=INK, ha="center", va="center")


def _unit(unit: str) -> str:
    return f" ({shown})" if (shown := wording.symbol(unit)) else ""


def _describe(of: Sequence[Entry], values: list[np.ndarray]) -> str:
    parts = []
    for entry, found in zip(of, values, strict=True):
        low, high = _range(found)
        parts.append(
            f"{entry.arm.name}: {len(entry.arm.policies)} policies, {entry.measure.plural} from {low:.4g} to {high:.4g}"
        )
    measure, number = of[0].measure, len(of[0].arm.environments)
    return f"Heat map of the final {measure.axis} in {wording.count(number, measure.world)}. " + "; ".join(parts) + "."
