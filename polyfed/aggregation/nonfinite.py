"""Which clients are heard where some came with numbers that are not finite, or weights that are none."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from polyfed.types import Update

OnNonfinite = Literal["raise", "drop"]


def check_weights(weights: Any, *, somebody: bool = False) -> None:
    """Raise `ValueError` where clients' weights are negative or not finite, or, if `somebody` must come, all 0.

    In a program that is being compiled nothing can be raised: such weights count as absent, see `normalized`.

    Example:
      >>> check_weights([1.0, -0.5])
      Traceback (most recent call last):
      ValueError: A weight of -0.5 is no share in a merge: give each client a number of 0 (absent) or more.
    """
    if isinstance(weights, jax.core.Tracer):
        return
    given = np.asarray(weights, np.float64)
    if (wrong := given[~(np.isfinite(given) & (given >= 0))]).size:
        raise ValueError(
            f"A weight of {wrong.flat[0]:g} is no share in a merge: give each client a number of 0 (absent) or more."
        )
    if somebody and not given.any():
        raise ValueError(
            f"All {given.size} weights are 0, so nobody came and there is nothing to fuse: give one above 0."
        )


def heard(update: Update, on_nonfinite: OnNonfinite = "raise") -> tuple[Array, Array]:
    """The weights with which clients are heard, and how many came with a parameter that is not finite.

    Args:
      update: Payload leaves `[C, ...]`, weights `[C]`.
      on_nonfinite: "drop": such a client is absent, weight 0, unless all that came are such. "raise": a `ValueError`
        names it; in a program that is being compiled nothing can be raised, weights stay as they are, and the caller
        looks at the number.

    Returns:
      `([C], scalar)`.

    Raises:
      ValueError: See `on_nonfinite`; or a weight is negative.

    Example:
      >>> payload = jnp.array([[1.0, 2.0], [jnp.nan, 0.0], [jnp.inf, 0.0]])
      >>> update = Update(payload=payload, weight=jnp.array([1.0, 2.0, 0.0]))
      >>> weight, count = heard(update, "drop")
      >>> weight.tolist(), float(count)
      ([1.0, 0.0, 0.0], 1.0)
    """
    check_weights(update.weight)
    weight = jnp.asarray(update.weight)
    finite = jnp.ones(weight.shape, bool)
    for leaf in map(jnp.asarray, jax.tree.leaves(update.payload)):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            finite &= jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim)))
    broken = (weight > 0) & ~finite
    if on_nonfinite == "drop":
        weight = jnp.where(broken & jnp.any((weight > 0) & finite), 0, weight)
    elif not isinstance(broken, jax.core.Tracer) and broken.any():
        clients = ", ".join(str(k) for k in range(len(broken)) if broken[k])
        raise ValueError(
            f"The weights of client {clients} (counted from 0) are not all finite, so they cannot be fused. Lower its "
            'learning rate, or leave such clients out with on_nonfinite="drop".'
        )
    return weight, jnp.sum(broken).astype(jnp.result_type(float))
