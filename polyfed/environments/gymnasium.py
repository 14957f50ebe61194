"""The door to Gymnasium: its own environment with the physics of a client, as a reference and as a camera."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.error import DependencyNotInstalled
from gymnasium.wrappers import TimeLimit

from polyfed.environments.drawing import draw_into_memory, undrawable
from polyfed.environments.environment import Environment, Params
from polyfed.errors import MissingExtraError

_TRACK = {name: name for name in ("min_position", "max_position", "max_speed", "goal_position", "goal_velocity")}

# id -> {Gymnasium's attribute: the quantity or derived quantity of our params}
ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    "CartPole-v1": {
        "gravity": "gravity",
        "masscart": "mass_cart",
        "masspole": "mass_pole",
        "total_mass": "total_mass",
        "length": "half_length",
        "polemass_length": "pole_moment",
        "force_mag": "force",
        "tau": "time_step",
        "theta_threshold_radians": "angle_limit",
        "x_threshold": "position_limit",
    },
    "Acrobot-v1": {
        "LINK_LENGTH_1": "link_length_1",
        "LINK_LENGTH_2": "link_length_2",
        "LINK_MASS_1": "link_mass_1",
        "LINK_MASS_2": "link_mass_2",
        "LINK_COM_POS_1": "link_com_1",
        "LINK_COM_POS_2": "link_com_2",
        "LINK_MOI": "link_moment",
        "MAX_VEL_1": "max_speed_1",
        "MAX_VEL_2": "max_speed_2",
        "AVAIL_TORQUE": "torques",
        "torque_noise_max": "torque_noise",
        "dt": "time_step",
    },
    "MountainCar-v0": {"force": "force", "gravity": "gravity", **_TRACK},
    "MountainCarContinuous-v0": {"power": "power", "min_action": "min_action", "max_action": "max_action", **_TRACK},
    "Pendulum-v1": {
        "g": "gravity",
        "m": "mass",
        "l": "length",
        "max_torque": "max_torque",
        "max_speed": "max_speed",
        "dt": "time_step",
    },
}

# id -> {our quantity: (Gymnasium's method, the number written into it)}
LITERALS: Mapping[str, Mapping[str, tuple[str, float]]] = {
    "CartPole-v1": {"reward": ("step", 1.0)},
    "Acrobot-v1": {"gravity": ("_dsdt", 9.8), "goal_height": ("_terminal", 1.0)},
    "MountainCarContinuous-v0": {"gravity": ("step", 0.0025)},
}


def _around(middle: float, spread: float) -> dict[str, float]:
    return {"low": middle - spread, "high": middle + spread}


# id -> the bounds of a first state as Gymnasium's `reset` takes them
RESETS: Mapping[str, Callable[[Params], dict[str, float]]] = {
    "CartPole-v1": lambda params: _around(0.0, params.reset_bound),
    "Acrobot-v1": lambda params: _around(0.0, params.reset_bound),
    "MountainCar-v0": lambda params: _around(params.reset_position, params.reset_spread),
    "MountainCarContinuous-v0": lambda params: _around(params.reset_position, params.reset_spread),
    "Pendulum-v1": lambda params: {"x_init": params.reset_angle, "y_init": params.reset_speed},
}


class _ResetWith(gymnasium.Wrapper):
    """Resets within the bounds of a client's world."""

    def __init__(self, env: gymnasium.Env, options: dict[str, float]):
        super().__init__(env)
        self.options = options

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=seed, options={**self.options, **(options or {})})


def _with_literal(method: types.MethodType, old: float, new: float) -> types.MethodType:
    """The same method with another number where Gymnasium wrote a literal."""
    function = method.__func__
    constants = function.__code__.co_consts
    if sum(type(c) is float and c == old for c in constants) != 1:
        raise RuntimeError(
            f"Gymnasium {gymnasium.__version__} no longer writes {old} in {function.__qualname__}, so it cannot be "
            "changed there. Use the versions in constraints.txt."
        )
    constants = tuple(new if type(c) is float and c == old else c for c in constants)
    changed = types.FunctionType(function.__code__.replace(co_consts=constants), function.__globals__)
    return types.MethodType(changed, method.__self__)


