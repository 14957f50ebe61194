"""The verdict as plain text: what a run says in the terminal when it is done."""

from __future__ import annotations

from collections.abc import Sequence

from polyfed.evaluation.results import RunResult
from polyfed.report import wording
from polyfed.report.arms import Entry, entries
from polyfed.report.verdict import verdict


def summary(runs: Sequence[RunResult]) -> str:
    """A table of arms and the headline with its findings, for every run; no claim beyond the intervals."""
    parts = []
    for run in runs:
        of = entries([run])
        found = verdict(of)
        lines = [_table(of), "", found.headline, *([found.standing] if found.standing else [])]
        for pair, clauses in found.findings:
            lines += [f"  {pair}", *(f"    {said}" for _, said in clauses)]
        hidden = [f"{entry.label}: {entry.arm.privacy.sentence}" for entry in of if entry.arm.privacy is not None]
        parts.append("\n".join([*lines, *hidden, *found.cautions]))
    return "\n\n".join(parts)


def _table(of: Sequence[Entry]) -> str:
    measure = of[0].measure
    rows = [("", f"average {measure.name}", "worst client", measure.held_out.replace("-", " "))]
    for entry in of:
        held_out = wording.MISSING if entry.held_out is None else measure.level(entry.held_out)
        rows.append((entry.label, measure.level(entry.average), measure.level(entry.worst_case), held_out))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
