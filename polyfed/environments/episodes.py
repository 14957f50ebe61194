"""Episodes of an environment: rollouts that start anew wherever an episode ends, and whole episodes of a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.types import Trajectory

if TYPE_CHECKING:
    from polyfed.environments.environment import Environment

Params = Any


class Worlds(eqx.Module):
    """The `E` environments of one client, as they stand between two local steps."""

    state: Any  # environment states, leaves [E, ...]
    observation: Float[Array, "E ..."]
    episode_return: Float[Array, " E"]  # of the running episodes


def fresh_worlds(environment: Environment, key: PRNGKeyArray, params: Params) -> Worlds:
    """Fresh episodes in every environment; `params` leaves are `[E]`."""
    num_envs = jax.tree.leaves(params)[0].shape[0]
    state, observation = jax.vmap(environment.reset)(jax.random.split(key, num_envs), params)
    return Worlds(state, observation, jnp.zeros((num_envs,), jnp.float32))


def fresh_episodes(environment: Environment, key: PRNGKeyArray, params: Params, num_steps: int) -> Any:
    """A reset for every environment and step of a round, used where an episode ends: `(states, observations)`."""
    num_envs = jax.tree.leaves(params)[0].shape[0]
    keys = jax.random.split(key, (num_steps, num_envs))
    return jax.vmap(jax.vmap(environment.reset), in_axes=(0, None))(keys, params)


def rollout(
    environment: Environment, act: Callable[..., Array], worlds: Worlds, params: Params, inputs: Any
) -> tuple[Worlds, tuple[Trajectory, tuple[Array, Array]]]:
    """`T` steps in `E` environments: the trajectory, and per step the summed return and number of ended episodes."""

    def step(worlds: Worlds, inputs: Any) -> tuple[Worlds, Any]:
        drawn, keys = inputs
        action = act(worlds.observation, keys[-2])
        given, state, observation = environment.go_on(keys[:-2], worlds.state, action, params, drawn)
        over = given.terminated | given.truncated
        total = worlds.episode_return + given.reward
        transition = Trajectory(
            worlds.observation, action, given.reward, given.observation, given.terminated, given.truncated
        )
        new = Worlds(state, observation, episode_return=jnp.where(over, 0.0, total))
        ended = jnp.sum(jnp.where(over, total, 0.0)), jnp.sum(over, dtype=jnp.float32)
        return new, (transition, ended)

    if inputs[1].shape[0] == 1:  # no inner loop where every step learns
        worlds, out = step(worlds, jax.tree.map(lambda x: x[0], inputs))
        return worlds, jax.tree.map(lambda x: x[None], out)
    return jax.lax.scan(step, worlds, inputs)


def play_episode(
    environment: Environment, act: Callable[..., Array], params: Params, key: PRNGKeyArray
) -> tuple[Trajectory, Float[Array, " E"], Array]:
    """One episode in each of `E` environments, from a reset to its end, and not a step more than the longest.

    Args:
      environment: The family.
      act: Actions `[E, ...]` for observations `[E, ...]` and a key.
      params: Leaves `[E]`.
      key: The episode's own.

    Returns:
      `(trajectory, returns [E], steps [E])`. The trajectory is `[max_steps, E, ...]`; what lies after an episode's end
      is padding and holds zeros.

    >>> import jax, jax.numpy as jnp
    >>> from polyfed.environments import CartPole
    >>> params = jax.tree.map(lambda x: jnp.asarray(x)[None], CartPole().nominal())
    >>> left = lambda observation, key: jnp.zeros(observation.shape[0], jnp.int32)
    >>> trajectory, returns, steps = play_episode(CartPole(), left, params, jax.random.key(0))
    >>> trajectory.reward.shape, bool(steps[0] == returns[0]), bool(trajectory.terminated[steps[0] - 1, 0])
    ((500, 1), True, True)
    """
    num_envs, length = jax.tree.leaves(params)[0].shape[0], environment.max_steps
    k_reset, k_steps = jax.random.split(key)
    state, observation = jax.vmap(environment.reset)(jax.random.split(k_reset, num_envs), params)
    keys = jax.random.split(k_steps, (length, num_envs + 1))  # environments, acting; at once, for a draw is dear

    def running(carry: tuple[Any, ...]) -> Array:
        time, (terminated, truncated), *_ = carry
        return jnp.any(~(terminated | truncated)) & (time < length)

    def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        time, ends, steps, state, observation, (seen, actions, rewards) = carry
        alive, now = ~(ends[0] | ends[1]), keys[time]
        action = act(observation, now[-1])
        state, given = jax.vmap(environment.step)(now[:-1], state, action, params)
        ends = tuple(e | (alive & x) for e, x in zip(ends, (given.terminated, given.truncated), strict=True))
        rewards = rewards.at[time].set(given.reward)
        actions = jax.tree.map(lambda xs, x: xs.at[time].set(x), actions, action)
        lived = seen.at[time + 1].set(given.observation), actions, rewards
        return time + 1, ends, steps + alive, state, given.observation, lived

    action = jax.eval_shape(act, observation, k_reset)
    blank = lambda n, x: jnp.zeros((n, *x.shape), x.dtype)  # noqa: E731
    seen = blank(length + 1, observation).at[0].set(observation)
    lived = seen, jax.tree.map(lambda x: blank(length, x), action), jnp.zeros((length, num_envs), jnp.float32)
    none = jnp.zeros(num_envs, bool)
    carry = jnp.zeros((), jnp.int32), (none, none), jnp.zeros(num_envs, jnp.int32), state, observation, lived
    _, ends, steps, _, _, lived = jax.lax.while_loop(running, step, carry)
    trajectory = _padded(lived, ends, steps)
    return trajectory, jnp.sum(trajectory.reward, axis=0), steps


def _padded(lived: tuple[Array, Any, Array], ends: tuple[Array, Array], steps: Array) -> Trajectory:
    """A trajectory with zeros after an episode's end.

    Args:
      lived: Observations `[T + 1, E, ...]`, actions and rewards `[T, E, ...]`, anything after an end.
      ends: How each episode ended, `(terminated [E], truncated [E])`.
      steps: `[E]`, how many there were.
    """
    seen, action, reward = lived
    time = jnp.arange(reward.shape[0], dtype=jnp.int32)[:, None]

    def kept(x: Array) -> Array:
        return jnp.where((time < steps).reshape(*reward.shape, *(1,) * (x.ndim - 2)), x, jnp.zeros_like(x))

    terminated, truncated = ((time == steps - 1) & end for end in ends)
    return Trajectory(kept(seen[:-1]), jax.tree.map(kept, action), kept(reward), kept(seen[1:]), terminated, truncated)


def episode_keys(key: PRNGKeyArray, num_episodes: int) -> PRNGKeyArray:
    """The keys of whose resets the episodes of an evaluation start, `[K]`: the same in every world, for every policy.

    >>> import jax
    >>> episode_keys(jax.random.key(0), 4).shape
    (4,)
    """
    return jax.random.split(key, num_episodes)


def evaluate_policy(
    environment: Environment,
    act: Callable[[Float[Array, "N ..."]], Array],
    params: Params,
    key: PRNGKeyArray,
    num_episodes: int,
) -> Float[Array, "M K"]:
    """The undiscounted return of `num_episodes` episodes of a policy in each of `M` environments.

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
    keys = jnp.tile(episode_keys(key, num_episodes), num_worlds)
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
