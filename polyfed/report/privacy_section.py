"""The section on privacy: what each arm guarantees its clients, in the terms of NIST SP 800-226, and what it cost.

References: near2025sp800226.
"""

from __future__ import annotations

import math

from polyfed.errors import MissingExtraError
from polyfed.exchange.ledger import Guarantee
from polyfed.report import wording
from polyfed.report.arms import Entry
from polyfed.report.blocks import Section, Story, lead
from polyfed.report.tables import arm_name, escape, interval, table

HEAD = [
    "Arm", "Epsilon", "by PLD", "by RDP", "Delta", "Unit", "Cannot be told apart", "Trusted", "Noise, clips", "Clip",
    "Rounds", "Releases",
]  # fmt: skip

SCOPE = (
    "Epsilon and delta are those of one client, for what the server sends out in all rounds of one arm with one seed. "
    "Clients take part in every round (sampling probability 1). Not covered: what this page and the run folder say of "
    "single clients, and their own policies. Arms and repetitions with the same seed have the same noise, so only one "
    "of them may be let out; and who knows the seed knows the noise."
)
ACCOUNTED = (
    "Epsilon is exact for Gaussian noise without sampling (Balle and Wang 2018), or by the accountant that the arm "
    "names. Beside it stand the bounds of dp-accounting: privacy loss distributions (PLD), Rényi divergences (RDP)."
)


def privacy_section(story: Story) -> Section | None:
    """What was spent by each arm with noise; nothing where none has any."""
    known = [(entry, entry.arm.privacy) for entry in story.entries if entry.arm.privacy is not None]
    if not known:
        return None
    body = lead(SCOPE) + table("What clients' privacy has cost", HEAD, [_row(*pair) for pair in known])
    body += lead(ACCOUNTED)
    body += _price(story, known)
    for entry, guarantee in known:
        total = int(entry.arm.experiment.get("num_rounds", guarantee.rounds))
        for text in filter(None, (guarantee.stopped(total), guarantee.caution)):
            body += f'<p class="caution">{escape(f"{entry.label}: {text}")}</p>'
    return Section("privacy", "Privacy", body)


def _price(story: Story, known: list[tuple[Entry, Guarantee]]) -> str:
    """Return against epsilon: arms without noise first, then from the least noise to the most."""
    measure = story.entries[0].measure
    plain = [(entry, math.inf) for entry in story.entries if entry.arm.privacy is None]
    noisy = sorted(((entry, guarantee.epsilon) for entry, guarantee in known), key=lambda pair: -pair[1])
    rows = [
        [arm_name(entry), _number(epsilon), interval(entry.average), interval(entry.worst_case)]
        for entry, epsilon in [*plain, *noisy]
    ]
    head = ["Arm", "Epsilon", measure.column("Average"), measure.column("Worst client")]
    return table("What is left at which epsilon", head, rows)


def _row(entry: Entry, found: Guarantee) -> list[str]:
    return [
        arm_name(entry), f"<b>{_number(found.epsilon)}</b>", _bound(found, "pld"), _bound(found, "rdp"),
        f"{found.delta:g}", found.unit, escape(found.neighbours), escape(found.trusted), f"{found.noise_multiplier:g}",
        f"{found.max_norm:g}", str(found.rounds), str(found.releases),
    ]  # fmt: skip


def _bound(found: Guarantee, accountant: str) -> str:
    """Epsilon by another accountant; a dash where it is not installed or cannot say."""
    try:
        return _number(found.by(accountant))
    except (MissingExtraError, ValueError):
        return wording.MISSING


def _number(epsilon: float) -> str:
    return "∞" if math.isinf(epsilon) else f"{epsilon:.4g}"
