"""Walker2d: two legs that walk forward without falling (Gymnasium's Walker2d-v5; Erez et al. 2011).

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
from polyfed.environments.hopper import clipped_observation


class Walker2dParams(eqx.Module):
    """The physics of the walker; a limb is a capsule, twice `half_length` between the centres of its caps.

    >>> Walker2dParams(left_leg_radius=0.05).right_leg_radius
    0.04
    """

    gravity: Quantity = quantity(9.81, "m/s^2", low=0.0, high=100.0)
    friction: Quantity = quantity(1.0, "1", low=0.0, high=100.0)  # factor on all coefficients of all geoms
    torso_density: Quantity = quantity(1000.0, "kg/m^3", low=1.0, high=1e5)
    torso_half_length: Quantity = quantity(0.2, "m", low=0.001, high=5.0)
    torso_radius: Quantity = quantity(0.05, "m", low=0.001, high=1.0)
    right_thigh_half_length: Quantity = quantity(0.225, "m", low=0.001, high=5.0)
    right_thigh_radius: Quantity = quantity(0.05, "m", low=0.001, high=1.0)
    right_leg_half_length: Quantity = quantity(0.25, "m", low=0.001, high=5.0)
    right_leg_radius: Quantity = quantity(0.04, "m", low=0.001, high=1.0)
    right_foot_half_length: Quantity = quantity(0.1, "m", low=0.001, high=5.0)
    right_foot_radius: Quantity = quantity(0.06, "m", low=0.001, high=1.0)
    left_thigh_half_length: Quantity = quantity(0.225, "m", low=0.001, high=5.0)
    left_thigh_radius: Quantity = quantity(0.05, "m", low=0.001, high=1.0)
    left_leg_half_length: Quantity = quantity(0.25, "m", low=0.001, high=5.0)
    left_leg_radius: Quantity = quantity(0.04, "m", low=0.001, high=1.0)
    left_foot_half_length: Quantity = quantity(0.1, "m", low=0.001, high=5.0)
    left_foot_radius: Quantity = quantity(0.06, "m", low=0.001, high=1.0)
    reset_noise: Quantity = quantity(0.005, "1", low=0.0, high=1.0)  # m, rad and their rates, bound of a uniform draw


class Walker2d(Body):
    """Walker2d-v5: six torques; the reward is `speed + 1 - 0.001 |u|²`, the 1 only while it is upright.

    The observation is the height and the angles of the torso and of both legs, then all velocities clipped to ±10. An
    episode ends when the torso leaves 0.8 to 2 m or tilts by 1 rad.

    >>> environment = Walker2d()
    >>> environment.observation_space.size, environment.action_space.size
    (17, 6)
    >>> state, _ = environment.reset(jax.random.key(0), environment.nominal())
    >>> _, step = environment.step(jax.random.key(1), state, jnp.zeros(6), environment.nominal())
    >>> bool(step.terminated)
    False
    """

    params_class: ClassVar[type] = Walker2dParams
    gymnasium_id: ClassVar[str | None] = "Walker2d-v5"
    xml: ClassVar[str] = "walker2d_v5.xml"
    limbs: ClassVar[Mapping[str, str]] = {
        "torso": "torso_geom",
        **{f"right_{limb}": f"{limb}_geom" for limb in ("thigh", "leg", "foot")},
        **{f"left_{limb}": f"{limb}_left_geom" for limb in ("thigh", "leg", "foot")},
    }
    frame_skip: ClassVar[int] = 4
    time_step: ClassVar[float] = 0.008
    rest: ClassVar[tuple[float, ...]] = (0.0, 1.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    num_motors: ClassVar[int] = 6

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
        upright = (after[:, 1] > 0.8) & (after[:, 1] < 2.0) & (np.abs(after[:, 2]) < 1.0)
        speed = (after[:, 0] - before[:, 0]) / cls.time_step
        return speed + upright - 1e-3 * np.sum(action**2, axis=1), ~upright
