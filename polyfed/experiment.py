"""An experiment as one frozen value: its parts, what follows from them, and whether they go together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from polyfed.agents import DQN, Agent, Group, Mixed
from polyfed.aggregation import ServerSGD, WeightedMean
from polyfed.environments import Drift, Explicit
from polyfed.environments.schedule import Change
from polyfed.exchange import Parameters
from polyfed.exchange.ledger import Guarantee, noise_of, rounds_within
from polyfed.experiment_checks import check_experiment
from polyfed.leaves import stacked, with_number
from polyfed.membership import first_rounds, members
from polyfed.parts import (
    AnyAgent,
    AnyEnvironment,
    AnyHeldOut,
    AnyPayload,
    AnyRule,
    AnySchedule,
    AnyServerOptimizer,
    AnyTransform,
    AnyVariation,
)


class Evaluation(eqx.Module):
    """When and on what policies are evaluated: greedy, on fixed evaluation seeds, every policy on every environment."""

    every: int = eqx.field(default=10, static=True)  # rounds between evaluations
    own: bool = eqx.field(default=True, static=True)  # the clients' own policies too, where there is a global one
    episodes: int = eqx.field(default=10, static=True)  # per policy and environment
    seed: int = eqx.field(default=0, static=True)  # of the evaluation episodes, the same for every policy
    held_out: AnyHeldOut = eqx.field(default=Explicit(), static=True)  # environments that no client trains in
    num_held_out: int = eqx.field(default=0, static=True)  # how many of them


class Variant(eqx.Module):
    """The experiment with another rule, payload, transforms or numbers, under a name that `compare` can call.

    >>> Variant("robust", numbers=(("agent.worst_case.omega", 0.5),)).method
    'robust'
    """

    method: str = eqx.field(static=True)  # lower case, words joined by underscores
    rule: AnyRule | None = None  # none: the experiment's own
    numbers: tuple[tuple[str, float], ...] = eqx.field(default=(), static=True)  # path of a field, and its value
    payload: AnyPayload | None = None  # none: the experiment's own
    transforms: tuple[AnyTransform, ...] | None = None  # none: the experiment's own

    def __call__(self, experiment: Experiment) -> Experiment:
        """The experiment so changed; raises `ValueError` if a path leads nowhere."""
        changed: Any = experiment
        for path, value in self.numbers:
            changed = with_number(changed, path, value)
        rule = changed.rule if self.rule is None else self.rule
        payload = changed.payload if self.payload is None else self.payload
        transforms = changed.transforms if self.transforms is None else self.transforms
        return dataclasses.replace(changed, method=self.method, rule=rule, payload=payload, transforms=transforms)


class Experiment(eqx.Module):
    """What is trained, where, how it is federated, and how it is judged.

    Its fields are its command-line help and its record in the run folder. `method` names the recipe that made it;
    `compare` names recipes, and `variants` of this experiment, that run beside it on the same worlds and seeds.
    """

    name: str = eqx.field(static=True)  # lower case, words joined by hyphens
    environment: AnyEnvironment
    variation: AnyVariation  # how the clients' worlds differ
    num_clients: int = eqx.field(static=True)  # clients
    agent: AnyAgent = DQN()  # the local learner, or a fleet of different ones
    payload: AnyPayload = Parameters()  # what clients send
    rule: AnyRule = WeightedMean()  # how messages become one
    server_optimizer: AnyServerOptimizer = ServerSGD()  # what the server does with the merged message
    transforms: tuple[AnyTransform, ...] = ()  # what happens to messages on the way
    num_rounds: int = eqx.field(default=100, static=True)  # rounds
    local_steps: int = eqx.field(default=100, static=True)  # per client and round; episodes for episodic learners
    num_envs: int = eqx.field(default=1, static=True)  # copies of its world that a client steps side by side
    pooled: bool = eqx.field(default=False, static=True)  # one agent lives in every client's world: nothing is private
    evaluation: Evaluation = Evaluation()
    method: str = eqx.field(default="fedavg", static=True)  # the recipe that this is
    common_start: bool = eqx.field(default=True, static=True)  # clients of a seed begin with the same parameters
    compare: tuple[str, ...] = eqx.field(default=(), static=True)  # recipes and variants that run beside it
    variants: tuple[Variant, ...] = ()  # what compare may call besides recipes
    schedule: AnySchedule = Drift()  # how the clients' worlds change while they train; by default they do not
    joins: tuple[int, ...] = eqx.field(default=(), static=True)  # each client's first round; none given: 1 for all

    @property
    def num_agents(self) -> int:
        """Agents that learn: one per client, or one for all."""
        return 1 if self.pooled else self.num_clients

    @property
    def worlds_per_agent(self) -> int:
        """Environments that an agent steps at each local step."""
        return self.num_envs * (self.num_clients if self.pooled else 1)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Clients that are made alike, the learner of each group, and its local steps."""
        given = self.agent.groups if isinstance(self.agent, Mixed) else (Group(self.agent, self.num_agents),)
        steps = [self.local_steps if group.local_steps is None else group.local_steps for group in given]
        return tuple(dataclasses.replace(g, local_steps=n) for g, n in zip(given, steps, strict=True))

    def placed_groups(self) -> list[tuple[int, Group]]:
        """The groups, each with its first client."""
        firsts = np.cumsum([0, *(group.num_clients for group in self.groups)])
        return [(int(first), group) for first, group in zip(firsts, self.groups, strict=False)]

    @property
    def personal(self) -> bool:
        """Whether every client keeps a policy of its own."""
        return self.rule.personal or not self.payload.global_policy

    @property
    def first_rounds(self) -> np.ndarray:
        """`[C]`: the first round in which each client takes part."""
        return first_rounds(self.joins, self.num_clients)

    @property
    def changes(self) -> tuple[Change, ...]:
        """What happens on the way, in order: worlds that move, clients that join late."""
        late = [Change(int(r), int(r), (c,), "joins") for c, r in enumerate(self.first_rounds) if r > 1]
        return tuple(sorted([*self.schedule.changes(self.num_clients), *late]))

    def there(self, rounds: np.ndarray) -> np.ndarray:
        """Who takes part in which round, `[R, C]`."""
        return members(self.first_rounds, rounds)

    @property
    def last_round(self) -> int:
        """The last round that is run: `num_rounds`, or fewer where a privacy budget allows no more."""
        return rounds_within(noise_of(self.transforms), self.num_rounds, self.payload.exchanges)

    def guarantee(self, rounds: int) -> Guarantee | None:
        """What clients' privacy has cost after so many rounds; None where no noise is added.

        Clients are not sampled: each takes part in every round, as far as it comes.
        """
        part, each = noise_of(self.transforms), self.payload.exchanges
        if part is None:
            return None
        return Guarantee.of(part, rounds=rounds, releases_per_round=each, num_clients=self.num_clients)

    def fingerprint(self) -> str:
        """A digest of what is read from files: samples, public states; empty where nothing is."""
        return self.environment.fingerprint() + self.payload.fingerprint()

    def learner_of(self, client: int) -> Agent:
        """The learner of a client, with its own numbers."""
        for group in self.groups:
            if client < group.num_clients:
                return jax.tree.map(lambda x, nth=client: x[nth], stacked(group.agent, group.num_clients))
            client -= group.num_clients
        raise ValueError(f"There is no such client among {self.num_clients}: count from 0.")

    def with_learners(self, function: Callable[[Any], Any]) -> Experiment:
        """The experiment with `function(learner)` in the place of every learner."""
        agent: Any = self.agent
        return dataclasses.replace(self, agent=agent.each(function) if isinstance(agent, Mixed) else function(agent))

    def check(self) -> None:
        """Raise `ValueError` in one sentence if the experiment cannot run as it stands."""
        check_experiment(self)

    def named_groups(self) -> list[tuple[str, Group]]:
        """The groups, each by the path of its learner."""
        if not isinstance(self.agent, Mixed):
            return [("agent", self.groups[0])]
        return [(f"agent.groups[{i}].agent", group) for i, group in enumerate(self.groups)]
