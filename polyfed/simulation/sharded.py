"""The clients of a simulation that is larger than one machine: shards in actors, one merge per exchange here.

`Simulation(experiment, seeds, afar=...)` takes a `Sharded` where it would run compiled clients: rules, transforms,
server optimizer, metrics, checkpoints, run folder and report are those of the simulation.

What actors have learned is fetched every `KEEP` exchanges and at every checkpoint. An actor that dies is started again,
given what its shard had learned then, and sent once more what was sent since: it arrives where it was, bit for bit, and
nobody else does a round twice.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from polyfed.agents.foreign import Foreign
from polyfed.exchange.transform import Transform
from polyfed.experiment import Experiment
from polyfed.record import to_data
from polyfed.simulation.compile_clock import waited_for
from polyfed.simulation.crew import ActorFailedError, ActorLostError, Crew
from polyfed.simulation.engine import first_payload, init_clients
from polyfed.simulation.round import Client
from polyfed.simulation.shard import Answer, Bounds, Kept, bounds
from polyfed.simulation.simulate import Simulation

KEEP = 20  # exchanges after which what actors have learned is fetched at the latest
LIVES = 3  # of an actor within one call, before the run ends


@dataclasses.dataclass
class _Place:
    """An actor, its clients, and what it takes to bring them back."""

    clients: Bounds
    actor: Any
    kept: Kept | None = None  # as `Shard.save` gave it; None: as they begin


def check_sharded(experiment: Experiment) -> None:
    """Raise `ValueError` where an experiment cannot be cut into shards.

    >>> from polyfed.experiments import load
    >>> check_sharded(load("cartpole-poles"))
    """
    if any(isinstance(group.agent, Foreign) for group in experiment.groups):
        raise ValueError(
            "Agents made elsewhere live in the process that merges, and not in actors: leave --engine out, or use a "
            "learner of polyfed."
        )


class Sharded:
    """All clients, in the actors of a crew.

    Args:
      simulation: Whose clients they are.
      crew: Where they live.

    Attributes:
      clients: Which clients they are: all.
      longest_block: Rounds after which the federation should be kept at the latest.
      complaints: A sentence for each death and failure that nobody has been told of yet.
    """

    longest_block = KEEP

    def __init__(self, simulation: Simulation, crew: Crew):
        self.experiment = simulation.experiment
        check_sharded(self.experiment)
        self.simulation, self.crew = simulation, crew
        self.clients = list(range(self.experiment.num_agents))
        self.complaints: list[str] = []
        self._places: list[_Place] = []
        self._sent: list[tuple[Any, int, int]] = []  # since what was kept: what to whom, round, exchange
        self._whole: tuple[Client, ...] | None = None  # as `save` gave it last, while nobody has learned since
        self._data = to_data(self.experiment)

    # What a simulation asks of those that live elsewhere.

    def ready(self) -> None:
        """Nothing is to be made."""

    def begin(self) -> None:
        """Start every actor anew."""
        self.end()
        self._sent, self._whole = [], None
        cut = bounds(len(self.clients), self.crew.num_actors)
        self._places = [_Place(clients, self._started(clients)) for clients in cut]
        self._ask("begin", [()] * len(cut))

    def first_messages(self) -> Any:
        """`[S, ...]`: the payload from which all start."""
        return first_payload(self.simulation.homes)

    def at_server(self, transforms: Sequence[Transform]) -> tuple[Transform, ...]:
        """All of the experiment's transforms: none acts in a shard."""
        return tuple(transforms)

    def exchange(self, broadcast: Any, round_: int, nth: int) -> tuple[Any, np.ndarray, dict[str, np.ndarray]]:
        """The clients' half of an exchange.

        Args:
          broadcast: Leaves `[S, ...]`, or `[S, C, ...]` where each client has its own.
          round_: The round, from 1.
          nth: Which of its exchanges, from 0.

        Returns:
          `(payload [S, C, ...], came [S, C], metrics [S, C])`.

        Raises:
          ActorLostError: One died again and again.
          ActorFailedError: The clients' half raised.
        """
        self._whole = None
        sent = self._packed(jax.tree.leaves(broadcast))
        answers: list[Answer] = self._ask("exchange", [(each, round_, nth) for each in sent])
        self._sent.append((sent, round_, nth))
        if len(self._sent) >= KEEP:
            self._keep()
        waited_for(max(answer.compiled for answer in answers))
        self.complaints += dict.fromkeys(answer.told for answer in answers if answer.told)
        whole = lambda parts: np.concatenate(parts, axis=1)  # noqa: E731
        leaves = [whole(parts) for parts in zip(*(answer.payload for answer in answers), strict=True)]
        payload = jax.tree.unflatten(jax.tree.structure(broadcast), leaves)
        return payload, whole([answer.came for answer in answers]), self._figures(answers)

    def evaluate(self, worlds: Any, num_episodes: int, round_: int) -> np.ndarray:
        """Mean scores `[S, C, M]` of every client's own policy; actors know all worlds."""
        del worlds, num_episodes
        return np.concatenate(self._ask("evaluate", [(round_,)] * len(self._places)), axis=1)

    def save(self) -> tuple[Client, ...]:
        """What all have learned: the clients of each group, leaves `[S * n, ...]`, however they are cut into shards."""
        if self._whole is not None:
            return self._whole
        self._keep()
        found = []
        for group, form in enumerate(self._forms):
            parts = [place.kept[group] for place in self._places if place.kept and group in place.kept]
            leaves = [np.concatenate(rows, axis=1) for rows in zip(*parts, strict=True)]
            leaves = [x.reshape(-1, *x.shape[2:]) for x in leaves]
            found.append(jax.tree.unflatten(jax.tree.structure(form), leaves))
        self._whole = tuple(found)
        return self._whole

    def load(self, learned: Sequence[Client], num_rounds: int) -> None:
        """Give every actor what its clients had learned after `num_rounds`."""
        del num_rounds
        groups = self.experiment.placed_groups()
        for place in self._places:
            begin, end = place.clients
            place.kept = {}
            for nth, ((first, group), clients) in enumerate(zip(groups, learned, strict=True)):
                which = slice(max(first, begin) - first, min(first + group.num_clients, end) - first)
                if which.start < which.stop:
                    by_seed = lambda x, n=group.num_clients: np.reshape(x, (-1, n, *np.shape(x)[1:]))  # noqa: E731
                    place.kept[nth] = [by_seed(x)[:, which] for x in jax.tree.leaves(clients)]
        self._sent, self._whole = [], None
        self._ask("load", [(place.kept,) for place in self._places])

    def weights_of(self, nth_seed: int) -> dict[str, Any]:
        """By client, the weights of those of a seed."""
        found, learned = {}, self.save()
        for (first, group), clients, parts in zip(
            self.experiment.placed_groups(), learned, self.simulation.homes.parts, strict=True
        ):
            shared = jax.vmap(parts.agent.parameters)(clients.agent)
            for c in range(group.num_clients):
                place = nth_seed * group.num_clients + c
                found[f"client-{first + c}"] = jax.tree.map(lambda x, place=place: x[place], shared)
        return found

    def told(self) -> str:
        """Every complaint since the last call, equal ones once with their number."""
        counted = {text: self.complaints.count(text) for text in dict.fromkeys(self.complaints)}
        self.complaints = []
        return " ".join(text if count == 1 else f"{text} ({count} times)" for text, count in counted.items())

    def end(self) -> None:
        """Let all actors go."""
        for place in self._places:
            self.crew.stop(place.actor)
        self._places = []

    # Actors

    def _started(self, clients: Bounds) -> Any:
        return self.crew.start(self._data, self.simulation.seeds, clients)

    def _ask(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What every actor answers, in their order; one that dies is brought back and asked again."""
        calls = zip(self._places, arguments, strict=True)
        tickets = [self.crew.call(place.actor, method, *given) for place, given in calls]
        return [self._answer(nth, method, arguments[nth], ticket) for nth, ticket in enumerate(tickets)]

    def _answer(self, nth: int, method: str, arguments: tuple[Any, ...], ticket: Any) -> Any:
        place = self._places[nth]
        whose = f"The actor of clients {place.clients[0]} to {place.clients[1] - 1}"
        for _ in range(LIVES):
            try:
                return self.crew.result(ticket)
            except ActorFailedError as error:
                raise ActorFailedError(
                    f"{whose} failed at {method!r}: {error} What was kept can be resumed."
                ) from error
            except ActorLostError as error:
                self.complaints.append(f"{whose} died and was started again: {error}.")
            ticket = self._brought_back(nth, method, arguments)
        raise ActorLostError(
            f"{whose} died {LIVES} times at {method!r}: {self.told()} What was kept can be resumed; give each actor "
            "more memory, or use more actors."
        )

    def _brought_back(self, nth: int, method: str, arguments: tuple[Any, ...]) -> Any:
        """A new actor, sent after another all that brings it where the old one was; what it answers is known."""
        place, call = self._places[nth], self.crew.call
        self.crew.stop(place.actor)
        place.actor = self._started(place.clients)
        if method in ("begin", "load"):
            return call(place.actor, method, *arguments)
        call(place.actor, *(("begin",) if place.kept is None else ("load", place.kept)))
        for sent, round_, exchange in self._sent:
            call(place.actor, "exchange", sent[nth], round_, exchange)
        return call(place.actor, method, *arguments)

    def _keep(self) -> None:
        """Fetch what actors have learned; forget what was sent to bring them there."""
        if self._sent or any(place.kept is None for place in self._places):
            for place, kept in zip(self._places, self._ask("save", [()] * len(self._places)), strict=True):
                place.kept = kept
            self._sent = []

    # Arrays

    def _packed(self, leaves: list[np.ndarray]) -> list[Any]:
        """What goes to each actor: the same for all, or the rows of its clients."""
        if not self.experiment.rule.personal:
            return [self.crew.share([np.asarray(x) for x in leaves])] * len(self._places)
        return [[np.asarray(x)[:, slice(*place.clients)] for x in leaves] for place in self._places]

    @functools.cached_property
    def _forms(self) -> tuple[Client, ...]:
        whole = Simulation(self.experiment, self.simulation.seeds)
        return jax.eval_shape(lambda homes: init_clients(homes, whole.plan)[0], whole.homes)

    def _figures(self, answers: list[Answer]) -> dict[str, np.ndarray]:
        """Metrics of all clients; NaN at those whose learner has no such figure."""
        names = dict.fromkeys(name for answer in answers for name in answer.metrics)

        def row(answer: Answer, name: str) -> np.ndarray:
            return answer.metrics.get(name, np.full(answer.came.shape, np.nan, np.float32))

        return {name: np.concatenate([row(answer, name) for answer in answers], axis=1) for name in names}
