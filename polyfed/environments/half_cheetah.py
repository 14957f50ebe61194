"""HalfCheetah: a body with a back and a front leg that runs forward (Gymnasium's HalfCheetah-v5; Wawrzyński 2009).

References: wawrzynski2009cat.
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


class HalfCheetahParams(eqx.Module):
    """The physics of the cheetah; a limb is a capsule, twice `half_length` between the centres of its caps.

    The whole weighs `total_mass`, spread over the limbs by volume and density: a larger thigh makes the rest lighter.

    >>> HalfCheetahParams(back_thigh_half_length=0.2).front_thigh_half_length
    0.133
    """

    gravity: Quantity = quantity(9.81, "m/s^2", low=0.0, high=100.0)
    friction: Quantity = quantity(1.0, "1", low=0.0, high=100.0)  # factor on all coefficients of all geoms
    total_mass: Quantity = quantity(14.0, "kg", low=0.1, high=1000.0)
    torso_density: Quantity = quantity(1000.0, "kg/m^3", low=1.0, high=1e5)  # the other limbs have 1000
    torso_half_length: Quantity = quantity(0.5, "m", low=0.001, high=5.0)
    torso_radius: Quantity = quantity(0.046, "m", low=0.001, high=1.0)
    head_half_length: Quantity = quantity(0.15, "m", low=0.001, high=5.0)
    head_radius: Quantity = quantity(0.046, "m", low=0.001, high=1.0)
    back_thigh_half_length: Quantity = quantity(0.145, "m", low=0.001, high=5.0)
    back_thigh_radius: Quantity = quantity(0.046, "m", low=0.001, high=1.0)
    back_shin_half_length: Quantity = quantity(0.15, "m", low=0.001, high=5.0)
    back_shin_radius: Quantity = quantity(0.046, "m", low=0.001, high=1.0)
    back_foot_half_length: Quantity = quantity(0.094, "m", low=0.001, high=5.0)
    back_foot_radius: Quantity = quantity(0.046, "m", low=0.001, high=1.0)
    front_thigh_half_length: Quantity = quantity(0.133, "m", low=0.001, high=5.0)
    front_thigh_radius: Quantity = quantity(0.046, "m", low=0.001, high=1.0)
    front_shin_half_length: Quantity = quantity(0.106, "m", low=0.001, high=5.0)
    front_shin_radius: Quantity = quantity(0.046, "m", low=0.001, high=1.0)
    front_foot_half_length: Quantity = quantity(0.07, "m", low=0.001, high=5.0)
    front_foot_radius: Quantity = quantity(0.046, "m", low=0.001, high=1.0)
    reset_noise: Quantity = quantity(0.1, "1", low=0.0, high=1.0)  # m, rad: bound; their rates: standard deviation


class HalfCheetah(Body):
    """HalfCheetah-v5: six torques; the reward is `speed - 0.1 |u|²`. An episode never terminates.

    The observation is the height and the angles of torso, back leg and front leg, then all velocities.

    >>> environment = HalfCheetah()
    >>> environment.observation_space.size, environment.action_space.size
    (17, 6)
    >>> state, _ = environment.reset(jax.random.key(0), environment.nominal())
    >>> _, step = environment.step(jax.random.key(1), state, jnp.zeros(6), environment.nominal())
    >>> bool(step.terminated)
    False
    """

    params_class: ClassVar[type] = HalfCheetahParams
    gymnasium_id: ClassVar[str | None] = "HalfCheetah-v5"
    xml: ClassVar[str] = "half_cheetah.xml"
    limbs: ClassVar[Mapping[str, str]] = {
        "torso": "torso",
        "head": "head",
        **{f"back_{limb}": f"b{limb}" for limb in ("thigh", "shin", "foot")},
        **{f"front_{limb}": f"f{limb}" for limb in ("thigh", "shin", "foot")},
    }
    frame_skip: ClassVar[int] = 5
    time_step: ClassVar[float] = 0.05
    rest: ClassVar[tuple[float, ...]] = (0.0,) * 9
    num_motors: ClassVar[int] = 6

    @staticmethod
    def noise(key: PRNGKeyArray, size: int) -> Float[Array, " 2n"]:
        """Uniform in ±1 for positions, standard normal for velocities."""
        k_position, k_velocity = jax.random.split(key)
        position = jax.random.uniform(k_position, (size,), jnp.float32, minval=-1.0, maxval=1.0)
        return jnp.concatenate([position, jax.random.normal(k_velocity, (size,), jnp.float32)])

    @classmethod
    def observe(cls, motion: Any) -> Any:
        """All but how far it has come."""
        return motion[..., 1:]

    @classmethod
    def judge(cls, before: np.ndarray, after: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Speed and effort."""
        speed = (after[:, 0] - before[:, 0]) / cls.time_step
        return speed - 0.1 * np.sum(action**2, axis=1), np.zeros(len(after), bool)
