"""What a rule reported of its merges, in sentences: one merge is one round of one seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from polyfed.report import wording
from polyfed.report.arms import Entry
from polyfed.report.blocks import Section, Story, beside, gallery, lead, slugs
from polyfed.report.displacement import displacement
from polyfed.report.tables import escape, unbroken

MOST_OPEN = 4  # figures of displacement that stand open; of more, a reader asks for them

_DONE = {
    "warn": "They were left as fused, so the network may no longer compute what any client computed",
    "mean": "They became the weighted mean instead",
}  # by the rule's `on_displacement`


def sentences(entry: Entry) -> list[str]:
    """What an arm's rule reported, in plain text; empty where it reported nothing."""
    return [*_switched(entry), *_scrambled(entry), *_solved(entry), *_aligned(entry), *_dropped(entry)]


def layers(entry: Entry, prefix: str) -> dict[str, np.ndarray]:
    """The metrics of one kind, `[R, S]` by layer, NaN where not finite; layers without any number are left out."""
    found = {}
    for key, row in entry.arm.metrics.items():
        if key == prefix or key.startswith(f"{prefix}/"):
            values = np.asarray(row, float)
            if values.ndim == 2 and np.isfinite(values).any():
                found[wording.clean(key[len(prefix) + 1 :]) or "all"] = np.where(np.isfinite(values), values, np.nan)
    return found


def setting(data: Any, name: str) -> Any:
    """A field of a recorded rule or of the first part within it that has one; `None` if none has.

    >>> setting({"part": "Switch", "first": {"max_displacement": 8}, "at_round": 2}, "max_displacement")
    8
    """
    if not isinstance(data, Mapping):
        return None
    if name in data:
        return data[name]
    inner = (setting(value, name) for value in data.values())
    return next((value for value in inner if value is not None), None)


def _rule(entry: Entry) -> Any:
    return entry.arm.experiment.get("rule")


def _scrambled(entry: Entry) -> list[str]:
    told = layers(entry, "scrambled")
    if not told:
        return []
    limit = setting(_rule(entry), "max_displacement")
    far = "the rule allows" if limit is None else f"{float(limit):g} positions"
    hits = {name: int((row > 0).sum()) for name, row in told.items()}
    merges = int(np.any([np.isfinite(row) for row in told.values()], axis=0).sum())
    scrambled = int(np.any([row > 0 for row in told.values()], axis=0).sum())
    if not scrambled:
        return [f"No parameter moved farther than {far} in any of {wording.count(merges, 'merge')}."]
    most = sorted((name for name in hits if hits[name]), key=lambda name: -hits[name])
    which = wording.listing([f"{name} in {hits[name]}" for name in most], 6)
    share = f"{scrambled} of {wording.count(merges, 'merge')} ({wording.percent(scrambled / merges)})"
    text = f"In {share if scrambled < merges else 'all ' + wording.count(merges, 'merge')} a parameter "
    text += f"moved farther than {far}: {which}."
    answer = setting(_rule(entry), "on_displacement")
    return [text + (f" {_DONE[answer]} (on_displacement = {answer})." if answer in _DONE else "")]


def _solved(entry: Entry) -> list[str]:
    converged, errors = (
        np.concatenate([row[np.isfinite(row)] for row in layers(entry, kind).values()] or [np.zeros(0)])
        for kind in ("converged", "marginal_error")
    )
    parts = []
    if converged.size:
        share = wording.percent(float(converged.mean()))
        parts.append(f"converged in {share} of {wording.count(converged.size, 'solve')} (one per layer and merge)")
    if errors.size:
        parts.append(f"median marginal error {np.median(errors):.2g}, largest {errors.max():.2g}")
    return [f"The entropic solver: {'; '.join(parts)}."] if parts else []


def switch_rounds(then: np.ndarray) -> list[int | None]:
    """Per seed, the first round that the second rule merged, from 1; `None` where it never did.

    Args:
      then: `[R, S]`, 1 where the second rule merged.

    >>> switch_rounds(np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    [3, None]
    """
    second = np.asarray(then) > 0
    return [int(column.argmax()) + 1 if column.any() else None for column in second.T]


