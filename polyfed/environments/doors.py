"""A probe for masked actions: some doors are open, the others must not even be counted on."""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from polyfed.environments.environment import Environment, Step
from polyfed.environments.probes import ProbeParams
from polyfed.environments.spaces import Box, Discrete


class DoorsState(eqx.Module):
    """Which doors are open, and how many were gone through.

    >>> DoorsState(jnp.array([True, False]), time=jnp.int32(0)).time
    Array(0, dtype=int32)
    """

    open: Bool[Array, " n"]
    time: Int[Array, ""]


class Doors(Environment[DoorsState]):
    """`num_rooms` rooms, one after the other, each with `n` doors, of which some are open: what is allowed.

    An open door pays its reward times `scale` and leads on; in each room one of `patterns` is open, with equal chance.
    A shut one costs 10 times `scale` and ends the episode, so who ignores the mask loses. Shown are how many rooms lie
    behind, from 0 to 1, and a flag for each door.

    The last door pays best, and is open half the time only: who counts on it expects too much of every room before.

    >>> doors = Doors()
    >>> doors.action_values(discount=1.0).round(2).tolist()[-1]  # in the last room, none shut: what doors pay
    [0.0, 1.0, 4.0]
    >>> float(doors.value(discount=1.0))  # of the best policy, before the first room is seen
    6.75
    """

    params_class: ClassVar[type] = ProbeParams

    rewards: tuple[float, ...] = eqx.field(default=(0.0, 1.0, 4.0), static=True)  # [n], of each open door
    patterns: tuple[tuple[int, ...], ...] = eqx.field(  # each [n], 1: open
        default=((1, 1, 0), (1, 0, 1), (1, 0, 0), (1, 1, 1)), static=True
    )
    num_rooms: int = eqx.field(default=3, static=True)
    max_steps: int = eqx.field(default=10, static=True)  # steps until truncation; no episode lasts that long

    @property
    def observation_space(self) -> Box:
        """One number, and a flag for each door."""
        size = 1 + len(self.rewards)
        return Box(low=(0.0,) * size, high=(1.0,) * size)

    @property
    def action_space(self) -> Discrete:
        """One of the doors."""
        return Discrete(len(self.rewards))

    def allowed(self, observation: Float[Array, "*batch D"]) -> Bool[Array, "*batch n"]:
        """The open doors."""
        return observation[..., 1:] > 0.5

    @property
    def observations(self) -> Float[np.ndarray, "K D"]:
        """All that can be seen before an end, room after room, pattern after pattern."""
        rooms = np.arange(self.num_rooms) / self.num_rooms
        return np.asarray([(room, *pattern) for room in rooms for pattern in self.patterns], np.float32)

    def value(self, discount: float, scale: float = 1.0, room: int = 0) -> float:
        """What the best policy earns from a room on, before it is seen which doors are open there."""
        if room == self.num_rooms:
            return 0.0
        first = [max(r for r, is_open in zip(self.rewards, open_, strict=True) if is_open) for open_ in self.patterns]
        return scale * float(np.mean(first)) + discount * self.value(discount, scale, room + 1)

    def action_values(self, discount: float, scale: float = 1.0) -> Float[np.ndarray, "K n"]:
        """Optimal values of `observations`; of shut doors, those that they would have if they were open."""
        after = [discount * self.value(discount, scale, room + 1) for room in range(self.num_rooms)]
        rows = scale * np.asarray(self.rewards) + np.asarray(after)[:, None]
        return np.repeat(rows, len(self.patterns), axis=0).astype(np.float32)

    def reset(self, key: PRNGKeyArray, params: ProbeParams) -> tuple[DoorsState, Array]:
        """Before the first room."""
        del params
        state = DoorsState(self._opened(key), time=jnp.zeros((), jnp.int32))
        return state, self._shown(state)

    def step(self, key: PRNGKeyArray, state: DoorsState, action: Array, params: ProbeParams) -> tuple[DoorsState, Step]:
        """Through a door."""
        through = state.open[action]
        reward = params.scale * jnp.where(through, jnp.asarray(self.rewards, jnp.float32)[action], -10.0)
        state = DoorsState(self._opened(key), time=state.time + 1)
        terminated = ~through | (state.time >= self.num_rooms)
        return state, Step(self._shown(state), reward, terminated, state.time >= self.max_steps)

    def _opened(self, key: PRNGKeyArray) -> Bool[Array, " n"]:
        nth = jax.random.randint(key, (), 0, len(self.patterns), jnp.int32)
        return jnp.asarray(self.patterns, bool)[nth]

    def _shown(self, state: DoorsState) -> Float[Array, " D"]:
        behind = jnp.minimum(state.time / self.num_rooms, 1.0).astype(jnp.float32)
        return jnp.concatenate([behind[None], state.open.astype(jnp.float32)])
