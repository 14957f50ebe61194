"""Pendulum: swing a rod up and hold it there with a weak motor (Gymnasium's Pendulum-v1)."""

from __future__ import annotations

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.environments.environment import Environment, Quantity, Step, quantity
from polyfed.environments.spaces import Box


class PendulumParams(eqx.Module):
    """The physics of a rod that turns about one end.

    >>> PendulumParams(length=2.0).moment
    1.3333333333333333
    """

    gravity: Quantity = quantity(10.0, "m/s^2", low=0.0, high=100.0)
    mass: Quantity = quantity(1.0, "kg", low=0.001, high=1000.0)
    length: Quantity = quantity(1.0, "m", low=0.001, high=100.0)
    max_torque: Quantity = quantity(2.0, "N m", low=0.0, high=1000.0)  # stronger actions are clipped
    max_speed: Quantity = quantity(8.0, "rad/s", low=0.001, high=1000.0)
    time_step: Quantity = quantity(0.05, "s", low=0.0001, high=1.0)
    reset_angle: Quantity = quantity(math.pi, "rad", low=0.0, high=2 * math.pi)  # bound of a first angle
    reset_speed: Quantity = quantity(1.0, "rad/s", low=0.0, high=1000.0)  # bound of a first angular velocity

    @property
    def moment(self) -> Quantity:
        """Moment of inertia of a uniform rod about its end, `m l² / 3`, kg m²."""
        return self.mass * self.length**2 / 3


class PendulumState(eqx.Module):
    """Where the rod is, how fast it turns, and the clock.

    >>> PendulumState(jnp.float32(0), jnp.float32(0), time=jnp.int32(0)).angle
    Array(0., dtype=float32)
    """

    angle: Float[Array, ""]  # rad, counter-clockwise from upright, not wrapped
    angular_velocity: Float[Array, ""]  # rad/s
    time: Int[Array, ""]  # steps since the reset


def wrapped_angle(angle: Quantity) -> Array:
    """The same direction in `[-π, π)`.

    >>> float(wrapped_angle(2 * math.pi + 0.5).round(3))
    0.5
    """
    return jnp.mod(angle + math.pi, 2 * math.pi) - math.pi


def pendulum_acceleration(angle: Quantity, torque: Quantity, params: PendulumParams) -> Array:
    """Angular acceleration `(m g (l/2) sin θ + u) / (m l² / 3)` of a uniform rod, rad/s².

    Args:
      angle: `θ`, rad from upright.
      torque: `u`, N m.
      params: Physics.

    >>> float(pendulum_acceleration(math.pi / 2, 0.0, PendulumParams(gravity=10.0)))
    15.0
    """
    weight = params.mass * params.gravity * params.length / 2
    return (weight * jnp.sin(angle) + torque) / params.moment


def _observe(state: PendulumState) -> Float[Array, " 3"]:
    return jnp.stack([jnp.cos(state.angle), jnp.sin(state.angle), state.angular_velocity])


class Pendulum(Environment[PendulumState]):
    """Pendulum-v1: apply a torque `[u]`; the reward is `-(θ² + 0.1 ω² + 0.001 u²)` of the state before the step.

    The observation is `(cos θ, sin θ, ω)`. An episode never terminates; integration is semi-implicit Euler.

    >>> environment = Pendulum()
    >>> environment.action_space
    Box(low=(-2.0,), high=(2.0,), shape=None)
    >>> state = PendulumState(jnp.float32(0), jnp.float32(0), time=jnp.int32(0))
    >>> _, step = environment.step(jax.random.key(0), state, jnp.zeros(1), environment.nominal())
    >>> bool(step.reward == 0), bool(step.terminated)
    (True, False)
    """

    params_class: ClassVar[type] = PendulumParams
    gymnasium_id: ClassVar[str | None] = "Pendulum-v1"

    max_steps: int = eqx.field(default=200, static=True)  # steps until truncation

    @property
    def observation_space(self) -> Box:
        """Cosine and sine in `±1`, angular velocity in the nominal `±max_speed`."""
        high = (1.0, 1.0, self.params_class().max_speed)
        return Box(low=tuple(-x for x in high), high=high)

    @property
    def action_space(self) -> Box:
        """A torque in the nominal `±max_torque`, N m."""
        torque = self.params_class().max_torque
        return Box(low=(-torque,), high=(torque,))

    def reset(self, key: PRNGKeyArray, params: PendulumParams) -> tuple[PendulumState, Array]:
        """Angle uniform in `±reset_angle`, angular velocity in `±reset_speed`."""
        draws = jax.random.uniform(key, (2,), jnp.float32, minval=-1.0, maxval=1.0)
        angle, speed = params.reset_angle * draws[0], params.reset_speed * draws[1]
        state = PendulumState(angle, speed, time=jnp.zeros((), jnp.int32))
        return state, _observe(state)

    def step(
        self, key: PRNGKeyArray, state: PendulumState, action: Array, params: PendulumParams
    ) -> tuple[PendulumState, Step]:
        """One Euler step of `time_step` seconds, angle after angular velocity."""
        del key
        torque = jnp.clip(action[0].astype(jnp.float32), -params.max_torque, params.max_torque)
        cost = wrapped_angle(state.angle) ** 2 + 0.1 * state.angular_velocity**2 + 0.001 * torque**2
        velocity = state.angular_velocity + params.time_step * pendulum_acceleration(state.angle, torque, params)
        velocity = jnp.clip(velocity, -params.max_speed, params.max_speed)
        angle = state.angle + params.time_step * velocity
        state = PendulumState(angle, velocity, time=state.time + 1)
        return state, Step(_observe(state), -cost, jnp.zeros((), bool), state.time >= self.max_steps)
