"""A world in which an agent hands its next self a note: what it carries from step to step of an episode.

A memory is written with every action and read with the next observation (Peshkin et al. 1999, sec. 2). So who acts and
learns stays a function of what is seen, in every loop: a rollout, an evaluation, a film.

References: peshkin1999memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from polyfed.environments.environment import Environment, Params, Step
from polyfed.environments.spaces import Box, Space
from polyfed.environments.world import Act, Film, World
from polyfed.types import Trajectory


class Noted(eqx.Module):
    """An action, and the memory with which it leaves the agent.

    >>> Noted(jnp.zeros(3, jnp.int32), jnp.zeros((3, 8))).memory.shape
    (3, 8)
    """

    action: Array
    memory: Float[Array, "*batch M"]


def bare(action: Any) -> Array:
    """The action without its note, if there is one.

    >>> bare(Noted(jnp.int32(1), jnp.zeros(2))), bare(jnp.int32(1))
    (Array(1, dtype=int32), Array(1, dtype=int32))
    """
    return action.action if isinstance(action, Noted) else action


def taken(trajectory: Trajectory) -> Trajectory:
    """The trajectory with actions that bear no notes; what was noted stands in the observations.

    >>> taken(Trajectory(*[jnp.zeros((2, 1))] * 6)).action.shape
    (2, 1)
    """
    return eqx.tree_at(lambda t: t.action, trajectory, bare(trajectory.action))


def without_memory(world: World) -> World:
    """The world itself.

    >>> from polyfed.environments import CartPole
    >>> without_memory(Remembered(CartPole(), 8)) == without_memory(CartPole()) == CartPole()
    True
    """
    return world.environment if isinstance(world, Remembered) else world


class Remembered(Environment[Any]):
    """An environment whose observations end with the `size` numbers that the agent noted when it last acted.

    They are 0 where an episode begins. An action that is no `Noted` notes zeros. All else is the environment's.

    >>> from polyfed.environments import CartPole
    >>> import jax
    >>> world = Remembered(CartPole(), size=2)
    >>> state, seen = world.reset(jax.random.key(0), world.nominal())
    >>> _, step = world.step(jax.random.key(1), state, Noted(jnp.int32(1), jnp.array([0.5, -0.5])), world.nominal())
    >>> seen[4:].tolist(), step.observation[4:].tolist()
    ([0.0, 0.0], [0.5, -0.5])
    """

    environment: Environment[Any] = eqx.field(static=True)
    size: int = eqx.field(static=True)  # numbers that are noted, each from -1 to 1

    @property
    def max_steps(self) -> int:
        """The environment's."""
        return self.environment.max_steps

    @property
    def observation_space(self) -> Box:
        """The environment's, then the memory."""
        inner = self.environment.observation_space
        assert isinstance(inner, Box)
        return Box(low=(*inner.low, *(-1.0,) * self.size), high=(*inner.high, *(1.0,) * self.size))

    @property
    def action_space(self) -> Space:
        """The environment's."""
        return self.environment.action_space

    def allowed(self, observation: Float[Array, "*batch D"]) -> Bool[Array, "*batch A"] | None:
        """As the environment does."""
        return self.environment.allowed(observation[..., : -self.size])

    def quantities(self) -> dict[str, dict[str, Any]]:
        """The environment's."""
        return self.environment.quantities()

    def made(self, values: Mapping[str, Array], shape: tuple[int, ...] = ()) -> Params:
        """The environment's."""
        return self.environment.made(values, shape)

    def nominal(self) -> Params:
        """The environment's."""
        return self.environment.nominal()

    def check(self) -> None:
        """Raise `ValueError` if the environment does."""
        self.environment.check()

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[Any, Float[Array, " D"]]:
        """A fresh episode, and nothing remembered."""
        state, observation = self.environment.reset(key, params)
        return state, jnp.concatenate([observation, jnp.zeros(self.size, jnp.float32)])

    def step(self, key: PRNGKeyArray, state: Any, action: Any, params: Params) -> tuple[Any, Step]:
        """One step; what was noted is seen next."""
        state, given = self.environment.step(key, state, bare(action), params)
        return state, self._noted(given, action)

    def draw(self, key: PRNGKeyArray, params: Params, num_steps: int) -> Any:
        """The environment's."""
        return self.environment.draw(key, params, num_steps)

    def go_on(
        self, keys: PRNGKeyArray, state: Any, action: Any, params: Params, drawn: Any
    ) -> tuple[Step, Any, Float[Array, "E D"]]:
        """As the environment does; where an episode ends, its memory does."""
        given, state, observation = self.environment.go_on(keys, state, bare(action), params, drawn)
        given = self._noted(given, action)
        over = given.terminated | given.truncated
        memory = jnp.where(over[:, None], 0.0, given.observation[:, -self.size :])
        return given, state, jnp.concatenate([observation, memory], axis=-1)

    def _noted(self, given: Step, action: Any) -> Step:
        blank = jnp.zeros((*given.observation.shape[:-1], self.size), jnp.float32)
        memory = action.memory if isinstance(action, Noted) else blank
        return eqx.tree_at(lambda s: s.observation, given, jnp.concatenate([given.observation, memory], axis=-1))

    def film(self, act: Act, params: Params, key: PRNGKeyArray, every: int = 1) -> Film:
        """A traced episode, or the environment's own film, to which the notes are carried from step to step."""
        if type(self.environment).film is Environment.film:
            return super().film(act, params, key, every)
        memory = jnp.zeros((1, self.size), jnp.float32)

        def carrying(observation: Array) -> Array:
            nonlocal memory
            noted: Any = act(jnp.concatenate([jnp.asarray(observation), memory], axis=-1))
            memory = noted.memory
            return bare(noted)

        return self.environment.film(carrying, params, key, every)

    def pictures(self, params: Params, states: Any) -> list[np.ndarray]:
        """The environment's."""
        return self.environment.pictures(params, states)

    def attendance(self, params: Params, lived: Any) -> Float[Array, ""] | None:
        """The environment's."""
        return self.environment.attendance(params, lived)

    def told(self, params: Params) -> tuple[str, ...]:
        """The environment's."""
        return self.environment.told(params)
