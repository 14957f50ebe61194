"""No exchange: every client keeps what it sent, the baseline against which a federation has to be worth something."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from polyfed.aggregation.rule import AggregationRule
from polyfed.types import Metrics, Payload, Update


class LocalOnly(AggregationRule):
    """Every client gets its own payload back, whatever its weight; an absent client gets zeros.

    The zeros of an absent client (weight 0) are never read: the round leaves a client that did not come as it was.

    Example:
      >>> update = Update(payload=jnp.array([1.0, 2.0, jnp.nan]), weight=jnp.array([1.0, 5.0, 0.0]))
      >>> LocalOnly().aggregate((), update)[0].tolist()
      [1.0, 2.0, 0.0]
    """

    @property
    def personal(self) -> bool:
        """Everybody keeps its own."""
        return True

    @property
    def exchanges(self) -> bool:
        """Nothing leaves a client."""
        return False

    @property
    def nested(self) -> bool:
        """Nothing is merged, so widths may differ."""
        return True

    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        """`(payload, state, {})`, leaves `[C, ...]`, zeros where absent."""
        present = jnp.asarray(update.weight) > 0

        def keep(leaf: Any) -> Any:
            leaf = jnp.asarray(leaf)
            return jnp.where(present.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0).astype(leaf.dtype)

        return jax.tree.map(keep, update.payload), state, {}
