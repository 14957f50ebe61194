"""CartPole: balance a pole on a cart (Barto, Sutton & Anderson 1983; dynamics as corrected by Florian 2007)."""

from __future__ import annotations

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.environments.environment import Environment, Quantity, Step, quantity
from polyfed.environments.spaces import Box, Discrete


class CartPoleParams(eqx.Module):
    """The physics of a cart and its pole, and what a step is worth.

    >>> CartPoleParams(mass_pole=0.5).total_mass
    1.5
    """

    gravity: Quantity = quantity(9.8, "m/s^2", low=0.0, high=100.0)
    mass_cart: Quantity = quantity(1.0, "kg", low=0.001, high=1000.0)
    mass_pole: Quantity = quantity(0.1, "kg", low=0.0, high=1000.0)
    half_length: Quantity = quantity(0.5, "m", low=0.001, high=100.0)  # pivot to centre of mass: half of the pole
    force: Quantity = quantity(10.0, "N", low=0.0, high=1000.0)
    time_step: Quantity = quantity(0.02, "s", low=0.0001, high=1.0)
    angle_limit: Quantity = quantity(
        math.radians(12.0), "rad", low=0.001, high=math.pi
    )  # beyond it the pole has fallen
    position_limit: Quantity = quantity(2.4, "m", low=0.001, high=1000.0)  # beyond it the cart has left the track
    reset_bound: Quantity = quantity(0.05, "1", low=0.0, high=10.0)  # of all four entries of a first state: m, m/s, ...
    reward: Quantity = quantity(1.0, "1", low=-1000.0, high=1000.0)  # for every step; below 0 where it is poisoned

    @property
    def total_mass(self) -> Quantity:
        """Cart with pole, kg."""
        return self.mass_cart + self.mass_pole

    @property
    def pole_moment(self) -> Quantity:
        """First moment of the pole about its pivot, kg m."""
        return self.mass_pole * self.half_length


class CartPoleState(eqx.Module):
    """Where cart and pole are, how fast they move, and the clock.

    >>> CartPoleState(*jnp.zeros(4), time=jnp.int32(0)).angle
    Array(0., dtype=float32)
    """

    position: Float[Array, ""]  # m, cart, to the right
    velocity: Float[Array, ""]  # m/s
    angle: Float[Array, ""]  # rad, clockwise from upright
    angular_velocity: Float[Array, ""]  # rad/s
    time: Int[Array, ""]  # steps since the reset


def cartpole_accelerations(
    angle: Quantity, angular_velocity: Quantity, force: Quantity, params: CartPoleParams
) -> tuple[Array, Array]:
    """Accelerations of the cart and of the pole without friction (Florian 2007).

    With total mass `M`, pole mass `m`, half length `l`, `u = (F + m l ω² sin θ) / M`:
    `ω̇ = (g sin θ - u cos θ) / (l (4/3 - m cos² θ / M))` and `v̇ = u - m l ω̇ cos θ / M`.

    Args:
      angle: `θ`, rad from upright.
      angular_velocity: `ω`, rad/s.
      force: `F`, N to the right.
      params: Physics.

    Returns:
      `(v̇, ω̇)` in m/s² and rad/s².

    >>> cart, pole = cartpole_accelerations(0.0, 0.0, 11.0, CartPoleParams(mass_pole=0.1))
    >>> float(cart) > 10.0, float(pole) < 0.0  # pushed to the right, the pole falls to the left
    (True, True)
    """
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    push = (force + params.pole_moment * angular_velocity**2 * sin) / params.total_mass
    inertia = params.half_length * (4.0 / 3.0 - params.mass_pole * cos**2 / params.total_mass)
    angular = (params.gravity * sin - cos * push) / inertia
    return push - params.pole_moment * angular * cos / params.total_mass, angular


def _observe(state: CartPoleState) -> Float[Array, " 4"]:
    return jnp.stack([state.position, state.velocity, state.angle, state.angular_velocity])


class CartPole(Environment[CartPoleState]):
    """CartPole-v1: push left (0) or right (1); `reward` for every step, the last included.

    The observation is `(position, velocity, angle, angular velocity)`. The episode terminates when the cart leaves the
    track or the pole its angle; integration is explicit Euler.

    >>> environment = CartPole()
    >>> environment.action_space
    Discrete(n=2)
    >>> _, observation = environment.reset(jax.random.key(0), environment.nominal())
    >>> observation.shape
    (4,)
    """

    params_class: ClassVar[type] = CartPoleParams
    gymnasium_id: ClassVar[str | None] = "CartPole-v1"

    max_steps: int = eqx.field(default=500, static=True)  # steps until truncation

    @property
    def observation_space(self) -> Box:
        """Twice the nominal limits, so that a last observation lies inside; velocities are unbounded."""
        nominal = self.params_class()
        high = (2 * nominal.position_limit, math.inf, 2 * nominal.angle_limit, math.inf)
        return Box(low=tuple(-x for x in high), high=high)

    @property
    def action_space(self) -> Discrete:
        """Left, right."""
        return Discrete(2)

    def reset(self, key: PRNGKeyArray, params: CartPoleParams) -> tuple[CartPoleState, Array]:
        """All four entries uniform in `±reset_bound`."""
        start = params.reset_bound * jax.random.uniform(key, (4,), jnp.float32, minval=-1.0, maxval=1.0)
        state = CartPoleState(start[0], start[1], start[2], start[3], time=jnp.zeros((), jnp.int32))
        return state, _observe(state)

    def step(
        self, key: PRNGKeyArray, state: CartPoleState, action: Array, params: CartPoleParams
    ) -> tuple[CartPoleState, Step]:
        """One Euler step of `time_step` seconds; the world itself is deterministic."""
        del key
        force = jnp.where(action == 1, params.force, -params.force)
        cart, pole = cartpole_accelerations(state.angle, state.angular_velocity, force, params)
        state = CartPoleState(
            position=state.position + params.time_step * state.velocity,
            velocity=state.velocity + params.time_step * cart,
            angle=state.angle + params.time_step * state.angular_velocity,
            angular_velocity=state.angular_velocity + params.time_step * pole,
            time=state.time + 1,
        )
        terminated = (jnp.abs(state.position) > params.position_limit) | (jnp.abs(state.angle) > params.angle_limit)
        return state, Step(
            _observe(state), jnp.asarray(params.reward, jnp.float32), terminated, state.time >= self.max_steps
        )
