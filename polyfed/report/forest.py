"""Points with intervals: the gain of every client over learning alone, and the worst client beside the average."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from polyfed.evaluation.statistics import Estimate
from polyfed.report import figures, wording
from polyfed.report.arms import LOCAL_ONLY, Entry, environment_label
from polyfed.report.figures import INK, MUTED, PANEL, Drawing, Style
from polyfed.report.heatmap import thin
from polyfed.report.measure import Measure
from polyfed.report.verdict import average_difference, gains, worst_case_difference

ROW = 15  # px between two arms of one client
MOST = 24  # clients shown; of more, evenly spaced ones
FEW_ARMS = 8  # of more arms, only the average and the worst client are shown


@dataclasses.dataclass(frozen=True)
class _Point:
    y: float
    found: Estimate
    style: Style
    hollow: bool = False


def gain_over_learning_alone(of: Sequence[Entry], styles: Sequence[Style], name: str) -> Drawing | None:
    """Per client, what each arm gives beyond learning alone; `None` without arms to compare.

    Args:
      of: The arms of one run.
      styles: One per arm.
      name: File name without ending.
    """
    pairs = [(e, s, alone) for e, s in zip(of, styles, strict=True) if (alone := e.baseline(LOCAL_ONLY)) is not None]
    if not pairs:
        return None
    found = [gains(entry, alone) for entry, _, alone in pairs]
    first = pairs[0][0]
    rows = [
        (environment_label(first.run, first.arm, first.client_columns[i]), [gain[i] for gain in found])
        for i in (thin(len(first.client_columns), MOST) if len(of) <= FEW_ARMS else [])
    ]
    rows.append(("average over clients", [average_difference(entry, alone) for entry, _, alone in pairs]))
    rows.append(("worst client", [worst_case_difference(entry, alone) for entry, _, alone in pairs]))
    arms = [(wording.clean(entry.arm.name), style) for entry, style, _ in pairs]
    title, axis = f"Gain over learning alone: {first.run.name}", f"{first.measure.difference_axis} over learning alone"
    return differences(rows, arms, first.measure, name=name, title=title, axis=axis)


def differences(
    rows: Sequence[tuple[str, Sequence[Estimate]]],
    arms: Sequence[tuple[str, Style]],
    measure: Measure,
    *,
    name: str,
    title: str,
    axis: str,
) -> Drawing:
    """Points with intervals around a line at zero: under every row's label one point per arm.

    Args:
      rows: Labels and their estimates, one per arm.
      arms: Labels and styles.
      measure: How numbers are said.
      name: File name without ending.
      title: What a screen reader says first.
      axis: What the numbers are.
    """
    points, names, y = _placed(rows, arms)
    labels = [label for label, _ in arms]
    with figures.canvas(y + 58 + figures.legend_height(labels)) as figure:
        axes = _rows(figure, points, y)
        axes.axvline(0, color=INK, linewidth=1)
        for place, text in names:
            _row_label(axes, place, text)
        axes.set_xlabel(axis)
        figures.legend(figure, [_key(axes, style) for _, style in arms], labels)
        described = "; ".join(f"{row}: {_list(measure.difference, labels, found)}" for row, found in rows)
        return figures.finish(figure, name, title, described + ".")


def levels(
    rows: Sequence[tuple[str, Sequence[Estimate], Sequence[float]]],
    arms: Sequence[tuple[str, Style]],
    marks: Sequence[str],
    measure: Measure,
    *,
    name: str,
    title: str,
) -> Drawing:
    """Points with intervals on a scale from 0 to 100: under every row's label one point per arm, behind them marks.

    Args:
      rows: Labels, their estimates, one per arm, and where each mark stands.
      arms: Labels and styles.
      marks: Labels of the upright lines behind the points of a row.
      measure: What the numbers are.
      name: File name without ending.
      title: What a screen reader says first.
    """
    points, names, y = _placed([row[:2] for row in rows], arms)
    labels = [label for label, _ in arms]
    with figures.canvas(y + 58 + figures.legend_height([*labels, *marks])) as figure:
        axes = _rows(figure, points, y)
        for end in (0, 100):
            axes.axvline(end, color=INK, linewidth=1)
        for (place, text), (_, _, values) in zip(names, rows, strict=True):
            _row_label(axes, place, text)
            for turn, value in enumerate(values):
                span = [place + 0.5 * ROW, place + (len(arms) + 0.5) * ROW]
                axes.plot([value] * 2, span, **_mark(turn))
        axes.set_xlabel(measure.name)
        keys = [_key(axes, style) for _, style in arms]
        keys += [axes.plot([], [], **_mark(turn))[0] for turn in range(len(marks))]
        figures.legend(figure, keys, [*labels, *marks])
        described = "; ".join(
            f"{row}: {_list(measure.level, labels, found)}"
            + "".join(f", {mark} {wording.number(at, 0)} %" for mark, at in zip(marks, values, strict=True))
            for row, found, values in rows
        )
        return figures.finish(figure, name, title, described + ".")


def _mark(turn: int) -> dict[str, Any]:
    dashes = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
    return {"color": MUTED, "linewidth": 1.6, "linestyle": dashes[turn % len(dashes)], "zorder": 1}


def _placed(
    rows: Sequence[tuple[str, Sequence[Estimate]]], arms: Sequence[tuple[str, Style]]
) -> tuple[list[_Point], list[tuple[float, str]], float]:
    """The points of all rows, where their labels stand, and the height of all, px."""
    points, names, y = [], [], 0.0
    for label, estimates in rows:
        names.append((y, label))
        for (_, style), estimate in zip(arms, estimates, strict=True):
            y += ROW
            points.append(_Point(y, estimate, style))
        y += 1.6 * ROW
    return points, names, y


def _list(say: Callable[[Estimate], str], labels: Sequence[str], estimates: Sequence[Estimate]) -> str:
    return ", ".join(f"{label} {say(found)}" for label, found in zip(labels, estimates, strict=True))


def average_and_worst(of: Sequence[Entry], styles: Sequence[Style]) -> Drawing:
    """Per arm, the average over clients (filled) and the worst client (hollow), final window."""
    points, names, y = [], [], 0.0
    for entry, style in zip(of, styles, strict=True):
        names.append((y, entry.label))
        points += [_Point(y + 0.95 * ROW, entry.average, style), _Point(y + 1.75 * ROW, entry.worst_case, style, True)]
        y += 3.1 * ROW
    with figures.canvas(y + 62 + figures.LINE) as figure:
        axes = _rows(figure, points, y)
        for place, text in names:
            _row_label(axes, place, text)
        axes.set_xlabel(of[0].measure.axis)
        neutral = Style(MUTED, "-", "o")
        keys = [_key(axes, neutral), _key(axes, neutral, hollow=True)]
        figures.legend(figure, keys, ["average", "worst client"])
        described = "; ".join(
            f"{e.label}: average {e.measure.level(e.average)}, worst client {e.measure.level(e.worst_case)}" for e in of
        )
        return figures.finish(figure, "average-and-worst", "Worst client beside average", described + ".")


def _rows(figure: Any, points: Sequence[_Point], height: float) -> Any:
    axes = figure.add_subplot()
    for point in points:
        _draw(axes, point)
    axes.set_ylim(height - 0.5 * ROW, -0.8 * ROW)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="x", length=0)
    axes.locator_params(axis="x", nbins=6)
    axes.margins(x=0.06)
    return axes


def _draw(axes: Any, point: _Point) -> None:
    value, style = float(point.found.value), point.style
    if not math.isfinite(value):
        return
    if point.found.has_interval:
        low, high = float(point.found.low), float(point.found.high)
        axes.plot([low, high], [point.y] * 2, color=style.colour, linewidth=1.7, solid_capstyle="butt")
    axes.plot(
        [value], [point.y], color=style.colour, marker=style.marker, markersize=6, linestyle="none",
        markerfacecolor=PANEL if point.hollow else style.colour, markeredgewidth=1.5 if point.hollow else 0,
    )  # fmt: skip


def _key(axes: Any, style: Style, hollow: bool = False) -> Any:
    return axes.plot(
        [], [], color=style.colour, marker=style.marker, markersize=6, linewidth=1.7,
        markerfacecolor=PANEL if hollow else style.colour, markeredgewidth=1.5 if hollow else 0,
    )[0]  # fmt: skip


def _row_label(axes: Any, y: float, text: str) -> None:
    """A name above its points, not beside them, so that a phone's width is left to the intervals."""
    axes.text(0.0, y, text, transform=axes.get_yaxis_transform(), fontsize=10, color=INK, va="center",
              bbox={"facecolor": PANEL, "edgecolor": "none", "pad": 1.5})  # fmt: skip
