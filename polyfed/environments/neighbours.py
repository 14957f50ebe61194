"""How far the agents' transitions differ, and neighbour sets that cannot be learned from (Hwang and Hong 2025).

References: hwang2025fedrq, jin2022qavg.
"""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


def heterogeneity(
    transitions: Float[Array, "K S A S *N"], centre: Float[Array, "S A S *N"] | None = None
) -> Float[Array, "S A *N"]:
    """`kappa(s, a)`: the smallest `omega` for which every `P_k(.|s, a)` lies in the covering set around the centre.

    `P_k = (1 - omega) * P + omega * q` has a distribution `q` if and only if `P_k >= (1 - omega) * P` everywhere, so
    `kappa = max_k max_{x: P(x) > 0} (1 - P_k(x) / P(x))`: 0 if all agree, 1 if some agent never sees a successor of
    the centre. This definition is ours; for `P_k = (1 - kappa) * P_0 + kappa * U_k` with disjoint supports (Jin et al.
    2022, released code) it gives that `kappa` around `P_0`.

    Args:
      transitions: Of every agent.
      centre: `P`; None: their mean.

    >>> heterogeneity(jnp.array([[[[0.25, 0.75]]], [[[0.75, 0.25]]]])).tolist()
    [[0.5]]
    """
    centre = jnp.mean(transitions, axis=0) if centre is None else centre
    share = jnp.where(centre > 0, transitions / jnp.where(centre > 0, centre, 1), 1)
    return jnp.max(1 - share, axis=(0, 3)).clip(0)


def reachable(
    neighbours: Bool[Array | np.ndarray, "S S"], start: Float[Array | np.ndarray, " S"]
) -> Bool[np.ndarray, " S"]:
    """Which states can be reached from where episodes start.

    >>> reachable(np.array([[False, True, False]] + [[False, True, False]] * 2), np.array([1.0, 0.0, 0.0])).tolist()
    [True, True, False]
    """
    leads, reached = np.asarray(neighbours), np.asarray(start) > 0
    for _ in range(len(reached)):
        reached = reached | np.any(leads & reached[:, None], axis=0)
    return reached


def check_neighbours(neighbours: Bool[Array | np.ndarray, "S S"], start: Float[Array | np.ndarray, " S"]) -> None:
    """Raise `ValueError` for sets with which learning from experience cannot find the robust values.

    >>> check_neighbours(np.eye(2, dtype=bool), np.ones(2) / 2)
    Traceback (most recent call last):
    ValueError: State 0 is absorbing: its neighbour set holds nothing but itself, so no episode comes back from it; \
end the episode there, or add a way out.
    """
    leads, states = np.asarray(neighbours), np.arange(np.shape(neighbours)[0])
    for state in states[~np.any(leads, axis=1)]:
        raise ValueError(
            f"State {state} has an empty neighbour set: no successor of it is known, so its worst case cannot be; "
            "explore until every state was left once, or use known sets."
        )
    for state in states[np.all(leads == np.eye(len(states), dtype=bool), axis=1)]:
        raise ValueError(
            f"State {state} is absorbing: its neighbour set holds nothing but itself, so no episode comes back from "
            "it; end the episode there, or add a way out."
        )
    for state in states[~reachable(leads, start)]:
        raise ValueError(
            f"State {state} cannot be reached from where episodes start, so its values are never learned: let episodes "
            "start there, or leave the state out."
        )


def warn_small_omega(omega: float, transitions: Float[Array, "K S A S *N"]) -> None:
    """Warn, with both numbers, where the covering set is smaller than the measured heterogeneity.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_small_omega(0.25, jnp.array([[[[0.25, 0.75]]], [[[0.75, 0.25]]]]))
    >>> print(caught[0].message)
    omega = 0.25 is smaller than the heterogeneity kappa = 0.5 of these agents (its largest over states and actions), \
so some agent's world lies outside the covering set: raise omega to 0.5, or take the worst case as a compromise.
    """
    kappa = float(jnp.max(heterogeneity(transitions)))
    if omega < kappa - 1e-6:
        warnings.warn(
            f"omega = {omega:g} is smaller than the heterogeneity kappa = {kappa:.4g} of these agents (its largest "
            "over states and actions), so some agent's world lies outside the covering set: raise omega to "
            f"{kappa:.4g}, or take the worst case as a compromise.",
            stacklevel=2,
        )
