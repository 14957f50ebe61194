"""The server's filter of FedPG-BR: a ball about the vector median of the messages (Fan et al. 2021, algorithm 1).

References: fan2021fedpgbr.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from polyfed.aggregation.mean import weighted_mean
from polyfed.aggregation.rule import AggregationRule
from polyfed.aggregation.vectors import distances, pairwise_distances, vectors, votes
from polyfed.checks import in_range
from polyfed.types import Metrics, Payload, Update


def concentration_radius(sigma: ArrayLike, delta: ArrayLike, batch: ArrayLike, num_clients: ArrayLike) -> Array:
    """`2 sigma sqrt(V / B)` with `V = 2 log(2 K / delta)`, within which honest means of `B` samples lie.

    Example:
      >>> round(float(concentration_radius(0.06, 0.6, 16, 10)), 4)
      0.0794
    """
    return 2 * jnp.asarray(sigma) * jnp.sqrt(2 * jnp.log(2 * jnp.asarray(num_clients) / delta) / batch)


def within(rows: Float[Array, "C D"], came: Float[Array, " C"], radius: Array) -> Bool[Array, " C"]:
    """Who lies within a radius of the vector median (Fan et al. 2021, algorithm 1, lines 5 to 7).

        S = {k: more than half of those who came within radius of k},    m = the one in S nearest to mean(S)

    Args:
      rows: `[C, D]`.
      came: `[C]`, 1 or 0.
      radius: In units of a message.

    Returns:
      `[C]`, all False where S is empty.

    Example:
      >>> within(jnp.array([[0.0], [1.0], [1.5], [90.0]]), jnp.ones(4), jnp.array(2.0)).tolist()
      [True, True, True, False]
    """
    apart, present = pairwise_distances(rows), came > 0
    near = jnp.sum((apart <= radius) & present, axis=1)
    central = present & (near > jnp.sum(present) / 2)
    to_mean = distances(rows, weighted_mean(rows, central.astype(jnp.float32)))
    to_mean = jnp.where(central, to_mean, jnp.inf)
    middle = weighted_mean(rows, (central & (to_mean == jnp.min(to_mean))).astype(jnp.float32))
    return present & jnp.any(central) & (distances(rows, middle) <= radius)


class FedPGFilter(AggregationRule):
    """The mean of the messages near their vector median, the filter of FedPG-BR (Fan et al. 2021, algorithm 1).

    Who lies within `concentration_radius` of the vector median is averaged; if fewer than a share `1 - alpha` do, the
    radius is `2 sigma`; if then nobody does, all that came are. (The paper takes the server's own gradient there, which
    a server without a world has not.) The other half of FedPG-BR, the server's variance-reduced steps (SCSG), is no
    rule and not here.

    `sigma` is the paper's bound of a single trajectory's gradient, in units of a message: where messages are parameters
    after a step of a rate, that many times the gradient's. Every client has one vote, whatever its weight; one with
    numbers that are not finite has none. Metrics: `nonfinite`, see `votes`; `selected`, how many are averaged.

    Example:
      >>> update = Update(payload=jnp.array([[0.0], [0.01], [0.02], [900.0]]), weight=jnp.ones(4))
      >>> merged, _, metrics = FedPGFilter().aggregate((), update)
      >>> round(float(merged[0]), 4), float(metrics["selected"])
      (0.01, 3.0)
    """

    sigma: float = 0.06  # in units of a message, above 0; published for gradients on CartPole
    delta: float = 0.6  # probability that an honest client lies outside, 0 to 1
    alpha: float = 0.4  # share of clients that may be hostile, 0 to 0.5
    batch: float = 16.0  # samples that a message is the mean of

    def check(self) -> None:
        """Raises `ValueError` where a field is outside its range."""
        in_range("rule.sigma", self.sigma, 1e-30, 1e30)
        in_range("rule.delta", self.delta, 1e-30, 1.0)
        in_range("rule.alpha", self.alpha, 0.0, 0.5)
        in_range("rule.batch", self.batch, 1.0, 1e9, "samples")

    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        """`(mean of those near, state, metrics)`."""
        came, metrics = votes(update)
        rows, count = vectors(update.payload, came), jnp.sum(came)
        radius = concentration_radius(self.sigma, self.delta, self.batch, jnp.maximum(count, 1))
        near = within(rows, came, radius)
        wide = within(rows, came, 2 * jnp.asarray(self.sigma))
        chosen = jnp.where(jnp.sum(near) < (1 - self.alpha) * count, wide, near)
        selected = jnp.where(jnp.any(chosen), chosen, came > 0).astype(jnp.float32)
        return weighted_mean(update.payload, selected), state, {**metrics, "selected": jnp.sum(selected)}
