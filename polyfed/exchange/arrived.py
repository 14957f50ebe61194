"""A transform whose way up is over before a message is at the server, as in a deployment where it acts at the sites."""

from __future__ import annotations

from typing import Any

from jaxtyping import PRNGKeyArray

from polyfed.exchange.transform import Transform, WireSize
from polyfed.types import Payload, Update


class Arrived(Transform):
    """What is left of a transform for the server: what it does on the way back.

    >>> import jax, jax.numpy as jnp
    >>> from polyfed.exchange import ClipNorm
    >>> part, update = Arrived(ClipNorm(max_norm=1.0)), Update(jnp.array([[3.0, 4.0]]), jnp.ones(1))
    >>> part.upload((), update, jnp.zeros(2), jax.random.key(0))[0].payload.tolist()
    [[3.0, 4.0]]
    """

    part: Transform  # that has acted

    def check(self) -> None:
        """As the transform does."""
        self.part.check()

    def check_clients(self, num_clients: int) -> None:
        """As the transform does."""
        self.part.check_clients(num_clients)

    def init(self, payload: Payload, num_clients: int) -> Any:
        """Its memory."""
        return self.part.init(payload, num_clients)

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Nothing: it has happened."""
        del broadcast, key
        return update, state

    def receive(self, state: Any, merged: Payload) -> tuple[Payload, Any]:
        """As the transform does."""
        return self.part.receive(state, merged)

    def wire(self, size: WireSize) -> WireSize:
        """As the transform does."""
        return self.part.wire(size)

    def relayed(self, size: WireSize) -> int:
        """As the transform does."""
        return self.part.relayed(size)
