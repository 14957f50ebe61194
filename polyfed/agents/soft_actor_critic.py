"""A stochastic actor with twin critics and a temperature: what they compute, and the losses of soft actor-critic.

Actions are a normal draw `u` squashed by `tanh`, so they lie in [-1, 1]; `action_bounds` stretches them to those of an
environment. Entropies and densities are of actions in [-1, 1], in nats, whatever the bounds.

References: haarnoja2018sac.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from polyfed.agents.actor_critic import Critic, critic_values
from polyfed.agents.networks import MLP
from polyfed.types import Gaussians

LOG_SCALE = (-5.0, 2.0)  # bounds of the logarithm of a scale; ours, so that no density is a point


class SoftLearner(eqx.Module):
    """What gradient steps change."""

    actor: MLP  # observation -> mean and logarithm of the scale, side by side, before the squashing
    critic: Critic  # two
    critic_target: Critic
    log_temperature: Any  # scalar, or `()` if the temperature is fixed
    actor_optimizer: Any
    critic_optimizer: Any
    temperature_optimizer: Any  # or `()`
    steps: Int[Array, ""]  # gradient steps


def gaussians(actor: MLP, observation: Float[Array, "*batch D"]) -> Gaussians:
    """The policy before its squashing; the logarithm of a scale is clipped to [-5, 2].

    >>> actor = MLP(3, 2 * 1, hidden=(8,), activation="relu", key=jax.random.key(0))
    >>> gaussians(actor, jnp.ones((5, 3))).scale.shape
    (5, 1)
    """
    mean, log_scale = jnp.split(actor(observation), 2, axis=-1)
    return Gaussians(mean, jnp.exp(jnp.clip(log_scale, *LOG_SCALE)))


def squashed_log_prob(policy: Gaussians, before: Float[Array, "*batch A"]) -> Float[Array, " *batch"]:
    """Log-density of the action `tanh(u)`: `sum_i log N(u_i; mean_i, scale_i) - log(1 - tanh(u_i)^2)` (appendix C).

    `log(1 - tanh(u)^2)` is `2 (log 2 - u - softplus(-2 u))`, which stays finite for any `u`.

    Args:
      policy: The normal distributions of `u`.
      before: `u`, the action before its squashing.

    >>> standard = Gaussians(jnp.zeros(1), jnp.ones(1))
    >>> round(float(squashed_log_prob(standard, jnp.zeros(1))), 4)  # -log(2 pi) / 2
    -0.9189
    """
    away = (before - policy.mean) / policy.scale
    normal = -0.5 * away**2 - jnp.log(policy.scale) - 0.5 * math.log(2 * math.pi)
    slope = 2.0 * (math.log(2) - before - jax.nn.softplus(-2.0 * before))
    return jnp.sum(normal - slope, axis=-1)


def squashed_sample(
    policy: Gaussians, noise: Float[Array, "*batch A"]
) -> tuple[Float[Array, "*batch A"], Float[Array, " *batch"]]:
    """The action `tanh(mean + scale noise)` of standard normal noise, and its log-density.

    >>> action, log_prob = squashed_sample(Gaussians(jnp.zeros((5, 2)), jnp.ones((5, 2))), jnp.ones((5, 2)))
    >>> action.shape, log_prob.shape
    ((5, 2), (5,))
    """
    before = policy.mean + policy.scale * noise
    return jnp.tanh(before), squashed_log_prob(policy, before)


def soft_value(
    actor: MLP,
    critic: Critic,
    observation: Float[Array, "B D"],
    noise: Float[Array, "B A"],
    temperature: Float[Array, ""] | float,
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """`min_i Q_i(s, a) - temperature log pi(a | s)` of one sampled `a` per state (eq. 3), and `log pi(a | s)`.

    With target critics it is what a target adds to the reward (eq. 5); minus its mean is the actor's loss (eq. 9).

    >>> actor = MLP(2, 2, hidden=(8,), activation="relu", key=jax.random.key(0))
    >>> critic = (MLP(3, 1, hidden=(8,), activation="relu", key=jax.random.key(1)),) * 2
    >>> soft_value(actor, critic, jnp.ones((5, 2)), jnp.zeros((5, 1)), 0.2)[0].shape
    (5,)
    """
    action, log_prob = squashed_sample(gaussians(actor, observation), noise)
    least = functools.reduce(jnp.minimum, critic_values(critic, observation, action))
    return least - temperature * log_prob, log_prob


def temperature_loss(
    log_temperature: Float[Array, ""], entropy: Float[Array, ""] | float, target_entropy: Float[Array, ""] | float
) -> Float[Array, ""]:
    """`temperature (entropy - target)` (eq. 18): its descent warms a policy whose entropy is below the target.

    >>> jax.grad(temperature_loss)(jnp.zeros(()), entropy=-3.0, target_entropy=-1.0)
    Array(-2., dtype=float32)
    """
    return jnp.exp(log_temperature) * (entropy - target_entropy)
