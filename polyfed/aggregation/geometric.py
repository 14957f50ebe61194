"""The normalised geometric mean of histograms: their barycenter under the Kullback-Leibler divergence (ours).

Entropic Wasserstein barycenters tend to it as their iterations are stopped early with a narrow kernel.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from polyfed.aggregation.fold import fold_clients
from polyfed.aggregation.shapes import float_type, shapes_and_voices


def geometric_shape(shapes: Float[Array, "K R n"], voices: Float[Array, "K R"]) -> Float[Array, "R n"]:
    """Normalised weighted geometric mean along the clients; their weighted mean where no bin is held by all.

    Args:
      shapes: Histograms of mass 1 in the last axis, float64, finite also where a voice is 0.
      voices: Weights per row, summing to 1 or all 0.

    Returns:
      Histograms of mass 1, or of mass 0 where no client has a voice. Equal ones come back up to the last bits.
    """
    count = shapes.shape[0]

    def add(k: int | Array, logarithm: Array) -> Array:
        return logarithm + jnp.where(voices[k] > 0, voices[k], 0)[:, None] * jnp.where(
            (voices[k] > 0)[:, None], jnp.log(shapes[k]), 0
        )

    logarithm = fold_clients(add, jnp.zeros_like(shapes[0]), count)
    largest = jnp.max(logarithm, axis=-1, keepdims=True)
    common = largest > -jnp.inf  # some bin is held by all
    heights = jnp.exp(logarithm - jnp.where(common, largest, 0))
    mean = fold_clients(lambda k, sum_: sum_ + voices[k][:, None] * shapes[k], jnp.zeros_like(shapes[0]), count)
    return jnp.where(common & jnp.any(voices > 0, axis=0)[:, None], heights / jnp.sum(heights, -1, keepdims=True), mean)


@jax.jit
def geometric_mean(histograms: ArrayLike, weights: ArrayLike) -> Float[Array, " n"]:
    """The histogram of mass 1 that is nearest to all in Kullback-Leibler divergence.

        argmin_b sum_k lambda_k KL(b | p_k),    b(i) = prod_k p_k(i)^lambda_k / sum_j prod_k p_k(j)^lambda_k

    Args:
      histograms: `[K, n]`, not negative; of any mass, which does not matter. One without mass has no say.
      weights: `[K]`, any scale; 0 is absent, and what such a client holds does not matter.

    Returns:
      `[n]` in the dtype of the histograms (computed in float64), of mass 1, finite: a bin that is empty for anybody is
      empty; where that leaves no bin at all, the weighted mean. Zeros when nobody came.

    Example:
      >>> geometric_mean([[1.0, 9.0, 0.0], [1.0, 1.0, 3.0]], [1.0, 1.0]).tolist()
      [0.25, 0.75, 0.0]
    """
    dtype = float_type(histograms)
    with jax.enable_x64(True):
        weights = jnp.asarray(weights).astype(jnp.float64)[:, None]
        values = jnp.where(weights > 0, jnp.asarray(histograms).astype(jnp.float64), 0)
        return geometric_shape(*shapes_and_voices(values[:, None], weights))[0].astype(dtype)
