"""What a run showed, in words that claim no more than the intervals do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import FEW_SEEDS, Estimate
from polyfed.report import wording
from polyfed.report.arms import LOCAL_ONLY, POOLED, Entry, environment_label, methods
from polyfed.report.measure import ACCURACY
from polyfed.report.optimum_scores import in_words, standing

_POOLED = (" (one agent that may use everyone’s world)", " (one model trained on everyone’s data)")  # accuracy: last
HELPED, HURT, UNDECIDED, UNKNOWN = "helped", "hurt", "undecided", "unknown"


MANY = 4  # methods; of more, all but the first are summed up
Finding = tuple[str, tuple[tuple[str, str], ...]]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A headline, the findings that carry it, and what limits it.

    Attributes:
      headline: One sentence.
      findings: Comparisons, each with its clauses, each of which is an outcome and what is said.
      cautions: Sentences.
      standing: Where all stand between doing nothing and the optimum, a sentence; empty where no optimum is known.
    """

    headline: str
    findings: tuple[Finding, ...]
    cautions: tuple[str, ...]
    standing: str = ""


def outcome(gain: Estimate) -> str:
    """What a paired difference shows: `helped` or `hurt` only where the whole interval lies on one side of zero.

    Below `FEW_SEEDS` seeds nothing is claimed; a NaN difference is `unknown`.

    >>> outcome(Estimate(np.array(31.0), np.array(12.0), np.array(50.0), num_seeds=5))
    'helped'
    >>> outcome(Estimate(np.array(31.0), np.array(12.0), np.array(50.0), num_seeds=3))
    'undecided'
    """
    if not math.isfinite(float(gain.value)):
        return UNKNOWN
    if gain.num_seeds < FEW_SEEDS:
        return UNDECIDED
    return HELPED if gain.low > 0 else HURT if gain.high < 0 else UNDECIDED


def gains(entry: Entry, baseline: Entry) -> Estimate:
    """`[C]`: per client, the final score of one arm minus that of another, paired by seed."""
    return statistics.paired_difference(entry.final.T, baseline.final.T)


def average_difference(entry: Entry, baseline: Entry) -> Estimate:
    """Difference of the mean over clients, paired by seed."""
    return statistics.paired_difference(entry.final.mean(axis=1), baseline.final.mean(axis=1))


def worst_case_difference(entry: Entry, baseline: Entry) -> Estimate:
    """Difference of the worst client's score, paired by seed."""
    return statistics.paired_difference(entry.final.min(axis=1), baseline.final.min(axis=1))


def shortfall(num_seeds: int) -> str:
    """Why nothing can be told from an interval that holds zero.

    >>> shortfall(1), shortfall(3)
    ('one seed cannot tell', '3 seeds are too few to tell')
    """
    if num_seeds == 1:
        return "one seed cannot tell"
    if num_seeds < FEW_SEEDS:
        return f"{num_seeds} seeds are too few to tell"
    return f"no difference that {num_seeds} seeds can show"


def headline(label: str, outcomes: Sequence[str], num_seeds: int, scores: str = "returns") -> str:
    """One sentence: how many clients a federated arm helped and hurt.

    >>> headline("fedwb", ["helped", "undecided", "helped"], 5)
    'Federation (fedwb) helped 2 of 3 clients; 5 seeds cannot show a difference for the other one.'
    >>> headline("fedwb", ["undecided"] * 3, 1)
    'One seed cannot show whether federation (fedwb) helped.'
    """
    total, helped, hurt = len(outcomes), outcomes.count(HELPED), outcomes.count(HURT)
    undecided, unknown = outcomes.count(UNDECIDED), outcomes.count(UNKNOWN)
    if num_seeds == 1:
        return f"One seed cannot show whether federation ({label}) helped."
    if num_seeds < FEW_SEEDS:
        return f"{num_seeds} seeds are too few to show whether federation ({label}) helped."
    if unknown == total:
        return f"Whether federation ({label}) helped cannot be said: its {scores} are not numbers."
    if undecided == total:
        return f"{num_seeds} seeds cannot show that federation ({label}) helped or hurt any client."
    text = f"Federation ({label}) "
    if helped and hurt:
        text += f"helped {helped} of {total} clients and hurt {hurt}"
    elif helped or hurt:
        text += ("helped " if helped else "hurt ") + _of_all(helped or hurt, total)
    else:
        text += "neither helped nor hurt a client for sure"
    others = "the other " + ("one" if undecided == 1 else str(undecided)) if helped or hurt else str(undecided)
    text += f"; {num_seeds} seeds cannot show a difference for {others}" if undecided else ""
    text += f"; for {wording.count(unknown, 'client')} the {scores} are not numbers" if unknown else ""
    return text + "."


def _of_all(number: int, total: int) -> str:
    if number < total:
        return f"{number} of {total} clients"
    return "the only client" if total == 1 else "both clients" if total == 2 else f"all {total} clients"


