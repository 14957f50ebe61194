"""Running mean and variance of observations, by which a network's inputs are standardised.

References: chan1983variance.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from polyfed.checks import in_range


class Moments(eqx.Module):
    """Of all observations so far: how many, their mean and their variance.

    >>> Moments.none(3).variance
    Array([1., 1., 1.], dtype=float32)
    """

    count: Float[Array, ""]  # float, so that it may be averaged over clients
    mean: Float[Array, " D"]
    variance: Float[Array, " D"]  # divided by `count`

    @staticmethod
    def none(size: int) -> Moments:
        """Of no observations: mean 0 and variance 1, so that standardising changes nothing."""
        zeros = jnp.zeros(size, jnp.float32)
        return Moments(jnp.zeros((), jnp.float32), zeros, jnp.ones_like(zeros))


def with_more(
    moments: Moments, observation: Float[Array, "*batch D"], where: Bool[Array, " *batch"] | None = None
) -> Moments:
    """The moments of the old observations and of a batch (Chan, Golub and LeVeque 1983, eq. 2.1).

    With `n` old and `m` new, `d` the difference of their means: `mean += d m / (n + m)` and
    `variance = (n variance + m new variance + d^2 n m / (n + m)) / (n + m)`.

    Args:
      moments: Of the old.
      observation: The batch.
      where: Which of the batch count; None: all. Where none does, nothing changes.

    >>> with_more(Moments.none(1), jnp.array([[1.0], [3.0]])).variance
    Array([1.], dtype=float32)
    """
    rows = observation.reshape(-1, observation.shape[-1])
    counts = jnp.ones(rows.shape[0], jnp.float32) if where is None else where.reshape(-1).astype(jnp.float32)
    new = jnp.sum(counts)
    mean = counts @ rows / jnp.maximum(new, 1.0)
    variance = counts @ (rows - mean) ** 2 / jnp.maximum(new, 1.0)
    total = moments.count + new
    share, apart = new / jnp.maximum(total, 1.0), mean - moments.mean
    both = (1 - share) * moments.variance + share * variance + apart**2 * share * (1 - share)
    return Moments(
        count=total,
        mean=moments.mean + apart * share,
        variance=jnp.where(new > 0, both, moments.variance),
    )


class ObservationStatistics(eqx.Module):
    """Standardise observations by their own running mean and variance: `clip((x - mean) / sqrt(variance + 1e-8))`.

    They are a client's own unless its learner shares them by name. A mean over clients that have seen equally much has
    the mean of all their observations, and the mean of their variances: how far clients lie apart is not in it.

    >>> ObservationStatistics(clip=5.0)(Moments.none(2), jnp.array([0.5, 70.0]))
    Array([0.5, 5. ], dtype=float32)
    """

    clip: float = 10.0  # standard deviations

    def __call__(self, moments: Moments, observation: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        """Standardised and clipped."""
        scaled = (observation - moments.mean) / jnp.sqrt(moments.variance + 1e-8)
        return jnp.clip(scaled, -self.clip, self.clip)

    def check(self) -> None:
        """Raise `ValueError` if the bound is out of range."""
        in_range("statistics.clip", self.clip, 1e-3, 1e9, "standard deviations")
