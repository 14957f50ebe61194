"""Adam in its efficient order (Kingma & Ba 2015, end of section 2): one root and one division per weight.

Optax computes the same numbers with three divisions; on a CPU, which is where small federations train, an update of
Adam is bound by them.

References: kingma2015adam.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

DECAY_1, DECAY_2, EPSILON = 0.9, 0.999, 1e-8


class AdamState(NamedTuple):
    """How many updates there were, and the running means of gradients and of their squares.

    >>> adam(1e-3).init(jnp.ones(2)).mean
    Array([0., 0.], dtype=float32)
    """

    steps: Int[Array, ""]
    mean: Any
    square: Any


def adam(learning_rate: Float[Array, ""] | float) -> optax.GradientTransformation:
    """`w -= rate_t m_t / (sqrt(v_t) + epsilon_t)` with the moments' decays 0.9 and 0.999, epsilon 1e-8.

    With `root_t = sqrt(1 - 0.999^t)`: `rate_t = learning_rate root_t / (1 - 0.9^t)` and `epsilon_t = epsilon root_t`,
    which is Algorithm 1 of the paper to rounding.

    >>> optimizer = adam(0.1)
    >>> updates, _ = optimizer.update(jnp.array([3.0, -0.5]), optimizer.init(jnp.ones(2)))
    >>> updates.round(3)  # the first step is as long as the learning rate, whatever the gradient
    Array([-0.1,  0.1], dtype=float32)
    """

    def init(params: Any) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(gradient: Any, state: AdamState, params: Any = None) -> tuple[Any, AdamState]:
        del params
        steps = optax.safe_increment(state.steps)
        step = steps.astype(jnp.float32)
        root = jnp.sqrt(1 - DECAY_2**step)
        rate, epsilon = learning_rate * root / (1 - DECAY_1**step), EPSILON * root
        mean = jax.tree.map(lambda m, g: DECAY_1 * m + (1 - DECAY_1) * g, state.mean, gradient)
        square = jax.tree.map(lambda v, g: DECAY_2 * v + (1 - DECAY_2) * g * g, state.square, gradient)
        updates = jax.tree.map(lambda m, v: -rate * (m / (jnp.sqrt(v) + epsilon)), mean, square)
        return updates, AdamState(steps, mean, square)

    return optax.GradientTransformation(init, update)
