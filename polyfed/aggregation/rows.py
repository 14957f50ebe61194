"""Rows of a parameter fused by the barycenter of their histograms over the positions (Pereira & Amini 2025, alg. 1).

Client k's row `w_k` minus its minimum `m_k` is a histogram of mass `S_k` over the positions `0 .. n - 1`. With `B` the
barycenter of the histograms scaled to mass 1,

    fused = S B + sum_k lambda_k m_k,    S = sum_k lambda_k S_k

(The paper says to add the minimum; that gives negative mass.) Each solver of `B` has its function here.

References: pereira2025fedwb.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from polyfed.aggregation.entropic import entropic_shape
from polyfed.aggregation.fold import fold_clients
from polyfed.aggregation.geometric import geometric_shape
from polyfed.aggregation.line import Grid, Scale, barycenter_change, quantile_spread
from polyfed.aggregation.mean import moved, normalized, weighted_mean
from polyfed.aggregation.shapes import shapes_and_voices


class FusedRows(NamedTuple):
    """Fused rows and what their solver reports, one number per row."""

    rows: Array  # [R, n]
    bins: Array  # [R], displacement
    converged: Array  # [R], 0 or 1
    marginal_error: Array  # [R], L1 of mass 1


@partial(jax.jit, static_argnames=("scale", "grid", "power"))
def fuse_rows(
    rows: ArrayLike, weights: ArrayLike, *, scale: Scale = "mass", grid: Grid = "split", power: int = 2
) -> tuple[Array, Array]:
    """Rows fused by the exact barycenter of their histograms (Pereira & Amini 2025, algorithm 1).

    Computed as the weighted mean plus what the transport changes, so rows that agree come back bit for bit and, under
    scale "mass", rows in which no mass crosses a position come back as their weighted mean.

    Args:
      rows: `[C, R, n]`. A constant row (`S_k = 0`, e.g. fresh biases) has no shape: it counts in `S` and in the mean
        of minima only. If all are constant, or `n = 1`, the row's fusion is the weighted mean. What an absent client
        holds is ignored, NaN included; a NaN of a client that came makes its whole row NaN.
      weights: `[C]`, any scale; 0 is absent.
      scale: How much client k counts in `B`: "paper" `lambda_k`; "mass" `lambda_k S_k`, under which one outlier
        weight of one client does not blow up everybody's.
      grid: "split" or "nearest", see `barycenter_1d`.
      power: 2 or 1, see `barycenter_1d`.

    Returns:
      `(fused, bins)`: `[R, n]` in the dtype of the rows (computed in float64), zeros when nobody came; and `[R]`, the
      displacement of each row.

    Example:
      >>> agents = jnp.array([[[0.0, 1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0, 1.0]]])
      >>> fused, bins = fuse_rows(agents, [1.0, 1.0])
      >>> fused.tolist(), bins.tolist()
      ([[0.0, 0.0, 1.0, 0.0]], [2.0])
    """
    dtype, bins_dtype = jnp.result_type(rows), jnp.result_type(float)
    with jax.enable_x64(True):
        shares, values, histograms = _histograms(rows, weights)
        change, bins = jax.vmap(
            lambda row: barycenter_change(row, shares, scale=scale, grid=grid, power=power), in_axes=1
        )(histograms)
        return moved(weighted_mean(values, shares), change).astype(dtype), bins.astype(bins_dtype)


def _histograms(rows: ArrayLike, weights: ArrayLike) -> tuple[Array, Array, Array]:
    """`(shares, rows, rows less their minima)` in float64, zeros where absent."""
    shares = normalized(jnp.asarray(weights).astype(jnp.float64))
    values = jnp.where(shares[:, None, None] > 0, jnp.asarray(rows).astype(jnp.float64), 0)
    return shares, values, values - jnp.min(values, axis=2, keepdims=True)


def _fuse_shapes(
    rows: ArrayLike, weights: ArrayLike, scale: Scale, solve: Callable[[Array, Array], tuple[Array, Array, Array]]
) -> FusedRows:
    """Algorithm 1 around a solver `(shapes [C, R, n], voices [C, R]) -> (B [R, n], converged, marginal error)`."""
    dtype, bins_dtype = jnp.result_type(rows), jnp.result_type(float)
    with jax.enable_x64(True):
        shares, values, histograms = _histograms(rows, weights)
        mass = jnp.sum(histograms, axis=2)
        shapes, voices = shapes_and_voices(histograms, shares[:, None] * (mass if scale == "mass" else 1 + 0 * mass))
        shaped = jnp.any(voices != 0, axis=0)
        shape, converged, error = solve(shapes, voices)
        mean_mass = jnp.sum(shares[:, None] * mass, axis=0)[:, None]
        change = fold_clients(lambda k, sum_: sum_ - shares[k] * histograms[k], mean_mass * shape, shares.shape[0])
        bins = jax.vmap(quantile_spread, in_axes=1)(histograms, voices)
        fused = moved(weighted_mean(values, shares), jnp.where(shaped[:, None], change, 0))
        report = (jnp.where(shaped, part, rest) for part, rest in ((converged, 1), (error, 0)))
        return FusedRows(fused.astype(dtype), *(part.astype(bins_dtype) for part in (bins, *report)))


@partial(jax.jit, static_argnames=("scale", "regularization", "iterations"))
def fuse_rows_entropic(
    rows: ArrayLike, weights: ArrayLike, *, scale: Scale = "mass", regularization: float = 0.1, iterations: int = 100
) -> FusedRows:
    """Rows fused by entropic barycenters of their histograms, see `entropic_barycenter_1d`.

    Rows that agree do not come back but blurred, unless they are constant.

    Args:
      rows: `[C, R, n]`, as for `fuse_rows`. One NaN of a client that came makes its row NaN.
      weights: `[C]`, any scale; 0 is absent.
      scale: See `fuse_rows`.
      regularization: In positions squared, above 0.
      iterations: At least 1.

    Returns:
      `FusedRows`; a row in which all are constant is converged without error.

    Example:
      >>> agents = jnp.array([[[0.0, 1.0, 0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0, 1.0, 0.0]]])
      >>> fused = fuse_rows_entropic(agents, [1.0, 1.0], regularization=0.5)
      >>> fused.rows.round(2).tolist(), fused.converged.tolist(), fused.bins.tolist()
      ([[0.0, 0.10999999940395355, 0.7899999618530273, 0.10999999940395355, 0.0]], [1.0], [2.0])
    """
    return _fuse_shapes(
        rows, weights, scale, partial(entropic_shape, regularization=regularization, iterations=iterations)
    )


@partial(jax.jit, static_argnames=("scale",))
def fuse_rows_geometric(rows: ArrayLike, weights: ArrayLike, *, scale: Scale = "mass") -> FusedRows:
    """Rows fused by the geometric mean of their histograms, see `geometric_mean`. Rows that agree come back.

    Args:
      rows: `[C, R, n]`, as for `fuse_rows`.
      weights: `[C]`, any scale; 0 is absent.
      scale: See `fuse_rows`.

    Returns:
      `FusedRows`, converged without error: it is a closed form.

    Example:
      >>> agents = jnp.array([[[0.0, 1.0, 4.0]], [[0.0, 4.0, 4.0]]])
      >>> fuse_rows_geometric(agents, [1.0, 1.0], scale="paper").rows.round(3).tolist()
      [[0.0, 2.1670000553131104, 4.333000183105469]]
    """

    def solve(shapes: Array, voices: Array) -> tuple[Array, Array, Array]:
        shape = geometric_shape(shapes, voices)
        none = jnp.zeros_like(shape[:, 0])
        return shape, 1 + none, none

    fused = _fuse_shapes(rows, weights, scale, solve)
    came = jnp.asarray(weights) > 0
    first = jnp.asarray(rows)[jnp.min(jnp.where(came, jnp.arange(came.shape[0]), came.shape[0] - 1))]
    agree = jnp.all((jnp.asarray(rows) == first) | ~came[:, None, None], axis=(0, 2))
    return fused._replace(rows=jnp.where(agree[:, None] & jnp.any(came), first, fused.rows))
