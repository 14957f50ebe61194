"""The sections of the page, in the order in which they are read; each returns HTML, or nothing where it has no data."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

import numpy as np

from polyfed.report import curves, figures, forest, heatmap, tables, wording
from polyfed.report.arms import Entry, methods
from polyfed.report.figures import Drawing, Style
from polyfed.report.tables import escape
from polyfed.report.verdict import HELPED, HURT, UNDECIDED, gains, outcome, verdict


@dataclasses.dataclass(frozen=True)
class Story:
    """What the page tells of: all arms, the same arms by run, and one look per arm."""

    entries: list[Entry]
    by_run: list[list[Entry]]
    styles: dict[str, Style]

    @classmethod
    def of(cls, entries: list[Entry]) -> Story:
        """Groups the arms by run."""
        runs = list(dict.fromkeys(entry.run_label for entry in entries))
        by_run = [[entry for entry in entries if entry.run_label == run] for run in runs]
        looks = figures.styles(entries)
        return cls(entries, by_run, {entry.label: style for entry, style in zip(entries, looks, strict=True)})

    def looks(self, of: Sequence[Entry]) -> list[Style]:
        """One style per arm."""
        return [self.styles[entry.label] for entry in of]

    @property
    def several(self) -> bool:
        """Whether runs are compared."""
        return len(self.by_run) > 1


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page with a name that links can point to."""

    anchor: str
    title: str
    body: str
    drawings: tuple[Drawing, ...] = ()


