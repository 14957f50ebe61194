"""Returns and advantages of what was lived through, time first: `[T, ...]`.

References: schulman2016gae, sutton2018rl.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float


def lived(over: Bool[Array, "T E"]) -> Bool[Array, "T E"]:
    """Which steps of a padded episode were lived: all up to the first that is over, itself included.

    Args:
      over: `terminated | truncated`.

    >>> lived(jnp.array([[False, True], [True, False], [False, False]])).tolist()
    [[True, True], [True, False], [False, False]]
    """
    length = over.shape[0]
    steps = jnp.where(jnp.any(over, axis=0), jnp.argmax(over, axis=0) + 1, length)
    return jnp.arange(length)[:, None] < steps


def decayed_sums(values: Float[Array, T * rest], decay: Float[Array, T * rest]) -> Float[Array, T * rest]:
    """`y_t = x_t + decay_t y_{t+1}` with `y_T = 0`, in `log2 T` passes over all steps instead of one after another.

    After `k` passes `y_t` has the terms of the next `2^k` steps, and `decay_t` is the product over them.

    >>> decayed_sums(jnp.array([1.0, 1.0, 1.0]), jnp.full(3, 0.5)).tolist()
    [1.75, 1.5, 1.0]
    """
    shift, length = 1, values.shape[0]
    while shift < length:
        later = lambda x: jnp.concatenate([x[shift:], jnp.zeros_like(x[:shift])])  # noqa: B023, E731
        values, decay = values + decay * later(values), decay * later(decay)
        shift *= 2
    return values


def returns_to_go(reward: Float[Array, "T E"], discount: ArrayLike) -> Float[Array, "T E"]:
    """`G_t = sum_{j >= t} discount^(j - t) r_j` of episodes padded with zeros (Sutton and Barto 2018, eq. 3.8).

    >>> returns_to_go(jnp.array([[1.0], [2.0], [0.0]]), 0.5).tolist()
    [[2.0], [2.0], [0.0]]
    """
    return decayed_sums(reward, jnp.broadcast_to(jnp.asarray(discount, reward.dtype), reward.shape))


def standardised(
    values: Float[Array, T * rest], where: Bool[Array, T * rest], *, axis: int | None = None, epsilon: float = 1e-5
) -> Float[Array, T * rest]:
    """`(x - mean) / (std + epsilon)`, the standard deviation of a sample, which divides by `n - 1`.

    Args:
      values: What to standardise.
      where: Entries that count; the others come out as 0.
      axis: Along which; None: over all.
      epsilon: Keeps equal values at 0.

    Returns:
      Zeros where fewer than two entries count.

    >>> standardised(jnp.array([1.0, 3.0, 9.0]), jnp.array([True, True, False])).round(3)
    Array([-0.707,  0.707,  0.   ], dtype=float32)
    """
    count = jnp.sum(where, axis=axis, keepdims=True, dtype=values.dtype)
    mean = jnp.sum(values, axis=axis, keepdims=True, where=where) / jnp.maximum(count, 1)
    away = jnp.where(where, values - mean, 0.0)
    variance = jnp.sum(away**2, axis=axis, keepdims=True) / jnp.maximum(count - 1, 1)
    return away / (jnp.sqrt(variance) + epsilon)


def generalized_advantages(
    reward: Float[Array, "T E"],
    values: tuple[Float[Array, "T E"], Float[Array, "T E"]],
    ends: tuple[Bool[Array, "T E"], Bool[Array, "T E"]],
    discount: ArrayLike,
    trace_decay: ArrayLike,
) -> Float[Array, "T E"]:
    """`A_t = sum_l (discount trace_decay)^l delta_{t+l}` within an episode (Schulman et al. 2016, eq. 16).

    `delta_t = r_t + discount (1 - terminated_t) V(s'_t) - V(s_t)`: where the clock ended an episode, or the rollout
    ends in the middle of one, the value of the next observation stands for the rest; where the MDP ended there is none.

    Args:
      reward: Of a rollout in which a new episode begins after the end of each.
      values: `(V(s_t), V(s'_t))`, `s'` being the observation that the action led to, before any reset.
      ends: `(terminated, truncated)`.
      discount: `gamma`.
      trace_decay: `lambda`; 1: whole returns minus values, 0: errors of one step.

    >>> one = jnp.ones((1, 1))
    >>> generalized_advantages(one, (one, one), (one > 0, one > 0), 0.9, 0.95).tolist()  # it terminated
    [[0.0]]
    """
    terminated, truncated = ends
    value, next_value = values
    discount = jnp.asarray(discount, jnp.float32)
    error = reward + discount * jnp.where(terminated, 0.0, next_value) - value
    return decayed_sums(error, jnp.where(terminated | truncated, 0.0, discount * trace_decay))
