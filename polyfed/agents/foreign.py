"""Agents made elsewhere: what they must be able to do to take part, and how a federation bears with their failures.

Such an agent is a live Python object that lives in a world of its own and changes as it learns. It shares what it would
do on public states, never its parameters, so nothing needs to be known of what it is made of.
"""

from __future__ import annotations

import abc
import math
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Shaped

from polyfed.agents.masking import mask_of
from polyfed.aggregation.door import check_prediction
from polyfed.environments.environment import Environment
from polyfed.environments.spaces import Discrete
from polyfed.environments.world import Params, World
from polyfed.errors import on_a_line
from polyfed.types import Prediction

METHODS = ("act", "predict", "learn", "imitate", "save", "load")


class ForeignAgent(abc.ABC):
    """What an agent made elsewhere does; all arrays are NumPy. An object with these methods need not inherit them.

    >>> class Stubborn(ForeignAgent):  # always takes action 0, and learns nothing
    ...     def act(self, observations, greedy):
    ...         return np.zeros(len(observations), int)
    ...     def predict(self, observations):
    ...         return Probabilities(np.tile([1.0, 0.0], (len(observations), 1)))
    ...     def learn(self, num_steps):
    ...         return {"return": math.nan, "episodes": 0, "steps": num_steps}
    ...     def imitate(self, observations, target, num_steps, weight):
    ...         pass
    >>> from polyfed.types import Probabilities
    >>> Stubborn().predict(np.zeros((3, 4))).probabilities.shape
    (3, 2)
    """

    @abc.abstractmethod
    def act(self, observations: Float[np.ndarray, "N D"], greedy: bool) -> Shaped[np.ndarray, "N ..."]:
        """Actions: integers `[N]`, or numbers `[N, size]` in the units of the environment.

        Args:
          observations: float32.
          greedy: Whether to do what is best rather than to explore; policies are judged so.
        """

    @abc.abstractmethod
    def predict(self, observations: Float[np.ndarray, "M D"]) -> Prediction:
        """What it would do on public states, leaves `[M, A]` or `[M, size]`; it must not change by being asked.

        `Gaussians` are in the units of the environment, not clipped to its bounds.
        """

    @abc.abstractmethod
    def learn(self, num_steps: int) -> Mapping[str, float]:
        """Live and learn for so many steps in its own world; a running episode goes on in the next call.

        Returns:
          Named numbers, among them `return` (mean over the episodes that ended, NaN if none did), `episodes` (how many
          those are) and `steps` (how many were really lived).
        """

    @abc.abstractmethod
    def imitate(
        self, observations: Float[np.ndarray, "M D"], target: Prediction, num_steps: int, weight: float
    ) -> None:
        """Move towards the consensus: down the gradient of `weight * KL(target, own)`, mean over states.

        Args:
          observations: Public states.
          target: What the federation would do there; of the kind that `predict` gives.
          num_steps: Gradient steps, or passes over the states where there are no gradients.
          weight: What the divergence counts.
        """

    def save(self) -> dict[str, np.ndarray]:
        """Its weights as named arrays of numbers, so that a run can be resumed; no pickle."""
        raise NotImplementedError(f"{type(self).__name__} does not save its weights.")

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take weights that `save` gave."""
        raise NotImplementedError(f"{type(self).__name__} does not load weights.")


class Foreign(eqx.Module):
    """How an agent made elsewhere is made: what stands in an experiment, and in its record. All fields are static.

    >>> issubclass(Made, Foreign)
    True
    """

    @property
    def rollout_length(self) -> int:
        """Steps between two of its updates: local steps that are no multiple of it are rounded up."""
        return 1

    @property
    def episodic(self) -> bool:
        """Its steps are steps."""
        return False

    @property
    def heeds_masks(self) -> bool:
        """Packages made elsewhere ask for no mask."""
        return False

    def plain(self) -> Foreign:
        """The same: what is federated about it is not in it."""
        return self

    def alone(self) -> Foreign:
        """The same: what is federated about it is not in it."""
        return self

    @abc.abstractmethod
    def check(self, environment: World) -> None:
        """Raise in one sentence if a field is out of range, the environment does not fit, or a package is missing."""

    @abc.abstractmethod
    def make(self, environment: Environment, params: Params, seed: int) -> Any:
        """A live agent, see `ForeignAgent`.

        Args:
          environment: The family.
          params: The world of this one client, scalars.
          seed: Of everything that is drawn for it.
        """


class Made(Foreign):
    """An agent made by a function of one's own. Code cannot be recorded, so this is for runs from Python.

    >>> made = Made(lambda environment, params, seed: object())
    >>> from polyfed.environments import CartPole
    >>> made.make(CartPole(), CartPole().nominal(), seed=0)
    Traceback (most recent call last):
    ValueError: object has no act, predict, learn, imitate, save, load, so it cannot take part: give it these methods, \
