"""FedWB: layers fused as Wasserstein barycenters (Pereira & Amini 2025, algorithm 1), in every reading.

The paper names neither solver nor support nor cost. Each sensible reading is a field here: `rows` and `values` fuse,
this file says which, and what is done where fusing moves weights too far.

References: pereira2025fedwb, agueh2011barycenters.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from polyfed.aggregation.line import Grid, Scale
from polyfed.aggregation.mean import weighted_mean
from polyfed.aggregation.nonfinite import OnNonfinite, heard
from polyfed.aggregation.rows import fuse_rows, fuse_rows_entropic, fuse_rows_geometric
from polyfed.aggregation.rule import AggregationRule
from polyfed.aggregation.values import fuse_values
from polyfed.errors import DivergedError
from polyfed.types import Metrics, Payload, Update

Granularity = Literal["row", "layer"]
Support = Literal["position", "value"]
Solver = Literal["exact", "entropic", "geometric"]
Bias = Literal["mean", "barycenter"]
OnDisplacement = Literal["warn", "mean", "ignore"]

__all__ = ["WassersteinBarycenter", "fuse_rows"]


class WassersteinBarycenter(AggregationRule):
    """FedWB: every parameter becomes the Wasserstein barycenter of the clients' (Pereira & Amini 2025, algorithm 1).

    A parameter `[out, in, ...]` is read output by output ("C" order). Over positions, fusing moves weights between
    neighbours; how far is measured for every parameter at every merge, in positions. At most 1: the fused parameter is
    the mean (exact, scale "mass"). 2 is common even among agents that barely differ, as the position of the smallest
    weight is empty and mass has to jump over it. Far above that (whole layers, agents that drifted apart) the fused
    network no longer computes what any agent computed.

    `max_displacement` is 3 because up to there a fused row or layer is the mean but for details, and above not: over
    5,400 rows and layers of 16 to 100,352 random weights (2 and 10 agents, differences from 0.3 to 80 %, independent or
    along stretches) the median correlation with the mean was 1.00 at 2, 0.97 at 3, 0.87 at 4, 0.75 at 5 and 6, 0.5 at
    9 to 12, nearly alike for all lengths. In networks 64-64-64-10 that learned digits, merges with all parameters at 3
    or less lost at most 0.04 of the mean's accuracy, others up to 0.28.

    Solvers of the barycenter over positions: "exact" is the closed form (`barycenter_1d`), "entropic" so many Sinkhorn
    iterations (`entropic_barycenter_1d`), "geometric" the normalised geometric mean (`geometric_mean`), to which an
    entropic solver that stops early is close. Equal agents come back bit for bit from all but the entropic one, which
    blurs them by `sqrt(regularization / 2)` positions. Values have one solver, `fuse_values`; scale, grid, power and
    displacement do not concern them.

    Metrics, scalars, `<path>` the name of a parameter:

    - `displacement/<path>`: largest over its rows, in positions. Not for values.
    - `scrambled/<path>`: 1 where that is above `max_displacement`, else 0. Not if `on_displacement` is "ignore".
    - `converged/<path>`, `marginal_error/<path>`: of the entropic solver, its worst row's.
    - `nonfinite`: clients that came with a number that is not finite, see `heard`. If all did, the result is NaN.

    Biases are the leaves of at most one axis per client. Averaged whatever the fields say, see `weighted_mean`, and
    without a metric: integers and booleans (rounded), and rows of a single weight.

    The default is `safe()`. The method as published, in all likelihood, is `paper()`.

    Example:
      >>> payload = {"weight": jnp.array([[[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]]), "bias": jnp.array([[0.0], [1.0]])}
      >>> merged, _, metrics = WassersteinBarycenter().aggregate((), Update(payload=payload, weight=jnp.ones(2)))
      >>> merged["weight"].tolist(), merged["bias"].tolist(), float(metrics["displacement/weight"])
      ([[0.0, 0.5, 0.5]], [0.5], 1.0)
    """

    granularity: Granularity = eqx.field(default="row", static=True)  # one histogram per output unit, or per parameter
    support: Support = eqx.field(default="position", static=True)  # mass lies over positions, or over values
    solver: Solver = eqx.field(default="exact", static=True)  # of the barycenter over positions
    scale: Scale = eqx.field(default="mass", static=True)  # a client's say in the shape: by its mass, or as weighted
    grid: Grid = eqx.field(default="split", static=True)  # exact: mass between two positions shared, or to the nearest
    bias: Bias = eqx.field(default="mean", static=True)  # biases averaged, or fused as one histogram
    power: int = eqx.field(default=2, static=True)  # exact: of the transport distance, 2 or 1
    regularization: float = eqx.field(default=0.1, static=True)  # entropic: positions squared
    iterations: int = eqx.field(default=100, static=True)  # entropic
    max_displacement: float = 3.0  # positions; see on_displacement
    on_displacement: OnDisplacement = eqx.field(default="warn", static=True)  # a metric, the weighted mean, or nothing
    on_nonfinite: OnNonfinite = eqx.field(default="raise", static=True)  # a client with NaN or inf: an error, or absent

    @classmethod
    def safe(cls) -> WassersteinBarycenter:
        """Output unit by output unit, mass-weighted, biases averaged: equals the weighted mean while agents are close.

        Example:
          >>> WassersteinBarycenter.safe() == WassersteinBarycenter()
          True
        """
        return cls()

    @classmethod
    def paper(cls) -> WassersteinBarycenter:
        """The published algorithm as its authors probably ran it: an entropic solver stopped long before it converges.

        Whole layers, paper scale, biases fused too, 100 iterations at a regularization of 0.1 in raw positions (ours:
        the paper gives none). *An unconverged iterate*, near the geometric mean of the layers, scaled to mass 1; solved
        to the end it would be near `lp()`. The paper weights agents equally; give equal weights for that.

        Example:
          >>> WassersteinBarycenter.paper().solver
          'entropic'
        """
        return cls(granularity="layer", solver="entropic", scale="paper", bias="barycenter")

    @classmethod
    def paper_exact(cls) -> WassersteinBarycenter:
        """The published algorithm with its barycenter solved exactly: whole layers, paper scale, biases fused too.

        Mass moves across the whole flattened layer, which scrambles networks that drifted apart.

        Example:
          >>> WassersteinBarycenter.paper_exact().granularity
          'layer'
        """
        return cls(granularity="layer", scale="paper", bias="barycenter")

    @classmethod
    def lp(cls) -> WassersteinBarycenter:
        """As `paper_exact`, all mass on the positions: the optimum of the linear program.

        Example:
          >>> WassersteinBarycenter.lp().grid
          'nearest'
        """
        return cls(granularity="layer", scale="paper", grid="nearest", bias="barycenter")

    @classmethod
    def values(cls) -> WassersteinBarycenter:
        """Output unit by output unit over the values of the weights, biases averaged, see `fuse_values`.

        Example:
          >>> WassersteinBarycenter.values().support
          'value'
        """
        return cls(support="value")

    @classmethod
    def geometric(cls) -> WassersteinBarycenter:
        """Whole layers, paper scale, by the geometric mean of their histograms, biases averaged.

        Example:
          >>> WassersteinBarycenter.geometric().solver
          'geometric'
        """
        return cls(granularity="layer", solver="geometric", scale="paper")

    def check(self) -> None:
        """Raises `ValueError` where a field is none of its allowed values, or where two contradict each other."""
        kinds = {"granularity": Granularity, "support": Support, "solver": Solver, "scale": Scale, "grid": Grid}
        kinds |= {"bias": Bias, "on_displacement": OnDisplacement, "on_nonfinite": OnNonfinite}
        for name, values in {**{name: get_args(kind) for name, kind in kinds.items()}, "power": (2, 1)}.items():
            if (given := getattr(self, name)) not in values:
                choices = " or ".join(repr(value) for value in values)
                raise ValueError(f"WassersteinBarycenter has no {name} {given!r}, so it cannot fuse. Use {choices}.")
        if self.solver != "exact" and (self.support, self.power) != ("position", 2):
            raise ValueError(
                f'The {self.solver} solver knows support="position" and power=2 only, not {self.support!r} and '
                f'{self.power}. Use solver="exact".'
            )
        ranges = {
            "regularization": (0 < self.regularization < math.inf, "positions squared above 0"),
            "iterations": (self.iterations >= 1, "a whole number from 1"),
            "max_displacement": (self.max_displacement >= 0, "positions from 0"),
        }
        for name, (good, wanted) in ranges.items():
            if not good:
                raise ValueError(f"WassersteinBarycenter cannot use {name} {getattr(self, name)!r}. Give {wanted}.")

    def _rows(self, leaf: Array) -> Array | None:
        """A leaf `[C, ...]` as the rows `[C, R, n]` in which it is fused; None where it is averaged."""
        is_bias = leaf.ndim < 3
        if not jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.size == 0 or (is_bias and self.bias == "mean"):
            return None
        num_rows = 1 if is_bias or self.granularity == "layer" else leaf.shape[1]
        rows = leaf.reshape(leaf.shape[0], num_rows, -1)
        return rows if rows.shape[2] > 1 else None  # in a row of one weight nothing can move

    def _fuse(self, rows: Array, weights: Array) -> tuple[Array, Metrics]:
        """`([R, n], metrics by kind [R])`."""
        if self.support == "value":
            return fuse_values(rows, weights), {}
        if self.solver == "exact":
            fused, bins = fuse_rows(rows, weights, scale=self.scale, grid=self.grid, power=self.power)
            return fused, {"displacement": bins}
        if self.solver == "geometric":
            found = fuse_rows_geometric(rows, weights, scale=self.scale)
            return found.rows, {"displacement": found.bins}
        strength, iterations = self.regularization, self.iterations
        found = fuse_rows_entropic(rows, weights, scale=self.scale, regularization=strength, iterations=iterations)
        report = {"converged": found.converged, "marginal_error": found.marginal_error}
        return found.rows, {"displacement": found.bins, **report}

    def _judge(self, fused: Array, leaf: Array, weights: Array, report: Metrics) -> tuple[Array, Metrics]:
        """One parameter and its metrics, having acted on its displacement."""
        metrics = {kind: jnp.min(rows) if kind == "converged" else jnp.max(rows) for kind, rows in report.items()}
        if "displacement" not in metrics or self.on_displacement == "ignore":
            return fused, metrics
        scrambled = metrics["displacement"] > self.max_displacement
        if self.on_displacement == "mean":
            fused = jnp.where(scrambled, weighted_mean(leaf, weights), fused)
        return fused, {**metrics, "scrambled": scrambled.astype(metrics["displacement"].dtype)}

    def refuse(self, metrics: dict[str, np.ndarray]) -> None:
        """Raises `DivergedError` where a client came with a number that is not finite and must not be left out."""
        broken = np.nan_to_num(metrics.get("nonfinite", np.zeros(())))
        if self.on_nonfinite == "raise" and broken.any():
            first, most = np.argwhere(broken)[0][0] + 1, int(broken.max())
            raise DivergedError(
                f"In round {first} of this block {most} of the clients sent weights that are not finite, so they "
                "cannot be fused: lower the learning rate, or leave such clients out with --rule.on-nonfinite drop. "
                "What was run before is kept."
            )

    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        """`(fused, state, metrics)`; see `fuse_rows`, `fuse_rows_entropic`, `fuse_rows_geometric`, `fuse_values`."""
        leaves, structure = jax.tree_util.tree_flatten_with_path(update.payload)
        weight, nonfinite = heard(update, self.on_nonfinite)
        merged: list[Any] = [None] * len(leaves)
        alike: dict[Any, list[int]] = defaultdict(list)
        rows: dict[int, Array] = {}
        for index, (_, leaf) in enumerate(leaves):
            if (block := self._rows(jnp.asarray(leaf))) is None:
                merged[index] = weighted_mean(leaf, weight)
            else:
                rows[index] = block
                alike[block.shape[2], block.dtype].append(index)
        metrics: Metrics = {"nonfinite": nonfinite}
        for group in alike.values():  # rows of one length and type in one call: one compilation, one sort
            stacked = jnp.concatenate([rows[index] for index in group], axis=1)
            fused, report = self._fuse(stacked, weight)
            begin = 0
            for index in group:
                part = slice(begin, begin := begin + rows[index].shape[1])
                path, leaf = leaves[index]
                its_report = {kind: values[part] for kind, values in report.items()}
                whole = fused[part].reshape(leaf.shape[1:])
                merged[index], found = self._judge(whole, leaf, weight, its_report)
                name = jax.tree_util.keystr(path, simple=True, separator=".")
                metrics.update({f"{kind}/{name}" if name else kind: value for kind, value in found.items()})
        return jax.tree.unflatten(structure, merged), state, metrics
