"""The worst case against the average, one point per arm, with the arms that no other beats in both (Pareto front)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from polyfed.evaluation.statistics import Estimate
from polyfed.report import figures
from polyfed.report.figures import GRID, INK, MUTED, PANEL, Drawing, Style
from polyfed.report.robust_scores import ALL, Bench

Point = tuple[Estimate, Estimate]  # average, worst case
FEW_METHODS = 3  # with fewer, every baseline is drawn
HEIGHT = 300  # px of the axes with their labels
_SIDES = ((9, 0), (-9, 0), (0, 13), (0, -13), (8, 11), (-8, 11), (8, -11), (-8, -11), (0, 26), (0, -26))  # px


def points(bench: Bench) -> list[Point]:
    """Average and worst case of every arm over all test worlds."""
    places = bench.sets[ALL]
    return [(tested.average(places), tested.worst_case(places)) for tested in bench.arms]


def pareto_front(pairs: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the pairs that no other pair dominates, from the highest first coordinate to the lowest.

    A pair dominates another if it is at least as high in both coordinates and higher in one. What is not a number is
    not on the front.

    >>> pareto_front([(1.0, 5.0), (3.0, 3.0), (2.0, 2.0), (4.0, 1.0), (float("nan"), 9.0)])
    [3, 1, 0]
    """
    known = [i for i, pair in enumerate(pairs) if all(map(math.isfinite, pair))]

    on_front = [i for i in known if not _beaten(pairs[i], pairs, known)]
    return sorted(on_front, key=lambda i: (-pairs[i][0], -pairs[i][1], i))


def _beaten(pair: tuple[float, float], pairs: Sequence[tuple[float, float]], by: Sequence[int]) -> bool:
    x, y = pair
    return any(a >= x and b >= y and (a > x or b > y) for a, b in (pairs[other] for other in by))


def front_of(bench: Bench, found: Sequence[Point]) -> list[int]:
    """Places in `bench.arms` of the methods on the front; of baselines where there is no method.

    Baselines take no part: one agent that may use everyone's world would hide the front that federation can reach.
    """
    chosen = [i for i, tested in enumerate(bench.arms) if not tested.entry.arm.baseline] or range(len(bench.arms))
    return [chosen[i] for i in pareto_front([(float(found[i][0].value), float(found[i][1].value)) for i in chosen])]


def outside(bench: Bench, found: Sequence[Point]) -> list[int]:
    """Baselines so far from the methods that, drawn beside them, they would crowd the methods into a corner.

    Those that lie beyond all methods and their intervals by more than their spread on an axis; none where there are
    fewer than three methods.
    """
    is_method = [not tested.entry.arm.baseline for tested in bench.arms]
    if sum(is_method) < FEW_METHODS:
        return []
    far: set[int] = set()
    for axis in range(2):
        numbers = [
            float(bound)
            for pair, chosen in zip(found, is_method, strict=True)
            for bound in (pair[axis].value, pair[axis].low, pair[axis].high)
            if chosen and math.isfinite(bound)
        ]
        low, high = min(numbers, default=0.0), max(numbers, default=0.0)
        for i, pair in enumerate(found):
            if high > low and not is_method[i] and not 2 * low - high <= float(pair[axis].value) <= 2 * high - low:
                far.add(i)
    return sorted(far)


def front_figure(bench: Bench, styles: Sequence[Style], name: str) -> Drawing:
    """Points with bars of 95 % over seeds; hollow where a method is better; a sweep is joined in omega's order.

    Args:
      bench: The arms and their test.
      styles: One per arm.
      name: File name without ending.
    """
    found, far = points(bench), outside(bench, points(bench))
    values = [(float(x.value), float(y.value)) for x, y in found]
    front = front_of(bench, found)
    filled = [
        i in front or (tested.entry.arm.baseline and not _beaten(values[i], values, front))
        for i, tested in enumerate(bench.arms)
    ]
    drawn = [i for i in range(len(found)) if i not in far]
    labels = [bench.arms[i].entry.label for i in drawn]
    crowd = len(labels) > figures.FEW_LINES
    width = figures.WIDE if crowd else figures.WIDTH
    height = HEIGHT + 60 if crowd else HEIGHT + figures.legend_height(labels)
    with figures.canvas(height, width) as figure:
        axes = figure.add_subplot()
        axes.plot([values[i][0] for i in front], [values[i][1] for i in front], color=GRID, linewidth=7,
                  solid_capstyle="round", solid_joinstyle="round", zorder=1)  # fmt: skip
        if bench.omegas:
            path = [values[bench.arms.index(tested)] for tested in bench.omegas]
            axes.plot(*zip(*path, strict=True), color=MUTED, linewidth=1.1, zorder=2)
        handles = [_point(axes, found[i], styles[i], filled[i]) for i in drawn]
        measure = bench.arms[0].entry.measure
        axes.set_title(measure.column("Worst case over the test worlds"), loc="left", color=INK, pad=6)
        axes.set_xlabel(measure.column("average over the test worlds"))
        axes.margins(0.1)
        axes.locator_params(nbins=6)
        named = {i: bench.name(t) for i, t in enumerate(bench.arms) if i in front or t in bench.omegas}
        _names(axes, found, named, (width * (0.7 if crowd else 0.85), float(HEIGHT - 70)))
        figures.legend(figure, handles, labels, [values[i][1] for i in drawn] if crowd else None)
        return figures.finish(figure, name, "Average against worst case", _describe(bench, found, front))


