"""Individual improvement: who gains from a federation of agents with policies of their own, and who loses."""

from __future__ import annotations

from collections.abc import Sequence

from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import Estimate
from polyfed.report import forest, tables, wording
from polyfed.report.blocks import Section, Story, beside, heading, lead
from polyfed.report.figures import Drawing, Style
from polyfed.report.fleet import Fleet, Trained, fleet
from polyfed.report.heatmap import thin
from polyfed.report.measure import RETURN
from polyfed.report.verdict import HELPED, HURT, UNDECIDED
from polyfed.report.welfare_scores import improvement, last_tenth, per_agent, who_gains

Pairs = Sequence[tuple[Trained, Estimate]]  # an arm, and the gains `[C]` of its agents
_MARKS = {HELPED: "▲", HURT: "▼", UNDECIDED: "○"}


def improvement_section(story: Story) -> Section | None:
    """Who gains from the federation, and who loses."""
    body, drawings = "", []
    for run, name in zip(story.by_run, story.file_names("improvement"), strict=True):
        if (found := fleet(run)) is not None:
            pairs = [(arm, improvement(arm.returns, found.alone.returns)) for arm in found.federated]
            looks = story.looks([arm.entry for arm, _ in pairs])
            drawings.append(improvement_figure(found, pairs, looks, name))
            body += heading(story, run) + _findings(found, pairs)
            body += beside(improvement_table(found, pairs), drawings[-1])
    text = lead(
        "Mean training return of an agent over the last tenth of training, minus that of the same agent learning alone "
        "with the same seed. Whole seeds are resampled; each interval is 95 % on its own. An interval that holds zero "
        "shows no difference, which is not the same as none."
    )
    return Section("improvement", "Individual improvement", text + body, tuple(drawings)) if drawings else None


def _findings(found: Fleet, pairs: Pairs) -> str:
    rows = []
    for arm, gains in pairs:
        rows.append(f"<dt>{tables.escape(arm.entry.label)} against learning alone</dt>")
        rows += [
            f'<dd><span class="mark" aria-hidden="true">{_MARKS.get(result, "")}</span>{tables.unbroken(text)}</dd>'
            for result, text in who_gains(found.labels, gains)
        ]
    return f'<dl class="findings">{"".join(rows)}</dl>'


def improvement_table(found: Fleet, pairs: Pairs) -> str:
    """One row per agent: what it earns alone, and what each arm gives beyond that."""
    alone = per_agent(found.alone.returns, last_tenth(len(found.alone.returns)))
    rows = []
    for place, label in enumerate(found.labels):
        level = tables.interval(statistics.estimate_iqm(alone[:, place : place + 1]))
        rows.append([tables.unbroken(label), level, *(tables._judged(gains[place], a.entry) for a, gains in pairs)])
    average = [tables._judged(_average(arm, found), arm.entry) for arm, _ in pairs]
    total = tables.interval(statistics.estimate_iqm(found.alone.tail[:, None]))
    rows.append(["Average over agents", total, *average])
    heads = ["Agent", "Alone", *(f"{tables.escape(arm.entry.arm.name)}: gain" for arm, _ in pairs)]
    return tables.table("Individual improvement", heads, rows)


def _average(arm: Trained, found: Fleet) -> Estimate:
    return statistics.paired_difference(arm.tail, found.alone.tail)


def improvement_figure(found: Fleet, pairs: Pairs, styles: Sequence[Style], name: str) -> Drawing:
    """A point with its interval per agent and arm."""
    labels = found.labels
    shown = thin(len(labels), forest.MOST) if len(pairs) <= forest.FEW_ARMS else []
    rows = [(labels[place], [gains[place] for _, gains in pairs]) for place in shown]
    rows.append(("average over agents", [_average(arm, found) for arm, _ in pairs]))
    arms = [(wording.clean(arm.entry.arm.name), style) for (arm, _), style in zip(pairs, styles, strict=True)]
    title, axis = "Individual improvement", "training return over learning alone"
    return forest.differences(rows, arms, RETURN, name=name, title=title, axis=axis)
