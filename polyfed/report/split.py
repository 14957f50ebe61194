"""The split of a data set, drawn: how many samples of each label every client trains on."""

from __future__ import annotations

from typing import Any

import numpy as np

from polyfed.report import figures, wording
from polyfed.report.blocks import Section, Story, beside, heading, lead
from polyfed.report.figures import DARK_CELL_INK, INK, LIGHT_CELL_INK, MUTED, Drawing
from polyfed.report.heatmap import RAMP, thin

ROW = 20  # px of a client, as long as there is room for numbers
NUMBERED = 24  # clients up to which numbers are printed, and labels up to which there is room for them
MOST = 100  # clients shown; of more, evenly spaced ones
TOP, GUTTER, WIDTH, BARS = 42.0, 58.0, 400.0, 74.0  # px: head, names of clients, the whole, bars of totals


def split_figure(counts: np.ndarray, name: str, title: str) -> Drawing:
    """Clients as rows, labels as columns, darker cells for more samples, bars for the total of a client.

    Args:
      counts: `[C, L]`.
      name: File name without ending.
      title: Whose split it is.
    """
    shown = thin(len(counts), MOST)
    numbered = len(shown) <= NUMBERED and counts.shape[1] <= NUMBERED
    row = float(ROW) if len(shown) <= NUMBERED else max(5.0, 480.0 / len(shown))
    cell = max((WIDTH - GUTTER - BARS) / counts.shape[1], 7.0 * len(str(counts.max())) if numbered else 0.0)
    right = GUTTER + cell * counts.shape[1]
    height = TOP + row * len(shown) + 10
    with figures.canvas(height, right + BARS, constrained=False) as figure:
        axes = figures.bare_axes(figure, right + BARS, height)
        _head(axes, counts.shape[1], cell, right)
        every = _step(14 / row)
        if every > 1:
            axes.text(GUTTER - 6, 34, "client", fontsize=10, color=INK, ha="right", va="baseline")
        for place, client in enumerate(shown):
            y = TOP + row * place
            if place % every == 0:
                axes.text(GUTTER - 6, y + row / 2, f"client-{client}" if every == 1 else str(client), fontsize=9.5,
                          color=MUTED, ha="right", va="center")  # fmt: skip
            _cells(axes, counts[client] / max(1, counts.max()), y, cell, row)
            if numbered:
                _numbers(axes, counts[client], counts.max(), y, cell)
            _total(axes, counts[client].sum(), counts.sum(axis=1).max(), right, y, row)
        return figures.finish(figure, name, f"Samples per client and label: {title}", describe(counts))


def _step(least: float) -> int:
    """Every how many rows or columns a number fits."""
    return next((step for step in (1, 2, 5, 10, 20, 50) if step >= least), 100)


def _head(axes: Any, num_labels: int, cell: float, right: float) -> None:
    axes.text((GUTTER + right) / 2, 14, "label", fontsize=10, color=INK, ha="center", va="baseline")
    axes.text(right + 8, 14, "all", fontsize=10, color=INK, ha="left", va="baseline")
    every = _step(16 / cell)
    for label in range(0, num_labels, every):
        axes.text(GUTTER + cell * (label + 0.5), 34, str(label), fontsize=10, color=MUTED, ha="center", va="baseline")


def _cells(axes: Any, shares: np.ndarray, y: float, cell: float, row: float) -> None:
    ramp, gap = figures.ramp(RAMP[1:]), 0.75 if row >= 12 and cell >= 12 else 0.2
    for label in np.flatnonzero(shares > 0):
        figures.rectangle(
            axes, GUTTER + cell * label + gap, y + gap, cell - 2 * gap, row - 2 * gap,
            facecolor=ramp(float(shares[label])), linewidth=0,
        )  # fmt: skip


def _numbers(axes: Any, counts: np.ndarray, most: int, y: float, cell: float) -> None:
    size = min(9.5, (cell - 3) / (0.62 * len(str(most))))
    for label, count in enumerate(counts):
        ink = MUTED if count == 0 else LIGHT_CELL_INK if count > 0.6 * most else DARK_CELL_INK
        axes.text(GUTTER + cell * (label + 0.5), y + ROW / 2 + 0.5, str(count) if count else "·", fontsize=size,
                  color=ink, ha="center", va="center")  # fmt: skip


def _total(axes: Any, total: int, most: int, right: float, y: float, row: float) -> None:
    length = (BARS - 44) * total / max(1, most)
    thick = min(8.0, 0.7 * row)
    figures.rectangle(axes, right + 8, y + (row - thick) / 2, length, thick, facecolor=MUTED, linewidth=0)
    if row >= 12:
        axes.text(right + 12 + length, y + row / 2 + 0.5, str(total), fontsize=9, color=INK, ha="left", va="center")


def describe(counts: np.ndarray) -> str:
    """The split in words.

    >>> describe(np.array([[5, 0], [0, 5]]))
    'Heat map of 2 clients and 2 labels, 10 samples. A client has 5 samples, 1 of the 2 labels, and 5 of one at most.'
    """
    totals, labels = counts.sum(axis=1), (counts > 0).sum(axis=1)
    return (
        f"Heat map of {wording.count(len(counts), 'client')} and {wording.count(counts.shape[1], 'label')}, "
        f"{totals.sum()} samples. A client has {_spread(totals)} samples, {_spread(labels)} of the {counts.shape[1]} "
        f"labels, and {counts.max()} of one at most."
    )


def _spread(numbers: np.ndarray) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return str(low) if low == high else f"{low} to {high}"


def distance_from_whole(counts: np.ndarray) -> float:
    """Mean total variation distance between a client's label proportions and those of all samples, 0 to 1.

    0: everybody has the proportions of the whole. A client without samples is not counted.

    >>> distance_from_whole(np.array([[5, 0], [0, 5]])), distance_from_whole(np.array([[5, 5], [1, 1]]))
    (0.5, 0.0)
    """
    counts = np.asarray(counts, float)
    counts = counts[counts.sum(axis=1) > 0]
    if not len(counts):
        return float("nan")
    own, whole = counts / counts.sum(axis=1, keepdims=True), counts.sum(axis=0) / counts.sum()
    return float(np.abs(own - whole).sum(axis=1).mean() / 2)


def split_section(story: Story) -> Section | None:
    """Which client trains on what, where clients live in a data set."""
    body, drawings = "", []
    for run, name in zip(story.by_run, story.file_names("split"), strict=True):
        counts = run[0].run.label_counts
        if counts is None or not np.size(counts):
            continue
        counts = np.asarray(counts)
        text = (
            "How many samples of each label every client trains on; darker is more, and the bar at the right is a "
            f"client’s total. {describe(counts).partition('. ')[2]} "
            "A client’s label proportions differ from those of the whole by "
            f"{wording.percent(distance_from_whole(counts))} on average (total variation: 0 % is the same mix)."
        )
        if len(counts) > MOST:
            text += f" Of {len(counts)} clients, {MOST} evenly spaced ones are shown."
        drawings.append(split_figure(counts, name, wording.clean(run[0].run_label)))
        body += heading(story, run) + beside(lead(text), drawings[-1])
    return Section("split", "Split", body, tuple(drawings)) if drawings else None
