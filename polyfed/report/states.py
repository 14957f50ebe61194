"""Public states: on which states clients told each other what they would do, and how diverse these are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from polyfed.environments.state_diversity import diversity
from polyfed.environments.state_file import FileStates
from polyfed.record import from_data
from polyfed.report import tables, wording
from polyfed.report.arms import Entry
from polyfed.report.blocks import Section, Story, heading, lead


def public_states_section(story: Story) -> Section | None:
    """Where clients send predictions on states that everybody knows: which states these are."""
    runs = [(run, told) for run in story.by_run if (told := [e for e in run if e.arm.public_states is not None])]
    if not runs:
        return None
    body = lead(
        "Clients show each other what they would do on states that everybody knows, and nothing else of themselves. "
        "<b>Directions</b>: in how many independent directions the states vary; it is at most the number of entries of "
        "an observation. <b>Spacing</b>: mean distance to the nearest other state, in standard deviations; at the same "
        "number of states, a larger one says that they are spread more evenly. More diverse is not better as such. A "
        "<b>message</b> is what one client sends in one exchange."
    )
    for run, told in runs:
        body += heading(story, run) + states_table(told) + entries_table(told)
    return Section("public-states", "Public states", body)


def _sets(told: Sequence[Entry]) -> list[list[Entry]]:
    """The arms by the states that they use: those of one builder, with the same states, together."""
    found: list[list[Entry]] = []
    for entry in told:
        for same in found:
            if _builder(same[0]) == _builder(entry) and np.array_equal(_states(same[0]), _states(entry)):
                same.append(entry)
                break
        else:
            found.append([entry])
    return found


def states_table(told: Sequence[Entry]) -> str:
    """One row per arm: builder, size, diversity, and what a message weighs; HTML."""
    rows = []
    for same in _sets(told):
        figures = diversity(_states(same[0]))
        for entry in same:
            rows.append(
                [
                    tables.arm_name(entry),
                    tables.escape(described(_builder(entry))),
                    str(figures["num"]) + (f" ({figures['distinct']} distinct)" * _repeated(figures)),
                    f"{figures['dimensions']:.1f} of {len(figures['mean'])}",
                    f"{figures['spacing']:.2f}",
                    message(entry),
                ]
            )
    heads = ["Arm", "States", "Number", "Directions", "Spacing", "Message"]
    return tables.table("Public states", heads, rows)


def _repeated(figures: dict[str, Any]) -> bool:
    return figures["distinct"] < figures["num"]


def entries_table(told: Sequence[Entry]) -> str:
    """Mean and standard deviation of every entry of the observations, folded; HTML."""
    rows = []
    sets = _sets(told)
    for same in sets:
        figures = diversity(_states(same[0]))
        whose = "" if len(sets) == 1 else f"{tables.escape(', '.join(entry.label for entry in same))} · "
        for place, (mean, spread) in enumerate(zip(figures["mean"], figures["std"], strict=True)):
            rows.append([f"{whose}{place}", f"{mean:.3g}", f"{spread:.3g}"])
    head = ["Entry", "Mean", "Standard deviation"]
    return f"<details><summary>Per entry</summary>{tables.table('Entries of the public states', head, rows)}</details>"


def _states(entry: Entry) -> np.ndarray:
    assert entry.arm.public_states is not None
    return entry.arm.public_states


def _payload(entry: Entry) -> Any:
    return from_data(entry.arm.experiment["payload"])


def _builder(entry: Entry) -> Any:
    return _payload(entry).public


def described(builder: Any) -> str:
    """What states a builder makes, in words; of a file only its name, not where it lies.

    >>> described(FileStates("/home/somebody/states.npy"))
    'states from states.npy'
    """
    if isinstance(builder, FileStates):
        return "states from " + re.split(r"[/\\]", builder.path)[-1]
    return str(builder.describe)


def message(entry: Entry) -> str:
    """`4 kB, 10 per round`: what one client sends in one exchange, on the way up; HTML."""
    up, exchanges = entry.arm.metrics.get("bytes_up"), _payload(entry).exchanges
    if up is None or not np.size(up):
        return wording.MISSING
    return f"{wording.byte_count(float(np.mean(up)) / exchanges)}, {exchanges} per round"
