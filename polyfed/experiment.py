"""An experiment as one frozen value, and the check that refuses it in a sentence before anything compiles."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from polyfed.agents import A2C, DDPG, DQN, PPO, REINFORCE, SAC, Agent, Classifier, Group, Mixed, QLearning
from polyfed.agents.foreign import Foreign
from polyfed.agents.masking import mask_of
from polyfed.aggregation import (
    AlignedMean,
    CentredClipping,
    Consensus,
    CoordinateMedian,
    FedPGFilter,
    GeometricMedian,
    Krum,
    LocalOnly,
    NestedMean,
    NormBounding,
    ServerAdam,
    ServerMomentum,
    ServerSGD,
    ServerYogi,
    Switch,
    TrimmedMean,
    WassersteinBarycenter,
    WeightedMean,
)
from polyfed.aggregation.shared_walk import SharedWalk
from polyfed.checks import whole_in_range
from polyfed.environments import (
    Acrobot,
    Battery,
    Box,
    CartPole,
    Dataset,
    Dirichlet,
    Drift,
    Drifts,
    EdgeCache,
    Environment,
    EqualSplit,
    Explicit,
    Grid,
    HalfCheetah,
    Hopper,
    InvertedPendulum,
    LabelShards,
    MountainCar,
    MountainCarContinuous,
    Pendulum,
    Perturbed,
    RandomMDPs,
    TabularMDP,
    TestSet,
    Uniform,
    Walker2d,
    WindyCliff,
    WindyCliffs,
)
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.environments.schedule import Change, check_schedule
from polyfed.exchange import (
    CentralNoise,
    ClipNorm,
    DelayMessages,
    HalfPrecision,
    Hostile,
    Int8,
    LocalNoise,
    LoseMessages,
    Nothing,
    Parameters,
    PartialParameters,
    PartialWork,
    PoisonedPredictions,
    Predictions,
    Quorum,
    SecureSum,
    TopK,
    VanishAndReturn,
)
from polyfed.exchange.combinations import check_late, check_sums
from polyfed.exchange.ledger import Guarantee, check_order, noise_of, rounds_within
from polyfed.exchange.server_walk import ServerStates
from polyfed.leaves import check_leaves, differing, stacked, with_number
from polyfed.membership import check_joins, first_rounds, members
from polyfed.types import Update

Classic = CartPole | Acrobot | MountainCar | MountainCarContinuous | Pendulum
Bodies = HalfCheetah | Hopper | Walker2d | InvertedPendulum
Tabular = TabularMDP | WindyCliff
AnyEnvironment = Classic | Bodies | Tabular | EdgeCache | Battery | Gymnasium | Dataset
AnyVariation = Explicit | Grid | Uniform | RandomMDPs | WindyCliffs | EqualSplit | LabelShards | Dirichlet
AnyHeldOut = Explicit | Grid | Uniform | Perturbed | TestSet
AnySchedule = Drift | Drifts
AnyAgent = DQN | DDPG | QLearning | Classifier | REINFORCE | A2C | PPO | SAC | Mixed
AnyPayload = Parameters | PartialParameters | Predictions | Nothing | ServerStates
Robust = CoordinateMedian | TrimmedMean | GeometricMedian | Krum | CentredClipping | NormBounding | FedPGFilter
Fusion = WeightedMean | WassersteinBarycenter | LocalOnly | AlignedMean | NestedMean | Switch
AnyRule = Fusion | Robust | Consensus | SharedWalk
AnyServerOptimizer = ServerSGD | ServerMomentum | ServerAdam | ServerYogi
Changing = ClipNorm | HalfPrecision | Int8 | TopK | SecureSum | CentralNoise | LocalNoise
Fault = LoseMessages | DelayMessages | VanishAndReturn | PartialWork | Quorum | Hostile | PoisonedPredictions
AnyTransform = Changing | Fault


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
        self._check_names()
        whole_in_range("num_clients", self.num_clients, 1, 10**6)
        whole_in_range("num_rounds", self.num_rounds, 1, 10**9)
        whole_in_range("local_steps", self.local_steps, 1, 10**9)
        whole_in_range("num_envs", self.num_envs, 1, 10**6)
        self.environment.check()
        self.variation.check(self.environment, self.num_clients)
        check_schedule(self.schedule, self.environment, self.variation, self.num_clients, self.num_rounds)
        check_joins(self.joins, self.num_clients, self.num_rounds)
        if isinstance(self.agent, Mixed):
            self._check_mixed(self.agent)
        for name, group in self.named_groups():
            group.agent.check(self.environment)
            self._check_mask(name, group.agent)
            if self.pooled and (several := differing(name, group.agent)):
                raise ValueError(
                    f"pooled trains one agent in the worlds of all clients, but {several[0]} has a number for each of "
                    "them: give one number, or drop pooled from compare."
                )
            check_leaves(name, group.agent, group.num_clients)
            if isinstance(group.agent, Foreign):
                self._check_foreign(name)
            else:
                self._check_lengths(name, group)
        self._check_payload()
        transforms = [(f"transforms[{i}]", transform) for i, transform in enumerate(self.transforms)]
        for name, part in (("rule", self.rule), ("server_optimizer", self.server_optimizer), *transforms):
            part.check()
            check_leaves(name, part, num_clients=None)
        for transform in self.transforms:
            transform.check_clients(self.num_clients)
        self._check_evaluation()
        self._check_widths()
        self._check_fit()
        self._check_messages()

    def named_groups(self) -> list[tuple[str, Group]]:
        """The groups, each by the path of its learner."""
        if not isinstance(self.agent, Mixed):
            return [("agent", self.groups[0])]
        return [(f"agent.groups[{i}].agent", group) for i, group in enumerate(self.groups)]

    def _check_mixed(self, fleet: Mixed) -> None:
        fleet.check(self.num_clients)
        if self.pooled:
            raise ValueError(
                "pooled trains one agent in the worlds of all clients, but the agents of this fleet are made "
                "differently: drop pooled from compare."
            )

    def _check_mask(self, name: str, agent: Any) -> None:
        if mask_of(self.environment) is not None and not agent.heeds_masks:
            raise ValueError(
                f"{type(self.environment).__name__} allows but some of its actions in a state, and {name} is a "
                f"{type(agent).__name__}, which would take and count on the others: use DQN, REINFORCE, A2C or PPO."
            )

    def _check_foreign(self, name: str) -> None:
        if isinstance(self.payload, Parameters | PartialParameters):
            raise ValueError(
                f"{name} was made elsewhere and shows nobody its parameters: let clients send Predictions, as fedhpd "
                "does, or nothing."
            )
        if self.schedule.stations:
            raise ValueError(
                f"{name} was made elsewhere and is given its world once, so {type(self.schedule).__name__} would not "
                "reach it: leave the schedule out, or use a learner of ours."
            )
        if self.payload.walks:
            raise ValueError(
                f"{name} was made elsewhere and answers on public states that are fixed, but ServerStates change every "
                "round: let clients send Predictions."
            )

    def _check_payload(self) -> None:
        """Refuse what cannot be sent, and a rule or server optimizer that is not made for it."""
        self.payload.check(self.environment)
        check_leaves("payload", self.payload, None if isinstance(self.agent, Mixed) else self.num_agents)
        rule, sends = type(self.rule).__name__, self.payload.predictive
        if isinstance(self.payload, Nothing) != (not self.rule.exchanges) and not isinstance(self.payload, Parameters):
            raise ValueError(
                f"payload = {type(self.payload).__name__} and rule = {rule} disagree on whether clients send anything: "
                "use Nothing with LocalOnly, or another of both."
            )
        if sends != self.rule.predictive and self.rule.exchanges:
            remedy = "Consensus" if sends else "WeightedMean, or the payload Predictions"
            raise ValueError(
                f"{rule} cannot merge what clients send, which are {'predictions' if sends else 'parameters'}: "
                f"use {remedy}."
            )
        if self.rule.exchanges:
            self._check_walk()
        if sends and self.common_start:
            raise ValueError(
                "common_start = True would begin with one set of parameters for all, but clients that send predictions "
                "show nobody their parameters: give common_start=False."
            )
        if isinstance(self.agent, Mixed) and self.common_start:
            raise ValueError(
                "common_start = True would begin with one set of parameters for all, but the agents of this fleet are "
                "made differently: give common_start=False."
            )
        clients = getattr(self.rule, "check_clients", None)
        if clients is not None:
            clients(self.num_clients)

    def _check_walk(self) -> None:
        """Refuse a server that walks where nobody follows, or the other way round, and what would bend its way."""
        rule, payload, server = self.rule, type(self.payload).__name__, self.server_optimizer
        if self.payload.walks != rule.walks:
            who = "tells clients" if rule.walks else "does not tell clients"
            remedy = (
                "the payload ServerStates, or Consensus" if rule.walks else "SharedWalk, or the payload Predictions"
            )
            raise ValueError(
                f"{type(rule).__name__} {who} where to predict next, which does not fit {payload}: use {remedy}."
            )
        if rule.walks and (not isinstance(server, ServerSGD) or server.learning_rate != 1):
            raise ValueError(
                f"{type(server).__name__} would move the state at which {type(rule).__name__} stands: use "
                "ServerSGD(learning_rate=1)."
            )

    def _check_names(self) -> None:
        variants = [("variants.method", variant.method, "_") for variant in self.variants]
        for field, value, joint in (("name", self.name, "-"), ("method", self.method, "_"), *variants):
            if not re.fullmatch(f"[a-z0-9]+({joint}[a-z0-9]+)*", value):
                raise ValueError(
                    f"{field} = {value!r} cannot name a folder: use lower case and digits, words joined by {joint!r}."
                )

    def _check_lengths(self, name: str, group: Group) -> None:
        agent, local_steps = group.agent, group.local_steps or 0
        if local_steps % agent.rollout_length:
            raise ValueError(
                f"local_steps = {local_steps} cannot be cut into rollouts of {agent.rollout_length} steps: "
                f"make local_steps a multiple of {agent.rollout_length}."
            )
        if agent.episodic and not isinstance(self.environment, Environment):
            raise ValueError(
                f"{type(agent).__name__} learns from whole episodes, but {type(self.environment).__name__} has none: "
                "use another learner."
            )
        capacity = getattr(agent, "replay_capacity", 0)  # a learner may have no replay
        if capacity % self.worlds_per_agent:
            raise ValueError(
                f"{name}.replay_capacity = {capacity} cannot be shared evenly by "
                f"{self.worlds_per_agent} environments: make it a multiple of {self.worlds_per_agent}."
            )
        length, n_step = capacity // self.worlds_per_agent, getattr(agent, "n_step", 1)
        if capacity and length < n_step:
            raise ValueError(
                f"{name}.replay_capacity = {capacity} leaves each of {self.worlds_per_agent} environments {length} "
                f"steps, fewer than {name}.n_step = {n_step}: give at least {n_step * self.worlds_per_agent}."
            )
        starts = np.ravel(getattr(agent, "learning_starts", 0))
        forgets = not getattr(getattr(agent, "survival", None), "replay", True)
        if forgets and np.any(late := starts > local_steps):
            raise ValueError(
                f"{name}.learning_starts = {starts[late][0]} is more than local_steps = {local_steps}, but the "
                "replay is emptied every round, so nothing would ever be learned: start earlier, take more local "
                f"steps, or let {name}.survival.replay be kept."
            )

    def _check_evaluation(self) -> None:
        whole_in_range("evaluation.every", self.evaluation.every, 1, self.num_rounds, "rounds")
        whole_in_range("evaluation.episodes", self.evaluation.episodes, 1, 10**6)
        whole_in_range("evaluation.seed", self.evaluation.seed, 0, 2**32 - 1)
        whole_in_range("evaluation.num_held_out", self.evaluation.num_held_out, 0, 10**6)
        held_out = self.evaluation.held_out
        if isinstance(held_out, Perturbed) and not self.evaluation.num_held_out:
            raise ValueError(
                "evaluation.held_out is a Perturbed, but evaluation.num_held_out is 0, so nothing would be tested: set "
                f"it to {held_out.num_worlds}."
            )
        if self.evaluation.num_held_out:
            self.evaluation.held_out.check(self.environment, self.evaluation.num_held_out)

    def _check_widths(self) -> None:
        """Refuse messages of networks of different widths at a rule that merges position by position."""
        widths = [name for name, group in self.named_groups() if getattr(group.agent, "width", None) is not None]
        if widths and not self.rule.nested:
            rule = type(self.rule).__name__
            raise ValueError(
                f"{widths[0]}.width gives clients networks of different widths, but {rule} merges networks of one "
                "shape: use NestedMean or AlignedMean(own=True), or leave the width out."
            )

    def _check_messages(self) -> None:
        """Refuse learners that cannot send what they should, and a rule that cannot merge it, by merging shapes."""
        space = self.environment.observation_space
        num_states = getattr(getattr(self.payload, "distillation", None), "chunks", 0)  # the fewest that will do
        public = jnp.zeros((num_states, space.size if isinstance(space, Box) else 1))

        def messages(group: Group) -> Any:
            """`[clients, ...]`."""
            first = lambda part: jax.tree.map(lambda x: x[0], stacked(part, group.num_clients))  # noqa: E731
            agent = first(self.payload).of(first(group.agent), public)
            payload = agent.share(agent.init(jax.random.key(0), self.environment, self.worlds_per_agent))
            return jax.tree.map(lambda x: jnp.broadcast_to(x, (group.num_clients, *jnp.shape(x))), payload)

        def merge(payload: Any) -> Any:
            one, rule = jax.tree.map(lambda x: x[0], payload), cast(Any, self.rule)
            for transform in self.transforms:
                transform.init(one, self.num_agents)
            return rule.aggregate(rule.init(one), Update(payload, jnp.ones(self.num_agents, jnp.float32)))[0]

        groups = [(name, g) for name, g in self.named_groups() if not isinstance(g.agent, Foreign)]
        if not groups:
            return
        if isinstance(self.payload, Predictions):
            for _, group in groups:
                self.payload.of(group.agent, public).check(self.environment)
        (_, first), *others = groups
        payload = jax.eval_shape(lambda: messages(first))
        for name, group in others:
            other = jax.eval_shape(lambda group=group: messages(group))
            if _form_of_one(other) != _form_of_one(payload):
                raise ValueError(
                    f"The clients of {groups[0][0]} and of {name} send messages of different shapes, which nothing can "
                    "merge: let them send Predictions of one kind, as fedhpd does, or nothing."
                )
        whole = jax.tree.map(lambda x: jax.ShapeDtypeStruct((self.num_agents, *x.shape[1:]), x.dtype), payload)
        jax.eval_shape(merge, whole)

    def _check_silent(self, who: str) -> None:
        """Refuse what would act on messages where there are none."""
        remedy = "do not pool" if self.pooled else "use a rule that exchanges"
        for transform in self.transforms:
            name = type(transform).__name__
            raise ValueError(f"{who} sends no message, so {name} would never act: drop {name}, or {remedy}.")
        server = self.server_optimizer
        if not isinstance(server, ServerSGD) or server.learning_rate != 1:
            raise ValueError(
                f"{who} sends no message, so {type(server).__name__} would only change what a client has learned by "
                f"itself: use ServerSGD(learning_rate=1), or {remedy}."
            )

    def _check_fit(self) -> None:
        """Refuse combinations of rule and transforms that contradict each other, from their declared facts."""
        bounded = None
        if self.pooled or not self.rule.exchanges:
            self._check_silent("A pooled agent" if self.pooled else type(self.rule).__name__)
        check_sums(self.transforms, self.rule, judges_own=self.evaluation.own and not self.personal)
        check_late(self.transforms, self.payload)
        if self.joins and isinstance(self.payload, Predictions) and self.payload.distillation.in_parts:
            raise ValueError(
                "A client that joins late does not know whose turn among the parts of the public states it is: use "
                'distillation.refresh = "event", or leave joins out.'
            )
        for transform in self.transforms:
            name = type(transform).__name__
            if transform.loses and isinstance(self.payload, Predictions) and self.payload.distillation.in_parts:
                raise ValueError(
                    f"{name} may lose every message of an exchange, after which clients would take the consensus on "
                    f'one part of the public states for that on the next: use distillation.refresh = "event", or drop '
                    f"{name}."
                )
            if bounded and not transform.keeps_norm and transform.hides != "local":
                raise ValueError(
                    f"{name} after {bounded} may enlarge a message that was clipped, so the bound would no longer "
                    f"hold: put {name} before {bounded}."
                )
            bounded = name if transform.bounds_norm else None if transform.hides == "local" else bounded
        check_order(self.transforms, self.rule, not getattr(self.variation, "even", True))
        self._check_budget()

    def _check_budget(self) -> None:
        """Refuse a budget that not even one round stays within."""
        if self.last_round < 1 and (first := self.guarantee(1)) is not None:
            raise ValueError(
                f"The first round would spend epsilon = {first.epsilon:.4g} at delta = {first.delta:g}, beyond the "
                f"budget of {first.budget:g}: raise transforms.noise_multiplier = {first.noise_multiplier:g}, or the "
                "budget."
            )


def _form_of_one(payload: Any) -> Any:
    """Structure, shapes and types of one client's message."""
    leaves, structure = jax.tree.flatten(payload)
    return structure, [(leaf.shape[1:], leaf.dtype) for leaf in leaves]