def reference(environment: Environment, params: Params, render_mode: str | None = None) -> gymnasium.Env:
    """Gymnasium's own environment in a client's world: the same quantities, derived ones, resets and time limit.

    Its spaces stay those of the nominal world, as ours do.

    Args:
      environment: A family with a `gymnasium_id`.
      params: The world of one client, scalars.
      render_mode: As in `gymnasium.make`.

    Raises:
      ValueError: Gymnasium has no such family, or `params` are stacked.

    >>> from polyfed.environments import CartPole
    >>> env = reference(CartPole(max_steps=50), CartPole.params_class(mass_pole=0.5))
    >>> env.unwrapped.total_mass, env.spec.max_episode_steps
    (1.5, 50)
    """
    name = environment.gymnasium_id
    if name is None or name not in ATTRIBUTES:
        raise ValueError(
            f"{type(environment).__name__} has no counterpart in Gymnasium that polyfed knows. "
            f"Use one of {', '.join(ATTRIBUTES)}."
        )
    if any(np.ndim(leaf) for leaf in jax.tree.leaves(params)):
        raise ValueError(
            "reference takes the world of one client, but these params are stacked. "
            "Take client i with jax.tree.map(lambda x: x[i], params)."
        )
    env = gymnasium.make(
        name, max_episode_steps=environment.max_steps, render_mode=render_mode, disable_env_checker=True
    )
    inner: Any = env.unwrapped
    params = jax.tree.map(float, params)  # so that derived quantities are Gymnasium's, in double precision
    for theirs, ours in ATTRIBUTES[name].items():
        setattr(inner, theirs, getattr(params, ours))
    for ours, (method, literal) in LITERALS.get(name, {}).items():
        setattr(inner, method, _with_literal(getattr(inner, method), literal, getattr(params, ours)))
    return _ResetWith(env, RESETS[name](params))


def _time_limit(env: gymnasium.Env) -> Any:
    while not isinstance(env, TimeLimit):
        env = env.env  # type: ignore[attr-defined]
    return env


def set_state(env: gymnasium.Env, state: Any) -> None:
    """Put an environment made by `reference` into our state, clock included.

    >>> from polyfed.environments import MountainCar, MountainCarState
    >>> env = reference(MountainCar(), MountainCar().nominal())
    >>> set_state(env, MountainCarState(np.float32(0.45), np.float32(0.06), time=np.int32(7)))
    >>> _, reward, terminated, truncated, _ = env.step(2)
    >>> reward, terminated, truncated
    (-1.0, True, False)
    """
    env.reset()
    inner: Any = env.unwrapped
    inner.state = np.array([getattr(state, name) for name in _motion(state)], np.float64)
    _time_limit(env)._elapsed_steps = int(state.time)


def get_state(environment: Environment, env: gymnasium.Env) -> Any:
    """Our state of an environment made by `reference` and reset, float32.

    >>> from polyfed.environments import MountainCar
    >>> env = reference(MountainCar(), MountainCar().nominal())
    >>> _ = env.reset(seed=0), env.step(2)
    >>> int(get_state(MountainCar(), env).time)
    1
    """
    like, _ = jax.eval_shape(environment.reset, jax.random.key(0), environment.nominal())
    inner: Any = env.unwrapped
    motion = dict(zip(_motion(like), np.asarray(inner.state, np.float32), strict=True))
    return type(like)(**motion, time=np.int32(_time_limit(env)._elapsed_steps))


def _motion(state: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(state) if field.name != "time"]


def render(environment: Environment, params: Params, states: Any) -> list[np.ndarray]:
    """Film of an episode by Gymnasium's own renderer; needs no display.

    Args:
      environment: A family with a `gymnasium_id`.
      params: The world of one client, scalars.
      states: States in order, leaves `[T]`.

    Returns:
      `T` pictures `[height, width, 3]`, uint8, RGB.

    Raises:
      MissingExtraError: pygame is not installed.
      ValueError: Nothing draws here.

    >>> from polyfed.environments import CartPole, CartPoleState
    >>> states = CartPoleState(*np.zeros((4, 2), np.float32), time=np.arange(2))
    >>> [frame.shape for frame in render(CartPole(), CartPole().nominal(), states)]
    [(400, 600, 3), (400, 600, 3)]
    """
    draw_into_memory()
    env = reference(environment, params, render_mode="rgb_array")
    states = jax.tree.map(np.asarray, states)
    frames = []
    try:
        for t in range(len(states.time)):
            set_state(env, jax.tree.map(lambda x, t=t: x[t], states))
            frames.append(np.asarray(env.render(), np.uint8))
    except DependencyNotInstalled as error:
        raise MissingExtraError(
            'Pictures of an episode are drawn by pygame, which is not installed. Run: pip install "polyfed[play]"'
        ) from error
    except Exception as error:  # as pygame's own, where SDL_VIDEODRIVER names what is not there
        raise undrawable(type(environment).__name__, error) from error
    finally:
        env.close()
    return frames
