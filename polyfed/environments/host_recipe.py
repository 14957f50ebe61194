"""How an environment of Gymnasium is made for a client: id, arguments, wrappers, quantities, time limit.

References: towers2024gymnasium.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import wrappers as gymnasium_wrappers
from gymnasium.error import DependencyNotInstalled
from numpy.typing import ArrayLike

from polyfed.environments.attributes import write
from polyfed.environments.environment import Environment
from polyfed.environments.gymnasium import reference
from polyfed.environments.host_masks import ShowMask
from polyfed.environments.host_spaces import Actions, Observations, actions, check_mask, observations
from polyfed.environments.host_worlds import attribute, make, make_world
from polyfed.environments.physics import PHYSICS
from polyfed.errors import MissingExtraError, on_a_line


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an environment is made; what of it may differ between clients is given with every row.

    >>> Recipe("LunarLander-v3", ("continuous=True",)).keywords
    {'continuous': True}
    """

    id: str
    arguments: tuple[str, ...] = ()  # of its constructor, as name=value
    wrappers: tuple[str, ...] = ()  # of gymnasium.wrappers, innermost first, as Name or Name(argument=value)
    varied: tuple[str, ...] = ()  # quantities by name or path, in the order in which rows have them
    time_limit: int = 0  # steps; 0: as registered
    modules: bool = False  # whether the id may import code
    masks: bool = False  # whether a mask of actions that it keeps beside its observations is shown among them

    @classmethod
    def read(cls, data: dict[str, Any]) -> Recipe:
        """From `dataclasses.asdict`, as it comes through JSON."""
        fields: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in data.items()}
        return cls(**fields)

    @property
    def keywords(self) -> dict[str, Any]:
        """`arguments`, read."""
        return dict(_read_argument(text) for text in self.arguments)


def _read_argument(text: str) -> tuple[str, Any]:
    """A literal of Python where it is one, else a text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"'{text}' is no argument of an environment: give name=value, such as is_slippery=False.")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _wrapped(env: gymnasium.Env, text: str) -> gymnasium.Env:
    """In a wrapper of Gymnasium; raises `ValueError` where there is none of the name, or it refuses its arguments."""
    try:
        call = ast.parse(text, mode="eval").body
        call = call if isinstance(call, ast.Call) else ast.Call(func=call, args=[], keywords=[])
        name = call.func.id  # type: ignore[attr-defined]
        given = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        if call.args:
            raise ValueError("arguments have names")
    except (SyntaxError, ValueError, AttributeError) as error:
        raise ValueError(f"'{text}' is no wrapper: give Name or Name(argument=value), with plain values.") from error
    made = getattr(gymnasium_wrappers, name, None)
    if made is None:
        close = difflib.get_close_matches(name, gymnasium_wrappers.__all__, n=1)
        remedy = f"did you mean '{close[0]}'?" if close else "give one that is there."
        raise ValueError(f"Gymnasium has no wrapper '{name}': {remedy}")
    try:
        return made(env, **given)
    except DependencyNotInstalled as error:
        raise MissingExtraError(f"{text} needs what is not installed: {on_a_line(error)}.") from error
    except (TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"{text} does not fit around {env}: {on_a_line(error).rstrip('.')}. Change it.") from error


@functools.cache
def family_of(id_: str) -> Environment | None:
    """The family of ours that agrees with an environment of Gymnasium, whose quantities are then its own."""
    from polyfed.environments import FAMILIES

    return next((f for f in FAMILIES if f.gymnasium_id == id_), None)


def known_quantities(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Unit, range and nominal value of every quantity of an environment that may vary, see `world.quantities`.

    >>> known_quantities(Recipe("LunarLander-v3"))["gravity"]["unit"]
    'm/s^2'
    """
    family = family_of(recipe.id)
    known = dict(family.quantities()) if family is not None else {}
    for name, a in PHYSICS.get(recipe.id, {}).items():
        known[name] = {"unit": a.unit, "low": a.low, "high": a.high, "default": a.default}
    free = [name for name in recipe.varied if name not in known]
    if free:
        env = make(recipe.id, modules=recipe.modules, disable_env_checker=True, **recipe.keywords)
        for name in free:
            a = attribute(recipe.id, name, env)
            known[name] = {"unit": a.unit, "low": a.low, "high": a.high, "default": a.default}
        env.close()
    return known


