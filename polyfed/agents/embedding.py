"""An environment embedding: a few numbers by which a common network is told whose world it acts in.

PerDQNAvg and PerDDPGAvg (Jin et al. 2022) put a client's vector before every observation. The network is averaged, the
vector is trained at the client and never leaves it.

References: jin2022qavg.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.checks import in_range, whole_in_range


class EmbeddingState(eqx.Module):
    """A client's vector and its Adam."""

    vector: Float[Array, " K"]
    optimizer: Any


class Embedding(eqx.Module):
    """`size` numbers before every observation, trained by the gradient of the learner's loss with an Adam of their own.

    A client's vector begins uniform in `(-1, 1)`, that of a newcomer at 0, the mean of that distribution. Stored
    transitions and targets are read with the vector as it is now. Jin et al. (2022) take `ceil(log2 n)` numbers for
    `n` clients.

    >>> Embedding.for_clients(10).size
    4
    """

    size: int = eqx.field(default=4, static=True)  # numbers
    learning_rate: float = 1e-3  # Adam's step size for them; 0 leaves them as they are

    @staticmethod
    def for_clients(num_clients: int) -> Embedding:
        """The published size for that many clients."""
        return Embedding(max(1, (num_clients - 1).bit_length()))

    def check(self) -> None:
        """Raise `ValueError` if a number is out of range."""
        whole_in_range("embedding.size", self.size, 1, 2**16, "numbers")
        in_range("embedding.learning_rate", self.learning_rate, 0.0, 10.0)

    def init(self) -> EmbeddingState:
        """A newcomer's."""
        return self.at(jnp.zeros(self.size, jnp.float32))

    def drawn(self, key: PRNGKeyArray) -> EmbeddingState:
        """A client's own, before its first round."""
        return self.at(jax.random.uniform(key, (self.size,), jnp.float32, -1.0, 1.0))

    def at(self, vector: Float[Array, " K"]) -> EmbeddingState:
        """That vector with moments at zero, as for a client that joins with the mean of the others' vectors."""
        return EmbeddingState(vector, optax.adam(self.learning_rate).init(vector))

    def step(self, state: EmbeddingState, gradient: Float[Array, " K"]) -> EmbeddingState:
        """One step of Adam."""
        update, optimizer = optax.adam(self.learning_rate).update(gradient, state.optimizer)
        return EmbeddingState(state.vector + update, optimizer)


def embedded(vector: Float[Array, " K"], observation: Float[Array, "*batch D"]) -> Float[Array, "*batch K+D"]:
    """Observations with the same vector before each.

    >>> embedded(jnp.array([7.0]), jnp.ones((2, 3))).tolist()
    [[7.0, 1.0, 1.0, 1.0], [7.0, 1.0, 1.0, 1.0]]
    """
    before = jnp.broadcast_to(vector, (*observation.shape[:-1], vector.shape[0]))
    return jnp.concatenate([before, observation], axis=-1)