def verdict(of: Sequence[Entry]) -> Verdict:
    """What the arms of one run showed: per client against learning alone, then against each other.

    Args:
      of: The arms of one run. The headline is about the first that is no baseline.
    """
    federated = methods(of)
    placed = "" if (found_standing := standing(of)) is None else in_words(found_standing)
    if not federated:
        return Verdict("This run has baselines only: there is no federation to judge.", (), (), placed)
    first = federated[0]
    alone = first.baseline(LOCAL_ONLY)
    findings: list[Finding] = []
    if alone is None:
        head = f"This run has no {LOCAL_ONLY} arm: it cannot say whether federation helped."
    else:
        found = gains(first, alone)
        head = headline(first.arm.name, [outcome(gain) for gain in _each(found)], first.num_seeds, first.measure.plural)
        for entry in federated if len(federated) <= MANY else [first]:
            if (own_alone := entry.baseline(LOCAL_ONLY)) is not None:
                findings.append(_against_learning_alone(entry, own_alone))
    if (pooled := first.baseline(POOLED)) is not None:
        findings.append(_head_to_head(first, pooled, note=_POOLED[first.measure.name == ACCURACY.name]))
    rivals = [other for other in federated[1:] if other.num_seeds == first.num_seeds]
    if len(federated) <= MANY:
        findings += [_head_to_head(first, other) for other in rivals]
    else:
        findings += _summed_up(first, federated[1:], rivals)
    return Verdict(wording.clean(head), tuple(findings), tuple(_cautions(first, alone is not None)), placed)


def _each(found: Estimate) -> list[Estimate]:
    return [found[i] for i in range(len(found.value))]


def _against_learning_alone(entry: Entry, alone: Entry) -> Finding:
    by_outcome: dict[str, list[str]] = {}
    for column, gain in zip(entry.client_columns, _each(gains(entry, alone)), strict=True):
        name = environment_label(entry.run, entry.arm, column)
        by_outcome.setdefault(outcome(gain), []).append(f"{name}: {entry.measure.difference(gain)}")
    few = entry.num_seeds < FEW_SEEDS
    openings = {
        HELPED: "helped ",
        HURT: "hurt ",
        UNDECIDED: f"{shortfall(entry.num_seeds)}: " if few else "not distinguishable for ",
        UNKNOWN: "not a number for ",
    }
    clauses = [
        (key, opening + wording.listing(by_outcome[key], 4)) for key, opening in openings.items() if key in by_outcome
    ]
    average, worst = average_difference(entry, alone), worst_case_difference(entry, alone)
    average_text, worst_text = (entry.measure.difference(found) for found in (average, worst))
    clauses.append(("", f"average over clients {average_text}, worst client {worst_text}"))
    return f"{wording.clean(entry.arm.name)} against learning alone", tuple(clauses)


def _head_to_head(entry: Entry, other: Entry, note: str = "") -> Finding:
    name = wording.clean(entry.arm.name)
    compared = []
    for title, found in (
        ("average", average_difference(entry, other)),
        ("worst client", worst_case_difference(entry, other)),
    ):
        says = {
            HELPED: f"{name} is better",
            HURT: f"{name} is worse",
            UNDECIDED: shortfall(entry.num_seeds),
            UNKNOWN: "not a number",
        }[outcome(found)]
        compared.append((outcome(found), says, f"{title} {entry.measure.difference(found)}"))
    if compared[0][1] == compared[1][1]:
        clauses = [(compared[0][0], f"{compared[0][1]}: {compared[0][2]}, {compared[1][2]}")]
    else:
        clauses = [(result, f"{says}: {numbers}") for result, says, numbers in compared]
    return f"{name} against {wording.clean(other.arm.name)}{note}", tuple(clauses)


def _summed_up(first: Entry, others: Sequence[Entry], rivals: Sequence[Entry]) -> list[Finding]:
    """Many methods in few sentences: each against learning alone, then the first against each, by outcome."""
    name, findings = wording.clean(first.arm.name), []
    alone = [(other, baseline) for other in others if (baseline := other.baseline(LOCAL_ONLY)) is not None]
    if alone:
        found = [(other, average_difference(other, baseline)) for other, baseline in alone]
        title = f"The other {wording.count(len(alone), 'method')} against learning alone, average over clients"
        findings.append((title, _by_outcome(found, "better:", "worse:")))
    if rivals:
        found = [(other, average_difference(first, other)) for other in rivals]
        title = f"{name} against the other {wording.count(len(rivals), 'method')}, average over clients"
        findings.append((title, _by_outcome(found, f"{name} is better than", f"{name} is worse than")))
    return findings


def _by_outcome(found: Sequence[tuple[Entry, Estimate]], better: str, worse: str) -> tuple[tuple[str, str], ...]:
    openings = {
        HELPED: better,
        HURT: worse,
        UNDECIDED: shortfall(found[0][0].num_seeds) + ":",
        UNKNOWN: "not a number:",
    }
    clauses = []
    for result, opening in openings.items():
        said = [
            f"{wording.clean(entry.arm.name)} {entry.measure.difference(gain)}"
            for entry, gain in found
            if outcome(gain) == result
        ]
        if said:
            clauses.append((result, f"{opening} {wording.listing(said, 12)}"))
    return tuple(clauses)


def _cautions(first: Entry, has_baseline: bool) -> list[str]:
    cautions = []
    if first.num_seeds == 1:
        cautions.append("One seed: there are no intervals on this page, and no difference on it is evidence.")
    elif first.num_seeds < FEW_SEEDS:
        cautions.append(
            f"Only {first.num_seeds} seeds: the intervals are rough, and with fewer than {FEW_SEEDS} no claim is made."
        )
    num_clients = len(first.client_columns)
    if has_baseline and first.num_seeds >= FEW_SEEDS and num_clients >= 5:
        cautions.append(
            f"Each interval is 95 % on its own: of {num_clients} clients for whom nothing changes, about "
            f"{num_clients * 0.05:.1f} would be expected outside theirs by chance."
        )
    if not np.isfinite(first.final).all():
        cautions.append(
            f"Some {first.measure.plural} are not finite numbers; every figure that rests on them is left out, not "
            "repaired."
        )
    return cautions
