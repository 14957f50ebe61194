"""Entropic Wasserstein barycenters of histograms on a line: Sinkhorn iterations with a banded kernel.

Iterative Bregman projections as in Benamou et al. (2015, sec. 3.2), here in `O(K n)` per iteration: the cost is the
squared distance of positions, so the kernel is a short window. Iterations run on the scalings while these are of
moderate size and on their logarithms from the moment they are not, so nothing overflows or becomes 0 / 0.

References: benamou2015bregman.
"""

from __future__ import annotations

import math
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from polyfed.aggregation.shapes import float_type, shapes_and_voices

CONVERGED_BELOW = 1e-3  # marginal error, as a part of the mass
_MODERATE = 300.0  # logarithm of a scaling up to which products of scalings stay within float64
_EMPTY = 1e-300  # mass of an empty bin: its logarithm is finite, its weight nil


class Barycenter(NamedTuple):
    """Entropic barycenters and how far the iterations got, one per row."""

    histogram: Array  # [..., n], of mass 1
    converged: Array  # 0 or 1: the marginal error is below 1e-3
    marginal_error: Array  # L1


def half_width(regularization: float) -> int:
    """Bins to either side in which the kernel `exp(-d^2 / regularization)` is a float64 above 0 (to `1e-323`).

    Far less would do for one product; but the scalings grow over the iterations, and mass can only move as far as the
    kernel reaches.

    Example:
      >>> half_width(0.1), half_width(1.0)
      (8, 27)
    """
    return max(1, math.floor(math.sqrt(744.0 * regularization)))


def _neighbours(values: Array, width: int, outside: float) -> list[Array]:
    """`values(i + d)` for `d = -width .. width`; slices that are fixed, which XLA fuses well.

    Here and below operations are those of `lax`, for there are dozens, which `jax.numpy` takes twice as long to trace.
    """
    size = values.shape[-1]
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(width, width)], constant_values=outside)
    return [lax.slice_in_dim(padded, start, start + size, axis=-1) for start in range(2 * width + 1)]


def _smooth(values: Array, regularization: float, width: int) -> Array:
    """The kernel applied along the last axis: `sum_d exp(-d^2 / regularization) values(i + d)`."""
    near = _neighbours(values, width, 0.0)
    total = near[width]
    for d in range(1, width + 1):
        both = lax.add(near[width - d], near[width + d])
        total = lax.add(total, lax.mul(lax.full_like(both, math.exp(-d * d / regularization)), both))
    return total


def _log_smooth(values: Array, regularization: float, width: int) -> Array:
    """The logarithm of `_smooth` of `exp(values)`, for values of any size."""
    near = _neighbours(values, width, -jnp.inf)
    near = [lax.sub(x, lax.full_like(x, (d - width) ** 2 / regularization)) for d, x in enumerate(near)]
    largest = reduce(lax.max, near)
    return largest + jnp.log(reduce(lax.add, [lax.exp(lax.sub(x, largest)) for x in near]))


def _log(values: Array) -> Array:
    """Natural logarithm of positive normal float64, to `2e-16` of `max(1, |log|)`; vectorised, unlike XLA's on a CPU.

    With `x = 2^e m`, `m` between `sqrt(1/2)` and `sqrt(2)`: `log x = e log 2 + 2 artanh((m - 1) / (m + 1))`. Of 0 it is
    about -709.
    """
    bits = lax.bitcast_convert_type(values, jnp.int64)
    mantissa = lax.bitcast_convert_type((bits & (2**52 - 1)) | (1023 << 52), jnp.float64)
    above = mantissa > math.sqrt(2)
    exponent = lax.shift_right_logical(bits, jnp.full_like(bits, 52)).astype(jnp.int32) - 1023 + above
    s = (jnp.where(above, mantissa / 2, mantissa) - 1) / (jnp.where(above, mantissa / 2, mantissa) + 1)
    square, series = s * s, jnp.zeros_like(s)
    for power in range(21, 0, -2):
        series = series * square + 1 / power
    return exponent.astype(jnp.float64) * math.log(2) + 2 * s * series


def _weighted_sum(values: Array, voices: Array) -> Array:
    """`sum_k voices_k values_k`: `[K, R, n]`, `[K, R]` to `[R, n]`.

    A loop, for XLA computes what enters a loop once (a fused sum would compute it anew for every client); and no
    product, which `vmap` would turn into one of float32.
    """

    def add(k: Array, total: Array) -> Array:
        return total + voices[k][:, None] * values[k]

    return lax.fori_loop(0, values.shape[0], add, jnp.broadcast_to(0 * voices[0][:, None], values.shape[1:]))


