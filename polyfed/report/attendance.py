"""The section on who was absent: messages that did not count, and rounds in which nobody's did."""

from __future__ import annotations

import numpy as np

from polyfed.report import wording
from polyfed.report.arms import Entry
from polyfed.report.blocks import Section, Story, lead
from polyfed.report.tables import arm_name, table

HEAD = ["Arm", "Messages that did not count", "Of the client that was absent most", "Rounds without any"]


def absences(entry: Entry) -> np.ndarray | None:
    """`[R, S, C]`: 1 where a client's message did not count, NaN where it had not joined; `None` if nobody says so."""
    weight = entry.arm.metrics.get("weight")
    if weight is None or not np.size(weight):
        return None
    joined = np.asarray(entry.arm.metrics.get("joined", np.ones(np.shape(weight)))) > 0
    return np.where(joined, np.where(np.asarray(weight) > 0, 0.0, 1.0), np.nan)


def attendance_section(story: Story) -> Section | None:
    """A row per arm of which somebody was absent; nothing where all came always."""
    known = [(entry, away) for entry in story.entries if (away := absences(entry)) is not None and np.nansum(away)]
    if not known:
        return None
    text = lead(
        "A message does not count where it was lost, late or refused, its client was away, or too few came. A round "
        "without any leaves the global model as it was. Rounds of all seeds are counted."
    )
    return Section("attendance", "Who was absent", text + table("Who was absent", HEAD, [_row(*one) for one in known]))


def _row(entry: Entry, away: np.ndarray) -> list[str]:
    empty = np.nanmin(away, axis=2) == 1
    return [
        arm_name(entry),
        wording.percent(float(np.nanmean(away))),
        wording.percent(float(np.nanmax(np.nanmean(away, axis=(0, 1))))),
        f"{int(empty.sum())} of {empty.size}",
    ]
