"""MountainCar: an engine too weak for the hill must first back away from it (Moore 1990; Sutton & Barto 2018)."""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.environments.environment import Environment, Params, Quantity, Step, quantity
from polyfed.environments.spaces import Box, Discrete


class MountainCarParams(eqx.Module):
    """The physics of a car in a valley; the unit of time is the step.

    >>> MountainCarParams(force=0.002).force
    0.002
    """

    force: Quantity = quantity(0.001, "m/step^2", low=0.0, high=1.0)  # of the engine, per mass
    gravity: Quantity = quantity(0.0025, "m/step^2", low=0.0, high=1.0)
    min_position: Quantity = quantity(-1.2, "m", low=-100.0, high=100.0)  # a wall: the car stops there
    max_position: Quantity = quantity(0.6, "m", low=-100.0, high=100.0)
    max_speed: Quantity = quantity(0.07, "m/step", low=0.0, high=10.0)
    goal_position: Quantity = quantity(0.5, "m", low=-100.0, high=100.0)
    goal_velocity: Quantity = quantity(0.0, "m/step", low=-10.0, high=10.0)  # slowest arrival that counts
    reset_position: Quantity = quantity(-0.5, "m", low=-100.0, high=100.0)  # middle of the first positions
    reset_spread: Quantity = quantity(0.1, "m", low=0.0, high=100.0)  # and the largest distance from it


class MountainCarState(eqx.Module):
    """Where the car is, how fast it moves, and the clock.

    >>> MountainCarState(jnp.float32(-0.5), jnp.float32(0), time=jnp.int32(0)).position
    Array(-0.5, dtype=float32)
    """

    position: Float[Array, ""]  # m, to the right
    velocity: Float[Array, ""]  # m/step
    time: Int[Array, ""]  # steps since the reset


def park(key: PRNGKeyArray, params: Params) -> MountainCarState:
    """A fresh episode: at rest, uniform in `reset_position ± reset_spread`.

    >>> float(park(jax.random.key(0), MountainCarParams(reset_position=0.25, reset_spread=0.0)).position)
    0.25
    """
    draw = jax.random.uniform(key, (), jnp.float32, minval=-1.0, maxval=1.0)
    position = params.reset_position + params.reset_spread * draw
    return MountainCarState(position, jnp.zeros((), jnp.float32), time=jnp.zeros((), jnp.int32))


def drive(position: Array, velocity: Array, engine: Quantity, params: Params) -> tuple[Array, Array]:
    """One step in the valley `y = 0.45 sin 3x`: `v ← v + engine - gravity cos 3x`, then `x ← x + v`, both clipped.

    Args:
      position: `x`, m.
      velocity: `v`, m/step.
      engine: Acceleration by the engine, m/step².
      params: `gravity`, `max_speed`, `min_position` and `max_position`; the left end is a wall that stops the car.

    Returns:
      `(position, velocity)` one step later.

    >>> [float(x) for x in drive(jnp.float32(-1.2), jnp.float32(-0.05), 0.0, MountainCarParams())][1]
    0.0
    """
    velocity = velocity + engine - params.gravity * jnp.cos(3 * position)
    velocity = jnp.clip(velocity, -params.max_speed, params.max_speed)
    position = jnp.clip(position + velocity, params.min_position, params.max_position)
    stopped = (position == params.min_position) & (velocity < 0)
    return position, jnp.where(stopped, jnp.zeros_like(velocity), velocity)


def arrived(position: Array, velocity: Array, params: Params) -> Array:
    """Whether the car is at the goal or beyond, and fast enough.

    >>> bool(arrived(jnp.float32(0.55), jnp.float32(0.01), MountainCarParams()))
    True
    """
    return (position >= params.goal_position) & (velocity >= params.goal_velocity)


class MountainCar(Environment[MountainCarState]):
    """MountainCar-v0: push left (0), not at all (1) or right (2); -1 for every step, the last included.

    The observation is `(position, velocity)`. The episode terminates at the goal.

    >>> environment = MountainCar()
    >>> environment.action_space
    Discrete(n=3)
    >>> environment.max_steps
    200
    """

    params_class: ClassVar[type] = MountainCarParams
    gymnasium_id: ClassVar[str | None] = "MountainCar-v0"

    max_steps: int = eqx.field(default=200, static=True)  # steps until truncation

    @property
    def observation_space(self) -> Box:
        """The nominal track and speeds."""
        nominal = self.params_class()
        return Box(
            low=(nominal.min_position, -nominal.max_speed),
            high=(nominal.max_position, nominal.max_speed),
        )

    @property
    def action_space(self) -> Discrete:
        """Left, coast, right."""
        return Discrete(3)

    def reset(self, key: PRNGKeyArray, params: MountainCarParams) -> tuple[MountainCarState, Array]:
        """At rest, uniform in `reset_position ± reset_spread`."""
        state = park(key, params)
        return state, jnp.stack([state.position, state.velocity])

    def step(
        self, key: PRNGKeyArray, state: MountainCarState, action: Array, params: MountainCarParams
    ) -> tuple[MountainCarState, Step]:
        """One step; the world itself is deterministic."""
        del key
        engine = (action - 1).astype(jnp.float32) * params.force
        position, velocity = drive(state.position, state.velocity, engine, params)
        terminated = arrived(position, velocity, params)
        state = MountainCarState(position, velocity, time=state.time + 1)
        observation = jnp.stack([position, velocity])
        return state, Step(observation, -jnp.ones((), jnp.float32), terminated, state.time >= self.max_steps)
