"""Inputs that everybody may see, on which the units of networks can be compared."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from polyfed.checks import whole_in_range


class UniformInputs(eqx.Module):
    """Public inputs drawn uniformly from a box: what units are compared on, the same in every round.

    Example:
      >>> UniformInputs(num=3, low=(-1.0, -2.0), high=(1.0, 2.0))(2).shape
      (3, 2)
    """

    num: int = eqx.field(default=256, static=True)  # inputs
    low: tuple[float, ...] = eqx.field(default=(-1.0,), static=True)  # one per entry of an input, or one for all
    high: tuple[float, ...] = eqx.field(default=(1.0,), static=True)  # likewise
    seed: int = eqx.field(default=0, static=True)

    def check(self) -> None:
        """Raises `ValueError` where a field is outside its range."""
        whole_in_range("inputs.num", self.num, 1, 2**20, "inputs")
        whole_in_range("inputs.seed", self.seed, 0, 2**31 - 1)
        sizes = {len(self.low), len(self.high)} - {1}
        if len(sizes) > 1 or 0 in sizes or not (jnp.asarray(self.low) < jnp.asarray(self.high)).all():
            raise ValueError(
                f"No inputs lie between {self.low} and {self.high}: give as many lower as upper bounds, each lower one "
                "below the upper one."
            )

    def __call__(self, in_size: int) -> Float[Array, "num in_size"]:
        """Inputs of `in_size` numbers each.

        Raises:
          ValueError: The bounds are for another number of entries.
        """
        for bound in (self.low, self.high):
            if len(bound) not in (1, in_size):
                raise ValueError(
                    f"Public inputs with {len(bound)} bounds cannot be shown to networks that read {in_size} numbers: "
                    f"give 1 or {in_size} bounds."
                )
        low, high = jnp.asarray(self.low, jnp.float32), jnp.asarray(self.high, jnp.float32)
        return jax.random.uniform(jax.random.key(self.seed), (self.num, in_size), jnp.float32, low, high)
