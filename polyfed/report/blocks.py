"""What sections are built from: the story that the page tells, a section, and the ways to set text and figures."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from polyfed.report import figures
from polyfed.report.arms import Entry
from polyfed.report.figures import Drawing, Style
from polyfed.report.tables import escape


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

    def file_names(self, prefix: str) -> list[str]:
        """A figure's name for every run."""
        if not self.several:
            return [prefix]
        return [f"{prefix}-{name}" for name in slugs(run[0].run_label for run in self.by_run)]

    @property
    def several(self) -> bool:
        """Whether runs are compared."""
        return len(self.by_run) > 1


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page, with a name that links can point to.

    >>> Section("curves", "Learning curves", "<p>…</p>").drawings
    ()
    """

    anchor: str
    title: str
    body: str
    drawings: tuple[Drawing, ...] = ()


def slugs(texts: Iterable[str]) -> list[str]:
    """Distinct names for files and ids.

    >>> slugs(["cartpole-poles 2/FedWB", "fedwb", "FedWB"])
    ['cartpole-poles-2-fedwb', 'fedwb', 'fedwb-2']
    """
    found: list[str] = []
    for text in texts:
        name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
        number = 2
        unique = name
        while unique in found:
            unique, number = f"{name}-{number}", number + 1
        found.append(unique)
    return found


def lead(text: str) -> str:
    """What a section shows and how to read it; HTML."""
    return f'<p class="lead">{text}</p>'


def heading(story: Story, run: list[Entry]) -> str:
    """The name of a run, where several are compared."""
    return f"<h3>{escape(run[0].run_label)}</h3>" if story.several else ""


def gallery(drawings: Sequence[Drawing]) -> str:
    """Figures side by side where there is room."""
    cards = [_card(drawing, alone=len(drawings) == 1) for drawing in drawings]
    return f'<div class="figures">{"".join(cards)}</div>' if len(cards) > 1 else "".join(cards)


def beside(text: str, drawing: Drawing) -> str:
    """Text at the side of a figure where there is room for both, above it where there is not."""
    card = gallery([drawing])
    return text + card if is_wide(drawing) else f'<div class="beside"><div>{text}</div>{card}</div>'


def is_wide(drawing: Drawing) -> bool:
    """Whether a figure takes the whole width of the page, and scrolls where there is less."""
    return drawing.width > figures.WIDTH * 1.2


def _card(drawing: Drawing, alone: bool) -> str:
    """A figure; one that may have to scroll is reached by the keyboard."""
    kinds = " ".join(["wide"] * is_wide(drawing) + ["single"] * alone)
    reach = f' tabindex="0" role="group" aria-label="{escape(drawing.title)}"' if is_wide(drawing) else ""
    return f'<figure class="{kinds}"{reach}>{drawing.inline()}</figure>'
