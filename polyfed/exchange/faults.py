"""What the world does to messages."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from polyfed.checks import in_range
from polyfed.exchange.transform import Transform
from polyfed.types import Payload, Update


class LoseMessages(Transform):
    """Loses each client's message with a fixed probability; the client is absent in that round.

    >>> import jax, jax.numpy as jnp
    >>> update = Update(payload=jnp.ones((2, 3)), weight=jnp.ones(2))
    >>> lost, _ = LoseMessages(probability=1.0).upload((), update, jnp.zeros(3), jax.random.key(0))
    >>> lost.weight.tolist()
    [0.0, 0.0]
    """

    loses: ClassVar[bool] = True
    keeps_norm: ClassVar[bool] = True

    probability: float = 0.1  # 0 to 1, per client and round

    def check(self) -> None:
        """Raise `ValueError` unless the probability lies in [0, 1]."""
        in_range("transforms.probability", self.probability, 0.0, 1.0)

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Set the weight of lost messages to 0."""
        del broadcast
        lost = jax.random.uniform(key, update.weight.shape, jnp.float32) < self.probability
        return Update(update.payload, jnp.where(lost, 0.0, update.weight)), state
