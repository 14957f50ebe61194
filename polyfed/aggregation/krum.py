"""Krum and Multi-Krum: the messages closest to their neighbours (Blanchard et al. 2017, sec. 4).

References: blanchard2017krum.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from polyfed.aggregation.mean import weighted_mean
from polyfed.aggregation.rule import AggregationRule
from polyfed.aggregation.vectors import pairwise_distances, vectors, votes
from polyfed.checks import whole_in_range
from polyfed.types import Metrics, Payload, Update


def krum_scores(rows: Float[Array, "C D"], came: Float[Array, " C"], num_hostile: ArrayLike) -> Float[Array, " C"]:
    """Sum of squared distances to the `n - f - 2` nearest of the `n` that came (Blanchard et al. 2017, sec. 4).

    Args:
      rows: `[C, D]`, one message per client.
      came: `[C]`, 1 or 0. Absent rows are neither scored nor counted.
      num_hostile: `f`; where fewer than `f + 3` came, one neighbour counts.

    Returns:
      `[C]`, lower is more central; `inf` where absent.

    Example:
      >>> krum_scores(jnp.array([[0.0], [1.0], [3.0], [90.0], [9.0]]), jnp.array([1.0, 1.0, 1.0, 1.0, 0.0]), 1).tolist()
      [1.0, 1.0, 4.0, 7569.0, inf]
    """
    present = came > 0
    neighbours = jnp.maximum(jnp.sum(present) - num_hostile - 2, 1)
    others = present & ~jnp.eye(came.shape[0], dtype=bool)
    nearest = jnp.sort(jnp.where(others, pairwise_distances(rows) ** 2, jnp.inf), axis=1)
    scores = jnp.sum(jnp.where(jnp.arange(came.shape[0]) < neighbours, nearest, 0), axis=1)
    return jnp.where(present, scores, jnp.inf)


def lowest(scores: Float[Array, " C"], came: Float[Array, " C"], count: ArrayLike) -> Float[Array, " C"]:
    """1 for the `count` clients that came with the lowest scores, and for all that tie with the last of them; else 0.

    Example:
      >>> lowest(jnp.array([1.0, 1.0, 4.0, jnp.inf]), jnp.array([1.0, 1.0, 1.0, 0.0]), 1).tolist()
      [1.0, 1.0, 0.0, 0.0]
    """
    last = jnp.sort(scores)[jnp.clip(count, 1, scores.shape[0]) - 1]
    return jnp.where((came > 0) & (scores <= last), 1.0, 0.0)


class Krum(AggregationRule):
    """The message closest to its neighbours, or the mean of the `num_selected` closest (Blanchard et al. 2017, sec. 4).

    With more than one it is Multi-Krum. Messages with equal scores are chosen together, so that their order does not
    matter. Every client has one vote, whatever its weight; one with numbers that are not finite has none. One client's
    model for all is a poor merge where clients' worlds differ. Metrics: `nonfinite`, see `votes`, and `selected`, how
    many were chosen.

    Example:
      >>> update = Update(payload=jnp.array([[0.0], [1.0], [2.5], [4.0], [900.0]]), weight=jnp.ones(5))
      >>> merged = [Krum(num_hostile=1, num_selected=m).aggregate((), update)[0].tolist() for m in (1, 4)]
      >>> merged
      [[1.0], [1.875]]
    """

    num_hostile: int = 1  # f, clients that may be hostile; needs 2 f + 3 clients
    num_selected: int = 1  # m, messages that are averaged

    def check(self) -> None:
        """Raises `ValueError` where a field is outside its range."""
        whole_in_range("rule.num_hostile", self.num_hostile, 0, 10**6, "clients")
        whole_in_range("rule.num_selected", self.num_selected, 1, 10**6, "clients")

    def check_clients(self, num_clients: int) -> None:
        """Raises `ValueError` where so many clients are not enough to outvote the hostile ones.

        Example:
          >>> Krum(num_hostile=2).check_clients(6)
          Traceback (most recent call last):
          ValueError: Krum withstands 2 hostile clients among at least 2 * 2 + 3 = 7, but there are 6: lower \
num_hostile to 1 or less, or use CoordinateMedian.
        """
        needed = 2 * self.num_hostile + 3
        if num_clients < needed:
            raise ValueError(
                f"Krum withstands {self.num_hostile} hostile clients among at least 2 * {self.num_hostile} + 3 = "
                f"{needed}, but there are {num_clients}: lower num_hostile to {max((num_clients - 3) // 2, 0)} or "
                "less, or use CoordinateMedian."
            )
        if self.num_selected > num_clients - self.num_hostile:
            raise ValueError(
                f"The {self.num_selected} messages that Krum selects of {num_clients} would hold one of the "
                f"{self.num_hostile} hostile: lower num_selected to {num_clients - self.num_hostile} or less."
            )

    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        """`(mean of those selected, state, metrics)`."""
        came, metrics = votes(update)
        scores = krum_scores(vectors(update.payload, came), came, self.num_hostile)
        selected: Array = lowest(scores, came, self.num_selected)
        return weighted_mean(update.payload, selected), state, {**metrics, "selected": jnp.sum(selected)}
