"""How a learner of continuous actions explores: noise added to its actions, in units of half the action range.

References: uhlenbeck1930brownian, lillicrap2016ddpg, fujimoto2018td3.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from polyfed.checks import in_range


class GaussianNoise(eqx.Module):
    """Independent normal noise at every step (Fujimoto et al. 2018, sec. 6.1).

    >>> GaussianNoise(scale=0.0)((), (1, 2), jax.random.key(0)).tolist()
    [[0.0, 0.0]]
    """

    scale: float = 0.1  # standard deviation, in halves of the action range

    def start(self, shape: tuple[int, ...], key: PRNGKeyArray) -> tuple[()]:
        """Nothing is remembered."""
        del shape, key
        return ()

    def __call__(self, state: Any, shape: tuple[int, ...], key: PRNGKeyArray) -> Float[Array, "E A"]:
        """The noise of this step; `shape` is environments by entries of an action."""
        del state
        return self.scale * jax.random.normal(key, shape, jnp.float32)

    def step(self, state: Any, ended: Bool[Array, " E"], key: PRNGKeyArray) -> Any:
        """Nothing changes from step to step."""
        del ended, key
        return state

    def check(self) -> None:
        """Raise `ValueError` if the scale is negative."""
        in_range("noise.scale", self.scale, 0.0, 100.0)


class OrnsteinUhlenbeck(eqx.Module):
    """Noise that remembers: `x <- x - theta x dt + sigma sqrt(dt) N(0, 1)` (Lillicrap et al. 2016, sec. 7).

    Each environment has its own `x`, which leaves from 0 at the start of every episode. The paper gives `theta` and
    `sigma`; `dt = 1`, one step, is what its reimplementations use.

    >>> noise = OrnsteinUhlenbeck(theta=0.5, sigma=0.0)
    >>> noise.step(jnp.ones((2, 1)), jnp.array([False, True]), jax.random.key(0)).tolist()
    [[0.5], [0.0]]
    """

    theta: float = 0.15  # pull towards 0, per unit of time
    sigma: float = 0.2  # in halves of the action range, per root of the unit of time
    time_step: float = 1.0  # dt

    def start(self, shape: tuple[int, ...], key: PRNGKeyArray) -> Float[Array, "E A"]:
        """One step away from 0."""
        return self.step(jnp.zeros(shape, jnp.float32), jnp.zeros(shape[0], bool), key)

    def __call__(self, state: Float[Array, "E A"], shape: tuple[int, ...], key: PRNGKeyArray) -> Float[Array, "E A"]:
        """The noise of this step is the state itself."""
        del shape, key
        return state

    def step(self, state: Float[Array, "E A"], ended: Bool[Array, " E"], key: PRNGKeyArray) -> Float[Array, "E A"]:
        """The next step's noise; where an episode ended, the first of a new one."""
        state = jnp.where(ended[:, None], 0.0, state)
        drift = -self.theta * state * self.time_step
        return state + drift + self.sigma * jnp.sqrt(self.time_step) * jax.random.normal(key, state.shape, jnp.float32)

    def check(self) -> None:
        """Raise `ValueError` if a number is out of range, or the process would not stay bounded."""
        in_range("noise.theta", self.theta, 0.0, 2.0)
        in_range("noise.sigma", self.sigma, 0.0, 100.0)
        in_range("noise.time_step", self.time_step, 1e-6, 1.0)


Noise = GaussianNoise | OrnsteinUhlenbeck


class TargetSmoothing(eqx.Module):
    """Clipped noise on the target actor's action, so that a critic's narrow peak is not trusted (Fujimoto et al. 2018,
    sec. 5.3): `clip(N(0, scale), -limit, limit)`.

    >>> float(jnp.abs(TargetSmoothing(scale=9.0, limit=0.5)((100, 1), jax.random.key(0))).max())
    0.5
    """

    scale: float = 0.2  # standard deviation, in halves of the action range
    limit: float = 0.5  # largest noise, in the same unit

    def __call__(self, shape: tuple[int, ...], key: PRNGKeyArray) -> Float[Array, "B A"]:
        """The noise of a batch."""
        return jnp.clip(self.scale * jax.random.normal(key, shape, jnp.float32), -self.limit, self.limit)

    def check(self) -> None:
        """Raise `ValueError` if a number is negative."""
        in_range("smoothing.scale", self.scale, 0.0, 100.0)
        in_range("smoothing.limit", self.limit, 0.0, 2.0)
