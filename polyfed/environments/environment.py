"""The interface of a world: a family of Markov decision processes whose physics is data.

Physics lives in `params`, a pytree of float leaves that may be stacked `[C]`, one row per client. A family is pure:
state and key in, new state out, so one compiled program steps all clients, each in its own world.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, ClassVar, Generic, TypeVar

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from polyfed.environments.spaces import Space

Params = Any
State = TypeVar("State")


def quantity(default: float, unit: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """A field of `params` with its unit and the closed range that makes physical sense.

    Args:
      default: The nominal value, in `unit`.
      unit: SI unit as text, e.g. `"m"`, `"m/s^2"`, `"1"` for a pure number.
      low: Smallest value allowed.
      high: Largest value allowed.
    """
    return eqx.field(default=default, metadata={"unit": unit, "low": low, "high": high})


class Step(eqx.Module):
    """What one step gives.

    `terminated`: the MDP ended, its value from here on is 0. `truncated`: the clock ran out, the MDP goes on.
    """

    observation: Float[Array, "..."]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class Environment(eqx.Module, Generic[State]):
    """A family of MDPs.

    A family has a class of parameters (`params_class`, every field made by `quantity`, derived quantities as
    properties), a time limit, and two pure methods. A state is any pytree; the clock that truncates is part of it.
    A step from a state that has ended is undefined: whoever rolls out resets first.
    """

    params_class: ClassVar[type]
    gymnasium_id: ClassVar[str | None] = None  # the environment of Gymnasium that it agrees with

    max_steps: eqx.AbstractVar[int]  # steps until truncation

    @property
    @abc.abstractmethod
    def observation_space(self) -> Space:
        """Shape and bounds of an observation."""

    @property
    @abc.abstractmethod
    def action_space(self) -> Space:
        """Which actions `step` takes: an integer for `Discrete`, a vector `[size]` for `Box`."""

    @abc.abstractmethod
    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[State, Float[Array, "..."]]:
        """A fresh episode: `(state, observation)`."""

    @abc.abstractmethod
    def step(self, key: PRNGKeyArray, state: State, action: Array, params: Params) -> tuple[State, Step]:
        """One step of the MDP: `(next state, what it gave)`."""

    def nominal(self) -> Params:
        """The published parameters of the family."""
        return self.params_class()


def quantities(params_class: type) -> dict[str, dict[str, Any]]:
    """Unit, range and nominal value of every physical quantity of a class of parameters.

    Returns:
      `{name: {"unit": str, "low": float, "high": float, "default": float}}` in the order of the fields.
    """
    return {
        field.name: {**{k: field.metadata[k] for k in ("unit", "low", "high")}, "default": field.default}
        for field in dataclasses.fields(params_class)
    }
