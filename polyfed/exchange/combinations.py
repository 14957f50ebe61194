"""Which transforms go together, and with what: refused from their declared facts, before anything compiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polyfed.exchange.transform import Transform


def check_sums(transforms: Sequence[Transform], rule: Any, judges_own: bool) -> None:
    """Raise `ValueError` where something would need more than a sum shows.

    Args:
      transforms: In the order of the way up.
      rule: What merges.
      judges_own: Whether clients' own parameters are judged where messages come together.

    >>> from polyfed.aggregation import WeightedMean
    >>> from polyfed.exchange import Int8, SecureSum
    >>> check_sums((Int8(), SecureSum()), WeightedMean(), judges_own=False)
    Traceback (most recent call last):
    ValueError: Int8 saves nothing where SecureSum sends every number as a whole number of 32 bits: drop Int8, or \
SecureSum.
    """
    for nth, part in enumerate(transforms):
        if part.sum_only:
            _check_sum(part, transforms, nth)
            _check_use(type(part).__name__, rule, judges_own)


def _check_sum(part: Transform, transforms: Sequence[Transform], nth: int) -> None:
    """What stands beside a sum."""
    name = type(part).__name__
    for place, other in enumerate(transforms):
        its = type(other).__name__
        if other.compresses:
            raise ValueError(
                f"{its} saves nothing where {name} sends every number as a whole number of 32 bits: drop {its}, or "
                f"{name}."
            )
        if other.late:
            raise ValueError(
                f"{its} lets in messages of other rounds, but the masks of {name} vanish only from the sum of one: use "
                f"LoseMessages, for a server that drops what is late, or drop {name}."
            )
        if place > nth:
            raise ValueError(
                f"{its} acts on messages one by one, but after {name} there is only their sum: put {its} before {name}."
            )


def _check_use(name: str, rule: Any, judges_own: bool) -> None:
    """What is done with a sum."""
    if not rule.linear or rule.personal:
        remedy = 'Consensus("mean")' if rule.predictive else "WeightedMean"
        raise ValueError(
            f"{name} reveals only the sum of the messages, but {type(rule).__name__} needs them one by one: use "
            f"{remedy}, or drop {name}."
        )
    if judges_own:
        raise ValueError(
            f"{name} keeps from the server what each client has learned, but evaluation.own would judge it there: give "
            f"evaluation.own = False, or drop {name}."
        )


def check_late(transforms: Sequence[Transform], payload: Any) -> None:
    """Raise `ValueError` where a message would be about something else by the time it comes.

    >>> from polyfed.exchange import DelayMessages, Predictions
    >>> check_late((DelayMessages(),), Predictions())
    Traceback (most recent call last):
    ValueError: DelayMessages counts rounds, but clients exchange messages 10 times in one, of which a late one would \
answer another: use distillation.refresh = "event", or drop DelayMessages.
    """
    for part in transforms:
        name = type(part).__name__
        if part.late and payload.walks:
            raise ValueError(
                f"{name} lets in predictions on where the server stood some rounds before, which do not fit those of "
                f"others: use LoseMessages, or drop {name}."
            )
        if part.late and payload.exchanges > 1:
            raise ValueError(
                f"{name} counts rounds, but clients exchange messages {payload.exchanges} times in one, of which a "
                f'late one would answer another: use distillation.refresh = "event", or drop {name}.'
            )
