"""The geometric median by smoothed Weiszfeld steps: robust federated averaging (Pillutla et al. 2022, algorithm 2).

References: pillutla2022robust.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from polyfed.aggregation.mean import weighted_mean
from polyfed.aggregation.predictions import trimmed_mean
from polyfed.aggregation.rule import AggregationRule
from polyfed.aggregation.vectors import distances, vectors, votes
from polyfed.checks import in_range, whole_in_range
from polyfed.types import Metrics, Payload, Update


def weiszfeld_weights(
    rows: Float[Array, "C D"], came: Float[Array, " C"], *, smoothing: ArrayLike, iterations: int
) -> Float[Array, " C"]:
    """What each client counts in the geometric median, the point with the least sum of distances to all.

        beta_k = 1 / max(nu, ||v - x_k||),    v <- sum_k beta_k x_k / sum_k beta_k

    The paper starts from the mean; here `v` is first the median of each coordinate, so that one message of any length
    does not spend the iterations.

    Args:
      rows: `[C, D]`.
      came: `[C]`, 1 or 0.
      smoothing: `nu`, above 0, in units of a message.
      iterations: Steps.

    Returns:
      `[C]`, 0 where absent, not scaled.

    Example:
      >>> beta = weiszfeld_weights(jnp.array([[0.0], [1.0], [100.0]]), jnp.ones(3), smoothing=1e-6, iterations=8)
      >>> round(float(weighted_mean(jnp.array([0.0, 1.0, 100.0]), beta)), 3)
      1.0
    """

    def beta(v: Array) -> Array:
        apart = distances(rows, v)
        return jnp.where(came > 0, jnp.minimum(1 / apart, 1 / smoothing), 0)

    step = lambda _, b: beta(weighted_mean(rows, b))  # noqa: E731
    return jax.lax.fori_loop(1, iterations, step, beta(trimmed_mean(rows, came, rows.shape[0])))


class GeometricMedian(AggregationRule):
    """The point with the least sum of distances to all messages, by Weiszfeld steps (Pillutla et al. 2022, RFA).

    Every client has one vote, whatever its weight; one with numbers that are not finite has none. It withstands fewer
    than half, in that it cannot be drawn far from the others. Metric: `nonfinite`, see `votes`.

    Example:
      >>> update = Update(payload=jnp.array([[0.0, 0.0], [1.0, 0.0], [900.0, 0.0]]), weight=jnp.ones(3))
      >>> [round(float(x), 3) for x in GeometricMedian().aggregate((), update)[0]]
      [1.0, 0.0]
    """

    smoothing: float = 1e-6  # nearest distance that counts, in units of a message, above 0
    iterations: int = eqx.field(default=8, static=True)  # Weiszfeld steps, 1 to 1000

    def check(self) -> None:
        """Raises `ValueError` where a field is outside its range."""
        in_range("rule.smoothing", self.smoothing, 1e-30, 1e30)
        whole_in_range("rule.iterations", self.iterations, 1, 1000)

    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        """`(geometric median, state, metrics)`."""
        came, metrics = votes(update)
        rows = vectors(update.payload, came)
        beta = weiszfeld_weights(rows, came, smoothing=self.smoothing, iterations=self.iterations)
        return weighted_mean(update.payload, beta), state, metrics