def make_live(recipe: Recipe, values: Mapping[str, float], render_mode: str | None = None) -> gymnasium.Env:
    """The environment in which one client lives.

    Args:
      recipe: How it is made.
      values: Quantities by name or path; those that are nominal leave it untouched.
      render_mode: As in `gymnasium.make`.

    Raises:
      ValueError: It cannot be made so.
      MissingExtraError: What it is simulated by is not installed.

    >>> make_live(Recipe("CartPole-v1", time_limit=7), {"mass_pole": 0.5}).unwrapped.total_mass
    1.5
    """
    keywords = recipe.keywords
    if render_mode is not None:
        keywords["render_mode"] = render_mode
    if recipe.time_limit:
        keywords["max_episode_steps"] = recipe.time_limit
    family: Any = family_of(recipe.id)
    if family is not None and not recipe.arguments:
        known = family.quantities()
        family = dataclasses.replace(family, max_steps=recipe.time_limit or family.max_steps)
        own = {name: value for name, value in values.items() if name in known}
        env = reference(family, family.params_class(**own), render_mode)
        for name in values.keys() - known.keys():
            write(env.unwrapped, name, values[name])
    else:
        env = make_world(recipe.id, values, modules=recipe.modules, disable_env_checker=True, **keywords)
    for text in recipe.wrappers:
        env = _wrapped(env, text)
    return ShowMask(env) if recipe.masks else env


def differing_values(recipe: Recipe, values: ArrayLike) -> dict[str, float]:
    """By name, those of a client's quantities `[Q]` that are not nominal.

    >>> differing_values(Recipe("CartPole-v1", varied=("gravity", "mass_pole")), np.array([9.8, 0.3], np.float32))
    {'mass_pole': 0.3}
    """
    known, numbers = facts(recipe).quantities, np.asarray(values, np.float32)
    return {
        name: float(str(x))  # the shortest decimal, as it was written in the experiment
        for name, x in zip(recipe.varied, numbers, strict=True)
        if x != np.float32(known[name]["default"])
    }


class Facts:
    """What is known of an environment before it is lived in: spaces, time limit, quantities, whether it draws."""

    def __init__(self, recipe: Recipe):
        self.quantities = known_quantities(recipe)
        env = make_live(recipe, {})
        try:
            self.seen: Observations = observations(env.observation_space)
            self.taken: Actions = actions(env.action_space)
            check_mask(self.seen.mask, self.taken.space)
            self.spaces = env.observation_space, env.action_space
            self.draws = "rgb_array" in env.metadata.get("render_modes", ())
            if recipe.masks:
                env.reset(seed=0)  # so that it is known now whether there are masks
            limit = recipe.time_limit or (env.spec.max_episode_steps if env.spec else None)
        finally:
            env.close()
        if not limit:
            raise ValueError(
                f"{recipe.id} has no time limit, so an episode need not end: give environment.time_limit, in steps."
            )
        self.max_steps = int(limit)


@functools.lru_cache(maxsize=64)
def facts(recipe: Recipe) -> Facts:
    """As `Facts`.

    >>> facts(Recipe("CartPole-v1")).max_steps
    500
    """
    return Facts(recipe)


def make_alike(recipe: Recipe, values: ArrayLike) -> gymnasium.Env:
    """The environment of a client whose quantities are these, `[Q]`.

    Raises:
      ValueError: It cannot be made so, or shows or takes something else than the nominal one.
      MissingExtraError: What it is simulated by is not installed.

    >>> make_alike(Recipe("CartPole-v1", varied=("mass_pole",)), [0.3]).unwrapped.masspole
    0.3
    """
    changed = differing_values(recipe, values)
    env = make_live(recipe, changed)
    if (env.observation_space, env.action_space) != facts(recipe).spaces:
        spaces = env.observation_space, env.action_space
        env.close()
        raise ValueError(
            f"with {changed} {recipe.id} shows {spaces[0]} and takes {spaces[1]}, but under every rule the clients of "
            "a fleet need the spaces of the nominal one: wrap it so that it shows and takes as much as the largest, "
            "with a mask of what is there, as polyfed/Junction-v0 does, and keep what means something else at every "
            "client at home, by the recipes fedper or local_only"
        )
    return env


@functools.lru_cache(maxsize=4096)
def check_made(recipe: Recipe, values: tuple[float, ...]) -> None:
    """Raise as `make_alike`, unless such a world can be made; looked at once.

    >>> check_made(Recipe("CartPole-v1", varied=("mass_pole",)), (0.3,))
    """
    make_alike(recipe, values).close()
