"""The section on what happened on the way: when worlds moved, and who joined late."""

from __future__ import annotations

from polyfed.environments.schedule import Change
from polyfed.report import wording
from polyfed.report.blocks import Section, Story, heading, lead
from polyfed.report.tables import escape, table

HEAD = ["Round", "Client", "What"]


def changes_section(story: Story) -> Section | None:
    """Rounds, clients and what changed; nothing where all is as in the first round."""
    known = [run for run in story.by_run if run[0].run.changes]
    if not known:
        return None
    rows = [
        heading(story, run) + table("What changed on the way", HEAD, map(_row, run[0].run.changes), kind="words")
        for run in known
    ]
    text = lead(
        "Policies are judged in the worlds as they are after the round of the evaluation. A client counts from the "
        "evaluation before its first round on; until then it lives no steps, sends nothing, and is in no average. "
        "Dotted lines in the learning curves stand where a change begins."
    )
    return Section("changes", "What changed on the way", text + "".join(rows))


def _row(change: Change) -> list[str]:
    when = str(change.first) if change.first == change.last else f"{change.first} to {change.last}"
    name, space, rest = change.words.partition(" ")
    words = wording.attribute(name) + space + rest if rest else change.words
    return [when, ", ".join(map(str, change.clients)), escape(words)]
