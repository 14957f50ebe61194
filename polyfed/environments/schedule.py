"""How worlds change while clients train in them: quantities that move from one round to another, or at once.

A schedule is a pure function of a round and of the worlds as a variation draws them, in physical units. It says what
the worlds are at its stations; between two of them they move in a straight line, see `Course`.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import numpy as np

from polyfed.checks import whole_in_range
from polyfed.environments.variation import (
    Explicit,
    Given,
    Grid,
    Uniform,
    Values,
    Variation,
    Worlds,
    _check_names,
    _check_ranges,
    _values,
    every_quantity,
)
from polyfed.environments.world import World


class Change(NamedTuple):
    """What a schedule does to quantities of some clients, in the rounds `first` to `last`.

    >>> Drift(to={"half_length": 1.0}, first=51, clients=(2,)).changes(4)
    [Change(first=51, last=51, clients=(2,), words='half_length becomes 1.0')]
    """

    first: int  # the first round in which worlds differ from before
    last: int  # the one in which they are there
    clients: tuple[int, ...]
    words: str


class Drift(eqx.Module):
    """Quantities move in equal steps from what they are to what is given; without any, worlds stay as they are.

    `to` maps a quantity to its value at the end and `factors` to what it is multiplied by: one number for all clients
    whose worlds move, or one for each of them. A dictionary is stored as pairs. Physics are those of the new round from
    its first step on, also in the middle of an episode; what a family draws where an episode begins stays until its
    end, and a `Gymnasium` world changes between episodes.

    >>> drift = Drift(factors={"half_length": 2.0}, first=101, rounds=4, clients=(0,))
    >>> now = {"half_length": np.array([0.25, 0.5])}
    >>> [drift.worlds(now, round_)["half_length"].tolist() for round_ in (100, 101, 104)]
    [[0.25, 0.5], [0.3125, 0.5], [0.5, 0.5]]
    """

    to: Values = eqx.field(static=True)  # values at the end, in units of the quantities
    factors: Values = eqx.field(static=True)  # what quantities are multiplied by
    first: int = eqx.field(default=1, static=True)  # the first round in which worlds differ
    rounds: int = eqx.field(default=1, static=True)  # equal steps, one a round; 1: at once
    clients: tuple[int, ...] = eqx.field(default=(), static=True)  # whose worlds move; none: those of all

    def __init__(
        self, to: Given = (), factors: Given = (), first: int = 1, rounds: int = 1, clients: tuple[int, ...] = ()
    ):
        self.to, self.factors = _values(to), _values(factors)
        self.first, self.rounds, self.clients = first, rounds, clients

    @property
    def names(self) -> tuple[str, ...]:
        """The quantities that move."""
        return tuple(name for name, _ in (*self.to, *self.factors))

    @property
    def stations(self) -> tuple[int, ...]:
        """The last round before it, and the one in which worlds are there; none where they stay."""
        return (self.first - 1, self.first - 1 + self.rounds) if self.names else ()

    def moved(self, num_clients: int) -> np.ndarray:
        """The clients whose worlds move."""
        return np.asarray(self.clients if self.clients else range(num_clients), int)

    def worlds(self, worlds: Worlds, round_: int) -> Worlds:
        """The quantities of the clients in a round, float64 `[C]`; `worlds` are those before it, of all that moves."""
        done = float(np.clip((round_ - self.first + 1) / self.rounds, 0.0, 1.0))
        found = {name: np.array(row, float) for name, row in worlds.items()}
        ends = {name: np.asarray(given) for name, given in self.to}
        ends |= {name: found[name][self.moved(len(found[name]))] * given for name, given in self.factors}
        for name, end in ends.items():
            who = self.moved(len(found[name]))
            here = found[name][who]
            found[name][who] = end if done == 1 else here + done * (end - here)
        return found

    def changes(self, num_clients: int) -> list[Change]:
        """What happens, in words."""
        if not self.names:
            return []
        numbers = lambda given: ", ".join(map(str, given))  # noqa: E731
        words = [f"{name} becomes {numbers(given)}" for name, given in self.to]
        words += [f"{name} is multiplied by {numbers(given)}" for name, given in self.factors]
        who = tuple(self.moved(num_clients).tolist())
        return [Change(self.first, self.first + self.rounds - 1, who, text) for text in words]

    def check(self, environment: World, num_clients: int, num_rounds: int) -> None:
        """Raise `ValueError` in one sentence if it cannot happen to these clients in so many rounds."""
        if not self.names:
            return
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"Drift gives {twice} twice, but a quantity goes one way: give it in to or in factors.")
        _check_names(environment, self.names, num_clients)
        whole_in_range("schedule.first", self.first, 1, num_rounds, "rounds")
        whole_in_range("schedule.rounds", self.rounds, 1, num_rounds - self.first + 1, "rounds")
        for client in self.clients:
            whole_in_range("schedule.clients", client, 0, num_clients - 1)
        if len(set(self.clients)) < len(self.clients):
            raise ValueError(
                f"schedule.clients = {self.clients} names a client twice, but a world is moved once: name each once."
            )
        count = len(self.moved(num_clients))
        for name, given in (*self.to, *self.factors):
            if len(given) not in (1, count):
                raise ValueError(
                    f"Drift gives {len(given)} values of {name} to the worlds of {count} clients: give one for all of "
                    f"them, or {count}."
                )


class Drifts(eqx.Module):
    """One drift after another: there and back, or different ones for different clients.

    >>> longer, back = Drift(to={"half_length": 1.0}, first=51), Drift(to={"half_length": 0.5}, first=101)
    >>> there_and_back = Drifts((longer, back))
    >>> now = {"half_length": np.array([0.5])}
    >>> [there_and_back.worlds(now, round_)["half_length"].item() for round_ in (50, 51, 101)]
    [0.5, 1.0, 0.5]
    """

    parts: tuple[Drift, ...] = eqx.field(default=(), static=True)

    @property
    def names(self) -> tuple[str, ...]:
        """The quantities that move."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.names))

    @property
    def stations(self) -> tuple[int, ...]:
        """Those of all parts, in order."""
        return tuple(sorted({station for part in self.parts for station in part.stations}))

    def worlds(self, worlds: Worlds, round_: int) -> Worlds:
        """The quantities of the clients in a round, float64 `[C]`; `worlds` are those before all of it."""
        for part in self.parts:
            worlds = part.worlds(worlds, round_)
        return worlds

    def changes(self, num_clients: int) -> list[Change]:
        """What happens, in words, in order."""
        return sorted(change for part in self.parts for change in part.changes(num_clients))

    def check(self, environment: World, num_clients: int, num_rounds: int) -> None:
        """Raise `ValueError` in one sentence if a part cannot happen, or two move a quantity at once."""
        busy: dict[tuple[str, int], int] = {}  # until when a quantity of a client moves
        for part in self.parts:
            part.check(environment, num_clients, num_rounds)
            for name, client in ((n, int(c)) for n in part.names for c in part.moved(num_clients)):
                if part.first <= busy.get((name, client), 0):
                    raise ValueError(
                        f"Drifts moves {name} of client {client} in round {part.first}, but a part before it does so "
                        f"up to round {busy[name, client]}: let parts that move the same follow each other."
                    )
                busy[name, client] = part.first + part.rounds - 1


