"""The same world seen from outside: one of our environments, in a client's world, as a Gymnasium environment.

An agent made elsewhere steps what our own agents step. State, clock and random key travel through one compiled program
as a single vector that is donated to it, because on a host the number of arrays is what a small step costs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ResetNeeded
from jaxtyping import Array, UInt32

from polyfed.environments.environment import Environment
from polyfed.environments.spaces import Box, Discrete, Space
from polyfed.environments.world import Params

Form = tuple[tuple[int, ...], np.dtype]  # of one array
_CLOCK = 3  # words after the state: two of the episode's key, one that counts steps


def as_words(leaves: list[Array]) -> UInt32[Array, " W"]:
    """Arrays of four bytes an entry, or of flags, bit by bit as one vector.

    >>> as_words([jnp.float32(1.0), jnp.array([True, False])]).tolist()
    [1065353216, 1, 0]
    """
    flat = [jnp.ravel(x.astype(jnp.uint32) if x.dtype == bool else x) for x in leaves]
    return jnp.concatenate([jnp.zeros(0, jnp.uint32), *(jax.lax.bitcast_convert_type(x, jnp.uint32) for x in flat)])


def from_words(words: UInt32[Array, " W"], forms: tuple[Form, ...]) -> list[Array]:
    """The arrays that `as_words` made one of.

    >>> words = as_words([jnp.float32(1.5), jnp.int32(-1)])
    >>> [x.item() for x in from_words(words, (((), np.dtype("float32")), ((), np.dtype("int32"))))]
    [1.5, -1]
    """
    leaves, start = [], 0
    for shape, dtype in forms:
        piece = words[start : start + math.prod(shape)].reshape(shape)
        leaves.append(piece != 0 if dtype.kind == "b" else jax.lax.bitcast_convert_type(piece, dtype))
        start += math.prod(shape)
    return leaves


def gymnasium_space(space: Space) -> gymnasium.spaces.Space:
    """The same space as Gymnasium names it.

    >>> gymnasium_space(Discrete(2))
    Discrete(2)
    """
    if isinstance(space, Discrete):
        return gymnasium.spaces.Discrete(space.n)
    return gymnasium.spaces.Box(np.asarray(space.low, np.float32), np.asarray(space.high, np.float32))


class HostView(gymnasium.Env[np.ndarray, Any]):
    """A client's world on the host: NumPy goes in and comes out, time limits truncate, `reset(seed=...)` repeats.

    An observation is a fresh float32 array `[D]`, which may be written into. The spaces are those of the nominal world,
    as ours are: a client's own observations may lie outside them.

    >>> from polyfed.environments import CartPole
    >>> view = HostView(CartPole(max_steps=2), CartPole.params_class(mass_pole=0.5))
    >>> observation, _ = view.reset(seed=0)
    >>> [view.step(action)[1:4] for action in (0, 1)]
    [(1.0, False, False), (1.0, False, True)]
    >>> view.take_returns()
    [2.0]
    """

    def __init__(self, environment: Environment, params: Params):
        """Stand in a world.

        Args:
          environment: The family; it shows vectors.
          params: The world of one client, as it came from a variation without the axis of clients.

        Raises:
          ValueError: Observations are no vectors, or the params are stacked.
        """
        name = type(environment).__name__
        if not isinstance(environment, Environment) or not isinstance(environment.observation_space, Box):
            raise ValueError(
                f"{name} shows no vectors step by step, which an agent made elsewhere reads: use an environment with "
                "a Box observation."
            )
        self.observation_space = gymnasium_space(environment.observation_space)
        self.action_space = gymnasium_space(environment.action_space)
        cpu = jax.local_devices(backend="cpu")[0]
        leaves, structure = jax.tree.flatten(jax.tree.map(lambda x: np.asarray(x, np.float32), params))
        forms = tuple((x.shape, x.dtype) for x in leaves)
        try:
            self._reset, self._step = _programs(environment, structure, forms)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name} cannot be stepped with these params: give those of one client, e.g. "
                "jax.tree.map(lambda x: x[i], params)."
            ) from error
        self._params = jax.device_put(as_words([jnp.asarray(x) for x in leaves]), cpu)
        self._size = environment.observation_space.size
        self._num_actions = environment.action_space.n if isinstance(environment.action_space, Discrete) else None
        self._words: Array | None = None
        self._episode_return = 0.0
        self._returns: list[float] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A fresh episode: `(observation, {})`; with a seed always the same, without one the next of its own."""
        super().reset(seed=seed)
        del options
        key = self.np_random.integers(0, 2**32, 2, dtype=np.uint32)
        self._words = self._reset(key, self._params)
        self._episode_return = 0.0
        return np.array(self._words)[-self._size :].view(np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step: `(observation, reward, terminated, truncated, {})`.

        Raises:
          ResetNeeded: The episode is over, or there was none yet.
          ValueError: No such action.
        """
        if self._words is None:
            raise ResetNeeded("HostView stands at the end of an episode, from which no step leads on: call reset.")
        self._words = self._step(self._words, self._params, self._checked(action))
        given = np.array(self._words)[-self._size - 3 :]
        reward = float(given[2:3].view(np.float32)[0])
        terminated, truncated = bool(given[0]), bool(given[1])
        self._episode_return += reward
        if terminated or truncated:
            self._words = None
            self._returns.append(self._episode_return)
        return given[3:].view(np.float32), reward, terminated, truncated, {}

    def take_returns(self) -> list[float]:
        """Undiscounted returns of the episodes that ended since this was last asked for."""
        returns, self._returns = self._returns, []
        return returns

    def _checked(self, action: Any) -> np.ndarray:
        """The action as our environments take it; refuses what is none, as its step could not be undone."""
        if self._num_actions is not None:
            index = int(action)
            if not 0 <= index < self._num_actions:
                raise ValueError(f"action = {index} is none of 0 to {self._num_actions - 1}: give one of these.")
            return np.asarray(index, np.int32)
        values = np.asarray(action, np.float32)
        if values.shape != self.action_space.shape or not np.isfinite(values).all():
            raise ValueError(
                f"action = {action} cannot be taken: give {self.action_space.shape[0]} finite numbers."  # type: ignore[index]
            )
        return values


@functools.lru_cache(maxsize=64)
def _programs(
    environment: Environment, structure: Any, forms: tuple[Form, ...]
) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """`reset(key words [2], params)` and `step(words, params, action)`, compiled once for all clients of a family.

    Words are the state, the key of the episode and its clock, `terminated`, `truncated`, the reward, the observation.
    """
    unpack = lambda words: jax.tree.unflatten(structure, from_words(words, forms))  # noqa: E731
    like = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in forms])
    state_like, seen = jax.eval_shape(environment.reset, jax.random.key(0), like)
    state_leaves, state_structure = jax.tree.flatten(state_like)
    state_forms = tuple((x.shape, np.dtype(x.dtype)) for x in state_leaves)
    if seen.ndim != 1 or any(dtype.kind != "b" and dtype.itemsize != 4 for _, dtype in state_forms):
        raise ValueError("an observation is no vector, or a state holds other than numbers of 32 bits")
    num_state = sum(math.prod(shape) for shape, _ in state_forms)

    def words(state: Any, clock: list[Array], given: list[Array]) -> UInt32[Array, " W"]:
        return as_words([*jax.tree.leaves(state), *clock, *given])

    def reset(key: UInt32[Array, " 2"], params: UInt32[Array, " P"]) -> UInt32[Array, " W"]:
        state, observation = environment.reset(jax.random.wrap_key_data(key, impl="threefry2x32"), unpack(params))
        over, nothing = jnp.zeros(2, bool), jnp.zeros((), jnp.float32)
        return words(state, [key, jnp.zeros((), jnp.uint32)], [over, nothing, observation.astype(jnp.float32)])

    def step(before: UInt32[Array, " W"], params: UInt32[Array, " P"], action: Array) -> UInt32[Array, " W"]:
        state = jax.tree.unflatten(state_structure, from_words(before[:num_state], state_forms))
        key, time = before[num_state : num_state + 2], before[num_state + _CLOCK - 1] + jnp.uint32(1)
        k_step = jax.random.fold_in(jax.random.wrap_key_data(key, impl="threefry2x32"), time)
        state, given = environment.step(k_step, state, action, unpack(params))
        numbers = [given.reward.astype(jnp.float32), given.observation.astype(jnp.float32)]
        return words(state, [key, time], [jnp.stack([given.terminated, given.truncated]), *numbers])

    return jax.jit(reset), jax.jit(step, donate_argnums=0)
