"""The page on a study: its verdict first, then tables and figures by section, then how to make it again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from polyfed.evaluation.statistics import Estimate
from polyfed.report import tables, wording
from polyfed.report.blocks import Section, gallery, lead, slugs
from polyfed.report.page import write_document
from polyfed.report.study_figures import draw
from polyfed.report.tables import escape, unbroken
from polyfed.runs.study_folder import StudyResult
from polyfed.study import Curves, Table, Value


def write_study_report(result: StudyResult, path: Path, figures: Path | None = None) -> None:
    """Writes the report on a study; every file is written beside its place and renamed.

    Args:
      result: What was found.
      path: The HTML file; its folder is made.
      figures: Folder of the figures, each as SVG and PNG; by default `<name of the report>-figures` beside it.

    Raises:
      ImportError: matplotlib is not installed.

    >>> import tempfile
    >>> from polyfed.study import Findings
    >>> result = StudyResult("tiny", "A tiny study", {"seeds": [0]}, Findings(("Nothing was asked.",)), 0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_study_report(result, Path(folder) / "report.html")
    ...     "Nothing was asked." in (Path(folder) / "report.html").read_text()
    True
    """
    path = Path(path)
    folder = path.with_name(f"{path.stem}-figures") if figures is None else Path(figures)
    sections = [_verdict(result), *_sections(result), *_notes(result), _settings(result), *_again(result)]
    created = result.record.get("created")
    eyebrow = f"{escape(result.name)} · study · {wording.count(len(result.record['seeds']), 'seed')}"
    eyebrow += f" · {escape(created)}" if created else ""
    write_document(path, folder, sections, title=result.title, eyebrow=eyebrow)


def _verdict(result: StudyResult) -> Section:
    first, *rest = result.findings.verdict or ("This study came to no verdict.",)
    body = f'<p class="headline">{escape(first)}</p>' + "".join(f"<p>{unbroken(text)}</p>" for text in rest)
    facts = [*result.findings.facts, ("Run time", wording.duration(result.seconds))]
    tiles = "".join(f'<div><dt>{escape(name)}</dt><dd class="big">{escape(value)}</dd></div>' for name, value in facts)
    return Section("verdict", "Verdict", f'{body}<dl class="tiles">{tiles}</dl>')


def _sections(result: StudyResult) -> list[Section]:
    """Tables and figures under the headings that the study gave them, in the order of first mention."""
    found = result.findings
    everything: tuple[Table | Curves, ...] = (*found.tables, *found.curves)
    titles = list(dict.fromkeys(one.section for one in everything))
    taken = ["verdict", "settings", "notes", "again"]
    sections = []
    for title, anchor in zip(titles, slugs([*taken, *titles])[len(taken) :], strict=True):
        own = [table for table in found.tables if table.section == title]
        curves = [one for one in found.curves if one.section == title]
        drawings = tuple(map(draw, curves))
        body = "".join(map(_table, own)) + "".join(lead(escape(one.note)) for one in curves if one.note)
        sections.append(Section(anchor, escape(title), body + gallery(drawings), drawings))
    return sections


def _table(table: Table) -> str:
    notation = [_notation([row[i] for row in table.rows if i < len(row)]) for i in range(len(table.head))]
    rows = [[cell(one, how) for one, how in zip(row, notation, strict=False)] for row in table.rows]
    note = lead(unbroken(table.note)) if table.note else ""
    head = [escape(name) for name in table.head]
    return f"<h3>{escape(table.caption)}</h3>{note}{tables.table(table.caption, head, rows)}"


def _notation(column: Sequence[str | Value]) -> int | None:
    """Decimal places of a column; `None` where its numbers span too much for any: powers of ten then."""
    values = [one for one in column if isinstance(one, Value) and math.isfinite(one.value)]
    sizes = [abs(one.value) for one in values if one.value]
    if sizes and (min(sizes) < 1e-3 or max(sizes) >= 1e6):
        return None
    return wording.places([_estimate(one) for one in values])


def cell(one: str | Value, decimals: int | None) -> str:
    """A text, or a value with its interval or standard error behind it; HTML.

    >>> cell(Value(3.4, error=0.015), 3), cell(Value(2e-9), None)
    ('<b>3.400</b> <span class="interval">± 0.015</span>', '<b>2.0e−9</b>')
    """
    if isinstance(one, str):
        return unbroken(one)
    if not math.isfinite(one.value):
        return wording.MISSING
    say = (lambda x: wording.number(x, decimals)) if decimals is not None else _scientific
    behind = ""
    if one.low is not None and one.high is not None:
        behind = f"[{say(one.low)}, {say(one.high)}]"
    elif one.error is not None:
        behind = f"± {say(one.error)}"
    return f"<b>{say(one.value)}</b>" + (f' <span class="interval">{behind}</span>' if behind else "")


def _scientific(value: float) -> str:
    if not math.isfinite(value):
        return wording.MISSING
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return "0" if value == 0 else f"{mantissa}e{int(exponent)}".replace("-", wording.MINUS)


def _estimate(one: Value) -> Estimate:
    """For the decimal places: an interval as it is, a standard error as the width at which it has two digits."""
    low = one.low if one.low is not None else one.value - (one.error or math.nan) / 2
    high = one.high if one.high is not None else one.value + (one.error or math.nan) / 2
    known = math.isfinite(low) and math.isfinite(high)
    return Estimate(np.asarray(one.value), np.asarray(low), np.asarray(high), 2 if known else 1)


def _notes(result: StudyResult) -> list[Section]:
    if not result.findings.notes:
        return []
    items = "".join(f"<li>{unbroken(note)}</li>" for note in result.findings.notes)
    return [Section("notes", "How to read the numbers", f'<ul class="notes">{items}</ul>')]


def _settings(result: StudyResult) -> Section:
    record = tables.public({key: value for key, value in result.record.items() if key not in ("study", "title")})
    shown = (("Settings of the study", result.record.get("study", {})), ("Versions, machine and seeds", record))
    body = "".join(
        f"<details><summary>{title}</summary>{tables.settings(data, title)}</details>" for title, data in shown
    )
    return Section("settings", "Settings", body)


def _again(result: StudyResult) -> list[Section]:
    command = result.record.get("command")
    if not command:
        return []
    body = lead("One click selects the whole command.") + f'<pre tabindex="0"><code>{escape(command)}</code></pre>'
    return [Section("again", "Make it again", body)]
