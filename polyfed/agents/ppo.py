"""Proximal policy optimization with a clipped ratio (Schulman et al. 2017) and generalized advantages.

References: schulman2017ppo, schulman2016gae.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from polyfed.agents.advantage import both_stepped, check_steps, judged
from polyfed.agents.masking import allowed_by, masked
from polyfed.agents.observation_statistics import ObservationStatistics, with_more
from polyfed.agents.policy_gradient import Penalty, PolicyGradient, PolicyState, clipped_adam
from polyfed.agents.returns import standardised
from polyfed.checks import in_range, whole_in_range
from polyfed.environments import World
from polyfed.environments.remembered import taken
from polyfed.types import Metrics, Trajectory


class Samples(eqx.Module):
    """Steps of a rollout: without their order `[B]`, or in sequences `[T, E]` where there is a memory."""

    seen: Float[Array, "B D"]  # observations as the networks read them
    allowed: Bool[Array, "B A"] | None  # actions; None: all
    action: Array
    log_prob: Float[Array, " B"]  # of the policy that acted
    advantage: Float[Array, " B"]
    target: Float[Array, " B"]  # of the value
    over: Bool[Array, "T E"] | None  # steps with which an episode ended; None: there is no memory


def clipped_gain(
    log_ratio: Float[Array, " B"], advantage: Float[Array, " B"], clip: Float[Array, ""] | float
) -> Float[Array, " B"]:
    """`min(rho A, clamp(rho, 1 - clip, 1 + clip) A)` with `rho = pi(a|s) / pi_old(a|s)` (Schulman et al. 2017, eq. 7).

    >>> clipped_gain(jnp.array([3.0, 0.0]), jnp.array([1.0, -1.0]), 0.5)
    Array([ 1.5, -1. ], dtype=float32)
    """
    ratio = jnp.exp(log_ratio)
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


class PPO(PolicyGradient):
    """A policy and a value network, `epochs` times over each rollout of `rollout_steps`, in shuffled `minibatches`.

    Policy: `-mean(clipped_gain) - entropy_weight mean H(pi(.|s))`; value: the mean of `(V(s) - A - V_old(s))^2`. The
    generalized advantages `A` are made once per rollout, standardised in each minibatch if `normalize`. A time limit
    bootstraps with the value of the next observation, termination does not.

    >>> from polyfed.environments import CartPole
    >>> PPO(hidden=(32, 32)).check(CartPole())
    """

    hidden: tuple[int, ...] = eqx.field(default=(64, 64), static=True)  # units per hidden layer, of both networks
    activation: str | tuple[str, ...] = eqx.field(default="tanh", static=True)  # of all hidden layers, or of each
    scale: str = eqx.field(default="parameter", static=True)  # of normal policies: a parameter, or of the network
    rollout_steps: int = eqx.field(default=256, static=True)  # local steps per rollout
    epochs: int = eqx.field(default=10, static=True)  # times over a rollout
    minibatches: int = eqx.field(default=4, static=True)  # gradient steps per epoch
    clip: float = 0.2  # how far the ratio may be from 1 and still be paid for
    learning_rate: float = 3e-4  # Adam's step size
    value_learning_rate: float = 1e-3  # Adam's step size
    discount: float = 0.99  # 0 to 1
    trace_decay: float = 0.95  # lambda, 0 to 1
    entropy_weight: float = 0.0  # >= 0
    max_grad_norm: float | None = 0.5  # bound on the global norm of each network's gradient; none: unbounded
    normalize: bool = eqx.field(default=True, static=True)  # standardise the advantages of a minibatch
    keep_optimizer: bool = eqx.field(default=True, static=True)  # Adam's moments survive a merge
    shared: tuple[str, ...] = eqx.field(default=("policy",), static=True)  # of policy, value, statistics
    statistics: ObservationStatistics | None = None  # standardise observations; none: as they come
    channels: tuple[int, ...] = eqx.field(default=(), static=True)  # of stages that halve an image; none: read flat
    memory: int = eqx.field(default=0, static=True)  # units of a GRU before the hidden layers, of each network; 0: none

    @property
    def rollout_length(self) -> int:
        """Local steps between two times of learning."""
        return self.rollout_steps

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the environment does not fit."""
        self.check_policy(environment)
        whole_in_range("agent.rollout_steps", self.rollout_steps, 1, 2**20, "steps")
        whole_in_range("agent.epochs", self.epochs, 1, 10_000)
        whole_in_range("agent.minibatches", self.minibatches, 1, 2**20)
        in_range("agent.clip", self.clip, 0.0, 1.0)
        check_steps(self)
        if self.memory and self.rollout_steps % self.minibatches:
            raise ValueError(
                f"agent.rollout_steps = {self.rollout_steps} cannot be cut into agent.minibatches = {self.minibatches} "
                "sequences of equal length, as an agent with a memory learns from: make it a multiple."
            )

    def init(self, key: PRNGKeyArray, environment: World, num_envs: int) -> PolicyState:
        """Fresh networks; raises `ValueError` if a rollout cannot be cut into minibatches of one size."""
        if self.rollout_steps * num_envs % self.minibatches:
            raise ValueError(
                f"agent.rollout_steps = {self.rollout_steps} steps of {num_envs} environments cannot be cut into "
                f"agent.minibatches = {self.minibatches} of equal size: make their product a multiple of it."
            )
        return super().init(key, environment, num_envs)

    def learn(
        self, state: PolicyState, trajectory: Trajectory, key: PRNGKeyArray, *, penalty: Penalty | None = None
    ) -> tuple[PolicyState, Metrics]:
        """`epochs * minibatches` gradient steps of each network on a rollout; `penalty` is added to each loss."""
        trajectory = taken(trajectory)
        samples = self._samples(state, trajectory)
        num = samples.target.shape[0]
        form = (self.minibatches,) if self.memory else (self.minibatches, -1)

        def epoch(state: PolicyState, key: PRNGKeyArray) -> tuple[PolicyState, Metrics]:
            order = jax.random.permutation(key, num).reshape(form)
            return jax.lax.scan(lambda s, rows: self._gradient_step(s, _rows(samples, rows), penalty), state, order)

        state, metrics = jax.lax.scan(epoch, state, jax.random.split(key, self.epochs))
        new = dataclasses.replace(
            state,
            statistics=() if self.statistics is None else with_more(state.statistics, trajectory.observation),
            updates=state.updates + 1,
        )
        return new, jax.tree.map(jnp.mean, metrics)

    def pooled(self, num_clients: int) -> PPO:
        """As many gradient steps, on as many samples each, as `num_clients` take together."""
        return dataclasses.replace(self, minibatches=self.minibatches * num_clients)

    def student_optimizer(self, state: PolicyState) -> optax.GradientTransformation:
        """What moves the policy."""
        del state
        return clipped_adam(self.learning_rate, self.max_grad_norm)

    def value_optimizer(self) -> optax.GradientTransformation:
        """What moves the value network."""
        return clipped_adam(self.value_learning_rate, self.max_grad_norm)

    def _samples(self, state: PolicyState, trajectory: Trajectory) -> Samples:
        """A rollout `[T, E]` as `T E` samples; with a memory as `minibatches` sequences `[T / minibatches, E]`."""
        seen, advantage, target = judged(self, state, trajectory, self.trace_decay)
        allowed = allowed_by(state.mask, trajectory.observation)
        log_prob = state.head.log_prob(masked(state.policy(seen), allowed), trajectory.action)
        over = trajectory.terminated | trajectory.truncated if self.memory else None
        samples = Samples(seen, allowed, trajectory.action, log_prob, advantage, target, over)
        if self.memory:
            return jax.tree.map(lambda x: x.reshape(self.minibatches, -1, *x.shape[1:]), samples)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), samples)

    def _gradient_step(
        self, state: PolicyState, samples: Samples, penalty: Penalty | None
    ) -> tuple[PolicyState, Metrics]:
        """One step of each network on a minibatch."""
        advantage = samples.advantage
        if self.normalize:
            advantage = standardised(advantage, jnp.ones_like(advantage, bool))

        def loss(policy: Any) -> tuple[Float[Array, ""], Metrics]:
            outputs = masked(self.outputs(policy, samples.seen, samples.over), samples.allowed)
            log_ratio = state.head.log_prob(outputs, samples.action) - samples.log_prob
            entropy = jnp.mean(state.head.entropy(outputs))
            total = -jnp.mean(clipped_gain(log_ratio, advantage, self.clip)) - self.entropy_weight * entropy
            return total + self.penalised(state, policy, penalty), {"loss": total, "entropy": entropy}

        def value_loss(network: Any) -> Float[Array, ""]:
            return jnp.mean((self.outputs(network, samples.seen, samples.over)[..., 0] - samples.target) ** 2)

        return both_stepped(self, state, loss, value_loss)


def _rows(samples: Samples, rows: Array) -> Samples:
    return jax.tree.map(lambda x: x[rows], samples)