def _point(axes: Any, point: Point, style: Style, on_front: bool) -> Any:
    """A point and its two bars; returns what stands in the legend."""
    look = {
        "color": style.colour, "marker": style.marker, "markersize": 7, "linestyle": "none",
        "markerfacecolor": style.colour if on_front else PANEL, "markeredgewidth": 1.5,
    }  # fmt: skip
    x, y = (float(estimate.value) for estimate in point)
    if math.isfinite(x) and math.isfinite(y):
        if point[0].has_interval:
            axes.plot([point[0].low, point[0].high], [y, y], color=style.colour, linewidth=1.2, zorder=3)
            axes.plot([x, x], [point[1].low, point[1].high], color=style.colour, linewidth=1.2, zorder=3)
        axes.plot([x], [y], zorder=4, **look)
    return axes.plot([], [], **look)[0]


def _names(axes: Any, found: Sequence[Point], named: dict[int, str], size: tuple[float, float]) -> None:
    """A name beside its point, at the side where it covers least: points, bars, other names, the edge.

    Args:
      axes: With their final limits.
      found: The points.
      named: Text by place of the point.
      size: Width and height of the axes, px; may be rough.
    """
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    across = lambda value: (float(value) - left) / (right - left) * size[0]  # noqa: E731
    up = lambda value: (float(value) - low) / (high - low) * size[1]  # noqa: E731
    taken = []
    for one, other in found:
        x, y = across(one.value), up(other.value)
        taken.append((x - 5, y - 5, x + 5, y + 5))
        if one.has_interval:
            taken.append((across(one.low), y - 1.5, across(one.high), y + 1.5))
            taken.append((x - 1.5, up(other.low), x + 1.5, up(other.high)))
    taken = [box for box in taken if all(map(math.isfinite, box))]
    for place, text in named.items():
        x, y = across(found[place][0].value), up(found[place][1].value)
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        boxes = [_box(x + dx, y + dy, dx, 6.0 * len(text)) for dx, dy in _SIDES]
        costs = [sum(_overlap(box, other) for other in taken) + 10 * _outside(box, size) for box in boxes]
        best = min(range(len(boxes)), key=lambda i: (costs[i], i))
        dx, dy = _SIDES[best]
        taken.append(boxes[best])
        side = "left" if dx > 0 else "right" if dx < 0 else "center"
        spot = [float(one.value) for one in found[place]]
        axes.annotate(text, spot, xytext=(dx, dy), textcoords="offset points", fontsize=9.5, color=INK, va="center",
                      ha=side, zorder=5, annotation_clip=False)  # fmt: skip


def _box(x: float, y: float, side: float, width: float) -> tuple[float, float, float, float]:
    left = x if side > 0 else x - width if side < 0 else x - width / 2
    return left, y - 6, left + width, y + 6


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _outside(box: tuple[float, ...], size: tuple[float, float]) -> float:
    """Px² by which a box leaves the axes."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return area - _overlap(box, (0.0, 0.0, *size))


def _describe(bench: Bench, found: Sequence[Point], front: Sequence[int]) -> str:
    level = bench.arms[0].entry.measure.level
    parts = [
        f"{bench.name(tested)}: average {level(x)}, worst case {level(y)}" + (", on the front" if i in front else "")
        for i, (tested, (x, y)) in enumerate(zip(bench.arms, found, strict=True))
    ]
    return "One point per arm. " + "; ".join(parts) + "."