def entropic_shape(
    shapes: Float[Array, "K R n"], voices: Float[Array, "K R"], *, regularization: float, iterations: int
) -> Barycenter:
    """`entropic_barycenter_1d` of many rows at once, of mass 1 in float64, with 64-bit types enabled.

    Args:
      shapes: Histograms of mass 1 in the last axis, finite also where a voice is 0.
      voices: Weights per row, summing to 1 or all 0.
      regularization: In bins squared, above 0.
      iterations: At least 1.
    """
    width = half_width(regularization)
    smooth = partial(_smooth, regularization=regularization, width=width)
    log_smooth = partial(_log_smooth, regularization=regularization, width=width)
    shapes = jnp.maximum(shapes, _EMPTY)

    def quick(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        done, scaling, log_mean, _ = carry
        log_seen = _log(smooth(shapes / smooth(scaling)))
        new_mean = _weighted_sum(log_seen, voices)
        moderate = jnp.all(jnp.abs(new_mean - log_seen) < _MODERATE)
        scaling = jnp.where(moderate, jnp.exp(new_mean - log_seen), scaling)
        return done + moderate, scaling, jnp.where(moderate, new_mean, log_mean), moderate

    def careful(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        done, log_scaling, _ = carry
        log_seen = log_smooth(jnp.log(shapes) - log_smooth(log_scaling))
        log_mean = _weighted_sum(log_seen, voices)
        return done + 1, log_mean - log_seen, log_mean

    moderate = jnp.all(jnp.isfinite(shapes))
    start = (moderate * 0, 1 + 0 * shapes, 0 * shapes[0], moderate)  # from data: inside a shard, carries must be local
    done, scaling, log_mean, _ = lax.while_loop(lambda c: (c[0] < iterations) & c[3], quick, start)
    careful_start = (done, jnp.log(scaling), log_mean)
    _, log_scaling, log_mean = lax.while_loop(lambda c: c[0] < iterations, careful, careful_start)
    histogram = jnp.exp(log_mean - jnp.max(log_mean, axis=-1, keepdims=True))
    histogram = histogram / jnp.sum(histogram, axis=-1, keepdims=True)
    seen = jnp.exp(log_scaling + log_smooth(jnp.log(shapes) - log_smooth(log_scaling)))
    error = jnp.sum(_weighted_sum(jnp.abs(seen - histogram), voices), axis=-1)
    return Barycenter(histogram, (error < CONVERGED_BELOW).astype(jnp.float64), error)


@partial(jax.jit, static_argnames=("regularization", "iterations"))
def entropic_barycenter_1d(
    histograms: ArrayLike, weights: ArrayLike, *, regularization: float = 0.1, iterations: int = 100
) -> Barycenter:
    """The entropic Wasserstein barycenter of histograms on the grid `0 .. n - 1`, after so many iterations.

        argmin_b sum_k lambda_k min_P <P, C> + regularization sum_ij P_ij (log P_ij - 1),    C_ij = (i - j)^2

    over plans `P` from `p_k` to `b` (Benamou et al. 2015, eq. 3.2), by

        v_k = p_k / (G u_k),    b = prod_k (G v_k)^lambda_k,    u_k = b / (G v_k),    G_ij = exp(-C_ij / regularization)

    from `u_k = 1`. *Equal histograms do not come back*: the result is their blur, of a standard deviation of
    `sqrt(regularization / 2)` bins. And it need not have converged: with 0.1, ten thousands of iterations are needed
    where mass moves by a few bins, and a hundred stop close to the geometric mean. So look at `converged`.

    Args:
      histograms: `[K, n]`, not negative; of any mass, which does not matter. One without mass has no say.
      weights: `[K]`, any scale; 0 is absent, and what such a client holds does not matter.
      regularization: In bins squared, above 0. (POT's, where the cost matrix holds the squares of `0 .. n - 1`.)
      iterations: At least 1.

    Returns:
      `Barycenter(histogram, converged, marginal_error)`: `[n]` of mass 1 (float64 inside, the dtype of the histograms
      outside), finite, zeros when nobody came; 1 where the error is below `1e-3`; and
      `sum_k lambda_k |u_k G v_k - b|_1`, what is missing until the plans agree about `b`.

    Example:
      >>> far = [[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0]]
      >>> found = entropic_barycenter_1d(far, [1.0, 1.0], regularization=0.5)
      >>> found.histogram.round(2).tolist(), float(found.converged)
      ([0.10999999940395355, 0.7899999618530273, 0.10999999940395355, 0.0, 0.0], 1.0)
    """
    dtype = float_type(histograms)
    with jax.enable_x64(True):
        weights = jnp.asarray(weights).astype(jnp.float64)[:, None]
        values = jnp.where(weights > 0, jnp.asarray(histograms).astype(jnp.float64), 0)
        shapes, voices = shapes_and_voices(values[:, None], weights)
        found = entropic_shape(shapes, voices, regularization=regularization, iterations=iterations)
        histogram = jnp.where(jnp.any(voices != 0), found.histogram, 0)
        return Barycenter(*(part[0].astype(dtype) for part in found._replace(histogram=histogram)))
