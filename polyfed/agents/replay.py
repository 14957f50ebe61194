"""A ring of transitions as a pytree: one contiguous row per transition, written in place."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from polyfed.types import Trajectory


class Batch(eqx.Module):
    """Sampled transitions, `n` steps long: what an n-step target needs.

    `reward` is `sum_i discount^i r_{t+i}` up to the end of the window, `bootstrap` is the factor of the value of
    `next_observation`: `discount^length`, or 0 if the MDP terminated inside the window. A time limit ends the window
    but keeps its factor: truncation bootstraps, termination does not.
    """

    observation: Float[Array, "B D"]
    action: Float[Array, "B A"]
    reward: Float[Array, " B"]
    bootstrap: Float[Array, " B"]
    next_observation: Float[Array, "B D"]


class Replay(eqx.Module):
    """The last `capacity` transitions of `E` environments.

    A row holds observation, action, reward, terminated, truncated and next observation side by side. `rows` is
    `[capacity / E, E, width]`: time first, so a window of n steps is n neighbours on the first axis.
    """

    rows: Float[Array, "N E W"]
    count: Int[Array, ""]  # time steps ever written
    observation_size: int = eqx.field(static=True)
    action_size: int = eqx.field(static=True)

    @staticmethod
    def empty(capacity: int, num_envs: int, observation_size: int, action_size: int) -> Replay:
        """A replay that holds nothing yet.

        >>> Replay.empty(capacity=100, num_envs=2, observation_size=4, action_size=1).rows.shape
        (50, 2, 12)
        """
        width = 2 * observation_size + action_size + 3
        rows = jnp.zeros((capacity // num_envs, num_envs, width), jnp.float32)
        return Replay(rows, jnp.zeros((), jnp.int32), observation_size, action_size)

    @property
    def size(self) -> Int[Array, ""]:
        """Time steps that can be sampled."""
        return jnp.minimum(self.count, self.rows.shape[0])

    def add(self, trajectory: Trajectory) -> Replay:
        """Write a trajectory `[T, E]`, over the oldest rows once it is full. `T` must divide the ring's length."""
        num_steps, num_envs = trajectory.reward.shape
        columns = (
            trajectory.observation,
            trajectory.action,
            trajectory.reward,
            trajectory.terminated,
            trajectory.truncated,
            trajectory.next_observation,
        )
        flat = [c.reshape(num_steps, num_envs, -1).astype(jnp.float32) for c in columns]
        rows = jnp.concatenate(flat, axis=-1)
        start = self.count % self.rows.shape[0]
        written = jax.lax.dynamic_update_slice(self.rows, rows, (start, jnp.zeros_like(start), jnp.zeros_like(start)))
        return Replay(written, self.count + num_steps, self.observation_size, self.action_size)

    def sample(self, key: PRNGKeyArray, batch_size: int, discount: Float[Array, ""], n_step: int) -> Batch:
        """Uniform windows of `n_step` neighbours, with replacement. The replay must hold at least `n_step` steps."""
        length, num_envs, _ = self.rows.shape
        uniform = jax.random.uniform(key, (batch_size,), jnp.float32)
        choices = (self.size - (n_step - 1)) * num_envs
        drawn = jnp.minimum((uniform * choices).astype(jnp.int32), choices - 1)
        age, env = drawn // num_envs, drawn % num_envs  # age 0 is the oldest step
        first = (self.count - self.size + age) % length
        if n_step == 1:
            return self._transitions(self.rows[first, env], discount)
        steps = (first[:, None] + jnp.arange(n_step, dtype=jnp.int32)) % length
        return self._window(self.rows[steps, env[:, None]], discount)

    def _transitions(self, rows: Float[Array, "B W"], discount: Float[Array, ""]) -> Batch:
        d, a = self.observation_size, self.action_size
        return Batch(
            observation=rows[:, :d],
            action=rows[:, d : d + a],
            reward=rows[:, d + a],
            bootstrap=discount * (1.0 - rows[:, d + a + 1]),
            next_observation=rows[:, d + a + 3 :],
        )

    def _window(self, rows: Float[Array, "B n W"], discount: Float[Array, ""]) -> Batch:
        d, a = self.observation_size, self.action_size
        reward, terminated, truncated = rows[..., d + a], rows[..., d + a + 1] > 0, rows[..., d + a + 2] > 0
        alive, last = _until_end(terminated | truncated)
        powers = discount ** jnp.arange(rows.shape[1], dtype=jnp.float32)
        ended = jnp.any(terminated & alive, axis=1)
        final = jnp.take_along_axis(rows, last[:, None, None], axis=1)[:, 0]
        return Batch(
            observation=rows[:, 0, :d],
            action=rows[:, 0, d : d + a],
            reward=jnp.sum(jnp.where(alive, reward * powers, 0.0), axis=1),
            bootstrap=jnp.where(ended, 0.0, powers[last] * discount),
            next_observation=final[:, d + a + 3 :],
        )


def _until_end(over: Bool[Array, "B n"]) -> tuple[Bool[Array, "B n"], Int[Array, " B"]]:
    """Steps of a window up to and including the first that ends the episode, and the index of the last of them."""
    before = jnp.cumsum(over, axis=1, dtype=jnp.int32) - over
    alive = before == 0
    return alive, jnp.sum(alive, axis=1, dtype=jnp.int32) - 1
