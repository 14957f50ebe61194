"""The interface of an environment: a family of Markov decision processes whose physics is data.

Physics lives in `params`, a pytree of float leaves that may be stacked `[C]`, one row per client. A family is pure:
state and key in, new state out, so one compiled program steps all clients, each in its own world.
"""

from __future__ import annotations

import abc
import math
from typing import Any, ClassVar, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from polyfed.checks import whole_in_range
from polyfed.environments.episodes import (
    Worlds,
    evaluate_policy,
    fresh_episodes,
    fresh_worlds,
    play_episode,
    rollout,
)
from polyfed.environments.trace import trace_episode
from polyfed.environments.world import Act, Film, Params, World
from polyfed.types import Trajectory

State = TypeVar("State")
Quantity = Float[Array, "*shape"] | float  # one number, or one per client `[C]`


def quantity(default: float, unit: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """A field of `params` with its unit and the closed range that makes physical sense.

    Args:
      default: The nominal value, in `unit`.
      unit: SI unit as text, e.g. `"m"`, `"m/s^2"`, `"1"` for a pure number.
      low: Smallest value allowed.
      high: Largest value allowed.

    >>> class Spring(eqx.Module):
    ...     stiffness: Quantity = quantity(40.0, "N/m", low=0.0)
    >>> Spring(stiffness=20.0)
    Spring(stiffness=20.0)
    """
    return eqx.field(default=default, metadata={"unit": unit, "low": low, "high": high})


class Step(eqx.Module):
    """What one step gives.

    `terminated`: the MDP ended, its value from here on is 0. `truncated`: the clock ran out, the MDP goes on.
    Both can be true of one step; then the MDP ended.

    >>> Step(observation=jnp.zeros(4), reward=jnp.float32(1), terminated=jnp.bool_(False), truncated=jnp.bool_(True))
    Step(observation=f32[4], reward=f32[], terminated=bool[], truncated=bool[])
    """

    observation: Float[Array, "*shape"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class Environment(World, Generic[State]):
    """A family of MDPs.

    A family has a class of parameters (`params_class`, every field made by `quantity`, derived quantities as
    properties), a time limit, and two pure methods. A state is any pytree; the clock that truncates is part of it.
    A step from a state that has ended is undefined: whoever rolls out resets first. The spaces are those of the nominal
    parameters, whatever a client's own are: clients that learn together need one shape and one range of actions.

    >>> from polyfed.environments import CartPole
    >>> environment = CartPole()
    >>> k_reset, k_step = jax.random.split(jax.random.key(0))
    >>> state, observation = environment.reset(k_reset, environment.nominal())
    >>> state, step = environment.step(k_step, state, jnp.int32(1), environment.nominal())
    >>> float(step.reward), bool(step.terminated)
    (1.0, False)
    """

    gymnasium_id: ClassVar[str | None] = None  # the environment of Gymnasium that it agrees with

    @property
    @abc.abstractmethod
    def max_steps(self) -> int:
        """Steps until truncation; most families have a static field of this name."""

    @abc.abstractmethod
    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[State, Float[Array, "*shape"]]:
        """A fresh episode: `(state, observation)`."""

    @abc.abstractmethod
    def step(self, key: PRNGKeyArray, state: State, action: Array, params: Params) -> tuple[State, Step]:
        """One step of the MDP: `(next state, what it gave)`."""

    def nominal(self) -> Params:
        """The published parameters of the family, float32 scalars."""
        return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), self.params_class())

    def check(self) -> None:
        """Raise `ValueError` in one sentence if the time limit is out of range."""
        whole_in_range("environment.max_steps", self.max_steps, 1, 10**9, "steps")

    def start(self, key: PRNGKeyArray, params: Params) -> Worlds:
        """Fresh episodes in every environment."""
        return fresh_worlds(self, key, params)

    def draw(self, key: PRNGKeyArray, params: Params, num_steps: int) -> Any:
        """A reset for every environment and step, used where an episode ends."""
        return fresh_episodes(self, key, params, num_steps)

    def go_on(
        self, keys: PRNGKeyArray, state: Any, action: Array, params: Params, drawn: Any
    ) -> tuple[Step, Any, Float[Array, "E ..."]]:
        """A step in each of `E` environments, and the first state of the next episode where one ends.

        Args:
          keys: `[E]`.
          state: Leaves `[E, ...]`.
          action: `[E, ...]`.
          params: Leaves `[E]`.
          drawn: What `draw` gave for this step.

        Returns:
          `(what the steps gave, states, observations to act on)`.
        """
        state, given = jax.vmap(self.step)(keys, state, action, params)
        over, (fresh_state, fresh_observation) = given.terminated | given.truncated, drawn
        choose = lambda new, old: jnp.where(over.reshape(over.shape + (1,) * (old.ndim - 1)), new, old)  # noqa: E731
        return given, jax.tree.map(choose, fresh_state, state), choose(fresh_observation, given.observation)

    def live(self, act: Act, stay: Worlds, params: Params, inputs: Any) -> tuple[Worlds, tuple[Trajectory, Any]]:
        """Act and step, `T` times."""
        return rollout(self, act, stay, params, inputs)

    def play(self, act: Act, params: Params, key: PRNGKeyArray) -> tuple[Trajectory, Array, Array]:
        """A whole episode in every environment, see `episodes.play_episode`."""
        return play_episode(self, act, params, key)

    def pictures(self, params: Params, states: State) -> list[np.ndarray]:
        """What the states of one world look like; raises `ValueError` where a family cannot be drawn.

        Args:
          params: Scalars.
          states: In order, leaves `[T]`.

        Returns:
          `T` pictures `[height, width, 3]`, uint8, RGB. Gymnasium draws the families that it has.
        """
        if self.gymnasium_id is None:
            name = type(self).__name__
            raise ValueError(f"{name} has no pictures, so it cannot be filmed: `polyfed report` shows the run.")
        from polyfed.environments.gymnasium import render

        return render(self, params, states)

    def film(self, act: Act, params: Params, key: PRNGKeyArray, every: int = 1) -> Film:
        """One greedy episode, as `pictures` shows its states."""
        states, score, steps = trace_episode(self, act, params, key)
        shown = np.array([*range(0, steps, every), steps])
        return Film(self.pictures(params, jax.tree.map(lambda x: x[shown], states)), score, steps)

    def evaluate(self, act: Act, params: Params, key: PRNGKeyArray, num_episodes: int) -> Float[Array, " M"]:
        """Mean undiscounted return of `num_episodes` episodes in each world, see `episodes.evaluate_policy`."""
        return jnp.mean(evaluate_policy(self, act, params, key, num_episodes), axis=-1)
