"""The interface of a world: where a client lives, what it gives to learn from, and how a policy is judged there."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.environments.spaces import Box, Space
from polyfed.types import Trajectory

Params = Any
Act = Callable[..., Array]


class World(eqx.Module):
    """A family of worlds whose `params` differ between clients: an `Environment`, or a `Dataset`.

    A local update lives through a world: `start` once, `draw` once per round, then `live` for every rollout that the
    learner learns from.
    """

    params_class: ClassVar[type]
    measure: ClassVar[str] = "return"  # what `evaluate` measures, in a word

    @property
    @abc.abstractmethod
    def observation_space(self) -> Space:
        """Shape and bounds of an observation."""

    @property
    @abc.abstractmethod
    def action_space(self) -> Space:
        """What a policy gives: an integer for `Discrete`, a vector `[size]` for `Box`."""

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range."""

    @abc.abstractmethod
    def start(self, key: PRNGKeyArray, params: Params) -> Any:
        """What stands between two local steps, as it is at first: leaves `[E, ...]`, as `params` has them."""

    @abc.abstractmethod
    def draw(self, key: PRNGKeyArray, params: Params, num_steps: int) -> Any:
        """The randomness of a whole round at once, leaves `[num_steps, ...]`; may be empty."""

    @abc.abstractmethod
    def live(self, act: Act, stay: Any, params: Params, inputs: Any) -> tuple[Any, tuple[Trajectory, Any]]:
        """Live through `T` steps.

        Args:
          act: Actions `[E, ...]` for observations `[E, ...]` and a key.
          stay: From `start`, or from the last `live`.
          params: Leaves `[E, ...]`.
          inputs: `(drawn, keys)`: what `draw` gave, leaves `[T, ...]`, and keys `[T, E + 2]`: one per environment, for
            acting, for learning.

        Returns:
          `(stay, (trajectory [T, E], (summed return, number) of the episodes that ended))`.
        """

    def play(self, act: Act, params: Params, key: PRNGKeyArray) -> tuple[Trajectory, Array, Array]:
        """A whole episode in each of `E` environments: `(trajectory [max_steps, E], returns [E], steps [E])`.

        What lies in a trajectory after an episode's end is padding and holds zeros.
        """
        del act, params, key
        raise ValueError(
            f"{type(self).__name__} has no episodes, so nothing can learn from whole ones: use a learner that takes "
            "steps."
        )

    @abc.abstractmethod
    def evaluate(self, act: Act, params: Params, key: PRNGKeyArray, num_episodes: int) -> Float[Array, " M"]:
        """Mean score of a policy in each of `M` worlds, see `measure`.

        Args:
          act: Actions `[N, ...]` for observations `[N, ...]`.
          params: Leaves `[M, ...]`.
          key: The evaluation's own.
          num_episodes: Per world.
        """

    @property
    def step_bytes(self) -> int:
        """What a step takes on the wire if experience is sent: two observations, action, reward, two flags."""
        size = self.observation_space.size if isinstance(self.observation_space, Box) else 1
        return 4 * (2 * size + 2) + 2

    def fingerprint(self) -> str:
        """A digest of what it reads from files, so that a run goes on with the same; empty where it reads none."""
        return ""

    def weights(self, params: Params) -> Float[Array, " C"]:
        """What each client counts in a merge, `params` leaves `[C, ...]`."""
        return jnp.ones(jax.tree.leaves(params)[0].shape[0], jnp.float32)

    def judged(self, params: Params) -> Params:
        """The worlds in which the clients that live in `params` are judged: their own."""
        return params

    def join(self, first: Params, second: Params) -> Params:
        """Worlds `[A, ...]` and `[B, ...]` as `[A + B, ...]`."""
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
