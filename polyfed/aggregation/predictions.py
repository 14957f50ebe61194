"""How predictions of several clients become one: trimmed, as mixtures, as products, with a bonus.

All functions take a stack with the client axis first, ignore what absent clients (weight 0) hold, NaN included, let a
NaN of a client that came through, and give zeros when nobody came.

References: yin2018median.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from polyfed.aggregation.mean import weighted_mean


def among(weights: ArrayLike, stacked: Array) -> Array:
    """Who came, shaped to go with a stack: `[C, 1, ...]` bool.

    >>> among([0.5, 0.0], jnp.zeros((2, 3, 4))).tolist()
    [[[True]], [[False]]]
    """
    return (jnp.asarray(weights) > 0).reshape(-1, *(1,) * (stacked.ndim - 1))


@jax.jit
def trimmed_mean(stacked: ArrayLike, weights: ArrayLike, trim: ArrayLike) -> Array:
    """Entry by entry, the mean of what is left without the `trim` lowest and highest (Yin et al. 2018, definition 2).

        (1 / (n - 2 t)) sum_{t < r <= n - t} x_(r),    x_(1) <= ... <= x_(n) of the n clients that came

    Every client that came counts the same, because a weight is one more thing that a liar could say. `t` is `trim`, but
    never so large that nobody is left: where `2 trim >= n` the result is the median, the mean of the middle two if `n`
    is even.

    Args:
      stacked: `[C, ...]`.
      weights: `[C]`; not above 0 is absent.
      trim: Clients left out at each end; `C` or more gives the median.

    Returns:
      `[...]`. Equal values come back bit for bit.

    Example:
      >>> values, came = [[1.0], [2.0], [6.0], [900.0], [jnp.nan]], [1.0, 1.0, 1.0, 1.0, 0.0]
      >>> trimmed_mean(values, came, 1).tolist(), trimmed_mean(values, came, 5).tolist()
      ([4.0], [4.0])
    """
    stacked = jnp.asarray(stacked)
    came = among(weights, stacked)
    count, rank = jnp.sum(came), jnp.arange(stacked.shape[0])
    cut = jnp.clip(trim, 0, jnp.maximum(count - 1, 0) // 2)
    left = (rank >= cut) & (rank < count - cut)
    ordered = jnp.sort(jnp.where(came, stacked, jnp.inf), axis=0)
    broken = jnp.any(came & jnp.isnan(stacked), axis=0)
    return jnp.where(broken, jnp.nan, weighted_mean(ordered, left.astype(jnp.float32)))


def on_simplex(heights: Float[Array, "M A"], otherwise: Float[Array, "M A"]) -> Float[Array, "M A"]:
    """Each row divided by its sum; where nothing of it is above 0, the row of `otherwise`, divided likewise.

    >>> on_simplex(jnp.array([[1.0, 3.0], [0.0, 0.0]]), jnp.array([[1.0, 0.0], [0.5, 0.5]])).tolist()
    [[0.25, 0.75], [0.5, 0.5]]
    """
    heights = jnp.maximum(heights, 0)
    some = jnp.any(heights > 0, axis=-1, keepdims=True)
    rows = jnp.where(some, heights, jnp.maximum(otherwise, 0))
    total = jnp.sum(rows, axis=-1, keepdims=True)
    return rows / jnp.where(total > 0, total, 1)


@jax.jit
def log_mean(probabilities: ArrayLike, weights: ArrayLike) -> Float[Array, "M A"]:
    """The normalised geometric mean of distributions, nearest to all in `sum_k lambda_k KL(b || p_k)`.

        softmax_a( sum_k lambda_k log max(p_k(a), tiny) ),    tiny = 1.2e-38, the smallest normal float32

    Args:
      probabilities: `[C, M, A]`.
      weights: `[C]`, any scale.

    Returns:
      `[M, A]`, rows on the simplex. An action that one client holds impossible is nearly so.

    Example:
      >>> [round(float(p), 4) for p in log_mean([[[0.1, 0.9]], [[0.5, 0.5]]], [1.0, 1.0])[0]]
      [0.25, 0.75]
    """
    values = jnp.asarray(probabilities)
    values = values.astype(jnp.result_type(values, jnp.float32))
    logarithms = jnp.log(jnp.maximum(values, jnp.finfo(jnp.float32).tiny))
    mean = jax.nn.softmax(weighted_mean(logarithms, weights), axis=-1)
    return jnp.where(jnp.any(jnp.asarray(weights) > 0), mean, 0)


def _root_mean_square(terms: list[Array], weights: ArrayLike) -> Array:
    """`sqrt(sum_k lambda_k sum_j terms[j]_k^2)`, in units of the largest term so that no square overflows."""
    came = among(weights, terms[0])
    sizes = [jnp.where(came, jnp.abs(term), 0) for term in terms]
    largest = jnp.max(jnp.stack([jnp.max(size, axis=0) for size in sizes]), axis=0)
    unit = jnp.where(largest > 0, largest, 1)
    squares = jnp.sum(jnp.stack([(size / unit) ** 2 for size in sizes]), axis=0)
    return largest * jnp.sqrt(weighted_mean(squares, weights))


@jax.jit
def moment_matched(mean: ArrayLike, scale: ArrayLike, weights: ArrayLike) -> tuple[Array, Array]:
    """The normal distribution with the mean and the variance of the clients' mixture, entry by entry.

        mu = sum_k lambda_k mu_k,    sigma^2 = sum_k lambda_k (sigma_k^2 + mu_k^2) - mu^2

    Computed as `sum_k lambda_k (sigma_k^2 + (mu_k - mu)^2)`, which cancels nothing.

    Args:
      mean: `[C, M, size]`.
      scale: `[C, M, size]`, standard deviations above 0.
      weights: `[C]`, any scale.

    Returns:
      `(mean, scale)`, each `[M, size]`: clients that disagree make it wide.

    Example:
      >>> mu, sigma = moment_matched([[[-3.0]], [[3.0]]], [[[4.0]], [[4.0]]], [1.0, 1.0])
      >>> mu.tolist(), sigma.tolist()
      ([[0.0]], [[5.0]])
    """
    mean, scale = jnp.asarray(mean), jnp.asarray(scale)
    centre = weighted_mean(mean, weights)
    return centre, _root_mean_square([scale, mean - centre], weights)


@jax.jit
def product_of_experts(mean: ArrayLike, scale: ArrayLike, weights: ArrayLike) -> tuple[Array, Array]:
    """The normalised geometric mean of normal densities, entry by entry: means weighted by precision.

        1 / sigma^2 = sum_k lambda_k / sigma_k^2,    mu = sigma^2 sum_k lambda_k mu_k / sigma_k^2

    Args:
      mean: `[C, M, size]`.
      scale: `[C, M, size]`, standard deviations above 0.
      weights: `[C]`, any scale.

    Returns:
      `(mean, scale)`, each `[M, size]`: who is sure has the say.

    Example:
      >>> mu, sigma = product_of_experts([[[0.0]], [[5.0]]], [[[1.0]], [[2.0]]], [1.0, 1.0])
      >>> round(float(mu[0, 0]), 4), round(float(sigma[0, 0]) ** 2, 4)
      (1.0, 1.6)
    """
    mean, scale = jnp.asarray(mean), jnp.asarray(scale)
    smallest = jnp.min(jnp.where(among(weights, scale), scale, jnp.inf), axis=0)
    precision = (smallest / scale) ** 2  # in units of the surest client's, so that no square overflows
    total, centre = weighted_mean(precision, weights), weighted_mean(mean, weights)
    shift = weighted_mean(precision * (mean - centre), weights) / total
    anybody = jnp.any(jnp.asarray(weights) > 0)
    return jnp.where(anybody, centre + shift, 0), jnp.where(anybody, smallest / jnp.sqrt(total), 0)


@jax.jit
def upper_values(values: ArrayLike, weights: ArrayLike, bonus: ArrayLike) -> Array:
    """The mean over clients plus `bonus` standard deviations over clients, entry by entry (this form is ours).

        mean_k q_k + bonus * sqrt( sum_k lambda_k (q_k - mean)^2 )

    Args:
      values: `[C, M, A]`.
      weights: `[C]`, any scale.
      bonus: Standard deviations.

    Returns:
      `[M, A]`: values that clients disagree about look better. One client's come back as they are.

    Example:
      >>> upper_values([[[0.0, 2.0]], [[4.0, 2.0]]], [1.0, 1.0], 0.5).tolist()
      [[3.0, 2.0]]
    """
    values = jnp.asarray(values)
    mean = weighted_mean(values, weights)
    return mean + jnp.asarray(bonus, mean.dtype) * _root_mean_square([values - mean], weights)
