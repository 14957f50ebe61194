"""The report: one HTML file that needs no network and no script, and its figures as files."""

from __future__ import annotations

import importlib.resources
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from polyfed.evaluation.results import RunResult
from polyfed.report import wording
from polyfed.report.arms import entries
from polyfed.report.blocks import Section, Story
from polyfed.report.figures import Drawing
from polyfed.report.measure import RETURN
from polyfed.report.sections import SECTIONS
from polyfed.report.tables import escape

# The browser itself refuses scripts and every request.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_FINISHED = {"", "done", "finished", "complete", "completed", "ok"}


def write_report(runs: Sequence[RunResult], path: Path, figures: Path | None = None) -> None:
    """Writes the report on one or several runs.

    Every file is written beside its place and renamed, so a report that is there is whole.

    Args:
      runs: What was found; several are compared side by side.
      path: The HTML file; its folder is made.
      figures: Folder of the figures, each as SVG and PNG; by default `<name of the report>-figures` beside it.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: There is nothing to report, or runs measure different things.

    >>> import numpy as np
    >>> from polyfed.evaluation.results import ArmResult
    >>> arm = ArmResult("fedavg", baseline=False, personal=False, rounds=np.arange(3), steps=100 * np.arange(3),
    ...     bytes=7000 * np.arange(3), policies=("global",), environments=("client-0",), returns=np.ones((3, 2, 1, 1)),
    ...     metrics={}, experiment={"rounds": 2}, seconds=1.0, compile_seconds=0.5)
    >>> run = RunResult("tiny", "A cart-pole", "polyfed run tiny", {"fedavg": arm}, worlds={}, units={}, record={})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report([run], Path(folder) / "report.html")
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['report-figures', 'report.html']
    """
    if not any(run.arms for run in runs):
        raise ValueError(
            "There is nothing to report: no run with a finished arm was given. Name at least one run folder."
        )
    if len(measures := dict.fromkeys(run.measure for run in runs if run.arms)) > 1:
        raise ValueError(
            f"The runs measure {wording.listing([*measures])}, which cannot stand on one axis: "
            "write a report for each kind."
        )
    path = Path(path)
    folder = path.with_name(f"{path.stem}-figures") if figures is None else Path(figures)
    story = Story.of(entries([run for run in runs if run.arms]))
    sections = [section for make in SECTIONS if (section := make(story)) is not None]
    runs = [run[0].run for run in story.by_run]
    title = runs[0].title or runs[0].name if len(runs) == 1 else f"{len(runs)} runs compared"
    write_document(path, folder, sections, title=title, eyebrow=_eyebrow(story), status=_unfinished(runs))


def write_document(
    path: Path, folder: Path, sections: Sequence[Section], *, title: str, eyebrow: str, status: str = ""
) -> None:
    """Writes a page of sections, the first of them without heading, and its figures.

    Args:
      path: The HTML file; its folder is made.
      folder: Of the figures, each as SVG and PNG.
      sections: In the order in which they are read.
      title: Plain text.
      eyebrow: What stands above the title; HTML.
      status: What stands below it; HTML.
    """
    for section in sections:
        for drawing in section.drawings:
            _save(drawing, folder)
    _write(path, _document(sections, title, eyebrow, status).encode())


def _document(sections: Sequence[Section], title: str, eyebrow: str, status: str) -> str:
    style = importlib.resources.files("polyfed.report").joinpath("page.css").read_text(encoding="utf-8")
    links = "".join(f'<li><a href="#{s.anchor}">{s.title}</a></li>' for s in sections if s.anchor != "verdict")
    body = "".join(_section(section) for section in sections)
    body = re.sub(r"(?<=\d) %", "\u00a0%", body)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="generator" content="polyfed">
<title>{escape(title)} – polyfed report</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">{eyebrow}</p>
<h1>{escape(title)}</h1>
{status}
</header>
{body.replace("</section>", f'</section><nav aria-label="Contents"><ul>{links}</ul></nav>', 1)}
<footer>Made by polyfed: federated reinforcement learning for agents that differ. Intervals are 95 %.</footer>
</main>
</body>
</html>
"""


def _section(section: Section) -> str:
    hidden = ' class="unseen"' if section.anchor == "verdict" else ""
    return (
        f'<section id="{section.anchor}" aria-labelledby="{section.anchor}-heading">'
        f'<h2 id="{section.anchor}-heading"{hidden}>{section.title}</h2>{section.body}</section>\n'
    )


def _eyebrow(story: Story) -> str:
    facts = []
    for run in story.by_run:
        first = run[0]
        held_out = len(first.held_out_columns)
        judge = f"{held_out} held-out" if first.measure == RETURN else wording.count(held_out, first.measure.held_out)
        facts.append(
            f"{escape(first.run_label)} · {wording.count(len(first.client_columns), 'client')}"
            + (f" and {judge}" if held_out else "")
            + f" · {wording.count(first.num_seeds, 'seed')}"
        )
        if created := first.run.record.get("created"):
            facts[-1] += f" · {escape(created)}"
    return "<br>".join(facts)


def _unfinished(runs: Sequence[RunResult]) -> str:
    found = [
        f'<p class="caution">The status of {escape(run.name)} is “{escape(run.record["status"])}”: '
        "what follows may be only part of the run.</p>"
        for run in runs
        if str(run.record.get("status", "")).lower() not in _FINISHED
    ]
    return "".join(found)


def _save(drawing: Drawing, folder: Path) -> None:
    _write(folder / f"{drawing.name}.svg", drawing.svg.encode())
    _write(folder / f"{drawing.name}.png", drawing.png)


def _write(path: Path, content: bytes) -> None:
    """Writes beside, then renames; what was there stays until the new file is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