def slug(text: str) -> str:
    """A name for files and ids.

    >>> slug("cartpole-poles 2/FedWB")
    'cartpole-poles-2-fedwb'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def lead(text: str) -> str:
    """What a section shows and how to read it."""
    return f'<p class="lead">{text}</p>'


def gallery(drawings: Sequence[Drawing]) -> str:
    """Figures side by side where there is room."""
    cards = [f'<figure class="{_card(d, len(drawings))}"{_reach(d)}>{d.inline()}</figure>' for d in drawings]
    return f'<div class="figures">{"".join(cards)}</div>' if len(cards) > 1 else "".join(cards)


def beside(text: str, drawing: Drawing) -> str:
    """Text at the side of a figure where there is room for both, above it where there is not."""
    card = gallery([drawing])
    return text + card if "wide" in _card(drawing, 1) else f'<div class="beside"><div>{text}</div>{card}</div>'


def _card(drawing: Drawing, siblings: int) -> str:
    return ("wide " if drawing.width > figures.WIDTH * 1.2 else "") + ("single" if siblings == 1 else "")


def _reach(drawing: Drawing) -> str:
    """A figure that scrolls must be reached by the keyboard."""
    return f' tabindex="0" aria-label="{escape(drawing.title)}"' if drawing.width > figures.WIDTH * 1.2 else ""


def _heading(story: Story, run: list[Entry]) -> str:
    return f"<h3>{escape(run[0].run_label)}</h3>" if story.several else ""


def verdict_section(story: Story) -> Section:
    """Words first, then the key numbers, for every run."""
    parts = []
    for run in story.by_run:
        found = verdict(run)
        said = "".join(
            f"<dt>{escape(pair)}</dt>" + "".join(_clause(*clause) for clause in clauses)
            for pair, clauses in found.findings
        )
        parts.append(_heading(story, run) + f'<p class="headline">{escape(found.headline)}</p>')
        if said:
            several = (
                f" with 95 % intervals, paired over {run[0].num_seeds} seeds" if run[0].num_seeds > 1 else ", one seed"
            )
            parts.append(lead(f"Differences in final return{several}."))
            parts.append(f'<dl class="findings">{said}</dl>')
        parts += [f'<p class="caution">{escape(caution)}</p>' for caution in found.cautions]
        parts.append(_tiles(run))
    if story.several:
        parts.append(tables.head_to_head(story.entries))
    return Section("verdict", "Verdict", "".join(parts))


def _clause(result: str, text: str) -> str:
    mark = {HELPED: "▲", HURT: "▼", UNDECIDED: "○"}.get(result, "")
    return f'<dd><span class="mark" aria-hidden="true">{mark}</span>{_unbroken(text)}</dd>'


def _unbroken(text: str) -> str:
    """Escaped; an estimate is kept on one line with its interval, and a name that ends in a number with that number."""
    return re.sub(r"([+−]?[\d.]*\d \[[^\]]*\]|[\w-]+-\d+:?)", r'<span class="nb">\1</span>', escape(text))


def _tiles(run: list[Entry]) -> str:
    first = (methods(run) or run)[0]
    alone = first.baseline("local_only")
    tiles = []
    if alone is not None:
        found = gains(first, alone)
        helped = [outcome(found[i]) for i in range(len(first.client_columns))].count("helped")
        tiles.append(
            ("Clients helped", f"{helped} of {len(first.client_columns)}", f"{first.arm.name} over learning alone")
        )
    for title, ours, theirs in (
        ("Average return", first.average, alone and alone.average),
        ("Worst client", first.worst_case, alone and alone.worst_case),
    ):
        value, _, rest = wording.estimate(ours).partition(" [")
        against = f"{first.arm.name}" + (f" [{rest}" if rest else "")
        tiles.append((title, value, against + (f"\nalone {wording.estimate(theirs)}" if theirs is not None else "")))
    total = float(first.arm.bytes[-1])
    tiles.append(("On the wire", wording.byte_count(total), f"{first.arm.name}, all clients, up and down"))
    seconds, compiling = (sum(getattr(entry.arm, key) for entry in run) for key in ("seconds", "compile_seconds"))
    tiles.append(
        ("Run time", wording.duration(seconds), f"all arms and seeds\n+ {wording.duration(compiling)} compiling")
    )
    tiles.append(
        ("Seeds", str(first.num_seeds), f"{wording.count(len(run), 'arm')}, {int(first.arm.rounds[-1])} rounds")
    )
    return '<dl class="tiles">' + "".join(
        f'<div><dt>{escape(title)}</dt><dd class="big">{escape(value)}</dd>'
        + "".join(f'<dd class="small">{_unbroken(line)}</dd>' for line in note.split("\n")) + "</div>"
        for title, value, note in tiles
    ) + "</dl>"  # fmt: skip


def summary_section(story: Story) -> Section:
    """The table that a paper would print."""
    seeds = sorted({entry.num_seeds for entry in story.entries})
    text = (
        f"Interquartile mean over {' or '.join(map(str, seeds))} seed{'s' * (seeds != [1])}"
        + (" with its 95 % interval" if seeds[-1] > 1 else ", so there are no intervals")
        + ", over the last quarter of the evaluation points; “early” is the first quarter."
    )
    body = lead(text) + tables.summary(story.entries)
    if not story.several and (duel := tables.head_to_head(story.entries)):
        body += "<h3>Head to head</h3>" + lead(
            "Differences paired by seed. The last column is the chance that a run of the first beats a run of the second "
            "on the same client; 0.50 is a draw."
        )
        body += duel
    return Section("summary", "Summary", body)


def curves_section(story: Story) -> Section:
    """Average and worst client against steps and against bytes."""
    looks = story.looks(story.entries)
    drawings = tuple(
        curves.learning_curve(story.entries, looks, who, axis)
        for axis in ("steps", "bytes")
        for who in ("average", "worst")
    )
    text = (
        "Greedy return on the clients’ own environments; bands are 95 % intervals over seeds. Against bytes, an arm that "
        "sends nothing is a level line at its final value."
    )
    return Section("curves", "Learning curves", lead(text) + gallery(drawings), drawings)


def matrix_section(story: Story) -> Section:
    """Which policy is worth what in which environment."""
    body = lead(
        "Final return (interquartile mean over seeds) of each policy, one per row, in each environment, one per column. "
        "Darker is higher, and all arms share one scale. A row with an arm’s name is its global policy. Below stands what "
        "makes each environment different; outlined in orange is the policy that a column’s client would use."
    )
    drawings = [
        heatmap.matrix(run, "matrix" + (f"-{slug(run[0].run_label)}" if story.several else "")) for run in story.by_run
    ]
    most = max(max(len(e.arm.environments), len(e.arm.policies)) for e in story.entries)
    if most > heatmap.MOST:
        body += lead(f"Of {most} rows or columns, {heatmap.MOST} evenly spaced ones are shown.")
    if story.several:
        body += "".join(_heading(story, run) + gallery([d]) for run, d in zip(story.by_run, drawings, strict=True))
    else:
        body = beside(body, drawings[0])
    return Section("matrix", "Policy × environment", body, tuple(drawings))


def worst_section(story: Story) -> Section:
    """Whether an average is bought at someone’s expense."""
    drawing = forest.average_and_worst(story.entries, story.looks(story.entries))
    text = "What the average hides: filled is the average over clients, hollow the client that fares worst."
    return Section("worst", "Worst client beside average", beside(lead(text), drawing), (drawing,))


def gains_section(story: Story) -> Section | None:
    """Did federation help? Per client, with an interval."""
    text = lead(
        "Final return minus that of the same client learning alone with the same seed. An interval that crosses the line at "
        "zero shows no difference; ▲ and ▼ mark those that do not."
    )
    body, drawings = "", []
    for run in story.by_run:
        name = "gains" + (f"-{slug(run[0].run_label)}" if story.several else "")
        drawing = forest.gain_over_learning_alone(run, story.looks(run), name)
        if drawing is not None:
            body += beside((_heading(story, run) if story.several else text) + tables.gain_table(run), drawing)
            drawings.append(drawing)
    if not drawings:
        return None
    return Section("gains", "Gain per client", (text if story.several else "") + body, tuple(drawings))


def displacement_section(story: Story) -> Section | None:
    """How far the barycenter moved weights."""
    found = [curves.displacement(e, f"displacement-{slug(e.label)}") for e in story.entries]
    drawings = tuple(drawing for drawing in found if drawing is not None)
    if not drawings:
        return None
    text = (
        "A bin is one weight’s place in its layer or row, along which the barycenter moves weight: up to 1 bin (dotted) every "
        "weight is merged with its counterparts at the other clients, as in an average; beyond, weights of different "
        "connections are mixed."
    )
    body = beside(lead(text), drawings[0]) if len(drawings) == 1 else lead(text) + gallery(drawings)
    return Section("displacement", "Displacement of the barycenter", body, drawings)


def communication_section(story: Story) -> Section:
    """Who sent how much."""
    body = lead(
        "Bytes per client and round, mean over rounds and seeds, and the total of all clients in both directions."
    )
    body += tables.communication(story.entries)
    if detail := tables.communication_per_client(story.entries):
        body += f"<details><summary>Per client</summary>{detail}</details>"
    return Section("communication", "Communication", body)


def notes_section(story: Story) -> Section:
    """What the numbers mean, and what they do not."""
    points = []
    for entry in story.entries[:1]:
        trained = int(np.sum(np.asarray(entry.arm.rounds) > 0)) or 1
        points.append(f"{trained} evaluation points after round 0; the last {-(-trained // 4)} make the final window.")
    notes = [
        "Seeds: "
        + "; ".join(f"{escape(r[0].run_label)} {r[0].num_seeds}" for r in story.by_run)
        + ". "
        + " ".join(points),
        "Levels: interquartile mean, which leaves out the lowest and the highest quarter of all scores (the worst client has "
        "a column of its own), with a 95 % stratified bootstrap percentile interval (Agarwal et al. 2021). Seeds are "
        "resampled within each environment, as is usual; since the environments of a seed share one federation, the "
        "intervals of averages can be too narrow, and no sentence of the verdict rests on them.",
        "Differences: paired by seed, whole seeds resampled, percentile interval expanded for few seeds (Hesterberg 2015). "
        "“Helped” and “hurt” are said only if the interval excludes zero and there are at least 5 seeds.",
        "Worst client: the lowest return among clients in each seed, then the interquartile mean over seeds. It may be "
        "another client in another seed.",
        "A return is that of the greedy policy on fixed evaluation seeds. Held-out environments are in no average here but "
        "their own; for arms with personal policies they show the mean over clients’ policies.",
    ]
    body = '<ul class="notes">' + "".join(f"<li>{note}</li>" for note in notes) + "</ul>"
    return Section("notes", "How to read the numbers", body)


def settings_section(story: Story) -> Section:
    """Everything that was set, and where it ran."""
    body = ""
    if different := tables.differences(story.entries):
        body += lead("In these the arms differ; everything else is in the tables below.") + different
    for entry in story.entries:
        title = f"Settings of {entry.label}"
        table = tables.settings(entry.arm.experiment, title)
        body += f"<details><summary>{escape(title)}</summary>{table}</details>"
    for run in story.by_run:
        title = "Versions, machine and seeds" + (f" of {run[0].run_label}" if story.several else "")
        table = tables.settings(tables.public(run[0].run.record), title)
        body += f"<details><summary>{escape(title)}</summary>{table}</details>"
    return Section("settings", "Settings", body)


def again_section(story: Story) -> Section:
    """The command that makes it again."""
    body = lead("One click selects the whole command.") + "".join(
        _heading(story, run) + f'<pre tabindex="0"><code>{escape(run[0].run.command)}</code></pre>'
        for run in story.by_run
    )
    return Section("again", "Make it again", body)


SECTIONS: tuple[Callable[[Story], Section | None], ...] = (
    verdict_section,
    summary_section,
    curves_section,
    matrix_section,
    worst_section,
    gains_section,
    displacement_section,
    communication_section,
    notes_section,
    settings_section,
    again_section,
)
