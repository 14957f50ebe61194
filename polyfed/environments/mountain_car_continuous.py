"""MountainCarContinuous: the car in the valley with a throttle, paid for arriving and charged for driving."""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from polyfed.environments.environment import Environment, Quantity, Step, quantity
from polyfed.environments.mountain_car import MountainCarState, arrived, drive, park
from polyfed.environments.spaces import Box


class MountainCarContinuousParams(eqx.Module):
    """The physics of a car with a throttle in a valley; the unit of time is the step.

    >>> MountainCarContinuousParams(power=0.001).power
    0.001
    """

    power: Quantity = quantity(0.0015, "m/step^2", low=0.0, high=1.0)  # acceleration at throttle 1
    max_action: Quantity = quantity(1.0, "1", low=0.0, high=100.0)  # a throttle beyond it is clipped, but paid for
    gravity: Quantity = quantity(0.0025, "m/step^2", low=0.0, high=1.0)
    min_position: Quantity = quantity(-1.2, "m", low=-100.0, high=100.0)  # a wall: the car stops there
    max_position: Quantity = quantity(0.6, "m", low=-100.0, high=100.0)
    max_speed: Quantity = quantity(0.07, "m/step", low=0.0, high=10.0)
    goal_position: Quantity = quantity(0.45, "m", low=-100.0, high=100.0)
    goal_velocity: Quantity = quantity(0.0, "m/step", low=-10.0, high=10.0)  # slowest arrival that counts
    reset_position: Quantity = quantity(-0.5, "m", low=-100.0, high=100.0)  # middle of the first positions
    reset_spread: Quantity = quantity(0.1, "m", low=0.0, high=100.0)  # and the largest distance from it

    @property
    def min_action(self) -> Quantity:
        """Full throttle to the left."""
        return -self.max_action


class MountainCarContinuous(Environment[MountainCarState]):
    """MountainCarContinuous-v0: a throttle `[u]` costs `0.1 u²`, arriving pays 100 once.

    The observation is `(position, velocity)`. The episode terminates at the goal.

    >>> import jax
    >>> environment = MountainCarContinuous()
    >>> state = MountainCarState(jnp.float32(0.44), jnp.float32(0.05), time=jnp.int32(0))
    >>> _, step = environment.step(jax.random.key(0), state, jnp.ones(1), environment.nominal())
    >>> bool(step.terminated), round(float(step.reward), 1)
    (True, 99.9)
    """

    params_class: ClassVar[type] = MountainCarContinuousParams
    gymnasium_id: ClassVar[str | None] = "MountainCarContinuous-v0"

    max_steps: int = eqx.field(default=999, static=True)  # steps until truncation

    @property
    def observation_space(self) -> Box:
        """The nominal track and speeds."""
        nominal = self.params_class()
        return Box(
            low=(nominal.min_position, -nominal.max_speed),
            high=(nominal.max_position, nominal.max_speed),
        )

    @property
    def action_space(self) -> Box:
        """A throttle in the nominal `±max_action`."""
        nominal = self.params_class()
        return Box(low=(nominal.min_action,), high=(nominal.max_action,))

    def reset(self, key: PRNGKeyArray, params: MountainCarContinuousParams) -> tuple[MountainCarState, Array]:
        """At rest, uniform in `reset_position ± reset_spread`."""
        state = park(key, params)
        return state, jnp.stack([state.position, state.velocity])

    def step(
        self, key: PRNGKeyArray, state: MountainCarState, action: Array, params: MountainCarContinuousParams
    ) -> tuple[MountainCarState, Step]:
        """One step; the world itself is deterministic."""
        del key
        throttle = action[0].astype(jnp.float32)
        engine = params.power * jnp.clip(throttle, params.min_action, params.max_action)
        position, velocity = drive(state.position, state.velocity, engine, params)
        terminated = arrived(position, velocity, params)
        reward = 100.0 * terminated.astype(jnp.float32) - 0.1 * throttle**2
        state = MountainCarState(position, velocity, time=state.time + 1)
        return state, Step(jnp.stack([position, velocity]), reward, terminated, state.time >= self.max_steps)
