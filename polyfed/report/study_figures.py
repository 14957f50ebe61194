"""The curves of a study as figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polyfed.report import figures
from polyfed.report.figures import Drawing, Style
from polyfed.study import Curves, Line


def draw(curves: Curves) -> Drawing:
    """One figure: a line per `Line`, bands where there are intervals; axes as the study asked.

    >>> line = Line("qavg", (1.0, 10.0, 100.0), (1.0, 0.1, 0.01))
    >>> draw(Curves("distance", "Distance", "local steps", (line,), log_x=True, log_y=True)).name
    'distance'
    """
    labels = [line.label for line in curves.lines]
    crowd = len(labels) > figures.FEW_LINES
    size = (330, figures.WIDE) if crowd else (215 + figures.legend_height(labels), figures.WIDTH)
    with figures.canvas(*size) as figure:
        axes = figure.add_subplot()
        pairs = zip(curves.lines, figures.colours(len(labels)), strict=True)
        handles = [_line(axes, line, style, turn, crowd) for turn, (line, style) in enumerate(pairs)]
        _dress(axes, curves)
        ends = [line.y[-1] if line.y else float("nan") for line in curves.lines]
        if len(labels) > 1:
            figures.legend(figure, handles, labels, ends if crowd else None)
        return figures.finish(figure, curves.name, f"{curves.title} against {curves.along}", _in_words(curves.lines))


def _line(axes: Any, line: Line, style: Style, turn: int, crowd: bool) -> Any:
    x, y = np.asarray(line.x), np.asarray(line.y)
    if line.low:
        axes.fill_between(x, line.low, line.high, color=style.colour, alpha=0.09 if crowd else 0.16, linewidth=0)
    every = max(1, len(x) // 6)
    (handle,) = axes.plot(
        x, y, color=style.colour, linestyle=style.dash, marker=style.marker,
        markevery=((turn * every) // 4 % every, every), markeredgewidth=0,
    )  # fmt: skip
    return handle


def _dress(axes: Any, curves: Curves) -> None:
    """The title says what goes up; an axis in decades is linear where there is nothing above zero."""
    axes.set_title(curves.title, loc="left", color=figures.INK, pad=6)
    axes.set_xlabel(curves.along)
    for wanted, set_scale, key in ((curves.log_x, axes.set_xscale, "x"), (curves.log_y, axes.set_yscale, "y")):
        if wanted and any(value > 0 for line in curves.lines for value in getattr(line, key)):
            set_scale("log", nonpositive="mask" if key == "x" else "clip")
    if axes.get_yscale() == "log":
        _decades(axes, curves.lines)
    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log":
            axis.set_major_formatter(_power)
            axis.set_minor_formatter(lambda *_: "")
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="y", which="both", length=0)


def _decades(axes: Any, lines: Sequence[Line]) -> None:
    """Lower bounds of intervals that reach below zero do not stretch the axis; a level line gets a decade."""
    positive = [value for line in lines for value in line.y if value > 0]
    low, high = min(positive), max([*positive, *(v for line in lines for v in line.high if np.isfinite(v))])
    axes.set_ylim(low / 2, max(high, 10 * low) * 1.5)


def _power(value: float, _position: float) -> str:
    """`0.01`, `100`, `10⁻⁶`."""
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if mantissa == "1" else f"{mantissa}·{power}"


def _in_words(lines: Sequence[Line]) -> str:
    ends = ", ".join(f"{line.label} {line.y[-1]:.4g}" for line in lines if line.y)
    bands = " with 95 % intervals" if any(line.low for line in lines) else ""
    return f"{len(lines)} lines{bands}. At the right end: {ends}."
