"""Hopper: a leg with a foot that hops forward without falling (Gymnasium's Hopper-v5; Erez et al. 2011).

References: erez2011horizon.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.environments.body import Body
from polyfed.environments.environment import Quantity, quantity


class HopperParams(eqx.Module):
    """The physics of the hopper; a limb is a capsule, twice `half_length` between the centres of its caps.

    >>> HopperParams(leg_radius=0.05).leg_half_length
    0.25
    """

    gravity: Quantity = quantity(9.81, "m/s^2", low=0.0, high=100.0)
    friction: Quantity = quantity(1.0, "1", low=0.0, high=100.0)  # factor on all coefficients of all geoms
    torso_density: Quantity = quantity(1000.0, "kg/m^3", low=1.0, high=1e5)
    torso_half_length: Quantity = quantity(0.2, "m", low=0.001, high=5.0)
    torso_radius: Quantity = quantity(0.05, "m", low=0.001, high=1.0)
    thigh_half_length: Quantity = quantity(0.225, "m", low=0.001, high=5.0)
    thigh_radius: Quantity = quantity(0.05, "m", low=0.001, high=1.0)
    leg_half_length: Quantity = quantity(0.25, "m", low=0.001, high=5.0)
    leg_radius: Quantity = quantity(0.04, "m", low=0.001, high=1.0)
    foot_half_length: Quantity = quantity(0.195, "m", low=0.001, high=5.0)
    foot_radius: Quantity = quantity(0.06, "m", low=0.001, high=1.0)
    reset_noise: Quantity = quantity(0.005, "1", low=0.0, high=1.0)  # m, rad and their rates, bound of a uniform draw


class Hopper(Body):
    """Hopper-v5: three torques; the reward is `speed + 1 - 0.001 |u|²`, the 1 only while it is upright.

    The observation is the height and the angles of torso, thigh, leg and foot, then all velocities clipped to ±10. An
    episode ends when the torso is below 0.7 m or tilts by 0.2 rad, or any number leaves ±100.

    >>> environment = Hopper()
    >>> environment.observation_space.size, environment.action_space.size
    (11, 3)
    >>> state, _ = environment.reset(jax.random.key(0), environment.nominal())
    >>> _, step = environment.step(jax.random.key(1), state, jnp.zeros(3), environment.nominal())
    >>> bool(step.terminated)
    False
    """

    params_class: ClassVar[type] = HopperParams
    gymnasium_id: ClassVar[str | None] = "Hopper-v5"
    xml: ClassVar[str] = "hopper.xml"
    limbs: ClassVar[Mapping[str, str]] = {limb: f"{limb}_geom" for limb in ("torso", "thigh", "leg", "foot")}
    frame_skip: ClassVar[int] = 4
    time_step: ClassVar[float] = 0.008
    rest: ClassVar[tuple[float, ...]] = (0.0, 1.25, 0.0, 0.0, 0.0, 0.0)
    num_motors: ClassVar[int] = 3

    @staticmethod
    def noise(key: PRNGKeyArray, size: int) -> Float[Array, " 2n"]:
        """Uniform in ±1."""
        return jax.random.uniform(key, (2 * size,), jnp.float32, minval=-1.0, maxval=1.0)

    @classmethod
    def observe(cls, motion: Any) -> Any:
        """Velocities are clipped to ±10."""
        return clipped_observation(motion, len(cls.rest))

    @classmethod
    def judge(cls, before: np.ndarray, after: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Speed, upkeep and effort; it fell where it is not upright."""
        size = len(cls.rest)
        upright = np.all(np.abs(after[:, 2 : 2 * size]) < 100, axis=1)
        upright &= (after[:, 1] > 0.7) & (np.abs(after[:, 2]) < 0.2)
        speed = (after[:, 0] - before[:, 0]) / cls.time_step
        return speed + upright - 1e-3 * np.sum(action**2, axis=1), ~upright


def clipped_observation(motion: Any, size: int) -> Any:
    """Positions but the first, and velocities clipped to ±10, of motions `[..., 2 size]`; NumPy or JAX arrays.

    >>> clipped_observation(np.array([7.0, 1.0, 30.0, -3.0]), 2).tolist()
    [1.0, 10.0, -3.0]
    """
    where = jnp if isinstance(motion, jax.Array) else np
    return where.concatenate([motion[..., 1:size], where.clip(motion[..., size:], -10.0, 10.0)], axis=-1)
