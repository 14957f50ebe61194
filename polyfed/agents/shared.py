"""Which parts of a learner go on the wire."""

from __future__ import annotations

from polyfed.agents.worst_case import WorstCase
from polyfed.checks import one_of


def check_shared(
    shared: tuple[str, ...], parts: tuple[str, ...], *, worst_case: WorstCase | None, example: tuple[str, ...]
) -> None:
    """Refuse with a `ValueError` a payload without the network that acts, of unknown or repeated parts, or of none.

    Args:
      shared: What the learner's field says.
      parts: What may be shared; the first is the network that acts, which the server must hold.
      worst_case: The learner's, if it has one.
      example: What to give instead.

    >>> check_shared(("online", "target"), ("online", "target"), worst_case=None, example=("online",))
    >>> check_shared(("target",), ("online", "target"), worst_case=None, example=("online",))
    Traceback (most recent call last):
    ValueError: agent.shared = ('target',) must name online, and nothing twice, for the global policy is the online \
that the server holds: give for example ('online',).
    """
    for name in shared:
        one_of("agent.shared", name, parts)
    if parts[0] not in shared or len(set(shared)) < len(shared):
        raise ValueError(
            f"agent.shared = {shared} must name {parts[0]}, and nothing twice, for the global policy is the {parts[0]} "
            f"that the server holds: give for example {example}."
        )
    if "worst_case" in shared and worst_case is None:
        raise ValueError(
            "agent.shared names worst_case, but agent.worst_case is none, so there is nothing to send: give a "
            "WorstCase, or leave it out of agent.shared."
        )
