"""System welfare: what all agents together earn while they learn, where they keep policies of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import Estimate
from polyfed.report import figures, tables, wording
from polyfed.report.blocks import Section, Story, beside, heading, lead
from polyfed.report.curves import band, dress, thousands
from polyfed.report.figures import Drawing, Style
from polyfed.report.fleet import Fleet, Trained, fleet
from polyfed.report.heatmap import thin
from polyfed.report.targets import FRACTIONS
from polyfed.report.welfare_scores import rounds_until, smoothed, welfare

LAST = 100  # episodes (or rounds) of a column of their own, as in the published tables
MOST_POINTS = 60  # of a curve


def welfare_section(story: Story) -> Section | None:
    """What all agents earn together while they learn."""
    body, drawings = "", []
    for run, name in zip(story.by_run, story.file_names("welfare"), strict=True):
        if (found := fleet(run)) is not None:
            drawings.append(welfare_figure(found, story.looks([arm.entry for arm in found.arms]), name))
            body += heading(story, run) + beside(_about_welfare(found), drawings[-1]) + welfare_table(found)
    return Section("welfare", "System welfare", body, tuple(drawings)) if drawings else None


def _about_welfare(found: Fleet) -> str:
    aims = levels(found)
    text = (
        "System welfare is the mean over agents of the return of training episodes, exploration included. Levels: "
        "interquartile mean over seeds with its 95 % interval, whole seeds resampled; the difference to learning alone "
        f"is paired by seed. The curve is the mean of the last {found.arms[0].window * found.arms[0].episodes} "
        f"{found.unit} of every agent"
    )
    if aims:
        where = "" if min(score for _, score in aims) > 0 else ", counted from the lowest start"
        text += (
            f". The last columns say after how many {found.unit} of an agent it first reaches a share of the best "
            f"arm’s welfare over the last tenth{where}: median over seeds, in brackets the seeds’ interval"
        )
    return lead(text + ".")


def levels(found: Fleet) -> tuple[tuple[str, float], ...]:
    """Labels and levels to be reached: shares of the way from 0, or from the lowest start if below, to the best end."""
    ends = [float(statistics.interquartile_mean(arm.tail)) for arm in found.arms]
    begins = [float(statistics.interquartile_mean(smoothed(arm.returns, arm.window)[0])) for arm in found.arms]
    best = max((end for end in ends if math.isfinite(end)), default=math.nan)
    start = 0.0 if best > 0 else min((x for x in begins if math.isfinite(x)), default=math.nan)
    if not start < best:
        return ()
    scores = [start + share * (best - start) for share in FRACTIONS]
    decimals = max(0, 1 - math.floor(math.log10(best - start)))
    return tuple(
        (f"{100 * share:.0f} %: {wording.number(score, decimals)}", score)
        for share, score in zip(FRACTIONS, scores, strict=True)
    )


def welfare_table(found: Fleet) -> str:
    """One row per arm: welfare over all rounds and the last ones, beyond learning alone, and how soon it got where."""
    aims, rows = levels(found), []
    short = any(len(arm.returns) <= arm.rounds(LAST) for arm in found.arms)
    for arm in found.arms:
        shown = [welfare(arm.returns), *([] if short else [welfare(arm.returns, arm.rounds(LAST))]), arm.tail]
        cells = [tables.interval(statistics.estimate_iqm(row[:, None])) for row in shown]
        beyond = wording.MISSING
        if arm is not found.alone:
            gain = statistics.paired_difference(arm.tail, found.alone.tail)
            beyond = tables._judged(gain, arm.entry)
        rows.append([tables.arm_name(arm.entry), *cells, beyond, *(_reached(arm, level) for _, level in aims)])
    heads = ["All rounds", *([] if short else [f"Last {LAST} {found.unit}"]), "Last tenth", "Beyond learning alone"]
    heads += [tables.escape(label) for label, _ in aims]
    return tables.table("System welfare", ["Arm", *heads], rows)


def _reached(arm: Trained, level: float) -> str:
    """`589 [540, 610]` and `5 of 5 seeds`; HTML."""
    when = arm.episodes * rounds_until(arm.returns, level, arm.window)
    last, got = arm.episodes * len(arm.returns), f"{int(np.isfinite(when).sum())} of {len(when)}"
    found = statistics.estimate_median(when)
    if not math.isfinite(float(found.value)):
        return f'<span class="never">not reached in {last}</span> <span class="interval">({got})</span>'
    bounds = [f"{float(x):g}" if math.isfinite(float(x)) else f"&gt;{last}" for x in (found.low, found.high)]
    interval = f" [{', '.join(bounds)}]" if found.has_interval else ""
    return f'<b>{float(found.value):g}</b>{interval}<span class="interval">{got} seeds</span>'


def welfare_figure(found: Fleet, styles: Sequence[Style], name: str) -> Drawing:
    """Smoothed welfare over training, one line per arm, 95 % bands over seeds."""
    labels = [arm.entry.label for arm in found.arms]
    with figures.canvas(215 + figures.legend_height(labels)) as figure:
        axes, handles, ends = figure.add_subplot(), [], []
        for turn, (arm, style) in enumerate(zip(found.arms, styles, strict=True)):
            curve = smoothed(arm.returns, arm.window)
            places = thin(len(curve), MOST_POINTS)
            along = arm.episodes * (np.array(places) + arm.window)
            handles.append(band(axes, along, _over_seeds(curve[places]), style, turn))
            ends.append(f"{labels[turn]} {wording.estimate(statistics.estimate_iqm(arm.tail[:, None]))}")
        dress(axes, "System welfare: mean training return", f"{found.unit} of an agent")
        axes.xaxis.set_major_formatter(thousands)
        figures.legend(figure, handles, labels)
        described = f"One line per arm, mean over agents. Over the last tenth: {'; '.join(ends)}."
        return figures.finish(figure, name, "System welfare over training", described)


def _over_seeds(curve: np.ndarray) -> Estimate:
    """`[N, S]` to `[N]`; NaN where a seed has no number, without the time that resampling takes there."""
    known = np.isfinite(curve).all(axis=1)
    found = statistics.estimate_iqm(np.where(known[:, None], curve, 0.0)[..., None])
    value, low, high = (np.where(known, x, np.nan) for x in (found.value, found.low, found.high))
    return Estimate(value, low, high, found.num_seeds)
