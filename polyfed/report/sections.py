"""The sections of the page, in the order in which they are read; each returns HTML, or nothing where it has no data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polyfed.report import forest, heatmap, tables
from polyfed.report.attendance import attendance_section
from polyfed.report.blocks import Section, Story, beside, gallery, heading, lead
from polyfed.report.changes import changes_section
from polyfed.report.films import films_section
from polyfed.report.fusion import fusion_section
from polyfed.report.improvement import improvement_section
from polyfed.report.learning import curves_section
from polyfed.report.measure import RETURN
from polyfed.report.opening import verdict_section
from polyfed.report.optimum import optimum_section
from polyfed.report.privacy_section import privacy_section
from polyfed.report.robustness import robustness_section
from polyfed.report.split import split_section
from polyfed.report.states import public_states_section
from polyfed.report.tables import escape
from polyfed.report.targets import target_section
from polyfed.report.welfare import welfare_section


def summary_section(story: Story) -> Section:
    """The table that a paper would print."""
    seeds = sorted({entry.num_seeds for entry in story.entries})
    text = (
        f"Interquartile mean over {' or '.join(map(str, seeds))} seed{'s' * (seeds != [1])}"
        + (" with its 95 % interval" if seeds[-1] > 1 else ", so there are no intervals")
        + ", over the last quarter of the evaluation points; “early” is the first quarter."
    )
    body = lead(text) + tables.summary(story.entries)
    if duel := tables.head_to_head(story.entries):
        text = (
            f"Differences{story.entries[0].measure.differences} paired by seed. The last column is the chance that a "
            "run of the first beats a run of the second on the same client; 0.50 is a draw."
        )
        body += "<h3>Head to head</h3>" + lead(text) + duel
    return Section("summary", "Summary", body)


def matrix_section(story: Story) -> Section:
    """Which policy is worth what in which environment."""
    measure, facts = story.entries[0].measure, any(entry.run.worlds for entry in story.entries)
    unit = f"{measure.unit}, " if measure.unit else ""
    where = "in each environment" if measure == RETURN else "on each test set"
    below = f"Below stands what makes each {measure.world} different; o" if facts else "O"
    body = lead(
        f"Final {measure.name} ({unit}interquartile mean over seeds) of each {measure.policy}, one per row, {where}, "
        "one per column. Darker is higher, and all arms of a run share one scale. A row with an arm’s name is its only "
        f"{measure.policy}. {below}utlined in orange is the {measure.policy} that a column’s client would use."
    )
    drawings = [heatmap.matrix(r, name) for r, name in zip(story.by_run, story.file_names("matrix"), strict=True)]
    most = max(max(len(e.arm.environments), len(e.arm.policies)) for e in story.entries)
    if most > heatmap.MOST:
        body += lead(f"Of {most} rows or columns, {heatmap.MOST} evenly spaced ones are shown.")
    if story.several:
        body += "".join(heading(story, run) + gallery([d]) for run, d in zip(story.by_run, drawings, strict=True))
    else:
        body = beside(body, drawings[0])
    return Section("matrix", heatmap.title(story.entries[0]), body, tuple(drawings))


def worst_section(story: Story) -> Section:
    """Whether an average is bought at someone’s expense."""
    drawing = forest.average_and_worst(story.entries, story.looks(story.entries))
    text = "What the average hides: filled is the average over clients, hollow the client that fares worst."
    return Section("worst", "Worst client beside average", beside(lead(text), drawing), (drawing,))


def gains_section(story: Story) -> Section | None:
    """Did federation help? Per client, with an interval."""
    measure = story.entries[0].measure
    unit = f",{measure.differences}" if measure.differences else ""
    text = lead(
        f"Final {measure.name} minus that of the same client learning alone with the same seed{unit}. "
        "An interval that crosses the line at zero shows no difference; ▲ and ▼ mark those that do, given enough seeds."
    )
    most = max(len(entry.client_columns) for entry in story.entries)
    if max(len(run) for run in story.by_run) > forest.FEW_ARMS:
        text += lead(
            "With so many arms the figure shows the average and the worst client; the table shows every client."
        )
    elif most > forest.MOST:
        text += lead(f"Of {most} clients, the figure shows {forest.MOST}, evenly spaced.")
    body, drawings = "", []
    for run, name in zip(story.by_run, story.file_names("gains"), strict=True):
        drawing = forest.gain_over_learning_alone(run, story.looks(run), name)
        if drawing is not None:
            words, table = heading(story, run) if story.several else text, tables.gain_table(run)
            crowd = len(run) > forest.FEW_ARMS  # a table so wide stands below
            body += beside(words, drawing) + table if crowd else beside(words + table, drawing)
            drawings.append(drawing)
    if not drawings:
        return None
    return Section("gains", "Gain per client", (text if story.several else "") + body, tuple(drawings))


def communication_section(story: Story) -> Section:
    """Who sent how much."""
    body = lead(
        "Bytes per client and round, mean over rounds and seeds; the total is of all clients in both directions."
    )
    body += tables.communication(story.entries)
    if detail := tables.communication_per_client(story.entries):
        body += f"<details><summary>Per client</summary>{detail}</details>"
    return Section("communication", "Communication", body)


def notes_section(story: Story) -> Section:
    """What the numbers mean, and what they do not."""
    measure = story.entries[0].measure
    trained = int(np.sum(np.asarray(story.entries[0].arm.rounds) > 0))
    window = -(-trained // 4)
    counts = "; ".join(f"{escape(run[0].run_label)} {run[0].num_seeds}" for run in story.by_run)
    notes = [
        f"Seeds: {counts}. Evaluated {trained} times after round 0; the last {window} of them make the final window, "
        f"the first {window} the early one."
        if trained
        else f"Seeds: {counts}. Evaluated before training only.",
        "Levels: interquartile mean, which leaves out the lowest and the highest quarter of all scores (the worst "
        "client has a column of its own), with a 95 % stratified bootstrap percentile interval (Agarwal et al. 2021). "
        f"Seeds are resampled within each {measure.world}, as is usual; since the {measure.world}s of a seed share one "
        "federation, the intervals of averages can be too narrow, and no sentence of the verdict rests on them.",
        "Differences: paired by seed, whole seeds resampled, percentile interval expanded for few seeds (Hesterberg "
        "2015); that of averages is of the plain mean over clients. “Helped”, “hurt”, “better” and “worse” are said "
        "only if the interval excludes zero and there are at least 5 seeds. Each interval is 95 % on its own, not for "
        "all comparisons together.",
        f"Worst client: the lowest {measure.name} among clients in each seed, then the interquartile mean over seeds. "
        "It may be another client in another seed.",
        "A return is that of the greedy policy on fixed evaluation seeds. Held-out environments are in no average here "
        "but their own, the mean over them in each seed; for arms with personal policies they show the mean over "
        "clients’ policies."
        if measure == RETURN
        else f"An {measure.name} is the share of samples that a model classifies as labelled. A client is judged on "
        "unseen samples with its own label proportions; the test set is common to all, in no average here but its own, "
        "and for arms with personal models it shows the mean over clients’ models.",
    ]
    body = '<ul class="notes">' + "".join(f"<li>{note}</li>" for note in notes) + "</ul>"
    return Section("notes", "How to read the numbers", body)


def settings_section(story: Story) -> Section:
    """Everything that was set, and where it ran."""
    body = ""
    if different := tables.differences(story.entries):
        body += lead("In these the arms differ; everything else is in the tables below.") + different
    shown = [(f"Settings of {entry.label}", entry.arm.experiment) for entry in story.entries]
    for run in story.by_run:
        whose = f" of {run[0].run_label}" if story.several else ""
        shown.append((f"Versions, machine and seeds{whose}", tables.public(run[0].run.record)))
    for title, data in shown:
        body += f"<details><summary>{escape(title)}</summary>{tables.settings(data, title)}</details>"
    return Section("settings", "Settings", body)


def again_section(story: Story) -> Section | None:
    """The command that makes it again."""
    known = [run for run in story.by_run if run[0].run.command]
    if not known:
        return None
    body = lead("One click selects the whole command.") + "".join(
        heading(story, run) + f'<pre tabindex="0"><code>{escape(run[0].run.command)}</code></pre>' for run in known
    )
    return Section("again", "Make it again", body)


SECTIONS: tuple[Callable[[Story], Section | None], ...] = (
    verdict_section,
    summary_section,
    optimum_section,
    target_section,
    curves_section,
    changes_section,
    welfare_section,
    improvement_section,
    robustness_section,
    split_section,
    matrix_section,
    worst_section,
    gains_section,
    films_section,
    fusion_section,
    public_states_section,
    privacy_section,
    attendance_section,
    communication_section,
    notes_section,
    settings_section,
    again_section,
)
