"""Messages as vectors, and the distances between them: what rules that compare whole messages look at."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from polyfed.aggregation.nonfinite import heard
from polyfed.types import Metrics, Payload, Update


def votes(update: Update) -> tuple[Array, Metrics]:
    """One vote for each client that came with finite numbers, whatever its weight, since a liar would give any weight.

    Returns:
      `([C], metrics)`: 1 or 0; all that came where none of them is finite. The metric `nonfinite` counts those that
      came with a number that is not finite, see `heard`.

    Example:
      >>> update = Update(payload=jnp.array([[1.0], [jnp.nan], [2.0]]), weight=jnp.array([1.0, 2.0, 9.0]))
      >>> came, metrics = votes(update)
      >>> came.tolist(), float(metrics["nonfinite"])
      ([1.0, 0.0, 1.0], 1.0)
    """
    weight, nonfinite = heard(update, "drop")
    return (weight > 0).astype(jnp.float32), {"nonfinite": nonfinite}


def vectors(payload: Payload, came: ArrayLike) -> Float[Array, "C D"]:
    """All floating-point numbers of each client's message in a row, at least in float32; zeros where absent.

    Example:
      >>> payload = {"a": jnp.array([[1.0], [jnp.nan]]), "n": jnp.array([3, 4]), "b": jnp.zeros((2, 1, 2))}
      >>> vectors(payload, [1.0, 0.0]).tolist()
      [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(payload)]
    floats = [x.reshape(x.shape[0], -1) for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
    rows = jnp.concatenate([x.astype(jnp.result_type(x, jnp.float32)) for x in floats], axis=1)
    return jnp.where(jnp.asarray(came)[:, None] > 0, rows, 0)


def distances(rows: Float[Array, "C D"], centre: Float[Array, " D"]) -> Float[Array, " C"]:
    """`||x_k - c||` of each row; `inf` where that is too large for a square.

    Example:
      >>> distances(jnp.array([[3.0, 4.0], [1e30, 0.0]]), jnp.zeros(2)).tolist()
      [5.0, inf]
    """
    return jnp.sqrt(jnp.sum((rows - centre) ** 2, axis=1))


def pairwise_distances(rows: Float[Array, "C D"]) -> Float[Array, "C C"]:
    """`||x_k - x_j||`, from the differences themselves and one row at a time, so that it is symmetric to the last bit.

    Example:
      >>> pairwise_distances(jnp.array([[0.0], [2.0]])).tolist()
      [[0.0, 2.0], [2.0, 0.0]]
    """
    return jax.lax.map(lambda row: distances(rows, row), rows)


def median_among(values: Float[Array, " C"], came: Bool[Array, " C"]) -> Float[Array, ""]:
    """The median of the numbers of those who came, the mean of the middle two if they are even; 0 of nobody.

    Example:
      >>> float(median_among(jnp.array([1.0, 5.0, 3.0, jnp.nan]), jnp.array([True, True, True, False])))
      3.0
    """
    count = jnp.sum(came)
    ordered = jnp.sort(jnp.where(came, values, jnp.inf))
    low, high = ordered[jnp.maximum(count - 1, 0) // 2], ordered[jnp.minimum(count // 2, values.shape[0] - 1)]
    middle = jnp.where(low == high, low, low + (high - low) / 2)
    return jnp.where(count > 0, middle, 0)
