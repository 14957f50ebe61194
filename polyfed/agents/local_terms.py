"""Terms added to a client's loss that tie its training to the federation."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from polyfed.checks import in_range


class Proximal(eqx.Module):
    """`strength / 2 * ||w - w_broadcast||^2`: stay near what the server sent (Li et al. 2020, FedProx, eq. 2).

    >>> import jax.numpy as jnp
    >>> float(Proximal(strength=2.0)(jnp.array([3.0]), jnp.array([1.0])))
    4.0
    """

    strength: float = 0.01  # mu, >= 0

    def __call__(self, params: Any, anchor: Any) -> Float[Array, ""]:
        """The term's value at `params`; `anchor` is the last broadcast."""
        distances = jax.tree.map(lambda p, a: jnp.sum((p - a) ** 2), params, anchor)
        return 0.5 * self.strength * sum(jax.tree.leaves(distances), start=jnp.zeros((), jnp.float32))

    def check(self) -> None:
        """Raise `ValueError` if the strength is negative."""
        in_range("local_terms.strength", self.strength, 0.0, 1e9)
