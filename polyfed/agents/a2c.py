"""Advantage actor-critic, synchronous (Mnih et al. 2016, the batched form of A3C), with generalized advantages.

References: mnih2016a3c, schulman2016gae.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.agents.advantage import both_stepped, check_steps, judged
from polyfed.agents.masking import allowed_by, masked
from polyfed.agents.observation_statistics import ObservationStatistics, with_more
from polyfed.agents.policy_gradient import Penalty, PolicyGradient, PolicyState, clipped_adam
from polyfed.agents.returns import standardised
from polyfed.checks import whole_in_range
from polyfed.environments import World
from polyfed.environments.remembered import taken
from polyfed.types import Metrics, Trajectory


class A2C(PolicyGradient):
    """A policy and a value network, one gradient step of each per rollout of `rollout_steps`.

    Policy: `-mean(log pi(a_t|s_t) A_t) - entropy_weight mean H(pi(.|s_t))`; value: the mean of
    `(V(s_t) - A_t - V_old(s_t))^2` with `A_t` the generalized advantage, of n-step returns where `trace_decay` is 1. A
    time limit bootstraps with the value of the next observation, termination does not.

    >>> from polyfed.environments import CartPole
    >>> A2C(hidden=(32, 32)).check(CartPole())
    """

    hidden: tuple[int, ...] = eqx.field(default=(64, 64), static=True)  # units per hidden layer, of both networks
    activation: str | tuple[str, ...] = eqx.field(default="tanh", static=True)  # of all hidden layers, or of each
    scale: str = eqx.field(default="parameter", static=True)  # of normal policies: a parameter, or of the network
    rollout_steps: int = eqx.field(default=16, static=True)  # local steps per gradient step
    learning_rate: float = 1e-3  # Adam's step size
    value_learning_rate: float = 1e-3  # Adam's step size
    discount: float = 0.99  # 0 to 1
    trace_decay: float = 1.0  # lambda, 0 to 1
    entropy_weight: float = 0.01  # >= 0
    max_grad_norm: float | None = 0.5  # bound on the global norm of each network's gradient; none: unbounded
    normalize: bool = eqx.field(default=False, static=True)  # standardise the advantages of a rollout
    keep_optimizer: bool = eqx.field(default=True, static=True)  # Adam's moments survive a merge
    shared: tuple[str, ...] = eqx.field(default=("policy",), static=True)  # of policy, value, statistics
    statistics: ObservationStatistics | None = None  # standardise observations; none: as they come
    channels: tuple[int, ...] = eqx.field(default=(), static=True)  # of stages that halve an image; none: read flat
    memory: int = eqx.field(default=0, static=True)  # units of a GRU before the hidden layers, of each network; 0: none

    @property
    def rollout_length(self) -> int:
        """Local steps between two gradient steps."""
        return self.rollout_steps

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the environment does not fit."""
        self.check_policy(environment)
        whole_in_range("agent.rollout_steps", self.rollout_steps, 1, 2**20, "steps")
        check_steps(self)

    def learn(
        self, state: PolicyState, trajectory: Trajectory, key: PRNGKeyArray, *, penalty: Penalty | None = None
    ) -> tuple[PolicyState, Metrics]:
        """One gradient step of each network on a rollout `[T, E]`; `penalty` is added to the policy's loss."""
        del key
        trajectory = taken(trajectory)
        over = trajectory.terminated | trajectory.truncated
        seen, advantage, target = judged(self, state, trajectory, self.trace_decay)
        allowed = allowed_by(state.mask, trajectory.observation)
        if self.normalize:
            advantage = standardised(advantage, jnp.ones_like(advantage, bool))

        def loss(policy: Any) -> tuple[Float[Array, ""], Metrics]:
            outputs = masked(self.outputs(policy, seen, over), allowed)
            gain = jnp.mean(advantage * state.head.log_prob(outputs, trajectory.action))
            entropy = jnp.mean(state.head.entropy(outputs))
            total = -gain - self.entropy_weight * entropy
            return total + self.penalised(state, policy, penalty), {"loss": total, "entropy": entropy}

        def value_loss(network: Any) -> Float[Array, ""]:
            return jnp.mean((self.outputs(network, seen, over)[..., 0] - target) ** 2)

        new, metrics = both_stepped(self, state, loss, value_loss)
        statistics = () if self.statistics is None else with_more(state.statistics, trajectory.observation)
        return dataclasses.replace(new, statistics=statistics, updates=state.updates + 1), metrics

    def pooled(self, num_clients: int) -> A2C:
        """As many updates as one client takes, each on the rollouts of all worlds."""
        del num_clients
        return self

    def student_optimizer(self, state: PolicyState) -> optax.GradientTransformation:
        """What moves the policy."""
        del state
        return clipped_adam(self.learning_rate, self.max_grad_norm)

    def value_optimizer(self) -> optax.GradientTransformation:
        """What moves the value network."""
        return clipped_adam(self.value_learning_rate, self.max_grad_norm)
