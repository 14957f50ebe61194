"""A fleet of agents of different make: groups of clients, each with a learner of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx

from polyfed.checks import whole_in_range


class Group(eqx.Module):
    """Clients that are made alike: one learner, whose numbers may differ between them, and one compiled program.

    >>> from polyfed.agents import DQN
    >>> Group(DQN(hidden=(32,)), num_clients=3).num_clients
    3
    """

    agent: Any  # the learner, an `Agent`
    num_clients: int = eqx.field(default=1, static=True)  # clients of the group
    local_steps: int | None = eqx.field(default=None, static=True)  # per client and round; none: the experiment's
    name: str = eqx.field(default="", static=True)  # what a report calls it


class Mixed(eqx.Module):
    """A fleet whose clients differ in what they are made of; they can meet in predictions, not in parameters.

    The clients of the first group come first.

    >>> from polyfed.agents import DQN
    >>> fleet = Mixed((Group(DQN(hidden=(32,))), Group(DQN(hidden=(64, 64)), num_clients=2)))
    >>> fleet.num_clients
    3
    """

    groups: tuple[Group, ...]

    @property
    def num_clients(self) -> int:
        """Clients of all groups."""
        return sum(group.num_clients for group in self.groups)

    def check(self, num_clients: int) -> None:
        """Raise `ValueError` unless there are groups, none empty, that have `num_clients` clients together."""
        if not self.groups:
            raise ValueError("agent.groups = () holds nobody: give at least one Group.")
        for index, group in enumerate(self.groups):
            whole_in_range(f"agent.groups[{index}].num_clients", group.num_clients, 1, 10**6)
            if group.local_steps is not None:
                whole_in_range(f"agent.groups[{index}].local_steps", group.local_steps, 1, 10**9)
        if self.num_clients != num_clients:
            raise ValueError(
                f"agent.groups have {self.num_clients} clients, but num_clients = {num_clients}: make them equal."
            )

    def each(self, function: Callable[[Any], Any]) -> Mixed:
        """The fleet with `function(learner)` in the place of every learner."""
        return Mixed(tuple(dataclasses.replace(group, agent=function(group.agent)) for group in self.groups))
