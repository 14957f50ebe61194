"""Robustness: what each arm is worth when the world is not the nominal one, on average and in the worst case."""

from __future__ import annotations

from collections.abc import Sequence

from polyfed.evaluation.statistics import FEW_SEEDS, Estimate
from polyfed.report import front, tables, wording
from polyfed.report.arms import comparable, methods
from polyfed.report.blocks import Section, Story, beside, gallery, lead, slugs
from polyfed.report.front_words import about_front
from polyfed.report.robust_curves import client_changes, perturbation_curve
from polyfed.report.robust_scores import ALL, JOINT, KINDS, Bench, Judged, benches, differences
from polyfed.report.tables import escape
from polyfed.report.verdict import HELPED, HURT, MANY, UNDECIDED, UNKNOWN, outcome, shortfall

Finding = tuple[str, tuple[tuple[str, str], ...]]
FEW_ROWS = 16  # of a table that stands open as a whole


def robustness_section(story: Story) -> Section | None:
    """Curves, front and table of every perturbation test; nothing where there was none."""
    body, drawings = "", []
    found = list(benches(story.entries))
    for bench, suffix in zip(found, _suffixes(story, found), strict=True):
        looks = story.looks([tested.entry for tested in bench.arms])
        plane = front.front_figure(bench, looks, f"front{suffix}")
        lines = [
            perturbation_curve(bench, looks, group, f"{name}{suffix}")
            for group, name in zip(bench.test.groups, slugs(f"robust-{g}" for g in bench.test.groups), strict=True)
        ]
        body += _title(story, bench, len(found)) + _lead(bench) + _findings(bench)
        body += "<h3>Average against worst case</h3>" + beside(about_front(bench), plane)
        body += "<h3>One quantity at a time</h3>" + _about_curves(bench) + gallery(lines)
        body += "<h3>Average and worst case</h3>" + lead(_about_table(bench)) + _tables(bench)
        drawings += [plane, *lines]
    return Section("robustness", "Robustness", body, tuple(drawings)) if found else None


def _about_curves(bench: Bench) -> str:
    text = (
        f"Final {bench.arms[0].entry.measure.name} in worlds in which one quantity is changed and the others are "
        "nominal; bands are 95 % intervals over seeds, and all figures share one scale."
    )
    if any(len(client_changes(bench, group)) for group in bench.test.groups):
        text += " Ticks at the foot are the clients’ worlds: beyond them is extrapolation."
    return lead(text)


def _suffixes(story: Story, found: Sequence[Bench]) -> list[str]:
    names = slugs(bench.arms[0].entry.run_label for bench in found)
    return [f"-{name}" if len(found) > 1 else "" for name in names]


def _title(story: Story, bench: Bench, number: int) -> str:
    runs = dict.fromkeys(tested.entry.run_label for tested in bench.arms)
    return f"<h3>{escape(wording.listing(list(runs)))}</h3>" if number > 1 and story.several else ""


def _lead(bench: Bench) -> str:
    """Which worlds these are, and what average and worst case mean."""
    test, measure = bench.test, bench.arms[0].entry.measure
    reach = wording.percent(test.rho)
    text = (
        f"{test.num_worlds} test worlds: {_groups(bench)}, changed at {test.points} points from −{reach} to +{reach}, "
        "of which the middle one is the nominal world (x&nbsp;=&nbsp;0)"
    )
    text += f", and {test.num_joint} worlds in which all are drawn at once. " if test.num_joint else ". "
    text += (
        f"A seed’s average is the mean, its worst case the lowest, of the final {measure.plural} in these worlds; "
        "then the interquartile mean over seeds with its 95 % interval, whole seeds resampled."
    )
    if any(tested.entry.arm.personal for tested in bench.arms):
        text += f" Where every client has a {measure.policy} of its own, both are the mean over clients."
    if number := bench.worlds_of_clients():
        text += f" {number} of the test worlds are also the world of a client: there the test is not held out."
    return lead(text)


def _groups(bench: Bench) -> str:
    names = [name for name in bench.sets if name not in (ALL, JOINT)]
    return escape(wording.listing(names, limit=8)) + (" (one at a time)" if len(names) > 1 else "")


def first_arm(bench: Bench) -> Judged:
    """The arm that is compared with all others: the first that is no baseline, or the first."""
    chosen = (methods([tested.entry for tested in bench.arms]) or [bench.arms[0].entry])[0]
    return next(tested for tested in bench.arms if tested.entry is chosen)


