"""The interface of a rule: how the messages of a round become one, or one per client."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx

from polyfed.types import Metrics, Payload, Update


class AggregationRule(eqx.Module):
    """How messages become one.

    Facts that the experiment checks before anything compiles:

    - `linear`: the result is a weighted sum of the payloads, so it can be had from their sum alone.
    - `personal`: every client gets its own result, leaves `[C, ...]`; otherwise all get one, leaves `[...]`.
    - `exchanges`: clients send messages at all; a rule that does not is a baseline without a federation.
    - `nested`: it can merge `Nested` messages, of networks of different widths.
    - `predictive`: it merges predictions on public states, and nothing else.
    - `walks`: it also says on which state clients predict next, and merges `Visit` messages, nothing else.

    Contract (see `polyfed.testing.check_rule`): the order of clients does not matter, absent clients (weight 0) are as
    if they had never been there whatever their payload holds, equal payloads come back unchanged, and when nobody came
    the result is zeros.
    """

    @property
    def linear(self) -> bool:
        """Whether the sum of the messages is all that it needs."""
        return False

    @property
    def personal(self) -> bool:
        """Whether every client gets its own result."""
        return False

    @property
    def exchanges(self) -> bool:
        """Whether clients send messages at all."""
        return True

    @property
    def nested(self) -> bool:
        """Whether it can merge networks of different widths."""
        return False

    @property
    def predictive(self) -> bool:
        """Whether it merges predictions on public states, rather than parameters."""
        return False

    @property
    def walks(self) -> bool:
        """Whether it says where clients predict next."""
        return False

    def check(self) -> None:
        """Raises `ValueError` where a field is outside its range. The experiment calls it once, before it compiles."""

    def init(self, payload: Payload) -> Any:
        """The rule's memory between rounds.

        Args:
          payload: One client's payload, to fix shapes.
        """
        del payload
        return ()

    def refuse(self, metrics: dict[str, Any]) -> None:
        """Raises `DivergedError` where what was reported forbids to go on.

        Args:
          metrics: NumPy arrays `[R, S, ...]` by name, of a block of rounds.
        """

    @abc.abstractmethod
    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        """Combine the updates of one round.

        Args:
          state: What `init` or the last round gave.
          update: Payload leaves `[C, ...]`, weights `[C]`.

        Returns:
          `(merged, state, metrics)`; merged leaves are `[...]`, or `[C, ...]` for a personal rule; metrics are named
          scalars.
        """
