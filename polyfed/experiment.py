"""An experiment as one frozen value, and the check that refuses it in a sentence before anything compiles."""

from __future__ import annotations

import equinox as eqx

from polyfed.agents import DQN
from polyfed.aggregation import (
    LocalOnly,
    ServerAdam,
    ServerMomentum,
    ServerSGD,
    ServerYogi,
    WassersteinBarycenter,
    WeightedMean,
)
from polyfed.checks import in_range
from polyfed.environments import (
    Acrobot,
    CartPole,
    Explicit,
    Grid,
    MountainCar,
    MountainCarContinuous,
    Pendulum,
    Uniform,
)
from polyfed.exchange import ClipNorm, HalfPrecision, LoseMessages
from polyfed.leaves import check_leaves, differing

AnyEnvironment = CartPole | Acrobot | MountainCar | MountainCarContinuous | Pendulum
AnyVariation = Explicit | Grid | Uniform
AnyRule = WeightedMean | WassersteinBarycenter | LocalOnly
AnyServerOptimizer = ServerSGD | ServerMomentum | ServerAdam | ServerYogi
AnyTransform = ClipNorm | HalfPrecision | LoseMessages


class Evaluation(eqx.Module):
    """When and on what policies are evaluated: greedy, on fixed evaluation seeds, every policy on every environment."""

    every: int = eqx.field(default=10, static=True)  # rounds between evaluations
    episodes: int = eqx.field(default=10, static=True)  # per policy and environment
    seed: int = eqx.field(default=0, static=True)  # of the evaluation episodes, the same for every policy
    held_out: AnyVariation = eqx.field(default=Explicit(), static=True)  # environments that no client trains in
    num_held_out: int = eqx.field(default=0, static=True)  # how many of them


class Experiment(eqx.Module):
    """What is trained, where, how it is federated, and how it is judged.

    Its fields are its command-line help and its record in the run folder. `method` names the recipe that made it;
    `compare` names recipes that run beside it on the same worlds and seeds.
    """

    name: str = eqx.field(static=True)  # lower case, words joined by hyphens
    environment: AnyEnvironment
    variation: AnyVariation  # how the clients' worlds differ
    num_clients: int = eqx.field(static=True)  # clients
    agent: DQN = DQN()  # the local learner
    rule: AnyRule = WeightedMean()  # how messages become one
    server_optimizer: AnyServerOptimizer = ServerSGD()  # what the server does with the merged message
    transforms: tuple[AnyTransform, ...] = ()  # what happens to messages on the way
    num_rounds: int = eqx.field(default=100, static=True)  # rounds
    local_steps: int = eqx.field(default=100, static=True)  # environment steps per client and round
    num_envs: int = eqx.field(default=1, static=True)  # copies of its world that a client steps side by side
    pooled: bool = eqx.field(default=False, static=True)  # one agent lives in every client's world: nothing is private
    evaluation: Evaluation = Evaluation()
    method: str = eqx.field(default="fedavg", static=True)  # the recipe that this is
    compare: tuple[str, ...] = eqx.field(default=(), static=True)  # recipes that run beside it

    @property
    def num_agents(self) -> int:
        """Agents that learn: one per client, or one for all."""
        return 1 if self.pooled else self.num_clients

    @property
    def worlds_per_agent(self) -> int:
        """Environments that an agent steps at each local step."""
        return self.num_envs * (self.num_clients if self.pooled else 1)

    def check(self) -> None:
        """Raise `ValueError` in one sentence if the experiment cannot run as it stands."""
        in_range("num_clients", self.num_clients, 1, 10**6)
        in_range("num_rounds", self.num_rounds, 1, 10**9)
        in_range("local_steps", self.local_steps, 1, 10**9)
        in_range("num_envs", self.num_envs, 1, 10**6)
        self.variation.check(self.environment, self.num_clients)
        self.agent.check(self.environment)
        check_leaves("agent", self.agent, self.num_clients)
        if self.pooled and (several := differing("agent", self.agent)):
            raise ValueError(
                f"pooled trains one agent in the worlds of all clients, but {several[0]} has a number for each of "
                "them: give one number, or drop pooled from compare."
            )
        self._check_lengths()
        self.rule.check()
        self.server_optimizer.check()
        for transform in self.transforms:
            transform.check()
        self._check_evaluation()
        self._check_fit()

    def _check_lengths(self) -> None:
        if self.local_steps % self.agent.rollout_length:
            raise ValueError(
                f"local_steps = {self.local_steps} cannot be cut into rollouts of {self.agent.rollout_length} steps: "
                f"make local_steps a multiple of {self.agent.rollout_length}."
            )
        capacity = getattr(self.agent, "replay_capacity", 0)  # a learner may have no replay
        if capacity % self.worlds_per_agent:
            raise ValueError(
                f"agent.replay_capacity = {capacity} cannot be shared evenly by "
                f"{self.worlds_per_agent} environments: make it a multiple of {self.worlds_per_agent}."
            )

    def _check_evaluation(self) -> None:
        in_range("evaluation.every", self.evaluation.every, 1, self.num_rounds, "rounds")
        in_range("evaluation.episodes", self.evaluation.episodes, 1, 10**6)
        in_range("evaluation.num_held_out", self.evaluation.num_held_out, 0, 10**6)
        if self.evaluation.num_held_out:
            self.evaluation.held_out.check(self.environment, self.evaluation.num_held_out)

    def _check_fit(self) -> None:
        """Refuse combinations of rule and transforms that contradict each other, from their declared facts."""
        rule, bounded = type(self.rule).__name__, None
        for transform in self.transforms:
            name = type(transform).__name__
            if not self.rule.exchanges:
                raise ValueError(
                    f"{rule} sends no message, so {name} would never act: drop {name}, or use a rule that exchanges."
                )
            if transform.sum_only and not self.rule.linear:
                raise ValueError(
                    f"{name} reveals only the sum of the messages, but {rule} needs them one by one: "
                    f"use WeightedMean, or drop {name}."
                )
            if bounded and not transform.keeps_norm:
                raise ValueError(
                    f"{name} after {bounded} may enlarge a message that was clipped, so the bound would no longer "
                    f"hold: put {name} before {bounded}."
                )
            bounded = name if transform.bounds_norm else bounded
