"""Distributions of actions that a network's outputs stand for: one of `n` choices, or a normal one per entry.

A normal scale is `log(1 + exp(.))` of a linear head on the trunk that the mean has too, as Jiang et al. (2025) released
it, or a number of its own per entry, the same in every state.

References: jiang2025fedhpd, williams1992reinforce.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.agents.draws import normal, uniform
from polyfed.environments.spaces import Box, Discrete, Space
from polyfed.types import Gaussians, Probabilities

EPSILON = 1e-6  # added to the mean and the scale of a normal distribution
SCALES = ("network", "parameter")  # where a scale comes from: a head of the network, or a number per entry


@dataclasses.dataclass(frozen=True)
class Categorical:
    """One of `n` actions; outputs are logits `[..., n]`.

    >>> Categorical(2).log_prob(jnp.zeros((1, 2)), jnp.array([1])).round(4)
    Array([-0.6931], dtype=float32)
    """

    n: int

    @property
    def num_outputs(self) -> int:
        """Numbers that a network gives per state."""
        return self.n

    @property
    def num_entries(self) -> int:
        """Entries of an action."""
        return 1

    def sample(self, outputs: Float[Array, "*batch n"], key: PRNGKeyArray) -> Int[Array, " *batch"]:
        """Actions as likely as they should be: how many of the cumulated probabilities a uniform number has passed."""
        below = jnp.cumsum(jax.nn.softmax(outputs), axis=-1)[..., :-1]  # the last action takes what is left
        drawn = uniform(key, (*outputs.shape[:-1], 1))
        return jnp.sum(drawn >= below, axis=-1, dtype=jnp.int32)

    def log_prob(self, outputs: Float[Array, "*batch n"], action: Int[Array, " *batch"]) -> Float[Array, " *batch"]:
        """`log pi(a|s)`."""
        chosen = jax.nn.one_hot(action, self.n, dtype=outputs.dtype)
        return jnp.sum(jax.nn.log_softmax(outputs) * chosen, axis=-1)

    def entropy(self, outputs: Float[Array, "*batch n"]) -> Float[Array, " *batch"]:
        """`-sum_a pi(a|s) log pi(a|s)`, nats."""
        log_prob = jax.nn.log_softmax(outputs)
        return -jnp.sum(jnp.exp(log_prob) * log_prob, axis=-1)

    def mode(self, outputs: Float[Array, "*batch n"]) -> Int[Array, " *batch"]:
        """The likeliest action."""
        return jnp.argmax(outputs, axis=-1).astype(jnp.int32)

    def prediction(self, outputs: Float[Array, "*batch n"]) -> Probabilities:
        """The probability of every action."""
        return Probabilities(jax.nn.softmax(outputs))


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """A normal distribution per entry of a vector; outputs are means, then what scales are made of: `[..., 2 size]`.

    Samples are not clipped, so that their density is the one that they were drawn from: an environment clips what is
    beyond its bounds. The mode is clipped.

    >>> head = Gaussian(Box(low=(-2.0,), high=(2.0,)))
    >>> head.moments(jnp.array([[0.5, 0.0]])).scale.round(4)  # log(1 + exp(0))
    Array([[0.6931]], dtype=float32)
    """

    bounds: Box
    scale: str = "network"  # network: log(1 + exp(output)), or parameter: exp(output)
    stretched: bool = False  # outputs count half the range from its middle, rather than the units of the action

    @property
    def num_outputs(self) -> int:
        """Numbers that a network gives per state: a scale that is a parameter is none of them."""
        return (2 if self.scale == "network" else 1) * self.bounds.size

    @property
    def num_entries(self) -> int:
        """Entries of an action."""
        return self.bounds.size

    def moments(self, outputs: Float[Array, "*batch two_size"]) -> Gaussians:
        """Mean and scale in the units of the action, `EPSILON` added to both."""
        mean, free = jnp.split(outputs, 2, axis=-1)
        scale = jax.nn.softplus(free) if self.scale == "network" else jnp.exp(free)
        if self.stretched and self.bounds.bounded:
            low, high = jnp.asarray(self.bounds.low, jnp.float32), jnp.asarray(self.bounds.high, jnp.float32)
            mean, scale = (low + high) / 2 + mean * (high - low) / 2, scale * (high - low) / 2
        return Gaussians(mean + EPSILON, scale + EPSILON)

    def sample(self, outputs: Float[Array, "*batch two_size"], key: PRNGKeyArray) -> Float[Array, "*batch size"]:
        """`mean + scale z` with `z` standard normal; it may lie beyond the bounds."""
        policy = self.moments(outputs)
        return policy.mean + policy.scale * normal(key, policy.mean.shape)

    def log_prob(
        self, outputs: Float[Array, "*batch two_size"], action: Float[Array, "*batch size"]
    ) -> Float[Array, " *batch"]:
        """`sum_i log N(a_i; mean_i, scale_i)`."""
        policy = self.moments(outputs)
        away = (action - policy.mean) / policy.scale
        return jnp.sum(-0.5 * away**2 - jnp.log(policy.scale) - 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self, outputs: Float[Array, "*batch two_size"]) -> Float[Array, " *batch"]:
        """`sum_i log(scale_i sqrt(2 pi e))`, nats."""
        return jnp.sum(jnp.log(self.moments(outputs).scale) + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def mode(self, outputs: Float[Array, "*batch two_size"]) -> Float[Array, "*batch size"]:
        """The mean, clipped to the bounds."""
        low, high = jnp.asarray(self.bounds.low, jnp.float32), jnp.asarray(self.bounds.high, jnp.float32)
        return jnp.clip(self.moments(outputs).mean, low, high)

    def prediction(self, outputs: Float[Array, "*batch two_size"]) -> Gaussians:
        """Mean, not clipped, and scale."""
        return self.moments(outputs)


Head = Categorical | Gaussian


def head_of(space: Space, scale: str, *, stretched: bool) -> Head:
    """The distribution for a space of actions.

    Args:
      space: Of the environment.
      scale: Of `SCALES`; of no consequence for a choice.
      stretched: Whether a network's outputs count half the range of a bounded space, see `Gaussian`.

    >>> head_of(Discrete(3), "network", stretched=False)
    Categorical(n=3)
    """
    return Categorical(space.n) if isinstance(space, Discrete) else Gaussian(space, scale, stretched)
