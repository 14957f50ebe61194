"""The contract of `Environment`, held against a family."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.environments.environment import Environment, Params
from polyfed.environments.spaces import Discrete
from polyfed.testing.compare import assert_same, form


def _worlds(environment: Environment, num: int) -> Params:
    """Parameters of `num` worlds, each quantity in its range and within a tenth of its nominal value; `[num]`."""
    random, known = np.random.default_rng(0), environment.quantities()
    values = {n: q["default"] * random.uniform(0.9, 1.1, size=num) for n, q in known.items()}
    return environment.made(
        {n: jnp.asarray(np.clip(v, known[n]["low"], known[n]["high"]), jnp.float32) for n, v in values.items()}, (num,)
    )


def _any_action(environment: Environment, key: Any, observation: Any) -> Any:
    """A random action that is allowed."""
    space, allowed = environment.action_space, environment.allowed(observation)
    if allowed is not None:
        return jax.random.categorical(key, jnp.where(allowed, 0.0, -1e9)).astype(jnp.int32)
    if isinstance(space, Discrete):
        return jax.random.randint(key, (), 0, space.n, jnp.int32)
    low, high = (jnp.clip(jnp.asarray(bound), -1e3, 1e3) for bound in (space.low, space.high))
    return jax.random.uniform(key, (space.size,), jnp.float32, low, high)


def _walk(environment: Environment, params: Params, key: Any, num_steps: int) -> Any:
    """A random walk: `((key, state, action), (next state, step), fresh)`, leaves `[T, ...]`; fresh after an end."""

    def body(carry: Any, key: Any) -> Any:
        state, seen, fresh = carry
        k_action, k_step, k_reset = jax.random.split(key, 3)
        action = _any_action(environment, k_action, seen)
        after, step = environment.step(k_step, state, action, params)
        over = step.terminated | step.truncated
        anew = environment.reset(k_reset, params)
        new = jax.tree.map(lambda x, y: jnp.where(over, x, y), anew, (after, step.observation))
        return (*new, over), ((k_step, state, action), (after, step), fresh)

    k_first, k_walk = jax.random.split(key)
    first = environment.reset(k_first, params)
    return jax.lax.scan(body, (*first, jnp.ones((), bool)), jax.random.split(k_walk, num_steps))[1]


def _check_world(environment: Environment) -> None:
    """Quantities with units and ranges; a hashable value; shapes and types of states and steps."""
    name = type(environment).__name__
    if jax.tree.leaves(environment) or hash(environment) != hash(dataclasses.replace(environment)):
        raise AssertionError(f"{name} is not a hashable value without arrays. Make its fields static.")
    for quantity, spec in environment.quantities().items():
        if not spec.get("unit") or not spec["low"] <= spec["default"] <= spec["high"]:
            raise AssertionError(f"{name} has a quantity {quantity} without a unit or range. Make it by `quantity`.")
    params, key = environment.nominal(), jax.random.key(0)
    try:
        state, observation = jax.eval_shape(environment.reset, key, params)
        action = jax.eval_shape(_any_action, environment, key, observation)
        after, step = jax.eval_shape(environment.step, key, state, action, params)
    except jax.errors.JAXTypeError as error:
        sentence = f"{name} needs to know a state or a quantity before it can be compiled."
        raise AssertionError(f"{sentence} Use `jnp.where` in place of `if`.") from error
    if form(after) != form(state):
        raise AssertionError(f"{name}'s state goes from {form(state)[1]} to {form(after)[1]}. Keep shapes and types.")
    real, flag, seen = ((), jnp.float32), ((), jnp.bool_), form(observation)[1][0]
    given = [form(x)[1][0] for x in (step.observation, step.reward, step.terminated, step.truncated)]
    if given != [seen, real, flag, flag] or seen[1] != jnp.float32:
        raise AssertionError(f"{name} shows {seen} first and then gives {given}. Give float32, and bool flags.")
    space = environment.observation_space
    if not isinstance(space, Discrete) and seen[0] != (space.size,):
        raise AssertionError(f"{name} shows {seen[0]}, but its space has {space.size} numbers. Make them agree.")


def _check_mask(environment: Environment) -> None:
    """What is allowed is a flag for every choice, over any leading axes."""
    name, space, size = type(environment).__name__, environment.action_space, environment.observation_size
    for leading in ((), (2, 3)):
        allowed = jax.eval_shape(environment.allowed, jax.ShapeDtypeStruct((*leading, size), jnp.float32))
        if allowed is None:
            return
        if not isinstance(space, Discrete) or form(allowed)[1][0] != ((*leading, space.n), jnp.bool_):
            given = f"{allowed.dtype}{list(allowed.shape)} for observations {[*leading, size]}"
            raise AssertionError(f"{name} allows {given} of {space}. Give a bool for each choice, after their axes.")


def _check_walks(environment: Environment, before: Any, given: Any, fresh: np.ndarray, params: Params) -> None:
    """What random walks showed, leaves `[N, ...]`; `params` and `before` are what every step started from."""
    name, space, (_, step) = type(environment).__name__, environment.observation_space, given
    if not all(np.isfinite(x).all() for x in (step.observation, step.reward)):
        raise AssertionError(f"{name} gives an observation or a reward that is not finite. Bound it.")
    seen = np.asarray(step.observation)
    if not isinstance(space, Discrete) and np.any(
        (seen < np.asarray(space.low, np.float32)) | (seen > np.asarray(space.high, np.float32))
    ):
        raise AssertionError(f"{name} shows what its observation space does not hold. Widen the space.")
    allowed = environment.allowed(step.observation)
    if allowed is not None and not np.all(jnp.any(allowed, axis=-1) | step.terminated | step.truncated):
        raise AssertionError(f"{name} allows nothing although the episode goes on. Allow an action, or end it.")
    now, starts = np.arange(len(fresh)), np.flatnonzero(fresh)
    lasted = now - starts[np.searchsorted(starts, now, side="right") - 1] + 1
    if not np.array_equal(np.asarray(step.truncated), lasted == environment.max_steps):
        raise AssertionError(f"{name} does not truncate at max_steps alone. Let the clock, and only it, truncate.")
    numbers = lambda tree: jax.tree.map(lambda x: np.asarray(x, np.float32), tree)  # noqa: E731
    together = jax.jit(jax.vmap(environment.step))(*before, params)
    assert_same(numbers(together), numbers(given), f"{name} steps stacked worlds not as it steps one.", 1e-4)


def _check_optimum(environment: Environment) -> None:
    """A family that knows the optimum of an episode: its floor is one of its rules, and none does better."""
    name, params, key = type(environment).__name__, environment.nominal(), jax.random.key(2)
    optimum, rules = environment.optimum(params, key), environment.baselines(params, key)
    if environment.floor not in rules:
        raise AssertionError(
            f"{name} calls {environment.floor!r} its floor, but knows {list(rules)}. Name one of them."
        )
    if best := [rule for rule, value in rules.items() if not value <= optimum + 1e-5 * max(1.0, abs(optimum))]:
        raise AssertionError(f"{name}'s optimum is {optimum:g}, but {best[0]} has {rules[best[0]]:g}. Bound all rules.")


def check_environment(environment: Environment, *, num_clients: int = 3, num_steps: int = 200) -> None:
    """Holds a family of worlds to the contract of `Environment`.

    Its quantities have units and ranges; states keep shape and type; what is seen lies in the space and rewards are
    finite; a mask has a flag for each choice and allows some; only the clock truncates, at `max_steps`; and worlds can
    be compiled for any quantities, and step in a stack as they step one by one. Where a family knows the optimum, no
    rule that it knows does better.

    Args:
      environment: The family.
      num_clients: Worlds that are walked through at random, each a little different.
      num_steps: Steps of each walk; episodes that end begin anew. Where `max_steps` is a field, episodes are cut to a
        quarter of this.

    Raises:
      AssertionError: Says in a sentence which part of the contract is broken.

    Example:
      >>> from polyfed.environments import CartPole
      >>> check_environment(CartPole())
    """
    _check_world(environment)
    _check_mask(environment)
    family: Any = environment
    if "max_steps" in {field.name for field in dataclasses.fields(family)}:
        environment = dataclasses.replace(family, max_steps=min(environment.max_steps, max(num_steps // 4, 2)))
    walk = jax.jit(lambda params, key: _walk(environment, params, key, num_steps))
    params, keys = _worlds(environment, num_clients), jax.random.split(jax.random.key(1), num_clients)
    walks = [walk(jax.tree.map(lambda x, i=i: x[i], params), keys[i]) for i in range(num_clients)]
    before, given, fresh = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *walks)
    each = jax.tree.map(lambda x: jnp.repeat(x, num_steps, axis=0), params)
    _check_walks(environment, before, given, np.asarray(fresh), each)
    if environment.floor:
        _check_optimum(environment)