see polyfed.agents.foreign.ForeignAgent.
    """

    factory: Callable[[Environment, Params, int], Any] = eqx.field(static=True)  # (environment, params, seed) -> agent

    @property
    def heeds_masks(self) -> bool:
        """That is up to the function, which is given the environment; an action that is not allowed is refused."""
        return True

    def check(self, environment: World) -> None:
        """Raise `ValueError` if this is no function, or the world is not lived in step by step."""
        if not callable(self.factory):
            raise ValueError(
                f"Made got {self.factory!r}, which makes no agents: give a function of environment, params and seed."
            )
        if not isinstance(environment, Environment):
            raise ValueError(
                f"Agents made elsewhere act step by step, but {type(environment).__name__} shows right answers and "
                "takes no actions: use a Classifier."
            )

    def make(self, environment: Environment, params: Params, seed: int) -> Any:
        """What the function gives; raises `ValueError` if that cannot take part."""
        return checked_agent(self.factory(environment, params, seed))


def checked_agent(agent: Any) -> Any:
    """The same agent; raises `ValueError` unless it has all the methods of a `ForeignAgent`."""
    if missing := [name for name in METHODS if not callable(getattr(agent, name, None))]:
        raise ValueError(
            f"{type(agent).__name__} has no {', '.join(missing)}, so it cannot take part: give it these methods, see "
            "polyfed.agents.foreign.ForeignAgent."
        )
    return agent


def guarded(agent: Any, method: str, environment: World, *arguments: Any) -> tuple[Any, str | None]:
    """Ask an agent something, and bear with its failure: such a client is absent in a round, the others go on.

    Args:
      agent: Of a client.
      method: Of `METHODS`.
      environment: Says which actions there are.
      arguments: Of the method, which gets copies, in NumPy: it may write into them.

    Returns:
      `(answer, None)`, arrays in NumPy; or `(None, reason)`, a sentence, if the method raised an exception, or if its
      answer cannot be right: another shape, numbers that are not finite, no probabilities, no action of this world.
      Being interrupted passes through. Nothing helps against an agent that never answers.

    >>> from polyfed.environments import CartPole
    >>> class Broken:
    ...     def act(self, observations, greedy):
    ...         return observations[:, 7]
    >>> guarded(Broken(), "act", CartPole(), np.zeros((3, 4)), True)[1]  # doctest: +ELLIPSIS
    'Broken.act raised IndexError: index 7 is out of bounds for axis 1 with size 4 (..., line 3).'
    """
    who = f"{type(agent).__name__}.{method}"
    try:
        answer = getattr(agent, method)(*(_own(argument) for argument in arguments))
    except Exception as error:
        return None, f"{who} raised {type(error).__name__}: {on_a_line(error)} ({_place(error)})."
    try:
        return _CHECKS[method](answer, environment, arguments), None
    except Exception as error:
        return None, f"What {who} gave is refused: {on_a_line(error).rstrip('.')}."


def _own(argument: Any) -> Any:
    """The same, with every array copied."""
    return jax.tree.map(lambda x: np.array(x) if isinstance(x, (np.ndarray, jax.Array)) else x, argument)


def _place(error: Exception) -> str:
    """Where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def _actions(answer: Any, environment: World, arguments: tuple[Any, ...]) -> np.ndarray:
    """Actions of this world, int32 `[N]` or float32 `[N, size]`."""
    given, space, count = np.asarray(answer), environment.action_space, len(arguments[0])
    shape = (count,) if isinstance(space, Discrete) else (count, space.size)
    if given.shape != shape:
        raise ValueError(f"actions of shape {given.shape} for {count} observations: give {shape}.")
    if given.dtype.kind not in "biuf" or not np.isfinite(given).all():
        raise ValueError("actions that are no finite numbers.")
    if not isinstance(space, Discrete):
        return given.astype(np.float32)
    if np.any((given < 0) | (given >= space.n) | (given != np.round(given))):
        raise ValueError(f"an action that is none of 0 to {space.n - 1}.")
    actions, mask = given.astype(np.int32), mask_of(environment)
    if mask is not None and not np.asarray(mask(arguments[0]))[np.arange(count), actions].all():
        raise ValueError("an action that the world does not allow there.")
    return actions


def _prediction(answer: Any, environment: World, arguments: tuple[Any, ...]) -> Prediction:
    """A prediction for every state that was asked about, float32."""
    space = environment.action_space
    in_numpy = jax.tree.map(lambda x: np.array(x, np.float32), answer)
    check_prediction(in_numpy, len(arguments[0]), space.n if isinstance(space, Discrete) else space.size)
    return in_numpy


def _named(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, Mapping):
        raise ValueError(f"a {type(answer).__name__} rather than a dictionary of names and numbers.")
    return {str(name): value for name, value in answer.items()}


def _metrics(answer: Any, environment: World, arguments: tuple[Any, ...]) -> dict[str, float]:
    """Named numbers, those among them that every learner gives."""
    del environment, arguments
    numbers = {name: float(value) for name, value in _named(answer).items()}
    if missing := [name for name in ("return", "episodes", "steps") if name not in numbers]:
        raise ValueError(f"metrics without {', '.join(missing)}.")
    if not all(math.isfinite(numbers[name]) and numbers[name] >= 0 for name in ("episodes", "steps")):
        raise ValueError("numbers of episodes and steps that count nothing.")
    return numbers


def _arrays(answer: Any, environment: World, arguments: tuple[Any, ...]) -> dict[str, np.ndarray]:
    """Named arrays that can be written without pickle."""
    del environment, arguments
    arrays = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in _named(answer).items()}
    if wrong := [name for name, value in arrays.items() if value.dtype.kind not in "biuf"]:
        raise ValueError(f"{wrong[0]} holds no numbers, and nothing else is saved.")
    return arrays


def _nothing(answer: Any, environment: World, arguments: tuple[Any, ...]) -> None:
    del answer, environment, arguments


_CHECKS: dict[str, Callable[[Any, World, tuple[Any, ...]], Any]] = {
    "act": _actions,
    "predict": _prediction,
    "learn": _metrics,
    "imitate": _nothing,
    "save": _arrays,
    "load": _nothing,
}
