"""Where the clients of a federation lie: which group, which place on its axis, which device."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

AXIS = "clients"


@dataclasses.dataclass(frozen=True)
class Share:
    """Where the clients of a group lie: their places on its axis, and on which device."""

    first: int  # the group's first client among all
    num_clients: int
    num_seeds: int
    num_devices: int
    turn: int  # the device that holds the group's first clients, so that small groups do not all crowd one device
    local_steps: int

    @property
    def total(self) -> int:
        """Clients of all seeds."""
        return self.num_seeds * self.num_clients

    @property
    def per_device(self) -> int:
        """Clients of one device, the padding included."""
        return -(-self.total // self.num_devices)

    def seed_and_client(self, place: Int[Array, ""]) -> tuple[Array, Array]:
        """Which seed and which client of the group lie at a place; padding repeats the first ones."""
        place = place % self.total
        return place // self.num_clients, place % self.num_clients

    @property
    def order(self) -> np.ndarray:
        """`[num_devices * per_device]`: the places as they lie on device after device; from `total` on: padding."""
        devices = (np.arange(self.num_devices) - self.turn) % self.num_devices
        return (devices[:, None] * self.per_device + np.arange(self.per_device)).ravel()

    @property
    def where(self) -> np.ndarray:
        """`[total]`: where in `order` each place lies."""
        return np.argsort(self.order)[: self.total]

    def cut(self, tree: Any) -> Any:
        """Leaves as they lie on the devices, without the padding and in the order of the places."""
        if len(self.order) == self.total and not self.turn:
            return tree
        return jax.tree.map(lambda x: x[self.where], tree)

    def fill(self, tree: Any) -> Any:
        """Leaves `[total, ...]` in the order of the places, as they lie on the devices."""
        return jax.tree.map(lambda x: x[self.order % self.total], tree)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What fixes the compiled program besides the shapes of its arguments."""

    num_seeds: int
    num_clients: int  # of one seed; among them may be some that are in no group, see `hosted`
    groups: tuple[tuple[int, int, int], ...]  # the first client, the number of clients and local steps of each group
    turns: tuple[int, ...]  # the device that holds the first clients of each group
    devices: tuple[Any, ...]
    side_by_side: bool  # clients of a device in one vmap, rather than one after another
    common_start: bool = True  # all clients of a seed begin with the same parameters
    exchanges: int = 1  # times that messages go up and down in a round

    @property
    def shares(self) -> tuple[Share, ...]:
        """Where the clients of each group lie."""
        sizes = self.num_seeds, len(self.devices)
        return tuple(
            Share(first, num, *sizes, turn=turn, local_steps=steps)
            for turn, (first, num, steps) in zip(self.turns, self.groups, strict=True)
        )

    @property
    def members(self) -> np.ndarray:
        """The clients that are in groups, group after group."""
        return np.concatenate([first + np.arange(num) for first, num, _ in self.groups])

    @property
    def mesh(self) -> Mesh:
        """The devices in a row."""
        return Mesh(list(self.devices), (AXIS,))


def plan(
    num_seeds: int,
    num_clients: int,
    groups: Sequence[tuple[int, int, int]],
    devices: list[Any] | None = None,
    *,
    costs: Sequence[float] = (),
    common_start: bool = True,
    exchanges: int = 1,
) -> Plan:
    """A plan over all devices that JAX sees, or over the given ones.

    Args:
      num_seeds: `S`.
      num_clients: `C`.
      groups: As in `Plan`.
      devices: None: all.
      costs: What a client of each group costs, in any unit; by default all the same.
      common_start: As in `Plan`.
      exchanges: As in `Plan`.
    """
    total = max(1, num_seeds * sum(num for _, num, _ in groups))
    devices = (jax.devices() if devices is None else devices)[:total]
    side_by_side = devices[0].platform != "cpu"
    sizes = [num_seeds * num for _, num, _ in groups]
    turned = turns(sizes, costs or [1.0] * len(sizes), len(devices))
    return Plan(num_seeds, num_clients, tuple(groups), turned, tuple(devices), side_by_side, common_start, exchanges)


def turns(sizes: Sequence[int], costs: Sequence[float], num_devices: int) -> tuple[int, ...]:
    """On which device each group begins, so that all have about as much to do: the dearest groups choose first.

    Args:
      sizes: Clients of each group, all seeds together.
      costs: Of one of them.
      num_devices: In a row; a group fills them one after another.

    >>> turns([1, 1, 1], [5.0, 3.0, 2.0], num_devices=2)
    (0, 1, 1)
    """
    load, found = np.zeros(num_devices), [0] * len(sizes)
    for group in sorted(range(len(sizes)), key=lambda g: -costs[g] * sizes[g]):
        each = -(-sizes[group] // num_devices)
        filled = np.clip(sizes[group] - each * np.arange(num_devices), 0, each) * costs[group]
        loads = [load + np.roll(filled, turn) for turn in range(num_devices)]
        found[group] = int(np.argmin([np.max(x) for x in loads]))
        load = loads[found[group]]
    return tuple(found)
