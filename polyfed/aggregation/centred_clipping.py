"""Messages clipped about where the server stands: centred clipping (Karimireddy et al. 2021), norm bounding.

A bound that hostile clients must not be able to skip belongs to the server, hence these are rules and no transforms.

References: karimireddy2021history, sun2019backdoor.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from polyfed.aggregation.coordinates import trimmed_mean_of
from polyfed.aggregation.mean import moved, weighted_mean
from polyfed.aggregation.rule import AggregationRule
from polyfed.aggregation.vectors import distances, median_among, vectors, votes
from polyfed.checks import in_range, whole_in_range
from polyfed.leaves import is_floating
from polyfed.types import Metrics, Payload, Update


class LastMerge(eqx.Module):
    """What the rule gave last, once it gave something."""

    merged: Payload
    given: Bool[Array, ""]


def before_the_first(payload: Payload) -> LastMerge:
    """Nothing was merged yet; `payload` is one client's, to fix shapes."""
    return LastMerge(jax.tree.map(jnp.zeros_like, payload), jnp.zeros((), bool))


def centre_of(last: LastMerge, payload: Payload, came: Array) -> Payload:
    """What was merged last, or, in the first round, the median of each coordinate; leaves `[...]`."""
    median = trimmed_mean_of(payload, came, came.shape[0])
    return jax.tree.map(lambda old, new: jnp.where(last.given, old, new), last.merged, median)


def distances_to(centre: Payload, payload: Payload, came: Array) -> Float[Array, " C"]:
    """How far each message is from the centre, over all its floating-point numbers; 0 where absent."""
    one = vectors(jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], centre), jnp.ones(1))[0]
    return jnp.where(came > 0, distances(vectors(payload, came), one), 0)


def clipped_mean(centre: Payload, payload: Payload, came: Array, radius: Array | float) -> Payload:
    """`v + mean_k (x_k - v) min(1, radius / ||x_k - v||)` (Karimireddy et al. 2021, eq. 9).

    Args:
      centre: `v`, leaves `[...]`.
      payload: `x_k`, leaves `[C, ...]`.
      came: `[C]`, 1 or 0.
      radius: In units of a message.

    Returns:
      Leaves `[...]`; the mean where they are no floating-point numbers.

    Example:
      >>> clipped_mean(jnp.zeros(2), jnp.array([[3.0, 4.0], [0.0, 1.0]]), jnp.ones(2), 2.5).tolist()
      [0.75, 1.5]
    """
    apart = distances_to(centre, payload, came)
    factor = jnp.where(apart > radius, radius / apart, 1.0)  # 0 where the distance is beyond all numbers

    def one(v: Array, x: Array) -> Array:
        x = jnp.asarray(x)
        if not is_floating(x):
            return weighted_mean(x, came)
        wide = x.astype(jnp.result_type(x, jnp.float32))
        share = factor.reshape(-1, *(1,) * (x.ndim - 1))
        change = weighted_mean(jnp.where(share > 0, (wide - v) * share, 0), came)
        return moved(jnp.asarray(v).astype(wide.dtype), change).astype(x.dtype)

    return jax.tree.map(one, centre, payload)


class CentredClipping(AggregationRule):
    """The mean of differences to the last merge, each clipped to a radius (Karimireddy et al. 2021, algorithm 2).

        v <- v + (1 / n) sum_k (x_k - v) min(1, tau / ||x_k - v||)

    so often as `iterations` says, from what was merged last; in the first round from the median of each coordinate.
    The paper clips momenta; here messages are parameters, and with the default server optimizer the last merge is the
    broadcast. Where even honest clients moved further than `iterations` radii, the merge cannot follow them in one
    round. Every client has one vote, whatever its weight; one with numbers that are not finite has none. Metrics:
    `nonfinite`, see `votes`, and `clipped`, how many are at last outside the radius.

    Example:
      >>> rule = CentredClipping(radius=1.0)
      >>> update = Update(payload=jnp.array([[0.0], [0.5], [900.0]]), weight=jnp.ones(3))
      >>> round(float(rule.aggregate(rule.init(jnp.zeros(1)), update)[0][0]), 4)
      0.6667
    """

    radius: float = 1.0  # tau, in units of a message, above 0
    iterations: int = eqx.field(default=1, static=True)  # clippings per round, 1 to 1000

    def check(self) -> None:
        """Raises `ValueError` where a field is outside its range."""
        in_range("rule.radius", self.radius, 1e-30, 1e30)
        whole_in_range("rule.iterations", self.iterations, 1, 1000)

    def init(self, payload: Payload) -> LastMerge:
        """Nothing was merged yet."""
        return before_the_first(payload)

    def aggregate(self, state: LastMerge, update: Update) -> tuple[Payload, LastMerge, Metrics]:
        """`(clipped mean, it again, metrics)`."""
        came, metrics = votes(update)
        v = centre_of(state, update.payload, came)
        outside = jnp.zeros((), jnp.float32)
        for _ in range(self.iterations):
            outside = jnp.sum(distances_to(v, update.payload, came) > self.radius, dtype=jnp.float32)
            v = clipped_mean(v, update.payload, came, self.radius)
        v = jax.tree.map(lambda leaf: jnp.where(jnp.any(came > 0), leaf, 0), v)
        return v, LastMerge(v, jnp.ones((), bool)), {**metrics, "clipped": outside}


class NormBounding(AggregationRule):
    """The mean of differences to the last merge, none longer than `factor` times their median length.

    Norm bounding (Sun et al. 2019, sec. 4) with a bound that follows the clients: half of them would have to be hostile
    to set it. It bounds how far a client moves the model, not where to. In the first round differences are those to the
    median of each coordinate; with the default server optimizer the last merge is the broadcast. Every client has one
    vote, whatever its weight; one with numbers that are not finite has none. Metrics: `nonfinite`, see `votes`, and
    `bound`, the length.

    Example:
      >>> rule = NormBounding()
      >>> update = Update(payload=jnp.array([[0.0], [1.0], [2.0], [900.0], [-1.0]]), weight=jnp.ones(5))
      >>> rule.aggregate(rule.init(jnp.zeros(1)), update)[0].tolist()
      [1.0]
    """

    factor: float = 1.0  # of the median length, at least 1

    def check(self) -> None:
        """Raises `ValueError` where the factor is below 1."""
        in_range("rule.factor", self.factor, 1.0, 1e6)

    def init(self, payload: Payload) -> LastMerge:
        """Nothing was merged yet."""
        return before_the_first(payload)

    def aggregate(self, state: LastMerge, update: Update) -> tuple[Payload, LastMerge, Metrics]:
        """`(mean of bounded differences, it again, metrics)`."""
        came, metrics = votes(update)
        v = centre_of(state, update.payload, came)
        bound = self.factor * median_among(distances_to(v, update.payload, came), came > 0)
        v = clipped_mean(v, update.payload, came, bound)
        v = jax.tree.map(lambda leaf: jnp.where(jnp.any(came > 0), leaf, 0), v)
        return v, LastMerge(v, jnp.ones((), bool)), {**metrics, "bound": bound}
