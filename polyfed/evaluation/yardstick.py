"""What could have been reached in the very episodes of an evaluation: their optimum, and the returns of known rules."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from polyfed.environments.world import Params, World

PATIENCE = 5.0  # s of work of which nobody need be told

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Yardstick:
    """The optimum and known rules, means over the evaluation episodes.

    Axes: `F` fleets, one, or one per seed where every seed has a fleet of its own; `M` environments, clients first.

    Attributes:
      floor: The rule that is 0 per cent.
      optimum: `[F, M]`, the highest return that any policy can have, also one that knows the future.
      baselines: Returns `[F, M]` of known rules by name, `floor` among them.
    """

    floor: str
    optimum: np.ndarray
    baselines: dict[str, np.ndarray]

    def per_cent(self, returns: np.ndarray) -> np.ndarray:
        """`100 (R - R_floor) / (R_optimum - R_floor)`, where `R` are means over episodes, hence ratios of their sums.

        Args:
          returns: `[..., S, M]`, or `[..., F, M]`.

        Returns:
          The same shape; NaN where the optimum is no better than the floor, for there is nothing to gain.

        >>> floor, optimum = np.array([[-20.0, -5.0]]), np.array([[-10.0, -5.0]])
        >>> Yardstick("nothing", optimum, {"nothing": floor}).per_cent(np.array([[-13.0, -5.0], [-25.0, -5.0]]))
        array([[ 70.,  nan],
               [-50.,  nan]])
        """
        nothing = self.baselines[self.floor]
        room = self.optimum - nothing
        room = np.where(room > 1e-6 * np.maximum(1.0, np.abs(self.optimum)), room, np.nan)
        return 100 * (np.asarray(returns, float) - nothing) / room

    def rules(self) -> dict[str, np.ndarray]:
        """Per cent `[F, M]` of every known rule but the floor.

        >>> nothing, all_of_it = np.array([[0.0]]), np.array([[8.0]])
        >>> Yardstick("nothing", all_of_it, {"nothing": nothing, "LRU": np.array([[4.0]])}).rules()
        {'LRU': array([[50.]])}
        """
        return {name: self.per_cent(row) for name, row in self.baselines.items() if name != self.floor}


def yardstick(environment: World, fleets: Sequence[Params], keys: PRNGKeyArray, say: Say | None = None) -> Yardstick:
    """Ask a family for the optimum and the known rules of its evaluation episodes; worlds that recur are asked once.

    Args:
      environment: A family with a `floor`.
      fleets: The `F` fleets in which policies are judged, leaves `[M]`.
      keys: `[K]`, of whose resets the episodes start, see `episode_keys`.
      say: Told in a sentence how long it takes, where it takes long.

    Raises:
      ValueError: The family knows no optimum.

    >>> from polyfed.environments import Battery
    >>> from polyfed.environments.episodes import episode_keys
    >>> worlds = jax.tree.map(lambda x: x[None], Battery(max_steps=24).nominal())
    >>> found = yardstick(Battery(max_steps=24), [worlds], episode_keys(jax.random.key(1), 2))
    >>> bool(0 < found.rules()["self-consumption"][0, 0] < 100)
    True
    """
    rows = [[_nth(worlds, m) for m in range(len(jax.tree.leaves(worlds)[0]))] for worlds in fleets]
    worlds = {_values(world): world for row in rows for world in row}
    total, known, done = len(worlds) * len(keys), {}, 0
    for values, world in worlds.items():
        optima, baselines = [], []
        for key in keys:
            began = time.monotonic()
            optima.append(environment.optimum(world, key))
            baselines.append(environment.baselines(world, key))
            done, left = done + 1, (total - done - 1) * (time.monotonic() - began)
            if done == 2 and left > PATIENCE and say is not None:  # the first also compiled
                say(f"Looking for the optimum of {total} evaluation episodes, once for all arms: about {left:.0f} s.")
        known[values] = np.mean(optima), {name: np.mean([b[name] for b in baselines]) for name in baselines[0]}
    found = [[known[_values(world)] for world in row] for row in rows]
    names = found[0][0][1]
    return Yardstick(
        environment.floor,
        np.array([[optimum for optimum, _ in row] for row in found]),
        {name: np.array([[rules[name] for _, rules in row] for row in found]) for name in names},
    )


def _nth(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], tree)


def _values(world: Params) -> tuple[float, ...]:
    return tuple(float(x) for x in jax.tree.leaves(world))
