"""A bound on how far one client's message may move the broadcast."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from polyfed.checks import in_range
from polyfed.exchange.transform import Transform
from polyfed.leaves import is_floating
from polyfed.types import Payload, Update


def clip_to(payload: Payload, broadcast: Payload, max_norm: float) -> Payload:
    """`b + (x - b) * min(1, max_norm / ||x - b||)` for each client, the norm over all floating-point leaves.

    Args:
      payload: Leaves `[C, ...]`.
      broadcast: Leaves `[...]` or `[C, ...]`.
      max_norm: Bound on the global norm; a message within it stays as it is, bit for bit.
    """
    delta = jax.tree.map(lambda x, b: x - b if is_floating(x) else jnp.zeros_like(x), payload, broadcast)
    squares = sum(jnp.sum(d.reshape(d.shape[0], -1) ** 2, axis=1) for d in jax.tree.leaves(delta))
    scale = jnp.minimum(1.0, max_norm / jnp.maximum(jnp.sqrt(squares), 1e-30))

    def shortened(x: jax.Array, d: jax.Array, b: jax.Array) -> jax.Array:
        factor = scale.reshape(-1, *(1,) * (d.ndim - 1))
        return jnp.where(factor < 1.0, b + d * factor, x) if is_floating(x) else x

    return jax.tree.map(shortened, payload, delta, broadcast)


class ClipNorm(Transform):
    """Clips every client's update to a global norm (McMahan et al. 2018, sec. 3).

    >>> import jax, jax.numpy as jnp
    >>> update = Update(payload=jnp.array([[3.0, 4.0]]), weight=jnp.ones(1))
    >>> clipped, _ = ClipNorm(max_norm=1.0).upload((), update, jnp.zeros(2), jax.random.key(0))
    >>> [round(float(x), 6) for x in clipped.payload[0]]
    [0.6, 0.8]
    """

    bounds_norm: ClassVar[bool] = True
    keeps_norm: ClassVar[bool] = True

    max_norm: float = 1.0  # bound on the global norm of payload - broadcast

    def check(self) -> None:
        """Raise `ValueError` unless the bound is positive."""
        in_range("transforms.max_norm", self.max_norm, 1e-12, 1e12)

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Clip each client's message."""
        del key
        return Update(clip_to(update.payload, broadcast, self.max_norm), update.weight), state
