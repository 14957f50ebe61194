"""FedWB: layers fused as Wasserstein barycenters over the positions of their weights (Pereira & Amini 2025, alg. 1).

The closed form of `polyfed.aggregation.line` stands in for the paper's unnamed solver.

References: pereira2025fedwb, agueh2011barycenters.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from polyfed.aggregation.line import Grid, Scale, barycenter_change
from polyfed.aggregation.mean import moved, normalized, weighted_mean
from polyfed.aggregation.rule import AggregationRule
from polyfed.types import Metrics, Payload, Update

Granularity = Literal["row", "layer"]
Bias = Literal["mean", "barycenter"]


@partial(jax.jit, static_argnames=("scale", "grid", "power"))
def fuse_rows(
    rows: ArrayLike, weights: ArrayLike, *, scale: Scale = "mass", grid: Grid = "split", power: int = 2
) -> tuple[Array, Array]:
    """Each row of a parameter fused as a barycenter over its positions (Pereira & Amini 2025, algorithm 1).

    Client k's row `w_k` minus its minimum `m_k` is a histogram of mass `S_k` over the positions `0 .. n - 1`. With
    `B` the barycenter of the histograms scaled to mass 1,

        fused = S B + sum_k lambda_k m_k,    S = sum_k lambda_k S_k

    computed as the weighted mean plus what the transport changes, so rows that agree come back bit for bit and, under
    scale "mass", rows in which no mass crosses a position come back as their weighted mean. (The paper says to add
    the minimum; that gives negative mass.)

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
        shares = normalized(jnp.asarray(weights).astype(jnp.float64))
        values = jnp.where(shares[:, None, None] > 0, jnp.asarray(rows).astype(jnp.float64), 0)
        histograms = values - jnp.min(values, axis=2, keepdims=True)
        change, bins = jax.vmap(
            lambda row: barycenter_change(row, shares, scale=scale, grid=grid, power=power), in_axes=1
        )(histograms)
        return moved(weighted_mean(values, shares), change).astype(dtype), bins.astype(bins_dtype)


class WassersteinBarycenter(AggregationRule):
    """FedWB: every parameter becomes the Wasserstein barycenter of the clients' (Pereira & Amini 2025, algorithm 1).

    A parameter `[out, in, ...]` is read output by output ("C" order). Fusing moves weights between neighbouring
    positions; how far is reported per parameter as the metric `displacement/<path>`, in positions. At most 1: the fused
    parameter is the mean (scale "mass"). 2 is common even among agents that barely differ, as the position of the
    smallest weight is empty and mass has to jump over it. Far above that (whole layers, agents that drifted apart) the
    fused network no longer computes what any agent computed.

    Biases are the leaves of at most one axis per client. Averaged whatever the fields say, see `weighted_mean`, and
    without a metric: integers and booleans (rounded), and rows of a single weight.

    The default is `safe()`. The method as published is `paper_exact()`.

    Example:
      >>> payload = {"weight": jnp.array([[[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]]), "bias": jnp.array([[0.0], [1.0]])}
      >>> merged, _, metrics = WassersteinBarycenter().aggregate((), Update(payload=payload, weight=jnp.ones(2)))
      >>> merged["weight"].tolist(), merged["bias"].tolist(), float(metrics["displacement/weight"])
      ([[0.0, 0.5, 0.5]], [0.5], 1.0)
    """

    linear: ClassVar[bool] = False

    granularity: Granularity = eqx.field(default="row", static=True)  # one histogram per output unit, or per parameter
    scale: Scale = eqx.field(default="mass", static=True)  # a client's say in the shape: by its mass, or as weighted
    grid: Grid = eqx.field(default="split", static=True)  # mass between two positions: shared, or to the nearest
    bias: Bias = eqx.field(default="mean", static=True)  # biases averaged, or fused as one histogram
    power: int = eqx.field(default=2, static=True)  # of the transport distance: 2 or 1

    @classmethod
    def safe(cls) -> WassersteinBarycenter:
        """Output unit by output unit, mass-weighted, biases averaged: equals the weighted mean while agents are close.

        Example:
          >>> WassersteinBarycenter.safe() == WassersteinBarycenter()
          True
        """
        return cls()

    @classmethod
    def paper_exact(cls) -> WassersteinBarycenter:
        """The published algorithm with its barycenter solved exactly: whole layers, paper scale, biases fused too.

        The paper weights agents equally; give equal weights for that. Mass moves across the whole flattened layer,
        which scrambles networks that drifted apart; what the paper ran was probably an entropic solver that stopped
        early, close to the mean.

        Example:
          >>> WassersteinBarycenter.paper_exact().granularity
          'layer'
        """
        return cls(granularity="layer", scale="paper", bias="barycenter")

    def check(self) -> None:
        """Raises `ValueError` where a field is none of its allowed values."""
        allowed = {"granularity": get_args(Granularity), "scale": get_args(Scale), "grid": get_args(Grid)}
        for name, values in {**allowed, "bias": get_args(Bias), "power": (2, 1)}.items():
            if (given := getattr(self, name)) not in values:
                choices = " or ".join(repr(value) for value in values)
                raise ValueError(f"WassersteinBarycenter has no {name} {given!r}, so it cannot fuse. Use {choices}.")

    def _rows(self, leaf: Array) -> Array | None:
        """A leaf `[C, ...]` as the rows `[C, R, n]` in which it is fused; None where it is averaged."""
        is_bias = leaf.ndim < 3
        if not jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.size == 0 or (is_bias and self.bias == "mean"):
            return None
        num_rows = 1 if is_bias or self.granularity == "layer" else leaf.shape[1]
        rows = leaf.reshape(leaf.shape[0], num_rows, -1)
        return rows if rows.shape[2] > 1 else None  # in a row of one weight nothing can move

    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        """`(fused, state, {"displacement/<path>": positions})`; see `fuse_rows`."""
        leaves, structure = jax.tree_util.tree_flatten_with_path(update.payload)
        merged: list[Any] = [None] * len(leaves)
        alike: dict[Any, list[int]] = defaultdict(list)
        rows: dict[int, Array] = {}
        for index, (_, leaf) in enumerate(leaves):
            if (block := self._rows(jnp.asarray(leaf))) is None:
                merged[index] = weighted_mean(leaf, update.weight)
            else:
                rows[index] = block
                alike[block.shape[2], block.dtype].append(index)
        metrics: Metrics = {}
        for group in alike.values():  # rows of one length and type in one call: one compilation, one sort
            stacked = jnp.concatenate([rows[index] for index in group], axis=1)
            fused, bins = fuse_rows(stacked, update.weight, scale=self.scale, grid=self.grid, power=self.power)
            for index in group:
                path, leaf = leaves[index]
                size = rows[index].shape[1]
                merged[index], fused = fused[:size].reshape(leaf.shape[1:]), fused[size:]
                name = jax.tree_util.keystr(path, simple=True, separator=".")
                metrics[f"displacement/{name}" if name else "displacement"], bins = jnp.max(bins[:size]), bins[size:]
        return jax.tree.unflatten(structure, merged), state, metrics
