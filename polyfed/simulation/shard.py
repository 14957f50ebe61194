"""Some clients of an experiment, of all seeds: the engine's own program, with a plan that holds these alone."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from polyfed.experiment import Experiment
from polyfed.simulation.compile_clock import compile_seconds
from polyfed.simulation.engine import (
    SPREAD,
    Federation,
    Homes,
    evaluate_own,
    first_payload,
    init_clients,
    run_clients,
)
from polyfed.simulation.plan import plan
from polyfed.simulation.round import Client, Server
from polyfed.simulation.simulate import Simulation

Bounds = tuple[int, int]
"""`(first, end)`: the clients `first, ..., end - 1`."""

Kept = dict[int, list[np.ndarray]]
"""By group of the experiment, what those of its clients have learned that are in a shard: leaves `[S, n, ...]`."""


def bounds(num_clients: int, num_shards: int) -> list[Bounds]:
    """Clients in a row cut into shards that differ by one client at most; none is empty.

    >>> bounds(5, 2)
    [(0, 3), (3, 5)]
    >>> bounds(2, 8)
    [(0, 1), (1, 2)]
    """
    num_shards = min(num_shards, num_clients)
    cuts = [-(-num_clients * i // num_shards) for i in range(num_shards + 1)]
    return list(itertools.pairwise(cuts))


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a shard of `n` clients has to say to what the server sent.

    `payload` are the leaves `[S, n, ...]` of what they share, `came` `[S, n]` says whose worlds did not fail, `metrics`
    are `[S, n]`, `told` says which worlds failed, `compiled` are the seconds that it has compiled.
    """

    payload: list[np.ndarray]
    came: np.ndarray
    metrics: dict[str, np.ndarray]
    told: str
    compiled: float


class Shard:
    """Clients that live together in one process, away from the server.

    Their keys, worlds and numbers are those that they have in `Simulation`.

    Args:
      experiment: The whole one.
      seeds: Of the run.
      clients: Which of its agents, see `Bounds`; of several groups if they are.

    >>> from polyfed.experiments import load
    >>> Shard(load("cartpole-poles"), seeds=(0, 1), clients=(1, 3)).plan.groups
    ((1, 2, 200),)
    """

    def __init__(self, experiment: Experiment, seeds: tuple[int, ...], clients: Bounds):
        self.experiment, self.simulation = experiment, Simulation(experiment, seeds)
        self.first, self.end = clients
        self.clients: tuple[Client, ...] = ()  # laid over the devices, as the engine leaves them
        cuts = [
            (nth, first, max(first, self.first), min(first + group.num_clients, self.end), group.local_steps or 0)
            for nth, (first, group) in enumerate(experiment.placed_groups())
        ]
        cuts = [cut for cut in cuts if cut[2] < cut[3]]
        self._slices = [(nth, slice(begin - first, end - first)) for nth, first, begin, end, _ in cuts]
        self.plan = plan(
            len(seeds),
            experiment.num_agents,
            [(begin, end - begin, steps) for _, _, begin, end, steps in cuts],
            common_start=experiment.common_start,
            exchanges=experiment.payload.exchanges,
        )

    @functools.cached_property
    def homes(self) -> Homes:
        """What stays at the clients of the experiment, with the parts of these alone."""
        whole = self.simulation.homes

        def own(nth: int, which: slice) -> Any:
            agent = jax.tree.map(lambda x: x[which], whole.parts[nth].agent)
            return dataclasses.replace(whole.parts[nth], agent=agent)

        return dataclasses.replace(whole, parts=tuple(own(*cut) for cut in self._slices))

    @functools.cached_property
    def _form(self) -> Any:
        """Structure, shapes and types of the first payload."""
        return jax.eval_shape(first_payload, self.homes)

    def begin(self) -> None:
        """Be what the clients are before the first round."""
        self.clients = init_clients(self.homes, self.plan)[0]

    def exchange(self, broadcast: list[np.ndarray], round_: int, nth: int) -> Answer:
        """The clients' half of an exchange.

        Args:
          broadcast: Leaves `[S, ...]`, or `[S, n, ...]` where each client has its own.
          round_: The round, from 1.
          nth: Which of its exchanges, from 0.
        """
        began, personal = compile_seconds(), self.experiment.rule.personal
        sent = jax.tree.unflatten(jax.tree.structure(self._form), list(map(self._placed, broadcast)))
        federation = Federation(self.clients, Server(sent, (), (), ()), jnp.asarray(round_ - 1, jnp.int32))
        clients, update, metrics = run_clients(federation, self.homes, self.plan, personal, jnp.asarray(nth, jnp.int32))
        self.clients = clients
        payload, weight, metrics = jax.device_get((jax.tree.leaves(update.payload), update.weight, metrics))
        figures = {name: np.asarray(value) for name, value in metrics.items()}
        told = self.simulation.told().strip()
        return Answer(
            [np.asarray(x) for x in payload], np.asarray(weight) > 0, figures, told, compile_seconds() - began
        )

    def _placed(self, sent: np.ndarray) -> np.ndarray:
        """What was sent, at the places of these clients where each has its own; the engine counts them among all."""
        if not self.experiment.rule.personal:
            return sent
        whole = np.zeros((len(sent), self.plan.num_clients, *sent.shape[2:]), sent.dtype)
        whole[:, self.first : self.end] = sent
        return whole

    def evaluate(self, round_: int) -> np.ndarray:
        """Mean scores `[S, n, M]` of their own policies in all worlds of the experiment, as they are after a round."""
        worlds, episodes = self.simulation.worlds_after(round_), self.experiment.evaluation.episodes
        return np.asarray(evaluate_own(self.clients, self.homes, self.plan, worlds, episodes))

    def save(self) -> Kept:
        """What they have learned."""
        num_seeds, found = len(self.simulation.seeds), {}
        for (group, _), share, members in zip(self._slices, self.plan.shares, self.clients, strict=True):
            leaves = jax.device_get(jax.tree.leaves(share.cut(members)))
            found[group] = [np.asarray(x).reshape(num_seeds, share.num_clients, *x.shape[1:]) for x in leaves]
        return found

    def load(self, kept: Kept) -> None:
        """Be what `save` gave."""
        forms = jax.eval_shape(lambda homes: init_clients(homes, self.plan)[0], self.homes)
        clients = []
        for (group, _), share, form in zip(self._slices, self.plan.shares, forms, strict=True):
            rows = [jnp.asarray(x.reshape(share.total, *x.shape[2:])) for x in kept[group]]
            clients.append(share.fill(jax.tree.unflatten(jax.tree.structure(form), rows)))
        self.clients = jax.device_put(tuple(clients), NamedSharding(self.plan.mesh, SPREAD))
