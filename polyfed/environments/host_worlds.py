"""Environments of Gymnasium with named quantities changed: what stands on a host as the world of one client.

References: towers2024gymnasium.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled, Error

from polyfed.environments import packs
from polyfed.environments.attributes import read, write
from polyfed.environments.physics import PHYSICS, Attribute, free
from polyfed.errors import MissingExtraError, on_a_line

_ARGUMENT = "kwargs."
_EXTRAS = {"Box2D": "box2d", "MuJoCo": "mujoco", "mujoco": "mujoco", "pygame": "play"}

packs.register()


def make(id_: str, *, modules: bool = False, **kwargs: Any) -> gymnasium.Env:
    """`gymnasium.make`, with its failures in a sentence.

    Args:
      id_: As registered. `module:Env-v0` imports a module first, which runs its code.
      modules: Whether ids may import code.
      kwargs: Of `gymnasium.make`.

    Raises:
      ValueError: There is no such id, it would import code, or the environment refuses its arguments.
      MissingExtraError: What it is simulated by is not installed.

    >>> make("CartPole-v2")
    Traceback (most recent call last):
    ValueError: Gymnasium has no environment 'CartPole-v2' here: did you mean 'CartPole-v1'?
    """
    if ":" in id_ and not modules:
        raise ValueError(
            f"'{id_}' would import {id_.partition(':')[0]}, and so run its code: allow that (--modules of "
            "`env check`, environment.modules of a world) if you trust it, or give an id that is registered."
        )
    try:
        return gymnasium.make(id_, **kwargs)
    except DependencyNotInstalled as error:
        extra = next((extra for word, extra in _EXTRAS.items() if word in str(error)), None)
        remedy = f'pip install "polyfed[{extra}]"' if extra else "install what it asks for"
        raise MissingExtraError(f"{id_} is simulated by a package that is not installed: {remedy}.") from error
    except ModuleNotFoundError as error:
        package = (error.name or id_.partition(":")[0]).partition(".")[0]
        extra = packs.EXTRAS.get(package)
        remedy = f'pip install "polyfed[{extra}]"' if extra else "install it"
        raise MissingExtraError(f"{id_} needs the package {package}, which is not installed: {remedy}.") from error
    except Error as error:
        if ":" not in id_ and id_ not in gymnasium.registry:
            raise ValueError(f"Gymnasium has no environment '{id_}' here: {_remedy(id_)}") from error
        raise ValueError(f"{id_} cannot be made: {on_a_line(error).rstrip('.')}. Change its arguments.") from error
    except (ImportError, AttributeError, RuntimeError, OSError) as error:  # as where MUJOCO_GL names no library
        raise ValueError(
            f"{id_} cannot be made here, {type(error).__name__}: {on_a_line(error).rstrip('.')}. Mend what it is "
            "simulated or drawn with."
        ) from error
    except (TypeError, AssertionError, ValueError) as error:
        raise ValueError(f"{id_} refuses its arguments: {on_a_line(error).rstrip('.')}. Change them.") from error


def _remedy(id_: str) -> str:
    """Where an id that is not registered may be found."""
    module = next((module for start, module in packs.MODULES.items() if id_.startswith(start)), None)
    if module is not None:
        return (
            f'it is of {module} (pip install "polyfed[{packs.EXTRAS[module]}]"); give {module}:{id_}, and allow the '
            "import (--modules of `env check`, environment.modules of a world)."
        )
    close = difflib.get_close_matches(id_, gymnasium.registry, n=1)
    return f"did you mean '{close[0]}'?" if close else "gymnasium.pprint_registry() shows those it has."


def attribute(id_: str, name: str, env: gymnasium.Env) -> Attribute:
    """A quantity by its name, or by its path in an environment that nobody has described.

    Raises:
      ValueError: There is neither such a name nor such an attribute.

    >>> attribute("CartPole-v1", "length", make("CartPole-v1")).default
    0.5
    """
    known = PHYSICS.get(id_, {})
    if name in known:
        return known[name]
    if name.startswith(_ARGUMENT):
        return free(math.nan, name)  # its value is known to the constructor alone
    try:
        value = read(env.unwrapped, name)
    except ValueError as error:
        names = f"Named quantities of {id_} are {', '.join(known)}." if known else f"{id_} has no named quantities."
        raise ValueError(f"{error} {names}") from error
    return free(float(np.ravel(value)[0]), name)


def make_world(id_: str, values: Mapping[str, float], *, modules: bool = False, **kwargs: Any) -> gymnasium.Env:
    """An environment in which quantities are changed, and looked at after changing.

    Args:
      id_: As in `make`.
      values: By name, see `PHYSICS`, or by path, see `attributes.read`. A quantity that has its nominal value is left
        alone, so the nominal world is Gymnasium's to the last bit.
      modules: As in `make`.
      kwargs: Of `gymnasium.make`.

    Raises:
      ValueError: A quantity does not exist, cannot be set, or is out of its range.

    >>> env = make_world("CartPole-v1", {"length": 1.0})
    >>> env.unwrapped.length
    1.0
    """
    env = make(id_, modules=modules, **kwargs)
    try:
        changed = _changed(id_, values, env)
        if arguments := _arguments(id_, values, changed, kwargs):
            env.close()
            env = make(id_, modules=modules, **{**kwargs, **arguments})
        target = env.unwrapped
        for name, a in changed.items():
            for path in a.where:
                if not path.startswith(_ARGUMENT):
                    write(target, path, read(target, path) * values[name] if a.relative else values[name] * a.factor)
    except ValueError:
        env.close()
        raise
    return env


def _changed(id_: str, values: Mapping[str, float], env: gymnasium.Env) -> dict[str, Attribute]:
    """The quantities that are not as they were registered, their values checked; of those by path, all."""
    found = {name: attribute(id_, name, env) for name in values}
    for name, value in values.items():
        _check_range(id_, name, value, found[name])
    named = PHYSICS.get(id_, {})
    return {name: a for name, a in found.items() if name not in named or values[name] != a.default}


def _arguments(
    id_: str, values: Mapping[str, float], changed: Mapping[str, Attribute], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """What the constructor is told instead of what is set afterwards."""
    given = {
        path.removeprefix(_ARGUMENT): (name, values[name] * a.factor)
        for name, a in changed.items()
        for path in a.where
        if path.startswith(_ARGUMENT)
    }
    for argument, (name, _) in given.items():
        if argument in kwargs:
            raise ValueError(
                f"{id_} got both {name} = {values[name]:g} and the argument {argument} = {kwargs[argument]!r}, which "
                "are the same quantity: give one of them."
            )
    return {argument: _plain(argument, name, x) for argument, (name, x) in given.items()}


def _plain(argument: str, name: str, value: float) -> float | int | bool:
    """As the constructor takes it: whole numbers whose kind nobody has described are integers, or yes and no."""
    if argument.startswith("enable_"):
        return bool(value)
    return int(value) if name.startswith(_ARGUMENT) and value == int(value) else value


def _check_range(id_: str, name: str, value: float, found: Attribute) -> None:
    if not (math.isfinite(value) and found.low <= value <= found.high):
        unit = "" if found.unit == "1" else f" {found.unit}"
        raise ValueError(
            f"{name} = {value:g}{unit} cannot be simulated by {id_}: it must lie in [{found.low:g}, "
            f"{found.high:g}]{unit}."
        )
    if found.whole and value != int(value):
        raise ValueError(f"{name} = {value:g} lies between two worlds of {id_}: give a whole number.")
