"""Acrobot: swing two links up with a motor between them (Sutton 1996; Sutton & Barto 2018, "book" dynamics)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.environments.environment import Environment, Quantity, Step, quantity
from polyfed.environments.spaces import Box, Discrete


class AcrobotParams(eqx.Module):
    """The physics of two links and the motor between them.

    >>> AcrobotParams(torque=2.0).torques
    (-2.0, 0.0, 2.0)
    """

    gravity: Quantity = quantity(9.8, "m/s^2", low=0.0, high=100.0)
    link_length_1: Quantity = quantity(1.0, "m", low=0.001, high=100.0)
    link_length_2: Quantity = quantity(1.0, "m", low=0.001, high=100.0)  # is drawn, but moves nothing
    link_mass_1: Quantity = quantity(1.0, "kg", low=0.001, high=1000.0)
    link_mass_2: Quantity = quantity(1.0, "kg", low=0.001, high=1000.0)
    link_com_1: Quantity = quantity(0.5, "m", low=0.0, high=100.0)  # joint to centre of mass
    link_com_2: Quantity = quantity(0.5, "m", low=0.0, high=100.0)
    link_moment: Quantity = quantity(1.0, "kg m^2", low=0.001, high=1000.0)  # of each link about its centre of mass
    torque: Quantity = quantity(1.0, "N m", low=0.0, high=1000.0)
    torque_noise: Quantity = quantity(0.0, "N m", low=0.0, high=1000.0)  # bound of a uniform disturbance
    max_speed_1: Quantity = quantity(4 * math.pi, "rad/s", low=0.001, high=1000.0)
    max_speed_2: Quantity = quantity(9 * math.pi, "rad/s", low=0.001, high=1000.0)
    goal_height: Quantity = quantity(1.0, "1", low=-2.0, high=2.0)  # of the tip over the pivot if both links were 1 m
    time_step: Quantity = quantity(0.2, "s", low=0.0001, high=1.0)
    reset_bound: Quantity = quantity(0.1, "1", low=0.0, high=10.0)  # of all four entries of a first state: rad, rad/s

    @property
    def torques(self) -> tuple[Quantity, Quantity, Quantity]:
        """What the three actions apply, N m."""
        return (-self.torque, 0.0, self.torque)


class AcrobotState(eqx.Module):
    """How both links hang, how fast they turn, and the clock.

    >>> AcrobotState(*jnp.zeros(4), time=jnp.int32(0)).angle_1
    Array(0., dtype=float32)
    """

    angle_1: Float[Array, ""]  # rad, first link from hanging down
    angle_2: Float[Array, ""]  # rad, second link from the direction of the first
    angular_velocity_1: Float[Array, ""]  # rad/s
    angular_velocity_2: Float[Array, ""]  # rad/s
    time: Int[Array, ""]  # steps since the reset


def acrobot_derivative(motion: Float[Array, " 4"], torque: Quantity, params: AcrobotParams) -> Float[Array, " 4"]:
    """Time derivative of `(θ₁, θ₂, ω₁, ω₂)` (Sutton & Barto 2018, section on the Acrobot).

    Args:
      motion: `[4]`, rad and rad/s.
      torque: At the joint between the links, N m.
      params: Physics.

    Returns:
      `[4]`, rad/s and rad/s².

    >>> bool(jnp.all(acrobot_derivative(jnp.zeros(4), 0.0, AcrobotParams()) == 0))  # hangs down at rest, and stays
    True
    """
    angle_1, angle_2, speed_1, speed_2 = motion
    sin_2, cos_2 = jnp.sin(angle_2), jnp.cos(angle_2)
    com_1, com_2, length = params.link_com_1, params.link_com_2, params.link_length_1
    mass_1, mass_2, moment = params.link_mass_1, params.link_mass_2, params.link_moment

    lever = mass_2 * length * com_2
    d_1 = mass_1 * com_1**2 + mass_2 * (length**2 + com_2**2) + 2 * lever * cos_2 + 2 * moment
    d_2 = mass_2 * com_2**2 + lever * cos_2 + moment
    phi_2 = mass_2 * com_2 * params.gravity * jnp.sin(angle_1 + angle_2)
    phi_1 = (
        -lever * sin_2 * (speed_2**2 + 2 * speed_2 * speed_1)
        + (mass_1 * com_1 + mass_2 * length) * params.gravity * jnp.sin(angle_1)
        + phi_2
    )
    drive = torque + d_2 / d_1 * phi_1 - lever * speed_1**2 * sin_2 - phi_2
    acceleration_2 = drive / (mass_2 * com_2**2 + moment - d_2**2 / d_1)
    acceleration_1 = -(d_2 * acceleration_2 + phi_1) / d_1
    return jnp.stack([speed_1, speed_2, acceleration_1, acceleration_2])


def runge_kutta_step(derivative: Callable[[Array], Array], x: Array, time_step: Quantity) -> Array:
    """One step of the classical fourth-order Runge-Kutta method.

    >>> round(float(runge_kutta_step(lambda x: x, jnp.float32(1), 0.1)), 5)  # e^0.1
    1.10517
    """
    k_1 = derivative(x)
    k_2 = derivative(x + time_step / 2 * k_1)
    k_3 = derivative(x + time_step / 2 * k_2)
    k_4 = derivative(x + time_step * k_3)
    return x + time_step / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)


def _observe(state: AcrobotState) -> Float[Array, " 6"]:
    one, two = state.angle_1, state.angle_2
    angles = [jnp.cos(one), jnp.sin(one), jnp.cos(two), jnp.sin(two)]
    return jnp.stack([*angles, state.angular_velocity_1, state.angular_velocity_2])


class Acrobot(Environment[AcrobotState]):
    """Acrobot-v1: turn the joint by -1 (0), 0 (1) or +1 (2) N m; -1 for every step but the last, which gives 0.

    The observation is `(cos θ₁, sin θ₁, cos θ₂, sin θ₂, ω₁, ω₂)`. The episode terminates when
    `-cos θ₁ - cos(θ₁ + θ₂)` exceeds `goal_height`; as in Gymnasium, that ignores the lengths of the links.

    >>> environment = Acrobot()
    >>> environment.action_space
    Discrete(n=3)
    >>> environment.observation_space.size
    6
    """

    params_class: ClassVar[type] = AcrobotParams
    gymnasium_id: ClassVar[str | None] = "Acrobot-v1"

    max_steps: int = eqx.field(default=500, static=True)  # steps until truncation

    @property
    def observation_space(self) -> Box:
        """Cosines and sines in `±1`, angular velocities in their nominal bounds."""
        nominal = self.params_class()
        high = (1.0, 1.0, 1.0, 1.0, nominal.max_speed_1, nominal.max_speed_2)
        return Box(low=tuple(-x for x in high), high=high)

    @property
    def action_space(self) -> Discrete:
        """One way, none, the other way."""
        return Discrete(3)

    def reset(self, key: PRNGKeyArray, params: AcrobotParams) -> tuple[AcrobotState, Array]:
        """All four entries uniform in `±reset_bound`."""
        start = params.reset_bound * jax.random.uniform(key, (4,), jnp.float32, minval=-1.0, maxval=1.0)
        state = AcrobotState(start[0], start[1], start[2], start[3], time=jnp.zeros((), jnp.int32))
        return state, _observe(state)

    def step(
        self, key: PRNGKeyArray, state: AcrobotState, action: Array, params: AcrobotParams
    ) -> tuple[AcrobotState, Step]:
        """One Runge-Kutta step of `time_step` seconds; then angles are wrapped and velocities clipped."""
        noise = params.torque_noise * jax.random.uniform(key, (), jnp.float32, minval=-1.0, maxval=1.0)
        torque = (action - 1).astype(jnp.float32) * params.torque + noise
        motion = jnp.stack([state.angle_1, state.angle_2, state.angular_velocity_1, state.angular_velocity_2])
        motion = runge_kutta_step(lambda x: acrobot_derivative(x, torque, params), motion, params.time_step)
        angles = jnp.mod(motion[:2] + math.pi, 2 * math.pi) - math.pi
        state = AcrobotState(
            angles[0],
            angles[1],
            jnp.clip(motion[2], -params.max_speed_1, params.max_speed_1),
            jnp.clip(motion[3], -params.max_speed_2, params.max_speed_2),
            time=state.time + 1,
        )
        terminated = -jnp.cos(state.angle_1) - jnp.cos(state.angle_1 + state.angle_2) > params.goal_height
        reward = terminated.astype(jnp.float32) - 1
        return state, Step(_observe(state), reward, terminated, state.time >= self.max_steps)
