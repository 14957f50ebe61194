"""A probe for images: a ball falls, and what catches it can only be seen (the Catch of Osband et al. 2020).

References: osband2020bsuite.
"""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.environments.environment import Environment, Step
from polyfed.environments.probes import ProbeParams
from polyfed.environments.spaces import Box, Discrete


class CatchState(eqx.Module):
    """Where ball and paddle are; the paddle never leaves the lowest row.

    >>> CatchState(column=jnp.int32(2), row=jnp.int32(0), paddle=jnp.int32(3)).row
    Array(0, dtype=int32)
    """

    column: Int[Array, ""]  # of the ball, 0 is left
    row: Int[Array, ""]  # of the ball, 0 is the highest; the clock too
    paddle: Int[Array, ""]  # column


class Catch(Environment[CatchState]):
    """A ball falls from any column, a row per step; a paddle below moves left, stays, or moves right.

    Shown is a picture of `rows x columns` pixels, 1 where ball or paddle are and else 0. When the ball reaches the
    lowest row the episode terminates, and pays `scale` where the paddle is under it, or costs as much.

    >>> catch = Catch()
    >>> state, picture = catch.reset(jax.random.key(0), catch.nominal())
    >>> picture.reshape(catch.observation_space.shape).sum(axis=1).tolist()  # the ball, and the paddle
    [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    """

    params_class: ClassVar[type] = ProbeParams

    rows: int = eqx.field(default=6, static=True)
    columns: int = eqx.field(default=6, static=True)  # at most 2 rows - 1, or some balls cannot be caught

    @property
    def max_steps(self) -> int:
        """The ball is down before the clock runs out."""
        return self.rows

    @property
    def observation_space(self) -> Box:
        """Pixels."""
        count = self.rows * self.columns
        return Box(low=(0.0,) * count, high=(1.0,) * count, shape=(self.rows, self.columns))

    @property
    def action_space(self) -> Discrete:
        """Left, stay, right."""
        return Discrete(3)

    def check(self) -> None:
        """Raise `ValueError` in one sentence if there is no room to fall, or a ball that cannot be caught."""
        if self.rows < 2 or not 1 <= self.columns <= 2 * self.rows - 1:
            raise ValueError(
                f"environment.rows = {self.rows} and environment.columns = {self.columns} leave balls that nobody can "
                "catch: give at least 2 rows, and at most twice as many columns less one."
            )
        super().check()

    def picture(self, column: Array, row: Array, paddle: Array) -> Float[Array, " pixels"]:
        """Ball and paddle as they are shown."""
        at = jnp.arange(self.rows * self.columns)
        ball, below = row * self.columns + column, (self.rows - 1) * self.columns + paddle
        return ((at == ball) | (at == below)).astype(jnp.float32)

    def best_action(self, state: CatchState) -> Int[np.ndarray, ""]:
        """Towards the ball."""
        return np.asarray(1 + np.sign(np.asarray(state.column) - np.asarray(state.paddle)), np.int32)

    def reset(self, key: PRNGKeyArray, params: ProbeParams) -> tuple[CatchState, Array]:
        """The ball in any column of the highest row, the paddle in the middle of the lowest."""
        del params
        column, zero = jax.random.randint(key, (), 0, self.columns, jnp.int32), jnp.zeros((), jnp.int32)
        state = CatchState(column, row=zero, paddle=zero + self.columns // 2)
        return state, self.picture(state.column, state.row, state.paddle)

    def step(self, key: PRNGKeyArray, state: CatchState, action: Array, params: ProbeParams) -> tuple[CatchState, Step]:
        """The paddle moves, and the ball falls."""
        del key
        paddle = jnp.clip(state.paddle + action.astype(jnp.int32) - 1, 0, self.columns - 1)
        state = CatchState(state.column, state.row + 1, paddle)
        terminated = state.row >= self.rows - 1
        caught = params.scale * jnp.where(state.column == paddle, 1.0, -1.0)
        reward = jnp.where(terminated, caught, 0.0).astype(jnp.float32)
        shown = self.picture(state.column, state.row, state.paddle)
        return state, Step(shown, reward, terminated, jnp.zeros((), bool))