Schedule = Drift | Drifts


def moved(schedule: Schedule, num_clients: int, round_: int) -> np.ndarray:
    """Whose worlds differ in a round from those of the round before, bool `[C]`.

    >>> moved(Drift(factors={"force": 2.0}, first=5, clients=(1,)), num_clients=2, round_=5).tolist()
    [False, True]
    """
    found = np.zeros(num_clients, bool)
    for change in schedule.changes(num_clients):
        if change.first <= round_ <= change.last:
            found[list(change.clients)] = True
    return found


def check_schedule(
    schedule: Schedule, environment: World, variation: object, num_clients: int, num_rounds: int
) -> None:
    """Raise `ValueError` in one sentence unless the schedule can move these worlds, and within their ranges."""
    if not schedule.stations:
        return
    kind = type(schedule).__name__
    if not isinstance(variation, Explicit | Grid | Uniform):
        raise ValueError(
            f"{kind} moves quantities, but {type(variation).__name__} makes worlds of another kind: use Explicit, Grid "
            "or Uniform, or leave the schedule out."
        )
    schedule.check(environment, num_clients, num_rounds)
    for worlds in each_station(schedule, environment, variation, num_clients).values():
        _check_ranges(environment, {name: worlds[name] for name in schedule.names}, f"Change it in {kind}.")
        environment.check_worlds(worlds)


def each_station(schedule: Schedule, environment: World, variation: Variation, num_clients: int) -> dict[int, Worlds]:
    """All quantities of the clients at the stations of a schedule, by round, float64 `[C]`.

    >>> from polyfed.environments import CartPole, Explicit
    >>> found = each_station(Drift(to={"force": 12.0}, first=5), CartPole(), Explicit(), num_clients=2)
    >>> {round_: worlds["force"].tolist() for round_, worlds in found.items()}
    {4: [10.0, 10.0], 5: [12.0, 12.0]}
    """
    before = every_quantity(variation, environment, num_clients)
    return {station: schedule.worlds(before, station) for station in schedule.stations}
