"""Per cent of the optimum: every arm, and known rules, beside the best that the same episodes allowed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import Estimate
from polyfed.report import forest, tables, wording
from polyfed.report.arms import LOCAL_ONLY, Entry, environment_label
from polyfed.report.blocks import Section, Story, beside, heading, lead
from polyfed.report.figures import Drawing, Style
from polyfed.report.heatmap import thin
from polyfed.report.optimum_scores import PER_CENT, Standing, standing
from polyfed.report.tables import escape


def optimum_section(story: Story) -> Section | None:
    """Table and figure of every run whose environment knows its optimum; nothing where none does."""
    body, drawings = "", []
    for run, name in zip(story.by_run, story.file_names("optimum"), strict=True):
        if (found := standing(run)) is not None:
            drawings.append(optimum_figure(found, story.looks(run), name))
            body += heading(story, run) + beside(_about(found), drawings[-1]) + optimum_table(found)
            body += f"<details><summary>Per environment</summary>{environments_table(found)}</details>"
    return Section("optimum", "Per cent of the optimum", body, tuple(drawings)) if drawings else None


def _about(found: Standing) -> str:
    text = (
        f"0 % is the return of “{escape(found.floor)}”, 100 % the highest that any policy could have had in the very "
        "episodes of the evaluation, also one that knows the future; no policy need come near to it. Final window; "
        "interquartile mean over seeds of the mean over clients, or of the client that stands worst, with its 95 % "
        "interval, whole seeds resampled."
    )
    if found.rules:
        names = escape(wording.listing(list(found.rules), 8))
        text += f" Known rules ({names}) played the same episodes; lines mark them in the figure."
    if found.idle:
        text += f" Left out: {wording.count(found.idle, 'environment')} in which there is nothing to gain."
    return lead(text)


def optimum_table(found: Standing) -> str:
    """One row per arm and known rule: average, worst client, held-out, and what it has beyond learning alone."""
    alone = next((scores for entry, scores in found.arms if entry.arm.name == LOCAL_ONLY), None)
    names = [tables.arm_name(entry) for entry, _ in found.arms]
    names += [f'{escape(rule)} <span class="tag">rule</span>' for rule in found.rules]
    every: list[tuple[Entry | None, np.ndarray]] = [*found.arms, *((None, scores) for scores in found.rules.values())]
    levels = [(found.average(x), found.worst_case(x), *_listed(found.on_held_out(x))) for _, x in every]
    decimals = [PER_CENT.places(column) for column in zip(*levels, strict=True)]
    rows = []
    for name, (entry, scores), row in zip(names, every, levels, strict=True):
        cells = [tables.interval(one, shown) for one, shown in zip(row, decimals, strict=True)]
        if alone is not None:
            cells += _beyond(found, entry, scores, alone)
        rows.append([name, *cells])
    heads = ["Average", "Worst client", *(["Held-out"] if found.held_out else [])]
    beyond = ["Average beyond learning alone", "worst client"] if alone is not None else []
    return tables.table("Per cent of the optimum", ["Arm", *map(PER_CENT.column, heads), *beyond], rows)


def _listed(found: Estimate | None) -> list[Estimate]:
    return [] if found is None else [found]


def _beyond(found: Standing, entry: Entry | None, scores: np.ndarray, alone: np.ndarray) -> list[str]:
    """Differences to learning alone, paired by seed; HTML."""
    if entry is None or scores is alone or len(scores) != len(alone):
        return [wording.MISSING] * 2
    both = [statistics.paired_difference(of(scores), of(alone)) for of in (found.means, found.worst)]
    return [tables._judged(gain, entry) for gain in both]


def environments_table(found: Standing) -> str:
    """One row per environment: the level of every arm and of every known rule."""
    first = found.arms[0][0]
    every = [*(scores for _, scores in found.arms), *found.rules.values()]
    rows = []
    for column in (*found.clients, *found.held_out):
        levels = [found.each(scores, column) for scores in every]
        cells = [tables.interval(level, PER_CENT.places([level])) for level in levels]
        rows.append([tables.unbroken(environment_label(first.run, first.arm, column)), *cells])
    heads = [escape(name) for name in (*(entry.arm.name for entry, _ in found.arms), *found.rules)]
    return tables.table("Per cent of the optimum in each environment", ["Environment", *heads], rows)


def optimum_figure(found: Standing, styles: Sequence[Style], name: str) -> Drawing:
    """Per client a point with its interval for every arm; known rules are lines, the optimum is the end at 100."""
    first, arms = found.arms[0][0], [scores for _, scores in found.arms]
    places = thin(len(found.clients), forest.MOST) if len(arms) <= forest.FEW_ARMS else []
    shown = [found.clients[place] for place in places]
    rows = [
        (
            environment_label(first.run, first.arm, column),
            [found.each(scores, column) for scores in arms],
            [float(found.each(scores, column).value) for scores in found.rules.values()],
        )
        for column in shown
    ]
    for label, of in (("average over clients", found.average), ("worst client", found.worst_case)):
        rows.append((label, [of(scores) for scores in arms], [float(of(x).value) for x in found.rules.values()]))
    labels = [(wording.clean(entry.arm.name), style) for (entry, _), style in zip(found.arms, styles, strict=True)]
    rules = [wording.clean(rule) for rule in found.rules]
    title = f"Per cent of the optimum: {wording.clean(first.run.name)}"
    return forest.levels(rows, labels, rules, PER_CENT, name=name, title=title)
