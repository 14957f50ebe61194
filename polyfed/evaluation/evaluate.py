"""Returns of a greedy policy: whole episodes, fixed seeds, many environments at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.environments import Environment
from polyfed.environments.environment import Params


def evaluate_policy(
    environment: Environment,
    act: Callable[[Float[Array, "N ..."]], Array],
    params: Params,
    key: PRNGKeyArray,
    num_episodes: int,
) -> Float[Array, "M K"]:
    """The undiscounted return of `num_episodes` episodes in each of `M` environments.

    Episode `k` starts from the same key in every environment and for every policy, so that policies are compared on
    the same starts.

    Args:
      environment: The family.
      act: Actions `[N, ...]` for observations `[N, ...]`.
      params: Leaves `[M]`.
      key: The evaluation's own.
      num_episodes: `K`.

    Returns:
      `[M, K]`.

    >>> import jax, jax.numpy as jnp
    >>> from polyfed.environments import CartPole
    >>> params = jax.tree.map(lambda x: jnp.asarray(x)[None], CartPole().nominal())
    >>> left = lambda observation: jnp.zeros(observation.shape[0], jnp.int32)
    >>> evaluate_policy(CartPole(), left, params, jax.random.key(0), num_episodes=2).shape
    (1, 2)
    """
    num_worlds = jax.tree.leaves(params)[0].shape[0]
    total = num_worlds * num_episodes
    keys = jnp.tile(jax.random.split(key, num_episodes), num_worlds)
    worlds = jax.tree.map(lambda x: jnp.repeat(x, num_episodes, axis=0), params)
    state, observation = jax.vmap(environment.reset)(keys, worlds)

    def running(carry: tuple[Any, ...]) -> Array:
        return jnp.any(carry[2])

    def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        state, observation, alive, returns, time = carry
        step_keys = jax.vmap(lambda k: jax.random.fold_in(k, time))(keys)
        state, given = jax.vmap(environment.step)(step_keys, state, act(observation), worlds)
        returns = returns + jnp.where(alive, given.reward, 0.0)
        return state, given.observation, alive & ~(given.terminated | given.truncated), returns, time + 1

    alive, returns = jnp.ones((total,), bool), jnp.zeros((total,), jnp.float32)
    carry = (state, observation, alive, returns, jnp.ones((), jnp.int32))
    return jax.lax.while_loop(running, step, carry)[3].reshape(num_worlds, num_episodes)
