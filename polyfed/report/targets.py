"""How soon each arm reaches a target: rounds, run time and bytes until a score is there for the first time."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import Estimate
from polyfed.report import tables, wording
from polyfed.report.arms import Entry
from polyfed.report.blocks import Section, Story, heading, lead
from polyfed.report.measure import ACCURACY

ACCURACIES = (80.0, 90.0, 95.0)  # per cent
FRACTIONS = (0.5, 0.75, 0.9)  # of the best arm's final score, where a score has no absolute scale


@dataclasses.dataclass(frozen=True)
class Targets:
    """What is to be reached in one run.

    Attributes:
      scores: In the unit that is shown.
      labels: One per score.
      words: How they were chosen, for a reader.
    """

    scores: tuple[float, ...]
    labels: tuple[str, ...]
    words: str


def targets(run: list[Entry]) -> Targets | None:
    """The targets of a run; `None` where nobody trained, or no arm ends with a number."""
    if run[0].arm.rounds[-1] <= 0:
        return None
    if run[0].measure == ACCURACY:
        return Targets(ACCURACIES, tuple(f"{score:g} %" for score in ACCURACIES), "")
    finals = [_final(entry) for entry in run]
    known = [(value, entry) for value, entry in zip(finals, run, strict=True) if math.isfinite(value)]
    if not known:
        return None
    best, whose = max(known, key=lambda pair: pair[0])
    level = wording.number(best, wording.places([_plain(best)]))
    words = f"of the final {whose.measure.name} of the best arm ({wording.clean(whose.arm.name)}: {level})"
    start = 0.0
    if best <= 0:  # a fraction of a negative score would lie above it
        starts = [float(statistics.interquartile_mean(entry.judged[0])) for _, entry in known]
        start = min((value for value in starts if math.isfinite(value)), default=best)
        if not start < best:
            return None
        words = f"of the way from the lowest {whose.measure.name} before training to the final one of the best arm"
        words += f" ({wording.clean(whose.arm.name)}: {level})"
    scores = tuple(start + share * (best - start) for share in FRACTIONS)
    decimals = wording.places([_plain(score) for score in scores])
    labels = tuple(
        f"{100 * share:.0f} %: {wording.number(score, decimals)}"
        for share, score in zip(FRACTIONS, scores, strict=True)
    )
    return Targets(scores, labels, words)


def _final(entry: Entry) -> float:
    return float(statistics.interquartile_mean(statistics.final_window(entry.arm.rounds, entry.judged)))


def _plain(value: float) -> Estimate:
    return Estimate(np.asarray(value), np.asarray(np.nan), np.asarray(np.nan), 1)


def target_table(run: list[Entry], aims: Targets) -> str:
    """One row per arm, one column per target: rounds with interval, seconds, bytes and how many seeds got there."""
    rows = []
    for entry in run:
        per_round = entry.seconds[-1] / max(1, entry.arm.rounds[-1])
        speed = [wording.duration(float(x)) if entry.arm.seconds > 0 else wording.MISSING
                 for x in (per_round, entry.arm.compile_seconds)]  # fmt: skip
        rows.append([tables.arm_name(entry), *(_reached(entry, score) for score in aims.scores), *speed])
    head = ["Arm", *(tables.escape(label) for label in aims.labels), "One round", "Compiling"]
    return tables.table("Rounds until a target is reached", head, rows)


def _reached(entry: Entry, score: float) -> str:
    """`12 [10, 14]`, `4.1 s, 3.8 MB`, `5 of 5 seeds` on three lines; HTML."""
    last = int(entry.arm.rounds[-1])
    rounds = statistics.first_reach(entry.arm.rounds, entry.judged, score)
    got = f"{int(np.isfinite(rounds).sum())} of {entry.num_seeds}"
    found = statistics.estimate_median(rounds)
    if not math.isfinite(float(found.value)):
        return f'<span class="never">not reached in {last}</span> <span class="interval">({got})</span>'
    bounds = f" [{_bound(found.low, last)}, {_bound(found.high, last)}]" if found.has_interval else ""
    costs = [wording.byte_count(_median(entry, entry.arm.bytes, score))]
    if entry.arm.seconds > 0:
        costs.insert(0, wording.duration(_median(entry, entry.seconds, score)))
    seeds = f"{got} seed{'s' * (entry.num_seeds > 1)}"
    return f"<b>{float(found.value):g}</b>{bounds}" + "".join(
        f'<span class="interval">{line}</span>' for line in (" · ".join(costs), seeds)
    )


def _median(entry: Entry, positions: np.ndarray, score: float) -> float:
    return float(statistics.estimate_median(statistics.first_reach(positions, entry.judged, score)).value)


def _bound(value: np.ndarray, last: int) -> str:
    return f"{float(value):g}" if math.isfinite(float(value)) else f"&gt;{last}"


def target_section(story: Story) -> Section | None:
    """How soon each arm gets where."""
    body = ""
    for run in story.by_run:
        if (aims := targets(run)) is not None:
            body += heading(story, run) + _lead(run, aims) + target_table(run, aims)
    return Section("target", "To a target", body) if body else None


def _lead(run: list[Entry], aims: Targets) -> str:
    """What is counted, by whom it is judged, and what the brackets mean."""
    measure = run[0].measure
    judge = measure.in_held_out if run[0].held_out_columns else f"the clients’ {measure.world}s"
    text = f"Rounds until the {measure.name} that clients would get, on average over {judge}, first reaches a target"
    if run[0].held_out_columns and len(run[0].held_out_columns) == 1:
        text = text.replace(", on average over ", " on ")
    text += f", a share {tables.escape(aims.words)}" * bool(aims.words) + ". "
    text += (
        "Median over seeds; in brackets the seeds’ interval, from the lowest to the highest where there are fewer than "
        "6. Below stand run time and bytes up to there. Run time is the arm’s divided by its seeds, which run at once, "
        "and spread evenly over rounds; evaluations count, compiling stands apart."
    )
    return lead(text)
