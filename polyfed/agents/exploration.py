"""How often a value-based learner acts at random, by its local step."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from polyfed.agents.masking import masked, nth_allowed
from polyfed.checks import in_range


class LinearDecay(eqx.Module):
    """`start` to `end` on a straight line over `steps` local steps, then `end` (Mnih et al. 2015).

    >>> float(LinearDecay(start=1.0, end=0.0, steps=100)(25))
    0.75
    """

    start: float = 1.0  # probability, 0 to 1
    end: float = 0.05  # probability, 0 to 1
    steps: int = 2000  # local steps

    def __call__(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """ε after `step` local steps."""
        return self.start + (self.end - self.start) * jnp.minimum(step / self.steps, 1.0)

    def check(self) -> None:
        """Raise `ValueError` if a probability or the number of steps is out of range."""
        _check(self.start, self.end, self.steps)


class ExponentialDecay(eqx.Module):
    """`end + (start - end) * exp(-step / steps)`.

    >>> round(float(ExponentialDecay(start=0.9, end=0.05, steps=1000)(1000)), 4)
    0.3627
    """

    start: float = 0.9  # probability, 0 to 1
    end: float = 0.05  # probability, 0 to 1
    steps: int = 1000  # local steps until 63 % of the way

    def __call__(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """ε after `step` local steps."""
        return self.end + (self.start - self.end) * jnp.exp(-step / self.steps)

    def check(self) -> None:
        """Raise `ValueError` if a probability or the number of steps is out of range."""
        _check(self.start, self.end, self.steps)


Exploration = LinearDecay | ExponentialDecay


def epsilon_greedy(
    values: Float[Array, "E A"],
    epsilon: Float[Array, ""],
    key: PRNGKeyArray,
    allowed: Bool[Array, "E A"] | None = None,
) -> Int[Array, " E"]:
    """A random action with probability ε, else the one of highest value (the first among equals), of those allowed."""
    num_envs, num_actions = values.shape
    uniform = jax.random.uniform(key, (2, num_envs), jnp.float32)
    if allowed is None:
        random = jnp.minimum((uniform[1] * num_actions).astype(jnp.int32), num_actions - 1)
    else:
        random = nth_allowed(allowed, uniform[1])
    greedy = jnp.argmax(masked(values, allowed), axis=-1).astype(jnp.int32)
    return jnp.where(uniform[0] < epsilon, random, greedy)


def _check(start: float, end: float, steps: int) -> None:
    in_range("exploration.start", start, 0.0, 1.0)
    in_range("exploration.end", end, 0.0, 1.0)
    in_range("exploration.steps", steps, 1, 2**31 - 1)
