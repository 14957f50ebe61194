"""What the front of average against worst case says, in sentences that claim no more than the intervals do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polyfed.evaluation.statistics import Estimate
from polyfed.report import front, tables, wording
from polyfed.report.arms import comparable
from polyfed.report.blocks import lead
from polyfed.report.robust_scores import ALL, KINDS, Bench, differences
from polyfed.report.verdict import HELPED, HURT, UNDECIDED, UNKNOWN, outcome, shortfall


def about_front(bench: Bench) -> str:
    """How to read the figure, then what it says; HTML."""
    text = (
        "One point per arm: to the right is better on average, up is better in the worst case, bars are 95 % intervals "
        "over seeds. Methods on the front, where no other is at least as good in both, are named and joined by the "
        "broad band; hollow points are dominated."
    )
    if len(_methods(bench)) < len(bench.arms):
        text += " Baselines, grey, are there to compare with and take no part in the front."
    found = front.points(bench)
    if far := front.outside(bench, found):
        level = bench.arms[0].entry.measure.level
        said_of = [
            f"{bench.arms[i].entry.label} ({level(found[i][0])} on average, {level(found[i][1])} in the worst case)"
            for i in far
        ]
        text += f" Far outside, and not drawn: {tables.escape(wording.listing(said_of))}."
    if bench.omegas:
        text += " The thin line joins the arms in the order of ω, the share of the worst successor in the target."
    if len(_methods(bench)) > 2:
        text += " The best of several is picked by the seeds that also judge it, which flatters it a little."
    said = "".join(f"<p>{tables.unbroken(sentence)}</p>" for sentence in front_sentences(bench))
    return lead(text) + said


def front_sentences(bench: Bench) -> list[str]:
    """What the front says: who is best on average and in the worst case, and whether that can be told."""
    found = front.points(bench)
    places = front.front_of(bench, found)
    if not places:
        return ["No method has numbers in all test worlds, so there is no front."]
    average, worst = places[0], places[-1]
    level, names = bench.arms[0].entry.measure.level, [bench.name(tested) for tested in bench.arms]
    if average == worst:
        others = [found[i] for i in _methods(bench) if i != average]
        on_average, at_worst = map(level, found[average])
        if not others:
            return [f"{names[average]} is the only method: {on_average} on average, {at_worst} in the worst case."]
        text = f"{names[average]} is highest both on average, {on_average}, and in the worst case, {at_worst}: "
        return [text + "the front is this one arm.", *_overlaps(found[average], others)]
    text = (
        f"On average {names[average]} is highest, {level(found[average][0])}; in the worst case {names[worst]}, "
        f"{level(found[worst][1])}. On the front, from the best average to the best worst case: "
        f"{wording.listing([names[i] for i in places], 12)}."
    )
    return [text, *_between(bench, average, worst, found)]


def _methods(bench: Bench) -> list[int]:
    chosen = [i for i, tested in enumerate(bench.arms) if not tested.entry.arm.baseline]
    return chosen or list(range(len(bench.arms)))


def _between(bench: Bench, average: int, worst: int, found: Sequence[front.Point]) -> list[str]:
    """Whether the two ends of the front can be told apart: do intervals overlap, and what do paired seeds show."""
    ours, theirs = bench.arms[average], bench.arms[worst]
    names, said = (bench.name(ours), bench.name(theirs)), []
    if found[average][0].has_interval:
        words = [
            f"{'overlap' if overlap(found[average][i], found[worst][i]) else 'do not overlap'} "
            f"{('on average', 'in the worst case')[i]}"
            for i in range(2)
        ]
        joint = " and " if words[0].startswith("do") == words[1].startswith("do") else ", but "
        said.append(f"The intervals of {names[0]} and {names[1]} {words[0]}{joint}{words[1]}.")
    if comparable(ours.entry, theirs.entry):
        shown = []
        for kind, gain in zip(KINDS, differences(ours, theirs, bench.sets[ALL]), strict=True):
            result = {
                HELPED: f"{names[0]} is better", HURT: f"{names[1]} is better", UNKNOWN: "not a number",
                UNDECIDED: shortfall(ours.entry.num_seeds),
            }[outcome(gain)]  # fmt: skip
            shown.append(f"{kind} {ours.entry.measure.difference(gain)} ({result})")
        said.append(f"Paired by seed, {names[0]} minus {names[1]}: {'; '.join(shown)}.")
    return said


def _overlaps(best: front.Point, others: Sequence[front.Point]) -> list[str]:
    if not best[0].has_interval:
        return []
    counts = [sum(overlap(best[i], other[i]) for other in others) for i in range(2)]
    return [
        f"Its interval overlaps that of {counts[0]} of {wording.count(len(others), 'other method')} on average, and of "
        f"{counts[1]} in the worst case."
    ]


def overlap(one: Estimate, other: Estimate) -> bool:
    """Whether two intervals have a point in common.

    >>> overlap(wording._example(1.0, 0.0, 2.0), wording._example(3.0, 2.5, 4.0))
    False
    """
    return bool(np.maximum(one.low, other.low) <= np.minimum(one.high, other.high))
