"""The interface of a world: where a client lives, what it gives to learn from, and how a policy is judged there."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from polyfed.environments.spaces import Box, Space
from polyfed.types import Trajectory

Params = Any
Act = Callable[..., Array]


class Film(NamedTuple):
    """An episode to be looked at.

    >>> Film(frames=[np.zeros((400, 600, 3), np.uint8)] * 2, score=1.0, steps=1).steps
    1
    """

    frames: list[np.ndarray]  # pictures `[height, width, 3]`, uint8, RGB; the first shows the start, the last the end
    score: float  # return of the episode
    steps: int


class World(eqx.Module):
    """A family of worlds whose `params` differ between clients: an `Environment`, or a `Dataset`.

    A local update lives through a world: `start` once, `draw` once per round, then `live` for every rollout that the
    learner learns from.
    """

    params_class: ClassVar[type]
    measure: ClassVar[str] = "return"  # what `evaluate` measures, in a word
    floor: ClassVar[str] = ""  # the baseline that is 0 per cent of the optimum; empty where no optimum is known

    @property
    @abc.abstractmethod
    def observation_space(self) -> Space:
        """Shape and bounds of an observation."""

    @property
    @abc.abstractmethod
    def action_space(self) -> Space:
        """What a policy gives: an integer for `Discrete`, a vector `[size]` for `Box`."""

    def allowed(self, observation: Float[Array, "*batch D"]) -> Bool[Array, "*batch A"] | None:
        """Which of `A` choices may be taken where this is seen, over any leading axes; None: always all of them.

        A function of what is seen and of nothing else, so that learners know it of every state that they remember.
        """
        del observation
        return None

    def quantities(self) -> dict[str, dict[str, Any]]:
        """Unit, range and nominal value of what may differ between clients, see `quantities`."""
        return quantities(self.params_class)

    def made(self, values: Mapping[str, Array], shape: tuple[int, ...] = ()) -> Params:
        """The params that hold these values, one for each quantity, each of this shape: `()`, or `[C]`."""
        del shape
        return self.params_class(**values)

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range."""

    def check_worlds(self, worlds: Mapping[str, np.ndarray]) -> None:
        """Raise `ValueError` in one sentence if one of these cannot be lived in, though every quantity is in its range.

        Args:
          worlds: By quantity, those of some worlds, `[C]`; the others are nominal.
        """

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

    def attendance(self, params: Params, lived: Any) -> Float[Array, ""] | None:
        """What a client counts after a round, times its weight: 0 where its world failed; None: worlds never do.

        Args:
          params: The client's, leaves `[E, ...]`.
          lived: What the round gave, which is looked at first.
        """
        del params, lived
        return None

    def told(self, params: Params) -> tuple[str, ...]:
        """Sentences on the clients whose worlds failed so far; `params` leaves are `[S, C, E, ...]`."""
        del params
        return ()

    def optimum(self, params: Params, key: PRNGKeyArray) -> float:
        """The highest return that any policy can have in the episode that starts from `reset(key, params)`.

        Known only where there is a `floor`. Leaves of `params` are scalars.
        """
        del params, key
        raise ValueError(self._no_optimum)

    def baselines(self, params: Params, key: PRNGKeyArray) -> dict[str, float]:
        """Returns of known rules in that episode by name, `floor` among them; known only where there is a `floor`."""
        del params, key
        raise ValueError(self._no_optimum)

    @property
    def _no_optimum(self) -> str:
        return (
            f"{type(self).__name__} knows no optimum of its episodes, so nothing can be given in per cent of it: use a "
            "family that has a `floor`, such as EdgeCache or Battery."
        )

    def film(self, act: Act, params: Params, key: PRNGKeyArray, every: int = 1) -> Film:
        """One greedy episode in one world; a world that can be drawn has its own.

        Args:
          act: Actions `[N, ...]` for observations `[N, ...]`.
          params: Of one world, scalars.
          key: The episode's own.
          every: Steps from one picture to the next.

        Raises:
          ValueError: The world cannot be drawn.
          MissingExtraError: What draws it is not installed.
        """
        del act, params, key, every
        raise ValueError(
            f"{type(self).__name__} has no pictures, so it cannot be filmed: `polyfed report` shows the run."
        )

    @property
    def observation_size(self) -> int:
        """Numbers in one observation."""
        return self.observation_space.size if isinstance(self.observation_space, Box) else 1

    @property
    def step_bytes(self) -> int:
        """What a step takes on the wire if experience is sent: two observations, action, reward, two flags."""
        return 4 * (2 * self.observation_size + 2) + 2

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


def quantities(params_class: type) -> dict[str, dict[str, Any]]:
    """Unit, range and nominal value of every physical quantity of a class of parameters.

    Returns:
      `{name: {"unit": str, "low": float, "high": float, "default": float}}` in the order of the fields.

    >>> from polyfed.environments import CartPole
    >>> quantities(CartPole.params_class)["force"]
    {'unit': 'N', 'low': 0.0, 'high': 1000.0, 'default': 10.0}
    """
    return {
        field.name: {**{k: field.metadata[k] for k in ("unit", "low", "high")}, "default": field.default}
        for field in dataclasses.fields(params_class)
        if "unit" in field.metadata
    }
