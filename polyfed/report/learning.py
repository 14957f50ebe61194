"""The section of learning curves: which of them a reader sees, and what is said of them."""

from __future__ import annotations

from polyfed.report import curves
from polyfed.report.blocks import Section, Story, gallery, is_wide, lead
from polyfed.report.curves import AVERAGE, HELD_OUT, WORST
from polyfed.report.figures import Drawing
from polyfed.report.measure import RETURN, Measure
from polyfed.report.tables import escape

Curve = tuple[str, str]  # whose, and against what


def curves_section(story: Story) -> Section:
    """Average, worst client and held-out environments against steps, bytes and seconds."""
    first, looks = story.entries[0], story.looks(story.entries)
    timed = any(entry.seconds[-1] > 0 for entry in story.entries)
    judged = all(entry.held_out_columns for entry in story.entries)
    kinds = _kinds(first.measure, timed, judged)
    body, drawings = "", []
    for number, (title, text, chosen) in enumerate(kinds):
        drawn = [curves.learning_curve(story.entries, looks, *one) for one in chosen]
        body += (f"<h3>{title}</h3>" if len(kinds) > 1 else "") + lead(text) + _open(drawn, 2 if number == 0 else 1)
        drawings += drawn
    return Section("curves", "Learning curves", body, tuple(drawings))


def _kinds(measure: Measure, timed: bool, judged: bool) -> list[tuple[str, str, list[Curve]]]:
    """Title, text and curves of each group: models are compared on the common test set first, policies at home."""
    own: list[Curve] = [(who, axis) for axis in ("steps", "bytes") for who in (AVERAGE, WORST)]
    common: list[Curve] = [(HELD_OUT, axis) for axis in ("steps", "seconds", "bytes") if timed or axis != "seconds"]
    if timed and not judged:
        own.append((AVERAGE, "seconds"))
    if measure == RETURN:
        home = ("On the clients’ own environments", _AT_HOME, own)
        return [home, ("On held-out environments", _HELD_OUT, common)] if judged else [home]
    mixes = f"{measure.name.capitalize()} on unseen samples with the label proportions of each client. "
    if not judged:
        return [("", mixes + _LINES, own)]
    home = ("On the clients’ own test sets", mixes + _BANDS, own[:2])
    return [("On the common test set", f"On samples that no client trains on. {_LINES} {_TIME}", common), home]


_BANDS = "Bands are 95 % intervals over seeds."
_LINES = f"{_BANDS} Against bytes, an arm that sends nothing is a level line at its final value."
_TIME = "Run time is an arm’s divided by its seeds, which run at once, without compiling."
_AT_HOME = (
    "Greedy return on the clients’ own environments; bands are 95 % intervals over seeds. Against bytes, an arm that "
    "sends nothing is a level line at its final value."
)
_HELD_OUT = (
    "Greedy return in environments that no client trains in; for arms with personal policies the mean over clients. "
    + _TIME
)


def _open(drawings: list[Drawing], most: int) -> str:
    """Figures side by side; of wide ones only so many stand open."""
    if not any(map(is_wide, drawings)) or len(drawings) <= most:
        return gallery(drawings)
    names = escape("; ".join(drawing.title for drawing in drawings[most:]))
    return f"{gallery(drawings[:most])}<details><summary>{names}</summary>{gallery(drawings[most:])}</details>"
