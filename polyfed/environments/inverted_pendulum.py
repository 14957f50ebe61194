"""InvertedPendulum: a cart on a rail that keeps a pole upright by one force (Gymnasium's InvertedPendulum-v5).

References: todorov2012mujoco, jiang2025fedhpd.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.environments.body import Body
from polyfed.environments.environment import Quantity, quantity

POLE_HALF_LENGTH = math.hypot(0.001, 0.6) / 2  # m; the description has its tip a millimetre off the vertical


class InvertedPendulumParams(eqx.Module):
    """The physics of cart and pole; both are capsules, twice `half_length` between the centres of their caps.

    A longer pole reaches further up from its hinge; its mass follows from its density.

    >>> InvertedPendulumParams(gear=50.0).gravity
    9.81
    """

    gravity: Quantity = quantity(9.81, "m/s^2", low=0.0, high=100.0)
    gear: Quantity = quantity(100.0, "N", low=0.0, high=1e5)  # force per unit of control
    cart_density: Quantity = quantity(1000.0, "kg/m^3", low=1.0, high=1e5)
    cart_half_length: Quantity = quantity(0.1, "m", low=0.001, high=5.0)
    cart_radius: Quantity = quantity(0.1, "m", low=0.001, high=1.0)
    pole_density: Quantity = quantity(1000.0, "kg/m^3", low=1.0, high=1e5)
    pole_half_length: Quantity = quantity(POLE_HALF_LENGTH, "m", low=0.001, high=5.0)
    pole_radius: Quantity = quantity(0.049, "m", low=0.001, high=1.0)
    reset_noise: Quantity = quantity(0.01, "1", low=0.0, high=1.0)  # m, rad and their rates, bound of a uniform draw


class InvertedPendulum(Body):
    """InvertedPendulum-v5: one force of at most `3 gear`; the reward is 1 for every step that the pole is upright.

    The observation is the position of the cart, the angle of the pole, and their velocities. An episode ends when the
    pole tilts by more than 0.2 rad; the step that ends it pays nothing.

    >>> environment = InvertedPendulum()
    >>> environment.observation_space.size, environment.action_space.high
    (4, (3.0,))
    >>> state, _ = environment.reset(jax.random.key(0), environment.nominal())
    >>> _, step = environment.step(jax.random.key(1), state, jnp.zeros(1), environment.nominal())
    >>> float(step.reward), bool(step.terminated)
    (1.0, False)
    """

    params_class: ClassVar[type] = InvertedPendulumParams
    gymnasium_id: ClassVar[str | None] = "InvertedPendulum-v5"
    xml: ClassVar[str] = "inverted_pendulum.xml"
    limbs: ClassVar[Mapping[str, str]] = {"cart": "cart", "pole": "cpole"}
    standing: ClassVar[tuple[str, ...]] = ("pole",)
    unseen: ClassVar[int] = 0
    frame_skip: ClassVar[int] = 2
    time_step: ClassVar[float] = 0.04
    rest: ClassVar[tuple[float, ...]] = (0.0, 0.0)
    num_motors: ClassVar[int] = 1
    strength: ClassVar[float] = 3.0

    @staticmethod
    def noise(key: PRNGKeyArray, size: int) -> Float[Array, " 2n"]:
        """Uniform in ±1."""
        return jax.random.uniform(key, (2 * size,), jnp.float32, minval=-1.0, maxval=1.0)

    @classmethod
    def observe(cls, motion: Any) -> Any:
        """All of it."""
        return motion

    @classmethod
    def judge(cls, before: np.ndarray, after: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """1 where the pole is upright."""
        del before, action
        motion = after[:, : 2 * len(cls.rest)]
        upright = np.isfinite(motion).all(axis=1) & (np.abs(motion[:, 1]) <= 0.2)
        return upright.astype(float), ~upright