def robust_table(bench: Bench, titles: Sequence[str]) -> str:
    """For some sets of test worlds one row per arm: nominal, average, worst case, and the first arm minus it.

    Args:
      bench: The arms and their test.
      titles: Which of `bench.sets`.
    """
    first, measure = first_arm(bench), bench.arms[0].entry.measure
    pairs = [(title, tested) for title in titles for tested in bench.arms]
    levels = [_levels(bench, tested, bench.sets[title]) for title, tested in pairs]
    decimals = [measure.places(found for found in column if found is not None) for column in zip(*levels, strict=True)]
    rows = []
    for (title, tested), found in zip(pairs, levels, strict=True):
        cells = [tables.interval(one, shown) for one, shown in zip(found, decimals, strict=True)]
        gains = [wording.MISSING] * 2
        if tested is not first and comparable(first.entry, tested.entry):
            both = differences(first, tested, bench.sets[title])
            gains = [tables._judged(gain, first.entry) for gain in both]
        rows.append([f"{escape(title)} · {tables.arm_name(tested.entry)}", *cells, *gains])
    heads = [*map(measure.column, ("Nominal", "Average", "Worst case"))]
    heads += [f"{escape(first.entry.label)} −&nbsp;arm: average", "worst case"]
    return tables.table("Average and worst case over the test worlds", ["Test worlds · arm", *heads], rows)


def _levels(bench: Bench, tested: Judged, places: Sequence[int]) -> list[Estimate | None]:
    middle = [place for place in bench.test.nominal if place in places]
    return [tested.average(middle) if middle else None, tested.average(places), tested.worst_case(places)]


def _tables(bench: Bench) -> str:
    """All worlds and the joint ones stand open; a long table of single quantities waits until asked for."""
    whole = [title for title in bench.sets if title in (ALL, JOINT)]
    single = [title for title in bench.sets if title not in whole]
    if len(bench.sets) * len(bench.arms) <= FEW_ROWS:
        return robust_table(bench, list(bench.sets))
    summary = f"<summary>{escape(wording.listing(single, 8).capitalize())}</summary>"
    return f"{robust_table(bench, whole)}<details>{summary}{robust_table(bench, single)}</details>"


def _about_table(bench: Bench) -> str:
    name = escape(first_arm(bench).entry.label)
    return (
        f"The last two columns are {name} minus the arm of the row, paired by seed; ▲ and ▼ mark intervals that "
        f"exclude zero with at least {FEW_SEEDS} seeds. Each interval is 95 % on its own, not for all together. "
        "“Nominal” is the world x&nbsp;=&nbsp;0."
    )


def findings(bench: Bench) -> list[Finding]:
    """The first arm against every other, average and worst case; many arms are summed up over all test worlds.

    A finding is a title and its clauses, each an outcome and what is said of it.
    """
    first = first_arm(bench)
    others = [other for other in bench.arms if other is not first and comparable(first.entry, other.entry)]
    name, found = wording.clean(first.entry.label), []
    if len(others) > MANY:
        pairs = {wording.clean(o.entry.label): differences(first, o, bench.sets[ALL]) for o in others}
        for kind, title in enumerate(KINDS):
            clauses = _clauses(first, "", {key: pair[kind] for key, pair in pairs.items()}, " than")
            found.append((f"{name} against the others, {title} over all test worlds", tuple(clauses)))
        return found
    for other in others:
        pairs = {title: differences(first, other, places) for title, places in bench.sets.items()}
        clauses = [
            clause
            for kind, title in enumerate(KINDS)
            for clause in _clauses(first, f"{title}, ", {key: pair[kind] for key, pair in pairs.items()})
        ]
        found.append((f"{name} against {wording.clean(other.entry.label)}", tuple(clauses)))
    return found


def _clauses(first: Judged, kind: str, gains: dict[str, Estimate], than: str = ":") -> list[tuple[str, str]]:
    says = {
        HELPED: f"better{than}", HURT: f"worse{than}", UNDECIDED: shortfall(first.entry.num_seeds) + ":",
        UNKNOWN: "not a number:",
    }  # fmt: skip
    clauses = []
    for result, opening in says.items():
        said = [
            f"{key} {first.entry.measure.difference(gain)}" for key, gain in gains.items() if outcome(gain) == result
        ]
        if said:
            clauses.append((result, f"{kind}{opening} {wording.listing(said, 12)}"))
    return clauses


def _findings(bench: Bench) -> str:
    marks = {HELPED: "▲", HURT: "▼", UNDECIDED: "○"}
    rows = [
        f"<dt>{escape(pair)}</dt>"
        + "".join(
            f'<dd><span class="mark" aria-hidden="true">{marks.get(result, "")}</span>{tables.unbroken(text)}</dd>'
            for result, text in clauses
        )
        for pair, clauses in findings(bench)
    ]
    return f'<dl class="findings">{"".join(rows)}</dl>' if rows else ""
