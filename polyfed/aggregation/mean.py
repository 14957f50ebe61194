"""The weighted mean of the clients' payloads: federated averaging (McMahan et al. 2017, algorithm 1).

References: mcmahan2017fedavg.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from polyfed.aggregation.fold import fold_clients
from polyfed.aggregation.rule import AggregationRule
from polyfed.types import Metrics, Payload, Update


def normalized(weights: ArrayLike) -> Float[Array, " C"]:
    """Shares that sum to 1: `weight_k / sum_j weight_j` over the clients that came.

    Args:
      weights: `[C]`, any scale; a client whose weight is not above 0 (NaN included) is absent.

    Returns:
      `[C]`, 0 where absent; all 0 when nobody came.

    Example:
      >>> normalized([3.0, 0.0, 1.0]).tolist()
      [0.75, 0.0, 0.25]
    """
    weights = jnp.asarray(weights)
    weights = jnp.where(weights > 0, weights, 0).astype(jnp.result_type(weights.dtype, jnp.float32))
    largest = jnp.max(weights)
    weights = weights / jnp.where(largest > 0, largest, 1)  # first by the largest, so that no sum overflows
    return weights / jnp.maximum(jnp.sum(weights), 1)


def moved(start: Array, change: Array) -> Array:
    """`start + change`, bit for bit `start` (the sign of a zero included) where the change is 0.

    Example:
      >>> moved(jnp.array([-0.0, 1.0]), jnp.array([0.0, 0.5])).tolist()
      [-0.0, 1.5]
    """
    return jnp.where(change == 0, start, start + change)


def _mean_of_leaf(leaf: ArrayLike, shares: Array) -> Array:
    """`weighted_mean` of one leaf `[C, ...]`, shares `[C]` summing to 1 or all 0."""
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.integer):
        values = leaf.astype(jnp.int64 if leaf.dtype.itemsize == 8 else jnp.int32)  # exact differences, also unsigned
    else:
        values = leaf.astype(jnp.result_type(leaf.dtype, jnp.float32))
        shares = shares.astype(values.real.dtype)
    last = leaf.shape[0] - 1  # the smallest index, not argmax: that is lowered late, when 64-bit types are off again
    heaviest = jnp.min(jnp.where(shares == jnp.max(shares), jnp.arange(leaf.shape[0]), last))
    centre = values[heaviest]

    def add(k: int | Array, change: Array) -> Array:
        differs = (shares[k] > 0) & (values[k] != centre)
        return change + shares[k] * jnp.where(differs, values[k] - centre, 0)

    change = fold_clients(add, jnp.zeros(centre.shape, jnp.result_type(values, shares)), leaf.shape[0])
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        mean = moved(centre, change)
    elif leaf.dtype == jnp.bool_:
        mean = centre + change > 0.5
    else:
        mean = centre + jnp.round(change).astype(centre.dtype)
    return jnp.where(jnp.max(shares) > 0, mean, 0).astype(leaf.dtype)


@jax.jit
def weighted_mean(stacked: Payload, weights: ArrayLike) -> Payload:
    """The mean of the clients that came, written so that a consensus is kept bit for bit.

        x_h + sum_k lambda_k (x_k - x_h),    lambda_k = weight_k / sum_j weight_j,    h = argmax_k weight_k

    The sum runs over the clients in their order, never as a matrix product (which an accelerator may do in lower
    precision). Half precision is summed in float32.

    Args:
      stacked: A pytree of leaves `[C, ...]`. Integers give the mean rounded to the nearest integer, booleans the
        majority (a tie is False), so equal counters come back unchanged.
      weights: `[C]`, any scale; a client whose weight is not above 0 is absent and may hold NaN. A NaN of a client
        that came is not hidden: it makes that entry NaN.

    Returns:
      Leaves `[...]` in the dtype they came in; zeros when nobody came.

    Example:
      >>> weighted_mean({"w": jnp.array([[1.0, 2.0], [3.0, 6.0], [jnp.nan, 0.0]])}, [1.0, 1.0, 0.0])["w"].tolist()
      [2.0, 4.0]
    """
    shares = normalized(weights)
    return jax.tree.map(lambda leaf: _mean_of_leaf(leaf, shares), stacked)


class WeightedMean(AggregationRule):
    """Federated averaging: the mean of the payloads, each by its client's weight (McMahan et al. 2017, algorithm 1).

    Example:
      >>> rule = WeightedMean()
      >>> merged, _, _ = rule.aggregate((), Update(payload=jnp.array([0.0, 4.0]), weight=jnp.array([3.0, 1.0])))
      >>> float(merged)
      1.0
    """

    @property
    def linear(self) -> bool:
        """A weighted sum is all that it is."""
        return True

    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        """`(mean, state, {})`; see `weighted_mean`."""
        return weighted_mean(update.payload, update.weight), state, {}
