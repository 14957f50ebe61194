"""One greedy episode, state by state, to be looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

if TYPE_CHECKING:
    from polyfed.environments.environment import Environment, Params


def trace_episode(
    environment: Environment, act: Callable[[Array], Array], params: Params, key: PRNGKeyArray
) -> tuple[Any, float, int]:
    """`(states, return, steps)` of one episode; states are stacked `[steps + 1]`, the last being the end.

    >>> import jax, jax.numpy as jnp
    >>> from polyfed.environments import CartPole
    >>> left = lambda observation: jnp.zeros(observation.shape[0], jnp.int32)
    >>> states, total, steps = trace_episode(CartPole(), left, CartPole().nominal(), jax.random.key(0))
    >>> total == steps, states.angle.shape == (steps + 1,)
    (True, True)
    """
    k_reset, k_steps = jax.random.split(key)
    state, observation = environment.reset(k_reset, params)

    def step(carry: Any, k: PRNGKeyArray) -> Any:
        state, observation = carry
        action = jax.tree.map(lambda x: x[0], act(observation[None]))
        state, given = environment.step(k, state, action, params)
        return (state, given.observation), (state, given.reward, given.terminated | given.truncated)

    keys = jax.random.split(k_steps, environment.max_steps)
    _, (states, rewards, over) = jax.jit(lambda c: jax.lax.scan(step, c, keys))((state, observation))
    steps = int(np.argmax(np.asarray(over))) + 1
    states = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:steps]]), state, states)
    return states, float(jnp.sum(rewards[:steps])), steps
