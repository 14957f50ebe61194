"""A client's local update: live, learn, over and over, each client in its own worlds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from polyfed.agents.agent import Agent
from polyfed.environments import World
from polyfed.environments.world import Params
from polyfed.types import Metrics


def local_update(
    world: World,
    agent: Agent,
    client: tuple[Any, Any, Params],
    key: PRNGKeyArray,
    *,
    num_steps: int,
) -> tuple[Any, Any, Metrics]:
    """`num_steps` steps of one client in its worlds, learning every `agent.rollout_length` of them.

    For an episodic agent a local step is a whole episode, from which it learns.

    Args:
      world: The family.
      agent: The learner; its leaves are this client's own.
      client: `(learner state, its stay in its worlds, params [E])`.
      key: Split once for the whole round.
      num_steps: Local steps, a multiple of `agent.rollout_length`.

    Returns:
      `(learner state, stay, metrics)`. Metrics are scalars: `return` is the mean over the episodes that ended in
      this round (NaN where none did), `episodes` their number, the learner's own are means over the round
      and come last: one that names its own `return` is believed. An episodic agent's has `steps` too, the number of
      environment steps in the round.
    """
    if agent.episodic:
        return _episodes(world, agent, client, key, num_episodes=num_steps)
    state, stay, params = client
    num_envs = jax.tree.leaves(params)[0].shape[0]
    length = agent.rollout_length
    k_world, k_steps = jax.random.split(key)
    drawn = world.draw(k_world, params, num_steps)
    step_keys = jax.random.split(k_steps, (num_steps, num_envs + 2))  # environments, acting, learning
    inputs = jax.tree.map(lambda x: x.reshape(num_steps // length, length, *x.shape[1:]), (drawn, step_keys))

    def live_and_learn(carry: tuple[Any, Any], inputs: Any) -> tuple[tuple[Any, Any], tuple[Metrics, Any]]:
        state, stay = carry
        act = lambda observation, key: agent.act(state, observation, key)  # noqa: E731
        stay, (trajectory, ended) = world.live(act, stay, params, inputs)
        state, metrics = agent.learn(state, trajectory, inputs[1][-1, -1])
        return (state, stay), (metrics, ended)

    (state, stay), (metrics, ended) = jax.lax.scan(live_and_learn, (state, stay), inputs)
    returns, episodes = (jnp.sum(x) for x in ended)
    means = jax.tree.map(jnp.mean, metrics)
    return (
        state,
        stay,
        {"return": returns / jnp.where(episodes > 0, episodes, jnp.nan), "episodes": episodes, **means},
    )


def _episodes(
    world: World, agent: Agent, client: tuple[Any, Any, Params], key: PRNGKeyArray, *, num_episodes: int
) -> tuple[Any, Any, Metrics]:
    """Play an episode, learn from it, over and over; the stay is never used, for every episode begins anew."""
    state, stay, params = client

    def play_and_learn(state: Any, key: PRNGKeyArray) -> tuple[Any, tuple[Metrics, Any]]:
        k_play, k_learn = jax.random.split(key)
        act = lambda observation, key: agent.act(state, observation, key)  # noqa: E731
        trajectory, returns, steps = world.play(act, params, k_play)
        state, metrics = agent.learn(state, trajectory, k_learn)
        return state, (metrics, (returns, steps))

    state, (metrics, (returns, steps)) = jax.lax.scan(play_and_learn, state, jax.random.split(key, num_episodes))
    own = {
        "return": jnp.mean(returns),
        "episodes": jnp.float32(returns.size),
        "steps": jnp.sum(steps, dtype=jnp.float32),
    }
    return state, stay, {**own, **jax.tree.map(jnp.mean, metrics)}
