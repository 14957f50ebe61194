"""The opening of the page: the verdict in words, then the key numbers."""

from __future__ import annotations

import re

from polyfed.evaluation.statistics import FEW_SEEDS
from polyfed.report import wording
from polyfed.report.arms import LOCAL_ONLY, Entry, methods
from polyfed.report.blocks import Section, Story, heading, lead
from polyfed.report.tables import escape, unbroken
from polyfed.report.verdict import HELPED, HURT, UNDECIDED, gains, outcome, shortfall, verdict
from polyfed.simulation.engines import said_of

_MARKS = {HELPED: "▲", HURT: "▼", UNDECIDED: "○"}


def verdict_section(story: Story) -> Section:
    """Words first, then the key numbers, for every run."""
    return Section("verdict", "Verdict", "".join(_verdict(story, run) for run in story.by_run))


def _verdict(story: Story, run: list[Entry]) -> str:
    found, num_seeds = verdict(run), run[0].num_seeds
    whole = re.sub(r"(\d+) (seeds|clients)", "\\1\N{NO-BREAK SPACE}\\2", escape(found.headline))
    parts = [heading(story, run), f'<p class="headline">{whole}</p>']
    if found.standing:
        parts.append(lead(unbroken(found.standing)))
    if found.findings:
        how = f"with 95 % intervals, paired over {num_seeds} seeds" if num_seeds > 1 else "of one seed"
        parts.append(lead(f"Differences in final {run[0].measure.name}{run[0].measure.differences} {how}."))
        parts.append('<dl class="findings">')
        for pair, clauses in found.findings:
            parts.append(f"<dt>{escape(pair)}</dt>")
            parts += [
                f'<dd><span class="mark" aria-hidden="true">{_MARKS.get(result, "")}</span>{unbroken(text)}</dd>'
                for result, text in clauses
            ]
        parts.append("</dl>")
    parts += [f'<p class="caution">{escape(caution)}</p>' for caution in found.cautions]
    return "".join(parts) + tiles(run)


def tiles(run: list[Entry]) -> str:
    """The key numbers of one run: its first method beside learning alone, bytes, time and seeds."""
    first = (methods(run) or run)[0]
    alone = first.baseline(LOCAL_ONLY)
    shown = [_clients_helped(first, alone)] if alone is not None else []
    for title, ours, theirs in (
        (f"Average {first.measure.name}", first.average, alone.average if alone is not None else None),
        ("Worst client", first.worst_case, alone.worst_case if alone is not None else None),
    ):
        value, _, rest = first.measure.level(ours).partition(" [")
        note = first.arm.name + (f" [{rest}" if rest else "")
        shown.append((title, value, note + (f"\nalone {first.measure.level(theirs)}" if theirs is not None else "")))
    seconds, compiling = (sum(getattr(entry.arm, key) for entry in run) for key in ("seconds", "compile_seconds"))
    where = ", ".join(filter(None, ("all arms and seeds", said_of(first.run.record.get("engine")))))
    rounds = wording.count(int(first.arm.rounds[-1]), "round")
    shown += [
        ("On the wire", wording.byte_count(float(first.arm.bytes[-1])), f"{first.arm.name}, all clients, up and down"),
        ("Run time", wording.duration(seconds), f"{where}\n+ {wording.duration(compiling)} compiling"),
        ("Seeds", str(first.num_seeds), f"{wording.count(len(run), 'arm')}, {rounds}"),
    ]
    return f'<dl class="tiles">{"".join(_tile(*tile) for tile in shown)}</dl>'


def _clients_helped(first: Entry, alone: Entry) -> tuple[str, str, str]:
    if first.num_seeds < FEW_SEEDS:
        return "Clients helped", wording.MISSING, shortfall(first.num_seeds)
    found, total = gains(first, alone), len(first.client_columns)
    helped = [outcome(found[i]) for i in range(total)].count(HELPED)
    return "Clients helped", f"{helped} of {total}", f"{first.arm.name} over learning alone"


def _tile(title: str, value: str, note: str) -> str:
    notes = "".join(f'<dd class="small">{unbroken(line)}</dd>' for line in note.split("\n"))
    return f'<div><dt>{escape(title)}</dt><dd class="big">{escape(value)}</dd>{notes}</div>'
