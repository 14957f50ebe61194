"""Rules that look at one number of the messages at a time: the median and the trimmed mean (Yin et al. 2018).

References: yin2018median.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from polyfed.aggregation.mean import weighted_mean
from polyfed.aggregation.predictions import trimmed_mean
from polyfed.aggregation.rule import AggregationRule
from polyfed.aggregation.vectors import votes
from polyfed.checks import whole_in_range
from polyfed.types import Metrics, Payload, Update


def trimmed_mean_of(payload: Payload, came: ArrayLike, trim: ArrayLike) -> Payload:
    """`trimmed_mean` of every floating-point leaf, the mean of every other.

    Args:
      payload: Leaves `[C, ...]`.
      came: `[C]`, 0 is absent.
      trim: Clients left out at each end; `C` or more gives the median.

    Returns:
      Leaves `[...]`, in the dtype they came in.

    Example:
      >>> trimmed_mean_of({"w": jnp.array([1.0, 2.0, 900.0]), "n": jnp.array([5, 5, 5])}, jnp.ones(3), 1)["w"].tolist()
      2.0
    """

    def one(leaf: ArrayLike) -> Array:
        leaf = jnp.asarray(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return weighted_mean(leaf, came)
        return trimmed_mean(leaf.astype(jnp.result_type(leaf, jnp.float32)), came, trim).astype(leaf.dtype)

    return jax.tree.map(one, payload)


class CoordinateMedian(AggregationRule):
    """Number by number the median of the clients that came (Yin et al. 2018, definition 1).

    Every client has one vote, whatever its weight; one with numbers that are not finite has none. It withstands fewer
    than half, in that every number lies among those of the others. Metric: `nonfinite`, see `votes`.

    Example:
      >>> update = Update(payload=jnp.array([1.0, 2.0, 900.0]), weight=jnp.array([1.0, 1.0, 7.0]))
      >>> float(CoordinateMedian().aggregate((), update)[0])
      2.0
    """

    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        """`(median, state, metrics)`."""
        came, metrics = votes(update)
        return trimmed_mean_of(update.payload, came, came.shape[0]), state, metrics


class TrimmedMean(AggregationRule):
    """Number by number the mean without the `trim` lowest and highest of those who came (Yin et al. 2018, def. 2).

    Every client has one vote, whatever its weight; one with numbers that are not finite has none. It withstands `trim`
    hostile clients. Where `2 trim` or fewer came it is the median. Metric: `nonfinite`, see `votes`.

    Example:
      >>> update = Update(payload=jnp.array([1.0, 2.0, 3.0, 900.0]), weight=jnp.ones(4))
      >>> float(TrimmedMean(trim=1).aggregate((), update)[0])
      2.5
    """

    trim: int = 1  # clients left out at each end

    def check(self) -> None:
        """Raises `ValueError` unless the trim is a whole number from 0."""
        whole_in_range("rule.trim", self.trim, 0, 10**6, "clients")

    def check_clients(self, num_clients: int) -> None:
        """Raises `ValueError` where nobody would be left.

        Example:
          >>> TrimmedMean(trim=2).check_clients(4)
          Traceback (most recent call last):
          ValueError: A mean without the 2 lowest and the 2 highest of 4 clients has nothing left: use a trim of 1 or \
less, or CoordinateMedian.
        """
        if 2 * self.trim >= num_clients:
            raise ValueError(
                f"A mean without the {self.trim} lowest and the {self.trim} highest of {num_clients} clients has "
                f"nothing left: use a trim of {max(num_clients - 1, 0) // 2} or less, or CoordinateMedian."
            )

    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        """`(trimmed mean, state, metrics)`."""
        came, metrics = votes(update)
        return trimmed_mean_of(update.payload, came, self.trim), state, metrics
