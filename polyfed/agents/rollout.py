"""A client's local update: act, step, learn, over and over, each client in its own worlds."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.agents.agent import Agent
from polyfed.environments import Environment
from polyfed.environments.environment import Params
from polyfed.types import Metrics, Trajectory


class Worlds(eqx.Module):
    """The `E` environments of one client, as they stand between two local steps."""

    state: Any  # environment states, leaves [E, ...]
    observation: Float[Array, "E ..."]
    episode_return: Float[Array, " E"]  # of the running episodes


def start(environment: Environment, params: Params, key: PRNGKeyArray) -> Worlds:
    """Fresh episodes in every environment; `params` leaves are `[E]`."""
    num_envs = jax.tree.leaves(params)[0].shape[0]
    state, observation = jax.vmap(environment.reset)(jax.random.split(key, num_envs), params)
    return Worlds(state, observation, jnp.zeros((num_envs,), jnp.float32))


def local_update(
    environment: Environment,
    agent: Agent,
    client: tuple[Any, Worlds, Params],
    key: PRNGKeyArray,
    *,
    num_steps: int,
) -> tuple[Any, Worlds, Metrics]:
    """`num_steps` environment steps of one client, learning every `agent.rollout_length` of them.

    Args:
      environment: The family.
      agent: The learner; its leaves are this client's own.
      client: `(learner state, worlds, params [E])`.
      key: Split once for the whole round.
      num_steps: Local steps, a multiple of `agent.rollout_length`.

    Returns:
      `(learner state, worlds, metrics)`. Metrics are scalars: `return` is the mean over the episodes that ended in
      this round (NaN where none did), `episodes` their number, the learner's own are means over the round.
    """
    state, worlds, params = client
    num_envs = worlds.episode_return.shape[0]
    length = agent.rollout_length
    k_reset, k_steps = jax.random.split(key)
    reset_keys = jax.random.split(k_reset, (num_steps, num_envs))
    fresh = jax.vmap(jax.vmap(environment.reset), in_axes=(0, None))(reset_keys, params)
    step_keys = jax.random.split(k_steps, (num_steps, num_envs + 2))  # environments, acting, learning
    inputs = jax.tree.map(lambda x: x.reshape(num_steps // length, length, *x.shape[1:]), (fresh, step_keys))

    def rollout_and_learn(carry: tuple[Any, Worlds], inputs: Any) -> tuple[tuple[Any, Worlds], tuple[Metrics, Any]]:
        state, worlds = carry
        act = lambda observation, key: agent.act(state, observation, key)  # noqa: E731
        worlds, (trajectory, ended) = _rollout(environment, act, worlds, params, inputs)
        state, metrics = agent.learn(state, trajectory, inputs[1][-1, -1])
        return (state, worlds), (metrics, ended)

    (state, worlds), (metrics, ended) = jax.lax.scan(rollout_and_learn, (state, worlds), inputs)
    returns, episodes = (jnp.sum(x) for x in ended)
    means = jax.tree.map(jnp.mean, metrics)
    return (
        state,
        worlds,
        {"return": returns / jnp.where(episodes > 0, episodes, jnp.nan), "episodes": episodes, **means},
    )


def _rollout(
    environment: Environment, act: Any, worlds: Worlds, params: Params, inputs: Any
) -> tuple[Worlds, tuple[Trajectory, tuple[Array, Array]]]:
    """`T` steps in `E` environments: the trajectory, and per step the summed return and number of ended episodes."""

    def step(worlds: Worlds, inputs: Any) -> tuple[Worlds, Any]:
        (fresh_state, fresh_observation), keys = inputs
        action = act(worlds.observation, keys[-2])
        state, given = jax.vmap(environment.step)(keys[:-2], worlds.state, action, params)
        over = given.terminated | given.truncated
        total = worlds.episode_return + given.reward
        transition = Trajectory(
            worlds.observation, action, given.reward, given.observation, given.terminated, given.truncated
        )
        choose = lambda new, old: jnp.where(over.reshape(over.shape + (1,) * (old.ndim - 1)), new, old)  # noqa: E731
        new = Worlds(
            state=jax.tree.map(choose, fresh_state, state),
            observation=choose(fresh_observation, given.observation),
            episode_return=jnp.where(over, 0.0, total),
        )
        ended = jnp.sum(jnp.where(over, total, 0.0)), jnp.sum(over, dtype=jnp.float32)
        return new, (transition, ended)

    if inputs[1].shape[0] == 1:  # no inner loop where every step learns
        worlds, out = step(worlds, jax.tree.map(lambda x: x[0], inputs))
        return worlds, jax.tree.map(lambda x: x[None], out)
    return jax.lax.scan(step, worlds, inputs)
