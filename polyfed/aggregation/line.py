"""The exact Wasserstein barycenter of histograms on a line, in closed form (Agueh & Carlier 2011, sec. 6.1).

Pool the values of all cumulative histograms, sort them, and cut the pool into blocks of total weight 1: the means of
the blocks are the cumulative barycenter. All arithmetic is float64, also inside a program of float32: in float32 the
cumulative sums of a large layer lose the weights themselves.

References: agueh2011barycenters.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int

from polyfed.aggregation.fold import fold_clients
from polyfed.aggregation.mean import moved, normalized, weighted_mean

Grid = Literal["split", "nearest"]
Scale = Literal["mass", "paper"]

LEVEL_TOLERANCE = 1e-12  # of a histogram's mass; what is smaller does not count as displaced


def _levels(cumulative: Array, weights: Array) -> Array:
    """Cumulative histograms `[K, n - 1]` of mass 1, without their last value; 1 where the weight is 0."""
    total = jnp.where(weights > 0, cumulative[:, -1], 1)
    return jnp.where(weights[:, None] > 0, jnp.minimum(cumulative[:, :-1] / total[:, None], 1), 1.0)


def _whole_shares(weights: Array, num_bins: int) -> Int[Array, " K"]:
    """Weights as integers in the same proportion, so that the borders of the blocks are exact.

    The largest becomes `2^bits`, at most 52 and as many as keep `K * n` of them within 61 bits (42 at `K n = 5e5`);
    no positive weight becomes 0.
    """
    bits = min(52, 61 - (weights.shape[0] * num_bins).bit_length())
    largest = jnp.max(weights)
    whole = jnp.round(weights / jnp.where(largest > 0, largest, 1) * 2.0**bits).astype(jnp.int64)
    return jnp.where(weights > 0, jnp.maximum(whole, 1), 0)


def _sorted_events(levels: Array, shares: Array) -> tuple[Array, Array, Array]:
    """All levels `[K, m]` in ascending order: `(level, share, cumulative share)`, each `[K m]`.

    A level and the number of its client are packed into one integer, which sorts four times faster than a pair and
    keeps a level to `2^-62 K`.
    """
    tag_bits = max(1, (levels.shape[0] - 1).bit_length())
    unit = 2.0 ** (62 - tag_bits)
    tags = jnp.arange(levels.shape[0], dtype=jnp.int64)[:, None]
    keys = (((levels * unit).astype(jnp.int64) << tag_bits) | tags).T.reshape(-1)  # bin by bin: almost sorted already
    keys = lax.sort(keys, is_stable=False)
    share = shares[keys & (2**tag_bits - 1)]
    return (keys >> tag_bits).astype(jnp.float64) / unit, share, jnp.cumsum(share)


def _block_means(levels: Array, shares: Array, total: Array) -> Array:
    """Weighted mean of each block of the pooled levels, `[n - 1]`; block i has the share `i total .. (i+1) total`.

    Summed in whole units of `2^-60`, so the result is the same in whatever order a device adds.
    """
    num_blocks = levels.shape[1]
    level, share, until = _sorted_events(levels, shares)
    since = until - share
    block = jnp.minimum(lax.div(since, jnp.broadcast_to(total, since.shape)), num_blocks - 1)
    here = jnp.minimum(share, (block + 1) * total - since)  # the rest falls into the next block

    def block_sums(part: Array, block: Array) -> Array:
        units = jnp.round(part.astype(jnp.float64) / total * level * 2.0**60).astype(jnp.int64)
        return jax.ops.segment_sum(units, block, num_blocks, indices_are_sorted=True)

    units = block_sums(here, block) + block_sums(share - here, jnp.minimum(block + 1, num_blocks - 1))
    return units.astype(jnp.float64) / 2.0**60


def _block_medians(levels: Array, shares: Array, total: Array) -> Array:
    """Weighted median of each block of the pooled levels, `[n - 1]`; the midpoint where two levels are as good."""
    level, _, until = _sorted_events(levels, shares)
    halves = (2 * jnp.arange(levels.shape[1]) + 1) * total
    first, second = (jnp.searchsorted(2 * until, halves, side=side) for side in ("left", "right"))
    return (level[jnp.minimum(first, level.shape[0] - 1)] + level[jnp.minimum(second, level.shape[0] - 1)]) / 2


def _envelope(levels: Array, weights: Array) -> tuple[Array, Array]:
    """Smallest and largest level of each bin among the clients of positive weight, `[n - 1]` each."""
    low = fold_clients(lambda k, low: jnp.minimum(low, levels[k]), levels[0], levels.shape[0])  # absent: 1, no matter
    high = fold_clients(
        lambda k, high: jnp.maximum(high, jnp.where(weights[k] > 0, levels[k], 0)), jnp.zeros_like(low), levels.shape[0]
    )
    return low, high


def _moved_mass(levels: Array, weights: Array, grid: Grid, power: int) -> Array:
    """What the barycenter of histograms of mass 1 holds in each bin beyond their weighted mean, `[n]`, sum 0."""
    shares = _whole_shares(weights, levels.shape[1] + 1)
    total = jnp.maximum(jnp.sum(shares), 1)
    low, high = _envelope(levels, shares)
    fractions = shares / total
    mean = fold_clients(lambda k, sum_: sum_ + fractions[k] * (levels[k] - low), low, levels.shape[0])
    if power == 1:
        medians = jax.vmap(lambda column: _block_medians(column[:, None], shares, total)[0], in_axes=1)(levels)
        beyond, same = medians - mean, low == high
    else:
        cut = jnp.concatenate([jnp.ones(1, bool), high[:-1] <= low[1:], jnp.ones(1, bool)])
        same = cut[:-1] & cut[1:]  # no event of another bin between the clients' levels of this bin
        if grid == "nearest":
            beyond, same = _block_medians(levels, shares, total) - mean, same & (low == high)
        else:
            beyond = _block_means(levels, shares, total) - mean
    consensus = jnp.all(low == high)  # said again: a parallel cumulative sum of equal rows may fall by a last bit
    beyond = jnp.where(same | consensus | ~jnp.any(shares > 0), 0, beyond)
    return jnp.diff(beyond, prepend=0.0, append=0.0)


def _quantile_spread(levels: Array, weights: Array) -> Array:
    """`max_t max_k Q_k(t) - min_k Q_k(t)` in bins, over the clients of positive weight; 0 when there is none."""
    low, high = _envelope(levels, weights)
    after = jnp.concatenate([jnp.zeros(1), low]) + LEVEL_TOLERANCE  # the largest quantile grows just after these levels
    largest, smallest = jax.vmap(lambda bins: jnp.searchsorted(bins, after, side="right"))(jnp.stack([low, high]))
    return jnp.where(jnp.any(weights > 0), jnp.max(largest - smallest), 0)


def barycenter_change(
    histograms: Float[Array, "K n"], shares: Float[Array, " K"], *, scale: Scale, grid: Grid, power: int
) -> tuple[Array, Array]:
    """What the rescaled barycenter holds beyond the weighted mean, and how far it moved mass.

    With `S_k` the mass of histogram k and `p_k = h_k / S_k` its shape, the rescaled barycenter is `S B(p; mu)` with
    `S = sum_k lambda_k S_k`. Scale "paper" takes `mu = lambda` (Pereira & Amini 2025, algorithm 1), "mass" takes
    `mu_k = lambda_k S_k / S`, whereby it equals `sum_k lambda_k h_k` as long as no mass moves by more than a bin. A
    histogram without mass has no shape, hence no say in `B`; it still counts in `S`.

    Args:
      histograms: `[K, n]` float64, not negative, finite also where absent.
      shares: `[K]` float64, `lambda`, summing to 1 or all 0; 0 is absent.
      scale: "mass" or "paper".
      grid: See `barycenter_1d`.
      power: See `barycenter_1d`.

    Returns:
      `(change, bins)`: `[n]`, exactly 0 where nothing crosses under scale "mass" and where all agree; and the
      displacement, a scalar. To be called, as everything private in this file, with 64-bit types enabled.
    """
    cumulative = jnp.cumsum(histograms, axis=1)
    mass = cumulative[:, -1]
    mean_mass = weighted_mean(mass, shares)
    shaped = mass > 0
    voice = jnp.where(shaped, shares * mass, 0) if scale == "mass" else jnp.where(shaped, shares, 0)
    levels = _levels(cumulative, voice)
    if histograms.shape[1] == 1:
        change, bins = jnp.zeros(1), jnp.zeros((), jnp.int64)
    else:
        change, bins = mean_mass * _moved_mass(levels, voice, grid, power), _quantile_spread(levels, voice)
    if scale == "paper":
        mute = jnp.sum(jnp.where(shaped, 0, shares))
        heard = voice / jnp.where(mute < 1, 1 - mute, 1)
        stretch = heard * (mean_mass / jnp.where(shaped, mass, 1) - 1) + (heard - shares)
        stretch = jnp.where(shaped, stretch, 0)
        change = fold_clients(lambda k, sum_: sum_ + stretch[k] * histograms[k], change, mass.shape[0])
    return change, bins


def quantile_spread(histograms: Array, weights: Array) -> Array:
    """`displacement` of float64 histograms, finite also where absent, with 64-bit types enabled."""
    cumulative = jnp.cumsum(histograms, axis=1)
    voice = jnp.where(cumulative[:, -1] > 0, weights, 0)
    return _quantile_spread(_levels(cumulative, voice), voice)


@partial(jax.jit, static_argnames=("grid", "power"))
def barycenter_1d(
    histograms: ArrayLike, weights: ArrayLike, *, grid: Grid = "split", power: int = 2
) -> Float[Array, " n"]:
    """The Wasserstein barycenter of histograms on the grid `0 .. n - 1`, exact, in `O(K n log(K n))`.

        argmin_b sum_k lambda_k W_p^p(h_k, b)       (Agueh & Carlier 2011, eq. 2.2)

    With `F_k` the cumulative histograms and all `K (n - 1)` values `F_k(i)`, each of weight `lambda_k`, in one sorted
    pool cut into blocks of weight 1, the cumulative barycenter at bin i is

    - power 2, grid "split": the mean of block i. This is the barycenter of the real line, its mass shared between the
      two neighbouring bins so that the mean stays; it depends continuously on the histograms.
    - power 2, grid "nearest": the median of block i. This is the barycenter among measures on the grid, the optimum of
      the linear program; it jumps when mass changes bin.
    - power 1: the median of the K values at bin i, whatever the grid.

    Args:
      histograms: `[K, n]`, not negative. Of any mass: the result has the weighted mean of the masses. One without any
        mass has no say in the shape. What an absent client holds is ignored, NaN included; a NaN of a client that came
        makes the result NaN.
      weights: `[K]`, any scale; 0 is absent.
      grid: "split" or "nearest".
      power: 2 or 1.

    Returns:
      `[n]` in the dtype of the histograms (computed in float64); zeros when nobody came. Equal histograms come back
      bit for bit.

    Example:
      >>> barycenter_1d([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], [1.0, 1.0]).tolist()
      [0.0, 1.0, 0.0, 0.0]
      >>> barycenter_1d([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]], [1.0, 1.0]).tolist()
      [0.0, 0.5, 0.5, 0.0]
    """
    dtype = jnp.asarray(histograms).dtype
    dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
    with jax.enable_x64(True):
        shares = normalized(jnp.asarray(weights).astype(jnp.float64))
        values = jnp.where(shares[:, None] > 0, jnp.asarray(histograms).astype(jnp.float64), 0)
        change, _ = barycenter_change(values, shares, scale="paper", grid=grid, power=power)
        return jnp.maximum(moved(weighted_mean(values, shares), change), 0).astype(dtype)


@jax.jit
def displacement(histograms: ArrayLike, weights: ArrayLike) -> Float[Array, ""]:
    """How far the histograms of the clients that came lie apart: the largest spread of their quantiles, in bins.

        max_t (max_k Q_k(t) - min_k Q_k(t))

    At most 1 means that no mass crosses a bin, and the barycenter (power 2, "split") is the weighted mean. Differences
    of less than `1e-12` of the mass do not count.

    Args:
      histograms: `[K, n]`, not negative, of any mass; one without mass is not compared.
      weights: `[K]`; 0 is absent.

    Returns:
      A scalar, a whole number of bins, 0 when fewer than two came.

    Example:
      >>> float(displacement([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]], [1.0, 1.0]))
      3.0
    """
    dtype = jnp.result_type(float)
    with jax.enable_x64(True):
        shares = normalized(jnp.asarray(weights).astype(jnp.float64))
        values = jnp.where(shares[:, None] > 0, jnp.asarray(histograms).astype(jnp.float64), 0)
        return quantile_spread(values, shares).astype(dtype)