def _switched(entry: Entry) -> list[str]:
    told = layers(entry, "then")
    if not told:
        return []
    (row, *_) = told.values()
    first, then = (_part(entry, field) for field in ("first", "then"))
    rounds = switch_rounds(row)
    if len(set(rounds)) == 1:
        seeds = "in every seed" if len(rounds) > 1 else "in the only seed"
        if rounds[0] is None:
            return [f"Of the two rules, {first} merged all {len(row)} rounds {seeds}: it never switched to {then}."]
        return [f"From round {rounds[0]} on {then} merged in place of {first}, {seeds}."]
    numbers = entry.run.record.get("seeds") or range(len(rounds))
    when = [f"seed {s}: {'never' if r is None else r}" for s, r in zip(numbers, rounds, strict=False)]
    return [f"{then} took over from {first}, by the round of its first merge: {wording.listing(when, 20)}."]


def _part(entry: Entry, field: str) -> str:
    """The class of one of a switch's rules."""
    rule = _rule(entry)
    part = rule.get(field) if isinstance(rule, Mapping) else None
    name = str(part.get("part", "")).rpartition(".")[2] if isinstance(part, Mapping) else ""
    return wording.clean(name) or f"the {'first' if field == 'first' else 'second'} rule"


def _aligned(entry: Entry) -> list[str]:
    told = layers(entry, "moved_units")
    if not told:
        return []
    means = {name: float(np.nanmean(row)) for name, row in told.items()}
    shares = all(np.nanmax(row) <= 1 for row in told.values())
    shown = [f"{name} {wording.percent(mean) if shares else f'{mean:.3g}'}" for name, mean in means.items()]
    merges = int(np.any([np.isfinite(row) for row in told.values()], axis=0).sum())
    return [
        f"Hidden units merged with a unit of another place, mean over {wording.count(merges, 'merge')}: "
        f"{wording.listing(shown, 8)}."
    ]


def _dropped(entry: Entry) -> list[str]:
    told = layers(entry, "nonfinite")
    merges = sum(int((row > 0).sum()) for row in told.values())
    if not merges:
        return []
    clients = sum(int(np.nansum(row)) for row in told.values())
    return [
        f"In {wording.count(merges, 'merge')} clients came with weights that are not finite numbers and were left out, "
        f"{wording.count(clients, 'message')} in all."
    ]


def fusion_section(story: Story) -> Section | None:
    """What the rules reported of their merges: switches, displacement, the solver, matched units."""
    names = slugs(entry.label for entry in story.entries)
    drawn = [displacement(e, f"displacement-{name}") for e, name in zip(story.entries, names, strict=True)]
    drawings = [drawing for drawing in drawn if drawing is not None]
    told = [(entry, said) for entry in story.entries if (said := sentences(entry))]
    if not drawings and not told:
        return None
    words = "".join(
        f"<dt>{escape(entry.label)}</dt>" + "".join(f"<dd>{unbroken(one)}</dd>" for one in said) for entry, said in told
    )
    body = lead("A merge is one round of one seed.") + f'<dl class="findings">{words}</dl>' if told else ""
    if drawings:
        text = ("<h3>Displacement</h3>" if told else "") + lead(
            "A bin is one weight’s place in its layer or row, along which the barycenter moves weight: up to 1 bin "
            "(dotted) every weight is merged with its counterparts at the other clients, as in an average; beyond, "
            "weights of different connections are mixed."
        )
        if len(drawings) == 1:
            body += beside(text, drawings[0])
        elif len(drawings) <= MOST_OPEN:
            body += text + gallery(drawings)
        else:
            body += (
                text + f"<details><summary>Displacement of {len(drawings)} arms</summary>{gallery(drawings)}</details>"
            )
    return Section("fusion", "What the fusion did", body, tuple(drawings))
